//! A folder of photos as a camera: each file is one exposure, in name order.

use super::{Camera, CaptureError, Frame, MAX_PIXELS};
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Extensions that are taken for pictures inside a folder.
const EXTENSIONS: [&str; 11] = [
    "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm",
];

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
    let damaged = |source| CaptureError::Damaged {
        path: path.to_path_buf(),
        source,
    };
    let reader = ImageReader::open(path)
        .map_err(unreadable)?
        .with_guessed_format()
        .map_err(unreadable)?;
    let decoder = reader.into_decoder().map_err(damaged)?;
    // Before anything is allocated for the pixels.
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(CaptureError::TooLarge {
            path: path.to_path_buf(),
            width,
            height,
        });
    }
    Ok(DynamicImage::from_decoder(decoder)
        .map_err(damaged)?
        .into_rgb8())
}

/// Pictures of a folder, one after the other.
pub struct FolderCamera {
    root: PathBuf,
    files: std::vec::IntoIter<PathBuf>,
}

impl FolderCamera {
    /// The pictures in or under `path`.
    ///
    /// # Errors
    /// As [`list`].
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        Ok(FolderCamera {
            root: path.to_path_buf(),
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
        // The path below the folder: good/000.png and bad/000.png are two parts.
        let below = path
            .strip_prefix(&self.root)
            .ok()
            .filter(|p| !p.as_os_str().is_empty());
        let name = below.unwrap_or(&path).display().to_string();
        Some(load(&path).map(|image| Frame {
            image,
            name,
            defective: None,
        }))
    }
}
