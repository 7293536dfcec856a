//! Where frames come from: the board's cameras, other devices, folders, the generator.

use super::super::CliError;
use super::Run;
use faprompt_edge::board::Board;
use faprompt_edge::board::spec::Gpio;
use faprompt_edge::capture::{
    Camera, CameraSettings, CaptureError, FaultInjector, FaultPlan, FolderCamera, PIPE,
    PatternCamera, PipeCamera, PipeSource, PipeSourceError, SettingsError, V4l2Camera,
};
use faprompt_edge::line::{VIEWS, View};
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
    /// The source of camera `view`: what the command line says, or the board.
    fn source(&self, board: &Board, view: View) -> Result<Source, CliError> {
        // Other parts than the other cameras', and always the same.
        let seed = self.seed + view.index() as u64;
        Ok(match self.source.get(view.index()) {
            Some(path) if path == Path::new("pattern") => Source::Pattern(seed),
            Some(path) if path.to_string_lossy().starts_with(PIPE) => {
                pipe(&path.to_string_lossy(), board, view, false)?
            }
            Some(path) if path.starts_with("/dev") && !path.is_dir() => {
                Source::Device(CameraSettings {
                    device: path.clone(),
                    ..settings(board, view)?
                })
            }
            Some(path) => Source::Folder(path.clone()),
            None if board.gpio == Gpio::Simulated => Source::Pattern(seed),
            None => {
                let device = &board.camera(view.index()).device;
                match device.starts_with(PIPE) {
                    true => pipe(device, board, view, true)?,
                    false => Source::Device(settings(board, view)?),
                }
            }
        })
    }

    /// The cameras, and how many exposures the first that ends has.
    pub fn cameras(&self, board: &Board) -> Result<(Vec<Open>, Option<u64>), CliError> {
        let count = match self.source.len() {
            0 => board.cameras(),
            count => count,
        };
        if count > VIEWS {
            let what =
                format!("--source is given {count} times: a station has {VIEWS} cameras at most");
            return Err(CliError::Usage(what));
        }
        if self.faults.len() > count {
            let (plans, what) = (self.faults.len(), "a plan for each camera at most");
            return Err(CliError::Usage(format!(
                "--faults is given {plans} times: {what}"
            )));
        }
        let devices = self.source.iter().filter(|path| path.starts_with("/dev"));
        let mut devices: Vec<_> = devices.collect();
        devices.sort();
        if let Some(pair) = devices.windows(2).find(|pair| pair[0] == pair[1]) {
            let what = format!("--source {}: one device is one camera", pair[0].display());
            return Err(CliError::Usage(what));
        }
        let (mut cameras, mut shown) = (Vec::new(), Vec::new());
        for view in View::first(count) {
            let (open, own) = self.camera(board, view)?;
            cameras.push(open);
            shown.push(own);
        }
        let limit = self.frames.or(shown.iter().flatten().min().copied());
        for (source, own) in self.source.iter().zip(shown) {
            if let (Some(limit), Some(own)) = (limit, own)
                && own > limit
                && source.is_dir()
            {
                let (source, left) = (source.display(), own - limit);
                warn(format_args!(
                    "{source}: {left} of {own} photos are not shown: the run ends after {limit} exposures"
                ));
            }
        }
        Ok((cameras, limit))
    }

    /// A camera, and how many exposures it has.
    fn camera(&self, board: &Board, view: View) -> Result<(Open, Option<u64>), CliError> {
        let source = self.source(board, view)?;
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
        let open = match self.faults.get(view.index()) {
            Some(plan) => with_faults(open, plan.clone()),
            None => open,
        };
        Ok((Open { open, live }, count))
    }
}

fn with_faults(mut open: Opener, plan: FaultPlan) -> Opener {
    Box::new(move || Ok(Box::new(FaultInjector::new(open()?, plan.clone()))))
}

/// A command that writes frames, with the settings that count for it. If it is the board's own camera, its frames
/// have the board's width and height.
fn pipe(text: &str, board: &Board, view: View, fixed: bool) -> Result<Source, CliError> {
    let key = Board::CAMERAS[view.index()];
    let wrong = |e: String| match fixed {
        true => CliError::Usage(format!("board {}: {key}.device: {e}", board.name)),
        false => CliError::Usage(e),
    };
    let source: PipeSource = text
        .parse()
        .map_err(|e: PipeSourceError| wrong(e.to_string()))?;
    let mut settings: CameraSettings = board.camera_as(view.index())?;
    settings.format = source.raw().map(|(format, ..)| format);
    if let Some((_, width, height)) = source.raw() {
        if fixed && (width, height) != (settings.width, settings.height) {
            return Err(wrong(format!(
                "{width} x {height} pixels, but {key}.width and {key}.height say {} x {}",
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
fn settings(board: &Board, view: View) -> Result<CameraSettings, CliError> {
    let settings: CameraSettings = board.camera_as(view.index())?;
    let key = Board::CAMERAS[view.index()];
    let wrong = |e: SettingsError| CliError::Usage(format!("board {}: {key}: {e}", board.name));
    settings.check().map_err(wrong)?;
    Ok(settings)
}
