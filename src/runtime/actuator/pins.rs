//! The outputs' pins: they show what the core asks for, and are left safe whatever way their owner ends.

use crate::line::{Micros, Outputs, Pin, Pins, Signal, Wiring};

/// Pins that are set to their safe state when this is dropped.
pub(super) struct SafePins<P: Pin> {
    /// The pins themselves.
    pub(super) pins: Pins<P>,
    /// How the ejector is wired, which decides what is safe.
    pub(super) wiring: Wiring,
    /// The outputs that were asked for last.
    pub(super) written: Outputs,
    /// How often output `good` came on.
    pub(super) good_pulses: u64,
    /// How often output `reject` came on.
    pub(super) reject_pulses: u64,
    /// The pin that could not be written last time; `None`: all could.
    pub(super) failed: Option<Signal>,
    /// When it was last checked that all pins are there.
    pub(super) looked: Micros,
}

/// How often it is checked that all pins are there, microseconds.
const LOOK_US: u64 = 40_000;

impl<P: Pin> SafePins<P> {
    /// Notices pins whose chip is gone: they are written again, which fails until it is back.
    pub(super) fn look(&mut self, now: Micros) {
        if now.since(self.looked) >= LOOK_US {
            self.looked = now;
            self.pins.forget_lost();
        }
    }

    /// Writes the pins. Returns whether every pin shows what was asked for.
    pub(super) fn drive(&mut self, outputs: Outputs) -> bool {
        if let Err((signal, e)) = self.pins.drive(&outputs) {
            if self.failed.replace(signal).is_none() {
                log::error!("output {signal:?} cannot be written: {e:?}; it is tried again");
            }
        } else {
            self.failed = None;
        }
        self.good_pulses += u64::from(outputs.good && !self.written.good);
        self.reject_pulses += u64::from(outputs.reject && !self.written.reject);
        self.written = outputs;
        self.failed.is_none()
    }
}

impl<P: Pin> Drop for SafePins<P> {
    fn drop(&mut self) {
        self.drive(Outputs::safe(self.wiring));
    }
}
