//! Frames out of a stream of bytes: Y4M, PNM, MJPEG, or raw frames of a known size.
//!
//! What a stream is shows in its first byte, unless it was said. A frame that was not written in one go, as when
//! the command left out a part of the one before, is never passed off as whole.

use super::input::{Begun, Input};
use crate::capture::MAX_PIXELS;
use crate::capture::format::{Chroma, Layout, Matrix, PixelFormat, Range, Samples};
use crate::capture::jpeg::{End, Splitter};
use image::codecs::pnm::PnmDecoder;
use image::{ColorType, ImageDecoder};
use std::io::{self, Read};
use std::os::fd::AsFd;
use y4m::{Colorspace, Decoder, Limits};

/// A frame that was not written in one go waits for its rest at least so long.
const PAUSE_US: u64 = 8_000;
/// So many of them in a row, and the stream is out of step.
const OUT_OF_STEP: u32 = 2;
/// No frame has more bytes: 8-bit colour of the largest picture.
const MOST_BYTES: usize = 3 * MAX_PIXELS as usize;
/// Bytes between two JPEG pictures, at most.
const BETWEEN: usize = 1 << 16;

/// Why a stream is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// It ended between two frames.
    #[error("its output ended")]
    Ended,
    /// It ended within a frame.
    #[error("its output ended in the middle of a frame")]
    CutOff,
    /// It begins as nothing that is known.
    #[error(
        "its output begins with {}, as neither Y4M, MJPEG nor PPM does; if these are raw frames, say which: \
         pipe:FORMAT:WIDTHxHEIGHT:COMMAND",
        .0.escape_ascii()
    )]
    Unknown(Vec<u8>),
    /// It is of a kind that is not read.
    #[error("{0}")]
    Unsupported(String),
    /// What should be a frame's start is none.
    #[error("{0}: bytes are missing or too many")]
    OutOfStep(String),
    /// The system's reason.
    #[error("its output cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// What is known of a frame whose bytes were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// How they lie. Planes in memory of their own stand right behind one another.
    pub layout: Layout,
    pub begun: Begun,
    /// It was written in pieces with a pause between them: it may be the end of one and the start of another.
    pub in_pieces: bool,
}

enum Kind<R: Read + AsFd> {
    Raw(Layout),
    Y4m(Box<Decoder<Input<R>>>, Layout),
    Pnm,
    /// And what was read of the next picture already.
    Mjpeg(Splitter, &'static [u8]),
}

/// A stream of frames.
pub(super) struct Stream<R: Read + AsFd> {
    input: Input<R>,
    kind: Option<Kind<R>>,
    /// Whether no frame came yet.
    first: bool,
    /// Frames in a row that came in pieces.
    in_pieces: u32,
}

impl<R: Read + AsFd> Stream<R> {
    /// Raw frames of this layout, or what the stream itself says.
    pub(super) fn new(input: Input<R>, raw: Option<Layout>) -> Self {
        let kind = raw.map(|layout| match layout.format {
            PixelFormat::Mjpeg => Kind::Mjpeg(Splitter::default(), &[]),
            _ => Kind::Raw(layout),
        });
        Stream {
            input,
            kind,
            first: true,
            in_pieces: 0,
        }
    }

    /// Reads the next frame into `bytes`, which is made as long as it is.
    pub(super) fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Head, StreamError> {
        bytes.clear();
        let mut begun = self.input.begin()?.ok_or(StreamError::Ended)?;
        if std::mem::replace(&mut self.first, false) {
            // Until then the command was starting: no pause between frames.
            begun.after_us = 0;
        }
        let kind = match self.kind.take() {
            Some(kind) => kind,
            None => kind(&self.input)?,
        };
        let kind = self.kind.insert(kind);
        let layout = match kind {
            Kind::Raw(layout) => {
                bytes.resize(layout.size(), 0);
                self.input.read_exact(bytes).map_err(cut_off)?;
                *layout
            }
            Kind::Y4m(decoder, layout) => {
                let frame = decoder.read_frame().map_err(y4m)?;
                for plane in [
                    frame.get_y_plane(),
                    frame.get_u_plane(),
                    frame.get_v_plane(),
                ] {
                    bytes.extend_from_slice(plane);
                }
                *layout
            }
            Kind::Pnm => pnm(&mut self.input, bytes)?,
            Kind::Mjpeg(splitter, started) => {
                bytes.extend_from_slice(started);
                *started = mjpeg(&self.input, splitter, bytes, &mut begun)?;
                Layout::packed(PixelFormat::Mjpeg, 0, 0)
            }
        };
        // A pause in the middle like the one between frames: it may be the end of one and the start of the next. Half as
        // long is enough: of two equal ones either may measure longer.
        let pause = self.input.longest_pause_us();
        let in_pieces =
            layout.format != PixelFormat::Mjpeg && pause > PAUSE_US && 2 * pause > begun.after_us;
        self.in_pieces = if in_pieces { self.in_pieces + 1 } else { 0 };
        if self.in_pieces >= OUT_OF_STEP {
            return Err(StreamError::OutOfStep(format!(
                "{OUT_OF_STEP} frames in a row came in pieces, {} ms apart",
                pause / 1000
            )));
        }
        Ok(Head {
            layout,
            begun,
            in_pieces,
        })
    }
}

/// What the stream is, by its start.
fn kind<R: Read + AsFd>(input: &Input<R>) -> Result<Kind<R>, StreamError> {
    let start = input.peek()?;
    match start.first() {
        Some(b'Y') => {
            let limits = Limits { bytes: MOST_BYTES };
            let decoder = Decoder::new_with_limits(input.clone(), limits).map_err(y4m)?;
            let layout = y4m_layout(&decoder)?;
            Ok(Kind::Y4m(Box::new(decoder), layout))
        }
        Some(b'P') => Ok(Kind::Pnm),
        Some(0xff) => Ok(Kind::Mjpeg(Splitter::default(), &[])),
        // The boundary between the parts of an HTTP stream.
        Some(b'-' | b'\r') => Ok(Kind::Mjpeg(Splitter::default(), &[])),
        _ => Err(StreamError::Unknown(start)),
    }
}

fn cut_off(e: io::Error) -> StreamError {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => StreamError::CutOff,
        _ => StreamError::Read(e),
    }
}

fn y4m(e: y4m::Error) -> StreamError {
    let unsupported = |what: &str| StreamError::Unsupported(format!("Y4M: {what}"));
    match e {
        y4m::Error::EOF => StreamError::CutOff,
        y4m::Error::IoError(e) => cut_off(e),
        y4m::Error::OutOfMemory => unsupported("frames larger than any that is read"),
        y4m::Error::UnknownColorspace => unsupported(COLOURS),
        y4m::Error::BadInput | y4m::Error::ParseError(_) => {
            StreamError::OutOfStep("Y4M: a header is not as it must be".into())
        }
    }
}

const COLOURS: &str = "colours that are not read here; write 420, 422, 444 or mono with 8 bits (ffmpeg: -pix_fmt \
                       yuv420p)";

fn y4m_layout<R: Read>(decoder: &Decoder<R>) -> Result<Layout, StreamError> {
    let unsupported = |what: &str| StreamError::Unsupported(format!("Y4M: {what}"));
    let format = match decoder.get_colorspace() {
        Colorspace::Cmono => PixelFormat::Grey(Samples::Bits8),
        Colorspace::C420 | Colorspace::C420jpeg | Colorspace::C420paldv | Colorspace::C420mpeg2 => {
            PixelFormat::PlanarM(Chroma::Quarter)
        }
        Colorspace::C422 => PixelFormat::PlanarM(Chroma::Half),
        Colorspace::C444 => PixelFormat::PlanarM(Chroma::Full),
        _ => return Err(unsupported(COLOURS)),
    };
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let (width, height) = (side(decoder.get_width()), side(decoder.get_height()));
    let mut layout = guessed(format, width, height);
    layout.range = Range::Limited;
    for word in decoder.get_raw_params().split(|byte| *byte == b' ') {
        match word {
            b"XCOLORRANGE=FULL" => layout.range = Range::Full,
            b"It" | b"Ib" | b"Im" => {
                return Err(unsupported("interlaced pictures; deinterlace them"));
            }
            _ => (),
        }
    }
    Ok(layout)
}

/// Rows without gaps. Streams do not say by which matrix colours were made: that of HD for pictures of its size,
/// as libcamera and GStreamer make them and players take them.
pub(super) fn guessed(format: PixelFormat, width: u32, height: u32) -> Layout {
    let mut layout = Layout::packed(format, width, height);
    if width >= 1280 || height > 576 {
        layout.matrix = Matrix::Bt709;
    }
    layout
}

/// One PGM or PPM picture with 8 bits per sample, or PGM with 16.
fn pnm<R: Read + AsFd>(input: &mut Input<R>, bytes: &mut Vec<u8>) -> Result<Layout, StreamError> {
    let bad = |e: image::ImageError| match e {
        image::ImageError::IoError(e) => cut_off(e),
        image::ImageError::Unsupported(e) => StreamError::Unsupported(format!("PNM: {e}")),
        e => StreamError::OutOfStep(format!("PNM: {e}")),
    };
    let decoder = PnmDecoder::new(input).map_err(bad)?;
    let format = match decoder.color_type() {
        ColorType::L8 => PixelFormat::Grey(Samples::Bits8),
        ColorType::L16 => PixelFormat::Grey(Samples::Bits16),
        ColorType::Rgb8 => PixelFormat::Rgb24,
        other => {
            let what = format!("PNM: {other:?} is not read here; write P5 or P6 with 8 bits");
            return Err(StreamError::Unsupported(what));
        }
    };
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let what = format!("PNM: {width} x {height} pixels, more than {MAX_PIXELS}");
        return Err(StreamError::Unsupported(what));
    }
    let layout = Layout::packed(format, width, height);
    bytes.resize(layout.size(), 0);
    decoder.read_image(bytes).map_err(bad)?;
    if format == PixelFormat::Grey(Samples::Bits16) && cfg!(target_endian = "big") {
        bytes
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .for_each(|word| word.reverse());
    }
    Ok(layout)
}

/// One JPEG picture, whole or not. Returns what was read of the next one.
fn mjpeg<R: Read + AsFd>(
    input: &Input<R>,
    splitter: &mut Splitter,
    bytes: &mut Vec<u8>,
    begun: &mut Begun,
) -> Result<&'static [u8], StreamError> {
    let mut between = 0;
    loop {
        let end = input.piece(|piece, arrived_us| {
            if piece.is_empty() {
                return (0, None);
            }
            let split = splitter.take(piece);
            if let Some(start) = split.start {
                between += bytes.len() + start;
                bytes.clear();
                // What stands between two pictures may come long before the second one.
                begun.at_us = arrived_us;
            }
            bytes.extend_from_slice(&piece[split.start.unwrap_or(0)..split.taken]);
            (split.taken, Some(split.end))
        })?;
        match end {
            None => return Err(StreamError::CutOff),
            Some(End::Whole) => return Ok(&[]),
            Some(End::Cut) => {
                bytes.truncate(bytes.len().saturating_sub(2));
                return Ok(b"\xff\xd8");
            }
            Some(End::No) if between > BETWEEN => {
                let what = format!("MJPEG: no picture begins within {BETWEEN} bytes");
                return Err(StreamError::OutOfStep(what));
            }
            Some(End::No) if bytes.len() > MOST_BYTES => {
                let what = "MJPEG: a picture without an end".into();
                return Err(StreamError::OutOfStep(what));
            }
            Some(End::No) => (),
        }
    }
}
