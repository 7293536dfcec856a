//! Reads the station's state and makes messages of what is new.
//!
//! Locks control only while it copies what is new; writing to disk, which is slow, comes after that. If it has to
//! wait so long that control drops results, those are counted as dropped.

use super::LOOK;
use super::outbox::{Message, Outbox};
use super::settings::Results;
use crate::control::{Control, ControlledStation, alarm_text};
use crate::line::alarms::ALARMS;
use crate::line::{Alarm, AlarmChange, AlarmHistory, AlarmSet, Micros, Outcome};
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
    /// Whether the last messages could not be stored.
    failed: bool,
}

/// What is new at the station.
struct News {
    results: Vec<(bool, Map<String, Value>)>,
    /// Number of results that control had dropped already.
    missed: u64,
    alarms: Vec<Map<String, Value>>,
    /// Number of changes of alarms that had made way already.
    missed_alarms: u64,
    state: Map<String, Value>,
    counters: Map<String, Value>,
}

/// What the collector has seen of the station so far.
struct Seen {
    /// Number of the next result.
    result: u64,
    /// Number of the next change of alarms.
    change: u64,
    latched: AlarmSet,
}

/// That an alarm is latched, or no longer, and since when.
type Turn = (Alarm, bool, Micros);

impl Seen {
    /// Results from now on; alarms since the program's start, those that were latched then among them.
    fn new<H: ControlledStation>(control: &mut Control<H>) -> Seen {
        Seen {
            result: control.next_result(),
            change: 0,
            latched: AlarmSet::NONE,
        }
    }

    /// What alarms did since the last look, oldest first, and the number of changes that had made way already. What
    /// these left behind shows in what is `latched` at the time of this look, `now`.
    fn alarms(
        &mut self,
        history: &AlarmHistory,
        latched: AlarmSet,
        now: Micros,
    ) -> (Vec<Turn>, u64) {
        let (mut turns, mut missed) = (vec![], 0);
        for (number, at, change) in history.since(self.change) {
            missed += number - self.change;
            self.change = number + 1;
            match change {
                AlarmChange::Raised(alarm) => self.turn(self.latched.with(alarm), at, &mut turns),
                AlarmChange::Reset(alarms) => {
                    self.turn(self.latched.minus(alarms), at, &mut turns);
                }
            }
        }
        self.turn(latched, now, &mut turns);
        (turns, missed)
    }

    /// These are latched from then on.
    fn turn(&mut self, latched: AlarmSet, at: Micros, turns: &mut Vec<Turn>) {
        let before = std::mem::replace(&mut self.latched, latched);
        let changed = |alarm: &Alarm| before.contains(*alarm) != latched.contains(*alarm);
        let alarms = ALARMS.into_iter().filter(changed);
        turns.extend(alarms.map(|alarm| (alarm, latched.contains(alarm), at)));
    }
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
    // Before the state: what is said of alarms is never taken back by a state that is older.
    let snapshot = control.snapshot();
    let mut state = stamped(object(state::state(control)));
    let stops = control.alarms_that_stop();
    let (turns, missed_alarms) =
        seen.alarms(&snapshot.alarm_history, snapshot.alarms, snapshot.now);
    let alarms = turns.into_iter().map(|(alarm, latched, at)| {
        let (name, text) = alarm_text(alarm);
        object(json!({
            "time": utc(at), "number": alarm as u8, "name": name, "text": text,
            "latched": latched, "stops": stops.contains(alarm),
        }))
    });
    let alarms = alarms.collect();
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
        missed_alarms,
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
    let missed = news.missed_alarms
        + match receiver.results {
            Results::None => 0,
            Results::All | Results::Rejects => news.missed,
        };
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
                json!({ "waiting": waiting, "dropped": dropped + missed }),
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
    // Those that could not be stored are to stand in the file as dropped.
    if messages.is_empty() && missed == 0 && !given.failed {
        return;
    }
    match receiver.outbox.put(&messages, missed) {
        Ok(()) => {
            if missed > 0 {
                log::warn!(
                    "{missed} results or alarms came faster than they could be stored for the plant: dropped"
                );
            }
            given.failed = false;
            if state.is_some() {
                given.state = Value::Object(news.state.clone());
            }
            if counters.is_some() {
                given.counters = Value::Object(news.counters.clone());
                given.counted = Some(now);
            }
        }
        Err(e) => {
            if !std::mem::replace(&mut given.failed, true) {
                log::error!("{e}: messages for the plant are dropped until it can be written");
            }
            // State and counters were not stored either.
            receiver.again.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(changes: &[(u64, AlarmChange)]) -> AlarmHistory {
        let mut history = AlarmHistory::default();
        for (at, change) in changes {
            history.push(Micros(*at), *change);
        }
        history
    }

    fn from_the_start() -> Seen {
        Seen {
            result: 0,
            change: 0,
            latched: AlarmSet::NONE,
        }
    }

    #[test]
    fn what_alarms_did_is_reported_in_its_order_and_with_its_times() {
        use AlarmChange::{Raised, Reset};
        let (camera, frozen) = (Alarm::Camera, Alarm::Frozen);
        let both = AlarmSet::of(&[camera, frozen]);
        // By number the camera's alarm comes first.
        let mut changes = vec![
            (10, Raised(frozen)),
            (20, Raised(camera)),
            (30, Reset(both)),
        ];
        let mut seen = from_the_start();
        let (turns, missed) = seen.alarms(&history(&changes), AlarmSet::NONE, Micros(40));
        let wanted = [
            (frozen, true, Micros(10)),
            (camera, true, Micros(20)),
            (camera, false, Micros(30)),
            (frozen, false, Micros(30)),
        ];
        assert_eq!((&turns[..], missed), (&wanted[..], 0));
        // Nothing twice, and one that is reset and raised again goes off between.
        changes.extend([
            (50, Raised(camera)),
            (60, Reset(AlarmSet::of(&[camera]))),
            (60, Raised(camera)),
        ]);
        let latched = AlarmSet::of(&[camera]);
        let (turns, missed) = seen.alarms(&history(&changes), latched, Micros(70));
        let wanted = [
            (camera, true, Micros(50)),
            (camera, false, Micros(60)),
            (camera, true, Micros(60)),
        ];
        assert_eq!((&turns[..], missed), (&wanted[..], 0));
        let (turns, missed) = seen.alarms(&history(&changes), latched, Micros(80));
        assert_eq!((&turns[..], missed), (&[][..], 0));
    }

    #[test]
    fn changes_that_made_way_are_counted_and_what_they_left_is_reported() {
        use AlarmChange::{Raised, Reset};
        let (camera, light) = (Alarm::Camera, Alarm::Light);
        let mut changes = vec![(1, Raised(camera))];
        for at in 1..=40 {
            changes.push((10 * at, Raised(light)));
            changes.push((10 * at + 1, Reset(AlarmSet::of(&[light]))));
        }
        let latched = AlarmSet::of(&[camera]);
        let mut seen = from_the_start();
        let (turns, missed) = seen.alarms(&history(&changes), latched, Micros(500));
        // 81 changes, of which 64 are there.
        assert_eq!(missed, 17);
        assert_eq!(turns[0], (light, true, Micros(90)));
        assert_eq!(turns.len(), 64 + 1);
        assert_eq!(turns[64], (camera, true, Micros(500)));
        assert_eq!(seen.latched, latched);
    }

    #[test]
    fn an_alarm_that_no_change_speaks_of_is_reported_once() {
        let latched = AlarmSet::of(&[Alarm::Camera]);
        let mut seen = from_the_start();
        let nothing = AlarmHistory::default();
        let (turns, _) = seen.alarms(&nothing, latched, Micros(5));
        assert_eq!(turns, [(Alarm::Camera, true, Micros(5))]);
        let (turns, _) = seen.alarms(&nothing, latched, Micros(6));
        assert!(turns.is_empty());
        let (turns, _) = seen.alarms(&nothing, AlarmSet::NONE, Micros(7));
        assert_eq!(turns, [(Alarm::Camera, false, Micros(7))]);
    }
}
