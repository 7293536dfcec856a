//! One file over HTTP, whatever it takes: redirects, a cut connection, a busy server.

use super::PullError;
use crate::train::TrainError;
use crate::train::progress::Interrupt;
use crate::train::tensors::file_digest;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
const HUB: &str = "https://huggingface.co";
/// Redirects of one request; the hub's take two or three.
const REDIRECTS: usize = 10;
/// Answers that brought nothing new before giving up.
const TRIES: u32 = 5;
/// After this long without a byte the connection counts as cut.
const SILENCE: Duration = Duration::from_secs(30);

/// Who wants to know how far it is.
pub trait Progress {
    /// A file begins: its name, and how long it is, if that is known.
    fn begin(&self, file: &str, bytes: Option<u64>);
    /// So much of it is here.
    fn at(&self, bytes: u64);
}

/// A client of hubs.
pub struct Client {
    agent: Agent,
    hub: String,
    token: Option<String>,
    pause: Duration,
}

/// A file that came.
pub struct Got {
    /// SHA-256 of the whole file.
    pub sha256: String,
    /// Length of the file, bytes.
    pub bytes: u64,
    /// What of it came in this call.
    pub fetched: u64,
    /// SHA-256 as its origin states it.
    pub stated: Option<String>,
    /// The commit of its repository.
    pub revision: Option<String>,
}

/// What an attempt came to, and how many bytes came.
enum Attempt {
    /// The whole file is in the partial one.
    Whole(u64),
    /// Nothing more came, though more is there.
    Cut(String, u64),
}

impl Client {
    /// As the environment says: `HF_ENDPOINT`, `HF_TOKEN`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, and the
    /// system's certificates (`SSL_CERT_FILE`).
    pub fn from_environment() -> Client {
        let set = |key: &str| std::env::var(key).ok().filter(|v| !v.is_empty());
        Client::new(
            set("HF_ENDPOINT").unwrap_or(HUB.into()),
            set("HF_TOKEN"),
            Duration::from_secs(1),
        )
    }

    /// Of the hub at `hub`, with a token for it; `pause` is the first wait after a failure, which doubles.
    pub fn new(hub: String, token: Option<String>, pause: Duration) -> Client {
        let tls = TlsConfig::builder()
            // A company's proxy has a certificate of its own, which only the system knows.
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("faprompt-train/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here: what the hub says of a file stands in the answer that redirects.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        Client {
            agent: config.into(),
            hub,
            token,
            pause,
        }
    }

    /// The hub's address.
    pub fn hub(&self) -> &str {
        &self.hub
    }

    /// Fetches `url` to `to`: through `to.part`, which stays if this fails and is gone on with next time.
    pub fn fetch(
        &self,
        url: &str,
        to: &Path,
        stop: Interrupt,
        progress: &dyn Progress,
    ) -> Result<Got, TrainError> {
        let part = beside(to, "part");
        let tag = beside(to, "part.etag");
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        let (mut fetched, mut failures, mut pause) = (0, 0, self.pause);
        let mut stated = Stated::default();
        loop {
            let attempt = self.attempt(url, to, [&part, &tag], &mut stated, stop, progress)?;
            let (Attempt::Whole(came) | Attempt::Cut(_, came)) = attempt;
            fetched += came;
            match attempt {
                Attempt::Whole(_) => break,
                Attempt::Cut(_, 1..) => (failures, pause) = (0, self.pause),
                Attempt::Cut(what, _) if failures + 1 == TRIES => {
                    return Err(PullError::Answer {
                        url: url.into(),
                        what: format!(
                            "{what}, {TRIES} times; what came so far is kept, call again to go on"
                        ),
                    }
                    .into());
                }
                Attempt::Cut(..) => failures += 1,
            }
            log::info!("{url}: cut after {} bytes, going on", length(&part));
            std::thread::sleep(pause);
            pause = (2 * pause).min(SILENCE);
        }
        let disk = |source| PullError::File {
            path: part.clone(),
            source,
        };
        let sha256 = file_digest(&part).map_err(disk)?;
        let bytes = length(&part);
        std::fs::rename(&part, to).map_err(disk)?;
        let _ = std::fs::remove_file(&tag);
        Ok(Got {
            sha256,
            bytes,
            fetched,
            stated: stated.sha256,
            revision: stated.revision,
        })
    }

    /// Asks once for what is missing.
    fn attempt(
        &self,
        url: &str,
        to: &Path,
        [part, tag]: [&PathBuf; 2],
        stated: &mut Stated,
        stop: Interrupt,
        progress: &dyn Progress,
    ) -> Result<Attempt, TrainError> {
        let disk = |source| PullError::File {
            path: part.clone(),
            source,
        };
        let have = std::fs::metadata(part).map_or(0, |m| m.len());
        // Without the tag of what it began as, a rest may be of another file.
        let begun = std::fs::read_to_string(tag).ok().filter(|_| have > 0);
        let answer = self.ask(url, to, begun.as_ref().map(|t| (have, t.as_str())), stated);
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(PullError::Answer { what, .. }) => return Ok(Attempt::Cut(what, 0)),
            Err(e) => return Err(e.into()),
        };
        let status = answer.status().as_u16();
        let refused = |status| PullError::Refused {
            url: url.into(),
            status,
        };
        let from = match status {
            200 => 0,
            206 if range_start(answer.headers()) == Some(have) => have,
            // Not the range that was asked for, or none that there is: from the beginning.
            206 | 416 => {
                std::fs::remove_file(part).map_err(disk)?;
                let what = format!("an answer of another range ({status})");
                return Ok(Attempt::Cut(what, 0));
            }
            401 | 403 => return Err(refused(status).into()),
            404 | 410 => {
                return Err(PullError::Missing {
                    url: url.into(),
                    status,
                }
                .into());
            }
            408 | 429 | 500..=599 => {
                return Ok(Attempt::Cut(format!("the server is busy ({status})"), 0));
            }
            _ => {
                return Err(PullError::Answer {
                    url: url.into(),
                    what: format!("HTTP status {status}"),
                }
                .into());
            }
        };
        let rest = answer.body().content_length();
        let whole = rest.map(|rest| from + rest);
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        progress.begin(&name, whole);
        let strong = header(answer.headers(), "etag").filter(|t| !t.starts_with("W/"));
        match strong {
            Some(etag) => std::fs::write(tag, etag).map_err(disk)?,
            None => _ = std::fs::remove_file(tag),
        }
        let mut file = File::options()
            .create(true)
            .write(true)
            .truncate(from == 0)
            .append(from > 0)
            .open(part)
            .map_err(disk)?;
        let mut at = from;
        let mut body = answer.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        let cut = loop {
            if stop.came() {
                return Err(TrainError::Interrupted {
                    after: format!("{at} bytes of {name}"),
                    checkpoint: part.display().to_string(),
                });
            }
            match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(n) => {
                    file.write_all(&buffer[..n]).map_err(disk)?;
                    at += n as u64;
                    progress.at(at);
                }
                Err(e) => break Some(e.to_string()),
            }
        };
        file.sync_all().map_err(disk)?;
        Ok(match (cut, whole) {
            (Some(what), _) => Attempt::Cut(what, at - from),
            (None, Some(whole)) if at < whole => {
                let what = format!("the connection ended after {at} of {whole} bytes");
                Attempt::Cut(what, at - from)
            }
            (None, _) => Attempt::Whole(at - from),
        })
    }

    /// The answer that is no redirect.
    fn ask(
        &self,
        url: &str,
        to: &Path,
        begun: Option<(u64, &str)>,
        stated: &mut Stated,
    ) -> Result<Response<Body>, PullError> {
        let wrong = |what: String| PullError::Answer {
            url: url.into(),
            what,
        };
        let mut at: Uri = url.parse().map_err(|e| wrong(format!("no address: {e}")))?;
        let hub: Option<Uri> = self.hub.parse().ok();
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(at.clone());
            if let Some((have, etag)) = begun {
                request = request
                    .header("range", format!("bytes={have}-"))
                    .header("if-range", etag);
            }
            // A token is for the hub alone, not for where its files lie.
            if let Some(token) = &self.token
                && hub
                    .as_ref()
                    .is_some_and(|h| h.authority() == at.authority())
            {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = request
                .call()
                .map_err(|e| self.unanswered(e, &at, url, to))?;
            stated.take(answer.headers());
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let location = header(answer.headers(), "location")
                .ok_or_else(|| wrong("a redirect to nowhere".into()))?;
            at = joined(&at, location).ok_or_else(|| wrong(format!("a redirect to {location}")))?;
        }
        Err(wrong(format!("more than {REDIRECTS} redirects")))
    }

    fn unanswered(&self, e: ureq::Error, at: &Uri, url: &str, to: &Path) -> PullError {
        use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
        match e {
            // Somebody was there, and went.
            ureq::Error::Io(e)
                if matches!(
                    e.kind(),
                    ConnectionAborted | ConnectionReset | UnexpectedEof
                ) =>
            {
                PullError::Answer {
                    url: url.into(),
                    what: e.to_string(),
                }
            }
            e => PullError::Offline {
                host: at.host().unwrap_or_default().into(),
                what: e.to_string(),
                url: url.into(),
                to: to.to_path_buf(),
            },
        }
    }
}

/// What answers say of the file behind them.
#[derive(Default)]
struct Stated {
    sha256: Option<String>,
    revision: Option<String>,
}

impl Stated {
    /// The hub's own headers, in the answer that redirects to where a large file lies: its entity tag is the
    /// file's SHA-256. (Small files' tags are git's, of another kind.)
    fn take(&mut self, headers: &HeaderMap) {
        let digest = header(headers, "x-linked-etag").map(|t| t.trim_matches('"'));
        let hexadecimal = |d: &&str| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(digest) = digest.filter(hexadecimal) {
            self.sha256 = Some(digest.to_ascii_lowercase());
        }
        if let Some(commit) = header(headers, "x-repo-commit") {
            self.revision = Some(commit.into());
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Where a partial answer begins: `bytes 100-199/200`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = header(headers, "content-range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

/// Where a redirect leads: another address, or another path of the same host.
fn joined(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with("http://") || location.starts_with("https://") {
        let to: Uri = location.parse().ok()?;
        // Never from a connection that nobody can read to one that anybody can.
        return (from.scheme_str() != Some("https") || to.scheme_str() == Some("https"))
            .then_some(to);
    }
    let path = location.strip_prefix('/')?;
    let (scheme, host) = (from.scheme_str()?, from.authority()?);
    format!("{scheme}://{host}/{path}").parse().ok()
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}
