//! CLIP weights in the layouts that people have (tests/golden/layouts, made by the libraries that define
//! them): the same network comes out, by those libraries' own numbers.

mod common;

use common::{golden, relative, values};
use faprompt_edge::bundle::manifest::{ActivationKind, Interpolation, Precision, Selection};
use faprompt_edge::bundle::{Bundle, Keys, manifest};
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::export::export;
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::random::{self, Sizes};
use faprompt_edge::train::reference::Reference;
use faprompt_edge::train::tensors::Tensors;
use faprompt_edge::vision::{Encoder, Preprocessor};
use image::RgbImage;
use indicatif::ProgressBar;
use ndarray::Axis;
use std::path::{Path, PathBuf};
use tract_core::prelude::Tensor;

/// Prompts whose tensors fit the layouts' text encoder (`width` wide, 2 blocks).
fn prompts(folder: &Path, width: usize) -> PathBuf {
    let sizes = Sizes {
        vision: (width, 1, 8, 32),
        text: (width, 2),
        tokens: (3, 2, 2),
        prior: (4, 8),
        deep: (1, 2),
        words: (3, 4),
    };
    random::write(&sizes, 1, folder).unwrap().1
}

fn check(weights: &str, folder: &str) {
    let usual = (1, 1, ActivationKind::QuickGelu, [1e-5; 2]);
    check_as(weights, folder, usual);
}

/// The network has these heads, this activation and these epsilons, and the numbers of its own library.
fn check_as(weights: &str, folder: &str, said: (usize, usize, ActivationKind, [f32; 2])) {
    let mut clip = Clip::load(&golden(weights)).unwrap();
    let want = Tensors::load(&golden(folder).join("expected.safetensors")).unwrap();
    let epsilon = [clip.visual.epsilon, clip.text.epsilon];
    let found = (clip.visual.heads, clip.text.heads, clip.activation, epsilon);
    assert_eq!(found, said, "{weights}");

    let table = clip.text.embedding.clone().unwrap();
    let ids: Vec<usize> = values(&want, "tokens")
        .iter()
        .map(|v| *v as usize)
        .collect();
    let reference = Reference {
        text: &clip.text,
        activation: clip.activation,
        deep: &[],
    };
    let text = reference
        .encode(&table.select(Axis(0), &ids))
        .feature
        .to_vec();
    let far = relative(&text, &values(&want, "text"));
    assert!(far < 1e-3, "{weights}: the text feature is off by {far}");

    // Random prompts were made with no token table; the layouts' one would be called another CLIP's.
    clip.text.embedding = None;
    let scratch = tempfile::tempdir().unwrap();
    let prompts = Prompts::load(&prompts(scratch.path(), clip.text.width), &clip).unwrap();
    let mut options = common::options(Selection::Paper, Precision::F32);
    (options.image_size, options.vv_layers) = (Some(32), Some(1));
    let out = scratch.path().join("layout.bundle");
    export(&clip, &prompts, &options, &out, &ProgressBar::hidden()).unwrap();
    let bundle = Bundle::open(&out, &Keys::default()).unwrap();
    let mut encoder = Encoder::load(&bundle, Arithmetic::Auto).unwrap();
    if want.has("photo") {
        let shape = want.shape("photo").unwrap().to_vec();
        let photo = values(&want, "photo").iter().map(|v| *v as u8).collect();
        let photo = RgbImage::from_raw(shape[1] as u32, shape[0] as u32, photo).unwrap();
        let pixels = Preprocessor::new(&bundle.manifest().image)
            .run(&photo)
            .unwrap();
        let pixels = faprompt_edge::ops::slice(&pixels).unwrap().to_vec();
        let want = values(&want, "pixels");
        // Bilinear weights are fractions of small numbers: sums fall on the middle between two levels, which
        // Pillow's whole numbers and f32 round either way.
        let level = 1.0 / 255.0 / 0.125;
        assert!(common::apart(&pixels, &want) < 1.01 * level, "{weights}");
        let other = pixels
            .iter()
            .zip(&want)
            .filter(|(a, b)| (*a - *b).abs() > 1e-5);
        let share = other.count() as f32 / want.len() as f32;
        let allowed = match bundle.manifest().image.interpolation {
            Interpolation::Bicubic => 0.0,
            Interpolation::Bilinear => 0.02,
        };
        assert!(
            share <= allowed,
            "{weights}: {share} of the photo's pixels are off"
        );
    }
    let pixels = Tensor::from_shape(&[3, 32, 32], &values(&want, "pixels")).unwrap();
    let image = encoder.run(pixels).unwrap().image;
    let far = relative(
        faprompt_edge::ops::slice(&image).unwrap(),
        &values(&want, "image_raw"),
    );
    println!("{weights}: the image feature is off by {far:.1e}");
    assert!(far < 1e-3, "{weights}: the image feature is off by {far}");
}

#[test]
fn openai_state_dict() {
    check("layouts/openai/state_dict.pt", "layouts/openai");
}

#[test]
fn openai_torchscript() {
    check("layouts/openai/torchscript.pt", "layouts/openai");
}

#[test]
fn hugging_face_folder() {
    check("layouts/hugging_face", "layouts/hugging_face");
}

#[test]
fn open_clip_folder() {
    check("layouts/open_clip", "layouts/open_clip");
}

/// Other heads, epsilons, activation, normalisation and resizing than most have.
#[test]
fn what_only_configurations_say_is_done() {
    let said = (4, 2, ActivationKind::Gelu, [1e-3, 1e-2]);
    for folder in ["layouts/hugging_face_other", "layouts/open_clip_other"] {
        check_as(folder, folder, said);
    }
}

#[test]
fn a_training_checkpoint_with_its_optimizer() {
    check("layouts/openai/training.pt", "layouts/openai");
}

#[test]
fn open_clip_without_quick_gelu_is_read_as_gelu() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["open_clip_config.json", "open_clip_model.safetensors"] {
        std::fs::copy(
            golden("layouts/open_clip").join(file),
            folder.path().join(file),
        )
        .unwrap();
    }
    let path = folder.path().join("open_clip_config.json");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("\"quick_gelu\": true", "\"quick_gelu\": false");
    std::fs::write(&path, text).unwrap();
    let mut clip = Clip::load(folder.path()).unwrap();
    assert_eq!(clip.activation, manifest::ActivationKind::Gelu);
    // The device's GELU against the reference's, through a whole bundle.
    clip.text.embedding = None;
    let prompts = Prompts::load(&prompts(folder.path(), 64), &clip).unwrap();
    let mut options = common::options(Selection::Paper, Precision::F32);
    (options.image_size, options.vv_layers) = (Some(32), Some(1));
    let out = folder.path().join("gelu.bundle");
    export(&clip, &prompts, &options, &out, &ProgressBar::hidden()).unwrap();
    common::tower_matches_reference(
        &clip,
        &prompts,
        &Bundle::open(&out, &Keys::default()).unwrap(),
    );
}

#[test]
fn what_is_no_clip_is_refused_with_the_file_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let torchscript = std::fs::read(golden("layouts/openai/torchscript.pt")).unwrap();
    let safetensors =
        std::fs::read(golden("layouts/open_clip/open_clip_model.safetensors")).unwrap();
    let cases = [
        (write("empty.pt", b""), "empty.pt"),
        (write("text.pt", b"hello, this is no checkpoint"), "PyTorch"),
        (
            write("cut.pt", &torchscript[..torchscript.len() / 2]),
            "cut.pt",
        ),
        (
            write("cut.safetensors", &safetensors[..safetensors.len() / 2]),
            "safetensors",
        ),
        (write("huge.safetensors", &[0xff; 64]), "safetensors"),
        (folder.path().join("absent.pt"), "absent.pt"),
        (golden("layouts"), "no weights in this folder"),
        (folder.path().to_path_buf(), "several weight files"),
        (
            write(
                "pointer.bin",
                b"version https://git-lfs.github.com/spec/v1\noid",
            ),
            "Git LFS",
        ),
        (
            write("page.pt", b"<!DOCTYPE html><html><body>Sign in"),
            "web page",
        ),
        (
            golden("faprompt-tiny/prompt_learner.safetensors"),
            "--prompts",
        ),
    ];
    for (path, word) in cases {
        let error = Clip::load(&path)
            .err()
            .unwrap_or_else(|| panic!("{} was read", path.display()));
        assert!(matches!(error, TrainError::Weights { .. }));
        let text = error.to_string();
        assert!(
            text.contains(word) && text.contains(&path.display().to_string()),
            "{text}"
        );
    }
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let clip = Clip::load(&golden("layouts/hugging_face")).unwrap();
    let load = |path: &Path| {
        Prompts::load(path, &clip)
            .err()
            .expect("it does not fit")
            .to_string()
    };
    // Another width.
    let error = load(&golden("faprompt-tiny/prompt_learner.safetensors"));
    assert!(error.contains("ctx_pos") && error.contains("64"), "{error}");
    // Learned with another CLIP.
    let error = load(&prompts(folder.path(), 64));
    assert!(error.contains("another CLIP"), "{error}");
    // No prompt learner at all.
    let error = load(&golden("layouts/open_clip/open_clip_model.safetensors"));
    assert!(error.contains("no prompt learner"), "{error}");
}

/// CLIPs as ONNX files (tests/golden/onnx): both exporters of PyTorch, one file or a tower each, f32 and f16.
#[test]
fn onnx_files_hold_the_same_network() {
    use ActivationKind::{Gelu, QuickGelu};
    let usual = [1e-5; 2];
    for (weights, folder, activation, epsilon) in [
        ("onnx/towers", "onnx/towers", QuickGelu, usual),
        (
            "onnx/towers/onnx/text_model.onnx",
            "onnx/towers",
            QuickGelu,
            usual,
        ),
        ("onnx/whole", "onnx/whole", Gelu, [1e-3, 1e-2]),
        (
            "onnx/open_clip/model.onnx",
            "onnx/open_clip",
            QuickGelu,
            usual,
        ),
        (
            "onnx/open_clip_towers/visual.onnx",
            "onnx/open_clip_towers",
            Gelu,
            usual,
        ),
    ] {
        check_as(weights, folder, (2, 2, activation, epsilon));
        let clip = Clip::load(&golden(weights)).unwrap();
        assert_eq!(clip.preprocess.mean, [0.5, 0.4, 0.3], "{weights}");
        assert_eq!(clip.assumed, Vec::<String>::new(), "{weights}");
    }
}

/// A configuration counts that lies beside the file, and beside its folder only where the folder is `onnx` without one.
#[test]
fn the_configuration_of_an_onnx_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let heads = |folder: &Path| Clip::load(&folder.join("model.onnx")).unwrap().visual.heads;
    for name in ["onnx", "other"] {
        std::fs::create_dir(place(name)).unwrap();
        let file = place(name).join("model.onnx");
        std::fs::copy(golden("onnx/whole/model.onnx"), file).unwrap();
    }
    let config = std::fs::read_to_string(golden("onnx/whole/config.json")).unwrap();
    std::fs::write(place("config.json"), &config).unwrap();
    assert_eq!((heads(&place("onnx")), heads(&place("other"))), (2, 1));
    let four = config.replace("\"num_attention_heads\": 2", "\"num_attention_heads\": 4");
    assert_ne!(four, config);
    std::fs::write(place("onnx/config.json"), four).unwrap();
    assert_eq!(heads(&place("onnx")), 4);
}

/// The graph itself says activation and epsilon where no configuration does; heads and normalisation are assumed.
#[test]
fn an_onnx_graph_says_what_it_computes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    std::fs::copy(golden("onnx/whole/model.onnx"), &file).unwrap();
    let clip = Clip::load(&file).unwrap();
    assert_eq!(clip.activation, ActivationKind::Gelu);
    assert_eq!([clip.visual.epsilon, clip.text.epsilon], [1e-3, 1e-2]);
    let assumed = clip.assumed.join("; ");
    assert!(
        assumed.contains("--heads") && assumed.contains("--mean"),
        "{assumed}"
    );
    assert!(!assumed.contains("--activation") && !assumed.contains("--epsilon"));
    // A configuration that says another activation than the graph computes.
    let config = std::fs::read_to_string(golden("onnx/whole/config.json")).unwrap();
    let config = config.replace("\"gelu\"", "\"quick_gelu\"");
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let clip = Clip::load(&file).unwrap();
    assert_eq!(clip.activation, ActivationKind::Gelu);
    let notes = clip.notes.join("; ");
    assert!(notes.contains("the graph counts"), "{notes}");
}

/// A file with one name in place of another of the same length.
fn renamed(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut all = file.to_vec();
    let mut found = 0;
    for at in 0..all.len() - from.len() {
        if all[at..].starts_with(from) {
            all[at..at + from.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0);
    all
}

#[test]
fn onnx_files_that_hold_no_clip_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("vision_model.onnx");
    std::fs::copy(golden("onnx/towers/onnx/vision_model.onnx"), &alone).unwrap();
    let graph = std::fs::read(&alone).unwrap();
    // A matrix whose bias and node have lost their names.
    let odd = folder.path().join("odd.onnx");
    let whole = std::fs::read(golden("onnx/open_clip/model.onnx")).unwrap();
    std::fs::write(
        &odd,
        renamed(&whole, b"resblocks.1.mlp.c_fc", b"resblocks.1.mlp.more"),
    )
    .unwrap();
    // x * sigmoid(x) in place of x * sigmoid(1.702 x).
    let silu = folder.path().join("silu.onnx");
    let file = renamed(&whole, &1.702f32.to_le_bytes(), &1f32.to_le_bytes());
    std::fs::write(&silu, file).unwrap();
    let cut = folder.path().join("cut.onnx");
    std::fs::write(&cut, &graph[..graph.len() / 2]).unwrap();
    for (path, words) in [
        (alone, "vision_model.onnx and text_model.onnx"),
        (
            odd,
            "`visual.transformer.resblocks.1.mlp.c_fc.weight` is missing",
        ),
        (silu, "without QuickGELU's factor 1.702"),
        (cut, "no ONNX file that tract reads"),
        (golden("onnx/quantised.onnx"), "quantised"),
        (
            golden("onnx/optimised.onnx"),
            "ONNX Runtime has optimised this file (QuickGelu of com.microsoft)",
        ),
        (golden("networks/maps.onnx"), "no CLIP with a ViT"),
    ] {
        let error = Clip::load(&path).err().unwrap().to_string();
        assert!(error.contains(words), "{}: {error}", path.display());
    }
}
