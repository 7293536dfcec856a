//! The whole frame as one tract model of standard operators, which tract's GPU runtimes know how to move.
//!
//! The same steps as `vision::encoder`, `faprompt::adaptation` and `faprompt::score` in the same order, so that
//! the numbers agree; what those fuse for a CPU's caches is written out here, because a GPU runtime fuses
//! by rules of its own. Products are computed in the numbers that the caller names (f16 on a GPU); the
//! residual streams, normalisations, scores and single rows are always f32.

use crate::bundle::manifest::{ActivationKind, Selection};
use crate::bundle::tap::{self, Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::AdaptationMode;
use crate::faprompt::score::normalise_rows;
use crate::ops::activation::QUICK_GELU;
use crate::ops::slice;
use tract_core::internal::*;
use tract_core::ops::array::{Gather, Slice, Topk, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math;
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Sigmoid, Silu, Softmax, SoftmaxKind};

/// A score that no softmax gives weight to, finite in f16.
const HIDDEN: f32 = -1e4;

/// The model of a bundle: a normalised frame [3, S, S] f32 to, all f32, patch scores [N, 1], adapted patch
/// scores [N, 1], image probability [1, 1], adapted abnormal prototype [1, C], unit length, unless adaptation
/// is off the prior [1, C], and then each of `taps` as [`Encoder::taps`](crate::vision::Encoder::taps) has it.
///
/// # Errors
/// A tap that the encoder does not have; tensors that are missing or of other shapes than the manifest says.
pub fn frame(
    bundle: &Bundle,
    adaptation: AdaptationMode,
    taps: &[Tap],
    numbers: DatumType,
) -> Result<TypedModel, BundleError> {
    let manifest = bundle.manifest();
    let layers = manifest.vision.layers;
    let mut all = vec![Tap::faprompt_patches(layers), Tap::faprompt_image(layers)];
    all.extend(taps);
    all.iter()
        .try_for_each(|tap| tap.check(layers, manifest.vv_layers))?;
    let graph = Graph {
        bundle,
        numbers,
        part: "encoder",
        known: HashMap::new(),
        model: TypedModel::default(),
    };
    graph
        .build(adaptation, &all)
        .map_err(|e| BundleError::architecture("gpu", format!("{e:#}")))
}

/// The image encoder of a bundle alone: a normalised frame [3, S, S] f32 to each of `taps`, f32.
///
/// # Errors
/// As [`frame`].
pub fn encoder(
    bundle: &Bundle,
    taps: &[Tap],
    numbers: DatumType,
) -> Result<TypedModel, BundleError> {
    let manifest = bundle.manifest();
    taps.iter()
        .try_for_each(|tap| tap.check(manifest.vision.layers, manifest.vv_layers))?;
    let mut graph = Graph {
        bundle,
        numbers,
        part: "encoder",
        known: HashMap::new(),
        model: TypedModel::default(),
    };
    let mut build = || {
        let rows = graph.encoder(taps)?;
        graph.model.select_output_outlets(&rows)
    };
    build().map_err(|e| BundleError::architecture("gpu", format!("{e:#}")))?;
    Ok(graph.model)
}

struct Graph<'a> {
    bundle: &'a Bundle,
    numbers: DatumType,
    /// The part of the bundle whose tensors are wanted, and the names' beginning.
    part: &'static str,
    /// Where the bundle's tensors lie: the output projection of a block is used twice.
    known: HashMap<String, OutletId>,
    model: TypedModel,
}

impl Graph<'_> {
    /// The whole frame; the first two taps are FAPrompt's.
    fn build(mut self, adaptation: AdaptationMode, taps: &[Tap]) -> TractResult<TypedModel> {
        let manifest = self.bundle.manifest().clone();
        let width = manifest.text.width;
        let rows = self.encoder(taps)?;
        self.part = "scores";
        let patches = self.unit("patches", rows[0], width)?;
        let image = self.unit("image", rows[1], width)?;
        self.part = "prototypes";
        let [normal, abnormal] = [
            self.prototype("normal", width)?,
            self.prototype("abnormal", width)?,
        ];
        self.part = "scores";
        let direction = self.direction("unadapted", normal, abnormal)?;
        let scores = self.abnormality("patch_scores", patches, direction)?;

        let prior = match adaptation {
            AdaptationMode::Off => None,
            _ => {
                let selected = self.select(patches, scores)?;
                Some(self.prior(selected)?)
            }
        };
        let adapted = match (prior, adaptation) {
            (Some(prior), AdaptationMode::Exact) => self.tower(prior)?,
            (Some(prior), _) => {
                self.part = "linear";
                let jacobian = self.weights("jacobian", [width, width], f32::datum_type())?;
                let change = self.product("change", prior, jacobian)?;
                self.part = "prototypes";
                let mean = self.tensor("abnormal", &[1, width])?;
                self.add("adapted", change, mean)?
            }
            (None, _) => abnormal,
        };
        self.part = "adapted";
        let adapted = self.unit("abnormal", adapted, width)?;
        let direction = self.direction("adapted", normal, adapted)?;
        let scores_adapted = self.abnormality("patch_scores", patches, direction)?;
        let probability = self.abnormality("image_probability", image, direction)?;
        let mut outputs = vec![scores, scores_adapted, probability, adapted];
        outputs.extend(prior);
        outputs.extend(&rows[2..]);
        self.model.select_output_outlets(&outputs)?;
        Ok(self.model)
    }

    /// The rows of each tap.
    fn encoder(&mut self, taps: &[Tap]) -> TractResult<Vec<OutletId>> {
        let manifest = self.bundle.manifest().clone();
        let (width, layers, heads) = (
            manifest.vision.width,
            manifest.vision.layers,
            manifest.vision.heads,
        );
        let (p, grid, size) = (
            manifest.image.patch,
            manifest.image.grid(),
            manifest.image.size,
        );
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
        let mut x = match manifest.text.is_none() {
            true => x,
            false => self.layer_norm("ln_pre", x, width, f32::datum_type())?,
        };
        let mut found = vec![None; taps.len()];
        self.take(taps, (0, Stream::X), x, &mut found)?;
        let registers = manifest.registers;
        if registers > 0 {
            let behind = self.tensor("registers", &[registers, width])?;
            x = self.wire("tokens.registers", TypedConcat::new(0), &[x, behind])?;
        }
        let tokens = 1 + patches + registers;
        let mut y = None;
        let (depth, y_depth) = tap::depths(taps);
        for i in 0..depth {
            let block = format!("blocks.{i}");
            let vv = i + manifest.vv_layers >= layers && i < y_depth;
            if vv && y.is_none() {
                y = Some(x);
            }
            let mut qkv = self.qkv(&block, x, width)?;
            for part in &mut qkv {
                *part = self.heads(&format!("{block}.heads"), *part, tokens, heads, width)?;
            }
            let [mut q, k, v] = qkv;
            let mut rows = tokens;
            if !tap::patches_needed(taps, i + 1) {
                // Only the class row of x is looked at after this block.
                rows = 1;
                q = self.slice(&format!("{block}.q.class"), q, 1, 0, 1)?;
                x = self.slice(&format!("{block}.class"), x, 0, 0, 1)?;
            }
            let out = self.attention(&format!("{block}.attention"), [q, k, v], width / heads)?;
            let out = self.join(&format!("{block}.joined"), out, rows, heads, width)?;
            let layer = format!("{block}.out");
            x = self.onto(&layer, &layer, 1.0, [out, x], [width, width])?;
            if let (Some(stream), true) = (y, vv) {
                let out = self.attention(&format!("{block}.vv"), [v, v, v], width / heads)?;
                let out = self.join(
                    &format!("{block}.vv_joined"),
                    out,
                    1 + patches,
                    heads,
                    width,
                )?;
                let name = format!("{block}.vv_out");
                let next = self.onto(&name, &layer, 1.0, [out, stream], [width, width])?;
                self.take(taps, (i + 1, Stream::Y), next, &mut found)?;
                y = Some(next);
            }
            x = self.mlp(&block, x, width)?;
            self.take(taps, (i + 1, Stream::X), x, &mut found)?;
        }
        found
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .context("a tap was not met")
    }

    /// Wires every tap of a stream after a block, whose rows are `rows`: all of them, or the class row alone
    /// where no tap wants more.
    fn take(
        &mut self,
        taps: &[Tap],
        (block, stream): (usize, Stream),
        rows: OutletId,
        found: &mut [Option<OutletId>],
    ) -> TractResult<()> {
        let (width, embed) = (
            self.bundle.manifest().vision.width,
            self.bundle.manifest().embed(),
        );
        let patches = self.bundle.manifest().image.grid().pow(2);
        for (tap, found) in taps.iter().zip(found) {
            if (tap.block, tap.stream) != (block, stream) {
                continue;
            }
            let all = self.model.outlet_fact(rows)?.shape[0].to_usize()?;
            // Registers stand behind the patches.
            let last = all.min(1 + patches);
            let span = match tap.rows {
                Rows::All => 0..last,
                Rows::Class => 0..1,
                Rows::Patches => 1..last,
            };
            let name = format!("{tap}").replace(' ', ".");
            let mut picked = match span.len() == all {
                true => rows,
                false => self.slice(&name, rows, 0, span.start, span.end)?,
            };
            // What a single row says of the whole picture is never rounded.
            let numbers = match tap.rows {
                Rows::Class => f32::datum_type(),
                _ => self.numbers,
            };
            if matches!(tap.form, Form::LnPost | Form::Projected) {
                let to = match tap.form {
                    Form::LnPost => f32::datum_type(),
                    _ => numbers,
                };
                picked = self.layer_norm("ln_post", picked, width, to)?;
            }
            if matches!(tap.form, Form::Projected | Form::ProjectedRaw) {
                let weights = self.weights("proj", [embed, width], numbers)?;
                picked = self.product(&format!("{name}.product"), picked, weights)?;
                picked = self.cast(&format!("{name}.f32"), picked, f32::datum_type())?;
            }
            *found = Some(picked);
        }
        Ok(())
    }
}

/// The prompt side: prior and tower.
impl Graph<'_> {
    /// The normalised features of the patches that feed the prior, [1, M C].
    fn select(&mut self, patches: OutletId, scores: OutletId) -> TractResult<OutletId> {
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
    fn prior(&mut self, selected: OutletId) -> TractResult<OutletId> {
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

    /// The raw mean of the K adapted abnormal features, [1, C].
    fn tower(&mut self, prior: OutletId) -> TractResult<OutletId> {
        let manifest = self.bundle.manifest().clone();
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
        self.part = "tower";
        let base = self.tensor("suffix", &[all, width])?;
        let shifted = (0..all).map(|i| f32::from(u8::from(i % rows < prompts.abnormal_tokens)));
        let shifted = Tensor::from_shape(&[all, 1], &shifted.collect::<Vec<_>>())?;
        let shifted = self.constant("shifted", shifted)?;
        let shift = self.multiply("shift", shifted, prior)?;
        let mut x = self.add("embedded", base, shift)?;
        let hidden = (0..rows).flat_map(|i| {
            (0..prefix + rows).map(move |j| if j > prefix + i { HIDDEN } else { 0.0 })
        });
        let mask = Tensor::from_shape(&[1, 1, rows, prefix + rows], &hidden.collect::<Vec<_>>())?;
        for i in 0..layers {
            let block = format!("blocks.{i}");
            if overhang > 0 && (1..=prompts.deep_blocks).contains(&i) {
                let with = self.values(&format!("{block}.deep"), &[overhang, width])?;
                let with = Tensor::from_shape(&[count, overhang, width], &with.repeat(count))?;
                let with = self.constant(&format!("{block}.deep"), with)?;
                let name = format!("{block}.deepened");
                x = self.reshape(&name, x, &[all, width], &[count, rows, width])?;
                x = self.slice(&name, x, 1, overhang, rows)?;
                x = self.wire(&name, TypedConcat::new(1), &[with, x])?;
                x = self.reshape(&name, x, &[count, rows, width], &[all, width])?;
            }
            let d = width / heads;
            let mut qkv = self.qkv(&block, x, width)?;
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
                let mut cached =
                    Tensor::from_shape(&[prefix, heads, d], &values)?.move_axis(0, 1)?;
                cached.insert_axis(0)?;
                let cached = Tensor::stack_tensors(0, &vec![cached; count])?;
                let cached = self.constant(&name, cached.cast_to_dt(self.numbers)?.into_owned())?;
                *own = self.wire(&name, TypedConcat::new(2), &[cached, *own])?;
            }
            let last = i + 1 == layers;
            let mut active = rows;
            let mut visible = mask.clone();
            if last {
                // Only the end token's row is read.
                active = 1;
                q = self.slice(&format!("{block}.q.end"), q, 2, rows - 1, rows)?;
                visible = mask.slice(2, rows - 1, rows)?;
                let name = format!("{block}.end");
                x = self.reshape(&name, x, &[all, width], &[count, rows, width])?;
                x = self.slice(&name, x, 1, rows - 1, rows)?;
                x = self.wire(&name, AxisOp::Rm(1), &[x])?;
            }
            let out =
                self.soft_attention(&format!("{block}.attention"), [q, k, v], d, Some(visible))?;
            let name = format!("{block}.joined");
            let out = self.shift(&name, out, 2, 1)?;
            let out = self.reshape(
                &name,
                out,
                &[count, active, heads, d],
                &[count * active, width],
            )?;
            let layer = format!("{block}.out");
            x = self.onto(&layer, &layer, 1.0, [out, x], [width, width])?;
            x = self.mlp(&block, x, width)?;
        }
        let x = self.layer_norm("ln_final", x, width, f32::datum_type())?;
        let sum = self.sum("sum", x, 0)?;
        let mean = self.scale("mean", sum, 1.0 / count as f32)?;
        let projection = self.weights("projection", [width, width], f32::datum_type())?;
        self.product("projected", mean, projection)
    }

    /// A dense layer on a single row, never rounded.
    fn row(&mut self, name: &str, x: OutletId, shape: [usize; 2]) -> TractResult<OutletId> {
        let weights = self.weights(&format!("{name}.weight"), shape, f32::datum_type())?;
        let bias = self.vector(&format!("{name}.bias"), shape[0], f32::datum_type())?;
        let sum = self.product(name, x, weights)?;
        self.add(&format!("{name}.sum"), sum, bias)
    }
}

/// What both towers are made of.
impl Graph<'_> {
    /// `gamma * (x - mean) / sqrt(var + epsilon) + beta` of each row, as `to`.
    fn layer_norm(
        &mut self,
        name: &str,
        x: OutletId,
        width: usize,
        to: DatumType,
    ) -> TractResult<OutletId> {
        let gamma = self.vector(&format!("{name}.weight"), width, f32::datum_type())?;
        let beta = self.vector(&format!("{name}.bias"), width, to)?;
        let sum = self.sum(&format!("{name}.sum"), x, 1)?;
        let mean = self.scale(&format!("{name}.mean"), sum, 1.0 / width as f32)?;
        let x = self.wire(&format!("{name}.centred"), math::sub(), &[x, mean])?;
        // Of a centred row the mean square is the variance.
        let norm = RmsNorm {
            axis: 1,
            eps: tensor0(self.bundle.manifest().epsilon(self.part)).into_arc_tensor(),
        };
        let x = self.wire(&format!("{name}.normed"), norm, &[x])?;
        let x = self.multiply(&format!("{name}.scaled"), x, gamma)?;
        let x = self.cast(&format!("{name}.cast"), x, to)?;
        self.add(&format!("{name}.shifted"), x, beta)
    }

    /// Queries, keys and values of a block, each [rows, width].
    fn qkv(&mut self, block: &str, x: OutletId, width: usize) -> TractResult<[OutletId; 3]> {
        let normed = self.layer_norm(&format!("{block}.ln_1"), x, width, self.numbers)?;
        let (name, shape) = (format!("{block}.qkv"), [3 * width, width]);
        let weights = self.weights(&format!("{name}.weight"), shape, self.numbers)?;
        let bias = self.vector(&format!("{name}.bias"), 3 * width, self.numbers)?;
        let qkv = self.product(&name, normed, weights)?;
        let qkv = self.add(&format!("{name}.sum"), qkv, bias)?;
        let mut parts = [qkv; 3];
        for (i, part) in parts.iter_mut().enumerate() {
            *part = self.slice(&format!("{name}.{i}"), qkv, 1, i * width, (i + 1) * width)?;
        }
        Ok(parts)
    }

    /// `x + layer(out / factor)` in f32.
    fn onto(
        &mut self,
        name: &str,
        layer: &str,
        factor: f32,
        [out, x]: [OutletId; 2],
        shape: [usize; 2],
    ) -> TractResult<OutletId> {
        let weights = self.scaled_weights(
            &format!("{layer}.weight"),
            shape,
            self.numbers,
            1.0 / factor,
        )?;
        let bias = self.vector(&format!("{layer}.bias"), shape[0], f32::datum_type())?;
        let sum = self.product(&format!("{name}.product"), out, weights)?;
        let sum = self.cast(&format!("{name}.cast"), sum, f32::datum_type())?;
        let sum = self.add(&format!("{name}.sum"), sum, bias)?;
        self.add(name, x, sum)
    }

    /// `x + c_proj(activation(c_fc(ln_2 x)))`.
    fn mlp(&mut self, block: &str, x: OutletId, width: usize) -> TractResult<OutletId> {
        let quick = self.bundle.manifest().activation == ActivationKind::QuickGelu;
        // 1.702 QuickGELU(x) = silu(1.702 x): both factors go into the weights.
        let factor = if quick { QUICK_GELU } else { 1.0 };
        let normed = self.layer_norm(&format!("{block}.ln_2"), x, width, self.numbers)?;
        let fc = format!("{block}.fc");
        let shape = [4 * width, width];
        let weights = self.scaled_weights(&format!("{fc}.weight"), shape, self.numbers, factor)?;
        let name = format!("{fc}.bias");
        let bias = self.once(&name, self.numbers, |graph| {
            let values = graph.values(&name, &[4 * width])?;
            let values: Vec<f32> = values.iter().map(|b| b * factor).collect();
            Tensor::from_shape(&[1, 4 * width], &values)
        })?;
        let h = self.product(&fc, normed, weights)?;
        let h = self.add(&format!("{fc}.sum"), h, bias)?;
        let h = if quick {
            self.wire(
                &format!("{fc}.silu"),
                ElementWiseOp(Box::new(Silu {}), None),
                &[h],
            )?
        } else {
            self.gelu(&format!("{fc}.gelu"), h)?
        };
        let shape = [width, 4 * width];
        self.onto(
            &format!("{block}.mlp"),
            &format!("{block}.proj"),
            factor,
            [h, x],
            shape,
        )
    }

    /// x (1 + erf(x / sqrt 2)) / 2.
    fn gelu(&mut self, name: &str, x: OutletId) -> TractResult<OutletId> {
        let scaled = self.scale(name, x, std::f32::consts::FRAC_1_SQRT_2)?;
        let erf = self.wire(name, tract_core::ops::math::erf(), &[scaled])?;
        let half = self.scale(name, erf, 0.5)?;
        let half_constant = tensor2(&[[0.5f32]]).cast_to_dt(self.numbers)?.into_owned();
        let one_half = self.constant(name, half_constant)?;
        let gate = self.add(name, half, one_half)?;
        self.multiply(name, x, gate)
    }

    /// [rows, width] to [heads, rows, width / heads].
    fn heads(
        &mut self,
        name: &str,
        x: OutletId,
        rows: usize,
        heads: usize,
        width: usize,
    ) -> TractResult<OutletId> {
        let x = self.reshape(name, x, &[rows, width], &[rows, heads, width / heads])?;
        self.shift(name, x, 0, 1)
    }

    /// The reverse of [`Graph::heads`].
    fn join(
        &mut self,
        name: &str,
        x: OutletId,
        rows: usize,
        heads: usize,
        width: usize,
    ) -> TractResult<OutletId> {
        let x = self.shift(name, x, 1, 0)?;
        self.reshape(name, x, &[rows, heads, width / heads], &[rows, width])
    }

    /// softmax(q k^T / sqrt(d)) v of each head, [heads, rows, d].
    #[cfg(feature = "cuda-runtime")]
    fn attention(&mut self, name: &str, qkv: [OutletId; 3], d: usize) -> TractResult<OutletId> {
        // The only form that tract's CUDA runtime has a flash attention for; N x N never exists.
        let mut inputs = tvec!();
        for x in qkv {
            inputs.push(self.wire(name, AxisOp::Add(0), &[x])?);
        }
        let sdpa = tract_transformers::ops::sdpa::Sdpa {
            scale: Some(tensor0(1.0 / (d as f32).sqrt())),
            datum_type: self.numbers,
            acc_datum_type: f32::datum_type(),
            is_causal: false,
        };
        let out = self.wire(name, sdpa, &inputs)?;
        self.wire(name, AxisOp::Rm(0), &[out])
    }

    /// softmax(q k^T / sqrt(d)) v of each head, [heads, rows, d].
    #[cfg(not(feature = "cuda-runtime"))]
    fn attention(&mut self, name: &str, qkv: [OutletId; 3], d: usize) -> TractResult<OutletId> {
        self.soft_attention(name, qkv, d, None)
    }

    /// softmax(q k^T / sqrt(d) + mask) v, the last two axes of each.
    fn soft_attention(
        &mut self,
        name: &str,
        [q, k, v]: [OutletId; 3],
        d: usize,
        mask: Option<Tensor>,
    ) -> TractResult<OutletId> {
        let q = self.scale(name, q, 1.0 / (d as f32).sqrt())?;
        let (rank, batch) = match self.model.outlet_fact(q)?.rank() {
            4 => (4, "ab"),
            rank => (rank, "a"),
        };
        let axes = |formula: &str| formula.replace('_', batch).parse();
        let scores = EinSum::new(axes("_md,_nd->_mn")?, self.numbers);
        let mut scores = self.wire(name, scores, &[q, k])?;
        if let Some(mask) = mask {
            let mask = mask.cast_to_dt(self.numbers)?.into_owned();
            let mask = self.constant(name, mask)?;
            scores = self.add(name, scores, mask)?;
        }
        let softmax = Softmax::new(tvec![rank - 1], None, SoftmaxKind::Softmax);
        let weights = self.wire(name, softmax, &[scores])?;
        let sum = EinSum::new(axes("_mn,_nd->_md")?, self.numbers);
        self.wire(name, sum, &[weights, v])
    }

    /// A prototype of the bundle, unit length, [1, C].
    fn prototype(&mut self, name: &str, width: usize) -> TractResult<OutletId> {
        let mut values = self.values(name, &[width])?;
        normalise_rows(&mut values, width);
        self.constant(name, Tensor::from_shape(&[1, width], &values)?)
    }

    /// Rows of unit length; a row of zeros stays as it is.
    fn unit(&mut self, name: &str, x: OutletId, width: usize) -> TractResult<OutletId> {
        let norm = RmsNorm {
            axis: 1,
            // So small that only a row of zeros notices.
            eps: tensor0(f32::MIN_POSITIVE).into_arc_tensor(),
        };
        let x = self.wire(&format!("{name}.rms"), norm, &[x])?;
        self.scale(&format!("{name}.unit"), x, 1.0 / (width as f32).sqrt())
    }

    /// abnormal - normal.
    fn direction(
        &mut self,
        name: &str,
        normal: OutletId,
        abnormal: OutletId,
    ) -> TractResult<OutletId> {
        self.wire(
            &format!("{name}.direction"),
            math::sub(),
            &[abnormal, normal],
        )
    }

    /// softmax([x . normal, x . abnormal] / T)[1] of each row: the logistic function of their distance.
    fn abnormality(
        &mut self,
        name: &str,
        x: OutletId,
        direction: OutletId,
    ) -> TractResult<OutletId> {
        let logits = self.product(&format!("{name}.logits"), x, direction)?;
        let temperature = self.bundle.manifest().scores.temperature;
        let logits = self.scale(&format!("{name}.scaled"), logits, 1.0 / temperature)?;
        self.wire(name, ElementWiseOp(Box::new(Sigmoid {}), None), &[logits])
    }
}

/// Single operators and tensors.
impl Graph<'_> {
    fn name(&self, name: &str) -> String {
        let name = format!("{}.{name}", self.part);
        self.model.unique_name(name).into_owned()
    }

    fn wire(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        let name = self.name(name);
        Ok(self.model.wire_node(name, op, inputs)?[0])
    }

    fn constant(&mut self, name: &str, value: Tensor) -> TractResult<OutletId> {
        let name = self.name(name);
        self.model.add_const(name, value)
    }

    /// The tensor `part/name` as numbers.
    fn values(&self, name: &str, shape: &[usize]) -> TractResult<Vec<f32>> {
        let tensor = self
            .bundle
            .tensor(&format!("{}/{name}", self.part), shape)?;
        Ok(slice(&tensor)?.to_vec())
    }

    /// The tensor `part/name`, of as many elements as `shape` has.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> TractResult<OutletId> {
        // Prototypes and the class row are stored without the leading axis of one.
        let stored = if shape[0] == 1 { &shape[1..] } else { shape };
        let values = self.values(name, stored)?;
        self.constant(name, Tensor::from_shape(shape, &values)?)
    }

    /// The tensor `part/name` [len] as a row [1, len] of `numbers`.
    fn vector(&mut self, name: &str, len: usize, numbers: DatumType) -> TractResult<OutletId> {
        self.once(name, numbers, |graph| {
            Tensor::from_shape(&[1, len], &graph.values(name, &[len])?)
        })
    }

    /// A tensor of the bundle in these numbers, on the device once.
    fn once(
        &mut self,
        name: &str,
        numbers: DatumType,
        make: impl FnOnce(&Self) -> TractResult<Tensor>,
    ) -> TractResult<OutletId> {
        let key = format!("{}/{name} {numbers:?}", self.part);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let tensor = make(self)?.cast_to_dt(numbers)?.into_owned();
        let outlet = self.constant(name, tensor)?;
        self.known.insert(key, outlet);
        Ok(outlet)
    }

    fn weights(
        &mut self,
        name: &str,
        shape: [usize; 2],
        numbers: DatumType,
    ) -> TractResult<OutletId> {
        self.scaled_weights(name, shape, numbers, 1.0)
    }

    /// The matrix `part/name` [outputs, inputs] times `factor`.
    fn scaled_weights(
        &mut self,
        name: &str,
        shape: [usize; 2],
        numbers: DatumType,
        factor: f32,
    ) -> TractResult<OutletId> {
        self.once(name, numbers, |graph| {
            let name = format!("{}/{name}", graph.part);
            let mut values = graph.bundle.matrix(&name, shape)?.values()?;
            if factor != 1.0 {
                values.iter_mut().for_each(|v| *v *= factor);
            }
            Tensor::from_shape(&shape, &values)
        })
    }

    /// `x` [rows, inputs] times the transpose of `weights` [outputs, inputs], in the weights' numbers.
    fn product(&mut self, name: &str, x: OutletId, weights: OutletId) -> TractResult<OutletId> {
        let numbers = self.model.outlet_fact(weights)?.datum_type;
        let x = self.cast(&format!("{name}.input"), x, numbers)?;
        self.wire(
            name,
            EinSum::new("mk,nk->mn".parse()?, numbers),
            &[x, weights],
        )
    }

    fn cast(&mut self, name: &str, x: OutletId, to: DatumType) -> TractResult<OutletId> {
        if self.model.outlet_fact(x)?.datum_type == to {
            return Ok(x);
        }
        self.wire(name, cast(to), &[x])
    }

    fn add(&mut self, name: &str, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.wire(name, math::add(), &[a, b])
    }

    fn multiply(&mut self, name: &str, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.wire(name, math::mul(), &[a, b])
    }

    /// `x` times a number.
    fn scale(&mut self, name: &str, x: OutletId, factor: f32) -> TractResult<OutletId> {
        let fact = self.model.outlet_fact(x)?;
        let factor = tensor0(factor)
            .cast_to_dt(fact.datum_type)?
            .into_owned()
            .broadcast_into_rank(fact.rank())?;
        let factor = self.constant(&format!("{name}.factor"), factor)?;
        self.multiply(name, x, factor)
    }

    /// The sum along an axis, which stays as one of length 1.
    fn sum(&mut self, name: &str, x: OutletId, axis: usize) -> TractResult<OutletId> {
        self.wire(name, Reduce::new(tvec![axis], Reducer::Sum), &[x])
    }

    fn slice(
        &mut self,
        name: &str,
        x: OutletId,
        axis: usize,
        from: usize,
        to: usize,
    ) -> TractResult<OutletId> {
        self.wire(name, Slice::new(axis, from, to), &[x])
    }

    /// Moves an axis to another place.
    fn shift(&mut self, name: &str, x: OutletId, from: usize, to: usize) -> TractResult<OutletId> {
        self.wire(name, AxisOp::Move(from, to), &[x])
    }

    /// The same elements in another shape.
    fn reshape(
        &mut self,
        name: &str,
        x: OutletId,
        from: &[usize],
        to: &[usize],
    ) -> TractResult<OutletId> {
        let dims = |shape: &[usize]| shape.iter().map(|d| d.to_dim()).collect();
        self.wire(name, AxisOp::Reshape(0, dims(from), dims(to)), &[x])
    }
}
