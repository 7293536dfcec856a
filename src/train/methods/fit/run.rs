//! Epochs of any method: order, steps, a checkpoint each, going on from it.

use super::pictures::{More, Pictures, Set};
use super::record::Record;
use super::{Learner, Options, Terms, anomalyclip, april_gan, coop, dapo, heads, optimizer, step};
use crate::bundle::method::{Method, MethodSpec};
use crate::bundle::tap::Tap;
use crate::train::clip::Clip;
use crate::train::datasets::{Sample, digest};
use crate::train::fit::checkpoint::{LEARNED, PROMPTS, refuse_other_run};
use crate::train::fit::{order, refuse_long};
use crate::train::methods::learned::{Learned, Numbers, RECORD};
use crate::train::methods::weights::Weights;
use crate::train::methods::{text, words};
use crate::train::progress::Interrupt;
use crate::train::resume::{self, differences, fewer, save_optimizer};
use crate::train::tensors::store::Store;
use crate::train::{NO_CHECKPOINT, TrainError};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::tensor::Device;
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The class of CoOp's prompts if the user names none.
pub(super) const OBJECT: &str = "object";

/// What an epoch came to.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    pub number: usize,
    /// Means of the loss terms.
    pub terms: Terms,
    /// Seconds, encoding not included.
    pub seconds: f64,
    /// Number of pictures that were learned from.
    pub pictures: usize,
}

/// The switches of a run: stages that the encoder does not have the V-V stream in move up to the first one
/// that has it.
pub fn spec<'a>(
    weights: impl Into<Weights<'a>>,
    options: &Options,
) -> Result<MethodSpec, TrainError> {
    let weights = weights.into();
    let layers = weights.layers();
    let mut spec = MethodSpec::of(options.asked.method, layers);
    if !options.asked.stages.is_empty() {
        spec.stages = options.asked.stages.clone();
    } else if spec.name == Method::Heads && options.vv_layers > 0 {
        let first = layers + 1 - options.vv_layers.min(layers);
        spec.stages.iter_mut().for_each(|s| *s = (*s).max(first));
        spec.stages.dedup();
    }
    let usual = weights.positions(&spec);
    spec.positions = options.asked.positions.unwrap_or(usual);
    let vv = spec.vv_layers(options.vv_layers, layers);
    spec.check_stages(layers, vv)
        .map_err(|e| TrainError::Options(e.to_string()))?;
    Ok(spec)
}

/// What the method looks at.
///
/// # Errors
/// [`TrainError::Options`] for a method that learns nothing here.
pub fn taps<'a>(
    weights: impl Into<Weights<'a>>,
    spec: &MethodSpec,
    options: &Options,
) -> Result<Vec<Tap>, TrainError> {
    let weights = weights.into();
    let layers = weights.layers();
    Ok(match spec.name {
        Method::Anomalyclip => anomalyclip::taps(spec, layers),
        Method::AprilGan => april_gan::taps(spec),
        Method::Coop | Method::Cocoop => coop::taps(layers),
        Method::Heads => {
            let vv = spec.vv_layers(options.vv_layers, layers);
            let words = matches!(weights, Weights::Clip(_));
            crate::methods::heads::taps(&spec.stages, vv, words)
        }
        // Its image encoder learns: nothing of it can be kept.
        Method::Dapo => vec![],
        other => {
            return Err(TrainError::Options(format!(
                "--method {other}: `fit` does not learn it"
            )));
        }
    })
}

/// The files of a run.
struct Checkpoint {
    out: PathBuf,
}

impl Checkpoint {
    fn numbers(&self) -> PathBuf {
        self.out.join(LEARNED)
    }

    fn optimizer(&self, epoch: usize) -> PathBuf {
        self.out.join(format!("epoch-{epoch}.optimizer"))
    }

    /// Saves an epoch. The numbers' file names the epoch, so it is written last.
    fn save<L: Learner>(
        &self,
        learner: &L,
        record: &Record,
        optimizer: &ModuleOptimizer,
    ) -> Result<(), TrainError> {
        save_optimizer(optimizer, &self.optimizer(record.epoch))?;
        let mut store = Store::default();
        learner.store(&mut store);
        let text = serde_json::to_string(record).map_err(|e| TrainError::Output {
            path: self.numbers(),
            source: e.into(),
        })?;
        store.note(RECORD, text);
        store.save(&self.numbers())?;
        if let Some(before) = record.epoch.checked_sub(1) {
            // A leftover file does no harm, so a failure to remove it is none.
            let _ = std::fs::remove_file(self.optimizer(before));
        }
        Ok(())
    }

    /// Numbers, epochs done and the optimizer's state to go on from; `None` if there is nothing.
    fn load(
        &self,
        weights: Weights<'_>,
        now: &Record,
        epochs: usize,
        resume: bool,
    ) -> Result<Option<(Numbers, usize, OptimizerRecord)>, TrainError> {
        let path = self.numbers();
        if !path.is_file() {
            return Ok(None);
        }
        let learned = Learned::load(&path, now.method, weights)?;
        let record = Record::of(&learned)?.ok_or_else(|| TrainError::Prompts {
            path: path.clone(),
            what: "it was not written by `fit`".into(),
        })?;
        if !resume {
            return Err(TrainError::Options(format!(
                "{} holds {} epochs: go on with --resume, or choose another --out",
                self.out.display(),
                record.epoch
            )));
        }
        let same = Record {
            epoch: record.epoch,
            ..now.clone()
        };
        let mut differs = differences(&record, &same, &["epoch"], |name| match name {
            "clip" => Some("--clip or --weights: there other weights"),
            "data" => Some("data: there other pictures or masks"),
            _ => None,
        });
        differs.extend(fewer(record.epoch, epochs));
        if !differs.is_empty() {
            return Err(TrainError::Options(format!(
                "{} was learned with other options or data:\n  {}",
                path.display(),
                differs.join("\n  ")
            )));
        }
        let state = resume::optimizer(&self.optimizer(record.epoch), &path)?;
        Ok(Some((learned.numbers, record.epoch, state)))
    }
}

/// F_a - F_n of each class of a set, as APRIL-GAN compares with it.
fn directions(
    clip: &Clip,
    class: Option<&str>,
    samples: &[Sample],
    threads: usize,
) -> Result<BTreeMap<String, Vec<f32>>, TrainError> {
    let mut all = BTreeMap::new();
    for sample in samples {
        if all.contains_key(&sample.class) {
            continue;
        }
        let prompts = words::prompts(Method::AprilGan, class.unwrap_or(&sample.class), None)?;
        let normal = text::mean_of_units(text::features(clip, &prompts.normal, threads)?.view());
        let abnormal =
            text::mean_of_units(text::features(clip, &prompts.abnormal, threads)?.view());
        all.insert(sample.class.clone(), (abnormal - normal).to_vec());
    }
    Ok(all)
}

/// The types of defect that a set names, in words and in the order of the alphabet, or the user's.
fn types(options: &Options, samples: &[Sample]) -> Result<Vec<String>, TrainError> {
    let mut types: Vec<String> = match options.asked.types.is_empty() {
        false => options
            .asked
            .types
            .iter()
            .map(|t| words::class_words(t))
            .collect(),
        true => samples
            .iter()
            .filter(|s| s.anomalous)
            .map(|s| words::class_words(&s.kind))
            .collect(),
    };
    types.sort();
    types.dedup();
    types.retain(|t| !t.is_empty());
    if let Some(odd) = samples
        .iter()
        .find(|s| s.anomalous && !types.contains(&words::class_words(&s.kind)))
    {
        return Err(TrainError::Data {
            path: odd.image.clone(),
            what: format!(
                "its defect is of type \"{}\"; dapo learns from types that are named: {}",
                odd.kind,
                types.join(", ")
            ),
        });
    }
    Ok(types)
}

/// Where a run goes.
pub struct Out<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// Whether to go on from what is there.
    pub resume: bool,
    /// Threads for the words' features.
    pub threads: usize,
}

/// A run that has all but its pictures: what it begins with, or goes on from.
pub struct Begun {
    checkpoint: Checkpoint,
    spec: MethodSpec,
    record: Record,
    numbers: Numbers,
    done: usize,
    state: Option<OptimizerRecord>,
    /// APRIL-GAN's, of each class.
    directions: Option<BTreeMap<String, Vec<f32>>>,
}

/// Makes the folder and finds out, before pictures are encoded for hours, whether a run of `samples` can begin or go on
/// there: whether its options are those that it was begun with, and whether the weights have all words.
///
/// # Errors
/// [`TrainError::Options`] for options that do not fit the weights or the run that is there; [`TrainError::Weights`],
/// [`TrainError::Prompts`] and [`TrainError::Data`] for files that do not fit or are damaged; [`TrainError::Output`].
pub fn begin<'a>(
    weights: impl Into<Weights<'a>>,
    options: &Options,
    samples: &[Sample],
    out: &Out,
) -> Result<Begun, TrainError> {
    let weights = weights.into();
    options.check(weights)?;
    let spec = spec(weights, options)?;
    let method = options.asked.method;
    refuse_other_run(out.folder, PROMPTS)?;
    std::fs::create_dir_all(out.folder).map_err(|source| TrainError::Output {
        path: out.folder.into(),
        source,
    })?;
    let checkpoint = Checkpoint {
        out: out.folder.into(),
    };
    let types = match method {
        Method::Dapo => types(options, samples)?,
        _ => vec![],
    };
    let record = Record::begun(weights, &spec, options, digest(samples), types);
    if method == Method::Dapo {
        let sentences = dapo::sentences(&record.types);
        refuse_long(weights.clip(method)?, options.tokens, sentences, "--e")?;
    }
    let saved = checkpoint.load(weights, &record, options.epochs, out.resume)?;
    let (numbers, done, state) = match saved {
        Some((numbers, done, state)) => (numbers, done, Some(state)),
        None => {
            let stages = spec.stages.len();
            let numbers = match method {
                Method::Heads => heads::fresh(weights, stages, options.seed, out.threads)?,
                Method::Anomalyclip => anomalyclip::fresh(weights.clip(method)?, options),
                Method::AprilGan => april_gan::fresh(weights.clip(method)?, stages, options.seed),
                Method::Dapo => dapo::fresh(weights.clip(method)?, &spec, options),
                _ => coop::fresh(weights.clip(method)?, options)?,
            };
            (numbers, 0, None)
        }
    };
    let class = options.asked.class.as_deref();
    let directions = match method {
        Method::AprilGan => {
            let clip = weights.clip(method)?;
            Some(directions(clip, class, samples, out.threads)?)
        }
        _ => None,
    };
    Ok(Begun {
        checkpoint,
        spec,
        record,
        numbers,
        done,
        state,
        directions,
    })
}

/// Learns on `set`, whose samples the run was begun with, and tells of each epoch; what is learned stands in the folder's
/// `learned.safetensors`.
///
/// # Errors
/// Every [`TrainError`] but those of bundles.
#[allow(clippy::too_many_arguments)]
pub fn fit<'a>(
    weights: impl Into<Weights<'a>>,
    options: &Options,
    begun: Begun,
    set: &Set,
    pictures: &mut Pictures,
    device: &Device,
    stop: Interrupt,
    bar: &ProgressBar,
    report: impl FnMut(&Epoch),
) -> Result<PathBuf, TrainError> {
    let weights = weights.into();
    let method = options.asked.method;
    let (spec, numbers) = (begun.spec, begun.numbers);
    let device = device.clone().autodiff();
    let mut run = Run {
        options,
        set,
        pictures,
        checkpoint: begun.checkpoint,
        record: begun.record,
        done: begun.done,
        state: begun.state,
        directions: begun.directions,
        device: device.clone(),
        stop,
        bar,
        report,
    };
    if method == Method::Heads {
        return run.learn(heads::Learned::new(weights, &numbers, options, &device)?);
    }
    let clip = weights.clip(method)?;
    match method {
        Method::Anomalyclip => {
            run.learn(anomalyclip::Learned::new(clip, &numbers, options, &device)?)
        }
        Method::AprilGan => run.learn(april_gan::Learned::new(clip, &numbers, options, &device)?),
        Method::Dapo => {
            let types = run.record.types.clone();
            let learner = dapo::Learned::new(clip, &numbers, &types, &spec, options, &device)?;
            run.learn(learner)
        }
        _ => {
            let class = words::class_words(options.asked.class.as_deref().unwrap_or(OBJECT));
            let learner = coop::Learned::new(clip, &numbers, &class, options, &device)?;
            run.learn(learner)
        }
    }
}

/// Everything of a run but what learns.
struct Run<'a, F: FnMut(&Epoch)> {
    options: &'a Options,
    set: &'a Set<'a>,
    pictures: &'a mut Pictures,
    checkpoint: Checkpoint,
    record: Record,
    done: usize,
    state: Option<OptimizerRecord>,
    directions: Option<BTreeMap<String, Vec<f32>>>,
    device: Device,
    stop: Interrupt,
    bar: &'a ProgressBar,
    report: F,
}

impl<F: FnMut(&Epoch)> Run<'_, F> {
    fn saved(&self, epoch: usize) -> String {
        match epoch {
            0 => NO_CHECKPOINT.into(),
            _ => format!("{} (epoch {epoch})", self.checkpoint.numbers().display()),
        }
    }

    fn learn<L: Learner>(&mut self, mut learner: L) -> Result<PathBuf, TrainError> {
        let options = self.options;
        let mut optimizer = optimizer(options.asked.method);
        if let Some(state) = self.state.take() {
            optimizer = optimizer.load_record(state);
        }
        let n = self.set.samples.len();
        let steps = n.div_ceil(options.batch);
        self.bar.set_length((steps * options.epochs) as u64);
        self.bar.set_position((steps * self.done) as u64);
        let types = self.record.types.clone();
        let directions = self.directions.take();
        let of_class = |sample: &Sample| {
            let found = directions.as_ref().and_then(|d| d.get(&sample.class));
            found.cloned().unwrap_or_default()
        };
        let extra: Option<&More<'_>> = match &directions {
            Some(_) => Some(&of_class),
            None => None,
        };
        for epoch in self.done..options.epochs {
            let clock = Instant::now();
            let mut sum = Terms::default();
            let order = order(n, options.seed, epoch);
            for (i, chosen) in order.chunks(options.batch).enumerate() {
                if self.stop.came() {
                    return Err(TrainError::Interrupted {
                        after: format!("step {}", epoch * steps + i),
                        checkpoint: self.saved(epoch),
                    });
                }
                let batch = self
                    .set
                    .batch(self.pictures, chosen, extra, &types, &self.device)?;
                let terms;
                (learner, terms) = step(learner, &mut optimizer, options.lr_at(epoch), &batch);
                if let Some(term) = terms.not_finite() {
                    return Err(TrainError::Diverged {
                        step: epoch * steps + i,
                        term: term.into(),
                        checkpoint: self.saved(epoch),
                    });
                }
                sum.add(&terms, chosen.len() as f64 / n as f64);
                self.bar.inc(1);
            }
            self.record.epoch = epoch + 1;
            self.checkpoint.save(&learner, &self.record, &optimizer)?;
            (self.report)(&Epoch {
                number: epoch + 1,
                terms: sum,
                seconds: clock.elapsed().as_secs_f64(),
                pictures: n,
            });
            let here = epoch + 1 - self.done;
            if options.stop_after == Some(here) && epoch + 1 < options.epochs {
                return Err(TrainError::Interrupted {
                    after: format!("epoch {}", epoch + 1),
                    checkpoint: self.saved(epoch + 1),
                });
            }
        }
        Ok(self.checkpoint.numbers())
    }
}
