//! Pairs whose photography varies more than one camera's does: distance, tone, colour and texture.
//!
//! What a network learns from one renderer's look does not hold for real photos, so the look changes
//! from scene to scene while the defect stays where it is. Both pictures of a pair vary alike.

use super::noise::Dice;
use super::{Part, Picture, pair};
use image::imageops::{self, FilterType};
use image::{GrayImage, RgbImage};

/// The largest side that is rendered, in sides of the picture wanted.
const FARTHEST: f32 = 2.0;

/// The same scenes as [`pair`] gives for a larger side, seen from nearer or shrunk, with a random filter,
/// tone and noise.
pub fn varied_pair(seed: u64, index: u64, side: usize, part: Part) -> (Picture, Picture) {
    let dice = &mut Dice::new(seed, index, 9);
    let large = if dice.chance(0.35) {
        side
    } else {
        (side as f32 * dice.range(1.0, FARTHEST)) as usize
    };
    let (mut good, mut bad) = pair(seed, index, large, part);
    if large > side {
        let window = if dice.chance(0.5) {
            let cut = dice.range(side as f32, large as f32) as u32;
            window(dice, &bad.mask, cut)
        } else {
            (0, 0, large as u32)
        };
        for picture in [&mut good, &mut bad] {
            shrink(picture, window, side as u32);
        }
        if bad.mask.as_raw().iter().all(|m| *m == 0) {
            bad.defect = None;
        }
    }
    let look = Look::random(dice);
    let filter = look.filter.as_ref().map(|f| f.fitted(&good.image));
    for picture in [&mut good, &mut bad] {
        if let Some(filter) = &filter {
            filter.apply(&mut picture.image);
        }
        look.apply(&mut picture.image, dice);
    }
    (good, bad)
}

/// A square of side `cut` that holds the middle of the defect: left, top, side.
fn window(dice: &mut Dice, mask: &GrayImage, cut: u32) -> (u32, u32, u32) {
    let n = mask.width();
    let (mut low, mut high) = ([n; 2], [0; 2]);
    for (x, y, m) in mask.enumerate_pixels() {
        if m.0[0] > 0 {
            for (axis, v) in [x, y].into_iter().enumerate() {
                low[axis] = low[axis].min(v);
                high[axis] = high[axis].max(v);
            }
        }
    }
    let corner = [0, 1].map(|axis| {
        let middle = (low[axis].min(high[axis]) + high[axis]) as f32 / 2.0;
        // The defect's middle lies anywhere but at the very edge.
        let at = middle - cut as f32 * dice.range(0.1, 0.9);
        at.clamp(0.0, (n - cut) as f32) as u32
    });
    (corner[0], corner[1], cut)
}

fn shrink(picture: &mut Picture, (left, top, cut): (u32, u32, u32), side: u32) {
    let image = imageops::crop_imm(&picture.image, left, top, cut, cut).to_image();
    picture.image = imageops::resize(&image, side, side, FilterType::CatmullRom);
    // A pixel is abnormal if anything that it covers is: hairlines must not get lost.
    let scale = cut as f32 / side as f32;
    let mut mask = GrayImage::new(side, side);
    for (x, y, m) in picture.mask.enumerate_pixels() {
        let inside = (left..left + cut).contains(&x) && (top..top + cut).contains(&y);
        if inside && m.0[0] > 0 {
            let at = |v: u32, from: u32| (((v - from) as f32 / scale) as u32).min(side - 1);
            mask.put_pixel(at(x, left), at(y, top), *m);
        }
    }
    picture.mask = mask;
}

/// What changes besides the distance.
struct Look {
    filter: Option<Filter>,
    order: [usize; 3],
    grey: bool,
    /// Gamma, contrast, brightness; the last two around the middle of the range.
    tone: Option<(f32, f32, f32)>,
    negative: bool,
    grain: f32,
}

impl Look {
    fn random(dice: &mut Dice) -> Look {
        Look {
            filter: dice.chance(0.35).then(|| Filter::random(dice)),
            order: if dice.chance(0.2) {
                dice.pick(&[[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
            } else {
                [0, 1, 2]
            },
            grey: dice.chance(0.15),
            tone: dice.chance(0.5).then(|| {
                let (gamma, contrast) = (dice.scale(0.6, 1.7), dice.range(0.4, 1.2));
                (gamma, contrast, dice.range(-0.12, 0.12))
            }),
            negative: dice.chance(0.08),
            grain: if dice.chance(0.2) {
                dice.range(0.0, 0.05)
            } else {
                0.0
            },
        }
    }

    fn apply(&self, image: &mut RgbImage, dice: &mut Dice) {
        let table: Vec<f32> = (0..256)
            .map(|i| {
                let v = i as f32 / 255.0;
                let v = match self.tone {
                    Some((gamma, contrast, bright)) => {
                        (libm::powf(v, gamma) - 0.5) * contrast + 0.5 + bright
                    }
                    None => v,
                };
                if self.negative { 1.0 - v } else { v }
            })
            .collect();
        let mut pixels = dice.pixels();
        for pixel in image.pixels_mut() {
            let mut c = self.order.map(|k| table[pixel.0[k] as usize]);
            if self.grey {
                c = [(c[0] + c[1] + c[2]) / 3.0; 3];
            }
            if self.grain > 0.0 {
                let noise = pixels.normals();
                for (v, n) in c.iter_mut().zip(noise) {
                    *v += self.grain * n;
                }
            }
            pixel.0 = c.map(byte);
        }
    }
}

fn byte(v: f32) -> u8 {
    (v * 255.0 + 0.5).clamp(0.0, 255.0) as u8
}

/// A random linear filter over all colours (random convolutions: Xu et al., ICLR 2021), mixed with what
/// was there: textures and colours change, shapes and places stay.
struct Filter {
    /// Side of the kernel.
    size: usize,
    /// [output colour, input colour, row, column].
    weights: Vec<f32>,
    /// Part of the filtered picture.
    share: f32,
    /// What brings each output colour to the mean and spread that the picture had.
    level: [(f32, f32); 3],
}

impl Filter {
    fn random(dice: &mut Dice) -> Filter {
        let size = dice.pick(&[1, 3, 3, 5]);
        Filter {
            size,
            weights: (0..9 * size * size).map(|_| dice.normal()).collect(),
            share: dice.range(0.1, 0.9),
            level: [(1.0, 0.0); 3],
        }
    }

    /// The filtered picture as planes, 0..=1 before its level is set.
    fn planes(&self, image: &RgbImage) -> Vec<[f32; 3]> {
        let (w, h, k) = (image.width() as usize, image.height() as usize, self.size);
        let bytes: &[u8] = image;
        let mut out = vec![[0f32; 3]; w * h];
        for dy in 0..k {
            for dx in 0..k {
                let tap: [[f32; 3]; 3] = std::array::from_fn(|o| {
                    std::array::from_fn(|i| self.weights[((o * 3 + i) * k + dy) * k + dx] / 255.0)
                });
                for y in 0..h {
                    let from = (y + dy).saturating_sub(k / 2).min(h - 1) * w;
                    for x in 0..w {
                        let at = 3 * (from + (x + dx).saturating_sub(k / 2).min(w - 1));
                        let c = [0, 1, 2].map(|i| f32::from(bytes[at + i]));
                        for (o, sum) in out[y * w + x].iter_mut().enumerate() {
                            *sum += tap[o][0] * c[0] + tap[o][1] * c[1] + tap[o][2] * c[2];
                        }
                    }
                }
            }
        }
        out
    }

    /// The same with its level set by what it makes of `image`.
    fn fitted(&self, image: &RgbImage) -> Filter {
        let after = self.planes(image);
        let n = after.len().max(1) as f32;
        let spread = |of: &dyn Fn(usize) -> f32| {
            let mean = (0..after.len()).map(of).sum::<f32>() / n;
            let square = (0..after.len())
                .map(|i| (of(i) - mean).powi(2))
                .sum::<f32>()
                / n;
            (mean, square.sqrt())
        };
        let level = [0, 1, 2].map(|c| {
            let (mean, width) = spread(&|i| f32::from(image.as_raw()[3 * i + c]) / 255.0);
            let (found, wide) = spread(&|i| after[i][c]);
            let gain = width / wide.max(1e-3);
            (gain, mean - gain * found)
        });
        Filter {
            weights: self.weights.clone(),
            level,
            ..*self
        }
    }

    fn apply(&self, image: &mut RgbImage) {
        let after = self.planes(image);
        for (pixel, new) in image.pixels_mut().zip(after) {
            pixel.0 = [0, 1, 2].map(|c| {
                let (gain, shift) = self.level[c];
                let old = f32::from(pixel.0[c]) / 255.0;
                byte(old + self.share * (gain * new[c] + shift - old))
            });
        }
    }
}
