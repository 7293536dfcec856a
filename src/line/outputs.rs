//! What the station says to the machine, and the way from there to pins.
//!
//! The station knows logical states only; which level stands for "on" is the pin's setting here.

use super::lanes::Lane;
use super::settings::Wiring;
use embedded_hal::digital::OutputPin;

/// An output. Numbers leave the machine: only append.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A part known to be good passes ([`Wiring::EnergiseForGood`]).
    Good = 0,
    /// A part to be rejected passes ([`Wiring::EnergiseToReject`]).
    Reject = 1,
    /// The station inspects.
    Ready = 2,
    /// A part waits for its frame or verdict.
    Busy = 3,
    /// The last verdict was good, and so was every part since the station was last not busy: it may be read when `busy`
    /// goes off. Off from each trigger on.
    Result = 4,
    /// An alarm is latched, or the camera is down.
    Fault = 5,
    /// The belt must stop.
    LineStop = 6,
    /// Light or camera trigger.
    Strobe = 7,
    /// A part passes that is rejected into lane 1, and so on: one lane at most is on.
    Lane1 = 8,
    /// Lane 2.
    Lane2 = 9,
    /// Lane 3.
    Lane3 = 10,
    /// Lane 4.
    Lane4 = 11,
    /// Lane 5.
    Lane5 = 12,
    /// Lane 6.
    Lane6 = 13,
    /// Lane 7.
    Lane7 = 14,
    /// Lane 8.
    Lane8 = 15,
}

/// Every output, by number.
pub const SIGNALS: [Signal; 16] = [
    Signal::Good,
    Signal::Reject,
    Signal::Ready,
    Signal::Busy,
    Signal::Result,
    Signal::Fault,
    Signal::LineStop,
    Signal::Strobe,
    Signal::Lane1,
    Signal::Lane2,
    Signal::Lane3,
    Signal::Lane4,
    Signal::Lane5,
    Signal::Lane6,
    Signal::Lane7,
    Signal::Lane8,
];

/// The logical state of all outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// [`Signal::Good`].
    pub good: bool,
    /// [`Signal::Reject`].
    pub reject: bool,
    /// [`Signal::Ready`].
    pub ready: bool,
    /// [`Signal::Busy`].
    pub busy: bool,
    /// [`Signal::Result`].
    pub result: bool,
    /// [`Signal::Fault`].
    pub fault: bool,
    /// [`Signal::LineStop`].
    pub line_stop: bool,
    /// [`Signal::Strobe`].
    pub strobe: bool,
    /// The lane whose output is on, [`Signal::Lane1`] to [`Signal::Lane8`].
    pub lane: Option<Lane>,
}

impl Outputs {
    /// What the outputs must be whenever no station drives them: before it starts, after it ended, after
    /// a panic. Everything that passes is rejected, the belt is to stop; no lane is on, so the diverter is to rest
    /// at the default one.
    pub const fn safe(wiring: Wiring) -> Outputs {
        Outputs {
            good: false,
            reject: matches!(wiring, Wiring::EnergiseToReject { .. }),
            ready: false,
            busy: false,
            result: false,
            fault: true,
            line_stop: true,
            strobe: false,
            lane: None,
        }
    }

    /// Whether an output is on.
    pub const fn get(&self, signal: Signal) -> bool {
        match signal {
            Signal::Good => self.good,
            Signal::Reject => self.reject,
            Signal::Ready => self.ready,
            Signal::Busy => self.busy,
            Signal::Result => self.result,
            Signal::Fault => self.fault,
            Signal::LineStop => self.line_stop,
            Signal::Strobe => self.strobe,
            Signal::Lane1
            | Signal::Lane2
            | Signal::Lane3
            | Signal::Lane4
            | Signal::Lane5
            | Signal::Lane6
            | Signal::Lane7
            | Signal::Lane8 => match self.lane {
                Some(lane) => lane.get() == signal as u8 - Signal::Strobe as u8,
                None => false,
            },
        }
    }
}

/// Which level of a pin stands for "on".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    /// The high level means "on".
    High,
    /// The low level means "on".
    Low,
}

/// A pin whose chip may go away.
pub trait Pin: OutputPin {
    /// Whether its chip is away: what was written to it may not hold any more.
    fn is_lost(&self) -> bool {
        false
    }
}

/// A pin, and what was written to it.
#[derive(Debug)]
struct Line<P> {
    pin: P,
    active: Active,
    /// What was last written to it.
    written: Option<bool>,
}

/// The pins of the outputs. An output without a pin is not wired.
#[derive(Debug)]
pub struct Pins<P> {
    lines: [Option<Line<P>>; SIGNALS.len()],
}

impl<P: OutputPin> Default for Pins<P> {
    fn default() -> Self {
        Pins {
            lines: [const { None }; SIGNALS.len()],
        }
    }
}

impl<P: OutputPin> Pins<P> {
    /// Wires an output to a pin.
    #[must_use]
    pub fn with(mut self, signal: Signal, pin: P, active: Active) -> Self {
        self.lines[signal as usize] = Some(Line {
            pin,
            active,
            written: None,
        });
        self
    }

    /// Writes what has changed; on an error the other pins are written all the same, and the one that
    /// failed is tried again by the next call.
    ///
    /// # Errors
    /// The error of the first pin that failed, with its output.
    pub fn drive(&mut self, outputs: &Outputs) -> Result<(), (Signal, P::Error)> {
        let mut result = Ok(());
        for signal in SIGNALS {
            let Some(line) = &mut self.lines[signal as usize] else {
                continue;
            };
            let on = outputs.get(signal);
            if line.written == Some(on) {
                continue;
            }
            let high = on == (line.active == Active::High);
            match line.pin.set_state(high.into()) {
                Ok(()) => line.written = Some(on),
                Err(e) => {
                    line.written = None;
                    if result.is_ok() {
                        result = Err((signal, e));
                    }
                }
            }
        }
        result
    }

    /// Forgets what was written to pins that are lost: the next call of [`Pins::drive`] writes them.
    pub fn forget_lost(&mut self)
    where
        P: Pin,
    {
        for line in self.lines.iter_mut().flatten() {
            if line.pin.is_lost() {
                line.written = None;
            }
        }
    }

    /// The pin of an output.
    pub fn pin(&self, signal: Signal) -> Option<&P> {
        self.lines[signal as usize].as_ref().map(|line| &line.pin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::settings::ConfirmWindow;
    use embedded_hal::digital::{Error, ErrorKind, ErrorType};

    #[derive(Debug, Default)]
    struct Pin {
        high: Option<bool>,
        writes: u32,
        broken: bool,
    }

    #[derive(Debug, PartialEq)]
    struct Broken;

    impl Error for Broken {
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    impl ErrorType for Pin {
        type Error = Broken;
    }

    impl OutputPin for Pin {
        fn set_low(&mut self) -> Result<(), Broken> {
            self.write(false)
        }
        fn set_high(&mut self) -> Result<(), Broken> {
            self.write(true)
        }
    }

    impl Pin {
        fn write(&mut self, high: bool) -> Result<(), Broken> {
            self.writes += 1;
            if self.broken {
                return Err(Broken);
            }
            self.high = Some(high);
            Ok(())
        }
    }

    #[test]
    fn numbers_never_change() {
        assert_eq!(
            SIGNALS.map(|s| s as u8),
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
        );
    }

    #[test]
    fn a_lane_is_one_output_and_no_other() {
        for number in 1..=8 {
            let outputs = Outputs {
                lane: Lane::new(number).ok(),
                ..Outputs::default()
            };
            let on: Vec<_> = SIGNALS.into_iter().filter(|s| outputs.get(*s)).collect();
            assert_eq!(on, [SIGNALS[7 + number as usize]]);
            assert_eq!(format!("{:?}", on[0]), format!("Lane{number}"));
        }
    }

    #[test]
    fn levels_follow_the_wiring_and_only_changes_are_written() {
        let mut pins = Pins::default()
            .with(Signal::Good, Pin::default(), Active::High)
            .with(Signal::LineStop, Pin::default(), Active::Low);
        let mut outputs = Outputs {
            good: true,
            ..Outputs::default()
        };
        pins.drive(&outputs).unwrap();
        pins.drive(&outputs).unwrap();
        let state = |pins: &Pins<Pin>, s| pins.pin(s).map(|p| (p.high, p.writes));
        assert_eq!(state(&pins, Signal::Good), Some((Some(true), 1)));
        assert_eq!(state(&pins, Signal::LineStop), Some((Some(true), 1)));
        outputs.line_stop = true;
        pins.drive(&outputs).unwrap();
        assert_eq!(state(&pins, Signal::Good), Some((Some(true), 1)));
        assert_eq!(state(&pins, Signal::LineStop), Some((Some(false), 2)));
        assert_eq!(state(&pins, Signal::Busy), None);
    }

    #[test]
    fn a_broken_pin_keeps_no_other_from_being_written_and_is_tried_again() {
        let broken = Pin {
            broken: true,
            ..Pin::default()
        };
        let mut pins = Pins::default()
            .with(Signal::Good, broken, Active::High)
            .with(Signal::Fault, Pin::default(), Active::High);
        let safe = Outputs::safe(Wiring::default());
        assert_eq!(pins.drive(&safe), Err((Signal::Good, Broken)));
        assert_eq!(pins.drive(&safe), Err((Signal::Good, Broken)));
        assert_eq!(pins.pin(Signal::Fault).unwrap().high, Some(true));
        assert_eq!(pins.pin(Signal::Good).unwrap().writes, 2);
    }

    #[test]
    fn safe_rejects_whatever_the_wiring() {
        let confirm = ConfirmWindow::new(500).unwrap();
        let for_good = Outputs::safe(Wiring::default());
        let to_reject = Outputs::safe(Wiring::EnergiseToReject { confirm });
        assert!(!for_good.good && !for_good.reject && for_good.line_stop && for_good.fault);
        assert!(!to_reject.good && to_reject.reject && to_reject.line_stop && to_reject.fault);
    }
}
