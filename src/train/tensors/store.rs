//! Tensor files that this program writes: safetensors, whole or not at all.

use crate::bundle;
use crate::train::TrainError;
use crate::train::tensors::SOURCES;
use half::f16;
use ndarray::{Array, Dimension};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Tensors and notes on their way to a file.
#[derive(Default)]
pub struct Store {
    tensors: BTreeMap<String, Stored>,
    notes: HashMap<String, String>,
}

impl Store {
    /// An array, as f32.
    pub fn array<D: Dimension>(&mut self, name: impl Into<String>, array: &Array<f32, D>) {
        let bytes = array
            .as_standard_layout()
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let stored = Stored {
            dtype: Dtype::F32,
            shape: array.shape().to_vec(),
            bytes,
        };
        self.tensors.insert(name.into(), stored);
    }

    /// Adds a tensor whose values are stored as f16.
    pub fn half(&mut self, name: impl Into<String>, shape: &[usize], values: &[f32]) {
        let bytes = values
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect();
        let stored = Stored {
            dtype: Dtype::F16,
            shape: shape.to_vec(),
            bytes,
        };
        self.tensors.insert(name.into(), stored);
    }

    /// A note in the file's metadata.
    pub fn note(&mut self, key: &str, value: impl Into<String>) {
        self.notes.insert(key.into(), value.into());
    }

    /// What the file is made from, SHA-256 by what it is of: [`crate::train::tensors::Tensors::sources`] reads it.
    pub fn sources(&mut self, sources: &BTreeMap<String, String>) {
        if !sources.is_empty() {
            let text = serde_json::to_string(sources).expect("texts as keys");
            self.note(SOURCES, text);
        }
    }

    /// Writes the file beside `path` and renames it: `path` is old or new, never half.
    ///
    /// # Errors
    /// [`TrainError::Output`]: the file cannot be written.
    pub fn save(self, path: &Path) -> Result<(), TrainError> {
        let failed = |source| TrainError::Output {
            path: path.into(),
            source,
        };
        let views = self.tensors.iter().map(|(name, t)| {
            let view = TensorView::new(t.dtype, t.shape.clone(), &t.bytes);
            (name.clone(), view.expect("bytes fit their shape"))
        });
        let notes = (!self.notes.is_empty()).then_some(self.notes);
        let bytes =
            safetensors::serialize(views, notes).map_err(|e| failed(std::io::Error::other(e)))?;
        let bytes = ordered(&bytes).ok_or_else(|| failed(std::io::Error::other("header")))?;
        bundle::save(&bytes, path).map_err(failed)
    }
}

/// The same file with its header in alphabetical order: the library writes notes in an order that differs from run to
/// run, and the same seed shall give the same bytes.
fn ordered(bytes: &[u8]) -> Option<Vec<u8>> {
    const NOTES: &str = "__metadata__";
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    if let Some(notes) = header.remove(NOTES) {
        let notes: BTreeMap<String, String> = serde_json::from_value(notes).ok()?;
        let text = serde_json::to_value(notes).ok()?;
        header.insert(NOTES.into(), text);
    }
    let mut text = serde_json::to_vec(&header).ok()?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let length = (text.len() as u64).to_le_bytes();
    Some([&length[..], &text, data].concat())
}
