//! The kernel's GPIO chips: found, listed, and the outputs' lines driven.
//!
//! Must never take a line at any level but its safe one: the first level is part of the request, and the
//! kernel hands it to the driver together with the direction (`gpiod_direction_output`). The few drivers
//! that cannot set both at once are named in their boards' files (`unattended.boot`). Outputs are
//! linux-embedded-hal's [`CdevPin`]s, which can do first level and drive; its character device interface
//! (uAPI v1, as gpio-cdev 0.6 has it) knows no bias, so outputs with a bias are gpiocdev's (uAPI v2).
//! Polarity is no line's business but [`Pins`]'. Switching a line allocates nothing.

use super::first::{self, FirstLine};
use super::pins::{Bias, Drive, HeaderPin, Level, LineId, OutputPin as Wired};
use super::spec::{Board, Gpio};
use super::{BoardError, LineError, SimulatedPin};
use crate::line::outputs::SIGNALS;
use crate::line::{Active, Outputs, Pin, Pins};
use embedded_hal::digital::{Error, ErrorKind, ErrorType, OutputPin};
use gpiocdev::line::Value;
use gpiocdev::{Chip, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A line that is away is asked for again after so long: the thread that does has other things to do.
const AGAIN: Duration = Duration::from_millis(200);

/// What other programs see as the holder of our lines.
pub(super) const CONSUMER: &str = "faprompt-edge";

/// A chip as the kernel has it.
#[derive(Debug)]
pub struct GpioChip {
    /// Its device file.
    pub path: PathBuf,
    /// Its label and lines, or why it cannot be opened.
    pub opened: Result<GpioChipInfo, String>,
}

/// What an open chip says of itself.
#[derive(Debug)]
pub struct GpioChipInfo {
    /// What boards' files call it.
    pub label: String,
    /// Its lines, by number.
    pub lines: Vec<GpioLine>,
}

/// A line as the kernel has it.
#[derive(Debug)]
pub struct GpioLine {
    /// Its name; empty: it has none.
    pub name: String,
    /// Who holds it: a program's word for itself, or "kernel" for another function of the pin. `None`:
    /// nobody.
    pub consumer: Option<String>,
}

fn line_info(line: gpiocdev::line::Info) -> GpioLine {
    let holder = if line.consumer.is_empty() {
        "kernel".to_owned()
    } else {
        line.consumer
    };
    GpioLine {
        name: line.name,
        consumer: line.used.then_some(holder),
    }
}

/// Every GPIO chip with its lines, for `doctor`.
pub fn list_gpio() -> Vec<GpioChip> {
    let info = |path: &PathBuf| {
        let chip = Chip::from_path(path)?;
        Ok(GpioChipInfo {
            label: chip.info()?.label,
            lines: chip
                .line_info_iter()?
                .map(|line| Ok(line_info(line?)))
                .collect::<Result<_, gpiocdev::Error>>()?,
        })
    };
    // Without a readable /dev there are no chips.
    let paths = gpiocdev::chip::chips().unwrap_or_default();
    paths
        .into_iter()
        .map(|path| GpioChip {
            opened: info(&path).map_err(|e: gpiocdev::Error| e.to_string()),
            path,
        })
        .collect()
}

/// Where a pin's line is.
#[derive(Debug)]
pub(super) struct Place {
    /// The chip's device file.
    pub(super) chip: PathBuf,
    /// The line's number on it.
    pub(super) offset: u32,
}

/// A pin and who asks for it, for messages.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The key of the signal.
    pub(super) key: &'a str,
    /// The header's pin.
    pub(super) number: u16,
    /// The pin itself, with its chip and line.
    pub(super) pin: &'a HeaderPin,
}

impl<'a> Wanted<'a> {
    /// The pin of a signal. A checked board has it.
    pub(super) fn of(board: &'a Board, key: &'a str, number: u16) -> Result<Self, BoardError> {
        let pin = board.header.pins.get(&number);
        let pin = pin.ok_or_else(|| BoardError::NoPin(key.to_owned(), number))?;
        Ok(Wanted { key, number, pin })
    }

    pub(super) fn error(self, what: LineError) -> BoardError {
        BoardError::Line {
            key: self.key.to_owned(),
            pin: self.number,
            chip: self.pin.chip.clone(),
            line: self.pin.line.to_string(),
            what,
        }
    }
}

/// The chips that can be opened.
pub(super) struct Chips {
    open: Vec<(Chip, String)>,
    refused: Vec<PathBuf>,
}

impl Chips {
    pub(super) fn find() -> Chips {
        let mut chips = Chips {
            open: Vec::new(),
            refused: Vec::new(),
        };
        for path in gpiocdev::chip::chips().unwrap_or_default() {
            let chip = Chip::from_path(&path).and_then(|c| Ok((c.info()?.label, c)));
            match chip {
                Ok((label, chip)) => chips.open.push((chip, label)),
                Err(_) => chips.refused.push(path),
            }
        }
        chips
    }

    fn chip(&self, wanted: Wanted) -> Result<&Chip, BoardError> {
        let name = &wanted.pin.chip;
        // A udev link is as good as the chip's own path.
        let path = name
            .starts_with("/dev/")
            .then(|| std::fs::canonicalize(name).unwrap_or_else(|_| name.into()));
        let mut found = self.open.iter().filter(|(chip, label)| match &path {
            Some(path) => chip.path() == path,
            None => label == name,
        });
        match (found.next(), found.next(), self.refused.first()) {
            (Some((chip, _)), None, _) => Ok(chip),
            (Some(_), Some(_), _) => Err(wanted.error(LineError::SeveralChips)),
            (None, _, Some(refused)) => Err(wanted.error(LineError::Permission(refused.clone()))),
            (None, _, None) => {
                let there: Vec<String> = self
                    .open
                    .iter()
                    .map(|(chip, label)| format!("{label} ({})", chip.path().display()))
                    .collect();
                let there = if there.is_empty() {
                    "none".to_owned()
                } else {
                    there.join(", ")
                };
                Err(wanted.error(LineError::NoChip(there)))
            }
        }
    }

    /// Where a pin's line is; it must exist and nobody may hold it.
    pub(super) fn place(&self, wanted: Wanted) -> Result<Place, BoardError> {
        let chip = self.chip(wanted)?;
        let info = match &wanted.pin.line {
            LineId::Offset(offset) => chip.line_info(*offset).ok(),
            LineId::Name(name) => chip.find_line_info(name),
        };
        let info = info.ok_or_else(|| wanted.error(LineError::NoLine))?;
        let offset = info.offset;
        match line_info(info).consumer {
            Some(holder) => Err(wanted.error(LineError::Held(holder))),
            None => Ok(Place {
                chip: chip.path().to_path_buf(),
                offset,
            }),
        }
    }
}

/// A bias, in the kernel interface's words.
pub(super) fn bias(bias: Bias) -> Option<gpiocdev::line::Bias> {
    match bias {
        Bias::AsIs => None,
        Bias::PullUp => Some(gpiocdev::line::Bias::PullUp),
        Bias::PullDown => Some(gpiocdev::line::Bias::PullDown),
        Bias::None => Some(gpiocdev::line::Bias::Disabled),
    }
}

enum Driver {
    Simulated(SimulatedPin),
    Kernel(Box<KernelLine>),
    First(FirstLine),
}

/// A line of the kernel's second interface, and all that it takes to ask for it again.
struct KernelLine {
    key: String,
    number: u16,
    pin: HeaderPin,
    wired: Wired,
    /// `None` while its chip is away.
    request: Option<Request>,
    /// When it was asked for last.
    asked: Instant,
}

impl KernelLine {
    fn new(wanted: Wanted, wired: &Wired, chips: &Chips, high: bool) -> Result<Self, BoardError> {
        Ok(KernelLine {
            key: wanted.key.to_owned(),
            number: wanted.number,
            pin: wanted.pin.clone(),
            wired: wired.clone(),
            request: Some(request(wanted, wired, chips, high)?),
            asked: Instant::now(),
        })
    }

    fn set(&mut self, high: bool) -> Result<(), OutputError> {
        if self.is_lost() {
            self.request = None;
        }
        let Some(request) = &self.request else {
            return self.ask_again(high);
        };
        request.set_lone_value(level(high)).map_err(|e| {
            self.request = None;
            OutputError(e.into())
        })
    }

    fn ask_again(&mut self, high: bool) -> Result<(), OutputError> {
        if self.asked.elapsed() < AGAIN {
            return Err(OutputError("its chip is away".into()));
        }
        let wanted = Wanted {
            key: &self.key,
            number: self.number,
            pin: &self.pin,
        };
        let request = request(wanted, &self.wired, &Chips::find(), high);
        self.asked = Instant::now();
        self.request = Some(request.map_err(|e| OutputError(e.into()))?);
        log::info!("{}: its line is back", self.key);
        Ok(())
    }

    fn is_lost(&self) -> bool {
        self.request.as_ref().is_none_or(is_gone)
    }
}

/// Whether the chip of these lines is gone.
pub(super) fn is_gone(request: &Request) -> bool {
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    let mut fds = [PollFd::new(request, PollFlags::empty())];
    let now = Timespec::default();
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().intersects(gone)
}

fn request(
    wanted: Wanted,
    wired: &Wired,
    chips: &Chips,
    high: bool,
) -> Result<Request, BoardError> {
    let place = chips.place(wanted)?;
    Request::builder()
        .with_consumer(CONSUMER)
        .on_chip(&place.chip)
        .with_line(place.offset)
        .as_output(level(high))
        .with_drive(match wired.drive {
            Drive::PushPull => gpiocdev::line::Drive::PushPull,
            Drive::OpenDrain => gpiocdev::line::Drive::OpenDrain,
            Drive::OpenSource => gpiocdev::line::Drive::OpenSource,
        })
        .with_bias(bias(wired.bias))
        .request()
        .map_err(|e| wanted.error(LineError::Kernel(e.to_string())))
}

/// A pin of an output.
pub struct OutputLine(Driver);

impl std::fmt::Debug for OutputLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Driver::Simulated(pin) => pin.fmt(f),
            Driver::Kernel(line) => line.request.fmt(f),
            Driver::First(_) => f.write_str("CdevPin"),
        }
    }
}

impl OutputLine {
    /// The simulated pin, on a board that has no others.
    pub fn simulated(&self) -> Option<&SimulatedPin> {
        match &self.0 {
            Driver::Simulated(pin) => Some(pin),
            Driver::Kernel(_) | Driver::First(_) => None,
        }
    }
}

impl Pin for OutputLine {
    fn is_lost(&self) -> bool {
        match &self.0 {
            Driver::Kernel(line) => line.is_lost(),
            // The first interface does not say.
            Driver::Simulated(_) | Driver::First(_) => false,
        }
    }
}

fn level(high: bool) -> Value {
    if high { Value::Active } else { Value::Inactive }
}

/// The kernel did not switch a line.
#[derive(Debug, thiserror::Error)]
#[error("the line was not switched: {0}")]
pub struct OutputError(#[source] pub(super) Box<dyn std::error::Error + Send + Sync>);

impl Error for OutputError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl ErrorType for OutputLine {
    type Error = OutputError;
}

impl OutputPin for OutputLine {
    fn set_low(&mut self) -> Result<(), OutputError> {
        self.set_state(false.into())
    }

    fn set_high(&mut self) -> Result<(), OutputError> {
        self.set_state(true.into())
    }

    fn set_state(&mut self, state: embedded_hal::digital::PinState) -> Result<(), OutputError> {
        match &mut self.0 {
            Driver::Simulated(pin) => {
                let Ok(()) = pin.set_state(state);
                Ok(())
            }
            Driver::Kernel(line) => line.set(state == embedded_hal::digital::PinState::High),
            Driver::First(line) => line.set(state),
        }
    }
}

/// Takes the lines of all outputs, each with its level for `safe` as first level.
///
/// # Errors
/// [`BoardError::Line`], for the first output whose line cannot be had. The lines that were taken before
/// are given back at their safe levels.
pub fn outputs(board: &Board, safe: &Outputs) -> Result<Pins<OutputLine>, BoardError> {
    let chips = match board.gpio {
        Gpio::Kernel => Some(Chips::find()),
        Gpio::KernelV1 | Gpio::Simulated => None,
    };
    let mut pins = Pins::default();
    for (signal, (key, wired)) in SIGNALS.into_iter().zip(board.outputs.each()) {
        let Some(wired) = wired else { continue };
        let active = match wired.active {
            Level::High => Active::High,
            Level::Low => Active::Low,
        };
        let high = safe.get(signal) == (active == Active::High);
        let key = format!("outputs.{key}");
        let driver = match (&chips, board.gpio) {
            (_, Gpio::Simulated) => Driver::Simulated(SimulatedPin::at(high)),
            (Some(chips), _) => {
                let wanted = Wanted::of(board, &key, wired.pin)?;
                Driver::Kernel(Box::new(KernelLine::new(wanted, wired, chips, high)?))
            }
            (None, _) => {
                let wanted = Wanted::of(board, &key, wired.pin)?;
                Driver::First(first::output(wanted, wired.drive, high)?)
            }
        };
        pins = pins.with(signal, OutputLine(driver), active);
    }
    Ok(pins)
}
