//! The parameters of a transformer in an ONNX file, under the names that they had in PyTorch.
//!
//! Exporters keep most names (`visual.ln_pre.weight`), but fold matrices, class tokens and positions into constants
//! without one (`onnx::MatMul_455`, `val_25`). Those are named by what uses them: a matrix by the bias that is added
//! to its products, or by the path of its node; a class token and positions by where they join the pictures' or the
//! words' rows. How a matrix lies is known from its use too: `MatMul` has [inputs, outputs], PyTorch the other way.
//! `tract-onnx` reads the file. What finds no name keeps its own, so that readers can refuse it.

mod computed;
mod graph;
mod names;

pub use computed::Computed;

use super::{TensorError, Tensors};
use graph::Reading;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use tract_onnx::pb::GraphProto;
use tract_onnx::prelude::*;

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
        files: files_of(path, &graph),
        notes: HashMap::new(),
        map: reading.named()?,
        read: RefCell::default(),
        scripted: false,
        computed: Some(computed),
    })
}

/// The ONNX file and the files beside it that it keeps numbers in.
///
/// # Errors
/// [`TensorError`]: no ONNX file that tract reads.
pub(in crate::train) fn files(path: &Path) -> Result<Vec<PathBuf>, TensorError> {
    let model = tract_onnx::onnx().proto_model_for_path(path);
    let model =
        model.map_err(|e| TensorError::File(format!("no ONNX file that tract reads: {e:#}")))?;
    let graph = model.graph.unwrap_or_default();
    Ok(files_of(path, &graph))
}

fn files_of(path: &Path, graph: &GraphProto) -> Vec<PathBuf> {
    let mut beside = BTreeSet::new();
    locations(graph, &mut beside);
    let beside = beside.into_iter().map(|name| path.with_file_name(name));
    std::iter::once(path.to_path_buf()).chain(beside).collect()
}

/// The names under which numbers are kept, in branches and loops too.
fn locations<'a>(graph: &'a GraphProto, found: &mut BTreeSet<&'a str>) {
    let attributes = || graph.node.iter().flat_map(|n| &n.attribute);
    let constants = attributes().flat_map(|a| a.t.iter().chain(&a.tensors));
    for tensor in graph.initializer.iter().chain(constants) {
        let entry = tensor.external_data.iter().find(|e| e.key == "location");
        found.extend(entry.map(|e| e.value.as_str()));
    }
    for inner in attributes().flat_map(|a| a.g.iter().chain(&a.graphs)) {
        locations(inner, found);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{StringStringEntryProto, TensorProto};

    #[test]
    fn numbers_in_files_of_their_own_count_in_the_digest() {
        let kept = |name: &str| TensorProto {
            external_data: vec![StringStringEntryProto {
                key: "location".into(),
                value: name.into(),
            }],
            ..TensorProto::default()
        };
        let graph = GraphProto {
            initializer: vec![kept("b.data"), kept("a.data"), kept("a.data")],
            ..GraphProto::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let files = files_of(&at("m.onnx"), &graph);
        assert_eq!(files, [at("m.onnx"), at("a.data"), at("b.data")]);
        for file in &files {
            std::fs::write(file, b"1").unwrap();
        }
        let digest = || crate::train::tensors::files_digest(&files).unwrap();
        let before = digest();
        std::fs::write(at("b.data"), b"2").unwrap();
        assert_ne!(digest(), before);
    }
}
