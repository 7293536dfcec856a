//! The archive: pictures of parts, by day, and that they stay within their room and age. The oldest make way.
//!
//! ```text
//! archive/2026-11-29/00012-NAME.jpg           the frame
//! archive/2026-11-29/00012-NAME.overlay.jpg   where the network looked
//! archive/2026-11-29/00012-NAME.json          what became of the part: [`About`]
//! ```
//!
//! Where there are several cameras the files of each are called `00012-camera2-NAME`.
//!
//! The day is UTC's. `.json` is written last and whole: a part without it is not in the archive, and a power cut
//! leaves no half one. Whatever else lies there is somebody else's, and stays.

use crate::report::fitting;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// The archive's folder among the results.
pub const FOLDER: &str = "archive";

/// Ends of the names of a part's three files; the last one is written last.
const ENDS: [&str; 3] = [".jpg", ".overlay.jpg", ".json"];

/// What is known of a part in the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Number of the part.
    pub part: u64,
    /// Name of its frame.
    pub name: String,
    /// Number of the camera that saw it, from 1, if the station has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<u8>,
    /// When it got its outcome, RFC 3339.
    pub utc: String,
    /// Whether it was rejected.
    pub reject: bool,
    /// Cause of its reject, if that was not its score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Type of its defect.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its score, 0..=1; `None` if the verdict came too late to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The threshold that the score was compared with, 0..=1.
    pub threshold: f32,
    /// Name of the recipe in use.
    #[serde(default)]
    pub recipe: String,
    /// Name of the network.
    #[serde(default)]
    pub network: String,
    /// Verdict of somebody who looked at it: `true` the part was good, `false` it was bad; `None`: nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<bool>,
    /// Their note.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Whether a folder is a day's: `2026-11-29`.
pub fn is_day(name: &str) -> bool {
    let shape = |(i, b): (usize, u8)| match i {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    };
    name.len() == 10 && name.bytes().enumerate().all(shape)
}

/// The part of a file of this archive, and its name without its end: a number of five digits or more, a dash.
pub fn part_of(file: &str) -> Option<(u64, &str)> {
    let end = ENDS.iter().rev().find(|end| file.ends_with(*end))?;
    let stem = match file.strip_suffix(ENDS[1]) {
        Some(stem) => stem,
        None => file.strip_suffix(end)?,
    };
    let digits = stem.bytes().take_while(u8::is_ascii_digit).count();
    let ours = digits >= 5 && stem[digits..].starts_with('-');
    Some((stem[..digits].parse().ok().filter(|_| ours)?, stem))
}

/// The files of one part.
struct Kept {
    /// Their path without the ends in [`ENDS`].
    stem: PathBuf,
    bytes: u64,
}

/// The archive on disk.
pub(super) struct Pictures {
    folder: PathBuf,
    /// Oldest first.
    kept: VecDeque<Kept>,
    /// Bytes of all files.
    size: u64,
}

fn end_of(stem: &Path, end: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(end);
    path.into()
}

impl Pictures {
    /// Opens the archive. Pictures of an earlier run stay until they are the oldest, or, without `keep`, are
    /// removed.
    pub(super) fn open(folder: PathBuf, keep: bool) -> Result<Self, (PathBuf, Error)> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |e| (path, e)
        };
        std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        // By day, part and name: part numbers only grow.
        let mut found = std::collections::BTreeMap::<(String, u64, PathBuf), u64>::new();
        for day in std::fs::read_dir(&folder).map_err(at(&folder))? {
            let day = day.map_err(at(&folder))?;
            let name = day.file_name().to_string_lossy().into_owned();
            if !is_day(&name) {
                continue;
            }
            for entry in std::fs::read_dir(day.path()).map_err(at(&day.path()))? {
                let entry = entry.map_err(at(&day.path()))?;
                let file = entry.file_name().to_string_lossy().into_owned();
                let Some((part, stem)) = part_of(&file) else {
                    continue;
                };
                if keep {
                    let size = entry.metadata().map_err(at(&entry.path()))?.len();
                    let key = (name.clone(), part, day.path().join(stem));
                    *found.entry(key).or_default() += size;
                } else {
                    std::fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
                }
            }
            if !keep {
                // Fails if there are other files in it.
                let _ = std::fs::remove_dir(day.path());
            }
        }
        Ok(Pictures {
            folder,
            size: found.values().sum(),
            kept: found
                .into_iter()
                .map(|((.., stem), bytes)| Kept { stem, bytes })
                .collect(),
        })
    }

    /// The archive's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the pictures of a part go, without their ends; of one of several cameras, that one's. Makes the day's folder.
    pub(super) fn stem(&self, about: &About) -> Result<PathBuf, (PathBuf, Error)> {
        let day = about
            .utc
            .get(..10)
            .filter(|d| is_day(d))
            .unwrap_or("1970-01-01");
        let day = self.folder.join(day);
        std::fs::create_dir_all(&day).map_err(|e| (day.clone(), e))?;
        let name = Path::new(&about.name).file_stem().unwrap_or_default();
        let camera = about
            .camera
            .map_or_else(String::new, |n| format!("camera{n}-"));
        let file = format!("{:05}-{camera}{}", about.part, name.to_string_lossy());
        let file = fitting(file.as_ref(), ENDS[1]);
        let file = file.to_string_lossy();
        Ok(day.join(file.strip_suffix(ENDS[1]).unwrap_or(&file)))
    }

    /// Writes a part's pictures, JPEG, and what is known of it; all of it or nothing.
    pub(super) fn write(
        &mut self,
        stem: PathBuf,
        (frame, overlay): (&[u8], &[u8]),
        about: &About,
    ) -> Result<(), (PathBuf, Error)> {
        let about = serde_json::to_vec(about).map_err(|e| (stem.clone(), e.into()))?;
        let new = end_of(&stem, ".new");
        let paths = ENDS.map(|end| end_of(&stem, end));
        let written = [(&paths[0], frame), (&paths[1], overlay), (&new, &about)]
            .into_iter()
            .try_for_each(|(path, bytes)| {
                std::fs::write(path, bytes).map_err(|e| (path.clone(), e))
            })
            .and_then(|()| std::fs::rename(&new, &paths[2]).map_err(|e| (paths[2].clone(), e)));
        if let Err(e) = written {
            // Half of a part's files is worth nothing.
            for path in paths.iter().chain([&new]) {
                let _ = std::fs::remove_file(path);
            }
            return Err(e);
        }
        let bytes = (frame.len() + overlay.len() + about.len()) as u64;
        self.size += bytes;
        self.kept.push_back(Kept { stem, bytes });
        Ok(())
    }

    /// The oldest make way until all are within `limit` bytes, and none is of a day before `since` (`2026-11-29`).
    pub(super) fn make_room(&mut self, limit: u64, since: Option<&str>) {
        let day = |kept: &Kept| {
            let day = kept.stem.parent().and_then(Path::file_name);
            day.map(|d| d.to_string_lossy().into_owned())
        };
        let too_old =
            |kept: &Kept| since.is_some_and(|since| day(kept).is_some_and(|d| *d < *since));
        while let Some(oldest) = self.kept.front()
            && (self.size > limit || too_old(oldest))
            && let Some(oldest) = self.kept.pop_front()
        {
            self.size -= oldest.bytes;
            // The `.json` goes first: without it the part is not in the archive.
            for end in ENDS.iter().rev() {
                let path = end_of(&oldest.stem, end);
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        log::warn!("{}: cannot be removed: {e}", path.display());
                    }
                    _ => (),
                }
            }
            if let Some(folder) = oldest.stem.parent() {
                // Fails as long as there is something in it.
                let _ = std::fs::remove_dir(folder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(pictures: &mut Pictures, utc: &str, part: u64) -> PathBuf {
        let about = About {
            part,
            name: "x.png".into(),
            utc: utc.into(),
            ..About::default()
        };
        let stem = pictures.stem(&about).unwrap();
        pictures
            .write(stem.clone(), (&[1; 100], &[2; 100]), &about)
            .unwrap();
        stem
    }

    #[test]
    fn the_oldest_make_way_with_all_their_files_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mine = folder.path().join("2026-11-28/mine.jpg");
        std::fs::create_dir_all(mine.parent().unwrap()).unwrap();
        std::fs::write(&mine, "not the archive's").unwrap();
        let mut pictures = Pictures::open(folder.path().into(), true).unwrap();
        let old = put(&mut pictures, "2026-11-28T23:59:59Z", 99_999);
        let new = put(&mut pictures, "2026-11-29T00:00:01Z", 100_000);
        let there = |stem: &Path| ENDS.map(|end| end_of(stem, end).exists());
        assert_eq!(there(&old), [true; 3]);
        assert_eq!(old.file_name().unwrap(), "99999-x");
        let size = pictures.size;
        // Found again, in the same order.
        let mut pictures = Pictures::open(folder.path().into(), true).unwrap();
        assert_eq!((pictures.size, pictures.kept.len()), (size, 2));
        pictures.make_room(size, None);
        assert_eq!(there(&old), [true; 3]);
        pictures.make_room(size - 1, None);
        assert_eq!((there(&old), there(&new)), ([false; 3], [true; 3]));
        pictures.make_room(size, Some("2026-11-29"));
        assert_eq!(there(&new), [true; 3]);
        pictures.make_room(size, Some("2026-11-30"));
        assert_eq!((there(&new), pictures.size), ([false; 3], 0));
        assert!(!folder.path().join("2026-11-29").exists() && mine.exists());
        put(&mut pictures, "2026-11-28T00:00:00Z", 1);
        let pictures = Pictures::open(folder.path().into(), false).unwrap();
        assert!(pictures.kept.is_empty() && mine.exists());
        assert_eq!(
            std::fs::read_dir(mine.parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[test]
    fn names_are_this_programs_or_nobodys() {
        assert_eq!(part_of("00012-a b.overlay.jpg"), Some((12, "00012-a b")));
        assert_eq!(part_of("100000-c.json"), Some((100_000, "100000-c")));
        for name in [
            "0012-a.jpg",
            "00012.jpg",
            "00012-a.png",
            "x-00012.json",
            "00012-a.new",
        ] {
            assert_eq!(part_of(name), None, "{name}");
        }
        assert!(is_day("2026-11-29") && !is_day("2026-11-2") && !is_day("2026/11/29"));
    }
}
