//! A command as a camera: a child process that writes frames to its standard output.
//!
//! What this program has no driver for, others have: `gst-launch-1.0 nvarguscamerasrc ! ...`, `rpicam-vid`,
//! `ffmpeg -i rtsp://...`. The child is never trusted: whatever it does, a frame that is not whole is never passed
//! off as one. It is started again by [`super::Watch`]'s rules, as a camera is opened again.
//!
//! The time of an exposure is that at which the first byte of its frame came: streams say none by this machine's
//! clock. What the command takes from exposure to output is a part of `exposure_delay_us`.

mod child;
mod input;
mod queue;
mod stream;
mod sys;

use super::format::{Converter, FormatError, Layout, PixelFormat};
use super::jpeg::Checker;
use super::v4l2::CameraSettings;
use super::{Camera, CaptureError, Exposure, now_us};
use crate::shown::shown;
use child::Running;
use image::RgbImage;
use queue::CommandFrame;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What a source begins with that is a command.
pub const PREFIX: &str = "pipe:";
/// From its start a command has so long for its first frame: drivers load, network cameras are asked for their
/// stream.
const START: Duration = Duration::from_secs(10);

/// A command, and what its output is: `pipe:COMMAND`, or `pipe:FORMAT:WIDTHxHEIGHT:COMMAND` for raw frames.
///
/// The command is split into words as a shell would; no shell runs it, unless the command is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeSource {
    text: String,
    words: Vec<String>,
    /// Format, width and height of raw frames; without it the stream itself says what it is.
    raw: Option<(PixelFormat, u32, u32)>,
}

/// A source that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text}: {reason}; write pipe:COMMAND for Y4M, MJPEG and PPM, or as in pipe:NV12:1920x1080:COMMAND for raw \
     frames", text = shown(text)
)]
pub struct PipeSourceError {
    text: String,
    reason: String,
}

impl FromStr for PipeSource {
    type Err = PipeSourceError;

    fn from_str(text: &str) -> Result<Self, PipeSourceError> {
        let bad = |reason: &str| PipeSourceError {
            text: text.into(),
            reason: reason.into(),
        };
        let rest = text
            .strip_prefix(PREFIX)
            .ok_or_else(|| bad("it does not begin with pipe:"))?;
        let (mut command, mut raw) = (rest, None);
        if let Some((code, more)) = rest.split_once(':')
            && let Ok(format) = code.parse::<PixelFormat>()
        {
            let size = || {
                let (size, command) = more.split_once(':')?;
                let (width, height) = size.split_once('x')?;
                Some((width.parse().ok()?, height.parse().ok()?, command))
            };
            let (width, height, after) =
                size().ok_or_else(|| bad("after the format comes a size, as in 1920x1080"))?;
            if format.memories() > 1 {
                return Err(bad(
                    "a pipe has one piece of memory: NV12 instead of NM12, YU12 of YM12",
                ));
            }
            Layout::packed(format, width, height)
                .check()
                .map_err(|e| bad(&e.to_string()))?;
            (command, raw) = (after, Some((format, width, height)));
        }
        let words = shlex::split(command).ok_or_else(|| bad("a quote has no end"))?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(PipeSource {
                text: text.into(),
                words,
                raw,
            }),
            _ => Err(bad("there is no command")),
        }
    }
}

impl fmt::Display for PipeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PipeSource {
    /// The program that is run.
    pub fn program(&self) -> &str {
        &self.words[0]
    }

    /// Pixel format, width and height of raw frames, if it writes such.
    pub fn raw(&self) -> Option<(PixelFormat, u32, u32)> {
        self.raw
    }
}

/// A camera behind a command.
pub struct PipeCamera {
    source: PipeSource,
    settings: CameraSettings,
    /// What every frame must be: what was seen first stays.
    size: Option<(u32, u32)>,
    open: Option<Open>,
    scratch: RgbImage,
    /// Exposures so far, missed ones included.
    exposures: u64,
}

struct Open {
    running: Running,
    converter: Converter,
    layout: Layout,
    /// The frame that came first, until it is asked for.
    first: Option<CommandFrame>,
    /// The number of the next frame, if none is missing.
    next: u64,
}

impl PipeCamera {
    /// Starts the command and waits for its first frame. Of the settings, region, orientation, development and
    /// the number of buffers count; with `fixed`, width and height too: frames of another size are refused.
    ///
    /// # Errors
    /// [`CaptureError::Command`], [`CaptureError::Unsupported`].
    pub fn open(
        source: PipeSource,
        settings: CameraSettings,
        fixed: bool,
    ) -> Result<Self, CaptureError> {
        let mut camera = PipeCamera {
            size: fixed.then_some((settings.width, settings.height)),
            source,
            settings,
            open: None,
            scratch: RgbImage::default(),
            exposures: 0,
        };
        camera.reopen()?;
        Ok(camera)
    }

    fn failed(&self, what: String) -> CaptureError {
        CaptureError::Command {
            command: self.source.to_string(),
            what,
        }
    }

    fn unsupported(&self, what: String, advice: &str) -> CaptureError {
        CaptureError::Unsupported {
            device: PathBuf::from(self.source.to_string()),
            what,
            advice: advice.into(),
        }
    }

    /// What to say when the output is read no more.
    fn ended(&self, why: String, mut running: Running) -> CaptureError {
        self.failed(match running.end() {
            Some(status) => format!("{why} ({status}); it is started again"),
            None => format!("{why}; it is ended and started again"),
        })
    }

    fn start(&self) -> Result<Open, CaptureError> {
        let raw = self
            .source
            .raw
            .map(|(format, width, height)| stream::guessed(format, width, height));
        let room = self.settings.buffers as usize;
        let running = Running::start(&self.source.words, raw, room)
            .map_err(|e| self.failed(format!("cannot be started: {e}")))?;
        let first = match running.queue.take(START) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                let why = format!("no frame within {} s", START.as_secs());
                return Err(self.ended(why, running));
            }
            Err(why) => return Err(self.ended(why, running)),
        };
        let mut layout = first.head.layout;
        if layout.format == PixelFormat::Mjpeg {
            (layout.width, layout.height) = self.jpeg_size(&first)?;
        }
        let (width, height) = self.size.unwrap_or((layout.width, layout.height));
        if (layout.width, layout.height) != (width, height) {
            let what = format!(
                "its frames have {} x {} pixels instead of {width} x {height}",
                layout.width, layout.height
            );
            return Err(self.unsupported(what, SIZE));
        }
        let converter = self
            .settings
            .converter(layout)
            .map_err(|e| self.unsupported(e, "correct the board file"))?;
        Ok(Open {
            running,
            converter,
            layout,
            next: first.sequence,
            first: Some(first),
        })
    }

    /// What the first picture says of its size; a damaged one says nothing.
    fn jpeg_size(&self, frame: &CommandFrame) -> Result<(u32, u32), CaptureError> {
        if let Some((_, width, height)) = self.source.raw {
            return Ok((width, height));
        }
        let mut checker = Checker::default();
        let picture = checker.check(&frame.bytes);
        let picture = picture.map_err(|e| self.failed(format!("its first frame: {e}")))?;
        Ok((picture.width, picture.height))
    }
}

const SIZE: &str = "have it write frames of one size, the one that the board file names";

impl Camera for PipeCamera {
    /// A timeout leaves the command running. After any other error it is ended until [`Camera::reopen`].
    fn capture(
        &mut self,
        image: &mut RgbImage,
        timeout: Duration,
    ) -> Result<Exposure, CaptureError> {
        let Some(mut open) = self.open.take() else {
            return Err(self.failed("it does not run".into()));
        };
        let frame = match open.first.take() {
            Some(first) => first,
            None => match open.running.queue.take(timeout) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.open = Some(open);
                    return Err(CaptureError::Timeout(timeout));
                }
                Err(why) => return Err(self.ended(why, open.running)),
            },
        };
        let head = frame.head;
        if head.layout.format != PixelFormat::Mjpeg && head.layout != open.layout {
            return Err(self.changed(head.layout, open.layout));
        }
        let missed = frame.sequence - open.next;
        open.next = frame.sequence + 1;
        let sequence = self.exposures + missed;
        self.exposures = sequence + 1;
        let mut flaw = match (head.begun.at_us, head.in_pieces) {
            (None, _) => Some("it lay in the pipe, nobody knows how long".to_string()),
            (_, true) => Some("it came in pieces: bytes of one before it may be missing".into()),
            _ => None,
        };
        match open
            .converter
            .convert_memories(&memories(&frame.bytes, &open.layout), image)
        {
            Ok(()) => (),
            Err(FormatError::Size { got, .. }) => {
                let layout = Layout::packed(PixelFormat::Mjpeg, got.0, got.1);
                return Err(self.changed(layout, open.layout));
            }
            Err(e) => flaw = Some(e.to_string()),
        }
        if let Some(flaw) = &flaw {
            log::warn!(
                "camera: {}: exposure {sequence}: {flaw}",
                shown(&self.source)
            );
        }
        open.running.queue.give(frame.bytes);
        self.open = Some(open);
        self.settings.orientation().apply(image, &mut self.scratch);
        Ok(Exposure {
            sequence,
            at_us: head.begun.at_us.unwrap_or_else(now_us),
            whole: flaw.is_none(),
            missed,
            name: sequence.to_string(),
            defective: None,
        })
    }

    fn reopen(&mut self) -> Result<(), CaptureError> {
        // Ended first: most cameras can be opened once only.
        self.open = None;
        let open = self.start()?;
        self.size = Some((open.layout.width, open.layout.height));
        self.open = Some(open);
        Ok(())
    }
}

impl PipeCamera {
    fn changed(&self, got: Layout, was: Layout) -> CaptureError {
        let what = format!(
            "its frames changed from {} with {} x {} pixels to {} with {} x {}",
            was.format, was.width, was.height, got.format, got.width, got.height
        );
        self.unsupported(what, SIZE)
    }
}

/// The pieces of a frame whose planes stand one behind the other.
fn memories<'a>(bytes: &'a [u8], layout: &Layout) -> [&'a [u8]; 3] {
    if layout.format.memories() == 1 {
        return [bytes, &[], &[]];
    }
    let [luma, blue, _] = layout.sizes();
    let (luma, rest) = bytes.split_at(luma.min(bytes.len()));
    let (blue, red) = rest.split_at(blue.min(rest.len()));
    [luma, blue, red]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_commands_in_words_with_or_without_a_raw_format() {
        let source: PipeSource =
            "pipe:gst-launch-1.0 -q src ! 'video/x-raw(memory:NVMM), width=4' ! fdsink"
                .parse()
                .unwrap();
        let words = [
            "gst-launch-1.0",
            "-q",
            "src",
            "!",
            "video/x-raw(memory:NVMM), width=4",
            "!",
            "fdsink",
        ];
        assert_eq!(
            (source.words.as_slice(), source.raw),
            (&words.map(String::from)[..], None)
        );
        let source: PipeSource = "pipe:NV12:1920x1080:cat a:b".parse().unwrap();
        assert_eq!(source.raw(), Some((PixelFormat::Nv12, 1920, 1080)));
        assert_eq!((source.program(), source.words.len()), ("cat", 2));
        // A colon of the command's own.
        let source: PipeSource = "pipe:ffmpeg -i rtsp://10.0.0.9/a -f yuv4mpegpipe -"
            .parse()
            .unwrap();
        assert_eq!((source.program(), source.raw()), ("ffmpeg", None));
        for (text, reason) in [
            ("cat", "begin with pipe:"),
            ("pipe:", "no command"),
            ("pipe:  ", "no command"),
            ("pipe:''", "no command"),
            ("pipe:cat 'a", "quote"),
            ("pipe:NV12:cat", "a size"),
            ("pipe:NV12:1920:cat", "a size"),
            ("pipe:NV12:0x5:cat", "0 x 5 pixels"),
            ("pipe:NV12:99999x99999:cat", "99999"),
            ("pipe:NM12:64x64:cat", "NV12"),
            ("pipe:NV12:64x64:", "no command"),
        ] {
            let error = text.parse::<PipeSource>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
