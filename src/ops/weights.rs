//! Weight matrices in the arithmetic that this processor runs quickest.

pub use super::matrix::{Matrix, to_int8};
pub use super::product::SliceEpilogue;

use super::activation::Activation;
use super::layer_norm::Norm;
use super::{float, fp16, int8, product, slice, slice_mut, tile};
use tract_core::internal::*;

/// How products with weights are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Arithmetic {
    /// What the weights are stored in, where this processor has instructions for it that are quicker than
    /// f32: int8 with dot products (VNNI, SDOT), f16 with FEAT_FP16. Else f32. The same processor always
    /// decides the same, so that a threshold that was taught meets the same numbers.
    #[default]
    Auto,
    /// Weights widened to f32.
    F32,
    /// Activations rounded to int8, row by row, if the weights are int8; others are multiplied in f32.
    Int8,
    /// Activations and weights rounded to f16; only on processors with FEAT_FP16.
    F16,
}

/// Arithmetic that this processor does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "this processor cannot multiply in f16 (that takes FEAT_FP16: Cortex-A76 or newer); use --arithmetic auto"
)]
pub struct NoArithmetic;

impl Arithmetic {
    /// The arithmetic that is used on this processor if `self` is asked for and weights are stored in `stored`.
    pub fn here(self, stored: Arithmetic) -> Arithmetic {
        let quicker = match stored {
            Arithmetic::Int8 => int8::kernel::Kernel::best().has_dot_products(),
            Arithmetic::F16 => fp16::kernel::Kernel::best().is_some(),
            Arithmetic::F32 | Arithmetic::Auto => false,
        };
        match self {
            Arithmetic::Auto if quicker => stored,
            Arithmetic::Auto => Arithmetic::F32,
            // Others are multiplied in f32.
            Arithmetic::Int8 if stored != Arithmetic::Int8 => Arithmetic::F32,
            asked => asked,
        }
    }

    /// Checks that this processor has the instructions for it.
    ///
    /// # Errors
    /// [`NoArithmetic`]: it has not.
    pub fn check(self) -> Result<(), NoArithmetic> {
        match self {
            Arithmetic::F16 => fp16::kernel::Kernel::best().ok_or(NoArithmetic).map(drop),
            _ => Ok(()),
        }
    }
}

/// A weight matrix [outputs, inputs], packed once for the kernel that this processor runs best.
#[derive(Debug)]
pub enum Weights {
    /// Multiplied in f32, in whatever type they are stored.
    Float(float::Panels),
    /// Multiplied in int8.
    Int8(int8::Panels),
    /// Multiplied in f16.
    F16(fp16::Panels),
}

/// What happens to a product on its way to memory, in this order.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Multiplies the product.
    pub scale: Option<f32>,
    /// Added to every output row: one value per output column.
    pub bias: Option<&'a Tensor>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Added element by element: as many rows and columns as the output, contiguous.
    pub residual: Option<&'a Tensor>,
}

impl Weights {
    /// Packs `weights` [outputs, inputs].
    ///
    /// # Errors
    /// An empty matrix, one that no kernel takes, or arithmetic that this processor does not have.
    pub fn pack(weights: &Matrix, arithmetic: Arithmetic) -> TractResult<Weights> {
        let own = match weights {
            Matrix::F32(_) => Arithmetic::F32,
            Matrix::F16 { .. } => Arithmetic::F16,
            Matrix::Int8 { .. } => Arithmetic::Int8,
        };
        Ok(match (weights, arithmetic.here(own)) {
            (
                Matrix::Int8 {
                    values,
                    columns,
                    scales,
                },
                Arithmetic::Int8,
            ) => {
                let kernel = int8::kernel::Kernel::best();
                Weights::Int8(int8::Panels::pack(kernel, values, *columns, scales)?)
            }
            (_, Arithmetic::F16) => {
                let kernel = fp16::kernel::Kernel::best().ok_or(NoArithmetic)?;
                Weights::F16(fp16::Panels::pack(kernel, weights)?)
            }
            _ => Weights::Float(float::Panels::pack(tile::Kernel::best(), weights)?),
        })
    }

    /// It, whatever it is multiplied in.
    fn packed(&self) -> &dyn product::PackedWeights {
        match self {
            Weights::Float(w) => w,
            Weights::Int8(w) => w,
            Weights::F16(w) => w,
        }
    }

    /// Output columns.
    pub fn outputs(&self) -> usize {
        self.packed().sizes().outputs
    }

    /// Input columns.
    pub fn inputs(&self) -> usize {
        self.packed().sizes().inputs
    }

    /// The rows of `x` [n, inputs], normalised first if there is a `norm`, times the transposed weights,
    /// written to the n rows of `out` [.., outputs] from row `first_row` on.
    ///
    /// # Errors
    /// Shapes that do not fit each other.
    pub fn product(
        &self,
        x: &[f32],
        norm: Option<Norm>,
        epilogue: Epilogue,
        out: &mut Tensor,
        first_row: usize,
    ) -> TractResult<()> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let n = x.len() / inputs;
        let span = first_row * outputs..(first_row + n) * outputs;
        ensure!(
            x.len() == n * inputs && span.end <= out.len(),
            "{} elements times {inputs} x {outputs} into {:?} from row {first_row} on",
            x.len(),
            out.shape()
        );
        let epilogue = product::SliceEpilogue {
            scale: epilogue.scale.unwrap_or(1.0),
            bias: epilogue.bias.map(slice).transpose()?,
            activation: epilogue.activation,
            residual: epilogue.residual.map(slice).transpose()?,
        };
        let out = &mut slice_mut(out)?[span];
        self.packed().product(x, norm, epilogue, out)
    }

    /// The rows of `x` [n, inputs] times the transposed weights, written to `out` [n, outputs].
    ///
    /// # Errors
    /// Lengths that do not fit each other.
    pub fn rows(&self, x: &[f32], epilogue: SliceEpilogue, out: &mut [f32]) -> TractResult<()> {
        self.packed().product(x, None, epilogue, out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer_norm::EPSILON;
    use super::super::scratch::buffer;
    use super::super::testing::{numbers, tensor};
    use super::*;
    use tract_linalg::multithread::{Executor, multithread_tract_scope};

    #[test]
    fn what_is_multiplied_hangs_on_the_processor_alone() {
        use Arithmetic::{Auto, F16, F32, Int8};
        let dots = int8::kernel::Kernel::best().has_dot_products();
        assert_eq!(Auto.here(Int8), if dots { Int8 } else { F32 });
        let halves = fp16::kernel::Kernel::best().is_some();
        assert_eq!(Auto.here(F16), if halves { F16 } else { F32 });
        assert_eq!([Auto.here(F32), Int8.here(F32), F32.here(Int8)], [F32; 3]);
        assert_eq!([Int8.here(Int8), F16.here(Int8)], [Int8, F16]);
    }

    /// int8 arithmetic rounds activations to 1/255 of their row's range: against the f32 product of the
    /// same weights, its error stays within what that rounding can cause.
    #[test]
    fn int8_products_match_f32_ones_with_every_epilogue() {
        for (n, k, m) in [
            (1, 6, 3),
            (1, 64, 300),
            (7, 64, 33),
            (60, 96, 128),
            (197, 40, 17),
        ] {
            let matrix = Matrix::Int8 {
                values: numbers(m * k, 2)
                    .iter()
                    .map(|v| (v * 127.0) as i8)
                    .collect(),
                columns: k,
                scales: (0..m).map(|r| 0.01 + r as f32 / 1e4).collect(),
            };
            let (x, bias, residual) = (tensor(&[n, k], 1), tensor(&[m], 3), tensor(&[n, m], 4));
            let (gamma, beta) = (numbers(k, 5), numbers(k, 6));
            let norm = Norm {
                gamma: &gamma,
                beta: &beta,
                epsilon: EPSILON,
            };
            let plain = Epilogue {
                scale: Some(0.5),
                bias: Some(&bias),
                ..Epilogue::default()
            };
            let active = |activation| Epilogue {
                activation,
                ..plain
            };
            let cases = [
                (
                    None,
                    Epilogue {
                        residual: Some(&residual),
                        ..plain
                    },
                ),
                (Some(norm), Epilogue::default()),
                (Some(norm), active(Activation::ScaledQuickGelu)),
                (None, active(Activation::Gelu)),
                (None, active(Activation::Relu)),
            ];
            for (case, (norm, epilogue)) in cases.into_iter().enumerate() {
                let run = |arithmetic, threads| {
                    let weights = Weights::pack(&matrix, arithmetic).unwrap();
                    let mut out = Tensor::zero::<f32>(&[n + 2, m]).unwrap();
                    multithread_tract_scope(Executor::multithread(threads), || {
                        weights
                            .product(slice(&x).unwrap(), norm, epilogue, &mut out, 1)
                            .unwrap()
                    });
                    out
                };
                let (float, int8) = (run(Arithmetic::F32, 1), run(Arithmetic::Int8, 1));
                assert_eq!(int8, run(Arithmetic::Int8, 3), "threads change case {case}");
                let bound = 4.0 / 255.0 * 127.0 * 0.04 * (k as f32).sqrt();
                let (float, int8) = (slice(&float).unwrap(), slice(&int8).unwrap());
                for (i, (a, b)) in float.iter().zip(int8).enumerate() {
                    assert!(
                        (a - b).abs() < bound,
                        "case {case} {n}x{k}x{m} [{i}]: {b} for {a}"
                    );
                }
                assert!(
                    int8[..m]
                        .iter()
                        .chain(&int8[(n + 1) * m..])
                        .all(|v| *v == 0.0)
                );
                assert!(case > 2 || float != int8, "case {case} did not run in int8");
            }
        }
    }

    #[test]
    fn a_row_that_is_no_number_stays_none() {
        let matrix = Matrix::Int8 {
            values: vec![1; 64],
            columns: 8,
            scales: vec![1.0; 8],
        };
        let weights = Weights::pack(&matrix, Arithmetic::Int8).unwrap();
        let mut x = vec![1f32; 16];
        x[11] = f32::NAN;
        let mut out = buffer(&[2, 8]).unwrap();
        weights
            .product(&x, None, Epilogue::default(), &mut out, 0)
            .unwrap();
        let out = slice(&out).unwrap();
        assert!(
            out[..8].iter().all(|v| *v == 8.0) && out[8..].iter().all(|v| v.is_nan()),
            "{out:?}"
        );
    }
}
