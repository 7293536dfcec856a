//! Nearest good patch of all: for parts that lie anyhow.

use super::descriptor::Layout;
use super::part::{Asked, Kept, Rows};
use crate::ops::simd::vectorised;
use crate::ops::tract::*;
use crate::ops::weights::{Arithmetic, Epilogue, Matrix, Weights};
use crate::ops::{par_rows, scratch, slice, sum_lanes};

/// Good patches that are kept, at most.
pub const KEPT: usize = 4096;
/// Among as many they are chosen: more would take a device too long.
const CHOSEN_AMONG: usize = 24_576;
/// Places that are compared with all good patches at once.
const BLOCK: usize = 96;

/// Good patches of all places.
pub struct Anywhere {
    layout: Layout,
    weights: Weights,
    /// Their squared lengths.
    squares: Vec<f32>,
    /// Of which part each is.
    owners: Vec<usize>,
    /// Products of a block of places with all of them.
    products: Tensor,
}

/// Which patches are kept of these parts, each [places, dim]: numbers of all rows, part by part. Where there
/// are more than [`KEPT`], each next one is the one that is farthest from those chosen so far (greedy
/// k-centre, as PatchCore does).
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
    /// The smallest of `square - 2 * product`.
    fn smallest(products: &[f32], squares: &[f32]) -> f32 {
        let mut lanes = [f32::INFINITY; 16];
        let (p, s) = (products.as_chunks::<16>(), squares.as_chunks::<16>());
        for (p, s) in p.0.iter().zip(s.0) {
            for (lane, (p, s)) in lanes.iter_mut().zip(p.iter().zip(s)) {
                let d = s - 2.0 * p;
                *lane = if d < *lane { d } else { *lane };
            }
        }
        let rest = p.1.iter().zip(s.1).map(|(p, s)| s - 2.0 * p);
        rest.chain(lanes).fold(f32::INFINITY, f32::min)
    }
}

impl Anywhere {
    /// Keeps the patches `chosen` of these parts.
    ///
    /// # Errors
    /// A number of a patch that no part has; tract's own.
    pub fn learn(layout: Layout, parts: &[&Rows], chosen: &[u32]) -> TractResult<Anywhere> {
        let (places, dim) = (layout.places(), layout.dim);
        let mut rows = Rows::default();
        let mut owners = vec![];
        for i in chosen {
            let (part, place) = (*i as usize / places, *i as usize % places);
            ensure!(part < parts.len(), "patch {i} of {} parts", parts.len());
            rows.push(parts[part], place, dim);
            owners.push(part);
        }
        let squares = rows.squares;
        let matrix = Matrix::Int8 {
            values: rows.bytes,
            columns: dim,
            scales: rows.steps,
        };
        Ok(Anywhere {
            layout,
            // Distances are small differences of large numbers: nothing is rounded here.
            weights: Weights::pack(&matrix, Arithmetic::F32)?,
            products: scratch::buffer(&[BLOCK, squares.len()])?,
            squares,
            owners,
        })
    }

    /// How far each place of a part [places, dim] is from the nearest good patch, as if the part `without` had
    /// not been learned; `out` [places].
    ///
    /// # Errors
    /// Descriptors that are no numbers.
    pub fn judge(
        &mut self,
        descriptors: &[f32],
        without: Option<usize>,
        out: &mut [f32],
    ) -> TractResult<()> {
        let (dim, kept) = (self.layout.dim, self.squares.len());
        let blocks = descriptors.chunks(BLOCK * dim).zip(out.chunks_mut(BLOCK));
        for (rows, out) in blocks {
            self.weights
                .product(rows, None, Epilogue::default(), &mut self.products, 0)?;
            let products = slice(&self.products)?.chunks_exact(kept);
            for (out, (row, products)) in out.iter_mut().zip(rows.chunks_exact(dim).zip(products)) {
                let square = sum_lanes(row, |v| v * v);
                ensure!(square.is_finite(), "a descriptor of length {square}");
                let nearest = match without {
                    None => smallest(products, &self.squares),
                    Some(part) => {
                        let all = products.iter().zip(&self.squares).zip(&self.owners);
                        let others = all.filter(|(_, owner)| **owner != part);
                        let others = others.map(|((p, s), _)| s - 2.0 * p);
                        others.fold(f32::INFINITY, f32::min)
                    }
                };
                *out = (square + nearest).max(0.0).sqrt();
            }
        }
        Ok(())
    }
}
