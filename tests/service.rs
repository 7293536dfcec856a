//! What the service, the host and an integrator call: self-test and readiness, flashing, backup, support.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use faprompt_edge::bundle::envelope::{METADATA_KEY, manifest_digest};
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::control::table::Parameter;
use faprompt_edge::control::{Memory, Store, Value};
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::{Inspector, Options};
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::runtime::loadout::self_test;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

const EDGE: &str = env!("CARGO_BIN_EXE_faprompt-edge");
const TRAIN: &str = env!("CARGO_BIN_EXE_faprompt-train");

fn call(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(program);
    arguments.iter().for_each(|a| {
        command.arg(a);
    });
    command.output().unwrap()
}

/// The exit code and what was said about it.
fn end(output: &Output) -> (i32, String) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

fn bundle(folder: &Path) -> PathBuf {
    common::golden_bundle(folder, Selection::Paper, Precision::Int8).0
}

/// The same bundle, intact, with another known score.
fn with_known_score(bundle: &Path, score: Option<f64>, to: &Path) {
    let bytes = fs::read(bundle).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let text = header["__metadata__"][METADATA_KEY].as_str().unwrap();
    let mut envelope: serde_json::Value = serde_json::from_str(text).unwrap();
    let manifest = envelope["manifest"].as_object_mut().unwrap();
    match score {
        Some(score) => manifest.insert("known_score".into(), score.into()),
        None => manifest.remove("known_score"),
    };
    let digest = manifest_digest(&envelope["manifest"].to_string());
    envelope["digests"]["manifest"] = digest.into();
    header["__metadata__"][METADATA_KEY] = envelope.to_string().into();
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    fs::write(to, [&length[..], &header, data].concat()).unwrap();
}

#[test]
fn the_known_frame_has_its_score_however_it_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = Bundle::open(&bundle(folder.path()), &Keys::default()).unwrap();
    let expected = bundle.manifest().known_score.unwrap();
    for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
        let options = Options {
            adaptation: AdaptationMode::Exact,
            threads: 2,
            arithmetic,
            ..Options::default()
        };
        let mut inspector = Inspector::new(&bundle, options).unwrap();
        let found = self_test(&mut inspector).unwrap();
        assert!(
            (found - expected).abs() < 0.01,
            "{arithmetic:?}: {found} {expected}"
        );
    }
}

#[test]
fn a_station_that_computes_wrongly_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let known = Bundle::open(&bundle, &Keys::default())
        .unwrap()
        .manifest()
        .known_score
        .unwrap();
    let other = folder.path().join("other.bundle");
    let run = |more: &[&str]| {
        let mut command = Command::new(EDGE);
        command
            .args(["run", "--frames", "2", "--quiet", "--bundle"])
            .arg(&other);
        command
            .args(more)
            .arg("--out")
            .arg(folder.path().join("out"));
        end(&command.output().unwrap())
    };
    with_known_score(&bundle, Some(f64::from(known) + 0.05), &other);
    let (code, said) = run(&[]);
    assert_eq!(code, 70, "{said}");
    assert!(
        said.contains("self-test") && said.contains("known frame"),
        "{said}"
    );
    // Scores that are not adapted as they were when it was measured cannot be compared.
    assert!(run(&["--adaptation", "off"]).0 <= 1);
    with_known_score(&bundle, None, &other);
    assert!(run(&[]).0 <= 1);
}

#[test]
fn the_service_is_notified_when_the_station_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut station = Command::new(EDGE)
        .args([
            "run", "--quiet", "--rate", "50", "--frames", "200", "--bundle",
        ])
        .arg(bundle(folder.path()))
        .arg("--out")
        .arg(folder.path().join("out"))
        .env("NOTIFY_SOCKET", &socket)
        .env("FAPROMPT_TRIAL", "1")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (mut notices, mut buffer) = (vec![], [0; 256]);
    while !notices.iter().any(|t: &String| t.contains("STOPPING=1")) {
        let n = systemd.recv(&mut buffer).unwrap();
        notices.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
    }
    let at = |what: &str| notices.iter().position(|t| t.contains(what));
    assert_eq!(
        notices.iter().filter(|t| t.contains("READY=1")).count(),
        1,
        "{notices:?}"
    );
    // Time for the first frames is asked for before, and the watchdog is fed after it.
    assert!(
        at("EXTEND_TIMEOUT_USEC=").unwrap() < at("READY=1").unwrap(),
        "{notices:?}"
    );
    assert!(
        at("STATUS=Running").unwrap() <= at("READY=1").unwrap(),
        "{notices:?}"
    );
    assert!(at("WATCHDOG=1").is_some(), "{notices:?}");
    assert!(station.wait().unwrap().code().unwrap() <= 1);
}

#[test]
fn a_release_on_trial_that_cannot_judge_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bundle = bundle(folder.path());
    let known = Bundle::open(&bundle, &Keys::default()).unwrap();
    let known = f64::from(known.manifest().known_score.unwrap());
    with_known_score(&bundle, Some(known + 0.05), &at("other.bundle"));
    let mut station = Command::new(EDGE);
    station
        .args(["run", "--quiet", "--modbus-tcp", "127.0.0.1:0", "--state"])
        .arg(at("state"))
        .arg("--bundle")
        .arg(at("other.bundle"))
        .arg("--out")
        .arg(at("out"))
        .env("FAPROMPT_TRIAL", "1");
    let (code, said) = end(&station.output().unwrap());
    assert!(code == 24 && said.contains("is not kept"), "{code} {said}");
    // Why is among the last lines, which `flash` repeats.
    let last: Vec<&str> = said.lines().rev().take(8).collect();
    assert!(last.iter().any(|l| l.contains("known frame")), "{said}");
    // That it happened stands in the log of changes, and nothing else is noted.
    let stored = Store::look(&at("state"), &Memory::default()).unwrap();
    let log: Vec<&String> = stored.log.iter().collect();
    assert!(
        log.len() == 1 && log[0].ends_with(",station,network,default,none"),
        "{log:?}"
    );
}

/// A station's memory with a recipe, a password and a line in its log.
fn memory(folder: &Path) -> (PathBuf, String) {
    let state = folder.join("state");
    let (mut store, mut restored) = Store::open(&state, &Memory::default()).unwrap();
    let hash = faprompt_edge::control::password::hash("secret word").unwrap();
    let memory = &mut restored.stored.memory;
    memory
        .set(Parameter::EngineerPassword, Value::Text(hash.clone()))
        .unwrap();
    memory
        .set(Parameter::RecipeName, Value::Text("cap M8".into()))
        .unwrap();
    memory
        .set(Parameter::Threshold, Value::Number(3210))
        .unwrap();
    restored.stored.note("engineer,threshold,0.5,0.321");
    store.save(&restored.stored).unwrap();
    (state, hash)
}

#[test]
fn a_backup_makes_another_station_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (state, _) = memory(folder.path());
    let file = folder.path().join("line1.toml");
    // While the station runs, too.
    let running = Store::open(&state, &Memory::default()).unwrap();
    assert_eq!(
        end(&call(EDGE, &[&"backup", &file, &"--state", &state])).0,
        0
    );
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0);
    let (code, said) = end(&call(EDGE, &[&"restore", &file, &"--state", &state]));
    assert_eq!(
        code, 22,
        "a station that runs is not changed behind its back: {said}"
    );
    drop(running);

    let other = folder.path().join("other");
    assert_eq!(
        end(&call(EDGE, &[&"restore", &file, &"--state", &other])).0,
        0
    );
    let look = |path: &Path| Store::look(path, &Memory::default()).unwrap();
    assert_eq!(look(&other).memory, look(&state).memory);
    // As every line of the log: when, who, what, old, new.
    let log = look(&other).log;
    let (utc, rest) = log[log.len() - 1].split_once(',').unwrap();
    assert!(utc.parse::<jiff::Timestamp>().is_ok(), "{log:?}");
    assert_eq!(
        rest,
        format!("engineer@restore,restored,,{}", file.display())
    );

    // What does not go together, in a recipe that is not in use, changes nothing.
    let before = look(&other);
    for (wrong, word) in [
        ("[recipe.7]\nthreshold = 2.0\n", "threshold"),
        ("[recipe.7]\nrecipe_name = \"cap M8\"\n", "recipe_name"),
        ("no toml", "not TOML"),
    ] {
        fs::write(&file, wrong).unwrap();
        let (code, said) = end(&call(EDGE, &[&"restore", &file, &"--state", &other]));
        assert_eq!(code, 23, "{said}");
        assert!(said.contains(word) && said.contains("line1.toml"), "{said}");
        assert_eq!(look(&other), before);
    }
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (state, word) in [
        ("none", "No such file"),
        ("empty", "no station has been started"),
    ] {
        let state = folder.path().join(state);
        let (code, said) = end(&call(EDGE, &[&"backup", &file, &"--state", &state]));
        assert_eq!(code, 22, "{said}");
        assert!(
            said.contains(word) && said.contains(state.to_str().unwrap()),
            "{said}"
        );
    }
}

/// A station that was never changed: its defaults, the bundle's threshold among them.
/// A memory of good parts, as a file's bytes.
fn taught() -> Vec<u8> {
    use faprompt_edge::memory::region::Regions;
    use faprompt_edge::memory::{Fusion, Kind, Layout, Lesson, Settings, Views, ZeroShot};
    use faprompt_edge::tiling::Tiling;
    let layout = Layout {
        grid: 2,
        tiles: Tiling::WHOLE,
        dim: 4,
    };
    let settings = Settings {
        kind: Some(Kind::Position),
        fusion: Fusion::default(),
        false_rejects: 0.01,
        regions: Regions::default(),
        views: Views::default(),
    };
    let mut lesson = Lesson::new(layout, settings).unwrap();
    for part in 0..6 {
        let descriptors: Vec<f32> = (0..16).map(|i| (i * 7 % 5 + part) as f32).collect();
        let zero_shot = ZeroShot::default();
        lesson
            .part(&part.to_string(), &descriptors, zero_shot)
            .unwrap();
    }
    lesson.finish("encoder", "int8").unwrap().bytes().unwrap()
}

#[test]
fn what_was_taught_goes_along_with_a_backup_and_not_into_what_support_gets() {
    let folder = tempfile::tempdir().unwrap();
    let (state, _) = memory(folder.path());
    let bytes = taught();
    let name = {
        let (mut store, mut restored) = Store::open(&state, &Memory::default()).unwrap();
        let name = store.shelf().put(&bytes).unwrap();
        let memory = &mut restored.stored.memory;
        let value = Value::Text(name.clone());
        memory.set(Parameter::Taught, value).unwrap();
        store.save(&restored.stored).unwrap();
        name
    };
    let file = folder.path().join("line1.toml");
    let backup = || end(&call(EDGE, &[&"backup", &file, &"--state", &state]));
    assert_eq!(backup().0, 0);
    let other = folder.path().join("other");
    let restore = || end(&call(EDGE, &[&"restore", &file, &"--state", &other]));
    let (code, said) = restore();
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read(other.join(&name)).unwrap(), bytes);
    let stored = Store::look(&other, &Memory::default()).unwrap();
    assert_eq!(stored.memory.text(Parameter::Taught), name);
    // What is damaged, or missing, in the file is refused, and nothing is changed.
    let text = fs::read_to_string(&file).unwrap();
    let start = text.find(&format!("{name} = \"")).unwrap() + name.len() + 60;
    let mut damaged = text.clone();
    let flipped = if &text[start..=start] == "A" {
        "B"
    } else {
        "A"
    };
    damaged.replace_range(start..=start, flipped);
    let without = text.split("\n[good_parts]").next().unwrap().to_string();
    fs::remove_dir_all(&other).unwrap();
    for (wrong, word) in [(damaged, "damaged"), (without, "neither in the file")] {
        fs::write(&file, wrong).unwrap();
        let (code, said) = restore();
        assert!(code != 0 && said.contains(word), "{code} {said}");
        assert!(!other.join("memory").exists());
    }
    // For whoever is to find out what is wrong: figures, and the parts only with pictures.
    let archive = folder.path().join("support.tar");
    for (more, parts) in [(&[][..], false), (&["--photos"][..], true)] {
        let mut command = Command::new(EDGE);
        command
            .arg("support")
            .arg(&archive)
            .arg("--state")
            .arg(&state);
        assert_eq!(end(&command.args(more).output().unwrap()).0, 0);
        let tar = fs::read(&archive).unwrap();
        let holds = |what: &[u8]| tar.windows(what.len()).any(|w| w == what);
        assert!(holds(b"\"parts\": 6"), "figures");
        assert_eq!(holds(&bytes), parts);
    }
    // A damaged file keeps nobody from a backup of the rest.
    fs::write(state.join(&name), "half").unwrap();
    let (code, said) = backup();
    assert!(code == 3 && said.contains(&name), "{code} {said}");
    // What was taught by a path is in no backup, and that is said.
    let (mut store, mut restored) = Store::open(&state, &Memory::default()).unwrap();
    let path = Value::Text("/mnt/line 1.taught".into());
    (restored.stored.memory)
        .set_everywhere(Parameter::Taught, &path)
        .unwrap();
    store.save(&restored.stored).unwrap();
    drop(store);
    let (code, said) = backup();
    assert!(code == 3 && said.contains("/mnt/line 1.taught"), "{said}");
    assert_eq!(said.matches("/mnt").count(), 1, "{said}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("# \"/mnt/line 1.taught\" was taught elsewhere"));
}

#[test]
fn a_backup_needs_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bundle = bundle(folder.path());
    let run: [&dyn AsRef<std::ffi::OsStr>; 9] = [
        &"run",
        &"--bundle",
        &bundle,
        &"--frames",
        &"1",
        &"--state",
        &at("state"),
        &"--out",
        &at("out"),
    ];
    let (code, said) = end(&call(EDGE, &run));
    assert!(code <= 1, "{said}");
    let backup = |state: &str| {
        let file = at("line1.toml");
        let (code, said) = end(&call(EDGE, &[&"backup", &file, &"--state", &at(state)]));
        assert_eq!(code, 0, "{said}");
        fs::read_to_string(file).unwrap()
    };
    let text = backup("state");
    let toml: toml::Table = text.parse().unwrap();
    let threshold = &toml["recipe"]["1"]["threshold"];
    let bundle = Bundle::open(&bundle, &Keys::default()).unwrap();
    let wanted = f64::from(bundle.manifest().scores.threshold);
    assert!(
        (threshold.as_float().unwrap() - wanted).abs() < 1e-4,
        "{threshold}"
    );
    assert!(text.contains("Nothing was ever changed"), "{text}");
    let restore: [&dyn AsRef<std::ffi::OsStr>; 4] =
        [&"restore", &at("line1.toml"), &"--state", &at("other")];
    assert_eq!(end(&call(EDGE, &restore)).0, 0);
    let other: toml::Table = backup("other").parse().unwrap();
    assert_eq!(other, toml);
}

#[test]
fn support_tells_everything_but_secrets_and_products() {
    let folder = tempfile::tempdir().unwrap();
    let (state, hash) = memory(folder.path());
    let rejects = state.join("out/archive/2026-11-02");
    fs::create_dir_all(&rejects).unwrap();
    fs::write(rejects.join("part-7.jpg"), "a picture").unwrap();
    fs::write(state.join("out/events.jsonl"), "{\"event\":\"x\"}\n").unwrap();
    let archive = folder.path().join("support.tar");
    let names = |more: &[&str]| {
        let mut command = Command::new(EDGE);
        command
            .arg("support")
            .arg(&archive)
            .arg("--state")
            .arg(&state)
            .args(["--board", "sim"]);
        assert_eq!(end(&command.args(more).output().unwrap()).0, 0);
        let mut tar = tar::Archive::new(fs::File::open(&archive).unwrap());
        let entries = tar.entries().unwrap();
        entries
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect::<BTreeSet<_>>()
    };
    let found = names(&[]);
    for name in [
        "version.txt",
        "doctor.txt",
        "board.txt",
        "slots.json",
        "left-out.txt",
        "station/parameters.toml",
        "station/changes.txt",
        "station/events.jsonl",
        "system/cpuinfo.txt",
    ] {
        assert!(
            found.contains(&format!("faprompt-support/{name}")),
            "{name}: {found:?}"
        );
    }
    let bytes = fs::read(&archive).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(holds("cap M8") && holds("engineer,threshold,0.5,0.321"));
    assert!(!holds(&hash) && !holds("$argon2") && !holds("a picture"));
    assert!(names(&["--photos"]).contains("faprompt-support/photos/part-7.jpg"));
}

/// `flash` with this machine's own program, and more arguments.
fn flash(bundle: &Path, board: &str, more: &[&dyn AsRef<std::ffi::OsStr>]) -> (i32, String) {
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![
        &"flash",
        &"--bundle",
        &bundle,
        &"--board",
        &board,
        &"--program",
        &EDGE,
    ];
    arguments.extend(more);
    end(&call(TRAIN, &arguments))
}

/// This machine's architecture as a board.
fn board() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "qemu-virt",
        _ => "generic-x86",
    }
}

#[test]
fn a_release_goes_onto_a_card_and_is_what_starts() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let root = folder.path().join("card");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    let (code, said) = flash(&bundle, board(), &[&"--to", &root]);
    assert_eq!(code, 36, "{said}");
    assert!(said.contains("usr/bin/faprompt-edge"), "{said}");
    fs::copy(EDGE, root.join("usr/bin/faprompt-edge")).unwrap();
    let unit = "systemd/system/faprompt-edge.service";
    fs::create_dir_all(root.join("usr/lib/systemd/system")).unwrap();
    fs::write(root.join("usr/lib").join(unit), "[Service]").unwrap();
    // What would happen, and nothing of it.
    let dry = |more: &[&dyn AsRef<std::ffi::OsStr>]| {
        let to: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"--to", &root, &"--dry-run"];
        flash(&bundle, board(), &[&to[..], more].concat())
    };
    let (code, said) = dry(&[]);
    assert_eq!(code, 0, "{said}");
    for word in [
        "1. put release",
        "into slot a",
        "the package installed stays",
        "on trial",
        "3. enable",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(
        !said.contains("ssh") && !root.join("opt").exists() && !root.join("etc").exists(),
        "{said}"
    );
    let release = said
        .lines()
        .find_map(|l| l.strip_prefix("release "))
        .unwrap()
        .to_owned();
    let (code, said) = flash(&bundle, board(), &[&"--to", &root]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains(&format!("release {release} is on the card")),
        "{said}"
    );
    let wanted = root.join("etc/systemd/system/multi-user.target.wants/faprompt-edge.service");
    assert_eq!(
        fs::read_link(wanted).unwrap(),
        Path::new("/usr/lib").join(unit)
    );
    let slot = |command: &str| end(&call(EDGE, &[&"slot", &"--root", &root, &command]));
    assert_eq!(slot("choose"), (0, "slot a, on trial\n".into()));
    assert_eq!(slot("confirm"), (0, "slot a is kept\n".into()));
    let (code, said) = dry(&[]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("into slot b")
            && said.contains(&format!("slot a (release {release}), which runs")),
        "{said}"
    );
    assert!(!said.contains("enable"), "{said}");
    // A node that asks for signatures would refuse it.
    let (public, secret) = keys(&folder);
    fs::create_dir_all(root.join("etc/faprompt-edge/keys")).unwrap();
    fs::copy(public, root.join("etc/faprompt-edge/keys/line.pub")).unwrap();
    assert_eq!(dry(&[]).0, 16);
    let (code, said) = dry(&[&"--sign", &secret]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("MB, signed)") && said.contains("minisig: would be written"),
        "{said}"
    );
    assert!(!faprompt_edge::bundle::signature_of(&bundle).exists());
    fs::remove_dir_all(root.join("etc/faprompt-edge/keys")).unwrap();
    let (_, said) = slot("status");
    assert!(
        said.contains("active     slot a") && said.contains(board()),
        "{said}"
    );
    assert_eq!(slot("back").0, 24);
    // What was chosen runs, as the unit calls it.
    let chosen = fs::canonicalize(root.join("run/faprompt-edge/slot")).unwrap();
    let version = call(
        chosen.join("faprompt-edge").to_str().unwrap(),
        &[&"--version"],
    );
    assert!(version.status.success());
    assert_eq!(
        fs::read(chosen.join("bundle")).unwrap(),
        fs::read(&bundle).unwrap()
    );
}

fn keys(folder: &TempDir) -> (PathBuf, PathBuf) {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let (public, secret) = (
        folder.path().join("line.pub"),
        folder.path().join("line.key"),
    );
    fs::write(&public, pair.pk.to_box().unwrap().to_string()).unwrap();
    fs::write(&secret, pair.sk.to_box(None).unwrap().to_string()).unwrap();
    (public, secret)
}

#[test]
fn a_signed_release_satisfies_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let (public, secret) = keys(&folder);
    let (package, root) = (
        folder.path().join("release.tar"),
        folder.path().join("node"),
    );
    let install = || {
        let mut command = Command::new(EDGE);
        command
            .arg("slot")
            .arg("--root")
            .arg(&root)
            .arg("--key")
            .arg(&public)
            .arg("install");
        end(&command
            .stdin(fs::File::open(&package).unwrap())
            .output()
            .unwrap())
    };
    assert_eq!(flash(&bundle, board(), &[&"--out", &package]).0, 0);
    fs::create_dir(&root).unwrap();
    let (code, said) = install();
    assert_eq!(code, 16, "{said}");
    // No package at all: its bytes are not shown.
    fs::copy(&public, &package).unwrap();
    let (code, said) = install();
    assert_eq!(code, 24, "{said}");
    assert!(
        said.contains("does not begin as") && !said.contains("untrusted"),
        "{said}"
    );
    let (code, said) = flash(&bundle, board(), &[&"--out", &package, &"--sign", &public]);
    assert_eq!(code, 36, "{said}");
    assert!(said.contains("no secret key"), "{said}");
    assert_eq!(
        flash(&bundle, board(), &[&"--out", &package, &"--sign", &secret]).0,
        0
    );
    assert_eq!(install().0, 0);
    // `minisign -G -W` writes zeros for the checksum, the last 32 bytes of a key without a password.
    let text = fs::read_to_string(&secret).unwrap();
    let (comment, key) = text.trim().split_once('\n').unwrap();
    let mut bytes = STANDARD.decode(key).unwrap();
    let checksum = bytes.len() - 32;
    bytes[checksum..].fill(0);
    fs::write(&secret, format!("{comment}\n{}\n", STANDARD.encode(bytes))).unwrap();
    let (code, said) = flash(&bundle, board(), &[&"--out", &package, &"--sign", &secret]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(install().0, 0);
    // The bundle was signed too: the program asks for that whenever it loads one.
    let verify = call(
        EDGE,
        &[
            &"bundle",
            &"verify",
            &root.join("opt/faprompt-edge/a/bundle"),
            &"--key",
            &public,
        ],
    );
    assert_eq!(end(&verify).0, 0);
}

#[test]
fn flash_says_every_step_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let (code, said) = flash(&bundle, board(), &[&"--to", &"line@node", &"--dry-run"]);
    assert_eq!(code, 0, "{said}");
    for word in [
        "1. look at the node",
        "slot install",
        "systemctl restart",
        "line@node",
        "sha256",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // A folder that is not there is no host.
    let (code, said) = flash(&bundle, board(), &[&"--to", &"/nowhere/card", &"--dry-run"]);
    assert_eq!(code, 32, "{said}");
    let file = folder.path().join("release.tar");
    let (code, said) = flash(&bundle, board(), &[&"--out", &file, &"--dry-run"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("1. write it into") && !file.exists(),
        "{said}"
    );
    // Nobody listens there.
    let (code, said) = flash(
        &bundle,
        board(),
        &[
            &"--to",
            &"nobody@127.0.0.1",
            &"--ssh-option=-p",
            &"--ssh-option=1",
        ],
    );
    assert_eq!(code, 36, "{said}");
    // A part that is gone before any processor has judged it.
    let quick = folder.path().join("quick.toml");
    fs::write(
        &quick,
        format!(
            "base = \"{}\"\nname = \"quick\"\n[reject]\ndelay_ms = 0\n",
            board()
        ),
    )
    .unwrap();
    let (code, said) = flash(
        &bundle,
        quick.to_str().unwrap(),
        &[&"--to", &"line@node", &"--dry-run"],
    );
    assert_eq!(code, 32, "{said}");
    assert!(said.contains("reject.delay_ms"), "{said}");
    // A program for another processor.
    let mut program = fs::read(EDGE).unwrap();
    program.truncate(64);
    program[18] ^= 1;
    let other = folder.path().join("other");
    fs::write(&other, program).unwrap();
    let to = ["--to", "line@node", "--dry-run", "--board", board()];
    let (code, said) = end(&Command::new(TRAIN)
        .args(["flash", "--bundle"])
        .arg(&bundle)
        .arg("--program")
        .arg(&other)
        .args(to)
        .output()
        .unwrap());
    assert_eq!(code, 32, "{said}");
    assert!(said.contains("a program for ELF machine"), "{said}");
    let none = folder.path().join("none");
    let (code, said) = end(&call(
        TRAIN,
        &[
            &"flash",
            &"--bundle",
            &bundle,
            &"--board",
            &board(),
            &"--built",
            &none,
            &"--to",
            &"line@node",
        ],
    ));
    assert_eq!(code, 32, "{said}");
    assert!(said.contains("make node"), "{said}");
}
