//! Learning prompts and the prior on cached features of a frozen CLIP.
//!
//! The image encoder sees each picture once; every epoch after that costs only the text side. Knows
//! cameras, boards and bundles not at all.

pub mod cache;
pub mod checkpoint;
pub mod encode;
pub mod judge;
pub mod learner;
pub mod losses;
pub mod variant;

use super::clip::Clip;
use super::datasets::{Sample, digest};
use super::evaluate;
use super::export::{refuse_side, refuse_vv_layers};
use super::masks::Mask;
use super::nn::layers::{put, tensor};
use super::nn::text::TextTower;
use super::nn::{Maker, Products};
use super::progress::Interrupt;
use super::prompts::{ABNORMAL_WORDS, NORMAL_WORDS, Prompts, embed};
use super::{NO_CHECKPOINT, TrainError};
use crate::bundle::manifest::{ScoreRule, Selection};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use cache::Cache;
use checkpoint::{Checkpoint, Record};
use clap::ValueEnum;
use encode::Encoder;
use indicatif::ProgressBar;
use learner::{Frozen, Learner};
use losses::{ADAPTED_WEIGHT, ORTHOGONAL_WEIGHT, Terms};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::Instant;
use variant::Variant;

/// The published code's T.
const TEMPERATURE: f64 = 0.07;

/// What the prompts begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Gaussian numbers (the paper's).
    #[default]
    Random,
    /// Words that the text encoder knows, deep prompts that change nothing and a prior of zero: the first
    /// scores are those of plain words. For small encoders, whose words say more than few pictures teach.
    Words,
}

/// What to learn, and how. Defaults are the paper's.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is switched on.
    pub variant: Variant,
    /// Which patches feed psi.
    pub selection: Selection,
    /// How the maxima are combined.
    pub rule: ScoreRule,
    /// E, normal tokens.
    pub normal_tokens: usize,
    /// E', abnormal tokens.
    pub abnormal_tokens: usize,
    /// K, abnormal prompts.
    pub prompts: usize,
    /// M, patches that feed psi.
    pub patches: usize,
    /// Text blocks with a deep prompt, from the second on.
    pub deep_blocks: usize,
    /// Tokens of a deep prompt.
    pub deep_length: usize,
    /// How often each picture is shown.
    pub epochs: usize,
    /// Pictures per step.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// What the prompts begin with.
    pub start: Start,
    /// The seed of the first numbers and of the order of pictures.
    pub seed: u64,
    /// Side of the input in pixels.
    pub image_size: usize,
    /// Blocks with the V-V stream.
    pub vv_layers: usize,
    /// The numbers of matrix products.
    pub products: Products,
    /// Stop after this many epochs of this run, as Ctrl-C would.
    pub stop_after: Option<usize>,
}

impl Options {
    /// The paper's options, at the input size of `clip`.
    pub fn paper(clip: &Clip) -> Options {
        Options {
            variant: Variant::default(),
            selection: Selection::Paper,
            rule: ScoreRule::Code,
            normal_tokens: 5,
            abnormal_tokens: 2,
            prompts: 10,
            patches: 10,
            // D = 9: blocks 1..8 of 12; shallower towers keep their last block free.
            deep_blocks: 8.min(clip.text.blocks.len().saturating_sub(1)),
            deep_length: 4,
            epochs: 15,
            batch: 8,
            lr: 1e-3,
            start: Start::Random,
            seed: 111,
            image_size: clip.default_image_size(),
            vv_layers: clip.default_vv_layers(),
            products: Products::F32,
            stop_after: None,
        }
    }

    /// What a checkpoint with these options says, learned from pictures of this digest.
    fn record(&self, clip: &Clip, data: &str, epoch: usize) -> Record {
        Record {
            epoch,
            variant: self.variant,
            selection: self.selection,
            rule: self.rule,
            image_size: self.image_size,
            vv_layers: self.vv_layers,
            clip: clip.digest.clone(),
            network: Some(clip.network()),
            data: data.into(),
            batch: self.batch,
            lr: self.lr,
            start: self.start,
            seed: self.seed,
        }
    }

    /// Refuses what does not fit together.
    ///
    /// # Errors
    /// [`TrainError::Options`]: what is asked for does not fit the weights or other options; [`TrainError::Weights`] for
    /// weights without the words' embeddings.
    pub fn check(&self, clip: &Clip) -> Result<(), TrainError> {
        let refuse = |what: String| Err(TrainError::Options(what));
        let patch = clip.visual.patch;
        refuse_side(self.image_size, patch)?;
        refuse_vv_layers(self.vv_layers, 1, clip.visual.blocks.len())?;
        let patches = (self.image_size / patch).pow(2);
        if self.patches == 0 || self.patches > patches {
            return refuse(format!(
                "--m {}: a picture of {} px has 1..{patches} patches",
                self.patches, self.image_size
            ));
        }
        if [
            self.prompts,
            self.normal_tokens,
            self.abnormal_tokens,
            self.epochs,
            self.batch,
        ]
        .contains(&0)
        {
            return refuse("--k, --e, --ea, --epochs and --batch must be at least 1".into());
        }
        if self.deep_blocks >= clip.text.blocks.len() {
            return refuse(format!(
                "--deep-blocks {}: the text encoder has {} blocks",
                self.deep_blocks,
                clip.text.blocks.len()
            ));
        }
        if self.deep_length == 0 && self.deep_blocks > 0 {
            return refuse(
                "--deep-length 0: at least 1; --deep-blocks 0 learns no deep prompts".into(),
            );
        }
        let own = match self.variant.own_tokens {
            true => 0,
            false => self.abnormal_tokens,
        };
        let learned = self.normal_tokens + own;
        refuse_long(
            clip,
            learned,
            [NORMAL_WORDS, ABNORMAL_WORDS],
            "--e and --ea",
        )?;
        if self.deep_length > self.normal_tokens {
            return refuse(format!(
                "--deep-length {}: at most --e {}, for deep prompts must not reach the abnormal tokens",
                self.deep_length, self.normal_tokens
            ));
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return refuse(format!("--lr {}: a positive number", self.lr));
        }
        // Whether the weights have every word that prompts begin with.
        if self.start == Start::Words {
            Prompts::fresh(clip, self)?;
        }
        Ok(())
    }
}

/// Refuses learned tokens that leave no room for the words behind them; `options` are what their number is said with.
///
/// # Errors
/// [`TrainError::Options`]; [`TrainError::Weights`] for weights without the words' embeddings.
pub(in crate::train) fn refuse_long(
    clip: &Clip,
    learned: usize,
    texts: impl IntoIterator<Item = impl AsRef<str>>,
    options: &str,
) -> Result<(), TrainError> {
    let context = clip.text.positions.nrows();
    for text in texts {
        let text = text.as_ref();
        let words = embed(clip, text).map_err(|e| TrainError::Weights {
            path: clip.path.clone(),
            what: e.to_string(),
        })?;
        // The start token goes before, and the end token is one of the words.
        let words = 1 + words.1.nrows();
        if learned + words > context {
            return Err(TrainError::Options(format!(
                "{options}: {learned} learned tokens and {words} of \"{text}\"; the text encoder reads {context}, so at most {} can be learned",
                context.saturating_sub(words)
            )));
        }
    }
    Ok(())
}

/// Refuses pictures of one kind alone: every method learns good against defective ones. With defective pictures alone
/// the image loss is least where everything is called defective.
///
/// # Errors
/// [`TrainError::Options`] that says which kind is missing.
pub fn refuse_one_kind(samples: &[Sample]) -> Result<(), TrainError> {
    let missing = match (
        samples.iter().any(|s| s.anomalous),
        samples.iter().any(|s| !s.anomalous),
    ) {
        (true, true) => return Ok(()),
        (false, _) => "no abnormal picture to learn from (without a mask one teaches dapo alone)",
        (true, false) => "no good picture to learn from: name a set that has some too",
    };
    Err(TrainError::Options(missing.into()))
}

/// What does not learn, on the training device.
pub fn frozen(clip: &Clip, prompts: &Prompts, options: &Options, device: &Device) -> Frozen {
    let mut m = Maker::new(device, false).with(options.products);
    let c = clip.text.width;
    Frozen {
        text: TextTower::new(&clip.text, clip.activation, &mut m),
        start: tensor::<1, _>(&prompts.start, device).reshape([1, c]),
        normal_words: tensor(&prompts.normal_suffix, device),
        abnormal_words: tensor(&prompts.abnormal_suffix, device),
        temperature: TEMPERATURE,
        selection: options.selection,
        selected: options.patches,
        rule: options.rule,
        variant: options.variant,
    }
}

/// A batch on the device: unit features, masks at the input's size, labels.
pub struct Batch {
    /// Unit patch features, [B, N, C].
    pub patches: Tensor<3>,
    /// Unit image features, [B, C].
    pub image: Tensor<2>,
    /// Masks, [B, S * S], 1 where abnormal.
    pub masks: Tensor<2>,
    /// Labels, `[B]`, 1 for abnormal.
    pub labels: Tensor<1>,
}

/// The loss of a batch and its terms.
pub fn loss(
    learner: &Learner,
    frozen: &Frozen,
    batch: &Batch,
    u: &Tensor<2>,
) -> (Tensor<1>, Terms) {
    let base = learner.base(frozen);
    let judged = learner.judge(frozen, &base, &batch.patches, &batch.image);
    let map = losses::enlarge(judged.scores, u);
    let segmentation = losses::segmentation(map, batch.masks.clone());
    let adapted = judged.prior.is_some().then(|| {
        let map = losses::enlarge(judged.adapted, u);
        losses::segmentation(map, batch.masks.clone()).mul_scalar(ADAPTED_WEIGHT)
    });
    let entropy = losses::image_cross_entropy(judged.logits, batch.labels.clone());
    let focal = losses::image_focal(judged.image, batch.labels.clone());
    let orthogonal = losses::orthogonal(base.abnormal);
    let prior = judged.prior.map(|p| losses::prior(p, batch.labels.clone()));
    let number = |t: &Tensor<1>| f64::from(t.clone().into_scalar::<f32>());
    let optional = |t: &Option<Tensor<1>>| t.as_ref().map_or(0.0, number);
    let mut terms = Terms {
        total: 0.0,
        segmentation: number(&segmentation),
        segmentation_adapted: optional(&adapted),
        image_cross_entropy: number(&entropy),
        image_focal: number(&focal),
        orthogonal: number(&orthogonal),
        prior: optional(&prior),
    };
    let mut total = segmentation + entropy + focal;
    if let Some(adapted) = adapted {
        total = total + adapted;
    }
    if frozen.variant.orthogonal_loss {
        total = total + orthogonal.mul_scalar(ORTHOGONAL_WEIGHT);
    }
    if let Some(prior) = prior.filter(|_| frozen.variant.prior_loss) {
        total = total + prior;
    }
    terms.total = number(&total);
    (total, terms)
}

/// The paper's optimizer; epsilon is PyTorch's, which burn's is not.
pub fn adam() -> ModuleOptimizer {
    AdamConfig::new()
        .with_beta_1(0.5)
        .with_beta_2(0.999)
        .with_epsilon(1e-8)
        .init()
}

/// One step of learning.
pub fn step(
    learner: Learner,
    optimizer: &mut ModuleOptimizer,
    lr: f64,
    frozen: &Frozen,
    batch: &Batch,
    u: &Tensor<2>,
) -> (Learner, Terms) {
    let (total, terms) = loss(&learner, frozen, batch, u);
    if terms.not_finite().is_some() {
        return (learner, terms);
    }
    let gradients = GradientsParams::from_grads(total.backward(), &learner);
    (optimizer.step(lr, learner, gradients), terms)
}

/// The results of an epoch.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Its number, from 1.
    pub number: usize,
    /// Means of the loss terms.
    pub terms: Terms,
    /// Seconds, encoding not included.
    pub seconds: f64,
    /// How many pictures it showed.
    pub pictures: usize,
}

/// The masks of a set, each read once and kept as the places where it changes.
#[derive(Default)]
pub struct Masks(RefCell<BTreeMap<(usize, usize), Vec<usize>>>);

impl Masks {
    /// Appends sample `i`'s mask at `size`, 1 where abnormal.
    ///
    /// # Errors
    /// [`TrainError::Picture`] for a mask that cannot be read.
    pub fn append(
        &self,
        i: usize,
        file: &Mask,
        size: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), TrainError> {
        let mut kept = self.0.borrow_mut();
        let changes = match kept.entry((i, size)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut before = false;
                let mask = evaluate::mask(file, size)?;
                let changed = |at: &usize| std::mem::replace(&mut before, mask[*at]) != mask[*at];
                new.insert((0..mask.len()).filter(changed).collect())
            }
        };
        let (first, mut value) = (out.len(), 0.0);
        for at in changes.iter() {
            out.resize(first + at, value);
            value = 1.0 - value;
        }
        out.resize(first + size * size, value);
        Ok(())
    }
}

/// A set that is encoded and ready to be learned from or judged.
pub struct Encoded<'a> {
    /// The pictures.
    pub samples: &'a [Sample],
    /// Where the features of each are.
    pub paths: Vec<PathBuf>,
    /// Where they are kept.
    pub cache: &'a Cache,
    /// The masks, read as they are needed.
    pub masks: Masks,
}

/// The batch of samples `chosen`.
///
/// # Errors
/// [`TrainError::Picture`] for a picture or mask that cannot be read.
pub fn load(
    set: &Encoded,
    encoder: &mut Encoder,
    chosen: &[usize],
    size: usize,
    device: &Device,
) -> Result<Batch, TrainError> {
    let (mut patches, mut image, mut masks, mut labels) = (vec![], vec![], vec![], vec![]);
    for i in chosen {
        let sample = &set.samples[*i];
        let features = encode::features(encoder, set.cache, sample, &set.paths[*i])?;
        patches.extend(features.patches);
        image.extend(features.image);
        match &sample.mask {
            Some(mask) => set.masks.append(*i, mask, size, &mut masks)?,
            None => masks.resize(masks.len() + size * size, 0.0),
        }
        labels.push(f32::from(sample.anomalous));
    }
    let b = chosen.len();
    let c = image.len() / b;
    let n = patches.len() / (b * c);
    Ok(Batch {
        patches: put(patches, [b, n, c], device),
        image: put(image, [b, c], device),
        masks: put(masks, [b, size * size], device),
        labels: put(labels, [b], device),
    })
}

/// The order of pictures in an epoch (Fisher-Yates).
pub fn order(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1 + epoch as u64);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}

/// Learns on `set`; saves to `out` (folder, whether to go on from there) and calls `report` after each epoch.
///
/// # Errors
/// Every [`TrainError`] but those of bundles.
#[allow(clippy::too_many_arguments)]
pub fn fit(
    clip: &Clip,
    options: &Options,
    set: &Encoded,
    encoder: &mut Encoder,
    out: Option<(&Path, bool)>,
    device: &Device,
    stop: Interrupt,
    bar: &ProgressBar,
    mut report: impl FnMut(&Epoch),
) -> Result<Prompts, TrainError> {
    options.check(clip)?;
    if let Some(sample) = set.samples.iter().find(|s| s.anomalous && s.mask.is_none()) {
        return Err(TrainError::Data {
            path: sample.image.clone(),
            what: "abnormal, but without a mask: prompts are learned from where the defect is"
                .into(),
        });
    }
    refuse_one_kind(set.samples)?;
    let device = device.clone().autodiff();
    let mut prompts = Prompts::fresh(clip, options)?;
    let mut optimizer = adam();
    let mut done = 0;
    let checkpoint = match out {
        None => None,
        Some((folder, resume)) => {
            let (checkpoint, saved) =
                Checkpoint::begin(folder, resume, clip, options, set.samples)?;
            if let Some((saved, record, state)) = saved {
                (prompts, done) = (saved, record.epoch);
                optimizer = optimizer.load_record(state);
            }
            Some(checkpoint)
        }
    };
    let frozen = frozen(clip, &prompts, options, &device);
    if done == 0 && options.start == Start::Words {
        let rows = Tensor::cat(
            vec![frozen.start.clone(), tensor(&prompts.normal, &device)],
            0,
        );
        prompts.deep = frozen.text.unchanged(rows, &prompts.deep);
    }
    let mut learner = Learner::new(
        &prompts,
        &options.variant,
        &mut Maker::new(&device, true).with(options.products),
    );
    let grid = options.image_size / clip.visual.patch;
    let u = losses::enlargement(grid, options.image_size, &device);
    let (n, data) = (set.samples.len(), digest(set.samples));
    let steps = n.div_ceil(options.batch);
    bar.set_length((steps * options.epochs) as u64);
    bar.set_position((steps * done) as u64);
    let saved = |done: usize| match &checkpoint {
        Some(c) if done > 0 => format!("{} (epoch {done})", c.prompts().display()),
        _ => NO_CHECKPOINT.into(),
    };
    for epoch in done..options.epochs {
        let clock = Instant::now();
        let mut sum = Terms::default();
        for (i, chosen) in order(n, options.seed, epoch)
            .chunks(options.batch)
            .enumerate()
        {
            if stop.came() {
                return Err(TrainError::Interrupted {
                    after: format!("step {}", epoch * steps + i),
                    checkpoint: saved(epoch),
                });
            }
            let batch = load(set, encoder, chosen, options.image_size, &device)?;
            let terms;
            (learner, terms) = step(learner, &mut optimizer, options.lr, &frozen, &batch, &u);
            if let Some(term) = terms.not_finite() {
                return Err(TrainError::Diverged {
                    step: epoch * steps + i,
                    term: term.into(),
                    checkpoint: saved(epoch),
                });
            }
            sum.add(&terms, chosen.len() as f64 / n as f64);
            bar.inc(1);
            let rate = ((i + 1) * options.batch) as f64 / clock.elapsed().as_secs_f64();
            bar.set_message(format!(
                "epoch {} loss {:.3} ({rate:.0} images/s)",
                epoch + 1,
                terms.total
            ));
        }
        learner.export(&mut prompts);
        if let Some(c) = &checkpoint {
            c.save(
                &prompts,
                &options.record(clip, &data, epoch + 1),
                &optimizer,
            )?;
        }
        let epoch = Epoch {
            number: epoch + 1,
            terms: sum,
            seconds: clock.elapsed().as_secs_f64(),
            pictures: n,
        };
        report(&epoch);
        let finished = epoch.number;
        if options.stop_after == Some(finished - done) && finished < options.epochs {
            return Err(TrainError::Interrupted {
                after: format!("epoch {finished}"),
                checkpoint: saved(finished),
            });
        }
    }
    Ok(prompts)
}
