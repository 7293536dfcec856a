//! Words for a distilled image encoder: a text encoder that meets it, so that both are a CLIP.
//!
//! The image encoder stays as it is but for its last MLP, which nothing but the image feature passes. Labelled pictures
//! give the direction of damage, photos those of things, masks those of kinds of damage; texts learn to lie there
//! (locked-image tuning, with directions in place of pictures).
//!
//! | module | what it does |
//! |---|---|
//! | [`pictures`], [`seen`] | what the encoder sees in photos and labelled pictures, through a cache |
//! | [`lock`] | what the text encoder shall meet, by the four below |
//! | [`directions`] | damaged against sound, for patches and for pictures; what each set says of the others |
//! | [`last`] | the last MLP answers along the patches' direction |
//! | [`names`] | what things and kinds of damage look like |
//! | [`phrases`], [`learner`] | texts, and the encoder that learns them |
//! | [`checkpoint`] | the run on disk |

pub mod checkpoint;
pub mod directions;
pub mod last;
pub mod learner;
pub mod lock;
pub mod names;
pub mod phrases;
pub mod pictures;
pub mod seen;

use crate::bundle::manifest::ActivationKind;
use crate::train::TrainError;
use crate::train::clip::{Clip, Preprocess, Text};
use crate::train::progress::{Interrupt, bar};
use crate::train::tensors::file_digest;
use burn::tensor::Device;
use checkpoint::{Checkpoint, Record, Saved};
use directions::Judged;
use indicatif::ProgressBar;
use learner::{CONTEXT, Learner, Used};
use lock::{Tower, lock};
use phrases::Phrases;
use seen::Set;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Tokens that the longest phrase has beside its names.
const AROUND: usize = 16;

/// How to learn. What does not change the result is not part of a run's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Photos of a label that are looked at.
    pub each: usize,
    /// Rendered pictures' part of a batch, 0..=1, where there are rendered sets and others.
    pub rendered_part: f64,
    /// Blocks of the text encoder.
    pub layers: usize,
    /// Its steps.
    pub steps: usize,
    /// Texts of a step.
    pub batch: usize,
    /// Peak of its learning rate.
    pub lr: f64,
    /// Of every random number.
    pub seed: u64,
    /// Stop after this many steps of this piece.
    #[serde(skip)]
    pub stop_after: Option<usize>,
    /// Minutes between checkpoints.
    #[serde(skip)]
    pub save_every: f64,
}

impl Options {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`TrainError::Options`] that names the option.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |what: String| Err(TrainError::Options(what));
        if [self.each, self.layers, self.steps, self.batch].contains(&0) {
            return refuse("--each, --layers, --steps and --batch are at least 1".into());
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return refuse(format!("--lr {}: a positive number", self.lr));
        }
        if !(0.0..=1.0).contains(&self.rendered_part) {
            return refuse(format!(
                "--rendered-part {}: from 0 to 1",
                self.rendered_part
            ));
        }
        Ok(())
    }
}

/// What a run learns from.
pub struct Given<'a> {
    /// The encoder.
    pub tower: &'a Tower,
    /// Labelled sets, the rendered ones marked.
    pub sets: &'a [Set],
    /// The table of photos: label, path.
    pub labels: &'a Path,
}

/// Where a run is kept, and whether to go on with what is there.
pub struct Place<'a> {
    /// The run's folder, which is there.
    pub folder: &'a Path,
    /// Whether to go on.
    pub resume: bool,
    /// The folder of what the encoder saw, and how many bytes it may take.
    pub cache: (&'a Path, u64),
}

/// What becomes known while a run goes on.
pub enum News {
    /// So many labelled pictures were looked at, so many more cannot be read.
    Looked {
        /// Pictures.
        pictures: usize,
        /// Those that cannot be read.
        broken: usize,
        /// Seconds that it took.
        seconds: f64,
    },
    /// What the directions of all other sets say of this one.
    LeftOut(String, Judged),
    /// The directions are known; how well the image feature answers along the patches' own, a correlation.
    Directions {
        /// Length of the patches' direction.
        patches: f32,
        /// Length of the pictures'.
        images: f32,
        /// The correlation.
        agreed: f32,
    },
    /// Names have directions.
    Named {
        /// Photos.
        photos: usize,
        /// Things.
        things: usize,
        /// Kinds of damage.
        kinds: Vec<String>,
    },
    /// A step of the text encoder: how many are done, and its loss.
    Step(usize, f32),
    /// The cosine of a text with its direction, at the end.
    Cosine(String, f32),
}

/// What a piece of a run came to.
pub struct Done {
    /// Both encoders; the text encoder only so far as the run is.
    pub clip: Clip,
    /// Steps that are done.
    pub step: usize,
    /// Why it ended before the run did; none if it is at its end.
    pub stopped: Option<TrainError>,
}

/// A piece of a run: begins it, or goes on with it, until it is done, or the piece is.
///
/// # Errors
/// [`TrainError::Options`], [`TrainError::Data`], [`TrainError::Picture`], [`TrainError::Weights`] (a damaged checkpoint),
/// [`TrainError::Output`], [`TrainError::Diverged`]; being stopped is none once the text encoder has begun:
/// [`Done::stopped`].
pub fn text(
    options: &Options,
    given: &Given,
    place: &Place,
    device: &Device,
    stop: Interrupt,
    mut told: impl FnMut(News),
) -> Result<Done, TrainError> {
    options.check()?;
    let of = |rendered: bool| {
        let own = given.sets.iter().filter(|s| s.rendered == rendered);
        own.map(|s| (s.name.clone(), s.digest.clone())).collect()
    };
    let labels = file_digest(given.labels).map_err(|e| TrainError::Data {
        path: given.labels.into(),
        what: e.to_string(),
    })?;
    let mut record = Record {
        step: 0,
        tower: given.tower.digest.clone(),
        sets: of(false),
        rendered: of(true),
        labels,
        options: options.clone(),
    };
    let checkpoint = Checkpoint::new(place.folder);
    let locked = match checkpoint.locked(&record, place.resume)? {
        Some(locked) => locked,
        None => {
            let locked = lock(options, given, place.cache, device, stop, &mut told)?;
            checkpoint.save_locked(&record, &locked)?;
            locked
        }
    };
    let phrases = Phrases::new(&locked.names, options.seed);
    let (longest, tokens) = phrases.longest();
    if 2 * tokens + AROUND > CONTEXT {
        return Err(TrainError::Options(format!(
            "`{longest}` has {} tokens: with a name as long beside it a text would have more than the {CONTEXT} that CLIP's \
             texts may have; shorten the label",
            tokens - 2
        )));
    }
    let width = locked.names.normal.len();
    let fresh = learner::fresh(width, options.layers, options.seed);
    let learning = device.clone().autodiff();
    let mut learner = match checkpoint.learned(&record)? {
        None => Learner::new(&fresh, Used::default(), &learning),
        Some(Saved {
            step,
            text,
            used,
            optimizer,
        }) => {
            record.step = step;
            let text = Text {
                embedding: fresh.embedding.clone(),
                ..text
            };
            Learner::new(&text, used, &learning).with_optimizer(optimizer)
        }
    };
    let stopped = learn(
        options,
        &phrases,
        &checkpoint,
        &mut record,
        &fresh,
        &mut learner,
        stop,
        &mut told,
    )?;
    if stopped.is_none() {
        let names = &locked.names;
        for (text, direction) in [
            ("a photo of a flawless object.", &names.normal),
            ("damaged object.", &names.damaged),
            ("object.", &names.normal),
        ] {
            told(News::Cosine(text.into(), learner.cosine(text, direction)));
        }
    }
    let mut sources = given.tower.sources.clone();
    sources.insert("tower".into(), record.tower.clone());
    sources.insert("labels".into(), record.labels.clone());
    for (name, digest) in record.sets.iter().chain(&record.rendered) {
        sources.insert(format!("labelled {name}"), digest.clone());
    }
    let text = learner.export(&fresh);
    Ok(Done {
        step: record.step,
        stopped,
        clip: Clip {
            path: PathBuf::new(),
            digest: String::new(),
            untrained: false,
            activation: ActivationKind::QuickGelu,
            preprocess: Preprocess::default(),
            assumed: vec![],
            notes: vec![],
            vv_layers: Some(given.tower.vv_layers),
            logit_scale: None,
            sources,
            visual: locked.visual,
            text,
        },
    })
}

/// The steps of the text encoder that are left; why they ended early, if they did.
#[allow(clippy::too_many_arguments)]
fn learn(
    options: &Options,
    phrases: &Phrases,
    checkpoint: &Checkpoint,
    record: &mut Record,
    fresh: &Text,
    learner: &mut Learner,
    stop: Interrupt,
    told: &mut impl FnMut(News),
) -> Result<Option<TrainError>, TrainError> {
    let bar: ProgressBar = bar(options.steps, "texts");
    let first = record.step;
    let mut saved = (record.step, Instant::now());
    let keep = |record: &Record, learner: &Learner| {
        checkpoint.save(
            record,
            &learner.export(fresh),
            learner.used(),
            learner.optimizer(),
        )
    };
    let stopped = loop {
        if record.step >= options.steps {
            break None;
        }
        let here = record.step - first;
        if options.stop_after.is_some_and(|n| here >= n) || stop.came() {
            break Some(TrainError::Interrupted {
                after: format!("step {}", record.step),
                checkpoint: match record.step {
                    0 => "the directions".into(),
                    _ => checkpoint.text().display().to_string(),
                },
            });
        }
        let batch = phrases.batch(record.step, options.batch);
        let loss = learner.step(&batch, (record.step, options.steps), options.lr);
        if !loss.is_finite() {
            return Err(TrainError::Diverged {
                step: record.step,
                term: "loss".into(),
                checkpoint: match saved.0 {
                    0 => "none".into(),
                    step => format!("{} (step {step})", checkpoint.text().display()),
                },
            });
        }
        record.step += 1;
        bar.set_position(record.step as u64);
        bar.suspend(|| told(News::Step(record.step, loss)));
        if saved.1.elapsed() >= Duration::from_secs_f64(60.0 * options.save_every) {
            keep(record, learner)?;
            saved = (record.step, Instant::now());
        }
    };
    bar.finish_and_clear();
    if record.step > saved.0 {
        keep(record, learner)?;
    }
    Ok(stopped)
}
