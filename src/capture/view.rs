//! Checks that a frame shows anything at all, and something new.
//!
//! A lamp that is off, a lens that is covered, an exposure that is far too long: such frames have no defect, and
//! would pass every part. A camera or driver that hangs delivers the same frame again and again; the noise of a
//! sensor makes two equal frames impossible.

use image::RgbImage;
use std::fmt;

/// Most cells in which brightness is averaged, across and down. Noise and hot pixels vanish in them.
const CELLS: u32 = 32;
/// Least width and height of a cell, pixels.
const CELL: u32 = 8;
/// Most pixels of a cell that are looked at, across and down.
const SAMPLES: u32 = 16;

/// How bright a frame is, in levels from 0 to 255: the averages of its darkest and its brightest cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Average of the darkest cell.
    pub darkest: f32,
    /// Average of the brightest cell.
    pub brightest: f32,
}

impl View {
    /// Brightness of a frame. One without pixels is black.
    pub fn of(image: &RgbImage) -> View {
        let (width, height) = image.dimensions();
        let columns = (width / CELL).clamp(1, CELLS);
        let rows = (height / CELL).clamp(1, CELLS);
        let (mut darkest, mut brightest) = (f32::MAX, 0f32);
        let edge = |i: u32, cells: u32, length: u32| {
            (u64::from(i) * u64::from(length) / u64::from(cells)) as u32
        };
        for row in 0..rows {
            let (top, bottom) = (edge(row, rows, height), edge(row + 1, rows, height));
            for column in 0..columns {
                let (left, right) = (
                    edge(column, columns, width),
                    edge(column + 1, columns, width),
                );
                let (mut sum, mut count) = (0u32, 0u32);
                for y in (top..bottom).step_by(((bottom - top) / SAMPLES).max(1) as usize) {
                    let start = 3 * (y as usize * width as usize + left as usize);
                    let cells = &image.as_raw()[start..start + 3 * (right - left) as usize];
                    let step = ((right - left) / SAMPLES).max(1) as usize;
                    for pixel in cells.as_chunks::<3>().0.iter().step_by(step) {
                        let [r, g, b] = pixel.map(u32::from);
                        // BT.601's luma, in 1/256.
                        sum += (77 * r + 150 * g + 29 * b) >> 8;
                        count += 1;
                    }
                }
                if count > 0 {
                    let mean = sum as f32 / count as f32;
                    darkest = darkest.min(mean);
                    brightest = brightest.max(mean);
                }
            }
        }
        View {
            darkest: darkest.min(brightest),
            brightest,
        }
    }

    /// Which of the limits it breaks, if any.
    pub fn flaw(self, limits: &ViewLimits) -> Option<ViewFlaw> {
        let View { darkest, brightest } = self;
        if brightest < f32::from(limits.bright) {
            Some(ViewFlaw::Dark(self))
        } else if darkest > f32::from(limits.dark) {
            Some(ViewFlaw::Glaring(self))
        } else if brightest - darkest < f32::from(limits.spread) {
            Some(ViewFlaw::Even(self))
        } else {
            None
        }
    }
}

/// Limits that a frame must keep, in levels from 0 to 255 of [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewLimits {
    /// The brightest cell must be brighter than the darkest by this much. 0: no limit.
    pub spread: u8,
    /// The brightest cell must be at least this bright. 0: no limit.
    pub bright: u8,
    /// The darkest cell may be this bright at most. 255: no limit.
    pub dark: u8,
}

impl Default for ViewLimits {
    /// Limits that black, saturated and one-coloured frames break, even with a sensor's noise, and that photos of
    /// parts keep by far.
    fn default() -> Self {
        ViewLimits {
            spread: 8,
            bright: 24,
            dark: 250,
        }
    }
}

/// Why a frame says nothing about the part in front of the camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ViewFlaw {
    /// All of it is dark.
    Dark(View),
    /// All of it is white.
    Glaring(View),
    /// All of it is equally bright.
    Even(View),
    /// This many frames in a row are equal.
    Frozen(u32),
}

impl fmt::Display for ViewFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, view) = match self {
            ViewFlaw::Frozen(count) => {
                return write!(f, "the camera is frozen: {count} equal frames in a row");
            }
            ViewFlaw::Dark(view) => ("it is dark", view),
            ViewFlaw::Glaring(view) => ("it is overexposed", view),
            ViewFlaw::Even(view) => ("it is of one brightness", view),
        };
        write!(
            f,
            "nothing can be seen: {what} (darkest part {:.0}, brightest {:.0} of 255)",
            view.darkest, view.brightest
        )
    }
}

/// Checks the frames of a camera, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Watchman {
    last: Option<u64>,
    /// How many frames in a row were equal so far.
    equal: u32,
}

impl Watchman {
    /// Checks the next frame. This many `identical` frames in a row mean a frozen camera; `None`: any number is
    /// allowed.
    pub fn look(
        &mut self,
        image: &RgbImage,
        limits: &ViewLimits,
        identical: Option<u32>,
    ) -> Option<ViewFlaw> {
        let print = Some(print(image));
        self.equal = match self.last == print {
            true => self.equal.saturating_add(1),
            false => 1,
        };
        self.last = print;
        // A dark frame of a camera without noise is dark, whatever else it is.
        View::of(image).flaw(limits).or_else(|| {
            let frozen = identical.is_some_and(|n| self.equal >= n);
            frozen.then_some(ViewFlaw::Frozen(self.equal))
        })
    }
}

/// A hash of all pixels, in which every bit counts, to compare pictures.
fn print(image: &RgbImage) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let (width, height) = image.dimensions();
    let (blocks, rest) = image.as_raw().as_chunks::<32>();
    // Four sums side by side: one alone would wait for each multiplication.
    let mut sums = [1, 2, 3, u64::from(width) << 32 | u64::from(height)];
    for block in blocks {
        for (sum, word) in sums.iter_mut().zip(block.as_chunks::<8>().0) {
            *sum = (*sum ^ u64::from_le_bytes(*word))
                .wrapping_mul(PRIME)
                .rotate_left(29);
        }
    }
    let all = rest.iter().map(|byte| u64::from(*byte)).chain(sums);
    all.fold(0, |sum, word| {
        (sum ^ word).wrapping_mul(PRIME).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::PatternCamera;
    use crate::capture::{Camera, known_frame};
    use image::Rgb;
    use std::time::Duration;

    /// A sensor's noise around a level, with some hot pixels.
    fn noise(level: i32, width: u32, height: u32, seed: u32) -> RgbImage {
        let mut random = seed;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as i32
        };
        RgbImage::from_fn(width, height, |_, _| {
            let value = level + (0..4).map(|_| next() % 11 - 5).sum::<i32>();
            let hot = next() == 0 && next() < 8;
            Rgb([if hot { 255 } else { value.clamp(0, 255) as u8 }; 3])
        })
    }

    fn flaw(image: &RgbImage) -> Option<ViewFlaw> {
        View::of(image).flaw(&ViewLimits::default())
    }

    #[test]
    fn a_frame_in_which_nothing_can_be_seen_is_reported() {
        for (width, height) in [(640, 480), (320, 240), (2592, 1944)] {
            for level in [0, 2, 10, 16] {
                let frame = noise(level, width, height, 7);
                assert!(matches!(flaw(&frame), Some(ViewFlaw::Dark(_))), "{level}");
            }
            assert!(matches!(
                flaw(&noise(128, width, height, 3)),
                Some(ViewFlaw::Even(_))
            ));
            assert!(matches!(
                flaw(&noise(270, width, height, 3)),
                Some(ViewFlaw::Glaring(_))
            ));
        }
        for colour in [[0, 0, 0], [255, 255, 255], [0, 0, 255], [90, 140, 20]] {
            for (width, height) in [(1, 1), (1, 5000), (3, 40), (640, 480), (0, 0)] {
                let frame = RgbImage::from_pixel(width, height, Rgb(colour));
                assert!(flaw(&frame).is_some(), "{colour:?} {width} x {height}");
            }
        }
    }

    #[test]
    fn frames_that_show_something_pass() {
        assert_eq!(flaw(&known_frame()), None);
        let mut camera = PatternCamera::new(3);
        let mut image = RgbImage::default();
        for _ in 0..20 {
            camera.capture(&mut image, Duration::ZERO).unwrap();
            assert_eq!(flaw(&image), None);
        }
        // Dark field: one small bright part on black.
        let mut frame = noise(2, 640, 480, 1);
        for (x, y) in (300..330).flat_map(|x| (200..225).map(move |y| (x, y))) {
            frame.put_pixel(x, y, Rgb([180; 3]));
        }
        assert_eq!(flaw(&frame), None);
        // Bright field: one small part on a background that is saturated.
        let mut frame = RgbImage::from_pixel(640, 480, Rgb([255; 3]));
        for (x, y) in (300..330).flat_map(|x| (200..225).map(move |y| (x, y))) {
            frame.put_pixel(x, y, Rgb([60; 3]));
        }
        assert_eq!(flaw(&frame), None);
    }

    #[test]
    fn limits_are_switched_off_one_by_one() {
        let off = ViewLimits {
            spread: 0,
            bright: 0,
            dark: 255,
        };
        for level in [0, 128, 255] {
            let frame = RgbImage::from_pixel(64, 64, Rgb([level; 3]));
            assert_eq!(View::of(&frame).flaw(&off), None);
        }
        let view = View::of(&RgbImage::from_pixel(64, 64, Rgb([100; 3])));
        assert_eq!((view.darkest, view.brightest), (100.0, 100.0));
    }

    #[test]
    fn a_frozen_camera_is_recognised_by_equal_frames() {
        let (a, mut b) = (known_frame(), known_frame());
        b.get_pixel_mut(5, 5)[1] ^= 1;
        let limits = ViewLimits::default();
        let mut watch = Watchman::default();
        let mut look = |image: &RgbImage, n| watch.look(image, &limits, Some(n));
        assert_eq!(look(&a, 2), None);
        assert_eq!(look(&b, 2), None);
        assert_eq!(look(&b, 2), Some(ViewFlaw::Frozen(2)));
        assert_eq!(look(&b, 4), None);
        assert_eq!(look(&b, 4), Some(ViewFlaw::Frozen(4)));
        assert_eq!(look(&a, 2), None);
        assert_eq!(watch.look(&a, &limits, None), None);
        // The same pixels in another shape, another last byte.
        let wide = RgbImage::from_pixel(8, 4, Rgb([7; 3]));
        let high = RgbImage::from_pixel(4, 8, Rgb([7; 3]));
        assert_ne!(print(&wide), print(&high));
        let mut last = wide.clone();
        last.get_pixel_mut(7, 3)[2] = 8;
        assert_ne!(print(&wide), print(&last));
    }
}
