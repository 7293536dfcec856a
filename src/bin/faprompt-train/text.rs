//! `faprompt-train text`.

use crate::report::{can_all_be_written, refuse_own_inputs};
use crate::samples::{MaskOptions, refuse_same_set};
use clap::Args;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::distil::text::directions::Judged;
use faprompt_edge::train::distil::text::lock::{Tower, leave_out};
use faprompt_edge::train::distil::text::seen::Set;
use faprompt_edge::train::distil::text::{Given, News, Options, Place, text};
use faprompt_edge::train::fit::checkpoint::Checkpoint as Lock;
use faprompt_edge::train::nn::DeviceKind;
use faprompt_edge::train::progress::Interrupt;
use faprompt_edge::train::pull::cache_folder;
use std::path::PathBuf;
use std::time::Instant;

/// Seconds between two lines.
const LINE: f64 = 10.0;

/// Arguments of `text`.
#[derive(Args)]
pub struct Text {
    /// An image encoder that `distil` wrote, with the ending .safetensors
    #[arg(value_name = "TOWER.safetensors")]
    tower: PathBuf,
    /// Labelled sets: folders with AnomalyCLIP's meta.json, or any other layout that `fit` reads
    #[arg(long, required_unless_present = "rendered_sets", num_args = 1.., value_name = "FOLDER")]
    sets: Vec<PathBuf>,
    /// Labelled sets whose pictures are rendered
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    rendered_sets: Vec<PathBuf>,
    /// A table of photos of things, two columns without a header: label, path
    #[arg(long, required_unless_present = "leave_out", value_name = "TABLE.csv")]
    labels: Option<PathBuf>,
    /// Both encoders as a CLIP's weights, for `fit` and `export`. The run is kept beside it, in a folder of its name with
    /// `.run` behind it
    #[arg(
        long,
        required_unless_present = "leave_out",
        value_name = "CLIP.safetensors"
    )]
    out: Option<PathBuf>,
    /// Go on with the run that is kept there
    #[arg(long)]
    resume: bool,
    /// Only judge: each set that is not rendered, by what all others teach. Nothing is written
    #[arg(long, conflicts_with_all = ["labels", "out", "resume"])]
    leave_out: bool,
    /// Pictures of a set that is not rendered, chosen by chance
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    cap: u32,
    #[command(flatten)]
    masks: MaskOptions,
    /// Take masks that mark nothing, or more than 80 % of their picture, as they are
    #[arg(long)]
    accept_masks: bool,
    /// Photos of a label, chosen by chance
    #[arg(long, default_value_t = 5)]
    each: usize,
    /// The part of rendered pictures in a batch, where there are rendered sets and others
    #[arg(long, default_value_t = 0.85)]
    rendered_part: f64,
    /// Blocks of the text encoder
    #[arg(long, default_value_t = 3)]
    layers: usize,
    /// Its steps
    #[arg(long, default_value_t = 1000)]
    steps: usize,
    /// Texts of a step
    #[arg(long, default_value_t = 48)]
    batch: usize,
    /// Peak of its learning rate
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Of every random number
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Stop after this many steps of the text encoder; go on later with --resume
    #[arg(long, value_name = "STEPS")]
    stop_after: Option<usize>,
    /// Minutes between checkpoints
    #[arg(long, default_value_t = 1.0, value_name = "MINUTES")]
    save_every: f64,
    /// Folder for what the encoder saw [default: the user's cache folder]
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Gigabytes that it may take
    #[arg(long, default_value_t = 20.0)]
    cache_gb: f64,
    /// Where the encoders compute
    #[arg(long, value_name = "cpu|cuda[:N]|wgpu", default_value = "cpu")]
    device: DeviceKind,
}

impl Text {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let options = self.options();
        // What is wrong with the options is said before anything is read.
        options.check()?;
        let inputs = [Some(self.tower.as_path()), self.labels.as_deref()];
        refuse_own_inputs(&[("--out", self.out.as_ref())], inputs)?;
        refuse_same_set(&[&self.sets[..], &self.rendered_sets].concat())?;
        // What it sees takes long; where the folder is missing, the run's makes it.
        can_all_be_written(self.out.as_ref().filter(|out| out.exists()))?;
        let device = self.device.open()?;
        let tower = Tower::load(&self.tower)?;
        let stop = Interrupt::catch()?;
        let both = [(&self.sets, false), (&self.rendered_sets, true)];
        let all = both
            .into_iter()
            .flat_map(|(paths, rendered)| paths.iter().map(move |p| (p, rendered)));
        let sets: Result<Vec<Set>, TrainError> = all
            .map(|(path, rendered)| {
                let cap = if rendered {
                    usize::MAX
                } else {
                    self.cap as usize
                };
                let samples = self.masks.read(path)?.samples;
                Set::new(path, samples, rendered, (cap, self.seed), self.accept_masks)
            })
            .collect();
        let given = Given {
            tower: &tower,
            sets: &sets?,
            labels: self.labels.as_deref().unwrap_or(&self.tower),
        };
        let folder = self.cache.clone().unwrap_or_else(|| cache_folder("seen"));
        let cache = (folder.as_path(), (self.cache_gb.max(0.0) * 1e9) as u64);
        let mut lines = Lines::new(self.steps);
        let (Some(out), false) = (&self.out, self.leave_out) else {
            let judged = leave_out(&options, &given, cache, &device, stop, |news| {
                lines.put(&news)
            });
            judged.map_err(TrainError::of_a_command_that_goes_on)?;
            return Ok(ExitCode::Good);
        };
        let mut run = out.as_os_str().to_os_string();
        run.push(".run");
        let run = PathBuf::from(run);
        let _held = Lock::hold(&run)?;
        can_all_be_written([out])?;
        let place = Place {
            folder: &run,
            resume: self.resume,
            cache,
        };
        let done = text(&options, &given, &place, &device, stop, |news| {
            lines.put(&news)
        })?;
        done.clip.save(out)?;
        let out = out.display();
        say(format_args!(
            "{out}: a CLIP, its text encoder after {} steps",
            done.step
        ));
        match done.stopped {
            None => Ok(ExitCode::Good),
            Some(why) => Err(why),
        }
    }

    fn options(&self) -> Options {
        Options {
            each: self.each,
            rendered_part: self.rendered_part,
            layers: self.layers,
            steps: self.steps,
            batch: self.batch,
            lr: self.lr,
            seed: self.seed,
            stop_after: self.stop_after,
            save_every: self.save_every.max(0.0),
        }
    }
}

/// What is reported of a run.
struct Lines {
    steps: usize,
    clock: Instant,
    /// Since the last line: the sum of losses, and how many.
    losses: (f64, usize),
}

/// An AUROC of 0..=1 in percent.
fn percent(auroc: Option<f64>) -> String {
    auroc.map_or("-".into(), |v| format!("{:.1}", 100.0 * v))
}

impl Lines {
    fn new(steps: usize) -> Lines {
        Lines {
            steps,
            clock: Instant::now(),
            losses: (0.0, 0),
        }
    }

    fn put(&mut self, news: &News) {
        match news {
            News::Looked {
                pictures,
                broken,
                seconds,
            } => say(format_args!(
                "{pictures} labelled pictures in {seconds:.1} s; {broken} left out"
            )),
            News::LeftOut(
                name,
                Judged {
                    score,
                    image,
                    largest,
                    patches,
                },
            ) => say(format_args!(
                "without {name}: image AUROC {}, of the image feature {}, of the largest patch {}; AUROC of patches {}",
                percent(*score),
                percent(*image),
                percent(*largest),
                percent(*patches)
            )),
            News::Directions {
                patches,
                images,
                agreed,
            } => say(format_args!(
                "length of the patches' direction {patches:.1}, of the pictures' {images:.1}; the image feature answers along \
                 the first as along the second: correlation {agreed:.3}"
            )),
            News::Named {
                photos,
                things,
                kinds,
            } => say(format_args!(
                "{photos} photos of {things} things; {} kinds of damage: {}",
                kinds.len(),
                kinds.join(", ")
            )),
            News::Step(step, loss) => {
                self.losses = (self.losses.0 + f64::from(*loss), self.losses.1 + 1);
                let due = *step == 1 || *step == self.steps;
                if due || self.clock.elapsed().as_secs_f64() >= LINE {
                    let mean = self.losses.0 / self.losses.1 as f64;
                    say(format_args!("step {step:5}  loss {mean:.4}"));
                    (self.losses, self.clock) = ((0.0, 0), Instant::now());
                }
            }
            News::Cosine(text, cosine) => {
                say(format_args!(
                    "\"{text}\" meets its direction with a cosine of {cosine:.3}"
                ));
            }
        }
    }
}
