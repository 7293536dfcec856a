//! The thread that writes down what happened: a line per part, overlays of rejects, alarms.
//!
//! Looks on from the side: the line never waits for it. What finds no room in its queue, or cannot be
//! written, is counted. What it keeps is bounded, on disk too.

use super::mailbox::{Mailbox, Post, mailbox};
use super::shared::{Shared, lock};
use crate::control::host::PartResult;
use crate::control::table::Parameter;
use crate::control::values::Values;
use crate::durable::Lock;
use crate::inspector::Inspection;
use crate::line::{Alarm, AlarmSet, ChallengeReport, Micros, Outcome, PartId};
use crate::report::{Caption, overlay, say, warn};
use image::RgbImage;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Error, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often it shows that it is alive if there is nothing to write.
const BEAT: Duration = Duration::from_millis(250);
/// Records that wait: some seconds of the fastest line.
const WAITING: usize = 4096;
/// Pictures in memory; rejects beyond get no overlay, and are counted.
const PICTURES: usize = 24;
/// Parts that are remembered until their outcome: more than the belt holds.
const REMEMBERED: usize = 2048;
/// When verdicts.jsonl is this long it becomes verdicts.1.jsonl, in place of the one before.
const LONGEST: u64 = 32 << 20;

/// Whose pictures are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nobody's.
    Nothing,
    /// Those of parts that their verdict rejects.
    Rejects,
    /// Those of all parts that were judged.
    All,
}

/// Which pictures are kept, and how much room they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Whose.
    pub keep: Keep,
    /// Room, megabytes; the oldest make way.
    pub limit_mb: u32,
}

impl Archive {
    /// What the parameters say.
    pub fn of(values: &Values) -> Self {
        Archive {
            keep: match values.text(Parameter::Archive) {
                "off" => Keep::Nothing,
                "all" => Keep::All,
                _ => Keep::Rejects,
            },
            limit_mb: values.number(Parameter::ArchiveLimitMb),
        }
    }
}

/// The archive's setting between threads.
#[derive(Debug)]
pub(super) struct ArchiveSetting(Mutex<Archive>);

impl Default for ArchiveSetting {
    fn default() -> Self {
        ArchiveSetting(Mutex::new(Archive {
            keep: Keep::Rejects,
            limit_mb: 1000,
        }))
    }
}

impl ArchiveSetting {
    pub(super) fn set(&self, archive: Archive) {
        *lock(&self.0) = archive;
    }

    pub(super) fn get(&self) -> Archive {
        *lock(&self.0)
    }
}

/// A frame and what was seen on it.
pub struct Picture {
    /// The frame.
    pub frame: RgbImage,
    /// What the network made of it.
    pub inspection: Inspection,
}

/// Something to write down.
pub enum Record {
    /// A frame was judged, or could not be.
    Judged {
        /// Whose.
        part: PartId,
        /// What the frame is called.
        name: String,
        /// Whether the part is defective, where the source knows.
        defective: Option<bool>,
        /// Why it could not be judged.
        error: Option<String>,
        /// Whether its picture follows.
        picture: bool,
    },
    /// The picture of a part that its verdict rejects.
    Picture {
        /// Whose.
        part: PartId,
        /// The picture.
        picture: Box<Picture>,
    },
    /// What became of a part.
    Outcome {
        /// All of it.
        result: PartResult,
        /// When it was triggered.
        triggered: Micros,
        /// Where the reject station is for it: microseconds on the same clock, or encoder counts.
        due: u64,
        /// When it got its outcome.
        at: Micros,
    },
    /// An alarm was raised.
    Alarm {
        /// Which.
        alarm: Alarm,
        /// When.
        at: Micros,
    },
    /// Alarms were reset.
    Reset {
        /// Which.
        alarms: AlarmSet,
        /// When.
        at: Micros,
    },
    /// A challenge is over.
    Challenge {
        /// How it went.
        report: ChallengeReport,
        /// When.
        at: Micros,
    },
}

/// Where records go.
#[derive(Clone)]
pub struct RecordSender {
    records: Post<Record, WAITING>,
    pictures: Arc<AtomicUsize>,
}

impl RecordSender {
    /// Hands a record over. Never waits.
    pub fn send(&self, shared: &Shared, record: Record) {
        let picture = matches!(record, Record::Picture { .. });
        match self.records.try_send(record) {
            Ok(()) if picture => {
                self.pictures.fetch_add(1, Ordering::Relaxed);
            }
            Ok(()) => (),
            Err(_) => {
                shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether another picture may wait.
    pub fn has_room_for_a_picture(&self) -> bool {
        self.pictures.load(Ordering::Relaxed) < PICTURES
    }
}

/// What every overlay says, and how.
#[derive(Clone, Debug)]
pub struct Style {
    /// A line that must not be missed.
    pub warning: Option<&'static str>,
    /// Gaussian smoothing of the map, pixels of the network's input.
    pub smoothing_sigma: f32,
    /// Whether a line per part goes to standard output.
    pub lines: bool,
}

/// A line of verdicts.jsonl, written when the part has its outcome. Times are microseconds on
/// CLOCK_MONOTONIC.
#[derive(Serialize)]
struct PartLine<'a> {
    part: u64,
    name: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    triggered_us: u64,
    /// Where the reject station is for it: a time, or encoder counts.
    due: u64,
    at_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

/// A line of events.jsonl.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum EventLine {
    Alarm {
        number: u8,
        alarm: String,
        at_us: u64,
    },
    Reset {
        alarms: u32,
        at_us: u64,
    },
    Challenge {
        pieces: u32,
        detected: u32,
        missed: u32,
        not_judged: u32,
        at_us: u64,
    },
}

/// What is known of a part before its outcome.
struct Known {
    name: String,
    defective: Option<bool>,
    error: Option<String>,
    picture: bool,
}

/// What was made of the parts whose truth the source knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Defective ones.
    pub defective: u64,
    /// Of those, how many left the belt.
    pub rejected: u64,
}

/// A file that grows line by line, and is put aside when it is long.
struct Lines {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Lines {
    fn create(path: PathBuf) -> Result<Self, (PathBuf, Error)> {
        match File::create(&path) {
            Ok(file) => Ok(Lines {
                path,
                file,
                length: 0,
            }),
            Err(e) => Err((path, e)),
        }
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.length + text.len() as u64 > LONGEST {
            std::fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            self.file = File::create(&self.path)?;
            self.length = 0;
        }
        self.file.write_all(&text)?;
        self.length += text.len() as u64;
        Ok(())
    }
}

/// Whether `name` is one of this program's overlays: five digits, a dash, `.png`.
fn is_overlay(name: &str) -> bool {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    digits >= 5 && name[digits..].starts_with('-') && name.ends_with(".png")
}

/// The thread's state.
pub struct Recorder {
    records: Mailbox<Record, WAITING>,
    pictures: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    style: Style,
    verdicts: Lines,
    events: Lines,
    rejects: PathBuf,
    overlays: VecDeque<(PathBuf, u64)>,
    /// Bytes of them.
    size: u64,
    known: BTreeMap<PartId, Known>,
    /// Rejects whose picture has yet to come, and what they are called.
    awaited: BTreeMap<PartId, (String, &'static str)>,
    /// Pictures whose part has yet to arrive.
    held: BTreeMap<PartId, Box<Picture>>,
    truth: Truth,
    /// Of the folder: another program's results are not mixed with these.
    _lock: Lock,
}

impl Recorder {
    /// Opens the results folder. With `keep`, what an earlier run left there is kept: its lines as
    /// `*.1.jsonl`, its overlays among those that make way when there are too many. Without, it would be
    /// taken for this run's, and is removed.
    ///
    /// # Errors
    /// The path that failed, and the system's reason; the folder, if another program has it.
    pub fn create(
        out: &Path,
        keep: bool,
        style: Style,
        shared: Arc<Shared>,
    ) -> Result<(Recorder, RecordSender), (PathBuf, Error)> {
        let rejects = out.join("rejects");
        let at = |e| (rejects.clone(), e);
        std::fs::create_dir_all(&rejects).map_err(at)?;
        let path = out.join(".lock");
        let lock = match Lock::take(&path) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                let what = "another program writes its results there: choose another --out";
                return Err((out.into(), Error::other(what)));
            }
            Err(e) => return Err((path, e)),
        };
        let mut overlays = VecDeque::new();
        for entry in std::fs::read_dir(&rejects).map_err(at)? {
            let entry = entry.map_err(at)?;
            if is_overlay(&entry.file_name().to_string_lossy()) {
                let size = entry.metadata().map_err(at)?.len();
                overlays.push_back((entry.path(), size));
            }
        }
        if !keep {
            for (path, _) in overlays.drain(..) {
                std::fs::remove_file(&path).map_err(|e| (path, e))?;
            }
        }
        // Part numbers have at least five digits and only grow.
        overlays
            .make_contiguous()
            .sort_by_key(|(path, _)| (path.as_os_str().len(), path.clone()));
        for name in ["verdicts", "events"] {
            let (now, before) = (
                out.join(format!("{name}.jsonl")),
                out.join(format!("{name}.1.jsonl")),
            );
            if keep && now.is_file() {
                std::fs::rename(&now, &before).map_err(|e| (now, e))?;
            } else if !keep && before.is_file() {
                std::fs::remove_file(&before).map_err(|e| (before, e))?;
            }
        }
        let summary = out.join("summary.json");
        if summary.is_file() {
            std::fs::remove_file(&summary).map_err(|e| (summary, e))?;
        }
        let (sender, records) = mailbox();
        let pictures = Arc::new(AtomicUsize::new(0));
        let sender = RecordSender {
            records: sender,
            pictures: pictures.clone(),
        };
        let recorder = Recorder {
            records,
            pictures,
            shared,
            style,
            verdicts: Lines::create(out.join("verdicts.jsonl"))?,
            events: Lines::create(out.join("events.jsonl"))?,
            rejects,
            size: overlays.iter().map(|(_, size)| size).sum(),
            overlays,
            known: BTreeMap::new(),
            awaited: BTreeMap::new(),
            held: BTreeMap::new(),
            truth: Truth::default(),
            _lock: lock,
        };
        Ok((recorder, sender))
    }

    /// Writes until nobody sends any more.
    pub fn run(mut self) -> Truth {
        loop {
            self.shared.recorder.beat();
            match self.records.recv_timeout(BEAT) {
                Ok(record) => self.take(record),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return self.truth,
            }
        }
    }

    fn lose(&self, path: &Path, reason: impl std::fmt::Display) {
        // A full disk is said once, not once per part.
        if self.shared.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            warn(format_args!(
                "{}: cannot be written: {reason}; what is lost from here on is counted",
                path.display()
            ));
        }
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Judged {
                part,
                name,
                defective,
                error,
                picture,
            } => {
                let known = Known {
                    name,
                    defective,
                    error,
                    picture,
                };
                self.known.insert(part, known);
                // Parts that had their outcome before their verdict stay behind.
                if self.known.len() > REMEMBERED {
                    self.known.pop_first();
                }
            }
            Record::Picture { part, picture } => match self.awaited.remove(&part) {
                Some((name, verdict)) => self.overlay(part, &name, verdict, &picture),
                None if self.known.contains_key(&part) => {
                    self.held.insert(part, picture);
                }
                // Its outcome was another one.
                None => self.forget(picture),
            },
            Record::Outcome {
                result,
                triggered,
                due,
                at,
            } => self.outcome(result, triggered, due, at),
            Record::Alarm { alarm, at } => {
                warn(format_args!("alarm {}: {alarm:?}", alarm as u8));
                self.event(&EventLine::Alarm {
                    number: alarm as u8,
                    alarm: format!("{alarm:?}"),
                    at_us: at.0,
                });
            }
            Record::Reset { alarms, at } => self.event(&EventLine::Reset {
                alarms: alarms.bits(),
                at_us: at.0,
            }),
            Record::Challenge { report, at } => {
                say(format_args!(
                    "challenge: {} of {} test pieces detected, {} missed, {} not judged",
                    report.detected, report.pieces, report.missed, report.not_judged
                ));
                self.event(&EventLine::Challenge {
                    pieces: report.pieces,
                    detected: report.detected,
                    missed: report.missed,
                    not_judged: report.not_judged,
                    at_us: at.0,
                });
            }
        }
    }

    fn event(&mut self, line: &EventLine) {
        if let Err(e) = self.events.write(line) {
            self.lose(&self.events.path, e);
        }
    }

    fn outcome(&mut self, result: PartResult, triggered: Micros, due: u64, at: Micros) {
        self.shared.tell(result);
        let known = self.known.remove(&result.part);
        let (name, error) = known
            .as_ref()
            .map_or(("", None), |k| (k.name.as_str(), k.error.as_deref()));
        let line = PartLine {
            part: result.part.0,
            name,
            outcome: result.outcome.word(),
            score: result.score,
            latency_ms: result.latency_us.map(|us| us as f64 / 1000.0),
            triggered_us: triggered.0,
            due,
            at_us: at.0,
            error,
            warning: self.style.warning,
        };
        if let Err(e) = self.verdicts.write(&line) {
            self.lose(&self.verdicts.path, e);
        }
        if self.style.lines {
            let number = |v: Option<String>| v.unwrap_or_else(|| "-".into());
            // Most errors begin with what failed, and that is their part's name.
            let shown = match error {
                Some(error) if error.starts_with(name) => "",
                _ => name,
            };
            say(format_args!(
                "part {:4}  {:24} {:>6} {:>9} ms  {shown} {}",
                line.part,
                line.outcome,
                number(line.score.map(|s| format!("{s:.4}"))),
                number(line.latency_ms.map(|ms| format!("{ms:.1}"))),
                error.unwrap_or_default()
            ));
        }
        let held = self.held.remove(&result.part);
        let Some(known) = known else { return };
        if known.defective == Some(true) {
            self.truth.defective += 1;
            self.truth.rejected += u64::from(result.outcome.is_reject());
        }
        match held {
            Some(picture) if self.keeps(result.outcome) => {
                self.overlay(result.part, &known.name, result.outcome.word(), &picture);
            }
            Some(picture) => self.forget(picture),
            None if known.picture && self.keeps(result.outcome) => {
                self.awaited
                    .insert(result.part, (known.name, result.outcome.word()));
                // Those whose picture found no room on its way never come.
                if self.awaited.len() > PICTURES {
                    self.awaited.pop_first();
                }
            }
            None => (),
        }
    }

    /// Whether the picture of a part that was judged in time is kept.
    fn keeps(&self, outcome: Outcome) -> bool {
        match self.shared.archive.get().keep {
            Keep::Nothing => false,
            Keep::Rejects => outcome == Outcome::Reject,
            Keep::All => matches!(outcome, Outcome::Good | Outcome::Reject),
        }
    }

    fn forget(&self, picture: Box<Picture>) {
        drop(picture);
        self.pictures.fetch_sub(1, Ordering::Relaxed);
    }

    fn overlay(&mut self, part: PartId, name: &str, verdict: &str, picture: &Picture) {
        self.pictures.fetch_sub(1, Ordering::Relaxed);
        let caption = Caption {
            verdict,
            reject: verdict != Outcome::Good.word(),
            score: picture.inspection.score,
            threshold: self.shared.threshold(),
            name,
            warning: self.style.warning,
        };
        let map = picture
            .inspection
            .map()
            .smoothed(self.style.smoothing_sigma);
        let stem = Path::new(name).file_stem().unwrap_or_default();
        let file = format!("{:05}-{}.png", part.0, stem.to_string_lossy());
        let path = self.rejects.join(file);
        if let Err(e) = overlay(&picture.frame, &map, &caption).save(&path) {
            self.lose(&path, e);
            return;
        }
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        self.overlays.push_back((path, size));
        self.size += size;
        let limit = u64::from(self.shared.archive.get().limit_mb) * 1_000_000;
        while self.size > limit
            && let Some((oldest, size)) = self.overlays.pop_front()
        {
            self.size -= size;
            if let Err(e) = std::fs::remove_file(&oldest) {
                log::warn!("{}: cannot be removed: {e}", oldest.display());
            }
        }
    }
}
