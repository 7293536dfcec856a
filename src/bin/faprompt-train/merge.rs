//! `faprompt-train merge`.

use crate::report::{Reporter, can_all_be_written};
use clap::Args;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::warn;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::shard::merge;
use std::path::PathBuf;

/// Arguments of `merge`.
#[derive(Args)]
pub struct Merge {
    /// The folder that `evaluate --shard I/N --shards DIR` wrote to
    folder: PathBuf,
    /// Write figures and the score of every picture to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a report for people to this file: one HTML page with tables, curves and pictures
    #[arg(long)]
    html: Option<PathBuf>,
}

impl Merge {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        can_all_be_written([&self.json, &self.html].into_iter().flatten())?;
        let (about, sets) = merge(&self.folder)?;
        about.warning.iter().for_each(warn);
        let mut report = Reporter::new(about, self.json.clone(), self.html.clone());
        for set in sets {
            report.set(set.data, &set.judged, set.failed, || Ok(vec![]))?;
        }
        report.finish()
    }
}
