//! CLIP's text tower: whole sequences for pre-training, cached prefix and short suffixes for prompts.
//!
//! The mask is causal, so rows behind the end token never matter and are left out, and rows that all
//! prompts share are computed once for a whole batch (start token, V,
//! then what differs). Gradients flow through the shared rows as well.

use super::layers::{Block, HIDDEN, Maker, Norm, matrix, put, tensor};
use crate::bundle::manifest::ActivationKind;
use crate::train::clip::Text;
use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::Array2;

/// The tower without its token table.
#[derive(Module, Debug)]
pub struct TextTower {
    /// Embeddings of the positions, [context, width].
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    ln_final: Norm,
    projection: Param<Tensor<2>>,
    heads: usize,
}

/// Keys and values of the rows that all prompts begin with, [1, heads, n, d] of each block.
pub struct Prefix {
    keys: Vec<Tensor<4>>,
    values: Vec<Tensor<4>>,
    rows: usize,
}

/// [1, 1, rows, cached + rows]: row r sees everything cached and rows 0..=r.
fn causal(rows: usize, cached: usize, device: &Device) -> Tensor<4> {
    let columns = cached + rows;
    let values = (0..rows)
        .flat_map(|r| (0..columns).map(move |c| if c <= cached + r { 0.0 } else { HIDDEN }))
        .collect();
    put(values, [1, 1, rows, columns], device)
}

/// Rows 1..=t of x [P, n, width] as block `i`'s deep prompt has them.
fn overwrite(x: Tensor<3>, i: usize, deep: &[Tensor<2>]) -> Tensor<3> {
    let Some(deep) = i.checked_sub(1).and_then(|i| deep.get(i)) else {
        return x;
    };
    let ([p, n, width], [t, _]) = (x.dims(), deep.dims());
    assert!(t < n, "deep prompts of {t} rows in {n} rows");
    let deep = deep.clone().reshape([1, t, width]).expand([p, t, width]);
    let mut parts = vec![x.clone().narrow(1, 0, 1), deep];
    if t + 1 < n {
        parts.push(x.narrow(1, t + 1, n - t - 1));
    }
    Tensor::cat(parts, 1)
}

impl TextTower {
    /// Makes the encoder from arrays.
    pub fn new(from: &Text, activation: ActivationKind, m: &mut Maker) -> TextTower {
        let device = m.device;
        TextTower {
            positions: m.param(tensor(&from.positions, device)),
            blocks: from
                .blocks
                .iter()
                .map(|b| Block::new(b, from.heads, from.epsilon, activation, m))
                .collect(),
            ln_final: Norm::new(&from.ln_final, from.epsilon, m),
            projection: m.param(tensor(&from.projection.t().to_owned(), device)),
            heads: from.heads,
        }
    }

    /// The tower's numbers as arrays, for what `from` says of its heads; without a token table.
    pub fn export(&self, from: &Text) -> Text {
        Text {
            width: from.width,
            heads: from.heads,
            epsilon: from.epsilon,
            embedding: None,
            positions: matrix(&self.positions.val()),
            blocks: self.blocks.iter().map(Block::export).collect(),
            ln_final: self.ln_final.export(),
            projection: matrix(&self.projection.val().transpose()),
        }
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Whole sequences: embeddings [P, T, width], rows behind `ends[p]` ignored; raw features [P, C].
    /// `deep` as for [`TextTower::prefix`].
    pub fn encode(&self, rows: Tensor<3>, ends: &[usize], deep: &[Tensor<2>]) -> Tensor<2> {
        let [p, t, width] = rows.dims();
        let device = rows.device();
        let mut x = rows + self.positions.val().narrow(0, 0, t).unsqueeze_dim(0);
        let mask = causal(t, 0, &device);
        for (i, block) in self.blocks.iter().enumerate() {
            x = overwrite(x, i, deep);
            let [q, k, v] = block.heads_of(x.clone());
            x = block.mlp(x + block.attend(q, k, v, Some(mask.clone())));
        }
        let at: Vec<i64> = ends
            .iter()
            .enumerate()
            .map(|(i, end)| (i * t + end) as i64)
            .collect();
        let at = Tensor::<1, Int>::from_data(TensorData::new::<i64, _>(at, [p]), &device);
        self.feature(x.reshape([p * t, width]).select(0, at))
    }

    /// The rows [n, width] that all prompts begin with; before blocks 1, 2, ... the rows 1..=t are
    /// overwritten by `deep`, [t, width] each.
    ///
    /// # Panics
    /// If a deep prompt is longer than the prefix: its rows would reach into what differs.
    pub fn prefix(&self, rows: Tensor<2>, deep: &[Tensor<2>]) -> Prefix {
        let [n, _] = rows.dims();
        let mask = causal(n, 0, &rows.device());
        let mut x = (rows + self.positions.val().narrow(0, 0, n)).unsqueeze_dim::<3>(0);
        let (mut keys, mut values) = (vec![], vec![]);
        for (i, block) in self.blocks.iter().enumerate() {
            x = overwrite(x, i, deep);
            let [q, k, v] = block.heads_of(x.clone());
            keys.push(k.clone());
            values.push(v.clone());
            // Nobody looks at the prefix behind the last block's keys and values.
            if i + 1 < self.blocks.len() {
                x = block.mlp(x + block.attend(q, k, v, Some(mask.clone())));
            }
        }
        Prefix {
            keys,
            values,
            rows: n,
        }
    }

    /// Deep prompts, of the sizes of `like`, that overwrite rows of a prefix [n, width] by what they are.
    pub fn unchanged(&self, rows: Tensor<2>, like: &[Array2<f32>]) -> Vec<Array2<f32>> {
        let [n, _] = rows.dims();
        let mask = causal(n, 0, &rows.device());
        let mut x = (rows + self.positions.val().narrow(0, 0, n)).unsqueeze_dim::<3>(0);
        let mut deep = vec![];
        for (block, like) in self.blocks.iter().zip(like) {
            let [q, k, v] = block.heads_of(x.clone());
            x = block.mlp(x + block.attend(q, k, v, Some(mask.clone())));
            deep.push(matrix(&x.clone().narrow(1, 1, like.nrows()).squeeze_dim(0)));
        }
        deep
    }

    /// What follows the prefix, embeddings [P, s, width] with the end token last; raw features [P, C].
    pub fn suffix(&self, prefix: &Prefix, rows: Tensor<3>) -> Tensor<2> {
        let [p, s, width] = rows.dims();
        let n = prefix.rows;
        let mask = causal(s, n, &rows.device());
        let mut x = rows + self.positions.val().narrow(0, n, s).unsqueeze_dim(0);
        for (i, block) in self.blocks.iter().enumerate() {
            let shared = |t: &Tensor<4>| {
                let [_, heads, n, d] = t.dims();
                t.clone().expand([p, heads, n, d])
            };
            let [q, k, v] = block.heads_of(x.clone());
            let k = Tensor::cat(vec![shared(&prefix.keys[i]), k], 2);
            let v = Tensor::cat(vec![shared(&prefix.values[i]), v], 2);
            x = if i + 1 < self.blocks.len() {
                block.mlp(x + block.attend(q, k, v, Some(mask.clone())))
            } else {
                // Only the end token's row is looked at, and it sees everything.
                let (q, row) = (q.narrow(2, s - 1, 1), x.narrow(1, s - 1, 1));
                block.mlp(row + block.attend(q, k, v, None))
            };
        }
        self.feature(x.reshape([p, width]))
    }

    fn feature(&self, end: Tensor<2>) -> Tensor<2> {
        self.ln_final.forward(end).matmul(self.projection.val())
    }
}
