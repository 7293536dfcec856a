//! `faprompt-train distil`.

use crate::report::{can_all_be_written, refuse_own_inputs};
use clap::Args;
use faprompt_edge::bundle::manifest::Precision;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::distil::bundle::{export, save_tower};
use faprompt_edge::train::distil::checkpoint::Checkpoint;
use faprompt_edge::train::distil::photos::Photos;
use faprompt_edge::train::distil::teachers::{Named, Teachers};
use faprompt_edge::train::distil::{Done, Given, Length, Options, Place, Sizes, Step, distil};
use faprompt_edge::train::export::{ExportOptions, memory_taps, refuse_twice};
use faprompt_edge::train::fit::checkpoint::Checkpoint as Lock;
use faprompt_edge::train::nn::{DeviceKind, Products};
use faprompt_edge::train::progress::{Interrupt, bar};
use faprompt_edge::train::pull::cache_folder;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Seconds between two lines.
const LINE: f64 = 30.0;

/// Arguments of `distil`.
#[derive(Args)]
pub struct Distil {
    /// An ONNX file that teaches, and which of its outputs, tensors or nodes do [default: all outputs]: maps, and
    /// perhaps a feature of the whole picture. May be given several times
    #[arg(long, required = true, value_name = "FILE.onnx[@NAME,NAME]")]
    teacher: Vec<Named>,
    /// Folders of photos, any depth; labels are not needed
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    photos: Vec<PathBuf>,
    /// As many rendered scenes beside the photos
    #[arg(long, default_value_t = 0, value_name = "N")]
    rendered: usize,
    /// What becomes of it: a bundle that judges by good parts, or, with the ending .safetensors, the image encoder's
    /// weights with CLIP's names. The run is kept beside it, in a folder of its name with `.run` behind it
    #[arg(long)]
    out: PathBuf,
    /// Go on with the run that is kept there
    #[arg(long)]
    resume: bool,
    /// Steps of the whole run; the same seed gives the same numbers
    #[arg(long, conflicts_with = "minutes")]
    steps: Option<usize>,
    /// Minutes of the whole run, all pieces together
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Stop after this many minutes; go on later with --resume
    #[arg(long, value_name = "MINUTES")]
    piece: Option<f64>,
    /// Stop after this many steps; go on later with --resume
    #[arg(long, value_name = "STEPS")]
    stop_after: Option<usize>,
    /// Minutes between checkpoints
    #[arg(long, default_value_t = 5.0, value_name = "MINUTES")]
    save_every: f64,
    /// Channels of a token, a multiple of 64
    #[arg(long, default_value_t = 192)]
    width: usize,
    /// Blocks
    #[arg(long, default_value_t = 9)]
    layers: usize,
    /// Blocks with the V-V stream, counted from the last
    #[arg(long, default_value_t = 1)]
    vv_layers: usize,
    /// Side of a patch in pixels
    #[arg(long, default_value_t = 16)]
    patch: usize,
    /// Side of the input in pixels
    #[arg(long, default_value_t = 224)]
    image_size: usize,
    /// Numbers of a patch's and of the picture's feature
    #[arg(long, default_value_t = 192)]
    joint: usize,
    /// Side of the views of every sixth step of the last 40 %, 0 for none [default: one and a half of --image-size; 0
    /// with a teacher that is made for one size]
    #[arg(long)]
    large: Option<usize>,
    /// Views of a step [default: 32; 256 on a GPU]
    #[arg(long)]
    batch: Option<usize>,
    /// Peak of the learning rate, for 192 channels; it falls as the root of the width
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Different views of a photo, for which the teachers' answers are cached; 0: each view is new, nothing is cached
    #[arg(long, default_value_t = 16)]
    views: usize,
    /// Folder for the teachers' answers [default: the user's cache folder]
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Gigabytes that they may take
    #[arg(long, default_value_t = 20.0)]
    cache_gb: f64,
    /// Side that photos are kept at in memory (256: 200 kB a photo)
    #[arg(long, default_value_t = 256)]
    photo_side: usize,
    /// Means of R, G and B that the teachers want, 0..=1: once, or once for each [default: a configuration's beside
    /// the file, else ImageNet's]
    #[arg(long, value_parser = three, value_name = "R,G,B")]
    mean: Vec<[f32; 3]>,
    /// Deviations of R, G and B, in the same way
    #[arg(long, value_parser = three, value_name = "R,G,B")]
    std: Vec<[f32; 3]>,
    /// Of the first numbers, the views and their order
    #[arg(long, default_value_t = 20)]
    seed: u64,
    /// Where the student computes; the teachers stay on the CPU
    #[arg(long, value_name = "cpu|cuda[:N]|wgpu", default_value = "cpu")]
    device: DeviceKind,
    /// The numbers of matrix products [default: f32 on a CPU, bf16 on a GPU]
    #[arg(long, value_enum)]
    products: Option<Products>,
    /// How the bundle's matrices are stored
    #[arg(long, value_enum, default_value = "int8")]
    precision: Precision,
    /// Blocks after which the bundle's memory compares parts, counted from 1 [default: the one before the V-V stream]
    #[arg(long, value_delimiter = ',')]
    memory_blocks: Vec<usize>,
    /// Name in the bundle's manifest [default: the architecture's]
    #[arg(long)]
    name: Option<String>,
}

/// Three numbers with commas between them.
fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(str::parse).collect();
    numbers
        .ok()
        .and_then(|n| <[f32; 3]>::try_from(n).ok())
        .ok_or_else(|| "three numbers, as in 0.5,0.5,0.5".into())
}

impl Distil {
    fn options(&self, fixed: bool) -> Options {
        let sizes = Sizes {
            width: self.width,
            layers: self.layers,
            vv_layers: self.vv_layers,
            patch: self.patch,
            side: self.image_size,
            joint: self.joint,
        };
        let half_more = self.image_size * 3 / 2 / self.patch.max(1) * self.patch;
        let large = self.large.unwrap_or(if fixed { 0 } else { half_more });
        Options {
            sizes,
            batch: self.batch.unwrap_or(match self.device {
                DeviceKind::Cpu => 32,
                DeviceKind::Cuda(_) | DeviceKind::Wgpu => 256,
            }),
            large,
            lr: self.lr,
            views: self.views,
            length: match self.steps {
                Some(steps) => Length::Steps(steps),
                None => Length::Minutes(self.minutes),
            },
            seed: self.seed,
            products: self.products.unwrap_or(self.device.products()),
            photo_side: self.photo_side,
            stop_after: self.stop_after,
            piece: self.piece,
            save_every: self.save_every.max(0.0),
            memory_blocks: self.memory_blocks.clone(),
        }
    }

    fn teachers(&self, side: usize, usual: Option<&Teachers>) -> Result<Teachers, TrainError> {
        let grid = |side: usize| side / self.patch.max(1);
        let usual = usual.map(|t| (t, grid(self.image_size)));
        let views = (side, grid(side));
        Teachers::load(&self.teacher, &self.mean, &self.std, views, usual)
    }

    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        // What is wrong with the options is said before anything is read.
        self.options(false).check()?;
        for teacher in &self.teacher {
            refuse_twice(
                &format!("--teacher {}", teacher.path.display()),
                &teacher.taps,
            )?;
        }
        let teachers = self.teacher.iter().map(|t| Some(t.path.as_path()));
        refuse_own_inputs(&[("--out", Some(&self.out))], teachers)?;
        let device = self.device.open()?;
        // An hour of learning later it would be too late to say so; where the folder is missing, the run's makes it.
        can_all_be_written(Some(&self.out).filter(|out| out.exists()))?;
        let run = run_folder(&self.out);
        let _held = Lock::hold(&run)?;
        can_all_be_written([&self.out])?;
        let usual = self.teachers(self.image_size, None)?;
        usual.about().iter().for_each(say);
        for note in &usual.assumed {
            warn(format_args!("assumed: {note}"));
        }
        let options = self.options(usual.is_fixed());
        options.check()?;
        let large = match options.large {
            0 => None,
            side => Some(self.teachers(side, Some(&usual))?),
        };
        let stop = Interrupt::catch()?;
        let photos = self.photos(&options, stop)?;
        let cache = self.cache.clone().unwrap_or_else(|| cache_folder("taught"));
        let place = Place {
            folder: &run,
            resume: self.resume,
            cache: (&cache, (self.cache_gb.max(0.0) * 1e9) as u64),
        };
        let given = Given {
            photos: &photos,
            teachers: &usual,
            large: large.as_ref().unwrap_or(&usual),
        };
        let mut lines = Lines::new(&run);
        let done = distil(&options, &given, &place, &device, stop, |step| {
            lines.step(step);
        })?;
        lines.end()?;
        self.write(&options, &usual, &done)?;
        match done.stopped {
            None => Ok(ExitCode::Good),
            Some(why) => Err(why),
        }
    }

    fn photos(&self, options: &Options, stop: Interrupt) -> Result<Photos, TrainError> {
        let clock = Instant::now();
        let bar = bar(0, "photos");
        let (side, seed) = (options.photo_side, options.seed);
        let photos = Photos::load(&self.photos, self.rendered, side, seed, stop, &bar)?;
        bar.finish_and_clear();
        say(format_args!(
            "{} photos, {} of them rendered, in {:.1} s; {} left out",
            photos.squares.len(),
            self.rendered,
            clock.elapsed().as_secs_f64(),
            photos.broken
        ));
        Ok(photos)
    }

    /// Writes what the run is for.
    fn write(&self, options: &Options, teachers: &Teachers, done: &Done) -> Result<(), TrainError> {
        let record = &done.record;
        let mut sources = teachers.digests();
        sources.insert("photos".into(), record.photos.clone());
        let so_far = format!("{} views in {} steps", record.seen, record.step);
        if is_weights(&self.out) {
            save_tower(&done.visual, self.vv_layers, &sources, &self.out)?;
            say(format_args!("{}: {so_far}", self.out.display()));
            return Ok(());
        }
        let teachers: Vec<String> = (self.teacher.iter())
            .map(|t| {
                t.path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into()
            })
            .collect();
        let bundle = ExportOptions {
            name: self.name.clone(),
            memory: memory_taps(&options.memory_blocks, Some(options.sizes.layers))?,
            precision: self.precision,
            description: format!("distilled from {}, {so_far}", teachers.join(", ")),
            trained: record.step > 0,
            ..ExportOptions::plain(1)
        };
        let made = export(&done.visual, &options.sizes, sources, &bundle, &self.out)?;
        say(format_args!(
            "{}: {:.1} MB, {:?}, {so_far}, good parts are compared by {}; now `faprompt-edge teach GOOD/ --bundle {} --out FILE`",
            self.out.display(),
            made.bytes as f64 / 1e6,
            made.manifest.precision,
            made.manifest
                .memory_taps()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            self.out.display(),
        ));
        Ok(())
    }
}

/// The folder of the run whose result is `out`.
fn run_folder(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_os_string();
    name.push(".run");
    name.into()
}

/// Whether the encoder's weights are wanted and no bundle.
fn is_weights(out: &Path) -> bool {
    out.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

/// What is reported of a run while it goes on: a bar on a terminal, a line now and then, the same in the run's log.
struct Lines {
    bar: indicatif::ProgressBar,
    log: Checkpoint,
    wrong: Result<(), TrainError>,
    clock: Instant,
    /// Since the last line: sums of the terms, steps, views, seconds of views and of the student.
    terms: Vec<(String, f64)>,
    steps: usize,
    views: usize,
    seconds: [f64; 2],
    seen: Option<usize>,
    due: serde_json::Value,
    line: String,
}

impl Lines {
    fn new(run: &Path) -> Lines {
        Lines {
            bar: bar(1000, "distil"),
            log: Checkpoint::new(run),
            wrong: Ok(()),
            clock: Instant::now(),
            terms: vec![],
            steps: 0,
            views: 0,
            seconds: [0.0; 2],
            seen: None,
            due: serde_json::Value::Null,
            line: String::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        let (record, first) = (step.record, self.seen.is_none());
        self.bar.set_position((1000.0 * step.part) as u64);
        self.views += record.seen - self.seen.unwrap_or(record.seen);
        self.seen = Some(record.seen);
        if self.terms.is_empty() {
            self.terms = step.terms.iter().map(|(n, _)| (n.clone(), 0.0)).collect();
        }
        let sums = self.terms.iter_mut().zip(step.terms);
        sums.for_each(|((_, sum), (_, v))| *sum += v);
        self.steps += 1;
        for (sum, v) in self.seconds.iter_mut().zip(step.seconds) {
            *sum += v;
        }
        let seconds = self.clock.elapsed().as_secs_f64();
        let means: Vec<(String, f64)> = (self.terms.iter())
            .map(|(n, sum)| (n.clone(), sum / self.steps as f64))
            .collect();
        let text: Vec<String> = means.iter().map(|(n, v)| format!("{n} {v:.4}")).collect();
        let speed = self.views as f64 / seconds;
        let share = self.seconds[0] / (self.seconds[0] + self.seconds[1]).max(1e-9);
        let terms: serde_json::Map<String, serde_json::Value> =
            means.into_iter().map(|(n, v)| (n, v.into())).collect();
        self.due = serde_json::json!({
            "step": record.step, "seen": record.seen, "minutes": record.spent / 60.0, "part": step.part,
            "side": step.side, "terms": terms, "views_per_s": speed, "share_of_views": share,
        });
        self.line = format!(
            "step {:5}  {} views  {:.1} %  {}  {speed:.1} views/s ({:.0} % of the time views and teachers)",
            record.step,
            record.seen,
            100.0 * step.part,
            text.join("  "),
            100.0 * share,
        );
        if first || seconds >= LINE {
            self.put(!first);
        }
    }

    /// Writes the line that is due into the log, and says it.
    fn put(&mut self, said: bool) {
        if self.line.is_empty() {
            return;
        }
        if self.wrong.is_ok() {
            self.wrong = self.log.log(&self.due);
        }
        if said {
            self.bar.suspend(|| say(&self.line));
        }
        (self.terms, self.steps, self.views) = (vec![], 0, 0);
        (self.seconds, self.clock) = ([0.0; 2], Instant::now());
        self.line.clear();
    }

    /// The line that was not yet due.
    fn end(mut self) -> Result<(), TrainError> {
        self.put(true);
        self.bar.finish_and_clear();
        self.wrong
    }
}
