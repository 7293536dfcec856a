//! Cracks, cuts, scratches, holes and punctures.

use super::layers::{Colour, luma, mix, times};
use super::noise::{smooth, turn};
use super::work::{FRAME, Work};
use std::f32::consts::TAU;

/// Dark lines of a crack with an edge that catches the light.
fn fissure(w: &mut Work, plane: &[f32], near: Colour, depth: f32) {
    let share = w.dice.range(0.7, 1.0);
    let dark = w.dice.chance(0.88) || luma(near) < 0.12;
    let colour = if dark && luma(near) > 0.08 {
        times(near, w.dice.range(0.05, 0.4))
    } else {
        mix(near, [0.9; 3], 0.6)
    };
    w.dye(plane, colour, share);
    let mut soft = plane.to_vec();
    w.soften(&mut soft, 1.0);
    w.lift(&soft, -depth);
}

/// Draws the defect of this name.
pub fn crack(w: &mut Work) {
    let (x, y) = w.spot(3.0);
    let near = w.local(x, y, w.percent(8.0));
    let width = w.size(0.4, 1.8) * if w.dice.chance(0.3) { 0.6 } else { 1.0 };
    let mut plane = w.plane();
    let variant = w.dice.below(4);
    match variant {
        0 | 1 => {
            let angle = w.dice.angle();
            let long = w.size(10.0, 70.0);
            let bend = w.dice.range(0.12, 0.45);
            let trunk = w.wander(x, y, angle, long, bend);
            w.stroke(&mut plane, &trunk, width, 0.9);
            if variant == 1 {
                for _ in 0..1 + w.dice.below(4) {
                    let (bx, by) = trunk[w.dice.below(trunk.len())];
                    let side = w.dice.sign() * w.dice.range(0.4, 1.2);
                    let long = long * w.dice.range(0.15, 0.5);
                    let branch = w.wander(bx, by, angle + side, long, bend);
                    w.stroke(&mut plane, &branch, width * 0.7, 0.9);
                }
            }
        }
        2 => {
            // A network: joints of a cell pattern inside a blot.
            let r = w.size(7.0, 22.0);
            let inside = w.blot(x, y, r, 0.4, 0.3);
            let cell = r * w.dice.range(0.3, 0.7);
            let warp = w.noise.plane(w.scene.side, cell * 0.7, 2, 5.0);
            let side = w.scene.side;
            let noise = &w.noise;
            for (i, t) in inside.iter().enumerate().filter(|(_, t)| **t > 0.01) {
                let (px, py) = ((i % side) as f32, (i / side) as f32);
                let k = 0.25 * warp[i];
                let (d, e, _) = noise.cells(px / cell + k, py / cell - k, 1.0);
                plane[i] = t * smooth(width * 0.9 / cell + 0.03, width * 0.3 / cell, e - d);
            }
        }
        _ => {
            // A star from an impact.
            let n = 4 + w.dice.below(5);
            let start = w.dice.angle();
            let reach = w.size(5.0, 16.0);
            for i in 0..n {
                let angle = start + i as f32 / n as f32 * TAU + w.dice.range(-0.3, 0.3);
                let long = reach * w.dice.range(0.5, 1.3);
                let ray = w.wander(x, y, angle, long, 0.15);
                w.stroke(&mut plane, &ray, width * 0.8, 0.9);
            }
        }
    }
    fissure(w, &plane, near, width * 0.8);
}

/// Draws the defect of this name.
pub fn cut(w: &mut Work) {
    let (x, y) = w.spot(3.0);
    let near = w.local(x, y, w.percent(6.0));
    let angle = w.dice.angle();
    let (s, c) = turn(angle);
    let long = w.size(7.0, 38.0) * 0.5;
    let width = w.size(0.6, 2.6);
    // A straight, clean slit, widest in the middle.
    let bow = w.dice.range(-0.08, 0.08) * long;
    let lens = |wide: f32| {
        vec![
            (x - c * long, y - s * long),
            (x - s * (wide + bow), y + c * (wide + bow)),
            (x + c * long, y + s * long),
            (x + s * (wide - bow), y - c * (wide - bow)),
        ]
    };
    let mut plane = w.plane();
    let variant = w.dice.below(3);
    w.ink(&mut plane, FRAME.outline(&lens(width), variant == 1));
    let mut lip = w.plane();
    w.ink(&mut lip, FRAME.outline(&lens(width * 1.9), false));
    let edge = w.dice.pick(&[0.7, 1.0, 1.4, 1.8]);
    let lip: Vec<f32> = lip.iter().zip(&plane).map(|(l, p)| l * (1.0 - p)).collect();
    w.shade(&lip, [edge; 3]);
    w.lift(&lip, width * 0.5);
    fissure(w, &plane, near, width);
    if variant == 2 {
        // A second slit across it.
        let line = [
            (x + s * long * 0.6, y - c * long * 0.6),
            (x - s * long * 0.6, y + c * long * 0.6),
        ];
        let mut second = w.plane();
        w.stroke(&mut second, &line, width * 0.7, 0.0);
        fissure(w, &second, near, width);
    }
}

/// Draws the defect of this name.
pub fn hole(w: &mut Work) {
    let r = w.size(1.3, 7.0);
    let (x, y) = w.spot(r * 1.3);
    let near = w.local(x, y, r * 2.0);
    let rough = w.dice.range(0.0, 0.5);
    let variant = w.dice.below(3);
    let bottom = if luma(near) > 0.15 {
        times(near, w.dice.range(0.02, 0.3))
    } else {
        mix(near, [0.8; 3], 0.5)
    };
    let count = if variant == 2 { 2 + w.dice.below(6) } else { 1 };
    for k in 0..count {
        let (px, py, pr) = if k == 0 {
            (x, y, r)
        } else {
            (
                x + r * 2.5 * w.dice.normal(),
                y + r * 2.5 * w.dice.normal(),
                r * w.dice.range(0.3, 0.8),
            )
        };
        let plane = w.blot(px, py, pr, rough, 0.15);
        let mut rim = plane.clone();
        w.soften(&mut rim, pr * 0.25 + 0.6);
        w.lift(&rim, -pr * 0.5);
        match &w.scene.beneath {
            Some(beneath) if variant == 1 => w.replace(&plane, beneath),
            _ => w.dye(&plane, bottom, 1.0),
        }
        if w.dice.chance(0.5) {
            let ring: Vec<f32> = rim
                .iter()
                .zip(&plane)
                .map(|(a, b)| (a * 2.0).min(1.0) * (1.0 - b))
                .collect();
            let k = w.dice.pick(&[0.7, 1.3]);
            w.shade(&ring, [k; 3]);
        }
    }
}

/// Draws the defect of this name.
pub fn puncture(w: &mut Work) {
    let r = w.size(0.9, 3.2);
    let (x, y) = w.spot(r * 2.0);
    let near = w.local(x, y, r * 3.0);
    let variant = w.dice.below(3);
    let count = if variant == 1 { 2 + w.dice.below(5) } else { 1 };
    let dark = if luma(near) > 0.12 {
        times(near, 0.1)
    } else {
        [0.6; 3]
    };
    for k in 0..count {
        let (px, py) = if k == 0 {
            (x, y)
        } else {
            (
                x + w.percent(6.0) * w.dice.normal(),
                y + w.percent(6.0) * w.dice.normal(),
            )
        };
        let crater = w.blot(px, py, r * 2.2, 0.1, 0.9);
        let plane = w.blot(px, py, r, 0.15, 0.2);
        // The material is pushed up around the prick.
        w.lift(&crater, r * 1.2);
        let bright = w.dice.pick(&[0.8, 1.0, 1.3]);
        w.shade(&crater, [bright; 3]);
        w.lift(&plane, -r * 3.0);
        w.dye(&plane, dark, 1.0);
        if variant == 2 {
            for _ in 0..3 + w.dice.below(3) {
                let angle = w.dice.angle();
                let long = r * w.dice.range(2.0, 4.0);
                let line = w.wander(px, py, angle, long, 0.15);
                let mut rays = w.plane();
                w.stroke(&mut rays, &line, r * 0.4, 0.9);
                w.dye(&rays, dark, 0.8);
            }
        }
    }
}

/// Draws the defect of this name.
pub fn scratch(w: &mut Work) {
    let (x, y) = w.spot(2.0);
    let near = w.local(x, y, w.percent(6.0));
    let angle = w.dice.angle();
    let (s, c) = turn(angle);
    let long = w.size(7.0, 65.0);
    let width = w.size(0.35, 1.1).max(0.6);
    let mut plane = w.plane();
    match w.dice.below(4) {
        0 | 1 => {
            let line = w.wander(x - c * long * 0.5, y - s * long * 0.5, angle, long, 0.015);
            w.stroke(&mut plane, &line, width, 0.6);
        }
        2 => {
            // A bundle.
            for _ in 0..3 + w.dice.below(6) {
                let off = w.percent(6.0) * w.dice.normal() * 0.5;
                let part = long * w.dice.range(0.3, 1.0);
                let lean = angle + w.dice.range(-0.08, 0.08);
                let line = w.wander(
                    x - s * off - c * part * 0.5,
                    y + c * off - s * part * 0.5,
                    lean,
                    part,
                    0.01,
                );
                let thin = width * w.dice.range(0.5, 1.0);
                w.stroke(&mut plane, &line, thin, 0.8);
            }
        }
        _ => {
            // An arc.
            let mut line = Vec::new();
            let bend = w.dice.range(-2.0, 2.0) / long;
            let (mut px, mut py) = (x, y);
            for k in 0..24 {
                let (s, c) = turn(angle + bend * long * k as f32 / 24.0);
                px += c * long / 24.0;
                py += s * long / 24.0;
                line.push((px, py));
            }
            w.stroke(&mut plane, &line, width, 0.5);
        }
    }
    let y = luma(near);
    let bright = w.dice.chance(if y < 0.6 { 0.65 } else { 0.25 });
    let colour = if bright {
        mix(near, [0.95; 3], w.dice.range(0.4, 0.95))
    } else {
        times(near, w.dice.range(0.15, 0.6))
    };
    let cover = w.dice.range(0.5, 1.0);
    w.dye(&plane, colour, cover);
    let mut soft = plane.clone();
    w.soften(&mut soft, 1.0);
    let deep = width * w.dice.range(0.3, 1.2);
    w.lift(&soft, -deep);
    w.polish(&plane, 0.6);
}
