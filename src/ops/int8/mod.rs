//! Dense layers in int8 arithmetic: bytes times bytes, summed exactly in i32.
//!
//! Activations are quantised row by row while they are still in the cache, asymmetrically (a byte is a
//! step from the row's lowest value), weights per output channel, symmetrically, as the bundle holds
//! them. Scales, bias, activation and residual follow tile by tile.
//!
//! tract-linalg's own int8 kernels are not used: their epilogue stays in integers, while a scale per row
//! and one per column, bias, activation and residual all belong between the registers and the only
//! write to memory.

pub mod kernel;
mod quantise;

use super::activation::{Activation, ActivationKernel};
use super::layer_norm::Norm;
use super::par_rows;
use super::simd::vectorised;
use kernel::{GROUP, Kernel, MAX_TILE};
use quantise::Rows;
use std::cell::RefCell;
use tract_core::internal::*;

/// Bytes of activations that a thread multiplies before it goes on to the next rows: they stay in the
/// second-level cache while all weights pass by.
const BLOCK: usize = 192 << 10;

/// int8 weights [outputs, inputs], packed in panels for this processor's kernel.
#[derive(Debug)]
pub struct Panels {
    kernel: Kernel,
    /// Panel p holds the outputs from p * columns on; see [`Kernel::tile`].
    bytes: Vec<i8>,
    columns: Columns,
    outputs: usize,
    inputs: usize,
}

/// What the epilogue needs of each output column; padded to whole panels.
#[derive(Debug)]
struct Columns {
    /// What a step of a weight is worth.
    scales: Vec<f32>,
    /// What all its weights add up to: what a row's lowest value is multiplied by.
    totals: Vec<f32>,
    /// Makes the sums of a signed kernel those of an unsigned one.
    shifts: Vec<i32>,
}

/// What happens to a sum of products on its way to memory, in this order.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Multiplies the product.
    pub scale: f32,
    /// Added to every row: one value per output.
    pub bias: Option<&'a [f32]>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Added element by element, as many rows as the output.
    pub residual: Option<&'a [f32]>,
}

thread_local! {
    /// A thread's quantised rows, kept from product to product.
    static ROWS: RefCell<Rows> = RefCell::default();
}

impl Panels {
    /// Packs row-major `values` of `inputs` columns; row r is `scales[r]` times its values.
    ///
    /// # Errors
    /// An empty matrix, another number of scales than rows, or sums that i32 cannot hold.
    pub fn pack(
        kernel: Kernel,
        values: &[i8],
        inputs: usize,
        scales: &[f32],
    ) -> TractResult<Panels> {
        let outputs = scales.len();
        ensure!(
            outputs > 0 && inputs > 0 && values.len() == outputs * inputs,
            "{} int8 values for {outputs} x {inputs}",
            values.len()
        );
        // 255 * 128 * 65536 is the largest sum below 2^31.
        ensure!(
            inputs <= 1 << 16,
            "int8 sums over {inputs} inputs do not fit 32 bits"
        );
        let (groups, columns) = (inputs.div_ceil(GROUP), kernel.columns);
        let padded = outputs.next_multiple_of(columns);
        let mut bytes = vec![0i8; padded * groups * GROUP];
        let mut sums = vec![0i32; padded];
        for (output, row) in values.chunks_exact(inputs).enumerate() {
            let panel = &mut bytes[output / columns * columns * groups * GROUP..];
            let place = output % columns * GROUP;
            for (group, target) in row
                .chunks(GROUP)
                .zip(panel.chunks_exact_mut(columns * GROUP))
            {
                target[place..place + group.len()].copy_from_slice(group);
            }
            sums[output] = row.iter().map(|w| i32::from(*w)).sum();
        }
        let mut scales = scales.to_vec();
        scales.resize(padded, 0.0);
        Ok(Panels {
            columns: Columns {
                totals: sums
                    .iter()
                    .zip(&scales)
                    .map(|(sum, scale)| *sum as f32 * scale)
                    .collect(),
                shifts: sums
                    .iter()
                    .map(|s| if kernel.signed { 128 * s } else { 0 })
                    .collect(),
                scales,
            },
            kernel,
            bytes,
            outputs,
            inputs,
        })
    }

    /// The kernel's name.
    pub fn kernel(&self) -> &str {
        self.kernel.name
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
        let rows = out.len() / self.outputs;
        ensure!(
            x.len() == rows * self.inputs
                && out.len() == rows * self.outputs
                && epilogue.bias.is_none_or(|b| b.len() == self.outputs)
                && epilogue.residual.is_none_or(|r| r.len() == out.len()),
            "int8 product of {} and {} x {} elements into {}",
            x.len(),
            self.outputs,
            self.inputs,
            out.len()
        );
        let activation = epilogue.activation.kernel()?;
        if rows == 1 {
            // One row is split by columns: every thread quantises it for itself.
            let columns = self.kernel.columns;
            return par_rows(out, 1, columns, |first, out| {
                self.block(x, norm, &epilogue, &activation, 0, first, out)
            });
        }
        par_rows(out, self.outputs, self.kernel.rows, |first, out| {
            let tile = self.kernel.rows;
            let block = (BLOCK / self.inputs).next_multiple_of(tile);
            for (i, out) in out.chunks_mut(block * self.outputs).enumerate() {
                let first = first + i * block;
                let x = &x[first * self.inputs..][..out.len() / self.outputs * self.inputs];
                self.block(x, norm, &epilogue, &activation, first, 0, out)?;
            }
            Ok(())
        })
    }

    /// The product of one thread's rows, `first_row` on, from `first_column` on.
    #[allow(clippy::too_many_arguments)]
    fn block(
        &self,
        x: &[f32],
        norm: Option<Norm>,
        epilogue: &Epilogue,
        activation: &ActivationKernel,
        first_row: usize,
        first_column: usize,
        out: &mut [f32],
    ) -> TractResult<()> {
        let Kernel {
            rows: tile,
            columns,
            signed,
            ..
        } = self.kernel;
        let mut rows = ROWS.take();
        rows.quantise(x, self.inputs, norm, tile, signed);
        let count = rows.low.len();
        let width = out.len() / count;
        let mut sums = [0i32; MAX_TILE];
        let mut values = [0f32; MAX_TILE];
        let panel_len = columns * self.inputs.next_multiple_of(GROUP);
        for at in (0..width).step_by(columns) {
            let column = first_column + at;
            let panel = &self.bytes[column / columns * panel_len..][..panel_len];
            let wide = columns.min(width - at);
            let span = column..column + columns;
            let columns = TileColumns {
                scales: &self.columns.scales[span.clone()],
                totals: &self.columns.totals[span.clone()],
                shifts: &self.columns.shifts[span],
                bias: epilogue
                    .bias
                    .map_or(&NO_BIAS[..wide], |b| &b[column..column + wide]),
            };
            for row in (0..count).step_by(tile) {
                let high = tile.min(count - row);
                self.kernel.tile(
                    &rows.bytes[row * rows.stride..],
                    rows.stride,
                    panel,
                    &mut sums,
                );
                dequantise(
                    &sums,
                    &rows.low[row..row + high],
                    &rows.step[row..row + high],
                    &columns,
                    epilogue.scale,
                    epilogue.activation.factor(),
                    &mut values,
                );
                activation.run(&mut values[..high * columns.scales.len()])?;
                for (r, values) in values
                    .chunks_exact(columns.scales.len())
                    .take(high)
                    .enumerate()
                {
                    let start = (row + r) * width + at;
                    let out = &mut out[start..start + wide];
                    match epilogue.residual {
                        None => out.copy_from_slice(&values[..wide]),
                        Some(residual) => {
                            let residual =
                                &residual[(first_row + row + r) * self.outputs + column..];
                            for ((o, v), r) in out.iter_mut().zip(values).zip(residual) {
                                *o = v + r;
                            }
                        }
                    }
                }
            }
        }
        ROWS.set(rows);
        Ok(())
    }
}

/// The bias of layers without one.
const NO_BIAS: [f32; MAX_TILE] = [0.0; MAX_TILE];

/// A tile's columns; the bias ends where the matrix does.
struct TileColumns<'a> {
    scales: &'a [f32],
    totals: &'a [f32],
    shifts: &'a [i32],
    bias: &'a [f32],
}

vectorised! {
    /// Sums of bytes to numbers: `((step * sum * column scale + low * column total) * scale + bias) * factor`.
    fn dequantise(
        sums: &[i32], low: &[f32], step: &[f32], columns: &TileColumns, scale: f32, factor: f32, out: &mut [f32],
    ) {
        let width = columns.scales.len();
        let rows = sums.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((sums, out), (low, step)) in rows.zip(low.iter().zip(step)) {
            let (low, step) = (low * scale * factor, step * scale * factor);
            let own = columns.scales.iter().zip(columns.totals).zip(columns.shifts.iter().zip(columns.bias));
            for ((out, sum), ((scale, total), (shift, bias))) in out.iter_mut().zip(sums).zip(own) {
                *out = step * (sum + shift) as f32 * scale + (low * total + bias * factor);
            }
        }
    }
}
