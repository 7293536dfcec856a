//! What stands in a line of `verdicts.jsonl` and of `events.jsonl`, and what of it is known before it can be written.

use super::{Judgement, Picture};
use crate::control::host::PartResult;
use crate::line::{Micros, Outcome, VIEWS, View};
use serde::Serialize;

/// A line of verdicts.jsonl, written when the part has its outcome. Times in `_us` are microseconds on
/// CLOCK_MONOTONIC.
#[derive(Serialize)]
pub(super) struct PartLine<'a> {
    pub(super) part: u64,
    pub(super) name: &'a str,
    pub(super) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f32>,
    /// The scores of FAPrompt and of the memory, where good parts were taught.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zero_shot: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency_ms: Option<f64>,
    pub(super) triggered_us: u64,
    /// When the part is at the reject station: microseconds, or encoder counts.
    pub(super) due: u64,
    pub(super) at_us: u64,
    /// `at_us` by the system's clock.
    pub(super) utc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warning: Option<&'static str>,
    /// The type of its defect, if its score rejected it; `unknown` where two are about as likely.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'a str>,
    /// Share of that type among all types, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) type_share: Option<f32>,
    /// Number of the lane that its reject started in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lane: Option<u8>,
    /// Where there are several cameras: the one whose score, name and error these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) camera: Option<u8>,
    /// Where there are several cameras: each that had a verdict, or a frame that cannot be judged, by now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) views: Vec<ViewLine<'a>>,
}

/// What one of several cameras saw of a part.
#[derive(Serialize)]
pub(super) struct ViewLine<'a> {
    pub(super) camera: u8,
    pub(super) name: &'a str,
    pub(super) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
}

impl<'a> ViewLine<'a> {
    /// Of the camera's judgement.
    pub(super) fn of(view: View, judgement: &'a Judgement) -> ViewLine<'a> {
        let outcome = match judgement.score {
            Some(score) => Outcome::of(score, judgement.threshold).word(),
            None => "not judged",
        };
        ViewLine {
            camera: view.number(),
            name: &judgement.name,
            outcome,
            score: judgement.score,
            error: judgement.error.as_deref(),
        }
    }
}

/// A line of events.jsonl.
#[derive(Serialize)]
pub(super) struct EventLine {
    #[serde(flatten)]
    pub(super) event: Event,
    pub(super) at_us: u64,
    pub(super) utc: String,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    Alarm {
        number: u8,
        alarm: String,
    },
    Reset {
        alarms: u32,
    },
    Challenge {
        pieces: u32,
        detected: u32,
        missed: u32,
        not_judged: u32,
    },
}

/// What is known of a part so far. Judgements, pictures and outcome come in any order: the verdict of a late part
/// comes after its outcome.
#[derive(Default)]
pub(super) struct Known {
    pub(super) views: [Seen; VIEWS],
    pub(super) outcome: Option<(PartResult, Micros)>,
}

/// What one camera saw of it.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) judgement: Option<Judgement>,
    pub(super) picture: Option<Box<Picture>>,
}

impl Known {
    /// The camera whose name and error are reported for the part: the one that decided it, or the first that
    /// failed.
    pub(super) fn teller(&self, decided: View, scored: bool) -> View {
        let is_there = |view: &View| self.views[view.index()].judgement.is_some();
        let failed = |view: &View| {
            let judgement = self.views[view.index()].judgement.as_ref();
            judgement.is_some_and(|j| j.error.is_some())
        };
        let all = || View::ALL.into_iter().filter(is_there);
        let wrong = all().find(failed).filter(|_| !scored);
        wrong
            .or(Some(decided).filter(is_there))
            .or(all().next())
            .unwrap_or_default()
    }
}
