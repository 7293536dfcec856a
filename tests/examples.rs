//! The examples do what they say.

#[allow(dead_code, reason = "`main` is for the command line")]
#[path = "../examples/eject.rs"]
mod eject;
#[allow(dead_code, reason = "`main` is for the command line")]
#[path = "../examples/judge.rs"]
mod judge;
#[allow(dead_code, reason = "`main` is for the command line")]
#[path = "../examples/teach.rs"]
mod teach;

use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::capture::known_frame;
use faprompt_edge::inspector::KNOWN_TOLERANCE;
use faprompt_edge::memory::LIMIT;
use image::{Rgb, RgbImage};
use std::path::Path;

const BUNDLE: &str = env!("DEFAULT_BUNDLE");

/// The known frame, `step` levels brighter.
fn part(step: u8) -> RgbImage {
    let mut frame = known_frame();
    for pixel in frame.pixels_mut() {
        pixel.0 = pixel.0.map(|v| v.saturating_add(step));
    }
    frame
}

#[test]
fn a_photo_gets_the_score_that_the_bundle_expects() {
    let folder = tempfile::tempdir().unwrap();
    let photo = folder.path().join("part.png");
    known_frame().save(&photo).unwrap();
    let bundle = Path::new(BUNDLE);
    let manifest = Bundle::open(bundle, &Keys::default()).unwrap();
    let (score, threshold) = judge::judge(bundle, &photo).unwrap();
    let known = manifest.manifest().known_score.unwrap();
    assert!((score - known).abs() < KNOWN_TOLERANCE, "{score}, {known}");
    assert_eq!(threshold, manifest.manifest().scores.threshold);
    let missing = judge::judge(bundle, Path::new("missing.jpg")).unwrap_err();
    assert!(missing.to_string().contains("missing.jpg"), "{missing}");
}

#[test]
fn what_was_taught_passes_and_a_damaged_part_does_not() {
    let folder = tempfile::tempdir().unwrap();
    for step in 0..8 {
        let photo = folder.path().join(format!("{step}.png"));
        part(step).save(photo).unwrap();
    }
    let mut inspector = teach::teach(Path::new(BUNDLE), folder.path()).unwrap();
    let good = inspector.inspect(&part(4)).unwrap().score;
    let mut damaged = part(4);
    let (width, height) = damaged.dimensions();
    for y in height / 3..height / 2 {
        for x in width / 3..width / 2 {
            damaged.put_pixel(x, y, Rgb([250, 20, 20]));
        }
    }
    let bad = inspector.inspect(&damaged).unwrap().score;
    assert!(good <= LIMIT && LIMIT < bad, "good {good}, damaged {bad}");
}

#[test]
fn a_simulated_output_is_switched_once() {
    assert_eq!(eject::eject("sim").unwrap(), Some(1));
    let unknown = eject::eject("toaster").unwrap_err().to_string();
    assert!(unknown.contains("toaster") && unknown.contains("sim"));
}
