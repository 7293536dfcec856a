//! Faults of weaves and loose threads.

use super::layers::{Role, mix, times};
use super::noise::turn;
use super::work::{FRAME, Work};
use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, TAU};

/// Straight bands along the weave through a point.
pub fn band(w: &Work, x: f32, y: f32, across: bool, half: f32, long: f32) -> Vec<f32> {
    let angle = w.scene.axis + if across { FRAC_PI_2 } else { 0.0 };
    let (s, c) = turn(angle);
    let mut plane = w.plane();
    let line = [(x - c * long, y - s * long), (x + c * long, y + s * long)];
    w.ink(&mut plane, FRAME.line(&line, half * 2.0, false));
    plane
}

/// Draws the defect of this name.
pub fn fabric(w: &mut Work) {
    let (x, y) = w.spot(2.0);
    let across = w.dice.chance(0.5);
    let long = w.size(8.0, 60.0);
    let thread = w.scene.period.max(w.percent(0.8)) * 0.5;
    let near = w.local(x, y, w.percent(6.0));
    match w.dice.below(4) {
        0 => {
            // A missing thread: the dark ground shows.
            let plane = band(w, x, y, across, thread * 0.9, long);
            w.dye(&plane, times(near, 0.3), 0.75);
            w.lift(&plane, -thread * 0.4);
        }
        1 => {
            // A thread of the wrong colour.
            let plane = band(w, x, y, across, thread * 0.8, long);
            let colour = w.foreign(near);
            w.dye(&plane, colour, 0.7);
        }
        2 => {
            // Part of the weave out of phase.
            let r = w.size(5.0, 16.0);
            let plane = w.blot(x, y, r, 0.3, 0.1);
            let source = w.scene.whole.clone();
            let shift = w.scene.period * w.dice.range(0.4, 1.5);
            let angle = w.scene.axis + w.dice.pick(&[0.0, FRAC_PI_2, FRAC_PI_4]);
            let (s, c) = turn(angle);
            let side = w.scene.side;
            let stretch = w.dice.range(0.6, 1.6);
            w.over(&plane, |l, i, t| {
                if t > 0.5 {
                    let (px, py) = ((i % side) as f32, (i / side) as f32);
                    let (u, v) = (
                        x + (px - x) * stretch + c * shift,
                        y + (py - y) * stretch + s * shift,
                    );
                    (l.colour[i], l.height[i], l.gloss[i]) = source.sample(u, v);
                }
            });
            let dark = w.dice.range(0.7, 0.95);
            w.shade(&plane, [dark; 3]);
        }
        _ => {
            // A slub: a thick place in a thread.
            let plane = band(w, x, y, across, thread * 1.5, long * 0.35);
            let mut soft = plane.clone();
            w.soften(&mut soft, thread * 0.6);
            let bright = w.dice.pick(&[0.7, 1.3, 1.45]);
            w.shade(&soft, [bright; 3]);
            w.lift(&soft, thread * 1.4);
        }
    }
}

/// Draws the defect of this name.
pub fn threading(w: &mut Work) {
    let (x, y) = w.spot(2.0);
    let near = w.local(x, y, w.percent(6.0));
    let threads = w.pieces(|r| r == Role::Element);
    if w.scene.product == "screw" && threads.len() > 3 {
        // Turns of a screw's thread worn off or crushed.
        let from = w.dice.below(threads.len() - 2);
        let gone = &threads[from..(from + 2 + w.dice.below(4)).min(threads.len())];
        let flat = w.dice.chance(0.6);
        w.relay(|i, piece| {
            if !gone.contains(&i) {
                vec![piece.clone()]
            } else if flat {
                Vec::new()
            } else {
                Work::moved(piece, 0.0, 0.0, 0.7, piece.ink)
                    .into_iter()
                    .collect()
            }
        });
        let scene = w.scene;
        for i in gone {
            w.claim_piece(&scene.pieces[*i]);
        }
        return;
    }
    let same = mix(near, [0.9; 3], 0.35);
    let colour = if w.dice.chance(0.5) {
        same
    } else {
        w.foreign(near)
    };
    let width = w
        .percents(0.45, 1.4)
        .max(w.scene.period.min(w.percent(2.0)) * 0.35);
    w.free = w.dice.chance(0.5);
    match w.dice.below(3) {
        0 => {
            let angle = w.dice.angle();
            let long = w.size(10.0, 45.0);
            let line = w.wander(x, y, angle, long, 0.22);
            w.strand(&line, width, colour);
        }
        1 => {
            // A pulled loop.
            let r = w.size(2.5, 7.0);
            let lean = w.dice.angle();
            let turns = w.dice.range(0.8, 1.6);
            let line: Vec<(f32, f32)> = (0..24)
                .map(|k| {
                    let t = k as f32 / 23.0;
                    let (s, c) = turn(lean + t * turns * TAU);
                    (x + r * (c + 1.2 * t), y + r * 0.8 * (s + 0.6 * t))
                })
                .collect();
            w.strand(&line, width, colour);
        }
        _ => {
            // A frayed place.
            let angle = w.dice.angle();
            for _ in 0..5 + w.dice.below(7) {
                let lean = angle + w.dice.normal() * 0.5;
                let long = w.size(3.0, 10.0);
                let (px, py) = (
                    x + w.percent(1.5) * w.dice.normal(),
                    y + w.percent(1.5) * w.dice.normal(),
                );
                let line = w.wander(px, py, lean, long, 0.2);
                w.strand(&line, width * 0.5, colour);
            }
        }
    }
}
