//! Data sets in their three layouts, and `faprompt-train evaluate` on them.

mod common;

use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::bundle::method::Method;
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::capture::load;
use faprompt_edge::inspector::Inspector;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets::{self, Sample};
use faprompt_edge::train::masks::Mask;
use faprompt_edge::train::methods::learned::Learned;
use faprompt_edge::train::methods::{self, MethodOptions};
use faprompt_edge::train::metrics::Ranking;
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Pictures with a bright square if abnormal, and their masks, in MVTec AD's layout.
fn mvtec(root: &Path) {
    for class in ["bolt", "nut"] {
        for (kind, count) in [("good", 3), ("dent", 2), ("unmarked", 1)] {
            for i in 0..count {
                let shade = 60 + 20 * i as u8;
                let hot = |x: u32, y: u32| {
                    kind != "good" && (20..32).contains(&x) && (12..24).contains(&y)
                };
                let picture = RgbImage::from_fn(48, 40, |x, y| {
                    if hot(x, y) {
                        Rgb([250, 240, 40])
                    } else {
                        Rgb([shade, shade + (x % 7) as u8, shade])
                    }
                });
                let folder = root.join(class).join("test").join(kind);
                std::fs::create_dir_all(&folder).unwrap();
                picture.save(folder.join(format!("{i:03}.png"))).unwrap();
                if kind == "dent" {
                    let masks = root.join(class).join("ground_truth/dent");
                    std::fs::create_dir_all(&masks).unwrap();
                    let mask =
                        GrayImage::from_fn(48, 40, |x, y| Luma([if hot(x, y) { 255 } else { 0 }]));
                    mask.save(masks.join(format!("{i:03}_mask.png"))).unwrap();
                }
            }
        }
    }
}

fn sorted(mut samples: Vec<Sample>) -> Vec<(PathBuf, Option<Mask>, String, String, bool)> {
    samples.sort_by(|a, b| a.image.cmp(&b.image));
    samples
        .into_iter()
        .map(|s| (s.image, s.mask, s.class, s.kind, s.anomalous))
        .collect()
}

#[test]
fn three_layouts_of_the_same_set_are_the_same_set() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    mvtec(root);
    let samples = datasets::load(root).unwrap();
    assert_eq!(samples.len(), 12);
    assert_eq!(samples.iter().filter(|s| s.anomalous).count(), 6);
    assert_eq!(samples.iter().filter(|s| s.mask.is_some()).count(), 4);
    assert_eq!(
        datasets::load(&root.join("nut")).unwrap().len(),
        6,
        "one class alone"
    );
    let below = |p: &Path| p.strip_prefix(root).unwrap().display().to_string();
    let mask = |s: &Sample| s.mask.as_ref().map_or(String::new(), |m| below(m.name()));
    let mut table = String::from("image,mask,class,type,label\n");
    let mut meta = serde_json::json!({"train": {}, "test": {}});
    for s in &samples {
        let label = if s.anomalous { "bad" } else { "good" };
        table += &format!(
            "{},{},{},{},{label}\n",
            below(&s.image),
            mask(s),
            s.class,
            s.kind
        );
        let entry = serde_json::json!({"img_path": below(&s.image), "mask_path": mask(s), "cls_name": s.class,
            "specie_name": s.kind, "anomaly": u8::from(s.anomalous)});
        let class = &mut meta["test"][&s.class];
        if class.is_null() {
            *class = serde_json::json!([]);
        }
        class.as_array_mut().unwrap().push(entry);
    }
    std::fs::write(root.join("set.csv"), table).unwrap();
    let want = sorted(samples);
    assert_eq!(sorted(datasets::load(&root.join("set.csv")).unwrap()), want);
    std::fs::write(root.join("meta.json"), meta.to_string()).unwrap();
    assert_eq!(sorted(datasets::load(root).unwrap()), want);
}

#[test]
fn data_sets_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let image = folder.path().join("a.png");
    RgbImage::new(4, 4).save(&image).unwrap();
    let mask = folder.path().join("mask.png");
    GrayImage::new(8, 4).save(&mask).unwrap();
    let named = folder.path().join("named");
    for kind in ["goods", "bads"] {
        std::fs::create_dir_all(named.join(kind)).unwrap();
        std::fs::copy(&image, named.join(kind).join("0.png")).unwrap();
    }
    for (path, word) in [
        (folder.path().join("absent"), "absent"),
        (write("cut.json", "{\"test\": {"), "cut.json"),
        (write("empty.json", "{\"test\": {}}"), "no samples"),
        (
            write("label.csv", "image,label\na.png,maybe\n"),
            "line 2: label `maybe`",
        ),
        (
            write("column.csv", "picture,label\na.png,1\n"),
            "line 1: `picture,label`",
        ),
        (
            write("size.csv", "image,mask,label\na.png,mask.png,1\n"),
            "mask of 8 x 4 pixels",
        ),
        (write("gone.csv", "image,label\ngone.png,1\n"), "gone.png"),
        (
            write("mask.csv", "image,mask,label\na.png,gone_mask.png,1\n"),
            "gone_mask.png",
        ),
        (image.clone(), "neither a folder, nor JSON"),
        (
            write("folder.csv", "image,label\nnamed,1\n"),
            "named, which is a folder",
        ),
        (
            write("two.csv", "image,label\na.png,0\na.png,1\n"),
            "a.png twice, and labels it in two ways (class \"\", type \"\", good",
        ),
        (folder.path().to_path_buf(), "no samples"),
        (named.clone(), "`bads`, `goods`"),
        (named.clone(), "The KIND good or ok or normal"),
    ] {
        let error = datasets::load(&path)
            .err()
            .unwrap_or_else(|| panic!("{} was read", path.display()))
            .to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_picture_that_is_named_twice_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png"] {
        RgbImage::new(4, 4).save(folder.path().join(name)).unwrap();
    }
    let table = folder.path().join("set.csv");
    std::fs::write(
        &table,
        "image,label\na.png,0\n./a.png,0\nb.png,1\na.png,0\n",
    )
    .unwrap();
    let entry = |name: &str| serde_json::json!({"img_path": name, "cls_name": "nut", "anomaly": 0});
    let list = serde_json::json!([
        entry("a.png"),
        entry("a.png"),
        entry("a.png"),
        entry("b.png")
    ]);
    let meta = serde_json::json!({"test": {"nut": list}, "train": {"nut": list}});
    let file = folder.path().join("meta.json");
    std::fs::write(&file, meta.to_string()).unwrap();
    for path in [&table, &file] {
        let set = datasets::read(path).unwrap();
        assert_eq!(set.samples.len(), 2);
        assert!(set.notes[0].starts_with("2 lines name a picture"));
    }
    assert_eq!(datasets::train(&file).unwrap()["nut"].len(), 2);
}

#[test]
fn evaluate_reports_every_class_the_mean_and_the_pool() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    mvtec(&root);
    let (bundle, _) = common::golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let json = folder.path().join("report.json");
    let evaluate = |set: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
        command
            .arg("evaluate")
            .arg("--bundle")
            .arg(&bundle)
            .arg(set)
            .arg("--json")
            .arg(&json);
        command.output().unwrap()
    };
    let call = || evaluate(&root);
    let out = call();
    assert_eq!(
        out.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("leave out the 2 defective pictures without a mask"),
        "{said}"
    );
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let set = &report[0];
    assert_eq!(set["pictures"].as_array().unwrap().len(), 12);
    let auroc = |f: &Value| f["image_auroc"].as_f64().unwrap();
    let mean = (auroc(&set["classes"]["bolt"]) + auroc(&set["classes"]["nut"])) / 2.0;
    assert!((auroc(&set["mean"]) - mean).abs() < 1e-12);
    for figures in [
        &set["classes"]["bolt"],
        &set["classes"]["nut"],
        &set["mean"],
        &set["pooled"],
    ] {
        for key in [
            "image_auroc",
            "image_ap",
            "f1_max",
            "pixel_auroc",
            "pixel_pro",
        ] {
            let value = figures[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{key} in {figures}"));
            assert!((0.0..=1.0).contains(&value), "{key} = {value}");
        }
        // The square is bright and has edges: a floor that a trivial score must find.
        assert_eq!(figures["trivial_auroc"][1].as_f64(), Some(1.0));
    }
    // The figures are those of the scores that are listed.
    let pictures = set["pictures"].as_array().unwrap();
    let (mut wins, mut pairs) = (0.0, 0.0);
    for bad in pictures.iter().filter(|p| p["anomalous"] == true) {
        for good in pictures.iter().filter(|p| p["anomalous"] == false) {
            let (b, g) = (
                bad["score"].as_f64().unwrap(),
                good["score"].as_f64().unwrap(),
            );
            wins += if b > g {
                1.0
            } else if b == g {
                0.5
            } else {
                0.0
            };
            pairs += 1.0;
        }
    }
    assert!((auroc(&set["pooled"]) - wins / pairs).abs() < 1e-9);
    let good = root.join("good.csv");
    std::fs::write(&good, "image,label\nnut/test/good/001.png,0\n").unwrap();
    let said = evaluate(&good).stderr;
    assert!(String::from_utf8_lossy(&said).contains("AUROC and F1max need both kinds"));
    // A broken picture is named, not counted, and changes the exit code.
    std::fs::write(root.join("nut/test/good/000.png"), b"broken").unwrap();
    let out = call();
    assert_eq!(out.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&out.stderr).contains("nut/test/good/000.png"));
}

#[test]
fn a_method_s_own_few_shot_form_is_what_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    mvtec(&root);
    let good = root.join("nut/train/good");
    std::fs::create_dir_all(&good).unwrap();
    std::fs::copy(root.join("nut/test/good/001.png"), good.join("0.png")).unwrap();
    let again = root.join("nut/again.json");
    let below = |path: &Path| {
        let path = path.strip_prefix(root.join("nut")).unwrap();
        path.display().to_string()
    };
    let entry = |s: &Sample| {
        let mask = s.mask.as_ref().map_or(String::new(), |m| below(m.name()));
        serde_json::json!({"img_path": below(&s.image), "mask_path": mask, "cls_name": s.class, "specie_name": s.kind,
            "anomaly": u8::from(s.anomalous)})
    };
    let samples = datasets::load(&root.join("nut")).unwrap();
    let test: Vec<Value> = samples.iter().map(entry).collect();
    let taught =
        serde_json::json!([{"img_path": "train/good/0.png", "cls_name": "nut", "anomaly": 0}]);
    let meta = serde_json::json!({"train": {"nut": taught}, "test": {"nut": test}});
    std::fs::write(&again, meta.to_string()).unwrap();
    let clip = Clip::load(&common::golden_clip(folder.path())).unwrap();
    let options = common::options(Selection::Paper, Precision::F32);
    let exported = |method: Method, name: &str| {
        let asked = MethodOptions {
            method,
            class: (method != Method::Memory).then(|| "bottle".into()),
            templates: (method == Method::Winclip).then_some(21),
            ..MethodOptions::default()
        };
        let learned = common::golden("methods/april-gan/expected.safetensors");
        let learned =
            (method == Method::AprilGan).then(|| Learned::load(&learned, method, &clip).unwrap());
        let bundle = folder.path().join(name);
        methods::export(&clip, &asked, learned.as_ref(), &options, &bundle).unwrap();
        bundle
    };
    let json = folder.path().join("report.json");
    let run = |bundle: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
        command.arg("evaluate").arg("--bundle").arg(bundle);
        // Twice, under another name: what was taught of one set must not judge the next.
        command.arg(root.join("nut")).arg(&again);
        command
            .arg("--json")
            .arg(&json)
            .args(more)
            .output()
            .unwrap()
    };
    let measured = |bundle: &Path, more: &[&str]| -> Value {
        let out = run(bundle, more);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(0), "{said}");
        serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap()
    };
    let winclip = exported(Method::Winclip, "winclip.bundle");
    let april_gan = exported(Method::AprilGan, "april-gan.bundle");
    for (file, name) in [(&winclip, "winclip"), (&april_gan, "april-gan")] {
        let plain = measured(file, &[]);
        let taught = measured(file, &["--shots", "all", "--draws", "1"]);
        // As a device is taught, and judges.
        let bundle = Bundle::open(file, &Keys::default()).unwrap();
        let mut inspector = Inspector::new(&bundle, Default::default()).unwrap();
        let reference = good.join("0.png");
        inspector.remember(&load(&reference).unwrap()).unwrap();
        let pictures = plain[0]["pictures"].as_array().unwrap();
        let (mut judged, mut scores) = (vec![], vec![]);
        for picture in pictures {
            let image = picture["image"].as_str().unwrap();
            let frame = load(Path::new(image)).unwrap();
            let score = inspector.inspect(&frame).unwrap().score;
            judged.push((score, picture["anomalous"] == true));
            // As the file has it: the shortest decimal number.
            let score: f64 = score.to_string().parse().unwrap();
            scores.push(serde_json::json!({"image": image, "score": score}));
        }
        let want = Ranking::new(judged).average_precision();
        for set in [&taught[0], &taught[1]] {
            let row = &set["few_shot"][0];
            assert_eq!(row["memory"], name);
            assert_eq!(row["references"], 1);
            assert_eq!(row["image_ap"].as_f64(), want);
            assert!(row["found"].is_null() && row["pixel_auroc"].is_f64());
            assert_eq!(set["pictures"], plain[0]["pictures"]);
            // Both are there of each picture: what it came to untaught and taught.
            let draw = &row["draws"][0];
            assert_eq!(draw["pictures"], Value::from(scores.clone()));
            assert_eq!(draw["taught"], serde_json::json!([reference]));
        }
    }
    for more in [
        &["--tiles", "2x2"][..],
        &["--memory", "position"],
        &["--fusion", "mean"],
        &["--rotations", "4"],
        &["--brightness", "5"],
    ] {
        let out = run(&winclip, &[&["--shots", "1"], more].concat());
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(32), "{said}");
        assert!(said.contains(more[0]), "{said}");
        let mut teach = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"));
        teach.arg("teach").arg(&good).arg("--bundle").arg(&winclip);
        let file = folder.path().join("good.taught");
        let out = teach.arg("--out").arg(&file).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains(more[0]), "{said}");
        assert!(!file.exists());
    }
    let out = run(&winclip, &["--adaptation", "off"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(32), "{said}");
    assert!(
        said.contains("--adaptation means nothing to a bundle of"),
        "{said}"
    );
    // Without words there are no figures before anything was taught.
    let memory = exported(Method::Memory, "memory.bundle");
    let untaught = measured(&memory, &["--shots", "all", "--draws", "1"]);
    for figures in [&untaught[0]["mean"], &untaught[0]["classes"]["nut"]] {
        for key in [
            "image_auroc",
            "image_ap",
            "pg2",
            "f1_max",
            "f1_threshold",
            "pixel_auroc",
        ] {
            assert!(figures[key].is_null(), "{key}: {figures}");
        }
        assert_eq!(figures["images"], 6);
    }
    assert!(untaught[0]["pictures"][0]["score"].is_null());
    assert!(untaught[0]["few_shot"][0]["image_auroc"].is_f64());
    // The bundle in the program has a name too, and no result replaces what it is made from.
    let inside = measured(Path::new("built-in"), &[]);
    assert_eq!(inside[0]["pictures"].as_array().unwrap().len(), 6);
    let before = std::fs::read(&winclip).unwrap();
    let own = ["--html", winclip.to_str().unwrap()];
    let out = run(&winclip, &own);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(32), "{said}");
    assert!(
        said.contains("--html") && said.contains("would be replaced"),
        "{said}"
    );
    assert_eq!(std::fs::read(&winclip).unwrap(), before);
}

#[test]
fn four_shares_put_together_are_one_run_and_a_dead_one_is_run_again_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    mvtec(&root);
    // A broken picture and a broken mask are named in the same places, too.
    std::fs::write(root.join("nut/test/good/001.png"), b"broken").unwrap();
    std::fs::write(root.join("bolt/ground_truth/dent/000_mask.png"), b"broken").unwrap();
    let (bundle, _) = common::golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let shards = folder.path().join("shards");
    let train = |arguments: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
        command.args(arguments).output().unwrap()
    };
    let path = |text: &'static str| Path::new(text);
    let judge = [path("evaluate"), path("--bundle"), &bundle, &root];
    let (whole, merged) = (folder.path().join("1.json"), folder.path().join("4.json"));
    let once = train(&[&judge[..], &[path("--json"), &whole]].concat());
    assert_eq!(once.status.code(), Some(3));
    let share = |number: &'static str| {
        let own = [path("--shards"), &shards, path("--shard"), path(number)];
        train(&[&judge[..], &own].concat())
    };
    for (more, option) in [(["--shots", "1"], "--shots"), (["--json", "x"], "--json")] {
        let own = [path("--shards"), &shards, path("--shard"), path("1/4")];
        let out = train(&[&judge[..], &own, &more.map(Path::new)].concat());
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(32), "{said}");
        assert!(said.contains(option) && said.contains("--shard"), "{said}");
        assert!(!shards.exists());
    }
    std::thread::scope(|scope| {
        for number in ["1/4", "2/4", "4/4"] {
            scope.spawn(|| share(number));
        }
    });
    let merge = || train(&[path("merge"), &shards, path("--json"), &merged]);
    let early = merge();
    let said = String::from_utf8_lossy(&early.stderr);
    assert!(said.contains("run again with --shard 3/4"), "{said}");
    assert!(!merged.exists(), "half a result is none");
    share("3/4");
    let late = merge();
    assert_eq!(late.status.code(), Some(3));
    assert_eq!(late.stdout, once.stdout);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&merged), read(&whole));
}

/// The first set is judged, the second cannot be: nobody finds half a result, or an empty one, or loses the last one.
#[test]
fn a_run_that_fails_late_leaves_results_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    mvtec(&first);
    mvtec(&second);
    // As long as no text encoder's context is.
    let long = ["a"; 100].join(" ");
    std::fs::rename(second.join("bolt"), second.join(long)).unwrap();
    let clip = common::golden_clip(folder.path());
    let results = ["figures.json", "report.html"].map(|name| folder.path().join(name));
    let run = || {
        let run = Command::new(env!("CARGO_BIN_EXE_faprompt-train"))
            .args([
                "evaluate",
                "--method",
                "clip",
                "--image-size",
                "84",
                "--clip",
            ])
            .args([&clip, &first, &second])
            .arg("--json")
            .arg(&results[0])
            .arg("--html")
            .arg(&results[1])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(32), "{said}");
        assert!(said.contains("the text encoder's context is 77"), "{said}");
        let printed = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(
            printed.contains("nut"),
            "the first set was judged: {printed}"
        );
    };
    run();
    assert!(results.iter().all(|path| !path.exists()));
    results
        .iter()
        .for_each(|path| std::fs::write(path, "before").unwrap());
    run();
    for path in &results {
        assert_eq!(std::fs::read_to_string(path).unwrap(), "before");
    }
}

/// What is ignored is taken for done: options that change nothing are refused before anything is read.
#[test]
fn options_that_mean_nothing_are_refused() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
        command.arg("evaluate").args(arguments).arg("set");
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code(), said)
    };
    let winclip = ["--clip", "clip.pt", "--method", "winclip"];
    let prompts = ["--clip", "clip.pt", "--prompts", "prompts.safetensors"];
    let bundle = ["--bundle", "built-in"];
    let cases: &[(&[&str], &[&str], i32)] = &[
        (&winclip, &["--shots", "2"], 2),
        (&winclip, &["--draws", "2"], 2),
        (&winclip, &["--memory", "position"], 2),
        (&winclip, &["--without-pixels"], 2),
        (&winclip, &["--tiles", "2x2"], 2),
        (&winclip, &["--rotations", "4"], 32),
        (&winclip, &["--adaptation-steps", "5"], 32),
        (&winclip, &["--adaptation", "off"], 32),
        (&winclip, &["--vv-layers", "4"], 32),
        (&winclip, &["--device", "cpu"], 32),
        (&winclip, &["--cache-gb", "1"], 32),
        (&prompts, &["--adaptation", "off"], 32),
        (&prompts, &["--image-size", "84"], 32),
        (&prompts, &["--vv-layers", "4"], 32),
        (&prompts, &["--class", "nut"], 32),
        (&prompts, &["--stages", "4"], 32),
        (&prompts, &["--adaptation-steps", "5"], 32),
        (&prompts, &["--threads", "2"], 32),
        (&bundle, &["--method", "winclip"], 2),
        (&bundle, &["--image-size", "84"], 2),
        (&bundle, &["--vv-layers", "4"], 2),
        (&bundle, &["--activation", "gelu"], 2),
        (&bundle, &["--class", "nut"], 2),
        (&bundle, &["--stages", "4"], 2),
        (&bundle, &["--temperature", "0.1"], 2),
        (&bundle, &["--templates", "7"], 2),
        (&bundle, &["--adaptation-steps", "5"], 2),
        (&bundle, &["--brightness", "5"], 32),
    ];
    for (usual, more, code) in cases {
        let (found, said) = run(&[*usual, *more].concat());
        assert_eq!(found, Some(*code), "{usual:?} {more:?}: {said}");
        assert!(said.contains(more[0]), "{usual:?} {more:?}: {said}");
    }
}

#[test]
fn sets_named_twice_files_that_are_no_bundles_and_shots_without_good_pictures_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    mvtec(&root);
    let run = |bundle: &Path, more: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
        command
            .args(["evaluate", "--bundle"])
            .arg(bundle)
            .args(more);
        let out = command.output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stderr), text(&out.stdout))
    };
    let (bundle, _) = common::golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let (code, said, _) = run(&bundle, &[&root, &root.join("nut/..")]);
    assert_eq!(code, Some(32), "{said}");
    assert!(said.contains("is named twice"), "{said}");
    let none = root.join("nut/test/good/000.png");
    let (code, said, _) = run(&none, &[&root]);
    assert_eq!(code, Some(11), "{said}");
    assert!(
        said.contains("good/000.png: not a faprompt bundle"),
        "{said}"
    );
    let bad = root.join("bad.csv");
    let row = "image,mask,label\nnut/test/dent/000.png,nut/ground_truth/dent/000_mask.png,1\n";
    std::fs::write(&bad, row).unwrap();
    let shots = ["--shots", "2"].map(Path::new);
    let (code, said, printed) = run(&bundle, &[&bad, shots[0], shots[1]]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing was taught"), "{said}");
    assert!(!printed.contains("0 shots"), "{printed}");
}

#[test]
fn masks_of_what_is_labelled_good_are_left_out_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    mvtec(&root);
    assert!(datasets::read(&root.join("nut")).unwrap().notes.is_empty());
    let row = "nut/test/good/000.png,nut/ground_truth/dent/000_mask.png,good\n";
    let table = root.join("set.csv");
    std::fs::write(&table, format!("image,mask,label\n{row}")).unwrap();
    let entry = |name: &str| {
        serde_json::json!({"img_path": format!("nut/test/good/{name}.png"), "cls_name": "nut", "anomaly": 0,
            "mask_path": "nut/ground_truth/dent/000_mask.png"})
    };
    let meta = serde_json::json!({"test": {"nut": [entry("000"), entry("001")]}});
    let file = root.join("set.json");
    std::fs::write(&file, meta.to_string()).unwrap();
    let masks = root.join("nut/ground_truth/good");
    std::fs::create_dir_all(&masks).unwrap();
    let mask = root.join("nut/ground_truth/dent/000_mask.png");
    std::fs::copy(&mask, masks.join("002_mask.png")).unwrap();
    for (path, words) in [
        (
            table,
            "dent/000_mask.png is the mask of what is labelled good",
        ),
        (file, "dent/000_mask.png and 1 others are masks of"),
        (root.join("nut"), "good/002_mask.png is the mask of"),
    ] {
        let set = datasets::read(&path).unwrap();
        assert!(set.notes[0].contains(words), "{:?}", set.notes);
        let good = set.samples.iter().filter(|s| !s.anomalous);
        assert!(good.count() > 0 && set.samples.iter().all(|s| s.anomalous || s.mask.is_none()));
    }
}
