//! The image encoder's steps in standard operators.

use super::Graph;
use crate::bundle::tap::{Form, Rows, Tap};
use crate::vision::blocks::{Block, Steps};
use std::ops::Range;
use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;

impl Graph<'_> {
    /// The numbers that a tap is projected in: what a single row says of the whole picture is never rounded.
    fn tap_numbers(&self, tap: &Tap) -> DatumType {
        match tap.rows {
            Rows::Class => f32::datum_type(),
            _ => self.numbers,
        }
    }

    /// `x + out(joined heads)`; both streams share the layer.
    fn joined(
        &mut self,
        block: &Block,
        part: &str,
        [out, x]: [OutletId; 2],
        rows: usize,
    ) -> TractResult<OutletId> {
        let vision = &self.bundle.manifest().vision;
        let (width, heads) = (vision.width, vision.heads);
        let name = format!("{}.{part}", block.name);
        let out = self.join(&format!("{name}.joined"), out, rows, heads, width)?;
        let layer = format!("{}.out", block.name);
        self.onto(&name, &layer, 1.0, [out, x], [width, width])
    }
}

impl Steps for Graph<'_> {
    type Error = TractError;

    fn embed(&mut self) -> TractResult<OutletId> {
        let manifest = self.bundle.manifest();
        let (width, image) = (manifest.vision.width, &manifest.image);
        let (p, grid, size) = (image.patch, image.grid(), image.size);
        let patches = grid * grid;
        let image = self.model.add_source("image", f32::fact([3, size, size]))?;
        // [3, S, S] to [N, 3 p p], columns in (channel, y, x) order.
        let x = self.reshape("cells", image, &[3, size, size], &[3, grid, p, grid, p])?;
        let x = self.shift("rows", x, 1, 0)?;
        let x = self.shift("columns", x, 3, 1)?;
        let x = self.reshape("unfold", x, &[grid, grid, 3, p, p], &[patches, 3 * p * p])?;
        let conv1 = self.weights("conv1", [width, 3 * p * p], self.numbers)?;
        let x = self.product("conv1.product", x, conv1)?;
        let x = self.cast("conv1.f32", x, f32::datum_type())?;
        let positions = self.tensor("positions", &[patches, width])?;
        let x = self.add("embedded", x, positions)?;
        let class = self.tensor("class_row", &[1, width])?;
        let x = self.wire("tokens", TypedConcat::new(0), &[class, x])?;
        match manifest.text.is_none() {
            true => Ok(x),
            false => self.layer_norm("ln_pre", x, width, f32::datum_type()),
        }
    }

    fn registers(&mut self, x: OutletId) -> TractResult<OutletId> {
        let manifest = self.bundle.manifest();
        let behind = self.tensor("registers", &[manifest.registers, manifest.vision.width])?;
        self.wire("tokens.registers", TypedConcat::new(0), &[x, behind])
    }

    fn learned_rows(&mut self, block: &Block, _: OutletId) -> TractResult<OutletId> {
        bail!("{}: learned rows in the blocks", block.name)
    }

    fn attend(
        &mut self,
        block: &Block,
        mut x: OutletId,
        y: Option<OutletId>,
    ) -> TractResult<(OutletId, Option<OutletId>)> {
        let (name, vision) = (&block.name, &self.bundle.manifest().vision);
        let (width, heads) = (vision.width, vision.heads);
        let mut qkv = self.qkv(name, x, width)?;
        for part in &mut qkv {
            *part = self.heads(&format!("{name}.heads"), *part, block.rows, heads, width)?;
        }
        let [mut q, k, v] = qkv;
        if block.class_only {
            q = self.slice(&format!("{name}.q.class"), q, 1, 0, 1)?;
            x = self.slice(&format!("{name}.class"), x, 0, 0, 1)?;
        }
        let out = self.attention(&format!("{name}.attention"), [q, k, v], width / heads)?;
        x = self.joined(block, "out", [out, x], block.active())?;
        let Some(y) = y else {
            return Ok((x, None));
        };
        let out = self.attention(&format!("{name}.vv"), [v, v, v], width / heads)?;
        let y = self.joined(block, "vv_out", [out, y], block.rows)?;
        Ok((x, Some(y)))
    }

    fn mlp(&mut self, block: &Block, x: OutletId) -> TractResult<OutletId> {
        let width = self.bundle.manifest().vision.width;
        self.dense(&block.name, x, width)
    }

    fn pick(&mut self, tap: &Tap, x: OutletId, rows: Range<usize>) -> TractResult<OutletId> {
        self.slice(&label(tap), x, 0, rows.start, rows.end)
    }

    fn ln_post(&mut self, tap: &Tap, x: OutletId) -> TractResult<OutletId> {
        let to = match tap.form {
            Form::LnPost => f32::datum_type(),
            _ => self.tap_numbers(tap),
        };
        let width = self.bundle.manifest().vision.width;
        self.layer_norm("ln_post", x, width, to)
    }

    fn project(&mut self, tap: &Tap, x: OutletId) -> TractResult<OutletId> {
        let manifest = self.bundle.manifest();
        let shape = [manifest.embed(), manifest.vision.width];
        let weights = self.weights("proj", shape, self.tap_numbers(tap))?;
        let x = self.product(&format!("{}.product", label(tap)), x, weights)?;
        self.cast(&format!("{}.f32", label(tap)), x, f32::datum_type())
    }
}

/// A tap's name, as names of nodes are.
fn label(tap: &Tap) -> String {
    format!("{tap}").replace(' ', ".")
}
