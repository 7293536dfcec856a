//! Lines for people. A terminal or a pipe that went away never stops a station: unlike `println!`,
//! nothing here panics.

use std::fmt::Display;
use std::io::Write;

/// A line on standard output, lost if nobody reads it.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error, lost if nobody reads it.
pub fn warn(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
