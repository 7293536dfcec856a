//! What all runs on disk share that `--resume` goes on from: what two records say differently, and the optimizer's state.

use super::TrainError;
use crate::bundle;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::tensor::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;

/// Fields in which two records differ, a sentence each, those in `moved` left aside; `named` says it in words where the
/// values themselves tell a reader nothing. A part that the older record does not have differs in nothing.
pub(super) fn differences<R: Serialize>(
    there: &R,
    here: &R,
    moved: &[&str],
    named: impl Fn(&str) -> Option<&'static str>,
) -> Vec<String> {
    let fields = |record: &R| match serde_json::to_value(record) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let mut said = vec![];
    apart(&fields(there), &fields(here), moved, &named, &mut said);
    said
}

fn apart(
    there: &Map<String, Value>,
    here: &Map<String, Value>,
    moved: &[&str],
    named: &impl Fn(&str) -> Option<&'static str>,
    said: &mut Vec<String>,
) {
    for (name, there) in there {
        let Some(here) = here.get(name) else { continue };
        if moved.contains(&name.as_str()) || there == here {
            continue;
        }
        match (there, here, named(name)) {
            (_, _, Some(words)) => said.push(words.into()),
            (Value::Object(there), Value::Object(here), None) => {
                apart(there, here, moved, named, said);
            }
            (Value::Null, Value::Object(_), None) => (),
            (_, _, None) => said.push(format!("{name}: there {there}, here {here}")),
        }
    }
}

/// What there is to say of a folder that holds more epochs than are asked for: the longer run is not the shorter one.
pub(super) fn fewer(there: usize, here: usize) -> Option<String> {
    let epochs = |n: usize| format!("{n} epoch{}", if n == 1 { "" } else { "s" });
    (there > here).then(|| format!("--epochs: there {}, here {here}", epochs(there)))
}

/// Writes an optimizer's state.
///
/// # Errors
/// [`TrainError::Output`].
pub(super) fn save_optimizer(optimizer: &ModuleOptimizer, path: &Path) -> Result<(), TrainError> {
    let failed = |source| TrainError::Output {
        path: path.to_path_buf(),
        source,
    };
    let bytes = optimizer.into_bytes();
    let bytes = bytes.map_err(|e| failed(std::io::Error::other(e.to_string())))?;
    bundle::save(&bytes, path).map_err(failed)
}

/// Reads an optimizer's state, which belongs to the numbers in the file `learned`.
///
/// # Errors
/// [`TrainError::Data`]: the file is gone or damaged.
pub(super) fn optimizer(path: &Path, learned: &Path) -> Result<OptimizerRecord, TrainError> {
    let wrong = |what: String| TrainError::Data {
        path: path.to_path_buf(),
        what: format!(
            "the optimizer's state cannot be read: {what}; without it the run cannot go on from {}: put a copy of it \
             there, or begin anew in another folder (--out)",
            learned.display()
        ),
    };
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(|e| wrong(e.to_string()))
}

/// Removes the optimizers of other steps than the one at `kept`.
pub(super) fn remove_other_optimizers(folder: &Path, kept: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(".optimizer") && entry.path() != kept {
            // A leftover file does no harm, so a failure to remove it is none.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::fit::adam;

    #[test]
    fn a_damaged_optimizer_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epoch-1.optimizer");
        let numbers = folder.path().join("learned.safetensors");
        save_optimizer(&adam(), &path).unwrap();
        assert!(optimizer(&path, &numbers).is_ok());
        let whole = std::fs::read(&path).unwrap();
        // Cut in its head; another file.
        for bytes in [vec![], whole[..8].to_vec(), vec![0xff; 64]] {
            std::fs::write(&path, &bytes).unwrap();
            let Err(wrong) = optimizer(&path, &numbers) else {
                panic!("{} of {} bytes were read", bytes.len(), whole.len());
            };
            let wrong = wrong.to_string();
            for word in ["epoch-1.optimizer: ", "learned.safetensors", "begin anew"] {
                assert!(wrong.contains(word), "{wrong}");
            }
        }
    }
}
