//! Lines for people. A terminal or a pipe that went away never stops a station: unlike `println!`,
//! nothing here panics. Control characters, which names of files may have, are escaped.

use crate::shown::{shown, shown_lines};
use std::fmt::Display;
use std::io::Write;

/// A line on standard output, lost if nobody reads it.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{}", shown_lines(line));
}

/// A line on standard error, lost if nobody reads it.
pub fn warn(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{}", shown_lines(line));
}

/// A record of the log, on one line: for `env_logger`.
///
/// # Errors
/// Standard error cannot be written.
pub fn log_line(
    to: &mut env_logger::fmt::Formatter,
    record: &log::Record<'_>,
) -> std::io::Result<()> {
    let (time, level) = (to.timestamp(), record.level());
    let style = to.default_level_style(level);
    let text = shown(record.args());
    writeln!(
        to,
        "[{time} {style}{level:5}{style:#} {}] {text}",
        record.target()
    )
}
