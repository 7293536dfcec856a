//! What cameras there are, for a person: the doctor command prints it.

use super::control::{self, ControlReport};
use super::{
    STREAMING, VIDEO_CAPTURE, VIDEO_CAPTURE_MPLANE, VIDEO_M2M, VIDEO_M2M_MPLANE, VIDEO_OUTPUT,
    VIDEO_OUTPUT_MPLANE, kind, sys,
};
use crate::capture::CaptureError;
use crate::capture::format::PixelFormat;
use std::fmt;
use std::path::{Path, PathBuf};
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;
use v4l::{Device, FourCC};

/// One /dev/video* node.
#[derive(Debug)]
pub struct NodeReport {
    /// The node.
    pub path: PathBuf,
    /// Links under /dev/v4l that lead to it and outlive replugging.
    pub links: Vec<PathBuf>,
    /// What it is, or why it cannot be opened.
    pub device: Result<DeviceReport, CaptureError>,
}

/// What a node says about itself.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    /// The card's name.
    pub card: String,
    /// The kernel driver.
    pub driver: String,
    /// Where it is plugged in.
    pub bus: String,
    /// Whether its frames come in buffers of several planes.
    pub multi_planar: bool,
    /// Why it cannot be used as a camera here, and what to do.
    pub obstacle: Option<(&'static str, &'static str)>,
    /// Its formats; none where there is an obstacle.
    pub formats: Vec<FormatReport>,
    /// Its controls.
    pub controls: Vec<ControlReport>,
}

/// One pixel format of a device.
#[derive(Clone, Debug)]
pub struct FormatReport {
    /// Its V4L2 code.
    pub fourcc: String,
    /// The kernel's words for it.
    pub description: String,
    /// Whether it is read here.
    pub supported: bool,
    /// Sizes as `640x480`, or `16x16 to 640x480 in steps of 16x16`.
    pub sizes: Vec<String>,
}

/// Why a node with these capabilities is no camera for us, and what to do.
pub(super) fn obstacle(flags: u32) -> Option<(&'static str, &'static str)> {
    if flags & (VIDEO_CAPTURE | VIDEO_CAPTURE_MPLANE) == 0 {
        return Some((
            "it takes no pictures (metadata, output or codec node)",
            "name the camera's other node",
        ));
    }
    if flags & (VIDEO_OUTPUT | VIDEO_OUTPUT_MPLANE | VIDEO_M2M | VIDEO_M2M_MPLANE) != 0 {
        return Some((
            "it converts pictures of others (codec or scaler)",
            "name the camera's own node",
        ));
    }
    (flags & STREAMING == 0).then_some((
        "it has no memory-mapped streaming",
        "use a driver that has, or a v4l2loopback device",
    ))
}

/// All /dev/video* nodes, by number.
pub fn list_devices() -> Vec<NodeReport> {
    let numbers = entries("/dev").filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("video")?.parse::<u32>().ok()
    });
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    let links: Vec<_> = ["/dev/v4l/by-id", "/dev/v4l/by-path"]
        .into_iter()
        .flat_map(entries)
        .collect();
    let node = |number| {
        let path = PathBuf::from(format!("/dev/video{number}"));
        let leads = |link: &&PathBuf| link.canonicalize().is_ok_and(|target| target == path);
        NodeReport {
            links: links.iter().filter(leads).cloned().collect(),
            device: inspect(&path),
            path,
        }
    };
    numbers.into_iter().map(node).collect()
}

fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter()
}

fn inspect(path: &Path) -> Result<DeviceReport, CaptureError> {
    let failed = |action| {
        move |source| CaptureError::Device {
            device: path.to_path_buf(),
            action,
            source,
        }
    };
    let device = Device::with_path(path).map_err(failed("opening it"))?;
    let capability = sys::capability(&device).map_err(failed("asking what it is"))?;
    let obstacle = obstacle(capability.flags);
    let formats = match obstacle {
        Some(_) => vec![],
        None => {
            sys::formats(&device, kind(capability.flags)).map_err(failed("listing its formats"))?
        }
    };
    let formats = formats.into_iter().map(|format| FormatReport {
        fourcc: code(format.fourcc),
        supported: PixelFormat::from_fourcc(format.fourcc).is_some(),
        sizes: {
            let fourcc = FourCC::new(&format.fourcc);
            let sizes = device.enum_framesizes(fourcc).unwrap_or_default();
            sizes.into_iter().map(|s| size(&s.size)).collect()
        },
        description: format.description,
    });
    Ok(DeviceReport {
        card: capability.card,
        driver: capability.driver,
        bus: capability.bus,
        multi_planar: capability.flags & VIDEO_CAPTURE_MPLANE != 0
            && capability.flags & VIDEO_CAPTURE == 0,
        obstacle,
        formats: formats.collect(),
        controls: control::report(&device),
    })
}

/// A code as v4l2-ctl prints it: big-endian variants have the highest bit set.
pub(super) fn code(fourcc: [u8; 4]) -> String {
    let ascii = fourcc.map(|byte| byte & 0x7f);
    let text = String::from_utf8_lossy(&ascii).trim_end().to_string();
    if ascii == fourcc { text } else { text + "-BE" }
}

fn size(size: &FrameSizeEnum) -> String {
    match size {
        FrameSizeEnum::Discrete(d) => format!("{}x{}", d.width, d.height),
        FrameSizeEnum::Stepwise(s) => format!(
            "{}x{} to {}x{} in steps of {}x{}",
            s.min_width, s.min_height, s.max_width, s.max_height, s.step_width, s.step_height
        ),
    }
}

impl fmt::Display for NodeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.device {
            // The error names the node.
            Err(error) => writeln!(f, "{error}")?,
            Ok(device) => writeln!(
                f,
                "{}: {} ({}, {})",
                self.path.display(),
                device.card,
                device.driver,
                device.bus
            )?,
        }
        for link in &self.links {
            writeln!(f, "  link {}", link.display())?;
        }
        let Ok(device) = &self.device else {
            return Ok(());
        };
        if let Some((what, advice)) = device.obstacle {
            return writeln!(f, "  no camera for this program: {what}; {advice}");
        }
        let (read, others): (Vec<_>, Vec<_>) = device.formats.iter().partition(|f| f.supported);
        for format in read {
            let sizes = format.sizes.join(", ");
            writeln!(
                f,
                "  format {} ({}): {sizes}",
                format.fourcc, format.description
            )?;
        }
        if !others.is_empty() {
            let codes: Vec<_> = others.iter().map(|f| f.fourcc.as_str()).collect();
            writeln!(f, "  formats that are not read here: {}", codes.join(" "))?;
        }
        for control in &device.controls {
            writeln!(f, "  control {control}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ControlReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)?;
        if self.kind != "button" {
            write!(f, ": {} to {}", self.minimum, self.maximum)?;
            if self.step > 1 {
                write!(f, " in steps of {}", self.step)?;
            }
            write!(f, ", starts at {}", self.default)?;
        }
        if let Some(value) = self.value {
            write!(f, ", is {value}")?;
        }
        if !self.note.is_empty() {
            write!(f, " ({})", self.note)?;
        }
        for (number, item) in &self.items {
            write!(f, "; {number} = {item}")?;
        }
        Ok(())
    }
}
