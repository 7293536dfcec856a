//! A text encoder that learns to meet a locked image encoder.

use super::super::student::{HEAD, apart, fresh_blocks, identity, random, shortened};
use super::phrases::Phrase;
use crate::bundle::manifest::ActivationKind;
use crate::ops::layer_norm::EPSILON;
use crate::train::clip::{Text, VOCABULARY};
use crate::train::nn::layers::{Maker, put, tensor, values};
use crate::train::nn::text::TextTower;
use crate::train::prompts::token_ids;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{Device, Tensor};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;

/// Rows of CLIP's positions: tokens of a text at most.
pub const CONTEXT: usize = 77;
/// Steps in which the learning rate rises.
const WARM: f64 = 50.0;
/// By how much all parameters but the token table shrink in a step, times the learning rate.
const DECAY: f32 = 0.01;
/// Weight of a feature's own length, which shall be 1: the mean of abnormal features is taken before they are normalised.
const LENGTH: f64 = 0.05;
/// Adam's constants for the token table.
const BETAS: [f64; 2] = [0.9, 0.999];
const TINY: f32 = 1e-8;

/// A text encoder with random numbers, as CLIP's initialisation has them; its width is that of the joint space.
pub fn fresh(width: usize, layers: usize, seed: u64) -> Text {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1);
    let embedding = random(&mut rng, VOCABULARY, width, 0.02);
    let positions = random(&mut rng, CONTEXT, width, 0.01);
    let blocks = fresh_blocks(&mut rng, width, layers);
    Text {
        width,
        heads: width / HEAD,
        epsilon: EPSILON,
        embedding: Some(embedding),
        positions,
        blocks,
        ln_final: identity(width),
        projection: random(&mut rng, width, width, (width as f32).powf(-0.5)),
    }
}

/// Rows of the token table that some text has used, each with its Adam's two means; the others keep their first numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used(pub BTreeMap<usize, [Array1<f32>; 3]>);

/// What learns.
pub struct Learner {
    tower: TextTower,
    table: Array2<f32>,
    used: Used,
    optimizer: ModuleOptimizer,
    device: Device,
}

impl Learner {
    /// Of arrays whose token table is there; `used` rows of it have learned already.
    pub fn new(text: &Text, used: Used, device: &Device) -> Learner {
        let mut maker = Maker::new(device, true);
        let tower = TextTower::new(text, ActivationKind::QuickGelu, &mut maker);
        let mut table = text.embedding.clone().expect("a table of tokens");
        for (id, [row, ..]) in &used.0 {
            table.row_mut(*id).assign(row);
        }
        let optimizer = AdamWConfig::new()
            .with_beta_1(0.9)
            .with_beta_2(0.98)
            .with_epsilon(1e-8)
            .with_weight_decay(DECAY)
            .init();
        Learner {
            tower,
            table,
            used,
            optimizer,
            device: device.clone(),
        }
    }

    /// Goes on with an optimizer's state.
    pub fn with_optimizer(mut self, state: OptimizerRecord) -> Learner {
        self.optimizer = self.optimizer.load_record(state);
        self
    }

    /// The optimizer of everything but the token table.
    pub fn optimizer(&self) -> &ModuleOptimizer {
        &self.optimizer
    }

    /// Rows of the token table that learned.
    pub fn used(&self) -> &Used {
        &self.used
    }

    /// The encoder as arrays, for what `from` says of its heads.
    pub fn export(&self, from: &Text) -> Text {
        Text {
            embedding: Some(self.table.clone()),
            ..self.tower.export(from)
        }
    }

    /// Embeddings of some texts' tokens, [P, T, width], the rows behind a text's end zero, and the places of the ends.
    fn rows(&self, tokens: &[Vec<usize>]) -> (Tensor<3>, Vec<usize>) {
        let longest = tokens.iter().map(Vec::len).max().unwrap_or(1);
        let width = self.table.ncols();
        let mut rows = vec![];
        for ids in tokens {
            for id in ids {
                rows.extend(self.table.row(*id));
            }
            rows.resize(rows.len() + (longest - ids.len()) * width, 0.0);
        }
        let ends = tokens.iter().map(|ids| ids.len() - 1).collect();
        let shape = [tokens.len(), longest, width];
        (put(rows, shape, &self.device), ends)
    }

    /// A text's raw feature, `[C]`.
    pub fn feature(&self, text: &str) -> Array1<f32> {
        let (rows, ends) = self.rows(&[token_ids(text)]);
        Array1::from(values(&self.tower.encode(rows, &ends, &[])))
    }

    /// The cosine of a text's feature with a direction.
    pub fn cosine(&self, text: &str, direction: &Array1<f32>) -> f32 {
        let found = self.feature(text);
        let length = |v: &Array1<f32>| v.dot(v).sqrt().max(1e-12);
        found.dot(direction) / length(&found) / length(direction)
    }

    /// Learns from texts in step `step` of `steps`, counted from 0, at most at the rate `peak`; the loss before it. A loss
    /// that is no finite number changes nothing.
    pub fn step(&mut self, phrases: &[Phrase], (step, steps): (usize, usize), peak: f64) -> f32 {
        let tokens: Vec<Vec<usize>> = phrases.iter().map(|p| token_ids(&p.0)).collect();
        let targets: Vec<_> = phrases.iter().map(|p| p.1.view()).collect();
        let targets = ndarray::stack(Axis(0), &targets).expect("directions of one width");
        let (rows, ends) = self.rows(&tokens);
        let rows = rows.require_grad();
        let out = self.tower.encode(rows.clone(), &ends, &[]);
        let wanted: Tensor<2> = tensor(&targets, &self.device);
        let off = out.clone().square().sum_dim(1).sqrt().sub_scalar(1.0);
        let off = off.square().mean().mul_scalar(LENGTH);
        let loss = apart(out, wanted) + off;
        let value = values(&loss)[0];
        if !value.is_finite() {
            return value;
        }
        let mut gradients = loss.backward();
        let of_rows = rows.grad_remove(&mut gradients);
        let gradients = GradientsParams::from_grads(gradients, &self.tower);
        let gradients = shortened(&self.tower, gradients);
        let rate = peak * ((step + 1) as f64 / WARM).min(1.0) * (1.0 - step as f64 / steps as f64);
        self.tower = self.optimizer.step(rate, self.tower.clone(), gradients);
        if let Some(gradient) = of_rows {
            self.learn_tokens(&tokens, &values(&gradient), rate, step + 1);
        }
        value
    }

    /// Adam for the rows of the table that the texts use, as PyTorch's `SparseAdam` has it: the means of others rest.
    fn learn_tokens(&mut self, tokens: &[Vec<usize>], gradient: &[f32], rate: f64, count: usize) {
        let width = self.table.ncols();
        let longest = gradient.len() / width / tokens.len();
        let mut sums: BTreeMap<usize, Array1<f32>> = BTreeMap::new();
        for (text, ids) in tokens.iter().enumerate() {
            for (place, id) in ids.iter().enumerate() {
                let at = (text * longest + place) * width;
                let own = ArrayView1::from(&gradient[at..at + width]);
                *sums.entry(*id).or_insert_with(|| Array1::zeros(width)) += &own;
            }
        }
        let [first, second] = BETAS.map(|b| 1.0 - b.powi(count as i32));
        let size = (rate * second.sqrt() / first) as f32;
        let [keep, keep_squares] = BETAS.map(|b| 1.0 - b as f32);
        for (id, gradient) in sums {
            let fresh = || {
                let zero = Array1::zeros(width);
                [self.table.row(id).to_owned(), zero.clone(), zero]
            };
            let [row, mean, squares] = self.used.0.entry(id).or_insert_with(fresh);
            *mean += &((&gradient - &*mean) * keep);
            *squares += &((&gradient * &gradient - &*squares) * keep_squares);
            *row -= &(&*mean / (squares.mapv(f32::sqrt) + TINY) * size);
            self.table.row_mut(id).assign(row);
        }
    }
}
