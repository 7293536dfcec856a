//! The ONNX graph of a frame gives the CPU's numbers in ONNX Runtime. Needs a Python with `onnxruntime`, so it is left out
//! of `make test`: `make onnx-check`, or `FAPROMPT_PYTHON=... cargo test --release --features train --test onnx -- --ignored`.

mod common;

use common::{apart, golden, golden_bundle};
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::{Inspector, Options};
use faprompt_edge::ops::slice;
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::train::backbone::Backbone;
use faprompt_edge::train::clip::Overrides;
use faprompt_edge::train::onnx;
use faprompt_edge::vision::{Encoder, Preprocessor};
use image::RgbImage;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const RUN: &str = "
import sys, numpy as np, onnxruntime as ort
folder, side = sys.argv[1], int(sys.argv[2])
s = ort.InferenceSession(folder + '/frame.onnx', providers=['CPUExecutionProvider'])
x = np.fromfile(folder + '/image', np.float32).reshape(1, 3, side, side)
for o, v in zip(s.get_outputs(), s.run(None, {'image': x})):
    assert list(v.shape) == o.shape and v.dtype == np.float32, (o.name, v.shape, o.shape)
    v.tofile(folder + '/' + o.name + '.out')
";

/// What ONNX Runtime makes of a frame: every output by name.
fn peers(bundle: &Bundle, frame: &RgbImage) -> BTreeMap<String, Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    onnx::write(
        bundle,
        AdaptationMode::Exact,
        &folder.path().join("frame.onnx"),
    )
    .unwrap();
    let image = &bundle.manifest().image;
    let pixels = Preprocessor::new(image).run(frame).unwrap();
    let bytes = slice(&pixels).unwrap().iter().flat_map(|v| v.to_le_bytes());
    std::fs::write(folder.path().join("image"), bytes.collect::<Vec<u8>>()).unwrap();
    let python = std::env::var("FAPROMPT_PYTHON").unwrap_or("python3".into());
    let out = Command::new(python)
        .args(["-c", RUN])
        .arg(folder.path())
        .arg(image.size.to_string())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "out") {
            let bytes = std::fs::read(&path).unwrap();
            let values = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|c| f32::from_le_bytes(*c));
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            found.insert(name, values.collect());
        }
    }
    found
}

/// Largest differences of score, map and patch scores.
fn off(bundle: &Bundle, frame: &RgbImage) -> [f32; 4] {
    let options = Options {
        arithmetic: Arithmetic::F32,
        ..Options::default()
    };
    let mut inspector = Inspector::new(bundle, options).unwrap();
    let want = inspector.inspect(frame).unwrap();
    let got = peers(bundle, frame);
    [
        (got["score"][0] - want.score).abs(),
        apart(&got["map"], &want.map().values),
        apart(&got["patch_scores"], &want.patch_scores),
        apart(&got["patch_scores_adapted"], &want.patch_scores_adapted),
    ]
}

#[test]
#[ignore = "needs Python with onnxruntime"]
fn faprompts_frame() {
    let folder = tempfile::tempdir().unwrap();
    for (selection, precision, limit) in [
        (Selection::Paper, Precision::F32, 1e-3),
        (Selection::Upstream, Precision::F32, 1e-3),
        (Selection::Paper, Precision::F16, 1e-2),
    ] {
        let (_, bundle) = golden_bundle(folder.path(), selection, precision);
        let photo = image::open(golden("faprompt-tiny/image1.png")).unwrap();
        let off = off(&bundle, &photo.to_rgb8());
        println!("{selection:?}, {precision:?}: off by {off:?}");
        assert!(
            off.iter().all(|d| *d < limit),
            "{precision:?}: off by {off:?}"
        );
    }
    // Int8 weights are widened: the graph's numbers are those of --arithmetic f32.
    let bundle = Bundle::open(Path::new(env!("DEFAULT_BUNDLE")), &Keys::default()).unwrap();
    let photo = image::open(golden("faprompt-tiny/image1.png")).unwrap();
    let off = off(&bundle, &photo.to_rgb8());
    println!("default bundle: off by {off:?}");
    assert!(
        off.iter().all(|d| *d < 1e-3),
        "default bundle: off by {off:?}"
    );
}

#[test]
#[ignore = "needs Python with onnxruntime"]
fn an_encoder_without_text() {
    let folder = tempfile::tempdir().unwrap();
    let weights = golden("backbones/hugging_face_registers");
    let backbone = Backbone::load(&weights, &Overrides::default()).unwrap();
    let mut options = common::options(Selection::Paper, Precision::F32);
    options.image_size = Some(84);
    let path = folder.path().join("b.bundle");
    backbone.export(&options, None, &path).unwrap();
    let bundle = Bundle::open(&path, &Keys::default()).unwrap();
    let taps = bundle.manifest().memory_taps();
    let frame = image::open(golden("faprompt-tiny/image1.png"))
        .unwrap()
        .to_rgb8();
    let mut encoder = Encoder::with_taps(&bundle, &taps, 0, Arithmetic::F32).unwrap();
    let pixels = Preprocessor::new(&bundle.manifest().image)
        .run(&frame)
        .unwrap();
    let want = slice(&encoder.taps(pixels).unwrap()[0]).unwrap().to_vec();
    let got = peers(&bundle, &frame);
    assert_eq!(got.len(), 1);
    let off = apart(&got[&taps[0].to_string().replace(' ', ".")], &want);
    assert!(off < 1e-3, "off by {off}");
}
