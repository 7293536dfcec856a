//! Releases: what is flashed onto a node. Program, bundle and board go together into one of two slots; a
//! new release is on trial until the station reports ready, else the old one comes back by itself.
//!
//! ```text
//! host:  files -> package (tar)  --ssh-->  node:  package -> idle slot -> trial -> active
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`manifest`] | what a release consists of |
//! | [`package`] | releases as one stream of bytes: written, and unpacked with every byte checked |
//! | `answers` | whether a new program runs here |
//! | [`judging`] | what the station says that it judges with |
//! | [`slots`] | which release runs at the next start; must name an intact one after a power cut at any instant |
//!
//! Must never touch the station's memory (`/var/lib/faprompt-edge`); it only reads there what judges.

mod answers;
pub mod judging;
pub mod manifest;
pub mod package;
pub mod slots;

use crate::bundle::BundleError;
use crate::exit::ExitCode;
use std::io;
use std::path::{Path, PathBuf};

/// Why a release was refused, or none can be started.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The stream ended too early, or is no package.
    #[error("not a whole package: {0}; send it again")]
    Package(String),
    /// A file differs from what the manifest says.
    #[error("{file}: {what}; make the package again and send it again")]
    Damaged {
        /// The file, by its name in the release.
        file: String,
        /// What differs.
        what: String,
    },
    /// The signature is missing or wrong, or a key cannot be used.
    #[error(transparent)]
    Signature(#[from] BundleError),
    /// The new program does not run on this node.
    #[error("the release does not fit this node: {0}")]
    Unfit(String),
    /// The disk has too little room.
    #[error("{path}: {needed} bytes are needed, {free} are free", path = path.display())]
    Full {
        /// The folder on the full file system.
        path: PathBuf,
        /// The number of bytes that are needed.
        needed: u64,
        /// The number of bytes that are free.
        free: u64,
    },
    /// Another step of flashing is going on.
    #[error("{0}; try again when it is done")]
    Busy(String),
    /// On trial, and what is stored on this node cannot judge with it.
    #[error(
        "this release cannot judge with what is stored on this node (see above), so it is not kept: the one before it starts"
    )]
    CannotJudge,
    /// No slot holds what it should.
    #[error("no slot holds an intact release: {0}; flash this node again")]
    NoneIntact(String),
    /// There is nothing to go back to.
    #[error("there is no other release on this node to go back to")]
    NoOther,
}

impl ReleaseError {
    /// The exit code of a program that stops at this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ReleaseError::Signature(e) => e.exit_code(),
            _ => ExitCode::Release,
        }
    }
}

/// An error at `path`.
fn at(path: &Path) -> impl FnOnce(io::Error) -> ReleaseError + '_ {
    |source| ReleaseError::File {
        path: path.to_path_buf(),
        source,
    }
}
