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

use super::layer_norm::Norm;
use super::product::{self, Block, MAX_TILE, Sizes, Target};
use super::simd::{multiply_add, vectorised};
use kernel::{GROUP, Kernel};
use quantise::Rows;
use std::cell::RefCell;
use tract_core::internal::*;

/// int8 weights [outputs, inputs], packed in panels for this processor's kernel.
#[derive(Debug)]
pub struct Panels {
    kernel: Kernel,
    /// Panel p holds the outputs from p * columns on; see [`Kernel::tile`].
    bytes: Vec<i8>,
    /// What a step of a weight is worth. This and the next two: one per output, padded to whole panels.
    scales: Vec<f32>,
    /// What all its weights add up to: what a row's lowest value is multiplied by.
    totals: Vec<f32>,
    /// Makes the sums of a signed kernel those of an unsigned one.
    shifts: Vec<i32>,
    outputs: usize,
    inputs: usize,
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

    fn multiply(&self, x: &Rows, block: &mut Block) -> TractResult<()> {
        let Kernel {
            rows: tile,
            columns,
            ..
        } = self.kernel;
        let mut sums = [0i32; MAX_TILE];
        let mut values = [0f32; MAX_TILE];
        let panel_len = columns * self.inputs.next_multiple_of(GROUP);
        for column in (0..block.columns).step_by(columns) {
            let output = block.first_column + column;
            let panel = &self.bytes[output / columns * panel_len..][..panel_len];
            let span = output..output + columns;
            let columns = Columns {
                scales: &self.scales[span.clone()],
                totals: &self.totals[span.clone()],
                shifts: &self.shifts[span],
            };
            for row in (0..block.rows).step_by(tile) {
                let high = tile.min(block.rows - row);
                #[cfg(target_arch = "x86_64")]
                block.fetch(row, column);
                self.kernel
                    .tile(&x.bytes[row * x.stride..], x.stride, panel, &mut sums);
                let (low, step) = (&x.low[row..row + high], &x.step[row..row + high]);
                if let Some(target) = block.target(row, column) {
                    dequantise_to(&sums, low, step, columns, target);
                } else {
                    dequantise(&sums, low, step, columns, &mut values);
                    block.finish(row, column, &mut values)?;
                }
            }
        }
        Ok(())
    }
}

/// Rows of `width` numbers as int8 arithmetic takes them, in place of what `out` held: rounded to 1/255 of their
/// range. Rounded again they are the same. A row with a number that is not finite becomes NaN.
pub fn rounded(x: &[f32], width: usize, out: &mut Vec<f32>) {
    let mut rows = ROWS.take();
    rows.quantise(x, width, None, 1, false);
    out.clear();
    let bytes = rows.bytes.chunks_exact(rows.stride);
    for (bytes, (low, step)) in bytes.zip(rows.low.iter().zip(&rows.step)) {
        out.extend(bytes[..width].iter().map(|b| low + step * f32::from(*b)));
    }
    ROWS.set(rows);
}

impl product::PackedWeights for Panels {
    fn sizes(&self) -> Sizes {
        Sizes {
            inputs: self.inputs,
            outputs: self.outputs,
            tile_rows: self.kernel.rows,
            tile_columns: self.kernel.columns,
            element: 1,
        }
    }

    fn block(&self, norm: Option<Norm>, block: &mut Block) -> TractResult<()> {
        let mut rows = ROWS.take();
        let (tile, signed) = (self.kernel.rows, self.kernel.signed);
        rows.quantise(block.x, self.inputs, norm, tile, signed);
        let done = self.multiply(&rows, block);
        ROWS.set(rows);
        done
    }
}

/// What a tile's columns are dequantised with.
#[derive(Clone, Copy)]
struct Columns<'a> {
    scales: &'a [f32],
    totals: &'a [f32],
    shifts: &'a [i32],
}

vectorised! {
    /// Sums of bytes to numbers: `step * (sum + shift) * scale + low * total`.
    fn dequantise(sums: &[i32], low: &[f32], step: &[f32], columns: Columns, out: &mut [f32]) {
        let width = columns.scales.len();
        let rows = sums.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((sums, out), (low, step)) in rows.zip(low.iter().zip(step)) {
            let columns = columns.scales.iter().zip(columns.totals).zip(columns.shifts);
            for ((out, sum), ((scale, total), shift)) in out.iter_mut().zip(sums).zip(columns) {
                *out = multiply_add::<FUSED>(step * (sum + shift) as f32, *scale, low * total);
            }
        }
    }
}

vectorised! {
    /// The same on their way to memory.
    fn dequantise_to(sums: &[i32], low: &[f32], step: &[f32], columns: Columns, target: Target) {
        let Target { scale: factor, bias, residual, out, stride } = target;
        let (width, wide) = (columns.scales.len(), bias.len());
        let (scales, totals) = (&columns.scales[..wide], &columns.totals[..wide]);
        let shifts = &columns.shifts[..wide];
        for (r, (low, step)) in low.iter().zip(step).enumerate() {
            let sums = &sums[r * width..][..wide];
            let out = &mut out[r * stride..][..wide];
            let (low, step) = (low * factor, step * factor);
            let add = multiply_add::<FUSED>;
            let number = |c: usize| {
                let lowest = add(low, totals[c], bias[c]);
                add(step * (sums[c] + shifts[c]) as f32, scales[c], lowest)
            };
            match residual {
                None => (0..wide).for_each(|c| out[c] = number(c)),
                Some(residual) => {
                    let residual = &residual[r * stride..][..wide];
                    (0..wide).for_each(|c| out[c] = number(c) + residual[c]);
                }
            }
        }
    }
}
