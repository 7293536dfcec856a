//! Opening a bundle and taking tensors out of it.

use super::bytes::Bytes;
use super::envelope::{
    self, Envelope, FORMAT_VERSION, MANIFEST, METADATA_KEY, VersionOnly, part_of,
};
use super::{BundleError, Keys, Manifest, signature_of};
use crate::ops::tract::Tensor;
use crate::ops::weights::{Arithmetic, Matrix};
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::path::Path;

/// An opened bundle: intact, of a version that this program knows, with a manifest that makes sense.
#[derive(Debug)]
pub struct Bundle {
    bytes: Bytes,
    header: Metadata,
    data_start: usize,
    manifest: Manifest,
    digests: BTreeMap<String, String>,
}

impl Bundle {
    /// Reads the file at `path`, once, and checks it whole: if there are keys the signature next to it first, then
    /// format, version, digests, manifest.
    ///
    /// # Errors
    /// Every [`BundleError`].
    pub fn open(path: &Path, keys: &Keys) -> Result<Bundle, BundleError> {
        let bytes = Bytes::read(path)?;
        if !keys.is_empty() {
            let beside = signature_of(path);
            let signature = std::fs::read_to_string(&beside).ok();
            keys.verify(&bytes, signature.as_deref(), &beside.display().to_string())?;
        }
        Bundle::check(bytes)
    }

    /// Checks a bundle that is part of the program, as [`Bundle::open`] does. It has no signature: where there are keys, none is
    /// loaded that way.
    ///
    /// # Errors
    /// Every [`BundleError`] but those of files.
    pub fn built_in(bytes: &'static [u8], keys: &Keys) -> Result<Bundle, BundleError> {
        keys.verify(bytes, None, "the built-in bundle's signature")?;
        Bundle::check(Bytes::BuiltIn(bytes))
    }

    /// Checks a bundle in memory, as [`Bundle::open`] does, without a signature.
    ///
    /// # Errors
    /// Every [`BundleError`] that contents can cause.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Bundle, BundleError> {
        Bundle::check(Bytes::Owned(bytes))
    }

    /// The bytes of the whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn check(bytes: Bytes) -> Result<Bundle, BundleError> {
        let (header, data) = envelope::split(&bytes)?;
        let data_start = bytes.len() - data.len();
        let text = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(METADATA_KEY))
            .ok_or_else(|| {
                BundleError::NotABundle("a safetensors file without a faprompt manifest".into())
            })?;
        let not = |e: serde_json::Error| {
            BundleError::NotABundle(format!("its manifest is not valid: {e}"))
        };
        let version = serde_json::from_str::<VersionOnly>(text)
            .map_err(not)?
            .format_version;
        if version != FORMAT_VERSION {
            return Err(BundleError::Version(version));
        }
        let envelope: Envelope = serde_json::from_str(text).map_err(not)?;
        let mut digests = envelope::part_digests(&header, data);
        digests.insert(
            MANIFEST.into(),
            envelope::manifest_digest(envelope.manifest.get()),
        );
        for part in digests.keys().chain(envelope.digests.keys()) {
            let what = match (envelope.digests.get(part), digests.get(part)) {
                (Some(written), Some(found)) if written == found => continue,
                (Some(_), Some(found)) => {
                    format!("its SHA-256 is {found}, not the one that was written")
                }
                (Some(_), None) => "it is missing".into(),
                (None, _) => "it has no digest".into(),
            };
            return Err(BundleError::Damaged {
                part: part.clone(),
                what,
            });
        }
        let manifest: Manifest = serde_json::from_str(envelope.manifest.get())
            .map_err(|e| BundleError::architecture(MANIFEST, e))?;
        manifest.check()?;
        Ok(Bundle {
            header,
            data_start,
            manifest,
            digests,
            bytes,
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of each part in hexadecimal, by its name.
    pub fn digests(&self) -> &BTreeMap<String, String> {
        &self.digests
    }

    /// The number of tensors and of bytes of each part, by its name.
    pub fn parts(&self) -> BTreeMap<String, (usize, u64)> {
        let mut parts: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for (name, info) in self.header.tensors() {
            let part = parts.entry(part_of(&name).to_string()).or_default();
            part.0 += 1;
            part.1 += (info.data_offsets.1 - info.data_offsets.0) as u64;
        }
        parts
    }

    /// Size of the file in bytes.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Always `false`: a bundle has at least a manifest.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// Every tensor as it is stored: name, type, shape, bytes.
    #[cfg(feature = "train")]
    pub(super) fn stored(&self) -> impl Iterator<Item = (String, Dtype, Vec<usize>, &[u8])> {
        let data = &self.bytes[self.data_start..];
        self.header.tensors().into_iter().map(move |(name, info)| {
            let bytes = &data[info.data_offsets.0..info.data_offsets.1];
            (name, info.dtype, info.shape.clone(), bytes)
        })
    }

    /// The names of a part's tensors, in order; the scales of int8 ones are no tensors of their own.
    pub fn names(&self, part: &str) -> Vec<String> {
        let mut names: Vec<String> = self.header.tensors().into_keys().collect();
        names.retain(|name| part_of(name) == part);
        let scale = |name: &String| {
            let of = name
                .strip_suffix(".scale")
                .and_then(|n| self.header.info(n));
            of.is_some_and(|info| info.dtype == Dtype::I8)
        };
        names.retain(|name| !scale(name));
        names.sort();
        names
    }

    /// What a part's weights are stored in: int8 or f16 if any of them is, as [`Arithmetic::here`] takes it.
    pub fn stored_in(&self, part: &str) -> Arithmetic {
        let tensors = self.header.tensors();
        let own = tensors.iter().filter(|(name, _)| part_of(name) == part);
        let types: Vec<Dtype> = own.map(|(_, info)| info.dtype).collect();
        match (types.contains(&Dtype::I8), types.contains(&Dtype::F16)) {
            (true, _) => Arithmetic::Int8,
            (false, true) => Arithmetic::F16,
            (false, false) => Arithmetic::F32,
        }
    }

    /// A text of at most `longest` bytes.
    ///
    /// # Errors
    /// [`BundleError::Architecture`]: missing, longer, of another type, or not UTF-8.
    pub fn text(&self, name: &str, longest: usize) -> Result<&str, BundleError> {
        let fail =
            |what: &str| BundleError::architecture(part_of(name), format!("`{name}` {what}"));
        let length = self
            .header
            .info(name)
            .map_or(0, |info| info.shape.iter().product());
        let (dtype, bytes) = self.raw(name, &[length])?;
        if dtype != Dtype::U8 {
            return Err(fail("is no text"));
        }
        if length > longest {
            return Err(fail("is too long"));
        }
        std::str::from_utf8(bytes).map_err(|_| fail("is not UTF-8"))
    }

    /// The tensor `PART/NAME` of whatever shape it has: f32, f16 and int8 as f32, whole numbers as i64.
    ///
    /// # Errors
    /// [`BundleError::Architecture`]: missing, of another type, or a number that is not finite.
    pub fn array(&self, name: &str) -> Result<Tensor, BundleError> {
        let fail = |what: String| BundleError::architecture(part_of(name), what);
        let info = self.header.info(name);
        let shape = &info
            .ok_or_else(|| fail(format!("tensor `{name}` is missing")))?
            .shape;
        let (dtype, bytes) = self.raw(name, shape)?;
        match (dtype, shape.first()) {
            (Dtype::I64, _) => {
                let bytes = bytes.as_chunks::<8>().0.iter();
                let values: Vec<i64> = bytes.map(|b| i64::from_le_bytes(*b)).collect();
                Tensor::from_shape(shape, &values).map_err(|e| fail(e.to_string()))
            }
            (Dtype::I8, Some(rows)) => {
                let scales = self.tensor(&format!("{name}.scale"), &[*rows])?;
                let scales = crate::ops::slice(&scales).map_err(|e| fail(e.to_string()))?;
                let row = bytes.len() / rows.max(&1);
                let values: Vec<f32> = bytes
                    .chunks(row.max(1))
                    .zip(scales)
                    .flat_map(|(row, scale)| row.iter().map(move |b| f32::from(*b as i8) * scale))
                    .collect();
                Tensor::from_shape(shape, &values).map_err(|e| fail(e.to_string()))
            }
            _ => self.tensor(name, shape),
        }
    }

    fn raw(&self, name: &str, shape: &[usize]) -> Result<(Dtype, &[u8]), BundleError> {
        let fail = |what: String| BundleError::architecture(part_of(name), what);
        let info = self
            .header
            .info(name)
            .ok_or_else(|| fail(format!("tensor `{name}` is missing")))?;
        if info.shape != shape {
            return Err(fail(format!(
                "tensor `{name}` is {:?}, the manifest makes it {shape:?}",
                info.shape
            )));
        }
        // The offsets were checked against the file when it was opened.
        let data = &self.bytes[self.data_start..];
        Ok((info.dtype, &data[info.data_offsets.0..info.data_offsets.1]))
    }

    /// The matrix `PART/NAME` [rows, columns] in the type that it is stored in.
    ///
    /// # Errors
    /// [`BundleError::Architecture`]: missing, another shape or type, or a number that is not finite.
    pub fn matrix(&self, name: &str, [rows, columns]: [usize; 2]) -> Result<Matrix, BundleError> {
        let fail = |what: String| BundleError::architecture(part_of(name), what);
        let finite = |ok: bool| {
            if ok {
                Ok(())
            } else {
                Err(fail(format!(
                    "tensor `{name}` holds a number that is not finite"
                )))
            }
        };
        let (dtype, bytes) = self.raw(name, &[rows, columns])?;
        if rows == 0 || columns == 0 {
            return Err(fail(format!("tensor `{name}` is empty")));
        }
        match dtype {
            Dtype::F32 => {
                let values = floats(bytes);
                finite(values.iter().all(|v| v.is_finite()))?;
                let tensor = Tensor::from_shape(&[rows, columns], &values)
                    .map_err(|e| fail(e.to_string()))?;
                Ok(Matrix::F32(tensor))
            }
            Dtype::F16 => {
                let values: Vec<f16> = bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|b| f16::from_le_bytes(*b))
                    .collect();
                finite(values.iter().all(|v| v.is_finite()))?;
                Ok(Matrix::F16 { values, columns })
            }
            Dtype::I8 => {
                let (scale_type, scales) = self.raw(&format!("{name}.scale"), &[rows])?;
                if scale_type != Dtype::F32 {
                    return Err(fail(format!(
                        "the scales of tensor `{name}` are stored as {scale_type:?}"
                    )));
                }
                let scales = floats(scales);
                finite(scales.iter().all(|v| v.is_finite()))?;
                Ok(Matrix::Int8 {
                    values: bytes.iter().map(|b| *b as i8).collect(),
                    columns,
                    scales,
                })
            }
            other => Err(fail(format!("tensor `{name}` is stored as {other:?}"))),
        }
    }

    /// The tensor `PART/NAME` of the given shape, stored as f32 or f16, as f32.
    ///
    /// # Errors
    /// [`BundleError::Architecture`]: missing, another shape or type, or a number that is not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, BundleError> {
        let fail = |what: String| BundleError::architecture(part_of(name), what);
        let (dtype, bytes) = self.raw(name, shape)?;
        let values: Vec<f32> = match dtype {
            Dtype::F32 => floats(bytes),
            Dtype::F16 => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| f16::from_le_bytes(*b).to_f32())
                .collect(),
            other => return Err(fail(format!("tensor `{name}` is stored as {other:?}"))),
        };
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(fail(format!("tensor `{name}` holds {bad}")));
        }
        Tensor::from_shape(shape, &values).map_err(|e| fail(e.to_string()))
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}
