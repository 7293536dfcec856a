//! The manifest: what a bundle is, in words and numbers that people can read.
//!
//! Every number is checked by [`Manifest::check`] before it is used; the types that other modules
//! get from it can then be trusted.

use super::BundleError;
use super::method::{Method, MethodSpec};
use super::network::NetworkSpec;
use super::tap::{Rows, Tap};
use crate::ops::layer_norm::EPSILON;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "train", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32, without rounding.
    F32,
    /// f16, half the size.
    F16,
    /// int8, a quarter of the size: symmetric, one scale per output row.
    Int8,
}

/// Which M patches feed the prior.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "train", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// The M most abnormal ones, in descending order (the paper's method).
    Paper,
    /// The first M in raster order: what the published code does, and what checkpoints trained with
    /// it need.
    Upstream,
}

/// How the maxima of the two patch score maps make the image score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "train", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ScoreRule {
    /// (2 max s + max s') / 3, as in the published code.
    Code,
    /// (max s + max s') / 2, as in the paper.
    Paper,
}

/// The activation of the MLPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "train", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// x * sigmoid(1.702 x): OpenAI's CLIP.
    #[default]
    QuickGelu,
    /// x * Phi(x), exact: most of open_clip's.
    Gelu,
}

/// How a frame is resized to the encoder's square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "train", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Pillow's BICUBIC (a = -0.5): nearly every CLIP.
    #[default]
    Bicubic,
    /// Pillow's BILINEAR.
    Bilinear,
}

impl Interpolation {
    /// Whether it is the one that manifests leave out.
    fn is_usual(&self) -> bool {
        *self == Interpolation::default()
    }
}

/// The frame as the encoder wants it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// Side S of the square input in pixels.
    pub size: usize,
    /// Side of a patch in pixels; S is a multiple of it.
    pub patch: usize,
    /// Mean of each channel, subtracted from RGB in 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, which divides the difference.
    pub std: [f32; 3],
    /// How frames are resized; bicubic in manifests that do not say.
    #[serde(default, skip_serializing_if = "Interpolation::is_usual")]
    pub interpolation: Interpolation,
}

impl ImageSpec {
    /// The number of patches per side.
    pub fn grid(&self) -> usize {
        self.size / self.patch
    }

    /// Checks its numbers; errors name them `key`.
    fn check(&self, key: &str) -> Result<(), BundleError> {
        within(&format!("{key}.size"), self.size, 1, limit::IMAGE)?;
        within(&format!("{key}.patch"), self.patch, 1, self.size)?;
        if !self.size.is_multiple_of(self.patch) {
            let what = format!(
                "{key}.size = {} is no multiple of {key}.patch = {}",
                self.size, self.patch
            );
            return Err(BundleError::architecture("manifest", what));
        }
        let places = format!("{key}.size / {key}.patch");
        within(&places, self.grid(), 1, limit::GRID)?;
        for c in 0..3 {
            within(&format!("{key}.mean"), self.mean[c], 0.0, 1.0)?;
            within(&format!("{key}.std"), self.std[c], 1e-3, 10.0)?;
        }
        Ok(())
    }
}

/// The size of one transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerSpec {
    /// Channels of the tokens, C of the tower.
    pub width: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Attention heads; most CLIPs' are 64 channels wide.
    pub heads: usize,
    /// Added to the variance in its normalisations; 1e-5 in manifests that do not say.
    #[serde(default = "usual_epsilon", skip_serializing_if = "is_usual_epsilon")]
    pub epsilon: f32,
}

impl TowerSpec {
    /// The size of a tower that a bundle does not have.
    pub fn none() -> TowerSpec {
        TowerSpec {
            width: 0,
            layers: 0,
            heads: 0,
            epsilon: EPSILON,
        }
    }

    /// Whether there is no such tower.
    pub fn is_none(&self) -> bool {
        self.layers == 0
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn usual_epsilon() -> f32 {
    EPSILON
}

fn is_usual_epsilon(epsilon: &f32) -> bool {
    *epsilon == EPSILON
}

/// The compound abnormality prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSpec {
    /// E, learned tokens that all prompts share.
    pub normal_tokens: usize,
    /// E', learned tokens of each abnormal prompt.
    pub abnormal_tokens: usize,
    /// K, abnormal prompts.
    pub abnormal_prompts: usize,
    /// Rows of each abnormal prompt behind the shared prefix: E', the words, the end token.
    pub suffix_rows: usize,
    /// t, learned tokens that overwrite positions 1..=t before the first blocks.
    pub deep_length: usize,
    /// How many blocks they are written before (D - 1), from block 1 on.
    pub deep_blocks: usize,
    /// The words behind the learned tokens of a normal prompt.
    pub normal_words: String,
    /// The words behind those of an abnormal one.
    pub abnormal_words: String,
}

impl PromptSpec {
    /// The prompts of a method that has none: all zero.
    pub fn none() -> PromptSpec {
        PromptSpec {
            normal_tokens: 0,
            abnormal_tokens: 0,
            abnormal_prompts: 0,
            suffix_rows: 0,
            deep_length: 0,
            deep_blocks: 0,
            normal_words: String::new(),
            abnormal_words: String::new(),
        }
    }
    /// Rows before the abnormal tokens: the start token and the E normal ones.
    pub fn prefix_rows(&self) -> usize {
        1 + self.normal_tokens
    }
    /// Rows at the start of the suffix that deep prompts overwrite.
    pub fn deep_overhang(&self) -> usize {
        self.deep_length.saturating_sub(self.normal_tokens)
    }
}

/// The data-dependent abnormality prior.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorSpec {
    /// M, patches whose features feed it.
    pub selected_patches: usize,
    /// Width of its hidden layer.
    pub hidden: usize,
    /// Which patches these are.
    pub selection: Selection,
}

impl PriorSpec {
    /// The prior of a method that has none: all zero.
    pub fn none() -> PriorSpec {
        PriorSpec {
            selected_patches: 0,
            hidden: 0,
            selection: Selection::Paper,
        }
    }
}

/// Constants of the scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreSpec {
    /// T in softmax(cosine / T).
    pub temperature: f32,
    /// How the maxima are combined.
    pub rule: ScoreRule,
    /// Standard deviation of the Gaussian that smooths maps for people, in pixels of the S x S map.
    pub smoothing_sigma: f32,
    /// Image scores above it are rejects, unless the user sets another.
    pub threshold: f32,
}

/// How far first-order adaptation was from the exact one at export, before weights were rounded to the
/// bundle's precision: the error of the linearisation alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearError {
    /// Norm of the priors that were tried.
    pub prior_norm: f32,
    /// Mean of |F_linear - F_exact| over the adapted, normalised prototypes (unit vectors).
    pub mean: f32,
    /// The largest such distance.
    pub max: f32,
    /// For comparison: mean of |F_unadapted - F_exact|, what no adaptation at all would cost.
    pub unadapted: f32,
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the network.
    pub name: String,
    /// Program and version that wrote the bundle.
    pub created_by: String,
    /// Whether anything in it was ever trained. If not, its verdicts mean nothing.
    pub trained: bool,
    /// Where it comes from, in a sentence.
    pub description: String,
    /// The frame.
    pub image: ImageSpec,
    /// The MLPs' activation in both encoders.
    pub activation: ActivationKind,
    /// The image encoder.
    pub vision: TowerSpec,
    /// How many of its last blocks have the V-V stream; without one, FAPrompt cannot judge.
    pub vv_layers: usize,
    /// Which rows the memory of good parts compares; none named: [`Manifest::memory_taps`]' rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Tap>,
    /// The text encoder; left out where there is none (DINOv2).
    #[serde(
        default = "TowerSpec::none",
        skip_serializing_if = "TowerSpec::is_none"
    )]
    pub text: TowerSpec,
    /// Learned rows that stand behind the patches in every block (DINOv2's registers).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub registers: usize,
    /// A network of the user's own: the image encoder where there is no text, else the memory's encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSpec>,
    /// The prompts.
    pub prompts: PromptSpec,
    /// The prior.
    pub prior: PriorSpec,
    /// The scores.
    pub scores: ScoreSpec,
    /// How matrices are stored.
    pub precision: Precision,
    /// Measured error of `--adaptation linear`.
    pub linear_error: Vec<LinearError>,
    /// The known frame's image score with exact adaptation, as the exporter measured it: a device that comes
    /// to another one computes wrongly. `None`: nobody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_score: Option<f32>,
    /// The method, unless it is FAPrompt; then prompts and prior are those of no method, all zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodSpec>,
    /// What neither the weights nor a configuration beside them said, so that the exporter assumed it: a
    /// sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
    /// SHA-256 of the files that it was made from.
    pub sources: BTreeMap<String, String>,
}

/// Upper limits. They are far above every CLIP; they bound what a bundle can ask for.
mod limit {
    pub const IMAGE: usize = 4096;
    pub const GRID: usize = 256;
    pub const WIDTH: usize = 8192;
    pub const LAYERS: usize = 128;
    pub const TOKENS: usize = 76;
    pub const PROMPTS: usize = 1024;
    pub const TEXT: usize = 4096;
    pub const TAPS: usize = 8;
    pub const REGISTERS: usize = 64;
}

/// Refuses a value outside `low..=high`; NaN lies outside every range.
fn within<T: PartialOrd + std::fmt::Display>(
    key: &str,
    value: T,
    low: T,
    high: T,
) -> Result<(), BundleError> {
    if value >= low && value <= high {
        return Ok(());
    }
    let what = format!("{key} = {value} is not in {low}..{high}");
    Err(BundleError::architecture("manifest", what))
}

impl Manifest {
    /// Checks every number against the others and against hard limits.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] that names the key.
    pub fn check(&self) -> Result<(), BundleError> {
        let fail = |what: String| Err(BundleError::architecture("manifest", what));
        self.image.check("image")?;
        if let Some(network) = &self.network {
            network.image.check("network.image")?;
            network.check(self.image.grid(), limit::WIDTH, limit::TAPS)?;
            let last = network.taps.last().map_or(0, |t| t.channels);
            let (width, layers) = (self.vision.width, self.vision.layers);
            if self.text.is_none() && (width, layers) != (last, network.taps.len()) {
                return fail(format!(
                    "vision = {width} x {layers}: an encoder that is a network has its last tap's width and a layer per tap"
                ));
            }
        }
        for (key, tower) in [("vision", &self.vision), ("text", &self.text)] {
            if key == "text" && tower.is_none() {
                continue;
            }
            within(&format!("{key}.width"), tower.width, 1, limit::WIDTH)?;
            within(&format!("{key}.layers"), tower.layers, 1, limit::LAYERS)?;
            within(&format!("{key}.heads"), tower.heads, 1, tower.width)?;
            within(&format!("{key}.epsilon"), tower.epsilon, 1e-12, 0.1)?;
            if !tower.width.is_multiple_of(tower.heads) {
                return fail(format!(
                    "{key}.width = {} is no multiple of {key}.heads = {}",
                    tower.width, tower.heads
                ));
            }
        }
        within("vv_layers", self.vv_layers, 0, self.vision.layers)?;
        self.check_text()?;
        within("number of memory taps", self.memory.len(), 0, limit::TAPS)?;
        for tap in &self.memory {
            tap.check(self.vision.layers, self.vv_layers)?;
            if tap.rows == Rows::Class {
                return fail(format!("memory tap `{tap}`: the memory compares patches"));
            }
        }
        match &self.method {
            Some(method) => method.check(self.vision.layers, self.vv_layers)?,
            None => self.check_prompts()?,
        }
        within("scores.temperature", self.scores.temperature, 1e-4, 1e4)?;
        within(
            "scores.smoothing_sigma",
            self.scores.smoothing_sigma,
            0.0,
            self.image.size as f32,
        )?;
        within("scores.threshold", self.scores.threshold, 0.0, 1.0)?;
        if let Some(score) = self.known_score {
            within("known_score", score, 0.0, 1.0)?;
        }
        for (key, text) in [
            ("name", &self.name),
            ("description", &self.description),
            ("created_by", &self.created_by),
        ] {
            within(&format!("length of {key}"), text.len(), 0, limit::TEXT)?;
        }
        for text in &self.assumed {
            within("length of assumed", text.len(), 0, limit::TEXT)?;
        }
        Ok(())
    }

    /// Checks that what needs words has them.
    fn check_text(&self) -> Result<(), BundleError> {
        within("registers", self.registers, 0, limit::REGISTERS)?;
        let fail = |what: &str| Err(BundleError::architecture("manifest", what));
        let wordless = matches!(self.method_name(), Method::Memory | Method::Heads);
        match (self.text.is_none(), self.registers) {
            (true, _) if !wordless => fail("no text encoder: only memory and heads do without"),
            (true, _) if self.vv_layers > 0 => fail("vv_layers: an encoder without text has none"),
            (true, 1..) if self.network.is_some() => fail("registers: a network has none"),
            (true, _) if self.network.is_some() && self.method_name() != Method::Memory => {
                fail("a network without text judges by good parts alone (method memory)")
            }
            (false, 1..) => fail("registers: an encoder beside a text encoder has none"),
            _ => Ok(()),
        }
    }

    /// Channels of the features that methods compare: those that pictures and words share, or the image
    /// encoder's own where there are no words.
    pub fn embed(&self) -> usize {
        match self.text.is_none() {
            true => self.vision.width,
            false => self.text.width,
        }
    }

    /// Checks FAPrompt's prompts and prior.
    fn check_prompts(&self) -> Result<(), BundleError> {
        let p = &self.prompts;
        within("prompts.normal_tokens", p.normal_tokens, 1, limit::TOKENS)?;
        within(
            "prompts.abnormal_tokens",
            p.abnormal_tokens,
            1,
            limit::TOKENS,
        )?;
        within(
            "prompts.abnormal_prompts",
            p.abnormal_prompts,
            1,
            limit::PROMPTS,
        )?;
        within(
            "prompts.suffix_rows",
            p.suffix_rows,
            p.abnormal_tokens + 1,
            limit::TOKENS,
        )?;
        within(
            "prompts.deep_blocks",
            p.deep_blocks,
            0,
            self.text.layers - 1,
        )?;
        within(
            "prompts.deep_length",
            p.deep_length,
            0,
            p.prefix_rows() + p.suffix_rows - 2,
        )?;
        within(
            "prior.selected_patches",
            self.prior.selected_patches,
            1,
            self.image.grid().pow(2),
        )?;
        within("prior.hidden", self.prior.hidden, 1, limit::WIDTH)
    }

    /// Which rows the memory of good parts compares: those that the bundle names, else the raw tokens after the
    /// blocks at a sixth, a third and half of the depth.
    ///
    /// Of a bundle with a [network](NetworkSpec): what that hands out, as patches after as many blocks.
    pub fn memory_taps(&self) -> Vec<Tap> {
        if let Some(network) = &self.network {
            return (1..=network.taps.len()).map(Tap::patches).collect();
        }
        let mut taps = self.memory.clone();
        if taps.is_empty() {
            let layers = self.vision.layers;
            let mut blocks = vec![layers.div_ceil(6), layers.div_ceil(3), layers.div_ceil(2)];
            blocks.dedup();
            taps = blocks.into_iter().map(Tap::raw).collect();
        }
        if self.method.as_ref().is_some_and(|m| m.visual_tokens > 0) {
            // Learned rows stand among the others within the blocks: only patches can be tapped there.
            taps.iter_mut().for_each(|tap| tap.rows = Rows::Patches);
        }
        taps
    }

    /// Whether the image encoder is a network of the user's own.
    pub fn is_network(&self) -> bool {
        self.network.is_some() && self.text.is_none()
    }

    /// The second encoder, whose rows only the memory of good parts compares, if there is one.
    pub fn memory_network(&self) -> Option<&NetworkSpec> {
        self.network.as_ref().filter(|_| !self.text.is_none())
    }

    /// The method that the bundle runs.
    pub fn method_name(&self) -> Method {
        self.method.as_ref().map_or(Method::Faprompt, |m| m.name)
    }

    /// What the normalisations of a part of the bundle add to the variance: the text encoder's in the
    /// prompt tower, the image encoder's everywhere else.
    pub fn epsilon(&self, part: &str) -> f32 {
        match part {
            "tower" => self.text.epsilon,
            _ => self.vision.epsilon,
        }
    }

    /// Multiplications of the image encoder's matrices for one frame: what a frame costs at least. With those of a
    /// network of the user's own.
    pub fn encoder_products(&self) -> f64 {
        let network = self.network.as_ref().map_or(0.0, |n| n.products as f64);
        if self.is_network() {
            return network;
        }
        let tokens = (self.image.grid() * self.image.grid() + 1) as f64;
        let width = self.vision.width as f64;
        // Per block: 3 for query, key, value, 1 for the output, 4 + 4 for the MLP; the V-V stream has an
        // output of its own.
        network + tokens * width * width * (12 * self.vision.layers + self.vv_layers) as f64
    }

    /// A line that every output of an untrained bundle carries.
    pub fn warning(&self) -> Option<&'static str> {
        (!self.trained).then_some(
            "UNTRAINED BUNDLE: its weights are random, its scores and verdicts mean nothing",
        )
    }
}
