//! Families of objects: outlines of bodies and what lies on them, in local units (about -1 to 1).
//!
//! Every object is whole and right; whatever it shows is meant to be there.

mod electric;
mod food;
mod household;
mod mechanical;

use super::glyph;
use super::layers::{Colour, Ink, Piece, Pose, Role};
use super::noise::Dice;
use electric::{cable, circuit, connector, transistor, wires};
use food::{biscuit, candle, capsule, fruit, nut, pill, tablet};
use household::{bottle, brush, cap, package, scan, toy, zipper};
use mechanical::{hex_nut, plate, ring, screw, tube};
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
    /// Names of the surface families that it may be covered with.
    pub skins: &'static [&'static str],
    /// Most objects in one picture.
    pub most: usize,
    /// Half length across in local units: how far it reaches from its middle.
    pub aspect: f32,
    /// Draws one.
    pub draw: fn(&mut Kit, Pose),
}

const METAL: &[&str] = &["cast metal", "brushed", "iron", "machined", "painted"];

const PLASTIC: &[&str] = &["plastic", "painted", "rubber"];

const FOOD: &[&str] = &["baked", "marble", "wood"];

const SMOOTH: &[&str] = &["plastic", "paper", "magnet"];

const BOARD: &[&str] = &["plastic", "painted"];

const WOODEN: &[&str] = &["wood", "plastic"];

const fn kind(
    name: &'static str,
    skins: &'static [&'static str],
    most: usize,
    aspect: f32,
    draw: fn(&mut Kit, Pose),
) -> Kind {
    Kind {
        name,
        skins,
        most,
        aspect,
        draw,
    }
}

/// All kinds of objects.
pub const KINDS: &[Kind] = &[
    kind("tablet", SMOOTH, 6, 1.0, tablet),
    kind("capsule", PLASTIC, 5, 1.0, capsule),
    kind("pill", SMOOTH, 3, 1.0, pill),
    kind("nut", FOOD, 2, 1.0, nut),
    kind("biscuit", FOOD, 3, 1.0, biscuit),
    kind("fruit", &["plastic", "paper"], 4, 1.0, fruit),
    kind("ring", METAL, 3, 1.0, ring),
    kind("washer", METAL, 4, 1.0, ring),
    kind("hex nut", METAL, 3, 1.0, hex_nut),
    kind("screw", METAL, 2, 1.0, screw),
    kind("plate", METAL, 1, 1.0, plate),
    kind("bottle", PLASTIC, 1, 1.0, bottle),
    kind("cable", PLASTIC, 1, 1.0, cable),
    kind("transistor", BOARD, 1, 1.0, transistor),
    kind("circuit board", BOARD, 1, 1.2, circuit),
    kind("toy", PLASTIC, 1, 1.0, toy),
    kind("tube", METAL, 2, 1.0, tube),
    kind("box", WOODEN, 1, 1.1, package),
    kind("brush", PLASTIC, 1, 1.0, brush),
    kind("zipper", PLASTIC, 1, 1.3, zipper),
    kind("candle", &["plastic", "painted"], 4, 1.0, candle),
    kind("connector", PLASTIC, 2, 1.0, connector),
    kind("wire", PLASTIC, 3, 1.3, wires),
    kind("brain scan", &["plastic"], 1, 1.0, scan),
    kind("cap", PLASTIC, 4, 1.0, cap),
    kind("battery", METAL, 3, 1.0, tube),
];
