//! A folder of photos as a camera: each file is one exposure, in name order.

use super::{Camera, CaptureError, Exposure, MAX_PIXELS, now_us};
use image::error::{DecodingError, ImageFormatHint};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use std::path::{Path, PathBuf};
use std::time::Duration;
use walkdir::WalkDir;

/// Extensions that are taken for pictures inside a folder.
const EXTENSIONS: [&str; 11] = [
    "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm",
];

/// All pictures in or under `path`, in name order; `path` itself if it is a file. A folder under it that
/// cannot be read, and a link to nowhere, are listed too: whoever loads them is told why.
///
/// # Errors
/// [`CaptureError::Unreadable`] if `path` cannot be read.
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
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) if e.depth() > 0 => {
                files.extend(e.path().map(Path::to_path_buf));
                continue;
            }
            Err(e) => return Err(unreadable(e.into())),
        };
        let known = |e: &std::ffi::OsStr| EXTENSIONS.iter().any(|x| e.eq_ignore_ascii_case(x));
        let path = entry.path();
        let picture = path.is_file() || (entry.path_is_symlink() && !path.exists());
        if picture && path.extension().is_some_and(known) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Decodes a picture to RGB; grey is spread, transparency dropped. The format is told by the
/// contents, not the name.
///
/// # Errors
/// [`CaptureError::Unreadable`], [`CaptureError::Damaged`], [`CaptureError::TooLarge`].
pub fn load(path: &Path) -> Result<RgbImage, CaptureError> {
    let unreadable = |source| CaptureError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let damaged = |source| CaptureError::Damaged {
        path: path.to_path_buf(),
        source,
    };
    let kind = std::fs::metadata(path).map_err(unreadable)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        // A pipe would be waited for.
        let what = std::io::Error::other("neither a file nor a folder");
        return Err(unreadable(what));
    }
    let reader = ImageReader::open(path)
        .map_err(unreadable)?
        .with_guessed_format()
        .map_err(unreadable)?;
    if reader.format() == Some(ImageFormat::Jpeg) {
        // Of a picture that was cut off the decoder fills the rest with grey and says nothing. A
        // thumbnail's end marker comes before the picture's scan.
        let file = std::fs::read(path).map_err(unreadable)?;
        let last = |marker| file.windows(2).rposition(|pair| pair == [0xff, marker]);
        if last(0xd9) < last(0xda) {
            let hint = ImageFormatHint::Exact(ImageFormat::Jpeg);
            let why = DecodingError::new(hint, "cut off: no end marker");
            return Err(damaged(ImageError::Decoding(why)));
        }
    }
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
    sequence: u64,
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
            sequence: 0,
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
    /// A file that cannot be read is an error of this exposure; the next call goes on with the next.
    fn capture(&mut self, image: &mut RgbImage, _: Duration) -> Result<Exposure, CaptureError> {
        let path = self.files.next().ok_or(CaptureError::End)?;
        let sequence = self.sequence;
        self.sequence += 1;
        *image = load(&path)?;
        // The path below the folder: good/000.png and bad/000.png are two parts.
        let below = path
            .strip_prefix(&self.root)
            .ok()
            .filter(|p| !p.as_os_str().is_empty());
        Ok(Exposure {
            sequence,
            at_us: now_us(),
            whole: true,
            missed: 0,
            name: below.unwrap_or(&path).display().to_string(),
            defective: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_fails_alone_and_the_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        RgbImage::from_pixel(4, 3, image::Rgb([9, 8, 7]))
            .save(folder.path().join("b.png"))
            .unwrap();
        std::fs::write(folder.path().join("a.png"), b"no picture").unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"ignored").unwrap();
        let mut camera = FolderCamera::open(folder.path()).unwrap();
        let mut image = RgbImage::default();
        assert_eq!(camera.len(), 2);
        let mut next = || camera.capture(&mut image, Duration::ZERO);
        assert!(
            matches!(next(), Err(CaptureError::Damaged { path, .. }) if path.ends_with("a.png"))
        );
        let exposure = next().unwrap();
        assert_eq!((exposure.sequence, exposure.name.as_str()), (1, "b.png"));
        assert!(exposure.whole && exposure.at_us <= now_us());
        assert!(matches!(next(), Err(CaptureError::End)));
        assert_eq!(image.get_pixel(3, 2).0, [9, 8, 7]);
    }
}
