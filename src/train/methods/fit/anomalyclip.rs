//! AnomalyCLIP: V and W, nothing shared, and the deep prompts.
//!
//! Loss = 4 * sum over stages (focal + dice(`p[1]`, mask) + dice(`p[0]`, 1 - mask)) + cross-entropy of the
//! picture's two logits. The published text tower rounds deep prompts to 16 bits on their way in; the
//! gradient passes as if it did not.

use super::{Batch, Learner, Options, Terms, difference, logits, row};
use crate::bundle::method::MethodSpec;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::fit::losses;
use crate::train::methods::learned::Numbers;
use crate::train::nn::layers::{Maker, matrix, put, tensor, unit, values};
use crate::train::nn::text::TextTower;
use crate::train::prompts::{ABNORMAL_WORDS, NORMAL_WORDS, embed};
use crate::train::random::normal;
use crate::train::tensors::store::Store;
use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use half::f16;
use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Weight of the segmentation terms.
const SEGMENTATION: f64 = 4.0;
/// The published code's T.
const TEMPERATURE: f64 = 0.07;

/// The learnable parameters, and what is frozen beside them.
#[derive(Module, Debug)]
pub struct Learned {
    normal: Param<Tensor<2>>,
    abnormal: Param<Tensor<2>>,
    deep: Vec<Param<Tensor<2>>>,
    text: TextTower,
    #[module(skip)]
    words: Words,
}

/// What does not learn.
#[derive(Clone, Debug)]
struct Words {
    /// Embedding of the start token, [1, C].
    start: Array2<f32>,
    normal: Array2<f32>,
    abnormal: Array2<f32>,
    grid: usize,
    size: usize,
}

/// What it looks at: the picture's feature without ln_post, and the V-V patches of each stage.
pub fn taps(spec: &MethodSpec, layers: usize) -> Vec<Tap> {
    let stage = |block: &usize| Tap {
        block: *block,
        stream: Stream::Y,
        form: Form::Projected,
        rows: Rows::Patches,
    };
    let stages = spec.stages.iter().map(stage);
    std::iter::once(Tap::faprompt_image(layers))
        .chain(stages)
        .collect()
}

/// First numbers: Gaussian, as in CoOp.
pub fn fresh(clip: &Clip, options: &Options) -> Numbers {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut tokens =
        |n: usize| Array2::from_shape_fn((n, clip.text.width), |_| 0.02 * normal(&mut rng));
    Numbers::Prompts {
        normal: tokens(options.tokens),
        abnormal: tokens(options.tokens),
        deep: (0..options.deep_blocks)
            .map(|_| tokens(options.deep_length))
            .collect(),
    }
}

impl Learned {
    /// From a checkpoint's numbers.
    ///
    /// # Errors
    /// [`TrainError::Weights`] if the weights lack the words' embeddings, [`TrainError::Options`] for numbers
    /// of another method.
    pub fn new(
        clip: &Clip,
        numbers: &Numbers,
        options: &Options,
        device: &Device,
    ) -> Result<Learned, TrainError> {
        let Numbers::Prompts {
            normal,
            abnormal,
            deep,
        } = numbers
        else {
            return Err(TrainError::Options(
                "these are no prompts of anomalyclip".into(),
            ));
        };
        let words = |text: &str| {
            embed(clip, text).map_err(|e| TrainError::Weights {
                path: clip.path.clone(),
                what: e.to_string(),
            })
        };
        let (start, normal_words) = words(NORMAL_WORDS)?;
        let abnormal_words = words(ABNORMAL_WORDS)?.1;
        let mut m = Maker::new(device, true).with(options.products);
        let (normal, abnormal) = (tensor(normal, device), tensor(abnormal, device));
        let (normal, abnormal) = (m.param(normal), m.param(abnormal));
        let deep = deep.iter().map(|d| m.param(tensor(d, device))).collect();
        m.trainable = false;
        Ok(Learned {
            normal,
            abnormal,
            deep,
            text: TextTower::new(&clip.text, clip.activation, &mut m),
            words: Words {
                start: start.insert_axis(ndarray::Axis(0)),
                normal: normal_words,
                abnormal: abnormal_words,
                grid: options.image_size / clip.visual.patch,
                size: options.image_size,
            },
        })
    }

    /// Unit features of both prompts, [1, C] each.
    pub fn prototypes(&self, device: &Device) -> [Tensor<2>; 2] {
        let rounded = |d: &Param<Tensor<2>>| {
            let d = d.val();
            let half = values(&d)
                .iter()
                .map(|v| f16::from_f32(*v).to_f32() - v)
                .collect();
            let dims = d.dims();
            d + put(half, dims, device)
        };
        let deep: Vec<Tensor<2>> = self.deep.iter().map(rounded).collect();
        let prompt = |tokens: &Param<Tensor<2>>, words: &Array2<f32>| {
            let parts = vec![
                tensor(&self.words.start, device),
                tokens.val(),
                tensor(words, device),
            ];
            let rows: Tensor<2> = Tensor::cat(parts, 0);
            let end = rows.dims()[0] - 1;
            unit(self.text.encode(rows.unsqueeze_dim(0), &[end], &deep))
        };
        [
            prompt(&self.normal, &self.words.normal),
            prompt(&self.abnormal, &self.words.abnormal),
        ]
    }
}

impl Learner for Learned {
    fn loss(&self, batch: &Batch) -> (Tensor<1>, Terms) {
        let device = batch.labels.device();
        let [normal, abnormal] = self.prototypes(&device);
        let u = losses::enlargement(self.words.grid, self.words.size, &device);
        let image = unit(row(&batch.taps[0]));
        let pair = logits(image, normal.clone(), abnormal.clone(), TEMPERATURE);
        let entropy = losses::image_cross_entropy(pair, batch.labels.clone());
        let mut segmentation = Tensor::<1>::zeros([1], &device);
        for stage in &batch.taps[1..] {
            let rows = unit(stage.clone());
            let d = difference(rows, normal.clone(), abnormal.clone(), TEMPERATURE);
            let map = losses::enlarge(sigmoid(d), &u);
            segmentation = segmentation + losses::segmentation(map, batch.masks.clone());
        }
        let total = segmentation.clone().mul_scalar(SEGMENTATION) + entropy.clone();
        let terms = Terms::of(&[
            ("total", &total),
            ("segmentation", &segmentation),
            ("image_cross_entropy", &entropy),
        ]);
        (total, terms)
    }

    fn store(&self, store: &mut Store) {
        store.array("ctx_pos", &matrix(&self.normal.val()));
        store.array("ctx_neg", &matrix(&self.abnormal.val()));
        for (i, deep) in self.deep.iter().enumerate() {
            store.array(format!("compound_prompts_text.{i}"), &matrix(&deep.val()));
        }
    }
}
