//! `faprompt-train ablate`.

use crate::fit::{Learning, encode, epoch_line};
use crate::given::Given;
use crate::ground::MethodGround;
use crate::samples::{refuse_same_set, samples, to_learn_from, with_masks};
use burn::tensor::Device;
use clap::Args;
use faprompt_edge::bundle;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::{Options as Inspecting, cores};
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::ablate::{MAIN, NAMES, Row, row};
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets::digest;
use faprompt_edge::train::evaluate::{Figures, Judged, by_class, mean};
use faprompt_edge::train::export::ExportOptions;
use faprompt_edge::train::fit::checkpoint::Checkpoint;
use faprompt_edge::train::fit::encode::Encoder;
use faprompt_edge::train::fit::judge::{average, judge};
use faprompt_edge::train::fit::{Encoded, Options, fit, refuse_one_kind};
use faprompt_edge::train::methods::judge::judge as method_judge;
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::methods::{MethodOptions, anovl};
use faprompt_edge::train::progress::{Interrupt, bar};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arguments of `ablate`.
#[derive(Args)]
pub struct Ablate {
    /// Data sets to learn from
    #[arg(long, required = true, num_args = 1..)]
    train: Vec<PathBuf>,
    /// Data sets to measure on
    #[arg(long, required = true, num_args = 1..)]
    test: Vec<PathBuf>,
    /// Variants: `main` (the paper's six), `all`, a name, or a sweep such as k=5 or m=20
    #[arg(long, num_args = 1.., default_value = "main")]
    variants: Vec<String>,
    /// Methods to learn and measure instead of variants of FAPrompt
    #[arg(long, value_enum, num_args = 1.., conflicts_with = "variants")]
    method: Vec<Method>,
    /// Folder for each variant's prompts and figures; what is already there is not done again
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    learning: Learning,
}

/// A row's figures, as `figures.json` in its folder.
#[derive(Serialize, Deserialize)]
struct Measured {
    label: String,
    /// What they were measured with, to tell them from those of other options.
    key: String,
    /// Mean over classes of each set.
    sets: BTreeMap<String, Figures>,
}

impl Ablate {
    /// Runs the command.
    pub fn run(&self, given: &Given) -> Result<ExitCode, TrainError> {
        refuse_same_set(&self.test)?;
        let done = match self.method.is_empty() {
            true => self.variants(),
            false => self.methods(given),
        };
        done.map_err(TrainError::of_a_command_that_goes_on)
    }

    /// The table of FAPrompt's variants.
    fn variants(&self) -> Result<ExitCode, TrainError> {
        let (clip, options) = self.learning.resolve()?;
        let names: Vec<&str> = self
            .variants
            .iter()
            .flat_map(|v| match v.as_str() {
                "main" => MAIN.to_vec(),
                "all" => NAMES.to_vec(),
                name => vec![name],
            })
            .collect();
        let rows = names
            .iter()
            .map(|n| row(n, &options).map_err(TrainError::Options))
            .collect::<Result<Vec<_>, _>>()?;
        for r in &rows {
            r.options.check(&clip)?;
        }
        let _held = Checkpoint::hold(&self.out)?;
        let cache = self.learning.cache(&clip, &options)?;
        let device = self.learning.device.open()?;
        let stop = Interrupt::catch()?;
        let mut encoder = Encoder::new(&clip, &options, &device);
        let masks = &self.learning.masks;
        let learned = samples(&self.train, masks)?;
        let learned = with_masks(learned, self.learning.accept_masks)?;
        refuse_one_kind(&learned)?;
        let tested = self
            .test
            .iter()
            .map(|p| samples(std::slice::from_ref(p), masks))
            .collect::<Result<Vec<_>, _>>()?;
        let train = encode(&mut encoder, &cache, &learned, stop)?;
        let tests = tested
            .iter()
            .map(|s| encode(&mut encoder, &cache, s, stop))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ground = Ground {
            clip: &clip,
            train,
            tests: self.test.iter().zip(tests).collect(),
            encoder,
            device,
            stop,
        };
        let mut table = vec![];
        for r in &rows {
            let folder = self.out.join(r.name.replace('=', "-"));
            let key = format!(
                "{:?} {} {:?} {:?}",
                r.options, clip.digest, self.train, self.test
            );
            let path = folder.join("figures.json");
            if let Some(measured) = known(&path, &key) {
                table.push(measured);
                continue;
            }
            say(format_args!("{}:", r.label));
            let measured = Measured {
                label: r.label.clone(),
                key,
                sets: ground.measure(r, &folder)?,
            };
            let failed = |source| TrainError::Output {
                path: path.clone(),
                source,
            };
            let text = serde_json::to_string_pretty(&measured).map_err(|e| failed(e.into()))?;
            bundle::save(text.as_bytes(), &path).map_err(failed)?;
            table.push(measured);
        }
        print(&table);
        Ok(ExitCode::Good)
    }
}

impl Ablate {
    /// The table of methods other than FAPrompt.
    fn methods(&self, given: &Given) -> Result<ExitCode, TrainError> {
        if let Some(odd) = self
            .method
            .iter()
            .find(|m| matches!(m, Method::Faprompt | Method::Filo | Method::Blip))
        {
            return Err(TrainError::Options(format!(
                "--method {odd}: `ablate` does not learn it; --variants are FAPrompt's"
            )));
        }
        given.refuse_idle_learning(&self.method)?;
        let _held = Checkpoint::hold(&self.out)?;
        let mut tests = vec![];
        for path in &self.test {
            tests.push((
                path,
                samples(std::slice::from_ref(path), &self.learning.masks)?,
            ));
        }
        let mut table = vec![];
        for method in &self.method {
            let asked = MethodOptions {
                method: *method,
                ..MethodOptions::default()
            };
            let folder = self.out.join(method.name());
            let masks = (&self.learning.masks, self.learning.accept_masks);
            let learned = to_learn_from(&self.train, masks, *method)?;
            let (clip, options) = self.learning.resolve_method(asked.clone())?;
            let key = format!(
                "{options:?} {} {} {:?}",
                clip.digest,
                digest(&learned),
                tests.iter().map(|(_, set)| digest(set)).collect::<Vec<_>>()
            );
            let path = folder.join("figures.json");
            if let Some(measured) = known(&path, &key) {
                table.push(measured);
                continue;
            }
            say(format_args!("{method}:"));
            let checkpoint = match method.is_learned() {
                true => {
                    let mut ground = MethodGround::new(&self.learning, asked.clone())?;
                    let path = ground.learn(&learned, &folder, true, cores())?;
                    Some(Learned::load(&path, *method, &clip)?)
                }
                false => None,
            };
            let export = ExportOptions {
                image_size: Some(options.image_size),
                vv_layers: Some(options.vv_layers),
                ..ExportOptions::plain(cores())
            };
            let device = Inspecting {
                threads: cores(),
                ..Inspecting::default()
            };
            let mut sets = BTreeMap::new();
            for (path, set) in &tests {
                let progress = bar(set.len(), "judge");
                let (set, learned) = (set.clone(), checkpoint.as_ref());
                let (judged, failed) = match method {
                    Method::Anovl => anovl::judge(&clip, &asked, &export, 0, set, &progress)?,
                    _ => method_judge(&clip, &asked, learned, &export, device, set, &progress)?,
                };
                progress.finish_and_clear();
                failed.iter().for_each(warn);
                sets.insert(path.display().to_string(), mean(&by_class(&judged)));
            }
            let label = method.name().into();
            let measured = Measured { label, key, sets };
            let failed = |source| TrainError::Output {
                path: path.clone(),
                source,
            };
            std::fs::create_dir_all(&folder).map_err(failed)?;
            let text = serde_json::to_string_pretty(&measured).map_err(|e| failed(e.into()))?;
            bundle::save(text.as_bytes(), &path).map_err(failed)?;
            table.push(measured);
        }
        print(&table);
        Ok(ExitCode::Good)
    }
}

/// What all rows share.
struct Ground<'a> {
    clip: &'a Clip,
    train: Encoded<'a>,
    tests: Vec<(&'a PathBuf, Encoded<'a>)>,
    encoder: Encoder,
    device: Device,
    stop: Interrupt,
}

impl Ground<'_> {
    /// Figures of each test set, over all runs of a row.
    fn measure(&mut self, r: &Row, folder: &Path) -> Result<BTreeMap<String, Figures>, TrainError> {
        // For each test set what every run said of it.
        let mut said: Vec<Vec<Vec<Judged>>> = self.tests.iter().map(|_| vec![]).collect();
        for i in 0..r.runs {
            let out = if r.runs == 1 {
                folder.to_path_buf()
            } else {
                folder.join(format!("run-{i}"))
            };
            let options = Options {
                seed: r.options.seed + i as u64,
                ..r.options.clone()
            };
            for (set, judged) in said.iter_mut().zip(self.run(&options, &out)?) {
                set.push(judged);
            }
        }
        let figures = |((path, _), runs): (&(&PathBuf, Encoded), _)| {
            (path.display().to_string(), mean(&by_class(&average(runs))))
        };
        Ok(self.tests.iter().zip(said).map(figures).collect())
    }

    /// Learns once, then judges every test set.
    fn run(&mut self, options: &Options, out: &Path) -> Result<Vec<Vec<Judged>>, TrainError> {
        let progress = bar(0, "fit");
        let prompts = fit(
            self.clip,
            options,
            &self.train,
            &mut self.encoder,
            Some((out, true)),
            &self.device,
            self.stop,
            &progress,
            |epoch| progress.suspend(|| say(epoch_line(epoch))),
        )?;
        progress.finish_and_clear();
        let mut all = vec![];
        for (_, set) in &self.tests {
            let progress = bar(0, "judge");
            let (judged, failed) = judge(
                self.clip,
                &prompts,
                options,
                set,
                &mut self.encoder,
                &self.device,
                self.stop,
                &progress,
            )?;
            progress.finish_and_clear();
            failed.iter().for_each(warn);
            all.push(judged);
        }
        Ok(all)
    }
}

/// Figures from an earlier run with the same options.
fn known(path: &Path, key: &str) -> Option<Measured> {
    let text = std::fs::read_to_string(path).ok()?;
    let measured: Measured = serde_json::from_str(&text).ok()?;
    (measured.key == key).then_some(measured)
}

/// The paper's table: (AUROC, AP) of images, (AUROC, PRO) of pixels, mean over sets.
fn print(table: &[Measured]) {
    say("mean over test sets                   image AUROC    AP   pixel AUROC   PRO");
    for m in table {
        let average = |f: &dyn Fn(&Figures) -> Option<f64>| {
            let known: Vec<f64> = m.sets.values().filter_map(f).collect();
            if known.is_empty() {
                return "    -".to_string();
            }
            format!(
                "{:5.1}",
                100.0 * known.iter().sum::<f64>() / known.len() as f64
            )
        };
        say(format_args!(
            "{:38}{}        {}   {}         {}",
            m.label,
            average(&|f| f.image_auroc),
            average(&|f| f.image_ap),
            average(&|f| f.pixel_auroc),
            average(&|f| f.pixel_pro),
        ));
    }
}
