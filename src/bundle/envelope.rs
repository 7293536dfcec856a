//! The file format, version 1.
//!
//! A bundle is a safetensors file. Its `__metadata__` has one key, `faprompt`, with a JSON text:
//! `{"format_version": 1, "digests": {PART: SHA-256, ...}, "manifest": {...}}`. Tensors are named
//! `PART/NAME`. The digest of the manifest is that of its JSON text as it stands; the digest of a
//! part is that of each of its tensors in name order: name, a zero byte, type, shape, data.
//! An int8 matrix `PART/NAME` [rows, columns] has a companion `PART/NAME.scale` [rows], f32: row r
//! is `scale[r] * int8`.

pub use crate::hex::hex;

use super::BundleError;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The only format version that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// The key in safetensors' metadata.
pub const METADATA_KEY: &str = "faprompt";

/// Name of the pseudo part that the manifest is.
pub const MANIFEST: &str = "manifest";

/// The largest header that is looked at; the largest real one (24 + 12 blocks) is under 100 kB.
pub const MAX_HEADER: u64 = 4 << 20;

/// What stands in the metadata.
#[derive(Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// SHA-256 of each part in hexadecimal.
    pub digests: BTreeMap<String, String>,
    /// The manifest's JSON text.
    #[serde(borrow)]
    pub manifest: &'a RawValue,
}

/// The version alone, which is read before the rest is interpreted.
#[derive(Deserialize)]
pub struct VersionOnly {
    /// As in [`Envelope`].
    pub format_version: u32,
}

/// The part that a tensor belongs to.
pub fn part_of(tensor: &str) -> &str {
    tensor.split_once('/').map_or("", |(part, _)| part)
}

/// The name of an element type in digests; types that no bundle has share one.
fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "F32",
        Dtype::F16 => "F16",
        Dtype::I8 => "I8",
        _ => "other",
    }
}

/// The digest of the manifest's text.
pub fn manifest_digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The digest of every part whose tensors `header` lists in `data`, which holds them all.
pub fn part_digests(header: &Metadata, data: &[u8]) -> BTreeMap<String, String> {
    let mut parts: BTreeMap<&str, Sha256> = BTreeMap::new();
    let tensors = header.tensors();
    let sorted: BTreeMap<&String, &&TensorInfo> = tensors.iter().collect();
    for (name, info) in sorted {
        let hash = parts.entry(part_of(name)).or_default();
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(format!("{} {:?}", dtype_name(info.dtype), info.shape).as_bytes());
        hash.update(&data[info.data_offsets.0..info.data_offsets.1]);
    }
    parts
        .into_iter()
        .map(|(part, hash)| (part.to_string(), hex(&hash.finalize())))
        .collect()
}

/// Splits a file into its header and the bytes behind it.
///
/// # Errors
/// Not a safetensors file, or one that is cut: then the first part that is not whole is named.
pub fn split(file: &[u8]) -> Result<(Metadata, &[u8]), BundleError> {
    let not = |what: &str| BundleError::NotABundle(what.to_string());
    let length = file
        .first_chunk::<8>()
        .map(|b| u64::from_le_bytes(*b))
        .ok_or_else(|| not("shorter than a header"))?;
    if length > MAX_HEADER {
        return Err(not("it does not begin with a safetensors header"));
    }
    let start = 8 + length as usize;
    let Some(header) = file.get(8..start) else {
        let missing = (start - file.len()) as u64;
        return Err(BundleError::Cut {
            part: "header".into(),
            missing,
        });
    };
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|e| not(&format!("its safetensors header is not valid: {e}")))?;
    let data = &file[start..];
    let wanted = metadata.data_len();
    if wanted > data.len() {
        let tensors = metadata.tensors();
        let first = tensors
            .iter()
            .filter(|(_, t)| t.data_offsets.1 > data.len())
            .min_by_key(|(_, t)| t.data_offsets);
        let part = first
            .map_or("header", |(name, _)| part_of(name))
            .to_string();
        return Err(BundleError::Cut {
            part,
            missing: (wanted - data.len()) as u64,
        });
    }
    if wanted < data.len() {
        let what = format!(
            "{} bytes follow behind the last tensor",
            data.len() - wanted
        );
        return Err(BundleError::Damaged {
            part: "file".into(),
            what,
        });
    }
    Ok((metadata, data))
}
