//! The echo of what this station sends: an RS-485 adapter whose receiver stays on while it sends returns it as if
//! it had come from the line.
//!
//! Functions 5 and 6 are answered with the request itself: an echo that is taken for a request is carried out,
//! answered, and comes back again, without end. What tells them apart is the order (an echo is the first that
//! comes after an answer), and what is known of the adapter: an answer to a read that comes back can be nothing
//! else.

use super::frame::{Adu, is_request};
use std::time::{Duration, Instant};

/// How long after an answer its echo may come: a USB adapter hands over what it has received every 16 ms, and this
/// machine may have other work. While it is not known whether the adapter echoes, a master that gives the same
/// order again within that time has to repeat it, once.
const PATIENCE: Duration = Duration::from_millis(100);

/// After this many missing echoes in a row the adapter counts as one without echo; one may be damaged.
const MISSING: u8 = 2;

/// Whether the adapter echoes, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing is known yet.
    Nothing,
    /// It returned something that could also have been a request.
    Suspected,
    /// It returned something that can be no request.
    Echoes,
    /// It did not return an answer.
    Silent,
}

/// The last frame that was sent, and whether it may come back.
#[derive(Debug)]
pub(super) struct Echo {
    sent: Adu,
    /// Until when its echo may come; `None`: it has come, or is not expected any more.
    until: Option<Instant>,
    /// Whether something came since that is no frame: it may have been the echo.
    disturbed: bool,
    known: Known,
    missing: u8,
}

impl Default for Echo {
    fn default() -> Self {
        Echo {
            sent: Adu::new(),
            until: None,
            disturbed: false,
            known: Known::Nothing,
            missing: 0,
        }
    }
}

impl Echo {
    /// Whether the adapter echoes, as far as is known.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.known, Known::Suspected | Known::Echoes)
    }

    /// Notes that an answer has been sent.
    pub(super) fn sent(&mut self, answer: &Adu, now: Instant) {
        if self.until.is_some() {
            self.is_missing();
        }
        self.sent.clone_from(answer);
        self.until = Some(now + PATIENCE);
        self.disturbed = false;
    }

    /// The frame that may come back: bytes that begin with it are the echo.
    pub(super) fn expected(&self) -> Option<&[u8]> {
        let ambiguous = is_request(&self.sent);
        let awaited = self.until.is_some() && !(ambiguous && self.known == Known::Silent);
        awaited.then_some(&self.sent)
    }

    /// Notes that the echo has come.
    pub(super) fn came(&mut self) {
        self.until = None;
        self.missing = 0;
        match (is_request(&self.sent), self.known) {
            (false, _) => self.known = Known::Echoes,
            (true, Known::Nothing) => self.known = Known::Suspected,
            (true, _) => (),
        }
    }

    /// Notes that something came that is no frame.
    pub(super) fn disturb(&mut self) {
        self.disturbed = true;
    }

    /// Notes that a whole frame came before the echo: there is none.
    pub(super) fn overtaken(&mut self) {
        if self.until.is_some() {
            self.is_missing();
        }
    }

    /// Notes that everything that had come by `now` was read.
    pub(super) fn idle(&mut self, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            self.is_missing();
        }
    }

    /// Notes that nothing was read until `now`.
    pub(super) fn not_listening(&mut self, now: Instant) {
        self.until = self.until.map(|_| now + PATIENCE);
    }

    fn is_missing(&mut self) {
        self.until = None;
        if self.disturbed {
            return;
        }
        self.missing = self.missing.saturating_add(1);
        if self.known != Known::Echoes || self.missing >= MISSING {
            self.known = Known::Silent;
        }
    }
}
