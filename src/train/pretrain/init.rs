//! A dual encoder's first numbers, chosen so that little training goes far.
//!
//! Patches start as a cosine transform, positions as sines, attention as Trockman and Kolter found it in
//! trained transformers (arXiv 2305.09828): heads that look near and values that undo themselves.

use crate::bundle::manifest::ActivationKind;
use crate::train::clip::{Block, Clip, Dense, Norm, Text, Visual};
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
#[derive(Clone, Debug)]
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

/// OpenAI's initialisation, with q k^T near 0.7 I per head and out v near -0.4 I plus noise where
/// `mimetic` (the paper's constants, for images).
fn block(g: &mut Gauss, width: usize, layers: usize, mimetic: bool) -> Block {
    let attention = (width as f32).powf(-0.5);
    let residual = attention * (2.0 * layers as f32).powf(-0.5);
    let mut qkv = g.matrix(3 * width, width, attention);
    let mut out = g.matrix(width, width, residual);
    if mimetic {
        for h in 0..width / 64 {
            let rows = h * 64..(h + 1) * 64;
            let q = qkv.slice(s![rows.clone(), ..]).to_owned();
            // Keys that are mostly the queries: tokens attend to what resembles them.
            let noise = g.matrix(64, width, attention);
            let k = &q * 0.7 + &noise * 0.7;
            qkv.slice_mut(s![width + h * 64..width + (h + 1) * 64, ..])
                .assign(&k);
        }
        let v = qkv.slice(s![2 * width.., ..]).to_owned();
        out = out - v.t().to_owned() * 0.2;
    }
    Block {
        ln_1: norm(width),
        qkv: dense(qkv),
        out: dense(out),
        ln_2: norm(width),
        fc: dense(g.matrix(4 * width, width, (2.0 * width as f32).powf(-0.5))),
        proj: dense(g.matrix(width, 4 * width, residual)),
    }
}

/// Rows of a two-dimensional cosine transform, lowest frequencies first: three of four luminance, the
/// rest two colour differences; each scaled by its frequency, for natural pictures fall off as 1 / f.
fn cosines(width: usize, patch: usize) -> Array2<f32> {
    let mut frequencies: Vec<(usize, usize)> = (0..patch)
        .flat_map(|u| (0..patch).map(move |v| (u, v)))
        .collect();
    frequencies.sort_by_key(|(u, v)| (u * u + v * v, *u));
    let planes = [
        ([1.0, 1.0, 1.0], width - 2 * (width / 8)),
        ([1.0, 0.0, -1.0], width / 8),
        ([-0.5, 1.0, -0.5], width / 8),
    ];
    let mut rows = Array2::zeros((width, 3 * patch * patch));
    let mut at = 0;
    for (colour, count) in planes {
        let length = colour.iter().map(|c: &f32| c * c).sum::<f32>().sqrt();
        for (u, v) in frequencies.iter().take(count) {
            let whitening = 0.25 + ((u * u + v * v) as f32).sqrt() / 2.0;
            let wave = |i: usize, f: usize| {
                let scale = if f == 0 { 1.0 } else { 2.0 } / patch as f32;
                scale.sqrt() * (PI * (i as f32 + 0.5) * f as f32 / patch as f32).cos()
            };
            for (c, part) in colour.iter().enumerate() {
                for y in 0..patch {
                    for x in 0..patch {
                        let value = part / length * wave(y, *v) * wave(x, *u) * whitening;
                        rows[(at, (c * patch + y) * patch + x)] = value * 0.5;
                    }
                }
            }
            at += 1;
        }
    }
    rows
}

/// Sines and cosines of both coordinates, class row zero.
fn sines(width: usize, grid: usize) -> Array2<f32> {
    let quarter = width / 4;
    Array2::from_shape_fn((1 + grid * grid, width), |(row, i)| {
        let Some(cell) = row.checked_sub(1) else {
            return 0.0;
        };
        let at = if i < 2 * quarter {
            cell % grid
        } else {
            cell / grid
        } as f32;
        let omega = 10_000f32.powf(-((i % quarter) as f32) / quarter as f32);
        let angle = at * omega;
        0.5 * if (i / quarter) % 2 == 0 {
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
        vv_layers: None,
        visual: Visual {
            width,
            heads: width / 64,
            patch,
            grid,
            conv1: cosines(width, patch),
            class: g.matrix(1, width, scale(width)).row(0).to_owned(),
            positions: sines(width, grid),
            ln_pre: norm(width),
            blocks: (0..layers)
                .map(|_| block(&mut g, width, layers, true))
                .collect(),
            ln_post: norm(width),
            proj: g.matrix(text, width, scale(width)),
        },
        text: Text {
            width: text,
            heads: text / 64,
            embedding: Some(g.matrix(VOCABULARY, text, 0.02)),
            positions: g.matrix(CONTEXT, text, 0.01),
            blocks: (0..text_layers)
                .map(|_| block(&mut g, text, text_layers, false))
                .collect(),
            ln_final: norm(text),
            projection: g.matrix(text, text, scale(text)),
        },
    }
}
