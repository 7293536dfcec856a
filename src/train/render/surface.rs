//! Families of surfaces: what fills a picture, covers an object or lies behind it.
//!
//! Every family is free of defects: whatever irregularity it has is its nature. Families marked
//! `held` appear only in the validation part.

use super::layers::{Colour, Layers, Light, Piece, hsv, mix, times};
use super::noise::{Dice, Noise, smooth, turn, wave};
use super::{regular, textile};
use std::f32::consts::{FRAC_PI_2, FRAC_PI_4};

/// Tools for drawing one surface.
pub struct Make<'a> {
    /// Choices.
    pub dice: &'a mut Dice,
    /// Lattice.
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
    pub fn frame(&mut self, period: f32, bend: f32, free: bool) -> Frame {
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
        Frame {
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
pub struct Frame {
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

impl Frame {
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
    /// The word that captions use.
    pub surface: &'static str,
    /// What a piece of it is called.
    pub product: &'static str,
    /// Woven or knitted.
    pub textile: bool,
    /// Fit to cover smooth objects.
    pub skin: bool,
    /// Only in the validation part.
    pub held: bool,
    /// Draws it.
    pub draw: fn(&mut Make) -> Swatch,
}

/// Every word that captions say of surfaces.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|f| [f.surface, f.product])
}

const fn family(
    name: &'static str,
    surface: &'static str,
    product: &'static str,
    traits: &str,
    draw: fn(&mut Make) -> Swatch,
) -> Family {
    let letters = traits.as_bytes();
    let (mut textile, mut skin, mut held, mut i) = (false, false, false, 0);
    while i < letters.len() {
        match letters[i] {
            b't' => textile = true,
            b's' => skin = true,
            _ => held = true,
        }
        i += 1;
    }
    Family {
        name,
        surface,
        product,
        textile,
        skin,
        held,
        draw,
    }
}

/// All families; `t`: textile, `s`: covers objects, `h`: held out for validation.
pub const FAMILIES: &[Family] = &[
    family("cast metal", "metal", "casting", "s", cast),
    family("brushed", "steel", "plate", "s", brushed),
    family("rolled", "steel", "strip", "", rolled),
    family("iron", "iron", "plate", "s", iron),
    family("machined", "machined", "part", "s", machined),
    family("asphalt", "asphalt", "road", "", asphalt),
    family("concrete", "concrete", "wall", "", concrete),
    family("marble", "marble", "slab", "s", marble),
    family("wood", "wooden", "board", "s", wood),
    family("wood rings", "wooden", "log", "", wood_rings),
    family("leather", "leather", "hide", "", leather),
    family("plastic", "plastic", "panel", "s", plastic),
    family("painted", "painted", "panel", "s", painted),
    family("glass", "glass", "pane", "s", glass),
    family("granite", "granite", "stone", "", granite),
    family("foil", "crumpled", "foil", "", crumpled),
    family("paper", "paper", "sheet", "s", paper),
    family("foam", "foam", "block", "", foam),
    family("rubber", "rubber", "mat", "s", rubber),
    family("weathered", "weathered", "metal", "", weathered),
    family("magnet", "ceramic", "tile", "s", magnet),
    family("baked", "baked", "biscuit", "s", baked),
    family("tissue", "grey", "tissue", "", tissue),
    family("plaster", "plaster", "wall", "", plaster),
    family("terrazzo", "terrazzo", "floor", "h", terrazzo),
    family("hammered", "hammered", "copper", "hs", hammered),
    family("scaly", "scaly", "skin", "h", scaly),
    family("cork", "cork", "board", "hs", cork),
    family("anodised", "aluminium", "plate", "hs", anodised),
    family("plain weave", "cotton", "fabric", "t", textile::plain),
    family("basket weave", "linen", "cloth", "t", textile::basket),
    family("satin", "satin", "fabric", "t", textile::satin),
    family("knit", "knitted", "wool", "t", textile::knit),
    family("carpet", "woven", "carpet", "t", textile::carpet),
    family("striped", "striped", "fabric", "t", textile::striped),
    family("net", "nylon", "net", "t", textile::net),
    family("twill", "denim", "cloth", "th", textile::twill),
    family("herringbone", "tweed", "cloth", "th", textile::herringbone),
    family("wire mesh", "wire", "mesh", "", regular::wire_mesh),
    family("grid", "metal", "grid", "", regular::grid),
    family("solar", "solar", "cell", "", regular::solar),
    family("luminescent", "silicon", "cell", "", regular::luminescent),
    family("tiles", "tiled", "floor", "", regular::tiles),
    family("bricks", "brick", "wall", "", regular::bricks),
    family("perforated", "perforated", "sheet", "", regular::perforated),
    family(
        "corrugated",
        "corrugated",
        "cardboard",
        "s",
        regular::corrugated,
    ),
    family("halftone", "printed", "label", "", regular::halftone),
    family("traces", "circuit", "board", "", regular::traces),
    family("ribbed", "ribbed", "plastic", "s", regular::ribbed),
    family("patterned", "patterned", "wallpaper", "", regular::motif),
    family("knurled", "knurled", "metal", "h", regular::knurled),
    family("honeycomb", "honeycomb", "panel", "h", regular::honeycomb),
    family("checker", "checkered", "plate", "h", regular::checker),
];

/// Grain of any material: broad mottle, directed fine noise, single-pixel specks, relief.
struct Grain {
    base: Colour,
    other: Colour,
    mottle: f32,
    broad: f32,
    fine: f32,
    long: f32,
    short: f32,
    octaves: usize,
    angle: f32,
    speck: f32,
    relief: f32,
    gloss: f32,
}

impl Grain {
    fn new(base: Colour) -> Self {
        Self {
            base,
            other: base,
            mottle: 0.05,
            broad: 0.4,
            fine: 0.06,
            long: 3.0,
            short: 3.0,
            octaves: 2,
            angle: 0.0,
            speck: 0.02,
            relief: 0.3,
            gloss: 0.2,
        }
    }
    fn draw(&self, make: &Make) -> Swatch {
        let (noise, side) = (make.noise, make.side);
        let broad = noise.plane(side, self.broad * side as f32, 3, 3.7);
        let (s, c) = turn(self.angle);
        let (su, sv) = (1.0 / self.long, 1.0 / self.short);
        let layers = Layers::paint(side, |x, y, i| {
            let (u, v) = ((c * x + s * y) * su, (c * y - s * x) * sv);
            let f = noise.octaves(u + 40.0, v + 40.0, self.octaves);
            let w = noise.cell(x as i32 * 3 + 11, y as i32 * 5);
            let t = (0.5 + 0.6 * broad[i]).clamp(0.0, 1.0);
            let k = 1.0 + self.mottle * broad[i] + self.fine * f + self.speck * w;
            (
                times(mix(self.base, self.other, t), k),
                self.relief * f,
                self.gloss,
            )
        });
        Swatch {
            layers,
            pieces: Vec::new(),
            period: self.short.max(2.0),
            axis: self.angle,
        }
    }
}

fn cast(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.3, 0.75));
    g.long = make.dice.scale(1.5, 6.0);
    g.short = g.long;
    g.octaves = 3;
    g.fine = make.dice.range(0.03, 0.14);
    g.relief = make.dice.range(0.1, 0.9);
    g.mottle = make.dice.range(0.02, 0.12);
    g.gloss = make.dice.range(0.1, 0.6);
    g.draw(make)
}

fn brushed(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.4, 0.85));
    g.angle = make.dice.pick(&[0.0, FRAC_PI_2]) + make.dice.range(-0.2, 0.2);
    if make.dice.chance(0.25) {
        g.angle = make.dice.angle();
    }
    g.long = make.scaled(15.0, 90.0);
    g.short = make.dice.scale(0.9, 2.5);
    g.fine = make.dice.range(0.03, 0.16);
    g.relief = make.dice.range(0.0, 0.25);
    g.gloss = make.dice.range(0.3, 0.9);
    g.speck = make.dice.range(0.0, 0.03);
    g.draw(make)
}

fn anodised(make: &mut Make) -> Swatch {
    let colour = make.hue((0.0, 1.0), (0.1, 0.5), (0.35, 0.8));
    let mut g = Grain::new(colour);
    g.long = make.ranged(4.0, 14.0);
    g.short = make.dice.range(0.8, 1.6);
    g.angle = make.dice.range(-0.1, 0.1) + make.dice.pick(&[0.0, FRAC_PI_4]);
    g.fine = make.dice.range(0.02, 0.08);
    g.gloss = 0.8;
    g.relief = 0.1;
    g.draw(make)
}

fn rolled(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.25, 0.65));
    g.other = times(g.base, make.dice.range(0.75, 1.1));
    g.angle = FRAC_PI_2 + make.dice.range(-0.05, 0.05);
    g.long = make.scaled(30.0, 200.0);
    g.short = make.scaled(1.0, 8.0);
    g.octaves = 3;
    g.fine = make.dice.range(0.04, 0.2);
    g.broad = make.dice.range(0.1, 0.6);
    g.mottle = make.dice.range(0.03, 0.15);
    g.speck = make.dice.range(0.02, 0.09);
    g.relief = 0.1;
    g.draw(make)
}

fn iron(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.15, 0.4));
    g.other = make.hue((0.04, 0.1), (0.1, 0.4), (0.15, 0.4));
    g.long = make.dice.scale(2.0, 7.0);
    g.short = g.long * make.dice.range(0.7, 1.0);
    g.octaves = 3;
    g.fine = make.dice.range(0.05, 0.15);
    g.relief = make.dice.range(0.3, 1.6);
    g.gloss = make.dice.range(0.1, 0.5);
    g.draw(make)
}

fn machined(make: &mut Make) -> Swatch {
    let base = make.grey(0.4, 0.8);
    let (noise, side) = (make.noise, make.side);
    let pitch = make.dice.scale(1.6, make.percent(4.0).max(2.0));
    let n = side as f32;
    let (cx, cy) = if make.dice.chance(0.4) {
        (n * 0.5, n * 0.5)
    } else {
        (make.dice.range(-n, 2.0 * n), make.dice.range(-n, 2.0 * n))
    };
    let (depth, contrast) = (make.dice.range(0.03, 0.25), make.dice.range(0.02, 0.12));
    let layers = Layers::paint(side, |x, y, _| {
        let d = ((x - cx) * (x - cx) + (y - cy) * (y - cy)).sqrt() / pitch;
        let ring = noise.at(d * 0.9, 3.0);
        let w = 0.6 * wave(d) + 0.6 * ring;
        let k = 1.0 + contrast * w + 0.02 * noise.cell(x as i32, y as i32);
        (times(base, k), depth * w, 0.7)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: pitch,
        axis: 0.0,
    }
}

fn asphalt(make: &mut Make) -> Swatch {
    let base = make.grey(0.2, 0.55);
    let cell = make.scaled(1.0, 4.5).max(1.6);
    let contrast = make.dice.range(0.15, 0.5);
    let (noise, side) = (make.noise, make.side);
    let broad = noise.plane(side, side as f32 * 0.5, 2, 9.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (d, e, name) = noise.cells(x / cell, y / cell, 1.0);
        let stone = smooth(0.02, 0.3, e - d);
        let f = noise.at(x * 0.6, y * 0.6);
        let k = 0.75 + contrast * (0.7 * name * stone + 0.4 * f) + 0.1 * broad[i] + 0.25 * stone;
        (times(base, k.max(0.1)), 0.8 * stone * (1.0 + name), 0.15)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

fn concrete(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.4, 0.8));
    g.other = mix(g.base, make.hue((0.05, 0.15), (0.05, 0.2), (0.4, 0.8)), 0.5);
    g.long = make.dice.scale(2.0, 12.0);
    g.short = g.long;
    g.octaves = 4;
    g.mottle = make.dice.range(0.05, 0.2);
    g.fine = make.dice.range(0.04, 0.14);
    g.speck = make.dice.range(0.02, 0.1);
    g.relief = make.dice.range(0.1, 0.6);
    g.gloss = 0.02;
    let mut swatch = g.draw(make);
    // Air bubbles of cast concrete and single dark grains are normal.
    let (noise, rare) = (make.noise, make.dice.range(0.75, 1.0));
    let cell = make.ranged(2.0, 5.0);
    if make.dice.chance(0.5) {
        for (i, colour) in swatch.layers.colour.iter_mut().enumerate() {
            let (x, y) = ((i % make.side) as f32, (i / make.side) as f32);
            let (d, _, name) = noise.cells(x / cell, y / cell, 0.9);
            if name.abs() > rare * 0.9 {
                *colour = times(*colour, 1.0 - 0.4 * smooth(0.25, 0.08, d));
            }
        }
    }
    swatch
}

fn plaster(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.hue((0.0, 1.0), (0.0, 0.25), (0.5, 0.95)));
    g.long = make.scaled(2.0, 8.0);
    g.short = g.long * make.dice.range(0.4, 1.0);
    g.angle = make.dice.angle();
    g.octaves = 3;
    g.fine = 0.02;
    g.relief = make.dice.range(0.5, 2.5);
    g.gloss = 0.05;
    g.draw(make)
}

fn marble(make: &mut Make) -> Swatch {
    let light = make.dice.chance(0.6);
    let base = if light {
        make.grey(0.65, 0.92)
    } else {
        make.hue((0.0, 0.5), (0.1, 0.5), (0.1, 0.45))
    };
    let vein = if light {
        make.grey(0.25, 0.55)
    } else {
        make.grey(0.6, 0.9)
    };
    let (noise, side) = (make.noise, make.side);
    let scale = make.scaled(14.0, 45.0);
    let warp = noise.plane(side, scale, 3, 5.0);
    let fine = noise.plane(side, scale * 0.6, 3, 60.0);
    let (s, c) = turn(make.dice.angle());
    let strength = make.dice.range(0.2, 0.9);
    let sharp = make.dice.range(4.0, 14.0);
    let layers = Layers::paint(side, |x, y, i| {
        let u = (c * x + s * y) / (scale * 1.6) + 1.1 * warp[i];
        let line = 1.0 / (1.0 + sharp * sharp * wave(u).abs() * wave(u).abs());
        let t = strength * line * smooth(-0.4, 0.5, fine[i]) + 0.15 * (fine[i] + 0.5);
        (mix(base, vein, t.clamp(0.0, 1.0)), 0.0, 0.4)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: scale,
        axis: 0.0,
    }
}

fn wood_colours(make: &mut Make) -> (Colour, Colour) {
    let base = make.hue((0.04, 0.12), (0.25, 0.65), (0.4, 0.85));
    let k = make.dice.range(0.55, 0.85);
    (base, [base[0] * k, base[1] * k * 0.95, base[2] * k * 0.85])
}

fn wood(make: &mut Make) -> Swatch {
    let (base, dark) = wood_colours(make);
    let width = make.scaled(2.5, 12.0);
    let frame = make.frame(width, 0.0, false);
    let (noise, side) = (make.noise, make.side);
    let n = side as f32;
    // Knots belong to wood.
    let mut knots = Vec::new();
    if make.dice.chance(0.35) {
        for _ in 0..1 + make.dice.below(2) {
            let at = (make.dice.range(0.0, n), make.dice.range(0.0, n));
            let (u, v) = frame.at(noise, at.0, at.1);
            knots.push((u, v, make.dice.range(0.5, 1.4)));
        }
    }
    let (wobble, pores) = (make.dice.range(0.3, 2.0), make.dice.range(0.03, 0.2));
    let boards = make.dice.chance(0.25).then(|| make.dice.range(4.0, 9.0));
    let layers = Layers::paint(side, |x, y, _| {
        let (u, v) = frame.at(noise, x, y);
        let mut ring = v + wobble * noise.at(u * 0.05, v * 0.15 + 9.0) * 2.0;
        let mut dark_knot = 0.0f32;
        for (ku, kv, size) in &knots {
            let (du, dv) = ((u - ku) * 0.6, v - kv);
            let d = (du * du + dv * dv).sqrt() / size;
            ring += dv.signum() * 1.5 * libm::expf(-d * d * 0.5) * size;
            dark_knot = dark_knot.max(smooth(0.9, 0.4, d) * (0.8 + 0.2 * wave(d * 3.0)));
        }
        let mut edge = 0.0;
        if let Some(width) = boards {
            let board = v / width;
            let f = board - board.floor();
            edge = smooth(0.02, 0.005, f.min(1.0 - f));
            ring += 5.3 * board.floor();
        }
        let late = smooth(0.3, 0.95, ring - ring.floor()) * smooth(1.0, 0.95, ring - ring.floor());
        let fibre = noise.at(u * 0.35, v * 6.0) + 0.6 * noise.at(u * 1.1, v * 14.0);
        let t = 0.75 * late * (0.6 + 0.4 * noise.at(3.0, ring.floor())) + pores * fibre;
        let t = (t + dark_knot).clamp(0.0, 1.3);
        (
            times(mix(base, dark, t), 1.0 - 0.7 * edge - 0.3 * dark_knot),
            0.15 * fibre - edge,
            0.15,
        )
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: frame.period,
        axis: frame.angle,
    }
}

fn wood_rings(make: &mut Make) -> Swatch {
    let (base, dark) = wood_colours(make);
    let pitch = make.scaled(1.5, 6.0).max(2.0);
    let (noise, side) = (make.noise, make.side);
    let n = side as f32;
    let (cx, cy) = (make.dice.range(0.1, 0.9) * n, make.dice.range(0.1, 0.9) * n);
    let warp = noise.plane(side, n * 0.4, 3, 2.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (dx, dy) = (x - cx, y - cy);
        let d = (dx * dx + dy * dy).sqrt() / pitch + 2.0 * warp[i];
        let late = smooth(0.2, 0.95, d - d.floor());
        let k = 1.0 + 0.06 * noise.cell(x as i32, y as i32);
        (times(mix(base, dark, 0.8 * late), k), 0.1 * late, 0.05)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: pitch,
        axis: 0.0,
    }
}

/// Cells with dark joints between them: leather, scales, mud.
fn cellular(
    make: &Make,
    colours: (Colour, Colour),
    cell: f32,
    stretch: f32,
    joint: f32,
    relief: f32,
    gloss: f32,
) -> Swatch {
    let (noise, side) = (make.noise, make.side);
    let broad = noise.plane(side, side as f32 * 0.5, 2, 8.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (d, e, name) = noise.cells(x / cell + 0.15 * broad[i], y / (cell * stretch), 0.9);
        let inside = smooth(0.0, joint, e - d);
        let k = (0.62 + 0.38 * inside) * (1.0 + 0.07 * broad[i] + 0.05 * name);
        let colour = mix(colours.0, colours.1, (0.5 + 0.5 * broad[i]).clamp(0.0, 1.0));
        (times(colour, k), relief * inside, gloss)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

fn leather(make: &mut Make) -> Swatch {
    let colour = if make.dice.chance(0.7) {
        make.hue((0.02, 0.11), (0.2, 0.75), (0.15, 0.7))
    } else {
        make.any_colour()
    };
    let other = times(colour, make.dice.range(0.8, 1.1));
    let cell = make.scaled(1.5, 5.0).max(2.2);
    let joint = make.dice.range(0.2, 0.6);
    let relief = make.dice.range(0.2, 0.9);
    let gloss = make.dice.range(0.1, 0.5);
    cellular(make, (colour, other), cell, 1.0, joint, relief, gloss)
}

fn scaly(make: &mut Make) -> Swatch {
    let colour = make.any_colour();
    let other = make.any_colour();
    let cell = make.scaled(3.0, 9.0).max(3.0);
    let stretch = make.dice.range(1.2, 2.2);
    cellular(
        make,
        (colour, mix(colour, other, 0.5)),
        cell,
        stretch,
        0.15,
        1.6,
        0.5,
    )
}

fn plastic(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.any_colour());
    g.fine = make.dice.range(0.0, 0.05);
    g.long = make.dice.scale(1.5, 5.0);
    g.short = g.long;
    g.mottle = make.dice.range(0.0, 0.04);
    g.relief = make.dice.range(0.0, 0.5);
    g.gloss = make.dice.range(0.1, 0.9);
    g.speck = make.dice.range(0.0, 0.02);
    g.draw(make)
}

fn painted(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.any_colour());
    g.fine = 0.01;
    g.long = make.scaled(3.0, 10.0);
    g.short = g.long;
    g.relief = make.dice.range(0.05, 0.6);
    g.gloss = make.dice.range(0.5, 1.0);
    g.speck = make.dice.range(0.0, 0.02);
    g.draw(make)
}

fn rubber(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.05, 0.25));
    g.fine = make.dice.range(0.05, 0.3);
    g.long = make.dice.scale(1.0, 3.0);
    g.short = g.long;
    g.relief = 0.4;
    g.gloss = 0.3;
    g.draw(make)
}

fn glass(make: &mut Make) -> Swatch {
    let tint = make.hue((0.3, 0.65), (0.0, 0.3), (0.35, 0.9));
    let (noise, side) = (make.noise, make.side);
    // What shows through the pane and what it mirrors, both out of focus.
    let behind = noise.plane(side, side as f32 * make.dice.range(0.5, 1.2), 1, 3.0);
    let (s, c) = turn(make.dice.angle());
    let (at, width) = (make.dice.range(-0.3, 0.9), make.dice.range(0.05, 0.3));
    let mirror = make.dice.range(0.0, 0.35);
    let n = side as f32;
    let layers = Layers::paint(side, |x, y, i| {
        let d = (c * x + s * y) / n - at;
        let band = smooth(0.0, 0.02, d) * smooth(width + 0.02, width, d);
        let second = smooth(width + 0.05, width + 0.06, d) * smooth(width + 0.12, width + 0.1, d);
        let k = 1.0 + 0.12 * behind[i] + mirror * (band + second);
        (times(tint, k), 0.0, 0.9)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: n * 0.2,
        axis: 0.0,
    }
}

fn granite(make: &mut Make) -> Swatch {
    let colours = [
        make.grey(0.1, 0.3),
        make.grey(0.6, 0.9),
        make.hue((0.0, 0.12), (0.1, 0.5), (0.3, 0.8)),
        make.grey(0.3, 0.6),
    ];
    let cell = make.scaled(1.0, 4.0).max(1.5);
    let contrast = make.dice.range(0.3, 1.0);
    let (noise, side) = (make.noise, make.side);
    let warp = noise.plane(side, cell * 4.0, 2, 1.0);
    let layers = Layers::paint(side, |x, y, i| {
        let w = 0.6 * warp[i];
        let (_, _, name) = noise.cells(x / cell + w, y / cell - w, 1.0);
        let kind = ((name * 0.5 + 0.5) * 4.0).clamp(0.0, 3.99) as usize;
        let k = 1.0 + 0.1 * noise.cell(x as i32, y as i32);
        (times(mix(colours[3], colours[kind], contrast), k), 0.0, 0.3)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

fn terrazzo(make: &mut Make) -> Swatch {
    let base = make.grey(0.5, 0.9);
    let chips = [make.any_colour(), make.any_colour(), make.grey(0.1, 0.9)];
    let cell = make.scaled(4.0, 11.0);
    let (noise, side) = (make.noise, make.side);
    let fill = make.dice.range(0.12, 0.35);
    let layers = Layers::paint(side, |x, y, _| {
        let (d, e, name) = noise.cells(x / cell, y / cell, 1.0);
        let size = fill * (1.0 + 0.6 * name);
        let edge = (e - d).min(2.0 * size - d) - 0.12;
        let chip = chips[((name * 50.0).abs() as usize) % 3];
        let k = 1.0 + 0.04 * noise.cell(x as i32, y as i32);
        (times(mix(base, chip, smooth(0.0, 0.06, edge)), k), 0.0, 0.4)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

fn hammered(make: &mut Make) -> Swatch {
    let base = make.hue((0.03, 0.12), (0.2, 0.7), (0.4, 0.8));
    let cell = make.scaled(4.0, 12.0);
    let (noise, side) = (make.noise, make.side);
    let layers = Layers::paint(side, |x, y, _| {
        let (d, _, name) = noise.cells(x / cell, y / cell, 0.8);
        (times(base, 1.0 + 0.05 * name), cell * 0.18 * d * d, 0.8)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

fn crumpled(make: &mut Make) -> Swatch {
    let base = if make.dice.chance(0.6) {
        make.grey(0.5, 0.85)
    } else {
        make.any_colour()
    };
    let cell = make.scaled(10.0, 35.0);
    let (noise, side) = (make.noise, make.side);
    let depth = make.dice.range(0.1, 0.4) * cell;
    let gloss = make.dice.range(0.0, 0.9);
    let warp = noise.plane(side, cell, 2, 4.0);
    let layers = Layers::paint(side, |x, y, i| {
        // Ridges: noise folded at zero has sharp creases.
        let w = 0.4 * warp[i];
        let a = noise.at(x / cell + w, y / cell + 3.0).abs();
        let b = noise.at(x / cell * 2.1 + 20.0, y / cell * 2.1 - w).abs();
        (base, depth * (a + 0.45 * b), gloss)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

fn paper(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.hue((0.05, 0.18), (0.0, 0.35), (0.65, 0.97)));
    g.long = make.dice.scale(2.0, 9.0);
    g.short = make.dice.scale(1.0, 2.5);
    g.angle = make.dice.angle();
    g.fine = make.dice.range(0.01, 0.05);
    g.speck = make.dice.range(0.0, 0.03);
    g.mottle = make.dice.range(0.0, 0.05);
    g.relief = make.dice.range(0.0, 0.2);
    g.gloss = 0.03;
    g.draw(make)
}

fn porous(make: &mut Make, base: Colour, cell: f32, dark: f32) -> Swatch {
    let (noise, side) = (make.noise, make.side);
    let broad = noise.plane(side, side as f32 * 0.4, 2, 8.0);
    let layers = Layers::paint(side, |x, y, i| {
        let (d, _, name) = noise.cells(x / cell, y / cell, 1.0);
        let (small, _, _) = noise.cells(x / cell * 2.3 + 40.0, y / cell * 2.3, 1.0);
        let pore = smooth(0.45 + 0.2 * name, 0.1, d).max(0.7 * smooth(0.35, 0.1, small));
        (
            times(base, (1.0 - dark * pore) * (1.0 + 0.08 * broad[i])),
            -1.2 * pore,
            0.05,
        )
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: cell,
        axis: 0.0,
    }
}

fn foam(make: &mut Make) -> Swatch {
    let base = make.any_colour();
    let cell = make.scaled(2.0, 7.0).max(2.5);
    let dark = make.dice.range(0.2, 0.7);
    porous(make, base, cell, dark)
}

fn cork(make: &mut Make) -> Swatch {
    let base = make.hue((0.06, 0.1), (0.4, 0.65), (0.5, 0.8));
    let cell = make.scaled(2.0, 6.0).max(2.5);
    let mut swatch = porous(make, base, cell, 0.35);
    let noise = make.noise;
    for (i, colour) in swatch.layers.colour.iter_mut().enumerate() {
        let (x, y) = ((i % make.side) as f32, (i / make.side) as f32);
        *colour = times(
            *colour,
            1.0 + 0.15 * noise.at(x / cell * 0.8, y / cell * 0.8),
        );
    }
    swatch
}

fn weathered(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.hue((0.02, 0.08), (0.4, 0.8), (0.25, 0.6)));
    g.other = make.grey(0.2, 0.6);
    g.broad = make.dice.range(0.08, 0.3);
    g.mottle = 0.3;
    g.long = make.dice.scale(2.0, 8.0);
    g.short = g.long;
    g.octaves = 4;
    g.fine = make.dice.range(0.1, 0.3);
    g.relief = make.dice.range(0.3, 1.2);
    g.gloss = 0.1;
    g.draw(make)
}

fn magnet(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.grey(0.2, 0.6));
    g.broad = make.dice.range(0.2, 0.8);
    g.mottle = make.dice.range(0.05, 0.2);
    g.long = make.scaled(1.0, 10.0);
    g.short = make.dice.scale(1.0, 3.0);
    g.angle = make.dice.pick(&[0.0, FRAC_PI_2]);
    g.fine = make.dice.range(0.01, 0.08);
    g.relief = 0.1;
    g.draw(make)
}

fn baked(make: &mut Make) -> Swatch {
    let mut g = Grain::new(make.hue((0.05, 0.12), (0.35, 0.7), (0.5, 0.9)));
    g.other = times(g.base, make.dice.range(0.5, 0.85));
    g.broad = make.dice.range(0.05, 0.25);
    g.long = make.scaled(1.5, 5.0);
    g.short = g.long;
    g.octaves = 3;
    g.fine = make.dice.range(0.05, 0.2);
    g.relief = make.dice.range(0.4, 1.6);
    g.gloss = 0.1;
    g.draw(make)
}

fn tissue(make: &mut Make) -> Swatch {
    let (dark, bright) = (make.dice.range(0.05, 0.35), make.dice.range(0.45, 0.8));
    let scale = make.scaled(8.0, 30.0);
    let (noise, side) = (make.noise, make.side);
    let folds = noise.plane(side, scale, 3, 5.0);
    let broad = noise.plane(side, side as f32 * 0.6, 2, 70.0);
    let ridge = make.dice.range(0.5, 3.0);
    let layers = Layers::paint(side, |x, y, i| {
        let t = 0.5 + 0.3 * broad[i] + 0.35 * wave(ridge * folds[i]);
        let k = dark + (bright - dark) * t.clamp(0.0, 1.0);
        let k = k * (1.0 + 0.08 * noise.cell(x as i32, y as i32));
        ([k; 3], 0.0, 0.0)
    });
    Swatch {
        layers,
        pieces: Vec::new(),
        period: scale,
        axis: 0.0,
    }
}

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
