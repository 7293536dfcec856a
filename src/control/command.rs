//! The command set: bytes to lines, lines to commands.
//!
//! A line is at most 128 printable ASCII characters, ended by CR, LF or CRLF: `[#N] COMMAND [ARGUMENT...]`,
//! words apart by spaces, tabs, commas or `=`, a word with such characters or an empty one in double
//! quotes. ESC drops the line, backspace the last character. Nothing that comes in ends a session.
//!
//! Lines that this program itself would send are no lines: on a port whose adapter echoes, or that leads to another
//! station, they would be answered, and the answer's answer too, without end.
//!
//! Must never allocate for a byte that comes in.

use super::modbus::frame::is_glitch;
use super::refusal::Code;
use super::table::Access;
use heapless::Vec;
use std::time::{Duration, Instant};
use winnow::combinator::{alt, delimited, eof, repeat, terminated};
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::token::{take_till, take_while};

/// Bytes of the longest line, without its end.
pub const LINE: usize = 128;

/// Most words of a command: its name and two arguments, and one more, so that too many are noticed.
const WORDS: usize = 4;

const CR: u8 = b'\r';
const LF: u8 = b'\n';
const ESC: u8 = 0x1b;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;

/// Joins bytes to lines.
#[derive(Debug, Default)]
pub struct Assembler {
    line: Vec<u8, LINE>,
    /// What is wrong with the line so far; `None`: nothing.
    wrong: Option<Code>,
    last: Option<Instant>,
    /// Number of lines that were answers.
    answers: u64,
    /// How many lines of an answer to this command are still to come.
    more: Option<(Verb, u16)>,
}

/// A complete line, or the code of what is wrong with it.
pub type Line = Result<Vec<u8, LINE>, Code>;

impl Assembler {
    /// Takes a byte; returns the line that it ends. Empty lines are skipped.
    pub fn push(&mut self, byte: u8, now: Instant) -> Option<Line> {
        self.last = Some(now);
        match byte {
            CR | LF => return self.end(),
            // The line makes them by itself when it is turned around.
            _ if is_glitch(byte) && self.line.is_empty() && self.wrong.is_none() => (),
            ESC => self.clear(),
            BACKSPACE | DELETE => _ = self.line.pop(),
            // A line that is wrong stays so until its end.
            b' '..=b'~' | b'\t' => {
                if self.line.push(byte).is_err() {
                    self.wrong.get_or_insert(Code::LineTooLong);
                }
            }
            _ => _ = self.wrong.get_or_insert(Code::BadCharacter),
        }
        None
    }

    /// Drops a line of which nothing more has come for `limit`; returns whether there was one.
    pub fn time_out(&mut self, now: Instant, limit: Duration) -> bool {
        let stale = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) >= limit);
        let partial = stale && (!self.line.is_empty() || self.wrong.is_some());
        if partial {
            self.clear();
        }
        partial
    }

    /// Number of lines that came in and were answers, of this station or another: an adapter echoes, or two
    /// stations are on one line. They are not answered.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    fn clear(&mut self) {
        self.line.clear();
        self.wrong = None;
    }

    fn end(&mut self) -> Option<Line> {
        if self.is_answer() {
            self.answers += 1;
            self.clear();
            return None;
        }
        let result = match self.wrong {
            Some(code) => Err(code),
            None if self.line.iter().all(u8::is_ascii_whitespace) => {
                self.clear();
                return None;
            }
            None => Ok(self.line.clone()),
        };
        self.clear();
        Some(result)
    }

    /// Whether the line is one that a session sends. Remembers how many more lines belong to it.
    fn is_answer(&mut self) -> bool {
        let Ok(line) = std::str::from_utf8(&self.line) else {
            return false;
        };
        let line = line.trim_start();
        if line.is_empty() {
            return false;
        }
        if let Some(rest) = answer(line) {
            let lines = rest
                .rsplit_once(",lines=")
                .and_then(|(_, n)| n.parse().ok());
            let verb = rest.split(',').next().and_then(Verb::named);
            self.more = verb.zip(lines);
            return true;
        }
        if is_result(line) {
            return true;
        }
        if let Some((verb, left)) = self.more.take() {
            let name = verb.entry().name;
            if left > 0 && line.strip_prefix(name).is_some_and(|r| r.starts_with(',')) {
                self.more = Some((verb, left - 1));
                return true;
            }
        }
        // An answer whose beginning is damaged, or that stands behind something else; a command is none.
        line.contains("ER,?,") && (self.wrong.is_some() || parse(line).command.is_err())
    }
}

/// What follows the word of an answer, with or without a sequence number: of `#7 OK,IDN,...` it is `IDN,...`.
fn answer(line: &str) -> Option<&str> {
    let line = match line.strip_prefix('#').and_then(|l| l.split_once(' ')) {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => line,
    };
    let rest = line
        .strip_prefix("OK")
        .or_else(|| line.strip_prefix("ER"))?;
    match rest.strip_prefix(',') {
        None if rest.is_empty() => Some(rest),
        rest => rest,
    }
}

/// A line of RESULT: the command has a word behind it, the line a part's number, JSON, or how many were lost.
fn is_result(line: &str) -> bool {
    let value = line.strip_prefix("RESULT,").unwrap_or_default();
    value.starts_with(|c: char| c.is_ascii_digit() || c == '{') || value.starts_with("lost,")
}

macro_rules! verbs {
    ($($verb:ident: $name:literal, $usage:literal, $access:ident, $arguments:expr, $help:literal;)*) => {
        /// The first word of a command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Verb {
            $(#[doc = $help] $verb,)*
        }

        /// Every command, in the order in which HELP shows them.
        pub const VERBS: &[VerbEntry] = &[$(VerbEntry {
            verb: Verb::$verb,
            name: $name,
            usage: $usage,
            access: Access::$access,
            arguments: $arguments,
            help: $help,
        },)*];
    };
}

/// An entry in the table of commands.
#[derive(Clone, Copy, Debug)]
pub struct VerbEntry {
    /// The command.
    pub verb: Verb,
    /// The word by which it is called.
    pub name: &'static str,
    /// Its syntax.
    pub usage: &'static str,
    /// The access level that it needs; SET needs the level of its parameter.
    pub access: Access,
    /// Fewest and most arguments.
    pub arguments: (usize, usize),
    /// What it does, in one line.
    pub help: &'static str,
}

#[rustfmt::skip]
verbs! {
    Idn: "IDN", "IDN", View, (0, 0), "Who this is: product, version, station's name, level";
    Help: "HELP", "HELP [command|parameter]", View, (0, 1), "All commands, or one command or parameter";
    Get: "GET", "GET name", View, (1, 1), "A parameter's value; the pending one if this session has set it";
    Set: "SET", "SET name value", View, (2, 2), "Sets a parameter; in force after COMMIT";
    List: "LIST", "LIST [start]", View, (0, 1), "All parameters, or those whose name starts so: value, unit, range, default, level, scope, effect, register. A station that was never set begins with its board's values and its bundle's `threshold` in place of the defaults";
    Commit: "COMMIT", "COMMIT", View, (0, 0), "Pending changes into force, all or none; stored when answered";
    Revert: "REVERT", "REVERT", View, (0, 0), "Drops the pending changes";
    Status: "STATUS", "STATUS [CLEAR]", View, (0, 1), "State of the station; CLEAR takes back the power-on flag";
    Counters: "COUNTERS", "COUNTERS [RESET]", View, (0, 1), "All counters; RESET (operator) sets them to zero";
    Results: "RESULT", "RESULT [ON|OFF]", View, (0, 1), "One line per part from now on, or no more";
    Last: "LAST", "LAST", View, (0, 0), "The last part's result";
    Trig: "TRIG", "TRIG", Operator, (0, 0), "Triggers one part, with trigger source command";
    Arm: "ARM", "ARM", Operator, (0, 0), "Inspects";
    Disarm: "DISARM", "DISARM", Operator, (0, 0), "Inspects no more; whatever passes is rejected";
    Recipe: "RECIPE", "RECIPE [number|name]", Operator, (0, 1), "The recipe in use, or another from now on";
    Teach: "TEACH", "TEACH [parts|ADD parts|DROP number|FORGET part|GOOD [part]|BAD [part]|ACCEPT [threshold]|CANCEL]", Operator, (0, 2), "The next parts are good ones to compare with; how far it is, odd parts, the bound; takes or drops it";
    Challenge: "CHALLENGE", "CHALLENGE [pieces]", Operator, (0, 1), "The next parts are test pieces that must be rejected; how it went";
    Alarms: "ALARMS", "ALARMS", View, (0, 0), "Latched alarms";
    Ack: "ACK", "ACK", Operator, (0, 0), "Clears latched alarms, ends a stop";
    SelfTest: "SELFTEST", "SELFTEST", Operator, (0, 0), "Starts the self-test; STATUS tells its result";
    Log: "LOG", "LOG [lines]", View, (0, 1), "The last changes: when, who, what, old, new";
    Login: "LOGIN", "LOGIN level [password]", View, (1, 2), "Access level of this session: operator or engineer";
    Logout: "LOGOUT", "LOGOUT", View, (0, 0), "Back to the level that needs no password; drops pending changes";
    Reboot: "REBOOT", "REBOOT", Engineer, (0, 0), "Ends in an orderly way and starts again";
    Pause: "PAUSE", "PAUSE [minutes] [reason]", View, (0, 2), "Inspects no more for some minutes (operator): whatever passes is rejected; ARM ends it before; the pause that lasts";
}

impl Verb {
    /// Its entry in the table of commands.
    pub const fn entry(self) -> &'static VerbEntry {
        &VERBS[self as usize]
    }

    /// Finds a command by name, in upper or lower case.
    pub fn named(name: &str) -> Option<Verb> {
        let found = VERBS.iter().find(|v| v.name.eq_ignore_ascii_case(name));
        found.map(|v| v.verb)
    }
}

/// A command with its arguments, parsed from a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The command.
    pub verb: Verb,
    /// First argument.
    pub first: Option<&'a str>,
    /// Second one.
    pub second: Option<&'a str>,
}

/// A line with its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The sequence number, with which the answer begins.
    pub sequence: Option<u16>,
    /// The command; otherwise the code of what is wrong, and the command that was meant, if that is known.
    pub command: Result<Command<'a>, (Code, Option<Verb>)>,
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t' | ',' | '=')
}

/// Parses one word: `"..."`, or anything without separators and quotes.
fn word<'a>(line: &mut &'a str) -> Result<&'a str, EmptyError> {
    let quoted = delimited('"', take_till(0.., '"'), '"');
    alt((quoted, take_till(1.., |c| is_separator(c) || c == '"'))).parse_next(line)
}

/// Parses one word and the separators behind it.
fn whole_word<'a>(line: &mut &'a str) -> Result<&'a str, EmptyError> {
    terminated(word, alt((take_while(1.., is_separator), eof))).parse_next(line)
}

/// Parses all words; those beyond [`WORDS`], which is one more than any command has, are dropped.
fn words<'a>(line: &mut &'a str) -> Result<Vec<&'a str, WORDS>, EmptyError> {
    take_while(0.., is_separator).void().parse_next(line)?;
    repeat(0.., whole_word)
        .fold(Vec::new, |mut words, word| {
            let _ = words.push(word);
            words
        })
        .parse_next(line)
}

/// Parses a line.
pub fn parse(line: &str) -> Request<'_> {
    let line = line.trim_start();
    let (sequence, rest) = match line.strip_prefix('#') {
        None => (None, line),
        Some(numbered) => {
            let end = numbered.find(is_separator).unwrap_or(numbered.len());
            let (number, rest) = numbered.split_at(end);
            let digits = number.bytes().all(|b| b.is_ascii_digit());
            match number.parse().ok().filter(|_| digits) {
                Some(number) => (Some(number), rest),
                None => {
                    let command = Err((Code::BadSequence, None));
                    return Request {
                        sequence: None,
                        command,
                    };
                }
            }
        }
    };
    Request {
        sequence,
        command: command(rest),
    }
}

fn command(line: &str) -> Result<Command<'_>, (Code, Option<Verb>)> {
    let words = words.parse(line).map_err(|_| (Code::BadLine, None))?;
    let Some((name, arguments)) = words.split_first() else {
        return Err((Code::UnknownCommand, None));
    };
    let verb = Verb::named(name).ok_or((Code::UnknownCommand, None))?;
    let (fewest, most) = verb.entry().arguments;
    if arguments.len() < fewest {
        return Err((Code::MissingArgument, Some(verb)));
    }
    if arguments.len() > most {
        return Err((Code::TooManyArguments, Some(verb)));
    }
    Ok(Command {
        verb,
        first: arguments.first().copied(),
        second: arguments.get(1).copied(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(line: &str) -> (Verb, Option<&str>, Option<&str>) {
        let command = parse(line).command.unwrap();
        (command.verb, command.first, command.second)
    }

    #[test]
    fn words_are_apart_by_what_integrators_use() {
        let set = (Verb::Set, Some("threshold"), Some("0.5"));
        for line in [
            "SET threshold 0.5",
            "set,threshold,0.5",
            "Set threshold=0.5",
            "  SET\tthreshold \"0.5\"  ",
            "SET , threshold = 0.5 ,",
        ] {
            assert_eq!(parsed(line), set, "{line}");
        }
        assert_eq!(parsed("SET bundle \"\"").2, Some(""));
        assert_eq!(
            parsed("SET recipe_name \"Cap, M8 = A\"").2,
            Some("Cap, M8 = A")
        );
    }

    #[test]
    fn mistakes_have_their_code() {
        for (line, code, verb) in [
            ("GO", Code::UnknownCommand, None),
            (",", Code::UnknownCommand, None),
            ("GET", Code::MissingArgument, Some(Verb::Get)),
            ("SET a", Code::MissingArgument, Some(Verb::Set)),
            ("IDN x", Code::TooManyArguments, Some(Verb::Idn)),
            ("SET a b c", Code::TooManyArguments, Some(Verb::Set)),
            ("SET a b c d e f", Code::TooManyArguments, Some(Verb::Set)),
            ("GET \"a", Code::BadLine, None),
            ("GET a\"b\"", Code::BadLine, None),
            ("GET \"a\"b", Code::BadLine, None),
            ("#x IDN", Code::BadSequence, None),
            ("#65536 IDN", Code::BadSequence, None),
            ("#+1 IDN", Code::BadSequence, None),
            ("#IDN", Code::BadSequence, None),
        ] {
            assert_eq!(parse(line).command, Err((code, verb)), "{line}");
        }
        let numbered = parse("#7 GO");
        assert_eq!(numbered.sequence, Some(7));
        assert!(numbered.command.is_err());
        assert_eq!(parse("#65535,IDN").sequence, Some(65_535));
    }

    fn lines(bytes: &[u8]) -> std::vec::Vec<Result<String, Code>> {
        let (mut assembler, now) = (Assembler::default(), Instant::now());
        let lines = bytes.iter().filter_map(|b| assembler.push(*b, now));
        lines
            .map(|l| l.map(|l| String::from_utf8(l.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn bytes_become_lines() {
        assert_eq!(
            lines(b"IDN\r\nIDN\rIDN\n\r\n  \n"),
            vec![Ok("IDN".to_string()); 3]
        );
        assert_eq!(lines(b"SET a\x1bIDN\r"), [Ok("IDN".to_string())]);
        assert_eq!(lines(b"IDM\x08N\r"), [Ok("IDN".to_string())]);
        assert_eq!(
            lines(b"I\0DN\rIDN\r"),
            [Err(Code::BadCharacter), Ok("IDN".into())]
        );
        assert_eq!(lines(b"I\xffDN\x1bIDN\r"), [Ok("IDN".to_string())]);
        let long = [b'x'; LINE];
        assert_eq!(
            lines(&[&long[..], b"\r"].concat())[0]
                .as_ref()
                .unwrap()
                .len(),
            LINE
        );
        assert_eq!(
            lines(&[&long[..], b"y\r"].concat()),
            [Err(Code::LineTooLong)]
        );
    }

    #[test]
    fn answers_and_bytes_that_the_line_makes_are_no_lines() {
        let answers = "\0OK,LIST,lines=2\r\nLIST,threshold,0.5\r\nLIST,bundle,\"\"\r\nLIST bundle\r\n\
                    #7 ER,SET,202,out of range\r\nOK\r\nER,?,100,unknown command; HELP lists them\r\n\
                    RESULT,7,good,-,0.25,12.5\r\nRESULT,lost,3\r\nRESULT,{\"part\":7}\r\nRESULT,ON\r\n\
                    login: ER,?,100,unknown command; HELP lists them\r\nOK,ALARMS,0,lines=0\r\nALARMS\r\n\
                    OK,LOG,lines=3\r\nLOG,1\r\nIDN\r\nLOG,1\r\n";
        let bytes = [
            answers.as_bytes(),
            b"\x01\xaaER,?,105,x\r\xf8\0\xffIDN\r\0\r\n",
        ]
        .concat();
        let wanted = ["LIST bundle", "RESULT,ON", "ALARMS", "IDN", "LOG,1", "IDN"];
        assert_eq!(lines(&bytes), wanted.map(|l| Ok(l.to_string())));
        let (mut assembler, now) = (Assembler::default(), Instant::now());
        let bytes = bytes.iter().filter_map(|b| assembler.push(*b, now));
        assert_eq!(bytes.count(), wanted.len());
        assert_eq!(assembler.answers(), 14);
        // Alone they are no half line either, after which the station would speak.
        assert!(
            [0, 0xff, 0xf0]
                .iter()
                .all(|b| assembler.push(*b, now).is_none())
        );
        assert!(!assembler.time_out(now + Duration::from_secs(9), Duration::from_secs(1)));
        // A text may be anything.
        let name = "SET recipe_name \"OK,ER,?,1\"";
        assert_eq!(
            lines(format!("{name}\r").as_bytes()),
            [Ok(name.to_string())]
        );
    }

    #[test]
    fn a_line_that_stops_in_the_middle_is_dropped() {
        let (mut assembler, start) = (Assembler::default(), Instant::now());
        let limit = Duration::from_secs(1);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(assembler.push(b'I', at(0)).is_none());
        assert!(!assembler.time_out(at(999), limit));
        assert!(assembler.time_out(at(1000), limit));
        assert!(!assembler.time_out(at(2000), limit));
        "IDN\r".bytes().for_each(|b| {
            if let Some(line) = assembler.push(b, at(2000)) {
                assert_eq!(line.unwrap().as_slice(), b"IDN");
            }
        });
    }

    proptest! {
        /// Printable or not, every line that is not blank and not cleared comes out once, and is understood
        /// or has a code. What a line makes by itself when it is turned around is blank.
        #[test]
        fn every_line_comes_out_once(all in prop::collection::vec("[ -~\t]{0,140}|[\\x01-\\x07]{1,3}", 0..20)) {
            let text = all.join("\r\n") + "\r";
            let came = lines(text.as_bytes());
            let blank = |l: &str| l.bytes().all(|b| matches!(b, b' ' | b'\t') || is_glitch(b));
            let sent = all.iter().filter(|l| !blank(l));
            prop_assert_eq!(came.len(), sent.count());
            for line in came.iter().flatten() {
                let _ = parse(line);
            }
        }
    }
}
