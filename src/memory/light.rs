//! Checks that light and focus are still those of teaching: brightness and sharpness of a frame against the range
//! of the good parts.
//!
//! A memory of good parts knows how they look in one light. A lamp that aged, a lens that was knocked or an exposure
//! that was changed makes every part look different, and what the memory then says of a part is not worth much.

use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most pixels that are looked at, across and down.
const COLUMNS: u32 = 256;
const ROWS: u32 = 128;
/// The longer of the two distances whose differences are compared, pixels.
const FAR: u32 = 4;

/// How bright and how sharp a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Light {
    /// The mean of the luma (BT.601), 0 to 255.
    pub brightness: f32,
    /// The energy of differences between neighbouring pixels, as a share of that between pixels 4 apart: 0 for a
    /// single colour, about 1 for noise. The more blurred, the smaller; brightness and contrast of the frame do
    /// not matter.
    pub sharpness: f32,
}

impl Light {
    /// Brightness and sharpness of a frame; both 0 if it has no pixels.
    pub fn of(image: &RgbImage) -> Light {
        let (width, height) = image.dimensions();
        // Steps are odd: what repeats itself every 8 pixels, as a JPEG's blocks, is met everywhere.
        let step = |length: u32, most: u32| (length / most).max(1) | 1;
        let (across, down) = (step(width, COLUMNS), step(height, ROWS));
        let stride = 3 * width as usize;
        let pixels = image.as_raw().as_chunks::<3>().0;
        let luma = |at: usize| {
            let [r, g, b] = pixels[at].map(i32::from);
            (77 * r + 150 * g + 29 * b) >> 8
        };
        let (mut sum, mut count, mut near, mut far) = (0u64, 0u64, 0u64, 0u64);
        let squared = |a: i32, b: i32| ((a - b) * (a - b)) as u64;
        for y in (0..height).step_by(down as usize) {
            let row = y as usize * stride / 3;
            // At the edge the last pixel stands for those behind it.
            let below = |by: u32| ((y + by).min(height - 1) - y) as usize * stride / 3;
            let (below_near, below_far) = (below(1), below(FAR));
            for x in (0..width).step_by(across as usize) {
                let at = row + x as usize;
                let beside = |by: u32| ((x + by).min(width - 1) - x) as usize;
                let here = luma(at);
                sum += here as u64;
                count += 1;
                near += squared(here, luma(at + beside(1))) + squared(here, luma(at + below_near));
                far += squared(here, luma(at + beside(FAR))) + squared(here, luma(at + below_far));
            }
        }
        let share = |part: u64, of: u64| match of {
            0 => 0.0,
            of => part as f32 / of as f32,
        };
        Light {
            brightness: share(sum, count),
            sharpness: share(near, far),
        }
    }

    /// Whether both are values that a frame can have.
    pub(super) fn is_sound(&self) -> bool {
        (0.0..=255.0).contains(&self.brightness)
            && self.sharpness.is_finite()
            && self.sharpness >= 0.0
    }
}

/// A range of values, its ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest value that was seen.
    pub least: f32,
    /// The largest value that was seen.
    pub most: f32,
}

impl Range {
    fn with(self, value: f32) -> Range {
        Range {
            least: self.least.min(value),
            most: self.most.max(value),
        }
    }

    /// Whether a value lies outside by more than this many percent of the nearer end; never if there is no limit.
    fn is_left(self, value: f32, percent: Option<u32>) -> bool {
        percent.is_some_and(|percent| {
            let share = percent as f32 / 100.0;
            let inside = value >= self.least * (1.0 - share) && value <= self.most * (1.0 + share);
            !inside
        })
    }
}

/// The range of light of the good parts that were taught.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaughtLight {
    /// Range of [`Light::brightness`].
    pub brightness: Range,
    /// Range of [`Light::sharpness`].
    pub sharpness: Range,
}

/// How far outside of the taught range a frame may lie, percent of the nearer end. `None`: any distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LightLimits {
    /// Limit for brightness, percent.
    pub brightness: Option<u32>,
    /// Limit for sharpness, percent.
    pub sharpness: Option<u32>,
}

impl Default for LightLimits {
    /// What good parts of fixed cameras do not reach, taught by 16 others, and a lamp that lost a third of its light
    /// or a lens that is out of focus by two pixels mostly does.
    fn default() -> Self {
        LightLimits {
            brightness: Some(20),
            sharpness: Some(30),
        }
    }
}

/// The property in which a frame left the taught range of light.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LightFlaw {
    /// It is darker or brighter: its brightness, and the taught range.
    Brightness(f32, Range),
    /// It is blurred or noisy: its sharpness, and the taught range.
    Sharpness(f32, Range),
}

impl TaughtLight {
    /// The range of these; `None` if there are none.
    pub fn of(lights: impl IntoIterator<Item = Light>) -> Option<TaughtLight> {
        let single = |value| Range {
            least: value,
            most: value,
        };
        lights.into_iter().fold(None, |range, light| {
            let range = range.unwrap_or(TaughtLight {
                brightness: single(light.brightness),
                sharpness: single(light.sharpness),
            });
            Some(TaughtLight {
                brightness: range.brightness.with(light.brightness),
                sharpness: range.sharpness.with(light.sharpness),
            })
        })
    }

    /// Whether a frame lies outside of the taught range of light, and in what.
    pub fn flaw(&self, light: Light, limits: &LightLimits) -> Option<LightFlaw> {
        let TaughtLight {
            brightness,
            sharpness,
        } = *self;
        if brightness.is_left(light.brightness, limits.brightness) {
            Some(LightFlaw::Brightness(light.brightness, brightness))
        } else if sharpness.is_left(light.sharpness, limits.sharpness) {
            Some(LightFlaw::Sharpness(light.sharpness, sharpness))
        } else {
            None
        }
    }
}

impl fmt::Display for LightFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, value, range, digits) = match *self {
            LightFlaw::Brightness(value, range) => ("brightness", value, range, 0),
            LightFlaw::Sharpness(value, range) => ("sharpness", value, range, 3),
        };
        let way = match value < range.least {
            true => "below",
            false => "above",
        };
        let Range { least, most } = range;
        write!(
            f,
            "the light is not the taught one: {what} {value:.digits$} is {way} the {least:.digits$} to \
             {most:.digits$} of the taught parts"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Camera, PatternCamera};
    use image::imageops::fast_blur;
    use std::time::Duration;

    /// Parts of one line, with a sensor's noise.
    fn parts(count: usize) -> Vec<RgbImage> {
        let mut camera = PatternCamera::new(5);
        let mut random = 1u32;
        let mut next = || {
            let mut image = RgbImage::default();
            camera.capture(&mut image, Duration::ZERO).unwrap();
            for value in image.iter_mut() {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *value = value.saturating_add((random >> 24) as u8 % 5);
            }
            image
        };
        (0..count).map(|_| next()).collect()
    }

    fn times(image: &RgbImage, factor: f32) -> RgbImage {
        let mut other = image.clone();
        for value in other.iter_mut() {
            *value = (f32::from(*value) * factor) as u8;
        }
        other
    }

    #[test]
    fn a_lamp_that_faded_and_a_lens_out_of_focus_leave_the_range_and_good_parts_do_not() {
        let all = parts(40);
        let (taught, new) = all.split_at(16);
        let range = TaughtLight::of(taught.iter().map(Light::of)).unwrap();
        let limits = LightLimits::default();
        for image in new {
            let flaw = |image: &RgbImage| range.flaw(Light::of(image), &limits);
            assert_eq!(flaw(image), None);
            assert!(
                matches!(flaw(&times(image, 0.6)), Some(LightFlaw::Brightness(v, r)) if v < r.least)
            );
            assert!(
                matches!(flaw(&times(image, 1.5)), Some(LightFlaw::Brightness(v, r)) if v > r.most)
            );
            let blurred = flaw(&fast_blur(image, 2.0));
            assert!(matches!(blurred, Some(LightFlaw::Sharpness(v, r)) if v < r.least));
        }
    }

    #[test]
    fn limits_are_switched_off_one_by_one() {
        let light = |brightness, sharpness| Light {
            brightness,
            sharpness,
        };
        let range = TaughtLight::of([light(100.0, 0.2), light(120.0, 0.4)]).unwrap();
        let limits = |brightness, sharpness| LightLimits {
            brightness,
            sharpness,
        };
        let both = limits(Some(20), Some(30));
        for inside in [light(80.0, 0.14), light(144.0, 0.52), light(110.0, 0.3)] {
            assert_eq!(range.flaw(inside, &both), None);
        }
        let flaw = |light, limits| range.flaw(light, &limits).map(|flaw| flaw.to_string());
        let said = flaw(light(79.9, 0.3), both).unwrap();
        assert!(
            said.contains("brightness 80 is below the 100 to 120"),
            "{said}"
        );
        let said = flaw(light(110.0, 0.53), both).unwrap();
        assert!(
            said.contains("sharpness 0.530 is above the 0.200 to 0.400"),
            "{said}"
        );
        assert_eq!(flaw(light(10.0, 0.3), limits(None, Some(30))), None);
        assert_eq!(flaw(light(110.0, 0.01), limits(Some(20), None)), None);
        assert_eq!(TaughtLight::of([]), None);
    }

    #[test]
    fn what_is_measured_is_what_is_said() {
        let grey = RgbImage::from_pixel(640, 480, image::Rgb([100; 3]));
        let even = Light::of(&grey);
        assert_eq!((even.brightness, even.sharpness), (100.0, 0.0));
        let none = Light::of(&RgbImage::default());
        assert_eq!((none.brightness, none.sharpness), (0.0, 0.0));
        assert!(Light::of(&RgbImage::from_pixel(1, 1, image::Rgb([7; 3]))).is_sound());
        // A ramp: differences grow with the distance, so squares do by 16; but at the edge, which ends sooner.
        let ramp = RgbImage::from_fn(240, 120, |x, _| image::Rgb([x as u8; 3]));
        let light = Light::of(&ramp);
        assert!((light.brightness - 119.5).abs() < 0.5, "{light:?}");
        assert!((light.sharpness - 1.0 / 16.0).abs() < 0.002, "{light:?}");
        // Noise: as far from its neighbour as from any other. How bright does not matter.
        let mut random = 9u32;
        let noise = RgbImage::from_fn(300, 200, |_, _| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(random >> 24) as u8; 3])
        });
        let (whole, half) = (Light::of(&noise), Light::of(&times(&noise, 0.5)));
        assert!((whole.sharpness - 1.0).abs() < 0.05, "{whole:?}");
        assert!((whole.sharpness - half.sharpness).abs() < 0.02, "{half:?}");
        assert!((whole.brightness / half.brightness - 2.0).abs() < 0.05);
    }
}
