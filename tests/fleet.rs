//! `faprompt-train fleet` against real stations on loopback.

mod common;

use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::control::password;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use ureq::tls::{Certificate, TlsConfig};

const EDGE: &str = env!("CARGO_BIN_EXE_faprompt-edge");
const TRAIN: &str = env!("CARGO_BIN_EXE_faprompt-train");
const PASSWORD: &str = "maker";

/// A simulated station with its page, and an engineer's password.
struct Station {
    child: Child,
    url: String,
    agent: ureq::Agent,
    state: PathBuf,
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Station {
    fn start(folder: &Path, name: &str, bundle: &Path, more: &[&str]) -> Station {
        let (folder, state) = (folder.join(name), folder.join(name).join("state"));
        fs::create_dir_all(&folder).unwrap();
        let hash = password::hash(PASSWORD).unwrap();
        let first = folder.join("first.toml");
        let text = format!(
            "[station]\nstation_name = \"{name}\"\nengineer_password = \"{hash}\"\nalarm_stop = 0\n"
        );
        fs::write(&first, text).unwrap();
        let mut restore = Command::new(EDGE);
        restore
            .arg("restore")
            .arg(&first)
            .arg("--state")
            .arg(&state);
        assert!(restore.stdout(Stdio::null()).status().unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let mut command = Command::new(EDGE);
        command.args([
            "run", "--board", "sim", "--source", "pattern", "--rate", "5",
        ]);
        command.args([
            "--frames",
            "100000",
            "--quiet",
            "--web",
            &address.to_string(),
        ]);
        command.args(more).arg("--bundle").arg(bundle);
        command.arg("--out").arg(folder.join("out"));
        command.arg("--state").arg(&state);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let scheme = match more.contains(&"--web-tls") {
            true => "https",
            false => "http",
        };
        let tls = TlsConfig::builder().disable_verification(true).build();
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        Station {
            child,
            url: format!("{scheme}://{address}"),
            agent: config.tls_config(tls).build().into(),
            state,
        }
    }

    fn until(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            if let Ok(mut answer) = self.agent.get(format!("{}/api/state", self.url)).call() {
                let state: Value = answer.body_mut().read_json().unwrap();
                if done(&state) {
                    return state;
                }
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ready(&self) -> Value {
        // The network of the test data rejects all of them: alarm 1 after three.
        self.until("parts", |s| s["alarms"][0]["number"] == 1)
    }

    fn fingerprint(&self) -> String {
        let pem = fs::read(self.state.join("tls/certificate.pem")).unwrap();
        let digest = Sha256::digest(Certificate::from_pem(&pem).unwrap().der());
        let bytes: Vec<String> = digest.iter().map(|b| format!("{b:02X}")).collect();
        bytes.join(":")
    }

    fn log_in(&self) -> Session<'_> {
        let body = json!({"level": "engineer", "password": PASSWORD});
        let start = Instant::now();
        loop {
            let request = self.agent.post(format!("{}/api/login", self.url));
            let mut answer = request.send_json(&body).unwrap();
            let granted: Value = answer.body_mut().read_json().unwrap();
            if let Some(token) = granted["token"].as_str() {
                let token = format!("Bearer {token}");
                return Session {
                    station: self,
                    token,
                };
            }
            // One password a second.
            assert!(start.elapsed() < Duration::from_secs(20), "{granted}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

struct Session<'a> {
    station: &'a Station,
    token: String,
}

impl Session<'_> {
    /// The first line of the answer to a line of the command set.
    fn command(&self, line: &str) -> String {
        let request = self
            .station
            .agent
            .post(format!("{}/api/command", self.station.url));
        let request = request.header("Authorization", &self.token);
        let mut answer = request.send_json(json!({"line": line})).unwrap();
        let answer: Value = answer.body_mut().read_json().unwrap();
        answer["lines"][0].as_str().unwrap_or_default().to_string()
    }

    fn ok(&self, line: &str) {
        let answer = self.command(line);
        assert!(answer.starts_with("OK"), "{line}: {answer}");
    }

    fn text(&self, path: &str) -> String {
        let request = self
            .station
            .agent
            .get(format!("{}{path}", self.station.url));
        let request = request.header("Authorization", &self.token);
        let mut answer = request.call().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.body_mut().read_to_string().unwrap()
    }

    /// Parameters and recipes as the station keeps them.
    fn settings(&self) -> toml::Table {
        self.text("/api/backup").parse().unwrap()
    }

    fn teach(&self, parts: usize) {
        self.ok(&format!("TEACH {parts}"));
        let start = Instant::now();
        while serde_json::from_str::<Value>(&self.text("/api/lesson")).unwrap()["state"] != "done" {
            assert!(start.elapsed() < Duration::from_secs(60), "a lesson");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.ok("TEACH ACCEPT");
    }
}

/// The file of stations, and where it lies.
struct Fleet {
    folder: TempDir,
    text: String,
}

impl Fleet {
    fn new() -> Fleet {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("right"), format!("{PASSWORD}\n")).unwrap();
        fs::write(folder.path().join("wrong"), "guess\n").unwrap();
        let text = String::new();
        Fleet { folder, text }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn add(&mut self, name: &str, url: &str, more: &str) {
        self.text += &format!("[[station]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n\n");
    }

    /// Exit code, standard output, standard error.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let file = self.path().join("fleet.toml");
        fs::write(&file, &self.text).unwrap();
        let mut command = Command::new(TRAIN);
        command.arg("fleet").arg(&file).args(words);
        let output = command.env("STATION_PASSWORD", PASSWORD).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

const RIGHT: &str = "password_file = \"right\"";

/// Passes bytes on to a station, but cuts the answer to a request for a backup in its middle.
fn cutting(url: &str) -> String {
    let station = url.strip_prefix("http://").unwrap().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pass = |mut from: TcpStream, mut to: TcpStream, cut: Arc<AtomicBool>, asks: bool| {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if asks && bytes[..count].starts_with(b"GET /api/backup") {
                cut.store(true, Ordering::SeqCst);
            }
            let half = !asks && cut.load(Ordering::SeqCst);
            let count = if half { count / 2 } else { count };
            if to.write_all(&bytes[..count]).is_err() || half {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    };
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let there = TcpStream::connect(&station).unwrap();
            let (client2, there2) = (client.try_clone().unwrap(), there.try_clone().unwrap());
            let cut = Arc::new(AtomicBool::new(false));
            let same = cut.clone();
            std::thread::spawn(move || pass(client, there, cut, true));
            std::thread::spawn(move || pass(there2, client2, same, false));
        }
    });
    format!("http://{address}")
}

/// An address where nobody listens.
fn nobody() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", port.local_addr().unwrap())
}

#[test]
fn every_station_is_looked_at_and_backed_up_whatever_becomes_of_the_others() {
    let mut fleet = Fleet::new();
    let (bundle, _) = common::golden_bundle(fleet.path(), Selection::Paper, Precision::Int8);
    let a = Station::start(fleet.path(), "a", &bundle, &["--web-tls"]);
    let b = Station::start(fleet.path(), "b", &bundle, &["--set", "web_view=nothing"]);
    a.ready();
    let print = a.fingerprint();
    let pinned = format!("fingerprint = \"{print}\"\n{RIGHT}");
    fleet.add("pinned", &a.url, &pinned);
    let other = print.replace(&print[..2], if &print[..2] == "00" { "11" } else { "00" });
    fleet.add(
        "other",
        &a.url,
        &format!("fingerprint = \"{other}\"\n{RIGHT}"),
    );
    fleet.add("unknown", &a.url, RIGHT);
    fleet.add("away", &nobody(), RIGHT);
    fleet.add("hidden", &b.url, "password_env = \"STATION_PASSWORD\"");
    fleet.add("wrong", &b.url, "password_file = \"wrong\"");

    // Status.
    let (code, out, error) = fleet.run(&["status"]);
    let rows: Vec<&str> = out.lines().collect();
    // The first one in the file that failed.
    assert_eq!(code, 43, "{out}{error}");
    let head: Vec<&str> = rows[0].split_whitespace().collect();
    assert_eq!(
        head,
        [
            "station",
            "mode",
            "network",
            "recipe",
            "threshold",
            "parts",
            "rejects",
            "version",
            "certificate"
        ]
    );
    let cells: Vec<&str> = rows[1].split_whitespace().collect();
    assert_eq!((cells[0], cells[1]), ("pinned", "running"), "{out}");
    // The network's name has spaces in it.
    let last: Vec<&str> = cells[cells.len() - 6..].to_vec();
    assert_eq!((last[0], last[1]), ("1", "0.5000"), "{out}");
    assert!(last[2].parse::<u64>().unwrap() >= last[3].parse().unwrap());
    assert_eq!((last[4], last[5]), (env!("CARGO_PKG_VERSION"), "pinned"));
    assert!(rows[2].starts_with("  alarm 1: "), "{out}");
    let said = |name: &str| {
        let at = rows
            .iter()
            .position(|r| r.split_whitespace().next() == Some(name));
        rows[at.unwrap() + 1].to_string()
    };
    let differs = format!("fingerprint is {print}, but `fingerprint` says {other}");
    assert!(said("other").contains(&differs), "{out}");
    assert!(
        said("unknown").contains(&format!("write `fingerprint = \"{print}\"`")),
        "{out}"
    );
    assert!(said("away").contains("no connection"), "{out}");
    assert!(
        rows.iter()
            .any(|r| r.starts_with("hidden") && r.contains("running")),
        "{out}"
    );
    assert!(said("wrong").contains("code 402"), "{out}");
    // Plain lines meanwhile, where there is no terminal.
    assert!(
        error.contains("pinned: asking\n") && error.contains("pinned: done\n"),
        "{error}"
    );

    let (code, out, error) = fleet.run(&["status", "--json", "--only", "pinned,away"]);
    assert_eq!(code, 42, "{out}{error}");
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&all[0]["result"], &all[0]["fingerprint"]),
        (&json!("done"), &json!(print))
    );
    assert!(all[0]["parts"].as_u64() > Some(1), "{out}");
    assert_eq!(
        (&all[1]["station"], &all[1]["exit_code"]),
        (&json!("away"), &json!(42))
    );

    // Backups: the certificate decides before a password is sent.
    let cut = cutting(&b.url);
    fleet.add("cut", &cut, RIGHT);
    let to = fleet.path().join("backups");
    let to_text = to.display().to_string();
    fs::create_dir(&to).unwrap();
    fs::write(to.join("cut.backup.toml"), "the last one").unwrap();
    let (code, out, error) = fleet.run(&["backup", "--out", &to_text, "--at-once", "3"]);
    assert_eq!(code, 43, "{out}{error}");
    let mut names: Vec<_> = fs::read_dir(&to)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "cut.backup.toml",
            "hidden.backup.toml",
            "pinned.backup.toml"
        ],
        "{out}"
    );
    assert_eq!(
        fs::read_to_string(to.join("cut.backup.toml")).unwrap(),
        "the last one"
    );
    let file = to.join("pinned.backup.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0);
    let backup: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
    assert_eq!(backup["station"]["station_name"].as_str(), Some("a"));
    for (name, code) in [("other", 43), ("away", 42), ("wrong", 44), ("cut", 42)] {
        let (found, out, error) = fleet.run(&["backup", "--out", &to_text, "--only", name]);
        assert_eq!(found, code, "{name}: {out}{error}");
        assert!(out.starts_with(&format!("{name}  FAILED: ")), "{out}");
    }
    assert_eq!(fs::read_dir(&to).unwrap().count(), 3);
    // What a recipe was taught by a path is in no backup.
    let by_path = "[recipe.9]\ntaught = \"/mnt/nine.taught\"\n";
    let request = b.agent.post(format!("{}/api/restore", b.url));
    let request = request.header("Authorization", &b.log_in().token);
    assert_eq!(request.send(by_path).unwrap().status(), 200);
    let only = ["backup", "--out", &to_text, "--only", "hidden"];
    let (code, out, error) = fleet.run(&only);
    assert!(
        code == 3 && out.contains("/mnt/nine.taught"),
        "{out}{error}"
    );
    let (code, out, _) = fleet.run(&[&only[..], &["--json"]].concat());
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &all[0]["left_out"]),
        (3, &json!(["/mnt/nine.taught"]))
    );

    // What is wrong on this side is said before anybody is asked.
    for (words, code, said) in [
        (
            &["status", "--only", "nobody"][..],
            32,
            "no station is called `nobody`",
        ),
        (&["status", "--at-once", "0"], 2, "--at-once"),
        (&["backup", "--out", "/proc/none"], 5, "/proc/none"),
    ] {
        let (found, out, error) = fleet.run(words);
        assert_eq!(found, code, "{out}{error}");
        assert!(error.contains(said), "{error}");
    }
    fleet.add("forgotten", &b.url, "password_file = \"none\"");
    let (code, _, error) = fleet.run(&["backup", "--out", &to_text]);
    assert_eq!(code, 23, "{error}");
    assert!(
        error.contains("forgotten: password_file: ") && error.contains("none"),
        "{error}"
    );
    fleet.add("a b", &b.url, "");
    let (code, _, error) = fleet.run(&["status"]);
    assert_eq!(code, 23, "{error}");
    assert!(
        error.contains("fleet.toml, line ") && error.contains("`a b` is no name"),
        "{error}"
    );
}

#[test]
fn what_was_taught_is_copied_and_nothing_else() {
    let mut fleet = Fleet::new();
    let (bundle, _) = common::golden_bundle(fleet.path(), Selection::Paper, Precision::Int8);
    let (other, _) = common::golden_bundle(fleet.path(), Selection::Paper, Precision::F32);
    let start =
        |name: &str, bundle: &Path, more: &[&str]| Station::start(fleet.path(), name, bundle, more);
    let a = start("a", &bundle, &[]);
    let b = start("b", &bundle, &["--web-tls", "--set", "reject_delay_ms=900"]);
    let c = start("c", &other, &[]);
    for station in [&a, &b, &c] {
        station.ready();
    }
    fleet.add("a", &a.url, RIGHT);
    fleet.add(
        "b",
        &b.url,
        &format!("fingerprint = \"{}\"\n{RIGHT}", b.fingerprint()),
    );
    fleet.add("c", &c.url, RIGHT);
    fleet.add("wrong", &c.url, "password_file = \"wrong\"");
    let copy = |words: &[&str]| {
        let all = [&["teach-copy", "--from", "a"], words].concat();
        let (code, out, error) = fleet.run(&all);
        (code, format!("{out}{error}"))
    };
    let (on_a, on_b) = (a.log_in(), b.log_in());
    on_b.ok("SET threshold 0.61");
    on_b.ok("COMMIT");
    let before = on_b.settings();

    let (code, said) = copy(&["--to", "b"]);
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains("a: recipe 1 was taught nothing there"),
        "{said}"
    );
    on_a.teach(8);
    let taught = a.until("taught", |s| s["network"]["taught"]["parts"] == 8);

    // The first one fails: nothing else is touched.
    for (canary, code, why) in [
        ("wrong", 44, "code 402"),
        ("c", 26, "its encoder is another one"),
    ] {
        let (found, said) = copy(&["--to", "b,wrong,c", "--canary", canary]);
        assert_eq!(found, code, "{said}");
        assert!(
            said.contains(why) && said.contains("not begun, as one failed: b, "),
            "{said}"
        );
        assert_eq!(on_b.settings(), before);
    }
    // By default it is the first one of --to; those behind it that fail stop nothing that is done.
    let (code, said) = copy(&["--to", "b,c"]);
    assert_eq!(code, 26, "{said}");
    assert!(
        said.contains("b  recipe 1 compares parts with them now"),
        "{said}"
    );
    let state = b.until("taught", |_| true);
    assert_eq!(state["network"]["taught"], taught["network"]["taught"]);
    assert_eq!(state["threshold"], taught["threshold"]);
    // The generator shows both stations the same parts, though not under the same numbers: from now on some scores are
    // the same to the last digit, which those of another memory are not.
    let last = |station: &Station| {
        let state = station.until("a part", |s| s["last"]["part"].is_u64());
        state["last"]["part"].as_u64().unwrap()
    };
    let since = [&a, &b].map(last);
    let scores = |station: &Station, since: u64| -> BTreeSet<u64> {
        let results = station.agent.get(format!("{}/api/results", station.url));
        let results: Vec<Value> = results.call().unwrap().body_mut().read_json().unwrap();
        let later = results.iter().filter(|r| r["part"].as_u64() > Some(since));
        later
            .filter_map(|r| Some((r["score"].as_f64()? * 1e6) as u64))
            .collect()
    };
    let start = Instant::now();
    loop {
        let (one, other) = (scores(&a, since[0]), scores(&b, since[1]));
        if one.intersection(&other).count() >= 3 {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{one:?}\n{other:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    // Nothing else is another one.
    let mut after = on_b.settings();
    let recipe = after["recipe"]["1"].as_table_mut().unwrap();
    assert_eq!(
        recipe["taught"].as_str(),
        taught["network"]["taught"]["name"].as_str()
    );
    recipe.insert("taught".into(), "".into());
    recipe.insert("threshold".into(), 0.61.into());
    after.remove("good_parts");
    assert_eq!(after, before);
    let c_taught = c.until("a state", |_| true)["network"]["taught"].clone();
    assert_eq!(c_taught, Value::Null);

    // A recipe that is not in use there, and one that is another product's.
    let to_recipe_2 = |name: &str| {
        on_b.ok("RECIPE 2");
        on_b.ok(&format!("SET recipe_name \"{name}\""));
        on_b.ok("COMMIT");
    };
    to_recipe_2("cap");
    on_b.ok("RECIPE 1");
    on_b.ok("SET taught \"\"");
    on_b.ok("COMMIT");
    on_b.ok("RECIPE 2");
    let (code, said) = copy(&["--to", "b", "--recipe", "1"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("recipe 1 has them; it is not in use there"),
        "{said}"
    );
    on_b.ok("RECIPE 1");
    b.until("it judges", |s| {
        s["network"]["taught"] == taught["network"]["taught"]
    });
    on_a.ok("RECIPE 2");
    on_a.ok(&format!(
        "SET taught {}",
        taught["network"]["taught"]["name"].as_str().unwrap()
    ));
    on_a.ok("COMMIT");
    let (code, said) = copy(&["--to", "b", "--recipe", "2"]);
    assert_eq!(code, 26, "{said}");
    assert!(
        said.contains("recipe 2 is called `cap` there and `` on a"),
        "{said}"
    );

    // What the station takes and cannot use is taken back: its recipe looks at other regions.
    let regions = fleet.path().join("regions.toml");
    fs::write(
        &regions,
        "[[region]]\nname = \"rim\"\nexclude = true\nrectangle = [0.0, 0.0, 0.2, 0.2]\n",
    )
    .unwrap();
    for line in ["SET taught \"\"", "SET taught_unusable zero_shot"] {
        on_b.ok(line);
    }
    on_b.ok(&format!("SET regions {}", regions.display()));
    on_b.ok("SET threshold 0.71");
    on_b.ok("COMMIT");
    let before = on_b.settings();
    let (code, said) = copy(&["--to", "b", "--recipe", "1"]);
    assert_eq!(code, 26, "{said}");
    assert!(said.contains("recipe 1 is as it was"), "{said}");
    assert_eq!(on_b.settings(), before);

    for (words, said) in [
        (
            &["--to", "b", "--canary", "c"][..],
            "--canary c: it is none",
        ),
        (&["--to", "a"], "--to a: it has"),
        (&["--to", "b", "--recipe", "33"], "recipes are 1 to 32"),
    ] {
        let (code, text) = copy(words);
        assert_eq!(code, 32, "{text}");
        assert!(text.contains(said), "{text}");
    }
}

/// With the system's own ssh, and nodes that cannot be reached. A node itself is flashed by `make flash-check`.
#[test]
fn one_node_is_flashed_first_and_the_others_are_left_alone_if_it_fails() {
    let mut fleet = Fleet::new();
    let (bundle, _) = common::golden_bundle(fleet.path(), Selection::Paper, Precision::Int8);
    let board = match std::env::consts::ARCH {
        "aarch64" => "qemu-virt",
        _ => "generic-x86",
    };
    for name in ["one", "two", "three"] {
        let more = format!("board = \"{board}\"\nssh = \"line@{name}.invalid\"");
        fleet.add(name, "https://192.0.2.1:8443", &more);
    }
    let bundle = bundle.display().to_string();
    let flash = |fleet: &Fleet, more: &[&str]| {
        let words = ["flash", "--bundle", &bundle, "--program", EDGE];
        let (code, out, error) = fleet.run(&[&words[..], more].concat());
        (code, format!("{out}{error}"))
    };
    let (code, said) = flash(&fleet, &["--canary", "two"]);
    assert_eq!(code, 36, "{said}");
    assert!(
        said.contains("two    FAILED: line@two.invalid: no connection"),
        "{said}"
    );
    assert!(
        said.contains("not begun, as one failed: one, three"),
        "{said}"
    );
    assert!(
        !said.contains("one.invalid") && !said.contains("three.invalid"),
        "{said}"
    );

    let (code, said) = flash(&fleet, &["--dry-run", "--only", "one,three"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("one, first and alone: release ") && said.contains("three: release "),
        "{said}"
    );
    assert!(
        said.contains("ssh line@three.invalid -- sudo -n faprompt-edge slot install"),
        "{said}"
    );

    let (code, said) = flash(&fleet, &["--sign", "/nowhere/key"]);
    assert_eq!(code, 36, "{said}");
    assert!(said.contains("/nowhere/key"), "{said}");
    fleet.add(
        "four",
        "https://192.0.2.4:8443",
        "ssh = \"line@four.invalid\"",
    );
    let (code, said) = flash(&fleet, &[]);
    assert_eq!(code, 23, "{said}");
    assert!(
        said.contains("four: board: missing") && !said.contains("one.invalid"),
        "{said}"
    );
}
