//! An image encoder of one's own: a small ViT learns to see what other networks see.
//!
//! Whatever photos there are become views (crops, other light, scratches). The student's patch rows behind two blocks
//! predict, through linear heads that are thrown away, the teachers' maps at its own places, standardised; its patch
//! features are the principal components of all maps, its image feature those of the teachers' feature of the whole
//! picture. The loss is smooth L1, and 1 - cosine for both features.
//!
//! | module | what it does |
//! |---|---|
//! | [`photos`], [`views`] | pictures, and what is made of them |
//! | [`teachers`], [`targets`] | ONNX networks, and what is asked of the student |
//! | [`source`] | both, batch after batch, through a cache |
//! | [`student`] | tower, heads, losses, steps |
//! | [`checkpoint`] | the run on disk |
//! | [`bundle`] | what it is for |
//! | [`text`] | a text encoder beside it: both are a CLIP then |

pub mod bundle;
pub mod checkpoint;
pub mod photos;
pub mod source;
pub mod student;
pub mod targets;
pub mod teachers;
pub mod text;
pub mod views;

use super::TrainError;
use super::clip::Visual;
use super::export::memory_taps;
use super::fit::cache::Cache;
use super::nn::{Maker, Products};
use super::progress::Interrupt;
use burn::tensor::Device;
use checkpoint::{Checkpoint, Record, Saved};
use photos::Photos;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use source::Source;
use std::path::Path;
use std::time::{Duration, Instant};
use student::{Batch, HEAD, Student, Terms, fresh, fresh_heads};
use targets::Targets;
use teachers::Teachers;
use views::{View, view};

/// Views that means, spreads and components are taken from.
const FITTED: usize = 256;
/// Part of a run in which the learning rate rises.
const WARM: f64 = 0.03;
/// Part of a run before large views come.
const LARGE_FROM: f64 = 0.6;
/// Every how manieth step has large views then.
const LARGE_EVERY: usize = 6;
/// The width that the learning rate is given for.
const USUAL_WIDTH: f64 = 192.0;

/// The student's sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Channels of a token, a multiple of 64.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Blocks with the V-V stream, counted from the last.
    pub vv_layers: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of a picture in pixels, a multiple of the patch's.
    pub side: usize,
    /// Numbers of a patch's and of the picture's feature.
    pub joint: usize,
}

impl Sizes {
    /// Patches per side.
    pub fn grid(&self) -> usize {
        self.side / self.patch
    }
}

/// How long a whole run is; the learning rate follows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// So many steps: the same seed gives the same numbers.
    Steps(usize),
    /// So many minutes of all pieces together.
    Minutes(f64),
}

/// How to learn.
#[derive(Clone, Debug)]
pub struct Options {
    /// The student's sizes.
    pub sizes: Sizes,
    /// Views of a step.
    pub batch: usize,
    /// Side of the views of some steps of the last part of a run, 0 for none.
    pub large: usize,
    /// Peak of the learning rate for 192 channels; it falls as the root of the width.
    pub lr: f64,
    /// Different views of a photo, whose targets are cached; 0 for new ones always.
    pub views: usize,
    /// How long the whole run is.
    pub length: Length,
    /// Of every random number.
    pub seed: u64,
    /// The numbers of matrix products.
    pub products: Products,
    /// Side that photos are kept at in memory.
    pub photo_side: usize,
    /// Stop after this many steps of this piece.
    pub stop_after: Option<usize>,
    /// Stop after this many minutes of this piece.
    pub piece: Option<f64>,
    /// Minutes between checkpoints.
    pub save_every: f64,
    /// Blocks after which the bundle's memory compares parts, counted from 1; none: its own rule.
    pub memory_blocks: Vec<usize>,
}

impl Options {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`TrainError::Options`] that names the option.
    pub fn check(&self) -> Result<(), TrainError> {
        let s = &self.sizes;
        let refuse = |what: String| Err(TrainError::Options(what));
        if s.width == 0 || !s.width.is_multiple_of(HEAD) {
            return refuse(format!("--width {}: a multiple of {HEAD}", s.width));
        }
        if s.layers == 0 || !(1..=s.layers).contains(&s.vv_layers) {
            return refuse(format!(
                "--vv-layers {}: from 1 to the number of blocks (--layers {})",
                s.vv_layers, s.layers
            ));
        }
        memory_taps(&self.memory_blocks, Some(s.layers))?;
        if s.patch == 0 || s.side == 0 || !s.side.is_multiple_of(s.patch) {
            return refuse(format!(
                "--image-size {}: a multiple of the patch's {} px (--patch)",
                s.side, s.patch
            ));
        }
        if self.large != 0 && (!self.large.is_multiple_of(s.patch) || self.large == s.side) {
            return refuse(format!(
                "--large {}: another multiple of the patch's {} px than --image-size, or 0",
                self.large, s.patch
            ));
        }
        if s.joint == 0 || self.batch == 0 || self.photo_side < 32 {
            return refuse("--joint and --batch are at least 1, --photo-side 32".into());
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return refuse(format!("--lr {}: a positive number", self.lr));
        }
        let positive = |v: f64| v.is_finite() && v > 0.0;
        match self.length {
            Length::Steps(0) => refuse("--steps 0: nothing would be learned".into()),
            Length::Minutes(m) if !positive(m) => refuse(format!("--minutes {m}: more than 0")),
            _ if self.piece.is_some_and(|p| !positive(p)) => refuse("--piece: more than 0".into()),
            _ => Ok(()),
        }
    }

    /// Side and number of the views of a step when `part` of the run is done.
    fn views_of(&self, step: usize, part: f64) -> (usize, usize) {
        let large = self.large > 0 && part > LARGE_FROM && step.is_multiple_of(LARGE_EVERY);
        match large {
            // About as many patches as of the others.
            true => (self.large, (self.batch * 2 / 5).max(1)),
            false => (self.sizes.side, self.batch),
        }
    }
}

/// Warm-up, then half a cosine down to nothing.
fn rate(part: f64) -> f64 {
    match part < WARM {
        true => part.max(1e-3) / WARM,
        false => {
            let fallen = ((part - WARM) / (1.0 - WARM)).min(1.0);
            0.5 * (1.0 + (std::f64::consts::PI * fallen).cos())
        }
    }
}

/// What a step came to.
pub struct Step<'a> {
    /// How far the run is.
    pub record: &'a Record,
    /// Part of the whole run that is done.
    pub part: f64,
    /// Side of its views.
    pub side: usize,
    /// Its loss and terms.
    pub terms: &'a Terms,
    /// Seconds that views and targets took, and the student's step.
    pub seconds: [f64; 2],
}

/// What a piece of a run came to.
pub struct Done {
    /// The tower.
    pub visual: Visual,
    /// How far it is.
    pub record: Record,
    /// Part of the patches' variance that the patch features hold.
    pub kept: f32,
    /// Why it ended before the run did; none if it is at its end.
    pub stopped: Option<TrainError>,
}

/// The teachers and photos of a run.
pub struct Given<'a> {
    /// The photos.
    pub photos: &'a Photos,
    /// The teachers for views of the student's side.
    pub teachers: &'a Teachers,
    /// For large ones; the same where there are none.
    pub large: &'a Teachers,
}

/// Where a run is kept, and whether to go on with what is there.
pub struct Place<'a> {
    /// The run's folder, which is there.
    pub folder: &'a Path,
    /// Whether to go on.
    pub resume: bool,
    /// The folder of cached targets, and how many bytes it may take.
    pub cache: (&'a Path, u64),
}

/// A piece of a run: begins it, or goes on with it, until it is done, or the piece is.
///
/// # Errors
/// [`TrainError::Options`], [`TrainError::Weights`] (a teacher, or a damaged checkpoint), [`TrainError::Output`],
/// [`TrainError::Diverged`]; being stopped is none: [`Done::stopped`].
pub fn distil(
    options: &Options,
    given: &Given,
    place: &Place,
    device: &Device,
    stop: Interrupt,
    mut told: impl FnMut(&Step),
) -> Result<Done, TrainError> {
    options.check()?;
    let checkpoint = Checkpoint::new(place.folder);
    let sizes = &options.sizes;
    let key = given.teachers.key();
    let fresh_record = Record::new(options, key.clone(), given.photos.digest.clone());
    let saved = checkpoint.load(&fresh_record, place.resume)?;
    let begun = Instant::now();
    let (mut record, visual, heads, state, targets) = match saved {
        Some(Saved {
            record,
            visual,
            heads,
            optimizer,
            targets,
        }) => (record, visual, heads, Some(optimizer), targets),
        None => {
            let targets = fitted(options, given)?;
            checkpoint.save_targets(&targets)?;
            let visual = fresh(sizes, options.seed);
            let heads = student::taps_of(sizes.layers, sizes.vv_layers).len();
            let outputs = targets.patch.nrows();
            let heads = fresh_heads(sizes.width, outputs, heads, options.seed);
            (fresh_record, visual, heads, None, targets)
        }
    };
    let cache = match options.views {
        0 => None,
        _ => {
            let key = format!(
                "distil {} {key} {} {} {} {:?}",
                source::VERSION,
                record.photos,
                options.seed,
                options.photo_side,
                targets.digest(),
            );
            Some(Cache::keyed(place.cache.0, place.cache.1, &key, 1)?)
        }
    };
    let both = [given.teachers, given.large];
    let mut source = Source::new(options, given.photos, both, &targets, cache);
    let device = device.clone().autodiff();
    let mut maker = Maker::new(&device, true).with(options.products);
    let mut student = Student::new(&visual, &heads, sizes.vv_layers, &mut maker);
    let mut optimizer = student.optimizer();
    if let Some(state) = state {
        optimizer = optimizer.load_record(state);
    }
    let peak = options.lr * (USUAL_WIDTH / sizes.width as f64).sqrt();
    let (first, before) = (record.step, record.spent);
    let mut saved_at = (record.step, Instant::now());
    let widths = targets.widths();
    let stopped = loop {
        record.spent = before + begun.elapsed().as_secs_f64();
        let part = match options.length {
            Length::Steps(n) => record.step as f64 / n as f64,
            Length::Minutes(m) => record.spent / (60.0 * m),
        };
        if part >= 1.0 {
            break None;
        }
        let here = record.step - first;
        let over = options.stop_after.is_some_and(|n| here >= n)
            || options
                .piece
                .is_some_and(|m| begun.elapsed().as_secs_f64() >= 60.0 * m);
        if over || stop.came() {
            break Some(TrainError::Interrupted {
                after: format!("step {}", record.step),
                checkpoint: match record.step {
                    0 => "nothing".into(),
                    _ => checkpoint.student().display().to_string(),
                },
            });
        }
        let clock = Instant::now();
        let (side, count) = options.views_of(record.step, part);
        let views = source.batch(record.seen, count, side)?;
        let batch = Batch::new(&views, sizes, side, (&targets.patch, &widths), &device);
        let prepared = clock.elapsed();
        let terms;
        (student, terms) = student.step(&mut optimizer, peak * rate(part), &batch);
        if let Some((term, _)) = terms.iter().find(|(_, v)| !v.is_finite()) {
            return Err(TrainError::Diverged {
                step: record.step,
                term: term.clone(),
                checkpoint: match saved_at.0 {
                    0 => "none".into(),
                    step => format!("{} (step {step})", checkpoint.student().display()),
                },
            });
        }
        (record.step, record.seen) = (record.step + 1, record.seen + count);
        let learned = clock.elapsed() - prepared;
        told(&Step {
            record: &record,
            part,
            side,
            terms: &terms,
            seconds: [prepared, learned].map(|d| d.as_secs_f64()),
        });
        if saved_at.1.elapsed() >= Duration::from_secs_f64(60.0 * options.save_every) {
            record.spent = before + begun.elapsed().as_secs_f64();
            let (visual, heads) = student.export(&visual);
            checkpoint.save(&record, &visual, &heads, &optimizer)?;
            saved_at = (record.step, Instant::now());
        }
    };
    let (visual, heads) = student.export(&visual);
    if record.step > first {
        checkpoint.save(&record, &visual, &heads, &optimizer)?;
    }
    if source.cache.as_ref().is_some_and(Cache::is_full) {
        crate::report::warn(
            "the cache is full: the teachers looked at the remaining views every time; give it more with --cache-gb, \
             or ask for fewer --views",
        );
    }
    Ok(Done {
        visual,
        record,
        kept: targets.kept,
        stopped,
    })
}

/// Targets by what the teachers say of the first views.
fn fitted(options: &Options, given: &Given) -> Result<Targets, TrainError> {
    let photos = &given.photos.squares;
    let side = options.sizes.side;
    let said = (0..FITTED).into_par_iter().map(|i| {
        let which = View {
            photo: i * photos.len() / FITTED,
            // Photos are fewer than views to fit: of numbers that no epoch has.
            variant: (1 << 32) + i,
            side,
        };
        given.teachers.say(&view(photos, which, options.seed), side)
    });
    let said: Vec<_> = said.collect::<Result<_, _>>()?;
    Targets::fit(&said, options.sizes.grid(), options.sizes.joint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        for (part, want) in [
            (0.015, 0.5),
            (0.03, 1.0),
            (0.515, 0.5),
            (1.0, 0.0),
            (2.0, 0.0),
        ] {
            assert!((rate(part) - want).abs() < 1e-9, "{part}: {}", rate(part));
        }
        assert!(rate(0.0) > 0.0);
    }
}
