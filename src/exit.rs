//! Exit codes of all programs. They leave the machine: never reorder, never reuse, only append.

/// What a program's end means.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// Done; every part is good.
    Good = 0,
    /// Done; at least one part is a reject.
    Reject = 1,
    /// The command line was not understood (clap's own code).
    Usage = 2,
    /// Some inputs could not be inspected; the others were.
    SomeInputsFailed = 3,
    /// There was nothing to inspect.
    NoInput = 4,
    /// A result could not be written.
    OutputFailed = 5,
    /// The bundle file could not be read.
    BundleUnreadable = 10,
    /// The file is no bundle.
    NotABundle = 11,
    /// The bundle's format version is another one.
    BundleVersion = 12,
    /// The bundle is cut off.
    BundleCut = 13,
    /// A part's digest differs.
    BundleDamaged = 14,
    /// The bundle is intact but cannot be run.
    BundleArchitecture = 15,
    /// The signature is missing or wrong.
    BundleSignature = 16,
    /// The public key cannot be used.
    PublicKey = 17,
    /// This processor cannot compute as was asked.
    Processor = 18,
    /// No such board, or its description is wrong.
    Board = 20,
    /// The station's memory cannot be opened.
    Memory = 22,
    /// A file of parameters is wrong.
    Config = 23,
    /// A release was refused, or no slot holds an intact one.
    Release = 24,
    /// A memory of good parts is damaged, or cannot be read.
    TaughtUnreadable = 25,
    /// A memory of good parts was taught on another encoder: teach again.
    TaughtElsewhere = 26,
    /// The bundle judges by good parts alone, and none was taught.
    Untaught = 27,
    /// `doctor` found something that is wrong.
    Problems = 21,
    /// CLIP weights could not be read.
    Weights = 30,
    /// A prompt learner could not be read, or does not fit the weights.
    Prompts = 31,
    /// The options do not fit each other or the weights.
    Options = 32,
    /// A data set could not be read.
    Data = 33,
    /// Training came to a loss that is NaN or infinite.
    Diverged = 34,
    /// The user stopped training; a checkpoint is saved.
    Interrupted = 35,
    /// A node could not be flashed: it runs what it ran before.
    Flash = 36,
    /// The node went back to what it ran before: the new release did not become ready.
    RolledBack = 37,
    /// Something published could not be fetched, or is another file than it should be.
    Download = 38,
    /// The station was ordered to start again: whoever watches over it does so.
    Restart = 40,
    /// A serial port could not be opened, or nobody answered there.
    Port = 41,
    /// A station could not be reached over the network, or answered what no station answers.
    Unreachable = 42,
    /// A station's certificate is not the one that was named, or nobody who is trusted signed it.
    Certificate = 43,
    /// A station refused what it was asked for: the password, or the order.
    Refused = 44,
    /// A network address cannot be listened at.
    Listen = 45,
    /// The program's own certificate cannot be had: its folder cannot be written, or what is in it cannot be used.
    OwnCertificate = 46,
    /// A fault inside the program.
    Internal = 70,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}
