//! CoOp's context, and CoCoOp's with the network that shifts it: cross-entropy of the picture's label.
//!
//! Both prompts are encoded whole. CoCoOp encodes them for every picture of the batch.

use super::{Batch, Learner, Options, Terms, logits, row};
use crate::bundle::method::Method;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::train::TrainError;
use crate::train::clip::{self, Clip};
use crate::train::fit::losses;
use crate::train::methods::bundle::coop_words;
use crate::train::methods::learned::{Numbers, context_of};
use crate::train::nn::layers::{Dense, Maker, matrix, tensor, unit};
use crate::train::nn::text::TextTower;
use crate::train::prompts::embed;
use crate::train::random::normal;
use crate::train::tensors::store::Store;
use burn::module::{Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use ndarray::{Array1, Array2, Array3, Axis, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// CoCoOp's first words.
const PHRASE: &str = "a photo of a";

/// The learnable parameters, and what is frozen beside them.
#[derive(Module, Debug)]
pub struct Learned {
    context: Param<Tensor<2>>,
    fc1: Option<Dense>,
    fc2: Option<Dense>,
    text: TextTower,
    #[module(skip)]
    frozen: Frozen,
}

/// What does not learn.
#[derive(Clone, Debug)]
struct Frozen {
    /// Embedding of the start token, [1, C].
    start: Array2<f32>,
    /// Class words, full stop and end token of the normal and of the abnormal prompt, filled up with zeros to
    /// the same length, [2, n, C].
    words: Array3<f32>,
    /// Rows of each that count.
    lengths: [usize; 2],
    temperature: f64,
}

/// What it looks at: the picture's own feature.
pub fn taps(layers: usize) -> Vec<Tap> {
    vec![Tap {
        block: layers,
        stream: Stream::X,
        form: Form::Projected,
        rows: Rows::Class,
    }]
}

fn missing(clip: &Clip, what: impl ToString) -> TrainError {
    TrainError::Weights {
        path: clip.path.clone(),
        what: what.to_string(),
    }
}

/// First numbers: Gaussian, or for CoCoOp "a photo of a" and a network as PyTorch begins it.
///
/// # Errors
/// [`TrainError::Weights`] if the weights lack a word's embedding.
pub fn fresh(clip: &Clip, options: &Options) -> Result<Numbers, TrainError> {
    let c = clip.text.width;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let cocoop = options.asked.method == Method::Cocoop;
    let rows = if cocoop && options.tokens == 4 {
        let words = embed(clip, PHRASE).map_err(|e| missing(clip, e))?.1;
        words.slice(s![..-1, ..]).to_owned()
    } else {
        Array2::from_shape_fn((options.tokens, c), |_| 0.02 * normal(&mut rng))
    };
    let mut context = Array3::zeros((2, rows.nrows(), c));
    context.outer_iter_mut().for_each(|mut r| r.assign(&rows));
    let mut dense = |outputs: usize, inputs: usize| {
        let bound = (inputs as f32).powf(-0.5);
        let mut next = || bound * (2.0 * (rng.next_u32() as f32 / u32::MAX as f32) - 1.0);
        clip::Dense {
            weight: Array2::from_shape_fn((outputs, inputs), |_| next()),
            bias: Array1::from_shape_fn(outputs, |_| next()),
        }
    };
    let hidden = (c / 16).max(1);
    let network = cocoop.then(|| (dense(hidden, c), dense(c, hidden)));
    Ok(Numbers::Context { context, network })
}

impl Learned {
    /// From a checkpoint's numbers.
    ///
    /// # Errors
    /// [`TrainError::Weights`] if the weights lack a word's embedding, [`TrainError::Options`]
    /// for numbers of another method.
    pub fn new(
        clip: &Clip,
        numbers: &Numbers,
        class: &str,
        options: &Options,
        device: &Device,
    ) -> Result<Learned, TrainError> {
        let Numbers::Context { context, network } = numbers else {
            return Err(TrainError::Options(
                "this is no context of coop or cocoop".into(),
            ));
        };
        let temperature = f64::from(options.asked.scale(clip));
        let mut both = vec![];
        let mut first = Array1::zeros(0);
        for name in coop_words(class) {
            let (start, rows) = embed(clip, &format!("{name}.")).map_err(|e| missing(clip, e))?;
            first = start;
            both.push(rows);
        }
        let lengths = [both[0].nrows(), both[1].nrows()];
        let longest = lengths[0].max(lengths[1]);
        let mut words = Array3::zeros((2, longest, clip.text.width));
        for (mut to, from) in words.outer_iter_mut().zip(&both) {
            to.slice_mut(s![..from.nrows(), ..]).assign(from);
        }
        let mut m = Maker::new(device, true).with(options.products);
        let rows = tensor(&context_of(context, 0), device);
        let context = m.param(rows);
        let (fc1, fc2) = match network {
            None => (None, None),
            Some((a, b)) => (Some(Dense::new(a, &mut m)), Some(Dense::new(b, &mut m))),
        };
        m.trainable = false;
        Ok(Learned {
            context,
            fc1,
            fc2,
            text: TextTower::new(&clip.text, clip.activation, &mut m),
            frozen: Frozen {
                start: first.insert_axis(Axis(0)),
                words,
                lengths,
                temperature,
            },
        })
    }

    /// Raw features of both prompts for each shift [P, C], or without one; [2 P, C], prompt after prompt of a
    /// picture.
    fn features(&self, shift: Option<Tensor<2>>, device: &Device) -> Tensor<2> {
        let context = self.context.val();
        let [n, c] = context.dims();
        let p = shift.as_ref().map_or(1, |s| s.dims()[0]);
        let context = context.reshape([1, 1, n * c]).expand([p, 2, n * c]);
        let context = match shift {
            None => context.reshape([2 * p, n, c]),
            Some(shift) => {
                let shift = shift
                    .reshape([p, 1, 1, c])
                    .expand([p, 2, n, c])
                    .reshape([p, 2, n * c]);
                (context + shift).reshape([2 * p, n, c])
            }
        };
        let start: Tensor<2> = tensor(&self.frozen.start, device);
        let start = start.reshape([1, 1, c]).expand([2 * p, 1, c]);
        let words: Tensor<3> = tensor(&self.frozen.words, device);
        let longest = words.dims()[1];
        let words = words
            .reshape([1, 2, longest * c])
            .expand([p, 2, longest * c])
            .reshape([2 * p, longest, c]);
        let rows = Tensor::cat(vec![start, context, words], 1);
        let ends: Vec<usize> = (0..2 * p).map(|i| n + self.frozen.lengths[i % 2]).collect();
        self.text.encode(rows, &ends, &[])
    }
}

impl Learner for Learned {
    fn loss(&self, batch: &Batch) -> (Tensor<1>, Terms) {
        let device = batch.labels.device();
        let image = unit(row(&batch.taps[0]));
        let [b, c] = image.dims();
        let t = self.frozen.temperature;
        let pair = match (&self.fc1, &self.fc2) {
            (Some(fc1), Some(fc2)) => {
                let shift = fc2.rows(relu(fc1.rows(image.clone())));
                let text = unit(self.features(Some(shift), &device)).reshape([b, 2, c]);
                let image = image.reshape([b, 1, c]);
                image.matmul(text.transpose()).reshape([b, 2]).div_scalar(t)
            }
            _ => {
                let text = unit(self.features(None, &device));
                let (normal, abnormal) = (text.clone().narrow(0, 0, 1), text.narrow(0, 1, 1));
                logits(image, normal, abnormal, t)
            }
        };
        let total = losses::image_cross_entropy(pair, batch.labels.clone());
        let terms = Terms::of(&[("total", &total)]);
        (total, terms)
    }

    fn store(&self, store: &mut Store) {
        store.array("ctx", &matrix(&self.context.val()));
        for (name, layer) in [("linear1", &self.fc1), ("linear2", &self.fc2)] {
            if let Some(layer) = layer.as_ref().map(Dense::export) {
                store.array(format!("meta_net.{name}.weight"), &layer.weight);
                store.array(format!("meta_net.{name}.bias"), &layer.bias);
            }
        }
    }
}
