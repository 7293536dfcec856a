//! DAPO: half words, half learned tokens; rows that learn in every block of both encoders; adapters.
//!
//! Our reading of the paper, whose code was neither read nor run; `tests/golden/methods/dapo/reference.py` is
//! an independent reference. What the paper leaves open, and what we chose:
//!
//! - E normal prompts `[V] normal object.` and, for each type, E abnormal ones `[W] TYPE anomaly object.`; W
//!   is shared by all types, so a new type needs its word alone. A type's feature is the mean of its E raw
//!   features, of unit length.
//! - Deep text rows overwrite positions 1..=t before every block but the first, as AnomalyCLIP's do. Visual
//!   rows stand behind the sequence of each image block and are dropped behind it.
//! - Patches are ordinary raw tokens of four stages through a linear layer each (no V-V stream); T = 0.07;
//!   softmax over 1 + K, then enlarged (corners not aligned); a picture's map is the mean of the stages.
//! - The picture's own feature is CLIP's; its score is 1 - p\[normal\].
//! - Loss = cross-entropy of the picture's type + 4 * sum over stages of (focal over 1 + K with gamma 2 +
//!   dice(p\[normal\], 1 - mask) + dice(sum of the types, mask)). A defective picture without a mask has its part in
//!   the cross-entropy alone: means over the others are left as they are.

use super::{Batch, Learner, Options, Terms, row};
use crate::bundle::method::MethodSpec;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::train::TrainError;
use crate::train::clip::{self, Clip};
use crate::train::fit::losses;
use crate::train::methods::learned::Numbers;
use crate::train::methods::words::lists;
use crate::train::nn::image::ImageTower;
use crate::train::nn::layers::{Dense, Maker, matrix, tensor, unit, values};
use crate::train::nn::text::TextTower;
use crate::train::prompts::embed;
use crate::train::random::normal;
use crate::train::tensors::store::Store;
use burn::module::{Module, Param};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::{Array1, Array2, Array3, Axis, concatenate, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Weight of the segmentation terms.
const SEGMENTATION: f64 = 4.0;
/// T of patches and pictures.
pub const TEMPERATURE: f64 = 0.07;
/// Number of groups of prompts.
const GROUPS: usize = 10;
/// Learned rows of each image block.
const VISUAL: usize = 4;
/// Keeps logarithms finite.
const SMOOTH: f64 = 1e-5;

/// The learnable parameters, and both frozen encoders.
#[derive(Module, Debug)]
pub struct Learned {
    /// V, [E, l, C].
    normal: Param<Tensor<3>>,
    /// W, [E, l, C].
    abnormal: Param<Tensor<3>>,
    deep: Vec<Param<Tensor<2>>>,
    visual: Vec<Param<Tensor<2>>>,
    adapters: Vec<Dense>,
    text: TextTower,
    image: ImageTower,
    #[module(skip)]
    frozen: Frozen,
}

/// What does not learn.
#[derive(Clone, Debug)]
struct Frozen {
    /// Embedding of the start token, [1, C].
    start: Array2<f32>,
    /// Words with the end token of the normal prompt and of each type's, filled up with zeros, [1 + K, n, C].
    words: Array3<f32>,
    /// Rows of each that count.
    lengths: Vec<usize>,
    taps: Vec<Tap>,
    grid: usize,
    size: usize,
}

/// What it looks at: CLIP's own image feature, and the raw patches of each stage.
pub fn taps(spec: &MethodSpec, layers: usize) -> Vec<Tap> {
    let raw = spec.stages.iter().map(|block| Tap {
        block: *block,
        stream: Stream::X,
        form: Form::Raw,
        rows: Rows::Patches,
    });
    let image = Tap {
        block: layers,
        stream: Stream::X,
        form: Form::Projected,
        rows: Rows::Class,
    };
    std::iter::once(image).chain(raw).collect()
}

/// The words behind learned tokens: of the normal prompt, then of each type's.
pub fn sentences(types: &[String]) -> Vec<String> {
    let words = &lists().dapo;
    let object = &words.object_word;
    let of_type = |t: &String| format!("{t} {} {object}.", words.anomaly_word);
    std::iter::once(format!("{} {object}.", words.normal_word))
        .chain(types.iter().map(of_type))
        .collect()
}

/// First numbers: Gaussian rows, adapters as PyTorch begins dense layers.
pub fn fresh(clip: &Clip, spec: &MethodSpec, options: &Options) -> Numbers {
    let (c, width) = (clip.text.width, clip.visual.width);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut gauss = |n: usize, w: usize| Array2::from_shape_fn((n, w), |_| 0.02 * normal(&mut rng));
    let mut group = || {
        gauss(GROUPS * options.tokens, c)
            .into_shape_with_order((GROUPS, options.tokens, c))
            .expect("the same number of elements")
    };
    let (normal, abnormal) = (group(), group());
    let deep = (1..clip.text.blocks.len())
        .map(|_| gauss(options.deep_length, c))
        .collect();
    let visual = (0..clip.visual.blocks.len())
        .map(|_| gauss(VISUAL, width))
        .collect();
    let bound = (width as f32).powf(-0.5);
    let mut next = || bound * (2.0 * (rng.next_u32() as f32 / u32::MAX as f32) - 1.0);
    let adapters = spec.stages.iter().map(|_| clip::Dense {
        weight: Array2::from_shape_fn((c, width), |_| next()),
        bias: Array1::from_shape_fn(c, |_| next()),
    });
    Numbers::Dapo {
        normal,
        abnormal,
        adapters: adapters.collect(),
        deep,
        visual,
    }
}

/// Prompts as rows without positions: E of the normal set, then E of each type's.
///
/// # Errors
/// [`TrainError::Weights`] if the weights lack a word's embedding.
pub fn prompts(
    clip: &Clip,
    normal: &Array3<f32>,
    abnormal: &Array3<f32>,
    types: &[String],
) -> Result<Vec<Array2<f32>>, TrainError> {
    let mut all = vec![];
    for (i, sentence) in sentences(types).iter().enumerate() {
        let (start, words) = words_of(clip, sentence)?;
        let learned = if i == 0 { normal } else { abnormal };
        for group in learned.outer_iter() {
            let start = start.view().insert_axis(Axis(0));
            let rows = concatenate(Axis(0), &[start, group, words.view()]);
            let rows = rows.expect("rows of one width");
            crate::train::methods::text::fits(clip, &rows, sentence)?;
            all.push(rows);
        }
    }
    Ok(all)
}

fn words_of(clip: &Clip, text: &str) -> Result<(Array1<f32>, Array2<f32>), TrainError> {
    embed(clip, text).map_err(|e| TrainError::Weights {
        path: clip.path.clone(),
        what: e.to_string(),
    })
}

impl Learned {
    /// From a checkpoint's numbers, for these types.
    ///
    /// # Errors
    /// [`TrainError::Weights`] if the weights lack a word's embedding, [`TrainError::Options`] for numbers of
    /// another method.
    pub fn new(
        clip: &Clip,
        numbers: &Numbers,
        types: &[String],
        spec: &MethodSpec,
        options: &Options,
        device: &Device,
    ) -> Result<Learned, TrainError> {
        let Numbers::Dapo {
            normal,
            abnormal,
            deep,
            visual,
            adapters,
        } = numbers
        else {
            return Err(TrainError::Options("these are no numbers of dapo".into()));
        };
        let mut sets = vec![];
        let mut first = Array1::zeros(0);
        for sentence in sentences(types) {
            let (start, rows) = words_of(clip, &sentence)?;
            first = start;
            sets.push(rows);
        }
        let lengths: Vec<usize> = sets.iter().map(|r| r.nrows()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut words = Array3::zeros((sets.len(), longest, clip.text.width));
        for (mut to, from) in words.outer_iter_mut().zip(&sets) {
            to.slice_mut(s![..from.nrows(), ..]).assign(from);
        }
        let mut m = Maker::new(device, true).with(options.products);
        let (normal, abnormal) = (tensor(normal, device), tensor(abnormal, device));
        let grid = options.image_size / clip.visual.patch;
        let positions = clip.visual.positions_by(grid, spec.positions);
        let (normal, abnormal) = (m.param(normal), m.param(abnormal));
        let deep = deep.iter().map(|d| m.param(tensor(d, device))).collect();
        let visual = visual.iter().map(|d| m.param(tensor(d, device))).collect();
        let adapters = adapters.iter().map(|a| Dense::new(a, &mut m)).collect();
        m.trainable = false;
        Ok(Learned {
            normal,
            abnormal,
            deep,
            visual,
            adapters,
            text: TextTower::new(&clip.text, clip.activation, &mut m),
            image: ImageTower::with_positions(&clip.visual, &positions, clip.activation, 0, &mut m),
            frozen: Frozen {
                start: first.insert_axis(Axis(0)),
                words,
                lengths,
                taps: taps(spec, clip.visual.blocks.len()),
                grid,
                size: options.image_size,
            },
        })
    }

    /// Unit features of the normal set and of each type, [1 + K, C].
    pub fn prototypes(&self, device: &Device) -> Tensor<2> {
        let [e, l, c] = self.normal.val().dims();
        let sets = self.frozen.lengths.len();
        let longest = self.frozen.words.len_of(Axis(1));
        let start: Tensor<2> = tensor(&self.frozen.start, device);
        let start = start.reshape([1, 1, c]).expand([sets * e, 1, c]);
        let mut learned = vec![self.normal.val()];
        learned.extend((1..sets).map(|_| self.abnormal.val()));
        let learned = Tensor::cat(learned, 0);
        let words: Tensor<3> = tensor(&self.frozen.words, device);
        let words = words
            .reshape([sets, 1, longest * c])
            .expand([sets, e, longest * c])
            .reshape([sets * e, longest, c]);
        let rows = Tensor::cat(vec![start, learned, words], 1);
        let lengths = &self.frozen.lengths;
        let ends: Vec<usize> = (0..sets * e).map(|i| l + lengths[i / e]).collect();
        let deep: Vec<Tensor<2>> = self.deep.iter().map(|d| d.val()).collect();
        let features = self.text.encode(rows, &ends, &deep);
        unit(
            features
                .reshape([sets, e, c])
                .mean_dim(1)
                .reshape([sets, c]),
        )
    }

    /// Logits of each picture [B, 1 + K], and of each stage's patches, [B, N, 1 + K]; `patches` as the tower
    /// takes them.
    pub fn judge(&self, patches: Tensor<3>, text: &Tensor<2>) -> (Tensor<2>, Vec<Tensor<3>>) {
        let visual: Vec<Tensor<2>> = self.visual.iter().map(|v| v.val()).collect();
        let taps = self.image.taps(patches, &self.frozen.taps, &visual);
        let against = |rows: Tensor<2>| {
            unit(rows)
                .matmul(text.clone().transpose())
                .div_scalar(TEMPERATURE)
        };
        let image = against(row(&taps[0]));
        let stages = self.adapters.iter().zip(&taps[1..]).map(|(adapter, rows)| {
            let features = adapter.forward(rows.clone());
            let [b, n, c] = features.dims();
            let logits = against(features.reshape([b * n, c]));
            let classes = logits.dims()[1];
            logits.reshape([b, n, classes])
        });
        (image, stages.collect())
    }
}

impl Learner for Learned {
    fn loss(&self, batch: &Batch) -> (Tensor<1>, Terms) {
        let device = batch.labels.device();
        let text = self.prototypes(&device);
        let (image, stages) = self.judge(batch.taps[0].clone(), &text);
        let u = losses::enlargement(self.frozen.grid, self.frozen.size, &device);
        let pick = |t: &Tensor<3>, picture: usize, class: usize| {
            t.clone().narrow(0, picture, 1).narrow(1, class, 1)
        };
        let log = log_softmax(image, 1);
        let b = batch.kinds.len();
        let picked: Vec<Tensor<2>> = (0..b)
            .map(|i| log.clone().narrow(0, i, 1).narrow(1, batch.kinds[i], 1))
            .collect();
        let entropy = Tensor::cat(picked, 0).mean().neg();
        let (mut focal, mut dice) = (
            Tensor::<1>::zeros([1], &device),
            Tensor::<1>::zeros([1], &device),
        );
        let marked: Vec<usize> = (0..b).filter(|i| batch.marked[*i]).collect();
        let kinds: Vec<usize> = marked.iter().map(|i| batch.kinds[*i]).collect();
        let (b, all) = (marked.len(), b == marked.len());
        let at: Vec<i64> = marked.iter().map(|i| *i as i64).collect();
        let at = Tensor::<1, Int>::from_data(TensorData::new::<i64, _>(at, [b]), &device);
        let masks = match all {
            true => batch.masks.clone(),
            false => batch.masks.clone().select(0, at.clone()),
        };
        let background = masks.clone().neg().add_scalar(1.0);
        let stages = if b == 0 { vec![] } else { stages };
        for logits in stages {
            let logits = match all {
                true => logits,
                false => logits.select(0, at.clone()),
            };
            let p = softmax(logits, 2).swap_dims(1, 2);
            let [_, classes, n] = p.dims();
            let maps = losses::enlarge(p.reshape([b * classes, n]), &u);
            let pixels = maps.dims()[1];
            let maps = maps.reshape([b, classes, pixels]);
            let normal = maps.clone().narrow(1, 0, 1).reshape([b, pixels]);
            let types = maps.clone().narrow(1, 1, classes - 1).sum_dim(1);
            let of_kind: Vec<Tensor<3>> = (0..b).map(|i| pick(&maps, i, kinds[i])).collect();
            let of_kind = Tensor::cat(of_kind, 0).reshape([b, pixels]);
            // The probability of the right answer, its key smoothed over all channels.
            let low = SMOOTH / (classes - 1) as f64;
            let right = normal.clone() * background.clone() + of_kind * masks.clone();
            let pt = right
                .mul_scalar(1.0 - SMOOTH - low)
                .add_scalar(low + SMOOTH);
            let part = (pt.clone().neg().add_scalar(1.0).square() * pt.log())
                .mean()
                .neg();
            focal = focal + part;
            dice = dice
                + losses::dice(normal, background.clone())
                + losses::dice(types.reshape([b, pixels]), masks.clone());
        }
        let total = (focal.clone() + dice.clone()).mul_scalar(SEGMENTATION) + entropy.clone();
        let terms = Terms::of(&[
            ("total", &total),
            ("image_cross_entropy", &entropy),
            ("focal", &focal),
            ("dice", &dice),
        ]);
        (total, terms)
    }

    fn store(&self, store: &mut Store) {
        for (name, cube) in [("normal", &self.normal), ("abnormal", &self.abnormal)] {
            let all = Array3::from_shape_vec(cube.val().dims(), values(&cube.val()));
            store.array(format!("dapo.{name}"), &all.expect("a value per element"));
        }
        for (name, rows) in [("deep", &self.deep), ("visual", &self.visual)] {
            for (i, rows) in rows.iter().enumerate() {
                store.array(format!("dapo.{name}.{i}"), &matrix(&rows.val()));
            }
        }
        for (i, layer) in self.adapters.iter().enumerate() {
            let layer = layer.export();
            store.array(format!("dapo.adapter.{i}.weight"), &layer.weight);
            store.array(format!("dapo.adapter.{i}.bias"), &layer.bias);
        }
    }
}
