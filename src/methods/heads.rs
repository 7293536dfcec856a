//! Language-free heads: a normal and an abnormal weight vector per tapped layer, one pair for the picture's
//! own row and one for its patches. No text at all on the device.
//!
//! `p = softmax([f . w_n, f . w_a] / T)[1]` on unit vectors: patches are the V-V stream's features of each
//! stage (the ordinary stream's where no block has that one, after ln_post where there are no words), the
//! picture's are the class row's. The map is the mean of the stages; the image score is 0.5 (mean of the class
//! rows' p + largest value of the mean of the patches' p). Both are our choice.

use super::{Drawing, Room, Said, unit_rows};
use crate::bundle::method::MethodSpec;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::score;
use crate::ops::slice;
use crate::ops::tract::*;

/// The room.
#[derive(Clone)]
pub struct Heads {
    stages: Vec<usize>,
    /// What it looks at: the class row, then the patches, of each stage.
    taps: Vec<Tap>,
    /// [stages, 2, C], unit vectors: normal, abnormal.
    patch: Vec<f32>,
    /// The same for the class row.
    image: Vec<f32>,
    width: usize,
    temperature: f32,
    work: Vec<f32>,
    scores: Vec<f32>,
}

impl Heads {
    /// From a bundle.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if the vectors are missing or of another shape.
    pub fn load(bundle: &Bundle, spec: &MethodSpec) -> Result<Heads, BundleError> {
        let width = bundle.manifest().embed();
        let vectors = |name: &str| {
            let shape = [2 * spec.stages.len(), width];
            let tensor = bundle.tensor(&format!("method/heads.{name}"), &shape)?;
            let mut values = slice(&tensor)
                .map_err(|e| BundleError::architecture("method", e))?
                .to_vec();
            score::normalise_rows(&mut values, width);
            Ok(values)
        };
        Ok(Heads {
            patch: vectors("patch")?,
            image: vectors("image")?,
            stages: spec.stages.clone(),
            taps: {
                let m = bundle.manifest();
                taps(&spec.stages, m.vv_layers, !m.text.is_none())
            },
            width,
            temperature: bundle.manifest().scores.temperature,
            work: vec![],
            scores: vec![],
        })
    }
}

/// What the method looks at: the class row, then the patches, after each of the blocks `stages`; with `words` in
/// the space of the text encoder.
pub fn taps(stages: &[usize], vv_layers: usize, words: bool) -> Vec<Tap> {
    let stream = match vv_layers {
        0 => Stream::X,
        _ => Stream::Y,
    };
    let form = match words {
        false => Form::LnPost,
        true => Form::Projected,
    };
    let tap = |block: &usize, stream, rows| Tap {
        block: *block,
        stream,
        form,
        rows,
    };
    let class = stages.iter().map(|s| tap(s, Stream::X, Rows::Class));
    let patches = stages.iter().map(|s| tap(s, stream, Rows::Patches));
    class.chain(patches).collect()
}

/// The image score of the class rows' mean probability and the grid's largest value.
pub fn image_score(probability: f32, grid: &[f32]) -> f32 {
    0.5 * (probability + score::max(grid))
}

impl Room for Heads {
    fn taps(&self) -> Vec<Tap> {
        self.taps.clone()
    }

    fn judge(&mut self, _: &TValue, taps: &[TValue], said: &mut Said) -> TractResult<()> {
        let (count, width) = (self.stages.len(), self.width);
        let (class, patches) = taps.split_at(count);
        let pair = |all: &[f32], i: usize| all[2 * i * width..][..2 * width].to_vec();
        said.image_probability = 0.0;
        said.layers.clear();
        for (i, (class, patches)) in class.iter().zip(patches).enumerate() {
            let (image, patch) = (pair(&self.image, i), pair(&self.patch, i));
            unit_rows(class, width, &mut self.work)?;
            let (normal, abnormal) = image.split_at(width);
            let p = score::abnormality(&self.work, normal, abnormal, self.temperature);
            said.image_probability += p / count as f32;
            unit_rows(patches, width, &mut self.work)?;
            let (normal, abnormal) = patch.split_at(width);
            let t = self.temperature;
            score::patch_scores(&self.work, normal, abnormal, t, &mut self.scores);
            said.layers
                .extend(self.scores.iter().map(|s| s / count as f32));
        }
        let n = said.layers.len() / count;
        let grid: Vec<f32> = (0..n)
            .map(|i| (0..count).map(|l| said.layers[l * n + i]).sum())
            .collect();
        said.score = image_score(said.image_probability, &grid);
        said.layers = grid;
        said.drawing = Drawing::Sum;
        Ok(())
    }

    fn beside(&self) -> TractResult<Box<dyn Room>> {
        Ok(Box::new(self.clone()))
    }
}
