//! BLIP's image-text contrast (Li et al., ICML 2022) on the host: Hugging Face's `BlipForImageTextRetrieval`, whose
//! matching head is not used.
//!
//! A picture's feature is its class row after the last normalisation, projected; a text's that of its first token,
//! projected; both unit vectors. The papers that compare themselves with BLIP say no more than that, so the rest is
//! ours: CLIP's two sentences, p = softmax(cosine / T) with the T that BLIP's contrast begins with (0.07, which
//! Hugging Face's files leave out), the image score is p of the picture, the map that of each patch.

pub mod judge;
mod towers;
pub mod words;

use super::words::prompts;
use crate::bundle::method::Method;
use crate::faprompt::map::{Map, enlarge};
use crate::methods::logistic;
use crate::train::TrainError;
use crate::train::backbone::config::{Preprocessor, parse};
use crate::train::clip::{MEAN, Overrides, Preprocess, STD, refuse_unread, weight_file};
use crate::train::nn::layers::{Maker, put, values};
use crate::train::tensors::{TensorError, Tensors};
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use towers::{Sizes, Text, Vision, VisionFile};
use words::Vocabulary;

/// What cosines are divided by.
pub const TEMPERATURE: f32 = 0.07;

/// `config.json`; what a file leaves out is the library's default.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    model_type: Option<String>,
    vision_config: Section,
    text_config: Section,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Section {
    num_attention_heads: Option<usize>,
    layer_norm_eps: Option<f32>,
    hidden_act: Option<String>,
}

/// The weights on a device.
pub struct Blip {
    /// Where they were read.
    pub path: PathBuf,
    /// SHA-256 of the weight file.
    pub digest: String,
    /// What becomes of a frame.
    pub preprocess: Preprocess,
    vision: VisionFile,
    text: Text,
    vocabulary: Vocabulary,
    device: Device,
}

impl Blip {
    /// Reads the folder of a `BlipForImageTextRetrieval`, or its weight file with the folder's other files beside it.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: unreadable, no such network, or one that computes something else.
    pub fn load(path: &Path, overrides: &Overrides, device: &Device) -> Result<Blip, TrainError> {
        Blip::read(path, overrides, device).map_err(|e| TrainError::Weights {
            path: path.to_path_buf(),
            what: e.to_string(),
        })
    }

    fn read(path: &Path, overrides: &Overrides, device: &Device) -> Result<Blip, TensorError> {
        let file = weight_file(path)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let t = Tensors::load(&file)?;
        let anchor = "text_encoder.embeddings.word_embeddings.weight";
        if !t.has(anchor) || !t.has("vision_proj.weight") {
            return Err(TensorError::File(format!(
                "`{anchor}` and `vision_proj.weight` are not both in it: no BlipForImageTextRetrieval of Hugging Face"
            )));
        }
        let digest = t.digest().map_err(|e| TensorError::File(e.to_string()))?;
        let place = overrides.config.clone();
        let place = place.unwrap_or_else(|| folder.join("config.json"));
        let config = parse::<Config>(&place)?.ok_or_else(|| {
            TensorError::File(format!(
                "{}: no such file; it says how many attention heads there are",
                place.display()
            ))
        })?;
        config.refuse_others()?;
        let said = parse::<Preprocessor>(&folder.join("preprocessor_config.json"))?;
        let said = said.unwrap_or_default();
        let named = overrides.heads;
        let sizes = |section: &Section, i: usize, heads: usize, epsilon: f32| Sizes {
            heads: named
                .map(|h| h[i])
                .or(section.num_attention_heads)
                .unwrap_or(heads),
            epsilon: overrides
                .epsilon
                .or(section.layer_norm_eps)
                .unwrap_or(epsilon),
        };
        let mut m = Maker::new(device, false);
        let vision = VisionFile::read(&t, sizes(&config.vision_config, 0, 12, 1e-5))?;
        let of_text = sizes(&config.text_config, 1, 8, 1e-12);
        let text = Text::read(&t, of_text, vision.joint(), &mut m)?;
        for name in t.unread() {
            // What looks at picture and text together: the matching head and the attention before it.
            if name.starts_with("itm_head.")
                || name.contains(".crossattention.")
                || name.ends_with(".position_ids")
            {
                t.skip(&name);
            }
        }
        refuse_unread(&t, vec![], overrides)?;
        Ok(Blip {
            path: path.to_path_buf(),
            digest,
            preprocess: Preprocess {
                mean: overrides.mean.or(said.image_mean).unwrap_or(MEAN),
                std: overrides.std.or(said.image_std).unwrap_or(STD),
                interpolation: overrides
                    .interpolation
                    .or(said.interpolation())
                    .unwrap_or_default(),
            },
            vision,
            text,
            vocabulary: Vocabulary::load(folder)?,
            device: device.clone(),
        })
    }

    /// The side of the input that its positions are for.
    pub fn image_size(&self) -> usize {
        self.vision.grid * self.vision.patch
    }

    /// Side of a patch.
    pub fn patch(&self) -> usize {
        self.vision.patch
    }

    /// The image encoder for pictures of `grid` patches a side.
    pub fn encoder(&self, grid: usize) -> Encoder {
        let mut m = Maker::new(&self.device, false);
        Encoder(self.vision.tower(grid, &mut m))
    }

    /// A text as its tokenizer numbers it.
    pub fn ids(&self, text: &str) -> Vec<usize> {
        self.vocabulary.ids(text)
    }

    /// The unit feature of a text, [1, C].
    ///
    /// # Errors
    /// [`TrainError::Options`] for a text that is longer than its positions, [`TrainError::Weights`] for a vocabulary
    /// that is not these weights'.
    pub fn text(&self, text: &str) -> Result<Tensor<2>, TrainError> {
        let ids = self.ids(text);
        let (tokens, longest) = self.text.limits();
        if ids.len() > longest {
            return Err(TrainError::Options(format!(
                "the prompt \"{text}\" has {} tokens, the text encoder's context is {longest}",
                ids.len()
            )));
        }
        match ids.iter().find(|id| **id >= tokens) {
            None => Ok(self.text.feature(&ids)),
            Some(id) => Err(TrainError::Weights {
                path: self.path.clone(),
                what: format!(
                    "its text encoder has {tokens} tokens, but \"{text}\" needs token {id}"
                ),
            }),
        }
    }

    /// A normal and an abnormal sentence's features, [2, C].
    ///
    /// # Errors
    /// As [`Blip::text`].
    pub fn sentences(&self, class: &str) -> Result<Tensor<2>, TrainError> {
        let words = prompts(Method::Blip, class, None)?;
        let both = words.normal.iter().chain(&words.abnormal);
        let both = both.map(|t| self.text(t)).collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(both, 0))
    }
}

impl Config {
    /// Refuses what would be another network.
    fn refuse_others(&self) -> Result<(), TensorError> {
        let wrong = |what: String| Err(TensorError::File(what));
        if let Some(kind) = self.model_type.as_ref().filter(|k| *k != "blip") {
            return wrong(format!("`model_type` = {kind}, not blip"));
        }
        for (name, section) in [("vision", &self.vision_config), ("text", &self.text_config)] {
            if let Some(act) = section.hidden_act.as_ref().filter(|a| *a != "gelu") {
                return wrong(format!(
                    "`{name}_config.hidden_act` = {act}: another activation than exact GELU"
                ));
            }
        }
        Ok(())
    }
}

/// An image encoder for pictures of one size.
pub struct Encoder(Vision);

impl Encoder {
    /// Patches [1, N, 3 * patch * patch], (channel, y, x) order, to unit features [1 + N, C]: the picture's, then
    /// each patch's.
    pub fn features(&self, patches: Tensor<3>) -> Tensor<2> {
        self.0.features(patches)
    }
}

/// The image score and the `side` x `side` map of unit features [1 + N, C] against a normal and an abnormal
/// sentence's [2, C].
pub fn conclude(
    features: Tensor<2>,
    text: &Tensor<2>,
    temperature: f32,
    side: usize,
) -> (f32, Map) {
    let device = features.device();
    let difference: Tensor<2> = put(vec![-1.0, 1.0], [2, 1], &device);
    let logits = features.matmul(text.clone().transpose()).matmul(difference);
    let p: Vec<f32> = values(&logits.div_scalar(temperature))
        .into_iter()
        .map(logistic)
        .collect();
    let grid = (p.len() - 1).isqrt();
    (p[0], enlarge(&p[1..], grid, side))
}
