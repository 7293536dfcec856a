//! Boards: data in `boards/*.toml`, resolved to what a station is made of.
//!
//! A board is a file, never a `cfg`: `build.rs` checks all of them with [`check`] and builds them in, a
//! user's own file gets the same checks at run time. Nothing here decides what a pin is for; nothing
//! outside knows on which chip it is.
//!
//! | module | what it does |
//! |---|---|
//! | [`spec`], [`pins`], `values` | what a file says, as types; its pins; readers of single values |
//! | [`check`] | files merged and checked; mistakes with file, line and key |
//! | `gpio` | chips and lines found; outputs |
//! | `first` | outputs of kernels that have the first GPIO interface only |
//! | `inputs`, `quadrature` | inputs with their times; the encoder |
//! | `sim` | pins without hardware |
//! | `render` | tables for people, the start of a user's own file |

pub mod check;
mod first;
mod gpio;
mod inputs;
pub mod pins;
mod quadrature;
mod render;
mod sim;
pub mod spec;
mod values;

pub use check::{Mistake, Mistakes};
pub use gpio::{GpioChip, GpioChipInfo, GpioLine, OutputError, OutputLine, list_gpio, outputs};
pub use inputs::{Change, InputLine, Inputs, inputs};
pub use render::{list, readme_table, show, start_file};
pub use sim::SimulatedPin;
pub use spec::Board;
pub use values::HostName;

use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Why a board cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// There is no board of this name.
    #[error("no board `{0}`; there is: {1}; a file's name must end in .toml")]
    Unknown(String, String),
    /// The description of the board has mistakes.
    #[error(transparent)]
    Invalid(#[from] Mistakes),
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A signal is wired to a pin that the header does not have. A checked board has no such signal.
    #[error("{0}: there is no pin {1}")]
    NoPin(String, u16),
    /// A signal's line cannot be requested from the kernel.
    #[error("{key}: pin {pin} (GPIO chip {chip}, line {line}): {what}")]
    Line {
        /// The signal's key in the board's file.
        key: String,
        /// The header's pin.
        pin: u16,
        /// The chip, as the file calls it.
        chip: String,
        /// The line, as the file calls it.
        line: String,
        /// The reason.
        what: LineError,
    },
    /// Inputs that the kernel refuses as they are wired, or that cannot be read any more.
    #[error("{chip}: the inputs' lines: {what}", chip = chip.display())]
    Inputs {
        /// Their chip.
        chip: PathBuf,
        /// What the kernel says.
        what: String,
    },
}

/// Why a line cannot be requested.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The chip is not there.
    #[error("there is no such chip; there is: {0} (`doctor` lists chips and lines)")]
    NoChip(String),
    /// Several chips have this label.
    #[error("several chips have this label: say the path of one, /dev/gpiochipN")]
    SeveralChips,
    /// The chip is there, the line is not.
    #[error("the chip has no such line (`doctor` lists chips and lines)")]
    NoLine,
    /// The chip may not be opened.
    #[error(
        "{}: cannot be opened: the user must be in the group gpio (sudo usermod -aG gpio USER, then \
         log in again)", .0.display()
    )]
    Permission(PathBuf),
    /// Another program has the line, or the kernel itself.
    #[error(
        "held by `{0}` (`kernel`: the pin has another function): free it, or wire the signal to another \
         pin"
    )]
    Held(String),
    /// Any other refusal of the kernel, in its words.
    #[error("{0}")]
    Kernel(String),
}

/// Every file of `boards/` with its text, by name; `build.rs` has checked them.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

fn text_of(name: &str) -> Option<&'static str> {
    let found = BUILT_IN.iter().find(|(n, _)| *n == name);
    found.map(|(_, text)| *text)
}

impl Board {
    /// The names of all boards that are built in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let names = BUILT_IN.iter().map(|(name, _)| *name);
        names.filter(|name| *name != check::BASE)
    }

    /// A board that is built in, by name.
    ///
    /// # Errors
    /// [`BoardError::Unknown`], [`BoardError::Invalid`].
    pub fn named(name: &str) -> Result<Board, BoardError> {
        let text = Board::names()
            .find(|n| *n == name)
            .and_then(text_of)
            .ok_or_else(|| {
                let names: Vec<_> = Board::names().collect();
                BoardError::Unknown(name.into(), names.join(", "))
            })?;
        Board::parse(&format!("boards/{name}.toml"), text)
    }

    /// A user's own file. It may be based on any board that is built in.
    ///
    /// # Errors
    /// [`BoardError::Unreadable`], [`BoardError::Invalid`].
    pub fn load(path: &Path) -> Result<Board, BoardError> {
        let text = std::fs::read_to_string(path).map_err(|source| BoardError::Unreadable {
            path: path.to_path_buf(),
            source,
        })?;
        Board::parse(&path.display().to_string(), &text)
    }

    /// What `--board` says: a file if it looks like one (`.toml`), else a name.
    ///
    /// # Errors
    /// The errors of [`Board::load`] and [`Board::named`].
    pub fn resolve(name_or_file: &str) -> Result<Board, BoardError> {
        let path = Path::new(name_or_file);
        if path.extension().is_some_and(|e| e == "toml") {
            Board::load(path)
        } else {
            Board::named(name_or_file)
        }
    }

    /// A camera's section, counted from 0, as another type with the same keys: the capture driver's settings.
    ///
    /// # Errors
    /// [`BoardError::Invalid`] if that type refuses a value that is allowed here.
    pub fn camera_as<T: DeserializeOwned>(&self, place: usize) -> Result<T, BoardError> {
        let section = toml::Value::try_from(self.camera(place)).map_err(|e| e.to_string());
        let camera = section.and_then(|s| s.try_into().map_err(|e| e.message().to_owned()));
        camera.map_err(|what| {
            BoardError::Invalid(Mistakes(vec![Mistake {
                file: format!("board {}", self.name),
                line: None,
                key: Board::CAMERAS[place.min(3)].into(),
                what,
            }]))
        })
    }

    fn parse(file: &str, text: &str) -> Result<Board, BoardError> {
        Ok(check::resolve(file, text, &text_of)?)
    }
}

#[cfg(test)]
mod tests;
