//! Words for a distilled image encoder: a text encoder that meets it, so that both are a CLIP.
//!
//! The image encoder stays as it is but for its last MLP, which nothing but the image feature passes. Labelled pictures
//! give the direction of damage, photos those of things, masks those of kinds of damage; texts learn to lie there
//! (locked-image tuning, with directions in place of pictures).
//!
//! | module | what it does |
//! |---|---|
//! | [`pictures`] | what the encoder sees in labelled pictures and photos, through a cache |
//! | [`directions`] | damaged against sound, for patches and for pictures; what each set says of the others |
//! | [`last`] | the last MLP answers along the patches' direction |
//! | [`names`] | what things and kinds of damage look like |
//! | [`phrases`], [`learner`] | texts, and the encoder that learns them |
//! | [`checkpoint`] | the run on disk |

pub mod checkpoint;
pub mod directions;
pub mod last;
pub mod learner;
pub mod names;
pub mod phrases;
pub mod pictures;

use super::student::HEAD;
use crate::bundle::manifest::ActivationKind;
use crate::train::TrainError;
use crate::train::clip::{Clip, Preprocess, Text, Visual};
use crate::train::progress::{Interrupt, bar};
use crate::train::tensors::{Tensors, VV_LAYERS, file_digest};
use burn::tensor::Device;
use checkpoint::{Checkpoint, Locked, Record, Saved};
use directions::Judged;
use indicatif::ProgressBar;
use last::{Last, Wanted};
use learner::{CONTEXT, Learner, Used};
use names::Names;
use phrases::Phrases;
use pictures::{Encoder, Seen, Set, labelled, stacked};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Runs with other random numbers whose mean the directions are.
const RUNS: u64 = 3;
/// Tokens that the longest phrase has beside its names.
const AROUND: usize = 16;

/// How to learn.
#[derive(Clone, Debug)]
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
    pub stop_after: Option<usize>,
    /// Minutes between checkpoints.
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

/// A distilled encoder from its file.
pub struct Tower {
    /// Its numbers.
    pub visual: Visual,
    /// Blocks with the V-V stream, counted from the last.
    pub vv_layers: usize,
    /// SHA-256 of the file.
    pub digest: String,
    /// What it was made from: its teachers and photos.
    pub sources: BTreeMap<String, String>,
}

impl Tower {
    /// Reads what `distil` writes with the ending .safetensors.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: unreadable, no image encoder in it, or one whose features a text encoder of heads 64
    /// channels wide cannot have.
    pub fn load(path: &Path) -> Result<Tower, TrainError> {
        let wrong = |what: String| TrainError::Weights {
            path: path.into(),
            what,
        };
        let tensors = Tensors::load(path).map_err(|e| wrong(e.to_string()))?;
        let visual = Visual::of_file(&tensors).map_err(|e| wrong(e.to_string()))?;
        let joint = visual.proj.nrows();
        if !joint.is_multiple_of(HEAD) {
            return Err(wrong(format!(
                "its features have {joint} numbers, which a text encoder of heads {HEAD} channels wide cannot have: distil \
                 it with --joint {}",
                joint.next_multiple_of(HEAD)
            )));
        }
        let vv_layers = tensors.note(VV_LAYERS).and_then(|v| v.parse().ok());
        let vv_layers = vv_layers.filter(|n| (1..=visual.blocks.len()).contains(n));
        Ok(Tower {
            vv_layers: vv_layers.ok_or_else(|| {
                wrong(format!("metadata `{VV_LAYERS}`: how many blocks carry the V-V stream; `distil` writes it"))
            })?,
            digest: tensors.digest().map_err(|e| wrong(e.to_string()))?,
            sources: tensors.sources(),
            visual,
        })
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

/// What the locked encoder sees, and how.
struct Looked<'a> {
    seen: &'a Seen,
    images: ndarray::Array2<f32>,
    last: Last,
}

impl<'a> Looked<'a> {
    fn new(tower: &Tower, seen: &'a Seen, device: &Device) -> Looked<'a> {
        let last = Last::new(&tower.visual, device);
        Looked {
            images: last.images(&seen.class_rows()),
            seen,
            last,
        }
    }
}

fn encoder(given: &Given, cache: (&Path, u64), device: &Device) -> Result<Encoder, TrainError> {
    let tower = given.tower;
    Encoder::new(&tower.visual, tower.vv_layers, &tower.digest, cache, device)
}

fn look(
    given: &Given,
    encoder: &mut Encoder,
    stop: Interrupt,
    told: &mut impl FnMut(News),
) -> Result<Seen, TrainError> {
    let (clock, bar) = (Instant::now(), bar(0, "labelled pictures"));
    let seen = Seen::look(given.sets, &given.tower.visual, encoder, stop, &bar)?;
    bar.finish_and_clear();
    told(News::Looked {
        pictures: seen.shown.len(),
        broken: seen.broken,
        seconds: clock.elapsed().as_secs_f64(),
    });
    Ok(seen)
}

/// Judges each set that is not rendered by what all others teach.
///
/// # Errors
/// As [`text`]; [`TrainError::Options`] if nothing would teach.
pub fn leave_out(
    options: &Options,
    given: &Given,
    cache: (&Path, u64),
    device: &Device,
    stop: Interrupt,
    mut told: impl FnMut(News),
) -> Result<(), TrainError> {
    if given.sets.len() < 2 {
        return Err(TrainError::Options(
            "--leave-out: at least two sets are wanted: one to be judged, and one that teaches"
                .into(),
        ));
    }
    let seen = look(given, &mut encoder(given, cache, device)?, stop, &mut told)?;
    let learning = device.clone().autodiff();
    let looked = Looked::new(given.tower, &seen, &learning);
    for (set, name) in seen
        .names
        .iter()
        .enumerate()
        .filter(|(i, _)| !seen.rendered[*i])
    {
        let others: Vec<usize> = (0..seen.names.len()).filter(|s| *s != set).collect();
        let part = options.rendered_part;
        let found = directions::learn(
            &seen,
            &looked.images,
            &others,
            part,
            options.seed,
            &learning,
        );
        let judged = directions::judge(&seen, looked.images.view(), set, &found);
        told(News::LeftOut(name.clone(), judged));
    }
    Ok(())
}

/// Finds the directions, and teaches the last MLP.
fn lock(
    options: &Options,
    given: &Given,
    cache: (&Path, u64),
    device: &Device,
    stop: Interrupt,
    told: &mut impl FnMut(News),
) -> Result<Locked, TrainError> {
    let labels = names::labels(given.labels)?;
    let mut encoder = encoder(given, cache, device)?;
    let seen = look(given, &mut encoder, stop, told)?;
    let learning = device.clone().autodiff();
    let looked = Looked::new(given.tower, &seen, &learning);
    let all: Vec<usize> = (0..seen.names.len()).collect();
    let runs: Vec<directions::Found> = (0..RUNS)
        .map(|run| {
            let seed = options.seed + run;
            let part = options.rendered_part;
            directions::learn(looked.seen, &looked.images, &all, part, seed, &learning)
        })
        .collect();
    let found = directions::mean(&runs);
    let wanted = Wanted::new(seen.class_rows(), looked.images, &found);
    let (last, agreed) = looked.last.learn(&wanted, &found.patches, options.seed);
    let length = |v: &ndarray::Array1<f32>| v.dot(v).sqrt();
    told(News::Directions {
        patches: length(&found.patches),
        images: length(&found.images),
        agreed,
    });
    let bar = bar(0, "photos");
    let photos = labelled(
        &labels,
        options.each,
        &mut encoder,
        options.seed,
        stop,
        &bar,
    )?;
    bar.finish_and_clear();
    if photos.is_empty() {
        return Err(TrainError::Data {
            path: given.labels.into(),
            what: "none of its photos can be read".into(),
        });
    }
    let features: BTreeMap<String, _> = photos
        .iter()
        .map(|(label, looks)| (label.clone(), last.images(&stacked(looks.iter()))))
        .collect();
    let [normal, damaged] = last::axis(&found.patches);
    let names = Names {
        normal,
        damaged,
        things: names::things(&features),
        kinds: names::kinds(&seen),
    };
    told(News::Named {
        photos: photos.values().map(Vec::len).sum(),
        things: names.things.len(),
        kinds: names.kinds.keys().cloned().collect(),
    });
    let from = &given.tower.visual;
    let mut blocks = from.blocks.clone();
    if let Some(block) = blocks.last_mut() {
        *block = last.export();
    }
    let visual = Visual {
        conv1: from.conv1.clone(),
        class: from.class.clone(),
        positions: from.positions.clone(),
        ln_pre: from.ln_pre.clone(),
        blocks,
        ln_post: from.ln_post.clone(),
        proj: from.proj.clone(),
        ..*from
    };
    Ok(Locked { visual, names })
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
        each: options.each,
        rendered_part: options.rendered_part,
        layers: options.layers,
        steps: options.steps,
        batch: options.batch,
        lr: options.lr,
        seed: options.seed,
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
            let learner = Learner::new(&text, used, &learning).with_optimizer(optimizer);
            learner.map_err(|e| TrainError::Weights {
                path: place.folder.into(),
                what: format!("the optimizer's state: {e}"),
            })?
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
