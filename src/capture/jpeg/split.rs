//! Where one JPEG picture ends in a stream of them, byte by byte as they come.
//!
//! Follows lengths of segments, so that the end marker of a picture inside a segment (Exif's preview) ends
//! nothing. Says nothing of whether a picture is whole: that is [`super::Checker`]'s business, and a picture that
//! is cut off by the start of the next one is handed over as it is.

use super::header::{EOI, RST, SOI, SOS};
use memchr::memchr;

/// What a piece of the stream brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Where the picture begins in this piece, unless it goes on from the one before: what was taken for its
    /// start until here was none.
    pub start: Option<usize>,
    /// Bytes of the piece up to the picture's end, or all of them.
    pub taken: usize,
    pub end: End,
}

/// Whether a picture ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes on, or has not begun.
    No,
    /// It does.
    Whole,
    /// Another one begins before its end: the last two bytes that were taken are that one's start.
    Cut,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No picture has begun.
    #[default]
    Before,
    /// Nor has it with this 0xff, unless a start follows.
    BeforeCode,
    /// A marker's 0xff is due. Where there is none the picture is damaged, and its end is sought as in a scan.
    Marker,
    /// A marker's code is due; whether a scan goes on if it is none.
    Code { scan: bool },
    /// A segment's length: its first byte, then its second.
    Length { scan: bool, high: Option<u8> },
    /// Bytes of a segment are left.
    Segment { scan: bool, left: u16 },
    /// Codes of a scan.
    Scan,
}

/// Finds the ends of pictures in a stream.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    state: State,
}

impl Splitter {
    /// The next piece of the stream. After an end or a cut, the rest of the piece comes again.
    pub fn take(&mut self, piece: &[u8]) -> Split {
        let (mut at, mut start) = (0, None);
        while at < piece.len() {
            let byte = piece[at];
            at += 1;
            self.state = match self.state {
                State::Before => {
                    let found = memchr(0xff, &piece[at - 1..]);
                    at = found.map_or(piece.len(), |n| at + n);
                    start = Some(found.map_or(at, |_| at - 1));
                    match found {
                        Some(_) => State::BeforeCode,
                        None => State::Before,
                    }
                }
                State::BeforeCode => match byte {
                    SOI => State::Marker,
                    0xff => {
                        start = Some(at - 1);
                        State::BeforeCode
                    }
                    _ => {
                        start = Some(at);
                        State::Before
                    }
                },
                State::Marker if byte == 0xff => State::Code { scan: false },
                State::Scan | State::Marker => match memchr(0xff, &piece[at - 1..]) {
                    Some(n) => {
                        at += n;
                        State::Code { scan: true }
                    }
                    None => {
                        at = piece.len();
                        State::Scan
                    }
                },
                State::Code { scan } => match byte {
                    0xff => State::Code { scan },
                    EOI => {
                        self.state = State::Before;
                        return split(start, at, End::Whole);
                    }
                    SOI => {
                        self.state = State::Marker;
                        return split(start, at, End::Cut);
                    }
                    0x00 | 0x01 => match scan {
                        true => State::Scan,
                        false => State::Marker,
                    },
                    _ if (RST..RST + 8).contains(&byte) => State::Scan,
                    code => State::Length {
                        scan: code == SOS,
                        high: None,
                    },
                },
                State::Length { scan, high: None } => State::Length {
                    scan,
                    high: Some(byte),
                },
                State::Length {
                    scan,
                    high: Some(high),
                } => {
                    let length = u16::from_be_bytes([high, byte]).saturating_sub(2);
                    segment(scan, length)
                }
                State::Segment { scan, left } => {
                    let here = usize::from(left).min(piece.len() - at + 1);
                    at += here - 1;
                    segment(scan, left - here as u16)
                }
            };
        }
        split(start, at, End::No)
    }
}

fn split(start: Option<usize>, taken: usize, end: End) -> Split {
    Split { start, taken, end }
}

/// So many bytes of a segment are left.
fn segment(scan: bool, left: u16) -> State {
    match (left, scan) {
        (0, true) => State::Scan,
        (0, false) => State::Marker,
        _ => State::Segment { scan, left },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use proptest::prelude::*;

    fn jpeg(size: u32) -> Vec<u8> {
        let picture =
            image::RgbImage::from_fn(size, size, |x, y| image::Rgb([x as u8, y as u8, 9]));
        let mut bytes = vec![];
        JpegEncoder::new(&mut bytes).encode_image(&picture).unwrap();
        bytes
    }

    /// A preview inside an application segment, as Exif has one.
    fn with_preview(size: u32) -> Vec<u8> {
        let (mut whole, preview) = (jpeg(size), jpeg(8));
        let length = (preview.len() as u16 + 2).to_be_bytes();
        let segment = [&[0xff, 0xe1], length.as_slice(), &preview].concat();
        whole.splice(2..2, segment);
        whole
    }

    /// The pictures of a stream that comes in pieces.
    fn pictures(stream: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let (mut splitter, mut found, mut picture) = (Splitter::default(), vec![], vec![]);
        for mut piece in stream.chunks(piece) {
            while !piece.is_empty() {
                let split = splitter.take(piece);
                if split.start.is_some() {
                    picture.clear();
                }
                picture.extend(&piece[split.start.unwrap_or(0)..split.taken]);
                piece = &piece[split.taken..];
                match split.end {
                    End::No => (),
                    End::Whole => found.push(std::mem::take(&mut picture)),
                    End::Cut => {
                        picture.truncate(picture.len() - 2);
                        found.push(std::mem::replace(&mut picture, vec![0xff, SOI]));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn pictures_are_split_wherever_the_pieces_end_and_whatever_stands_between_them() {
        let all = [jpeg(9), with_preview(20), jpeg(31)];
        let stream = [
            b"--boundary\r\n\xff\x00\xff".as_slice(),
            &all[0],
            &all[1],
            b"\r\n\0\0",
            &all[2],
        ]
        .concat();
        for piece in 1..stream.len() {
            assert!(pictures(&stream, piece) == all, "pieces of {piece}");
        }
    }

    #[test]
    fn a_picture_that_is_cut_off_ends_where_the_next_begins() {
        let (first, second) = (jpeg(40), jpeg(16));
        // Cut within its scan: behind the headers.
        let cut = &first[..first.len() - 30];
        let stream = [cut, &second].concat();
        for piece in 1..stream.len() {
            assert!(
                pictures(&stream, piece) == [cut.to_vec(), second.clone()],
                "pieces of {piece}"
            );
        }
    }

    proptest! {
        /// Noise neither panics nor swallows what comes after it for good: a segment has 65,535 bytes at most.
        #[test]
        fn after_noise_pictures_are_found_again(
            noise in prop::collection::vec(any::<u8>(), 0..3000),
            piece in 1usize..700,
        ) {
            let picture = jpeg(16);
            let mut stream = noise;
            for _ in 0..(2 * 65_536 / picture.len() + 2) {
                stream.extend(&picture);
            }
            let found = pictures(&stream, piece);
            prop_assert!(found.last() == Some(&picture));
        }
    }
}
