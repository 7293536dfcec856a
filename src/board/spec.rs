//! What a board's file says, as types: `boards/*.toml`, merged with what they are based on.
//!
//! Shared with `build.rs`, so it knows nothing of the rest of the project. Every value that a single key
//! can get wrong is refused while it is read; what two keys get wrong together is `check`'s business.
//! The code knows neither the number of a pin nor the name of a chip: they are in the files only.

use super::values::{
    HostName, baud, camera, device, file, filled, fourcc, gains, numbered, quarters, rate, within,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A board as its file describes it, checked. Made by [`Board::named`] and [`Board::resolve`] only.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What `--board` calls it.
    #[serde(deserialize_with = "filled")]
    pub name: String,
    /// What it is.
    #[serde(deserialize_with = "filled")]
    pub description: String,
    /// How far this description was tried, and where.
    #[serde(deserialize_with = "filled")]
    pub tried: String,
    /// What drives the pins.
    pub gpio: Gpio,
    /// Pins that can be wired.
    pub header: Header,
    /// Which signals are wired to which pins.
    pub outputs: OutputPins,
    /// Which sensors and contacts are wired to which pins.
    pub inputs: InputPins,
    /// Serial ports.
    pub serial: Serial,
    /// Ports on the network.
    pub network: Network,
    /// The camera, unless the command line says otherwise.
    pub camera: Camera,
    /// A second camera on the same trigger. `format`, `width`, `height`, `fps`, `buffers` and `source` that it does
    /// not say are the first one's.
    pub camera2: Option<Camera>,
    /// A third one; needs a second.
    pub camera3: Option<Camera>,
    /// A fourth one; needs a third.
    pub camera4: Option<Camera>,
    /// The hardware watchdog; `None`: the board has none.
    pub watchdog: Option<Watchdog>,
    /// The processor.
    pub cpu: Cpu,
    /// Hints for the thread that drives the outputs.
    pub realtime: Realtime,
    /// What the pins do while no station drives them.
    pub unattended: Unattended,
    /// The reject output's timing, unless the settings say otherwise.
    pub reject: RejectSpec,
}

impl Board {
    /// The keys of the cameras.
    pub const CAMERAS: [&'static str; 4] = ["camera", "camera2", "camera3", "camera4"];

    /// How many cameras there are, 1 to 4.
    pub fn cameras(&self) -> usize {
        let further = [&self.camera2, &self.camera3, &self.camera4];
        1 + further.iter().take_while(|camera| camera.is_some()).count()
    }

    /// A camera, counted from 0; the first one if there are not so many.
    pub fn camera(&self, place: usize) -> &Camera {
        let further = [&self.camera2, &self.camera3, &self.camera4];
        let own = place.checked_sub(1).and_then(|i| further.get(i)?.as_ref());
        own.unwrap_or(&self.camera)
    }

    /// Every wired signal.
    pub fn wired(&self) -> Vec<Wire> {
        let outputs = self.outputs.each().into_iter().filter_map(|(key, pin)| {
            let pin = pin?;
            Some(Wire {
                key: format!("outputs.{key}"),
                pin: pin.pin,
                bias: pin.bias,
                direction: Direction::Output,
            })
        });
        let contacts = self.inputs.contacts();
        let contacts = contacts.map(|(key, pin)| (key, pin.map(|p| (p.pin, p.bias))));
        let encoder = self.inputs.encoder();
        let encoder = encoder.map(|(key, pin)| (key, pin.map(|p| (p.pin, p.bias))));
        let inputs = contacts
            .into_iter()
            .chain(encoder)
            .filter_map(|(key, pin)| {
                let (pin, bias) = pin?;
                Some(Wire {
                    key: format!("inputs.{key}"),
                    pin,
                    bias,
                    direction: Direction::Input,
                })
            });
        outputs.chain(inputs).collect()
    }
}

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

/// What drives the pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gpio {
    /// The kernel's GPIO character device, by its second interface (Linux 5.10).
    Kernel,
    /// The same by its first interface, for older kernels: outputs without bias, no inputs.
    #[serde(rename = "kernel-v1")]
    KernelV1,
    /// Nothing: outputs are counted, inputs never change.
    Simulated,
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

/// The serial ports.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// For the command set.
    pub control: Option<SerialPort>,
    /// For Modbus RTU.
    pub modbus: Option<SerialPort>,
}

/// Ports on the network. There are none unless this or the command line says so.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Address and port of the page: "127.0.0.1:8080".
    pub web: Option<SocketAddr>,
    /// The folder with the page's certificate and key, for HTTPS: "/etc/faprompt-edge/tls".
    #[serde(default, deserialize_with = "file")]
    pub web_tls: Option<String>,
    /// Whether passwords of other computers are taken without HTTPS.
    #[serde(default)]
    pub web_plain: bool,
    /// Names by which browsers may ask for the page, beyond its addresses and the node's own name: ["line1.plant"].
    #[serde(default)]
    pub web_hosts: Vec<HostName>,
    /// Address and port of Modbus TCP: "0.0.0.0:502".
    pub modbus_tcp: Option<SocketAddr>,
    /// The file that says what goes to a broker and to a webhook: "/etc/faprompt-edge/plant.toml".
    #[serde(default, deserialize_with = "file")]
    pub plant: Option<String>,
}

/// A serial port.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialPort {
    /// The device file.
    #[serde(deserialize_with = "device")]
    pub device: String,
    /// Bits per second, one of the usual rates from 1,200 to 921,600.
    #[serde(deserialize_with = "baud")]
    pub baud: u32,
    /// Where the device's name and pins are from.
    #[serde(deserialize_with = "filled")]
    pub source: String,
}

/// The camera. The keys are those of the capture driver's settings, which [`Board::camera_as`] makes of
/// them; what only the driver knows, such as formats it knows, it checks itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// The device file, or `pipe:COMMAND`: a program whose output is frames, see [`crate::capture::PipeSource`].
    #[serde(deserialize_with = "camera")]
    pub device: String,
    /// V4L2's four-character code of the pixel format, for example "YUYV"; `None`: the driver's choice.
    #[serde(
        default,
        deserialize_with = "fourcc",
        skip_serializing_if = "Option::is_none"
    )]
    pub format: Option<String>,
    /// Width, 1..=32,768 pixels.
    #[serde(deserialize_with = "within::<_, 1, 32_768>")]
    pub width: u32,
    /// Height, 1..=32,768 pixels.
    #[serde(deserialize_with = "within::<_, 1, 32_768>")]
    pub height: u32,
    /// Frames per second, 0.01..=10,000; `None`: as the camera has it.
    #[serde(
        default,
        deserialize_with = "rate",
        skip_serializing_if = "Option::is_none"
    )]
    pub fps: Option<f64>,
    /// Buffers in the driver's queue, 2..=32.
    #[serde(deserialize_with = "within::<_, 2, 32>")]
    pub buffers: u32,
    /// V4L2 controls by name, as `v4l2-ctl --list-ctrls` prints them.
    #[serde(default)]
    pub controls: BTreeMap<String, i64>,
    /// The part of the picture to look at; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roi: Option<Roi>,
    /// By how much the picture is turned clockwise, after mirroring: 0, 90, 180 or 270 degrees.
    #[serde(default, deserialize_with = "quarters")]
    pub rotate: u32,
    /// Left and right swapped.
    #[serde(default)]
    pub flip_horizontal: bool,
    /// Top and bottom swapped.
    #[serde(default)]
    pub flip_vertical: bool,
    /// Raw value of black, for Bayer formats, 0..=65,535; `None`: the format's usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub black_level: Option<u16>,
    /// Factors of red, green and blue, for Bayer formats, 0.05..=20.
    #[serde(
        default,
        deserialize_with = "gains",
        skip_serializing_if = "Option::is_none"
    )]
    pub white_balance: Option<[f32; 3]>,
    /// By how many bits 10- and 12-bit Bayer samples are shifted up in their words, 0..=6.
    #[serde(default, deserialize_with = "within::<_, 0, 6>")]
    pub sample_shift: u32,
    /// Whether Bayer pictures get sRGB's transfer curve.
    #[serde(default)]
    pub srgb_curve: bool,
    /// A file of the lens's shading, for Bayer formats, as `faprompt-edge flat` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<String>,
    /// What to say instead for a camera at the board's CSI connector.
    #[serde(default, skip_serializing)]
    pub csi: Option<Csi>,
    /// Where the values are from.
    #[serde(deserialize_with = "filled", skip_serializing)]
    pub source: String,
}

/// A camera at the CSI connector, behind the board's image signal processor: a command, which a user's own file
/// names as the camera's device.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Csi {
    /// The camera's `device`.
    #[serde(deserialize_with = "camera")]
    pub device: String,
    /// Its `width`.
    #[serde(deserialize_with = "within::<_, 1, 32_768>")]
    pub width: u32,
    /// Its `height`.
    #[serde(deserialize_with = "within::<_, 1, 32_768>")]
    pub height: u32,
    /// Where the command is from, and how far it was tried.
    #[serde(deserialize_with = "filled")]
    pub source: String,
}

/// A rectangle of a picture, pixels, before mirroring and turning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Roi {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns, pixels, 1..=32,768.
    #[serde(deserialize_with = "within::<_, 1, 32_768>")]
    pub width: u32,
    /// Rows, pixels, 1..=32,768.
    #[serde(deserialize_with = "within::<_, 1, 32_768>")]
    pub height: u32,
}

/// A hardware watchdog.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// The device file.
    #[serde(deserialize_with = "device")]
    pub device: String,
    /// Resets the board after so long without a sign of life, 1..=60 s.
    #[serde(deserialize_with = "within::<_, 1, 60>")]
    pub timeout_s: u32,
    /// Where the device and its longest time-out are from.
    #[serde(deserialize_with = "filled")]
    pub source: String,
}

/// A processor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Its name.
    #[serde(deserialize_with = "filled")]
    pub model: String,
    /// Its architecture.
    pub arch: Arch,
    /// Cores, 1..=256; what the smallest variant has.
    #[serde(deserialize_with = "within::<_, 1, 256>")]
    pub cores: u32,
    /// Features that the kernels of `ops` and tract ask for, as /proc/cpuinfo names them.
    pub features: Vec<String>,
    /// Whether there is a GPU for CUDA. The station does not use it.
    pub cuda: bool,
    /// Where this is from.
    #[serde(deserialize_with = "filled")]
    pub source: String,
}

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Arch {
    /// 64-bit ARM.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Arch {
    /// What `uname -m` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64",
            Arch::X86_64 => "x86_64",
        }
    }
}

/// Hints for the thread that drives the outputs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Realtime {
    /// The core that it has for itself; `None`: any.
    pub output_core: Option<u32>,
    /// Its SCHED_FIFO priority, 1..=98 (99 is the kernel's own threads').
    #[serde(deserialize_with = "within::<_, 1, 98>")]
    pub priority: u32,
}

/// What the pins do while no station drives them: nothing here is driven by the program.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unattended {
    /// From power-on until the station starts.
    pub boot: Stated,
    /// After the program ended or was killed.
    pub program_end: Stated,
    /// While and after the watchdog resets the board.
    pub watchdog_reset: Stated,
}

/// A statement and where it is from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// What happens.
    #[serde(deserialize_with = "filled")]
    pub what: String,
    /// Where this is from.
    #[serde(deserialize_with = "filled")]
    pub source: String,
}

/// When and how long the reject output is active.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectSpec {
    /// From the exposure to the reject station, 0..=10,000 ms.
    #[serde(deserialize_with = "within::<_, 0, 10_000>")]
    pub delay_ms: u32,
    /// Pulse width, 1..=10,000 ms.
    #[serde(deserialize_with = "within::<_, 1, 10_000>")]
    pub pulse_ms: u32,
}
