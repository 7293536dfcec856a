//! Long work: bars that show it, and stopping it without losing anything.

use super::TrainError;
use crate::report::{shown, warn};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
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

/// A line for each of several things that go on at once. On a terminal each stays where it is; elsewhere what is said
/// of them goes to standard error as it comes, with their names.
#[derive(Debug)]
pub struct Lines {
    all: Option<MultiProgress>,
    names: Vec<String>,
    bars: Vec<ProgressBar>,
}

impl Lines {
    /// For things with these names.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Lines {
        let names: Vec<String> = names.map(|n| shown(n).to_string()).collect();
        let all = std::io::stderr().is_terminal().then(MultiProgress::new);
        let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
        let style = ProgressStyle::with_template("{prefix}  {msg}").expect("a constant template");
        let bars = match &all {
            None => Vec::new(),
            Some(all) => (names.iter())
                .map(|name| {
                    let bar = all.add(ProgressBar::new_spinner().with_style(style.clone()));
                    bar.with_prefix(format!("{name:width$}"))
                        .with_message("waits")
                })
                .collect(),
        };
        bars.iter().for_each(ProgressBar::tick);
        Lines { all, names, bars }
    }

    /// What one of them does now.
    pub fn say(&self, place: usize, what: &str) {
        match self.bars.get(place) {
            Some(bar) => bar.set_message(shown(what).to_string()),
            None => warn(format_args!("{}: {what}", self.names[place])),
        }
    }

    /// What one of them came to.
    pub fn end(&self, place: usize, what: &str) {
        self.say(place, what);
        self.bars.get(place).inspect(|bar| bar.abandon());
    }

    /// A bar for bytes below the line of one of them; shown on a terminal only.
    pub fn bar(&self, place: usize) -> ProgressBar {
        match (&self.all, self.bars.get(place)) {
            (Some(all), Some(own)) => all.insert_after(own, bar(0, &self.names[place])),
            _ => ProgressBar::hidden(),
        }
    }

    /// Takes the lines from the terminal: what they came to is said otherwise.
    pub fn clear(&self) {
        // A terminal that went away shows nothing anyway.
        let _ = self.all.as_ref().map(MultiProgress::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_on_a_bar_steers_no_terminal() {
        assert_eq!(bar(3, "a\u{1b}[2Jb\n").prefix(), r"a\u{1b}[2Jb\n");
    }
}
