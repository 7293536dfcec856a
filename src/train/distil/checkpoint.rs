//! A run on disk: what `--resume` goes on from.

use super::student::HeadNumbers;
use super::targets::Targets;
use super::{Length, Options};
use crate::train::TrainError;
use crate::train::clip::{Visual, store_norm, store_visual};
use crate::train::nn::Products;
use crate::train::resume::{self, differences, remove_other_optimizers, save_optimizer};
use crate::train::tensors::store::Store;
use crate::train::tensors::{Tensors, VV_LAYERS};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Key of the record in the files' metadata.
const RECORD: &str = "faprompt.distil";

/// What a run was begun with, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps that are done.
    pub step: usize,
    /// Views that were seen.
    pub seen: usize,
    /// Seconds of all pieces.
    pub spent: f64,
    /// Channels, blocks, blocks with the V-V stream, patch, side, numbers of a feature.
    pub student: [usize; 6],
    /// Views of a step.
    pub batch: usize,
    /// Side of the large views, 0 for none.
    pub large: usize,
    /// Peak of the learning rate, for 192 channels.
    pub lr: f64,
    /// Different views of a photo, 0 for new ones always.
    pub views: usize,
    /// How long the whole run is.
    pub length: Length,
    /// Of every random number.
    pub seed: u64,
    /// Side of the photos in memory.
    pub photo_side: usize,
    /// What the teachers' answers depend on.
    pub teachers: String,
    /// SHA-256 over all photos.
    pub photos: String,
    /// The numbers of matrix products.
    pub products: Products,
}

impl Record {
    /// Of a run that begins.
    pub fn new(options: &Options, teachers: String, photos: String) -> Record {
        let s = &options.sizes;
        Record {
            step: 0,
            seen: 0,
            spent: 0.0,
            student: [s.width, s.layers, s.vv_layers, s.patch, s.side, s.joint],
            batch: options.batch,
            large: options.large,
            lr: options.lr,
            views: options.views,
            length: options.length,
            seed: options.seed,
            photo_side: options.photo_side,
            teachers,
            photos,
            products: options.products,
        }
    }

    /// What `here` says differently, a sentence each; how far they are does not count.
    fn differences(&self, here: &Record) -> Vec<String> {
        let moved = ["step", "seen", "spent"];
        differences(self, here, &moved, |name| match name {
            "photos" => Some("--photos: there other photos"),
            "teachers" => Some("--teacher: there other files, taps or normalisation"),
            _ => None,
        })
    }
}

/// What a run goes on with.
pub struct Saved {
    /// How far it is.
    pub record: Record,
    /// The tower.
    pub visual: Visual,
    /// Its heads.
    pub heads: Vec<HeadNumbers>,
    /// The optimizer's state.
    pub optimizer: OptimizerRecord,
    /// How the teachers' maps become targets.
    pub targets: Targets,
}

/// The folder of a run.
pub struct Checkpoint {
    folder: PathBuf,
}

impl Checkpoint {
    /// Of the folder, which is there.
    pub fn new(folder: &Path) -> Checkpoint {
        Checkpoint {
            folder: folder.into(),
        }
    }

    /// The student's numbers; the file names the step that it belongs to.
    pub fn student(&self) -> PathBuf {
        self.folder.join("student.safetensors")
    }

    fn targets(&self) -> PathBuf {
        self.folder.join("targets.safetensors")
    }

    fn optimizer(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step}.optimizer"))
    }

    /// Adds a line to the run's log.
    ///
    /// # Errors
    /// [`TrainError::Output`].
    pub fn log(&self, line: &serde_json::Value) -> Result<(), TrainError> {
        let path = self.folder.join("log.jsonl");
        let options = &mut std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .map_err(|source| TrainError::Output { path, source })
    }

    /// Keeps how targets are made: once, before the first step.
    ///
    /// # Errors
    /// [`TrainError::Output`].
    pub fn save_targets(&self, targets: &Targets) -> Result<(), TrainError> {
        let mut store = Store::default();
        targets.store(&mut store);
        store.save(&self.targets())
    }

    /// Keeps a step. The student's file names it, so it is written last; optimizers of other steps go after that.
    ///
    /// # Errors
    /// [`TrainError::Output`], a full disk among them: what was kept before is still there.
    pub fn save(
        &self,
        record: &Record,
        visual: &Visual,
        heads: &[HeadNumbers],
        optimizer: &ModuleOptimizer,
    ) -> Result<(), TrainError> {
        let path = self.optimizer(record.step);
        let failed = |source| TrainError::Output {
            path: path.clone(),
            source,
        };
        save_optimizer(optimizer, &path)?;
        let mut store = Store::default();
        store_visual(&mut store, visual);
        for (i, head) in heads.iter().enumerate() {
            store_norm(&mut store, &format!("heads.{i}.norm"), &head.norm);
            store.array(format!("heads.{i}.weight"), &head.layer.weight);
            store.array(format!("heads.{i}.bias"), &head.layer.bias);
        }
        let text = serde_json::to_string(record).map_err(|e| failed(e.into()))?;
        store.note(RECORD, text);
        store.note(VV_LAYERS, record.student[2].to_string());
        store.save(&self.student())?;
        remove_other_optimizers(&self.folder, &path);
        Ok(())
    }

    /// What is there to go on from; `None` if nothing was kept.
    ///
    /// # Errors
    /// [`TrainError::Options`] if there is something and `resume` does not say so, or if it was begun with other
    /// options, teachers or photos; [`TrainError::Weights`] and [`TrainError::Data`] for damaged files.
    pub fn load(&self, now: &Record, resume: bool) -> Result<Option<Saved>, TrainError> {
        let path = self.student();
        if !path.is_file() {
            return Ok(None);
        }
        let wrong = |path: &Path, what: String| TrainError::Weights {
            path: path.into(),
            what,
        };
        let odd = |e: crate::train::tensors::TensorError| wrong(&path, e.to_string());
        let tensors = Tensors::load(&path).map_err(odd)?;
        let text = tensors.note(RECORD);
        let text = text.ok_or_else(|| wrong(&path, "it was not written by `distil`".into()))?;
        let record: Record = serde_json::from_str(text)
            .map_err(|e| wrong(&path, format!("metadata `{RECORD}`: {e}")))?;
        if !resume {
            return Err(TrainError::Options(format!(
                "{} holds a run of {} steps: go on with --resume, or choose another --out",
                self.folder.display(),
                record.step
            )));
        }
        let differs = record.differences(now);
        if !differs.is_empty() {
            return Err(TrainError::Options(format!(
                "{} was begun with other options or data:\n  {}",
                self.folder.display(),
                differs.join("\n  ")
            )));
        }
        let visual = Visual::of_file(&tensors).map_err(odd)?;
        let width = visual.width;
        let mut heads = vec![];
        while tensors.has(&format!("heads.{}.weight", heads.len())) {
            let i = heads.len();
            let weight = tensors.matrix(&format!("heads.{i}.weight"), None, Some(width));
            let weight = weight.map_err(odd)?;
            let bias = tensors.vector(&format!("heads.{i}.bias"), weight.nrows());
            let norm = crate::train::clip::norm(&tensors, &format!("heads.{i}.norm"), width);
            heads.push(HeadNumbers {
                norm: norm.map_err(odd)?,
                layer: crate::train::clip::Dense {
                    bias: bias.map_err(odd)?,
                    weight,
                },
            });
        }
        let targets = self.targets();
        let read = Tensors::load(&targets).map_err(|e| wrong(&targets, e.to_string()))?;
        let targets = Targets::read(&read).map_err(|e| wrong(&targets, e))?;
        let optimizer = resume::optimizer(&self.optimizer(record.step), &path)?;
        Ok(Some(Saved {
            record,
            visual,
            heads,
            optimizer,
            targets,
        }))
    }
}
