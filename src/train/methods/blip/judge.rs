//! Judging a set by BLIP: the two sentences of each of its classes.

use super::{Blip, TEMPERATURE, conclude};
use crate::bundle::manifest::ImageSpec;
use crate::train::TrainError;
use crate::train::datasets::Sample;
use crate::train::evaluate::Judged;
use crate::train::methods::MethodOptions;
use crate::train::methods::judge::{Frames, on_host};
use crate::train::nn::layers::put;
use indicatif::ProgressBar;

/// Judges every sample at `image_size` pixels; pictures that cannot be judged come back with the reason.
///
/// # Errors
/// [`TrainError::Options`] for a size that does not fit the weights or a class name that is too long.
pub fn judge(
    blip: &Blip,
    asked: &MethodOptions,
    image_size: Option<usize>,
    samples: Vec<Sample>,
    bar: &ProgressBar,
) -> Result<(Vec<Judged>, Vec<String>), TrainError> {
    let size = image_size.unwrap_or(blip.image_size());
    let patch = blip.patch();
    let frames = Frames {
        spec: ImageSpec {
            size,
            patch,
            mean: blip.preprocess.mean,
            std: blip.preprocess.std,
            interpolation: blip.preprocess.interpolation,
        },
        class: asked.class.as_deref(),
        bar,
    };
    frames.check()?;
    let temperature = asked.temperature.unwrap_or(TEMPERATURE);
    let grid = size / patch;
    let encoder = blip.encoder(grid);
    on_host(
        &frames,
        samples,
        |class| blip.sentences(class),
        |text, patches| {
            let input = put(patches, [1, grid * grid, 3 * patch * patch], &text.device());
            conclude(encoder.features(input), text, temperature, size)
        },
    )
}
