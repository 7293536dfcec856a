//! Tensors of either layout to one encoder.

use crate::train::clip::{Block, Dense, Norm, Overrides, beginnings, dense, mlp, norm};
use crate::train::tensors::{TensorError, Tensors};
use ndarray::{Array1, Array2, Axis, concatenate, s};

/// Whose names the tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `blocks.N.attn.qkv`: the authors of DINOv2 and timm.
    Timm,
    /// `encoder.layer.N.attention.attention.query`: Hugging Face's `Dinov2Model`.
    HuggingFace,
}

impl Layout {
    /// The tensor that every file of this layout has, and only those.
    fn anchor(self) -> &'static str {
        match self {
            Layout::Timm => "patch_embed.proj.weight",
            Layout::HuggingFace => "embeddings.patch_embeddings.projection.weight",
        }
    }

    fn names(self) -> Names {
        match self {
            Layout::Timm => Names {
                patch: "patch_embed.proj",
                class: "cls_token",
                positions: "pos_embed",
                registers: &["reg_token", "register_tokens"],
                blocks: "blocks.",
                norm: "norm",
                scales: ["ls1.gamma", "ls2.gamma"],
                out: "attn.proj",
            },
            Layout::HuggingFace => Names {
                patch: "embeddings.patch_embeddings.projection",
                class: "embeddings.cls_token",
                positions: "embeddings.position_embeddings",
                registers: &["embeddings.register_tokens"],
                blocks: "encoder.layer.",
                norm: "layernorm",
                scales: ["layer_scale1.lambda1", "layer_scale2.lambda1"],
                out: "attention.output.dense",
            },
        }
    }
}

struct Names {
    patch: &'static str,
    class: &'static str,
    positions: &'static str,
    registers: &'static [&'static str],
    blocks: &'static str,
    norm: &'static str,
    scales: [&'static str; 2],
    out: &'static str,
}

/// Tensors that change no feature: what classifies pictures, and what training put in place of patches.
const NO_FEATURE: [&str; 5] = [
    "mask_token",
    "embeddings.mask_token",
    "head.",
    "head_dist.",
    "classifier.",
];

/// Names without those that change no feature.
pub fn without_heads(names: Vec<String>) -> Vec<String> {
    let harmless = |name: &String| NO_FEATURE.iter().any(|h| name.starts_with(h));
    names.into_iter().filter(|n| !harmless(n)).collect()
}

/// The tensors of the one encoder in a file, under its layout's own names, and the names of all others.
pub fn find(
    tensors: Tensors,
    overrides: &Overrides,
) -> Result<(Layout, Tensors, Vec<String>), TensorError> {
    let mut roots: Vec<(String, Layout)> = vec![];
    for layout in [Layout::Timm, Layout::HuggingFace] {
        let found = tensors
            .names()
            .filter_map(|n| n.strip_suffix(layout.anchor()));
        let found = found.filter(|r| r.is_empty() || r.ends_with('.'));
        roots.extend(found.map(|r| (r.to_string(), layout)));
    }
    let all = roots.clone();
    if let Some(prefix) = &overrides.prefix {
        roots.retain(|(root, _)| root == prefix || root.strip_suffix('.') == Some(prefix));
    }
    let (root, layout) = match &*roots {
        [one] => one.clone(),
        [] => {
            let place = match &overrides.prefix {
                None => "below any prefix".into(),
                Some(prefix) => match all.first() {
                    Some((root, _)) if root.is_empty() => {
                        format!("below --prefix {prefix} (one is there without a prefix)")
                    }
                    Some((root, _)) => format!("below --prefix {prefix} (one is below `{root}`)"),
                    None => format!("below --prefix {prefix}"),
                },
            };
            return Err(TensorError::File(format!(
                "no ViT without text: looked for `{}` (DINOv2's authors, timm) and `{}` (Hugging Face) {place}; {}; a CLIP belongs to --clip, any other network as ONNX to --encoder",
                Layout::Timm.anchor(),
                Layout::HuggingFace.anchor(),
                beginnings(&tensors)
            )));
        }
        several => {
            let names: Vec<String> = several.iter().map(|(r, _)| format!("`{r}`")).collect();
            return Err(TensorError::File(format!(
                "it holds {} encoders, below {}: choose one with --prefix",
                several.len(),
                names.join(", ")
            )));
        }
    };
    let (tensors, outside) = tensors.below(&root);
    let odd = [
        ("rope", "positions that rotate queries and keys (DINOv3)"),
        ("mlp.w12.", "gated MLPs (DINOv2's giant)"),
        ("mlp.weights_in.", "gated MLPs (DINOv2's giant)"),
        ("norm_pre.", "a normalisation before the first block"),
        (
            "fc_norm.",
            "features that are averaged before they are normalised",
        ),
        (".q_norm.", "normalised queries"),
    ];
    for (part, what) in odd {
        let name = tensors
            .names()
            .find(|n| n.contains(part) && !overrides.ignores(n));
        if let Some(name) = name {
            let what = format!("`{name}`: {what}, which this program does not run");
            return Err(TensorError::File(what));
        }
    }
    Ok((layout, tensors, outside))
}

/// An encoder as its file has it.
pub struct Read {
    pub width: usize,
    pub patch: usize,
    pub grid: usize,
    pub conv1: Array2<f32>,
    pub bias: Array1<f32>,
    pub class_row: Array1<f32>,
    pub positions: Array2<f32>,
    pub registers: Array2<f32>,
    pub blocks: Vec<Block>,
    pub norm: Norm,
    /// Of each block's attention and MLP.
    scales: Vec<[Option<Array1<f32>>; 2]>,
}

impl Read {
    /// y = s * (W x + b) is (s W) x + s b, row by row.
    pub fn fold_layer_scale(&mut self) {
        let scaled = |dense: &mut Dense, scale: &Option<Array1<f32>>| {
            if let Some(scale) = scale {
                dense.weight *= &scale.view().insert_axis(Axis(1));
                dense.bias *= scale;
            }
        };
        for (block, [attention, mlp]) in self.blocks.iter_mut().zip(&self.scales) {
            scaled(&mut block.out, attention);
            scaled(&mut block.proj, mlp);
        }
    }
}

/// `[1, rows, width]`, or without the 1, as rows.
fn rows(t: &Tensors, name: &str, width: usize) -> Result<Array2<f32>, TensorError> {
    let array = t.array(name)?;
    let found = array.shape().to_vec();
    let count = array.len() / width.max(1);
    if found.last() != Some(&width) || found.iter().rev().skip(2).any(|n| *n != 1) {
        return Err(TensorError::Shape {
            name: name.into(),
            found,
            wanted: format!("[1, rows, {width}]"),
        });
    }
    let rows = array.into_shape_with_order((count, width));
    Ok(rows.expect("the same number of elements"))
}

/// Queries, keys and values one below the other; without biases, zeros.
fn qkv(t: &Tensors, layout: Layout, at: &str, width: usize) -> Result<Dense, TensorError> {
    let one = |name: &str, outputs: usize| -> Result<Dense, TensorError> {
        let bias = format!("{name}.bias");
        match t.has(&bias) {
            true => dense(t, name, outputs, width),
            false => Ok(Dense {
                weight: t.matrix(&format!("{name}.weight"), Some(outputs), Some(width))?,
                bias: Array1::zeros(outputs),
            }),
        }
    };
    if layout == Layout::Timm {
        return one(&format!("{at}attn.qkv"), 3 * width);
    }
    let part = |n: &str| one(&format!("{at}attention.attention.{n}"), width);
    let (q, k, v) = (part("query")?, part("key")?, part("value")?);
    let weights = [q.weight.view(), k.weight.view(), v.weight.view()];
    let biases = [q.bias.view(), k.bias.view(), v.bias.view()];
    Ok(Dense {
        weight: concatenate(Axis(0), &weights).expect("equal widths"),
        bias: concatenate(Axis(0), &biases).expect("vectors"),
    })
}

/// Everything that the forward pass uses.
pub fn encoder(t: &Tensors, layout: Layout) -> Result<Read, TensorError> {
    let n = layout.names();
    let kernel_name = format!("{}.weight", n.patch);
    let kernel = t.array(&kernel_name)?;
    let found = kernel.shape().to_vec();
    let (width, patch) = match *found {
        [width, 3, patch, other] if patch == other && patch > 0 && width > 0 => (width, patch),
        _ => {
            return Err(TensorError::Shape {
                name: kernel_name,
                found,
                wanted: "[width, 3, patch, patch]".into(),
            });
        }
    };
    let conv1 = kernel
        .into_shape_with_order((width, 3 * patch * patch))
        .expect("the same number of elements");
    let bias = format!("{}.bias", n.patch);
    let bias = match t.has(&bias) {
        true => t.vector(&bias, width)?,
        false => Array1::zeros(width),
    };
    let mut class_row = rows(t, n.class, width)?.row(0).to_owned();
    let mut positions = rows(t, n.positions, width)?;
    let side = |n: usize| (n > 0 && n.isqrt().pow(2) == n).then_some(n.isqrt());
    // timm's encoders with registers have the class row's position in the class row.
    let grid = match (side(positions.nrows()), side(positions.nrows().max(1) - 1)) {
        (_, Some(grid)) => {
            class_row += &positions.row(0);
            positions = positions.slice(s![1.., ..]).to_owned();
            grid
        }
        (Some(grid), None) => grid,
        (None, None) => {
            return Err(TensorError::Shape {
                name: n.positions.into(),
                found: positions.shape().to_vec(),
                wanted: format!("[1, n * n, {width}], with or without a class row's"),
            });
        }
    };
    let registers = match n.registers.iter().find(|name| t.has(name)) {
        Some(name) => rows(t, name, width)?,
        None => Array2::zeros((0, width)),
    };
    let count = t.count(n.blocks, ".norm1.weight")?;
    if count == 0 {
        return Err(TensorError::Missing(format!("{}0.norm1.weight", n.blocks)));
    }
    let (mut blocks, mut scales) = (vec![], vec![]);
    for i in 0..count {
        let at = format!("{}{i}.", n.blocks);
        blocks.push(Block {
            ln_1: norm(t, &format!("{at}norm1"), width)?,
            qkv: qkv(t, layout, &at, width)?,
            out: dense(t, &format!("{at}{}", n.out), width, width)?,
            ln_2: norm(t, &format!("{at}norm2"), width)?,
            fc: mlp(t, &format!("{at}mlp.fc1"), width)?,
            proj: dense(t, &format!("{at}mlp.fc2"), width, 4 * width)?,
        });
        let mut own = [None, None];
        for (scale, name) in own.iter_mut().zip(n.scales) {
            let name = format!("{at}{name}");
            if t.has(&name) {
                *scale = Some(t.vector(&name, width)?);
            }
        }
        scales.push(own);
    }
    let norm = norm(t, n.norm, width)?;
    for name in t.unread() {
        if NO_FEATURE.iter().any(|h| name.starts_with(h)) {
            t.skip(&name);
        }
    }
    Ok(Read {
        width,
        patch,
        grid,
        conv1,
        bias,
        class_row,
        positions,
        registers,
        blocks,
        norm,
        scales,
    })
}
