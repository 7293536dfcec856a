//! The prior network and the prompt tower: selected patches in, adapted abnormal prototype out.
//!
//! Exact: the mask is causal, so nothing behind the end token matters; all prompts and all images share
//! the tokens before A^k, whose keys and values are constants of each block; in the last block only
//! the end token's row is read; and the mean over the K prompts commutes with the final projection.

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
    let (width, layers, heads) = (
        manifest.text.width,
        manifest.text.layers,
        manifest.text.heads,
    );
    let prompts = &manifest.prompts;
    let (count, rows, prefix) = (
        prompts.abnormal_prompts,
        prompts.suffix_rows,
        prompts.prefix_rows(),
    );
    let (all, overhang) = (count * rows, prompts.deep_overhang());
    let eos = PickRows {
        first: rows - 1,
        step: rows,
        count,
    };

    let (mut b, prior) = prior_network(bundle, arithmetic)?;
    b.enter("tower");
    let base = b.tensor("suffix", &[all, width])?;
    let mut x = b.wire(
        "suffix",
        SuffixEmbed {
            base,
            rows,
            shifted: prompts.abnormal_tokens,
        },
        &[prior],
    )?;
    for i in 0..layers {
        let block = format!("blocks.{i}");
        if overhang > 0 && (1..=prompts.deep_blocks).contains(&i) {
            let with = b.tensor(&format!("{block}.deep"), &[overhang, width])?;
            x = b.wire(&format!("{block}.deep"), OverwriteRows { with, rows }, &[x])?;
        }
        let attention = SuffixAttention {
            heads,
            rows,
            prefix_keys: b.tensor(&format!("{block}.prefix_keys"), &[prefix, width])?,
            prefix_values: b.tensor(&format!("{block}.prefix_values"), &[prefix, width])?,
        };
        let norm = Arc::new(b.norm(&format!("{block}.ln_1"), width)?);
        let last = i + 1 == layers;
        let active = if last { count } else { all };
        let heads_out = if last {
            let (q, kv) = b.split_qkv(&block, width, count, all)?;
            let (q, kv) = (q.with_norm(norm.clone()), kv.with_norm(norm));
            let kv = b.wire(&format!("{block}.kv"), kv, &[x])?;
            x = b.wire(&format!("{block}.eos"), eos.clone(), &[x])?;
            let q = b.wire(&format!("{block}.q"), q, &[x])?;
            b.wire(&format!("{block}.attention"), attention, &[q, kv])?
        } else {
            let qkv = b
                .linear(&format!("{block}.qkv"), [3 * width, width], all)?
                .with_norm(norm);
            let qkv = b.wire(&format!("{block}.qkv"), qkv, &[x])?;
            b.wire(&format!("{block}.attention"), attention, &[qkv])?
        };
        let out = b
            .linear(&format!("{block}.out"), [width, width], active)?
            .with_residual();
        x = b.wire(&format!("{block}.out"), out, &[heads_out, x])?;
        x = b.mlp(&block, width, active, x)?;
    }
    let x = b.layer_norm("ln_final", width, x)?;
    let mean = b.wire("mean", MeanRows, &[x])?;
    let projection = b.linear_without_bias("projection", [width, width])?;
    let abnormal = b.wire("projection", projection, &[mean])?;
    b.finish(&[prior, abnormal])
}
