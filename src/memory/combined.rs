//! The mean of two distances: from the nearest good patch near the same place, and from the principal components.
//!
//! The first sees what is not at its place, the second what no good part has anywhere, and on most products one of them
//! is clearly worse than the other; which, good parts do not say. Each is divided by what is usual for good parts that
//! were held out. A place's patch was already compared with its own place; the residual was not, and is divided half by
//! what is usual at that place and half by what is usual everywhere, because few parts say little of a single place.

use super::descriptor::Layout;
use super::part::{Asked, Learned};
use super::position::{self, Position};
use super::subspace::{Components, Subspace};
use crate::ops::tract::*;

/// A usual distance is at least this: parts may be equal to the last bit.
const LEAST: f32 = 1e-6;

/// What is usual for held-out good parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Usuals {
    /// The distance from the nearest good patch.
    pub nearest: f32,
    /// The length of the residual at each place, `[places]`.
    pub residual: Vec<f32>,
}

impl Usuals {
    /// Of the sums over `parts` parts of both distances, each [places].
    fn of(nearest: &[f64], residual: &[f64], parts: usize) -> Usuals {
        let mean = |sums: &[f64]| sums.iter().sum::<f64>() / (sums.len().max(1) * parts) as f64;
        let everywhere = mean(residual);
        let here = |sum: &f64| 0.5 * (sum / parts as f64 + everywhere);
        Usuals {
            nearest: (mean(nearest) as f32).max(LEAST),
            residual: residual
                .iter()
                .map(|sum| (here(sum) as f32).max(LEAST))
                .collect(),
        }
    }

    /// The mean of both distances, each divided by what is usual; `map` holds the distance from the nearest good
    /// patch before, and the mean afterwards.
    fn mean(&self, map: &mut [f32], residual: &[f32]) {
        let pairs = residual.iter().zip(&self.residual);
        for (value, (residual, usual)) in map.iter_mut().zip(pairs) {
            *value = 0.5 * (*value / self.nearest + residual / usual);
        }
    }
}

/// Both memories, and what is usual.
pub struct Combined {
    position: Position,
    subspace: Subspace,
    usuals: Usuals,
    residual: Vec<f32>,
    /// What became of held-out parts while learning; none of a memory that was stored.
    held_out: Option<HeldOut>,
}

/// The distances of held-out parts from the nearest patch, and the residuals: each [parts][places].
type HeldOut = (Vec<Vec<f32>>, Vec<Vec<f32>>);

fn sums(maps: &[Vec<f32>], places: usize) -> Vec<f64> {
    let mut sums = vec![0f64; places];
    for map in maps {
        let pairs = sums.iter_mut().zip(map);
        pairs.for_each(|(sum, v)| *sum += f64::from(*v));
    }
    sums
}

impl Combined {
    /// Learns from these parts, each [places, dim]: two at least, as each is judged by the others.
    ///
    /// # Errors
    /// Fewer parts, or as [`Position::learn`].
    pub fn learn(layout: Layout, learned: &Learned) -> TractResult<Combined> {
        ensure!(learned.parts() > 1, "one part alone says nothing of others");
        let position = Position::learn(layout, position::RADIUS, learned)?;
        let nearest = position.held_out(learned)?;
        let (components, residual) = Subspace::held_out(layout, learned)?;
        let places = layout.places();
        let usuals = Usuals::of(
            &sums(&nearest, places),
            &sums(&residual, places),
            learned.parts(),
        );
        Ok(Combined {
            position,
            subspace: Subspace::new(layout, components)?,
            usuals,
            residual: vec![0.0; places],
            held_out: Some((nearest, residual)),
        })
    }

    /// The same with components and usual distances that were stored.
    ///
    /// # Errors
    /// Ones of other sizes.
    pub fn restore(
        layout: Layout,
        learned: &Learned,
        components: Components,
        usuals: Usuals,
    ) -> TractResult<Combined> {
        ensure!(
            usuals.residual.len() == layout.places()
                && usuals.residual.iter().all(|v| *v > 0.0)
                && usuals.nearest > 0.0,
            "usual distances of other places, or that are not above 0"
        );
        Ok(Combined {
            position: Position::learn(layout, position::RADIUS, learned)?,
            subspace: Subspace::new(layout, components)?,
            usuals,
            residual: vec![0.0; layout.places()],
            held_out: None,
        })
    }

    /// What takes long to compute, to be stored.
    pub fn kept(&self) -> (Components, Usuals) {
        (self.subspace.components().clone(), self.usuals.clone())
    }

    /// The mean of both distances of each place, 1 where it is as usual; `out` [places].
    ///
    /// # Errors
    /// Descriptors that are NaN or infinite.
    pub fn judge(
        &mut self,
        descriptors: &[f32],
        asked: &Asked,
        out: &mut [f32],
    ) -> TractResult<()> {
        self.position.judge(asked, None, out)?;
        self.subspace.judge(descriptors, &mut self.residual)?;
        self.usuals.mean(out, &self.residual);
        Ok(())
    }

    /// The same for each learned part as if it had not been learned, nor had a say in what is usual:
    /// [parts][places].
    ///
    /// # Errors
    /// As [`Combined::judge`].
    pub fn held_out(&mut self, layout: Layout, learned: &Learned) -> TractResult<Vec<Vec<f32>>> {
        let (mut nearest, residual) = match self.held_out.take() {
            Some(known) => known,
            None => (
                self.position.held_out(learned)?,
                Subspace::held_out(layout, learned)?.1,
            ),
        };
        let places = layout.places();
        let (all_nearest, all_residual) = (sums(&nearest, places), sums(&residual, places));
        let without = |sums: &[f64], own: &[f32]| -> Vec<f64> {
            let pairs = sums.iter().zip(own);
            pairs.map(|(sum, own)| sum - f64::from(*own)).collect()
        };
        for (map, residual) in nearest.iter_mut().zip(&residual) {
            let others = learned.parts() - 1;
            let usuals = Usuals::of(
                &without(&all_nearest, map),
                &without(&all_residual, residual),
                others,
            );
            usuals.mean(map, residual);
        }
        Ok(nearest)
    }
}
