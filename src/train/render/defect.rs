//! The twenty kinds of defects, each in several variants.
//!
//! A defect changes colour, height and gloss before the light falls, so that it looks as its surface
//! would. Nothing here decides the mask: that is what visibly changed.

use super::Defect;
use super::work::Work;
use super::{line, shape, stain, thread};

/// Draws one defect of this kind.
pub fn draw(work: &mut Work, kind: Defect) {
    match kind {
        Defect::Bent => shape::bent(work),
        Defect::Broken => shape::broken(work),
        Defect::Discoloration => stain::discoloration(work),
        Defect::Compound => compound(work),
        Defect::Contamination => stain::contamination(work),
        Defect::Crack => line::crack(work),
        Defect::Cut => line::cut(work),
        Defect::Fabric => thread::fabric(work),
        Defect::FaultyImprint => shape::imprint(work),
        Defect::Gluing => stain::gluing(work),
        Defect::Hole => line::hole(work),
        Defect::Missing => shape::missing(work),
        Defect::Puncture => line::puncture(work),
        Defect::Rough => stain::rough(work),
        Defect::Scratch => line::scratch(work),
        Defect::Compressed => shape::compressed(work),
        Defect::Threading => thread::threading(work),
        Defect::Liquid => stain::liquid(work),
        Defect::Misaligned => shape::misaligned(work),
        Defect::Wear => stain::wear(work),
    }
}

fn compound(w: &mut Work) {
    const SIMPLE: [Defect; 9] = [
        Defect::Scratch,
        Defect::Crack,
        Defect::Contamination,
        Defect::Discoloration,
        Defect::Hole,
        Defect::Wear,
        Defect::Compressed,
        Defect::Liquid,
        Defect::Cut,
    ];
    let first = w.dice.below(SIMPLE.len());
    for k in 0..2 + w.dice.below(2) {
        let step = 1 + w.dice.below(2);
        draw(w, SIMPLE[(first + k * step + k) % SIMPLE.len()]);
    }
}
