//! CLIP's image encoder with the second, V-V stream, as a tract model of fused operators; and DINOv2's, which
//! has registers, no normalisation before the first block, and nothing that projects.
//!
//! Built from a list of [taps](crate::bundle::tap), whose module says how to ask for them. Work that cannot
//! change a tap is left out: blocks behind the last one; queries, output projection and MLP of a last block
//! of which only the class row is wanted; the V-V stream behind its last tap. The values of a block are
//! shared by both attentions, and the class row is dropped before `ln_post` where nobody wants it.

use super::blocks::{self, Block, Steps};
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::graph::{Builder, OutletId, Plan, nnef};
use crate::ops::attention::Attention;
use crate::ops::linear::Linear;
use crate::ops::patch_embed::PatchEmbed;
use crate::ops::rows::{PickRows, SetTail};
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
use std::ops::Range;
use std::sync::Arc;

const PART: &str = "encoder";

/// The encoder, ready to run.
pub struct Encoder {
    plan: Plan,
}

/// What FAPrompt takes of a frame; neither is of unit length.
pub struct Features {
    /// [patches, C]: ln_post(y) @ proj for each patch in raster order.
    pub patches: TValue,
    /// [1, C]: `x[class] @ proj`, without ln_post, as the published code has it.
    pub image: TValue,
}

impl Encoder {
    /// Builds what FAPrompt needs, and no more.
    ///
    /// # Errors
    /// As [`Encoder::with_taps`].
    pub fn load(bundle: &Bundle, arithmetic: Arithmetic) -> Result<Encoder, BundleError> {
        let manifest = bundle.manifest();
        let layers = manifest.vision.layers;
        let taps = [Tap::faprompt_patches(layers), Tap::faprompt_image(layers)];
        Encoder::with_taps(bundle, &taps, manifest.vv_layers, arithmetic)
    }

    /// Builds what `taps` need from a bundle's weights, the last `vv_layers` blocks with the V-V stream
    /// (which need not be the bundle's own number).
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if there is no tap, or one that these blocks do not have, or if tensors
    /// are missing or of other shapes than the manifest says.
    pub fn with_taps(
        bundle: &Bundle,
        taps: &[Tap],
        vv_layers: usize,
        arithmetic: Arithmetic,
    ) -> Result<Encoder, BundleError> {
        let manifest = bundle.manifest();
        if taps.is_empty() {
            return Err(BundleError::architecture(PART, "no tap is asked for"));
        }
        if manifest.is_network() {
            return nnef::plan(bundle, taps, arithmetic).map(Encoder::of);
        }
        let words = !manifest.text.is_none();
        let projected = |t: &&Tap| matches!(t.form, Form::Projected | Form::ProjectedRaw);
        if let (false, Some(tap)) = (words, taps.iter().find(projected)) {
            let what = format!("tap `{tap}`: an encoder without text projects nothing");
            return Err(BundleError::architecture(PART, what));
        }
        let visual = manifest.method.as_ref().map_or(0, |m| m.visual_tokens);
        let all = taps
            .iter()
            .any(|t| t.rows == Rows::All || t.stream == Stream::Y);
        if visual > 0 && (all || vv_layers > 0) {
            let what =
                "learned rows in the blocks: neither all rows nor the V-V stream can be tapped";
            return Err(BundleError::architecture(PART, what));
        }
        let mut fused = Fused {
            b: Builder::new(bundle, PART, arithmetic),
            projection: None,
        };
        let wanted = blocks::build(&mut fused, manifest, taps, vv_layers)?;
        Ok(Encoder {
            plan: fused.b.finish(&wanted)?,
        })
    }

    /// Of a model whose outputs are the taps.
    pub(super) fn of(plan: Plan) -> Encoder {
        Encoder { plan }
    }

    /// The same encoder with the same weights, with memory of its own.
    ///
    /// # Errors
    /// tract's own.
    pub fn beside(&self) -> TractResult<Encoder> {
        Ok(Encoder {
            plan: self.plan.beside()?,
        })
    }

    /// Encodes a normalised frame [3, S, S]: a tensor [rows, width or C] for each tap, in the order in which
    /// they were asked for. They stay until the next frame, which takes their memory.
    ///
    /// # Errors
    /// tract's own; none is known for a frame of the right shape.
    pub fn taps(&mut self, frame: impl Into<TValue>) -> TractResult<&[TValue]> {
        self.plan.run(frame.into())
    }

    /// The first two taps of an encoder that [`Encoder::load`] built, or of one whose first taps are
    /// FAPrompt's.
    ///
    /// # Errors
    /// As [`Encoder::taps`], and fewer than two taps.
    pub fn run(&mut self, frame: impl Into<TValue>) -> TractResult<Features> {
        let [patches, image] = self.plan.first_two(frame.into())?;
        Ok(Features { patches, image })
    }
}

/// The steps in fused operators.
struct Fused<'a> {
    b: Builder<'a>,
    /// The layer that joins picture and text, packed once.
    projection: Option<Linear>,
}

impl Fused<'_> {
    /// The rows of one picture without what stands behind the patches.
    fn own_rows(&self) -> usize {
        1 + self.b.manifest().image.grid().pow(2)
    }
}

impl Steps for Fused<'_> {
    type Error = BundleError;

    fn embed(&mut self) -> Result<OutletId, BundleError> {
        let manifest = self.b.manifest();
        let b = &mut self.b;
        let width = manifest.vision.width;
        let (patch, grid) = (manifest.image.patch, manifest.image.grid());
        let size = manifest.image.size;
        let embed = PatchEmbed {
            weights: b.weights("conv1", [width, 3 * patch * patch])?,
            class_row: b.tensor("class_row", &[width])?,
            positions: b.tensor("positions", &[grid * grid, width])?,
            patch,
            grid,
        };
        let image = b.source("image", &[3, size, size])?;
        let x = b.wire("patch_embed", embed, &[image])?;
        match manifest.text.is_none() {
            true => Ok(x),
            false => b.layer_norm("ln_pre", width, x),
        }
    }

    fn registers(&mut self, x: OutletId) -> Result<OutletId, BundleError> {
        let shape = [self.b.manifest().registers, self.b.manifest().vision.width];
        let tail = SetTail {
            with: self.b.tensor("registers", &shape)?,
            kept: self.own_rows(),
        };
        self.b.wire("registers", tail, &[x])
    }

    fn learned_rows(&mut self, block: &Block, x: OutletId) -> Result<OutletId, BundleError> {
        let (manifest, kept) = (self.b.manifest(), self.own_rows());
        let count = manifest.method.as_ref().map_or(0, |m| m.visual_tokens);
        let name = format!("visual.{}", block.index);
        let shape = [count, manifest.vision.width];
        let with = self.b.tensor_of("method", &name, &shape)?;
        let tail = SetTail { with, kept };
        self.b.wire(&format!("{}.visual", block.name), tail, &[x])
    }

    fn attend(
        &mut self,
        block: &Block,
        mut x: OutletId,
        y: Option<OutletId>,
    ) -> Result<(OutletId, Option<OutletId>), BundleError> {
        let (b, name, rows) = (&mut self.b, &block.name, block.rows);
        let (width, heads) = (b.manifest().vision.width, b.manifest().vision.heads);
        let norm = Arc::new(b.norm(&format!("{name}.ln_1"), width)?);
        let vv = y.is_some();
        let attention = |rounded| Attention { heads, vv, rounded };
        let heads_out = if block.class_only {
            let (q, kv) = b.split_qkv(name, width, 1, rows)?;
            let (q, kv) = (q.with_norm(norm.clone()), kv.with_norm(norm));
            let attention = attention(kv.rounds());
            let kv = b.wire(&format!("{name}.kv"), kv, &[x])?;
            x = b.wire(&format!("{name}.class"), rows_alone(0..1), &[x])?;
            let q = b.wire(&format!("{name}.q"), q, &[x])?;
            b.wire_all(&format!("{name}.attention"), attention, &[q, kv])?
        } else {
            let qkv = b
                .linear(&format!("{name}.qkv"), [3 * width, width], rows)?
                .with_norm(norm);
            let attention = attention(qkv.rounds());
            let qkv = b.wire(&format!("{name}.qkv"), qkv, &[x])?;
            b.wire_all(&format!("{name}.attention"), attention, &[qkv])?
        };
        let out = b
            .linear(&format!("{name}.out"), [width, width], rows)?
            .with_residual();
        x = b.wire(&format!("{name}.out"), out.clone(), &[heads_out[0], x])?;
        let y = y.map(|y| b.wire(&format!("{name}.vv_out"), out, &[heads_out[1], y]));
        Ok((x, y.transpose()?))
    }

    fn mlp(&mut self, block: &Block, x: OutletId) -> Result<OutletId, BundleError> {
        let width = self.b.manifest().vision.width;
        self.b.mlp(&block.name, width, block.active(), x)
    }

    fn pick(
        &mut self,
        tap: &Tap,
        x: OutletId,
        rows: Range<usize>,
    ) -> Result<OutletId, BundleError> {
        self.b.wire(&format!("{tap}"), rows_alone(rows), &[x])
    }

    fn ln_post(&mut self, tap: &Tap, x: OutletId) -> Result<OutletId, BundleError> {
        let norm = self.b.norm("ln_post", self.b.manifest().vision.width)?;
        self.b.wire(&format!("{tap}.ln_post"), norm, &[x])
    }

    fn project(&mut self, tap: &Tap, x: OutletId) -> Result<OutletId, BundleError> {
        let shape = [self.b.manifest().embed(), self.b.manifest().vision.width];
        let projection = match &self.projection {
            Some(layer) => layer.clone(),
            None => self
                .projection
                .insert(self.b.linear_without_bias("proj", shape)?)
                .clone(),
        };
        self.b.wire(&format!("{tap}.proj"), projection, &[x])
    }
}

fn rows_alone(rows: Range<usize>) -> PickRows {
    PickRows {
        first: rows.start,
        step: 1,
        count: rows.len(),
    }
}
