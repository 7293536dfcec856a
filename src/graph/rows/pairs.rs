//! Operators of two values, element by element: with a constant, part of the layer before them if they can be; else in rows.

use super::{Rewriter, Value};
use crate::ops::activation::Activation;
use crate::ops::conv::{Convolution, Kernel};
use crate::ops::slice;
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::math::{Add, Max, Min};

/// Constants beside rows.
enum Beside {
    Uniform(f32),
    PerChannel(Vec<f32>),
}

impl Rewriter<'_> {
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
    pub(super) fn pair(&mut self, node: &TypedNode, op: &TypedBinOp) -> TractResult<Option<Value>> {
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
