//! What a board's file says of its pins, as types: those that can be wired, and which signals are wired to which.
//!
//! Shared with `build.rs`, so it knows nothing of the rest of the project.

use super::values::{filled, numbered, within};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A signal and its pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The signal's key, as a path from the top.
    pub key: String,
    /// The header's pin.
    pub pin: u16,
    /// What holds it while it is not driven.
    pub bias: Bias,
    /// Which way it goes.
    pub direction: Direction,
}

/// The pins that can be wired, by the number that is printed beside them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What the pins are on.
    #[serde(deserialize_with = "filled")]
    pub name: String,
    /// Where all of them are from, unless a pin says otherwise.
    #[serde(deserialize_with = "filled")]
    pub source: String,
    /// Whether the chips' driver can set a bias. Those that cannot ignore it without an error.
    pub bias: bool,
    /// By number.
    #[serde(deserialize_with = "numbered")]
    pub pins: BTreeMap<u16, HeaderPin>,
}

/// One pin of the header.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderPin {
    /// What the board's documents call it.
    #[serde(deserialize_with = "filled")]
    pub name: String,
    /// The GPIO chip: its label ("tegra234-gpio") or its path ("/dev/gpiochip0").
    #[serde(deserialize_with = "filled")]
    pub chip: String,
    /// The chip's line.
    pub line: LineId,
    /// What it can only be, if the board lets it be one of both.
    pub only: Option<Direction>,
    /// Where this is from, if not from where the others are.
    pub source: Option<String>,
}

/// A line of a GPIO chip.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "line is a line's number on its chip (6) or its name (\"PAC.06\")"
)]
pub enum LineId {
    /// Its number on the chip.
    Offset(u32),
    /// Its name.
    Name(#[serde(deserialize_with = "filled")] String),
}

impl std::fmt::Display for LineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LineId::Offset(offset) => write!(f, "{offset}"),
            LineId::Name(name) => f.write_str(name),
        }
    }
}

/// Which way a signal goes, seen from the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Into the board.
    Input,
    /// Out of the board.
    Output,
}

/// The electrical level that stands for "on".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A high level on the wire.
    High,
    /// A low level on the wire.
    Low,
}

/// What holds a line that nobody drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// Left as the pin controller has it.
    #[default]
    AsIs,
    /// A resistor to the supply.
    PullUp,
    /// A resistor to ground.
    PullDown,
    /// No bias: the wiring itself defines the level.
    None,
}

/// What an output does for its two levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drive {
    /// Drives both.
    #[default]
    PushPull,
    /// Drives low only; something else pulls up.
    OpenDrain,
    /// Drives high only; something else pulls down.
    OpenSource,
}

/// An output's wiring.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputPin {
    /// The header's pin.
    pub pin: u16,
    /// The level that stands for "on". Never guessed.
    pub active: Level,
    /// What it does for its levels.
    #[serde(default)]
    pub drive: Drive,
    /// What holds it while it is not driven.
    #[serde(default)]
    pub bias: Bias,
}

/// The outputs that are wired; the station's signals, see `line::Signal`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputPins {
    /// A part known to be good passes.
    pub good: Option<OutputPin>,
    /// A part to be rejected passes.
    pub reject: Option<OutputPin>,
    /// The station inspects.
    pub ready: Option<OutputPin>,
    /// A part waits for its frame or verdict.
    pub busy: Option<OutputPin>,
    /// The last verdict was good, and so was every part since the station was last not busy.
    pub result: Option<OutputPin>,
    /// An alarm is latched, or the camera is down.
    pub fault: Option<OutputPin>,
    /// The belt must stop.
    pub line_stop: Option<OutputPin>,
    /// Light or camera trigger.
    pub strobe: Option<OutputPin>,
    /// A part passes that is rejected into lane 1.
    pub lane1: Option<OutputPin>,
    /// A part passes that is rejected into lane 2.
    pub lane2: Option<OutputPin>,
    /// A part passes that is rejected into lane 3.
    pub lane3: Option<OutputPin>,
    /// A part passes that is rejected into lane 4.
    pub lane4: Option<OutputPin>,
    /// A part passes that is rejected into lane 5.
    pub lane5: Option<OutputPin>,
    /// A part passes that is rejected into lane 6.
    pub lane6: Option<OutputPin>,
    /// A part passes that is rejected into lane 7.
    pub lane7: Option<OutputPin>,
    /// A part passes that is rejected into lane 8.
    pub lane8: Option<OutputPin>,
}

impl OutputPins {
    /// All of them with their keys, in the order of the signals' numbers.
    pub fn each(&self) -> [(&'static str, Option<&OutputPin>); 16] {
        [
            ("good", self.good.as_ref()),
            ("reject", self.reject.as_ref()),
            ("ready", self.ready.as_ref()),
            ("busy", self.busy.as_ref()),
            ("result", self.result.as_ref()),
            ("fault", self.fault.as_ref()),
            ("line_stop", self.line_stop.as_ref()),
            ("strobe", self.strobe.as_ref()),
            ("lane1", self.lane1.as_ref()),
            ("lane2", self.lane2.as_ref()),
            ("lane3", self.lane3.as_ref()),
            ("lane4", self.lane4.as_ref()),
            ("lane5", self.lane5.as_ref()),
            ("lane6", self.lane6.as_ref()),
            ("lane7", self.lane7.as_ref()),
            ("lane8", self.lane8.as_ref()),
        ]
    }
}

/// An input's wiring.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputPin {
    /// The header's pin.
    pub pin: u16,
    /// The level that stands for "on". Never guessed.
    pub active: Level,
    /// What holds it while nobody drives it.
    #[serde(default)]
    pub bias: Bias,
    /// Changes that last less are none, 0..=1,000,000 us.
    #[serde(default, deserialize_with = "within::<_, 0, 1_000_000>")]
    pub debounce_us: u32,
}

/// An encoder channel's wiring. It has no debounce: the decoder takes bounces for steps there and back.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderPin {
    /// The header's pin.
    pub pin: u16,
    /// What holds it while nobody drives it.
    #[serde(default)]
    pub bias: Bias,
}

/// The inputs that are wired.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputPins {
    /// The light barrier. Its debounce is the station's, not the kernel's, see [`super::inputs`].
    pub trigger: Option<InputPin>,
    /// The encoder's first channel. It leads the second one while the belt runs forward.
    pub encoder_a: Option<EncoderPin>,
    /// The encoder's second channel.
    pub encoder_b: Option<EncoderPin>,
    /// The sensor in the reject bin sees a part.
    pub reject_confirm: Option<InputPin>,
    /// The reject bin is full.
    pub bin_full: Option<InputPin>,
    /// The reject bin is open.
    pub bin_open: Option<InputPin>,
    /// The ejector lacks air.
    pub low_air: Option<InputPin>,
    /// Stops the line while it is active, and until a reset.
    pub stop: Option<InputPin>,
    /// Acknowledges alarms, as `ACK` does, when it becomes active.
    pub reset: Option<InputPin>,
}

impl InputPins {
    /// The contacts and sensors with their keys.
    pub fn contacts(&self) -> [(&'static str, Option<&InputPin>); 7] {
        [
            ("trigger", self.trigger.as_ref()),
            ("reject_confirm", self.reject_confirm.as_ref()),
            ("bin_full", self.bin_full.as_ref()),
            ("bin_open", self.bin_open.as_ref()),
            ("low_air", self.low_air.as_ref()),
            ("stop", self.stop.as_ref()),
            ("reset", self.reset.as_ref()),
        ]
    }

    /// The encoder's channels with their keys.
    pub fn encoder(&self) -> [(&'static str, Option<&EncoderPin>); 2] {
        [
            ("encoder_a", self.encoder_a.as_ref()),
            ("encoder_b", self.encoder_b.as_ref()),
        ]
    }
}
