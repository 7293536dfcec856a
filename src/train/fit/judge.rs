//! Judging a set with prompts that are not exported yet: the trainer's own way, on cached features.

use super::encode::{self, Encoder};
use super::learner::Learner;
use super::{Encoded, Options, frozen};
use crate::faprompt::map::anomaly_map;
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::evaluate::{self, Judged};
use crate::train::export::SIGMA_PER_PIXEL;
use crate::train::nn::Maker;
use crate::train::nn::layers::{put, values};
use crate::train::progress::Interrupt;
use crate::train::prompts::Prompts;
use burn::tensor::Device;
use indicatif::ProgressBar;

/// Number of pictures that are judged in one pass.
const BATCH: usize = 8;

/// What prompts say of every picture of a set, in its order, and the masks that could not be read.
///
/// # Errors
/// [`TrainError::Picture`] for a picture that cannot be read, [`TrainError::Paused`].
#[allow(clippy::too_many_arguments)]
pub fn judge(
    clip: &Clip,
    prompts: &Prompts,
    options: &Options,
    set: &Encoded,
    encoder: &mut Encoder,
    device: &Device,
    stop: Interrupt,
    bar: &ProgressBar,
) -> Result<(Vec<Judged>, Vec<String>), TrainError> {
    let (side, grid) = (options.image_size, options.image_size / clip.visual.patch);
    let sigma = SIGMA_PER_PIXEL * side as f32;
    let frozen = frozen(clip, prompts, options, device);
    let learner = Learner::new(
        prompts,
        &options.variant,
        &mut Maker::new(device, false).with(options.products),
    );
    let base = learner.base(&frozen);
    let (mut judged, mut failed) = (vec![], vec![]);
    bar.set_length(set.samples.len() as u64);
    for (samples, paths) in set.samples.chunks(BATCH).zip(set.paths.chunks(BATCH)) {
        if stop.came() {
            return Err(TrainError::Paused {
                after: format!("{} pictures", judged.len()),
                saved: "the features so far".into(),
            });
        }
        let (mut patches, mut images) = (vec![], vec![]);
        for (sample, path) in samples.iter().zip(paths) {
            let features = encode::features(encoder, set.cache, sample, path)?;
            patches.extend(features.patches);
            images.extend(features.image);
        }
        let (b, n, c) = (samples.len(), grid * grid, clip.text.width);
        let patches = put(patches, [b, n, c], device);
        let images = put(images, [b, c], device);
        let said = learner.judge(&frozen, &base, &patches, &images);
        let (scores, adapted, image) = (
            values(&said.scores),
            values(&said.adapted),
            values(&said.image),
        );
        for (i, sample) in samples.iter().enumerate() {
            let row = i * n..(i + 1) * n;
            let map = anomaly_map(&scores[row.clone()], &adapted[row], grid, side);
            judged.push(evaluate::judged(
                sample.clone(),
                image[i],
                None,
                side,
                map.smoothed(sigma),
                &mut failed,
            ));
        }
        bar.inc(b as u64);
    }
    Ok((judged, failed))
}

/// The mean of several judgements of the same set: an ensemble.
pub fn average(mut runs: Vec<Vec<Judged>>) -> Vec<Judged> {
    let Some(mut mean) = runs.pop() else {
        return vec![];
    };
    let count = (runs.len() + 1) as f32;
    for (i, judged) in mean.iter_mut().enumerate() {
        let others = || runs.iter().map(|r| &r[i]);
        judged.score = (judged.score + others().map(|o| o.score).sum::<f32>()) / count;
        if let Some(own) = &mut judged.segmentation {
            for other in others().filter_map(|o| o.segmentation.as_ref()) {
                own.scores
                    .iter_mut()
                    .zip(&other.scores)
                    .for_each(|(a, b)| *a += b);
            }
            own.scores.iter_mut().for_each(|s| *s /= count);
        }
        if let Some(own) = &mut judged.map {
            for other in others().filter_map(|o| o.map.as_ref()) {
                let pairs = own.values.iter_mut().zip(&other.values);
                pairs.for_each(|(a, b)| *a += b);
            }
            own.values.iter_mut().for_each(|s| *s /= count);
        }
    }
    mean
}
