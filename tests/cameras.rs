//! A station with several cameras on one trigger, as a user starts it: each part's one outcome, what is said of each
//! view, and what is refused. The cameras are folders of photos.

use image::{Rgb, RgbImage};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EDGE: &str = env!("CARGO_BIN_EXE_faprompt-edge");

/// Photos of one camera: `sharp` and `flat` ones differ most in what a network makes of them.
fn photos(folder: &Path, name: &str, count: u32, seed: u32) -> PathBuf {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for i in 0..count {
        let of = seed * 31 + i * 7;
        let picture = RgbImage::from_fn(96, 96, |x, y| {
            let spot = (x.abs_diff(48) < of % 40) && (y.abs_diff(40) < of % 23);
            let base = (x * (1 + of % 3) + y * 2) as u8 / 2 + 40;
            Rgb(if spot { [base, 30, 200] } else { [base; 3] })
        });
        let path = folder.join(format!("{i:02}-{name}.png"));
        picture.save(path).unwrap();
    }
    folder
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(EDGE);
    command.args(["run", "--quiet"]).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The host's score of every photo, by name.
fn scores(folders: &[&Path]) -> HashMap<String, f64> {
    let mut command = Command::new(EDGE);
    command.args(["inspect", "--json"]).args(folders);
    let out = command.output().unwrap();
    let found = lines(&text(&out.stdout));
    let score = |line: &Value| {
        let path = Path::new(line["file"].as_str().unwrap());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, line["score"].as_f64().unwrap())
    };
    found.iter().map(score).collect()
}

/// A threshold that half of these exceed, in steps of 0.0001.
fn median(mut scores: Vec<f64>) -> f64 {
    scores.sort_by(f64::total_cmp);
    (scores[scores.len() / 2 - 1] * 1e4).ceil() / 1e4
}

#[test]
fn a_part_is_good_only_if_both_views_are() {
    const PARTS: u32 = 8;
    let folder = tempfile::tempdir().unwrap();
    let top = photos(folder.path(), "top", PARTS, 1);
    let side = photos(folder.path(), "side", PARTS, 2);
    let scores = scores(&[&top, &side]);
    let of = |name: &str, i: u32| scores[&format!("{i:02}-{name}.png")];
    let all = |name: &str| (0..PARTS).map(|i| of(name, i)).collect::<Vec<_>>();
    let thresholds = [median(all("top")), median(all("side"))];
    for parallel in ["1", "2"] {
        let out = folder.path().join(format!("out{parallel}"));
        let output = run(&[
            "--source",
            str(&top),
            "--source",
            str(&side),
            "--out",
            str(&out),
            "--delay-ms",
            "10000",
            // Apart by more than a pulse: a good part close to a reject is taken along.
            "--rate",
            "4",
            "--parallel",
            parallel,
            "--set",
            &format!("threshold={:.4}", thresholds[0]),
            "--set",
            &format!("camera2_threshold={:.4}", thresholds[1]),
            "--set",
            "pulse_width_ms=20",
        ]);
        let said = text(&output.stderr);
        let parts = std::fs::read_to_string(out.join("verdicts.jsonl")).expect(&said);
        let parts = lines(&parts);
        assert_eq!(parts.len(), PARTS as usize, "{said}");
        let mut rejects = 0;
        for (i, part) in (0..).zip(&parts) {
            let views = part["views"].as_array().unwrap();
            assert_eq!(views.len(), 2, "{part}");
            let mut good = true;
            for (camera, (view, name)) in views.iter().zip(["top", "side"]).enumerate() {
                assert_eq!(view["camera"].as_u64(), Some(camera as u64 + 1));
                assert_eq!(view["name"], format!("{i:02}-{name}.png"), "{part}");
                let score = view["score"].as_f64().unwrap();
                assert!((score - of(name, i)).abs() < 1e-5, "{part}");
                let own = of(name, i) <= thresholds[camera];
                assert_eq!(view["outcome"], if own { "good" } else { "reject" });
                good &= own;
            }
            assert_eq!(part["outcome"], if good { "good" } else { "reject" });
            rejects += usize::from(!good);
            if !good {
                let decided = part["camera"].as_u64().unwrap() as usize;
                assert_eq!(views[decided - 1]["outcome"], "reject", "{part}");
                assert_eq!(part["score"], views[decided - 1]["score"]);
            }
        }
        assert!(
            (1..PARTS as usize).contains(&rejects),
            "both kinds are among them"
        );
        // Each view that its own score rejects has an overlay that names its camera.
        let days = std::fs::read_dir(out.join("archive")).unwrap();
        let files = days.flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap());
        let names = files.map(|e| e.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|name| name.ends_with(".overlay.jpg"));
        let bad = |name: &str, threshold| all(name).iter().filter(|s| **s > threshold).count();
        let mut counts = [0; 2];
        for name in names {
            counts[usize::from(name.contains("-camera2-"))] += 1;
        }
        assert_eq!(
            counts,
            [bad("top", thresholds[0]), bad("side", thresholds[1])]
        );
        let summary = std::fs::read(out.join("summary.json")).unwrap();
        let summary: Value = serde_json::from_slice(&summary).unwrap();
        assert_eq!(summary["parts"], PARTS);
        assert_eq!(summary["cameras"][1]["rejects"], counts[1]);
        assert_eq!(summary["cameras"][0]["good"], PARTS as usize - counts[0]);
    }
}

#[test]
fn a_view_that_is_damaged_or_does_not_come_rejects_its_part_under_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let top = photos(folder.path(), "top", 5, 1);
    let side = photos(folder.path(), "side", 5, 2);
    let out = folder.path().join("out");
    let output = run(&[
        "--source",
        str(&top),
        "--source",
        str(&side),
        "--faults",
        "",
        "--faults",
        // The last one comes when its part has long passed.
        "damaged@2,late@5:2s",
        "--out",
        str(&out),
        "--delay-ms",
        "1500",
        // Apart by more than a pulse: a good part close to a reject is taken along.
        "--rate",
        "4",
        "--set",
        "threshold=1",
        "--set",
        "camera2_threshold=1",
        "--set",
        "pulse_width_ms=20",
    ]);
    let said = text(&output.stderr);
    let parts = lines(&std::fs::read_to_string(out.join("verdicts.jsonl")).expect(&said));
    let outcomes: Vec<_> = parts
        .iter()
        .map(|p| p["outcome"].as_str().unwrap())
        .collect();
    let wanted = [
        "good",
        "reject: camera fault",
        "good",
        "good",
        "reject: no frame",
    ];
    assert_eq!(outcomes, wanted, "{said}");
    for name in ["threshold", "camera2_threshold"] {
        let warning = format!("{name} is 1: no part is ever rejected by it");
        assert!(said.contains(&warning), "{said}");
    }
    assert_eq!(parts[1]["camera"].as_u64(), Some(2), "{}", parts[1]);
    assert_eq!(parts[1]["error"], "the frame is damaged");
    assert_eq!(parts[1]["views"][0]["outcome"], "good");
    let views = parts[4]["views"].as_array().unwrap();
    assert_eq!((views.len(), views[0]["camera"].as_u64()), (1, Some(1)));
    let summary = std::fs::read(out.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    let second = &summary["cameras"][1];
    let count = |key: &str| second[key].as_u64().unwrap();
    assert_eq!(
        [count("damaged"), count("missing"), count("good")],
        [1, 1, 3]
    );
}

#[test]
fn cameras_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let pattern = ["--source", "pattern"];
    let device = ["--source", "/dev/video7"];
    let five = [pattern; 5].concat();
    let two = [pattern; 2].concat();
    let free_run = [two.as_slice(), &["--set", "trigger_source=free_run"]].concat();
    let faults = [
        two.as_slice(),
        &["--faults", "", "--faults", "", "--faults", ""],
    ]
    .concat();
    for (arguments, code, says) in [
        (five, 2, "4 cameras at most"),
        ([device; 2].concat(), 2, "one device is one camera"),
        (free_run, 2, "several cameras need a trigger"),
        (faults, 2, "a plan for each camera at most"),
        (
            [two.as_slice(), &["--set", "camera2_regions=nowhere.toml"]].concat(),
            23,
            "nowhere.toml",
        ),
    ] {
        let output = run(&[arguments.as_slice(), &["--out", str(&out)]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    }
}
