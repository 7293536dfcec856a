//! Image encoders without text (tests/golden/backbones, made by the libraries that define them): the same numbers
//! come out, and the bundle judges once it was taught.

mod common;

use common::{golden, relative, values};
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::bundle::tap::{Form, Rows, Stream, Tap};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::gpu::GpuNetwork;
use faprompt_edge::inspector::{Inspector, KNOWN_TOLERANCE, Options};
use faprompt_edge::ops::slice;
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::train::backbone::Backbone;
use faprompt_edge::train::clip::Overrides;
use faprompt_edge::train::tensors::Tensors;
use faprompt_edge::vision::{Encoder, Preprocessor};
use image::{Rgb, RgbImage};
use std::path::Path;
use std::process::{Command, Output};
use tract_core::prelude::{Datum, Tensor};

/// What the last block's normalised rows and the first block's raw rows are off by, relative, at the weights' own
/// size and at another.
fn off(weights: &str, overrides: &Overrides, precision: Precision) -> [f32; 4] {
    let path = golden("backbones").join(weights);
    let folder = if path.is_dir() {
        &path
    } else {
        path.parent().unwrap()
    };
    let want = Tensors::load(&folder.join("expected.safetensors")).unwrap();
    let backbone = Backbone::load(&path, overrides).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut found = vec![];
    for size in [56, 84] {
        let mut options = common::options(Selection::Paper, precision);
        options.image_size = Some(size);
        let out = scratch.path().join(format!("{size}.bundle"));
        backbone.export(&options, None, &out).unwrap();
        let bundle = Bundle::open(&out, &Keys::default()).unwrap();
        // What a device that computes wrongly is found by.
        let mut inspector = Inspector::new(&bundle, Options::default()).unwrap();
        let (known, score) = (inspector.known_score(), inspector.known_frame_score());
        let far = (known.unwrap() - score.unwrap()).abs();
        assert!(far < KNOWN_TOLERANCE, "{weights}: {far}");
        let tap = |block, form| Tap {
            block,
            stream: Stream::X,
            form,
            rows: Rows::All,
        };
        let taps = [tap(2, Form::LnPost), tap(1, Form::Raw)];
        let mut encoder = Encoder::with_taps(&bundle, &taps, 0, Arithmetic::Auto).unwrap();
        let pixels = values(&want, &format!("pixels.{size}"));
        let pixels = Tensor::from_shape(&[3, size, size], &pixels).unwrap();
        let rows = encoder.taps(pixels).unwrap();
        for (rows, name) in rows.iter().zip(["last", "first"]) {
            let want = values(&want, &format!("{name}.{size}"));
            found.push(relative(slice(rows).unwrap(), &want));
        }
    }
    found.try_into().unwrap()
}

/// No configuration says how many heads these weights have.
fn two_heads() -> Overrides {
    Overrides {
        heads: Some([2, 2]),
        ..Overrides::default()
    }
}

#[test]
fn numbers_are_those_of_the_libraries() {
    for (weights, overrides) in [
        ("hugging_face", Overrides::default()),
        ("hugging_face_registers", Overrides::default()),
        ("timm_registers", two_heads()),
        ("timm_vit", two_heads()),
        ("authors/dinov2_tiny14_pretrain.pth", two_heads()),
    ] {
        let off = off(weights, &overrides, Precision::F32);
        assert!(off.iter().all(|v| *v < 1e-3), "{weights}: off by {off:?}");
    }
}

#[test]
fn smaller_weights_move_them_little() {
    for (precision, limit) in [(Precision::F16, 2e-3), (Precision::Int8, 6e-2)] {
        let off = off("hugging_face_registers", &Overrides::default(), precision);
        assert!(
            off.iter().all(|v| *v < limit),
            "{precision:?}: off by {off:?}"
        );
    }
}

/// The same graph that `--runtime cuda` moves to a card, run by tract's CPU runtime.
#[test]
fn the_gpus_graph_has_the_same_rows() {
    let scratch = tempfile::tempdir().unwrap();
    for weights in ["hugging_face", "hugging_face_registers"] {
        let backbone = Backbone::load(&golden("backbones").join(weights), &Overrides::default());
        let mut options = common::options(Selection::Paper, Precision::F32);
        options.image_size = Some(84);
        let out = scratch.path().join("g.bundle");
        backbone.unwrap().export(&options, None, &out).unwrap();
        let bundle = Bundle::open(&out, &Keys::default()).unwrap();
        let tap = |block, form, rows| Tap {
            block,
            stream: Stream::X,
            form,
            rows,
        };
        let taps = [
            tap(2, Form::LnPost, Rows::All),
            tap(2, Form::LnPost, Rows::Patches),
            tap(1, Form::Raw, Rows::Class),
        ];
        let frame = Preprocessor::new(&bundle.manifest().image)
            .run(&part(1, true))
            .unwrap();
        let mut encoder = Encoder::with_taps(&bundle, &taps, 0, Arithmetic::F32).unwrap();
        let want = encoder.taps(frame.clone()).unwrap();
        let mut gpu = GpuNetwork::encoder_on("cpu", &bundle, &taps, f32::datum_type()).unwrap();
        let got = gpu.run(frame).unwrap();
        for (got, want) in got.taps().iter().zip(want) {
            let off = relative(slice(got).unwrap(), slice(want).unwrap());
            assert!(off < 1e-5, "{weights}: off by {off}");
        }
    }
}

#[test]
fn what_nobody_says_is_assumed_aloud() {
    let path = golden("backbones/authors/dinov2_tiny14_pretrain.pth");
    let backbone = Backbone::load(&path, &Overrides::default()).unwrap();
    let said = backbone.assumed.join("; ");
    for word in [
        "attention heads 1",
        "epsilon 1e-6",
        "mean of ImageNet",
        "--heads",
        "--std",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = Backbone::load(&golden("backbones/hugging_face"), &Overrides::default()).unwrap();
    assert_eq!(said.assumed, Vec::<String>::new());
    assert_eq!(said.preprocess.std, [0.229, 0.224, 0.225]);
    let timm = Backbone::load(&golden("backbones/timm_vit"), &two_heads()).unwrap();
    assert_eq!((timm.preprocess.std, timm.epsilon), ([0.25; 3], 1e-6));
}

/// A folder with one thing changed in its configuration.
fn changed(from: &str, to: &str) -> Result<Backbone, String> {
    let folder = tempfile::tempdir().unwrap();
    let own = golden("backbones/hugging_face");
    std::fs::copy(
        own.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let config = std::fs::read_to_string(own.join("config.json")).unwrap();
    assert!(config.contains(from));
    std::fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
    Backbone::load(folder.path(), &Overrides::default()).map_err(|e| e.to_string())
}

#[test]
fn other_networks_are_refused_by_name() {
    for (from, to, word) in [
        ("\"dinov2\"", "\"dinov3_vit\"", "DINOv3"),
        ("\"gelu\"", "\"silu\"", "`hidden_act` = silu"),
        (
            "\"use_swiglu_ffn\": false",
            "\"use_swiglu_ffn\": true",
            "gated MLPs",
        ),
        (
            "\"num_attention_heads\": 2",
            "\"num_attention_heads\": 3",
            "3 heads",
        ),
        (
            "\"layer_norm_eps\": 1e-06",
            "\"layer_norm_eps\": \"small\"",
            "layer_norm_eps",
        ),
    ] {
        let error = changed(from, to).err().unwrap_or_default();
        assert!(error.contains(word), "{word}: {error}");
    }
    let clip = golden("layouts/hugging_face");
    let error = Backbone::load(&clip, &Overrides::default()).err().unwrap();
    assert!(error.to_string().contains("--clip"), "{error}");
}

fn run(program: &str, arguments: &[&Path]) -> Output {
    let program = match program {
        "faprompt-train" => env!("CARGO_BIN_EXE_faprompt-train"),
        _ => env!("CARGO_BIN_EXE_faprompt-edge"),
    };
    Command::new(program).args(arguments).output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A part with a grain of its own, and with a dark hole if it is `bad`.
fn part(seed: u32, bad: bool) -> RgbImage {
    RgbImage::from_fn(56, 56, |x, y| {
        let grain = (x * 7 + y * 13 + seed * 31).wrapping_mul(2_654_435_761) >> 27;
        let hole = bad && (20..36).contains(&x) && (20..36).contains(&y);
        let level = if hole {
            10
        } else {
            120 + x as u8 + (grain % 16) as u8
        };
        Rgb([level, level / 2 + 40, 200 - level / 2])
    })
}

#[test]
fn it_judges_once_it_was_taught() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let p = Path::new;
    let weights = golden("backbones/hugging_face_registers");
    for (precision, bundle) in [("f32", at("f32.bundle")), ("int8", at("int8.bundle"))] {
        let good = at("good");
        std::fs::create_dir_all(&good).unwrap();
        for i in 0..8 {
            part(i, false).save(good.join(format!("{i}.png"))).unwrap();
        }
        part(9, false).save(at("fine.png")).unwrap();
        part(10, true).save(at("hole.png")).unwrap();
        let out = run(
            "faprompt-train",
            &[
                p("export"),
                p("--weights"),
                &weights,
                p("--precision"),
                p(precision),
                p("--out"),
                &bundle,
            ],
        );
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(
            said(&out).contains("3 registers") && said(&out).contains("teach"),
            "{}",
            said(&out)
        );
        let info = said(&run("faprompt-edge", &[p("bundle"), p("info"), &bundle]));
        assert!(info.contains("memory") && info.contains("none"), "{info}");
        // Without good parts it has no opinion, and says what to do.
        let fine = at("fine.png");
        let out = run(
            "faprompt-edge",
            &[p("inspect"), p("--bundle"), &bundle, &fine],
        );
        assert_eq!(out.status.code(), Some(27), "{}", said(&out));
        assert!(said(&out).contains("faprompt-edge teach"), "{}", said(&out));
        let taught = at("parts.taught");
        let out = run(
            "faprompt-edge",
            &[
                p("teach"),
                &good,
                p("--bundle"),
                &bundle,
                p("--out"),
                &taught,
            ],
        );
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        let judge = |photo: &str| {
            let photo = at(photo);
            let arguments = [
                p("inspect"),
                p("--json"),
                p("--bundle"),
                &bundle,
                p("--taught"),
                &taught,
                &photo,
            ];
            let out = run("faprompt-edge", &arguments);
            let line: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            assert!(line.get("zero_shot").is_none(), "{line}");
            (out.status.code(), line["score"].as_f64().unwrap())
        };
        let (fine, hole) = (judge("fine.png"), judge("hole.png"));
        assert_eq!(hole.0, Some(1), "{precision}: a hole is a reject: {hole:?}");
        assert!(hole.1 > fine.1 + 0.2, "{precision}: {hole:?}, {fine:?}");
    }
}
