//! Every parameter of a graph under the name that it had in PyTorch.

use super::graph::{Constant, Reading};
use crate::train::tensors::{Data, Raw, TensorError};
use std::collections::{BTreeMap, HashSet};
use tract_onnx::pb::NodeProto;

/// Values that no mask exceeds where it hides something.
const HIDES: f32 = -1e3;

/// Names that exporters give to constants: of the older, of the newer one, and of nodes.
fn anonymous(name: &str) -> bool {
    let known = ["logit_scale", "proj", "text_projection"];
    let ending = ["embedding", "_token", ".proj"];
    let named = name.contains('.') && !name.contains(['/', ':']);
    !(named || known.contains(&name) || ending.iter().any(|e| name.ends_with(e)))
        || name == "embedding"
}

impl<'a> Reading<'a> {
    /// Every parameter under its name in PyTorch.
    pub fn named(self) -> Result<BTreeMap<String, Raw>, TensorError> {
        let mut named = BTreeMap::new();
        let mut used: HashSet<String> = HashSet::new();
        for node in &self.graph.node {
            match node.op_type.as_str() {
                "MatMul" | "Gemm" => self.matrix(node, &mut named, &mut used)?,
                "Concat" | "Expand" => self.class_token(node, &mut named, &mut used)?,
                "Add" => self.positions(node, &mut named, &mut used)?,
                _ => (),
            }
        }
        let aliases = self.aliases.iter().filter(|(to, _)| !anonymous(to));
        for (to, from) in aliases {
            used.insert(from.to_string());
            if !named.contains_key(*to) {
                let Constant { shape, values } = &self.constants[*from];
                put(&mut named, to, shape, values, false)?;
            }
        }
        for (name, constant) in &self.constants {
            let counts = !anonymous(name);
            let masks = || constant.values.iter().all(|v| *v == 0.0 || *v < HIDES);
            let nothing = constant.values.len() <= 1 || masks();
            if !named.contains_key(name) && (counts || (!used.contains(name.as_str()) && !nothing))
            {
                put(&mut named, name, &constant.shape, &constant.values, false)?;
            }
        }
        Ok(self.rooted(named))
    }

    /// The names of an image encoder that was exported alone, as they are in a whole CLIP.
    fn rooted(&self, named: BTreeMap<String, Raw>) -> BTreeMap<String, Raw> {
        if !named.contains_key("conv1.weight") || named.contains_key("token_embedding.weight") {
            return named;
        }
        let all = named.into_iter();
        all.map(|(name, raw)| (format!("visual.{name}"), raw))
            .collect()
    }

    /// The matrix of a product, [outputs, inputs] under its layer's name; a bare parameter as it lies.
    fn matrix(
        &self,
        node: &'a NodeProto,
        named: &mut BTreeMap<String, Raw>,
        used: &mut HashSet<String>,
    ) -> Result<(), TensorError> {
        let Some(operand) = node.input.get(1).map(String::as_str) else {
            return Ok(());
        };
        let turned = self.turned.get(operand).copied();
        let label = turned.unwrap_or(operand);
        let from = self.aliases.get(label).copied().unwrap_or(label);
        let Some((own, constant)) = self.constants.get_key_value(from) else {
            return Ok(());
        };
        if constant.shape.len() != 2 {
            return Ok(());
        }
        let attribute = |name: &str| {
            let found = node.attribute.iter().find(|a| a.name == name);
            found.is_some_and(|a| a.i != 0)
        };
        // Whether it lies as [outputs, inputs].
        let outputs_first = turned.is_some() != (node.op_type == "Gemm" && attribute("transB"));
        used.insert(own.clone());
        let layer = match (anonymous(label), anonymous(own)) {
            (false, _) => label.to_string(),
            (_, false) => own.clone(),
            // Without a layer it will be refused by its own name.
            _ => self.layer(node).unwrap_or(own.clone()),
        };
        // `x @ proj`: a parameter, no layer's matrix.
        let is_layers = layer.ends_with(".weight") || layer.ends_with("in_proj_weight");
        if let Some(before) = named.get(&layer) {
            let same = before.shape.iter().product::<usize>() == constant.values.len();
            return match (same, anonymous(label)) {
                (true, false) => Ok(()),
                _ => Err(TensorError::File(format!(
                    "`{own}` and another matrix are both of `{layer}`: it cannot be told which is which"
                ))),
            };
        }
        let turned = is_layers && !outputs_first;
        put(named, &layer, &constant.shape, &constant.values, turned)
    }

    /// The name of an anonymous matrix: its bias's layer, else its node's path.
    fn layer(&self, node: &'a NodeProto) -> Option<String> {
        let biases = |node: &'a NodeProto| {
            let named = node.input.iter().map(String::as_str);
            named
                .filter(|i| self.constant(i).is_some())
                .collect::<Vec<_>>()
        };
        let mut near = biases(node);
        for output in &node.output {
            let users = self.users.get(output.as_str()).into_iter().flatten();
            near.extend(users.filter(|u| u.op_type == "Add").flat_map(|u| biases(u)));
        }
        for bias in near {
            if let Some(stem) = bias.strip_suffix("in_proj_bias") {
                return Some(format!("{stem}in_proj_weight"));
            }
            if let Some(stem) = bias.strip_suffix(".bias") {
                return Some(format!("{stem}.weight"));
            }
        }
        // `/vision_model/encoder/layers.0/mlp/fc1/MatMul`
        let (path, _) = node.name.strip_prefix('/')?.rsplit_once('/')?;
        let mut parts: Vec<&str> = vec![];
        for part in path.split('/') {
            // A sequence names itself twice: `resblocks/resblocks.0`.
            if parts
                .last()
                .is_some_and(|l| part.starts_with(&format!("{l}.")))
            {
                parts.pop();
            }
            parts.push(part);
        }
        Some(format!("{}.weight", parts.join(".")))
    }

    /// A row that joins the patches.
    fn class_token(
        &self,
        node: &'a NodeProto,
        named: &mut BTreeMap<String, Raw>,
        used: &mut HashSet<String>,
    ) -> Result<(), TensorError> {
        for input in node.input.iter().map(String::as_str) {
            let Some((own, constant)) = self.constants.get_key_value(input) else {
                continue;
            };
            let [1, 1, width] = *constant.shape else {
                continue;
            };
            if !anonymous(own) || width < 2 {
                continue;
            }
            let name = match self.of_hugging_face() {
                true => "vision_model.embeddings.class_embedding",
                false => self.of_open_ai("class_embedding"),
            };
            used.insert(own.clone());
            put(named, name, &[width], &constant.values, false)?;
        }
        Ok(())
    }

    /// OpenAI's name of something of the image encoder, which may have been exported alone.
    fn of_open_ai(&self, name: &'static str) -> &'static str {
        match (self.constants.contains_key("conv1.weight"), name) {
            (true, name) => name,
            (false, "class_embedding") => "visual.class_embedding",
            (false, _) => "visual.positional_embedding",
        }
    }

    /// Rows that are added to those of patches or words.
    fn positions(
        &self,
        node: &'a NodeProto,
        named: &mut BTreeMap<String, Raw>,
        used: &mut HashSet<String>,
    ) -> Result<(), TensorError> {
        let [a, b] = &*node.input else {
            return Ok(());
        };
        for (input, other) in [(a, b), (b, a)] {
            let Some((own, constant)) = self.constants.get_key_value(input.as_str()) else {
                continue;
            };
            let shape = match *constant.shape {
                [rows, width] | [1, rows, width] if rows > 1 && width > 1 => [rows, width],
                _ => continue,
            };
            if !anonymous(own) || constant.values.iter().any(|v| *v < HIDES) {
                continue;
            }
            let (picture, words) = (
                self.of_picture.contains(other.as_str()),
                self.of_words.contains(other.as_str()),
            );
            let name = match (picture, words, self.of_hugging_face()) {
                (true, false, true) => "vision_model.embeddings.position_embedding.weight",
                (true, false, false) => self.of_open_ai("positional_embedding"),
                (false, true, true) => "text_model.embeddings.position_embedding.weight",
                (false, true, false) => "positional_embedding",
                _ => continue,
            };
            // Only the first of them are positions; a second one is something else.
            if named.contains_key(name) {
                continue;
            }
            used.insert(own.clone());
            put(named, name, &shape, &constant.values, false)?;
        }
        Ok(())
    }
}

/// Puts a tensor under a name, a matrix with its axes exchanged if it is `turned`.
fn put(
    named: &mut BTreeMap<String, Raw>,
    name: &str,
    shape: &[usize],
    values: &[f32],
    turned: bool,
) -> Result<(), TensorError> {
    let bytes = |v: f32| v.to_le_bytes();
    let (shape, data) = match *shape {
        [rows, columns] if turned => {
            let places = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
            let data = places.flat_map(|i| bytes(values[i])).collect();
            (vec![columns, rows], data)
        }
        _ => (
            shape.to_vec(),
            values.iter().copied().flat_map(bytes).collect(),
        ),
    };
    let raw = Raw {
        shape,
        dtype: "F32".into(),
        data: Data::Read(data),
    };
    match named.insert(name.into(), raw) {
        None => Ok(()),
        Some(_) => Err(TensorError::File(format!(
            "two of its tensors are `{name}`: it cannot be told which is which"
        ))),
    }
}
