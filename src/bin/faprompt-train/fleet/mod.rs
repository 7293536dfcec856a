//! `faprompt-train fleet`.

mod choice;
mod commands;
mod round;
mod table;

use crate::flash::Release;
use clap::{Args, Subcommand};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::fleet::{FleetError, Order, read};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// A station answers a question about its state within this time, in seconds.
const SOON: u64 = 10;
/// And anything else: it gives up after 60 s itself.
const LATE: u64 = 75;

/// Arguments of `fleet`.
#[derive(Args)]
pub struct Fleet {
    /// The stations, TOML: docs/integrator.md says its keys
    stations: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How every station is: mode, network, alarms, recipe, parts, certificate
    Status(Look),
    /// Put program, bundle and board onto every node, one first
    Flash(Flash),
    /// Write every station's backup into a folder
    Backup(Backup),
    /// Copy what one station was taught with a recipe to others, one of them first
    TeachCopy(TeachCopy),
}

/// What every command has.
#[derive(Args)]
struct Common {
    /// Stations at a time
    #[arg(long, value_name = "N", default_value = "8")]
    at_once: NonZeroUsize,
    /// Results as JSON
    #[arg(long)]
    json: bool,
    /// Seconds for each answer [default: 10 for status, else 75]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
}

#[derive(Args)]
struct Look {
    /// Only these stations, by name, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Backup {
    /// Folder for a file NAME.backup.toml per station. They hold the passwords' hashes: keep them as you keep keys
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    look: Look,
}

#[derive(Args)]
struct Flash {
    /// The station that goes first, alone [default: the first one]
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    look: Look,
}

#[derive(Args)]
struct TeachCopy {
    /// The station that was taught
    #[arg(long, value_name = "NAME")]
    from: String,
    /// Those that get it, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
    to: Vec<String>,
    /// The recipe, 1 to 32, on all of them [default: the one in use on the first station]
    #[arg(long, value_name = "N")]
    recipe: Option<u32>,
    /// The station of --to that goes first, alone [default: the first one]
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Common {
    fn patience(&self, default: u64) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(default))
    }

    /// Looks at every station, whatever becomes of the others.
    fn every(&self) -> Order {
        Order {
            at_once: self.at_once,
            canary: None,
            stop: false,
        }
    }

    /// Changes stations: one first, none any more after a failure.
    fn careful(&self, canary: Option<usize>) -> Order {
        Order {
            at_once: self.at_once,
            canary,
            stop: true,
        }
    }
}

impl Fleet {
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let stations = read(&self.stations).map_err(FleetError::from)?;
        match &self.what {
            What::Status(look) => look.run(&stations),
            What::Backup(backup) => backup.run(&stations),
            What::Flash(flash) => flash.run(&stations),
            What::TeachCopy(copy) => copy.run(&stations),
        }
    }
}
