//! What the core reports goes on from here: frames to judge, triggers to the cameras, outcomes and alarms to the recorder.

use super::super::judges::{Job, Judges};
use super::super::mailbox::Post;
use super::super::message::NO_PICTURE;
use super::super::places::GiveBack;
use super::super::record::{Record, RecordSender};
use super::super::shared::Shared;
use crate::control::host::{Opinions, PartResult};
use crate::line::station::PARTS;
use crate::line::{
    AlarmChange, AlarmHistory, DefectType, Event, Micros, Observer, Outcome, PartId, View,
};
use std::sync::Arc;

/// Where the output thread's own messages go.
pub struct Outlets {
    /// The networks' lanes, for frames that are to be judged.
    pub judges: Judges,
    /// One lane per camera, for the times at which it has to expose (or, if it exposes by itself, to answer).
    pub expose: Vec<Post<Micros>>,
    /// Returns the places of frames that show no part.
    pub back: GiveBack,
    /// The recorder's lane: outcomes, alarms and challenges.
    pub record: RecordSender,
}

/// Passes on what the core reports: frames to judge, triggers, outcomes, alarms.
pub(super) struct Tell {
    pub(super) outlets: Outlets,
    pub(super) shared: Arc<Shared>,
    /// The score of each part on the belt.
    pub(super) scores: Box<[Judged; PARTS]>,
    /// The generation of the loadout in force; a frame is judged by the network of this generation or a later one.
    pub(super) generation: u32,
    pub(super) triggered: u64,
    pub(super) finished: u64,
    pub(super) alarm_history: AlarmHistory,
    pub(super) last: Option<PartResult>,
}

/// What is remembered of a part from its first verdict until its outcome.
#[derive(Clone, Copy)]
pub(super) struct Judged {
    pub(super) part: PartId,
    pub(super) at: Micros,
    pub(super) due: u64,
    pub(super) score: Option<f32>,
    /// The camera that this score comes from.
    pub(super) view: View,
    /// Whether this score rejects the part.
    pub(super) rejects: bool,
    pub(super) opinions: Option<Opinions>,
    pub(super) latency_us: Option<u64>,
    pub(super) defect: DefectType,
    pub(super) share: Option<f32>,
}

pub(super) const NOT_JUDGED: Judged = Judged {
    part: PartId(u64::MAX),
    at: Micros(0),
    due: 0,
    score: None,
    view: View::FIRST,
    rejects: false,
    opinions: None,
    latency_us: None,
    defect: DefectType::None,
    share: None,
};

impl Judged {
    /// Whether the score of one more view replaces the one that is reported for the part: the first score that
    /// rejects it stays, otherwise the largest counts.
    pub(super) fn is_replaced_by(&self, score: Option<f32>, rejects: bool, cameras: usize) -> bool {
        match (self.rejects, rejects) {
            _ if cameras == 1 => true,
            (true, _) => false,
            (false, true) => true,
            (false, false) => self.score.is_none() || score > self.score,
        }
    }
}

impl Tell {
    pub(super) fn of(&mut self, part: PartId) -> &mut Judged {
        &mut self.scores[part.0 as usize % PARTS]
    }

    pub(super) fn job(&mut self, job: Job) {
        // There is room for every place; it fails only when the inference thread is gone, and the part is
        // rejected as late.
        let _ = self.outlets.judges.try_send(job);
    }

    fn log(&mut self, record: Record) {
        self.outlets.record.send(&self.shared, record);
    }
}

impl Observer for Tell {
    fn event(&mut self, now: Micros, event: Event) {
        match event {
            Event::Triggered { part, at, due } => {
                self.triggered += 1;
                *self.of(part) = Judged {
                    part,
                    at,
                    due: due.0,
                    ..NOT_JUDGED
                };
                // Without room the part has no frame, and is rejected.
                for camera in &mut self.outlets.expose {
                    let _ = camera.try_send(at);
                }
            }
            Event::Paired { part, frame } => self.job(Job::Judge {
                part,
                frame,
                generation: self.generation,
            }),
            Event::Dropped { frame, .. } if frame == NO_PICTURE => (),
            Event::Dropped {
                frame,
                part: Some(part),
            } => self.job(Job::Damaged { part, frame }),
            Event::Dropped { frame, part: None } => self.outlets.back.give(frame),
            Event::Outcome {
                part,
                outcome,
                lane,
            } => {
                self.finished += 1;
                let known = *self.of(part);
                let known = if known.part == part {
                    known
                } else {
                    NOT_JUDGED
                };
                let result = PartResult {
                    part,
                    outcome,
                    score: known.score,
                    view: known.view,
                    opinions: known.opinions,
                    latency_us: known.latency_us,
                    defect: match outcome {
                        Outcome::Reject => known.defect,
                        _ => DefectType::None,
                    },
                    share: known.share.filter(|_| outcome == Outcome::Reject),
                    lane,
                };
                self.last = Some(result);
                self.outlets.record.send(
                    &self.shared,
                    Record::Outcome {
                        result,
                        triggered: known.at,
                        due: known.due,
                        at: now,
                    },
                );
            }
            Event::Alarm(alarm) => {
                self.alarm_history.push(now, AlarmChange::Raised(alarm));
                self.log(Record::Alarm { alarm, at: now });
            }
            Event::Reset(alarms) => {
                self.alarm_history.push(now, AlarmChange::Reset(alarms));
                self.log(Record::Reset { alarms, at: now });
            }
            Event::Challenge(report) => self.log(Record::Challenge { report, at: now }),
        }
    }
}
