//! What all ports share: the station behind, the parameters, one set of pending changes, the memory.
//!
//! One session at a time can have pending changes; another's SET is refused as busy until COMMIT, REVERT
//! or the end of that session. Everything that is confirmed is stored before. Must never hold up the
//! station: it only asks the [`ControlledStation`], whose calls return at once. Must never wait for a disk: what is to be
//! written goes to the [`Writer`], and what comes of it is looked at in every call of [`Control::tick`].

mod changes;
pub(crate) mod pace;
mod pause;
mod start;
mod teaching;

pub use changes::Committed;
pub use pause::{MINUTES, Pause, USUAL};
pub use teaching::{Accepted, TeachReport};

use crate::control::host::{ControlledStation, Order, PartResult, SelfTest, Snapshot};
use crate::control::memory::Memory;
use crate::control::password;
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::store::writer::{Writer, Written};
use crate::control::store::{Restored, Stored, Waiting};
use crate::control::table::{Access, Parameter};
use crate::line::alarms::ALARMS;
use crate::line::{Alarm, AlarmSet, Statistics};
use changes::{Change, Pending, Wear};
use heapless::Deque;
use pace::Pace;
use start::Starting;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use teaching::Teaching;

/// Counters, alarms and what was noted of orders are written this often at most, if they changed. A new
/// alarm is written at once, but not more often than [`ALARM_EVERY`].
const BATCH: Duration = Duration::from_secs(10);
const ALARM_EVERY: Duration = Duration::from_secs(1);

/// How often the station is asked for news.
const LOOK: Duration = Duration::from_millis(100);

/// Results that a session may be behind.
const RESULTS: usize = 256;

/// A session of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(u32);

/// Who orders something.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Their session.
    pub session: SessionId,
    /// The port, for the log.
    pub port: &'a str,
    /// Their level.
    pub access: Access,
}

/// See the module.
pub struct Control<H: ControlledStation> {
    host: H,
    writer: Writer,
    /// What is stored, but for the log and what was acknowledged.
    stored: Stored,
    /// The log has lines that are not stored.
    log_dirty: bool,
    pending: Option<Pending>,
    change: Option<Change<H::Loadout>>,
    /// What came of changes whose sessions have not asked yet.
    changed: Vec<(SessionId, Result<Committed, Refusal>)>,
    starting: Option<Starting<H::Loadout>>,
    results: Deque<PartResult, RESULTS>,
    /// Number of the result after the last one.
    next_result: u64,
    teach: Option<Teaching>,
    /// Lessons that waited when the station ended.
    lessons: Vec<Waiting>,
    /// Lessons that were given to be written and are not, and whether the last one could not be.
    writing_lessons: u32,
    lesson_unwritten: bool,
    pause: Option<Pause>,
    sessions: u32,
    looked: Option<Instant>,
    /// When counters and log were given to be written, and whether the counters are not yet.
    written: Option<Instant>,
    counting: bool,
    written_statistics: Statistics,
    written_alarms: AlarmSet,
    challenge_running: bool,
    memory_failed: bool,
    wear: Wear,
    pace: Pace,
}

impl<H: ControlledStation> Control<H> {
    /// Control over a station that works with the restored values already. With a `Store` in place of a
    /// [`Writer`] it writes by itself.
    pub fn new(mut host: H, writer: impl Into<Writer>, restored: Restored) -> Self {
        host.fault(restored.stored.fault);
        Control {
            host,
            writer: writer.into(),
            stored: restored.stored,
            log_dirty: false,
            pending: None,
            change: None,
            changed: Vec::new(),
            starting: None,
            results: Deque::new(),
            next_result: 0,
            teach: None,
            lessons: restored.lessons,
            writing_lessons: 0,
            lesson_unwritten: false,
            pause: None,
            sessions: 0,
            looked: None,
            written: None,
            counting: false,
            written_statistics: restored.statistics,
            written_alarms: restored.alarms,
            challenge_running: false,
            memory_failed: false,
            wear: Wear::default(),
            pace: Pace::default(),
        }
    }

    /// A new session.
    pub fn open(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(self.sessions)
    }

    /// The station.
    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    /// The state of the station.
    pub fn snapshot(&mut self) -> Snapshot {
        self.host.snapshot()
    }

    /// Every alarm that stops the line as long as it is latched: those that are set, those that always do, and the one that
    /// says that nobody judges.
    pub fn alarms_that_stop(&mut self) -> AlarmSet {
        let set = self.stored.memory.alarms_that_stop();
        let nobody = self.host.judging().state.and_then(|s| s.stops_by());
        let always = set.and(AlarmSet::ALWAYS_STOP);
        nobody.map_or(always, |alarm| always.with(alarm))
    }

    /// What is in force.
    pub fn memory(&self) -> &Memory {
        &self.stored.memory
    }

    /// All that is stored.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The log of changes, oldest first.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.stored.log.iter().map(String::as_str)
    }

    /// Whether the memory was damaged and nobody has acknowledged it, or cannot be written.
    pub fn memory_fault(&self) -> bool {
        self.stored.fault || self.memory_failed
    }

    /// The level of a session that has not logged in: the highest one without a password.
    pub fn open_level(&self) -> Access {
        let is_open = |level| self.password_hash(level).is_empty();
        if is_open(Access::Engineer) {
            Access::Engineer
        } else if is_open(Access::Operator) {
            Access::Operator
        } else {
            Access::View
        }
    }

    /// The level of the Modbus client.
    pub fn modbus_access(&self) -> Access {
        match self.stored.memory.text(Parameter::ModbusAccess) {
            "view" => Access::View,
            "operator" => Access::Operator,
            _ => Access::Engineer,
        }
    }

    /// The hash of the password that opens a level; empty where none is set.
    pub(super) fn password_hash(&self, level: Access) -> &str {
        self.stored.memory.text(match level {
            Access::Engineer => Parameter::EngineerPassword,
            Access::View | Access::Operator => Parameter::OperatorPassword,
        })
    }

    /// Tries a password; gives the level.
    ///
    /// # Errors
    /// [`Code::WrongPassword`], [`Code::TooSoon`].
    pub fn login(
        &mut self,
        level: Access,
        password: &str,
        now: Instant,
    ) -> Result<Access, Refusal> {
        if level <= self.open_level() {
            return Ok(level);
        }
        self.check_password(level, password, None, now)
    }

    /// Logs somebody in who comes over a network: only with a password that is set, whatever is open to those who
    /// stand at the station.
    ///
    /// # Errors
    /// [`Code::BadArgument`] (no such level), [`Code::NoPassword`], [`Code::WrongPassword`], [`Code::TooSoon`].
    pub fn login_from_afar(
        &mut self,
        level: &str,
        password: &str,
        from: IpAddr,
        now: Instant,
    ) -> Result<Access, Refusal> {
        let level = match level {
            "operator" => Access::Operator,
            "engineer" => Access::Engineer,
            _ => return Err(Code::BadArgument.into()),
        };
        if self.password_hash(level).is_empty() {
            return Err(Code::NoPassword.into());
        }
        self.check_password(level, password, Some(from), now)
    }

    /// The level, if the password is its own.
    fn check_password(
        &mut self,
        level: Access,
        password: &str,
        from: Option<IpAddr>,
        now: Instant,
    ) -> Result<Access, Refusal> {
        self.may_hash(from, now)?;
        match password::fits(password, self.password_hash(level)) {
            true => Ok(level),
            false => Err(Code::WrongPassword.into()),
        }
    }

    fn may_hash(&mut self, from: Option<IpAddr>, now: Instant) -> Result<(), Refusal> {
        let may = self.pace.may(from, now).then_some(());
        may.ok_or_else(|| Code::TooSoon.into())
    }

    /// Gives the station an order.
    ///
    /// # Errors
    /// An access code, [`Code::WrongTrigger`], or the host's.
    pub fn order(&mut self, who: &Who<'_>, order: Order) -> Result<(), Refusal> {
        let needed = match order {
            Order::Reboot => Access::Engineer,
            _ => Access::Operator,
        };
        allowed(who.access, needed)?;
        let before = self.host.snapshot();
        let source = self.stored.memory.text(Parameter::TriggerSource);
        if order == Order::Trigger && source != "command" {
            return Err(Code::WrongTrigger.into());
        }
        // Test pieces are no good parts.
        if matches!(order, Order::Challenge(_)) && self.takes_parts() {
            return Err(Code::Teaching.into());
        }
        if order == Order::Reboot {
            // While there is time. Whether it can be written or not: a start may be what mends it.
            self.write(&before);
        }
        self.host.order(order)?;
        let (what, old, new) = match order {
            // A PLC gives these every minute: they would push the changes out of the log.
            Order::Arm | Order::Disarm => {
                let how = match order {
                    Order::Arm => "armed",
                    _ => "disarmed",
                };
                self.pause_is_over(who, how);
                return Ok(());
            }
            Order::Trigger | Order::SelfTest => return Ok(()),
            Order::Challenge(pieces) => {
                self.challenge_running = true;
                (
                    "challenge",
                    String::new(),
                    format!("pieces={}", pieces.get()),
                )
            }
            Order::ResetCounters => {
                let outcomes = before.statistics.outcomes;
                let old = format!("parts={} good={}", outcomes.parts, outcomes.good);
                ("counters", old, "0".to_string())
            }
            Order::Reboot => ("reboot", String::new(), String::new()),
            Order::Reset => {
                if before.alarms.is_empty() && !self.stored.fault {
                    return Ok(());
                }
                let left = self.host.snapshot().alarms.bits();
                // What was damaged is known now. A memory that cannot be written stays a fault.
                self.stored.fault = false;
                self.stored.settings_lost = false;
                self.host.fault(self.memory_failed);
                ("alarms", before.alarms.bits().to_string(), left.to_string())
            }
        };
        self.note(&line(who, what, &old, &new));
        Ok(())
    }

    /// What a port sends comes back to it, or answers of another station came there: its adapter echoes, or
    /// two stations are on one line. Noted in the log; nothing of it is obeyed.
    pub fn heard_itself(&mut self, port: &str) {
        let what = "an adapter that echoes, or another station: its answers are not obeyed";
        log::warn!("{port}: answers come in: {what}");
        self.noted("echo", port, what);
    }

    /// A line for the log, stored with the next batch.
    fn note(&mut self, line: &str) {
        self.stored.note(line);
        self.log_dirty = true;
    }

    /// The same of the station itself, see [`Stored::noted`].
    fn noted(&mut self, what: &str, old: &str, new: &str) {
        self.stored.noted(what, old, new);
        self.log_dirty = true;
    }

    /// The result with this number or the first one after it that is still there, and its number.
    pub fn result(&self, number: u64) -> Option<(u64, PartResult)> {
        let oldest = self.next_result - self.results.len() as u64;
        let number = number.max(oldest);
        let place = usize::try_from(number - oldest).ok()?;
        self.results.iter().nth(place).map(|r| (number, *r))
    }

    /// The number that the next result gets.
    pub fn next_result(&mut self) -> u64 {
        self.collect();
        self.next_result
    }

    /// Takes over the results that have come.
    fn collect(&mut self) {
        for _ in 0..RESULTS {
            let Some(result) = self.host.next_result() else {
                break;
            };
            if let Some(teach) = &mut self.teach {
                teach.not_judged += u32::from(result.score.is_none());
            }
            if self.results.is_full() {
                self.results.pop_front();
            }
            // Cannot fail: there is room.
            let _ = self.results.push_back(result);
            self.next_result += 1;
        }
    }

    /// What is due: results, counters, alarms. Every port calls it some ten times a second or more.
    pub fn tick(&mut self, now: Instant) {
        self.collect();
        self.watch_pause(now);
        self.go_on_starting();
        self.go_on_changing();
        let since = |then: Option<Instant>| then.map(|t| now.saturating_duration_since(t));
        if since(self.looked).is_some_and(|d| d < LOOK) {
            return;
        }
        self.looked = Some(now);
        self.resume_lesson();
        self.store_lesson();
        let snapshot = self.host.snapshot();
        self.watch_challenge(&snapshot);
        let batch = since(self.written);
        let batch_due = batch.is_none_or(|d| d >= BATCH)
            && (self.log_dirty || snapshot.statistics != self.written_statistics);
        let alarm_due =
            batch.is_none_or(|d| d >= ALARM_EVERY) && snapshot.alarms != self.written_alarms;
        if (batch_due || alarm_due) && !self.counting {
            self.written = Some(now);
            self.write(&snapshot);
        }
    }

    fn watch_challenge(&mut self, snapshot: &Snapshot) {
        let Some(report) = snapshot.challenge else {
            return;
        };
        let running = !report.is_over();
        if self.challenge_running && !running {
            let passed = if report.passed() { "passed" } else { "failed" };
            let result = format!(
                "{passed} detected={} missed={} not_judged={}",
                report.detected, report.missed, report.not_judged
            );
            self.noted("challenge", &format!("pieces={}", report.pieces), &result);
        }
        self.challenge_running = running;
    }

    /// Has counters, alarms and, if it has new lines, the log written.
    fn write(&mut self, snapshot: &Snapshot) {
        self.counting = true;
        self.writer.counters(&snapshot.statistics, snapshot.alarms);
        // While a change is being stored, what was stored before must not come after it.
        if self.log_dirty && !self.is_storing() {
            self.log_dirty = false;
            self.writer.log(self.stored.clone());
        }
        self.look_what_is_written();
    }

    /// What the writer has done.
    fn look_what_is_written(&mut self) {
        while let Some(written) = self.writer.written() {
            let result = match written {
                Written::Change(result) => {
                    let failed = result.is_err();
                    self.change_is_written(result);
                    self.memory_failed(failed);
                    continue;
                }
                Written::Log(result) => {
                    self.log_dirty |= result.is_err();
                    result
                }
                Written::Lesson(result) => {
                    self.writing_lessons = self.writing_lessons.saturating_sub(1);
                    self.lesson_unwritten = result.is_err();
                    result
                }
                Written::Counters(statistics, alarms, result) => {
                    self.counting = false;
                    if result.is_ok() {
                        (self.written_statistics, self.written_alarms) = (*statistics, alarms);
                    }
                    result
                }
            };
            self.memory_failed(result.is_err());
            if let Err(e) = result {
                log::error!("{e}");
            }
        }
    }

    /// A memory that cannot be written is a fault until it can be.
    fn memory_failed(&mut self, failed: bool) {
        self.memory_failed = failed;
        self.host.fault(self.stored.fault || failed);
    }

    /// Ends control in an orderly way, with the station's last counters; waits until they are stored.
    ///
    /// # Errors
    /// [`Code::Memory`]: the settings or counters could not be stored.
    pub fn close(mut self, statistics: &Statistics) -> Result<(), Refusal> {
        self.writer.wait();
        self.look_what_is_written();
        let alarms = self.host.snapshot().alarms;
        let Some(mut store) = self.writer.end() else {
            return Err(Code::Memory.into());
        };
        if self.log_dirty {
            store.save(&self.stored)?;
        }
        Ok(store.close(statistics, alarms)?)
    }
}

/// The name by which reports call an alarm, and its meaning.
pub fn alarm_text(alarm: Alarm) -> (&'static str, &'static str) {
    match alarm {
        Alarm::ConsecutiveRejects => (
            "consecutive_rejects",
            "Too many rejects in a row (alarm_consecutive)",
        ),
        Alarm::RejectRate => (
            "reject_rate",
            "Too many rejects among the last parts (alarm_rate_percent)",
        ),
        Alarm::RejectUnconfirmed => (
            "reject_unconfirmed",
            "A part that was to be rejected was not seen in the bin",
        ),
        Alarm::BinFull => ("bin_full", "The reject bin has been full for 4 s"),
        Alarm::BinOpen => ("bin_open", "The reject bin has been open for 20 s"),
        Alarm::LowAir => ("low_air", "The ejector lacks air"),
        Alarm::Camera => ("camera", "The camera is down: everything is rejected"),
        Alarm::Latency => ("latency", "A verdict took too long (alarm_latency_ms)"),
        Alarm::Challenge => ("challenge", "A test piece was not rejected by its verdict"),
        Alarm::QueueFull => (
            "queue_full",
            "More parts were on the belt than the station can follow",
        ),
        Alarm::Overrun => (
            "overrun",
            "A reject came when half its part had passed, or triggers were skipped",
        ),
        Alarm::Output => ("output", "An output cannot be switched"),
        Alarm::Results => (
            "results",
            "Results are not written: their thread ended or hangs, or the disk takes no more",
        ),
        Alarm::Network => (
            "network",
            "The stored bundle cannot be used: the last good one judges, or none and the line stays stopped",
        ),
        Alarm::Encoder => (
            "encoder",
            "Parts were triggered and the encoder did not count: where they are is not known",
        ),
        Alarm::NothingVisible => (
            "nothing_visible",
            "Nothing can be seen on the frames: dark, overexposed or of one brightness (frame_spread, frame_bright, frame_dark)",
        ),
        Alarm::Frozen => (
            "frozen",
            "The camera delivers the same frame again and again (frame_identical)",
        ),
        Alarm::Taught => (
            "taught",
            "What was taught cannot be used: the line stays stopped, or FAPrompt judges alone (taught_unusable)",
        ),
        Alarm::Light => (
            "light",
            "Frames are darker, brighter or less sharp than the taught parts were (light_brightness, light_sharpness)",
        ),
        Alarm::Drift => (
            "drift",
            "Parts that pass no longer look as they were taught: the log names the likely cause",
        ),
    }
}

/// The numbers and names of some alarms.
pub fn alarm_names(alarms: AlarmSet) -> impl Iterator<Item = (u8, &'static str)> {
    let set = ALARMS.into_iter().filter(move |a| alarms.contains(*a));
    set.map(|a| (a as u8, alarm_text(a).0))
}

/// The name of a self-test's state.
pub fn self_test_name(test: SelfTest) -> &'static str {
    match test {
        SelfTest::None => "none",
        SelfTest::Running => "running",
        SelfTest::Passed => "passed",
        SelfTest::Failed(_) => "failed",
    }
}

/// A line of the log: when, who, what, old, new. The one place where the wall clock counts.
fn line(who: &Who<'_>, what: &str, old: &str, new: &str) -> String {
    let stamp = jiff::Timestamp::now();
    let (level, port) = (who.access.name(), who.port);
    format!("{stamp:.0},{level}@{port},{what},{old},{new}")
}
