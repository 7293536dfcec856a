//! The conveyor's logic: what becomes of a part, when the reject fires, what is counted.
//!
//! Needs no clock, no I/O, no allocation: time is an argument in milliseconds, pins are embedded-hal's
//! traits, queues are heapless. Knows nothing of pictures.

pub mod outcome;
pub mod reject;

pub use outcome::{Cause, Counters, Outcome};
pub use reject::{Pulse, RejectSchedule, ScheduleFull};
