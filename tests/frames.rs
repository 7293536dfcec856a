//! Photos and frames that are no evidence of a good part, as a user meets them: the program as a process, with the
//! bundle that is built in.

use faprompt_edge::capture::{Camera, PatternCamera};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

fn edge(command: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_faprompt-edge"))
        .arg(command)
        .args(["--bundle", "built-in"])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Generated parts as photos of these names, each another one.
fn parts(folder: &Path, names: &[&str]) {
    let mut camera = PatternCamera::new(9);
    let mut image = RgbImage::default();
    for name in names {
        camera.capture(&mut image, Duration::ZERO).unwrap();
        image
            .save_with_format(folder.join(name), image::ImageFormat::Png)
            .unwrap();
    }
}

fn plain(folder: &Path, name: &str, (width, height): (u32, u32), level: u8) -> PathBuf {
    let file = folder.join(name);
    RgbImage::from_pixel(width, height, Rgb([level; 3]))
        .save(&file)
        .unwrap();
    file
}

fn lines(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn inspect_refuses_photos_on_which_nothing_can_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    plain(root, "black.png", (320, 240), 0);
    plain(root, "even.png", (320, 240), 120);
    plain(root, "one.png", (1, 1), 90);
    plain(root, "white.png", (320, 240), 255);
    parts(root, &["part.png"]);
    let judged = edge(
        "inspect",
        &["--json", "--threshold", "1", root.to_str().unwrap()],
    );
    assert_eq!(judged.status.code(), Some(3), "{}", text(&judged.stderr));
    let said: Vec<_> = lines(&judged)
        .iter()
        .map(|line| {
            (
                line["verdict"].as_str().map(String::from),
                line["error"].as_str().map(String::from),
            )
        })
        .collect();
    for (i, why) in [
        (0, "it is dark"),
        (1, "one brightness"),
        (2, "one brightness"),
        (4, "overexposed"),
    ] {
        assert!(said[i].1.as_ref().unwrap().contains(why), "{said:?}");
    }
    assert_eq!(said[3].0.as_deref(), Some("good"));
    let all = edge(
        "inspect",
        &[
            "--json",
            "--threshold",
            "1",
            "--allow-blank",
            root.to_str().unwrap(),
        ],
    );
    assert_eq!(all.status.code(), Some(0), "{}", text(&all.stderr));
    assert_eq!(lines(&all).len(), 5);
}

#[test]
fn what_is_said_of_a_bundle_steers_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a\u{1b}[2J\nsigned by everybody.bundle");
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default.bundle");
    std::os::unix::fs::symlink(default, &file).unwrap();
    for command in ["info", "verify"] {
        let out = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"))
            .args(["bundle", command])
            .arg(&file)
            .output()
            .unwrap();
        let said = text(&out.stdout);
        assert!(out.status.success(), "{}", text(&out.stderr));
        assert!(said.contains(r"a\u{1b}[2J\nsigned"), "{command}: {said}");
        assert!(!said.contains('\u{1b}'), "{command}: {said}");
    }
}

#[test]
fn names_of_any_length_and_kind_get_their_results() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("photos"), folder.path().join("out"));
    fs::create_dir(&root).unwrap();
    let long = "é".repeat(125) + "x.png";
    let names = [
        long.as_str(),
        "a\u{1b}[31mred\u{7}\nsecond line.png",
        ".hidden.png",
    ];
    parts(&root, &names);
    fs::write(root.join("notes.txt"), "none").unwrap();
    let results = ["--overlay", out.to_str().unwrap(), root.to_str().unwrap()];
    let judged = edge("inspect", &results);
    let (said, warned) = (text(&judged.stdout), text(&judged.stderr));
    assert!(
        matches!(judged.status.code(), Some(0 | 1)),
        "{said} {warned}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(
        said.contains(r"a\u{1b}[31mred\u{7}\nsecond line.png"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}') && !warned.contains('\u{1b}'));
    assert!(
        warned.contains("left out: 1 hidden, 1 without a picture's ending"),
        "{warned}"
    );
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    // A name that the console would obey, of a photo that fails.
    let bad = root.join("b\u{1b}[2J.png");
    fs::write(&bad, "no picture").unwrap();
    let failed = edge("inspect", &[bad.to_str().unwrap()]);
    assert_eq!(failed.status.code(), Some(3));
    assert!(
        text(&failed.stdout).contains(r"b\u{1b}[2J.png"),
        "{}",
        text(&failed.stdout)
    );
    assert!(!text(&failed.stdout).contains('\u{1b}'));
}

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn a_station_rejects_dark_and_repeated_frames_each_for_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("photos"), folder.path().join("out"));
    fs::create_dir(&root).unwrap();
    plain(&root, "a.png", (320, 240), 3);
    parts(&root, &["b.png", "d.png"]);
    fs::copy(root.join("b.png"), root.join("c.png")).unwrap();
    let run = |more: &[&str]| {
        let mut arguments = vec![
            "--source",
            root.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ];
        // Apart by more than a pulse: a good part close to a reject is taken along.
        arguments.extend(["--threshold", "1", "--delay-ms", "9000", "--rate", "4"]);
        arguments.extend(more);
        let done = edge("run", &arguments);
        (summary(&out), done)
    };
    let (reported, done) = run(&[]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    let count = |key: &str| reported[key].as_u64().unwrap();
    assert_eq!((count("parts"), count("good")), (4, 2), "{reported}");
    assert_eq!(
        (count("rejects_nothing_visible"), count("rejects_frozen")),
        (1, 1)
    );
    assert_eq!(count("rejects_camera_fault"), 0);
    assert_eq!(count("alarms"), 1 << 16 | 1 << 17);
    let said = text(&done.stdout) + &text(&done.stderr);
    assert!(
        said.contains("nothing can be seen: it is dark") && said.contains("frozen"),
        "{said}"
    );
    // What the camera saw is in the archive, each under its cause.
    let mut kept = vec![];
    for day in fs::read_dir(out.join("archive")).unwrap() {
        for file in fs::read_dir(day.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "json") {
                let about: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                let frame = image::open(path.with_extension("jpg")).unwrap();
                assert!(image::open(path.with_extension("overlay.jpg")).is_ok());
                let name = about["name"].as_str().unwrap().to_string();
                let cause = about["cause"].as_str().unwrap().to_string();
                kept.push((cause, name.rsplit('/').next().unwrap().to_string(), frame));
            }
        }
    }
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    let said: Vec<_> = kept.iter().map(|k| (k.0.as_str(), k.1.as_str())).collect();
    assert_eq!(said, [("frozen", "c.png"), ("nothing_visible", "a.png")]);
    let dark = kept[1].2.to_luma8();
    assert_eq!(dark.dimensions(), (320, 240));
    assert!(dark.pixels().all(|p| p.0[0] < 16));
    let off = [
        "--set",
        "frame_identical=0",
        "--set",
        "frame_spread=0",
        "--set",
        "frame_bright=0",
    ];
    let (reported, _) = run(&off);
    assert_eq!(
        (reported["good"].as_u64(), reported["alarms"].as_u64()),
        (Some(4), Some(0)),
        "{reported}"
    );
}

#[test]
fn of_frames_in_a_row_on_which_nothing_can_be_seen_the_first_ten_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("photos"), folder.path().join("out"));
    fs::create_dir(&root).unwrap();
    // No two are equal: a row of twelve, a part, and two more.
    for level in 1..=12 {
        plain(&root, &format!("a{level:02}.png"), (320, 240), level);
    }
    parts(&root, &["b.png"]);
    for level in 13..=14 {
        plain(&root, &format!("c{level}.png"), (320, 240), level);
    }
    let arguments = [
        "--source",
        root.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--threshold",
        "1",
        "--delay-ms",
        "9000",
        "--rate",
        "8",
    ];
    let done = edge("run", &arguments);
    let reported = summary(&out);
    assert_eq!(
        reported["rejects_nothing_visible"],
        14,
        "{}",
        text(&done.stderr)
    );
    assert_eq!(reported["pictures_not_kept"], 0);
    let mut kept = vec![];
    for day in fs::read_dir(out.join("archive")).unwrap() {
        let files = fs::read_dir(day.unwrap().path()).unwrap();
        let names = files.map(|f| f.unwrap().file_name().into_string().unwrap());
        kept.extend(names.filter_map(|n| Some(n.strip_suffix(".json")?[6..].to_string())));
    }
    kept.sort();
    let mut right: Vec<String> = (1..=10).map(|n| format!("a{n:02}")).collect();
    right.extend(["c13".into(), "c14".into()]);
    assert_eq!(kept, right);
}

#[test]
fn a_network_that_is_slower_than_the_line_is_no_fault_of_the_camera() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let arguments = [
        "--rate",
        "2000",
        "--threads",
        "1",
        "--frames",
        "200",
        "--quiet",
        "--out",
    ];
    let done = edge("run", &[&arguments[..], &[out.to_str().unwrap()]].concat());
    let reported = summary(&out);
    assert!(
        reported["rejects_overload"].as_u64().unwrap() > 50,
        "{reported}"
    );
    assert_eq!(reported["rejects_camera_fault"].as_u64(), Some(0));
    assert!(text(&done.stderr).contains("the network is slower than the line"));
}
