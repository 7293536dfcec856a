//! BLIP's two encoders: a pre-norm ViT without a normalisation before its first block, and BERT, whose blocks
//! normalise after each sum.

use crate::bundle::manifest::ActivationKind;
use crate::train::clip::{self, dense, norm};
use crate::train::nn::layers::{Block, Dense, Maker, Norm, join, split, tensor, unit};
use crate::train::tensors::{TensorError, Tensors};
use burn::module::{Module, Param};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Int, Tensor, TensorData};
use ndarray::{Array1, Array2, Axis, concatenate};

/// What no tensor says of an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Attention heads.
    pub heads: usize,
    /// What its normalisations add to the variance.
    pub epsilon: f32,
}

impl Sizes {
    fn fit(self, width: usize, which: &str) -> Result<(), TensorError> {
        match self.heads > 0 && width.is_multiple_of(self.heads) {
            true => Ok(()),
            false => Err(TensorError::File(format!(
                "{} attention heads of a {which} encoder {width} wide",
                self.heads
            ))),
        }
    }
}

/// A dense layer of as many outputs as its weight has.
fn any(t: &Tensors, name: &str, inputs: usize) -> Result<clip::Dense, TensorError> {
    let weight = format!("{name}.weight");
    let outputs = t.shape(&weight)?.first().copied().unwrap_or(0);
    dense(t, name, outputs, inputs)
}

/// [1, rows, width] or [rows, width] as rows.
fn rows(t: &Tensors, name: &str, width: usize) -> Result<Array2<f32>, TensorError> {
    let array = t.array(name)?;
    let found = array.shape().to_vec();
    let count = array.len() / width.max(1);
    let wrong = |_| TensorError::Shape {
        name: name.into(),
        found,
        wanted: format!("[1, rows, {width}]"),
    };
    array.into_shape_with_order((count, width)).map_err(wrong)
}

/// The image encoder's tensors that pictures of any size share.
pub struct VisionFile {
    /// Channels of a token.
    pub width: usize,
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Patches per side that the positions are for.
    pub grid: usize,
    sizes: Sizes,
    /// [width, 3 * patch * patch].
    conv1: clip::Dense,
    class: Array1<f32>,
    /// [1 + grid * grid, width].
    positions: Array2<f32>,
    blocks: Vec<clip::Block>,
    post: clip::Norm,
    proj: clip::Dense,
}

impl VisionFile {
    /// Reads it.
    ///
    /// # Errors
    /// [`TensorError`] that names the tensor.
    pub fn read(t: &Tensors, sizes: Sizes) -> Result<VisionFile, TensorError> {
        let at = "vision_model.embeddings";
        let name = format!("{at}.patch_embedding");
        let kernel = t.array(&format!("{name}.weight"))?;
        let (width, patch) = match *kernel.shape() {
            [width, 3, patch, other] if patch == other && patch > 0 && width > 0 => (width, patch),
            _ => {
                return Err(TensorError::Shape {
                    name: format!("{name}.weight"),
                    found: kernel.shape().to_vec(),
                    wanted: "[width, 3, patch, patch]".into(),
                });
            }
        };
        sizes.fit(width, "image")?;
        let conv1 = clip::Dense {
            weight: kernel
                .into_shape_with_order((width, 3 * patch * patch))
                .expect("the same number of elements"),
            bias: t.vector(&format!("{name}.bias"), width)?,
        };
        let positions = rows(t, &format!("{at}.position_embedding"), width)?;
        let grid = positions.nrows().saturating_sub(1).isqrt();
        if grid == 0 || grid * grid + 1 != positions.nrows() {
            return Err(TensorError::Shape {
                name: format!("{at}.position_embedding"),
                found: positions.shape().to_vec(),
                wanted: format!("[1, 1 + n * n, {width}]"),
            });
        }
        let stem = "vision_model.encoder.layers.";
        let count = t.count(stem, ".layer_norm1.weight")?;
        let blocks = (0..count).map(|i| {
            let at = |n: &str| format!("{stem}{i}.{n}");
            let fc = any(t, &at("mlp.fc1"), width)?;
            let hidden = fc.bias.len();
            Ok(clip::Block {
                ln_1: norm(t, &at("layer_norm1"), width)?,
                qkv: dense(t, &at("self_attn.qkv"), 3 * width, width)?,
                out: dense(t, &at("self_attn.projection"), width, width)?,
                ln_2: norm(t, &at("layer_norm2"), width)?,
                fc,
                proj: dense(t, &at("mlp.fc2"), width, hidden)?,
            })
        });
        let blocks = blocks.collect::<Result<Vec<_>, TensorError>>()?;
        if blocks.is_empty() {
            return Err(TensorError::Missing(format!("{stem}0.layer_norm1.weight")));
        }
        Ok(VisionFile {
            width,
            patch,
            grid,
            sizes,
            conv1,
            class: rows(t, &format!("{at}.class_embedding"), width)?
                .row(0)
                .to_owned(),
            positions,
            blocks,
            post: norm(t, "vision_model.post_layernorm", width)?,
            proj: any(t, "vision_proj", width)?,
        })
    }

    /// Channels of the joint space.
    pub fn joint(&self) -> usize {
        self.proj.bias.len()
    }

    /// The encoder for pictures of `grid` patches a side; positions are resized as the library does.
    pub fn tower(&self, grid: usize, m: &mut Maker) -> Vision {
        use crate::bundle::method::Positions;
        let patches = self.positions.slice(ndarray::s![1.., ..]);
        let patches = clip::resized(patches, self.grid, grid, Positions::Bicubic);
        let first = self.positions.slice(ndarray::s![..1, ..]);
        let positions = concatenate(Axis(0), &[first, patches.view()]).expect("rows of one width");
        let class = tensor::<1, _>(&self.class, m.device).reshape([1, self.width]);
        let positions = tensor(&positions, m.device);
        let Sizes { heads, epsilon } = self.sizes;
        Vision {
            conv1: Dense::new(&self.conv1, m),
            class: m.param(class),
            positions: m.param(positions),
            blocks: self
                .blocks
                .iter()
                .map(|b| Block::new(b, heads, epsilon, ActivationKind::Gelu, m))
                .collect(),
            post: Norm::new(&self.post, epsilon, m),
            proj: Dense::new(&self.proj, m),
        }
    }
}

/// The image encoder.
#[derive(Module, Debug)]
pub struct Vision {
    conv1: Dense,
    class: Param<Tensor<2>>,
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    post: Norm,
    proj: Dense,
}

impl Vision {
    /// Patches [1, N, 3 * patch * patch] in (channel, y, x) order to unit features in the joint space
    /// [1 + N, C]: of the class row and of each patch.
    pub fn features(&self, patches: Tensor<3>) -> Tensor<2> {
        let [_, n, _] = patches.dims();
        let width = self.class.val().dims()[1];
        let class = self.class.val().reshape([1, 1, width]);
        let mut x = Tensor::cat(vec![class, self.conv1.forward(patches)], 1)
            + self.positions.val().unsqueeze_dim(0);
        for block in &self.blocks {
            let [q, k, v] = block.heads_of(x.clone());
            x = block.mlp(x + block.attend(q, k, v, None));
        }
        let rows = self.post.forward(x).reshape([1 + n, width]);
        unit(self.proj.rows(rows))
    }
}

/// A block of BERT.
#[derive(Module, Debug)]
struct TextBlock {
    qkv: Dense,
    out: Dense,
    ln_1: Norm,
    fc: Dense,
    proj: Dense,
    ln_2: Norm,
}

/// The text encoder.
#[derive(Module, Debug)]
pub struct Text {
    embedding: Param<Tensor<2>>,
    positions: Param<Tensor<2>>,
    first: Norm,
    blocks: Vec<TextBlock>,
    proj: Dense,
    heads: usize,
}

impl Text {
    /// Reads it, for a joint space of `joint` dimensions.
    ///
    /// # Errors
    /// [`TensorError`] that names the tensor.
    pub fn read(
        t: &Tensors,
        sizes: Sizes,
        joint: usize,
        m: &mut Maker,
    ) -> Result<Text, TensorError> {
        let at = "text_encoder.embeddings";
        let embedding = t.matrix(&format!("{at}.word_embeddings.weight"), None, None)?;
        let width = embedding.ncols();
        sizes.fit(width, "text")?;
        let Sizes { heads, epsilon } = sizes;
        let positions = t.matrix(
            &format!("{at}.position_embeddings.weight"),
            None,
            Some(width),
        )?;
        let first = norm(t, &format!("{at}.LayerNorm"), width)?;
        let stem = "text_encoder.encoder.layer.";
        let count = t.count(stem, ".attention.self.query.weight")?;
        if count == 0 {
            return Err(TensorError::Missing(format!(
                "{stem}0.attention.self.query.weight"
            )));
        }
        let mut blocks = vec![];
        for i in 0..count {
            let at = |n: &str| format!("{stem}{i}.{n}");
            let part = |n: &str| dense(t, &at(&format!("attention.self.{n}")), width, width);
            let (q, k, v) = (part("query")?, part("key")?, part("value")?);
            let weights = [q.weight.view(), k.weight.view(), v.weight.view()];
            let biases = [q.bias.view(), k.bias.view(), v.bias.view()];
            let qkv = clip::Dense {
                weight: concatenate(Axis(0), &weights).expect("equal widths"),
                bias: concatenate(Axis(0), &biases).expect("vectors"),
            };
            let fc = any(t, &at("intermediate.dense"), width)?;
            let hidden = fc.bias.len();
            blocks.push(TextBlock {
                qkv: Dense::new(&qkv, m),
                out: Dense::new(&dense(t, &at("attention.output.dense"), width, width)?, m),
                ln_1: Norm::new(
                    &norm(t, &at("attention.output.LayerNorm"), width)?,
                    epsilon,
                    m,
                ),
                fc: Dense::new(&fc, m),
                proj: Dense::new(&dense(t, &at("output.dense"), width, hidden)?, m),
                ln_2: Norm::new(&norm(t, &at("output.LayerNorm"), width)?, epsilon, m),
            });
        }
        let embedding = tensor(&embedding, m.device);
        let positions = tensor(&positions, m.device);
        Ok(Text {
            embedding: m.param(embedding),
            positions: m.param(positions),
            first: Norm::new(&first, epsilon, m),
            blocks,
            proj: Dense::new(&dense(t, "text_proj", joint, width)?, m),
            heads,
        })
    }

    /// Tokens that it numbers, and the longest text.
    pub fn limits(&self) -> (usize, usize) {
        (
            self.embedding.val().dims()[0],
            self.positions.val().dims()[0],
        )
    }

    /// A text's tokens to the unit feature of the first one in the joint space, [1, C].
    pub fn feature(&self, ids: &[usize]) -> Tensor<2> {
        let device = self.embedding.val().device();
        let n = ids.len();
        let at: Vec<i64> = ids.iter().map(|id| *id as i64).collect();
        let at = Tensor::<1, Int>::from_data(TensorData::new::<i64, _>(at, [n]), &device);
        let words = self.embedding.val().select(0, at);
        let placed = words + self.positions.val().narrow(0, 0, n);
        let mut x = self.first.forward(placed).unsqueeze_dim::<3>(0);
        let width = x.dims()[2];
        for block in &self.blocks {
            let qkv = block.qkv.forward(x.clone());
            let [q, k, v] =
                [0, 1, 2].map(|i| split(qkv.clone().narrow(2, i * width, width), self.heads));
            let scale = ((width / self.heads) as f64).powf(-0.5);
            let weights = softmax(q.mul_scalar(scale).matmul(k.transpose()), 3);
            x = block
                .ln_1
                .forward(x + block.out.forward(join(weights.matmul(v))));
            let hidden = gelu(block.fc.forward(x.clone()));
            x = block.ln_2.forward(x + block.proj.forward(hidden));
        }
        unit(self.proj.rows(x.narrow(1, 0, 1).reshape([1, width])))
    }
}
