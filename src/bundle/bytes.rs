//! A bundle's bytes, in memory. A file is read once: what is used is what was verified, whatever becomes
//! of the file, or of the stick that it is on, meanwhile.

use super::BundleError;
use crate::durable::PIECE;
use memmap2::{Mmap, MmapMut};
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::Path;

/// A bundle's bytes, and who owns them.
#[derive(Debug)]
pub enum Bytes {
    /// Bytes of a file, in pages of their own, which go back to the system when the bundle is dropped.
    Read(Mmap),
    /// Bytes that are part of the program.
    BuiltIn(&'static [u8]),
    /// Bytes in memory.
    Owned(Vec<u8>),
}

impl Bytes {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BundleError::Unreadable`].
    pub fn read(path: &Path) -> Result<Bytes, BundleError> {
        let unreadable = |source| BundleError::Unreadable {
            path: path.to_path_buf(),
            source,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(std::io::Error::other(
                "it is not a regular file",
            )));
        }
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if length == 0 {
            return Ok(Bytes::Owned(Vec::new()));
        }
        let mut pages = MmapMut::map_anon(length).map_err(unreadable)?;
        for piece in pages.chunks_mut(PIECE) {
            file.read_exact(piece).map_err(unreadable)?;
        }
        Ok(Bytes::Read(pages.make_read_only().map_err(unreadable)?))
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Read(pages) => pages,
            Bytes::BuiltIn(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
