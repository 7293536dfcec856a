//! JPEG pictures: whole, or refused. One way for photos and for the frames of a camera.
//!
//! Decoders are made to show something of whatever they are given: where bytes are missing they fill up with grey
//! and say nothing. So before a picture is decoded (`zune-jpeg`), every code of it is walked over (`walk`):
//! each must be in its table, each scan must have exactly as many MCUs as the picture's size asks for, restart
//! markers must come in their order, nothing may be left over before a marker (but a few bytes that
//! some encoders fill up with), and a progressive picture must have
//! all its scans. What cannot be seen in this way is a change that leaves all of that as it was: a code that
//! became another one of the same length, other bits behind a code, other numbers in a table.
//!
//! The picture ends at its end marker; what stands behind it (padding, another picture, a film) does not matter.

mod bits;
mod header;
mod huffman;
mod progressive;
mod split;
mod walk;

pub(super) use split::{End, Splitter};

use super::MAX_PIXELS;
use header::{FrameHeader, Kind, RST, SOI, Scan};
use huffman::Table;
use image::metadata::Orientation;
use progressive::Progress;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Why a JPEG picture is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// Not all of it is there, or not as it was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// It may be whole, but is of a kind that is not read.
    #[error("{0}: not read here; save it as a baseline JPEG")]
    Unsupported(String),
    /// More pixels than any frame has.
    #[error("{0} x {1} pixels, more than {MAX_PIXELS}")]
    TooLarge(u32, u32),
}

impl JpegError {
    fn damaged(what: &str) -> Self {
        JpegError::Damaged(what.into())
    }

    fn unsupported(what: &str) -> Self {
        JpegError::Unsupported(what.into())
    }

    fn cut_off() -> Self {
        JpegError::damaged("cut off: no end marker")
    }
}

/// A JPEG picture that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jpeg<'a> {
    /// The picture, from its start marker to its end marker.
    data: &'a [u8],
    /// Pixels per row.
    pub width: u32,
    /// Rows of the picture.
    pub height: u32,
    /// How it is to be turned (Exif).
    pub orientation: Orientation,
    /// Whether it leaves out the standard Huffman tables, as AVI's frames and those of many USB cameras do.
    bare: bool,
}

/// Checks pictures; keeps its memory, and the Huffman tables of the last one, which the next one mostly has too.
#[derive(Default)]
pub struct Checker {
    /// By class (DC, AC) and number.
    tables: [[Option<Table>; 4]; 2],
    /// Which of them this picture has.
    set: [[bool; 4]; 2],
    /// The bytes of one entropy-coded segment.
    segment: Vec<u8>,
    progress: Progress,
}

impl Checker {
    /// Whether the picture that starts with `data` is whole.
    ///
    /// # Errors
    /// [`JpegError`]: the picture is damaged, too large, or of a kind that is not read.
    pub fn check<'a>(&mut self, data: &'a [u8]) -> Result<Jpeg<'a>, JpegError> {
        if !data.starts_with(&[0xff, SOI]) {
            return Err(JpegError::damaged("no start marker"));
        }
        self.set = Default::default();
        let mut at = 2;
        let (mut frame, mut quantisation, mut restart) = (None::<FrameHeader>, [0; 4], 0u32);
        let (mut orientation, mut bare, mut scans) = (None, None, 0u32);
        loop {
            let marker = marker(data, &mut at)?;
            let kind = Kind::of(marker);
            match kind {
                Kind::End => break,
                // One that stands behind the last interval of a scan does no harm.
                Kind::Stray if scans > 0 && (RST..RST + 8).contains(&marker) => continue,
                Kind::Stray => {
                    let what = format!("marker {marker:#04x} where none can be");
                    return Err(JpegError::Damaged(what));
                }
                _ => (),
            }
            let segment = segment(data, &mut at)?;
            match kind {
                Kind::FrameHeader if frame.is_some() => {
                    return Err(JpegError::damaged("two frame headers"));
                }
                Kind::FrameHeader => {
                    let new = FrameHeader::read(marker, segment)?;
                    if u64::from(new.width) * u64::from(new.height) > MAX_PIXELS {
                        return Err(JpegError::TooLarge(new.width, new.height));
                    }
                    self.progress.start(&new);
                    frame = Some(new);
                }
                Kind::Huffman => self.huffman(segment)?,
                Kind::Quantisation => header::quantisation(segment, &mut quantisation)?,
                Kind::Restart => match *segment {
                    [high, low] => restart = u32::from(u16::from_be_bytes([high, low])),
                    _ => return Err(JpegError::damaged("a restart interval without sense")),
                },
                Kind::Scan => {
                    let frame = frame.as_mut();
                    let frame = frame.ok_or(JpegError::damaged("a scan before its frame"))?;
                    if !frame.quantise(quantisation) {
                        let what = "a quantisation table is missing";
                        return Err(JpegError::damaged(what));
                    }
                    if *bare.get_or_insert(self.set == <[[bool; 4]; 2]>::default()) && scans == 0 {
                        for (class, number, table) in huffman::standard() {
                            self.table(class, number, &table)?;
                        }
                    }
                    scans += 1;
                    let scan = Scan::read(segment, frame)?;
                    self.progress.scan(&scan, frame)?;
                    at = self
                        .walk(data, at, frame, &scan, restart)
                        .map_err(|e| match e {
                            JpegError::Damaged(what) if scans > 1 || frame.progressive => {
                                JpegError::Damaged(format!("scan {scans}: {what}"))
                            }
                            e => e,
                        })?;
                }
                Kind::Arithmetic => return Err(JpegError::unsupported("arithmetic coding")),
                Kind::Lines => {
                    let same = |f: &FrameHeader| segment == (f.height as u16).to_be_bytes();
                    if !frame.as_ref().is_some_and(same) {
                        return Err(JpegError::damaged("two heights"));
                    }
                }
                Kind::Application(1) if orientation.is_none() => {
                    let exif = segment.strip_prefix(b"Exif\0\0");
                    orientation = exif.and_then(Orientation::from_exif_chunk);
                }
                Kind::Application(_) | Kind::Skipped | Kind::End | Kind::Stray => (),
            }
        }
        let frame = frame.filter(|_| scans > 0);
        let frame = frame.ok_or(JpegError::damaged("no scan"))?;
        self.progress.end()?;
        Ok(Jpeg {
            data: &data[..at],
            width: frame.width,
            height: frame.height,
            orientation: orientation.unwrap_or(Orientation::NoTransforms),
            bare: bare.unwrap_or(false),
        })
    }

    fn huffman(&mut self, segment: &[u8]) -> Result<(), JpegError> {
        for table in header::huffman(segment) {
            let (class, number, table) = table?;
            self.table(class, number, table)?;
        }
        Ok(())
    }

    fn table(&mut self, class: usize, number: usize, source: &[u8]) -> Result<(), JpegError> {
        let place = &mut self.tables[class][number];
        if !place.as_ref().is_some_and(|table| table.is(source)) {
            *place = Some(Table::new(source)?);
        }
        self.set[class][number] = true;
        Ok(())
    }
}

/// The next marker; `at` goes behind it.
fn marker(data: &[u8], at: &mut usize) -> Result<u8, JpegError> {
    let rest = data.get(*at..).unwrap_or_default();
    let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
    let marker = *rest.get(fill).ok_or_else(JpegError::cut_off)?;
    if fill == 0 {
        let what = format!("byte {at} begins no marker");
        return Err(JpegError::Damaged(what));
    }
    *at += fill + 1;
    Ok(marker)
}

/// What stands behind a segment's length; `at` goes behind it.
fn segment<'a>(data: &'a [u8], at: &mut usize) -> Result<&'a [u8], JpegError> {
    let rest = data.get(*at..).unwrap_or_default();
    let length = rest
        .first_chunk()
        .map(|l| usize::from(u16::from_be_bytes(*l)));
    let length = length.ok_or_else(JpegError::cut_off)?;
    if length < 2 {
        let what = format!("the segment at byte {at} has no length");
        return Err(JpegError::Damaged(what));
    }
    *at += length;
    rest.get(2..length).ok_or_else(JpegError::cut_off)
}

impl Jpeg<'_> {
    /// Decodes it to RGB, `3 * width * height` bytes, not turned. `scratch` is memory that is kept.
    ///
    /// # Errors
    /// [`JpegError`]: of a kind that the decoder does not read.
    pub fn decode(&self, scratch: &mut Vec<u8>, rgb: &mut [u8]) -> Result<(), JpegError> {
        let mut data = self.data;
        if self.bare {
            // The decoder supplies the standard tables to pictures that carry AVI's mark.
            scratch.clear();
            scratch.extend(b"\xff\xd8\xff\xe0\x00\x07AVI1\x00");
            scratch.extend(&data[2..]);
            data = scratch;
        }
        let options = DecoderOptions::default()
            .jpeg_set_out_colorspace(ColorSpace::RGB)
            .set_strict_mode(true)
            .set_max_width(usize::MAX)
            .set_max_height(usize::MAX);
        JpegDecoder::new_with_options(ZCursor::new(data), options)
            .decode_into(rgb)
            .map_err(|e| JpegError::Unsupported(format!("zune-jpeg: {e}")))
    }
}
