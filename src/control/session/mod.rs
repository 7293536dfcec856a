//! One session: the lines that come in on a port, answered one by one.
//!
//! An answer is `OK,COMMAND[,value...]` or `ER,COMMAND,code,text`. Where more lines follow, its last value
//! is `lines=N`, and each of them begins with the command's name. A value with a comma stands in double quotes; the text of
//! a refusal is the rest of its line.
//! Lines of RESULT come between answers, never inside. Must never keep the [`Control`] longer than one line takes.

mod answers;
mod names;
mod result;
mod run;

pub use names::{cause_name, counts, lesson_name, mode_name, network_name, outcome_words};

use super::command::{Assembler, Line, Verb, parse};
use super::host::ControlledStation;
use super::refusal::{Code, Refusal};
use super::shared::{Accepted, Committed, Control, SessionId, Who};
use super::table::{Access, Parameter, STEPS};
use super::values::quoted;
use result::ResultLine;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// A session without a line for this long returns to the open level and loses its pending changes.
pub const IDLE: Duration = Duration::from_secs(15 * 60);

/// Most results that are sent at once.
const RESULTS_AT_ONCE: usize = 64;

/// Most characters of a refusal's text: what to do comes last, and must not be cut off.
const TEXT: usize = 240;

/// Bytes of the longest answer, which is LOG with all its lines, and some more.
pub const OUTPUT: usize = 48 * 1024;

/// The text of answers.
pub type Output = heapless::String<OUTPUT>;

/// The session of one client.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    port: String,
    assembler: Assembler,
    /// The level that a password gave; `None`: the open level.
    login: Option<Login>,
    power_on: bool,
    /// Number of the next result to report; `None`: RESULT is off.
    results: Option<u64>,
    last: Instant,
    echo_reported: bool,
    /// Whether it came over a network, where a client without a password has no level.
    afar: bool,
    waiting: Option<Waiting>,
}

/// A level, and the hash of the password that opened it: with another password the level is lost.
#[derive(Debug)]
struct Login {
    level: Access,
    hash: String,
}

/// An answer that comes when a change is in force.
#[derive(Debug)]
struct Waiting {
    sequence: Option<u16>,
    verb: Verb,
    after: After,
}

/// The content of such an answer.
#[derive(Debug)]
enum After {
    /// The number of changes, and their effect.
    Commit,
    /// The recipe in use.
    Recipe,
    /// The result of the lesson that was accepted.
    Accept(Accepted),
}

/// An answer: values to follow the command's name, or a refusal.
type Answer = Result<(), Refusal>;

impl Session {
    /// A session for a port, whose name the log uses.
    pub fn new<H: ControlledStation>(control: &mut Control<H>, port: &str, now: Instant) -> Self {
        let results = control.memory().is_on(Parameter::ResultAtStart);
        Session {
            id: control.open(),
            port: port.to_string(),
            assembler: Assembler::default(),
            login: None,
            power_on: true,
            results: results.then(|| control.next_result()),
            last: now,
            echo_reported: false,
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
        let mut session = Session {
            power_on: false,
            results: None,
            afar: true,
            ..Session::new(control, port, now)
        };
        session.log_in(level, control);
        session
    }

    /// Who orders something through this session, for what has no line.
    pub fn who<H: ControlledStation>(&self, control: &Control<H>) -> Who<'_> {
        Who {
            session: self.id,
            port: &self.port,
            access: self.level(control),
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
            Err((code, verb)) => {
                let refusal = match code {
                    Code::TooManyArguments if has_decimal_comma(text) => Refusal::new(
                        code,
                        "too many arguments: decimals are written with a point (0.42), a comma parts words",
                    ),
                    _ => code.into(),
                };
                return refuse(out, request.sequence, verb, &refusal);
            }
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

    /// Does what is due without a line: time-outs, results.
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

    /// Writes the answer about a change that is in force now, or was refused.
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
                self.keep_login(control);
                sequence(out, waiting.sequence);
                let _ = write!(out, "OK,{}", waiting.verb.entry().name);
                waiting.after.say(committed, control, out);
                end(out);
            }
            Err(refusal) => refuse(out, waiting.sequence, Some(waiting.verb), &refusal),
        }
    }

    /// Writes the result of a change, or notes that its answer comes later.
    fn changed<H: ControlledStation>(
        &mut self,
        verb: Verb,
        after: After,
        committed: Option<Committed>,
        control: &Control<H>,
        out: &mut Output,
    ) {
        match committed {
            Some(committed) => {
                self.keep_login(control);
                after.say(committed, control, out);
            }
            None => {
                self.waiting = Some(Waiting {
                    sequence: None,
                    verb,
                    after,
                });
            }
        }
    }

    /// Notes that the port is gone: the session begins anew.
    pub fn hang_up<H: ControlledStation>(&mut self, control: &mut Control<H>) {
        self.assembler = Assembler::default();
        self.waiting = None;
        self.logout(control);
    }

    fn logout<H: ControlledStation>(&mut self, control: &mut Control<H>) {
        self.login = None;
        control.leave(self.id);
    }

    fn log_in<H: ControlledStation>(&mut self, level: Access, control: &Control<H>) {
        let hash = control.password_hash(level).to_string();
        self.login = Some(Login { level, hash });
    }

    /// The level that this session has now: what a password opened is closed once there is another password.
    pub fn level<H: ControlledStation>(&self, control: &Control<H>) -> Access {
        let open = match self.afar {
            true => Access::View,
            false => control.open_level(),
        };
        match &self.login {
            Some(login) if !self.is_locked_out(control) => login.level.max(open),
            _ => open,
        }
    }

    /// Whether the password that opened its level is another one now.
    pub fn is_locked_out<H: ControlledStation>(&self, control: &Control<H>) -> bool {
        let login = self.login.as_ref();
        login.is_some_and(|l| l.hash != control.password_hash(l.level))
    }

    /// Stays logged in behind its own change of a password. It was logged in when it asked for the change, and nobody else
    /// can have changed one since: one session at a time has changes.
    fn keep_login<H: ControlledStation>(&mut self, control: &Control<H>) {
        if let Some(Login { level, .. }) = self.login {
            self.log_in(level, control);
        }
    }

    /// Reports an answer that comes in on the station's own line, the first time.
    fn listen<H: ControlledStation>(&mut self, control: &mut Control<H>) {
        if self.heard() > 0 && !std::mem::replace(&mut self.echo_reported, true) {
            control.heard_itself(&self.port);
        }
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
                let _ = write!(out, ",{},{name}", memory.active());
                match committed.untaught {
                    true => out.write_str(",taught=unusable"),
                    false => Ok(()),
                }
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
                let promise = accepted.promise.map(|p| p.to_string());
                let _ = promise.map(|text| write!(out, ",{}", quoted(&text)));
                write!(out, ",odd={}", accepted.odd)
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
    let plain: String = plain.collect();
    let _ = match plain.get(..TEXT - 3).filter(|_| plain.len() > TEXT) {
        Some(start) => write!(out, "{start}..."),
        None => out.write_str(&plain),
    };
    end(out);
}

/// Whether a line has a number with a comma for its point, as `0,42`.
fn has_decimal_comma(text: &str) -> bool {
    let mut three = text.as_bytes().windows(3);
    three.any(|w| w[0].is_ascii_digit() && w[1] == b',' && w[2].is_ascii_digit())
}

/// Names of the types of defects that the network in force distinguishes.
fn network_types<H: ControlledStation>(control: &mut Control<H>) -> Vec<String> {
    let judging = control.host().judging();
    let network = judging.network.as_ref();
    network.map_or_else(Vec::new, |n| n.types.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_its_remedy() {
        let said = |text: &str| {
            let mut out = Box::new(Output::new());
            let refusal = Refusal::new(Code::Hardware, text);
            refuse(&mut out, Some(7), Some(Verb::Commit), &refusal);
            out.to_string()
        };
        let whole = "x".repeat(TEXT);
        assert_eq!(said(&whole), format!("#7 ER,COMMIT,600,{whole}\r\n"));
        let cut = format!("#7 ER,COMMIT,600,{}...\r\n", &whole[3..]);
        assert_eq!(said(&format!("{whole}y")), cut);
        assert_eq!(
            said("a\r\nb\u{e9}, \"c\""),
            "#7 ER,COMMIT,600,ab, \"c\"\r\n"
        );
    }

    #[test]
    fn a_decimal_comma_is_known() {
        assert!(has_decimal_comma("SET threshold 0,42"));
        for line in ["SET,pulse_width_ms,80", "IDN please", "0, 42", ",4"] {
            assert!(!has_decimal_comma(line), "{line}");
        }
    }
}
