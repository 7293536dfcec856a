//! Packages, toys, clothing, and a scan.

use super::super::glyph;
use super::super::layers::{Ink, Pose, Role, mix, times};
use super::super::noise::{Dice, turn};
use super::Kit;
use super::food::blob;
use std::f32::consts::TAU;

pub(super) fn bottle(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let dark = times(k.colours[0], 0.35);
    k.body(
        p.ellipse(0.0, 0.0, 0.97, 0.97),
        Some(k.colours[0]),
        0.15 * s,
        0.2 * s,
    );
    for (r, bright, rise) in [
        (0.86, 0.7, 0.05),
        (0.74, 1.4, 0.08),
        (0.62, 0.5, -0.1),
        (0.5, 0.25, -0.05),
    ] {
        let r = r * k.f(1, 0.9, 1.05);
        let colour = times(mix(dark, k.colours[1], bright * 0.4), bright);
        let ink = Ink::flat(colour).raised(rise * s, 0.08 * s).glossy(0.9);
        k.piece(p.ellipse(0.0, 0.0, r, r), ink, Role::Detail);
    }
    // Lamps mirrored in the rim.
    for i in 0..2 + k.dice.below(4) {
        let a = k.form[2] * TAU + i as f32 * 1.3;
        let arc: Vec<(f32, f32)> = (0..8)
            .map(|j| {
                let (sn, c) = turn(a + j as f32 * 0.06);
                (0.8 * c, 0.8 * sn)
            })
            .collect();
        let ink = Ink {
            cover: 0.7,
            ..Ink::flat([0.98; 3])
        };
        k.piece(p.line(&arc, 0.04, true), ink, Role::Detail);
    }
}

pub(super) fn toy(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let mut dice = Dice::new(k.seed, 2, 5);
    let limbs = 2 + dice.below(3);
    for i in 0..limbs {
        for side in [-1.0, 1.0] {
            let y = -0.1 + 0.9 * i as f32 / limbs as f32 * k.f(0, 0.6, 1.0);
            let reach = dice.range(0.3, 0.6);
            let lean = dice.range(-0.4, 0.5);
            let points = [(0.15 * side, y), (side * reach, y + lean * 0.6)];
            let colour = k.colours[i % 4];
            let width = k.f(1, 0.14, 0.28);
            k.body(
                p.line(&points, width, true),
                Some(colour),
                0.12 * s,
                0.11 * s,
            );
        }
    }
    k.body(
        p.ellipse(0.0, 0.18, k.f(2, 0.3, 0.45), 0.5),
        Some(k.colours[0]),
        0.35 * s,
        0.38 * s,
    );
    k.body(
        p.ellipse(0.0, -0.5, 0.36, k.f(3, 0.3, 0.42)),
        Some(k.colours[1]),
        0.32 * s,
        0.33 * s,
    );
    for side in [-1.0, 1.0] {
        k.body(
            p.ellipse(0.3 * side, -0.8, 0.13, k.f(4, 0.12, 0.22)),
            Some(k.colours[2]),
            0.1 * s,
            0.12 * s,
        );
        k.piece(
            p.ellipse(0.13 * side, -0.55, 0.06, 0.07),
            Ink::flat([0.95; 3]),
            Role::Element,
        );
        k.piece(
            p.ellipse(0.13 * side, -0.54, 0.03, 0.035),
            Ink::flat([0.02; 3]),
            Role::Detail,
        );
    }
    let mouth = [(-0.12, -0.36), (0.0, -0.3), (0.12, -0.36)];
    k.piece(
        p.line(&mouth, 0.03, true),
        Ink::flat([0.3, 0.05, 0.05]),
        Role::Print,
    );
    let badge = p.child(0.0, 0.15, 0.18, 0.0);
    let path = glyph::star(&badge, 5, 1.0, 0.45, false);
    k.piece(path, k.ink(k.colours[3]), Role::Print);
}

pub(super) fn package(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let (hx, hy) = (k.f(0, 0.6, 1.0), k.f(1, 0.5, 0.9));
    k.body(
        p.block(0.0, 0.0, hx, hy, 0.03),
        Some(k.colours[0]),
        0.03 * s,
        0.03 * s,
    );
    k.piece(
        p.block(0.0, -hy * 0.6, hx, hy * 0.22, 0.0),
        k.ink(k.colours[1]),
        Role::Print,
    );
    k.label(
        &p.child(0.0, -hy * 0.6, hy * 0.26, 0.0),
        5,
        k.ink(k.colours[2]),
    );
    for row in 0..4 {
        k.label(
            &p.child(-hx * 0.25, -0.1 + 0.13 * row as f32, 0.08, 0.0),
            9,
            k.ink(k.colours[3]),
        );
    }
    let mut x = hx * 0.35;
    while x < hx * 0.85 {
        let wide = k.dice.range(0.008, 0.025);
        k.piece(
            p.block(x, hy * 0.5, wide, 0.14, 0.0),
            Ink::flat([0.05; 3]),
            Role::Print,
        );
        x += wide * 2.0 + k.dice.range(0.015, 0.04);
    }
}

pub(super) fn brush(k: &mut Kit, p: Pose) {
    let s = p.scale;
    k.body(
        p.block(0.0, 0.0, 0.98, 0.55, 0.4),
        Some(k.colours[0]),
        0.15 * s,
        0.2 * s,
    );
    let (nx, ny) = (6 + (k.form[0] * 4.0) as i32, 3 + (k.form[1] * 2.0) as i32);
    for j in 0..ny {
        for i in 0..nx {
            let x = (i as f32 / (nx - 1) as f32 - 0.5) * 1.6;
            let y = (j as f32 / (ny - 1) as f32 - 0.5) * 0.8;
            let colour = k.colours[1 + ((i + j) % 2) as usize];
            let tuft = p.child(x, y, 0.085, k.dice.angle());
            let ink = Ink {
                grain: 0.25,
                ..Ink::flat(colour).raised(0.05 * s, 0.05 * s)
            };
            let path = blob(k.dice, &tuft, 1.0, 0.9, 0.1);
            k.piece(path, ink, Role::Element);
        }
    }
}

pub(super) fn zipper(k: &mut Kit, p: Pose) {
    let s = p.scale;
    for side in [-1.0, 1.0] {
        k.body(
            p.block(0.0, 0.42 * side, 1.6, 0.38, 0.0),
            Some(k.colours[0]),
            0.02 * s,
            0.03 * s,
        );
    }
    k.body(
        p.block(0.0, 0.0, 1.6, 0.1, 0.0),
        Some(times(k.colours[0], 0.6)),
        0.02 * s,
        0.03 * s,
    );
    let pitch = k.f(0, 0.07, 0.14);
    let n = (3.0 / pitch) as i32;
    for i in 0..n {
        let side = if i % 2 == 0 { -1.0 } else { 1.0 };
        let ink = Ink::flat(k.colours[1])
            .raised(0.05 * s, 0.04 * s)
            .glossy(0.8);
        let x = -1.5 + i as f32 * pitch;
        k.piece(
            p.block(x, 0.06 * side, pitch * 0.38, 0.13, 0.03),
            ink,
            Role::Element,
        );
    }
    for side in [-1.0, 1.0] {
        let seam = Ink {
            cover: 0.5,
            ..Ink::flat(times(k.colours[0], 0.5))
        };
        k.piece(
            p.block(0.0, 0.3 * side, 1.6, 0.012, 0.0),
            seam,
            Role::Detail,
        );
    }
}

pub(super) fn scan(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let path = blob(k.dice, &p, 0.82, 0.97, 0.02);
    k.gloss = 0.0;
    k.body(path, Some([0.85; 3]), 0.0, 0.1 * s);
    k.piece(
        p.ellipse(0.0, 0.0, 0.77, 0.9),
        Ink {
            grain: 0.1,
            ..Ink::flat([0.12; 3])
        },
        Role::Detail,
    );
    k.piece(
        p.ellipse(0.0, 0.0, 0.72, 0.85),
        Ink {
            grain: 0.12,
            ..Ink::flat([0.5; 3])
        },
        Role::Detail,
    );
    for side in [-1.0, 1.0] {
        for i in 0..9 {
            let a = -1.4 + 0.35 * i as f32;
            let (sn, c) = turn(a);
            let w = k.dice.range(-0.1, 0.1);
            let points = [
                (side * 0.7 * c, 0.83 * sn),
                (side * (0.5 * c + w), 0.6 * sn + w),
                (side * 0.38 * c, 0.45 * sn),
            ];
            k.piece(
                p.line(&points, 0.03, true),
                Ink {
                    cover: 0.6,
                    ..Ink::flat([0.25; 3])
                },
                Role::Detail,
            );
        }
        let path =
            p.child(side * 0.12, 0.0, 1.0, side * 0.25)
                .ellipse(0.0, 0.0, 0.07, k.f(0, 0.2, 0.35));
        k.piece(path, Ink::flat([0.15; 3]), Role::Detail);
    }
    k.piece(
        p.block(0.0, 0.0, 0.01, 0.85, 0.0),
        Ink {
            cover: 0.6,
            ..Ink::flat([0.2; 3])
        },
        Role::Detail,
    );
}

pub(super) fn cap(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let teeth = 20 + (k.form[0] * 24.0) as usize;
    k.body(
        glyph::star(&p, teeth, 0.96, 0.9, false),
        Some(k.colours[0]),
        0.2 * s,
        0.1 * s,
    );
    let rim = Ink {
        cover: 0.0,
        ..Ink::flat([0.5; 3])
    };
    k.piece(
        p.ellipse(0.0, 0.0, 0.8, 0.8),
        rim.raised(-0.06 * s, 0.05 * s),
        Role::Detail,
    );
    if k.form[1] < 0.7 {
        let logo = glyph::star(
            &p.child(0.0, 0.0, 0.5, 0.0),
            3 + (k.form[2] * 5.0) as usize,
            1.0,
            0.5,
            k.form[3] < 0.5,
        );
        k.piece(logo, k.ink(k.colours[1]), Role::Print);
        k.label(&p.child(0.0, 0.0, 0.2, 0.0), 3, k.ink(k.colours[2]));
    }
}
