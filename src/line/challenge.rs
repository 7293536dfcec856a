//! Challenge: test pieces that the station must reject, to prove that it can.
//!
//! A piece passes the test only if its own verdict rejects it in time. One that the network calls good
//! is missed; one without a verdict proves nothing. Both fail the challenge. Every piece leaves the belt.

use super::bounds::Pieces;
use super::outcome::{Cause, Outcome};

/// What became of the test pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChallengeReport {
    /// The number of test pieces that were announced.
    pub pieces: u32,
    /// Test pieces that their own verdict rejected in time.
    pub detected: u32,
    /// Test pieces that the network called good.
    pub missed: u32,
    /// Test pieces without a verdict in time, or never triggered because the challenge was broken off.
    pub not_judged: u32,
}

impl ChallengeReport {
    /// Whether every piece has its result.
    pub fn is_over(&self) -> bool {
        self.detected + self.missed + self.not_judged >= self.pieces
    }

    /// Whether every piece was detected.
    pub fn passed(&self) -> bool {
        self.detected == self.pieces
    }
}

/// Why a challenge cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeError {
    /// The station is not ready.
    NotReady,
    /// Another challenge is running.
    Running,
}

impl core::fmt::Display for ChallengeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ChallengeError::NotReady => "the station is not ready",
            ChallengeError::Running => "a challenge is running",
        })
    }
}

impl core::error::Error for ChallengeError {}

/// The challenge that runs, or the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Challenge {
    report: Option<ChallengeReport>,
    /// Pieces that are yet to be triggered.
    to_come: u32,
}

impl Challenge {
    pub(super) fn report(&self) -> Option<ChallengeReport> {
        self.report
    }

    pub(super) fn is_running(&self) -> bool {
        self.report.is_some_and(|r| !r.is_over())
    }

    pub(super) fn start(&mut self, pieces: Pieces) {
        self.to_come = pieces.get();
        self.report = Some(ChallengeReport {
            pieces: pieces.get(),
            detected: 0,
            missed: 0,
            not_judged: 0,
        });
    }

    /// A part was triggered. Returns whether it is a test piece.
    pub(super) fn take_piece(&mut self) -> bool {
        let piece = self.to_come > 0;
        self.to_come -= u32::from(piece);
        piece
    }

    /// A piece has its outcome. Returns the report as it is now; `None` if the challenge is over: a piece that was
    /// arriving when the line stopped has been counted already.
    pub(super) fn record(&mut self, outcome: Outcome) -> Option<ChallengeReport> {
        let report = self.report.as_mut().filter(|r| !r.is_over())?;
        match outcome {
            Outcome::Reject => report.detected += 1,
            Outcome::RejectBecause(Cause::Challenge) => report.missed += 1,
            Outcome::Good | Outcome::RejectBecause(_) => report.not_judged += 1,
        }
        Some(*report)
    }

    /// Breaks it off: pieces without a result stay without one. Returns the report, if one was running.
    pub(super) fn break_off(&mut self) -> Option<ChallengeReport> {
        self.to_come = 0;
        let report = self.report.as_mut().filter(|r| !r.is_over())?;
        report.not_judged = report.pieces - report.detected - report.missed;
        Some(*report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pieces_rejected_by_their_verdict_pass() {
        let mut challenge = Challenge::default();
        challenge.start(Pieces::new(2).unwrap());
        assert!(challenge.take_piece() && challenge.take_piece() && !challenge.take_piece());
        assert!(!challenge.record(Outcome::Reject).unwrap().is_over());
        assert!(challenge.record(Outcome::Reject).unwrap().passed());
        challenge.start(Pieces::new(3).unwrap());
        assert!(challenge.take_piece());
        let missed = Outcome::RejectBecause(Cause::Challenge);
        assert_eq!(challenge.record(missed).unwrap().missed, 1);
        let report = challenge.break_off().unwrap();
        assert!(report.is_over() && !report.passed());
        assert_eq!((report.missed, report.not_judged), (1, 2));
        assert!(!challenge.take_piece() && challenge.break_off().is_none());
    }
}
