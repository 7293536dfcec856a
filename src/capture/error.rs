//! Why there is no picture.

use super::MAX_PIXELS;
use super::jpeg::JpegError;
use crate::shown::shown;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no picture. The part in front of the camera is a reject.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file that cannot be opened.
    #[error("{path}: cannot be read: {source}", path = shown(path.display()))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that is no picture, or a damaged one.
    #[error("{path}: {source}", path = shown(path.display()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: image::ImageError,
    },
    /// A JPEG picture that is damaged, or of a kind that is not read.
    #[error("{path}: JPEG, {source}", path = shown(path.display()))]
    Jpeg {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: JpegError,
    },
    /// More pixels than any frame has.
    #[error("{path}: {width} x {height} pixels, more than {MAX_PIXELS}", path = shown(path.display()))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// The source has no more pictures.
    #[error("no more pictures")]
    End,
    /// No exposure within the time given. Not a fault as such: see [`super::Watch`].
    #[error("no exposure within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The device is gone (ENODEV), or failed before and was not opened again.
    #[error("{device}: the camera is disconnected; check its cable and supply", device = shown(device.display()))]
    Disconnected {
        /// The device.
        device: PathBuf,
    },
    /// The system refused something.
    #[error("{device}: {action}: {source}{hint}", device = shown(device.display()), hint = hint(source))]
    Device {
        /// The device.
        device: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A command that cannot be started, or whose output is of no more use.
    #[error("{command}: {what}", command = shown(command))]
    Command {
        /// The source, as it was given.
        command: String,
        /// What is wrong.
        what: String,
    },
    /// The device cannot do what is asked for, or delivers what this program does not read.
    #[error("{device}: {what}; {advice}", device = shown(device.display()))]
    Unsupported {
        /// The device.
        device: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        advice: String,
    },
    /// A control that is missing, does not take the value, or reads back another one.
    #[error("{device}: control {control} = {wanted}: {reason}", device = shown(device.display()))]
    Control {
        /// The device.
        device: PathBuf,
        /// Its name as v4l2-ctl prints it.
        control: String,
        /// The value in the settings.
        wanted: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl CaptureError {
    /// The file, folder or device that failed.
    pub fn path(&self) -> Option<&Path> {
        match self {
            CaptureError::Unreadable { path, .. }
            | CaptureError::Damaged { path, .. }
            | CaptureError::Jpeg { path, .. }
            | CaptureError::TooLarge { path, .. } => Some(path),
            CaptureError::Disconnected { device }
            | CaptureError::Device { device, .. }
            | CaptureError::Unsupported { device, .. }
            | CaptureError::Control { device, .. } => Some(device),
            CaptureError::Command { .. } | CaptureError::End | CaptureError::Timeout(_) => None,
        }
    }

    /// Whether the device delivers nothing more until [`super::Camera::reopen`] succeeds.
    pub fn needs_reopening(&self) -> bool {
        matches!(
            self,
            CaptureError::Disconnected { .. }
                | CaptureError::Device { .. }
                | CaptureError::Command { .. }
                | CaptureError::Unsupported { .. }
                | CaptureError::Control { .. }
        )
    }
}

/// What to do about a system error, where it is known.
fn hint(source: &io::Error) -> &'static str {
    if source.raw_os_error() == Some(rustix::io::Errno::NOTTY.raw_os_error()) {
        return "; it is no camera: `faprompt-edge doctor` lists those that there are";
    }
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; add the user to the group video (usermod -aG video USER), or to the unit: SupplementaryGroups=video"
        }
        io::ErrorKind::ResourceBusy => "; another program uses the device",
        io::ErrorKind::NotFound => "; no such device: is it plugged in, is its driver loaded?",
        _ => "",
    }
}
