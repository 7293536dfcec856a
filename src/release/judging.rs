//! What the station judges with, as it leaves it for whoever asks what is flashed: a recipe may name another
//! bundle than the release's.

use crate::durable::{Files, Folder};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The file, in the folder of the station's memory.
const FILE: &str = "judging.json";

/// The network that judges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judges {
    /// `stored`, `last_good`, `zero_shot` (what was taught cannot be used) or `none`.
    pub network: String,
    /// The file of its bundle.
    pub bundle: String,
    /// Its name in the manifest.
    pub name: String,
    /// SHA-256 over its parts' digests.
    pub digest: String,
    /// Whether a recipe names it, in place of the bundle that was flashed.
    pub from_recipe: bool,
    /// A line that must not be missed.
    pub warning: Option<String>,
    /// The time since when it judges, by the system's clock: RFC 3339, UTC.
    pub since: String,
}

impl Judges {
    /// Writes it to the folder of the station's memory. Not flushed: after a power cut the station starts, and
    /// says it anew.
    ///
    /// # Errors
    /// The file system's error.
    pub fn leave(&self, state: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        let (file, new) = (state.join(FILE), state.join(format!("{FILE}.new")));
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &file)
    }

    /// What was left; `None` if there is nothing that can be read.
    pub fn left(state: &Path) -> Option<Judges> {
        let bytes = Folder::held(state).read(FILE).ok()??;
        serde_json::from_slice(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Judges::left(folder.path()), None);
        let judges = Judges {
            network: "stored".into(),
            bundle: "/media/stick/line 2.bundle".into(),
            name: "caps".into(),
            digest: "00ff".into(),
            from_recipe: true,
            warning: None,
            since: "2026-01-01T00:00:00Z".into(),
        };
        judges.leave(folder.path()).unwrap();
        assert_eq!(Judges::left(folder.path()), Some(judges));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Judges::left(folder.path()), None);
    }
}
