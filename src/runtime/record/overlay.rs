//! The picture of one part: what is drawn of it, and the JPEG file of that.

use super::{Judgement, Picture};
use crate::control::host::PartResult;
use crate::line::{Micros, View};
use crate::report::{Caption, overlay};
use crate::runtime::system::utc;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, RgbImage};

/// JPEG quality of pictures in the archive, 1..=100.
pub(super) const KEPT: u8 = 90;
/// The same of those that are for the page alone: a third fewer bytes, twice a second to a phone.
pub(super) const SHOWN: u8 = 80;

/// All that the picture of a part is drawn from, so that any thread can draw it.
pub(super) struct Overlay {
    /// Outcome, score and type.
    pub result: PartResult,
    /// The camera, where there are several.
    pub view: Option<View>,
    /// What the network said of this camera's frame.
    pub judgement: Judgement,
    /// The frame, and its heat map if it was judged.
    pub picture: Picture,
    /// When the part got its outcome.
    pub at: Micros,
}

impl Overlay {
    /// Draws it: tens of milliseconds of work.
    pub fn jpeg(&self, quality: u8) -> Result<Vec<u8>, ImageError> {
        jpeg(&self.drawn(), quality)
    }

    fn drawn(&self) -> RgbImage {
        let Overlay {
            result,
            judgement,
            picture,
            ..
        } = self;
        let network = judgement.network.as_deref();
        let time = utc(self.at);
        let camera = (self.view).map_or_else(String::new, |v| format!("camera {}  ", v.number()));
        let name = match network {
            Some(network) => format!("{camera}{}  {time}  {}", judgement.name, network.name),
            None => format!("{camera}{}  {time}", judgement.name),
        };
        let verdict = match result.type_name(network.map_or(&[], |n| &n.types)) {
            Some(kind) => format!("{}: {kind}", result.outcome.word()),
            None => result.outcome.word().into(),
        };
        let inspection = picture.inspection.as_ref();
        let caption = Caption {
            regions: inspection.map_or(&[], |i| i.regions().all()),
            verdict: &verdict,
            reject: result.outcome.is_reject(),
            score: inspection.map(|i| i.score),
            opinions: inspection.and_then(|i| Some((i.zero_shot, i.memory?))),
            threshold: judgement.threshold,
            name: &name,
            warning: (judgement.error.as_deref()).or(network.and_then(|n| n.warning)),
        };
        let sigma = network.map_or(0.0, |n| n.smoothing_sigma);
        let map = inspection.map(|i| i.map().smoothed(sigma));
        overlay(&picture.frame, map.as_ref(), &caption)
    }
}

/// A picture as a JPEG file.
pub(super) fn jpeg(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, ImageError> {
    let mut jpeg = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, quality))?;
    Ok(jpeg)
}
