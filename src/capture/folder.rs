//! A folder of photos as a camera: each file is one exposure, in name order.

use super::{Camera, CaptureError, Frame};
use image::{ImageReader, Limits, RgbImage};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Extensions that are taken for pictures inside a folder.
const EXTENSIONS: [&str; 11] = [
    "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm",
];

/// The largest side of a picture; cameras for inspection end at about 15,000 pixels a line.
const MAX_SIDE: u32 = 20_000;

/// What decoding may allocate: 85 megapixels of RGB.
const MAX_BYTES: u64 = 256 << 20;

/// All pictures in or under `path`, in name order; `path` itself if it is a file.
///
/// # Errors
/// [`CaptureError::Unreadable`] if `path` or a folder under it cannot be read.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, CaptureError> {
    let unreadable = |source| CaptureError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = vec![];
    for entry in WalkDir::new(path).sort_by_file_name() {
        let entry = entry.map_err(|e| unreadable(e.into()))?;
        let known = |e: &std::ffi::OsStr| EXTENSIONS.iter().any(|x| e.eq_ignore_ascii_case(x));
        if entry.path().is_file() && entry.path().extension().is_some_and(known) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Decodes a picture to RGB; grey is spread, transparency dropped. The format is told by the
/// contents, not the name.
///
/// # Errors
/// Every [`CaptureError`].
pub fn load(path: &Path) -> Result<RgbImage, CaptureError> {
    let unreadable = |source| CaptureError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let mut reader = ImageReader::open(path)
        .map_err(unreadable)?
        .with_guessed_format()
        .map_err(unreadable)?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|source| CaptureError::Damaged {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(image.into_rgb8())
}

/// Pictures of a folder, one after the other.
pub struct FolderCamera {
    files: std::vec::IntoIter<PathBuf>,
}

impl FolderCamera {
    /// The pictures in or under `path`.
    ///
    /// # Errors
    /// As [`list`].
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        Ok(FolderCamera {
            files: list(path)?.into_iter(),
        })
    }

    /// How many there are left.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Camera for FolderCamera {
    fn next(&mut self) -> Option<Result<Frame, CaptureError>> {
        let path = self.files.next()?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Some(load(&path).map(|image| Frame {
            image,
            name,
            defective: None,
        }))
    }
}
