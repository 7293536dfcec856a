//! The thread without anybody around it: panics, pins that fail, resets, new settings.

use super::*;
use crate::line::{Active, Signal, Wiring};
use crate::runtime::inference::Judges;
use crate::runtime::mailbox::mailbox;
use embedded_hal::digital::ErrorType;
use std::convert::Infallible;
use std::sync::atomic::AtomicBool;

/// A pin that can be looked at from outside.
struct Watched(Arc<AtomicBool>);

impl ErrorType for Watched {
    type Error = Infallible;
}

impl OutputPin for Watched {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.store(false, Ordering::Relaxed);
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_panic_leaves_the_pins_safe() {
    let good = Arc::new(AtomicBool::new(false));
    let stop = Arc::new(AtomicBool::new(false));
    let pins = Pins::default()
        .with(Signal::Good, Watched(good.clone()), Active::High)
        .with(Signal::LineStop, Watched(stop.clone()), Active::High);
    let levels = || (good.load(Ordering::Relaxed), stop.load(Ordering::Relaxed));
    let thread = std::thread::spawn(move || {
        let mut pins = SafePins {
            pins,
            wiring: Wiring::default(),
            written: Outputs::default(),
            good_pulses: 0,
            reject_pulses: 0,
            failed: None,
        };
        pins.drive(Outputs {
            good: true,
            ..Outputs::default()
        });
        let was = pins.written.good;
        panic!("on purpose, with good = {was}");
    });
    assert!(thread.join().is_err());
    assert_eq!(levels(), (false, true));
}

/// A thread's state, with these pins and nobody around it.
fn alone<P: OutputPin>(pins: Pins<P>, stopped: bool) -> Actuator<P> {
    let settings = crate::control::values::Values::default()
        .settings()
        .unwrap();
    let shared = Arc::new(Shared::new(
        &settings,
        Statistics::default(),
        AlarmSet::NONE,
        1,
    ));
    let folder = tempfile::tempdir().unwrap();
    let style = crate::runtime::record::Style {
        warning: None,
        smoothing_sigma: 1.0,
        lines: false,
    };
    let (_, record) =
        crate::runtime::record::Recorder::create(folder.path(), false, style, shared.clone())
            .map_err(|(_, e)| e)
            .unwrap();
    let (_, _, release) = crate::runtime::slots::Slots::new(1);
    let outlets = Outlets {
        judges: Judges::new(vec![mailbox().0]),
        expose: mailbox().0,
        release,
        record,
    };
    let (_, messages) = mailbox();
    let nothing = (Statistics::default(), AlarmSet::NONE, stopped);
    let mut actuator = Actuator::new(
        settings,
        nothing,
        pins,
        messages,
        outlets,
        shared,
        RealTime::default(),
    );
    actuator.handle(Message::Start);
    actuator
}

fn order<P: OutputPin>(actuator: &mut Actuator<P>, order: Order) {
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    actuator.handle(Message::Order(order, answer));
    answered.recv().unwrap().unwrap();
}

fn input<P: OutputPin>(actuator: &mut Actuator<P>, input: Input, active: bool) {
    let at = now();
    actuator.handle(Message::Input { input, active, at });
}

fn shown<P: OutputPin>(actuator: &mut Actuator<P>) -> Outputs {
    actuator.turn();
    actuator.shared.snapshot().outputs
}

/// A pin that the kernel does not switch while it is broken.
struct Breaking(Arc<AtomicBool>);

#[derive(Debug)]
struct Broken;

impl embedded_hal::digital::Error for Broken {
    fn kind(&self) -> embedded_hal::digital::ErrorKind {
        embedded_hal::digital::ErrorKind::Other
    }
}

impl ErrorType for Breaking {
    type Error = Broken;
}

impl OutputPin for Breaking {
    fn set_low(&mut self) -> Result<(), Broken> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Broken),
            false => Ok(()),
        }
    }
    fn set_high(&mut self) -> Result<(), Broken> {
        self.set_low()
    }
}

#[test]
fn an_output_that_is_not_switched_stops_the_line_until_it_is() {
    let broken = Arc::new(AtomicBool::new(false));
    let pins = Pins::default().with(Signal::Good, Breaking(broken.clone()), Active::High);
    let mut station = alone(pins, false);
    assert!(shown(&mut station).ready);
    // The next write of it fails.
    broken.store(true, Ordering::Relaxed);
    station.pins.drive(Outputs {
        good: true,
        ..station.pins.written
    });
    let alarmed = |station: &Actuator<_>| station.shared.snapshot().alarms.contains(Alarm::Output);
    let outputs = shown(&mut station);
    assert!(outputs.line_stop && outputs.fault && !outputs.ready);
    assert!(
        alarmed(&station),
        "and no setting says that this alarm does"
    );
    order(&mut station, Order::Reset);
    assert!(shown(&mut station).line_stop, "it is still broken");
    assert!(alarmed(&station));
    broken.store(false, Ordering::Relaxed);
    assert!(shown(&mut station).line_stop, "until a reset");
    assert!(alarmed(&station));
    order(&mut station, Order::Reset);
    let outputs = shown(&mut station);
    assert!(outputs.ready && !outputs.line_stop && !outputs.fault);
    assert!(!alarmed(&station));
}

#[test]
fn the_reset_input_does_not_arm_what_an_order_disarmed() {
    let mut station = alone(Pins::<Watched>::default(), false);
    order(&mut station, Order::Disarm);
    input(&mut station, Input::Reset, true);
    assert!(!shown(&mut station).ready);
    assert!(station.shared.retry.load(Ordering::Relaxed), "the camera");
    order(&mut station, Order::Arm);
    assert!(shown(&mut station).ready);
}

#[test]
fn new_settings_leave_a_stop_that_lasts() {
    let mut station = alone(Pins::<Watched>::default(), false);
    input(&mut station, Input::Stop, true);
    let settings = Box::new(station.settings);
    station.handle(Message::Apply {
        settings,
        clear: true,
    });
    order(&mut station, Order::Reset);
    assert!(shown(&mut station).line_stop);
    input(&mut station, Input::Stop, false);
    order(&mut station, Order::Reset);
    assert!(shown(&mut station).ready);
}

#[test]
fn lost_settings_stop_the_line_until_a_reset() {
    let mut station = alone(Pins::<Watched>::default(), true);
    assert!(shown(&mut station).line_stop);
    order(&mut station, Order::Reset);
    assert!(shown(&mut station).ready);
}
