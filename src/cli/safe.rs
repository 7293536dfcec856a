//! `safe`: puts the outputs into their safe state and leaves. For the moments in which no station drives
//! them: after it was killed, before it starts.

use super::CliError;
use clap::Args;
use faprompt_edge::board::{self, Board};
use faprompt_edge::control::{Memory, Store};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::line::{Outputs, Wiring};
use faprompt_edge::report::warn;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
        let factory = Wiring::default();
        let safe = match self.state.as_deref().map_or(Some(factory), wiring) {
            Some(wiring) => Outputs::safe(wiring),
            None => Outputs {
                reject: true,
                ..Outputs::safe(factory)
            },
        };
        // Lines are requested at their safe levels; what they do after that is the board's `unattended`.
        board::outputs(&board, &safe)?;
        Ok(ExitCode::Good)
    }
}

/// How the ejector is wired; `None` if that is not stored: `good` off and `reject` on are safe either way. Changes
/// nothing: the memory may be a newer program's, or damaged, and the outputs must become safe all the same.
fn wiring(state: &Path) -> Option<Wiring> {
    let stored = match Store::look(state, &Memory::default()) {
        Ok(stored) => stored,
        Err(e) => {
            // It was never stored: the default of the factory.
            if e.error.kind() == ErrorKind::NotFound {
                return Some(Wiring::default());
            }
            warn(format_args!("{e}; outputs safe for either wiring"));
            return None;
        }
    };
    match stored.memory.values().settings() {
        Ok(settings) => Some(settings.wiring),
        Err(e) => {
            warn(format_args!("{e}; outputs safe for either wiring"));
            None
        }
    }
}
