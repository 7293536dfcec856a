//! A generator of parts on a belt: turned metal discs with a bore, some of them defective.
//!
//! Deterministic by seed. It exercises the station; it is no test of a network's skill.

use super::format::resize;
use super::{Camera, CaptureError, Exposure, now_us};
use image::{Rgb, RgbImage};
use std::time::Duration;

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;
/// The share of parts that are defective, on average.
const DEFECT_RATE: f32 = 0.3;

/// A camera that generates one part after the other, without end.
pub struct PatternCamera {
    seed: u64,
    sequence: u64,
}

/// A number in 0..1 that depends on its arguments only (a 64-bit mix of Steele, Lea, Flood 2014).
fn hash(seed: u64, a: u64, b: u64) -> f32 {
    let mut z = seed ^ a.wrapping_mul(0x9e3779b97f4a7c15) ^ b.wrapping_mul(0xd1b54a32d192ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

/// The known frame, which every network is tested with: the first frame of the generator.
pub fn known_frame() -> RgbImage {
    let mut image = RgbImage::default();
    // The generator never fails; if it did, an empty frame would fail the judging.
    let _ = PatternCamera::new(1).capture(&mut image, Duration::ZERO);
    image
}

/// The kinds of defects that generated parts have.
#[derive(Clone, Copy)]
enum Defect {
    Scratch,
    Stain,
    Chip,
    Crack,
}

/// Distance of a point from the segment a-b.
fn to_segment(p: (f32, f32), a: (f32, f32), b: (f32, f32)) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let t = (((p.0 - a.0) * dx + (p.1 - a.1) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    (p.0 - a.0 - t * dx).hypot(p.1 - a.1 - t * dy)
}

impl PatternCamera {
    /// Generates the parts of this seed.
    pub fn new(seed: u64) -> Self {
        PatternCamera { seed, sequence: 0 }
    }

    /// The good parts of this seed with their names, without end.
    pub fn good_parts(seed: u64) -> impl Iterator<Item = (String, RgbImage)> {
        let mut camera = PatternCamera::new(seed);
        std::iter::repeat_with(move || {
            let mut image = RgbImage::default();
            // The generator never fails.
            let exposure = camera.capture(&mut image, Duration::ZERO).ok()?;
            (exposure.defective == Some(false)).then_some((exposure.name, image))
        })
        .flatten()
    }

    fn draw(&self, defect: Option<Defect>, image: &mut RgbImage) {
        let part = self
            .seed
            .wrapping_add(self.sequence.wrapping_mul(0x2545f4914f6cdd1d));
        let random = |i: u64| hash(part, 1, i);
        let (cx, cy) = (
            160.0 + 16.0 * (random(0) - 0.5),
            120.0 + 12.0 * (random(1) - 0.5),
        );
        let (outer, bore) = (88.0 + 3.0 * random(2), 22.0 + 1.5 * random(3));
        let light = std::f32::consts::TAU * random(4);
        // Where the defect sits: on the ring, away from both edges.
        let (angle, radius) = (std::f32::consts::TAU * random(5), 45.0 + 22.0 * random(6));
        let (dx, dy) = (cx + radius * angle.cos(), cy + radius * angle.sin());
        let (length, lean) = (22.0 + 24.0 * random(7), std::f32::consts::PI * random(8));
        let ends = [-0.5f32, -0.17, 0.17, 0.5].map(|t| {
            let bend = if matches!(defect, Some(Defect::Crack)) {
                9.0 * (hash(part, 2, (t * 100.0) as i64 as u64) - 0.5)
            } else {
                0.0
            };
            (
                dx + t * length * lean.cos() - bend * lean.sin(),
                dy + t * length * lean.sin() + bend * lean.cos(),
            )
        });
        let rim = (cx + outer * angle.cos(), cy + outer * angle.sin());
        let colour = |x: u32, y: u32| {
            let (fx, fy) = (x as f32, y as f32);
            let noise = 14.0 * (hash(part, u64::from(x), 7 + u64::from(y)) - 0.5);
            let (rx, ry) = (fx - cx, fy - cy);
            let r = rx.hypot(ry);
            let chipped =
                matches!(defect, Some(Defect::Chip)) && (fx - rim.0).hypot(fy - rim.1) < 13.0;
            if r > outer || r < bore || chipped {
                // The belt: dark rubber with a woven texture.
                let weave = if (x / 3 + y / 3).is_multiple_of(2) {
                    6.0
                } else {
                    0.0
                };
                let shadow = if r > outer && r < outer + 6.0 {
                    -10.0
                } else {
                    0.0
                };
                let v = 48.0 + weave + shadow + noise * 0.6;
                return Rgb([v as u8, v as u8, (v + 5.0) as u8]);
            }
            // Turned metal: grooves along the radius, two bright sectors opposite each other.
            let groove = 7.0 * (r * 1.9).sin();
            let glare = 34.0 * (2.0 * (ry.atan2(rx) - light)).cos();
            let edge = if outer - r < 3.0 || r - bore < 3.0 {
                -42.0
            } else {
                0.0
            };
            let mut v = 158.0 + groove + glare + edge + noise;
            let mut tint = [0.0f32; 3];
            let line = || {
                ends.windows(2)
                    .map(|e| to_segment((fx, fy), e[0], e[1]))
                    .fold(f32::MAX, f32::min)
            };
            match defect {
                Some(Defect::Scratch) if line() < 1.3 => v += 62.0,
                Some(Defect::Crack) if line() < 1.6 => v -= 95.0,
                Some(Defect::Stain) => {
                    let d = ((fx - dx) / 15.0).hypot((fy - dy) / 10.0);
                    let depth = (1.2 - d).clamp(0.0, 1.0);
                    tint = [-18.0 * depth, -48.0 * depth, -86.0 * depth];
                }
                _ => (),
            }
            Rgb([0, 1, 2].map(|c| (v + tint[c] + [0.0, 2.0, 6.0][c]).clamp(0.0, 255.0) as u8))
        };
        resize(image, WIDTH, HEIGHT);
        for (x, y, pixel) in image.enumerate_pixels_mut() {
            *pixel = colour(x, y);
        }
    }
}

impl Camera for PatternCamera {
    fn capture(&mut self, image: &mut RgbImage, _: Duration) -> Result<Exposure, CaptureError> {
        let draw = |i: u64| hash(self.seed, 99 + i, self.sequence);
        let kinds = [Defect::Scratch, Defect::Stain, Defect::Chip, Defect::Crack];
        let defect = (draw(0) < DEFECT_RATE).then(|| kinds[(draw(1) * 4.0) as usize % 4]);
        let name = match defect {
            None => format!("part-{:04}-good", self.sequence),
            Some(Defect::Scratch) => format!("part-{:04}-scratch", self.sequence),
            Some(Defect::Stain) => format!("part-{:04}-stain", self.sequence),
            Some(Defect::Chip) => format!("part-{:04}-chip", self.sequence),
            Some(Defect::Crack) => format!("part-{:04}-crack", self.sequence),
        };
        self.draw(defect, image);
        let sequence = self.sequence;
        self.sequence += 1;
        Ok(Exposure {
            sequence,
            at_us: now_us(),
            whole: true,
            missed: 0,
            name,
            defective: Some(defect.is_some()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(camera: &mut PatternCamera) -> (RgbImage, Exposure) {
        let mut image = RgbImage::default();
        let exposure = camera.capture(&mut image, Duration::ZERO).unwrap();
        (image, exposure)
    }

    #[test]
    fn the_same_seed_makes_the_same_parts_and_some_are_defective() {
        let take = |seed| -> Vec<(RgbImage, Exposure)> {
            let mut camera = PatternCamera::new(seed);
            (0..12).map(|_| next(&mut camera)).collect()
        };
        let (a, b, other) = (take(5), take(5), take(6));
        assert!(
            a.iter()
                .zip(&b)
                .all(|(a, b)| a.0 == b.0 && a.1.name == b.1.name)
        );
        assert!(a.iter().zip(&other).any(|(a, b)| a.0 != b.0));
        let mut good = PatternCamera::good_parts(5);
        for (image, exposure) in a.iter().filter(|(_, e)| e.defective == Some(false)) {
            assert_eq!(good.next(), Some((exposure.name.clone(), image.clone())));
        }
        let mut camera = PatternCamera::new(1);
        let defective = (0..200)
            .filter(|_| next(&mut camera).1.defective.unwrap())
            .count();
        assert!((40..80).contains(&defective), "{defective} of 200");
    }
}
