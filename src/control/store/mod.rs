//! What survives a power cut at any instant: parameters, recipes, the log of changes; counters, latched
//! alarms; part numbers.
//!
//! Three files, each with kind, version and SHA-256 in its first line: `memory` (TOML), `counters` (JSON)
//! and `parts`; and `defaults`, what a station works with that was never changed; what was taught
//! ([`shelf`]), and lessons that wait to be accepted (`lesson`). Must never mix old and new, never lose what
//! was confirmed, never give a part number twice.

mod counts;
mod lesson;
pub mod shelf;
#[cfg(test)]
mod tests;
pub mod writer;

pub use lesson::Waiting;

use super::last_good::LastGood;
use super::memory::{FileError, Memory, RecipeNumber};
use super::values::alarms;
use crate::durable::{Files, Folder};
use crate::hex::hex;
use crate::line::{AlarmSet, PartId, Statistics};
use counts::Counts;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shelf::Shelf;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Lines of the log of changes that are kept.
pub const LOG_LINES: usize = 256;

/// Bytes of a line of the log.
pub const LOG_LINE: usize = 160;

/// Part numbers that are reserved at a time. After a power cut the rest of them is left out.
const RESERVED: u64 = 100_000;

/// What a station works with that was never changed: the factory's parameters, its board's and its bundle's. For
/// whoever looks at them from outside; a start makes them anew.
const DEFAULTS: &str = "defaults";

/// Damaged files that are kept of each kind; the last of them makes way.
const DAMAGED: u32 = 9;

/// First line of every file, before the digest.
const MAGIC: &str = "faprompt-edge";
/// Version of all three files.
const VERSION: &str = "1";

/// Why the memory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}", path = .path.display())]
pub struct StoreError {
    /// The folder.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

/// What is kept of the settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Parameters and recipes.
    pub memory: Memory,
    /// Log of changes, oldest first.
    pub log: VecDeque<String>,
    /// Something was damaged and nobody has acknowledged it.
    pub fault: bool,
    /// It was settings: how the ejector is wired and where it is may be the factory's word only.
    pub settings_lost: bool,
    /// What judged before, with another bundle.
    pub last_good: Option<LastGood>,
}

impl Stored {
    /// Adds a line to the log, cut to [`LOG_LINE`]; the oldest makes way.
    pub fn note(&mut self, line: &str) {
        if self.log.len() >= LOG_LINES {
            self.log.pop_front();
        }
        let plain = line.chars().filter(|c| matches!(c, ' '..='~'));
        self.log.push_back(plain.take(LOG_LINE).collect());
    }

    /// Adds a line of the station itself, with the time: what changed, from what, to what.
    pub fn noted(&mut self, what: &str, old: &str, new: &str) {
        let stamp = jiff::Timestamp::now();
        self.note(&format!("{stamp:.0},station,{what},{old},{new}"));
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// Settings; the factory's if there were none.
    pub stored: Stored,
    /// Counters; the next part's number has never been used.
    pub statistics: Statistics,
    /// Alarms that were latched.
    pub alarms: AlarmSet,
    /// Lessons that wait to be accepted, by recipe.
    pub lessons: Vec<Waiting>,
    /// What was wrong, for the log.
    pub problems: Vec<String>,
}

/// The body of file `memory`.
#[derive(Serialize, Deserialize)]
struct MemoryFile {
    #[serde(default)]
    fault: bool,
    #[serde(default)]
    settings_lost: bool,
    #[serde(default)]
    log: VecDeque<String>,
    /// See [`LastGood`]. Older programs leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_good: Option<toml::Table>,
    parameters: toml::Table,
}

/// The files.
#[derive(Debug)]
pub struct Store {
    folder: StoredIn<Folder>,
    path: PathBuf,
}

impl Store {
    /// Opens a folder, and makes it if there is none. `factory` stands for what was never stored.
    ///
    /// # Errors
    /// [`StoreError`]: another program uses the folder, or it is none. Damaged files are no error: they are put
    /// aside as `NAME.damaged-N` and reported. Neither is a folder that cannot be written: it is reported, and
    /// whatever is to be stored fails until it can be.
    pub fn open(path: &Path, factory: &Memory) -> Result<(Store, Restored), StoreError> {
        let at = |error| StoreError {
            path: path.to_path_buf(),
            error,
        };
        let files = Folder::open_anyway(path).map_err(at)?;
        let (mut folder, mut restored) = StoredIn::open(files, factory);
        let name = path.display();
        if let Err(e) = folder.keep_defaults(factory) {
            log::debug!("{name}: {e}");
        }
        let problems = restored.problems.iter_mut();
        problems.for_each(|p| *p = format!("{name}: {p}"));
        let path = path.to_path_buf();
        Ok((Store { folder, path }, restored))
    }

    /// The settings as they are stored, or, if nothing was ever stored, those that the station was last started
    /// with; while a station may be running: changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]: no station has ever been started with this folder, or they cannot be read.
    pub fn look(path: &Path, factory: &Memory) -> Result<Stored, StoreError> {
        let is_there = |kind: &&str| path.join(kind).exists();
        let Some(kind) = ["memory", DEFAULTS].into_iter().find(is_there) else {
            // Whether it is a folder at all, and may be read, is known then.
            let looked = std::fs::read_dir(path).map(drop);
            let none = || {
                let what = "no station has been started with this folder: nothing is stored in it";
                io::Error::new(io::ErrorKind::NotFound, what)
            };
            return Err(StoreError {
                path: path.to_path_buf(),
                error: looked.err().unwrap_or_else(none),
            });
        };
        let file = path.join(kind);
        let at = |error| StoreError {
            path: file.clone(),
            error,
        };
        let bytes = std::fs::read(&file).map_err(at)?;
        let damaged = |e: String| at(io::Error::new(io::ErrorKind::InvalidData, e));
        let body = decode(kind, &bytes).map_err(|e| damaged(e.into()))?;
        let file: MemoryFile = toml::from_str(body).map_err(|e| damaged(e.to_string()))?;
        let mut stored = Stored {
            memory: factory.clone(),
            log: file.log,
            fault: file.fault,
            settings_lost: file.settings_lost,
            last_good: file.last_good.as_ref().and_then(LastGood::from_toml),
        };
        let wrong = stored.memory.merge(&file.parameters);
        match wrong
            .into_iter()
            .find(|e| !matches!(e, FileError::Unknown(_)))
        {
            Some(e) => Err(damaged(e.to_string())),
            None => Ok(stored),
        }
    }

    /// Stores the settings: they are safe when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: they may be stored or not.
    pub fn save(&mut self, stored: &Stored) -> Result<(), StoreError> {
        self.folder.save(stored).map_err(|e| self.at(e))
    }

    /// The files of good parts.
    pub fn shelf(&self) -> Shelf {
        Shelf::new(&self.path)
    }

    /// Takes away the files of good parts that these settings, which are stored, do not name.
    ///
    /// # Errors
    /// [`StoreError`]: some of them are still there.
    pub fn sweep(&mut self, stored: &Stored) -> Result<(), StoreError> {
        self.folder.sweep(stored).map_err(|e| self.at(e))
    }

    /// Stores the lesson of a recipe that waits to be accepted, or takes it away.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be written.
    pub fn save_lesson(
        &mut self,
        recipe: RecipeNumber,
        lesson: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let result = lesson::put(&mut self.folder.files, recipe, lesson);
        result.map_err(|e| self.at(e))
    }

    /// Stores counters and alarms, and reserves further part numbers where those reserved run out.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be written.
    pub fn save_counters(
        &mut self,
        statistics: &Statistics,
        alarms: AlarmSet,
    ) -> Result<(), StoreError> {
        let result = self.folder.save_counters(statistics, alarms);
        result.map_err(|e| self.at(e))
    }

    /// The same at an orderly end: gives back the part numbers that were reserved and not used.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be written.
    pub fn close(mut self, statistics: &Statistics, alarms: AlarmSet) -> Result<(), StoreError> {
        let result = self.folder.close(statistics, alarms);
        result.map_err(|e| self.at(e))
    }

    fn at(&self, error: io::Error) -> StoreError {
        StoreError {
            path: self.path.clone(),
            error,
        }
    }
}

/// The store over whatever takes its files.
#[derive(Debug)]
struct StoredIn<F> {
    files: F,
    /// Part numbers below it are reserved.
    reserved: u64,
}

fn encode(kind: &str, body: &str) -> Vec<u8> {
    let digest = hex(&Sha256::digest(body.as_bytes()));
    format!("{MAGIC} {kind} {VERSION} {digest}\n{body}").into_bytes()
}

/// The body of a file of this kind; says what is wrong with it.
fn decode<'a>(kind: &str, bytes: &'a [u8]) -> Result<&'a str, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not a text")?;
    let (head, body) = text.split_once('\n').ok_or("cut off")?;
    let mut words = head.split(' ');
    if words.next() != Some(MAGIC) || words.next() != Some(kind) {
        return Err("not this program's file");
    }
    if words.next() != Some(VERSION) {
        return Err("of another version");
    }
    match encode(kind, body) == bytes {
        true => Ok(body),
        false => Err("its digest differs"),
    }
}

impl<F: Files> StoredIn<F> {
    fn open(files: F, factory: &Memory) -> (Self, Restored) {
        let mut keep = StoredIn { files, reserved: 0 };
        let mut problems = Vec::new();
        let mut stored = keep.memory(factory, &mut problems);
        stored.settings_lost |= !problems.is_empty();
        let counts: Option<Counts> = keep.load("counters", &mut problems, |body| {
            serde_json::from_str(body).map_err(|e| e.to_string())
        });
        let parts: Option<u64> = keep.load("parts", &mut problems, |body| {
            body.trim().parse().map_err(|_| "not a number".to_string())
        });
        let mut counts = counts.unwrap_or_default();
        let next = counts.statistics.next_part.0.max(parts.unwrap_or(0));
        counts.statistics.next_part = PartId(next);
        if !problems.is_empty() {
            stored.fault = true;
            let lines = problems.iter().map(|p| p.replace(',', ";"));
            lines.for_each(|p| stored.noted("memory", "", &p));
        }
        let written = match problems.is_empty() {
            true => keep.reserve(next),
            false => keep.reserve(next).and_then(|()| keep.save(&stored)),
        };
        // What is named by settings that were lost is not known: it is left where it is.
        if !stored.fault
            && let Err(e) = keep.sweep(&stored)
        {
            log::debug!("what was taught before: {e}");
        }
        let lessons = lesson::waiting(&mut keep.files, &stored.memory);
        let lessons = lessons.unwrap_or_else(|e| {
            log::debug!("lessons that wait to be accepted: {e}");
            vec![]
        });
        // A disk that is full or takes nothing is no reason to stop the line: the station runs, with FAULT on. Until
        // it can be written part numbers are not reserved, and a power cut may give some of them again.
        if let Err(e) = written {
            stored.fault = true;
            keep.reserved = next;
            let until = match e.kind() {
                io::ErrorKind::StorageFull => "there is room",
                _ => "it can be written",
            };
            problems.push(format!("{e}: nothing can be kept until {until}"));
        }
        let restored = Restored {
            stored,
            statistics: counts.statistics,
            alarms: alarms(counts.alarms),
            lessons,
            problems,
        };
        (keep, restored)
    }

    /// As long as nothing was stored, the factory's parameters are kept for [`Store::look`].
    fn keep_defaults(&mut self, factory: &Memory) -> io::Result<()> {
        if self.files.read("memory")?.is_some() {
            return Ok(());
        }
        let file = MemoryFile {
            fault: false,
            settings_lost: false,
            log: VecDeque::new(),
            last_good: None,
            parameters: factory.to_toml(),
        };
        let body = toml::to_string(&file).map_err(io::Error::other)?;
        let bytes = encode(DEFAULTS, &body);
        match self.files.read(DEFAULTS)? {
            Some(kept) if kept == bytes => Ok(()),
            _ => self.files.replace(DEFAULTS, &bytes),
        }
    }

    fn sweep(&mut self, stored: &Stored) -> io::Result<()> {
        let named = stored.memory.taught();
        let good = stored.last_good.iter().flat_map(LastGood::taught);
        let named: Vec<&str> = named.chain(good).collect();
        shelf::sweep(&mut self.files, &named)
    }

    fn memory(&mut self, factory: &Memory, problems: &mut Vec<String>) -> Stored {
        let file: Option<MemoryFile> = self.load("memory", problems, |body| {
            toml::from_str(body).map_err(|e| e.to_string())
        });
        let mut stored = Stored {
            memory: factory.clone(),
            ..Stored::default()
        };
        if let Some(file) = file {
            for error in stored.memory.merge(&file.parameters) {
                match error {
                    // Of a newer program, after a step back to an older one: left out, not damage.
                    FileError::Unknown(_) => log::warn!("memory: {error}; left out"),
                    error => problems.push(format!("memory: {error}; the default is loaded")),
                }
            }
            stored.log = file.log;
            stored.fault = file.fault;
            stored.settings_lost = file.settings_lost;
            stored.last_good = file.last_good.as_ref().and_then(LastGood::from_toml);
        }
        stored
    }

    /// Reads a file; puts it aside if it is damaged, or cannot be read.
    fn load<T>(
        &mut self,
        kind: &str,
        problems: &mut Vec<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let reason = match self.files.read(kind) {
            Ok(None) => return None,
            Err(e) => e.to_string(),
            Ok(Some(bytes)) => match decode(kind, &bytes) {
                Err(reason) => reason.to_string(),
                Ok(body) => match parse(body) {
                    Ok(value) => return Some(value),
                    Err(reason) => reason,
                },
            },
        };
        let mut aside = String::new();
        for number in 1..=DAMAGED {
            aside = format!("{kind}.damaged-{number}");
            if matches!(self.files.read(&aside), Ok(None)) {
                break;
            }
        }
        let renamed = self.files.rename(kind, &aside);
        let kept = match renamed.and_then(|()| self.files.sync_folder()) {
            Ok(()) => format!("kept as {aside}"),
            Err(e) => format!("left where it is ({e})"),
        };
        let reason = reason.lines().next().unwrap_or_default();
        problems.push(format!(
            "{kind} damaged ({reason}); {kept}; defaults loaded"
        ));
        None
    }

    fn save(&mut self, stored: &Stored) -> io::Result<()> {
        let file = MemoryFile {
            fault: stored.fault,
            settings_lost: stored.settings_lost,
            log: stored.log.clone(),
            last_good: stored.last_good.as_ref().map(LastGood::to_toml),
            parameters: stored.memory.to_toml(),
        };
        let body = toml::to_string(&file).map_err(io::Error::other)?;
        self.files.replace("memory", &encode("memory", &body))
    }

    fn save_counters(&mut self, statistics: &Statistics, alarms: AlarmSet) -> io::Result<()> {
        if statistics.next_part.0 + RESERVED / 2 > self.reserved {
            self.reserve(statistics.next_part.0)?;
        }
        let counts = Counts {
            statistics: *statistics,
            alarms: alarms.bits(),
        };
        let body = serde_json::to_string(&counts).map_err(io::Error::other)?;
        self.files.replace("counters", &encode("counters", &body))
    }

    fn close(&mut self, statistics: &Statistics, alarms: AlarmSet) -> io::Result<()> {
        self.save_counters(statistics, alarms)?;
        self.parts(statistics.next_part.0)
    }

    fn reserve(&mut self, next: u64) -> io::Result<()> {
        let reserved = next.saturating_add(RESERVED);
        self.parts(reserved)?;
        self.reserved = reserved;
        Ok(())
    }

    fn parts(&mut self, reserved: u64) -> io::Result<()> {
        let body = format!("{reserved}\n");
        self.files.replace("parts", &encode("parts", &body))
    }
}
