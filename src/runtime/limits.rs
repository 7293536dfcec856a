//! What a frame must show to be judged.

use crate::capture::ViewLimits;
use crate::control::table::Parameter;
use crate::control::values::Values;
use std::sync::{Mutex, PoisonError};

/// What a frame must show to be judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameLimits {
    /// Of its brightness.
    pub view: ViewLimits,
    /// So many equal frames in a row are a frozen camera; `None`: never.
    pub identical: Option<u32>,
}

impl FrameLimits {
    /// What the parameters say.
    pub fn of(values: &Values) -> Self {
        // In their ranges, which end at 255.
        let level = |parameter| values.number(parameter).min(255) as u8;
        FrameLimits {
            view: ViewLimits {
                spread: level(Parameter::FrameSpread),
                bright: level(Parameter::FrameBright),
                dark: level(Parameter::FrameDark),
            },
            identical: values.optional(Parameter::FrameIdentical),
        }
    }
}

/// [`FrameLimits`] between threads.
#[derive(Debug, Default)]
pub(super) struct FrameSetting(Mutex<FrameLimits>);

impl FrameSetting {
    pub(super) fn set(&self, limits: FrameLimits) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    pub(super) fn get(&self) -> FrameLimits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
