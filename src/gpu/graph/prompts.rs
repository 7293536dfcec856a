//! The prompt side: prior and tower.

use super::Graph;
use crate::bundle::manifest::Selection;
use crate::faprompt::tower::{Block, Sizes, Steps};
use tract_core::internal::*;
use tract_core::ops::array::{Gather, Topk, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::math;

/// A score that no softmax gives weight to, finite in f16.
const HIDDEN: f32 = -1e4;

/// The prompt side: prior and tower.
impl Graph<'_> {
    /// The normalised features of the patches that feed the prior, [1, M C].
    pub(super) fn select(&mut self, patches: OutletId, scores: OutletId) -> TractResult<OutletId> {
        let manifest = self.bundle.manifest();
        let (count, width) = (manifest.prior.selected_patches, manifest.text.width);
        let chosen = match manifest.prior.selection {
            Selection::Upstream => self.slice("chosen", patches, 0, 0, count)?,
            Selection::Paper => {
                let k = self.constant("k", tensor0(count as i64))?;
                let best = Topk {
                    axis: 0,
                    largest: true,
                    fallback_k: count.to_dim(),
                };
                let name = self.name("best");
                let rows = self.model.wire_node(name, best, &[scores, k])?[1];
                let rows = self.wire("best.rows", AxisOp::Rm(1), &[rows])?;
                let gather = Gather {
                    axis: 0,
                    output_type: None,
                };
                self.wire("chosen", gather, &[patches, rows])?
            }
        };
        self.reshape("selected", chosen, &[count, width], &[1, count * width])
    }

    /// psi: Linear, ReLU, Linear, [1, C].
    pub(super) fn prior(&mut self, selected: OutletId) -> TractResult<OutletId> {
        let manifest = self.bundle.manifest();
        let (width, hidden) = (manifest.text.width, manifest.prior.hidden);
        let inputs = manifest.prior.selected_patches * width;
        self.part = "prior";
        let hidden_out = self.row("fc1", selected, [hidden, inputs])?;
        let zero = self.constant("zero", tensor2(&[[0f32]]))?;
        let active = self.wire(
            "relu",
            TypedBinOp(Box::new(math::Max), None),
            &[hidden_out, zero],
        )?;
        self.row("fc2", active, [width, hidden])
    }

    /// A dense layer on a single row, never rounded.
    fn row(&mut self, name: &str, x: OutletId, shape: [usize; 2]) -> TractResult<OutletId> {
        let weights = self.weights(&format!("{name}.weight"), shape, f32::datum_type())?;
        let bias = self.vector(&format!("{name}.bias"), shape[0], f32::datum_type())?;
        let sum = self.product(name, x, weights)?;
        self.add(&format!("{name}.sum"), sum, bias)
    }
}

impl Steps for Graph<'_> {
    type Error = TractError;

    fn embed(&mut self, prior: OutletId) -> TractResult<OutletId> {
        let sizes = Sizes::of(self.bundle.manifest());
        let (all, rows) = (sizes.all(), sizes.rows);
        let tokens = self.bundle.manifest().prompts.abnormal_tokens;
        let base = self.tensor("suffix", &[all, sizes.width])?;
        let shifted = (0..all).map(|i| f32::from(u8::from(i % rows < tokens)));
        let shifted = Tensor::from_shape(&[all, 1], &shifted.collect::<Vec<_>>())?;
        let shifted = self.constant("shifted", shifted)?;
        let shift = self.multiply("shift", shifted, prior)?;
        self.add("embedded", base, shift)
    }

    fn deepen(&mut self, block: &Block, x: OutletId) -> TractResult<OutletId> {
        let sizes = Sizes::of(self.bundle.manifest());
        let (count, rows, width) = (sizes.count, sizes.rows, sizes.width);
        let deep = format!("{}.deep", block.name);
        let with = self.values(&deep, &[sizes.overhang, width])?;
        let with = Tensor::from_shape(&[count, sizes.overhang, width], &with.repeat(count))?;
        let with = self.constant(&deep, with)?;
        let name = format!("{}.deepened", block.name);
        let x = self.reshape(&name, x, &[sizes.all(), width], &[count, rows, width])?;
        let x = self.slice(&name, x, 1, sizes.overhang, rows)?;
        let x = self.wire(&name, TypedConcat::new(1), &[with, x])?;
        self.reshape(&name, x, &[count, rows, width], &[sizes.all(), width])
    }

    fn attend(&mut self, block: &Block, mut x: OutletId) -> TractResult<OutletId> {
        let sizes = Sizes::of(self.bundle.manifest());
        let (count, rows, prefix) = (sizes.count, sizes.rows, sizes.prefix);
        let (width, heads, all) = (sizes.width, sizes.heads, sizes.all());
        let (block, last, d) = (&block.name, block.last, width / heads);
        let mut qkv = self.qkv(block, x, width)?;
        for part in &mut qkv {
            // [K rows, width] to [K, heads, rows, d].
            let name = format!("{block}.heads");
            *part = self.reshape(&name, *part, &[all, width], &[count, rows, heads, d])?;
            *part = self.shift(&name, *part, 1, 2)?;
        }
        let [mut q, mut k, mut v] = qkv;
        for (own, name) in [(&mut k, "prefix_keys"), (&mut v, "prefix_values")] {
            let name = format!("{block}.{name}");
            let values = self.values(&name, &[prefix, width])?;
            // [prefix, heads, d] to [heads, prefix, d], as often as there are prompts.
            let mut cached = Tensor::from_shape(&[prefix, heads, d], &values)?.move_axis(0, 1)?;
            cached.insert_axis(0)?;
            let cached = Tensor::stack_tensors(0, &vec![cached; count])?;
            let cached = self.constant(&name, cached.cast_to_dt(self.numbers)?.into_owned())?;
            *own = self.wire(&name, TypedConcat::new(2), &[cached, *own])?;
        }
        let hidden = (0..rows).flat_map(|i| {
            (0..prefix + rows).map(move |j| if j > prefix + i { HIDDEN } else { 0.0 })
        });
        let shape = [1, 1, rows, prefix + rows];
        let mut visible = Tensor::from_shape(&shape, &hidden.collect::<Vec<_>>())?;
        let mut active = rows;
        if last {
            // Only the end token's row is read.
            active = 1;
            q = self.slice(&format!("{block}.q.end"), q, 2, rows - 1, rows)?;
            visible = visible.slice(2, rows - 1, rows)?;
            let name = format!("{block}.end");
            x = self.reshape(&name, x, &[all, width], &[count, rows, width])?;
            x = self.slice(&name, x, 1, rows - 1, rows)?;
            x = self.wire(&name, AxisOp::Rm(1), &[x])?;
        }
        let name = format!("{block}.attention");
        let out = self.soft_attention(&name, [q, k, v], d, Some(visible))?;
        let name = format!("{block}.joined");
        let out = self.shift(&name, out, 2, 1)?;
        let shape = [count, active, heads, d];
        let out = self.reshape(&name, out, &shape, &[count * active, width])?;
        let layer = format!("{block}.out");
        self.onto(&layer, &layer, 1.0, [out, x], [width, width])
    }

    fn mlp(&mut self, block: &Block, x: OutletId) -> TractResult<OutletId> {
        let width = self.bundle.manifest().text.width;
        self.dense(&block.name, x, width)
    }

    fn finish(&mut self, x: OutletId) -> TractResult<OutletId> {
        let sizes = Sizes::of(self.bundle.manifest());
        let x = self.layer_norm("ln_final", x, sizes.width, f32::datum_type())?;
        let sum = self.sum("sum", x, 0)?;
        let mean = self.scale("mean", sum, 1.0 / sizes.count as f32)?;
        let shape = [sizes.width, sizes.width];
        let projection = self.weights("projection", shape, f32::datum_type())?;
        self.product("projected", mean, projection)
    }
}
