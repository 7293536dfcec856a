//! What cannot be written: counted each time, said once until writing works again.

use crate::control::host::Lost;
use crate::runtime::shared::Shared;
use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::Ordering;

/// What is written. On a disk that is nearly full one kind may go on where another fails.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Results,
    Events,
    Pictures,
}

/// For each kind that cannot be written now, what was lost before that began.
#[derive(Default)]
pub(super) struct Losses([Option<Lost>; 3]);

impl Losses {
    /// Takes in whether something could be written; if not, counts it. Returns what people must be told, if
    /// anything: writing fails, or works again.
    pub(super) fn note(
        &mut self,
        shared: &Shared,
        kind: Kind,
        path: &Path,
        written: Result<(), impl Display>,
    ) -> Option<String> {
        let failing = &mut self.0[kind as usize];
        let (path, so_far) = (path.display(), shared.losses());
        let Err(reason) = written else {
            let before = failing.take()?;
            return Some(format!(
                "{path}: written again; lines lost meanwhile: {}, pictures: {}",
                so_far.lines - before.lines,
                so_far.pictures - before.pictures
            ));
        };
        match kind {
            Kind::Results | Kind::Events => _ = shared.lost.fetch_add(1, Ordering::Relaxed),
            Kind::Pictures => {
                shared.pictures_lost.fetch_add(1, Ordering::Relaxed);
                shared.pictures_unwritten.fetch_add(1, Ordering::Relaxed);
            }
        }
        // A full disk is said once, not once per part.
        if failing.is_some() {
            return None;
        }
        *failing = Some(so_far);
        Some(format!(
            "{path}: cannot be written: {reason}; what is lost from here on is counted"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{AlarmSet, Statistics};

    #[test]
    fn each_episode_is_said_once_and_its_end_says_what_was_lost() {
        let settings = crate::control::Values::default().settings().unwrap();
        let shared = Shared::new(&settings, Statistics::default(), AlarmSet::NONE);
        let mut losses = Losses::default();
        let mut note = |kind, path: &str, full: bool| {
            let written = if full { Err("disk full") } else { Ok(()) };
            losses.note(&shared, kind, path.as_ref(), written)
        };
        let fails = |path: &str| {
            let text = "cannot be written: disk full; what is lost from here on is counted";
            Some(format!("{path}: {text}"))
        };
        let again = |path: &str, lines, pictures| {
            let lost = format!("lines lost meanwhile: {lines}, pictures: {pictures}");
            Some(format!("{path}: written again; {lost}"))
        };
        assert_eq!(note(Kind::Results, "v", false), None);
        assert_eq!(note(Kind::Results, "v", true), fails("v"));
        assert_eq!(note(Kind::Results, "v", true), None);
        assert_eq!(note(Kind::Pictures, "a", true), fails("a"));
        assert_eq!(note(Kind::Events, "e", false), None);
        // What found no room meanwhile counts, too.
        shared.lost.fetch_add(5, Ordering::Relaxed);
        assert_eq!(note(Kind::Results, "v", false), again("v", 7, 1));
        assert_eq!(note(Kind::Results, "v", false), None);
        // The second episode, while pictures are still in their first.
        assert_eq!(note(Kind::Results, "v", true), fails("v"));
        assert_eq!(note(Kind::Pictures, "a", true), None);
        assert_eq!(note(Kind::Pictures, "a", false), again("a", 6, 2));
        assert_eq!(note(Kind::Results, "v", false), again("v", 1, 1));
        let lost = Lost {
            lines: 8,
            pictures: 2,
        };
        assert_eq!(shared.losses(), lost);
        assert_eq!(shared.snapshot().lost, lost);
        assert_eq!(shared.pictures_unwritten.load(Ordering::Relaxed), 2);
    }
}
