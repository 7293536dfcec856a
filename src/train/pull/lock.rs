//! The lock file: which file stood behind a name when it was first fetched.

use super::PullError;
use crate::bundle;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A file as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Length of the file, bytes.
    pub bytes: u64,
    /// Address that it came from.
    pub from: String,
    /// The commit of its repository, where the hub said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// All that was fetched: files by model and name. JSON, so that it can be kept under version control.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    version: u32,
    models: BTreeMap<String, BTreeMap<String, Locked>>,
}

const VERSION: u32 = 1;

impl Lock {
    /// Reads it; empty if there is none.
    ///
    /// # Errors
    /// [`PullError::Lock`]: the file cannot be read, or is no lock file.
    pub fn read(path: &Path) -> Result<Lock, PullError> {
        let fail = |what: String| PullError::Lock {
            path: path.to_path_buf(),
            what,
        };
        match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Lock {
                version: VERSION,
                models: BTreeMap::new(),
            }),
            Err(e) => Err(fail(e.to_string())),
            Ok(bytes) => {
                let lock: Lock = serde_json::from_slice(&bytes)
                    .map_err(|e| fail(format!("no lock file: {e}")))?;
                match lock.version {
                    VERSION => Ok(lock),
                    other => Err(fail(format!(
                        "a lock file of version {other}, not {VERSION}"
                    ))),
                }
            }
        }
    }

    /// What is known of a file.
    pub fn of(&self, model: &str, file: &str) -> Option<&Locked> {
        self.models.get(model)?.get(file)
    }

    /// Adds a file, or replaces what was noted of it.
    pub fn put(&mut self, model: &str, file: &str, locked: Locked) {
        let files = self.models.entry(model.into()).or_default();
        files.insert(file.into(), locked);
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`PullError::File`]: the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PullError> {
        let mut text = serde_json::to_string_pretty(self).expect("words and numbers");
        text.push('\n');
        bundle::save(text.as_bytes(), path).map_err(|source| PullError::File {
            path: path.to_path_buf(),
            source,
        })
    }
}
