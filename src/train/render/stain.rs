//! Defects that cover an area: colour, dirt, glue, liquid, wear and roughness.

use super::layers::{self, hsv, luma, mix, times};
use super::noise::{smooth, turn, wave};
use super::shape::jagged;
use super::surface::{FAMILIES, Make};
use super::work::Work;
use std::f32::consts::FRAC_PI_2;

/// Draws the defect of this name.
pub fn discoloration(w: &mut Work) {
    let r = w.size(3.5, 22.0);
    let (x, y) = w.spot(r * 0.4);
    let hue = hsv(w.dice.unit(), w.dice.range(0.1, 0.6), 1.0);
    let bright = if w.dice.chance(0.65) {
        w.dice.range(0.35, 0.85)
    } else {
        w.dice.range(1.25, 1.8)
    };
    let factor = times(hue, bright);
    match w.dice.below(5) {
        0 | 1 => {
            let (rough, soft) = (w.dice.range(0.1, 0.8), w.dice.pick(&[0.05, 0.3, 1.0]));
            let plane = w.blot(x, y, r, rough, soft);
            w.shade(&plane, factor);
        }
        2 => {
            let plane = cloud(w, x, y, r);
            w.shade(&plane, factor);
        }
        3 => {
            // A streak.
            let angle = w.dice.angle();
            let long = w.percents(10.0, 45.0);
            let line = w.wander(x, y, angle, long, 0.03);
            let mut plane = w.plane();
            w.stroke(&mut plane, &line, r * 0.4, 0.3);
            w.soften(&mut plane, r * 0.12);
            w.shade(&plane, factor);
        }
        _ => {
            // A ring as a dried drop leaves, or tempering colours around a hot spot.
            let mut plane = w.blot(x, y, r, 0.15, 0.4);
            for t in &mut plane {
                *t = 4.0 * *t * (1.0 - *t);
            }
            w.shade(&plane, factor);
        }
    }
}

/// The area of a broad noise field above a level, around a point: masks as DRAEM makes them.
fn cloud(w: &mut Work, x: f32, y: f32, r: f32) -> Vec<f32> {
    let side = w.scene.side;
    let field = w.noise.plane(side, r * 0.9, 3, 7.0);
    let level = w.dice.range(-0.1, 0.25);
    let edge = w.dice.pick(&[0.02, 0.05, 0.2]);
    (0..side * side)
        .map(|i| {
            let (dx, dy) = ((i % side) as f32 - x, (i / side) as f32 - y);
            let d = (dx * dx + dy * dy) / (r * r);
            smooth(level, level + edge, field[i] + 0.6 - 0.9 * d)
        })
        .collect()
}

/// Any surface, drawn over the whole picture.
fn other_surface(w: &mut Work) -> layers::Layers {
    let family = &FAMILIES[w.dice.below(FAMILIES.len())];
    let mut make = Make {
        dice: w.dice,
        noise: &w.noise,
        side: w.scene.side,
    };
    (family.draw)(&mut make).layers
}

/// Draws the defect of this name.
pub fn contamination(w: &mut Work) {
    let r = w.size(1.5, 12.0);
    let (x, y) = w.spot(r);
    let near = w.local(x, y, r);
    let colour = w.foreign(near);
    match w.dice.below(6) {
        0 => {
            // Grains and specks.
            for _ in 0..1 + w.dice.below(9) {
                let (px, py) = (x + r * 1.5 * w.dice.normal(), y + r * 1.5 * w.dice.normal());
                let size = w.size(0.7, 2.8);
                let plane = w.blot(px, py, size, 0.5, 0.2);
                w.dye(&plane, colour, 0.95);
                w.lift(&plane, size * 0.4);
            }
        }
        1 => {
            // A hair or fibre.
            let angle = w.dice.angle();
            let long = w.percents(8.0, 40.0);
            let line = w.wander(x, y, angle, long, 0.16);
            let width = w.percents(0.35, 1.0);
            w.strand(&line, width, colour);
        }
        2 => {
            // A chip of another material.
            let other = other_surface(w);
            let plane = jagged(w, x, y, r);
            let mut shadow = plane.clone();
            w.soften(&mut shadow, r * 0.2);
            w.shade(&shadow, [0.6; 3]);
            w.replace(&plane, &other);
            w.lift(&plane, r * 0.25);
        }
        3 => {
            // Cut and paste with a cloudy mask.
            let other = other_surface(w);
            let mut plane = cloud(w, x, y, r * 1.3);
            let share = (0.75 * w.strength).min(1.0);
            plane.iter_mut().for_each(|t| *t *= share);
            w.replace(&plane, &other);
        }
        4 => {
            // A smudge of dirt or a finger.
            let plane = w.blot(x, y, r * 1.4, 0.7, 0.9);
            let ridges = w.dice.chance(0.35);
            let field = w.noise.plane(w.scene.side, r * 0.5, 3, 3.0);
            let plane: Vec<f32> = plane
                .iter()
                .zip(&field)
                .map(|(t, f)| {
                    t * if ridges {
                        0.5 + 0.5 * wave(f * 3.0)
                    } else {
                        smooth(-0.7, 0.5, *f)
                    }
                })
                .collect();
            w.dye(&plane, colour, 0.6);
        }
        _ => {
            // A round or blocky foreign body.
            let mut plane = w.plane();
            let pose = layers::Pose {
                x,
                y,
                scale: r * 0.8,
                angle: w.dice.angle(),
            };
            let flat = w.dice.range(0.3, 1.0);
            let path = if w.dice.chance(0.5) {
                pose.ellipse(0.0, 0.0, 1.0, flat)
            } else {
                pose.block(0.0, 0.0, 1.0, flat, 0.1)
            };
            w.ink(&mut plane, path);
            let mut soft = plane.clone();
            w.soften(&mut soft, r * 0.25);
            w.shade(&soft, [0.7; 3]);
            w.dye(&plane, colour, 1.0);
            w.lift(&soft, r * 0.5);
            w.polish(&plane, 0.7);
        }
    }
}

/// Draws the defect of this name.
pub fn gluing(w: &mut Work) {
    let (x, y) = w.spot(3.0);
    let tint = w.dice.pick(&[
        [1.0, 0.97, 0.85],
        [0.95, 0.95, 0.95],
        [1.0, 0.9, 0.6],
        [0.85, 0.9, 1.0],
    ]);
    let width = w.size(2.0, 8.0);
    let mut plane = w.plane();
    let variant = w.dice.below(3);
    match variant {
        0 => {
            let angle = w.dice.angle();
            let long = w.size(8.0, 40.0);
            let line = w.wander(x, y, angle, long, 0.25);
            w.stroke(&mut plane, &line, width, 0.5);
        }
        1 => plane = w.blot(x, y, width * 1.6, 0.35, 0.2),
        _ => {
            // Strings between drops.
            let mut from = (x, y);
            for _ in 0..3 {
                let drop = w.blot(from.0, from.1, width * 0.7, 0.2, 0.2);
                for (p, d) in plane.iter_mut().zip(drop) {
                    *p = p.max(d);
                }
                let to = (
                    from.0 + w.percent(12.0) * w.dice.normal(),
                    from.1 + w.percent(12.0) * w.dice.normal(),
                );
                w.stroke(&mut plane, &[from, to], width * 0.2, 0.3);
                from = to;
            }
        }
    }
    let mut soft = plane.clone();
    w.soften(&mut soft, width * 0.22 + 0.6);
    let bead: Vec<f32> = soft.iter().map(|t| smooth(0.25, 0.6, *t)).collect();
    let near = w.local(x, y, width * 2.0);
    let lighter = luma(near) < 0.55;
    let cover = w.dice.range(0.2, 0.6);
    if lighter {
        w.dye(&bead, times(tint, 0.85), cover);
    } else {
        w.shade(&bead, times(tint, 0.8));
    }
    w.lift(&soft, width * 0.8);
    w.polish(&bead, 1.0);
}

/// Draws the defect of this name.
pub fn liquid(w: &mut Work) {
    let r = w.size(3.0, 15.0);
    let (x, y) = w.spot(r * 0.5);
    let variant = w.dice.below(3);
    let tint = match w.dice.below(4) {
        0 => [0.55, 0.4, 0.25],
        1 => hsv(w.dice.unit(), 0.4, 0.8),
        2 => [0.35, 0.35, 0.38],
        _ => [0.72, 0.72, 0.74],
    };
    let mut plane = w.plane();
    let add = |plane: &mut Vec<f32>, other: Vec<f32>| {
        for (p, o) in plane.iter_mut().zip(other) {
            *p = p.max(o);
        }
    };
    match variant {
        0 => {
            let spill = w.blot(x, y, r, 0.45, 0.1);
            add(&mut plane, spill);
        }
        1 => {
            for k in 0..3 + w.dice.below(8) {
                let (px, py) = (x + r * 0.9 * w.dice.normal(), y + r * 0.9 * w.dice.normal());
                let size = if k == 0 {
                    r * 0.5
                } else {
                    r * w.dice.range(0.08, 0.35)
                };
                let drop = w.blot(px, py, size, 0.05, 0.15);
                add(&mut plane, drop);
            }
        }
        _ => {
            // A run that ends in a drop.
            let long = w.size(10.0, 40.0);
            let down = FRAC_PI_2 + w.dice.range(-0.2, 0.2);
            let line = w.wander(x, y, down, long, 0.06);
            let width = (r * 0.35).max(1.5);
            w.stroke(&mut plane, &line, width, 0.4);
            let (px, py) = line[line.len() - 1];
            let drop = w.blot(px, py, width * 1.1, 0.1, 0.15);
            add(&mut plane, drop);
        }
    }
    w.shade(&plane, tint);
    let mut soft = plane.clone();
    w.soften(&mut soft, r * 0.12 + 0.6);
    let high = r * w.dice.range(0.15, 0.5);
    w.lift(&soft, high);
    w.polish(&plane, 1.0);
    // A lamp mirrored in it.
    if w.dice.chance(0.6) {
        let [lx, ly, _] = w.scene.light.towards;
        let shift = r * if variant == 0 { 0.45 } else { 0.15 };
        let spot = w.blot(x + lx * shift, y + ly * shift, r * 0.16, 0.2, 0.6);
        let spot: Vec<f32> = spot.iter().zip(&plane).map(|(s, p)| s * p).collect();
        w.dye(&spot, [0.98; 3], 0.85);
    }
}

/// Draws the defect of this name.
pub fn wear(w: &mut Work) {
    let r = w.size(6.0, 24.0);
    let (x, y) = match (w.rim(), w.dice.chance(0.4)) {
        (Some((x, y, _)), true) => (x, y),
        _ => w.spot(r * 0.3),
    };
    let mean = w.local(x, y, r);
    let side = w.scene.side;
    let cell = (r * w.dice.range(0.2, 0.6)).max(2.0);
    let field = w.noise.plane(side, cell, 3, 4.0);
    let blot = w.blot(x, y, r, 0.4, 1.0);
    let variant = w.dice.below(3);
    let sharp = variant == 1;
    let plane: Vec<f32> = blot
        .iter()
        .zip(&field)
        .map(|(t, f)| {
            if sharp {
                smooth(0.55, 0.65, t + 0.45 * f)
            } else {
                (t * (0.8 + 0.4 * f)).clamp(0.0, 1.0)
            }
        })
        .collect();
    let paler = mix(mean, [luma(mean); 3], 0.6);
    let bright = w.dice.pick(&[0.7, 1.25, 1.4, 1.6]);
    let share = (0.75 * w.strength).min(1.0);
    match variant {
        0 | 1 => {
            // Faded or rubbed through to what lies below.
            let bare = times(paler, bright);
            w.over(&plane, |l, i, t| {
                l.colour[i] = mix(l.colour[i], bare, share * t);
                l.height[i] *= 1.0 - 0.7 * t;
            });
            w.polish(&plane, 0.8);
        }
        _ => {
            // Many fine rub marks in one direction.
            let (s, c) = turn(w.dice.angle());
            let noise = &w.noise;
            let marks: Vec<f32> = plane
                .iter()
                .enumerate()
                .map(|(i, t)| {
                    let (px, py) = ((i % side) as f32, (i / side) as f32);
                    t * smooth(
                        0.0,
                        0.5,
                        noise.at((c * px + s * py) * 0.04, (c * py - s * px) * 0.5),
                    )
                })
                .collect();
            w.shade(&marks, [bright; 3]);
            w.polish(&marks, 0.8);
        }
    }
}

/// Draws the defect of this name.
pub fn rough(w: &mut Work) {
    let r = w.size(5.0, 20.0);
    let (x, y) = w.spot(r * 0.3);
    let side = w.scene.side;
    let plane = if w.dice.chance(0.5) {
        cloud(w, x, y, r)
    } else {
        w.blot(x, y, r, 0.5, 0.3)
    };
    match w.dice.below(3) {
        0 => {
            let cell = w.dice.scale(1.5, 5.0);
            let f = w.noise.plane(side, cell, 2, 9.0);
            let (depth, stain) = (
                w.dice.range(0.6, 2.0) * w.strength,
                w.dice.range(0.1, 0.35) * w.strength,
            );
            w.over(&plane, |l, i, t| {
                l.height[i] += depth * t * f[i];
                l.colour[i] = times(l.colour[i], (1.0 + stain * t * f[i]).max(0.05));
                l.gloss[i] *= 1.0 - 0.7 * t;
            });
        }
        1 => {
            // Pitted: many tiny dark pores.
            let cell = w.percents(1.2, 3.0).max(2.0);
            let noise = &w.noise;
            let pits: Vec<f32> = plane
                .iter()
                .enumerate()
                .map(|(i, t)| {
                    if *t < 0.01 {
                        return 0.0;
                    }
                    let (d, _, name) =
                        noise.cells((i % side) as f32 / cell, (i / side) as f32 / cell, 1.0);
                    t * smooth(0.42, 0.2, d + 0.15 * name)
                })
                .collect();
            w.shade(&pits, [0.45; 3]);
            w.lift(&pits, -1.4);
        }
        _ => {
            // Rubbed with short parallel marks.
            let (s, c) = turn(w.dice.angle());
            let depth = 0.3 * w.strength;
            let noise = &w.noise;
            let marks: Vec<f32> = (0..side * side)
                .map(|i| {
                    let (px, py) = ((i % side) as f32, (i / side) as f32);
                    noise.at((c * px + s * py) * 0.06, (c * py - s * px) * 0.7)
                })
                .collect();
            w.over(&plane, |l, i, t| {
                l.colour[i] = times(l.colour[i], 1.0 + depth * t * marks[i] + 0.1 * t);
                l.height[i] += 0.8 * t * marks[i];
            });
        }
    }
}
