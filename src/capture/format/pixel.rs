//! The pixel formats that are read, by their V4L2 codes (fourcc).

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// The colours of the first two samples of the first two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BayerOrder {
    /// Blue green, green red.
    Bggr,
    /// Green blue, red green.
    Gbrg,
    /// Green red, blue green.
    Grbg,
    /// Red green, green blue.
    Rggb,
}

impl BayerOrder {
    /// Column and row (0 or 1) of the red sample within each 2 x 2 tile.
    pub(super) fn red(self) -> (usize, usize) {
        match self {
            BayerOrder::Bggr => (1, 1),
            BayerOrder::Gbrg => (0, 1),
            BayerOrder::Grbg => (1, 0),
            BayerOrder::Rggb => (0, 0),
        }
    }
}

/// How one sample is stored in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    /// 8 bits in a byte.
    Bits8,
    /// 10 bits in the low bits of two bytes, little-endian.
    Bits10,
    /// 12 bits in the low bits of two bytes, little-endian.
    Bits12,
    /// 16 bits in two bytes, little-endian.
    Bits16,
    /// MIPI RAW10: four samples in five bytes, the fifth has the low bits.
    Packed10,
    /// MIPI RAW12: two samples in three bytes, the third has the low bits.
    Packed12,
}

impl Samples {
    /// Bits per sample.
    pub fn bits(self) -> u32 {
        match self {
            Samples::Bits8 => 8,
            Samples::Bits10 | Samples::Packed10 => 10,
            Samples::Bits12 | Samples::Packed12 => 12,
            Samples::Bits16 => 16,
        }
    }

    /// The word or byte of a sample of a row, its bits packed together where they are apart.
    pub(super) fn read(self, row: &[u8], x: usize) -> usize {
        match self {
            Samples::Bits8 => row[x].into(),
            Samples::Bits10 | Samples::Bits12 | Samples::Bits16 => {
                u16::from_le_bytes([row[2 * x], row[2 * x + 1]]).into()
            }
            Samples::Packed10 => {
                let (group, place) = (5 * (x / 4), x % 4);
                let low = row[group + 4] >> (2 * place);
                usize::from(row[group + place]) << 2 | usize::from(low & 3)
            }
            Samples::Packed12 => {
                let (group, place) = (3 * (x / 2), x % 2);
                let low = row[group + 2] >> (4 * place);
                usize::from(row[group + place]) << 4 | usize::from(low & 15)
            }
        }
    }

    /// Bytes of a row of `width` samples.
    pub(super) fn row(self, width: usize) -> usize {
        match self {
            Samples::Bits8 => width,
            Samples::Bits10 | Samples::Bits12 | Samples::Bits16 => 2 * width,
            Samples::Packed10 => width.div_ceil(4) * 5,
            Samples::Packed12 => width.div_ceil(2) * 3,
        }
    }
}

/// How many pixels share a sample of colour, where luma and both chromas have planes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chroma {
    /// 4:2:0: two pixels across and two down.
    Quarter,
    /// 4:2:2: two pixels across.
    Half,
    /// 4:4:4: every pixel has its own.
    Full,
}

/// A pixel format that is read. In settings it is written as its V4L2 code: `"YUYV"`, `"RG10"`.
///
/// Not read: swapped YUV (YV12, NV21, YVYU), packed grey (Y10P, Y10B), 14-bit Bayer, compressed video (H264).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum PixelFormat {
    /// 4:2:2, luma first.
    Yuyv,
    /// 4:2:2, chroma first.
    Uyvy,
    /// 4:2:0, a luma plane and one of interleaved chroma right behind it.
    Nv12,
    /// The same, the two planes in memory of their own (V4L2 multi-planar).
    Nv12M,
    /// Luma, blue chroma and red chroma, a plane each, right behind one another.
    Planar(Chroma),
    /// The same, the three planes in memory of their own (V4L2 multi-planar).
    PlanarM(Chroma),
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red.
    Bgr24,
    /// Luma only.
    Grey(Samples),
    /// One JPEG picture per frame.
    Mjpeg,
    /// A colour sensor's raw samples.
    Bayer(BayerOrder, Samples),
}

use BayerOrder::{Bggr, Gbrg, Grbg, Rggb};
use PixelFormat::{Bayer, Grey, Planar, PlanarM};
use Samples::{Bits8, Bits10, Bits12, Bits16, Packed10, Packed12};

/// Codes of linux/videodev2.h (and FFmpeg's 444P, which the kernel has no code for), in the order in which they are chosen where the settings name none.
const CODES: [(PixelFormat, [u8; 4]); 42] = [
    (PixelFormat::Rgb24, *b"RGB3"),
    (PixelFormat::Bgr24, *b"BGR3"),
    (PixelFormat::Yuyv, *b"YUYV"),
    (PixelFormat::Uyvy, *b"UYVY"),
    (PixelFormat::Nv12, *b"NV12"),
    (PixelFormat::Nv12M, *b"NM12"),
    (Planar(Chroma::Full), *b"444P"),
    (PlanarM(Chroma::Full), *b"YM24"),
    (Planar(Chroma::Half), *b"422P"),
    (PlanarM(Chroma::Half), *b"YM16"),
    (Planar(Chroma::Quarter), *b"YU12"),
    (PlanarM(Chroma::Quarter), *b"YM12"),
    (PixelFormat::Mjpeg, *b"MJPG"),
    (PixelFormat::Mjpeg, *b"JPEG"),
    (Bayer(Rggb, Bits12), *b"RG12"),
    (Bayer(Grbg, Bits12), *b"BA12"),
    (Bayer(Gbrg, Bits12), *b"GB12"),
    (Bayer(Bggr, Bits12), *b"BG12"),
    (Bayer(Rggb, Packed12), *b"pRCC"),
    (Bayer(Grbg, Packed12), *b"pgCC"),
    (Bayer(Gbrg, Packed12), *b"pGCC"),
    (Bayer(Bggr, Packed12), *b"pBCC"),
    (Bayer(Rggb, Bits10), *b"RG10"),
    (Bayer(Grbg, Bits10), *b"BA10"),
    (Bayer(Gbrg, Bits10), *b"GB10"),
    (Bayer(Bggr, Bits10), *b"BG10"),
    (Bayer(Rggb, Packed10), *b"pRAA"),
    (Bayer(Grbg, Packed10), *b"pgAA"),
    (Bayer(Gbrg, Packed10), *b"pGAA"),
    (Bayer(Bggr, Packed10), *b"pBAA"),
    (Bayer(Rggb, Bits16), *b"RG16"),
    (Bayer(Grbg, Bits16), *b"GR16"),
    (Bayer(Gbrg, Bits16), *b"GB16"),
    (Bayer(Bggr, Bits16), *b"BYR2"),
    (Bayer(Rggb, Bits8), *b"RGGB"),
    (Bayer(Grbg, Bits8), *b"GRBG"),
    (Bayer(Gbrg, Bits8), *b"GBRG"),
    (Bayer(Bggr, Bits8), *b"BA81"),
    (Grey(Bits8), *b"GREY"),
    (Grey(Bits10), *b"Y10 "),
    (Grey(Bits12), *b"Y12 "),
    (Grey(Bits16), *b"Y16 "),
];

impl PixelFormat {
    /// All formats, in the order in which they are chosen where the settings name none.
    pub fn all() -> impl Iterator<Item = PixelFormat> {
        // MJPEG has two codes.
        CODES
            .iter()
            .filter(|(_, code)| code != b"JPEG")
            .map(|&(format, _)| format)
    }

    /// The format with this code, if it is read here.
    pub fn from_fourcc(code: [u8; 4]) -> Option<Self> {
        let known = CODES.iter().find(|(_, known)| *known == code);
        known.map(|&(format, _)| format)
    }

    /// The V4L2 code of the format.
    pub fn fourcc(self) -> [u8; 4] {
        // Every format is in the table: `codes_are_complete_and_different` counts them.
        let known = CODES.iter().find(|(format, _)| *format == self);
        known.map_or(*b"????", |&(_, code)| code)
    }

    /// Pixels across and down that share one sample of colour.
    pub(super) fn shared(self) -> (u32, u32) {
        match self {
            PixelFormat::Yuyv | PixelFormat::Uyvy => (2, 1),
            PixelFormat::Nv12 | PixelFormat::Nv12M => (2, 2),
            PixelFormat::Planar(chroma) | PixelFormat::PlanarM(chroma) => match chroma {
                Chroma::Quarter => (2, 2),
                Chroma::Half => (2, 1),
                Chroma::Full => (1, 1),
            },
            _ => (1, 1),
        }
    }

    /// In how many pieces of memory a frame comes: 1 to 3.
    pub fn memories(self) -> usize {
        match self {
            PixelFormat::Nv12M => 2,
            PixelFormat::PlanarM(_) => 3,
            _ => 1,
        }
    }

    /// Whether black level, white balance and sample shift mean anything.
    pub fn is_bayer(self) -> bool {
        matches!(self, PixelFormat::Bayer(..))
    }
}

impl FromStr for PixelFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut code = [b' '; 4];
        if text.len() <= 4 {
            code[..text.len()].copy_from_slice(text.as_bytes());
        }
        PixelFormat::from_fourcc(code).ok_or_else(|| {
            let all: Vec<_> = PixelFormat::all().map(|f| f.to_string()).collect();
            format!(
                "{text}: no pixel format that is read here; those are {}",
                all.join(" ")
            )
        })
    }
}

impl TryFrom<String> for PixelFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.fourcc()).trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_complete_and_different() {
        let orders = [Bggr, Gbrg, Grbg, Rggb];
        let samples = [Bits8, Bits10, Bits12, Bits16, Packed10, Packed12];
        let mut expected = vec![
            PixelFormat::Rgb24,
            PixelFormat::Bgr24,
            PixelFormat::Yuyv,
            PixelFormat::Uyvy,
            PixelFormat::Nv12,
            PixelFormat::Nv12M,
            PixelFormat::Mjpeg,
        ];
        let chromas = [Chroma::Full, Chroma::Half, Chroma::Quarter];
        expected.extend(chromas.iter().flat_map(|&c| [Planar(c), PlanarM(c)]));
        expected.extend(samples[..4].iter().map(|&s| Grey(s)));
        expected.extend(orders.iter().flat_map(|&o| samples.map(|s| Bayer(o, s))));
        for &format in &expected {
            assert_eq!(PixelFormat::from_fourcc(format.fourcc()), Some(format));
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!(PixelFormat::all().count(), expected.len());
        assert_eq!("Y10".parse(), Ok(Grey(Bits10)));
        assert!("H264".parse::<PixelFormat>().unwrap_err().contains("YUYV"));
        assert!("YUYV2".parse::<PixelFormat>().is_err());
        assert!("é".parse::<PixelFormat>().is_err());
    }
}
