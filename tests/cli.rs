//! The programs as a user calls them: output, files, exit codes.

mod common;

use faprompt_edge::bundle::manifest::{Precision, Selection};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EDGE: &str = env!("CARGO_BIN_EXE_faprompt-edge");
const TRAIN: &str = env!("CARGO_BIN_EXE_faprompt-train");

struct Station {
    folder: tempfile::TempDir,
    bundle: PathBuf,
}

impl Station {
    fn new() -> Station {
        let folder = tempfile::tempdir().unwrap();
        let (bundle, _) = common::golden_bundle(folder.path(), Selection::Paper, Precision::Int8);
        Station { folder, bundle }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    /// Runs `faprompt-edge COMMAND --bundle B ARGUMENTS`.
    fn edge(&self, command: &str, arguments: &[&str]) -> Output {
        Command::new(EDGE)
            .arg(command)
            .arg("--bundle")
            .arg(&self.bundle)
            .args(arguments)
            .output()
            .unwrap()
    }
    fn photos(&self, names: &[&str]) -> PathBuf {
        let folder = self.path("photos");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        for (i, name) in names.iter().enumerate() {
            let shade = 40 * i as u8;
            RgbImage::from_fn(60 + i as u32, 50, |x, y| {
                Rgb([shade ^ (x * y) as u8, (x * 3) as u8, y as u8])
            })
            .save(folder.join(name))
            .unwrap();
        }
        folder
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn inspect_says_everything_and_exits_by_the_verdicts() {
    let s = Station::new();
    let photos = s.photos(&["a.png", "b.jpg", "sub/c.bmp"]);
    let out = s.edge("inspect", &[str(&photos), "--json", "--threshold", "1"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let found = lines(&out);
    assert_eq!(found.len(), 3);
    for line in &found {
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        for key in [
            "file",
            "score",
            "image_probability",
            "max_score",
            "max_score_adapted",
            "prior_norm",
            "verdict",
            "width",
            "height",
            "ms",
        ] {
            assert!(keys.iter().any(|k| *k == key), "{key} is missing in {line}");
        }
        assert_eq!(line["verdict"], "good");
        assert_eq!(line["height"], 50);
        for stage in ["preprocess", "encode", "adapt", "score"] {
            assert!(line["ms"][stage].as_f64().unwrap() >= 0.0);
        }
        assert!((0.0..=1.0).contains(&line["score"].as_f64().unwrap()));
    }
    let out = s.edge("inspect", &[str(&photos), "--json", "--threshold", "0"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(lines(&out).iter().all(|l| l["verdict"] == "reject"));
    // For people: one line each, the verdict first.
    let out = s.edge("inspect", &[str(&photos.join("a.png")), "--threshold", "0"]);
    assert!(text(&out.stdout).starts_with("reject"));
    assert!(text(&out.stderr).contains("1 inspected, 0 good, 1 rejects"));
}

#[test]
fn a_broken_image_is_reported_on_its_line_and_the_rest_go_on() {
    let s = Station::new();
    let photos = s.photos(&["a.png", "c.png"]);
    let whole = std::fs::read(photos.join("a.png")).unwrap();
    std::fs::write(photos.join("b.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(photos.join("d.jpg"), b"not a picture").unwrap();
    std::fs::write(photos.join("e.png"), b"").unwrap();
    std::fs::write(photos.join("notes.txt"), b"ignored").unwrap();
    // A device could be read for ever.
    let all = [str(&photos), "/dev/zero", "--json", "--threshold", "1"];
    let out = s.edge("inspect", &all);
    assert_eq!(out.status.code(), Some(3));
    let found = lines(&out);
    assert_eq!(found.len(), 6);
    for (line, broken) in found.iter().zip([false, true, false, true, true, true]) {
        assert_eq!(line.get("error").is_some(), broken, "{line}");
        if broken {
            assert!(
                line["error"]
                    .as_str()
                    .unwrap()
                    .contains(line["file"].as_str().unwrap())
            );
        }
    }
    assert!(text(&out.stdout).contains("/dev/zero: cannot be read: neither a file nor a folder"));
    assert!(text(&out.stderr).contains("6 inspected, 2 good, 0 rejects, 4 could not be inspected"));
}

#[test]
fn maps_are_the_golden_ones_and_overlays_are_pictures() {
    let s = Station::new();
    let (full, _) = common::golden_bundle(s.folder.path(), Selection::Paper, Precision::F32);
    let (maps, overlays) = (s.path("maps"), s.path("overlays"));
    let image = common::golden("faprompt-tiny/image1.png");
    let out = Command::new(EDGE)
        .args([
            "inspect",
            "--bundle",
            str(&full),
            str(&image),
            str(&image),
            "--maps",
            str(&maps),
            "--overlay",
            str(&overlays),
        ])
        .output()
        .unwrap();
    assert!(
        matches!(out.status.code(), Some(0 | 1)),
        "{}",
        text(&out.stderr)
    );
    let file = std::fs::read(maps.join("image1.png.npy")).unwrap();
    let npy = npyz::NpyFile::new(&file[..]).unwrap();
    assert_eq!(npy.shape(), [84, 84]);
    let map: Vec<f32> = npy.into_vec().unwrap();
    let golden = common::values(&common::expected(), "paper.anomaly_map");
    assert!(common::apart(&map, &golden[84 * 84..2 * 84 * 84]) < 1e-3);
    // The same file twice: results do not overwrite each other.
    for name in ["image1.png.png", "image1-2.png.png"] {
        let picture = image::open(overlays.join(name)).unwrap().to_rgb8();
        assert!(picture.width() >= 420 && picture.height() > 100);
    }
}

/// The lines of verdicts.jsonl.
fn verdicts(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("verdicts.jsonl")).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[test]
fn run_judges_every_part_once_and_only_good_ones_get_a_pulse() {
    let s = Station::new();
    let out_folder = s.path("out");
    let run = |threshold: &str| {
        let out = s.edge(
            "run",
            &[
                "--frames",
                "6",
                "--out",
                str(&out_folder),
                "--threshold",
                threshold,
                // No stall of a busy machine makes a part late.
                "--delay-ms",
                if threshold == "1" { "10000" } else { "1500" },
                "--set",
                "pulse_width_ms=1000",
            ],
        );
        let summary = json(&out_folder.join("summary.json"));
        let archived = walkdir::WalkDir::new(out_folder.join("archive"));
        let overlay = |e: &walkdir::DirEntry| e.path().to_string_lossy().ends_with(".overlay.jpg");
        let archived = archived.into_iter().map(Result::unwrap);
        let overlays = archived.filter(overlay).count();
        (out, summary, verdicts(&out_folder), overlays)
    };
    let (out, summary, parts, overlays) = run("0");
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert_eq!((parts.len(), overlays), (6, 6));
    assert_eq!(
        (summary["parts"].as_u64(), summary["rejects"].as_u64()),
        (Some(6), Some(6))
    );
    assert_eq!(summary["good_pulses"].as_u64(), Some(0));
    assert!(
        summary["latency_p99_ms"].as_f64().unwrap() >= summary["latency_p50_ms"].as_f64().unwrap()
    );
    let (out, summary, parts, overlays) = run("1");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(
        (parts.len(), overlays),
        (6, 0),
        "overlays of the earlier run are gone"
    );
    assert_eq!(summary["good"].as_u64(), Some(6));
    assert!((1..=6).contains(&summary["good_pulses"].as_u64().unwrap()));
    for (i, part) in parts.iter().enumerate() {
        assert_eq!(part["part"].as_u64(), Some(i as u64));
        let of = |key: &str| part[key].as_u64().unwrap();
        assert_eq!(of("due") - of("triggered_us"), 10_000_000);
        assert!(
            of("at_us") >= of("due"),
            "reported when it is there, not before"
        );
    }
}

/// Networks side by side share weights and nothing else: every part has the score that one network gives it.
#[test]
fn frames_judged_side_by_side_have_the_scores_of_frames_judged_in_turn() {
    let s = Station::new();
    let names = [
        "a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png",
    ];
    let photos = s.photos(&names);
    std::fs::write(photos.join("cc.png"), "no picture").unwrap();
    let inspect = |parallel: &str| {
        let out = s.edge("inspect", &[str(&photos), "--json", "--parallel", parallel]);
        assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
        let mut found = lines(&out);
        for line in &mut found {
            line.as_object_mut().unwrap().remove("ms");
        }
        found
    };
    let in_turn = inspect("1");
    assert_eq!(in_turn.len(), 8);
    assert_eq!(in_turn, inspect("3"));

    // One frame per place in memory, and as many places as networks: none is missed however slow the machine.
    let run = |parallel: &str| {
        let folder = s.path(&format!("out{parallel}"));
        let out = s.edge(
            "run",
            &[
                "--frames",
                "30",
                "--delay-ms",
                "4000",
                "--quiet",
                "--parallel",
                parallel,
                "--out",
                str(&folder),
            ],
        );
        assert!(out.status.code() <= Some(1), "{}", text(&out.stderr));
        let mut scores: Vec<(u64, f64)> = verdicts(&folder)
            .iter()
            .filter_map(|v| Some((v["part"].as_u64()?, v["score"].as_f64()?)))
            .collect();
        scores.sort_by_key(|(part, _)| *part);
        scores
    };
    let in_turn = run("1");
    assert_eq!(in_turn.len(), 30);
    assert_eq!(in_turn, run("4"));
}

#[test]
fn run_wired_to_reject_pulses_for_every_reject() {
    let s = Station::new();
    let out_folder = s.path("out");
    let arguments = [
        "--frames",
        "3",
        "--rate",
        "5",
        "--threshold",
        "0",
        "--out",
        str(&out_folder),
        "--set",
        "wiring=energise_to_reject",
        "--set",
        "confirm=on",
        "--set",
        "pulse_width_ms=20",
        "--set",
        // Nobody confirms anything here.
        "alarm_stop=0",
    ];
    let out = s.edge("run", &arguments);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    let summary = json(&out_folder.join("summary.json"));
    // The first pulse is the start: what passes before the station is ready is rejected. On a machine that is
    // slow to start it touches the first part's.
    let pulses = summary["reject_pulses"].as_u64().unwrap();
    assert!((3..=4).contains(&pulses), "{pulses}");
    let unconfirmed = 1 << 3;
    assert_eq!(
        summary["alarms"].as_u64().unwrap() & unconfirmed,
        unconfirmed
    );
    let events = std::fs::read_to_string(out_folder.join("events.jsonl")).unwrap();
    assert!(events.contains("RejectUnconfirmed"), "{events}");
}

/// Counters go on from start to start; the exit code is about the parts of this one.
#[test]
fn run_ends_by_its_own_rejects_not_by_those_of_starts_before() {
    let s = Station::new();
    let (out_folder, state) = (s.path("out"), s.path("state"));
    for (threshold, code, [parts, rejects]) in [("0", 1, [3, 3]), ("1", 0, [6, 3])] {
        let arguments = [
            "--frames",
            "3",
            "--delay-ms",
            "10000",
            "--threshold",
            threshold,
        ];
        let places = ["--state", str(&state), "--out", str(&out_folder)];
        let out = s.edge("run", &[&arguments[..], &places].concat());
        assert_eq!(out.status.code(), Some(code), "{}", text(&out.stderr));
        let summary = json(&out_folder.join("summary.json"));
        assert_eq!(summary["parts"], parts);
        assert_eq!(summary["rejects"], rejects);
        assert_eq!(summary["parts_in_this_run"], 3);
        let said = text(&out.stdout) + &text(&out.stderr);
        let own = said.contains("6 since COUNTERS RESET, 3 of them in this run");
        assert_eq!(own, parts == 6, "{said}");
    }
}

#[test]
fn run_stops_the_line_after_rejects_in_a_row() {
    let s = Station::new();
    let out_folder = s.path("out");
    let arguments = [
        "--frames",
        "12",
        "--rate",
        "20",
        "--threshold",
        "0",
        "--delay-ms",
        "100",
        "--out",
        str(&out_folder),
        "--set",
        "alarm_consecutive=2",
    ];
    let out = s.edge("run", &arguments);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("alarm 1"));
    let summary = json(&out_folder.join("summary.json"));
    assert_eq!(summary["parts"].as_u64(), Some(12));
    assert!(summary["rejects_not_ready"].as_u64().unwrap() >= 1);
}

#[test]
fn run_rejects_a_part_whose_frame_is_broken() {
    let s = Station::new();
    let photos = s.photos(&["a.png", "c.png"]);
    std::fs::write(photos.join("b.png"), b"broken").unwrap();
    let out_folder = s.path("out");
    let out = s.edge(
        "run",
        &[
            "--source",
            str(&photos),
            "--out",
            str(&out_folder),
            "--threshold",
            "1",
            "--delay-ms",
            "4000",
            // Apart by more than a pulse: a good part close to a reject is taken along.
            "--rate",
            "4",
        ],
    );
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    let summary = json(&out_folder.join("summary.json"));
    assert_eq!(
        (
            summary["good"].as_u64(),
            summary["rejects_camera_fault"].as_u64()
        ),
        (Some(2), Some(1))
    );
    let parts = verdicts(&out_folder);
    assert_eq!(parts[1]["outcome"], "reject: camera fault");
    assert!(parts[1]["error"].as_str().unwrap().contains("b.png"));
}

#[test]
fn run_rejects_what_is_late_and_says_so() {
    let s = Station::new();
    let out_folder = s.path("out");
    std::fs::create_dir_all(out_folder.join("archive/2026-01-01")).unwrap();
    let mine = out_folder.join("archive/2026-01-01/mine.jpg");
    std::fs::write(&mine, b"not this program's").unwrap();
    let out = s.edge(
        "run",
        &[
            "--frames",
            "3",
            "--out",
            str(&out_folder),
            "--threshold",
            "1",
            "--delay-ms",
            "0",
        ],
    );
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    let summary = json(&out_folder.join("summary.json"));
    assert_eq!(
        (summary["rejects_late"].as_u64(), summary["good"].as_u64()),
        (Some(3), Some(0))
    );
    assert_eq!(summary["good_pulses"].as_u64(), Some(0));
    for part in verdicts(&out_folder) {
        assert_eq!(part["outcome"], "reject: late");
    }
    assert!(mine.is_file(), "only this program's overlays are replaced");
}

#[test]
fn run_refuses_parameters_that_are_wrong_or_contradict() {
    let s = Station::new();
    for (setting, word) in [
        ("colour=red", "colour"),
        ("pulse_width_ms=0", "pulse_width_ms"),
        ("pulse_width_ms", "NAME=VALUE"),
        ("wiring=energise_to_reject", "confirm"),
        // It would never end.
        ("reject_axis=counts", "inputs.encoder_a"),
        ("trigger_source=edge", "inputs.trigger"),
        // Everybody on the computer could read it, and it is long enough.
        (
            "engineer_password=rim of the cap",
            "a new password is set at the station: SET engineer_password ..., COMMIT",
        ),
    ] {
        let out = s.edge("run", &["--set", setting, "--out", str(&s.path("out"))]);
        assert_eq!(out.status.code(), Some(2), "{setting}");
        assert!(text(&out.stderr).contains(word), "{}", text(&out.stderr));
    }
    let both = ["--threshold", "0.3", "--set", "threshold=0.4"];
    let out = s.edge(
        "run",
        &[&both[..], &["--out", str(&s.path("out"))]].concat(),
    );
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("one of both"));
}

/// A disk that takes no more is an alarm, and keeps no part from being judged.
#[test]
fn run_goes_on_and_tells_that_its_results_are_not_written() {
    let s = Station::new();
    let out_folder = s.path("out");
    std::fs::create_dir(&out_folder).unwrap();
    std::os::unix::fs::symlink("/dev/full", out_folder.join("verdicts.jsonl")).unwrap();
    let out = s.edge(
        "run",
        &[
            "--frames",
            "4",
            "--threshold",
            "1",
            "--out",
            str(&out_folder),
        ],
    );
    assert_eq!(out.status.code(), Some(5), "{}", text(&out.stderr));
    let summary = json(&out_folder.join("summary.json"));
    assert_eq!(summary["good"].as_u64(), Some(4));
    assert_eq!(summary["results_not_written"].as_u64(), Some(4));
    // Said once, not once per part.
    let said = text(&out.stderr)
        .matches("verdicts.jsonl: cannot be written")
        .count();
    assert_eq!(said, 1, "{}", text(&out.stderr));
    assert_eq!(summary["alarms"].as_u64(), Some(1 << 13));
    let events = std::fs::read_to_string(out_folder.join("events.jsonl")).unwrap();
    assert!(events.contains("\"number\":13"), "{events}");
}

/// What happens after the last frame keeps no run from its end, and a camera that fails is an alarm.
#[test]
fn run_ends_after_its_last_frame_and_tells_that_the_camera_was_down() {
    let s = Station::new();
    let out_folder = s.path("out");
    let mut arguments = vec![
        "--frames",
        "4",
        "--faults",
        "eio@2",
        "--out",
        str(&out_folder),
    ];
    arguments.extend(["--threshold", "1", "--set", "trigger_source=interval"]);
    let out = s.edge("run", &arguments);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    let summary = json(&out_folder.join("summary.json"));
    assert!(summary["rejects_camera_fault"].as_u64().unwrap() >= 1);
    let camera = 1 << 7;
    assert_eq!(summary["alarms"].as_u64().unwrap() & camera, camera);
    // A folder that another program writes into.
    let lock = std::fs::File::open(out_folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let before = verdicts(&out_folder);
    let out = s.edge("run", &arguments);
    assert_eq!(out.status.code(), Some(5), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("another program"));
    assert_eq!(verdicts(&out_folder), before);
}

#[test]
fn every_kind_of_mistake_has_its_exit_code_and_names_its_object() {
    let s = Station::new();
    let photos = s.photos(&["a.png"]);
    let photo = photos.join("a.png");
    let cut = s.path("cut.bundle");
    let bytes = std::fs::read(&s.bundle).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    let mut damaged = bytes.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let bad = s.path("bad.bundle");
    std::fs::write(&bad, damaged).unwrap();
    let empty = s.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let blocked = s.path("blocked");
    std::fs::write(&blocked, b"a file where a folder should be").unwrap();
    let bundle = str(&s.bundle);
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["inspect"], 2, "PATHS"),
        (vec!["inspect", str(&photo), "--threshold", "1.5"], 2, "1.5"),
        (vec!["inspect", str(&photo), "--threshold", "nan"], 2, "nan"),
        (vec!["inspect", str(&photo), "--threads", "0"], 2, "0"),
        (vec!["inspect", "--bundle", bundle, str(&empty)], 4, "empty"),
        (
            vec!["inspect", "--bundle", bundle, "/nonexistent"],
            3,
            "1 could not be inspected\n",
        ),
        (
            vec!["slot", "--root", "/nonexistent", "status"],
            2,
            "no such folder",
        ),
        (
            vec![
                "inspect",
                "--bundle",
                bundle,
                str(&photo),
                "--maps",
                str(&blocked),
            ],
            5,
            "blocked",
        ),
        (
            vec!["inspect", "--bundle", "/nonexistent.bundle", str(&photo)],
            10,
            "/nonexistent.bundle",
        ),
        (
            vec!["inspect", "--bundle", str(&photo), str(&photo)],
            11,
            "a.png",
        ),
        (
            vec!["inspect", "--bundle", str(&cut), str(&photo)],
            13,
            "cut.bundle",
        ),
        (vec!["bundle", "verify", str(&bad)], 14, "bad.bundle"),
        (vec!["bundle", "info", str(&cut)], 13, "part `"),
        (
            vec!["bundle", "verify", bundle, "--key", str(&photo)],
            17,
            "a.png",
        ),
        (
            vec!["run", "--bundle", bundle, "--board", "toaster"],
            20,
            "toaster",
        ),
        (
            vec!["run", "--bundle", bundle, "--source", str(&empty)],
            4,
            "empty",
        ),
        (
            vec!["bench", "--bundle", bundle, "--frames", "0"],
            2,
            "--frames",
        ),
        #[cfg(not(target_arch = "aarch64"))]
        (
            vec!["bench", "--bundle", bundle, "--arithmetic", "f16"],
            18,
            "FEAT_FP16",
        ),
    ];
    for (arguments, code, word) in cases {
        let out = Command::new(EDGE).args(&arguments).output().unwrap();
        let stderr = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_bundle_is_found_from_any_folder_and_the_nearer_one_wins() {
    let s = Station::new();
    // What `cargo install` leaves: the program and nothing else.
    let program = s.path("bin/faprompt-edge");
    std::fs::create_dir(s.path("bin")).unwrap();
    std::fs::copy(EDGE, &program).unwrap();
    let call = |bundle: Option<&str>, environment: Option<&Path>| {
        let mut command = Command::new(&program);
        let command = command.args(["bench", "--frames", "1", "--threads", "1", "--json"]);
        bundle.map(|b| command.args(["--bundle", b]));
        command.current_dir("/").env_remove("FAPROMPT_BUNDLE");
        environment.map(|e| command.env("FAPROMPT_BUNDLE", e));
        let out = command.output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        report["bundle"].as_str().unwrap().to_owned()
    };
    if !Path::new("/usr/share/faprompt-edge/default.bundle").exists() {
        assert_eq!(call(None, None), "built-in");
    }
    let beside = s.path("bin/default.bundle");
    std::fs::copy(&s.bundle, &beside).unwrap();
    assert_eq!(call(None, None), str(&beside));
    assert_eq!(call(None, Some(&s.bundle)), str(&s.bundle));
    assert_eq!(call(Some("built-in"), Some(&s.bundle)), "built-in");

    // It is the bundle of the repository, byte for byte.
    let info = |file: &str| {
        let out = Command::new(EDGE)
            .args(["bundle", "info", file])
            .output()
            .unwrap();
        let (_, rest) = text(&out.stdout)
            .split_once('\n')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        rest
    };
    assert_eq!(info("built-in"), info(env!("DEFAULT_BUNDLE")));
    // A machine that asks for signatures takes none without.
    let key = s.path("line.pub");
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    std::fs::write(&key, pair.pk.to_box().unwrap().to_string()).unwrap();
    let out = Command::new(EDGE)
        .args(["bundle", "verify", "built-in", "--key", str(&key)])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(16), "{}", text(&out.stderr));
}

#[test]
fn bundle_info_verify_and_bench_answer() {
    let s = Station::new();
    let call = |arguments: &[&str]| Command::new(EDGE).args(arguments).output().unwrap();
    let info = call(&["bundle", "info", str(&s.bundle)]);
    assert_eq!(info.status.code(), Some(0));
    for word in [
        "sha256",
        "encoder",
        "tower",
        "Int8",
        "84 x 84 px",
        "golden data",
        "(from the checkpoint)",
    ] {
        assert!(
            text(&info.stdout).contains(word),
            "{word}: {}",
            text(&info.stdout)
        );
    }
    let json: Value =
        serde_json::from_slice(&call(&["bundle", "info", str(&s.bundle), "--json"]).stdout)
            .unwrap();
    assert_eq!(json["prompts"]["abnormal_prompts"], 10);
    let verify = call(&["bundle", "verify", str(&s.bundle)]);
    assert!(text(&verify.stdout).contains("signature not checked"));
    let bench = s.edge("bench", &["--frames", "2", "--threads", "1,2", "--json"]);
    let report: Value = serde_json::from_slice(&bench.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(
        (rows[0]["threads"].as_u64(), rows[1]["threads"].as_u64()),
        (Some(1), Some(2))
    );
    assert!(
        rows[0]["ms"]["encode"].as_f64().unwrap() > 0.0
            && rows[0]["peak_mb"]["encode"].as_f64().unwrap() > 1.0
    );
}

#[test]
fn an_untrained_bundle_says_so_in_every_output() {
    let s = Station::new();
    let (random, bundle) = (s.path("random"), s.path("untrained.bundle"));
    let train = |arguments: &[&str]| {
        let out = Command::new(TRAIN).args(arguments).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    };
    train(&["random", "--model", "tiny", "--out", str(&random)]);
    let (clip, prompts) = (
        random.join("clip.safetensors"),
        random.join("prompts.safetensors"),
    );
    train(&[
        "export",
        "--clip",
        str(&clip),
        "--prompts",
        str(&prompts),
        "--out",
        str(&bundle),
        "--untrained",
        "--precision",
        "int8",
    ]);
    // Weights that somebody has trained are not replaced by random ones.
    std::fs::copy(common::golden_clip(s.folder.path()), &clip).unwrap();
    let again = ["random", "--model", "tiny", "--out", str(&random)];
    let again = Command::new(TRAIN).args(again).output().unwrap();
    assert_eq!(again.status.code(), Some(32));
    assert!(text(&again.stderr).contains("clip.safetensors"));
    let photos = s.photos(&["a.png"]);
    let call = |arguments: &[&str]| Command::new(EDGE).args(arguments).output().unwrap();
    let json = call(&["inspect", "--bundle", str(&bundle), str(&photos), "--json"]);
    assert!(
        lines(&json)[0]["warning"]
            .as_str()
            .unwrap()
            .contains("UNTRAINED")
    );
    let plain = call(&["inspect", "--bundle", str(&bundle), str(&photos)]);
    assert!(text(&plain.stdout).contains("untrained") && text(&plain.stderr).contains("UNTRAINED"));
    let out = s.path("out");
    let run = call(&[
        "run",
        "--bundle",
        str(&bundle),
        "--frames",
        "2",
        "--out",
        str(&out),
    ]);
    assert!(text(&run.stdout).contains("UNTRAINED"));
    assert!(
        std::fs::read_to_string(out.join("summary.json"))
            .unwrap()
            .contains("UNTRAINED")
    );
    assert!(text(&call(&["bundle", "info", str(&bundle)]).stdout).contains("UNTRAINED"));
}

#[test]
fn the_host_program_names_what_is_wrong() {
    let s = Station::new();
    let clip = common::golden_clip(s.folder.path());
    let prompts = common::golden("faprompt-tiny/prompt_learner.safetensors");
    let out = s.path("x.bundle");
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (
            vec![
                "export",
                "--clip",
                "/nonexistent.pt",
                "--prompts",
                str(&prompts),
                "--out",
                str(&out),
            ],
            30,
            "/nonexistent.pt",
        ),
        (
            vec![
                "export",
                "--clip",
                str(&clip),
                "--prompts",
                str(&clip),
                "--out",
                str(&out),
            ],
            31,
            "no prompt learner",
        ),
        (
            vec![
                "export",
                "--clip",
                str(&clip),
                "--prompts",
                str(&prompts),
                "--out",
                str(&out),
                "--image-size",
                "85",
            ],
            32,
            "image.size",
        ),
        (
            vec![
                "export",
                "--clip",
                str(&clip),
                "--prompts",
                str(&prompts),
                "--out",
                "/nonexistent/x.bundle",
            ],
            5,
            "/nonexistent/x.bundle",
        ),
        (vec!["export", "--clip", str(&clip)], 2, "--out"),
        (
            vec!["export", "--clip", str(&clip), "--out", str(&out)],
            32,
            "--prompts",
        ),
        (
            vec!["evaluate", "--clip", str(&clip), "--threads", "0", "."],
            2,
            "1 to 1024",
        ),
        (
            vec!["evaluate", "--bundle", "b", "--device", "cpu", "."],
            2,
            "cannot be used with '--device",
        ),
    ];
    for (arguments, code, word) in cases {
        let result = Command::new(TRAIN).args(&arguments).output().unwrap();
        let stderr = text(&result.stderr);
        assert_eq!(result.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(
            stderr.contains(word) && !stderr.contains("panicked"),
            "{arguments:?}: {stderr}"
        );
        assert!(!out.exists());
    }
    let alone = ["evaluate", "--clip", str(&clip), "."];
    let said = text(&Command::new(TRAIN).args(alone).output().unwrap().stderr);
    assert!(
        said.contains("--prompts") && !said.contains("--bundle <"),
        "{said}"
    );
    // The published code feeds the first patches to the prior: so does a bundle of its checkpoint.
    let mut export = vec!["export", "--clip", str(&clip), "--prompts", str(&prompts)];
    export.extend(["--out", str(&out), "--image-size", "84", "--vv-layers", "4"]);
    let exported = Command::new(TRAIN).args(export).output().unwrap();
    assert_eq!(exported.status.code(), Some(0));
    let info = Command::new(EDGE)
        .args(["bundle", "info", "--json", str(&out)])
        .output()
        .unwrap();
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["prior"]["selection"], "upstream");
}

#[test]
fn a_run_says_what_it_does_not_show_and_how_addresses_are_written() {
    let station = Station::new();
    let (one, two) = (station.path("one"), station.path("two"));
    for (folder, names) in [(&one, &["a.png"][..]), (&two, &["a.png", "b.png", "c.png"])] {
        std::fs::create_dir(folder).unwrap();
        for name in names {
            let photo = RgbImage::from_fn(60, 50, |x, y| Rgb([(x * y) as u8, x as u8, 9]));
            photo.save(folder.join(name)).unwrap();
        }
    }
    let out = station.path("out");
    let said = |more: &[&str]| {
        let arguments = [
            &["--out", str(&out), "--source", str(&one), "--quiet"],
            more,
        ]
        .concat();
        text(&station.edge("run", &arguments).stderr)
    };
    let short = said(&["--source", str(&two)]);
    let left = format!("{}: 2 of 3 photos are not shown", two.display());
    assert!(short.contains(&left), "{short}");
    for (option, address, word) in [
        (
            "--web",
            "127.0.0.1",
            "a port is missing, as in 127.0.0.1:8080",
        ),
        ("--modbus-tcp", "::1", "as in [::1]:8080"),
        ("--web", "here:80", "as in 127.0.0.1:8080"),
        ("--frames", "0", "0 is not in 1.."),
    ] {
        let refusal = said(&[option, address]);
        assert!(refusal.contains(word), "{refusal}");
    }
}

#[test]
fn a_boards_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let new = || {
        Command::new(EDGE)
            .args(["board", "new", "mine", "--base", "sim"])
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    assert_eq!(new().status.code(), Some(0));
    let again = new();
    assert_eq!(again.status.code(), Some(5));
    assert!(text(&again.stderr).contains("mine.toml: cannot be written: it is there already"));
}

#[test]
fn a_camera_that_hangs_ends_the_station() {
    let station = Station::new();
    let out = station.path("out");
    let faults = ["--rate", "20", "--faults", "late@5:60s"];
    let arguments = [&["--out", out.to_str().unwrap()], &faults[..]].concat();
    let run = station.edge("run", &arguments);
    assert_eq!(run.status.code(), Some(70));
    assert!(text(&run.stderr).contains("the camera thread failed"));
}
