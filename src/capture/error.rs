//! Errors of cameras and photos: why there is no picture.

use super::MAX_PIXELS;
use super::jpeg::JpegError;
use crate::shown::shown;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no picture. The part in front of the camera is a reject.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file or folder cannot be read.
    #[error("{path}: cannot be read: {source}", path = shown(path.display()))]
    Unreadable {
        /// Path of the file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is no picture, or is damaged.
    #[error("{path}: {source}{advice}", path = shown(path.display()), advice = advice(source))]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The decoder's reason.
        source: image::ImageError,
    },
    /// A JPEG picture is damaged, or of a kind that is not read.
    #[error("{path}: JPEG, {source}", path = shown(path.display()))]
    Jpeg {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: JpegError,
    },
    /// A picture has more pixels than any frame.
    #[error("{path}: {width} x {height} pixels, more than {MAX_PIXELS}", path = shown(path.display()))]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// Width of the picture, pixels.
        width: u32,
        /// Height of the picture, pixels.
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
        /// Path of the device.
        device: PathBuf,
    },
    /// The system refused an operation on the device.
    #[error("{device}: {action}: {source}{hint}", device = shown(device.display()), hint = hint(source))]
    Device {
        /// Path of the device.
        device: PathBuf,
        /// The operation that was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A command cannot be started, or its output cannot be used any more.
    #[error("{command}: {what}", command = shown(command))]
    Command {
        /// The command, as it was given.
        command: String,
        /// What is wrong.
        what: String,
    },
    /// The device cannot do what the settings ask for, or delivers frames that this program does not read.
    #[error("{device}: {what}; {advice}", device = shown(device.display()))]
    Unsupported {
        /// Path of the device.
        device: PathBuf,
        /// What it cannot do.
        what: String,
        /// What to do.
        advice: String,
    },
    /// A control is missing, does not take the value, or reads back another one.
    #[error("{device}: control {control} = {wanted}: {reason}", device = shown(device.display()))]
    Control {
        /// Path of the device.
        device: PathBuf,
        /// Name of the control, as v4l2-ctl prints it.
        control: String,
        /// The value in the settings.
        wanted: String,
        /// What is wrong, and which value would be right.
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

/// What to do about a picture of a kind that is not read.
fn advice(error: &image::ImageError) -> &'static str {
    match error {
        image::ImageError::Unsupported(_) => {
            "; save it as PNG, TIFF, WebP, BMP or JPEG with 8 or 16 whole bits per sample"
        }
        _ => "",
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
