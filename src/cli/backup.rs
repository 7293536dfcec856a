//! `backup` and `restore`: parameters, recipes and what was taught as one file that people can read.

use super::{CliError, output};
use clap::Args;
use faprompt_edge::control::store::shelf::Shelf;
use faprompt_edge::control::values::quoted;
use faprompt_edge::control::{Access, Memory, Store, backup};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::{say, warn};
use std::path::PathBuf;

/// Where the service keeps its memory.
pub const STATE: &str = "/var/lib/faprompt-edge";

#[derive(Args)]
pub struct Backup {
    /// The file, TOML. It holds the passwords' hashes: keep it as you keep keys
    file: PathBuf,
    /// The station's memory; the station may be running
    #[arg(long, value_name = "DIR", default_value = STATE)]
    state: PathBuf,
}

#[derive(Args)]
pub struct Restore {
    /// What `backup` wrote
    file: PathBuf,
    /// The station's memory; the station must not be running (systemctl stop faprompt-edge)
    #[arg(long, value_name = "DIR", default_value = STATE)]
    state: PathBuf,
}

impl Backup {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let stored = Store::look(&self.state, &Memory::default())?;
        let backup::Backup {
            text,
            missing,
            elsewhere,
        } = backup::text(&stored, &Shelf::new(&self.state));
        for what in &missing {
            warn(format_args!("{what}; it is not in the backup"));
        }
        for path in &elsewhere {
            warn(format_args!(
                "{path}: a recipe was taught by this file outside the station's folder; it is not in the backup: \
                 copy it, too"
            ));
        }
        if self.file.exists() && !self.file.is_file() {
            return Err(output(&self.file)(std::io::Error::other(
                "not a regular file",
            )));
        }
        // The last backup stays until this one is whole, and nobody else reads it.
        backup::save(&text, &self.file).map_err(output(&self.file))?;
        say(self.file.display());
        Ok(match missing.is_empty() && elsewhere.is_empty() {
            false => ExitCode::SomeInputsFailed,
            true => ExitCode::Good,
        })
    }
}

impl Restore {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let wrong = |reason: String| CliError::Config {
            path: self.file.clone(),
            reason,
        };
        let text = std::fs::read_to_string(&self.file).map_err(|e| wrong(e.to_string()))?;
        let goods = backup::goods(&text).map_err(wrong)?;
        let (mut store, mut restored) = Store::open(&self.state, &Memory::default())?;
        let stored = &mut restored.stored;
        let shelf = store.shelf();
        backup::read(&mut stored.memory, &text, &goods, &shelf).map_err(wrong)?;
        for bytes in goods.values() {
            shelf.put(bytes).map_err(output(&self.state))?;
        }
        // As the other lines: when, who, what, old, new. Whoever may run this may change everything.
        stored.note(&format!(
            "{:.0},{}@restore,restored,,{}",
            jiff::Timestamp::now(),
            Access::Engineer.name(),
            quoted(&self.file.display().to_string())
        ));
        stored.settings_lost = false;
        store.save(stored)?;
        store.sweep(stored)?;
        say(format_args!(
            "{}: restored; recipe {} is in use when the station starts",
            self.state.display(),
            stored.memory.active()
        ));
        Ok(ExitCode::Good)
    }
}
