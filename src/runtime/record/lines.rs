//! A file that grows line by line, and is put aside when it is long. Must never leave half a line in it.

use serde::Serialize;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Length in bytes at which a file becomes `NAME.1.jsonl`, in place of the one before.
const LONGEST: u64 = 32 << 20;

/// A file of whole lines.
pub(super) struct Lines {
    path: PathBuf,
    /// `None`: it could not be made anew; it is tried again with the next line.
    file: Option<File>,
    /// Bytes of whole lines in it.
    length: u64,
    /// Whether there may be half a line behind them.
    torn: bool,
    longest: u64,
}

impl Lines {
    /// A new file, in place of any of that name; with `keep` the file that is there, to go on behind its last whole line.
    pub(super) fn open(path: PathBuf, keep: bool) -> Result<Self, (PathBuf, Error)> {
        let open = || {
            if keep && path.is_file() && cut_half_line(&path)? {
                log::warn!("{}: half a line at its end is cut off", path.display());
            }
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(!keep)
                .open(&path)?;
            // A device has no end; nor does it keep anything.
            let length = file.seek(SeekFrom::End(0)).unwrap_or(0);
            Ok((file, length))
        };
        match open() {
            Ok((file, length)) => Ok(Lines {
                path,
                file: Some(file),
                length,
                torn: false,
                longest: LONGEST,
            }),
            Err(e) => Err((path, e)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line, whole or not at all.
    pub(super) fn write(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.file.as_ref().is_some_and(|file| !self.is_at(file)) {
            log::warn!(
                "{}: somebody took it away: it is begun anew",
                self.path.display()
            );
            self.file = None;
        }
        if self.length + text.len() as u64 > self.longest && self.file.is_some() {
            match std::fs::rename(&self.path, self.path.with_extension("1.jsonl")) {
                Ok(()) => (),
                // Somebody has removed the file: there is nothing to put aside.
                Err(e) if e.kind() == ErrorKind::NotFound => (),
                Err(e) => return Err(e),
            }
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                let file = File::create(&self.path)?;
                (self.length, self.torn) = (0, false);
                self.file.insert(file)
            }
        };
        if self.torn {
            mend(file, self.length)?;
            self.torn = false;
        }
        if let Err(e) = file.write_all(&text) {
            // The part of the line that was written is cut off, now or before the next line.
            self.torn = mend(file, self.length).is_err();
            return Err(e);
        }
        self.length += text.len() as u64;
        Ok(())
    }

    /// Whether its name still is this file's: what is written into a file that was moved or removed, nobody finds.
    fn is_at(&self, file: &File) -> bool {
        let which = |about: std::fs::Metadata| (about.dev(), about.ino());
        match (file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(open), Ok(there)) => which(open) == which(there),
            (_, Err(e)) => e.kind() != ErrorKind::NotFound,
            (Err(_), _) => true,
        }
    }
}

/// Cuts the file behind its whole lines.
fn mend(file: &mut File, length: u64) -> Result<(), Error> {
    match file.set_len(length) {
        // A device has no length to cut; nor does it keep anything.
        Err(e) if e.kind() == ErrorKind::InvalidInput => return Ok(()),
        cut => cut?,
    }
    file.seek(SeekFrom::Start(length)).map(|_| ())
}

/// Cuts off half a line at the end of a file that a power cut left behind. Returns whether there was one.
fn cut_half_line(path: &Path) -> Result<bool, Error> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut whole = length;
    let mut block = [0; 4096];
    while whole > 0 {
        let from = whole.saturating_sub(block.len() as u64);
        let bytes = &mut block[..(whole - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(bytes)?;
        if let Some(end) = bytes.iter().rposition(|b| *b == b'\n') {
            whole = from + end as u64 + 1;
            break;
        }
        whole = from;
    }
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(whole < length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_write_that_fails_in_the_middle_leaves_no_half_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdicts.jsonl");
        let mut lines = Lines::open(path.clone(), false).unwrap();
        lines.write(&1).unwrap();
        // As a full disk leaves it: half a line, and an error that kept it from being cut.
        lines.file.as_mut().unwrap().write_all(b"{\"pa").unwrap();
        lines.torn = true;
        lines.write(&2).unwrap();
        assert_eq!(text(&path), "1\n2\n");
    }

    #[test]
    fn a_file_that_cannot_be_made_anew_is_tried_again_with_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdicts.jsonl");
        let mut lines = Lines::open(path.clone(), false).unwrap();
        lines.longest = 8;
        lines.write(&"aaaa").unwrap();
        // Put aside, and then the name is taken by a folder for a while.
        lines.file = None;
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(lines.write(&"bbbb").is_err());
        assert!(lines.write(&"cccc").is_err());
        std::fs::remove_dir(&path).unwrap();
        lines.write(&"dddd").unwrap();
        assert_eq!(text(&path), "\"dddd\"\n");
        lines.write(&"eeee").unwrap();
        assert_eq!(text(&path), "\"eeee\"\n");
        assert_eq!(text(&folder.path().join("verdicts.1.jsonl")), "\"dddd\"\n");
        // One that somebody takes away is made anew.
        std::fs::remove_file(&path).unwrap();
        lines.write(&"ffff").unwrap();
        assert_eq!(text(&path), "\"ffff\"\n");
    }

    #[test]
    fn a_file_whose_folder_is_taken_away_or_that_is_moved_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let path = out.join("verdicts.jsonl");
        let mut lines = Lines::open(path.clone(), false).unwrap();
        lines.write(&1).unwrap();
        std::fs::remove_dir_all(&out).unwrap();
        lines.write(&2).unwrap();
        lines.write(&3).unwrap();
        assert_eq!(text(&path), "2\n3\n");
        // As who takes results away does it.
        let taken = out.join("taken");
        std::fs::rename(&path, &taken).unwrap();
        lines.write(&4).unwrap();
        assert_eq!(
            (text(&taken).as_str(), text(&path).as_str()),
            ("2\n3\n", "4\n")
        );
    }

    /// However often the program is started, no line is lost before the file is as long as it may be.
    #[test]
    fn every_start_goes_on_where_the_last_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        for run in 0..4 {
            let mut lines = Lines::open(path.clone(), true).unwrap();
            lines.longest = 12;
            lines.write(&run).unwrap();
            // Killed in the middle of a line.
            lines.file.as_mut().unwrap().write_all(b"{\"pa").unwrap();
        }
        assert_eq!(text(&path), "0\n1\n2\n3\n{\"pa");
        let mut lines = Lines::open(path.clone(), true).unwrap();
        lines.longest = 12;
        lines.write(&40).unwrap();
        lines.write(&50).unwrap();
        assert_eq!(
            text(&folder.path().join("events.1.jsonl")),
            "0\n1\n2\n3\n40\n"
        );
        assert_eq!(text(&path), "50\n");
        Lines::open(path.clone(), false).unwrap();
        assert_eq!(text(&path), "");
    }

    #[test]
    fn what_a_power_cut_left_ends_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let long = "x".repeat(10_000);
        for (found, left) in [
            ("1\n2\n", "1\n2\n"),
            ("1\n2", "1\n"),
            ("", ""),
            ("half", ""),
            (&format!("1\n{long}"), "1\n"),
            ("1\n\0\0\0", "1\n"),
        ] {
            std::fs::write(&path, found).unwrap();
            assert_eq!(cut_half_line(&path).unwrap(), found != left);
            assert_eq!(text(&path), left);
        }
    }
}
