//! The text tower's steps over the adapted abnormal prompts in their order, once, for every way of building it:
//! fused operators for a processor (`faprompt::adaptation`), standard ones for a GPU's runtime (`gpu::graph`).
//!
//! Only the prompts' own rows go through it; keys and values of the rows before them, which no frame changes,
//! are the bundle's.

use crate::bundle::Manifest;
use crate::graph::OutletId;

/// The tower's sizes.
pub(crate) struct Sizes {
    /// K: prompts.
    pub count: usize,
    /// Rows of a prompt from its first learned token to the end token.
    pub rows: usize,
    /// Rows before them.
    pub prefix: usize,
    /// Rows that deep prompts overwrite.
    pub overhang: usize,
    /// C.
    pub width: usize,
    /// Heads of attention.
    pub heads: usize,
}

impl Sizes {
    /// Of a bundle's tower.
    pub fn of(manifest: &Manifest) -> Sizes {
        let prompts = &manifest.prompts;
        Sizes {
            count: prompts.abnormal_prompts,
            rows: prompts.suffix_rows,
            prefix: prompts.prefix_rows(),
            overhang: prompts.deep_overhang(),
            width: manifest.text.width,
            heads: manifest.text.heads,
        }
    }

    /// Rows of all prompts.
    pub fn all(&self) -> usize {
        self.count * self.rows
    }
}

/// A block of the tower, as it is to be built.
pub(crate) struct Block {
    /// The beginning of its tensors' names.
    pub name: String,
    /// Only the end tokens' rows are looked at behind it.
    pub last: bool,
}

/// The steps that a builder must know; rows are [K rows, C].
pub(crate) trait Steps {
    /// Why a step cannot be built.
    type Error;

    /// The prompts' rows, the learned tokens shifted by the prior [1, C].
    fn embed(&mut self, prior: OutletId) -> Result<OutletId, Self::Error>;

    /// Overwrites the first rows of each prompt by the block's deep ones.
    fn deepen(&mut self, block: &Block, x: OutletId) -> Result<OutletId, Self::Error>;

    /// `x + out(attention(ln_1 x))`: each row sees the rows before it, and those before the prompt.
    fn attend(&mut self, block: &Block, x: OutletId) -> Result<OutletId, Self::Error>;

    /// `x + c_proj(activation(c_fc(ln_2 x)))`.
    fn mlp(&mut self, block: &Block, x: OutletId) -> Result<OutletId, Self::Error>;

    /// The mean of the end tokens' features, [1, C].
    fn finish(&mut self, x: OutletId) -> Result<OutletId, Self::Error>;
}

/// Builds the tower behind a prior; the raw mean of the K adapted abnormal features, [1, C].
///
/// # Errors
/// The builder's own.
pub(crate) fn build<S: Steps>(
    steps: &mut S,
    manifest: &Manifest,
    prior: OutletId,
) -> Result<OutletId, S::Error> {
    let (layers, prompts) = (manifest.text.layers, &manifest.prompts);
    let mut x = steps.embed(prior)?;
    for i in 0..layers {
        let block = Block {
            name: format!("blocks.{i}"),
            last: i + 1 == layers,
        };
        if prompts.deep_overhang() > 0 && (1..=prompts.deep_blocks).contains(&i) {
            x = steps.deepen(&block, x)?;
        }
        x = steps.attend(&block, x)?;
        x = steps.mlp(&block, x)?;
    }
    steps.finish(x)
}
