//! What WinCLIP and APRIL-GAN remember of good parts: their few-shot forms, as published.
//!
//! Rows of unit length of every good part, kept as they are: a set per scale or stage. (The station's own
//! memory of good parts is another thing, of FAPrompt's.)

use crate::ops::dot;

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
