//! DAPO on the device: which defect it is. 1 + K prototypes, adapters on the raw tokens of four stages, and
//! learned rows in every image block. Our reading; see `train::methods::fit::dapo`.
//!
//! Per stage p = softmax over 1 + K of each patch; a type's grid is the mean of the stages. The image score
//! is 1 - p\[normal\] of the picture's own feature. A type's share is the mean of its share among the types
//! of the picture's own feature and of the most abnormal patch: the picture says what it is as a whole, the
//! patch what the defect looks like. Both are our choice.

use super::april_gan::adapters;
use super::{Drawing, Room, Said, features, unit_rows};
use crate::bundle::method::MethodSpec;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::score;
use crate::graph::Plan;
use crate::ops::tract::*;
use crate::ops::{dot, slice};

/// The room.
pub struct Dapo {
    stages: Vec<usize>,
    layers: usize,
    adapters: Vec<Plan>,
    /// [1 + K, C], unit: normal, then each type.
    text: Vec<f32>,
    width: usize,
    temperature: f32,
    work: Vec<f32>,
}

impl Dapo {
    /// From a bundle.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if a tensor is missing or of another shape.
    pub fn load(bundle: &Bundle, spec: &MethodSpec) -> Result<Dapo, BundleError> {
        let m = bundle.manifest();
        let width = m.text.width;
        let tensor = bundle.tensor("prototypes/types", &[1 + spec.types.len(), width])?;
        let mut text = slice(&tensor)
            .map_err(|e| BundleError::architecture("prototypes", e))?
            .to_vec();
        score::normalise_rows(&mut text, width);
        Ok(Dapo {
            adapters: adapters(bundle, spec.stages.len())?,
            stages: spec.stages.clone(),
            layers: m.vision.layers,
            text,
            width,
            temperature: m.scores.temperature,
            work: vec![],
        })
    }
}

/// softmax(x . text / T) of a unit row against unit rows, in place of what `out` held.
fn probabilities(x: &[f32], text: &[f32], temperature: f32, out: &mut Vec<f32>) {
    out.clear();
    out.extend(text.chunks_exact(x.len()).map(|t| dot(x, t) / temperature));
    let max = score::max(out);
    out.iter_mut().for_each(|v| *v = (*v - max).exp());
    let sum: f32 = out.iter().sum();
    out.iter_mut().for_each(|v| *v /= sum);
}

impl Room for Dapo {
    fn taps(&self) -> Vec<Tap> {
        let raw = self.stages.iter().map(|s| Tap {
            block: *s,
            stream: Stream::X,
            form: Form::Raw,
            rows: Rows::Patches,
        });
        std::iter::once(features(self.layers, Stream::X, Rows::Class))
            .chain(raw)
            .collect()
    }

    fn judge(&mut self, _: &TValue, taps: &[TValue], said: &mut Said) -> TractResult<()> {
        let types = self.text.len() / self.width - 1;
        let mut p = vec![];
        unit_rows(&taps[0], self.width, &mut self.work)?;
        probabilities(&self.work, &self.text, self.temperature, &mut p);
        said.image_probability = 1.0 - p[0];
        said.score = said.image_probability;
        said.types = p[1..].to_vec();
        let count = self.stages.len() as f32;
        said.type_grids.clear();
        for (adapter, tokens) in self.adapters.iter_mut().zip(&taps[1..]) {
            unit_rows(&adapter.run(tokens.clone())?[0], self.width, &mut self.work)?;
            let n = self.work.len() / self.width;
            said.type_grids.resize(types * n, 0.0);
            for (i, row) in self.work.chunks_exact(self.width).enumerate() {
                probabilities(row, &self.text, self.temperature, &mut p);
                for (j, p) in p[1..].iter().enumerate() {
                    said.type_grids[j * n + i] += p / count;
                }
            }
        }
        let n = said.type_grids.len() / types;
        said.layers = (0..n)
            .map(|i| (0..types).map(|j| said.type_grids[j * n + i]).sum())
            .collect();
        said.drawing = Drawing::Sum;
        let worst = (0..n)
            .max_by(|a, b| said.layers[*a].total_cmp(&said.layers[*b]))
            .unwrap_or(0);
        // Clamped: a type's probability may round to nothing, all of them together too.
        let whole: f32 = said.types.iter().sum::<f32>().max(1e-12);
        let patch = said.layers[worst].max(1e-12);
        for (j, share) in said.types.iter_mut().enumerate() {
            *share = 0.5 * (*share / whole + said.type_grids[j * n + worst] / patch);
        }
        Ok(())
    }

    fn beside(&self) -> TractResult<Box<dyn Room>> {
        Ok(Box::new(Dapo {
            stages: self.stages.clone(),
            adapters: self
                .adapters
                .iter()
                .map(Plan::beside)
                .collect::<TractResult<_>>()?,
            text: self.text.clone(),
            work: vec![],
            ..*self
        }))
    }
}
