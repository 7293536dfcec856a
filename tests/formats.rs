//! Pixel formats against what OpenCV and FFmpeg make of the same bytes (`formats/make.py`), and against
//! nonsense.

use faprompt_edge::capture::format::{
    Chroma, Converter, Development, FormatError, Layout, Matrix, PixelFormat, Range, Roi, Samples,
};
use image::RgbImage;
use proptest::prelude::*;
use std::path::Path;

const WIDTH: u32 = 46;
const HEIGHT: u32 = 32;
/// Bytes between the rows of the fixtures.
const GAP: usize = 10;

fn fixture(name: &str) -> (Vec<u8>, RgbImage) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let raw = std::fs::read(folder.join(format!("{name}.raw"))).unwrap();
    let reference = image::open(folder.join(format!("{name}.png"))).unwrap();
    (raw, reference.into_rgb8())
}

fn layout(format: PixelFormat) -> Layout {
    let mut layout = Layout::packed(format, WIDTH, HEIGHT);
    if format != PixelFormat::Mjpeg {
        layout.stride += GAP;
    }
    if format.memories() > 1 {
        layout.chroma_stride += GAP;
    }
    layout
}

/// The pieces of memory of a frame whose planes stand one behind the other: each with whole rows.
fn memories<'a>(layout: &Layout, raw: &'a [u8]) -> Vec<&'a [u8]> {
    let rows = |size: usize, stride: usize| size.div_ceil(stride.max(1)) * stride;
    let mut rest = raw;
    let [luma, others @ ..] = layout.sizes();
    let mut sizes = vec![rows(luma, layout.stride)];
    sizes.extend(others.map(|size| rows(size, layout.chroma_stride)));
    let last = layout.format.memories() - 1;
    let mut pieces = vec![];
    for size in &sizes[..last] {
        let (piece, behind) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}

fn convert(layout: Layout, roi: Option<Roi>, raw: &[u8]) -> RgbImage {
    let mut image = RgbImage::default();
    Converter::new(layout, roi, &Development::default())
        .unwrap()
        .convert_memories(&memories(&layout, raw), &mut image)
        .unwrap();
    image
}

/// The largest difference and the mean one. Bayer pictures without their outermost pixels, where OpenCV
/// repeats the neighbour and this project mirrors.
fn difference(format: PixelFormat, ours: &RgbImage, reference: &RgbImage) -> (u8, f64) {
    assert_eq!(ours.dimensions(), reference.dimensions());
    let border = u32::from(format.is_bayer());
    let inside =
        |x, y| (border..WIDTH - border).contains(&x) && (border..HEIGHT - border).contains(&y);
    let pixels = ours
        .enumerate_pixels()
        .filter(|&(x, y, _)| inside(x, y))
        .flat_map(|(x, y, pixel)| (0..3).map(move |c| (pixel[c], reference.get_pixel(x, y)[c])));
    let differences: Vec<u8> = pixels.map(|(a, b)| a.abs_diff(b)).collect();
    let sum: f64 = differences.iter().map(|&d| f64::from(d)).sum();
    let largest = differences.iter().max().copied().unwrap_or(0);
    (largest, sum / differences.len() as f64)
}

#[test]
fn every_format_agrees_with_opencv() {
    for format in PixelFormat::all() {
        let name = format.to_string();
        let (raw, reference) = fixture(&name);
        let (largest, mean) = difference(format, &convert(layout(format), None, &raw), &reference);
        let (most, mean_most) = match format {
            // Nothing to compute, or the same averages of the same bytes.
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => (0, 0.0),
            PixelFormat::Grey(Samples::Bits8) | PixelFormat::Bayer(_, Samples::Bits8) => (0, 0.0),
            // OpenCV has fixed-point factors of its own, and rounds where low bits are cut here.
            PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv12 | PixelFormat::Nv12M => {
                (1, 0.3)
            }
            PixelFormat::Planar(_) | PixelFormat::PlanarM(_) => (1, 0.3),
            PixelFormat::Grey(_) | PixelFormat::Bayer(..) => (1, 0.6),
            // Both decoders interpolate the halved chroma, by different filters: at colour edges single
            // pixels differ.
            PixelFormat::Mjpeg => (16, 0.5),
        };
        assert!(
            largest <= most && mean <= mean_most,
            "{name}: differs by up to {largest}, {mean:.3} on average"
        );
    }
}

#[test]
fn matrices_and_ranges_agree_with_ffmpeg() {
    for (name, matrix, range) in [
        ("NV12-709", Matrix::Bt709, Range::Limited),
        ("NV12-full", Matrix::Bt601, Range::Full),
        ("NV12-709-full", Matrix::Bt709, Range::Full),
    ] {
        let (raw, reference) = fixture(name);
        let mut layout = layout(PixelFormat::Nv12);
        (layout.matrix, layout.range) = (matrix, range);
        let (largest, _) = difference(layout.format, &convert(layout, None, &raw), &reference);
        // swscale looks channels up in tables, with errors of up to two steps each.
        assert!(largest <= 3, "{name}: differs by up to {largest}");
        let other = convert(self::layout(PixelFormat::Nv12), None, &raw);
        assert!(
            difference(layout.format, &other, &reference).0 > 4,
            "{name}"
        );
    }
}

#[test]
fn a_region_is_that_part_of_the_whole() {
    for format in PixelFormat::all() {
        let (raw, _) = fixture(&format.to_string());
        let whole = convert(layout(format), None, &raw);
        for (x, y, width, height) in [
            (0, 0, 7, 5),
            (12, 4, 33, 27),
            (44, 30, 2, 2),
            (0, 0, 46, 32),
        ] {
            let roi = Roi {
                x,
                y,
                width,
                height,
            };
            let part = image::imageops::crop_imm(&whole, x, y, width, height).to_image();
            assert!(
                convert(layout(format), Some(roi), &raw) == part,
                "{format} {roi:?}"
            );
        }
        // Where a pair shares its colour, a region cannot begin in its middle.
        let odd = Roi {
            x: 13,
            y: 3,
            width: 20,
            height: 20,
        };
        let result = Converter::new(layout(format), Some(odd), &Development::default());
        match format {
            PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv12 | PixelFormat::Nv12M => {
                assert!(matches!(result, Err(FormatError::Roi(_))));
            }
            PixelFormat::Planar(chroma) | PixelFormat::PlanarM(chroma)
                if chroma != Chroma::Full =>
            {
                assert!(matches!(result, Err(FormatError::Roi(_))));
            }
            _ => {
                let part = image::imageops::crop_imm(&whole, 13, 3, 20, 20).to_image();
                assert!(convert(layout(format), Some(odd), &raw) == part, "{format}");
            }
        }
    }
}

#[test]
fn samples_in_the_high_bits_are_shifted_down() {
    // As Jetson Xavier and its successors store them: the top bits repeated below.
    for (name, shift) in [("RG10", 6), ("BG12", 4)] {
        let (raw, _) = fixture(name);
        let layout = layout(name.parse().unwrap());
        let high: Vec<u8> = raw
            .as_chunks()
            .0
            .iter()
            .map(|&word| u16::from_le_bytes(word))
            .flat_map(|sample| (sample << shift | sample >> (16 - 2 * shift)).to_le_bytes())
            .collect();
        let development = Development {
            sample_shift: shift,
            ..Development::default()
        };
        let mut image = RgbImage::default();
        Converter::new(layout, None, &development)
            .unwrap()
            .convert(&high, &mut image)
            .unwrap();
        assert!(image == convert(layout, None, &raw), "{name}");
    }
}

#[test]
fn a_jpeg_that_is_cut_anywhere_is_an_error() {
    let (raw, _) = fixture("MJPG");
    let mut converter =
        Converter::new(layout(PixelFormat::Mjpeg), None, &Development::default()).unwrap();
    let mut image = RgbImage::from_pixel(WIDTH, HEIGHT, image::Rgb([9; 3]));
    for length in 0..raw.len() {
        assert!(
            converter.convert(&raw[..length], &mut image).is_err(),
            "{length}"
        );
        assert!(image.iter().all(|&value| value == 0));
    }
    // Padding is none of the picture's business, another size is.
    let padded = [raw.as_slice(), &[0; 700]].concat();
    converter.convert(&padded, &mut image).unwrap();
    let other = Layout::packed(PixelFormat::Mjpeg, WIDTH, HEIGHT + 2);
    let result = Converter::new(other, None, &Development::default())
        .unwrap()
        .convert(&raw, &mut image);
    assert!(
        matches!(result, Err(FormatError::Size { .. })),
        "{result:?}"
    );
}

#[test]
fn a_jpeg_without_huffman_tables_has_the_standard_ones() {
    // Many USB cameras leave them out, as AVI's MJPG does.
    let (raw, _) = fixture("MJPG");
    let (mut bare, mut at) = (raw[..2].to_vec(), 2);
    while raw[at + 1] != 0xda {
        let length = 2 + usize::from(u16::from_be_bytes([raw[at + 2], raw[at + 3]]));
        if raw[at + 1] != 0xc4 {
            bare.extend(&raw[at..at + length]);
        }
        at += length;
    }
    bare.extend(&raw[at..]);
    assert!(bare.len() + 400 < raw.len());
    let layout = layout(PixelFormat::Mjpeg);
    assert!(convert(layout, None, &bare) == convert(layout, None, &raw));
}

#[test]
fn nothing_is_allocated_once_the_first_frame_is_through() {
    for format in PixelFormat::all().filter(|&f| f != PixelFormat::Mjpeg) {
        let (raw, _) = fixture(&format.to_string());
        let roi = Roi {
            x: 2,
            y: 2,
            width: 40,
            height: 21,
        };
        let mut converter =
            Converter::new(layout(format), Some(roi), &Development::default()).unwrap();
        let mut image = RgbImage::default();
        let pieces = memories(&layout(format), &raw);
        converter.convert_memories(&pieces, &mut image).unwrap();
        let counts = allocation_counter::measure(|| {
            converter.convert_memories(&pieces, &mut image).unwrap();
            converter.convert(&raw[..9], &mut image).unwrap_err();
        });
        assert_eq!(counts.count_total, 0, "{format}");
    }
}

fn formats() -> impl Strategy<Value = PixelFormat> {
    prop::sample::select(PixelFormat::all().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a driver claims and delivers: no panic, and a picture exactly if all its bytes are there.
    #[test]
    fn nonsense_never_panics_and_short_frames_are_errors(
        format in formats(),
        (width, height) in (0u32..70, 0u32..40),
        gap in prop_oneof![Just(0i64), -9i64..40, Just(i64::MAX / 2)],
        chroma_gap in prop_oneof![Just(0i64), -9i64..40, Just(i64::MAX / 2)],
        roi in prop::option::of((0u32..70, 0u32..40, prop_oneof![0u32..70, Just(u32::MAX)], 0u32..40)),
        (length, fill) in (-3i64..4, any::<u64>()),
        black_level in any::<u16>(),
        white_balance in prop::array::uniform3(any::<f32>()),
        sample_shift in any::<u8>(),
        full in any::<bool>(),
    ) {
        let mut layout = Layout::packed(format, width, height);
        layout.stride = layout.stride.saturating_add_signed(gap as isize);
        layout.chroma_stride = layout.chroma_stride.saturating_add_signed(chroma_gap as isize);
        layout.range = if full { Range::Full } else { Range::Limited };
        let roi = roi.map(|(x, y, width, height)| Roi { x, y, width, height });
        let development = Development { black_level, white_balance, sample_shift, srgb_curve: full };
        if let Ok(mut converter) = Converter::new(layout, roi, &development) {
            let length = layout.size().saturating_add_signed(length as isize);
            let mut frame: Vec<u8> = (0..length as u64).map(|i| (fill.rotate_left(i as u32 % 64) ^ i) as u8).collect();
            if format == PixelFormat::Mjpeg {
                // Headers worth reading.
                frame = fixture("MJPG").0;
                for i in 0..fill % 9 {
                    let at = (fill.rotate_right(7 * i as u32) as usize) % frame.len();
                    frame[at] = frame[at].wrapping_add((fill >> i) as u8);
                }
            }
            let mut image = RgbImage::from_pixel(3, 3, image::Rgb([7; 3]));
            // What is missing is missing in the last piece.
            let mut rest = frame.as_slice();
            let mut pieces = vec![];
            for size in &layout.sizes()[..format.memories() - 1] {
                let (piece, behind) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            let result = converter.convert_memories(&pieces, &mut image);
            prop_assert_eq!(image.dimensions(), converter.size());
            if format != PixelFormat::Mjpeg {
                prop_assert_eq!(result.is_ok(), length >= layout.size(), "{:?}", result);
            }
            prop_assert!(result.is_ok() || image.iter().all(|&value| value == 0));
        }
    }

    /// Bytes that only start and end as a JPEG does.
    #[test]
    fn random_jpegs_never_panic(mut middle in prop::collection::vec(any::<u8>(), 0..600)) {
        middle.splice(0..0, [0xff, 0xd8]);
        middle.extend([0xff, 0xd9]);
        let layout = Layout::packed(PixelFormat::Mjpeg, WIDTH, HEIGHT);
        let mut converter = Converter::new(layout, None, &Development::default()).unwrap();
        prop_assert!(converter.convert(&middle, &mut RgbImage::default()).is_err());
    }
}
