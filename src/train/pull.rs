//! Published weights and prompts by name: from where they are published into the user's cache folder.
//!
//! A download goes on where it was cut, is checked against the digest that its origin states, and is written
//! down in a lock file: another file under the same name is refused later. Never runs anything of what it
//! fetched.

mod fetch;
mod lock;
mod table;

pub use fetch::{Client, Progress};
pub use lock::{Lock, Locked};
pub use table::{Model, Origin, What, find, table};

use super::TrainError;
use super::progress::Interrupt;
use super::tensors::file_digest;
use crate::report::warn;
use std::path::{Path, PathBuf};

/// Name of the lock file in the folder of models.
pub const LOCK: &str = "pull.lock";

/// Why something published is not here.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Nothing has this name.
    #[error("no model is called `{name}`; known are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names that there are.
        known: String,
    },
    /// The weights are published, but not at an address.
    #[error("{name}: {why}")]
    NoAddress {
        /// The name that was asked for.
        name: String,
        /// How to get the weights instead, or why they cannot be had.
        why: &'static str,
    },
    /// The server does not answer.
    #[error(
        "{host} cannot be reached ({what}). Without a network: fetch {url} on another machine and put it to {to}. Behind a proxy: set HTTPS_PROXY. A mirror of the hub: set HF_ENDPOINT"
    )]
    Offline {
        /// Name of the server.
        host: String,
        /// The system's reason.
        what: String,
        /// The address that was asked for.
        url: String,
        /// Where the file belongs.
        to: PathBuf,
    },
    /// It may not be had without more.
    #[error(
        "{url}: refused ({status}): its owner asks for a login or a licence to be accepted: set HF_TOKEN to a token of your account there"
    )]
    Refused {
        /// What was asked for.
        url: String,
        /// Status of the HTTP answer.
        status: u16,
    },
    /// It is not there.
    #[error("{url}: not there ({status}): it was renamed or taken back")]
    Missing {
        /// What was asked for.
        url: String,
        /// Status of the HTTP answer.
        status: u16,
    },
    /// Another answer.
    #[error("{url}: {what}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What came.
        what: String,
    },
    /// Another file than it should be.
    #[error("{url}: SHA-256 is {found}, but {who} says {wanted}: {advice}")]
    Digest {
        /// The address that was fetched.
        url: String,
        /// SHA-256 of what came.
        found: String,
        /// Where the other digest stands.
        who: String,
        /// What it should be.
        wanted: String,
        /// What to do.
        advice: &'static str,
    },
    /// The lock file cannot be read.
    #[error("{path}: {what}", path = path.display())]
    Lock {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// `$XDG_CACHE_HOME/faprompt-edge/NAME`, or below `~/.cache`.
pub fn cache_folder(name: &str) -> PathBuf {
    let set = |key: &str| std::env::var_os(key).filter(|v| !v.is_empty());
    let home = || set("HOME").map(|h| PathBuf::from(h).join(".cache"));
    set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("faprompt-edge")
        .join(name)
}

/// What `pull` made.
pub struct Pulled {
    /// The weight file, or the folder of several files: what `--clip` or `--prompts` takes.
    pub path: PathBuf,
    /// Bytes that came over the network.
    pub fetched: u64,
}

/// Fetches `model` into `folder/NAME`, as far as it is not there, and writes its digests into `lock`; `update`
/// takes other files than the lock names.
///
/// # Errors
/// [`TrainError::Pull`], [`TrainError::Interrupted`]; what came so far stays, and the next call goes on there.
pub fn pull(
    client: &Client,
    model: &Model,
    folder: &Path,
    lock: &Path,
    update: bool,
    stop: Interrupt,
    progress: &dyn Progress,
) -> Result<Pulled, TrainError> {
    model.can_be_fetched()?;
    let own = folder.join(model.name);
    let disk = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PullError::File { path, source }
    };
    std::fs::create_dir_all(&own).map_err(disk(&own))?;
    let mut fetched = 0;
    for choice in model.files {
        let mut last = None;
        for name in *choice {
            match one(client, model, name, &own, lock, update, stop, progress) {
                Ok(bytes) => {
                    fetched += bytes;
                    last = None;
                    break;
                }
                // The same weights under another name, in repositories that were not converted.
                Err(TrainError::Pull(e @ PullError::Missing { .. })) => last = last.or(Some(e)),
                Err(e) => return Err(e),
            }
        }
        if let Some(e) = last {
            return Err(e.into());
        }
    }
    Ok(Pulled {
        path: model.place(folder),
        fetched,
    })
}

/// Fetches one file, unless it is there and is the one that the lock names; returns the bytes that came.
#[allow(clippy::too_many_arguments)]
fn one(
    client: &Client,
    model: &Model,
    name: &str,
    own: &Path,
    lock: &Path,
    update: bool,
    stop: Interrupt,
    progress: &dyn Progress,
) -> Result<u64, TrainError> {
    let url = model.url(name, client.hub());
    let path = own.join(name);
    let mut known = Lock::read(lock)?;
    let locked = known.of(model.name, name).cloned();
    let pinned = model.sha256.map(String::from);
    let wanted = pinned.clone().map(|d| (d, "its publisher")).or(locked
        .as_ref()
        .filter(|_| !update)
        .map(|l| (l.sha256.clone(), "the lock file")));
    if path.is_file() && (!update || pinned.is_some()) {
        let source = |source| PullError::File {
            path: path.clone(),
            source,
        };
        let found = file_digest(&path).map_err(source)?;
        let whole = wanted.as_ref().is_none_or(|(digest, _)| *digest == found);
        if whole {
            if locked.is_none() {
                let bytes = std::fs::metadata(&path).map_err(source)?.len();
                known.put(
                    model.name,
                    name,
                    Locked {
                        sha256: found,
                        bytes,
                        from: url,
                        revision: None,
                    },
                );
                known.write(lock)?;
            }
            return Ok(0);
        }
        // Damaged, or not what the lock names. It stays until another is here.
        if let Some((digest, who)) = &wanted {
            warn(format_args!(
                "{}: SHA-256 is {found}, but {who} says {digest}: it is fetched again",
                path.display()
            ));
        }
    }
    let got = client.fetch(&url, &path, stop, progress)?;
    let advice = match wanted {
        Some((_, "the lock file")) => {
            "the file behind the name has changed; if that is expected: --update"
        }
        _ => "the download was changed on its way; try again, or from another network",
    };
    let stated = got.stated.clone().map(|d| (d, "its origin"));
    for (digest, who) in wanted.into_iter().chain(stated) {
        if digest != got.sha256 {
            let _ = std::fs::remove_file(&path);
            return Err(PullError::Digest {
                url,
                found: got.sha256,
                who: who.into(),
                wanted: digest,
                advice,
            }
            .into());
        }
    }
    // Another run may have written its own lines meanwhile.
    let mut known = Lock::read(lock)?;
    known.put(
        model.name,
        name,
        Locked {
            sha256: got.sha256,
            bytes: got.bytes,
            from: url,
            revision: got.revision,
        },
    );
    known.write(lock)?;
    Ok(got.fetched)
}

/// The path that a command was given, or the place of the published model of that name.
///
/// # Errors
/// [`TrainError::Weights`] if it is a model's name and the model was not pulled.
pub fn resolve(path: &Path) -> Result<PathBuf, TrainError> {
    let name = path.to_str().filter(|_| !path.exists());
    let Some(model) = name.and_then(|name| find(name).ok()) else {
        return Ok(path.to_path_buf());
    };
    let place = model.place(&cache_folder("models"));
    match place.exists() {
        true => Ok(place),
        false => Err(TrainError::Weights {
            path: path.to_path_buf(),
            what: format!(
                "no such file, and the published model of that name is not here yet: faprompt-train pull {}",
                model.name
            ),
        }),
    }
}
