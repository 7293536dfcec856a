//! AnoVL in full, on the host: 22 views for the image score, and its adaptation to each picture.
//!
//! The published optimiser is one per class and is not reset with the weights, so results depend on the order
//! of pictures, and random numbers are not seeded. Here each picture has a fresh optimiser and a seed of
//! its own, made of its name.

use super::MethodOptions;
use super::bundle::bytes;
use super::judge::{by_class, in_order};
use super::text::features;
use super::words;
use crate::bundle::method::Method;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::capture::load;
use crate::faprompt::map::{Map, enlarge_aligned, pooled};
use crate::faprompt::score::{abnormality, normalise_rows};
use crate::ops::slice;
use crate::ops::weights::Arithmetic;
use crate::train::TrainError;
use crate::train::clip::{self, Clip};
use crate::train::datasets::Sample;
use crate::train::evaluate::{Judged, judged as judged_as, trivial};
use crate::train::export::ExportOptions;
use crate::train::nn::layers::{Dense, Maker, put, unit, values};
use crate::train::random::normal;
use crate::vision::{Encoder, Preprocessor};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use indicatif::ProgressBar;
use ndarray::{Array1, Array2, Axis};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Noise that each step of the adaptation adds to patches.
const NOISE: f32 = 0.055;
/// Learning rate of the adaptation.
const RATE: f64 = 1e-3;

/// A plane of `side` x `side` seen through an affine map of normalised coordinates (-1..=1 between the
/// centres of the corner pixels), bilinear, mirrored at the centres of the border pixels.
fn seen(plane: &[f32], side: usize, m: [[f32; 3]; 2], out: &mut Vec<f32>) {
    let last = (side - 1) as f32;
    let mirror = |v: f32| {
        // Back and forth between the first and the last pixel.
        let v = v.rem_euclid(2.0 * last);
        if v > last { 2.0 * last - v } else { v }
    };
    for row in 0..side {
        for column in 0..side {
            let (x, y) = (
                2.0 * column as f32 / last - 1.0,
                2.0 * row as f32 / last - 1.0,
            );
            let at = |m: [f32; 3]| mirror((m[0] * x + m[1] * y + m[2] + 1.0) / 2.0 * last);
            let (x, y) = (at(m[0]), at(m[1]));
            let (left, top) = (x.floor(), y.floor());
            let (across, down) = (x - left, y - top);
            let (left, top) = (left as usize, top as usize);
            let (right, bottom) = ((left + 1).min(side - 1), (top + 1).min(side - 1));
            let above =
                plane[top * side + left] * (1.0 - across) + plane[top * side + right] * across;
            let below = plane[bottom * side + left] * (1.0 - across)
                + plane[bottom * side + right] * across;
            out.push(above * (1.0 - down) + below * down);
        }
    }
}

/// The 22 views of a normalised picture [3, side, side]: itself; turned by +-45, 33.75, 22.5 and 11.25
/// degrees; shifted by a fifth and a tenth of half the side; mirrored; grey; turned by 90, 180, 270 degrees.
pub fn views(picture: &[f32], side: usize) -> Vec<Vec<f32>> {
    let area = side * side;
    let through = |m: [[f32; 3]; 2]| {
        let mut out = Vec::with_capacity(3 * area);
        picture
            .chunks_exact(area)
            .for_each(|plane| seen(plane, side, m, &mut out));
        out
    };
    let moved = |from: &dyn Fn(usize, usize) -> (usize, usize)| {
        let planes = picture.chunks_exact(area);
        planes
            .flat_map(|plane| {
                (0..area).map(move |i| {
                    let (row, column) = from(i / side, i % side);
                    plane[row * side + column]
                })
            })
            .collect::<Vec<f32>>()
    };
    let mut all = vec![picture.to_vec()];
    for angle in [-45.0f32, -33.75, -22.5, -11.25, 11.25, 22.5, 33.75, 45.0] {
        let (s, c) = (-angle.to_radians()).sin_cos();
        all.push(through([[c, s, 0.0], [-s, c, 0.0]]));
    }
    for by in [0.2, 0.1] {
        for (x, y) in [(by, by), (-by, by), (-by, -by), (by, -by)] {
            all.push(through([[1.0, 0.0, x], [0.0, 1.0, y]]));
        }
    }
    let end = side - 1;
    all.push(moved(&|row, column| (row, end - column)));
    let grey: Vec<f32> = (0..area)
        .map(|i| {
            let weights = [0.299, 0.587, 0.114].iter().enumerate();
            weights.map(|(c, w)| w * picture[c * area + i]).sum()
        })
        .collect();
    all.push([&*grey; 3].concat());
    all.push(moved(&|row, column| (column, end - row)));
    all.push(moved(&|row, column| (end - row, end - column)));
    all.push(moved(&|row, column| (end - column, row)));
    all
}

/// The dense layer that learns at test time.
#[derive(Module, Debug)]
pub struct Adapter {
    layer: Dense,
}

impl Adapter {
    /// From its first numbers, [P, C] and `[P]`.
    pub fn new(from: &clip::Dense, device: &Device) -> Adapter {
        Adapter {
            layer: Dense::new(from, &mut Maker::new(device, true)),
        }
    }

    /// The layer's weights as arrays.
    pub fn export(&self) -> clip::Dense {
        self.layer.export()
    }

    /// z / 2 + tanh(A unit(z)) U / 2 of patches [N, C]; `prompts` U, [P, C].
    pub fn adapt(&self, z: Tensor<2>, prompts: &Tensor<2>) -> Tensor<2> {
        let spoken = self.layer.rows(unit(z.clone())).tanh();
        (z + spoken.matmul(prompts.clone())).div_scalar(2.0)
    }

    /// The loss of clean patches and the same with noise: the mean entropy of p and half the mean of
    /// -log q\[abnormal\] - log p\[normal\]; `text` [2, C], unit.
    pub fn loss(
        &self,
        clean: Tensor<2>,
        noisy: Tensor<2>,
        prompts: &Tensor<2>,
        text: &Tensor<2>,
    ) -> Tensor<1> {
        let log = |z: Tensor<2>| {
            let z = unit(self.adapt(z, prompts));
            log_softmax(z.matmul(text.clone().transpose()), 1)
        };
        let (p, q) = (log(clean), log(noisy));
        let entropy = (p.clone().exp() * p.clone()).sum_dim(1).mean().neg();
        let apart = q.narrow(1, 1, 1).mean() + p.narrow(1, 0, 1).mean();
        entropy - apart.mul_scalar(0.5)
    }

    /// Learns `noise`'s number of steps on a picture's patches; the loss of each.
    pub fn learn(
        mut self,
        patches: &Tensor<2>,
        noise: &[Tensor<2>],
        prompts: &Tensor<2>,
        text: &Tensor<2>,
    ) -> (Adapter, Vec<f32>) {
        let mut optimizer = AdamWConfig::new()
            .with_beta_1(0.9)
            .with_beta_2(0.999)
            .with_epsilon(1e-8)
            .with_weight_decay(0.01)
            .init();
        let mut losses = vec![];
        for noise in noise {
            let noisy = patches.clone() + noise.clone();
            let loss = self.loss(patches.clone(), noisy, prompts, text);
            losses.push(loss.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(loss.backward(), &self);
            self = optimizer.step(RATE, self, gradients);
        }
        (self, losses)
    }
}

/// AnoVL for one class.
pub struct AnoVl {
    encoder: Encoder,
    preprocessor: Preprocessor,
    side: usize,
    grid: usize,
    width: usize,
    /// Unit features of all prompts, normal ones first, [P, C].
    prompts: Array2<f32>,
    normal: Vec<f32>,
    abnormal: Vec<f32>,
    /// Steps of the adaptation; 0 leaves it out.
    steps: usize,
}

/// What it says of a picture.
pub struct Said {
    /// The mean over all views.
    pub score: f32,
    /// The abnormal probability of each view.
    pub views: Vec<f32>,
    /// The map, S x S.
    pub map: Map,
}

fn failed(e: impl std::fmt::Display) -> TrainError {
    TrainError::Options(format!("the network fails: {e:#}"))
}

impl AnoVl {
    /// For the class of `asked`; `steps` of adaptation for each picture.
    ///
    /// # Errors
    /// As [`bytes`].
    pub fn new(
        clip: &Clip,
        asked: &MethodOptions,
        options: &ExportOptions,
        steps: usize,
    ) -> Result<AnoVl, TrainError> {
        let (manifest, bytes) = bytes(clip, asked, None, options)?;
        let bundle = Bundle::from_bytes(bytes)?;
        let layers = manifest.vision.layers;
        let tap = |stream, rows| Tap {
            block: layers,
            stream,
            form: Form::Projected,
            rows,
        };
        let taps = [tap(Stream::X, Rows::Class), tap(Stream::Y, Rows::Patches)];
        let encoder = Encoder::with_taps(&bundle, &taps, layers, Arithmetic::Auto)?;
        let class = asked.class.as_deref().unwrap_or_default();
        let texts = words::prompts(Method::Anovl, class, asked.templates)?;
        let all: Vec<String> = texts
            .normal
            .iter()
            .chain(&texts.abnormal)
            .cloned()
            .collect();
        let mut prompts = features(clip, &all, options.threads)?;
        for mut row in prompts.axis_iter_mut(Axis(0)) {
            let length = row.dot(&row).sqrt();
            row /= length.max(1e-12);
        }
        let prototype = |name: &str| -> Result<Vec<f32>, BundleError> {
            let width = manifest.text.width;
            let tensor = bundle.tensor(&format!("prototypes/{name}"), &[width])?;
            let mut values = slice(&tensor)
                .map_err(|e| BundleError::architecture("prototypes", e))?
                .to_vec();
            normalise_rows(&mut values, width);
            Ok(values)
        };
        Ok(AnoVl {
            encoder,
            preprocessor: Preprocessor::new(&manifest.image),
            side: manifest.image.size,
            grid: manifest.image.grid(),
            width: manifest.text.width,
            prompts,
            normal: prototype("normal")?,
            abnormal: prototype("abnormal")?,
            steps,
        })
    }

    /// Judges a frame; `seed` is of the adaptation's first numbers and noise.
    ///
    /// # Errors
    /// [`TrainError::Options`] if the network fails.
    pub fn judge(&mut self, frame: &RgbImage, seed: u64) -> Result<Said, TrainError> {
        let tensor = self.preprocessor.run(frame).map_err(failed)?;
        let picture = slice(&tensor).map_err(failed)?.to_vec();
        let mut scores = vec![];
        let mut patches = vec![];
        for view in views(&picture, self.side) {
            let view = crate::ops::tract::Tensor::from_shape(&[3, self.side, self.side], &view)
                .map_err(failed)?;
            let taps = self.encoder.taps(view).map_err(failed)?;
            let mut image = slice(&taps[0]).map_err(failed)?.to_vec();
            normalise_rows(&mut image, self.width);
            if scores.is_empty() {
                patches = slice(&taps[1]).map_err(failed)?.to_vec();
            }
            scores.push(abnormality(&image, &self.normal, &self.abnormal, 1.0));
        }
        if self.steps > 0 {
            patches = self.adapted(patches, seed);
        }
        normalise_rows(&mut patches, self.width);
        let rows = patches.chunks_exact(self.width);
        let grid: Vec<f32> = rows
            .map(|p| abnormality(p, &self.normal, &self.abnormal, 1.0))
            .collect();
        Ok(Said {
            score: scores.iter().sum::<f32>() / scores.len() as f32,
            map: enlarge_aligned(&pooled(&grid, self.grid), self.grid, self.side),
            views: scores,
        })
    }

    /// Patches [N, C] as the adaptation to them has it.
    fn adapted(&self, patches: Vec<f32>, seed: u64) -> Vec<f32> {
        let device = Device::flex().autodiff();
        let n = patches.len() / self.width;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = (self.width as f32).powf(-0.5);
        let mut next = || bound * (2.0 * (rng.next_u32() as f32 / u32::MAX as f32) - 1.0);
        let count = self.prompts.nrows();
        let layer = clip::Dense {
            weight: Array2::from_shape_fn((count, self.width), |_| next()),
            bias: Array1::from_shape_fn(count, |_| next()),
        };
        let noise: Vec<Tensor<2>> = (0..self.steps)
            .map(|_| {
                let noise = (0..n * self.width).map(|_| NOISE * normal(&mut rng));
                put(noise.collect(), [n, self.width], &device)
            })
            .collect();
        let z = put(patches, [n, self.width], &device);
        let prompts = put(
            self.prompts.iter().copied().collect(),
            [count, self.width],
            &device,
        );
        let text = [&*self.normal, &*self.abnormal].concat();
        let text = put(text, [2, self.width], &device);
        let adapter = Adapter::new(&layer, &device);
        let (adapter, _) = adapter.learn(&z, &noise, &prompts, &text);
        values(&adapter.adapt(z, &prompts))
    }
}

/// Judges every sample, each as its own class; pictures that cannot be judged come back with the reason.
///
/// # Errors
/// As [`AnoVl::new`].
pub fn judge(
    clip: &Clip,
    asked: &MethodOptions,
    options: &ExportOptions,
    steps: usize,
    samples: Vec<Sample>,
    bar: &ProgressBar,
) -> Result<(Vec<Judged>, Vec<String>), TrainError> {
    let of = |s: &Sample| asked.class.clone().unwrap_or(s.class.clone());
    let (classes, place) = by_class(samples, of);
    let (mut judged, mut failed) = (vec![], vec![]);
    for (class, samples) in classes {
        let asked = MethodOptions {
            class: Some(class),
            ..asked.clone()
        };
        let mut network = AnoVl::new(clip, &asked, options, steps)?;
        for sample in samples {
            bar.inc(1);
            let frame = match load(&sample.image) {
                Ok(frame) => frame,
                Err(e) => {
                    failed.push(e.to_string());
                    continue;
                }
            };
            let said = network.judge(&frame, seed(&sample))?;
            let trivial = Some(trivial(&frame));
            let (side, map) = (network.side, said.map);
            judged.push(judged_as(
                sample,
                said.score,
                trivial,
                side,
                map,
                &mut failed,
            ));
        }
    }
    in_order(&mut judged, &place);
    Ok((judged, failed))
}

/// A picture's own seed, wherever in a set it stands.
fn seed(sample: &Sample) -> u64 {
    let name = sample.image.file_name().unwrap_or_default();
    let digest = Sha256::digest(name.as_encoded_bytes());
    u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
}
