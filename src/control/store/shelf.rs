//! The files of good parts in the station's folder.
//!
//! Each is called by the digest of what is in it and never changed: it is written whole before a recipe names it,
//! and taken away when none does any more. So the one file that is replaced when something is accepted is
//! `memory`, and whoever starts after a power cut finds the old parameters with the old parts or the new with the
//! new. Two recipes may name the same file.

use crate::durable::{self, Files, Folder};
use crate::hex::hex;
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// What their names begin with.
const PREFIX: &str = "taught-";
/// Digits of the digest in a name.
const DIGITS: usize = 32;

/// The name of a file with these bytes.
pub fn name_of(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", &hex(&Sha256::digest(bytes))[..DIGITS])
}

/// Whether it is the name of such a file; anything else is the path of another one.
pub fn is_name(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Writes a file, if it is not there: it is safe when this returns.
pub(super) fn put(files: &mut impl Files, bytes: &[u8]) -> io::Result<String> {
    let name = name_of(bytes);
    // One that was damaged since is written anew.
    if !matches!(get(files, &name), Ok(Some(_))) {
        files.replace(&name, bytes)?;
    }
    Ok(name)
}

/// A file's bytes, which are those that were written; `None` if there is none.
pub(super) fn get(files: &impl Files, name: &str) -> io::Result<Option<Vec<u8>>> {
    match files.read(name)? {
        None => Ok(None),
        Some(bytes) if name_of(&bytes) == name => Ok(Some(bytes)),
        Some(_) => {
            let what = "it is damaged: its digest is not the one in its name";
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }
}

/// Takes away those that nobody names, halves of such among them.
pub(super) fn sweep(files: &mut impl Files, named: &[&str]) -> io::Result<()> {
    let mut gone = false;
    for name in files.names()? {
        let own = name.strip_suffix(".new").unwrap_or(&name);
        if is_name(own) && (own != name || !named.contains(&own)) {
            files.remove(&name)?;
            gone = true;
        }
    }
    match gone {
        true => files.sync_folder(),
        false => Ok(()),
    }
}

/// The files, for whoever reads and writes them beside the store.
#[derive(Clone, Debug)]
pub struct Shelf(PathBuf);

impl Shelf {
    /// Of a station's folder.
    pub fn new(folder: &Path) -> Shelf {
        Shelf(folder.to_path_buf())
    }

    /// Writes a file, if it is not there: it is safe when this returns. Its name.
    ///
    /// # Errors
    /// The file system's.
    pub fn put(&self, bytes: &[u8]) -> io::Result<String> {
        put(&mut Folder::held(&self.0), bytes)
    }

    /// The bytes of what a recipe names: a file here, or any other one by its path.
    ///
    /// # Errors
    /// The file system's, also of a file that is not there, and a file here whose bytes are not those that were
    /// written.
    pub fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        match is_name(name) {
            true => {
                let found = get(&Folder::held(&self.0), name)?;
                found.ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            false => durable::read(name.as_ref()),
        }
    }

    /// Where it is, for a message.
    pub fn path(&self, name: &str) -> PathBuf {
        match is_name(name) {
            true => self.0.join(name),
            false => name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_by_what_is_in_it_and_gone_when_nobody_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path());
        let (a, b) = (shelf.put(b"a").unwrap(), shelf.put(b"b").unwrap());
        assert!(is_name(&a) && a != b && shelf.put(b"a").unwrap() == a);
        assert_eq!(shelf.get(&a).unwrap(), b"a");
        std::fs::write(folder.path().join("memory"), "m").unwrap();
        std::fs::write(folder.path().join(format!("{b}.new")), "half").unwrap();
        sweep(&mut Folder::held(folder.path()), &[&b]).unwrap();
        assert!(shelf.get(&a).is_err() && shelf.get(&b).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        // Damaged, and written anew.
        std::fs::write(folder.path().join(&b), "c").unwrap();
        let error = shelf.get(&b).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        shelf.put(b"b").unwrap();
        assert_eq!(shelf.get(&b).unwrap(), b"b");
        for path in ["taught-1", "", "/media/good.taught", "taught-zz"] {
            assert!(!is_name(path), "{path}");
        }
    }
}
