//! The published code's numbers (tests/golden/faprompt-tiny), stage by stage, on the device's own path.

mod common;

use common::{apart, golden, relative, values};
use faprompt_edge::bundle::manifest::{Precision, ScoreRule, Selection};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::faprompt::{AdaptationMode, score};
use faprompt_edge::inspector::{Inspection, Inspector, Options};
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::train::tensors::Tensors;
use faprompt_edge::vision::{Encoder, Preprocessor};
use image::RgbImage;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::Path;
use tract_core::prelude::Tensor;

fn picture(i: usize) -> RgbImage {
    image::open(golden(&format!("faprompt-tiny/image{i}.png")))
        .unwrap()
        .to_rgb8()
}

fn inspect(bundle: &Bundle, adaptation: AdaptationMode) -> Vec<Inspection> {
    inspect_in(bundle, adaptation, Arithmetic::Auto)
}

fn inspect_in(
    bundle: &Bundle,
    adaptation: AdaptationMode,
    arithmetic: Arithmetic,
) -> Vec<Inspection> {
    let mut inspector = Inspector::new(
        bundle,
        Options {
            adaptation,
            arithmetic,
            ..Options::default()
        },
    )
    .unwrap();
    (0..3)
        .map(|i| inspector.inspect(&picture(i)).unwrap().clone())
        .collect()
}

#[test]
fn preprocessing_and_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bundle) = common::golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let want = common::expected();
    let pixels = values(&want, "preprocessed");
    let (patches, images) = (
        values(&want, "patch_features_raw"),
        values(&want, "image_features_raw"),
    );
    let mut preprocessor = Preprocessor::new(&bundle.manifest().image);
    let mut encoder = Encoder::load(&bundle, Arithmetic::Auto).unwrap();
    for i in 0..3 {
        let golden = &pixels[i * 3 * 84 * 84..(i + 1) * 3 * 84 * 84];
        let own = preprocessor.run(&picture(i)).unwrap();
        let own = faprompt_edge::ops::slice(&own).unwrap();
        assert!(
            apart(own, golden) < 0.02,
            "image {i}: preprocessing is off by {}",
            apart(own, golden)
        );
        let other = own
            .iter()
            .zip(golden)
            .filter(|(a, b)| (*a - *b).abs() > 1e-4)
            .count();
        assert!(
            other <= 3,
            "image {i}: {other} of {} pixels are not Pillow's",
            own.len()
        );
        // The encoder alone, on the golden pixels.
        let features = encoder
            .run(Tensor::from_shape(&[3, 84, 84], golden).unwrap())
            .unwrap();
        let own = faprompt_edge::ops::slice(&features.patches).unwrap();
        let golden = &patches[(i * 37 + 1) * 128..(i + 1) * 37 * 128];
        assert!(
            relative(own, golden) < 2e-3,
            "image {i}: patch features are off by {}",
            relative(own, golden)
        );
        let own = faprompt_edge::ops::slice(&features.image).unwrap();
        let golden = &images[i * 128..(i + 1) * 128];
        assert!(
            relative(own, golden) < 2e-3,
            "image {i}: image feature is off by {}",
            relative(own, golden)
        );
    }
}

#[test]
fn prototypes_scores_and_maps_of_both_selections() {
    let folder = tempfile::tempdir().unwrap();
    let want = common::expected();
    for (selection, name) in [
        (Selection::Paper, "paper"),
        (Selection::Upstream, "upstream"),
    ] {
        let (_, bundle) = common::golden_bundle(folder.path(), selection, Precision::F32);
        let inspector = Inspector::new(&bundle, Options::default()).unwrap();
        let golden = |key: &str| values(&want, &format!("{name}.{key}"));
        let features = golden("text_features");
        assert!(apart(inspector.normal(), &features[..128]) < 1e-3);
        assert!(apart(inspector.abnormal(), &features[128..]) < 1e-3);
        let (adapted, prior) = (golden("text_features_adapted"), golden("prior"));
        let (scores, scores_adapted) = (golden("patch_scores"), golden("patch_scores_adapted"));
        let (maps, chosen) = (golden("anomaly_map"), golden("topk_index"));
        let (probability, image_score) = (golden("image_probability"), golden("image_score"));
        for (i, got) in inspect(&bundle, AdaptationMode::Exact).iter().enumerate() {
            let check = |what: &str, got: &[f32], want: &[f32]| {
                assert!(
                    apart(got, want) < 1e-3,
                    "{name}, image {i}: {what} is off by {}",
                    apart(got, want)
                );
            };
            check("prior", &got.prior, &prior[i * 128..(i + 1) * 128]);
            check(
                "adapted prototype",
                &got.abnormal,
                &adapted[(i * 2 + 1) * 128..(i + 1) * 2 * 128],
            );
            let second = |v: &[f32]| -> Vec<f32> {
                v[i * 72..(i + 1) * 72]
                    .iter()
                    .skip(1)
                    .step_by(2)
                    .copied()
                    .collect()
            };
            check("patch scores", &got.patch_scores, &second(&scores));
            check(
                "adapted patch scores",
                &got.patch_scores_adapted,
                &second(&scores_adapted),
            );
            check(
                "map",
                &got.map().values,
                &maps[i * 84 * 84..(i + 1) * 84 * 84],
            );
            check(
                "image probability",
                &[got.image_probability],
                &probability[i..i + 1],
            );
            check("image score", &[got.score], &image_score[i..i + 1]);
            let mut order = vec![];
            score::select(&got.patch_scores, 10, Selection::Paper, &mut order);
            let golden_order: Vec<usize> = chosen[i * 10..(i + 1) * 10]
                .iter()
                .map(|v| *v as usize)
                .collect();
            assert_eq!(
                order, golden_order,
                "{name}, image {i}: other patches are the most abnormal ones"
            );
        }
    }
}

#[test]
fn the_papers_score_rule_is_the_plain_mean_of_the_maxima() {
    let folder = tempfile::tempdir().unwrap();
    let clip = common::golden_clip(folder.path());
    let prompts = golden("faprompt-tiny/prompt_learner.safetensors");
    let mut options = common::options(Selection::Paper, Precision::F32);
    options.score_rule = ScoreRule::Paper;
    let out = folder.path().join("rule.bundle");
    common::export_to(&clip, &prompts, &options, &out);
    let bundle = Bundle::open(&out, &Keys::default()).unwrap();
    let want = common::expected();
    let max = |key: &str, i: usize| {
        let scores = values(&want, key);
        scores[i * 72..(i + 1) * 72]
            .iter()
            .skip(1)
            .step_by(2)
            .fold(0f32, |m, v| m.max(*v))
    };
    for (i, got) in inspect(&bundle, AdaptationMode::Exact).iter().enumerate() {
        let q = values(&want, "paper.image_probability")[i];
        let mean = (max("paper.patch_scores", i) + max("paper.patch_scores_adapted", i)) / 2.0;
        assert!(
            (got.score - 0.5 * (q + mean)).abs() < 1e-3,
            "image {i}: {}",
            got.score
        );
    }
}

#[test]
fn smaller_precisions_stay_close_and_small() {
    let folder = tempfile::tempdir().unwrap();
    let want = values(&common::expected(), "paper.image_score");
    let size = |p: &Path| std::fs::metadata(p).unwrap().len() as f64;
    let (full, _) = common::golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    for (precision, arithmetic, share, tolerance) in [
        (Precision::F16, Arithmetic::F32, 0.55, 2e-3),
        (Precision::Int8, Arithmetic::F32, 0.3, 0.02),
        (Precision::Int8, Arithmetic::Int8, 0.3, 0.02),
    ] {
        let (path, bundle) = common::golden_bundle(folder.path(), Selection::Paper, precision);
        let ratio = size(&path) / size(&full);
        assert!(ratio < share, "{precision:?} is {ratio:.3} of f32");
        let got = inspect_in(&bundle, AdaptationMode::Exact, arithmetic);
        for (i, got) in got.iter().enumerate() {
            let moved = (got.score - want[i]).abs();
            let what = format!("{precision:?} in {arithmetic:?}, image {i}");
            println!("{what}: image score moves by {moved:.5}, file {ratio:.3}");
            assert!(moved < tolerance, "{what}: {} for {}", got.score, want[i]);
        }
    }
}

#[test]
fn linear_adaptation_is_near_and_off_is_the_unadapted_prototype() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bundle) = common::golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let exact = inspect(&bundle, AdaptationMode::Exact);
    let linear = inspect(&bundle, AdaptationMode::Linear);
    let off = inspect(&bundle, AdaptationMode::Off);
    let unadapted = Inspector::new(
        &bundle,
        Options {
            adaptation: AdaptationMode::Off,
            ..Options::default()
        },
    )
    .unwrap();
    for ((exact, linear), off) in exact.iter().zip(&linear).zip(&off) {
        let (near, far) = (
            apart(&linear.abnormal, &exact.abnormal),
            apart(&off.abnormal, &exact.abnormal),
        );
        println!(
            "prior {:.4}: linear is off by {near:.6}, no adaptation by {far:.6}",
            exact.prior_norm
        );
        assert!(near < far, "linear {near}, unadapted {far}");
        assert_eq!(off.abnormal, unadapted.abnormal());
        assert_eq!(off.patch_scores, off.patch_scores_adapted);
        assert_eq!((off.prior_norm, exact.max_score), (0.0, off.max_score));
    }
}

#[test]
fn threads_do_not_change_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bundle) = common::golden_bundle(folder.path(), Selection::Paper, Precision::Int8);
    let mut several = Inspector::new(
        &bundle,
        Options {
            threads: 3,
            ..Options::default()
        },
    )
    .unwrap();
    for (i, alone) in inspect(&bundle, AdaptationMode::Exact).iter().enumerate() {
        assert!((several.inspect(&picture(i)).unwrap().score - alone.score).abs() < 1e-6);
    }
}

/// The golden prototypes from another form of the golden prompts.
fn golden_prototypes(prompts: &Path, clip: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.bundle");
    common::export_to(
        clip,
        prompts,
        &common::options(Selection::Paper, Precision::F32),
        &out,
    );
    let bundle = Bundle::open(&out, &Keys::default()).unwrap();
    let options = Options::default();
    let inspector = Inspector::new(&bundle, options).unwrap();
    let want = values(&common::expected(), "paper.text_features");
    assert!(apart(inspector.normal(), &want[..128]) < 1e-3);
    assert!(apart(inspector.abnormal(), &want[128..]) < 1e-3);
    let score = values(&common::expected(), "paper.image_score");
    for (got, want) in inspect(&bundle, AdaptationMode::Exact).iter().zip(score) {
        assert!((got.score - want).abs() < 1e-3, "{} for {want}", got.score);
    }
}

#[test]
fn prompts_as_the_published_code_saves_them() {
    let folder = tempfile::tempdir().unwrap();
    golden_prototypes(
        &golden("faprompt-tiny/prompt_learner.pth"),
        &common::golden_clip(folder.path()),
    );
}

#[test]
fn prompts_under_the_trainers_names_take_their_words_from_clip() {
    let folder = tempfile::tempdir().unwrap();
    let published = Tensors::load(&golden("faprompt-tiny/prompt_learner.safetensors")).unwrap();
    let mut tensors = vec![];
    let mut rename = |from: String, to: String, drop: usize| {
        let array = published.array(&from).unwrap();
        let shape = array.shape()[drop..].to_vec();
        let bytes: Vec<u8> = array.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((to, shape, bytes));
    };
    rename("ctx_pos".into(), "prompts.normal".into(), 2);
    rename("ctx_neg".into(), "prompts.abnormal".into(), 1);
    for i in 0..2 {
        rename(
            format!("compound_prompts_text.{i}"),
            format!("prompts.deep.{i}"),
            0,
        );
    }
    for (from, to) in [("linear1", "fc1"), ("linear2", "fc2")] {
        for part in ["weight", "bias"] {
            rename(
                format!("patch_meta_net.{from}.{part}"),
                format!("prior.{to}.{part}"),
                0,
            );
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let path = folder.path().join("own.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    golden_prototypes(&path, &common::golden_clip(folder.path()));
}
