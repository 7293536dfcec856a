//! A run on disk: what `--resume` goes on from.

use super::Options;
use super::learner::Used;
use super::names::Names;
use crate::train::TrainError;
use crate::train::clip::{Text, Visual, store_text, store_visual};
use crate::train::resume::{self, differences, remove_other_optimizers, save_optimizer};
use crate::train::tensors::store::Store;
use crate::train::tensors::{TensorError, Tensors};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Key of the record in the files' metadata.
const RECORD: &str = "faprompt.text";

/// What a run was begun with, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps of the text encoder that are done.
    pub step: usize,
    /// SHA-256 of the tower's file.
    pub tower: String,
    /// The labelled sets: name, what identifies the pictures.
    pub sets: Vec<(String, String)>,
    /// The rendered ones.
    pub rendered: Vec<(String, String)>,
    /// SHA-256 of the table of photos.
    pub labels: String,
    /// How it learns.
    #[serde(flatten)]
    pub options: Options,
}

/// What the text encoder shall meet.
pub struct Locked {
    /// The image encoder, its last MLP taught.
    pub visual: Visual,
    /// The directions of what has a name.
    pub names: Names,
}

/// A text encoder that learned for some steps.
pub struct Saved {
    /// How many.
    pub step: usize,
    /// Its numbers, without a token table.
    pub text: Text,
    /// The rows of the table that learned.
    pub used: Used,
    /// The optimizer's state.
    pub optimizer: OptimizerRecord,
}

/// The folder of a run.
pub struct Checkpoint {
    folder: PathBuf,
}

fn wrong(path: &Path, what: impl ToString) -> TrainError {
    TrainError::Weights {
        path: path.into(),
        what: what.to_string(),
    }
}

impl Checkpoint {
    /// Of the folder, which is there.
    pub fn new(folder: &Path) -> Checkpoint {
        Checkpoint {
            folder: folder.into(),
        }
    }

    fn image(&self) -> PathBuf {
        self.folder.join("image.safetensors")
    }

    /// The text encoder's numbers; the file names the step that it belongs to.
    pub fn text(&self) -> PathBuf {
        self.folder.join("text.safetensors")
    }

    fn optimizer(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step}.optimizer"))
    }

    /// A file of the run with its record; `None` if it is not there.
    fn read(&self, path: &Path) -> Result<Option<(Tensors, Record)>, TrainError> {
        if !path.is_file() {
            return Ok(None);
        }
        let tensors = Tensors::load(path).map_err(|e| wrong(path, e))?;
        let text = tensors
            .note(RECORD)
            .ok_or_else(|| wrong(path, "it was not written by `text`"))?;
        let record = serde_json::from_str(text)
            .map_err(|e| wrong(path, format!("metadata `{RECORD}`: {e}")))?;
        Ok(Some((tensors, record)))
    }

    fn note(&self, store: &mut Store, record: &Record) {
        let text = serde_json::to_string(record).expect("numbers and texts");
        store.note(RECORD, text);
    }

    /// Keeps what the text encoder shall meet: once, before its first step.
    ///
    /// # Errors
    /// [`TrainError::Output`].
    pub fn save_locked(&self, record: &Record, locked: &Locked) -> Result<(), TrainError> {
        let mut store = Store::default();
        store_visual(&mut store, &locked.visual);
        let names = &locked.names;
        store.array("normal", &names.normal);
        store.array("damaged", &names.damaged);
        for (prefix, all) in [("thing", &names.things), ("kind", &names.kinds)] {
            for (name, direction) in all {
                store.array(format!("{prefix} {name}"), direction);
            }
        }
        self.note(&mut store, record);
        store.save(&self.image())
    }

    /// What the text encoder shall meet; `None` if it is not known yet.
    ///
    /// # Errors
    /// [`TrainError::Options`] if something is there and `resume` does not say so, or if it was begun with other options or
    /// data; [`TrainError::Weights`] for a damaged file.
    pub fn locked(&self, now: &Record, resume: bool) -> Result<Option<Locked>, TrainError> {
        let path = self.image();
        let Some((tensors, record)) = self.read(&path)? else {
            return Ok(None);
        };
        if !resume {
            return Err(TrainError::Options(format!(
                "{} holds a run: go on with --resume, or choose another --out",
                self.folder.display()
            )));
        }
        self.same(&record, now)?;
        let odd = |e: TensorError| wrong(&path, e);
        let visual = Visual::of_file(&tensors).map_err(odd)?;
        let joint = visual.proj.nrows();
        let named = |prefix: &str| -> Result<BTreeMap<String, Array1<f32>>, TensorError> {
            let all = tensors
                .names()
                .filter_map(|n| Some((n, n.strip_prefix(prefix)?)));
            let all: Vec<_> = all
                .map(|(n, own)| (n.to_string(), own.to_string()))
                .collect();
            all.into_iter()
                .map(|(n, own)| Ok((own, tensors.vector(&n, joint)?)))
                .collect()
        };
        let names = Names {
            normal: tensors.vector("normal", joint).map_err(odd)?,
            damaged: tensors.vector("damaged", joint).map_err(odd)?,
            things: named("thing ").map_err(odd)?,
            kinds: named("kind ").map_err(odd)?,
        };
        Ok(Some(Locked { visual, names }))
    }

    fn same(&self, there: &Record, now: &Record) -> Result<(), TrainError> {
        let differs = differences(there, now, &["step"], |name| match name {
            "tower" => Some("another tower"),
            "sets" => Some("--sets: there other pictures"),
            "rendered" => Some("--rendered-sets: there other pictures"),
            "labels" => Some("--labels: there another table"),
            _ => None,
        });
        match differs.is_empty() {
            true => Ok(()),
            false => Err(TrainError::Options(format!(
                "{} was begun with other options or data:\n  {}",
                self.folder.display(),
                differs.join("\n  ")
            ))),
        }
    }

    /// Keeps a step. The text encoder's file names it, so it is written last; optimizers of other steps go after that.
    ///
    /// # Errors
    /// [`TrainError::Output`], a full disk among them: what was kept before is still there.
    pub fn save(
        &self,
        record: &Record,
        text: &Text,
        used: &Used,
        optimizer: &ModuleOptimizer,
    ) -> Result<(), TrainError> {
        let path = self.optimizer(record.step);
        save_optimizer(optimizer, &path)?;
        let mut store = Store::default();
        store_text(&mut store, text);
        let ids: Array1<f32> = used.0.keys().map(|id| *id as f32).collect();
        store.array("tokens", &ids);
        for (i, name) in ["rows", "means", "squares"].into_iter().enumerate() {
            let rows: Vec<_> = used.0.values().map(|row| row[i].view()).collect();
            let rows = ndarray::stack(Axis(0), &rows).unwrap_or_else(|_| Array2::zeros((0, 0)));
            store.array(format!("tokens.{name}"), &rows);
        }
        self.note(&mut store, record);
        store.save(&self.text())?;
        remove_other_optimizers(&self.folder, &path);
        Ok(())
    }

    /// The text encoder that learned already; `None` if it has not begun.
    ///
    /// # Errors
    /// As [`Checkpoint::locked`].
    pub fn learned(&self, now: &Record) -> Result<Option<Saved>, TrainError> {
        let path = self.text();
        let Some((tensors, record)) = self.read(&path)? else {
            return Ok(None);
        };
        self.same(&record, now)?;
        let odd = |e: TensorError| wrong(&path, e);
        let text = Text::of_file(&tensors).map_err(odd)?;
        let ids = tensors.array("tokens").map_err(odd)?;
        let rows = ["rows", "means", "squares"].map(|name| {
            tensors.matrix(&format!("tokens.{name}"), Some(ids.len()), Some(text.width))
        });
        let [rows, means, squares] = rows.map(|r| r.map_err(odd));
        let (rows, means, squares) = (rows?, means?, squares?);
        let used = ids.iter().enumerate().map(|(i, id)| {
            let of = |all: &Array2<f32>| all.row(i).to_owned();
            (*id as usize, [of(&rows), of(&means), of(&squares)])
        });
        let used = Used(used.collect());
        let vocabulary = crate::train::clip::VOCABULARY;
        if used.0.keys().any(|id| *id >= vocabulary) {
            return Err(wrong(
                &path,
                format!("tokens: numbers from {vocabulary} on"),
            ));
        }
        let optimizer = resume::optimizer(&self.optimizer(record.step), &path)?;
        Ok(Some(Saved {
            step: record.step,
            text,
            used,
            optimizer,
        }))
    }
}
