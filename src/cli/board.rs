//! `board list`, `board show`, `board check` and `board new`.

use super::{CliError, output};
use clap::Subcommand;
use faprompt_edge::board::{self, Board};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::warn;
use std::fs::File;
use std::io::{Error, ErrorKind, Write};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum BoardCommand {
    /// Every board that is built in
    List,
    /// Pins, ports, safe states of a board, and where each is from
    Show {
        /// A board's name, or a file (.toml)
        board: String,
    },
    /// Check your own files: mistakes with file, line and key. A value that cannot be read hides what comes after it
    Check {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Write the start of your own file, NAME.toml
    New {
        /// What the board is to be called
        name: String,
        /// The board that it is based on
        #[arg(long)]
        base: String,
    },
}

impl BoardCommand {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let mut code = ExitCode::Good;
        let text = match self {
            BoardCommand::List => board::list()?,
            BoardCommand::Show { board } => board::show(&Board::resolve(board)?),
            BoardCommand::Check { files } => {
                let mut good = String::new();
                for file in files {
                    match Board::load(file) {
                        Ok(board) => {
                            let signals = board.wired().len();
                            good += &format!("{}: good, {signals} signals wired\n", file.display());
                        }
                        Err(e) => {
                            warn(e);
                            code = ExitCode::Board;
                        }
                    }
                }
                good
            }
            BoardCommand::New { name, base } => {
                let text = board::start_file(name, base)?;
                let path = PathBuf::from(format!("{name}.toml"));
                File::create_new(&path)
                    .and_then(|mut file| file.write_all(text.as_bytes()))
                    .map_err(|e| match e.kind() {
                        ErrorKind::AlreadyExists => {
                            Error::other("it is there already: choose another name, or remove it")
                        }
                        _ => e,
                    })
                    .map_err(output(&path))?;
                format!("{}\n", path.display())
            }
        };
        super::print(text)?;
        Ok(code)
    }
}
