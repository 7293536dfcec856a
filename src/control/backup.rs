//! A station's parameters, recipes and what it was taught, as one text: what `backup` writes and `restore` reads, from
//! the command line and over the page. It holds the passwords' hashes.

use super::memory::GOOD_PARTS;
use super::memory::Memory;
use super::store::Stored;
use super::store::shelf::{Shelf, is_name, name_of};
use crate::durable;
use crate::memory::Taught;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// A backup, and what is missing in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// The file, TOML.
    pub text: String,
    /// The files of taught parts in the station's folder that cannot be read, each with the reason.
    pub missing: Vec<String>,
    /// The paths of taught parts that lie outside the station's folder, which no backup holds.
    pub elsewhere: Vec<String>,
}

/// The backup of what is stored.
pub fn text(stored: &Stored, shelf: &Shelf) -> Backup {
    let (taught, missing) = good_parts(&stored.memory, shelf);
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
    Backup {
        text,
        missing,
        elsewhere: elsewhere(&stored.memory),
    }
}

/// The paths of taught parts that recipes name outside the station's folder, each once: no backup holds them.
pub fn elsewhere(memory: &Memory) -> Vec<String> {
    let named: BTreeSet<&str> = memory.taught().filter(|name| !is_name(name)).collect();
    named.into_iter().map(String::from).collect()
}

/// Writes a backup into a file that only its owner may read: the old one stays until the new one is whole and on the disk.
///
/// # Errors
/// The file system's.
pub fn save(text: &str, path: &Path) -> io::Result<()> {
    durable::save_secret(text.as_bytes(), path)
}

/// The files of taught parts that recipes name, as a TOML table, and those that cannot be read.
fn good_parts(memory: &Memory, shelf: &Shelf) -> (String, Vec<String>) {
    let (mut table, mut missing) = (String::new(), Vec::new());
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
            Err(e) => missing.push(format!("{}: {e}", shelf.path(name).display())),
        }
    }
    (table, missing)
}

/// The files of taught parts in a backup, by name; each of them is checked.
///
/// # Errors
/// A sentence that says what is wrong, and where.
pub fn goods(text: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
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

/// Puts a backup in place of what a memory holds. Every recipe must be one that a station can run, not only the one in
/// use, and what it was taught must be in the backup or in the folder.
///
/// # Errors
/// What is wrong, and where.
pub fn read(
    memory: &mut Memory,
    text: &str,
    goods: &BTreeMap<String, Vec<u8>>,
    shelf: &Shelf,
) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("it is empty: nothing to restore".into());
    }
    memory.read(text).map_err(|e| e.to_string())?;
    memory.check_all().map_err(|e| e.to_string())?;
    let lost =
        (memory.taught()).find(|n| is_name(n) && !goods.contains_key(*n) && shelf.get(n).is_err());
    match lost {
        None => Ok(()),
        Some(name) => Err(format!(
            "a recipe compares parts with {name}, which is neither in the file nor in the folder; set taught to \"\" there, or take another backup"
        )),
    }
}
