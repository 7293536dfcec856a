//! `faprompt-train pretrain`, `render` and `sheet`.

use clap::{Args, ValueEnum};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::fit::checkpoint::Checkpoint;
use faprompt_edge::train::nn::{DeviceKind, Products};
use faprompt_edge::train::pretrain::init::Sizes;
use faprompt_edge::train::pretrain::{Options, Phase, pretrain};
use faprompt_edge::train::progress::{Interrupt, bar};
use faprompt_edge::train::render;
use std::path::PathBuf;

fn part(validation: bool) -> render::Part {
    if validation {
        render::Part::Validation
    } else {
        render::Part::Train
    }
}

/// Sizes and phases that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Recipe {
    /// About an hour of two cores.
    Cpu,
    /// About 25 minutes of an H100.
    Gpu,
    /// Seconds: to see that everything runs.
    Trial,
}

impl Recipe {
    fn sizes(self) -> (Sizes, usize) {
        let (image, text, vv_layers) = match self {
            Recipe::Cpu => ((192, 6, 16, 14), (192, 3), 2),
            Recipe::Gpu => ((384, 12, 16, 14), (384, 6), 4),
            Recipe::Trial => ((64, 2, 16, 4), (64, 2), 1),
        };
        (Sizes { image, text }, vv_layers)
    }

    /// Of the course from nothing, or of the second one.
    fn phases(self, second: bool) -> Vec<Phase> {
        let phase = |side, pairs, steps| Phase { side, pairs, steps };
        match (self, second) {
            (Recipe::Cpu, false) => vec![phase(112, 12, 3000), phase(224, 4, 1400)],
            (Recipe::Cpu, true) => vec![phase(160, 8, 500), phase(224, 6, 600)],
            (Recipe::Gpu, false) => vec![phase(112, 128, 8000), phase(224, 64, 8000)],
            (Recipe::Gpu, true) => vec![phase(160, 64, 4000), phase(224, 64, 4000)],
            (Recipe::Trial, _) => vec![phase(48, 2, 4), phase(64, 2, 4)],
        }
    }

    /// Largest learning rate.
    fn rate(second: bool) -> f64 {
        if second { 5e-4 } else { 1e-3 }
    }
}

/// Arguments of `pretrain`.
#[derive(Args)]
pub struct Pretrain {
    /// Folder for checkpoints and clip.safetensors
    #[arg(long)]
    out: PathBuf,
    /// Sizes and phases that belong together
    #[arg(long, value_enum, default_value = "cpu")]
    recipe: Recipe,
    /// Stretches of training instead of the recipe's: SIDExSCENESxSTEPS, as in 112x16x3000
    #[arg(long = "phase")]
    phases: Vec<Phase>,
    /// Same seed, same pictures, same numbers
    #[arg(long, default_value_t = 111)]
    seed: u64,
    /// A second course, with phases of its own: begin with these weights instead of nothing, vary the
    /// photography more, and teach the largest patch score as well
    #[arg(long, value_name = "CLIP")]
    refine: Option<PathBuf>,
    /// Largest learning rate [default: 1e-3, or 5e-4 in a second course]
    #[arg(long)]
    lr: Option<f64>,
    /// Weight decay of matrices
    #[arg(long, default_value_t = 0.05)]
    weight_decay: f32,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 250)]
    save_every: usize,
    /// Go on from the folder's checkpoint
    #[arg(long)]
    resume: bool,
    /// Stop after this many steps; go on later with --resume
    #[arg(long)]
    stop_after: Option<usize>,
    /// Where to compute
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceKind,
    /// The numbers of matrix products [default: f32 on a CPU, bf16 on a GPU]
    #[arg(long, value_enum)]
    products: Option<Products>,
}

impl Pretrain {
    /// Runs it.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let (sizes, vv_layers) = self.recipe.sizes();
        let options = Options {
            sizes,
            vv_layers,
            phases: if self.phases.is_empty() {
                self.recipe.phases(self.refine.is_some())
            } else {
                self.phases.clone()
            },
            seed: self.seed,
            lr: self
                .lr
                .unwrap_or_else(|| Recipe::rate(self.refine.is_some())),
            weight_decay: self.weight_decay,
            products: self.products.unwrap_or(self.device.products()),
            out: self.out.clone(),
            save_every: self.save_every.max(1),
            resume: self.resume,
            refine: self.refine.clone(),
            stop_after: self.stop_after,
        };
        let _held = Checkpoint::hold(&self.out)?;
        let device = self.device.open()?;
        let stop = Interrupt::catch()?;
        let bar = bar(0, "pretrain");
        let (path, _) = pretrain(&options, &device, stop, &bar, |line| {
            bar.suspend(|| say(line))
        })?;
        bar.finish_and_clear();
        say(format_args!("{}: now `fit`, then `export`", path.display()));
        Ok(ExitCode::Good)
    }
}

/// Arguments of `render`.
#[derive(Args)]
pub struct Render {
    /// Folder for the pictures, their masks and meta.json
    #[arg(long)]
    out: PathBuf,
    /// Scenes; each gives a normal and an abnormal picture
    #[arg(long, default_value_t = 500)]
    scenes: u32,
    /// Same seed, same pictures
    #[arg(long, default_value_t = 111)]
    seed: u64,
    /// Side of a picture in pixels
    #[arg(long, default_value_t = 448, value_parser = clap::value_parser!(u16).range(48..=1024))]
    side: u16,
    /// Only families that `pretrain` never sees
    #[arg(long)]
    validation: bool,
}

impl Render {
    /// Runs it.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let bar = bar(self.scenes as usize, "render");
        let part = part(self.validation);
        let side = self.side.into();
        render::write(&self.out, self.seed, self.scenes, side, part, &bar)?;
        bar.finish_and_clear();
        say(format_args!(
            "{}: {} pictures, ready for `fit` and `evaluate`",
            self.out.display(),
            2 * self.scenes
        ));
        Ok(ExitCode::Good)
    }
}

/// Arguments of `sheet`.
#[derive(Args)]
pub struct Sheet {
    /// The picture to write (PNG)
    #[arg(long)]
    out: PathBuf,
    /// Same seed, same pictures
    #[arg(long, default_value_t = 111)]
    seed: u64,
    /// Number of the first scene
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Scenes per row
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=20))]
    columns: u16,
    /// Rows
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=40))]
    rows: u16,
    /// Side of a picture in pixels
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u16).range(48..=518))]
    side: u16,
    /// Show the families that training never sees
    #[arg(long)]
    validation: bool,
}

impl Sheet {
    /// Runs it.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let part = part(self.validation);
        let sheet = render::sheet(
            self.seed,
            self.first,
            self.columns.into(),
            self.rows.into(),
            self.side.into(),
            part,
        );
        sheet.save(&self.out).map_err(|e| TrainError::Output {
            path: self.out.clone(),
            source: std::io::Error::other(e),
        })?;
        say(format_args!(
            "{}: {} scenes, each without and with its defect",
            self.out.display(),
            u32::from(self.columns) * u32::from(self.rows)
        ));
        if self.side < 96 {
            warn("below 96 px most defects are a few pixels");
        }
        Ok(ExitCode::Good)
    }
}
