//! Messages to the plant: results of parts, alarms, counters and state, to an MQTT broker and to a webhook.
//!
//! ```text
//! control -> collector -> outbox (disk) -> mqtt | webhook
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`settings`] | the file that says what goes where |
//! | [`collector`] | reads the station and makes messages of what is new |
//! | [`outbox`] | messages that wait to be sent, on disk and bounded |
//! | [`mqtt`] | sends them to a broker (MQTT 5) |
//! | `machine` | what tells this machine from others |
//! | [`sparkplug`] | makes metrics of them for hosts of Sparkplug B |
//! | [`primary_host`] | whether the host of Sparkplug B that the station waits for is online |
//! | [`webhook`] | sends them to a web server |
//! | `tls` | which certificates are trusted |
//!
//! Each is a thread of low priority, and nothing waits for it: the threads that judge parts and switch outputs do
//! not know it, control is locked only while what is new is copied, and a broker or a disk that hangs stops only
//! its own thread. What does not fit into an outbox is dropped, oldest first, and counted.

pub mod collector;
mod machine;
pub mod mqtt;
pub mod outbox;
pub mod primary_host;
pub mod settings;
pub mod sparkplug;
mod tls;
pub mod webhook;

pub use outbox::{Outbox, OutboxError};
pub use settings::{Plant, SettingsError};

use crate::control::table::Parameter;
use crate::control::{Control, ControlledStation};
use crate::priority::hold;
use std::sync::Mutex;
use std::time::Duration;

/// How often a thread checks whether it has to end.
const LOOK: Duration = Duration::from_millis(100);

/// The station's name now. Control is locked only while it is copied.
pub fn station_name<H: ControlledStation>(control: &Mutex<Control<H>>) -> String {
    hold(control).memory().text(Parameter::StationName).into()
}
