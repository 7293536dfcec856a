//! Further views in which a good part is taught: turned, darker, brighter.
//!
//! A part that may lie turned, or that the light will change on, is then compared with good ones that lie and shine
//! so (AnomalyDINO turns its references in steps of 45 degrees, SuperADD brightens its by 0.8 to 1.2).

use image::{Rgb, RgbImage};

/// Directions that a part is turned to, at most: steps of 10 degrees.
pub const MOST_ROTATIONS: u8 = 36;
/// How much darker and brighter a part is made, at most; percent.
pub const MOST_BRIGHTNESS: u8 = 50;

/// How a part is shown while it is taught. By default only as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Views {
    /// Learn each good part in so many directions (1 to 36), evenly over a full turn: for parts that may lie turned;
    /// takes as many times the time and the room
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_ROTATIONS)))]
    pub rotations: u8,
    /// Learn each good part by so many percent (0 to 50) darker and brighter too: for light that will change
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=i64::from(MOST_BRIGHTNESS)))]
    pub brightness: u8,
}

impl Default for Views {
    fn default() -> Views {
        Views {
            rotations: 1,
            brightness: 0,
        }
    }
}

impl Views {
    /// In how many views a part is learned, its own among them.
    pub fn count(self) -> usize {
        usize::from(self.rotations.max(1)) + if self.brightness > 0 { 2 } else { 0 }
    }

    /// The views beside the part's own: turned ones, then a darker and a brighter one.
    pub fn of(self, picture: &RgbImage) -> impl Iterator<Item = RgbImage> {
        let step = std::f32::consts::TAU / f32::from(self.rotations.max(1));
        let turns = (1..self.rotations).map(move |i| turned(picture, step * f32::from(i)));
        let change = f32::from(self.brightness) / 100.0;
        let factors = [1.0 - change, 1.0 + change].into_iter();
        let lit = factors.filter(move |_| change > 0.0);
        turns.chain(lit.map(move |factor| brightened(picture, factor)))
    }
}

/// Turns a picture about its middle by an angle in radians; what comes in from outside has the colour of its
/// border.
fn turned(picture: &RgbImage, angle: f32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (right, bottom) = ((width - 1) as f32, (height - 1) as f32);
    let (sin, cos) = angle.sin_cos();
    RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (x as f32 - 0.5 * right, y as f32 - 0.5 * bottom);
        let x = (0.5 * right + cos * dx + sin * dy).clamp(0.0, right);
        let y = (0.5 * bottom - sin * dx + cos * dy).clamp(0.0, bottom);
        let (left, top) = (x as u32, y as u32);
        let (next, below) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
        let (fx, fy) = (x - left as f32, y - top as f32);
        let corners = [
            (left, top, (1.0 - fx) * (1.0 - fy)),
            (next, top, fx * (1.0 - fy)),
            (left, below, (1.0 - fx) * fy),
            (next, below, fx * fy),
        ];
        Rgb(std::array::from_fn(|c| {
            let sum = corners.iter().map(|(x, y, share)| {
                let pixel = picture.get_pixel(*x, *y).0;
                share * f32::from(pixel[c])
            });
            (sum.sum::<f32>() + 0.5) as u8
        }))
    })
}

/// Multiplies the brightness of a picture by `factor`, up to white.
fn brightened(picture: &RgbImage, factor: f32) -> RgbImage {
    let mut out = picture.clone();
    out.iter_mut()
        .for_each(|v| *v = (f32::from(*v) * factor + 0.5) as u8);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_turned_about_its_middle_and_lit_otherwise() {
        // A picture whose pixels say where they are.
        let picture = RgbImage::from_fn(5, 5, |x, y| Rgb([40 * x as u8, 40 * y as u8, 200]));
        assert_eq!(Views::default().of(&picture).count(), 0);
        let views = Views {
            rotations: 4,
            brightness: 20,
        };
        let all: Vec<RgbImage> = views.of(&picture).collect();
        assert_eq!((all.len(), views.count()), (5, 6));
        // A quarter: what was at the right is where a turned picture has it.
        for (x, y) in [(0, 0), (4, 1), (2, 2), (1, 3)] {
            assert_eq!(
                all[0].get_pixel(x, y).0,
                [40 * y as u8, 40 * (4 - x) as u8, 200]
            );
            // Half a turn.
            let half = [40 * (4 - x) as u8, 40 * (4 - y) as u8, 200];
            assert_eq!(all[1].get_pixel(x, y).0, half);
        }
        assert_eq!(all[3].get_pixel(3, 2).0, [96, 64, 160]);
        assert_eq!(all[4].get_pixel(3, 2).0, [144, 96, 240]);
        let white = RgbImage::from_pixel(2, 3, Rgb([250; 3]));
        assert!(views.of(&white).all(|v| v.dimensions() == (2, 3)));
        assert_eq!(views.of(&white).last().unwrap().get_pixel(0, 0).0, [255; 3]);
    }
}
