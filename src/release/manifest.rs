//! `release.toml`: what a release consists of, and the digest of each file.

use super::{ReleaseError, at};
use crate::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Version of the manifest and of the package.
pub const FORMAT: u32 = 1;

/// The files of a release. Their order is the package's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Member {
    /// The program.
    #[serde(rename = "faprompt-edge")]
    Program,
    /// The bundle.
    #[serde(rename = "bundle")]
    Bundle,
    /// The bundle's own signature, for a node that asks for one whenever it loads a bundle.
    #[serde(rename = "bundle.minisig")]
    BundleSignature,
    /// The board, if it is not one that the program knows.
    #[serde(rename = "board.toml")]
    Board,
}

impl Member {
    /// All files, in the order of the package.
    pub const ALL: [Member; 4] = [
        Member::Program,
        Member::Bundle,
        Member::BundleSignature,
        Member::Board,
    ];

    /// Its name in a slot and in a package.
    pub const fn name(self) -> &'static str {
        match self {
            Member::Program => "faprompt-edge",
            Member::Bundle => "bundle",
            Member::BundleSignature => "bundle.minisig",
            Member::Board => "board.toml",
        }
    }

    /// Its permissions: root's, readable by all.
    pub const fn mode(self) -> u32 {
        match self {
            Member::Program => 0o755,
            _ => 0o644,
        }
    }
}

/// Size and digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Contents {
    /// Reads a file to its end.
    ///
    /// # Errors
    /// [`ReleaseError::File`].
    pub fn of(path: &Path) -> Result<Contents, ReleaseError> {
        let mut file = File::open(path).map_err(at(path))?;
        let mut sink = Hashing::new(io::sink());
        io::copy(&mut file, &mut sink).map_err(at(path))?;
        Ok(sink.finish().1)
    }
}

/// A writer that digests what goes through it.
pub(super) struct Hashing<W> {
    to: W,
    digest: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    pub(super) fn new(to: W) -> Self {
        Hashing {
            to,
            digest: Sha256::new(),
            size: 0,
        }
    }

    pub(super) fn finish(self) -> (W, Contents) {
        let sha256 = hex(&self.digest.finalize());
        let size = self.size;
        (self.to, Contents { size, sha256 })
    }
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.digest.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A release, by the digest of its manifest: the same files are the same release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(String);

impl ReleaseId {
    /// The id of the release with this manifest.
    pub fn of(text: &str) -> ReleaseId {
        ReleaseId(hex(&Sha256::digest(text.as_bytes())[..6]))
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// [`FORMAT`].
    pub format: u32,
    /// The program's version.
    pub version: String,
    /// The processor that the program is for, as `uname -m` says it.
    pub arch: String,
    /// A board's name, or `board.toml`: the one in the release.
    pub board: String,
    /// The bundle's name, for people.
    pub bundle: String,
    /// Size and digest of each file.
    pub files: BTreeMap<Member, Contents>,
}

impl Release {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ReleaseError::Package`]: another format, a key or a file that there is not, a file that is missing.
    pub fn parse(text: &str) -> Result<Release, ReleaseError> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let not = |e: toml::de::Error| ReleaseError::Package(format!("release.toml: {e}"));
        let format = toml::from_str::<FormatOnly>(text).map_err(not)?.format;
        if format != FORMAT {
            let what = format!("format {format}, this program reads format {FORMAT}");
            return Err(ReleaseError::Package(what));
        }
        let release: Release = toml::from_str(text).map_err(not)?;
        for needed in [Member::Program, Member::Bundle] {
            if !release.files.contains_key(&needed) {
                let what = format!("release.toml names no {}", needed.name());
                return Err(ReleaseError::Package(what));
            }
        }
        if (release.board == Member::Board.name()) != release.files.contains_key(&Member::Board) {
            return Err(ReleaseError::Package(
                "release.toml: `board` and the file board.toml go together".into(),
            ));
        }
        Ok(release)
    }

    /// The manifest as TOML.
    pub fn text(&self) -> String {
        toml::to_string(self).unwrap_or_else(|e| unreachable!("plain values: {e}"))
    }

    /// The number of bytes of all files.
    pub fn size(&self) -> u64 {
        self.files
            .values()
            .map(|c| c.size)
            .fold(0, u64::saturating_add)
    }

    /// Whether a folder holds exactly these files, to the byte.
    ///
    /// # Errors
    /// [`ReleaseError::File`], [`ReleaseError::Damaged`].
    pub fn verify(&self, folder: &Path) -> Result<(), ReleaseError> {
        for (member, expected) in &self.files {
            expected.compare(*member, &Contents::of(&folder.join(member.name()))?)?;
        }
        Ok(())
    }
}

impl Contents {
    pub(super) fn compare(&self, member: Member, found: &Contents) -> Result<(), ReleaseError> {
        if self == found {
            return Ok(());
        }
        Err(ReleaseError::Damaged {
            file: member.name().into(),
            what: match self.size == found.size {
                true => format!("its SHA-256 is {}, not {}", found.sha256, self.sha256),
                false => format!("{} bytes instead of {}", found.size, self.size),
            },
        })
    }
}

/// Reads at most `limit` bytes of text.
pub(super) fn short_text(from: &mut impl Read, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    from.take(limit + 1).read_to_string(&mut text)?;
    match text.len() as u64 > limit {
        true => Err(io::Error::other(format!("longer than {limit} bytes"))),
        false => Ok(text),
    }
}
