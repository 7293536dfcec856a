//! A station without a line, for targets that ask and order.

use faprompt_edge::control::{
    ControlledStation, Judging, Mode, Order, PartResult, Preparing, Refused, SelfTest, Snapshot,
    Wanted,
};
use faprompt_edge::line::{AlarmSet, Micros, Outputs, Statistics};
use std::sync::Arc;

/// A station that takes every order and does nothing.
pub struct Still(pub Mode);

impl ControlledStation for Still {
    type Loadout = ();

    fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            now: Micros(0),
            mode: self.0,
            outputs: Outputs::default(),
            alarms: AlarmSet::NONE,
            alarm_history: Default::default(),
            statistics: Statistics::default(),
            challenge: None,
            last: None,
            cameras: 1,
            down: Default::default(),
            self_test: SelfTest::None,
            lost: Default::default(),
        }
    }
    fn order(&mut self, order: Order) -> Result<(), Refused> {
        match order {
            Order::Arm => self.0 = Mode::Running,
            Order::Disarm => self.0 = Mode::Disarmed,
            Order::SelfTest => return Err(Refused::Hardware("the camera")),
            Order::Challenge(_) => return Err(Refused::Busy("a challenge is running")),
            _ => (),
        }
        Ok(())
    }
    fn judging(&mut self) -> Arc<Judging> {
        Arc::default()
    }
    fn prepare(&mut self, _: &Wanted) -> Preparing<()> {
        Preparing::ready(Ok(()))
    }
    fn swap(&mut self, (): ()) {}
    fn no_network(&mut self) {}
    fn fault(&mut self, _: bool) {}
    fn next_result(&mut self) -> Option<PartResult> {
        None
    }
}
