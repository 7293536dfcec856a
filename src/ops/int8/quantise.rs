//! Activations as bytes: each row by its own range.

use crate::ops::fold_lanes;
use crate::ops::layer_norm::Norm;
use crate::ops::simd::vectorised;

/// Quantised rows. Element i of row r is about `low[r] + step[r] * byte`.
#[derive(Default)]
pub struct Rows {
    /// The bytes, rows `stride` apart; the highest bit is flipped for kernels that read signed bytes.
    pub bytes: Vec<u8>,
    /// Distance of two rows.
    pub stride: usize,
    /// What the byte 0 stands for.
    pub low: Vec<f32>,
    /// What one step is worth.
    pub step: Vec<f32>,
    row: Vec<f32>,
}

impl Rows {
    /// Quantises `x`, rows of `width` elements, normalised first if there is a `norm`. The rows are
    /// followed by as many unspecified ones as make their number a multiple of `tile`.
    pub fn quantise(
        &mut self,
        x: &[f32],
        width: usize,
        norm: Option<Norm>,
        tile: usize,
        signed: bool,
    ) {
        let rows = x.len() / width;
        self.stride = width.next_multiple_of(super::kernel::GROUP);
        let flip = if signed { 0x80 } else { 0 };
        // Bytes behind a row's end meet weights that are zero: what they hold does not matter.
        self.bytes
            .resize(rows.next_multiple_of(tile) * self.stride, 0);
        self.low.clear();
        self.step.clear();
        self.row.resize(width, 0.0);
        for (row, bytes) in x
            .chunks_exact(width)
            .zip(self.bytes.chunks_exact_mut(self.stride))
        {
            let row = match norm {
                None => row,
                Some(norm) => {
                    norm.row(row, &mut self.row);
                    &self.row[..]
                }
            };
            let (low, step) = quantise_row(row, bytes, flip);
            self.low.push(low);
            self.step.push(step);
        }
    }
}

vectorised! {
    /// Writes a row's bytes and returns what byte 0 and one step stand for. A row that holds NaN or
    /// an infinity gets the step NaN, and every sum that it is part of becomes NaN.
    fn quantise_row(row: &[f32], bytes: &mut [u8], flip: u8) -> (f32, f32) {
        const LANES: usize = 32;
        let (mut low, mut high, mut poison) = ([row[0]; LANES], [row[0]; LANES], [0f32; LANES]);
        let mut see = |chunk: &[f32]| {
            for (i, v) in chunk.iter().enumerate() {
                low[i] = if *v < low[i] { *v } else { low[i] };
                high[i] = if *v > high[i] { *v } else { high[i] };
                poison[i] += *v * 0.0;
            }
        };
        let (chunks, rest) = row.as_chunks::<LANES>();
        chunks.iter().for_each(|c| see(c));
        see(rest);
        let low = fold_lanes(low, |a, b| if a < b { a } else { b });
        let high = fold_lanes(high, |a, b| if a > b { a } else { b });
        let step = (high - low) / 255.0 + fold_lanes(poison, |a, b| a + b);
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        for (byte, v) in bytes.iter_mut().zip(row) {
            // Adding 2^23 leaves the number, rounded to even, in the low bits: no conversion that
            // could be out of range.
            *byte = ((*v - low) * inverse + 8_388_608.0).to_bits() as u8 ^ flip;
        }
        (low, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_stand_for_the_numbers(
            row in prop::collection::vec(-1e3f32..1e3, 1..200), scale in 1e-6f32..1e6, signed in any::<bool>(),
        ) {
            let row: Vec<f32> = row.iter().map(|v| v * scale).collect();
            let mut rows = Rows::default();
            rows.quantise(&row, row.len(), None, 4, signed);
            prop_assert_eq!(rows.bytes.len(), 4 * row.len().next_multiple_of(4));
            for (v, b) in row.iter().zip(&rows.bytes) {
                let b = if signed { b ^ 0x80 } else { *b };
                let back = rows.low[0] + rows.step[0] * f32::from(b);
                prop_assert!((v - back).abs() <= rows.step[0] * 0.501 + v.abs() * 1e-6, "{} for {}", back, v);
            }
        }
    }

    #[test]
    fn a_constant_row_is_exact_and_a_row_with_no_number_stays_none() {
        let mut rows = Rows::default();
        rows.quantise(&[2.5; 40], 40, None, 1, false);
        assert_eq!((rows.low[0], rows.step[0]), (2.5, 0.0));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, 39] {
                let mut row = [1.0; 40];
                row[at] = bad;
                rows.quantise(&row, 40, None, 1, false);
                assert!(rows.step[0].is_nan(), "{bad} at {at}");
            }
        }
    }
}
