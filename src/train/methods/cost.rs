//! What each method costs on this machine beside FAPrompt: random weights, the device's own code, in turn.

use super::bundle::bytes;
use super::fit::record::Record;
use super::fit::{Options as Learning, anomalyclip, april_gan, coop, dapo, heads, run};
use super::learned::{Learned, Numbers};
use super::options::MethodOptions;
use super::words::lists;
use crate::bundle::manifest::Precision;
use crate::bundle::method::Method;
use crate::bundle::{Bundle, Keys};
use crate::capture::known_frame;
use crate::inspector::{Inspector, Options};
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::export::{self, ExportOptions};
use crate::train::prompts::Prompts;
use crate::train::random::{self, Sizes};
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::PathBuf;

/// The methods that the device runs beside FAPrompt, and what each may cost at most of what FAPrompt costs; `None`:
/// nothing was promised.
pub const METHODS: [(Method, Option<f64>); 10] = [
    (Method::Anomalyclip, Some(1.02)),
    (Method::Heads, Some(1.02)),
    (Method::AprilGan, Some(1.0)),
    (Method::Clip, Some(1.0)),
    (Method::ClipAc, Some(1.0)),
    (Method::Coop, Some(1.0)),
    (Method::Cocoop, Some(1.05)),
    (Method::Dapo, Some(1.1)),
    (Method::Anovl, None),
    (Method::Winclip, None),
];

/// A method's row.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The method.
    pub method: Method,
    /// Milliseconds per frame, the median.
    pub ms: f64,
    /// Of FAPrompt's in the same round, the median.
    pub of_faprompt: f64,
    /// What it may be at most.
    pub limit: Option<f64>,
}

/// Whether `fit` learns the method with numbers of its own; FAPrompt's are prompts, of another kind.
pub fn has_numbers(method: Method) -> bool {
    method.is_learned() && !matches!(method, Method::Faprompt | Method::Filo)
}

/// The record of what [`fresh`] makes, as if a run had begun with it: `export` finds its stages there.
///
/// # Errors
/// [`TrainError::Options`] for weights that are too small for the method.
pub fn fresh_record(clip: &Clip, asked: &MethodOptions, seed: u64) -> Result<Record, TrainError> {
    let options = Learning {
        seed,
        ..Learning::published(asked.clone(), clip)
    };
    let spec = run::spec(clip, &options)?;
    Ok(Record::begun(
        clip.into(),
        &spec,
        &options,
        String::new(),
        vec![],
    ))
}

/// What `method` begins to learn from, never trained; `None` for a method that learns nothing here.
///
/// # Errors
/// [`TrainError::Weights`] if the weights lack a word's embedding, [`TrainError::Options`] if they are too small for
/// the method.
pub fn fresh(
    clip: &Clip,
    asked: &MethodOptions,
    seed: u64,
    threads: usize,
) -> Result<Option<Numbers>, TrainError> {
    let options = Learning {
        seed,
        ..Learning::published(asked.clone(), clip)
    };
    if !has_numbers(asked.method) {
        return Ok(None);
    }
    let spec = run::spec(clip, &options)?;
    let stages = spec.stages.len();
    Ok(Some(match asked.method {
        Method::Anomalyclip => anomalyclip::fresh(clip, &options),
        Method::AprilGan => april_gan::fresh(clip, stages, seed),
        Method::Heads => heads::fresh(clip, stages, seed, threads)?,
        Method::Dapo => dapo::fresh(clip, &spec, &options),
        _ => coop::fresh(clip, &options)?,
    }))
}

/// What is asked of a method: a class where its prompts name one, all of DAPO's words, the stages that `fit` takes.
fn asked(method: Method, clip: &Clip) -> Result<MethodOptions, TrainError> {
    let mut asked = MethodOptions {
        method,
        class: method.has_class().then(|| "object".into()),
        types: match method {
            Method::Dapo => lists().dapo.defects.clone(),
            _ => vec![],
        },
        // Random weights have no scale of their own.
        temperature: matches!(method, Method::Coop | Method::Cocoop).then_some(0.01),
        ..MethodOptions::default()
    };
    if method == Method::Heads {
        let options = Learning::published(asked.clone(), clip);
        asked.stages = run::spec(clip, &options)?.stages;
    }
    Ok(asked)
}

/// Has every method judge the known frame `rounds` times, in turn, after one round that does not count.
///
/// # Errors
/// As `export`, and [`TrainError::Options`] if a network fails.
pub fn costs(
    sizes: &Sizes,
    precision: Precision,
    threads: usize,
    rounds: usize,
    bar: &ProgressBar,
) -> Result<Vec<Cost>, TrainError> {
    let folder = tempfile::tempdir().map_err(|source| TrainError::Output {
        path: std::env::temp_dir(),
        source,
    })?;
    let (clip, prompts) = random::write(sizes, 1, folder.path())?;
    let clip = Clip::load(&clip)?;
    let prompts = Prompts::load(&prompts, &clip)?;
    let options = ExportOptions {
        precision,
        trained: false,
        ..ExportOptions::plain(threads)
    };
    let device = Options {
        threads,
        ..Options::default()
    };
    let path = folder.path().join("faprompt.bundle");
    export::export(&clip, &prompts, &options, &path, bar)?;
    let bundle = Bundle::open(&path, &Keys::default())?;
    let mut networks = vec![(Method::Faprompt, None, Inspector::new(&bundle, device)?)];
    drop(bundle);
    for (method, limit) in METHODS {
        let asked = asked(method, &clip)?;
        let learned = fresh(&clip, &asked, 1, threads)?.map(|numbers| Learned {
            path: PathBuf::new(),
            digest: String::new(),
            untrained: true,
            record: None,
            numbers,
        });
        let (_, bytes) = bytes(&clip, &asked, learned.as_ref(), &options)?;
        let bundle = Bundle::from_bytes(bytes)?;
        networks.push((method, limit, Inspector::new(&bundle, device)?));
    }
    let frame = known_frame();
    let mut times: Vec<Vec<f64>> = vec![vec![]; networks.len()];
    bar.set_length((rounds + 1) as u64);
    for round in 0..=rounds {
        for ((method, _, network), times) in networks.iter_mut().zip(&mut times) {
            let inspection = network
                .inspect(&frame)
                .map_err(|e| TrainError::Options(format!("{method}: {e}")))?;
            if round > 0 {
                times.push(inspection.ms.total());
            }
        }
        bar.inc(1);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let rows = networks
        .iter()
        .zip(&times)
        .map(|((method, limit, _), own)| {
            let ratios = own.iter().zip(&times[0]).map(|(a, b)| a / b);
            Cost {
                method: *method,
                ms: median(own.clone()),
                of_faprompt: median(ratios.collect()),
                limit: *limit,
            }
        });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::random::Architecture;

    #[test]
    fn every_method_of_the_device_runs_on_random_weights() {
        let bar = ProgressBar::hidden();
        let sizes = Architecture::Tiny.sizes();
        let costs = costs(&sizes, Precision::Int8, 1, 1, &bar).unwrap();
        assert_eq!(costs.len(), 1 + METHODS.len());
        assert_eq!(
            (costs[0].method, costs[0].of_faprompt),
            (Method::Faprompt, 1.0)
        );
        for cost in &costs {
            assert!(cost.ms > 0.0 && cost.of_faprompt > 0.0, "{}", cost.method);
        }
    }
}
