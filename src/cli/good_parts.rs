//! Good parts of a method that has a few-shot form (WinCLIP, APRIL-GAN): taught, and compared with, as their
//! papers do.

use super::{CliError, output};
use faprompt_edge::bundle::Bundle;
use faprompt_edge::capture::{View, ViewLimits, load};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::Inspector;
use faprompt_edge::memory::file::TaughtError;
use faprompt_edge::methods::memory::{Memory, MemoryError};
use faprompt_edge::report::{say, warn};
use image::RgbImage;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

/// Whether a bundle's method compares with good parts as its paper does.
pub fn has_form(bundle: &Bundle) -> bool {
    bundle.manifest().method_name().has_few_shot_form()
}

/// The encoder that a file of good parts belongs to.
pub fn encoder(bundle: &Bundle) -> String {
    bundle.digests().get("encoder").cloned().unwrap_or_default()
}

/// The photos of good parts that were loaded so far. Each picture counts once: a copy would be judged by the part that
/// it is a copy of, and the bound would promise what no other good part keeps.
#[derive(Default)]
pub struct Photos<'a> {
    /// Where each picture was first, by the digest of its size and pixels.
    seen: HashMap<[u8; 32], &'a Path>,
}

impl<'a> Photos<'a> {
    /// A photo of a good part, on which something can be seen: what `inspect` and a camera would refuse teaches
    /// nothing, nor does a picture that was there before.
    ///
    /// # Errors
    /// A line about the photo.
    pub fn load(&mut self, path: &'a Path) -> Result<RgbImage, String> {
        let frame = load(path).map_err(|e| e.to_string())?;
        if let Some(flaw) = View::of(&frame).flaw(&ViewLimits::default()) {
            return Err(format!("{}: {flaw}", path.display()));
        }
        let mut digest = Sha256::new();
        digest.update(frame.width().to_le_bytes());
        digest.update(frame.height().to_le_bytes());
        digest.update(frame.as_raw());
        match self.seen.entry(digest.finalize().into()) {
            Entry::Occupied(first) => Err(format!(
                "{}: the same picture as {}, left out",
                path.display(),
                first.get().display()
            )),
            Entry::Vacant(place) => {
                place.insert(path);
                Ok(frame)
            }
        }
    }
}

/// Shows every photo to the method and writes its memory of them to `out`.
pub fn teach(
    inspector: &mut Inspector,
    encoder: &str,
    photos: &[PathBuf],
    out: &Path,
) -> Result<ExitCode, CliError> {
    let method = inspector.manifest().method_name();
    let (mut seen, mut unread) = (Photos::default(), 0);
    for photo in photos {
        let shown = seen.load(photo).and_then(|frame| {
            let name = photo.display();
            inspector
                .remember(&frame)
                .map_err(|e| format!("{name}: {e}"))
        });
        if let Err(e) = shown {
            warn(format_args!("not taught: {e}"));
            unread += 1;
        }
    }
    let parts = inspector.good_parts().map_or(0, |memory| memory.parts);
    if parts == 0 {
        return Err(CliError::NothingTaught("no good part to learn from".into()));
    }
    let bytes = inspector
        .good_parts()
        .map(|memory| memory.bytes(method, encoder))
        .unwrap_or_else(|| Ok(vec![]));
    let failed = |e| output(out)(e);
    faprompt_edge::bundle::save(&bytes.map_err(failed)?, out).map_err(failed)?;
    say(format_args!(
        "{parts} good parts, {method}, {}",
        out.display()
    ));
    Ok(match unread {
        0 => ExitCode::Good,
        _ => ExitCode::SomeInputsFailed,
    })
}

/// Reads good parts and hands them to the method.
pub fn recall(inspector: &mut Inspector, encoder: &str, path: &Path) -> Result<(), CliError> {
    let method = inspector.manifest().method_name();
    let at = |source| CliError::taught_at(path, source);
    let bytes = std::fs::read(path).map_err(|source| TaughtError::File {
        path: path.to_path_buf(),
        done: "read",
        source,
    })?;
    let memory = Memory::from_bytes(&bytes, method, encoder).map_err(|e| match e {
        MemoryError::Malformed(what) => at(TaughtError::Damaged(what)),
        MemoryError::Another(what) => at(TaughtError::Another(what)),
    })?;
    inspector
        .recall(memory)
        .map_err(|what| at(TaughtError::Another(what)))
}
