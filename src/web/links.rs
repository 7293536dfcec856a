//! How far messages to the plant get, for whoever looks on.
//!
//! Its own place and not the outbox's lock, which is held while a disk writes: a page that waited for it would stand
//! still with the disk.

use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const NOT_KNOWN: u8 = 0;
const DOWN: u8 = 1;
const UP: u8 = 2;

/// The way to one receiver of messages, as its sender left it.
#[derive(Debug, Default)]
pub struct Link {
    state: AtomicU8,
    waiting: AtomicU64,
    dropped: AtomicU64,
}

impl Link {
    /// Whether the receiver was reached when it was last tried.
    pub fn set_up(&self, up: bool) {
        let state = if up { UP } else { DOWN };
        self.state.store(state, Ordering::Relaxed);
    }

    /// The number of messages that wait, and of those that were dropped.
    pub fn set_counts(&self, waiting: u64, dropped: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.dropped.store(dropped, Ordering::Relaxed);
    }

    /// Whether the receiver was reached when it was last tried; `None`: it was not tried yet.
    pub fn is_up(&self) -> Option<bool> {
        match self.state.load(Ordering::Relaxed) {
            NOT_KNOWN => None,
            state => Some(state == UP),
        }
    }

    /// The number of messages that wait, and of those that were dropped.
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.waiting), of(&self.dropped))
    }
}

/// The receivers that there are.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// The MQTT broker.
    pub mqtt: Option<Arc<Link>>,
    /// The web server.
    pub webhook: Option<Arc<Link>>,
}

impl Links {
    /// Each with its name.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &Link)> {
        let all = [("mqtt", &self.mqtt), ("webhook", &self.webhook)];
        all.into_iter()
            .filter_map(|(name, link)| Some((name, link.as_deref()?)))
    }

    /// Whether there is a connection to the broker; `None`: none is wanted.
    pub(super) fn mqtt_is_connected(&self) -> Option<bool> {
        // Before the first try there is none.
        let link = self.mqtt.as_ref()?;
        Some(link.is_up() == Some(true))
    }

    /// Whether the web server took the last request; `None`: it got none.
    pub(super) fn webhook_is_up(&self) -> Option<bool> {
        self.webhook.as_ref()?.is_up()
    }

    /// As part of the station's state: of each receiver whether it is reached, and how many messages wait and were
    /// dropped.
    pub(super) fn json(&self) -> Value {
        let mut all = Map::new();
        for (name, link) in self.named() {
            let (waiting, dropped) = link.counts();
            let mut one = json!({ "waiting": waiting, "dropped": dropped });
            match name {
                "mqtt" => one["connected"] = json!(self.mqtt_is_connected()),
                _ => one["up"] = json!(self.webhook_is_up()),
            }
            all.insert(name.into(), one);
        }
        Value::Object(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_was_not_tried_is_no_connection_and_one_that_is_not_wanted_is_not_there() {
        assert_eq!(Links::default().json(), json!({}));
        let links = Links {
            mqtt: Some(Arc::default()),
            webhook: Some(Arc::default()),
        };
        let nothing = json!({ "waiting": 0, "dropped": 0 });
        let (mut mqtt, mut webhook) = (nothing.clone(), nothing);
        mqtt["connected"] = json!(false);
        webhook["up"] = Value::Null;
        assert_eq!(links.json(), json!({ "mqtt": mqtt, "webhook": webhook }));
        for (_, link) in links.named() {
            link.set_up(true);
            link.set_counts(3, 4);
        }
        let state = links.json();
        assert_eq!(
            state["mqtt"],
            json!({ "connected": true, "waiting": 3, "dropped": 4 })
        );
        assert_eq!(
            state["webhook"],
            json!({ "up": true, "waiting": 3, "dropped": 4 })
        );
        links.webhook.as_ref().unwrap().set_up(false);
        assert_eq!(links.json()["webhook"]["up"], json!(false));
    }
}
