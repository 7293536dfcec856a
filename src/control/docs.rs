//! Tables of the documents, generated from the parameter table, the commands, the codes, the alarms and the causes.

use super::command::VERBS;
use super::modbus::map::{INPUTS, outcome_number};
use super::refusal::CODES;
use super::session::{cause_name, outcome_words};
use super::shared::alarm_text;
use super::table::{Register, TABLE};
use crate::line::alarms::ALARMS;
use crate::line::{AlarmSet, Cause, Outcome};
use std::fmt::Write;

/// Every parameter.
pub fn parameters() -> String {
    let mut text = String::from(
        "| name | range | unit | default | level | scope | takes effect | register | |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for e in TABLE {
        let register = match e.register {
            None => String::new(),
            Some(Register::One(at)) => at.to_string(),
            Some(Register::Two(at)) => format!("{at}, {}", at + 1),
        };
        let default = e.default_value();
        let range = e.range().to_string().replace('|', ", ");
        let _ = writeln!(
            text,
            "| `{}` | {range} | {} | {} | {} | {} | {} | {register} | {} |",
            e.name,
            e.unit,
            e.show(&default),
            e.access.name(),
            e.scope.name(),
            e.effect.name(),
            e.help
        );
    }
    text
}

/// Every command.
pub fn commands() -> String {
    let mut text = String::from("| command | level | |\n|---|---|---|\n");
    for v in VERBS {
        let usage = v.usage.replace('|', "\\|");
        let _ = writeln!(text, "| `{usage}` | {} | {} |", v.access.name(), v.help);
    }
    text
}

/// Every code of a refusal.
pub fn codes() -> String {
    let mut text = String::from("| code | |\n|---|---|\n");
    for code in CODES {
        let _ = writeln!(text, "| {} | {} |", code.number(), code.text());
    }
    text
}

/// Every alarm.
pub fn alarms() -> String {
    let mut text = String::from("| alarm | name | stops the line | |\n|---|---|---|---|\n");
    for alarm in ALARMS {
        let (name, meaning) = alarm_text(alarm);
        let stops = if AlarmSet::ALWAYS_STOP.contains(alarm) {
            "always"
        } else if AlarmSet::DEFAULT_STOP.contains(alarm) {
            "unless `alarm_stop` says otherwise"
        } else if alarm as u8 > 15 {
            "only if `alarm_stop_from_16` says so"
        } else {
            "only if `alarm_stop` says so"
        };
        let _ = writeln!(text, "| {} | `{name}` | {stops} | {meaning} |", alarm as u8);
    }
    text
}

/// What can become of a part, by the names that it has in files and protocols.
pub fn outcomes() -> String {
    let mut text = String::from(
        "| `verdicts.jsonl`, shift | `outcome` | `cause` | Prometheus, archive | counter | Modbus `last_outcome` | its counter |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let causes = Cause::ALL.into_iter().map(Outcome::RejectBecause);
    for outcome in [Outcome::Good, Outcome::Reject].into_iter().chain(causes) {
        let (word, cause) = outcome_words(outcome);
        let (label, counter) = match outcome {
            Outcome::Good => ("", "good".to_string()),
            Outcome::Reject => ("`score`", "rejects".to_string()),
            Outcome::RejectBecause(cause) => ("", format!("rejects_{}", cause_name(cause))),
        };
        let cause = cause.map_or_else(String::new, |cause| format!("`{cause}`"));
        let label = if label.is_empty() { &cause } else { label };
        let input = INPUTS.iter().find(|input| input.name == counter);
        let register = input.map_or_else(String::new, |input| input.register.to_string());
        let _ = writeln!(
            text,
            "| `{}` | `{word}` | {cause} | {label} | `{counter}` | {} | {register} |",
            outcome.word(),
            outcome_number(outcome)
        );
    }
    text
}
