//! Sources of frames: a camera, a command, or a device that behaves like a camera.
//!
//! Deals with pictures and time only, not with what a frame is used for. A picture that is incomplete never passes
//! for a whole one: it comes with `whole = false`, or not at all.

pub mod format;
pub mod jpeg;

mod error;
mod fault;
mod folder;
mod orientation;
mod pattern;
mod photo;
mod pipe;
mod v4l2;
mod view;
mod watch;

pub use error::CaptureError;
pub use fault::{Fault, FaultInjector, FaultPlan, FaultPlanError};
pub use folder::{FolderCamera, LeftOut, Listing, list, survey};
pub use orientation::{Orientation, Rotation};
pub use pattern::{PatternCamera, known_frame};
pub use photo::{Note, Photo, dimensions, load, load_with};
pub use pipe::{PREFIX as PIPE, PipeCamera, PipeSource, PipeSourceError};
pub use v4l2::{
    CameraSettings, ControlReport, DeviceReport, FormatReport, NodeReport, SettingsError,
    V4l2Camera, list_devices,
};
pub use view::{View, ViewFlaw, ViewLimits, Watchman};
pub use watch::{Pace, Step, Watch};

use crate::clock::now_us;
use image::RgbImage;
use std::time::Duration;

/// One exposure; its picture lies in the buffer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Counts up by one per exposure of the device, missed ones included; goes on after a reopening.
    pub sequence: u64,
    /// Time in microseconds on CLOCK_MONOTONIC: the start of the exposure or the end of its transfer, whichever
    /// the driver stamps.
    pub at_us: u64,
    /// Whether the picture is complete and its time known. If not, bytes are missing, the driver flagged an error
    /// or gave no time, and the part must be rejected.
    pub whole: bool,
    /// Exposures that were missed right before this one.
    pub missed: u64,
    /// Its name in reports: a file name, or a number.
    pub name: String,
    /// Whether the part is defective, where the source knows (generator only).
    pub defective: Option<bool>,
}

/// A source of exposures, one per part.
pub trait Camera: Send {
    /// Waits up to `timeout` for the next exposure and writes its picture into `image`, which is
    /// resized as needed; its memory is reused.
    ///
    /// # Errors
    /// There is no picture of this exposure, or none yet ([`CaptureError::Timeout`]). Unless
    /// [`CaptureError::needs_reopening`], the next call tries the next one. What `image` holds after an
    /// error is not defined.
    fn capture(
        &mut self,
        image: &mut RgbImage,
        timeout: Duration,
    ) -> Result<Exposure, CaptureError>;

    /// Opens the device once more after an error that needs it. Devices that cannot fail in this way
    /// do nothing.
    ///
    /// # Errors
    /// The device is still gone, or refuses its settings.
    fn reopen(&mut self) -> Result<(), CaptureError> {
        Ok(())
    }

    /// The time from one exposure to the next, if the device states one.
    fn frame_time(&self) -> Option<Duration> {
        None
    }

    /// Sets exposure time and gain, while exposures go on. What is `None` is as the board file says, or as it was before it
    /// was first set.
    ///
    /// # Errors
    /// [`CaptureError::Control`]; [`CaptureError::Unsupported`] of sources that have neither.
    fn adjust(&mut self, adjustment: Adjustment) -> Result<(), CaptureError> {
        if adjustment == Adjustment::default() {
            return Ok(());
        }
        Err(CaptureError::Unsupported {
            device: "this source".into(),
            what: "it has no exposure time and no gain".into(),
            advice: "set camera_exposure_us and camera_gain to 0".into(),
        })
    }
}

/// Exposure time and gain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjustment {
    /// Exposure time, microseconds.
    pub exposure_us: Option<u32>,
    /// Gain, in the driver's unit.
    pub gain: Option<u32>,
}

/// A boxed camera is a camera too.
impl Camera for Box<dyn Camera> {
    fn capture(
        &mut self,
        image: &mut RgbImage,
        timeout: Duration,
    ) -> Result<Exposure, CaptureError> {
        (**self).capture(image, timeout)
    }

    fn reopen(&mut self) -> Result<(), CaptureError> {
        (**self).reopen()
    }

    fn frame_time(&self) -> Option<Duration> {
        (**self).frame_time()
    }

    fn adjust(&mut self, adjustment: Adjustment) -> Result<(), CaptureError> {
        (**self).adjust(adjustment)
    }
}

/// Most pixels of a picture that is decoded. Area cameras for inspection end at about 25 megapixels; at this size
/// preprocessing takes 0.8 GB for a moment.
pub const MAX_PIXELS: u64 = 64_000_000;
