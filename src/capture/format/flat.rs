//! Lens shading: how much brighter the middle of a picture is than its corners, per colour, and the gains that
//! remove it.
//!
//! Measured on raw frames of an evenly lit grey surface (a flat frame), above black, averaged in cells so coarse
//! that neither noise nor dust is learned. The same frames give the white balance under that light.

use super::{BayerOrder, Development, Layout, PixelFormat, Roi, Samples};
use serde::{Deserialize, Serialize};

/// Number of cells across and down.
const CELLS: (usize, usize) = (32, 24);
/// Largest gain of a corner that is accepted: no usable lens needs more.
const MOST: f32 = 8.0;
/// Least share of the range above black, 0..=1, that the darkest cell must have: below it noise is measured.
const LEAST: f64 = 0.04;
/// Largest share of saturated samples, 0..=1.
const SATURATED: f64 = 0.001;
/// The gain 1 in fixed-point numbers.
const ONE: u32 = 1 << 10;

/// The gains that remove a lens's shading, by place and colour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flat {
    /// Width of the frames that it was measured on, pixels.
    pub width: u32,
    /// Height of those frames, pixels.
    pub height: u32,
    /// The gain of every cell, row by row, 32 in each of 24 rows; 1 where the picture is brightest.
    pub red: Vec<f32>,
    /// The same for green.
    pub green: Vec<f32>,
    /// The same for blue.
    pub blue: Vec<f32>,
}

/// Why the shading cannot be measured, or a file of it cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FlatError {
    /// The pixel format is not raw Bayer.
    #[error("{0} is no raw Bayer format: its camera corrects its lens itself, or not at all")]
    NotRaw(PixelFormat),
    /// The darkest cell has this share of the range above black, 0..=1, which is too small.
    #[error(
        "the frames are too dark: their darkest part is at {:.1} % of the range above black; more light, or a longer \
         exposure", 100.0 * .0
    )]
    Dark(f64),
    /// The share of saturated samples, 0..=1, is too large.
    #[error(
        "the frames are too bright: {:.1} % of the samples are saturated; less light, or a shorter exposure", 100.0 * .0
    )]
    Bright(f64),
    /// A corner would need this gain, which no lens needs.
    #[error(
        "a corner would need a gain of {0:.1}, more than {MOST}: is the surface lit evenly, does it fill the picture?"
    )]
    Steep(f32),
    /// It was measured on frames of another size.
    #[error("it was measured on frames of {} x {} pixels, these have {} x {}", was.0, was.1, is.0, is.1)]
    Size {
        /// Width and height of the frames that it was measured on, pixels.
        was: (u32, u32),
        /// Width and height of the frames now, pixels.
        is: (u32, u32),
    },
    /// The gains of a colour are too few, too many or out of range.
    #[error("{0} has not {n} gains from 1 to {MOST}", n = CELLS.0 * CELLS.1)]
    Gains(&'static str),
}

/// Sums up flat frames.
pub struct FlatFrames {
    layout: Layout,
    order: BayerOrder,
    samples: Samples,
    shift: u32,
    black: f64,
    /// For each colour and cell, the sum of its samples and their number.
    cells: [Vec<(u64, u64)>; 3],
    saturated: u64,
}

impl FlatFrames {
    /// Prepares for frames of this layout, developed in this way.
    ///
    /// # Errors
    /// [`FlatError::NotRaw`]: the layout is not raw Bayer.
    pub fn new(layout: Layout, development: &Development) -> Result<Self, FlatError> {
        let PixelFormat::Bayer(order, samples) = layout.format else {
            return Err(FlatError::NotRaw(layout.format));
        };
        let cells = vec![(0, 0); CELLS.0 * CELLS.1];
        Ok(FlatFrames {
            layout,
            order,
            samples,
            shift: development.shift(samples),
            black: f64::from(development.black_level),
            cells: [cells.clone(), cells.clone(), cells],
            saturated: 0,
        })
    }

    /// Adds a frame; one that is short is left out.
    pub fn add(&mut self, frame: &[u8]) {
        if frame.len() < self.layout.size() {
            return;
        }
        let (width, height) = (self.layout.width as usize, self.layout.height as usize);
        let (red_x, red_y) = self.order.red();
        let full = (1usize << self.samples.bits()) - 1;
        for y in 0..height {
            let row = &frame[y * self.layout.stride..];
            let cell_row = y * CELLS.1 / height * CELLS.0;
            for x in 0..width {
                let sample = self.samples.read(row, x) >> self.shift;
                let colour = match (x % 2 == red_x, y % 2 == red_y) {
                    (true, true) => 0,
                    (false, false) => 2,
                    _ => 1,
                };
                let cell = &mut self.cells[colour][cell_row + x * CELLS.0 / width];
                cell.0 += sample as u64;
                cell.1 += 1;
                self.saturated += u64::from(sample >= full);
            }
        }
    }

    /// The gains, and the white balance under this light: factors for red, green and blue.
    ///
    /// # Errors
    /// [`FlatError::Dark`], also if there was no frame, [`FlatError::Bright`], [`FlatError::Steep`].
    pub fn finish(&self) -> Result<(Flat, [f32; 3]), FlatError> {
        let range = f64::from((1u32 << self.samples.bits()) - 1) - self.black;
        let mean = |&(sum, count): &(u64, u64)| sum as f64 / count.max(1) as f64 - self.black;
        let means = self
            .cells
            .each_ref()
            .map(|cells| cells.iter().map(mean).collect::<Vec<f64>>());
        let darkest = means.iter().flatten().fold(f64::MAX, |a, b| a.min(*b)) / range;
        if darkest < LEAST {
            return Err(FlatError::Dark(darkest.max(0.0)));
        }
        let all: u64 = self.cells.iter().flatten().map(|(_, count)| count).sum();
        let saturated = self.saturated as f64 / all.max(1) as f64;
        if saturated > SATURATED {
            return Err(FlatError::Bright(saturated));
        }
        let brightest = means
            .each_ref()
            .map(|m| m.iter().fold(0.0f64, |a, b| a.max(*b)));
        let [red, green, blue] = [0, 1, 2].map(|colour| {
            let gain = |mean: &f64| (brightest[colour] / mean) as f32;
            means[colour].iter().map(gain).collect::<Vec<f32>>()
        });
        let steepest = [&red, &green, &blue].into_iter().flatten();
        let steepest = steepest.fold(0.0f32, |a, b| a.max(*b));
        if steepest > MOST {
            return Err(FlatError::Steep(steepest));
        }
        let balance = brightest.map(|level| (brightest[1] / level) as f32);
        let flat = Flat {
            width: self.layout.width,
            height: self.layout.height,
            red,
            green,
            blue,
        };
        Ok((flat, balance))
    }
}

impl Flat {
    /// Whether it can be applied to frames of this layout.
    ///
    /// # Errors
    /// [`FlatError::NotRaw`], [`FlatError::Size`], [`FlatError::Gains`].
    pub fn check(&self, layout: &Layout) -> Result<(), FlatError> {
        if !layout.format.is_bayer() {
            return Err(FlatError::NotRaw(layout.format));
        }
        let (was, is) = ((self.width, self.height), (layout.width, layout.height));
        if was != is {
            return Err(FlatError::Size { was, is });
        }
        let colours = [
            ("red", &self.red),
            ("green", &self.green),
            ("blue", &self.blue),
        ];
        for (name, gains) in colours {
            let right = |gain: &f32| (1.0..=MOST).contains(gain);
            if gains.len() != CELLS.0 * CELLS.1 || !gains.iter().all(right) {
                return Err(FlatError::Gains(name));
            }
        }
        Ok(())
    }
}

/// The gains of the pixels of a region and one row and column around it.
pub(super) struct Shading {
    /// Gains in 1/1024, row by row.
    gains: Vec<u16>,
    left: usize,
    top: usize,
    columns: usize,
    black: u32,
}

impl Shading {
    /// Interpolates the gains of a [`Flat`] that was checked.
    pub(super) fn new(
        flat: &Flat,
        order: BayerOrder,
        layout: &Layout,
        roi: &Roi,
        black: u16,
    ) -> Self {
        let (width, height) = (layout.width as usize, layout.height as usize);
        let around = |start: u32, length: u32, all: usize| {
            let first = (start as usize).saturating_sub(1);
            (
                first,
                (start as usize + length as usize + 1).min(all) - first,
            )
        };
        let (left, columns) = around(roi.x, roi.width, width);
        let (top, rows) = around(roi.y, roi.height, height);
        let (red_x, red_y) = order.red();
        let across: Vec<_> = (left..left + columns)
            .map(|x| between(x, width, CELLS.0))
            .collect();
        let mut gains = Vec::with_capacity(columns * rows);
        for y in top..top + rows {
            let (above, below, down) = between(y, height, CELLS.1);
            for (x, &(before, behind, right)) in (left..).zip(&across) {
                let colour = match (x % 2 == red_x, y % 2 == red_y) {
                    (true, true) => &flat.red,
                    (false, false) => &flat.blue,
                    _ => &flat.green,
                };
                let at = |row: usize| {
                    let [a, b] = [before, behind].map(|column| colour[row * CELLS.0 + column]);
                    a + right * (b - a)
                };
                let gain = at(above) + down * (at(below) - at(above));
                gains.push((gain * ONE as f32).round() as u16);
            }
        }
        Shading {
            gains,
            left,
            top,
            columns,
            black: black.into(),
        }
    }

    /// A row's gains, and the column at which they begin.
    pub(super) fn row(&self, y: usize) -> (&[u16], usize) {
        (
            &self.gains[(y - self.top) * self.columns..][..self.columns],
            self.left,
        )
    }

    /// A sample without the lens's shading, in the format's own steps.
    pub(super) fn lift(&self, sample: usize, gain: u16) -> usize {
        let above = (sample as u32).saturating_sub(self.black);
        (self.black + above * u32::from(gain) / ONE) as usize
    }
}

/// The two cells whose centres lie around a pixel, or nearest to it at the edge, and how far it is from the first
/// to the second one: there, up to half a cell before or beyond them.
fn between(pixel: usize, length: usize, cells: usize) -> (usize, usize, f32) {
    let place = (pixel as f32 + 0.5) * cells as f32 / length as f32 - 0.5;
    let first = (place.max(0.0) as usize).min(cells - 2);
    (first, first + 1, place - first as f32)
}

#[cfg(test)]
mod tests {
    use super::super::Converter;
    use super::*;
    use image::RgbImage;

    const SIZE: (u32, u32) = (160, 120);
    const BLACK: u16 = 60;

    fn layout() -> Layout {
        let format = PixelFormat::Bayer(BayerOrder::Grbg, Samples::Bits10);
        Layout::packed(format, SIZE.0, SIZE.1)
    }

    fn development() -> Development {
        Development {
            black_level: BLACK,
            ..Development::default()
        }
    }

    /// An evenly coloured surface behind a lens whose corners are darker, blue's most.
    fn frame(level: f64) -> Vec<u8> {
        let mut bytes = vec![];
        for y in 0..SIZE.1 {
            for x in 0..SIZE.0 {
                let off = |at: u32, size: u32| (f64::from(at) + 0.5) / f64::from(size) - 0.5;
                let far = off(x, SIZE.0).powi(2) + off(y, SIZE.1).powi(2);
                // GRBG: red is the second of an even row.
                let (colour, fall) = match (x % 2, y % 2) {
                    (1, 0) => (0.6, 0.8),
                    (0, 1) => (0.4, 1.1),
                    _ => (1.0, 0.9),
                };
                let value = f64::from(BLACK) + level * colour * (1.0 - fall * far);
                bytes.extend((value.round() as u16).to_le_bytes());
            }
        }
        bytes
    }

    fn measured(level: f64) -> Result<(Flat, [f32; 3]), FlatError> {
        let mut frames = FlatFrames::new(layout(), &development())?;
        frames.add(&frame(level));
        frames.add(&frame(level)[..9]);
        frames.finish()
    }

    #[test]
    fn a_flat_surface_is_flat_and_grey_afterwards_in_every_region() {
        let (flat, balance) = measured(700.0).unwrap();
        flat.check(&layout()).unwrap();
        assert!((balance[0] - 1.0 / 0.6).abs() < 0.02 && (balance[2] - 2.5).abs() < 0.03);
        assert_eq!(balance[1], 1.0);
        let corners = [flat.red[0], flat.green[0], flat.blue[0]];
        // 1 / (1 - fall / 2) at the very corner, a little less in the cell.
        assert!(
            corners[0] > 1.5 && corners[2] > 1.9 && corners[2] > corners[1],
            "{corners:?}"
        );
        let development = Development {
            white_balance: balance,
            ..development()
        };
        let spread = |flat: Option<&Flat>, roi: Option<Roi>| {
            let mut converter = Converter::new(layout(), roi, &development).unwrap();
            if let Some(flat) = flat {
                converter.correct(flat).unwrap();
            }
            let mut image = RgbImage::default();
            // A darker scene than the one that was measured.
            converter.convert(&frame(400.0), &mut image).unwrap();
            let (low, high) = (image.iter().min().unwrap(), image.iter().max().unwrap());
            (*low, *high)
        };
        let (low, high) = spread(None, None);
        assert!(high - low > 40, "{low} {high}");
        for roi in [
            None,
            Some(Roi {
                x: 0,
                y: 0,
                width: 30,
                height: 20,
            }),
            Some(Roi {
                x: 131,
                y: 91,
                width: 29,
                height: 29,
            }),
        ] {
            let (low, high) = spread(Some(&flat), roi);
            assert!(high - low <= 5, "{roi:?} {low} {high}");
        }
    }

    #[test]
    fn frames_that_cannot_be_measured_and_files_that_do_not_fit_are_refused() {
        assert!(matches!(measured(20.0), Err(FlatError::Dark(_))));
        assert!(matches!(measured(3000.0), Err(FlatError::Bright(_))));
        let none = FlatFrames::new(layout(), &development()).unwrap().finish();
        assert!(matches!(none, Err(FlatError::Dark(_))));
        let yuyv = Layout::packed(PixelFormat::Yuyv, 8, 8);
        assert!(matches!(
            FlatFrames::new(yuyv, &development()),
            Err(FlatError::NotRaw(_))
        ));
        let (flat, _) = measured(700.0).unwrap();
        let other = Layout::packed(layout().format, 64, 48);
        assert!(matches!(flat.check(&other), Err(FlatError::Size { .. })));
        assert!(matches!(flat.check(&yuyv), Err(FlatError::NotRaw(_))));
        for gain in [f32::NAN, 0.5, 9.0] {
            let mut flat = flat.clone();
            flat.blue[3] = gain;
            assert_eq!(flat.check(&layout()), Err(FlatError::Gains("blue")));
        }
        let mut short = flat.clone();
        short.red.pop();
        assert_eq!(short.check(&layout()), Err(FlatError::Gains("red")));
    }
}
