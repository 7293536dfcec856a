//! APRIL-GAN: learned linear layers on the raw tokens of four stages, against two prototypes.
//!
//! Per stage f = unit(W x + b) and the two logits 100 f . [F_n, F_a]; both are enlarged with corners
//! aligned before their softmax, and the stages' maps are added up (0..number of stages). The image score
//! is CLIP's own and does not depend on what was learned.

use super::memory::Memory;
use super::{Drawing, Room, Said, features, prototype, unit_rows};
use crate::bundle::method::MethodSpec;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::score;
use crate::graph::{Builder, Plan};
use crate::ops::dot;
use crate::ops::linear::Linear;
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;

/// (cos(x, F_a) - cos(x, F_n)) / T of unit rows, appended to `out`: the difference of the two logits.
pub fn logits(
    rows: &[f32],
    normal: &[f32],
    abnormal: &[f32],
    temperature: f32,
    out: &mut Vec<f32>,
) {
    let rows = rows.chunks_exact(normal.len());
    out.extend(rows.map(|x| (dot(x, abnormal) - dot(x, normal)) / temperature));
}

/// The learned layer of each stage: raw tokens [N, width] to features [N, C], multiplied in f32.
///
/// # Errors
/// [`BundleError::Architecture`] if a layer is missing or of another shape.
pub(super) fn adapters(bundle: &Bundle, stages: usize) -> Result<Vec<Plan>, BundleError> {
    let m = bundle.manifest();
    let (width, embed, patches) = (m.vision.width, m.text.width, m.image.grid().pow(2));
    let adapter = |i: usize| {
        let mut b = Builder::new(bundle, "method", Arithmetic::F32);
        let tokens = b.source("tokens", &[patches, width])?;
        let name = format!("linear.{i}");
        let weights = b.weights(&format!("{name}.weight"), [embed, width])?;
        let bias = b.tensor(&format!("{name}.bias"), &[embed])?;
        let out = b.wire(&name, Linear::new(weights, Some(bias)), &[tokens])?;
        b.finish(&[out])
    };
    (0..stages).map(adapter).collect()
}

/// The room.
pub struct AprilGan {
    stages: Vec<usize>,
    layers: usize,
    adapters: Vec<Plan>,
    normal: Vec<f32>,
    abnormal: Vec<f32>,
    temperature: f32,
    patches: usize,
    size: usize,
    /// Channels of raw tokens.
    width: usize,
    memory: Memory,
    /// Zero-shot layers of the good parts so far.
    own: Vec<Vec<f32>>,
    work: Vec<f32>,
}

impl AprilGan {
    /// From a bundle.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if a prototype or a layer is missing or of another shape.
    pub fn load(bundle: &Bundle, spec: &MethodSpec) -> Result<AprilGan, BundleError> {
        let m = bundle.manifest();
        Ok(AprilGan {
            adapters: adapters(bundle, spec.stages.len())?,
            stages: spec.stages.clone(),
            layers: m.vision.layers,
            normal: prototype(bundle, "normal")?,
            abnormal: prototype(bundle, "abnormal")?,
            temperature: m.scores.temperature,
            patches: m.image.grid().pow(2),
            size: m.image.size,
            width: m.vision.width,
            memory: Memory::default(),
            own: vec![],
            work: vec![],
        })
    }
}

impl AprilGan {
    /// The largest value of a map, at the input's size.
    fn height(&self, said: &Said) -> f32 {
        score::max(&said.map(self.patches.isqrt(), self.size).values)
    }
}

impl Room for AprilGan {
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
        let width = self.normal.len();
        let (normal, abnormal, t) = (&self.normal, &self.abnormal, self.temperature);
        unit_rows(&taps[0], width, &mut self.work)?;
        said.image_probability = score::abnormality(&self.work, normal, abnormal, t);
        said.score = said.image_probability;
        said.layers.clear();
        for (adapter, tokens) in self.adapters.iter_mut().zip(&taps[1..]) {
            let features = adapter.run(tokens.clone())?;
            unit_rows(&features[0], width, &mut self.work)?;
            logits(&self.work, normal, abnormal, t, &mut said.layers);
        }
        said.drawing = Drawing::AlignedLogits;
        said.aligned.clear();
        if self.memory.is_empty() {
            return Ok(());
        }
        for (i, tokens) in taps[1..].iter().enumerate() {
            unit_rows(tokens, tokens.shape()[1], &mut self.work)?;
            let nearest = self.memory.nearest(i, &self.work);
            said.aligned.extend(nearest.iter().map(|s| 1.0 - s));
        }
        // The published code scales by the smallest and largest of a whole test set, which a device has not.
        let (low, high) = self.memory.range.unwrap_or((0.0, 1.0));
        let largest = self.height(said);
        let scaled = ((largest - low) / (high - low).max(1e-6)).clamp(0.0, 1.0);
        said.score = (said.image_probability + scaled) / 2.0;
        Ok(())
    }

    fn memory(&mut self) -> Option<&mut Memory> {
        Some(&mut self.memory)
    }

    fn recall(&mut self, memory: Memory) -> Result<(), String> {
        if memory.widths != vec![self.width; self.stages.len()] {
            return Err(format!("rows of {:?} channels do not fit", memory.widths));
        }
        self.memory = memory;
        Ok(())
    }

    fn forget(&mut self) {
        self.memory = Memory::default();
        self.own.clear();
    }

    fn remember(&mut self, _: &TValue, taps: &[TValue]) -> TractResult<()> {
        // What good parts' own maps come to is asked at the end, when the others are known.
        let mut said = Said::default();
        let kept = std::mem::take(&mut self.memory);
        let own = self.judge(&taps[0], taps, &mut said);
        self.memory = kept;
        own?;
        self.own.push(said.layers);
        let mut sets = vec![];
        for tokens in &taps[1..] {
            unit_rows(tokens, tokens.shape()[1], &mut self.work)?;
            sets.push((self.work.clone(), tokens.shape()[1]));
        }
        self.memory.add(sets);
        Ok(())
    }

    fn remembered(&mut self) -> TractResult<()> {
        let mut range: Option<(f32, f32)> = None;
        for (part, layers) in self.own.iter().enumerate() {
            let mut said = Said {
                layers: layers.clone(),
                drawing: Drawing::AlignedLogits,
                ..Said::default()
            };
            let others = self.memory.without(part);
            if !others.is_empty() {
                for (i, set) in self.memory.sets.iter().enumerate() {
                    let each = set.len() / self.memory.parts;
                    let nearest = others.nearest(i, &set[part * each..(part + 1) * each]);
                    said.aligned.extend(nearest.iter().map(|s| 1.0 - s));
                }
            }
            let height = self.height(&said);
            let (low, high) = range.unwrap_or((height, height));
            range = Some((low.min(height), high.max(height)));
        }
        self.memory.range = range;
        Ok(())
    }

    fn beside(&self) -> TractResult<Box<dyn Room>> {
        Ok(Box::new(AprilGan {
            stages: self.stages.clone(),
            layers: self.layers,
            adapters: self
                .adapters
                .iter()
                .map(Plan::beside)
                .collect::<TractResult<_>>()?,
            normal: self.normal.clone(),
            abnormal: self.abnormal.clone(),
            temperature: self.temperature,
            patches: self.patches,
            size: self.size,
            width: self.width,
            memory: self.memory.clone(),
            own: vec![],
            work: vec![],
        }))
    }
}
