//! `faprompt-train random`.

use clap::Args;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::random::{self, Architecture};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Random {
    /// Which sizes
    #[arg(long, value_enum)]
    model: Architecture,
    /// Same seed, same numbers
    #[arg(long, default_value_t = 111)]
    seed: u64,
    /// Folder for clip.safetensors and prompts.safetensors
    #[arg(long)]
    out: PathBuf,
}

impl Random {
    /// Runs it.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let (clip, prompts) = random::write(&self.model.sizes(), self.seed, &self.out)?;
        let size = |p: &Path| std::fs::metadata(p).map_or(0, |m| m.len()) as f64 / 1e6;
        say(format_args!(
            "{}: {:.1} MB\n{}: {:.1} MB",
            clip.display(),
            size(&clip),
            prompts.display(),
            size(&prompts)
        ));
        Ok(ExitCode::Good)
    }
}
