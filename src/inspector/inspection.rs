//! The result of judging a frame: scores, maps and times.

use crate::bundle::manifest::{Manifest, ScoreRule};
use crate::bundle::method::Method;
use crate::faprompt::map::{self, Map};
use crate::faprompt::score;
use crate::memory::ZeroShot;
use crate::memory::region::{Looked, Regions};
use crate::methods::Said;
use crate::tiling::Tiling;
use serde::Serialize;
use std::sync::Arc;

/// Milliseconds per stage; all of a GPU's work counts as `encode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stages {
    /// Resizing and normalising.
    pub preprocess: f64,
    /// The image encoder.
    pub encode: f64,
    /// The prior network and the prompt tower.
    pub adapt: f64,
    /// Normalising, patch scores, selection, image score.
    pub score: f64,
    /// Descriptors, and the comparison with good parts; 0 without a memory of them. With the memory's own encoder,
    /// if the bundle has one.
    pub memory: f64,
}

impl Stages {
    /// The sum of all stages, milliseconds.
    pub fn total(&self) -> f64 {
        self.preprocess + self.encode + self.adapt + self.score + self.memory
    }
}

/// A stage of judging a frame that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Resizing and normalising; its time is [`Stages::preprocess`].
    Preprocess,
    /// The image encoder; its time is [`Stages::encode`].
    Encode,
    /// The adaptation of the prompts; its time is [`Stages::adapt`].
    Adapt,
    /// [`Stages::score`]; ends twice, before and after the adaptation.
    Score,
}

/// The result of judging a frame.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// The score, 0..=1; above the threshold is a reject. Fused of FAPrompt's and the memory's where good parts
    /// were taught, else FAPrompt's.
    pub score: f32,
    /// FAPrompt's image score, 0..=1; for an encoder without text tower it says nothing about the part.
    pub zero_shot: f32,
    /// The memory's score: how far the part is from good ones, in the unit of its kind; `None` where none was
    /// taught.
    pub memory: Option<f32>,
    /// q: the abnormal probability of the image feature. Of a frame in tiles, this, the prior and the
    /// prototype are those of the tile with the largest score.
    pub image_probability: f32,
    /// Largest patch score with the unadapted prototype.
    pub max_score: f32,
    /// Largest patch score with the adapted one.
    pub max_score_adapted: f32,
    /// Length of the prior Omega; 0 if adaptation is off.
    pub prior_norm: f32,
    /// Abnormal score of each patch, raster order, tile by tile.
    pub patch_scores: Vec<f32>,
    /// The same with the adapted prototype.
    pub patch_scores_adapted: Vec<f32>,
    /// The fusion of FAPrompt's map and the memory's, 0..=1; empty where nothing was taught.
    pub patch_mixture: Vec<f32>,
    /// FAPrompt's score of each group of patches that is judged.
    pub(super) groups: Vec<f32>,
    /// Omega, `[C]`; empty if adaptation is off.
    pub prior: Vec<f32>,
    /// The adapted abnormal prototype, `[C]`, unit length.
    pub abnormal: Vec<f32>,
    /// Milliseconds per stage.
    pub ms: Stages,
    /// The result of a method other than FAPrompt.
    pub(super) said: Option<Said>,
    /// Whether parts have no score until good ones were taught.
    pub(super) alone: bool,
    pub(super) grid: usize,
    pub(super) side: usize,
    pub(super) tiles: Tiling,
    pub(super) regions: Arc<Regions>,
}

impl Inspection {
    /// The S x S anomaly map, not smoothed: in 0..=1, or in the range of the method's own sum.
    pub fn map(&self) -> Map {
        let joined = |values: &[f32]| map::joined(values, self.grid, self.tiles, self.side);
        match &self.said {
            _ if !self.patch_mixture.is_empty() => joined(&self.patch_mixture),
            Some(said) if self.tiles.is_whole() => said.map(self.grid, self.side),
            _ => {
                let mut mean = vec![];
                self.zero_shot_map(&mut mean);
                joined(&mean)
            }
        }
    }

    /// The regions of the picture that were judged.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// For each type of defect its share, 0..=1, and its map, should the part be defective; empty for methods
    /// without types.
    pub fn types(&self) -> Vec<(f32, Map)> {
        let Some(said) = &self.said else {
            return vec![];
        };
        let grids = said.type_grids.chunks_exact(self.grid * self.grid);
        said.types
            .iter()
            .zip(grids)
            .map(|(share, grid)| (*share, said.drawing.draw(grid, self.grid, self.side)))
            .collect()
    }

    /// The most likely type of defect and its share; `None` where it does not exceed the next one by `margin`,
    /// or the method has no types.
    pub fn kind(&self, margin: f32) -> Option<(usize, f32)> {
        self.said.as_ref().and_then(|said| said.kind(margin))
    }

    /// The result of a picture on which nothing was found.
    #[cfg(test)]
    pub(crate) fn blank(grid: usize, side: usize) -> Inspection {
        Inspection {
            patch_scores: vec![0.0; grid * grid],
            patch_scores_adapted: vec![0.0; grid * grid],
            grid,
            side,
            ..Inspection::default()
        }
    }

    /// FAPrompt's score of each group of patches that is judged.
    pub fn groups(&self) -> &[f32] {
        &self.groups
    }

    /// The judgement that needs no good parts, as teaching uses it.
    pub fn as_zero_shot(&self) -> ZeroShot {
        if self.alone {
            // Without good parts there is none.
            return ZeroShot::default();
        }
        let highest = self.max_score.max(self.max_score_adapted);
        ZeroShot {
            score: self.zero_shot,
            highest,
        }
    }

    /// FAPrompt's map patch by patch: the mean of the maps by both prototypes.
    pub fn zero_shot_map(&self, out: &mut Vec<f32>) {
        let both = self.patch_scores.iter().zip(&self.patch_scores_adapted);
        out.clear();
        out.extend(both.map(|(a, b)| (a + b) / 2.0));
    }

    /// The result before the first frame.
    pub(super) fn of(manifest: &Manifest, tiles: Tiling) -> Inspection {
        Inspection {
            alone: manifest.method_name() == Method::Memory,
            grid: manifest.image.grid(),
            side: manifest.image.size,
            tiles,
            ..Inspection::default()
        }
    }

    /// Clears the result before the first tile of a frame.
    pub(super) fn begin(&mut self) {
        (self.score, self.zero_shot, self.memory) = (f32::NEG_INFINITY, 0.0, None);
        (self.max_score, self.max_score_adapted) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        self.ms = Stages::default();
        self.patch_scores.clear();
        self.patch_scores_adapted.clear();
        self.groups.clear();
    }

    /// Adds the result of the next tile. The frame's score is the largest of its tiles'.
    pub(super) fn add(&mut self, tile: &mut Inspection) {
        self.patch_scores.extend_from_slice(&tile.patch_scores);
        let adapted = &tile.patch_scores_adapted;
        self.patch_scores_adapted.extend_from_slice(adapted);
        self.groups.resize(tile.groups.len(), f32::NEG_INFINITY);
        for (all, own) in self.groups.iter_mut().zip(&tile.groups) {
            *all = all.max(*own);
        }
        self.max_score = self.max_score.max(tile.max_score);
        self.max_score_adapted = self.max_score_adapted.max(tile.max_score_adapted);
        self.zero_shot = self.zero_shot.max(tile.zero_shot);
        let (ms, own) = (&mut self.ms, &tile.ms);
        ms.encode += own.encode;
        ms.adapt += own.adapt;
        ms.score += own.score;
        ms.memory += own.memory;
        // `max` would lose a NaN.
        if tile.score.is_nan() || tile.score > self.score {
            self.score = tile.score;
            self.image_probability = tile.image_probability;
            self.prior_norm = tile.prior_norm;
            std::mem::swap(&mut self.prior, &mut tile.prior);
            std::mem::swap(&mut self.abnormal, &mut tile.abnormal);
            std::mem::swap(&mut self.said, &mut tile.said);
        }
    }

    /// Works out the score from patch scores, image probability and prior: the largest score of a group of patches
    /// with one threshold, each lowered by the offset of its threshold.
    pub(super) fn conclude(&mut self, rule: ScoreRule, looked: &Looked) {
        self.max_score = score::max(&self.patch_scores);
        self.max_score_adapted = score::max(&self.patch_scores_adapted);
        self.groups.clear();
        (self.zero_shot, self.score) = (0.0, f32::NEG_INFINITY);
        for group in looked.groups() {
            let highest = |scores: &[f32]| {
                let of_group = scores.iter().zip(&group.patches).filter(|(_, own)| **own);
                of_group.fold(f32::NEG_INFINITY, |m, (v, _)| m.max(*v))
            };
            let score = score::image_score(
                self.image_probability,
                highest(&self.patch_scores),
                highest(&self.patch_scores_adapted),
                rule,
            );
            self.groups.push(score);
            self.zero_shot = self.zero_shot.max(score);
            // `max` would lose a NaN.
            let lowered = if group.offset == 0.0 {
                score
            } else {
                (score - group.offset).clamp(0.0, 1.0)
            };
            if lowered.is_nan() || lowered > self.score {
                self.score = lowered;
            }
        }
        self.prior_norm = score::norm(&self.prior);
    }
}
