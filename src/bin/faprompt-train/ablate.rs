//! `faprompt-train ablate`.
use clap::Args;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::train::TrainError;
/// Arguments of `ablate`.
#[derive(Args)]
pub struct Ablate {}
impl Ablate {
    /// Runs it.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        Ok(ExitCode::Good)
    }
}
