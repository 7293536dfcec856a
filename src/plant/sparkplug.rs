//! Sparkplug B 3.0: the station as an edge node, its messages as metrics.
//!
//! The node's birth (NBIRTH) names every metric with its alias and last value; what follows (NDATA) has aliases only.
//! Results and alarms that waited while the broker was away are marked historical. Numbers of fields, data types and
//! topics are the specification's (chapters 4 and 6).

use super::settings::Sparkplug;
use crate::control::alarm_text;
use crate::control::host::Lost;
use crate::control::session::counts;
use crate::line::alarms::ALARMS;
use crate::line::counters::Statistics;
use prost::Message as _;
use serde_json::Value;

/// What a message of the node is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is there: all metrics.
    Birth,
    /// Something is new.
    Data,
    /// It is away.
    Death,
    /// Somebody wants something of it.
    Command,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Birth => "NBIRTH",
            Kind::Data => "NDATA",
            Kind::Death => "NDEATH",
            Kind::Command => "NCMD",
        }
    }
}

/// A message of the last moment before the connection is no history, milliseconds.
const LIVE: u64 = 1000;

/// The metric by which a host has all metrics sent again.
const REBIRTH: &str = "Node Control/Rebirth";

/// The metric that tells one connection's birth and death from another's.
const BIRTH_DEATH: &str = "bdSeq";

/// A metric's kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Type {
    UInt64 = 8,
    Double = 10,
    Boolean = 11,
    String = 12,
}

/// The payload of every message.
#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint64, optional, tag = "1")]
    timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
    #[prost(uint64, optional, tag = "3")]
    seq: Option<u64>,
}

/// A metric; of what it may have, what a station uses.
#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    alias: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    datatype: Option<u32>,
    #[prost(bool, optional, tag = "5")]
    is_historical: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    is_null: Option<bool>,
    #[prost(oneof = "Content", tags = "11, 13, 14, 15")]
    content: Option<Content>,
}

/// A metric's value.
#[derive(Clone, PartialEq, prost::Oneof)]
enum Content {
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    Text(String),
}

/// Where a metric's value stands: the message's topic, and the place in its JSON.
struct Source {
    name: String,
    kind: Type,
    topic: &'static str,
    place: String,
}

/// Metrics of state and results: name, kind, topic, place.
const FIXED: [(&str, Type, &str, &str); 20] = [
    ("State/Mode", Type::String, "state", "/mode"),
    ("State/Version", Type::String, "state", "/version"),
    ("State/Recipe", Type::String, "state", "/recipe"),
    ("State/Recipe Name", Type::String, "state", "/recipe_name"),
    ("State/Threshold", Type::Double, "state", "/threshold"),
    ("State/Network", Type::String, "state", "/network/name"),
    ("State/Ready", Type::Boolean, "state", "/outputs/ready"),
    ("State/Fault", Type::Boolean, "state", "/outputs/fault"),
    (
        "State/Line Stop",
        Type::Boolean,
        "state",
        "/outputs/line_stop",
    ),
    ("State/Pause Reason", Type::String, "state", "/pause/reason"),
    ("Result/Number", Type::UInt64, "result", "/seq"),
    ("Result/Part", Type::UInt64, "result", "/part"),
    ("Result/Outcome", Type::String, "result", "/outcome"),
    ("Result/Cause", Type::String, "result", "/cause"),
    ("Result/Type", Type::String, "result", "/type"),
    ("Result/Score", Type::Double, "result", "/score"),
    ("Result/Camera", Type::UInt64, "result", "/camera"),
    ("Result/Latency ms", Type::Double, "result", "/latency_ms"),
    (
        "Messages/Waiting",
        Type::UInt64,
        "counters",
        "/messages/waiting",
    ),
    (
        "Messages/Dropped",
        Type::UInt64,
        "counters",
        "/messages/dropped",
    ),
];

/// All metrics but the node's own two; their places are their aliases.
fn sources() -> Vec<Source> {
    let fixed = FIXED.iter().map(|(name, kind, topic, place)| Source {
        name: (*name).into(),
        kind: *kind,
        topic,
        place: (*place).into(),
    });
    let counters = counts(&Statistics::default(), Lost::default());
    let counters = counters.into_iter().map(|(name, _)| Source {
        name: format!("Counters/{name}"),
        kind: Type::UInt64,
        topic: "counters",
        place: format!("/counters/{name}"),
    });
    let alarms = ALARMS.into_iter().map(|alarm| Source {
        name: format!("Alarms/{}", alarm_text(alarm).0),
        kind: Type::Boolean,
        topic: "alarm",
        place: alarm_text(alarm).0.into(),
    });
    fixed.chain(counters).chain(alarms).collect()
}

fn content(kind: Type, value: &Value) -> Option<Content> {
    match kind {
        Type::UInt64 => value.as_u64().map(Content::Long),
        Type::Double => value.as_f64().map(Content::Double),
        Type::Boolean => value.as_bool().map(Content::Boolean),
        Type::String => value.as_str().map(|text| Content::Text(text.into())),
    }
}

/// Milliseconds since 1970 of a message's time.
fn milliseconds(body: &Value) -> u64 {
    let time: Option<jiff::Timestamp> = body["time"].as_str().and_then(|t| t.parse().ok());
    let time = time.unwrap_or_else(jiff::Timestamp::now);
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// An edge node in one connection to the broker.
pub struct Node {
    settings: Sparkplug,
    /// Tells this connection from others.
    connection: u64,
    /// Number of the next message.
    seq: u8,
    /// When the connection began, milliseconds since 1970; 0: it has not.
    born: u64,
    sources: Vec<Source>,
    /// Last values and their times, for the next birth.
    current: Vec<(u64, Option<Content>)>,
}

impl Node {
    /// A node in a connection of which `connection`, 0 to 255, is one more than the last one's.
    pub fn new(settings: &Sparkplug, connection: u8) -> Node {
        let sources = sources();
        Node {
            settings: settings.clone(),
            connection: connection.into(),
            seq: 0,
            born: 0,
            current: vec![(now(), None); sources.len()],
            sources,
        }
    }

    /// The topic of a kind of messages.
    pub fn topic(&self, kind: Kind) -> String {
        let Sparkplug { group, node, .. } = &self.settings;
        format!("spBv1.0/{group}/{}/{node}", kind.word())
    }

    /// The message that says that it is away: the connection's last will.
    pub fn death(&self) -> Vec<u8> {
        let payload = Payload {
            timestamp: Some(now()),
            metrics: vec![self.birth_death()],
            seq: None,
        };
        payload.encode_to_vec()
    }

    fn birth_death(&self) -> Metric {
        Metric {
            name: Some(BIRTH_DEATH.into()),
            timestamp: Some(now()),
            datatype: Some(Type::UInt64 as u32),
            content: Some(Content::Long(self.connection)),
            ..Metric::default()
        }
    }

    /// The message with every metric, and its last value if it is known. Numbers begin anew.
    pub fn birth(&mut self) -> Vec<u8> {
        let rebirth = Metric {
            name: Some(REBIRTH.into()),
            timestamp: Some(now()),
            datatype: Some(Type::Boolean as u32),
            content: Some(Content::Boolean(false)),
            ..Metric::default()
        };
        let mut metrics = vec![self.birth_death(), rebirth];
        let known = self.sources.iter().zip(&self.current).enumerate();
        metrics.extend(known.map(|(alias, (source, (time, value)))| Metric {
            name: Some(source.name.clone()),
            alias: Some(alias as u64),
            timestamp: Some(*time),
            datatype: Some(source.kind as u32),
            is_null: value.is_none().then_some(true),
            content: value.clone(),
            ..Metric::default()
        }));
        self.seq = 0;
        if self.born == 0 {
            self.born = now();
        }
        self.payload(now(), metrics)
    }

    fn payload(&mut self, timestamp: u64, metrics: Vec<Metric>) -> Vec<u8> {
        let payload = Payload {
            timestamp: Some(timestamp),
            metrics,
            seq: Some(self.seq.into()),
        };
        self.seq = self.seq.wrapping_add(1);
        payload.encode_to_vec()
    }

    /// Whether a result or an alarm waited while the broker was away.
    pub fn waited(&self, topic: &str, body: &Value) -> bool {
        matches!(topic, "result" | "alarm") && milliseconds(body) + LIVE < self.born
    }

    /// A message of the station as metrics: all of a result, of anything else what has changed. `None`: nothing has.
    /// `historical`: it waited for this connection.
    pub fn data(&mut self, topic: &str, body: &Value, historical: bool) -> Option<Vec<u8>> {
        let time = milliseconds(body);
        let mut metrics = Vec::new();
        for (alias, source) in self.sources.iter().enumerate() {
            let value = match (source.topic, topic) {
                ("alarm", "alarm") if body["name"] == source.place.as_str() => {
                    content(source.kind, &body["latched"])
                }
                ("alarm", "state") => {
                    let latched = body["alarms"].as_array()?;
                    let latched = latched.iter().any(|a| a["name"] == source.place.as_str());
                    Some(Content::Boolean(latched))
                }
                ("alarm", _) => continue,
                (own, other) if own == other => body
                    .pointer(&source.place)
                    .and_then(|value| content(source.kind, value)),
                _ => continue,
            };
            let (_, current) = &self.current[alias];
            if topic != "result" && !historical && *current == value {
                continue;
            }
            if !historical {
                self.current[alias] = (time, value.clone());
            }
            metrics.push(Metric {
                alias: Some(alias as u64),
                timestamp: Some(time),
                datatype: Some(source.kind as u32),
                is_historical: historical.then_some(true),
                is_null: value.is_none().then_some(true),
                content: value,
                ..Metric::default()
            });
        }
        (!metrics.is_empty()).then(|| self.payload(time, metrics))
    }
}

/// Whether a command (NCMD) wants all metrics again. Anything else in it is nothing that a station does.
pub fn wants_birth(command: &[u8]) -> bool {
    let payload = Payload::decode(command).unwrap_or_default();
    payload.metrics.iter().any(|metric| {
        metric.name.as_deref() == Some(REBIRTH) && metric.content == Some(Content::Boolean(true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> Node {
        let settings = Sparkplug {
            group: "Plant".into(),
            node: "line1".into(),
            primary_host: None,
        };
        Node::new(&settings, 7)
    }

    fn read(bytes: &[u8]) -> Payload {
        Payload::decode(bytes).unwrap()
    }

    #[test]
    fn a_birth_names_every_metric_once_and_data_goes_by_alias() {
        let mut node = node();
        assert_eq!(node.topic(Kind::Birth), "spBv1.0/Plant/NBIRTH/line1");
        let birth = read(&node.birth());
        assert_eq!(birth.seq, Some(0));
        let mut names: Vec<&str> = birth
            .metrics
            .iter()
            .map(|m| m.name.as_deref().unwrap())
            .collect();
        assert_eq!(names[..2], ["bdSeq", "Node Control/Rebirth"]);
        assert_eq!(birth.metrics[0].content, Some(Content::Long(7)));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        let alias = |name: &str| {
            let found = birth
                .metrics
                .iter()
                .find(|m| m.name.as_deref() == Some(name));
            found.unwrap().alias.unwrap()
        };

        let result = json!({
            "time": "2026-11-29T10:00:00.5Z", "seq": 3, "part": 12, "outcome": "reject", "cause": null, "type": null,
            "score": 0.75, "camera": 1, "latency_ms": 12.5,
        });
        let data = read(&node.data("result", &result, false).unwrap());
        assert_eq!((data.seq, data.metrics.len()), (Some(1), 8));
        let of = |payload: &Payload, name: &str| {
            let wanted = Some(alias(name));
            payload
                .metrics
                .iter()
                .find(|m| m.alias == wanted)
                .cloned()
                .unwrap()
        };
        let score = of(&data, "Result/Score");
        assert_eq!(score.content, Some(Content::Double(0.75)));
        assert_eq!(
            (score.timestamp, score.name),
            (Some(1_795_946_400_500), None)
        );
        assert_eq!(of(&data, "Result/Cause").is_null, Some(true));
        // The same outcome again is another part's: it is sent again.
        let again = read(&node.data("result", &result, true).unwrap());
        assert_eq!((again.seq, again.metrics.len()), (Some(2), 8));
        assert!(again.metrics.iter().all(|m| m.is_historical == Some(true)));
        // A birth has the last values.
        let born = read(&node.birth());
        assert_eq!(born.seq, Some(0));
        assert_eq!(
            of(&born, "Result/Score").content,
            Some(Content::Double(0.75))
        );
    }

    #[test]
    fn of_a_state_only_what_changed_is_sent() {
        let mut node = node();
        let name = alarm_text(ALARMS[0]).0;
        let state = |mode: &str, alarms: Value| json!({"time": "2026-11-29T10:00:00Z", "mode": mode, "threshold": 0.5, "alarms": alarms});
        let first = read(
            &node
                .data("state", &state("running", json!([])), false)
                .unwrap(),
        );
        assert_eq!(first.metrics.len(), 2 + ALARMS.len());
        assert!(
            node.data("state", &state("running", json!([])), false)
                .is_none()
        );
        let latched = state("stopped", json!([{ "name": name }]));
        let second = read(&node.data("state", &latched, false).unwrap());
        assert_eq!(second.metrics.len(), 2);
        let alarm = json!({"time": "2026-11-29T10:00:01Z", "name": name, "latched": false});
        let third = read(&node.data("alarm", &alarm, false).unwrap());
        assert_eq!(third.metrics.len(), 1);
        assert_eq!(third.metrics[0].content, Some(Content::Boolean(false)));
    }

    #[test]
    fn numbers_go_round_and_a_death_has_none() {
        let mut node = node();
        node.birth();
        let alarm = |latched: bool| json!({"time": "2026-11-29T10:00:01Z", "name": alarm_text(ALARMS[0]).0, "latched": latched});
        let numbers: Vec<u64> = (0..256)
            .map(|i| {
                read(&node.data("alarm", &alarm(i % 2 == 0), false).unwrap())
                    .seq
                    .unwrap()
            })
            .collect();
        assert_eq!((numbers[0], numbers[254], numbers[255]), (1, 255, 0));
        let death = read(&node.death());
        assert_eq!((death.seq, death.metrics.len()), (None, 1));
    }

    #[test]
    fn only_a_wish_for_a_birth_is_one() {
        let command = |name: &str, value| {
            let metric = Metric {
                name: Some(name.into()),
                datatype: Some(11),
                content: Some(Content::Boolean(value)),
                ..Metric::default()
            };
            let payload = Payload {
                metrics: vec![metric],
                ..Payload::default()
            };
            wants_birth(&payload.encode_to_vec())
        };
        assert!(command("Node Control/Rebirth", true));
        assert!(!command("Node Control/Rebirth", false));
        assert!(!command("Node Control/Reboot", true));
        assert!(!wants_birth(b"no payload") && !wants_birth(&[]));
    }
}
