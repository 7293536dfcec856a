//! `faprompt-train evaluate`.

use crate::fit::open_cache;
use crate::given::Given;
use crate::method::MethodArguments;
use crate::report::{Reporter, can_all_be_written, can_be_written, refuse_own_inputs};
use crate::samples::{MaskOptions, refuse_same_set};
use crate::weights::WeightOptions;
use clap::{Args, ValueEnum};
use faprompt_edge::bundle::envelope::hex;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::{CutError, Inspector, Options, cores};
use faprompt_edge::memory::{Fusion, Kind, Views, refuse_options};
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::report::{say, warn};
use faprompt_edge::tiling::Tiling;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets::{self, DataSet, Sample};
use faprompt_edge::train::evaluate::{self, Judged};
use faprompt_edge::train::export::ExportOptions;
use faprompt_edge::train::few_shot::{FewShots, Plan, Shots};
use faprompt_edge::train::fit::checkpoint::Record;
use faprompt_edge::train::fit::encode::{Encoder, fill};
use faprompt_edge::train::fit::judge::judge;
use faprompt_edge::train::fit::{self, Encoded, Masks};
use faprompt_edge::train::methods::blip::Blip;
use faprompt_edge::train::methods::fit::chooses_vv_layers;
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::methods::{self, MethodOptions};
use faprompt_edge::train::nn::DeviceKind;
use faprompt_edge::train::progress::{Interrupt, bar};
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::shard::{About, Data, Part, Shard};
use faprompt_edge::train::tensors::{Tensors, file_digest};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The bundle inside `faprompt-edge`, and what it is called by.
static BUILT_IN: &[u8] = include_bytes!(env!("DEFAULT_BUNDLE"));
const BUILT_IN_NAME: &str = "built-in";

/// Arguments of `evaluate`.
#[derive(Args)]
pub struct Evaluate {
    /// The bundle; `built-in`: the one inside faprompt-edge. All that it was exported with stands in it
    #[arg(long, required_unless_present_any = ["prompts", "clip"], conflicts_with_all = [
        "prompts", "clip", "method", "class", "templates", "stages", "temperature", "positions", "class_position", "types",
        "image_size", "vv_layers", "adaptation_steps", "cache", "cache_gb", "clip_config", "prefix", "activation", "heads",
        "epsilon", "mean", "std", "interpolation", "ignore",
    ])]
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
    #[arg(
        long,
        value_name = "cpu|cuda[:N]|wgpu",
        default_value = "cpu",
        conflicts_with = "bundle"
    )]
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
    #[arg(long, value_enum, default_value = "auto")]
    arithmetic: Arithmetic,
    /// Teach the bundle so many good pictures of each set and judge the others: numbers, or `all`; with commas
    /// between them
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["prompts", "clip"])]
    shots: Vec<Shots>,
    /// How often each, with other good pictures
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000), requires = "shots", conflicts_with = "clip")]
    draws: u32,
    /// Which pictures are drawn
    #[arg(long, default_value_t = 1, requires = "shots", conflicts_with = "clip")]
    seed: u64,
    /// The kind of memory, or `auto`: combined, and position of a single picture
    #[arg(long, default_value = "auto", value_parser = kind, requires = "shots", conflicts_with = "clip")]
    memory: MemoryKind,
    /// How the memory's score and FAPrompt's become one
    #[arg(
        long,
        value_enum,
        default_value = "hand-over",
        requires = "shots",
        conflicts_with = "clip"
    )]
    fusion: Fusion,
    #[command(flatten)]
    views: Views,
    /// Leave pixel figures out of what is taught: they take most of the time
    #[arg(long, requires = "shots", conflicts_with = "clip")]
    without_pixels: bool,
    /// Cut each picture into rows x columns of tiles, as in 2x3, each encoded at full size; 2x3+20 has tiles lie over
    /// each other by 20 % of their side [default overlap: 10 %]
    #[arg(
        long,
        value_name = "RxC",
        default_value = "1x1",
        conflicts_with = "clip"
    )]
    tiles: Tiling,
    /// Write figures and the score of every picture to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a report for people to this file: one HTML page with tables, curves and pictures
    #[arg(long)]
    html: Option<PathBuf>,
    /// Judge the I-th of N shares of the pictures and keep what came of it in --shards, for `merge`
    #[arg(long, value_name = "I/N", requires = "shards")]
    shard: Option<Shard>,
    /// Folder of the shares, the same for all of them
    #[arg(long, value_name = "DIR", requires = "shard")]
    shards: Option<PathBuf>,
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
    /// BLIP, which has weights of its own kind, by the trainer's code.
    Blip {
        blip: Box<Blip>,
        asked: Box<MethodOptions>,
    },
}

impl Judge {
    /// Reads what was named; returns what to call it and a warning that its outputs must carry.
    fn open(
        a: &Evaluate,
        given: &Given,
    ) -> Result<(Judge, String, Option<&'static str>), TrainError> {
        if let Some(path) = &a.bundle {
            let bundle = match path == Path::new(BUILT_IN_NAME) {
                true => Bundle::built_in(BUILT_IN, &Keys::default()),
                false => Bundle::open(path, &Keys::default()),
            };
            let bundle = bundle.map_err(|e| TrainError::of_bundle(path, e))?;
            let method = bundle.manifest().method_name();
            if method != Method::Faprompt {
                let why = format!("means nothing to a bundle of method {method}");
                given.refuse(&["--adaptation"], &why)?;
            }
            let own_form = method.has_few_shot_form() && !a.shots.is_empty();
            if own_form {
                refuse_options(method, (a.memory.0, a.fusion, a.views), &[])
                    .map_err(|e| TrainError::Options(e.to_string()))?;
            }
            if own_form && !a.tiles.is_whole() {
                let refused = CutError::GoodParts(method);
                return Err(TrainError::Options(format!("--tiles: {refused}")));
            }
            let options = Options {
                adaptation: a.adaptation,
                threads: a.threads.unwrap_or(cores()),
                arithmetic: a.arithmetic,
                memory: !a.shots.is_empty() && !own_form,
                ..Options::default()
            };
            let mut inspector = Inspector::new(&bundle, options)?;
            let refused = |e: CutError| TrainError::Options(format!("--tiles: {e}"));
            inspector.cut(a.tiles).map_err(refused)?;
            if inspector.is_untaught() && a.shots.is_empty() {
                return Err(TrainError::Options(format!(
                    "{}: this bundle has no words to judge by, it compares parts with good ones: --shots 4,16 teaches it some of each set",
                    path.display()
                )));
            }
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
        if asked.method == Method::Memory {
            let what = "--method memory compares parts with good ones: export a bundle, then evaluate --bundle B --shots 4,16";
            return Err(TrainError::Options(what.into()));
        }
        let path = a.clip.as_ref().ok_or_else(|| {
            TrainError::Options(format!("--method {} needs --clip", asked.method))
        })?;
        let name = format!("{} on {}", asked.method, path.display());
        if asked.method == Method::Blip {
            if let Some(path) = &a.prompts {
                return Err(TrainError::Options(format!(
                    "--prompts {}: --method blip learns nothing",
                    path.display()
                )));
            }
            let blip = Box::new(a.weights.load_blip(path, &a.device.open()?)?);
            let asked = Box::new(asked);
            return Ok((Judge::Blip { blip, asked }, name, None));
        }
        let clip = a.weights.load(path)?;
        asked.assumed(&clip).iter().for_each(warn);
        let learned = match &a.prompts {
            None => None,
            // It reads its own.
            Some(_) if asked.method == Method::Filo => None,
            Some(path) => Some(Box::new(Learned::load(path, asked.method, &clip)?)),
        };
        let options = ExportOptions {
            image_size: a.image_size,
            vv_layers: a.vv_layers,
            ..ExportOptions::plain(a.threads.unwrap_or(cores()))
        };
        let judge = Judge::Method {
            clip: Box::new(clip),
            asked: Box::new(asked),
            learned,
            options: Box::new(options),
        };
        Ok((judge, name, None))
    }

    /// What tells it from another judge: digests and options.
    fn key(&self, a: &Evaluate) -> Result<String, TrainError> {
        let digest = |path: &Option<PathBuf>| match path {
            None => Ok(String::new()),
            Some(path) if path == Path::new(BUILT_IN_NAME) => Ok(hex(&Sha256::digest(BUILT_IN))),
            Some(path) => file_digest(path).map_err(|e| TrainError::Data {
                path: path.clone(),
                what: e.to_string(),
            }),
        };
        let (bundle, prompts) = (digest(&a.bundle)?, digest(&a.prompts)?);
        let (clip, asked) = match self {
            Judge::Device(_) => (String::new(), None),
            Judge::Trainer { clip, .. } => (clip.digest.clone(), None),
            Judge::Method { clip, asked, .. } => (clip.digest.clone(), Some(asked)),
            Judge::Blip { blip, asked } => (blip.digest.clone(), Some(asked)),
        };
        Ok(format!(
            "{bundle} {clip} {prompts} {asked:?} {:?} {:?} {:?} {:?} {} {}",
            a.image_size, a.vv_layers, a.adaptation, a.arithmetic, a.adaptation_steps, a.tiles
        ))
    }

    /// The types of defects that it tells apart.
    fn types(&self) -> Result<Vec<String>, TrainError> {
        Ok(match self {
            Judge::Device(inspector) => {
                let method = inspector.manifest().method.as_ref();
                method.map_or_else(Vec::new, |m| m.types.clone())
            }
            Judge::Method { asked, learned, .. } if asked.method == Method::Dapo => match learned {
                Some(learned) => methods::options::types(asked, learned)?,
                None => vec![],
            },
            Judge::Method { .. } | Judge::Trainer { .. } | Judge::Blip { .. } => vec![],
        })
    }

    /// Above it the bundle rejects.
    fn threshold(&self) -> f32 {
        match self {
            Judge::Device(inspector) => inspector.manifest().scores.threshold,
            Judge::Trainer { .. } | Judge::Method { .. } | Judge::Blip { .. } => 0.5,
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
            Judge::Blip { blip, asked } => {
                methods::blip::judge::judge(blip, asked, a.image_size, samples, &bar)?
            }
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
                options,
                ..
            } if asked.method == Method::Filo => {
                let device = a.device.open()?;
                let path = a.prompts.as_deref().ok_or_else(|| {
                    TrainError::Options("--method filo needs --prompts: its checkpoint".into())
                })?;
                let learned = Tensors::load(path).map_err(|e| TrainError::Prompts {
                    path: path.into(),
                    what: e.to_string(),
                })?;
                let judge = methods::filo::judge::judge;
                judge(clip, &learned, asked, options, &device, samples, &bar)?
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
                let (mut judged, mut failed) = judge(
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
                judged.iter_mut().for_each(Judged::look);
                (judged, failed)
            }
        };
        bar.finish_and_clear();
        Ok(result)
    }
}

impl Evaluate {
    /// Refuses options that change nothing of how this is judged.
    fn refuse_idle(&self, given: &Given) -> Result<(), TrainError> {
        let method = self.method.method;
        if self.shots.is_empty() {
            let views = ["--rotations", "--brightness"];
            given.refuse(
                &views,
                "means nothing without --bundle and --shots: nothing is taught",
            )?;
        }
        if self.bundle.is_some() {
            return Ok(());
        }
        // What --method has switches for is seen to there; these are the others.
        if method == Method::Faprompt {
            let learned = ["--image-size", "--vv-layers"];
            given.refuse(
                &learned,
                "stands in the record of --prompts, which are judged as they were learned; to choose another: `export`, then evaluate --bundle",
            )?;
            given.refuse(
                &["--adaptation", "--arithmetic", "--threads"],
                "means nothing to prompts that are not exported: `export` them, then evaluate --bundle",
            )?;
        } else {
            let (means_nothing, host) = (
                format!("means nothing to --method {method}"),
                matches!(method, Method::Anovl | Method::Filo | Method::Blip),
            );
            for (option, means) in [
                ("--adaptation", false),
                ("--cache", false),
                ("--cache-gb", false),
                ("--vv-layers", chooses_vv_layers(method)),
                ("--arithmetic", !host),
                ("--threads", method != Method::Blip),
                ("--device", matches!(method, Method::Filo | Method::Blip)),
            ] {
                if !means {
                    given.refuse(&[option], &means_nothing)?;
                }
            }
        }
        match method {
            Method::Anovl => Ok(()),
            _ => given.refuse(&["--adaptation-steps"], "belongs to --method anovl"),
        }
    }

    /// Refuses what a share cannot have.
    fn refuse_beside_shard(&self) -> Result<(), TrainError> {
        let what = match self.shard {
            Some(_) if !self.shots.is_empty() => {
                "--shots with --shard: what is taught judges all other pictures of a set, so that shares cannot be put together; leave --shard out, or divide the sets between the machines"
            }
            Some(_) if self.json.is_some() || self.html.is_some() => {
                "--json and --html with --shard: a share has no figures; give them to `merge` once all shares are there"
            }
            _ => return Ok(()),
        };
        Err(TrainError::Options(what.into()))
    }

    /// Runs the command.
    pub fn run(&self, given: &Given) -> Result<ExitCode, TrainError> {
        self.method.options()?;
        self.refuse_idle(given)?;
        self.refuse_beside_shard()?;
        refuse_same_set(&self.data)?;
        let named = [&self.bundle, &self.clip, &self.prompts].map(Option::as_deref);
        let inputs = named
            .into_iter()
            .chain(self.data.iter().map(|d| Some(d.as_path())));
        let results = [
            ("--json", self.json.as_ref()),
            ("--html", self.html.as_ref()),
        ];
        refuse_own_inputs(&results, inputs)?;
        can_all_be_written([&self.json, &self.html].into_iter().flatten())?;
        let (mut judge, name, warning) = Judge::open(self, given)?;
        warning.iter().for_each(warn);
        let plan = Plan {
            shots: self.shots.clone(),
            draws: self.draws as usize,
            seed: self.seed,
            kind: self.memory.0,
            fusion: self.fusion,
            views: self.views,
            pixels: !self.without_pixels,
        };
        // Every set is read before the first is judged: a mistake in the last one costs no hours.
        let sets = self
            .data
            .iter()
            .map(|path| self.masks.read(path))
            .collect::<Result<Vec<_>, _>>()?;
        let about = About {
            key: judge.key(self)?,
            bundle: name,
            warning: warning.map(Into::into),
            threshold: judge.threshold(),
            tiles: self.tiles,
            types: judge.types()?,
        };
        if let Some(shard) = self.shard {
            return self.one_shard(shard, &mut judge, about, sets);
        }
        let mut report = Reporter::new(about, self.json.clone(), self.html.clone());
        for (path, set) in self.data.iter().zip(sets) {
            let (judged, failed) = judge.run(self, path, set.samples)?;
            let data = Data {
                path: path.clone(),
                left_out: set.left_out,
                notes: set.notes,
            };
            report.set(data, &judged, failed, || {
                match (&mut judge, plan.shots.is_empty()) {
                    (Judge::Device(inspector), false) => {
                        let train = datasets::train(path)?;
                        FewShots::new(inspector, &plan).run(&judged, &train)
                    }
                    _ => Ok(vec![]),
                }
            })?;
        }
        report.finish()
    }

    /// Judges this machine's share, and keeps it for `merge`.
    fn one_shard(
        &self,
        shard: Shard,
        judge: &mut Judge,
        about: About,
        sets: Vec<DataSet>,
    ) -> Result<ExitCode, TrainError> {
        let folder = self.shards.as_deref().unwrap_or(Path::new("."));
        // Hours of judging later it would be too late to say so.
        std::fs::create_dir_all(folder)
            .and_then(|()| can_be_written(&shard.path(folder)))
            .map_err(|source| TrainError::Output {
                path: folder.into(),
                source,
            })?;
        let (mut data, mut parts) = (vec![], vec![]);
        for (path, set) in self.data.iter().zip(sets) {
            data.push(Data {
                path: path.clone(),
                left_out: set.left_out,
                notes: set.notes,
            });
            let digest = datasets::digest(&set.samples);
            let own: Vec<(usize, Sample)> = shard.of(set.samples.into_iter().enumerate()).collect();
            let samples = own.iter().map(|(_, sample)| sample.clone()).collect();
            let (judged, failed) = judge.run(self, path, samples)?;
            parts.push(Part::new(digest, &own, judged, failed));
        }
        let failed = parts.iter().any(Part::has_failed);
        let path = shard.save(folder, about, data, parts)?;
        say(format_args!(
            "{}: now `merge {}` once all {} are there",
            path.display(),
            folder.display(),
            shard.count()
        ));
        Ok(match failed {
            true => ExitCode::SomeInputsFailed,
            false => ExitCode::Good,
        })
    }
}
