//! Boards: data in `boards/*.toml`, resolved to what a station is made of.
//!
//! So far the one board without hardware. Real ones add pins, ports and cameras here, never a `cfg`.

mod sim;

pub use sim::SimulatedPin;

use serde::Deserialize;

/// A board as its file describes it, checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What `--board` calls it.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The reject output.
    pub reject: RejectSpec,
}

/// When and how long the reject output is active.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectSpec {
    /// From the exposure to the reject station, 0..=10,000 ms.
    pub delay_ms: u64,
    /// Pulse width, 1..=10,000 ms.
    pub pulse_ms: u64,
}

/// Why a board cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// No such board.
    #[error("no board `{0}`; there is: {1}")]
    Unknown(String, String),
    /// A description that is not understood.
    #[error("boards/{0}.toml: {1}")]
    Invalid(String, String),
}

const BUILT_IN: [(&str, &str); 1] = [("sim", include_str!("../../boards/sim.toml"))];

impl Board {
    /// A board by name.
    ///
    /// # Errors
    /// Every [`BoardError`].
    pub fn named(name: &str) -> Result<Board, BoardError> {
        let names = || BUILT_IN.map(|(n, _)| n).join(", ");
        let (_, text) = BUILT_IN
            .iter()
            .find(|(n, _)| *n == name)
            .ok_or_else(|| BoardError::Unknown(name.into(), names()))?;
        Board::parse(name, text)
    }

    fn parse(name: &str, text: &str) -> Result<Board, BoardError> {
        let invalid = |what: String| BoardError::Invalid(name.into(), what);
        let board: Board = toml::from_str(text).map_err(|e| invalid(e.to_string()))?;
        for (key, value, low) in [
            ("delay_ms", board.reject.delay_ms, 0),
            ("pulse_ms", board.reject.pulse_ms, 1),
        ] {
            if !(low..=10_000).contains(&value) {
                return Err(invalid(format!(
                    "reject.{key} = {value} is not in {low}..=10000"
                )));
            }
        }
        Ok(board)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_boards_are_valid_and_called_by_their_name() {
        for (name, _) in BUILT_IN {
            assert_eq!(Board::named(name).unwrap().name, name);
        }
        let error = Board::named("toaster").unwrap_err().to_string();
        assert!(
            error.contains("toaster") && error.contains("sim"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named() {
        let good = BUILT_IN[0].1;
        for (from, to, word) in [
            ("delay_ms = 1500", "delay_ms = 10001", "delay_ms"),
            ("pulse_ms = 40", "pulse_ms = 0", "pulse_ms"),
            ("pulse_ms = 40", "puls_ms = 40", "puls_ms"),
            ("delay_ms = 1500", "delay_ms = -1", "delay_ms"),
        ] {
            let error = Board::parse("x", &good.replace(from, to))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("boards/x.toml") && error.contains(word),
                "{error}"
            );
        }
    }
}
