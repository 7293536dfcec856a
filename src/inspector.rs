//! A bundle made ready to judge frames: preprocess, encode, adapt, score.

use crate::bundle::envelope::hex;
use crate::bundle::manifest::{Manifest, Precision, ScoreRule};
use crate::bundle::method::Method;
use crate::bundle::tap::Tap;
use crate::bundle::{Bundle, BundleError};
use crate::capture::known_frame;
use crate::faprompt::map::{self, Map};
use crate::faprompt::{Adaptation, AdaptationMode, score};
use crate::gpu::{self, Backend, GpuError};
use crate::memory::file::TaughtError;
use crate::memory::region::{Looked, RegionError, Regions};
use crate::memory::{Descriptor, Layout, Taught, ZeroShot};
use crate::methods::memory::Memory;
use crate::methods::{self, Room, Said};
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
use crate::ops::{slice, slice_mut};
use crate::tiling::Tiling;
use crate::vision::{Encoder, PreprocessError, Preprocessor};
use image::RgbImage;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Instant;

/// The known frame's score may differ by so much between machines, kernels and number formats: int8
/// arithmetic moves most scores by a few thousandths (0.003 on average, one of 3,392 real pictures by 0.045),
/// f16 by less than one.
pub const KNOWN_TOLERANCE: f32 = 0.02;

/// Why a frame got no score. The line treats it as a reject.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The frame could not be preprocessed.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The network failed.
    #[error("inference: {0:#}")]
    Inference(TractError),
    /// The network's answer is no number.
    #[error("inference: the image score is {0}")]
    NotFinite(f32),
}

/// Why frames are not cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// Its types of defects are shares of a whole part.
    #[error(
        "{0} says which type of defect a whole part has: it judges no tiles (leave --tiles out)"
    )]
    Types(Method),
    /// Its own form of good parts.
    #[error(
        "{0} compares whole parts with good ones, as its paper does, and no tiles (leave --tiles out)"
    )]
    GoodParts(Method),
}

/// Milliseconds per stage; a GPU's whole work counts as `encode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stages {
    /// Resizing and normalising.
    pub preprocess: f64,
    /// The image encoder.
    pub encode: f64,
    /// The prior network and the prompt tower.
    pub adapt: f64,
    /// Normalising, patch scores, selection, image score.
    pub score: f64,
    /// Descriptors, and the comparison with good parts; 0 without a memory of them.
    pub memory: f64,
}

impl Stages {
    /// All of them.
    pub fn total(&self) -> f64 {
        self.preprocess + self.encode + self.adapt + self.score + self.memory
    }
}

/// A stage that just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// [`Stages::preprocess`].
    Preprocess,
    /// [`Stages::encode`].
    Encode,
    /// [`Stages::adapt`].
    Adapt,
    /// [`Stages::score`]; ends twice, before and after the adaptation.
    Score,
}

/// What is known of a frame.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// The score, 0..=1; above the threshold is a reject. Of FAPrompt's and the memory's where good parts
    /// were taught, else FAPrompt's.
    pub score: f32,
    /// FAPrompt's image score, 0..=1; of an encoder without words a number that says nothing about the part.
    pub zero_shot: f32,
    /// The memory's: how far the part is from good ones, in the unit of its kind; none where none was taught.
    pub memory: Option<f32>,
    /// q: the abnormal probability of the image feature. Of a frame in tiles, this, the prior and the
    /// prototype are those of the tile with the largest score.
    pub image_probability: f32,
    /// Largest patch score with the unadapted prototype.
    pub max_score: f32,
    /// Largest patch score with the adapted one.
    pub max_score_adapted: f32,
    /// Length of the prior Omega; 0 if adaptation is off.
    pub prior_norm: f32,
    /// Abnormal score of each patch, raster order, tile by tile.
    pub patch_scores: Vec<f32>,
    /// The same with the adapted prototype.
    pub patch_scores_adapted: Vec<f32>,
    /// The mixture of FAPrompt's map and the memory's, 0..=1; empty where nothing was taught.
    pub patch_mixture: Vec<f32>,
    /// FAPrompt's score of each group of patches that is looked at.
    groups: Vec<f32>,
    /// Omega, [C]; empty if adaptation is off.
    pub prior: Vec<f32>,
    /// The adapted abnormal prototype, [C], unit length.
    pub abnormal: Vec<f32>,
    /// Where the time went.
    pub ms: Stages,
    /// What a method other than FAPrompt said.
    said: Option<Said>,
    /// Whether a part has no score until good ones were taught.
    alone: bool,
    grid: usize,
    side: usize,
    tiles: Tiling,
    regions: Arc<Regions>,
}

impl Inspection {
    /// The S x S anomaly map, not smoothed: in 0..=1, or what the method's own sum comes to.
    pub fn map(&self) -> Map {
        let joined = |values: &[f32]| map::joined(values, self.grid, self.tiles, self.side);
        match &self.said {
            _ if !self.patch_mixture.is_empty() => joined(&self.patch_mixture),
            Some(said) if self.tiles.is_whole() => said.map(self.grid, self.side),
            _ => {
                let mut mean = vec![];
                self.zero_shot_map(&mut mean);
                joined(&mean)
            }
        }
    }

    /// Where the part was looked at.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// What each type of defect amounts to, should the part be defective: its share, 0..=1, and its map; empty
    /// for methods without types.
    pub fn types(&self) -> Vec<(f32, Map)> {
        let Some(said) = &self.said else {
            return vec![];
        };
        let grids = said.type_grids.chunks_exact(self.grid * self.grid);
        said.types
            .iter()
            .zip(grids)
            .map(|(share, grid)| (*share, said.drawing.draw(grid, self.grid, self.side)))
            .collect()
    }

    /// The most likely type of defect and its share; `None` where it does not exceed the next one by `margin`,
    /// or the method has no types.
    pub fn kind(&self, margin: f32) -> Option<(usize, f32)> {
        self.said.as_ref().and_then(|said| said.kind(margin))
    }

    /// Of a picture in which nothing was seen.
    #[cfg(test)]
    pub(crate) fn blank(grid: usize, side: usize) -> Inspection {
        Inspection {
            patch_scores: vec![0.0; grid * grid],
            patch_scores_adapted: vec![0.0; grid * grid],
            grid,
            side,
            ..Inspection::default()
        }
    }

    /// FAPrompt's score of each group of patches that is looked at.
    pub fn groups(&self) -> &[f32] {
        &self.groups
    }

    /// What teaching wants to know of the opinion that needs no good parts.
    pub fn as_zero_shot(&self) -> ZeroShot {
        if self.alone {
            // It has none.
            return ZeroShot::default();
        }
        let highest = self.max_score.max(self.max_score_adapted);
        ZeroShot {
            score: self.zero_shot,
            highest,
        }
    }

    /// Its map, patch by patch: the mean of both of FAPrompt's.
    pub fn zero_shot_map(&self, out: &mut Vec<f32>) {
        let both = self.patch_scores.iter().zip(&self.patch_scores_adapted);
        out.clear();
        out.extend(both.map(|(a, b)| (a + b) / 2.0));
    }

    /// Before the first frame.
    fn of(manifest: &Manifest, tiles: Tiling) -> Inspection {
        Inspection {
            alone: manifest.method_name() == Method::Memory,
            grid: manifest.image.grid(),
            side: manifest.image.size,
            tiles,
            ..Inspection::default()
        }
    }

    /// Before a frame's first tile.
    fn begin(&mut self) {
        (self.score, self.zero_shot, self.memory) = (f32::NEG_INFINITY, 0.0, None);
        (self.max_score, self.max_score_adapted) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        self.ms = Stages::default();
        self.patch_scores.clear();
        self.patch_scores_adapted.clear();
        self.groups.clear();
    }

    /// Takes in what was seen of the next tile. The frame's score is its tiles' largest.
    fn add(&mut self, tile: &mut Inspection) {
        self.patch_scores.extend_from_slice(&tile.patch_scores);
        let adapted = &tile.patch_scores_adapted;
        self.patch_scores_adapted.extend_from_slice(adapted);
        self.groups.resize(tile.groups.len(), f32::NEG_INFINITY);
        for (all, own) in self.groups.iter_mut().zip(&tile.groups) {
            *all = all.max(*own);
        }
        self.max_score = self.max_score.max(tile.max_score);
        self.max_score_adapted = self.max_score_adapted.max(tile.max_score_adapted);
        self.zero_shot = self.zero_shot.max(tile.zero_shot);
        let (ms, own) = (&mut self.ms, &tile.ms);
        ms.encode += own.encode;
        ms.adapt += own.adapt;
        ms.score += own.score;
        ms.memory += own.memory;
        // `max` would lose what is no number.
        if tile.score.is_nan() || tile.score > self.score {
            self.score = tile.score;
            self.image_probability = tile.image_probability;
            self.prior_norm = tile.prior_norm;
            std::mem::swap(&mut self.prior, &mut tile.prior);
            std::mem::swap(&mut self.abnormal, &mut tile.abnormal);
            std::mem::swap(&mut self.said, &mut tile.said);
        }
    }

    /// What follows from patch scores, image probability and prior: the largest score of a group of patches
    /// with one threshold, each less what its threshold is higher.
    fn conclude(&mut self, rule: ScoreRule, looked: &Looked) {
        self.max_score = score::max(&self.patch_scores);
        self.max_score_adapted = score::max(&self.patch_scores_adapted);
        self.groups.clear();
        (self.zero_shot, self.score) = (0.0, f32::NEG_INFINITY);
        for group in looked.groups() {
            let highest = |scores: &[f32]| {
                let of_group = scores.iter().zip(&group.patches).filter(|(_, own)| **own);
                of_group.fold(f32::NEG_INFINITY, |m, (v, _)| m.max(*v))
            };
            let score = score::image_score(
                self.image_probability,
                highest(&self.patch_scores),
                highest(&self.patch_scores_adapted),
                rule,
            );
            self.groups.push(score);
            self.zero_shot = self.zero_shot.max(score);
            // `max` would lose what is no number.
            let lowered = if group.offset == 0.0 {
                score
            } else {
                (score - group.offset).clamp(0.0, 1.0)
            };
            if lowered.is_nan() || lowered > self.score {
                self.score = lowered;
            }
        }
        self.prior_norm = score::norm(&self.prior);
    }
}

/// A GPU that works, or its error told: the CPU goes on, perhaps too slowly for the line, and whoever
/// counts late parts should know why.
fn told<T>(result: Result<T, GpuError>) -> Option<T> {
    result
        .inspect_err(|e| log::error!("no GPU: {e}; the CPU judges"))
        .ok()
}

/// Other values in the same memory.
fn refill(to: &mut Vec<f32>, from: &[f32]) {
    to.clear();
    to.extend_from_slice(from);
}

/// Refuses scores that are no numbers.
fn finite(what: &str, values: &[f32]) -> TractResult<()> {
    match values.iter().find(|v| !v.is_finite()) {
        None => Ok(()),
        Some(v) => Err(TractError::msg(format!("the {what} hold {v}"))),
    }
}

/// Cores of this machine: the threads to use unless the user says otherwise.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How the abnormal prototype follows the prior.
    pub adaptation: AdaptationMode,
    /// Threads for one frame.
    pub threads: usize,
    /// How weights are multiplied.
    pub arithmetic: Arithmetic,
    /// What frames are judged on.
    pub runtime: Backend,
    /// Whether good parts can be taught: the encoder then hands out what a memory of them compares.
    pub memory: bool,
}

impl Default for Options {
    /// Exact, on one thread of this processor.
    fn default() -> Self {
        Options {
            adaptation: AdaptationMode::Exact,
            threads: 1,
            arithmetic: Arithmetic::Auto,
            runtime: Backend::Cpu,
            memory: false,
        }
    }
}

/// A network that judges frames.
pub struct Inspector {
    manifest: Manifest,
    preprocessor: Preprocessor,
    encoder: Encoder,
    adaptation: Adaptation,
    /// The method, if it is not FAPrompt.
    room: Option<Box<dyn Room>>,
    normal: Vec<f32>,
    abnormal: Vec<f32>,
    /// Judges instead of encoder and adaptation as long as it can.
    gpu: Option<gpu::GpuNetwork>,
    executor: Executor,
    exact: bool,
    arithmetic: Arithmetic,
    work: Work,
    tiles: Tiling,
    /// The tile that is judged.
    at: usize,
    /// What was seen of it.
    seen: Inspection,
    last: Inspection,
    good: Option<GoodParts>,
    /// Those that were set; what was taught may bring others.
    regions: Arc<Regions>,
    /// Which patches of each tile are looked at.
    looked: Vec<Looked>,
}

/// What it takes to compare a frame with good parts.
struct GoodParts {
    /// Which encoder's descriptors these are.
    encoder: String,
    descriptor: Descriptor,
    /// Of the last frame, [places, dim].
    descriptors: Vec<f32>,
    taught: Option<Arc<[u8]>>,
    memory: Option<Taught>,
    /// FAPrompt's map of the last frame.
    map: Vec<f32>,
}

/// Which encoder it is, as far as descriptors depend on it: its weights, the input's size, the taps.
fn encoder_of(bundle: &Bundle, taps: &[Tap]) -> String {
    let manifest = bundle.manifest();
    let mut hash = Sha256::new();
    hash.update(bundle.digests().get("encoder").map_or("", String::as_str));
    hash.update(format!(
        " {} {:?}",
        manifest.image.size, manifest.activation
    ));
    for tap in taps {
        hash.update(format!(" {tap}"));
    }
    hex(&hash.finalize())
}

/// What of regions lies in each tile.
fn per_tile(looked: &Looked, tiles: Tiling, patches: usize) -> Vec<Looked> {
    let tile = |tile| looked.tile(tile, patches);
    (0..tiles.count()).map(tile).collect()
}

/// Threads for one frame.
fn executor(threads: usize) -> Executor {
    match threads {
        0 | 1 => Executor::SingleThread,
        n => Executor::multithread_with_name(n, "inference"),
    }
}

/// Memory that every frame uses again.
struct Work {
    /// Unit patch features, [N, C].
    patches: Vec<f32>,
    /// The unit image feature, [C].
    image: Vec<f32>,
    /// The patches that feed the prior.
    chosen: Vec<usize>,
    /// Their features, [1, M * C].
    selected: Arc<Tensor>,
}

impl Work {
    fn new(manifest: &Manifest) -> TractResult<Work> {
        let inputs = manifest.prior.selected_patches * manifest.text.width;
        Ok(Work {
            patches: vec![],
            image: vec![],
            chosen: vec![],
            selected: Arc::new(Tensor::zero::<f32>(&[1, inputs])?),
        })
    }
}

impl Inspector {
    /// Builds the networks of a bundle. Nothing of the bundle is needed afterwards.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if the bundle's tensors do not fit its manifest,
    /// [`BundleError::Processor`] if this processor does not have the arithmetic.
    pub fn new(bundle: &Bundle, options: Options) -> Result<Inspector, BundleError> {
        options.arithmetic.check().map_err(BundleError::Processor)?;
        let manifest = bundle.manifest().clone();
        let width = manifest.embed();
        let prototype = |name: &str| {
            let tensor = bundle.tensor(&format!("prototypes/{name}"), &[width])?;
            let mut values = slice(&tensor)
                .map_err(|e| BundleError::architecture("prototypes", e))?
                .to_vec();
            score::normalise_rows(&mut values, width);
            Ok(values)
        };
        let arithmetic = options.arithmetic;
        let mut good = None;
        let failed = |e| BundleError::architecture("encoder", format!("{e:#}"));
        let memory_taps = match options.memory {
            true => manifest.memory_taps(),
            false => vec![],
        };
        if options.memory {
            good = Some(GoodParts {
                encoder: encoder_of(bundle, &memory_taps),
                descriptor: Descriptor::new(&manifest, &memory_taps).map_err(failed)?,
                descriptors: vec![],
                taught: None,
                memory: None,
                map: vec![],
            });
        }
        let room = methods::room(bundle, arithmetic, true)?;
        // A method has prototypes of its own, or none.
        let prototype = |name: &str| match room {
            None => prototype(name),
            Some(_) => Ok(vec![]),
        };
        let layers = manifest.vision.layers;
        let (mut taps, adaptation) = match &room {
            None => (
                vec![Tap::faprompt_patches(layers), Tap::faprompt_image(layers)],
                options.adaptation,
            ),
            Some(room) => (room.taps(), AdaptationMode::Off),
        };
        // Behind the method's own.
        taps.extend(&memory_taps);
        let encoder = Encoder::with_taps(bundle, &taps, manifest.vv_layers, arithmetic)?;
        let gpu = match options.runtime {
            Backend::Cuda if manifest.method_name() == Method::Memory => {
                let numbers = half::f16::datum_type();
                told(gpu::GpuNetwork::encoder_on("cuda", bundle, &taps, numbers))
            }
            Backend::Cuda if room.is_some() => told(Err(GpuError::Method(manifest.method_name()))),
            Backend::Cpu => None,
            Backend::Cuda => told(gpu::GpuNetwork::cuda(
                bundle,
                options.adaptation,
                &memory_taps,
            )),
        };
        let precision = match manifest.precision {
            Precision::F32 => Arithmetic::F32,
            Precision::F16 => Arithmetic::F16,
            Precision::Int8 => Arithmetic::Int8,
        };
        let mut inspector = Inspector {
            gpu,
            preprocessor: Preprocessor::new(&manifest.image),
            encoder,
            good,
            regions: Arc::default(),
            looked: vec![Looked::everywhere(manifest.image.grid().pow(2))],
            adaptation: Adaptation::load(bundle, adaptation, arithmetic)?,
            normal: prototype("normal")?,
            abnormal: prototype("abnormal")?,
            work: Work::new(&manifest).map_err(|e| BundleError::architecture("prior", e))?,
            tiles: Tiling::WHOLE,
            at: 0,
            seen: Inspection::of(&manifest, Tiling::WHOLE),
            last: Inspection::of(&manifest, Tiling::WHOLE),
            manifest,
            executor: executor(options.threads),
            exact: room.is_some() || options.adaptation == AdaptationMode::Exact,
            arithmetic: options.arithmetic.here(precision),
            room,
        };
        if let Some(gpu) = inspector.gpu.take() {
            inspector.gpu = told(inspector.prove(gpu));
        }
        Ok(inspector)
    }

    /// Another one with the same weights, which are in memory once, to judge other frames at the same time
    /// in another thread, by as many threads of its own.
    ///
    /// # Errors
    /// tract's own; none is known.
    pub fn beside(&self) -> TractResult<Inspector> {
        Ok(Inspector {
            manifest: self.manifest.clone(),
            preprocessor: Preprocessor::new(&self.manifest.image),
            encoder: self.encoder.beside()?,
            adaptation: self.adaptation.beside()?,
            room: self.room.as_ref().map(|r| r.beside()).transpose()?,
            normal: self.normal.clone(),
            abnormal: self.abnormal.clone(),
            gpu: self.gpu.as_ref().map(gpu::GpuNetwork::beside).transpose()?,
            executor: match &self.executor {
                Executor::MultiThread(pool) => executor(pool.current_num_threads()),
                one => one.clone(),
            },
            exact: self.exact,
            arithmetic: self.arithmetic,
            work: Work::new(&self.manifest)?,
            tiles: self.tiles,
            at: 0,
            seen: Inspection::of(&self.manifest, Tiling::WHOLE),
            last: Inspection {
                regions: self.last.regions.clone(),
                ..Inspection::of(&self.manifest, self.tiles)
            },
            regions: self.regions.clone(),
            looked: self.looked.clone(),
            good: self
                .good
                .as_ref()
                .map(|g| g.beside(&self.manifest))
                .transpose()?,
        })
    }

    /// This one and as many others [beside](Inspector::beside) it as make `count`.
    ///
    /// # Errors
    /// As [`Inspector::beside`].
    pub fn side_by_side(self, count: usize) -> TractResult<Vec<Inspector>> {
        let mut networks = vec![self];
        while networks.len() < count {
            networks.push(networks[0].beside()?);
        }
        Ok(networks)
    }

    /// Gives a GPU back if it gives the known frame the score that the CPU gives it.
    fn prove(&mut self, mut gpu: gpu::GpuNetwork) -> Result<gpu::GpuNetwork, GpuError> {
        let frame = self
            .preprocessor
            .run(&known_frame())
            .map_err(|e| GpuError::Cuda(TractError::msg(e)))?;
        self.judge_on(&mut gpu, frame.clone(), &mut |_| ())?;
        let found = self.seen.score;
        multithread_tract_scope(self.executor.clone(), || {
            self.judge_here(frame, &mut |_| ())
        })
        .map_err(GpuError::Cuda)?;
        let cpu = self.seen.score;
        // Also false for what is no number.
        if (found - cpu).abs() <= KNOWN_TOLERANCE {
            Ok(gpu)
        } else {
            Err(GpuError::Differs { gpu: found, cpu })
        }
    }

    /// Compares frames with the good parts of a file's bytes from now on, or with none.
    ///
    /// # Errors
    /// [`TaughtError`]: no whole memory, or one that was taught on another encoder or in another arithmetic;
    /// with other regions than those that are set; or this one was made without [`Options::memory`]. What was
    /// taught before stays then.
    pub fn teach(&mut self, taught: Option<Arc<[u8]>>) -> Result<(), TaughtError> {
        let (arithmetic, layout) = (self.arithmetic(), self.layout());
        let (Some(good), Some(layout)) = (&mut self.good, layout) else {
            let what = "a network that was made without a memory";
            return Err(TaughtError::Failed(TractError::msg(what)));
        };
        let memory = match &taught {
            None => None,
            Some(bytes) => Some(good.restore(bytes, layout, arithmetic)?),
        };
        let looked = match &memory {
            Some(memory) => {
                let regions = &memory.about().regions;
                if !self.regions.is_empty() && *self.regions != *regions {
                    let what = "taught with other regions than those that are set";
                    return Err(TaughtError::Another(what.into()));
                }
                self.last.regions = Arc::new(regions.clone());
                memory.about().looked.clone()
            }
            None => {
                self.last.regions = self.regions.clone();
                let looked = self.regions.on(layout.grid, layout.tiles);
                // They were accepted for these tiles.
                looked.unwrap_or_else(|_| Looked::everywhere(layout.places()))
            }
        };
        self.looked = per_tile(&looked, layout.tiles, layout.tile());
        if memory.is_none() {
            (self.last.memory, self.last.patch_mixture) = (None, vec![]);
        }
        (good.taught, good.memory) = (taught, memory);
        Ok(())
    }

    /// Looks at these regions only from now on. What is taught afterwards brings its own, and is refused where both
    /// differ.
    ///
    /// # Errors
    /// Regions without a patch that is looked at.
    pub fn look(&mut self, regions: &Regions) -> Result<(), RegionError> {
        let grid = self.manifest.image.grid();
        let looked = regions.on(grid, self.tiles)?;
        self.looked = per_tile(&looked, self.tiles, grid * grid);
        self.regions = Arc::new(regions.clone());
        self.last.regions = self.regions.clone();
        Ok(())
    }

    /// Where parts are looked at.
    pub fn regions(&self) -> &Regions {
        &self.last.regions
    }

    /// Cuts frames into these tiles from now on: each is encoded at the input's full size, and all together
    /// have one map and one verdict. Forgets regions, and what was taught.
    ///
    /// # Errors
    /// Why this method judges whole frames only.
    pub fn cut(&mut self, tiles: Tiling) -> Result<(), CutError> {
        if let Some(spec) = self.manifest.method.as_ref().filter(|_| !tiles.is_whole()) {
            let own = self.room.as_mut().and_then(|room| room.memory());
            if !spec.types.is_empty() {
                return Err(CutError::Types(spec.name));
            }
            if own.is_some_and(|memory| !memory.is_empty()) {
                return Err(CutError::GoodParts(spec.name));
            }
        }
        self.tiles = tiles;
        self.regions = Arc::default();
        self.last = Inspection::of(&self.manifest, tiles);
        let patches = self.manifest.image.grid().pow(2);
        let everywhere = Looked::everywhere(tiles.count() * patches);
        self.looked = per_tile(&everywhere, tiles, patches);
        if let Some(good) = &mut self.good {
            (good.taught, good.memory) = (None, None);
        }
        Ok(())
    }

    /// What frames are cut into.
    pub fn tiles(&self) -> Tiling {
        self.tiles
    }

    /// What was taught.
    pub fn taught(&self) -> Option<&Taught> {
        self.good.as_ref()?.memory.as_ref()
    }

    /// The file that it was read from.
    pub fn taught_bytes(&self) -> Option<&Arc<[u8]>> {
        self.good.as_ref()?.taught.as_ref()
    }

    /// The last frame's answer, if it was judged.
    pub fn last(&self) -> &Inspection {
        &self.last
    }

    /// The last frame's descriptors [places, dim], as teaching takes them; none without [`Options::memory`].
    pub fn descriptors(&self) -> Option<&[f32]> {
        self.good.as_ref().map(|g| &g.descriptors[..])
    }

    /// The places of a frame; none without [`Options::memory`].
    pub fn layout(&self) -> Option<Layout> {
        let of_a_tile = self.good.as_ref()?.descriptor.layout();
        Some(Layout {
            tiles: self.tiles,
            ..of_a_tile
        })
    }

    /// What a memory is bound to: which encoder, and what it is multiplied in.
    pub fn bound_to(&self) -> Option<(&str, &'static str)> {
        let encoder = &self.good.as_ref()?.encoder;
        Some((encoder, self.arithmetic()))
    }

    /// What the next frame is judged on.
    pub fn runtime(&self) -> Backend {
        match self.gpu {
            Some(_) => Backend::Cuda,
            None => Backend::Cpu,
        }
    }

    /// Whether it has no opinion of any part because none of the good ones was taught, and the bundle has no
    /// words to judge by.
    pub fn is_untaught(&self) -> bool {
        self.last.alone && self.taught().is_none()
    }

    /// How its weights are multiplied: what its scores hang on, and a threshold that was taught by them.
    pub fn arithmetic(&self) -> &'static str {
        match (self.runtime(), self.arithmetic) {
            (Backend::Cuda, _) => "cuda",
            (Backend::Cpu, Arithmetic::Int8) => "int8",
            (Backend::Cpu, Arithmetic::F16) => "f16",
            (Backend::Cpu, Arithmetic::F32 | Arithmetic::Auto) => "f32",
        }
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the known frame's score is to be, if the bundle says so and scores are adapted as they were when
    /// it was measured.
    pub fn known_score(&self) -> Option<f32> {
        self.manifest.known_score.filter(|_| self.exact)
    }

    /// The normal prototype F_n, [C], unit length.
    pub fn normal(&self) -> &[f32] {
        &self.normal
    }

    /// The unadapted abnormal prototype F_a, [C], unit length.
    pub fn abnormal(&self) -> &[f32] {
        &self.abnormal
    }

    /// Judges a frame. The answer stays until the next frame, whose answer takes its memory.
    ///
    /// # Errors
    /// A frame without pixels, or a network that fails or answers with something that is no number.
    pub fn inspect(&mut self, frame: &RgbImage) -> Result<&Inspection, InspectError> {
        self.observe(frame, &mut |_| ())
    }

    /// The same, telling `ended` of each stage.
    ///
    /// # Errors
    /// As [`Inspector::inspect`].
    pub fn observe(
        &mut self,
        frame: &RgbImage,
        ended: &mut dyn FnMut(Stage),
    ) -> Result<&Inspection, InspectError> {
        self.last.begin();
        if let Some(good) = &mut self.good {
            good.descriptors.clear();
        }
        for tile in 0..self.tiles.count() {
            let start = Instant::now();
            let area = self.tiles.area(tile, frame.width(), frame.height());
            let tensor = self.preprocessor.run_on(frame, area)?;
            self.last.ms.preprocess += start.elapsed().as_secs_f64() * 1e3;
            ended(Stage::Preprocess);
            self.at = tile;
            multithread_tract_scope(self.executor.clone(), || self.judge(tensor, ended))
                .map_err(InspectError::Inference)?;
            self.last.add(&mut self.seen);
        }
        multithread_tract_scope(self.executor.clone(), || self.compare())
            .map_err(InspectError::Inference)?;
        if self.last.score.is_finite() {
            Ok(&self.last)
        } else {
            Err(InspectError::NotFinite(self.last.score))
        }
    }

    /// FAPrompt's score of the known frame: whole, and looked at everywhere, whatever parts' frames are cut into
    /// and compared with. What is known of the last frame stays.
    ///
    /// # Errors
    /// As [`Inspector::inspect`].
    pub fn known_frame_score(&mut self) -> Result<f32, InspectError> {
        let tensor = self.preprocessor.run(&known_frame())?;
        let everywhere = Looked::everywhere(self.manifest.image.grid().pow(2));
        let looked = std::mem::replace(&mut self.looked, vec![everywhere]);
        let good = self.good.take();
        self.at = 0;
        let judged =
            multithread_tract_scope(self.executor.clone(), || self.judge(tensor, &mut |_| ()));
        (self.looked, self.good) = (looked, good);
        judged.map_err(InspectError::Inference)?;
        match self.seen.score.is_finite() {
            true => Ok(self.seen.zero_shot),
            false => Err(InspectError::NotFinite(self.seen.score)),
        }
    }

    /// Shows a good part to a method that compares with such (WinCLIP, APRIL-GAN); [`Inspector::good_parts`]
    /// has them afterwards.
    ///
    /// # Errors
    /// As [`Inspector::inspect`], and a method that compares nothing with good parts.
    pub fn remember(&mut self, frame: &RgbImage) -> Result<(), InspectError> {
        let tensor = self.preprocessor.run(frame)?;
        let (room, encoder, tiles) = (&mut self.room, &mut self.encoder, self.tiles);
        multithread_tract_scope(self.executor.clone(), || {
            ensure!(
                tiles.is_whole(),
                "this method compares whole frames with good parts, not tiles"
            );
            let room = room
                .as_mut()
                .context("faprompt compares with no such parts")?;
            let taps = encoder.taps(tensor.clone())?;
            room.remember(&tensor, taps)?;
            room.remembered()
        })
        .map_err(InspectError::Inference)
    }

    /// Hands the method good parts that were kept elsewhere.
    ///
    /// # Errors
    /// What does not fit.
    pub fn recall(&mut self, memory: Memory) -> Result<(), String> {
        if !self.tiles.is_whole() {
            return Err(CutError::GoodParts(self.manifest.method_name()).to_string());
        }
        match &mut self.room {
            Some(room) => room.recall(memory),
            None => Err("faprompt compares with no such parts".into()),
        }
    }

    /// The good parts that the method was shown; `None` for a method without a few-shot form.
    pub fn good_parts(&mut self) -> Option<&mut Memory> {
        self.room.as_mut()?.memory()
    }

    /// Compares what was just encoded with good parts, if any were taught.
    fn compare(&mut self) -> TractResult<()> {
        let (arithmetic, last) = (self.arithmetic(), &mut self.last);
        if last.alone {
            // Nothing is known to be good.
            last.score = 1.0;
        }
        let Some(good) = &mut self.good else {
            return Ok(());
        };
        let Some(memory) = &mut good.memory else {
            return Ok(());
        };
        // A GPU that has just failed: the processor's descriptors are other numbers.
        ensure!(
            memory.about().arithmetic == arithmetic,
            "good parts were taught in {}, and this frame was encoded in {arithmetic}",
            memory.about().arithmetic
        );
        let start = Instant::now();
        last.zero_shot_map(&mut good.map);
        let outcome = memory.judge(
            &good.descriptors,
            &last.groups,
            &good.map,
            &mut last.patch_mixture,
        )?;
        (last.score, last.memory) = (outcome.score, Some(outcome.memory));
        last.ms.memory += start.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }

    /// Judges a normalised frame [3, S, S], on the GPU as long as there is one that works.
    fn judge(&mut self, frame: TValue, ended: &mut dyn FnMut(Stage)) -> TractResult<()> {
        if let Some(mut gpu) = self.gpu.take() {
            self.gpu = told(self.judge_on(&mut gpu, frame.clone(), ended).map(|()| gpu));
            if self.gpu.is_some() {
                return Ok(());
            }
        }
        self.judge_here(frame, ended)
    }

    /// Judges it on a GPU.
    fn judge_on(
        &mut self,
        gpu: &mut gpu::GpuNetwork,
        frame: TValue,
        ended: &mut dyn FnMut(Stage),
    ) -> Result<(), GpuError> {
        let start = Instant::now();
        let answer = gpu.run(frame.clone())?;
        if self.room.is_some() {
            let ended_encode = start.elapsed().as_secs_f64() * 1e3;
            self.hear(&frame, answer.taps()).map_err(GpuError::Cuda)?;
            self.seen.ms.encode = ended_encode;
            for stage in [Stage::Encode, Stage::Adapt, Stage::Score] {
                ended(stage);
            }
            return Ok(());
        }
        let last = &mut self.seen;
        let mut take = || -> TractResult<()> {
            refill(&mut last.patch_scores, answer.patch_scores()?);
            refill(
                &mut last.patch_scores_adapted,
                answer.patch_scores_adapted()?,
            );
            refill(&mut last.abnormal, answer.abnormal()?);
            refill(&mut last.prior, answer.prior()?);
            last.image_probability = answer.image_probability()?;
            finite("patch scores", &last.patch_scores)?;
            finite("adapted patch scores", &last.patch_scores_adapted)?;
            finite("probability", &[last.image_probability])
        };
        take().map_err(GpuError::Cuda)?;
        self.looked[self.at].mask(&mut last.patch_scores);
        self.looked[self.at].mask(&mut last.patch_scores_adapted);
        last.conclude(self.manifest.scores.rule, &self.looked[self.at]);
        last.ms.memory = 0.0;
        if let Some(good) = &mut self.good {
            good.describe(answer.taps(), &mut last.ms)
                .map_err(GpuError::Cuda)?;
        }
        last.ms.encode = start.elapsed().as_secs_f64() * 1e3;
        (last.ms.adapt, last.ms.score) = (0.0, 0.0);
        for stage in [Stage::Encode, Stage::Adapt, Stage::Score] {
            ended(stage);
        }
        Ok(())
    }

    /// Judges it by a method other than FAPrompt; `false` if it is FAPrompt.
    fn judge_in(&mut self, frame: &TValue, ended: &mut dyn FnMut(Stage)) -> TractResult<bool> {
        if self.room.is_none() {
            return Ok(false);
        }
        let clock = Instant::now();
        // They stay until the next frame; a handle each, so that the encoder is free.
        let taps: TVec<TValue> = self.encoder.taps(frame.clone())?.into();
        self.seen.ms.encode = clock.elapsed().as_secs_f64() * 1e3;
        ended(Stage::Encode);
        ended(Stage::Adapt);
        self.hear(frame, &taps)?;
        ended(Stage::Score);
        Ok(true)
    }

    /// What the method says of the taps of a frame: its own, then the memory's.
    fn hear(&mut self, frame: &TValue, taps: &[TValue]) -> TractResult<()> {
        let room = self.room.as_mut().context("a bundle without a method")?;
        let last = &mut self.seen;
        let own = room.taps().len();
        let clock = Instant::now();
        let said = last.said.get_or_insert_default();
        room.judge(frame, &taps[..own], said)?;
        finite("patch scores", &said.layers)?;
        finite("probability", &[said.image_probability])?;
        let grid = self.manifest.image.grid();
        said.patches(grid * grid, &mut last.patch_scores);
        refill(&mut last.patch_scores_adapted, &last.patch_scores);
        last.max_score = score::max(&last.patch_scores);
        last.max_score_adapted = last.max_score;
        (last.image_probability, last.zero_shot) = (said.image_probability, said.score);
        last.score = last.zero_shot;
        let groups = self.looked[self.at].groups().len();
        last.groups.clear();
        last.groups.resize(groups, last.as_zero_shot().score);
        last.ms.memory = 0.0;
        if let Some(good) = &mut self.good {
            good.describe(&taps[own..], &mut last.ms)?;
        }
        (last.ms.adapt, last.ms.score) = (0.0, clock.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    /// Judges it on this processor.
    fn judge_here(&mut self, frame: TValue, ended: &mut dyn FnMut(Stage)) -> TractResult<()> {
        if self.judge_in(&frame, ended)? {
            return Ok(());
        }
        let (spec, work, last) = (&self.manifest.scores, &mut self.work, &mut self.seen);
        let (normal, width) = (&self.normal, self.normal.len());
        let mut clock = Instant::now();
        let mut lap = |stage| {
            let ms = clock.elapsed().as_secs_f64() * 1e3;
            ended(stage);
            clock = Instant::now();
            ms
        };

        let taps = self.encoder.taps(frame)?;
        last.ms.encode = lap(Stage::Encode);
        refill(&mut work.patches, slice(&taps[0])?);
        refill(&mut work.image, slice(&taps[1])?);
        last.ms.memory = 0.0;
        if let Some(good) = &mut self.good {
            good.describe(&taps[2..], &mut last.ms)?;
        }
        score::normalise_rows(&mut work.patches, width);
        score::normalise_rows(&mut work.image, width);
        let score_patches = |abnormal: &[f32], scores: &mut Vec<f32>| {
            score::patch_scores(&work.patches, normal, abnormal, spec.temperature, scores);
        };
        score_patches(&self.abnormal, &mut last.patch_scores);
        // A patch that is no number would be skipped by the maxima: the part is not known to be good.
        finite("patch scores", &last.patch_scores)?;
        // What nobody looks at feeds no prior, and is no maximum.
        self.looked[self.at].mask(&mut last.patch_scores);
        let prior = &self.manifest.prior;
        score::select(
            &last.patch_scores,
            prior.selected_patches,
            prior.selection,
            &mut work.chosen,
        );
        let selected = slice_mut(Arc::make_mut(&mut work.selected))?.chunks_exact_mut(width);
        for (row, patch) in selected.zip(&work.chosen) {
            row.copy_from_slice(&work.patches[patch * width..][..width]);
        }
        last.ms.score = lap(Stage::Score);
        match self.adaptation.run(work.selected.clone().into_tvalue())? {
            Some(adapted) => {
                refill(&mut last.abnormal, slice(&adapted.abnormal)?);
                score::normalise_rows(&mut last.abnormal, width);
                refill(&mut last.prior, slice(&adapted.prior)?);
            }
            None => refill(&mut last.abnormal, &self.abnormal),
        }
        last.ms.adapt = lap(Stage::Adapt);
        score_patches(&last.abnormal, &mut last.patch_scores_adapted);
        finite("adapted patch scores", &last.patch_scores_adapted)?;
        self.looked[self.at].mask(&mut last.patch_scores_adapted);
        last.image_probability =
            score::abnormality(&work.image, normal, &last.abnormal, spec.temperature);
        last.conclude(spec.rule, &self.looked[self.at]);
        last.ms.score += lap(Stage::Score);
        Ok(())
    }
}

impl GoodParts {
    /// Takes the next tile's descriptors.
    fn describe(&mut self, taps: &[TValue], ms: &mut Stages) -> TractResult<()> {
        let start = Instant::now();
        let rows = taps.iter().map(|tap| slice(tap));
        self.descriptor.append(rows, &mut self.descriptors)?;
        ms.memory += start.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }

    /// What was taught, if it was taught on this encoder.
    fn restore(
        &self,
        bytes: &[u8],
        layout: Layout,
        arithmetic: &str,
    ) -> Result<Taught, TaughtError> {
        let taught = Taught::from_bytes(bytes)?;
        let about = taught.about();
        let differs = if about.encoder != self.encoder {
            Some("taught with another bundle's encoder".to_string())
        } else if about.arithmetic != arithmetic {
            Some(format!(
                "taught in {} arithmetic, and this network is multiplied in {arithmetic} (--arithmetic, --runtime)",
                about.arithmetic
            ))
        } else if about.layout.tiles != layout.tiles {
            Some(format!(
                "taught in tiles of {}, and frames are cut into {} now (--tiles; on a station tile_rows, \
                 tile_columns, tile_overlap)",
                about.layout.tiles, layout.tiles
            ))
        } else if about.layout != layout {
            Some(format!("taught on {:?}, not {layout:?}", about.layout))
        } else {
            None
        };
        match differs {
            None => Ok(taught),
            Some(what) => Err(TaughtError::Another(what)),
        }
    }

    fn beside(&self, manifest: &Manifest) -> TractResult<GoodParts> {
        let memory = match &self.taught {
            None => None,
            Some(bytes) => Some(Taught::from_bytes(bytes).map_err(TractError::msg)?),
        };
        Ok(GoodParts {
            encoder: self.encoder.clone(),
            descriptor: Descriptor::new(manifest, &manifest.memory_taps())?,
            descriptors: vec![],
            taught: self.taught.clone(),
            memory,
            map: vec![],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Keys;
    use image::imageops;
    use std::path::Path;

    #[test]
    fn a_frame_in_tiles_is_what_its_tiles_are() {
        let bundle = Bundle::open(Path::new(env!("DEFAULT_BUNDLE")), &Keys::default()).unwrap();
        let options = Options {
            memory: true,
            ..Options::default()
        };
        let mut whole = Inspector::new(&bundle, options).unwrap();
        let mut cut = whole.beside().unwrap();
        let frame = imageops::resize(&known_frame(), 500, 400, imageops::FilterType::Triangle);
        let tiles: Tiling = "2x2+20".parse().unwrap();
        cut.cut(tiles).unwrap();
        let known = cut.known_frame_score().unwrap();
        assert_eq!(known, whole.inspect(&known_frame()).unwrap().score);
        // Twice: nothing of the frame before is left.
        cut.inspect(&known_frame()).unwrap();
        let joined = cut.inspect(&frame).unwrap().clone();
        let (mut patches, mut descriptors, mut scores) = (vec![], vec![], vec![]);
        for tile in 0..4 {
            let a = tiles.area(tile, 500, 400);
            let tile = imageops::crop_imm(&frame, a.x, a.y, a.width, a.height).to_image();
            let alone = whole.inspect(&tile).unwrap();
            scores.push(alone.score);
            patches.extend_from_slice(&alone.patch_scores);
            descriptors.extend_from_slice(whole.descriptors().unwrap());
        }
        assert_eq!(joined.score, scores.iter().fold(0.0, |m, s| s.max(m)));
        assert_eq!(joined.zero_shot, joined.score);
        assert_eq!(
            (&joined.patch_scores, cut.descriptors()),
            (&patches, Some(&descriptors[..]))
        );
        let layout = cut.layout().unwrap();
        assert_eq!(descriptors.len(), layout.places() * layout.dim);
        assert_eq!(joined.map().side, bundle.manifest().image.size);

        // Nobody looks at three of the tiles: the score is the fourth one's, looked at in the same place.
        let region = |share: f32| {
            let text = format!(
                "[[region]]\nname = \"corner\"\nrectangle = [{share}, {share}, 1, 1]\noffset = 0.1"
            );
            Regions::parse(&text).unwrap()
        };
        let [left, top, right, bottom] = tiles.shares(3);
        assert!(left == top && right == bottom);
        cut.look(&region(0.6)).unwrap();
        let found = cut.inspect(&frame).unwrap().clone();
        whole.look(&region((0.6 - left) / (right - left))).unwrap();
        let a = tiles.area(3, 500, 400);
        let tile = imageops::crop_imm(&frame, a.x, a.y, a.width, a.height).to_image();
        let alone = whole.inspect(&tile).unwrap();
        assert_eq!(
            (found.score, found.zero_shot),
            (alone.score, alone.zero_shot)
        );
        assert!((found.zero_shot - found.score - 0.1).abs() < 1e-6);
        assert_eq!(found.regions(), &region(0.6));
        assert_eq!(
            cut.beside().unwrap().inspect(&frame).unwrap().regions(),
            &region(0.6)
        );
    }

    /// Maxima pass over what is no number: a frame that holds some would have a score, and perhaps a good one.
    #[test]
    fn a_network_that_answers_with_something_that_is_no_number_gives_no_score() {
        let bundle = Bundle::open(Path::new(env!("DEFAULT_BUNDLE")), &Keys::default()).unwrap();
        let mut inspector = Inspector::new(&bundle, Options::default()).unwrap();
        inspector.inspect(&known_frame()).unwrap();
        for value in [f32::NAN, f32::INFINITY] {
            inspector.normal.fill(value);
            let error = inspector.inspect(&known_frame()).unwrap_err().to_string();
            assert!(
                error.contains("the patch scores hold NaN"),
                "{value}: {error}"
            );
        }
        assert!(finite("scores", &[0.5, 1.0]).is_ok());
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(finite("scores", &[0.5, value, 1.0]).is_err());
        }
    }
}
