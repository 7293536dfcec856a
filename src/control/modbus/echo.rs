//! The echo of what this station sends: an RS-485 adapter whose receiver stays on while it sends hands it
//! back as if it had come from the line.
//!
//! Functions 5 and 6 are answered with the request itself: an echo that is taken for a request is carried out,
//! answered, and comes back again, without end. What tells them apart is the order (an echo is the first that
//! comes after an answer), and what is known of the adapter: an answer to a read that comes back can be nothing
//! else.

use super::frame::{Adu, is_request};
use std::time::{Duration, Instant};

/// So long after an answer its echo may come: an adapter on a USB hands over what it has received every
/// 16 ms, and this machine may have other work. Where it is not known whether the adapter echoes, a master that
/// gives the same order again within that time has to repeat it, once.
const PATIENCE: Duration = Duration::from_millis(100);

/// So many echoes in a row have to be missing until the adapter has none any more; one may be damaged.
const MISSING: u8 = 2;

/// What is known of the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing yet.
    Nothing,
    /// It gave back what could also have been a request.
    Suspected,
    /// It gave back what can be no request.
    Echoes,
    /// It did not give an answer back.
    Silent,
}

/// What was sent last, and whether it may come back.
#[derive(Debug)]
pub(super) struct Echo {
    sent: Adu,
    /// It has neither come back nor been given up until then.
    until: Option<Instant>,
    /// Something came since that is no frame: it may have been the echo.
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

    /// An answer has been sent.
    pub(super) fn sent(&mut self, answer: &Adu, now: Instant) {
        if self.until.is_some() {
            self.is_missing();
        }
        self.sent.clone_from(answer);
        self.until = Some(now + PATIENCE);
        self.disturbed = false;
    }

    /// What comes back, if it comes: bytes that begin with it are the echo.
    pub(super) fn expected(&self) -> Option<&[u8]> {
        let ambiguous = is_request(&self.sent);
        let awaited = self.until.is_some() && !(ambiguous && self.known == Known::Silent);
        awaited.then_some(&self.sent)
    }

    /// It came back.
    pub(super) fn came(&mut self) {
        self.until = None;
        self.missing = 0;
        match (is_request(&self.sent), self.known) {
            (false, _) => self.known = Known::Echoes,
            (true, Known::Nothing) => self.known = Known::Suspected,
            (true, _) => (),
        }
    }

    /// Something else came that is no frame.
    pub(super) fn disturb(&mut self) {
        self.disturbed = true;
    }

    /// A whole frame came before the echo: there is none.
    pub(super) fn overtaken(&mut self) {
        if self.until.is_some() {
            self.is_missing();
        }
    }

    /// Nothing has come until now: everything that had been there was read.
    pub(super) fn idle(&mut self, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            self.is_missing();
        }
    }

    /// Time passed in which nothing was read.
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
