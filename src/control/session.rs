//! One session: what comes in on a port, answered line by line.
//!
//! An answer is `OK,COMMAND[,value...]` or `ER,COMMAND,code,text`. Where more lines follow, its last value
//! is `lines=N`, and each of them begins with the command's name. A value with a comma stands in double quotes.
//! Lines of RESULT come between answers, never inside. Must never keep the [`Control`] longer than one line takes.

use super::command::{Assembler, Command, LINE, Line, VERBS, Verb, parse};
use super::host::{
    ControlledStation, Judging, LessonState, Mode, Opinions, Order, PartResult, SelfTest, Snapshot,
    Teach,
};
use super::refusal::{Code, Refusal};
use super::shared::{
    Accepted, Committed, Control, SessionId, TeachReport, Who, alarm_names, self_test_name,
};
use super::table::{Access, LEVELS, Parameter, Register, STEPS, TABLE};
use super::values::{Value, quoted};
use crate::line::lanes::SortCounts;
use crate::line::settings::Pieces;
use crate::line::{AlarmSet, Cause, NetworkState, Outcome, Statistics};
use std::fmt::{self, Write};
use std::time::{Duration, Instant};

/// A session in which nothing is said for so long goes back to the open level and loses its pending
/// changes.
pub const IDLE: Duration = Duration::from_secs(15 * 60);

/// Results that are told in one go.
const RESULTS_AT_ONCE: usize = 64;

/// Bytes of the longest answer, LOG with all its lines; and some.
pub const OUTPUT: usize = 48 * 1024;

/// Where answers go.
pub type Output = heapless::String<OUTPUT>;

/// A session.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    port: String,
    assembler: Assembler,
    /// `None`: the open level.
    level: Option<Access>,
    power_on: bool,
    /// The next result to tell; `None`: RESULT is off.
    results: Option<u64>,
    last: Instant,
    told_echo: bool,
    /// It came over a network: who has no password has no level.
    afar: bool,
    waiting: Option<Waiting>,
}

/// An answer that comes when a change is in force.
#[derive(Debug)]
struct Waiting {
    sequence: Option<u16>,
    verb: Verb,
    after: After,
}

/// What it says then.
#[derive(Debug)]
enum After {
    /// What was changed.
    Commit,
    /// The recipe.
    Recipe,
    /// What was taught.
    Accept(Accepted),
}

/// What an answer is: values to follow the command's name, or a refusal.
type Answer = Result<(), Refusal>;

impl Session {
    /// A session for a port, by whose name the log knows it.
    pub fn new<H: ControlledStation>(control: &mut Control<H>, port: &str, now: Instant) -> Self {
        let results = control.memory().is_on(Parameter::ResultAtStart);
        Session {
            id: control.open(),
            port: port.to_string(),
            assembler: Assembler::default(),
            level: None,
            power_on: true,
            results: results.then(|| control.next_result()),
            last: now,
            told_echo: false,
            afar: false,
            waiting: None,
        }
    }

    /// A session over a network, of somebody who has logged in at this level: see [`Control::login_from_afar`].
    pub fn from_afar<H: ControlledStation>(
        control: &mut Control<H>,
        port: &str,
        level: Access,
        now: Instant,
    ) -> Self {
        Session {
            level: Some(level),
            power_on: false,
            results: None,
            afar: true,
            ..Session::new(control, port, now)
        }
    }

    /// Answers one line of text. What is no line of the command set (blank, an answer itself) has no answer.
    pub fn answer_line<H: ControlledStation>(
        &mut self,
        text: &str,
        now: Instant,
        control: &mut Control<H>,
        out: &mut Output,
    ) {
        let line = text
            .bytes()
            .chain([b'\n'])
            .find_map(|byte| self.push(byte, now));
        if let Some(line) = line {
            self.answer(&line, now, control, out);
        }
    }

    /// Whether the last line's answer is yet to come: from [`Session::idle`]. No line may be answered before.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes a byte; a line that it ends is for [`Session::answer`]. Needs no [`Control`].
    pub fn push(&mut self, byte: u8, now: Instant) -> Option<Line> {
        self.assembler.push(byte, now)
    }

    /// Lines that came in and were answers: see [`Assembler::answers`].
    pub fn heard(&self) -> u64 {
        self.assembler.answers()
    }

    /// Answers a line: exactly one `OK` or `ER`, unless the session [is waiting](Session::is_waiting) then.
    pub fn answer<H: ControlledStation>(
        &mut self,
        line: &Line,
        now: Instant,
        control: &mut Control<H>,
        out: &mut Output,
    ) {
        self.last = now;
        let line = match line {
            Ok(line) => line,
            Err(code) => return refuse(out, None, None, &(*code).into()),
        };
        let Ok(text) = std::str::from_utf8(line) else {
            return refuse(out, None, None, &Code::BadCharacter.into());
        };
        let request = parse(text);
        let command = match request.command {
            Ok(command) => command,
            Err((code, verb)) => return refuse(out, request.sequence, verb, &code.into()),
        };
        let start = out.len();
        sequence(out, request.sequence);
        let _ = write!(out, "OK,{}", command.verb.entry().name);
        let mut more = Vec::new();
        match self.run(command, now, control, out, &mut more) {
            Ok(()) if self.waiting.is_some() => {
                out.truncate(start);
                if let Some(waiting) = &mut self.waiting {
                    waiting.sequence = request.sequence;
                }
            }
            Ok(()) => {
                if !more.is_empty() {
                    let _ = write!(out, ",lines={}", more.len());
                }
                end(out);
                for line in more {
                    let _ = write!(out, "{},{line}", command.verb.entry().name);
                    end(out);
                }
            }
            Err(refusal) => {
                out.truncate(start);
                refuse(out, request.sequence, Some(command.verb), &refusal);
            }
        }
    }

    /// What is due without a line: time-outs, results.
    pub fn idle<H: ControlledStation>(
        &mut self,
        now: Instant,
        control: &mut Control<H>,
        out: &mut Output,
    ) {
        self.listen(control);
        self.answer_late(control, out);
        let limit = u64::from(control.memory().number(Parameter::SerialTimeoutMs));
        if limit > 0 && self.assembler.time_out(now, Duration::from_millis(limit)) {
            refuse(out, None, None, &Code::TimedOut.into());
        }
        if now.saturating_duration_since(self.last) >= IDLE {
            self.logout(control);
        }
        let json = control.memory().text(Parameter::ResultFormat) == "json";
        // Between answers, never before one that is awaited.
        for _ in 0..RESULTS_AT_ONCE {
            let Some(next) = self.results else { break };
            let Some((number, result)) = control.result(next) else {
                break;
            };
            if number > next {
                let _ = write!(out, "RESULT,lost,{}", number - next);
                end(out);
            }
            let types = &network_types(control);
            let line = ResultLine {
                result,
                json,
                types,
            };
            let _ = write!(out, "RESULT,{line}");
            end(out);
            self.results = Some(number + 1);
        }
    }

    /// The answer of a change that is in force now, or was refused.
    fn answer_late<H: ControlledStation>(&mut self, control: &mut Control<H>, out: &mut Output) {
        if self.waiting.is_none() {
            return;
        }
        let result = match control.changed(self.id) {
            Some(result) => result,
            None if control.is_changing(self.id) => return,
            // It was given up with the session's changes.
            None => Err(Refusal::new(Code::Busy, "the change was given up")),
        };
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        match result {
            Ok(committed) => {
                sequence(out, waiting.sequence);
                let _ = write!(out, "OK,{}", waiting.verb.entry().name);
                waiting.after.say(committed, control, out);
                end(out);
            }
            Err(refusal) => refuse(out, waiting.sequence, Some(waiting.verb), &refusal),
        }
    }

    /// Says what a change came to, or that its answer comes later.
    fn changed<H: ControlledStation>(
        &mut self,
        verb: Verb,
        after: After,
        committed: Option<Committed>,
        control: &Control<H>,
        out: &mut Output,
    ) {
        match committed {
            Some(committed) => after.say(committed, control, out),
            None => {
                self.waiting = Some(Waiting {
                    sequence: None,
                    verb,
                    after,
                });
            }
        }
    }

    /// The port is gone: nothing of the client is left.
    pub fn hang_up<H: ControlledStation>(&mut self, control: &mut Control<H>) {
        self.assembler = Assembler::default();
        self.waiting = None;
        self.logout(control);
    }

    fn logout<H: ControlledStation>(&mut self, control: &mut Control<H>) {
        self.level = None;
        control.leave(self.id);
    }

    fn level<H: ControlledStation>(&self, control: &Control<H>) -> Access {
        let open = match self.afar {
            true => Access::View,
            false => control.open_level(),
        };
        self.level.map_or(open, |level| level.max(open))
    }

    fn run<H: ControlledStation>(
        &mut self,
        command: Command<'_>,
        now: Instant,
        control: &mut Control<H>,
        out: &mut Output,
        more: &mut Vec<String>,
    ) -> Answer {
        let port = self.port.clone();
        let who = Who {
            session: self.id,
            port: &port,
            access: self.level(control),
        };
        super::refusal::allowed(who.access, command.verb.entry().access)?;
        match command.verb {
            Verb::Idn => {
                let (product, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
                let name = quoted(control.memory().text(Parameter::StationName));
                let level = who.access.name();
                let _ = write!(out, ",{product},{version},{name},{level}");
                let open = control.open_level();
                let _ = match open {
                    Access::Engineer => out.write_str(",no password set"),
                    _ => write!(out, ",{} without password", open.name()),
                };
            }
            Verb::Help => help(command.first, out, more)?,
            Verb::Get => {
                let parameter = parameter(command.first)?;
                let value = control.value(self.id, parameter);
                let shown = parameter.entry().show(value).to_string();
                let _ = write!(out, ",{},{}", parameter.name(), quoted(&shown));
            }
            Verb::Set => {
                let parameter = parameter(command.first)?;
                let text = command.second.unwrap_or_default();
                control.set_text(&who, parameter, text, now)?;
                let value = control.value(self.id, parameter);
                let shown = parameter.entry().show(value).to_string();
                let _ = write!(out, ",{},{}", parameter.name(), quoted(&shown));
            }
            Verb::List => {
                let start = command.first.unwrap_or_default();
                let listed = TABLE.iter().filter(|e| {
                    let begin = e.name.get(..start.len());
                    begin.is_some_and(|b| b.eq_ignore_ascii_case(start))
                });
                more.extend(listed.map(|e| {
                    let value = e.show(control.value(self.id, e.parameter)).to_string();
                    let value = quoted(&value);
                    let (unit, range, level) = (e.unit, e.range(), e.access.name());
                    let default = e.default_value();
                    let default = e.show(&default);
                    let (scope, effect) = (e.scope.name(), e.effect.name());
                    let register = match e.register {
                        None => "-".to_string(),
                        Some(Register::One(at)) => at.to_string(),
                        Some(Register::Two(at)) => format!("{at}+{}", at + 1),
                    };
                    let name = e.name;
                    format!("{name},{value},{unit},{range},{default},{level},{scope},{effect},{register}")
                }));
                if more.is_empty() {
                    return Err(Code::UnknownParameter.into());
                }
            }
            Verb::Commit => {
                let committed = control.commit(&who, now)?;
                self.changed(Verb::Commit, After::Commit, committed, control, out);
            }
            Verb::Revert => control.revert(self.id),
            Verb::Status => {
                match command.first {
                    None => (),
                    Some(word) if word.eq_ignore_ascii_case("clear") => self.power_on = false,
                    Some(_) => return Err(Code::BadArgument.into()),
                }
                self.status(&who, control, out);
            }
            Verb::Counters => match command.first {
                None => {
                    let types = network_types(control);
                    counters(&control.snapshot(), &types, more);
                }
                Some(word) if word.eq_ignore_ascii_case("reset") => {
                    control.order(&who, Order::ResetCounters)?;
                    let _ = out.write_str(",reset");
                }
                Some(_) => return Err(Code::BadArgument.into()),
            },
            Verb::Results => {
                match command.first {
                    None => (),
                    Some(word) if word.eq_ignore_ascii_case("on") => {
                        self.results.get_or_insert(control.next_result());
                    }
                    Some(word) if word.eq_ignore_ascii_case("off") => self.results = None,
                    Some(_) => return Err(Code::BadArgument.into()),
                }
                let on = if self.results.is_some() { "on" } else { "off" };
                let _ = write!(out, ",{on}");
            }
            Verb::Last => {
                let last = control.snapshot().last.ok_or_else(|| {
                    Refusal::new(Code::WrongMode, "no part has passed since the start")
                })?;
                let json = control.memory().text(Parameter::ResultFormat) == "json";
                let line = ResultLine {
                    result: last,
                    json,
                    types: &network_types(control),
                };
                let _ = write!(out, ",{line}");
            }
            Verb::Trig => control.order(&who, Order::Trigger)?,
            Verb::Arm => control.order(&who, Order::Arm)?,
            Verb::Disarm => control.order(&who, Order::Disarm)?,
            Verb::Recipe => {
                let committed = match command.first {
                    Some(wanted) => {
                        let found = control.memory().find(wanted).ok_or(Code::NoSuchRecipe)?;
                        control.select_recipe(&who, found, now)?
                    }
                    None => Some(Committed::default()),
                };
                self.changed(Verb::Recipe, After::Recipe, committed, control, out);
            }
            Verb::Teach => {
                let arguments = (command.first, command.second);
                self.teach(arguments, &who, now, control, out, more)?;
            }
            Verb::Challenge => match command.first {
                Some(pieces) => {
                    let pieces: u32 = pieces.parse().map_err(|_| Code::NotANumber)?;
                    let pieces = Pieces::new(pieces)
                        .map_err(|e| Refusal::new(Code::OutOfRange, e.to_string()))?;
                    control.order(&who, Order::Challenge(pieces))?;
                    let _ = write!(out, ",running,{}", pieces.get());
                }
                None => challenge(&control.snapshot(), out),
            },
            Verb::Alarms => {
                let alarms = control.snapshot().alarms;
                let set = control.memory().number(Parameter::AlarmStop);
                let stop = set | AlarmSet::ALWAYS_STOP.bits();
                let _ = write!(out, ",{}", alarms.bits());
                more.extend(alarm_names(alarms).map(|(number, name)| {
                    let stops = stop & (1 << number) != 0;
                    format!("{number},{name},{}", if stops { "stop" } else { "tell" })
                }));
            }
            Verb::Ack => {
                control.order(&who, Order::Reset)?;
                let left = control.snapshot().alarms.bits();
                let _ = write!(out, ",{left}");
            }
            Verb::SelfTest => {
                control.order(&who, Order::SelfTest)?;
                let _ = out.write_str(",started");
            }
            Verb::Log => {
                let wanted: usize = match command.first {
                    None => 10,
                    Some(lines) => lines.parse().map_err(|_| Code::NotANumber)?,
                };
                let skip = control.log().len().saturating_sub(wanted);
                more.extend(control.log().skip(skip).map(str::to_string));
                if more.is_empty() {
                    let _ = out.write_str(",lines=0");
                }
            }
            Verb::Login | Verb::Logout if self.afar => {
                let text = "over a network a session has the level that it began with";
                return Err(Refusal::new(Code::WrongMode, text));
            }
            Verb::Login => {
                let wanted = command.first.unwrap_or_default();
                let level = LEVELS
                    .into_iter()
                    .find(|l| l.name().eq_ignore_ascii_case(wanted));
                let level = level.ok_or(Code::BadArgument)?;
                let password = command.second.unwrap_or_default();
                self.level = Some(control.login(level, password, now)?);
                let _ = write!(out, ",{}", self.level(control).name());
            }
            Verb::Logout => {
                self.logout(control);
                let _ = write!(out, ",{}", self.level(control).name());
            }
            Verb::Reboot => control.order(&who, Order::Reboot)?,
        }
        Ok(())
    }

    /// An answer that came in is told the first time.
    fn listen<H: ControlledStation>(&mut self, control: &mut Control<H>) {
        if self.heard() > 0 && !std::mem::replace(&mut self.told_echo, true) {
            control.heard_itself(&self.port);
        }
    }

    fn status<H: ControlledStation>(
        &self,
        who: &Who<'_>,
        control: &mut Control<H>,
        out: &mut Output,
    ) {
        let s = control.snapshot();
        let mode = mode_name(s.mode);
        let outputs = s.outputs;
        let fault = outputs.fault || control.memory_fault();
        let bit = u8::from;
        let _ = write!(
            out,
            ",mode={mode},ready={},busy={},result={},fault={},line_stop={},alarms={},recipe={},level={},\
             pending={},power_on={},memory={},self_test={}",
            bit(outputs.ready),
            bit(outputs.busy),
            bit(outputs.result),
            bit(fault),
            bit(outputs.line_stop),
            s.alarms.bits(),
            control.memory().active(),
            who.access.name(),
            bit(control.has_pending(self.id)),
            bit(self.power_on),
            if control.memory_fault() {
                "fault"
            } else {
                "ok"
            },
            self_test_name(s.self_test),
        );
        if let SelfTest::Failed(what) = s.self_test {
            let _ = write!(out, ":{what}");
        }
        let judges = control.host().judging();
        judging(&judges, out);
        let _ = write!(out, ",ignored={}", self.heard());
        taught(&judges, control.teach_report(), out);
    }

    fn teach<H: ControlledStation>(
        &mut self,
        (first, second): (Option<&str>, Option<&str>),
        who: &Who<'_>,
        now: Instant,
        control: &mut Control<H>,
        out: &mut Output,
        more: &mut Vec<String>,
    ) -> Answer {
        let word = first.unwrap_or_default().to_ascii_uppercase();
        let needed = || second.ok_or(Refusal::from(Code::MissingArgument));
        let takes_one = matches!(
            &*word,
            "ADD" | "DROP" | "FORGET" | "GOOD" | "BAD" | "ACCEPT"
        );
        if second.is_some() && !takes_one {
            return Err(Code::TooManyArguments.into());
        }
        match &*word {
            "" => (),
            "ACCEPT" => {
                let threshold = second.map(|t| Parameter::Threshold.entry().parse(t));
                let threshold = match threshold.transpose()? {
                    Some(Value::Number(steps)) => Some(steps),
                    _ => None,
                };
                let (accepted, committed) = control.accept(who, threshold, now)?;
                self.changed(
                    Verb::Teach,
                    After::Accept(accepted),
                    committed,
                    control,
                    out,
                );
                return Ok(());
            }
            // REJECT is what it was called when a threshold was all that was taught.
            "CANCEL" | "REJECT" => {
                control.cancel(who)?;
                let _ = out.write_str(",cancelled");
                return Ok(());
            }
            "DROP" => {
                let number = needed()?.parse().map_err(|_| Code::NotANumber)?;
                control.drop_part(who, number)?;
            }
            "ADD" => {
                let parts = needed()?.parse().map_err(|_| Code::NotANumber)?;
                control.teach(who, Teach::Add(parts))?;
            }
            "FORGET" => control.teach(who, Teach::Forget(needed()?))?,
            "GOOD" | "BAD" => {
                let part = second.map(str::parse).transpose();
                let part = part.map_err(|_| Code::NotANumber)?;
                let order = match &*word {
                    "GOOD" => Teach::Good(part),
                    _ => Teach::Bad(part),
                };
                control.teach(who, order)?;
            }
            parts => {
                let parts = parts.parse().map_err(|_| Code::NotANumber)?;
                control.teach(who, Teach::Begin(parts))?;
            }
        }
        let Some(report) = control.teach_report() else {
            return Err(Code::NothingTaught.into());
        };
        lesson(&report, out, more);
        Ok(())
    }
}

impl After {
    fn say<H: ControlledStation>(
        &self,
        committed: Committed,
        control: &Control<H>,
        out: &mut Output,
    ) {
        let _ = match self {
            After::Commit => match committed.effect {
                Some(effect) => write!(out, ",{},{}", committed.changes, effect.name()),
                None => write!(out, ",{}", committed.changes),
            },
            After::Recipe => {
                let memory = control.memory();
                let name = quoted(memory.name(memory.active()));
                write!(out, ",{},{name}", memory.active())
            }
            After::Accept(accepted) => {
                let threshold = f64::from(accepted.threshold) / f64::from(STEPS);
                let _ = write!(
                    out,
                    ",accepted,parts={},threshold={threshold:.4}",
                    accepted.parts
                );
                let passing = accepted.passing.as_ref();
                let _ = passing.map(|piece| write!(out, ",passing={}", quoted(piece)));
                match accepted.promise {
                    Some(promise) => write!(out, ",{}", quoted(&promise.to_string())),
                    None => Ok(()),
                }
            }
        };
    }
}

fn end(out: &mut Output) {
    let _ = out.write_str("\r\n");
}

fn sequence(out: &mut Output, sequence: Option<u16>) {
    if let Some(number) = sequence {
        let _ = write!(out, "#{number} ");
    }
}

fn refuse(out: &mut Output, number: Option<u16>, verb: Option<Verb>, refusal: &Refusal) {
    sequence(out, number);
    let name = verb.map_or("?", |v| v.entry().name);
    let _ = write!(out, "ER,{name},{},", refusal.code.number());
    let plain = refusal.text.chars().filter(|c| matches!(c, ' '..='~'));
    plain.take(LINE).for_each(|c| _ = out.push(c));
    end(out);
}

fn parameter(name: Option<&str>) -> Result<Parameter, Refusal> {
    let found = name.and_then(Parameter::named);
    found.ok_or(Code::UnknownParameter.into())
}

fn help(of: Option<&str>, out: &mut Output, more: &mut Vec<String>) -> Answer {
    let Some(word) = of else {
        more.extend(VERBS.iter().map(|v| format!("{}: {}", v.usage, v.help)));
        return Ok(());
    };
    if let Some(verb) = Verb::named(word) {
        let v = verb.entry();
        let _ = write!(out, ",{}: {} ({})", v.usage, v.help, v.access.name());
        return Ok(());
    }
    let e = parameter(Some(word))?.entry();
    let unit = if e.unit.is_empty() { "" } else { " " };
    let _ = write!(
        out,
        ",{}: {} ({}{unit}{}; {}; {})",
        e.name,
        e.help,
        e.range(),
        e.unit,
        e.access.name(),
        e.effect.name()
    );
    Ok(())
}

/// Parts of a lesson that are listed if they are not odd: the oddest.
const LISTED: usize = 3;
/// Parts that are listed at most.
const MOST_LISTED: usize = 20;

/// A lesson, as TEACH tells it.
fn lesson(report: &TeachReport, out: &mut Output, more: &mut Vec<String>) {
    let lesson = &report.lesson;
    let _ = write!(
        out,
        ",{},{}/{},not_judged={}",
        lesson_name(lesson.state),
        lesson.parts,
        lesson.wanted,
        report.not_judged
    );
    let plain = |text: &str| -> String {
        let plain = text.chars().filter(|c| matches!(c, ' '..='~'));
        plain.take(2 * LINE).collect()
    };
    if let Some(problem) = &lesson.problem {
        more.push(format!("problem,{}", quoted(&plain(problem))));
    }
    let Some(result) = report.result() else {
        return;
    };
    let threshold = f64::from(report.threshold) / f64::from(STEPS);
    let odd = result.odd().count();
    let _ = write!(
        out,
        ",memory={},threshold={threshold:.4},odd={odd}",
        result.kind
    );
    if let Some(promise) = report.promise() {
        let _ = write!(out, ",bound={}", promise.per_mille());
        more.push(format!("bound,{}", quoted(&promise.to_string())));
    }
    for part in result.parts.iter().take(odd.clamp(LISTED, MOST_LISTED)) {
        let name = plain(&part.name);
        let what = match part.odd {
            true => format!(
                "ODD: look at it; if it is not good: TEACH DROP {}",
                part.number
            ),
            false => "-".into(),
        };
        more.push(format!(
            "{},part={},{:.1},{what}",
            part.number,
            quoted(&name),
            part.z
        ));
    }
    for (name, score) in &result.pieces {
        let passes = *score <= report.threshold as f32 / STEPS as f32;
        let what = if passes { "PASSES" } else { "rejected" };
        more.push(format!("piece,{},{score:.4},{what}", quoted(&plain(name))));
    }
}

/// How far a lesson is, as it is told.
pub fn lesson_name(state: LessonState) -> &'static str {
    match state {
        LessonState::Running => "running",
        LessonState::Preparing => "preparing",
        LessonState::Done => "done",
        LessonState::Failed => "failed",
    }
}

/// What was taught and what is being taught, as STATUS tells it.
fn taught(judging: &Judging, report: Option<TeachReport>, out: &mut Output) {
    let network = judging.network.as_ref();
    let _ = match (judging.state, network.and_then(|n| n.taught.as_ref())) {
        (Some(NetworkState::Untaught | NetworkState::ZeroShot), _) => {
            out.write_str(",taught=unusable")
        }
        (_, None) => out.write_str(",taught=none"),
        (_, Some(taught)) => {
            let _ = write!(out, ",taught={},memory_kind={}", taught.parts, taught.kind);
            match taught.bound_per_mille {
                Some(bound) => write!(out, ",bound={bound}"),
                None => Ok(()),
            }
        }
    };
    let _ = match report {
        None => out.write_str(",teach=none"),
        Some(report) => {
            let lesson = &report.lesson;
            let state = lesson_name(lesson.state);
            write!(out, ",teach={state}:{}/{}", lesson.parts, lesson.wanted)
        }
    };
}

/// What judges, as STATUS tells it.
fn judging(judging: &Judging, out: &mut Output) {
    let state = network_name(judging.state);
    let _ = write!(out, ",loadout={},network={state}", judging.generation);
    if let Some(network) = &judging.network {
        let plain: String = network
            .bundle
            .chars()
            .filter(|c| matches!(c, ' '..='~'))
            .collect();
        let trained = network.warning.is_none();
        let _ = write!(
            out,
            ",bundle={},digest={},arithmetic={},trained={}",
            quoted(&plain),
            &network.digest.get(..12).unwrap_or_default(),
            network.arithmetic,
            u8::from(trained)
        );
    }
}

fn challenge(snapshot: &Snapshot, out: &mut Output) {
    let _ = match snapshot.challenge {
        None => out.write_str(",none"),
        Some(r) => {
            let state = match (r.is_over(), r.passed()) {
                (false, _) => "running",
                (true, true) => "passed",
                (true, false) => "failed",
            };
            write!(
                out,
                ",{state},pieces={},detected={},missed={},not_judged={}",
                r.pieces, r.detected, r.missed, r.not_judged
            )
        }
    };
}

/// The types of defects that the network in force tells apart.
fn network_types<H: ControlledStation>(control: &mut Control<H>) -> Vec<String> {
    let judging = control.host().judging();
    let network = judging.network.as_ref();
    network.map_or_else(Vec::new, |n| n.types.clone())
}

/// What a mode is called.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Starting => "starting",
        Mode::Running => "running",
        Mode::Disarmed => "disarmed",
        Mode::Stopped => "stopped",
        Mode::Blind => "blind",
        Mode::Halted => "halted",
    }
}

/// What is said of the network that judges.
pub fn network_name(state: Option<NetworkState>) -> &'static str {
    match state {
        None => "starting",
        Some(NetworkState::Stored) => "stored",
        Some(NetworkState::LastGood) => "last_good",
        Some(NetworkState::Missing | NetworkState::Untaught) => "none",
        Some(NetworkState::ZeroShot) => "zero_shot",
    }
}

/// Every counter with its name.
pub fn counts(s: &Statistics) -> Vec<(&'static str, u64)> {
    let failed = |c: Cause| s.outcomes.failed[c as usize];
    vec![
        ("parts", s.outcomes.parts),
        ("good", s.outcomes.good),
        ("rejects", s.outcomes.rejects),
        ("rejects_camera_fault", failed(Cause::CameraFault)),
        ("rejects_inference_error", failed(Cause::InferenceError)),
        ("rejects_late", failed(Cause::Late)),
        ("rejects_queue_full", failed(Cause::QueueFull)),
        ("rejects_no_frame", failed(Cause::NoFrame)),
        ("rejects_unknown", failed(Cause::Unknown)),
        ("rejects_not_ready", failed(Cause::NotReady)),
        ("rejects_challenge", failed(Cause::Challenge)),
        ("next_part", s.next_part.0),
        ("triggers_bounced", s.triggers.bounced),
        ("triggers_too_close", s.triggers.too_close),
        ("triggers_unpaired", s.triggers.unpaired),
        ("triggers_unexpected", s.triggers.unexpected),
        ("triggers_skipped", s.triggers.skipped),
        ("frames_paired", s.frames.paired),
        ("frames_damaged", s.frames.damaged),
        ("frames_unpaired", s.frames.unpaired),
        ("frames_ignored", s.frames.ignored),
        ("verdicts_taken", s.verdicts.taken),
        ("verdicts_late", s.verdicts.late),
        ("verdicts_duplicate", s.verdicts.duplicate),
        ("verdicts_unknown", s.verdicts.unknown),
        ("verdicts_ignored", s.verdicts.ignored),
        ("rejects_confirmed", s.confirms.confirmed),
        ("rejects_unconfirmed", s.confirms.missing),
        ("confirms_unexpected", s.confirms.unexpected),
        ("encoder_reversals", s.encoder_reversals),
        ("actuated_late", s.actuated_late),
        ("rejects_nothing_visible", failed(Cause::NothingVisible)),
        ("rejects_frozen", failed(Cause::Frozen)),
        ("rejects_overload", failed(Cause::Overload)),
        ("rejects_light", failed(Cause::Light)),
    ]
}

fn counters(snapshot: &Snapshot, types_of: &[String], more: &mut Vec<String>) {
    let s = &snapshot.statistics;
    let us = |us: Option<u64>| us.map_or("-".to_string(), |us| format!("{}", us as f64 / 1e3));
    let min = (s.latency.count > 0).then_some(s.latency.min_us);
    let max = (s.latency.count > 0).then_some(s.latency.max_us);
    let counts = counts(s).into_iter();
    more.extend(counts.map(|(name, count)| format!("{name},{count}")));
    // Of stations that sort only.
    let lanes = (1..).zip(s.sorted.lanes).filter(|(_, count)| *count > 0);
    more.extend(lanes.map(|(lane, count)| format!("rejects_lane_{lane},{count}")));
    if s.sorted != SortCounts::default() {
        more.push(format!("rejects_type_unknown,{}", s.sorted.unknown));
        let types = (0..).zip(s.sorted.types).filter(|(_, count)| *count > 0);
        let name = |number: usize| types_of.get(number).map_or("", String::as_str);
        more.extend(
            types.map(|(i, count)| format!("rejects_type_{},{count},{}", i + 1, quoted(name(i)))),
        );
    }
    more.extend([
        format!("latency_min_ms,{}", us(min)),
        format!("latency_mean_ms,{}", us(s.latency.mean_us())),
        format!("latency_p99_ms,{}", us(s.latency.percentile_us(99))),
        format!("latency_max_ms,{}", us(max)),
    ]);
}

/// A part's result as it is told: `part,outcome,cause,score,latency in ms`, or the same as JSON. Of a part with a
/// type or a lane `,type,share,lane` follow; where good parts were taught, what the score is made of.
struct ResultLine<'a> {
    result: PartResult,
    json: bool,
    types: &'a [String],
}

impl fmt::Display for ResultLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PartResult {
            part,
            outcome,
            score,
            opinions,
            latency_us,
            share,
            lane,
            ..
        } = self.result;
        let kind = self.result.type_name(self.types);
        let (word, cause) = outcome_words(outcome);
        let ms = latency_us.map(|us| us as f64 / 1e3);
        if self.json {
            write!(f, "{{\"part\":{},\"outcome\":\"{word}\"", part.0)?;
            if let Some(cause) = cause {
                write!(f, ",\"cause\":\"{cause}\"")?;
            }
            if let Some(score) = score {
                write!(f, ",\"score\":{score:.6}")?;
            }
            if let Some(ms) = ms {
                write!(f, ",\"latency_ms\":{ms:.1}")?;
            }
            if let Some(kind) = kind {
                write!(f, ",\"type\":\"{kind}\"")?;
            }
            if let Some(share) = share {
                write!(f, ",\"type_share\":{share:.4}")?;
            }
            if let Some(lane) = lane {
                write!(f, ",\"lane\":{}", lane.get())?;
            }
            if let Some(Opinions { zero_shot, memory }) = opinions {
                write!(f, ",\"zero_shot\":{zero_shot:.6},\"memory\":{memory:.6}")?;
            }
            return f.write_str("}");
        }
        write!(f, "{},{word},{}", part.0, cause.unwrap_or("-"))?;
        match score {
            Some(score) => write!(f, ",{score:.6}")?,
            None => f.write_str(",-")?,
        }
        match ms {
            Some(ms) => write!(f, ",{ms:.1}")?,
            None => f.write_str(",-")?,
        }
        if kind.is_some() || lane.is_some() {
            write!(f, ",{}", kind.unwrap_or("-"))?;
            match share {
                Some(share) => write!(f, ",{share:.4}")?,
                None => f.write_str(",-")?,
            }
            match lane {
                Some(lane) => write!(f, ",{}", lane.get())?,
                None => f.write_str(",-")?,
            }
        }
        // Behind everything else: whoever reads so many values still finds them.
        match opinions {
            Some(Opinions { zero_shot, memory }) => {
                write!(f, ",zero_shot={zero_shot:.6},memory={memory:.6}")
            }
            None => Ok(()),
        }
    }
}

/// What became of a part: `good` or `reject`, and the cause if it was not its score.
pub fn outcome_words(outcome: Outcome) -> (&'static str, Option<&'static str>) {
    match outcome {
        Outcome::Good => ("good", None),
        Outcome::Reject => ("reject", None),
        Outcome::RejectBecause(cause) => ("reject", Some(cause_name(cause))),
    }
}

/// The name of a cause, as it is told.
pub fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::CameraFault => "camera_fault",
        Cause::InferenceError => "inference_error",
        Cause::Late => "late",
        Cause::QueueFull => "queue_full",
        Cause::NoFrame => "no_frame",
        Cause::Unknown => "unknown",
        Cause::NotReady => "not_ready",
        Cause::Challenge => "challenge",
        Cause::NothingVisible => "nothing_visible",
        Cause::Frozen => "frozen",
        Cause::Overload => "overload",
        Cause::Light => "light",
    }
}
