//! Surfaces with a regular pattern: meshes, cells, tiles, holes, traces, print.
//!
//! Elements that a defect may remove or displace one by one are pieces.

use super::glyph;
use super::layers::{Ink, Layers, Piece, Pose, Role, mix, times};
use super::noise::{smooth, wave};
use super::surface::{Make, Swatch};
use std::f32::consts::FRAC_PI_2;

fn swatch(layers: Layers, pieces: Vec<Piece>, period: f32, axis: f32) -> Swatch {
    Swatch {
        layers,
        pieces,
        period,
        axis,
    }
}

/// Round wires, over and under each other.
pub fn wire_mesh(make: &mut Make) -> Swatch {
    let (wire, ground) = (make.grey(0.4, 0.85), make.grey(0.0, 0.25));
    let period = make.scaled(3.0, 11.0).max(5.0);
    let bend = make.dice.range(0.0, 0.3);
    let frame = make.frame(period, bend, true);
    let (noise, side) = (make.noise, make.side);
    let width = make.dice.range(0.14, 0.3);
    let layers = Layers::paint(side, |x, y, _| {
        let (u, v) = frame.at(noise, x, y);
        let (i, j) = (u.floor() as i32, v.floor() as i32);
        let (a, b) = ((u - u.floor() - 0.5) / width, (v - v.floor() - 0.5) / width);
        let up = (1.0 - a * a).max(0.0).sqrt();
        let across = (1.0 - b * b).max(0.0).sqrt();
        let turn = if (i + j) & 1 == 0 { 0.6 } else { -0.6 };
        let top = if up > 0.0 && (across == 0.0 || up + turn > across) {
            up
        } else {
            across
        };
        let t = smooth(0.0, 0.3, top);
        (
            times(mix(ground, wire, t), 0.6 + 0.4 * top),
            top * period * width,
            0.8 * t,
        )
    });
    swatch(layers, Vec::new(), period, frame.angle)
}

/// Bars between nodes, each of which can be missing or bent.
pub fn grid(make: &mut Make) -> Swatch {
    let ground = make.grey(0.02, 0.95);
    let mut bar = make.grey(0.05, 0.9);
    if (ground[0] - bar[0]).abs() < 0.25 {
        bar = make.grey(0.85, 0.95);
        if ground[0] > 0.6 {
            bar = times(bar, 0.2);
        }
    }
    let period = make.ranged(9.0, 20.0);
    let frame = make.frame(period, 0.0, true);
    let width = make.dice.range(0.1, 0.3);
    let layers = Layers::flat(make.side, ground, 0.0);
    let ink = Ink {
        grain: 0.05,
        ..Ink::flat(bar)
            .raised(width * period * 0.3, width * period * 0.5)
            .glossy(0.6)
    };
    let mut pieces = Vec::new();
    let (u0, u1, v0, v1) = frame.span(make.side);
    let pose = Pose {
        x: 0.0,
        y: 0.0,
        scale: 1.0,
        angle: 0.0,
    };
    let margin = period * 1.5;
    let n = make.side as f32;
    for j in v0..=v1 {
        for i in u0..=u1 {
            let from = frame.pixel(i as f32, j as f32);
            if from.0 < -margin || from.1 < -margin || from.0 > n + margin || from.1 > n + margin {
                continue;
            }
            for (du, dv) in [(1.0, 0.0), (0.0, 1.0)] {
                let to = frame.pixel(i as f32 + du, j as f32 + dv);
                if let Some(path) = pose.line(&[from, to], width * period, true) {
                    pieces.push(Piece {
                        path,
                        ink,
                        role: Role::Element,
                    });
                }
            }
        }
    }
    swatch(layers, pieces, period, frame.angle)
}

fn busbars(make: &mut Make, colour: [f32; 3], fingers: bool) -> Vec<Piece> {
    let n = make.side as f32;
    let upright = make.dice.chance(0.5);
    let pose = Pose {
        x: n * 0.5,
        y: n * 0.5,
        scale: n,
        angle: make.dice.range(-0.03, 0.03) + if upright { FRAC_PI_2 } else { 0.0 },
    };
    let mut pieces = Vec::new();
    let mut bar = |y: f32, width: f32, cover: f32, role| {
        // In segments, so that one of them can be interrupted.
        for k in 0..6 {
            let x = -0.6 + 0.2 * k as f32;
            if let Some(path) = pose.block(x + 0.1, y, 0.101, width, 0.0) {
                pieces.push(Piece {
                    path,
                    ink: Ink {
                        cover,
                        ..Ink::flat(colour)
                    },
                    role,
                });
            }
        }
    };
    if fingers {
        let step = make.dice.range(0.02, 0.06);
        for k in 0..(1.2 / step) as usize {
            bar(-0.6 + k as f32 * step, 0.002, 0.45, Role::Detail);
        }
    }
    let count = 1 + make.dice.below(4);
    let shift = make.dice.range(-0.1, 0.1);
    let width = make.dice.range(0.006, 0.02);
    for k in 0..count {
        let y = (k as f32 + 0.5) / count as f32 - 0.5 + shift;
        bar(y, width, 1.0, Role::Element);
    }
    pieces
}

/// A solar cell by daylight: blue crystals, bright busbars.
pub fn solar(make: &mut Make) -> Swatch {
    let base = make.hue((0.58, 0.68), (0.2, 0.8), (0.15, 0.5));
    let cell = make.scaled(4.0, 20.0);
    let crystals = make.dice.range(0.0, 0.3);
    let (noise, side) = (make.noise, make.side);
    let layers = Layers::paint(side, |x, y, _| {
        let (_, _, name) = noise.cells(x / cell, y / cell, 1.0);
        let k = 1.0 + crystals * name + 0.03 * noise.cell(x as i32, y as i32);
        (times(base, k), 0.0, 0.4)
    });
    let colour = make.grey(0.6, 0.95);
    let pieces = busbars(make, colour, true);
    swatch(layers, pieces, make.percent(10.0), 0.0)
}

/// A solar cell by its own infrared light: grey clouds, dark busbars.
pub fn luminescent(make: &mut Make) -> Swatch {
    let bright = make.dice.range(0.4, 0.85);
    let (noise, side) = (make.noise, make.side);
    let clouds = noise.plane(side, side as f32 * make.dice.range(0.08, 0.4), 4, 5.0);
    let depth = make.dice.range(0.05, 0.45);
    let n = side as f32;
    let layers = Layers::paint(side, |x, y, i| {
        let from = x.min(y).min(n - x).min(n - y) / n;
        let k = bright * (1.0 + depth * clouds[i]) * (0.6 + 0.4 * smooth(0.0, 0.06, from));
        ([k; 3], 0.0, 0.0)
    });
    let pieces = busbars(make, [0.08; 3], make.noise.cell(0, 0) > 0.0);
    swatch(layers, pieces, make.percent(10.0), 0.0)
}

/// A wall or floor of blocks with joints; `shift` moves every other row.
fn blocks(make: &mut Make, brick: bool) -> Swatch {
    let colour = if brick {
        make.hue((0.0, 0.08), (0.3, 0.7), (0.3, 0.7))
    } else {
        make.any_colour()
    };
    let joint = make.grey(0.2, 0.9);
    let period = make.ranged(14.0, 50.0);
    let frame = make.frame(period, if brick { 0.02 } else { 0.0 }, false);
    let (aspect, vary) = (if brick { 2.5 } else { 1.0 }, make.dice.range(0.0, 0.2));
    let width = make.dice.range(0.015, 0.06);
    let relief = make.dice.range(0.5, 2.0);
    let gloss = if brick {
        0.02
    } else {
        make.dice.range(0.1, 0.9)
    };
    let (noise, side) = (make.noise, make.side);
    let grain = make.dice.range(0.02, 0.12) * if brick { 2.0 } else { 1.0 };
    let layers = Layers::paint(side, |x, y, _| {
        let (u, v) = frame.at(noise, x, y);
        let v = v * aspect;
        let u = if brick && (v.floor() as i32) & 1 == 0 {
            u + 0.5
        } else {
            u
        };
        let a = 0.5 - (u - u.floor() - 0.5).abs();
        let b = (0.5 - (v - v.floor() - 0.5).abs()) / aspect;
        let t = smooth(width, width + 0.02, a.min(b));
        let name = noise.cell(u.floor() as i32 * 3, v.floor() as i32 * 5);
        let f = noise.octaves(x * 0.2, y * 0.2, 2);
        (
            times(
                mix(joint, times(colour, 1.0 + vary * name), t),
                1.0 + grain * f,
            ),
            relief * t + grain * f,
            gloss * t,
        )
    });
    swatch(layers, Vec::new(), period, frame.angle)
}

/// Square tiles.
pub fn tiles(make: &mut Make) -> Swatch {
    blocks(make, false)
}

/// Bricks in bond.
pub fn bricks(make: &mut Make) -> Swatch {
    blocks(make, true)
}

/// A sheet with regular holes, each of which can be missing.
pub fn perforated(make: &mut Make) -> Swatch {
    let base = make.grey(0.3, 0.85);
    let dark = make.grey(0.0, 0.15);
    let period = make.ranged(9.0, 24.0);
    let frame = make.frame(period, 0.0, true);
    let (radius, square) = (make.dice.range(0.18, 0.38), make.dice.chance(0.25));
    let stagger = make.dice.chance(0.5);
    let (noise, side) = (make.noise, make.side);
    let grain = make.dice.range(0.01, 0.08);
    let layers = Layers::paint(side, |x, y, _| {
        let f = noise.at(x * 0.05, y * 0.8) + noise.cell(x as i32, y as i32) * 0.5;
        (times(base, 1.0 + grain * f), 0.0, 0.5)
    });
    let ink = Ink::flat(dark)
        .raised(-period * 0.1, period * 0.08)
        .glossy(0.0);
    let mut pieces = Vec::new();
    let (u0, u1, v0, v1) = frame.span(side);
    for j in v0..=v1 {
        for i in u0..=u1 {
            let shift = if stagger && j & 1 == 0 { 0.5 } else { 0.0 };
            let (x, y) = frame.pixel(i as f32 + shift, j as f32);
            let pose = Pose {
                x,
                y,
                scale: period,
                angle: frame.angle,
            };
            let path = if square {
                pose.block(0.0, 0.0, radius, radius, 0.05)
            } else {
                pose.ellipse(0.0, 0.0, radius, radius)
            };
            pieces.extend(path.map(|path| Piece {
                path,
                ink,
                role: Role::Element,
            }));
        }
    }
    swatch(layers, pieces, period, frame.angle)
}

/// Parallel waves; `base` from the family.
fn waves(make: &mut Make, base: [f32; 3], sharp: bool, gloss: f32) -> Swatch {
    let period = make.scaled(2.0, 14.0).max(4.0);
    let frame = make.frame(period, 0.03, false);
    let (noise, side) = (make.noise, make.side);
    let depth = period * make.dice.range(0.08, 0.25);
    let groove = make.dice.range(0.0, 0.5);
    let layers = Layers::paint(side, |x, y, _| {
        let (u, _) = frame.at(noise, x, y);
        let mut w = 0.5 + 0.5 * wave(u);
        if sharp {
            w = smooth(0.15, 0.4, w);
        }
        let k = 1.0 - groove * (1.0 - w) + 0.04 * noise.octaves(x * 0.3, y * 0.3, 2);
        (times(base, k), depth * w, gloss)
    });
    swatch(layers, Vec::new(), period, frame.angle)
}

/// Corrugated cardboard.
pub fn corrugated(make: &mut Make) -> Swatch {
    let base = make.hue((0.07, 0.11), (0.25, 0.5), (0.5, 0.8));
    waves(make, base, false, 0.02)
}

/// Moulded ribs.
pub fn ribbed(make: &mut Make) -> Swatch {
    let base = make.any_colour();
    let gloss = make.dice.range(0.2, 0.8);
    waves(make, base, true, gloss)
}

/// Printed dots that follow a soft picture.
pub fn halftone(make: &mut Make) -> Swatch {
    let (paper, ink) = (make.grey(0.75, 0.97), make.any_colour());
    let period = make.scaled(1.4, 4.0).max(3.0);
    let frame = make.frame(period, 0.0, true);
    let (noise, side) = (make.noise, make.side);
    let tone = noise.plane(side, side as f32 * make.dice.range(0.2, 0.6), 2, 2.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (u, v) = frame.at(noise, x, y);
        let (a, b) = (u - u.floor() - 0.5, v - v.floor() - 0.5);
        let radius = 0.35 + 0.2 * tone[i];
        let t = smooth(0.12, -0.12, (a * a + b * b).sqrt() - radius);
        (mix(paper, ink, t), 0.0, 0.1)
    });
    let mut pieces = Vec::new();
    if make.dice.chance(0.6) {
        let n = make.side as f32;
        let colour = times(ink, 0.4);
        let size = make.dice.range(0.08, 0.2) * n;
        let pose = Pose {
            x: make.dice.range(0.2, 0.4) * n,
            y: make.dice.range(0.3, 0.7) * n,
            scale: size,
            angle: make.dice.range(-0.3, 0.3),
        };
        glyph::text(make.dice, &pose, 5, Ink::flat(colour), &mut pieces);
    }
    swatch(layers, pieces, period, frame.angle)
}

/// Copper traces, pads and vias under lacquer.
pub fn traces(make: &mut Make) -> Swatch {
    let board = make.hue((0.3, 0.7), (0.3, 0.9), (0.1, 0.5));
    let copper = mix(board, make.hue((0.08, 0.4), (0.2, 0.6), (0.5, 0.9)), 0.6);
    let pad = make.hue((0.1, 0.15), (0.0, 0.5), (0.7, 0.95));
    let n = make.side as f32;
    let (noise, side) = (make.noise, make.side);
    let layers = Layers::paint(side, |x, y, _| {
        let k = 1.0 + 0.03 * noise.cell(x as i32, y as i32);
        (times(board, k), 0.0, 0.5)
    });
    let pose = Pose {
        x: n * 0.5,
        y: n * 0.5,
        scale: n * make.dice.range(0.035, 0.09),
        angle: make.dice.range(-0.05, 0.05),
    };
    let half = (n * 0.75 / pose.scale) as i32;
    let mut pieces = Vec::new();
    let trace = Ink::flat(copper).raised(0.5, 1.5).glossy(0.5);
    let (width, diagonal) = (make.dice.range(0.25, 0.5), make.dice.chance(0.6));
    let mut row = -half;
    while row < half {
        let mut x = -half + make.dice.below(6) as i32;
        while x < half {
            let long = 3 + make.dice.below(10) as i32;
            let step = make.dice.pick(&[-1, 0, 0, 1]) as f32;
            let (y, from, to) = (row as f32, x as f32, (x + long) as f32);
            let knee = from + make.dice.range(0.3, 0.7) * long as f32;
            let second = if diagonal { knee + step.abs() } else { knee };
            let points = [(from, y), (knee, y), (second, y + step), (to, y + step)];
            let ends = [(from, y), (to, y + step)];
            pieces.extend(pose.line(&points, width, true).map(|path| Piece {
                path,
                ink: trace,
                role: Role::Element,
            }));
            for (px, py) in ends {
                let path = if make.noise.cell(px as i32 + 64, row) > 0.0 {
                    pose.ellipse(px, py, 0.42, 0.42)
                } else {
                    pose.block(px, py, 0.5, 0.35, 0.08)
                };
                pieces.extend(path.map(|path| Piece {
                    path,
                    ink: Ink::flat(pad).raised(0.6, 1.5).glossy(0.9),
                    role: Role::Element,
                }));
                pieces.extend(pose.ellipse(px, py, 0.15, 0.15).map(|path| Piece {
                    path,
                    ink: Ink::flat([0.03; 3]),
                    role: Role::Detail,
                }));
            }
            x += long + 2 + make.dice.below(3) as i32;
        }
        row += 2;
    }
    swatch(layers, pieces, pose.scale, pose.angle)
}

/// A repeated printed motif.
pub fn motif(make: &mut Make) -> Swatch {
    let ground = make.any_colour();
    let colours = [make.any_colour(), make.any_colour()];
    let period = make.ranged(14.0, 32.0);
    let frame = make.frame(period, 0.0, false);
    let (noise, side) = (make.noise, make.side);
    let layers = Layers::paint(side, |x, y, _| {
        let k = 1.0 + 0.03 * noise.octaves(x * 0.4, y * 0.4, 2);
        (times(ground, k), 0.0, 0.1)
    });
    let kind = make.dice.below(4);
    let (u0, u1, v0, v1) = frame.span(side);
    let (petals, small) = (3 + make.dice.below(5), make.dice.range(0.2, 0.42));
    let mut pieces = Vec::new();
    for j in v0..=v1 {
        for i in u0..=u1 {
            let shift = if j & 1 == 0 { 0.5 } else { 0.0 };
            let (x, y) = frame.pixel(i as f32 + shift, j as f32);
            let pose = Pose {
                x,
                y,
                scale: period,
                angle: frame.angle,
            };
            let colour = colours[((i + j) & 1) as usize];
            let path = match kind {
                0 => pose.ellipse(0.0, 0.0, small, small * 0.6),
                1 => glyph::star(&pose, petals, small, small * 0.45, true),
                2 => glyph::star(&pose, petals + 1, small, small * 0.5, false),
                _ => pose.block(0.0, 0.0, small * 0.8, small * 0.8, 0.05),
            };
            pieces.extend(path.map(|path| Piece {
                path,
                ink: Ink::flat(colour),
                role: Role::Print,
            }));
        }
    }
    swatch(layers, pieces, period, frame.angle)
}
