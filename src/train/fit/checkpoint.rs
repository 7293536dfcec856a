//! Prompts on disk: what `export` reads, and what `--resume` goes on from.

use super::variant::Variant;
use super::{Options, Start};
use crate::bundle::manifest::{ScoreRule, Selection};
use crate::durable::Lock;
use crate::train::TrainError;
use crate::train::clip::{Clip, Network};
use crate::train::datasets::{Sample, digest};
use crate::train::prompts::Prompts;
use crate::train::resume::{self, differences, fewer, save_optimizer};
use crate::train::tensors::store::Store;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Key of the record in the file's metadata.
pub const RECORD: &str = "faprompt.fit";

/// What FAPrompt learns is kept as, in the folder of its run.
pub const PROMPTS: &str = "prompts.safetensors";

/// What any other method learns is kept as, in the folder of its run.
pub const LEARNED: &str = "learned.safetensors";

/// Refuses the folder of a run of the other kind, whose numbers are kept as `others`: both kinds keep the optimizer's
/// state under the same names, so that each would overwrite what the other goes on from.
///
/// # Errors
/// [`TrainError::Options`] that names the file.
pub(in crate::train) fn refuse_other_run(out: &Path, others: &str) -> Result<(), TrainError> {
    let file = out.join(others);
    if !file.exists() {
        return Ok(());
    }
    let whose = match others {
        PROMPTS => "prompts of FAPrompt",
        _ => "numbers of another method than FAPrompt",
    };
    Err(TrainError::Options(format!(
        "{}: this folder holds {whose}, and two runs in one folder would overwrite each other's optimizer: choose another --out",
        file.display()
    )))
}

/// What prompts were learned with: `export` and `evaluate` take it as their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Epochs that are done.
    pub epoch: usize,
    /// What was switched on.
    pub variant: Variant,
    /// Which patches feed psi.
    pub selection: Selection,
    /// How the maxima are combined.
    pub rule: ScoreRule,
    /// Side of the input in pixels.
    pub image_size: usize,
    /// Blocks with the V-V stream.
    pub vv_layers: usize,
    /// SHA-256 of the CLIP weights.
    pub clip: String,
    /// What the weights do not say of their network; absent in files that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What they were learned from, as [`digest`] computes it; empty in files that do not say.
    #[serde(default)]
    pub data: String,
    /// Number of pictures per step.
    pub batch: usize,
    /// Learning rate of the optimiser.
    pub lr: f64,
    /// What the prompts began with.
    #[serde(default)]
    pub start: Start,
    /// The seed of the first numbers and of the order of pictures.
    pub seed: u64,
}

impl Record {
    /// The record in a file that `fit` wrote; `None` for prompts from elsewhere.
    ///
    /// # Errors
    /// [`TrainError::Prompts`] if the record is malformed.
    pub fn of(prompts: &Prompts) -> Result<Option<Record>, TrainError> {
        let parse = |text: &String| {
            serde_json::from_str(text).map_err(|e| TrainError::Prompts {
                path: prompts.path.clone(),
                what: format!("metadata `{RECORD}`: {e}"),
            })
        };
        prompts.record.as_ref().map(parse).transpose()
    }
}

impl Record {
    /// Refuses weights that the prompts were not learned on.
    ///
    /// # Errors
    /// [`TrainError::Options`]: the prompts were learned on other weights.
    pub fn belongs_to(&self, clip: &Clip, prompts: &Prompts) -> Result<(), TrainError> {
        if self.clip != clip.digest {
            return Err(TrainError::Options(format!(
                "{} was learned on other weights than {}",
                prompts.path.display(),
                clip.path.display()
            )));
        }
        let here = clip.network();
        match &self.network {
            Some(there) if *there != here => Err(TrainError::Options(format!(
                "{} was learned on these weights read as another network: {}; say the same with {}",
                prompts.path.display(),
                there.differences(&here).join(", "),
                there.options()
            ))),
            _ => Ok(()),
        }
    }
}

/// What the record does not say of the prompts, for it shows in the tensors.
fn sizes(prompts: &Prompts) -> [(&'static str, Vec<usize>); 4] {
    let deep = prompts.deep.first().map_or(0, |d| d.nrows());
    [
        ("--e", vec![prompts.normal.nrows()]),
        ("--k, --ea", prompts.abnormal.shape()[..2].to_vec()),
        (
            "--m (or --prior), times the width",
            vec![prompts.fc1.weight.ncols()],
        ),
        (
            "--deep-blocks, --deep-length",
            vec![prompts.deep.len(), deep],
        ),
    ]
}

/// A folder that no other run writes into, as long as this lives.
#[derive(Debug)]
pub struct Held {
    _lock: Lock,
}

/// The folder of a run.
pub struct Checkpoint {
    out: PathBuf,
}

impl Checkpoint {
    /// The checkpoint of the folder `out`.
    pub fn new(out: &Path) -> Checkpoint {
        Checkpoint { out: out.into() }
    }

    /// Makes the folder `out` and keeps other runs out of it: two would overwrite each other's checkpoints.
    ///
    /// # Errors
    /// [`TrainError::Options`] if another run holds it, [`TrainError::Output`].
    pub fn hold(out: &Path) -> Result<Held, TrainError> {
        let failed = |source| TrainError::Output {
            path: out.into(),
            source,
        };
        std::fs::create_dir_all(out).map_err(failed)?;
        let lock = Lock::take(&out.join("lock")).map_err(failed)?;
        lock.map(|_lock| Held { _lock }).ok_or_else(|| {
            TrainError::Options(format!(
                "{}: another run is writing into this folder: wait for it, or choose another --out",
                out.display()
            ))
        })
    }

    /// The prompts: always those of a finished epoch.
    pub fn prompts(&self) -> PathBuf {
        self.out.join(PROMPTS)
    }

    fn optimizer(&self, epoch: usize) -> PathBuf {
        self.out.join(format!("epoch-{epoch}.optimizer"))
    }

    /// Saves an epoch. The prompts' file names the epoch, so it is written last; the optimizer of the
    /// epoch before goes after that.
    ///
    /// # Errors
    /// [`TrainError::Output`]: the file cannot be written.
    pub fn save(
        &self,
        prompts: &Prompts,
        record: &Record,
        optimizer: &ModuleOptimizer,
    ) -> Result<(), TrainError> {
        save_optimizer(optimizer, &self.optimizer(record.epoch))?;
        let mut store = Store::default();
        store.array("prompts.normal", &prompts.normal);
        store.array("prompts.abnormal", &prompts.abnormal);
        for (i, deep) in prompts.deep.iter().enumerate() {
            store.array(format!("prompts.deep.{i}"), deep);
        }
        for (name, layer) in [("prior.fc1", &prompts.fc1), ("prior.fc2", &prompts.fc2)] {
            store.array(format!("{name}.weight"), &layer.weight);
            store.array(format!("{name}.bias"), &layer.bias);
        }
        if let Some(weights) = &prompts.weights {
            store.array("prompts.weights", weights);
        }
        let text = serde_json::to_string(record).map_err(|e| TrainError::Output {
            path: self.prompts(),
            source: e.into(),
        })?;
        store.note(RECORD, text);
        store.save(&self.prompts())?;
        if let Some(before) = record.epoch.checked_sub(1) {
            // A leftover file does no harm, so a failure to remove it is none.
            let _ = std::fs::remove_file(self.optimizer(before));
        }
        Ok(())
    }

    /// Makes the folder `out`, and reads what is there to go on from.
    ///
    /// # Errors
    /// As [`Checkpoint::load`]; [`TrainError::Output`]; [`TrainError::Options`] if there is something to go on
    /// from and `resume` does not say so.
    #[allow(clippy::type_complexity)]
    pub fn begin(
        out: &Path,
        resume: bool,
        clip: &Clip,
        options: &Options,
        samples: &[Sample],
    ) -> Result<(Checkpoint, Option<(Prompts, Record, OptimizerRecord)>), TrainError> {
        refuse_other_run(out, LEARNED)?;
        std::fs::create_dir_all(out).map_err(|source| TrainError::Output {
            path: out.into(),
            source,
        })?;
        let checkpoint = Checkpoint::new(out);
        let saved = checkpoint.load(clip, options, samples)?;
        match &saved {
            Some((_, record, _)) if !resume => Err(TrainError::Options(format!(
                "{} holds prompts of {} epochs: go on with --resume, or choose another --out",
                out.display(),
                record.epoch
            ))),
            _ => Ok((checkpoint, saved)),
        }
    }

    /// Prompts, record and optimizer state of the last finished epoch; `None` if there is none.
    ///
    /// # Errors
    /// [`TrainError::Prompts`], [`TrainError::Data`], or [`TrainError::Options`] for a run with other
    /// options or of other data.
    pub fn load(
        &self,
        clip: &Clip,
        options: &Options,
        samples: &[Sample],
    ) -> Result<Option<(Prompts, Record, OptimizerRecord)>, TrainError> {
        let path = self.prompts();
        if !path.is_file() {
            return Ok(None);
        }
        let prompts = Prompts::load(&path, clip)?;
        let record = Record::of(&prompts)?.ok_or_else(|| TrainError::Prompts {
            path: path.clone(),
            what: "it was not written by `fit`".into(),
        })?;
        let now = options.record(clip, &digest(samples), record.epoch);
        // A record that does not say its data may have any.
        let moved = if record.data.is_empty() {
            &["data"][..]
        } else {
            &[]
        };
        let mut differs = differences(&record, &now, moved, |name| match name {
            "clip" => Some("--clip: there other weights"),
            "data" => Some("data: there other pictures or masks"),
            _ => None,
        });
        let (there, here) = (sizes(&prompts), sizes(&Prompts::fresh(clip, options)?));
        for ((name, there), (_, here)) in there.into_iter().zip(here) {
            if there != here {
                differs.push(format!("{name}: there {there:?}, here {here:?}"));
            }
        }
        differs.extend(fewer(record.epoch, options.epochs));
        if !differs.is_empty() {
            return Err(TrainError::Options(format!(
                "{} was learned with other options or data:\n  {}",
                path.display(),
                differs.join("\n  ")
            )));
        }
        let state = resume::optimizer(&self.optimizer(record.epoch), &path)?;
        Ok(Some((prompts, record, state)))
    }
}
