//! Language-free heads: pairs of weight vectors per stage, learned where words leave off.
//!
//! They begin as the prototypes of plain words ("flawless object", "damaged object" in WinCLIP's templates),
//! so the first scores are zero-shot ones. Loss = sum over stages of focal + dice + dice of the stage's map
//! and cross-entropy of the stage's class row. T = 0.07.

use super::{Batch, Learner, Options, Terms, difference, logits, row};
use crate::bundle::method::{Method, MethodSpec};
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::fit::losses;
use crate::train::methods::learned::Numbers;
use crate::train::methods::{text, words};
use crate::train::nn::layers::{Maker, tensor, unit, values};
use crate::train::tensors::store::Store;
use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use ndarray::{Array3, Axis, s};

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

/// What it looks at: the class row, then the V-V patches, of each stage.
pub fn taps(spec: &MethodSpec) -> Vec<Tap> {
    let tap = |stream, rows| {
        move |block: &usize| Tap {
            block: *block,
            stream,
            form: Form::Projected,
            rows,
        }
    };
    let class = spec.stages.iter().map(tap(Stream::X, Rows::Class));
    let patches = spec.stages.iter().map(tap(Stream::Y, Rows::Patches));
    class.chain(patches).collect()
}

/// First numbers: plain words'.
///
/// # Errors
/// [`TrainError::Weights`] if the weights lack a word's embedding.
pub fn fresh(clip: &Clip, stages: usize, threads: usize) -> Result<Numbers, TrainError> {
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
    pub fn new(
        clip: &Clip,
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
            grid: options.image_size / clip.visual.patch,
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
