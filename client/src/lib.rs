//! What programs on other computers ask a station, over the address of its page (`run --web`, described in
//! `src/web/openapi.json`).
//!
//! | module | what it does |
//! |---|---|
//! | `stations` | the file that names stations, and what it says of one |
//! | `client` | one station's requests and answers |
//! | `tls` | whose certificate it must be |
//!
//! A crate of its own, so that a program that only speaks to stations is built without what judges parts.

mod client;
mod stations;
mod tls;

pub use client::{Client, LogIn};
pub use stations::{Station, read};
pub use tls::Fingerprint;

use std::path::PathBuf;

/// A file of stations that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{path}{place}: {reason}", path = path.display(), place = place(*line))]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What is wrong: station, key, reason.
    pub reason: String,
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

/// Why a station did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
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
}
