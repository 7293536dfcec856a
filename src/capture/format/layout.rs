//! How a frame lies in memory, and which part of it is wanted.

use super::PixelFormat;
use crate::capture::MAX_PIXELS;
use serde::Deserialize;

/// How luma and chroma make up colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601: most USB cameras, JPEG.
    Bt601,
    /// ITU-R BT.709: HD video, most image signal processors.
    Bt709,
    /// ITU-R BT.2020.
    Bt2020,
    /// SMPTE 240M.
    Smpte240,
}

/// Which numbers are black and white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 16 to 235 (chroma 16 to 240).
    Limited,
    /// 0 to 255.
    Full,
}

/// How a frame lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The pixel format.
    pub format: PixelFormat,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next (V4L2: bytesperline); nothing for MJPEG. NV12's chroma rows are as
    /// long as its luma rows.
    pub stride: usize,
    /// Colour matrix of YUYV, UYVY and NV12. JPEG and RGB have their own.
    pub matrix: Matrix,
    /// Range of YUYV, UYVY, NV12 and grey.
    pub range: Range,
}

impl Layout {
    /// Rows without gaps, with what V4L2 takes for granted where a driver says nothing: BT.601, limited
    /// range; grey: full range.
    pub fn packed(format: PixelFormat, width: u32, height: u32) -> Self {
        Layout {
            format,
            width,
            height,
            stride: row(format, width as usize),
            matrix: Matrix::Bt601,
            range: match format {
                PixelFormat::Grey(_) => Range::Full,
                _ => Range::Limited,
            },
        }
    }

    /// The bytes that a frame has at least; 0 for MJPEG. The last row may end with its last pixel.
    pub fn size(&self) -> usize {
        let (width, height) = (self.width as usize, self.height as usize);
        match self.format {
            PixelFormat::Mjpeg => 0,
            PixelFormat::Nv12 => {
                self.stride * (height + height.div_ceil(2) - 1) + 2 * width.div_ceil(2)
            }
            format => self.stride * (height - 1) + row(format, width),
        }
    }

    /// Whether it can be converted.
    ///
    /// # Errors
    /// [`FormatError::Layout`].
    pub(super) fn check(&self) -> Result<(), FormatError> {
        let Layout { width, height, .. } = *self;
        let bad = |why: String| Err(FormatError::Layout(why));
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > MAX_PIXELS || width.max(height) > MAX_SIDE {
            return bad(format!(
                "{width} x {height} pixels: 1 to {MAX_SIDE} on a side, {MAX_PIXELS} in all"
            ));
        }
        if self.format.is_bayer() && width.min(height) < 2 {
            return bad(format!("{width} x {height}: Bayer tiles are 2 x 2 pixels"));
        }
        let least = row(self.format, width as usize);
        if self.format != PixelFormat::Mjpeg && !(least..=MAX_STRIDE).contains(&self.stride) {
            return bad(format!(
                "{} bytes per line: {} with {width} pixels has {least} to {MAX_STRIDE}",
                self.stride, self.format
            ));
        }
        Ok(())
    }
}

/// Line cameras end at 16384 pixels.
const MAX_SIDE: u32 = 32_768;
/// Keeps every size far from overflow, on 32 bits too.
const MAX_STRIDE: usize = 1 << 18;

/// Bytes of a row without a gap.
fn row(format: PixelFormat, width: usize) -> usize {
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => 4 * width.div_ceil(2),
        PixelFormat::Nv12 => 2 * width.div_ceil(2),
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => 3 * width,
        PixelFormat::Grey(samples) | PixelFormat::Bayer(_, samples) => samples.row(width),
        PixelFormat::Mjpeg => 0,
    }
}

/// The part of the sensor's picture that is inspected, in pixels, before mirroring and turning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roi {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Roi {
    pub(super) fn check(&self, layout: &Layout) -> Result<(), FormatError> {
        let inside = |start: u32, length: u32, all: u32| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= all)
        };
        if !inside(self.x, self.width, layout.width) || !inside(self.y, self.height, layout.height)
        {
            return Err(FormatError::Roi(format!(
                "{} x {} at ({}, {}) is not inside {} x {}",
                self.width, self.height, self.x, self.y, layout.width, layout.height
            )));
        }
        let (even_x, even_y) = match layout.format {
            PixelFormat::Yuyv | PixelFormat::Uyvy => (true, false),
            PixelFormat::Nv12 => (true, true),
            _ => (false, false),
        };
        if even_x && self.x % 2 == 1 || even_y && self.y % 2 == 1 {
            return Err(FormatError::Roi(format!(
                "({}, {}): {} shares colour between pairs, so {} must be even",
                self.x,
                self.y,
                layout.format,
                if even_y { "x and y" } else { "x" }
            )));
        }
        Ok(())
    }
}

/// Why there is no converter, or no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The driver's description of its frames makes no sense.
    #[error("frame layout: {0}")]
    Layout(String),
    /// The region does not fit the frames.
    #[error("region of interest: {0}")]
    Roi(String),
    /// Bytes are missing.
    #[error("the frame has {got} bytes instead of {needed}")]
    Short {
        /// What a whole frame has at least.
        needed: usize,
        /// What came.
        got: usize,
    },
    /// A JPEG picture that is damaged, cut off, or of another size.
    #[error("JPEG: {0}")]
    Jpeg(String),
}
