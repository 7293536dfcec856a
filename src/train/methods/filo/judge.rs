//! Judging a set by FiLo: the prompts of each of its classes, all positions, nothing damped.

use super::{FiLo, tokens};
use crate::bundle::manifest::ImageSpec;
use crate::bundle::method::Method;
use crate::bundle::method::MethodSpec;
use crate::faprompt::map::Map;
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::datasets::Sample;
use crate::train::evaluate::Judged;
use crate::train::export::ExportOptions;
use crate::train::methods::MethodOptions;
use crate::train::methods::judge::{Frames, on_host};
use crate::train::nn::image::ImageTower;
use crate::train::nn::layers::{Maker, put};
use crate::train::tensors::Tensors;
use burn::tensor::Device;
use indicatif::ProgressBar;

/// Blocks with the V-V stream: the last 18 of 24, in proportion.
fn vv_layers(layers: usize) -> usize {
    (layers * 18).div_ceil(24)
}

/// The published checkpoint's four stages: a quarter of the depth each.
fn stages(asked: &MethodOptions, layers: usize) -> Result<[usize; 4], TrainError> {
    let wrong = |what: String| Err(TrainError::Options(format!("--method filo: {what}")));
    if layers < 4 {
        return wrong(format!(
            "an image encoder of {layers} blocks has no four stages"
        ));
    }
    let stages = match asked.stages.is_empty() {
        true => [1, 2, 3, 4].map(|i| (i * layers).div_ceil(4)),
        false => match asked.stages[..].try_into() {
            Ok(stages) => stages,
            Err(_) => return wrong("--stages names four blocks".into()),
        },
    };
    match stages.is_sorted_by(|a, b| a < b) && stages[0] > 0 && stages[3] == layers {
        true => Ok(stages),
        false => wrong(format!(
            "--stages {stages:?}: ascending, the last is block {layers}"
        )),
    }
}

/// Judges every sample by the checkpoint `learned`; pictures that cannot be judged come back with the reason.
///
/// # Errors
/// [`TrainError::Prompts`] for a checkpoint that lacks something, [`TrainError::Options`] for options that do not
/// fit the weights.
pub fn judge(
    clip: &Clip,
    learned: &Tensors,
    asked: &MethodOptions,
    options: &ExportOptions,
    device: &Device,
    samples: Vec<Sample>,
    bar: &ProgressBar,
) -> Result<(Vec<Judged>, Vec<String>), TrainError> {
    let size = options.image_size.unwrap_or(clip.default_image_size());
    let (layers, patch) = (clip.visual.blocks.len(), clip.visual.patch);
    let frames = Frames {
        spec: ImageSpec {
            size,
            patch,
            mean: clip.preprocess.mean,
            std: clip.preprocess.std,
            interpolation: clip.preprocess.interpolation,
        },
        class: asked.class.as_deref(),
        bar,
    };
    frames.check()?;
    let stages = stages(asked, layers)?;
    let vv = options.vv_layers.unwrap_or(vv_layers(layers)).min(layers);
    let grid = size / patch;
    let positions = asked
        .positions
        .unwrap_or(MethodSpec::of(Method::Filo, layers).positions);
    let positions = clip.visual.positions_by(grid, positions);
    // The learner's parameters ask for gradients, which nobody computes here.
    let device = &device.clone().autodiff();
    let mut m = Maker::new(device, false);
    let tower = ImageTower::with_positions(&clip.visual, &positions, clip.activation, vv, &mut m);
    on_host(
        &frames,
        samples,
        |class| FiLo::load(clip, learned, class, size, device),
        |network, patches| {
            let input = put(patches, [1, grid * grid, 3 * patch * patch], device);
            let (tokens, image) = tokens(&tower, input, stages);
            let (score, values) = network.conclude(&network.judge(image, &tokens, None, true));
            (score, Map { side: size, values })
        },
    )
}
