//! What student and teachers look at: a random crop of a photo, spoilt a little, in another light.
//!
//! A view depends only on the photos and its own random numbers: the same seed, photo and number give the same
//! pixels on every machine, on any number of threads.

use super::photos::{CHANNELS, Square};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use std::f32::consts::{FRAC_PI_2, PI};

/// How much red, green and blue weigh in grey.
const LUMA: [f32; CHANNELS] = [0.299, 0.587, 0.114];

/// The random numbers of one view.
struct Dice(ChaCha8Rng);

impl Dice {
    fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.0.next_u32() >> 8) as f32 / (1 << 24) as f32)
    }

    /// Uniform in its logarithm.
    fn factor(&mut self, low: f32, high: f32) -> f32 {
        self.uniform(low.ln(), high.ln()).exp()
    }

    fn chance(&mut self, p: f32) -> bool {
        self.uniform(0.0, 1.0) < p
    }

    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    fn colour(&mut self) -> [f32; CHANNELS] {
        std::array::from_fn(|_| self.uniform(0.0, 1.0))
    }
}

/// Which view: of this photo, the how manieth, on how many pixels a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Place of the photo among all.
    pub photo: usize,
    /// Views of one photo are counted from 0.
    pub variant: usize,
    /// Side in pixels.
    pub side: usize,
}

/// Pixels in 0..=1, [3, side, side].
type Pixels = Vec<f32>;

/// A view of one of `photos`.
pub fn view(photos: &[Square], which: View, seed: u64) -> Pixels {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ (which.variant as u64).rotate_left(32));
    rng.set_stream((which.photo as u64) << 16 | which.side as u64);
    let mut dice = Dice(rng);
    let side = which.side;
    let mut x = crop(&photos[which.photo], side, &mut dice);
    spoil(&mut x, photos, side, &mut dice);
    light(&mut x, side, &mut dice);
    x
}

/// Brings a coordinate that lies outside back by mirroring at the edges, as often as it takes.
fn mirrored(at: f32, side: f32) -> f32 {
    let within = (at + 0.5).rem_euclid(2.0 * side);
    let within = if within < side {
        within
    } else {
        2.0 * side - within
    };
    (within - 0.5).clamp(0.0, side - 1.0)
}

/// A random window: a third to one and two fifths of the photo's side, slightly stretched, turned, mirrored; what lies
/// outside of the photo has one colour (of large windows) or is its mirror image.
fn crop(photo: &Square, side: usize, dice: &mut Dice) -> Pixels {
    let mut zoom = dice.factor(0.34, 1.0);
    if dice.chance(0.25) {
        zoom = 1.0;
    }
    let outside = dice.chance(0.1);
    if outside {
        zoom = dice.uniform(1.0, 1.4);
    }
    let stretch = dice.uniform(-0.25, 0.25).exp().sqrt();
    let (sx, sy) = (zoom * stretch, zoom / stretch);
    let mut angle = match dice.chance(0.3) {
        true => dice.uniform(-0.6, 0.6),
        false => 0.0,
    };
    if dice.chance(0.5) {
        angle += FRAC_PI_2 * dice.below(4) as f32;
    }
    let flip = if dice.chance(0.5) { -1.0 } else { 1.0 };
    let room = (1.0 - zoom).max(if outside { 0.3 } else { 0.0 });
    let (tx, ty) = (
        dice.uniform(-1.0, 1.0) * room,
        dice.uniform(-1.0, 1.0) * room,
    );
    let colour = dice.colour();
    let (s, c) = angle.sin_cos();
    let [ax, bx, ay, by] = [c * sx * flip, -s * sy, s * sx * flip, c * sy];
    let from = photo.side as f32;
    let plane = side * side;
    let mut out = vec![0.0; CHANNELS * plane];
    let of = |i: usize| (2 * i + 1) as f32 / side as f32 - 1.0;
    for y in 0..side {
        for x in 0..side {
            let (u, v) = (of(x), of(y));
            let px = ((ax * u + bx * v + tx + 1.0) * from - 1.0) / 2.0;
            let py = ((ay * u + by * v + ty + 1.0) * from - 1.0) / 2.0;
            let pixel = match outside {
                true => photo.sample_on(px, py, colour),
                false => photo.sample(mirrored(px, from), mirrored(py, from)),
            };
            for (channel, value) in pixel.into_iter().enumerate() {
                out[channel * plane + y * side + x] = value;
            }
        }
    }
    out
}

/// A turned box somewhere in the picture; a thin one is a scratch.
fn inside(side: usize, thin: bool, dice: &mut Dice) -> Vec<usize> {
    let (cx, cy) = (dice.uniform(0.05, 0.95), dice.uniform(0.05, 0.95));
    let (s, c) = dice.uniform(0.0, PI).sin_cos();
    let length = dice.factor(0.02, 0.35);
    let ratio = match thin {
        true => dice.uniform(0.02, 0.15),
        false => dice.uniform(0.3, 1.0),
    };
    let breadth = (length * ratio).max(0.004);
    let of = |i: usize| (i as f32 + 0.5) / side as f32;
    let within = |i: &usize| {
        let (x, y) = (of(i % side) - cx, of(i / side) - cy);
        (x * c + y * s).abs() < length && (y * c - x * s).abs() < breadth
    };
    (0..side * side).filter(within).collect()
}

/// On some: a box of another photo, one of another place, a scratch or stain.
fn spoil(x: &mut Pixels, photos: &[Square], side: usize, dice: &mut Dice) {
    let plane = side * side;
    if dice.chance(0.35) {
        let pixels = inside(side, false, dice);
        let other = dice.below(photos.len());
        let other = crop(&photos[other], side, dice);
        for channel in 0..CHANNELS {
            for i in pixels.iter().map(|i| channel * plane + i) {
                x[i] = other[i];
            }
        }
    }
    if dice.chance(0.15) {
        let pixels = inside(side, false, dice);
        let was = x.clone();
        for i in pixels {
            let (from_y, from_x) = (
                (i / side + side - side / 3) % side,
                (i % side + side - side / 4) % side,
            );
            for channel in 0..CHANNELS {
                x[channel * plane + i] = was[channel * plane + from_y * side + from_x];
            }
        }
    }
    if dice.chance(0.25) {
        let pixels = inside(side, true, dice);
        let (colour, part) = (dice.colour(), dice.uniform(0.3, 1.0));
        for (channel, colour) in colour.into_iter().enumerate() {
            for i in pixels.iter().map(|i| channel * plane + i) {
                x[i] = x[i] * (1.0 - part) + colour * part;
            }
        }
    }
}

/// Colour, brightness, contrast, gamma; grey and negative pictures; blur and noise.
fn light(x: &mut Pixels, side: usize, dice: &mut Dice) {
    let plane = side * side;
    let saturation = dice.chance(0.5).then(|| dice.uniform(0.3, 1.6));
    let saturation = match dice.chance(0.25) {
        true => Some(0.0),
        false => saturation,
    };
    if let Some(saturation) = saturation {
        for i in 0..plane {
            let grey: f32 = (0..CHANNELS).map(|c| LUMA[c] * x[c * plane + i]).sum();
            for c in 0..CHANNELS {
                let at = &mut x[c * plane + i];
                *at = grey + (*at - grey) * saturation;
            }
        }
    }
    if dice.chance(0.3) {
        for channel in x.chunks_exact_mut(plane) {
            let tint = dice.uniform(-0.25, 0.25).exp();
            channel.iter_mut().for_each(|v| *v *= tint);
        }
    }
    if dice.chance(0.05) {
        x.iter_mut().for_each(|v| *v = 1.0 - *v);
    }
    if dice.chance(0.6) {
        let (contrast, brightness) = (dice.factor(0.5, 1.6), dice.factor(0.6, 1.4));
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        let changed = |v: f32| (v - mean) * contrast + mean * brightness;
        x.iter_mut().for_each(|v| *v = changed(*v));
    }
    x.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
    if dice.chance(0.3) {
        let gamma = dice.factor(0.6, 1.7);
        x.iter_mut().for_each(|v| *v = (*v + 1e-4).powf(gamma));
    }
    if dice.chance(0.15) {
        x.chunks_exact_mut(plane).for_each(|c| blur(c, side));
    }
    if dice.chance(0.25) {
        let strength = dice.uniform(0.0, 0.08);
        for v in x.iter_mut() {
            let noise: f32 = StandardNormal.sample(&mut dice.0);
            *v += strength * noise;
        }
    }
    x.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
}

/// Binomial, 5 x 5, mirrored at the edges.
fn blur(channel: &mut [f32], side: usize) {
    const KERNEL: [f32; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];
    let at = |i: isize| {
        let last = side as isize - 1;
        (last - (last - i.abs()).abs()).clamp(0, last) as usize
    };
    let sum = |of: &dyn Fn(usize) -> f32, i: usize| -> f32 {
        let taps = KERNEL.iter().enumerate();
        taps.map(|(k, w)| w * of(at(i as isize + k as isize - 2)))
            .sum()
    };
    let was = channel.to_vec();
    for (i, v) in channel.iter_mut().enumerate() {
        *v = sum(&|x| was[i / side * side + x], i % side);
    }
    let was = channel.to_vec();
    for (i, v) in channel.iter_mut().enumerate() {
        *v = sum(&|y| was[y * side + i % side], i / side);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photos() -> Vec<Square> {
        let bytes = |k: usize| (0..3 * 32 * 32).map(|i| ((i * k) % 251) as u8).collect();
        let square = |k: usize| Square {
            side: 32,
            bytes: bytes(k),
        };
        vec![square(3), square(7)]
    }

    #[test]
    fn views_are_the_same_again_and_differ_from_each_other() {
        let photos = photos();
        let of = |photo, variant, side, seed| {
            let which = View {
                photo,
                variant,
                side,
            };
            view(&photos, which, seed)
        };
        let one = of(0, 0, 24, 1);
        assert_eq!(one.len(), 3 * 24 * 24);
        assert!(one.iter().all(|v| (0.0..=1.0).contains(v)));
        assert_eq!(one, of(0, 0, 24, 1));
        for other in [of(1, 0, 24, 1), of(0, 1, 24, 1), of(0, 0, 24, 2)] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn coordinates_are_mirrored_at_both_edges() {
        for (at, want) in [
            (0.0, 0.0),
            (-1.0, 0.0),
            (-2.0, 1.0),
            (4.0, 3.0),
            (5.0, 2.0),
            (9.0, 1.0),
        ] {
            assert_eq!(mirrored(at, 4.0), want, "{at}");
        }
    }

    #[test]
    fn blur_keeps_what_is_even_and_spreads_a_point() {
        let mut even = vec![0.5; 49];
        blur(&mut even, 7);
        assert!(even.iter().all(|v| (v - 0.5).abs() < 1e-6));
        let mut point = vec![0.0; 49];
        point[24] = 256.0;
        blur(&mut point, 7);
        assert_eq!(
            (point[24], point[23], point[16], point[22]),
            (36.0, 24.0, 16.0, 6.0)
        );
    }
}
