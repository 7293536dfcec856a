//! The primary host of Sparkplug B (3.0, chapter 5): while it is offline, the station is offline for everybody.
//!
//! It retains `{"online": bool, "timestamp": ms}` under `spBv1.0/STATE/HOST`; its last will says that it is offline. An
//! edge node that waits for it publishes no birth before it is online, and ends its session when it goes offline. A message
//! whose time is before the last one's is late on its way, and counts for nothing.

use serde::Deserialize;

/// What the station knows of its primary host.
#[derive(Debug)]
pub struct PrimaryHost {
    name: String,
    /// Time of the last message that counted, milliseconds since 1970; `None`: none has come.
    last: Option<u64>,
    online: bool,
    left: bool,
    /// Whether a message that is none was in the log.
    warned: bool,
}

/// The payload of a STATE message.
#[derive(Deserialize)]
struct State {
    online: bool,
    timestamp: u64,
}

impl PrimaryHost {
    /// The host of this name (Sparkplug's host id), of which nothing is known yet.
    pub fn new(name: &str) -> PrimaryHost {
        PrimaryHost {
            name: name.into(),
            last: None,
            online: false,
            left: false,
            warned: false,
        }
    }

    /// Sparkplug's host id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic under which it says whether it is online.
    pub fn topic(&self) -> String {
        format!("spBv1.0/STATE/{}", self.name)
    }

    /// A connection begins: whether the host is online has to be heard at this broker. The last message's time stays.
    pub fn reset(&mut self) {
        (self.online, self.left) = (false, false);
    }

    /// Takes a message of its topic. One that is no STATE message changes nothing and is logged once.
    pub fn take(&mut self, payload: &[u8]) {
        let state: State = match serde_json::from_slice(payload) {
            Ok(state) => state,
            Err(e) => {
                if !std::mem::replace(&mut self.warned, true) {
                    log::warn!(
                        "{}: {e}: not {{\"online\": true or false, \"timestamp\": milliseconds}}, ignored; does the \
                         host speak Sparkplug 3.0?",
                        self.topic()
                    );
                }
                return;
            }
        };
        if self.last.is_some_and(|last| state.timestamp < last) {
            return;
        }
        self.last = Some(state.timestamp);
        self.online = state.online;
        self.left |= !state.online;
    }

    /// Whether its last message says that it is online.
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// Forgets that it was offline before a birth.
    pub fn begin(&mut self) {
        self.left = false;
    }

    /// Whether it was offline since the birth, be it for a moment.
    pub fn has_left(&self) -> bool {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(online: bool, timestamp: u64) -> Vec<u8> {
        format!("{{\"online\":{online},\"timestamp\":{timestamp}}}").into_bytes()
    }

    #[test]
    fn a_message_counts_unless_it_is_older_than_the_last() {
        let mut host = PrimaryHost::new("scada");
        assert_eq!(host.topic(), "spBv1.0/STATE/scada");
        assert!(!host.is_online());
        host.take(&state(true, 1000));
        host.begin();
        assert!(host.is_online() && !host.has_left());
        // The will of an earlier connection of the host comes late.
        host.take(&state(false, 999));
        assert!(host.is_online() && !host.has_left());
        // A will has the time of its own connection's birth.
        host.take(&state(false, 1000));
        assert!(!host.is_online() && host.has_left());
        host.take(&state(true, 999));
        assert!(!host.is_online());
        // Back before anybody looked: it was away all the same.
        host.take(&state(true, 1001));
        assert!(host.is_online() && host.has_left());
    }

    #[test]
    fn over_a_new_connection_the_last_time_stays_and_the_rest_is_heard_anew() {
        let mut host = PrimaryHost::new("scada");
        host.take(&state(true, 1000));
        host.reset();
        assert!(!host.is_online() && !host.has_left());
        host.take(&state(true, 999));
        assert!(!host.is_online());
        host.take(&state(true, 1000));
        assert!(host.is_online());
    }

    #[test]
    fn what_is_no_state_message_changes_nothing() {
        let mut host = PrimaryHost::new("scada");
        host.take(&state(true, 1000));
        for other in [
            "OFFLINE",
            "",
            "{\"online\":false}",
            "{\"online\":\"false\",\"timestamp\":2000}",
            "{\"online\":false,\"timestamp\":-1}",
            "\u{feff}",
        ] {
            host.take(other.as_bytes());
            assert!(host.is_online() && !host.has_left(), "{other}");
        }
        host.take(b"\xff\xfe");
        host.take(b"{\"timestamp\":1001,\"online\":false,\"version\":3}");
        assert!(!host.is_online());
    }
}
