//! The host program: arguments, then the library's `train` module, then an exit code. A file per command.

mod ablate;
mod cost;
mod distil;
mod evaluate;
mod export;
mod fit;
mod flash;
mod fleet;
mod given;
mod ground;
mod merge;
mod method;
mod pull;
mod random;
mod render;
mod report;
mod samples;
mod tables;
mod text;
mod weights;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use faprompt_edge::report::warn;
use given::Given;

#[derive(Parser)]
#[command(
    name = "faprompt-train",
    version,
    about = "Makes bundles for faprompt-edge, and puts them onto nodes"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Learn prompts and the prior on labelled pictures; CLIP stays as it is
    Fit(fit::Fit),
    /// Make an image encoder of one's own: a small ViT learns from photos to see what ONNX networks see
    Distil(distil::Distil),
    /// Teach a distilled image encoder words: a text encoder that meets it; both are a CLIP then
    Text(text::Text),
    /// Learn and measure a list of variants, and print the paper's table
    Ablate(ablate::Ablate),
    /// Make a bundle of CLIP weights and a prompt learner
    Export(export::Export),
    /// Measure a bundle on labelled pictures, through the device's own code; or prompts before export
    Evaluate(evaluate::Evaluate),
    /// Put together what `evaluate --shard` judged on several machines, to the figures of one run
    Merge(merge::Merge),
    /// The papers' tables: every method on every set, beside the reported figures
    Tables(tables::Tables),
    /// Write rendered pictures as a data set
    Render(render::Render),
    /// Fetch published weights and prompts by name
    Pull(pull::Pull),
    /// Put program, bundle and board onto a node; it goes back by itself if they do not become ready
    Flash(flash::Flash),
    /// Many stations at once: how they are, new releases, backups, what was taught
    Fleet(fleet::Fleet),
    /// What each method costs per frame on this machine beside FAPrompt, with random weights
    Cost(cost::Cost),
    /// Write random weights and prompts of a known architecture, for benchmarks and trials
    Random(random::Random),
}

/// A number of threads on the command line.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n @ 1..=1024) => Ok(n),
        _ => Err("a number from 1 to 1024".into()),
    }
}

fn main() -> std::process::ExitCode {
    // A certificate that is not trusted is reported by whoever asked.
    let level = "warn,rustls_platform_verifier=off";
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format(faprompt_edge::report::log_line)
        .init();
    let matches = Arguments::command().get_matches();
    let given = Given::of(&matches);
    let arguments = Arguments::from_arg_matches(&matches)
        .unwrap_or_else(|e| e.format(&mut Arguments::command()).exit());
    let result = match arguments.command {
        Command::Fit(a) => a.run(&given),
        Command::Distil(a) => a.run(),
        Command::Text(a) => a.run(),
        Command::Ablate(a) => a.run(&given),
        Command::Export(a) => a.run(),
        Command::Evaluate(a) => a.run(&given),
        Command::Render(a) => a.run(),
        Command::Pull(a) => a.run(),
        Command::Flash(a) => a.run(),
        Command::Fleet(a) => a.run(),
        Command::Random(a) => a.run(),
        Command::Tables(a) => a.run(),
        Command::Merge(a) => a.run(),
        Command::Cost(a) => a.run(),
    };
    let code = match result {
        Ok(code) => code,
        Err(e) => {
            warn(format_args!("faprompt-train: {e}"));
            e.exit_code()
        }
    };
    code.into()
}
