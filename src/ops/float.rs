//! Dense layers in f32 arithmetic, with weights that stay as small in memory as they are stored: int8 or
//! f16 panels are widened to f32 one at a time while a product runs.
//!
//! A panel is widened once per block of rows, so this costs a few percent of the arithmetic and saves
//! half or three quarters of the memory and of what is read from it.

use super::layer_norm::Norm;
use super::product::{Block, Epilogue, MAX_TILE, Sizes, divide};
use super::scratch::Scratch;
use super::simd::vectorised;
use super::tile::{Kernel, Rows, STEP};
use super::weights::Matrix;
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

/// Adds each weight times its input to its column's sum.
#[inline(always)]
fn weigh<const COLUMNS: usize>(x: &[f32], panel: &[i8], sums: &mut [f32]) {
    let mut acc = [0f32; COLUMNS];
    for (weights, x) in panel.as_chunks::<COLUMNS>().0.iter().zip(x) {
        for (sum, weight) in acc.iter_mut().zip(weights) {
            *sum += x * f32::from(*weight);
        }
    }
    sums.copy_from_slice(&acc);
}

vectorised! {
    /// A single row times a panel as wide as `sums`. It takes as long as reading the weights, so they
    /// are read once, as they are; a tile would compute the row six times.
    fn row_by_panel(x: &[f32], panel: &[i8], sums: &mut [f32]) {
        // The panels of all kernels are as wide as one of these.
        match sums.len() {
            64 => weigh::<64>(x, panel, sums),
            _ => weigh::<STEP>(x, panel, sums),
        }
    }
}

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

    /// Output columns.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Input columns.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The rows of `x` (normalised first, if there is a `norm`) times the transposed weights, written to
    /// the rows of `out`.
    ///
    /// # Errors
    /// Lengths that do not fit each other.
    pub fn product(
        &self,
        x: &[f32],
        norm: Option<Norm>,
        epilogue: Epilogue,
        out: &mut [f32],
    ) -> TractResult<()> {
        let sizes = Sizes {
            inputs: self.inputs,
            outputs: self.outputs,
            tile_rows: self.kernel.rows,
            tile_columns: self.kernel.columns(),
            element: size_of::<f32>(),
        };
        divide(x, sizes, epilogue, out, |block| self.block(norm, block))
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
        let panel_len = columns * inputs;
        let mut wide = match self.elements {
            Elements::F32(_) => None,
            _ => Some(Scratch::take(panel_len)),
        };
        let mut values = [0f32; MAX_TILE];
        for column in (0..block.columns).step_by(columns) {
            let output = block.first_column + column;
            let span = output / columns * panel_len..(output / columns + 1) * panel_len;
            if let (true, 64 | STEP, Elements::Int8(panels)) =
                (block.single, columns, &self.elements)
            {
                let values = &mut values[..columns];
                let x = normed.as_deref().unwrap_or(block.x);
                row_by_panel(x, &panels[span], values);
                if let Some(scales) = &self.scales {
                    multiply(values, &scales[output..output + columns]);
                }
                block.finish(0, column, values)?;
                continue;
            }
            let panel: &[f32] = match (&self.elements, &mut wide) {
                (Elements::F16(panels), Some(wide)) => {
                    panels[span].convert_to_f32_slice(wide);
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
            for row in (0..block.rows).step_by(self.kernel.rows) {
                let rows = self.kernel.rows.min(block.rows - row);
                let x = normed.as_deref().unwrap_or(block.x);
                let x = Rows {
                    values: &x[row * inputs..],
                    stride: inputs,
                };
                self.kernel
                    .tile([rows, inputs, columns], x, panel, &mut values, columns);
                if let Some(scales) = &self.scales {
                    multiply(
                        &mut values[..rows * columns],
                        &scales[output..output + columns],
                    );
                }
                block.finish(row, column, &mut values)?;
            }
        }
        Ok(())
    }
}
