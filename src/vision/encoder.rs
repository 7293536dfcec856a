//! CLIP's image encoder with the second, V-V stream, as a tract model of fused operators; and DINOv2's, which
//! has registers, no normalisation before the first block, and nothing that projects.
//!
//! Built from a list of [taps](crate::bundle::tap), whose module says how to ask for them. Work that cannot
//! change a tap is left out: blocks behind the last one; queries, output projection and MLP of a last block
//! of which only the class row is wanted; the V-V stream behind its last tap. The values of a block are
//! shared by both attentions, and the class row is dropped before `ln_post` where nobody wants it.

use crate::bundle::tap::{self, Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::graph::{Builder, OutletId, Plan, nnef};
use crate::ops::attention::Attention;
use crate::ops::linear::Linear;
use crate::ops::patch_embed::PatchEmbed;
use crate::ops::rows::{PickRows, SetTail};
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
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
        let (width, layers, heads) = (
            manifest.vision.width,
            manifest.vision.layers,
            manifest.vision.heads,
        );
        if taps.is_empty() {
            return Err(BundleError::architecture(PART, "no tap is asked for"));
        }
        if manifest.is_network() {
            return nnef::plan(bundle, taps).map(Encoder::of);
        }
        taps.iter().try_for_each(|t| t.check(layers, vv_layers))?;
        let words = !manifest.text.is_none();
        let projected = |t: &&Tap| matches!(t.form, Form::Projected | Form::ProjectedRaw);
        if let (false, Some(tap)) = (words, taps.iter().find(projected)) {
            let what = format!("tap `{tap}`: an encoder without text projects nothing");
            return Err(BundleError::architecture(PART, what));
        }
        let (patch, grid) = (manifest.image.patch, manifest.image.grid());
        let (patches, size) = (grid * grid, manifest.image.size);
        let visual = manifest.method.as_ref().map_or(0, |m| m.visual_tokens);
        let all = taps
            .iter()
            .any(|t| t.rows == Rows::All || t.stream == Stream::Y);
        if visual > 0 && (all || vv_layers > 0) {
            let what =
                "learned rows in the blocks: neither all rows nor the V-V stream can be tapped";
            return Err(BundleError::architecture(PART, what));
        }
        let mut b = Builder::new(bundle, PART, arithmetic);

        let embed_op = PatchEmbed {
            weights: b.weights("conv1", [width, 3 * patch * patch])?,
            class_row: b.tensor("class_row", &[width])?,
            positions: b.tensor("positions", &[patches, width])?,
            patch,
            grid,
        };
        let image = b.source("image", &[3, size, size])?;
        let mut x = b.wire("patch_embed", embed_op, &[image])?;
        if words {
            x = b.layer_norm("ln_pre", width, x)?;
        }
        let mut outlets = Outlets {
            taps,
            found: vec![None; taps.len()],
            projection: None,
            patches,
        };
        outlets.take(&mut b, 0, Stream::X, x)?;
        let registers = manifest.registers;
        if registers > 0 {
            // Attention knows no order: they may as well stand behind the patches.
            let tail = SetTail {
                with: b.tensor("registers", &[registers, width])?,
                kept: 1 + patches,
            };
            x = b.wire("registers", tail, &[x])?;
        }
        // The V-V stream starts as the input of the first block that has it.
        let mut y = None;
        let (depth, y_depth) = tap::depths(taps);
        for i in 0..depth {
            let block = format!("blocks.{i}");
            let vv = i + vv_layers >= layers && i < y_depth;
            let class_only = !tap::patches_needed(taps, i + 1);
            if vv && y.is_none() {
                y = Some(x);
            }
            let rows = 1 + patches + visual + registers;
            if visual > 0 {
                // Learned rows stand behind the others while a block runs.
                let tail = SetTail {
                    with: b.tensor_of("method", &format!("visual.{i}"), &[visual, width])?,
                    kept: 1 + patches,
                };
                x = b.wire(&format!("{block}.visual"), tail, &[x])?;
            }
            let norm = Arc::new(b.norm(&format!("{block}.ln_1"), width)?);
            let attention = |rounded| Attention { heads, vv, rounded };
            let heads_out = if class_only {
                let (q, kv) = b.split_qkv(&block, width, 1, rows)?;
                let (q, kv) = (q.with_norm(norm.clone()), kv.with_norm(norm));
                let attention = attention(kv.rounds());
                let kv = b.wire(&format!("{block}.kv"), kv, &[x])?;
                x = b.wire(&format!("{block}.class"), CLASS, &[x])?;
                let q = b.wire(&format!("{block}.q"), q, &[x])?;
                b.wire_all(&format!("{block}.attention"), attention, &[q, kv])?
            } else {
                let qkv = b
                    .linear(&format!("{block}.qkv"), [3 * width, width], rows)?
                    .with_norm(norm);
                let attention = attention(qkv.rounds());
                let qkv = b.wire(&format!("{block}.qkv"), qkv, &[x])?;
                b.wire_all(&format!("{block}.attention"), attention, &[qkv])?
            };
            let out = b
                .linear(&format!("{block}.out"), [width, width], rows)?
                .with_residual();
            x = b.wire(&format!("{block}.out"), out.clone(), &[heads_out[0], x])?;
            if let (Some(stream), true) = (y, vv) {
                let next = b.wire(&format!("{block}.vv_out"), out, &[heads_out[1], stream])?;
                outlets.take(&mut b, i + 1, Stream::Y, next)?;
                y = Some(next);
            }
            x = b.mlp(&block, width, if class_only { 1 } else { rows }, x)?;
            outlets.take(&mut b, i + 1, Stream::X, x)?;
        }
        let wanted = outlets.found.into_iter().collect::<Option<Vec<_>>>();
        let wanted = wanted.ok_or_else(|| BundleError::architecture(PART, "a tap was not met"))?;
        Ok(Encoder {
            plan: b.finish(&wanted)?,
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

const CLASS: PickRows = PickRows {
    first: 0,
    step: 1,
    count: 1,
};

/// The taps that were met so far.
struct Outlets<'a> {
    taps: &'a [Tap],
    found: Vec<Option<OutletId>>,
    /// The layer that joins picture and text, packed once.
    projection: Option<Linear>,
    patches: usize,
}

impl Outlets<'_> {
    /// Wires every tap of `stream` after `block`, whose rows are `rows`: all of them, or the class row alone
    /// where no tap wants more.
    fn take(
        &mut self,
        b: &mut Builder,
        block: usize,
        stream: Stream,
        rows: OutletId,
    ) -> Result<(), BundleError> {
        for (tap, i) in self.taps.iter().zip(0..) {
            if (tap.block, tap.stream) != (block, stream) {
                continue;
            }
            // The same tap twice has one node.
            let same = self.taps[..i].iter().position(|t| t == tap);
            self.found[i] = match same.and_then(|i| self.found[i]) {
                Some(known) => Some(known),
                None => Some(self.wire(b, tap, rows)?),
            };
        }
        Ok(())
    }

    fn wire(
        &mut self,
        b: &mut Builder,
        tap: &Tap,
        rows: OutletId,
    ) -> Result<OutletId, BundleError> {
        let (width, embed) = (b.manifest().vision.width, b.manifest().embed());
        // Before the first block all rows are there.
        let alone =
            tap.block > 0 && tap.stream == Stream::X && !tap::patches_needed(self.taps, tap.block);
        let registers = if tap.block > 0 {
            b.manifest().registers
        } else {
            0
        };
        let picked = match tap.rows {
            Rows::All if registers > 0 => {
                let pick = PickRows {
                    first: 0,
                    step: 1,
                    count: 1 + self.patches,
                };
                b.wire(&format!("{tap}"), pick, &[rows])?
            }
            Rows::All => rows,
            Rows::Class if alone => rows,
            Rows::Class => b.wire(&format!("{tap}"), CLASS, &[rows])?,
            Rows::Patches => {
                let pick = PickRows {
                    first: 1,
                    step: 1,
                    count: self.patches,
                };
                b.wire(&format!("{tap}"), pick, &[rows])?
            }
        };
        let normed = match tap.form {
            Form::Raw | Form::ProjectedRaw => picked,
            Form::LnPost | Form::Projected => {
                let norm = b.norm("ln_post", width)?;
                b.wire(&format!("{tap}.ln_post"), norm, &[picked])?
            }
        };
        match tap.form {
            Form::Raw | Form::LnPost => Ok(normed),
            Form::Projected | Form::ProjectedRaw => {
                let projection = match &self.projection {
                    Some(layer) => layer.clone(),
                    None => self
                        .projection
                        .insert(b.linear_without_bias("proj", [embed, width])?)
                        .clone(),
                };
                b.wire(&format!("{tap}.proj"), projection, &[normed])
            }
        }
    }
}
