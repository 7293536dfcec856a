//! A bundle's bytes: a memory map, or a buffer.
//!
//! `unsafe` because a mapped file must not shrink while it is mapped. Bundles are replaced by renaming
//! a new file over the old one, never written in place, so the mapped file keeps its bytes; whoever
//! truncates it by hand gets a bus error, as with any program file.

use super::BundleError;
use std::ops::Deref;
use std::path::Path;

/// The bytes.
#[derive(Debug)]
pub enum Bytes {
    /// Of a file.
    Mapped(memmap2::Mmap),
    /// In memory.
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a file for reading.
    ///
    /// # Errors
    /// [`BundleError::Unreadable`].
    pub fn map(path: &Path) -> Result<Bytes, BundleError> {
        let unreadable = |source| BundleError::Unreadable {
            path: path.to_path_buf(),
            source,
        };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(unreadable(std::io::Error::other(
                "it is not a regular file",
            )));
        }
        // SAFETY: see the module's documentation: bundles are never written in place.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(unreadable)?;
        Ok(Bytes::Mapped(map))
    }

    /// Gives the memory behind `len` mapped bytes from `offset` on back to the system, which reads them
    /// again if they are asked for again. What was copied out of a bundle need not stay twice.
    pub fn release(&self, offset: usize, len: usize) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self {
            // SAFETY: a read-only map of a file: its pages hold nothing but what the file holds.
            let released = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len)
            };
            if let Err(e) = released {
                log::debug!("a bundle's memory stays: {e}");
            }
        }
        #[cfg(not(unix))]
        let _ = (offset, len);
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
