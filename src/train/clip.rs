//! CLIP weights in the layouts that people have, made one.
//!
//! OpenAI's names (safetensors, `.pt` state dict, `.pt` TorchScript, open_clip's files and training
//! checkpoints) and Hugging Face's `CLIPModel`. All sizes come from the weights; the configuration that
//! belongs to them adds what weights cannot tell. Whatever would make another network than the one that was
//! trained is refused by name; whatever has to be assumed is said.

mod config;
mod layout;
mod positions;
mod read;
mod save;

pub use config::{Overrides, VOCABULARY};
pub(super) use layout::{beginnings, refuse_unread, weight_file};
pub(super) use positions::resized;
pub(super) use read::{dense, mlp, norm};
pub(super) use save::{store_norm, store_text, store_visual};

use super::TrainError;
use super::tensors::{TensorError, Tensors, VV_LAYERS};
use crate::bundle::manifest::{ActivationKind, Interpolation};
use clap::ValueEnum;
use config::Known;
use ndarray::{Array1, Array2, s};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// OpenAI's means of R, G and B, 0..=1, which most CLIPs share.
pub const MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Standard deviations of the same.
pub const STD: [f32; 3] = [0.26862954, 0.26130258, 0.27577711];

/// What becomes of a frame before the image encoder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Subtracted from RGB in 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, by which the difference is divided.
    pub std: [f32; 3],
    /// How frames are resized.
    #[serde(default)]
    pub interpolation: Interpolation,
}

impl Default for Preprocess {
    fn default() -> Self {
        Preprocess {
            mean: MEAN,
            std: STD,
            interpolation: Interpolation::Bicubic,
        }
    }
}

/// What the tensors of a network do not tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The MLPs' activation.
    pub activation: ActivationKind,
    /// Attention heads of the image and of the text encoder.
    pub heads: [usize; 2],
    /// What the normalisations of the image and of the text encoder add to the variance.
    pub epsilon: [f32; 2],
    /// What becomes of a frame.
    pub preprocess: Preprocess,
}

/// Scale and shift of a normalisation, `[width]` each.
#[derive(Clone)]
pub struct Norm {
    /// The factor of each channel, `[width]`.
    pub weight: Array1<f32>,
    /// What is added to each channel, `[width]`.
    pub bias: Array1<f32>,
}

/// A dense layer: weight [outputs, inputs], bias `[outputs]`.
#[derive(Clone)]
pub struct Dense {
    /// The matrix that inputs are multiplied by, [outputs, inputs].
    pub weight: Array2<f32>,
    /// What is added to the products, `[outputs]`.
    pub bias: Array1<f32>,
}

/// A pre-norm transformer block.
#[derive(Clone)]
pub struct Block {
    /// The normalisation before the attention.
    pub ln_1: Norm,
    /// Queries, keys and values one below the other, [3 * width, width].
    pub qkv: Dense,
    /// The projection after the attention, [width, width].
    pub out: Dense,
    /// The normalisation before the MLP.
    pub ln_2: Norm,
    /// The MLP's first layer, [4 * width, width].
    pub fc: Dense,
    /// The MLP's second layer, [width, 4 * width].
    pub proj: Dense,
}

/// Weights of the image encoder.
pub struct Visual {
    /// Channels of a token.
    pub width: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// What its normalisations add to the variance.
    pub epsilon: f32,
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Patches per side that the positions are for.
    pub grid: usize,
    /// The convolution that embeds patches, [width, 3 * patch * patch], columns in (channel, y, x) order.
    pub conv1: Array2<f32>,
    /// The class token before positions are added, `[width]`.
    pub class: Array1<f32>,
    /// Embeddings of the positions, the class token's first, [1 + grid * grid, width].
    pub positions: Array2<f32>,
    /// The normalisation before the first block.
    pub ln_pre: Norm,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub ln_post: Norm,
    /// The projection to the C channels of the common space, [C, width].
    pub proj: Array2<f32>,
}

/// Weights of the text encoder.
pub struct Text {
    /// Channels of a token.
    pub width: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// What its normalisations add to the variance.
    pub epsilon: f32,
    /// Embeddings of the vocabulary, [vocabulary, width]; absent in trimmed files.
    pub embedding: Option<Array2<f32>>,
    /// Embeddings of the positions, [context, width].
    pub positions: Array2<f32>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub ln_final: Norm,
    /// The projection to the C channels of the common space, [C, width].
    pub projection: Array2<f32>,
}

/// The weights of a CLIP model, with what is needed to run it.
pub struct Clip {
    /// Where it was read.
    pub path: PathBuf,
    /// SHA-256 of the weight file (of shards: of their digests).
    pub digest: String,
    /// Whether the file says that its numbers were never trained.
    pub untrained: bool,
    /// The MLPs' activation.
    pub activation: ActivationKind,
    /// What becomes of a frame before the image encoder sees it.
    pub preprocess: Preprocess,
    /// What neither the weights nor a configuration said: a sentence each, with the option that says it.
    pub assumed: Vec<String>,
    /// Sentences for the user about what was read, the assumptions among them.
    pub notes: Vec<String>,
    /// Blocks with the V-V stream, if the weights were trained with it.
    pub vv_layers: Option<usize>,
    /// The logarithm of what cosines are multiplied by, if the file has it.
    pub logit_scale: Option<f32>,
    /// SHA-256 of what the file says that it was made from, by what it is of: a distilled encoder's teachers.
    pub sources: BTreeMap<String, String>,
    /// The image encoder.
    pub visual: Visual,
    /// The text encoder.
    pub text: Text,
}

/// The word of a value on the command line.
fn word(value: &impl ValueEnum) -> String {
    let word = value.to_possible_value();
    word.map_or(String::new(), |w| w.get_name().to_string())
}

impl Network {
    /// What is different in `other`, a sentence each.
    pub fn differences(&self, other: &Network) -> Vec<String> {
        let mut out = vec![];
        let mut differs = |what: &str, there: String, here: String| {
            if there != here {
                out.push(format!("{what} there {there}, here {here}"));
            }
        };
        let (a, b) = (self, other);
        differs(
            "activation",
            format!("{:?}", a.activation),
            format!("{:?}", b.activation),
        );
        differs("heads", format!("{:?}", a.heads), format!("{:?}", b.heads));
        differs(
            "epsilon",
            format!("{:?}", a.epsilon),
            format!("{:?}", b.epsilon),
        );
        let (a, b) = (a.preprocess, b.preprocess);
        differs("mean", format!("{:?}", a.mean), format!("{:?}", b.mean));
        differs("deviation", format!("{:?}", a.std), format!("{:?}", b.std));
        let of = |p: Preprocess| format!("{:?}", p.interpolation);
        differs("interpolation", of(a), of(b));
        out
    }

    /// The options that say it.
    pub fn options(&self) -> String {
        let three = |v: [f32; 3]| format!("{},{},{}", v[0], v[1], v[2]);
        format!(
            "--activation {} --heads {},{} --epsilon {:e} --mean {} --std {} --interpolation {}",
            word(&self.activation),
            self.heads[0],
            self.heads[1],
            self.epsilon[0],
            three(self.preprocess.mean),
            three(self.preprocess.std),
            word(&self.preprocess.interpolation),
        )
    }
}

/// Attention heads of 64 channels in an encoder of this width.
fn usual_heads(width: usize) -> Result<usize, TensorError> {
    const CHANNELS: usize = 64;
    match width.is_multiple_of(CHANNELS) {
        true => Ok(width / CHANNELS),
        false => Err(TensorError::File(format!(
            "an encoder of {width} channels: a multiple of {CHANNELS} is wanted"
        ))),
    }
}

impl Text {
    /// The text encoder of tensors with OpenAI's names, its heads 64 channels wide.
    ///
    /// # Errors
    /// What is missing or of another shape.
    pub fn of_file(tensors: &Tensors) -> Result<Text, TensorError> {
        let read = Text::read(tensors, layout::Layout::OpenAi)?;
        Ok(Text {
            heads: usual_heads(read.width)?,
            ..read
        })
    }
}

impl Visual {
    /// The image encoder of tensors with OpenAI's names, its heads 64 channels wide.
    ///
    /// # Errors
    /// What is missing or of another shape.
    pub fn of_file(tensors: &Tensors) -> Result<Visual, TensorError> {
        let read = Visual::read(tensors, layout::Layout::OpenAi)?;
        Ok(Visual {
            heads: usual_heads(read.width)?,
            ..read
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

impl Clip {
    /// Reads a weight file or a folder with its configuration.
    ///
    /// # Errors
    /// As [`Clip::load_with`].
    pub fn load(path: &Path) -> Result<Clip, TrainError> {
        Clip::load_with(path, &Overrides::default())
    }

    /// Reads a weight file or a folder. What `overrides` say counts, then the file's own notes, then the
    /// configuration that belongs to the tensors, wherever it lies beside them; what nobody says is assumed
    /// to be OpenAI's, and [`Clip::assumed`] and [`Clip::notes`] tell of it.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: unreadable, no CLIP with a ViT, or one that computes something else than what
    /// this program runs; the message names every key and tensor that says so.
    pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Clip, TrainError> {
        let fail = |e: TensorError| TrainError::Weights {
            path: path.to_path_buf(),
            what: e.to_string(),
        };
        let file = layout::weight_file(path).map_err(fail)?;
        let tensors = Tensors::load(&file).map_err(fail)?;
        let digest = tensors
            .digest()
            .map_err(|e| fail(TensorError::File(e.to_string())))?;
        let (layout, tensors, outside) = layout::find(tensors, overrides).map_err(fail)?;
        let known = Known::of(
            &tensors,
            &layout::beside(&file),
            &digest,
            layout,
            path.is_dir(),
            overrides,
        );
        let known = known.map_err(fail)?;
        Clip::from_tensors(&tensors, path, digest, layout, known, outside, overrides).map_err(fail)
    }

    fn from_tensors(
        tensors: &Tensors,
        path: &Path,
        digest: String,
        layout: layout::Layout,
        mut known: Known,
        outside: Vec<String>,
        overrides: &Overrides,
    ) -> Result<Clip, TensorError> {
        let mut visual = Visual::read(tensors, layout)?;
        let mut text = Text::read(tensors, layout)?;
        let ignored = layout::refuse_unread(tensors, outside, overrides)?;
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
        let rows = text.embedding.as_ref().map_or(0, |table| table.nrows());
        if rows > VOCABULARY && !overrides.ignores("vocab_size") {
            return Err(TensorError::File(format!(
                "a vocabulary of {rows} tokens: another tokenizer than CLIP's, which has {VOCABULARY}; words would be looked up in the wrong rows"
            )));
        }
        let (network, assumed) = known.resolve(&visual, &text, overrides)?;
        let mut notes = std::mem::take(&mut known.notes);
        notes.extend(known.about(&assumed));
        let mut assumed: Vec<String> = assumed.iter().map(ToString::to_string).collect();
        for name in known.ignored.iter().chain(&ignored) {
            assumed.push(format!("`{name}` changes nothing (--ignore)"));
        }
        [visual.heads, text.heads] = network.heads;
        [visual.epsilon, text.epsilon] = network.epsilon;
        Ok(Clip {
            path: path.to_path_buf(),
            digest,
            untrained: tensors.is_untrained(),
            activation: network.activation,
            preprocess: network.preprocess,
            assumed,
            notes,
            vv_layers: tensors.note(VV_LAYERS).and_then(|v| v.parse().ok()),
            logit_scale: match tensors.has("logit_scale") {
                true => tensors.array("logit_scale")?.iter().copied().next(),
                false => None,
            },
            sources: tensors.sources(),
            visual,
            text,
        })
    }

    /// What the tensors do not tell of it.
    pub fn network(&self) -> Network {
        Network {
            activation: self.activation,
            heads: [self.visual.heads, self.text.heads],
            epsilon: [self.visual.epsilon, self.text.epsilon],
            preprocess: self.preprocess,
        }
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

    /// Number of blocks with the V-V stream if the user names none: as trained, else the paper's 19 of 24, in
    /// proportion.
    pub fn default_vv_layers(&self) -> usize {
        self.vv_layers
            .unwrap_or((self.visual.blocks.len() * 19 / 24).max(1))
    }
}
