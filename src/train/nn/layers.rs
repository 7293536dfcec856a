//! What both towers are made of: normalisation, dense layer, pre-norm block.

use crate::bundle::manifest::ActivationKind;
use crate::ops::layer_norm::EPSILON;
use crate::train::clip;
use burn::module::{Module, Param, ParamId};
use burn::tensor::activation::{gelu, sigmoid, softmax};
use burn::tensor::{Device, Tensor, TensorData, module};
use ndarray::{Array, Array1, Array2, Dimension};

/// A mask value that is as good as minus infinity and finite in f16 too.
pub const HIDDEN: f32 = -1e4;

/// Makes parameters with ids counted from one: a saved optimizer finds its parameters again.
pub struct Maker<'a> {
    /// Where tensors are made.
    pub device: &'a Device,
    /// Whether they learn.
    pub trainable: bool,
    next: u64,
}

impl<'a> Maker<'a> {
    /// Counts from one.
    pub fn new(device: &'a Device, trainable: bool) -> Self {
        Maker {
            device,
            trainable,
            next: 0,
        }
    }

    /// A parameter with these values.
    pub fn param<const D: usize>(&mut self, values: Tensor<D>) -> Param<Tensor<D>> {
        self.next += 1;
        Param::initialized(
            ParamId::from(self.next),
            values.set_require_grad(self.trainable),
        )
    }

    fn vector(&mut self, values: &Array1<f32>) -> Param<Tensor<1>> {
        let tensor = tensor(values, self.device);
        self.param(tensor)
    }
}

/// An array as a tensor.
pub fn tensor<const D: usize, N: Dimension>(array: &Array<f32, N>, device: &Device) -> Tensor<D> {
    let shape = array.shape().to_vec();
    let values = array.as_standard_layout().iter().copied().collect();
    Tensor::from_data(TensorData::new::<f32, _>(values, shape), device)
}

/// A tensor's values, f32.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data_as::<f32>().iter::<f32>().collect()
}

/// A matrix as an array.
pub fn matrix(tensor: &Tensor<2>) -> Array2<f32> {
    let [rows, columns] = tensor.dims();
    Array2::from_shape_vec((rows, columns), values(tensor)).expect("a value per element")
}

/// Rows of Euclidean length 1.
pub fn unit<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    // CLIP divides by the bare length; the floor only keeps a zero row from becoming NaN.
    let length = x.clone().square().sum_dim(D - 1).sqrt().clamp_min(1e-12);
    x / length
}

/// Scale and shift after normalising each row.
#[derive(Module, Debug)]
pub struct Norm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

impl Norm {
    /// From arrays.
    pub fn new(from: &clip::Norm, m: &mut Maker) -> Norm {
        Norm {
            weight: m.vector(&from.weight),
            bias: m.vector(&from.bias),
        }
    }

    /// To arrays.
    pub fn export(&self) -> clip::Norm {
        clip::Norm {
            weight: Array1::from(values(&self.weight.val())),
            bias: Array1::from(values(&self.bias.val())),
        }
    }

    /// Normalises the last axis.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::layer_norm(
            x,
            self.weight.val(),
            Some(self.bias.val()),
            f64::from(EPSILON),
        )
    }
}

/// A dense layer; its weight lies [inputs, outputs], the transpose of CLIP's.
#[derive(Module, Debug)]
pub struct Dense {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Dense {
    /// From arrays.
    pub fn new(from: &clip::Dense, m: &mut Maker) -> Dense {
        let weight = tensor(&from.weight.t().to_owned(), m.device);
        Dense {
            weight: m.param(weight),
            bias: m.vector(&from.bias),
        }
    }

    /// To arrays.
    pub fn export(&self) -> clip::Dense {
        clip::Dense {
            weight: matrix(&self.weight.val().transpose()),
            bias: Array1::from(values(&self.bias.val())),
        }
    }

    /// [rows, inputs] to [rows, outputs].
    pub fn rows(&self, x: Tensor<2>) -> Tensor<2> {
        module::linear(x, self.weight.val(), Some(self.bias.val()))
    }

    /// [a, b, inputs] to [a, b, outputs], as one product: a product per sample is several times slower.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [a, b, inputs] = x.dims();
        let y = self.rows(x.reshape([a * b, inputs]));
        let outputs = y.dims()[1];
        y.reshape([a, b, outputs])
    }
}

/// A pre-norm transformer block.
#[derive(Module, Debug)]
pub struct Block {
    ln_1: Norm,
    qkv: Dense,
    out: Dense,
    ln_2: Norm,
    fc: Dense,
    proj: Dense,
    heads: usize,
    quick: bool,
}

/// [B, N, width] to [B, heads, N, width / heads].
pub fn split(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, n, width] = x.dims();
    x.reshape([b, n, heads, width / heads]).swap_dims(1, 2)
}

/// The reverse of [`split`].
fn join(x: Tensor<4>) -> Tensor<3> {
    let [b, heads, n, d] = x.dims();
    x.swap_dims(1, 2).reshape([b, n, heads * d])
}

/// softmax(q k^T / sqrt(d) + mask) v.
pub fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<Tensor<4>>) -> Tensor<3> {
    let scale = (q.dims()[3] as f64).powf(-0.5);
    // Scaling the queries is cheaper than scaling the scores.
    let mut scores = q.mul_scalar(scale).matmul(k.transpose());
    if let Some(mask) = mask {
        scores = scores + mask;
    }
    join(softmax(scores, 3).matmul(v))
}

impl Block {
    /// From arrays.
    pub fn new(
        from: &clip::Block,
        heads: usize,
        activation: ActivationKind,
        m: &mut Maker,
    ) -> Block {
        Block {
            ln_1: Norm::new(&from.ln_1, m),
            qkv: Dense::new(&from.qkv, m),
            out: Dense::new(&from.out, m),
            ln_2: Norm::new(&from.ln_2, m),
            fc: Dense::new(&from.fc, m),
            proj: Dense::new(&from.proj, m),
            heads,
            quick: activation == ActivationKind::QuickGelu,
        }
    }

    /// To arrays.
    pub fn export(&self) -> clip::Block {
        clip::Block {
            ln_1: self.ln_1.export(),
            qkv: self.qkv.export(),
            out: self.out.export(),
            ln_2: self.ln_2.export(),
            fc: self.fc.export(),
            proj: self.proj.export(),
        }
    }

    /// Queries, keys and values of each head, [B, heads, N, d].
    pub fn heads_of(&self, x: Tensor<3>) -> [Tensor<4>; 3] {
        let width = x.dims()[2];
        let qkv = self.qkv.forward(self.ln_1.forward(x));
        [0, 1, 2].map(|i| split(qkv.clone().narrow(2, i * width, width), self.heads))
    }

    /// The heads' result through the output projection.
    pub fn project(&self, heads: Tensor<3>) -> Tensor<3> {
        self.out.forward(heads)
    }

    /// x + MLP(ln_2 x).
    pub fn mlp(&self, x: Tensor<3>) -> Tensor<3> {
        let h = self.fc.forward(self.ln_2.forward(x.clone()));
        let h = if self.quick {
            h.clone() * sigmoid(h.mul_scalar(1.702))
        } else {
            gelu(h)
        };
        x + self.proj.forward(h)
    }
}
