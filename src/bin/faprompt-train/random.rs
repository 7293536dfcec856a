//! `faprompt-train random`.

use clap::Args;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::cores;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::methods::MethodOptions;
use faprompt_edge::train::methods::cost::fresh;
use faprompt_edge::train::random::{self, Architecture};
use faprompt_edge::train::tensors::UNTRAINED;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Random {
    /// Which sizes
    #[arg(long, value_enum)]
    model: Architecture,
    /// Same seed, same numbers
    #[arg(long, default_value_t = 111)]
    seed: u64,
    /// Write what this method begins to learn from too, as METHOD.safetensors
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// Folder for clip.safetensors and prompts.safetensors
    #[arg(long)]
    out: PathBuf,
}

impl Random {
    /// Runs the command.
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
        if let Some(method) = self.method {
            let asked = MethodOptions {
                method,
                ..MethodOptions::default()
            };
            let clip = Clip::load(&clip)?;
            let numbers = fresh(&clip, &asked, self.seed, cores())?.ok_or_else(|| {
                TrainError::Options(format!("--method {method} learns nothing, or not here"))
            })?;
            let path = self.out.join(format!("{method}.safetensors"));
            let mut store = numbers.stored();
            store.note(UNTRAINED, "true");
            store.save(&path)?;
            say(format_args!("{}: {:.1} MB", path.display(), size(&path)));
        }
        Ok(ExitCode::Good)
    }
}
