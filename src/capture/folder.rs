//! A folder of photos as a camera: each file is one exposure, in name order.

use super::photo::load_with;
use super::{Camera, CaptureError, Exposure, now_us};
use crate::shown::shown;
use image::RgbImage;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use walkdir::WalkDir;

/// Extensions of files that count as pictures inside a folder.
const EXTENSIONS: [&str; 15] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "jif", "jfi", "bmp", "tif", "tiff", "webp", "ppm", "pgm",
    "pbm", "pnm",
];

/// The contents of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Its pictures, in name order.
    pub files: Vec<PathBuf>,
    /// Counts of everything else in it.
    pub left_out: LeftOut,
}

/// Counts of what does not count as a picture of a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Files and folders whose names begin with a dot, such as `._photo.png` of macOS and `.thumbnails`.
    pub hidden: usize,
    /// Files with an extension that no picture has.
    pub others: usize,
    /// Links to folders that were read already.
    pub again: usize,
}

impl LeftOut {
    /// Whether all counts are 0.
    pub fn is_empty(&self) -> bool {
        *self == LeftOut::default()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "left out: ";
        for (count, what) in [
            (self.hidden, "hidden"),
            (self.others, "without a picture's ending"),
            (self.again, "linked twice"),
        ] {
            if count > 0 {
                write!(f, "{comma}{count} {what}")?;
                comma = ", ";
            }
        }
        Ok(())
    }
}

/// All pictures in or under `path`, in name order; `path` itself if it is a file. Links to folders are followed,
/// each folder is read once. A folder under it that cannot be read, and a link to nowhere, are listed too: loading
/// them gives the reason.
///
/// # Errors
/// [`CaptureError::Unreadable`] if `path` cannot be read.
pub fn survey(path: &Path) -> Result<Listing, CaptureError> {
    let unreadable = |source| CaptureError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let mut found = Listing::default();
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        found.files.push(path.to_path_buf());
        return Ok(found);
    }
    let is_picture = |path: &Path| {
        let known = |e: &OsStr| EXTENSIONS.iter().any(|x| e.eq_ignore_ascii_case(x));
        path.extension().is_some_and(known)
    };
    let mut folders = HashSet::new();
    let mut walk = WalkDir::new(path)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) if e.depth() == 0 => return Err(unreadable(e.into())),
            Err(e) if e.loop_ancestor().is_some() => {
                found.left_out.again += 1;
                continue;
            }
            Err(e) => {
                let Some(path) = e.path() else { continue };
                // A link to nowhere, or a folder.
                match !path.is_symlink() || is_picture(path) {
                    true => found.files.push(path.to_path_buf()),
                    false => found.left_out.others += 1,
                }
                continue;
            }
        };
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let folder = entry.file_type().is_dir();
        if hidden && entry.depth() > 0 {
            found.left_out.hidden += 1;
            if folder {
                walk.skip_current_dir();
            }
        } else if folder {
            let real = entry.path().canonicalize();
            if !folders.insert(real.unwrap_or_else(|_| entry.path().into())) {
                found.left_out.again += 1;
                walk.skip_current_dir();
            }
        } else if is_picture(entry.path()) && entry.file_type().is_file() {
            found.files.push(entry.into_path());
        } else {
            found.left_out.others += 1;
        }
    }
    Ok(found)
}

/// The pictures of [`survey`].
///
/// # Errors
/// As [`survey`].
pub fn list(path: &Path) -> Result<Vec<PathBuf>, CaptureError> {
    survey(path).map(|found| found.files)
}

/// Pictures of a folder, one after the other.
pub struct FolderCamera {
    root: PathBuf,
    files: std::vec::IntoIter<PathBuf>,
    left_out: LeftOut,
    sample_bits: Option<u32>,
    sequence: u64,
}

impl FolderCamera {
    /// The pictures in or under `path`.
    ///
    /// # Errors
    /// As [`survey`].
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let Listing { files, left_out } = survey(path)?;
        Ok(FolderCamera {
            root: path.to_path_buf(),
            files: files.into_iter(),
            left_out,
            sample_bits: None,
            sequence: 0,
        })
    }

    /// Uses this many low bits (8 to 16) of each sample of photos with 16 bits per sample.
    pub fn with_sample_bits(mut self, bits: Option<u32>) -> Self {
        self.sample_bits = bits;
        self
    }

    /// Counts of what else the folder holds.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// How many pictures are left.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no picture is left.
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
        *image = load_with(&path, self.sample_bits)?;
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
            name: shown(below.unwrap_or(&path).display()).to_string(),
            defective: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_fails_alone_and_the_end_is_reported() {
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
