//! Writing a bundle: the other half of `read`, on the host only.

use super::Bundle;
use super::envelope::{self, Envelope, FORMAT_VERSION, MANIFEST, METADATA_KEY};
use super::manifest::{Manifest, Precision};
use crate::ops::weights::to_int8;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A number beyond f16 in a tensor that is stored in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("tensor `{tensor}` holds {value:e}, and f16 ends at {}", f16::MAX)]
pub struct TooLarge {
    /// Name of the tensor.
    pub tensor: String,
    /// The number.
    pub value: f32,
    /// How matrices are stored.
    pub precision: Precision,
}

/// Collects the tensors of a bundle.
pub struct BundleWriter {
    precision: Precision,
    too_large: Option<TooLarge>,
    tensors: BTreeMap<String, Stored>,
}

impl BundleWriter {
    /// A bundle whose matrices are stored in `precision`.
    pub fn new(precision: Precision) -> Self {
        BundleWriter {
            precision,
            too_large: None,
            tensors: BTreeMap::new(),
        }
    }

    /// The first number that f16 could not hold, if there is one: the bundle would compute with infinity.
    pub fn too_large(&self) -> Option<&TooLarge> {
        self.too_large.as_ref()
    }

    fn put(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        let replaced = self.tensors.insert(
            name.to_string(),
            Stored {
                dtype,
                shape: shape.to_vec(),
                bytes,
            },
        );
        assert!(replaced.is_none(), "tensor `{name}` was written twice");
    }

    /// A tensor that always stays f32: biases, scales, prototypes.
    pub fn exact(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.put(
            name,
            Dtype::F32,
            shape,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        );
    }

    /// A table that is added, not multiplied (positions, cached rows): f16 unless the bundle is f32.
    pub fn table(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        match self.precision {
            Precision::F32 => self.exact(name, shape, values),
            Precision::F16 | Precision::Int8 => {
                let beyond = |v: &&f32| !f16::from_f32(**v).is_finite();
                if let Some(value) = values.iter().find(beyond) {
                    self.too_large.get_or_insert(TooLarge {
                        tensor: name.into(),
                        value: *value,
                        precision: self.precision,
                    });
                }
                let bytes = values
                    .iter()
                    .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                    .collect();
                self.put(name, Dtype::F16, shape, bytes);
            }
        }
    }

    /// A text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.put(name, Dtype::U8, &[text.len()], text.into());
    }

    /// Whole numbers.
    pub fn integers(&mut self, name: &str, shape: &[usize], values: &[i64]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.put(name, Dtype::I64, shape, bytes);
    }

    /// Weights of any shape in the bundle's precision, int8 with a scale per row of the first axis; a few numbers,
    /// and those along one axis alone (biases, scales), stay f32.
    pub fn array(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        const FEW: usize = 256;
        let rows = shape.first().copied().unwrap_or(1);
        if values.len() < FEW || values.len() == rows {
            return self.exact(name, shape, values);
        }
        self.matrix(name, [rows, values.len() / rows], values);
        // A matrix of as many numbers.
        if let Some(stored) = self.tensors.get_mut(name) {
            stored.shape = shape.to_vec();
        }
    }

    /// Takes over every tensor of a bundle but those of `part`, byte by byte.
    pub fn copy(&mut self, bundle: &Bundle, without: &str) {
        for (name, dtype, shape, bytes) in bundle.stored() {
            if envelope::part_of(&name) != without {
                self.put(&name, dtype, &shape, bytes.to_vec());
            }
        }
    }

    /// A weight matrix [rows, columns] in the bundle's precision; int8 as [`to_int8`] rounds it.
    pub fn matrix(&mut self, name: &str, [rows, columns]: [usize; 2], values: &[f32]) {
        if self.precision != Precision::Int8 {
            return self.table(name, &[rows, columns], values);
        }
        let (values, scales) = to_int8(values, columns);
        let bytes = values.into_iter().map(i8::cast_unsigned).collect();
        self.put(name, Dtype::I8, &[rows, columns], bytes);
        self.exact(&format!("{name}.scale"), &[rows], &scales);
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// The error of safetensors, if it cannot write them.
    pub fn bytes(&self, manifest: &Manifest) -> std::io::Result<Vec<u8>> {
        let views = || {
            self.tensors.iter().map(|(name, t)| {
                let view = TensorView::new(t.dtype, t.shape.clone(), &t.bytes);
                (name.clone(), view.expect("bytes fit their shape"))
            })
        };
        // Once without metadata for the digests, once with them; headers do not enter a digest.
        let bare = safetensors::serialize(views(), None).map_err(std::io::Error::other)?;
        let (header, data) = envelope::split(&bare).map_err(std::io::Error::other)?;
        let text = serde_json::to_string(manifest)?;
        let mut digests = envelope::part_digests(&header, data);
        digests.insert(MANIFEST.into(), envelope::manifest_digest(&text));
        let raw = RawValue::from_string(text)?;
        let envelope = serde_json::to_string(&Envelope {
            format_version: FORMAT_VERSION,
            digests,
            manifest: &raw,
        })?;
        let metadata = HashMap::from([(METADATA_KEY.to_string(), envelope)]);
        safetensors::serialize(views(), Some(metadata)).map_err(std::io::Error::other)
    }
}
