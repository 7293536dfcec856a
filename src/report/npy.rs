//! Maps as NumPy files.

use crate::faprompt::map::Map;
use npyz::WriterBuilder;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes a map as float32 [S, S].
///
/// # Errors
/// The file system's error.
pub fn write_map(map: &Map, path: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let side = map.side as u64;
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&[side, side])
        .writer(&mut file)
        .begin_nd()?;
    writer.extend(map.values.iter().copied())?;
    writer.finish()?;
    file.flush()
}
