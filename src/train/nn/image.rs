//! The image tower: CLIP's with the V-V stream, or one without text.

mod taps;

use super::layers::{Block, Maker, Norm, matrix, tensor, values};
use crate::bundle::manifest::ActivationKind;
use crate::train::backbone::Backbone;
use crate::train::clip::Visual;
use burn::module::{Module, Param, ParamId};
use burn::tensor::Tensor;
use ndarray::{Array1, Array2, s};

/// The tower; takes pictures cut into patches.
#[derive(Module, Debug)]
pub struct ImageTower {
    conv1: Param<Tensor<2>>,
    class: Param<Tensor<2>>,
    /// [1 + grid * grid, width].
    positions: Param<Tensor<2>>,
    /// [registers, width], behind the patches in every block; only towers without text have them.
    registers: Option<Param<Tensor<2>>>,
    /// Towers without text have none.
    ln_pre: Option<Norm>,
    blocks: Vec<Block>,
    ln_post: Norm,
    /// To the space of the texts, [width, C]; towers without text have none.
    proj: Option<Param<Tensor<2>>>,
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
            registers: None,
            ln_pre: Some(Norm::new(&from.ln_pre, from.epsilon, m)),
            blocks: from
                .blocks
                .iter()
                .map(|b| Block::new(b, from.heads, from.epsilon, activation, m))
                .collect(),
            ln_post: Norm::new(&from.ln_post, from.epsilon, m),
            proj: Some(m.param(tensor(&from.proj.t().to_owned(), device))),
            vv_layers: vv_layers.min(from.blocks.len()),
        }
    }

    /// An image encoder without text, with positions `[grid * grid, width]` of its patches (the patches' bias
    /// included) that were resized elsewhere. It has no V-V stream, and no rows in a space of texts.
    pub fn without_text(from: &Backbone, positions: &Array2<f32>, m: &mut Maker) -> ImageTower {
        let (device, width) = (m.device, from.width);
        let mut all = Array2::zeros((1 + positions.nrows(), width));
        // The class row has its position in it.
        all.slice_mut(s![1.., ..]).assign(positions);
        let registers = match from.registers.nrows() {
            0 => None,
            _ => Some(m.param(tensor(&from.registers, device))),
        };
        ImageTower {
            conv1: m.param(tensor(&from.conv1.t().to_owned(), device)),
            class: m.param(tensor::<1, _>(&from.class_row, device).reshape([1, width])),
            positions: m.param(tensor(&all, device)),
            registers,
            ln_pre: None,
            blocks: from
                .blocks
                .iter()
                .map(|b| Block::new(b, from.heads, from.epsilon, ActivationKind::Gelu, m))
                .collect(),
            ln_post: Norm::new(&from.norm, from.epsilon, m),
            proj: None,
            vv_layers: 0,
        }
    }

    /// The projection to the space of the texts.
    fn proj(&self) -> Tensor<2> {
        let proj = self.proj.as_ref();
        proj.expect("a tower beside a text tower").val()
    }

    /// The tower's numbers as arrays, for what `from` says of its patches.
    ///
    /// # Panics
    /// If it is a tower without text.
    pub fn export(&self, from: &Visual) -> Visual {
        Visual {
            conv1: matrix(&self.conv1.val().transpose()),
            class: Array1::from(values(&self.class.val())),
            positions: matrix(&self.positions.val()),
            ln_pre: self.ln_pre.as_ref().expect("a CLIP's tower").export(),
            blocks: self.blocks.iter().map(Block::export).collect(),
            ln_post: self.ln_post.export(),
            proj: matrix(&self.proj().transpose()),
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
        match &self.ln_pre {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// Patches [B, N, 3 * patch * patch] in (channel, y, x) order, normalised as CLIP's pictures, to raw
    /// patch features [B, N, C] and raw image features [B, C].
    ///
    /// # Panics
    /// If N is not the number of patches that the tower has positions for, and for a tower without text.
    pub fn forward(&self, patches: Tensor<3>) -> (Tensor<3>, Tensor<2>) {
        let (patches, class) = self.before_last_mlp(patches);
        let last = self.blocks.last().expect("at least one block");
        // Without ln_post, as the published code does.
        (patches, image_feature(last, self.proj(), class))
    }

    /// The same up to the last block's MLP, which nothing but the image feature passes: raw patch features [B, N, C], and
    /// the class row behind the last attention, [B, width].
    ///
    /// # Panics
    /// As [`ImageTower::forward`].
    pub fn before_last_mlp(&self, patches: Tensor<3>) -> (Tensor<3>, Tensor<2>) {
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
            x = rows + block.attend(q, k, v, None);
            if !last {
                x = block.mlp(x);
            }
        }
        let c = self.proj().dims()[1];
        let y = self.ln_post.forward(y.narrow(1, 1, n));
        let patches = y
            .reshape([b * n, width])
            .matmul(self.proj())
            .reshape([b, n, c]);
        (patches, x.reshape([b, width]))
    }
}

/// What a tower's last block makes of class rows [B, width] behind its attention, in the space of the texts: raw image
/// features [B, C].
pub fn image_feature(last: &Block, proj: Tensor<2>, class: Tensor<2>) -> Tensor<2> {
    let [b, width] = class.dims();
    let x = last.mlp(class.reshape([b, 1, width]));
    x.reshape([b, width]).matmul(proj)
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
