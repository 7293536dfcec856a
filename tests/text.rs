//! Words for a distilled image encoder: PyTorch's numbers, and the command on small drawn pictures.

mod common;

use burn::tensor::Device;
use common::golden;
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::train::clip::{Block, Clip, Dense, Norm, Text, VOCABULARY, Visual};
use faprompt_edge::train::distil::text::directions::{Batch, Directions, One, adam};
use faprompt_edge::train::distil::text::last::{Last, Wanted};
use faprompt_edge::train::distil::text::learner::{CONTEXT, Learner, Used};
use faprompt_edge::train::prompts::token_ids;
use faprompt_edge::train::tensors::Tensors;
use ndarray::{Array1, Array2};
use std::path::Path;
use std::process::Command;

const C: usize = 8;
const WIDTH: usize = 64;

/// The numbers of tests/golden/make_text.py.
fn numbers(salt: u64, count: usize, size: f64) -> Vec<f32> {
    let one = |i: usize| {
        let mut h = ((i as u64 + 1) * 2_654_435_761 + salt * 40_503) % (1 << 32);
        h ^= h >> 15;
        h = h * 2_246_822_519 % (1 << 32);
        h ^= h >> 13;
        (size * (h as f64 / 2f64.powi(31) - 1.0)) as f32
    };
    (0..count).map(one).collect()
}

fn matrix(salt: u64, rows: usize, columns: usize, size: f64) -> Array2<f32> {
    Array2::from_shape_vec((rows, columns), numbers(salt, rows * columns, size)).unwrap()
}

fn unit(mut rows: Array2<f32>) -> Array2<f32> {
    for mut row in rows.outer_iter_mut() {
        let length = row.dot(&row).sqrt();
        row /= length;
    }
    rows
}

fn expected(part: &str, key: &str) -> Vec<f32> {
    let text = std::fs::read_to_string(golden("text.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = all[part][key].as_array().unwrap();
    found.iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn close(found: &[f32], part: &str, key: &str) {
    let want = expected(part, key);
    assert_eq!(found.len(), want.len(), "{part} {key}");
    for (i, (found, want)) in found.iter().zip(&want).enumerate() {
        let off = (found - want).abs();
        assert!(off < 1e-4, "{part} {key} {i}: {found}, PyTorch {want}");
    }
}

#[test]
fn directions_learn_as_in_pytorch() {
    let device = Device::flex().autodiff();
    let (b, n, steps) = (6, 9, 5);
    let patches = unit(matrix(1, b * n, C, 1.0));
    let images = unit(matrix(2, b, C, 1.0));
    let covers = matrix(3, b, n, 1.0).mapv(|v| v.max(0.0));
    let covers: Vec<Vec<f32>> = (0..b)
        .map(|i| match i % 2 {
            0 => vec![0.0; n],
            _ => covers.row(i).to_vec(),
        })
        .collect();
    let rows = |i: usize| {
        patches
            .slice(ndarray::s![i * n..(i + 1) * n, ..])
            .to_owned()
    };
    let all: Vec<One> = (0..b)
        .map(|i| One {
            patches: rows(i),
            image: images.row(i).to_vec(),
            bad: i % 2 == 1,
            masked: i != 3,
            cover: &covers[i],
        })
        .collect();
    let batch = Batch::new(&all, &device);
    let (mut directions, mut optimizer) = (Directions::new(C, &device), adam());
    let mut losses = vec![];
    for step in 0..steps {
        let loss;
        (directions, loss) = directions.step(&mut optimizer, &batch, (step, steps));
        losses.push(loss);
    }
    close(&losses, "directions", "losses");
    let found = directions.found();
    close(found.patches.as_slice().unwrap(), "directions", "patches");
    close(found.images.as_slice().unwrap(), "directions", "images");
}

fn norm() -> Norm {
    Norm {
        weight: Array1::ones(WIDTH),
        bias: Array1::zeros(WIDTH),
    }
}

fn block(salt: u64) -> Block {
    let size = (WIDTH as f64).powf(-0.5);
    let dense = |i: u64, rows: usize, columns: usize| Dense {
        weight: matrix(salt + i, rows, columns, size),
        bias: Array1::zeros(rows),
    };
    Block {
        ln_1: norm(),
        qkv: dense(0, 3 * WIDTH, WIDTH),
        out: dense(1, WIDTH, WIDTH),
        ln_2: norm(),
        fc: dense(2, 4 * WIDTH, WIDTH),
        proj: dense(3, WIDTH, 4 * WIDTH),
    }
}

#[test]
fn the_last_mlp_learns_as_in_pytorch() {
    let size = (WIDTH as f64).powf(-0.5);
    let visual = Visual {
        width: WIDTH,
        heads: 1,
        epsilon: 1e-5,
        patch: 4,
        grid: 1,
        conv1: Array2::zeros((WIDTH, 48)),
        class: Array1::zeros(WIDTH),
        positions: Array2::zeros((2, WIDTH)),
        ln_pre: norm(),
        blocks: vec![block(10)],
        ln_post: norm(),
        proj: matrix(15, WIDTH, C, size).reversed_axes(),
    };
    let direction = Array1::from(numbers(17, C, 3.0));
    let rows = matrix(16, 6, WIDTH, 1.0);
    let mut last = Last::new(&visual, &Device::flex().autodiff());
    let images = last.images(&rows);
    let found = faprompt_edge::train::distil::text::directions::Found {
        patches: direction.clone(),
        images: Array1::from(numbers(18, C, 6.0)),
    };
    let wanted = Wanted::new(rows.clone(), images, &found);
    let mut optimizer = adam();
    let mut losses = vec![];
    for step in 0..5 {
        let loss;
        (last, loss) = last.step(
            &mut optimizer,
            &wanted,
            &[0, 1, 2, 3, 4, 5],
            &direction,
            step,
        );
        losses.push(loss);
    }
    close(&losses, "last", "losses");
    close(last.images(&rows).as_slice().unwrap(), "last", "features");
    // Nothing but the MLP and its normalisation.
    let (now, before) = (last.export(), block(10));
    assert_eq!(
        (now.qkv.weight, now.out.weight),
        (before.qkv.weight, before.out.weight)
    );
    assert_ne!(now.fc.weight, before.fc.weight);
}

#[test]
fn texts_learn_as_in_pytorch() {
    let texts = ["damaged object.", "a photo of a flawless object."];
    let mut ids: Vec<usize> = texts.iter().flat_map(|t| token_ids(t)).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = matrix(25, ids.len(), WIDTH, 0.1);
    let mut table = Array2::zeros((VOCABULARY, WIDTH));
    for (id, row) in ids.iter().zip(rows.outer_iter()) {
        table.row_mut(*id).assign(&row);
    }
    let size = (WIDTH as f64).powf(-0.5);
    let from = Text {
        width: WIDTH,
        heads: 1,
        epsilon: 1e-5,
        embedding: Some(table),
        positions: matrix(26, CONTEXT, WIDTH, 0.1),
        blocks: vec![block(20)],
        ln_final: norm(),
        projection: matrix(27, WIDTH, WIDTH, size)
            .reversed_axes()
            .as_standard_layout()
            .into_owned(),
    };
    let wanted = unit(matrix(28, 2, WIDTH, 1.0));
    let phrases: Vec<_> = texts
        .iter()
        .zip(wanted.outer_iter())
        .map(|(text, row)| (text.to_string(), row.to_owned()))
        .collect();
    let mut learner = Learner::new(&from, Used::default(), &Device::flex().autodiff());
    let losses: Vec<f32> = (0..6)
        .map(|step| learner.step(&phrases[..1 + step % 2], (step, 6), 0.1))
        .collect();
    close(&losses, "text", "losses");
    let features: Vec<f32> = texts.iter().flat_map(|t| learner.feature(t)).collect();
    close(&features, "text", "texts");
    let last = *ids.last().unwrap();
    close(
        learner.used().0[&last][0].as_slice().unwrap(),
        "text",
        "row",
    );
    let table = learner.export(&from).embedding.unwrap();
    assert_eq!(table.row(last), learner.used().0[&last][0]);
    // A token that no text used rests.
    assert!(table.row(1).iter().all(|v| *v == 0.0));
}

fn train(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_faprompt-train"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    (
        done.status.code(),
        text + &String::from_utf8_lossy(&done.stderr),
    )
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let (code, text) = train(folder, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

/// A folder with a distilled tower of two heads, two labelled sets, and a table of photos.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, seed) in [("real", "1"), ("drawn", "2")] {
        let seed = [
            "render", "--scenes", "6", "--side", "48", "--seed", seed, "--out", name,
        ];
        done(path, &seed);
    }
    let teacher = golden("networks/maps.onnx").display().to_string();
    let distil = "distil --photos real --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --width 128 --layers 2 --patch 8 --image-size 32 \
                  --joint 128 --batch 4 --photo-side 32 --views 0 --large 0 --steps 3 --out tower.safetensors --teacher";
    let distil: Vec<&str> = distil
        .split_whitespace()
        .chain([teacher.as_str()])
        .collect();
    done(path, &distil);
    let mut table = String::new();
    let photos = faprompt_edge::capture::list(&path.join("real/images")).unwrap();
    for (i, photo) in photos.iter().enumerate() {
        let photo = photo.strip_prefix(path).unwrap().display();
        table += &format!("thing {},{photo}\n", i % 3);
    }
    std::fs::write(path.join("labels.csv"), table).unwrap();
    folder
}

/// `text` on them.
fn text<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let usual = "text tower.safetensors --sets real --rendered-sets drawn --labels labels.csv --cache cache --layers 1 \
                 --steps 8 --batch 4 --out";
    let usual = usual.split_whitespace().chain([out]);
    usual.chain(more.iter().copied()).collect()
}

#[test]
fn a_tower_gets_words_and_the_bundle_says_who_taught_it() {
    let folder = folder();
    let path = folder.path();
    let said = done(path, &text("clip.safetensors", &[]));
    for what in [
        "24 labelled pictures in",
        "; 0 left out",
        "correlation",
        "12 photos of 3 things",
        "step     8  loss",
        "\"damaged object.\" meets its direction",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
    // Another seed gives other numbers; the first one's pictures were looked at already.
    let cached = || {
        walkdir::WalkDir::new(path.join("cache"))
            .into_iter()
            .count()
    };
    let before = cached();
    done(path, &text("other.safetensors", &["--seed", "8"]));
    assert_eq!(cached(), before);
    let bytes = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(bytes("clip.safetensors") != bytes("other.safetensors"));

    // The image encoder is the tower but for its last MLP.
    let tower = Visual::of_file(&Tensors::load(&path.join("tower.safetensors")).unwrap()).unwrap();
    let clip = Clip::load(&path.join("clip.safetensors")).unwrap();
    assert_eq!(
        (clip.vv_layers, clip.text.heads, clip.visual.heads),
        (Some(1), 2, 2)
    );
    let (first, last) = (&clip.visual.blocks[0], &clip.visual.blocks[1]);
    assert_eq!(first.fc.weight, tower.blocks[0].fc.weight);
    assert_eq!(last.qkv.weight, tower.blocks[1].qkv.weight);
    assert_ne!(last.fc.weight, tower.blocks[1].fc.weight);
    assert_eq!(clip.visual.proj, tower.proj);
    let teacher = golden("networks/maps.onnx");
    let digest = faprompt_edge::train::tensors::file_digest(&teacher).unwrap();
    assert_eq!(clip.sources["teacher maps.onnx"], digest);

    done(
        path,
        &[
            "fit",
            "real",
            "--clip",
            "clip.safetensors",
            "--start",
            "words",
            "--lr",
            "1e-6",
            "--epochs",
            "1",
            "--cache",
            "cache",
            "--out",
            "fitted",
        ],
    );
    done(
        path,
        &[
            "export",
            "--clip",
            "clip.safetensors",
            "--prompts",
            "fitted/prompts.safetensors",
            "--out",
            "my.bundle",
        ],
    );
    let bundle = Bundle::open(&path.join("my.bundle"), &Keys::default()).unwrap();
    let sources = &bundle.manifest().sources;
    assert_eq!(sources["teacher maps.onnx"], digest);
    for what in [
        "photos",
        "tower",
        "labels",
        "labelled real",
        "labelled drawn",
        "clip",
        "prompts",
    ] {
        assert_eq!(sources[what].len(), 64, "{what}");
    }
    let info = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"))
        .args(["bundle", "info"])
        .arg(path.join("my.bundle"))
        .output()
        .unwrap();
    let info = String::from_utf8_lossy(&info.stdout).into_owned();
    assert!(
        info.contains(&format!("teacher maps.onnx {digest}")),
        "{info}"
    );
}

#[test]
fn a_run_goes_on_to_the_very_same_numbers() {
    let folder = folder();
    let path = folder.path();
    let bytes = |name: &str| std::fs::read(path.join(name)).unwrap();
    done(path, &text("straight.safetensors", &[]));
    let (code, said) = train(path, &text("pieces.safetensors", &["--stop-after", "3"]));
    assert_eq!(code, Some(35), "{said}");
    assert!(
        said.contains("stopped after step 3") && said.contains("--resume"),
        "{said}"
    );
    assert!(bytes("pieces.safetensors") != bytes("straight.safetensors"));
    // Not by accident, and not with other options or pictures.
    let (code, said) = train(path, &text("pieces.safetensors", &[]));
    assert_eq!(code, Some(32), "{said}");
    assert!(said.contains("holds a run: go on with --resume"), "{said}");
    let (code, said) = train(
        path,
        &text("pieces.safetensors", &["--resume", "--lr", "0.5"]),
    );
    assert_eq!(code, Some(32), "{said}");
    assert!(said.contains("lr: there 0.001, here 0.5"), "{said}");
    let (code, said) = train(
        path,
        &text("pieces.safetensors", &["--resume", "--cap", "7"]),
    );
    assert_eq!(code, Some(32), "{said}");
    assert!(said.contains("--sets: there other pictures"), "{said}");
    let said = done(path, &text("pieces.safetensors", &["--resume"]));
    assert!(
        !said.contains("labelled pictures"),
        "they are not looked at again: {said}"
    );
    assert!(
        bytes("pieces.safetensors") == bytes("straight.safetensors"),
        "two pieces give other numbers than one"
    );
}

#[test]
fn sets_are_judged_by_the_others_and_what_is_wrong_is_named() {
    let folder = folder();
    let path = folder.path();
    let judge =
        "text tower.safetensors --leave-out --cache cache --sets real --rendered-sets drawn";
    let judge: Vec<&str> = judge.split_whitespace().collect();
    let said = done(path, &judge);
    assert!(said.contains("without real: image AUROC "), "{said}");
    assert!(!said.contains("without drawn"), "{said}");

    std::fs::write(path.join("lost.csv"), "a,real/images/none.png\n").unwrap();
    std::fs::write(path.join("three.csv"), "a,b,c\n").unwrap();
    let long = format!("{},tower.safetensors\n", "long ".repeat(40));
    std::fs::write(path.join("long.csv"), &long).unwrap();
    let first = faprompt_edge::capture::list(&path.join("real/images")).unwrap();
    let long = long.replace("tower.safetensors", &first[0].display().to_string());
    std::fs::write(path.join("long.csv"), long).unwrap();
    std::fs::create_dir(path.join("good")).unwrap();
    std::fs::write(
        path.join("good/meta.json"),
        r#"{"test": {"a": [{"img_path": "../tower.safetensors", "cls_name": "a", "specie_name": "good", "anomaly": 0}]}}"#,
    )
    .unwrap();
    for (replaced, by, code, what) in [
        (
            "labels.csv",
            "lost.csv",
            33,
            "lost.csv: line 1: label `a`, and no file",
        ),
        (
            "labels.csv",
            "three.csv",
            33,
            "three.csv: line 1: 3 columns; two are wanted",
        ),
        ("labels.csv", "long.csv", 32, "shorten the label"),
        (
            "real",
            "good",
            33,
            "none of the 1 pictures that are taken is defective",
        ),
        ("tower.safetensors", "labels.csv", 30, "labels.csv"),
        ("1", "0", 32, "are at least 1"),
    ] {
        let arguments = text("x.safetensors", &[]);
        let arguments: Vec<&str> = arguments
            .iter()
            .map(|a| if *a == replaced { by } else { a })
            .collect();
        let (found, said) = train(path, &arguments);
        assert_eq!(found, Some(code), "{by}: {said}");
        assert!(said.contains(what), "{by}: {said}");
        assert!(!path.join("x.safetensors").exists());
        let _ = std::fs::remove_dir_all(path.join("x.safetensors.run"));
    }
    // A tower whose features no text encoder can have.
    let (code, said) = train(
        path,
        &["text", "real/meta.json", "--leave-out", "--sets", "real"],
    );
    assert_eq!(code, Some(30), "{said}");
}
