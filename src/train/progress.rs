//! Long work: bars that show it, and stopping it without losing anything.

use super::TrainError;
use crate::report::shown;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<Result<(), String>> = OnceLock::new();

/// Whether Ctrl-C (or a termination signal) came. The work stops at its next safe place.
#[derive(Clone, Copy, Debug)]
pub struct Interrupt;

impl Interrupt {
    /// Catches the signals from now on; a second one ends the program at once.
    ///
    /// # Errors
    /// [`TrainError::Options`] if the system refuses.
    pub fn catch() -> Result<Interrupt, TrainError> {
        HANDLER
            .get_or_init(|| {
                ctrlc::set_handler(|| {
                    if STOP.swap(true, Ordering::SeqCst) {
                        // 128 + SIGINT, as shells have it.
                        std::process::exit(130);
                    }
                })
                .map_err(|e| e.to_string())
            })
            .clone()
            .map_err(|e| TrainError::Options(format!("Ctrl-C cannot be caught: {e}")))?;
        Ok(Interrupt)
    }

    /// Whether one came.
    pub fn came(self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

/// A bar of `len` steps of `what`, which may be the name of a file.
pub fn bar(len: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {eta} {msg}")
        .expect("a constant template");
    ProgressBar::new(len as u64)
        .with_style(style)
        .with_prefix(shown(what).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_on_a_bar_steers_no_terminal() {
        assert_eq!(bar(3, "a\u{1b}[2Jb\n").prefix(), r"a\u{1b}[2Jb\n");
    }
}
