//! Single operators, tensors, and what both towers are made of.

use super::Graph;
use crate::bundle::manifest::ActivationKind;
use crate::ops::activation::QUICK_GELU;
use crate::ops::{reshape, slice};
use half::f16;
use tract_core::internal::*;
use tract_core::ops::array::Slice;
use tract_core::ops::cast::cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math;
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Silu, Softmax, SoftmaxKind};

/// What both towers are made of.
impl Graph<'_> {
    /// `gamma * (x - mean) / sqrt(var + epsilon) + beta` of each row, as `to`.
    pub(super) fn layer_norm(
        &mut self,
        name: &str,
        x: OutletId,
        width: usize,
        to: DatumType,
    ) -> TractResult<OutletId> {
        let gamma = self.vector(&format!("{name}.weight"), width, f32::datum_type())?;
        let beta = self.vector(&format!("{name}.bias"), width, to)?;
        let sum = self.sum(&format!("{name}.sum"), x, 1)?;
        let mean = self.scale(&format!("{name}.mean"), sum, 1.0 / width as f32)?;
        let x = self.wire(&format!("{name}.centred"), math::sub(), &[x, mean])?;
        // Of a centred row the mean square is the variance.
        let norm = RmsNorm {
            axis: 1,
            eps: tensor0(self.bundle.manifest().epsilon(self.part)).into_arc_tensor(),
        };
        let x = self.wire(&format!("{name}.normed"), norm, &[x])?;
        let x = self.multiply(&format!("{name}.scaled"), x, gamma)?;
        let x = self.cast(&format!("{name}.cast"), x, to)?;
        self.add(&format!("{name}.shifted"), x, beta)
    }

    /// Queries, keys and values of a block, each [rows, width].
    pub(super) fn qkv(
        &mut self,
        block: &str,
        x: OutletId,
        width: usize,
    ) -> TractResult<[OutletId; 3]> {
        let normed = self.layer_norm(&format!("{block}.ln_1"), x, width, self.numbers)?;
        let (name, shape) = (format!("{block}.qkv"), [3 * width, width]);
        let weights = self.weights(&format!("{name}.weight"), shape, self.numbers)?;
        let bias = self.vector(&format!("{name}.bias"), 3 * width, self.numbers)?;
        let qkv = self.product(&name, normed, weights)?;
        let qkv = self.add(&format!("{name}.sum"), qkv, bias)?;
        let mut parts = [qkv; 3];
        for (i, part) in parts.iter_mut().enumerate() {
            *part = self.slice(&format!("{name}.{i}"), qkv, 1, i * width, (i + 1) * width)?;
        }
        Ok(parts)
    }

    /// `x + layer(out / factor)` in f32.
    pub(super) fn onto(
        &mut self,
        name: &str,
        layer: &str,
        factor: f32,
        [out, x]: [OutletId; 2],
        shape: [usize; 2],
    ) -> TractResult<OutletId> {
        let weights = self.scaled_weights(
            &format!("{layer}.weight"),
            shape,
            self.numbers,
            1.0 / factor,
        )?;
        let bias = self.vector(&format!("{layer}.bias"), shape[0], f32::datum_type())?;
        let sum = self.product(&format!("{name}.product"), out, weights)?;
        let sum = self.cast(&format!("{name}.cast"), sum, f32::datum_type())?;
        let sum = self.add(&format!("{name}.sum"), sum, bias)?;
        self.add(name, x, sum)
    }

    /// `x + c_proj(activation(c_fc(ln_2 x)))`.
    pub(super) fn dense(
        &mut self,
        block: &str,
        x: OutletId,
        width: usize,
    ) -> TractResult<OutletId> {
        let quick = self.bundle.manifest().activation == ActivationKind::QuickGelu;
        // 1.702 QuickGELU(x) = silu(1.702 x): both factors go into the weights.
        let factor = if quick { QUICK_GELU } else { 1.0 };
        let normed = self.layer_norm(&format!("{block}.ln_2"), x, width, self.numbers)?;
        let fc = format!("{block}.fc");
        let shape = [4 * width, width];
        let weights = self.scaled_weights(&format!("{fc}.weight"), shape, self.numbers, factor)?;
        let name = format!("{fc}.bias");
        let bias = self.once(&name, self.numbers, |graph| {
            let values = graph.values(&name, &[4 * width])?;
            let values: Vec<f32> = values.iter().map(|b| b * factor).collect();
            Tensor::from_shape(&[1, 4 * width], &values)
        })?;
        let h = self.product(&fc, normed, weights)?;
        let h = self.add(&format!("{fc}.sum"), h, bias)?;
        let h = if quick {
            self.wire(
                &format!("{fc}.silu"),
                ElementWiseOp(Box::new(Silu {}), None),
                &[h],
            )?
        } else {
            self.gelu(&format!("{fc}.gelu"), h)?
        };
        let shape = [width, 4 * width];
        self.onto(
            &format!("{block}.mlp"),
            &format!("{block}.proj"),
            factor,
            [h, x],
            shape,
        )
    }

    /// x (1 + erf(x / sqrt 2)) / 2.
    pub(super) fn gelu(&mut self, name: &str, x: OutletId) -> TractResult<OutletId> {
        let scaled = self.scale(name, x, std::f32::consts::FRAC_1_SQRT_2)?;
        let erf = self.wire(name, tract_core::ops::math::erf(), &[scaled])?;
        let half = self.scale(name, erf, 0.5)?;
        let half_constant = tensor2(&[[0.5f32]]).cast_to_dt(self.numbers)?.into_owned();
        let one_half = self.constant(name, half_constant)?;
        let gate = self.add(name, half, one_half)?;
        self.multiply(name, x, gate)
    }

    /// [rows, width] to [heads, rows, width / heads].
    pub(super) fn heads(
        &mut self,
        name: &str,
        x: OutletId,
        rows: usize,
        heads: usize,
        width: usize,
    ) -> TractResult<OutletId> {
        let x = self.reshape(name, x, &[rows, width], &[rows, heads, width / heads])?;
        self.shift(name, x, 0, 1)
    }

    /// The reverse of [`Graph::heads`].
    pub(super) fn join(
        &mut self,
        name: &str,
        x: OutletId,
        rows: usize,
        heads: usize,
        width: usize,
    ) -> TractResult<OutletId> {
        let x = self.shift(name, x, 1, 0)?;
        self.reshape(name, x, &[rows, heads, width / heads], &[rows, width])
    }

    /// softmax(q k^T / sqrt(d)) v of each head, [heads, rows, d].
    #[cfg(feature = "cuda-runtime")]
    pub(super) fn attention(
        &mut self,
        name: &str,
        qkv: [OutletId; 3],
        d: usize,
    ) -> TractResult<OutletId> {
        // The only form that tract's CUDA runtime has a flash attention for; N x N never exists.
        let mut inputs = tvec!();
        for x in qkv {
            inputs.push(self.wire(name, AxisOp::Add(0), &[x])?);
        }
        let sdpa = tract_transformers::ops::sdpa::Sdpa {
            scale: Some(tensor0(1.0 / (d as f32).sqrt())),
            datum_type: self.numbers,
            acc_datum_type: f32::datum_type(),
            is_causal: false,
        };
        let out = self.wire(name, sdpa, &inputs)?;
        self.wire(name, AxisOp::Rm(0), &[out])
    }

    /// softmax(q k^T / sqrt(d)) v of each head, [heads, rows, d].
    #[cfg(not(feature = "cuda-runtime"))]
    pub(super) fn attention(
        &mut self,
        name: &str,
        qkv: [OutletId; 3],
        d: usize,
    ) -> TractResult<OutletId> {
        self.soft_attention(name, qkv, d, None)
    }

    /// softmax(q k^T / sqrt(d) + mask) v, the last two axes of each.
    pub(super) fn soft_attention(
        &mut self,
        name: &str,
        [q, k, v]: [OutletId; 3],
        d: usize,
        mask: Option<Tensor>,
    ) -> TractResult<OutletId> {
        let q = self.scale(name, q, 1.0 / (d as f32).sqrt())?;
        let (rank, batch) = match self.model.outlet_fact(q)?.rank() {
            4 => (4, "ab"),
            rank => (rank, "a"),
        };
        let axes = |formula: &str| formula.replace('_', batch).parse();
        let scores = EinSum::new(axes("_md,_nd->_mn")?, self.numbers);
        let mut scores = self.wire(name, scores, &[q, k])?;
        if let Some(mask) = mask {
            let mask = mask.cast_to_dt(self.numbers)?.into_owned();
            let mask = self.constant(name, mask)?;
            scores = self.add(name, scores, mask)?;
        }
        let softmax = Softmax::new(tvec![rank - 1], None, SoftmaxKind::Softmax);
        let weights = self.wire(name, softmax, &[scores])?;
        let sum = EinSum::new(axes("_mn,_nd->_md")?, self.numbers);
        self.wire(name, sum, &[weights, v])
    }
}

/// Single operators and tensors.
impl Graph<'_> {
    pub(super) fn name(&self, name: &str) -> String {
        let name = format!("{}.{name}", self.part);
        self.model.unique_name(name).into_owned()
    }

    pub(super) fn wire(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        let name = self.name(name);
        Ok(self.model.wire_node(name, op, inputs)?[0])
    }

    pub(super) fn constant(&mut self, name: &str, value: Tensor) -> TractResult<OutletId> {
        let name = self.name(name);
        self.model.add_const(name, value)
    }

    /// The tensor `part/name` as numbers.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> TractResult<Vec<f32>> {
        let tensor = self
            .bundle
            .tensor(&format!("{}/{name}", self.part), shape)?;
        Ok(slice(&tensor)?.to_vec())
    }

    /// The tensor `part/name`, of as many elements as `shape` has.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> TractResult<OutletId> {
        // Prototypes and the class row are stored without the leading axis of one.
        let stored = if shape[0] == 1 { &shape[1..] } else { shape };
        let values = self.values(name, stored)?;
        self.constant(name, Tensor::from_shape(shape, &values)?)
    }

    /// The tensor `part/name` [len] as a row [1, len] of `numbers`.
    pub(super) fn vector(
        &mut self,
        name: &str,
        len: usize,
        numbers: DatumType,
    ) -> TractResult<OutletId> {
        self.once(name, numbers, |graph| {
            Tensor::from_shape(&[1, len], &graph.values(name, &[len])?)
        })
    }

    /// A tensor of the bundle in these numbers, on the device once.
    pub(super) fn once(
        &mut self,
        name: &str,
        numbers: DatumType,
        make: impl FnOnce(&Self) -> TractResult<Tensor>,
    ) -> TractResult<OutletId> {
        let key = format!("{}/{name} {numbers:?}", self.part);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let tensor = make(self)?.cast_to_dt(numbers)?.into_owned();
        if numbers == f16::datum_type() {
            let values = tensor.try_as_plain_ram()?.as_slice::<f16>()?;
            ensure!(
                values.iter().all(|v| v.is_finite()),
                "tensor `{}/{name}` holds a number beyond f16, which ends at {}: take f32",
                self.part,
                f16::MAX
            );
        }
        let outlet = self.constant(name, tensor)?;
        self.known.insert(key, outlet);
        Ok(outlet)
    }

    pub(super) fn weights(
        &mut self,
        name: &str,
        shape: [usize; 2],
        numbers: DatumType,
    ) -> TractResult<OutletId> {
        self.scaled_weights(name, shape, numbers, 1.0)
    }

    /// The matrix `part/name` [outputs, inputs] times `factor`.
    pub(super) fn scaled_weights(
        &mut self,
        name: &str,
        shape: [usize; 2],
        numbers: DatumType,
        factor: f32,
    ) -> TractResult<OutletId> {
        self.once(name, numbers, |graph| {
            let name = format!("{}/{name}", graph.part);
            let mut values = graph.bundle.matrix(&name, shape)?.values()?;
            if factor != 1.0 {
                values.iter_mut().for_each(|v| *v *= factor);
            }
            Tensor::from_shape(&shape, &values)
        })
    }

    /// `x` [rows, inputs] times the transpose of `weights` [outputs, inputs], in the weights' numbers.
    pub(super) fn product(
        &mut self,
        name: &str,
        x: OutletId,
        weights: OutletId,
    ) -> TractResult<OutletId> {
        let numbers = self.model.outlet_fact(weights)?.datum_type;
        let x = self.cast(&format!("{name}.input"), x, numbers)?;
        self.wire(
            name,
            EinSum::new("mk,nk->mn".parse()?, numbers),
            &[x, weights],
        )
    }

    pub(super) fn cast(&mut self, name: &str, x: OutletId, to: DatumType) -> TractResult<OutletId> {
        if self.model.outlet_fact(x)?.datum_type == to {
            return Ok(x);
        }
        self.wire(name, cast(to), &[x])
    }

    pub(super) fn add(&mut self, name: &str, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.wire(name, math::add(), &[a, b])
    }

    pub(super) fn multiply(
        &mut self,
        name: &str,
        a: OutletId,
        b: OutletId,
    ) -> TractResult<OutletId> {
        self.wire(name, math::mul(), &[a, b])
    }

    /// `x` times a number.
    pub(super) fn scale(&mut self, name: &str, x: OutletId, factor: f32) -> TractResult<OutletId> {
        let fact = self.model.outlet_fact(x)?;
        let factor = tensor0(factor)
            .cast_to_dt(fact.datum_type)?
            .into_owned()
            .broadcast_into_rank(fact.rank())?;
        let factor = self.constant(&format!("{name}.factor"), factor)?;
        self.multiply(name, x, factor)
    }

    /// The sum along an axis, which stays as one of length 1.
    pub(super) fn sum(&mut self, name: &str, x: OutletId, axis: usize) -> TractResult<OutletId> {
        self.wire(name, Reduce::new(tvec![axis], Reducer::Sum), &[x])
    }

    pub(super) fn slice(
        &mut self,
        name: &str,
        x: OutletId,
        axis: usize,
        from: usize,
        to: usize,
    ) -> TractResult<OutletId> {
        self.wire(name, Slice::new(axis, from, to), &[x])
    }

    /// Moves an axis to another place.
    pub(super) fn shift(
        &mut self,
        name: &str,
        x: OutletId,
        from: usize,
        to: usize,
    ) -> TractResult<OutletId> {
        self.wire(name, AxisOp::Move(from, to), &[x])
    }

    /// The same elements in another shape.
    pub(super) fn reshape(
        &mut self,
        name: &str,
        x: OutletId,
        from: &[usize],
        to: &[usize],
    ) -> TractResult<OutletId> {
        self.wire(name, reshape(from, to), &[x])
    }
}
