//! Learning what the compared methods learn, each with its own loss, on what a frozen encoder made of the
//! pictures once.
//!
//! | module | what learns |
//! |---|---|
//! | [`anomalyclip`] | two prompts and deep prompts |
//! | [`april_gan`] | a linear layer per stage |
//! | [`coop`] | a context; with CoCoOp's network too |
//! | [`heads`] | pairs of weight vectors |
//! | [`dapo`] | prompts of types, rows in every block, adapters |
//! | [`pictures`] | pictures to rows, through the cache |
//! | [`record`] | what a checkpoint was learned with |
//! | [`run`] | epochs, checkpoints, going on |

pub mod anomalyclip;
pub mod april_gan;
pub mod coop;
pub mod dapo;
pub mod heads;
pub mod pictures;
pub mod record;
pub mod run;

use super::MethodOptions;
use super::bundle::coop_words;
use super::weights::Weights;
use super::words::class_words;
use crate::bundle::method::{Method, MethodSpec};
use crate::train::TrainError;
use crate::train::export::{refuse_side, refuse_vv_layers};
use crate::train::fit::refuse_long;
use crate::train::nn::Products;
use crate::train::prompts::{ABNORMAL_WORDS, NORMAL_WORDS};
use crate::train::tensors::store::Store;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Whether the user chooses how many blocks have the V-V stream; all other methods have it in all blocks, or in none.
pub fn chooses_vv_layers(method: Method) -> bool {
    // As many as asked for in an encoder of three blocks, where the others say all or none.
    MethodSpec::of(method, 3).vv_layers(1, 3) == 1
}

/// What to learn, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The method and its switches.
    pub asked: MethodOptions,
    /// Learned tokens of a prompt.
    pub tokens: usize,
    /// Text blocks with a deep prompt, from the second on (AnomalyCLIP).
    pub deep_blocks: usize,
    /// Tokens of a deep prompt (AnomalyCLIP).
    pub deep_length: usize,
    /// How often each picture is learned from.
    pub epochs: usize,
    /// Number of pictures per step.
    pub batch: usize,
    /// Learning rate of the optimiser.
    pub lr: f64,
    /// Of the first numbers and the order of pictures.
    pub seed: u64,
    /// Side of the input in pixels.
    pub image_size: usize,
    /// Blocks with the V-V stream, for methods that have a choice.
    pub vv_layers: usize,
    /// The numbers of matrix products.
    pub products: Products,
    /// Stop after this many epochs of this run, as Ctrl-C would.
    pub stop_after: Option<usize>,
}

impl Options {
    /// What the method's code was published with, at the input size of `weights`.
    pub fn published<'a>(asked: MethodOptions, weights: impl Into<Weights<'a>>) -> Options {
        let weights = weights.into();
        let (epochs, batch, lr) = match asked.method {
            Method::Coop => (200, 32, 2e-3),
            Method::Cocoop => (10, 1, 2e-3),
            Method::Dapo => (5, 8, 1e-3),
            _ => (15, 8, 1e-3),
        };
        Options {
            tokens: match asked.method {
                Method::Anomalyclip => 12,
                Method::Coop => 16,
                Method::Cocoop => 4,
                _ => 5,
            },
            asked,
            deep_blocks: 8.min(weights.text_layers().saturating_sub(1)),
            deep_length: 4,
            epochs,
            batch,
            lr,
            seed: 111,
            image_size: weights.default_image_size(),
            vv_layers: weights.default_vv_layers(),
            products: Products::F32,
            stop_after: None,
        }
    }

    /// The learning rate of an epoch, from 0: CoOp's and CoCoOp's begin with one epoch at 1e-5 and follow a
    /// cosine; the others' stays.
    pub fn lr_at(&self, epoch: usize) -> f64 {
        match self.asked.method {
            Method::Coop | Method::Cocoop if epoch == 0 => 1e-5,
            Method::Coop | Method::Cocoop => {
                let part = epoch as f64 / self.epochs.max(1) as f64;
                self.lr * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
            }
            _ => self.lr,
        }
    }

    /// The words behind learned tokens, as far as they are known before any picture is; none without such tokens.
    fn words(&self) -> Option<Vec<String>> {
        match self.asked.method {
            Method::Anomalyclip => Some(vec![NORMAL_WORDS.into(), ABNORMAL_WORDS.into()]),
            Method::Coop | Method::Cocoop => {
                let class = class_words(self.asked.class.as_deref().unwrap_or(run::OBJECT));
                let both = coop_words(&class);
                Some(both.iter().map(|name| format!("{name}.")).collect())
            }
            Method::Dapo => {
                let types: Vec<String> = self.asked.types.iter().map(|t| class_words(t)).collect();
                Some(dapo::sentences(&types))
            }
            _ => None,
        }
    }

    /// Refuses what does not fit together.
    ///
    /// # Errors
    /// [`TrainError::Options`]: what is asked for does not fit the weights or other options.
    pub fn check<'a>(&self, weights: impl Into<Weights<'a>>) -> Result<(), TrainError> {
        let weights = weights.into();
        let refuse = |what: String| Err(TrainError::Options(what));
        if self.asked.method != Method::Heads {
            weights.clip(self.asked.method)?;
        }
        refuse_side(self.image_size, weights.patch())?;
        if chooses_vv_layers(self.asked.method) {
            // Heads look at the ordinary stream where no block has the other one.
            let least = usize::from(self.asked.method != Method::Heads);
            refuse_vv_layers(self.vv_layers, least, weights.layers())?;
        }
        if [self.tokens, self.epochs, self.batch].contains(&0) {
            return refuse("--e, --epochs and --batch must be at least 1".into());
        }
        let text = weights.text_layers();
        if self.deep_blocks > 0 && self.deep_blocks >= text {
            return refuse(format!(
                "--deep-blocks {}: the text encoder has {text} blocks",
                self.deep_blocks,
            ));
        }
        let deep = match self.asked.method {
            Method::Anomalyclip => self.deep_blocks > 0,
            other => other == Method::Dapo,
        };
        if deep && self.deep_length == 0 {
            return refuse("--deep-length 0: at least 1".into());
        }
        if let Some(texts) = self.words() {
            let clip = weights.clip(self.asked.method)?;
            refuse_long(clip, self.tokens, texts, "--e")?;
        }
        if deep && self.deep_length > self.tokens {
            return refuse(format!(
                "--deep-length {}: at most --e {}",
                self.deep_length, self.tokens
            ));
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return refuse(format!("--lr {}: a positive number", self.lr));
        }
        Ok(())
    }
}

/// A batch on the device.
pub struct Batch {
    /// The rows of each tap, raw, [B, rows, width].
    pub taps: Vec<Tensor<3>>,
    /// [B, S * S], 1 where abnormal.
    pub masks: Tensor<2>,
    /// `[B]`, 1 for abnormal.
    pub labels: Tensor<1>,
    /// 0 for good, else 1 + the number of the type of defect (DAPO).
    pub kinds: Vec<usize>,
    /// Whether it is known where each picture is abnormal: of good ones, and of those with a mask.
    pub marked: Vec<bool>,
}

/// Named terms of a loss; the first is the total.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms(pub Vec<(String, f64)>);

impl Terms {
    /// Of these tensors of one element.
    pub fn of(named: &[(&str, &Tensor<1>)]) -> Terms {
        let number = |t: &Tensor<1>| f64::from(t.clone().into_scalar::<f32>());
        let all = named.iter().map(|(name, t)| (name.to_string(), number(t)));
        Terms(all.collect())
    }

    /// The term of this name, 0 if there is none.
    pub fn get(&self, name: &str) -> f64 {
        self.0.iter().find(|t| t.0 == name).map_or(0.0, |t| t.1)
    }

    /// Adds `weight` times another's terms.
    pub fn add(&mut self, other: &Terms, weight: f64) {
        if self.0.is_empty() {
            self.0 = other.0.iter().map(|(n, _)| (n.clone(), 0.0)).collect();
        }
        for ((_, sum), (_, v)) in self.0.iter_mut().zip(&other.0) {
            *sum += weight * v;
        }
    }

    /// The first term that is NaN or infinite.
    pub fn not_finite(&self) -> Option<&str> {
        let found = self.0.iter().skip(1).chain(self.0.first());
        found
            .into_iter()
            .find(|(_, v)| !v.is_finite())
            .map(|(n, _)| n.as_str())
    }
}

/// What learns.
pub trait Learner: Module {
    /// The loss of a batch and its terms.
    fn loss(&self, batch: &Batch) -> (Tensor<1>, Terms);

    /// Writes the numbers under the names that [`super::learned`] reads.
    fn store(&self, store: &mut Store);
}

/// One step of learning; a loss that is no finite number changes nothing.
pub fn step<L: Learner>(
    learner: L,
    optimizer: &mut ModuleOptimizer,
    lr: f64,
    batch: &Batch,
) -> (L, Terms) {
    let (total, terms) = learner.loss(batch);
    if terms.not_finite().is_some() {
        return (learner, terms);
    }
    let gradients = burn::optim::GradientsParams::from_grads(total.backward(), &learner);
    (optimizer.step(lr, learner, gradients), terms)
}

/// The published optimizer of a method: Adam, or CoOp's SGD.
pub fn optimizer(method: Method) -> ModuleOptimizer {
    use burn::optim::decay::WeightDecayConfig;
    use burn::optim::momentum::MomentumConfig;
    match method {
        Method::Coop | Method::Cocoop => burn::optim::SgdConfig::new()
            .with_momentum(Some(MomentumConfig {
                momentum: 0.9,
                dampening: 0.0,
                nesterov: false,
            }))
            .with_weight_decay(Some(WeightDecayConfig { penalty: 5e-4 }))
            .init(),
        _ => crate::train::fit::adam(),
    }
}

/// Scores [B, N] of unit rows [B, N, C] against two unit vectors [1, C]: the difference of the logits.
pub fn difference(rows: Tensor<3>, normal: Tensor<2>, abnormal: Tensor<2>, t: f64) -> Tensor<2> {
    let [b, n, c] = rows.dims();
    let direction = (abnormal - normal).transpose().div_scalar(t);
    rows.reshape([b * n, c]).matmul(direction).reshape([b, n])
}

/// Cosines of unit rows [B, C] to two unit vectors [1, C] over T, [B, 2]: normal, abnormal.
pub fn logits(rows: Tensor<2>, normal: Tensor<2>, abnormal: Tensor<2>, t: f64) -> Tensor<2> {
    let both = Tensor::cat(vec![normal, abnormal], 0).transpose();
    rows.matmul(both).div_scalar(t)
}

/// The single row of a tap [B, 1, C] as [B, C].
pub fn row(tap: &Tensor<3>) -> Tensor<2> {
    let [b, _, c] = tap.dims();
    tap.clone().reshape([b, c])
}

/// Where a learner's constants lie.
pub fn device_of(batch: &Batch) -> Device {
    batch.labels.device()
}
