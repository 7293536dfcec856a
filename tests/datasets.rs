//! Data sets as people have them: folders, tables, masks; and what `fit` and `evaluate` do with odd ones.

mod common;

use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::train::datasets::{self, Sample};
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn marked(x: u32, y: u32) -> bool {
    (20..32).contains(&x) && (12..24).contains(&y)
}

/// A picture with a bright square if it is abnormal.
fn picture(path: &Path, shade: u8, abnormal: bool) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let picture = RgbImage::from_fn(48, 40, |x, y| match abnormal && marked(x, y) {
        true => Rgb([250, 240, 40]),
        false => Rgb([shade, shade + (x % 7) as u8, shade]),
    });
    picture.save(path).unwrap();
}

/// The square's mask: `on` inside, `off` outside.
fn mask(path: &Path, on: u8, off: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mask = GrayImage::from_fn(48, 40, |x, y| Luma([if marked(x, y) { on } else { off }]));
    mask.save(path).unwrap();
}

/// Three good and two cracked pictures of a nut in `test`.
fn pictures(test: &Path, good: &str, crack: &str, ending: &str) {
    for i in 0..3 {
        picture(
            &test.join(good).join(format!("{i:03}.{ending}")),
            60 + 20 * i,
            false,
        );
    }
    for i in 0..2 {
        picture(
            &test.join(crack).join(format!("{i:03}.{ending}")),
            70 + 20 * i,
            true,
        );
    }
}

/// (Pictures, abnormal ones, with a mask.)
fn counts(samples: &[Sample]) -> (usize, usize, usize) {
    let abnormal = samples.iter().filter(|s| s.anomalous).count();
    let masks = samples.iter().filter(|s| s.mask.is_some()).count();
    (samples.len(), abnormal, masks)
}

#[test]
fn folders_of_every_data_set_are_the_same_set() {
    // Where the pictures and the masks of 000 and 001 lie.
    let layouts: [(&str, &str, &str, &str, &[&str]); 13] = [
        (
            "mvtec",
            "nut/test",
            "good",
            "crack",
            &["nut/ground_truth/crack/{}_mask.png"],
        ),
        (
            "btad",
            "nut/test",
            "ok",
            "ko",
            &["nut/ground_truth/ko/{}.bmp"],
        ),
        (
            "case",
            "nut/Test",
            "Good",
            "crack",
            &["nut/Ground_Truth/Crack/{}_MASK.PNG"],
        ),
        (
            "normal",
            "nut/test",
            "Normal",
            "Crack",
            &["nut/groundtruth/crack/{}.tif"],
        ),
        (
            "jpeg",
            "nut/test",
            "OK",
            "crack",
            &["nut/ground_truth/crack/{}_mask.jpg"],
        ),
        (
            "tiff",
            "nut/test",
            "good",
            "crack",
            &["nut/gt/crack/{}_gt.TIFF"],
        ),
        (
            "mask",
            "nut/test",
            "good",
            "crack",
            &["nut/mask/crack/{}.png"],
        ),
        ("masks", "nut/test", "good", "crack", &["nut/masks/{}.png"]),
        (
            "loco",
            "nut/test",
            "good",
            "crack",
            &[
                "nut/ground_truth/crack/{}/000.png",
                "nut/ground_truth/crack/{}/001.png",
            ],
        ),
        (
            "ad2",
            "nut/test",
            "good",
            "bad",
            &["nut/ground_truth/bad/{}_regular_mask.png"],
        ),
        (
            "ad2_public",
            "nut/test_public",
            "good",
            "bad",
            &["nut/test_public/ground_truth/bad/{}_mask.png"],
        ),
        (
            "visa",
            "nut/Data/Images",
            "Normal",
            "Anomaly",
            &["nut/Data/Masks/Anomaly/{}.png"],
        ),
        ("flat", "nut", "good", "bad", &["nut/masks/{}.png"]),
    ];
    for (name, test, good, crack, masks) in layouts {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        pictures(&root.join(test), good, crack, "png");
        for i in ["000", "001"] {
            for path in masks {
                mask(&root.join(path.replace("{}", i)), 255, 0);
            }
        }
        for path in [root.to_path_buf(), root.join("nut")] {
            let set = datasets::read(&path).unwrap();
            assert_eq!(counts(&set.samples), (5, 2, 2), "{name}");
            assert_eq!(set.left_out, Default::default(), "{name}");
            assert!(set.samples.iter().all(|s| s.class == "nut"), "{name}");
            for sample in set.samples.iter().filter(|s| s.anomalous) {
                let found = sample.mask.as_ref().unwrap();
                assert_eq!(found.files.len(), masks.len(), "{name}");
                let share = found.read().unwrap().share();
                assert!((share - 144.0 / 1920.0).abs() < 0.002, "{name}: {share}");
            }
        }
    }
}

#[test]
fn hidden_files_and_folders_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let test = root.join("nut/test");
    pictures(&test, "good", "crack", "png");
    picture(
        &test.join(".ipynb_checkpoints/000-checkpoint.png"),
        60,
        false,
    );
    picture(&test.join("crack/.thumbs/000.png"), 60, false);
    picture(&root.join("__MACOSX/nut/test/good/000.png"), 60, false);
    std::fs::write(test.join("good/._000.png"), b"resource fork").unwrap();
    std::fs::write(test.join("good/readme.txt"), b"text").unwrap();
    let set = datasets::read(root).unwrap();
    assert_eq!(counts(&set.samples), (5, 2, 0));
    assert_eq!((set.left_out.hidden, set.left_out.other), (4, 1));
}

#[test]
fn a_name_that_another_begins_with_takes_no_mask_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["1", "1_2", "12"] {
        picture(&root.join(format!("nut/test/crack/{name}.png")), 60, true);
    }
    picture(&root.join("nut/test/good/0.png"), 60, false);
    mask(&root.join("nut/ground_truth/crack/1_2_mask.png"), 255, 0);
    mask(&root.join("nut/ground_truth/crack/12_mask.png"), 255, 0);
    let samples = datasets::load(root).unwrap();
    let with: Vec<_> = samples.iter().filter(|s| s.mask.is_some()).collect();
    let names: Vec<_> = with.iter().map(|s| s.image.file_name().unwrap()).collect();
    assert_eq!(names, ["12.png", "1_2.png"]);
}

#[test]
fn tables_as_spreadsheets_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(root, "good", "crack", "png");
    mask(&root.join("000_mask.png"), 255, 0);
    let rows = "image,mask,class,type,label\ngood/000.png,,nut,good,0\ncrack/000.png,000_mask.png,nut,crack,1\n";
    let utf16: Vec<u8> = [0xfeffu16]
        .into_iter()
        .chain(rows.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let latin: Vec<u8> = rows
        .replace("nut", "n\u{fc}t")
        .chars()
        .map(|c| c as u8)
        .collect();
    let variants: [(&str, Vec<u8>); 13] = [
        ("plain", rows.into()),
        ("bom", format!("\u{feff}{rows}").into()),
        ("crlf", rows.replace('\n', "\r\n").into()),
        ("spaces", rows.replace(',', " , ").into()),
        ("semicolons", rows.replace(',', ";").into()),
        ("tabs", rows.replace(',', "\t").into()),
        (
            "case",
            rows.replacen(
                "image,mask,class,type,label",
                "Image,MASK,Class,Type,Label",
                1,
            )
            .into(),
        ),
        (
            "floats",
            rows.replace(",0\n", ",0.0\n")
                .replace(",1\n", ",1.0\n")
                .into(),
        ),
        (
            "words",
            rows.replace(",0\n", ",FALSE\n")
                .replace(",1\n", ",True\n")
                .into(),
        ),
        ("blank lines", format!("{rows}\n\n").into()),
        ("windows", rows.replace('/', "\\").into()),
        ("utf16", utf16),
        ("latin", latin),
    ];
    for (name, bytes) in variants {
        let path = root.join("set.csv");
        std::fs::write(&path, bytes).unwrap();
        let set = datasets::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(counts(&set.samples), (2, 1, 1), "{name}");
        assert_eq!(set.samples[1].kind, "crack", "{name}");
        assert_eq!(set.notes.is_empty(), name != "latin", "{name}");
        let class = if name == "latin" { "n\u{fc}t" } else { "nut" };
        assert_eq!(set.samples[0].class, class, "{name}");
    }
    // VisA's own table: names begin one folder above it, and only its test part counts.
    std::fs::create_dir(root.join("split_csv")).unwrap();
    let visa = "object,split,label,image,mask\nnut,train,normal,good/001.png,\nnut,test,normal,good/000.png,\nnut,test,anomaly,crack/000.png,000_mask.png\n";
    std::fs::write(root.join("split_csv/1cls.csv"), visa).unwrap();
    assert_eq!(counts(&datasets::load(root).unwrap()), (2, 1, 1));
}

#[test]
fn json_as_people_write_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(root, "good", "crack", "png");
    mask(&root.join("m.png"), 255, 0);
    let path = root.join("meta.json");
    let meta = |normal: Value, abnormal: Value, nothing: Value| {
        json!({"test": {"nut": [
            {"img_path": "good/000.png", "mask_path": nothing, "cls_name": "nut", "anomaly": normal},
            {"img_path": "crack\\000.png", "mask_path": "m.png", "cls_name": "nut", "specie_name": "crack", "anomaly": abnormal},
        ]}})
    };
    for (normal, abnormal, nothing) in [
        (json!(0), json!(1), json!("")),
        (json!(false), json!(true), json!(null)),
        (json!(0.0), json!(1.0), json!("good")),
        (json!("0"), json!("1"), json!(null)),
    ] {
        let text = meta(normal, abnormal, nothing).to_string();
        std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
        assert_eq!(counts(&datasets::load(root).unwrap()), (2, 1, 1));
    }
    let error = |value: Value| {
        std::fs::write(&path, value.to_string()).unwrap();
        datasets::load(root).unwrap_err().to_string()
    };
    let e = error(meta(json!("maybe"), json!(1), json!("")));
    assert!(e.contains("test.nut[0]") && e.contains("maybe"), "{e}");
    let mut train = meta(json!(0), json!(1), json!(""));
    train["train"] = train["test"].take();
    let e = error(train);
    assert!(e.contains("2 are in its `train` part"), "{e}");
    // Real-IAD.
    let iad = json!({"meta": {"normal_class": "OK", "prefix": "crack/"}, "train": [], "test": [
        {"category": "nut", "anomaly_class": "OK", "image_path": "../good/000.png", "mask_path": null},
        {"category": "nut", "anomaly_class": "AK", "image_path": "000.png", "mask_path": "../m.png"},
    ]});
    let path = root.join("nut.json");
    std::fs::write(&path, iad.to_string()).unwrap();
    assert_eq!(counts(&datasets::load(&path).unwrap()), (2, 1, 1));
}

fn train(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
    command.args(arguments).args(paths).output().unwrap()
}

fn said(out: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&out.stdout) + &text(&out.stderr)
}

/// A set with these masks for its two defective pictures: inside, outside; no mask; or a damaged one.
fn with_masks(root: &Path, masks: [Option<(u8, u8)>; 2]) -> PathBuf {
    let _ = std::fs::remove_dir_all(root);
    pictures(&root.join("nut/test"), "good", "crack", "png");
    for (i, values) in masks.into_iter().enumerate() {
        let path = root.join(format!("nut/ground_truth/crack/{i:03}_mask.png"));
        if let Some((on, off)) = values {
            mask(&path, on, off);
        }
    }
    root.to_path_buf()
}

#[test]
fn evaluate_says_what_masks_are_worth_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (bundle, _) = common::golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let (json, html) = (folder.path().join("r.json"), folder.path().join("r.html"));
    let root = folder.path().join("set");
    let bundle = bundle.to_str().unwrap();
    let run = |more: &[&str], path: &Path| {
        let mut arguments = vec!["evaluate", "--bundle", bundle, "--threads", "1"];
        arguments.extend([
            "--json",
            json.to_str().unwrap(),
            "--html",
            html.to_str().unwrap(),
        ]);
        arguments.extend(more);
        train(&arguments, &[path])
    };
    let report = || -> Value { serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap() };
    let page = || std::fs::read_to_string(&html).unwrap();

    // Neither of the defective pictures has a mask: their heat maps are shown all the same.
    let set = with_masks(&root, [None, None]);
    let out = run(&[], &set);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(
        said(&out).contains("0 of 2 defective pictures have a mask"),
        "{}",
        said(&out)
    );
    assert_eq!(report()[0]["masks"]["with_mask"], 0);
    assert!(report()[0]["mean"]["pixel_auroc"].is_null());
    assert!(page().contains("0 of 2 defective pictures have a mask"));
    assert!(!page().contains("no heat map") && page().contains("no mask"));

    // One marks nothing, one is inverted.
    let set = with_masks(&root, [Some((0, 0)), Some((0, 255))]);
    let out = run(&[], &set);
    let text = said(&out);
    assert!(
        text.contains("1 of 2 defective pictures have a mask; 1 masks mark nothing"),
        "{text}"
    );
    assert!(text.contains("--invert-masks"), "{text}");
    let masks = &report()[0]["masks"];
    assert_eq!(
        (&masks["nothing_marked"], &masks["nearly_all_marked"]),
        (&json!(1), &json!(1))
    );
    let inverted = with_masks(&root, [Some((0, 255)), Some((0, 255))]);
    assert_eq!(run(&["--invert-masks"], &inverted).status.code(), Some(0));
    let turned = report()[0]["mean"].clone();
    let set = with_masks(&root, [Some((255, 0)), Some((255, 0))]);
    run(&[], &set);
    assert_eq!(report()[0]["mean"], turned);
    assert!(turned["pixel_auroc"].is_f64());

    // A damaged mask and a damaged picture: named, left out, reported by the exit code.
    let path = set.join("nut/ground_truth/crack/001_mask.png");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(set.join("nut/test/good/002.png"), b"nothing").unwrap();
    let out = run(&[], &set);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    let text = said(&out);
    assert!(
        text.contains("001_mask.png") && text.contains("good/002.png"),
        "{text}"
    );
    assert!(
        text.contains("1 of 2 defective pictures have a mask"),
        "{text}"
    );
    assert_eq!(report()[0]["pictures"].as_array().unwrap().len(), 4);
    assert_eq!(report()[0]["failed"].as_array().unwrap().len(), 2);

    // A failure leaves no empty files, and what was there before stays.
    std::fs::remove_file(&json).unwrap();
    std::fs::write(&html, "before").unwrap();
    let out = run(&[], &folder.path().join("absent"));
    assert_eq!(out.status.code(), Some(33), "{}", said(&out));
    assert!(!json.exists() && page() == "before");
}

#[test]
fn fit_refuses_masks_that_teach_nonsense_and_a_folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let clip = common::golden_clip(folder.path());
    let (out, cache) = (folder.path().join("out"), folder.path().join("cache"));
    let root = folder.path().join("set");
    let run = |more: &[&str]| {
        let mut arguments = vec![
            "fit",
            "--epochs",
            "1",
            "--image-size",
            "84",
            "--vv-layers",
            "4",
        ];
        arguments.extend([
            "--clip",
            clip.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ]);
        arguments.extend(["--cache", cache.to_str().unwrap()]);
        arguments.extend(more);
        train(&arguments, &[&root])
    };
    with_masks(&root, [Some((0, 0)), Some((255, 0))]);
    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(33), "{}", said(&refused));
    let text = said(&refused);
    assert!(
        text.contains("1 of 2 masks mark nothing") && text.contains("--accept-masks"),
        "{text}"
    );
    with_masks(&root, [Some((0, 255)), Some((0, 255))]);
    let text = said(&run(&[]));
    assert!(
        text.contains("2 of 2 masks mark more than 80 %") && text.contains("--invert-masks"),
        "{text}"
    );
    assert!(!cache.exists(), "it is said before hours of encoding");
    let learned = run(&["--invert-masks"]);
    assert_eq!(learned.status.code(), Some(0), "{}", said(&learned));
    assert!(said(&learned).contains("2 of 2 defective pictures have a mask"));

    let lock = std::fs::File::create(out.join("lock")).unwrap();
    lock.try_lock().unwrap();
    let second = run(&["--invert-masks", "--resume"]);
    assert_eq!(second.status.code(), Some(32), "{}", said(&second));
    assert!(said(&second).contains("another run is writing into this folder"));
}
