//! What the station says of itself: asked for twice a second, in a thread of its own.

use crate::settings::Settings;
use crate::types::{
    CONTINUOUS_EXECUTION, ERROR, HALTED, INITIALIZED, OPERATIONAL, PREOPERATIONAL, READY, State,
};
use faprompt_client::{Client, ClientError, LogIn};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the station is asked.
const EVERY: Duration = Duration::from_millis(500);
/// How often the recipes' names are asked for.
const RECIPES: Duration = Duration::from_secs(5);
/// Before the next try when the station is away: doubled from the first to the last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Before the next try with a password that was wrong.
const WRONG: Duration = Duration::from_secs(60);
/// How often it is looked whether everything ends.
const LOOK: Duration = Duration::from_millis(50);
/// The command set's code of what is to be seen after log-in only.
const NEEDS_LOGIN: u64 = 400;

/// A part's result, as `/api/results` has it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct PartResult {
    /// Counts the results since the station's start.
    pub number: u64,
    /// When it was known (RFC 3339).
    pub time: String,
    /// The part's number.
    pub part: u64,
    /// `good` or `reject`.
    pub outcome: String,
    /// Why it was rejected, if not by its score.
    pub cause: Option<String>,
    /// Type of the defect.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its score, 0 to 1.
    pub score: Option<f64>,
    /// Whose score it is, from 1.
    pub camera: u32,
    /// From trigger to verdict, milliseconds.
    pub latency_ms: Option<f64>,
}

/// A recipe, as `/api/recipes` has it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Recipe {
    /// 1 to 32.
    pub number: u32,
    /// Empty if it has none.
    pub name: String,
    /// Whether the station judges by it.
    pub in_use: bool,
}

/// An alarm that is latched.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Alarm {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What it means.
    pub text: String,
}

/// The network that judges.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Network {
    /// `ready` or what is wrong.
    pub state: String,
    /// Its name.
    pub name: Option<String>,
}

/// What `/api/state` says, as far as it is passed on.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// What the station is called.
    pub station: String,
    /// `starting`, `running`, `disarmed`, `stopped`, `blind`, `halted`.
    pub mode: String,
    /// Latched alarms.
    pub alarms: Vec<Alarm>,
    /// Counters by name.
    pub counters: BTreeMap<String, u64>,
    /// Number of the recipe in use.
    pub recipe: String,
    /// Its name.
    pub recipe_name: String,
    /// Scores above it are rejects.
    pub threshold: f64,
    /// What judges.
    pub network: Network,
}

/// The state of the two state machines; the second is `None` unless the first is operational.
pub fn states(status: Option<&Status>) -> (State, Option<State>) {
    let Some(status) = status else {
        return (ERROR, None);
    };
    match status.mode.as_str() {
        "starting" => (PREOPERATIONAL, None),
        "halted" => (HALTED, None),
        "running" => (OPERATIONAL, Some(CONTINUOUS_EXECUTION)),
        "disarmed" if matches!(status.network.state.as_str(), "none" | "starting") => {
            (OPERATIONAL, Some(INITIALIZED))
        }
        "disarmed" => (OPERATIONAL, Some(READY)),
        // Stopped, blind, and what a later station calls otherwise.
        _ => (ERROR, None),
    }
}

/// What is new.
#[derive(Debug)]
pub enum News {
    /// What the station says, and results since the last time.
    Here {
        /// The state.
        status: Box<Status>,
        /// The recipes, if they were asked for.
        recipes: Option<Vec<Recipe>>,
        /// New results, the oldest first.
        results: Vec<PartResult>,
    },
    /// Why it says nothing.
    Away(String),
}

/// Which results have been seen.
#[derive(Default)]
struct Seen {
    last: Option<PartResult>,
}

impl Seen {
    /// Those of the station's last results that are new.
    fn new_ones(&mut self, all: Vec<PartResult>) -> Vec<PartResult> {
        // A station that has started anew counts from 0: the number that was last is then away, or another result's.
        let place = self.last.as_ref().and_then(|last| {
            let same = |r: &PartResult| r.number == last.number && r.time == last.time;
            all.iter().position(same)
        });
        let new = match (place, &self.last) {
            (Some(place), _) => all[place + 1..].to_vec(),
            (None, Some(last)) => {
                if let Some(first) = all.first().filter(|first| first.number > last.number + 1) {
                    let missed = first.number - last.number - 1;
                    log::warn!("{missed} results were not seen: too many came at once");
                }
                all
            }
            (None, None) => all,
        };
        if let Some(last) = new.last() {
            self.last = Some(last.clone());
        }
        new
    }
}

/// Asks the station until `stop` is set, and passes on what is new.
pub fn run(client: &Client, settings: &Settings, stop: &AtomicBool, mut tell: impl FnMut(News)) {
    let mut session: Option<LogIn<'_>> = None;
    let mut seen = Seen::default();
    let (mut wait, mut here) = (AGAIN.0, None);
    let (mut asked, mut counted) = (None, Counted::default());
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let recipes = asked.is_none_or(|at: Instant| begun.duration_since(at) >= RECIPES);
        let next = match ask(client, settings, &mut session, recipes, &mut counted) {
            Ok((status, recipes, results)) => {
                if recipes.is_some() {
                    asked = Some(begun);
                }
                if here != Some(true) {
                    log::info!("{}: connected", settings.station.url);
                }
                (here, wait) = (Some(true), AGAIN.0);
                tell(News::Here {
                    status: Box::new(status),
                    recipes,
                    results: seen.new_ones(results),
                });
                EVERY
            }
            Err(e) => {
                session = None;
                (asked, counted) = (None, Counted::default());
                let wrong = matches!(e, ClientError::Refused { .. } | ClientError::Key(_));
                let pause = if wrong { WRONG } else { wait };
                wait = (wait * 2).min(AGAIN.1);
                if here != Some(false) {
                    log::warn!("{e}; tried again");
                }
                here = Some(false);
                tell(News::Away(e.to_string()));
                pause
            }
        };
        while begun.elapsed() < next && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
    }
}

/// When results are worth asking for: after parts were counted.
#[derive(Default)]
struct Counted {
    parts: Option<u64>,
    /// Rounds in which none was counted.
    quiet: u32,
}

impl Counted {
    /// A result is passed on a moment after its part is counted: one round more is asked for.
    fn may_be_more(&mut self, parts: Option<u64>) -> bool {
        let same = parts.is_some() && parts == self.parts;
        self.quiet = if same {
            self.quiet.saturating_add(1)
        } else {
            0
        };
        self.parts = parts;
        self.quiet < 2
    }
}

type Answer = (Status, Option<Vec<Recipe>>, Vec<PartResult>);

/// One round: the state, and results if parts were counted since.
fn ask<'a>(
    client: &'a Client,
    settings: &Settings,
    session: &mut Option<LogIn<'a>>,
    recipes: bool,
    counted: &mut Counted,
) -> Result<Answer, ClientError> {
    let value = look(client, settings, session, "/api/state")?;
    let status: Status = parsed(client, "/api/state", value)?;
    let recipes = match recipes {
        true => {
            let value = look(client, settings, session, "/api/recipes")?;
            Some(parsed(client, "/api/recipes", value)?)
        }
        false => None,
    };
    let results = match counted.may_be_more(status.counters.get("parts").copied()) {
        true => {
            let value = look(client, settings, session, "/api/results")?;
            parsed(client, "/api/results", value)?
        }
        false => Vec::new(),
    };
    Ok((status, recipes, results))
}

fn parsed<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &'static str,
    value: Value,
) -> Result<T, ClientError> {
    serde_json::from_value(value).map_err(|e| ClientError::Answer {
        url: client.station().url.clone(),
        path,
        reason: format!("another answer than this version's ({e})"),
    })
}

/// Looks as everybody; after log-in if the station wants one (parameter `web_view`) and there is a password.
fn look<'a>(
    client: &'a Client,
    settings: &Settings,
    session: &mut Option<LogIn<'a>>,
    path: &'static str,
) -> Result<Value, ClientError> {
    let refused = match client.look(path, session.as_ref()) {
        Err(
            e @ ClientError::Refused {
                code: NEEDS_LOGIN, ..
            },
        ) => e,
        other => return other,
    };
    // Its session may have ended, too.
    *session = None;
    let Some(password) = settings.station.password().map_err(ClientError::Key)? else {
        return Err(refused);
    };
    let granted = client.log_in_as(settings.level.name(), &password)?;
    client.look(path, Some(session.insert(granted)))
}

/// What the station says of itself now.
///
/// # Errors
/// Those of a request.
pub fn once(client: &Client, settings: &Settings) -> Result<Status, ClientError> {
    let value = look(client, settings, &mut None, "/api/state")?;
    parsed(client, "/api/state", value)
}

/// Whether the gateway can work with this station: an error that waiting does not mend.
///
/// # Errors
/// A wrong password or certificate; a station that is away is none.
pub fn first(client: &Client, settings: &Settings) -> Result<(), ClientError> {
    match once(client, settings) {
        Err(ClientError::Away { .. } | ClientError::Answer { .. }) => Ok(()),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(number: u64, time: &str) -> PartResult {
        PartResult {
            number,
            time: time.into(),
            part: 100 + number,
            outcome: "good".into(),
            cause: None,
            kind: None,
            score: Some(0.25),
            camera: 1,
            latency_ms: None,
        }
    }

    #[test]
    fn every_result_comes_once_also_after_the_station_has_started_anew() {
        let mut seen = Seen::default();
        let all: Vec<_> = (0..5).map(|n| result(n, "a")).collect();
        let numbers = |new: Vec<PartResult>| new.iter().map(|r| r.number).collect::<Vec<_>>();
        assert_eq!(numbers(seen.new_ones(all[..3].to_vec())), [0, 1, 2]);
        assert_eq!(numbers(seen.new_ones(all.clone())), [3, 4]);
        assert!(seen.new_ones(all.clone()).is_empty());
        assert!(seen.new_ones(Vec::new()).is_empty());
        // The same numbers, other results.
        let anew: Vec<_> = (0..6).map(|n| result(n, "b")).collect();
        assert_eq!(numbers(seen.new_ones(anew.clone())), [0, 1, 2, 3, 4, 5]);
        assert!(seen.new_ones(anew).is_empty());
    }

    #[test]
    fn modes_are_states() {
        let status = |mode: &str, network: &str| Status {
            version: "1".into(),
            station: String::new(),
            mode: mode.into(),
            alarms: Vec::new(),
            counters: BTreeMap::new(),
            recipe: "1".into(),
            recipe_name: String::new(),
            threshold: 0.5,
            network: Network {
                state: network.into(),
                name: None,
            },
        };
        for (mode, network, first, second) in [
            ("starting", "starting", "Preoperational", None),
            (
                "running",
                "ready",
                "Operational",
                Some("ContinuousExecution"),
            ),
            ("disarmed", "ready", "Operational", Some("Ready")),
            ("disarmed", "none", "Operational", Some("Initialized")),
            ("stopped", "ready", "Error", None),
            ("blind", "ready", "Error", None),
            ("halted", "ready", "Halted", None),
            ("another", "ready", "Error", None),
        ] {
            let (machine, mode_machine) = states(Some(&status(mode, network)));
            assert_eq!(
                (machine.name, mode_machine.map(|s| s.name)),
                (first, second),
                "{mode}"
            );
        }
        assert_eq!(states(None).0.name, "Error");
    }
}
