//! Wires, boards and what is soldered on them.

use super::super::layers::{Ink, Pose, Role, mix, times};
use super::super::noise::{Dice, turn};
use super::Kit;
use std::f32::consts::{FRAC_PI_3, PI, TAU};

pub(super) fn cable(k: &mut Kit, p: Pose) {
    let s = p.scale;
    k.body(
        p.ellipse(0.0, 0.0, 0.97, 0.97),
        Some(k.colours[0]),
        0.1 * s,
        0.1 * s,
    );
    let n = 3 + (k.form[0] * 3.0) as usize;
    let sine = libm::sinf(PI / n as f32);
    let r = 0.86 * sine / (1.0 + sine);
    let palette = [
        k.colours[1],
        k.colours[2],
        k.colours[3],
        times(k.colours[1], 0.5),
        [0.8, 0.8, 0.2],
    ];
    let copper = mix([0.75, 0.45, 0.25], [0.8; 3], k.form[1]);
    for i in 0..n {
        let (sn, c) = turn(i as f32 / n as f32 * TAU);
        let core = p.child((0.86 - r) * c, (0.86 - r) * sn, r, k.dice.angle());
        let ink = Ink::flat(palette[i % 5]).raised(0.1 * r * s, 0.2 * r * s);
        k.piece(core.ellipse(0.0, 0.0, 0.97, 0.97), ink, Role::Element);
        k.piece(
            core.ellipse(0.0, 0.0, 0.7, 0.7),
            Ink::flat([0.05; 3]),
            Role::Detail,
        );
        for j in 0..19 {
            let (ring, at) = if j == 0 {
                (0.0, 0.0)
            } else if j < 7 {
                (0.28, j as f32)
            } else {
                (0.55, (j - 7) as f32 * 0.5)
            };
            let (sn, c) = turn(at * FRAC_PI_3);
            let shade = k.dice.range(0.75, 1.1);
            let ink = Ink::flat(times(copper, shade))
                .raised(0.06 * r * s, 0.1 * r * s)
                .glossy(0.6);
            k.piece(
                core.ellipse(ring * c, ring * sn, 0.135, 0.135),
                ink,
                Role::Detail,
            );
        }
    }
}

pub(super) fn transistor(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let lead = Some([0.75, 0.74, 0.72]);
    let n = 3 + (k.form[0] * 2.0) as usize;
    for i in 0..n {
        let x = (i as f32 / (n - 1) as f32 - 0.5) * 0.8;
        k.body(p.block(x, 0.62, 0.05, 0.4, 0.02), lead, 0.05 * s, 0.04 * s);
    }
    let tab = k.f(2, 0.3, 0.5);
    if k.form[1] < 0.6 {
        k.body(
            p.block(0.0, -0.65, 0.6, tab * 0.6, 0.05),
            lead,
            0.03 * s,
            0.04 * s,
        );
        k.hole(p.ellipse(0.0, -0.75, 0.13, 0.13), 0.13 * s);
    }
    let black = Some([0.09, 0.09, 0.1]);
    k.body(
        p.block(0.0, -0.1, 0.62, 0.42, 0.05),
        black,
        0.12 * s,
        0.08 * s,
    );
    k.label(&p.child(0.0, -0.2, 0.17, 0.0), 5, Ink::flat([0.7; 3]));
    k.label(&p.child(0.0, 0.05, 0.13, 0.0), 6, Ink::flat([0.6; 3]));
    k.piece(
        p.ellipse(-0.5, 0.2, 0.05, 0.05),
        Ink::flat([0.04; 3]).raised(-0.02 * s, 0.02 * s),
        Role::Detail,
    );
}

pub(super) fn circuit(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let board = k.colours[0];
    k.body(
        p.block(0.0, 0.0, 1.15, k.f(0, 0.7, 1.1), 0.04),
        Some(board),
        0.03 * s,
        0.03 * s,
    );
    let mut dice = Dice::new(k.seed, 1, 5);
    let trace = Ink::flat(times(board, 1.35));
    for _ in 0..16 {
        let (x, y) = (dice.range(-1.0, 0.6), dice.range(-0.65, 0.65));
        let long = dice.range(0.2, 0.8);
        let points = [
            (x, y),
            (x + long * 0.5, y),
            (x + long * 0.6, y + 0.1),
            (x + long, y + 0.1),
        ];
        k.piece(p.line(&points, 0.022, false), trace, Role::Detail);
    }
    let solder = Ink::flat([0.8, 0.8, 0.78])
        .raised(0.02 * s, 0.02 * s)
        .glossy(0.9);
    for j in -2..=2i32 {
        for i in -3..=3i32 {
            let (x, y) = (i as f32 * 0.32 + dice.range(-0.03, 0.03), j as f32 * 0.28);
            match dice.below(6) {
                0 => {
                    for side in [-1.0, 1.0] {
                        k.piece(
                            p.block(x + 0.09 * side, y, 0.035, 0.05, 0.0),
                            solder,
                            Role::Element,
                        );
                    }
                    let ink = Ink::flat(k.colours[1]).raised(0.04 * s, 0.03 * s);
                    k.piece(p.block(x, y, 0.07, 0.05, 0.01), ink, Role::Element);
                }
                1 => {
                    for pin in 0..8 {
                        let px = x - 0.09 + 0.06 * (pin % 4) as f32;
                        let py = y + if pin < 4 { -0.1 } else { 0.1 };
                        k.piece(p.block(px, py, 0.015, 0.035, 0.0), solder, Role::Element);
                    }
                    let ink = Ink::flat([0.08; 3]).raised(0.05 * s, 0.03 * s);
                    k.piece(p.block(x, y, 0.12, 0.085, 0.01), ink, Role::Element);
                    k.label(&p.child(x, y, 0.045, 0.0), 4, Ink::flat([0.55; 3]));
                }
                2 => {
                    let ink = Ink::flat(k.colours[2])
                        .raised(0.1 * s, 0.08 * s)
                        .glossy(0.7);
                    k.piece(p.ellipse(x, y, 0.1, 0.1), ink, Role::Element);
                    k.piece(
                        p.block(x, y, 0.08, 0.01, 0.0),
                        Ink::flat([0.3; 3]),
                        Role::Detail,
                    );
                }
                3 => {
                    k.piece(p.ellipse(x, y, 0.06, 0.06), solder, Role::Element);
                    k.piece(
                        p.ellipse(x, y, 0.028, 0.028),
                        Ink::flat([0.02; 3]),
                        Role::Detail,
                    );
                }
                4 => k.label(&p.child(x, y, 0.07, 0.0), 3, Ink::flat([0.85; 3])),
                _ => {}
            }
        }
    }
}

pub(super) fn connector(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let (nx, ny) = (2 + (k.form[0] * 7.0) as i32, 1 + (k.form[1] * 3.0) as i32);
    k.body(
        p.block(0.0, 0.0, 0.98, 0.24 + 0.13 * ny as f32, 0.06),
        Some(k.colours[0]),
        0.1 * s,
        0.08 * s,
    );
    for j in 0..ny {
        for i in 0..nx {
            let x = ((i as f32 + 0.5) / nx as f32 - 0.5) * 1.7;
            let y = ((j as f32 + 0.5) / ny as f32 - 0.5) * 0.28 * ny as f32;
            k.hole(p.block(x, y, 0.075, 0.075, 0.01), 0.08 * s);
            let pin = Ink::flat([0.8, 0.7, 0.4])
                .raised(0.05 * s, 0.03 * s)
                .glossy(0.9);
            k.piece(p.block(x, y, 0.03, 0.03, 0.0), pin, Role::Element);
        }
    }
}

pub(super) fn wires(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let n = 1 + (k.form[0] * 3.0) as usize;
    let width = k.f(1, 0.12, 0.26);
    for i in 0..n {
        let y0 = (i as f32 - (n as f32 - 1.0) * 0.5) * (width + 0.04);
        let bend = k.f(2, -0.4, 0.4);
        let points: Vec<(f32, f32)> = (0..=20)
            .map(|j| {
                let x = -1.6 + 0.16 * j as f32;
                (x, y0 + bend * libm::sinf(x * k.f(3, 0.5, 2.5)))
            })
            .collect();
        k.body(
            p.line(&points, width, false),
            Some(k.colours[i % 4]),
            width * 0.5 * s,
            width * 0.5 * s,
        );
    }
}
