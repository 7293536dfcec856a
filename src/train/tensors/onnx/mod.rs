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
use std::collections::HashMap;
use std::path::{Path, PathBuf};
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
        files: vec![path.to_path_buf()],
        notes: HashMap::new(),
        map: reading.named()?,
        read: RefCell::default(),
        scripted: false,
        computed: Some(computed),
    })
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
