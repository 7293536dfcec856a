//! Defects of form and place: what is bent, broken, missing, displaced, squashed or misprinted.

use super::layers::{self, Ink, Role, mix, times};
use super::line::hole;
use super::noise::{smooth, turn};
use super::stain::discoloration;
use super::thread::band;
use super::work::{FRAME, Work};
use std::f32::consts::TAU;

/// Draws the defect of this name.
pub fn bent(w: &mut Work) {
    w.free = true;
    let r = w.size(9.0, 26.0);
    let (x, y) = w.spot(2.0);
    let (s, c) = turn(w.dice.angle());
    let push = (w.percent(2.0) + r * w.dice.range(0.12, 0.42)) * w.strength.min(1.5);
    match w.dice.below(3) {
        0 => w.warp(|px, py| {
            let d = ((px - x) * (px - x) + (py - y) * (py - y)) / (r * r);
            let t = if d < 1.0 {
                (1.0 - d) * (1.0 - d) * push
            } else {
                0.0
            };
            (px + c * t, py + s * t)
        }),
        1 => {
            // Turned about a point.
            let angle = w.dice.sign() * w.dice.range(0.2, 0.6) * w.strength.min(1.5);
            w.warp(|px, py| {
                let d = ((px - x) * (px - x) + (py - y) * (py - y)) / (r * r);
                if d >= 1.0 {
                    return (px, py);
                }
                let (sn, cs) = turn(angle * (1.0 - d) * (1.0 - d));
                (
                    x + cs * (px - x) - sn * (py - y),
                    y + sn * (px - x) + cs * (py - y),
                )
            });
        }
        _ => {
            // An end bent away: everything beyond a line, growing with the distance.
            let limit = r * 2.2;
            w.warp(|px, py| {
                let along = c * (px - x) + s * (py - y);
                let across = (c * (py - y) - s * (px - x)).abs();
                let t = along.clamp(0.0, limit) / limit;
                let fade =
                    smooth(2.4 * r, 1.2 * r, across) * smooth(2.4 * limit, 1.2 * limit, along);
                let t = t * t * push * 1.6 * fade;
                (px - s * t, py + c * t)
            });
        }
    }
    if w.scene.beneath.is_some() {
        // Only what holds the object counts.
        let object = &w.scene.object;
        let layers = &w.layers;
        let whole = &w.scene.whole;
        for (i, claim) in w.claim.iter_mut().enumerate() {
            let change: f32 = (0..3)
                .map(|k| (layers.colour[i][k] - whole.colour[i][k]).abs())
                .sum();
            if object[i] < 0.5 && change < 0.1 {
                *claim = 0.0;
            }
        }
    } else {
        let ridge = w.blot(x, y, r * 0.7, 0.1, 1.0);
        let height = r * 0.12 * w.dice.sign();
        w.lift(&ridge, height);
    }
}

/// A polygon with sharp corners.
pub fn jagged(w: &mut Work, x: f32, y: f32, r: f32) -> Vec<f32> {
    let n = 6 + w.dice.below(7);
    let points: Vec<(f32, f32)> = (0..n)
        .map(|i| {
            let (s, c) = turn(i as f32 / n as f32 * TAU);
            let k = r * w.dice.range(0.45, 1.15);
            (x + k * c, y + k * s)
        })
        .collect();
    let mut plane = w.plane();
    w.ink(&mut plane, FRAME.outline(&points, false));
    plane
}

/// Draws the defect of this name.
pub fn broken(w: &mut Work) {
    w.free = true;
    let rim = w.rim();
    let at_the_rim = w.dice.below(3) < 2;
    if let (Some(beneath), Some((x, y, angle))) = (&w.scene.beneath, rim)
        && at_the_rim
    {
        // A piece broken off the rim, with the fresh fracture showing.
        let r = w.size(4.0, 18.0);
        let (s, c) = turn(angle);
        let plane = jagged(w, x - c * r * 0.2, y - s * r * 0.2, r);
        let mut wide = plane.clone();
        let band = w.percent(0.8).max(1.0);
        w.soften(&mut wide, band);
        let fresh = w.local(x - 2.0 * c * r, y - 2.0 * s * r, r);
        let factor = w.dice.pick(&[0.5, 0.7, 1.35]);
        let object = &w.scene.object;
        let ring: Vec<f32> = wide
            .iter()
            .zip(object)
            .map(|(t, o)| smooth(0.08, 0.3, *t) * o)
            .collect();
        w.over(&ring, |l, i, t| {
            l.colour[i] = mix(l.colour[i], times(fresh, factor), t * 0.8);
        });
        let claim: Vec<f32> = plane.iter().zip(object).map(|(t, o)| t * o).collect();
        for (c, t) in w.claim.iter_mut().zip(&claim) {
            *c = c.max(*t);
        }
        w.replace(&plane, beneath);
        if w.dice.chance(0.3) {
            let (fx, fy) = (x + c * r * 1.6, y + s * r * 1.6);
            let shard = jagged(w, fx, fy, r * 0.35);
            w.dye(&shard, fresh, 1.0);
            w.lift(&shard, r * 0.1);
        }
        return;
    }
    w.free = false;
    let r = w.size(4.0, 16.0);
    let (x, y) = w.spot(r * 0.5);
    let near = w.local(x, y, r);
    let dark = w.dice.chance(0.7);
    let inside = if dark {
        times(near, 0.35)
    } else {
        mix(near, [0.9; 3], 0.5)
    };
    let plane = jagged(w, x, y, r);
    // A shard out of the surface, with cracks running from it.
    w.dye(&plane, inside, 0.75);
    w.lift(&plane, -w.percent(1.5));
    let noise = w.noise.plane(w.scene.side, 4.0, 2, 1.0);
    w.over(&plane, |l, i, t| {
        l.colour[i] = times(l.colour[i], 1.0 + 0.25 * t * noise[i]);
        l.height[i] += 0.9 * t * noise[i];
    });
    for _ in 0..2 + w.dice.below(4) {
        let angle = w.dice.angle();
        let (s, c) = turn(angle);
        let long = r * w.dice.range(0.5, 2.0);
        let line = w.wander(x + c * r * 0.6, y + s * r * 0.6, angle, long, 0.2);
        let mut crack = w.plane();
        w.stroke(&mut crack, &line, 1.3, 0.8);
        w.dye(&crack, times(near, 0.25), 0.9);
    }
}

/// Draws the defect of this name.
pub fn missing(w: &mut Work) {
    let pieces = w.pieces(|r| r != Role::Detail);
    if !pieces.is_empty() && w.dice.chance(0.75) {
        let first = pieces[w.dice.below(pieces.len())];
        let middle =
            |b: tiny_skia::Rect| ((b.left() + b.right()) * 0.5, (b.top() + b.bottom()) * 0.5);
        let (x, y) = middle(w.scene.pieces[first].path.bounds());
        let bounds = w.scene.pieces[first].path.bounds();
        // Details on top of the element go with it; sometimes so do its neighbours.
        let r = bounds.width().max(bounds.height()) * 0.55;
        let more = if w.dice.chance(0.35) {
            r * w.dice.range(1.5, 4.0)
        } else {
            0.0
        };
        let mut gone = Vec::new();
        for (i, piece) in w.scene.pieces.iter().enumerate() {
            let b = piece.path.bounds();
            let (px, py) = middle(b);
            let d = ((px - x) * (px - x) + (py - y) * (py - y)).sqrt();
            let small = b.width().max(b.height()) < r * 2.2;
            if i == first || small && i > first && d < r * 0.8 || small && d < more {
                gone.push(i);
            }
        }
        w.relay(|i, piece| {
            if gone.contains(&i) {
                Vec::new()
            } else {
                vec![piece.clone()]
            }
        });
        let scene = w.scene;
        for i in gone {
            w.claim_piece(&scene.pieces[i]);
        }
        return;
    }
    if let Some(beneath) = &w.scene.beneath {
        // A clean piece of the object is not there.
        w.free = true;
        let Some((x, y, angle)) = w.rim() else {
            return hole(w);
        };
        let r = w.size(5.0, 18.0);
        let (s, c) = turn(angle);
        let depth = r * w.dice.range(0.0, 0.5);
        let plane = match w.dice.below(2) {
            0 => w.blot(x - c * depth, y - s * depth, r, 0.15, 0.02),
            _ => {
                let pose = layers::Pose {
                    x,
                    y,
                    scale: r,
                    angle,
                };
                let mut plane = w.plane();
                let wide = w.dice.range(0.4, 1.2);
                w.ink(&mut plane, pose.block(0.6, 0.0, 1.2, wide, 0.02));
                plane
            }
        };
        for ((claim, t), o) in w.claim.iter_mut().zip(&plane).zip(&w.scene.object) {
            *claim = claim.max(t * o);
        }
        w.replace(&plane, beneath);
        return;
    }
    // The pattern is not there: a plain place.
    let r = w.size(4.0, 14.0);
    let (x, y) = w.spot(0.0);
    let mean = w.local(x, y, r * 1.5);
    let plane = if w.dice.chance(0.5) {
        w.blot(x, y, r, 0.1, 0.1)
    } else {
        let across = w.dice.chance(0.5);
        band(w, x, y, across, r * 0.4, r * 1.5)
    };
    let shade = w.dice.pick(&[0.45, 0.7, 1.0]);
    w.over(&plane, |l, i, t| {
        l.colour[i] = mix(l.colour[i], times(mean, shade), 0.93 * t);
        l.height[i] *= 1.0 - t;
    });
}

/// Draws the defect of this name.
pub fn misaligned(w: &mut Work) {
    let pieces = w.pieces(|r| r != Role::Detail);
    let shift = w.size(2.0, 7.0) * w.strength.min(1.5);
    let (s, c) = turn(w.dice.angle());
    if !pieces.is_empty() && w.dice.chance(0.75) {
        // One element, with what lies on it, out of place.
        let first = pieces[w.dice.below(pieces.len())];
        let bounds = w.scene.pieces[first].path.bounds();
        let middle =
            |b: tiny_skia::Rect| ((b.left() + b.right()) * 0.5, (b.top() + b.bottom()) * 0.5);
        let (x, y) = middle(bounds);
        let size = bounds.width().max(bounds.height());
        let angle = if w.dice.chance(0.5) {
            w.dice.sign() * w.dice.range(0.15, 0.6)
        } else {
            0.0
        };
        let wide = if w.dice.chance(0.3) {
            size * 2.0
        } else {
            size * 0.45
        };
        let mut moved = Vec::new();
        let scene = w.scene;
        w.relay(|i, piece| {
            let b = piece.path.bounds();
            let (px, py) = middle(b);
            let d = ((px - x) * (px - x) + (py - y) * (py - y)).sqrt();
            let small = b.width().max(b.height()) < size * 1.3;
            if i == first || small && d < wide {
                let new = Work::moved(piece, c * shift, s * shift, angle, piece.ink);
                moved.extend(new.clone());
                new.into_iter().collect()
            } else {
                vec![piece.clone()]
            }
        });
        w.claim_piece(&scene.pieces[first]);
        for piece in &moved {
            w.claim_piece(piece);
        }
        return;
    }
    w.free = true;
    let (x, y) = w.spot(4.0);
    let (hx, hy) = (w.size(8.0, 26.0), w.size(6.0, 22.0));
    let (sn, cs) = turn(w.scene.axis);
    let along = w.dice.chance(0.5);
    let (mx, my) = if along {
        (cs * shift, sn * shift)
    } else {
        (c * shift, s * shift)
    };
    let inside = |px: f32, py: f32| {
        let (u, v) = (cs * (px - x) + sn * (py - y), cs * (py - y) - sn * (px - x));
        u.abs() < hx && v.abs() < hy
    };
    match w.dice.below(2) {
        0 => w.warp(|px, py| {
            if inside(px, py) {
                (px - mx, py - my)
            } else {
                (px, py)
            }
        }),
        _ => {
            // A block turned in place.
            let (ts, tc) = turn(w.dice.sign() * w.dice.range(0.1, 0.35));
            w.warp(|px, py| {
                if inside(px, py) {
                    (
                        x + tc * (px - x) - ts * (py - y),
                        y + ts * (px - x) + tc * (py - y),
                    )
                } else {
                    (px, py)
                }
            });
        }
    }
    let side = w.scene.side;
    let rim: Vec<f32> = (0..side * side)
        .map(|i| {
            let (px, py) = ((i % side) as f32, (i / side) as f32);
            let edge = inside(px, py) && !(inside(px + 1.0, py) && inside(px, py + 1.0));
            if edge { 0.6 * w.scene.object[i] } else { 0.0 }
        })
        .collect();
    w.shade(&rim, [0.65; 3]);
    if w.scene.beneath.is_some() {
        for (claim, o) in w.claim.iter_mut().zip(&w.scene.object) {
            *claim *= o;
        }
    }
}

/// Draws the defect of this name.
pub fn compressed(w: &mut Work) {
    let r = w.size(5.0, 18.0);
    let (x, y) = w.spot(r * 0.6);
    let push = w.dice.range(0.2, 0.5) * w.strength.min(1.6);
    match w.dice.below(3) {
        0 => {
            // A dent.
            let plane = w.blot(x, y, r, 0.15, 1.2);
            let deep = r * w.dice.range(0.3, 0.7);
            w.lift(&plane, -deep);
            let dark = w.dice.range(0.75, 0.95);
            w.shade(&plane, [dark; 3]);
        }
        1 => {
            // Squashed towards a line, with a crease.
            let (s, c) = turn(w.dice.angle());
            w.warp(|px, py| {
                let (dx, dy) = (px - x, py - y);
                let (a, b) = ((c * dx + s * dy) / r, (c * dy - s * dx) / r);
                let t = push * r * b * smooth(1.0, 0.0, a * a + b * b) * 1.4;
                (px - s * t, py + c * t)
            });
            let line = [
                (x - c * r * 0.8, y - s * r * 0.8),
                (x + c * r * 0.8, y + s * r * 0.8),
            ];
            let mut crease = w.plane();
            w.stroke(&mut crease, &line, r * 0.15, 0.6);
            w.soften(&mut crease, r * 0.05 + 0.5);
            w.lift(&crease, -r * 0.35);
            w.shade(&crease, [0.75; 3]);
        }
        _ => {
            // Flattened: the relief is gone and the place shines.
            let plane = w.blot(x, y, r, 0.2, 0.3);
            let mean = w.local(x, y, r);
            let share = 0.5 * w.strength.min(1.5);
            w.over(&plane, |l, i, t| {
                l.height[i] *= 1.0 - t;
                l.colour[i] = mix(l.colour[i], mean, share * t);
            });
            let dark = w.dice.pick(&[0.7, 0.8, 1.25]);
            w.shade(&plane, [dark; 3]);
            w.polish(&plane, 0.9);
            let mut rim: Vec<f32> = plane.iter().map(|t| 4.0 * t * (1.0 - t)).collect();
            w.soften(&mut rim, 1.0);
            w.lift(&rim, r * 0.1);
        }
    }
}

/// Draws the defect of this name.
pub fn imprint(w: &mut Work) {
    let mut prints = w.pieces(|r| r == Role::Print);
    if prints.is_empty() {
        prints = w.pieces(|r| r != Role::Detail);
    }
    let Some(at) = (!prints.is_empty()).then(|| prints[w.dice.below(prints.len())]) else {
        return discoloration(w);
    };
    let bounds = w.scene.pieces[at].path.bounds();
    let (x, y) = (
        (bounds.left() + bounds.right()) * 0.5,
        (bounds.top() + bounds.bottom()) * 0.5,
    );
    let r = bounds.width().max(bounds.height()).max(w.percent(5.0)) * w.dice.range(0.8, 2.2);
    let inside = |b: tiny_skia::Rect| {
        let (dx, dy) = (
            (b.left() + b.right()) * 0.5 - x,
            (b.top() + b.bottom()) * 0.5 - y,
        );
        dx * dx + dy * dy < r * r
    };
    let role = w.scene.pieces[at].role;
    let shift = w.size(1.2, 5.0);
    let (s, c) = turn(w.dice.angle());
    let variant = w.dice.below(4);
    let angle = w.dice.range(-0.4, 0.4);
    w.relay(|_, piece| {
        if piece.role != role || !inside(piece.path.bounds()) {
            return vec![piece.clone()];
        }
        let faded = |k: f32| Ink {
            cover: piece.ink.cover * k,
            ..piece.ink
        };
        let mut out = Vec::new();
        match variant {
            // Smeared.
            0 => {
                for k in 0..6 {
                    let t = k as f32 / 5.0 * 2.0;
                    out.extend(Work::moved(
                        piece,
                        c * shift * t,
                        s * shift * t,
                        0.0,
                        faded(0.35),
                    ));
                }
            }
            // Printed twice.
            1 => {
                out.push(piece.clone());
                out.extend(Work::moved(piece, c * shift, s * shift, 0.0, faded(0.6)));
            }
            // Too little ink.
            2 => out.push(layers::Piece {
                ink: faded(0.2),
                ..piece.clone()
            }),
            // Displaced and turned.
            _ => out.extend(Work::moved(
                piece,
                c * shift * 1.5,
                s * shift * 1.5,
                angle,
                piece.ink,
            )),
        }
        out
    });
    if variant == 0 && w.dice.chance(0.5) {
        let ink = w.scene.pieces[at].ink.colour;
        let plane = w.blot(x, y, r * 0.4, 0.6, 0.4);
        w.dye(&plane, ink, 0.7);
    }
}
