//! FiLo without a language model and without Grounding DINO, on the host: every position counts and nothing is
//! damped outside boxes, or one position's prompts are taken.
//!
//! Published checkpoints need the encoder's tokens as the published code returns them, with its in-place
//! sums: the first stage's tokens and all V-V ones are the final V-V stream, and the ordinary tokens of the
//! second and third stage hold the next block's attention as well. So do these.

pub mod judge;

use super::words::lists;
use crate::train::TrainError;
use crate::train::clip::{self, Clip};
use crate::train::fit::losses;
use crate::train::nn::image::ImageTower;
use crate::train::nn::layers::{Dense, Maker, put, tensor, unit, values};
use crate::train::nn::text::TextTower;
use crate::train::prompts::embed;
use crate::train::tensors::{TensorError, Tensors};
use burn::module::{Module, Param};
use burn::tensor::activation::{relu, sigmoid, silu};
use burn::tensor::{Device, Tensor};
use ndarray::{Array2, Array3, Axis, s};

/// Kernels of a convolution decoder, in the order of the checkpoint.
pub const KERNELS: [(usize, usize); 6] = [(1, 1), (3, 3), (5, 5), (7, 7), (1, 5), (5, 1)];
/// What cosines are multiplied by.
const SCALE: f64 = 100.0;

/// A learned context and the network that shifts it.
#[derive(Module, Debug)]
pub struct Prompts {
    /// The learned tokens of a prompt, [n, C].
    pub context: Param<Tensor<2>>,
    /// The layer from C to the hidden channels.
    pub fc1: Dense,
    /// The layer from the hidden channels to C.
    pub fc2: Dense,
}

/// Six convolutions that are added up, as one 7 x 7 kernel.
#[derive(Module, Debug)]
pub struct Convolution {
    /// The kernel's weights, [49 * width, C]: rows of each place of the kernel, raster order.
    kernel: Param<Tensor<2>>,
    /// What is added to each of the C channels, `[C]`.
    bias: Param<Tensor<1>>,
}

/// Everything of FiLo that learns, and both frozen encoders.
#[derive(Module, Debug)]
pub struct FiLo {
    /// The normal prompts.
    pub normal: Prompts,
    /// The abnormal prompts.
    pub abnormal: Prompts,
    /// On the token sets 0, 2, 4, 6.
    pub linear: Vec<Dense>,
    convolutions: Vec<Convolution>,
    /// [C, C / 2], [C / 2, C]: the adapter's two layers, transposed.
    pub adapter: Vec<Param<Tensor<2>>>,
    text: TextTower,
    #[module(skip)]
    words: Words,
    grid: usize,
    size: usize,
}

/// What does not learn of the prompts.
#[derive(Clone, Debug)]
struct Words {
    start: Array2<f32>,
    normal: Sentences,
    abnormal: Sentences,
    positions: usize,
}

/// Words with full stop and end token, filled up with zeros, and how many rows count.
#[derive(Clone, Debug)]
struct Sentences {
    rows: Array3<f32>,
    lengths: Vec<usize>,
}

/// What is said of a picture.
pub struct Said {
    /// Cosines to the normal and the abnormal text, over sqrt 2.
    pub cosines: Tensor<2>,
    /// The abnormal channel of each decoder's map, [1, S * S].
    pub maps: Vec<Tensor<2>>,
}

/// FiLo's prompts of a class: normal, abnormal (state outer, position inner loop).
pub fn sentences(class: &str) -> (Vec<String>, Vec<String>) {
    let words = &lists().filo;
    let name = super::words::class_words(class);
    let put = |state: &String| state.replacen("{}", &name, 1);
    let normal = words.states_normal.iter().map(|s| format!("{}.", put(s)));
    let details = words
        .details_mvtec
        .get(&name)
        .or(words.details_visa.get(class));
    let detailed = details.into_iter().flatten();
    let detailed = detailed.map(|d| format!("abnormal {name} with {d}"));
    let states: Vec<String> = detailed
        .chain(words.states_abnormal_general.iter().map(put))
        .collect();
    let placed = |state: &String| {
        let positions = words.positions.iter();
        positions
            .map(|p| format!("{state} at {p}."))
            .collect::<Vec<_>>()
    };
    (normal.collect(), states.iter().flat_map(placed).collect())
}

fn weights(clip: &Clip, e: TensorError) -> TrainError {
    TrainError::Weights {
        path: clip.path.clone(),
        what: e.to_string(),
    }
}

fn embedded(clip: &Clip, texts: &[String]) -> Result<Sentences, TrainError> {
    let all = texts
        .iter()
        .map(|t| Ok(embed(clip, t).map_err(|e| weights(clip, e))?.1))
        .collect::<Result<Vec<_>, TrainError>>()?;
    let lengths: Vec<usize> = all.iter().map(|r| r.nrows()).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut rows = Array3::zeros((all.len(), longest, clip.text.width));
    for (mut to, from) in rows.outer_iter_mut().zip(&all) {
        to.slice_mut(s![..from.nrows(), ..]).assign(from);
    }
    Ok(Sentences { rows, lengths })
}

/// The six convolutions of a stage from a checkpoint, as one kernel [49 * width, C] and a bias.
fn joined(
    t: &Tensors,
    stem: &str,
    width: usize,
    c: usize,
) -> Result<(Array2<f32>, Vec<f32>), TensorError> {
    let mut kernel = Array2::<f32>::zeros((49 * width, c));
    let mut bias = vec![0f32; c];
    for (k, (high, wide)) in KERNELS.iter().enumerate() {
        let name = format!("{stem}.{k}");
        let weight = t.array(&format!("{name}.weight"))?;
        if weight.shape() != [c, width, *high, *wide] {
            return Err(TensorError::Shape {
                name: format!("{name}.weight"),
                found: weight.shape().to_vec(),
                wanted: format!("[{c}, {width}, {high}, {wide}]"),
            });
        }
        let own = t.vector(&format!("{name}.bias"), c)?;
        bias.iter_mut().zip(&own).for_each(|(sum, v)| *sum += v);
        for y in 0..*high {
            for x in 0..*wide {
                // The middle of every kernel lies on the middle of the 7 x 7 one.
                let place = (y + 3 - high / 2) * 7 + x + 3 - wide / 2;
                for o in 0..c {
                    for i in 0..width {
                        kernel[(place * width + i, o)] += weight[[o, i, y, x]];
                    }
                }
            }
        }
    }
    Ok((kernel, bias))
}

impl Convolution {
    /// Raw tokens [1, N, width] to [1, N, C], zeros outside the grid.
    fn forward(&self, tokens: Tensor<3>, grid: usize) -> Tensor<3> {
        let device = tokens.device();
        let [_, n, width] = tokens.dims();
        let side = grid + 6;
        let x = tokens.reshape([grid, grid, width]);
        let edge = |h: usize, w: usize| Tensor::<3>::zeros([h, w, width], &device);
        let x = Tensor::cat(vec![edge(grid, 3), x, edge(grid, 3)], 1);
        let x = Tensor::cat(vec![edge(3, side), x, edge(3, side)], 0);
        let shifted: Vec<Tensor<2>> = (0..49)
            .map(|place| {
                let (y, x0) = (place / 7, place % 7);
                x.clone()
                    .narrow(0, y, grid)
                    .narrow(1, x0, grid)
                    .reshape([n, width])
            })
            .collect();
        let out =
            Tensor::cat(shifted, 1).matmul(self.kernel.val()) + self.bias.val().unsqueeze_dim(0);
        let c = out.dims()[1];
        out.reshape([1, n, c])
    }
}

impl FiLo {
    /// From a checkpoint with the published names, for the class of the prompts; `size` is the input's side.
    ///
    /// # Errors
    /// [`TrainError::Prompts`] for a checkpoint that lacks something, [`TrainError::Weights`] for weights that do.
    pub fn load(
        clip: &Clip,
        t: &Tensors,
        class: &str,
        size: usize,
        device: &Device,
    ) -> Result<FiLo, TrainError> {
        let fail = |e: TensorError| TrainError::Prompts {
            path: t.path().to_path_buf(),
            what: e.to_string(),
        };
        let (c, width) = (clip.text.width, clip.visual.width);
        let dense = |name: &str, outputs: usize, inputs: Option<usize>| {
            let weight = t.matrix(&format!("{name}.weight"), Some(outputs), inputs)?;
            let bias = t.vector(&format!("{name}.bias"), outputs)?;
            Ok(clip::Dense { weight, bias })
        };
        let (normal, abnormal) = sentences(class);
        let words = Words {
            start: embed(clip, "")
                .map_err(|e| weights(clip, e))?
                .0
                .insert_axis(Axis(0)),
            normal: embedded(clip, &normal)?,
            abnormal: embedded(clip, &abnormal)?,
            positions: lists().filo.positions.len(),
        };
        let mut m = Maker::new(device, true);
        let learner = |m: &mut Maker, name: &str| -> Result<Prompts, TensorError> {
            let context = t.matrix(&format!("{name}.ctx"), None, Some(c))?;
            let hidden = t.shape(&format!("{name}.meta_net.linear1.weight"))?[0];
            let at = |n: &str| format!("{name}.meta_net.{n}");
            let (fc1, fc2) = (
                dense(&at("linear1"), hidden, Some(c))?,
                dense(&at("linear2"), c, Some(hidden))?,
            );
            let context = tensor(&context, device);
            Ok(Prompts {
                context: m.param(context),
                fc1: Dense::new(&fc1, m),
                fc2: Dense::new(&fc2, m),
            })
        };
        let normal = learner(&mut m, "normal_prompt_learner").map_err(fail)?;
        let abnormal = learner(&mut m, "abnormal_prompt_learner").map_err(fail)?;
        let linear = (0..4)
            .map(|i| {
                let name = format!("decoder_linear.fc.{i}");
                Ok(Dense::new(&dense(&name, c, Some(width))?, &mut m))
            })
            .collect::<Result<_, TensorError>>()
            .map_err(fail)?;
        let convolutions = (0..3)
            .map(|i| {
                let (kernel, bias) = joined(t, &format!("decoder_conv.{i}"), width, c)?;
                let (kernel, bias) = (tensor(&kernel, device), put(bias, [c], device));
                Ok(Convolution {
                    kernel: m.param(kernel),
                    bias: m.param(bias),
                })
            })
            .collect::<Result<_, TensorError>>()
            .map_err(fail)?;
        let adapter = ["adapter.fc.0.weight", "adapter.fc.2.weight"]
            .iter()
            .map(|name| {
                let weight = t.matrix(name, None, None)?;
                let weight = tensor(&weight.t().to_owned(), device);
                Ok(m.param(weight))
            })
            .collect::<Result<_, TensorError>>()
            .map_err(fail)?;
        m.trainable = false;
        Ok(FiLo {
            normal,
            abnormal,
            linear,
            convolutions,
            adapter,
            text: TextTower::new(&clip.text, clip.activation, &mut m),
            words,
            grid: size / clip.visual.patch,
            size,
        })
    }

    /// The unit image feature of a raw one [1, C]; the adapter is left out while everything else learns.
    fn image(&self, raw: Tensor<2>, adapter: bool) -> Tensor<2> {
        if !adapter {
            return unit(raw);
        }
        let hidden = relu(raw.clone().matmul(self.adapter[0].val()));
        unit(raw + silu(hidden.matmul(self.adapter[1].val())))
    }

    /// Unit features of a set of prompts, shifted by what the network makes of the picture, [P, C].
    fn set(&self, prompts: &Prompts, words: &Sentences, image: &Tensor<2>) -> Tensor<2> {
        let device = image.device();
        let shift = prompts.fc2.rows(relu(prompts.fc1.rows(image.clone())));
        let context = prompts.context.val() + shift;
        let [n, c] = context.dims();
        let p = words.lengths.len();
        let start: Tensor<2> = tensor(&self.words.start, &device);
        let shared = Tensor::cat(vec![start, context], 0)
            .reshape([1, n + 1, c])
            .expand([p, n + 1, c]);
        let rows = Tensor::cat(vec![shared, tensor(&words.rows, &device)], 1);
        let ends: Vec<usize> = words.lengths.iter().map(|l| n + l).collect();
        unit(self.text.encode(rows, &ends, &[]))
    }

    /// The normal and the abnormal text of a picture, [2, C], each of length 1 / sqrt 2; of one position
    /// (0..9) or of all.
    pub fn prototypes(&self, image: &Tensor<2>, position: Option<usize>) -> Tensor<2> {
        let normal = self.set(&self.normal, &self.words.normal, image);
        let abnormal = self.set(&self.abnormal, &self.words.abnormal, image);
        let [p, c] = abnormal.dims();
        let abnormal = match position {
            None => abnormal,
            Some(place) => {
                let states = p / self.words.positions;
                abnormal
                    .reshape([states, self.words.positions, c])
                    .narrow(1, place, 1)
                    .reshape([states, c])
            }
        };
        let both = Tensor::cat(
            vec![unit(normal.mean_dim(0)), unit(abnormal.mean_dim(0))],
            0,
        );
        both.div_scalar(std::f64::consts::SQRT_2)
    }

    /// Judges a picture by its raw image feature [1, C] and the seven sets of raw tokens [1, N, width].
    pub fn judge(
        &self,
        raw: Tensor<2>,
        tokens: &[Tensor<3>],
        position: Option<usize>,
        adapter: bool,
    ) -> Said {
        let image = self.image(raw, adapter);
        let text = self.prototypes(&image, position);
        let u = losses::enlargement_aligned(self.grid, self.size, &image.device());
        let against = text.clone().transpose();
        let map = |features: Tensor<3>| {
            let [_, n, c] = features.dims();
            let logits = unit(features.reshape([n, c]))
                .matmul(against.clone())
                .mul_scalar(SCALE);
            let d = logits.clone().narrow(1, 1, 1) - logits.narrow(1, 0, 1);
            sigmoid(losses::enlarge(d.reshape([1, n]), &u))
        };
        let mut maps: Vec<Tensor<2>> = self
            .linear
            .iter()
            .enumerate()
            .map(|(i, layer)| map(layer.forward(tokens[2 * i].clone())))
            .collect();
        for (i, layer) in self.convolutions.iter().enumerate() {
            maps.push(map(layer.forward(tokens[2 * i + 1].clone(), self.grid)));
        }
        Said {
            cosines: image.matmul(against),
            maps,
        }
    }

    /// The map of a picture: the mean of the seven, each blurred by a 3 x 3 Gaussian of sigma 4; the image
    /// score is half of the abnormal cosine and the map's largest value.
    pub fn conclude(&self, said: &Said) -> (f32, Vec<f32>) {
        let mut sum = vec![0f32; self.size * self.size];
        for map in &said.maps {
            // (p1 - p0 + 1) / 2 is p1.
            let blurred = blur(&values(map), self.size);
            sum.iter_mut()
                .zip(blurred)
                .for_each(|(s, v)| *s += v / said.maps.len() as f32);
        }
        let largest = sum.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        ((values(&said.cosines)[1] + largest) / 2.0, sum)
    }

    /// The loss of the first phase: focal and both dice terms of all maps. The published code trains on single
    /// pictures and squeezes their masks, so its dice terms are means over the picture's rows.
    pub fn loss(&self, said: &Said, mask: Tensor<2>) -> Tensor<1> {
        let rows = |t: Tensor<2>| t.reshape([self.size, self.size]);
        let mut total = Tensor::<1>::zeros([1], &mask.device());
        for map in &said.maps {
            let normal = map.clone().neg().add_scalar(1.0);
            let background = mask.clone().neg().add_scalar(1.0);
            total = total
                + losses::focal(map.clone(), mask.clone())
                + losses::dice(rows(map.clone()), rows(mask.clone()))
                + losses::dice(rows(normal), rows(background));
        }
        total
    }
}

/// A 3 x 3 Gaussian of sigma 4, mirrored at the border without repeating it.
fn blur(map: &[f32], side: usize) -> Vec<f32> {
    let edge = (-0.5f32 / 16.0).exp();
    let whole = 1.0 + 2.0 * edge;
    let kernel = [edge / whole, 1.0 / whole, edge / whole];
    let near = |i: usize| {
        let below = if i == 0 { 1.min(side - 1) } else { i - 1 };
        let above = if i + 1 == side {
            side.saturating_sub(2)
        } else {
            i + 1
        };
        [below, i, above]
    };
    let along = |from: &[f32], at: &dyn Fn(usize, usize) -> usize| -> Vec<f32> {
        (0..side * side)
            .map(|i| {
                let (row, column) = (i / side, i % side);
                near(column)
                    .iter()
                    .zip(kernel)
                    .map(|(n, k)| k * from[at(row, *n)])
                    .sum()
            })
            .collect()
    };
    // Rows, then the transposed again: columns.
    let first = along(map, &|row, column| row * side + column);
    let second = along(&first, &|row, column| column * side + row);
    (0..side * side)
        .map(|i| second[i % side * side + i / side])
        .collect()
}

/// The seven token sets of a picture as the published code returns them, the class row left out, and the raw
/// image feature; `stages` are the four blocks, from 1.
pub fn tokens(
    tower: &ImageTower,
    patches: Tensor<3>,
    stages: [usize; 4],
) -> (Vec<Tensor<3>>, Tensor<2>) {
    let (y, x, image) = tower.streams(patches);
    let rows = |t: &Tensor<3>| t.clone().narrow(1, 1, t.dims()[1] - 1);
    let y = rows(&y);
    let after = |i: usize| {
        let (with_next, own) = &x[stages[i]];
        (rows(with_next), rows(own))
    };
    // In-place sums: see the module's head.
    let set = vec![
        y.clone(),
        y.clone(),
        after(1).0,
        y.clone(),
        after(2).0,
        y,
        after(3).1,
    ];
    (set, image)
}
