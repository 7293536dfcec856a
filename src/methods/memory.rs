//! What WinCLIP and APRIL-GAN remember of good parts: their few-shot forms, as published.
//!
//! Rows of unit length of every good part, kept as they are: a set per scale or stage. (The station's own
//! memory of good parts is another thing, of FAPrompt's.)

use crate::bundle::method::Method;
use crate::ops::dot;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Key of what a file says of itself.
const KEY: &str = "faprompt.good_parts";

/// What a file says of itself.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    method: Method,
    /// SHA-256 of the encoder that saw the parts.
    encoder: String,
    parts: usize,
    range: Option<(f32, f32)>,
}

/// Why a file of good parts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not such a file, or a damaged one.
    #[error("no file of good parts: {0}")]
    Malformed(String),
    /// Of another bundle or method.
    #[error("taught with {0}: teach again")]
    Another(String),
}

/// Rows of good parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Rows of each set, one behind the other, unit length.
    pub sets: Vec<Vec<f32>>,
    /// Their widths.
    pub widths: Vec<usize>,
    /// Good parts.
    pub parts: usize,
    /// Smallest and largest of what good parts' maps come to, each part compared with the others: APRIL-GAN's
    /// image score is scaled by it.
    pub range: Option<(f32, f32)>,
}

impl Memory {
    /// Whether there is nothing to compare with.
    pub fn is_empty(&self) -> bool {
        self.parts == 0
    }

    /// The bytes of a file, bound to a method and to the digest of an encoder.
    ///
    /// # Errors
    /// safetensors' own; none is known.
    pub fn bytes(&self, method: Method, encoder: &str) -> std::io::Result<Vec<u8>> {
        let about = About {
            method,
            encoder: encoder.into(),
            parts: self.parts,
            range: self.range,
        };
        let sets: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .sets
            .iter()
            .zip(&self.widths)
            .enumerate()
            .map(|(i, (set, width))| {
                let bytes = set.iter().flat_map(|v| v.to_le_bytes()).collect();
                (format!("rows.{i}"), vec![set.len() / width, *width], bytes)
            })
            .collect();
        let views = sets.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name.clone(), view.expect("bytes fit their shape"))
        });
        let notes = HashMap::from([(KEY.to_string(), serde_json::to_string(&about)?)]);
        safetensors::serialize(views, Some(notes)).map_err(std::io::Error::other)
    }

    /// Reads a file's bytes for a method and an encoder.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn from_bytes(bytes: &[u8], method: Method, encoder: &str) -> Result<Memory, MemoryError> {
        let bad = |e: &dyn std::fmt::Display| MemoryError::Malformed(e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(&e))?;
        let notes = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let text = notes.ok_or_else(|| bad(&"it says nothing of its method"))?;
        let about: About = serde_json::from_str(text).map_err(|e| bad(&e))?;
        if about.method != method {
            return Err(MemoryError::Another(format!("method {}", about.method)));
        }
        if about.encoder != encoder {
            return Err(MemoryError::Another("another encoder".into()));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| bad(&e))?;
        let mut memory = Memory {
            parts: about.parts,
            range: about.range,
            ..Memory::default()
        };
        for i in 0..tensors.len() {
            let tensor = tensors.tensor(&format!("rows.{i}")).map_err(|e| bad(&e))?;
            let [rows, width] = *tensor.shape() else {
                return Err(bad(&format!("rows.{i} is {:?}", tensor.shape())));
            };
            if tensor.dtype() != Dtype::F32
                || about.parts == 0
                || rows % about.parts != 0
                || width == 0
            {
                return Err(bad(&format!("rows.{i} is of {} parts", about.parts)));
            }
            let values = tensor.data().as_chunks::<4>().0.iter();
            let values: Vec<f32> = values.map(|b| f32::from_le_bytes(*b)).collect();
            if !values.iter().all(|v| v.is_finite()) {
                return Err(bad(&format!("rows.{i} holds what is no number")));
            }
            memory.sets.push(values);
            memory.widths.push(width);
        }
        match memory.sets.is_empty() {
            true => Err(bad(&"it holds no rows")),
            false => Ok(memory),
        }
    }

    /// Adds a good part's rows.
    pub fn add(&mut self, sets: Vec<(Vec<f32>, usize)>) {
        self.sets.resize(sets.len(), vec![]);
        self.widths = sets.iter().map(|(_, width)| *width).collect();
        for (kept, (rows, _)) in self.sets.iter_mut().zip(sets) {
            kept.extend(rows);
        }
        self.parts += 1;
    }

    /// The largest cosine of each row to a row of set `i`.
    pub fn nearest(&self, i: usize, rows: &[f32]) -> Vec<f32> {
        nearest(rows, &self.sets[i], self.widths[i])
    }

    /// The same without the rows of good part `part`, for what is said of the part itself.
    pub fn without(&self, part: usize) -> Memory {
        let mut other = self.clone();
        for set in &mut other.sets {
            let each = set.len() / self.parts;
            set.drain(part * each..(part + 1) * each);
        }
        other.parts -= 1;
        other
    }
}

/// The largest cosine of each unit row to a unit row of `memory`.
pub fn nearest(rows: &[f32], memory: &[f32], width: usize) -> Vec<f32> {
    rows.chunks_exact(width)
        .map(|row| {
            let similar = memory.chunks_exact(width).map(|m| dot(row, m));
            similar.fold(f32::NEG_INFINITY, f32::max)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_one_method_and_one_encoder() {
        let mut memory = Memory::default();
        memory.add(vec![(vec![1.0, 0.0, 0.0, 1.0], 2), (vec![1.0], 1)]);
        memory.range = Some((0.25, 0.5));
        let bytes = memory.bytes(Method::Winclip, "abc").unwrap();
        let read = |method, encoder| Memory::from_bytes(&bytes, method, encoder);
        assert_eq!(read(Method::Winclip, "abc").unwrap(), memory);
        let other = read(Method::AprilGan, "abc").unwrap_err().to_string();
        assert_eq!(other, "taught with method winclip: teach again");
        let other = read(Method::Winclip, "abd").unwrap_err().to_string();
        assert_eq!(other, "taught with another encoder: teach again");
        let cut = Memory::from_bytes(&bytes[..bytes.len() - 1], Method::Winclip, "abc");
        assert!(matches!(cut, Err(MemoryError::Malformed(_))));
    }

    #[test]
    fn a_part_is_left_out_whole() {
        let mut memory = Memory::default();
        for v in [1.0f32, -1.0] {
            memory.add(vec![(vec![v, 0.0, 0.0, v], 2), (vec![v], 1)]);
        }
        assert_eq!(memory.nearest(0, &[1.0, 0.0]), [1.0]);
        let other = memory.without(0);
        assert_eq!(other.sets, [vec![-1.0, 0.0, 0.0, -1.0], vec![-1.0]]);
        assert_eq!((other.parts, other.nearest(1, &[1.0])[0]), (1, -1.0));
        assert!(other.without(0).is_empty());
    }
}
