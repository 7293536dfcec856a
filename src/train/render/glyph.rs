//! Made-up letters, logos and stars: print and engraving that mean nothing.

use super::layers::{Ink, Piece, Pose, Role};
use super::noise::{Dice, turn};
use std::f32::consts::{FRAC_PI_6, TAU};
use tiny_skia::Path;

/// A star or flower with `points` tips between two radii (local units).
pub fn star(pose: &Pose, points: usize, outer: f32, inner: f32, round: bool) -> Option<Path> {
    let n = points * 2;
    let outline: Vec<(f32, f32)> = (0..n)
        .map(|i| {
            let (s, c) = turn(i as f32 / n as f32 * TAU);
            let r = if i % 2 == 0 { outer } else { inner };
            (r * c, r * s)
        })
        .collect();
    pose.outline(&outline, round)
}

/// One letter about one unit high and 0.7 wide around a local point.
pub fn letter(dice: &mut Dice, pose: &Pose, x: f32, width: f32) -> Vec<Path> {
    // Strokes join the nodes of a grid of 3 x 3, as those of real letters nearly do.
    let node = |k: usize| (x + (k % 3) as f32 * 0.3 - 0.3, (k / 3) as f32 * 0.45 - 0.45);
    let mut out = Vec::new();
    let spine = dice.pick(&[[0, 6], [1, 7], [2, 8], [0, 8], [6, 2]]);
    out.extend(pose.line(&[node(spine[0]), node(spine[1])], width, true));
    for _ in 0..1 + dice.below(3) {
        if dice.chance(0.3) {
            let y = dice.pick(&[-0.22, 0.0, 0.22]);
            let ring: Vec<(f32, f32)> = (0..=12)
                .map(|i| {
                    let (s, c) = turn(i as f32 * FRAC_PI_6);
                    (x + 0.24 * c, y + 0.22 * s)
                })
                .collect();
            out.extend(pose.line(&ring, width, true));
        } else {
            let (a, b) = (dice.below(9), dice.below(9));
            if a != b {
                out.extend(pose.line(&[node(a), node(b)], width, true));
            }
        }
    }
    out
}

/// A line of `count` letters centred on the pose, one unit high.
pub fn text(dice: &mut Dice, pose: &Pose, count: usize, ink: Ink, out: &mut Vec<Piece>) {
    let width = dice.range(0.08, 0.22);
    for i in 0..count {
        let x = (i as f32 - (count as f32 - 1.0) * 0.5) * 0.95;
        out.extend(letter(dice, pose, x, width).into_iter().map(|path| Piece {
            path,
            ink,
            role: Role::Print,
        }));
    }
}
