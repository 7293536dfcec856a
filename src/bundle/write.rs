//! Writing a bundle: the other half of `read`, on the host only.

use super::envelope::{self, Envelope, FORMAT_VERSION, MANIFEST, METADATA_KEY};
use super::manifest::{Manifest, Precision};
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

/// Collects the tensors of a bundle.
pub struct BundleWriter {
    precision: Precision,
    tensors: BTreeMap<String, Stored>,
}

impl BundleWriter {
    /// A bundle whose matrices are stored in `precision`.
    pub fn new(precision: Precision) -> Self {
        BundleWriter {
            precision,
            tensors: BTreeMap::new(),
        }
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
                let bytes = values
                    .iter()
                    .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                    .collect();
                self.put(name, Dtype::F16, shape, bytes);
            }
        }
    }

    /// A weight matrix [rows, columns] in the bundle's precision. Int8 is symmetric with one scale per
    /// row, chosen so that the row's largest weight becomes 127.
    pub fn matrix(&mut self, name: &str, [rows, columns]: [usize; 2], values: &[f32]) {
        if self.precision != Precision::Int8 {
            return self.table(name, &[rows, columns], values);
        }
        let mut scales = Vec::with_capacity(rows);
        let mut bytes = Vec::with_capacity(values.len());
        for row in values.chunks_exact(columns) {
            let max = row.iter().fold(0f32, |m, v| m.max(v.abs()));
            let scale = if max > 0.0 { max / 127.0 } else { 1.0 };
            scales.push(scale);
            bytes.extend(
                row.iter()
                    .map(|v| (v / scale).round().clamp(-127.0, 127.0) as i8 as u8),
            );
        }
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
