//! Frames on an NVIDIA GPU: the whole of [`graph::frame`] in tract's CUDA runtime, in f16.
//!
//! The CPU's networks stay loaded beside it. Whatever goes wrong here (no driver, no toolkit, a card that
//! falls off the bus) is reported once, and from then on the CPU judges: a GPU must never cost a verdict.

pub mod graph;

use crate::bundle::tap::Tap;
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::AdaptationMode;
use crate::ops::slice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tract_core::internal::*;
use tract_core::runtime::{State, runtime_for_name};
// Nothing calls it: it announces its runtime to tract-core when it is linked.
#[cfg(feature = "cuda-runtime")]
use tract_cuda as _;

/// What frames are judged on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// This processor.
    #[default]
    Cpu,
    /// The first NVIDIA GPU; the CPU if there is none that works.
    Cuda,
}

/// Why the GPU does not judge.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// A program without the runtime.
    #[error(
        "this program was built without CUDA: build it with `--features cuda12` (Jetson, JetPack 6) or `cuda13`"
    )]
    NotBuilt,
    /// A method that has no model for it.
    #[error("method {0} does not run on a GPU")]
    Method(crate::bundle::method::Method),
    /// A bundle of a network of the user's own.
    #[error("the bundle's encoder is a network of your own (export --encoder): it runs on the CPU")]
    Network,
    /// The bundle does not fit.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Driver, toolkit or card.
    #[error("{0:#}")]
    Cuda(TractError),
    /// A library stopped in the middle.
    #[error("a library of CUDA's failed: {0}")]
    Panicked(String),
    /// It computes something else than the CPU.
    #[error(
        "a frame has score {gpu:.4} there and {cpu:.4} on the CPU: it computes this bundle wrongly"
    )]
    Differs {
        /// The score there.
        gpu: f32,
        /// The score here.
        cpu: f32,
    },
}

/// tract's runtime and cudarc below it panic where a library lacks a symbol or a card is gone.
fn guarded<T>(work: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(GpuError::Panicked(text.unwrap_or("no reason given").into()))
    })
}

/// A model on the runtime of this name.
fn prepared(
    runtime: &str,
    model: impl FnOnce() -> Result<TypedModel, BundleError>,
) -> Result<Box<dyn State>, GpuError> {
    let runtime = runtime_for_name(runtime)
        .map_err(GpuError::Cuda)?
        .ok_or(GpuError::NotBuilt)?;
    runtime
        .prepare(model()?)
        .and_then(|runnable| runnable.spawn())
        .map_err(GpuError::Cuda)
}

/// A network on a runtime of tract's.
pub struct GpuNetwork {
    state: Box<dyn State>,
    /// Values before the taps, at least.
    first: usize,
    taps: usize,
}

/// What [`GpuNetwork::run`] makes of a frame.
pub struct Answer {
    values: TVec<TValue>,
    /// How many of them, the last ones, are taps.
    taps: usize,
}

impl Answer {
    /// Abnormal score of each patch, raster order.
    pub fn patch_scores(&self) -> TractResult<&[f32]> {
        slice(&self.values[0])
    }

    /// The same with the adapted prototype.
    pub fn patch_scores_adapted(&self) -> TractResult<&[f32]> {
        slice(&self.values[1])
    }

    /// q: the abnormal probability of the image feature.
    pub fn image_probability(&self) -> TractResult<f32> {
        slice(&self.values[2])?
            .first()
            .copied()
            .context("an empty probability")
    }

    /// The adapted abnormal prototype, `[C]`, unit length.
    pub fn abnormal(&self) -> TractResult<&[f32]> {
        slice(&self.values[3])
    }

    /// Omega, `[C]`; empty if adaptation is off.
    pub fn prior(&self) -> TractResult<&[f32]> {
        match &self.values[4..self.values.len() - self.taps] {
            [prior] => slice(prior),
            _ => Ok(&[]),
        }
    }

    /// A tensor [rows, width or C] for each tap that was asked for, in that order.
    pub fn taps(&self) -> &[TValue] {
        &self.values[self.values.len() - self.taps..]
    }
}

impl GpuNetwork {
    /// Loads a bundle onto the first NVIDIA GPU, in f16. The first time on a machine, CUDA's compiler makes
    /// the kernels, which takes a minute or two; they are kept in `~/.cache/tract`.
    ///
    /// # Errors
    /// [`GpuError`].
    pub fn cuda(
        bundle: &Bundle,
        adaptation: AdaptationMode,
        taps: &[Tap],
    ) -> Result<GpuNetwork, GpuError> {
        GpuNetwork::on("cuda", bundle, adaptation, taps, f16::datum_type())
    }

    /// Loads a bundle into the runtime of this name (`cpu` and `cuda` are tract's), its products computed in
    /// `numbers` (f16 or f32).
    ///
    /// # Errors
    /// [`GpuError`].
    pub fn on(
        runtime: &str,
        bundle: &Bundle,
        adaptation: AdaptationMode,
        taps: &[Tap],
        numbers: DatumType,
    ) -> Result<GpuNetwork, GpuError> {
        guarded(|| {
            Ok(GpuNetwork {
                state: prepared(runtime, || graph::frame(bundle, adaptation, taps, numbers))?,
                first: 4,
                taps: taps.len(),
            })
        })
    }

    /// Loads the image encoder of a bundle alone: its answers are taps, and nothing else.
    ///
    /// # Errors
    /// [`GpuError`].
    pub fn encoder_on(
        runtime: &str,
        bundle: &Bundle,
        taps: &[Tap],
        numbers: DatumType,
    ) -> Result<GpuNetwork, GpuError> {
        guarded(|| {
            Ok(GpuNetwork {
                state: prepared(runtime, || graph::encoder(bundle, taps, numbers))?,
                first: 0,
                taps: taps.len(),
            })
        })
    }

    /// The same network with the same weights, with memory of its own.
    ///
    /// # Errors
    /// tract's own.
    pub fn beside(&self) -> TractResult<GpuNetwork> {
        Ok(GpuNetwork {
            state: self.state.runnable().spawn()?,
            first: self.first,
            taps: self.taps,
        })
    }

    /// Judges a normalised frame [3, S, S].
    ///
    /// # Errors
    /// [`GpuError::Cuda`] and [`GpuError::Panicked`]; the network is of no use afterwards.
    pub fn run(&mut self, frame: TValue) -> Result<Answer, GpuError> {
        guarded(|| {
            let values = self.state.run(tvec!(frame)).map_err(GpuError::Cuda)?;
            if values.len() < self.first + self.taps {
                let what = format!("a model of {} outputs", values.len());
                return Err(GpuError::Cuda(TractError::msg(what)));
            }
            Ok(Answer {
                values,
                taps: self.taps,
            })
        })
    }
}
