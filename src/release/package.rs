//! A release as a stream: a tar of `release.toml`, its signature if it has one, and the files in the order
//! of [`Member`]. Manifest and signature come first, so that nothing is kept of what is not trusted.

use super::manifest::{Contents, FORMAT, Hashing, Member, Release, ReleaseId, short_text};
use super::{ReleaseError, at};
use crate::bundle::{Bundle, Keys};
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The manifest in a package and in a slot.
pub const MANIFEST: &str = "release.toml";
/// Its minisign signature.
pub const SIGNATURE: &str = "release.toml.minisig";

/// The largest manifest that is read, bytes; a real one has some hundred.
const MANIFEST_LIMIT: u64 = 16 << 10;
const SIGNATURE_LIMIT: u64 = 4 << 10;

/// The files that a release is made of.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The device program.
    pub program: PathBuf,
    /// The program's version.
    pub version: String,
    /// The processor that it is for, as `uname -m` says it.
    pub arch: String,
    /// The bundle; a signature beside it goes with it.
    pub bundle: PathBuf,
    /// A board's name, or a file.
    pub board: String,
}

/// A release that can be written as a package.
#[derive(Debug)]
pub struct Outgoing {
    release: Release,
    text: String,
    files: BTreeMap<Member, PathBuf>,
}

impl Outgoing {
    /// Reads every file once, for its digest.
    ///
    /// # Errors
    /// [`ReleaseError::File`]; [`ReleaseError::Signature`] if the bundle is none.
    pub fn new(sources: &Sources) -> Result<Outgoing, ReleaseError> {
        let bundle = Bundle::open(&sources.bundle, &Keys::default())?;
        let mut files = BTreeMap::from([
            (Member::Program, sources.program.clone()),
            (Member::Bundle, sources.bundle.clone()),
        ]);
        let signature = crate::bundle::signature_of(&sources.bundle);
        if signature.is_file() {
            files.insert(Member::BundleSignature, signature);
        }
        let board = match Path::new(&sources.board).extension() {
            Some(e) if e == "toml" => {
                files.insert(Member::Board, sources.board.clone().into());
                Member::Board.name().to_string()
            }
            _ => sources.board.clone(),
        };
        let contents = files
            .iter()
            .map(|(member, path)| Ok((*member, Contents::of(path)?)))
            .collect::<Result<_, ReleaseError>>()?;
        let release = Release {
            format: FORMAT,
            version: sources.version.clone(),
            arch: sources.arch.clone(),
            board,
            bundle: bundle.manifest().name.clone(),
            files: contents,
        };
        Ok(Outgoing {
            text: release.text(),
            release,
            files,
        })
    }

    /// The manifest.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The manifest's text: what is to be signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The id of the release.
    pub fn id(&self) -> ReleaseId {
        ReleaseId::of(&self.text)
    }

    /// Writes the package; the same files give the same bytes.
    ///
    /// # Errors
    /// [`ReleaseError::File`] with the file that cannot be read, or with `to` if the stream takes no more.
    pub fn write(&self, signature: Option<&str>, to: impl Write) -> Result<(), ReleaseError> {
        let mut tar = tar::Builder::new(to);
        let stream = Path::new("the package");
        append(
            &mut tar,
            MANIFEST,
            0o644,
            self.text.len() as u64,
            self.text.as_bytes(),
        )
        .map_err(at(stream))?;
        if let Some(text) = signature {
            append(
                &mut tar,
                SIGNATURE,
                0o644,
                text.len() as u64,
                text.as_bytes(),
            )
            .map_err(at(stream))?;
        }
        for (member, path) in &self.files {
            let file = File::open(path).map_err(at(path))?;
            let size = self.release.files[member].size;
            append(&mut tar, member.name(), member.mode(), size, file).map_err(at(stream))?;
        }
        tar.into_inner()
            .and_then(|mut to| to.flush())
            .map_err(at(stream))
    }
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    mode: u32,
    size: u64,
    from: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    // A file that grew since it was digested must not run into the next one.
    tar.append_data(&mut header, name, from.take(size))
}

/// Unpacks a package into an empty folder, flushed to the disk. `look` sees the manifest before any file
/// is written and can refuse it.
///
/// # Errors
/// Every [`ReleaseError`] about packages, files and signatures; what was unpacked until then stays.
pub fn unpack(
    from: impl Read,
    keys: &Keys,
    folder: &Path,
    look: impl FnOnce(&Release) -> Result<(), ReleaseError>,
) -> Result<(Release, ReleaseId), ReleaseError> {
    let broken = |e: io::Error| ReleaseError::Package(e.to_string());
    let mut archive = tar::Archive::new(from);
    let mut entries = archive.entries().map_err(broken)?.peekable();
    let mut next =
        |name: &str| match entries.next_if(|e| e.as_ref().is_ok_and(|e| is_named(e, name))) {
            Some(entry) => entry.map(Some),
            None => match entries.next_if(Result::is_err) {
                Some(Err(e)) => Err(e),
                _ => Ok(None),
            },
        };
    let missing = |name: &str| ReleaseError::Package(format!("{name} is not where it belongs"));

    let other = "it does not begin as `faprompt-train flash` begins one";
    let mut entry = match next(MANIFEST) {
        Ok(Some(entry)) => entry,
        Ok(None) => return Err(ReleaseError::Package(other.into())),
        // The crate shows what it could not read as a header; whoever sends it knows it.
        Err(e) if e.kind() == io::ErrorKind::Other => {
            return Err(ReleaseError::Package(other.into()));
        }
        Err(e) => return Err(broken(e)),
    };
    let text = short_text(&mut entry, MANIFEST_LIMIT).map_err(broken)?;
    let signature = match next(SIGNATURE).map_err(broken)? {
        Some(mut entry) => Some(short_text(&mut entry, SIGNATURE_LIMIT).map_err(broken)?),
        None => None,
    };
    keys.verify(text.as_bytes(), signature.as_deref(), MANIFEST)?;
    let release = Release::parse(&text)?;
    look(&release)?;
    store(folder, MANIFEST, 0o644, text.as_bytes())?;
    if let Some(signature) = signature {
        store(folder, SIGNATURE, 0o644, signature.as_bytes())?;
    }
    for (member, expected) in &release.files {
        let entry = next(member.name())
            .map_err(broken)?
            .ok_or_else(|| missing(member.name()))?;
        // One byte more than there should be is enough to see that it is not the same.
        let found = store(
            folder,
            member.name(),
            member.mode(),
            entry.take(expected.size + 1),
        )?;
        if found.size < expected.size {
            let what = format!("it ends in {} after {} bytes", member.name(), found.size);
            return Err(ReleaseError::Package(what));
        }
        expected.compare(*member, &found)?;
    }
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(at(folder))?;
    Ok((release, ReleaseId::of(&text)))
}

fn is_named(entry: &tar::Entry<'_, impl Read>, name: &str) -> bool {
    entry.path().is_ok_and(|p| p.as_ref() == Path::new(name))
}

/// Writes and flushes a new file.
fn store(
    folder: &Path,
    name: &str,
    mode: u32,
    mut from: impl Read,
) -> Result<Contents, ReleaseError> {
    let path = folder.join(name);
    let file = File::options()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(at(&path))?;
    let mut to = Hashing::new(file);
    // Reading: the stream; writing: the disk. Which of both failed decides what to do about it.
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(ReleaseError::Package(format!("in {name}: {e}"))),
        };
        to.write_all(&buffer[..n]).map_err(at(&path))?;
    }
    let (file, contents) = to.finish();
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.sync_all())
        .map_err(at(&path))?;
    Ok(contents)
}
