//! BLIP's image-text contrast by the numbers of the library that defines its layout (tests/golden/methods/blip).

mod common;

use burn::tensor::{Device, Tensor};
use common::{apart, golden, values};
use faprompt_edge::bundle::method::Method;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::clip::Overrides;
use faprompt_edge::train::datasets::Sample;
use faprompt_edge::train::methods::MethodOptions;
use faprompt_edge::train::methods::blip::{Blip, judge::judge};
use faprompt_edge::train::nn::image::cut;
use faprompt_edge::train::nn::layers::{self, put};
use faprompt_edge::train::tensors::Tensors;
use image::RgbImage;
use indicatif::ProgressBar;
use std::path::Path;
use std::process::Command;

/// Of the library's numbers.
const CLOSE: f32 = 1e-3;
/// The texts that the golden folder has tokens of, in their order.
const TEXTS: [&str; 6] = [
    "A photo of a normal metal nut",
    "A photo of an anomalous metal nut",
    "  Déjà-vu,  NUTS!\tmetal…(x) ",
    "金属 nut 50 % unknownword",
    "a\u{a0}photo\u{200b} of ‘nuts’",
    "o'nut ﬁ",
];

fn expected() -> Tensors {
    Tensors::load(&golden("methods/blip/expected.safetensors")).unwrap()
}

fn blip(path: &Path) -> Result<Blip, TrainError> {
    Blip::load(path, &Overrides::default(), &Device::flex())
}

fn close(what: &str, got: &[f32], want: &[f32]) {
    let off = apart(got, want);
    println!("blip: {what}: off by {off:e}");
    assert!(off < CLOSE, "{what} is off by {off}");
}

fn flat(t: &Tensor<2>) -> Vec<f32> {
    layers::values(t)
}

#[test]
fn texts_are_numbered_as_the_library_does() {
    let (blip, want) = (blip(&golden("methods/blip")).unwrap(), expected());
    for (i, text) in TEXTS.iter().enumerate() {
        let ids = values(&want, &format!("ids.{i}"));
        let ids: Vec<usize> = ids.iter().map(|v| *v as usize).collect();
        assert_eq!(blip.ids(text), ids, "{text}");
    }
}

#[test]
fn features_and_cosines_are_the_librarys_at_both_sizes() {
    let (blip, want) = (blip(&golden("methods/blip")).unwrap(), expected());
    let text = blip.sentences("metal_nut").unwrap();
    close("text", &flat(&text), &values(&want, "text"));
    for size in [48, 64] {
        let pixels = values(&want, &format!("pixels.{size}"));
        let (mut patches, grid) = (vec![], size / 8);
        cut(&pixels, size, 8, &mut patches);
        let input = put(patches, [1, grid * grid, 192], &text.device());
        let features = blip.encoder(grid).features(input);
        let all = flat(&features);
        close(
            &format!("image at {size}"),
            &all[..24],
            &values(&want, &format!("image.{size}")),
        );
        close(
            &format!("patches at {size}"),
            &all[24..],
            &values(&want, &format!("patches.{size}")),
        );
        let cosines = features.narrow(0, 0, 1).matmul(text.clone().transpose());
        close(
            &format!("cosines at {size}"),
            &flat(&cosines),
            &values(&want, &format!("cosines.{size}")),
        );
    }
}

/// From a picture file, as `evaluate` does it: the score from the library's cosines, the map from its patches.
#[test]
fn a_picture_file_is_judged_by_the_librarys_numbers() {
    let (blip, want) = (blip(&golden("methods/blip")).unwrap(), expected());
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("photo.png");
    let photo = values(&want, "photo").iter().map(|v| *v as u8).collect();
    RgbImage::from_raw(56, 40, photo)
        .unwrap()
        .save(&image)
        .unwrap();
    let sample = Sample {
        image,
        mask: None,
        class: "metal_nut".into(),
        kind: "scratch".into(),
        anomalous: true,
    };
    let asked = MethodOptions {
        method: Method::Blip,
        ..MethodOptions::default()
    };
    let bar = ProgressBar::hidden();
    let (judged, failed) = judge(&blip, &asked, None, vec![sample], &bar).unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    let p = |normal: f32, abnormal: f32| 1.0 / (1.0 + ((normal - abnormal) / 0.07).exp());
    let cosines = values(&want, "cosines.48");
    close("score", &[judged[0].score], &[p(cosines[0], cosines[1])]);
    let (text, patches) = (values(&want, "text"), values(&want, "patches.48"));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let of = |i: usize| {
        let row = &patches[24 * i..][..24];
        p(dot(row, &text[..24]), dot(row, &text[24..]))
    };
    let map = judged[0].map.as_ref().unwrap();
    let near = |a: usize, b: usize, t: f32| of(a) * (1.0 - t) + of(b) * t;
    // Nothing lies above the first row of pixels: each is between its patch and the next of the first row.
    let got: Vec<f32> = [4, 5, 6, 7].iter().map(|x| map.values[*x]).collect();
    let share = |x: f32| (x + 0.5) / 8.0 - 0.5;
    let wanted: Vec<f32> = [4.0, 5.0, 6.0, 7.0]
        .iter()
        .map(|x| near(0, 1, share(*x)))
        .collect();
    close("map", &got, &wanted);
}

#[test]
fn what_is_no_blip_is_refused_with_the_reason() {
    let said = |path: &Path| blip(path).err().map(|e| e.to_string()).unwrap_or_default();
    let clip = said(&golden("layouts/hugging_face"));
    assert!(clip.contains("no BlipForImageTextRetrieval"), "{clip}");
    let folder = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "config.json", "vocab.txt"] {
        std::fs::copy(golden("methods/blip").join(file), folder.path().join(file)).unwrap();
    }
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"gelu\"", "\"relu\"")).unwrap();
    let other = said(folder.path());
    assert!(
        other.contains("`vision_config.hidden_act` = relu"),
        "{other}"
    );
    std::fs::write(
        &config,
        text.replace("\"num_attention_heads\": 4", "\"num_attention_heads\": 5"),
    )
    .unwrap();
    let heads = said(folder.path());
    assert!(
        heads.contains("5 attention heads of a text encoder 32 wide"),
        "{heads}"
    );
    std::fs::write(&config, &text).unwrap();
    std::fs::write(folder.path().join("vocab.txt"), "a\nphoto\n").unwrap();
    let vocabulary = said(folder.path());
    assert!(
        vocabulary.contains("vocab.txt: token [CLS] is missing"),
        "{vocabulary}"
    );
    std::fs::remove_file(folder.path().join("vocab.txt")).unwrap();
    let none = said(folder.path());
    assert!(
        none.contains("neither vocab.txt nor tokenizer.json"),
        "{none}"
    );
}

#[test]
fn export_says_why_no_device_runs_blip_and_filo() {
    let folder = tempfile::tempdir().unwrap();
    for (method, why) in [("blip", "BERT"), ("filo", "140 prompts")] {
        let out = folder.path().join("x.bundle");
        let run = Command::new(env!("CARGO_BIN_EXE_faprompt-train"))
            .args(["export", "--method", method, "--class", "nut", "--clip"])
            .arg(golden("methods/blip"))
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(32), "{said}");
        assert!(
            said.contains(why) && said.contains(&format!("evaluate --method {method}")),
            "{said}"
        );
        assert!(!out.exists());
    }
}
