//! Good parts teach: the programs as a user calls them.

mod common;

use faprompt_edge::bundle::manifest::{Precision, Selection};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A part: stripes, a little noise of its own, and a bright spot if it is bad.
fn part(seed: u32, spot: bool) -> RgbImage {
    RgbImage::from_fn(84, 84, |x, y| {
        if spot && (50..70).contains(&x) && (20..40).contains(&y) {
            return Rgb([250, 240, 60]);
        }
        let noise = (x * 31 + y * 17 + seed * 101).wrapping_mul(2_654_435_761) >> 29;
        let stripe = if (x / 7) % 2 == 0 { 90 } else { 140 };
        Rgb([stripe + noise as u8, 100 + noise as u8, 80 + (y / 2) as u8])
    })
}

struct Bench {
    folder: tempfile::TempDir,
    bundle: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let (bundle, _) = common::golden_bundle(folder.path(), Selection::Paper, Precision::Int8);
        for (kind, count, spot) in [("good", 10, false), ("new", 4, false), ("bad", 3, true)] {
            let into = folder.path().join(kind);
            std::fs::create_dir_all(&into).unwrap();
            for i in 0..count {
                let seed = i + 50 * kind.len() as u32;
                part(seed, spot)
                    .save(into.join(format!("{i:02}.png")))
                    .unwrap();
            }
        }
        Bench { folder, bundle }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn edge(&self, command: &str, arguments: &[&Path]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_faprompt-edge"))
            .arg(command)
            .arg("--bundle")
            .arg(&self.bundle)
            .args(["--threads", "1"])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn teach(&self, more: &[&Path]) -> Output {
        let (good, taught) = (self.path("good"), self.path("p.taught"));
        let position = ["--memory", "position"].map(Path::new);
        let mut arguments = vec![&*good, Path::new("--out"), &taught];
        arguments.extend(position);
        arguments.extend(more);
        self.edge("teach", &arguments)
    }

    fn judged(&self, of: &str) -> (Option<i32>, Vec<Value>) {
        let (photos, taught) = (self.path(of), self.path("p.taught"));
        let arguments = [
            &*photos,
            Path::new("--taught"),
            &taught,
            Path::new("--json"),
        ];
        let out = self.edge("inspect", &arguments);
        let lines = text(&out.stdout);
        let lines = lines.lines().map(|l| serde_json::from_str(l).unwrap());
        (out.status.code(), lines.collect())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `make run` does: the bundle that ships is taught the generator's good parts, and the line rejects the others.
#[test]
fn a_simulated_station_that_was_taught_rejects_what_is_defective() {
    let folder = tempfile::tempdir().unwrap();
    let edge = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_faprompt-edge"))
            .current_dir(folder.path())
            .args(arguments)
            .output()
            .unwrap()
    };
    let out = edge(&["teach", "--generated", "40", "--out", "disc.taught"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = edge(&["run", "--set", "taught=disc.taught", "--out", "out"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}{}", text(&out.stderr));
    let line = said.lines().find(|l| l.starts_with("defective parts made"));
    assert_eq!(
        line,
        Some("defective parts made  4, of which rejected 4"),
        "{said}"
    );
    // Of 20 good ones; the bound is 1 of 100 on average.
    let good = said.lines().find_map(|l| l.strip_prefix("good "));
    let good: u32 = good.unwrap().trim().parse().unwrap();
    assert!(good >= 18, "{said}");

    let out = edge(&["teach", "--generated", "4", "--out", "few.taught"]);
    assert!(!out.status.success() && text(&out.stderr).contains("4 good parts"));
}

#[test]
fn taught_parts_tell_bad_ones_and_say_why() {
    let bench = Bench::new();
    let out = bench.teach(&[]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let said = text(&out.stdout);
    for words in [
        "10 good parts, memory position",
        "oddest parts",
        "with 10 parts at most 25.9 of 100 good parts will be rejected, 9.1 on average",
        "at most 1 of 100 takes 299 parts",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (code, bad) = bench.judged("bad");
    assert_eq!((code, bad.len()), (Some(1), 3));
    let number = |v: &Value, key: &str| v[key].as_f64().unwrap();
    for line in &bad {
        assert!(number(line, "score") > 0.5 && line["verdict"] == "reject");
        assert!(number(line, "zero_shot") <= 1.0 && number(line, "memory") > 0.0);
    }
    let (_, new) = bench.judged("new");
    let lowest = bad.iter().map(|l| number(l, "score")).fold(1.0, f64::min);
    for line in &new {
        assert!(number(line, "score") < lowest, "{line} and {bad:?}");
    }

    // The lamp fades: said beside the score. In the light of teaching nothing is said.
    assert!(
        new.iter().all(|line| line.get("notes").is_none()),
        "{new:?}"
    );
    let faded = bench.path("faded");
    std::fs::create_dir(&faded).unwrap();
    let mut photo = part(7, false);
    photo.iter_mut().for_each(|value| *value = *value / 3 * 2);
    photo.save(faded.join("faded.png")).unwrap();
    let (_, faded) = bench.judged("faded");
    let note = faded[0]["notes"][0].as_str().unwrap_or_default();
    assert!(
        note.contains("the light is not the taught one: brightness"),
        "{faded:?}"
    );

    // The spot lies in a region that nobody looks at.
    let regions = bench.path("regions.toml");
    let left_out = "[[region]]\nname = \"spot\"\nexclude = true\nrectangle = [0.3, 0, 1, 0.72]\n";
    std::fs::write(&regions, left_out).unwrap();
    let out = bench.teach(&[Path::new("--regions"), &regions]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let memory = |lines: &[Value]| {
        lines
            .iter()
            .map(|l| number(l, "memory"))
            .fold(0.0, f64::max)
    };
    let (_, unseen) = bench.judged("bad");
    // What lies there still reaches the patches beside it a little, through the encoder's attention.
    assert!(memory(&unseen) < memory(&bad), "{unseen:?} and {bad:?}");
    let (photos, taught, maps) = (
        bench.path("bad"),
        bench.path("p.taught"),
        bench.path("maps"),
    );
    let arguments = [
        &*photos,
        Path::new("--taught"),
        &taught,
        Path::new("--maps"),
        &maps,
    ];
    bench.edge("inspect", &arguments);
    let map = std::fs::read(maps.join("00.png.npy")).unwrap();
    let values: Vec<f32> = map[map.len() - 84 * 84 * 4..]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|v| f32::from_le_bytes(*v))
        .collect();
    assert_eq!(
        values[30 * 84 + 60],
        0.0,
        "the map in the middle of what is left out"
    );
    assert!(values.iter().any(|v| *v > 0.0));
}

#[test]
fn good_parts_in_tiles() {
    let bench = Bench::new();
    let out = bench.teach(&[Path::new("--tiles"), Path::new("1x2+20")]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("memory position in tiles of 1x2+20"));
    // The file says what it was taught in.
    let (code, bad) = bench.judged("bad");
    assert_eq!((code, bad.len()), (Some(1), 3));
    let (_, new) = bench.judged("new");
    let score = |v: &Value| v["score"].as_f64().unwrap();
    let lowest = bad.iter().map(score).fold(1.0, f64::min);
    assert!(new.iter().all(|l| score(l) < lowest), "{new:?} and {bad:?}");

    let (photos, taught) = (bench.path("new"), bench.path("p.taught"));
    let refused = |tiles: &str| {
        let arguments = [
            &*photos,
            Path::new("--taught"),
            &taught,
            Path::new("--tiles"),
            Path::new(tiles),
        ];
        bench.edge("inspect", &arguments)
    };
    let out = refused("1x1");
    assert_eq!(out.status.code(), Some(26));
    let why = text(&out.stderr);
    assert!(
        why.contains("taught in tiles of 1x2+20, and frames are cut into 1x1"),
        "{why}"
    );
    let out = refused("9x1");
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("1 to 8 rows and columns"));
}

#[test]
fn what_cannot_be_taught_or_used_is_reported() {
    let bench = Bench::new();
    let (taught, few) = (bench.path("p.taught"), bench.path("bad"));
    let out = bench.edge("teach", &[&few, Path::new("--out"), &taught]);
    assert_eq!(out.status.code(), Some(4));
    assert!(text(&out.stderr).contains("3 good parts; teaching takes 5"));
    assert!(!taught.exists());

    // A part that is not good is shown first, and can be left out.
    part(7, true).save(bench.path("good/odd,1.png")).unwrap();
    std::fs::write(bench.path("good/broken.png"), b"no picture").unwrap();
    let out = bench.teach(&[]);
    assert_eq!(out.status.code(), Some(3), "one photo could not be read");
    let said = text(&out.stdout);
    let first = said
        .lines()
        .find(|l| l.contains(".png"))
        .unwrap()
        .to_string();
    assert!(
        first.contains("odd,1.png") && first.contains("ODD"),
        "{said}"
    );
    let out = bench.teach(&[Path::new("--drop"), Path::new("odd,1.png")]);
    assert!(!text(&out.stdout).contains("odd,1.png"));
    let several = ["--drop", "broken.png,1.png", "--drop", "odd,1.png"].map(Path::new);
    let refusal = text(&bench.teach(&several).stderr);
    assert!(
        refusal.contains("3 photos, and 2 of them are there"),
        "{refusal}"
    );

    let (code, _) = bench.judged("new");
    assert!(code.is_some_and(|c| c <= 1));
    let mut bytes = std::fs::read(&taught).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&taught, &bytes).unwrap();
    assert_eq!(bench.judged("new").0, Some(25), "damaged");
    std::fs::remove_file(&taught).unwrap();
    assert_eq!(bench.judged("new").0, Some(25), "missing");

    bench.teach(&[Path::new("--drop"), Path::new("odd,1.png")]);
    let other = common::golden_bundle(bench.folder.path(), Selection::Paper, Precision::F32).0;
    let other = Bench {
        bundle: other,
        ..bench
    };
    let (photos, arguments) = (other.path("new"), other.path("p.taught"));
    let out = other.edge("inspect", &[&photos, Path::new("--taught"), &arguments]);
    assert_eq!(out.status.code(), Some(26), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("teach again"));
}

/// A copy is judged by the part that it is a copy of: counted, it would promise what no other good part keeps.
#[test]
fn a_copy_of_a_photo_is_no_further_part() {
    let bench = Bench::new();
    let alone = text(&bench.teach(&[]).stdout);
    let copies = bench.path("good/copies");
    std::fs::create_dir(&copies).unwrap();
    for i in 0..10 {
        let name = format!("{i:02}.png");
        std::fs::copy(bench.path("good").join(&name), copies.join(&name)).unwrap();
    }
    // The same pixels in another file.
    let again = copies.join("again.bmp");
    image::open(bench.path("good/03.png"))
        .unwrap()
        .save(&again)
        .unwrap();
    let out = bench.teach(&[]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    assert_eq!(text(&out.stdout), alone, "the same parts, the same promise");
    let said = text(&out.stderr);
    let copied = said
        .lines()
        .filter(|line| line.contains("the same picture as"));
    assert_eq!(copied.count(), 11, "{said}");
    let line = format!(
        "{}: the same picture as {}, left out",
        copies.join("00.png").display(),
        bench.path("good/00.png").display()
    );
    assert!(said.contains(&line), "{said}");
    assert!(said.contains("again.bmp: the same picture as"), "{said}");
}

#[test]
fn evaluate_teaches_some_good_pictures_and_judges_the_others() {
    let bench = Bench::new();
    let set = bench.path("set/part");
    for (from, to) in [
        ("good", "test/good"),
        ("new", "train/good"),
        ("bad", "test/spot"),
    ] {
        std::fs::create_dir_all(set.join(to)).unwrap();
        for photo in std::fs::read_dir(bench.path(from)).unwrap() {
            let photo = photo.unwrap();
            std::fs::copy(photo.path(), set.join(to).join(photo.file_name())).unwrap();
        }
    }
    let run = |seed: &str, tiles: &str| -> Value {
        let figures = bench.path("figures.json");
        let out = Command::new(env!("CARGO_BIN_EXE_faprompt-train"))
            .arg("evaluate")
            .args(["--tiles", tiles])
            .arg("--bundle")
            .arg(&bench.bundle)
            .arg(bench.path("set"))
            .args(["--shots", "2,all", "--draws", "2", "--seed", seed])
            .args(["--memory", "position", "--fusion", "memory", "--json"])
            .arg(&figures)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        assert!(text(&out.stdout).contains("2 shots, position (2 taught)"));
        serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap()
    };
    let report = run("1", "1x1");
    let few = report[0]["few_shot"].as_array().unwrap();
    assert_eq!(few.len(), 2);
    assert_eq!((&few[0]["shots"], &few[1]["shots"]), (&2.into(), &4.into()));
    for row in few {
        assert_eq!(row["memory"], "position");
        assert_eq!(row["draws"].as_array().unwrap().len(), 2);
        for key in ["image_auroc", "image_ap", "pg2", "pb2", "found"] {
            assert_eq!(row[key], 1.0, "{key}: {row}");
            assert_eq!(row["draws"][1][key], 1.0);
        }
        assert!(row["false_rejects"].as_f64().unwrap() <= 1.0);
        assert!(row["pixel_auroc"].is_null(), "the set has no masks");
    }
    assert!(report[0]["mean"]["pg2"].is_number() && report[0]["mean"]["pb2"].is_number());
    assert_eq!(report, run("1", "1x1"), "the same seed, the same figures");
    for draw in few[0]["draws"].as_array().unwrap() {
        let names = |key: &str| draw[key].as_array().unwrap().clone();
        let (taught, pictures) = (names("taught"), names("pictures"));
        assert_eq!(taught.len(), 2);
        for picture in &pictures {
            assert!(!taught.contains(&picture["image"]), "{picture}");
            assert!((0.0..=1.0).contains(&picture["score"].as_f64().unwrap()));
        }
        let all = report[0]["pictures"].as_array().unwrap();
        let tested = |p: &&Value| !taught.contains(&p["image"]);
        assert_eq!(pictures.len(), all.iter().filter(tested).count());
    }
    let cut = run("1", "2x1");
    assert_eq!(
        (&cut[0]["tiles"], &report[0]["tiles"]),
        (&"2x1".into(), &"1x1".into())
    );
    assert_eq!(cut[0]["few_shot"][1]["image_auroc"], 1.0);
    assert_ne!(cut[0]["pictures"], report[0]["pictures"]);
}

#[test]
fn the_station_judges_in_tiles_and_regions_as_inspect_does() {
    let bench = Bench::new();
    let (photos, regions, out) = (
        bench.path("bad"),
        bench.path("regions.toml"),
        bench.path("out"),
    );
    let offset = "[[region]]\nname = \"part\"\nrectangle = [0, 0.2, 1, 1]\noffset = 0.02\n";
    std::fs::write(&regions, offset).unwrap();
    let run = |regions: &Path| {
        let setting = |text: String| ["--set".to_string(), text];
        let arguments = [
            setting("tile_columns=2".into()),
            setting("tile_overlap=20".into()),
            setting(format!("regions={}", regions.display())),
        ];
        Command::new(env!("CARGO_BIN_EXE_faprompt-edge"))
            .args(["run", "--quiet", "--threads", "1", "--bundle"])
            .arg(&bench.bundle)
            .arg("--source")
            .arg(&photos)
            .arg("--out")
            .arg(&out)
            .args(arguments.as_flattened())
            .output()
            .unwrap()
    };
    let ran = run(&regions);
    assert!(ran.status.code().is_some_and(|c| c <= 1), "{ran:?}");
    let lines = |text: &str| -> Vec<Value> {
        let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
        lines.collect()
    };
    let verdicts = lines(&std::fs::read_to_string(out.join("verdicts.jsonl")).unwrap());
    let tiles = ["--json", "--tiles", "1x2+20", "--regions"].map(Path::new);
    let mut arguments = vec![&*photos];
    arguments.extend(tiles);
    arguments.push(&regions);
    let inspected = lines(&text(&bench.edge("inspect", &arguments).stdout));
    assert_eq!((verdicts.len(), inspected.len()), (3, 3));
    for (verdict, inspected) in verdicts.iter().zip(&inspected) {
        let score = |v: &Value, key: &str| v[key].as_f64().unwrap();
        let own = score(inspected, "score");
        assert!(
            (score(verdict, "score") - own).abs() < 1e-5,
            "{verdict} and {inspected}"
        );
        assert!(
            (score(inspected, "zero_shot") - own - 0.02).abs() < 1e-5,
            "{inspected}"
        );
    }
    let ran = run(&bench.path("nowhere.toml"));
    assert_eq!(ran.status.code(), Some(23), "{ran:?}");
    assert!(text(&ran.stderr).contains("nowhere.toml"));
}
