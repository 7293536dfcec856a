//! `faprompt-train flash`.

use clap::Args;
use faprompt_edge::board::Board;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::release::package::Sources;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::flash::{Card, FlashError, Flashed, Plan, Ready, Ssh, secret_key};
use faprompt_edge::train::progress::bar;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is flashed, and how.
#[derive(Args)]
pub struct Release {
    /// The bundle
    #[arg(long)]
    bundle: PathBuf,
    /// What `make node` built: ARCH/faprompt-edge and ARCH/faprompt-edge.deb
    #[arg(long, value_name = "DIR", default_value = "out/node")]
    built: PathBuf,
    /// The device program [default: in --built, for the board's processor]
    #[arg(long)]
    program: Option<PathBuf>,
    /// The program's version
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    program_version: String,
    /// The package for a node that has none [default: in --built, for the board's processor]
    #[arg(long, value_name = "DEB")]
    package: Option<PathBuf>,
    /// minisign secret key: sign the release, and the bundle if it has no signature
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// Only say every step
    #[arg(long)]
    pub dry_run: bool,
    /// Also if the node runs this release already
    #[arg(long)]
    again: bool,
    /// Seconds until the node must be ready
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
}

/// Arguments of `flash`.
#[derive(Args)]
pub struct Flash {
    /// Which board the node is: a name (`faprompt-edge board list`) or a file
    #[arg(long)]
    board: String,
    #[command(flatten)]
    release: Release,
    /// The node, as ssh calls it (user@host), or the folder where the root file system of its card is mounted
    #[arg(long, value_name = "HOST|DIR", required_unless_present = "out")]
    to: Option<String>,
    /// Write the release into a file instead: `faprompt-edge slot install < FILE` on the node, as root
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    out: Option<PathBuf>,
    /// For ssh, as in --ssh-option=-p --ssh-option=2222
    #[arg(long = "ssh-option", value_name = "OPTION", allow_hyphen_values = true)]
    ssh_options: Vec<String>,
}

/// What processor a program is for, if it is another one than `arch`. Files that are no ELF say nothing; the node
/// asks every program for its version anyway.
fn other_processor(program: &Path, arch: &str) -> Option<String> {
    let mut header = [0; 20];
    File::open(program).ok()?.read_exact(&mut header).ok()?;
    if header[..4] != *b"\x7fELF" {
        return None;
    }
    // e_machine, as elf.h numbers it; all of these are little-endian.
    let machine = match u16::from_le_bytes([header[18], header[19]]) {
        62 => "x86_64".into(),
        183 => "aarch64".into(),
        40 => "32-bit ARM".into(),
        other => format!("ELF machine {other}"),
    };
    (machine != arch).then_some(machine)
}

impl Release {
    /// The key to sign with, if there is to be one; asks for its password.
    pub fn key(&self) -> Result<Option<minisign::SecretKey>, FlashError> {
        self.sign.as_deref().map(secret_key).transpose()
    }

    /// The release for a board, checked and signed, and how it is flashed. Says what is doubtful.
    pub fn ready(
        &self,
        board: &str,
        key: Option<&minisign::SecretKey>,
    ) -> Result<(Ready, Plan), TrainError> {
        let resolved = Board::resolve(board).map_err(FlashError::from)?;
        // The names in the board's file are those of `uname -m`.
        let arch = resolved.cpu.arch.name();
        let built = self.built.join(arch);
        let sources = Sources {
            program: self.program.clone().unwrap_or(built.join("faprompt-edge")),
            version: self.program_version.clone(),
            arch: arch.into(),
            bundle: self.bundle.clone(),
            board: board.into(),
        };
        if !sources.program.is_file() {
            return Err(TrainError::Options(format!(
                "{}: no device program for {arch}: build it with `make node`, or name it with --program",
                sources.program.display()
            )));
        }
        if let Some(other) = other_processor(&sources.program, arch) {
            return Err(TrainError::Options(format!(
                "{}: a program for {other}, but board {} is {arch}",
                sources.program.display(),
                resolved.name
            )));
        }
        let ready = Ready::new(&sources, key, self.dry_run)?;
        ready.warnings.iter().for_each(warn);
        let plan = Plan {
            deb: self
                .package
                .clone()
                .unwrap_or(built.join("faprompt-edge.deb")),
            patience: Duration::from_secs(self.patience),
            again: self.again,
        };
        Ok((ready, plan))
    }
}

/// Says every step on the way to a node.
pub fn say_steps(plan: &Plan, ready: &Ready, to: &str) {
    for (number, (what, command)) in plan.steps(ready).into_iter().enumerate() {
        say(format_args!("{}. {what}", number + 1));
        if let Some(command) = command {
            say(format_args!("   ssh {to} -- {command}"));
        }
    }
}

impl Flash {
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let key = self.release.key()?;
        let (ready, plan) = self.release.ready(&self.board, key.as_ref())?;
        if let Some(out) = &self.out {
            if self.release.dry_run {
                say(format_args!("release {}\n\n{}", ready.id(), ready.text()));
                say(format_args!("1. write it into {}", out.display()));
                return Ok(ExitCode::Good);
            }
            ready.save(out)?;
            say(format_args!("{}: release {}", out.display(), ready.id()));
            return Ok(ExitCode::Good);
        }
        // clap asks for one of both.
        let to = self.to.as_deref().unwrap_or_default();
        let card = Some(Card(Path::new(to))).filter(|card| card.0.is_dir());
        if card.is_none() && to.contains('/') {
            return Err(TrainError::Options(format!(
                "--to {to}: no such folder, and no host's name has a slash"
            )));
        }
        if self.release.dry_run {
            let steps = card.map(|card| card.steps(&ready)).transpose()?;
            say(format_args!("release {}\n\n{}", ready.id(), ready.text()));
            if let Some(steps) = steps {
                for (number, what) in steps.into_iter().enumerate() {
                    say(format_args!("{}. {what}", number + 1));
                }
                return Ok(ExitCode::Good);
            }
            say_steps(&plan, &ready, to);
            return Ok(ExitCode::Good);
        }
        if let Some(card) = card {
            card.flash(&ready)?;
            say(format_args!(
                "release {} is on the card, on trial when the node boots; then: faprompt-edge slot status",
                ready.id()
            ));
            return Ok(ExitCode::Good);
        }
        let ssh = Ssh::new(to, &self.ssh_options)?;
        let bar = bar(0, "sending");
        match plan.run(&ssh, &ready, &bar, &|line| say(line))? {
            Flashed::Runs(after) => say(format_args!(
                "release {} runs: self-test passed, ready {:.0} s after its start",
                ready.id(),
                after.as_secs_f64()
            )),
            Flashed::Ran => say(format_args!(
                "the node runs release {} already (--again sends it anyway)",
                ready.id()
            )),
        }
        Ok(ExitCode::Good)
    }
}
