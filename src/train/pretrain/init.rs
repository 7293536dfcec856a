//! A dual encoder's first numbers, chosen so that little training goes far.
//!
//! The image tower starts as a classical texture inspector: patches as a cosine transform, its strengths
//! averaged by frequency, each patch compared with the mean of all. Training only has to improve on that.
//! (Attention that undoes its values: Trockman and Kolter, arXiv 2305.09828.)

use crate::bundle::manifest::ActivationKind;
use crate::ops::layer_norm::EPSILON;
use crate::train::clip::{Block, Clip, Dense, Norm, Preprocess, Text, Visual};
use ndarray::{Array1, Array2, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use std::f32::consts::PI;

/// Tokens of CLIP's vocabulary.
pub const VOCABULARY: usize = 49408;
/// Rows of CLIP's text positions.
const CONTEXT: usize = 77;

/// The sizes of a dual encoder; heads are 64 wide, as in CLIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Image width, blocks, patch side, patches per side.
    pub image: (usize, usize, usize, usize),
    /// Text width and joint width, blocks.
    pub text: (usize, usize),
}

struct Gauss(ChaCha8Rng);

impl Gauss {
    fn matrix(&mut self, rows: usize, columns: usize, std: f32) -> Array2<f32> {
        let next = || -> f32 { StandardNormal.sample(&mut self.0) };
        let values: Vec<f32> = std::iter::repeat_with(next).take(rows * columns).collect();
        Array2::from_shape_vec((rows, columns), values).expect("a value per element") * std
    }
}

impl Gauss {
    /// Random orthonormal rows (Gram-Schmidt).
    fn orthonormal(&mut self, n: usize) -> Array2<f32> {
        let mut m = self.matrix(n, n, 1.0);
        for i in 0..n {
            let mut row = m.row(i).to_owned();
            for j in 0..i {
                let along = row.dot(&m.row(j));
                row.scaled_add(-along, &m.row(j));
            }
            row /= row.dot(&row).sqrt();
            m.row_mut(i).assign(&row);
        }
        m
    }
}

fn norm(width: usize) -> Norm {
    Norm {
        weight: Array1::ones(width),
        bias: Array1::zeros(width),
    }
}

fn dense(weight: Array2<f32>) -> Dense {
    let bias = Array1::zeros(weight.nrows());
    Dense { weight, bias }
}

/// OpenAI's initialisation.
fn block(g: &mut Gauss, width: usize, layers: usize) -> Block {
    let attention = (width as f32).powf(-0.5);
    let residual = attention * (2.0 * layers as f32).powf(-0.5);
    Block {
        ln_1: norm(width),
        qkv: dense(g.matrix(3 * width, width, attention)),
        out: dense(g.matrix(width, width, residual)),
        ln_2: norm(width),
        fc: dense(g.matrix(4 * width, width, (2.0 * width as f32).powf(-0.5))),
        proj: dense(g.matrix(width, 4 * width, residual)),
    }
}

/// The part of the mean over all patches that a block takes away from each.
const CONTRAST: f32 = 0.4;

/// A block of the image tower: its even heads begin as an average over all patches and its values as
/// minus what they average, so that a patch starts out compared with the others; odd heads look at what
/// resembles them. Its MLP begins with pairs of opposite units, whose sum is the size of a coordinate.
fn image_block(g: &mut Gauss, width: usize, layers: usize) -> Block {
    let mut block = block(g, width, layers);
    let v = g.orthonormal(width);
    for h in 0..width / 64 {
        let rows = h * 64..(h + 1) * 64;
        let keys = width + h * 64..width + (h + 1) * 64;
        let q = block.qkv.weight.slice(s![rows.clone(), ..]).to_owned();
        if h % 2 == 0 {
            for part in [rows, keys] {
                let mut part = block.qkv.weight.slice_mut(s![part, ..]);
                part.mapv_inplace(|w| 0.1 * w);
            }
        } else {
            let noise = g.matrix(64, width, (width as f32).powf(-0.5));
            let k = &q * 0.7 + &noise * 0.7;
            block.qkv.weight.slice_mut(s![keys, ..]).assign(&k);
        }
    }
    block.qkv.weight.slice_mut(s![2 * width.., ..]).assign(&v);
    block.out.weight = &block.out.weight * 0.5 - &v.t().to_owned() * CONTRAST;
    let half = 2 * width;
    for i in 0..half {
        let row = block.fc.weight.row(i).to_owned() * 2f32.sqrt();
        block.fc.weight.row_mut(i).assign(&row);
        block.fc.weight.row_mut(half + i).assign(&-&row);
        let column = block.proj.weight.column(i).to_owned();
        block.proj.weight.column_mut(half + i).assign(&column);
    }
    block
}

/// Lets the first block write the strength of each cosine, averaged over like frequencies, to the
/// coordinates that the patch embedding leaves free.
fn energies(block: &mut Block, width: usize, patch: usize) {
    let raw = width / 2;
    let at = frequencies(width, patch);
    // How much of one cosine's strength counts for another: neighbours in frequency, of one plane.
    let share = |i: usize, j: usize| {
        let ((p, u, v), (q, x, y)) = (at[i], at[j]);
        let (du, dv) = (u as f32 - x as f32, v as f32 - y as f32);
        if p == q {
            (-(du * du + dv * dv) / 4.0).exp()
        } else {
            0.0
        }
    };
    let sums: Vec<f32> = (0..raw)
        .map(|j| (0..raw).map(|i| share(i, j)).sum())
        .collect();
    for i in 0..raw {
        for (unit, sign) in [(i, 1.0), (2 * width + i, -1.0)] {
            block.fc.weight.row_mut(unit).fill(0.0);
            block.fc.weight[(unit, i)] = sign;
            block.proj.weight.column_mut(unit).fill(0.0);
            for j in 0..raw {
                block.proj.weight[(raw + j, unit)] = 1.5 * share(i, j) / sums[j];
            }
        }
    }
}

/// Plane (0 luminance, 1 and 2 colour differences) and frequencies of each row of [`cosines`].
fn frequencies(width: usize, patch: usize) -> Vec<(usize, usize, usize)> {
    let mut all: Vec<(usize, usize)> = (0..patch)
        .flat_map(|u| (0..patch).map(move |v| (u, v)))
        .collect();
    all.sort_by_key(|(u, v)| (u * u + v * v, *u));
    let colour = width / 16;
    [width / 2 - 2 * colour, colour, colour]
        .into_iter()
        .enumerate()
        .flat_map(|(plane, count)| all.iter().take(count).map(move |(u, v)| (plane, *u, *v)))
        .collect()
}

/// Rows of a two-dimensional cosine transform, lowest frequencies first: three of four luminance, the
/// rest two colour differences; each scaled by its frequency, for natural pictures fall off as 1 / f.
/// The second half of the coordinates stays free.
fn cosines(width: usize, patch: usize) -> Array2<f32> {
    let colours = [[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-0.5, 1.0, -0.5f32]];
    let mut rows = Array2::zeros((width, 3 * patch * patch));
    for (at, (plane, u, v)) in frequencies(width, patch).into_iter().enumerate() {
        let colour = colours[plane];
        let length = colour.iter().map(|c| c * c).sum::<f32>().sqrt();
        let whitening = 0.25 + ((u * u + v * v) as f32).sqrt() / 2.0;
        let wave = |i: usize, f: usize| {
            let scale = if f == 0 { 1.0 } else { 2.0 } / patch as f32;
            scale.sqrt() * (PI * (i as f32 + 0.5) * f as f32 / patch as f32).cos()
        };
        for (c, part) in colour.iter().enumerate() {
            for y in 0..patch {
                for x in 0..patch {
                    let value = part / length * wave(y, v) * wave(x, u) * whitening;
                    rows[(at, (c * patch + y) * patch + x)] = value;
                }
            }
        }
    }
    rows
}

/// Sines and cosines of both coordinates in the free half, class row zero.
fn sines(width: usize, grid: usize) -> Array2<f32> {
    let (raw, quarter) = (width / 2, width / 8);
    Array2::from_shape_fn((1 + grid * grid, width), |(row, i)| {
        let (Some(cell), Some(i)) = (row.checked_sub(1), i.checked_sub(raw)) else {
            return 0.0;
        };
        let at = if i < 2 * quarter {
            cell % grid
        } else {
            cell / grid
        } as f32;
        let omega = 10_000f32.powf(-((i % quarter) as f32) / quarter as f32);
        let angle = at * omega;
        0.25 * if (i / quarter) % 2 == 0 {
            angle.sin()
        } else {
            angle.cos()
        }
    })
}

/// An untrained dual encoder.
///
/// # Panics
/// If a width is no multiple of 64.
pub fn clip(sizes: &Sizes, seed: u64) -> Clip {
    let ((width, layers, patch, grid), (text, text_layers)) = (sizes.image, sizes.text);
    assert!(width % 64 == 0 && text % 64 == 0, "heads are 64 wide");
    let mut g = Gauss(ChaCha8Rng::seed_from_u64(seed));
    let scale = |w: usize| (w as f32).powf(-0.5);
    Clip {
        path: "pretrain".into(),
        digest: String::new(),
        untrained: true,
        activation: ActivationKind::QuickGelu,
        preprocess: Preprocess::default(),
        assumed: vec![],
        notes: vec![],
        vv_layers: None,
        logit_scale: None,
        visual: Visual {
            width,
            heads: width / 64,
            epsilon: EPSILON,
            patch,
            grid,
            conv1: cosines(width, patch),
            class: g.matrix(1, width, scale(width)).row(0).to_owned(),
            positions: sines(width, grid),
            ln_pre: norm(width),
            blocks: {
                let mut blocks: Vec<Block> = (0..layers)
                    .map(|_| image_block(&mut g, width, layers))
                    .collect();
                energies(&mut blocks[0], width, patch);
                blocks
            },
            ln_post: norm(width),
            proj: g.matrix(text, width, scale(width)),
        },
        text: Text {
            width: text,
            heads: text / 64,
            epsilon: EPSILON,
            embedding: Some(g.matrix(VOCABULARY, text, 0.02)),
            positions: g.matrix(CONTEXT, text, 0.01),
            blocks: (0..text_layers)
                .map(|_| block(&mut g, text, text_layers))
                .collect(),
            ln_final: norm(text),
            projection: g.matrix(text, text, scale(text)),
        },
    }
}
