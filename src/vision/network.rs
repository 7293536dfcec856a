//! A network of the user's own beside a CLIP, as the encoder of the bundle's memory: with its own way of preparing frames.

use super::{Encoder, PreprocessError, Preprocessor};
use crate::bundle::network::{NetworkSpec, PART};
use crate::bundle::{Bundle, BundleError};
use crate::graph::nnef;
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
use crate::tiling::Area;
use image::RgbImage;

/// A bundle's own network with its own way of preparing frames: the memory's encoder beside a CLIP.
pub struct NetworkEncoder {
    preprocessor: Preprocessor,
    encoder: Encoder,
    arithmetic: Arithmetic,
}

impl NetworkEncoder {
    /// Of a bundle that has one, in int8 if its weights are, and `asked` or this processor do not say otherwise.
    ///
    /// # Errors
    /// [`BundleError::Architecture`]: it has none, or one that is not what its manifest says.
    pub fn load(bundle: &Bundle, asked: Arithmetic) -> Result<NetworkEncoder, BundleError> {
        let manifest = bundle.manifest();
        let encoder = Encoder::of(nnef::plan(bundle, &manifest.memory_taps(), asked)?);
        let spec = manifest.network.as_ref();
        let spec =
            spec.ok_or_else(|| BundleError::architecture(PART, "the manifest names none"))?;
        Ok(NetworkEncoder {
            preprocessor: Preprocessor::new(&spec.image),
            encoder,
            arithmetic: nnef::arithmetic(bundle, asked),
        })
    }

    /// The same with the same weights, with memory of its own; `spec` is the bundle's.
    ///
    /// # Errors
    /// tract's own.
    pub fn beside(&self, spec: &NetworkSpec) -> TractResult<NetworkEncoder> {
        Ok(NetworkEncoder {
            preprocessor: Preprocessor::new(&spec.image),
            encoder: self.encoder.beside()?,
            arithmetic: self.arithmetic,
        })
    }

    /// What it is multiplied in: int8 or f32.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// A frame's area as it wants it, [3, S, S].
    ///
    /// # Errors
    /// A frame without pixels.
    pub fn prepare(&mut self, frame: &RgbImage, area: Area) -> Result<TValue, PreprocessError> {
        self.preprocessor.run_on(frame, area)
    }

    /// What the memory compares of it, rows [places, channels] each, of a frame that was prepared.
    ///
    /// # Errors
    /// tract's own; none is known.
    pub fn taps(&mut self, tensor: TValue) -> TractResult<&[TValue]> {
        self.encoder.taps(tensor)
    }
}
