//! Which inputs and outputs the board has, as far as settings rest on them.

use crate::board::pins::InputPins;
use crate::control::types::TypeRules;
use crate::line::lanes::Lane;
use crate::line::outputs::SIGNALS;
use crate::line::settings::{Axis, Wiring};
use crate::line::{Settings, Signal, Trigger};

/// Inputs without which some settings see no part, or not where it is, and outputs without which they reject none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wired {
    /// The light barrier.
    pub trigger: bool,
    /// The encoder.
    pub encoder: bool,
    /// Each output by its signal's number.
    pub outputs: [bool; SIGNALS.len()],
}

/// What settings rest on that the board does not have: why they cannot be used, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// An input: no part would be seen, or reach the reject station.
    Input(&'static str),
    /// An output: no part would be rejected, or none passed, or a lane would be counted into which nothing goes.
    Output(&'static str),
}

impl Lack {
    /// Why the settings cannot be used, and what to do.
    pub fn why(self) -> &'static str {
        match self {
            Lack::Input(why) | Lack::Output(why) => why,
        }
    }
}

impl Wired {
    /// Everything is there.
    pub const ALL: Wired = Wired {
        trigger: true,
        encoder: true,
        outputs: [true; SIGNALS.len()],
    };

    /// Of a board with these inputs, and these outputs by their signals' numbers.
    pub fn of(inputs: &InputPins, outputs: [bool; SIGNALS.len()]) -> Wired {
        Wired {
            trigger: inputs.trigger.is_some(),
            encoder: inputs.encoder_a.is_some(),
            outputs,
        }
    }

    fn has(self, signal: Signal) -> bool {
        self.outputs[signal as usize]
    }

    fn has_lane(self, lane: Lane) -> bool {
        self.outputs[Signal::Strobe as usize + usize::from(lane.get())]
    }

    /// What these settings rest on and the board does not have; `None` if it has everything.
    pub fn lacks(self, settings: &Settings) -> Option<Lack> {
        let input = match settings.trigger {
            Trigger::Edge { .. } if !self.trigger => Some(
                "trigger_source=edge, and this board has no trigger input (inputs.trigger): no part would ever be \
                 seen; set trigger_source to free_run, interval or command",
            ),
            Trigger::Encoder { .. } if !self.encoder => Some(
                "trigger_source=encoder, and this board has no encoder (inputs.encoder_a): no part would ever be \
                 seen; set trigger_source to free_run, interval or command",
            ),
            _ if settings.delay.axis() == Axis::Counts && !self.encoder => Some(
                "reject_axis=counts, and this board has no encoder (inputs.encoder_a): no part would ever reach the \
                 reject station; set reject_axis=time",
            ),
            _ => None,
        };
        let output = || match settings.wiring {
            Wiring::EnergiseForGood { .. } if !self.has(Signal::Good) => Some(
                "wiring=energise_for_good, and this board has no output `good` (outputs.good): an ejector at `reject` \
                 would never move; set wiring=energise_to_reject, or wire `good`",
            ),
            Wiring::EnergiseToReject { .. } if !self.has(Signal::Reject) => Some(
                "wiring=energise_to_reject, and this board has no output `reject` (outputs.reject): no part would be \
                 rejected as it should; set wiring=energise_for_good, or wire `reject`",
            ),
            _ if settings.default_lane.is_some_and(|l| !self.has_lane(l)) => Some(
                "default_lane, and this board has no output for that lane (outputs.lane1 to lane8): no part would ever \
                 go there; set default_lane to a lane that is wired, or to 0",
            ),
            _ => None,
        };
        (input.map(Lack::Input)).or_else(|| output().map(Lack::Output))
    }

    /// Why a type of defect has a lane that no output leads to, and what to do; `None` if each has its output.
    pub fn lacks_lane(self, types: &TypeRules) -> Option<&'static str> {
        types.lanes().any(|lane| !self.has_lane(lane)).then_some(
            "lanes, and this board has no output for one of them (outputs.lane1 to lane8): no part would ever go \
             there; name lanes that are wired",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Parameter;
    use crate::control::values::Values;

    #[test]
    fn what_rests_on_a_pin_that_is_not_there_is_named() {
        let mut none = Wired {
            trigger: false,
            encoder: false,
            outputs: [false; SIGNALS.len()],
        };
        none.outputs[Signal::Good as usize] = true;
        let lacks = |words: &[(&str, &str)], wired: Wired| {
            let mut values = Values::default();
            for (name, value) in words {
                let parameter = Parameter::named(name).unwrap();
                let value = parameter.entry().parse(value).unwrap();
                values.set(parameter, value).unwrap();
            }
            let lane = wired.lacks_lane(&TypeRules::of(&values).unwrap());
            let settings = wired.lacks(&values.settings().unwrap());
            settings.or(lane.map(Lack::Output))
        };
        assert_eq!(lacks(&[], none), None);
        for (words, named) in [
            (&[("trigger_source", "edge")][..], "inputs.trigger"),
            (
                &[("trigger_source", "encoder"), ("reject_axis", "counts")],
                "trigger_source=encoder",
            ),
            (&[("reject_axis", "counts")], "reject_axis=counts"),
        ] {
            let lack = lacks(words, none);
            let is_it = matches!(lack, Some(Lack::Input(why)) if why.contains(named));
            assert!(is_it, "{words:?}: {lack:?}");
            assert_eq!(lacks(words, Wired::ALL), None, "{words:?}");
        }
        let to_reject = [
            ("confirm", "on"),
            ("confirm_window_ms", "500"),
            ("wiring", "energise_to_reject"),
        ];
        for (words, named) in [
            (&to_reject[..], "outputs.reject"),
            (&[("default_lane", "3")], "default_lane"),
            (&[("lanes", "hole=1, scratch=3")], "lanes, "),
        ] {
            let lack = lacks(words, none);
            let is_it = matches!(lack, Some(Lack::Output(why)) if why.contains(named));
            assert!(is_it, "{words:?}: {lack:?}");
            assert_eq!(lacks(words, Wired::ALL), None, "{words:?}");
        }
        let mut wired = none;
        wired.outputs[Signal::Reject as usize] = true;
        wired.outputs[Signal::Lane1 as usize] = true;
        wired.outputs[Signal::Lane3 as usize] = true;
        assert_eq!(lacks(&to_reject, wired), None);
        assert_eq!(lacks(&[("default_lane", "3")], wired), None);
        assert_eq!(lacks(&[("lanes", "hole=1, scratch=3")], wired), None);
        assert!(lacks(&[("lanes", "hole=1, scratch=2")], wired).is_some());
        wired.outputs[Signal::Good as usize] = false;
        let lack = lacks(&[], wired);
        assert!(matches!(lack, Some(Lack::Output(why)) if why.contains("outputs.good")));
        for words in [
            ("trigger_source", "interval"),
            ("trigger_source", "command"),
        ] {
            assert_eq!(lacks(&[words], none), None, "{words:?}");
        }
    }
}
