//! CLIP's image encoder with the second, V-V stream, as a tract model of fused operators.
//!
//! Work that cannot change the result is left out: queries, output projection and MLP of the last
//! block are computed for the class row alone, the values are shared by both attentions, and the
//! class row of the V-V stream is dropped before the final projection.

use crate::bundle::{Bundle, BundleError};
use crate::graph::{Builder, Plan};
use crate::ops::attention::Attention;
use crate::ops::patch_embed::PatchEmbed;
use crate::ops::rows::PickRows;
use crate::ops::weights::Arithmetic;
use std::sync::Arc;
use tract_core::prelude::*;

const PART: &str = "encoder";

/// The encoder, ready to run.
pub struct Encoder {
    plan: Plan,
}

/// What the encoder makes of a frame; neither output is normalised.
pub struct Features {
    /// [patches, C]: ln_post(y) @ proj for each patch in raster order.
    pub patches: TValue,
    /// [1, C]: x[class] @ proj, without ln_post, as the published code has it.
    pub image: TValue,
}

impl Encoder {
    /// Builds the encoder from a bundle.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if tensors are missing or of other shapes than the manifest says.
    pub fn load(bundle: &Bundle, arithmetic: Arithmetic) -> Result<Encoder, BundleError> {
        let manifest = bundle.manifest();
        let (width, layers, heads) = (
            manifest.vision.width,
            manifest.vision.layers,
            manifest.vision.heads,
        );
        let (patch, grid, embed) = (
            manifest.image.patch,
            manifest.image.grid(),
            manifest.text.width,
        );
        let (patches, size) = (grid * grid, manifest.image.size);
        let mut b = Builder::new(bundle, PART, arithmetic);

        let embed_op = PatchEmbed {
            weights: b.weights("conv1", [width, 3 * patch * patch], patches)?,
            class_row: b.tensor("class_row", &[width])?,
            positions: b.tensor("positions", &[patches, width])?,
            patch,
            grid,
        };
        let image = b.source("image", &[3, size, size])?;
        let mut x = b.wire("patch_embed", embed_op, &[image])?;
        x = b.layer_norm("ln_pre", width, x)?;
        // The V-V stream starts as the input of the first block that has it.
        let mut y = None;
        for i in 0..layers {
            let block = format!("blocks.{i}");
            let (vv, last) = (i + manifest.vv_layers >= layers, i + 1 == layers);
            if vv && y.is_none() {
                y = Some(x);
            }
            let rows = 1 + patches;
            let norm = Arc::new(b.norm(&format!("{block}.ln_1"), width)?);
            let attention = |rounded| Attention { heads, vv, rounded };
            let heads_out = if last {
                let (q, kv) = b.split_qkv(&block, width, 1, rows)?;
                let (q, kv) = (q.with_norm(norm.clone()), kv.with_norm(norm));
                let attention = attention(kv.rounds());
                let kv = b.wire(&format!("{block}.kv"), kv, &[x])?;
                let class = PickRows {
                    first: 0,
                    step: 1,
                    count: 1,
                };
                x = b.wire(&format!("{block}.class"), class, &[x])?;
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
                y = Some(b.wire(&format!("{block}.vv_out"), out, &[heads_out[1], stream])?);
            }
            x = b.mlp(&block, width, if last { 1 } else { rows }, x)?;
        }
        let y = y.ok_or_else(|| BundleError::architecture(PART, "no block has the V-V stream"))?;
        let y = b.wire(
            "patches",
            PickRows {
                first: 1,
                step: 1,
                count: patches,
            },
            &[y],
        )?;
        let y = b.layer_norm("ln_post", width, y)?;
        let projection = b.linear_without_bias("proj", [embed, width], patches)?;
        let patch_features = b.wire("patch_features", projection.clone(), &[y])?;
        let image_feature = b.wire("image_feature", projection, &[x])?;
        Ok(Encoder {
            plan: b.finish(&[patch_features, image_feature])?,
        })
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

    /// Encodes a normalised frame [3, S, S].
    ///
    /// # Errors
    /// tract's own; none is known for a frame of the right shape.
    pub fn run(&mut self, frame: impl Into<TValue>) -> TractResult<Features> {
        let [patches, image] = self.plan.run(frame.into())?;
        Ok(Features { patches, image })
    }
}
