//! Checkpoint and prompt learner to bundle.
//!
//! Whatever is the same for every image is computed here: prototypes, the prefix's keys and values, the
//! Jacobian of the linear adaptation. The finished bundle is opened and run by the device's own code
//! before it is called done.

use super::TrainError;
use super::clip::{Block, Clip, Dense, Norm, Preprocess, Visual};
use super::fit::checkpoint::Record;
use super::fit::variant::{Aggregation, PriorSource};
use super::prompts::Prompts;
use super::reference::{Reference, Tape, unit};
use crate::bundle::manifest::{
    ImageSpec, LinearError, Manifest, Precision, PriorSpec, PromptSpec, ScoreRule, ScoreSpec,
    Selection, TowerSpec,
};
use crate::bundle::method::Positions;
use crate::bundle::tap::Tap;
use crate::bundle::{Bundle, BundleWriter, save};
use crate::faprompt::AdaptationMode;
use crate::inspector::{Inspector, Options};
use crate::ops::weights::Arithmetic;
use indicatif::ProgressBar;
use ndarray::{Array1, Array2, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The published code's smoothing of reported maps, sigma 10 at 518 px, in proportion.
pub const SIGMA_PER_PIXEL: f32 = 10.0 / 518.0;
/// Directions of the Jacobian that one thread carries at once.
const DIRECTIONS: usize = 32;
/// Priors whose exact and linear results are compared, per norm.
const PROBES: usize = 8;

/// What the user chose; `None` takes the default of the weights.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Name in the manifest; the architecture's if none.
    pub name: Option<String>,
    /// Side of the input in pixels.
    pub image_size: Option<usize>,
    /// Blocks with the V-V stream.
    pub vv_layers: Option<usize>,
    /// Which rows the memory of good parts compares; none: the manifest's rule.
    pub memory: Vec<Tap>,
    /// Which patches feed the prior.
    pub selection: Selection,
    /// How the maxima are combined.
    pub score_rule: ScoreRule,
    /// How matrices are stored.
    pub precision: Precision,
    /// Scores above it are rejects.
    pub threshold: f32,
    /// Whether anything was trained.
    pub trained: bool,
    /// A sentence for the manifest.
    pub description: String,
    /// Threads for the Jacobian.
    pub threads: usize,
}

impl ExportOptions {
    /// For a bundle that is measured at once and thrown away: f32, every size the weights' own.
    pub fn plain(threads: usize) -> ExportOptions {
        ExportOptions {
            name: None,
            image_size: None,
            vv_layers: None,
            memory: vec![],
            selection: Selection::Paper,
            score_rule: ScoreRule::Code,
            precision: Precision::F32,
            threshold: 0.5,
            trained: true,
            description: String::new(),
            threads,
        }
    }

    /// For a bundle of `prompts`: what was not chosen here is as they were learned, as their record says. The published
    /// code's say nothing, and were learned with the first patches feeding the prior.
    ///
    /// # Errors
    /// [`TrainError::Prompts`] if the record is malformed.
    pub fn of_prompts(
        self,
        prompts: &Prompts,
        selection: Option<Selection>,
        score_rule: Option<ScoreRule>,
    ) -> Result<ExportOptions, TrainError> {
        let record = Record::of(prompts)?;
        let learned = record.as_ref();
        let usual = match prompts.published {
            true => Selection::Upstream,
            false => Selection::Paper,
        };
        Ok(ExportOptions {
            image_size: self.image_size.or(learned.map(|r| r.image_size)),
            vv_layers: self.vv_layers.or(learned.map(|r| r.vv_layers)),
            selection: selection.or(learned.map(|r| r.selection)).unwrap_or(usual),
            score_rule: score_rule
                .or(learned.map(|r| r.rule))
                .unwrap_or(ScoreRule::Code),
            ..self
        })
    }
}

/// Refuses names or numbers that `option` says twice.
///
/// # Errors
/// [`TrainError::Options`].
pub fn refuse_twice<T: PartialEq + std::fmt::Display>(
    option: &str,
    all: &[T],
) -> Result<(), TrainError> {
    let twice = all
        .iter()
        .enumerate()
        .find(|(i, one)| all[..*i].contains(one));
    match twice {
        None => Ok(()),
        Some((_, twice)) => Err(TrainError::Options(format!(
            "{option} names `{twice}` twice: once is enough"
        ))),
    }
}

/// Refuses a side of the input that is not made of whole patches, or that no bundle can have: what is learned at it
/// could not be exported.
///
/// # Errors
/// [`TrainError::Options`].
pub(super) fn refuse_side(size: usize, patch: usize) -> Result<(), TrainError> {
    // As the manifest's own check has them.
    const LARGEST: usize = 4096;
    const MOST_PATCHES: usize = 256;
    let refuse = |what: String| Err(TrainError::Options(format!("--image-size {size}: {what}")));
    if size == 0 || !size.is_multiple_of(patch) {
        return refuse(format!("no multiple of the weights' patch side {patch}"));
    }
    let largest = LARGEST.min(MOST_PATCHES * patch);
    match size > largest {
        true => refuse(format!(
            "a bundle holds at most {largest} with patches of {patch}"
        )),
        false => Ok(()),
    }
}

/// Refuses a number of blocks with the V-V stream that an encoder of `layers` blocks cannot have.
///
/// # Errors
/// [`TrainError::Options`].
pub(super) fn refuse_vv_layers(
    asked: usize,
    least: usize,
    layers: usize,
) -> Result<(), TrainError> {
    match (least..=layers).contains(&asked) {
        true => Ok(()),
        false => Err(TrainError::Options(format!(
            "--vv-layers {asked}: the image encoder has {layers} blocks, so {least} to {layers} of them"
        ))),
    }
}

/// The taps that `--memory-blocks` names; `layers` are the encoder's blocks, as far as they are known.
///
/// # Errors
/// [`TrainError::Options`] for a block that there is not, or that is named twice.
pub fn memory_taps(blocks: &[usize], layers: Option<usize>) -> Result<Vec<Tap>, TrainError> {
    refuse_twice("--memory-blocks", blocks)?;
    let is_odd = |b: &&usize| **b == 0 || layers.is_some_and(|l| **b > l);
    match (blocks.iter().find(is_odd), layers) {
        (None, _) => Ok(blocks.iter().copied().map(Tap::raw).collect()),
        (Some(odd), Some(layers)) => Err(TrainError::Options(format!(
            "--memory-blocks {odd}: the encoder has blocks 1 to {layers}"
        ))),
        (Some(odd), None) => Err(TrainError::Options(format!(
            "--memory-blocks {odd}: blocks are counted from 1"
        ))),
    }
}

/// What an export made.
pub struct Exported {
    /// The bundle's manifest.
    pub manifest: Manifest,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// A bundle in the making, from the host's arrays.
pub(super) struct Writer(BundleWriter);

impl Writer {
    pub(super) fn new(bundle: BundleWriter) -> Writer {
        Writer(bundle)
    }
    pub(super) fn matrix(&mut self, name: &str, m: &Array2<f32>) {
        self.0.matrix(
            name,
            [m.nrows(), m.ncols()],
            &m.iter().copied().collect::<Vec<_>>(),
        );
    }
    pub(super) fn table(&mut self, name: &str, m: &Array2<f32>) {
        self.0.table(
            name,
            &[m.nrows(), m.ncols()],
            &m.iter().copied().collect::<Vec<_>>(),
        );
    }
    pub(super) fn exact(&mut self, name: &str, m: &Array2<f32>) {
        let values: Vec<f32> = m.iter().copied().collect();
        self.0.exact(name, &[m.nrows(), m.ncols()], &values);
    }
    pub(super) fn vector(&mut self, name: &str, v: &Array1<f32>) {
        self.0.exact(name, &[v.len()], &v.to_vec());
    }
    pub(super) fn norm(&mut self, name: &str, n: &Norm) {
        self.vector(&format!("{name}.weight"), &n.weight);
        self.vector(&format!("{name}.bias"), &n.bias);
    }
    pub(super) fn dense(&mut self, name: &str, d: &Dense) {
        self.matrix(&format!("{name}.weight"), &d.weight);
        self.vector(&format!("{name}.bias"), &d.bias);
    }
    pub(super) fn block(&mut self, name: &str, b: &Block) {
        self.norm(&format!("{name}.ln_1"), &b.ln_1);
        self.dense(&format!("{name}.qkv"), &b.qkv);
        self.dense(&format!("{name}.out"), &b.out);
        self.norm(&format!("{name}.ln_2"), &b.ln_2);
        self.dense(&format!("{name}.fc"), &b.fc);
        self.dense(&format!("{name}.proj"), &b.proj);
    }

    /// The file's bytes, after the device's own code has judged the known frame with them.
    pub(super) fn checked(
        &self,
        mut manifest: Manifest,
    ) -> Result<(Manifest, Vec<u8>), TrainError> {
        manifest.known_score = Some(self_check(self.bytes(&manifest)?)?);
        // What is written is what was checked, but for that one number.
        let bytes = self.bytes(&manifest)?;
        Bundle::from_bytes(bytes.clone()).map_err(TrainError::SelfCheck)?;
        Ok((manifest, bytes))
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`TrainError::Options`] for a number that its precision cannot hold.
    pub(super) fn bytes(&self, manifest: &Manifest) -> Result<Vec<u8>, TrainError> {
        if let Some(odd) = self.0.too_large() {
            let (precision, instead) = match odd.precision {
                Precision::Int8 => ("int8", "f32 (an int8 bundle keeps tables in f16)"),
                _ => ("f16", "int8 or f32"),
            };
            return Err(TrainError::Options(format!(
                "--precision {precision}: {odd}; take --precision {instead}"
            )));
        }
        let bytes = self.0.bytes(manifest);
        bytes.map_err(|e| TrainError::Options(format!("the bundle cannot be put together: {e}")))
    }
}

/// The image encoder for pictures of `grid` patches a side.
pub(super) fn write_encoder(w: &mut Writer, visual: &Visual, grid: usize, positions: Positions) {
    let positions = visual.positions_by(grid, positions);
    w.matrix("encoder/conv1", &visual.conv1);
    w.vector("encoder/class_row", &(&visual.class + &positions.row(0)));
    w.table(
        "encoder/positions",
        &positions.slice(s![1.., ..]).to_owned(),
    );
    w.norm("encoder/ln_pre", &visual.ln_pre);
    visual
        .blocks
        .iter()
        .enumerate()
        .for_each(|(i, b)| w.block(&format!("encoder/blocks.{i}"), b));
    w.norm("encoder/ln_post", &visual.ln_post);
    w.matrix("encoder/proj", &visual.proj);
}

/// What is done to pictures before an encoder of `patch` px patches sees them: resized to `size` px.
pub(super) fn image_spec(preprocess: &Preprocess, size: usize, patch: usize) -> ImageSpec {
    ImageSpec {
        size,
        patch,
        mean: preprocess.mean,
        std: preprocess.std,
        interpolation: preprocess.interpolation,
    }
}

fn manifest(
    clip: &Clip,
    prompts: &Prompts,
    options: &ExportOptions,
) -> Result<Manifest, TrainError> {
    let (visual, text) = (&clip.visual, &clip.text);
    let size = options.image_size.unwrap_or(clip.default_image_size());
    let vv_layers = options.vv_layers.unwrap_or(clip.default_vv_layers());
    let abnormal_tokens = prompts.abnormal.shape()[1];
    let manifest = Manifest {
        name: options.name.clone().unwrap_or(clip.name()),
        created_by: concat!("faprompt-train ", env!("CARGO_PKG_VERSION")).into(),
        trained: options.trained && !clip.untrained && !prompts.untrained,
        description: options.description.clone(),
        image: image_spec(&clip.preprocess, size, visual.patch),
        activation: clip.activation,
        vision: TowerSpec {
            width: visual.width,
            layers: visual.blocks.len(),
            heads: visual.heads,
            epsilon: visual.epsilon,
        },
        vv_layers,
        memory: options.memory.clone(),
        registers: 0,
        network: None,
        text: TowerSpec {
            width: text.width,
            layers: text.blocks.len(),
            heads: text.heads,
            epsilon: text.epsilon,
        },
        prompts: PromptSpec {
            normal_tokens: prompts.normal.nrows(),
            abnormal_tokens,
            abnormal_prompts: prompts.count(),
            suffix_rows: abnormal_tokens + prompts.abnormal_suffix.nrows(),
            deep_length: prompts.deep.first().map_or(0, |d| d.nrows()),
            deep_blocks: prompts.deep.len(),
            normal_words: prompts.words.0.clone(),
            abnormal_words: prompts.words.1.clone(),
        },
        prior: PriorSpec {
            selected_patches: prompts.fc1.weight.ncols() / text.width,
            hidden: prompts.fc1.weight.nrows(),
            selection: options.selection,
        },
        scores: ScoreSpec {
            // The published code's T; logit_scale is not used by it.
            temperature: 0.07,
            rule: options.score_rule,
            smoothing_sigma: SIGMA_PER_PIXEL * size as f32,
            threshold: options.threshold,
        },
        precision: options.precision,
        linear_error: vec![],
        known_score: None,
        method: None,
        assumed: clip.assumed.clone(),
        sources: {
            let mut sources = clip.sources.clone();
            sources.insert("clip".into(), clip.digest.clone());
            sources.insert("prompts".into(), prompts.digest.clone());
            sources
        },
    };
    manifest
        .check()
        .map_err(|e| TrainError::Options(e.to_string()))?;
    if vv_layers == 0 {
        let what = "vv_layers = 0: FAPrompt compares the V-V stream; give at least one block to it";
        return Err(TrainError::Options(what.into()));
    }
    Ok(manifest)
}

/// psi's second layer as the device shall have it: without a prior it answers zero, and the adapted
/// prompts are the unadapted ones. Refuses what only the trainer can judge.
fn device_prior(clip: &Clip, prompts: &Prompts) -> Result<Dense, TrainError> {
    let mut last = prompts.fc2.clone();
    let Some(record) = Record::of(prompts)? else {
        return Ok(last);
    };
    record.belongs_to(clip, prompts)?;
    let v = record.variant;
    let refused = if v.aggregation != Aggregation::Mean {
        Some("aggregation other than the mean")
    } else if v.own_tokens {
        Some("abnormal prompts with tokens of their own")
    } else if v.prior == PriorSource::ImageToken {
        Some("a prior from the image token")
    } else {
        None
    };
    if let Some(what) = refused {
        return Err(TrainError::Options(format!(
            "{}: the device does not run {what}; measure this variant with `evaluate --clip ... --prompts ...`",
            prompts.path.display()
        )));
    }
    if v.prior == PriorSource::Off {
        last.weight.fill(0.0);
        last.bias.fill(0.0);
    }
    Ok(last)
}

/// d F_a / d Omega at Omega = 0: column j is the change of the mean abnormal feature along e_j.
pub fn jacobian(
    reference: &Reference,
    tapes: &[Tape],
    first: usize,
    count: usize,
    threads: usize,
    bar: &ProgressBar,
) -> Array2<f32> {
    let width = reference.text.width;
    let (jacobian, next) = (
        Mutex::new(Array2::<f32>::zeros((width, width))),
        AtomicUsize::new(0),
    );
    let work = || {
        loop {
            let from = next.fetch_add(DIRECTIONS, Ordering::Relaxed);
            if from >= width {
                return;
            }
            let n = DIRECTIONS.min(width - from);
            let directions =
                Array2::from_shape_fn((n, width), |(i, j)| if j == from + i { 1.0 } else { 0.0 });
            let mut sum = Array2::<f32>::zeros((n, width));
            for tape in tapes {
                sum += &reference.derivative(tape, first, count, &directions);
                bar.inc(n as u64);
            }
            sum /= tapes.len() as f32;
            jacobian
                .lock()
                .expect("no thread panics with it")
                .slice_mut(s![.., from..from + n])
                .assign(&sum.t());
        }
    };
    std::thread::scope(|scope| {
        (0..threads.max(1)).for_each(|_| {
            scope.spawn(work);
        })
    });
    jacobian.into_inner().expect("all threads are done")
}

/// |F_linear - F_exact| for priors of several lengths, relative to the abnormal tokens'.
fn linear_error(
    reference: &Reference,
    prompts: &Prompts,
    mean: &Array1<f32>,
    jacobian: &Array2<f32>,
) -> Vec<LinearError> {
    let (first, count) = (1 + prompts.normal.nrows(), prompts.abnormal.shape()[1]);
    let token =
        prompts.abnormal.iter().map(|v| v * v).sum::<f32>() / (prompts.count() * count) as f32;
    let token = token.sqrt();
    let still = unit(mean.view());
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut errors = vec![];
    for factor in [0.1f32, 0.3, 1.0, 3.0] {
        let prior_norm = factor * token;
        let (mut sum, mut max, mut unadapted) = (0f32, 0f32, 0f32);
        for _ in 0..PROBES {
            let direction = Array1::from_shape_fn(mean.len(), |_| super::random::normal(&mut rng));
            let prior = unit(direction.view()) * prior_norm;
            let tapes: Vec<Tape> = (0..prompts.count())
                .map(|k| {
                    let mut rows = prompts.abnormal_rows(k);
                    let mut shifted = rows.slice_mut(s![first..first + count, ..]);
                    shifted += &prior;
                    reference.encode(&rows)
                })
                .collect();
            let exact = unit(reference.mean_feature(&tapes).view());
            let linear = unit((mean + &jacobian.dot(&prior)).view());
            let distance = |a: &Array1<f32>| (a - &exact).mapv(|v| v * v).sum().sqrt();
            sum += distance(&linear);
            max = max.max(distance(&linear));
            unadapted += distance(&still);
        }
        let probes = PROBES as f32;
        errors.push(LinearError {
            prior_norm,
            mean: sum / probes,
            max,
            unadapted: unadapted / probes,
        });
    }
    errors
}

/// Makes a bundle of `clip` and `prompts` at `out`.
///
/// # Errors
/// [`TrainError::Options`] if the options do not fit the weights, [`TrainError::Output`] if the file
/// cannot be written.
pub fn export(
    clip: &Clip,
    prompts: &Prompts,
    options: &ExportOptions,
    out: &Path,
    bar: &ProgressBar,
) -> Result<Exported, TrainError> {
    let mut manifest = manifest(clip, prompts, options)?;
    let last = device_prior(clip, prompts)?;
    let (text, p) = (&clip.text, manifest.prompts.clone());
    let reference = Reference {
        text,
        activation: clip.activation,
        deep: &prompts.deep,
    };
    let mut w = Writer(BundleWriter::new(options.precision));

    write_encoder(
        &mut w,
        &clip.visual,
        manifest.image.grid(),
        Positions::Bilinear,
    );

    let normal = reference.encode(&prompts.normal_rows());
    let tapes: Vec<Tape> = (0..p.abnormal_prompts)
        .map(|k| reference.encode(&prompts.abnormal_rows(k)))
        .collect();
    let mean = reference.mean_feature(&tapes);
    w.vector("prototypes/normal", &normal.feature);
    w.vector("prototypes/abnormal", &mean);

    let (prefix, rows) = (p.prefix_rows(), p.suffix_rows);
    let mut suffix = Array2::zeros((p.abnormal_prompts * rows, text.width));
    for k in 0..p.abnormal_prompts {
        let embedded = prompts.abnormal_rows(k) + text.positions.slice(s![..prefix + rows, ..]);
        suffix
            .slice_mut(s![k * rows..(k + 1) * rows, ..])
            .assign(&embedded.slice(s![prefix.., ..]));
    }
    w.table("tower/suffix", &suffix);
    for (i, block) in text.blocks.iter().enumerate() {
        w.block(&format!("tower/blocks.{i}"), block);
        let (keys, values) = tapes[0].keys_values(i, prefix);
        w.table(&format!("tower/blocks.{i}.prefix_keys"), &keys);
        w.table(&format!("tower/blocks.{i}.prefix_values"), &values);
        let deep = i.checked_sub(1).and_then(|i| prompts.deep.get(i));
        if let (Some(deep), true) = (deep, p.deep_overhang() > 0) {
            w.table(
                &format!("tower/blocks.{i}.deep"),
                &deep.slice(s![p.normal_tokens.., ..]).to_owned(),
            );
        }
    }
    w.norm("tower/ln_final", &text.ln_final);
    w.matrix("tower/projection", &text.projection);
    w.dense("prior/fc1", &prompts.fc1);
    w.dense("prior/fc2", &last);

    bar.set_length((text.width * p.abnormal_prompts) as u64);
    let jacobian = jacobian(
        &reference,
        &tapes,
        prefix,
        p.abnormal_tokens,
        options.threads,
        bar,
    );
    w.table("linear/jacobian", &jacobian);
    manifest.linear_error = linear_error(&reference, prompts, &mean, &jacobian);

    let failed = |source| TrainError::Output {
        path: out.to_path_buf(),
        source,
    };
    let (manifest, bytes) = w.checked(manifest)?;
    save(&bytes, out).map_err(failed)?;
    Ok(Exported {
        manifest,
        bytes: bytes.len() as u64,
    })
}

/// Opens the new bundle with the device's code, which checks every digest and every shape, builds all
/// its networks and judges the known frame.
fn self_check(bytes: Vec<u8>) -> Result<f32, TrainError> {
    let bundle = Bundle::from_bytes(bytes).map_err(TrainError::SelfCheck)?;
    let load = |adaptation| {
        let options = Options {
            adaptation,
            threads: 1,
            arithmetic: Arithmetic::F32,
            ..Options::default()
        };
        Inspector::new(&bundle, options).map_err(TrainError::SelfCheck)
    };
    load(AdaptationMode::Linear)?;
    let failed = |e| TrainError::Options(format!("the network fails on the known frame: {e}"));
    let mut inspector = load(AdaptationMode::Exact)?;
    inspector.known_frame_score().map_err(failed)
}
