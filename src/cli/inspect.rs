//! `inspect`: photos in, a line per photo out.

use super::{CliError, Cores, Network, folder, good_parts, output};
use clap::Args;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::capture::{LeftOut, Photo, View, ViewLimits, survey};
use faprompt_edge::control::host::UNKNOWN;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::{Inspection, Inspector, Options, Stages};
use faprompt_edge::line::{Cause, Counters, Outcome};
use faprompt_edge::memory::{LIMIT, Light, LightLimits, Taught};
use faprompt_edge::methods::TYPE_MARGIN;
use faprompt_edge::report::{Caption, fitting, overlay, shown, warn, write_map};
use faprompt_edge::tiling::Tiling;
use image::RgbImage;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

#[derive(Args)]
pub struct Inspect {
    /// Photos, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    network: Network,
    /// One JSON object per photo on standard output
    #[arg(long)]
    json: bool,
    /// Write each anomaly map (S x S, float32, not smoothed) to DIR as .npy
    #[arg(long, value_name = "DIR")]
    maps: Option<PathBuf>,
    /// Write a heat-map picture of each photo to DIR
    #[arg(long, value_name = "DIR")]
    overlay: Option<PathBuf>,
    /// Compare each part with the good ones of this file, which `teach` wrote
    #[arg(long, value_name = "FILE")]
    taught: Option<PathBuf>,
    /// Where on the picture parts are judged: a file of regions; --taught has those that it was taught with
    #[arg(long, value_name = "FILE", conflicts_with = "taught")]
    regions: Option<PathBuf>,
    /// Cut each photo into rows x columns of tiles, as in 2x3, each encoded at full size; 2x3+20 has tiles lie over
    /// each other by 20 % of their side [default: 1x1, with --taught as it was taught; default overlap: 10 %]
    #[arg(long, value_name = "RxC")]
    tiles: Option<Tiling>,
    /// Scores above it are rejects [default: the bundle's; 0.5 with --taught]
    #[arg(long, value_parser = super::threshold)]
    threshold: Option<f32>,
    /// Of photos with 16 bits per sample, how many low bits are used (8 to 16), as 12 of a 12-bit camera's
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(8..=16))]
    sample_bits: Option<u32>,
    /// Judge photos on which nothing can be seen: dark, overexposed, of one brightness
    #[arg(long)]
    allow_blank: bool,
    #[command(flatten)]
    cores: Cores,
}

/// The line about a photo that was judged.
#[derive(Serialize)]
struct Judged<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Method>,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    zero_shot: Option<f32>,
    /// The memory's score: how far the part is from good ones; `None` without `--taught`.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<f32>,
    image_probability: f32,
    max_score: f32,
    max_score_adapted: f32,
    prior_norm: f32,
    verdict: &'a str,
    /// Type of the defect, "unknown" where two types are about as likely.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    types: BTreeMap<&'a str, f32>,
    width: u32,
    height: u32,
    ms: Stages,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
    /// What is unusual about the photo, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// The line about a photo that was not judged.
#[derive(Serialize)]
struct Failed<'a> {
    file: &'a str,
    error: &'a str,
}

/// A photo, and where its results go below a folder of results.
struct Job {
    path: PathBuf,
    name: PathBuf,
}

/// Every photo with a result name of its own: its path below the folder that was named. A path that
/// cannot be listed stays a job, which then fails on its own line. Says what a folder holds besides photos.
fn jobs(paths: &[PathBuf]) -> Vec<Job> {
    let (mut jobs, mut taken) = (vec![], HashSet::new());
    for root in paths {
        let (files, left_out) = match survey(root) {
            Ok(found) => (found.files, found.left_out),
            Err(_) => (vec![root.clone()], LeftOut::default()),
        };
        if !left_out.is_empty() {
            warn(format_args!("{}: {left_out}", root.display()));
        }
        for path in files {
            let below = path
                .strip_prefix(root)
                .ok()
                .filter(|p| !p.as_os_str().is_empty());
            let name = below.map_or_else(
                || path.file_name().unwrap_or_default().into(),
                Path::to_path_buf,
            );
            let mut unique = name.clone();
            let mut n = 2;
            while !taken.insert(unique.clone()) {
                let stem = name
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let extension = name
                    .extension()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                unique = name.with_file_name(format!("{stem}-{n}.{extension}"));
                n += 1;
            }
            jobs.push(Job { path, name: unique });
        }
    }
    jobs
}

/// The name of the most likely type of defect.
fn kind<'a>(inspection: &Inspection, types: &'a [String]) -> &'a str {
    let most = inspection.kind(TYPE_MARGIN);
    most.and_then(|(i, _)| types.get(i))
        .map_or(UNKNOWN, String::as_str)
}

/// Path of `folder/name.extension`, whose folder is created.
fn target(root: &Path, name: &Path, extension: &str) -> Result<PathBuf, CliError> {
    // Appended, not replaced: a.jpg and a.png must not meet.
    let file = name.file_name().unwrap_or_default();
    let result = fitting(file, &format!(".{extension}"));
    let path = root.join(name.with_file_name(result));
    folder(path.parent().unwrap_or(root))?;
    Ok(path)
}

/// Reads a file of taught parts: its bytes, and the tiles that it was taught in. Sets what it needs in `options`.
fn taught(path: &Path, options: &mut Options) -> Result<(Arc<[u8]>, Tiling), CliError> {
    let at = |source| CliError::taught_at(path, source);
    let memory = Taught::open(path).map_err(at)?;
    options.memory = true;
    let tiles = memory.layout().tiles;
    Ok((memory.bytes().map_err(at)?.into(), tiles))
}

impl Inspect {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let jobs = jobs(&self.paths);
        if jobs.is_empty() {
            let names: Vec<String> = self.paths.iter().map(|p| p.display().to_string()).collect();
            return Err(CliError::NoInput(format!(
                "no pictures in {}",
                names.join(", ")
            )));
        }
        let bundle = self.network.open()?;
        let mut options = self.network.options(self.cores.threads());
        // WinCLIP and APRIL-GAN compare with good parts as their papers do.
        let published = good_parts::has_form(&bundle);
        let taught = match &self.taught {
            Some(path) if !published => Some((path, taught(path, &mut options)?)),
            _ => None,
        };
        let mut inspector = super::inspector(&bundle, options)?;
        let as_taught = taught.as_ref().map(|(_, (_, tiles))| *tiles);
        super::cut(&mut inspector, self.tiles.or(as_taught).unwrap_or_default())?;
        if let (Some(path), true) = (&self.taught, published) {
            good_parts::recall(&mut inspector, &good_parts::encoder(&bundle), path)?;
        }
        drop(bundle);
        let usual = match taught {
            None => inspector.manifest().scores.threshold,
            Some((path, (bytes, _))) => {
                let refused = |source| CliError::taught_at(path, source);
                inspector.teach(Some(bytes)).map_err(refused)?;
                LIMIT
            }
        };
        if inspector.is_untaught() {
            return Err(CliError::Untaught);
        }
        let threshold = self.threshold.unwrap_or(usual);
        if let Some(path) = &self.regions {
            super::look(&mut inspector, path)?;
            if let Some(why) = inspector.ignores_regions() {
                return Err(CliError::Usage(format!("--regions: {why}")));
            }
            if inspector.regions().blinds(threshold) {
                warn(format_args!(
                    "{}: a region raises the threshold to 1 or more: no part is ever rejected there",
                    path.display()
                ));
            }
        }
        let networks = inspector
            .side_by_side(usize::from(self.cores.parallel).min(jobs.len()))
            .map_err(|e| CliError::Internal(format!("{e:#}")))?;
        let mut counters = Counters::default();
        let started = Instant::now();
        let next = AtomicUsize::new(0);
        let (sender, lines) = sync_channel(networks.len());
        std::thread::scope(|scope| {
            for mut inspector in networks {
                let (sender, jobs, next) = (sender.clone(), &jobs, &next);
                scope.spawn(move || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(i) else { return };
                        let line = self.judge(&mut inspector, job, threshold);
                        // Nobody listens any more if an output could not be written.
                        if sender.send((i, line)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            // Lines appear in the order of the photos.
            let mut waiting = BTreeMap::new();
            let mut due = 0;
            for (i, line) in lines {
                waiting.insert(i, line);
                while let Some(line) = waiting.remove(&due) {
                    let (line, outcome) = line?;
                    writeln!(std::io::stdout(), "{}", shown(line))
                        .map_err(output(Path::new("standard output")))?;
                    counters.count(outcome.unwrap_or(Outcome::RejectBecause(Cause::CameraFault)));
                    due += 1;
                }
            }
            Ok::<(), CliError>(())
        })?;
        let failed: u64 = counters.failed.iter().sum();
        let judged = counters.parts - failed;
        let rate = match judged {
            0 => String::new(),
            _ => {
                let seconds = started.elapsed().as_secs_f64();
                format!(", {:.2} per second", judged as f64 / seconds)
            }
        };
        warn(format_args!(
            "{} inspected, {} good, {} rejects, {failed} could not be inspected{rate}",
            counters.parts, counters.good, counters.rejects
        ));
        Ok(match (failed, counters.rejects) {
            (0, 0) => ExitCode::Good,
            (0, _) => ExitCode::Reject,
            _ => ExitCode::SomeInputsFailed,
        })
    }

    /// Judges one photo. Returns its line, and `None` if that failed, which the line says.
    fn judge(
        &self,
        inspector: &mut Inspector,
        job: &Job,
        threshold: f32,
    ) -> Result<(String, Option<Outcome>), CliError> {
        let file = job.path.display().to_string();
        let judged = self.look(inspector, job, &file);
        let (frame, inspection, notes) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                let failed = Failed {
                    file: &file,
                    error: &error,
                };
                return Ok((self.line(&failed, || format!("error   {error}"))?, None));
            }
        };
        let outcome = Outcome::of(inspection.score, threshold);
        let warning = inspector.manifest().warning();
        self.write(inspector, job, &frame, &inspection, threshold)?;
        let verdict = if outcome.is_reject() {
            "reject"
        } else {
            "good"
        };
        let names = inspector.manifest().method.as_ref().map(|m| &m.types);
        let names = names.map_or(&[][..], Vec::as_slice);
        let shares = inspection.types();
        let types: BTreeMap<&str, f32> = names
            .iter()
            .zip(&shares)
            .map(|(name, (share, _))| (name.as_str(), *share))
            .collect();
        let kind = kind(&inspection, names);
        let kind_mark = match outcome.is_reject() && !types.is_empty() {
            true => format!("  {kind}"),
            false => String::new(),
        };
        let wordless = inspector.manifest().method_name() == Method::Memory;
        let line = Judged {
            file: &file,
            method: inspector.manifest().method.as_ref().map(|m| m.name),
            score: inspection.score,
            zero_shot: (!wordless).then_some(inspection.zero_shot),
            memory: inspection.memory,
            image_probability: inspection.image_probability,
            max_score: inspection.max_score,
            max_score_adapted: inspection.max_score_adapted,
            prior_norm: inspection.prior_norm,
            verdict,
            kind: (!types.is_empty()).then_some(kind),
            types: types.clone(),
            width: frame.width(),
            height: frame.height(),
            ms: inspection.ms,
            warning,
            notes,
        };
        let mark = if warning.is_some() {
            "  (untrained)"
        } else {
            ""
        };
        let notes = &line.notes;
        let line = self.line(&line, || {
            let notes: String = notes.iter().map(|note| format!("  ({note})")).collect();
            let parts = match inspection.memory {
                None => String::new(),
                Some(memory) if wordless => format!("  memory {memory:.3}"),
                Some(memory) => {
                    format!("  memory {memory:.3} zero-shot {:.3}", inspection.zero_shot)
                }
            };
            format!(
                "{verdict:7} {:.4}{parts}  {:7.1} ms  {file}{kind_mark}{mark}{notes}",
                inspection.score,
                inspection.ms.total()
            )
        })?;
        Ok((line, Some(outcome)))
    }

    /// Reads and judges a photo; also returns what is unusual about it.
    fn look(
        &self,
        inspector: &mut Inspector,
        job: &Job,
        file: &str,
    ) -> Result<(RgbImage, Inspection, Vec<String>), String> {
        let photo = Photo::open(&job.path).map_err(|e| e.to_string())?;
        let mut notes = photo.notes_with(self.sample_bits);
        let frame = photo.rgb(self.sample_bits);
        if !self.allow_blank
            && let Some(flaw) = View::of(&frame).flaw(&ViewLimits::default())
        {
            // What is strange about it may be why.
            let notes: String = notes.iter().map(|note| format!("; it {note}")).collect();
            return Err(format!("{file}: {flaw}{notes}"));
        }
        let inspection = inspector
            .inspect(&frame)
            .cloned()
            .map_err(|e| format!("{file}: {e}"))?;
        let taught = inspector.taught().and_then(|t| t.about().light());
        let light = taught.and_then(|t| t.flaw(Light::of(&frame), &LightLimits::default()));
        notes.extend(light.map(|flaw| flaw.to_string()));
        Ok((frame, inspection, notes))
    }

    fn line(
        &self,
        json: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<String, CliError> {
        if !self.json {
            return Ok(text());
        }
        serde_json::to_string(json).map_err(|e| CliError::Internal(e.to_string()))
    }

    fn write(
        &self,
        inspector: &Inspector,
        job: &Job,
        frame: &RgbImage,
        inspection: &Inspection,
        threshold: f32,
    ) -> Result<(), CliError> {
        if self.maps.is_none() && self.overlay.is_none() {
            return Ok(());
        }
        let map = inspection.map();
        if let Some(root) = &self.maps {
            let path = target(root, &job.name, "npy")?;
            write_map(&map, &path).map_err(output(&path))?;
            let names = inspector.manifest().method.as_ref().map(|m| &m.types);
            for (name, (_, map)) in names.into_iter().flatten().zip(inspection.types()) {
                // A word from the user may hold a path's separators.
                let word = name.replace(['/', '\\', ' '], "-");
                let path = target(root, &job.name, &format!("{word}.npy"))?;
                write_map(&map, &path).map_err(output(&path))?;
            }
        }
        if let Some(root) = &self.overlay {
            let path = target(root, &job.name, "png")?;
            let name = job.name.display().to_string();
            let reject = Outcome::of(inspection.score, threshold).is_reject();
            let types = inspector
                .manifest()
                .method
                .as_ref()
                .map_or(&[][..], |m| &m.types);
            let verdict = match (reject, types.is_empty()) {
                (false, _) => "good".into(),
                (true, true) => "reject".into(),
                (true, false) => format!("reject: {}", kind(inspection, types)),
            };
            let caption = Caption {
                verdict: &verdict,
                reject,
                score: Some(inspection.score),
                opinions: inspection.memory.map(|m| (inspection.zero_shot, m)),
                threshold,
                name: &name,
                warning: inspector.manifest().warning(),
                regions: inspection.regions().all(),
            };
            let smoothed = map.smoothed(inspector.manifest().scores.smoothing_sigma);
            let picture = overlay(frame, Some(&smoothed), &caption);
            picture
                .save(&path)
                .map_err(|e| output(&path)(std::io::Error::other(e)))?;
        }
        Ok(())
    }
}
