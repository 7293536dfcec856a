//! Distance to the nearest good patch near the same place: for parts that lie as they were taught.
//!
//! A place's distance is the mean of two: from the nearest good patch of the same place, and from the nearest
//! one within a radius. The first alone is best where parts lie exactly alike, the second where they move by
//! less than a patch; the mean is within a point of the better one on either.

use super::descriptor::Layout;
use super::part::{Asked, Kept, Learned, Rows};
use crate::ops::par_rows;
use crate::ops::tract::*;

/// How many rows and columns around a place its patch is compared with.
pub const RADIUS: usize = 1;
/// Most good patches that a place keeps.
pub const ROWS: usize = 256;

/// Good patches, place by place.
#[derive(Debug)]
pub struct Position {
    layout: Layout,
    radius: usize,
    /// The patches of all views, [places, views, dim].
    rows: Rows,
    /// Index of the part that each of a place's patches is from.
    owners: Vec<usize>,
}

impl Position {
    /// Learns from these parts, each [places, dim].
    ///
    /// # Errors
    /// No part, more than [`ROWS`], or parts of other sizes.
    pub fn learn(layout: Layout, radius: usize, learned: &Learned) -> TractResult<Position> {
        let parts = learned.rows();
        ensure!(
            (1..=ROWS).contains(&parts.len()) && parts.iter().all(|p| p.len() == layout.places()),
            "{} parts; 1 to {ROWS}, all of {} places",
            parts.len(),
            layout.places()
        );
        let mut rows = Rows::default();
        for place in 0..layout.places() {
            parts.iter().for_each(|p| rows.push(p, place, layout.dim));
        }
        Ok(Position {
            layout,
            radius,
            rows,
            owners: learned.owners().to_vec(),
        })
    }

    /// Distance of each place of each learned part from the other parts' patches: [parts][places].
    ///
    /// # Errors
    /// None in practice.
    pub fn held_out(&self, learned: &Learned) -> TractResult<Vec<Vec<f32>>> {
        let mut asked = Asked::default();
        let judge = |(i, part): (usize, &Rows)| {
            asked.take(&part.numbers(self.layout.dim), self.layout.dim)?;
            let mut out = vec![0f32; self.layout.places()];
            self.judge(&asked, Some(i), &mut out)?;
            Ok(out)
        };
        learned.own().enumerate().map(judge).collect()
    }

    /// Distance of each place of `asked` from good patches, as if the part `without` had not been learned; `out`
    /// [places].
    ///
    /// # Errors
    /// None in practice.
    pub fn judge(&self, asked: &Asked, without: Option<usize>, out: &mut [f32]) -> TractResult<()> {
        let (n, dim) = (self.owners.len(), self.layout.dim);
        par_rows(out, 1, 1, |first, out| {
            let mut here = [0f32; ROWS];
            for (out, place) in out.iter_mut().zip(first..) {
                let (mut same, mut near) = (f32::INFINITY, f32::INFINITY);
                for other in self.layout.neighbours(place, self.radius) {
                    let span = other * n..(other + 1) * n;
                    let kept = Kept {
                        bytes: &self.rows.bytes[span.start * dim..span.end * dim],
                        steps: &self.rows.steps[span.clone()],
                        squares: &self.rows.squares[span],
                    };
                    asked.distances(place, kept, &mut here[..n]);
                    if let Some(part) = without {
                        for (here, owner) in here.iter_mut().zip(&self.owners) {
                            if *owner == part {
                                *here = f32::INFINITY;
                            }
                        }
                    }
                    let nearest = here[..n].iter().fold(f32::INFINITY, |m, v| m.min(*v));
                    near = near.min(nearest);
                    if other == place {
                        same = nearest;
                    }
                }
                *out = 0.5 * (same.sqrt() + near.sqrt());
            }
            Ok(())
        })
    }
}
