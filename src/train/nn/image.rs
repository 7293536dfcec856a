//! CLIP's image tower with the V-V stream.

mod taps;

use super::layers::{Block, Maker, Norm, matrix, tensor, values};
use crate::bundle::manifest::ActivationKind;
use crate::train::clip::Visual;
use burn::module::{Module, Param, ParamId};
use burn::tensor::Tensor;
use ndarray::{Array1, Array2};

/// The tower; takes pictures cut into patches.
#[derive(Module, Debug)]
pub struct ImageTower {
    conv1: Param<Tensor<2>>,
    class: Param<Tensor<2>>,
    /// [1 + grid * grid, width].
    positions: Param<Tensor<2>>,
    ln_pre: Norm,
    blocks: Vec<Block>,
    ln_post: Norm,
    proj: Param<Tensor<2>>,
    vv_layers: usize,
}

impl ImageTower {
    /// From arrays, for pictures of `grid` patches a side; the last `vv_layers` blocks carry the V-V stream.
    pub fn new(
        from: &Visual,
        activation: ActivationKind,
        grid: usize,
        vv_layers: usize,
        m: &mut Maker,
    ) -> ImageTower {
        let positions = from.positions_for(grid);
        ImageTower::with_positions(from, &positions, activation, vv_layers, m)
    }

    /// The same with positions [1 + grid * grid, width] that were resized elsewhere.
    pub fn with_positions(
        from: &Visual,
        positions: &Array2<f32>,
        activation: ActivationKind,
        vv_layers: usize,
        m: &mut Maker,
    ) -> ImageTower {
        let device = m.device;
        ImageTower {
            conv1: m.param(tensor(&from.conv1.t().to_owned(), device)),
            class: m.param(tensor::<1, _>(&from.class, device).reshape([1, from.width])),
            positions: m.param(tensor(positions, device)),
            ln_pre: Norm::new(&from.ln_pre, from.epsilon, m),
            blocks: from
                .blocks
                .iter()
                .map(|b| Block::new(b, from.heads, from.epsilon, activation, m))
                .collect(),
            ln_post: Norm::new(&from.ln_post, from.epsilon, m),
            proj: m.param(tensor(&from.proj.t().to_owned(), device)),
            vv_layers: vv_layers.min(from.blocks.len()),
        }
    }

    /// The tower's numbers as arrays, for what `from` says of its patches.
    pub fn export(&self, from: &Visual) -> Visual {
        Visual {
            conv1: matrix(&self.conv1.val().transpose()),
            class: Array1::from(values(&self.class.val())),
            positions: matrix(&self.positions.val()),
            ln_pre: self.ln_pre.export(),
            blocks: self.blocks.iter().map(Block::export).collect(),
            ln_post: self.ln_post.export(),
            proj: matrix(&self.proj.val().transpose()),
            ..*from
        }
    }

    /// The embeddings, which weight decay leaves alone though they lie in matrices.
    pub fn embeddings(&self) -> [ParamId; 2] {
        [self.class.id, self.positions.id]
    }

    /// Patches to the rows that the first block gets, [B, 1 + N, width]; `resize` [1 + N, 1 + n] makes their positions
    /// of those that the tower has.
    fn embed(&self, patches: Tensor<3>, resize: Option<&Tensor<2>>) -> Tensor<3> {
        let [b, n, pixels] = patches.dims();
        let width = self.class.val().dims()[1];
        let embedded = patches
            .reshape([b * n, pixels])
            .matmul(self.conv1.val())
            .reshape([b, n, width]);
        let class = self
            .class
            .val()
            .reshape([1, 1, width])
            .expand([b, 1, width]);
        let positions = match resize {
            Some(resize) => resize.clone().matmul(self.positions.val()),
            None => self.positions.val(),
        };
        let x = Tensor::cat(vec![class, embedded], 1) + positions.unsqueeze_dim(0);
        self.ln_pre.forward(x)
    }

    /// Patches [B, N, 3 * patch * patch] in (channel, y, x) order, normalised as CLIP's pictures, to raw
    /// patch features [B, N, C] and raw image features [B, C].
    ///
    /// # Panics
    /// If N is not the number of patches that the tower has positions for.
    pub fn forward(&self, patches: Tensor<3>) -> (Tensor<3>, Tensor<2>) {
        let [b, n, _] = patches.dims();
        let width = self.class.val().dims()[1];
        let mut x = self.embed(patches, None);
        let first_vv = self.blocks.len() - self.vv_layers;
        let mut y = x.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            let [q, k, v] = block.heads_of(x.clone());
            if i >= first_vv {
                if i == first_vv {
                    y = x.clone();
                }
                y = y + block.attend(v.clone(), v.clone(), v.clone(), None);
            }
            // After the last block only the class row of x is looked at.
            let last = i + 1 == self.blocks.len();
            let (q, rows) = if last {
                (q.narrow(2, 0, 1), x.narrow(1, 0, 1))
            } else {
                (q, x)
            };
            x = block.mlp(rows + block.attend(q, k, v, None));
        }
        let c = self.proj.val().dims()[1];
        let y = self.ln_post.forward(y.narrow(1, 1, n));
        let patches = y
            .reshape([b * n, width])
            .matmul(self.proj.val())
            .reshape([b, n, c]);
        // Without ln_post, as the published code does.
        let image = x.reshape([b, width]).matmul(self.proj.val());
        (patches, image)
    }
}

/// Cuts a normalised picture [3, S, S] into patches [N, 3 * patch * patch], (channel, y, x) order.
pub fn cut(picture: &[f32], side: usize, patch: usize, out: &mut Vec<f32>) {
    let grid = side / patch;
    for gy in 0..grid {
        for gx in 0..grid {
            for c in 0..3 {
                for y in 0..patch {
                    let at = (c * side + gy * patch + y) * side + gx * patch;
                    out.extend_from_slice(&picture[at..at + patch]);
                }
            }
        }
    }
}
