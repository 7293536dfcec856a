//! The prior network and the prompt tower: selected patches in, adapted abnormal prototype out.
//!
//! Exact: the mask is causal, so nothing behind the end token matters; all prompts and all images share
//! the tokens before A^k, whose keys and values are constants of each block; in the last block only
//! the end token's row is read; and the mean over the K prompts commutes with the final projection.

use super::tower::{self, Block, Sizes, Steps};
use crate::bundle::{Bundle, BundleError};
use crate::graph::{Builder, OutletId, Plan};
use crate::ops::activation::Activation;
use crate::ops::linear::Linear;
use crate::ops::rows::{MeanRows, PickRows};
use crate::ops::suffix::{OverwriteRows, SuffixAttention, SuffixEmbed};
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
use std::sync::Arc;

/// How the abnormal prototype follows the prior.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AdaptationMode {
    /// The prompt tower runs for each image: the published method's result.
    #[default]
    Exact,
    /// First order around a prior of zero: one matrix; its error stands in the manifest.
    Linear,
    /// The unadapted prototype for every image.
    Off,
}

/// A tract model from the selected patches [1, M * C] to the prior [1, C] and the raw mean of the K
/// adapted abnormal features [1, C].
pub struct Adaptation {
    plan: Option<Plan>,
}

/// What adaptation makes of the selected patches.
pub struct Adapted {
    /// Omega, [1, C].
    pub prior: TValue,
    /// Mean of the K adapted abnormal features, not normalised, [1, C].
    pub abnormal: TValue,
}

impl Adaptation {
    /// Builds it from a bundle.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if tensors are missing or of other shapes than the manifest says.
    pub fn load(
        bundle: &Bundle,
        mode: AdaptationMode,
        arithmetic: Arithmetic,
    ) -> Result<Adaptation, BundleError> {
        let plan = match mode {
            AdaptationMode::Exact => Some(exact(bundle, arithmetic)?),
            AdaptationMode::Linear => Some(linear(bundle, arithmetic)?),
            AdaptationMode::Off => None,
        };
        Ok(Adaptation { plan })
    }

    /// The same adaptation with the same weights, with memory of its own.
    ///
    /// # Errors
    /// tract's own.
    pub fn beside(&self) -> TractResult<Adaptation> {
        Ok(Adaptation {
            plan: self.plan.as_ref().map(Plan::beside).transpose()?,
        })
    }

    /// Runs it on the selected, normalised patch features [1, M * C]; `None` if adaptation is off.
    ///
    /// # Errors
    /// tract's own; none is known for an input of the right shape.
    pub fn run(&mut self, selected: impl Into<TValue>) -> TractResult<Option<Adapted>> {
        let Some(plan) = &mut self.plan else {
            return Ok(None);
        };
        let [prior, abnormal] = plan.first_two(selected.into())?;
        Ok(Some(Adapted { prior, abnormal }))
    }
}

/// psi: Linear, ReLU, Linear. Returns the model under construction and the prior's outlet.
fn prior_network(
    bundle: &Bundle,
    arithmetic: Arithmetic,
) -> Result<(Builder<'_>, OutletId), BundleError> {
    let manifest = bundle.manifest();
    let (width, hidden) = (manifest.text.width, manifest.prior.hidden);
    let inputs = manifest.prior.selected_patches * width;
    let mut b = Builder::new(bundle, "prior", arithmetic);
    let selected = b.source("selected", &[1, inputs])?;
    let fc1 = b
        .linear("fc1", [hidden, inputs], 1)?
        .with_activation(Activation::Relu);
    let hidden_out = b.wire("fc1", fc1, &[selected])?;
    let fc2 = b.linear("fc2", [width, hidden], 1)?;
    let prior = b.wire("fc2", fc2, &[hidden_out])?;
    Ok((b, prior))
}

fn linear(bundle: &Bundle, arithmetic: Arithmetic) -> Result<Plan, BundleError> {
    let width = bundle.manifest().text.width;
    let (mut b, prior) = prior_network(bundle, arithmetic)?;
    b.enter("linear");
    let jacobian = b.weights("jacobian", [width, width])?;
    b.enter("prototypes");
    let mean = b.tensor("abnormal", &[width])?;
    let adapted = b.wire("adapted", Linear::new(jacobian, Some(mean)), &[prior])?;
    b.finish(&[prior, adapted])
}

fn exact(bundle: &Bundle, arithmetic: Arithmetic) -> Result<Plan, BundleError> {
    let manifest = bundle.manifest();
    let (mut b, prior) = prior_network(bundle, arithmetic)?;
    b.enter("tower");
    let sizes = Sizes::of(manifest);
    let mut fused = Fused { b, sizes };
    let abnormal = tower::build(&mut fused, manifest, prior)?;
    fused.b.finish(&[prior, abnormal])
}

/// The tower's steps in fused operators.
struct Fused<'a> {
    b: Builder<'a>,
    sizes: Sizes,
}

impl Fused<'_> {
    /// Rows that go on behind a block's attention.
    fn active(&self, block: &Block) -> usize {
        match block.last {
            true => self.sizes.count,
            false => self.sizes.all(),
        }
    }
}

impl Steps for Fused<'_> {
    type Error = BundleError;

    fn embed(&mut self, prior: OutletId) -> Result<OutletId, BundleError> {
        let Sizes { rows, width, .. } = self.sizes;
        let embed = SuffixEmbed {
            base: self.b.tensor("suffix", &[self.sizes.all(), width])?,
            rows,
            shifted: self.b.manifest().prompts.abnormal_tokens,
        };
        self.b.wire("suffix", embed, &[prior])
    }

    fn deepen(&mut self, block: &Block, x: OutletId) -> Result<OutletId, BundleError> {
        let name = format!("{}.deep", block.name);
        let shape = [self.sizes.overhang, self.sizes.width];
        let deep = OverwriteRows {
            with: self.b.tensor(&name, &shape)?,
            rows: self.sizes.rows,
        };
        self.b.wire(&name, deep, &[x])
    }

    fn attend(&mut self, block: &Block, mut x: OutletId) -> Result<OutletId, BundleError> {
        let (all, active) = (self.sizes.all(), self.active(block));
        let Sizes {
            count,
            rows,
            prefix,
            width,
            heads,
            ..
        } = self.sizes;
        let (b, name) = (&mut self.b, &block.name);
        let attention = SuffixAttention {
            heads,
            rows,
            prefix_keys: b.tensor(&format!("{name}.prefix_keys"), &[prefix, width])?,
            prefix_values: b.tensor(&format!("{name}.prefix_values"), &[prefix, width])?,
        };
        let norm = Arc::new(b.norm(&format!("{name}.ln_1"), width)?);
        let heads_out = if block.last {
            let (q, kv) = b.split_qkv(name, width, count, all)?;
            let (q, kv) = (q.with_norm(norm.clone()), kv.with_norm(norm));
            let kv = b.wire(&format!("{name}.kv"), kv, &[x])?;
            let eos = PickRows {
                first: rows - 1,
                step: rows,
                count,
            };
            x = b.wire(&format!("{name}.eos"), eos, &[x])?;
            let q = b.wire(&format!("{name}.q"), q, &[x])?;
            b.wire(&format!("{name}.attention"), attention, &[q, kv])?
        } else {
            let qkv = b
                .linear(&format!("{name}.qkv"), [3 * width, width], all)?
                .with_norm(norm);
            let qkv = b.wire(&format!("{name}.qkv"), qkv, &[x])?;
            b.wire(&format!("{name}.attention"), attention, &[qkv])?
        };
        let out = b
            .linear(&format!("{name}.out"), [width, width], active)?
            .with_residual();
        b.wire(&format!("{name}.out"), out, &[heads_out, x])
    }

    fn mlp(&mut self, block: &Block, x: OutletId) -> Result<OutletId, BundleError> {
        let active = self.active(block);
        self.b.mlp(&block.name, self.sizes.width, active, x)
    }

    fn finish(&mut self, x: OutletId) -> Result<OutletId, BundleError> {
        let (b, width) = (&mut self.b, self.sizes.width);
        let x = b.layer_norm("ln_final", width, x)?;
        let mean = b.wire("mean", MeanRows, &[x])?;
        let projection = b.linear_without_bias("projection", [width, width])?;
        b.wire("projection", projection, &[mean])
    }
}
