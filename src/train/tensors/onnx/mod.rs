//! The parameters of a transformer in an ONNX file, under the names that they had in PyTorch.
//!
//! Exporters keep most names (`visual.ln_pre.weight`), but fold matrices, class tokens and positions into constants
//! without one (`onnx::MatMul_455`, `val_25`). Those are named by what uses them: a matrix by the bias that is added
//! to its products, or by the path of its node; a class token and positions by where they join the pictures' or the
//! words' rows. How a matrix lies is known from its use too: `MatMul` has [inputs, outputs], PyTorch the other way.
//! `tract-onnx` reads the file. What finds no name keeps its own, so that readers can refuse it.

use super::{Data, Raw, TensorError, Tensors};
use crate::bundle::manifest::ActivationKind;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use tract_onnx::data_resolver;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

/// What a graph says of its network beside the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Computed {
    /// The MLPs' activation.
    pub activation: Option<ActivationKind>,
    /// What normalisations of the image and of the text encoder add to the variance.
    pub epsilon: [Option<f32>; 2],
    /// What of a CLIP's graph this program does not run.
    pub refused: Option<&'static str>,
}

impl Computed {
    /// Adds what the other tower's graph says.
    pub(super) fn join(&mut self, other: Computed) {
        self.refused = self.refused.or(other.refused);
        if self.activation != other.activation && other.activation.is_some() {
            // Two towers with two activations: it has to be said by the configuration or the user.
            self.activation = self.activation.xor(other.activation);
        }
        for (own, other) in self.epsilon.iter_mut().zip(other.epsilon) {
            *own = own.or(other);
        }
    }
}

/// QuickGELU is x * sigmoid(1.702 x).
const QUICK: f32 = 1.702;

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

/// All of a file: `file.onnx`, with what it keeps in files beside it.
pub(super) fn load(path: &Path) -> Result<Tensors, TensorError> {
    let wrong = |what: String| TensorError::File(what);
    let model = tract_onnx::onnx()
        .proto_model_for_path(path)
        .map_err(|e| wrong(format!("no ONNX file that tract reads: {e:#}")))?;
    let graph = model
        .graph
        .ok_or_else(|| wrong("an ONNX file without a graph".into()))?;
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let reading = Reading::of(&graph, &folder)?;
    let computed = reading.computed()?;
    Ok(Tensors {
        path: path.to_path_buf(),
        files: vec![path.to_path_buf()],
        notes: HashMap::new(),
        map: reading.named()?,
        read: RefCell::default(),
        scripted: false,
        computed: Some(computed),
    })
}

/// A constant of the graph.
struct Constant {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A graph that is being read.
struct Reading<'a> {
    graph: &'a GraphProto,
    constants: BTreeMap<String, Constant>,
    /// Another name of a constant: what `Identity` and `Cast` make of it.
    aliases: HashMap<&'a str, &'a str>,
    /// Constants that are transposed before they are used.
    turned: HashMap<&'a str, &'a str>,
    /// Who uses a tensor.
    users: HashMap<&'a str, Vec<&'a NodeProto>>,
    /// What depends on the picture.
    of_picture: HashSet<&'a str>,
    /// What depends on the words.
    of_words: HashSet<&'a str>,
}

impl<'a> Reading<'a> {
    fn of(graph: &'a GraphProto, folder: &Path) -> Result<Reading<'a>, TensorError> {
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

    fn constant(&self, name: &str) -> Option<&Constant> {
        let name = self.aliases.get(name).copied().unwrap_or(name);
        self.constants.get(name)
    }

    /// Whether the names are Hugging Face's; OpenAI's and open_clip's otherwise.
    fn of_hugging_face(&self) -> bool {
        self.constants.keys().any(|n| n.contains("_model.encoder."))
    }

    /// Every parameter under its name in PyTorch.
    fn named(self) -> Result<BTreeMap<String, Raw>, TensorError> {
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

    /// Activation and epsilons, as far as the graph's operators show them.
    fn computed(&self) -> Result<Computed, TensorError> {
        let any = |kinds: &[&str]| self.graph.node.iter().any(|n| kinds.contains(&&*n.op_type));
        let (sigmoid, erf, tanh) = (any(&["Sigmoid"]), any(&["Erf", "Gelu"]), any(&["Tanh"]));
        if any(&[
            "MatMulInteger",
            "QLinearMatMul",
            "DynamicQuantizeLinear",
            "DequantizeLinear",
            "MatMulNBits",
        ]) {
            return Err(TensorError::File(
                "a quantised ONNX file: take the one in f32 or f16, `--precision int8` makes int8 of it".into(),
            ));
        }
        let mut nodes = self.graph.node.iter();
        if let Some(node) = nodes.find(|n| n.domain.starts_with("com.microsoft")) {
            return Err(TensorError::File(format!(
                "ONNX Runtime has optimised this file ({} of {}), and its parameters are no longer the network's: take the file from before",
                node.op_type, node.domain
            )));
        }
        let by_tanh = self.graph.node.iter().any(|n| {
            let how = n.attribute.iter().find(|a| a.name == "approximate");
            n.op_type == "Gelu" && how.is_some_and(|a| a.s == b"tanh")
        });
        let quick = |c: &Constant| matches!(*c.values, [v] if (v - QUICK).abs() < 1e-3);
        let quick = self.constants.values().any(quick);
        let refused = match (tanh || by_tanh, sigmoid && !quick) {
            (true, _) => Some("its activation is GELU by tanh"),
            (_, true) => {
                Some("its activation has a sigmoid without QuickGELU's factor 1.702 (SiLU?)")
            }
            _ => None,
        };
        let mut epsilon = [None; 2];
        for node in self
            .graph
            .node
            .iter()
            .filter(|n| n.op_type == "LayerNormalization")
        {
            let said = node.attribute.iter().find(|a| a.name == "epsilon");
            let tower = node
                .input
                .first()
                .is_some_and(|i| self.of_picture.contains(i.as_str()));
            epsilon[usize::from(!tower)] = Some(said.map_or(1e-5, |a| a.f));
        }
        Ok(Computed {
            activation: match (sigmoid, erf) {
                (true, false) => Some(ActivationKind::QuickGelu),
                (false, true) => Some(ActivationKind::Gelu),
                _ => None,
            },
            epsilon,
            refused,
        })
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

/// The other tower's file beside one that holds a single tower, by the names that exporters give to both.
pub(super) fn other_tower(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    const PAIRS: [(&str, &str); 3] = [
        ("vision_model", "text_model"),
        ("visual", "textual"),
        ("image_encoder", "text_encoder"),
    ];
    PAIRS.iter().find_map(|(image, text)| {
        let other = match name.strip_prefix(image) {
            Some(rest) => format!("{text}{rest}"),
            None => format!("{image}{}", name.strip_prefix(text)?),
        };
        let other = path.with_file_name(other);
        other.is_file().then_some(other)
    })
}
