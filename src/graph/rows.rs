//! A network of the user's own, brought to this project's kernels: pictures channels last, a row of channels for each
//! place, convolutions and products with constant matrices as [`Convolution`]s, with bias, ReLU and the sum of a
//! residual block in them.
//!
//! tract's own operators stay where these cannot be used (grouped kernels, pooling, attention, ...): a value is brought
//! back to the order that the graph says, once, where one of them wants it.

use crate::ops::activation::Activation;
use crate::ops::conv::{Convolution, Geometry, Kernel};
use crate::ops::slice;
use crate::ops::weights::{Arithmetic, Matrix, Weights};
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::cnn::{Conv, KernelFormat};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Max, Min};
use tract_core::ops::nn::Reduce;
use tract_core::ops::source::TypedSource;

/// The same network with the same outputs, on this project's kernels wherever that is possible.
///
/// # Errors
/// tract's own, for a graph that does not hold together.
pub(crate) fn on_rows(model: &TypedModel) -> TractResult<TypedModel> {
    let mut rewriter = Rewriter {
        old: model,
        new: TypedModel::default(),
        values: HashMap::new(),
    };
    for node in model.eval_order()? {
        rewriter.node(model.node(node))?;
    }
    let outputs = model.output_outlets()?.iter();
    let outputs: TVec<OutletId> = outputs
        .map(|o| rewriter.plain(*o))
        .collect::<TractResult<_>>()?;
    rewriter.new.select_output_outlets(&outputs)?;
    Ok(rewriter.new)
}

/// A layer that is not in the new model yet: what follows may still become part of it.
#[derive(Clone)]
struct Layer {
    name: String,
    op: Convolution,
    inputs: TVec<OutletId>,
}

/// A value of the old model in the new one: as the old one has it, or as rows [places, channels], or both.
#[derive(Clone, Default)]
struct Value {
    plain: Option<OutletId>,
    rows: Option<OutletId>,
    /// What makes the rows.
    layer: Option<Layer>,
    /// Which of the old value's axes is the rows' channels; the others are the places, in raster order.
    axis: usize,
}

impl Value {
    fn plain(outlet: OutletId) -> Value {
        Value {
            plain: Some(outlet),
            ..Value::default()
        }
    }

    fn rows(outlet: OutletId, axis: usize) -> Value {
        Value {
            rows: Some(outlet),
            axis,
            ..Value::default()
        }
    }

    fn layer(layer: Layer, axis: usize) -> Value {
        Value {
            layer: Some(layer),
            axis,
            ..Value::default()
        }
    }

    fn has_rows(&self) -> bool {
        self.rows.is_some() || self.layer.is_some()
    }
}

/// Constants beside rows.
enum Beside {
    Uniform(f32),
    PerChannel(Vec<f32>),
}

struct Rewriter<'a> {
    old: &'a TypedModel,
    new: TypedModel,
    values: HashMap<OutletId, Value>,
}

impl Rewriter<'_> {
    fn node(&mut self, node: &TypedNode) -> TractResult<()> {
        if node.op_is::<TypedSource>() {
            let fact = node.outputs[0].fact.clone();
            let outlet = self.new.add_source(&node.name, fact)?;
            self.values.insert(node.id.into(), Value::plain(outlet));
            return Ok(());
        }
        if let Some(value) = self.on_rows(node)? {
            self.values.insert(node.id.into(), value);
            return Ok(());
        }
        let inputs = node.inputs.iter().map(|o| self.plain(*o));
        let inputs: TVec<OutletId> = inputs.collect::<TractResult<_>>()?;
        let outlets = self.new.wire_node(&node.name, node.op.clone(), &inputs)?;
        for (i, outlet) in outlets.into_iter().enumerate() {
            self.values
                .insert(OutletId::new(node.id, i), Value::plain(outlet));
        }
        Ok(())
    }

    /// What a node makes in rows; `None`: it has to be computed as it stands.
    fn on_rows(&mut self, node: &TypedNode) -> TractResult<Option<Value>> {
        let outputs = node.outputs.iter().map(|o| &o.fact);
        let inputs = node.inputs.iter().map(|o| self.old.outlet_fact(*o));
        let inputs: TVec<&TypedFact> = inputs.collect::<TractResult<_>>()?;
        let plain = |f: &TypedFact| {
            f.datum_type == f32::datum_type() && f.is_plain() && f.shape.as_concrete().is_some()
        };
        if node.outputs.len() != 1 || !outputs.chain(inputs).all(plain) {
            return Ok(None);
        }
        if let Some(op) = node.op_as::<Conv>() {
            return self.convolution(node, op);
        }
        if let Some(op) = node.op_as::<EinSum>() {
            return self.product(node, op);
        }
        if let Some(op) = node.op_as::<AxisOp>() {
            return self.axes(node, op);
        }
        if let Some(op) = node.op_as::<TypedBinOp>() {
            return self.pair(node, op);
        }
        if let Some(op) = node.op_as::<Reduce>() {
            return self.reduction(node, op);
        }
        let axis = match node.op_is::<ElementWiseOp>() {
            true => self.has_rows(node.inputs[0]),
            false => None,
        };
        let Some(axis) = axis else { return Ok(None) };
        let x = self.rows(node.inputs[0], axis)?;
        let out = self.new.wire_node(&node.name, node.op.clone(), &[x])?[0];
        Ok(Some(Value::rows(out, axis)))
    }

    /// The axis of channels of a value that there is in rows.
    fn has_rows(&self, o: OutletId) -> Option<usize> {
        let value = self.values.get(&o)?;
        value.has_rows().then_some(value.axis)
    }

    fn shape(&self, o: OutletId) -> TractResult<TVec<usize>> {
        let shape = &self.old.outlet_fact(o)?.shape;
        Ok(shape.as_concrete().context("a shape that is open")?.into())
    }

    fn constant(&self, o: OutletId) -> TractResult<Option<Arc<Tensor>>> {
        Ok(self.old.outlet_fact(o)?.konst.clone())
    }

    /// Whether nothing but one operator sees it.
    fn is_passing(&self, o: OutletId) -> bool {
        self.old.outlet_successors(o).len() == 1 && !self.old.outputs.contains(&o)
    }

    fn value(&mut self, o: OutletId) -> TractResult<&mut Value> {
        self.values.get_mut(&o).context("a value out of order")
    }

    /// Takes the layer that makes a value, if nothing else wants the value.
    fn take_layer(&mut self, o: OutletId) -> TractResult<Option<Layer>> {
        match self.is_passing(o) {
            true => Ok(self.value(o)?.layer.take()),
            false => Ok(None),
        }
    }

    fn wire_axes(&mut self, name: &str, op: AxisOp, x: OutletId) -> TractResult<OutletId> {
        let name = self.new.unique_name(name).into_owned();
        Ok(self.new.wire_node(name, op, &[x])?[0])
    }

    fn reshape(
        &mut self,
        name: &str,
        x: OutletId,
        from: &[usize],
        to: &[usize],
    ) -> TractResult<OutletId> {
        if from == to {
            return Ok(x);
        }
        let dims = |shape: &[usize]| shape.iter().map(|n| n.to_dim()).collect();
        self.wire_axes(name, AxisOp::Reshape(0, dims(from), dims(to)), x)
    }

    /// A value as rows whose channels are this axis of the old value.
    fn rows(&mut self, o: OutletId, axis: usize) -> TractResult<OutletId> {
        let value = self.value(o)?;
        if let Some(layer) = value.layer.take() {
            let outlet = self.new.wire_node(layer.name, layer.op, &layer.inputs)?[0];
            self.value(o)?.rows = Some(outlet);
        }
        let value = self.value(o)?;
        if let (Some(rows), true) = (value.rows, value.axis == axis) {
            return Ok(rows);
        }
        let mut x = self.plain(o)?;
        let name = format!("{}.rows", self.old.node(o.node).name);
        let mut shape = self.shape(o)?;
        let channels = shape.remove(axis);
        if axis != shape.len() {
            x = self.wire_axes(&name, AxisOp::Move(axis, shape.len()), x)?;
        }
        let places = shape.iter().product();
        shape.push(channels);
        let rows = self.reshape(&name, x, &shape, &[places, channels])?;
        let value = self.value(o)?;
        if value.rows.is_none() {
            (value.rows, value.axis) = (Some(rows), axis);
        }
        Ok(rows)
    }

    /// A value as the old model has it.
    fn plain(&mut self, o: OutletId) -> TractResult<OutletId> {
        let value = self.value(o)?;
        if let Some(plain) = value.plain {
            return Ok(plain);
        }
        let axis = value.axis;
        let rows = self.rows(o, axis)?;
        let name = format!("{}.plain", self.old.node(o.node).name);
        let mut shape = self.shape(o)?;
        let channels = shape.remove(axis);
        let places = shape.iter().product();
        shape.push(channels);
        let mut x = self.reshape(&name, rows, &[places, channels], &shape)?;
        if axis + 1 != shape.len() {
            x = self.wire_axes(&name, AxisOp::Move(shape.len() - 1, axis), x)?;
        }
        self.value(o)?.plain = Some(x);
        Ok(x)
    }

    fn convolution(&mut self, node: &TypedNode, conv: &Conv) -> TractResult<Option<Value>> {
        let [x, kernel, bias] = *node.inputs else {
            return Ok(None);
        };
        let (Some(kernel), Some(bias)) = (self.constant(kernel)?, self.constant(bias)?) else {
            return Ok(None);
        };
        let pool = &conv.pool_spec;
        let shape = self.shape(x)?;
        let data = pool.data_format.shape(shape)?;
        let (&[h, w], 1, None) = (data.hw_dims(), *data.n().unwrap_or(&1), &conv.q_params) else {
            return Ok(None);
        };
        let padding = pool.computed_padding(&[h, w]);
        let geometry = Geometry {
            input: [h, w],
            output: [padding[0].convoluted, padding[1].convoluted],
            kernel: [pool.kernel_shape[0], pool.kernel_shape[1]],
            stride: [pool.stride(0), pool.stride(1)],
            dilation: [pool.dilation(0), pool.dilation(1)],
            before: [padding[0].pad_before, padding[1].pad_before],
        };
        let (outputs, steps) = (pool.output_channels, pool.kernel_shape.iter().product());
        let last: &[usize] = match conv.kernel_fmt {
            KernelFormat::OIHW => &[0, 2, 3, 1],
            KernelFormat::HWIO => &[3, 0, 1, 2],
            KernelFormat::OHWI => &[0, 1, 2, 3],
        };
        let kernel = kernel.into_tensor().permute_axes(last)?;
        let kernel = match conv.group {
            1 => self.packed(kernel.into_shape(&[outputs, steps * pool.input_channels])?)?,
            group if group == outputs && group == pool.input_channels => {
                if conv.kernel_fmt == KernelFormat::HWIO {
                    return Ok(None);
                }
                let taps = kernel
                    .into_shape(&[outputs, steps])?
                    .permute_axes(&[1, 0])?;
                Kernel::Depthwise(Arc::new(taps))
            }
            _ => return Ok(None),
        };
        if !geometry.is_covered() {
            return Ok(None);
        }
        let bias = match bias.len() {
            1 => vec![slice(&bias)?[0]; outputs],
            _ => slice(&bias)?.to_vec(),
        };
        let axis = data.c_axis();
        let layer = Layer {
            name: node.name.clone(),
            op: Convolution {
                geometry,
                kernel,
                bias: Some(Arc::new(Tensor::from_shape(&[outputs], &bias)?)),
                activation: Activation::None,
                residual: false,
            },
            inputs: tvec!(self.rows(x, axis)?),
        };
        Ok(Some(Value::layer(layer, axis)))
    }

    fn packed(&self, matrix: Tensor) -> TractResult<Kernel> {
        let weights = Weights::pack(&Matrix::F32(matrix), Arithmetic::F32)?;
        Ok(Kernel::Dense(Arc::new(weights)))
    }

    /// A product of rows with a constant matrix.
    fn product(&mut self, node: &TypedNode, einsum: &EinSum) -> TractResult<Option<Value>> {
        let [a, b] = *node.inputs else {
            return Ok(None);
        };
        let (data, weights, kernel) = match (self.constant(a)?, self.constant(b)?) {
            (None, Some(kernel)) => (0, 1, kernel),
            (Some(kernel), None) => (1, 0, kernel),
            _ => return Ok(None),
        };
        if einsum.q_params.is_some() {
            return Ok(None);
        }
        let x = node.inputs[data];
        let (mut inner, mut outer, mut places) = (vec![], vec![], vec![]);
        for axis in einsum.axes.iter_all_axes() {
            let [of_data, of_weights] = [data, weights].map(|slot| &axis.inputs[slot]);
            match (&**of_data, &**of_weights, &*axis.outputs[0]) {
                ([d], [w], []) => inner.push((*d, *w)),
                ([], [w], [o]) => outer.push((*o, *w)),
                ([d], [], [o]) => places.push((*d, *o)),
                // A batch of one.
                ([d], [w], [o]) if self.shape(x)?[*d] == 1 && kernel.shape()[*w] == 1 => {
                    places.push((*d, *o))
                }
                _ => return Ok(None),
            }
        }
        places.sort();
        let ([(channels, k)], [(axis, n)]) = (&*inner, &*outer) else {
            return Ok(None);
        };
        // Rows are there, or are how the value lies anyway.
        let free = *channels + 1 == self.shape(x)?.len();
        let ordered = places.is_sorted_by(|a, b| a.1 < b.1);
        if !ordered || self.has_rows(x) != Some(*channels) && !free {
            return Ok(None);
        }
        let sizes = [kernel.shape()[*n], kernel.shape()[*k]];
        if sizes[0] * sizes[1] != kernel.len() {
            return Ok(None);
        }
        let order: Vec<usize> = [*n, *k]
            .into_iter()
            .chain((0..kernel.rank()).filter(|i| i != n && i != k))
            .collect();
        let kernel = self.packed(
            kernel
                .into_tensor()
                .permute_axes(&order)?
                .into_shape(&sizes)?,
        )?;
        let rows = self.rows(x, *channels)?;
        let count = self.shape(x)?.iter().product::<usize>() / sizes[1];
        let layer = Layer {
            name: node.name.clone(),
            op: Convolution {
                geometry: Geometry::pointwise([1, count]),
                kernel,
                bias: None,
                activation: Activation::None,
                residual: false,
            },
            inputs: tvec!(rows),
        };
        Ok(Some(Value::layer(layer, *axis)))
    }

    /// Axes that are named otherwise: nothing is moved as long as the places stay in their order.
    fn axes(&mut self, node: &TypedNode, op: &AxisOp) -> TractResult<Option<Value>> {
        let x = node.inputs[0];
        let Some(axis) = self.has_rows(x) else {
            return Ok(None);
        };
        let shape = self.shape(x)?;
        let moved = match op {
            AxisOp::Add(at) => axis + (*at <= axis) as usize,
            AxisOp::Rm(at) if *at != axis => axis - (*at < axis) as usize,
            AxisOp::Move(from, to) => {
                let mut order: Vec<usize> = (0..shape.len()).collect();
                let taken = order.remove(*from);
                order.insert(*to, taken);
                let places = order.iter().filter(|i| **i != axis && shape[**i] > 1);
                match places.is_sorted() {
                    true => order.iter().position(|i| *i == axis).unwrap_or(0),
                    false => return Ok(None),
                }
            }
            AxisOp::Reshape(at, _, _) if axis < *at => axis,
            AxisOp::Reshape(at, from, to) if axis >= at + from.len() => {
                axis + to.len() - from.len()
            }
            _ => return Ok(None),
        };
        if let Some(layer) = self.take_layer(x)? {
            return Ok(Some(Value::layer(layer, moved)));
        }
        let rows = self.rows(x, axis)?;
        Ok(Some(Value::rows(rows, moved)))
    }

    /// One row of all places.
    fn reduction(&mut self, node: &TypedNode, op: &Reduce) -> TractResult<Option<Value>> {
        let x = node.inputs[0];
        let Some(axis) = self.has_rows(x) else {
            return Ok(None);
        };
        let shape = self.shape(x)?;
        let whole = (0..shape.len()).all(|i| i == axis || shape[i] == 1 || op.axes.contains(&i));
        if !whole || op.axes.contains(&axis) {
            return Ok(None);
        }
        let rows = self.rows(x, axis)?;
        let op = Reduce::new(tvec!(0), op.reducer);
        let out = self.new.wire_node(&node.name, op, &[rows])?[0];
        Ok(Some(Value::rows(out, axis)))
    }

    /// A constant as what it does to rows of a value of this shape.
    fn beside(
        &self,
        constant: &Tensor,
        shape: &[usize],
        axis: usize,
    ) -> TractResult<Option<Beside>> {
        let values = slice(constant)?;
        if let [value] = values {
            return Ok((constant.rank() <= shape.len()).then_some(Beside::Uniform(*value)));
        }
        let fits = constant.rank() == shape.len()
            && constant.shape()[axis] == shape[axis]
            && constant.len() == shape[axis];
        Ok(fits.then(|| Beside::PerChannel(values.to_vec())))
    }

    /// An operator of two values, element by element.
    fn pair(&mut self, node: &TypedNode, op: &TypedBinOp) -> TractResult<Option<Value>> {
        let [a, b] = *node.inputs else {
            return Ok(None);
        };
        let out = self.shape(node.id.into())?;
        if let (None, None) = (self.constant(a)?, self.constant(b)?) {
            return self.sum(node, op, [a, b], &out);
        }
        let (x, constant, first) = match (self.constant(a)?, self.constant(b)?) {
            (None, Some(constant)) => (a, constant, true),
            (Some(constant), None) => (b, constant, false),
            _ => return Ok(None),
        };
        let Some(axis) = self
            .has_rows(x)
            .filter(|_| self.shape(x).is_ok_and(|s| s == out))
        else {
            return Ok(None);
        };
        let Some(beside) = self.beside(&constant, &out, axis)? else {
            return Ok(None);
        };
        if let Some(mut layer) = self.take_layer(x)? {
            if absorb(&mut layer.op, op, &beside)? {
                return Ok(Some(Value::layer(layer, axis)));
            }
            self.value(x)?.layer = Some(layer);
        }
        let rows = self.rows(x, axis)?;
        let constant = match beside {
            Beside::Uniform(value) => Tensor::from_shape(&[1, 1], &[value])?,
            Beside::PerChannel(values) => Tensor::from_shape(&[1, values.len()], &values)?,
        };
        let name = self
            .new
            .unique_name(format!("{}.beside", node.name))
            .into_owned();
        let constant = self.new.add_const(name, constant)?;
        let inputs = if first {
            [rows, constant]
        } else {
            [constant, rows]
        };
        let out = self.new.wire_node(&node.name, op.clone(), &inputs)?[0];
        Ok(Some(Value::rows(out, axis)))
    }

    /// An operator of two values of one shape, or of one and a row for all of its places; neither is constant.
    fn sum(
        &mut self,
        node: &TypedNode,
        op: &TypedBinOp,
        [a, b]: [OutletId; 2],
        shape: &[usize],
    ) -> TractResult<Option<Value>> {
        let (Some(axis), Some(other)) = (self.has_rows(a), self.has_rows(b)) else {
            return Ok(None);
        };
        let shapes = [self.shape(a)?, self.shape(b)?];
        let whole = shapes.each_ref().map(|own| **own == *shape);
        let row = |own: &[usize]| {
            (0..shape.len()).all(|i| own[i] == if i == axis { shape[i] } else { 1 })
        };
        if axis != other
            || !shapes
                .iter()
                .zip(whole)
                .all(|(own, whole)| whole || row(own))
        {
            return Ok(None);
        }
        // The later one's layer takes the earlier one's rows.
        for (x, other) in [(b, a), (a, b)] {
            if !op.0.is::<Add>() || x == other || whole != [true; 2] {
                continue;
            }
            let Some(mut layer) = self.take_layer(x)? else {
                continue;
            };
            let free = layer.op.activation == Activation::None && !layer.op.residual;
            if free && matches!(layer.op.kernel, Kernel::Dense(_)) {
                layer.inputs.push(self.rows(other, axis)?);
                layer.op.residual = true;
                return Ok(Some(Value::layer(layer, axis)));
            }
            self.value(x)?.layer = Some(layer);
        }
        let inputs = [self.rows(a, axis)?, self.rows(b, axis)?];
        let out = self.new.wire_node(&node.name, op.clone(), &inputs)?[0];
        Ok(Some(Value::rows(out, axis)))
    }
}

/// Makes an operator with a constant a part of the layer before it, if it can be.
fn absorb(layer: &mut Convolution, op: &TypedBinOp, beside: &Beside) -> TractResult<bool> {
    let uniform = match beside {
        Beside::Uniform(value) => Some(*value),
        Beside::PerChannel(_) => None,
    };
    if op.0.is::<Add>() && layer.activation == Activation::None {
        let channels = layer.outputs();
        let mut bias = match &layer.bias {
            Some(bias) => slice(bias)?.to_vec(),
            None => vec![0.0; channels],
        };
        match beside {
            Beside::Uniform(value) => bias.iter_mut().for_each(|b| *b += value),
            Beside::PerChannel(values) => bias.iter_mut().zip(values).for_each(|(b, v)| *b += v),
        }
        layer.bias = Some(Arc::new(Tensor::from_shape(&[channels], &bias)?));
        return Ok(true);
    }
    let next = match layer.activation {
        Activation::None if op.0.is::<Max>() && uniform == Some(0.0) && !layer.residual => {
            Activation::Relu
        }
        Activation::Relu if op.0.is::<Min>() && uniform == Some(6.0) => Activation::Relu6,
        _ => return Ok(false),
    };
    layer.activation = next;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::tensor;
    use tract_core::ops::cnn::{MaxPool, PaddingSpec, PoolSpec};
    use tract_core::ops::nn::DataFormat;
    use tract_core::ops::{math, nn};

    /// A model under construction.
    struct Net(TypedModel, u64);

    impl Net {
        fn new(shape: &[usize]) -> (Net, OutletId) {
            let mut model = TypedModel::default();
            let x = model.add_source("x", f32::fact(shape)).unwrap();
            (Net(model, 0), x)
        }

        fn constant(&mut self, shape: &[usize]) -> OutletId {
            self.1 += 1;
            let name = format!("c{}", self.1);
            self.0.add_const(name, tensor(shape, self.1)).unwrap()
        }

        fn number(&mut self, shape: &[usize], value: f32) -> OutletId {
            self.1 += 1;
            let value = Tensor::from_shape(shape, &[value]).unwrap();
            self.0.add_const(format!("c{}", self.1), value).unwrap()
        }

        fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> OutletId {
            self.1 += 1;
            let name = format!("n{}", self.1);
            self.0.wire_node(name, op, inputs).unwrap()[0]
        }

        /// A convolution of [1, channels, h, w].
        fn conv(
            &mut self,
            x: OutletId,
            [inputs, outputs, group]: [usize; 3],
            side: usize,
            stride: usize,
        ) -> OutletId {
            let conv = Conv {
                pool_spec: PoolSpec {
                    data_format: DataFormat::NCHW,
                    kernel_shape: tvec!(side, side),
                    padding: PaddingSpec::SameUpper,
                    dilations: None,
                    strides: Some(tvec!(stride, stride)),
                    input_channels: inputs,
                    output_channels: outputs,
                },
                kernel_fmt: KernelFormat::OIHW,
                group,
                q_params: None,
            };
            let kernel = self.constant(&[outputs, inputs / group, side, side]);
            let bias = self.constant(&[outputs]);
            self.wire(conv, &[x, kernel, bias])
        }

        fn relu6(&mut self, x: OutletId) -> OutletId {
            let (low, high) = (self.number(&[1; 4], 0.0), self.number(&[1; 4], 6.0));
            let x = self.wire(math::max(), &[x, low]);
            self.wire(math::min(), &[x, high])
        }

        /// Rewritten, what it computes is the same; gives the operators' names.
        fn rewritten(mut self, outputs: &[OutletId]) -> Vec<String> {
            self.0.select_output_outlets(outputs).unwrap();
            let ours = on_rows(&self.0).unwrap();
            let shape = self.0.input_fact(0).unwrap().shape.clone();
            let x = tensor(shape.as_concrete().unwrap(), 99);
            let run = |model: &TypedModel| {
                let plan = model
                    .clone()
                    .into_optimized()
                    .unwrap()
                    .into_runnable()
                    .unwrap();
                plan.run(tvec!(x.clone().into_tvalue())).unwrap()
            };
            for (a, b) in run(&self.0).iter().zip(run(&ours)) {
                assert_eq!(a.shape(), b.shape());
                let (a, b) = (slice(a).unwrap(), slice(&b).unwrap());
                let largest = a.iter().fold(1f32, |m, v| m.max(v.abs()));
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    assert!((a - b).abs() < 1e-6 * largest, "[{i}]: {b} for {a}");
                }
            }
            let mut used = ours;
            used.compact().unwrap();
            used.nodes()
                .iter()
                .map(|n| n.op.name().to_string())
                .collect()
        }
    }

    fn count(names: &[String], name: &str) -> usize {
        names.iter().filter(|n| *n == name).count()
    }

    #[test]
    fn a_mobile_block_is_three_layers() {
        let (mut net, x) = Net::new(&[3, 18, 15]);
        let x = net.wire(AxisOp::Add(0), &[x]);
        let stem = net.conv(x, [3, 8, 1], 3, 2);
        let stem = net.relu6(stem);
        // 1 x 1 as a product of a matrix with merged places, as tract writes it; the bias as an addition.
        let flat = net.wire(AxisOp::Rm(0), &[stem]);
        let merge = AxisOp::Reshape(1, tvec!(9.to_dim(), 8.to_dim()), tvec!(72.to_dim()));
        let flat = net.wire(merge, &[flat]);
        let expand = net.constant(&[20, 8]);
        let axes = "mk,kn->mn".parse().unwrap();
        let wide = net.wire(EinSum::new(axes, f32::datum_type()), &[expand, flat]);
        let bias = net.constant(&[20, 1]);
        let wide = net.wire(math::add(), &[wide, bias]);
        let split = AxisOp::Reshape(1, tvec!(72.to_dim()), tvec!(9.to_dim(), 8.to_dim()));
        let wide = net.wire(split, &[wide]);
        let wide = net.wire(AxisOp::Add(0), &[wide]);
        let wide = net.relu6(wide);
        let deep = net.conv(wide, [20, 20, 20], 5, 1);
        let deep = net.relu6(deep);
        let narrow = net.conv(deep, [20, 8, 1], 1, 1);
        let sum = net.wire(math::add(), &[stem, narrow]);
        let names = net.rewritten(&[sum]);
        assert_eq!(count(&names, "FusedConvolution"), 4, "{names:?}");
        for other in ["Conv", "EinSum", "Add", "Max", "Min"] {
            assert_eq!(count(&names, other), 0, "{other}: {names:?}");
        }
    }

    /// Squeeze and excitation, hard swish: as MobileNetV3 has them.
    #[test]
    fn a_row_for_all_places_stays_in_rows() {
        let (mut net, x) = Net::new(&[1, 4, 7, 6]);
        let own = net.conv(x, [4, 12, 1], 1, 1);
        let mean = net.wire(Reduce::new(tvec!(2, 3), nn::Reducer::Sum), &[own]);
        let part = net.number(&[1; 4], 1.0 / 42.0);
        let mean = net.wire(math::mul(), &[mean, part]);
        let gate = net.conv(mean, [12, 3, 1], 1, 1);
        let gate = net.relu6(gate);
        let gate = net.conv(gate, [3, 12, 1], 1, 1);
        let three = net.number(&[1; 4], 3.0);
        let gate = net.wire(math::add(), &[gate, three]);
        let gate = net.relu6(gate);
        let gated = net.wire(math::mul(), &[own, gate]);
        let last = net.conv(gated, [12, 4, 1], 3, 2);
        let names = net.rewritten(&[last]);
        assert_eq!(count(&names, "FusedConvolution"), 4, "{names:?}");
        // The picture's order is changed on the way in and on the way out.
        assert_eq!(count(&names, "MoveAxis"), 2, "{names:?}");
    }

    #[test]
    fn what_others_see_too_is_not_changed() {
        let (mut net, x) = Net::new(&[1, 4, 6, 6]);
        let first = net.conv(x, [4, 4, 1], 3, 1);
        let active = net.relu6(first);
        // Its sum before the activation is an output, and the activation is added to what comes of it.
        let second = net.conv(active, [4, 4, 1], 1, 1);
        let sum = net.wire(math::add(), &[second, active]);
        let doubled = net.wire(math::add(), &[second, second]);
        let names = net.rewritten(&[first, sum, doubled]);
        assert_eq!(count(&names, "FusedConvolution"), 2, "{names:?}");
        assert_eq!(
            (count(&names, "Max"), count(&names, "Add")),
            (1, 2),
            "{names:?}"
        );
    }

    #[test]
    fn what_these_kernels_cannot_do_stays() {
        let (mut net, x) = Net::new(&[1, 4, 9, 9]);
        let grouped = net.conv(x, [4, 8, 2], 3, 1);
        let own = net.conv(grouped, [8, 8, 1], 3, 1);
        let pool = MaxPool::new(
            PoolSpec {
                data_format: DataFormat::NCHW,
                kernel_shape: tvec!(2, 2),
                padding: PaddingSpec::Valid,
                dilations: None,
                strides: Some(tvec!(2, 2)),
                input_channels: 8,
                output_channels: 8,
            },
            None,
        );
        let pooled = net.wire(pool, &[own]);
        let own = net.conv(pooled, [8, 6, 1], 1, 1);
        let bent = net.wire(nn::sigmoid(), &[own]);
        let scaled = net.constant(&[1, 6, 1, 1]);
        let scaled = net.wire(math::mul(), &[scaled, bent]);
        // Transposed places are not rows in their order.
        let turned = net.wire(AxisOp::Move(2, 3), &[scaled]);
        let last = net.conv(turned, [6, 5, 1], 3, 2);
        // Of another shape than its partner: a column for all.
        let column = net.constant(&[1, 1, 2, 1]);
        let last = net.wire(math::sub(), &[last, column]);
        let gate = net.wire(Reduce::new(tvec!(2, 3), nn::Reducer::Sum), &[last]);
        let gated = net.wire(math::mul(), &[last, gate]);
        let names = net.rewritten(&[gated, scaled]);
        assert_eq!(count(&names, "FusedConvolution"), 3, "{names:?}");
        assert_eq!(count(&names, "Conv"), 1, "{names:?}");
    }
}
