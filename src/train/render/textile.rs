//! Woven, knitted and tufted surfaces.

use super::layers::{Colour, Layers, mix, times};
use super::noise::{smooth, wave};
use super::surface::{Make, Swatch};

/// A weave: whether the warp lies on top at a crossing.
fn weave(
    make: &mut Make,
    colours: (Colour, Colour),
    period: f32,
    stripes: Option<(Colour, i32, i32)>,
    over: fn(i32, i32) -> bool,
) -> Swatch {
    let bend = make.dice.range(0.0, 0.9);
    let frame = make.frame(period, bend, false);
    let (noise, side) = (make.noise, make.side);
    let uneven = make.dice.range(0.02, 0.16);
    let gap = make.dice.range(0.0, 0.35);
    let fuzz = make.dice.range(0.02, 0.12);
    let aspect = make.dice.range(0.8, 1.3);
    let relief = period * make.dice.range(0.08, 0.25);
    let layers = Layers::paint(side, |x, y, _| {
        let (u, v) = frame.at(noise, x, y);
        let v = v * aspect;
        let (fu, fv) = (u.floor(), v.floor());
        let (i, j) = (fu as i32, fv as i32);
        let (a, b) = (u - fu - 0.5, v - fv - 0.5);
        let warp = over(i, j);
        // Across the upper thread it is round; along it, it dives under its neighbours.
        let (across, along, name) = if warp {
            (a, b, (i, 7))
        } else {
            (b, a, (91, j))
        };
        let round = 1.0 - 4.0 * across * across;
        let dive = 1.0 - 1.6 * along * along;
        let top = (round * dive).max(0.0);
        let mut colour = if warp { colours.0 } else { colours.1 };
        if let Some((other, every, wide)) = stripes
            && i.rem_euclid(every) < wide
        {
            colour = mix(colour, other, if warp { 1.0 } else { 0.45 });
        }
        let k = (0.55 + 0.45 * smooth(-0.05, gap + 0.3, top))
            * (1.0 + uneven * noise.cell(name.0, name.1))
            * (1.0 + fuzz * noise.cell(x as i32, y as i32));
        (times(colour, k), relief * top, 0.08)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period,
        axis: frame.angle,
    }
}

fn threads(make: &mut Make) -> (Colour, Colour) {
    let warp = make.any_colour();
    let weft = if make.dice.chance(0.6) {
        times(warp, make.dice.range(0.8, 1.15))
    } else {
        make.any_colour()
    };
    (warp, weft)
}

fn pitch(make: &mut Make) -> f32 {
    make.scaled(1.3, 5.0).max(2.6)
}

/// Over one, under one.
pub fn plain(make: &mut Make) -> Swatch {
    let (colours, period) = (threads(make), pitch(make));
    weave(make, colours, period, None, |i, j| (i + j) & 1 == 0)
}

/// Two by two.
pub fn basket(make: &mut Make) -> Swatch {
    let (colours, period) = (threads(make), pitch(make) * 0.8);
    weave(make, colours, period, None, |i, j| {
        ((i >> 1) + (j >> 1)) & 1 == 0
    })
}

/// Long floats.
pub fn satin(make: &mut Make) -> Swatch {
    let (colours, period) = (threads(make), pitch(make) * 0.8);
    weave(make, colours, period, None, |i, j| {
        (i * 2 + j).rem_euclid(5) != 0
    })
}

/// Plain weave with coloured warp stripes.
pub fn striped(make: &mut Make) -> Swatch {
    let (colours, period) = (threads(make), pitch(make) * 0.7);
    let every = 4 + make.dice.below(20) as i32;
    let wide = 1 + make.dice.below(every as usize / 2) as i32;
    let stripe = Some((make.any_colour(), every, wide));
    weave(make, colours, period, stripe, |i, j| (i + j) & 1 == 0)
}

/// Columns of V-shaped stitches.
pub fn knit(make: &mut Make) -> Swatch {
    let colour = make.any_colour();
    let period = make.scaled(2.2, 8.0).max(4.0);
    let bend = make.dice.range(0.0, 0.8);
    let frame = make.frame(period, bend, false);
    let (noise, side) = (make.noise, make.side);
    let (lean, fuzz) = (make.dice.range(0.5, 1.0), make.dice.range(0.05, 0.2));
    let layers = Layers::paint(side, |x, y, _| {
        let (u, v) = frame.at(noise, x, y);
        let (fu, v) = (u.floor(), v * 1.25);
        let a = (u - fu - 0.5).abs();
        let w = v - lean * a * 1.6;
        let b = w - w.floor() - 0.5;
        let leg = (1.0 - 5.0 * (a - 0.25) * (a - 0.25) * 4.0).max(0.0);
        let top = (leg * (1.0 - 4.0 * b * b)).max(0.0).sqrt();
        let strand = 0.06 * wave((b + a) * 3.0);
        let k = (0.4 + 0.6 * top + strand)
            * (1.0 + fuzz * noise.cell(x as i32, y as i32))
            * (1.0 + 0.06 * noise.cell(fu as i32, w.floor() as i32));
        (times(colour, k), period * 0.15 * top, 0.02)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period,
        axis: frame.angle,
    }
}

/// Tufts without order, sometimes in rows.
pub fn carpet(make: &mut Make) -> Swatch {
    let (colour, other) = (make.any_colour(), make.any_colour());
    let period = make.scaled(1.2, 3.5).max(2.0);
    let frame = make.frame(period, 0.5, false);
    let (noise, side) = (make.noise, make.side);
    let rows = make.dice.range(0.0, 0.35);
    let contrast = make.dice.range(0.2, 0.7);
    let fleck = make.dice.range(0.0, 0.5);
    let layers = Layers::paint(side, |x, y, _| {
        let (u, v) = frame.at(noise, x, y);
        let (d, _, name) = noise.cells(u, v, 1.0);
        let top = (1.0 - 1.3 * d).max(0.0) + rows * wave(v);
        let k = 1.0 - contrast
            + contrast * top * 1.5
            + 0.15 * noise.cell(x as i32, y as i32)
            + 0.1 * name;
        let t = if name > 0.3 { fleck } else { 0.0 };
        (times(mix(colour, other, t), k.max(0.05)), 0.6 * top, 0.0)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period,
        axis: frame.angle,
    }
}

/// An open net over a plain ground.
pub fn net(make: &mut Make) -> Swatch {
    let (thread, ground) = (make.any_colour(), make.grey(0.02, 0.9));
    let period = make.scaled(3.0, 12.0).max(5.0);
    let bend = make.dice.range(0.0, 0.5);
    let frame = make.frame(period, bend, true);
    let (noise, side) = (make.noise, make.side);
    let (width, hexagonal) = (make.dice.range(0.12, 0.22), make.dice.chance(0.5));
    let layers = Layers::paint(side, |x, y, _| {
        let (u, v) = frame.at(noise, x, y);
        let u = if hexagonal && (v.floor() as i32) & 1 == 0 {
            u + 0.5
        } else {
            u
        };
        let a = (u - u.floor() - 0.5).abs();
        let b = (v - v.floor() - 0.5).abs();
        let from = (0.5 - a).min(0.5 - b);
        let t = smooth(width, width - 0.1, from);
        let k = 1.0 + 0.12 * noise.at(u * 9.0, v * 9.0);
        (times(mix(ground, thread, t), k), t * period * 0.12, 0.1 * t)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period,
        axis: frame.angle,
    }
}
