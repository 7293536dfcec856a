//! Which inputs the board has, as far as settings rest on them.

use crate::board::pins::InputPins;
use crate::line::settings::Axis;
use crate::line::{Settings, Trigger};

/// Inputs without which some settings see no part, or not where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wired {
    /// The light barrier.
    pub trigger: bool,
    /// The encoder.
    pub encoder: bool,
}

impl Wired {
    /// Everything is there.
    pub const ALL: Wired = Wired {
        trigger: true,
        encoder: true,
    };

    /// Of a board with these pins.
    pub fn of(inputs: &InputPins) -> Wired {
        Wired {
            trigger: inputs.trigger.is_some(),
            encoder: inputs.encoder_a.is_some(),
        }
    }

    /// Why no part would be seen by these settings, or none would ever reach the reject station; `None` if the board
    /// has what they rest on.
    pub fn lacks(self, settings: &Settings) -> Option<&'static str> {
        match settings.trigger {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Parameter;
    use crate::control::values::Values;

    #[test]
    fn what_rests_on_an_input_that_is_not_there_is_named() {
        let none = Wired {
            trigger: false,
            encoder: false,
        };
        let lacks = |words: &[(&str, &str)], wired: Wired| {
            let mut values = Values::default();
            for (name, value) in words {
                let parameter = Parameter::named(name).unwrap();
                let value = parameter.entry().parse(value).unwrap();
                values.set(parameter, value).unwrap();
            }
            wired.lacks(&values.settings().unwrap())
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
            let why = lacks(words, none);
            assert!(why.is_some_and(|w| w.contains(named)), "{words:?}: {why:?}");
            assert_eq!(lacks(words, Wired::ALL), None, "{words:?}");
        }
        for words in [
            ("trigger_source", "interval"),
            ("trigger_source", "command"),
        ] {
            assert_eq!(lacks(&[words], none), None, "{words:?}");
        }
    }
}
