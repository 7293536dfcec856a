//! `faprompt-train export`.

use crate::method::MethodArguments;
use crate::report::{can_all_be_written, refuse_own_inputs};
use crate::weights::WeightOptions;
use clap::Args;
use faprompt_edge::bundle::manifest::{Precision, ScoreRule, Selection};
use faprompt_edge::bundle::method::Method;
use faprompt_edge::bundle::{Bundle, Keys, signature_of};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::cores;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::backbone::Backbone;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::export::{ExportOptions, Exported, export, memory_taps, refuse_twice};
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::methods::options::refuse_host_only;
use faprompt_edge::train::methods::{self, MethodOptions};
use faprompt_edge::train::network;
use faprompt_edge::train::onnx;
use faprompt_edge::train::progress::bar;
use faprompt_edge::train::prompts::Prompts;
use std::path::{Path, PathBuf};

/// Arguments of `export`.
#[derive(Args)]
pub struct Export {
    /// CLIP weights: OpenAI's file (.pt, .safetensors), or the folder of a Hugging Face or open_clip model
    #[arg(long, required_unless_present_any = ["weights", "encoder"])]
    clip: Option<PathBuf>,
    /// Weights of an image encoder without text, instead of --clip: DINOv2 (its authors', Hugging Face's, timm's) or
    /// a ViT of timm, file or folder. The bundle judges by good parts (`faprompt-edge teach`), with --method heads
    /// --prompts by what `fit` learned too
    #[arg(long, value_name = "PATH", conflicts_with_all = ["clip", "vv_layers"])]
    weights: Option<PathBuf>,
    /// An ONNX file of any other image encoder, instead of --clip: with --taps. The bundle judges by good parts
    #[arg(long, value_name = "FILE", conflicts_with_all = ["clip", "weights", "prompts", "vv_layers", "memory_blocks", "onnx"])]
    encoder: Option<PathBuf>,
    /// What the memory compares of --encoder: up to 8 outputs, tensors or nodes of the file, with commas between
    /// them; without it the file's maps are listed
    #[arg(long, value_delimiter = ',', value_name = "NAME", requires = "encoder")]
    taps: Vec<String>,
    /// Places per side that the taps are brought to [default: near the finest tap's; that of --beside]
    #[arg(long, requires = "encoder", conflicts_with = "beside")]
    grid: Option<usize>,
    /// A bundle with text: --encoder becomes its memory's encoder, everything else stays
    #[arg(long, value_name = "BUNDLE", requires = "encoder")]
    beside: Option<PathBuf>,
    /// What was learned: the published code's checkpoint (.pth, .safetensors) or this program's own; not for
    /// clip, clip-ac, winclip and anovl, which learn nothing
    #[arg(long)]
    prompts: Option<PathBuf>,
    #[command(flatten)]
    method: MethodArguments,
    /// The bundle to write
    #[arg(long)]
    out: PathBuf,
    /// Write the whole frame as one ONNX graph too, for TensorRT and ONNX Runtime (FAPrompt, and encoders without text)
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Side of the input in pixels [default: as learned, else 518 for ViT-L/14@336, 448 for DINOv2 of 518 px, else the
    /// weights' own]
    #[arg(long)]
    image_size: Option<usize>,
    /// Blocks with the V-V stream, counted from the last [default: as learned or trained, else 19 of 24, in proportion]
    #[arg(long)]
    vv_layers: Option<usize>,
    /// Blocks after whose ordinary tokens the memory of good parts compares parts, counted from 1
    /// [default: those at a sixth, a third and half of the depth; with --weights the last, normalised]
    #[arg(long, value_delimiter = ',')]
    memory_blocks: Vec<usize>,
    /// Patches that feed the prior: the most abnormal ones, or the first [default: as learned; upstream for the published code's files; else paper]
    #[arg(long, value_enum)]
    selection: Option<Selection>,
    /// How the maxima of both score maps are combined [default: as learned, else code]
    #[arg(long, value_enum)]
    score_rule: Option<ScoreRule>,
    /// How matrices are stored
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    about: WeightOptions,
    /// Image scores above it are rejects, unless the station sets another, 0..=1
    #[arg(long, default_value_t = 0.5, value_parser = threshold)]
    threshold: f32,
    /// Name in the manifest [default: the architecture's]
    #[arg(long)]
    name: Option<String>,
    /// A sentence for the manifest: where weights and prompts come from
    #[arg(long, default_value = "")]
    description: String,
    /// Say in the manifest that nothing in it was ever trained; every output will repeat it
    #[arg(long)]
    untrained: bool,
    /// Threads [default: all]
    #[arg(long, value_parser = crate::threads)]
    threads: Option<usize>,
}

/// A threshold on the command line: finite, 0..=1.
fn threshold(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("a number from 0 to 1".into()),
    }
}

impl Export {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let asked = self.method.options()?;
        refuse_host_only(asked.method)?;
        // What is wrong with the options is said before anything is read.
        memory_taps(&self.memory_blocks, None)?;
        refuse_twice("--taps", &self.taps)?;
        let inputs = [
            &self.clip,
            &self.weights,
            &self.encoder,
            &self.beside,
            &self.prompts,
        ];
        let results = [("--out", Some(&self.out)), ("--onnx", self.onnx.as_ref())];
        refuse_own_inputs(&results, inputs.map(Option::as_deref))?;
        self.refuse_other_graphs(asked.method)?;
        can_all_be_written([&self.out].into_iter().chain(&self.onnx))?;
        if let Some(path) = &self.weights {
            return self.without_text(path, &asked);
        }
        if let Some(path) = &self.encoder {
            return self.network(path, &asked);
        }
        let path = self.clip.as_ref().ok_or_else(|| {
            TrainError::Options("--clip or --weights: what the bundle is made of".into())
        })?;
        let clip = self.about.load(path)?;
        asked.assumed(&clip).iter().for_each(warn);
        if asked.method != Method::Faprompt {
            return self.other(&clip, &asked);
        }
        let prompts = self.prompts.as_ref().ok_or_else(|| {
            TrainError::Options("--prompts is missing: the file that was learned".into())
        })?;
        let prompts = Prompts::load(prompts, &clip)?;
        say(format_args!(
            "{}: {}, prompts {}",
            path.display(),
            clip.name(),
            prompts.path.display()
        ));
        let bar = bar(0, "Jacobian");
        let options = self
            .export_options(Some(clip.visual.blocks.len()))?
            .of_prompts(&prompts, self.selection, self.score_rule)?;
        let exported = export(&clip, &prompts, &options, &self.out, &bar)?;
        self.unsign();
        bar.finish_and_clear();
        let m = &exported.manifest;
        say(format_args!(
            "{}: {:.1} MB, {:?}, {:?}, {} px, V-V in {} of {} blocks, {} prompts, {} patches ({:?} selection)",
            self.out.display(),
            exported.bytes as f64 / 1e6,
            m.precision,
            m.activation,
            m.image.size,
            m.vv_layers,
            m.vision.layers,
            m.prompts.abnormal_prompts,
            m.prior.selected_patches,
            m.prior.selection,
        ));
        say(format_args!(
            "linear adaptation against exact, |difference| of unit prototypes:"
        ));
        for e in &m.linear_error {
            say(format_args!(
                "  prior of length {:.3}: mean {:.5}, max {:.5} (no adaptation: {:.5})",
                e.prior_norm, e.mean, e.max, e.unadapted
            ));
        }
        self.write_onnx()?;
        Ok(ExitCode::Good)
    }

    /// Refuses a graph that there is not; after the bundle was made it would be too late to say so.
    fn refuse_other_graphs(&self, method: Method) -> Result<(), TrainError> {
        if self.onnx.is_none() || matches!(method, Method::Faprompt | Method::Memory) {
            return Ok(());
        }
        Err(TrainError::Options(format!(
            "--onnx: only FAPrompt's frame and encoders that judge by good parts are written as a graph, no {method}"
        )))
    }

    /// What is chosen here for an encoder of `layers` blocks, as far as they are known.
    fn export_options(&self, layers: Option<usize>) -> Result<ExportOptions, TrainError> {
        let threads = self.threads.unwrap_or(cores());
        Ok(ExportOptions {
            name: self.name.clone(),
            image_size: self.image_size,
            vv_layers: self.vv_layers,
            memory: memory_taps(&self.memory_blocks, layers)?,
            precision: self.precision,
            threshold: self.threshold,
            trained: !self.untrained,
            description: self.description.clone(),
            ..ExportOptions::plain(threads)
        })
    }

    /// Writes the ONNX graph of the bundle that was just made, if it is wanted.
    fn write_onnx(&self) -> Result<(), TrainError> {
        let Some(path) = &self.onnx else {
            return Ok(());
        };
        let bundle = Bundle::open(&self.out, &Keys::default())?;
        onnx::write(&bundle, AdaptationMode::Exact, path)?;
        say(format_args!(
            "{}: the frame as an ONNX graph",
            path.display()
        ));
        Ok(())
    }

    /// Removes the signature of the bundle that was replaced.
    fn unsign(&self) {
        let signature = signature_of(&self.out);
        if std::fs::remove_file(&signature).is_ok() {
            warn(format_args!(
                "{}: removed: it was the signature of the bundle that this one replaces",
                signature.display()
            ));
        }
    }

    /// A bundle of any other image encoder, or one with it as the memory's.
    fn network(&self, path: &Path, asked: &MethodOptions) -> Result<ExitCode, TrainError> {
        self.refuse_words(asked)?;
        let beside = match &self.beside {
            Some(path) => {
                let opened = Bundle::open(path, &Keys::default());
                Some(opened.map_err(|e| TrainError::of_bundle(path, e))?)
            }
            None => None,
        };
        let image = beside.as_ref().map(|b| b.manifest().image.clone());
        let overrides = self.about.overrides();
        let asked = network::Asked {
            taps: &self.taps,
            image_size: self.image_size,
            grid: self.grid.or(image.map(|i| i.grid())),
            overrides: &overrides,
        };
        let options = self.export_options(None)?;
        let network = network::Network::load(path, &asked)?;
        for note in &network.assumed {
            warn(format_args!("{}: assumed: {note}", path.display()));
        }
        let (exported, off) = match &beside {
            Some(bundle) => network.export_beside(bundle, &options, &self.out)?,
            None => network.export(&options, &self.out)?,
        };
        self.unsign();
        let taps = network
            .taps
            .iter()
            .map(|t| format!("{} ({})", t.name, t.channels));
        let grid = network.image.grid();
        say(format_args!(
            "{}: {:.1} MB, {} of {} px, {:.0} million products, {grid} x {grid} places by {}; off by {off:.1e} of the \
             file's numbers on the known frame; now `faprompt-edge teach GOOD/ --bundle {} --out FILE`",
            self.out.display(),
            exported.bytes as f64 / 1e6,
            path.display(),
            network.image.size,
            network.products as f64 / 1e6,
            taps.collect::<Vec<_>>().join(", "),
            self.out.display(),
        ));
        Ok(ExitCode::Good)
    }

    /// Refuses options that only words have.
    fn refuse_words(&self, asked: &MethodOptions) -> Result<(), TrainError> {
        let means_nothing = [
            ("--selection", self.selection.is_some()),
            ("--score-rule", self.score_rule.is_some()),
        ];
        if let Some((name, _)) = means_nothing.iter().find(|(_, given)| *given) {
            let what = format!("{name} means nothing to an image encoder without text");
            return Err(TrainError::Options(what));
        }
        let odd = match asked.method {
            Method::Faprompt | Method::Memory => self.prompts.as_ref().map(|_| {
                "--prompts belongs to --method heads: weights without text learn nothing else"
                    .to_string()
            }),
            Method::Heads if self.encoder.is_none() => None,
            Method::Heads => Some(
                "--method heads is learned on --clip or --weights; --encoder judges by good parts alone"
                    .to_string(),
            ),
            other => Some(format!(
                "--method {other} needs a text encoder (--clip); weights without text judge by --method heads or by good parts"
            )),
        };
        odd.map_or(Ok(()), |what| Err(TrainError::Options(what)))
    }

    /// A bundle of heads on an image encoder without text.
    fn heads(
        &self,
        backbone: &Backbone,
        asked: &MethodOptions,
        options: &ExportOptions,
    ) -> Result<Exported, TrainError> {
        let path = self.prompts.as_ref().ok_or_else(|| {
            TrainError::Options(
                "--method heads needs --prompts: what `fit --method heads --weights` learned"
                    .into(),
            )
        })?;
        let learned = Learned::load(path, asked.method, backbone)?;
        methods::bundle::export_without_text(backbone, asked, &learned, options, &self.out)
    }

    /// A bundle of an image encoder without text.
    fn without_text(&self, path: &Path, asked: &MethodOptions) -> Result<ExitCode, TrainError> {
        self.refuse_words(asked)?;
        let backbone = self.about.load_backbone(path)?;
        let options = self.export_options(Some(backbone.blocks.len()))?;
        let (exported, how) = match asked.method {
            Method::Heads => (
                self.heads(&backbone, asked, &options)?,
                "judged by heads, and good parts once it is taught".to_string(),
            ),
            _ => {
                let exported = backbone.export(&options, asked.positions, &self.out)?;
                let taps = exported.manifest.memory.iter().map(ToString::to_string);
                let taps = taps.collect::<Vec<_>>().join(", ");
                let how = format!(
                    "good parts are compared by {taps}; now `faprompt-edge teach GOOD/ --bundle {} --out FILE`",
                    self.out.display()
                );
                (exported, how)
            }
        };
        self.unsign();
        let m = &exported.manifest;
        say(format_args!(
            "{}: {:.1} MB, {:?}, {}, {} px, {how}",
            self.out.display(),
            exported.bytes as f64 / 1e6,
            m.precision,
            backbone.name(),
            m.image.size,
        ));
        self.write_onnx()?;
        Ok(ExitCode::Good)
    }

    /// A bundle of a method other than FAPrompt.
    fn other(&self, clip: &Clip, asked: &MethodOptions) -> Result<ExitCode, TrainError> {
        let method = asked.method;
        for (name, given) in [
            ("--selection", self.selection.is_some()),
            ("--score-rule", self.score_rule.is_some()),
            ("--prompts", self.prompts.is_some() && !method.is_learned()),
        ] {
            if given {
                return Err(TrainError::Options(format!(
                    "{name} means nothing to --method {method}"
                )));
            }
        }
        let options = self.export_options(Some(clip.visual.blocks.len()))?;
        let learned = match &self.prompts {
            None => None,
            Some(path) => Some(Learned::load(path, method, clip)?),
        };
        let exported = methods::export(clip, asked, learned.as_ref(), &options, &self.out)?;
        self.unsign();
        let m = &exported.manifest;
        let class = match asked.class.as_deref() {
            Some(class) => format!(" for \"{class}\""),
            None => String::new(),
        };
        say(format_args!(
            "{}: {:.1} MB, {method}{class}, {:?}, {:?}, {} px, V-V in {} of {} blocks, T = {}",
            self.out.display(),
            exported.bytes as f64 / 1e6,
            m.precision,
            m.activation,
            m.image.size,
            m.vv_layers,
            m.vision.layers,
            m.scores.temperature,
        ));
        self.write_onnx()?;
        Ok(ExitCode::Good)
    }
}
