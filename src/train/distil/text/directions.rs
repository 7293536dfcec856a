//! What is damaged against what is sound, as an encoder sees it: a direction for patches, by masks, and one for pictures.

use super::seen::Seen;
use crate::train::metrics::Ranking;
use crate::train::nn::layers::{Maker, put, values};
use burn::module::{Module, Param};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::{Array1, Array2, ArrayView2};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Steps of learning.
pub const STEPS: usize = 150;
/// Pictures of a step.
const BATCH: usize = 64;
/// The learning rate at the beginning; it falls to nothing evenly.
const RATE: f64 = 0.1;
/// Weight of both directions' squares.
const DECAY: f64 = 1e-4;
/// A patch of which more than this is damaged is damaged; one that a defect touches less is neither.
const DAMAGED: f32 = 0.2;
/// How many times a damaged patch counts.
const COUNTS: f32 = 4.0;
/// The largest patches of a picture whose mean says that it is defective.
const LARGEST: usize = 4;
/// Weights of that and of the image feature's own loss beside the patches'.
const OF_LARGEST: f64 = 0.3;
const OF_IMAGE: f64 = 0.5;

/// Weights of damaged against sound: logits of features of length 1.
#[derive(Module, Debug)]
pub struct Directions {
    patches: Param<Tensor<2>>,
    images: Param<Tensor<2>>,
}

/// The same as arrays, `[C]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Of patch features.
    pub patches: Array1<f32>,
    /// Of image features.
    pub images: Array1<f32>,
}

/// Pictures to learn from.
pub struct Batch {
    /// Patch features of length 1, [B * N, C].
    pub patches: Tensor<2>,
    /// Image features of length 1, [B, C].
    pub images: Tensor<2>,
    /// 1 where the picture is defective, [B, 1].
    pub bad: Tensor<2>,
    /// 1 where the patch is, [B * N, 1].
    pub labels: Tensor<2>,
    /// How much each patch counts, [B * N, 1].
    pub weights: Tensor<2>,
}

/// A picture of a batch: its patch features [N, C], its image feature `[C]`, whether it is defective, whether it is known
/// where, and how much of each patch is damaged.
pub struct One<'a> {
    /// Patch features of length 1, [N, C].
    pub patches: Array2<f32>,
    /// The image feature of length 1, `[C]`.
    pub image: Vec<f32>,
    /// Whether it is defective.
    pub bad: bool,
    /// Whether it is known where.
    pub masked: bool,
    /// Part of each patch that is damaged.
    pub cover: &'a [f32],
}

impl Batch {
    /// Of these pictures.
    pub fn new(all: &[One], device: &Device) -> Batch {
        let (b, n) = (all.len(), all[0].cover.len());
        let c = all[0].image.len();
        let damaged = |cover: &f32| f32::from(u8::from(*cover > DAMAGED));
        let weight =
            |one: &One, cover: &f32| match one.masked && (*cover == 0.0 || *cover > DAMAGED) {
                true => 1.0 + (COUNTS - 1.0) * damaged(cover),
                false => 0.0,
            };
        let covers = || all.iter().flat_map(|o| o.cover.iter().map(move |c| (o, c)));
        let patches = all.iter().flat_map(|o| o.patches.iter().copied()).collect();
        let images = all.iter().flat_map(|o| o.image.iter().copied()).collect();
        let bad = all.iter().map(|o| f32::from(u8::from(o.bad))).collect();
        let labels = covers().map(|(_, c)| damaged(c)).collect();
        let weights = covers().map(|(o, c)| weight(o, c)).collect();
        Batch {
            patches: put(patches, [b * n, c], device),
            images: put(images, [b, c], device),
            bad: put(bad, [b, 1], device),
            labels: put(labels, [b * n, 1], device),
            weights: put(weights, [b * n, 1], device),
        }
    }
}

/// Binary cross entropy of logits, each by itself. The softplus in it is taken apart where its exponential would overflow,
/// far from 0: there both parts have its gradient.
fn cross_entropy(z: Tensor<2>, label: Tensor<2>) -> Tensor<2> {
    const FAR: f64 = 30.0;
    let near = (z.clone().clamp_max(FAR).exp().add_scalar(1.0)).log();
    let softplus = near + z.clone().clamp_min(FAR).sub_scalar(FAR);
    softplus - z * label
}

/// The mean of the `count` largest of each row, [B, 1].
fn largest(x: Tensor<2>, count: usize) -> Tensor<2> {
    let [b, n] = x.dims();
    let count = count.min(n);
    let mut places = vec![];
    for row in values(&x).chunks_exact(n) {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        places.extend(order[..count].iter().map(|i| *i as i64));
    }
    let device = x.device();
    let places =
        Tensor::<2, Int>::from_data(TensorData::new::<i64, _>(places, [b, count]), &device);
    x.gather(1, places).mean_dim(1)
}

impl Directions {
    /// Nothing is known yet.
    pub fn new(joint: usize, device: &Device) -> Directions {
        let mut maker = Maker::new(device, true);
        let mut zero = || maker.param(put(vec![0.0; joint], [joint, 1], device));
        Directions {
            patches: zero(),
            images: zero(),
        }
    }

    /// The loss of a batch.
    pub fn loss(&self, batch: &Batch) -> Tensor<1> {
        let b = batch.images.dims()[0];
        let n = batch.patches.dims()[0] / b;
        let logits = batch.patches.clone().matmul(self.patches.val());
        let each = cross_entropy(logits.clone(), batch.labels.clone()) * batch.weights.clone();
        let dense = each.sum() / batch.weights.clone().sum().clamp_min(1.0);
        let largest = largest(logits.reshape([b, n]), LARGEST);
        let largest = cross_entropy(largest, batch.bad.clone()).mean();
        let image = batch.images.clone().matmul(self.images.val());
        let image = cross_entropy(image, batch.bad.clone()).mean();
        let squares = self.patches.val().square().sum() + self.images.val().square().sum();
        dense
            + largest.mul_scalar(OF_LARGEST)
            + image.mul_scalar(OF_IMAGE)
            + squares.mul_scalar(DECAY)
    }

    /// One of `steps` steps, counted from 0; the loss before it.
    pub fn step(
        self,
        optimizer: &mut ModuleOptimizer,
        batch: &Batch,
        (step, steps): (usize, usize),
    ) -> (Directions, f32) {
        let loss = self.loss(batch);
        let value = values(&loss)[0];
        let gradients = GradientsParams::from_grads(loss.backward(), &self);
        let rate = RATE * (1.0 - step as f64 / steps as f64);
        (optimizer.step(rate, self, gradients), value)
    }

    /// As arrays.
    pub fn found(&self) -> Found {
        Found {
            patches: Array1::from(values(&self.patches.val())),
            images: Array1::from(values(&self.images.val())),
        }
    }
}

/// Adam with PyTorch's constants.
pub fn adam() -> ModuleOptimizer {
    AdamConfig::new()
        .with_beta_1(0.9)
        .with_beta_2(0.999)
        .with_epsilon(1e-8)
        .init()
}

/// Learns from the pictures of `sets`; rendered ones make `rendered_part` of each batch. `images` are the image features of
/// length 1 of all pictures, [pictures, C].
pub fn learn(
    seen: &Seen,
    images: &Array2<f32>,
    sets: &[usize],
    rendered_part: f64,
    seed: u64,
    device: &Device,
) -> Found {
    let of = |rendered: bool| -> Vec<[Vec<usize>; 2]> {
        let own = sets.iter().filter(|s| seen.rendered[**s] == rendered);
        own.map(|s| seen.groups(*s)).collect()
    };
    let (real, rendered) = (of(false), of(true));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
    let mut directions = Directions::new(seen.joint, device);
    let mut optimizer = adam();
    for step in 0..STEPS {
        let mut batch = vec![];
        for k in 0..BATCH {
            let by_rendered = (k as f64) < BATCH as f64 * rendered_part;
            let pool = match (real.is_empty(), rendered.is_empty()) {
                (true, _) => &rendered,
                (_, true) => &real,
                _ if by_rendered => &rendered,
                _ => &real,
            };
            let side = &pool[below(pool.len())][k % 2];
            let i = side[below(side.len())];
            let shown = &seen.shown[i];
            batch.push(One {
                patches: shown.look.rows(seen.joint),
                image: images.row(i).to_vec(),
                bad: shown.bad,
                masked: shown.masked,
                cover: &shown.cover,
            });
        }
        let batch = Batch::new(&batch, device);
        (directions, _) = directions.step(&mut optimizer, &batch, (step, STEPS));
    }
    directions.found()
}

/// The mean over runs with other random numbers.
pub fn mean(all: &[Found]) -> Found {
    let count = all.len().max(1) as f32;
    let sum = |of: fn(&Found) -> &Array1<f32>| {
        let mut all = all.iter().map(of);
        let first = all.next().cloned().unwrap_or_default();
        all.fold(first, |sum, v| sum + v) / count
    };
    Found {
        patches: sum(|f| &f.patches),
        images: sum(|f| &f.images),
    }
}

/// How well directions tell a set's good pictures and patches from the others: AUROCs, 0..=1, where they are defined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Of image feature and largest patch together, as a bundle's image score has them.
    pub score: Option<f64>,
    /// Of the image feature.
    pub image: Option<f64>,
    /// Of the largest patch.
    pub largest: Option<f64>,
    /// Of patches: more than half damaged against not at all.
    pub patches: Option<f64>,
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Judges a set by directions that did not see it.
pub fn judge(seen: &Seen, images: ArrayView2<f32>, set: usize, found: &Found) -> Judged {
    let (mut scores, mut patches) = (vec![], vec![]);
    let all = seen.shown.iter().zip(images.outer_iter());
    for (shown, image) in all.filter(|(s, _)| s.set == set) {
        let logits = shown.look.rows(seen.joint).dot(&found.patches);
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores.push((image.dot(&found.images), largest, shown.bad));
        if shown.masked {
            let each = logits.into_iter().zip(&shown.cover);
            let sure = each.filter(|(_, cover)| **cover == 0.0 || **cover > 0.5);
            patches.extend(sure.map(|(logit, cover)| (logit, *cover > 0.5)));
        }
    }
    let of = |score: fn(f32, f32) -> f32| {
        let scores = scores.iter().map(|(i, l, bad)| (score(*i, *l), *bad));
        Ranking::new(scores).auroc()
    };
    Judged {
        score: of(|image, largest| sigmoid(image) + sigmoid(largest)),
        image: of(|image, _| image),
        largest: of(|_, largest| largest),
        patches: Ranking::new(patches).auroc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_is_right_near_and_far_with_its_gradient() {
        let device = Device::flex().autodiff();
        let z = [0.0f32, 2.0, -3.0, 80.0, -80.0];
        let x: Tensor<2> = put(z.to_vec(), [5, 1], &device);
        let x = x.require_grad();
        let label: Tensor<2> = put(vec![1.0, 0.0, 1.0, 0.0, 0.0], [5, 1], &device);
        let loss = cross_entropy(x.clone(), label);
        let found = values(&loss);
        for (found, want) in
            found
                .iter()
                .zip([std::f32::consts::LN_2, 2.126_928, 3.048_587_3, 80.0, 0.0])
        {
            assert!((found - want).abs() < 1e-5, "{found} {want}");
        }
        let gradients = loss.sum().backward();
        let gradient = values(&x.grad(&gradients).unwrap());
        // The sigmoid less the label.
        for (found, want) in gradient.iter().zip([-0.5, 0.880_797, -0.952_574, 1.0, 0.0]) {
            assert!((found - want).abs() < 1e-5, "{found} {want}");
        }
    }

    #[test]
    fn the_mean_of_the_largest() {
        let device = Device::flex();
        let x: Tensor<2> = put(vec![1.0, 5.0, 3.0, -1.0, -7.0, -2.0], [2, 3], &device);
        assert_eq!(values(&largest(x.clone(), 2)), [4.0, -1.5]);
        assert_eq!(values(&largest(x, 9)), [3.0, -10.0 / 3.0]);
    }
}
