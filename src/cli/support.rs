//! `support`: one archive for diagnosis. Without secrets, and without pictures of products unless they are asked
//! for.

use super::{CliError, backup, output};
use clap::Args;
use faprompt_edge::control::store::shelf::Shelf;
use faprompt_edge::control::{Memory, Store};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::memory::Taught;
use faprompt_edge::release::slots::Slots;
use faprompt_edge::report::say;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use walkdir::WalkDir;

/// Most bytes of a file that are taken, from its end: what happened last.
const TAIL: u64 = 4 << 20;

/// Commands whose output is taken, under these names. One that is missing is noted, and no error.
const COMMANDS: [(&str, &[&str]); 11] = [
    ("system/uname.txt", &["uname", "-a"]),
    (
        "system/journal.txt",
        &[
            "journalctl",
            "-u",
            "faprompt-edge",
            "-n",
            "5000",
            "--no-pager",
        ],
    ),
    (
        "system/service.txt",
        &["systemctl", "status", "faprompt-edge", "--no-pager", "-l"],
    ),
    ("system/kernel.txt", &["dmesg", "--ctime"]),
    ("system/disk.txt", &["df", "-h"]),
    ("system/memory.txt", &["free", "-m"]),
    ("system/usb.txt", &["lsusb"]),
    ("system/modules.txt", &["lsmod"]),
    ("system/camera.txt", &["v4l2-ctl", "--list-devices"]),
    ("system/gpio.txt", &["gpioinfo"]),
    ("system/package.txt", &["dpkg-query", "-W", "faprompt-edge"]),
];

/// Files that describe the system.
const FILES: [(&str, &str); 4] = [
    ("system/cpuinfo.txt", "/proc/cpuinfo"),
    ("system/os-release.txt", "/etc/os-release"),
    ("system/default.txt", "/etc/default/faprompt-edge"),
    ("system/model.txt", "/proc/device-tree/model"),
];

#[derive(Args)]
pub struct Support {
    /// The archive (tar)
    file: PathBuf,
    /// The board that this is meant to be, for `doctor` [default: $FAPROMPT_BOARD]
    #[arg(long)]
    board: Option<String>,
    /// The station's memory
    #[arg(long, value_name = "DIR", default_value = backup::STATE)]
    state: PathBuf,
    /// The station's results [default: out in the memory's folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// With pictures of rejected parts
    #[arg(long)]
    photos: bool,
}

impl Support {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        // Journal, addresses, names of products: for whoever asked for it.
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&self.file).map_err(output(&self.file))?;
        // Also one that was there with wider rights; some file systems know none.
        let _ = file.set_permissions(Permissions::from_mode(0o600));
        let mut archive = Archive {
            tar: tar::Builder::new(BufWriter::new(file)),
            missing: String::new(),
        };
        self.fill(&mut archive).map_err(output(&self.file))?;
        let mut left_out = archive.missing.clone();
        if !self.photos {
            left_out +=
                "pictures of parts, and the parts that were taught: not asked for (--photos)\n";
        }
        left_out += "passwords, keys: never\n";
        archive
            .add("left-out.txt", left_out.as_bytes())
            .and_then(|()| archive.tar.into_inner())
            .and_then(|mut file| file.flush())
            .map_err(output(&self.file))?;
        let size = fs::metadata(&self.file).map_or(0, |m| m.len());
        say(format_args!(
            "{} ({:.1} MB)",
            self.file.display(),
            size as f64 / 1e6
        ));
        Ok(ExitCode::Good)
    }

    fn fill(&self, archive: &mut Archive) -> io::Result<()> {
        archive.add("version.txt", env!("CARGO_PKG_VERSION").as_bytes())?;
        let slots = serde_json::to_string_pretty(&Slots::default().status())?;
        archive.add("slots.json", slots.as_bytes())?;
        match Store::look(&self.state, &Memory::default()) {
            Ok(stored) => {
                let plain = stored
                    .memory
                    .clone()
                    .without_secrets()
                    .to_toml()
                    .to_string();
                archive.add("station/parameters.toml", plain.as_bytes())?;
                let log: String = stored.log.iter().map(|l| format!("{l}\n")).collect();
                archive.add("station/changes.txt", log.as_bytes())?;
                self.taught(archive, &stored.memory)?;
            }
            Err(e) => archive.misses("station/parameters.toml", e),
        }
        archive.own_file("station/counters.txt", &self.state.join("counters"))?;
        let own = self.state.join("out");
        // The station may write there what it likes, a link to root's files too.
        let out = match &self.out {
            Some(out) => Some(out.clone()),
            None if own.is_symlink() => {
                archive.misses("station", format_args!("{}: a link", own.display()));
                None
            }
            None => Some(own),
        };
        if let Some(out) = out {
            for name in ["summary.json", "events.jsonl", "verdicts.jsonl"] {
                archive.own_file(&format!("station/{name}"), &out.join(name))?;
            }
            if self.photos {
                let pictures = WalkDir::new(out.join("archive")).follow_root_links(false);
                for entry in pictures.sort_by_file_name().into_iter().flatten() {
                    if entry.file_type().is_file() {
                        let name = format!("photos/{}", entry.file_name().to_string_lossy());
                        archive.own_file(&name, entry.path())?;
                    }
                }
            }
        }
        self.own(archive)?;
        for (name, command) in COMMANDS {
            archive.output(name, Command::new(command[0]).args(&command[1..]))?;
        }
        for (name, path) in FILES {
            archive.file(name, Path::new(path))?;
        }
        Ok(())
    }

    /// Describes the taught parts: how many, the kind of memory, and the share of good parts that will be
    /// rejected. The parts themselves, which show products, are added only if pictures are asked for.
    fn taught(&self, archive: &mut Archive, memory: &Memory) -> io::Result<()> {
        let shelf = Shelf::new(&self.state);
        let named: BTreeSet<&str> = memory.taught().collect();
        let mut all = vec![];
        for name in named {
            let read = shelf.get(name).map_err(|e| e.to_string());
            let taught = read
                .as_deref()
                .map_err(Clone::clone)
                .and_then(|bytes| Taught::from_bytes(bytes).map_err(|e| e.to_string()));
            all.push(match &taught {
                Err(e) => serde_json::json!({ "name": name, "problem": e }),
                Ok(taught) => {
                    let about = taught.about();
                    serde_json::json!({
                        "name": name,
                        "bytes": read.as_ref().map_or(0, Vec::len),
                        "encoder": about.encoder,
                        "arithmetic": about.arithmetic,
                        "memory": about.kind.name(),
                        "parts": about.told.len(),
                        "test_pieces": about.pieces.len(),
                        "promise": about.promise().map(|p| p.to_string()),
                    })
                }
            });
            if let (true, Ok(bytes)) = (self.photos, &read) {
                let file = Path::new(name).file_name().unwrap_or_default();
                archive.add(&format!("photos/{}", file.to_string_lossy()), bytes)?;
            }
        }
        let text = serde_json::to_string_pretty(&all)?;
        archive.add("station/taught.json", text.as_bytes())
    }

    /// Adds what this program itself reports of the machine.
    fn own(&self, archive: &mut Archive) -> io::Result<()> {
        let program = std::env::current_exe()?;
        let mut doctor = Command::new(&program);
        doctor.arg("doctor");
        let board = self
            .board
            .clone()
            .or_else(|| std::env::var("FAPROMPT_BOARD").ok());
        if let Some(board) = &board {
            doctor.args(["--board", board]);
            let mut show = Command::new(&program);
            archive.output("board.txt", show.args(["board", "show", board]))?;
        }
        archive.output("doctor.txt", &mut doctor)
    }
}

/// The text with `***` in place of what stands before the `@` of each address (`rtsp://user:password@host`), as cameras by
/// command have it.
fn masked(text: &[u8]) -> Cow<'_, [u8]> {
    const SCHEME: &[u8] = b"://";
    let starts = |i: &usize| text[*i..].starts_with(SCHEME);
    let mut masked = Vec::new();
    let mut kept = 0;
    for start in (0..text.len()).filter(starts) {
        let start = start + SCHEME.len();
        let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'"' | b'\'' | b'`');
        let authority = text[start..].split(ends).next().unwrap_or_default();
        if let Some(at) = authority.iter().rposition(|b| *b == b'@') {
            masked.extend_from_slice(&text[kept..start]);
            masked.extend_from_slice(b"***");
            kept = start + at;
        }
    }
    match kept {
        0 => text.into(),
        _ => {
            masked.extend_from_slice(&text[kept..]);
            masked.into()
        }
    }
}

struct Archive {
    tar: tar::Builder<BufWriter<File>>,
    missing: String,
}

impl Archive {
    /// Adds a text without the user and password of any address in it, or a picture.
    fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let masked = match name.starts_with("photos/") {
            true => bytes.into(),
            false => masked(bytes),
        };
        let bytes = &*masked;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.tar
            .append_data(&mut header, Path::new("faprompt-support").join(name), bytes)
    }

    fn misses(&mut self, name: &str, why: impl std::fmt::Display) {
        self.missing += &format!("{name}: {why}\n");
    }

    /// Adds the end of a file of the system's.
    fn file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        self.end_of(name, path, 0)
    }

    /// The same of a file in the station's folders: no link to another one, and no pipe.
    fn own_file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        self.end_of(name, path, libc::O_NOFOLLOW | libc::O_NONBLOCK)
    }

    fn end_of(&mut self, name: &str, path: &Path, flags: i32) -> io::Result<()> {
        let read = || -> io::Result<Vec<u8>> {
            let mut options = File::options();
            let mut file = options.read(true).custom_flags(flags).open(path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = vec![];
            file.take(TAIL).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => self.add(name, &bytes),
            Err(e) => {
                self.misses(name, format_args!("{}: {e}", path.display()));
                Ok(())
            }
        }
    }

    /// Adds what a command prints to standard output and standard error.
    fn output(&mut self, name: &str, command: &mut Command) -> io::Result<()> {
        match command.output() {
            Ok(output) => {
                let mut text = output.stdout;
                text.extend(output.stderr);
                self.add(name, &text)
            }
            Err(e) => {
                self.misses(
                    name,
                    format_args!("{}: {e}", command.get_program().display()),
                );
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_an_address_is_in_the_archive() {
        for (text, left) in [
            ("", ""),
            ("https://host/a@b", "https://host/a@b"),
            ("rtsp://u:p@10.0.0.9:554/x", "rtsp://***@10.0.0.9:554/x"),
            (
                "ffmpeg -i rtsp://u:p@ss@cam/1 -i \"http://v:q@b\" @home",
                "ffmpeg -i rtsp://***@cam/1 -i \"http://***@b\" @home",
            ),
            ("a://b c://d@e", "a://b c://***@e"),
        ] {
            assert_eq!(masked(text.as_bytes()), left.as_bytes(), "{text}");
        }
    }
}
