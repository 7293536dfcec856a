//! Modbus RTU on a serial port.

use super::Slave;
use super::frame::{self, Framer};
use crate::control::host::ControlledStation;
use crate::control::port::{ANSWERS, Budget, Came, Link, PortSettings};
use crate::control::shared::Control;
use crate::control::table::Parameter;
use crate::control::values::Values;
use serialport::Parity;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a read waits while no frame is begun.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// Settings of the port: 8E1, 8O1, or without parity 8N2 as the standard requires.
pub fn settings(path: &Path, values: &Values) -> PortSettings {
    let parity = match values.text(Parameter::ModbusParity) {
        "odd" => Parity::Odd,
        "even" => Parity::Even,
        _ => Parity::None,
    };
    PortSettings {
        path: path.to_path_buf(),
        // The words of the choice are numbers.
        baud: values.text(Parameter::ModbusBaud).parse().unwrap_or(19_200),
        parity,
        two_stop_bits: parity == Parity::None,
    }
}

/// Serves Modbus on a port for as long as `goes_on`, which is asked some 50 times a second.
pub fn serve<H: ControlledStation>(
    settings: PortSettings,
    control: &Mutex<Control<H>>,
    goes_on: &dyn Fn() -> bool,
) {
    // As in `port::serve`: nothing is half done across a panic.
    let lock = || control.lock().unwrap_or_else(PoisonError::into_inner);
    let mut slave = Slave::new(&mut lock());
    let mut framer = Framer::new(settings.baud);
    let mut link = Link::new(settings);
    let mut budget = Budget::new(Instant::now(), ANSWERS);
    let mut bytes = [0; frame::LONGEST];
    while goes_on() {
        let now = Instant::now();
        if let Some(wait) = budget.wait(now) {
            std::thread::sleep(wait.min(POLL));
            framer.skip(Instant::now());
        } else {
            match link.read(&mut bytes, framer.wait(now).unwrap_or(POLL)) {
                Came::Bytes(count) => {
                    budget.took(count, 0);
                    framer.push(&bytes[..count], Instant::now());
                }
                Came::Nothing => framer.idle(Instant::now()),
                Came::Gone => {
                    framer.clear();
                    slave.hang_up(&mut lock());
                }
            }
        }
        let now = Instant::now();
        let mut control = lock();
        control.tick(now);
        slave.idle(now, &mut control);
        let mut answer = slave.late(now, &mut control);
        while let Some(heard) = framer.take(now) {
            budget.took(0, 1);
            answer = slave.answer(&heard.frame, now, &mut control);
            // Whoever has asked something else since does not wait for it.
            answer.take_if(|_| !heard.last);
        }
        slave.echoes(framer.echoes(), &mut control);
        drop(control);
        if let Some(answer) = answer {
            link.write(&answer, goes_on);
            framer.sent(&answer, Instant::now());
        }
    }
}
