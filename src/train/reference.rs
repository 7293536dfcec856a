//! The text encoder written down plainly, row by row as the paper has it, and its derivative.
//!
//! Slow and simple on purpose: whole prompts, a causal mask, no caches. The export takes the cached
//! prefix, the prototypes and the Jacobian from here; the device's fast tower is measured against it.

use super::clip::{Norm, Text};
use crate::bundle::manifest::ActivationKind;
use ndarray::{Array1, Array2, ArrayView1, Axis, s};

/// A normalised row and the factor that it was multiplied by.
fn normalise(x: &Array2<f32>, norm: &Norm, epsilon: f32) -> (Array2<f32>, Normalised) {
    let mut hat = x.clone();
    let mut inverse = Array1::zeros(x.nrows());
    for (mut row, inverse) in hat.outer_iter_mut().zip(inverse.iter_mut()) {
        let mean = row.mean().unwrap_or(0.0);
        row -= mean;
        *inverse = 1.0 / (row.dot(&row) / row.len() as f32 + epsilon).sqrt();
        row *= *inverse;
    }
    (
        &hat * &norm.weight + &norm.bias,
        Normalised { hat, inverse },
    )
}

/// What the derivative of a normalisation needs.
struct Normalised {
    hat: Array2<f32>,
    inverse: Array1<f32>,
}

impl Normalised {
    /// The derivative at these rows in the direction `dx`; `rows[i]` is the row that `dx[i]` moves.
    fn derivative(
        &self,
        norm: &Norm,
        dx: &Array2<f32>,
        rows: impl Fn(usize) -> usize,
    ) -> Array2<f32> {
        let mut out = dx.clone();
        for (i, mut row) in out.outer_iter_mut().enumerate() {
            let (hat, inverse) = (self.hat.row(rows(i)), self.inverse[rows(i)]);
            let (mean, along) = (row.mean().unwrap_or(0.0), row.dot(&hat) / row.len() as f32);
            row.zip_mut_with(&hat, |d, h| *d = (*d - mean - h * along) * inverse);
            row *= &norm.weight;
        }
        out
    }
}

fn activate(kind: ActivationKind, x: f32) -> f32 {
    match kind {
        ActivationKind::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        ActivationKind::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
    }
}

fn slope(kind: ActivationKind, x: f32) -> f32 {
    match kind {
        ActivationKind::QuickGelu => {
            let s = 1.0 / (1.0 + (-1.702 * x).exp());
            s * (1.0 + 1.702 * x * (1.0 - s))
        }
        ActivationKind::Gelu => {
            let phi = (-0.5 * x * x).exp() / (2.0 * std::f32::consts::PI).sqrt();
            0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)) + x * phi
        }
    }
}

/// Everything that one block computed for one prompt.
struct BlockTape {
    ln_1: Normalised,
    /// [rows, 3 * width].
    qkv: Array2<f32>,
    /// Attention weights per head, [rows, rows].
    weights: Vec<Array2<f32>>,
    ln_2: Normalised,
    /// Before the activation, [rows, 4 * width].
    hidden: Array2<f32>,
}

/// A prompt's way through the encoder.
pub struct Tape {
    blocks: Vec<BlockTape>,
    ln_final: Normalised,
    /// The end token's row after the last normalisation, [width].
    normed: Array1<f32>,
    /// The feature, `[C]`, raw.
    pub feature: Array1<f32>,
}

impl Tape {
    /// Keys and values of the first `rows` rows in block `i`, [rows, width] each.
    pub fn keys_values(&self, i: usize, rows: usize) -> (Array2<f32>, Array2<f32>) {
        let qkv = &self.blocks[i].qkv;
        let width = qkv.ncols() / 3;
        let part = |from: usize| qkv.slice(s![..rows, from..from + width]).to_owned();
        (part(width), part(2 * width))
    }
}

/// The text encoder with deep prompts.
pub struct Reference<'a> {
    /// The encoder.
    pub text: &'a Text,
    /// Its activation.
    pub activation: ActivationKind,
    /// Overwrite positions 1..=t before blocks 1, 2, ....
    pub deep: &'a [Array2<f32>],
}

impl Reference<'_> {
    /// Encodes a prompt: `rows` [n, width] without positions, the last one being the end token.
    pub fn encode(&self, rows: &Array2<f32>) -> Tape {
        let (n, width) = rows.dim();
        let d = width / self.text.heads;
        let scale = 1.0 / (d as f32).sqrt();
        let mut x = rows + &self.text.positions.slice(s![..n, ..]);
        let mut blocks = vec![];
        for (i, block) in self.text.blocks.iter().enumerate() {
            if let Some(deep) = i.checked_sub(1).and_then(|i| self.deep.get(i)) {
                x.slice_mut(s![1..=deep.nrows(), ..]).assign(deep);
            }
            let (normed, ln_1) = normalise(&x, &block.ln_1, self.text.epsilon);
            let qkv = normed.dot(&block.qkv.weight.t()) + &block.qkv.bias;
            let mut heads = Array2::zeros((n, width));
            let mut weights = vec![];
            for h in 0..self.text.heads {
                let part = |p: usize| qkv.slice(s![.., p * width + h * d..p * width + (h + 1) * d]);
                let mut w = part(0).dot(&part(1).t()) * scale;
                for (r, mut row) in w.outer_iter_mut().enumerate() {
                    let max = row
                        .slice(s![..=r])
                        .iter()
                        .fold(f32::NEG_INFINITY, |m, v| m.max(*v));
                    row.iter_mut()
                        .enumerate()
                        .for_each(|(c, v)| *v = if c <= r { (*v - max).exp() } else { 0.0 });
                    let sum = row.sum();
                    row /= sum;
                }
                heads
                    .slice_mut(s![.., h * d..(h + 1) * d])
                    .assign(&w.dot(&part(2)));
                weights.push(w);
            }
            x = x + heads.dot(&block.out.weight.t()) + &block.out.bias;
            let (normed, ln_2) = normalise(&x, &block.ln_2, self.text.epsilon);
            let hidden = normed.dot(&block.fc.weight.t()) + &block.fc.bias;
            x = x
                + hidden
                    .mapv(|v| activate(self.activation, v))
                    .dot(&block.proj.weight.t())
                + &block.proj.bias;
            blocks.push(BlockTape {
                ln_1,
                qkv,
                weights,
                ln_2,
                hidden,
            });
        }
        let last = x.slice(s![n - 1.., ..]).to_owned();
        let (normed, ln_final) = normalise(&last, &self.text.ln_final, self.text.epsilon);
        let normed = normed.row(0).to_owned();
        let feature = self.text.projection.dot(&normed);
        Tape {
            blocks,
            ln_final,
            normed,
            feature,
        }
    }

    /// The feature of `normed` rows' mean: what the projection makes of several prompts at once.
    pub fn mean_feature(&self, tapes: &[Tape]) -> Array1<f32> {
        let mut mean = Array1::zeros(self.text.width);
        tapes.iter().for_each(|t| mean += &t.normed);
        self.text.projection.dot(&(mean / tapes.len() as f32))
    }

    /// The derivative of a prompt's feature when rows `first..first + count` of its input all move by
    /// the same vector: for each of `directions` [n, width] the change, [n, C].
    pub fn derivative(
        &self,
        tape: &Tape,
        first: usize,
        count: usize,
        directions: &Array2<f32>,
    ) -> Array2<f32> {
        let (n, width) = directions.dim();
        let rows = tape.blocks[0].qkv.nrows();
        // Rows before `first` do not see what changes behind them: only `moving` rows are carried.
        let moving = rows - first;
        let (heads, d) = (self.text.heads, width / self.text.heads);
        let scale = 1.0 / (d as f32).sqrt();
        let mut dx = Array2::<f32>::zeros((n * moving, width));
        for (i, mut row) in dx.outer_iter_mut().enumerate() {
            if i % moving < count {
                row.assign(&directions.row(i / moving));
            }
        }
        let at = |i: usize| first + i % moving;
        for (i, (block, tape)) in self.text.blocks.iter().zip(&tape.blocks).enumerate() {
            if let Some(deep) = i.checked_sub(1).and_then(|i| self.deep.get(i)) {
                let overwritten = (1 + deep.nrows()).saturating_sub(first);
                dx.outer_iter_mut()
                    .enumerate()
                    .filter(|(i, _)| i % moving < overwritten)
                    .for_each(|(_, mut r)| r.fill(0.0));
            }
            let dqkv = tape
                .ln_1
                .derivative(&block.ln_1, &dx, at)
                .dot(&block.qkv.weight.t());
            let mut dheads = Array2::<f32>::zeros((n * moving, width));
            for j in 0..n {
                let own = dqkv.slice(s![j * moving..(j + 1) * moving, ..]);
                for h in 0..heads {
                    let column = |p: usize| s![.., p * width + h * d..p * width + (h + 1) * d];
                    let (q, k, v) = (
                        tape.qkv.slice(column(0)),
                        tape.qkv.slice(column(1)),
                        tape.qkv.slice(column(2)),
                    );
                    let (dq, dk, dv) = (
                        own.slice(column(0)),
                        own.slice(column(1)),
                        own.slice(column(2)),
                    );
                    let w = tape.weights[h].slice(s![first.., ..]);
                    let mut dscores = dq.dot(&k.t());
                    let mut behind = dscores.slice_mut(s![.., first..]);
                    behind += &q.slice(s![first.., ..]).dot(&dk.t());
                    dscores *= scale;
                    // Softmax: dw = w * (ds - sum w ds); hidden keys have w = 0.
                    let along = (&w * &dscores).sum_axis(Axis(1)).insert_axis(Axis(1));
                    let dw = &w * &(dscores - along);
                    let change = dw.dot(&v) + w.slice(s![.., first..]).dot(&dv);
                    dheads
                        .slice_mut(s![j * moving..(j + 1) * moving, h * d..(h + 1) * d])
                        .assign(&change);
                }
            }
            dx = dx + dheads.dot(&block.out.weight.t());
            let mut dhidden = tape
                .ln_2
                .derivative(&block.ln_2, &dx, at)
                .dot(&block.fc.weight.t());
            for (i, mut row) in dhidden.outer_iter_mut().enumerate() {
                row.zip_mut_with(&tape.hidden.row(at(i)), |d, x| {
                    *d *= slope(self.activation, *x)
                });
            }
            dx = dx + dhidden.dot(&block.proj.weight.t());
        }
        let ends: Vec<usize> = (0..n).map(|j| (j + 1) * moving - 1).collect();
        let dend = tape
            .ln_final
            .derivative(&self.text.ln_final, &dx.select(Axis(0), &ends), |_| 0);
        dend.dot(&self.text.projection.t())
    }
}

/// Euclidean length 1, or zero if it was.
pub fn unit(v: ArrayView1<f32>) -> Array1<f32> {
    let norm = v.dot(&v).sqrt();
    if norm > 0.0 { &v / norm } else { v.to_owned() }
}
