//! `faprompt-train random`.

use clap::Args;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::cores;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::methods::MethodOptions;
use faprompt_edge::train::methods::cost::{fresh, fresh_record, has_numbers};
use faprompt_edge::train::methods::learned::RECORD;
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
        if let Some(method) = self.method.filter(|m| !has_numbers(*m)) {
            let why = match method {
                Method::Faprompt => "its prompts.safetensors is written without it",
                _ => "it learns nothing, or not here",
            };
            return Err(TrainError::Options(format!("--method {method}: {why}")));
        }
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
            let Some(numbers) = fresh(&clip, &asked, self.seed, cores())? else {
                return Ok(ExitCode::Good);
            };
            let path = self.out.join(format!("{method}.safetensors"));
            let mut store = numbers.stored();
            store.note(UNTRAINED, "true");
            let record = fresh_record(&clip, &asked, self.seed)?;
            let record = serde_json::to_string(&record).map_err(|e| TrainError::Output {
                path: path.clone(),
                source: e.into(),
            })?;
            store.note(RECORD, record);
            store.save(&path)?;
            say(format_args!("{}: {:.1} MB", path.display(), size(&path)));
        }
        Ok(ExitCode::Good)
    }
}
