//! Pills, nuts, biscuits, fruit and other things without edges.

use super::super::glyph;
use super::super::layers::{Ink, Pose, Role, times};
use super::super::noise::{Dice, turn};
use super::Kit;
use std::f32::consts::TAU;
use tiny_skia::Path;

pub(super) fn tablet(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let dome = k.f(0, 0.05, 0.3) * s;
    k.body(
        p.ellipse(0.0, 0.0, 0.95, 0.95),
        Some(k.colours[0]),
        dome,
        k.f(1, 0.1, 0.6) * s,
    );
    let groove = Ink::flat(times(k.colours[0], 0.75)).raised(-0.05 * s, 0.05 * s);
    if k.form[2] < 0.5 {
        k.piece(p.block(0.0, 0.0, 0.75, 0.025, 0.02), groove, Role::Detail);
    }
    if k.form[3] < 0.6 {
        let ink = if k.form[4] < 0.5 {
            groove
        } else {
            k.ink(k.colours[1])
        };
        k.label(&p.child(0.0, 0.4, 0.3, 0.0), 2, ink);
    }
}

pub(super) fn capsule(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let r = k.f(0, 0.28, 0.4);
    let half = p.block(-0.48, 0.0, 0.5, r, r);
    k.body(half, Some(k.colours[0]), r * 0.9 * s, r * 0.9 * s);
    let half = p.block(0.4, 0.0, 0.58, r * 1.04, r);
    k.body(half, Some(k.colours[1]), r * 0.95 * s, r * 0.9 * s);
    let line = p.block(-0.16, 0.0, 0.012, r, 0.01);
    k.piece(line, Ink::flat(times(k.colours[1], 0.7)), Role::Detail);
    if k.form[3] < 0.7 {
        k.label(&p.child(0.4, 0.0, 0.26, 0.0), 3, k.ink(k.colours[2]));
    }
}

pub(super) fn pill(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let r = k.f(0, 0.45, 0.7);
    k.body(
        p.ellipse(0.0, 0.0, 0.98, r),
        Some(k.colours[0]),
        0.25 * s,
        0.4 * s,
    );
    let groove = Ink::flat(times(k.colours[0], 0.8)).raised(-0.06 * s, 0.06 * s);
    if k.form[1] < 0.7 {
        k.piece(p.block(0.0, 0.0, 0.02, r * 0.9, 0.02), groove, Role::Detail);
    }
    for x in [-0.45, 0.45] {
        k.label(&p.child(x, 0.0, 0.34, 0.0), 2, groove);
    }
    // Natural specks of pressed powder.
    if k.form[2] < 0.5 {
        for _ in 0..12 {
            let (x, y) = (k.dice.range(-0.7, 0.7), k.dice.range(-0.6, 0.6) * r);
            let size = k.dice.range(0.008, 0.025);
            let ink = k.ink(k.colours[3]);
            k.piece(p.ellipse(x, y, size, size), ink, Role::Detail);
        }
    }
}

/// A closed outline about the origin that wobbles around a radius.
pub(super) fn blob(dice: &mut Dice, pose: &Pose, rx: f32, ry: f32, rough: f32) -> Option<Path> {
    let n = 22;
    let phases = [dice.angle(), dice.angle(), dice.angle()];
    let points: Vec<(f32, f32)> = (0..n)
        .map(|i| {
            let a = i as f32 / n as f32 * TAU;
            let w = libm::sinf(2.0 * a + phases[0]) * 0.5
                + libm::sinf(3.0 * a + phases[1]) * 0.35
                + libm::sinf(5.0 * a + phases[2]) * 0.25
                + dice.range(-0.2, 0.2);
            let (s, c) = turn(a);
            let r = 1.0 + rough * w;
            (r * rx * c, r * ry * s)
        })
        .collect();
    pose.outline(&points, true)
}

pub(super) fn nut(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let ry = k.f(0, 0.65, 1.0);
    let path = blob(k.dice, &p, 0.95, ry * 0.95, 0.07);
    k.body(path, None, 0.6 * s, 0.7 * s);
    let path = blob(
        k.dice,
        &p.child(k.f(1, -0.3, 0.3), ry * 0.6, 1.0, 0.0),
        0.5,
        0.28,
        0.1,
    );
    let ink = Ink {
        cover: 0.7,
        grain: 0.12,
        ..Ink::flat(times(k.colours[1], 0.9)).raised(0.03 * s, 0.1 * s)
    };
    k.piece(path, ink, Role::Detail);
    for i in 0..9 {
        let x = -0.6 + 0.15 * i as f32;
        let ink = Ink {
            cover: 0.2,
            ..Ink::flat([0.1, 0.05, 0.02])
        };
        let points = [(x * 0.6, -0.7 * ry), (x, 0.0), (x * 0.7, 0.5 * ry)];
        k.piece(p.line(&points, 0.02, true), ink, Role::Detail);
    }
}

pub(super) fn biscuit(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let path = blob(k.dice, &p, 0.95, 0.95, 0.03);
    k.body(path, None, 0.12 * s, 0.2 * s);
    let chips = if k.form[0] < 0.5 { 14 } else { 0 };
    for _ in 0..chips {
        let (x, y) = (k.dice.range(-0.65, 0.65), k.dice.range(-0.65, 0.65));
        let size = k.dice.range(0.04, 0.13);
        let path = blob(k.dice, &p.child(x, y, size, 0.0), 1.0, 1.0, 0.2);
        let ink = Ink::flat([0.17, 0.09, 0.05]).raised(0.04 * s, 0.05 * s);
        k.piece(path, ink, Role::Element);
    }
    if chips == 0 {
        // Docking holes in rings.
        for ring in [0.0f32, 0.35, 0.68] {
            let n = 1 + (ring * 14.0) as usize;
            for i in 0..n {
                let (sn, c) = turn(i as f32 / n as f32 * TAU);
                let ink = Ink::flat(times(k.colours[1], 0.35)).raised(-0.04 * s, 0.03 * s);
                k.piece(
                    p.ellipse(ring * c, ring * sn, 0.03, 0.03),
                    ink,
                    Role::Element,
                );
            }
        }
    }
}

pub(super) fn fruit(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let path = blob(k.dice, &p, 0.93, 0.88, 0.04);
    k.body(path, Some(k.colours[0]), 0.75 * s, 0.8 * s);
    let blush = k.dice.angle();
    let (sn, c) = turn(blush);
    let ink = Ink {
        cover: 0.25,
        ..Ink::flat(k.colours[1])
    };
    for r in [0.55, 0.45, 0.35] {
        k.piece(
            p.ellipse(0.3 * c, 0.3 * sn, r, r * 0.9),
            Ink { cover: 0.12, ..ink },
            Role::Detail,
        );
    }
    if k.form[1] < 0.6 {
        let path = glyph::star(&p, 5, 0.16, 0.06, true);
        k.piece(path, Ink::flat([0.2, 0.22, 0.08]), Role::Detail);
    }
}

pub(super) fn candle(k: &mut Kit, p: Pose) {
    let s = p.scale;
    k.body(
        p.ellipse(0.0, 0.0, 0.96, 0.96),
        Some([0.75, 0.75, 0.77]),
        0.1 * s,
        0.06 * s,
    );
    let wax = Ink {
        grain: 0.03,
        ..Ink::flat(k.colours[0])
            .raised(-0.05 * s, 0.1 * s)
            .glossy(0.4)
    };
    k.piece(p.ellipse(0.0, 0.0, 0.86, 0.86), wax, Role::Detail);
    let a = k.dice.angle();
    let wick = p
        .child(0.0, 0.0, 1.0, a)
        .line(&[(0.0, 0.0), (0.2, 0.04)], 0.07, true);
    k.piece(
        wick,
        Ink::flat([0.9, 0.88, 0.8]).raised(0.06 * s, 0.04 * s),
        Role::Element,
    );
}
