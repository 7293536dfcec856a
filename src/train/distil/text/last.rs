//! The last MLP, which nothing but the image feature passes, learns to answer along the patches' direction.
//!
//! FAPrompt has one direction of damage for both; patch features and memory stay what they were.

use super::super::student::{apart, smooth_l1};
use super::directions::{Found, adam};
use crate::bundle::manifest::ActivationKind;
use crate::train::clip::{self, Visual};
use crate::train::nn::image::image_feature;
use crate::train::nn::layers::{Block, Maker, matrix, tensor, unit, values};
use crate::train::random::normal;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use ndarray::{Array1, Array2, Axis};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Steps of learning.
pub const STEPS: usize = 400;
/// Pictures of a step.
const BATCH: usize = 128;
/// The learning rate at the beginning; it falls to nothing evenly.
const RATE: f64 = 1e-3;
/// Logits are asked for up to this size.
const FARTHEST: f32 = 8.0;
/// Weight of what shall not change.
const ACROSS: f64 = 5.0;
/// T in softmax(cosine / T).
const TEMPERATURE: f32 = 0.07;
/// At most this much of a unit vector lies along the direction.
const MOST: f32 = 0.95;
/// Class rows that pass the MLP at once.
const ROWS: usize = 256;

/// What learns, and what it is multiplied by.
pub struct Last {
    block: Block,
    proj: Tensor<2>,
    device: Device,
}

/// Features as they were, and what they shall become.
pub struct Wanted {
    /// Class rows behind the last attention, [pictures, width].
    pub rows: Array2<f32>,
    /// The image features before anything was learned, of length 1, [pictures, C].
    pub images: Array2<f32>,
    /// The logit that each shall have along the patches' direction, `[pictures]`.
    pub logits: Array1<f32>,
}

impl Wanted {
    /// What the pictures' own direction says of each.
    pub fn new(rows: Array2<f32>, images: Array2<f32>, found: &Found) -> Wanted {
        let logits = images.dot(&found.images);
        Wanted {
            rows,
            logits: logits.mapv(|v| v.clamp(-FARTHEST, FARTHEST)),
            images,
        }
    }
}

impl Last {
    /// The last block of a tower.
    pub fn new(visual: &Visual, device: &Device) -> Last {
        let mut maker = Maker::new(device, true);
        let from = visual.blocks.last().expect("at least one block");
        let quick = ActivationKind::QuickGelu;
        Last {
            block: Block::new(from, visual.heads, visual.epsilon, quick, &mut maker),
            proj: tensor(&visual.proj.t().to_owned(), device),
            device: device.clone(),
        }
    }

    /// Image features of length 1 of class rows, [pictures, C].
    pub fn images(&self, rows: &Array2<f32>) -> Array2<f32> {
        let parts = rows.axis_chunks_iter(Axis(0), ROWS);
        let parts: Vec<_> = parts.map(|p| matrix(&self.unit(&p.to_owned()))).collect();
        let parts: Vec<_> = parts.iter().map(|p| p.view()).collect();
        ndarray::concatenate(Axis(0), &parts).expect("features of one width")
    }

    fn unit(&self, rows: &Array2<f32>) -> Tensor<2> {
        let rows = tensor(rows, &self.device);
        unit(image_feature(&self.block, self.proj.clone(), rows))
    }

    /// The loss of some pictures; `direction` is the patches', `[C]`.
    pub fn loss(&self, wanted: &Wanted, chosen: &[usize], direction: &Array1<f32>) -> Tensor<1> {
        let device = &self.device;
        let column =
            |v: &Array1<f32>| -> Tensor<2> { tensor(&v.clone().insert_axis(Axis(1)), device) };
        let images = self.unit(&wanted.rows.select(Axis(0), chosen));
        let before: Tensor<2> = tensor(&wanted.images.select(Axis(0), chosen), device);
        let along = images.clone().matmul(column(direction));
        let logits = wanted.logits.select(Axis(0), chosen);
        let along = smooth_l1(along, column(&logits)).mean();
        let axis = column(&(direction / direction.dot(direction).sqrt().max(1e-12)));
        let across = |x: Tensor<2>| {
            let part = x.clone().matmul(axis.clone());
            x - part.matmul(axis.clone().transpose())
        };
        along + apart(across(images), across(before)).mul_scalar(ACROSS)
    }

    /// One of [`STEPS`] steps, counted from 0; the loss before it.
    pub fn step(
        self,
        optimizer: &mut ModuleOptimizer,
        wanted: &Wanted,
        chosen: &[usize],
        direction: &Array1<f32>,
        step: usize,
    ) -> (Last, f32) {
        let loss = self.loss(wanted, chosen, direction);
        let value = values(&loss)[0];
        let gradients = GradientsParams::from_grads(loss.backward(), &self.block);
        let rate = RATE * (1.0 - step as f64 / STEPS as f64);
        let block = optimizer.step(rate, self.block, gradients);
        (Last { block, ..self }, value)
    }

    /// Learns, and returns the correlation of what it answers with what was wanted.
    pub fn learn(mut self, wanted: &Wanted, direction: &Array1<f32>, seed: u64) -> (Last, f32) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut optimizer = adam();
        let count = wanted.rows.nrows() as u64;
        for step in 0..STEPS {
            let chosen: Vec<usize> = (0..BATCH)
                .map(|_| (rng.next_u64() % count) as usize)
                .collect();
            (self, _) = self.step(&mut optimizer, wanted, &chosen, direction, step);
        }
        let said = self.images(&wanted.rows).dot(direction);
        let agreed = correlation(&said, &wanted.logits);
        (self, agreed)
    }

    /// The block's numbers as arrays.
    pub fn export(&self) -> clip::Block {
        self.block.export()
    }
}

/// Pearson's.
fn correlation(a: &Array1<f32>, b: &Array1<f32>) -> f32 {
    let centred = |v: &Array1<f32>| v - v.mean().unwrap_or(0.0);
    let (a, b) = (centred(a), centred(b));
    a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt().max(1e-12)
}

/// Unit vectors, normal and damaged, whose difference over the temperature is the direction: what texts shall say so that
/// cosines give its logits. What both share is any direction across it.
pub fn axis(direction: &Array1<f32>) -> [Array1<f32>; 2] {
    let mut half = direction * (TEMPERATURE / 2.0);
    let length = half.dot(&half).sqrt();
    if length > MOST {
        half *= MOST / length;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut other = Array1::from_shape_fn(direction.len(), |_| normal(&mut rng));
    let along = other.dot(direction) / direction.dot(direction).max(1e-12);
    other.scaled_add(-along, direction);
    let rest = (1.0 - half.dot(&half)).sqrt();
    other *= rest / other.dot(&other).sqrt().max(1e-12);
    [&other - &half, other + half]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_directions_are_unit_vectors_with_the_wanted_difference() {
        for scale in [1.0, 10.0, 100.0] {
            let direction = Array1::from_shape_fn(64, |i| scale * ((i % 5) as f32 - 2.0) / 8.0);
            let [normal, damaged] = axis(&direction);
            for v in [&normal, &damaged] {
                assert!((v.dot(v) - 1.0).abs() < 1e-5);
            }
            let difference = (&damaged - &normal) / TEMPERATURE;
            let length = |v: &Array1<f32>| v.dot(v).sqrt();
            let want = length(&direction).min(2.0 * MOST / TEMPERATURE);
            assert!((length(&difference) - want).abs() < 1e-3 * want, "{scale}");
            let cosine = difference.dot(&direction) / length(&difference) / length(&direction);
            assert!(cosine > 1.0 - 1e-5, "{scale}: {cosine}");
        }
    }

    #[test]
    fn correlations() {
        let of = |v: [f32; 4]| Array1::from(v.to_vec());
        let a = of([1.0, 2.0, 3.0, 4.0]);
        assert!((correlation(&a, &of([3.0, 5.0, 7.0, 9.0])) - 1.0).abs() < 1e-6);
        assert!((correlation(&a, &of([1.0, -1.0, -1.0, 1.0]))).abs() < 1e-6);
    }
}
