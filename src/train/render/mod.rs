//! Synthetic inspection pictures in pairs, without and with a defect, from nothing but a seed.
//!
//! A scene (surface or objects, light, decoration) is drawn once; a defect changes its colour,
//! height and gloss; the same camera takes both. The mask is what visibly changed. A picture depends
//! only on seed, index and side: never on the machine, on threads or on time, and never on any
//! real picture.

mod dataset;
mod defect;
mod glyph;
mod layers;
mod line;
mod noise;
mod photo;
mod product;
mod regular;
mod scene;
mod shape;
mod stain;
mod surface;
mod textile;
mod thread;
mod work;

pub use dataset::write;

use image::{GrayImage, RgbImage};
use layers::{Colour, luma};
use noise::{Dice, Noise};
use photo::Camera;
use scene::Scene;
use work::Work;

/// DAPO's 20 defect words, order fixed for ever (numbers appear in checkpoints).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Defect {
    /// Deformed out of its line.
    Bent,
    /// In pieces or with a piece broken off.
    Broken,
    /// Of another colour in places.
    Discoloration,
    /// Several defects together.
    Compound,
    /// Foreign matter.
    Contamination,
    /// Cracked surface or body.
    Crack,
    /// Slit by something sharp.
    Cut,
    /// A fault of the weave.
    Fabric,
    /// Badly printed.
    FaultyImprint,
    /// Glue where none belongs.
    Gluing,
    /// A hole that does not belong.
    Hole,
    /// A part that is not there.
    Missing,
    /// Pricked with something pointed.
    Puncture,
    /// Rough in places.
    Rough,
    /// Scratched surface.
    Scratch,
    /// Dented, squashed or flattened.
    Compressed,
    /// Loose threads; damaged screw threads.
    Threading,
    /// Spilt liquid.
    Liquid,
    /// Out of place.
    Misaligned,
    /// Worn by use.
    Wear,
}

impl Defect {
    /// All kinds in their fixed order.
    pub const ALL: [Defect; 20] = [
        Self::Bent,
        Self::Broken,
        Self::Discoloration,
        Self::Compound,
        Self::Contamination,
        Self::Crack,
        Self::Cut,
        Self::Fabric,
        Self::FaultyImprint,
        Self::Gluing,
        Self::Hole,
        Self::Missing,
        Self::Puncture,
        Self::Rough,
        Self::Scratch,
        Self::Compressed,
        Self::Threading,
        Self::Liquid,
        Self::Misaligned,
        Self::Wear,
    ];
    /// The word that prompts use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bent => "bent",
            Self::Broken => "broken",
            Self::Discoloration => "discoloration",
            Self::Compound => "compound",
            Self::Contamination => "contamination",
            Self::Crack => "crack",
            Self::Cut => "cut",
            Self::Fabric => "fabric",
            Self::FaultyImprint => "faulty imprint",
            Self::Gluing => "gluing",
            Self::Hole => "hole",
            Self::Missing => "missing",
            Self::Puncture => "puncture",
            Self::Rough => "rough",
            Self::Scratch => "scratch",
            Self::Compressed => "compressed",
            Self::Threading => "threading",
            Self::Liquid => "liquid",
            Self::Misaligned => "misaligned",
            Self::Wear => "wear",
        }
    }
}

/// One picture with all that is known of it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// `side x side`.
    pub image: RgbImage,
    /// `side x side`, 255 where abnormal, 0 elsewhere; all 0 if normal.
    pub mask: GrayImage,
    /// What is wrong, if anything.
    pub defect: Option<Defect>,
    /// One noun: "plate", "capsule", "fabric".
    pub product: &'static str,
}

/// A pair before the sensor's noise, with what made it.
struct Take {
    before: Vec<Colour>,
    after: Vec<Colour>,
    mask: Vec<bool>,
    defect: Defect,
    scene: Scene,
    camera: Camera,
}

/// Attempts at a defect of the wanted kind, and then of any visible kind.
const ATTEMPTS: u64 = 8;
const LAST: u64 = 20;

/// The largest change of any channel.
fn change(a: &Colour, b: &Colour) -> f32 {
    (0..3).map(|c| (a[c] - b[c]).abs()).fold(0.0, f32::max)
}

fn take(seed: u64, index: u64, side: usize) -> Take {
    let side = side.clamp(32, 1024);
    let dice = &mut Dice::new(seed, index, 0);
    let wanted = dice.pick(&Defect::ALL);
    let scene = Scene::new(dice, side, wanted);
    let light = scene.light.shine_on(&scene.whole);
    let (mut level, mut count) = (0.0, 0.01);
    for (i, c) in light.iter().enumerate().step_by(7) {
        if scene.object[i] > 0.5 {
            level += luma(*c);
            count += 1.0;
        }
    }
    let camera = Camera::random(dice, side, level / count);
    let before = camera.expose(&light, side);
    let strength = dice.scale(0.45, 1.3);
    let mut attempt = 0;
    loop {
        let defect = if attempt < ATTEMPTS {
            wanted
        } else {
            Defect::Contamination
        };
        let mut dice = Dice::new(seed, index, 16 + 2 * attempt);
        let noise = Noise::new(&mut dice);
        let mut work = Work {
            scene: &scene,
            layers: scene.whole.clone(),
            claim: vec![0.0; side * side],
            dice: &mut dice,
            strength: strength * libm::powf(1.3, attempt as f32),
            noise,
            free: false,
        };
        defect::draw(&mut work, defect);
        work.confine();
        let (layers, claim) = (work.layers, work.claim);
        let after = camera.expose(&scene.light.shine_on(&layers), side);
        let threshold = visible(&before, &after, &camera);
        let mask = region(&before, &after, &claim, threshold, side);
        if attempt >= LAST || fair(&before, &after, &mask, threshold, &camera, side) {
            return Take {
                before,
                after,
                mask,
                defect,
                scene,
                camera,
            };
        }
        attempt += 1;
    }
}

/// The change above which a pixel counts: a share of the strongest changes, so that faint tails of a
/// strong defect do not count, within bounds that an eye would set.
fn visible(before: &[Colour], after: &[Colour], camera: &Camera) -> f32 {
    let mut bins = [0u32; 64];
    let mut total = 0;
    for (a, b) in before.iter().zip(after) {
        let d = change(a, b);
        if d > 0.01 {
            bins[((d * 64.0) as usize).min(63)] += 1;
            total += 1;
        }
    }
    let mut above = 0;
    let mut strong = 0.0;
    for (i, n) in bins.iter().enumerate().rev() {
        above += n;
        if above * 12 >= total {
            strong = (i as f32 + 0.5) / 64.0;
            break;
        }
    }
    (0.2 * strong).clamp(0.016, 0.05) + 0.25 * camera.noise()
}

/// What changed by more than the threshold or was claimed, with gaps of a pixel closed.
fn region(
    before: &[Colour],
    after: &[Colour],
    claim: &[f32],
    threshold: f32,
    side: usize,
) -> Vec<bool> {
    let raw: Vec<bool> = (0..side * side)
        .map(|i| claim[i] > 0.5 || change(&before[i], &after[i]) > threshold)
        .collect();
    let spread = |from: &[bool], value: bool| -> Vec<bool> {
        (0..side * side)
            .map(|i| {
                let (x, y) = (i % side, i / side);
                let hit = from[i] == value
                    || x > 0 && from[i - 1] == value
                    || x + 1 < side && from[i + 1] == value
                    || y > 0 && from[i - side] == value
                    || y + 1 < side && from[i + side] == value;
                hit == value
            })
            .collect()
    };
    let wide = spread(&raw, true);
    let mut closed = spread(&wide, false);
    for (c, r) in closed.iter_mut().zip(&raw) {
        *c |= r;
    }
    closed
}

/// Whether a person would find the defect, and find it local.
fn fair(
    before: &[Colour],
    after: &[Colour],
    mask: &[bool],
    threshold: f32,
    camera: &Camera,
    side: usize,
) -> bool {
    let (mut seen, mut sum, mut strongest, mut size) = (0, 0.0, 0.0f32, 0);
    for ((a, b), m) in before.iter().zip(after).zip(mask) {
        if *m {
            let d = change(a, b);
            size += 1;
            if d > threshold {
                seen += 1;
                sum += d;
                strongest = strongest.max(d);
            }
        }
    }
    let unit = (side * side) as f32 / (112.0 * 112.0);
    let mean = sum / seen.max(1) as f32;
    seen as f32 >= 12.0 * unit
        && (seen * 12 >= size)
        && strongest > 0.06 + 1.5 * camera.noise()
        && mean > 0.025 + 0.6 * camera.noise()
        && size as f32 <= 0.4 * (side * side) as f32
}

/// The same scene twice: without and with a defect (same surface, light and camera; only the defect
/// and the noise of the sensor differ). `side` is in pixels, 96 to 518 make sense.
pub fn pair(seed: u64, index: u64, side: usize) -> (Picture, Picture) {
    let take = take(seed, index, side);
    let side = take.scene.side;
    let dice = &mut Dice::new(seed, index, 8);
    let mut mask = GrayImage::new(side as u32, side as u32);
    for (pixel, m) in mask.pixels_mut().zip(&take.mask) {
        pixel.0[0] = if *m { 255 } else { 0 };
    }
    let picture = |image, mask, defect| Picture {
        image,
        mask,
        defect,
        product: take.scene.product,
    };
    let normal = take.camera.develop(&take.before, side, dice);
    let abnormal = take.camera.develop(&take.after, side, dice);
    let empty = GrayImage::new(side as u32, side as u32);
    (
        picture(normal, empty, None),
        picture(abnormal, mask, Some(take.defect)),
    )
}

#[cfg(test)]
mod tests;
