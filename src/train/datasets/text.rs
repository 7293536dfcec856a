//! Text files as spreadsheets and editors write them.

use super::{TrainError, fail};
use std::path::Path;

/// The text of a file without its byte order mark; UTF-8, UTF-16 (with a mark), or, with a note, Latin-1.
pub fn read(path: &Path) -> Result<(String, Option<String>), TrainError> {
    let bytes = std::fs::read(path).map_err(|e| fail(path, e))?;
    let wide = |read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|c| read(*c))
            .collect();
        String::from_utf16(&units).map_err(|e| fail(path, e))
    };
    if bytes.starts_with(&[0xff, 0xfe]) {
        return Ok((wide(u16::from_le_bytes)?, None));
    }
    if bytes.starts_with(&[0xfe, 0xff]) {
        return Ok((wide(u16::from_be_bytes)?, None));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_string(), None),
        Err(_) => (
            // Every byte is a character of its own there.
            bytes.iter().map(|b| char::from(*b)).collect(),
            Some(format!("{}: not UTF-8, read as Latin-1", path.display())),
        ),
    })
}
