//! What it costs to know that a JPEG frame is whole, beside decoding it: `cargo bench --bench jpeg [-- FILE...]`.
//! Without files: frames of 1280 x 960 pixels in several qualities, and the kinds of `tests/photos`.

use faprompt_edge::capture::jpeg::Checker;
use faprompt_edge::capture::{Camera, PatternCamera};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{ExtendedColorType, RgbImage};
use std::path::Path;
use std::time::{Duration, Instant};

/// Rounds per picture; the quickest counts: whatever else the machine does only slows.
const ROUNDS: u32 = 15;

/// Seconds of the quickest of some rounds.
fn quickest(mut work: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::MAX, f64::min)
}

/// Checking and decoding one picture, seconds.
fn measure(name: &str, file: &[u8], checker: &mut Checker) -> (f64, f64) {
    let picture = match checker.check(file) {
        Ok(picture) => picture,
        Err(e) => {
            println!("{name}: {e}");
            return (0.0, 0.0);
        }
    };
    let mut pixels = vec![0; 3 * picture.width as usize * picture.height as usize];
    let mut scratch = vec![];
    let decoding = quickest(|| {
        picture
            .decode(&mut scratch, &mut pixels)
            .expect("a picture")
    });
    let checking = quickest(|| drop(checker.check(file)));
    println!(
        "{name:32} {:9} bytes  check {:8.3} ms  decode {:8.3} ms  {:5.1} %",
        file.len(),
        1e3 * checking,
        1e3 * decoding,
        100.0 * checking / decoding
    );
    (checking, decoding)
}

/// A frame as a camera's: enlarged, with a sensor's noise.
fn frame() -> RgbImage {
    let mut frame = RgbImage::default();
    let taken = PatternCamera::new(1).capture(&mut frame, Duration::ZERO);
    taken.expect("a generated part");
    let mut large = resize(&frame, 1280, 960, FilterType::CatmullRom);
    let mut random = 1u32;
    for value in large.iter_mut() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = value.saturating_add((random >> 24) as u8 % 7);
    }
    large
}

fn main() {
    let mut checker = Checker::default();
    let mut pictures = vec![];
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    for file in &named {
        pictures.push((file.clone(), std::fs::read(file).expect("a file")));
    }
    if named.is_empty() {
        let frame = frame();
        for quality in [50, 75, 90, 98] {
            let mut file = vec![];
            JpegEncoder::new_with_quality(&mut file, quality)
                .encode(
                    &frame,
                    frame.width(),
                    frame.height(),
                    ExtendedColorType::Rgb8,
                )
                .expect("an encoded frame");
            pictures.push((format!("1280 x 960, quality {quality}"), file));
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos");
        for name in ["420", "grey", "restart", "progressive", "progressive_fine"] {
            let file = std::fs::read(folder.join(format!("{name}.jpg"))).expect("a photo");
            pictures.push((name.into(), file));
        }
    }
    let (mut checking, mut decoding) = (0.0, 0.0);
    for (name, file) in &pictures {
        let (check, decode) = measure(name, file, &mut checker);
        checking += check;
        decoding += decode;
    }
    println!(
        "all: checking is {:.1} % of decoding",
        100.0 * checking / decoding
    );
}
