//! Language-free heads: pairs of weight vectors per stage, learned where words leave off.
//!
//! They begin as the prototypes of plain words ("flawless object", "damaged object" in WinCLIP's templates),
//! so the first scores are zero-shot ones; beside an image encoder without text as unit vectors of a seed. Loss = sum over stages of focal + dice + dice of the stage's map
//! and cross-entropy of the stage's class row. T = 0.07.

use super::{Batch, Learner, Options, Terms, difference, logits, row};
use crate::bundle::method::Method;
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::fit::losses;
use crate::train::methods::learned::Numbers;
use crate::train::methods::weights::Weights;
use crate::train::methods::{text, words};
use crate::train::nn::layers::{Maker, tensor, unit, values};
use crate::train::random;
use crate::train::tensors::store::Store;
use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use ndarray::{Array3, Axis, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const TEMPERATURE: f64 = 0.07;

/// The learnable vectors.
#[derive(Module, Debug)]
pub struct Learned {
    /// For the patches of each stage a normal and an abnormal vector, [stages, 2, C].
    patch: Param<Tensor<3>>,
    /// The same for the image, [stages, 2, C].
    image: Param<Tensor<3>>,
    grid: usize,
    size: usize,
}

/// First numbers: plain words' features, or `seed`'s where there are no words.
///
/// # Errors
/// [`TrainError::Weights`] if the weights lack a word's embedding.
pub fn fresh<'a>(
    weights: impl Into<Weights<'a>>,
    stages: usize,
    seed: u64,
    threads: usize,
) -> Result<Numbers, TrainError> {
    match weights.into() {
        Weights::Clip(clip) => of_words(clip, stages, threads),
        Weights::WithoutText(backbone) => {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut cube = || {
                let mut all = Array3::from_shape_simple_fn((stages, 2, backbone.width), || {
                    random::normal(&mut rng)
                });
                for mut vector in all.lanes_mut(Axis(2)) {
                    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
                    vector /= length.max(f32::MIN_POSITIVE);
                }
                all
            };
            Ok(Numbers::Heads {
                patch: cube(),
                image: cube(),
            })
        }
    }
}

fn of_words(clip: &Clip, stages: usize, threads: usize) -> Result<Numbers, TrainError> {
    let prompts = words::prompts(Method::Winclip, "object", None)?;
    let mut both = Array3::zeros((stages, 2, clip.text.width));
    for (i, list) in [&prompts.normal, &prompts.abnormal].into_iter().enumerate() {
        let features = text::features(clip, list, threads)?;
        let mean = text::mean_of_units(features.view());
        for mut stage in both.axis_iter_mut(Axis(0)) {
            stage.slice_mut(s![i, ..]).assign(&mean);
        }
    }
    Ok(Numbers::Heads {
        patch: both.clone(),
        image: both,
    })
}

impl Learned {
    /// From a checkpoint's numbers.
    ///
    /// # Errors
    /// [`TrainError::Options`] for numbers of another method.
    pub fn new<'a>(
        weights: impl Into<Weights<'a>>,
        numbers: &Numbers,
        options: &Options,
        device: &Device,
    ) -> Result<Learned, TrainError> {
        let Numbers::Heads { patch, image } = numbers else {
            return Err(TrainError::Options("these are no vectors of heads".into()));
        };
        let mut m = Maker::new(device, true).with(options.products);
        let (patch, image) = (tensor(patch, device), tensor(image, device));
        Ok(Learned {
            patch: m.param(patch),
            image: m.param(image),
            grid: options.image_size / weights.into().patch(),
            size: options.image_size,
        })
    }

    /// A stage's pair, unit vectors [1, C].
    fn pair(all: &Param<Tensor<3>>, stage: usize) -> [Tensor<2>; 2] {
        let [_, _, c] = all.val().dims();
        [0, 1].map(|i| {
            let vector = all.val().narrow(0, stage, 1).narrow(1, i, 1);
            unit(vector.reshape([1, c]))
        })
    }
}

impl Learner for Learned {
    fn loss(&self, batch: &Batch) -> (Tensor<1>, Terms) {
        let device = batch.labels.device();
        let u = losses::enlargement(self.grid, self.size, &device);
        let stages = batch.taps.len() / 2;
        let mut segmentation = Tensor::<1>::zeros([1], &device);
        let mut entropy = Tensor::<1>::zeros([1], &device);
        for i in 0..stages {
            let [normal, abnormal] = Learned::pair(&self.image, i);
            let pair = logits(unit(row(&batch.taps[i])), normal, abnormal, TEMPERATURE);
            entropy = entropy + losses::image_cross_entropy(pair, batch.labels.clone());
            let [normal, abnormal] = Learned::pair(&self.patch, i);
            let rows = unit(batch.taps[stages + i].clone());
            let scores = sigmoid(difference(rows, normal, abnormal, TEMPERATURE));
            let map = losses::enlarge(scores, &u);
            segmentation = segmentation + losses::segmentation(map, batch.masks.clone());
        }
        let total = segmentation.clone() + entropy.clone();
        let terms = Terms::of(&[
            ("total", &total),
            ("segmentation", &segmentation),
            ("image_cross_entropy", &entropy),
        ]);
        (total, terms)
    }

    fn store(&self, store: &mut Store) {
        for (name, all) in [("patch", &self.patch), ("image", &self.image)] {
            let shape = all.val().dims();
            let cube = Array3::from_shape_vec(shape, values(&all.val()));
            store.array(format!("heads.{name}"), &cube.expect("a value per element"));
        }
    }
}
