//! What happened in a shift, for a report that is printed: parts by outcome, alarms, challenges, changes. Read from the
//! files that the recorder writes, as far back as they go.

use super::access::Needed;
use super::{Shared, refused};
use crate::control::ControlledStation;
use crate::control::refusal::Code;
use crate::control::table::{Parameter, STEPS};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Hours of the longest report: a week.
const HOURS: u32 = 168;
/// Lines of a kind that are shown, the newest.
const LINES: usize = 200;

/// How far back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    hours: u32,
}

/// What is read of a line of verdicts.jsonl.
#[derive(Deserialize)]
struct Part {
    outcome: String,
    utc: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// What is counted of parts.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    /// The oldest line that there is: a report that begins before it is not whole.
    oldest: Option<String>,
    outcomes: BTreeMap<String, u64>,
    types: BTreeMap<String, u64>,
}

/// Whole lines of a file and of the one that was put aside, oldest first. Half a line, and what is no line, is left out.
fn lines<T: for<'a> Deserialize<'a>>(out: &Path, name: &str, mut take: impl FnMut(T)) {
    for end in ["1.jsonl", "jsonl"] {
        let Ok(file) = File::open(out.join(format!("{name}.{end}"))) else {
            continue;
        };
        for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
            if let Ok(line) = serde_json::from_slice(&line) {
                take(line);
            }
        }
    }
}

fn counts(out: &Path, from: &str) -> Counts {
    let mut counts = Counts::default();
    lines(out, "verdicts", |part: Part| {
        counts.oldest.get_or_insert_with(|| part.utc.clone());
        if *part.utc >= *from {
            *counts.outcomes.entry(part.outcome).or_default() += 1;
            if let Some(kind) = part.kind {
                *counts.types.entry(kind).or_default() += 1;
            }
        }
    });
    counts
}

fn events(out: &Path, from: &str) -> Vec<Value> {
    let mut events = Vec::new();
    lines(out, "events", |event: Value| {
        if event["utc"].as_str().is_some_and(|utc| utc >= from) {
            events.push(event);
        }
    });
    newest(events)
}

fn newest<T>(mut all: Vec<T>) -> Vec<T> {
    all.drain(..all.len().saturating_sub(LINES));
    all
}

/// `?hours=8`.
pub async fn get<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    if let Some(refusal) = page.hidden(&headers, Needed::All) {
        return refusal;
    }
    let hours = match query {
        Ok(Query(asked)) if (1..=HOURS).contains(&asked.hours) => asked.hours,
        Ok(_) => return refused(Code::OutOfRange, &format!("1 to {HOURS} hours")),
        Err(e) => return refused(Code::BadArgument, &e.body_text()),
    };
    let now = jiff::Timestamp::now();
    let from = now - jiff::SignedDuration::from_hours(i64::from(hours));
    let (from, to) = (format!("{from:.3}"), format!("{now:.3}"));
    let mut report = {
        let mut control = page.control();
        let changes: Vec<String> = control
            .log()
            .filter(|l| **l >= *from)
            .map(String::from)
            .collect();
        let judging = control.host().judging();
        let memory = control.memory();
        json!({
            "station": memory.text(Parameter::StationName),
            "version": env!("CARGO_PKG_VERSION"),
            "recipe": memory.active().to_string(),
            "recipe_name": memory.text(Parameter::RecipeName),
            "threshold": f64::from(memory.number(Parameter::Threshold)) / f64::from(STEPS),
            "network": judging.network.as_ref().map(|n| &n.name),
            "digest": judging.network.as_ref().map(|n| &n.digest),
            "from": &from,
            "to": to,
            "changes": newest(changes),
        })
    };
    let out = page.station.out.clone();
    let read =
        tokio::task::spawn_blocking(move || (counts(&out, &from), events(&out, &from))).await;
    let Ok((counts, events)) = read else {
        return refused(Code::Busy, "the results cannot be read");
    };
    let whole = counts
        .oldest
        .as_ref()
        .is_none_or(|oldest| *oldest.as_str() <= *report["from"].as_str().unwrap_or_default());
    report["whole"] = json!(whole);
    report["oldest"] = json!(counts.oldest);
    report["outcomes"] = json!(counts.outcomes);
    report["types"] = json!(counts.types);
    report["events"] = json!(events);
    Json(report).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_the_shifts_begin_and_half_lines_are_none() {
        let out = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(out.path().join(name), text).unwrap();
        write(
            "verdicts.1.jsonl",
            "{\"part\":1,\"outcome\":\"good\",\"utc\":\"2026-11-29T05:00:00.000Z\"}\n\
             {\"part\":2,\"outcome\":\"good\",\"utc\":\"2026-11-29T06:00:00.000Z\"}\n",
        );
        write(
            "verdicts.jsonl",
            "{\"part\":3,\"outcome\":\"reject\",\"type\":\"scratch\",\"utc\":\"2026-11-29T07:00:00.000Z\"}\n\
             nonsense\n{\"part\":4,\"outcome\":\"reject: late\",\"utc\":\"2026-11-29T08:00:00.000Z\"}\n{\"part\":5,\"out",
        );
        write(
            "events.jsonl",
            "{\"event\":\"alarm\",\"number\":7,\"utc\":\"2026-11-29T05:59:59.999Z\"}\n",
        );
        let from = "2026-11-29T06:00:00.000Z";
        let found = counts(out.path(), from);
        assert_eq!(found.oldest.as_deref(), Some("2026-11-29T05:00:00.000Z"));
        let outcomes: Vec<_> = found
            .outcomes
            .iter()
            .map(|(k, n)| (k.as_str(), *n))
            .collect();
        assert_eq!(outcomes, [("good", 1), ("reject", 1), ("reject: late", 1)]);
        assert_eq!(found.types.get("scratch"), Some(&1));
        assert!(events(out.path(), from).is_empty());
        assert_eq!(events(out.path(), "2026-11-29").len(), 1);
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(counts(nothing.path(), from), Counts::default());
    }
}
