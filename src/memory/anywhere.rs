//! Distance to the nearest good patch anywhere on the picture: for parts that lie anyhow.

use super::descriptor::Layout;
use super::part::{Asked, Kept, Learned, Rows};
use crate::ops::simd::vectorised;
use crate::ops::tract::*;
use crate::ops::weights::{Arithmetic, Epilogue, Matrix, Weights};
use crate::ops::{int8, par_rows, scratch, slice, sum_lanes};

/// Most good patches that are kept.
pub const KEPT: usize = 4096;
/// The kept patches are chosen among at most this many: more would take a device too long.
const CHOSEN_AMONG: usize = 24_576;
/// How many places are compared with all good patches in one product.
const BLOCK: usize = 96;

/// Good patches of all places, ready to be compared with.
pub struct Anywhere {
    layout: Layout,
    weights: Weights,
    /// Minus half the squared length of each kept patch.
    halves: Tensor,
    /// Index of the part that each kept patch is from.
    owners: Vec<usize>,
    /// Products of a block of places with all kept patches, less half the squared lengths: the larger, the nearer.
    nearness: Tensor,
    /// The places of a block, rounded as int8 arithmetic rounds them.
    rounded: Vec<f32>,
}

/// Chooses the patches to keep of these parts, each [places, dim]. Returns indices of rows, counted through all
/// parts. If there are more than [`KEPT`], each next patch is the one farthest from those chosen so far (greedy
/// k-centre, as in PatchCore).
///
/// # Errors
/// None in practice.
pub fn choose(layout: Layout, parts: &[&Rows]) -> TractResult<Vec<u32>> {
    let (places, dim) = (layout.places(), layout.dim);
    let all = places * parts.len();
    let step = all.div_ceil(CHOSEN_AMONG).max(1);
    let among: Vec<u32> = (0..all as u32).step_by(step).collect();
    if among.len() <= KEPT {
        return Ok(among);
    }
    let mut rows = Rows::default();
    for i in &among {
        let i = *i as usize;
        rows.push(parts[i / places], i % places, dim);
    }
    let mut asked = Asked::default();
    asked.take_kept(&rows, dim);
    let mut far = vec![f32::INFINITY; among.len()];
    let (mut chosen, mut next) = (Vec::with_capacity(KEPT), 0);
    while chosen.len() < KEPT {
        chosen.push(among[next]);
        par_rows(&mut far, 1, 64, |first, far| {
            let mut here = [0f32; 64];
            for (i, far) in far.chunks_mut(here.len()).enumerate() {
                let from = first + i * here.len();
                let span = from..from + far.len();
                let kept = Kept {
                    bytes: &rows.bytes[span.start * dim..span.end * dim],
                    steps: &rows.steps[span.clone()],
                    squares: &rows.squares[span],
                };
                asked.distances(next, kept, &mut here[..far.len()]);
                let pairs = far.iter_mut().zip(&here);
                pairs.for_each(|(far, here)| *far = far.min(*here));
            }
            Ok(())
        })?;
        next = (0..far.len())
            .max_by(|a, b| far[*a].total_cmp(&far[*b]).then(b.cmp(a)))
            .unwrap_or(0);
    }
    chosen.sort_unstable();
    Ok(chosen)
}

vectorised! {
    /// The largest of these numbers.
    fn largest(values: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 32];
        let (chunks, rest) = values.as_chunks::<32>();
        for chunk in chunks {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane = if *v > *lane { *v } else { *lane };
            }
        }
        rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |m, v| m.max(*v))
    }
}

impl Anywhere {
    /// Keeps the patches `chosen` of these parts.
    ///
    /// # Errors
    /// An index that no row of the parts has, and errors of tract.
    pub fn learn(layout: Layout, learned: &Learned, chosen: &[u32]) -> TractResult<Anywhere> {
        let parts = learned.rows();
        let (places, dim) = (layout.places(), layout.dim);
        let mut rows = Rows::default();
        let mut owners = vec![];
        for i in chosen {
            let (part, place) = (*i as usize / places, *i as usize % places);
            ensure!(part < parts.len(), "patch {i} of {} parts", parts.len());
            rows.push(parts[part], place, dim);
            owners.push(learned.owners()[part]);
        }
        let halves: Vec<f32> = rows.squares.iter().map(|s| -0.5 * s).collect();
        let matrix = Matrix::Int8 {
            values: rows.bytes,
            columns: dim,
            scales: rows.steps,
        };
        Ok(Anywhere {
            layout,
            weights: Weights::pack(&matrix, Arithmetic::Auto)?,
            nearness: scratch::buffer(&[BLOCK, halves.len()])?,
            halves: Tensor::from_shape(&[halves.len()], &halves)?,
            rounded: vec![],
            owners,
        })
    }

    /// Distance of each place of a part [places, dim] from the nearest good patch, as if the part `without` had
    /// not been learned; `out` [places].
    ///
    /// # Errors
    /// Descriptors that are NaN or infinite.
    pub fn judge(
        &mut self,
        descriptors: &[f32],
        without: Option<usize>,
        out: &mut [f32],
    ) -> TractResult<()> {
        let (dim, kept) = (self.layout.dim, self.owners.len());
        let epilogue = Epilogue {
            bias: Some(&self.halves),
            ..Epilogue::default()
        };
        let blocks = descriptors.chunks(BLOCK * dim).zip(out.chunks_mut(BLOCK));
        for (rows, out) in blocks {
            // Distances are small differences of large numbers. Rounded beforehand, a place is the same one in its
            // length and in every product, which then are exact, on processors that multiply in f32 too.
            int8::rounded(rows, dim, &mut self.rounded);
            self.weights
                .product(&self.rounded, None, epilogue, &mut self.nearness, 0)?;
            let nearness = slice(&self.nearness)?.chunks_exact(kept);
            let places = self.rounded.chunks_exact(dim).zip(nearness);
            for (out, (row, nearness)) in out.iter_mut().zip(places) {
                let square = sum_lanes(row, |v| v * v);
                ensure!(square.is_finite(), "a descriptor of length {square}");
                let nearest = match without {
                    None => largest(nearness),
                    Some(part) => {
                        let all = nearness.iter().zip(&self.owners);
                        let others = all.filter(|(_, owner)| **owner != part);
                        others.map(|(n, _)| *n).fold(f32::NEG_INFINITY, f32::max)
                    }
                };
                *out = (square - 2.0 * nearest).max(0.0).sqrt();
            }
        }
        Ok(())
    }

    /// The same for each learned part as if it had not been learned: [parts][places].
    ///
    /// # Errors
    /// As [`Anywhere::judge`].
    pub fn held_out(&mut self, learned: &Learned) -> TractResult<Vec<Vec<f32>>> {
        let mut all = vec![];
        for (i, part) in learned.own().enumerate() {
            let mut out = vec![0f32; self.layout.places()];
            self.judge(&part.numbers(self.layout.dim), Some(i), &mut out)?;
            all.push(out);
        }
        Ok(all)
    }
}
