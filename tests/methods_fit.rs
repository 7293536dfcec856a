//! Learning the compared methods against their published codes' numbers: loss, gradients, three steps.

mod common;

use burn::module::{ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use common::{golden, relative, values};
use faprompt_edge::bundle::method::Method;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::methods::MethodOptions;
use faprompt_edge::train::methods::fit::{
    Batch, Learner, Options, anomalyclip, april_gan, coop, dapo, optimizer, step,
};
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::nn::Maker;
use faprompt_edge::train::nn::image::{ImageTower, cut};
use faprompt_edge::train::nn::layers::{put, values as numbers};
use faprompt_edge::train::tensors::Tensors;
use faprompt_edge::train::tensors::store::Store;
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

/// A learner whose parameters are its gradients.
fn gradients<L: Learner + Clone>(learner: &L, batch: &Batch) -> L {
    struct Swap(GradientsParams);
    impl ModuleMapper for Swap {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let id = param.id;
            let zeros = param.val().inner().zeros_like();
            let gradient = self.0.remove::<D>(id).unwrap_or(zeros);
            Param::initialized(id, gradient)
        }
    }
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
    total: impl Fn(usize) -> f64,
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
        let (own, golden) = (terms.get("total"), total(i));
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

#[test]
fn anomalyclip_learns_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex().autodiff();
    let expected = file("anomalyclip", "expected");
    let golden_path = golden("methods/anomalyclip/expected.safetensors");
    let learned = Learned::load(&golden_path, Method::Anomalyclip, &clip).unwrap();
    let options = options(Method::Anomalyclip, &clip);
    let training = file("anomalyclip", "training");
    let names = [
        ("ctx_pos", "ctx_pos"),
        ("ctx_neg", "ctx_neg"),
        ("compound_prompts_text.0", "deep.0"),
        ("compound_prompts_text.1", "deep.1"),
    ];
    let meta = meta("anomalyclip");
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
        let total = |i: usize| meta["losses"][key][i]["total"].as_f64().unwrap();
        let batch = batch(taps, &device);
        three_steps(
            Method::Anomalyclip,
            learner,
            &batch,
            &training,
            &format!("{key}."),
            &names,
            total,
            1e-3,
        );
    }
}

#[test]
fn april_gan_learns_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex().autodiff();
    let expected = file("april-gan", "expected");
    let golden_path = golden("methods/april-gan/expected.safetensors");
    let learned = Learned::load(&golden_path, Method::AprilGan, &clip).unwrap();
    let options = options(Method::AprilGan, &clip);
    let mut taps: Vec<Tensor<3>> = [2, 3, 5, 6]
        .iter()
        .map(|b| rows(&expected, &format!("tokens.block{b}"), 1, &device))
        .collect();
    let text = values(&expected, "text.unit");
    let direction: Vec<f32> = (0..128).map(|i| text[128 + i] - text[i]).collect();
    taps.push(put([&*direction; 3].concat(), [3, 1, 128], &device));
    let learner = april_gan::Learned::new(&clip, &learned.numbers, &options, &device).unwrap();
    let meta = meta("april-gan");
    let total = |i: usize| meta["losses"][i]["total"].as_f64().unwrap();
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
        total,
        1e-3,
    );
}

#[test]
fn coop_and_cocoop_learn_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex().autodiff();
    for (method, name, names) in [
        (Method::Coop, "coop", vec![("ctx", "ctx")]),
        (
            Method::Cocoop,
            "cocoop",
            vec![
                ("ctx", "ctx"),
                ("meta_net.linear1.weight", "meta_net.linear1.weight"),
                ("meta_net.linear1.bias", "meta_net.linear1.bias"),
                ("meta_net.linear2.weight", "meta_net.linear2.weight"),
                ("meta_net.linear2.bias", "meta_net.linear2.bias"),
            ],
        ),
    ] {
        let expected = file(name, "expected");
        let golden_path = golden(&format!("methods/{name}/expected.safetensors"));
        let learned = Learned::load(&golden_path, method, &clip).unwrap();
        let options = options(method, &clip);
        let learner =
            coop::Learned::new(&clip, &learned.numbers, "bottle", &options, &device).unwrap();
        let meta = meta(name);
        let total = |i: usize| {
            let loss = &meta["losses"][i];
            loss.as_f64().or(loss["total"].as_f64()).unwrap()
        };
        let training = file(name, "training");
        let batch = batch(vec![rows(&expected, "image.raw", 0, &device)], &device);
        three_steps(method, learner, &batch, &training, "", &names, total, 2e-3);
    }
}

/// Our reading of the paper, in Rust and in PyTorch (`reference.py`).
#[test]
fn dapo_learns_as_the_independent_reference() {
    let folder = tempfile::tempdir().unwrap();
    let clip = golden_clip(folder.path());
    let device = Device::flex().autodiff();
    let expected = file("dapo", "expected");
    let golden_path = golden("methods/dapo/expected.safetensors");
    let learned = Learned::load(&golden_path, Method::Dapo, &clip).unwrap();
    let options = options(Method::Dapo, &clip);
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
    let meta = meta("dapo");
    let total = |i: usize| meta["losses"][i]["total"].as_f64().unwrap();
    let (_, terms) = learner.loss(&batch);
    for name in ["image_cross_entropy", "focal", "dice"] {
        let golden = meta["losses"][0][name].as_f64().unwrap();
        let own = terms.get(name);
        assert!(
            ((own - golden) / golden).abs() < 1e-3,
            "{name}: {own}, not {golden}"
        );
    }
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
        total,
        1e-3,
    );
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
