//! Memory by mean and variance of each number at each place: the smallest of all kinds.

use super::descriptor::Layout;
use super::part::Learned;
use crate::ops::sum_lanes;
use crate::ops::tract::*;

/// Mean and deviation of the good parts, place by place.
pub struct Gaussian {
    layout: Layout,
    /// Mean of each number, [places, dim].
    mean: Vec<f32>,
    /// One divided by the standard deviation of each number, which is kept from being too small; [places, dim].
    inverse: Vec<f32>,
}

impl Gaussian {
    /// Learns from these parts, each [places, dim].
    ///
    /// # Errors
    /// No part.
    pub fn learn(layout: Layout, learned: &Learned) -> TractResult<Gaussian> {
        let parts = learned.rows();
        ensure!(!parts.is_empty(), "no part to learn from");
        let n = parts.len() as f32;
        let numbers = layout.places() * layout.dim;
        let (mut mean, mut square) = (vec![0f32; numbers], vec![0f32; numbers]);
        let mut row = vec![];
        for part in parts {
            for place in 0..layout.places() {
                row.clear();
                part.number(place, layout.dim, &mut row);
                let at = place * layout.dim;
                for (i, v) in row.iter().enumerate() {
                    mean[at + i] += v / n;
                    square[at + i] += v * v / n;
                }
            }
        }
        let variance: Vec<f32> = square
            .iter()
            .zip(&mean)
            .map(|(s, m)| (s - m * m).max(0.0))
            .collect();
        // In a few parts some numbers happen to be nearly alike.
        let floor = 0.5 * variance.iter().sum::<f32>() / numbers as f32 + 1e-6;
        Ok(Gaussian {
            layout,
            mean,
            inverse: variance
                .iter()
                .map(|v| (v + floor).sqrt().recip())
                .collect(),
        })
    }

    /// By how many deviations each place lies from the mean, on average over its numbers; `out` [places].
    ///
    /// # Errors
    /// Descriptors that are NaN or infinite.
    pub fn judge(
        &self,
        descriptors: &[f32],
        work: &mut Vec<f32>,
        out: &mut [f32],
    ) -> TractResult<()> {
        let dim = self.layout.dim;
        work.resize(dim, 0.0);
        for (place, (out, row)) in out
            .iter_mut()
            .zip(descriptors.chunks_exact(dim))
            .enumerate()
        {
            let at = place * dim..(place + 1) * dim;
            let usual = self.mean[at.clone()].iter().zip(&self.inverse[at]);
            for (z, (v, (mean, inverse))) in work.iter_mut().zip(row.iter().zip(usual)) {
                *z = (v - mean) * inverse;
            }
            *out = (sum_lanes(work, |z| z * z) / dim as f32).sqrt();
            ensure!(out.is_finite(), "a descriptor that is {out} from the mean");
        }
        Ok(())
    }

    /// The same for each part that was learned, as if it had not been: [parts][places].
    ///
    /// # Errors
    /// As [`Gaussian::judge`].
    pub fn held_out(layout: Layout, learned: &Learned) -> TractResult<Vec<Vec<f32>>> {
        let mut work = vec![];
        let parts = learned.own().enumerate();
        parts
            .map(|(i, part)| {
                let others = learned.without(|part| part == i);
                let descriptors = part.numbers(layout.dim);
                let mut out = vec![0f32; layout.places()];
                Gaussian::learn(layout, &others)?.judge(&descriptors, &mut work, &mut out)?;
                Ok(out)
            })
            .collect()
    }
}
