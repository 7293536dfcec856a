//! What a running station is made of, changed, cut off and started again: the program as a process, at a
//! serial port.

#[path = "control/bench.rs"]
#[allow(dead_code)]
mod bench;
mod common;
#[path = "control/line.rs"]
#[allow(dead_code)]
mod line;
#[path = "wire/mod.rs"]
#[allow(dead_code)]
mod wire;

use bench::Cable;
use faprompt_edge::bundle::envelope::{METADATA_KEY, manifest_digest};
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::control::modbus::frame;
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a station says, and goes on to say, that stopped because frames came faster than they were judged.
const OVERRUN: &str = "Overrun";

const EDGE: &str = env!("CARGO_BIN_EXE_faprompt-edge");

/// The same bundle, intact, with another manifest.
fn edited(bundle: &Path, to: &Path, edit: impl FnOnce(&mut Map<String, Value>)) {
    let bytes = std::fs::read(bundle).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let text = header["__metadata__"][METADATA_KEY].as_str().unwrap();
    let mut envelope: Value = serde_json::from_str(text).unwrap();
    edit(envelope["manifest"].as_object_mut().unwrap());
    envelope["digests"]["manifest"] = manifest_digest(&envelope["manifest"].to_string()).into();
    header["__metadata__"][METADATA_KEY] = envelope.to_string().into();
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(to, [&length[..], &header, data].concat()).unwrap();
}

/// The line that begins so, if it has come; what came before it is dropped.
fn take(cable: &mut Cable, start: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&cable.received).into_owned();
    let at = text.find(start)?;
    let end = at + text[at..].find('\n')?;
    cable.received.drain(..=end.min(cable.received.len() - 1));
    Some(text[at..end].trim_end().to_string())
}

/// A station that was set up once: its folder, the cable, bundles of every kind.
struct Site {
    folder: TempDir,
    state: PathBuf,
    out: PathBuf,
    cable: Cable,
    /// Further options, and a second port for Modbus.
    options: Vec<String>,
    modbus: Option<wire::Wire>,
    asked: u32,
    /// How often the line stopped because it was too slow, and was started again.
    overruns: usize,
    process: Option<Child>,
    started: Instant,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let made = common::golden_bundle(folder.path(), Selection::Paper, Precision::Int8).0;
        let at = |name: &str| folder.path().join(name);
        std::fs::rename(made, at("default")).unwrap();
        std::fs::copy(at("default"), at("good")).unwrap();
        edited(&at("default"), &at("untrained"), |manifest| {
            manifest.insert("trained".into(), json!(false));
        });
        // Its weights are multiplied otherwise: good parts look different to it.
        let made = common::golden_bundle(folder.path(), Selection::Paper, Precision::F32).0;
        std::fs::rename(made, at("f32")).unwrap();
        // Intact, and computed wrongly.
        edited(&at("default"), &at("wrong"), |manifest| {
            manifest.insert("known_score".into(), json!(0.987));
        });
        let mut bytes = std::fs::read(at("default")).unwrap();
        let last = bytes.len() - 9;
        bytes[last] ^= 1;
        std::fs::write(at("damaged"), &bytes).unwrap();
        std::fs::write(at("cut"), &bytes[..bytes.len() / 2]).unwrap();
        Site {
            cable: Cable::plug(&at("port")),
            state: at("state"),
            out: at("out"),
            folder,
            options: vec![],
            modbus: None,
            asked: 0,
            overruns: 0,
            process: None,
            started: Instant::now(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the program; returns how long its port took to answer.
    fn start(&mut self) -> Duration {
        self.started = Instant::now();
        let at = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(EDGE);
        command.args([
            "run", "--board", "sim", "--source", "pattern", "--rate", "10",
        ]);
        if let Some(wire) = &self.modbus {
            // Pseudo-terminals know no parity.
            command.args(["--set", "modbus_parity=none", "--modbus"]);
            command.arg(&wire.station);
        }
        let child = command
            .args(&self.options)
            .args(["--frames", "1000000", "--quiet", "--threads", "1"])
            .args(["--set", "alarm_consecutive=0", "--delay-ms", "300"])
            .arg("--bundle")
            .arg(at("default"))
            .arg("--state")
            .arg(&self.state)
            .arg("--out")
            .arg(&self.out)
            .arg("--serial")
            .arg(at("port"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(at("stderr")).unwrap())
            .spawn()
            .unwrap();
        self.process = Some(child);
        // What is sent before the port is open may be lost: it is asked again until it answers.
        loop {
            self.asked += 1;
            let number = self.asked % 60_000;
            self.cable.send(format!("\x1b#{number} IDN\r").as_bytes());
            let until = Instant::now() + Duration::from_millis(50);
            while Instant::now() < until {
                self.cable.receive();
                std::thread::sleep(Duration::from_millis(2));
                if take(&mut self.cable, &format!("#{number} OK,IDN,")).is_some() {
                    return self.started.elapsed();
                }
            }
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "it ended: {}", self.said());
            let waited = self.started.elapsed();
            assert!(waited < Duration::from_secs(60), "{}", self.said());
        }
    }

    /// Sends a line, gives its answer.
    fn ask(&mut self, line: &str) -> String {
        self.asked += 1;
        let number = self.asked % 60_000;
        self.cable.send(format!("#{number} {line}\r").as_bytes());
        let start = format!("#{number} ");
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            self.cable.receive();
            if let Some(answer) = take(&mut self.cable, &start) {
                return answer.trim_start_matches(&start).to_string();
            }
            assert!(Instant::now() < until, "{line}: no answer; {}", self.said());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A value of STATUS.
    fn status(&mut self, name: &str) -> String {
        let status = self.ask("STATUS");
        let start = format!("{name}=");
        let value = status.split(',').find_map(|v| v.strip_prefix(&start));
        value.unwrap_or_default().trim_matches('"').to_string()
    }

    /// A busy machine may be too slow for so many parts a second: then the station stops, as it must, until somebody
    /// acknowledges, which is done here.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            let said = self.said();
            let overruns = said.matches(OVERRUN).count();
            if self.process.is_some() && overruns > self.overruns {
                // Not waited for: a command before it may take its time.
                self.cable.send(b"ACK\r");
            }
            self.overruns = overruns;
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "never {what}: {said}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn until_running(&mut self) {
        self.until("running", |s| s.status("mode") == "running");
    }

    fn until_started(&mut self) -> String {
        self.until("started", |s| s.status("network") != "starting");
        self.status("network")
    }

    /// The name of the bundle that judges.
    fn judges(&mut self) -> String {
        let bundle = self.status("bundle");
        let name = Path::new(&bundle).file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn set(&mut self, bundle: &str) {
        let path = match bundle {
            "default" => String::new(),
            other => self.at(other).display().to_string(),
        };
        let answer = self.ask(&format!("SET bundle \"{path}\""));
        assert!(answer.starts_with("OK,"), "{answer}");
    }

    /// kill -9.
    fn kill(&mut self) {
        let mut child = self.process.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.cable.receive();
        self.cable.received.clear();
    }

    /// SIGTERM; the exit code.
    fn stop(&mut self) -> i32 {
        let mut child = self.process.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().code().unwrap()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.at("stderr")).unwrap_or_default()
    }

    fn verdicts(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.out.join("verdicts.jsonl")).unwrap();
        text.lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_bundle_that_is_refused_changes_nothing_and_is_never_stored() {
    let mut site = Site::new();
    site.start();
    assert_eq!(site.until_started(), "stored");
    for bundle in ["damaged", "cut", "wrong", "missing"] {
        site.set(bundle);
        let answer = site.ask("COMMIT");
        assert!(answer.starts_with("ER,COMMIT,600,"), "{bundle}: {answer}");
        assert_eq!(
            (site.judges(), site.status("network")),
            ("default".into(), "stored".into())
        );
        let memory = std::fs::read_to_string(site.at("state/memory")).unwrap_or_default();
        assert!(!memory.contains(bundle), "{bundle} is stored");
        site.ask("REVERT");
    }
    site.kill();
    site.start();
    assert_eq!(site.until_started(), "stored");
    assert_eq!(site.judges(), "default");
}

#[test]
fn a_stored_bundle_that_is_gone_leaves_the_ports_open_to_put_it_right() {
    let mut site = Site::new();
    site.start();
    site.until_started();
    site.set("good");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    assert_eq!(site.judges(), "good");
    site.kill();
    std::fs::rename(site.at("good"), site.at("elsewhere")).unwrap();

    // The last good one judges, and says so.
    site.start();
    assert_eq!(site.until_started(), "last_good");
    assert_eq!(site.judges(), "default");
    site.until_running();
    assert_eq!(site.status("fault"), "1");
    assert_ne!(site.status("alarms").parse::<u32>().unwrap() & 1 << 14, 0);
    assert!(
        site.said().contains("good") && site.said().contains("last good"),
        "{}",
        site.said()
    );
    // Other parameters can be changed all the same.
    assert_eq!(
        site.ask("SET pulse_width_ms 77"),
        "OK,SET,pulse_width_ms,77"
    );
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    assert_eq!(site.status("network"), "last_good");
    site.kill();

    // Nothing can judge: the line stays stopped.
    std::fs::rename(site.at("default"), site.at("default.away")).unwrap();
    site.start();
    assert_eq!(site.until_started(), "none");
    site.until("stopped", |s| s.status("mode") == "stopped");
    assert_eq!(
        (site.status("fault"), site.status("line_stop")),
        ("1".into(), "1".into())
    );
    assert!(site.ask("ACK").starts_with("OK,ACK,"));
    assert_eq!(site.status("line_stop"), "1", "nothing can judge yet");

    // Put right from the serial cable.
    site.set("elsewhere");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    assert_eq!(
        (site.judges(), site.status("network")),
        ("elsewhere".into(), "stored".into())
    );
    assert!(site.ask("ACK").starts_with("OK,ACK,"));
    site.until_running();
    site.kill();
    site.start();
    assert_eq!(site.until_started(), "stored");
    assert_eq!(site.judges(), "elsewhere");
    assert_eq!(site.ask("GET pulse_width_ms"), "OK,GET,pulse_width_ms,77");
}

/// A part that the second camera would reject passes if that camera gets the threshold of the bundle that is gone.
#[test]
fn the_last_good_network_keeps_each_cameras_threshold_whatever_else_is_changed() {
    let mut site = Site::new();
    let options = [
        ["--source", "pattern"],
        ["--set", "trigger_source=interval"],
        ["--set", "trigger_interval_ms=200"],
    ];
    site.options = options
        .as_flattened()
        .iter()
        .map(|o| o.to_string())
        .collect();
    site.start();
    assert_eq!(site.until_started(), "stored");
    // No score is above the first threshold, every one above the second.
    site.ask("SET threshold 0.9999");
    site.ask("SET camera2_threshold 0");
    assert!(site.ask("COMMIT").starts_with("OK,COMMIT,"));
    site.set("good");
    site.ask("SET camera2_threshold 0.9999");
    assert!(site.ask("COMMIT").starts_with("OK,COMMIT,2"));
    assert_eq!(site.judges(), "good");
    site.kill();
    std::fs::remove_file(site.at("good")).unwrap();
    site.start();
    assert_eq!(site.until_started(), "last_good");
    site.until_running();
    site.ask("SET pulse_width_ms 21");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    assert_eq!(site.status("network"), "last_good");
    let before = site.verdicts().len();
    let outcomes = |part: &Value| -> Option<[String; 2]> {
        let views = part["views"].as_array()?;
        let of = |view: usize| Some(views.get(view)?["outcome"].as_str()?.to_string());
        Some([of(0)?, of(1)?])
    };
    site.until("parts by both cameras", |site| {
        let parts = site.verdicts();
        // Those on the belt when it was cleared were judged before.
        parts.iter().skip(before + 3).filter_map(outcomes).count() > 2
    });
    for part in site.verdicts().iter().skip(before + 3) {
        if let Some(both) = outcomes(part) {
            assert_eq!(both, ["good", "reject"], "{part}");
        }
    }
}

#[test]
fn another_recipes_last_good_network_waits_for_somebody_to_look() {
    let mut site = Site::new();
    site.start();
    site.until_started();
    assert!(site.ask("RECIPE 2").starts_with("OK,RECIPE,2"));
    site.set("good");
    assert!(site.ask("COMMIT").starts_with("OK,COMMIT,1"));
    assert!(site.ask("RECIPE 1").starts_with("OK,RECIPE,1"));
    assert_eq!(site.judges(), "default");
    assert!(site.ask("RECIPE 2").starts_with("OK,RECIPE,2"));
    assert_eq!(site.judges(), "good");
    site.kill();
    std::fs::remove_file(site.at("good")).unwrap();
    site.start();
    assert_eq!(site.until_started(), "last_good");
    site.until("stopped", |s| s.status("mode") == "stopped");
    site.ask("ACK");
    site.until_running();
}

/// A disk that is mounted for reading: the line runs, and says what it cannot keep.
#[test]
fn folders_that_cannot_be_written_keep_no_station_from_starting() {
    let mut site = Site::new();
    // Nobody can make a folder there, not even root.
    site.state = "/sys/faprompt-edge/state".into();
    site.out = "/sys/faprompt-edge/out".into();
    site.start();
    assert_eq!(site.until_started(), "stored");
    site.until_running();
    let results = |s: &mut Site| s.status("alarms").parse::<u32>().unwrap() & 1 << 13 != 0;
    site.until("alarm 13", results);
    for (name, value) in [("memory", "fault"), ("fault", "1"), ("line_stop", "0")] {
        assert_eq!(site.status(name), value, "{name}");
    }
    assert_eq!(site.ask("SET threshold 0.3"), "OK,SET,threshold,0.3000");
    let answer = site.ask("COMMIT");
    assert!(answer.starts_with("ER,COMMIT,601,"), "{answer}");
    assert_eq!(site.ask("REVERT"), "OK,REVERT");
    let part = |s: &mut Site| s.ask("LAST");
    let last = part(&mut site);
    site.until("more parts", |s| part(s) != last);
    for folder in ["/sys/faprompt-edge/state", "/sys/faprompt-edge/out"] {
        assert!(site.said().contains(folder), "{}", site.said());
    }
    // A start may be what mends it.
    assert_eq!(site.ask("REBOOT"), "OK,REBOOT");
    let ended = site.process.take().unwrap().wait().unwrap();
    assert_eq!(ended.code(), Some(40), "{}", site.said());
}

#[test]
fn what_judges_is_what_is_named() {
    let mut site = Site::new();
    site.start();
    site.until_started();
    assert_eq!(site.status("trained"), "1");
    site.set("untrained");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    assert_eq!(
        (site.judges(), site.status("trained")),
        ("untrained".into(), "0".into())
    );
    let before = site.verdicts().len();
    site.until("40 parts", |s| s.verdicts().len() > before + 40);
    assert!(site.stop() <= 1);
    let verdicts = site.verdicts();
    let warned = verdicts[before + 20..].iter().filter(|v| {
        let warning = v["warning"].as_str();
        warning.is_some_and(|w| w.contains("UNTRAINED"))
    });
    assert_eq!(warned.count(), verdicts.len() - before - 20);
    let summary = std::fs::read_to_string(site.at("out/summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert!(
        summary["bundle"].as_str().unwrap().ends_with("untrained"),
        "{summary}"
    );
    assert!(summary["warning"].as_str().unwrap().contains("UNTRAINED"));
    assert!(summary["utc"].as_str().unwrap().ends_with('Z'));
}

/// A disk that has no room left while the line runs, and has some again later.
#[test]
fn a_disk_that_fills_up_stops_no_line_and_leaves_no_half_line() {
    let mut site = Site::new();
    let disk = site.at("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
        .arg(&disk)
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("NOT TRIED: a full disk: only root may mount one");
        return;
    }
    let _unmounts = Mounted(disk.clone());
    (site.state, site.out) = (disk.join("state"), disk.join("out"));
    site.start();
    site.until_started();
    site.until_running();
    let fill = || {
        let mut hog = std::fs::File::options();
        let mut hog = hog
            .append(true)
            .create(true)
            .open(disk.join("hog"))
            .unwrap();
        // In small pieces, to the last byte.
        for size in [4096, 64, 1] {
            while hog.write_all(&vec![0; size]).is_ok() {}
        }
    };
    fill();
    let results = |s: &mut Site| s.status("alarms").parse::<u32>().unwrap() & 1 << 13 != 0;
    site.until("alarm 13", |s| {
        fill();
        results(s)
    });
    assert_eq!(
        (site.status("fault"), site.status("line_stop")),
        ("1".into(), "0".into())
    );
    assert_eq!(site.ask("SET threshold 0.3"), "OK,SET,threshold,0.3000");
    let answer = site.ask("COMMIT");
    assert!(answer.starts_with("ER,COMMIT,601,"), "{answer}");
    let part = |s: &mut Site| s.ask("LAST");
    let last = part(&mut site);
    site.until("more parts", |s| part(s) != last);

    std::fs::remove_file(disk.join("hog")).unwrap();
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,next part");
    assert_eq!(site.status("memory"), "ok");
    site.until("no alarm", |s| {
        s.ask("ACK");
        !results(s)
    });
    let before = site.verdicts().len();
    site.until("20 more lines", |s| s.verdicts().len() > before + 20);
    // What is lost is counted, and what is there is whole.
    assert_eq!(site.stop(), 5);
    let summary = std::fs::read_to_string(site.out.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert!(
        summary["results_not_written"].as_u64().unwrap() > 0,
        "{summary}"
    );
    for file in ["verdicts.jsonl", "events.jsonl"] {
        let text = std::fs::read_to_string(site.out.join(file)).unwrap();
        let torn = text
            .lines()
            .find(|l| serde_json::from_str::<Value>(l).is_err());
        assert_eq!(torn, None, "{file}");
        assert!(text.is_empty() || text.ends_with('\n'), "{file}");
    }
}

/// Takes it away again.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A pipe that nobody reads from, in place of the file that the memory is written to: a disk that hangs.
fn hang_the_memory(site: &Site) -> PathBuf {
    let pipe = site.state.join("memory.new");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let _ = std::fs::remove_file(&pipe);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    pipe
}

/// It is said, the line goes on, and whoever does not wait for the disk is answered.
#[test]
fn a_disk_that_hangs_is_reported_and_the_line_goes_on() {
    let mut site = Site::new();
    site.start();
    site.until_started();
    site.until_running();
    let pipe = hang_the_memory(&site);
    site.set("good");
    site.cable.send(b"COMMIT\r");
    site.until("said", |s| s.said().contains("the store thread hangs"));
    let seen = |s: &Site| s.verdicts().len();
    let before = seen(&site);
    site.until("20 parts", |s| seen(s) > before + 20);
    // The power is cut: what was in force is.
    site.kill();
    std::fs::remove_file(pipe).unwrap();
    site.start();
    assert_eq!(site.until_started(), "stored");
    assert_eq!(site.judges(), "default");
}

/// Bundles of every kind: those that come into force, and those that are refused.
const INTACT: [&str; 4] = ["good", "untrained", "default", "slow"];
const REFUSED: [&str; 4] = ["damaged", "missing", "wrong", "cut"];

/// A ViT-B/16 that was never trained, as `faprompt-train` makes it: loading it takes many times as long.
fn slow_bundle(site: &Site) {
    let run = |args: &[&str]| {
        let mut train = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
        let status = train.args(args).current_dir(site.folder.path());
        assert!(
            status.stdout(Stdio::null()).status().unwrap().success(),
            "{args:?}"
        );
    };
    run(&["random", "--model", "ViT-B-16", "--out", "b16"]);
    run(&[
        "export",
        "--clip",
        "b16/clip.safetensors",
        "--prompts",
        "b16/prompts.safetensors",
        "--untrained",
        "--precision",
        "int8",
        "--out",
        "slow",
    ]);
    std::fs::remove_dir_all(site.at("b16")).unwrap();
}

/// Where a cut fell.
#[derive(Debug, Default)]
struct Cuts {
    /// Before anything was stored.
    preparing: u32,
    /// While it was being written.
    storing: u32,
    /// It was stored, and not answered.
    swapping: u32,
    answered: u32,
}

/// Power cuts at random moments of COMMITs of bundles of every kind. Each next start serves its port soon and
/// runs the old or the new loadout, never one that was refused.
fn cuts(count: u32, soon: Duration, with_slow: bool) {
    let mut site = Site::new();
    let mut random = 12_345u32;
    let mut dice = move |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    if with_slow {
        slow_bundle(&site);
    }
    let intact = &INTACT[..if with_slow { 4 } else { 3 }];
    let (mut slowest, mut changed) = (site.start(), 0);
    let mut old = String::from("default");
    site.until_started();
    // How long each kind takes from the COMMIT to its answer.
    let mut takes = std::collections::HashMap::new();
    for kind in REFUSED.iter().chain(intact) {
        site.set(kind);
        let start = Instant::now();
        site.ask("COMMIT");
        takes.insert(*kind, start.elapsed());
        site.ask("REVERT");
    }
    site.set("default");
    site.ask("COMMIT");
    let (mut where_it_fell, mut last) = (Cuts::default(), "default");
    for cut in 0..count {
        // Two of three come into force; every second of these falls to the moments about the store.
        let new = loop {
            let new = match dice(3) {
                0 => REFUSED[dice(4) as usize],
                _ => intact[dice(intact.len() as u32) as usize],
            };
            if new != last {
                break new;
            }
        };
        site.set(new);
        site.asked += 1;
        let number = site.asked % 60_000;
        site.cable.send(format!("#{number} COMMIT\r").as_bytes());
        let sent = Instant::now();
        let written = site.state.join("memory.new");
        let memory = site.state.join("memory");
        let stored_at = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
        let before = stored_at(&memory);
        let window = takes[new] * 3 / 2;
        if intact.contains(&new) && dice(2) == 0 {
            let soon = Duration::from_micros(u64::from(dice(6_000)));
            while !written.exists() && stored_at(&memory) == before && sent.elapsed() < window * 8 {
                std::hint::spin_loop();
            }
            std::thread::sleep(soon);
        } else {
            std::thread::sleep(window.mul_f64(f64::from(dice(1000)) / 1000.0));
        }
        let mut child = site.process.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        site.cable.receive();
        let answered = take(&mut site.cable, &format!("#{number} ")).is_some();
        site.cable.received.clear();
        let half = written.exists();
        slowest = slowest.max(site.start());
        assert!(slowest < soon, "cut {cut}, {new}: {slowest:?}");
        assert_eq!(
            site.until_started(),
            "stored",
            "cut {cut}, {new}: {}",
            site.said()
        );
        let judges = site.judges();
        assert!(
            intact.contains(&judges.as_str()) && (judges == old || judges == new),
            "cut {cut}: {judges} after {new}, was {old}"
        );
        let is_new = judges == new;
        assert!(
            is_new || !answered || REFUSED.contains(&new),
            "cut {cut}: answered and lost"
        );
        *match (answered, is_new, half) {
            (true, ..) => &mut where_it_fell.answered,
            (false, true, _) => &mut where_it_fell.swapping,
            (false, false, true) => &mut where_it_fell.storing,
            (false, false, false) => &mut where_it_fell.preparing,
        } += 1;
        changed += u32::from(judges != old);
        if is_new {
            last = new;
        }
        old = judges;
    }
    println!(
        "{count} cuts: {changed} times the new one, slowest start to an answer {slowest:?}; they fell: \
         {where_it_fell:?}; a COMMIT took {takes:?}"
    );
}

#[test]
fn a_commit_that_is_cut_off_leaves_the_old_or_the_new_one() {
    cuts(10, Duration::from_secs(20), false);
}

/// `make cuts`, some minutes.
#[test]
#[ignore = "200 starts: some minutes"]
fn two_hundred_commits_that_are_cut_off() {
    cuts(200, Duration::from_secs(2), true);
}

/// A place on this machine that nobody serves yet.
#[cfg(feature = "web")]
fn free_address() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    port.local_addr().unwrap().to_string()
}

/// Reads sixteen input registers; how long the answer took.
#[cfg(feature = "web")]
fn ask_modbus(port: &mut (impl Read + Write), request: &[u8], answer: usize) -> f64 {
    let start = Instant::now();
    port.write_all(request).unwrap();
    let mut bytes = vec![0; answer];
    port.read_exact(&mut bytes).unwrap();
    let took = start.elapsed().as_secs_f64() * 1e3;
    // Thirty-two bytes of registers, whatever stands around them.
    assert!(bytes.windows(2).any(|w| w == [4, 32]), "{bytes:x?}");
    // A frame ends with silence.
    std::thread::sleep(Duration::from_millis(4));
    took
}

/// Rounds of a COMMIT of a ViT-B/16, with the small bundle put back in between.
const ROUNDS: usize = 5;

/// Meanwhile whoever asks at another port is answered. How soon is printed: milliseconds from the question to the
/// whole answer, over Modbus on a serial cable (where a frame ends with silence), Modbus TCP and the page's state.
#[cfg(feature = "web")]
#[test]
#[ignore = "makes a ViT-B/16"]
fn while_a_large_network_is_made_ready_others_are_answered() {
    let mut site = Site::new();
    slow_bundle(&site);
    site.modbus = Some(wire::Wire::new(site.folder.path()));
    let (tcp, page) = (free_address(), free_address());
    let options = ["--modbus-tcp", &tcp, "--web", &page];
    site.options = options.map(String::from).into();
    site.start();
    site.until_started();
    let port = &site.modbus.as_ref().unwrap().client;
    let mut port = serialport::new(port.to_string_lossy(), 19_200)
        .timeout(Duration::from_secs(20))
        .open()
        .unwrap();
    let mut tcp = std::net::TcpStream::connect(tcp).unwrap();
    tcp.set_nodelay(true).unwrap();
    let page = format!("http://{page}/api/state");
    let agent = ureq::Agent::new_with_defaults();
    let serial = frame::sealed(&[1, 4, 0, 0, 0, 16]).unwrap();
    let network = [0, 1, 0, 0, 0, 6, 1, 4, 0, 0, 0, 16];
    let mut ask = || {
        let state = || {
            let start = Instant::now();
            let mut answer = agent.get(&page).call().unwrap();
            let state: Value = answer.body_mut().read_json().unwrap();
            assert!(state["mode"].is_string(), "{state}");
            start.elapsed().as_secs_f64() * 1e3
        };
        [
            ask_modbus(&mut port, &serial, 37),
            ask_modbus(&mut tcp, &network, 41),
            state(),
        ]
    };
    let names = ["Modbus, cable", "Modbus TCP", "page's state"];
    let show = |when: &str, times: &[[f64; 3]]| {
        for (way, name) in names.iter().enumerate() {
            let mut times: Vec<f64> = times.iter().map(|t| t[way]).collect();
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            println!(
                "{when}, {name}: {} answers, median {:.1} ms, 99 % {:.1} ms, longest {:.1} ms",
                times.len(),
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
    };
    let quiet: Vec<_> = (0..200).map(|_| ask()).collect();
    show("before", &quiet);
    for round in 1..=ROUNDS {
        site.set("slow");
        site.asked += 1;
        let number = site.asked % 60_000;
        site.cable.send(format!("#{number} COMMIT\r").as_bytes());
        let (start, mut meanwhile) = (Instant::now(), vec![]);
        while take(&mut site.cable, &format!("#{number} OK,COMMIT,1")).is_none() {
            meanwhile.push(ask());
            site.cable.receive();
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "{}",
                site.said()
            );
        }
        let took = start.elapsed().as_secs_f64();
        assert_eq!(site.judges(), "slow");
        // A small network takes a moment, and a large one many questions.
        assert!(meanwhile.len() > 10, "{} were answered", meanwhile.len());
        show(&format!("round {round}, {took:.1} s"), &meanwhile);
        site.set("default");
        assert!(site.ask("COMMIT").starts_with("OK,COMMIT,1"));
    }
}

impl Site {
    /// Teaches so many parts, until it waits to be accepted.
    fn teach(&mut self, parts: u32) {
        let answer = self.ask(&format!("TEACH {parts}"));
        assert!(answer.starts_with("OK,TEACH,running,"), "{answer}");
        let done = format!("done:{parts}/{parts}");
        self.until("taught", |s| s.status("teach") == done);
    }

    /// A part that was judged from now on, beside good parts.
    fn judged(&mut self) -> u64 {
        let before = self.verdicts().len();
        let found = |s: &Site| {
            let new = s.verdicts().split_off(before);
            let part = new.iter().find(|v| v["memory"].is_number());
            part.and_then(|v| v["part"].as_u64())
        };
        self.until("a part", |s| found(s).is_some());
        found(self).unwrap()
    }

    /// The files of good parts in its folder.
    fn goods(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.state).unwrap();
        let paths = files.map(|f| f.unwrap().path());
        let named = |p: &PathBuf| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("taught-")
        };
        paths.filter(named).collect()
    }

    fn has_alarm(&mut self, number: u32) -> bool {
        self.status("alarms").parse::<u32>().unwrap() & 1 << number != 0
    }

    /// The line of ALARMS about a latched alarm.
    fn alarm(&mut self, number: u32) -> String {
        let answer = self.ask("ALARMS");
        assert!(answer.contains(",lines="), "{answer}");
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            self.cable.receive();
            if let Some(line) = take(&mut self.cable, &format!("ALARMS,{number},")) {
                return line;
            }
            assert!(Instant::now() < until, "{}", self.said());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_station_is_taught_while_it_runs_and_knows_it_after_a_power_cut() {
    let mut site = Site::new();
    site.start();
    site.until_started();
    site.until_running();
    assert_eq!(site.status("taught"), "none");
    let before = site.verdicts().len();
    site.teach(12);
    assert!(site.goods().is_empty(), "nothing is accepted yet");
    let answer = site.ask("TEACH");
    assert!(
        answer.contains(",memory=") && answer.contains(",bound="),
        "{answer}"
    );
    let answer = site.ask("TEACH ACCEPT");
    assert!(
        answer.starts_with("OK,TEACH,accepted,parts=12,threshold=0.5000"),
        "{answer}"
    );
    assert_eq!(
        (site.status("taught"), site.status("teach")),
        ("12".into(), "none".into())
    );
    assert_eq!(site.goods().len(), 1);
    // Both parts of a score are reported.
    let accepted = site.verdicts().len();
    site.until("20 parts more", |s| s.verdicts().len() > accepted + 20);
    let verdicts = site.verdicts();
    assert!(verdicts[before].get("memory").is_none());
    let has_both = |v: &&Value| v["memory"].is_number() && v["zero_shot"].is_number();
    assert!(verdicts[accepted..].iter().filter(has_both).count() > 10);
    let last = site.ask("LAST");
    assert!(
        last.contains(",zero_shot=0.") && last.contains(",memory="),
        "{last}"
    );
    // A part that was judged, said to be good.
    let part = verdicts.iter().rev().find(has_both).unwrap()["part"]
        .as_u64()
        .unwrap();
    let answer = site.ask(&format!("TEACH GOOD {part}"));
    assert!(answer.starts_with("OK,TEACH,"), "{answer}");
    site.until("added", |s| s.status("teach") == "done:13/13");
    // What somebody said is not lost with the power, nor what is known to be bad.
    let shown = |s: &mut Site| {
        let answer = s.ask("TEACH");
        answer
            .split_once(",memory=")
            .map(|(_, came)| came.to_string())
    };
    let added = shown(&mut site);
    site.kill();
    site.start();
    assert_eq!(site.until_started(), "stored");
    assert_eq!(site.status("taught"), "12");
    site.until("as before", |s| shown(s) == added);
    let part = site.judged();
    let answer = site.ask(&format!("TEACH BAD {part}"));
    assert!(answer.starts_with("OK,TEACH,"), "{answer}");
    site.until("a test piece", |s| {
        shown(s).is_some_and(|now| Some(now) != added)
    });
    let with_piece = shown(&mut site);
    site.kill();
    site.start();
    assert_eq!(site.until_started(), "stored");
    site.until("as before", |s| shown(s) == with_piece);
    let waiting = site.state.join("lesson-1");
    assert!(waiting.exists());
    site.ask("TEACH CANCEL");
    site.until("taken away", |_| !waiting.exists());
    site.kill();
    site.start();
    assert_eq!(site.until_started(), "stored");
    let part = site.judged();
    assert_eq!(
        (site.status("taught"), site.status("teach")),
        ("12".into(), "none".into())
    );
    let answer = site.ask(&format!("TEACH GOOD {part}"));
    assert!(answer.starts_with("OK,TEACH,"), "{answer}");
    site.until("added", |s| s.status("teach") == "done:13/13");
    let answer = site.ask("TEACH ACCEPT");
    assert!(
        answer.starts_with("OK,TEACH,accepted,parts=13,"),
        "{answer}"
    );
    assert_eq!(site.goods().len(), 1, "the old one is gone");
    site.kill();
    site.start();
    assert_eq!(site.until_started(), "stored");
    assert_eq!(site.status("taught"), "13");
    // A bundle that sees good parts otherwise is refused, and nothing of it is stored.
    site.set("f32");
    let answer = site.ask("COMMIT");
    assert!(answer.starts_with("ER,COMMIT,602,"), "{answer}");
    assert_eq!(
        (site.judges(), site.status("taught")),
        ("default".into(), "13".into())
    );
    site.ask("REVERT");
    // So are other tiles and other regions: good parts were seen otherwise there.
    let regions = site.at("regions.toml");
    let left = "[[region]]\nname = \"left\"\nrectangle = [0, 0, 0.5, 1]\n";
    std::fs::write(&regions, left).unwrap();
    let regions = format!("SET regions \"{}\"", regions.display());
    for other in ["SET tile_columns 2", &regions] {
        assert!(site.ask(other).starts_with("OK,"), "{other}");
        let answer = site.ask("COMMIT");
        assert!(answer.starts_with("ER,COMMIT,602,"), "{other}: {answer}");
        site.ask("REVERT");
        assert_eq!(site.status("taught"), "13", "{other}");
    }
    site.set("f32");
    // Without what was taught it is taken.
    site.ask("SET taught \"\"");
    assert!(
        site.ask("COMMIT").starts_with("OK,COMMIT,2,"),
        "{}",
        site.said()
    );
    assert_eq!(
        (site.judges(), site.status("taught")),
        ("f32".into(), "none".into())
    );
}

/// Missing, damaged, or of another encoder: the line stops and says so, the ports are there, and nothing is compared
/// with anything else.
#[test]
fn what_was_taught_and_cannot_be_used_stops_the_line_until_somebody_decides() {
    let mut site = Site::new();
    site.start();
    site.until_started();
    site.until_running();
    site.teach(8);
    assert!(site.ask("TEACH ACCEPT").starts_with("OK,"));
    site.kill();
    let file = site.goods().remove(0);
    let whole = std::fs::read(&file).unwrap();
    for what in ["missing", "damaged", "cut", "of another arithmetic"] {
        match what {
            "missing" => std::fs::remove_file(&file).unwrap(),
            "damaged" => {
                let mut bytes = whole.clone();
                let at = bytes.len() / 2;
                bytes[at] ^= 1;
                std::fs::write(&file, bytes).unwrap();
            }
            "cut" => std::fs::write(&file, &whole[..whole.len() / 2]).unwrap(),
            _ => {
                std::fs::write(&file, &whole).unwrap();
                std::fs::rename(site.at("default"), site.at("int8")).unwrap();
                std::fs::copy(site.at("f32"), site.at("default")).unwrap();
            }
        }
        site.start();
        assert_eq!(site.until_started(), "none", "{what}");
        site.until("stopped", |s| s.status("mode") == "stopped");
        assert_eq!(site.status("taught"), "unusable", "{what}");
        assert!(site.has_alarm(18) && !site.has_alarm(14), "{what}");
        assert_eq!(site.alarm(18), "ALARMS,18,taught,stop", "{what}");
        assert_eq!(
            (site.status("line_stop"), site.status("fault")),
            ("1".into(), "1".into())
        );
        site.ask("ACK");
        assert_eq!(site.status("line_stop"), "1", "{what}: nothing judges yet");
        let answer = site.ask("TEACH 5");
        assert!(answer.starts_with("ER,TEACH,300,"), "{answer}");
        site.kill();
    }
    // By choice FAPrompt judges alone, and the alarm stays.
    site.start();
    site.until_started();
    site.ask("SET taught_unusable zero_shot");
    let answer = site.ask("COMMIT");
    assert!(
        answer.starts_with("OK,COMMIT,1,"),
        "{answer}; {}",
        site.said()
    );
    assert_eq!(site.status("network"), "zero_shot");
    site.ask("ACK");
    site.until_running();
    assert_eq!(site.alarm(18), "ALARMS,18,taught,tell");
    site.kill();
    site.start();
    assert_eq!(site.until_started(), "zero_shot");
    // Taught again.
    site.until_running();
    site.teach(8);
    let answer = site.ask("TEACH ACCEPT");
    assert!(
        answer.starts_with("OK,TEACH,accepted,parts=8,"),
        "{answer}; {}",
        site.said()
    );
    assert_eq!(
        (site.status("network"), site.status("taught")),
        ("stored".into(), "8".into())
    );
    site.ask("ACK");
    assert!(!site.has_alarm(18));
}

/// A recipe that is not in use and lost a file: it can be put right without touching the one in use.
#[test]
fn a_recipe_that_is_not_in_use_is_put_right() {
    let mut site = Site::new();
    site.start();
    site.until_started();
    site.until_running();
    site.teach(6);
    assert!(site.ask("TEACH ACCEPT").starts_with("OK,"));
    assert_eq!(site.ask("RECIPE 2"), "OK,RECIPE,2,");
    std::fs::remove_file(site.goods().remove(0)).unwrap();

    // What it was taught: it is in use, and the line stands, as after a start.
    assert_eq!(site.ask("RECIPE 1"), "OK,RECIPE,1,,taught=unusable");
    let stands = |site: &mut Site| {
        site.until("stopped", |s| s.status("mode") == "stopped");
        assert_eq!(site.status("network"), "none");
        assert_eq!(site.status("taught"), "unusable");
        assert!(site.has_alarm(18) && !site.has_alarm(14));
        site.ask("ACK");
        assert_eq!(site.status("line_stop"), "1", "nothing judges yet");
    };
    stands(&mut site);
    assert_eq!(
        site.ask("SET pulse_width_ms 41"),
        "OK,SET,pulse_width_ms,41"
    );
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    stands(&mut site);
    site.kill();
    site.start();
    assert_eq!(site.until_started(), "none");
    stands(&mut site);
    // The other recipe judges as before; and back.
    assert_eq!(site.ask("RECIPE 2"), "OK,RECIPE,2,");
    site.ask("ACK");
    site.until_running();
    assert_eq!(site.status("network"), "stored");
    assert_eq!(site.ask("RECIPE 1"), "OK,RECIPE,1,,taught=unusable");
    stands(&mut site);
    site.ask("SET taught \"\"");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    assert_eq!(
        (site.status("network"), site.status("taught")),
        ("stored".into(), "none".into())
    );
    site.ask("ACK");
    site.until_running();
    assert!(!site.has_alarm(18));

    // Its bundle: it is refused, and the station goes on; a file of two lines gives it another one.
    assert_eq!(site.ask("RECIPE 3"), "OK,RECIPE,3,");
    site.set("good");
    assert!(site.ask("COMMIT").starts_with("OK,COMMIT,1"));
    assert!(site.ask("RECIPE 1").starts_with("OK,RECIPE,1"));
    std::fs::remove_file(site.at("good")).unwrap();
    let answer = site.ask("RECIPE 3");
    assert!(answer.starts_with("ER,RECIPE,600,"), "{answer}");
    assert!(
        answer.ends_with("restore a [recipe.3] with another"),
        "{answer}"
    );
    assert_eq!(
        (site.status("recipe"), site.status("network")),
        ("1".into(), "stored".into())
    );
    site.stop();
    std::fs::write(site.at("mend.toml"), "[recipe.3]\nbundle = \"\"\n").unwrap();
    let mut restore = Command::new(EDGE);
    restore.arg("restore").arg(site.at("mend.toml"));
    restore.arg("--state").arg(&site.state);
    assert!(restore.status().unwrap().success());
    site.start();
    site.until_started();
    assert_eq!(site.ask("RECIPE 3"), "OK,RECIPE,3,");
    assert_eq!(site.judges(), "default");
    assert_eq!(site.status("network"), "stored");
}

/// The bundle here tells no types apart: what is set for one would decide nothing. A start only warns of it.
#[test]
fn a_type_that_the_bundle_does_not_have_is_refused() {
    let mut site = Site::new();
    site.options = vec!["--set".into(), "lanes=dent=1".into()];
    site.start();
    assert_eq!(site.until_started(), "stored");
    let warning = "lanes: the bundle has no type `dent`";
    assert!(site.said().contains(warning), "{}", site.said());
    // What was there before hinders no other change.
    site.ask("SET pulse_width_ms 41");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    site.ask("SET lanes \"\"");
    site.ask("SET type_thresholds \"scratch=0.35\"");
    let refused = "ER,COMMIT,205,type_thresholds: the bundle has no type scratch; its types: none";
    assert_eq!(site.ask("COMMIT"), refused);
    // Neither with another bundle of that kind, which is made ready first.
    site.set("good");
    assert_eq!(site.ask("COMMIT"), refused);
    assert_eq!(
        (site.judges(), site.status("network")),
        ("default".into(), "stored".into())
    );
    site.ask("SET type_thresholds \"\"");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,2,belt is cleared");
    assert_eq!(site.judges(), "good");
}

/// A threshold above which no score lies is refused by COMMIT; one that is stored is said in the log, and can be changed.
#[test]
fn a_stored_threshold_of_one_is_only_warned_of() {
    let mut site = Site::new();
    std::fs::write(site.at("old.toml"), "[recipe.1]\nthreshold = 1.0\n").unwrap();
    let mut restore = Command::new(EDGE);
    restore.arg("restore").arg(site.at("old.toml"));
    restore.arg("--state").arg(&site.state);
    assert!(restore.status().unwrap().success());
    site.start();
    assert_eq!(site.until_started(), "stored");
    let warning = "threshold is 1: no part is ever rejected by it";
    assert!(site.said().contains(warning), "{}", site.said());
    site.ask("SET pulse_width_ms 41");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,belt is cleared");
    site.ask("SET threshold 0.9999");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,next part");
    site.ask("SET threshold 1");
    let answer = site.ask("COMMIT");
    assert!(answer.starts_with("ER,COMMIT,202,threshold: "), "{answer}");
}

/// Whoever draws them too lax, or too small, is told; and a file of them that is gone is no reason to look elsewhere.
#[test]
fn regions_that_would_let_parts_pass_are_refused_and_lost_ones_stop_the_line() {
    let mut site = Site::new();
    site.start();
    site.until_started();
    let mut number = 0;
    let mut set = |site: &mut Site, regions: &[(&str, f32)]| {
        number += 1;
        let path = site.at(&format!("regions-{number}.toml"));
        let text = regions.iter().zip(1..).map(|((rectangle, offset), n)| {
            format!("[[region]]\nname = \"{n}\"\nrectangle = {rectangle}\noffset = {offset}\n")
        });
        std::fs::write(&path, text.collect::<String>()).unwrap();
        let answer = site.ask(&format!("SET regions \"{}\"", path.display()));
        assert!(answer.starts_with("OK,SET,regions,"), "{answer}");
        path
    };
    let refused = |site: &mut Site, why: &str| {
        let answer = site.ask("COMMIT");
        assert!(
            answer.starts_with("ER,COMMIT,600,regions: ") && answer.contains(why),
            "{answer}"
        );
        site.ask("REVERT");
    };
    set(&mut site, &[("[0, 0, 1, 1]", 1.0)]);
    refused(&mut site, "no part would ever be rejected there");
    set(
        &mut site,
        &[("[0, 0, 0.5, 1]", 0.0), ("[0.6, 0.6, 0.601, 0.601]", -0.5)],
    );
    refused(&mut site, "the system's log says why");
    assert!(
        site.said().contains("region 2 (`2`) decides nothing"),
        "{}",
        site.said()
    );
    let file = set(&mut site, &[("[0, 0, 1, 1]", 0.1)]);
    assert!(
        site.ask("COMMIT").starts_with("OK,COMMIT,1,"),
        "{}",
        site.said()
    );
    site.ask("SET threshold 0.95");
    refused(&mut site, "no part would ever be rejected there");
    site.ask("SET threshold 0.8");
    assert_eq!(site.ask("COMMIT"), "OK,COMMIT,1,next part");
    site.kill();

    // What judged before looked elsewhere: the line stands.
    let away = site.at("away.toml");
    std::fs::rename(&file, &away).unwrap();
    site.start();
    assert_eq!(site.until_started(), "none");
    site.until("stopped", |s| s.status("mode") == "stopped");
    assert!(site.ask("ACK").starts_with("OK,ACK,"));
    assert_eq!(site.status("line_stop"), "1");
    assert!(site.has_alarm(14));
    site.kill();
    std::fs::rename(&away, &file).unwrap();
    site.start();
    assert_eq!(site.until_started(), "stored");
    site.kill();
    std::fs::remove_file(&file).unwrap();
    site.start();
    assert_eq!(site.until_started(), "none");
    site.ask("SET regions \"\"");
    assert!(
        site.ask("COMMIT").starts_with("OK,COMMIT,1,"),
        "{}",
        site.said()
    );
    assert!(site.ask("ACK").starts_with("OK,ACK,"));
    site.until_running();
    assert_eq!(site.status("network"), "stored");
}

#[test]
fn what_cannot_be_written_is_not_accepted() {
    let mut site = Site::new();
    site.state = "/sys/faprompt-edge/state".into();
    site.start();
    site.until_started();
    site.until_running();
    site.teach(6);
    let answer = site.ask("TEACH ACCEPT");
    assert!(answer.starts_with("ER,TEACH,601,"), "{answer}");
    assert_eq!(
        (site.status("taught"), site.status("teach")),
        ("none".into(), "done:6/6".into())
    );
    assert_eq!(site.status("mode"), "running");
}

/// Power cuts at random moments of accepting: each next start judges by the old parts or by the new ones.
#[test]
fn an_acceptance_that_is_cut_off_leaves_the_old_or_the_new_good_parts() {
    let mut site = Site::new();
    let mut random = 4_321u32;
    let mut dice = move |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    site.start();
    site.until_started();
    let (mut old, mut changed) = (String::from("none"), 0);
    for cut in 0..8 {
        site.until_running();
        let parts = 5 + cut;
        site.teach(parts);
        site.cable.send(b"TEACH ACCEPT\r");
        std::thread::sleep(Duration::from_micros(u64::from(dice(60_000))));
        site.kill();
        site.start();
        assert_eq!(site.until_started(), "stored", "cut {cut}: {}", site.said());
        let taught = site.status("taught");
        // What was not accepted still waits.
        if taught == old {
            let waits = format!("done:{parts}/{parts}");
            site.until("waits", |s| s.status("teach") == waits);
            site.ask("TEACH CANCEL");
        }
        assert_eq!(site.status("teach"), "none", "cut {cut}");
        assert!(
            taught == old || taught == parts.to_string(),
            "cut {cut}: {taught} after {parts}, was {old}"
        );
        assert!(site.goods().len() <= 1, "nothing is left over");
        changed += u32::from(taught != old);
        old = taught;
    }
    println!("8 cuts: {changed} times the new ones");
}
