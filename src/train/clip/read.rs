//! Tensors of either layout to the two encoders.

use super::layout::Layout;
use super::{Block, Dense, Norm, Text, Visual};
use crate::ops::layer_norm::EPSILON;
use crate::train::tensors::{TensorError, Tensors};
use ndarray::{Axis, concatenate};

/// A normalisation of `width` channels.
pub fn norm(t: &Tensors, name: &str, width: usize) -> Result<Norm, TensorError> {
    Ok(Norm {
        weight: t.vector(&format!("{name}.weight"), width)?,
        bias: t.vector(&format!("{name}.bias"), width)?,
    })
}

/// A dense layer.
pub fn dense(t: &Tensors, name: &str, outputs: usize, inputs: usize) -> Result<Dense, TensorError> {
    Ok(Dense {
        weight: t.matrix(&format!("{name}.weight"), Some(outputs), Some(inputs))?,
        bias: t.vector(&format!("{name}.bias"), outputs)?,
    })
}

/// The first layer of an MLP; the device's are four times as wide as the encoder.
pub fn mlp(t: &Tensors, name: &str, width: usize) -> Result<Dense, TensorError> {
    let weight = format!("{name}.weight");
    match t.shape(&weight)?.first() {
        Some(hidden) if *hidden != 4 * width => Err(TensorError::File(format!(
            "`{weight}`: MLPs of {hidden} channels in an encoder of {width} (mlp_ratio, intermediate_size); only 4 x {width} is supported"
        ))),
        _ => dense(t, name, 4 * width, width),
    }
}

fn block(
    t: &Tensors,
    layout: Layout,
    prefix: &str,
    i: usize,
    width: usize,
) -> Result<Block, TensorError> {
    match layout {
        Layout::OpenAi => {
            let at = |n: &str| format!("{prefix}transformer.resblocks.{i}.{n}");
            Ok(Block {
                ln_1: norm(t, &at("ln_1"), width)?,
                qkv: Dense {
                    weight: t.matrix(&at("attn.in_proj_weight"), Some(3 * width), Some(width))?,
                    bias: t.vector(&at("attn.in_proj_bias"), 3 * width)?,
                },
                out: dense(t, &at("attn.out_proj"), width, width)?,
                ln_2: norm(t, &at("ln_2"), width)?,
                fc: mlp(t, &at("mlp.c_fc"), width)?,
                proj: dense(t, &at("mlp.c_proj"), width, 4 * width)?,
            })
        }
        Layout::HuggingFace => {
            let at = |n: &str| format!("{prefix}encoder.layers.{i}.{n}");
            let part = |n: &str| dense(t, &at(&format!("self_attn.{n}_proj")), width, width);
            let (q, k, v) = (part("q")?, part("k")?, part("v")?);
            let weight = concatenate(
                Axis(0),
                &[q.weight.view(), k.weight.view(), v.weight.view()],
            );
            let bias = concatenate(Axis(0), &[q.bias.view(), k.bias.view(), v.bias.view()]);
            Ok(Block {
                ln_1: norm(t, &at("layer_norm1"), width)?,
                qkv: Dense {
                    weight: weight.expect("equal widths"),
                    bias: bias.expect("vectors"),
                },
                out: part("out")?,
                ln_2: norm(t, &at("layer_norm2"), width)?,
                fc: mlp(t, &at("mlp.fc1"), width)?,
                proj: dense(t, &at("mlp.fc2"), width, 4 * width)?,
            })
        }
    }
}

fn blocks(
    t: &Tensors,
    layout: Layout,
    prefix: &str,
    width: usize,
) -> Result<Vec<Block>, TensorError> {
    let (stem, first) = match layout {
        Layout::OpenAi => (format!("{prefix}transformer.resblocks."), ".ln_1.weight"),
        Layout::HuggingFace => (format!("{prefix}encoder.layers."), ".layer_norm1.weight"),
    };
    let count = t.count(&stem, first)?;
    if count == 0 {
        return Err(TensorError::Missing(format!("{stem}0{first}")));
    }
    (0..count)
        .map(|i| block(t, layout, prefix, i, width))
        .collect()
}

impl Visual {
    /// The image encoder; its heads and epsilon are the caller's to say.
    pub(super) fn read(t: &Tensors, layout: Layout) -> Result<Visual, TensorError> {
        let (conv, class, positions, ln_pre, ln_post, prefix) = match layout {
            Layout::OpenAi => (
                "visual.conv1.weight",
                "visual.class_embedding",
                "visual.positional_embedding",
                "visual.ln_pre",
                "visual.ln_post",
                "visual.",
            ),
            Layout::HuggingFace => (
                "vision_model.embeddings.patch_embedding.weight",
                "vision_model.embeddings.class_embedding",
                "vision_model.embeddings.position_embedding.weight",
                "vision_model.pre_layrnorm",
                "vision_model.post_layernorm",
                "vision_model.",
            ),
        };
        let kernel = t.array(conv)?;
        let found = kernel.shape().to_vec();
        let [width, 3, patch, other] = *found else {
            return Err(TensorError::Shape {
                name: conv.into(),
                found,
                wanted: "[width, 3, patch, patch]".into(),
            });
        };
        if patch != other || patch == 0 || width == 0 {
            return Err(TensorError::Shape {
                name: conv.into(),
                found,
                wanted: "[width, 3, patch, patch]".into(),
            });
        }
        let conv1 = kernel
            .into_shape_with_order((width, 3 * patch * patch))
            .expect("the same number of elements");
        let positions_name = positions;
        let positions = t.matrix(positions, None, Some(width))?;
        let grid = (positions.nrows() - 1).isqrt();
        if grid == 0 || grid * grid + 1 != positions.nrows() {
            let found = positions.shape().to_vec();
            return Err(TensorError::Shape {
                name: positions_name.into(),
                found,
                wanted: format!("[1 + n * n, {width}]"),
            });
        }
        let proj = match layout {
            Layout::OpenAi => t.matrix("visual.proj", Some(width), None)?.reversed_axes(),
            Layout::HuggingFace => t.matrix("visual_projection.weight", None, Some(width))?,
        };
        Ok(Visual {
            width,
            heads: 1,
            epsilon: EPSILON,
            patch,
            grid,
            conv1,
            class: t.vector(class, width)?,
            positions,
            ln_pre: norm(t, ln_pre, width)?,
            blocks: blocks(t, layout, prefix, width)?,
            ln_post: norm(t, ln_post, width)?,
            proj: proj.as_standard_layout().into_owned(),
        })
    }
}

impl Text {
    /// The text encoder; its heads and epsilon are the caller's to say.
    pub(super) fn read(t: &Tensors, layout: Layout) -> Result<Text, TensorError> {
        let (embedding, positions, ln_final, prefix) = match layout {
            Layout::OpenAi => (
                "token_embedding.weight",
                "positional_embedding",
                "ln_final",
                "",
            ),
            Layout::HuggingFace => (
                "text_model.embeddings.token_embedding.weight",
                "text_model.embeddings.position_embedding.weight",
                "text_model.final_layer_norm",
                "text_model.",
            ),
        };
        let positions = t.matrix(positions, None, None)?;
        let width = positions.ncols();
        let embedding = if t.has(embedding) {
            Some(t.matrix(embedding, None, Some(width))?)
        } else {
            None
        };
        let projection = match layout {
            Layout::OpenAi => t
                .matrix("text_projection", Some(width), None)?
                .reversed_axes(),
            Layout::HuggingFace => t.matrix("text_projection.weight", None, Some(width))?,
        };
        Ok(Text {
            width,
            heads: 1,
            epsilon: EPSILON,
            embedding,
            positions,
            blocks: blocks(t, layout, prefix, width)?,
            ln_final: norm(t, ln_final, width)?,
            projection: projection.as_standard_layout().into_owned(),
        })
    }
}
