//! From the host to a node: release, package, transfer, trial, answer.
//!
//! Decides nothing about slots: that is the node's business (`release::slots`), which keeps its promise
//! without this program too, when the connection or the power is gone.

mod card;
mod ssh;

pub use card::Card;
pub use ssh::Ssh;

use crate::board::{Board, BoardError, spec::Gpio};
use crate::bundle::{Bundle, BundleError, Keys, Manifest, signature_of};
use crate::exit::ExitCode;
use crate::release::ReleaseError;
use crate::release::manifest::ReleaseId;
use crate::release::package::{Outgoing, Sources};
use crate::release::slots::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use indicatif::ProgressBar;
use std::fmt::Display;
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the node is asked.
const ASK: Duration = Duration::from_secs(1);
/// How often it is said that a node is not ready yet.
const REMIND: Duration = Duration::from_secs(10);

/// Products per second of one core of the fastest processor among the boards, with int8 dot products:
/// Cortex-A78AE at 2.2 GHz, two pipes of 16. No network is quicker than this.
const FASTEST: f64 = 70e9;

/// Why a node was not flashed.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// Something is wrong on this machine.
    #[error("{0}")]
    Local(String),
    /// Board and bundle do not go together.
    #[error("board {board} and {bundle}: {what}")]
    Mismatch {
        /// The board.
        board: String,
        /// The bundle.
        bundle: String,
        /// What does not fit.
        what: String,
    },
    /// The node cannot be reached.
    #[error(
        "{host}: no connection: {said}; nothing was changed, or the node will say with `faprompt-edge slot status`"
    )]
    NoConnection {
        /// Name of the node.
        host: String,
        /// What ssh printed.
        said: String,
    },
    /// The node refused.
    #[error("{host}: `{command}` ended with {code}: {said}")]
    Node {
        /// Name of the node.
        host: String,
        /// What it was asked.
        command: String,
        /// Exit code of the program on the node.
        code: i32,
        /// What the program on the node printed.
        said: String,
    },
    /// The machine is not a node of this program.
    #[error("{host}: {what}")]
    Unfit {
        /// Name of the node.
        host: String,
        /// What is wrong.
        what: String,
    },
    /// The new release did not become ready.
    #[error(
        "{host}: release {release} did not become ready: {why}; the node runs what it ran before.{log}"
    )]
    RolledBack {
        /// Name of the node.
        host: String,
        /// The release.
        release: ReleaseId,
        /// What the node says.
        why: String,
        /// The last lines of its log.
        log: String,
    },
    /// The node did not answer in time.
    #[error(
        "{host}: no answer for {seconds} s. The node runs the old release or the new one: ask it with `faprompt-edge slot status`"
    )]
    Silent {
        /// Name of the node.
        host: String,
        /// The number of seconds that were waited.
        seconds: u64,
    },
    /// The board's file cannot be used.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The release cannot be made or read.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

impl FlashError {
    /// The exit code of a program that stops at this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            FlashError::Mismatch { .. } => ExitCode::Options,
            FlashError::RolledBack { .. } => ExitCode::RolledBack,
            FlashError::Board(_) => ExitCode::Board,
            FlashError::Bundle(e) => e.exit_code(),
            FlashError::Release(e) => e.exit_code(),
            _ => ExitCode::Flash,
        }
    }
}

/// A key to sign with, from a file that `minisign -G` wrote. Asks for the password if there is one.
///
/// # Errors
/// [`FlashError::Local`]: the file cannot be read, is no key, or has another password.
pub fn secret_key(path: &Path) -> Result<minisign::SecretKey, FlashError> {
    let wrong = |e: &dyn Display| FlashError::Local(format!("{}: {e}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
    match without_password(&text) {
        Some(key) => Ok(key),
        None => minisign::SecretKeyBox::from_string(&text)
            .and_then(|key| key.into_secret_key(None))
            .map_err(|e| {
                wrong(&format!(
                    "no secret key as `minisign -G` writes it, or another password: {e}"
                ))
            }),
    }
}

/// A key that was made without a password. The crate's own way to one asks for a checksum that `minisign -G -W`
/// leaves zero.
fn without_password(text: &str) -> Option<minisign::SecretKey> {
    let bytes = STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    let key = minisign::SecretKey::from_bytes(&bytes).ok()?;
    (!key.is_encrypted()).then_some(key)
}

fn sign(key: &minisign::SecretKey, bytes: &[u8]) -> Result<String, FlashError> {
    minisign::sign(None, key, Cursor::new(bytes), None, None)
        .map(|signature| signature.to_string())
        .map_err(|e| FlashError::Local(format!("signing: {e}")))
}

/// A release that is ready to go.
#[derive(Debug)]
pub struct Ready {
    outgoing: Outgoing,
    signature: Option<String>,
    /// What whoever flashes it should know.
    pub warnings: Vec<String>,
}

impl Ready {
    /// Checks board and bundle, alone and against each other. With a key, signs the release, and the bundle
    /// if it has no signature yet (`BUNDLE.minisig`, as `minisign -S` writes it); `dry`: writes no file.
    ///
    /// # Errors
    /// Whatever is wrong on this side.
    pub fn new(
        sources: &Sources,
        key: Option<&minisign::SecretKey>,
        dry: bool,
    ) -> Result<Ready, FlashError> {
        let board = Board::resolve(&sources.board)?;
        let bundle = Bundle::open(&sources.bundle, &Keys::default())?;
        let mut warnings = fits(&board, bundle.manifest(), &sources.bundle)?;
        let beside = signature_of(&sources.bundle);
        let unsigned = key.is_some() && !beside.exists();
        if unsigned && dry {
            warnings.push(format!(
                "{}: would be written; the release gets another name by it",
                beside.display()
            ));
        }
        if let (Some(key), true) = (key, unsigned && !dry) {
            let wrong = |e| FlashError::Local(format!("{}: {e}", beside.display()));
            std::fs::write(&beside, sign(key, bundle.bytes())?).map_err(wrong)?;
        }
        let outgoing = Outgoing::new(sources)?;
        let signature = key
            .map(|k| sign(k, outgoing.text().as_bytes()))
            .transpose()?;
        Ok(Ready {
            outgoing,
            signature,
            warnings,
        })
    }

    /// The id of the release.
    pub fn id(&self) -> ReleaseId {
        self.outgoing.id()
    }

    /// Its manifest, for people.
    pub fn text(&self) -> &str {
        self.outgoing.text()
    }

    /// Whether it is signed.
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// The number of bytes of its files.
    pub fn size(&self) -> u64 {
        self.outgoing.release().size()
    }

    fn write(&self, to: impl std::io::Write) -> Result<(), ReleaseError> {
        self.outgoing.write(self.signature.as_deref(), to)
    }

    /// Writes the package into a file, for another way to the node.
    ///
    /// # Errors
    /// [`FlashError::Release`] or [`FlashError::Local`]: the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FlashError> {
        let wrong = |e| FlashError::Local(format!("{}: {e}", path.display()));
        let file = File::create(path).map_err(wrong)?;
        self.write(&file)?;
        file.sync_all().map_err(wrong)
    }
}

/// Whether a board can run a bundle at all; what is doubtful comes back.
fn fits(board: &Board, manifest: &Manifest, bundle: &Path) -> Result<Vec<String>, FlashError> {
    let mut warnings: Vec<String> = manifest.warning().map(String::from).into_iter().collect();
    let least = manifest.encoder_products() / (FASTEST * f64::from(board.cpu.cores)) * 1e3;
    if least > f64::from(board.reject.delay_ms) {
        return Err(FlashError::Mismatch {
            board: board.name.clone(),
            bundle: bundle.display().to_string(),
            what: format!(
                "a frame takes more than {least:.2} ms on {} cores, but the part is at the reject station after \
                 {} ms (reject.delay_ms): every part would be rejected as late. Take a smaller network, or move \
                 the station",
                board.cpu.cores, board.reject.delay_ms
            ),
        });
    }
    if board.gpio == Gpio::Simulated {
        warnings.push(format!(
            "board {}: its pins are simulated: no part is rejected",
            board.name
        ));
    }
    if manifest.known_score.is_none() {
        warnings.push(format!(
            "{}: without a known score: the self-test cannot check that the node computes the right score; export it again",
            bundle.display()
        ));
    }
    Ok(warnings)
}

/// What the node is, before anything is changed.
#[derive(Debug)]
struct Node {
    arch: String,
    /// What precedes a command that only root may run.
    sudo: &'static str,
    package: String,
    status: Option<Status>,
}

/// Asked in one go: a line per answer.
const PROBE: &str = "echo arch=$(uname -m); echo user=$(id -u); \
    sudo -n true 2>/dev/null && echo sudo=yes; test -d /run/systemd/system && echo systemd=yes; \
    echo package=$(dpkg-query -W -f '${db:Status-Abbrev} ${Version}' faprompt-edge 2>/dev/null); \
    echo slots=$(faprompt-edge slot status --json 2>/dev/null)";

/// How to flash.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The package (.deb) for a node that has none.
    pub deb: PathBuf,
    /// How long the node may take until it is ready.
    pub patience: Duration,
    /// Whether to flash it although the node runs this release already.
    pub again: bool,
}

/// How flashing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flashed {
    /// It runs and is ready, after so long from its start.
    Runs(Duration),
    /// The node ran this release already.
    Ran,
}

impl Plan {
    /// Every step in words, with the command that the node gets.
    pub fn steps(&self, ready: &Ready) -> Vec<(String, Option<String>)> {
        vec![
            (
                "look at the node: processor, rights, package, slots".into(),
                Some(PROBE.into()),
            ),
            (
                format!(
                    "if it has no faprompt-edge: send {} and install it",
                    self.deb.display()
                ),
                Some(install_deb("sudo -n ")),
            ),
            (
                format!(
                    "send release {} ({:.1} MB{}); the node checks it and puts it into its idle slot",
                    ready.id(),
                    ready.size() as f64 / 1e6,
                    if ready.is_signed() { ", signed" } else { "" }
                ),
                Some(receive("sudo -n ")),
            ),
            ("start it, on trial".into(), Some(restart("sudo -n "))),
            (
                format!(
                    "ask until it is ready and its self-test passed, or the node went back to what it ran; at most {} s",
                    self.patience.as_secs()
                ),
                Some(status("sudo -n ")),
            ),
        ]
    }

    /// Flashes the node. `say` gets each step as a line.
    ///
    /// # Errors
    /// Every [`FlashError`].
    pub fn run(
        &self,
        ssh: &Ssh,
        ready: &Ready,
        bar: &ProgressBar,
        say: &dyn Fn(String),
    ) -> Result<Flashed, FlashError> {
        let id = ready.id();
        let mut node = probe(ssh)?;
        let release = ready.outgoing.release();
        if node.arch != release.arch {
            return Err(unfit(
                ssh,
                format!("it is {}, the program is for {}", node.arch, release.arch),
            ));
        }
        say(format!(
            "{}: {}, package {}",
            ssh.host(),
            node.arch,
            match node.package.as_str() {
                "" => "not installed",
                package => package,
            }
        ));
        if node.status.is_none() {
            say(format!("installing {}", self.deb.display()));
            let send = |to: &mut std::process::ChildStdin| {
                let wrong = |e| FlashError::Local(format!("{}: {e}", self.deb.display()));
                let mut deb = File::open(&self.deb).map_err(wrong)?;
                std::io::copy(&mut deb, to).map(|_| ()).map_err(wrong)
            };
            ssh.feed(&install_deb(node.sudo), send)?;
            node = probe(ssh)?;
            if node.status.is_none() {
                let what =
                    "`faprompt-edge slot status` gives no answer after the package was installed";
                return Err(unfit(ssh, what.into()));
            }
        }
        if let Some(before) = &node.status {
            let running = before.running().filter(|_| before.trial.is_none());
            if running == Some(&id) && !self.again {
                return Ok(Flashed::Ran);
            }
        }
        say(format!("sending release {id}"));
        bar.set_length(ready.size());
        let said = ssh.feed(&receive(node.sudo), |to| {
            Ok(ready.write(bar.wrap_write(to))?)
        });
        bar.finish_and_clear();
        say(said?.trim().to_string());
        persistent(|| ssh.output(&restart(node.sudo)))?;
        let started = Instant::now();
        say("started, on trial".into());
        self.wait(ssh, &node, &id, started, say)
    }

    fn wait(
        &self,
        ssh: &Ssh,
        node: &Node,
        id: &ReleaseId,
        started: Instant,
        say: &dyn Fn(String),
    ) -> Result<Flashed, FlashError> {
        let mut said = started;
        loop {
            let answer = ssh.output(&status(node.sudo));
            // A node that is being started again does not answer; neither does half an answer count.
            let now: Option<Status> = answer.ok().and_then(|t| serde_json::from_str(&t).ok());
            match &now {
                Some(now) if now.trial.is_none() => {
                    let why = match &now.last {
                        Some(last) if last.release == *id && last.kept => {
                            if let Some(judges) = now.judges.as_ref().filter(|j| j.from_recipe) {
                                let bundle = &judges.bundle;
                                say(format!(
                                    "a recipe names another bundle, which judges: {bundle}"
                                ));
                            }
                            return Ok(Flashed::Runs(started.elapsed()));
                        }
                        Some(last) if last.release == *id => last.why.clone(),
                        _ => "it is not on trial any more".into(),
                    };
                    let log = format!(
                        "{}journalctl -u faprompt-edge -n 25 --no-pager -o cat",
                        node.sudo
                    );
                    let log = ssh.output(&log).unwrap_or_default();
                    return Err(FlashError::RolledBack {
                        host: ssh.host().into(),
                        release: id.clone(),
                        why,
                        log: match log.trim() {
                            "" => String::new(),
                            log => format!(" Its log ends with:\n{log}"),
                        },
                    });
                }
                Some(_) => (),
                None => ssh.reconnect(),
            }
            if said.elapsed() > REMIND {
                said = Instant::now();
                let state = if now.is_some() {
                    "still on trial"
                } else {
                    "the node does not answer"
                };
                say(format!("{state} after {} s", started.elapsed().as_secs()));
            }
            if started.elapsed() > self.patience {
                return Err(FlashError::Silent {
                    host: ssh.host().into(),
                    seconds: self.patience.as_secs(),
                });
            }
            std::thread::sleep(ASK);
        }
    }
}

/// systemd refuses connections for a moment while it reads its units again: asks a few times.
fn persistent<T>(mut ask: impl FnMut() -> Result<T, FlashError>) -> Result<T, FlashError> {
    for _ in 0..3 {
        match ask() {
            Err(FlashError::Node { .. }) => std::thread::sleep(ASK),
            answer => return answer,
        }
    }
    ask()
}

fn unfit(ssh: &Ssh, what: String) -> FlashError {
    FlashError::Unfit {
        host: ssh.host().into(),
        what,
    }
}

fn probe(ssh: &Ssh) -> Result<Node, FlashError> {
    let text = ssh.output(PROBE)?;
    let answer = |key: &str| {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim()
    };
    let sudo = match (answer("user"), answer("sudo")) {
        ("0", _) => "",
        (_, "yes") => "sudo -n ",
        _ => {
            let what = "this user may not become root without a password: flash as root@..., or let it \
                        (NOPASSWD in /etc/sudoers.d)";
            return Err(unfit(ssh, what.into()));
        }
    };
    if answer("systemd") != "yes" {
        return Err(unfit(ssh, "it does not run systemd".into()));
    }
    Ok(Node {
        arch: answer("arch").into(),
        sudo,
        package: answer("package").into(),
        status: serde_json::from_str(answer("slots")).ok(),
    })
}

/// Puts a half-done installation right first: the power may have been cut in it.
fn install_deb(sudo: &str) -> String {
    format!(
        "f=$(mktemp --suffix=.deb) && cat > $f && {{ {sudo}dpkg --force-confold --configure -a; {sudo}dpkg --force-confold -i $f; }} >&2; r=$?; rm -f $f; exit $r"
    )
}

fn receive(sudo: &str) -> String {
    format!("{sudo}faprompt-edge slot install")
}

/// In the background of the node: its answer is asked for, not waited for.
fn restart(sudo: &str) -> String {
    format!(
        "{sudo}systemctl enable -q faprompt-edge && {sudo}systemctl restart --no-block faprompt-edge"
    )
}

fn status(sudo: &str) -> String {
    format!("{sudo}faprompt-edge slot status --json")
}
