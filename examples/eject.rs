//! Switches a board's outputs as for a good and for a rejected part: `cargo run --release --example eject [-- BOARD]`.
//!
//! The default board, `sim`, has simulated pins. **On any other board real outputs switch**: valves move.

use faprompt_edge::board::{self, Board};
use faprompt_edge::line::{Outputs, Signal, Wiring};
use std::error::Error;
use std::time::Duration;

/// How long an output is on.
const PULSE: Duration = Duration::from_millis(50);

/// Pulses the output `good` once, as for a good part, and leaves the pins as a stopped station does: a part that passes
/// now is rejected. Returns how often the wire of `good` went high, as far as a simulated pin counts it.
pub fn eject(name: &str) -> Result<Option<u64>, Box<dyn Error>> {
    let board = Board::resolve(name)?;
    // The ejector opens for good parts only: a broken wire rejects.
    let safe = Outputs::safe(Wiring::EnergiseForGood { confirm: None });
    let mut pins = board::outputs(&board, &safe)?;
    let good = Outputs { good: true, ..safe };
    for outputs in [good, safe] {
        pins.drive(&outputs)
            .map_err(|(signal, e)| format!("output {signal:?}: {e:?}"))?;
        std::thread::sleep(PULSE);
    }
    let pin = pins.pin(Signal::Good);
    Ok(pin.and_then(|pin| pin.simulated()).map(|pin| pin.pulses()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let board = std::env::args().nth(1).unwrap_or("sim".into());
    match eject(&board)? {
        Some(pulses) => println!("{board}: pulses on the simulated output good: {pulses}"),
        None => println!("{board}: the output good was switched on and off"),
    }
    Ok(())
}
