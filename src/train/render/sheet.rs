//! A sheet of pairs for a person to look at.

use super::{Part, pair};
use crate::report::canvas::Canvas;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_5X8;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::text::Text;
use image::{GrayImage, Rgb, RgbImage, imageops};

const LINE: u32 = 11;
const GAP: u32 = 4;

/// Red pixels just outside of the mask.
fn outline(image: &mut RgbImage, mask: &GrayImage) {
    let (w, h) = mask.dimensions();
    for y in 0..h {
        for x in 0..w {
            let near = [(1, 0), (-1, 0), (0, 1), (0, -1)].iter().any(|(dx, dy)| {
                let at = (x.checked_add_signed(*dx), y.checked_add_signed(*dy));
                matches!(at, (Some(x), Some(y)) if x < w && y < h && mask.get_pixel(x, y).0[0] > 0)
            });
            if near && mask.get_pixel(x, y).0[0] == 0 {
                image.put_pixel(x, y, Rgb([255, 0, 0]));
            }
        }
    }
}

/// `columns x rows` pairs from picture `first` on: normal, abnormal, abnormal with the mask
/// outlined, the caption of the abnormal one below. `side` in pixels.
pub fn sheet(
    seed: u64,
    first: u64,
    columns: usize,
    rows: usize,
    side: usize,
    part: Part,
) -> RgbImage {
    let n = side as u32;
    let (wide, high) = (3 * n + 3 * GAP, n + LINE + GAP);
    let mut out = RgbImage::from_pixel(columns as u32 * wide, rows as u32 * high, Rgb([24; 3]));
    for k in 0..columns * rows {
        let index = first + k as u64;
        let (normal, abnormal) = pair(seed, index, side, part);
        let (x, y) = (
            k as u32 % columns as u32 * wide,
            k as u32 / columns as u32 * high,
        );
        let mut marked = abnormal.image.clone();
        outline(&mut marked, &abnormal.mask);
        for (i, image) in [&normal.image, &abnormal.image, &marked]
            .into_iter()
            .enumerate()
        {
            imageops::replace(
                &mut out,
                image,
                i64::from(x + i as u32 * (n + GAP)),
                i64::from(y),
            );
        }
        let text = format!("{index} {}", abnormal.caption(index as u32 * 7));
        let style = MonoTextStyle::new(&FONT_5X8, Rgb888::new(235, 235, 235));
        let at = Point::new(x as i32, (y + n + 8) as i32);
        let Ok(_) = Text::new(&text, at, style).draw(&mut Canvas(&mut out));
    }
    out
}
