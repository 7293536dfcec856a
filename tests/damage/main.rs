//! Ten thousand damaged photos of every format: each is an error or a picture; nothing panics, hangs or grows.

use faprompt_edge::capture::{MAX_PIXELS, load};
use std::path::Path;
use std::time::{Duration, Instant};

mod study;

/// A sequence of numbers that is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// Something that happens to bytes on their way.
fn damage(data: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(data.len());
    let some = 1 + random.below(40);
    let end = (at + some).min(data.len());
    match random.below(7) {
        0 => data[at] ^= 1 << random.below(8),
        1 => data[at] = random.below(256) as u8,
        2 => data[at..end].fill([0, 0xff, 0x55][random.below(3)]),
        3 => drop(data.drain(at..end)),
        4 => {
            let twice = data[at..end].to_vec();
            data.splice(at..at, twice);
        }
        5 => data.truncate(at),
        _ => {
            let to = random.below(data.len());
            data.swap(at, to);
        }
    }
}

/// Memory of this process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Damages photos, whose bytes these are, so often; how many are still pictures.
fn damage_all(photos: &[Vec<u8>], rounds: usize) -> usize {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("photo");
    let (mut random, mut shown, mut before) = (Random(11), 0, 0);
    for round in 0..rounds {
        let mut data = photos[round % photos.len()].clone();
        for _ in 0..1 + random.below(3) {
            if !data.is_empty() {
                damage(&mut data, &mut random);
            }
        }
        std::fs::write(&file, &data).unwrap();
        let start = Instant::now();
        if let Ok(photo) = load(&file) {
            assert!(u64::from(photo.width()) * u64::from(photo.height()) <= MAX_PIXELS);
            shown += 1;
        }
        let took = start.elapsed();
        assert!(took < Duration::from_secs(20), "one photo took {took:?}");
        if round == rounds / 5 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    shown
}

#[test]
fn ten_thousand_damaged_photos_are_errors_or_pictures() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|e| e != "py"));
    files.sort();
    let photos: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    let shown = damage_all(&photos, 10_000);
    // Some changes are of no consequence, or nobody can see them; not most.
    assert!(
        (100..6_000).contains(&shown),
        "{shown} of 10000 are pictures"
    );
}

#[test]
#[ignore = "wants PHOTOS: make damage"]
fn ten_thousand_damaged_photos_of_ones_own_are_errors_or_pictures() {
    let endings = [
        "jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "pgm", "ppm",
    ];
    let files = study::photos(&endings);
    let step = (files.len() / 500).max(1);
    let some = files.iter().step_by(step);
    let photos: Vec<Vec<u8>> = some.map(|file| std::fs::read(file).unwrap()).collect();
    let shown = damage_all(&photos, 10_000);
    println!(
        "{} photos, 10000 random damages: {shown} are still pictures",
        photos.len()
    );
}
