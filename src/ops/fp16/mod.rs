//! Dense layers in f16 arithmetic, for ARM cores that multiply eight f16 numbers at a time.
//!
//! Activations are rounded to f16 while they are still in the cache, weights when a bundle is loaded. What
//! f16 cannot hold (more than 65504) becomes infinite, and the scores NaN, which the inspector
//! refuses: a wrong score never looks like a good one.

pub mod kernel;

use super::layer_norm::Norm;
use super::matrix::Matrix;
use super::product::{self, Block, MAX_TILE, Sizes};
use half::f16;
use half::slice::HalfFloatSliceExt;
use kernel::{GROUP, Kernel};
use std::cell::RefCell;
use tract_core::internal::*;

/// Weights [outputs, inputs], packed in panels for this processor's kernel.
pub struct Panels {
    kernel: Kernel,
    /// Panel p holds the outputs from p * columns on; see [`Kernel::tile`].
    values: Vec<f16>,
    outputs: usize,
    inputs: usize,
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            f,
            "{} x {} in f16 ({})",
            self.outputs, self.inputs, self.kernel.name
        )
    }
}

/// Activations as f16, rows padded with zeros to whole groups.
#[derive(Default)]
struct Rows {
    values: Vec<f16>,
    stride: usize,
    row: Vec<f32>,
}

thread_local! {
    /// A thread's rounded rows, kept from product to product.
    static ROWS: RefCell<Rows> = RefCell::default();
}

impl Rows {
    /// Rounds `x`, rows of `width` numbers, normalised first if there is a `norm`. The rows are followed by as
    /// many unspecified ones as make their number a multiple of `tile`.
    fn round(&mut self, x: &[f32], width: usize, norm: Option<Norm>, tile: usize) {
        self.stride = width.next_multiple_of(GROUP);
        let rows = (x.len() / width).next_multiple_of(tile);
        self.values.resize(rows * self.stride, f16::ZERO);
        self.row.resize(width, 0.0);
        for (row, rounded) in x
            .chunks_exact(width)
            .zip(self.values.chunks_exact_mut(self.stride))
        {
            let row = match norm {
                None => row,
                Some(norm) => {
                    norm.row(row, &mut self.row);
                    &self.row[..]
                }
            };
            rounded[..width].convert_from_f32_slice(row);
            rounded[width..].fill(f16::ZERO);
        }
    }
}

impl Panels {
    /// Packs `matrix`, rounded to f16 unless it is.
    ///
    /// # Errors
    /// An empty matrix, or one whose parts do not fit each other.
    pub fn pack(kernel: Kernel, matrix: &Matrix) -> TractResult<Panels> {
        let [outputs, inputs] = matrix.shape();
        ensure!(
            outputs > 0 && inputs > 0,
            "a matrix of {outputs} x {inputs}"
        );
        let columns = kernel.columns;
        let panel_len = inputs.next_multiple_of(GROUP) * columns;
        let mut values = vec![f16::ZERO; outputs.div_ceil(columns) * panel_len];
        let weights = matrix.values()?;
        ensure!(
            weights.len() == outputs * inputs,
            "{} weights for {outputs} x {inputs}",
            weights.len()
        );
        for (i, weight) in weights.iter().enumerate() {
            let (output, input) = (i / inputs, i % inputs);
            values[output / columns * panel_len + input * columns + output % columns] =
                f16::from_f32(*weight);
        }
        Ok(Panels {
            kernel,
            values,
            outputs,
            inputs,
        })
    }

    fn multiply(&self, x: &Rows, block: &mut Block) -> TractResult<()> {
        let Kernel { rows, columns, .. } = self.kernel;
        let panel_len = x.stride * columns;
        let mut values = [0f32; MAX_TILE];
        for column in (0..block.columns).step_by(columns) {
            let panel = (block.first_column + column) / columns;
            let panel = &self.values[panel * panel_len..][..panel_len];
            for row in (0..block.rows).step_by(rows) {
                self.kernel
                    .tile(&x.values[row * x.stride..], x.stride, panel, &mut values);
                block.finish(row, column, &mut values)?;
            }
        }
        Ok(())
    }
}

impl product::PackedWeights for Panels {
    fn sizes(&self) -> Sizes {
        Sizes {
            inputs: self.inputs,
            outputs: self.outputs,
            tile_rows: self.kernel.rows,
            tile_columns: self.kernel.columns,
            element: size_of::<f16>(),
        }
    }

    fn block(&self, norm: Option<Norm>, block: &mut Block) -> TractResult<()> {
        let mut rows = ROWS.take();
        rows.round(block.x, self.inputs, norm, self.kernel.rows);
        let done = self.multiply(&rows, block);
        ROWS.set(rows);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::super::activation::Activation;
    use super::super::layer_norm::EPSILON;
    use super::super::product::{PackedWeights as _, SliceEpilogue};
    use super::super::testing::{numbers, tensor};
    use super::super::{float, tile};
    use super::kernel::tests::REFERENCE;
    use super::*;
    use tract_linalg::multithread::{Executor, multithread_tract_scope};

    #[test]
    fn products_match_f32_ones_with_every_matrix_and_epilogue() {
        for (n, k, m) in [
            (1, 6, 3),
            (1, 64, 300),
            (7, 65, 33),
            (60, 96, 128),
            (197, 40, 17),
        ] {
            let (x, weights) = (numbers(n * k, 1), numbers(m * k, 2));
            let bytes: Vec<i8> = weights.iter().map(|w| (w * 127.0) as i8).collect();
            let matrices = [
                Matrix::F32(tensor(&[m, k], 2)),
                Matrix::F16 {
                    values: weights.iter().map(|w| f16::from_f32(*w)).collect(),
                    columns: k,
                },
                Matrix::Int8 {
                    values: bytes,
                    columns: k,
                    scales: (0..m).map(|r| 0.01 - r as f32 / 1e5).collect(),
                },
            ];
            let (bias, residual) = (numbers(m, 3), numbers(n * m, 4));
            let (gamma, beta) = (numbers(k, 5), numbers(k, 6));
            let norm = Norm {
                gamma: &gamma,
                beta: &beta,
                epsilon: EPSILON,
            };
            let plain = SliceEpilogue {
                scale: 0.5,
                bias: Some(&bias),
                activation: Activation::None,
                residual: None,
            };
            let added = SliceEpilogue {
                residual: Some(&residual),
                ..plain
            };
            let active = SliceEpilogue {
                activation: Activation::ScaledQuickGelu,
                ..plain
            };
            for matrix in &matrices {
                for (norm, epilogue) in [(None, added), (Some(norm), plain), (Some(norm), active)] {
                    let mut want = vec![f32::NAN; n * m];
                    float::Panels::pack(tile::Kernel::best(), matrix)
                        .unwrap()
                        .product(&x, norm, epilogue, &mut want)
                        .unwrap();
                    for kernel in [Some(REFERENCE), Kernel::best()].into_iter().flatten() {
                        let panels = Panels::pack(kernel, matrix).unwrap();
                        let run = |threads| {
                            let mut out = vec![f32::NAN; n * m];
                            multithread_tract_scope(Executor::multithread(threads), || {
                                panels.product(&x, norm, epilogue, &mut out).unwrap()
                            });
                            out
                        };
                        let got = run(1);
                        assert_eq!(got, run(3), "threads change {panels:?}");
                        assert_ne!(got, want, "{panels:?} did not round");
                        // Partial sums of products of about 1, rounded to 11 bits; the largest of thousands.
                        let bound = 8.0 / 2048.0 * (k as f32).sqrt();
                        for (i, (a, b)) in want.iter().zip(&got).enumerate() {
                            assert!((a - b).abs() < bound, "{panels:?} {n} [{i}]: {b} for {a}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_that_f16_cannot_hold_is_no_number_and_spoils_no_other() {
        let matrix = Matrix::F32(tensor(&[8, 5], 2));
        let panels = Panels::pack(REFERENCE, &matrix).unwrap();
        for bad in [f32::NAN, 1e9] {
            let mut x = vec![1f32; 15];
            x[7] = bad;
            let mut out = vec![0f32; 24];
            let epilogue = SliceEpilogue {
                scale: 1.0,
                bias: None,
                activation: Activation::None,
                residual: None,
            };
            panels.product(&x, None, epilogue, &mut out).unwrap();
            let finite: Vec<bool> = out.iter().map(|v| v.is_finite()).collect();
            assert_eq!(finite, [[true; 8], [false; 8], [true; 8]].concat());
        }
    }
}
