//! `safe`: puts the outputs into their safe state and leaves. For the moments in which no station drives
//! them: after it was killed, before it starts.

use super::CliError;
use clap::Args;
use faprompt_edge::board::{self, Board};
use faprompt_edge::control::{Memory, Store};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::line::{Outputs, Wiring};
use std::path::PathBuf;

#[derive(Args)]
pub struct Safe {
    /// Which board: a name (`board list`) or a file
    #[arg(long)]
    board: String,
    /// The station's memory: it knows how the ejector is wired [default: energise for good]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Safe {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let board = Board::resolve(&self.board)?;
        let wiring = match &self.state {
            None => Wiring::default(),
            Some(state) => {
                let (_, restored) = Store::open(state, &Memory::default())?;
                let values = restored.stored.memory.values();
                let settings = values.settings();
                settings.map_err(|e| CliError::Usage(e.to_string()))?.wiring
            }
        };
        // Lines are requested at their safe levels; what they do after that is the board's `unattended`.
        board::outputs(&board, &Outputs::safe(wiring))?;
        Ok(ExitCode::Good)
    }
}
