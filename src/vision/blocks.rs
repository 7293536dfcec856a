//! The image encoder's steps in their order, once, for every way of building it: fused operators for a
//! processor (`vision::Encoder`), standard ones for a GPU's runtime (`gpu::graph`).
//!
//! What is decided here: which blocks run, which of them have the V-V stream, where only the class row goes
//! on, and what of the rows a tap hands out. How a step is computed is the builder's affair.

use crate::bundle::tap::{self, Form, Rows, Stream, Tap};
use crate::bundle::{BundleError, Manifest};
use crate::graph::OutletId;
use std::ops::Range;

/// A block of the image encoder, as it is to be built.
pub(crate) struct Block {
    /// Its place, counted from 0.
    pub index: usize,
    /// The beginning of its tensors' names.
    pub name: String,
    /// Rows that its attention sees: class, patches, learned rows, registers.
    pub rows: usize,
    /// Only the class row of the ordinary stream is looked at behind it.
    pub class_only: bool,
}

impl Block {
    /// Rows of the ordinary stream that go on behind its attention.
    pub fn active(&self) -> usize {
        if self.class_only { 1 } else { self.rows }
    }
}

/// The steps that a builder must know. Rows are [rows, width], the class row first, then the patches.
pub(crate) trait Steps {
    /// Why a step cannot be built.
    type Error: From<BundleError>;

    /// The class row and the patches as the first block gets them.
    fn embed(&mut self) -> Result<OutletId, Self::Error>;

    /// Puts the registers behind the rows.
    fn registers(&mut self, x: OutletId) -> Result<OutletId, Self::Error>;

    /// Puts a block's learned rows behind the class row and the patches.
    fn learned_rows(&mut self, block: &Block, x: OutletId) -> Result<OutletId, Self::Error>;

    /// `x + out(attention(ln_1 x))`, and the same of the V-V stream if the block has it (`y`), which shares the
    /// values with it.
    fn attend(
        &mut self,
        block: &Block,
        x: OutletId,
        y: Option<OutletId>,
    ) -> Result<(OutletId, Option<OutletId>), Self::Error>;

    /// `x + c_proj(activation(c_fc(ln_2 x)))`.
    fn mlp(&mut self, block: &Block, x: OutletId) -> Result<OutletId, Self::Error>;

    /// Some rows alone.
    fn pick(&mut self, tap: &Tap, x: OutletId, rows: Range<usize>)
    -> Result<OutletId, Self::Error>;

    /// `ln_post` of a tap's rows.
    fn ln_post(&mut self, tap: &Tap, x: OutletId) -> Result<OutletId, Self::Error>;

    /// A tap's rows in the space that picture and text share.
    fn project(&mut self, tap: &Tap, x: OutletId) -> Result<OutletId, Self::Error>;
}

/// Builds what `taps` need, the last `vv_layers` blocks with the V-V stream; the outlet of each tap.
///
/// # Errors
/// The builder's own, and a tap that these blocks do not have.
pub(crate) fn build<S: Steps>(
    steps: &mut S,
    manifest: &Manifest,
    taps: &[Tap],
    vv_layers: usize,
) -> Result<Vec<OutletId>, S::Error> {
    let layers = manifest.vision.layers;
    taps.iter().try_for_each(|t| t.check(layers, vv_layers))?;
    let patches = manifest.image.grid().pow(2);
    let learned = manifest.method.as_ref().map_or(0, |m| m.visual_tokens);
    let mut found = Found {
        taps,
        outlets: vec![None; taps.len()],
        patches,
    };
    let mut x = steps.embed()?;
    found.take(steps, (0, Stream::X), x, 1 + patches)?;
    if manifest.registers > 0 {
        // Attention knows no order: they may as well stand behind the patches.
        x = steps.registers(x)?;
    }
    // The V-V stream starts as the input of the first block that has it.
    let mut y = None;
    let (depth, y_depth) = tap::depths(taps);
    for index in 0..depth {
        let block = Block {
            index,
            name: format!("blocks.{index}"),
            rows: 1 + patches + learned + manifest.registers,
            class_only: !tap::patches_needed(taps, index + 1),
        };
        let vv = index + vv_layers >= layers && index < y_depth;
        let stream = vv.then(|| *y.get_or_insert(x));
        if learned > 0 {
            // They stand behind the others while a block runs.
            x = steps.learned_rows(&block, x)?;
        }
        let (next, stream) = steps.attend(&block, x, stream)?;
        if let Some(rows) = stream {
            found.take(steps, (index + 1, Stream::Y), rows, block.rows)?;
            y = Some(rows);
        }
        x = steps.mlp(&block, next)?;
        found.take(steps, (index + 1, Stream::X), x, block.active())?;
    }
    let outlets = found.outlets.into_iter().collect::<Option<Vec<_>>>();
    let missing = || BundleError::architecture("encoder", "a tap was not met");
    Ok(outlets.ok_or_else(missing)?)
}

/// The taps that were met so far.
struct Found<'a> {
    taps: &'a [Tap],
    outlets: Vec<Option<OutletId>>,
    patches: usize,
}

impl Found<'_> {
    /// Builds every tap of a stream behind a block, where there are so many rows.
    fn take<S: Steps>(
        &mut self,
        steps: &mut S,
        (block, stream): (usize, Stream),
        rows: OutletId,
        count: usize,
    ) -> Result<(), S::Error> {
        for (i, tap) in self.taps.iter().enumerate() {
            if (tap.block, tap.stream) != (block, stream) {
                continue;
            }
            // The same tap twice is built once.
            let same = self.taps[..i].iter().position(|t| t == tap);
            self.outlets[i] = match same.and_then(|i| self.outlets[i]) {
                Some(known) => Some(known),
                None => Some(self.wire(steps, tap, rows, count)?),
            };
        }
        Ok(())
    }

    fn wire<S: Steps>(
        &self,
        steps: &mut S,
        tap: &Tap,
        mut rows: OutletId,
        count: usize,
    ) -> Result<OutletId, S::Error> {
        let span = match tap.rows {
            Rows::Class => 0..1,
            Rows::Patches => 1..1 + self.patches,
            Rows::All => 0..1 + self.patches,
        };
        if span != (0..count) {
            rows = steps.pick(tap, rows, span)?;
        }
        if matches!(tap.form, Form::LnPost | Form::Projected) {
            rows = steps.ln_post(tap, rows)?;
        }
        match tap.form {
            Form::Projected | Form::ProjectedRaw => steps.project(tap, rows),
            Form::Raw | Form::LnPost => Ok(rows),
        }
    }
}
