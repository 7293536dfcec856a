//! `faprompt-train render`.

use clap::Args;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::progress::bar;
use faprompt_edge::train::render;
use std::path::PathBuf;

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
}

impl Render {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let bar = bar(self.scenes as usize, "render");
        let side = self.side.into();
        render::write(&self.out, self.seed, self.scenes, side, &bar)?;
        bar.finish_and_clear();
        say(format_args!(
            "{}: {} pictures, ready for `fit` and `evaluate`",
            self.out.display(),
            2 * self.scenes
        ));
        Ok(ExitCode::Good)
    }
}
