//! Outputs by the first interface of the kernel's GPIO character device, for kernels before 5.10 (JetPack 4):
//! linux-embedded-hal's pins, found as those of the second interface are. It knows no bias, and its inputs have
//! no time stamps of the monotonic clock: there are outputs only.

use super::gpio::{CONSUMER, OutputError, Wanted};
use super::pins::{Drive, LineId};
use super::{BoardError, LineError};
use embedded_hal::digital::{OutputPin, PinState};
use linux_embedded_hal::CdevPin;
use linux_embedded_hal::gpio_cdev::{self, Chip, LineRequestFlags};

/// A line that is driven.
pub(super) struct FirstLine(CdevPin);

impl FirstLine {
    pub(super) fn set(&mut self, state: PinState) -> Result<(), OutputError> {
        let set = self.0.set_state(state);
        set.map_err(|e| OutputError(e.to_string().into()))
    }
}

/// Takes a pin's line at this level.
pub(super) fn output(wanted: Wanted, drive: Drive, high: bool) -> Result<FirstLine, BoardError> {
    let kernel = |e: gpio_cdev::Error| wanted.error(LineError::Kernel(e.to_string()));
    let mut chip = chip(wanted)?;
    let by_name = |chip: &Chip, name: &str| {
        let mut lines = chip.lines();
        lines.find(|line| line.info().is_ok_and(|info| info.name() == Some(name)))
    };
    let line = match &wanted.pin.line {
        LineId::Offset(offset) => chip.get_line(*offset).ok(),
        LineId::Name(name) => by_name(&chip, name),
    };
    let line = line.ok_or_else(|| wanted.error(LineError::NoLine))?;
    let info = line.info().map_err(kernel)?;
    if info.is_used() {
        let holder = info.consumer().unwrap_or("kernel").to_owned();
        return Err(wanted.error(LineError::Held(holder)));
    }
    let flags = LineRequestFlags::OUTPUT
        | match drive {
            Drive::PushPull => LineRequestFlags::empty(),
            Drive::OpenDrain => LineRequestFlags::OPEN_DRAIN,
            Drive::OpenSource => LineRequestFlags::OPEN_SOURCE,
        };
    let handle = line.request(flags, high.into(), CONSUMER).map_err(kernel)?;
    Ok(FirstLine(CdevPin::new(handle).map_err(kernel)?))
}

fn chip(wanted: Wanted) -> Result<Chip, BoardError> {
    let kernel = |e: gpio_cdev::Error| wanted.error(LineError::Kernel(e.to_string()));
    let name = &wanted.pin.chip;
    if name.starts_with("/dev/") {
        return Chip::new(name).map_err(kernel);
    }
    let (mut there, mut found) = (vec![], None);
    for chip in gpio_cdev::chips().map_err(kernel)?.flatten() {
        there.push(format!("{} ({})", chip.label(), chip.path().display()));
        if chip.label() == name && found.replace(chip).is_some() {
            return Err(wanted.error(LineError::SeveralChips));
        }
    }
    found.ok_or_else(|| wanted.error(LineError::NoChip(there.join(", "))))
}
