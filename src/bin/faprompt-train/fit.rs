//! `faprompt-train fit`.

use crate::given::Given;
use crate::ground::MethodGround;
use crate::method::MethodArguments;
use crate::samples::{MaskOptions, samples, to_learn_from, with_masks};
use crate::weights::WeightOptions;
use clap::Args;
use faprompt_edge::bundle::manifest::{ScoreRule, Selection};
use faprompt_edge::bundle::method::Method;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::cores;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets::Sample;
use faprompt_edge::train::fit::cache::Cache;
use faprompt_edge::train::fit::checkpoint::{Checkpoint, PROMPTS};
use faprompt_edge::train::fit::encode::{Encoder, fill};
use faprompt_edge::train::fit::variant::{Aggregation, PriorSource, Variant};
use faprompt_edge::train::fit::{Encoded, Epoch, Masks, Options, Start, fit, refuse_one_kind};
use faprompt_edge::train::methods::weights::Weights;
use faprompt_edge::train::methods::{self, MethodOptions};
use faprompt_edge::train::nn::{DeviceKind, Products};
use faprompt_edge::train::progress::{Interrupt, bar};
use faprompt_edge::train::pull::cache_folder;
use faprompt_edge::train::shard::Shard;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Options that `export` needs again, for no record holds them or its own must be the same.
const OF_EXPORT: [&str; 13] = [
    "--class",
    "--class-position",
    "--temperature",
    "--positions",
    "--clip-config",
    "--prefix",
    "--activation",
    "--heads",
    "--epsilon",
    "--mean",
    "--std",
    "--interpolation",
    "--ignore",
];

/// What `fit` and `ablate` share.
#[derive(Args)]
pub struct Learning {
    /// CLIP weights, as for `export`
    #[arg(long, required_unless_present = "weights")]
    clip: Option<PathBuf>,
    /// Weights of an image encoder without text, instead of --clip, as for `export`: with --method heads
    #[arg(long, value_name = "PATH", conflicts_with_all = ["clip", "vv_layers"])]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub about: WeightOptions,
    /// Epochs [default: 15; coop 200, cocoop 10, dapo 5]
    #[arg(long)]
    epochs: Option<usize>,
    /// Pictures per step [default: 8; coop 32, cocoop 1]
    #[arg(long)]
    batch: Option<usize>,
    /// Learning rate [default: 0.001; coop, cocoop 0.002]
    #[arg(long)]
    lr: Option<f64>,
    /// What the prompts begin with
    #[arg(long, value_enum, default_value = "random")]
    start: Start,
    /// Of the first numbers and the order of pictures
    #[arg(long, default_value_t = 111)]
    seed: u64,
    /// Patches that feed the prior: the most abnormal ones, or the first (as the published code does)
    #[arg(long, value_enum, default_value = "paper")]
    selection: Selection,
    /// How the maxima of both score maps are combined
    #[arg(long, value_enum, default_value = "code")]
    score_rule: ScoreRule,
    /// K: abnormal prompts
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// M: patches that feed the prior
    #[arg(long, default_value_t = 10)]
    m: usize,
    /// E: normal tokens [default: 5; anomalyclip 12, coop 16, cocoop 4]
    #[arg(long)]
    e: Option<usize>,
    /// E': abnormal tokens
    #[arg(long, default_value_t = 2)]
    ea: usize,
    /// Text blocks with a deep prompt [default: 8, or all but the first of a shallower encoder]
    #[arg(long)]
    deep_blocks: Option<usize>,
    /// Tokens of a deep prompt
    #[arg(long, default_value_t = 4)]
    deep_length: usize,
    /// Side of the input in pixels [default: 518 for ViT-L/14@336, else the weights' own]
    #[arg(long)]
    image_size: Option<usize>,
    /// Blocks with the V-V stream [default: as trained, else 19 of 24, in proportion]
    #[arg(long)]
    vv_layers: Option<usize>,
    /// Folder for the pictures' features [default: the user's cache folder]
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Gigabytes that the features may take
    #[arg(long, default_value_t = 20.0)]
    cache_gb: f64,
    #[command(flatten)]
    pub masks: MaskOptions,
    /// Take masks that mark nothing, or more than 80 % of their picture, as they are
    #[arg(long)]
    pub accept_masks: bool,
    /// Where to compute
    #[arg(long, value_name = "cpu|cuda[:N]|wgpu", default_value = "cpu")]
    pub device: DeviceKind,
    /// The numbers of matrix products [default: f32 on a CPU, bf16 on a GPU]
    #[arg(long, value_enum)]
    products: Option<Products>,
}

impl Learning {
    /// K, the number of fine-grained abnormality prompts.
    pub fn prompts(&self) -> usize {
        self.k
    }

    /// The CLIP that `method` needs.
    fn load_clip(&self, method: Method) -> Result<Clip, TrainError> {
        match &self.clip {
            Some(path) => self.about.load(path),
            None => Err(TrainError::Options(format!(
                "--method {method} needs a text encoder (--clip): --weights without text learn --method heads alone"
            ))),
        }
    }

    /// The option that the weights were named by.
    fn named(&self) -> String {
        match (&self.clip, &self.weights) {
            (Some(path), _) => format!("--clip {}", path.display()),
            (_, Some(path)) => format!("--weights {}", path.display()),
            _ => String::new(),
        }
    }

    /// Weights and options, with every default filled in.
    pub fn resolve(&self) -> Result<(Clip, Options), TrainError> {
        let clip = self.load_clip(Method::Faprompt)?;
        let paper = Options::paper(&clip);
        let options = Options {
            variant: Variant::default(),
            selection: self.selection,
            rule: self.score_rule,
            normal_tokens: self.e.unwrap_or(paper.normal_tokens),
            abnormal_tokens: self.ea,
            prompts: self.k,
            patches: self.m,
            deep_blocks: self.deep_blocks.unwrap_or(paper.deep_blocks),
            deep_length: self.deep_length,
            epochs: self.epochs.unwrap_or(paper.epochs),
            batch: self.batch.unwrap_or(paper.batch),
            lr: self.lr.unwrap_or(paper.lr),
            start: self.start,
            seed: self.seed,
            image_size: self.image_size.unwrap_or(paper.image_size),
            vv_layers: self.vv_layers.unwrap_or(paper.vv_layers),
            products: self.products.unwrap_or(self.device.products()),
            stop_after: None,
        };
        options.check(&clip)?;
        Ok((clip, options))
    }

    /// CLIP and options of another method, with every default filled in.
    pub fn resolve_method(
        &self,
        asked: MethodOptions,
    ) -> Result<(Clip, methods::fit::Options), TrainError> {
        let clip = self.load_clip(asked.method)?;
        asked.assumed(&clip).iter().for_each(warn);
        let options = self.method_options(asked, Weights::Clip(&clip))?;
        Ok((clip, options))
    }

    /// Options of a method, with every default filled in.
    pub fn method_options(
        &self,
        asked: MethodOptions,
        weights: Weights<'_>,
    ) -> Result<methods::fit::Options, TrainError> {
        let published = methods::fit::Options::published(asked, weights);
        let options = methods::fit::Options {
            tokens: self.e.unwrap_or(published.tokens),
            deep_blocks: self.deep_blocks.unwrap_or(published.deep_blocks),
            deep_length: self.deep_length,
            epochs: self.epochs.unwrap_or(published.epochs),
            batch: self.batch.unwrap_or(published.batch),
            lr: self.lr.unwrap_or(published.lr),
            seed: self.seed,
            image_size: self.image_size.unwrap_or(published.image_size),
            vv_layers: self.vv_layers.unwrap_or(published.vv_layers),
            products: self.products.unwrap_or(self.device.products()),
            ..published
        };
        options.check(weights)?;
        Ok(options)
    }

    /// The feature cache.
    pub fn cache(&self, clip: &Clip, options: &Options) -> Result<Cache, TrainError> {
        open_cache(self.cache.as_deref(), self.cache_gb, clip, options)
    }

    /// The same for rows that depend on `key` and the picture alone.
    pub fn keyed_cache(&self, key: &str) -> Result<Cache, TrainError> {
        let folder = self.cache.clone().unwrap_or_else(default_cache);
        let limit = (self.cache_gb.max(0.0) * 1e9) as u64;
        Cache::keyed(&folder, limit, key, 1)
    }
}

/// The feature cache in `folder`, or in the user's cache folder.
pub fn open_cache(
    folder: Option<&Path>,
    gigabytes: f64,
    clip: &Clip,
    options: &Options,
) -> Result<Cache, TrainError> {
    let folder = folder.map_or_else(default_cache, PathBuf::from);
    let limit = (gigabytes.max(0.0) * 1e9) as u64;
    Cache::open(&folder, limit, clip, options)
}

fn default_cache() -> PathBuf {
    cache_folder("features")
}

/// Encodes what the cache lacks, and says so.
pub fn encode<'a>(
    encoder: &mut Encoder,
    cache: &'a Cache,
    samples: &'a [Sample],
    stop: Interrupt,
) -> Result<Encoded<'a>, TrainError> {
    let clock = Instant::now();
    let bar = bar(samples.len(), "encode");
    let (mut paths, mut unread) = (vec![], vec![]);
    for path in fill(encoder, cache, samples, stop, &bar)? {
        match path {
            Ok(path) => paths.push(path),
            Err(e) => unread.push(e.to_string()),
        }
    }
    bar.finish_and_clear();
    if !unread.is_empty() {
        return Err(TrainError::Pictures(unread));
    }
    said_encoded(cache, samples.len(), clock);
    Ok(Encoded {
        samples,
        paths,
        cache,
        masks: Masks::default(),
    })
}

/// Says how long encoding took, and whether its result could be kept.
pub fn said_encoded(cache: &Cache, pictures: usize, clock: Instant) {
    let seconds = clock.elapsed().as_secs_f64();
    say(format_args!(
        "encoded, or found in the cache: {pictures} pictures in {seconds:.1} s ({:.1}/s)",
        pictures as f64 / seconds
    ));
    if cache.is_full() {
        warn(
            "the cache is full: the remaining pictures are encoded in every epoch; give it more with --cache-gb",
        );
    }
}

/// A line per epoch.
pub fn epoch_line(epoch: &Epoch) -> String {
    let named = epoch.terms.named();
    learned_line(epoch.number, &named, epoch.seconds, epoch.pictures)
}

/// A line about an epoch of any method: its number, the means of its loss terms, its seconds and its pictures.
pub fn learned_line(
    number: usize,
    terms: &[(impl AsRef<str>, f64)],
    seconds: f64,
    pictures: usize,
) -> String {
    let terms: Vec<String> = terms
        .iter()
        .map(|(name, v)| format!("{} {v:.4}", name.as_ref().replace('_', " ")))
        .collect();
    format!(
        "epoch {number:2}  {}  {seconds:.1} s ({:.1} images/s)",
        terms.join("  "),
        pictures as f64 / seconds
    )
}

/// Arguments of `fit`.
#[derive(Args)]
pub struct Fit {
    /// Data sets with masks, as for `evaluate`
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// Folder for prompts.safetensors, or for another method's learned.safetensors
    #[arg(long)]
    out: PathBuf,
    /// Go on from the folder's last epoch
    #[arg(long)]
    resume: bool,
    /// Stop after this many epochs; go on later with --resume
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    stop_after: Option<usize>,
    /// Encode the I-th of N shares of the pictures into the cache, and learn nothing: several machines that share
    /// the cache's folder encode a set, and `fit` without --shard finds it there
    #[arg(long, value_name = "I/N", conflicts_with_all = ["resume", "stop_after"])]
    shard: Option<Shard>,
    #[command(flatten)]
    method: MethodArguments,
    #[command(flatten)]
    learning: Learning,
    /// Threads for the words' features [default: all]
    #[arg(long, value_parser = crate::threads)]
    threads: Option<usize>,
    /// How the K abnormal prompts become one score
    #[arg(long, value_enum, default_value = "mean")]
    aggregation: Aggregation,
    /// What the prior network sees
    #[arg(long, value_enum, default_value = "patches")]
    prior: PriorSource,
    /// Leave L_orth out
    #[arg(long)]
    no_orthogonal_loss: bool,
    /// Leave L_prior out
    #[arg(long)]
    no_prior_loss: bool,
    /// Abnormal prompts share no token with the normal one
    #[arg(long)]
    own_tokens: bool,
}

/// A number of epochs on the command line.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("a number from 1 on".into()),
    }
}

impl Fit {
    /// Runs the command.
    pub fn run(&self, given: &Given) -> Result<ExitCode, TrainError> {
        let asked = self.method.options()?;
        if asked.method != Method::Faprompt {
            return self.other(asked, given);
        }
        if self.own_tokens && self.prior == PriorSource::Off && self.learning.prompts() == 1 {
            return Err(TrainError::Options(
                "--own-tokens --prior off --k 1 was a reading of AnomalyCLIP: --method anomalyclip is the published one"
                    .into(),
            ));
        }
        // What is wrong with the device is said before anything is read.
        let device = self.learning.device.open()?;
        let (clip, mut options) = self.learning.resolve()?;
        options.stop_after = self.stop_after;
        options.variant = Variant {
            aggregation: self.aggregation,
            prior: self.prior,
            orthogonal_loss: !self.no_orthogonal_loss,
            prior_loss: !self.no_prior_loss,
            own_tokens: self.own_tokens,
        };
        if let Some(shard) = self.shard {
            let samples = self.share(shard)?;
            let cache = self.learning.cache(&clip, &options)?;
            let mut encoder = Encoder::new(&clip, &options, &device);
            encode(&mut encoder, &cache, &samples, Interrupt::catch()?)?;
            return Ok(ExitCode::Good);
        }
        let _held = Checkpoint::hold(&self.out)?;
        let samples = samples(&self.data, &self.learning.masks)?;
        let samples = with_masks(samples, self.learning.accept_masks)?;
        refuse_one_kind(&samples)?;
        // Hours of encoding later it would be too late to say so.
        Checkpoint::begin(&self.out, self.resume, &clip, &options, &samples)?;
        let cache = self.learning.cache(&clip, &options)?;
        let stop = Interrupt::catch()?;
        let mut encoder = Encoder::new(&clip, &options, &device);
        let set = encode(&mut encoder, &cache, &samples, stop)?;
        let bar = bar(0, "fit");
        let out = Some((self.out.as_path(), self.resume));
        fit(
            &clip,
            &options,
            &set,
            &mut encoder,
            out,
            &device,
            stop,
            &bar,
            |epoch| bar.suspend(|| say(epoch_line(epoch))),
        )?;
        bar.finish_and_clear();
        say(format_args!(
            "{}: now `export {}{} --prompts` it",
            self.out.join(PROMPTS).display(),
            self.learning.named(),
            given.again(&OF_EXPORT)
        ));
        Ok(ExitCode::Good)
    }

    /// A share of what would be learned from.
    fn share(&self, shard: Shard) -> Result<Vec<Sample>, TrainError> {
        let samples = samples(&self.data, &self.learning.masks)?;
        let samples = with_masks(samples, self.learning.accept_masks)?;
        Ok(shard.of(samples).collect())
    }

    /// Learns a method other than FAPrompt.
    fn other(&self, asked: MethodOptions, given: &Given) -> Result<ExitCode, TrainError> {
        let method = asked.method;
        if !method.is_learned() {
            return Err(TrainError::Options(format!(
                "--method {method} learns nothing: `export` it"
            )));
        }
        given.refuse_idle_learning(&[method])?;
        let mut switches = given.again(&OF_EXPORT);
        // It learns from pictures of all classes, and judges by prompts that name one.
        if method == Method::AprilGan && asked.class.is_none() {
            switches += " --class NAME";
        }
        let learning = &self.learning;
        let threads = self.threads.unwrap_or(cores());
        let mut ground = MethodGround::new(learning, asked)?;
        if let Some(shard) = self.shard {
            if method == Method::Dapo {
                return Err(TrainError::Options(
                    "--shard: dapo's image encoder learns, there is nothing to encode before"
                        .into(),
                ));
            }
            let samples = self.share(shard)?;
            ground.encode(&samples)?;
            return Ok(ExitCode::Good);
        }
        ground.options.stop_after = self.stop_after;
        let _held = Checkpoint::hold(&self.out)?;
        let masks = (&learning.masks, learning.accept_masks);
        let samples = to_learn_from(&self.data, masks, method)?;
        let path = ground.learn(&samples, &self.out, self.resume, threads)?;
        say(format_args!(
            "{}: now `export --method {method} {}{switches} --prompts` it",
            path.display(),
            learning.named()
        ));
        Ok(ExitCode::Good)
    }
}
