//! The host's side: reads CLIP checkpoints and prompt learners, learns prompts, writes bundles.
//!
//! Never on the device (feature `train`). Knows `bundle` to write it and runs the device's own code to
//! measure what it writes; no other module may use it.
//!
//! | module | what it does |
//! |---|---|
//! | [`tensors`], [`clip`], [`backbone`], [`prompts`] | weights (with text, without) and prompt learners from files, and to files |
//! | [`datasets`], [`masks`] | labelled pictures in the layouts that people have |
//! | [`nn`] | both towers in burn: what learns |
//! | [`fit`] | learning prompts on cached features; [`ablate`] names the paper's variants |
//! | [`distil`] | an image encoder of one's own, taught by others |
//! | `resume` | what all runs share that `--resume` goes on from |
//! | [`render`] | labelled pictures from a seed: they teach the default bundle its directions, and the rig shows them |
//! | [`export`], [`mod@reference`] | checkpoint to bundle |
//! | [`network`] | any other image encoder, from an ONNX file |
//! | [`onnx`] | the frame as an ONNX graph |
//! | [`methods`] | the methods that FAPrompt is compared with |
//! | [`evaluate`], [`few_shot`], [`metrics`], [`page`] | figures of merit and the report |
//! | [`pull`] | published weights by name |
//! | [`flash`] | a release onto a node |
//! | [`fleet`] | many stations at once |
//! | [`random`] | weights without meaning, for benchmarks |

pub mod ablate;
pub mod backbone;
pub mod clip;
pub mod datasets;
pub mod defect_types;
pub mod distil;
pub mod evaluate;
pub mod export;
pub mod few_shot;
pub mod fit;
pub mod flash;
pub mod fleet;
pub mod masks;
pub mod methods;
pub mod metrics;
pub mod network;
pub mod nn;
pub mod onnx;
pub mod page;
pub mod progress;
pub mod prompts;
pub mod pull;
pub mod random;
pub mod reference;
pub mod render;
mod resume;
pub mod shard;
pub mod tensors;

use crate::bundle::BundleError;
use crate::capture::CaptureError;
use crate::exit::ExitCode;
use std::path::{Path, PathBuf};

/// The first `most` of a list for a message, and how many there are besides; `besides` is the word for these.
fn some<T: AsRef<str>>(all: &[T], most: usize, besides: &str) -> String {
    let shown: Vec<&str> = all.iter().take(most).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match all.len().saturating_sub(most) {
        0 => shown,
        n => format!("{shown} and {n} {besides}"),
    }
}

/// What [`TrainError::Diverged`] has of a run that has saved nothing yet.
const NO_CHECKPOINT: &str = "none";

/// What is left of a run whose loss is no number any more.
fn kept(checkpoint: &str) -> String {
    match checkpoint {
        NO_CHECKPOINT => String::new(),
        path => format!("; what was learned before stays as it was and can be used: {path}"),
    }
}

/// A number of things, in words.
fn counted(count: usize, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        n => format!("{n} {thing}s"),
    }
}

/// Why the host could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Weights that cannot be read or are not CLIP's.
    #[error("{path}: {what}", path = path.display())]
    Weights {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A prompt learner that cannot be read or does not fit the weights.
    #[error("{path}: {what}", path = path.display())]
    Prompts {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A data set that cannot be read.
    #[error("{path}: {what}", path = path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A picture or mask that cannot be read; the message names it.
    #[error(transparent)]
    Picture(#[from] CaptureError),
    /// Options that do not fit each other or the weights.
    #[error("{0}")]
    Options(String),
    /// The result could not be written.
    #[error("{path}: cannot be written: {source}", path = path.display())]
    Output {
        /// Path of the file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A picture or several that cannot be read; each message names its own.
    #[error("{} cannot be read:\n  {}", counted(.0.len(), "picture"), .0.join("\n  "))]
    Pictures(Vec<String>),
    /// A loss that is NaN or infinite.
    #[error(
        "step {step}: the loss term {term} is NaN or infinite: begin anew with a lower --lr in another --out{kept}",
        kept = kept(checkpoint)
    )]
    Diverged {
        /// The step, from 0.
        step: usize,
        /// The term of the loss that is NaN or infinite.
        term: String,
        /// What was saved last, or `none`.
        checkpoint: String,
    },
    /// The user stopped a command whose results so far are found again by the same command.
    #[error("stopped after {after}; saved: {saved}; the same command goes on there")]
    Paused {
        /// What was done last.
        after: String,
        /// What was saved.
        saved: String,
    },
    /// The user stopped it.
    #[error("stopped after {after}; saved: {checkpoint}; go on with --resume")]
    Interrupted {
        /// What was done last.
        after: String,
        /// What was saved, and where.
        checkpoint: String,
    },
    /// The device's own code refuses what was just made: a fault of this program.
    #[error("the new bundle does not run: {0}")]
    SelfCheck(#[source] BundleError),
    /// A bundle that cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The same, of a file whose name the reason does not say.
    #[error("{path}: {source}", path = path.display())]
    BundleFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        source: BundleError,
    },
    /// Something published that is not here.
    #[error(transparent)]
    Pull(#[from] pull::PullError),
    /// A node that was not flashed.
    #[error(transparent)]
    Flash(#[from] flash::FlashError),
    /// A fleet of which nothing was begun.
    #[error(transparent)]
    Fleet(#[from] fleet::FleetError),
}

impl TrainError {
    /// Of the bundle at `path`.
    pub fn of_bundle(path: &Path, source: BundleError) -> TrainError {
        match source {
            named @ BundleError::Unreadable { .. } => TrainError::Bundle(named),
            source => TrainError::BundleFile {
                path: path.into(),
                source,
            },
        }
    }

    /// The same of a command that has no --resume because it finds by itself what is there.
    pub fn of_a_command_that_goes_on(self) -> TrainError {
        match self {
            TrainError::Interrupted { after, checkpoint } => TrainError::Paused {
                after,
                saved: checkpoint,
            },
            other => other,
        }
    }

    /// The exit code of a program that stops at this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            TrainError::Weights { .. } => ExitCode::Weights,
            TrainError::Prompts { .. } => ExitCode::Prompts,
            TrainError::Data { .. } | TrainError::Picture(_) | TrainError::Pictures(_) => {
                ExitCode::Data
            }
            TrainError::Options(_) => ExitCode::Options,
            TrainError::Output { .. } => ExitCode::OutputFailed,
            TrainError::Diverged { .. } => ExitCode::Diverged,
            TrainError::Interrupted { .. } | TrainError::Paused { .. } => ExitCode::Interrupted,
            TrainError::SelfCheck(_) => ExitCode::Internal,
            TrainError::Bundle(e) | TrainError::BundleFile { source: e, .. } => e.exit_code(),
            TrainError::Pull(pull::PullError::Unknown { .. }) => ExitCode::Options,
            TrainError::Pull(_) => ExitCode::Download,
            TrainError::Flash(e) => e.exit_code(),
            TrainError::Fleet(e) => e.exit_code(),
        }
    }
}
