//! Families of objects: outlines of bodies and what lies on them, in local units (about -1 to 1).
//!
//! Every object is whole and right; whatever it shows is meant to be there. Families marked as held
//! appear only in the validation part.

use super::glyph;
use super::layers::{Colour, Ink, Piece, Pose, Role, mix, times};
use super::noise::{Dice, turn};
use std::f32::consts::{FRAC_PI_3, PI, TAU};
use tiny_skia::Path;

/// A solid part of an object.
pub struct Body {
    /// Outline in pixels.
    pub path: Path,
    /// Its colour, with the grain of the object's skin; the skin's own colour where nothing.
    pub colour: Option<Colour>,
    /// Height at the middle in pixels.
    pub dome: f32,
    /// Width of the rounded edge in pixels.
    pub reach: f32,
    /// Mirror-like share.
    pub gloss: f32,
}

/// What draws one object, with choices that all objects of a picture share.
pub struct Kit<'a> {
    /// Choices that differ between objects.
    pub dice: &'a mut Dice,
    /// Shared colours.
    pub colours: [Colour; 4],
    /// Shared proportions, `0..1`.
    pub form: [f32; 6],
    /// Shared gloss.
    pub gloss: f32,
    /// Shared seed of shapes that all objects have in common.
    pub seed: u64,
    /// Solid parts, lower first.
    pub bodies: Vec<Body>,
    /// What lies on them.
    pub pieces: Vec<Piece>,
}

impl Kit<'_> {
    fn body(&mut self, path: Option<Path>, colour: Option<Colour>, dome: f32, reach: f32) {
        if let Some(path) = path {
            self.bodies.push(Body {
                path,
                colour,
                dome,
                reach,
                gloss: self.gloss,
            });
        }
    }
    fn piece(&mut self, path: Option<Path>, ink: Ink, role: Role) {
        self.pieces
            .extend(path.map(|path| Piece { path, ink, role }));
    }
    fn f(&self, i: usize, low: f32, high: f32) -> f32 {
        low + (high - low) * self.form[i % 6]
    }
    /// Letters that are the same on every object of the picture.
    fn label(&mut self, pose: &Pose, count: usize, ink: Ink) {
        let mut dice = Dice::new(self.seed, 0, 77);
        glyph::text(&mut dice, pose, count, ink, &mut self.pieces);
    }
    fn ink(&self, colour: Colour) -> Ink {
        Ink::flat(colour).glossy(self.gloss * 0.5)
    }
    fn hole(&mut self, path: Option<Path>, size: f32) {
        let ink = Ink::flat([0.03, 0.03, 0.035])
            .raised(-size * 0.25, size * 0.2 + 1.0)
            .glossy(0.0);
        self.piece(path, ink, Role::Element);
    }
}

/// A kind of object.
pub struct Kind {
    /// The noun.
    pub name: &'static str,
    /// Surface families it may be made of, and the word that captions then use.
    pub skins: &'static [(&'static str, &'static str)],
    /// Most objects in one picture.
    pub most: usize,
    /// Half length across in local units: how far it reaches from its middle.
    pub aspect: f32,
    /// Only in the validation part.
    pub held: bool,
    /// Draws one.
    pub draw: fn(&mut Kit, Pose),
}

const METAL: &[(&str, &str)] = &[
    ("cast metal", "metal"),
    ("brushed", "steel"),
    ("iron", "iron"),
    ("machined", "machined"),
    ("painted", "painted"),
];
const PLASTIC: &[(&str, &str)] = &[
    ("plastic", "plastic"),
    ("painted", "painted"),
    ("rubber", "rubber"),
];
const FOOD: &[(&str, &str)] = &[
    ("baked", "baked"),
    ("marble", "natural"),
    ("wood", "natural"),
];
const SMOOTH: &[(&str, &str)] = &[
    ("plastic", "coated"),
    ("paper", "pressed"),
    ("magnet", "ceramic"),
];
const BOARD: &[(&str, &str)] = &[("plastic", "printed"), ("painted", "electronic")];
const OTHER: &[(&str, &str)] = &[
    ("anodised", "aluminium"),
    ("hammered", "copper"),
    ("cork", "cork"),
];
const WOODEN: &[(&str, &str)] = &[("wood", "wooden"), ("plastic", "plastic")];

const fn kind(
    name: &'static str,
    skins: &'static [(&'static str, &'static str)],
    most: usize,
    aspect: f32,
    held: bool,
    draw: fn(&mut Kit, Pose),
) -> Kind {
    Kind {
        name,
        skins,
        most,
        aspect,
        held,
        draw,
    }
}

/// Every word that captions say of objects.
pub fn names() -> impl Iterator<Item = &'static str> {
    let skins = |k: &'static Kind| k.skins.iter().map(|(_, said)| *said);
    KINDS
        .iter()
        .flat_map(move |k| std::iter::once(k.name).chain(skins(k)))
}

/// All kinds of objects.
pub const KINDS: &[Kind] = &[
    kind("tablet", SMOOTH, 6, 1.0, false, tablet),
    kind("capsule", PLASTIC, 5, 1.0, false, capsule),
    kind("pill", SMOOTH, 3, 1.0, false, pill),
    kind("nut", FOOD, 2, 1.0, false, nut),
    kind("biscuit", FOOD, 3, 1.0, false, biscuit),
    kind(
        "fruit",
        &[("plastic", "fresh"), ("paper", "ripe")],
        4,
        1.0,
        false,
        fruit,
    ),
    kind("ring", METAL, 3, 1.0, false, ring),
    kind("washer", METAL, 4, 1.0, false, ring),
    kind("hex nut", METAL, 3, 1.0, false, hex_nut),
    kind("screw", METAL, 2, 1.0, false, screw),
    kind("plate", METAL, 1, 1.0, false, plate),
    kind("bottle", PLASTIC, 1, 1.0, false, bottle),
    kind("cable", PLASTIC, 1, 1.0, false, cable),
    kind("transistor", BOARD, 1, 1.0, false, transistor),
    kind("circuit board", BOARD, 1, 1.2, false, circuit),
    kind("toy", PLASTIC, 1, 1.0, false, toy),
    kind("tube", METAL, 2, 1.0, false, tube),
    kind("box", WOODEN, 1, 1.1, false, package),
    kind("brush", PLASTIC, 1, 1.0, false, brush),
    kind("zipper", PLASTIC, 1, 1.3, false, zipper),
    kind(
        "candle",
        &[("plastic", "wax"), ("painted", "wax")],
        4,
        1.0,
        false,
        candle,
    ),
    kind("connector", PLASTIC, 2, 1.0, false, connector),
    kind("wire", PLASTIC, 3, 1.3, false, wires),
    kind("brain scan", &[("plastic", "grey")], 1, 1.0, false, scan),
    kind("cap", PLASTIC, 4, 1.0, false, cap),
    kind("battery", METAL, 3, 1.0, false, tube),
    kind("gear", OTHER, 2, 1.0, true, gear),
    kind("bearing", OTHER, 1, 1.0, true, bearing),
    kind("cashew", OTHER, 3, 1.0, true, cashew),
    kind("button", OTHER, 4, 1.0, true, button),
    kind("spring", OTHER, 2, 1.0, true, spring),
    kind("bracket", OTHER, 2, 1.0, true, bracket),
];

fn tablet(k: &mut Kit, p: Pose) {
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

fn capsule(k: &mut Kit, p: Pose) {
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

fn pill(k: &mut Kit, p: Pose) {
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
fn blob(dice: &mut Dice, pose: &Pose, rx: f32, ry: f32, rough: f32) -> Option<Path> {
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

fn nut(k: &mut Kit, p: Pose) {
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

fn biscuit(k: &mut Kit, p: Pose) {
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

fn fruit(k: &mut Kit, p: Pose) {
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

fn ring(k: &mut Kit, p: Pose) {
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

fn hex_nut(k: &mut Kit, p: Pose) {
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

fn screw(k: &mut Kit, p: Pose) {
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

fn plate(k: &mut Kit, p: Pose) {
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

fn bottle(k: &mut Kit, p: Pose) {
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

fn cable(k: &mut Kit, p: Pose) {
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

fn transistor(k: &mut Kit, p: Pose) {
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

fn circuit(k: &mut Kit, p: Pose) {
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

fn toy(k: &mut Kit, p: Pose) {
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

fn tube(k: &mut Kit, p: Pose) {
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

fn package(k: &mut Kit, p: Pose) {
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

fn brush(k: &mut Kit, p: Pose) {
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

fn zipper(k: &mut Kit, p: Pose) {
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

fn candle(k: &mut Kit, p: Pose) {
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

fn connector(k: &mut Kit, p: Pose) {
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

fn wires(k: &mut Kit, p: Pose) {
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

fn scan(k: &mut Kit, p: Pose) {
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

fn cap(k: &mut Kit, p: Pose) {
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

fn gear(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let teeth = 9 + (k.form[0] * 18.0) as usize;
    let mut points = Vec::new();
    for i in 0..teeth * 4 {
        let (sn, c) = turn((i as f32 + 0.5) / (teeth * 4) as f32 * TAU);
        let r = if i % 4 < 2 { 0.97 } else { 0.8 };
        points.push((r * c, r * sn));
    }
    k.body(p.outline(&points, false), None, 0.12 * s, 0.08 * s);
    let bore = k.f(1, 0.12, 0.3);
    k.hole(p.ellipse(0.0, 0.0, bore, bore), bore * s);
    for i in 0..(k.form[2] * 6.0) as usize {
        let (sn, c) = turn(i as f32 * TAU / ((k.form[2] * 6.0) as usize) as f32);
        k.hole(p.ellipse(0.52 * c, 0.52 * sn, 0.1, 0.1), 0.1 * s);
    }
}

fn bearing(k: &mut Kit, p: Pose) {
    let s = p.scale;
    k.body(p.ellipse(0.0, 0.0, 0.97, 0.97), None, 0.1 * s, 0.08 * s);
    k.piece(
        p.ellipse(0.0, 0.0, 0.78, 0.78),
        Ink::flat([0.1; 3]).raised(-0.1 * s, 0.05 * s),
        Role::Detail,
    );
    let n = 7 + (k.form[0] * 6.0) as usize;
    for i in 0..n {
        let (sn, c) = turn(i as f32 / n as f32 * TAU);
        let ball = Ink::flat([0.7; 3]).raised(0.13 * s, 0.12 * s).glossy(1.0);
        k.piece(
            p.ellipse(0.64 * c, 0.64 * sn, 0.13, 0.13),
            ball,
            Role::Element,
        );
    }
    k.piece(
        p.ellipse(0.0, 0.0, 0.5, 0.5),
        Ink::flat(k.colours[1]).raised(0.1 * s, 0.08 * s),
        Role::Detail,
    );
    k.hole(p.ellipse(0.0, 0.0, 0.34, 0.34), 0.34 * s);
}

fn cashew(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let open = k.f(0, 1.2, 2.2);
    let points: Vec<(f32, f32)> = (0..=16)
        .map(|i| {
            let (sn, c) = turn((i as f32 / 16.0 - 0.5) * 2.0 * open);
            (0.62 * c - 0.2, 0.62 * sn)
        })
        .collect();
    let width = k.f(1, 0.4, 0.62);
    k.body(
        p.line(&points, width, true),
        Some(k.colours[0]),
        width * 0.5 * s,
        width * 0.5 * s,
    );
}

fn button(k: &mut Kit, p: Pose) {
    let s = p.scale;
    k.body(
        p.ellipse(0.0, 0.0, 0.95, 0.95),
        Some(k.colours[0]),
        0.15 * s,
        0.12 * s,
    );
    let dish = Ink {
        cover: 0.0,
        ..Ink::flat([0.5; 3])
    }
    .raised(-0.12 * s, 0.15 * s);
    k.piece(p.ellipse(0.0, 0.0, 0.68, 0.68), dish, Role::Detail);
    let n = if k.form[0] < 0.5 { 2 } else { 4 };
    for i in 0..n {
        let (sn, c) = turn(i as f32 / n as f32 * TAU);
        k.hole(p.ellipse(0.22 * c, 0.22 * sn, 0.1, 0.1), 0.1 * s);
    }
}

fn spring(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let n = 6 + (k.form[0] * 8.0) as usize;
    let (r, step) = (k.f(1, 0.2, 0.4), 1.8 / n as f32);
    for i in 0..n {
        let x = -0.9 + step * i as f32;
        let points = [(x, -r), (x + step * 0.9, r)];
        k.body(
            p.line(&points, step * 0.55, true),
            None,
            step * 0.25 * s,
            step * 0.27 * s,
        );
    }
}

fn bracket(k: &mut Kit, p: Pose) {
    let s = p.scale;
    let arm = k.f(0, 0.3, 0.5);
    let points = [
        (-0.95, -0.95),
        (0.95, -0.95),
        (0.95, arm - 0.95),
        (arm - 0.95, arm - 0.95),
        (arm - 0.95, 0.95),
        (-0.95, 0.95),
    ];
    k.body(p.outline(&points, false), None, 0.08 * s, 0.06 * s);
    let (r, mid) = (arm * 0.22, arm * 0.5 - 0.95);
    for (x, y) in [(0.65, mid), (mid, 0.65), (mid, mid)] {
        k.hole(p.ellipse(x, y, r, r), r * s);
    }
}
