//! An image encoder alone: no words and no opinion of its own. Parts are compared with good ones
//! ([`crate::memory`]); until some were taught, nothing is known to be good.
//!
//! The mean cosine between the picture's own row and its patches, as a number of 0..=1, stands where other
//! methods have their score: the known frame has a known one, and so a device that computes wrongly is found. It
//! says nothing about parts, and no verdict hangs on it.

use super::{Drawing, Room, Said, unit_rows};
use crate::bundle::manifest::Manifest;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::ops::dot;
use crate::ops::tract::*;

/// The room.
#[derive(Clone)]
pub struct Alone {
    tap: Tap,
    width: usize,
    work: Vec<f32>,
}

impl Alone {
    /// Of a bundle with this manifest.
    pub fn new(manifest: &Manifest) -> Alone {
        Alone {
            tap: Tap {
                block: manifest.vision.layers,
                stream: Stream::X,
                form: Form::LnPost,
                rows: Rows::All,
            },
            width: manifest.vision.width,
            work: vec![],
        }
    }
}

impl Room for Alone {
    fn taps(&self) -> Vec<Tap> {
        vec![self.tap]
    }

    fn judge(&mut self, _: &TValue, taps: &[TValue], said: &mut Said) -> TractResult<()> {
        unit_rows(&taps[0], self.width, &mut self.work)?;
        let (class, patches) = self.work.split_at(self.width);
        let count = patches.len() / self.width;
        let sum: f32 = patches
            .chunks_exact(self.width)
            .map(|p| dot(class, p))
            .sum();
        said.score = (0.5 + 0.5 * sum / count as f32).clamp(0.0, 1.0);
        said.image_probability = said.score;
        said.layers.clear();
        said.layers.resize(count, 0.0);
        said.drawing = Drawing::Sum;
        Ok(())
    }

    fn beside(&self) -> TractResult<Box<dyn Room>> {
        Ok(Box::new(self.clone()))
    }
}
