//! How a camera's pictures are mirrored and turned, because of how it hangs above the belt.

use image::{RgbImage, imageops};
use serde::Deserialize;

/// A turn clockwise, in degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub enum Rotation {
    /// The picture is not turned.
    #[default]
    R0,
    /// A quarter turn clockwise.
    R90,
    /// Half a turn.
    R180,
    /// Three quarters of a turn clockwise.
    R270,
}

impl TryFrom<u16> for Rotation {
    type Error = String;

    fn try_from(degrees: u16) -> Result<Self, String> {
        match degrees {
            0 => Ok(Rotation::R0),
            90 => Ok(Rotation::R90),
            180 => Ok(Rotation::R180),
            270 => Ok(Rotation::R270),
            _ => Err(format!("{degrees}: a rotation is 0, 90, 180 or 270")),
        }
    }
}

/// What is done to a picture after conversion: first mirrored, then turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orientation {
    /// Left and right change places.
    pub flip_horizontal: bool,
    /// Top and bottom change places.
    pub flip_vertical: bool,
    /// By how much it is turned after that.
    pub rotate: Rotation,
}

impl Orientation {
    /// Turns `image`. `scratch` is memory that quarter turns need; it is kept between calls.
    pub fn apply(self, image: &mut RgbImage, scratch: &mut RgbImage) {
        if self.flip_horizontal {
            imageops::flip_horizontal_in_place(image);
        }
        if self.flip_vertical {
            imageops::flip_vertical_in_place(image);
        }
        let quarter = match self.rotate {
            Rotation::R0 => return,
            Rotation::R180 => return imageops::rotate180_in_place(image),
            Rotation::R90 => imageops::rotate90_in,
            Rotation::R270 => imageops::rotate270_in,
        };
        super::format::resize(scratch, image.height(), image.width());
        // Fails on a target of another size only.
        if quarter(image, scratch).is_ok() {
            std::mem::swap(image, scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn mirrors_first_then_turns() {
        // 0 1 2
        // 3 4 5
        let picture = RgbImage::from_fn(3, 2, |x, y| Rgb([(3 * y + x) as u8; 3]));
        let mut scratch = RgbImage::default();
        let mut after = |flip_horizontal, flip_vertical, degrees: u16| {
            let orientation = Orientation {
                flip_horizontal,
                flip_vertical,
                rotate: Rotation::try_from(degrees).unwrap(),
            };
            let mut image = picture.clone();
            orientation.apply(&mut image, &mut scratch);
            (
                image.width(),
                image.pixels().map(|p| p[0]).collect::<Vec<_>>(),
            )
        };
        assert_eq!(after(false, false, 0), (3, vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(after(true, false, 0), (3, vec![2, 1, 0, 5, 4, 3]));
        assert_eq!(after(false, true, 0), (3, vec![3, 4, 5, 0, 1, 2]));
        assert_eq!(after(false, false, 90), (2, vec![3, 0, 4, 1, 5, 2]));
        assert_eq!(after(false, false, 180), (3, vec![5, 4, 3, 2, 1, 0]));
        assert_eq!(after(false, false, 270), (2, vec![2, 5, 1, 4, 0, 3]));
        assert_eq!(after(true, false, 90), (2, vec![5, 2, 4, 1, 3, 0]));
        assert!(Rotation::try_from(45).is_err());
    }
}
