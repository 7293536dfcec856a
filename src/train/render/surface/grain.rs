//! Grain of several octaves: what most surfaces begin with.

use super::super::layers::{Colour, Layers, mix, times};
use super::super::noise::turn;
use super::{Make, Swatch};

/// Grain of any material: broad mottle, directed fine noise, single-pixel specks, relief.
pub(super) struct Grain {
    pub(super) base: Colour,
    pub(super) other: Colour,
    pub(super) mottle: f32,
    pub(super) broad: f32,
    pub(super) fine: f32,
    pub(super) long: f32,
    pub(super) short: f32,
    pub(super) octaves: usize,
    pub(super) angle: f32,
    pub(super) speck: f32,
    pub(super) relief: f32,
    pub(super) gloss: f32,
}

impl Grain {
    pub(super) fn new(base: Colour) -> Self {
        Self {
            base,
            other: base,
            mottle: 0.05,
            broad: 0.4,
            fine: 0.06,
            long: 3.0,
            short: 3.0,
            octaves: 2,
            angle: 0.0,
            speck: 0.02,
            relief: 0.3,
            gloss: 0.2,
        }
    }
    pub(super) fn draw(&self, make: &Make) -> Swatch {
        let (noise, side) = (make.noise, make.side);
        let broad = noise.plane(side, self.broad * side as f32, 3, 3.7);
        let (s, c) = turn(self.angle);
        let (su, sv) = (1.0 / self.long, 1.0 / self.short);
        let layers = Layers::paint(side, |x, y, i| {
            let (u, v) = ((c * x + s * y) * su, (c * y - s * x) * sv);
            let f = noise.octaves(u + 40.0, v + 40.0, self.octaves);
            let w = noise.cell(x as i32 * 3 + 11, y as i32 * 5);
            let t = (0.5 + 0.6 * broad[i]).clamp(0.0, 1.0);
            let k = 1.0 + self.mottle * broad[i] + self.fine * f + self.speck * w;
            (
                times(mix(self.base, self.other, t), k),
                self.relief * f,
                self.gloss,
            )
        });
        Swatch {
            layers,
            pieces: Vec::new(),
            period: self.short.max(2.0),
            axis: self.angle,
        }
    }
}
