//! `faprompt-train tables`.

use crate::weights::WeightOptions;
use burn::tensor::Device;
use clap::Args;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::{Inspector, Options, cores};
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets;
use faprompt_edge::train::evaluate;
use faprompt_edge::train::export::{self, ExportOptions, refuse_twice};
use faprompt_edge::train::methods::blip::{self, Blip};
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::methods::tables::{Cell, done, page, path, reported, write};
use faprompt_edge::train::methods::{MethodOptions, anovl, filo, judge};
use faprompt_edge::train::progress::bar;
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::tensors::{TensorError, Tensors};
use std::path::{Path, PathBuf};

/// Arguments of `tables`.
#[derive(Args)]
pub struct Tables {
    /// CLIP weights, as for `export`
    #[arg(long)]
    clip: PathBuf,
    /// Sets as NAME=PATH; the papers' names (MVTecAD, VisA, BTAD, ...) get their figures beside ours
    #[arg(required = true, value_name = "NAME=PATH", value_parser = pair)]
    sets: Vec<(String, PathBuf)>,
    /// What a method learned, as METHOD=FILE, several times; methods that learn need it. blip=FOLDER: BLIP's own weights
    #[arg(long, value_name = "METHOD=FILE", value_parser = learned)]
    learned: Vec<(Method, PathBuf)>,
    /// Folder of the figures; what is there is not measured again
    #[arg(long)]
    out: PathBuf,
    /// Side of the input in pixels [default: as `export`]
    #[arg(long)]
    image_size: Option<usize>,
    #[command(flatten)]
    weights: WeightOptions,
    /// Threads [default: all]
    #[arg(long, value_parser = crate::threads)]
    threads: Option<usize>,
}

fn pair(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.into(), path.into()))
        }
        _ => Err("NAME=PATH".into()),
    }
}

fn learned(text: &str) -> Result<(Method, PathBuf), String> {
    let (name, path) = pair(text)?;
    let method = <Method as clap::ValueEnum>::from_str(&name, false)?;
    Ok((method, path))
}

/// What a method judges with.
enum With {
    /// Words alone.
    Nothing,
    Prompts(Box<Prompts>),
    Learned(Box<Learned>),
    Filo(Box<Tensors>),
    Blip(Box<Blip>),
}

/// A method that is ready to judge every set.
struct Judge {
    method: Method,
    with: With,
    options: ExportOptions,
    /// What tells a cell of it from one that was made otherwise: digests and settings.
    made_from: Vec<String>,
}

impl Tables {
    /// Refuses sets of one name, and methods that are named twice: a cell's file is called by both.
    fn refuse_twice(&self) -> Result<(), TrainError> {
        let methods: Vec<Method> = self.learned.iter().map(|(method, _)| *method).collect();
        refuse_twice("--learned", &methods)?;
        // Names that differ in what no file is called by are the same here.
        let file = |name: &str| path(&self.out, name, Method::Clip);
        for (i, (name, _)) in self.sets.iter().enumerate() {
            let same = self.sets[..i]
                .iter()
                .find(|(other, _)| file(other) == file(name));
            if let Some((other, _)) = same {
                return Err(TrainError::Options(format!(
                    "two sets are called {other} and {name}, and their figures would have the same files: name one of them otherwise"
                )));
            }
        }
        Ok(())
    }

    /// Reads what a method learned: a file that is another method's is noticed before the first set is judged.
    fn judge(&self, clip: &Clip, method: Method, file: Option<&Path>) -> Result<Judge, TrainError> {
        let mut options = ExportOptions {
            image_size: self.image_size,
            ..ExportOptions::plain(self.threads.unwrap_or(cores()))
        };
        let (with, made_from) = match (method, file) {
            (_, None) => (With::Nothing, vec![]),
            (Method::Faprompt, Some(path)) => {
                let prompts = Box::new(Prompts::load(path, clip)?);
                // As `export` makes a bundle of them.
                options = options.of_prompts(&prompts, None, None)?;
                let settings = format!(
                    "{:?} {:?} {:?} {:?}",
                    options.image_size, options.vv_layers, options.selection, options.score_rule
                );
                let made_from = vec![prompts.digest.clone(), settings];
                (With::Prompts(prompts), made_from)
            }
            (Method::Blip, Some(path)) => {
                let blip = Box::new(self.weights.load_blip(path, &Device::flex())?);
                let digest = blip.digest.clone();
                (With::Blip(blip), vec![digest])
            }
            (Method::Filo, Some(path)) => {
                let failed = |e: TensorError| TrainError::Prompts {
                    path: path.into(),
                    what: e.to_string(),
                };
                let learned = Box::new(Tensors::load(path).map_err(failed)?);
                let digest = learned.digest();
                let digest = digest.map_err(|e| failed(TensorError::File(e.to_string())))?;
                (With::Filo(learned), vec![digest])
            }
            (_, Some(path)) => {
                let learned = Box::new(Learned::load(path, method, clip)?);
                let digest = learned.digest.clone();
                (With::Learned(learned), vec![digest])
            }
        };
        Ok(Judge {
            method,
            with,
            options,
            made_from,
        })
    }

    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        self.refuse_twice()?;
        let clip = self.weights.load(&self.clip)?;
        std::fs::create_dir_all(&self.out).map_err(|source| TrainError::Output {
            path: self.out.clone(),
            source,
        })?;
        // Every set is read before the first is judged: a mistake in the last one costs no hours.
        let sets = self
            .sets
            .iter()
            .map(|(name, path)| Ok((name, datasets::load(path)?)))
            .collect::<Result<Vec<_>, TrainError>>()?;
        let words = [Method::Clip, Method::ClipAc, Method::Winclip, Method::Anovl];
        let learned = self.learned.iter().map(|(m, path)| (*m, Some(&**path)));
        let judges = words
            .map(|method| (method, None))
            .into_iter()
            .chain(learned)
            .map(|(method, file)| self.judge(&clip, method, file))
            .collect::<Result<Vec<_>, _>>()?;
        let papers = reported();
        let (mut cells, mut odd) = (vec![], false);
        for (name, samples) in &sets {
            for judge in &judges {
                let method = judge.method;
                let (cell, failed) = self.cell(&clip, name, samples, judge)?;
                odd |= failed > 0;
                let known = papers.get(*name).and_then(|set| set.get(&method)).copied();
                let cell = Cell {
                    reported: known,
                    ..cell
                };
                let show = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
                let f = &cell.figures;
                let pair = |v: Option<[f64; 2]>| match v {
                    Some([a, b]) => format!("{a:.1} {b:.1}"),
                    None => "- -".into(),
                };
                let paper = known.unwrap_or_default();
                say(format_args!(
                    "{name:16} {:12} image {} {} (reported {})  pixel {} {} (reported {})",
                    method.name(),
                    show(f.image_auroc),
                    show(f.image_ap),
                    pair(paper.image),
                    show(f.pixel_auroc),
                    show(f.pixel_pro),
                    pair(paper.pixel),
                ));
                cells.push(cell);
            }
        }
        let json = serde_json::to_vec_pretty(&cells).map_err(|e| TrainError::Output {
            path: self.out.join("tables.json"),
            source: e.into(),
        })?;
        write(&self.out.join("tables.json"), &json)?;
        write(&self.out.join("tables.html"), page(&cells).as_bytes())?;
        say(format_args!("{}", self.out.join("tables.html").display()));
        Ok(match odd {
            true => ExitCode::SomeInputsFailed,
            false => ExitCode::Good,
        })
    }

    /// A method on a set, measured or from its file, and how many pictures failed.
    fn cell(
        &self,
        clip: &Clip,
        name: &str,
        samples: &[datasets::Sample],
        judge: &Judge,
    ) -> Result<(Cell, usize), TrainError> {
        let (method, options) = (judge.method, &judge.options);
        let size = self.image_size.map_or(String::new(), |s| s.to_string());
        let mut made_from = vec![
            clip.digest.clone(),
            format!("{:?} {:?} {size}", clip.activation, clip.preprocess),
            datasets::digest(samples),
        ];
        made_from.extend(judge.made_from.iter().cloned());
        let target = path(&self.out, name, method);
        if let Some(cell) = done(&target, &made_from) {
            return Ok((cell, 0));
        }
        let device = Options {
            threads: options.threads,
            ..Options::default()
        };
        let asked = MethodOptions {
            method,
            ..MethodOptions::default()
        };
        let bar = bar(samples.len(), &format!("{name}, {method}"));
        let samples = samples.to_vec();
        let (judged, failed) = match &judge.with {
            With::Prompts(prompts) => {
                let bundle = self.out.join("faprompt.bundle");
                export::export(clip, prompts, options, &bundle, &bar)?;
                let bundle = Bundle::open(&bundle, &Keys::default())?;
                let mut inspector = Inspector::new(&bundle, device)?;
                evaluate::judge(&mut inspector, samples, &bar)
            }
            With::Blip(blip) => blip::judge::judge(blip, &asked, self.image_size, samples, &bar)?,
            With::Filo(learned) => {
                let flex = Device::flex();
                filo::judge::judge(clip, learned, &asked, options, &flex, samples, &bar)?
            }
            With::Nothing if method == Method::Anovl => {
                anovl::judge(clip, &asked, options, 0, samples, &bar)?
            }
            With::Nothing => judge::judge(clip, &asked, None, options, device, samples, &bar)?,
            With::Learned(learned) => {
                let learned = Some(&**learned);
                judge::judge(clip, &asked, learned, options, device, samples, &bar)?
            }
        };
        bar.finish_and_clear();
        failed
            .iter()
            .for_each(|f| warn(format_args!("not counted: {f}")));
        let cell = Cell {
            set: name.into(),
            method,
            made_from,
            figures: evaluate::mean(&evaluate::by_class(&judged)),
            reported: None,
        };
        if failed.is_empty() {
            let text = serde_json::to_vec(&cell).map_err(|e| TrainError::Output {
                path: target.clone(),
                source: e.into(),
            })?;
            write(&target, &text)?;
        }
        Ok((cell, failed.len()))
    }
}
