//! Where frames come from: a camera, or a device that behaves like one.
//!
//! Knows pictures and time; nothing of what a frame is used for.

mod folder;
mod pattern;

pub use folder::{FolderCamera, list, load};
pub use pattern::PatternCamera;

use image::RgbImage;
use std::path::PathBuf;

/// One exposure.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The picture.
    pub image: RgbImage,
    /// What to call it: a file name, or a number.
    pub name: String,
    /// Whether the part is defective, where the source knows (generator only).
    pub defective: Option<bool>,
}

/// Why there is no frame. The part in front of the camera is a reject.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file that cannot be opened.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that is no picture, or a damaged one.
    #[error("{path}: {source}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: image::ImageError,
    },
    /// More pixels than any frame has.
    #[error("{path}: {width} x {height} pixels, more than {MAX_PIXELS}", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
}

/// The largest picture that is decoded. Area cameras for inspection end at about 25 megapixels; at
/// this size preprocessing takes 0.8 GB for a moment.
pub const MAX_PIXELS: u64 = 64_000_000;

impl CaptureError {
    /// The file or folder that failed.
    pub fn path(&self) -> &std::path::Path {
        match self {
            CaptureError::Unreadable { path, .. }
            | CaptureError::Damaged { path, .. }
            | CaptureError::TooLarge { path, .. } => path,
        }
    }
}

/// A source of frames, one per part.
pub trait Camera {
    /// The next frame; `None` when there will be no more.
    ///
    /// # Errors
    /// The exposure failed; the next call tries the next one.
    fn next(&mut self) -> Option<Result<Frame, CaptureError>>;
}
