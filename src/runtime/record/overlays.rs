//! The folder of overlays, and that it stays within its room: the oldest parts' make way.

use crate::line::View;
use crate::report::fitting;
use std::collections::VecDeque;
use std::io::Error;
use std::path::{Path, PathBuf};

/// The number of the part that one of this program's overlays shows: five digits or more, a dash, `.png`.
fn part_of(name: &str) -> Option<u64> {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let ours = digits >= 5 && name[digits..].starts_with('-') && name.ends_with(".png");
    name[..digits].parse().ok().filter(|_| ours)
}

/// What is there.
pub(super) struct Overlays {
    folder: PathBuf,
    /// Oldest first, with their bytes.
    files: VecDeque<(PathBuf, u64)>,
    /// Bytes of all.
    size: u64,
}

impl Overlays {
    /// Those that an earlier run left are among those that make way, or, without `keep`, are removed.
    pub(super) fn open(folder: PathBuf, keep: bool) -> Result<Self, (PathBuf, Error)> {
        let at = |e| (folder.clone(), e);
        std::fs::create_dir_all(&folder).map_err(at)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(at)? {
            let entry = entry.map_err(at)?;
            let Some(part) = part_of(&entry.file_name().to_string_lossy()) else {
                continue;
            };
            let path = entry.path();
            if keep {
                let size = entry.metadata().map_err(at)?.len();
                found.push((part, path, size));
            } else {
                std::fs::remove_file(&path).map_err(|e| (path, e))?;
            }
        }
        // Part numbers only grow.
        found.sort();
        Ok(Overlays {
            size: found.iter().map(|(_, _, size)| size).sum(),
            files: found.into_iter().map(|(_, p, size)| (p, size)).collect(),
            folder,
        })
    }

    /// Where a part's overlay goes; of one of several cameras, that one's.
    pub(super) fn path(&self, part: u64, view: Option<View>, name: &str) -> PathBuf {
        let stem = Path::new(name).file_stem().unwrap_or_default();
        let camera = view.map_or_else(String::new, |v| format!("camera{}-", v.number()));
        let file = format!("{part:05}-{camera}{}", stem.to_string_lossy());
        self.folder.join(fitting(file.as_ref(), ".png"))
    }

    /// One more is there; the oldest make way until all are within `limit` bytes.
    pub(super) fn add(&mut self, path: PathBuf, limit: u64) {
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        self.files.push_back((path, size));
        self.size += size;
        while self.size > limit
            && let Some((oldest, size)) = self.files.pop_front()
        {
            self.size -= size;
            if let Err(e) = std::fs::remove_file(&oldest) {
                log::warn!("{}: cannot be removed: {e}", oldest.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_parts_make_way_whatever_they_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "00009-a_long_name.png",
            "00010-b.png",
            "100000-c.png",
            "mine.png",
        ] {
            std::fs::write(at(name), [0; 10]).unwrap();
        }
        let mut overlays = Overlays::open(folder.path().into(), true).unwrap();
        let new = overlays.path(100_001, None, "d.png");
        std::fs::write(&new, [0; 10]).unwrap();
        overlays.add(new.clone(), 30);
        assert!(!at("00009-a_long_name.png").exists() && at("00010-b.png").exists());
        overlays.add(new.clone(), 20);
        assert!(!at("00010-b.png").exists() && !at("100000-c.png").exists());
        assert!(at("mine.png").exists(), "not this program's");
        assert!(
            Overlays::open(folder.path().into(), false)
                .unwrap()
                .files
                .is_empty()
        );
        assert!(at("mine.png").exists() && !new.exists());
    }
}
