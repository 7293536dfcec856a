//! `run`: the station. So far on the board without hardware: frames from a folder or a generator, a
//! reject output that is driven on time by a thread of its own and remembers its pulses.

use super::{CliError, Network, cores, folder, output};
use clap::Args;
use faprompt_edge::board::{Board, SimulatedPin};
use faprompt_edge::capture::{Camera, CaptureError, FolderCamera, Frame, PatternCamera};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::{Inspection, Inspector};
use faprompt_edge::line::{Cause, Counters, Outcome, Pulse, RejectSchedule};
use faprompt_edge::report::{Caption, overlay, percentile, say, warn};
use image::RgbImage;
use serde::Serialize;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    network: Network,
    /// Which board
    #[arg(long, default_value = "sim")]
    board: String,
    /// Folder of photos for the simulated camera [default: a generator of parts, some defective]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Parts to inspect [default: every photo of the folder, or 24 generated ones]
    #[arg(long)]
    frames: Option<usize>,
    /// Folder for the verdicts, the summary and overlays of the rejects
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Scores above it are rejects [default: the bundle's]
    #[arg(long, value_parser = super::threshold)]
    threshold: Option<f32>,
    /// Threads for one frame [default: all cores]
    #[arg(long, value_parser = super::threads)]
    threads: Option<usize>,
    /// From the exposure to the reject station, 0..=10000 ms [default: the board's]
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    delay_ms: Option<u64>,
    /// Seed of the generator
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A line of verdicts.jsonl, written when the part has its outcome.
#[derive(Serialize)]
struct Part<'a> {
    part: u64,
    name: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    latency_ms: f64,
    /// When the reject output is active for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pulse_ms: Option<[u64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
}

/// summary.json.
#[derive(Serialize)]
struct Summary<'a> {
    board: &'a str,
    bundle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
    threshold: f32,
    parts: u64,
    good: u64,
    rejects: u64,
    rejects_camera_fault: u64,
    rejects_inference_error: u64,
    rejects_late: u64,
    rejects_queue_full: u64,
    defective_parts: u64,
    defective_rejected: u64,
    reject_pulses: u64,
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
    frames_per_second: f64,
    results_not_written: u64,
}

/// Latencies that the percentiles are taken of: those of the last parts.
const LATENCIES: usize = 10_000;

/// The reject output: pulses are handed to a thread that sleeps until the next edge, so that an
/// inference that takes long cannot delay one.
struct RejectOutput {
    pulses: Option<Sender<Pulse>>,
    thread: JoinHandle<u64>,
}

/// Drives the output until every pulse is over; returns how many there were.
fn drive(started: Instant, pulses: &Receiver<Pulse>) -> u64 {
    let mut pin = SimulatedPin::default();
    let mut schedule = RejectSchedule::new();
    let mut waiting: Option<Pulse> = None;
    let mut open = true;
    loop {
        // A pulse that found the schedule full is kept until there is room: none is ever dropped.
        if let Some(pulse) = waiting.take()
            && schedule.add(pulse).is_err()
        {
            waiting = Some(pulse);
        }
        let now = started.elapsed().as_millis() as u64;
        let Ok(next) = schedule.drive(now, &mut pin);
        if next.is_none() && waiting.is_none() && !open {
            return pin.pulses();
        }
        let until = next.map_or(Duration::from_secs(1), |t| {
            (started + Duration::from_millis(t)).saturating_duration_since(Instant::now())
        });
        if waiting.is_some() || !open {
            std::thread::sleep(until);
            continue;
        }
        match pulses.recv_timeout(until) {
            Ok(pulse) => waiting = Some(pulse),
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => open = false,
        }
    }
}

impl RejectOutput {
    fn start(started: Instant) -> Self {
        let (pulses, received) = channel();
        RejectOutput {
            pulses: Some(pulses),
            thread: std::thread::spawn(move || drive(started, &received)),
        }
    }

    fn fire(&self, pulse: Pulse) -> Result<(), CliError> {
        let stopped = || CliError::Internal("the reject output stopped".into());
        self.pulses
            .as_ref()
            .ok_or_else(stopped)?
            .send(pulse)
            .map_err(|_| stopped())
    }

    /// Waits until every pulse is over.
    fn finish(mut self) -> Result<u64, CliError> {
        self.pulses.take();
        self.thread
            .join()
            .map_err(|_| CliError::Internal("the reject output failed".into()))
    }
}

/// The word that stands for an outcome in every report.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Good => "good",
        Outcome::Reject => "reject",
        Outcome::RejectBecause(Cause::CameraFault) => "reject: camera fault",
        Outcome::RejectBecause(Cause::InferenceError) => "reject: inference error",
        Outcome::RejectBecause(Cause::Late) => "reject: late",
        Outcome::RejectBecause(Cause::QueueFull) => "reject: queue full",
        Outcome::RejectBecause(Cause::NoFrame) => "reject: no frame",
        Outcome::RejectBecause(Cause::Unknown) => "reject: unknown",
        Outcome::RejectBecause(Cause::NotReady) => "reject: not ready",
        Outcome::RejectBecause(Cause::Challenge) => "reject: missed test piece",
    }
}

/// A part after its verdict.
struct Verdict {
    outcome: Outcome,
    inspection: Option<Inspection>,
    error: Option<String>,
}

fn judge(
    inspector: &mut Inspector,
    frame: &Result<Frame, CaptureError>,
    threshold: f32,
) -> Verdict {
    let failed = |cause, error: String| Verdict {
        outcome: Outcome::RejectBecause(cause),
        inspection: None,
        error: Some(error),
    };
    match frame {
        Err(e) => failed(Cause::CameraFault, e.to_string()),
        Ok(frame) => match inspector.inspect(&frame.image) {
            Err(e) => failed(Cause::InferenceError, e.to_string()),
            Ok(i) => Verdict {
                outcome: Outcome::of(i.score, threshold),
                inspection: Some(i),
                error: None,
            },
        },
    }
}

/// The results on disk. They are written part by part; one that cannot be written is told and
/// counted, and the line goes on.
struct Records {
    verdicts: File,
    verdicts_path: PathBuf,
    rejects: PathBuf,
    lost: u64,
}

/// Whether `name` is one of this program's overlays: five digits, a dash, `.png`.
fn is_overlay(name: &str) -> bool {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    digits >= 5 && name[digits..].starts_with('-') && name.ends_with(".png")
}

impl Records {
    /// Opens the results folder; overlays and summary of an earlier run, which would be taken for this
    /// one's, are removed.
    fn create(out: &Path) -> Result<Records, CliError> {
        let rejects = out.join("rejects");
        folder(&rejects)?;
        for entry in std::fs::read_dir(&rejects).map_err(output(&rejects))? {
            let entry = entry.map_err(output(&rejects))?;
            if is_overlay(&entry.file_name().to_string_lossy()) {
                std::fs::remove_file(entry.path()).map_err(output(&entry.path()))?;
            }
        }
        let summary = out.join("summary.json");
        if summary.is_file() {
            std::fs::remove_file(&summary).map_err(output(&summary))?;
        }
        let verdicts_path = out.join("verdicts.jsonl");
        let verdicts = File::create(&verdicts_path).map_err(output(&verdicts_path))?;
        Ok(Records {
            verdicts,
            verdicts_path,
            rejects,
            lost: 0,
        })
    }

    fn lose(&mut self, path: &Path, reason: impl std::fmt::Display) {
        self.lost += 1;
        warn(format_args!(
            "{}: cannot be written: {reason}",
            path.display()
        ));
    }

    fn verdict(&mut self, part: &Part) {
        let written = serde_json::to_string(part)
            .map_err(std::io::Error::other)
            .and_then(|line| self.verdicts.write_all(format!("{line}\n").as_bytes()));
        if let Err(e) = written {
            self.lose(&self.verdicts_path.clone(), e);
        }
        let score = part.score.map_or("-".into(), |s| format!("{s:.4}"));
        let pulse = part
            .pulse_ms
            .map_or(String::new(), |[a, b]| format!("reject output {a}..{b} ms"));
        let error = part.error.unwrap_or_default();
        say(format_args!(
            "part {:4}  {:22} {score:>6} {:8.1} ms  {:24} {pulse} {error}",
            part.part, part.outcome, part.latency_ms, part.name
        ));
    }

    fn overlay(&mut self, part: u64, name: &str, picture: &RgbImage) {
        let stem = Path::new(name)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let path = self.rejects.join(format!("{part:05}-{stem}.png"));
        if let Err(e) = picture.save(&path) {
            self.lose(&path, e);
        }
    }
}

impl Run {
    fn camera(&self) -> Result<(Box<dyn Camera>, usize), CliError> {
        match &self.source {
            None => Ok((
                Box::new(PatternCamera::new(self.seed)),
                self.frames.unwrap_or(24),
            )),
            Some(path) => {
                let camera = FolderCamera::open(path)?;
                if camera.is_empty() {
                    return Err(CliError::NoInput(format!(
                        "no pictures in {}",
                        path.display()
                    )));
                }
                let all = camera.len();
                Ok((Box::new(camera), self.frames.unwrap_or(all)))
            }
        }
    }

    pub fn run(&self) -> Result<ExitCode, CliError> {
        let board = Board::named(&self.board)?;
        let delay = self.delay_ms.unwrap_or(board.reject.delay_ms);
        let (mut camera, frames) = self.camera()?;
        let bundle_path = self.network.path()?;
        let bundle = self.network.open()?;
        let threads = self.threads.unwrap_or(cores());
        let mut inspector = self.network.inspector(&bundle, threads)?;
        drop(bundle);
        let threshold = self
            .threshold
            .unwrap_or(inspector.manifest().scores.threshold);
        let warning = inspector.manifest().warning();
        let mut records = Records::create(&self.out)?;

        let started = Instant::now();
        let reject = RejectOutput::start(started);
        let (mut counters, mut latencies) = (Counters::default(), VecDeque::new());
        let (mut defective, mut caught) = (0u64, 0u64);
        for part in 0..frames as u64 {
            let Some(frame) = camera.next() else { break };
            let exposed = started.elapsed();
            let mut verdict = judge(&mut inspector, &frame, threshold);
            let judged = started.elapsed();
            let due = exposed.as_millis() as u64 + delay;
            let now = judged.as_millis() as u64;
            if now > due {
                verdict.outcome = Outcome::RejectBecause(Cause::Late);
            }
            // A late part is past the station, but its reject is still seen and counted: from now.
            let start = due.max(now);
            let pulse = Pulse {
                start,
                end: start + board.reject.pulse_ms,
            };
            let is_reject = verdict.outcome.is_reject();
            if is_reject {
                reject.fire(pulse)?;
            }
            counters.count(verdict.outcome);
            if latencies.len() == LATENCIES {
                latencies.pop_front();
            }
            let latency = (judged - exposed).as_secs_f64() * 1e3;
            latencies.push_back(latency);
            let name = match &frame {
                Ok(frame) => frame.name.clone(),
                Err(e) => e.path().display().to_string(),
            };
            if frame.as_ref().is_ok_and(|f| f.defective == Some(true)) {
                defective += 1;
                caught += u64::from(is_reject);
            }
            records.verdict(&Part {
                part,
                name: &name,
                outcome: word(verdict.outcome),
                score: verdict.inspection.as_ref().map(|i| i.score),
                latency_ms: latency,
                pulse_ms: is_reject.then_some([pulse.start, pulse.end]),
                error: verdict.error.as_deref(),
                warning,
            });
            if let (true, Ok(frame), Some(inspection)) = (is_reject, &frame, &verdict.inspection) {
                let caption = Caption {
                    verdict: word(verdict.outcome),
                    reject: true,
                    score: inspection.score,
                    threshold,
                    name: &name,
                    warning,
                };
                let sigma = inspector.manifest().scores.smoothing_sigma;
                let picture = overlay(&frame.image, &inspection.map().smoothed(sigma), &caption);
                records.overlay(part, &name, &picture);
            }
        }
        let elapsed = started.elapsed().as_secs_f64();
        let reject_pulses = reject.finish()?;
        let of = |cause: Cause| counters.failed[cause as usize];
        let latencies: Vec<f64> = latencies.into();
        let summary = Summary {
            board: &board.name,
            bundle: bundle_path.display().to_string(),
            warning,
            threshold,
            parts: counters.parts,
            good: counters.good,
            rejects: counters.rejects,
            rejects_camera_fault: of(Cause::CameraFault),
            rejects_inference_error: of(Cause::InferenceError),
            rejects_late: of(Cause::Late),
            rejects_queue_full: of(Cause::QueueFull),
            defective_parts: defective,
            defective_rejected: caught,
            reject_pulses,
            latency_p50_ms: percentile(&latencies, 0.5),
            latency_p99_ms: percentile(&latencies, 0.99),
            frames_per_second: counters.parts as f64 / elapsed,
            results_not_written: records.lost,
        };
        let text = serde_json::to_string_pretty(&summary);
        let text = text.map_err(|e| CliError::Internal(e.to_string()))?;
        let path = self.out.join("summary.json");
        self.print(&summary, self.source.is_none());
        std::fs::write(&path, text).map_err(output(&path))?;
        Ok(match (records.lost, counters.all_rejects()) {
            (0, 0) => ExitCode::Good,
            (0, _) => ExitCode::Reject,
            _ => ExitCode::OutputFailed,
        })
    }

    fn print(&self, s: &Summary, generated: bool) {
        say(format_args!("\nparts                 {}", s.parts));
        say(format_args!("good                  {}", s.good));
        say(format_args!("rejects               {}", s.rejects));
        for (what, count) in [
            ("camera fault", s.rejects_camera_fault),
            ("inference error", s.rejects_inference_error),
            ("late", s.rejects_late),
            ("queue full", s.rejects_queue_full),
        ] {
            if count > 0 {
                say(format_args!("rejects: {what:13}{count}"));
            }
        }
        say(format_args!(
            "reject pulses         {} (overlapping ones are one)",
            s.reject_pulses
        ));
        if generated {
            say(format_args!(
                "defective parts made  {}, of which rejected {}",
                s.defective_parts, s.defective_rejected
            ));
        }
        let ms = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.1} ms"));
        say(format_args!(
            "latency               p50 {}, p99 {}",
            ms(s.latency_p50_ms),
            ms(s.latency_p99_ms)
        ));
        say(format_args!(
            "frames per second     {:.1}",
            s.frames_per_second
        ));
        say(format_args!("threshold             {}", s.threshold));
        say(format_args!(
            "overlays of rejects   {}",
            self.out.join("rejects").display()
        ));
        if let Some(warning) = s.warning {
            say(format_args!("{warning}"));
        }
    }
}
