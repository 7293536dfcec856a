//! A whole scene without a defect: surface or objects on a background, light, decoration.

use super::Defect;
use super::glyph;
use super::layers::{Ink, Layers, Light, Patch, Piece, Pose, Role, disc, hsv, luma, mix, times};
use super::noise::{Dice, Noise, blur, smooth};
use super::product::{KINDS, Kit};
use super::surface::{FAMILIES, Family, Make, Swatch};
use std::f32::consts::FRAC_PI_2;

/// What a defect needs to know of the scene it spoils.
pub struct Scene {
    /// Pixels per row and column.
    pub side: usize,
    /// The scene's lattice.
    pub noise: Noise,
    /// Everything in place.
    pub whole: Layers,
    /// Without the pieces.
    pub bare: Layers,
    /// What lies behind the objects; nothing where the surface fills the picture.
    pub beneath: Option<Layers>,
    /// How much of each pixel the objects cover.
    pub object: Vec<f32>,
    /// What lies on the surface or the bodies one by one, in order.
    pub pieces: Vec<Piece>,
    /// The lamp.
    pub light: Light,
    /// One noun for what is shown, as in "plate".
    pub product: &'static str,
    /// Size of the unit of the pattern in pixels.
    pub period: f32,
    /// Direction of the pattern, radians.
    pub axis: f32,
}

fn families(fits: impl Fn(&Family) -> bool) -> Vec<&'static Family> {
    FAMILIES.iter().filter(|f| fits(f)).collect()
}

fn draw(family: &Family, dice: &mut Dice, noise: &Noise, side: usize) -> Swatch {
    (family.draw)(&mut Make { dice, noise, side })
}

fn background(dice: &mut Dice, noise: &Noise, side: usize) -> Layers {
    let mut make = Make { dice, noise, side };
    let n = side as f32;
    match make.dice.below(10) {
        0..3 => {
            let value = make.dice.pick(&[0.02, 0.06, 0.9, 0.97, 0.5]);
            let colour = times(make.grey(0.9, 1.0), value);
            let grain = make.dice.range(0.0, 0.03);
            Layers::paint(side, |x, y, _| {
                (
                    times(colour, 1.0 + grain * noise.cell(x as i32, y as i32)),
                    0.0,
                    0.0,
                )
            })
        }
        3..6 => {
            let (a, b) = (make.any_colour(), make.any_colour());
            let b = mix(a, b, make.dice.range(0.1, 0.5));
            let (s, c) = super::noise::turn(make.dice.angle());
            Layers::paint(side, |x, y, _| {
                let t = 0.5 + (c * (x / n - 0.5) + s * (y / n - 0.5)) * 0.7;
                let k = 1.0 + 0.02 * noise.cell(x as i32, y as i32);
                (times(mix(a, b, t), k), 0.0, 0.1)
            })
        }
        6..9 => {
            let choice = families(|f| f.skin || f.textile);
            let family = choice[dice.below(choice.len())];
            let swatch = draw(family, dice, noise, side);
            let mut layers = swatch.layers;
            // Backgrounds are quieter than what is inspected.
            let calm = dice.range(0.3, 1.0);
            let mean = layers.colour[side * side / 2 + side / 2];
            for (colour, height) in layers.colour.iter_mut().zip(&mut layers.height) {
                *colour = mix(mean, *colour, calm);
                *height *= calm;
            }
            layers
        }
        _ => {
            // Clutter out of focus: a tray, a belt's edge, other parts.
            let ground = make.any_colour();
            let mut layers = Layers::flat(side, ground, 0.1);
            for _ in 0..3 + make.dice.below(5) {
                let pose = Pose {
                    x: make.dice.range(0.0, n),
                    y: make.dice.range(0.0, n),
                    scale: n * make.dice.range(0.05, 0.5),
                    angle: make.dice.angle(),
                };
                let path = if make.dice.chance(0.5) {
                    pose.block(0.0, 0.0, 1.0, make.dice.range(0.1, 0.8), 0.05)
                } else {
                    pose.ellipse(0.0, 0.0, 0.7, make.dice.range(0.2, 0.7))
                };
                let Some(mut patch) = path.and_then(|p| Patch::fill(&p, side, n * 0.06)) else {
                    continue;
                };
                patch.soften(n * make.dice.range(0.0, 0.02));
                let colour = mix(ground, make.any_colour(), 0.7);
                patch.each(side, |i, _, t| {
                    layers.colour[i] = mix(layers.colour[i], colour, t)
                });
            }
            layers
        }
    }
}

/// Lays objects of one kind on a background.
fn objects(dice: &mut Dice, noise: Noise, side: usize, light: Light) -> Scene {
    let kind = &KINDS[dice.below(KINDS.len())];
    let skin_name = dice.pick(kind.skins);
    let skin = FAMILIES
        .iter()
        .find(|f| f.name == skin_name)
        .unwrap_or(&FAMILIES[0]);
    let mut skin = draw(skin, dice, &noise, side).layers;
    if kind.name == "nut" || kind.name == "biscuit" {
        let tone = hsv(dice.range(0.04, 0.1), dice.range(0.35, 0.75), 1.3);
        for colour in &mut skin.colour {
            *colour = times(tone, luma(*colour).max(0.1));
        }
    }
    let mean = skin
        .colour
        .iter()
        .step_by(97)
        .map(|c| luma(*c))
        .sum::<f32>()
        / skin.colour.iter().step_by(97).count() as f32;
    let mut beneath = if kind.name == "brain scan" {
        Layers::flat(side, [dice.range(0.0, 0.06); 3], 0.0)
    } else {
        background(dice, &noise, side)
    };
    let mut make = Make {
        dice,
        noise: &noise,
        side,
    };
    let colours = [(); 4].map(|()| make.any_colour());
    // Most inspection stations choose a background that the object stands out from.
    let ground = beneath
        .colour
        .iter()
        .step_by(89)
        .map(|c| luma(*c))
        .sum::<f32>()
        / beneath.colour.iter().step_by(89).count() as f32;
    let body = 0.5 * (mean + luma(colours[0]));
    if (ground - body).abs() < 0.2 && make.dice.chance(0.8) {
        let to = if body > 0.45 {
            make.dice.range(0.03, 0.2)
        } else {
            make.dice.range(0.7, 0.95)
        };
        for colour in &mut beneath.colour {
            let lighter = if to > ground {
                (to - ground) * 0.7
            } else {
                0.0
            };
            *colour = times(*colour, (to - lighter) / ground.max(0.02)).map(|c| c + lighter);
        }
    }
    let form = [(); 6].map(|()| make.dice.unit());
    let gloss = make.dice.range(0.0, 0.8);
    let seed = u64::from(make.dice.bits());
    let count = if kind.most > 1 && dice.chance(0.45) {
        2 + dice.below(kind.most - 1)
    } else {
        1
    };
    let mut kit = Kit {
        dice,
        colours,
        form,
        gloss,
        seed,
        bodies: Vec::new(),
        pieces: Vec::new(),
    };
    let n = side as f32;
    let upright = kit.dice.chance(0.5);
    let columns = if count > 1 { 2 } else { 1 };
    let rows = count.div_ceil(columns);
    let cell = n / columns.max(rows) as f32;
    let size = cell
        * kit.dice.range(
            if count > 1 { 0.32 } else { 0.26 },
            if count > 1 { 0.48 } else { 0.6 },
        );
    for i in 0..count {
        let (column, row) = (i % columns, i / columns);
        let loose = if count > 1 { 0.06 } else { 0.1 };
        let angle = if upright {
            kit.dice.range(-0.12, 0.12)
        } else {
            kit.dice.angle()
        };
        let pose = Pose {
            x: n * 0.5
                + (column as f32 - (columns as f32 - 1.0) * 0.5 + kit.dice.range(-loose, loose))
                    * cell,
            y: n * 0.5
                + (row as f32 - (rows as f32 - 1.0) * 0.5 + kit.dice.range(-loose, loose)) * cell,
            scale: size / kind.aspect * kit.dice.range(0.95, 1.03),
            angle,
        };
        (kind.draw)(&mut kit, pose);
    }
    let (bodies, pieces) = (kit.bodies, kit.pieces);
    let mut object = vec![0.0f32; side * side];
    let patches: Vec<_> = bodies
        .iter()
        .filter_map(|b| Some((b, Patch::fill(&b.path, side, b.reach.min(n * 0.3))?)))
        .collect();
    for (_, patch) in &patches {
        patch.each(side, |i, _, cover| object[i] = object[i].max(cover));
    }
    let mut bare = beneath.clone();
    if kind.name != "brain scan" && dice.chance(0.7) {
        let mut shadow = object.clone();
        blur(&mut shadow, side, side, n * dice.range(0.005, 0.04));
        let far = n * dice.range(0.0, 0.035);
        let (dx, dy) = (
            (-light.towards[0] * far) as i32,
            (-light.towards[1] * far) as i32,
        );
        let dark = dice.range(0.2, 0.7);
        for y in 0..side as i32 {
            for x in 0..side as i32 {
                let from = (
                    (y - dy).clamp(0, side as i32 - 1),
                    (x - dx).clamp(0, side as i32 - 1),
                );
                let t = shadow[from.0 as usize * side + from.1 as usize];
                let i = y as usize * side + x as usize;
                bare.colour[i] = times(bare.colour[i], 1.0 - dark * t);
            }
        }
    }
    let shadowed = bare.clone();
    for (body, patch) in &patches {
        let profile = patch.profile(body.reach);
        patch.each(side, |i, at, cover| {
            let colour = match body.colour {
                Some(c) => times(c, luma(skin.colour[i]) / mean.max(0.02)),
                None => skin.colour[i],
            };
            bare.colour[i] = mix(bare.colour[i], colour, cover);
            let height = skin.height[i] + body.dome * profile[at];
            bare.height[i] += (height - bare.height[i]) * cover;
            bare.gloss[i] += (body.gloss - bare.gloss[i]) * cover;
        });
    }
    Scene {
        side,
        whole: bare.clone(),
        bare,
        beneath: Some(shadowed),
        object,
        pieces,
        light,
        product: kind.name,
        period: size * 0.2,
        axis: 0.0,
        noise,
    }
}

/// Print, engraving, seams and bolts on a surface that fills the picture.
fn decorate(scene: &mut Scene, dice: &mut Dice, print: bool) {
    let n = scene.side as f32;
    let ground = luma(scene.whole.colour[scene.side * scene.side / 2]);
    let value = if ground > 0.45 {
        dice.range(0.0, 0.2)
    } else {
        dice.range(0.6, 0.95)
    };
    let colour = hsv(dice.unit(), dice.range(0.0, 0.8), value);
    let pose = Pose {
        x: n * dice.range(0.3, 0.7),
        y: n * dice.range(0.25, 0.75),
        scale: n * dice.range(0.06, 0.2),
        angle: dice.range(-0.3, 0.3) + dice.pick(&[0.0, 0.0, FRAC_PI_2]),
    };
    let choice = if print { dice.below(2) } else { dice.below(6) };
    let pieces = &mut scene.pieces;
    match choice {
        0 => {
            let count = 3 + dice.below(5);
            glyph::text(dice, &pose, count, Ink::flat(colour), pieces);
        }
        1 => {
            let points = 3 + dice.below(5);
            let logo = glyph::star(&pose, points, 1.4, 0.7, dice.chance(0.5));
            pieces.extend(logo.map(|path| Piece {
                path,
                ink: Ink::flat(colour),
                role: Role::Print,
            }));
            let line = pose.child(0.0, 2.0, 0.6, 0.0);
            glyph::text(dice, &line, 5, Ink::flat(colour), pieces);
        }
        2 => {
            let ink = Ink {
                cover: 0.25,
                ..Ink::flat([0.05; 3]).raised(-0.8, 1.5)
            };
            glyph::text(dice, &pose, 4, ink, pieces);
        }
        3 => {
            // A seam or joint right across.
            let ink = Ink {
                cover: 0.6,
                ..Ink::flat(times([0.15; 3], 1.0)).raised(-1.0, 2.0)
            };
            let at = pose.child(0.0, 0.0, n / pose.scale, 0.0);
            let width = dice.range(0.003, 0.015);
            let seam = at.block(0.0, 0.0, 2.0, width, 0.0);
            pieces.extend(seam.map(|path| Piece {
                path,
                ink,
                role: Role::Detail,
            }));
        }
        4 => {
            // Bolts or rivets in a row.
            let ink = Ink {
                cover: 0.5,
                ..Ink::flat(times([1.0; 3], (ground * 1.2).min(0.9)))
                    .raised(n * 0.012, n * 0.012)
                    .glossy(0.8)
            };
            for i in -8..=8 {
                let bolt = pose.ellipse(i as f32 * 2.2, 0.0, 0.35, 0.35);
                pieces.extend(bolt.map(|path| Piece {
                    path,
                    ink,
                    role: Role::Element,
                }));
            }
        }
        _ => {
            // Drilled holes, symmetric.
            let ink = Ink::flat([0.03; 3]).raised(-n * 0.01, n * 0.008);
            for (x, y) in [(-1.6, -1.6), (1.6, -1.6), (-1.6, 1.6), (1.6, 1.6)] {
                let bore = pose.ellipse(x, y, 0.45, 0.45);
                pieces.extend(bore.map(|path| Piece {
                    path,
                    ink,
                    role: Role::Element,
                }));
            }
        }
    }
}

impl Scene {
    /// A scene on which the wanted defect makes sense.
    pub fn new(dice: &mut Dice, side: usize, wanted: Defect) -> Self {
        let noise = Noise::new(dice);
        let light = Light::random(dice);
        let textile = match wanted {
            Defect::Fabric => true,
            Defect::Threading => dice.chance(0.6),
            _ => false,
        };
        let share = match wanted {
            Defect::Broken | Defect::Missing | Defect::Bent | Defect::FaultyImprint => 0.72,
            Defect::Misaligned => 0.6,
            _ => 0.55,
        };
        let mut scene = if !textile && dice.chance(share) {
            objects(dice, noise, side, light)
        } else {
            let choice = families(|f| !textile || f.textile);
            let family = choice[dice.below(choice.len())];
            let swatch = draw(family, dice, &noise, side);
            Scene {
                side,
                whole: swatch.layers.clone(),
                bare: swatch.layers,
                beneath: None,
                object: vec![1.0; side * side],
                pieces: swatch.pieces,
                light,
                product: family.product,
                period: swatch.period,
                axis: swatch.axis,
                noise,
            }
        };
        let print =
            wanted == Defect::FaultyImprint && !scene.pieces.iter().any(|p| p.role == Role::Print);
        if print || scene.beneath.is_none() && dice.chance(0.22) {
            decorate(&mut scene, dice, print);
        }
        if dice.chance(0.25) {
            soft_spots(&mut scene, dice);
        }
        let mut whole = scene.bare.clone();
        for piece in &scene.pieces {
            piece.lay(&mut whole, &scene.noise, scene.within());
        }
        scene.whole = whole;
        scene
    }
    /// Where pieces may lie: on the objects, or anywhere.
    pub fn within(&self) -> Option<&[f32]> {
        self.beneath.is_some().then_some(self.object.as_slice())
    }
}

/// Uneven lamps and mirrored windows: bright or dark without an edge, and normal.
fn soft_spots(scene: &mut Scene, dice: &mut Dice) {
    let n = scene.side as f32;
    for _ in 0..1 + dice.below(2) {
        let (x, y) = (dice.range(0.0, n), dice.range(0.0, n));
        let (r, k) = (n * dice.range(0.2, 0.6), dice.range(-0.3, 0.4));
        for (i, colour) in scene.bare.colour.iter_mut().enumerate() {
            let (dx, dy) = ((i % scene.side) as f32 - x, (i / scene.side) as f32 - y);
            let t = disc((dx * dx + dy * dy).sqrt(), 0.0, r);
            *colour = times(*colour, 1.0 + k * t * smooth(0.0, 1.0, t));
        }
    }
}
