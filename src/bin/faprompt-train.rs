//! The host program: arguments, then the library's `train` module, then an exit code.

use clap::{Args, Parser, Subcommand};
use faprompt_edge::bundle::Bundle;
use faprompt_edge::bundle::manifest::{ActivationKind, Precision, ScoreRule, Selection};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::{Inspector, Options, cores};
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets;
use faprompt_edge::train::evaluate::{self, Figures};
use faprompt_edge::train::export::{ExportOptions, export};
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::random::{self, Architecture};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
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
    /// Measure a bundle on labelled pictures, through the device's own code
    Evaluate(Evaluate),
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
    /// Activation of the MLPs [default: as the configuration beside the weights says, else QuickGELU]
    #[arg(long, value_enum)]
    activation: Option<ActivationKind>,
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
struct Evaluate {
    /// The bundle
    #[arg(long)]
    bundle: PathBuf,
    /// Data sets: folders with meta.json (AnomalyCLIP) or in MVTec AD's layout, or CSV files (image, mask, class, type, label)
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// How the abnormal prototype follows each image
    #[arg(long, value_enum, default_value = "exact")]
    adaptation: AdaptationMode,
    /// Write figures and the score of every picture to this file
    #[arg(long)]
    json: Option<PathBuf>,
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
    let mut clip = Clip::load(&a.clip)?;
    clip.activation = a.activation.unwrap_or(clip.activation);
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
        threads: a.threads.unwrap_or(cores()),
    };
    let exported = export(&clip, &prompts, &options, &a.out, &bar)?;
    bar.finish_and_clear();
    let m = &exported.manifest;
    say(format_args!(
        "{}: {:.1} MB, {:?}, {:?}, {} px, V-V in {} of {} blocks, {} prompts, {} patches",
        a.out.display(),
        exported.bytes as f64 / 1e6,
        m.precision,
        m.activation,
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

/// What `evaluate --json` writes for a data set.
#[derive(Serialize)]
struct SetReport {
    data: String,
    bundle: String,
    warning: Option<&'static str>,
    classes: BTreeMap<String, Figures>,
    mean: Figures,
    pooled: Figures,
    pictures: Vec<PictureReport>,
    failed: Vec<String>,
}

#[derive(Serialize)]
struct PictureReport {
    image: String,
    class: String,
    kind: String,
    anomalous: bool,
    score: f32,
}

fn figure_row(name: &str, f: &Figures) -> String {
    let percent = |v: Option<f64>| v.map_or("    -".into(), |v| format!("{:5.1}", 100.0 * v));
    let threshold = f.f1_threshold.map_or("    -".into(), |t| format!("{t:.3}"));
    let trivial: Vec<String> = f.trivial_auroc.iter().map(|v| percent(*v)).collect();
    format!(
        "{name:24} {:6} {:5}  {} {}  {} {}  {} {threshold}   {}",
        f.images,
        f.anomalous,
        percent(f.image_auroc),
        percent(f.image_ap),
        percent(f.pixel_auroc),
        percent(f.pixel_pro),
        percent(f.f1_max),
        trivial.join(" "),
    )
}

fn run_evaluate(a: &Evaluate) -> Result<ExitCode, TrainError> {
    let bundle = Bundle::open(&a.bundle, None)?;
    let options = Options {
        adaptation: a.adaptation,
        threads: a.threads.unwrap_or(cores()),
    };
    let mut inspector = Inspector::new(&bundle, options)?;
    let warning = inspector.manifest().warning();
    warning.iter().for_each(warn);
    // Every set is read before the first is judged: a mistake in the last one costs no hours.
    let sets = a
        .data
        .iter()
        .map(|path| datasets::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    say(format_args!(
        "{:24} {:6} {:5}  {:11}  {:11}  {:11}   trivial image AUROC",
        "", "", "", "image", "pixel", ""
    ));
    say(format_args!(
        "class                    images   bad  AUROC    AP  AUROC   PRO  F1max  thr.    light gradi lapla"
    ));
    let (mut reports, mut any_failed) = (vec![], false);
    for (path, samples) in a.data.iter().zip(sets) {
        let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {eta}")
            .expect("a constant template");
        let bar = ProgressBar::new(samples.len() as u64)
            .with_style(style)
            .with_prefix(path.display().to_string());
        let (judged, failed) = evaluate::judge(&mut inspector, samples, &bar)?;
        bar.finish_and_clear();
        failed
            .iter()
            .for_each(|f| warn(format_args!("not counted: {f}")));
        any_failed |= !failed.is_empty();
        let classes = evaluate::by_class(&judged);
        let (mean, pooled) = (
            evaluate::mean(&classes),
            evaluate::figures(&judged.iter().collect::<Vec<_>>()),
        );
        say(path.display());
        classes
            .iter()
            .for_each(|(name, f)| say(figure_row(&format!("  {name}"), f)));
        if classes.len() > 1 {
            say(figure_row("  mean over classes", &mean));
            say(figure_row("  pooled", &pooled));
        }
        let picture = |j: &evaluate::Judged| PictureReport {
            image: j.sample.image.display().to_string(),
            class: j.sample.class.clone(),
            kind: j.sample.kind.clone(),
            anomalous: j.sample.anomalous,
            score: j.score,
        };
        reports.push(SetReport {
            data: path.display().to_string(),
            bundle: a.bundle.display().to_string(),
            warning,
            pictures: judged.iter().map(picture).collect(),
            classes,
            mean,
            pooled,
            failed,
        });
    }
    if let Some(path) = &a.json {
        let failed = |source| TrainError::Output {
            path: path.clone(),
            source,
        };
        let text = serde_json::to_string_pretty(&reports).map_err(|e| failed(e.into()))?;
        std::fs::write(path, text).map_err(failed)?;
    }
    warning.iter().for_each(say);
    Ok(if any_failed {
        ExitCode::SomeInputsFailed
    } else {
        ExitCode::Good
    })
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
        Command::Export(a) => run_export(&a).map(|()| ExitCode::Good),
        Command::Evaluate(a) => run_evaluate(&a),
        Command::Random(a) => run_random(&a).map(|()| ExitCode::Good),
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
