//! Dense layers in f32 arithmetic, with weights that stay as small in memory as they are stored: int8 or
//! f16 panels are widened to f32 one at a time while a product runs.
//!
//! A panel is widened once per block of rows, so this costs a few percent of the arithmetic and saves
//! half or three quarters of the memory and of what is read from it.

use super::layer_norm::Norm;
use super::matrix::Matrix;
use super::product::{self, Block, MAX_TILE, Sizes};
use super::scratch::Scratch;
use super::simd::vectorised;
use super::tile::{Kernel, Rows, STEP};
use half::f16;
use half::slice::HalfFloatSliceExt;
use tract_core::internal::*;

/// Weights [outputs, inputs], packed in panels for this processor's kernel.
pub struct Panels {
    kernel: Kernel,
    /// Panel p holds the outputs from p * columns on, inputs outermost.
    elements: Elements,
    /// One per output, padded to whole panels: int8's scales.
    scales: Option<Vec<f32>>,
    outputs: usize,
    inputs: usize,
}

enum Elements {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Int8(Vec<i8>),
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            f,
            "{} x {} in f32 ({})",
            self.outputs, self.inputs, self.kernel.name
        )
    }
}

/// Row-major to panels: element (row, column) goes to panel row / r, place column * r + row % r. Rows
/// that fill up the last panel stay zero.
fn to_panels<T: Copy + Default>(values: &[T], rows: usize, columns: usize, r: usize) -> Vec<T> {
    let mut out = vec![T::default(); rows.div_ceil(r) * r * columns];
    for (panel, lines) in out
        .chunks_exact_mut(r * columns)
        .zip(values.chunks(r * columns))
    {
        // Some columns of all rows at a time: what is written then stays in the nearest cache.
        for first in (0..columns).step_by(16) {
            for (row, line) in lines.chunks_exact(columns).enumerate() {
                for (column, v) in line.iter().enumerate().skip(first).take(16) {
                    panel[column * r + row] = *v;
                }
            }
        }
    }
    out
}

vectorised! {
    fn widen(from: &[i8], to: &mut [f32]) {
        from.iter().zip(to).for_each(|(v, t)| *t = f32::from(*v));
    }
}

/// An f16 number from its bits, without the question which processor this is, which `half` asks each time.
#[inline(always)]
fn widened(bits: u16) -> f32 {
    /// 2^112: what the exponents' biases differ by.
    const REBIAS: f32 = f32::from_bits((112 + 127) << 23);
    let (sign, rest) = (u32::from(bits & 0x8000), u32::from(bits & 0x7fff));
    // Infinities and NaN: the highest exponent of f16 becomes that of f32.
    let top = if rest >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits((f32::from_bits(rest << 13) * REBIAS).to_bits() | top | sign << 16)
}

vectorised! {
    fn widen_halves(from: &[u16], to: &mut [f32]) {
        from.iter().zip(to).for_each(|(v, t)| *t = widened(*v));
    }
}

/// Sums each column's weights times their inputs.
#[inline(always)]
fn weigh<const COLUMNS: usize, T: Copy>(
    x: &[f32],
    panel: &[T],
    sums: &mut [f32],
    widen: impl Fn(T) -> f32,
) {
    let mut acc = [0f32; COLUMNS];
    for (weights, x) in panel.as_chunks::<COLUMNS>().0.iter().zip(x) {
        for (sum, weight) in acc.iter_mut().zip(weights) {
            *sum += x * widen(*weight);
        }
    }
    sums.copy_from_slice(&acc);
}

/// A single row times a panel as wide as `sums`. It takes as long as reading the weights, so they are read
/// once, as they are; a tile would compute the row six times.
macro_rules! row_by_panel {
    ($name:ident, $type:ty, $widen:expr) => {
        vectorised! {
            fn $name(x: &[f32], panel: &[$type], sums: &mut [f32]) {
                // The panels of all kernels are as wide as one of these.
                match sums.len() {
                    64 => weigh::<64, _>(x, panel, sums, $widen),
                    _ => weigh::<STEP, _>(x, panel, sums, $widen),
                }
            }
        }
    };
}
row_by_panel!(row_by_floats, f32, |w| w);
row_by_panel!(row_by_halves, u16, widened);
row_by_panel!(row_by_bytes, i8, f32::from);

vectorised! {
    fn multiply(values: &mut [f32], scales: &[f32]) {
        for row in values.chunks_exact_mut(scales.len()) {
            row.iter_mut().zip(scales).for_each(|(v, s)| *v *= s);
        }
    }
}

impl Panels {
    /// Packs `matrix`.
    ///
    /// # Errors
    /// An empty matrix, or one whose parts do not fit each other.
    pub fn pack(kernel: Kernel, matrix: &Matrix) -> TractResult<Panels> {
        let [outputs, inputs] = matrix.shape();
        ensure!(
            outputs > 0 && inputs > 0,
            "a matrix of {outputs} x {inputs}"
        );
        let columns = kernel.columns();
        let (elements, scales) = match matrix {
            Matrix::F32(t) => (
                Elements::F32(to_panels(super::slice(t)?, outputs, inputs, columns)),
                None,
            ),
            Matrix::F16 { values, .. } => (
                Elements::F16(to_panels(values, outputs, inputs, columns)),
                None,
            ),
            Matrix::Int8 { values, scales, .. } => {
                ensure!(
                    scales.len() == outputs,
                    "{} scales for {outputs} rows",
                    scales.len()
                );
                let mut scales = scales.clone();
                scales.resize(outputs.next_multiple_of(columns), 0.0);
                (
                    Elements::Int8(to_panels(values, outputs, inputs, columns)),
                    Some(scales),
                )
            }
        };
        Ok(Panels {
            kernel,
            elements,
            scales,
            outputs,
            inputs,
        })
    }

    /// Multiplies rows of sums of the panel that begins at `output` with what int8's steps are worth.
    fn scale(&self, output: usize, values: &mut [f32]) {
        if let Some(scales) = &self.scales {
            multiply(values, &scales[output..output + self.kernel.columns()]);
        }
    }
}

impl product::PackedWeights for Panels {
    fn sizes(&self) -> Sizes {
        Sizes {
            inputs: self.inputs,
            outputs: self.outputs,
            tile_rows: self.kernel.rows,
            tile_columns: self.kernel.columns(),
            element: size_of::<f32>(),
        }
    }

    fn block(&self, norm: Option<Norm>, block: &mut Block) -> TractResult<()> {
        let (inputs, columns) = (self.inputs, self.kernel.columns());
        let mut normed = norm.map(|_| Scratch::take(block.x.len()));
        if let (Some(norm), Some(normed)) = (norm, &mut normed) {
            let rows = block
                .x
                .chunks_exact(inputs)
                .zip(normed.chunks_exact_mut(inputs));
            rows.for_each(|(x, normed)| norm.row(x, normed));
        }
        let x = normed.as_deref().unwrap_or(block.x);
        let panel_len = columns * inputs;
        let mut wide = match self.elements {
            Elements::F16(_) | Elements::Int8(_) if !block.single => Some(Scratch::take(panel_len)),
            _ => None,
        };
        let mut values = [0f32; MAX_TILE];
        for column in (0..block.columns).step_by(columns) {
            let output = block.first_column + column;
            let span = output / columns * panel_len..(output / columns + 1) * panel_len;
            if block.single {
                let sums = &mut values[..columns];
                match &self.elements {
                    Elements::F32(panels) => row_by_floats(x, &panels[span], sums),
                    Elements::F16(panels) => {
                        row_by_halves(x, panels[span].reinterpret_cast(), sums)
                    }
                    Elements::Int8(panels) => row_by_bytes(x, &panels[span], sums),
                }
                self.scale(output, sums);
                block.finish(0, column, sums)?;
                continue;
            }
            let panel: &[f32] = match (&self.elements, &mut wide) {
                (Elements::F16(panels), Some(wide)) => {
                    widen_halves(panels[span].reinterpret_cast(), wide);
                    wide
                }
                (Elements::Int8(panels), Some(wide)) => {
                    widen(&panels[span], wide);
                    wide
                }
                (Elements::F32(panels), _) => &panels[span],
                (_, None) => bail!("a narrow panel without room for a wide one"),
            };
            let panel = Rows {
                values: panel,
                stride: columns,
            };
            // The last panel may be wanted in part.
            let wide = columns.min((block.columns - column).next_multiple_of(STEP));
            for row in (0..block.rows).step_by(self.kernel.rows) {
                let rows = self.kernel.rows.min(block.rows - row);
                let x = Rows {
                    values: &x[row * inputs..],
                    stride: inputs,
                };
                self.kernel
                    .tile([rows, inputs, wide], x, panel, &mut values, columns);
                self.scale(output, &mut values[..rows * columns]);
                block.finish(row, column, &mut values)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::activation::Activation;
    use super::super::layer_norm::EPSILON;
    use super::super::product::{PackedWeights as _, SliceEpilogue};
    use super::super::testing::{numbers, tensor};
    use super::*;
    use proptest::prelude::*;
    use tract_linalg::multithread::{Executor, multithread_tract_scope};

    #[test]
    fn every_f16_number_is_widened() {
        for bits in 0..=u16::MAX {
            let (got, want) = (widened(bits), f16::from_bits(bits).to_f32());
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{bits:#x}: {got} for {want}"
            );
        }
    }

    proptest! {
        /// The same row three times goes through the tiles, once it does not.
        #[test]
        fn a_single_row_gives_what_a_tile_gives(
            inputs in 1usize..300, outputs in 1usize..200, seed in any::<u64>(), normed in any::<bool>(),
        ) {
            let values = numbers(inputs * outputs, seed);
            let matrices = [
                Matrix::F32(tensor(&[outputs, inputs], seed)),
                Matrix::F16 {
                    values: values.iter().map(|v| f16::from_f32(*v)).collect(),
                    columns: inputs,
                },
                Matrix::Int8 {
                    values: values.iter().map(|v| (v * 127.0) as i8).collect(),
                    columns: inputs,
                    scales: (0..outputs).map(|r| 0.008 + r as f32 / 1e5).collect(),
                },
            ];
            let (x, bias) = (numbers(inputs, seed ^ 1), numbers(outputs, seed ^ 2));
            let (gamma, beta) = (numbers(inputs, seed ^ 3), numbers(inputs, seed ^ 4));
            let norm = normed.then_some(Norm { gamma: &gamma, beta: &beta, epsilon: EPSILON });
            let epilogue = SliceEpilogue {
                scale: 0.5, bias: Some(&bias), activation: Activation::None, residual: None,
            };
            for kernel in Kernel::all() {
                for matrix in &matrices {
                    let panels = Panels::pack(kernel, matrix).unwrap();
                    let run = |x: &[f32], threads| {
                        let mut out = vec![f32::NAN; x.len() / inputs * outputs];
                        multithread_tract_scope(Executor::multithread(threads), || {
                            panels.product(x, norm, epilogue, &mut out).unwrap()
                        });
                        out
                    };
                    let (one, three) = (run(&x, 1), run(&x.repeat(3), 1));
                    prop_assert_eq!(&one, &run(&x, 3), "threads change {:?}", panels);
                    for (i, (a, b)) in one.iter().zip(&three).enumerate() {
                        // Sums of up to 300 products, each of 2 or less once normalised.
                        prop_assert!((a - b).abs() < 1e-4, "{panels:?} [{i}]: {a} for {b}");
                    }
                }
            }
        }
    }
}
