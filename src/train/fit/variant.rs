//! The variants that the paper reports, as switches.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the K abnormal prompts become one score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// The mean of their raw features (the paper's choice).
    #[default]
    Mean,
    /// Each token takes the prompt that it is most similar to.
    BestMatch,
    /// A learned convex combination of their raw features.
    Weighted,
}

/// What psi sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriorSource {
    /// No prior: the prompts are the same for every picture.
    Off,
    /// The M selected patches (the paper's DAP).
    #[default]
    Patches,
    /// The image token, as in CoCoOp.
    ImageToken,
}

/// What is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// How the K prompts are combined.
    pub aggregation: Aggregation,
    /// What psi sees.
    pub prior: PriorSource,
    /// Whether 0.1 L_orth is part of the loss: the sum of |cos(F_a^j, F_a^k)| over all pairs of abnormal prompts.
    pub orthogonal_loss: bool,
    /// Whether L_prior is part of the loss: the mean of Omega squared, summed over the normal pictures of a batch.
    pub prior_loss: bool,
    /// Abnormal prompts have E tokens of their own instead of the normal prompt's V (AnomalyCLIP).
    pub own_tokens: bool,
}

impl Default for Variant {
    fn default() -> Self {
        Variant {
            aggregation: Aggregation::Mean,
            prior: PriorSource::Patches,
            orthogonal_loss: true,
            prior_loss: true,
            own_tokens: false,
        }
    }
}
