//! The thread that reads the inputs. STOP has a lane of its own, which other inputs never fill; edges that find no
//! room are reported as lost, so that STOP never waits behind them.

use super::message::{Message, ToActuator};
use super::shared::Shared;
use super::threads::Sign;
use crate::board::{InputLine, Inputs};
use crate::line::{Input, Micros};
use std::time::Duration;

/// How long one wait for a change of the inputs takes at most.
const LOOK: Duration = Duration::from_millis(50);

/// Lanes from the inputs to the output thread.
pub(super) struct Lanes {
    /// Only for the input STOP and for the state of the inputs.
    pub(super) stop: ToActuator,
    /// For triggers, encoder counts and all other inputs.
    pub(super) edges: ToActuator,
}

impl Lanes {
    /// Sends a change; `false` if there is no room for it.
    fn send(&mut self, what: InputLine, active: bool, at: Micros) -> bool {
        let (lane, message) = match what {
            InputLine::Trigger if !active => return true,
            InputLine::Trigger => (&mut self.edges, Message::Trigger(at)),
            InputLine::Encoder { count } => (&mut self.edges, Message::Encoder(count)),
            InputLine::Input(input) => {
                let message = Message::Input { input, active, at };
                let lane = match input {
                    Input::Stop => &mut self.stop,
                    _ => &mut self.edges,
                };
                (lane, message)
            }
        };
        lane.try_send(message).is_ok()
    }
}

/// Reports changes of the inputs to the output thread until the station ends.
pub(super) fn watch(mut inputs: Inputs, mut lanes: Lanes, sign: &Sign, shared: &Shared) {
    let (mut lost, mut reported) = (0, 0);
    let mut there = true;
    while !shared.stopping() {
        sign.beat();
        let change = match inputs.next(LOOK) {
            Ok(change) => change,
            Err(e) => {
                log::error!(
                    "inputs: {e}; the line is stopped until they are back and a reset comes"
                );
                None
            }
        };
        // Without triggers parts would pass unseen.
        let now_there = !inputs.is_lost();
        let message = Message::Inputs { there: now_there };
        if there != now_there && lanes.stop.try_send(message).is_ok() {
            there = now_there;
            if there {
                log::info!("inputs: their lines are back");
            }
        }
        if let Some(change) = change
            && !lanes.send(change.what, change.active, Micros(change.at_us))
        {
            lost += 1;
        }
        let edges = inputs.lost() + lost;
        if edges > reported
            && lanes
                .edges
                .try_send(Message::LostEdges(edges - reported))
                .is_ok()
        {
            log::error!("inputs: {} edges lost", edges - reported);
            reported = edges;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::message::actuator_mailbox;

    #[test]
    fn stop_finds_room_when_nothing_else_does_and_goes_before_it() {
        let (stop, mut received) = actuator_mailbox();
        let mut lanes = Lanes {
            stop,
            edges: received.lane(4),
        };
        let sent = (0..10).filter(|i| lanes.send(InputLine::Trigger, true, Micros(*i)));
        assert_eq!(sent.count(), 4);
        assert!(
            lanes.send(InputLine::Trigger, false, Micros(0)),
            "no part ends"
        );
        assert!(!lanes.send(InputLine::Input(Input::Reset), true, Micros(0)));
        assert!(lanes.send(InputLine::Input(Input::Stop), true, Micros(11)));
        let first = received.try_recv();
        let stop = Input::Stop;
        assert!(
            matches!(first, Some(Message::Input { input, active: true, at: Micros(11) }) if input == stop)
        );
        assert!(matches!(
            received.try_recv(),
            Some(Message::Trigger(Micros(0)))
        ));
    }
}
