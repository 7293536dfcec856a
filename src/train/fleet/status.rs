//! How a station is: its state, read from the answer of its page.

use super::{Client, Fingerprint, StationError};
use serde::Serialize;
use serde_json::Value;

/// Whose certificate a station has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certificate {
    /// The one that the file of stations names.
    Pinned,
    /// One that the system trusts.
    Trusted,
    /// None: it is spoken to without TLS.
    None,
}

impl Certificate {
    /// For a table.
    pub fn word(self) -> &'static str {
        match self {
            Certificate::Pinned => "pinned",
            Certificate::Trusted => "trusted",
            Certificate::None => "none (http)",
        }
    }
}

/// A station's state.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// `running`, `disarmed`, `stopped` and so on, as `STATUS` says it.
    pub mode: String,
    /// What judges; `None`: nothing.
    pub network: Option<String>,
    /// The recipe in use: its number, and its name if it has one.
    pub recipe: String,
    /// Scores above it are rejects.
    pub threshold: Option<f64>,
    /// Parts since its counters were last set to zero.
    pub parts: Option<u64>,
    /// Rejects among them, whatever their cause.
    pub rejects: Option<u64>,
    /// Latched alarms in words, those that stop the line said so.
    pub alarms: Vec<String>,
    /// Whose certificate it has.
    pub certificate: Certificate,
    /// The certificate's fingerprint; `None` over http.
    pub fingerprint: Option<String>,
}

/// Every part that did not pass, whatever the cause: the counter `rejects` has those by their score alone.
fn rejects(counters: &Value) -> Option<u64> {
    counters["parts"]
        .as_u64()?
        .checked_sub(counters["good"].as_u64()?)
}

/// Asks a station how it is.
///
/// # Errors
/// Every [`StationError`] of a request.
pub fn status(client: &Client) -> Result<Status, StationError> {
    let state = client.state()?;
    let text = |value: &Value| value.as_str().map(String::from);
    let alarms = state["alarms"].as_array().into_iter().flatten();
    let alarm = |a: &Value| {
        let stops = match a["stops"].as_bool() {
            Some(true) => " (stops the line)",
            _ => "",
        };
        let text = a["text"].as_str().unwrap_or_default();
        format!("alarm {}: {text}{stops}", a["number"])
    };
    let number = text(&state["recipe"]).unwrap_or_default();
    let recipe = match state["recipe_name"].as_str() {
        Some(name) if !name.is_empty() => format!("{number} {name}"),
        _ => number,
    };
    let counters = &state["counters"];
    Ok(Status {
        version: text(&state["version"]).unwrap_or_default(),
        mode: text(&state["mode"]).unwrap_or_default(),
        network: text(&state["network"]["name"]),
        recipe,
        threshold: state["threshold"].as_f64(),
        parts: counters["parts"].as_u64(),
        rejects: rejects(counters),
        alarms: alarms.map(alarm).collect(),
        certificate: match (client.station().tls(), client.station().fingerprint) {
            (false, _) => Certificate::None,
            (true, Some(_)) => Certificate::Pinned,
            (true, None) => Certificate::Trusted,
        },
        fingerprint: client.certificate().as_ref().map(Fingerprint::to_string),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn rejects_are_those_of_every_cause() {
        let counters = json!({"parts": 25, "good": 3, "rejects": 0, "rejects_nothing_visible": 22});
        assert_eq!(super::rejects(&counters), Some(22));
        assert_eq!(super::rejects(&json!({"parts": 25})), None);
    }
}
