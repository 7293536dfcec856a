//! A bundle made ready to judge frames: preprocess, encode, adapt, score.

mod good_parts;
mod inspection;
mod judge;
mod setup;

pub use inspection::{Inspection, Stage, Stages};

use crate::bundle::manifest::{Manifest, Precision};
use crate::bundle::method::Method;
use crate::bundle::tap::Tap;
use crate::bundle::{Bundle, BundleError};
use crate::capture::known_frame;
use crate::faprompt::{Adaptation, AdaptationMode};
use crate::gpu::{self, Backend, GpuError};
use crate::graph::nnef;
use crate::memory::Descriptor;
use crate::memory::region::{Looked, Regions};
use crate::methods::memory::Memory;
use crate::methods::{self, Room};
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
use crate::tiling::Tiling;
use crate::vision::{Encoder, NetworkEncoder, PreprocessError, Preprocessor};
use good_parts::{GoodParts, encoder_of};
use image::RgbImage;
use std::sync::Arc;
use std::time::Instant;

/// By how much the known frame's score may differ between machines, kernels and number formats: int8 arithmetic
/// moves most scores by a few thousandths (0.003 on average, one of 3,392 real pictures by 0.045), f16 by less
/// than one thousandth.
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
    /// The image score is NaN or infinite.
    #[error("inference: the image score is {0}")]
    NotFinite(f32),
}

/// Why a network cannot judge frames that are cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// Its types of defects are shares of a whole part.
    #[error(
        "{0} says which type of defect a whole part has: it judges no tiles (leave --tiles out)"
    )]
    Types(Method),
    /// It compares whole parts with good ones.
    #[error(
        "{0} compares whole parts with good ones, as its paper does, and no tiles (leave --tiles out)"
    )]
    GoodParts(Method),
}

/// A GPU that works; otherwise its error is logged, and `None`: the CPU goes on, perhaps too slowly for the line,
/// and whoever counts late parts should know why.
fn working<T>(result: Result<T, GpuError>) -> Option<T> {
    result
        .inspect_err(|e| log::error!("no GPU: {e}; the CPU judges"))
        .ok()
}

/// Number of cores of this machine: the threads to use unless the user says otherwise.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// How a network is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How the abnormal prototype follows the prior.
    pub adaptation: AdaptationMode,
    /// Number of threads for one frame, at least 1.
    pub threads: usize,
    /// The arithmetic that weights are multiplied in.
    pub arithmetic: Arithmetic,
    /// The processor that frames are judged on.
    pub runtime: Backend,
    /// Whether good parts can be taught: the encoder then hands out what a memory of them compares.
    pub memory: bool,
}

impl Default for Options {
    /// Exact adaptation, one thread of this processor.
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
    /// The network of a method other than FAPrompt.
    room: Option<Box<dyn Room>>,
    normal: Vec<f32>,
    abnormal: Vec<f32>,
    /// The GPU, which judges in place of encoder and adaptation as long as it works.
    gpu: Option<gpu::GpuNetwork>,
    executor: Executor,
    exact: bool,
    arithmetic: Arithmetic,
    work: Work,
    tiles: Tiling,
    /// Index of the tile that is being judged.
    at: usize,
    /// The result of that tile.
    seen: Inspection,
    last: Inspection,
    good: Option<GoodParts>,
    /// The regions that were set; a memory that was taught may bring others.
    regions: Arc<Regions>,
    /// The patches of each tile that are judged.
    looked: Vec<Looked>,
}

/// Makes the threads that work on one frame.
fn executor(threads: usize) -> Executor {
    match threads {
        0 | 1 => Executor::SingleThread,
        n => Executor::multithread_with_name(n, "inference"),
    }
}

/// Buffers that every frame uses again.
struct Work {
    /// Unit patch features, [N, C].
    patches: Vec<f32>,
    /// The unit image feature, `[C]`.
    image: Vec<f32>,
    /// Indices of the patches that feed the prior.
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
        let arithmetic = options.arithmetic;
        let mut good = None;
        let failed = |e| BundleError::architecture("encoder", format!("{e:#}"));
        let mut memory_taps = match options.memory {
            true => manifest.memory_taps(),
            false => vec![],
        };
        if options.memory {
            good = Some(GoodParts {
                encoder: encoder_of(bundle, &memory_taps),
                network: match manifest.memory_network() {
                    Some(_) => Some(NetworkEncoder::load(bundle, arithmetic)?),
                    None => None,
                },
                descriptor: Descriptor::new(&manifest, &memory_taps).map_err(failed)?,
                descriptors: vec![],
                taught: None,
                memory: None,
                map: vec![],
                known: None,
            });
        }
        let room = methods::room(bundle, arithmetic, true)?;
        // Another method has prototypes of its own, or none.
        let prototype = |name: &str| match room {
            None => methods::prototype(bundle, name),
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
        if manifest.memory_network().is_some() {
            // The memory has an encoder of its own.
            memory_taps.clear();
        }
        // They follow the method's own taps.
        taps.extend(&memory_taps);
        let encoder = Encoder::with_taps(bundle, &taps, manifest.vv_layers, arithmetic)?;
        let gpu = match options.runtime {
            Backend::Cuda if manifest.is_network() => working(Err(GpuError::Network)),
            Backend::Cuda if manifest.method_name() == Method::Memory => {
                let numbers = half::f16::datum_type();
                working(gpu::GpuNetwork::encoder_on("cuda", bundle, &taps, numbers))
            }
            Backend::Cuda if room.is_some() => {
                working(Err(GpuError::Method(manifest.method_name())))
            }
            Backend::Cpu => None,
            Backend::Cuda => working(gpu::GpuNetwork::cuda(
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
        let is_network = manifest.is_network();
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
            arithmetic: match is_network {
                true => nnef::arithmetic(bundle, arithmetic),
                false => arithmetic.here(precision),
            },
            room,
        };
        if let Some(gpu) = inspector.gpu.take() {
            inspector.gpu = working(inspector.prove(gpu));
        }
        Ok(inspector)
    }

    /// A second inspector that shares the weights, to judge other frames at the same time in another thread, with
    /// as many threads of its own.
    ///
    /// # Errors
    /// Ones of tract; no case is known.
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

    /// This inspector and as many [second ones](Inspector::beside) as make `count`.
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

    /// Returns the GPU if it gives the known frame the score that the CPU gives it.
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
        // Also false for NaN.
        if (found - cpu).abs() <= KNOWN_TOLERANCE {
            Ok(gpu)
        } else {
            Err(GpuError::Differs { gpu: found, cpu })
        }
    }

    /// The result of the last frame that was judged.
    pub fn last(&self) -> &Inspection {
        &self.last
    }

    /// The processor that will judge the next frame.
    pub fn runtime(&self) -> Backend {
        match self.gpu {
            Some(_) => Backend::Cuda,
            None => Backend::Cpu,
        }
    }

    /// Whether no part can be judged, because no good part was taught and the bundle has no text prompts.
    pub fn is_untaught(&self) -> bool {
        self.last.alone && self.taught().is_none()
    }

    /// The arithmetic that weights are multiplied in; scores, and so thresholds, depend on it. With a network of the
    /// memory's own, that one's follows behind a plus sign.
    pub fn arithmetic(&self) -> &'static str {
        /// Of the frame's encoder, and with a network of the memory's own in int8 and in f32.
        const NAMES: [[&str; 3]; 4] = [
            ["cuda", "cuda+int8", "cuda+f32"],
            ["int8", "int8+int8", "int8+f32"],
            ["f16", "f16+int8", "f16+f32"],
            ["f32", "f32+int8", "f32+f32"],
        ];
        let frames = match (self.runtime(), self.arithmetic) {
            (Backend::Cuda, _) => 0,
            (Backend::Cpu, Arithmetic::Int8) => 1,
            (Backend::Cpu, Arithmetic::F16) => 2,
            (Backend::Cpu, Arithmetic::F32 | Arithmetic::Auto) => 3,
        };
        let network = self.good.as_ref().and_then(|good| good.network.as_ref());
        let network = match network.map(NetworkEncoder::arithmetic) {
            None => 0,
            Some(Arithmetic::Int8) => 1,
            Some(_) => 2,
        };
        NAMES[frames][network]
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The score that the known frame must have, if the bundle gives it and prototypes are adapted as they were
    /// when it was measured.
    pub fn known_score(&self) -> Option<f32> {
        self.manifest.known_score.filter(|_| self.exact)
    }

    /// The normal prototype F_n, `[C]`, unit length.
    pub fn normal(&self) -> &[f32] {
        &self.normal
    }

    /// The unadapted abnormal prototype F_a, `[C]`, unit length.
    pub fn abnormal(&self) -> &[f32] {
        &self.abnormal
    }

    /// Judges a frame. The result stays valid until the next frame, which uses its memory again.
    ///
    /// # Errors
    /// A frame without pixels, or a network that fails or answers with NaN or infinity.
    pub fn inspect(&mut self, frame: &RgbImage) -> Result<&Inspection, InspectError> {
        self.observe(frame, &mut |_| ())
    }

    /// As [`Inspector::inspect`], and calls `ended` after each stage.
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
            if let Some(good) = &mut self.good {
                let ms = &mut self.seen.ms;
                multithread_tract_scope(self.executor.clone(), || good.look(frame, area, ms))?;
            }
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

    /// FAPrompt's score of the known frame, judged whole and everywhere, whatever tiles, regions and good parts
    /// parts are judged with. A memory's own encoder is tested by the same frame: it must see what it saw the first time.
    /// The result of the last frame stays.
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
        if let Some(good) = &mut self.good {
            multithread_tract_scope(self.executor.clone(), || good.test())?;
        }
        match self.seen.score.is_finite() {
            true => Ok(self.seen.zero_shot),
            false => Err(InspectError::NotFinite(self.seen.score)),
        }
    }

    /// Shows a good part to a method that compares with good ones (WinCLIP, APRIL-GAN); [`Inspector::good_parts`]
    /// returns them afterwards.
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

    /// Has such a method forget the good parts that it was shown.
    pub fn forget(&mut self) {
        self.room.iter_mut().for_each(|room| room.forget());
    }

    /// Gives the method good parts that were stored.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
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

    /// Compares the frame that was just encoded with good parts, if any were taught.
    fn compare(&mut self) -> TractResult<()> {
        let (arithmetic, last) = (self.arithmetic(), &mut self.last);
        if last.alone {
            // No part is known to be good.
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
}

#[cfg(test)]
mod tests;
