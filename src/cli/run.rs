//! `run`: the station. So far on the board without hardware: frames from a folder or a generator, a
//! reject output that is driven on time by a thread of its own and remembers its pulses.

use super::{CliError, Network, cores, folder, output};
use clap::Args;
use faprompt_edge::board::{Board, Edge, SimulatedPin};
use faprompt_edge::capture::{Camera, CaptureError, FolderCamera, Frame, PatternCamera};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::{Inspection, Inspector};
use faprompt_edge::line::{Cause, Counters, Outcome, Pulse, RejectSchedule};
use faprompt_edge::report::{Caption, overlay, percentile, say};
use serde::Serialize;
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
    /// Seed of the generator
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A line of verdicts.jsonl.
#[derive(Serialize)]
struct Part<'a> {
    part: u64,
    name: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pulse_ms: Option<[u64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// summary.json.
#[derive(Serialize)]
struct Summary<'a> {
    board: &'a str,
    bundle: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
    threshold: f32,
    parts: u64,
    good: u64,
    rejects: u64,
    rejects_without_verdict: u64,
    defective_parts: u64,
    defective_rejected: u64,
    reject_pulses: usize,
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
    frames_per_second: f64,
}

/// The reject output: pulses are handed to a thread that sleeps until the next edge, so that an
/// inference that takes long cannot delay one.
struct RejectOutput {
    pulses: Option<Sender<Pulse>>,
    thread: JoinHandle<Vec<Edge>>,
}

fn drive(started: Instant, pulses: &Receiver<Pulse>) -> Vec<Edge> {
    let mut pin = SimulatedPin::since(started);
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
            return pin.edges().to_vec();
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
    fn finish(mut self) -> Result<Vec<Edge>, CliError> {
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
        let (mut camera, frames) = self.camera()?;
        let bundle_path = self.network.path()?;
        let bundle = self.network.open()?;
        let mut inspector = self
            .network
            .inspector(&bundle, self.threads.unwrap_or(cores()))?;
        drop(bundle);
        let threshold = self
            .threshold
            .unwrap_or(inspector.manifest().scores.threshold);
        let rejects = self.out.join("rejects");
        // Pictures of an earlier run would be taken for this one's.
        if self.out.join("summary.json").is_file() && rejects.is_dir() {
            std::fs::remove_dir_all(&rejects).map_err(output(&rejects))?;
        }
        folder(&rejects)?;
        let warning = inspector.manifest().warning();

        let started = Instant::now();
        let reject = RejectOutput::start(started);
        let (mut counters, mut latencies, mut lines) = (Counters::default(), vec![], String::new());
        let (mut defective, mut caught) = (0u64, 0u64);
        // The reject output is finished on every way out of the loop.
        let result: Result<(), CliError> = (0..frames as u64).try_for_each(|part| {
            let Some(frame) = camera.next() else {
                return Ok(());
            };
            let exposed = started.elapsed();
            let mut verdict = judge(&mut inspector, &frame, threshold);
            let latency = started.elapsed() - exposed;
            let start = exposed.as_millis() as u64 + board.reject.delay_ms;
            if started.elapsed().as_millis() as u64 > start {
                verdict.outcome = Outcome::RejectBecause(Cause::Late);
            }
            let pulse = Pulse {
                start,
                end: start + board.reject.pulse_ms,
            };
            if verdict.outcome.is_reject() {
                reject.fire(pulse)?;
            }
            counters.count(verdict.outcome);
            latencies.push(latency.as_secs_f64() * 1e3);
            let name = frame.as_ref().map_or(String::new(), |f| f.name.clone());
            if frame.as_ref().is_ok_and(|f| f.defective == Some(true)) {
                defective += 1;
                caught += u64::from(verdict.outcome.is_reject());
            }
            self.report(part, &name, &verdict, latency, pulse, &mut lines)?;
            if let (true, Ok(frame), Some(inspection)) =
                (verdict.outcome.is_reject(), &frame, &verdict.inspection)
            {
                let caption = Caption {
                    reject: true,
                    score: inspection.score,
                    threshold,
                    name: &name,
                    warning,
                };
                let map = inspection
                    .map()
                    .smoothed(inspector.manifest().scores.smoothing_sigma);
                let path = rejects.join(format!(
                    "{part:05}-{}.png",
                    Path::new(&name)
                        .file_stem()
                        .unwrap_or_default()
                        .to_string_lossy()
                ));
                let picture = overlay(&frame.image, &map, &caption);
                picture
                    .save(&path)
                    .map_err(|e| output(&path)(std::io::Error::other(e)))?;
            }
            Ok(())
        });
        let elapsed = started.elapsed().as_secs_f64();
        let edges = reject.finish()?;
        result?;

        let summary = Summary {
            board: &board.name,
            bundle: &bundle_path.display().to_string(),
            warning,
            threshold,
            parts: counters.parts,
            good: counters.good,
            rejects: counters.rejects,
            rejects_without_verdict: counters.failed.iter().sum(),
            defective_parts: defective,
            defective_rejected: caught,
            reject_pulses: edges.iter().filter(|e| e.high).count(),
            latency_p50_ms: percentile(&latencies, 0.5),
            latency_p99_ms: percentile(&latencies, 0.99),
            frames_per_second: counters.parts as f64 / elapsed,
        };
        let text = serde_json::to_string_pretty(&summary)
            .map_err(|e| CliError::Internal(e.to_string()))?;
        for (file, contents) in [("summary.json", &text), ("verdicts.jsonl", &lines)] {
            let path = self.out.join(file);
            std::fs::write(&path, contents).map_err(output(&path))?;
        }
        self.print(&summary, self.source.is_none());
        Ok(if counters.all_rejects() > 0 {
            ExitCode::Reject
        } else {
            ExitCode::Good
        })
    }

    fn report(
        &self,
        part: u64,
        name: &str,
        verdict: &Verdict,
        latency: Duration,
        pulse: Pulse,
        lines: &mut String,
    ) -> Result<(), CliError> {
        let latency_ms = latency.as_secs_f64() * 1e3;
        let is_reject = verdict.outcome.is_reject();
        let score = verdict.inspection.as_ref().map(|i| i.score);
        let line = Part {
            part,
            name,
            outcome: word(verdict.outcome),
            score,
            latency_ms,
            pulse_ms: is_reject.then_some([pulse.start, pulse.end]),
            error: verdict.error.as_deref(),
        };
        lines.push_str(
            &serde_json::to_string(&line).map_err(|e| CliError::Internal(e.to_string()))?,
        );
        lines.push('\n');
        let score = score.map_or("-".into(), |s| format!("{s:.4}"));
        let pulse = if is_reject {
            format!("reject output {}..{} ms", pulse.start, pulse.end)
        } else {
            String::new()
        };
        let error = verdict.error.as_deref().unwrap_or_default();
        say(format_args!(
            "part {part:4}  {:22} {score:>6} {latency_ms:8.1} ms  {name:24} {pulse} {error}",
            word(verdict.outcome)
        ));
        Ok(())
    }

    fn print(&self, s: &Summary, generated: bool) {
        say(format_args!("\nparts                 {}", s.parts));
        say(format_args!("good                  {}", s.good));
        say(format_args!(
            "rejects               {} (and {} without a verdict)",
            s.rejects, s.rejects_without_verdict
        ));
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
