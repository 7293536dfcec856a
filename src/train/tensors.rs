//! Named tensors from the files that people have: safetensors, PyTorch checkpoints, TorchScript, ONNX, in one file
//! or in several.
//!
//! What a file is shows in its first bytes, not in its name (but for ONNX, whose first bytes may be anything). It keeps account of what was read: what nobody
//! asked for may change what the network computes.

pub mod onnx;
mod shards;
pub mod store;
mod torchscript;

pub(in crate::train) use onnx::files as onnx_files;
pub use shards::index_of;

use crate::bundle::envelope::hex;
use half::{bf16, f16};
use ndarray::{Array1, Array2, ArrayD, IxDyn};
use pytorch_reader::PytorchReader;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
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
        /// Name of the tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that was expected.
        wanted: String,
    },
    /// A number that is not finite.
    #[error("tensor `{0}` holds a number that is not finite")]
    NotFinite(String),
    /// An element type that no weight has.
    #[error("tensor `{0}` is stored as {1}; weights of F64, F32, F16 and BF16 are read")]
    Type(String, String),
}

/// A tensor as it lies in a file.
struct Raw {
    shape: Vec<usize>,
    dtype: String,
    data: Data,
}

/// A tensor's bytes, little-endian, row-major.
enum Data {
    Read(Vec<u8>),
    /// Read when they are wanted: a training checkpoint's optimizer takes twice the weights' memory.
    Later(pytorch_reader::Tensor),
}

/// Key in a safetensors file's metadata that says that its numbers were never trained.
pub const UNTRAINED: &str = "faprompt.untrained";

/// Key of the number of blocks that carry the V-V stream, where the weights were trained with it.
pub const VV_LAYERS: &str = "faprompt.vv_layers";
/// Metadata key for what the weights were made from: a JSON object, SHA-256 by what it is of.
pub const SOURCES: &str = "faprompt.sources";

/// All tensors of a file, by name.
pub struct Tensors {
    path: PathBuf,
    files: Vec<PathBuf>,
    notes: HashMap<String, String>,
    map: BTreeMap<String, Raw>,
    read: RefCell<BTreeSet<String>>,
    scripted: bool,
    computed: Option<onnx::Computed>,
}

fn decode(name: &str, raw: &Raw) -> Result<Vec<f32>, TensorError> {
    let bytes;
    let b = match &raw.data {
        Data::Read(bytes) => bytes,
        Data::Later(tensor) => {
            let failed = |e| TensorError::File(format!("tensor `{name}`: {e}"));
            bytes = tensor.read().map_err(failed)?;
            &bytes
        }
    };
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
    /// Reads a safetensors file, or a PyTorch checkpoint of any age, or a TorchScript archive, or the parameters of an
    /// ONNX file. Of a set of shards, the index (`*.index.json`) or any one of them stands for all; of two ONNX files
    /// with a tower each (`vision_model.onnx`, `text_model.onnx`) either one.
    ///
    /// # Errors
    /// [`TensorError::File`]: the file cannot be read, or holds no tensors.
    pub fn load(path: &Path) -> Result<Tensors, TensorError> {
        if path.extension().is_some_and(|e| e == "onnx") {
            return Tensors::load_onnx(path);
        }
        match index_of(path) {
            Some(index) => shards::load(&index),
            None => Tensors::load_one(path),
        }
    }

    fn load_onnx(path: &Path) -> Result<Tensors, TensorError> {
        let mut all = onnx::load(path)?;
        let Some(other) = onnx::other_tower(path) else {
            return Ok(all);
        };
        let more = onnx::load(&other)
            .map_err(|e| TensorError::File(format!("{}: {e}", other.display())))?;
        for (name, raw) in more.map {
            // Both towers may come with the scale of the training's loss.
            if all.map.insert(name.clone(), raw).is_some() && name != "logit_scale" {
                let what = format!("tensor `{name}` is in {} too", other.display());
                return Err(TensorError::File(what));
            }
        }
        if let (Some(own), Some(others)) = (&mut all.computed, more.computed) {
            own.join(others);
        }
        all.files.push(other);
        all.files.sort();
        Ok(all)
    }

    fn load_one(path: &Path) -> Result<Tensors, TensorError> {
        let file = |e: &dyn std::fmt::Display| TensorError::File(e.to_string());
        let (mut notes, mut scripted) = (HashMap::new(), false);
        let map = match kind(path)? {
            Kind::Safetensors => {
                let bytes = std::fs::read(path).map_err(|e| file(&e))?;
                let tensors = SafeTensors::deserialize(&bytes)
                    .map_err(|e| file(&format!("not a whole safetensors file: {e}")))?;
                let header = SafeTensors::read_metadata(&bytes).map_err(|e| file(&e))?.1;
                notes = header.metadata().clone().unwrap_or_default();
                let raw = |t: safetensors::tensor::TensorView| Raw {
                    shape: t.shape().to_vec(),
                    dtype: dtype_name(t.dtype()),
                    data: Data::Read(t.data().to_vec()),
                };
                tensors
                    .tensors()
                    .into_iter()
                    .map(|(name, t)| (name, raw(t)))
                    .collect()
            }
            Kind::PyTorch => match torchscript::load(path)? {
                Some(map) => {
                    scripted = true;
                    map
                }
                None => checkpoint(path)?,
            },
        };
        Ok(Tensors {
            path: path.to_path_buf(),
            files: vec![path.to_path_buf()],
            notes,
            map,
            read: RefCell::default(),
            scripted,
            computed: None,
        })
    }

    /// The file, or the index of several.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a TorchScript archive.
    pub fn is_scripted(&self) -> bool {
        self.scripted
    }

    /// What the graph that they stand in says of the network; only an ONNX file has one.
    pub fn computed(&self) -> Option<onnx::Computed> {
        self.computed
    }

    /// SHA-256 of the file in hexadecimal; of several, of their digests in the order of their names.
    ///
    /// # Errors
    /// The file system's.
    pub fn digest(&self) -> std::io::Result<String> {
        files_digest(&self.files)
    }

    /// Every name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// The names that no call read, in order.
    pub fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        let unread = self.map.keys().filter(|name| !read.contains(*name));
        unread.cloned().collect()
    }

    /// Counts a tensor as read that changes nothing.
    pub fn skip(&self, name: &str) {
        self.read.borrow_mut().insert(name.into());
    }

    /// The tensors whose names begin with `prefix`, without it, and the names of the others.
    pub fn below(self, prefix: &str) -> (Tensors, Vec<String>) {
        let (mut map, mut others) = (BTreeMap::new(), vec![]);
        for (name, raw) in self.map {
            match name.strip_prefix(prefix) {
                Some(rest) => _ = map.insert(rest.to_string(), raw),
                None => others.push(name),
            }
        }
        (
            Tensors {
                map,
                read: RefCell::default(),
                ..self
            },
            others,
        )
    }

    /// Whether the file says that its numbers were never trained.
    pub fn is_untrained(&self) -> bool {
        self.notes.contains_key(UNTRAINED)
    }

    /// What the file says that it was made from: SHA-256 by what it is of; nothing where it does not say.
    pub fn sources(&self) -> BTreeMap<String, String> {
        let text = self.note(SOURCES).unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default()
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
                data: Data::Read(bytes),
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
    /// [`TensorError::Missing`]: there is no tensor of this name.
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
        self.read.borrow_mut().insert(name.into());
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
            data: Data::Later(tensor),
        };
        map.insert(name, raw);
    }
    Ok(map)
}

enum Kind {
    Safetensors,
    PyTorch,
}

/// What a file is, by its first bytes: a header's length and `{`, or anything else, which is left to the
/// checkpoint readers. Names what people download instead of the file.
fn kind(path: &Path) -> Result<Kind, TensorError> {
    let fail = |e: std::io::Error| TensorError::File(e.to_string());
    let mut first = vec![];
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(64).read_to_end(&mut first).map_err(fail)?;
    if first.is_empty() {
        return Err(TensorError::File("an empty file".into()));
    }
    if first.starts_with(b"version https://git-lfs") {
        let what = "a Git LFS pointer, which stands for the file: fetch it with `git lfs pull`";
        return Err(TensorError::File(what.into()));
    }
    let text = first.trim_ascii_start();
    if text.starts_with(b"<!") || text.starts_with(b"<html") || text.starts_with(b"<HTML") {
        let what = "a web page, not the file: the download needs another address, or a login";
        return Err(TensorError::File(what.into()));
    }
    let named = path.extension().is_some_and(|e| e == "safetensors");
    let checkpoint = first.starts_with(b"PK") || first.starts_with(&[0x80]);
    match first.get(8) == Some(&b'{') || (named && !checkpoint) {
        true => Ok(Kind::Safetensors),
        false => Ok(Kind::PyTorch),
    }
}

/// SHA-256 of a file in hexadecimal; of several, of their digests.
///
/// # Errors
/// The file system's.
pub fn files_digest(files: &[PathBuf]) -> std::io::Result<String> {
    if let [file] = files {
        return file_digest(file);
    }
    let each = files.iter().map(|f| file_digest(f));
    let all = each.collect::<std::io::Result<Vec<_>>>()?.join("\n");
    Ok(hex(&Sha256::digest(all.as_bytes())))
}

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// The file system's.
pub fn file_digest(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hex(&hash.finalize()))
}
