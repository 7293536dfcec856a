//! What a board's file says, as types: `boards/*.toml`, merged with what they are based on.
//!
//! Shared with `build.rs`, so it knows nothing of the rest of the project. Every value that a single key
//! can get wrong is refused while it is read; what two keys get wrong together is `check`'s business.
//! The code knows neither the number of a pin nor the name of a chip: they are in the files only.

use super::pins::{Direction, Header, InputPins, OutputPins, Wire};
use super::values::{
    HostName, baud, camera, device, file, filled, fourcc, gains, quarters, rate, within,
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
