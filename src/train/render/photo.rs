//! The camera: exposure, colours, lens, sensor and file.
//!
//! The same [`Camera`] takes both pictures of a pair; only the grain differs.

use super::layers::{Colour, luma, mix};
use super::noise::{Dice, blur, turn};
use image::RgbImage;

/// All settings of one shot.
pub struct Camera {
    gain: [f32; 3],
    curve: Vec<f32>,
    saturation: f32,
    grey: bool,
    vignette: f32,
    soft: f32,
    motion: Option<(f32, f32)>,
    rescale: f32,
    shot: f32,
    read: f32,
    colour_noise: bool,
    quality: Option<f32>,
}

impl Camera {
    /// Random settings; `level` is the mean grey value of the scene, which exposure balances.
    pub fn random(dice: &mut Dice, side: usize, level: f32) -> Self {
        let wanted = level * 0.45 + dice.range(0.12, 0.42);
        let exposure = (wanted / level.max(0.03)).clamp(0.5, 2.5);
        let warm = dice.range(-0.1, 0.1);
        let green = dice.range(-0.04, 0.04);
        let gamma = dice.scale(0.75, 1.3);
        let (contrast, black) = (dice.range(0.75, 1.3), dice.range(0.0, 0.06));
        let curve = (0..=512)
            .map(|i| {
                let v = libm::powf(i as f32 / 256.0, gamma);
                let v = (v - 0.45) * contrast + 0.45;
                // A soft shoulder instead of hard clipping.
                let v = if v > 0.85 {
                    1.0 - 0.15 * 0.15 / (v - 0.85 + 0.15)
                } else {
                    v
                };
                black + (1.0 - black) * v.max(0.0)
            })
            .collect();
        let small = side as f32 / 224.0;
        let noisy = dice.chance(0.6);
        Self {
            gain: [
                exposure * (1.0 + warm),
                exposure * (1.0 + green),
                exposure * (1.0 - warm),
            ],
            curve,
            saturation: dice.range(0.5, 1.2),
            grey: dice.chance(0.35),
            vignette: if dice.chance(0.3) {
                dice.range(0.05, 0.4)
            } else {
                0.0
            },
            soft: if dice.chance(0.25) {
                dice.range(0.6, 1.8) * small
            } else {
                dice.range(0.2, 0.6)
            },
            motion: dice.chance(0.06).then(|| {
                let (s, c) = turn(dice.angle());
                let far = dice.range(1.0, 4.0) * small;
                (c * far, s * far)
            }),
            rescale: if dice.chance(0.12) {
                dice.range(0.45, 0.8)
            } else {
                1.0
            },
            shot: if noisy { dice.range(0.0, 0.035) } else { 0.004 },
            read: if noisy {
                dice.range(0.002, 0.025)
            } else {
                0.002
            },
            colour_noise: dice.chance(0.5),
            quality: dice.chance(0.3).then(|| dice.range(30.0, 95.0)),
        }
    }
    /// Standard deviation of the noise at a middling grey.
    pub fn noise(&self) -> f32 {
        self.read + 0.65 * self.shot
    }
    /// Everything that happens before the sensor's noise: `0..=1` per channel.
    pub fn expose(&self, light: &[Colour], side: usize) -> Vec<Colour> {
        let n = side as f32;
        let mut out: Vec<Colour> = light
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let fall = if self.vignette > 0.0 {
                    let (x, y) = ((i % side) as f32 / n - 0.5, (i / side) as f32 / n - 0.5);
                    1.0 - self.vignette * 2.0 * (x * x + y * y)
                } else {
                    1.0
                };
                let tone = |k: usize| {
                    let v = (c[k] * self.gain[k] * fall * 256.0).clamp(0.0, 511.0);
                    let at = v as usize;
                    let t = v - at as f32;
                    self.curve[at] + (self.curve[at + 1] - self.curve[at]) * t
                };
                let c = [tone(0), tone(1), tone(2)];
                let y = luma(c);
                if self.grey {
                    [y; 3]
                } else {
                    mix([y; 3], c, self.saturation)
                }
            })
            .collect();
        if let Some((dx, dy)) = self.motion {
            let from = out.clone();
            for (i, c) in out.iter_mut().enumerate() {
                let (x, y) = ((i % side) as f32, (i / side) as f32);
                *c = [0.0; 3];
                for k in 0..5 {
                    let t = k as f32 * 0.25 - 0.5;
                    let at = |v: f32| (v + 0.5).clamp(0.0, n - 1.0) as usize;
                    let p = from[at(y + t * dy) * side + at(x + t * dx)];
                    for k in 0..3 {
                        c[k] += p[k] * 0.2;
                    }
                }
            }
        }
        self.focus(&mut out, side);
        out
    }
    /// Lens blur: a kernel of three where it is slight, box blurs where it is not.
    fn focus(&self, picture: &mut [Colour], side: usize) {
        if self.soft >= 1.0 {
            for k in 0..3 {
                if self.grey && k > 0 {
                    break;
                }
                let mut plane: Vec<f32> = picture.iter().map(|c| c[k]).collect();
                blur(&mut plane, side, side, self.soft);
                for (c, v) in picture.iter_mut().zip(plane) {
                    if self.grey {
                        *c = [v; 3];
                    } else {
                        c[k] = v;
                    }
                }
            }
            return;
        }
        let edge = 0.25 * self.soft * self.soft / 0.36;
        let (edge, middle) = (edge.min(0.3), 1.0 - 2.0 * edge.min(0.3));
        let mut other = picture.to_vec();
        for y in 0..side {
            for x in 0..side {
                let (i, row) = (y * side + x, y * side);
                let (a, b) = (row + x.saturating_sub(1), row + (x + 1).min(side - 1));
                for k in 0..3 {
                    other[i][k] = middle * picture[i][k] + edge * (picture[a][k] + picture[b][k]);
                }
            }
        }
        for y in 0..side {
            for x in 0..side {
                let i = y * side + x;
                let (a, b) = (
                    y.saturating_sub(1) * side + x,
                    (y + 1).min(side - 1) * side + x,
                );
                for k in 0..3 {
                    picture[i][k] = middle * other[i][k] + edge * (other[a][k] + other[b][k]);
                }
            }
        }
    }
    /// Noise, quantisation and the file format. The dice give only the noise.
    pub fn develop(&self, picture: &[Colour], side: usize, dice: &mut Dice) -> RgbImage {
        let mut pixels = dice.pixels();
        let mut bytes = Vec::with_capacity(side * side * 3);
        for c in picture {
            let mut grain = pixels.normals();
            if self.grey || !self.colour_noise {
                grain = [grain[0]; 3];
            }
            for k in 0..3 {
                let sigma = self.read + self.shot * c[k].clamp(0.0, 1.0).sqrt();
                bytes.push(((c[k] + sigma * grain[k]) * 255.0 + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
        let n = side as u32;
        let mut image = RgbImage::from_raw(n, n, bytes).unwrap_or_else(|| RgbImage::new(n, n));
        if self.rescale < 1.0 {
            let small = ((n as f32 * self.rescale) as u32).max(8);
            let filter = image::imageops::FilterType::Triangle;
            let reduced = image::imageops::resize(&image, small, small, filter);
            image = image::imageops::resize(&reduced, n, n, filter);
        }
        if let Some(quality) = self.quality {
            compress(&mut image, quality);
        }
        image
    }
}

/// The cosine transform of eight by eight blocks with coarse steps, as JPEG has it. A real JPEG file
/// would not decode to the same bytes on every machine.
fn compress(image: &mut RgbImage, quality: f32) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut table = [[0.0f32; 8]; 8];
    for (k, row) in table.iter_mut().enumerate() {
        let scale = if k == 0 { 0.353_553_4 } else { 0.5 };
        for (x, v) in row.iter_mut().enumerate() {
            *v = scale * libm::cosf((x as f32 + 0.5) * k as f32 * std::f32::consts::PI / 8.0);
        }
    }
    let coarse = if quality < 50.0 {
        50.0 / quality
    } else {
        2.0 - quality / 50.0
    };
    let bytes: &mut [u8] = image;
    for top in (0..height).step_by(8) {
        for left in (0..width).step_by(8) {
            let at = |i: usize, j: usize| {
                ((top + j).min(height - 1) * width + (left + i).min(width - 1)) * 3
            };
            let mut planes = [[[0.0f32; 8]; 8]; 3];
            for j in 0..8 {
                for i in 0..8 {
                    let p = at(i, j);
                    let (r, g, b) = (
                        f32::from(bytes[p]),
                        f32::from(bytes[p + 1]),
                        f32::from(bytes[p + 2]),
                    );
                    let y = 0.299 * r + 0.587 * g + 0.114 * b;
                    planes[0][j][i] = y;
                    planes[1][j][i] = 0.564 * (b - y);
                    planes[2][j][i] = 0.713 * (r - y);
                }
            }
            for (k, plane) in planes.iter_mut().enumerate() {
                let mut waves = product(&product(&table, plane, false, false), &table, false, true);
                for (v, row) in waves.iter_mut().enumerate() {
                    for (u, wave) in row.iter_mut().enumerate() {
                        let base = if k == 0 {
                            8.0 + 6.5 * (u + v) as f32
                        } else {
                            17.0 + 16.0 * (u + v) as f32
                        };
                        let step = (base.min(99.0) * coarse).max(1.0);
                        let steps = *wave / step;
                        *wave = (steps + if steps < 0.0 { -0.5 } else { 0.5 }) as i32 as f32 * step;
                    }
                }
                *plane = product(&product(&table, &waves, true, false), &table, false, false);
            }
            for j in 0..8.min(height - top) {
                for i in 0..8.min(width - left) {
                    let p = at(i, j);
                    let (y, b, r) = (planes[0][j][i], planes[1][j][i], planes[2][j][i]);
                    let rgb = [y + 1.402 * r, y - 0.344 * b - 0.714 * r, y + 1.772 * b];
                    for c in 0..3 {
                        bytes[p + c] = (rgb[c] + 0.5).clamp(0.0, 255.0) as u8;
                    }
                }
            }
        }
    }
}

/// The product of two matrices, either of which may be taken transposed.
fn product(a: &[[f32; 8]; 8], b: &[[f32; 8]; 8], ta: bool, tb: bool) -> [[f32; 8]; 8] {
    let mut out = [[0.0; 8]; 8];
    for i in 0..8 {
        for k in 0..8 {
            let v = if ta { a[k][i] } else { a[i][k] };
            for j in 0..8 {
                out[i][j] += v * if tb { b[j][k] } else { b[k][j] };
            }
        }
    }
    out
}
