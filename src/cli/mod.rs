//! The device program's commands. Arguments are parsed without touching anything; each command then
//! resolves them, runs and answers with an exit code.

mod backup;
mod bench;
mod board;
mod bundle;
mod console;
mod doctor;
mod flat;
mod good_parts;
mod inspect;
mod memory;
mod run;
mod safe;
mod slot;
mod support;
mod teach;

use clap::{Args, Parser, Subcommand};
use faprompt_edge::board::BoardError;
use faprompt_edge::bundle::{Bundle, BundleError, Keys};
use faprompt_edge::capture::CaptureError;
use faprompt_edge::control::StoreError;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::gpu::Backend;
use faprompt_edge::inspector::{CutError, Inspector, Options, cores};
use faprompt_edge::memory::file::TaughtError;
use faprompt_edge::memory::region::Regions;
use faprompt_edge::ops::weights::Arithmetic;
#[cfg(feature = "plant")]
use faprompt_edge::plant::SettingsError;
use faprompt_edge::release::ReleaseError;
use faprompt_edge::report::{shown_lines, warn};
use faprompt_edge::runtime::{PARALLEL, StartError};
use faprompt_edge::tiling::Tiling;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(
    name = "faprompt-edge",
    version,
    about = "Finds defects that it was never trained on, and rejects the part"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Judge photos: exit code 0 all good, 1 any reject, 2 and above an error
    Inspect(inspect::Inspect),
    /// Learn good parts from photos of them: what `inspect --taught` compares with
    Teach(teach::Teach),
    /// Run the station: a frame per part, a verdict per part, a reject output
    Run(Box<run::Run>),
    /// Time and memory per stage
    Bench(bench::Bench),
    /// Talk to a station over a serial port: commands, and a live view of its scores
    ///
    /// Commands may come from a file or a pipe, a line each. The exit code is 44 then if the station refused any of them, and
    /// 41 if it did not answer one.
    Console(console::Console),
    /// What this machine has, what is wrong with it, and what to do
    Doctor(doctor::Doctor),
    /// Measure a lens's shading, for cameras that deliver raw Bayer samples
    Flat(flat::FlatFrame),
    /// Put the outputs into their safe state, and leave
    Safe(safe::Safe),
    /// Boards: list, show, check, start a file of your own
    #[command(subcommand)]
    Board(board::BoardCommand),
    /// Look into a bundle
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Write parameters and recipes into a file
    Backup(backup::Backup),
    /// Take parameters and recipes from a file
    Restore(backup::Restore),
    /// Write one archive for diagnosis: no secrets, no pictures of parts unless asked for
    Support(support::Support),
    /// The two slots that releases are flashed into
    Slot(slot::SlotArguments),
}

/// Arguments of every command that runs a network.
#[derive(Args)]
struct Network {
    /// The bundle; `built-in`: the one inside this program [default: $FAPROMPT_BUNDLE, else default.bundle beside
    /// the program or in /usr/share/faprompt-edge, else the built-in one]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// minisign public key, several times for several: refuse a bundle without a valid FILE.minisig
    /// [default: those in /etc/faprompt-edge/keys]
    #[arg(long)]
    key: Vec<PathBuf>,
    /// How the abnormal prototype follows each image
    #[arg(long, value_enum, default_value = "exact")]
    adaptation: AdaptationMode,
    /// How weights are multiplied; a processor without f16 arithmetic refuses f16
    #[arg(long, value_enum, default_value = "auto")]
    arithmetic: Arithmetic,
    /// What judges: this processor, or an NVIDIA GPU (in programs built with `--features cuda12` or `cuda13`;
    /// if it fails, the processor goes on and says so)
    #[arg(long, value_enum, default_value = "cpu")]
    runtime: Backend,
}

/// Arguments of how a command uses the cores.
#[derive(Args)]
struct Cores {
    /// Threads for one frame [default: all cores, divided among --parallel]
    #[arg(long, value_parser = threads)]
    threads: Option<usize>,
    /// Frames judged side by side: more of them per second, none of them sooner
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=PARALLEL as i64))]
    parallel: u16,
}

impl Cores {
    fn threads(&self) -> usize {
        self.threads
            .unwrap_or((cores() / usize::from(self.parallel)).max(1))
    }
}

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("{path}: {source}", path = path.display())]
    BundleAt { path: PathBuf, source: BundleError },
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("nothing to inspect: {0}")]
    NoInput(String),
    /// Too few good parts to learn from.
    #[error("nothing was taught: {0}")]
    NothingTaught(String),
    #[error(transparent)]
    Board(#[from] BoardError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Taught(#[from] TaughtError),
    #[error("{path}: {source}", path = path.display())]
    TaughtAt { path: PathBuf, source: TaughtError },
    #[error(
        "this bundle has no words to judge by, it compares parts with good ones: show it some (faprompt-edge teach GOOD/ --out FILE), then name that file with --taught"
    )]
    Untaught,
    #[error(transparent)]
    Console(#[from] console::ConsoleError),
    #[cfg(feature = "plant")]
    #[error(transparent)]
    Plant(#[from] SettingsError),
    #[error("{path}: {reason}", path = path.display())]
    Config { path: PathBuf, reason: String },
    #[error("{path}: cannot be written: {source}", path = path.display())]
    Output {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Internal(String),
}

impl CliError {
    /// Why what was taught cannot be used, with the file's path if it does not say it itself.
    fn taught_at(path: &Path, source: TaughtError) -> CliError {
        match source {
            TaughtError::File { .. } => CliError::Taught(source),
            _ => CliError::TaughtAt {
                path: path.into(),
                source,
            },
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            CliError::Bundle(e) | CliError::BundleAt { source: e, .. } => e.exit_code(),
            CliError::Capture(_) | CliError::NoInput(_) | CliError::NothingTaught(_) => {
                ExitCode::NoInput
            }
            CliError::Board(_) => ExitCode::Board,
            CliError::Start(StartError::Output { .. }) => ExitCode::OutputFailed,
            CliError::Start(_) => ExitCode::Internal,
            CliError::Release(e) => e.exit_code(),
            CliError::Store(_) => ExitCode::Memory,
            CliError::Taught(e) | CliError::TaughtAt { source: e, .. } => e.exit_code(),
            CliError::Untaught => ExitCode::Untaught,
            CliError::Console(e) => e.exit_code(),
            #[cfg(feature = "plant")]
            CliError::Plant(_) => ExitCode::Config,
            CliError::Config { .. } => ExitCode::Config,
            CliError::Output { .. } => ExitCode::OutputFailed,
            CliError::Usage(_) => ExitCode::Usage,
            CliError::Internal(_) => ExitCode::Internal,
        }
    }
}

/// An error at `path` while writing.
fn output(path: &Path) -> impl FnOnce(std::io::Error) -> CliError + '_ {
    |source| CliError::Output {
        path: path.to_path_buf(),
        source,
    }
}

/// Prints text to standard output; control characters in names of files or bundles do not reach the terminal.
fn print(text: impl Display) -> Result<(), CliError> {
    write!(std::io::stdout(), "{}", shown_lines(text)).map_err(output(Path::new("standard output")))
}

/// Creates a folder for results.
fn folder(path: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(path).map_err(output(path))
}

/// The bundle inside the program, which works everywhere, straight after `cargo install`.
static BUILT_IN: &[u8] = include_bytes!(env!("DEFAULT_BUNDLE"));

/// Name of [`BUILT_IN`] where a bundle's file may be named.
const BUILT_IN_NAME: &str = "built-in";

/// Name of the bundle's file that is used if none is named: beside the program, or where the package puts it.
const DEFAULT: &str = "default.bundle";
const SHARED: &str = "/usr/share/faprompt-edge";

impl Network {
    /// The bundle that is named; otherwise the first default that exists.
    fn path(&self) -> PathBuf {
        let named = self.bundle.clone();
        let named = named.or_else(|| std::env::var_os("FAPROMPT_BUNDLE").map(PathBuf::from));
        let program = std::env::current_exe().ok();
        let beside = program.as_deref().and_then(Path::parent);
        let places = beside.into_iter().chain([Path::new(SHARED)]);
        let mut places = places.map(|place| place.join(DEFAULT));
        named
            .or_else(|| places.find(|p| p.is_file()))
            .unwrap_or_else(|| BUILT_IN_NAME.into())
    }

    fn options(&self, threads: usize) -> Options {
        Options {
            adaptation: self.adaptation,
            threads,
            arithmetic: self.arithmetic,
            runtime: self.runtime,
            memory: false,
        }
    }

    fn open(&self) -> Result<Bundle, CliError> {
        open(&self.path(), &self.key)
    }

    fn inspector(&self, bundle: &Bundle, threads: usize) -> Result<Inspector, CliError> {
        inspector(bundle, self.options(threads))
    }
}

/// Makes a network of a bundle, and prints its warning if it has one.
fn inspector(bundle: &Bundle, options: Options) -> Result<Inspector, CliError> {
    let inspector = Inspector::new(bundle, options)?;
    if let Some(warning) = inspector.manifest().warning() {
        warn(warning);
    }
    Ok(inspector)
}

/// The keys that are named; otherwise those installed on this machine.
fn keys(named: &[PathBuf]) -> Result<Keys, BundleError> {
    match named {
        [] => Keys::installed(Path::new(Keys::FOLDER)),
        named => Keys::load(named),
    }
}

fn open(path: &Path, named: &[PathBuf]) -> Result<Bundle, CliError> {
    open_with(path, &keys(named)?)
}

/// Opens a bundle; an error names the bundle.
fn open_with(path: &Path, keys: &Keys) -> Result<Bundle, CliError> {
    let opened = match path == Path::new(BUILT_IN_NAME) {
        true => Bundle::built_in(BUILT_IN, keys),
        false => Bundle::open(path, keys),
    };
    opened.map_err(|source| match source {
        // This error names the file itself.
        BundleError::Unreadable { .. } => CliError::Bundle(source),
        source => CliError::BundleAt {
            path: path.to_path_buf(),
            source,
        },
    })
}

/// Cuts frames into the tiles of the command line.
fn cut(inspector: &mut Inspector, tiles: Tiling) -> Result<(), CliError> {
    let refused = |e: CutError| CliError::Usage(format!("--tiles: {e}"));
    inspector.cut(tiles).map_err(refused)
}

/// Judges only the regions of a file.
fn look(inspector: &mut Inspector, path: &Path) -> Result<(), CliError> {
    let wrong = |reason: String| CliError::Config {
        path: path.to_path_buf(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let looked = Regions::parse(&text).and_then(|regions| inspector.look(&regions));
    looked.map_err(|e| wrong(e.to_string()))
}

/// Parses a threshold: finite, 0..=1.
fn threshold(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("a number from 0 to 1".into()),
    }
}

/// Parses a number of threads.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n @ 1..=1024) => Ok(n),
        _ => Err("a number from 1 to 1024".into()),
    }
}

/// Runs the command and reports what stopped it.
pub fn main() -> ExitCode {
    memory::keep_freed();
    let result = match Arguments::parse().command {
        Command::Inspect(a) => a.run(),
        Command::Teach(a) => a.run(),
        Command::Run(a) => a.run(),
        Command::Bench(a) => a.run(),
        Command::Console(a) => a.run(),
        Command::Doctor(a) => a.run(),
        Command::Flat(flat) => flat.run(),
        Command::Safe(a) => a.run(),
        Command::Board(a) => a.run(),
        Command::Bundle(a) => a.run(),
        Command::Slot(a) => a.run(),
        Command::Backup(a) => a.run(),
        Command::Restore(a) => a.run(),
        Command::Support(a) => a.run(),
    };
    result.unwrap_or_else(|e| {
        warn(format_args!("faprompt-edge: {e}"));
        e.exit_code()
    })
}
