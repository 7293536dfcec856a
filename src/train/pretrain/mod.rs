//! A dual encoder from nothing: CLIP's architecture and loss, on pictures that `render` makes.
//!
//! For users without CLIP weights, and for the bundle that ships. Never looks at a real picture.

pub mod batch;
pub mod init;
pub mod model;

use super::TrainError;
use super::clip::Clip;
use super::metrics::Ranking;
use super::nn::Products;
use super::nn::layers::values;
use super::progress::Interrupt;
use super::render::Part;
use super::tensors::Tensors;
use super::tensors::store::Store;
use crate::bundle;
use batch::{Batch, Plan, Words, stream};
use burn::module::{Module, ParamGroup};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Bytes, Device};
use indicatif::ProgressBar;
use init::Sizes;
use model::DualEncoder;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A stretch of training at one picture size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Side of the pictures in pixels, a multiple of the patch side.
    pub side: usize,
    /// Scenes per step; each gives a normal and an abnormal picture.
    pub pairs: usize,
    /// Steps.
    pub steps: usize,
}

impl std::str::FromStr for Phase {
    type Err = String;

    /// `SIDExPAIRSxSTEPS`, as in `112x16x3000`.
    fn from_str(text: &str) -> Result<Phase, String> {
        let numbers: Vec<usize> = text
            .split('x')
            .map(|n| n.parse().map_err(|e| format!("`{n}`: {e}")))
            .collect::<Result<_, _>>()?;
        match *numbers {
            [side, pairs, steps] if side > 0 && pairs > 0 && steps > 0 => {
                Ok(Phase { side, pairs, steps })
            }
            _ => Err(format!(
                "`{text}` is not SIDExPAIRSxSTEPS, as in 112x16x3000"
            )),
        }
    }
}

/// What to train, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sizes of both towers.
    pub sizes: Sizes,
    /// Blocks with the V-V stream.
    pub vv_layers: usize,
    /// One after the other; the last side is the encoder's own.
    pub phases: Vec<Phase>,
    /// Same seed, same pictures, same numbers.
    pub seed: u64,
    /// Largest learning rate.
    pub lr: f64,
    /// AdamW's weight decay, on matrices only.
    pub weight_decay: f32,
    /// The numbers of matrix products.
    pub products: Products,
    /// Folder for checkpoint and result.
    pub out: PathBuf,
    /// Steps between checkpoints.
    pub save_every: usize,
    /// Go on from the folder's checkpoint.
    pub resume: bool,
    /// Weights to begin with instead of nothing: a second course, with varied photography, which also
    /// teaches the largest patch score and that the defective picture of a scene has the larger scores.
    pub refine: Option<PathBuf>,
    /// Stop after this many steps of this run, as Ctrl-C would.
    pub stop_after: Option<usize>,
}

/// Part of all steps in which the learning rate grows.
const WARM_UP: f64 = 0.04;
/// Validation scenes.
const VALIDATION_PAIRS: usize = 96;

/// What a checkpoint's numbers belong to.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct State {
    step: usize,
    seed: u64,
    phases: Vec<Phase>,
    lr: f64,
    /// Whether it is a second course.
    #[serde(default)]
    refined: bool,
}

/// Figures on validation scenes, of families that training never shows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Validation {
    /// AUROC of the image features' probability.
    pub image_auroc: f64,
    /// AUROC of the largest patch score.
    pub max_auroc: f64,
    /// AUROC over patches.
    pub patch_auroc: f64,
    /// Part of the scenes whose defective picture has the larger image probability plus largest patch
    /// score than its good one.
    pub pairs: f64,
}

/// Learning rate at a step: a warm-up, then half a cosine down to nothing.
fn rate(options: &Options, step: usize, steps: usize) -> f64 {
    let at = step as f64 / steps as f64;
    let factor = if at < WARM_UP {
        (step + 1) as f64 / (steps as f64 * WARM_UP).ceil()
    } else {
        0.5 * (1.0 + (std::f64::consts::PI * (at - WARM_UP) / (1.0 - WARM_UP)).cos())
    };
    options.lr * factor.min(1.0)
}

/// Ids of the parameters whose path says that they are matrices of layers: only those decay.
fn optimizer(options: &Options) -> ModuleOptimizer {
    let config = AdamWConfig::new()
        .with_beta_2(0.98)
        .with_epsilon(1e-8)
        .with_weight_decay(0.0);
    let decayed = config.clone().with_weight_decay(options.weight_decay);
    let matrices = ParamGroup::from_any_predicates(vec![
        "qkv.weight",
        "out.weight",
        "fc.weight",
        "proj.weight",
    ]);
    ModuleOptimizer::from(config.build()).with_group(matrices, decayed.build(), None)
}

/// Judges the validation scenes.
pub fn validate(
    model: &DualEncoder,
    plan: &Plan,
    words: &Words,
    device: &Device,
) -> Option<Validation> {
    let (mut images, mut maxima, mut patches) = (vec![], vec![], vec![]);
    let mut ordered = 0;
    let step = 8.min(plan.pairs);
    for index in 0..plan.pairs / step {
        let plan = Plan {
            pairs: step,
            ..*plan
        };
        let batch = Batch::make(&plan, index as u64, words);
        let scores = model.scores(&batch, device);
        let n = batch.grid * batch.grid;
        for (i, score) in values(&scores.images).into_iter().enumerate() {
            images.push((score, batch.labels[i] > 0.5));
        }
        let dense = values(&scores.patches);
        for (i, row) in dense.chunks_exact(n).enumerate() {
            maxima.push((crate::faprompt::score::max(row), batch.labels[i] > 0.5));
        }
        let from = images.len() - batch.pictures;
        let sums: Vec<f32> = (from..images.len())
            .map(|i| images[i].0 + maxima[i].0)
            .collect();
        ordered += sums.chunks_exact(2).filter(|s| s[1] > s[0]).count();
        patches.extend(
            dense
                .iter()
                .zip(&batch.coverage)
                .map(|(s, c)| (*s, *c >= 0.5)),
        );
    }
    Some(Validation {
        pairs: ordered as f64 / (images.len() / 2) as f64,
        image_auroc: Ranking::new(images).auroc()?,
        max_auroc: Ranking::new(maxima).auroc()?,
        patch_auroc: Ranking::new(patches).auroc()?,
    })
}

/// Weights that a second course begins with.
fn known(path: &Path, sizes: &Sizes) -> Result<Clip, TrainError> {
    let clip = Clip::load(path)?;
    let (v, t) = (&clip.visual, &clip.text);
    let found = Sizes {
        image: (v.width, v.blocks.len(), v.patch, v.grid),
        text: (t.width, t.blocks.len()),
    };
    if found != *sizes || t.embedding.is_none() {
        return Err(TrainError::Weights {
            path: path.into(),
            what: format!("{found:?}, where the recipe trains {sizes:?}"),
        });
    }
    Ok(clip)
}

/// A failed write.
fn output(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError + '_ {
    move |source| TrainError::Output {
        path: path.into(),
        source,
    }
}

/// The numbers of a run that can go on: weights and optimizer of a step, and the file that names them.
struct Checkpoint<'a> {
    options: &'a Options,
    words: &'a Words,
}

impl Checkpoint<'_> {
    fn weights(&self, step: usize) -> PathBuf {
        self.options.out.join(format!("step-{step}.safetensors"))
    }

    fn optimizer(&self, step: usize) -> PathBuf {
        self.options.out.join(format!("step-{step}.optimizer"))
    }

    fn state_path(&self) -> PathBuf {
        self.options.out.join("state.json")
    }

    fn state(&self, step: usize) -> State {
        State {
            step,
            seed: self.options.seed,
            phases: self.options.phases.clone(),
            lr: self.options.lr,
            refined: self.options.refine.is_some(),
        }
    }

    /// Saves a step; the one before is removed only after `state.json` names the new one.
    fn save(
        &self,
        step: usize,
        clip: &mut Clip,
        model: &DualEncoder,
        optimizer: &ModuleOptimizer,
    ) -> Result<(), TrainError> {
        model.export(clip, &self.words.tokens);
        let mut store = Store::default();
        model.store_scaffold(&mut store);
        clip.save_with(&self.weights(step), store)?;
        let path = self.optimizer(step);
        let bytes = optimizer
            .into_bytes()
            .map_err(|e| output(&path)(std::io::Error::other(e.to_string())))?;
        bundle::save(&bytes, &path).map_err(output(&path))?;
        let before = self.read()?;
        let path = self.state_path();
        let text =
            serde_json::to_string_pretty(&self.state(step)).map_err(|e| output(&path)(e.into()))?;
        bundle::save(text.as_bytes(), &path).map_err(output(&path))?;
        if let Some(old) = before.filter(|s| s.step != step) {
            // A leftover file does no harm, so a failure to remove it is none.
            let _ = std::fs::remove_file(self.weights(old.step));
            let _ = std::fs::remove_file(self.optimizer(old.step));
        }
        Ok(())
    }

    fn read(&self) -> Result<Option<State>, TrainError> {
        let path = self.state_path();
        if !path.is_file() {
            return Ok(None);
        }
        let data = |what: String| TrainError::Data {
            path: path.clone(),
            what,
        };
        let text = std::fs::read_to_string(&path).map_err(|e| data(e.to_string()))?;
        let state = serde_json::from_str(&text).map_err(|e| data(e.to_string()))?;
        Ok(Some(state))
    }
}

/// Trains and writes `clip.safetensors` to the output folder; returns its path and the last validation.
///
/// # Errors
/// [`TrainError::Options`] for phases that do not fit the sizes or a checkpoint of another run,
/// [`TrainError::Diverged`], [`TrainError::Interrupted`], [`TrainError::Output`].
pub fn pretrain(
    options: &Options,
    device: &Device,
    stop: Interrupt,
    bar: &ProgressBar,
    mut told: impl FnMut(String),
) -> Result<(PathBuf, Option<Validation>), TrainError> {
    let out = &options.out;
    std::fs::create_dir_all(out).map_err(output(out))?;
    let (_, _, patch, grid) = options.sizes.image;
    if let Some(odd) = options
        .phases
        .iter()
        .find(|p| p.side % patch != 0 || p.side / patch > grid)
    {
        return Err(TrainError::Options(format!(
            "pictures of {} px are no multiple of the patch side {patch}, or larger than the encoder's {} px",
            odd.side,
            patch * grid
        )));
    }
    let words = Words::default();
    let checkpoint = Checkpoint {
        options,
        words: &words,
    };
    let device = device.clone().autodiff();
    let mut clip = match &options.refine {
        None => init::clip(&options.sizes, options.seed),
        Some(path) => known(path, &options.sizes)?,
    };
    clip.untrained = true;
    clip.vv_layers = Some(options.vv_layers);
    let mut adam = optimizer(options);
    let mut start = 0;
    if let Some(state) = checkpoint.read()? {
        if !options.resume {
            return Err(TrainError::Options(format!(
                "{} holds a run that stopped at step {}: go on with --resume, or choose another --out",
                out.display(),
                state.step
            )));
        }
        if checkpoint.state(state.step) != state {
            return Err(TrainError::Options(format!(
                "{} was made with other options (seed, phases or learning rate): {state:?}",
                out.display()
            )));
        }
        start = state.step;
        clip = Clip::load(&checkpoint.weights(start))?;
        let path = checkpoint.optimizer(start);
        let bytes = std::fs::read(&path).map_err(|e| TrainError::Data {
            path: path.clone(),
            what: e.to_string(),
        })?;
        adam = adam
            .from_bytes(Bytes::from_bytes_vec(bytes))
            .map_err(|e| TrainError::Data {
                path,
                what: e.to_string(),
            })?;
    }
    let mut model = DualEncoder::new(&clip, options, &words.tokens, &device);
    if start > 0 {
        let path = checkpoint.weights(start);
        Tensors::load(&path)
            .and_then(|t| model.restore_scaffold(&t, &device))
            .map_err(|e| TrainError::Weights {
                path,
                what: e.to_string(),
            })?;
    }
    let steps: usize = options.phases.iter().map(|p| p.steps).sum();
    let side = options.phases.last().map_or(patch * grid, |p| p.side);
    let held_out = Plan {
        seed: options.seed ^ 0x7e57,
        part: Part::Validation,
        side,
        patch,
        positions: grid,
        pairs: VALIDATION_PAIRS,
        varied: false,
    };
    let checking =
        |model: &DualEncoder| validate(&model.valid(), &held_out, &words, &device.clone().inner());
    bar.set_length(steps as u64);
    bar.set_position(start as u64);
    let (mut before, mut clock, mut pictures, mut last) = (0, Instant::now(), 0, None);
    let mut saved = format!("{} (none yet)", out.display());
    for (i, phase) in options.phases.iter().enumerate() {
        let range = before..before + phase.steps;
        before += phase.steps;
        if start >= range.end {
            continue;
        }
        let plan = Plan {
            // Phases never show a scene twice.
            seed: options.seed.wrapping_add(1000 * i as u64),
            part: Part::Train,
            side: phase.side,
            patch,
            positions: grid,
            pairs: phase.pairs,
            varied: options.refine.is_some(),
        };
        let first = start.max(range.start);
        let batches = stream(plan, (first - range.start) as u64, phase.steps as u64);
        for (step, batch) in (first..range.end).zip(batches) {
            let losses = model.losses(&batch, &device);
            let parts: Vec<f32> = losses
                .parts
                .into_iter()
                .map(|p| p.into_scalar::<f32>())
                .collect();
            if let Some(term) = parts.iter().position(|p| !p.is_finite()) {
                return Err(TrainError::Diverged {
                    step,
                    term: model::TERMS[term].into(),
                    checkpoint: saved,
                });
            }
            let gradients = GradientsParams::from_grads(losses.total.backward(), &model);
            model = adam.step(rate(options, step, steps), model, gradients);
            bar.inc(1);
            pictures += batch.pictures;
            let done = step + 1;
            let stopped = stop.came() || options.stop_after == Some(done - start) && done < steps;
            let pause = done % options.save_every == 0 || done == steps || stopped;
            if done % 50 == 0 || pause {
                let rate = pictures as f64 / clock.elapsed().as_secs_f64();
                (pictures, clock) = (0, Instant::now());
                let terms: Vec<String> = model::TERMS
                    .iter()
                    .zip(&parts)
                    .map(|(name, v)| format!("{name} {v:.3}"))
                    .collect();
                told(format!(
                    "step {done}/{steps}  {}  {rate:.0} pictures/s",
                    terms.join("  ")
                ));
            }
            if pause {
                checkpoint.save(done, &mut clip, &model, &adam)?;
                saved = checkpoint.state_path().display().to_string();
                if stopped {
                    return Err(TrainError::Interrupted {
                        after: format!("step {done}"),
                        checkpoint: saved,
                    });
                }
                last = checking(&model);
                if let Some(v) = last {
                    told(format!(
                        "step {done}  unseen families: image AUROC {:.1} (largest patch {:.1}), patch AUROC {:.1}, pairs in order {:.1}",
                        100.0 * v.image_auroc,
                        100.0 * v.max_auroc,
                        100.0 * v.patch_auroc,
                        100.0 * v.pairs
                    ));
                }
                clock = Instant::now();
            }
        }
    }
    model.export(&mut clip, &words.tokens);
    clip.untrained = false;
    let path = out.join("clip.safetensors");
    clip.save(&path)?;
    Ok((path, last))
}
