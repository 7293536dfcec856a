//! Tools that defects are drawn with: places, outlines, and ways to change the layers.

use super::layers::{Colour, Ink, Layers, Patch, Piece, Pose, Role, luma, mix, times};
use super::noise::{Dice, Noise, blur, smooth, turn};
use super::scene::Scene;
use tiny_skia::Path;

/// A scene while a defect is drawn on it.
pub struct Work<'a> {
    /// What it was.
    pub scene: &'a Scene,
    /// What it becomes.
    pub layers: Layers,
    /// Regions that count as abnormal as a whole, `0..=1`.
    pub claim: Vec<f32>,
    /// Random choices.
    pub dice: &'a mut Dice,
    /// Contrast: 1 is plain, below is faint.
    pub strength: f32,
    /// A second lattice, so that defects do not follow the surface.
    pub noise: Noise,
    /// The defect may reach beyond the objects.
    pub free: bool,
}

impl Work<'_> {
    /// This percentage of the side in pixels.
    pub fn percent(&self, share: f32) -> f32 {
        share * self.scene.side as f32 * 0.01
    }
    /// A random percentage of the side, evenly between these, in pixels.
    pub fn percents(&mut self, low: f32, high: f32) -> f32 {
        let share = self.dice.range(low, high);
        self.percent(share)
    }
    /// A random place on the objects, preferably `inset` pixels from their edge.
    pub fn spot(&mut self, inset: f32) -> (f32, f32) {
        let side = self.scene.side;
        let n = side as f32;
        let mut found = (n * 0.5, n * 0.5);
        for attempt in 0..60 {
            let (x, y) = (
                self.dice.range(0.03, 0.97) * n,
                self.dice.range(0.03, 0.97) * n,
            );
            if self.on(x, y) < 0.5 {
                continue;
            }
            found = (x, y);
            let clear = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)]
                .iter()
                .all(|(a, b)| self.on(x + a * inset, y + b * inset) > 0.5);
            if clear || attempt > 40 {
                break;
            }
        }
        found
    }
    /// How much an object covers this point; 0 outside of the picture.
    pub fn on(&self, x: f32, y: f32) -> f32 {
        let side = self.scene.side;
        if x < 0.0 || y < 0.0 || x >= side as f32 || y >= side as f32 {
            return 0.0;
        }
        self.scene.object[y as usize * side + x as usize]
    }
    /// A place on the rim of the objects with the direction outwards (radians), if there is a rim.
    pub fn rim(&mut self) -> Option<(f32, f32, f32)> {
        for _ in 0..30 {
            let (mut x, mut y) = self.spot(0.0);
            let angle = self.dice.angle();
            let (s, c) = turn(angle);
            for _ in 0..self.scene.side {
                let (next_x, next_y) = (x + c, y + s);
                let n = self.scene.side as f32;
                if next_x < 1.0 || next_y < 1.0 || next_x > n - 2.0 || next_y > n - 2.0 {
                    break;
                }
                if self.on(next_x, next_y) < 0.5 {
                    return Some((x, y, angle));
                }
                (x, y) = (next_x, next_y);
            }
        }
        None
    }
    /// Adds a path to a plane of the whole picture.
    pub fn ink(&self, plane: &mut [f32], path: Option<Path>) {
        if let Some(patch) = path.and_then(|p| Patch::fill(&p, self.scene.side, 0.0)) {
            patch.each(self.scene.side, |i, _, cover| {
                plane[i] = plane[i].max(cover)
            });
        }
    }
    /// An empty plane.
    pub fn plane(&self) -> Vec<f32> {
        vec![0.0; self.scene.side * self.scene.side]
    }
    /// A random size: mostly small. Percentages of the side.
    pub fn size(&mut self, low: f32, high: f32) -> f32 {
        let share = self.dice.scale(low, high);
        self.percent(share).max(1.0)
    }
    /// An irregular blot about a point: `rough` 0 is an ellipse; `soft` the share of the radius over
    /// which it fades.
    pub fn blot(&mut self, x: f32, y: f32, r: f32, rough: f32, soft: f32) -> Vec<f32> {
        let mut plane = self.plane();
        let side = self.scene.side;
        let flat = self.dice.range(0.5, 1.0);
        let (s, c) = turn(self.dice.angle());
        let reach = r * (1.5 + rough);
        let (from, to) = (
            (y - reach).max(0.0) as usize,
            ((y + reach).max(0.0) as usize).min(side),
        );
        let (left, right) = (
            (x - reach).max(0.0) as usize,
            ((x + reach).max(0.0) as usize).min(side),
        );
        let cell = 1.8 / r.max(2.0);
        for j in from..to {
            for i in left..right {
                let (dx, dy) = (i as f32 - x, j as f32 - y);
                let (u, v) = ((c * dx + s * dy) / r, (c * dy - s * dx) / (r * flat));
                let d = (u * u + v * v).sqrt();
                let w = self.noise.octaves(i as f32 * cell, j as f32 * cell, 3);
                let d = d + rough * 0.7 * w;
                let fade = soft.max(1.2 / r);
                plane[j * side + i] = smooth(1.0 + fade * 0.5, 1.0 - fade * 0.5, d);
            }
        }
        plane
    }
    /// A path that wanders: points in pixels from a start, a direction and a length.
    pub fn wander(
        &mut self,
        x: f32,
        y: f32,
        angle: f32,
        length: f32,
        bend: f32,
    ) -> Vec<(f32, f32)> {
        let step = (length / 14.0).max(1.5);
        let (mut x, mut y, mut angle) = (x, y, angle);
        let mut out = vec![(x, y)];
        let mut gone = 0.0;
        let mut drift = 0.0;
        while gone < length {
            drift = 0.6 * drift + self.dice.normal() * bend;
            angle += drift;
            let (s, c) = turn(angle);
            x += c * step;
            y += s * step;
            gone += step;
            out.push((x, y));
        }
        out
    }
    /// A path of varying width into a plane.
    pub fn stroke(&mut self, plane: &mut [f32], points: &[(f32, f32)], width: f32, vary: f32) {
        let last = points.len().max(2) as f32 - 1.0;
        for (i, pair) in points.windows(2).enumerate() {
            let t = i as f32 / last;
            let taper = 1.0 - vary * 0.6 * (2.0 * t - 1.0).abs();
            let w = width * taper * (1.0 + vary * self.dice.range(-0.4, 0.4));
            // Lines thinner than a pixel cover it in part.
            let (thick, share) = (w.max(0.8), (w / 0.8).min(1.0));
            let path = FRAME.line(pair, thick, true);
            if let Some(patch) = path.and_then(|p| Patch::fill(&p, self.scene.side, 0.0)) {
                patch.each(self.scene.side, |i, _, cover| {
                    plane[i] = plane[i].max(cover * share);
                });
            }
        }
    }
    /// Smears a plane; standard deviation in pixels.
    pub fn soften(&self, plane: &mut [f32], sigma: f32) {
        blur(plane, self.scene.side, self.scene.side, sigma);
    }
    /// Calls `act` for all pixels that the plane covers.
    pub fn over(&mut self, plane: &[f32], mut act: impl FnMut(&mut Layers, usize, f32)) {
        for (i, t) in plane.iter().enumerate() {
            if *t > 0.003 {
                act(&mut self.layers, i, *t);
            }
        }
    }
    /// Covers with a colour. The share is `cover` times the strength.
    pub fn dye(&mut self, plane: &[f32], colour: Colour, cover: f32) {
        let k = (cover * self.strength).min(1.0);
        self.over(plane, |l, i, t| {
            l.colour[i] = mix(l.colour[i], colour, t * k)
        });
    }
    /// Multiplies the colour.
    pub fn shade(&mut self, plane: &[f32], factor: Colour) {
        let k = self.strength;
        self.over(plane, |l, i, t| {
            for c in 0..3 {
                l.colour[i][c] *= (1.0 + (factor[c] - 1.0) * t * k).max(0.0);
            }
        });
    }
    /// Adds height, in pixels times the strength.
    pub fn lift(&mut self, plane: &[f32], height: f32) {
        let k = height * self.strength;
        self.over(plane, |l, i, t| l.height[i] += k * t);
    }
    /// Moves the gloss towards a value.
    pub fn polish(&mut self, plane: &[f32], gloss: f32) {
        self.over(plane, |l, i, t| l.gloss[i] += (gloss - l.gloss[i]) * t);
    }
    /// Replaces by other layers.
    pub fn replace(&mut self, plane: &[f32], by: &Layers) {
        self.over(plane, |l, i, t| l.blend(i, by, i, t));
    }
    /// The mean colour of the picture around a point.
    pub fn local(&self, x: f32, y: f32, r: f32) -> Colour {
        let top = self.scene.side as f32 - 1.0;
        let (mut sum, mut count) = ([0.0; 3], 0.0);
        for j in -3..=3i32 {
            for i in -3..=3i32 {
                let px = (x + r * i as f32 / 3.0).clamp(0.0, top) as usize;
                let py = (y + r * j as f32 / 3.0).clamp(0.0, top) as usize;
                let at = py * self.scene.side + px;
                if self.scene.object[at] > 0.5 {
                    for c in 0..3 {
                        sum[c] += self.scene.whole.colour[at][c];
                    }
                    count += 1.0;
                }
            }
        }
        if count == 0.0 {
            [0.5; 3]
        } else {
            times(sum, 1.0 / count)
        }
    }
    /// A colour that stands out from this one, darker or brighter or of another hue.
    pub fn foreign(&mut self, from: Colour) -> Colour {
        let y = luma(from);
        let value = if y > 0.4 && self.dice.chance(0.75) || y > 0.75 {
            self.dice.range(0.0, y * 0.55)
        } else {
            self.dice.range(y + 0.2, 1.0)
        };
        let saturation = if self.dice.chance(0.5) {
            0.1
        } else {
            self.dice.range(0.2, 0.9)
        };
        super::layers::hsv(self.dice.unit(), saturation, value)
    }
    /// Pulls every pixel from elsewhere: `from` gives the source of a pixel. Claims what moved.
    pub fn warp(&mut self, from: impl Fn(f32, f32) -> (f32, f32)) {
        let side = self.scene.side;
        let source = self.layers.clone();
        for y in 0..side {
            for x in 0..side {
                let (u, v) = from(x as f32, y as f32);
                let moved = (u - x as f32).abs() + (v - y as f32).abs();
                if moved > 0.05 {
                    let i = y * side + x;
                    let (colour, height, gloss) = source.sample(u, v);
                    self.layers.colour[i] = colour;
                    self.layers.height[i] = height;
                    self.layers.gloss[i] = gloss;
                    if moved > 1.2 {
                        self.claim[i] = 1.0;
                    }
                }
            }
        }
    }
    /// Lays the pieces anew on the bare scene, each as `change` says (none: left out), and copies
    /// the result into the layers.
    pub fn relay(&mut self, mut change: impl FnMut(usize, &Piece) -> Vec<Piece>) {
        let mut layers = self.scene.bare.clone();
        for (i, piece) in self.scene.pieces.iter().enumerate() {
            for piece in change(i, piece) {
                piece.lay(&mut layers, &self.scene.noise, self.scene.within());
            }
        }
        self.layers = layers;
    }
    /// Numbers of the pieces of a role whose middle lies in the picture and that are big enough to
    /// be seen.
    pub fn pieces(&self, role: impl Fn(Role) -> bool) -> Vec<usize> {
        let n = self.scene.side as f32;
        let least = n * 0.018;
        let fits = |p: &Piece| {
            let b = p.path.bounds();
            let (x, y) = ((b.left() + b.right()) * 0.5, (b.top() + b.bottom()) * 0.5);
            role(p.role)
                && b.width().max(b.height()) > least
                && x > 0.0
                && y > 0.0
                && x < n
                && y < n
                && self.on(x, y) > 0.5
        };
        let pieces = self.scene.pieces.iter().enumerate();
        pieces.filter(|(_, p)| fits(p)).map(|(i, _)| i).collect()
    }
    /// Claims where a piece lies.
    pub fn claim_piece(&mut self, piece: &Piece) {
        if let Some(patch) = Patch::fill(&piece.path, self.scene.side, 0.0) {
            let claim = &mut self.claim;
            patch.each(self.scene.side, |i, _, t| claim[i] = claim[i].max(t));
        }
    }
    /// A thin thing that lies on top, with its shadow: hair, thread, fibre.
    pub fn strand(&mut self, points: &[(f32, f32)], width: f32, colour: Colour) {
        let mut plane = self.plane();
        let round = FRAME.line(points, width.max(0.9), true);
        self.ink(&mut plane, round);
        let (dx, dy) = (
            (-self.scene.light.towards[0] * width * 1.6) as i32,
            (-self.scene.light.towards[1] * width * 1.6) as i32,
        );
        let mut shadow = self.plane();
        let side = self.scene.side as i32;
        for y in 0..side {
            for x in 0..side {
                let (u, v) = (x - dx, y - dy);
                if u >= 0 && v >= 0 && u < side && v < side {
                    shadow[(y * side + x) as usize] = plane[(v * side + u) as usize];
                }
            }
        }
        self.soften(&mut shadow, width * 0.7);
        self.shade(&shadow, [0.65; 3]);
        self.dye(&plane, colour, 1.0);
        self.lift(&plane, width * 0.35);
    }
    /// Takes back whatever left the objects, unless the defect may.
    pub fn confine(&mut self) {
        if self.free || self.scene.beneath.is_none() {
            return;
        }
        for (i, t) in self.scene.object.iter().enumerate() {
            if *t < 0.999 {
                self.layers.blend(i, &self.scene.whole, i, 1.0 - t);
                if *t < 0.5 {
                    self.claim[i] = 0.0;
                }
            }
        }
    }
    /// One piece as it is, changed in place and colour.
    pub fn moved(piece: &Piece, dx: f32, dy: f32, angle: f32, ink: Ink) -> Option<Piece> {
        let b = piece.path.bounds();
        let (x, y) = ((b.left() + b.right()) * 0.5, (b.top() + b.bottom()) * 0.5);
        let (s, c) = turn(angle);
        let transform = tiny_skia::Transform::from_row(
            c,
            s,
            -s,
            c,
            x + dx - c * x + s * y,
            y + dy - s * x - c * y,
        );
        Some(Piece {
            path: piece.path.clone().transform(transform)?,
            ink,
            role: piece.role,
        })
    }
}

/// Pixels themselves as local units.
pub const FRAME: Pose = Pose {
    x: 0.0,
    y: 0.0,
    scale: 1.0,
    angle: 0.0,
};
