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
//! Pictures are put in order by part number, which only grows, and not by day, for the clock may have been wrong. They
//! are too old when the clock says so and so many other days before today have pictures: a clock that jumps by years
//! adds one day, whichever way it jumps, and does not make all others old.
//!
//! The day is UTC's. `.json` is written last and whole: a part without it is not in the archive, and a power cut
//! leaves no half one. Whatever else lies there is somebody else's, and stays.

use crate::report::fitting;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
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

/// How old pictures may become.
pub(super) struct Age {
    /// For how many days they are kept.
    days: u32,
    /// `2026-11-29`, as the clock is set now.
    today: String,
    /// The first day that is not too old by the clock.
    first: String,
}

impl Age {
    /// `None` if the time, RFC 3339, is none: then nothing is too old.
    pub(super) fn new(utc: &str, days: u32) -> Option<Age> {
        let today: jiff::civil::Date = utc.get(..10)?.parse().ok()?;
        let before = jiff::SignedDuration::from_hours(24 * (i64::from(days) - 1));
        Some(Age {
            days,
            today: today.to_string(),
            first: today.checked_sub(before).ok()?.to_string(),
        })
    }
}

/// The files of one part.
struct Kept {
    /// Their path without the ends in [`ENDS`].
    stem: PathBuf,
    bytes: u64,
}

impl Kept {
    fn day(&self) -> String {
        let day = self.stem.parent().and_then(Path::file_name);
        day.unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The archive on disk.
pub(super) struct Pictures {
    folder: PathBuf,
    /// Oldest first.
    kept: VecDeque<Kept>,
    /// How many of them are of each day.
    days: BTreeMap<String, usize>,
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
        // By part, day and name.
        let mut found = BTreeMap::<(u64, String, PathBuf), u64>::new();
        let mut days = BTreeMap::new();
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
                    let key = (part, name.clone(), day.path().join(stem));
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
        for (_, day, _) in found.keys() {
            *days.entry(day.clone()).or_default() += 1;
        }
        Ok(Pictures {
            folder,
            days,
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
        let kept = Kept { stem, bytes };
        *self.days.entry(kept.day()).or_default() += 1;
        self.kept.push_back(kept);
        Ok(())
    }

    /// Whether pictures of this day, the oldest, are too old; see the module. Of a day that is yet to come, the clock
    /// was wrong then or is now: other days alone make it old.
    fn is_too_old(&self, day: &str, age: &Age) -> bool {
        let by_clock = *day < *age.first || *day > *age.today;
        let before_today = self.days.range::<String, _>(..&age.today);
        by_clock && before_today.filter(|(other, _)| *other != day).count() >= age.days as usize
    }

    /// The oldest make way until all are within `limit` bytes, and none is too old.
    pub(super) fn make_room(&mut self, limit: u64, age: Option<&Age>) {
        while let Some(oldest) = self.kept.front()
            && let day = oldest.day()
            && (self.size > limit || age.is_some_and(|age| self.is_too_old(&day, age)))
            && let Some(oldest) = self.kept.pop_front()
        {
            self.size -= oldest.bytes;
            if let Some(count) = self.days.get_mut(&day) {
                *count -= 1;
                if *count == 0 {
                    self.days.remove(&day);
                }
            }
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
        pictures.make_room(0, None);
        assert_eq!((there(&new), pictures.size), ([false; 3], 0));
        assert!(pictures.days.is_empty());
        assert!(!folder.path().join("2026-11-29").exists() && mine.exists());
        put(&mut pictures, "2026-11-28T00:00:00Z", 1);
        let pictures = Pictures::open(folder.path().into(), false).unwrap();
        assert!(pictures.kept.is_empty() && mine.exists());
        assert_eq!(
            std::fs::read_dir(mine.parent().unwrap()).unwrap().count(),
            1
        );
    }

    /// One picture is kept on each of these days, in this order, and the program starts anew before each.
    fn left(folder: &Path, days: u32, clock: &[&str]) -> Vec<String> {
        for (part, day) in (1..).zip(clock) {
            let mut pictures = Pictures::open(folder.into(), true).unwrap();
            let utc = format!("{day}T12:00:00.000Z");
            put(&mut pictures, &utc, part);
            pictures.make_room(u64::MAX, Age::new(&utc, days).as_ref());
            let found = Pictures::open(folder.into(), true).unwrap();
            assert_eq!(pictures.days, found.days);
        }
        let pictures = Pictures::open(folder.into(), true).unwrap();
        pictures.kept.iter().map(Kept::day).collect()
    }

    #[test]
    fn a_clock_that_jumps_makes_no_picture_old() {
        for (days, clock, right) in [
            // Day by day: so many days before today are left.
            (2, "26 27 28 29 30", "28 29 30"),
            (1, "26 27 28 29 30", "29 30"),
            (5, "26 27 28 29 30", "26 27 28 29 30"),
            // Days on which the station stood, or rejected nothing, count for nothing.
            (2, "01 02 30", "01 02 30"),
            // Forward by years, and back.
            (1, "28 29 2060-01-01", "29 2060-01-01"),
            (2, "28 29 2060-01-01", "28 29 2060-01-01"),
            (1, "29 2060-01-01 30", "29 2060-01-01 30"),
            // What was written meanwhile becomes as old as what was written before it, although its day is yet to come.
            (1, "28 29 2060-01-01 30 30", "29 2060-01-01 30 30"),
            (2, "27 28 29 2060-01-01 29 30", "28 29 2060-01-01 29 30"),
            (1, "28 2060-01-01 29 30", "29 30"),
            // Without a clock of its own a station begins in 1970 again and again.
            (
                2,
                "1970-01-01 29 1970-01-01 30",
                "1970-01-01 29 1970-01-01 30",
            ),
            (
                2,
                "28 29 1970-01-01 30 1970-01-01",
                "29 1970-01-01 30 1970-01-01",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let full = |day: &str| match day.len() {
                2 => format!("2026-11-{day}"),
                _ => day.to_string(),
            };
            let all = |days: &str| days.split(' ').map(full).collect::<Vec<_>>();
            let clock = all(clock);
            let clock: Vec<&str> = clock.iter().map(String::as_str).collect();
            let left = left(folder.path(), days, &clock);
            assert_eq!(left, all(right), "{days} days, {clock:?}");
        }
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
