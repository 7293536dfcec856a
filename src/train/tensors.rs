//! Named tensors from the files that people have: safetensors, PyTorch checkpoints, TorchScript.

pub mod store;
mod torchscript;

use half::{bf16, f16};
use ndarray::{Array1, Array2, ArrayD, IxDyn};
use pytorch_reader::PytorchReader;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Why a tensor file or a tensor of it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// Unreadable, or no format that is known.
    #[error("{0}")]
    File(String),
    /// Not in the file.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// Not what the architecture wants.
    #[error("tensor `{name}` is {found:?}, expected {wanted}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that was expected.
        wanted: String,
    },
    /// A number that is not finite.
    #[error("tensor `{0}` holds a number that is not finite")]
    NotFinite(String),
    /// An element type that no weight has.
    #[error("tensor `{0}` is stored as {1}")]
    Type(String, String),
}

/// A tensor as it lies in a file.
pub struct Raw {
    shape: Vec<usize>,
    dtype: String,
    bytes: Vec<u8>,
}

/// Key in a safetensors file's metadata that says that its numbers were never trained.
pub const UNTRAINED: &str = "faprompt.untrained";

/// Key of the number of blocks that carry the V-V stream, where the weights were trained with it.
pub const VV_LAYERS: &str = "faprompt.vv_layers";

/// All tensors of a file, by name.
pub struct Tensors {
    path: PathBuf,
    notes: HashMap<String, String>,
    map: BTreeMap<String, Raw>,
}

fn decode(name: &str, raw: &Raw) -> Result<Vec<f32>, TensorError> {
    let b = &raw.bytes;
    let values: Vec<f32> = match raw.dtype.as_str() {
        "F64" => b
            .as_chunks::<8>()
            .0
            .iter()
            .map(|c| f64::from_le_bytes(*c) as f32)
            .collect(),
        "F32" => b
            .as_chunks::<4>()
            .0
            .iter()
            .map(|c| f32::from_le_bytes(*c))
            .collect(),
        "F16" => b
            .as_chunks::<2>()
            .0
            .iter()
            .map(|c| f16::from_le_bytes(*c).to_f32())
            .collect(),
        "BF16" => b
            .as_chunks::<2>()
            .0
            .iter()
            .map(|c| bf16::from_le_bytes(*c).to_f32())
            .collect(),
        "I64" => b
            .as_chunks::<8>()
            .0
            .iter()
            .map(|c| i64::from_le_bytes(*c) as f32)
            .collect(),
        "U8" => b.iter().map(|v| f32::from(*v)).collect(),
        "I32" => b
            .as_chunks::<4>()
            .0
            .iter()
            .map(|c| i32::from_le_bytes(*c) as f32)
            .collect(),
        other => return Err(TensorError::Type(name.into(), other.into())),
    };
    if values.len() != raw.shape.iter().product::<usize>() {
        return Err(TensorError::File(format!(
            "tensor `{name}` has {} elements for {:?}",
            values.len(),
            raw.shape
        )));
    }
    if values.iter().all(|v| v.is_finite()) {
        Ok(values)
    } else {
        Err(TensorError::NotFinite(name.into()))
    }
}

impl Tensors {
    /// Reads a `.safetensors` file, or a PyTorch checkpoint of any age, or a TorchScript archive.
    ///
    /// # Errors
    /// [`TensorError::File`].
    pub fn load(path: &Path) -> Result<Tensors, TensorError> {
        let file = |e: &dyn std::fmt::Display| TensorError::File(e.to_string());
        let mut notes = HashMap::new();
        let map = if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = std::fs::read(path).map_err(|e| file(&e))?;
            let tensors = SafeTensors::deserialize(&bytes)
                .map_err(|e| file(&format!("not a safetensors file: {e}")))?;
            let header = SafeTensors::read_metadata(&bytes).map_err(|e| file(&e))?.1;
            notes = header.metadata().clone().unwrap_or_default();
            let raw = |t: safetensors::tensor::TensorView| Raw {
                shape: t.shape().to_vec(),
                dtype: dtype_name(t.dtype()),
                bytes: t.data().to_vec(),
            };
            tensors
                .tensors()
                .into_iter()
                .map(|(name, t)| (name, raw(t)))
                .collect()
        } else {
            std::fs::metadata(path).map_err(|e| file(&e))?;
            match torchscript::load(path)? {
                Some(map) => map,
                None => checkpoint(path)?,
            }
        };
        Ok(Tensors {
            path: path.to_path_buf(),
            notes,
            map,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file says that its numbers were never trained.
    pub fn is_untrained(&self) -> bool {
        self.notes.contains_key(UNTRAINED)
    }

    /// A note in the file's metadata (safetensors only).
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// The same tensors without a prefix that they all share, if they do.
    pub fn without_prefix(mut self, prefix: &str) -> Tensors {
        if self.map.keys().any(|k| k.starts_with(prefix)) {
            self.map = self
                .map
                .into_iter()
                .filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v)))
                .collect();
        }
        self
    }

    /// Adds one tensor, as if it had been in the file.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.map.insert(
            name.into(),
            Raw {
                shape: shape.to_vec(),
                dtype: "F32".into(),
                bytes,
            },
        );
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// [`TensorError::Missing`].
    pub fn shape(&self, name: &str) -> Result<&[usize], TensorError> {
        self.map
            .get(name)
            .map(|t| &*t.shape)
            .ok_or_else(|| TensorError::Missing(name.into()))
    }

    /// How many `prefix0suffix`, `prefix1suffix`, ... there are.
    ///
    /// # Errors
    /// [`TensorError::Missing`] for a gap: without it a network would silently lack its last blocks.
    pub fn count(&self, prefix: &str, suffix: &str) -> Result<usize, TensorError> {
        let number = |name: &String| -> Option<usize> {
            name.strip_prefix(prefix)?
                .strip_suffix(suffix)?
                .parse()
                .ok()
        };
        let found: BTreeSet<usize> = self.map.keys().filter_map(number).collect();
        let gap = (0..found.len()).find(|i| !found.contains(i));
        gap.map_or(Ok(found.len()), |i| {
            Err(TensorError::Missing(format!("{prefix}{i}{suffix}")))
        })
    }

    /// A tensor of any shape.
    ///
    /// # Errors
    /// Every [`TensorError`].
    pub fn array(&self, name: &str) -> Result<ArrayD<f32>, TensorError> {
        let raw = self
            .map
            .get(name)
            .ok_or_else(|| TensorError::Missing(name.into()))?;
        let values = decode(name, raw)?;
        ArrayD::from_shape_vec(IxDyn(&raw.shape), values)
            .map_err(|e| TensorError::File(format!("tensor `{name}`: {e}")))
    }

    /// A vector.
    ///
    /// # Errors
    /// Every [`TensorError`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Array1<f32>, TensorError> {
        let array = self.array(name)?;
        let found = array.shape().to_vec();
        let wrong = || TensorError::Shape {
            name: name.into(),
            found,
            wanted: format!("[{len}]"),
        };
        if array.shape() != [len] {
            return Err(wrong());
        }
        array.into_dimensionality().map_err(|_| wrong())
    }

    /// A matrix; `None` leaves a side open.
    ///
    /// # Errors
    /// Every [`TensorError`].
    pub fn matrix(
        &self,
        name: &str,
        rows: Option<usize>,
        columns: Option<usize>,
    ) -> Result<Array2<f32>, TensorError> {
        let array = self.array(name)?;
        let found = array.shape().to_vec();
        let side = |s: Option<usize>| s.map_or("any".to_string(), |s| s.to_string());
        let wrong = || TensorError::Shape {
            name: name.into(),
            found: found.clone(),
            wanted: format!("[{}, {}]", side(rows), side(columns)),
        };
        match *array.shape() {
            [r, c]
                if rows.is_none_or(|x| x == r)
                    && columns.is_none_or(|x| x == c)
                    && r > 0
                    && c > 0 =>
            {
                array.into_dimensionality().map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }
}

fn dtype_name(dtype: Dtype) -> String {
    format!("{dtype:?}")
}

fn checkpoint(path: &Path) -> Result<BTreeMap<String, Raw>, TensorError> {
    let fail = |e: &dyn std::fmt::Display| {
        TensorError::File(format!("not a PyTorch checkpoint that can be read: {e}"))
    };
    let reader = PytorchReader::new(path).map_err(|e| fail(&e))?;
    let mut map = BTreeMap::new();
    for (name, tensor) in reader.into_tensors() {
        let raw = Raw {
            shape: tensor.shape().to_vec(),
            dtype: format!("{:?}", tensor.dtype()),
            bytes: tensor
                .read()
                .map_err(|e| fail(&format!("tensor `{name}`: {e}")))?,
        };
        map.insert(name, raw);
    }
    Ok(map)
}
