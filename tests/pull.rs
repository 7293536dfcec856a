//! `faprompt-train pull` against a server on loopback that behaves like the hub: redirects to where large
//! files lie, ranges, logins, busy answers, connections that are cut.

mod common;

use common::golden;
use faprompt_edge::bundle::envelope::hex;
use faprompt_edge::train::pull::{Lock, find, table};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const MODEL: &str = "dinov2-small";
const WEIGHTS: &str = "model.safetensors";

/// What the hub holds, and how it behaves.
#[derive(Default)]
struct Behaviour {
    files: BTreeMap<String, Vec<u8>>,
    /// Large files, which lie elsewhere.
    large: BTreeSet<String>,
    /// How many more answers end after half of what they promise.
    cuts: usize,
    /// How many more answers are "503 busy".
    busy: usize,
    /// A token that is asked for.
    token: Option<String>,
    /// What the hub states instead of a file's true digest.
    stated: Option<String>,
    /// Every request: path, range, whether it bore a token.
    asked: Vec<(String, Option<String>, bool)>,
}

struct Hub {
    address: String,
    behaviour: Arc<Mutex<Behaviour>>,
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Hub {
    fn new() -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(Behaviour::default()));
        let (shared, base) = (behaviour.clone(), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away in the middle is none of its business.
                let _ = answer(stream, &mut shared.lock().unwrap(), &base);
            }
        });
        let hub = Hub { address, behaviour };
        let weights: Vec<u8> = (0..300_000u32).map(|i| ((i * 7919) >> 3) as u8).collect();
        hub.put("config.json", b"{\"model_type\": \"dinov2\"}");
        hub.put("preprocessor_config.json", b"{}");
        hub.put(WEIGHTS, &weights);
        hub.set(|b| _ = b.large.insert(WEIGHTS.into()));
        hub
    }

    fn set<T>(&self, change: impl FnOnce(&mut Behaviour) -> T) -> T {
        change(&mut self.behaviour.lock().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.set(|b| _ = b.files.insert(name.into(), bytes.to_vec()));
    }

    fn file(&self, name: &str) -> Vec<u8> {
        self.set(|b| b.files[name].clone())
    }

    /// Requests for a path that ends so.
    fn asked(&self, end: &str) -> Vec<(Option<String>, bool)> {
        self.set(|b| {
            let all = b.asked.iter().filter(|(path, ..)| path.ends_with(end));
            all.map(|(_, range, token)| (range.clone(), *token))
                .collect()
        })
    }

    fn pull(&self, folder: &Path, more: &[&str]) -> Output {
        self.pull_with(folder, more, &[])
    }

    fn pull_with(&self, folder: &Path, more: &[&str], set: &[(&str, &str)]) -> Output {
        run(&self.address, folder, more, set)
    }
}

fn run(hub: &str, folder: &Path, more: &[&str], set: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
    for key in [
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "HF_TOKEN",
    ] {
        command.env_remove(key).env_remove(key.to_lowercase());
    }
    command.env("HF_ENDPOINT", hub).envs(set.iter().copied());
    command
        .args(["pull", MODEL, "--out"])
        .arg(folder)
        .args(more);
    command.output().unwrap()
}

fn said(out: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&out.stdout) + &text(&out.stderr)
}

/// One request, one answer, one connection.
fn answer(stream: TcpStream, b: &mut Behaviour, base: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.starts_with("CONNECT ") {
        // It is a proxy, too: whoever is asked for, it answers itself.
        b.asked.push((line.trim().into(), None, false));
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        out.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        line.clear();
        reader.read_line(&mut line)?;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_lowercase(), value.trim().to_string());
        }
    }
    let token = headers.get("authorization").cloned();
    b.asked
        .push((path.clone(), headers.get("range").cloned(), token.is_some()));
    let name = path.rsplit('/').next().unwrap_or_default().to_string();
    let plain = |out: &mut TcpStream, status: &str| {
        write!(
            out,
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
    let Some(bytes) = b.files.get(&name).cloned() else {
        return plain(&mut out, "404 Not Found");
    };
    let elsewhere = path.starts_with("/elsewhere/");
    if !elsewhere && b.token.is_some() && token != b.token.as_ref().map(|t| format!("Bearer {t}")) {
        return plain(&mut out, "401 Unauthorized");
    }
    if b.busy > 0 {
        b.busy -= 1;
        return plain(&mut out, "503 Service Unavailable");
    }
    if b.large.contains(&name) && !elsewhere {
        // The same machine by another name: the token must not follow.
        let base = base.replace("127.0.0.1", "localhost");
        let stated = b.stated.clone().unwrap_or_else(|| digest(&bytes));
        return write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: {base}/elsewhere/{name}\r\nX-Linked-Etag: \"{stated}\"\r\nX-Repo-Commit: 0123abcd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let etag = format!("\"{}\"", &digest(&bytes)[..16]);
    let from = headers
        .get("range")
        .filter(|_| headers.get("if-range") == Some(&etag))
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0usize);
    let (status, range) = match from {
        0 => ("200 OK", String::new()),
        from => {
            let (last, all) = (bytes.len() - 1, bytes.len());
            let range = format!("Content-Range: bytes {from}-{last}/{all}\r\n");
            ("206 Partial Content", range)
        }
    };
    let rest = &bytes[from..];
    write!(
        out,
        "HTTP/1.1 {status}\r\nETag: {etag}\r\n{range}Content-Length: {}\r\nConnection: close\r\n\r\n",
        rest.len()
    )?;
    let half = b.cuts > 0 && b.large.contains(&name);
    b.cuts -= usize::from(half);
    out.write_all(&rest[..if half { rest.len() / 2 } else { rest.len() }])
}

#[test]
fn files_come_once_with_their_digests() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let out = hub.pull(folder.path(), &[]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let own = folder.path().join(MODEL);
    for name in ["config.json", "preprocessor_config.json", WEIGHTS] {
        assert_eq!(
            std::fs::read(own.join(name)).unwrap(),
            hub.file(name),
            "{name}"
        );
    }
    let mut names: Vec<_> = std::fs::read_dir(&own)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["config.json", WEIGHTS, "preprocessor_config.json"],
        "nothing half is left"
    );
    let lock = Lock::read(&folder.path().join("pull.lock")).unwrap();
    let locked = lock.of(MODEL, WEIGHTS).unwrap();
    assert_eq!(locked.sha256, digest(&hub.file(WEIGHTS)));
    assert_eq!(
        (locked.bytes, locked.revision.as_deref()),
        (300_000, Some("0123abcd"))
    );
    // A second call asks for nothing.
    let before = hub.set(|b| b.asked.len());
    let out = hub.pull(folder.path(), &[]);
    assert!(said(&out).contains("was here already"), "{}", said(&out));
    assert_eq!(hub.set(|b| b.asked.len()), before);
    // A file that was damaged meanwhile comes again.
    std::fs::write(own.join(WEIGHTS), b"damaged").unwrap();
    let out = hub.pull(folder.path(), &[]);
    assert_eq!(out.status.code(), Some(0));
    assert!(said(&out).contains("it is fetched again"), "{}", said(&out));
    assert_eq!(std::fs::read(own.join(WEIGHTS)).unwrap(), hub.file(WEIGHTS));
    // Until another is here it stays, whoever put it there.
    std::fs::write(own.join(WEIGHTS), b"damaged").unwrap();
    hub.set(|b| _ = b.files.remove(WEIGHTS));
    assert_ne!(hub.pull(folder.path(), &[]).status.code(), Some(0));
    assert_eq!(std::fs::read(own.join(WEIGHTS)).unwrap(), b"damaged");
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    hub.set(|b| (b.cuts, b.busy) = (2, 1));
    let out = hub.pull(folder.path(), &[]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let path = folder.path().join(MODEL).join(WEIGHTS);
    assert_eq!(std::fs::read(&path).unwrap(), hub.file(WEIGHTS));
    let ranges: Vec<_> = hub
        .asked("/elsewhere/model.safetensors")
        .into_iter()
        .map(|r| r.0)
        .collect();
    let wanted = [
        None,
        Some("bytes=150000-".to_string()),
        Some("bytes=225000-".to_string()),
    ];
    assert_eq!(ranges, wanted);
    // What an earlier call left is gone on with; of another file than now it is thrown away.
    let bytes = hub.file(WEIGHTS);
    let part = path.with_file_name("model.safetensors.part");
    let tag = path.with_file_name("model.safetensors.part.etag");
    for (etag, fetched) in [
        (digest(&bytes)[..16].to_string(), 200_000),
        ("other".into(), 300_000),
    ] {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&part, &bytes[..100_000]).unwrap();
        std::fs::write(&tag, format!("\"{etag}\"")).unwrap();
        let out = hub.pull(folder.path(), &[]);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{}", said(&out));
        let came = format!("{:.1} MB came", f64::from(fetched) / 1e6);
        assert!(said(&out).contains(&came), "{came}: {}", said(&out));
        assert!(!part.exists() && !tag.exists());
    }
}

#[test]
fn what_the_hub_refuses_is_said_with_what_to_do() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    hub.set(|b| b.token = Some("secret".into()));
    let out = hub.pull(folder.path(), &[]);
    assert_eq!(out.status.code(), Some(38), "{}", said(&out));
    assert!(
        said(&out).contains("401") && said(&out).contains("HF_TOKEN"),
        "{}",
        said(&out)
    );
    let out = hub.pull_with(folder.path(), &[], &[("HF_TOKEN", "secret")]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    // The token is the hub's alone.
    assert!(hub.asked("main/model.safetensors").last().unwrap().1);
    assert!(
        hub.asked("/elsewhere/model.safetensors")
            .iter()
            .all(|r| !r.1)
    );

    let hub = Hub::new();
    hub.set(|b| _ = b.files.remove("config.json"));
    let out = hub.pull(tempfile::tempdir().unwrap().path(), &[]);
    assert_eq!(out.status.code(), Some(38));
    assert!(
        said(&out).contains("config.json: not there (404)"),
        "{}",
        said(&out)
    );
    // Repositories that were not converted have the weights under another name.
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let bytes = hub.file(WEIGHTS);
    hub.set(|b| _ = b.files.remove(WEIGHTS));
    hub.put("pytorch_model.bin", &bytes);
    let out = hub.pull(folder.path(), &[]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(
        folder
            .path()
            .join(MODEL)
            .join("pytorch_model.bin")
            .is_file()
    );
}

#[test]
fn another_file_than_before_is_refused() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let lock = folder.path().join("own.lock");
    let with = ["--lock", lock.to_str().unwrap()];
    assert_eq!(hub.pull(folder.path(), &with).status.code(), Some(0));
    let first = std::fs::read(&lock).unwrap();
    // On another machine, with the same lock file, after the publisher changed the file.
    let other = tempfile::tempdir().unwrap();
    hub.put(
        "config.json",
        b"{\"model_type\": \"dinov2\", \"changed\": true}",
    );
    let out = hub.pull(other.path(), &with);
    assert_eq!(out.status.code(), Some(38), "{}", said(&out));
    assert!(
        said(&out).contains("the lock file says") && said(&out).contains("--update"),
        "{}",
        said(&out)
    );
    assert!(!other.path().join(MODEL).join("config.json").exists());
    assert_eq!(std::fs::read(&lock).unwrap(), first);
    let out = hub.pull(other.path(), &[with[0], with[1], "--update"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_ne!(std::fs::read(&lock).unwrap(), first);
    // Changed on its way: the hub states another digest than what came.
    let third = tempfile::tempdir().unwrap();
    hub.set(|b| b.stated = Some("0".repeat(64)));
    let out = hub.pull(third.path(), &[]);
    assert_eq!(out.status.code(), Some(38));
    assert!(
        said(&out).contains("its origin says 0000"),
        "{}",
        said(&out)
    );
    std::fs::write(&lock, "{").unwrap();
    let out = hub.pull(third.path(), &with);
    assert!(
        out.status.code() == Some(38) && said(&out).contains("own.lock"),
        "{}",
        said(&out)
    );
}

#[test]
fn without_a_network_it_says_what_to_do_and_proxies_are_used() {
    let folder = tempfile::tempdir().unwrap();
    // A port that nobody listens on.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let out = run(&format!("http://{closed}"), folder.path(), &[], &[]);
    assert_eq!(out.status.code(), Some(38));
    for word in [
        "127.0.0.1 cannot be reached",
        "another machine",
        "HTTPS_PROXY",
        "HF_ENDPOINT",
        "config.json",
    ] {
        assert!(said(&out).contains(word), "{word}: {}", said(&out));
    }
    let hub = Hub::new();
    hub.set(|b| b.large.clear());
    let proxy = [("ALL_PROXY", hub.address.as_str())];
    let out = run("http://hub.invalid", folder.path(), &[], &proxy);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(hub.set(|b| {
        b.asked
            .iter()
            .any(|(line, ..)| line.contains("hub.invalid"))
    }));
}

#[test]
fn names_are_known_and_stand_for_their_places() {
    let out = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-train"));
        let home = tempfile::tempdir().unwrap();
        command.env("XDG_CACHE_HOME", home.path());
        command.args(arguments).output().unwrap()
    };
    let list = out(&["pull", "--list"]);
    assert_eq!(list.status.code(), Some(0));
    for model in table() {
        let text = said(&list);
        let line = text
            .lines()
            .find(|l| l.starts_with(&format!("{} ", model.name)));
        assert!(line.unwrap().contains(model.licence), "{}", model.name);
        assert_eq!(find(&model.name.to_uppercase()).unwrap().name, model.name);
        let url = model.url("config.json", "http://hub/");
        let known = url.is_empty() || url.starts_with("https://") || url.starts_with("http://hub/");
        assert!(known && !url.contains("hub//"), "{url}");
    }
    let unknown = out(&["pull", "ViT-Z-1"]);
    assert_eq!(unknown.status.code(), Some(32));
    assert!(
        said(&unknown).contains("ViT-L-14-336"),
        "{}",
        said(&unknown)
    );
    let nowhere = out(&["pull", "faprompt"]);
    assert_eq!(nowhere.status.code(), Some(38));
    assert!(said(&nowhere).contains("`fit`"), "{}", said(&nowhere));
    // A name instead of a path.
    let prompts = golden("faprompt-tiny/prompt_learner.safetensors");
    let missing = out(&[
        "export",
        "--clip",
        "ViT-L-14-336",
        "--prompts",
        prompts.to_str().unwrap(),
        "--out",
        "unused.bundle",
    ]);
    assert_eq!(missing.status.code(), Some(30));
    assert!(
        said(&missing).contains("faprompt-train pull ViT-L-14-336"),
        "{}",
        said(&missing)
    );
    let folder = tempfile::tempdir().unwrap();
    let clip = common::golden_clip(folder.path());
    let prompts = out(&[
        "export",
        "--clip",
        clip.to_str().unwrap(),
        "--method",
        "anomalyclip",
        "--prompts",
        "anomalyclip-mvtec",
        "--out",
        folder.path().join("unused.bundle").to_str().unwrap(),
    ]);
    assert_eq!(prompts.status.code(), Some(30), "{}", said(&prompts));
    assert!(
        said(&prompts).contains("faprompt-train pull anomalyclip-mvtec"),
        "{}",
        said(&prompts)
    );
    // What cannot be fetched is said before anything is.
    let second = out(&["pull", MODEL, "faprompt"]);
    assert_eq!(second.status.code(), Some(38));
    assert!(!said(&second).contains(MODEL), "{}", said(&second));
}
