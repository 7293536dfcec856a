//! What can be wrong with a bundle.

use super::envelope::FORMAT_VERSION;
use crate::exit::ExitCode;
use crate::ops::weights::NoArithmetic;
use std::path::PathBuf;

/// Why a bundle was refused. Nothing of a refused bundle is kept.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file could not be opened or read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a bundle.
    #[error("not a faprompt bundle: {0}")]
    NotABundle(String),
    /// The bundle has another format version.
    #[error(
        "bundle format version {0}, but this program reads version {FORMAT_VERSION}: export the bundle again with a faprompt-train of this program's version"
    )]
    Version(u32),
    /// The file ends too early.
    #[error("part `{part}` is cut off: the file is {missing} bytes too short; copy it again")]
    Cut {
        /// The first part that is not whole.
        part: String,
        /// The number of bytes that are missing.
        missing: u64,
    },
    /// The contents differ from what was written: a digest does not match.
    #[error("part `{part}` is damaged: {what}; copy the file again")]
    Damaged {
        /// The part.
        part: String,
        /// What differs.
        what: String,
    },
    /// The bundle is intact, but not a network that this program can run.
    #[error("part `{part}` does not fit the architecture: {what}")]
    Architecture {
        /// The part.
        part: String,
        /// What does not fit.
        what: String,
    },
    /// The signature is missing or wrong.
    #[error("signature: {0}")]
    Signature(String),
    /// A public key cannot be used.
    #[error("public key: {0}")]
    Key(String),
    /// This processor does not have the arithmetic that was asked for.
    #[error(transparent)]
    Processor(NoArithmetic),
}

impl BundleError {
    /// The error for something in `part` that does not fit the architecture.
    pub fn architecture(part: &str, what: impl std::fmt::Display) -> Self {
        BundleError::Architecture {
            part: part.to_string(),
            what: what.to_string(),
        }
    }

    /// The exit code of a program that stops at this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            BundleError::Unreadable { .. } => ExitCode::BundleUnreadable,
            BundleError::NotABundle(_) => ExitCode::NotABundle,
            BundleError::Version(_) => ExitCode::BundleVersion,
            BundleError::Cut { .. } => ExitCode::BundleCut,
            BundleError::Damaged { .. } => ExitCode::BundleDamaged,
            BundleError::Architecture { .. } => ExitCode::BundleArchitecture,
            BundleError::Signature(_) => ExitCode::BundleSignature,
            BundleError::Key(_) => ExitCode::PublicKey,
            BundleError::Processor(_) => ExitCode::Processor,
        }
    }
}
