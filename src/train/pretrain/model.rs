//! Both towers, and what they are taught.

use super::Options;
use super::batch::{Batch, CLASSES};
use crate::train::clip::Clip;
use crate::train::fit::losses::segmentation;
use crate::train::nn::image::ImageTower;
use crate::train::nn::layers::{Maker, matrix, put, tensor, unit, values};
use crate::train::nn::text::TextTower;
use crate::train::tensors::store::Store;
use crate::train::tensors::{TensorError, Tensors};
use burn::module::{Module, Param};
use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::{Array1, Array2};

/// Image and text towers and the embeddings of the words that captions use.
#[derive(Module, Debug)]
pub struct DualEncoder {
    image: ImageTower,
    text: TextTower,
    /// [words, C].
    tokens: Param<Tensor<2>>,
    /// Logarithm of the contrastive loss's scale, [1].
    scale: Param<Tensor<1>>,
    /// A plain classifier of raw patch features, [C, 1 + CLASSES]: abnormal, and which defect. It shows
    /// the image tower what to look for before the text tower can say it, and is thrown away.
    probe: Param<Tensor<2>>,
    /// Weights of what only a second course teaches: the largest patch score's loss and the pairs'.
    second: [f64; 2],
}

/// Names of what only training needs, in a checkpoint.
const SCALE: &str = "pretrain.scale";
const PROBE: &str = "pretrain.probe";
/// The temperature of FAPrompt's scores, which patches and images are taught at.
const TEMPERATURE: f64 = 0.07;
/// CLIP's limit of the learned scale.
const MAX_SCALE: f64 = 100.0;

/// The terms of the loss.
#[derive(Clone, Debug)]
pub struct Losses {
    /// What is minimised.
    pub total: Tensor<1>,
    /// CLIP's contrastive loss, patches against normal and damaged, patches against defect words,
    /// images against normal and damaged, the probe's, and in a second course the largest patch score's and
    /// the pairs'; as [`TERMS`] names them.
    pub parts: Vec<Tensor<1>>,
}

/// Names of the parts.
pub const TERMS: [&str; 7] = [
    "contrastive",
    "patches",
    "kinds",
    "images",
    "probe",
    "peak",
    "pairs",
];
/// Weights of the parts that every course has.
const WEIGHTS: [f64; 5] = [0.25, 1.0, 0.25, 0.5, 0.5];
/// Weights of the last two in a second course: from nothing they would drown the others.
const SECOND: [f64; 2] = [0.3, 0.3];

/// What a batch's pictures came to, for validation.
pub struct Scores {
    /// Abnormal probability of each patch, [B, N].
    pub patches: Tensor<2>,
    /// Of each picture's image feature, [B].
    pub images: Tensor<1>,
}

impl DualEncoder {
    /// From arrays; `words` are the tokens that captions use.
    pub fn new(clip: &Clip, options: &Options, words: &[usize], device: &Device) -> DualEncoder {
        let vv_layers = options.vv_layers;
        let mut m = Maker::new(device, true).with(options.products);
        let grid = clip.visual.grid;
        let table = clip.text.embedding.as_ref().expect("made with its table");
        let rows = table.select(ndarray::Axis(0), words);
        let c = rows.ncols();
        DualEncoder {
            image: ImageTower::new(&clip.visual, clip.activation, grid, vv_layers, &mut m),
            text: TextTower::new(&clip.text, clip.activation, &mut m),
            tokens: m.param(tensor(&rows, device)),
            scale: m.param(Tensor::from_data([(1.0f32 / 0.07).ln()], device)),
            probe: m.param(Tensor::zeros([c, 1 + CLASSES], device)),
            second: options.refine.as_ref().map_or([0.0; 2], |_| SECOND),
        }
    }

    /// Writes the numbers back into `clip`.
    pub fn export(&self, clip: &mut Clip, words: &[usize]) {
        clip.visual = self.image.export();
        let table = clip.text.embedding.take();
        clip.text = self.text.export();
        let learned = matrix(&self.tokens.val());
        clip.text.embedding = table.map(|mut table| {
            for (row, word) in words.iter().enumerate() {
                table.row_mut(*word).assign(&learned.row(row));
            }
            table
        });
    }

    /// Puts what only training needs into `store`.
    pub fn store_scaffold(&self, store: &mut Store) {
        store.array(SCALE, &Array1::from(values(&self.scale.val())));
        store.array(PROBE, &matrix(&self.probe.val()));
    }

    /// Takes it back from a checkpoint.
    ///
    /// # Errors
    /// [`TensorError`] if it is not there.
    pub fn restore_scaffold(&mut self, from: &Tensors, device: &Device) -> Result<(), TensorError> {
        let [c, classes] = self.probe.val().dims();
        let scale = from.vector(SCALE, 1)?;
        let probe = from.matrix(PROBE, Some(c), Some(classes))?;
        // The parameters keep their ids, by which the optimizer knows them.
        self.scale = self
            .scale
            .clone()
            .map(|_| tensor::<1, _>(&scale, device).require_grad());
        self.probe = self
            .probe
            .clone()
            .map(|_| tensor::<2, _>(&probe, device).require_grad());
        Ok(())
    }

    /// Unit text features [P, C] of token rows (indices into the word list), each ending with its end
    /// token.
    fn texts(&self, texts: &[Vec<usize>]) -> Tensor<2> {
        let device = self.tokens.val().device();
        let longest = texts.iter().map(Vec::len).max().unwrap_or(1);
        let c = self.tokens.val().dims()[1];
        let ids: Vec<i64> = texts
            .iter()
            .flat_map(|t| (0..longest).map(move |i| t.get(i).copied().unwrap_or(0) as i64))
            .collect();
        let ids = Tensor::<1, Int>::from_data(
            TensorData::new::<i64, _>(ids, [texts.len() * longest]),
            &device,
        );
        let rows = self
            .tokens
            .val()
            .select(0, ids)
            .reshape([texts.len(), longest, c]);
        let ends: Vec<usize> = texts.iter().map(|t| t.len() - 1).collect();
        unit(self.text.encode(rows, &ends, &[]))
    }

    /// Raw patch and image features.
    fn features(&self, batch: &Batch, device: &Device) -> (Tensor<3>, Tensor<2>) {
        let (b, n) = (batch.pictures, batch.grid * batch.grid);
        let pixels = batch.patches.len() / (b * n);
        let patches = put(batch.patches.clone(), [b, n, pixels], device);
        self.image.forward(patches, batch.window)
    }

    /// The probabilities of "abnormal".
    pub fn scores(&self, batch: &Batch, device: &Device) -> Scores {
        let texts = self.texts(&batch.states);
        let (patches, images) = self.features(batch, device);
        let (patches, images) = (unit(patches), unit(images));
        let [b, n, c] = patches.dims();
        let axis = axis(texts);
        Scores {
            patches: burn::tensor::activation::sigmoid(
                patches
                    .reshape([b * n, c])
                    .matmul(axis.clone())
                    .reshape([b, n]),
            ),
            images: burn::tensor::activation::sigmoid(images.matmul(axis).reshape([b])),
        }
    }

    /// The losses of a batch.
    pub fn losses(&self, batch: &Batch, device: &Device) -> Losses {
        let b = batch.pictures;
        let (states, captions) = (batch.states.len(), batch.captions.len());
        let all: Vec<Vec<usize>> = [&batch.states, &batch.captions, &batch.kinds]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let texts = self.texts(&all);
        let c = texts.dims()[1];
        let (raw, images) = self.features(batch, device);
        let n = raw.dims()[1];
        let (patches, images) = (unit(raw.clone()), unit(images));

        // CLIP's loss, both ways; equal captions are all right answers.
        let scale = self.scale.val().exp().clamp_max(MAX_SCALE);
        let logits = images
            .clone()
            .matmul(texts.clone().narrow(0, states, captions).transpose())
            * scale.reshape([1, 1]);
        let right = |f: &dyn Fn(usize, usize) -> bool, rows: usize, columns: usize| {
            let mut m = Array2::from_shape_fn((rows, columns), |(i, j)| f32::from(f(i, j)));
            for mut row in m.outer_iter_mut() {
                let sum = row.sum().max(1.0);
                row /= sum;
            }
            tensor::<2, _>(&m, device)
        };
        let own = &batch.caption_of;
        let by_image = right(&|i, j| own[i] == j, b, captions);
        let by_caption = right(&|i, j| own[j] == i, captions, b);
        let cross = |logits: Tensor<2>, right: Tensor<2>| {
            (log_softmax(logits, 1) * right).sum_dim(1).mean().neg()
        };
        let contrastive = (cross(logits.clone(), by_image) + cross(logits.transpose(), by_caption))
            .mul_scalar(0.5);

        // Patches and images against "normal" and "damaged", as FAPrompt will ask them.
        let axis = axis(texts.clone().narrow(0, 0, 2));
        let labels = Tensor::<1>::from_data(batch.coverage.as_slice(), device).reshape([b, n]);
        let flat = patches.reshape([b * n, c]);
        let logit = flat.clone().matmul(axis.clone()).reshape([b, n]);
        let dense = entropy(logit.clone(), labels.clone(), 3.0)
            + segmentation(
                burn::tensor::activation::sigmoid(logit.clone()),
                labels.clone(),
            )
            .mul_scalar(0.25);
        let anomalous = Tensor::<1>::from_data(batch.labels.as_slice(), device).reshape([b, 1]);
        let image_logit = images.matmul(axis);
        let global = entropy(image_logit.clone(), anomalous.clone(), 1.0);

        // Abnormal patches against the defect words.
        let kinds = texts.narrow(0, states + captions, CLASSES);
        let logits = flat.matmul(kinds.transpose()).mul_scalar(1.0 / TEMPERATURE);
        let kind = Tensor::<1>::from_data(batch.kind_of.as_slice(), device);
        let kind = kind.reshape([b * n, CLASSES]);
        let count = kind.clone().sum().add_scalar(1.0);
        let kinds = (log_softmax(logits, 1) * kind.clone()).sum().neg() / count.clone();

        // The same two questions without words.
        let probed = raw.reshape([b * n, c]).matmul(self.probe.val());
        let plain = entropy(
            probed.clone().narrow(1, 0, 1).reshape([b, n]),
            labels.clone(),
            3.0,
        );
        let which = log_softmax(probed.narrow(1, 1, CLASSES), 1) * kind;
        let probe = plain + which.sum().neg().mul_scalar(0.25) / count;

        let mut parts = vec![contrastive, dense, kinds, global, probe];
        if self.second != [0.0; 2] {
            let largest = largest(logit, labels, anomalous.clone());
            parts.push(entropy(largest.clone(), anomalous.clone(), 1.0));
            let order = |logit| order(logit, anomalous.clone());
            parts.push((order(image_logit) + order(largest)).mul_scalar(0.5));
        }
        let total = parts
            .iter()
            .zip(WEIGHTS.into_iter().chain(self.second))
            .map(|(p, w)| p.clone().mul_scalar(w))
            .reduce(|a, b| a + b)
            .expect("parts");
        Losses { total, parts }
    }
}

/// What a unit feature is multiplied by to give the logit of "abnormal", [C, 1]; texts are (normal,
/// damaged).
fn axis(texts: Tensor<2>) -> Tensor<2> {
    (texts.clone().narrow(0, 1, 1) - texts.narrow(0, 0, 1))
        .mul_scalar(1.0 / TEMPERATURE)
        .transpose()
}

/// Each picture's largest patch logit, half of its image score, [B, 1]: of all patches if the picture is
/// normal, of those that the defect touches if not.
fn largest(logit: Tensor<2>, labels: Tensor<2>, anomalous: Tensor<2>) -> Tensor<2> {
    let untouched = labels.equal_elem(0.0).float() * anomalous;
    (logit - untouched.mul_scalar(1e4)).max_dim(1)
}

/// How surely the defective picture of each scene has the larger logit: a station compares parts of one
/// product, so what all pictures of a scene share must not count. [B, 1] in pairs (normal, abnormal).
fn order(logit: Tensor<2>, anomalous: Tensor<2>) -> Tensor<1> {
    let pairs = logit.dims()[0] / 2;
    let second = |t: Tensor<2>| t.reshape([pairs, 2]).narrow(1, 1, 1);
    // A defect that was cut away makes no pair.
    let counts = second(anomalous);
    let first = logit.clone().reshape([pairs, 2]).narrow(1, 0, 1);
    let sure = log_sigmoid(second(logit) - first) * counts.clone();
    sure.sum().neg() / counts.sum().add_scalar(1e-6)
}

/// Binary cross-entropy of logits; positives count `weight` times.
fn entropy(logits: Tensor<2>, labels: Tensor<2>, weight: f64) -> Tensor<1> {
    let yes = labels.clone() * log_sigmoid(logits.clone());
    let no = labels.neg().add_scalar(1.0) * log_sigmoid(logits.neg());
    (yes.mul_scalar(weight) + no).mean().neg()
}
