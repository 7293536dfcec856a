//! The host program: arguments, then the library's `train` module, then an exit code.

use clap::{Args, Parser, Subcommand};
use faprompt_edge::bundle::manifest::{Precision, ScoreRule, Selection};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::export::{ExportOptions, export};
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::random::{self, Architecture};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(
    name = "faprompt-train",
    version,
    about = "Makes bundles for faprompt-edge"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a bundle of CLIP weights and a prompt learner
    Export(Export),
    /// Write random weights and prompts of a known architecture, for benchmarks and trials
    Random(Random),
}

#[derive(Args)]
struct Export {
    /// CLIP weights: OpenAI's file (.pt, .safetensors), or the folder of a Hugging Face or open_clip model
    #[arg(long)]
    clip: PathBuf,
    /// Prompt learner: the published code's checkpoint (.pth, .safetensors) or this program's own
    #[arg(long)]
    prompts: PathBuf,
    /// The bundle to write
    #[arg(long)]
    out: PathBuf,
    /// Side of the input in pixels [default: 518 for ViT-L/14@336, else the weights' own]
    #[arg(long)]
    image_size: Option<usize>,
    /// Blocks with the V-V stream, counted from the last [default: 19 of 24, in proportion]
    #[arg(long)]
    vv_layers: Option<usize>,
    /// Patches that feed the prior: the most abnormal ones, or the first (checkpoints of the published code)
    #[arg(long, value_enum, default_value = "paper")]
    selection: Selection,
    /// How the maxima of both score maps are combined
    #[arg(long, value_enum, default_value = "code")]
    score_rule: ScoreRule,
    /// How matrices are stored
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// Image scores above it are rejects, unless the station sets another, 0..=1
    #[arg(long, default_value_t = 0.5)]
    threshold: f32,
    /// Name in the manifest [default: the architecture's]
    #[arg(long)]
    name: Option<String>,
    /// A sentence for the manifest: where weights and prompts come from
    #[arg(long, default_value = "")]
    description: String,
    /// Say in the manifest that nothing in it was ever trained; every output will repeat it
    #[arg(long)]
    untrained: bool,
    /// Threads [default: all]
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Args)]
struct Random {
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

fn run_export(a: &Export) -> Result<(), TrainError> {
    let clip = Clip::load(&a.clip)?;
    let prompts = Prompts::load(&a.prompts, &clip)?;
    say(format_args!(
        "{}: {}, prompts {}",
        a.clip.display(),
        clip.name(),
        a.prompts.display()
    ));
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("Jacobian [{bar:40}] {pos}/{len} {eta}")
            .expect("a constant template"),
    );
    let all = std::thread::available_parallelism().map_or(1, |n| n.get());
    let options = ExportOptions {
        name: a.name.clone(),
        image_size: a.image_size,
        vv_layers: a.vv_layers,
        selection: a.selection,
        score_rule: a.score_rule,
        precision: a.precision,
        threshold: a.threshold,
        trained: !a.untrained,
        description: a.description.clone(),
        threads: a.threads.unwrap_or(all),
    };
    let exported = export(&clip, &prompts, &options, &a.out, &bar)?;
    bar.finish_and_clear();
    let m = &exported.manifest;
    say(format_args!(
        "{}: {:.1} MB, {:?}, {} px, V-V in {} of {} blocks, {} prompts, {} patches",
        a.out.display(),
        exported.bytes as f64 / 1e6,
        m.precision,
        m.image.size,
        m.vv_layers,
        m.vision.layers,
        m.prompts.abnormal_prompts,
        m.prior.selected_patches,
    ));
    say(format_args!(
        "linear adaptation against exact, |difference| of unit prototypes:"
    ));
    for e in &m.linear_error {
        say(format_args!(
            "  prior of length {:.3}: mean {:.5}, max {:.5} (no adaptation: {:.5})",
            e.prior_norm, e.mean, e.max, e.unadapted
        ));
    }
    Ok(())
}

fn run_random(a: &Random) -> Result<(), TrainError> {
    let (clip, prompts) = random::write(&a.model.sizes(), a.seed, &a.out)?;
    let size = |p: &Path| std::fs::metadata(p).map_or(0, |m| m.len()) as f64 / 1e6;
    say(format_args!(
        "{}: {:.1} MB\n{}: {:.1} MB",
        clip.display(),
        size(&clip),
        prompts.display(),
        size(&prompts)
    ));
    Ok(())
}

fn main() -> std::process::ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let result = match Arguments::parse().command {
        Command::Export(a) => run_export(&a),
        Command::Random(a) => run_random(&a),
    };
    let code = match result {
        Ok(()) => ExitCode::Good,
        Err(e) => {
            warn(format_args!("faprompt-train: {e}"));
            e.exit_code()
        }
    };
    code.into()
}
