//! Views with their targets, batch after batch, through the cache.

use super::Options;
use super::photos::Photos;
use super::targets::{Target, Targets};
use super::teachers::Teachers;
use super::views::{View, view};
use crate::train::TrainError;
use crate::train::fit::cache::Cache;
use crate::train::fit::order;
use half::f16;
use rayon::prelude::*;

/// Version of what is cached: it changes when views or targets do.
pub const VERSION: &str = "1";

/// Everything that makes views and their targets.
pub struct Source<'a> {
    /// How to learn.
    pub options: &'a Options,
    /// What views are cut from.
    pub photos: &'a Photos,
    /// For views of the student's side, and for large ones.
    pub teachers: [&'a Teachers; 2],
    /// How answers become targets.
    pub targets: &'a Targets,
    /// None where every view is new.
    pub cache: Option<Cache>,
    /// The epoch whose order is known, and that order.
    known: (usize, Vec<usize>),
}

impl<'a> Source<'a> {
    /// Of these; `cache` is left out where every view is new.
    pub fn new(
        options: &'a Options,
        photos: &'a Photos,
        teachers: [&'a Teachers; 2],
        targets: &'a Targets,
        cache: Option<Cache>,
    ) -> Source<'a> {
        Source {
            options,
            photos,
            teachers,
            targets,
            cache,
            known: (usize::MAX, vec![]),
        }
    }

    /// Which view the `number`-th of a run is, from 0: photos come in another order in each epoch.
    fn which(&mut self, number: usize, side: usize) -> View {
        let n = self.photos.squares.len();
        let (epoch, place) = (number / n, number % n);
        if self.known.0 != epoch {
            self.known = (epoch, order(n, self.options.seed, epoch));
        }
        View {
            photo: self.known.1[place],
            variant: match self.options.views {
                0 => epoch,
                views => epoch % views,
            },
            side,
        }
    }

    /// `count` views from the `first` of the run on, each [3, side, side] in 0..=1, with targets.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: a teacher fails; [`TrainError::Output`]: the cache cannot be written.
    pub fn batch(
        &mut self,
        first: usize,
        count: usize,
        side: usize,
    ) -> Result<Vec<(Vec<f32>, Target)>, TrainError> {
        let numbers = first..first + count;
        let which: Vec<View> = numbers.map(|n| self.which(n, side)).collect();
        which.into_par_iter().map(|v| self.one(v)).collect()
    }

    fn one(&self, which: View) -> Result<(Vec<f32>, Target), TrainError> {
        let pixels = view(&self.photos.squares, which, self.options.seed);
        let name = format!("{}-{}-{}", which.photo, which.variant, which.side);
        let place = self.cache.as_ref().map(|c| (c, c.named(&name)));
        if let Some((cache, path)) = &place
            && let Some(rows) = cache.get_rows(path, 2)
            && let Ok([joined, image]) = <[_; 2]>::try_from(rows)
            && joined.ncols() == self.targets.patch.nrows()
            && image.ncols() == self.targets.patch.ncols()
        {
            return Ok((pixels, Target { joined, image }));
        }
        let large = usize::from(which.side != self.options.sizes.side);
        let said = self.teachers[large].say(&pixels, which.side)?;
        let mut target = (self.targets).of(&said, which.side / self.options.sizes.patch);
        if let Some((cache, path)) = place {
            let rows = [target.joined, target.image];
            cache.put_rows(&path, &rows)?;
            // As it will come back, so that a run does not depend on what lies in the cache.
            let [joined, image] = rows.map(|r| r.mapv(|v| f16::from_f32(v).to_f32()));
            target = Target { joined, image };
        }
        Ok((pixels, target))
    }
}
