//! The station's page, over a real socket, with a real client.

#![cfg(feature = "web")]

#[path = "wire/mod.rs"]
#[allow(dead_code)]
mod wire;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// A simulated station that shows its page.
struct Station {
    program: Command,
    child: Child,
    url: String,
    agent: ureq::Agent,
    folder: TempDir,
    wire: wire::Wire,
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Station {
    fn start() -> Station {
        Station::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Station {
        Station::at("127.0.0.1", more)
    }

    /// At a free port of this address, with more options.
    fn at(host: &str, more: &[&str]) -> Station {
        let folder = tempfile::tempdir().unwrap();
        let wire = wire::Wire::new(folder.path());
        let port = std::net::TcpListener::bind((host, 0)).unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"));
        // Slow enough for a machine that compiles meanwhile: a line that cannot keep up stops.
        command.args([
            "run", "--board", "sim", "--source", "pattern", "--rate", "10",
        ]);
        command.args([
            "--frames",
            "100000",
            "--quiet",
            "--web",
            &address.to_string(),
        ]);
        command.args(more);
        command.arg("--out").arg(folder.path().join("out"));
        command.arg("--state").arg(folder.path().join("state"));
        command.arg("--serial").arg(&wire.station);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let program = command;
        let tls = more.contains(&"--web-tls");
        let roots = match tls {
            true => made(&folder.path().join("state/tls/certificate.pem")),
            false => RootCerts::PlatformVerifier,
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        let scheme = if tls { "https" } else { "http" };
        let station = Station {
            program,
            child,
            url: format!("{scheme}://{address}"),
            agent: config.build().into(),
            folder,
            wire,
        };
        let start = Instant::now();
        let verdicts = station.folder.path().join("out/verdicts.jsonl");
        let judged = || std::fs::read_to_string(&verdicts).is_ok_and(|t| t.contains("latency_ms"));
        while !judged() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "parts are inspected"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        station
    }

    /// Lines at the station itself, each with what its answer begins with.
    fn say(&self, lines: &[(&str, &str)]) {
        let mut port = std::fs::OpenOptions::new();
        let mut port = port.read(true).write(true).open(&self.wire.client).unwrap();
        for (line, answer) in lines {
            port.write_all(format!("{line}\r").as_bytes()).unwrap();
            let (mut came, mut byte) = (String::new(), [0]);
            while !came.ends_with('\n') {
                port.read_exact(&mut byte).unwrap();
                came.push(char::from(byte[0]));
            }
            assert!(came.starts_with(answer), "{line}: {came}");
        }
    }

    /// At the station itself: one password a second.
    fn set_passwords(&self) {
        for line in [
            ("SET engineer_password press-maker", "OK,SET"),
            ("SET operator_password belt-runner", "OK,SET"),
            ("COMMIT", "OK,COMMIT,2"),
        ] {
            self.say(&[line]);
            std::thread::sleep(Duration::from_millis(1100));
        }
    }

    /// The value of a metric without labels.
    fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").body_mut().read_to_string().unwrap();
        let line = text.lines().find(|l| l.split(' ').next() == Some(name));
        let value = line.and_then(|l| l.split(' ').nth(1));
        value
            .unwrap_or_else(|| panic!("{name}: {text}"))
            .parse()
            .unwrap()
    }

    fn get(&self, path: &str) -> ureq::http::Response<ureq::Body> {
        let url = format!("{}{path}", self.url);
        self.agent.get(url).call().unwrap()
    }

    /// As `get`, but for who has what this tag stands for.
    fn unless(&self, path: &str, tag: &str) -> ureq::http::Response<ureq::Body> {
        let request = self.agent.get(format!("{}{path}", self.url));
        request.header("If-None-Match", tag).call().unwrap()
    }

    /// By how much a thread of the station's gives way (nice), if there is one of this name.
    fn nice(&self, name: &str) -> Option<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks.flatten().find_map(|task| {
            // It may have ended meanwhile.
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            let (before, rest) = stat.rsplit_once(')')?;
            // The 19th value, of which the second is the name.
            let nice = rest.split_whitespace().nth(16)?.parse().ok();
            nice.filter(|_| before.split_once('(').is_some_and(|(_, n)| n == name))
        })
    }

    /// Status and body.
    fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = request.send_json(body).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (
            answer.status().as_u16(),
            serde_json::from_str(&text).unwrap_or(Value::Null),
        )
    }

    fn until(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let state = self.agent.get(format!("{}/api/state", self.url)).call();
            if let Ok(mut answer) = state {
                let state: Value = answer.body_mut().read_json().unwrap();
                if done(&state) {
                    return state;
                }
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn login(&self, level: &str, password: &str) -> (u16, Value) {
        self.post(
            "/api/login",
            None,
            &json!({"level": level, "password": password}),
        )
    }

    fn command(&self, token: &str, line: &str) -> (u16, String) {
        let (status, body) = self.post("/api/command", Some(token), &json!({"line": line}));
        (
            status,
            body["lines"][0].as_str().unwrap_or_default().to_string(),
        )
    }
}

/// The certificate that the station makes for itself, as soon as it is there.
fn made(path: &std::path::Path) -> RootCerts {
    let start = Instant::now();
    let pem = loop {
        if let Ok(pem) = std::fs::read(path) {
            break pem;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no {}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    let certificate = Certificate::from_pem(&pem).unwrap();
    RootCerts::new_with_certs(&[certificate])
}

/// This machine's address in its network, if it is in one.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
}

#[test]
fn over_https_everything_is_as_it_is_without() {
    let station = Station::at("127.0.0.1", &["--web-tls"]);
    station.set_passwords();
    let (status, granted) = station.login("operator", "belt-runner");
    assert_eq!(status, 200, "{granted}");
    let token = granted["token"].as_str().unwrap();
    let (status, line) = station.command(token, "IDN");
    assert_eq!((status, line.split(',').next()), (200, Some("OK")));
    // Nothing is said without TLS, and nobody is trusted who does not have this certificate.
    let plain = station.url.replace("https", "http");
    assert!(
        station
            .agent
            .get(format!("{plain}/api/state"))
            .call()
            .is_err()
    );
    let stranger = ureq::Agent::new_with_defaults();
    assert!(
        stranger
            .get(format!("{}/api/state", station.url))
            .call()
            .is_err()
    );
    // Somebody who never finishes the handshake keeps nobody waiting.
    let address = plain.strip_prefix("http://").unwrap();
    let silent: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    assert_eq!(station.get("/api/state").status(), 200);
    drop(silent);
}

#[test]
fn passwords_of_other_computers_are_taken_over_https_only() {
    let Some(host) = own_address() else {
        eprintln!("NOT TRIED: this machine is in no network");
        return;
    };
    for (more, wanted) in [
        (&[][..], (403, 404)),
        (&["--web-plain"], (422, 403)),
        (&["--web-tls"], (422, 403)),
    ] {
        let station = Station::at(&host, more);
        // No password is set: what is tried is whether one would be looked at.
        let (status, refusal) = station.login("engineer", "guess");
        assert_eq!(
            (status, refusal["code"].as_u64().unwrap()),
            wanted,
            "{more:?}: {refusal}"
        );
        assert_eq!(station.get("/api/state").status(), 200);
    }
}

#[test]
fn who_looks_on_sees_the_station_and_changes_nothing() {
    // Whatever is judged is a reject, however few parts a busy machine judges.
    let station = Station::start_with(&["--threshold", "0.1"]);
    let mut page = station.get("/");
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    assert!(
        page.body_mut()
            .read_to_string()
            .unwrap()
            .contains("id=\"alarms\"")
    );
    let zipped = station.agent.get(format!("{}/app.js", station.url));
    let zipped = zipped.header("Accept-Encoding", "gzip").call().unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    assert_eq!(zipped.headers()["vary"], "accept-encoding");
    let not_zipped = station.agent.get(format!("{}/app.js", station.url));
    let not_zipped = not_zipped.header("Accept-Encoding", "gzip;q=0, br");
    let not_zipped = not_zipped.call().unwrap();
    assert!(!not_zipped.headers().contains_key("content-encoding"));
    let plain = station.get("/app.js");
    assert!(!plain.headers().contains_key("content-encoding"));
    for asset in [
        "/",
        "/app.js",
        "/live.js",
        "/texts.js",
        "/style.css",
        "/icon.svg",
    ] {
        let answer = station.get(asset);
        assert_eq!(answer.status(), 200, "{asset}");
        assert_eq!(answer.headers()["cache-control"], "no-cache", "{asset}");
        let again = station.unless(asset, answer.headers()["etag"].to_str().unwrap());
        assert_eq!(again.status(), 304, "{asset}");
        assert_eq!(again.headers()["x-content-type-options"], "nosniff");
        assert_eq!(again.headers()["x-frame-options"], "DENY");
        assert_eq!(station.unless(asset, "\"other\"").status(), 200, "{asset}");
    }
    let state = station.until("a reject", |s| s["counters"]["rejects"].as_u64() > Some(0));
    assert_eq!(state["outputs"]["ready"], true);
    // Every part of it is described; nothing goes to a plant.
    let described: Value = station
        .get("/api/openapi.json")
        .body_mut()
        .read_json()
        .unwrap();
    let described = &described["components"]["schemas"]["State"];
    for name in state.as_object().unwrap().keys() {
        assert!(described["properties"][name].is_object(), "{name}");
    }
    for name in described["required"].as_array().unwrap() {
        assert!(state.get(name.as_str().unwrap()).is_some(), "{name}");
    }
    assert_eq!(state["plant"], json!({}));
    // As delivered nobody has a password: then nobody gets in over the network.
    let (status, refusal) = station.login("engineer", "");
    assert_eq!((status, &refusal["code"]), (422, &json!(403)), "{refusal}");
    let (status, _) = station.post("/api/command", None, &json!({"line": "DISARM"}));
    assert_eq!(status, 401);
    let (status, _) = station.post("/api/command", Some("0"), &json!({"line": "DISARM"}));
    assert_eq!(status, 401);
    assert_eq!(station.until("still running", |_| true)["mode"], "running");

    // The live picture is drawn once somebody asks for it.
    let start = Instant::now();
    let (jpeg, tag) = loop {
        let mut answer = station.get("/live.jpg");
        if answer.status() == 200 {
            let tag = answer.headers()["etag"].to_str().unwrap().to_string();
            break (answer.body_mut().read_to_vec().unwrap(), tag);
        }
        assert_eq!(answer.status(), 204);
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(image::load_from_memory(&jpeg).unwrap().width() > 100);
    // One camera has one picture.
    assert_eq!(station.get("/live/1").status(), 200);
    assert_eq!(station.get("/live/2").status(), 404);
    // Who has it gets it once; another part's picture comes as a whole.
    let again = station.unless("/live.jpg", &tag);
    assert!(again.status() == 304 || again.headers()["etag"] != *tag);
    assert_eq!(again.headers()["cache-control"], "no-store");

    // Archive, parameters and reports are for those who are logged in; as it is delivered, the rest is for everybody.
    for path in [
        "/api/archive",
        "/api/archive.tar",
        "/archive/2026-11-29/00001-x.jpg",
        "/api/parameters",
        "/api/lesson",
        "/api/regions",
        "/api/shift?hours=8",
        "/api/backup",
        "/frame.jpg",
    ] {
        assert_eq!(station.get(path).status(), 401, "{path}");
    }
    let mut results = station.get("/api/results");
    let results: Value = results.body_mut().read_json().unwrap();
    assert!(results.as_array().unwrap().len() >= 2, "{results}");
    assert_eq!(station.get("/verdicts.jsonl").status(), 404);

    assert!(station.metric("faprompt_parts_total") >= 2);
    assert_eq!(station.metric("faprompt_result_lines_lost_total"), 0);
    assert_eq!(station.metric("faprompt_pictures_lost_total"), 0);
    let mut state = station.get("/api/state");
    let state: Value = state.body_mut().read_json().unwrap();
    let counters = &state["counters"];
    assert_eq!(
        (&counters["result_lines_lost"], &counters["pictures_lost"]),
        (&0.into(), &0.into())
    );
    assert_eq!(station.metric("faprompt_ready"), 1);
}

/// The line stands without any alarm then: whoever looks on is to see why.
#[test]
fn damaged_settings_are_told_to_who_looks_on() {
    let mut station = Station::start();
    let whole = station.until("a state", |_| true);
    assert_eq!(whole["memory_fault"], false);
    assert_eq!(station.metric("faprompt_memory_fault"), 0);

    station.child.kill().unwrap();
    station.child.wait().unwrap();
    std::fs::write(station.folder.path().join("state/memory"), "noise").unwrap();
    station.child = station.program.spawn().unwrap();
    let state = station.until("the line stands", |s| s["mode"] == "stopped");
    assert_eq!(state["memory_fault"], true);
    assert_eq!(state["outputs"]["fault"], true);
    assert_eq!(station.metric("faprompt_memory_fault"), 1);

    station.say(&[("ACK", "OK,ACK")]);
    station.until("acknowledged", |s| s["memory_fault"] == false);
    assert_eq!(station.metric("faprompt_memory_fault"), 0);
}

#[test]
fn the_live_picture_is_drawn_by_a_thread_that_gives_way_to_the_line() {
    // What the archive keeps is drawn for it already: nothing, here, however many parts a busy machine judges too late.
    let station = Station::start_with(&["--set", "archive=off"]);
    let start = Instant::now();
    let gives_way = loop {
        let status = station.get("/live.jpg").status();
        assert!(status == 200 || status == 204, "{status}");
        if let Some(nice) = station.nice("page-work").filter(|_| status == 200) {
            break nice;
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    };
    let own = rustix::process::getpriority_process(None).unwrap();
    let others = (station.nice("web"), station.nice("recorder"));
    assert_eq!((gives_way, others), (10, (Some(10), Some(own))));
}

#[test]
fn changes_need_a_password_and_go_the_way_of_the_serial_port() {
    let station = Station::start();
    station.set_passwords();
    // Two within a second: on a busy machine more may pass between them, and then both are tried.
    loop {
        let start = Instant::now();
        let (status, refusal) = station.login("engineer", "guess");
        assert_eq!((status, &refusal["code"]), (401, &json!(402)), "{refusal}");
        let (status, refusal) = station.login("engineer", "guess");
        if status == 429 {
            assert_eq!(refusal["code"], 502);
            break;
        }
        let late = start.elapsed() >= Duration::from_secs(1);
        assert!(late, "one password a second: {status} {refusal}");
        std::thread::sleep(Duration::from_millis(1100));
    }
    std::thread::sleep(Duration::from_millis(1100));
    let (status, granted) = station.login("operator", "belt-runner");
    assert_eq!(status, 200, "{granted}");
    let token = granted["token"].as_str().unwrap();
    let (status, line) = station.command(token, "SET reject_delay_ms 900");
    assert_eq!(status, 422);
    assert!(line.starts_with("ER,SET,401,"), "{line}");
    // An operator's session never becomes an engineer's.
    let (status, line) = station.command(token, "LOGIN engineer press-maker");
    assert_eq!(status, 422);
    assert!(line.starts_with("ER,LOGIN,300,"), "{line}");
    assert_eq!(station.command(token, "SET threshold 0.4321").0, 200);
    assert_eq!(
        station.command(token, "COMMIT"),
        (200, "OK,COMMIT,1,next part".into())
    );
    station.until("the threshold", |s| s["threshold"] == 0.4321);
    assert_eq!(station.command(token, "DISARM").0, 200);
    station.until("paused", |s| s["mode"] == "disarmed");
    assert_eq!(station.command(token, "ARM").0, 200);
    // An order is carried out by another thread.
    station.until("running", |s| s["mode"] == "running");
    let (_, body) = station.post("/api/command", Some(token), &json!({"line": "LOG"}));
    assert!(
        body["lines"]
            .to_string()
            .contains("operator@web 127.0.0.1,threshold"),
        "{body}"
    );
    // Two commands are refused, so that nobody takes the second for done; an end of the line is none.
    let (status, refusal) = station.post(
        "/api/command",
        Some(token),
        &json!({"line": "IDN\r\nDISARM"}),
    );
    assert_eq!(status, 422, "{refusal}");
    let (status, line) = station.command(token, "IDN\r\n");
    assert_eq!((status, line.split(',').next()), (200, Some("OK")));
    let parts = |s: &Value| s["counters"]["parts"].as_u64().unwrap();
    let before = parts(&station.until("a state", |_| true));
    let later = station.until("more parts", |s| parts(s) > before + 2);
    assert_eq!(later["mode"], "running");
    for nonsense in ["", "OK,IDN", "\u{1b}", "ü"] {
        assert_eq!(station.command(token, nonsense).0, 422, "{nonsense:?}");
    }
    let (status, _) = station.post(
        "/api/command",
        Some(token),
        &json!({"line": "x".repeat(10_000)}),
    );
    assert_eq!(status, 413);
    let (status, _) = station.post("/api/logout", Some(token), &Value::Null);
    assert_eq!(status, 204);
    assert_eq!(station.command(token, "ARM").0, 401);
}

/// Somebody whose password became known is out once there is another one, and what they look at is closed.
#[test]
fn with_another_password_those_who_know_the_old_one_are_out() {
    let station = Station::start();
    station.set_passwords();
    let engineer = |password: &str| token(&station, "engineer", password);
    let (known, owner) = (engineer("press-maker"), engineer("press-maker"));
    assert_eq!(seen(&station, "/api/parameters", &known).0, 200);
    for line in ["SET engineer_password tool-smith-2", "COMMIT"] {
        std::thread::sleep(Duration::from_millis(1100));
        let (status, answer) = station.command(&owner, line);
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(station.command(&owner, "SET threshold 0.77").0, 200);
    assert_eq!(station.command(&owner, "REVERT").0, 200);
    let (status, answer) = station.command(&known, "SET threshold 0.99");
    assert_eq!(status, 401, "{answer}");
    let restore = |body: &[u8]| {
        let request = station.agent.post(format!("{}/api/restore", station.url));
        let request = request.header("Authorization", format!("Bearer {known}"));
        request.send(body).unwrap().status().as_u16()
    };
    assert_eq!(restore(b"threshold = 1"), 401);
    let start = Instant::now();
    while seen(&station, "/api/parameters", &known).0 != 401 {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(100));
    }
    engineer("tool-smith-2");
}

/// A stranger's backup is not taken into memory.
#[test]
fn a_backup_of_somebody_who_is_not_logged_in_is_refused_before_it_is_read() {
    let station = Station::start();
    let address = station.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let head = format!(
        "POST /api/restore HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: 200000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Nothing of the body has come.
    let answer = headers_of(&mut stream);
    assert!(answer.starts_with("http/1.1 401"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// What comes back over a bare connection, up to the end of the headers.
fn headers_of(stream: &mut TcpStream) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    text.to_ascii_lowercase()
}

#[test]
fn a_connection_that_ends_says_so_and_any_other_takes_the_next_request() {
    let station = Station::start();
    let address = station.url.strip_prefix("http://").unwrap();
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        let head = format!("{head} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 4\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    // The body comes late, as it does when the machine is busy.
    let mut stream = ask("POST /api/logout");
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(b"null").unwrap();
    let answer = headers_of(&mut stream);
    assert!(answer.starts_with("http/1.1 204"), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
    let next = format!("GET /api/state HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(next.as_bytes()).unwrap();
    let answer = headers_of(&mut stream);
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    // What is answered before the body has come.
    for (head, status) in [
        ("POST /nowhere", 404),
        ("PUT /api/state", 405),
        ("GET /api/state", 200),
    ] {
        let mut stream = ask(head);
        let answer = headers_of(&mut stream);
        assert!(
            answer.starts_with(&format!("http/1.1 {status}")),
            "{head}: {answer}"
        );
        assert!(answer.contains("connection: close"), "{head}: {answer}");
    }
}

#[test]
fn results_come_as_they_are_made() {
    let station = Station::start();
    let answer = station.get("/api/events");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut reader = answer.into_body().into_reader();
    let (mut text, mut bytes, start) = (String::new(), [0; 4096], Instant::now());
    while !(text.contains("event: state") && text.contains("event: results")) {
        let count = reader.read(&mut bytes).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        assert!(start.elapsed() < Duration::from_secs(30), "{text}");
    }
    let data = text.split("event: results\ndata: ").nth(1).unwrap();
    let results: Value = serde_json::from_str(data.lines().next().unwrap()).unwrap();
    assert!(results[0]["part"].is_u64(), "{results}");
    assert!(["good", "reject"].contains(&results[0]["outcome"].as_str().unwrap()));
}

/// Status and bytes of what somebody sees who is logged in.
fn seen(station: &Station, path: &str, token: &str) -> (u16, Vec<u8>) {
    let request = station.agent.get(format!("{}{path}", station.url));
    let mut answer = request
        .header("Authorization", format!("Bearer {token}"))
        .call()
        .unwrap();
    let bytes = answer.body_mut().read_to_vec().unwrap();
    (answer.status().as_u16(), bytes)
}

fn json_of(station: &Station, path: &str, token: &str) -> Value {
    let (status, bytes) = seen(station, path, token);
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).unwrap()
}

fn token(station: &Station, level: &str, password: &str) -> String {
    std::thread::sleep(Duration::from_millis(1100));
    let (status, granted) = station.login(level, password);
    assert_eq!(status, 200, "{granted}");
    granted["token"].as_str().unwrap().to_string()
}

#[test]
fn the_archive_is_searched_marked_and_downloaded() {
    let station = Station::start_with(&["--set", "archive=all", "--threshold", "0.1"]);
    station.set_passwords();
    let operator = token(&station, "operator", "belt-runner");
    station.until("a reject", |s| s["counters"]["rejects"].as_u64() > Some(1));
    let start = Instant::now();
    let rejects = loop {
        let found = json_of(
            &station,
            "/api/archive?outcome=reject&cause=score",
            &operator,
        );
        if !found["parts"].as_array().unwrap().is_empty() {
            break found;
        }
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    };
    let part = &rejects["parts"][0];
    let (day, stem) = (
        part["day"].as_str().unwrap(),
        part["stem"].as_str().unwrap(),
    );
    assert!(
        part["score"].as_f64() > part["threshold"].as_f64(),
        "{part}"
    );
    for end in ["", ".overlay"] {
        let (status, bytes) = seen(
            &station,
            &format!("/archive/{day}/{stem}{end}.jpg"),
            &operator,
        );
        assert_eq!(status, 200);
        assert!(image::load_from_memory(&bytes).unwrap().width() > 100);
    }
    for path in [
        format!("/archive/{day}/{stem}.json"),
        "/archive/..%2F/verdicts.jsonl".to_string(),
        format!("/archive/{day}/..%2Findex.sqlite"),
        format!("/archive/{day}/00001-..%2F..%2F..%2Fstate%2Fmemory.jpg"),
    ] {
        assert_eq!(seen(&station, &path, &operator).0, 404, "{path}");
    }
    for wrong in [
        "limit=x",
        "colour=red",
        "low=much",
        "outcome=Reject",
        "mark=ugly",
        "cause=rust",
        "from=yesterday",
    ] {
        assert_eq!(
            seen(&station, &format!("/api/archive?{wrong}"), &operator).0,
            422,
            "{wrong}"
        );
    }
    let said = json!({"day": day, "stem": stem, "good": false, "note": "scratch; <b>rim</b>"});
    assert_eq!(station.post("/api/archive/mark", None, &said).0, 401);
    assert_eq!(
        station.post("/api/archive/mark", Some(&operator), &said).0,
        204
    );
    let long = json!({"day": day, "stem": stem, "good": false, "note": "x".repeat(501)});
    assert_eq!(
        station.post("/api/archive/mark", Some(&operator), &long).0,
        422
    );
    let nobody = json!({"day": day, "stem": "99999-nobody", "good": null});
    assert_eq!(
        station
            .post("/api/archive/mark", Some(&operator), &nobody)
            .0,
        404
    );
    let marked = json_of(&station, "/api/archive?mark=bad", &operator);
    assert_eq!(marked["parts"].as_array().unwrap().len(), 1);
    assert_eq!(marked["parts"][0]["note"], "scratch; <b>rim</b>");
    // It is the file that knows: another index has it too.
    let file = station
        .folder
        .path()
        .join(format!("out/archive/{day}/{stem}.json"));
    let about: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(about["good"], false);
    let (status, tar) = seen(&station, "/api/archive.tar?mark=bad", &operator);
    assert_eq!(status, 200);
    let mut tar = tar::Archive::new(&tar[..]);
    let names: Vec<String> = tar
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names, [format!("station/test/defect/{day}-{stem}.jpg")]);
    let report = json_of(&station, "/api/shift?hours=8", &operator);
    assert!(report["outcomes"]["reject"].as_u64() > Some(0), "{report}");
    assert!(
        report["changes"].to_string().contains("operator_password"),
        "{report}"
    );
    assert_eq!(seen(&station, "/api/shift?hours=1000", &operator).0, 422);
}

#[test]
fn a_backup_is_restored_whole_or_not_at_all_and_regions_are_drawn() {
    let station = Station::start();
    station.set_passwords();
    let operator = token(&station, "operator", "belt-runner");
    assert_eq!(seen(&station, "/api/backup", &operator).0, 401);
    let engineer = token(&station, "engineer", "press-maker");
    let (status, backup) = seen(&station, "/api/backup", &engineer);
    assert_eq!(status, 200);
    let backup = String::from_utf8(backup).unwrap();
    let restore = |text: &str, token: &str| {
        let request = station.agent.post(format!("{}/api/restore", station.url));
        let request = request.header("Authorization", format!("Bearer {token}"));
        let mut answer = request.send(text).unwrap();
        (
            answer.status().as_u16(),
            answer.body_mut().read_to_string().unwrap(),
        )
    };
    let before = station.until("state", |_| true)["threshold"].clone();
    let line = backup.lines().find(|l| l.starts_with("threshold = "));
    let line = &format!("\n{}\n", line.unwrap());
    for wrong in [
        backup.replacen(line, "\nthreshold = 7\n", 1),
        backup.replacen(line, "\ncolour = \"red\"\n", 1),
        "not TOML".to_string(),
        String::new(),
    ] {
        assert_eq!(restore(&wrong, &engineer).0, 422);
    }
    let other = backup.replacen(line, "\nthreshold = 0.1234\n", 1);
    assert_eq!(restore(&other, &operator).0, 401);
    assert_eq!(station.until("state", |_| true)["threshold"], before);
    let (status, text) = restore(&other, &engineer);
    assert_eq!((status, text.as_str()), (200, "{\"changes\":1}"));
    assert_eq!(station.until("state", |_| true)["threshold"], 0.1234);

    // What a recipe was taught by a path is not in it, and the answer says so.
    let left_out = || {
        let request = station.agent.get(format!("{}/api/backup", station.url));
        let request = request.header("Authorization", format!("Bearer {engineer}"));
        let answer = request.call().unwrap();
        let value = answer.headers().get("X-Left-Out");
        value.map(|v| v.to_str().unwrap().to_string())
    };
    assert_eq!(left_out(), None);
    let by_path = "[recipe.9]\ntaught = \"/mnt/nine.taught\"\n";
    assert_eq!(restore(by_path, &engineer).0, 200);
    assert_eq!(left_out().as_deref(), Some("/mnt/nine.taught"));

    let regions = json!({"region": [
        {"name": "cap", "rectangle": [0.1, 0.1, 0.9, 0.9], "offset": 0.05},
        {"name": "stamp", "exclude": true, "polygon": [[0.4, 0.4], [0.6, 0.4], [0.5, 0.6]]},
    ]});
    assert_eq!(
        station.post("/api/regions", Some(&operator), &regions).0,
        401
    );
    let nonsense = json!({"region": [{"name": "x", "rectangle": [0.5, 0, 0.1, 1]}]});
    let (status, refusal) = station.post("/api/regions", Some(&engineer), &nonsense);
    assert_eq!(status, 422);
    assert!(
        refusal["text"].as_str().unwrap().contains("region 1 (`x`)"),
        "{refusal}"
    );
    let nothing = json!({"region": [{"name": "all", "exclude": true, "rectangle": [0, 0, 1, 1]}]});
    let (status, refusal) = station.post("/api/regions", Some(&engineer), &nothing);
    assert_eq!(status, 422, "{refusal}");
    let (status, written) = station.post("/api/regions", Some(&engineer), &regions);
    assert_eq!(status, 200, "{written}");
    let path = written["path"].as_str().unwrap();
    assert_eq!(
        station
            .command(&engineer, &format!("SET regions \"{path}\""))
            .0,
        200
    );
    assert_eq!(
        station.command(&engineer, "COMMIT"),
        (200, "OK,COMMIT,1,belt is cleared".into())
    );
    let stored = json_of(&station, "/api/regions", &engineer);
    assert_eq!(stored["region"][1]["name"], "stamp");
    assert_eq!(stored["region"].as_array().unwrap().len(), 2);
    let none = json!({"region": []});
    assert_eq!(
        station.post("/api/regions", Some(&engineer), &none).1["path"],
        ""
    );
}

#[test]
fn recipes_are_listed_and_results_counted() {
    let station = Station::start();
    let of = |path: &str| -> Value {
        let text = station.get(path).into_body().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let recipes = of("/api/recipes");
    assert_eq!(recipes.as_array().unwrap().len(), 32);
    assert_eq!(recipes[0], json!({"number": 1, "name": "", "in_use": true}));
    assert_eq!(recipes[31]["in_use"], false);
    station.until("parts", |s| s["counters"]["parts"].as_u64() > Some(10));
    let results = of("/api/results");
    let results = results.as_array().unwrap();
    let numbers: Vec<u64> = results
        .iter()
        .map(|r| r["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
    let time: jiff::Timestamp = results[0]["time"].as_str().unwrap().parse().unwrap();
    assert!(time.duration_until(jiff::Timestamp::now()).as_secs() < 60);
}

#[test]
fn a_pause_is_seen_and_a_lesson_is_reported() {
    let station = Station::start();
    station.set_passwords();
    let operator = token(&station, "operator", "belt-runner");
    assert_eq!(json_of(&station, "/api/lesson", &operator), Value::Null);
    assert_eq!(station.command(&operator, "PAUSE 2 \"lens\"").0, 200);
    let state = station.until("paused", |s| s["mode"] == "disarmed");
    assert_eq!(state["pause"]["reason"], "lens");
    assert_eq!(state["pause"]["by"], "operator@web 127.0.0.1");
    assert!(
        (1..=120).contains(&state["pause"]["left_s"].as_u64().unwrap()),
        "{state}"
    );
    assert_eq!(
        (&state["outputs"]["ready"], &state["outputs"]["line_stop"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(station.command(&operator, "ARM").0, 200);
    let state = station.until("inspecting", |s| s["mode"] == "running");
    assert_eq!(state["pause"], Value::Null);
    assert_eq!(station.command(&operator, "TEACH 8").0, 200);
    let start = Instant::now();
    let lesson = loop {
        let lesson = json_of(&station, "/api/lesson", &operator);
        if lesson["state"] == "done" {
            break lesson;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{lesson}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(lesson["result"]["parts"].as_array().unwrap().len(), 8);
    assert_eq!(lesson["result"]["threshold"], 0.5);
    // The parts that were taught are kept, for whoever looks for the odd one.
    // Pictures are written in their own time: a part that is judged is not yet on the disk.
    let part = lesson["result"]["parts"][0]["part"].as_u64().unwrap();
    let path = format!("/api/archive?part={part}");
    let found = || {
        json_of(&station, &path, &operator)["parts"]
            .as_array()
            .unwrap()
            .len()
    };
    while found() == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "not kept");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(found(), 1);
}

#[test]
fn who_sees_what_and_nobody_forges_a_request() {
    let station = Station::start_with(&["--set", "web_view=nothing"]);
    let body = |path: &str| {
        station
            .agent
            .get(format!("{}{path}", station.url))
            .call()
            .unwrap()
    };
    for path in [
        "/api/state",
        "/api/events",
        "/api/results",
        "/live.jpg",
        "/metrics",
    ] {
        assert_eq!(body(path).status(), 401, "{path}");
    }
    assert_eq!(body("/").status(), 200);
    station.set_passwords();
    std::thread::sleep(Duration::from_millis(1100));
    let request = station.agent.post(format!("{}/api/login", station.url));
    let login = json!({"level": "operator", "password": "belt-runner"});
    let answer = request.send_json(&login).unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_string();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_string();
    let with_cookie = |path: &str| {
        let request = station.agent.get(format!("{}{path}", station.url));
        request
            .header("Cookie", &cookie)
            .call()
            .unwrap()
            .status()
            .as_u16()
    };
    // The cookie opens what is looked at, and changes nothing: no form of a stranger's page gets anything done.
    assert_eq!(
        (with_cookie("/api/state"), with_cookie("/api/archive")),
        (200, 200)
    );
    assert_eq!(with_cookie("/api/backup"), 401);
    for (path, kind, text) in [
        ("/api/command", "application/json", "{\"line\": \"DISARM\"}"),
        ("/api/command", "text/plain", "{\"line\": \"DISARM\"}"),
        (
            "/api/command",
            "application/x-www-form-urlencoded",
            "line=DISARM",
        ),
        ("/api/restore", "text/plain", "threshold = 1"),
    ] {
        let request = station.agent.post(format!("{}{path}", station.url));
        let request = request
            .header("Cookie", &cookie)
            .header("Content-Type", kind);
        let status = request.send(text).unwrap().status().as_u16();
        assert!([401, 415].contains(&status), "{path} {kind}: {status}");
    }
    // The program's own files may be kept, what the station says may not.
    let paths = [
        ("/", "no-cache"),
        ("/api/state", "no-store"),
        ("/live.jpg", "no-store"),
        ("/nothing", "no-store"),
    ];
    for (path, keeps) in paths {
        let headers = body(path).headers().clone();
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], keeps, "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        for word in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "form-action 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(word), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
}

/// A stranger's name that points to this station (DNS rebinding) gets nothing, not even an error that says what is there.
#[test]
fn who_asks_by_another_name_is_refused() {
    let station = Station::start_with(&["--web-host", "line1.plant", "--web-host", "Line-1"]);
    let ask = |host: &str, path: &str| {
        let request = station.agent.get(format!("{}{path}", station.url));
        let mut answer = request.header("Host", host).call().unwrap();
        let status = answer.status().as_u16();
        let policy = answer.headers().contains_key("content-security-policy");
        assert!(policy, "{host} {path}");
        (status, answer.body_mut().read_to_string().unwrap())
    };
    let port = station.url.rsplit(':').next().unwrap();
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for host in [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "line1.plant",
        "line-1",
        own.trim(),
    ] {
        assert_eq!(
            ask(&format!("{host}:{port}"), "/api/state").0,
            200,
            "{host}"
        );
    }
    for path in ["/", "/api/state", "/live.jpg", "/nothing"] {
        let (status, text) = ask(&format!("evil.example:{port}"), path);
        assert_eq!(status, 421, "{path}");
        assert!(text.contains("--web-host evil.example"), "{text}");
    }
    let request = station.agent.post(format!("{}/api/login", station.url));
    let login = json!({"level": "engineer", "password": "guess"});
    let answer = request.header("Host", "evil.example").send_json(&login);
    assert_eq!(answer.unwrap().status().as_u16(), 421);
    // A client that other people wrote may say no name at all; HTTP/1.1 wants one.
    let address = station.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .write_all(b"GET /api/state HTTP/1.1\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_name_with_a_port_is_no_host_name() {
    for wrong in ["line1:8080", "https://line1", "", "a b", "line1..plant"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"));
        command.args(["run", "--web", "127.0.0.1:0", "--web-host", wrong]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {said}");
        assert!(
            said.contains("is no host name such as line1.plant"),
            "{said}"
        );
    }
}

#[test]
fn connections_are_limited_and_the_line_goes_on() {
    let station = Station::start();
    let address = station.url.strip_prefix("http://").unwrap();
    // More than there is room for, all of them silent.
    let silent: Vec<_> = (0..250)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let limit = Duration::from_secs(2);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .build()
        .into();
    let state = format!("{}/api/state", station.url);
    assert!(agent.get(&state).call().is_err(), "it waits for room");
    let parts = || {
        let text =
            std::fs::read_to_string(station.folder.path().join("out/verdicts.jsonl")).unwrap();
        text.lines().count()
    };
    let (before, start) = (parts(), Instant::now());
    while parts() == before {
        let waited = start.elapsed();
        assert!(
            waited < Duration::from_secs(20),
            "parts are judged meanwhile"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(silent);
    station.until("room again", |s| s["mode"] == "running");
}
