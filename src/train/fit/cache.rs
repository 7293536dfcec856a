//! Features of pictures that a frozen encoder has seen once, on disk.
//!
//! A file per picture, f16, named by what it depends on: the picture's bytes, the weights, the input
//! size, the V-V blocks, and what the weights' configuration says. Written whole or not at all, so an interrupted run goes on where it stopped.

use super::Options;
use crate::bundle::envelope::hex;
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::tensors::store::Store;
use crate::train::tensors::{Tensors, file_digest};
use ndarray::Array2;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use walkdir::WalkDir;

/// The version of cached files: it changes when their meaning does.
const VERSION: &str = "2";
/// Extension of cached files; nothing else in the folder is ever removed.
const EXTENSION: &str = "features.safetensors";

/// What the encoder said of a picture, rows of unit length.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Unit patch features, [N, C].
    pub patches: Vec<f32>,
    /// The unit image feature, `[C]`.
    pub image: Vec<f32>,
}

/// The folder of cached features.
pub struct Cache {
    folder: PathBuf,
    width: usize,
    limit: u64,
    room: Mutex<Room>,
    full: AtomicBool,
}

/// The files in the folder, and how much room they take.
struct Room {
    used: u64,
    /// Features of other encoders, the oldest last.
    others: Vec<(PathBuf, u64)>,
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
    /// Opens `folder` for `clip` as `options` have it; at most `limit` bytes stay in it.
    ///
    /// # Errors
    /// [`TrainError::Output`] if the folder cannot be made.
    pub fn open(
        folder: &Path,
        limit: u64,
        clip: &Clip,
        options: &Options,
    ) -> Result<Cache, TrainError> {
        let key = format!(
            "{VERSION} {} {} {} {:?} {:?}",
            clip.digest,
            options.image_size,
            options.vv_layers,
            clip.network(),
            options.products
        );
        Cache::keyed(folder, limit, &key, clip.text.width)
    }

    /// Opens `folder` for features that depend on `key` and the picture alone, rows of `width` if they are of
    /// one width.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn keyed(folder: &Path, limit: u64, key: &str, width: usize) -> Result<Cache, TrainError> {
        let own = folder.join(&hex(&Sha256::digest(key.as_bytes()))[..16]);
        std::fs::create_dir_all(&own).map_err(|source| TrainError::Output {
            path: own.clone(),
            source,
        })?;
        let mut found = files(folder);
        let used = found.iter().map(|f| f.1).sum();
        found.retain(|f| !f.0.starts_with(&own));
        // The oldest last, to be taken first.
        found.sort_by_key(|f| std::cmp::Reverse(f.2));
        let cache = Cache {
            folder: own,
            width,
            limit,
            room: Mutex::new(Room {
                used,
                others: found.into_iter().map(|f| (f.0, f.1)).collect(),
            }),
            full: AtomicBool::new(false),
        };
        cache.make_room(0);
        Ok(cache)
    }

    /// Whether `size` more bytes fit. Other encoders' features give way, the oldest first; this one's stay.
    fn make_room(&self, size: u64) -> bool {
        // A panic elsewhere leaves the numbers whole: they are changed in one step each.
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        while room.used + size > self.limit {
            let Some((path, freed)) = room.others.pop() else {
                return false;
            };
            if std::fs::remove_file(&path).is_ok() {
                room.used -= freed;
            }
        }
        room.used += size;
        true
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

    /// Where the features of something of this name are, or would be.
    pub fn named(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{EXTENSION}"))
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
        if !self.make_room(size) {
            self.full.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let mut store = Store::default();
        let rows = features.patches.len() / self.width;
        store.half("patches", &[rows, self.width], &features.patches);
        store.half("image", &[self.width], &features.image);
        store.save(path)
    }

    /// Rows of several kinds, as [`Cache::put_rows`] kept them; `None` if they are not there or not whole.
    pub fn get_rows(&self, path: &Path, kinds: usize) -> Option<Vec<Array2<f32>>> {
        if !path.is_file() {
            return None;
        }
        let tensors = Tensors::load(path).ok()?;
        (0..kinds)
            .map(|i| tensors.matrix(&format!("rows.{i}"), None, None).ok())
            .collect()
    }

    /// Keeps a picture's rows of several kinds as they are, in f16, if there is room.
    ///
    /// # Errors
    /// [`TrainError::Output`], a full disk among them.
    pub fn put_rows(&self, path: &Path, rows: &[Array2<f32>]) -> Result<(), TrainError> {
        let size = 2 * rows.iter().map(|r| r.len()).sum::<usize>() as u64;
        if !self.make_room(size) {
            self.full.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let mut store = Store::default();
        for (i, rows) in rows.iter().enumerate() {
            let values: Vec<f32> = rows.iter().copied().collect();
            store.half(format!("rows.{i}"), rows.shape(), &values);
        }
        store.save(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::clip::Clip;
    use crate::train::random::{self, Sizes};

    fn features(n: usize) -> Features {
        let mut patches = vec![0.5; n * 64];
        patches[0] = 0.25;
        let mut f = Features {
            patches,
            image: vec![-0.125; 64],
        };
        crate::faprompt::score::normalise_rows(&mut f.patches, 64);
        crate::faprompt::score::normalise_rows(&mut f.image, 64);
        f
    }

    #[test]
    fn features_come_back_and_other_encoders_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = Sizes {
            vision: (64, 1, 16, 64),
            text: (64, 2),
            ..random::Architecture::Minimal.sizes()
        };
        let made = tempfile::tempdir().unwrap();
        let (clip, _) = random::write(&sizes, 1, made.path()).unwrap();
        let clip = Clip::load(&clip).unwrap();
        let small = Options::paper(&clip);
        let large = Options {
            image_size: 128,
            ..small.clone()
        };
        let one = 2 * (4 * 64 + 64) as u64;
        // Room for two of one encoder, and a little for their headers.
        let limit = 2 * one + 600;
        let image = folder.path().join("a.png");
        std::fs::write(&image, b"any bytes").unwrap();
        let open = |options: &Options| Cache::open(folder.path(), limit, &clip, options).unwrap();
        let first = open(&small);
        let path = first.path(&image).unwrap();
        assert_eq!(first.get(&path), None);
        first.put(&path, &features(4)).unwrap();
        let back = first.get(&path).unwrap();
        for (a, b) in back.patches.iter().zip(&features(4).patches) {
            assert!((a - b).abs() < 1e-3);
        }
        // A damaged file counts as none.
        std::fs::write(&path, b"half").unwrap();
        assert_eq!(first.get(&path), None);
        first.put(&path, &features(4)).unwrap();

        let second = open(&large);
        let other = second.path(&image).unwrap();
        assert_ne!(other, path, "another input size has files of its own");
        second.put(&other, &features(4)).unwrap();
        std::fs::write(&image, b"other bytes").unwrap();
        let third = second.path(&image).unwrap();
        second.put(&third, &features(4)).unwrap();
        assert!(!path.is_file(), "the other encoder's features gave way");
        assert!(second.get(&other).is_some() && !second.is_full());
        std::fs::write(&image, b"and more").unwrap();
        let fourth = second.path(&image).unwrap();
        second.put(&fourth, &features(4)).unwrap();
        assert!(second.is_full() && !fourth.is_file());
        assert!(second.get(&other).is_some(), "its own stay");
    }
}
