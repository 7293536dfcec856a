//! Turned, cast, drilled and bent parts.

use super::super::layers::{Ink, Pose, Role};
use super::super::noise::turn;
use super::Kit;
use std::f32::consts::FRAC_PI_3;

pub(super) fn ring(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let inner = k.f(0, 0.3, 0.75);
    let (rim, mid) = ((0.95 - inner) * 0.5, (0.95 + inner) * 0.5);
    let circle: Vec<(f32, f32)> = (0..=48)
        .map(|i| {
            let (sn, c) = turn(i as f32 * 0.1309);
            (mid * c, mid * sn)
        })
        .collect();
    let dome = if k.form[1] < 0.5 { 0.9 } else { 0.25 };
    k.body(
        p.line(&circle, 2.0 * rim, false),
        None,
        dome * rim * s,
        rim * s * k.f(2, 0.3, 0.9),
    );
    if k.form[3] < 0.3 {
        for i in 0..4 {
            k.label(
                &p.child(0.0, 0.0, 1.0, 1.57 * i as f32)
                    .child(0.0, -mid, rim * 0.8, 0.0),
                3,
                k.ink([0.1; 3]),
            );
        }
    }
}

pub(super) fn hex_nut(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let points: Vec<(f32, f32)> = (0..6)
        .map(|i| {
            let (sn, c) = turn(i as f32 * FRAC_PI_3);
            (0.95 * c, 0.95 * sn)
        })
        .collect();
    k.body(p.outline(&points, false), None, 0.2 * s, 0.2 * s);
    let rim = Ink {
        cover: 0.0,
        ..Ink::flat([0.5; 3])
    }
    .raised(0.08 * s, 0.12 * s);
    k.piece(p.ellipse(0.0, 0.0, 0.78, 0.78), rim, Role::Detail);
    let bore = k.f(0, 0.3, 0.55);
    if k.form[1] < 0.7 {
        k.hole(p.ellipse(0.0, 0.0, bore, bore), bore * s);
        let thread = Ink {
            cover: 0.5,
            ..Ink::flat([0.4; 3])
        };
        let circle: Vec<(f32, f32)> = (0..=30)
            .map(|i| {
                let (sn, c) = turn(i as f32 * 0.2094);
                (bore * 0.9 * c, bore * 0.9 * sn)
            })
            .collect();
        k.piece(p.line(&circle, 0.04, false), thread, Role::Detail);
    } else {
        k.label(
            &p.child(0.0, 0.0, 0.32, 0.0),
            3,
            Ink::flat([0.2; 3]).raised(-0.04 * s, 0.04 * s),
        );
    }
}

pub(super) fn screw(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let (r, head) = (k.f(0, 0.09, 0.16), k.f(1, 0.18, 0.32));
    k.body(p.block(0.1, 0.0, 0.75, r, 0.02), None, r * s, r * s);
    let tip = [(0.84, -r), (1.0, 0.0), (0.84, r)];
    k.body(p.outline(&tip, false), None, r * 0.7 * s, r * s);
    k.body(
        p.block(-0.76, 0.0, 0.2 * k.f(2, 0.5, 1.0), head, 0.06),
        None,
        head * 0.6 * s,
        head * 0.8 * s,
    );
    let pitch = k.f(3, 0.045, 0.09);
    let from = k.f(4, -0.5, 0.1);
    for i in 0..((0.88 - from) / pitch) as usize {
        let x = from + i as f32 * pitch;
        let points = [(x - pitch * 0.25, -r * 1.15), (x + pitch * 0.25, r * 1.15)];
        let dark = Ink {
            cover: 0.55,
            ..Ink::flat([0.05; 3])
        }
        .raised(-0.03 * s, 0.03 * s);
        k.piece(p.line(&points, pitch * 0.35, false), dark, Role::Element);
    }
}

pub(super) fn plate(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let (hx, hy) = (k.f(0, 0.7, 1.0), k.f(1, 0.45, 0.95));
    k.body(
        p.block(0.0, 0.0, hx, hy, k.f(2, 0.01, 0.25)),
        None,
        0.06 * s,
        0.06 * s,
    );
    let r = k.f(3, 0.06, 0.13);
    let (nx, ny) = (2 + (k.form[4] * 3.0) as i32, 2 + (k.form[5] * 2.0) as i32);
    for j in 0..ny {
        for i in 0..nx {
            let x = (i as f32 / (nx - 1) as f32 * 2.0 - 1.0) * (hx - 0.2);
            let y = (j as f32 / (ny - 1) as f32 * 2.0 - 1.0) * (hy - 0.2);
            k.hole(p.ellipse(x, y, r, r), r * s);
            if k.form[2] < 0.4 {
                let head = Ink::flat(k.colours[1])
                    .raised(0.05 * s, 0.05 * s)
                    .glossy(0.8);
                k.piece(p.ellipse(x, y, r * 0.9, r * 0.9), head, Role::Element);
                let a = k.dice.angle();
                let slot = p.child(x, y, r, a);
                k.piece(
                    slot.block(0.0, 0.0, 0.7, 0.12, 0.0),
                    Ink::flat([0.05; 3]),
                    Role::Detail,
                );
            }
        }
    }
    if k.form[0] < 0.6 {
        let engraved = Ink {
            cover: 0.4,
            ..Ink::flat([0.1; 3])
        }
        .raised(-0.03 * s, 0.03 * s);
        k.label(&p.child(0.0, 0.0, 0.22, 0.0), 4, engraved);
    }
}

pub(super) fn tube(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let r = k.f(0, 0.18, 0.4);
    k.body(p.block(0.0, 0.0, 1.0, r, 0.04), None, r * s, r * 0.95 * s);
    for x in [-0.9, 0.9] {
        if k.form[1] < 0.6 {
            let band = Ink {
                cover: 0.8,
                ..k.ink(k.colours[1])
            }
            .raised(0.03 * s, 0.04 * s);
            k.piece(p.block(x, 0.0, 0.06, r, 0.02), band, Role::Element);
        }
    }
    if k.form[2] < 0.7 {
        let wrap = Ink {
            cover: 0.85,
            ..k.ink(k.colours[0])
        };
        k.piece(p.block(0.0, 0.0, 0.6, r, 0.0), wrap, Role::Detail);
        k.label(&p.child(0.0, 0.0, r * 0.6, 0.0), 4, k.ink(k.colours[2]));
    }
}
