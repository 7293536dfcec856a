//! The words of the command set for states, causes and counters. They leave the machine: none is ever renamed.

use crate::control::host::{LessonState, Lost, Mode};
use crate::line::{Cause, NetworkState, Outcome, Statistics};

/// The name by which reports call the state of a lesson.
pub fn lesson_name(state: LessonState) -> &'static str {
    match state {
        LessonState::Running => "running",
        LessonState::Preparing => "preparing",
        LessonState::Done => "done",
        LessonState::Failed => "failed",
    }
}

/// Name of a mode.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Starting => "starting",
        Mode::Running => "running",
        Mode::Disarmed => "disarmed",
        Mode::Stopped => "stopped",
        Mode::Blind => "blind",
        Mode::Halted => "halted",
    }
}

/// Name of the state of the network that judges.
pub fn network_name(state: Option<NetworkState>) -> &'static str {
    match state {
        None => "starting",
        Some(NetworkState::Stored) => "stored",
        Some(NetworkState::LastGood) => "last_good",
        Some(NetworkState::Missing | NetworkState::Untaught) => "none",
        Some(NetworkState::ZeroShot) => "zero_shot",
    }
}

/// Every counter with its name.
pub fn counts(s: &Statistics, lost: Lost) -> Vec<(&'static str, u64)> {
    let failed = |c: Cause| s.outcomes.failed[c as usize];
    vec![
        ("parts", s.outcomes.parts),
        ("good", s.outcomes.good),
        ("rejects", s.outcomes.rejects),
        ("rejects_camera_fault", failed(Cause::CameraFault)),
        ("rejects_inference_error", failed(Cause::InferenceError)),
        ("rejects_late", failed(Cause::Late)),
        ("rejects_queue_full", failed(Cause::QueueFull)),
        ("rejects_no_frame", failed(Cause::NoFrame)),
        ("rejects_unknown", failed(Cause::Unknown)),
        ("rejects_not_ready", failed(Cause::NotReady)),
        ("rejects_challenge", failed(Cause::Challenge)),
        ("next_part", s.next_part.0),
        ("triggers_bounced", s.triggers.bounced),
        ("triggers_too_close", s.triggers.too_close),
        ("triggers_unpaired", s.triggers.unpaired),
        ("triggers_unexpected", s.triggers.unexpected),
        ("triggers_skipped", s.triggers.skipped),
        ("frames_paired", s.frames.paired),
        ("frames_damaged", s.frames.damaged),
        ("frames_unpaired", s.frames.unpaired),
        ("frames_ignored", s.frames.ignored),
        ("verdicts_taken", s.verdicts.taken),
        ("verdicts_late", s.verdicts.late),
        ("verdicts_duplicate", s.verdicts.duplicate),
        ("verdicts_unknown", s.verdicts.unknown),
        ("verdicts_ignored", s.verdicts.ignored),
        ("rejects_confirmed", s.confirms.confirmed),
        ("rejects_unconfirmed", s.confirms.missing),
        ("confirms_unexpected", s.confirms.unexpected),
        ("encoder_reversals", s.encoder_reversals),
        ("actuated_late", s.actuated_late),
        ("rejects_nothing_visible", failed(Cause::NothingVisible)),
        ("rejects_frozen", failed(Cause::Frozen)),
        ("rejects_overload", failed(Cause::Overload)),
        ("rejects_light", failed(Cause::Light)),
        ("result_lines_lost", lost.lines),
        ("pictures_lost", lost.pictures),
    ]
}

/// The words for a part's outcome: `good` or `reject`, and the cause if that was not its score.
pub fn outcome_words(outcome: Outcome) -> (&'static str, Option<&'static str>) {
    match outcome {
        Outcome::Good => ("good", None),
        Outcome::Reject => ("reject", None),
        Outcome::RejectBecause(cause) => ("reject", Some(cause_name(cause))),
    }
}

/// The name by which reports call the cause of a reject.
pub fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::CameraFault => "camera_fault",
        Cause::InferenceError => "inference_error",
        Cause::Late => "late",
        Cause::QueueFull => "queue_full",
        Cause::NoFrame => "no_frame",
        Cause::Unknown => "unknown",
        Cause::NotReady => "not_ready",
        Cause::Challenge => "challenge",
        Cause::NothingVisible => "nothing_visible",
        Cause::Frozen => "frozen",
        Cause::Overload => "overload",
        Cause::Light => "light",
    }
}
