//! A graph of an ONNX file: its constants, who uses them, and what depends on the picture and on the words.

use crate::train::tensors::TensorError;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use tract_onnx::data_resolver;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

/// A constant of the graph.
pub(super) struct Constant {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// A graph that is being read.
pub(super) struct Reading<'a> {
    pub graph: &'a GraphProto,
    pub constants: BTreeMap<String, Constant>,
    /// Another name of a constant: what `Identity` and `Cast` make of it.
    pub aliases: HashMap<&'a str, &'a str>,
    /// Constants that are transposed before they are used.
    pub turned: HashMap<&'a str, &'a str>,
    /// Who uses a tensor.
    pub users: HashMap<&'a str, Vec<&'a NodeProto>>,
    /// What depends on the picture.
    pub of_picture: HashSet<&'a str>,
    /// What depends on the words.
    pub of_words: HashSet<&'a str>,
}

impl<'a> Reading<'a> {
    pub fn of(graph: &'a GraphProto, folder: &Path) -> Result<Reading<'a>, TensorError> {
        let mut constants = BTreeMap::new();
        let of_nodes = graph.node.iter().filter(|n| n.op_type == "Constant");
        let of_nodes = of_nodes.filter_map(|n| {
            let tensor = n.attribute.iter().find_map(|a| a.t.as_ref())?;
            Some((n.output.first()?.as_str(), tensor))
        });
        let all = graph.initializer.iter().map(|t| (t.name.as_str(), t));
        for (name, tensor) in all.chain(of_nodes) {
            if let Some(constant) = floats(name, tensor, folder)? {
                constants.insert(name.to_string(), constant);
            }
        }
        let (mut aliases, mut turned) = (HashMap::new(), HashMap::new());
        let mut users: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        let (mut of_picture, mut of_words) = (HashSet::new(), HashSet::new());
        for node in &graph.node {
            for input in &node.input {
                users.entry(input).or_default().push(node);
            }
            let known = |set: &HashSet<&str>| node.input.iter().any(|i| set.contains(i.as_str()));
            // The only convolution of a ViT embeds its patches; words are looked up in a table.
            let embeds = node
                .input
                .first()
                .is_some_and(|i| i.contains("token_embedding"));
            let picture = node.op_type == "Conv" || known(&of_picture);
            let words = (node.op_type == "Gather" && embeds) || known(&of_words);
            for output in node.output.iter().map(String::as_str) {
                if picture {
                    of_picture.insert(output);
                }
                if words {
                    of_words.insert(output);
                }
            }
            if let (Some(from), Some(to)) = (node.input.first(), node.output.first()) {
                let from = aliases.get(from.as_str()).copied().unwrap_or(from.as_str());
                let constant = constants.contains_key(from);
                match node.op_type.as_str() {
                    "Identity" | "Cast" if constant => _ = aliases.insert(to.as_str(), from),
                    "Transpose" if constant => _ = turned.insert(to.as_str(), from),
                    _ => (),
                }
            }
        }
        Ok(Reading {
            graph,
            constants,
            aliases,
            turned,
            users,
            of_picture,
            of_words,
        })
    }

    pub fn constant(&self, name: &str) -> Option<&Constant> {
        let name = self.aliases.get(name).copied().unwrap_or(name);
        self.constants.get(name)
    }

    /// Whether the names are Hugging Face's; OpenAI's and open_clip's otherwise.
    pub fn of_hugging_face(&self) -> bool {
        self.constants.keys().any(|n| n.contains("_model.encoder."))
    }
}

/// A constant of floating point numbers; others are shapes and indices.
fn floats(
    name: &str,
    tensor: &TensorProto,
    folder: &Path,
) -> Result<Option<Constant>, TensorError> {
    // FLOAT, FLOAT16, DOUBLE and BFLOAT16 of `TensorProto.DataType`.
    match tensor.data_type {
        1 | 10 | 11 => (),
        16 => return Err(TensorError::Type(name.into(), "BF16 of ONNX".into())),
        _ => return Ok(None),
    }
    let wrong = |e: TractError| TensorError::File(format!("tensor `{name}`: {e:#}"));
    let resolver = data_resolver::default();
    let tensor = load_tensor(&*resolver, tensor, folder.to_str()).map_err(wrong)?;
    let tensor = tensor.cast_to::<f32>().map_err(wrong)?;
    let values = crate::ops::slice(&tensor).map_err(wrong)?.to_vec();
    Ok(Some(Constant {
        shape: tensor.shape().to_vec(),
        values,
    }))
}
