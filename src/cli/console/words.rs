//! Completion and hints: the station's commands, parameters and choices, from the table that it has too.

use faprompt_edge::control::Parameter;
use faprompt_edge::control::command::{VERBS, Verb};
use faprompt_edge::control::table::{Kind, LEVELS, TABLE};
use rustyline::completion::{Completer, Pair};
use rustyline::hint::{Hint, Hinter};
use rustyline::{Context, Helper, Highlighter, Validator};
use std::borrow::Cow;

/// What the console understands itself.
pub const OWN: [(&str, &str); 2] = [
    ("LIVE", "scores against the threshold, in this terminal"),
    ("QUIT", "leaves (or Ctrl-D)"),
];

/// See the module.
#[derive(Helper, Highlighter, Validator)]
pub struct Words;

/// A note behind the cursor, never part of the line.
pub struct Note(String);

impl Hint for Note {
    fn display(&self) -> &str {
        &self.0
    }
    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, words) = candidates(line.get(..pos).unwrap_or_default());
        let pairs = words.into_iter().map(|word| Pair {
            display: word.to_string(),
            replacement: format!("{word} "),
        });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for Words {
    type Hint = Note;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Note> {
        (pos == line.len()).then(|| note(line)).flatten().map(Note)
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t' | ',' | '=')
}

/// The words before the last one, without a sequence number, and where the last one begins.
fn split(before: &str) -> (Vec<&str>, usize) {
    let start = before.rfind(is_separator).map_or(0, |at| at + 1);
    let words = before[..start].split(is_separator);
    let words = words.filter(|w| !w.is_empty() && !w.starts_with('#'));
    (words.collect(), start)
}

/// What the word before the cursor may become, and where it begins.
fn candidates(before: &str) -> (usize, Vec<Cow<'static, str>>) {
    let (words, start) = split(before);
    let all: Vec<Cow<'static, str>> =
        match (words.as_slice(), words.first().and_then(|v| Verb::named(v))) {
            ([], _) => {
                let verbs = VERBS.iter().map(|v| v.name);
                verbs.chain(OWN.map(|o| o.0)).map(Cow::from).collect()
            }
            ([_], Some(Verb::Get | Verb::Set | Verb::List)) => parameters().collect(),
            ([_], Some(Verb::Help)) => VERBS
                .iter()
                .map(|v| v.name.into())
                .chain(parameters())
                .collect(),
            ([_], Some(Verb::Login)) => LEVELS.iter().skip(1).map(|l| l.name().into()).collect(),
            // The words in capitals of `TEACH [parts|ADD parts|ACCEPT [threshold]]`.
            ([_], Some(verb)) => {
                let usage = verb.entry().usage.split(|c: char| !c.is_ascii_alphabetic());
                let capitals = usage
                    .skip(1)
                    .filter(|w| w.chars().all(|c| c.is_ascii_uppercase()));
                capitals.filter(|w| !w.is_empty()).map(Cow::from).collect()
            }
            ([_, name], Some(Verb::Set)) => match Parameter::named(name).map(|p| p.entry().kind) {
                Some(Kind::Choice(words)) => words.iter().map(|w| Cow::from(*w)).collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
    let typed = &before[start..];
    let fits = |word: &Cow<'static, str>| {
        let head = word.get(..typed.len());
        head.is_some_and(|h| h.eq_ignore_ascii_case(typed))
    };
    (start, all.into_iter().filter(fits).collect())
}

fn parameters() -> impl Iterator<Item = Cow<'static, str>> {
    TABLE.iter().map(|e| e.name.into())
}

/// The range of the parameter that is about to be set, or how the command is written.
fn note(line: &str) -> Option<String> {
    let (words, start) = split(line);
    if start < line.len() {
        return None;
    }
    match words.as_slice() {
        [verb, name] if Verb::named(verb) == Some(Verb::Set) => {
            let entry = Parameter::named(name)?.entry();
            Some(format!("  {} {}", entry.range(), entry.unit))
        }
        [verb] => {
            let entry = Verb::named(verb)?.entry();
            entry
                .usage
                .split_once(' ')
                .map(|(_, arguments)| format!("  {arguments}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_from_the_table() {
        for (before, start, wanted) in [
            ("co", 0, &["COMMIT", "COUNTERS"][..]),
            ("li", 0, &["LIST", "LIVE"]),
            ("GET threshold", 4, &["threshold"]),
            ("#7 get modbus_a", 7, &["modbus_address", "modbus_access"]),
            ("SET wiring=energise_to", 11, &["energise_to_reject"]),
            ("SET threshold 0", 14, &[]),
            ("COUNTERS ", 9, &["RESET"]),
            ("RESULT o", 7, &["ON", "OFF"]),
            ("TEACH a", 6, &["ADD", "ACCEPT"]),
            ("LOGIN ", 6, &["operator", "engineer"]),
            ("GET \u{e9}", 4, &[]),
        ] {
            let wanted: Vec<_> = wanted.iter().map(|w| Cow::from(*w)).collect();
            assert_eq!(candidates(before), (start, wanted), "{before}");
        }
        assert_eq!(candidates("HELP ").1.len(), VERBS.len() + TABLE.len());
    }

    #[test]
    fn notes_say_what_comes_next() {
        assert_eq!(note("SET threshold ").as_deref(), Some("  0.0000..1.0000 "));
        assert_eq!(
            note("set pulse_width_ms=").as_deref(),
            Some("  1..10000 ms")
        );
        assert_eq!(note("SET ").as_deref(), Some("  name value"));
        assert_eq!(note("SET threshold 0"), None);
        assert_eq!(note("IDN "), None);
    }
}
