//! Learning the compared methods against their published codes' numbers: loss, gradients, three steps.

mod common;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use common::{golden, relative, values};
use faprompt_edge::bundle::method::Method;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets::Sample;
use faprompt_edge::train::methods::fit::run::{Out, begin};
use faprompt_edge::train::methods::fit::{
    Batch, Learner, Options, anomalyclip, april_gan, coop, dapo, heads, optimizer, step,
};
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::methods::{MethodOptions, anovl, filo, text, words};
use faprompt_edge::train::nn::Maker;
use faprompt_edge::train::nn::image::{ImageTower, cut};
use faprompt_edge::train::nn::layers::{put, values as numbers};
use faprompt_edge::train::prompts::token_ids;
use faprompt_edge::train::tensors::Tensors;
use faprompt_edge::train::tensors::store::Store;
use ndarray::s;
use std::path::Path;

const SIDE: usize = 84;

fn file(method: &str, which: &str) -> Tensors {
    Tensors::load(&golden(&format!("methods/{method}/{which}.safetensors"))).unwrap()
}

fn meta(method: &str) -> serde_json::Value {
    let path = golden(&format!("methods/{method}/meta.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn options(method: Method, clip: &Clip) -> Options {
    let asked = MethodOptions {
        method,
        class: method.has_class().then(|| "bottle".into()),
        ..MethodOptions::default()
    };
    Options {
        image_size: SIDE,
        vv_layers: 4,
        ..Options::published(asked, clip)
    }
}

/// Rows of the golden file's tensors, some of each picture's dropped, as a batch.
fn batch(taps: Vec<Tensor<3>>, device: &Device) -> Batch {
    let masks = values(&file("shared", "expected"), "masks");
    Batch {
        taps,
        masks: put(masks, [3, SIDE * SIDE], device),
        labels: put(vec![0.0, 1.0, 1.0], [3], device),
        kinds: vec![0, 1, 2],
        marked: vec![true; 3],
    }
}

/// A tensor [3, rows, width] without its first `skip` rows.
fn rows(t: &Tensors, name: &str, skip: usize, device: &Device) -> Tensor<3> {
    let array = t.array(name).unwrap();
    let shape = array.shape().to_vec();
    let (n, c) = match *shape {
        [3, n, c] => (n, c),
        [3, c] => (1, c),
        _ => panic!("{name} is {shape:?}"),
    };
    let all: Tensor<3> = put(array.iter().copied().collect(), [3, n, c], device);
    all.narrow(1, skip, n - skip)
}

/// Puts gradients where parameters are; zeros where there is none.
struct Swap(GradientsParams);

impl ModuleMapper for Swap {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let zeros = param.val().inner().zeros_like();
        let gradient = self.0.remove::<D>(id).unwrap_or(zeros);
        Param::initialized(id, gradient)
    }
}

/// A learner whose parameters are its gradients.
fn gradients<L: Learner + Clone>(learner: &L, batch: &Batch) -> L {
    let found = GradientsParams::from_grads(learner.loss(batch).0.backward(), learner);
    learner.clone().map(&mut Swap(found))
}

/// What a learner stores, read back.
fn stored<L: Learner>(learner: &L, folder: &Path) -> Tensors {
    let path = folder.join("stored.safetensors");
    let mut store = Store::default();
    learner.store(&mut store);
    store.save(&path).unwrap();
    Tensors::load(&path).unwrap()
}

fn same(what: &str, own: &Tensors, want: &Tensors, names: &[(&str, String)]) {
    for (own_name, golden_name) in names {
        let off = relative(&values(own, own_name), &values(want, golden_name));
        println!("{what}: {own_name} is off by {off:.1e}");
        assert!(off < 1e-3, "{what}: {own_name} is off by {off}");
    }
}

/// Gradients, then three steps with their losses, then the numbers.
#[allow(clippy::too_many_arguments)]
fn three_steps<'a, L: Learner + Clone>(
    method: Method,
    mut learner: L,
    batch: &Batch,
    want: &Tensors,
    key: &str,
    names: &[(&'a str, &str)],
    losses: &serde_json::Value,
    lr: f64,
) {
    let folder = tempfile::tempdir().unwrap();
    let named = |kind: &str| -> Vec<(&str, String)> {
        let one = |(own, golden): &(&'a str, &str)| (*own, format!("{key}{kind}.{golden}"));
        names.iter().map(one).collect()
    };
    let slopes = stored(&gradients(&learner, batch), folder.path());
    same(
        &format!("{method}, gradient"),
        &slopes,
        want,
        &named("grad"),
    );
    let mut optimizer = optimizer(method);
    for i in 0..3 {
        let terms;
        (learner, terms) = step(learner, &mut optimizer, lr, batch);
        let (own, golden) = (terms.get("total"), total(&losses[i]));
        assert!(
            ((own - golden) / golden).abs() < 1e-3,
            "{method}, step {i}: the loss is {own}, not {golden}"
        );
    }
    let after = stored(&learner, folder.path());
    same(
        &format!("{method}, after three steps"),
        &after,
        want,
        &named("after3"),
    );
}

fn golden_clip(folder: &Path) -> Clip {
    Clip::load(&common::golden_clip(folder)).unwrap()
}

/// The weights, what a method's published code computed with them, the numbers it learned, its options, and its losses.
fn published(method: Method) -> (Clip, Tensors, Learned, Options, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let expected = file(method.name(), "expected");
    let path = golden(&format!("methods/{}/expected.safetensors", method.name()));
    let learned = Learned::load(&path, method, &clip).unwrap();
    let options = options(method, &clip);
    let losses = meta(method.name())["losses"].take();
    (clip, expected, learned, options, losses)
}

/// A step's loss, as golden files have it: a number, or an object with its terms.
fn total(loss: &serde_json::Value) -> f64 {
    loss.as_f64().or(loss["total"].as_f64()).unwrap()
}

#[test]
fn anomalyclip_learns_as_published() {
    let device = Device::flex().autodiff();
    let (clip, expected, learned, options, losses) = published(Method::Anomalyclip);
    let training = file("anomalyclip", "training");
    let names = [
        ("ctx_pos", "ctx_pos"),
        ("ctx_neg", "ctx_neg"),
        ("compound_prompts_text.0", "deep.0"),
        ("compound_prompts_text.1", "deep.1"),
    ];
    for (key, blocks) in [("last", vec![6]), ("four", vec![3, 4, 5, 6])] {
        let mut taps = vec![rows(&expected, "image.raw", 0, &device)];
        for block in blocks {
            taps.push(rows(
                &expected,
                &format!("patch.raw.block{block}"),
                1,
                &device,
            ));
        }
        let learner =
            anomalyclip::Learned::new(&clip, &learned.numbers, &options, &device).unwrap();
        let batch = batch(taps, &device);
        three_steps(
            Method::Anomalyclip,
            learner,
            &batch,
            &training,
            &format!("{key}."),
            &names,
            &losses[key],
            1e-3,
        );
    }
}

#[test]
fn april_gan_learns_as_published() {
    let device = Device::flex().autodiff();
    let (clip, expected, learned, options, losses) = published(Method::AprilGan);
    let mut taps: Vec<Tensor<3>> = [2, 3, 5, 6]
        .iter()
        .map(|b| rows(&expected, &format!("tokens.block{b}"), 1, &device))
        .collect();
    let text = values(&expected, "text.unit");
    let direction: Vec<f32> = (0..128).map(|i| text[128 + i] - text[i]).collect();
    taps.push(put([&*direction; 3].concat(), [3, 1, 128], &device));
    let learner = april_gan::Learned::new(&clip, &learned.numbers, &options, &device).unwrap();
    let names: Vec<(String, String)> = (0..4)
        .flat_map(|i| ["weight", "bias"].map(|p| (format!("fc.{i}.{p}"), format!("{i}.{p}"))))
        .collect();
    let names: Vec<(&str, &str)> = names.iter().map(|(a, b)| (&**a, &**b)).collect();
    let training = file("april-gan", "training");
    let batch = batch(taps, &device);
    three_steps(
        Method::AprilGan,
        learner,
        &batch,
        &training,
        "",
        &names,
        &losses,
        1e-3,
    );
}

#[test]
fn coop_and_cocoop_learn_as_published() {
    let device = Device::flex().autodiff();
    for (method, names) in [
        (Method::Coop, vec![("ctx", "ctx")]),
        (
            Method::Cocoop,
            vec![
                ("ctx", "ctx"),
                ("meta_net.linear1.weight", "meta_net.linear1.weight"),
                ("meta_net.linear1.bias", "meta_net.linear1.bias"),
                ("meta_net.linear2.weight", "meta_net.linear2.weight"),
                ("meta_net.linear2.bias", "meta_net.linear2.bias"),
            ],
        ),
    ] {
        let (clip, expected, learned, options, losses) = published(method);
        let learner =
            coop::Learned::new(&clip, &learned.numbers, "bottle", &options, &device).unwrap();
        let training = file(method.name(), "training");
        let batch = batch(vec![rows(&expected, "image.raw", 0, &device)], &device);
        three_steps(
            method, learner, &batch, &training, "", &names, &losses, 2e-3,
        );
    }
}

/// This project's own, in Rust and in NumPy (`reference.py`).
#[test]
fn heads_learn_as_the_independent_reference() {
    let device = Device::flex().autodiff();
    let (clip, expected, learned, options, losses) = published(Method::Heads);
    let stages = |name: &'static str| (0..3).map(move |i| format!("{name}.{i}"));
    let taps = stages("class")
        .chain(stages("patches"))
        .map(|name| rows(&expected, &name, 0, &device));
    let batch = batch(taps.collect(), &device);
    let learner = heads::Learned::new(&clip, &learned.numbers, &options, &device).unwrap();
    let names = [("heads.patch", "patch"), ("heads.image", "image")];
    three_steps(
        Method::Heads,
        learner,
        &batch,
        &expected,
        "",
        &names,
        &losses,
        1e-3,
    );
}

/// Our reading of the paper, in Rust and in PyTorch (`reference.py`).
#[test]
fn dapo_learns_as_the_independent_reference() {
    let device = Device::flex().autodiff();
    let (clip, expected, learned, options, losses) = published(Method::Dapo);
    let spec = faprompt_edge::train::methods::fit::run::spec(&clip, &options).unwrap();
    let types = ["hole".to_string(), "bent scratch".to_string()];
    let pixels = values(&common::expected(), "preprocessed");
    let mut patches = vec![];
    for picture in pixels.chunks_exact(3 * SIDE * SIDE) {
        cut(picture, SIDE, 14, &mut patches);
    }
    let input: Tensor<3> = put(patches, [3, 36, 3 * 14 * 14], &device);
    let learner =
        dapo::Learned::new(&clip, &learned.numbers, &types, &spec, &options, &device).unwrap();
    let text = numbers(&learner.prototypes(&device));
    let off = relative(&text, &values(&expected, "text.unit"));
    assert!(off < 1e-3, "prototypes are off by {off}");
    let mut names: Vec<String> = ["normal", "abnormal"].map(String::from).to_vec();
    names.extend((0..3).map(|i| format!("deep.{i}")));
    names.extend((0..6).map(|i| format!("visual.{i}")));
    names.extend((0..4).map(|i| format!("adapter.{i}.bias")));
    let batch = batch(vec![input], &device);
    let (_, terms) = learner.loss(&batch);
    for name in ["image_cross_entropy", "focal", "dice"] {
        let golden = losses[0][name].as_f64().unwrap();
        let own = terms.get(name);
        assert!(
            ((own - golden) / golden).abs() < 1e-3,
            "{name}: {own}, not {golden}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let slopes = stored(&gradients(&learner, &batch), folder.path());
    for i in 0..4 {
        let name = format!("adapter.{i}.weight");
        let want = values(&expected, &format!("grad.{name}"));
        let off = relative(&values(&slopes, &format!("dapo.{name}")), &want);
        assert!(off < 1e-3, "the gradient of {name} is off by {off}");
    }
    let own: Vec<String> = names.iter().map(|n| format!("dapo.{n}")).collect();
    let names: Vec<(&str, &str)> = own.iter().map(|n| (&**n, &n[5..])).collect();
    three_steps(
        Method::Dapo,
        learner,
        &batch,
        &expected,
        "",
        &names,
        &losses,
        1e-3,
    );
}

/// A defective picture without a mask has its part in the cross-entropy of types, and in nothing else.
#[test]
fn dapo_learns_a_type_without_a_mask() {
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex().autodiff();
    let golden_path = golden("methods/dapo/expected.safetensors");
    let learned = Learned::load(&golden_path, Method::Dapo, &clip).unwrap();
    let options = options(Method::Dapo, &clip);
    let spec = faprompt_edge::train::methods::fit::run::spec(&clip, &options).unwrap();
    let types = ["hole".to_string(), "bent scratch".to_string()];
    let learner =
        dapo::Learned::new(&clip, &learned.numbers, &types, &spec, &options, &device).unwrap();
    let pixels = values(&common::expected(), "preprocessed");
    let masks = values(&file("shared", "expected"), "masks");
    let of = |pictures: &[usize], marked: &[bool]| {
        let (mut patches, mut marks) = (vec![], vec![]);
        for i in pictures {
            let picture = &pixels[i * 3 * SIDE * SIDE..][..3 * SIDE * SIDE];
            cut(picture, SIDE, 14, &mut patches);
            marks.extend_from_slice(&masks[i * SIDE * SIDE..][..SIDE * SIDE]);
        }
        let b = pictures.len();
        let batch = Batch {
            taps: vec![put(patches, [b, 36, 3 * 14 * 14], &device)],
            masks: put(marks, [b, SIDE * SIDE], &device),
            labels: put(
                pictures.iter().map(|i| f32::from(*i > 0)).collect(),
                [b],
                &device,
            ),
            kinds: pictures.to_vec(),
            marked: marked.to_vec(),
        };
        learner.loss(&batch).1
    };
    let near = |what: &str, a: f64, b: f64| assert!((a - b).abs() < 1e-4, "{what}: {a}, not {b}");
    let (two, three) = (of(&[0, 2], &[true; 2]), of(&[0, 1, 2], &[true; 3]));
    let without = of(&[0, 1, 2], &[true, false, true]);
    for name in ["focal", "dice"] {
        near(name, without.get(name), two.get(name));
        assert!(
            (three.get(name) - two.get(name)).abs() > 1e-3,
            "{name} would not show it"
        );
    }
    let name = "image_cross_entropy";
    near(name, without.get(name), three.get(name));
    let total = 4.0 * (two.get("focal") + two.get("dice")) + three.get(name);
    near("total", without.get("total"), total);
    let nothing = of(&[1], &[false]);
    assert_eq!((nothing.get("focal"), nothing.get("dice")), (0.0, 0.0));
    near("total of one", nothing.get("total"), nothing.get(name));
}

#[test]
fn anovls_views_are_the_published_ones() {
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let pixels = values(&common::expected(), "preprocessed");
    let views = anovl::views(&pixels[3 * SIDE * SIDE..2 * 3 * SIDE * SIDE], SIDE);
    let red = values(&file("anovl", "adaptation"), "views.image1.red");
    assert_eq!(views.len(), 22);
    for (i, (view, red)) in views.iter().zip(red.chunks_exact(SIDE * SIDE)).enumerate() {
        // Golden ones are stored in 16 bits.
        let off = common::apart(&view[..SIDE * SIDE], red);
        assert!(off < 2e-3, "view {i} is off by {off}");
    }
    let want = file("anovl", "expected");
    let (scores, each) = (
        values(&want, "image.score"),
        values(&want, "augmented.scores"),
    );
    let maps = values(&want, "map");
    let asked = MethodOptions {
        method: Method::Anovl,
        class: Some("bottle".into()),
        ..MethodOptions::default()
    };
    let options = common::options(
        faprompt_edge::bundle::manifest::Selection::Paper,
        faprompt_edge::bundle::manifest::Precision::F32,
    );
    let mut network = anovl::AnoVl::new(&clip, &asked, &options, 0).unwrap();
    for i in 0..3 {
        let path = golden(&format!("faprompt-tiny/image{i}.png"));
        let said = network
            .judge(&image::open(path).unwrap().to_rgb8(), 0)
            .unwrap();
        let off = common::apart(&said.views, &each[i * 22..][..22]);
        assert!(off < 2e-4, "views' scores are off by {off}");
        assert!((said.score - scores[i]).abs() < 1e-4);
        let off = common::apart(&said.map.values, &maps[i * SIDE * SIDE..][..SIDE * SIDE]);
        assert!(off < 1e-4, "the map is off by {off}");
    }
}

#[test]
fn anovl_adapts_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex().autodiff();
    let (want, tta) = (file("anovl", "expected"), file("anovl", "adaptation"));
    let z = values(&want, "patch.raw")[36 * 128..2 * 36 * 128].to_vec();
    let z: Tensor<2> = put(z, [36, 128], &device);
    let texts = words::prompts(Method::Anovl, "bottle", None).unwrap();
    let all: Vec<String> = texts.normal.into_iter().chain(texts.abnormal).collect();
    let mut features = text::features(&clip, &all, 2).unwrap();
    for mut row in features.outer_iter_mut() {
        let length = row.dot(&row).sqrt();
        row /= length;
    }
    // The published order: template outer, state inner loop.
    let (states, templates) = (7, 66);
    let order = (0..2 * states * templates).map(|i| {
        let (half, i) = (i / (states * templates), i % (states * templates));
        half * states * templates + (i % states) * templates + i / states
    });
    let order: Vec<usize> = order.collect();
    let features = features.select(ndarray::Axis(0), &order);
    let prompts: Tensor<2> = put(features.iter().copied().collect(), [924, 128], &device);
    let pair = put(values(&want, "text.bottle.unit"), [2, 128], &device);
    let start = faprompt_edge::train::clip::Dense {
        weight: tta.matrix("adapter.weight", Some(924), Some(128)).unwrap(),
        bias: tta.vector("adapter.bias", 924).unwrap(),
    };
    let noise: Vec<Tensor<2>> = values(&tta, "tta.noise")
        .chunks_exact(36 * 128)
        .map(|n| put(n.to_vec(), [36, 128], &device))
        .collect();
    let adapter = anovl::Adapter::new(&start, &device);
    let loss = adapter.loss(z.clone(), z.clone() + noise[0].clone(), &prompts, &pair);
    let found = GradientsParams::from_grads(loss.backward(), &adapter);
    let slopes = adapter.clone().map(&mut Swap(found)).export();
    let compare = |layer: &faprompt_edge::train::clip::Dense, kind: &str| {
        let rows: Vec<f32> = (0..924)
            .step_by(66)
            .flat_map(|r| layer.weight.row(r).to_vec())
            .collect();
        let off = relative(&rows, &values(&tta, &format!("tta.{kind}.weight_rows")));
        assert!(off < 1e-3, "{kind}: weights are off by {off}");
        let off = relative(
            &layer.bias.to_vec(),
            &values(&tta, &format!("tta.{kind}.bias")),
        );
        assert!(off < 1e-3, "{kind}: biases are off by {off}");
    };
    compare(&slopes, "grad");
    let (adapter, losses) = adapter.learn(&z, &noise, &prompts, &pair);
    for (own, golden) in losses
        .iter()
        .zip(meta("anovl")["losses"].as_array().unwrap())
    {
        let golden = golden.as_f64().unwrap();
        assert!(
            (f64::from(*own) - golden).abs() < 1e-4,
            "{own}, not {golden}"
        );
    }
    compare(&adapter.export(), "after5");
}

/// The golden convolutions are not stored but made: see meta.json.
fn with_convolutions(mut t: Tensors) -> Tensors {
    let number = |i: usize, j: usize| {
        let i = (i as u32).wrapping_mul(2654435761);
        let all = i
            .wrapping_add((j as u32).wrapping_mul(40503))
            .wrapping_add(12345);
        f64::from(all) / 4294967296.0 - 0.5
    };
    for stage in 0..3 {
        for (k, (high, wide)) in filo::KERNELS.into_iter().enumerate() {
            let j = 6 * stage + k;
            let spread = (12.0 / (6 * 128 * high * wide) as f64).sqrt();
            let made = |n: usize, j: usize| -> Vec<f32> {
                (0..n).map(|i| (number(i, j) * spread) as f32).collect()
            };
            let weight = made(128 * 128 * high * wide, j);
            t.insert(
                &format!("decoder_conv.{stage}.{k}.weight"),
                &[128, 128, high, wide],
                &weight,
            );
            let bias = made(128, j + 1000);
            t.insert(&format!("decoder_conv.{stage}.{k}.bias"), &[128], &bias);
        }
    }
    t
}

#[test]
fn filo_is_the_published_one() {
    use faprompt_edge::bundle::method::Positions;
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex().autodiff();
    let want = file("filo", "expected");
    let (normal, abnormal) = filo::sentences("bottle");
    for (name, all) in [("normal", normal), ("abnormal", abnormal)] {
        let ids = want.array(&format!("prompt.{name}.token_ids")).unwrap();
        assert_eq!(ids.shape()[0], all.len());
        for (text, ids) in all.iter().zip(ids.outer_iter()) {
            // The start token and twelve learned ones come first.
            let golden: Vec<usize> = ids.iter().skip(13).map(|v| *v as usize).collect();
            let mut own = token_ids(text).split_off(1);
            own.resize(golden.len(), 0);
            assert_eq!(own, golden, "\"{text}\"");
        }
    }
    let learned = with_convolutions(file("filo", "expected").without_prefix("param."));
    let network = filo::FiLo::load(&clip, &learned, "bottle", SIDE, &device).unwrap();
    let positions = clip.visual.positions_by(6, Positions::Bicubic);
    let mut m = Maker::new(&device, false);
    let tower = ImageTower::with_positions(&clip.visual, &positions, clip.activation, 4, &mut m);
    let pixels = values(&common::expected(), "preprocessed");
    let top_left = Some(0);
    for (i, picture) in pixels.chunks_exact(3 * SIDE * SIDE).enumerate() {
        let mut patches = vec![];
        cut(picture, SIDE, 14, &mut patches);
        let input = put(patches, [1, 36, 3 * 14 * 14], &device);
        let (tokens, image) = filo::tokens(&tower, input, [2, 4, 5, 6]);
        if i == 1 {
            for (j, tokens) in tokens.iter().enumerate() {
                let golden = &values(&want, &format!("image1.tokens.{j}"))[128..];
                let off = relative(&numbers(tokens), golden);
                assert!(off < 1e-3, "tokens {j} are off by {off}");
            }
            let golden = &values(&want, "image1.features")[..128];
            let off = relative(&numbers(&image), golden);
            assert!(off < 1e-3, "the image feature is off by {off}");
        }
        for (key, position) in [("all", None), ("top_left", top_left)] {
            let said = network.judge(image.clone(), &tokens, position, true);
            if i == 1 && position.is_none() {
                for (j, map) in said.maps.iter().enumerate() {
                    let golden = values(&want, &format!("image1.map{j}"));
                    let off = common::apart(&numbers(map), &golden);
                    assert!(off < 2e-3, "map {j} is off by {off}");
                }
            }
            let cosines = &values(&want, &format!("{key}.text_probs"))[2 * i..][..2];
            let off = common::apart(&numbers(&said.cosines), cosines);
            assert!(off < 1e-3, "{key}, picture {i}: cosines are off by {off}");
            let (score, map) = network.conclude(&said);
            let golden = values(&want, &format!("{key}.image_score"))[i];
            assert!(
                (score - golden).abs() < 1e-3,
                "{key}, picture {i}: {score}, not {golden}"
            );
            let golden = &values(&want, &format!("{key}.map"))[i * SIDE * SIDE..][..SIDE * SIDE];
            let off = common::apart(&map, golden);
            assert!(off < 1e-3, "{key}, picture {i}: the map is off by {off}");
        }
    }
}

/// From picture files to scores and maps, as `evaluate` does it.
#[test]
fn filo_judges_picture_files_as_published() {
    use faprompt_edge::train::datasets::Sample;
    use faprompt_edge::train::export::ExportOptions;
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let want = file("filo", "expected");
    let learned = with_convolutions(file("filo", "expected").without_prefix("param."));
    let asked = MethodOptions {
        method: Method::Filo,
        stages: vec![2, 4, 5, 6],
        ..MethodOptions::default()
    };
    let options = ExportOptions {
        image_size: Some(SIDE),
        vv_layers: Some(4),
        ..ExportOptions::plain(1)
    };
    let samples = (0..3).map(|i| Sample {
        image: golden(&format!("faprompt-tiny/image{i}.png")),
        mask: None,
        class: "bottle".into(),
        kind: "good".into(),
        anomalous: i > 0,
    });
    let (judged, failed) = filo::judge::judge(
        &clip,
        &learned,
        &asked,
        &options,
        &Device::flex(),
        samples.collect(),
        &indicatif::ProgressBar::hidden(),
    )
    .unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    let (scores, maps) = (values(&want, "all.image_score"), values(&want, "all.map"));
    for (i, judged) in judged.iter().enumerate() {
        let off = (judged.score - scores[i]).abs();
        assert!(off < 1e-3, "picture {i}: the score is off by {off}");
        let own = match (&judged.segmentation, &judged.map) {
            (Some(s), _) => &s.scores,
            (None, Some(map)) => &map.values,
            (None, None) => panic!("picture {i} has no map"),
        };
        let off = common::apart(own, &maps[i * SIDE * SIDE..][..SIDE * SIDE]);
        assert!(off < 1e-3, "picture {i}: the map is off by {off}");
    }
}

#[test]
fn filos_first_phase_learns_as_published() {
    use faprompt_edge::bundle::method::Positions;
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex().autodiff();
    let learned = with_convolutions(file("filo", "expected").without_prefix("param."));
    let network = filo::FiLo::load(&clip, &learned, "bottle", SIDE, &device).unwrap();
    let positions = clip.visual.positions_by(6, Positions::Bicubic);
    let mut m = Maker::new(&device, false);
    let tower = ImageTower::with_positions(&clip.visual, &positions, clip.activation, 4, &mut m);
    let pixels = values(&common::expected(), "preprocessed");
    let mut patches = vec![];
    cut(
        &pixels[3 * SIDE * SIDE..2 * 3 * SIDE * SIDE],
        SIDE,
        14,
        &mut patches,
    );
    let input = put(patches, [1, 36, 3 * 14 * 14], &device);
    let (tokens, image) = filo::tokens(&tower, input, [2, 4, 5, 6]);
    let masks = values(&file("shared", "expected"), "masks");
    let mask: Tensor<2> = put(
        masks[SIDE * SIDE..2 * SIDE * SIDE].to_vec(),
        [1, SIDE * SIDE],
        &device,
    );
    let said = network.judge(image, &tokens, None, false);
    let loss = network.loss(&said, mask);
    let total = f64::from(loss.clone().into_scalar::<f32>());
    let golden = meta("filo")["losses"]["segmentation"].as_f64().unwrap();
    assert!(
        (total - golden).abs() < 1e-3 * golden,
        "{total}, not {golden}"
    );
    let found = GradientsParams::from_grads(loss.backward(), &network);
    let slopes = network.map(&mut Swap(found));
    let want = file("filo", "training");
    let same = |name: &str, own: Vec<f32>| {
        let off = relative(&own, &values(&want, &format!("grad.{name}")));
        assert!(off < 1e-3, "the gradient of {name} is off by {off}");
    };
    for (name, prompts) in [("normal", &slopes.normal), ("abnormal", &slopes.abnormal)] {
        let at = |n: &str| format!("{name}_prompt_learner.{n}");
        same(&at("ctx"), numbers(&prompts.context.val()));
        for (n, layer) in [("linear1", &prompts.fc1), ("linear2", &prompts.fc2)] {
            let layer = layer.export();
            same(
                &at(&format!("meta_net.{n}.weight")),
                layer.weight.iter().copied().collect(),
            );
            same(&at(&format!("meta_net.{n}.bias")), layer.bias.to_vec());
        }
    }
    for (i, layer) in slopes.linear.iter().enumerate() {
        let layer = layer.export();
        let name = format!("decoder_linear.fc.{i}");
        same(
            &format!("{name}.weight"),
            layer.weight.iter().copied().collect(),
        );
        same(&format!("{name}.bias"), layer.bias.to_vec());
    }
}

#[test]
fn the_trainers_taps_are_the_published_rows() {
    use faprompt_edge::bundle::tap::{Form, Rows, Stream, Tap};
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex();
    let pixels = values(&common::expected(), "preprocessed");
    let mut patches = vec![];
    for picture in pixels.chunks_exact(3 * SIDE * SIDE) {
        cut(picture, SIDE, 14, &mut patches);
    }
    let input: Tensor<3> = put(patches, [3, 36, 3 * 14 * 14], &device);
    let tower = |vv: usize, how| {
        let positions = clip.visual.positions_by(6, how);
        let mut m = Maker::new(&device, false);
        ImageTower::with_positions(&clip.visual, &positions, clip.activation, vv, &mut m)
    };
    use faprompt_edge::bundle::method::Positions;
    let tap = |block, stream, form, rows| Tap {
        block,
        stream,
        form,
        rows,
    };
    let anomalyclip = file("anomalyclip", "expected");
    let taps: Vec<Tap> = (3..=6)
        .map(|b| tap(b, Stream::Y, Form::Projected, Rows::Patches))
        .collect();
    let found = tower(4, Positions::Bilinear).taps(input.clone(), &taps, &[]);
    for (b, found) in (3..=6).zip(&found) {
        let want = rows(&anomalyclip, &format!("patch.raw.block{b}"), 1, &device);
        let off = relative(&numbers(found), &numbers(&want));
        assert!(off < 1e-3, "V-V after block {b} is off by {off}");
    }
    let april = file("april-gan", "expected");
    let taps: Vec<Tap> = [2, 3, 5, 6]
        .map(|b| tap(b, Stream::X, Form::Raw, Rows::All))
        .to_vec();
    let found = tower(0, Positions::BicubicAntialias).taps(input, &taps, &[]);
    for (b, found) in [2, 3, 5, 6].iter().zip(&found) {
        let want = rows(&april, &format!("tokens.block{b}"), 0, &device);
        let off = relative(&numbers(found), &numbers(&want));
        assert!(off < 1e-3, "tokens after block {b} are off by {off}");
    }
}

/// Words that the weights do not have are missed before hours of encoding, not after.
#[test]
fn a_run_begins_with_all_its_words_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut clip = Clip::load(&common::golden_clip(folder.path())).unwrap();
    let table = clip.text.embedding.take().unwrap();
    clip.text.embedding = Some(table.slice(s![..1000, ..]).to_owned());
    let sample = Sample {
        image: folder.path().join("never-read.png"),
        mask: None,
        class: "bottle".into(),
        kind: "good".into(),
        anomalous: false,
    };
    for method in [Method::Heads, Method::AprilGan] {
        let asked = MethodOptions {
            method,
            ..MethodOptions::default()
        };
        let options = Options::published(asked, &clip);
        let out = Out {
            folder: &folder.path().join("out"),
            resume: false,
            threads: 1,
        };
        let Err(wrong) = begin(&clip, &options, std::slice::from_ref(&sample), &out) else {
            panic!("{method} began");
        };
        let wrong = wrong.to_string();
        assert!(
            wrong.contains("clip.safetensors: the weights' vocabulary has 1000 tokens"),
            "{wrong}"
        );
    }
}
