//! Wood, leather, tissue and what has pores.

use super::super::layers::{Colour, Layers, mix, times};
use super::super::noise::{smooth, wave};
use super::{Make, Swatch};

pub(super) fn wood_colours(make: &mut Make) -> (Colour, Colour) {
    let base = make.hue((0.04, 0.12), (0.25, 0.65), (0.4, 0.85));
    let k = make.dice.range(0.55, 0.85);
    (base, [base[0] * k, base[1] * k * 0.95, base[2] * k * 0.85])
}

pub(super) fn wood(make: &mut Make) -> Swatch {
    let (base, dark) = wood_colours(make);
    let width = make.scaled(2.5, 12.0);
    let frame = make.frame(width, 0.0, false);
    let (noise, side) = (make.noise, make.side);
    let n = side as f32;
    // Knots belong to wood.
    let mut knots = Vec::new();
    if make.dice.chance(0.35) {
        for _ in 0..1 + make.dice.below(2) {
            let at = (make.dice.range(0.0, n), make.dice.range(0.0, n));
            let (u, v) = frame.at(noise, at.0, at.1);
            knots.push((u, v, make.dice.range(0.5, 1.4)));
        }
    }
    let (wobble, pores) = (make.dice.range(0.3, 2.0), make.dice.range(0.03, 0.2));
    let boards = make.dice.chance(0.25).then(|| make.dice.range(4.0, 9.0));
    let layers = Layers::paint(side, |x, y, _| {
        let (u, v) = frame.at(noise, x, y);
        let mut ring = v + wobble * noise.at(u * 0.05, v * 0.15 + 9.0) * 2.0;
        let mut dark_knot = 0.0f32;
        for (ku, kv, size) in &knots {
            let (du, dv) = ((u - ku) * 0.6, v - kv);
            let d = (du * du + dv * dv).sqrt() / size;
            ring += dv.signum() * 1.5 * libm::expf(-d * d * 0.5) * size;
            dark_knot = dark_knot.max(smooth(0.9, 0.4, d) * (0.8 + 0.2 * wave(d * 3.0)));
        }
        let mut edge = 0.0;
        if let Some(width) = boards {
            let board = v / width;
            let f = board - board.floor();
            edge = smooth(0.02, 0.005, f.min(1.0 - f));
            ring += 5.3 * board.floor();
        }
        let late = smooth(0.3, 0.95, ring - ring.floor()) * smooth(1.0, 0.95, ring - ring.floor());
        let fibre = noise.at(u * 0.35, v * 6.0) + 0.6 * noise.at(u * 1.1, v * 14.0);
        let t = 0.75 * late * (0.6 + 0.4 * noise.at(3.0, ring.floor())) + pores * fibre;
        let t = (t + dark_knot).clamp(0.0, 1.3);
        (
            times(mix(base, dark, t), 1.0 - 0.7 * edge - 0.3 * dark_knot),
            0.15 * fibre - edge,
            0.15,
        )
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: frame.period,
        axis: frame.angle,
    }
}

pub(super) fn wood_rings(make: &mut Make) -> Swatch {
    let (base, dark) = wood_colours(make);
    let pitch = make.scaled(1.5, 6.0).max(2.0);
    let (noise, side) = (make.noise, make.side);
    let n = side as f32;
    let (cx, cy) = (make.dice.range(0.1, 0.9) * n, make.dice.range(0.1, 0.9) * n);
    let warp = noise.plane(side, n * 0.4, 3, 2.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (dx, dy) = (x - cx, y - cy);
        let d = (dx * dx + dy * dy).sqrt() / pitch + 2.0 * warp[i];
        let late = smooth(0.2, 0.95, d - d.floor());
        let k = 1.0 + 0.06 * noise.cell(x as i32, y as i32);
        (times(mix(base, dark, 0.8 * late), k), 0.1 * late, 0.05)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: pitch,
        axis: 0.0,
    }
}

/// Cells with dark joints between them: leather, scales, mud.
pub(super) fn cellular(
    make: &Make,
    colours: (Colour, Colour),
    cell: f32,
    stretch: f32,
    joint: f32,
    relief: f32,
    gloss: f32,
) -> Swatch {
    let (noise, side) = (make.noise, make.side);
    let broad = noise.plane(side, side as f32 * 0.5, 2, 8.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (d, e, name) = noise.cells(x / cell + 0.15 * broad[i], y / (cell * stretch), 0.9);
        let inside = smooth(0.0, joint, e - d);
        let k = (0.62 + 0.38 * inside) * (1.0 + 0.07 * broad[i] + 0.05 * name);
        let colour = mix(colours.0, colours.1, (0.5 + 0.5 * broad[i]).clamp(0.0, 1.0));
        (times(colour, k), relief * inside, gloss)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

pub(super) fn leather(make: &mut Make) -> Swatch {
    let colour = if make.dice.chance(0.7) {
        make.hue((0.02, 0.11), (0.2, 0.75), (0.15, 0.7))
    } else {
        make.any_colour()
    };
    let other = times(colour, make.dice.range(0.8, 1.1));
    let cell = make.scaled(1.5, 5.0).max(2.2);
    let joint = make.dice.range(0.2, 0.6);
    let relief = make.dice.range(0.2, 0.9);
    let gloss = make.dice.range(0.1, 0.5);
    cellular(make, (colour, other), cell, 1.0, joint, relief, gloss)
}

pub(super) fn porous(make: &mut Make, base: Colour, cell: f32, dark: f32) -> Swatch {
    let (noise, side) = (make.noise, make.side);
    let broad = noise.plane(side, side as f32 * 0.4, 2, 8.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (d, _, name) = noise.cells(x / cell, y / cell, 1.0);
        let (small, _, _) = noise.cells(x / cell * 2.3 + 40.0, y / cell * 2.3, 1.0);
        let pore = smooth(0.45 + 0.2 * name, 0.1, d).max(0.7 * smooth(0.35, 0.1, small));
        (
            times(base, (1.0 - dark * pore) * (1.0 + 0.08 * broad[i])),
            -1.2 * pore,
            0.05,
        )
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

pub(super) fn foam(make: &mut Make) -> Swatch {
    let base = make.any_colour();
    let cell = make.scaled(2.0, 7.0).max(2.5);
    let dark = make.dice.range(0.2, 0.7);
    porous(make, base, cell, dark)
}

pub(super) fn tissue(make: &mut Make) -> Swatch {
    let (dark, bright) = (make.dice.range(0.05, 0.35), make.dice.range(0.45, 0.8));
    let scale = make.scaled(8.0, 30.0);
    let (noise, side) = (make.noise, make.side);
    let folds = noise.plane(side, scale, 3, 5.0);
    let broad = noise.plane(side, side as f32 * 0.6, 2, 70.0);
    let ridge = make.dice.range(0.5, 3.0);
    let layers = Layers::paint(side, |x, y, i| {
        let t = 0.5 + 0.3 * broad[i] + 0.35 * wave(ridge * folds[i]);
        let k = dark + (bright - dark) * t.clamp(0.0, 1.0);
        let k = k * (1.0 + 0.08 * noise.cell(x as i32, y as i32));
        ([k; 3], 0.0, 0.0)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: scale,
        axis: 0.0,
    }
}
