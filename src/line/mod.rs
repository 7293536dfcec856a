//! The conveyor's logic: what becomes of a part, when the reject fires, what is counted.
//!
//! Needs no clock, no I/O, no allocation: time is an argument, pins are embedded-hal's traits, queues are
//! heapless. Knows nothing of pictures. Whatever goes wrong, a part that is not known to be good is
//! rejected, and counted with its cause.
//!
//! | module | what it does |
//! |---|---|
//! | [`station`] | ties the rest together: the one object that a program drives |
//! | [`bounds`] | numbers that cannot be out of range |
//! | [`settings`] | what a station is set to, in types that cannot hold nonsense |
//! | [`trigger`] | what says that a part is there |
//! | [`pairing`] | which frame shows which part |
//! | [`view`] | which camera a frame is from |
//! | `queue` | the parts between trigger and reject station |
//! | `gate` | what passes the reject station, and for how long |
//! | [`outputs`] | logical outputs, and the way from there to pins |
//! | [`inputs`] | what the machine around says |
//! | [`lanes`] | where a rejected part goes, by the type of its defect |
//! | [`alarms`], [`challenge`] | when the line must stop; proof that the station rejects |
//! | [`outcome`], [`counters`], [`event`] | what became of parts, counted and reported |

pub mod alarms;
pub mod bounds;
pub mod challenge;
pub mod counters;
pub mod event;
mod gate;
pub mod inputs;
pub mod lanes;
pub mod outcome;
pub mod outputs;
pub mod pairing;
mod queue;
pub mod settings;
pub mod station;
pub mod time;
pub mod trigger;
pub mod view;

#[cfg(test)]
mod tests;

pub use alarms::{Alarm, AlarmChange, AlarmHistory, AlarmSet};
pub use challenge::{ChallengeError, ChallengeReport};
pub use counters::Statistics;
pub use event::{Event, Observer};
pub use inputs::Input;
pub use lanes::{DefectType, Lane, Sorting};
pub use outcome::{Cause, Counters, Outcome};
pub use outputs::{Active, Outputs, Pin, Pins, Signal};
pub use pairing::{Frame, Pairing};
pub use settings::{SettingError, Settings, Wiring};
pub use station::{NetworkState, Station, Verdict, VerdictUse};
pub use time::{FrameId, Micros, PartId, Position};
pub use trigger::{Interval, Trigger};
pub use view::{VIEWS, View};
