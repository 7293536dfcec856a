//! What the commands that read CLIP weights share: what only a configuration tells, on the command line.

use burn::tensor::Device;
use clap::Args;
use faprompt_edge::bundle::manifest::{ActivationKind, Interpolation};
use faprompt_edge::report::warn;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::backbone::Backbone;
use faprompt_edge::train::clip::{Clip, Overrides};
use faprompt_edge::train::methods::blip::Blip;
use faprompt_edge::train::pull::resolve;
use std::path::{Path, PathBuf};

/// Options about weights; each counts before the configuration.
#[derive(Args)]
pub struct WeightOptions {
    /// Configuration of the CLIP weights [default: open_clip_config.json, config.json or a .json file of the weights' name beside them]
    #[arg(long, value_name = "FILE")]
    clip_config: Option<PathBuf>,
    /// Where in the file the CLIP is, if it holds several (as in "model_ema.")
    #[arg(long)]
    prefix: Option<String>,
    /// Activation of the MLPs [default: as the configuration says, else QuickGELU and a warning]
    #[arg(long, value_enum)]
    activation: Option<ActivationKind>,
    /// Attention heads of the image and of the text encoder [default: as the configuration says, else 64 channels each and a warning]
    #[arg(long, value_parser = heads, value_name = "IMAGE,TEXT")]
    heads: Option<[usize; 2]>,
    /// What normalisations add to the variance [default: as the configuration says, else 1e-5 and a warning]
    #[arg(long, value_parser = epsilon)]
    epsilon: Option<f32>,
    /// Means of R, G, B (0..=1) that are subtracted from pixels [default: as the configuration says, else OpenAI's and a warning]
    #[arg(long, value_parser = mean, value_name = "R,G,B")]
    mean: Option<[f32; 3]>,
    /// Standard deviations that pixels are divided by [default: as the configuration says, else OpenAI's and a warning]
    #[arg(long, value_parser = std, value_name = "R,G,B")]
    std: Option<[f32; 3]>,
    /// How pictures are resized [default: as the configuration says, else bicubic]
    #[arg(long, value_enum)]
    interpolation: Option<Interpolation>,
    /// A key of the configuration, or a tensor (its name or its beginning), that is known to change nothing
    #[arg(long, value_name = "NAME")]
    ignore: Vec<String>,
}

impl WeightOptions {
    /// What they say.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            config: self.clip_config.clone(),
            prefix: self.prefix.clone(),
            activation: self.activation,
            heads: self.heads,
            epsilon: self.epsilon,
            mean: self.mean,
            std: self.std,
            interpolation: self.interpolation,
            ignore: self.ignore.clone(),
        }
    }

    /// Reads an image encoder without text, and says what had to be assumed.
    pub fn load_backbone(&self, path: &Path) -> Result<Backbone, TrainError> {
        let backbone = Backbone::load(&resolve(path)?, &self.overrides())?;
        for note in &backbone.assumed {
            warn(format_args!("{}: assumed: {note}", path.display()));
        }
        Ok(backbone)
    }

    /// Reads BLIP's weights onto a device.
    pub fn load_blip(&self, path: &Path, device: &Device) -> Result<Blip, TrainError> {
        Blip::load(&resolve(path)?, &self.overrides(), device)
    }

    /// Reads weights, and says what had to be assumed.
    pub fn load(&self, path: &Path) -> Result<Clip, TrainError> {
        let clip = Clip::load_with(&resolve(path)?, &self.overrides())?;
        for note in &clip.notes {
            warn(format_args!("{}: {note}", path.display()));
        }
        Ok(clip)
    }
}

/// `12,8`; one number stands for both.
fn heads(text: &str) -> Result<[usize; 2], String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some([a, b]) if *a > 0 && *b > 0 => Ok([*a, *b]),
        Some([n]) if *n > 0 => Ok([*n, *n]),
        _ => Err("two numbers from 1 on, as in 12,8".into()),
    }
}

/// A positive number that a bundle can hold.
fn epsilon(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if (1e-12..=0.1).contains(&v) => Ok(v),
        _ => Err("a number from 1e-12 to 0.1".into()),
    }
}

/// Three numbers of `range`; one stands for all.
fn three(text: &str, range: std::ops::RangeInclusive<f32>) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    let numbers = numbers.filter(|n| n.iter().all(|v| range.contains(v)));
    match numbers.as_deref() {
        Some([r, g, b]) => Ok([*r, *g, *b]),
        Some([v]) => Ok([*v; 3]),
        _ => Err(format!(
            "three numbers from {} to {}, with commas between them",
            range.start(),
            range.end()
        )),
    }
}

fn mean(text: &str) -> Result<[f32; 3], String> {
    three(text, 0.0..=1.0)
}

fn std(text: &str) -> Result<[f32; 3], String> {
    three(text, 1e-3..=10.0)
}
