//! `faprompt-train cost`.

use clap::Args;
use faprompt_edge::bundle::manifest::Precision;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::methods::cost::costs;
use faprompt_edge::train::progress::bar;
use faprompt_edge::train::random::Architecture;

/// Arguments of `cost`.
#[derive(Args)]
pub struct Cost {
    /// Which sizes
    #[arg(long, value_enum, default_value = "ViT-B-16")]
    model: Architecture,
    /// How weights are stored and multiplied
    #[arg(long, value_enum, default_value = "int8")]
    precision: Precision,
    /// Threads per frame
    #[arg(long, default_value_t = 1, value_parser = crate::threads)]
    threads: usize,
    /// Frames per method, in turn; one more is not counted
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Cost {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let bar = bar(0, "cost");
        let rows = costs(
            &self.model.sizes(),
            self.precision,
            self.threads,
            self.rounds as usize,
            &bar,
        )?;
        bar.finish_and_clear();
        if self.json {
            let text = serde_json::to_string_pretty(&rows);
            say(text.map_err(|e| TrainError::Options(e.to_string()))?);
            return Ok(ExitCode::Good);
        }
        say("method       ms per frame  of FAPrompt's  at most");
        for row in rows {
            let limit = row.limit.map_or("-".into(), |l| format!("{l:.2}"));
            say(format_args!(
                "{:12} {:12.1}  {:13.3}  {limit:>7}",
                row.method.name(),
                row.ms,
                row.of_faprompt
            ));
        }
        Ok(ExitCode::Good)
    }
}
