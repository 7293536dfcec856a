//! `flat`: measures how the board's camera's lens darkens its corners, for cameras that deliver raw samples.

use super::{CliError, output};
use clap::Args;
use faprompt_edge::board::Board;
use faprompt_edge::capture::{CameraSettings, V4l2Camera};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::say;
use std::path::PathBuf;

#[derive(Args)]
pub struct FlatFrame {
    /// Which board: a name (`board list`) or a file; its camera looks at an evenly lit grey surface
    #[arg(long)]
    board: String,
    /// Which of the board's cameras, counted from 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    camera: u32,
    /// Where the gains go; `camera.flat` in the board's file names it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Frames that are averaged
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    frames: u32,
}

impl FlatFrame {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let board = Board::resolve(&self.board)?;
        let place = self.camera as usize - 1;
        if place >= board.cameras() {
            let (name, count) = (&board.name, board.cameras());
            let what = format!("--camera {}: board {name} has {count}", self.camera);
            return Err(CliError::Usage(what));
        }
        // What was measured before must not be in it.
        let settings = CameraSettings {
            flat: None,
            ..board.camera_as(place)?
        };
        let mut camera = V4l2Camera::open(settings)?;
        let (flat, [red, green, blue]) = camera.measure_flat(self.frames)?;
        let text = serde_json::to_string(&flat).map_err(|e| CliError::Internal(e.to_string()))?;
        std::fs::write(&self.out, text + "\n").map_err(output(&self.out))?;
        let most = [&flat.red, &flat.green, &flat.blue].map(|gains| {
            let most = gains.iter().fold(1.0f32, |a, b| a.max(*b));
            format!("{most:.2}")
        });
        say(format_args!(
            "{}: gains up to {} (red, green, blue)",
            self.out.display(),
            most.join(", ")
        ));
        let key = Board::CAMERAS[place];
        say(format_args!("in the board's file, under [{key}]:"));
        say(format_args!("  flat = \"{}\"", self.out.display()));
        say(format_args!(
            "  white_balance = [{red:.3}, {green:.3}, {blue:.3}]   # if the surface was grey"
        ));
        Ok(ExitCode::Good)
    }
}
