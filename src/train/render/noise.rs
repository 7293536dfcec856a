//! Random numbers and lattice noise: the only sources of chance in a picture.
//!
//! Never uses anything whose result depends on the machine: trigonometry comes from `libm`, chance
//! from ChaCha8.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A seeded stream of random choices.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream number `stream` of picture `index` of data set `seed`.
    pub fn new(seed: u64, index: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        key[16..24].copy_from_slice(&stream.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }
    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }
    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 16_777_216.0
    }
    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }
    /// Uniform in the logarithm; both bounds positive.
    pub fn scale(&mut self, low: f32, high: f32) -> f32 {
        low * libm::powf(high / low, self.unit())
    }
    /// Uniform in `0..n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }
    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }
    /// 1 or -1.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }
    /// A direction in radians.
    pub fn angle(&mut self) -> f32 {
        self.range(0.0, std::f32::consts::TAU)
    }
    /// Roughly normal, unit variance, never beyond 3.5.
    pub fn normal(&mut self) -> f32 {
        (self.unit() + self.unit() + self.unit() + self.unit() - 2.0) * 1.732
    }
    /// One of these, which must not be empty.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
    /// A cheap generator of noise for pixels, seeded from here.
    pub fn pixels(&mut self) -> Pixels {
        Pixels(u64::from(self.bits()) << 32 | u64::from(self.bits()) | 1)
    }
}

/// Fast noise for single pixels (xorshift): only ever for grain.
pub struct Pixels(u64);

impl Pixels {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    /// Three roughly normal numbers of unit variance.
    pub fn normals(&mut self) -> [f32; 3] {
        let (a, b) = (self.next(), self.next());
        let sum = |v: u64| {
            ((v & 0x3ff) + (v >> 10 & 0x3ff) + (v >> 20 & 0x3ff)) as f32 * (1.0 / 512.0) - 3.0
        };
        [sum(a), sum(a >> 31), sum(b >> 20)]
    }
}

const LATTICE: usize = 128;

/// Smooth value noise on a random lattice of 128 x 128 cells that repeats with a sideways shift.
pub struct Noise {
    lattice: Vec<f32>,
}

impl Noise {
    /// A fresh lattice.
    pub fn new(dice: &mut Dice) -> Self {
        let mut lattice = Vec::with_capacity(LATTICE * LATTICE);
        while lattice.len() < LATTICE * LATTICE {
            let bits = dice.bits();
            lattice.push((bits & 0xffff) as f32 / 32767.5 - 1.0);
            lattice.push((bits >> 16) as f32 / 32767.5 - 1.0);
        }
        Self { lattice }
    }
    /// The raw lattice value of an integer cell, in `[-1, 1]`.
    pub fn cell(&self, x: i32, y: i32) -> f32 {
        // The shift of 37 per wrapped block keeps repeats from lining up.
        let x = x.wrapping_add((y >> 7).wrapping_mul(37));
        let y = y.wrapping_add((x >> 7).wrapping_mul(53));
        self.lattice[(y & 127) as usize * LATTICE + (x & 127) as usize]
    }
    /// Value noise at a point; one lattice cell is one unit. In `[-1, 1]`.
    #[inline]
    pub fn at(&self, u: f32, v: f32) -> f32 {
        let (x, y) = (floor(u), floor(v));
        let (a, b) = (u - x as f32, v - y as f32);
        let (a, b) = (a * a * (3.0 - 2.0 * a), b * b * (3.0 - 2.0 * b));
        let top = self.cell(x, y) * (1.0 - a) + self.cell(x + 1, y) * a;
        let low = self.cell(x, y + 1) * (1.0 - a) + self.cell(x + 1, y + 1) * a;
        top * (1.0 - b) + low * b
    }
    /// Several octaves, each half as strong and twice as fine. About `[-1, 1]`.
    pub fn octaves(&self, u: f32, v: f32, count: usize) -> f32 {
        let (mut sum, mut amplitude, mut frequency, mut total) = (0.0, 1.0, 1.0, 0.0);
        for i in 0..count {
            sum += amplitude
                * self.at(
                    u * frequency + 17.3 * i as f32,
                    v * frequency - 9.1 * i as f32,
                );
            total += amplitude;
            amplitude *= 0.5;
            frequency *= 2.03;
        }
        1.4 * sum / total
    }
    /// A whole plane of [`Self::octaves`] whose coarsest cells are `cell` pixels wide. Coarse noise
    /// is computed on a quarter grid and interpolated.
    pub fn plane(&self, side: usize, cell: f32, count: usize, offset: f32) -> Vec<f32> {
        let finest = cell / libm::powf(2.0, count as f32 - 1.0);
        let step = if finest >= 12.0 {
            4
        } else if finest >= 6.0 {
            2
        } else {
            1
        };
        let scale = 1.0 / cell;
        let value = |x: usize, y: usize| {
            self.octaves(
                x as f32 * scale + offset,
                y as f32 * scale + offset * 0.7,
                count,
            )
        };
        if step == 1 {
            let mut out = Vec::with_capacity(side * side);
            for y in 0..side {
                out.extend((0..side).map(|x| value(x, y)));
            }
            return out;
        }
        let n = side / step + 2;
        let coarse: Vec<f32> = (0..n * n)
            .map(|i| value(i % n * step, i / n * step))
            .collect();
        let mut out = Vec::with_capacity(side * side);
        let inverse = 1.0 / step as f32;
        for y in 0..side {
            let (row, b) = (y / step * n, (y % step) as f32 * inverse);
            for x in 0..side {
                let (at, a) = (row + x / step, (x % step) as f32 * inverse);
                let top = coarse[at] + (coarse[at + 1] - coarse[at]) * a;
                let low = coarse[at + n] + (coarse[at + n + 1] - coarse[at + n]) * a;
                out.push(top + (low - top) * b);
            }
        }
        out
    }
    /// Distances to the nearest and second nearest of one jittered point per cell, and a number in
    /// `[-1, 1]` that belongs to the nearest: cracks of leather, scales, stones.
    pub fn cells(&self, u: f32, v: f32, jitter: f32) -> (f32, f32, f32) {
        let (x, y) = (floor(u), floor(v));
        let (mut first, mut second, mut name) = (9.0f32, 9.0f32, 0.0);
        for j in y - 1..=y + 1 {
            for i in x - 1..=x + 1 {
                let p = self.cell(i, j);
                let q = self.cell(i + 61, j + 29);
                let dx = i as f32 + 0.5 + 0.5 * jitter * p - u;
                let dy = j as f32 + 0.5 + 0.5 * jitter * q - v;
                let d = dx * dx + dy * dy;
                if d < first {
                    second = first;
                    first = d;
                    name = p * 31.0 + q * 17.0;
                } else if d < second {
                    second = d;
                }
            }
        }
        let name = name - name.floor();
        (first.sqrt(), second.sqrt(), 2.0 * name - 1.0)
    }
}

/// The next lower integer. Faster than [`f32::floor`], which is a call on plain x86-64.
pub fn floor(v: f32) -> i32 {
    let i = v as i32;
    i - i32::from(v < i as f32)
}

/// Sine and cosine of an angle in radians, the same on every machine.
pub fn turn(angle: f32) -> (f32, f32) {
    (libm::sinf(angle), libm::cosf(angle))
}

/// A sine wave of period 1 drawn from parabolas: precise enough for textures.
pub fn wave(t: f32) -> f32 {
    let t = t - floor(t) as f32 - 0.5;
    let s = 8.0 * t * (1.0 - 2.0 * t.abs());
    -s * (0.775 + 0.225 * s.abs())
}

/// 0 below `low`, 1 above `high`, smooth between.
pub fn smooth(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Three box blurs, which together are nearly a Gaussian of this standard deviation (pixels).
pub fn blur(plane: &mut [f32], width: usize, height: usize, sigma: f32) {
    let radius = (sigma * 1.05) as usize;
    if radius == 0 || width == 0 || height == 0 {
        return;
    }
    let mut other = vec![0.0; plane.len()];
    for _ in 0..if sigma > 6.0 { 2 } else { 3 } {
        // Each pass blurs along the rows and transposes, twice.
        box_transpose(plane, &mut other, width, height, radius);
        box_transpose(&other, plane, height, width, radius);
    }
}

fn box_transpose(from: &[f32], to: &mut [f32], width: usize, height: usize, radius: usize) {
    let scale = 1.0 / (2 * radius + 1) as f32;
    for y in 0..height {
        let row = &from[y * width..][..width];
        let (first, last) = (row[0], row[width - 1]);
        let mut sum = first * radius as f32;
        for x in 0..radius {
            sum += row[x.min(width - 1)];
        }
        for x in 0..width {
            sum += if x + radius < width {
                row[x + radius]
            } else {
                last
            };
            to[x * height + y] = sum * scale;
            sum -= if x >= radius { row[x - radius] } else { first };
        }
    }
}
