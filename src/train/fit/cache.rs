//! Features of pictures that a frozen encoder has seen once, on disk.
//!
//! A file per picture, f16, named by what it depends on: the picture's bytes, the weights, the input
//! size, the V-V blocks. Written whole or not at all, so an interrupted run goes on where it stopped.

use crate::bundle::envelope::hex;
use crate::train::TrainError;
use crate::train::clip::{Clip, file_digest};
use crate::train::tensors::Tensors;
use crate::train::tensors::store::Store;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;
use walkdir::WalkDir;

/// Changes when the meaning of a cached file does.
const VERSION: &str = "1";
/// Extension of cached files; nothing else in the folder is ever removed.
const EXTENSION: &str = "features.safetensors";

/// What the encoder said of a picture, rows of unit length.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// [N, C].
    pub patches: Vec<f32>,
    /// [C].
    pub image: Vec<f32>,
}

/// The folder.
pub struct Cache {
    folder: PathBuf,
    encoder: String,
    width: usize,
    limit: u64,
    used: AtomicU64,
    full: AtomicBool,
}

/// Every cached file below `folder` with its size and age.
fn files(folder: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    WalkDir::new(folder)
        .into_iter()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().ends_with(EXTENSION))
        .filter_map(|e| {
            let data = e.metadata().ok()?;
            let age = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            Some((e.path().to_path_buf(), data.len(), age))
        })
        .collect()
}

impl Cache {
    /// Opens `folder` for `clip` at an input of `size` pixels; at most `limit` bytes stay in it.
    ///
    /// # Errors
    /// [`TrainError::Output`] if the folder cannot be made.
    pub fn open(
        folder: &Path,
        limit: u64,
        clip: &Clip,
        size: usize,
        vv_layers: usize,
    ) -> Result<Cache, TrainError> {
        let key = format!(
            "{VERSION} {} {size} {vv_layers} {:?}",
            clip.digest, clip.activation
        );
        let encoder = hex(&Sha256::digest(key.as_bytes()))[..16].to_string();
        std::fs::create_dir_all(folder.join(&encoder)).map_err(|source| TrainError::Output {
            path: folder.into(),
            source,
        })?;
        // Other encoders' features give way first, oldest first; this one's stay.
        let mut found = files(folder);
        let mut used: u64 = found.iter().map(|f| f.1).sum();
        found.retain(|f| !f.0.starts_with(folder.join(&encoder)));
        found.sort_by_key(|f| f.2);
        for (path, size, _) in found {
            if used <= limit {
                break;
            }
            if std::fs::remove_file(&path).is_ok() {
                used -= size;
            }
        }
        Ok(Cache {
            folder: folder.join(&encoder),
            encoder,
            width: clip.text.width,
            limit,
            used: AtomicU64::new(used),
            full: AtomicBool::new(false),
        })
    }

    /// What names this encoder's files.
    pub fn encoder(&self) -> &str {
        &self.encoder
    }

    /// Whether something could not be kept for want of room.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Where a picture's features are, or would be.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the picture cannot be read.
    pub fn path(&self, image: &Path) -> Result<PathBuf, TrainError> {
        let digest = file_digest(image).map_err(|e| TrainError::Data {
            path: image.into(),
            what: e.to_string(),
        })?;
        Ok(self.folder.join(format!("{digest}.{EXTENSION}")))
    }

    /// Reads a file of this cache; `None` if it is not there or not whole, which is the same to the
    /// caller: the picture is encoded again.
    pub fn get(&self, path: &Path) -> Option<Features> {
        if !path.is_file() {
            return None;
        }
        let tensors = Tensors::load(path).ok()?;
        let mut patches = tensors
            .matrix("patches", None, Some(self.width))
            .ok()?
            .into_raw_vec_and_offset()
            .0;
        let mut image = tensors.vector("image", self.width).ok()?.to_vec();
        // f16 leaves lengths off by up to 1e-3.
        crate::faprompt::score::normalise_rows(&mut patches, self.width);
        crate::faprompt::score::normalise_rows(&mut image, self.width);
        Some(Features { patches, image })
    }

    /// Keeps a picture's features, if there is room.
    ///
    /// # Errors
    /// [`TrainError::Output`], a full disk among them.
    pub fn put(&self, path: &Path, features: &Features) -> Result<(), TrainError> {
        let size = 2 * (features.patches.len() + features.image.len()) as u64;
        if self.used.load(Ordering::Relaxed) + size > self.limit {
            self.full.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let mut store = Store::default();
        let rows = features.patches.len() / self.width;
        store.half("patches", &[rows, self.width], &features.patches);
        store.half("image", &[self.width], &features.image);
        store.save(path)?;
        self.used.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }
}
