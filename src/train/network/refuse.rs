//! ONNX files that cannot be used, by the names of their nodes.

use crate::train::some;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::tract_itertools::Itertools;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

/// The newest opset whose operators tract knows as they are.
const NEWEST: i64 = 18;
/// Nodes that a message names.
const SHOWN: usize = 4;

/// Refuses what tract fails at or computes wrongly, by name, as far as a tap depends on it; without `taps` the outputs
/// count.
pub(super) fn refuse_miscomputed(path: &Path, taps: &[String]) -> TractResult<()> {
    let graph = tract_onnx::onnx().proto_model_for_path(path)?.graph;
    let odd = miscomputed(&graph.unwrap_or_default(), taps);
    ensure!(
        odd.is_empty(),
        "operators that are not supported: {}",
        odd.iter().join(", ")
    );
    Ok(())
}

/// Refuses a quantised file, as far as a tap depends on it: a bundle rounds weights itself.
pub(super) fn refuse_quantised(path: &Path, taps: &[String]) -> TractResult<()> {
    let Ok(model) = tract_onnx::onnx().proto_model_for_path(path) else {
        // Whoever reads it says why it cannot be read.
        return Ok(());
    };
    let graph = model.graph.unwrap_or_default();
    let nodes = needed(&graph, taps).into_iter();
    let odd = nodes
        .filter(|n| is_quantised(n))
        .map(|n| named(&n.op_type, n))
        .collect_vec();
    ensure!(
        odd.is_empty(),
        "it is quantised: {}; give the float file that it was made from, --precision int8 rounds its weights",
        some(&odd, SHOWN, "more")
    );
    Ok(())
}

fn is_quantised(node: &NodeProto) -> bool {
    let kind = node.op_type.to_lowercase();
    // ONNX Runtime's own operators too: `QGemm`, `QAttention`, `MatMulNBits`.
    let parts = ["quantize", "integer", "nbits"];
    let starts = ["qlinear", "qgemm", "qattention"];
    parts.iter().any(|part| kind.contains(part)) || starts.iter().any(|s| kind.starts_with(s))
}

/// An operator and the name of its node; of one without a name, of what it makes.
fn named(what: &str, node: &NodeProto) -> String {
    let name = Some(&node.name).filter(|n| !n.is_empty());
    let name = name.or(node.output.first()).map_or("", String::as_str);
    format!("{what} ({name})")
}

/// What to do about operators of a file that cannot be used: older ones do, if the file has newer ones than are known.
pub(super) fn advice(path: &Path) -> String {
    let model = tract_onnx::onnx().proto_model_for_path(path).ok();
    let opsets = model.map_or(vec![], |m| m.opset_import);
    let own = opsets
        .iter()
        .filter(|o| ["", "ai.onnx"].contains(&&*o.domain));
    match own.map(|o| o.version).max() {
        Some(version) if version > NEWEST => format!(
            "; its operators are those of opset {version}, and those up to {NEWEST} are known: export it with opset 17"
        ),
        _ => String::new(),
    }
}

/// What the taps depend on, or, without any, the outputs.
fn needed<'a>(graph: &'a GraphProto, taps: &'a [String]) -> Vec<&'a NodeProto> {
    let mut wanted: Vec<&str> = match taps.is_empty() {
        true => graph.output.iter().map(|o| o.name.as_str()).collect(),
        false => taps.iter().map(String::as_str).collect(),
    };
    let makers: HashMap<&str, &NodeProto> = (graph.node.iter())
        .flat_map(|n| {
            let made = n.output.iter().map(String::as_str);
            made.chain([n.name.as_str()]).map(move |name| (name, n))
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let (mut seen, mut all) = (HashSet::new(), vec![]);
    while let Some(name) = wanted.pop() {
        let node = makers.get(name).copied();
        let Some(node) = node.filter(|n| seen.insert(std::ptr::from_ref::<NodeProto>(n))) else {
            continue;
        };
        wanted.extend(node.input.iter().map(String::as_str));
        all.push(node);
    }
    all
}

fn miscomputed(graph: &GraphProto, taps: &[String]) -> Vec<String> {
    let mut odd = vec![];
    for node in needed(graph, taps) {
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let alpha = attribute("alpha").map_or(1.0, |a| a.f);
        let pads = match node.input.get(1) {
            Some(input) if node.op_type == "Pad" => integers(graph, input),
            _ => attribute("pads").map_or(vec![], |a| a.ints.clone()),
        };
        let what = match node.op_type.as_str() {
            "Celu" if alpha != 1.0 => format!("Celu with alpha {alpha}"),
            kind if pads.iter().any(|p| *p < 0) => format!("{kind} with negative pads"),
            _ => continue,
        };
        odd.push(named(&what, node));
    }
    odd
}

/// A constant of whole numbers; none if it is no such constant, or kept in a file of its own.
fn integers(graph: &GraphProto, name: &str) -> Vec<i64> {
    let constant = |n: &&NodeProto| n.op_type == "Constant" && n.output.iter().any(|o| o == name);
    let of_node = graph.node.iter().find(constant);
    let of_node = of_node.and_then(|n| n.attribute.iter().find_map(|a| a.t.as_ref()));
    let named = graph.initializer.iter().find(|t| t.name == name);
    let Some(tensor) = named.or(of_node) else {
        return vec![];
    };
    match tensor.int64_data.is_empty() {
        true => {
            let each = tensor.raw_data.as_chunks::<8>().0.iter();
            each.map(|b| i64::from_le_bytes(*b)).collect()
        }
        false => tensor.int64_data.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tract_computes_wrongly_is_named_where_a_tap_needs_it() {
        use tract_onnx::pb::{AttributeProto, TensorProto};
        let node = |kind: &str, from: &[&str], to: &str, attribute: AttributeProto| NodeProto {
            name: format!("/{to}"),
            op_type: kind.into(),
            input: from.iter().map(|i| i.to_string()).collect(),
            output: vec![to.into()],
            attribute: vec![attribute],
            ..NodeProto::default()
        };
        let alpha = |f: f32| AttributeProto {
            name: "alpha".into(),
            f,
            ..AttributeProto::default()
        };
        let pads = |ints: [i64; 4]| AttributeProto {
            name: "pads".into(),
            ints: ints.to_vec(),
            ..AttributeProto::default()
        };
        let constant = |name: &str, values: [i64; 4]| TensorProto {
            name: name.into(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        let graph = GraphProto {
            node: vec![
                node("Celu", &["x"], "usual", alpha(1.0)),
                node("Pad", &["usual", "more"], "padded", alpha(0.0)),
                node("Celu", &["padded"], "bent", alpha(1.5)),
                node("Pad", &["padded", "less"], "cut", alpha(0.0)),
                node("MaxPool", &["cut"], "pooled", pads([0, -1, 0, 0])),
            ],
            initializer: vec![
                constant("more", [0, 0, 1, 2]),
                constant("less", [0, 0, -1, 2]),
            ],
            ..GraphProto::default()
        };
        let of = |tap: &str| miscomputed(&graph, &[tap.to_string()]);
        assert_eq!(of("padded"), Vec::<String>::new());
        assert_eq!(of("bent"), ["Celu with alpha 1.5 (/bent)"]);
        // By the node's name, too.
        assert_eq!(of("/cut"), ["Pad with negative pads (/cut)"]);
        let both = [
            "MaxPool with negative pads (/pooled)",
            "Pad with negative pads (/cut)",
        ];
        assert_eq!(of("pooled"), both);
    }
}
