//! Two prototypes that no picture changes: AnomalyCLIP, CLIP, CLIP-AC, CoOp, and AnoVL without its views.
//!
//! p = softmax([x . F_n, x . F_a] / T)[1] for the picture's own feature, which is the image score, and for
//! the patches of each stage, whose maps are added up. What differs between them (which tokens, with or
//! without ln_post, T) is in the manifest.

use super::{Drawing, Room, Said, features, prototype, unit_rows};
use crate::bundle::method::{ImageFeature, Method, MethodSpec};
use crate::bundle::tap::{Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::score;
use crate::ops::tract::*;

/// The room.
#[derive(Clone)]
pub struct Prototypes {
    spec: MethodSpec,
    layers: usize,
    normal: Vec<f32>,
    abnormal: Vec<f32>,
    temperature: f32,
    work: Vec<f32>,
    scores: Vec<f32>,
}

impl Prototypes {
    /// From a bundle.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if a prototype is missing.
    pub fn load(bundle: &Bundle, spec: &MethodSpec) -> Result<Prototypes, BundleError> {
        Ok(Prototypes {
            spec: spec.clone(),
            layers: bundle.manifest().vision.layers,
            normal: prototype(bundle, "normal")?,
            abnormal: prototype(bundle, "abnormal")?,
            temperature: bundle.manifest().scores.temperature,
            work: vec![],
            scores: vec![],
        })
    }
}

impl Room for Prototypes {
    fn taps(&self) -> Vec<Tap> {
        let layers = self.layers;
        let image = match self.spec.image_feature {
            ImageFeature::LnPost => features(layers, Stream::X, Rows::Class),
            ImageFeature::Projected => Tap::faprompt_image(layers),
        };
        let stream = match self.spec.name {
            Method::Anomalyclip | Method::Anovl => Stream::Y,
            _ => Stream::X,
        };
        let stages = self.spec.stages.iter();
        let patches = stages.map(|s| features(*s, stream, Rows::Patches));
        std::iter::once(image).chain(patches).collect()
    }

    fn judge(&mut self, _: &TValue, taps: &[TValue], said: &mut Said) -> TractResult<()> {
        let width = self.normal.len();
        unit_rows(&taps[0], width, &mut self.work)?;
        said.image_probability =
            score::abnormality(&self.work, &self.normal, &self.abnormal, self.temperature);
        said.score = said.image_probability;
        said.layers.clear();
        for stage in &taps[1..] {
            unit_rows(stage, width, &mut self.work)?;
            let (normal, abnormal) = (&self.normal, &self.abnormal);
            score::patch_scores(
                &self.work,
                normal,
                abnormal,
                self.temperature,
                &mut self.scores,
            );
            said.layers.extend_from_slice(&self.scores);
        }
        said.drawing = match self.spec.name {
            Method::Anovl => Drawing::PooledAligned,
            _ => Drawing::Sum,
        };
        Ok(())
    }

    fn beside(&self) -> TractResult<Box<dyn Room>> {
        Ok(Box::new(self.clone()))
    }
}
