//! Messages to the plant: what becomes of parts, alarms, counters and state, to an MQTT broker and to a webhook.
//!
//! ```text
//! control -> collector -> outbox (disk) -> mqtt | webhook
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`settings`] | the file that says what goes where |
//! | [`collector`] | looks at the station and makes messages of what is new |
//! | [`outbox`] | messages that wait for whoever is to get them, on disk and bounded |
//! | [`mqtt`] | sends them to a broker (MQTT 5) |
//! | [`webhook`] | sends them to a web server |
//! | `tls` | whom is trusted |
//!
//! Each is a thread of low priority. Must never be waited for: the threads that judge parts and switch outputs know
//! nothing of it, control is held for as long as it takes to copy what is new, and a broker or a disk that hangs keeps
//! only its own thread waiting. What does not fit into an outbox is dropped, oldest first, and counted.

pub mod collector;
pub mod mqtt;
pub mod outbox;
pub mod settings;
mod tls;
pub mod webhook;

pub use outbox::{Outbox, OutboxError};
pub use settings::{Plant, SettingsError};

use std::time::Duration;

/// How often a thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
