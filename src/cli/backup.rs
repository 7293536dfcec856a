//! `backup` and `restore`: parameters, recipes and what was taught as one file that people can read.

use super::{CliError, output};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use faprompt_edge::control::memory::GOOD_PARTS;
use faprompt_edge::control::store::shelf::{Shelf, is_name, name_of};
use faprompt_edge::control::{Memory, Store};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::memory::Taught;
use faprompt_edge::report::{say, warn};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
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
        let (taught, missing) = good_parts(&stored.memory, &Shelf::new(&self.state));
        let text = format!(
            "# Parameters and recipes of a faprompt-edge {} station: `faprompt-edge restore FILE` on another one.\n{}{}{taught}",
            env!("CARGO_PKG_VERSION"),
            match stored.log.is_empty() {
                true =>
                    "# Nothing was ever changed: these are its board's and its bundle's defaults.\n",
                false => "",
            },
            stored.memory.to_toml()
        );
        if self.file.exists() && !self.file.is_file() {
            return Err(output(&self.file)(std::io::Error::other(
                "not a regular file",
            )));
        }
        // The last backup stays until this one is whole, and no file keeps wider rights than these.
        let mut new = self.file.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        let written = (|| {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.file)
        })();
        if let Err(e) = written {
            // The first error is the one that matters.
            let _ = std::fs::remove_file(&new);
            return Err(output(&self.file)(e));
        }
        say(self.file.display());
        Ok(match missing {
            true => ExitCode::SomeInputsFailed,
            false => ExitCode::Good,
        })
    }
}

/// What recipes name as taught, as a table of TOML, and whether something of it is missing.
fn good_parts(memory: &Memory, shelf: &Shelf) -> (String, bool) {
    let (mut table, mut missing) = (String::new(), false);
    let named: BTreeSet<&str> = memory.taught().collect();
    for name in named {
        if !is_name(name) {
            table += &format!("# {name:?} was taught elsewhere and is not in here.\n");
            continue;
        }
        match shelf.get(name) {
            Ok(bytes) => {
                if !table.contains(&format!("[{GOOD_PARTS}]")) {
                    table += &format!("\n# What was taught: files, as text.\n[{GOOD_PARTS}]\n");
                }
                table += &format!("{name} = \"{}\"\n", STANDARD.encode(bytes));
            }
            Err(e) => {
                let path = shelf.path(name);
                warn(format_args!(
                    "{}: {e}; it is not in the backup",
                    path.display()
                ));
                missing = true;
            }
        }
    }
    (table, missing)
}

/// The files of good parts in a backup, each of them whole.
fn goods(text: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut table: toml::Table = text
        .parse()
        .map_err(|e: toml::de::Error| format!("not TOML: {e}"))?;
    let Some(files) = table.remove(GOOD_PARTS) else {
        return Ok(BTreeMap::new());
    };
    let wrong = |name: &str, what: &str| format!("{GOOD_PARTS}.{name}: {what}");
    let toml::Value::Table(files) = files else {
        return Err(format!("`{GOOD_PARTS}` is no table"));
    };
    let file = |(name, value): (String, toml::Value)| {
        let text = value.as_str().ok_or_else(|| wrong(&name, "no text"))?;
        let bytes = STANDARD.decode(text);
        let bytes = bytes.map_err(|e| wrong(&name, &e.to_string()))?;
        if name_of(&bytes) != name {
            return Err(wrong(
                &name,
                "it is damaged: its digest is not the one in its name",
            ));
        }
        Taught::from_bytes(&bytes).map_err(|e| wrong(&name, &e.to_string()))?;
        Ok((name, bytes))
    };
    files.into_iter().map(file).collect()
}

impl Restore {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let wrong = |reason: String| CliError::Config {
            path: self.file.clone(),
            reason,
        };
        let text = std::fs::read_to_string(&self.file).map_err(|e| wrong(e.to_string()))?;
        if text.trim().is_empty() {
            return Err(wrong("it is empty: nothing to restore".into()));
        }
        let goods = goods(&text).map_err(wrong)?;
        let (mut store, mut restored) = Store::open(&self.state, &Memory::default())?;
        let stored = &mut restored.stored;
        stored
            .memory
            .read(&text)
            .map_err(|e| wrong(e.to_string()))?;
        // Every recipe must be one that a station can run, not only the one in use.
        stored
            .memory
            .check_all()
            .map_err(|e| wrong(e.to_string()))?;
        let shelf = store.shelf();
        let lost = (stored.memory.taught())
            .find(|n| is_name(n) && !goods.contains_key(*n) && shelf.get(n).is_err());
        if let Some(name) = lost {
            return Err(wrong(format!(
                "a recipe compares parts with {name}, which is neither in the file nor in the folder; set taught to \"\" there, or take another backup"
            )));
        }
        for bytes in goods.values() {
            shelf.put(bytes).map_err(output(&self.state))?;
        }
        stored.note(&format!("restored,{}", self.file.display()));
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
