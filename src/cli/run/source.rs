//! Where frames come from: the board's camera, another device, a folder, the generator.

use super::super::CliError;
use super::Run;
use faprompt_edge::board::Board;
use faprompt_edge::board::spec::Gpio;
use faprompt_edge::capture::{
    Camera, CameraSettings, CaptureError, FaultInjector, FaultPlan, FolderCamera, PIPE,
    PatternCamera, PipeCamera, PipeSource, PipeSourceError, SettingsError, V4l2Camera,
};
use faprompt_edge::report::warn;
use faprompt_edge::runtime::camera::Open;
use std::path::{Path, PathBuf};

/// Generated parts if nothing else is said.
const GENERATED: u64 = 24;

type Opened = Result<Box<dyn Camera>, CaptureError>;
type Opener = Box<dyn FnMut() -> Opened + Send>;

enum Source {
    Pattern(u64),
    Folder(PathBuf),
    Device(CameraSettings),
    Pipe {
        source: PipeSource,
        settings: CameraSettings,
        /// Whether its frames must have the settings' width and height.
        fixed: bool,
    },
}

impl Run {
    fn source(&self, board: &Board) -> Result<Source, CliError> {
        Ok(match &self.source {
            Some(path) if path == Path::new("pattern") => Source::Pattern(self.seed),
            Some(path) if path.to_string_lossy().starts_with(PIPE) => {
                pipe(&path.to_string_lossy(), board, false)?
            }
            Some(path) if path.starts_with("/dev") && !path.is_dir() => {
                Source::Device(CameraSettings {
                    device: path.clone(),
                    ..settings(board)?
                })
            }
            Some(path) => Source::Folder(path.clone()),
            None if board.gpio == Gpio::Simulated => Source::Pattern(self.seed),
            None if board.camera.device.starts_with(PIPE) => {
                pipe(&board.camera.device, board, true)?
            }
            None => Source::Device(settings(board)?),
        })
    }

    /// The camera, and how many exposures it has.
    pub fn camera(&self, board: &Board) -> Result<(Open, Option<u64>), CliError> {
        let source = self.source(board)?;
        let live = matches!(source, Source::Device(_) | Source::Pipe { .. });
        let (open, count): (Opener, _) = match source {
            Source::Pattern(seed) => (
                Box::new(move || Ok(Box::new(PatternCamera::new(seed)))),
                Some(GENERATED),
            ),
            Source::Folder(path) => {
                let camera = FolderCamera::open(&path)?;
                if camera.is_empty() {
                    let reason = format!("no pictures in {}", path.display());
                    return Err(CliError::NoInput(reason));
                }
                let left_out = camera.left_out();
                if !left_out.is_empty() {
                    warn(format_args!("{}: {left_out}", path.display()));
                }
                let (count, bits) = (camera.len() as u64, self.sample_bits);
                let open = move || -> Opened {
                    Ok(Box::new(FolderCamera::open(&path)?.with_sample_bits(bits)))
                };
                (Box::new(open), Some(count))
            }
            Source::Device(settings) => (
                Box::new(move || Ok(Box::new(V4l2Camera::open(settings.clone())?))),
                None,
            ),
            Source::Pipe {
                source,
                settings,
                fixed,
            } => (
                Box::new(move || {
                    let (source, settings) = (source.clone(), settings.clone());
                    Ok(Box::new(PipeCamera::open(source, settings, fixed)?))
                }),
                None,
            ),
        };
        let open = match self.faults.clone() {
            None => open,
            Some(plan) => with_faults(open, plan),
        };
        Ok((Open { open, live }, self.frames.or(count)))
    }
}

fn with_faults(mut open: Opener, plan: FaultPlan) -> Opener {
    Box::new(move || Ok(Box::new(FaultInjector::new(open()?, plan.clone()))))
}

/// A command that writes frames, with the settings that count for it. If it is the board's own camera, its frames
/// have the board's width and height.
fn pipe(text: &str, board: &Board, fixed: bool) -> Result<Source, CliError> {
    let wrong = |e: String| match fixed {
        true => CliError::Usage(format!("board {}: camera.device: {e}", board.name)),
        false => CliError::Usage(e),
    };
    let source: PipeSource = text
        .parse()
        .map_err(|e: PipeSourceError| wrong(e.to_string()))?;
    let mut settings: CameraSettings = board.camera_as()?;
    settings.format = source.raw().map(|(format, ..)| format);
    if let Some((_, width, height)) = source.raw() {
        if fixed && (width, height) != (settings.width, settings.height) {
            return Err(wrong(format!(
                "{width} x {height} pixels, but camera.width and camera.height say {} x {}",
                settings.width, settings.height
            )));
        }
        (settings.width, settings.height) = (width, height);
    }
    settings.check().map_err(|e| wrong(e.to_string()))?;
    Ok(Source::Pipe {
        source,
        settings,
        fixed,
    })
}

/// What the board's file says of the camera, for the driver.
fn settings(board: &Board) -> Result<CameraSettings, CliError> {
    let settings: CameraSettings = board.camera_as()?;
    let wrong = |e: SettingsError| CliError::Usage(format!("board {}: {e}", board.name));
    settings.check().map_err(wrong)?;
    Ok(settings)
}
