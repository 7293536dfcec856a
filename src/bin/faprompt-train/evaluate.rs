//! `faprompt-train evaluate`.

use crate::fit::{MaskOptions, open_cache};
use crate::method::MethodArguments;
use crate::weights::WeightOptions;
use clap::{Args, ValueEnum};
use faprompt_edge::bundle::manifest::{Precision, ScoreRule, Selection};
use faprompt_edge::bundle::method::Method;
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::{Inspector, Options, cores};
use faprompt_edge::memory::{Fusion, Kind};
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets::{self, LeftOut, Sample};
use faprompt_edge::train::evaluate::{self, Figures, Judged, MaskCounts};
use faprompt_edge::train::export::ExportOptions;
use faprompt_edge::train::few_shot::{FewShot, FewShots, Plan, Row, Shots};
use faprompt_edge::train::fit::checkpoint::Record;
use faprompt_edge::train::fit::encode::{Encoder, fill};
use faprompt_edge::train::fit::judge::judge;
use faprompt_edge::train::fit::{self, Encoded, Masks};
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::methods::{self, MethodOptions};
use faprompt_edge::train::nn::DeviceKind;
use faprompt_edge::train::page;
use faprompt_edge::train::progress::{Interrupt, bar};
use faprompt_edge::train::prompts::Prompts;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Arguments of `evaluate`.
#[derive(Args)]
pub struct Evaluate {
    /// The bundle
    #[arg(long, required_unless_present_any = ["prompts", "clip"], conflicts_with_all = ["prompts", "clip"])]
    bundle: Option<PathBuf>,
    /// Instead of a bundle: CLIP weights, with --prompts, or with --method: then each class of a set is judged by
    /// prompts that name it
    #[arg(long)]
    clip: Option<PathBuf>,
    #[command(flatten)]
    method: MethodArguments,
    /// Side of the input in pixels, with --method [default: as learned, else as `export`]
    #[arg(long)]
    image_size: Option<usize>,
    /// Blocks with the V-V stream, with --method [default: as learned, else as `export`]
    #[arg(long)]
    vv_layers: Option<usize>,
    /// Steps of anovl's adaptation to each picture; its code's command line: 5
    #[arg(long, value_name = "N", default_value_t = 0)]
    adaptation_steps: usize,
    /// Instead of a bundle: prompts that `fit` learned on --clip; variants that no device runs are judged too
    #[arg(long, requires = "clip")]
    prompts: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightOptions,
    /// Folder for the pictures' features, with --prompts [default: the user's cache folder]
    #[arg(long, requires = "prompts")]
    cache: Option<PathBuf>,
    /// Gigabytes that the features may take
    #[arg(long, default_value_t = 20.0)]
    cache_gb: f64,
    /// Where to compute, with --prompts
    #[arg(long, value_enum, default_value = "cpu", conflicts_with = "bundle")]
    device: DeviceKind,
    /// Data sets: folders with meta.json (AnomalyCLIP) or in MVTec AD's layout, or CSV files (image, mask, class, type, label)
    #[arg(required = true)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    masks: MaskOptions,
    /// How the abnormal prototype follows each image
    #[arg(long, value_enum, default_value = "exact")]
    adaptation: AdaptationMode,
    /// How a bundle's weights are multiplied
    #[arg(long, value_enum, default_value = "auto", conflicts_with = "prompts")]
    arithmetic: Arithmetic,
    /// Teach the bundle so many good pictures of each set and judge the others: numbers, or `all`; with commas
    /// between them
    #[arg(long, value_delimiter = ',', conflicts_with = "prompts")]
    shots: Vec<Shots>,
    /// How often each, with other good pictures
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000), requires = "shots")]
    draws: u32,
    /// Which pictures are drawn
    #[arg(long, default_value_t = 1, requires = "shots")]
    seed: u64,
    /// The kind of memory, or `auto`: chosen by defects pasted into the good pictures
    #[arg(long, default_value = "auto", value_parser = kind, requires = "shots")]
    memory: MemoryKind,
    /// How the memory's score and FAPrompt's become one
    #[arg(long, value_enum, default_value = "weighted", requires = "shots")]
    fusion: Fusion,
    /// Leave pixel figures out of what is taught: they take most of the time
    #[arg(long, requires = "shots")]
    without_pixels: bool,
    /// Write figures and the score of every picture to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a report for people to this file: one HTML page with tables, curves and pictures
    #[arg(long)]
    html: Option<PathBuf>,
    /// Threads [default: all]
    #[arg(long, value_parser = crate::threads)]
    threads: Option<usize>,
}

/// A kind of memory, or none for `auto`.
#[derive(Clone, Copy)]
struct MemoryKind(Option<Kind>);

fn kind(text: &str) -> Result<MemoryKind, String> {
    match text {
        "auto" => Ok(MemoryKind(None)),
        other => Kind::from_str(other, false)
            .map(|k| MemoryKind(Some(k)))
            .map_err(|_| {
                let names: Vec<&str> = Kind::value_variants().iter().map(|k| k.name()).collect();
                format!("auto, {}", names.join(", "))
            }),
    }
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
    masks: MaskCounts,
    left_out: LeftOut,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    few_shot: Vec<FewShot>,
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
    /// How much of it the mask marks, 0..=1; null without a mask.
    marked: Option<f64>,
}

fn figure_row(name: &str, f: &Figures) -> String {
    let percent = |v: Option<f64>| v.map_or("    -".into(), |v| format!("{:5.1}", 100.0 * v));
    let threshold = f.f1_threshold.map_or("    -".into(), |t| format!("{t:.3}"));
    let trivial: Vec<String> = f.trivial_auroc.iter().map(|v| percent(*v)).collect();
    format!(
        "{name:24} {:6} {:5}  {} {}  {} {}  {} {}  {} {threshold}   {}",
        f.images,
        f.anomalous,
        percent(f.image_auroc),
        percent(f.image_ap),
        percent(f.pg2),
        percent(f.pb2),
        percent(f.pixel_auroc),
        percent(f.pixel_pro),
        percent(f.f1_max),
        trivial.join(" "),
    )
}

fn few_shot_row(r: &Row) -> String {
    let percent = |v: Option<f64>| v.map_or("    -".into(), |v| format!("{:5.1}", 100.0 * v));
    format!(
        "  {:3} shots, {:21}  {} {}  {} {}  {} {}  false rejects {} found {}",
        r.shots,
        format!("{} ({} taught)", r.memory, r.references),
        percent(r.image_auroc),
        percent(r.image_ap),
        percent(r.pg2),
        percent(r.pb2),
        percent(r.pixel_auroc),
        percent(r.pixel_pro),
        percent(r.false_rejects),
        percent(r.found),
    )
}

/// Who judges.
enum Judge {
    /// A bundle, by the device's own code.
    Device(Box<Inspector>),
    /// Prompts on the weights that they were learned on, by the trainer's.
    Trainer {
        clip: Box<Clip>,
        prompts: Box<Prompts>,
        options: Box<fit::Options>,
    },
    /// Another method on CLIP weights, a bundle for each class, by the device's own code.
    Method {
        clip: Box<Clip>,
        asked: Box<MethodOptions>,
        learned: Option<Box<Learned>>,
        options: Box<ExportOptions>,
    },
}

impl Judge {
    /// Reads what was named; returns what to call it and a warning that its outputs must carry.
    fn open(a: &Evaluate) -> Result<(Judge, String, Option<&'static str>), TrainError> {
        if let Some(path) = &a.bundle {
            let options = Options {
                adaptation: a.adaptation,
                threads: a.threads.unwrap_or(cores()),
                arithmetic: a.arithmetic,
                memory: !a.shots.is_empty(),
                ..Options::default()
            };
            let inspector = Inspector::new(&Bundle::open(path, &Keys::default())?, options)?;
            let name = format!("{} ({})", path.display(), inspector.manifest().name);
            let warning = inspector.manifest().warning();
            return Ok((Judge::Device(Box::new(inspector)), name, warning));
        }
        if a.method.method != Method::Faprompt {
            return Judge::of_method(a);
        }
        let (Some(clip), Some(prompts)) = (&a.clip, &a.prompts) else {
            // The argument parser has seen to it.
            return Err(TrainError::Options(
                "--bundle, or --clip and --prompts".into(),
            ));
        };
        let name = format!("{} on {}", prompts.display(), clip.display());
        let clip = a.weights.load(clip)?;
        let prompts = Prompts::load(prompts, &clip)?;
        let record = Record::of(&prompts)?.ok_or_else(|| {
            TrainError::Options(format!(
                "{}: not written by `fit`; export it and measure the bundle",
                prompts.path.display()
            ))
        })?;
        record.belongs_to(&clip, &prompts)?;
        let options = fit::Options {
            variant: record.variant,
            selection: record.selection,
            rule: record.rule,
            prompts: prompts.count(),
            patches: prompts.fc1.weight.ncols() / clip.text.width,
            image_size: record.image_size,
            vv_layers: record.vv_layers,
            products: a.device.products(),
            ..fit::Options::paper(&clip)
        };
        let judge = Judge::Trainer {
            clip: Box::new(clip),
            prompts: Box::new(prompts),
            options: Box::new(options),
        };
        Ok((judge, name, None))
    }

    /// Another method, from weights and, if it learns something, a checkpoint.
    fn of_method(a: &Evaluate) -> Result<(Judge, String, Option<&'static str>), TrainError> {
        let asked = a.method.options()?;
        let path = a.clip.as_ref().ok_or_else(|| {
            TrainError::Options(format!("--method {} needs --clip", asked.method))
        })?;
        let clip = a.weights.load(path)?;
        let learned = match &a.prompts {
            None => None,
            Some(path) => Some(Box::new(Learned::load(path, asked.method, &clip)?)),
        };
        let name = format!("{} on {}", asked.method, path.display());
        let options = ExportOptions {
            name: None,
            image_size: a.image_size,
            vv_layers: a.vv_layers,
            memory: vec![],
            selection: Selection::Paper,
            score_rule: ScoreRule::Code,
            precision: Precision::F32,
            threshold: 0.5,
            trained: true,
            description: String::new(),
            threads: a.threads.unwrap_or(cores()),
        };
        let judge = Judge::Method {
            clip: Box::new(clip),
            asked: Box::new(asked),
            learned,
            options: Box::new(options),
        };
        Ok((judge, name, None))
    }

    /// Above it the bundle rejects.
    fn threshold(&self) -> f32 {
        match self {
            Judge::Device(inspector) => inspector.manifest().scores.threshold,
            Judge::Trainer { .. } | Judge::Method { .. } => 0.5,
        }
    }

    /// Judges a set; pictures that could not be judged come back with the reason.
    fn run(
        &mut self,
        a: &Evaluate,
        path: &Path,
        samples: Vec<Sample>,
    ) -> Result<(Vec<Judged>, Vec<String>), TrainError> {
        let bar = bar(samples.len(), &path.display().to_string());
        let result = match self {
            Judge::Device(inspector) => evaluate::judge(inspector, samples, &bar),
            Judge::Method {
                clip,
                asked,
                options,
                ..
            } if asked.method == Method::Anovl => {
                methods::anovl::judge(clip, asked, options, a.adaptation_steps, samples, &bar)?
            }
            Judge::Method {
                clip,
                asked,
                learned,
                options,
            } => {
                let device = Options {
                    threads: a.threads.unwrap_or(cores()),
                    arithmetic: a.arithmetic,
                    ..Options::default()
                };
                let learned = learned.as_deref();
                methods::judge::judge(clip, asked, learned, options, device, samples, &bar)?
            }
            Judge::Trainer {
                clip,
                prompts,
                options,
            } => {
                let device = a.device.open()?;
                let stop = Interrupt::catch()?;
                let cache = open_cache(a.cache.as_deref(), a.cache_gb, clip, options)?;
                let mut encoder = Encoder::new(clip, options, &device);
                let paths = fill(&mut encoder, &cache, &samples, stop, &bar)?;
                let (mut kept, mut known, mut unread) = (vec![], vec![], vec![]);
                for (sample, path) in samples.into_iter().zip(paths) {
                    match path {
                        Ok(path) => {
                            kept.push(sample);
                            known.push(path);
                        }
                        Err(e) => unread.push(e.to_string()),
                    }
                }
                let set = Encoded {
                    samples: &kept,
                    paths: known,
                    cache: &cache,
                    masks: Masks::default(),
                };
                let (judged, mut failed) = judge(
                    clip,
                    prompts,
                    options,
                    &set,
                    &mut encoder,
                    &device,
                    stop,
                    &bar,
                )?;
                failed.append(&mut unread);
                (judged, failed)
            }
        };
        bar.finish_and_clear();
        Ok(result)
    }
}

/// Says of a set why figures are missing, or are of fewer pictures than they seem to be.
fn doubts(path: &Path, judged: &[Judged]) {
    let bad = judged.iter().filter(|j| j.sample.anomalous).count();
    let marked = judged.iter().filter(|j| j.has_mask()).count();
    if bad == 0 || bad == judged.len() {
        warn(format_args!(
            "{}: {bad} of {} pictures are abnormal: AUROC and F1max need both kinds",
            path.display(),
            judged.len()
        ));
    }
    if (1..bad).contains(&marked) {
        warn(format_args!(
            "{}: pixel figures leave out the {} defective pictures without a mask",
            path.display(),
            bad - marked
        ));
    }
    if bad > 0 && marked == 0 {
        warn(format_args!(
            "{}: no defective picture has a mask: there are no pixel figures",
            path.display()
        ));
    }
}

/// Finds out now whether a result can be written; hours later it would be too late to say so. Leaves nothing
/// behind.
fn can_be_written(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return File::options().append(true).open(path).map(|_| ());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map(|_| ())
}

/// Writes a result: whole or not at all, unless it goes to a pipe or a device.
fn write(path: &Path, text: &str) -> Result<(), TrainError> {
    let written = match path.exists() && !path.is_file() {
        true => File::options()
            .write(true)
            .open(path)
            .and_then(|mut f| f.write_all(text.as_bytes())),
        false => faprompt_edge::bundle::save(text.as_bytes(), path),
    };
    written.map_err(|source| TrainError::Output {
        path: path.into(),
        source,
    })
}

impl Evaluate {
    /// Runs it.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        for path in [&self.json, &self.html].into_iter().flatten() {
            can_be_written(path).map_err(|source| TrainError::Output {
                path: path.clone(),
                source,
            })?;
        }
        let (mut judge, name, warning) = Judge::open(self)?;
        warning.iter().for_each(warn);
        let plan = Plan {
            shots: self.shots.clone(),
            draws: self.draws as usize,
            seed: self.seed,
            kind: self.memory.0,
            fusion: self.fusion,
            pixels: !self.without_pixels,
        };
        // Every set is read before the first is judged: a mistake in the last one costs no hours.
        let sets = self
            .data
            .iter()
            .map(|path| self.masks.read(path))
            .collect::<Result<Vec<_>, _>>()?;
        say(format_args!(
            "{:24} {:6} {:5}  {:11}  {:11}  {:11}  {:11}   trivial image AUROC",
            "", "", "", "image", "", "pixel", ""
        ));
        say(format_args!(
            "class                    images   bad  AUROC    AP    pg2   pb2  AUROC   PRO  F1max  thr.    light gradi lapla"
        ));
        let (mut reports, mut shown, mut any_failed) = (vec![], vec![], false);
        for (path, set) in self.data.iter().zip(sets) {
            let (judged, failed) = judge.run(self, path, set.samples)?;
            failed
                .iter()
                .for_each(|f| warn(format_args!("not counted: {f}")));
            any_failed |= !failed.is_empty();
            doubts(path, &judged);
            let masks = MaskCounts::of(&judged);
            let mut notes = vec![masks.to_string()];
            notes.extend(set.notes);
            let classes = evaluate::by_class(&judged);
            let (mean, pooled) = (
                evaluate::mean(&classes),
                evaluate::figures(&judged.iter().collect::<Vec<_>>()),
            );
            say(format_args!("{}: {masks}", path.display()));
            classes
                .iter()
                .for_each(|(name, f)| say(figure_row(&format!("  {name}"), f)));
            if classes.len() > 1 {
                say(figure_row("  mean over classes", &mean));
                say(figure_row("  pooled", &pooled));
            }
            let mut few_shot = vec![];
            if let (Judge::Device(inspector), false) = (&mut judge, plan.shots.is_empty()) {
                let train = datasets::train(path)?;
                few_shot = FewShots::new(inspector, &plan).run(&judged, &train)?;
                few_shot.iter().for_each(|row| say(few_shot_row(&row.mean)));
            }
            let picture = |j: &evaluate::Judged| PictureReport {
                image: j.sample.image.display().to_string(),
                class: j.sample.class.clone(),
                kind: j.sample.kind.clone(),
                anomalous: j.sample.anomalous,
                score: j.score,
                marked: j.marked,
            };
            if self.html.is_some() {
                shown.push(page::set(&page::Outcome {
                    data: path,
                    judged: &judged,
                    classes: &classes,
                    mean: &mean,
                    pooled: &pooled,
                    failed: &failed,
                    notes: &notes,
                    threshold: judge.threshold(),
                }));
            }
            reports.push(SetReport {
                data: path.display().to_string(),
                bundle: name.clone(),
                warning,
                pictures: judged.iter().map(picture).collect(),
                classes,
                mean,
                pooled,
                masks,
                left_out: set.left_out,
                notes,
                few_shot,
                failed,
            });
        }
        if reports.len() > 1 {
            let means = |r: &SetReport| (r.data.clone(), r.mean.clone());
            let all = evaluate::mean(&reports.iter().map(means).collect());
            say(figure_row("mean over sets", &all));
        }
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&reports).map_err(|e| TrainError::Output {
                path: path.clone(),
                source: e.into(),
            })?;
            write(path, &text)?;
        }
        if let Some(path) = &self.html {
            let text = page::page(&page::Page {
                title: "Evaluation".into(),
                bundle: name,
                warning: warning.map(Into::into),
                software: concat!("faprompt-train ", env!("CARGO_PKG_VERSION")).into(),
                sets: shown,
            });
            write(path, &text)?;
        }
        warning.iter().for_each(say);
        Ok(if any_failed {
            ExitCode::SomeInputsFailed
        } else {
            ExitCode::Good
        })
    }
}
