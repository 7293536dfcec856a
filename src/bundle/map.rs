//! A bundle's bytes: a memory map, a part of the program, or a buffer.
//!
//! `unsafe` because a mapped file must not shrink while it is mapped. Bundles are replaced by renaming
//! a new file over the old one, never written in place, so the mapped file keeps its bytes; whoever
//! truncates it by hand gets a bus error, as with any program file. And because memory is given back to
//! the system, which must be able to read it again.

use super::BundleError;
use std::ops::Deref;
use std::path::Path;

/// The bytes.
#[derive(Debug)]
pub enum Bytes {
    /// Of a file.
    Mapped(memmap2::Mmap),
    /// Of the program itself: read-only data, which the system maps as it maps a file.
    BuiltIn(&'static [u8]),
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
        {
            let released = match self {
                // SAFETY: a read-only map of a file: its pages hold nothing but what the file holds.
                Bytes::Mapped(map) => unsafe {
                    map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len)
                },
                Bytes::BuiltIn(bytes) => {
                    release_program(&bytes[offset..(offset + len).min(bytes.len())])
                }
                Bytes::Owned(_) => Ok(()),
            };
            if let Err(e) = released {
                log::debug!("a bundle's memory stays: {e}");
            }
        }
        #[cfg(not(unix))]
        let _ = (offset, len);
    }
}

/// Gives the whole pages of some of the program's constants back.
#[cfg(unix)]
fn release_program(bytes: &'static [u8]) -> std::io::Result<()> {
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).map_err(std::io::Error::other)?;
    let begin = (bytes.as_ptr() as usize).next_multiple_of(page);
    let end = (bytes.as_ptr() as usize + bytes.len()) / page * page;
    if begin >= end {
        return Ok(());
    }
    // SAFETY: a constant of plain bytes is never written, nor are pages that hold nothing else: they are the
    // program's file, from which the system reads them again.
    match unsafe { libc::madvise(begin as *mut _, end - begin, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::BuiltIn(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
