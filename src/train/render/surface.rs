//! Families of surfaces: what fills a picture, covers an object or lies behind it.
//!
//! Every family is free of defects: whatever irregularity it has is its nature.

mod coated;
mod grain;
mod grown;
mod metal;
mod mineral;

use super::layers::{Colour, Layers, Light, Piece, hsv};
use super::noise::{Dice, Noise, turn};
use super::{regular, textile};
use coated::{crumpled, painted, paper, plastic, rubber};
use grown::{foam, leather, tissue, wood, wood_rings};
use metal::{brushed, cast, iron, machined, magnet, rolled, weathered};
use mineral::{asphalt, baked, concrete, glass, granite, marble, plaster};
use std::f32::consts::FRAC_PI_2;

/// Tools for drawing one surface.
pub struct Make<'a> {
    /// Random choices.
    pub dice: &'a mut Dice,
    /// Random lattice that textures are interpolated from.
    pub noise: &'a Noise,
    /// Pixels per row and column.
    pub side: usize,
}

impl Make<'_> {
    /// This percentage of the side in pixels.
    pub fn percent(&self, share: f32) -> f32 {
        share * self.side as f32 * 0.01
    }
    /// A random percentage of the side in pixels, evenly between these.
    pub fn ranged(&mut self, low: f32, high: f32) -> f32 {
        let share = self.dice.range(low, high);
        self.percent(share)
    }
    /// A random percentage of the side in pixels, even in the logarithm.
    pub fn scaled(&mut self, low: f32, high: f32) -> f32 {
        let share = self.dice.scale(low, high);
        self.percent(share)
    }
    /// Any colour: greys and muted colours more often than loud ones.
    pub fn any_colour(&mut self) -> Colour {
        let saturation = if self.dice.chance(0.4) {
            self.dice.range(0.0, 0.12)
        } else {
            self.dice.range(0.1, 0.85)
        };
        let value = self.dice.range(0.1, 0.9);
        hsv(self.dice.unit(), saturation, value)
    }
    /// A nearly grey colour with a value in this range.
    pub fn grey(&mut self, low: f32, high: f32) -> Colour {
        let saturation = self.dice.range(0.0, 0.1);
        hsv(
            self.dice.range(0.0, 1.0),
            saturation,
            self.dice.range(low, high),
        )
    }
    /// A warm colour: hue between these turns.
    pub fn hue(&mut self, hue: (f32, f32), saturation: (f32, f32), value: (f32, f32)) -> Colour {
        hsv(
            self.dice.range(hue.0, hue.1),
            self.dice.range(saturation.0, saturation.1),
            self.dice.range(value.0, value.1),
        )
    }
    /// A turned, slightly bent frame whose units are `period` pixels wide.
    pub fn frame(&mut self, period: f32, bend: f32, free: bool) -> PatternAxes {
        let mut angle = if free {
            self.dice.angle()
        } else {
            self.dice.range(-0.12, 0.12) + self.dice.pick(&[0.0, 0.0, FRAC_PI_2])
        };
        if !free && self.dice.chance(0.15) {
            angle = self.dice.angle();
        }
        let (s, c) = turn(angle);
        let cell = self.dice.range(0.2, 0.6) * self.side as f32;
        PatternAxes {
            s: s / period,
            c: c / period,
            u: self.dice.range(50.0, 90.0),
            v: self.dice.range(50.0, 90.0),
            bend: bend * period,
            cell: 1.0 / cell,
            angle,
            period,
        }
    }
}

/// Coordinates of a pattern.
pub struct PatternAxes {
    s: f32,
    c: f32,
    u: f32,
    v: f32,
    bend: f32,
    cell: f32,
    /// Direction of the first axis, radians.
    pub angle: f32,
    /// Pixels per unit.
    pub period: f32,
}

impl PatternAxes {
    /// Pattern coordinates of a pixel.
    pub fn at(&self, noise: &Noise, x: f32, y: f32) -> (f32, f32) {
        let (x, y) = if self.bend > 0.0 {
            let (p, q) = (x * self.cell, y * self.cell);
            (
                x + self.bend * noise.at(p, q),
                y + self.bend * noise.at(p + 31.0, q + 7.0),
            )
        } else {
            (x, y)
        };
        (
            self.c * x + self.s * y + self.u,
            self.c * y - self.s * x + self.v,
        )
    }
    /// The pixel at pattern coordinates, without the bend.
    pub fn pixel(&self, u: f32, v: f32) -> (f32, f32) {
        let k = self.period * self.period;
        let (u, v) = (u - self.u, v - self.v);
        ((self.c * u - self.s * v) * k, (self.s * u + self.c * v) * k)
    }
    /// Ranges of whole cells that the picture can touch: from `low` to `high` in both axes.
    pub fn span(&self, side: usize) -> (i32, i32, i32, i32) {
        let n = side as f32;
        let corners = [(0.0, 0.0), (n, 0.0), (0.0, n), (n, n)].map(|(x, y)| {
            (
                self.c * x + self.s * y + self.u,
                self.c * y - self.s * x + self.v,
            )
        });
        let mut r = (i32::MAX, i32::MIN, i32::MAX, i32::MIN);
        for (u, v) in corners {
            r.0 = r.0.min(u.floor() as i32 - 1);
            r.1 = r.1.max(u.ceil() as i32 + 1);
            r.2 = r.2.min(v.floor() as i32 - 1);
            r.3 = r.3.max(v.ceil() as i32 + 1);
        }
        r
    }
}

/// A drawn surface.
pub struct Swatch {
    /// What light falls on.
    pub layers: Layers,
    /// Elements that lie on it one by one.
    pub pieces: Vec<Piece>,
    /// Size of the pattern's unit in pixels.
    pub period: f32,
    /// Direction of the pattern in radians.
    pub axis: f32,
}

/// A kind of surface.
pub struct Family {
    /// Unique name.
    pub name: &'static str,

    /// What a piece of it is called.
    pub product: &'static str,
    /// Woven or knitted.
    pub textile: bool,
    /// Fit to cover smooth objects.
    pub skin: bool,
    /// Draws it.
    pub draw: fn(&mut Make) -> Swatch,
}

const fn family(
    name: &'static str,
    product: &'static str,
    traits: &str,
    draw: fn(&mut Make) -> Swatch,
) -> Family {
    let letters = traits.as_bytes();
    let (mut textile, mut skin, mut i) = (false, false, 0);
    while i < letters.len() {
        match letters[i] {
            b't' => textile = true,
            _ => skin = true,
        }
        i += 1;
    }
    Family {
        name,
        product,
        textile,
        skin,
        draw,
    }
}

/// All families. The letters are traits: `t` for a textile, `s` for a surface that may cover objects.
pub const FAMILIES: &[Family] = &[
    family("cast metal", "casting", "s", cast),
    family("brushed", "plate", "s", brushed),
    family("rolled", "strip", "", rolled),
    family("iron", "plate", "s", iron),
    family("machined", "part", "s", machined),
    family("asphalt", "road", "", asphalt),
    family("concrete", "wall", "", concrete),
    family("marble", "slab", "s", marble),
    family("wood", "board", "s", wood),
    family("wood rings", "log", "", wood_rings),
    family("leather", "hide", "", leather),
    family("plastic", "panel", "s", plastic),
    family("painted", "panel", "s", painted),
    family("glass", "pane", "s", glass),
    family("granite", "stone", "", granite),
    family("foil", "foil", "", crumpled),
    family("paper", "sheet", "s", paper),
    family("foam", "block", "", foam),
    family("rubber", "mat", "s", rubber),
    family("weathered", "metal", "", weathered),
    family("magnet", "tile", "s", magnet),
    family("baked", "biscuit", "s", baked),
    family("tissue", "tissue", "", tissue),
    family("plaster", "wall", "", plaster),
    family("plain weave", "fabric", "t", textile::plain),
    family("basket weave", "cloth", "t", textile::basket),
    family("satin", "fabric", "t", textile::satin),
    family("knit", "wool", "t", textile::knit),
    family("carpet", "carpet", "t", textile::carpet),
    family("striped", "fabric", "t", textile::striped),
    family("net", "net", "t", textile::net),
    family("wire mesh", "mesh", "", regular::wire_mesh),
    family("grid", "grid", "", regular::grid),
    family("solar", "cell", "", regular::solar),
    family("luminescent", "cell", "", regular::luminescent),
    family("tiles", "floor", "", regular::tiles),
    family("bricks", "wall", "", regular::bricks),
    family("perforated", "sheet", "", regular::perforated),
    family("corrugated", "cardboard", "s", regular::corrugated),
    family("halftone", "label", "", regular::halftone),
    family("traces", "board", "", regular::traces),
    family("ribbed", "plastic", "s", regular::ribbed),
    family("patterned", "wallpaper", "", regular::motif),
];

impl Light {
    /// A lamp as inspection stations have them: mostly diffuse, from any side.
    pub fn random(dice: &mut Dice) -> Self {
        let (s, c) = turn(dice.angle());
        let low = dice.range(0.2, 1.3);
        let length = (1.0 + low * low).sqrt();
        let slope = if dice.chance(0.6) {
            (0.0, 0.0)
        } else {
            (dice.range(-0.5, 0.5), dice.range(-0.5, 0.5))
        };
        Self {
            towards: [c * low / length, s * low / length, 1.0 / length],
            ambient: dice.range(0.25, 0.85),
            tight: 2 + dice.below(4) as u32,
            shine: dice.range(0.0, 0.7),
            slope,
            relief: dice.range(0.5, 1.2),
        }
    }
}
