//! Which method a bundle runs, and the switches in which published codes differ.
//!
//! A bundle without these lines is FAPrompt's. Names are append-only: bundles in the field hold them.

use super::BundleError;
use serde::{Deserialize, Serialize};

/// A method that finds defects with CLIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "train", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Fine-grained abnormality prompts with a prior of each picture (ICCV 2025): this program's own.
    #[default]
    Faprompt,
    /// Object-agnostic learned prompts, V-V attention (ICLR 2024).
    Anomalyclip,
    /// CLIP with one sentence for good parts and one for bad ones.
    Clip,
    /// CLIP with the same two words in an ensemble of templates.
    ClipAc,
    /// Windows of patches against an ensemble of states and templates (CVPR 2023), zero-shot.
    Winclip,
    /// Learned linear layers on four stages (VAND 2023), zero-shot.
    AprilGan,
    /// V-V attention in all blocks and domain words; without views and test-time adaptation.
    Anovl,
    /// A learned context before the class words (IJCV 2022).
    Coop,
    /// A learned context that a network shifts by what it sees of the picture (CVPR 2022).
    Cocoop,
    /// Learned details and positions (ACM MM 2024); the host alone runs it.
    Filo,
    /// Image-text contrast of BLIP; the host alone runs it.
    Blip,
    /// Two weight vectors per tapped layer, no text at all.
    Heads,
    /// Defect-aware prompts: which defect it is.
    Dapo,
    /// Good parts alone: an image encoder that judges once it was taught; no words, no score without parts.
    Memory,
}

impl Method {
    /// Its name on the command line and in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Method::Faprompt => "faprompt",
            Method::Anomalyclip => "anomalyclip",
            Method::Clip => "clip",
            Method::ClipAc => "clip-ac",
            Method::Winclip => "winclip",
            Method::AprilGan => "april-gan",
            Method::Anovl => "anovl",
            Method::Coop => "coop",
            Method::Cocoop => "cocoop",
            Method::Filo => "filo",
            Method::Blip => "blip",
            Method::Heads => "heads",
            Method::Dapo => "dapo",
            Method::Memory => "memory",
        }
    }

    /// Whether its prompts name the class of the part.
    pub fn has_class(self) -> bool {
        matches!(
            self,
            Method::Clip
                | Method::ClipAc
                | Method::Winclip
                | Method::AprilGan
                | Method::Anovl
                | Method::Coop
                | Method::Cocoop
                | Method::Filo
                | Method::Blip
        )
    }

    /// Whether it compares parts with good ones as its paper does, instead of by the device's own memory of them.
    pub fn has_few_shot_form(self) -> bool {
        matches!(self, Method::Winclip | Method::AprilGan)
    }

    /// Whether something of it is learned: it needs a checkpoint.
    pub fn is_learned(self) -> bool {
        !matches!(
            self,
            Method::Clip
                | Method::ClipAc
                | Method::Winclip
                | Method::Anovl
                | Method::Blip
                | Method::Memory
        )
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How the checkpoint's positions become those of another grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "train", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Bilinear, corners not aligned: AnomalyCLIP's code and FAPrompt's.
    #[default]
    Bilinear,
    /// Bicubic (a = -0.5), anti-aliased: open_clip's.
    BicubicAntialias,
    /// Bicubic (a = -0.75), sampled: FiLo's.
    Bicubic,
}

/// What the picture's own feature is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "train", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum ImageFeature {
    /// The class row through ln_post and the projection: CLIP's.
    #[default]
    LnPost,
    /// The class row through the projection alone: AnomalyCLIP's code and FAPrompt's.
    Projected,
}

/// What the manifest says of a method other than FAPrompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodSpec {
    /// The method.
    pub name: Method,
    /// The class in its prompts; empty where prompts name none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// Templates that each state was put into; 0 where there are none.
    #[serde(default)]
    pub templates: usize,
    /// Blocks whose tokens make the map, counted from 1, ascending.
    pub stages: Vec<usize>,
    /// How positions were resized.
    #[serde(default)]
    pub positions: Positions,
    /// What the picture's own feature is.
    #[serde(default)]
    pub image_feature: ImageFeature,
    /// Hidden channels of CoCoOp's network; 0 elsewhere.
    #[serde(default)]
    pub hidden: usize,
    /// Rows of the normal and of the abnormal prompt behind the start token, the end token included, where
    /// the device encodes them for each picture; empty elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt_rows: Vec<usize>,
    /// Learned context tokens of each prompt that a picture shifts.
    #[serde(default)]
    pub context: usize,
    /// DAPO's types of defect, in the order of its prototypes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// DAPO's learned rows in each image block.
    #[serde(default)]
    pub visual_tokens: usize,
}

impl MethodSpec {
    /// A method with its published switches, for an image encoder of `layers` blocks.
    pub fn of(name: Method, layers: usize) -> MethodSpec {
        // Of fewer than four blocks each once.
        let quarters = || {
            let mut all: Vec<usize> = (1..=4).map(|i| (i * layers).div_ceil(4)).collect();
            all.dedup();
            all
        };
        MethodSpec {
            name,
            class: String::new(),
            templates: 0,
            stages: match name {
                Method::AprilGan | Method::Heads | Method::Dapo => quarters(),
                _ => vec![layers],
            },
            positions: match name {
                Method::Winclip | Method::AprilGan | Method::Anovl => Positions::BicubicAntialias,
                Method::Filo => Positions::Bicubic,
                _ => Positions::Bilinear,
            },
            image_feature: match name {
                Method::Anomalyclip => ImageFeature::Projected,
                _ => ImageFeature::LnPost,
            },
            hidden: 0,
            prompt_rows: vec![],
            context: 0,
            types: vec![],
            visual_tokens: 0,
        }
    }

    /// Blocks with the V-V stream: `asked` for the methods that have a choice.
    pub fn vv_layers(&self, asked: usize, layers: usize) -> usize {
        match self.name {
            Method::Faprompt | Method::Anomalyclip | Method::Filo | Method::Heads => asked,
            Method::Anovl => layers,
            _ => 0,
        }
    }

    /// Checks the stages against the image encoder's `layers` and `vv_layers`.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] that names the block.
    pub fn check_stages(&self, layers: usize, vv_layers: usize) -> Result<(), BundleError> {
        let fail = |what: String| Err(BundleError::architecture("manifest", what));
        if self.stages.is_empty() || !self.stages.is_sorted_by(|a, b| a < b) {
            return fail(format!(
                "method.stages = {:?}: block numbers from 1, ascending",
                self.stages
            ));
        }
        // Heads look at the ordinary stream where no block has the other one.
        let vv = match self.name {
            Method::Anomalyclip | Method::Anovl => true,
            Method::Heads => vv_layers > 0,
            _ => false,
        };
        let first = if vv {
            layers - vv_layers.min(layers) + 1
        } else {
            1
        };
        if let Some(odd) = self.stages.iter().find(|s| !(first..=layers).contains(s)) {
            return fail(format!(
                "method.stages: block {odd} is not in {first}..{layers}{}",
                if vv {
                    " (blocks with the V-V stream)"
                } else {
                    ""
                }
            ));
        }
        Ok(())
    }

    /// Checks its numbers against the image encoder's `layers` and `vv_layers`.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] that names the key.
    pub fn check(&self, layers: usize, vv_layers: usize) -> Result<(), BundleError> {
        let fail = |what: String| Err(BundleError::architecture("manifest", what));
        if matches!(self.name, Method::Faprompt | Method::Filo | Method::Blip) {
            return fail(format!(
                "method.name = {}: no method of a bundle",
                self.name
            ));
        }
        self.check_stages(layers, vv_layers)?;
        for (key, value, high) in [
            ("hidden", self.hidden, 8192),
            ("context", self.context, 76),
            ("visual_tokens", self.visual_tokens, 256),
            ("templates", self.templates, 4096),
            ("length of class", self.class.len(), 4096),
            ("number of types", self.types.len(), 256),
        ] {
            if value > high {
                return fail(format!("method.{key} = {value} is not in 0..{high}"));
            }
        }
        let odd = |t: &&String| {
            let plain = |c: char| !c.is_control() && !",=\"\\".contains(c);
            t.trim() != t.as_str() || t.is_empty() || t.len() > 64 || !t.chars().all(plain)
        };
        if let Some(odd) = self.types.iter().find(odd) {
            return fail(format!(
                "method.types: {odd:?}: a type has 1 to 64 characters, without `,`, `=`, quotes and backslashes, \
                 and no space around it"
            ));
        }
        if self.name == Method::Cocoop {
            let least = self.context + 1;
            let fits = self.prompt_rows.len() == 2
                && self.prompt_rows.iter().all(|r| (least..=76).contains(r));
            if !fits || self.hidden == 0 || self.context == 0 {
                return fail(format!(
                    "method.prompt_rows = {:?}, context = {}, hidden = {}: cocoop needs two prompts of at least {least} rows and a network",
                    self.prompt_rows, self.context, self.hidden
                ));
            }
        }
        if (self.name == Method::Dapo) != (self.visual_tokens > 0 && !self.types.is_empty()) {
            return fail("method.types, visual_tokens: dapo has both, no other method any".into());
        }
        Ok(())
    }
}
