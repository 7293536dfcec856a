//! Any other image encoder, as an ONNX file: read and checked here, kept as NNEF in the bundle.
//!
//! `tract-onnx` reads the file with a fixed size of input; what a memory of good parts compares (`--taps`) becomes
//! rows on one grid. What cannot be run is named: operators, inputs, shapes.

mod bundle;
mod refuse;
mod teacher;

pub(in crate::train) use teacher::Teacher;

use super::TrainError;
use super::backbone::{MEAN, STD, config::Said};
use super::clip::Overrides;
use super::tensors::{files_digest, onnx_files};
use crate::bundle::manifest::ImageSpec;
use crate::bundle::network::NetworkTap;
use refuse::{advice, refuse_miscomputed, refuse_quantised};
use std::path::{Path, PathBuf};
use tract_onnx::prelude::tract_itertools::Itertools;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Slice;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::unimpl::UnimplementedOp;
use tract_onnx::tract_hir::infer::Factoid;

/// Rows before the patches that a ViT may have: the class token, and DINOv2's four registers.
const BEFORE_PATCHES: [usize; 3] = [0, 1, 5];
/// The coarsest grid that a side without a better divisor is given, in parts of the finest tap's.
const COARSEST: f64 = 0.5;

/// What the user says of the file.
pub struct Asked<'a> {
    /// Names of what the memory compares: outputs, tensors or nodes of the graph.
    pub taps: &'a [String],
    /// Side of the input in pixels; the file's own if none.
    pub image_size: Option<usize>,
    /// Places per side that the taps are brought to; near the finest tap's if none.
    pub grid: Option<usize>,
    /// Normalisation and resizing.
    pub overrides: &'a Overrides,
}

/// An encoder that was read.
pub struct Network {
    /// Path of the file.
    pub path: PathBuf,
    /// SHA-256 of the file; of one that keeps numbers in others, of the digests of all.
    pub digest: String,
    /// How a frame is resized and normalised.
    pub image: ImageSpec,
    /// What it hands out.
    pub taps: Vec<NetworkTap>,
    /// Multiplications for one frame.
    pub products: u64,
    /// What no configuration said: a sentence each.
    pub assumed: Vec<String>,
    /// Input [3, S, S]; outputs [grid * grid, channels], one per tap.
    model: TypedModel,
    /// The file's names of the model's nodes `n0`, `n1`, ...
    nodes: Vec<String>,
}

impl Network {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: unreadable, or a network that cannot be run here; the message names the operators,
    /// inputs or taps that say so. [`TrainError::Options`]: options that do not fit it.
    pub fn load(path: &Path, asked: &Asked) -> Result<Network, TrainError> {
        let wrong = |what: String| TrainError::Weights {
            path: path.to_path_buf(),
            what,
        };
        let said = Said::of_pictures(path, asked.overrides).map_err(|e| wrong(e.to_string()))?;
        let read = read(path, asked).map_err(|e| wrong(format!("{e:#}")))?;
        let digest = digest(path).map_err(wrong)?;
        let mut assumed = vec![];
        let mut or = |what: &str, option: &str, value: [f32; 3]| {
            assumed.push(format!(
                "{what} of ImageNet (no configuration says it; {option})"
            ));
            value
        };
        let overrides = asked.overrides;
        let mean = overrides.mean.or(said.mean);
        let std = overrides.std.or(said.std);
        let interpolation = overrides.interpolation.or(said.interpolation);
        let model = read.model;
        let facts = model.outputs.iter().map(|o| model.outlet_fact(*o));
        let channels = facts.map(|f| f.ok().and_then(|f| f.shape[1].to_usize().ok()));
        let taps = asked.taps.iter().zip(channels);
        let taps = taps.map(|(name, channels)| NetworkTap {
            name: name.clone(),
            channels: channels.unwrap_or(0),
        });
        Ok(Network {
            taps: taps.collect(),
            path: path.to_path_buf(),
            digest,
            image: ImageSpec {
                size: read.side,
                patch: read.side / read.grid,
                mean: mean.unwrap_or_else(|| or("mean", "--mean", MEAN)),
                std: std.unwrap_or_else(|| or("deviation", "--std", STD)),
                interpolation: interpolation.unwrap_or_default(),
            },
            products: products(&model),
            assumed,
            model,
            nodes: read.nodes,
        })
    }
}

/// What a file was made to.
struct Read {
    /// With rows as outputs.
    model: TypedModel,
    /// The file's names of its nodes `n0`, `n1`, ...
    nodes: Vec<String>,
    side: usize,
    grid: usize,
}

fn read(path: &Path, asked: &Asked) -> TractResult<Read> {
    refuse_quantised(path, asked.taps)?;
    let model = parse(path)?;
    refuse_miscomputed(path, asked.taps)?;
    let (side, channels_last) = input(&model, asked.image_size)?;
    let opened = open(path, model, asked.taps, side, channels_last, false)?;
    let finest = opened.taps.iter().map(|t| t.own).max().unwrap_or(1);
    let grid = grid(side, finest, asked.grid)?;
    let grids = vec![grid; opened.taps.len()];
    let nodes = opened.model.nodes().iter();
    Ok(Read {
        model: rows(&opened, side, &grids)?,
        nodes: nodes.map(|n| n.name.clone()).collect(),
        side,
        grid,
    })
}

/// SHA-256 of a file that was read, and of those beside it that it keeps numbers in.
fn digest(path: &Path) -> Result<String, String> {
    let files = onnx_files(path).map_err(|e| e.to_string())?;
    files_digest(&files).map_err(|e| e.to_string())
}

/// The graph of a file, as it stands there.
fn parse(path: &Path) -> TractResult<InferenceModel> {
    ensure!(
        !path.is_dir(),
        "a folder, where the network's .onnx file is wanted"
    );
    let onnx = tract_onnx::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_output_types(true)
        .with_ignore_value_info(true);
    onnx.model_for_path(path).map_err(|e| {
        let what = format!("{e:#}");
        let beside = match what.contains("external data") {
            true => "; its weights are in a file of their own, which belongs beside it",
            false => "",
        };
        format_err!(
            "no ONNX file that tract reads: {what}{beside}{}",
            advice(path)
        )
    })
}

/// A network whose outputs are taps, for pictures of one size.
struct Opened {
    model: TypedModel,
    channels_last: bool,
    side: usize,
    taps: Vec<Found>,
}

/// A tap that was found.
struct Found {
    name: String,
    kind: Kind,
    /// Places per side.
    own: usize,
}

/// The network for pictures of `side` px, with these taps as its outputs; `whole` says whether one may be a feature
/// of the whole picture.
fn open(
    path: &Path,
    mut model: InferenceModel,
    taps: &[String],
    side: usize,
    channels_last: bool,
    whole: bool,
) -> TractResult<Opened> {
    let shape = match channels_last {
        true => [1, side, side, 3],
        false => [1, 3, side, side],
    };
    model.set_input_fact(0, f32::fact(shape).into())?;
    if taps.is_empty() {
        bail!(
            "--taps names what is compared, as in --taps a,b; maps of it:\n{}",
            maps(model)
        );
    }
    let found = taps.iter().map(|tap| {
        let labelled = model.find_outlet_label(tap);
        let of_node = || model.node_by_name(tap).ok().map(|n| OutletId::new(n.id, 0));
        labelled.or_else(of_node)
    });
    let found: Vec<Option<OutletId>> = found.collect();
    let missing = taps.iter().zip(&found).filter(|(_, f)| f.is_none());
    let missing = missing.map(|(name, _)| format!("`{name}`")).join(", ");
    if !missing.is_empty() {
        bail!(
            "--taps: nothing in it is called {missing}; maps of it:\n{}",
            maps(model)
        );
    }
    let outlets: Vec<OutletId> = found.into_iter().flatten().collect();
    for (outlet, name) in outlets.iter().zip(taps) {
        let first = outlets.iter().position(|o| o == outlet);
        if let Some(other) = first.map(|i| &taps[i]).filter(|o| *o != name) {
            bail!("--taps: `{other}` and `{name}` are the same: one of them is enough");
        }
    }
    model.select_output_outlets(&outlets)?;
    let model = model.into_compact()?;
    let unknown = model.nodes().iter().filter_map(|node| {
        let op = node.op.as_op().downcast_ref::<UnimplementedOp>()?;
        Some(format!(
            "{} ({})",
            op.name()
                .trim_start_matches("Unimplemented")
                .trim_matches(['(', ')']),
            node.name
        ))
    });
    let unknown = unknown.collect_vec();
    if !unknown.is_empty() {
        bail!(
            "operators that are not supported: {}{}",
            unknown.join(", "),
            advice(path)
        );
    }
    let typed = model.into_typed().and_then(|m| m.into_decluttered());
    let model = typed.map_err(|e| match advice(path).as_str() {
        "" => e,
        advice => format_err!("{e:#}{advice}"),
    })?;
    let outlets = model.output_outlets()?.to_vec();
    let found = taps.iter().zip(&outlets).map(|(name, outlet)| {
        let fact = model.outlet_fact(*outlet)?;
        ensure!(
            fact.datum_type == f32::datum_type(),
            "tap `{name}` is {:?}, not f32",
            fact.datum_type
        );
        let shape = fact.shape.as_concrete();
        let shape = shape.with_context(|| format!("tap `{name}` has a size that stays open"))?;
        let (kind, own) = match *shape {
            [1, _] if whole => (Kind::Whole, 1),
            _ => kind(name, shape)?,
        };
        ensure!(
            own > 1 || matches!(kind, Kind::Whole),
            "tap `{name}` has a single place at {side} px: a larger --image-size, or a tap before the pooling"
        );
        Ok(Found {
            name: name.clone(),
            kind,
            own,
        })
    });
    let taps = found.collect::<TractResult<_>>()?;
    Ok(Opened {
        model,
        channels_last,
        side,
        taps,
    })
}

/// The side of the square input, and whether its channels come last.
fn input(model: &InferenceModel, asked: Option<usize>) -> TractResult<(usize, bool)> {
    let names = || {
        model
            .inputs
            .iter()
            .map(|i| &*model.node(i.node).name)
            .join(", ")
    };
    ensure!(
        model.inputs.len() == 1,
        "{} inputs ({}): an image encoder has one, the picture",
        model.inputs.len(),
        names()
    );
    let fact = model.input_fact(0)?;
    let kind = fact.datum_type.concretize();
    if let Some(kind) = kind.filter(|k| *k != f32::datum_type()) {
        bail!("its input is {kind:?}: only f32 pictures are fed, export it in f32");
    }
    let dims: Vec<Option<usize>> = fact
        .shape
        .dims()
        .map(|d| d.concretize().and_then(|d| d.to_usize().ok()))
        .collect();
    ensure!(
        dims.len() == 4,
        "its input has {} axes: a picture is [1, 3, S, S]",
        dims.len()
    );
    if let Some(count) = dims[0].filter(|n| *n != 1) {
        bail!("it wants {count} pictures at once: export it for one, or with that axis left open");
    }
    let last = dims[3] == Some(3) && dims[1] != Some(3);
    let (colours, sides) = match last {
        true => (dims[3], [dims[1], dims[2]]),
        false => (dims[1], [dims[2], dims[3]]),
    };
    if let Some(count) = colours.filter(|c| *c != 3) {
        bail!("it wants {count} channels, a picture has 3");
    }
    let side = match (sides, asked) {
        ([Some(a), Some(b)], _) if a != b => {
            bail!("it wants {a} x {b} pixels: only squares are fed")
        }
        ([Some(own), _] | [_, Some(own)], Some(asked)) if own != asked => {
            bail!(
                "it is made for {own} px: export it with a size that is left open, or without --image-size"
            )
        }
        ([Some(own), _] | [_, Some(own)], _) => own,
        (_, Some(asked)) => asked,
        _ => bail!("it leaves the size of its input open: --image-size says it"),
    };
    Ok((side, last))
}

/// Square maps that a network has, for people who look for taps: of each resolution its outputs, else the last one.
fn maps(model: InferenceModel) -> String {
    let mut model = model;
    // As far as it comes: this is advice.
    let _ = model.analyse(true);
    let mut last: Vec<(usize, bool, String)> = vec![];
    for node in model.nodes() {
        for (slot, output) in node.outputs.iter().enumerate() {
            let outlet = OutletId::new(node.id, slot);
            let dims: Option<Vec<usize>> = output
                .fact
                .shape
                .dims()
                .map(|d| d.concretize().and_then(|d| d.to_usize().ok()))
                .collect();
            let Some([1, channels, height, width]) = dims.as_deref() else {
                continue;
            };
            let input = model.inputs.contains(&outlet);
            if height != width || *height < 2 || input {
                continue;
            }
            let is_output = model.outputs.contains(&outlet);
            let name = model.outlet_label(outlet).unwrap_or(&node.name);
            let what = if is_output { " (an output)" } else { "" };
            let line = format!("  {name}: {channels} channels, {height} x {width}{what}");
            let kept = |known: &bool| *known && !is_output;
            if last
                .iter()
                .any(|(side, known, _)| side == height && kept(known))
            {
                continue;
            }
            last.retain(|(side, known, _)| side != height || (*known && is_output));
            last.push((*height, is_output, line));
        }
    }
    match last.is_empty() {
        true => "  (none was found)".into(),
        false => last.into_iter().map(|(_, _, line)| line).join("\n"),
    }
}

/// What a tap is like.
#[derive(Clone, Copy)]
enum Kind {
    /// [1, channels, side, side].
    ChannelsFirst,
    /// [1, side, side, channels].
    ChannelsLast,
    /// [1, before + side * side, channels].
    Rows { before: usize },
    /// [1, channels]: of the whole picture.
    Whole,
}

fn kind(name: &str, shape: &[usize]) -> TractResult<(Kind, usize)> {
    match *shape {
        [1, _, h, w] if h == w => Ok((Kind::ChannelsFirst, h)),
        [1, h, w, _] if h == w => Ok((Kind::ChannelsLast, h)),
        [1, rows, _] => {
            let square = BEFORE_PATCHES.iter().find_map(|before| {
                let patches = rows.checked_sub(*before)?;
                let side = patches.isqrt();
                (side * side == patches && side > 0)
                    .then_some((Kind::Rows { before: *before }, side))
            });
            square.with_context(|| format!("tap `{name}` has {rows} rows: no square of patches"))
        }
        _ => bail!("tap `{name}` is {shape:?}: neither a square map nor rows of patches"),
    }
}

/// The same network with an input [3, `side`, `side`] and rows [grid * grid, channels] as outputs, a grid for each
/// tap; a picture of another side than the network's own is resized in it.
fn rows(from: &Opened, side: usize, grids: &[usize]) -> TractResult<TypedModel> {
    let mut model = TypedModel::default();
    let mut x = model.add_source("image", f32::fact([3, side, side]))?;
    if side != from.side {
        let weights = model.add_const("resize", weights(side, from.side)?)?;
        for (step, formula) in [("resize_y", "chw,yh->cyw"), ("resize_x", "chw,xw->chx")] {
            let sum = EinSum::new(formula.parse()?, f32::datum_type());
            x = model.wire_node(step, sum, &[x, weights])?[0];
        }
    }
    if from.channels_last {
        x = model.wire_node("channels_last", AxisOp::Move(0, 2), &[x])?[0];
    }
    x = model.wire_node("batch", AxisOp::Add(0), &[x])?[0];
    let mut known: HashMap<OutletId, OutletId> = HashMap::new();
    let source = from.model.input_outlets()?[0];
    known.insert(source, x);
    for id in from.model.eval_order()? {
        if id == source.node {
            continue;
        }
        let node = from.model.node(id);
        let inputs: TVec<OutletId> = node.inputs.iter().map(|i| known[i]).collect();
        let outputs = model.wire_node(format!("n{id}"), node.op.clone(), &inputs)?;
        for (slot, outlet) in outputs.into_iter().enumerate() {
            known.insert(OutletId::new(id, slot), outlet);
        }
    }
    let mut outputs = vec![];
    let taps = from.taps.iter().zip(from.model.output_outlets()?);
    for (i, ((tap, outlet), grid)) in taps.zip(grids).enumerate() {
        let name = format!("tap{i}");
        let (kind, own) = (tap.kind, tap.own);
        outputs.push(on_grid(&mut model, &name, known[outlet], kind, own, *grid)?);
    }
    model.select_output_outlets(&outputs)?;
    model.into_decluttered()
}

/// Places per side: what is asked for, else the largest divisor of the picture's side up to the finest tap's.
fn grid(side: usize, finest: usize, asked: Option<usize>) -> TractResult<usize> {
    if let Some(asked) = asked {
        ensure!(
            (1..=side).contains(&asked),
            "--grid {asked}: a picture of {side} px has 1 to {side} places per side"
        );
        ensure!(
            side.is_multiple_of(asked),
            "{side} px is no multiple of a grid of {asked}: another --grid, or --image-size with a multiple of it"
        );
        return Ok(asked);
    }
    let grid = (1..=finest)
        .rev()
        .find(|g| side.is_multiple_of(*g))
        .unwrap_or(1);
    ensure!(
        grid as f64 >= COARSEST * finest as f64,
        "{side} px has no divisor near {finest}, the finest tap's places: --image-size with one that has"
    );
    Ok(grid)
}

/// A tap as rows [grid * grid, channels].
fn on_grid(
    model: &mut TypedModel,
    name: &str,
    outlet: OutletId,
    kind: Kind,
    own: usize,
    grid: usize,
) -> TractResult<OutletId> {
    let at = |step: &str| format!("{name}_{step}");
    if let Kind::Whole = kind {
        return Ok(outlet);
    }
    let mut x = model.wire_node(at("single"), AxisOp::Rm(0), &[outlet])?[0];
    match kind {
        Kind::ChannelsFirst => x = model.wire_node(at("turned"), AxisOp::Move(0, 2), &[x])?[0],
        Kind::ChannelsLast | Kind::Whole => (),
        Kind::Rows { before } => {
            let patches = Slice::new(0, before, before + own * own);
            x = model.wire_node(at("patches"), patches, &[x])?[0];
            let square = AxisOp::Reshape(0, dims(&[own * own]), dims(&[own, own]));
            x = model.wire_node(at("square"), square, &[x])?[0];
        }
    }
    if own != grid {
        let weights = model.add_const(at("weights"), weights(own, grid)?)?;
        for (step, formula) in [("down", "hwc,yh->ywc"), ("across", "hwc,xw->hxc")] {
            let sum = EinSum::new(formula.parse()?, f32::datum_type());
            x = model.wire_node(at(step), sum, &[x, weights])?[0];
        }
    }
    let flat = AxisOp::Reshape(0, dims(&[grid, grid]), dims(&[grid * grid]));
    Ok(model.wire_node(at("rows"), flat, &[x])?[0])
}

fn dims(sizes: &[usize]) -> TVec<TDim> {
    sizes.iter().map(|d| d.to_dim()).collect()
}

/// How `to` places are made of `from`, [to, from]: a triangle as wide as a place of the coarser grid, as in Pillow's
/// BILINEAR; means when shrinking, between neighbours when enlarging.
fn weights(from: usize, to: usize) -> TractResult<Tensor> {
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let mut all = Vec::with_capacity(from * to);
    for place in 0..to {
        let centre = (place as f64 + 0.5) * scale;
        let row: Vec<f64> = (0..from)
            .map(|i| (1.0 - ((i as f64 + 0.5 - centre) / reach).abs()).max(0.0))
            .collect();
        let sum: f64 = row.iter().sum();
        all.extend(row.iter().map(|w| (w / sum) as f32));
    }
    Tensor::from_shape(&[to, from], &all)
}

/// Multiplications of convolutions and matrix products for one frame.
fn products(model: &TypedModel) -> u64 {
    let mut sum = 0;
    for node in model.nodes() {
        if !(node.op_is::<Conv>() || node.op_is::<Deconv>() || node.op_is::<EinSum>()) {
            continue;
        }
        let facts: TractResult<TVec<&TypedFact>> =
            node.inputs.iter().map(|i| model.outlet_fact(*i)).collect();
        let cost = facts
            .and_then(|facts| node.op.cost(&facts))
            .unwrap_or_default();
        for (kind, count) in cost {
            if matches!(kind, tract_onnx::tract_core::ops::Cost::FMA(_)) {
                sum += count.to_usize().unwrap_or(0) as u64;
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests;
