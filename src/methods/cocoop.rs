//! CoCoOp: a small network sees the picture's own feature and shifts the context of BOTH prompts, which are
//! encoded again for every picture.
//!
//! Only the start token comes before the context: its keys and values are constants of each block. The
//! shorter prompt is filled up behind its end token, which the causal mask hides.

use super::{Drawing, Room, Said, features, unit_rows};
use crate::bundle::method::MethodSpec;
use crate::bundle::tap::{Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::score;
use crate::graph::{Builder, Plan};
use crate::ops::activation::Activation;
use crate::ops::rows::PickRows;
use crate::ops::suffix::{SuffixAttention, SuffixEmbed};
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
use std::sync::Arc;

/// The room.
pub struct CoCoOp {
    tower: Plan,
    layers: usize,
    width: usize,
    temperature: f32,
    image: Vec<f32>,
    text: Vec<f32>,
    work: Vec<f32>,
    scores: Vec<f32>,
}

impl CoCoOp {
    /// From a bundle.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if tensors are missing or of other shapes than the manifest says.
    pub fn load(
        bundle: &Bundle,
        spec: &MethodSpec,
        arithmetic: Arithmetic,
    ) -> Result<CoCoOp, BundleError> {
        let m = bundle.manifest();
        Ok(CoCoOp {
            tower: tower(bundle, spec, arithmetic)?,
            layers: m.vision.layers,
            width: m.text.width,
            temperature: m.scores.temperature,
            image: vec![],
            text: vec![],
            work: vec![],
            scores: vec![],
        })
    }
}

/// From the unit image feature [1, C] to the raw features of the normal and the abnormal prompt, [2, C].
fn tower(bundle: &Bundle, spec: &MethodSpec, arithmetic: Arithmetic) -> Result<Plan, BundleError> {
    let m = bundle.manifest();
    let (width, layers, heads) = (m.text.width, m.text.layers, m.text.heads);
    let (normal, abnormal) = (spec.prompt_rows[0], spec.prompt_rows[1]);
    let rows = normal.max(abnormal);
    let all = 2 * rows;
    let mut b = Builder::new(bundle, "method", arithmetic);
    let image = b.source("image", &[1, width])?;
    let fc1 = b
        .linear("fc1", [spec.hidden, width], 1)?
        .with_activation(Activation::Relu);
    let hidden = b.wire("fc1", fc1, &[image])?;
    let fc2 = b.linear("fc2", [width, spec.hidden], 1)?;
    let shift = b.wire("fc2", fc2, &[hidden])?;
    b.enter("tower");
    let embed = SuffixEmbed {
        base: b.tensor("suffix", &[all, width])?,
        rows,
        shifted: spec.context,
    };
    let mut x = b.wire("suffix", embed, &[shift])?;
    for i in 0..layers {
        let block = format!("blocks.{i}");
        let norm = Arc::new(b.norm(&format!("{block}.ln_1"), width)?);
        let qkv = b
            .linear(&format!("{block}.qkv"), [3 * width, width], all)?
            .with_norm(norm);
        let qkv = b.wire(&format!("{block}.qkv"), qkv, &[x])?;
        let attention = SuffixAttention {
            heads,
            rows,
            prefix_keys: b.tensor(&format!("{block}.prefix_keys"), &[1, width])?,
            prefix_values: b.tensor(&format!("{block}.prefix_values"), &[1, width])?,
        };
        let mut attended = b.wire(&format!("{block}.attention"), attention, &[qkv])?;
        let mut active = all;
        if i + 1 == layers {
            // The end tokens: of the normal prompt and of the abnormal one.
            let ends = PickRows {
                first: normal - 1,
                step: rows + abnormal - normal,
                count: 2,
            };
            attended = b.wire(&format!("{block}.ends_attended"), ends.clone(), &[attended])?;
            x = b.wire(&format!("{block}.ends"), ends, &[x])?;
            active = 2;
        }
        let out = b
            .linear(&format!("{block}.out"), [width, width], active)?
            .with_residual();
        x = b.wire(&format!("{block}.out"), out, &[attended, x])?;
        x = b.mlp(&block, width, active, x)?;
    }
    let x = b.layer_norm("ln_final", width, x)?;
    let projection = b.linear_without_bias("projection", [width, width])?;
    let features = b.wire("projection", projection, &[x])?;
    b.finish(&[features])
}

impl Room for CoCoOp {
    fn taps(&self) -> Vec<Tap> {
        vec![
            features(self.layers, Stream::X, Rows::Class),
            features(self.layers, Stream::X, Rows::Patches),
        ]
    }

    fn judge(&mut self, _: &TValue, taps: &[TValue], said: &mut Said) -> TractResult<()> {
        let width = self.width;
        unit_rows(&taps[0], width, &mut self.image)?;
        let image = Tensor::from_shape(&[1, width], &self.image)?.into_tvalue();
        let features = self.tower.run(image)?;
        unit_rows(&features[0], width, &mut self.text)?;
        let (normal, abnormal) = self.text.split_at(width);
        said.image_probability =
            score::abnormality(&self.image, normal, abnormal, self.temperature);
        said.score = said.image_probability;
        unit_rows(&taps[1], width, &mut self.work)?;
        score::patch_scores(
            &self.work,
            normal,
            abnormal,
            self.temperature,
            &mut self.scores,
        );
        said.layers.clear();
        said.layers.extend_from_slice(&self.scores);
        said.drawing = Drawing::Sum;
        Ok(())
    }

    fn beside(&self) -> TractResult<Box<dyn Room>> {
        Ok(Box::new(CoCoOp {
            tower: self.tower.beside()?,
            image: vec![],
            text: vec![],
            work: vec![],
            scores: vec![],
            ..*self
        }))
    }
}
