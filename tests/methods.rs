//! The compared methods' published codes' numbers (tests/golden/methods), by prompts, text, score and map.

mod common;

use common::{apart, golden, relative, values};
use faprompt_edge::bundle::manifest::{ActivationKind, Precision, Selection};
use faprompt_edge::bundle::method::{Method, Positions};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::control::store::shelf::Shelf;
use faprompt_edge::inspector::{Inspection, Inspector, Options};
use faprompt_edge::memory::region::Regions;
use faprompt_edge::methods::memory::nearest;
use faprompt_edge::methods::winclip;
use faprompt_edge::runtime::loadout::{CameraError, Choice, Network, label};
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::methods::bundle::coop_rows;
use faprompt_edge::train::methods::learned::{Learned, Numbers, context_of};
use faprompt_edge::train::methods::options::ClassPosition;
use faprompt_edge::train::methods::{MethodOptions, export, text, words};
use faprompt_edge::train::prompts::token_ids;
use faprompt_edge::train::tensors::Tensors;
use ndarray::Axis;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::{Path, PathBuf};

/// Of the published numbers: 1e-3, or a thousandth of the largest value where that is more.
const CLOSE: f32 = 1e-3;

fn expected(method: &str) -> Tensors {
    Tensors::load(&golden(&format!("methods/{method}/expected.safetensors"))).unwrap()
}

fn clip(folder: &Path) -> Clip {
    Clip::load(&common::golden_clip(folder)).unwrap()
}

fn asked(method: Method) -> MethodOptions {
    MethodOptions {
        method,
        class: method.has_class().then(|| "bottle".to_string()),
        ..MethodOptions::default()
    }
}

/// Writes some of a golden file's tensors under other names: a checkpoint as a published code saves it.
fn checkpoint(folder: &Path, from: &Tensors, names: &[(&str, &str)]) -> PathBuf {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = names
        .iter()
        .map(|(from_name, to)| {
            let array = from.array(from_name).unwrap();
            let bytes = array.iter().flat_map(|v| v.to_le_bytes()).collect();
            (to.to_string(), array.shape().to_vec(), bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    let path = folder.join("learned.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    path
}

/// Exports and judges the three golden pictures.
fn judge(clip: &Clip, asked: &MethodOptions, learned: Option<&Path>) -> (Bundle, Vec<Inspection>) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.bundle");
    let learned = learned.map(|path| Learned::load(path, asked.method, clip).unwrap());
    let options = common::options(Selection::Paper, Precision::F32);
    let made = export(clip, asked, learned.as_ref(), &options, &out).unwrap();
    assert_eq!(made.manifest.method_name(), asked.method);
    let bundle = Bundle::open(&out, &Keys::default()).unwrap();
    let mut inspector = Inspector::new(&bundle, Options::default()).unwrap();
    // As a station runs it: good parts can be taught, whatever the method.
    let options = Options {
        memory: true,
        ..Options::default()
    };
    let mut station = Inspector::new(&bundle, options).unwrap();
    let said = (0..3)
        .map(|i| {
            let picture = image::open(golden(&format!("faprompt-tiny/image{i}.png"))).unwrap();
            let said = inspector.inspect(&picture.to_rgb8()).unwrap().clone();
            let there = station.inspect(&picture.to_rgb8()).unwrap();
            assert_eq!(
                (there.score, &there.patch_scores),
                (said.score, &said.patch_scores)
            );
            let layout = station.layout().unwrap();
            let descriptors = station.descriptors().unwrap();
            assert_eq!(descriptors.len(), layout.places() * layout.dim);
            assert!(descriptors.iter().all(|v| v.is_finite()));
            said
        })
        .collect();
    (bundle, said)
}

/// What f16 cannot hold would be infinity on the device, and no score a number.
#[test]
fn a_weight_beyond_f16_is_named_before_a_bundle_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut clip = clip(folder.path());
    let out = folder.path().join("x.bundle");
    let asked = asked(Method::Clip);
    let export = |clip: &Clip, precision| {
        let options = common::options(Selection::Paper, precision);
        export(clip, &asked, None, &options, &out).map(|_| ())
    };
    clip.visual.blocks[0].fc.weight[[0, 0]] = -7e4;
    let wrong = export(&clip, Precision::F16).unwrap_err().to_string();
    assert_eq!(
        wrong,
        "--precision f16: tensor `encoder/blocks.0.fc.weight` holds -7e4, and f16 ends at 65504; take --precision int8 \
         or f32"
    );
    assert!(!out.exists());
    export(&clip, Precision::Int8).unwrap();
    clip.visual.positions[[1, 0]] = 7e4;
    let wrong = export(&clip, Precision::Int8).unwrap_err().to_string();
    assert!(
        wrong.contains("--precision int8: tensor `encoder/positions`")
            && wrong.contains("take --precision f32"),
        "{wrong}"
    );
}

fn close(what: &str, got: &[f32], want: &[f32]) {
    let largest = want.iter().fold(1f32, |m, v| m.max(v.abs()));
    let off = apart(got, want);
    println!("{what} is off by {off:.1e} of {largest:.1}");
    assert!(off < CLOSE * largest, "{what} is off by {off} of {largest}");
}

/// Scores and maps of three pictures.
fn scores_and_maps(said: &[Inspection], want: &Tensors, score: &str, map: &str) {
    let (scores, maps) = (values(want, score), values(want, map));
    for (i, said) in said.iter().enumerate() {
        close(
            &format!("{score} of picture {i}"),
            &[said.score],
            &scores[i..=i],
        );
        let map = &maps[i * 84 * 84..(i + 1) * 84 * 84];
        close(&format!("map of picture {i}"), &said.map().values, map);
    }
}

fn prototypes(bundle: &Bundle, want: &[f32]) {
    for (i, name) in ["normal", "abnormal"].into_iter().enumerate() {
        let tensor = bundle
            .tensor(&format!("prototypes/{name}"), &[128])
            .unwrap();
        let got = faprompt_edge::ops::slice(&tensor).unwrap();
        let off = relative(&unit(got), &unit(&want[i * 128..(i + 1) * 128]));
        println!("the {name} prototype is off by {off:.1e}");
        assert!(off < CLOSE, "the {name} prototype is off by {off}");
    }
}

fn unit(v: &[f32]) -> Vec<f32> {
    let length = v.iter().map(|v| v * v).sum::<f32>().sqrt();
    v.iter().map(|v| v / length).collect()
}

#[test]
fn prompts_are_numbered_as_the_published_tokenizers_number_them() {
    let check = |method: Method, class: &str, templates, file: &str, name: &str| {
        let prompts = words::prompts(method, class, templates).unwrap();
        let all: Vec<String> = prompts.normal.into_iter().chain(prompts.abnormal).collect();
        let want = expected(file).array(name).unwrap();
        let columns = want.shape()[1];
        assert_eq!(all.len(), want.shape()[0], "{method}: number of prompts");
        // The order does not matter to a mean: AnoVL's code has the loops the other way round.
        let half = all.len()
            - words::prompts(method, class, templates)
                .unwrap()
                .abnormal
                .len();
        let mut want: Vec<Vec<usize>> = want
            .outer_iter()
            .map(|row| row.iter().map(|v| *v as usize).collect())
            .collect();
        let mut got: Vec<Vec<usize>> = all
            .iter()
            .map(|text| {
                let mut ids = token_ids(text);
                assert!(ids.len() <= columns, "\"{text}\" has {} tokens", ids.len());
                ids.resize(columns, 0);
                ids
            })
            .collect();
        for side in [&mut got, &mut want] {
            side[..half].sort();
            side[half..].sort();
        }
        assert_eq!(got, want, "{method}, {class}");
    };
    check(Method::Clip, "bottle", None, "clip", "clip.token_ids");
    check(
        Method::ClipAc,
        "bottle",
        None,
        "clip",
        "clip_ac80.token_ids",
    );
    check(
        Method::ClipAc,
        "bottle",
        Some(7),
        "clip",
        "clip_ac7.token_ids",
    );
    check(
        Method::Winclip,
        "bottle",
        Some(21),
        "winclip",
        "text.token_ids",
    );
    check(
        Method::AprilGan,
        "bottle",
        None,
        "april-gan",
        "text.token_ids",
    );
    check(
        Method::Anovl,
        "bottle",
        None,
        "anovl",
        "text.bottle.token_ids",
    );
    check(Method::Anovl, "wood", None, "anovl", "text.wood.token_ids");
    assert_eq!(
        words::prompts(Method::Winclip, "x", None)
            .unwrap()
            .templates,
        22
    );
    assert!(words::prompts(Method::Winclip, "x", Some(23)).is_err());
    assert_eq!(
        words::prompts(Method::Clip, "metal_nut", None)
            .unwrap()
            .normal,
        ["A photo of a normal metal nut"]
    );
}

#[test]
fn positions_are_resized_as_each_published_code_does() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("shared");
    for (how, name) in [
        (Positions::Bilinear, "positions.bilinear"),
        (Positions::BicubicAntialias, "positions.bicubic_antialias"),
        (Positions::Bicubic, "positions.bicubic"),
    ] {
        let got: Vec<f32> = clip.visual.positions_by(6, how).iter().copied().collect();
        let off = apart(&got, &values(&want, name));
        assert!(off < 1e-5, "{name} is off by {off}");
    }
    assert_eq!(
        clip.visual.positions_by(4, Positions::Bicubic),
        clip.visual.positions
    );
}

#[test]
fn anomalyclip_of_a_published_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("anomalyclip");
    let learned = checkpoint(
        folder.path(),
        &want,
        &[
            ("prompt.ctx_pos", "prompt_learner.ctx_pos"),
            ("prompt.ctx_neg", "prompt_learner.ctx_neg"),
            ("prompt.deep.0", "prompt_learner.compound_prompts_text.0"),
            ("prompt.deep.1", "prompt_learner.compound_prompts_text.1"),
        ],
    );
    let mut asked = asked(Method::Anomalyclip);
    let (bundle, last) = judge(&clip, &asked, Some(&learned));
    prototypes(&bundle, &values(&want, "text.unit"));
    scores_and_maps(&last, &want, "image.score", "last.map");
    let smoothed = values(&want, "last.map_smoothed_sigma4");
    for (i, said) in last.iter().enumerate() {
        let map = said.map().smoothed(4.0);
        let want = &smoothed[i * 84 * 84..(i + 1) * 84 * 84];
        close("smoothed map", &map.values, want);
    }
    // Sigma 4 at 518 px, in proportion.
    let sigma = bundle.manifest().scores.smoothing_sigma;
    assert!((sigma - 4.0 * 84.0 / 518.0).abs() < 1e-6);
    asked.stages = vec![3, 4, 5, 6];
    let (_, four) = judge(&clip, &asked, Some(&learned));
    scores_and_maps(&four, &want, "image.score", "four.map");
    // Blocks without the V-V stream are refused.
    asked.stages = vec![2, 6];
    let learned = Learned::load(&learned, asked.method, &clip).unwrap();
    let options = common::options(Selection::Paper, Precision::F32);
    let refused = export(
        &clip,
        &asked,
        Some(&learned),
        &options,
        &folder.path().join("y"),
    );
    assert!(refused.is_err_and(|e| e.to_string().contains("block 2 is not in 3..6")));
}

#[test]
fn clip_and_clip_ac() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("clip");
    for (method, templates, name) in [
        (Method::Clip, None, "clip"),
        (Method::ClipAc, None, "clip_ac80"),
        (Method::ClipAc, Some(7), "clip_ac7"),
    ] {
        let mut asked = MethodOptions {
            templates,
            ..asked(method)
        };
        let (bundle, said) = judge(&clip, &asked, None);
        assert_eq!(bundle.manifest().vv_layers, 0);
        prototypes(&bundle, &values(&want, &format!("{name}.text.unit")));
        let at = |t: &str, what: &str| format!("{name}.T{t}.{what}");
        scores_and_maps(&said, &want, &at("0.07", "image_score"), &at("0.07", "map"));
        asked.temperature = Some(0.01);
        let (_, said) = judge(&clip, &asked, None);
        for (i, said) in said.iter().enumerate() {
            let want = values(&want, &at("0.01", "image_score"))[i];
            close("score at T = 0.01", &[said.score], &[want]);
        }
    }
}

#[test]
fn winclip_zero_shot() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("winclip");
    let asked = MethodOptions {
        templates: Some(21),
        ..asked(Method::Winclip)
    };
    let (bundle, said) = judge(&clip, &asked, None);
    prototypes(&bundle, &values(&want, "text.mean_raw"));
    scores_and_maps(&said, &want, "zero.image_score", "zero.map");
}

/// A part that only its region makes a reject would pass, whichever camera's regions they are.
#[test]
fn a_station_refuses_regions_that_a_methods_one_score_would_ignore() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let asked = MethodOptions {
        templates: Some(21),
        ..asked(Method::Winclip)
    };
    let (bundle, _) = judge(&clip, &asked, None);
    let strict = "[[region]]\nname = \"edge\"\nrectangle = [0.0, 0.0, 0.5, 1.0]\noffset = -0.2\n";
    let file = folder.path().join("regions.toml");
    std::fs::write(&file, strict).unwrap();
    let file = file.display().to_string();
    let network = |regions: &str| {
        let options = Options {
            memory: true,
            ..Options::default()
        };
        let mut inspector = Inspector::new(&bundle, options).unwrap();
        inspector.look(&Regions::parse(regions).unwrap()).unwrap();
        let label = label(&bundle, &inspector, Path::new("x.bundle"));
        Network::tested(inspector, label).unwrap()
    };
    let shelf = Shelf::new(folder.path());
    let refused = |network: &mut Network, cameras, choice: &Choice| {
        let made = network.for_cameras(cameras, choice, &shelf);
        matches!(made, Err(CameraError::Regions { path, reason })
            if path == Path::new(&file) && reason.starts_with("winclip has one score"))
    };
    let mut choice = Choice {
        regions: file.clone(),
        ..Choice::default()
    };
    assert!(refused(&mut network(strict), 1, &choice));
    choice = Choice::default();
    choice.further[0].regions = file.clone();
    assert!(refused(&mut network(""), 2, &choice));
    assert!(!network("").for_cameras(1, &choice, &shelf).unwrap());
}

#[test]
fn winclips_windows_and_few_shot_grids() {
    let want = expected("winclip");
    for scale in winclip::SCALES {
        let masks = want.array(&format!("windows{scale}.masks")).unwrap();
        let windows = winclip::windows(6, scale);
        for (i, window) in windows.iter().enumerate() {
            let mask: Vec<usize> = masks
                .index_axis(Axis(1), i)
                .iter()
                .map(|v| *v as usize)
                .collect();
            assert_eq!(*window, mask, "window {i} of scale {scale}");
        }
        let scores = values(&want, &format!("windows{scale}.scores"));
        let harmonic = values(&want, &format!("windows{scale}.harmonic"));
        for (scores, harmonic) in scores.chunks(windows.len()).zip(harmonic.chunks(36)) {
            close(
                "harmonic",
                &winclip::harmonic(&windows, scores, 36),
                harmonic,
            );
        }
    }
    let rows = |name: &str, width: usize| -> Vec<Vec<f32>> {
        let all = values(&want, name);
        let each = all.len() / 3;
        let unit_rows = |rows: &[f32]| rows.chunks(width).flat_map(unit).collect();
        all.chunks(each).map(unit_rows).collect()
    };
    // One reference: picture 0.
    let patches = rows("patches.width", 128);
    let windows: Vec<_> = winclip::SCALES
        .iter()
        .map(|s| {
            (
                winclip::windows(6, *s),
                rows(&format!("windows{s}.raw"), 128),
            )
        })
        .collect();
    let zero = values(&want, "zero.image_score");
    for i in 0..3 {
        let grid = winclip::distances(&nearest(&patches[i], &patches[0], 128));
        close(
            "patch distances",
            &grid,
            &values(&want, "one.grid_patches")[i * 36..][..36],
        );
        let scales: Vec<Vec<f32>> = windows
            .iter()
            .map(|(all, rows)| {
                let d = winclip::distances(&nearest(&rows[i], &rows[0], 128));
                winclip::harmonic(all, &d, 36)
            })
            .collect();
        let few = winclip::few_shot(&grid, &scales);
        close(
            "few-shot grid",
            &few,
            &values(&want, "one.grid")[i * 36..][..36],
        );
        let largest = few.iter().fold(0f32, |m, v| m.max(*v));
        let score = (zero[i] + largest) / 2.0;
        close(
            "few-shot score",
            &[score],
            &values(&want, "one.image_score")[i..=i],
        );
    }
}

/// The golden references: picture 0, then picture 1 mirrored. `range` is what scores are scaled by, if it is not
/// that of the references.
fn with_references(bundle: &Bundle, count: usize, range: Option<(f32, f32)>) -> Vec<Inspection> {
    let mut inspector = Inspector::new(bundle, Options::default()).unwrap();
    let picture = |i: usize| {
        let path = golden(&format!("faprompt-tiny/image{i}.png"));
        image::open(path).unwrap().to_rgb8()
    };
    let references = [picture(0), image::imageops::flip_horizontal(&picture(1))];
    for reference in &references[..count] {
        inspector.remember(reference).unwrap();
    }
    let kept = inspector.good_parts().unwrap();
    assert_eq!(kept.parts, count);
    kept.range = range.or(kept.range);
    (0..3)
        .map(|i| inspector.inspect(&picture(i)).unwrap().clone())
        .collect()
}

#[test]
fn winclip_with_one_and_two_references() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("winclip");
    let asked = MethodOptions {
        templates: Some(21),
        ..asked(Method::Winclip)
    };
    let (bundle, _) = judge(&clip, &asked, None);
    for (count, name) in [(1, "one"), (2, "two")] {
        let said = with_references(&bundle, count, None);
        scores_and_maps(
            &said,
            &want,
            &format!("{name}.image_score"),
            &format!("{name}.map"),
        );
    }
}

#[test]
fn april_gan_with_references() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("april-gan");
    let learned = golden("methods/april-gan/expected.safetensors");
    let (bundle, _) = judge(&clip, &asked(Method::AprilGan), Some(&learned));
    let maps = values(&want, "few.map");
    let largest = values(&want, "few.map_max");
    for (i, said) in with_references(&bundle, 2, None).iter().enumerate() {
        close(
            "few-shot map",
            &said.map().values,
            &maps[i * 84 * 84..][..84 * 84],
        );
        let top = said.map().values.iter().fold(f32::MIN, |m, v| m.max(*v));
        close("largest of the few-shot map", &[top], &largest[i..=i]);
        // Scaled by what good parts come to.
        assert!((0.0..=1.0).contains(&said.score));
    }
    // As published: scaled by the smallest and largest of the whole test set.
    let low = largest.iter().fold(f32::MAX, |m, v| m.min(*v));
    let high = largest.iter().fold(f32::MIN, |m, v| m.max(*v));
    let said = with_references(&bundle, 2, Some((low, high)));
    let scores: Vec<f32> = said.iter().map(|s| s.score).collect();
    close("few-shot score", &scores, &values(&want, "few.image_score"));
}

#[test]
fn april_gan_zero_shot_with_both_activations() {
    let folder = tempfile::tempdir().unwrap();
    let mut clip = clip(folder.path());
    let want = expected("april-gan");
    let names: Vec<(String, String)> = (0..4)
        .flat_map(|i| {
            ["weight", "bias"].map(|part| {
                let published = format!("trainable_linearlayer.fc.{i}.{part}");
                (format!("linear.{i}.{part}"), published)
            })
        })
        .collect();
    let names: Vec<(&str, &str)> = names.iter().map(|(a, b)| (&**a, &**b)).collect();
    let learned = checkpoint(folder.path(), &want, &names);
    let mut asked = asked(Method::AprilGan);
    let (bundle, said) = judge(&clip, &asked, Some(&learned));
    // A quarter of the depth each.
    assert_eq!(
        bundle.manifest().method.as_ref().unwrap().stages,
        [2, 3, 5, 6]
    );
    prototypes(&bundle, &values(&want, "text.unit"));
    scores_and_maps(&said, &want, "image.score", "zero.map");
    clip.activation = ActivationKind::Gelu;
    let (bundle, said) = judge(&clip, &asked, Some(&learned));
    let gelu = Tensors::load(&golden("methods/april-gan/expected_gelu.safetensors")).unwrap();
    prototypes(&bundle, &values(&gelu, "text.unit"));
    scores_and_maps(&said, &gelu, "image.score", "zero.map");
    asked.stages = vec![2, 6];
    let learned = Learned::load(&learned, asked.method, &clip).unwrap();
    let options = common::options(Selection::Paper, Precision::F32);
    let refused = export(
        &clip,
        &asked,
        Some(&learned),
        &options,
        &folder.path().join("y"),
    );
    assert!(refused.is_err_and(|e| e.to_string().contains("learned on 4 stages")));
}

#[test]
fn april_gans_memory() {
    let want = expected("april-gan");
    let grids = values(&want, "few.grids");
    let apart_from = |rows: &[f32], memory: &[f32]| -> Vec<f32> {
        nearest(rows, memory, 128).iter().map(|s| 1.0 - s).collect()
    };
    for (stage, block) in [2, 3, 5, 6].into_iter().enumerate() {
        let tokens = values(&want, &format!("tokens.block{block}"));
        let patches = |i: usize| -> Vec<f32> {
            let rows = tokens[(i * 37 + 1) * 128..(i + 1) * 37 * 128].chunks(128);
            rows.flat_map(unit).collect()
        };
        // Picture 0 is the first reference; the second is not among the golden tokens, so only a bound.
        for i in 0..3 {
            let d = apart_from(&patches(i), &patches(0));
            let golden = &grids[(i * 4 + stage) * 36..][..36];
            assert!(d.iter().zip(golden).all(|(a, b)| *a > b - CLOSE));
        }
        close(
            "distances to itself",
            &apart_from(&patches(0), &patches(0)),
            &grids[stage * 36..][..36],
        );
    }
}

#[test]
fn anovl_without_views() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("anovl");
    let (bundle, said) = judge(&clip, &asked(Method::Anovl), None);
    assert_eq!(bundle.manifest().vv_layers, 6);
    prototypes(&bundle, &values(&want, "text.bottle.unit"));
    let (maps, p) = (
        values(&want, "map"),
        values(&want, "image.probability_unaugmented"),
    );
    for (i, said) in said.iter().enumerate() {
        close("probability", &[said.score], &[p[2 * i + 1]]);
        close("map", &said.map().values, &maps[i * 84 * 84..][..84 * 84]);
    }
}

#[test]
fn coop_with_the_class_in_three_places() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("coop");
    let learned = checkpoint(
        folder.path(),
        &want,
        &[("prompt.ctx", "state_dict.prompt_learner.ctx")],
    );
    let (bundle, said) = judge(&clip, &asked(Method::Coop), Some(&learned));
    prototypes(&bundle, &values(&want, "text.raw"));
    scores_and_maps(&said, &want, "image.score", "map");
    let Numbers::Context { context, .. } = Learned::load(&learned, Method::Coop, &clip)
        .unwrap()
        .numbers
    else {
        panic!("no context");
    };
    let context = context_of(&context, 0);
    for (position, name) in [
        (ClassPosition::End, "text.raw"),
        (ClassPosition::Middle, "middle.text.raw"),
        (ClassPosition::Front, "front.text.raw"),
    ] {
        let rows = coop_rows(&clip, [&context, &context], "bottle", position).unwrap();
        let got = text::encode(&clip, &rows, &[], 1);
        let got: Vec<f32> = got.iter().copied().collect();
        assert!(relative(&got, &values(&want, name)) < CLOSE, "{name}");
    }
}

#[test]
fn cocoop_shifts_both_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("cocoop");
    let learned = checkpoint(
        folder.path(),
        &want,
        &[
            ("prompt.ctx", "ctx"),
            ("prompt.meta_net.linear1.weight", "meta_net.linear1.weight"),
            ("prompt.meta_net.linear1.bias", "meta_net.linear1.bias"),
            ("prompt.meta_net.linear2.weight", "meta_net.linear2.weight"),
            ("prompt.meta_net.linear2.bias", "meta_net.linear2.bias"),
        ],
    );
    let (_, said) = judge(&clip, &asked(Method::Cocoop), Some(&learned));
    scores_and_maps(&said, &want, "image.score", "map");
}

/// Our reading of the paper; the numbers are an independent reference's (`reference.py`).
#[test]
fn dapo_tells_which_defect_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("dapo");
    let learned = golden("methods/dapo/expected.safetensors");
    let mut asked = asked(Method::Dapo);
    asked.types = vec!["hole".into(), "bent_scratch".into()];
    let (bundle, said) = judge(&clip, &asked, Some(&learned));
    let spec = bundle.manifest().method.clone().unwrap();
    assert_eq!(
        (spec.types, spec.visual_tokens),
        (vec!["hole".into(), "bent scratch".into()], 4)
    );
    scores_and_maps(&said, &want, "image.score", "map");
    let (shares, grids) = (values(&want, "type.shares"), values(&want, "grid.types"));
    for (i, said) in said.iter().enumerate() {
        let types = said.types();
        let got: Vec<f32> = types.iter().map(|(share, _)| *share).collect();
        close("shares", &got, &shares[i * 2..][..2]);
        for (j, (_, map)) in types.iter().enumerate() {
            let grid = &grids[(i * 2 + j) * 36..][..36];
            let want = faprompt_edge::faprompt::map::enlarge(grid, 6, 84);
            close("a type's map", &map.values, &want.values);
        }
        // The larger share, if it is at least 0.1 above the other.
        let kind = said
            .kind(faprompt_edge::methods::TYPE_MARGIN)
            .map(|(kind, _)| kind);
        let apart = shares[2 * i] - shares[2 * i + 1];
        let want = (apart.abs() >= 0.1).then_some(usize::from(apart < 0.0));
        assert_eq!(kind, want, "picture {i}: shares apart by {apart}");
    }
    // Words alone make a type; a checkpoint without a record names none.
    asked.types = vec!["hole".into()];
    let (bundle, _) = judge(&clip, &asked, Some(&learned));
    assert_eq!(bundle.manifest().method.clone().unwrap().types, ["hole"]);
    let learned = Learned::load(&learned, Method::Dapo, &clip).unwrap();
    let options = common::options(Selection::Paper, Precision::F32);
    for (types, why) in [(vec![], "needs --types"), (vec!["hole".into(); 2], "twice")] {
        asked.types = types;
        let refused = export(
            &clip,
            &asked,
            Some(&learned),
            &options,
            &folder.path().join("y"),
        );
        assert!(refused.is_err_and(|e| e.to_string().contains(why)));
    }
}

/// This project's own; the numbers are an independent reference's in NumPy (`reference.py`).
#[test]
fn heads_judge_as_the_independent_reference() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let want = expected("heads");
    let learned = golden("methods/heads/expected.safetensors");
    let mut asked = asked(Method::Heads);
    asked.stages = vec![3, 5, 6];
    let (_, said) = judge(&clip, &asked, Some(&learned));
    scores_and_maps(&said, &want, "image.score", "map");
    let probabilities = values(&want, "image.probability");
    let own: Vec<f32> = said.iter().map(|s| s.image_probability).collect();
    close("probabilities", &own, &probabilities);
}

#[test]
fn what_a_method_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let options = common::options(Selection::Paper, Precision::F32);
    let refused = |asked: &MethodOptions| {
        let out = folder.path().join("x");
        export(&clip, asked, None, &options, &out)
            .err()
            .unwrap()
            .to_string()
    };
    let without_class = MethodOptions {
        class: None,
        ..asked(Method::Winclip)
    };
    assert!(refused(&without_class).contains("needs --class"));
    assert!(refused(&asked(Method::Coop)).contains("needs --prompts"));
    assert!(refused(&asked(Method::Filo)).contains("no device runs it"));
    // Weights that say no scale get CLIP's first one, and a sentence about it.
    let (own, mut silent) = (asked(Method::Coop), self::clip(folder.path()));
    let scale = silent.logit_scale.take().unwrap();
    assert_eq!(
        (own.scale(&clip), own.assumed(&clip)),
        ((-scale).exp(), None)
    );
    assert_eq!(own.scale(&silent), 0.07);
    assert!(
        own.assumed(&silent)
            .unwrap()
            .contains("T = 0.07 (--temperature)")
    );
    let long = MethodOptions {
        class: Some("very ".repeat(90) + "long"),
        ..asked(Method::Clip)
    };
    assert!(refused(&long).contains("the text encoder's context is 77"));
    assert!(
        text::features(&clip, &["a".into()], 1)
            .unwrap()
            .len_of(Axis(0))
            == 1
    );
}
