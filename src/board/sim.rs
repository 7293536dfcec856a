//! Pins without hardware.

use embedded_hal::digital::{ErrorType, OutputPin};
use std::convert::Infallible;
use std::time::Instant;

/// A change of a simulated output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// Milliseconds since the pin was made.
    pub at_ms: f64,
    /// The new state.
    pub high: bool,
}

/// An output that remembers its changes.
#[derive(Debug)]
pub struct SimulatedPin {
    started: Instant,
    high: bool,
    edges: Vec<Edge>,
}

impl Default for SimulatedPin {
    fn default() -> Self {
        SimulatedPin::since(Instant::now())
    }
}

impl SimulatedPin {
    /// A low output whose clock starts at `started`.
    pub fn since(started: Instant) -> Self {
        SimulatedPin {
            started,
            high: false,
            edges: vec![],
        }
    }

    /// Its state.
    pub fn is_high(&self) -> bool {
        self.high
    }

    /// Every change so far.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    fn set(&mut self, high: bool) {
        if self.high != high {
            self.high = high;
            self.edges.push(Edge {
                at_ms: self.started.elapsed().as_secs_f64() * 1e3,
                high,
            });
        }
    }
}

impl ErrorType for SimulatedPin {
    type Error = Infallible;
}

impl OutputPin for SimulatedPin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.set(false);
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), Infallible> {
        self.set(true);
        Ok(())
    }
}
