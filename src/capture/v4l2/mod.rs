//! Cameras of the Linux kernel (V4L2), single-planar and multi-planar, memory-mapped.
//!
//! A frame that the driver flags, that is short, or that does not decode is never passed off as whole.
//! Never opens a device again by itself: when that is due is for [`super::Watch`] to say.

mod adjusted;
mod control;
mod report;
mod settings;
mod stream;
mod sys;

pub use control::ControlReport;
pub use report::{DeviceReport, FormatReport, NodeReport, list_devices};
pub use settings::{CameraSettings, SettingsError};

use super::format::{Converter, Flat, FlatError, FlatFrames, Layout, Matrix, PixelFormat, Range};
use super::{Adjustment, Camera, CaptureError, Exposure, now_us};
use adjusted::{Adjusted, Controls};
use control::Wanted;
use image::RgbImage;
use std::io;
use std::time::Duration;
use stream::Stream;
use sys::Kind;
use v4l::Device;

// V4L2_CAP_*
const VIDEO_CAPTURE: u32 = 0x0000_0001;
const VIDEO_CAPTURE_MPLANE: u32 = 0x0000_1000;
const VIDEO_OUTPUT: u32 = 0x0000_0002;
const VIDEO_OUTPUT_MPLANE: u32 = 0x0000_2000;
const VIDEO_M2M_MPLANE: u32 = 0x0000_4000;
const VIDEO_M2M: u32 = 0x0000_8000;
const STREAMING: u32 = 0x0400_0000;

/// The form of the capture interface that a node with these capabilities has. The older one if it has both: they
/// are two views of the same queue.
fn kind(flags: u32) -> Kind {
    match flags & VIDEO_CAPTURE {
        0 => Kind::Multi,
        _ => Kind::Single,
    }
}

/// A V4L2 camera.
pub struct V4l2Camera {
    settings: CameraSettings,
    /// Controls that were asked for while it runs.
    adjusted: Adjusted,
    open: Option<Open>,
    scratch: RgbImage,
    /// Exposures of the device so far, missed ones included.
    exposures: u64,
    last_us: u64,
}

/// What exists while the device is open.
struct Open {
    // Dropped in this order: the buffers are given back before the device is closed.
    stream: Stream,
    device: Device,
    converter: Converter,
    layout: Layout,
    frame_time: Option<Duration>,
    last_sequence: Option<u32>,
    /// Whether it was said what the driver's stamps are worth, which is once.
    stamps_logged: bool,
}

impl V4l2Camera {
    /// Opens the device, writes format, frame rate and controls, checks what came of them, and starts
    /// the stream.
    ///
    /// # Errors
    /// [`CaptureError::Disconnected`], [`CaptureError::Device`], [`CaptureError::Unsupported`],
    /// [`CaptureError::Control`].
    pub fn open(settings: CameraSettings) -> Result<Self, CaptureError> {
        let mut camera = V4l2Camera {
            settings,
            adjusted: Adjusted::default(),
            open: None,
            scratch: RgbImage::default(),
            exposures: 0,
            last_us: 0,
        };
        camera.reopen()?;
        Ok(camera)
    }

    /// Measures the lens's shading on so many raw frames of an evenly lit grey surface, and the white balance under
    /// that light.
    ///
    /// # Errors
    /// [`CaptureError::Unsupported`] if the frames are not raw or cannot be measured; those of
    /// [`Camera::capture`].
    pub fn measure_flat(&mut self, frames: u32) -> Result<(Flat, [f32; 3]), CaptureError> {
        const EACH: Duration = Duration::from_secs(5);
        const HOW: &str = "put an evenly lit grey surface in front of the camera, out of focus, that fills the picture";
        let device = self.settings.device.clone();
        let unsupported = |e: FlatError| CaptureError::Unsupported {
            device: device.clone(),
            what: e.to_string(),
            advice: HOW.into(),
        };
        let Some(open) = &mut self.open else {
            return Err(CaptureError::Disconnected { device });
        };
        let development = self.settings.development();
        let mut sum = FlatFrames::new(open.layout, &development).map_err(unsupported)?;
        for _ in 0..frames {
            let frame = open
                .stream
                .next(EACH)
                .map_err(|source| CaptureError::Device {
                    device: device.clone(),
                    action: "taking a frame",
                    source,
                })?;
            let frame = frame.ok_or(CaptureError::Timeout(EACH))?;
            if !frame.flawed {
                sum.add(frame.bytes[0]);
            }
        }
        sum.finish().map_err(unsupported)
    }

    fn failed(&self, action: &'static str, source: io::Error) -> CaptureError {
        let device = self.settings.device.clone();
        if source.raw_os_error() == Some(libc::ENODEV) {
            return CaptureError::Disconnected { device };
        }
        CaptureError::Device {
            device,
            action,
            source,
        }
    }

    fn unsupported(&self, what: String, advice: &str) -> CaptureError {
        CaptureError::Unsupported {
            device: self.settings.device.clone(),
            what,
            advice: advice.to_string(),
        }
    }

    fn start(&self) -> Result<Open, CaptureError> {
        let settings = &self.settings;
        if let Err(error) = settings.check() {
            return Err(self.unsupported(error.to_string(), "correct the board file"));
        }
        let device =
            Device::with_path(&settings.device).map_err(|e| self.failed("opening it", e))?;
        let capability =
            sys::capability(&device).map_err(|e| self.failed("asking what it is", e))?;
        if let Some((what, advice)) = report::obstacle(capability.flags) {
            return Err(self.unsupported(what.to_string(), advice));
        }
        let controls = self.adjusted.at_opening(&settings.controls);
        let wanted = Wanted::find(&device, &settings.device, &controls)?;
        wanted.write(true)?;
        let kind = kind(capability.flags);
        let layout = self.layout(&device, kind)?;
        let converter = settings
            .converter(layout)
            .map_err(|e| self.unsupported(e, "correct the board file"))?;
        let frame_time = self.frame_rate(&device, kind)?;
        wanted.write(false)?;
        wanted.verify()?;
        let stream = Stream::start(&device, kind, settings.buffers)
            .map_err(|e| self.failed("starting it", e))?;
        Ok(Open {
            stream,
            device,
            converter,
            layout,
            frame_time,
            last_sequence: None,
            stamps_logged: false,
        })
    }

    /// Sets the format.
    fn layout(&self, device: &Device, kind: Kind) -> Result<Layout, CaptureError> {
        const SIZES: &str = "the doctor command lists the formats and sizes that the device has";
        let settings = &self.settings;
        let format = match settings.format {
            Some(format) => format,
            None => {
                let there = sys::formats(device, kind)
                    .map_err(|e| self.failed("listing its formats", e))?;
                let known = PixelFormat::all().find(|known| {
                    there
                        .iter()
                        .any(|f| PixelFormat::from_fourcc(f.fourcc) == Some(*known))
                });
                known.ok_or_else(|| {
                    let codes: Vec<_> = there.iter().map(|f| report::code(f.fourcc)).collect();
                    let what = format!("none of its formats is read here: {}", codes.join(" "));
                    self.unsupported(what, SIZES)
                })?
            }
        };
        if let Err(error) = settings.check_development(Some(format)) {
            return Err(self.unsupported(error.to_string(), "correct the board file"));
        }
        let (width, height) = (settings.width, settings.height);
        let pix = sys::set_format(device, kind, format.fourcc(), width, height)
            .map_err(|e| self.failed("setting its format", e))?;
        let got = PixelFormat::from_fourcc(pix.fourcc);
        if (got, pix.width, pix.height) != (Some(format), settings.width, settings.height) {
            let what = format!(
                "{format} with {} x {} pixels was asked for, the driver delivers {} with {} x {}",
                settings.width,
                settings.height,
                String::from_utf8_lossy(&pix.fourcc),
                pix.width,
                pix.height
            );
            return Err(self.unsupported(what, SIZES));
        }
        const PROGRESSIVE: u32 = 1;
        if pix.field != PROGRESSIVE {
            let what = format!(
                "it delivers interlaced pictures (field order {})",
                pix.field
            );
            let advice = "choose a progressive input or mode";
            return Err(self.unsupported(what, advice));
        }
        if pix.pieces != format.memories() {
            let what = format!(
                "{format} comes in {} pieces of memory here instead of {}",
                pix.pieces,
                format.memories()
            );
            return Err(self.unsupported(what, SIZES));
        }
        let mut layout = Layout::packed(format, pix.width, pix.height);
        // Some drivers say nothing about rows without gaps.
        if pix.stride != 0 {
            layout.stride = pix.stride as usize;
        }
        if pix.chroma_stride != 0 && format.memories() > 1 {
            layout.chroma_stride = pix.chroma_stride as usize;
        }
        layout.matrix = matrix(pix.encoding, pix.colorspace);
        layout.range = range(pix.quantization, pix.colorspace, layout.range);
        Ok(layout)
    }

    /// Sets the frame rate if one is wanted; what time a frame takes then, if the driver says.
    fn frame_rate(&self, device: &Device, kind: Kind) -> Result<Option<Duration>, CaptureError> {
        let time = |(numerator, denominator): (u32, u32)| {
            (numerator > 0 && denominator > 0)
                .then(|| Duration::from_secs_f64(f64::from(numerator) / f64::from(denominator)))
        };
        let Some(fps) = self.settings.fps else {
            return Ok(sys::interval(device, kind).ok().and_then(time));
        };
        let wrong = |reason: String| CaptureError::Control {
            device: self.settings.device.clone(),
            control: "fps".into(),
            wanted: fps.to_string(),
            reason,
        };
        let interval = (1000, (1000.0 * fps).round() as u32);
        let interval = sys::set_interval(device, kind, interval)
            .map_err(|e| wrong(format!("the driver refuses it: {e}")))?;
        let frame = time(interval).ok_or_else(|| wrong("the driver has no rate".into()))?;
        let got = frame.as_secs_f64().recip();
        // Drivers give the nearest rate that they have.
        if (got / fps - 1.0).abs() > 0.01 {
            return Err(wrong(format!("reads back as {got:.3}")));
        }
        Ok(Some(frame))
    }
}

/// V4L2_MAP_YCBCR_ENC_DEFAULT and enum v4l2_ycbcr_encoding.
fn matrix(encoding: u32, colorspace: u32) -> Matrix {
    match (encoding, colorspace) {
        // V4L2_COLORSPACE_REC709, _DCI_P3; V4L2_YCBCR_ENC_709, _XV709.
        (0, 3 | 12) | (2 | 4, _) => Matrix::Bt709,
        // V4L2_COLORSPACE_BT2020; V4L2_YCBCR_ENC_BT2020, _CONST_LUM.
        (0, 10) | (6 | 7, _) => Matrix::Bt2020,
        // V4L2_COLORSPACE_SMPTE240M; V4L2_YCBCR_ENC_SMPTE240M.
        (0, 2) | (8, _) => Matrix::Smpte240,
        _ => Matrix::Bt601,
    }
}

/// V4L2_MAP_QUANTIZATION_DEFAULT and enum v4l2_quantization; where the driver leaves it open, a
/// picture is of limited range unless its colours are JPEG's, and grey (most sensors) is full.
fn range(quantization: u32, colorspace: u32, default: Range) -> Range {
    const COLORSPACE_JPEG: u32 = 7;
    match quantization {
        1 => Range::Full,
        2 => Range::Limited,
        _ if colorspace == COLORSPACE_JPEG => Range::Full,
        _ => default,
    }
}

/// The exposures that the driver's counter says were missed. Streams start anywhere; drivers that do not
/// count, or count backwards, missed none that we know of.
fn missed(last: Option<u32>, now: u32) -> u64 {
    match last.map(|last| now.wrapping_sub(last)) {
        Some(step @ 2..0x8000_0000) => u64::from(step) - 1,
        _ => 0,
    }
}

/// The driver's stamp if it can be true: not in the future, not before the last one.
fn trusted(stamp_us: Option<u64>, last_us: u64, now_us: u64) -> Option<u64> {
    stamp_us.filter(|stamp| (last_us..=now_us).contains(stamp))
}

/// The moment of an exposure without a stamp: that of its arrival, if somebody waited for it. A frame that
/// lay in the queue may show any part of the last second.
fn arrival(now_us: u64, awaited: bool) -> Option<u64> {
    awaited.then_some(now_us)
}

impl Camera for V4l2Camera {
    /// A timeout leaves the stream running. After any other error the device is closed until
    /// [`Camera::reopen`].
    fn capture(
        &mut self,
        image: &mut RgbImage,
        timeout: Duration,
    ) -> Result<Exposure, CaptureError> {
        let Some(open) = &mut self.open else {
            let device = self.settings.device.clone();
            return Err(CaptureError::Disconnected { device });
        };
        let frame = match open.stream.next(timeout) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(CaptureError::Timeout(timeout)),
            Err(e) => {
                self.open = None;
                return Err(self.failed("taking a frame", e));
            }
        };
        let now = now_us();
        let at_us = trusted(frame.stamp_us, self.last_us, now).or_else(|| {
            if !std::mem::replace(&mut open.stamps_logged, true) {
                log::warn!(
                    "{}: the driver's time stamps are not of the monotonic clock, lie in the future or go \
                     back; the time of arrival is taken instead, and a frame that was not waited for rejects",
                    self.settings.device.display()
                );
            }
            arrival(now, frame.awaited)
        });
        if !std::mem::replace(&mut open.stamps_logged, true) {
            let what = match frame.stamps_exposure {
                true => "the start of the exposure",
                false => "the end of the frame: exposure_delay_us includes exposure and read-out",
            };
            log::info!(
                "{}: its time stamps are {what}",
                self.settings.device.display()
            );
        }
        let timed = at_us.is_some();
        let at_us = at_us.unwrap_or(now);
        self.last_us = at_us;
        let missed = missed(open.last_sequence, frame.sequence);
        open.last_sequence = Some(frame.sequence);
        let sequence = self.exposures + missed;
        self.exposures = sequence + 1;
        let mut whole = !frame.flawed && timed;
        if let Err(e) = open.converter.convert_memories(&frame.bytes, image) {
            log::warn!(
                "{}: exposure {sequence}: {e}",
                self.settings.device.display()
            );
            whole = false;
        }
        self.settings.orientation().apply(image, &mut self.scratch);
        Ok(Exposure {
            sequence,
            at_us,
            whole,
            missed,
            name: sequence.to_string(),
            defective: None,
        })
    }

    fn reopen(&mut self) -> Result<(), CaptureError> {
        // Closed first: a device may be open for streaming once only.
        self.open = None;
        self.open = Some(self.start()?);
        Ok(())
    }

    fn frame_time(&self) -> Option<Duration> {
        self.open.as_ref()?.frame_time
    }

    fn adjust(&mut self, adjustment: Adjustment) -> Result<(), CaptureError> {
        let Some(open) = &self.open else {
            let device = self.settings.device.clone();
            return Err(CaptureError::Disconnected { device });
        };
        let mut asked = Controls::new();
        if let Some(us) = adjustment.exposure_us {
            // V4L2_CID_EXPOSURE_ABSOLUTE is in units of 100 us; V4L2_CID_EXPOSURE has no known unit.
            asked.insert("exposure_time_absolute".into(), i64::from(us / 100).max(1));
        }
        if let Some(gain) = adjustment.gain {
            let has = |name: &str| control::report(&open.device).iter().any(|c| c.name == name);
            let name = match has("analogue_gain") {
                true => "analogue_gain",
                false => "gain",
            };
            asked.insert(name.into(), gain.into());
        }
        let value = |name: &str| control::value(&open.device, name);
        let controls = (self.adjusted).ask(&self.settings.controls, &asked, value);
        let wanted = Wanted::find(&open.device, &self.settings.device, &controls)?;
        wanted.write(false)?;
        wanted.verify()?;
        self.adjusted.took(asked);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_in_the_drivers_counter_are_missed_exposures() {
        assert_eq!(missed(None, 7), 0);
        assert_eq!(missed(Some(7), 8), 0);
        assert_eq!(missed(Some(7), 11), 3);
        assert_eq!(missed(Some(u32::MAX), 1), 1);
        assert_eq!(missed(Some(7), 7), 0);
        assert_eq!(missed(Some(7), 0), 0);
    }

    #[test]
    fn stamps_in_the_future_or_going_back_are_not_trusted() {
        assert_eq!(trusted(Some(5), 5, 9), Some(5));
        assert_eq!(trusted(Some(9), 5, 9), Some(9));
        assert_eq!(trusted(Some(10), 5, 9), None);
        assert_eq!(trusted(Some(4), 5, 9), None);
        assert_eq!(trusted(None, 5, 9), None);
        assert_eq!((arrival(9, true), arrival(9, false)), (Some(9), None));
    }

    #[test]
    fn colours_follow_the_kernels_defaults() {
        // sRGB and defaults, then REC709, then an explicit 709 on sRGB.
        assert_eq!(
            [matrix(0, 8), matrix(0, 3), matrix(2, 8)],
            [Matrix::Bt601, Matrix::Bt709, Matrix::Bt709]
        );
        let limited = Range::Limited;
        assert_eq!(range(0, 8, limited), Range::Limited);
        assert_eq!(range(0, 7, limited), Range::Full);
        assert_eq!(range(1, 8, limited), Range::Full);
        assert_eq!(range(2, 7, Range::Full), Range::Limited);
    }

    #[test]
    fn a_device_that_is_not_there_says_so() {
        let settings = CameraSettings {
            device: "/dev/video-that-is-not-there".into(),
            ..toml::from_str("device = '/'\nwidth = 640\nheight = 480").unwrap()
        };
        let Err(error) = V4l2Camera::open(settings) else {
            panic!("opened")
        };
        assert!(error.needs_reopening());
        let text = error.to_string();
        assert!(
            text.contains("/dev/video-that-is-not-there") && text.contains("plugged in"),
            "{text}"
        );
    }
}
