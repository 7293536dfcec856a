//! APRIL-GAN: a linear layer per stage on raw tokens.
//!
//! Loss = sum over stages of focal (both channels) + dice of the abnormal channel. Nothing is learned of the
//! picture's own score. The prototypes are of each picture's class.

use super::{Batch, Learner, Options, Terms};
use crate::bundle::method::MethodSpec;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::train::TrainError;
use crate::train::clip::{self, Clip};
use crate::train::fit::losses;
use crate::train::methods::learned::Numbers;
use crate::train::nn::layers::{Dense, Maker, unit};
use crate::train::tensors::store::Store;
use burn::module::Module;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use ndarray::{Array1, Array2};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What cosines are multiplied by.
const SCALE: f64 = 100.0;

/// The learnable layers.
#[derive(Module, Debug)]
pub struct Learned {
    layers: Vec<Dense>,
    grid: usize,
    size: usize,
}

/// What it looks at: raw patches of each stage. The last "tap" of a batch is F_a - F_n of each picture's
/// class, [B, 1, C].
pub fn taps(spec: &MethodSpec) -> Vec<Tap> {
    let stage = |block: &usize| Tap {
        block: *block,
        stream: Stream::X,
        form: Form::Raw,
        rows: Rows::Patches,
    };
    spec.stages.iter().map(stage).collect()
}

/// First numbers: as PyTorch begins dense layers.
pub fn fresh(clip: &Clip, stages: usize, seed: u64) -> Numbers {
    let (outputs, inputs) = (clip.text.width, clip.visual.width);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let bound = (inputs as f32).powf(-0.5);
    let mut next = || bound * (2.0 * (rng.next_u32() as f32 / u32::MAX as f32) - 1.0);
    let layer = |_| clip::Dense {
        weight: Array2::from_shape_fn((outputs, inputs), |_| next()),
        bias: Array1::from_shape_fn(outputs, |_| next()),
    };
    Numbers::Linear((0..stages).map(layer).collect())
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
        let Numbers::Linear(layers) = numbers else {
            return Err(TrainError::Options(
                "these are no layers of april-gan".into(),
            ));
        };
        let mut m = Maker::new(device, true).with(options.products);
        Ok(Learned {
            layers: layers.iter().map(|l| Dense::new(l, &mut m)).collect(),
            grid: options.image_size / clip.visual.patch,
            size: options.image_size,
        })
    }
}

impl Learner for Learned {
    fn loss(&self, batch: &Batch) -> (Tensor<1>, Terms) {
        let device = batch.labels.device();
        let u = losses::enlargement_aligned(self.grid, self.size, &device);
        let (stages, direction) = batch.taps.split_at(self.layers.len());
        let (mut focal, mut dice) = (
            Tensor::<1>::zeros([1], &device),
            Tensor::<1>::zeros([1], &device),
        );
        for (layer, tokens) in self.layers.iter().zip(stages) {
            let [b, n, _] = tokens.dims();
            let features = unit(layer.forward(tokens.clone()));
            let logits = features
                .matmul(direction[0].clone().transpose())
                .mul_scalar(SCALE)
                .reshape([b, n]);
            let map = sigmoid(losses::enlarge(logits, &u));
            focal = focal + losses::focal(map.clone(), batch.masks.clone());
            dice = dice + losses::dice(map, batch.masks.clone());
        }
        let total = focal.clone() + dice.clone();
        let terms = Terms::of(&[("total", &total), ("focal", &focal), ("dice", &dice)]);
        (total, terms)
    }

    fn store(&self, store: &mut Store) {
        for (i, layer) in self.layers.iter().enumerate() {
            let layer = layer.export();
            store.array(format!("fc.{i}.weight"), &layer.weight);
            store.array(format!("fc.{i}.bias"), &layer.bias);
        }
    }
}
