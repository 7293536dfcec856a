//! `faprompt-train evaluate`.

use clap::Args;
use faprompt_edge::bundle::Bundle;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::{Inspector, Options, cores};
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::datasets;
use faprompt_edge::train::evaluate::{self, Figures};
use faprompt_edge::train::progress::bar;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `evaluate`.
#[derive(Args)]
pub struct Evaluate {
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

impl Evaluate {
    /// Runs it.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let bundle = Bundle::open(&self.bundle, None)?;
        let options = Options {
            adaptation: self.adaptation,
            threads: self.threads.unwrap_or(cores()),
        };
        let mut inspector = Inspector::new(&bundle, options)?;
        let warning = inspector.manifest().warning();
        warning.iter().for_each(warn);
        // Every set is read before the first is judged: a mistake in the last one costs no hours.
        let sets = self
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
        for (path, samples) in self.data.iter().zip(sets) {
            let bar = bar(samples.len(), &path.display().to_string());
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
                bundle: self.bundle.display().to_string(),
                warning,
                pictures: judged.iter().map(picture).collect(),
                classes,
                mean,
                pooled,
                failed,
            });
        }
        if let Some(path) = &self.json {
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
}
