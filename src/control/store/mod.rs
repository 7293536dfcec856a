//! What survives a power cut at any instant: parameters, recipes, the log of changes; counters, latched
//! alarms; part numbers.
//!
//! Three files, each with kind, version and SHA-256 in its first line: `memory` (TOML), `counters` (JSON)
//! and `parts`. Must never mix old and new, never lose what was confirmed, never give a part number twice.

mod counts;
#[cfg(test)]
mod tests;

use super::last_good::LastGood;
use super::memory::{FileError, Memory};
use super::values::alarms;
use crate::durable::{Files, Folder};
use crate::line::{AlarmSet, PartId, Statistics};
use counts::Counts;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Lines of the log of changes that are kept.
pub const LOG_LINES: usize = 256;

/// Bytes of a line of the log.
pub const LOG_LINE: usize = 160;

/// Part numbers that are reserved at a time. After a power cut the rest of them is left out.
const RESERVED: u64 = 100_000;

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
    /// [`StoreError`]: the folder cannot be read or written, or another program uses it. Damaged files
    /// are no error: they are put aside as `NAME.damaged-N` and reported.
    pub fn open(path: &Path, factory: &Memory) -> Result<(Store, Restored), StoreError> {
        let at = |error| StoreError {
            path: path.to_path_buf(),
            error,
        };
        let (folder, restored) =
            StoredIn::open(Folder::open(path).map_err(at)?, factory).map_err(at)?;
        let path = path.to_path_buf();
        Ok((Store { folder, path }, restored))
    }

    /// The settings as they are stored, while a station may be running: changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]: there are none, or they cannot be read.
    pub fn look(path: &Path, factory: &Memory) -> Result<Stored, StoreError> {
        let file = path.join("memory");
        let at = |error| StoreError {
            path: file.clone(),
            error,
        };
        let bytes = std::fs::read(&file).map_err(at)?;
        let damaged = |e: String| at(io::Error::new(io::ErrorKind::InvalidData, e));
        let body = decode("memory", &bytes).map_err(|e| damaged(e.into()))?;
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

    /// Stores counters and alarms, and reserves further part numbers where those reserved run out.
    ///
    /// # Errors
    /// [`StoreError`].
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
    /// [`StoreError`].
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
    let digest = Sha256::digest(body.as_bytes());
    let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
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
    fn open(files: F, factory: &Memory) -> io::Result<(Self, Restored)> {
        let mut keep = StoredIn { files, reserved: 0 };
        let mut problems = Vec::new();
        let mut stored = keep.memory(factory, &mut problems)?;
        stored.settings_lost |= !problems.is_empty();
        let counts: Option<Counts> = keep.load("counters", &mut problems, |body| {
            serde_json::from_str(body).map_err(|e| e.to_string())
        })?;
        let parts: Option<u64> = keep.load("parts", &mut problems, |body| {
            body.trim().parse().map_err(|_| "not a number".to_string())
        })?;
        let mut counts = counts.unwrap_or_default();
        let next = counts.statistics.next_part.0.max(parts.unwrap_or(0));
        counts.statistics.next_part = PartId(next);
        if !problems.is_empty() {
            stored.fault = true;
            problems
                .iter()
                .for_each(|p| stored.note(&format!("memory,{p}")));
        }
        let written = match problems.is_empty() {
            true => keep.reserve(next),
            false => keep.reserve(next).and_then(|()| keep.save(&stored)),
        };
        match written {
            // A full disk is no reason to stop the line: the station runs, with FAULT on. Until there is room
            // part numbers are not reserved, and a power cut may give some of them again.
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                stored.fault = true;
                keep.reserved = next;
                problems.push(format!("{e}: nothing can be kept until there is room"));
            }
            written => written?,
        }
        let restored = Restored {
            stored,
            statistics: counts.statistics,
            alarms: alarms(counts.alarms),
            problems,
        };
        Ok((keep, restored))
    }

    fn memory(&mut self, factory: &Memory, problems: &mut Vec<String>) -> io::Result<Stored> {
        let file: Option<MemoryFile> = self.load("memory", problems, |body| {
            toml::from_str(body).map_err(|e| e.to_string())
        })?;
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
        Ok(stored)
    }

    /// Reads a file; puts it aside if it is damaged.
    fn load<T>(
        &mut self,
        kind: &str,
        problems: &mut Vec<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> io::Result<Option<T>> {
        let Some(bytes) = self.files.read(kind)? else {
            return Ok(None);
        };
        let reason = match decode(kind, &bytes) {
            Err(reason) => reason.to_string(),
            Ok(body) => match parse(body) {
                Ok(value) => return Ok(Some(value)),
                Err(reason) => reason,
            },
        };
        let mut aside = String::new();
        for number in 1..=DAMAGED {
            aside = format!("{kind}.damaged-{number}");
            if self.files.read(&aside)?.is_none() {
                break;
            }
        }
        self.files.rename(kind, &aside)?;
        self.files.sync_folder()?;
        let reason = reason.lines().next().unwrap_or_default();
        problems.push(format!(
            "{kind} damaged ({reason}); kept as {aside}; defaults loaded"
        ));
        Ok(None)
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
