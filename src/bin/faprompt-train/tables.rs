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
use faprompt_edge::train::export::{self, ExportOptions};
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::methods::tables::{Cell, done, page, path, reported, write};
use faprompt_edge::train::methods::{MethodOptions, anovl, blip, filo, judge};
use faprompt_edge::train::progress::bar;
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::tensors::{TensorError, Tensors};
use std::path::PathBuf;

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

impl Tables {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
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
        let mut methods = vec![Method::Clip, Method::ClipAc, Method::Winclip, Method::Anovl];
        methods.extend(self.learned.iter().map(|(method, _)| *method));
        let papers = reported();
        let (mut cells, mut odd) = (vec![], false);
        for (name, samples) in &sets {
            for method in &methods {
                let (cell, failed) = self.cell(&clip, name, samples, *method)?;
                odd |= failed > 0;
                let known = papers.get(*name).and_then(|set| set.get(method)).copied();
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
        method: Method,
    ) -> Result<(Cell, usize), TrainError> {
        let file = self.learned.iter().find(|(m, _)| *m == method);
        let size = self.image_size.map_or(String::new(), |s| s.to_string());
        let mut made_from = vec![
            clip.digest.clone(),
            format!("{:?} {:?} {size}", clip.activation, clip.preprocess),
            datasets::digest(samples),
        ];
        let threads = self.threads.unwrap_or(cores());
        let device = Options {
            threads,
            ..Options::default()
        };
        let options = ExportOptions {
            image_size: self.image_size,
            ..ExportOptions::plain(threads)
        };
        let asked = MethodOptions {
            method,
            ..MethodOptions::default()
        };
        let target = path(&self.out, name, method);
        let bar = bar(samples.len(), &format!("{name}, {method}"));
        let samples = samples.to_vec();
        let (judged, failed) = match (method, file) {
            (Method::Faprompt, Some((_, path))) => {
                let prompts = Prompts::load(path, clip)?;
                made_from.push(prompts.digest.clone());
                if let Some(cell) = done(&target, &made_from) {
                    return Ok((cell, 0));
                }
                let bundle = self.out.join("faprompt.bundle");
                export::export(clip, &prompts, &options, &bundle, &bar)?;
                let bundle = Bundle::open(&bundle, &Keys::default())?;
                let mut inspector = Inspector::new(&bundle, device)?;
                evaluate::judge(&mut inspector, samples, &bar)
            }
            (Method::Blip, Some((_, path))) => {
                let blip = self.weights.load_blip(path, &Device::flex())?;
                made_from.push(blip.digest.clone());
                if let Some(cell) = done(&target, &made_from) {
                    return Ok((cell, 0));
                }
                blip::judge::judge(&blip, &asked, self.image_size, samples, &bar)?
            }
            (Method::Filo, Some((_, path))) => {
                let failed = |e: TensorError| TrainError::Prompts {
                    path: path.clone(),
                    what: e.to_string(),
                };
                let learned = Tensors::load(path).map_err(failed)?;
                let digest = learned.digest();
                made_from.push(digest.map_err(|e| failed(TensorError::File(e.to_string())))?);
                if let Some(cell) = done(&target, &made_from) {
                    return Ok((cell, 0));
                }
                let judge = filo::judge::judge;
                judge(
                    clip,
                    &learned,
                    &asked,
                    &options,
                    &Device::flex(),
                    samples,
                    &bar,
                )?
            }
            (_, file) => {
                let learned = match file {
                    Some((_, path)) => Some(Learned::load(path, method, clip)?),
                    None => None,
                };
                made_from.extend(learned.iter().map(|l| l.digest.clone()));
                if let Some(cell) = done(&target, &made_from) {
                    return Ok((cell, 0));
                }
                match method {
                    Method::Anovl => anovl::judge(clip, &asked, &options, 0, samples, &bar)?,
                    _ => judge::judge(
                        clip,
                        &asked,
                        learned.as_ref(),
                        &options,
                        device,
                        samples,
                        &bar,
                    )?,
                }
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
