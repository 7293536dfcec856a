//! Many stations at once: what they are doing, what runs on them, what is set and taught.
//!
//! Everything but flashing goes over the address of a station's page (`run --web`), as its documentation in
//! `src/web/openapi.json` says.
//!
//! | module | what it does |
//! |---|---|
//! | `stations` | the file that names them |
//! | `client` | one station's requests and answers |
//! | `tls` | whose certificate it must be |
//! | `order` | how many at a time, which one first, when to stop |
//! | `status` | how a station is, in words |
//! | `teach_copy` | what was taught, from one station to another |

mod client;
mod order;
mod stations;
mod status;
mod teach_copy;
mod tls;

pub use client::{Client, LogIn};
pub use order::{Order, Outcome, in_order};
pub use stations::{Station, read};
pub use status::{Certificate, Status, status};
pub use teach_copy::{Lesson, lesson};
pub use tls::Fingerprint;

use super::flash::FlashError;
use crate::control::backup;
use crate::exit::ExitCode;
use std::path::{Path, PathBuf};

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The file of stations.
    #[error("{path}{place}: {reason}", path = path.display(), place = place(*line))]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong: station, key, reason.
        reason: String,
    },
    /// A station.
    #[error("{name}: {source}")]
    Station {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: Box<StationError>,
    },
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
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
    /// A key of the file of stations is missing or leads nowhere.
    #[error("{0}")]
    Key(String),
    /// Nobody there.
    #[error(
        "{url}: no connection: {reason}: is the station on, is its page there (run --web), is the way open?"
    )]
    Away {
        /// Its address.
        url: String,
        /// The system's reason.
        reason: String,
    },
    /// Another certificate than the one that the file names.
    #[error(
        "{url}: its certificate's fingerprint is {found}, but `fingerprint` says {wanted}: another station answers there, \
         somebody listens in between, or the station has a new certificate (its log shows the fingerprint)"
    )]
    Fingerprint {
        /// Its address.
        url: String,
        /// What it has.
        found: Fingerprint,
        /// What it should have.
        wanted: Fingerprint,
    },
    /// A certificate that nobody signed whom this system trusts.
    #[error(
        "{url}: {reason}; its certificate's fingerprint is {found}: if the station's log shows the same, write \
         `fingerprint = \"{found}\"`"
    )]
    Untrusted {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
        /// What it has.
        found: Fingerprint,
    },
    /// Something else than a station answers.
    #[error("{url}{path}: {reason}: is this a station's page, and of a version that has this?")]
    Answer {
        /// Its address.
        url: String,
        /// What was asked for.
        path: &'static str,
        /// What came.
        reason: String,
    },
    /// It does not do that.
    #[error("{url}{path}: refused with code {code}: {text}")]
    Refused {
        /// Its address.
        url: String,
        /// What was asked for.
        path: &'static str,
        /// The code of the command set.
        code: u64,
        /// Its reason.
        text: String,
    },
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

impl StationError {
    /// The exit code of a program that stops at this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StationError::Key(_) => ExitCode::Config,
            StationError::Away { .. } | StationError::Answer { .. } => ExitCode::Unreachable,
            StationError::Fingerprint { .. } | StationError::Untrusted { .. } => {
                ExitCode::Certificate
            }
            StationError::Refused { .. } => ExitCode::Refused,
            StationError::Nothing(_) => ExitCode::NoInput,
            StationError::Elsewhere(_) => ExitCode::TaughtElsewhere,
            StationError::Output { .. } => ExitCode::OutputFailed,
            StationError::Flash(e) => e.exit_code(),
        }
    }
}

/// Writes a station's backup into `folder/NAME.backup.toml`: whole, or the last one stays. Its path and how many bytes
/// it has.
///
/// # Errors
/// Every [`StationError`] but those of copying and flashing.
pub fn back_up(client: &Client, folder: &Path) -> Result<(PathBuf, usize), StationError> {
    let session = client.log_in()?;
    let text = session.backup()?;
    let path = folder.join(format!("{}.backup.toml", client.station().name));
    backup::save(&text, &path).map_err(|source| StationError::Output {
        path: path.clone(),
        source,
    })?;
    Ok((path, text.len()))
}
