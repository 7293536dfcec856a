//! How a frame lies in memory, and which part of it is wanted.

use super::{Chroma, PixelFormat};
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

/// The range of values from black to white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 16 to 235 (chroma 16 to 240).
    Limited,
    /// 0 to 255.
    Full,
}

/// The layout of a frame in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Pixel format of the frame.
    pub format: PixelFormat,
    /// Width of the frame, pixels.
    pub width: u32,
    /// Height of the frame, pixels.
    pub height: u32,
    /// Bytes from one row to the next (V4L2: bytesperline); nothing for MJPEG.
    pub stride: usize,
    /// Bytes from one row of chroma to the next, where planes lie in memory of their own. Elsewhere it follows
    /// from `stride`: NV12's are as long as those of luma, planar ones as much shorter as they have fewer
    /// samples.
    pub chroma_stride: usize,
    /// Colour matrix of YUV. JPEG and RGB have their own.
    pub matrix: Matrix,
    /// Range of YUV and grey.
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
            chroma_stride: match format.memories() {
                1 => 0,
                _ => chroma_row(format, width as usize),
            },
            matrix: Matrix::Bt601,
            range: match format {
                PixelFormat::Grey(_) => Range::Full,
                _ => Range::Limited,
            },
        }
    }

    /// The bytes that a frame has at least, all its pieces of memory together; 0 for MJPEG. The last row may end
    /// with its last pixel.
    pub fn size(&self) -> usize {
        let [luma, blue, red] = self.planes().map(|plane| plane.end);
        match self.format.memories() {
            1 => luma.max(blue).max(red),
            _ => luma + blue + red,
        }
    }

    /// The bytes that each of the pieces of memory of a frame has at least; 0 where there is none.
    pub fn sizes(&self) -> [usize; 3] {
        match self.format.memories() {
            1 => [self.size(), 0, 0],
            _ => self.planes().map(|plane| plane.end),
        }
    }

    /// Where the planes lie: luma (or all there is), then chroma. Those that there are not are empty.
    pub(super) fn planes(&self) -> [Plane; 3] {
        let (width, height) = (self.width as usize, self.height as usize);
        let format = self.format;
        let (_, down) = format.shared();
        let rows = height.div_ceil(down as usize);
        let alone = format.memories() > 1;
        let chroma = match (alone, format) {
            (true, _) => self.chroma_stride,
            (false, PixelFormat::Planar(Chroma::Full) | PixelFormat::Nv12) => self.stride,
            (false, _) => self.stride / 2,
        };
        let plane = |start: usize, stride: usize, rows: usize, row: usize| Plane {
            start,
            stride,
            end: start + stride * (rows - 1) + row,
        };
        let luma = plane(0, self.stride, height, row(format, width));
        let row = chroma_row(format, width);
        let behind = |rows: usize| match alone {
            true => 0,
            false => self.stride * height + chroma * rows,
        };
        match format {
            PixelFormat::Mjpeg => [Plane::NONE; 3],
            PixelFormat::Nv12 | PixelFormat::Nv12M => {
                [luma, plane(behind(0), chroma, rows, row), Plane::NONE]
            }
            PixelFormat::Planar(_) | PixelFormat::PlanarM(_) => [
                luma,
                plane(behind(0), chroma, rows, row),
                plane(behind(rows), chroma, rows, row),
            ],
            _ => [luma, Plane::NONE, Plane::NONE],
        }
    }

    /// Checks that frames of this layout can be converted.
    ///
    /// # Errors
    /// [`FormatError::Layout`] says what makes no sense.
    pub(in crate::capture) fn check(&self) -> Result<(), FormatError> {
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
        let mut strides = vec![(self.stride, row(self.format, width as usize))];
        let chroma = chroma_row(self.format, width as usize);
        match self.format {
            PixelFormat::Mjpeg => return Ok(()),
            PixelFormat::Nv12M | PixelFormat::PlanarM(_) => {
                strides.push((self.chroma_stride, chroma));
            }
            PixelFormat::Planar(Chroma::Quarter | Chroma::Half) => {
                strides.push((self.stride / 2, chroma));
            }
            _ => (),
        }
        for (stride, least) in strides {
            if !(least..=MAX_STRIDE).contains(&stride) {
                return bad(format!(
                    "{stride} bytes per line: {} with {width} pixels has {least} to {MAX_STRIDE}",
                    self.format
                ));
            }
        }
        Ok(())
    }
}

/// Where a plane lies in its piece of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane {
    pub start: usize,
    pub stride: usize,
    /// Offset behind its last pixel, bytes.
    pub end: usize,
}

impl Plane {
    const NONE: Plane = Plane {
        start: 0,
        stride: 0,
        end: 0,
    };
}

/// Largest width and height, pixels; line cameras end at 16384.
const MAX_SIDE: u32 = 32_768;
/// Largest stride, bytes; keeps every size far from overflow, on 32 bits too.
const MAX_STRIDE: usize = 1 << 18;

/// Bytes of a row of chroma without a gap.
fn chroma_row(format: PixelFormat, width: usize) -> usize {
    let (across, _) = format.shared();
    match format {
        PixelFormat::Nv12 | PixelFormat::Nv12M => 2 * width.div_ceil(2),
        PixelFormat::Planar(_) | PixelFormat::PlanarM(_) => width.div_ceil(across as usize),
        _ => 0,
    }
}

/// Bytes of a row without a gap.
fn row(format: PixelFormat, width: usize) -> usize {
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => 4 * width.div_ceil(2),
        // Its rows of chroma are as long.
        PixelFormat::Nv12 => 2 * width.div_ceil(2),
        // Twice a row of chroma.
        PixelFormat::Planar(Chroma::Quarter | Chroma::Half) => 2 * width.div_ceil(2),
        PixelFormat::Nv12M | PixelFormat::Planar(Chroma::Full) | PixelFormat::PlanarM(_) => width,
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => 3 * width,
        PixelFormat::Grey(samples) | PixelFormat::Bayer(_, samples) => samples.row(width),
        PixelFormat::Mjpeg => 0,
    }
}

/// The part of the sensor's picture that is inspected, in pixels, before mirroring and turning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roi {
    /// First column, from 0 at the left.
    pub x: u32,
    /// First row, from 0 at the top.
    pub y: u32,
    /// Number of columns, pixels.
    pub width: u32,
    /// Number of rows, pixels.
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
        let (across, down) = layout.format.shared();
        if !self.x.is_multiple_of(across) || !self.y.is_multiple_of(down) {
            return Err(FormatError::Roi(format!(
                "({}, {}): {} shares colour between pairs, so {} must be even",
                self.x,
                self.y,
                layout.format,
                if down > 1 { "x and y" } else { "x" }
            )));
        }
        Ok(())
    }
}

/// Why frames of a layout, or one frame, cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The driver's description of its frames makes no sense.
    #[error("frame layout: {0}")]
    Layout(String),
    /// The region does not fit the frames.
    #[error("region of interest: {0}")]
    Roi(String),
    /// The frame is too short.
    #[error("the frame has {got} bytes instead of {needed}")]
    Short {
        /// Bytes that a whole frame has at least.
        needed: usize,
        /// Bytes that came.
        got: usize,
    },
    /// A JPEG picture that is damaged or cut off.
    #[error("JPEG: {0}")]
    Jpeg(String),
    /// A JPEG picture has another size than the layout.
    #[error("{} x {} pixels instead of {} x {}", got.0, got.1, wanted.0, wanted.1)]
    Size {
        /// Width and height of the layout, pixels.
        wanted: (u32, u32),
        /// Width and height of this picture, pixels.
        got: (u32, u32),
    },
}
