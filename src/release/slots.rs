//! Two slots, and which of them runs at the next start.
//!
//! `state.toml` says which slot is active and which is on trial; it is replaced whole, so that a power cut
//! leaves the old or the new one. A trial gets one start: if the station has not reported ready by the next
//! one, for whatever reason, the active slot runs again. Folders of a slot are only ever exchanged while
//! nothing refers to them.

use super::answers::answers;
use super::judging::Judges;
use super::manifest::{Member, Release, ReleaseId};
use super::package::{MANIFEST, SIGNATURE, unpack};
use super::{ReleaseError, at};
use crate::bundle::Keys;
use crate::durable::{Files, Folder, Lock};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const STATE: &str = "state.toml";
/// The file in a slot that was confirmed at least once. It holds a counter, so that the later slot can be found if the state is lost.
const CONFIRMED: &str = "confirmed";
/// The folder of a release that is still being received.
const INCOMING: &str = "incoming";
/// The time that another step of flashing is waited for. None takes a second, except on a slow card.
const PATIENCE: Duration = Duration::from_secs(20);
/// Room that must be left on the disk, bytes: state, log and counters go on.
const RESERVE: u64 = 4 << 20;

/// One of the two places that a release can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first slot, folder `a`.
    A,
    /// The second slot, folder `b`.
    B,
}

impl Slot {
    /// Both slots, in the order of their names.
    pub const BOTH: [Slot; 2] = [Slot::A, Slot::B];

    /// The other slot.
    pub const fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A release that has to show that it becomes ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The slot that it is in.
    pub slot: Slot,
    /// The release.
    pub release: ReleaseId,
    /// Whether it had its start.
    pub started: bool,
}

/// How the last trial ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The release that was tried.
    pub release: ReleaseId,
    /// Whether it became active.
    pub kept: bool,
    /// The reason why it did not; empty if it did.
    pub why: String,
}

/// What `state.toml` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The number of confirmations so far.
    #[serde(default)]
    turn: u64,
    /// The slot that runs; `None`: what the package installed.
    active: Option<Slot>,
    trial: Option<Trial>,
    last: Option<Ended>,
}

/// What is known of a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holds {
    /// The release that it holds.
    pub release: ReleaseId,
    /// The program's version.
    pub version: String,
    /// The board.
    pub board: String,
    /// The bundle's name.
    pub bundle: String,
    /// Whether it ever became ready.
    pub confirmed: bool,
}

/// The state of both slots, for people and for the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The slot that runs; `None`: what the package installed.
    pub active: Option<Slot>,
    /// What is on trial.
    pub trial: Option<Trial>,
    /// How the last trial ended.
    pub last: Option<Ended>,
    /// What slot a holds.
    pub a: Option<Holds>,
    /// What slot b holds.
    pub b: Option<Holds>,
    /// What could not be read; the rest is a guess then.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What the station said that it judges with, when it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judges: Option<Judges>,
}

impl Status {
    /// What a slot holds.
    pub fn of(&self, slot: Slot) -> Option<&Holds> {
        match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        }
    }

    /// The release that is active; `None`: what the package installed.
    pub fn running(&self) -> Option<&ReleaseId> {
        Some(&self.of(self.active?)?.release)
    }
}

/// What runs at this start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The slot; `None`: what the package installed.
    pub slot: Option<Slot>,
    /// Whether it is on trial.
    pub trial: bool,
    /// What went wrong before; for the log.
    pub problems: Vec<String>,
}

/// The slots of a node.
#[derive(Clone, Debug)]
pub struct Slots {
    root: PathBuf,
    run: PathBuf,
    packaged: PathBuf,
    /// The station's memory.
    memory: PathBuf,
}

impl Default for Slots {
    fn default() -> Self {
        Slots::under(Path::new("/"))
    }
}

impl Slots {
    /// The slots of the system whose root folder is `root`: `/`, or where a card is mounted.
    pub fn under(root: &Path) -> Slots {
        Slots {
            root: root.join("opt/faprompt-edge"),
            run: root.join("run/faprompt-edge"),
            packaged: root.join("usr/lib/faprompt-edge/packaged"),
            memory: root.join("var/lib/faprompt-edge"),
        }
    }

    fn folder(&self, slot: Slot) -> PathBuf {
        self.root.join(slot.name())
    }

    /// The slots' folder, for this step only.
    fn open(&self) -> Result<Folder, ReleaseError> {
        let since = Instant::now();
        loop {
            match Folder::open(&self.root) {
                Ok(folder) => return Ok(folder),
                Err(e) if since.elapsed() > PATIENCE => return Err(at(&self.root)(e)),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn read(&self) -> Result<State, String> {
        let path = self.root.join(STATE);
        let read = || match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| e.to_string()),
            // Nothing was ever installed, or the file is lost.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                match Slot::BOTH.into_iter().any(|slot| self.turn(slot).is_some()) {
                    true => Err("is gone".into()),
                    false => Ok(State::default()),
                }
            }
            Err(e) => Err(e.to_string()),
        };
        read().map_err(|e| format!("{}: {e}", path.display()))
    }

    fn write(&self, files: &mut impl Files, state: &State) -> Result<(), ReleaseError> {
        let text = toml::to_string(state).unwrap_or_else(|e| unreachable!("plain values: {e}"));
        files
            .replace(STATE, text.as_bytes())
            .map_err(at(&self.root.join(STATE)))
    }

    /// The state, or, if it cannot be read, what the slots say of it: the one that was confirmed last is in use.
    fn restored(&self, problems: &mut Vec<String>) -> State {
        self.read().unwrap_or_else(|e| {
            let last = Slot::BOTH
                .into_iter()
                .filter_map(|slot| Some((self.turn(slot)?, slot)))
                .max_by_key(|(turn, _)| *turn);
            problems.push(format!("{e}: going by what was confirmed last"));
            State {
                turn: last.map_or(0, |(turn, _)| turn),
                active: last.map(|(_, slot)| slot),
                trial: None,
                last: None,
            }
        })
    }

    fn turn(&self, slot: Slot) -> Option<u64> {
        let text = fs::read_to_string(self.folder(slot).join(CONFIRMED)).ok()?;
        text.trim().parse().ok()
    }

    fn manifest(&self, slot: Slot) -> Result<(Release, ReleaseId), ReleaseError> {
        let path = self.folder(slot).join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        Ok((Release::parse(&text)?, ReleaseId::of(&text)))
    }

    /// Whether a slot holds an intact release that is trusted.
    fn intact(&self, slot: Slot, keys: &Keys) -> Result<Release, ReleaseError> {
        let folder = self.folder(slot);
        if !keys.is_empty() {
            let path = folder.join(MANIFEST);
            let text = fs::read(&path).map_err(at(&path))?;
            let signature = fs::read_to_string(folder.join(SIGNATURE)).ok();
            keys.verify(&text, signature.as_deref(), MANIFEST)?;
        }
        let (release, _) = self.manifest(slot)?;
        release.verify(&folder)?;
        Ok(release)
    }

    /// What both slots hold, which one runs, and what is on trial.
    pub fn status(&self) -> Status {
        let holds = |slot| {
            let (release, id) = self.manifest(slot).ok()?;
            Some(Holds {
                release: id,
                version: release.version,
                board: release.board,
                bundle: release.bundle,
                confirmed: self.turn(slot).is_some(),
            })
        };
        let mut problems = vec![];
        let state = self.restored(&mut problems);
        Status {
            problems,
            active: state.active,
            trial: state.trial,
            last: state.last,
            a: holds(Slot::A),
            b: holds(Slot::B),
            judges: Judges::left(&self.memory),
        }
    }

    /// Receives a package into the idle slot and puts it on trial at the next start. `runs_here` is false
    /// for a card of another machine: its program cannot be asked then.
    ///
    /// # Errors
    /// Every [`ReleaseError`]; what runs is not touched.
    pub fn install(
        &self,
        from: impl Read,
        keys: &Keys,
        runs_here: bool,
    ) -> Result<(Slot, ReleaseId), ReleaseError> {
        fs::create_dir_all(&self.root).map_err(at(&self.root))?;
        let place = self.root.join("installing");
        let _lock = Lock::take(&place)
            .map_err(at(&place))?
            .ok_or_else(|| ReleaseError::Busy("another release is being received".into()))?;
        let incoming = self.root.join(INCOMING);
        remove(&incoming)?;
        let received = self.receive(from, keys, &incoming, runs_here);
        let result = received.and_then(|(_, id)| Ok((self.exchange(&incoming, &id)?, id)));
        if result.is_err() {
            // Nothing of it is kept; that it cannot be removed is less than why it was refused.
            let _ = remove(&incoming);
        }
        result
    }

    fn receive(
        &self,
        from: impl Read,
        keys: &Keys,
        incoming: &Path,
        runs_here: bool,
    ) -> Result<(Release, ReleaseId), ReleaseError> {
        fs::create_dir(incoming).map_err(at(incoming))?;
        let (release, id) = unpack(from, keys, incoming, |release| {
            let arch = std::env::consts::ARCH;
            if runs_here && release.arch != arch {
                let what = format!("its program is for {}, this is {arch}", release.arch);
                return Err(ReleaseError::Unfit(what));
            }
            self.room(release.size())
        })?;
        if runs_here {
            answers(incoming, &release, keys)?;
        }
        Ok((release, id))
    }

    /// The slot that [`Slots::install`] would put a release of so many bytes into; changes nothing.
    ///
    /// # Errors
    /// [`ReleaseError::Full`].
    pub fn idle(&self, size: u64) -> Result<Slot, ReleaseError> {
        self.room(size)?;
        let state = self.restored(&mut vec![]);
        Ok(state.active.map_or(Slot::A, Slot::other))
    }

    fn room(&self, needed: u64) -> Result<(), ReleaseError> {
        // Before the first release there is no such folder.
        let there = self.root.ancestors().find(|p| p.exists());
        let there = there.unwrap_or(&self.root);
        let disk = rustix::fs::statvfs(there).map_err(|e| at(there)(e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = needed.saturating_add(RESERVE);
        match free < needed {
            true => Err(ReleaseError::Full {
                path: self.root.clone(),
                needed,
                free,
            }),
            false => Ok(()),
        }
    }

    /// Puts what was received into the idle slot.
    fn exchange(&self, incoming: &Path, id: &ReleaseId) -> Result<Slot, ReleaseError> {
        let mut files = self.open()?;
        let mut state = self.restored(&mut vec![]);
        let slot = state.active.map_or(Slot::A, Slot::other);
        if let Some(trial) = state.trial.take() {
            // Before its folder goes, nothing may refer to it.
            state.last = Some(Ended {
                release: trial.release,
                kept: false,
                why: "another release came before it was ready".into(),
            });
            self.write(&mut files, &state)?;
        }
        remove(&self.folder(slot))?;
        fs::rename(incoming, self.folder(slot)).map_err(at(incoming))?;
        files.sync_folder().map_err(at(&self.root))?;
        state.trial = Some(Trial {
            slot,
            release: id.clone(),
            started: false,
        });
        self.write(&mut files, &state)?;
        Ok(slot)
    }

    /// Chooses what runs at this start, and points `/run/faprompt-edge/slot` to it.
    ///
    /// # Errors
    /// [`ReleaseError::NoneIntact`]: the station must not start; everything is rejected.
    pub fn choose(&self, keys: &Keys) -> Result<Choice, ReleaseError> {
        let mut problems = Vec::new();
        let mut files = self.open()?;
        let mut state = self.restored(&mut problems);
        let before = state.clone();
        let mut choice = None;
        if let Some(trial) = state.trial.take() {
            let verdict = match trial.started {
                true => Err("it ended or lost power before it was ready".to_string()),
                false => self.intact(trial.slot, keys).map_err(|e| e.to_string()),
            };
            match verdict {
                Ok(release) => {
                    choice = Some((trial.slot, release));
                    state.trial = Some(Trial {
                        started: true,
                        ..trial
                    });
                }
                Err(why) => {
                    problems.push(format!("release {} is not kept: {why}", trial.release));
                    state.last = Some(Ended {
                        release: trial.release,
                        kept: false,
                        why,
                    });
                }
            }
        }
        let trial = choice.is_some();
        if let (None, Some(active)) = (&choice, state.active) {
            choice = Some(match self.intact(active, keys) {
                Ok(release) => (active, release),
                Err(e) => {
                    problems.push(format!("slot {active}: {e}"));
                    let other = active.other();
                    // Only one that ran before: nobody would see it fail.
                    let release = match self.turn(other) {
                        Some(_) => self.intact(other, keys),
                        None => Err(ReleaseError::NoOther),
                    };
                    let release = release.map_err(|e| {
                        problems.push(format!("slot {other}: {e}"));
                        ReleaseError::NoneIntact(problems.join("; "))
                    })?;
                    state.active = Some(other);
                    (other, release)
                }
            });
        }
        if state != before || !problems.is_empty() {
            self.write(&mut files, &state)?;
        }
        self.point(choice.as_ref(), trial)?;
        Ok(Choice {
            slot: choice.map(|(slot, _)| slot),
            trial,
            problems,
        })
    }

    /// Where the unit finds program and bundle, and the environment that it gives the program.
    fn point(&self, choice: Option<&(Slot, Release)>, trial: bool) -> Result<(), ReleaseError> {
        let target = choice.map_or(self.packaged.clone(), |(slot, _)| self.folder(*slot));
        fs::create_dir_all(&self.run).map_err(at(&self.run))?;
        let (new, link) = (self.run.join("slot.new"), self.run.join("slot"));
        remove(&new)?;
        symlink(&target, &new)
            .and_then(|()| fs::rename(&new, &link))
            .map_err(at(&link))?;
        let mut text = format!(
            "FAPROMPT_BUNDLE={}\nFAPROMPT_TRIAL={}\n",
            target.join(Member::Bundle.name()).display(),
            u8::from(trial)
        );
        // What was installed without flashing takes the board from /etc/default/faprompt-edge.
        match choice {
            None => (),
            Some((_, r)) if r.files.contains_key(&Member::Board) => {
                text += &format!("FAPROMPT_BOARD={}\n", target.join(&r.board).display());
            }
            Some((_, r)) => text += &format!("FAPROMPT_BOARD={}\n", r.board),
        }
        let environment = self.run.join("slot.env");
        fs::write(&environment, text).map_err(at(&environment))
    }

    /// The station is ready: what is on trial becomes active. Nothing to do without a trial.
    ///
    /// # Errors
    /// [`ReleaseError::File`].
    pub fn confirm(&self) -> Result<Option<Slot>, ReleaseError> {
        let mut files = self.open()?;
        let mut state = self.restored(&mut vec![]);
        let Some(trial) = state.trial.take_if(|t| t.started) else {
            return Ok(None);
        };
        state.turn += 1;
        let slot = trial.slot;
        let path = self.folder(slot).join(CONFIRMED);
        fs::write(&path, format!("{}\n", state.turn))
            .and_then(|()| File::open(&path)?.sync_all())
            .and_then(|()| File::open(self.folder(slot))?.sync_all())
            .map_err(at(&path))?;
        state.active = Some(slot);
        state.last = Some(Ended {
            release: trial.release,
            kept: true,
            why: String::new(),
        });
        self.write(&mut files, &state)?;
        Ok(Some(slot))
    }

    /// Puts the other release on trial at the next start, if it ran here before.
    ///
    /// # Errors
    /// [`ReleaseError::NoOther`], [`ReleaseError::Busy`], a release that is damaged.
    pub fn back(&self, keys: &Keys) -> Result<(Slot, ReleaseId), ReleaseError> {
        let mut files = self.open()?;
        let mut state = self.restored(&mut vec![]);
        if state.trial.is_some() {
            return Err(ReleaseError::Busy("a release is on trial".into()));
        }
        let slot = state.active.map(Slot::other).ok_or(ReleaseError::NoOther)?;
        self.turn(slot).ok_or(ReleaseError::NoOther)?;
        self.intact(slot, keys)?;
        let (_, release) = self.manifest(slot)?;
        state.trial = Some(Trial {
            slot,
            release: release.clone(),
            started: false,
        });
        self.write(&mut files, &state)?;
        Ok((slot, release))
    }
}

/// Removes a folder or a file, if there is one.
fn remove(path: &Path) -> Result<(), ReleaseError> {
    let result = match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(path)(e)),
        _ => Ok(()),
    }
}
