//! Plastics, paints, foils and paper.

use super::super::layers::Layers;
use super::grain::Grain;
use super::{Make, Swatch};

pub(super) fn plastic(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.any_colour());
    g.fine = make.dice.range(0.0, 0.05);
    g.long = make.dice.scale(1.5, 5.0);
    g.short = g.long;
    g.mottle = make.dice.range(0.0, 0.04);
    g.relief = make.dice.range(0.0, 0.5);
    g.gloss = make.dice.range(0.1, 0.9);
    g.speck = make.dice.range(0.0, 0.02);
    g.draw(make)
}

pub(super) fn painted(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.any_colour());
    g.fine = 0.01;
    g.long = make.scaled(3.0, 10.0);
    g.short = g.long;
    g.relief = make.dice.range(0.05, 0.6);
    g.gloss = make.dice.range(0.5, 1.0);
    g.speck = make.dice.range(0.0, 0.02);
    g.draw(make)
}

pub(super) fn rubber(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.05, 0.25));
    g.fine = make.dice.range(0.05, 0.3);
    g.long = make.dice.scale(1.0, 3.0);
    g.short = g.long;
    g.relief = 0.4;
    g.gloss = 0.3;
    g.draw(make)
}

pub(super) fn crumpled(make: &mut Make) -> Swatch {
    let base = if make.dice.chance(0.6) {
        make.grey(0.5, 0.85)
    } else {
        make.any_colour()
    };
    let cell = make.scaled(10.0, 35.0);
    let (noise, side) = (make.noise, make.side);
    let depth = make.dice.range(0.1, 0.4) * cell;
    let gloss = make.dice.range(0.0, 0.9);
    let warp = noise.plane(side, cell, 2, 4.0);
    let layers = Layers::paint(side, |x, y, i| {
        // Ridges: noise folded at zero has sharp creases.
        let w = 0.4 * warp[i];
        let a = noise.at(x / cell + w, y / cell + 3.0).abs();
        let b = noise.at(x / cell * 2.1 + 20.0, y / cell * 2.1 - w).abs();
        (base, depth * (a + 0.45 * b), gloss)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

pub(super) fn paper(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.hue((0.05, 0.18), (0.0, 0.35), (0.65, 0.97)));
    g.long = make.dice.scale(2.0, 9.0);
    g.short = make.dice.scale(1.0, 2.5);
    g.angle = make.dice.angle();
    g.fine = make.dice.range(0.01, 0.05);
    g.speck = make.dice.range(0.0, 0.03);
    g.mottle = make.dice.range(0.0, 0.05);
    g.relief = make.dice.range(0.0, 0.2);
    g.gloss = 0.03;
    g.draw(make)
}
