//! Stone, concrete, ceramics and glass.

use super::super::layers::{Layers, mix, times};
use super::super::noise::{smooth, turn, wave};
use super::grain::Grain;
use super::{Make, Swatch};

pub(super) fn asphalt(make: &mut Make) -> Swatch {
    let base = make.grey(0.2, 0.55);
    let cell = make.scaled(1.0, 4.5).max(1.6);
    let contrast = make.dice.range(0.15, 0.5);
    let (noise, side) = (make.noise, make.side);
    let broad = noise.plane(side, side as f32 * 0.5, 2, 9.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (d, e, name) = noise.cells(x / cell, y / cell, 1.0);
        let stone = smooth(0.02, 0.3, e - d);
        let f = noise.at(x * 0.6, y * 0.6);
        let k = 0.75 + contrast * (0.7 * name * stone + 0.4 * f) + 0.1 * broad[i] + 0.25 * stone;
        (times(base, k.max(0.1)), 0.8 * stone * (1.0 + name), 0.15)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

pub(super) fn concrete(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.4, 0.8));
    g.other = mix(g.base, make.hue((0.05, 0.15), (0.05, 0.2), (0.4, 0.8)), 0.5);
    g.long = make.dice.scale(2.0, 12.0);
    g.short = g.long;
    g.octaves = 4;
    g.mottle = make.dice.range(0.05, 0.2);
    g.fine = make.dice.range(0.04, 0.14);
    g.speck = make.dice.range(0.02, 0.1);
    g.relief = make.dice.range(0.1, 0.6);
    g.gloss = 0.02;
    let mut swatch = g.draw(make);
    // Air bubbles of cast concrete and single dark grains are normal.
    let (noise, rare) = (make.noise, make.dice.range(0.75, 1.0));
    let cell = make.ranged(2.0, 5.0);
    if make.dice.chance(0.5) {
        for (i, colour) in swatch.layers.colour.iter_mut().enumerate() {
            let (x, y) = ((i % make.side) as f32, (i / make.side) as f32);
            let (d, _, name) = noise.cells(x / cell, y / cell, 0.9);
            if name.abs() > rare * 0.9 {
                *colour = times(*colour, 1.0 - 0.4 * smooth(0.25, 0.08, d));
            }
        }
    }
    swatch
}

pub(super) fn plaster(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.hue((0.0, 1.0), (0.0, 0.25), (0.5, 0.95)));
    g.long = make.scaled(2.0, 8.0);
    g.short = g.long * make.dice.range(0.4, 1.0);
    g.angle = make.dice.angle();
    g.octaves = 3;
    g.fine = 0.02;
    g.relief = make.dice.range(0.5, 2.5);
    g.gloss = 0.05;
    g.draw(make)
}

pub(super) fn marble(make: &mut Make) -> Swatch {
    let light = make.dice.chance(0.6);
    let base = if light {
        make.grey(0.65, 0.92)
    } else {
        make.hue((0.0, 0.5), (0.1, 0.5), (0.1, 0.45))
    };
    let vein = if light {
        make.grey(0.25, 0.55)
    } else {
        make.grey(0.6, 0.9)
    };
    let (noise, side) = (make.noise, make.side);
    let scale = make.scaled(14.0, 45.0);
    let warp = noise.plane(side, scale, 3, 5.0);
    let fine = noise.plane(side, scale * 0.6, 3, 60.0);
    let (s, c) = turn(make.dice.angle());
    let strength = make.dice.range(0.2, 0.9);
    let sharp = make.dice.range(4.0, 14.0);
    let layers = Layers::paint(side, |x, y, i| {
        let u = (c * x + s * y) / (scale * 1.6) + 1.1 * warp[i];
        let line = 1.0 / (1.0 + sharp * sharp * wave(u).abs() * wave(u).abs());
        let t = strength * line * smooth(-0.4, 0.5, fine[i]) + 0.15 * (fine[i] + 0.5);
        (mix(base, vein, t.clamp(0.0, 1.0)), 0.0, 0.4)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: scale,
        axis: 0.0,
    }
}

pub(super) fn glass(make: &mut Make) -> Swatch {
    let tint = make.hue((0.3, 0.65), (0.0, 0.3), (0.35, 0.9));
    let (noise, side) = (make.noise, make.side);
    // What shows through the pane and what it mirrors, both out of focus.
    let behind = noise.plane(side, side as f32 * make.dice.range(0.5, 1.2), 1, 3.0);
    let (s, c) = turn(make.dice.angle());
    let (at, width) = (make.dice.range(-0.3, 0.9), make.dice.range(0.05, 0.3));
    let mirror = make.dice.range(0.0, 0.35);
    let n = side as f32;
    let layers = Layers::paint(side, |x, y, i| {
        let d = (c * x + s * y) / n - at;
        let band = smooth(0.0, 0.02, d) * smooth(width + 0.02, width, d);
        let second = smooth(width + 0.05, width + 0.06, d) * smooth(width + 0.12, width + 0.1, d);
        let k = 1.0 + 0.12 * behind[i] + mirror * (band + second);
        (times(tint, k), 0.0, 0.9)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: n * 0.2,
        axis: 0.0,
    }
}

pub(super) fn granite(make: &mut Make) -> Swatch {
    let colours = [
        make.grey(0.1, 0.3),
        make.grey(0.6, 0.9),
        make.hue((0.0, 0.12), (0.1, 0.5), (0.3, 0.8)),
        make.grey(0.3, 0.6),
    ];
    let cell = make.scaled(1.0, 4.0).max(1.5);
    let contrast = make.dice.range(0.3, 1.0);
    let (noise, side) = (make.noise, make.side);
    let warp = noise.plane(side, cell * 4.0, 2, 1.0);
    let layers = Layers::paint(side, |x, y, i| {
        let w = 0.6 * warp[i];
        let (_, _, name) = noise.cells(x / cell + w, y / cell - w, 1.0);
        let kind = ((name * 0.5 + 0.5) * 4.0).clamp(0.0, 3.99) as usize;
        let k = 1.0 + 0.1 * noise.cell(x as i32, y as i32);
        (times(mix(colours[3], colours[kind], contrast), k), 0.0, 0.3)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

pub(super) fn baked(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.hue((0.05, 0.12), (0.35, 0.7), (0.5, 0.9)));
    g.other = times(g.base, make.dice.range(0.5, 0.85));
    g.broad = make.dice.range(0.05, 0.25);
    g.long = make.scaled(1.5, 5.0);
    g.short = g.long;
    g.octaves = 3;
    g.fine = make.dice.range(0.05, 0.2);
    g.relief = make.dice.range(0.4, 1.6);
    g.gloss = 0.1;
    g.draw(make)
}
