//! What a surface is before light falls on it: colour, height and gloss of every pixel; shapes that
//! are laid on it; and the light.
//!
//! Nothing here knows of defects or products.

use super::noise::{Noise, blur, smooth, turn};
use tiny_skia::{FillRule, LineCap, LineJoin, Mask, Path, PathBuilder, Stroke, Transform};

/// Colours are linear-ish, `0..=1` with room above for highlights.
pub type Colour = [f32; 3];

/// `from` where `t` is 0, `to` where it is 1.
pub fn mix(from: Colour, to: Colour, t: f32) -> Colour {
    [
        from[0] + (to[0] - from[0]) * t,
        from[1] + (to[1] - from[1]) * t,
        from[2] + (to[2] - from[2]) * t,
    ]
}

/// A colour multiplied by a number.
pub fn times(colour: Colour, factor: f32) -> Colour {
    [colour[0] * factor, colour[1] * factor, colour[2] * factor]
}

/// Grey value of a colour.
pub fn luma(colour: Colour) -> f32 {
    0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
}

/// Hue in turns, saturation and value in `0..=1`.
pub fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    let hue = hue - hue.floor();
    [5.0f32, 3.0, 1.0].map(|n| {
        let k = n + hue * 6.0;
        let k = k - (k / 6.0).floor() * 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

/// Colour, height (pixels, upwards) and gloss (`0..=1`) of a square picture, row by row.
#[derive(Clone)]
pub struct Layers {
    /// Pixels per row and column.
    pub side: usize,
    /// What light the surface throws back.
    pub colour: Vec<Colour>,
    /// Height in pixels: a slope of 1 is 45 degrees.
    pub height: Vec<f32>,
    /// Strength of the mirror-like part.
    pub gloss: Vec<f32>,
}

impl Layers {
    /// One colour, flat.
    pub fn flat(side: usize, colour: Colour, gloss: f32) -> Self {
        let n = side * side;
        Self {
            side,
            colour: vec![colour; n],
            height: vec![0.0; n],
            gloss: vec![gloss; n],
        }
    }
    /// A pixel at a time: colour, height and gloss from the column and the row.
    pub fn paint(side: usize, mut of: impl FnMut(f32, f32, usize) -> (Colour, f32, f32)) -> Self {
        let mut out = Self::flat(side, [0.0; 3], 0.0);
        for y in 0..side {
            for x in 0..side {
                let i = y * side + x;
                (out.colour[i], out.height[i], out.gloss[i]) = of(x as f32, y as f32, i);
            }
        }
        out
    }
    /// Replaces a pixel by a share `t` of another picture's.
    pub fn blend(&mut self, i: usize, other: &Self, j: usize, t: f32) {
        self.colour[i] = mix(self.colour[i], other.colour[j], t);
        self.height[i] += (other.height[j] - self.height[i]) * t;
        self.gloss[i] += (other.gloss[j] - self.gloss[i]) * t;
    }
    /// Interpolated colour, height and gloss at a point, clamped to the picture.
    pub fn sample(&self, x: f32, y: f32) -> (Colour, f32, f32) {
        let top = self.side as f32 - 1.001;
        let (x, y) = (x.clamp(0.0, top), y.clamp(0.0, top));
        let (i, j) = (x as usize, y as usize);
        let (a, b) = (x - i as f32, y - j as f32);
        let at = j * self.side + i;
        let corner = [
            (at, (1.0 - a) * (1.0 - b)),
            (at + 1, a * (1.0 - b)),
            (at + self.side, (1.0 - a) * b),
            (at + self.side + 1, a * b),
        ];
        let (mut colour, mut height, mut gloss) = ([0.0; 3], 0.0, 0.0);
        for (k, weight) in corner {
            for c in 0..3 {
                colour[c] += self.colour[k][c] * weight;
            }
            height += self.height[k] * weight;
            gloss += self.gloss[k] * weight;
        }
        (colour, height, gloss)
    }
}

/// How much of each pixel a shape covers, cut out around it; may reach beyond the picture.
pub struct Patch {
    /// Left column; may be negative.
    pub x: i32,
    /// Upper row; may be negative.
    pub y: i32,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
    /// `0..=1`, row by row.
    pub cover: Vec<f32>,
}

impl Patch {
    /// The filled path with `margin` pixels around it, or nothing where it misses the picture.
    pub fn fill(path: &Path, side: usize, margin: f32) -> Option<Self> {
        let bounds = path.bounds();
        if bounds.width() < 0.01 || bounds.height() < 0.01 {
            return None;
        }
        let (low, high) = (-margin - 2.0, side as f32 + margin + 2.0);
        let x = (bounds.left() - margin - 1.0).max(low).floor();
        let y = (bounds.top() - margin - 1.0).max(low).floor();
        let right = (bounds.right() + margin + 2.0).min(high).ceil();
        let bottom = (bounds.bottom() + margin + 2.0).min(high).ceil();
        if right - x < 1.0 || bottom - y < 1.0 {
            return None;
        }
        let mut mask = Mask::new((right - x) as u32, (bottom - y) as u32)?;
        mask.fill_path(
            path,
            FillRule::Winding,
            true,
            Transform::from_translate(-x, -y),
        );
        Some(Self {
            x: x as i32,
            y: y as i32,
            width: mask.width() as usize,
            height: mask.height() as usize,
            cover: mask.data().iter().map(|v| f32::from(*v) / 255.0).collect(),
        })
    }
    /// Calls `act` with the pixel of the picture, the pixel of the patch and the cover where the
    /// shape lies inside the picture and is not empty.
    pub fn each(&self, side: usize, mut act: impl FnMut(usize, usize, f32)) {
        for row in 0..self.height {
            let y = self.y + row as i32;
            if y < 0 || y >= side as i32 {
                continue;
            }
            for column in 0..self.width {
                let x = self.x + column as i32;
                let at = row * self.width + column;
                if x >= 0 && x < side as i32 && self.cover[at] > 0.002 {
                    act(y as usize * side + x as usize, at, self.cover[at]);
                }
            }
        }
    }
    /// A rounded profile: 0 at the edge and outside, towards 1 deep inside; `reach` in pixels.
    pub fn profile(&self, reach: f32) -> Vec<f32> {
        let mut soft = self.cover.clone();
        blur(&mut soft, self.width, self.height, (reach * 0.6).max(1.0));
        for (s, cover) in soft.iter_mut().zip(&self.cover) {
            *s = ((*s - 0.42).max(0.0) * 1.75).min(1.0).sqrt() * cover;
        }
        soft
    }
    /// The shape with softened edges; standard deviation in pixels, within the margin it was cut with.
    pub fn soften(&mut self, sigma: f32) {
        blur(&mut self.cover, self.width, self.height, sigma);
    }
}

/// What a piece is, for defects that look for something to spoil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part of the body: legs, cores, bars.
    Element,
    /// Printed ink.
    Print,
    /// Holes, grooves, decoration: never singled out.
    Detail,
}

/// How a shape changes what it is laid on.
#[derive(Clone, Copy)]
pub struct Ink {
    /// The new colour.
    pub colour: Colour,
    /// How far the colour replaces the old one, `0..=1`.
    pub cover: f32,
    /// Multiplies the colour beneath instead of replacing it.
    pub shade: bool,
    /// Height at the middle, pixels; negative sinks.
    pub raise: f32,
    /// Width of the rounded edge, pixels.
    pub bevel: f32,
    /// Sets the gloss where not negative.
    pub gloss: f32,
    /// Strength of random grain in the colour.
    pub grain: f32,
}

impl Ink {
    /// Opaque matt paint without height.
    pub fn flat(colour: Colour) -> Self {
        Self {
            colour,
            cover: 1.0,
            shade: false,
            raise: 0.0,
            bevel: 0.0,
            gloss: -1.0,
            grain: 0.0,
        }
    }
    /// The same with height, in pixels, and the width of the rounded edge.
    pub fn raised(self, raise: f32, bevel: f32) -> Self {
        Self {
            raise,
            bevel,
            ..self
        }
    }
    /// The same with gloss.
    pub fn glossy(self, gloss: f32) -> Self {
        Self { gloss, ..self }
    }
}

/// A shape with its ink.
#[derive(Clone)]
pub struct Piece {
    /// Outline in pixels.
    pub path: Path,
    /// What it does.
    pub ink: Ink,
    /// What it is.
    pub role: Role,
}

impl Piece {
    /// Lays the piece on the layers, where `within` allows.
    pub fn lay(&self, layers: &mut Layers, noise: &Noise, within: Option<&[f32]>) {
        let ink = self.ink;
        let margin = if ink.raise == 0.0 { 0.0 } else { ink.bevel };
        let Some(patch) = Patch::fill(&self.path, layers.side, margin) else {
            return;
        };
        let profile = (ink.raise != 0.0).then(|| patch.profile(ink.bevel));
        let side = layers.side;
        patch.each(side, |i, at, cover| {
            let cover = cover * within.map_or(1.0, |w| w[i]);
            let t = cover * ink.cover;
            let grain = if ink.grain > 0.0 {
                1.0 + ink.grain
                    * (noise.cell((i % side) as i32, (i / side) as i32 + 500)
                        + 1.5 * noise.at((i % side) as f32 * 0.23, (i / side) as f32 * 0.23))
            } else {
                1.0
            };
            let old = layers.colour[i];
            let new = if ink.shade {
                [0, 1, 2].map(|c| old[c] * ink.colour[c])
            } else {
                ink.colour
            };
            layers.colour[i] = mix(old, times(new, grain), t);
            if let Some(profile) = &profile {
                layers.height[i] += ink.raise * profile[at] * within.map_or(1.0, |w| w[i]);
            }
            if ink.gloss >= 0.0 {
                layers.gloss[i] += (ink.gloss - layers.gloss[i]) * t;
            }
        });
    }
}

/// Where a shape lies: local units times `scale`, turned by `angle`, moved to (`x`, `y`).
#[derive(Clone, Copy)]
pub struct Pose {
    /// Column of the origin, pixels.
    pub x: f32,
    /// Row of the origin, pixels.
    pub y: f32,
    /// Pixels per unit.
    pub scale: f32,
    /// Angle in radians.
    pub angle: f32,
}

impl Pose {
    /// A local point in pixels.
    pub fn point(&self, x: f32, y: f32) -> (f32, f32) {
        let (s, c) = turn(self.angle);
        (
            self.x + self.scale * (c * x - s * y),
            self.y + self.scale * (s * x + c * y),
        )
    }
    /// A pose at a local point, turned and scaled further.
    pub fn child(&self, x: f32, y: f32, scale: f32, angle: f32) -> Self {
        let (x, y) = self.point(x, y);
        Self {
            x,
            y,
            scale: self.scale * scale,
            angle: self.angle + angle,
        }
    }
    fn place(&self, path: Option<Path>) -> Option<Path> {
        let (s, c) = turn(self.angle);
        let k = self.scale;
        path?.transform(Transform::from_row(
            k * c,
            k * s,
            -k * s,
            k * c,
            self.x,
            self.y,
        ))
    }
    /// An ellipse about a local point.
    pub fn ellipse(&self, x: f32, y: f32, rx: f32, ry: f32) -> Option<Path> {
        let rect = tiny_skia::Rect::from_ltrb(x - rx, y - ry, x + rx, y + ry)?;
        let mut path = PathBuilder::new();
        path.push_oval(rect);
        self.place(path.finish())
    }
    /// A rectangle with rounded corners about a local point; half sizes.
    pub fn block(&self, x: f32, y: f32, hx: f32, hy: f32, round: f32) -> Option<Path> {
        let r = round.min(hx).min(hy).max(0.0001);
        let k = r * 0.4477;
        let (l, t, rt, b) = (x - hx, y - hy, x + hx, y + hy);
        let mut p = PathBuilder::new();
        p.move_to(l + r, t);
        p.line_to(rt - r, t);
        p.cubic_to(rt - k, t, rt, t + k, rt, t + r);
        p.line_to(rt, b - r);
        p.cubic_to(rt, b - k, rt - k, b, rt - r, b);
        p.line_to(l + r, b);
        p.cubic_to(l + k, b, l, b - k, l, b - r);
        p.line_to(l, t + r);
        p.cubic_to(l, t + k, l + k, t, l + r, t);
        p.close();
        self.place(p.finish())
    }
    /// A closed outline through local points, straight or smoothed.
    pub fn outline(&self, points: &[(f32, f32)], round: bool) -> Option<Path> {
        let n = points.len();
        let mut p = PathBuilder::new();
        let middle = |i: usize| {
            let (a, b) = (points[i % n], points[(i + 1) % n]);
            ((a.0 + b.0) * 0.5, (a.1 + b.1) * 0.5)
        };
        if n < 3 {
            return None;
        }
        if round {
            let (x, y) = middle(n - 1);
            p.move_to(x, y);
            for i in 0..n {
                let (x, y) = middle(i);
                p.quad_to(points[i].0, points[i].1, x, y);
            }
        } else {
            p.move_to(points[0].0, points[0].1);
            for (x, y) in &points[1..] {
                p.line_to(*x, *y);
            }
        }
        p.close();
        self.place(p.finish())
    }
    /// A line of constant width (local units) through local points.
    pub fn line(&self, points: &[(f32, f32)], width: f32, round: bool) -> Option<Path> {
        let mut p = PathBuilder::new();
        let (first, rest) = points.split_first()?;
        p.move_to(first.0, first.1);
        for (x, y) in rest {
            p.line_to(*x, *y);
        }
        let stroke = Stroke {
            width: width * self.scale,
            line_cap: if round { LineCap::Round } else { LineCap::Butt },
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        self.place(p.finish())?.stroke(&stroke, 1.0)
    }
}

/// One lamp, the surrounding light and how glossy things mirror them.
#[derive(Clone, Copy)]
pub struct Light {
    /// Towards the lamp, unit length.
    pub towards: [f32; 3],
    /// Share of light that comes from everywhere, `0..=1`.
    pub ambient: f32,
    /// How often the mirror term is squared: 3 (wide) to 6 (tight).
    pub tight: u32,
    /// Strength of the mirror term.
    pub shine: f32,
    /// Brightness change across the picture, per picture width.
    pub slope: (f32, f32),
    /// Height is multiplied by this: how strongly relief shows.
    pub relief: f32,
}

impl Light {
    /// The picture that a perfect camera would take.
    pub fn shine_on(&self, layers: &Layers) -> Vec<Colour> {
        let side = layers.side;
        let [lx, ly, lz] = self.towards;
        // Halfway between the lamp and the camera above.
        let length = (lx * lx + ly * ly + (lz + 1.0) * (lz + 1.0)).sqrt();
        let half = [lx / length, ly / length, (lz + 1.0) / length];
        let power = |mut v: f32| {
            for _ in 0..self.tight {
                v *= v;
            }
            v
        };
        let rest = power(half[2]);
        let mut out = Vec::with_capacity(side * side);
        let height = &layers.height;
        let per = 1.0 / side as f32;
        for y in 0..side {
            let (up, down) = (y.saturating_sub(1) * side, (y + 1).min(side - 1) * side);
            for x in 0..side {
                let i = y * side + x;
                let (left, right) = (x.saturating_sub(1), (x + 1).min(side - 1));
                let dx = (height[y * side + right] - height[y * side + left]) * 0.5 * self.relief;
                let dy = (height[down + x] - height[up + x]) * 0.5 * self.relief;
                let norm = 1.0 / (1.0 + dx * dx + dy * dy).sqrt();
                let lambert = ((lz - dx * lx - dy * ly) * norm).max(0.0) / lz.max(0.3);
                let fall = 1.0
                    + self.slope.0 * (x as f32 * per - 0.5)
                    + self.slope.1 * (y as f32 * per - 0.5);
                let shade = (self.ambient + (1.0 - self.ambient) * lambert) * fall;
                let mirror =
                    power(((half[2] - dx * half[0] - dy * half[1]) * norm).max(0.0)) - rest;
                let spot = layers.gloss[i] * self.shine * mirror.max(-0.1);
                let c = layers.colour[i];
                out.push([
                    c[0] * shade + spot,
                    c[1] * shade + spot,
                    c[2] * shade + spot,
                ]);
            }
        }
        out
    }
}

/// A soft ramp for masks: 1 inside a radius, 0 beyond it and the edge width (same unit).
pub fn disc(distance: f32, radius: f32, edge: f32) -> f32 {
    1.0 - smooth(radius, radius + edge, distance)
}
