//! CLIP weights in the layouts that people have, made one.
//!
//! OpenAI's names (safetensors, `.pt` state dict, `.pt` TorchScript), Hugging Face's `CLIPModel` folder,
//! open_clip's folder. All sizes come from the weights; the configuration files add only what weights
//! cannot tell: the number of heads and the activation.

mod positions;
mod save;

use super::TrainError;
use super::tensors::{TensorError, Tensors, VV_LAYERS};
use crate::bundle::manifest::ActivationKind;
use ndarray::{Array1, Array2, Axis, concatenate, s};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Scale and shift of a normalisation, [width] each.
#[derive(Clone)]
pub struct Norm {
    /// Scale.
    pub weight: Array1<f32>,
    /// Shift.
    pub bias: Array1<f32>,
}

/// A dense layer: weight [outputs, inputs], bias [outputs].
#[derive(Clone)]
pub struct Dense {
    /// [outputs, inputs].
    pub weight: Array2<f32>,
    /// [outputs].
    pub bias: Array1<f32>,
}

/// A pre-norm transformer block.
#[derive(Clone)]
pub struct Block {
    /// Before the attention.
    pub ln_1: Norm,
    /// Queries, keys and values one below the other, [3 * width, width].
    pub qkv: Dense,
    /// Output projection.
    pub out: Dense,
    /// Before the MLP.
    pub ln_2: Norm,
    /// [4 * width, width].
    pub fc: Dense,
    /// [width, 4 * width].
    pub proj: Dense,
}

/// The image encoder.
pub struct Visual {
    /// Channels.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Patches per side that the positions are for.
    pub grid: usize,
    /// [width, 3 * patch * patch], columns in (channel, y, x) order.
    pub conv1: Array2<f32>,
    /// [width].
    pub class: Array1<f32>,
    /// [1 + grid * grid, width].
    pub positions: Array2<f32>,
    /// Before the first block.
    pub ln_pre: Norm,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub ln_post: Norm,
    /// [C, width].
    pub proj: Array2<f32>,
}

/// The text encoder.
pub struct Text {
    /// Channels.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// [vocabulary, width]; absent in trimmed files.
    pub embedding: Option<Array2<f32>>,
    /// [context, width].
    pub positions: Array2<f32>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub ln_final: Norm,
    /// [C, width].
    pub projection: Array2<f32>,
}

/// A CLIP.
pub struct Clip {
    /// Where it was read.
    pub path: PathBuf,
    /// SHA-256 of the weight file.
    pub digest: String,
    /// Whether the file says that its numbers were never trained.
    pub untrained: bool,
    /// The MLPs' activation.
    pub activation: ActivationKind,
    /// Blocks with the V-V stream, if the weights were trained with it.
    pub vv_layers: Option<usize>,
    /// The logarithm of what cosines are multiplied by, if the file has it.
    pub logit_scale: Option<f32>,
    /// The image encoder.
    pub visual: Visual,
    /// The text encoder.
    pub text: Text,
}

/// What only configuration files tell.
#[derive(Default)]
struct Hints {
    visual_heads: Option<usize>,
    text_heads: Option<usize>,
    activation: ActivationKind,
}

#[derive(Deserialize)]
struct HuggingFace {
    #[serde(default)]
    vision_config: HuggingFaceTower,
    #[serde(default)]
    text_config: HuggingFaceTower,
}

#[derive(Deserialize)]
#[serde(default)]
struct HuggingFaceTower {
    num_attention_heads: Option<usize>,
    hidden_act: String,
}

impl Default for HuggingFaceTower {
    fn default() -> Self {
        // transformers' CLIPVisionConfig and CLIPTextConfig leave defaults out of the file.
        HuggingFaceTower {
            num_attention_heads: None,
            hidden_act: "quick_gelu".into(),
        }
    }
}

#[derive(Deserialize)]
struct OpenClip {
    model_cfg: OpenClipModel,
}

#[derive(Deserialize)]
struct OpenClipModel {
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: OpenClipVision,
    text_cfg: OpenClipText,
}

#[derive(Deserialize)]
struct OpenClipVision {
    head_width: Option<usize>,
    width: Option<usize>,
}

#[derive(Deserialize)]
struct OpenClipText {
    heads: Option<usize>,
}

/// Names of one tower's tensors.
enum Names {
    /// `transformer.resblocks.N.…`, fused projection.
    OpenAi,
    /// `encoder.layers.N.…`, three projections.
    HuggingFace,
}

fn norm(t: &Tensors, name: &str, width: usize) -> Result<Norm, TensorError> {
    Ok(Norm {
        weight: t.vector(&format!("{name}.weight"), width)?,
        bias: t.vector(&format!("{name}.bias"), width)?,
    })
}

fn dense(t: &Tensors, name: &str, outputs: usize, inputs: usize) -> Result<Dense, TensorError> {
    Ok(Dense {
        weight: t.matrix(&format!("{name}.weight"), Some(outputs), Some(inputs))?,
        bias: t.vector(&format!("{name}.bias"), outputs)?,
    })
}

fn block(
    t: &Tensors,
    names: &Names,
    prefix: &str,
    i: usize,
    width: usize,
) -> Result<Block, TensorError> {
    match names {
        Names::OpenAi => {
            let at = |n: &str| format!("{prefix}transformer.resblocks.{i}.{n}");
            Ok(Block {
                ln_1: norm(t, &at("ln_1"), width)?,
                qkv: Dense {
                    weight: t.matrix(&at("attn.in_proj_weight"), Some(3 * width), Some(width))?,
                    bias: t.vector(&at("attn.in_proj_bias"), 3 * width)?,
                },
                out: dense(t, &at("attn.out_proj"), width, width)?,
                ln_2: norm(t, &at("ln_2"), width)?,
                fc: dense(t, &at("mlp.c_fc"), 4 * width, width)?,
                proj: dense(t, &at("mlp.c_proj"), width, 4 * width)?,
            })
        }
        Names::HuggingFace => {
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
                fc: dense(t, &at("mlp.fc1"), 4 * width, width)?,
                proj: dense(t, &at("mlp.fc2"), width, 4 * width)?,
            })
        }
    }
}

fn blocks(
    t: &Tensors,
    names: &Names,
    prefix: &str,
    width: usize,
) -> Result<Vec<Block>, TensorError> {
    let (stem, first) = match names {
        Names::OpenAi => (format!("{prefix}transformer.resblocks."), ".ln_1.weight"),
        Names::HuggingFace => (format!("{prefix}encoder.layers."), ".layer_norm1.weight"),
    };
    let count = t.count(&stem, first)?;
    if count == 0 {
        return Err(TensorError::Missing(format!("{stem}0{first}")));
    }
    (0..count)
        .map(|i| block(t, names, prefix, i, width))
        .collect()
}

/// The number of heads: from the configuration, or 64 channels each, as in every CLIP of OpenAI.
fn heads(width: usize, hint: Option<usize>, tower: &str) -> Result<usize, TensorError> {
    let heads = hint.unwrap_or((width / 64).max(1));
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(TensorError::File(format!(
            "the {tower} encoder is {width} wide, which is no multiple of {heads} heads"
        )));
    }
    Ok(heads)
}

impl Visual {
    fn read(t: &Tensors, names: &Names, hint: Option<usize>) -> Result<Visual, TensorError> {
        let (conv, class, positions, ln_pre, ln_post, prefix) = match names {
            Names::OpenAi => (
                "visual.conv1.weight",
                "visual.class_embedding",
                "visual.positional_embedding",
                "visual.ln_pre",
                "visual.ln_post",
                "visual.",
            ),
            Names::HuggingFace => (
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
        let proj = match names {
            Names::OpenAi => t.matrix("visual.proj", Some(width), None)?.reversed_axes(),
            Names::HuggingFace => t.matrix("visual_projection.weight", None, Some(width))?,
        };
        Ok(Visual {
            width,
            heads: heads(width, hint, "image")?,
            patch,
            grid,
            conv1,
            class: t.vector(class, width)?,
            positions,
            ln_pre: norm(t, ln_pre, width)?,
            blocks: blocks(t, names, prefix, width)?,
            ln_post: norm(t, ln_post, width)?,
            proj: proj.as_standard_layout().into_owned(),
        })
    }

    /// Positions for another grid: class row kept, patch rows resized bilinearly
    /// (align_corners = false), [1 + grid * grid, width].
    pub fn positions_for(&self, grid: usize) -> Array2<f32> {
        if grid == self.grid {
            return self.positions.clone();
        }
        let mut out = Array2::zeros((1 + grid * grid, self.width));
        out.row_mut(0).assign(&self.positions.row(0));
        for c in 0..self.width {
            let column: Vec<f32> = self.positions.slice(s![1.., c]).to_vec();
            // The same interpolation as of maps; a grid that shrinks is sampled, not averaged.
            let resized = crate::faprompt::map::enlarge(&column, self.grid, grid).values;
            out.slice_mut(s![1.., c]).assign(&Array1::from(resized));
        }
        out
    }
}

impl Text {
    fn read(t: &Tensors, names: &Names, hint: Option<usize>) -> Result<Text, TensorError> {
        let (embedding, positions, ln_final, prefix) = match names {
            Names::OpenAi => (
                "token_embedding.weight",
                "positional_embedding",
                "ln_final",
                "",
            ),
            Names::HuggingFace => (
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
        let projection = match names {
            Names::OpenAi => t
                .matrix("text_projection", Some(width), None)?
                .reversed_axes(),
            Names::HuggingFace => t.matrix("text_projection.weight", None, Some(width))?,
        };
        Ok(Text {
            width,
            heads: heads(width, hint, "text")?,
            embedding,
            positions,
            blocks: blocks(t, names, prefix, width)?,
            ln_final: norm(t, ln_final, width)?,
            projection: projection.as_standard_layout().into_owned(),
        })
    }
}

fn config<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, TensorError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| TensorError::File(format!("{}: {e}", path.display())))?;
    serde_json::from_str(&text).map_err(|e| TensorError::File(format!("{}: {e}", path.display())))
}

fn activation(name: &str) -> Result<ActivationKind, TensorError> {
    match name {
        "quick_gelu" => Ok(ActivationKind::QuickGelu),
        "gelu" => Ok(ActivationKind::Gelu),
        other => Err(TensorError::File(format!(
            "hidden_act is `{other}`; CLIP's are quick_gelu and gelu"
        ))),
    }
}

/// The weight file in a folder, the hints of its configuration.
fn folder(path: &Path) -> Result<(PathBuf, Hints), TensorError> {
    let open_clip = path.join("open_clip_config.json");
    let hugging_face = path.join("config.json");
    let first = |names: &[&str]| -> Result<PathBuf, TensorError> {
        let found = names.iter().map(|n| path.join(n)).find(|p| p.is_file());
        found.ok_or_else(|| {
            TensorError::File(format!("the folder has none of {}", names.join(", ")))
        })
    };
    // Hub folders of open_clip models often hold both configurations; the weights decide.
    let open_clip_weights = first(&[
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "open_clip_pytorch_model.bin",
    ]);
    if let (true, Ok(weights)) = (open_clip.is_file(), open_clip_weights) {
        let model: OpenClip = config(&open_clip)?;
        let model = model.model_cfg;
        let vision = &model.vision_cfg;
        let hints = Hints {
            visual_heads: vision
                .width
                .map(|w| w / vision.head_width.unwrap_or(64).max(1)),
            text_heads: model.text_cfg.heads,
            activation: if model.quick_gelu {
                ActivationKind::QuickGelu
            } else {
                ActivationKind::Gelu
            },
        };
        return Ok((weights, hints));
    }
    if hugging_face.is_file() {
        let model: HuggingFace = config(&hugging_face)?;
        let (vision, text) = (
            activation(&model.vision_config.hidden_act)?,
            activation(&model.text_config.hidden_act)?,
        );
        if vision != text {
            return Err(TensorError::File(
                "the two encoders have different activations".into(),
            ));
        }
        let hints = Hints {
            visual_heads: model.vision_config.num_attention_heads,
            text_heads: model.text_config.num_attention_heads,
            activation: vision,
        };
        return Ok((first(&["model.safetensors", "pytorch_model.bin"])?, hints));
    }
    Err(TensorError::File("neither config.json with model.safetensors nor open_clip_config.json with open_clip_model.safetensors is in this folder".into()))
}

/// SHA-256 of a file in hexadecimal.
///
/// # Errors
/// The file system's.
pub fn file_digest(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(crate::bundle::envelope::hex(&hash.finalize()))
}

impl Clip {
    /// Reads a weight file or a folder. A configuration beside a weight file counts; without one the
    /// activation is OpenAI's QuickGELU.
    ///
    /// # Errors
    /// [`TrainError::Weights`].
    pub fn load(path: &Path) -> Result<Clip, TrainError> {
        let fail = |e: TensorError| TrainError::Weights {
            path: path.to_path_buf(),
            what: e.to_string(),
        };
        let (file, hints) = if path.is_dir() {
            folder(path).map_err(fail)?
        } else {
            let beside = path
                .parent()
                .map(folder)
                .and_then(Result::ok)
                .filter(|(file, _)| file == path);
            beside.unwrap_or((path.to_path_buf(), Hints::default()))
        };
        let tensors = Tensors::load(&file).map_err(fail)?;
        let digest = file_digest(&file).map_err(|e| fail(TensorError::File(e.to_string())))?;
        Clip::from_tensors(&tensors, path, digest, hints).map_err(fail)
    }

    fn from_tensors(
        tensors: &Tensors,
        path: &Path,
        digest: String,
        hints: Hints,
    ) -> Result<Clip, TensorError> {
        let names = if tensors.has("visual.conv1.weight") {
            Names::OpenAi
        } else if tensors.has("vision_model.embeddings.patch_embedding.weight") {
            Names::HuggingFace
        } else {
            let what = "neither `visual.conv1.weight` (OpenAI, open_clip) nor `vision_model.embeddings.patch_embedding.weight` (Hugging Face) is in it: no CLIP with a ViT image encoder";
            return Err(TensorError::File(what.into()));
        };
        let visual = Visual::read(tensors, &names, hints.visual_heads)?;
        let text = Text::read(tensors, &names, hints.text_heads)?;
        let embed = text.projection.nrows();
        if visual.proj.nrows() != embed {
            return Err(TensorError::File(format!(
                "images are projected to {} dimensions, texts to {embed}",
                visual.proj.nrows()
            )));
        }
        if text.width != embed {
            let what = format!(
                "the text encoder is {} wide but the joint space has {embed} dimensions; FAPrompt's prior needs both equal",
                text.width
            );
            return Err(TensorError::File(what));
        }
        Ok(Clip {
            path: path.to_path_buf(),
            digest,
            untrained: tensors.is_untrained(),
            activation: hints.activation,
            vv_layers: tensors.note(VV_LAYERS).and_then(|v| v.parse().ok()),
            logit_scale: match tensors.has("logit_scale") {
                true => tensors.array("logit_scale")?.iter().copied().next(),
                false => None,
            },
            visual,
            text,
        })
    }

    /// The model's common name, as far as its sizes tell.
    pub fn name(&self) -> String {
        let v = &self.visual;
        match (v.width, v.blocks.len(), v.patch, v.patch * v.grid) {
            (768, 12, 32, 224) => "ViT-B/32".into(),
            (768, 12, 16, 224) => "ViT-B/16".into(),
            (896, 12, 16, 240) => "ViT-B/16-plus-240".into(),
            (1024, 24, 14, 224) => "ViT-L/14".into(),
            (1024, 24, 14, 336) => "ViT-L/14@336".into(),
            (width, layers, patch, size) => {
                format!("ViT {width} x {layers}, patch {patch}, {size} px")
            }
        }
    }

    /// The side of the input if the user names none: the paper's 518 for ViT-L/14@336, else the
    /// size that the weights were trained at.
    pub fn default_image_size(&self) -> usize {
        if self.name() == "ViT-L/14@336" {
            518
        } else {
            self.visual.patch * self.visual.grid
        }
    }

    /// Blocks with the V-V stream if the user names no number: as trained, else the paper's 19 of 24,
    /// in proportion.
    pub fn default_vv_layers(&self) -> usize {
        self.vv_layers
            .unwrap_or((self.visual.blocks.len() * 19 / 24).max(1))
    }
}
