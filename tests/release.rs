//! Releases: what a node accepts, and what it runs afterwards. The program of a release is a script that
//! answers what the device program answers; power cuts and real starts are tried in `tests/node`.

use faprompt_edge::bundle::Keys;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::release::ReleaseError;
use faprompt_edge::release::package::{Outgoing, Sources};
use faprompt_edge::release::slots::{Slot, Slots};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A release whose program says that it is of this version.
fn sources(folder: &Path, version: &str) -> Sources {
    let program = folder.join(format!("program-{version}"));
    let script =
        format!("#!/bin/sh\ntest \"$1\" = --version && echo faprompt-edge {version}\nexit 0\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Sources {
        program,
        version: version.into(),
        arch: std::env::consts::ARCH.into(),
        bundle: Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/bundle/int8.bundle"),
        board: "sim".into(),
    }
}

fn package(sources: &Sources, signature: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![];
    let outgoing = Outgoing::new(sources).unwrap();
    outgoing.write(signature, &mut bytes).unwrap();
    bytes
}

/// A node's system, and where slots are on it.
fn node() -> (TempDir, Slots, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let slots = Slots::under(root.path());
    let folder = root.path().join("opt/faprompt-edge");
    (root, slots, folder)
}

fn install(slots: &Slots, bytes: &[u8], keys: &Keys) -> Result<Slot, ReleaseError> {
    slots.install(bytes, keys, true).map(|(slot, _)| slot)
}

#[test]
fn the_same_files_are_the_same_package() {
    let folder = tempfile::tempdir().unwrap();
    let one = sources(folder.path(), "1.0.0");
    let bytes = package(&one, None);
    assert_eq!(bytes, package(&one, None));
    let (_root, slots, place) = node();
    let (slot, release) = slots.install(&bytes[..], &Keys::default(), true).unwrap();
    assert_eq!(release, Outgoing::new(&one).unwrap().id());
    assert_eq!(slot, Slot::A);
    for (name, original, mode) in [
        ("faprompt-edge", &one.program, 0o755),
        ("bundle", &one.bundle, 0o644),
    ] {
        let found = place.join("a").join(name);
        assert_eq!(fs::read(&found).unwrap(), fs::read(original).unwrap());
        assert_eq!(
            fs::metadata(&found).unwrap().permissions().mode() & 0o777,
            mode
        );
    }
}

/// Cut anywhere, changed anywhere: refused, and nothing of it stays.
#[test]
fn a_package_is_taken_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (_root, slots, place) = node();
    let keys = Keys::default();
    install(
        &slots,
        &package(&sources(folder.path(), "1.0.0"), None),
        &keys,
    )
    .unwrap();
    slots.choose(&keys).unwrap();
    slots.confirm().unwrap();
    let before = slots.status();
    assert_eq!(before.problems, Vec::<String>::new());

    let good = package(&sources(folder.path(), "2.0.0"), None);
    // Behind the last file come zeros that nobody needs.
    let end = good.iter().rposition(|b| *b != 0).unwrap() + 1;
    let refused = |bytes: &[u8], what: String| {
        let error = install(&slots, bytes, &keys).expect_err(&what);
        assert_eq!(error.exit_code(), ExitCode::Release, "{what}: {error}");
        assert_eq!(slots.status(), before, "{what}");
        assert!(
            !place.join("incoming").exists() && !place.join("b").exists(),
            "{what}"
        );
    };
    for cut in (0..1600).step_by(97).chain((1600..end).step_by(end / 20)) {
        refused(&good[..cut], format!("cut at {cut}"));
    }
    // Tar fills blocks with zeros, which mean nothing.
    for at in (0..end).step_by(end / 60).filter(|at| good[*at] != 0) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        refused(&bytes, format!("changed at {at}"));
    }
    install(&slots, &good, &keys).unwrap();
}

#[test]
fn what_does_not_run_here_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_root, slots, _) = node();
    let keys = Keys::default();
    let mut cases: Vec<(Sources, &str)> = vec![];
    let base = |name: &str| sources(folder.path(), name);
    let with = |name: &str, script: &str| {
        let sources = base(name);
        fs::write(&sources.program, script).unwrap();
        sources
    };
    cases.push((
        Sources {
            arch: "riscv64".into(),
            ..base("1.0.0")
        },
        "riscv64",
    ));
    cases.push((
        Sources {
            version: "1.0.1".into(),
            ..base("1.0.0")
        },
        "1.0.1",
    ));
    cases.push((
        with("1.0.2", "\x7fELF of another machine"),
        "does not start here",
    ));
    cases.push((
        with("1.0.3", "#!/bin/sh\ntest \"$1\" = board && { echo no such board >&2; exit 20; }\necho faprompt-edge 1.0.3\n"),
        "no such board",
    ));
    cases.push((
        with("1.0.4", "#!/bin/sh\ntest \"$1\" = bundle && { echo damaged >&2; exit 14; }\necho faprompt-edge 1.0.4\n"),
        "damaged",
    ));
    for (sources, word) in &cases {
        let error = install(&slots, &package(sources, None), &keys).unwrap_err();
        assert!(matches!(error, ReleaseError::Unfit(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(slots.status().a, None);
    // For a card of another machine nobody can be asked.
    slots
        .install(&package(&cases[0].0, None)[..], &keys, false)
        .unwrap();
}

struct Signer(minisign::KeyPair, PathBuf);

impl Signer {
    fn new(folder: &Path, name: &str) -> Self {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let path = folder.join(name);
        fs::write(&path, pair.pk.to_box().unwrap().to_string()).unwrap();
        Signer(pair, path)
    }

    fn signs(&self, sources: &Sources) -> Vec<u8> {
        let outgoing = Outgoing::new(sources).unwrap();
        let signature = minisign::sign(
            Some(&self.0.pk),
            &self.0.sk,
            outgoing.text().as_bytes(),
            None,
            None,
        );
        package(sources, Some(&signature.unwrap().to_string()))
    }
}

#[test]
fn a_node_with_keys_takes_only_what_they_signed() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old.pub", "new.pub"].map(|name| Signer::new(folder.path(), name));
    let first = sources(folder.path(), "1.0.0");
    let second = sources(folder.path(), "2.0.0");
    let keys = |signers: &[&Signer]| {
        let files: Vec<_> = signers.iter().map(|s| &s.1).collect();
        Keys::load(&files).unwrap()
    };
    let (_root, slots, place) = node();
    let refused = |bytes: &[u8], keys: &Keys| {
        let error = install(&slots, bytes, keys).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::BundleSignature, "{error}");
    };
    refused(&package(&first, None), &keys(&[&old]));
    refused(&new.signs(&first), &keys(&[&old]));
    // The signature of another release.
    let outgoing = Outgoing::new(&second).unwrap();
    let foreign = minisign::sign(None, &old.0.sk, outgoing.text().as_bytes(), None, None);
    refused(
        &package(&first, Some(&foreign.unwrap().to_string())),
        &keys(&[&old]),
    );

    install(&slots, &old.signs(&first), &keys(&[&old])).unwrap();
    // Changing keys: both, then the new one only.
    slots.choose(&keys(&[&old, &new])).unwrap();
    slots.confirm().unwrap();
    install(&slots, &new.signs(&second), &keys(&[&old, &new])).unwrap();
    assert!(slots.choose(&keys(&[&new])).unwrap().trial);
    slots.confirm().unwrap();
    // What the old key signed does not come back any more.
    assert_eq!(
        slots.back(&keys(&[&new])).unwrap_err().exit_code(),
        ExitCode::BundleSignature
    );
    // A manifest that was changed on the node, digests and all.
    let manifest = place.join("b/release.toml");
    let text = fs::read_to_string(&manifest)
        .unwrap()
        .replace("sim", "generic-x86");
    fs::write(&manifest, text).unwrap();
    assert_eq!(
        slots.choose(&keys(&[&new])).unwrap_err().exit_code(),
        ExitCode::Release
    );
}

#[test]
fn one_release_at_a_time_is_received() {
    let folder = tempfile::tempdir().unwrap();
    let (_root, slots, place) = node();
    fs::create_dir_all(&place).unwrap();
    let lock = fs::File::create(place.join("installing")).unwrap();
    lock.lock().unwrap();
    let bytes = package(&sources(folder.path(), "1.0.0"), None);
    let error = install(&slots, &bytes, &Keys::default()).unwrap_err();
    assert!(matches!(error, ReleaseError::Busy(_)), "{error}");
}

#[test]
fn what_the_service_gets() {
    let folder = tempfile::tempdir().unwrap();
    let (root, slots, place) = node();
    let run = root.path().join("run/faprompt-edge");
    let environment = || fs::read_to_string(run.join("slot.env")).unwrap();
    let keys = Keys::default();
    assert_eq!(slots.choose(&keys).unwrap().slot, None);
    let packaged = root.path().join("usr/lib/faprompt-edge/packaged");
    assert_eq!(fs::read_link(run.join("slot")).unwrap(), packaged);
    assert!(
        !environment().contains("FAPROMPT_BOARD"),
        "{}",
        environment()
    );

    let board = folder.path().join("mine.toml");
    fs::write(&board, "base = \"sim\"\nname = \"mine\"\n").unwrap();
    let mut release = sources(folder.path(), "1.0.0");
    release.board = board.display().to_string();
    install(&slots, &package(&release, None), &keys).unwrap();
    assert!(slots.choose(&keys).unwrap().trial);
    assert_eq!(fs::read_link(run.join("slot")).unwrap(), place.join("a"));
    let a = place.join("a");
    let expected = format!(
        "FAPROMPT_BUNDLE={0}/bundle\nFAPROMPT_TRIAL=1\nFAPROMPT_BOARD={0}/board.toml\n",
        a.display()
    );
    assert_eq!(environment(), expected);
    slots.confirm().unwrap();
    slots.choose(&keys).unwrap();
    assert!(
        environment().contains("FAPROMPT_TRIAL=0"),
        "{}",
        environment()
    );
}

/// What can happen to a node.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A release is received.
    Install(usize),
    /// The service starts and becomes ready.
    Ready,
    /// The service starts, and ends or loses power before it is ready.
    Dies,
    /// Someone wants the other release back.
    Back,
    /// A file of a slot is damaged.
    Damage(Slot),
    /// The state cannot be read any more, or is gone.
    Forget { gone: bool },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..4usize).prop_map(Event::Install),
        4 => Just(Event::Ready),
        3 => Just(Event::Dies),
        2 => Just(Event::Back),
        1 => prop_oneof![Just(Slot::A), Just(Slot::B)].prop_map(Event::Damage),
        1 => any::<bool>().prop_map(|gone| Event::Forget { gone }),
    ];
    prop::collection::vec(event, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, what starts is intact, and it is the release on trial, at its one start, or the one
    /// that was ready last; nothing else unless a slot was damaged.
    #[test]
    fn a_node_runs_the_old_release_or_the_new_one(events in events()) {
        let folder = tempfile::tempdir().unwrap();
        let (root, slots, place) = node();
        let keys = Keys::default();
        let versions = ["1", "2", "3", "4"].map(|v| sources(folder.path(), v));
        let packages = versions.each_ref().map(|v| package(v, None));
        let ids = versions.each_ref().map(|v| Outgoing::new(v).unwrap().id());
        let name = |slot: Slot| slot.to_string();
        // The oracle: what was ready last, what waits for its start, what was damaged.
        let (mut old, mut waits) = (None, None);
        let mut damaged = false;
        for event in events {
            match event {
                Event::Install(which) => {
                    match slots.install(&packages[which][..], &keys, true) {
                        Ok((slot, id)) => {
                            prop_assert_eq!(&id, &ids[which]);
                            prop_assert_ne!(Some(slot), slots.status().active);
                            waits = Some(id);
                        }
                        Err(e) => prop_assert!(false, "{e}"),
                    }
                }
                Event::Back => {
                    if let Ok((_, id)) = slots.back(&keys) {
                        prop_assert!(waits.is_none());
                        waits = Some(id);
                    }
                }
                Event::Damage(slot) => {
                    let bundle = place.join(name(slot)).join("bundle");
                    if bundle.exists() {
                        fs::write(bundle, "nothing").unwrap();
                        damaged = true;
                    }
                }
                Event::Forget { gone } => {
                    let state = place.join("state.toml");
                    let kept = Slot::BOTH.iter().any(|s| place.join(name(*s)).join("confirmed").exists());
                    if place.exists() && (kept || !gone) {
                        match gone {
                            true if state.exists() => fs::remove_file(&state).unwrap(),
                            true => (),
                            false => fs::write(&state, "active = ").unwrap(),
                        }
                        prop_assert_eq!(slots.status().problems.len(), 1);
                        // A release that waited is forgotten with it.
                        waits = None;
                    }
                }
                Event::Ready | Event::Dies => {
                    let choice = match slots.choose(&keys) {
                        Ok(choice) => choice,
                        Err(e) => {
                            prop_assert!(damaged, "{e}");
                            continue;
                        }
                    };
                    let link = fs::read_link(root.path().join("run/faprompt-edge/slot")).unwrap();
                    let runs = match choice.slot {
                        None => None,
                        Some(slot) => {
                            let intact = fs::read(link.join("bundle")).unwrap();
                            prop_assert_eq!(intact, fs::read(&versions[0].bundle).unwrap());
                            slots.status().of(slot).map(|h| h.release.clone())
                        }
                    };
                    let tried = waits.take();
                    if !damaged {
                        let expected = tried.clone().or(old.clone());
                        prop_assert_eq!(&runs, &expected);
                        prop_assert_eq!(choice.trial, tried.is_some());
                    }
                    if matches!(event, Event::Ready) {
                        slots.confirm().unwrap();
                        let status = slots.status();
                        prop_assert_eq!(status.running(), runs.as_ref());
                        old = runs;
                    } else if choice.trial {
                        // It has had its start.
                        let again = slots.choose(&keys);
                        prop_assert!(!again.is_ok_and(|c| c.trial));
                    }
                }
            }
        }
    }
}
