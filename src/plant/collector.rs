//! Reads the station's state and makes messages of what is new.
//!
//! Locks control only while it copies what is new; writing to disk, which is slow, comes after that. If it has to
//! wait so long that control drops results, those are counted as dropped.

use super::LOOK;
use super::outbox::{Message, Outbox};
use super::settings::Results;
use crate::control::{Control, ControlledStation, alarm_text};
use crate::line::alarms::ALARMS;
use crate::line::{AlarmSet, Outcome};
use crate::priority::hold;
use crate::runtime::system::{now, utc};
use crate::web::state;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the station is read; a message is at most this old when it is stored.
const EVERY: Duration = Duration::from_millis(500);

/// Most results that are copied at a time.
const RESULTS: usize = 256;

/// A receiver of messages: the broker or the web server.
pub struct Receiver {
    /// Where its messages wait.
    pub outbox: Arc<Outbox>,
    /// Which parts' results it gets.
    pub results: Results,
    /// How often counters are sent, if they changed; `None`: neither counters nor state.
    pub counters: Option<Duration>,
    /// Set by the sender when the receiver needs state and counters once more, because its copy may be gone.
    pub again: Arc<AtomicBool>,
}

/// What a receiver has been sent last.
#[derive(Default)]
struct Given {
    state: Value,
    counters: Value,
    counted: Option<Instant>,
    /// Number of messages that could not be stored.
    lost: u64,
}

/// What is new at the station.
struct News {
    results: Vec<(bool, Map<String, Value>)>,
    /// Number of results that control had dropped already.
    missed: u64,
    alarms: Vec<Map<String, Value>>,
    state: Map<String, Value>,
    counters: Map<String, Value>,
}

/// What the collector has seen of the station so far.
struct Seen {
    result: u64,
    alarms: AlarmSet,
    /// How often each was raised, by its number.
    raised: [u32; 32],
}

impl Seen {
    /// From now on; alarms that are latched already are reported once.
    fn new<H: ControlledStation>(control: &mut Control<H>) -> Seen {
        Seen {
            result: control.next_result(),
            alarms: AlarmSet::NONE,
            raised: control.snapshot().raised,
        }
    }
}

/// Most times that one alarm is reported of one look: it cannot be raised, seen and reset more often by anybody who reads
/// what it says.
const EDGES: u32 = 16;

/// What an alarm did since the last look, one message each: whether it was latched. `raised`: how often it was raised.
fn edges(before: bool, raised: u32, now: bool) -> Vec<bool> {
    let (mut edges, mut on) = (vec![], before);
    for _ in 0..raised.min(EDGES) {
        if on {
            edges.push(false);
        }
        edges.push(true);
        on = true;
    }
    if on != now {
        edges.push(now);
    }
    edges
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Reads the station until `goes_on`, which is called some ten times a second, returns `false`.
pub fn run<H: ControlledStation>(
    control: &Mutex<Control<H>>,
    receivers: &[Receiver],
    goes_on: &dyn Fn() -> bool,
) {
    let lock = || hold(control);
    let mut seen = Seen::new(&mut lock());
    let mut given: Vec<Given> = receivers.iter().map(|_| Given::default()).collect();
    let mut looked = Instant::now();
    let mut on = true;
    while on {
        on = goes_on();
        // Once more at the end: the last parts have their results then.
        if on && looked.elapsed() < EVERY {
            std::thread::sleep(LOOK);
            continue;
        }
        looked = Instant::now();
        let news = look(&mut lock(), &mut seen);
        for (receiver, given) in receivers.iter().zip(&mut given) {
            give(&news, receiver, given, looked);
        }
    }
}

fn look<H: ControlledStation>(control: &mut Control<H>, seen: &mut Seen) -> News {
    let time = utc(now());
    let stamped = |mut body: Map<String, Value>| {
        body.insert("time".into(), json!(time));
        body
    };
    let end = control.next_result();
    let judging = control.host().judging();
    let types = judging.network.as_ref().map_or(&[][..], |n| &n.types);
    let (mut results, mut missed) = (Vec::with_capacity(RESULTS), 0);
    while let Some((number, result)) = control.result(seen.result) {
        missed += number - seen.result;
        let reject = !matches!(result.outcome, Outcome::Good);
        results.push((reject, stamped(object(state::result(&result, types)))));
        seen.result = number + 1;
    }
    seen.result = end;
    let mut state = stamped(object(state::state(control)));
    let snapshot = control.snapshot();
    let latched = snapshot.alarms;
    let stops = control.alarms_that_stop();
    let changed = ALARMS.into_iter().flat_map(|alarm| {
        let raised = snapshot.raised[alarm as usize].saturating_sub(seen.raised[alarm as usize]);
        let edges = edges(seen.alarms.contains(alarm), raised, latched.contains(alarm));
        edges.into_iter().map(move |latched| (alarm, latched))
    });
    let alarms = changed.map(|(alarm, latched)| {
        let (name, text) = alarm_text(alarm);
        stamped(object(json!({
            "number": alarm as u8, "name": name, "text": text,
            "latched": latched, "stops": stops.contains(alarm),
        })))
    });
    let alarms = alarms.collect();
    (seen.alarms, seen.raised) = (latched, snapshot.raised);
    let counters = json!({ "time": time, "counters": state.remove("counters") });
    // Values that change with every part are reported with its result.
    for often in ["last", "latency_p99_ms"] {
        state.remove(often);
    }
    if let Some(Value::Object(outputs)) = state.get_mut("outputs") {
        outputs.retain(|name, _| matches!(name.as_str(), "ready" | "fault" | "line_stop"));
    }
    state.insert("online".into(), json!(true));
    News {
        results,
        missed,
        alarms,
        state,
        counters: object(counters),
    }
}

/// Whether two messages are equal except for their time.
fn same(now: &Map<String, Value>, before: &Value) -> bool {
    let Value::Object(before) = before else {
        return false;
    };
    let said = |m: &Map<String, Value>| {
        let mut m = m.clone();
        m.remove("time");
        m
    };
    said(now) == said(before)
}

fn give(news: &News, receiver: &Receiver, given: &mut Given, now: Instant) {
    let once = |topic, body: &Map<String, Value>| Message {
        topic,
        latest: false,
        body: body.clone(),
    };
    let mut messages: Vec<Message> = news.alarms.iter().map(|a| once("alarm", a)).collect();
    let wanted = news
        .results
        .iter()
        .filter(|(reject, _)| match receiver.results {
            Results::All => true,
            Results::Rejects => *reject,
            Results::None => false,
        });
    messages.extend(wanted.map(|(_, body)| once("result", body)));
    let missed = match receiver.results {
        Results::None => 0,
        Results::All | Results::Rejects => news.missed,
    };
    let lost = given.lost + missed;
    let once = messages.len() as u64;
    let (mut state, mut counters) = (None, None);
    if let Some(every) = receiver.counters {
        let again = receiver.again.swap(false, Ordering::Relaxed);
        if again || !same(&news.state, &given.state) {
            state = Some(news.state.clone());
        }
        let due = given
            .counted
            .is_none_or(|at| now.duration_since(at) >= every);
        if again || (due && !same(&news.counters, &given.counters)) {
            let mut body = news.counters.clone();
            let (waiting, dropped) = receiver.outbox.counts();
            body.insert(
                "messages".into(),
                json!({ "waiting": waiting, "dropped": dropped + lost }),
            );
            counters = Some(body);
        }
    }
    for (topic, body) in [("state", &state), ("counters", &counters)] {
        messages.extend(body.iter().map(|body| Message {
            topic,
            latest: true,
            body: body.clone(),
        }));
    }
    if messages.is_empty() && lost == 0 {
        return;
    }
    match receiver.outbox.put(&messages, lost) {
        Ok(()) => {
            if missed > 0 {
                log::warn!(
                    "{missed} results came faster than they could be stored for the plant: dropped"
                );
            }
            given.lost = 0;
            if state.is_some() {
                given.state = Value::Object(news.state.clone());
            }
            if counters.is_some() {
                given.counters = Value::Object(news.counters.clone());
                given.counted = Some(now);
            }
        }
        Err(e) => {
            if given.lost == 0 {
                log::error!("{e}: messages for the plant are dropped until it can be written");
            }
            given.lost = lost + once;
            // State and counters were not stored either.
            receiver.again.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::edges;

    #[test]
    fn an_alarm_that_came_and_went_between_two_looks_is_reported() {
        for (before, raised, now, wanted) in [
            (false, 0, false, &[][..]),
            (true, 0, true, &[]),
            (false, 1, true, &[true]),
            // Latched since before the program's start.
            (false, 0, true, &[true]),
            (true, 0, false, &[false]),
            (false, 1, false, &[true, false]),
            (true, 1, true, &[false, true]),
            (false, 2, false, &[true, false, true, false]),
        ] {
            assert_eq!(
                edges(before, raised, now),
                wanted,
                "{before}, {raised}, {now}"
            );
        }
        assert_eq!(edges(false, u32::MAX, false).len(), 32);
    }
}
