//! Pins without hardware.

use embedded_hal::digital::{ErrorType, OutputPin};
use std::convert::Infallible;

/// An output that counts its pulses.
#[derive(Debug, Default)]
pub struct SimulatedPin {
    high: bool,
    pulses: u64,
}

impl SimulatedPin {
    /// A pin at this level. The way there is no pulse.
    pub fn at(high: bool) -> Self {
        SimulatedPin { high, pulses: 0 }
    }

    /// Its state.
    pub fn is_high(&self) -> bool {
        self.high
    }

    /// How often it went from low to high.
    pub fn pulses(&self) -> u64 {
        self.pulses
    }
}

impl ErrorType for SimulatedPin {
    type Error = Infallible;
}

impl OutputPin for SimulatedPin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.high = false;
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), Infallible> {
        self.pulses += u64::from(!self.high);
        self.high = true;
        Ok(())
    }
}
