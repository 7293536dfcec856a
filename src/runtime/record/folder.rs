//! The folder of results. Where it cannot be opened the station goes on without, and it is tried again now and
//! then: a disk that is mounted for reading, or not there yet, is no reason to let parts wait.

use super::lines::Lines;
use super::pictures::{FOLDER, Pictures};
use super::recorder::Failed;
use crate::durable::Lock;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a folder that cannot be opened is tried.
const AGAIN: Duration = Duration::from_secs(5);

/// The files of results that are open.
pub(super) struct Files {
    pub(super) verdicts: Lines,
    pub(super) events: Lines,
    pub(super) pictures: Pictures,
    /// Locks the folder: another program's results are not mixed with these.
    _lock: Lock,
}

/// The folder of results, open or to be tried again.
pub(super) struct Folder {
    out: PathBuf,
    keep: bool,
    files: Result<Files, Failed>,
    tried: Instant,
}

/// The lines of this name: those of earlier runs go on, or are removed.
fn lines(out: &Path, name: &str, keep: bool) -> Result<Lines, Failed> {
    let aside = out.join(format!("{name}.1.jsonl"));
    if !keep && aside.is_file() {
        std::fs::remove_file(&aside).map_err(|e| (aside, e))?;
    }
    Lines::open(out.join(format!("{name}.jsonl")), keep)
}

/// Locks the folder; `None`: another program has it.
fn take(out: &Path) -> Result<Option<Lock>, Failed> {
    std::fs::create_dir_all(out).map_err(|e| (out.into(), e))?;
    let path = out.join(".lock");
    Lock::take(&path).map_err(|e| (path, e))
}

fn in_use(out: &Path) -> Failed {
    let what = "another program writes its results there: choose another --out";
    (out.into(), Error::other(what))
}

fn open(out: &Path, keep: bool, lock: Lock) -> Result<Files, Failed> {
    let pictures = Pictures::open(out.join(FOLDER), keep)?;
    let summary = out.join("summary.json");
    if summary.is_file() {
        std::fs::remove_file(&summary).map_err(|e| (summary, e))?;
    }
    Ok(Files {
        verdicts: lines(out, "verdicts", keep)?,
        events: lines(out, "events", keep)?,
        pictures,
        _lock: lock,
    })
}

impl Folder {
    /// Opens the folder; see [`Recorder::create`](super::Recorder::create). If it cannot be opened, that is
    /// logged.
    ///
    /// # Errors
    /// Another program has it.
    pub(super) fn new(out: &Path, keep: bool) -> Result<Self, Failed> {
        let files = match take(out) {
            Ok(Some(lock)) => open(out, keep, lock),
            Ok(None) => return Err(in_use(out)),
            Err(e) => Err(e),
        };
        if let Err((path, e)) = &files {
            log::error!(
                "{}: {e}: no results are written until it can be; the line goes on",
                path.display()
            );
        }
        Ok(Folder {
            out: out.into(),
            keep,
            files,
            tried: Instant::now(),
        })
    }

    /// The files of results, which are opened if it is time to try that again.
    ///
    /// # Errors
    /// Why they cannot be opened.
    pub(super) fn files(&mut self) -> Result<&mut Files, &Failed> {
        if self.files.is_err() && self.tried.elapsed() >= AGAIN {
            self.tried = Instant::now();
            self.files = match take(&self.out) {
                Ok(Some(lock)) => open(&self.out, self.keep, lock),
                Ok(None) => Err(in_use(&self.out)),
                Err(e) => Err(e),
            };
            if self.files.is_ok() {
                log::info!("{}: results are written again", self.out.display());
            }
        }
        self.files.as_mut().map_err(|e| &*e)
    }
}
