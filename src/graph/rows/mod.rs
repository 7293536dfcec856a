//! A network of the user's own, brought to this project's kernels: pictures channels last, a row of channels for each
//! place, convolutions and products with constant matrices as [`Convolution`]s, with bias, ReLU and the sum of a
//! residual block in them.
//!
//! tract's own operators stay where these cannot be used (grouped kernels, pooling, attention, ...): a value is brought
//! back to the order that the graph says, once, where one of them wants it.

mod chains;
mod layers;
mod pairs;
#[cfg(test)]
mod tests;

use crate::ops::conv::Convolution;
use crate::ops::reshape;
use crate::ops::weights::Arithmetic;
use chains::chained;
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::cnn::Conv;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::nn::Reduce;
use tract_core::ops::source::TypedSource;

/// The same network with the same outputs, on this project's kernels wherever that is possible; in `Int8`, products long
/// enough to gain by it round weights and activations to int8.
///
/// # Errors
/// tract's own, for a graph that does not hold together.
pub(crate) fn on_rows(model: &TypedModel, arithmetic: Arithmetic) -> TractResult<TypedModel> {
    let mut rewriter = Rewriter {
        old: model,
        new: TypedModel::default(),
        values: HashMap::new(),
        arithmetic,
    };
    for node in model.eval_order()? {
        rewriter.node(model.node(node))?;
    }
    let outputs = model.output_outlets()?.iter();
    let outputs: TVec<OutletId> = outputs
        .map(|o| rewriter.plain(*o))
        .collect::<TractResult<_>>()?;
    rewriter.new.select_output_outlets(&outputs)?;
    chained(&rewriter.new)
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
    /// Rows whose channels are this axis of the old value; of those that were made, the first are `axis`'s.
    rows: TVec<(usize, OutletId)>,
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
            rows: tvec!((axis, outlet)),
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
        !self.rows.is_empty() || self.layer.is_some()
    }
}

struct Rewriter<'a> {
    old: &'a TypedModel,
    new: TypedModel,
    values: HashMap<OutletId, Value>,
    arithmetic: Arithmetic,
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
        self.wire_axes(name, reshape(from, to), x)
    }

    /// A value as rows whose channels are this axis of the old value.
    fn rows(&mut self, o: OutletId, axis: usize) -> TractResult<OutletId> {
        let value = self.value(o)?;
        if let Some(layer) = value.layer.take() {
            let outlet = self.new.wire_node(layer.name, layer.op, &layer.inputs)?[0];
            let value = self.value(o)?;
            value.rows.push((value.axis, outlet));
        }
        let rows = &self.value(o)?.rows;
        if let Some((_, rows)) = rows.iter().find(|(of, _)| *of == axis) {
            return Ok(*rows);
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
        if value.rows.is_empty() {
            value.axis = axis;
        }
        value.rows.push((axis, rows));
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
}
