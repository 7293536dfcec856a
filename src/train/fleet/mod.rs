//! Many stations at once: what they are doing, what runs on them, what is set and taught.
//!
//! Everything but flashing goes over the address of a station's page (`run --web`), as its documentation in
//! `src/web/openapi.json` says; requests and answers, and the file that names the stations, are the crate
//! `faprompt-client`'s.
//!
//! | module | what it does |
//! |---|---|
//! | `order` | how many at a time, which one first, when to stop |
//! | `status` | how a station is, in words |
//! | `teach_copy` | what was taught, from one station to another |

mod order;
mod status;
mod teach_copy;

pub use faprompt_client::{Client, ClientError, FileError, Fingerprint, LogIn, Station, read};
pub use order::{Order, Outcome, in_order};
pub use status::{Certificate, Status, status};
pub use teach_copy::{Lesson, lesson};

use super::flash::FlashError;
use crate::control::backup;
use crate::control::memory::Memory;
use crate::exit::ExitCode;
use std::path::{Path, PathBuf};

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The file of stations.
    #[error(transparent)]
    File(#[from] FileError),
    /// A station.
    #[error("{name}: {source}")]
    Station {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: Box<StationError>,
    },
}

impl FleetError {
    /// The exit code of a program that stops at this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            FleetError::File { .. } => ExitCode::Config,
            FleetError::Station { source, .. } => source.exit_code(),
        }
    }
}

/// Why something did not become of one station.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    /// A request to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is nothing to copy.
    #[error("{0}")]
    Nothing(String),
    /// What was taught cannot be used there.
    #[error("{0}")]
    Elsewhere(String),
    /// A file could not be written.
    #[error("{path}: cannot be written: {source}", path = path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It was not flashed.
    #[error(transparent)]
    Flash(#[from] FlashError),
}

/// The exit code of a program that stops at an error of a request.
fn exit_code(error: &ClientError) -> ExitCode {
    match error {
        ClientError::Key(_) => ExitCode::Config,
        ClientError::Away { .. } | ClientError::Answer { .. } => ExitCode::Unreachable,
        ClientError::Fingerprint { .. } | ClientError::Untrusted { .. } => ExitCode::Certificate,
        ClientError::Refused { .. } => ExitCode::Refused,
    }
}

impl StationError {
    /// The exit code of a program that stops at this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StationError::Client(e) => exit_code(e),
            StationError::Nothing(_) => ExitCode::NoInput,
            StationError::Elsewhere(_) => ExitCode::TaughtElsewhere,
            StationError::Output { .. } => ExitCode::OutputFailed,
            StationError::Flash(e) => e.exit_code(),
        }
    }
}

/// A backup that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The file.
    pub path: PathBuf,
    /// How many bytes it has.
    pub bytes: usize,
    /// The paths of taught parts outside the station's folder, which are not in it.
    pub left_out: Vec<String>,
}

/// Writes a station's backup into `folder/NAME.backup.toml`: whole, or the last one stays.
///
/// # Errors
/// Every [`StationError`] but those of copying and flashing.
pub fn back_up(client: &Client, folder: &Path) -> Result<BackedUp, StationError> {
    let session = client.log_in()?;
    let text = backup_of(&session)?;
    let mut memory = Memory::default();
    // What a newer station's backup has besides is no damage.
    let table: Result<toml::Table, _> = text.parse();
    let table = table.map_err(|e| session.damaged(e.to_string()))?;
    let _ = memory.merge(&table);
    let path = folder.join(format!("{}.backup.toml", client.station().name));
    backup::save(&text, &path).map_err(|source| StationError::Output {
        path: path.clone(),
        source,
    })?;
    Ok(BackedUp {
        path,
        bytes: text.len(),
        left_out: backup::elsewhere(&memory),
    })
}

/// A station's backup: the whole file, each memory of good parts of it checked.
///
/// # Errors
/// Those of a request; [`ClientError::Answer`] if it is damaged.
fn backup_of(session: &LogIn<'_>) -> Result<String, StationError> {
    let text = session.backup()?;
    let whole = backup::goods(&text).and_then(|_| {
        let table: toml::Table = text.parse().map_err(|e| format!("{e}"))?;
        match table.contains_key("station") && table.contains_key("recipe") {
            true => Ok(()),
            false => Err("no parameters in it".to_string()),
        }
    });
    whole.map_err(|e| session.damaged(format!("no whole backup: {e}")))?;
    Ok(text)
}
