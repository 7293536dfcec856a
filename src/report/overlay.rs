//! A picture that a person can judge a verdict by: the frame, the frame under its heat map, a caption.

use super::canvas::Canvas;
use crate::faprompt::map::Map;
use crate::memory::region::Region;
use colorous::INFERNO;
use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_8X13, FONT_9X15_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Polyline, PrimitiveStyle, Rectangle};
use embedded_graphics::text::Text;
use image::imageops::FilterType;
use image::{Rgb, RgbImage, imageops};

/// Height of the strips with the verdict, the scale and a warning.
const HEAD: u32 = 24;
const FOOT: u32 = 34;
const WARNING: u32 = 18;
/// Longer sides of frames are brought to this range, so that the text stays readable.
const PANEL: std::ops::RangeInclusive<u32> = 256..=768;
/// A map whose values span less than this is shown as flat as it is.
const MIN_SPAN: f32 = 0.1;
/// How much of the colour covers the frame where the map is highest.
const OPACITY: f32 = 0.75;
const INK: Rgb888 = Rgb888::new(235, 235, 235);
/// Edges of regions that are looked at, and of those that are left out.
const LOOKED_AT: Rgb888 = Rgb888::new(60, 220, 90);
const LEFT_OUT: Rgb888 = Rgb888::new(240, 80, 80);
const GAP: u32 = 4;
/// Least width with a heat map, and of a frame alone, which has the reason below it.
const LEAST: u32 = 420;
const LEAST_ALONE: u32 = 600;

/// What the strip above the pictures says.
#[derive(Clone, Debug)]
pub struct Caption<'a> {
    /// The outcome in a word or two.
    pub verdict: &'a str,
    /// Whether the part is a reject: the colour of the strip.
    pub reject: bool,
    /// The image score; `None`: the frame could not be judged.
    pub score: Option<f32>,
    /// FAPrompt's score and the memory's, which it is made of where good parts were taught.
    pub opinions: Option<(f32, f32)>,
    /// The threshold that it was compared with.
    pub threshold: f32,
    /// The name of the part.
    pub name: &'a str,
    /// A line that must not be missed.
    pub warning: Option<&'a str>,
    /// Where the part was looked at: drawn over the frame.
    pub regions: &'a [Region],
}

impl Canvas<'_> {
    fn text(&mut self, text: &str, x: i32, y: i32, font: &MonoFont) {
        let Ok(_) = Text::new(text, Point::new(x, y), MonoTextStyle::new(font, INK)).draw(self);
    }
    /// A region's edge on the frame, `w` x `h` pixels below the head, with its name and by how much its
    /// threshold is higher than the frame's.
    fn outline(&mut self, region: &Region, w: u32, h: u32) {
        let colour = if region.exclude { LEFT_OUT } else { LOOKED_AT };
        let corner = |[x, y]: [f32; 2]| {
            let (x, y) = (x * (w - 1) as f32, y * (h - 1) as f32);
            Point::new(x as i32, HEAD as i32 + y as i32)
        };
        let mut corners: Vec<Point> = region.corners().into_iter().map(corner).collect();
        corners.extend(corners.first().copied());
        let line = PrimitiveStyle::with_stroke(colour, 1);
        let Ok(()) = Polyline::new(&corners).into_styled(line).draw(self);
        let offset = match region.offset {
            0.0 => String::new(),
            v => format!(" {v:+}"),
        };
        let style = MonoTextStyle::new(&FONT_6X10, colour);
        // Beside the corner that is nearest to the top, inside the frame.
        let top = corners.iter().min_by_key(|c| (c.y, c.x));
        let at = top.map_or(Point::zero(), |c| Point::new(c.x + 3, c.y + 10));
        let Ok(_) = Text::new(&format!("{}{offset}", region.name), at, style).draw(self);
    }
    fn fill(&mut self, top: u32, height: u32, colour: Rgb888) {
        let area = Rectangle::new(Point::new(0, top as i32), Size::new(self.0.width(), height));
        let Ok(()) = self.fill_solid(&area, colour);
    }
}

fn colour(t: f32) -> [f32; 3] {
    let c = INFERNO.eval_continuous(f64::from(t));
    [c.r, c.g, c.b].map(f32::from)
}

/// The frame under its heat map: no colour at or below `low`, the brightest at `high` and above.
pub fn heated(frame: &RgbImage, map: &Map, low: f32, high: f32) -> RgbImage {
    let (w, h) = frame.dimensions();
    let span = (high - low).max(MIN_SPAN);
    let mut heated = frame.clone();
    for (x, y, pixel) in heated.enumerate_pixels_mut() {
        let at = |i: u32, n: u32| ((i as usize * map.side) / n as usize).min(map.side - 1);
        let t = ((map.values[at(y, h) * map.side + at(x, w)] - low) / span).clamp(0.0, 1.0);
        let (heat, alpha) = (colour(t), OPACITY * t.sqrt());
        for c in 0..3 {
            pixel.0[c] = (f32::from(pixel.0[c]) * (1.0 - alpha) + heat[c] * alpha) as u8;
        }
    }
    heated
}

/// The frame and its heat map side by side. `map` should be smoothed; its colours run from its
/// lowest to its highest value, which the scale below names. Without a map, the frame alone.
pub fn overlay(frame: &RgbImage, map: Option<&Map>, caption: &Caption) -> RgbImage {
    let (w, h) = (frame.width().max(1), frame.height().max(1));
    let wanted = w.max(h).clamp(*PANEL.start(), *PANEL.end()) as f32 / w.max(h) as f32;
    let (w, h) = (
        ((w as f32 * wanted) as u32).max(1),
        ((h as f32 * wanted) as u32).max(1),
    );
    let panel = imageops::resize(frame, w, h, FilterType::Triangle);
    let (width, scale) = match map {
        Some(_) => ((2 * w + GAP).max(LEAST), FOOT),
        None => (w.max(LEAST_ALONE), 0),
    };
    let foot = scale + caption.warning.map_or(0, |_| WARNING);
    let mut out = RgbImage::from_pixel(width, HEAD + h + foot, Rgb([24, 24, 24]));
    imageops::replace(&mut out, &panel, 0, i64::from(HEAD));
    if let Some(map) = map {
        add_map(&mut out, &panel, map);
    }
    let mut canvas = Canvas(&mut out);
    for region in caption.regions {
        canvas.outline(region, w, h);
    }
    canvas.fill(
        0,
        HEAD,
        if caption.reject {
            Rgb888::new(170, 30, 30)
        } else {
            Rgb888::new(25, 110, 50)
        },
    );
    let verdict = caption.verdict.to_uppercase();
    let compared = caption.score.map_or_else(String::new, |score| {
        let threshold = caption.threshold;
        let relation = if score > threshold { ">" } else { "<=" };
        format!("{score:.3} {relation} {threshold:.3}   ")
    });
    let head = format!("{verdict}  {compared}{}", caption.name);
    canvas.text(&head, 8, 16, &FONT_9X15_BOLD);
    if let Some((zero_shot, memory)) = caption.opinions {
        let text = format!("FAPrompt {zero_shot:.3}  memory {memory:.3}");
        canvas.text(&text, 10, (HEAD + h) as i32 + 10, &FONT_8X13);
    }
    if let Some(warning) = caption.warning {
        let top = HEAD + h + scale;
        canvas.fill(top, WARNING, Rgb888::new(150, 90, 0));
        canvas.text(warning, 8, top as i32 + 13, &FONT_8X13);
    }
    out
}

/// Draws the frame under its heat map to the right of `panel`, and the scale below: the colours that the map uses,
/// between the numbers at its ends.
fn add_map(out: &mut RgbImage, panel: &RgbImage, map: &Map) {
    let (w, h) = panel.dimensions();
    let (low, high) = map
        .values
        .iter()
        .fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let span = (high - low).max(MIN_SPAN);
    let heated = heated(panel, map, low, high);
    imageops::replace(out, &heated, i64::from(w + GAP), i64::from(HEAD));
    let bar = HEAD + h + 12;
    for x in 0..160u32 {
        for y in bar..bar + 10 {
            out.put_pixel(60 + x, y, Rgb(colour(x as f32 / 159.0).map(|v| v as u8)));
        }
    }
    let mut canvas = Canvas(out);
    canvas.text(&format!("{low:.3}"), 10, bar as i32 + 9, &FONT_8X13);
    let end = format!("{:.3}  anomaly map", low + span);
    canvas.text(&end, 228, bar as i32 + 9, &FONT_8X13);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::region::Regions;

    #[test]
    fn the_hot_spot_is_hot_and_the_rest_is_the_frame() {
        let frame = RgbImage::from_pixel(300, 200, Rgb([90, 90, 90]));
        let mut map = Map {
            side: 4,
            values: vec![0.1; 16],
        };
        map.values[5] = 0.9;
        let text = "[[region]]\nname = \"a\"\nrectangle = [0.5, 0.5, 1, 1]\noffset = 0.05\n\
                    [[region]]\nname = \"b\"\nexclude = true\npolygon = [[0, 0], [0.2, 0], [0, 0.2]]";
        let regions = Regions::parse(text).unwrap().all().to_vec();
        let caption = Caption {
            verdict: "reject",
            reject: true,
            score: Some(0.8),
            opinions: Some((0.6, 0.3)),
            threshold: 0.5,
            name: "x",
            warning: Some("UNTRAINED"),
            regions: &regions,
        };
        let picture = overlay(&frame, Some(&map), &caption);
        assert_eq!(picture.dimensions(), (604, HEAD + 200 + FOOT + 18));
        let right = |x: u32, y: u32| picture.get_pixel(300 + GAP + x, HEAD + y).0;
        assert_eq!(right(280, 190), [90, 90, 90]);
        let hot = right(110, 70);
        assert!(hot[0] > 200, "{hot:?}");
        assert_eq!(picture.get_pixel(110, HEAD + 70).0, [90, 90, 90]);
        assert_eq!(picture.get_pixel(2, 2).0, [170, 30, 30]);
        // The regions' edges, on the frame only.
        let left = |x: u32, y: u32| picture.get_pixel(x, HEAD + y).0;
        assert_eq!(
            (left(149, 150), left(250, 99)),
            ([60, 220, 90], [60, 220, 90])
        );
        assert_eq!((left(0, 20), left(50, 0)), ([240, 80, 80], [240, 80, 80]));
        assert_eq!(right(250, 99), [90, 90, 90]);
    }

    #[test]
    fn a_frame_that_was_not_judged_stands_alone_with_the_reason_below_it() {
        let frame = RgbImage::from_pixel(300, 200, Rgb([3, 4, 5]));
        let caption = Caption {
            verdict: "reject: nothing visible",
            reject: true,
            score: None,
            opinions: None,
            threshold: 0.5,
            name: "x",
            warning: Some("nothing can be seen: it is dark"),
            regions: &[],
        };
        let picture = overlay(&frame, None, &caption);
        assert_eq!(picture.dimensions(), (LEAST_ALONE, HEAD + 200 + WARNING));
        let at = |x: u32, y: u32| picture.get_pixel(x, y).0;
        assert_eq!((at(299, HEAD), at(299, HEAD + 199)), ([3, 4, 5], [3, 4, 5]));
        // No heat map beside it; the verdict above, the reason below.
        assert_eq!(at(300 + GAP, HEAD + 100), [24, 24, 24]);
        assert_eq!((at(2, 2), at(2, HEAD + 201)), ([170, 30, 30], [150, 90, 0]));
        let words = (8..500).any(|x| at(x, HEAD + 200 + 8) == [INK.r(), INK.g(), INK.b()]);
        assert!(words, "the reason is not written");
    }

    #[test]
    fn tiny_and_narrow_frames_still_make_a_picture() {
        for (w, h) in [(1, 1), (1, 900), (2000, 3)] {
            let frame = RgbImage::from_pixel(w, h, Rgb([1, 2, 3]));
            let map = Map {
                side: 2,
                values: vec![0.5; 4],
            };
            let caption = Caption {
                verdict: "good",
                reject: false,
                score: Some(0.1),
                opinions: None,
                threshold: 0.5,
                name: "",
                warning: None,
                regions: &[],
            };
            let picture = overlay(&frame, Some(&map), &caption);
            assert!(picture.width() >= LEAST && picture.height() > HEAD);
            let picture = overlay(&frame, None, &caption);
            assert!(picture.width() >= LEAST_ALONE && picture.height() > HEAD);
        }
    }
}
