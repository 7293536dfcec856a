//! An encoder of one's own, taught by the tiny networks of tests/golden/networks.

mod common;

use common::golden;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::capture::known_frame;
use faprompt_edge::inspector::{Inspector, Options};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const PHOTOS: u32 = 7;

/// A folder with photos in it: stripes and discs, no two alike.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos/some");
    std::fs::create_dir_all(&photos).unwrap();
    for k in 0..PHOTOS {
        let picture = image::RgbImage::from_fn(48, 40, |x, y| {
            let disc = (x as i32 - 24).pow(2) + (y as i32 - 20).pow(2) < (40 + 30 * k as i32);
            let stripe = (x * (k + 1) + y * (7 - k)) / 8 % 2 == 0;
            let of = |on: bool, high: u32| if on { high as u8 } else { 20 };
            image::Rgb([
                of(disc, 200),
                of(stripe, 90 + 20 * k),
                of(disc != stripe, 240),
            ])
        });
        picture.save(photos.join(format!("{k}.png"))).unwrap();
    }
    folder
}

/// What is not asked for otherwise.
const SMALL: [(&str, &str); 10] = [
    ("--width", "64"),
    ("--layers", "2"),
    ("--patch", "8"),
    ("--image-size", "32"),
    ("--joint", "16"),
    ("--batch", "5"),
    ("--photo-side", "40"),
    ("--views", "2"),
    ("--mean", "0.5,0.5,0.5"),
    ("--std", "0.25,0.25,0.25"),
];

/// `distil` with a small student.
fn command(folder: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
    command
        .current_dir(folder)
        .args(["distil", "--cache", "cache", "--out", out]);
    for (option, value) in SMALL.iter().filter(|(option, _)| !more.contains(option)) {
        command.args([option, value]);
    }
    command.args(more);
    command
}

fn run(folder: &Path, out: &str, more: &[&str]) -> (Option<i32>, String) {
    let done = command(folder, out, more).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    (
        done.status.code(),
        text + &String::from_utf8_lossy(&done.stderr),
    )
}

fn teacher() -> String {
    golden("networks/maps.onnx").display().to_string()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file())
        .map(|e| e.into_path())
        .collect();
    found.sort();
    found
}

#[test]
fn the_loss_falls_and_the_bundle_judges() {
    let folder = folder();
    let more = [
        "--teacher",
        &teacher(),
        "--photos",
        "photos",
        "--rendered",
        "2",
        "--steps",
        "60",
        "--large",
        "0",
    ];
    let (code, text) = run(folder.path(), "my.bundle", &more);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("/body/out (8 x 8 places of 8), last (4 x 4 places of 12)"),
        "{text}"
    );
    assert!(text.contains("9 photos, 2 of them rendered"), "{text}");
    let log = std::fs::read_to_string(folder.path().join("my.bundle.run/log.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let begun = first["terms"]["loss"].as_f64().unwrap();
    let last = text.lines().find(|l| l.starts_with("step    60")).unwrap();
    let ended = last
        .split("loss ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    // The mean over all steps; random heads begin above what standardised targets have themselves.
    let ended: f64 = ended.parse().unwrap();
    assert!(ended < 0.85 * begun, "{begun} {ended}");

    let bundle = Bundle::open(&folder.path().join("my.bundle"), &Keys::default()).unwrap();
    let manifest = bundle.manifest();
    assert_eq!(
        (manifest.method_name(), manifest.trained),
        (Method::Memory, true)
    );
    assert_eq!(manifest.memory_taps()[0].to_string(), "x1 raw all");
    assert!(
        manifest
            .description
            .contains("distilled from maps.onnx, 300 views in 60 steps")
    );
    assert_eq!(manifest.sources["teacher maps.onnx"].len(), 64);
    let options = Options {
        memory: true,
        ..Options::default()
    };
    let mut inspector = Inspector::new(&bundle, options).unwrap();
    // Nothing is known to be good.
    assert_eq!(inspector.inspect(&known_frame()).unwrap().score, 1.0);
    let layout = inspector.layout().unwrap();
    assert_eq!((layout.grid, layout.dim), (4, 64));
    assert!(
        inspector
            .descriptors()
            .unwrap()
            .iter()
            .all(|v| v.is_finite())
    );
}

#[test]
fn a_run_goes_on_to_the_very_same_numbers() {
    let folder = folder();
    // With a step of large views among the last; two heads.
    let more = [
        "--width",
        "128",
        "--teacher",
        &teacher(),
        "--photos",
        "photos",
        "--steps",
        "14",
        "--large",
        "48",
    ];
    let with = |extra: &[&'static str]| [&more[..], extra].concat();
    let bytes = |out: &str| std::fs::read(folder.path().join(out)).unwrap();
    let (code, text) = run(folder.path(), "straight.safetensors", &more);
    assert_eq!(code, Some(0), "{text}");
    let want = bytes("straight.safetensors");
    let cached = files(&folder.path().join("cache"));
    assert!(
        cached.len() > 14 && cached.len() <= 2 * 2 * PHOTOS as usize,
        "{}",
        cached.len()
    );

    let (code, text) = run(
        folder.path(),
        "pieces.safetensors",
        &with(&["--stop-after", "5"]),
    );
    assert_eq!(code, Some(35), "{text}");
    assert!(
        text.contains("stopped after step 5") && text.contains("--resume"),
        "{text}"
    );
    assert_ne!(bytes("pieces.safetensors"), want);
    // Not by accident, and not with other options.
    let (code, text) = run(folder.path(), "pieces.safetensors", &more);
    assert_eq!(code, Some(32), "{text}");
    assert!(text.contains("holds a run of 5 steps"), "{text}");
    let (code, text) = run(
        folder.path(),
        "pieces.safetensors",
        &with(&["--resume", "--lr", "0.5"]),
    );
    assert_eq!(code, Some(32), "{text}");
    assert!(text.contains("lr: there 0.001, here 0.5"), "{text}");
    let (code, text) = run(folder.path(), "pieces.safetensors", &with(&["--resume"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        bytes("pieces.safetensors") == want,
        "two pieces give other numbers than one"
    );

    // Killed at any moment.
    let killed = folder
        .path()
        .join("killed.safetensors.run/student.safetensors");
    let mut child = command(
        folder.path(),
        "killed.safetensors",
        &with(&["--save-every", "0"]),
    )
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    while !killed.is_file() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, text) = run(folder.path(), "killed.safetensors", &with(&["--resume"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        bytes("killed.safetensors") == want,
        "a killed run gives other numbers"
    );
    // All of them found the first one's answers.
    assert_eq!(files(&folder.path().join("cache")), cached);
}

#[test]
fn answers_of_other_teachers_and_photos_are_not_taken() {
    let folder = folder();
    let teacher = teacher();
    let one_tap = format!("{teacher}@last");
    let base = ["--photos", "photos", "--steps", "2", "--large", "0"];
    let with = |extra: &[&str]| -> (Option<i32>, String) {
        run(folder.path(), "a.safetensors", &[&base[..], extra].concat())
    };
    let (code, text) = with(&["--teacher", &teacher]);
    assert_eq!(code, Some(0), "{text}");
    let first = files(&folder.path().join("cache"));
    let (code, text) = with(&["--teacher", &one_tap, "--resume"]);
    assert_eq!(code, Some(32), "{text}");
    assert!(
        text.contains("--teacher: there other files, taps or normalisation"),
        "{text}"
    );
    std::fs::remove_dir_all(folder.path().join("a.safetensors.run")).unwrap();
    let (code, text) = with(&["--teacher", &one_tap]);
    assert_eq!(code, Some(0), "{text}");
    let second = files(&folder.path().join("cache"));
    assert_eq!(
        second.len(),
        2 * first.len(),
        "the other teacher's have files of their own"
    );

    std::fs::remove_file(folder.path().join("photos/some/3.png")).unwrap();
    let (code, text) = with(&["--teacher", &one_tap, "--resume"]);
    assert_eq!(code, Some(32), "{text}");
    assert!(text.contains("--photos: there other photos"), "{text}");
}

#[test]
fn what_is_wrong_is_named() {
    let folder = folder();
    let path = folder.path();
    std::fs::create_dir(path.join("empty")).unwrap();
    std::fs::create_dir(path.join("broken")).unwrap();
    std::fs::write(path.join("broken/a.png"), b"no picture").unwrap();
    std::fs::write(path.join("photos/half.jpg"), b"\xff\xd8\xff\xe0\x00").unwrap();
    let teacher = teacher();
    let lost = format!("{teacher}@lost");
    let odd = golden("networks/odd.onnx").display().to_string();
    let rows = golden("networks/rows.onnx").display().to_string();
    for (arguments, code, what) in [
        (
            &["--teacher", &teacher, "--photos", "empty"][..],
            33,
            "empty: --photos: no picture in it",
        ),
        (
            &["--teacher", &teacher, "--photos", "nowhere"],
            33,
            "nowhere",
        ),
        (
            &["--teacher", &teacher, "--photos", "broken"],
            33,
            "none of its pictures can be read",
        ),
        (
            &["--teacher", &lost, "--photos", "photos"],
            30,
            "/body/out: 8 channels, 8 x 8",
        ),
        (
            &["--teacher", &odd, "--photos", "photos"],
            30,
            "not supported: Mystery (riddle)",
        ),
        (
            &["--teacher", "nowhere.onnx", "--photos", "photos"],
            30,
            "nowhere.onnx",
        ),
        (
            &[
                "--teacher",
                &teacher,
                "--photos",
                "nowhere",
                "--memory-blocks",
                "99",
            ],
            32,
            "--memory-blocks 99: the encoder has blocks 1 to",
        ),
        (
            &[
                "--teacher",
                &teacher,
                "--photos",
                "nowhere",
                "--memory-blocks",
                "2,2",
            ],
            32,
            "--memory-blocks names `2` twice",
        ),
        (
            &["--teacher", "nowhere.onnx@a,b,a", "--photos", "photos"],
            32,
            "--teacher nowhere.onnx names `a` twice",
        ),
        (
            &[
                "--teacher",
                &teacher,
                "--photos",
                "photos",
                "--width",
                "100",
            ],
            32,
            "--width 100: a multiple of 64",
        ),
        (
            &["--teacher", &teacher, "--photos", "photos", "--large", "50"],
            32,
            "--large 50",
        ),
        (
            &[
                "--teacher",
                &teacher,
                "--photos",
                "photos",
                "--device",
                "cuda",
            ],
            32,
            "--device cuda",
        ),
        (
            &[
                "--teacher",
                &teacher,
                "--photos",
                "photos",
                "--mean",
                "0,0,0",
                "--mean",
                "0,0,0",
            ],
            32,
            "--mean is given 2 times for 1 teachers",
        ),
    ] {
        let (found, text) = run(path, "x.bundle", arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(what), "{arguments:?}: {text}");
        assert!(!path.join("x.bundle").exists());
    }
    // One that is broken is counted and left out; a teacher of one size gets resized pictures.
    let more = [
        "--teacher",
        &rows,
        "--photos",
        "photos",
        "--steps",
        "1",
        "--image-size",
        "48",
    ];
    let (code, text) = run(path, "y.bundle", &more);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("left out: 1 of 8 photos") && text.contains("half.jpg"),
        "{text}"
    );
    assert!(
        text.contains("rows.onnx, 32 px: tokens (6 x 6 places of 12)"),
        "{text}"
    );
    // What cannot be written is said before anything is read or learned, and no run begins.
    std::fs::create_dir(path.join("folder")).unwrap();
    let more = ["--teacher", "nowhere.onnx", "--photos", "photos"];
    let (code, text) = run(path, "folder", &more);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("folder: cannot be written"), "{text}");
    assert!(!path.join("folder.run").exists());
    // A disk without room.
    std::fs::create_dir(path.join("z.bundle.run")).unwrap();
    std::os::unix::fs::symlink("/dev/full", path.join("z.bundle.run/log.jsonl")).unwrap();
    let (code, text) = run(
        path,
        "z.bundle",
        &[
            "--teacher",
            &teacher,
            "--photos",
            "photos",
            "--steps",
            "1",
            "--large",
            "0",
        ],
    );
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("log.jsonl: cannot be written"), "{text}");
}
