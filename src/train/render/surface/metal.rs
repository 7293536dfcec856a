//! Metals, and grain of every kind.

use super::super::layers::{Layers, times};
use super::super::noise::wave;
use super::grain::Grain;
use super::{Make, Swatch};
use std::f32::consts::FRAC_PI_2;

pub(super) fn cast(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.3, 0.75));
    g.long = make.dice.scale(1.5, 6.0);
    g.short = g.long;
    g.octaves = 3;
    g.fine = make.dice.range(0.03, 0.14);
    g.relief = make.dice.range(0.1, 0.9);
    g.mottle = make.dice.range(0.02, 0.12);
    g.gloss = make.dice.range(0.1, 0.6);
    g.draw(make)
}

pub(super) fn brushed(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.4, 0.85));
    g.angle = make.dice.pick(&[0.0, FRAC_PI_2]) + make.dice.range(-0.2, 0.2);
    if make.dice.chance(0.25) {
        g.angle = make.dice.angle();
    }
    g.long = make.scaled(15.0, 90.0);
    g.short = make.dice.scale(0.9, 2.5);
    g.fine = make.dice.range(0.03, 0.16);
    g.relief = make.dice.range(0.0, 0.25);
    g.gloss = make.dice.range(0.3, 0.9);
    g.speck = make.dice.range(0.0, 0.03);
    g.draw(make)
}

pub(super) fn rolled(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.25, 0.65));
    g.other = times(g.base, make.dice.range(0.75, 1.1));
    g.angle = FRAC_PI_2 + make.dice.range(-0.05, 0.05);
    g.long = make.scaled(30.0, 200.0);
    g.short = make.scaled(1.0, 8.0);
    g.octaves = 3;
    g.fine = make.dice.range(0.04, 0.2);
    g.broad = make.dice.range(0.1, 0.6);
    g.mottle = make.dice.range(0.03, 0.15);
    g.speck = make.dice.range(0.02, 0.09);
    g.relief = 0.1;
    g.draw(make)
}

pub(super) fn iron(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.15, 0.4));
    g.other = make.hue((0.04, 0.1), (0.1, 0.4), (0.15, 0.4));
    g.long = make.dice.scale(2.0, 7.0);
    g.short = g.long * make.dice.range(0.7, 1.0);
    g.octaves = 3;
    g.fine = make.dice.range(0.05, 0.15);
    g.relief = make.dice.range(0.3, 1.6);
    g.gloss = make.dice.range(0.1, 0.5);
    g.draw(make)
}

pub(super) fn machined(make: &mut Make) -> Swatch {
    let base = make.grey(0.4, 0.8);
    let (noise, side) = (make.noise, make.side);
    let pitch = make.dice.scale(1.6, make.percent(4.0).max(2.0));
    let n = side as f32;
    let (cx, cy) = if make.dice.chance(0.4) {
        (n * 0.5, n * 0.5)
    } else {
        (make.dice.range(-n, 2.0 * n), make.dice.range(-n, 2.0 * n))
    };
    let (depth, contrast) = (make.dice.range(0.03, 0.25), make.dice.range(0.02, 0.12));
    let layers = Layers::paint(side, |x, y, _| {
        let d = ((x - cx) * (x - cx) + (y - cy) * (y - cy)).sqrt() / pitch;
        let ring = noise.at(d * 0.9, 3.0);
        let w = 0.6 * wave(d) + 0.6 * ring;
        let k = 1.0 + contrast * w + 0.02 * noise.cell(x as i32, y as i32);
        (times(base, k), depth * w, 0.7)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: pitch,
        axis: 0.0,
    }
}

pub(super) fn weathered(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.hue((0.02, 0.08), (0.4, 0.8), (0.25, 0.6)));
    g.other = make.grey(0.2, 0.6);
    g.broad = make.dice.range(0.08, 0.3);
    g.mottle = 0.3;
    g.long = make.dice.scale(2.0, 8.0);
    g.short = g.long;
    g.octaves = 4;
    g.fine = make.dice.range(0.1, 0.3);
    g.relief = make.dice.range(0.3, 1.2);
    g.gloss = 0.1;
    g.draw(make)
}

pub(super) fn magnet(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.2, 0.6));
    g.broad = make.dice.range(0.2, 0.8);
    g.mottle = make.dice.range(0.05, 0.2);
    g.long = make.scaled(1.0, 10.0);
    g.short = make.dice.scale(1.0, 3.0);
    g.angle = make.dice.pick(&[0.0, FRAC_PI_2]);
    g.fine = make.dice.range(0.01, 0.08);
    g.relief = 0.1;
    g.draw(make)
}
