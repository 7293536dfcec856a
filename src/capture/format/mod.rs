//! A camera's bytes to RGB, the region of interest only.
//!
//! Decoding is done by `yuv` and `zune-jpeg`; the Bayer interpolation is this module's own. No input
//! makes it panic, and a frame that is short is an error, never half a picture. Nothing is allocated
//! per frame once the first one is through, but what the JPEG decoder needs inside.

mod bayer;
mod layout;
mod pixel;

pub use bayer::Development;
pub use layout::{FormatError, Layout, Matrix, Range, Roi};
pub use pixel::{BayerOrder, PixelFormat, Samples};

use bayer::Demosaic;
use image::RgbImage;
use yuv::{
    YuvBiPlanarImage, YuvConversionMode, YuvError, YuvGrayImage, YuvPackedImage, YuvRange,
    YuvStandardMatrix,
};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Turns frames of one layout into RGB pictures of one region.
pub struct Converter {
    layout: Layout,
    roi: Roi,
    demosaic: Option<Demosaic>,
    /// A whole JPEG picture, or a region of grey at 8 bits.
    scratch: Vec<u8>,
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
            scratch: vec![],
        })
    }

    /// The size of the pictures that come out, in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.roi.width, self.roi.height)
    }

    /// Converts one frame into `image`, which gets the region's size.
    ///
    /// # Errors
    /// [`FormatError::Short`] and [`FormatError::Jpeg`]; `image` is black then.
    pub fn convert(&mut self, frame: &[u8], image: &mut RgbImage) -> Result<(), FormatError> {
        resize(image, self.roi.width, self.roi.height);
        let done = self.write(frame, image);
        if done.is_err() {
            image.fill(0);
        }
        done
    }

    fn write(&mut self, frame: &[u8], rgb: &mut [u8]) -> Result<(), FormatError> {
        let Layout { format, stride, .. } = self.layout;
        if format == PixelFormat::Mjpeg {
            return self.jpeg(frame, rgb);
        }
        let needed = self.layout.size();
        if frame.len() < needed {
            return Err(FormatError::Short {
                needed,
                got: frame.len(),
            });
        }
        let (x, y) = (self.roi.x as usize, self.roi.y as usize);
        let (width, height) = (self.roi.width as usize, self.roi.height as usize);
        let out = rgb.chunks_exact_mut(3 * width);
        let rows = (y..y + height).map(|row| &frame[row * stride..]);
        let (range, matrix) = (self.layout.range.into(), self.layout.matrix.into());
        let converted = match format {
            PixelFormat::Rgb24 => {
                for (row, out) in rows.zip(out) {
                    out.copy_from_slice(&row[3 * x..][..3 * width]);
                }
                Ok(())
            }
            PixelFormat::Bgr24 => yuv::bgr_to_rgb(
                &frame[y * stride + 3 * x..],
                stride as u32,
                rgb,
                3 * self.roi.width,
                self.roi.width,
                self.roi.height,
            ),
            PixelFormat::Yuyv | PixelFormat::Uyvy => {
                let convert = match format {
                    PixelFormat::Yuyv => yuv::yuyv422_to_rgb,
                    _ => yuv::uyvy422_to_rgb,
                };
                // Row by row: the crate takes a whole number of strides only, a region ends before.
                let bytes = 4 * width.div_ceil(2);
                rows.zip(out).try_for_each(|(row, out)| {
                    let row = YuvPackedImage {
                        yuy: &row[2 * x..][..bytes],
                        yuy_stride: bytes as u32,
                        width: self.roi.width,
                        height: 1,
                    };
                    convert(&row, out, 3 * self.roi.width, range, matrix)
                })
            }
            PixelFormat::Nv12 => {
                let (luma, chroma) = frame.split_at(self.layout.height as usize * stride);
                let planes = YuvBiPlanarImage {
                    y_plane: &luma[y * stride + x..],
                    y_stride: stride as u32,
                    uv_plane: &chroma[y / 2 * stride + x..],
                    uv_stride: stride as u32,
                    width: self.roi.width,
                    height: self.roi.height,
                };
                let mode = YuvConversionMode::Balanced;
                yuv::yuv_nv12_to_rgb(&planes, rgb, 3 * self.roi.width, range, matrix, mode)
            }
            PixelFormat::Grey(samples) => {
                let plane = match samples {
                    Samples::Bits8 => &frame[y * stride + x..],
                    _ => {
                        self.scratch.resize(width * height, 0);
                        // The high bits: what a sensor adds below 8 bits is noise for the network.
                        let shift = samples.bits() - 8;
                        for (row, grey) in rows.zip(self.scratch.chunks_exact_mut(width)) {
                            let (samples, _) = row[2 * x..][..2 * width].as_chunks();
                            for (grey, sample) in grey.iter_mut().zip(samples) {
                                *grey = (u16::from_le_bytes(*sample) >> shift).min(255) as u8;
                            }
                        }
                        &self.scratch
                    }
                };
                let plane = YuvGrayImage {
                    y_plane: plane,
                    y_stride: match samples {
                        Samples::Bits8 => stride as u32,
                        _ => self.roi.width,
                    },
                    width: self.roi.width,
                    height: self.roi.height,
                };
                yuv::yuv400_to_rgb(&plane, rgb, 3 * self.roi.width, range, matrix)
            }
            PixelFormat::Bayer(..) | PixelFormat::Mjpeg => {
                if let Some(demosaic) = &mut self.demosaic {
                    demosaic.develop(frame, &self.layout, &self.roi, rgb);
                }
                Ok(())
            }
        };
        // Sizes were checked above, so this says that one of those checks is wrong.
        converted.map_err(|e: YuvError| FormatError::Layout(e.to_string()))
    }

    fn jpeg(&mut self, frame: &[u8], rgb: &mut [u8]) -> Result<(), FormatError> {
        let bad = |why: String| FormatError::Jpeg(why);
        // Drivers pad with zeros up to a whole packet. A picture that does not end with EOI was cut
        // off; the decoder would fill the rest with grey and say nothing.
        let end = frame
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |i| i + 1);
        if !frame[..end].ends_with(&[0xff, 0xd9]) {
            return Err(bad("cut off: no end marker".into()));
        }
        let (width, height) = (self.layout.width as usize, self.layout.height as usize);
        let options = DecoderOptions::default()
            .jpeg_set_out_colorspace(ColorSpace::RGB)
            .set_strict_mode(true)
            .set_max_width(width)
            .set_max_height(height);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&frame[..end]), options);
        decoder.decode_headers().map_err(|e| bad(e.to_string()))?;
        let size = decoder.dimensions();
        if size != Some((width, height)) {
            let (w, h) = size.unwrap_or_default();
            return Err(bad(format!(
                "{w} x {h} pixels instead of {width} x {height}"
            )));
        }
        let whole = (self.roi.width, self.roi.height) == (self.layout.width, self.layout.height);
        if whole {
            return decoder.decode_into(rgb).map_err(|e| bad(e.to_string()));
        }
        self.scratch.resize(3 * width * height, 0);
        decoder
            .decode_into(&mut self.scratch)
            .map_err(|e| bad(e.to_string()))?;
        let rows = self.scratch.chunks_exact(3 * width);
        let out = rgb.chunks_exact_mut(3 * self.roi.width as usize);
        for (row, out) in rows.skip(self.roi.y as usize).zip(out) {
            out.copy_from_slice(&row[3 * self.roi.x as usize..][..out.len()]);
        }
        Ok(())
    }
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
