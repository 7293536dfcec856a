//! Image encoders without text: DINOv2 as its authors, Hugging Face and timm have it, and timm's plain ViTs.
//!
//! All sizes come from the weights; the configuration beside them says heads, epsilon and normalisation. Layer
//! scale becomes part of the matrices before it, the patches' bias part of their positions. What would make
//! another network than the one that was trained is refused by name; what has to be assumed is said.

pub(super) mod config;
mod read;

use super::TrainError;
use super::clip::{Block, Norm, Overrides, Preprocess, refuse_unread, resized, weight_file};
use super::export::{ExportOptions, Exported, Writer};
use super::tensors::{TensorError, Tensors};
use crate::bundle::BundleWriter;
use crate::bundle::manifest::{
    ActivationKind, Manifest, PriorSpec, PromptSpec, ScoreRule, ScoreSpec, TowerSpec,
};
use crate::bundle::method::{Method, MethodSpec, Positions};
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use config::Said;
use ndarray::{Array1, Array2};
use read::Layout;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Means of R, G and B over ImageNet, 0..=1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviations of R, G and B over ImageNet.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];
/// What the normalisations of DINOv2 and of timm's ViTs add to the variance.
const EPSILON: f32 = 1e-6;
/// Channels of an attention head in DINOv2 and in nearly all of timm's ViTs.
const HEAD: usize = 64;
/// The side that AnomalyDINO (WACV 2025) shows DINOv2 pictures at; the weights' own is 518.
const ANOMALY_DINO: usize = 448;

/// An image encoder without text.
pub struct Backbone {
    /// The file that it was read from.
    pub path: PathBuf,
    /// SHA-256 of the weight file (of shards: of their digests).
    pub digest: String,
    /// Whether the file says that its numbers were never trained.
    pub untrained: bool,
    /// What becomes of a frame.
    pub preprocess: Preprocess,
    /// What neither the weights nor a configuration said: a sentence each.
    pub assumed: Vec<String>,
    /// Channels of the tokens.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// What its normalisations add to the variance.
    pub epsilon: f32,
    /// Side of a patch.
    pub patch: usize,
    /// Patches per side that the positions are for.
    pub grid: usize,
    /// How its library resizes positions.
    pub how: Positions,
    /// The patch embedding, [width, 3 * patch * patch], columns in (channel, y, x) order.
    pub(super) conv1: Array2<f32>,
    /// The bias of the patch embedding, [width].
    bias: Array1<f32>,
    /// The class token with its position, [width].
    pub(super) class_row: Array1<f32>,
    /// The positions of the patches, [grid * grid, width].
    positions: Array2<f32>,
    /// The registers, [registers, width].
    pub(super) registers: Array2<f32>,
    /// The blocks, with layer scale multiplied into `out` and `proj`.
    pub blocks: Vec<Block>,
    /// The normalisation after the last block.
    pub(super) norm: Norm,
}

impl Backbone {
    /// Reads a weight file or a folder with its configuration. What `overrides` say counts first.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: unreadable, no such encoder, or one that computes something else than what this
    /// program runs; the message names every tensor or key that says so.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Backbone, TrainError> {
        Backbone::read(path, overrides).map_err(|e| TrainError::Weights {
            path: path.to_path_buf(),
            what: e.to_string(),
        })
    }

    fn read(path: &Path, overrides: &Overrides) -> Result<Backbone, TensorError> {
        let file = weight_file(path)?;
        let tensors = Tensors::load(&file)?;
        let digest = tensors
            .digest()
            .map_err(|e| TensorError::File(e.to_string()))?;
        if tensors.computed().is_some() {
            let what =
                "an ONNX file: --encoder takes it, with --taps; --weights reads PyTorch's files";
            return Err(TensorError::File(what.into()));
        }
        let (layout, tensors, outside) = read::find(tensors, overrides)?;
        let said = Said::beside(&file, overrides)?;
        let mut all = read::encoder(&tensors, layout)?;
        let ignored = refuse_unread(&tensors, read::without_heads(outside), overrides)?;
        let width = all.width;
        said.refuse_other_weights(width, all.blocks.len())?;
        let mut assumed = vec![];
        let mut or = |what: &str, option: &str, value: String| {
            assumed.push(format!(
                "{what} {value} (no configuration says it; {option})"
            ));
        };
        let heads = overrides.heads.map(|h| h[0]).or(said.heads);
        let heads = heads.unwrap_or_else(|| {
            let heads = (width / HEAD).max(1);
            or("attention heads", "--heads", heads.to_string());
            heads
        });
        let epsilon = overrides.epsilon.or(said.epsilon).unwrap_or_else(|| {
            // timm's configurations never say it, and all of its ViTs have this one.
            if !said.found {
                or("epsilon", "--epsilon", format!("{EPSILON:e}"));
            }
            EPSILON
        });
        let mean = overrides.mean.or(said.mean).unwrap_or_else(|| {
            or("mean", "--mean", "of ImageNet".into());
            MEAN
        });
        let std = overrides.std.or(said.std).unwrap_or_else(|| {
            or("deviation", "--std", "of ImageNet".into());
            STD
        });
        let interpolation = overrides.interpolation.or(said.interpolation);
        if heads == 0 || !width.is_multiple_of(heads) {
            let what = format!("{heads} heads of an encoder {width} wide: name them with --heads");
            return Err(TensorError::File(what));
        }
        for name in ignored {
            assumed.push(format!("`{name}` changes nothing (--ignore)"));
        }
        all.fold_layer_scale();
        Ok(Backbone {
            path: path.to_path_buf(),
            digest,
            untrained: tensors.is_untrained(),
            preprocess: Preprocess {
                mean,
                std,
                interpolation: interpolation.unwrap_or_default(),
            },
            assumed,
            width,
            heads,
            epsilon,
            patch: all.patch,
            grid: all.grid,
            // Hugging Face samples the positions of DINOv2 without registers; with registers it averages when
            // shrinking, as timm does.
            how: match (layout, all.registers.nrows()) {
                (Layout::HuggingFace, 0) => Positions::Bicubic,
                _ => Positions::BicubicAntialias,
            },
            conv1: all.conv1,
            bias: all.bias,
            class_row: all.class_row,
            positions: all.positions,
            registers: all.registers,
            blocks: all.blocks,
            norm: all.norm,
        })
    }

    /// Its architecture in words.
    pub fn name(&self) -> String {
        let registers = match self.registers.nrows() {
            0 => String::new(),
            n => format!(", {n} registers"),
        };
        format!(
            "ViT {} x {}, patch {}, {} px{registers}",
            self.width,
            self.blocks.len(),
            self.patch,
            self.patch * self.grid
        )
    }

    /// The side of the input if the user names none: the weights' own, but AnomalyDINO's 448 for DINOv2's 518.
    pub fn default_image_size(&self) -> usize {
        match self.patch * self.grid {
            518 => ANOMALY_DINO,
            own => own,
        }
    }

    /// What a memory of good parts compares if the user names no blocks: AnomalyDINO's tokens after the last
    /// block, normalised.
    pub fn default_taps(&self) -> Vec<Tap> {
        vec![Tap {
            block: self.blocks.len(),
            stream: Stream::X,
            form: Form::LnPost,
            rows: Rows::Patches,
        }]
    }

    /// The patches' positions with their bias, resized to a grid of `grid` patches a side, [grid * grid, width].
    pub(super) fn positions_for(&self, grid: usize, how: Positions) -> Array2<f32> {
        resized(self.positions.view(), self.grid, grid, how) + &self.bias
    }

    fn write(&self, w: &mut Writer, grid: usize, how: Positions) {
        w.matrix("encoder/conv1", &self.conv1);
        w.vector("encoder/class_row", &self.class_row);
        w.table("encoder/positions", &self.positions_for(grid, how));
        if self.registers.nrows() > 0 {
            w.table("encoder/registers", &self.registers);
        }
        for (i, block) in self.blocks.iter().enumerate() {
            w.block(&format!("encoder/blocks.{i}"), block);
        }
        w.norm("encoder/ln_post", &self.norm);
    }

    /// The manifest of a bundle that judges by `method`.
    ///
    /// # Errors
    /// [`TrainError::Options`] if the options do not fit the weights.
    pub(super) fn manifest(
        &self,
        method: MethodSpec,
        options: &ExportOptions,
    ) -> Result<Manifest, TrainError> {
        let size = options.image_size.unwrap_or(self.default_image_size());
        let layers = self.blocks.len();
        let manifest = Manifest {
            name: options.name.clone().unwrap_or(self.name()),
            created_by: concat!("faprompt-train ", env!("CARGO_PKG_VERSION")).into(),
            trained: options.trained && !self.untrained,
            description: options.description.clone(),
            image: super::export::image_spec(&self.preprocess, size, self.patch),
            activation: ActivationKind::Gelu,
            vision: TowerSpec {
                width: self.width,
                layers,
                heads: self.heads,
                epsilon: self.epsilon,
            },
            vv_layers: 0,
            memory: match options.memory.is_empty() {
                true => self.default_taps(),
                false => options.memory.clone(),
            },
            text: TowerSpec::none(),
            registers: self.registers.nrows(),
            network: None,
            prompts: PromptSpec::none(),
            prior: PriorSpec::none(),
            scores: ScoreSpec {
                temperature: 0.07,
                rule: ScoreRule::Code,
                smoothing_sigma: super::export::SIGMA_PER_PIXEL * size as f32,
                threshold: options.threshold,
            },
            precision: options.precision,
            linear_error: vec![],
            known_score: None,
            method: Some(method),
            assumed: self.assumed.clone(),
            sources: BTreeMap::from([("weights".into(), self.digest.clone())]),
        };
        manifest
            .check()
            .map_err(|e| TrainError::Options(e.to_string()))?;
        Ok(manifest)
    }

    /// Makes a bundle that judges by good parts alone at `out`; `how` are its positions resized if not as its
    /// library does.
    ///
    /// # Errors
    /// [`TrainError::Options`] if the options do not fit the weights, [`TrainError::Output`] if the file cannot be
    /// written.
    pub fn export(
        &self,
        options: &ExportOptions,
        how: Option<Positions>,
        out: &Path,
    ) -> Result<Exported, TrainError> {
        let method = MethodSpec {
            positions: how.unwrap_or(self.how),
            ..MethodSpec::of(Method::Memory, self.blocks.len())
        };
        let manifest = self.manifest(method, options)?;
        let w = Writer::new(BundleWriter::new(options.precision));
        self.finish(w, manifest, out)
    }

    /// The bundle of `manifest` at `out`: the encoder and what `w` holds already.
    ///
    /// # Errors
    /// As [`Backbone::export`].
    pub(super) fn finish(
        &self,
        mut w: Writer,
        manifest: Manifest,
        out: &Path,
    ) -> Result<Exported, TrainError> {
        let how = manifest.method.as_ref().map_or(self.how, |m| m.positions);
        self.write(&mut w, manifest.image.grid(), how);
        let (manifest, bytes) = w.checked(manifest)?;
        crate::bundle::save(&bytes, out).map_err(|source| TrainError::Output {
            path: out.to_path_buf(),
            source,
        })?;
        Ok(Exported {
            manifest,
            bytes: bytes.len() as u64,
        })
    }
}
