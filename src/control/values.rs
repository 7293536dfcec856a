//! Values of the parameters, which are always in the range of the table; and their conversion to the settings of
//! the line's core and the camera.

use super::table::{CAMERAS, COUNT, Entry, Kind, Parameter, Preset, STEPS, TABLE};
use super::types::TypeRules;
use crate::line::settings::{
    AlarmSettings, ConfirmWindow, ConsecutiveRejects, Debounce, LatencyLimit, Pitch, PulseWidth,
    RejectDelay, RejectRate, StrobeWidth, Threshold,
};
use crate::line::{AlarmSet, Interval, Lane, Pairing, SettingError, Settings, Trigger, Wiring};
use std::borrow::Cow;
use std::fmt;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, the steps of a decimal, or the number of a choice.
    Number(u32),
    /// A text, or the hash of a password.
    Text(String),
}

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The text is not a number.
    #[error("{} needs a number", .0.name())]
    NotANumber(Parameter),
    /// The number is outside of its range.
    #[error("{} is not in {}", .0.name(), .0.entry().range())]
    OutOfRange(Parameter),
    /// The text has more decimals than the steps of the parameter.
    #[error("{} has steps of {}", .0.name(), .0.entry().step())]
    TooFine(Parameter),
    /// The text is none of the words of the parameter.
    #[error("{} is one of {}", .0.name(), .0.entry().range())]
    NoSuchChoice(Parameter),
    /// The text is too long, or not printable ASCII without quotes.
    #[error("{} is {}", .0.name(), .0.entry().range())]
    Text(Parameter),
    /// The text is a password, and its hash is what is stored.
    #[error("{name} holds a password's hash, as `backup` writes it; a new password is set at the station: SET {name} ..., COMMIT", name = .0.name())]
    NoHash(Parameter),
}

/// Values that are each in their range and contradict one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", .parameter.name())]
pub struct Contradiction {
    /// The parameter to change.
    pub parameter: Parameter,
    /// Why its value cannot stay.
    pub reason: Reason,
}

/// Why a value contradicts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The line's core refuses it.
    #[error(transparent)]
    Line(#[from] SettingError),
    /// Wiring energise_to_reject lets parts pass if a wire breaks.
    #[error("wiring energise_to_reject needs confirm on")]
    NeedsConfirm,
    /// The text is no list of types.
    #[error("{0}")]
    TypeList(&'static str),
    /// A list of types has one of them twice.
    #[error("names a type twice")]
    TypeTwice,
    /// Another recipe has this name.
    #[error("recipe {0} has this name")]
    NameTaken(u8),
}

/// Whether a text has only characters that are allowed.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"')
}

/// A text as answers and the log show it: in double quotes if it has a comma, which would look like two values.
pub fn quoted(text: &str) -> Cow<'_, str> {
    match text.contains(',') {
        true => format!("\"{text}\"").into(),
        false => text.into(),
    }
}

impl Entry {
    /// Parses a value as a person writes it. Passwords are not parsed here: they are hashed first.
    ///
    /// # Errors
    /// [`ValueError`] says what is allowed.
    pub fn parse(&self, text: &str) -> Result<Value, ValueError> {
        let not_a_number = |_| ValueError::NotANumber(self.parameter);
        let value = match self.kind {
            Kind::Number { .. } => Value::Number(self.steps_of(text, 1)?),
            Kind::Bits(_) => {
                let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
                let number = match hex {
                    Some(hex) => u32::from_str_radix(hex, 16).map_err(not_a_number)?,
                    None => text.parse().map_err(not_a_number)?,
                };
                Value::Number(number)
            }
            Kind::Decimal { .. } => Value::Number(self.steps_of(text, STEPS)?),
            Kind::Choice(words) => {
                let place = words.iter().position(|w| w.eq_ignore_ascii_case(text));
                let place = place.and_then(|p| u32::try_from(p).ok());
                Value::Number(place.ok_or(ValueError::NoSuchChoice(self.parameter))?)
            }
            Kind::Text(_) | Kind::Secret => Value::Text(text.to_string()),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// How many steps a number has, of which `per_unit` are 1.
    fn steps_of(&self, text: &str, per_unit: u32) -> Result<u32, ValueError> {
        // Digits, with or without a sign and a point: `1e3`, `inf` and `nan`, which Rust reads too, are numbers to nobody
        // who sets a machine up.
        let plain = text
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'+' | b'-'));
        let number: Option<f64> = text.parse().ok().filter(|_| plain);
        let steps = number.ok_or(ValueError::NotANumber(self.parameter))? * f64::from(per_unit);
        if !(0.0..=f64::from(u32::MAX)).contains(&steps) {
            return Err(ValueError::OutOfRange(self.parameter));
        }
        if (steps - steps.round()).abs() > 1e-6 {
            return Err(ValueError::TooFine(self.parameter));
        }
        Ok(steps.round() as u32)
    }

    /// The least by which two of its values differ, as a person writes it.
    fn step(&self) -> &'static str {
        match self.kind {
            Kind::Decimal { .. } => "0.0001",
            _ => "1",
        }
    }

    /// Checks that the parameter can have this value.
    ///
    /// # Errors
    /// [`ValueError`] says what is allowed.
    pub fn check(&self, value: &Value) -> Result<(), ValueError> {
        let parameter = self.parameter;
        match (self.kind, value) {
            (Kind::Number { low, high, zero }, Value::Number(n)) => {
                let fits = (low..=high).contains(n) || (*n == 0 && zero.is_some());
                fits.then_some(()).ok_or(ValueError::OutOfRange(parameter))
            }
            (Kind::Decimal { low, high }, Value::Number(n)) => (low..=high)
                .contains(n)
                .then_some(())
                .ok_or(ValueError::OutOfRange(parameter)),
            (Kind::Bits(mask), Value::Number(n)) => (n & !mask == 0)
                .then_some(())
                .ok_or(ValueError::OutOfRange(parameter)),
            (Kind::Choice(words), Value::Number(n)) => ((*n as usize) < words.len())
                .then_some(())
                .ok_or(ValueError::NoSuchChoice(parameter)),
            (Kind::Text(longest), Value::Text(text)) => (text.len() <= longest && is_plain(text))
                .then_some(())
                .ok_or(ValueError::Text(parameter)),
            (Kind::Secret, Value::Text(hash)) => (hash.is_empty()
                || super::password::is_hash(hash))
            .then_some(())
            .ok_or(ValueError::NoHash(parameter)),
            (Kind::Text(_) | Kind::Secret, Value::Number(_)) => Err(ValueError::Text(parameter)),
            (_, Value::Text(_)) => Err(ValueError::NotANumber(parameter)),
        }
    }

    /// Shows a value as a person reads it; for a secret only whether one is set.
    pub fn show<'a>(&self, value: &'a Value) -> Shown<'a> {
        Shown {
            kind: self.kind,
            value,
        }
    }

    /// Shows the values that are allowed, as a person reads them.
    pub fn range(&self) -> Range {
        Range(self.kind)
    }

    /// Its default.
    pub fn default_value(&self) -> Value {
        match self.default {
            Preset::Number(number) => Value::Number(number),
            Preset::Text(text) => Value::Text(text.to_string()),
        }
    }
}

/// See [`Entry::show`].
#[derive(Debug)]
pub struct Shown<'a> {
    kind: Kind,
    value: &'a Value,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.value) {
            (Kind::Decimal { .. }, Value::Number(n)) => decimal(f, *n),
            (Kind::Choice(words), Value::Number(n)) => {
                f.write_str(words.get(*n as usize).unwrap_or(&"?"))
            }
            (Kind::Secret, Value::Text(hash)) => {
                f.write_str(if hash.is_empty() { "none" } else { "set" })
            }
            (_, Value::Number(n)) => write!(f, "{n}"),
            (_, Value::Text(text)) => f.write_str(text),
        }
    }
}

fn decimal(f: &mut fmt::Formatter<'_>, steps: u32) -> fmt::Result {
    write!(f, "{}.{:04}", steps / STEPS, steps % STEPS)
}

/// See [`Entry::range`].
#[derive(Clone, Copy, Debug)]
pub struct Range(Kind);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Number { low, high, zero } => {
                if let Some(zero) = zero {
                    write!(f, "0={zero} or ")?;
                }
                write!(f, "{low}..{high}")
            }
            Kind::Decimal { low, high } => {
                decimal(f, low)?;
                f.write_str("..")?;
                decimal(f, high)
            }
            Kind::Bits(mask) => write!(f, "bits of {mask}"),
            Kind::Choice(words) => {
                for (i, word) in words.iter().enumerate() {
                    let bar = if i == 0 { "" } else { "|" };
                    write!(f, "{bar}{word}")?;
                }
                Ok(())
            }
            Kind::Text(longest) => write!(f, "text of at most {longest} characters"),
            Kind::Secret => write!(
                f,
                "password of {} to {} characters",
                super::password::SHORTEST,
                super::password::LONGEST
            ),
        }
    }
}

/// A value for every parameter, each in its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// As many values as the table has entries, in its order, each of its kind.
    of: Vec<Value>,
}

impl Default for Values {
    fn default() -> Self {
        Values {
            of: TABLE.iter().map(Entry::default_value).collect(),
        }
    }
}

impl Values {
    /// A parameter's value.
    pub fn get(&self, parameter: Parameter) -> &Value {
        const { assert!(COUNT <= 256) }
        &self.of[parameter as usize]
    }

    /// Sets a parameter's value.
    ///
    /// # Errors
    /// [`ValueError`]: nothing is set.
    pub fn set(&mut self, parameter: Parameter, value: Value) -> Result<(), ValueError> {
        parameter.entry().check(&value)?;
        self.of[parameter as usize] = value;
        Ok(())
    }

    /// The number, the steps of a decimal, or the number of a choice; 0 for a text.
    pub fn number(&self, parameter: Parameter) -> u32 {
        match self.get(parameter) {
            Value::Number(number) => *number,
            Value::Text(_) => 0,
        }
    }

    /// The alarms that are set to stop the line, besides [`AlarmSet::ALWAYS_STOP`].
    pub fn alarms_that_stop(&self) -> AlarmSet {
        alarms(self.number(Parameter::AlarmStop) | self.number(Parameter::AlarmStopFrom16) << 16)
    }

    /// The value of a decimal; NaN for a text.
    pub fn decimal(&self, parameter: Parameter) -> f32 {
        match self.get(parameter) {
            Value::Number(steps) => *steps as f32 / STEPS as f32,
            Value::Text(_) => f32::NAN,
        }
    }

    /// The word of a choice, or the text; empty for any other kind.
    pub fn text(&self, parameter: Parameter) -> &str {
        match (self.get(parameter), parameter.entry().kind) {
            (Value::Text(text), _) => text,
            (Value::Number(n), Kind::Choice(words)) => words.get(*n as usize).unwrap_or(&""),
            (Value::Number(_), _) => "",
        }
    }

    /// Whether a choice of `off` and `on` is `on`.
    pub fn is_on(&self, parameter: Parameter) -> bool {
        self.text(parameter) == "on"
    }

    /// The number, or `None` if it is 0.
    pub fn optional(&self, parameter: Parameter) -> Option<u32> {
        Some(self.number(parameter)).filter(|n| *n != 0)
    }

    /// The parameters whose values differ from those of `others`.
    pub fn changed<'a>(&'a self, others: &'a Values) -> impl Iterator<Item = Parameter> + 'a {
        Parameter::all().filter(|p| self.get(*p) != others.get(*p))
    }

    /// The parameters whose threshold is 1, of the whole part, a camera or a type: no score lies above it.
    pub fn rejects_none(&self) -> impl Iterator<Item = Parameter> {
        let of_cameras = CAMERAS.iter().map(|camera| camera.threshold);
        let of_types = TypeRules::of(self).is_ok_and(|rules| rules.rejects_none());
        of_cameras
            .filter(move |p| self.number(*p) >= STEPS)
            .chain(of_types.then_some(Parameter::TypeThresholds))
    }

    /// Makes the settings of the line's core.
    ///
    /// # Errors
    /// [`Contradiction`]: values that are each in their range do not go together.
    pub fn settings(&self) -> Result<Settings, Contradiction> {
        use Parameter as P;
        let confirm = || self.line(P::ConfirmWindowMs, ConfirmWindow::new);
        let wiring = match (self.text(P::Wiring), self.is_on(P::Confirm)) {
            ("energise_to_reject", true) => Wiring::EnergiseToReject {
                confirm: confirm()?,
            },
            ("energise_to_reject", false) => {
                return Err(Contradiction {
                    parameter: P::Confirm,
                    reason: Reason::NeedsConfirm,
                });
            }
            (_, true) => Wiring::EnergiseForGood {
                confirm: Some(confirm()?),
            },
            (_, false) => Wiring::EnergiseForGood { confirm: None },
        };
        let delay = match self.text(P::RejectAxis) {
            "counts" => {
                let delay = self.number(P::RejectDelayCounts);
                self.line(P::RejectLeadCounts, |lead| RejectDelay::counts(delay, lead))?
            }
            _ => {
                let delay = self.number(P::RejectDelayMs);
                self.line(P::RejectLeadMs, |lead| RejectDelay::millis(delay, lead))?
            }
        };
        TypeRules::of(self)?;
        let percent = self.number(P::AlarmRatePercent);
        let alarms = AlarmSettings {
            consecutive: self.line_or_none(P::AlarmConsecutive, ConsecutiveRejects::new)?,
            rate: self.line_or_none(P::AlarmRateWindow, |n| RejectRate::new(n, percent))?,
            latency: self.line_or_none(P::AlarmLatencyMs, LatencyLimit::new)?,
            stop_on: self.alarms_that_stop(),
        };
        let threshold = |camera: usize| {
            let parameter = CAMERAS[camera].threshold;
            self.line(parameter, |_| Threshold::new(self.decimal(parameter)))
        };
        Ok(Settings {
            trigger: self.trigger()?,
            threshold: threshold(0)?,
            further_thresholds: [threshold(1)?, threshold(2)?, threshold(3)?],
            delay,
            width: self.line(P::PulseWidthMs, PulseWidth::new)?,
            wiring,
            strobe: self.line_or_none(P::StrobeUs, StrobeWidth::new)?,
            alarms,
            default_lane: self.line_or_none(P::DefaultLane, Lane::new)?,
        })
    }

    fn trigger(&self) -> Result<Trigger, Contradiction> {
        use Parameter as P;
        let pairing = || {
            let (delay, window) = (
                self.number(P::ExposureDelayUs),
                self.number(P::PairingWindowUs),
            );
            self.line(P::PartSpacingUs, |us| Pairing::new(delay, window, us))
        };
        Ok(match self.text(P::TriggerSource) {
            "interval" => {
                let pairing = pairing()?;
                let interval = |ms| Interval::new(ms, pairing);
                Trigger::Interval(self.line(P::TriggerIntervalMs, interval)?)
            }
            "edge" => Trigger::Edge {
                debounce: self.line(P::DebounceUs, Debounce::new)?,
                pairing: pairing()?,
            },
            "encoder" => Trigger::Encoder {
                pitch: self.line(P::TriggerPitch, Pitch::new)?,
                pairing: pairing()?,
            },
            "command" => Trigger::Command {
                pairing: pairing()?,
            },
            _ => Trigger::FreeRun,
        })
    }

    /// Makes a number into a type of the line's core; the error names the parameter.
    fn line<T>(
        &self,
        parameter: Parameter,
        new: impl FnOnce(u32) -> Result<T, SettingError>,
    ) -> Result<T, Contradiction> {
        new(self.number(parameter)).map_err(|e| Contradiction {
            parameter,
            reason: Reason::Line(e),
        })
    }

    fn line_or_none<T>(
        &self,
        parameter: Parameter,
        new: impl FnOnce(u32) -> Result<T, SettingError>,
    ) -> Result<Option<T>, Contradiction> {
        match self.optional(parameter) {
            None => Ok(None),
            Some(_) => self.line(parameter, new).map(Some),
        }
    }
}

/// The alarms whose bits are set.
pub fn alarms(bits: u32) -> AlarmSet {
    let named = crate::line::alarms::ALARMS.into_iter();
    let set: Vec<_> = named.filter(|a| bits & (1 << *a as u8) != 0).collect();
    AlarmSet::of(&set)
}

#[cfg(test)]
mod tests;
