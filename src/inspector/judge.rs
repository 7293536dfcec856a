//! One normalised frame through encoder, adaptation and scores: on a GPU, by another method, or by FAPrompt on this
//! processor.

use super::{Inspector, Stage, working};
use crate::faprompt::score;
use crate::gpu::{self, GpuError};
use crate::ops::tract::*;
use crate::ops::{slice, slice_mut};
use std::sync::Arc;
use std::time::Instant;

/// Replaces the values of a vector without allocating.
fn refill(to: &mut Vec<f32>, from: &[f32]) {
    to.clear();
    to.extend_from_slice(from);
}

/// Refuses scores that are NaN or infinite.
pub(super) fn finite(what: &str, values: &[f32]) -> TractResult<()> {
    match values.iter().find(|v| !v.is_finite()) {
        None => Ok(()),
        Some(v) => Err(TractError::msg(format!("the {what} hold {v}"))),
    }
}

impl Inspector {
    /// Judges a normalised frame [3, S, S], on the GPU as long as there is one that works.
    pub(super) fn judge(&mut self, frame: TValue, ended: &mut dyn FnMut(Stage)) -> TractResult<()> {
        if let Some(mut gpu) = self.gpu.take() {
            self.gpu = working(self.judge_on(&mut gpu, frame.clone(), ended).map(|()| gpu));
            if self.gpu.is_some() {
                return Ok(());
            }
        }
        self.judge_here(frame, ended)
    }

    /// Judges a normalised frame on a GPU.
    pub(super) fn judge_on(
        &mut self,
        gpu: &mut gpu::GpuNetwork,
        frame: TValue,
        ended: &mut dyn FnMut(Stage),
    ) -> Result<(), GpuError> {
        let start = Instant::now();
        let answer = gpu.run(frame.clone())?;
        if self.room.is_some() {
            let ended_encode = start.elapsed().as_secs_f64() * 1e3;
            self.hear(&frame, answer.taps()).map_err(GpuError::Cuda)?;
            self.seen.ms.encode = ended_encode;
            for stage in [Stage::Encode, Stage::Adapt, Stage::Score] {
                ended(stage);
            }
            return Ok(());
        }
        let last = &mut self.seen;
        let mut take = || -> TractResult<()> {
            refill(&mut last.patch_scores, answer.patch_scores()?);
            refill(
                &mut last.patch_scores_adapted,
                answer.patch_scores_adapted()?,
            );
            refill(&mut last.abnormal, answer.abnormal()?);
            refill(&mut last.prior, answer.prior()?);
            last.image_probability = answer.image_probability()?;
            finite("patch scores", &last.patch_scores)?;
            finite("adapted patch scores", &last.patch_scores_adapted)?;
            finite("probability", &[last.image_probability])
        };
        take().map_err(GpuError::Cuda)?;
        self.looked[self.at].mask(&mut last.patch_scores);
        self.looked[self.at].mask(&mut last.patch_scores_adapted);
        last.conclude(self.manifest.scores.rule, &self.looked[self.at]);
        last.ms.memory = 0.0;
        if let Some(good) = &mut self.good {
            good.describe(answer.taps(), &mut last.ms)
                .map_err(GpuError::Cuda)?;
        }
        last.ms.encode = start.elapsed().as_secs_f64() * 1e3;
        (last.ms.adapt, last.ms.score) = (0.0, 0.0);
        for stage in [Stage::Encode, Stage::Adapt, Stage::Score] {
            ended(stage);
        }
        Ok(())
    }

    /// Judges a normalised frame by a method other than FAPrompt; returns `false` if the method is FAPrompt.
    fn judge_in(&mut self, frame: &TValue, ended: &mut dyn FnMut(Stage)) -> TractResult<bool> {
        if self.room.is_none() {
            return Ok(false);
        }
        let clock = Instant::now();
        // The taps stay valid until the next frame; each gets a handle, so that the encoder is free.
        let taps: TVec<TValue> = self.encoder.taps(frame.clone())?.into();
        self.seen.ms.encode = clock.elapsed().as_secs_f64() * 1e3;
        ended(Stage::Encode);
        ended(Stage::Adapt);
        self.hear(frame, &taps)?;
        ended(Stage::Score);
        Ok(true)
    }

    /// Has the method judge the taps of a frame: its own taps come first, then the memory's.
    fn hear(&mut self, frame: &TValue, taps: &[TValue]) -> TractResult<()> {
        let room = self.room.as_mut().context("a bundle without a method")?;
        let last = &mut self.seen;
        let own = room.taps().len();
        let clock = Instant::now();
        let said = last.said.get_or_insert_default();
        room.judge(frame, &taps[..own], said)?;
        finite("patch scores", &said.layers)?;
        finite("probability", &[said.image_probability])?;
        let grid = self.manifest.image.grid();
        said.patches(grid * grid, &mut last.patch_scores);
        refill(&mut last.patch_scores_adapted, &last.patch_scores);
        last.max_score = score::max(&last.patch_scores);
        last.max_score_adapted = last.max_score;
        (last.image_probability, last.zero_shot) = (said.image_probability, said.score);
        last.score = last.zero_shot;
        let groups = self.looked[self.at].groups().len();
        last.groups.clear();
        last.groups.resize(groups, last.as_zero_shot().score);
        last.ms.memory = 0.0;
        if let Some(good) = &mut self.good {
            good.describe(&taps[own..], &mut last.ms)?;
        }
        (last.ms.adapt, last.ms.score) = (0.0, clock.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    /// Judges a normalised frame on this processor.
    pub(super) fn judge_here(
        &mut self,
        frame: TValue,
        ended: &mut dyn FnMut(Stage),
    ) -> TractResult<()> {
        if self.judge_in(&frame, ended)? {
            return Ok(());
        }
        let (spec, work, last) = (&self.manifest.scores, &mut self.work, &mut self.seen);
        let (normal, width) = (&self.normal, self.normal.len());
        let mut clock = Instant::now();
        let mut lap = |stage| {
            let ms = clock.elapsed().as_secs_f64() * 1e3;
            ended(stage);
            clock = Instant::now();
            ms
        };

        let taps = self.encoder.taps(frame)?;
        last.ms.encode = lap(Stage::Encode);
        refill(&mut work.patches, slice(&taps[0])?);
        refill(&mut work.image, slice(&taps[1])?);
        last.ms.memory = 0.0;
        if let Some(good) = &mut self.good {
            good.describe(&taps[2..], &mut last.ms)?;
        }
        score::normalise_rows(&mut work.patches, width);
        score::normalise_rows(&mut work.image, width);
        let score_patches = |abnormal: &[f32], scores: &mut Vec<f32>| {
            score::patch_scores(&work.patches, normal, abnormal, spec.temperature, scores);
        };
        score_patches(&self.abnormal, &mut last.patch_scores);
        // The maxima would skip a patch whose score is NaN: the part is not known to be good.
        finite("patch scores", &last.patch_scores)?;
        // Patches that are not judged feed no prior, and are no maximum.
        self.looked[self.at].mask(&mut last.patch_scores);
        let prior = &self.manifest.prior;
        score::select(
            &last.patch_scores,
            prior.selected_patches,
            prior.selection,
            &mut work.chosen,
        );
        let selected = slice_mut(Arc::make_mut(&mut work.selected))?.chunks_exact_mut(width);
        for (row, patch) in selected.zip(&work.chosen) {
            row.copy_from_slice(&work.patches[patch * width..][..width]);
        }
        last.ms.score = lap(Stage::Score);
        match self.adaptation.run(work.selected.clone().into_tvalue())? {
            Some(adapted) => {
                refill(&mut last.abnormal, slice(&adapted.abnormal)?);
                score::normalise_rows(&mut last.abnormal, width);
                refill(&mut last.prior, slice(&adapted.prior)?);
            }
            None => refill(&mut last.abnormal, &self.abnormal),
        }
        last.ms.adapt = lap(Stage::Adapt);
        score_patches(&last.abnormal, &mut last.patch_scores_adapted);
        finite("adapted patch scores", &last.patch_scores_adapted)?;
        self.looked[self.at].mask(&mut last.patch_scores_adapted);
        last.image_probability =
            score::abnormality(&work.image, normal, &last.abnormal, spec.temperature);
        finite("probability", &[last.image_probability])?;
        last.conclude(spec.rule, &self.looked[self.at]);
        last.ms.score += lap(Stage::Score);
        Ok(())
    }
}
