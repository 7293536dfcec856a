//! The thread without anybody around it: panics, pins that fail, resets, new settings.

use super::*;
use crate::line::{Active, AlarmChange, Input, Signal, Wiring};
use crate::runtime::allocations::loadout;
use crate::runtime::judges::judges;
use crate::runtime::mailbox::Mailbox;
use crate::runtime::places::Places;
use crate::runtime::record::Records;
use crate::runtime::wired::Wired;
use embedded_hal::digital::{ErrorType, OutputPin};
use std::convert::Infallible;
use std::sync::atomic::AtomicBool;

/// A pin that can be looked at from outside.
struct Watched(Arc<AtomicBool>);

impl ErrorType for Watched {
    type Error = Infallible;
}

impl Pin for Watched {}

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
            looked: Micros(0),
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
fn alone<P: Pin>(pins: Pins<P>, stopped: bool) -> Actuator<P> {
    wired(pins, stopped, Wired::ALL)
}

/// The same on a board that has these inputs and outputs.
fn wired<P: Pin>(pins: Pins<P>, stopped: bool, wired: Wired) -> Actuator<P> {
    let settings = crate::control::values::Values::default()
        .settings()
        .unwrap();
    let nothing = (Statistics::default(), AlarmSet::NONE, stopped);
    let shared = Shared::new(&settings, nothing.0, nothing.1);
    let shared = Arc::new(shared.with_wired(wired));
    let outlets = Outlets {
        judges: judges(1, 64).0,
        expose: vec![Mailbox::default().lane(8)],
        back: Places::new(1, 1).1.giver(),
        record: Records::new(0).0,
    };
    let mut actuator = Actuator::new(
        settings,
        nothing,
        pins,
        Mailbox::default(),
        outlets,
        (shared, Sign::default()),
        RealTime::default(),
    );
    actuator.handle(loadout(settings, NetworkState::Stored));
    actuator.handle(Message::Start(View::FIRST));
    actuator
}

fn order<P: Pin>(actuator: &mut Actuator<P>, order: Order) {
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    actuator.handle(Message::Order(order, answer));
    answered.recv().unwrap().unwrap();
}

fn input<P: Pin>(actuator: &mut Actuator<P>, input: Input, active: bool) {
    let at = now();
    actuator.handle(Message::Input { input, active, at });
}

fn shown<P: Pin>(actuator: &mut Actuator<P>) -> Outputs {
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

impl Pin for Breaking {}

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

/// An ejector that waits for `reject` while the settings move `good` would let every part pass.
#[test]
fn an_output_that_the_wiring_uses_and_the_board_lacks_stops_the_line_until_the_wiring_is_right() {
    let reject = Arc::new(AtomicBool::new(false));
    let pins = Pins::default().with(Signal::Reject, Watched(reject.clone()), Active::High);
    let mut outputs = [true; 16];
    outputs[Signal::Good as usize] = false;
    let board = Wired {
        outputs,
        ..Wired::ALL
    };
    let mut station = wired(pins, false, board);
    let alarmed = |station: &Actuator<_>| station.shared.snapshot().alarms.contains(Alarm::Output);
    for _ in 0..2 {
        let outputs = shown(&mut station);
        assert!(outputs.line_stop && outputs.fault && !outputs.ready);
        assert!(alarmed(&station));
        order(&mut station, Order::Reset);
    }
    let mut values = crate::control::values::Values::default();
    for (name, value) in [
        ("confirm", "on"),
        ("confirm_window_ms", "500"),
        ("wiring", "energise_to_reject"),
    ] {
        let parameter = crate::control::Parameter::named(name).unwrap();
        let value = parameter.entry().parse(value).unwrap();
        values.set(parameter, value).unwrap();
    }
    let right = values.settings().unwrap();
    station.handle(loadout(right, NetworkState::Stored));
    shown(&mut station);
    assert!(reject.load(Ordering::Relaxed), "until a reset");
    order(&mut station, Order::Reset);
    let outputs = shown(&mut station);
    assert!(outputs.ready && !outputs.line_stop && !alarmed(&station));
}

#[test]
fn what_alarms_did_is_published_with_its_times() {
    let mut station = alone(Pins::<Watched>::default(), false);
    let start = now();
    station.handle(Message::Results { written: false });
    let between = now();
    station.handle(Message::Results { written: true });
    order(&mut station, Order::Reset);
    // A reset of nothing is no news.
    order(&mut station, Order::Reset);
    let end = now();
    station.turn();
    let shown = station.shared.snapshot();
    assert!(shown.alarms.is_empty());
    let changes: Vec<_> = shown.alarm_history.since(0).collect();
    let [(0, raised, first), (1, reset, second)] = changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(first, AlarmChange::Raised(Alarm::Results));
    let results = AlarmSet::of(&[Alarm::Results]);
    assert_eq!(second, AlarmChange::Reset(results));
    assert!(start <= raised && raised <= between && between <= reset && reset <= end);
}

#[test]
fn the_reset_input_does_not_arm_what_an_order_disarmed() {
    let mut station = alone(Pins::<Watched>::default(), false);
    order(&mut station, Order::Disarm);
    // One that is stuck from the start is none.
    input(&mut station, Input::Reset, true);
    assert!(!station.shared.retries(View::FIRST));
    input(&mut station, Input::Reset, false);
    input(&mut station, Input::Reset, true);
    assert!(!shown(&mut station).ready);
    assert!(station.shared.retries(View::FIRST), "the camera");
    order(&mut station, Order::Arm);
    assert!(shown(&mut station).ready);
}

#[test]
fn new_settings_leave_a_stop_that_lasts() {
    let mut station = alone(Pins::<Watched>::default(), false);
    input(&mut station, Input::Stop, true);
    let settings = station.settings;
    station.handle(Message::Loadout(Box::new(LineLoadout {
        generation: 2,
        settings,
        clear: true,
        network: NetworkState::Stored,
        stop: false,
    })));
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

#[test]
fn without_a_network_the_line_stays_stopped_until_there_is_one() {
    let mut station = alone(Pins::<Watched>::default(), false);
    assert!(shown(&mut station).ready);
    station.handle(Message::NoNetwork(NetworkState::Missing));
    let outputs = shown(&mut station);
    assert!(outputs.line_stop && outputs.fault && !outputs.ready);
    order(&mut station, Order::Reset);
    assert!(shown(&mut station).line_stop, "nothing can judge yet");
    // Other settings change nothing of that.
    station.handle(loadout(station.settings, NetworkState::Missing));
    order(&mut station, Order::Reset);
    assert!(shown(&mut station).line_stop);
    station.handle(loadout(station.settings, NetworkState::Stored));
    assert!(shown(&mut station).line_stop, "until a reset");
    order(&mut station, Order::Reset);
    let outputs = shown(&mut station);
    assert!(outputs.ready && !outputs.line_stop && !outputs.fault);
}

#[test]
fn the_last_good_network_judges_and_is_reported() {
    let mut station = alone(Pins::<Watched>::default(), false);
    station.handle(loadout(station.settings, NetworkState::LastGood));
    for _ in 0..2 {
        let outputs = shown(&mut station);
        assert!(outputs.ready && outputs.fault && !outputs.line_stop);
        let alarms = station.shared.snapshot().alarms;
        assert!(alarms.contains(Alarm::Network), "its reason lasts");
        order(&mut station, Order::Reset);
    }
}

#[test]
fn a_camera_without_a_network_inspects_nothing() {
    let settings = crate::control::values::Values::default()
        .settings()
        .unwrap();
    let mut station = alone(Pins::<Watched>::default(), false);
    station.flags = Flags::of(1);
    station.station = Some(Station::new(
        settings,
        Statistics::default(),
        station.station.take().unwrap().finish(now()).1,
    ));
    station.handle(Message::Start(View::FIRST));
    assert!(!shown(&mut station).ready);
    assert_eq!(station.shared.snapshot().mode, Mode::Starting);
    station.handle(loadout(settings, NetworkState::Stored));
    assert!(shown(&mut station).ready);
}
