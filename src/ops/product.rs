//! What all products of activations with weights have in common: how the work is divided, and what happens
//! to a tile of sums on its way to memory.

use super::activation::{Activation, ActivationKernel, cut};
use super::layer_norm::Norm;
use super::par_rows;
#[cfg(target_arch = "x86_64")]
use super::simd::fetch;
use super::simd::{multiply_add, vectorised};
use tract_core::internal::*;

/// The largest number of sums in a tile of any kernel.
pub const MAX_TILE: usize = 6 * 64;

/// Bytes of activations that a thread multiplies before it goes on to the next rows: they stay in the
/// second-level cache while all weights pass by.
const BLOCK: usize = 192 << 10;

/// What happens to a sum of products on its way to memory, in this order.
#[derive(Clone, Copy)]
pub struct SliceEpilogue<'a> {
    /// Multiplies the product.
    pub scale: f32,
    /// Added to every row: one value per output.
    pub bias: Option<&'a [f32]>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Added element by element, as many rows as the output.
    pub residual: Option<&'a [f32]>,
}

/// The sizes of a product.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Columns of the activations.
    pub inputs: usize,
    /// Columns of the result.
    pub outputs: usize,
    /// Rows of a kernel's tile.
    pub tile_rows: usize,
    /// Columns of a kernel's tile, and of a panel of weights.
    pub tile_columns: usize,
    /// Bytes that an activation takes while it is multiplied.
    pub element: usize,
}

/// Weights [outputs, inputs], packed in panels for one of this processor's kernels.
pub trait PackedWeights: Sync {
    /// The sizes of their products.
    fn sizes(&self) -> Sizes;

    /// Computes a part of a product; its activations are normalised first if there is a `norm`.
    ///
    /// # Errors
    /// The error of the activation's kernel.
    fn block(&self, norm: Option<Norm>, block: &mut Block) -> TractResult<()>;

    /// The rows of `x` (normalised first, if there is a `norm`) times the transposed weights, written to
    /// the rows of `out`.
    ///
    /// # Errors
    /// Lengths that do not fit each other.
    fn product(
        &self,
        x: &[f32],
        norm: Option<Norm>,
        epilogue: SliceEpilogue,
        out: &mut [f32],
    ) -> TractResult<()> {
        divide(x, self.sizes(), epilogue, out, |block| {
            self.block(norm, block)
        })
    }
}

/// A part of a product that one thread computes: some whole rows, or some columns of a single row.
pub struct Block<'a> {
    /// Its rows of activations.
    pub x: &'a [f32],
    /// Number of rows of `x` and of the result.
    pub rows: usize,
    /// First column; a multiple of the panels' width.
    pub first_column: usize,
    /// Number of columns of the result, from the first one on.
    pub columns: usize,
    /// Whether the whole product has a single row: a block of one may be what division left, and its sums
    /// must not depend on the number of threads.
    pub single: bool,
    sizes: Sizes,
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    scale: f32,
    factor: f32,
    activation: &'a ActivationKernel,
    out: &'a mut [f32],
}

/// Divides `x` times the weights among the threads; `work` computes a block.
///
/// # Errors
/// Lengths that do not fit each other, or `work`'s own.
fn divide(
    x: &[f32],
    sizes: Sizes,
    epilogue: SliceEpilogue,
    out: &mut [f32],
    work: impl Fn(&mut Block) -> TractResult<()> + Sync,
) -> TractResult<()> {
    let Sizes {
        inputs, outputs, ..
    } = sizes;
    let rows = out.len() / outputs;
    ensure!(
        x.len() == rows * inputs
            && out.len() == rows * outputs
            && epilogue.bias.is_none_or(|b| b.len() == outputs)
            && epilogue.residual.is_none_or(|r| r.len() == out.len()),
        "{} elements times {inputs} x {outputs} into {}",
        x.len(),
        out.len()
    );
    let activation = epilogue.activation.kernel()?;
    let single = rows == 1;
    let run = |first_row: usize, first_column: usize, rows: usize, out: &mut [f32]| {
        let first = first_row * outputs + first_column;
        let columns = out.len() / rows;
        work(&mut Block {
            x: &x[first_row * inputs..][..rows * inputs],
            rows,
            first_column,
            columns,
            single,
            sizes,
            bias: epilogue.bias.map(|b| &b[first_column..][..columns]),
            residual: epilogue.residual.map(|r| &r[first..][..out.len()]),
            scale: epilogue.scale,
            factor: epilogue.activation.factor(),
            activation: &activation,
            out,
        })
    };
    if single {
        return par_rows(out, 1, sizes.tile_columns, |first, out| {
            run(0, first, 1, out)
        });
    }
    let block = (BLOCK / (inputs * sizes.element))
        .max(1)
        .next_multiple_of(sizes.tile_rows);
    par_rows(out, outputs, sizes.tile_rows, |first, out| {
        out.chunks_mut(block * outputs)
            .enumerate()
            .try_for_each(|(i, out)| run(first + i * block, 0, out.len() / outputs, out))
    })
}

/// Where a tile's numbers go if no activation stands between: rows `stride` apart.
pub struct Target<'a> {
    /// Multiplies the numbers.
    pub scale: f32,
    /// Added to every row; as many as the tile has columns here.
    pub bias: &'a [f32],
    /// Added element by element.
    pub residual: Option<&'a [f32]>,
    /// The result.
    pub out: &'a mut [f32],
    /// Distance of two rows, of the residual too.
    pub stride: usize,
}

impl Block<'_> {
    /// Brings the places of a tile, and the residual's, close to the core before they are needed: rows lie
    /// pages apart, where no processor looks ahead by itself.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn fetch(&self, row: usize, column: usize) {
        let wide = self.sizes.tile_columns.min(self.columns - column);
        let rows = self.sizes.tile_rows.min(self.rows - row);
        for row in row..row + rows {
            let places = row * self.columns + column..row * self.columns + column + wide;
            fetch(&self.out[places.clone()]);
            if let Some(residual) = self.residual {
                fetch(&residual[places]);
            }
        }
    }

    /// Where the tile goes whose first row and column within the block are given; `None` if it has to go
    /// through an activation ([`Block::finish`]).
    pub fn target(&mut self, row: usize, column: usize) -> Option<Target<'_>> {
        let wide = self.sizes.tile_columns.min(self.columns - column);
        let start = row * self.columns + column;
        self.activation.is_none().then_some(Target {
            scale: self.scale,
            bias: self
                .bias
                .map_or(&NO_BIAS[..wide], |b| &b[column..column + wide]),
            residual: self.residual.map(|r| &r[start..]),
            out: &mut self.out[start..],
            stride: self.columns,
        })
    }

    /// Takes the sums of a tile whose first row and column within the block are given, as rows of
    /// `tile_columns` values, and writes what becomes of them.
    ///
    /// # Errors
    /// The error of the activation's kernel.
    pub fn finish(&mut self, row: usize, column: usize, values: &mut [f32]) -> TractResult<()> {
        let width = self.sizes.tile_columns;
        let rows = self.sizes.tile_rows.min(self.rows - row);
        let wide = width.min(self.columns - column);
        let values = &mut values[..rows * width];
        let bias = self
            .bias
            .map_or(&NO_BIAS[..wide], |b| &b[column..column + wide]);
        let start = row * self.columns + column;
        if let (Some(high), None) = (self.activation.clamp(), self.residual) {
            let out = &mut self.out[start..];
            store_clamped(values, width, self.scale, bias, high, out, self.columns);
            return Ok(());
        }
        scale_and_shift(values, width, self.scale * self.factor, bias, self.factor);
        self.activation.run(values)?;
        let residual = self.residual.map(|r| &r[start..]);
        store(
            values,
            width,
            wide,
            residual,
            &mut self.out[start..],
            self.columns,
        );
        Ok(())
    }
}

/// The bias of layers without one.
const NO_BIAS: [f32; MAX_TILE] = [0.0; MAX_TILE];

vectorised! {
    /// Writes the first `wide` of each `width` values to rows `stride` apart.
    fn store(
        values: &[f32], width: usize, wide: usize, residual: Option<&[f32]>, out: &mut [f32], stride: usize,
    ) {
        for (r, values) in values.chunks_exact(width).enumerate() {
            let (values, out) = (&values[..wide], &mut out[r * stride..][..wide]);
            if let Some(residual) = residual {
                let both = values.iter().zip(&residual[r * stride..][..wide]);
                out.iter_mut().zip(both).for_each(|(out, (v, r))| *out = v + r);
            } else if let (Ok(out), Ok(values)) = (<&mut [f32; 64]>::try_from(&mut *out), <&[f32; 64]>::try_from(values)) {
                // Of known length: a few moves instead of a call.
                *out = *values;
            } else {
                out.copy_from_slice(values);
            }
        }
    }
}

vectorised! {
    /// Writes as many of each `width` values as there are biases to rows `stride` apart, scaled, shifted and cut off.
    fn store_clamped(
        values: &[f32], width: usize, scale: f32, bias: &[f32], high: f32, out: &mut [f32], stride: usize,
    ) {
        for (r, values) in values.chunks_exact(width).enumerate() {
            let out = &mut out[r * stride..][..bias.len()];
            for ((out, v), bias) in out.iter_mut().zip(values).zip(bias) {
                *out = cut(multiply_add::<FUSED>(*v, scale, *bias), high);
            }
        }
    }
}

vectorised! {
    fn scale_and_shift(values: &mut [f32], width: usize, scale: f32, bias: &[f32], factor: f32) {
        for row in values.chunks_exact_mut(width) {
            row.iter_mut()
                .zip(bias)
                .for_each(|(v, bias)| *v = multiply_add::<FUSED>(*v, scale, bias * factor));
        }
    }
}
