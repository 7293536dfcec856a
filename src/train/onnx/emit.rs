//! tract's operators, one by one, as ONNX's. Only those that [`crate::gpu::graph`] builds with.

use super::proto::{
    AttributeProto, Dimension, FLOAT, FLOAT16, GraphProto, INT64, NodeProto, TensorProto,
    TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};
use half::f16;
use std::collections::{HashMap, HashSet};
use tract_core::internal::*;
use tract_core::ops::array::{Gather, Slice, Topk, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::konst::Const;
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Softmax};
use tract_core::ops::source::TypedSource;

/// A graph under construction.
pub struct Emitter<'a> {
    model: &'a TypedModel,
    size: usize,
    graph: GraphProto,
    names: HashMap<OutletId, String>,
    stored: HashSet<String>,
}

/// The element type's number.
fn kind(of: DatumType) -> TractResult<i32> {
    match of {
        t if t == f32::datum_type() => Ok(FLOAT),
        t if t == f16::datum_type() => Ok(FLOAT16),
        t if t == i64::datum_type() => Ok(INT64),
        t => bail!("numbers of {t:?}"),
    }
}

fn ints(values: &[usize]) -> Vec<i64> {
    values.iter().map(|v| *v as i64).collect()
}

impl<'a> Emitter<'a> {
    /// Of a model with one input, the frame of this side.
    pub fn new(model: &'a TypedModel, size: usize) -> TractResult<Emitter<'a>> {
        let mut e = Emitter {
            model,
            size,
            graph: GraphProto::default(),
            names: HashMap::new(),
            stored: HashSet::new(),
        };
        e.graph
            .input
            .push(info("image", FLOAT, &[1, 3, size, size]));
        Ok(e)
    }

    /// The finished graph.
    pub fn finish(mut self, name: &str) -> GraphProto {
        self.graph.name = name.into();
        self.graph
    }

    /// A node of one output, which has its name; attributes of one number are numbers, but for `axes` and `perm`.
    pub fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[(&str, Vec<i64>)],
    ) -> String {
        self.node_of(op, name, inputs, attributes, vec![name.to_string()])
    }

    fn node_of(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[(&str, Vec<i64>)],
        output: Vec<String>,
    ) -> String {
        let attribute = |(name, values): &(&str, Vec<i64>)| {
            let list = matches!(*name, "axes" | "perm");
            AttributeProto {
                name: name.to_string(),
                i: (!list).then(|| values[0]),
                ints: if list { values.clone() } else { vec![] },
                kind: if list { 7 } else { 2 },
                s: None,
            }
        };
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|i| i.to_string()).collect(),
            output,
            name: name.into(),
            op_type: op.into(),
            attribute: attributes.iter().map(attribute).collect(),
        });
        name.to_string()
    }

    /// A stored tensor.
    fn store(&mut self, name: &str, tensor: &Tensor) -> TractResult<String> {
        if self.stored.insert(name.into()) {
            let bytes = match tensor.datum_type() {
                t if t == f32::datum_type() => little(tensor, |v: &f32| v.to_le_bytes())?,
                t if t == f16::datum_type() => little(tensor, |v: &f16| v.to_le_bytes())?,
                _ => little(tensor, |v: &i64| v.to_le_bytes())?,
            };
            self.graph.initializer.push(TensorProto {
                dims: ints(tensor.shape()),
                data_type: kind(tensor.datum_type())?,
                name: name.into(),
                raw_data: bytes,
            });
        }
        Ok(name.into())
    }

    /// A number of f32.
    pub fn number(&mut self, name: &str, value: f32) -> TractResult<String> {
        self.store(name, &tensor0(value))
    }

    fn list(&mut self, name: &str, values: &[usize]) -> TractResult<String> {
        self.store(name, &tensor1(&ints(values)))
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, name: &str, x: &str, shape: &[usize]) -> TractResult<String> {
        let shape = self.list(&format!("{name}.shape"), shape)?;
        Ok(self.node("Reshape", name, &[x, &shape], &[]))
    }

    /// Enlarged bilinearly, corners not aligned.
    pub fn resize(&mut self, name: &str, x: &str, shape: &[usize]) -> TractResult<String> {
        let shape = self.list(&format!("{name}.size"), shape)?;
        let out = self.node("Resize", name, &[x, "", "", &shape], &[]);
        let text = |name: &str, value: &str| AttributeProto {
            name: name.into(),
            s: Some(value.as_bytes().to_vec()),
            kind: 3,
            ..AttributeProto::default()
        };
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute = vec![
                text("mode", "linear"),
                text("coordinate_transformation_mode", "half_pixel"),
            ];
        }
        Ok(out)
    }

    /// Makes a tensor of f32 an output.
    pub fn declare(&mut self, name: &str, shape: &[usize]) {
        self.graph.output.push(info(name, FLOAT, shape));
    }

    /// Makes an outlet an output of this name, and says the name.
    pub fn output(&mut self, name: &str, outlet: OutletId) -> TractResult<String> {
        let x = self.input(outlet)?;
        let shape = self.shape(outlet)?;
        self.node("Identity", name, &[&x], &[]);
        self.declare(name, &shape);
        Ok(name.into())
    }

    fn shape(&self, outlet: OutletId) -> TractResult<TVec<usize>> {
        let shape = &self.model.outlet_fact(outlet)?.shape;
        Ok(shape
            .as_concrete()
            .context("a shape that is not known")?
            .into())
    }

    fn constant(&self, outlet: OutletId) -> Option<&'a Arc<Tensor>> {
        self.model
            .node(outlet.node)
            .op_as::<Const>()
            .map(Const::val)
    }

    /// An outlet's name; what is stored is stored when it is first wanted.
    fn input(&mut self, outlet: OutletId) -> TractResult<String> {
        if let Some(name) = self.names.get(&outlet) {
            return Ok(name.clone());
        }
        let node = self.model.node(outlet.node);
        let tensor = self
            .constant(outlet)
            .with_context(|| format!("{node} was not written"))?;
        let name = self.store(&node.name, tensor)?;
        self.names.insert(outlet, name.clone());
        Ok(name)
    }

    /// Every node, in the order of computing.
    pub fn nodes(&mut self) -> TractResult<()> {
        for id in self.model.eval_order()? {
            let node = self.model.node(id);
            if node.op_is::<Const>() {
                continue;
            }
            self.one(node).with_context(|| format!("{node}"))?;
        }
        Ok(())
    }

    fn one(&mut self, node: &TypedNode) -> TractResult<()> {
        let name = node.name.clone();
        let here = OutletId::new(node.id, 0);
        let mut inputs = vec![];
        if let Some(sum) = node.op_as::<EinSum>() {
            let [a, b] = *node.inputs else {
                bail!("a product of {} factors", node.inputs.len());
            };
            let a = self.input(a)?;
            let b = self.factor(sum, node, b)?;
            self.node("MatMul", &name, &[&a, &b], &[]);
            self.names.insert(here, name);
            return Ok(());
        }
        for outlet in &node.inputs {
            inputs.push(self.input(*outlet)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut out = name.clone();
        if node.op_is::<TypedSource>() {
            out = self.reshape("frame", "image", &[3, self.size, self.size])?;
        } else if let Some(op) = node.op_as::<AxisOp>() {
            match op {
                AxisOp::Move(from, to) => {
                    let mut perm: Vec<usize> = (0..self.shape(here)?.len()).collect();
                    let axis = perm.remove(*from);
                    perm.insert(*to, axis);
                    self.node("Transpose", &name, &inputs, &[("perm", ints(&perm))]);
                }
                _ => {
                    let shape = self.shape(here)?;
                    self.reshape(&name, inputs[0], &shape)?;
                }
            }
        } else if let Some(op) = node.op_as::<TypedBinOp>() {
            let of = match op.0.name() {
                "Add" => "Add",
                "Sub" => "Sub",
                "Mul" => "Mul",
                "Max" => "Max",
                other => bail!("operator {other}"),
            };
            self.node(of, &name, &inputs, &[]);
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            match &*op.0.name().to_lowercase() {
                "sigmoid" => self.node("Sigmoid", &name, &inputs, &[]),
                "erf" => self.node("Erf", &name, &inputs, &[]),
                "silu" => {
                    let gate = self.node("Sigmoid", &format!("{name}.gate"), &inputs, &[]);
                    self.node("Mul", &name, &[inputs[0], &gate], &[])
                }
                other => bail!("operator {other}"),
            };
        } else if let Some(op) = node.op_as::<Reduce>() {
            ensure!(op.reducer == Reducer::Sum, "{:?}", op.reducer);
            let axes = self.list(&format!("{name}.axes"), &op.axes)?;
            self.node(
                "ReduceSum",
                &name,
                &[inputs[0], &axes],
                &[("keepdims", vec![1])],
            );
        } else if let Some(op) = node.op_as::<RmsNorm>() {
            let at = |part: &str| format!("{name}.{part}");
            let square = self.node("Mul", &at("square"), &[inputs[0], inputs[0]], &[]);
            let axes = [("axes", vec![op.axis as i64]), ("keepdims", vec![1])];
            let mean = self.node("ReduceMean", &at("mean"), &[&square], &axes);
            let epsilon = op.eps.cast_to_dt(f32::datum_type())?;
            let epsilon = self.store(&at("epsilon"), &epsilon)?;
            let sum = self.node("Add", &at("sum"), &[&mean, &epsilon], &[]);
            let root = self.node("Sqrt", &at("root"), &[&sum], &[]);
            self.node("Div", &name, &[inputs[0], &root], &[]);
        } else if let Some(op) = node.op_as::<Softmax>() {
            let [axis] = *op.axes else {
                bail!("a softmax over several axes");
            };
            self.node("Softmax", &name, &inputs, &[("axis", vec![axis as i64])]);
        } else if let Some(op) = node.op_as::<Cast>() {
            let to = i64::from(kind(op.to)?);
            self.node("Cast", &name, &inputs, &[("to", vec![to])]);
        } else if let Some(op) = node.op_as::<Slice>() {
            let mut more = vec![];
            for (part, value) in [
                ("start", op.start.to_usize()?),
                ("end", op.end.to_usize()?),
                ("axis", op.axis),
            ] {
                more.push(self.list(&format!("{name}.{part}"), &[value])?);
            }
            self.node(
                "Slice",
                &name,
                &[inputs[0], &more[0], &more[1], &more[2]],
                &[],
            );
        } else if let Some(op) = node.op_as::<TypedConcat>() {
            self.node("Concat", &name, &inputs, &[("axis", vec![op.axis as i64])]);
        } else if let Some(op) = node.op_as::<Gather>() {
            self.node("Gather", &name, &inputs, &[("axis", vec![op.axis as i64])]);
        } else if let Some(op) = node.op_as::<Topk>() {
            let k = self.reshape(&format!("{name}.k"), inputs[1], &[1])?;
            let (largest, axis) = (i64::from(op.largest), op.axis as i64);
            let attributes = [("axis", vec![axis]), ("largest", vec![largest])];
            let places = format!("{name}.places");
            let outputs = vec![name.clone(), places.clone()];
            self.node_of("TopK", &name, &[inputs[0], &k], &attributes, outputs);
            self.names.insert(OutletId::new(node.id, 1), places);
        } else {
            bail!("operator {}", node.op.name());
        }
        self.names.insert(here, out);
        Ok(())
    }

    /// The second factor of a product as `MatMul` wants it: the axis that is summed over next to last.
    fn factor(&mut self, sum: &EinSum, node: &TypedNode, b: OutletId) -> TractResult<String> {
        let ranks = [self.shape(node.inputs[0])?.len(), self.shape(b)?.len()];
        let summed = sum
            .axes
            .iter_all_axes()
            .find(|axis| axis.outputs[0].is_empty());
        let summed = summed.context("a product that sums over nothing")?;
        let (Some(first), Some(second)) = (summed.inputs[0].first(), summed.inputs[1].first())
        else {
            bail!("a product that sums one factor");
        };
        ensure!(
            *first + 1 == ranks[0],
            "a product over axis {first} of {}",
            ranks[0]
        );
        if second + 2 == ranks[1] {
            return self.input(b);
        }
        ensure!(
            second + 1 == ranks[1],
            "a product over axis {second} of {}",
            ranks[1]
        );
        let mut perm: Vec<usize> = (0..ranks[1]).collect();
        perm.swap(ranks[1] - 1, ranks[1] - 2);
        let stored = self.model.node(b.node);
        if let Some(tensor) = self.constant(b) {
            let turned = tensor.as_ref().clone().permute_axes(&perm)?;
            return self.store(&format!("{}.turned", stored.name), &turned);
        }
        let x = self.input(b)?;
        Ok(self.node(
            "Transpose",
            &format!("{}.turned", node.name),
            &[&x],
            &[("perm", ints(&perm))],
        ))
    }
}

fn little<T: Datum, const N: usize>(
    tensor: &Tensor,
    bytes: impl Fn(&T) -> [u8; N],
) -> TractResult<Vec<u8>> {
    Ok(tensor
        .try_as_plain_ram()?
        .as_slice::<T>()?
        .iter()
        .flat_map(bytes)
        .collect())
}

fn info(name: &str, kind: i32, shape: &[usize]) -> ValueInfoProto {
    let dim = |d: &usize| Dimension {
        dim_value: Some(*d as i64),
    };
    ValueInfoProto {
        name: name.into(),
        kind: Some(TypeProto {
            tensor_type: Some(TensorType {
                elem_type: kind,
                shape: Some(TensorShapeProto {
                    dim: shape.iter().map(dim).collect(),
                }),
            }),
        }),
    }
}
