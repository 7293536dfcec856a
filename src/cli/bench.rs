//! `bench`: milliseconds per stage for 1..n threads, and memory.

use super::{CliError, Network, cores};
use clap::Args;
use faprompt_edge::bundle::Bundle;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::capture::known_frame;
use faprompt_edge::capture::load;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::gpu::Backend;
use faprompt_edge::inspector::{InspectError, Inspector, Options, Stage, Stages};
use faprompt_edge::memory::region::Regions;
use faprompt_edge::memory::{Fusion, Kind, Lesson, Settings, Views};
use faprompt_edge::ops::{attention, fp16, int8};
use faprompt_edge::report::percentile;
use faprompt_edge::tiling::Tiling;
use image::RgbImage;
use serde::Serialize;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Instant;

#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    network: Network,
    /// Frames per number of threads, after one that is not counted
    #[arg(long, default_value_t = 10)]
    frames: usize,
    /// Numbers of threads [default: 1, 2, 4, ... and all cores]
    #[arg(long, value_delimiter = ',', value_parser = super::threads)]
    threads: Vec<usize>,
    /// A photo [default: a generated part]
    #[arg(long)]
    image: Option<PathBuf>,
    /// What it costs to compare the frame with good parts in this way
    #[arg(long, value_enum)]
    memory: Option<Kind>,
    /// How many good parts, with --memory
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=1000), requires = "memory")]
    parts: u16,
    /// What it costs to cut the frame into rows x columns of tiles, as in 2x3, each encoded at full size
    #[arg(long, value_name = "RxC", default_value = "1x1")]
    tiles: Tiling,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Largest resident memory while a stage ran for the first time, megabytes.
#[derive(Default, Serialize)]
struct StageMemory {
    loaded: Option<f64>,
    preprocess: Option<f64>,
    encode: Option<f64>,
    adapt: Option<f64>,
    score: Option<f64>,
}

/// Median times, milliseconds, for one number of threads.
#[derive(Serialize)]
struct Row {
    threads: usize,
    ms: Stages,
    peak_mb: StageMemory,
    total_ms: f64,
    /// Frames per second, judged one after the other by all these threads.
    per_second: f64,
    /// Frames per second, as many judged side by side as there are threads, each by one thread.
    parallel_per_second: f64,
    adapt_share_of_encode: f64,
    memory_share_of_encode: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    bundle: &'a str,
    method: Method,
    warning: Option<&'a str>,
    cpu: String,
    /// Name of the instructions that int8 weights would be multiplied with.
    int8_kernel: &'static str,
    /// Name of the instructions of attention in int8; `None`: attention is in f32.
    attention_kernel: Option<&'static str>,
    /// Name of the instructions of f16 arithmetic, if this processor has it.
    f16_kernel: Option<&'static str>,
    /// The processor that judged: `cpu` although a GPU was asked for means that the GPU failed.
    runtime: Backend,
    /// The tiles that the frame is cut into.
    tiles: String,
    load_ms: f64,
    rows: Vec<Row>,
}

/// A line of /proc/self/status, megabytes.
fn memory(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace()
        .next()?
        .parse::<f64>()
        .ok()
        .map(|kib| kib * 1024.0 / 1e6)
}

/// Resets the peak of memory to the present size (proc(5): clear_refs 5); without that file peaks only grow.
fn reset_peak() {
    if let Err(e) = std::fs::write("/proc/self/clear_refs", "5") {
        log::debug!("/proc/self/clear_refs: {e}");
    }
}

/// The peak of memory since the last reset, megabytes.
fn peak() -> Option<f64> {
    let peak = memory("VmHWM");
    reset_peak();
    peak
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |key: &str| {
        info.lines().find_map(|l| {
            l.strip_prefix(key)?
                .split_once(':')
                .map(|(_, v)| v.trim().to_string())
        })
    };
    field("model name")
        .or_else(|| field("CPU part").map(|p| format!("ARM part {p}")))
        .unwrap_or_else(|| "unknown".into())
}

/// The numbers of threads 1, 2, 4, ... and all cores.
fn ladder(cores: usize) -> Vec<usize> {
    let mut steps: Vec<usize> = std::iter::successors(Some(1), |n| Some(n * 2))
        .take_while(|n| *n < cores)
        .collect();
    steps.push(cores);
    steps
}

impl Bench {
    fn frame(&self) -> Result<RgbImage, CliError> {
        if let Some(path) = &self.image {
            return Ok(load(path)?);
        }
        Ok(known_frame())
    }

    pub fn run(&self) -> Result<ExitCode, CliError> {
        if self.frames == 0 {
            return Err(CliError::Usage("--frames 0 measures nothing".into()));
        }
        let frame = self.frame()?;
        let path = self.network.path().display().to_string();
        let threads = if self.threads.is_empty() {
            ladder(cores())
        } else {
            self.threads.clone()
        };
        let started = Instant::now();
        let bundle = self.network.open()?;
        let mut rows = vec![];
        let (mut load_ms, mut warning, mut runtime) = (0.0, None, Backend::Cpu);
        for n in threads {
            // One network at a time: the memory that is reported is that of one.
            let mut inspector = self.inspector(&bundle, n, &frame)?;
            if rows.is_empty() {
                load_ms = started.elapsed().as_secs_f64() * 1e3;
            }
            warning = inspector.manifest().warning();
            let failed = |e: InspectError| CliError::Internal(e.to_string());
            let mut memory = StageMemory {
                loaded: memory("VmRSS"),
                ..StageMemory::default()
            };
            reset_peak();
            let mut ended = |stage| match stage {
                Stage::Preprocess => memory.preprocess = peak(),
                Stage::Encode => memory.encode = peak(),
                Stage::Adapt => memory.adapt = peak(),
                Stage::Score => memory.score = peak(),
            };
            inspector.observe(&frame, &mut ended).map_err(failed)?;
            let stages = (0..self.frames)
                .map(|_| inspector.inspect(&frame).map(|i| i.ms).map_err(failed))
                .collect::<Result<Vec<Stages>, _>>()?;
            let median = |f: fn(&Stages) -> f64| {
                percentile(&stages.iter().map(f).collect::<Vec<_>>(), 0.5).unwrap_or(0.0)
            };
            let ms = Stages {
                preprocess: median(|s| s.preprocess),
                encode: median(|s| s.encode),
                adapt: median(|s| s.adapt),
                score: median(|s| s.score),
                memory: median(|s| s.memory),
            };
            runtime = inspector.runtime();
            let per_second = 1e3 / median(Stages::total);
            drop(inspector);
            let parallel_per_second = match n {
                1 => per_second,
                n => self.side_by_side(self.inspector(&bundle, 1, &frame)?, n, &frame)?,
            };
            rows.push(Row {
                threads: n,
                total_ms: median(Stages::total),
                per_second,
                parallel_per_second,
                adapt_share_of_encode: median(|s| s.adapt / s.encode),
                memory_share_of_encode: median(|s| s.memory / s.encode),
                ms,
                peak_mb: memory,
            });
        }
        let report = Report {
            bundle: &path,
            method: bundle.manifest().method_name(),
            warning,
            cpu: cpu(),
            int8_kernel: int8::kernel::Kernel::best().name,
            attention_kernel: attention::rounded_kernel(),
            f16_kernel: fp16::kernel::Kernel::best().map(|k| k.name),
            runtime,
            tiles: self.tiles.to_string(),
            load_ms,
            rows,
        };
        let text = if self.json {
            serde_json::to_string_pretty(&report).map_err(|e| CliError::Internal(e.to_string()))?
                + "\n"
        } else {
            self.table(&report)
        };
        super::print(text)?;
        Ok(ExitCode::Good)
    }

    /// Makes a network, and teaches it if that is asked for.
    fn inspector(
        &self,
        bundle: &Bundle,
        threads: usize,
        frame: &RgbImage,
    ) -> Result<Inspector, CliError> {
        let Some(kind) = self.memory else {
            let mut inspector = self.network.inspector(bundle, threads)?;
            super::cut(&mut inspector, self.tiles)?;
            return Ok(inspector);
        };
        let internal = |e: &dyn Display| CliError::Internal(e.to_string());
        let options = Options {
            memory: true,
            ..self.network.options(threads)
        };
        let mut inspector = super::inspector(bundle, options)?;
        super::cut(&mut inspector, self.tiles)?;
        let zero_shot = inspector
            .inspect(frame)
            .map_err(|e| internal(&e))?
            .as_zero_shot();
        let (layout, descriptors) = inspector
            .layout()
            .zip(inspector.descriptors())
            .ok_or_else(|| internal(&"a network without a memory"))?;
        let settings = Settings {
            kind: Some(kind),
            fusion: Fusion::default(),
            false_rejects: 0.01,
            regions: Regions::default(),
            views: Views::default(),
        };
        let mut lesson = Lesson::new(layout, settings).map_err(|e| internal(&e))?;
        for part in 0..self.parts {
            // Parts that differ a little: what they are does not change what a comparison costs.
            let wave = |i: usize| 0.01 * ((i * (usize::from(part) + 3)) as f32).sin();
            let other = descriptors.iter().enumerate().map(|(i, v)| v + wave(i));
            let other: Vec<f32> = other.collect();
            let name = part.to_string();
            lesson
                .part(&name, &other, zero_shot)
                .map_err(|e| internal(&e))?;
        }
        let (encoder, arithmetic) = inspector
            .bound_to()
            .ok_or_else(|| internal(&"a network without a memory"))?;
        let taught = lesson
            .finish(encoder, arithmetic)
            .map_err(|e| internal(&e))?;
        inspector.teach(Some(taught.bytes()?.into()))?;
        Ok(inspector)
    }

    /// Frames per second of `n` networks of one thread each.
    fn side_by_side(&self, first: Inspector, n: usize, frame: &RgbImage) -> Result<f64, CliError> {
        let failed = |e: &dyn Display| CliError::Internal(e.to_string());
        let networks = first.side_by_side(n).map_err(|e| failed(&e))?;
        let barrier = Barrier::new(n);
        let seconds = std::thread::scope(|scope| {
            let judge = |mut network: Inspector| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let first = network.inspect(frame).map(drop);
                    barrier.wait();
                    let started = Instant::now();
                    for _ in 0..self.frames {
                        network.inspect(frame)?;
                    }
                    first.map(|()| started.elapsed().as_secs_f64())
                })
            };
            let threads: Vec<_> = networks.into_iter().map(judge).collect();
            let seconds = threads.into_iter().map(|t| match t.join() {
                Ok(seconds) => seconds.map_err(|e| failed(&e)),
                Err(_) => Err(failed(&"a thread panicked")),
            });
            seconds.collect::<Result<Vec<f64>, CliError>>()
        })?;
        Ok(seconds.iter().map(|s| self.frames as f64 / s).sum())
    }

    fn table(&self, r: &Report) -> String {
        let mut out = format!(
            "{} ({}) on {} (int8: {}, with attention in {}, f16: {}), medians of {} frames, ms\n",
            r.bundle,
            r.method,
            r.cpu,
            r.int8_kernel,
            r.attention_kernel.unwrap_or("f32"),
            r.f16_kernel.unwrap_or("none"),
            self.frames
        );
        if r.runtime == Backend::Cuda {
            out += "CUDA judges; all of its work stands under encode\n";
        }
        if !self.tiles.is_whole() {
            out += &format!(
                "each frame in {} tiles of {}: {} times the encoder\n",
                self.tiles.count(),
                self.tiles,
                self.tiles.count()
            );
        }
        out += "threads  preprocess    encode     adapt     score    memory     total  adapt/encode  memory/encode    per s  side by side\n";
        for row in &r.rows {
            let ms = &row.ms;
            out += &format!(
                "{:7} {:11.2} {:9.2} {:9.2} {:9.2} {:9.2} {:9.2} {:12.1}% {:13.1}% {:8.2} {:13.2}\n",
                row.threads,
                ms.preprocess,
                ms.encode,
                ms.adapt,
                ms.score,
                ms.memory,
                row.total_ms,
                100.0 * row.adapt_share_of_encode,
                100.0 * row.memory_share_of_encode,
                row.per_second,
                row.parallel_per_second
            );
        }
        out += &format!(
            "load {:.0} ms\n\nlargest resident memory during the first frame, MB\n",
            r.load_ms
        );
        out += "threads      loaded  preprocess    encode     adapt     score\n";
        let mb = |v: Option<f64>| v.map_or("unknown".into(), |v| format!("{v:.0}"));
        for row in &r.rows {
            let m = &row.peak_mb;
            out += &format!(
                "{:7} {:>11} {:>11} {:>9} {:>9} {:>9}\n",
                row.threads,
                mb(m.loaded),
                mb(m.preprocess),
                mb(m.encode),
                mb(m.adapt),
                mb(m.score)
            );
        }
        r.warning.iter().for_each(|w| out += &format!("{w}\n"));
        out
    }
}
