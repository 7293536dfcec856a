//! Tensor files that this program writes: safetensors, whole or not at all.

use crate::bundle;
use crate::train::TrainError;
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

    /// Values, as f16.
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

    /// Writes the file beside `path` and renames it: `path` is old or new, never half.
    ///
    /// # Errors
    /// [`TrainError::Output`].
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
        bundle::save(&bytes, path).map_err(failed)
    }
}
