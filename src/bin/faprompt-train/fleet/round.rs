//! Many stations side by side: their progress, and what became of each.

use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::fleet::{Order, Outcome, Station, StationError, in_order};
use faprompt_edge::train::progress::{Interrupt, Lines};
use serde_json::{Value, json};

/// A station that goes its way: what it says, and what it came to.
pub(super) struct Way<'a> {
    pub station: &'a Station,
    pub lines: &'a Lines,
    pub place: usize,
}

impl Way<'_> {
    pub fn say(&self, what: &str) {
        self.lines.say(self.place, what);
    }
}

/// Goes through the stations and reports what became of each: `row` makes its lines of what it came to, `object` JSON.
/// The exit code is that of the first one in the file that failed.
pub(super) fn go<T: Send>(
    stations: &[&Station],
    (order, json): (Order, bool),
    work: impl Fn(&Way<'_>) -> Result<T, StationError> + Sync,
    report: impl FnOnce(&[(&Station, Outcome<T, StationError>)]),
    object: impl Fn(&T) -> Value,
) -> Result<ExitCode, TrainError> {
    let stop = Interrupt::catch()?;
    let lines = Lines::new(stations.iter().map(|s| s.name.as_str()));
    let outcomes = in_order(
        stations.len(),
        order,
        || stop.came(),
        |place| {
            let way = Way {
                station: stations[place],
                lines: &lines,
                place,
            };
            let result = work(&way);
            match &result {
                Ok(_) => lines.end(place, "done"),
                Err(_) => lines.end(place, "FAILED"),
            }
            result
        },
    );
    lines.clear();
    let all: Vec<_> = stations.iter().copied().zip(outcomes).collect();
    match json {
        true => {
            let objects = all.iter().map(|(station, outcome)| {
                let mut value = match outcome {
                    Outcome::Done(done) => object(done),
                    Outcome::Failed(e) => {
                        json!({ "error": e.to_string(), "exit_code": e.exit_code() as u8 })
                    }
                    Outcome::NotBegun => json!({}),
                };
                value["station"] = json!(station.name);
                value["result"] = json!(word(outcome));
                value
            });
            let objects: Vec<Value> = objects.collect();
            say(serde_json::to_string_pretty(&objects).unwrap_or_default());
        }
        false => report(&all),
    }
    let failed = all.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Failed(e) => Some(e.exit_code()),
        _ => None,
    });
    let left: Vec<&str> = all.iter().filter_map(not_begun).collect();
    if !left.is_empty() {
        let why = if stop.came() { "stopped" } else { "one failed" };
        warn(format_args!("not begun, as {why}: {}", left.join(", ")));
    }
    Ok(match failed {
        Some(code) => code,
        None if !left.is_empty() => ExitCode::Interrupted,
        None => ExitCode::Good,
    })
}

fn not_begun<'a, T, E>((station, outcome): &(&'a Station, Outcome<T, E>)) -> Option<&'a str> {
    matches!(outcome, Outcome::NotBegun).then_some(&station.name)
}

fn word<T, E>(outcome: &Outcome<T, E>) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Failed(_) => "failed",
        Outcome::NotBegun => "not_begun",
    }
}

/// A line per station: its name, and what became of it.
pub(super) fn one_line<T>(
    all: &[(&Station, Outcome<T, StationError>)],
    done: impl Fn(&T) -> String,
) {
    let width = all.iter().map(|(s, _)| s.name.len()).max().unwrap_or(0);
    for (station, outcome) in all {
        let text = match outcome {
            Outcome::Done(it) => done(it),
            Outcome::Failed(e) => format!("FAILED: {e}"),
            Outcome::NotBegun => "not begun".into(),
        };
        say(format_args!("{:width$}  {text}", station.name));
    }
}
