//! A dense layer with everything around it fused: normalisation before, bias, activation, residual after.

use super::activation::{Activation, QUICK_GELU};
use super::layer_norm::LayerNorm;
use super::scratch::Output;
use super::slice;
use super::weights::{Epilogue, Weights};
use tract_core::internal::*;

/// `activation(scale * norm(x) W^T + bias) + residual` on [rows, inputs] f32; the residual is the second
/// input.
#[derive(Clone, Debug)]
pub struct Linear {
    weights: Arc<Weights>,
    norm: Option<Arc<LayerNorm>>,
    bias: Option<Arc<Tensor>>,
    scale: Option<f32>,
    activation: Activation,
    residual: bool,
}

impl PartialEq for Linear {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.weights, &other.weights)
            && self.norm == other.norm
            && self.bias == other.bias
            && self.scale.map(f32::to_bits) == other.scale.map(f32::to_bits)
            && self.activation == other.activation
            && self.residual == other.residual
    }
}

impl Eq for Linear {}

impl Linear {
    /// A layer of packed `weights` and `bias` `[outputs]`.
    pub fn new(weights: Arc<Weights>, bias: Option<Arc<Tensor>>) -> Linear {
        Linear {
            weights,
            norm: None,
            bias,
            scale: None,
            activation: Activation::None,
            residual: false,
        }
    }

    /// Whether activations are rounded before they are multiplied.
    pub fn rounds(&self) -> bool {
        !matches!(*self.weights, Weights::Float(_))
    }

    /// The layer with its input normalised first.
    pub fn with_norm(self, norm: Arc<LayerNorm>) -> Linear {
        Linear {
            norm: Some(norm),
            ..self
        }
    }

    /// The layer with an activation behind its sums.
    pub fn with_activation(self, activation: Activation) -> Linear {
        Linear { activation, ..self }
    }

    /// The layer for an input that still carries [`Activation::ScaledQuickGelu`]'s factor.
    pub fn after_quick_gelu(self) -> Linear {
        Linear {
            scale: Some(1.0 / QUICK_GELU),
            ..self
        }
    }

    /// The layer with a second input that is added to the result.
    pub fn with_residual(self) -> Linear {
        Linear {
            residual: true,
            ..self
        }
    }
}

impl Op for Linear {
    fn name(&self) -> StaticName {
        "FusedLinear".into()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}, {:?}", self.weights, self.activation)])
    }
    op_as_typed_op!();
}

impl EvalOp for Linear {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let rows = inputs[0].shape()[0];
        let mut out = Output::take(ctx, &[rows, self.weights.outputs()])?;
        let norm = self.norm.as_ref().map(|n| n.norm()).transpose()?;
        let epilogue = Epilogue {
            scale: self.scale,
            bias: self.bias.as_deref(),
            activation: self.activation,
            residual: inputs.get(1).map(|r| &**r),
        };
        self.weights
            .product(slice(&inputs[0])?, norm, epilogue, out.tensor()?, 0)?;
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for Linear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            inputs.len() == 1 + self.residual as usize,
            "FusedLinear: {} inputs",
            inputs.len()
        );
        ensure!(
            inputs[0].rank() == 2 && inputs[0].shape[1] == self.weights.inputs().to_dim(),
            "FusedLinear of {} inputs on {:?}",
            self.weights.inputs(),
            inputs[0]
        );
        ensure!(
            self.norm
                .as_ref()
                .is_none_or(|n| n.gamma.len() == self.weights.inputs()),
            "FusedLinear: a norm of another width"
        );
        ensure!(
            !(self.residual && self.activation != Activation::None),
            "FusedLinear: a residual is added before the activation"
        );
        let out = f32::fact([inputs[0].shape[0].clone(), self.weights.outputs().to_dim()]);
        if let Some(residual) = inputs.get(1) {
            ensure!(
                residual.shape == out.shape,
                "FusedLinear: a residual of {:?} for {:?}",
                residual,
                out
            );
        }
        Ok(tvec!(out))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::weights::{Arithmetic, Matrix};
    use super::*;

    #[test]
    fn quick_gelu_through_two_layers() {
        let one = Tensor::from_shape(&[1, 1], &[1f32]).unwrap();
        let weights = Arc::new(Weights::pack(&Matrix::F32(one), Arithmetic::Auto).unwrap());
        let first = Linear::new(weights.clone(), None).with_activation(Activation::ScaledQuickGelu);
        let second = Linear::new(weights, None).after_quick_gelu();
        let xs: Vec<f32> = (-40..=40).map(|i| i as f32 / 5.0).collect();
        let x = Tensor::from_shape(&[xs.len(), 1], &xs)
            .unwrap()
            .into_tvalue();
        let ctx = EvalContext::out_of_plan();
        let y = second
            .eval(&ctx, first.eval(&ctx, tvec!(x)).unwrap())
            .unwrap();
        let ys = y[0]
            .try_as_plain_ram()
            .unwrap()
            .as_slice::<f32>()
            .unwrap()
            .to_vec();
        for (x, y) in xs.iter().zip(ys) {
            let want = *x as f64 / (1.0 + (-1.702 * *x as f64).exp());
            assert!(
                (y as f64 - want).abs() < 1e-5,
                "quick_gelu({x}) = {y}, not {want}"
            );
        }
    }

    #[test]
    fn gelu_and_relu() {
        let one = Tensor::from_shape(&[1, 1], &[1f32]).unwrap();
        let weights = Arc::new(Weights::pack(&Matrix::F32(one), Arithmetic::Auto).unwrap());
        // torch.nn.functional.gelu
        let table = [
            (-3.0, -0.0040497),
            (-1.0, -0.1586553),
            (0.0, 0.0),
            (0.5, 0.3457312),
            (2.0, 1.9544997),
        ];
        let xs: Vec<f32> = table.iter().map(|t| t.0).collect();
        let x = Tensor::from_shape(&[5, 1], &xs).unwrap();
        let run = |activation| {
            let op = Linear::new(weights.clone(), None).with_activation(activation);
            super::super::slice(&super::super::testing::eval(&op, &[&x])[0])
                .unwrap()
                .to_vec()
        };
        for ((x, want), (gelu, relu)) in table
            .iter()
            .zip(run(Activation::Gelu).iter().zip(run(Activation::Relu)))
        {
            assert!((gelu - want).abs() < 1e-6, "gelu({x}) = {gelu}, not {want}");
            assert_eq!(relu, x.max(0.0));
        }
    }

    /// What is not known stays so: a score that is made of it is no number. Not tried: CLIP's activation, of whose argument
    /// tract's kernel makes a number; there NaN goes past it, in the sum that its block is added to.
    #[test]
    fn no_activation_makes_a_number_of_nan() {
        let (rows, columns) = (3, 40);
        let matrix = |arithmetic| match arithmetic {
            Arithmetic::Int8 => Matrix::Int8 {
                values: vec![1; 2 * columns],
                columns,
                scales: vec![0.5; 2],
            },
            _ => {
                Matrix::F32(Tensor::from_shape(&[2, columns], &vec![0.5f32; 2 * columns]).unwrap())
            }
        };
        let mut xs = vec![1f32; rows * columns];
        xs[columns + 7] = f32::NAN;
        let x = Tensor::from_shape(&[rows, columns], &xs).unwrap();
        for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
            let weights = Arc::new(Weights::pack(&matrix(arithmetic), arithmetic).unwrap());
            for activation in [
                Activation::None,
                Activation::Relu,
                Activation::Relu6,
                Activation::Gelu,
            ] {
                let op = Linear::new(weights.clone(), None).with_activation(activation);
                let out = super::super::testing::eval(&op, &[&x]);
                let out = super::super::slice(&out[0]).unwrap();
                for (row, values) in out.chunks_exact(2).enumerate() {
                    let unknown = values.iter().all(|v: &f32| v.is_nan());
                    assert_eq!(
                        unknown,
                        row == 1,
                        "{arithmetic:?} {activation:?}: {values:?}"
                    );
                }
            }
        }
    }
}
