//! Chooses the kind of memory that fits a product, from good parts alone.
//!
//! Defects are pasted into some of the good parts ([`paste`]: a piece of the picture itself, brighter or darker,
//! at another place), and the memory that tells those from the same parts without them is taken. Each part is
//! judged as if it had not been learned. Of a handful of parts that says nothing, and `pca` is taken.

use super::descriptor::Layout;
use super::kind::{Kind, Memory, image_score};
use super::part::{Learned, Rows};
use super::region::Looked;
use crate::ops::tract::*;
use image::{RgbImage, imageops};

/// Most parts into which a defect is pasted.
pub const PASTED: usize = 16;
/// Fewer parts than this with a pasted defect decide nothing.
const FEWEST: usize = 8;
/// So many parts that nothing can be decided by are enough for `pca`, which needs no place and smooths over what few
/// parts happen to show: on four labelled sets (cracks, circuit boards, light guides, screws; other ones than those
/// that figures are reported of) it was better than `position` by 1.5 points of image AUROC with 4 parts and 2.6 with
/// 6, on average, and worse by 1.4 with 2.
const FEW: usize = 4;
/// By how much more often `anywhere` must rank pasted defects above good parts (AUROC, 0..=1) before parts count
/// as lying anyhow: a fixture is the rule.
const MARGIN: f64 = 0.02;

/// A part with a defect pasted into it.
pub struct Pasted {
    /// Index of the learned part that it was made of.
    pub part: usize,
    /// Its descriptors [places, dim].
    pub descriptors: Vec<f32>,
}

/// The chance that one of `bad` is above one of `good` (AUROC); ties count half.
fn told_apart(good: &[f32], bad: &[f32]) -> f64 {
    let pairs = bad.iter().flat_map(|b| good.iter().map(move |g| (b, g)));
    let sum: f64 = pairs
        .map(|(b, g)| f64::from(u8::from(b > g)) + 0.5 * f64::from(u8::from(b == g)))
        .sum();
    sum / (good.len() * bad.len()).max(1) as f64
}

/// The kind of memory that fits: `position` or `anywhere`; of few parts `pca`.
///
/// # Errors
/// Parts of other sizes.
pub fn kind(
    layout: Layout,
    learned: &Learned,
    pasted: &[Pasted],
    looked: &Looked,
) -> TractResult<Kind> {
    let parts: Vec<&Rows> = learned.own().collect();
    if pasted.len() < FEWEST {
        return Ok(match parts.len() >= FEW {
            true => Kind::Pca,
            false => Kind::Position,
        });
    }
    let (mut map, mut work) = (vec![], vec![]);
    let mut told = |kind| -> TractResult<f64> {
        let mut memory = Memory::learn(kind, layout, learned, None)?;
        let (mut good, mut bad) = (vec![], vec![]);
        for p in pasted {
            let clean = parts.get(p.part).context("a defect in no part")?;
            for (descriptors, scores) in [
                (&clean.numbers(layout.dim), &mut good),
                (&p.descriptors, &mut bad),
            ] {
                memory.judge_without(descriptors, Some(p.part), &mut map)?;
                let tiles = layout.tiles.count();
                scores.push(image_score(&map, looked, tiles, &mut work));
            }
        }
        Ok(told_apart(&good, &bad))
    };
    let (position, anywhere) = (told(Kind::Position)?, told(Kind::Anywhere)?);
    log::info!("pasted defects told apart: position {position:.3}, anywhere {anywhere:.3}");
    Ok(match anywhere > position + MARGIN {
        true => Kind::Anywhere,
        false => Kind::Position,
    })
}

/// A picture with a piece of itself, 0.5 to 3.5 % of its area, 0.8 to 1.2 times as bright in each colour, at
/// another place (CutPaste). `seed` says which.
pub fn paste(picture: &RgbImage, seed: u64) -> RgbImage {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed;
    let mut uniform = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let (width, height) = picture.dimensions();
    let area = 0.005 + 0.03 * uniform();
    // Sides as 0.3 : 1 to 3.3 : 1.
    let ratio = (2.4 * (uniform() - 0.5)).exp();
    let side = |share: f64, whole: u32| {
        ((share.sqrt() * f64::from(whole)) as u32).clamp(1, (whole / 2).max(1))
    };
    let (w, h) = (side(area * ratio, width), side(area / ratio, height));
    let mut place = || {
        let along = |u: f64, whole: u32, piece: u32| (u * f64::from(whole - piece)) as u32;
        (along(uniform(), width, w), along(uniform(), height, h))
    };
    let (from, to) = (place(), place());
    let brighter: [f64; 3] = std::array::from_fn(|_| 0.8 + 0.4 * uniform());
    let mut piece = imageops::crop_imm(picture, from.0, from.1, w, h).to_image();
    for pixel in piece.pixels_mut() {
        for (v, factor) in pixel.0.iter_mut().zip(brighter) {
            *v = (f64::from(*v) * factor).round().min(255.0) as u8;
        }
    }
    let mut out = picture.clone();
    imageops::replace(&mut out, &piece, i64::from(to.0), i64::from(to.1));
    out
}
