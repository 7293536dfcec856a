//! Any other image encoder, from an ONNX file (tests/golden/networks): ONNX Runtime's numbers come out of the bundle, what
//! cannot be run is named, and parts are judged by it, alone and beside a CLIP.

mod common;

use common::{golden, relative, values};
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::bundle::network::GRAPH;
use faprompt_edge::bundle::{Bundle, BundleError, BundleWriter, Keys};
use faprompt_edge::capture::known_frame;
use faprompt_edge::inspector::{Inspector, KNOWN_TOLERANCE, Options};
use faprompt_edge::memory::file::TaughtError;
use faprompt_edge::ops::slice;
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::train::clip::Overrides;
use faprompt_edge::train::network::{Asked, Network};
use faprompt_edge::train::tensors::Tensors;
use faprompt_edge::vision::Encoder;
use prost::Message;
use std::path::Path;
use std::process::Command;
use tract_core::prelude::Tensor;
use tract_onnx::pb::*;

/// Names of both maps: of an inner tensor, and of the output.
const MAPS: [&str; 2] = ["/body/out", "last"];

fn load(file: &str, taps: &[&str], size: Option<usize>) -> Network {
    let taps: Vec<String> = taps.iter().map(|t| t.to_string()).collect();
    let overrides = Overrides {
        mean: Some([0.5; 3]),
        std: Some([0.25; 3]),
        ..Overrides::default()
    };
    let asked = Asked {
        taps: &taps,
        image_size: size,
        grid: None,
        overrides: &overrides,
    };
    Network::load(&golden("networks").join(file), &asked).unwrap()
}

/// Its bundle, in `folder`.
fn bundle(network: &Network, precision: Precision, folder: &Path) -> Bundle {
    let path = folder.join("n.bundle");
    let options = common::options(Selection::Paper, precision);
    network.export(&options, &path).unwrap();
    Bundle::open(&path, &Keys::default()).unwrap()
}

/// How far each tap of a bundle is from what ONNX Runtime made of the pixels, relative.
fn off(bundle: &Bundle, names: &[&str], arithmetic: Arithmetic) -> Vec<f32> {
    let want = Tensors::load(&golden("networks/expected.safetensors")).unwrap();
    let taps = bundle.manifest().memory_taps();
    let mut encoder = Encoder::with_taps(bundle, &taps, 0, arithmetic).unwrap();
    let pixels = Tensor::from_shape(&[3, 32, 32], &values(&want, "pixels")).unwrap();
    let rows = encoder.taps(pixels).unwrap();
    assert_eq!(rows.len(), names.len());
    let pairs = rows.iter().zip(names);
    let off = pairs.map(|(rows, name)| relative(slice(rows).unwrap(), &values(&want, name)));
    off.collect()
}

#[test]
fn numbers_are_those_of_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let maps = load("maps.onnx", &MAPS, Some(32));
    assert_eq!((maps.image.grid(), maps.taps[1].channels), (8, 12));
    // 16 x 16 places of 27 products for 8 channels; 64 of 72 for 8; 16 of 9 for 8, and of 8 for 12. Then the grids'.
    let convolutions = 256 * 27 * 8 + 64 * 72 * 8 + 16 * 9 * 8 + 16 * 8 * 12;
    let enlarging = (4 * 8 * 4 + 8 * 8 * 4) * 12;
    assert_eq!(maps.products, convolutions + enlarging);
    let rows = load("rows.onnx", &["tokens"], None);
    assert_eq!((rows.image.size, rows.image.grid()), (32, 4));
    let mut all = vec![];
    for (precision, arithmetic, limit) in [
        (Precision::F32, Arithmetic::Int8, 1e-5),
        (Precision::F16, Arithmetic::Int8, 1e-3),
        (Precision::Int8, Arithmetic::F32, 0.03),
        (Precision::Int8, Arithmetic::Int8, 0.04),
    ] {
        let bundle_ = bundle(&maps, precision, folder.path());
        let mut found = off(&bundle_, &["maps.stride4", "maps.stride8"], arithmetic);
        found.extend(off(
            &bundle(&rows, precision, folder.path()),
            &["rows.tokens"],
            arithmetic,
        ));
        assert!(
            found.iter().all(|d| *d < limit),
            "{precision:?} in {arithmetic:?}: off by {found:?}"
        );
        all.push(found);
    }
    assert_ne!(all[2], all[3], "int8 weights were not multiplied in int8");
}

#[test]
fn alone_it_judges_by_good_parts() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(
        &load("maps.onnx", &MAPS, Some(64)),
        Precision::Int8,
        folder.path(),
    );
    // int8 is asked for whatever this processor would choose.
    let options = Options {
        memory: true,
        arithmetic: Arithmetic::Int8,
        ..Options::default()
    };
    let mut inspector = Inspector::new(&bundle, options).unwrap();
    let far = inspector.known_score().unwrap() - inspector.known_frame_score().unwrap();
    assert!(far.abs() < KNOWN_TOLERANCE, "{far}");
    // Nothing is known to be good.
    assert_eq!(inspector.inspect(&known_frame()).unwrap().score, 1.0);
    let layout = inspector.layout().unwrap();
    assert_eq!((layout.grid, layout.dim), (16, 20));
    let own = inspector.descriptors().unwrap().to_vec();
    assert_eq!(own.len(), 16 * 16 * 20);
    let mut beside = inspector.beside().unwrap();
    beside.inspect(&known_frame()).unwrap();
    assert_eq!(beside.descriptors().unwrap(), own);
    assert_eq!(inspector.bound_to().unwrap().1, "int8");
}

#[test]
fn beside_a_clip_only_the_memory_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Bundle::open(Path::new(env!("DEFAULT_BUNDLE")), &Keys::default()).unwrap();
    let grid = plain.manifest().image.grid();
    let names = MAPS.map(String::from);
    let asked = Asked {
        taps: &names,
        image_size: Some(8 * grid),
        grid: Some(grid),
        overrides: &Overrides::default(),
    };
    let network = Network::load(&golden("networks/maps.onnx"), &asked).unwrap();
    assert!(
        network.assumed.iter().any(|a| a.contains("--mean")),
        "{:?}",
        network.assumed
    );
    let path = folder.path().join("both.bundle");
    let options = common::options(Selection::Paper, Precision::F16);
    network.export_beside(&plain, &options, &path).unwrap();
    let both = Bundle::open(&path, &Keys::default()).unwrap();
    for (part, digest) in plain.digests() {
        assert!(
            part == "manifest" || both.digests()[part] == *digest,
            "{part}"
        );
    }
    let options = Options {
        memory: true,
        ..Options::default()
    };
    // What is taught is bound to what both are multiplied in; int8 is asked for whatever this processor would choose.
    for (precision, asked, both_in) in [
        (Precision::Int8, Arithmetic::Int8, "int8+int8"),
        (Precision::Int8, Arithmetic::F32, "f32+f32"),
        (Precision::F32, Arithmetic::Int8, "int8+f32"),
    ] {
        let path = folder.path().join("third.bundle");
        let stored = common::options(Selection::Paper, precision);
        network.export_beside(&plain, &stored, &path).unwrap();
        let bundle = Bundle::open(&path, &Keys::default()).unwrap();
        let options = Options {
            arithmetic: asked,
            ..options
        };
        let own = |b| Inspector::new(b, options).unwrap();
        let (third, alone) = (own(&bundle), own(&plain));
        assert_eq!(third.arithmetic(), both_in, "{precision:?}");
        assert_eq!(third.bound_to().unwrap().1, both_in, "{precision:?}");
        assert!(both_in.starts_with(alone.arithmetic()), "{both_in}");
    }
    let mut alone = Inspector::new(&plain, options).unwrap();
    let mut inspector = Inspector::new(&both, options).unwrap();
    let frame = known_frame();
    let want = alone.inspect(&frame).unwrap().clone();
    let found = inspector.inspect(&frame).unwrap();
    assert_eq!(
        (found.score, &found.patch_scores),
        (want.score, &want.patch_scores)
    );
    assert!(found.ms.memory > 0.0);
    // 8 and 12 channels on the CLIP's own grid.
    let layout = inspector.layout().unwrap();
    assert_eq!((layout.grid, layout.dim), (grid, 20));
    assert_eq!(inspector.descriptors().unwrap().len(), grid * grid * 20);
    assert_ne!(inspector.bound_to().unwrap().0, alone.bound_to().unwrap().0);

    // In tiles: each has its own.
    inspector.cut("1x2".parse().unwrap()).unwrap();
    inspector.inspect(&frame).unwrap();
    assert_eq!(inspector.descriptors().unwrap().len(), 2 * grid * grid * 20);
    // A self-test leaves the last frame's.
    let last = inspector.descriptors().unwrap().to_vec();
    for _ in 0..2 {
        inspector.known_frame_score().unwrap();
        assert_eq!(inspector.descriptors().unwrap(), last);
    }
    let bytes: std::sync::Arc<[u8]> = b"nothing".as_slice().into();
    let refused = inspector.teach(Some(bytes)).unwrap_err();
    assert!(!matches!(refused, TaughtError::Another(_)), "{refused}");
}

/// Runs `export --encoder` on a golden file.
fn export(arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_faprompt-train"))
        .current_dir(golden("networks"))
        .args(["export", "--out"])
        .arg(folder.path().join("n.bundle"))
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    (
        out.status.code(),
        text + &String::from_utf8_lossy(&out.stderr),
    )
}

#[test]
fn what_cannot_be_run_is_named() {
    for (arguments, code, what) in [
        (
            &["--encoder", "maps.onnx", "--image-size", "32"][..],
            30,
            "/body/out: 8 channels, 8 x 8",
        ),
        (
            &[
                "--encoder",
                "maps.onnx",
                "--image-size",
                "32",
                "--taps",
                "lost",
            ],
            30,
            "called `lost`",
        ),
        (
            &["--encoder", "maps.onnx", "--taps", "last"],
            30,
            "--image-size says it",
        ),
        (
            &[
                "--encoder",
                "odd.onnx",
                "--image-size",
                "32",
                "--taps",
                "last",
            ],
            30,
            "not supported: Mystery (riddle)",
        ),
        (
            &[
                "--encoder",
                "rows.onnx",
                "--image-size",
                "64",
                "--taps",
                "tokens",
            ],
            30,
            "made for 32 px",
        ),
        (
            &["--encoder", "rows.onnx", "--taps", "soft"],
            0,
            "4 x 4 places by soft (12)",
        ),
        (
            &["--encoder", "rows.onnx", "--taps", "flattened"],
            30,
            "no square of patches",
        ),
        (
            &["--encoder", "expected.safetensors", "--taps", "a"],
            30,
            "no ONNX file",
        ),
        (&["--encoder", "none.onnx", "--taps", "a"], 30, "none.onnx"),
        (
            &["--encoder", "none.onnx", "--taps", "a,b,a"],
            32,
            "--taps names `a` twice",
        ),
        (
            &["--clip", "none", "--memory-blocks", "0"],
            32,
            "--memory-blocks 0: blocks are counted from 1",
        ),
        (
            &["--weights", "none", "--memory-blocks", "2,2"],
            32,
            "--memory-blocks names `2` twice",
        ),
        (
            &["--encoder", "half.onnx", "--taps", "last"],
            30,
            "its input is F16: only f32",
        ),
        (
            &["--encoder", "four.onnx", "--taps", "last"],
            30,
            "it wants 4 pictures at once",
        ),
        (
            &["--encoder", "grey.onnx", "--taps", "last"],
            30,
            "it wants 1 channels",
        ),
        (
            &[
                "--encoder",
                "rows.onnx",
                "--taps",
                "tokens",
                "--method",
                "heads",
            ],
            32,
            "--method heads",
        ),
    ] {
        let (found, text) = export(arguments);
        assert!(text.contains(what), "{arguments:?}: {text}");
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
    }
}

/// A file of a convolution and one more node, `/act`, at an opset.
fn made(kind: &str, opset: i64, file: &Path) {
    let node = |kind: &str, from: &[&str], to: &str, attributes| NodeProto {
        name: format!("/{to}"),
        op_type: kind.into(),
        input: from.iter().map(|i| i.to_string()).collect(),
        output: vec![to.into()],
        attribute: attributes,
        ..NodeProto::default()
    };
    let whole = |name: &str, ints: &[i64]| AttributeProto {
        name: name.into(),
        r#type: attribute_proto::AttributeType::Ints.into(),
        ints: ints.to_vec(),
        ..AttributeProto::default()
    };
    let dimension = |n: i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(n)),
        ..Default::default()
    };
    let shape = TensorShapeProto {
        dim: [1, 3, 32, 32].map(dimension).to_vec(),
    };
    let picture = type_proto::Tensor {
        elem_type: tensor_proto::DataType::Float.into(),
        shape: Some(shape),
    };
    let value = |name: &str, tensor| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    };
    let weights = TensorProto {
        name: "w".into(),
        dims: vec![8, 3, 4, 4],
        data_type: tensor_proto::DataType::Float.into(),
        float_data: (0..384).map(|i| 0.01 * (i % 7) as f32).collect(),
        ..TensorProto::default()
    };
    let nodes = vec![
        node(
            "Conv",
            &["x", "w"],
            "map",
            vec![whole("strides", &[4, 4]), whole("kernel_shape", &[4, 4])],
        ),
        node(kind, &["map"], "act", vec![]),
    ];
    let graph = GraphProto {
        node: nodes,
        name: "g".into(),
        initializer: vec![weights],
        input: vec![value("x", picture)],
        output: vec![value("act", type_proto::Tensor::default())],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 9,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: opset,
        }],
        ..ModelProto::default()
    };
    std::fs::write(file, model.encode_to_vec()).unwrap();
}

#[test]
fn operators_of_newer_opsets_and_quantised_files_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made.onnx");
    let path = file.to_str().unwrap();
    let newer = "opset 20, and those up to 18 are known: export it with opset 17";
    for (kind, opset, words) in [
        (
            "Gelu",
            20,
            &["made.onnx", "operator Gelu", "(/act", newer][..],
        ),
        ("Mystery", 20, &["not supported: Mystery (/act)", newer]),
        (
            "DynamicQuantizeLinear",
            17,
            &[
                "it is quantised: DynamicQuantizeLinear (/act)",
                "--precision int8",
            ],
        ),
    ] {
        made(kind, opset, &file);
        let (code, text) = export(&["--encoder", path, "--taps", "act"]);
        assert_eq!(code, Some(30), "{text}");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        // What no tap depends on does not count.
        let (code, text) = export(&["--encoder", path, "--taps", "map"]);
        assert_eq!(code, Some(0), "{text}");
    }
}

/// The list of maps names the file's outputs, of every other resolution the last map, and never the picture.
#[test]
fn maps_are_listed_by_what_they_are_for() {
    let (_, text) = export(&["--encoder", "maps.onnx", "--image-size", "32"]);
    let lines: Vec<&str> = text.lines().filter(|l| l.contains("channels, ")).collect();
    assert_eq!(
        lines[lines.len() - 2..],
        [
            "  /body/out: 8 channels, 8 x 8 (an output)",
            "  last: 12 channels, 4 x 4 (an output)"
        ]
    );
    assert!(!text.contains("image:"), "{text}");
    assert!(
        lines.iter().all(|l| !l.contains(": 3 channels, 32")),
        "{text}"
    );
}

/// A graph that is not what the manifest says: refused, whatever it says.
#[test]
fn a_stranger_s_graph_costs_its_bundle_alone() {
    let folder = tempfile::tempdir().unwrap();
    let good = bundle(
        &load("maps.onnx", &MAPS, Some(32)),
        Precision::F32,
        folder.path(),
    );
    let text = good.text(GRAPH, 1 << 20).unwrap();
    let tries = [
        String::new(),
        "version 1.0;".into(),
        text.replace("[1, 3, 32, 32]", "[1, 3, 16, 16]"),
        text.replace("network/", "nowhere/"),
        text.replace("32", "31"),
        text.replace("variable", "mystery"),
        text[..text.len() / 2].into(),
        "graph network(a) -> (b) { b = a; }".repeat(1000),
    ];
    for (i, text) in tries.iter().enumerate() {
        let mut writer = BundleWriter::new(Precision::F32);
        writer.text(GRAPH, text);
        for name in good.names("network") {
            if name != GRAPH {
                let tensor = good.array(&name).unwrap();
                writer.exact(&name, tensor.shape(), slice(&tensor).unwrap());
            }
        }
        let bytes = writer.bytes(good.manifest()).unwrap();
        let bundle = Bundle::from_bytes(bytes).unwrap();
        match Inspector::new(&bundle, Options::default()) {
            Err(BundleError::Architecture { part, .. }) => assert_eq!(part, "network", "{i}"),
            Err(e) => panic!("{i}: {e}"),
            Ok(_) => assert_eq!(*text, *good.text(GRAPH, 1 << 20).unwrap(), "{i}"),
        }
    }
    let mut manifest = good.manifest().clone();
    let network = manifest.network.as_mut().unwrap();
    network.taps[1].channels = 0;
    let error = manifest.check().unwrap_err().to_string();
    assert!(error.contains("network.taps: 0 channels"), "{error}");
}
