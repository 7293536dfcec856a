//! What an inspector needs to compare frames with good parts: descriptors of the encoder's taps, or of an encoder
//! of the memory's own, and the memory that was taught.

use super::{InspectError, Stages};
use crate::bundle::envelope::hex;
use crate::bundle::manifest::Manifest;
use crate::bundle::tap::Tap;
use crate::bundle::{Bundle, network};
use crate::capture::known_frame;
use crate::memory::file::TaughtError;
use crate::memory::{Descriptor, Layout, Taught};
use crate::ops::slice;
use crate::ops::tract::*;
use crate::tiling::{Area, Tiling};
use crate::vision::NetworkEncoder;
use image::RgbImage;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Instant;

/// By how much a number of the known frame's descriptors, whose length is about 1, may differ from one test to the next.
const KNOWN: f32 = 1e-3;

/// State for comparing frames with good parts.
pub(super) struct GoodParts {
    /// Digest of the encoder that the descriptors are of.
    pub(super) encoder: String,
    /// The memory's own encoder, if the bundle has one.
    pub(super) network: Option<NetworkEncoder>,
    pub(super) descriptor: Descriptor,
    /// Descriptors of the last frame, [places, dim].
    pub(super) descriptors: Vec<f32>,
    pub(super) taught: Option<Arc<[u8]>>,
    pub(super) memory: Option<Taught>,
    /// FAPrompt's map of the last frame.
    pub(super) map: Vec<f32>,
    /// The known frame's descriptors by the memory's own encoder, once it has been tested.
    pub(super) known: Option<Vec<f32>>,
}

/// The encoder's identity, as far as descriptors depend on it: its weights, the input's size, the taps.
pub(super) fn encoder_of(bundle: &Bundle, taps: &[Tap]) -> String {
    let manifest = bundle.manifest();
    let mut hash = Sha256::new();
    let (part, size) = match &manifest.network {
        Some(network) => (network::PART, network.image.size),
        None => ("encoder", manifest.image.size),
    };
    hash.update(bundle.digests().get(part).map_or("", String::as_str));
    hash.update(format!(" {size} {:?}", manifest.activation));
    for tap in taps {
        hash.update(format!(" {tap}"));
    }
    hex(&hash.finalize())
}

impl GoodParts {
    /// Appends the next tile's descriptors, if the memory has an encoder of its own.
    pub(super) fn look(
        &mut self,
        frame: &RgbImage,
        area: Area,
        ms: &mut Stages,
    ) -> Result<(), InspectError> {
        let Some(network) = &mut self.network else {
            return Ok(());
        };
        let start = Instant::now();
        let tensor = network.prepare(frame, area)?;
        let append = || -> TractResult<()> {
            let rows = network.taps(tensor)?.iter().map(|tap| slice(tap));
            self.descriptor.append(rows, &mut self.descriptors)
        };
        append().map_err(InspectError::Inference)?;
        ms.memory += start.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }

    /// Has the memory's own encoder look at the known frame: it must see what it saw the first time. The last frame's
    /// descriptors stay.
    pub(super) fn test(&mut self) -> Result<(), InspectError> {
        if self.network.is_none() {
            return Ok(());
        }
        let frame = known_frame();
        let area = Tiling::WHOLE.area(0, frame.width(), frame.height());
        let last = std::mem::take(&mut self.descriptors);
        let looked = self.look(&frame, area, &mut Stages::default());
        let seen = std::mem::replace(&mut self.descriptors, last);
        looked?;
        let known = self.known.get_or_insert_with(|| seen.clone());
        let near = |(now, then): (&f32, &f32)| (now - then).abs() <= KNOWN;
        match known.len() == seen.len() && seen.iter().zip(known.iter()).all(near) {
            true => Ok(()),
            false => Err(InspectError::Inference(TractError::msg(
                "the memory's own network sees the known frame otherwise than at first",
            ))),
        }
    }

    /// Appends the next tile's descriptors, if the memory compares what the image encoder makes.
    pub(super) fn describe(&mut self, taps: &[TValue], ms: &mut Stages) -> TractResult<()> {
        if self.network.is_some() {
            return Ok(());
        }
        let start = Instant::now();
        let rows = taps.iter().map(|tap| slice(tap));
        self.descriptor.append(rows, &mut self.descriptors)?;
        ms.memory += start.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }

    /// Reads a memory, and refuses one that was taught on another encoder.
    pub(super) fn restore(
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

    pub(super) fn beside(&self, manifest: &Manifest) -> TractResult<GoodParts> {
        let memory = match &self.taught {
            None => None,
            Some(bytes) => Some(Taught::from_bytes(bytes).map_err(TractError::msg)?),
        };
        Ok(GoodParts {
            encoder: self.encoder.clone(),
            network: match (&self.network, manifest.memory_network()) {
                (Some(network), Some(spec)) => Some(network.beside(spec)?),
                _ => None,
            },
            descriptor: Descriptor::new(manifest, &manifest.memory_taps())?,
            descriptors: vec![],
            taught: self.taught.clone(),
            memory,
            map: vec![],
            known: self.known.clone(),
        })
    }
}
