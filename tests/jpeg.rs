//! JPEG photos and frames: whole in every kind, damaged in every way, by one way for both.

use faprompt_edge::capture::format::{Converter, Development, FormatError, Layout, PixelFormat};
use faprompt_edge::capture::jpeg::{Checker, JpegError};
use faprompt_edge::capture::{CaptureError, load};
use image::RgbImage;
use std::ops::Range;
use std::path::PathBuf;

const WIDTH: u32 = 88;
const HEIGHT: u32 = 56;
/// Every kind that is read.
const WHOLE: [&str; 20] = [
    "444",
    "422",
    "420",
    "440",
    "411",
    "grey",
    "cmyk",
    "optimised",
    "fine",
    "coarse",
    "restart",
    "restart_rows",
    "progressive",
    "progressive_grey",
    "progressive_fine",
    "progressive_restart",
    "no_tables",
    "filled",
    "thumbnail",
    "scans",
];

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/photos");
    folder.join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(&format!("{name}.jpg"))).unwrap()
}

/// What the photo's way and the camera's say of the same bytes: the same, always.
fn both(data: &[u8]) -> Result<RgbImage, JpegError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), data).unwrap();
    let photo = match load(file.path()) {
        Ok(image) => Ok(image),
        Err(CaptureError::Jpeg { source, .. }) => Err(source),
        Err(e) => panic!("{e}"),
    };
    let (width, height) = photo.as_ref().map_or((WIDTH, HEIGHT), |i| i.dimensions());
    let layout = Layout::packed(PixelFormat::Mjpeg, width, height);
    let mut frame = RgbImage::default();
    let converted = Converter::new(layout, None, &Development::default())
        .unwrap()
        .convert(data, &mut frame);
    match (&photo, converted) {
        (Ok(photo), Ok(())) => assert!(*photo == frame),
        (Err(e), Err(FormatError::Jpeg(why))) => assert_eq!(e.to_string(), why),
        (photo, frame) => panic!("photo {:?}, frame {frame:?}", photo.as_ref().err()),
    }
    photo
}

/// Why these bytes are refused, as a person reads it.
fn refused(data: &[u8]) -> String {
    match both(data) {
        Ok(_) => String::from("whole"),
        Err(e) => e.to_string(),
    }
}

/// Where the codes of the first scan begin.
fn codes(data: &[u8]) -> usize {
    let mut at = 2;
    loop {
        while data[at + 1] == 0xff {
            at += 1;
        }
        let marker = data[at + 1];
        at += 2 + usize::from(u16::from_be_bytes([data[at + 2], data[at + 3]]));
        if marker == 0xda {
            return at;
        }
    }
}

/// Where restart markers, or the segments that begin with `wanted`, are behind the first scan's header.
fn markers(data: &[u8], wanted: Range<u8>) -> Vec<usize> {
    let found = |at: &usize| data[*at] == 0xff && wanted.contains(&data[at + 1]);
    (codes(data)..data.len() - 1).filter(found).collect()
}

const END: [u8; 2] = [0xff, 0xd9];

#[test]
fn every_kind_is_read_and_shows_its_picture() {
    let picture = image::open(path("picture.png")).unwrap().into_rgb8();
    let grey = image::DynamicImage::ImageRgb8(picture.clone()).into_luma8();
    for name in WHOLE {
        let image = both(&bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(image.dimensions(), (WIDTH, HEIGHT), "{name}");
        let is_grey = name.contains("grey") || name == "restart_rows";
        let wanted = picture.pixels().zip(grey.pixels());
        let sum: u64 = image
            .pixels()
            .zip(wanted)
            .flat_map(|(p, (rgb, grey))| {
                (0..3).map(move |c| (p[c], if is_grey { grey[0] } else { rgb[c] }))
            })
            .map(|(a, b)| u64::from(a.abs_diff(b)))
            .sum();
        let mean = sum as f64 / f64::from(3 * WIDTH * HEIGHT);
        let most = match name {
            "coarse" => 25.0,
            "fine" | "progressive_fine" => 1.5,
            // Detail is lost, and chroma is halved once or twice.
            _ => 9.0,
        };
        assert!(mean < most, "{name}: differs by {mean:.2} on average");
    }
}

#[test]
fn kinds_that_are_not_read_say_so() {
    for (name, why) in [
        ("arithmetic", "arithmetic coding"),
        ("lossless", "lossless coding"),
        ("hierarchical", "hierarchical coding"),
        ("twelve_bits", "12 bits per sample"),
        ("height_behind", "its height stands behind the scan"),
    ] {
        let said = refused(&bytes(name));
        assert!(
            said.starts_with(why) && said.contains("not read here"),
            "{name}: {said}"
        );
    }
}

#[test]
fn what_stands_behind_the_end_does_not_matter() {
    let data = bytes("420");
    let other = bytes("progressive");
    let picture = both(&data).unwrap();
    for behind in [
        vec![0; 512],
        vec![0xff; 64],
        b"\r\n\n".to_vec(),
        END.to_vec(),
        other.clone(),
        // A film, whose own markers look like a scan's.
        [
            b"....ftypmp42".as_slice(),
            &[0xff, 0xda, 0, 1, 2, 3, 0xff],
            &other[700..],
        ]
        .concat(),
    ] {
        let file = [data.as_slice(), &behind].concat();
        assert!(both(&file).unwrap() == picture);
    }
    // Before the start marker there is nothing.
    let late = [&[0], data.as_slice()].concat();
    let mut checker = Checker::default();
    let why = checker.check(&late).unwrap_err().to_string();
    assert!(why.contains("no start marker"), "{why}");
}

#[test]
fn a_picture_that_lost_its_end_is_refused_wherever_it_was_cut() {
    for name in WHOLE {
        let data = bytes(name);
        let start = codes(&data);
        // What only fills in front of the end marker may be missing.
        let end = data.len() - if name == "filled" { 6 } else { 3 };
        // With the end marker put behind what is left, as a driver does that lost a packet.
        for cut in start..end {
            let left = &data[..cut];
            let mut checker = Checker::default();
            assert!(checker.check(left).is_err(), "{name} cut at {cut}");
            let closed = [left, &END].concat();
            assert!(checker.check(&closed).is_err(), "{name} closed at {cut}");
        }
        for share in [4, 2] {
            let cut = start + (data.len() - start) / share;
            let why = refused(&[&data[..cut], &END].concat());
            assert!(why.starts_with("damaged: "), "{name}: {why}");
        }
    }
}

#[test]
fn bytes_that_are_missing_or_filled_up_inside_are_found() {
    for name in WHOLE {
        let data = bytes(name);
        let (start, end) = (codes(&data), data.len() - 2);
        let codes = end - start;
        for part in 0..8 {
            let at = start + codes * part / 9;
            let lost = (codes / 4).min(end - at - 8);
            let cut = [&data[..at], &data[at + lost..]].concat();
            assert_ne!(
                refused(&cut),
                "whole",
                "{name}: {lost} bytes cut out at {at}"
            );
            for fill in [0, 0x55, 0x80, 0xff] {
                let mut filled = data.clone();
                filled[at..at + lost].fill(fill);
                assert_ne!(
                    refused(&filled),
                    "whole",
                    "{name}: {lost} bytes of {fill} at {at}"
                );
            }
        }
    }
}

#[test]
fn restart_intervals_must_come_in_their_order() {
    for name in ["restart", "restart_rows", "progressive_restart"] {
        let data = bytes(name);
        let at = markers(&data, 0xd0..0xd8);
        assert!(at.len() > 4);
        // One is lost, with the marker in front of it or behind it.
        let lost = [&data[..at[1]], &data[at[2]..]].concat();
        assert!(refused(&lost).contains("restart"), "{}", refused(&lost));
        // Two changed places, with their markers.
        let swapped = [
            &data[..at[0]],
            &data[at[1]..at[2]],
            &data[at[0]..at[1]],
            &data[at[2]..],
        ]
        .concat();
        assert!(
            refused(&swapped).contains("restart"),
            "{}",
            refused(&swapped)
        );
        // Another number; none at all; an end in the middle.
        let mut other = data.clone();
        other[at[2] + 1] ^= 4;
        assert!(refused(&other).contains("restart"), "{}", refused(&other));
        let none = [&data[..at[1]], &data[at[1] + 2..]].concat();
        assert!(refused(&none).contains("damaged"), "{}", refused(&none));
        let ended = [&data[..at[1]], &END].concat();
        assert!(
            refused(&ended).contains("the scan ends behind MCU"),
            "{}",
            refused(&ended)
        );
        // An interval without a byte.
        let empty = [&data[..at[1] + 2], &data[at[2]..]].concat();
        assert!(
            refused(&empty).contains("the data end in MCU"),
            "{}",
            refused(&empty)
        );
        // Bytes too many; some encoders fill up to whole words.
        let more = [&data[..at[1]], &[0x12; 20], &data[at[1]..]].concat();
        assert!(
            refused(&more).contains("20 bytes too many"),
            "{}",
            refused(&more)
        );
        let word = [&data[..at[1]], &[0x12, 0x34], &data[at[1]..]].concat();
        assert!(both(&word).unwrap() == both(&data).unwrap());
        // Filled up before the marker: none of the picture's business.
        let filled = [&data[..at[1]], &[0xff, 0xff], &data[at[1]..]].concat();
        assert!(both(&filled).unwrap() == both(&data).unwrap());
    }
}

#[test]
fn a_progressive_picture_has_all_its_scans() {
    let data = bytes("progressive");
    // A scan with the tables in front of it ends where the next ones begin.
    let tables = markers(&data, 0xc4..0xc5);
    let scans = markers(&data, 0xda..0xdb);
    assert!(tables.len() > 4 && scans.len() > 6);
    for cut in &tables {
        let closed = [&data[..*cut], &END].concat();
        assert!(
            refused(&closed).contains("a scan is missing"),
            "{}",
            refused(&closed)
        );
    }
    for (from, to) in tables.iter().zip(&tables[1..]) {
        let without = [&data[..*from], &data[*to..]].concat();
        assert_ne!(refused(&without), "whole");
    }
    let (a, b, c) = (tables[0], tables[1], *tables.last().unwrap());
    let last_first = [&data[..a], &data[c..data.len() - 2], &data[a..c], &END].concat();
    assert_ne!(refused(&last_first), "whole");
    let twice = [&data[..b], &data[a..]].concat();
    assert!(
        refused(&twice).contains("a scan that is not due"),
        "{}",
        refused(&twice)
    );
}

#[test]
fn headers_must_be_of_the_same_picture() {
    let data = bytes("420");
    let start = codes(&data);
    for other in [
        "444",
        "422",
        "grey",
        "optimised",
        "progressive",
        "restart",
        "scans",
    ] {
        let other = bytes(other);
        let mixed = [&other[..codes(&other)], &data[start..]].concat();
        assert_ne!(refused(&mixed), "whole");
    }
    // Of another size, in the frame header: 17 bytes from its marker.
    let frame = (2..start)
        .find(|&i| data[i] == 0xff && data[i + 1] == 0xc0)
        .unwrap();
    for (at, value) in [
        (frame + 6, 40),
        (frame + 8, 60),
        (frame + 8, 104),
        (frame + 11, 0x11),
        (frame + 9, 1),
    ] {
        let mut changed = data.clone();
        changed[at] = value;
        assert_ne!(refused(&changed), "whole", "{value} at {at}");
    }
    for (what, marker) in [("a quantisation table", 0xdb), ("a Huffman table", 0xc4)] {
        let at = (2..start)
            .find(|&i| data[i] == 0xff && data[i + 1] == marker)
            .unwrap();
        let length = 2 + usize::from(u16::from_be_bytes([data[at + 2], data[at + 3]]));
        let without = [&data[..at], &data[at + length..]].concat();
        assert!(refused(&without).contains(what), "{}", refused(&without));
        let mut zeros = data.clone();
        zeros[at + 5..at + length].fill(0);
        assert_ne!(refused(&zeros), "whole", "{what} of zeros");
    }
}

/// Beside 60 bytes of a flipped byte each: whatever comes out has its size, and nothing panics.
#[test]
fn a_flipped_byte_is_found_or_leaves_a_picture_of_the_same_size() {
    let mut unseen = 0;
    for name in WHOLE {
        let data = bytes(name);
        let start = codes(&data);
        for i in 0..60 {
            let at = start + (data.len() - 2 - start) * i / 60;
            let mut flipped = data.clone();
            flipped[at] ^= 1 << (i % 8);
            if let Ok(image) = both(&flipped) {
                assert_eq!(image.dimensions(), (WIDTH, HEIGHT), "{name} at {at}");
                unseen += 1;
            }
        }
    }
    // One code became another: nobody can see that. It is not the rule.
    assert!((1..=800).contains(&unseen), "{unseen} of 1200");
}
