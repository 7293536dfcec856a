//! Conversion of a camera's bytes to RGB, of the region of interest only.
//!
//! Conversion is done by `yuv`, JPEG is [`super::jpeg`]'s; the Bayer interpolation is this module's own. No input
//! makes it panic, and a frame that is short is an error, never half a picture. Nothing is allocated
//! per frame once the first one is through, but what the JPEG decoder needs inside.

mod bayer;
mod flat;
mod layout;
mod pixel;

pub use bayer::Development;
pub use flat::{Flat, FlatError, FlatFrames};
pub use layout::{FormatError, Layout, Matrix, Range, Roi};
pub use pixel::{BayerOrder, Chroma, PixelFormat, Samples};

use super::jpeg::{Checker, JpegError};
use bayer::Demosaic;
use flat::Shading;
use image::RgbImage;
use yuv::{
    YuvBiPlanarImage, YuvConversionMode, YuvError, YuvGrayImage, YuvPlanarImage, YuvRange,
    YuvStandardMatrix,
};

/// Converts frames of one layout to RGB pictures of one region.
pub struct Converter {
    layout: Layout,
    roi: Roi,
    demosaic: Option<Demosaic>,
    black_level: u16,
    /// A whole JPEG picture, a row of grey at 8 bits, or a row's luma and chroma.
    scratch: Vec<u8>,
    /// A JPEG picture with AVI's mark.
    marked: Vec<u8>,
    checker: Checker,
}

impl Converter {
    /// For frames of this layout. Without `roi`, the whole picture; `development` is for Bayer formats,
    /// the others take no notice of it.
    ///
    /// # Errors
    /// [`FormatError::Layout`] and [`FormatError::Roi`].
    pub fn new(
        layout: Layout,
        roi: Option<Roi>,
        development: &Development,
    ) -> Result<Self, FormatError> {
        layout.check()?;
        let roi = roi.unwrap_or(Roi {
            x: 0,
            y: 0,
            width: layout.width,
            height: layout.height,
        });
        roi.check(&layout)?;
        let demosaic = match layout.format {
            PixelFormat::Bayer(order, samples) => {
                Some(Demosaic::new(order, samples, &roi, development))
            }
            _ => None,
        };
        Ok(Converter {
            layout,
            roi,
            demosaic,
            black_level: development.black_level,
            scratch: vec![],
            marked: vec![],
            checker: Checker::default(),
        })
    }

    /// Removes a lens's shading from every frame from now on.
    ///
    /// # Errors
    /// [`FlatError`]: it was not measured on such frames.
    pub fn correct(&mut self, flat: &Flat) -> Result<(), FlatError> {
        flat.check(&self.layout)?;
        if let (Some(demosaic), PixelFormat::Bayer(order, _)) =
            (&mut self.demosaic, self.layout.format)
        {
            let shading = Shading::new(flat, order, &self.layout, &self.roi, self.black_level);
            demosaic.shading = Some(shading);
        }
        Ok(())
    }

    /// The size of the pictures that come out, in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.roi.width, self.roi.height)
    }

    /// Converts one frame into `image`, which gets the region's size.
    ///
    /// # Errors
    /// [`FormatError::Short`], [`FormatError::Jpeg`] and [`FormatError::Size`]; `image` is black then.
    pub fn convert(&mut self, frame: &[u8], image: &mut RgbImage) -> Result<(), FormatError> {
        self.convert_memories(&[frame], image)
    }

    /// Converts one frame that lies in [`PixelFormat::memories`] pieces of memory.
    ///
    /// # Errors
    /// Those of [`Converter::convert`]; a piece that is not there is one without bytes.
    pub fn convert_memories(
        &mut self,
        frame: &[&[u8]],
        image: &mut RgbImage,
    ) -> Result<(), FormatError> {
        resize(image, self.roi.width, self.roi.height);
        let done = self.write(frame, image);
        if done.is_err() {
            image.fill(0);
        }
        done
    }

    fn write(&mut self, memories: &[&[u8]], rgb: &mut [u8]) -> Result<(), FormatError> {
        let Layout { format, stride, .. } = self.layout;
        let memory = |i: usize| memories.get(i).copied().unwrap_or_default();
        let frame = memory(0);
        if format == PixelFormat::Mjpeg {
            return self.jpeg(frame, rgb);
        }
        for (i, needed) in self.layout.sizes().into_iter().enumerate() {
            let got = memory(i).len();
            if got < needed {
                return Err(FormatError::Short { needed, got });
            }
        }
        let planes = self.layout.planes();
        let (across, down) = format.shared();
        // The chroma of a row: of plane 1 or 2, from the region's first column on.
        let chroma = |plane: usize, y: usize, x: usize| {
            let at = planes[plane].start + y / down as usize * planes[plane].stride + x;
            &memory(if format.memories() > 1 { plane } else { 0 })[at..]
        };
        if let Some(demosaic) = &mut self.demosaic {
            demosaic.develop(frame, &self.layout, &self.roi, rgb);
            return Ok(());
        }
        let (x, first) = (self.roi.x as usize, self.roi.y as usize);
        let width = self.roi.width as usize;
        // Row by row: of a plane whose last row ends before its stride, as a region's does, `yuv` leaves
        // that row out and says nothing.
        for (y, out) in (first..).zip(rgb.chunks_exact_mut(3 * width)) {
            let row = &frame[y * stride..];
            match format {
                PixelFormat::Rgb24 => out.copy_from_slice(&row[3 * x..][..3 * width]),
                PixelFormat::Bgr24 => {
                    let (pixels, _) = row[3 * x..].as_chunks::<3>();
                    for (out, &[blue, green, red]) in out.as_chunks_mut().0.iter_mut().zip(pixels) {
                        *out = [red, green, blue];
                    }
                }
                PixelFormat::Yuyv | PixelFormat::Uyvy => {
                    // Luma and chroma apart. The crate's own path for packed rows computes with 6 bits,
                    // is half a step too bright and differs between processors.
                    let luma = usize::from(format == PixelFormat::Uyvy);
                    let even = width.next_multiple_of(2);
                    self.scratch.resize(2 * even, 0);
                    let (lumas, chromas) = self.scratch.split_at_mut(even);
                    let (pairs, _) = row[2 * x..].as_chunks::<2>();
                    for ((y, c), pair) in lumas.iter_mut().zip(&mut *chromas).zip(pairs) {
                        (*y, *c) = (pair[luma], pair[1 - luma]);
                    }
                    yuv_row(lumas, chromas, &self.layout, out)?;
                }
                PixelFormat::Nv12 | PixelFormat::Nv12M => {
                    yuv_row(&row[x..], chroma(1, y, x), &self.layout, out)?;
                }
                PixelFormat::Planar(_) | PixelFormat::PlanarM(_) => {
                    let column = x / across as usize;
                    let chroma = [chroma(1, y, column), chroma(2, y, column)];
                    planar_row(&row[x..], chroma, &self.layout, out)?;
                }
                PixelFormat::Grey(Samples::Bits8) => grey_row(&row[x..], &self.layout, out)?,
                PixelFormat::Grey(samples) => {
                    // The high bits: what a sensor adds below 8 bits is noise for the network.
                    let shift = samples.bits() - 8;
                    self.scratch.resize(width, 0);
                    let (words, _) = row[2 * x..].as_chunks();
                    for (grey, word) in self.scratch.iter_mut().zip(words) {
                        *grey = (u16::from_le_bytes(*word) >> shift).min(255) as u8;
                    }
                    grey_row(&self.scratch, &self.layout, out)?;
                }
                // Done above.
                PixelFormat::Bayer(..) | PixelFormat::Mjpeg => (),
            }
        }
        Ok(())
    }

    fn jpeg(&mut self, frame: &[u8], rgb: &mut [u8]) -> Result<(), FormatError> {
        let bad = |e: JpegError| FormatError::Jpeg(e.to_string());
        let picture = self.checker.check(frame).map_err(bad)?;
        let (width, height) = (self.layout.width, self.layout.height);
        if (picture.width, picture.height) != (width, height) {
            return Err(FormatError::Size {
                wanted: (width, height),
                got: (picture.width, picture.height),
            });
        }
        let (width, height) = (width as usize, height as usize);
        let whole = (self.roi.width, self.roi.height) == (self.layout.width, self.layout.height);
        if whole {
            return picture.decode(&mut self.marked, rgb).map_err(bad);
        }
        self.scratch.resize(3 * width * height, 0);
        picture
            .decode(&mut self.marked, &mut self.scratch)
            .map_err(bad)?;
        let rows = self.scratch.chunks_exact(3 * width);
        let out = rgb.chunks_exact_mut(3 * self.roi.width as usize);
        for (row, out) in rows.skip(self.roi.y as usize).zip(out) {
            out.copy_from_slice(&row[3 * self.roi.x as usize..][..out.len()]);
        }
        Ok(())
    }
}

/// One row of 4:2:2, as many pixels as `out` has room for.
fn yuv_row(luma: &[u8], chroma: &[u8], layout: &Layout, out: &mut [u8]) -> Result<(), FormatError> {
    let width = out.len() / 3;
    let even = width.next_multiple_of(2);
    let planes = YuvBiPlanarImage {
        y_plane: &luma[..width],
        y_stride: width as u32,
        uv_plane: &chroma[..even],
        uv_stride: even as u32,
        width: width as u32,
        height: 1,
    };
    let (range, matrix) = (layout.range.into(), layout.matrix.into());
    let mode = YuvConversionMode::Balanced;
    yuv::yuv_nv16_to_rgb(&planes, out, 3 * width as u32, range, matrix, mode).map_err(internal)
}

/// One row of 4:2:2 or 4:4:4 whose chromas lie apart, as many pixels as `out` has room for.
fn planar_row(
    luma: &[u8],
    [blue, red]: [&[u8]; 2],
    layout: &Layout,
    out: &mut [u8],
) -> Result<(), FormatError> {
    let width = out.len() / 3;
    let (across, _) = layout.format.shared();
    let samples = width.div_ceil(across as usize);
    let planes = YuvPlanarImage {
        y_plane: &luma[..width],
        y_stride: width as u32,
        u_plane: &blue[..samples],
        u_stride: samples as u32,
        v_plane: &red[..samples],
        v_stride: samples as u32,
        width: width as u32,
        height: 1,
    };
    let (range, matrix) = (layout.range.into(), layout.matrix.into());
    let convert = match across {
        1 => yuv::yuv444_to_rgb,
        _ => yuv::yuv422_to_rgb,
    };
    convert(&planes, out, 3 * width as u32, range, matrix).map_err(internal)
}

/// One row of grey, as many pixels as `out` has room for.
fn grey_row(grey: &[u8], layout: &Layout, out: &mut [u8]) -> Result<(), FormatError> {
    let width = out.len() / 3;
    let plane = YuvGrayImage {
        y_plane: &grey[..width],
        y_stride: width as u32,
        width: width as u32,
        height: 1,
    };
    let (range, matrix) = (layout.range.into(), layout.matrix.into());
    yuv::yuv400_to_rgb(&plane, out, 3 * width as u32, range, matrix).map_err(internal)
}

/// Sizes are checked before, so this says that one of those checks is wrong.
fn internal(error: YuvError) -> FormatError {
    FormatError::Layout(error.to_string())
}

impl From<Range> for YuvRange {
    fn from(range: Range) -> Self {
        match range {
            Range::Limited => YuvRange::Limited,
            Range::Full => YuvRange::Full,
        }
    }
}

impl From<Matrix> for YuvStandardMatrix {
    fn from(matrix: Matrix) -> Self {
        match matrix {
            Matrix::Bt601 => YuvStandardMatrix::Bt601,
            Matrix::Bt709 => YuvStandardMatrix::Bt709,
            Matrix::Bt2020 => YuvStandardMatrix::Bt2020,
            Matrix::Smpte240 => YuvStandardMatrix::Smpte240,
        }
    }
}

/// Gives `image` this size; its memory is reused. What it shows afterwards is not defined.
pub(super) fn resize(image: &mut RgbImage, width: u32, height: u32) {
    if image.dimensions() != (width, height) {
        let mut pixels = std::mem::take(image).into_raw();
        pixels.resize(3 * width as usize * height as usize, 0);
        // Of the right length by the line above.
        *image = RgbImage::from_raw(width, height, pixels).unwrap_or_default();
    }
}
