//! The station's page, over a real socket, with a real client.

#![cfg(feature = "web")]

#[path = "wire/mod.rs"]
#[allow(dead_code)]
mod wire;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// A simulated station that shows its page.
struct Station {
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
        Station::at("127.0.0.1", &[])
    }

    /// At a free port of this address, with more options.
    fn at(host: &str, more: &[&str]) -> Station {
        let folder = tempfile::tempdir().unwrap();
        let wire = wire::Wire::new(folder.path());
        let port = std::net::TcpListener::bind((host, 0)).unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"));
        command.args([
            "run", "--board", "sim", "--source", "pattern", "--rate", "20",
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
            child,
            url: format!("{scheme}://{address}"),
            agent: config.build().into(),
            folder,
            wire,
        };
        station.until("parts are inspected", |s| {
            s["mode"] == "running" && s["counters"]["parts"].as_u64() > Some(2)
        });
        station
    }

    /// At the station itself: one password a second.
    fn set_passwords(&self) {
        let mut port = std::fs::OpenOptions::new();
        let mut port = port.read(true).write(true).open(&self.wire.client).unwrap();
        for (line, answer) in [
            ("SET engineer_password maker", "OK,SET"),
            ("SET operator_password runner", "OK,SET"),
            ("COMMIT", "OK,COMMIT,2"),
        ] {
            port.write_all(format!("{line}\r").as_bytes()).unwrap();
            let (mut came, mut byte) = (String::new(), [0]);
            while !came.ends_with('\n') {
                port.read_exact(&mut byte).unwrap();
                came.push(char::from(byte[0]));
            }
            assert!(came.starts_with(answer), "{line}: {came}");
            std::thread::sleep(Duration::from_millis(1100));
        }
    }

    fn get(&self, path: &str) -> ureq::http::Response<ureq::Body> {
        let url = format!("{}{path}", self.url);
        self.agent.get(url).call().unwrap()
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
    let (status, granted) = station.login("operator", "runner");
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
        .map(|_| std::net::TcpStream::connect(address).unwrap())
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
    let station = Station::start();
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
    for asset in ["/app.js", "/texts.js", "/style.css"] {
        assert_eq!(station.get(asset).status(), 200, "{asset}");
    }
    let state = station.until("a reject", |s| s["counters"]["rejects"].as_u64() > Some(0));
    assert_eq!(state["outputs"]["ready"], true);
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
    let jpeg = loop {
        let mut answer = station.get("/live.jpg");
        if answer.status() == 200 {
            break answer.body_mut().read_to_vec().unwrap();
        }
        assert_eq!(answer.status(), 204);
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(image::load_from_memory(&jpeg).unwrap().width() > 100);

    let mut list = station.get("/api/rejects");
    let list: Value = list.body_mut().read_json().unwrap();
    let name = list["pictures"][0].as_str().unwrap();
    let mut picture = station.get(&format!("/rejects/{name}"));
    assert!(image::load_from_memory(&picture.body_mut().read_to_vec().unwrap()).is_ok());
    assert!(station.folder.path().join("out/verdicts.jsonl").exists());
    for path in [
        "/rejects/..%2Fverdicts.jsonl",
        "/rejects/%2e%2e/verdicts.jsonl",
        "/verdicts.jsonl",
    ] {
        assert_eq!(station.get(path).status(), 404, "{path}");
    }

    let mut metrics = station.get("/metrics");
    let text = metrics.body_mut().read_to_string().unwrap();
    let value = |name: &str| -> u64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("faprompt_parts_total") >= 2, "{text}");
    assert_eq!(value("faprompt_ready"), 1);
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
    let (status, granted) = station.login("operator", "runner");
    assert_eq!(status, 200, "{granted}");
    let token = granted["token"].as_str().unwrap();
    let (status, line) = station.command(token, "SET reject_delay_ms 900");
    assert_eq!(status, 422);
    assert!(line.starts_with("ER,SET,401,"), "{line}");
    // An operator's session never becomes an engineer's.
    let (status, line) = station.command(token, "LOGIN engineer maker");
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
    // Only the first line of a text is one.
    let (status, line) = station.command(token, "IDN\r\nDISARM");
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
