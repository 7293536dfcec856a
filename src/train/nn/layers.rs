//! What both towers are made of: normalisation, dense layer, pre-norm block.

use crate::bundle::manifest::ActivationKind;
use crate::train::clip;
use burn::module::{Module, Param, ParamId};
use burn::tensor::activation::{gelu, sigmoid, softmax};
use burn::tensor::{Device, FloatDType, Tensor, TensorData, module};
use clap::ValueEnum;
use ndarray::{Array, Array1, Array2, Dimension};
use serde::{Deserialize, Serialize};

/// A mask value that is as good as minus infinity and finite in f16 too.
pub const HIDDEN: f32 = -1e4;

/// The numbers of matrix products. Parameters, normalisations, softmaxes and losses are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// As everything else.
    #[default]
    F32,
    /// Half the memory traffic and a GPU's fast units; slower than f32 on a CPU.
    Bf16,
}

impl Products {
    /// a b.
    pub fn of<const D: usize>(self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        match self {
            Products::F32 => a.matmul(b),
            Products::Bf16 => a
                .cast(FloatDType::BF16)
                .matmul(b.cast(FloatDType::BF16))
                .cast(FloatDType::F32),
        }
    }
}

/// Makes parameters with ids counted from one: a saved optimizer finds its parameters again.
pub struct Maker<'a> {
    /// Where tensors are made.
    pub device: &'a Device,
    /// Whether they learn.
    pub trainable: bool,
    /// The numbers of the matrix products that they enter.
    pub products: Products,
    next: u64,
}

impl<'a> Maker<'a> {
    /// Counts from one.
    pub fn new(device: &'a Device, trainable: bool) -> Self {
        Maker {
            device,
            trainable,
            products: Products::F32,
            next: 0,
        }
    }

    /// The same with other products.
    pub fn with(self, products: Products) -> Self {
        Maker { products, ..self }
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
    let values = array.as_standard_layout().iter().copied().collect();
    let shape = array.shape().try_into().expect("as many axes");
    put(values, shape, device)
}

/// Values on a device.
pub fn put<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
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
    #[module(skip)]
    epsilon: f32,
}

impl Norm {
    /// From arrays; `epsilon` is added to the variance.
    pub fn new(from: &clip::Norm, epsilon: f32, m: &mut Maker) -> Norm {
        Norm {
            weight: m.vector(&from.weight),
            bias: m.vector(&from.bias),
            epsilon,
        }
    }

    /// The layer's numbers as arrays.
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
            f64::from(self.epsilon),
        )
    }
}

/// A dense layer; its weight lies [inputs, outputs], the transpose of CLIP's.
#[derive(Module, Debug)]
pub struct Dense {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    products: Products,
}

impl Dense {
    /// Makes the layer from arrays.
    pub fn new(from: &clip::Dense, m: &mut Maker) -> Dense {
        let weight = tensor(&from.weight.t().to_owned(), m.device);
        Dense {
            weight: m.param(weight),
            bias: m.vector(&from.bias),
            products: m.products,
        }
    }

    /// The layer's weights as arrays.
    pub fn export(&self) -> clip::Dense {
        clip::Dense {
            weight: matrix(&self.weight.val().transpose()),
            bias: Array1::from(values(&self.bias.val())),
        }
    }

    /// [rows, inputs] to [rows, outputs].
    pub fn rows(&self, x: Tensor<2>) -> Tensor<2> {
        match self.products {
            Products::F32 => module::linear(x, self.weight.val(), Some(self.bias.val())),
            half => half.of(x, self.weight.val()) + self.bias.val().unsqueeze_dim(0),
        }
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
    #[module(skip)]
    products: Products,
}

/// [B, N, width] to [B, heads, N, width / heads].
pub fn split(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, n, width] = x.dims();
    x.reshape([b, n, heads, width / heads]).swap_dims(1, 2)
}

/// The reverse of [`split`].
pub fn join(x: Tensor<4>) -> Tensor<3> {
    let [b, heads, n, d] = x.dims();
    x.swap_dims(1, 2).reshape([b, n, heads * d])
}

impl Block {
    /// Makes the layer from arrays.
    pub fn new(
        from: &clip::Block,
        heads: usize,
        epsilon: f32,
        activation: ActivationKind,
        m: &mut Maker,
    ) -> Block {
        Block {
            ln_1: Norm::new(&from.ln_1, epsilon, m),
            qkv: Dense::new(&from.qkv, m),
            out: Dense::new(&from.out, m),
            ln_2: Norm::new(&from.ln_2, epsilon, m),
            fc: Dense::new(&from.fc, m),
            proj: Dense::new(&from.proj, m),
            heads,
            quick: activation == ActivationKind::QuickGelu,
            products: m.products,
        }
    }

    /// The block's numbers as arrays.
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

    /// softmax(q k^T / sqrt(d) + mask) v through the output projection.
    pub fn attend(
        &self,
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        mask: Option<Tensor<4>>,
    ) -> Tensor<3> {
        let scale = (q.dims()[3] as f64).powf(-0.5);
        // Scaling the queries is cheaper than scaling the scores.
        let mut scores = self.products.of(q.mul_scalar(scale), k.transpose());
        if let Some(mask) = mask {
            scores = scores + mask;
        }
        self.out
            .forward(join(self.products.of(softmax(scores, 3), v)))
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
