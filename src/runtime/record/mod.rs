//! Results on disk: a line per part, pictures of rejects, alarms.
//!
//! The line never waits for the recorder. A record that finds no room in its queue, or cannot be written, is
//! counted. What is kept is bounded, on disk too.
//!
//! | module | what it does |
//! |---|---|
//! | `entries` | what stands in a line of each file |
//! | `folder` | the folder of results, or why it cannot be written |
//! | `lines` | files that grow line by line |
//! | `losses` | what could not be written: counted, and said once |
//! | `overlay` | a part's picture, drawn |
//! | [`pictures`] | the archive: pictures by day |
//! | `recorder` | the thread that writes |

mod entries;
mod folder;
mod lines;
mod losses;
mod overlay;
pub mod pictures;
mod recorder;

pub use recorder::{Failed, Recorder};

use super::mailbox::{Mailbox, Post};
use super::shared::Shared;
use crate::control::host::{NetworkLabel, PartResult};
use crate::inspector::Inspection;
use crate::line::{Alarm, AlarmSet, ChallengeReport, Micros, PartId, View};
use image::RgbImage;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Outcomes that wait at most: some seconds of the fastest line.
const OUTCOMES: usize = 4096;
/// Judgements and pictures of one network that wait at most.
const JUDGEMENTS: usize = 1024;
/// Most pictures that wait in memory; rejects beyond that get no overlay, and are counted.
pub(super) const PICTURES: usize = 24;

/// A frame, and what the network found on it.
pub struct Picture {
    /// The frame, 8-bit RGB.
    pub frame: RgbImage,
    /// The network's scores and heat map of the frame; `None`: it could not be judged.
    pub inspection: Option<Inspection>,
}

/// The result of judging one frame.
#[derive(Clone)]
pub struct Judgement {
    /// Name of the frame.
    pub name: String,
    /// Whether the part is defective, where the source knows.
    pub defective: Option<bool>,
    /// The frame's score, 0..=1; `None` if it could not be judged.
    pub score: Option<f32>,
    /// Why the frame could not be judged.
    pub error: Option<String>,
    /// Label of the network that judged it.
    pub network: Option<Arc<NetworkLabel>>,
    /// The threshold that it was compared with, 0..=1.
    pub threshold: f32,
    /// Whether the picture follows in a record of its own.
    pub picture: bool,
    /// Whether the picture is for somebody who looks at the web page now.
    pub shows: bool,
    /// Whether the picture is kept although the part passes: it came while good parts were taught, and somebody
    /// may look for an odd one, or it is one of the sample of parts that pass.
    pub sample: bool,
}

/// A message to the recorder.
pub enum Record {
    /// A frame was judged, or could not be.
    Judged {
        /// The part that the frame shows.
        part: PartId,
        /// The camera that the frame is from.
        view: View,
        /// Its score, or why there is none.
        judgement: Judgement,
    },
    /// The picture of a part that is to be kept.
    Picture {
        /// The part that the picture shows.
        part: PartId,
        /// The camera that the picture is from.
        view: View,
        /// The frame, and its heat map if it has one.
        picture: Box<Picture>,
    },
    /// A part has its outcome.
    Outcome {
        /// The part's outcome, score, cause and latency.
        result: PartResult,
        /// When it was triggered.
        triggered: Micros,
        /// When the part is at the reject station: microseconds on the same clock, or encoder counts.
        due: u64,
        /// When it got its outcome.
        at: Micros,
    },
    /// An alarm was raised.
    Alarm {
        /// The alarm that was raised.
        alarm: Alarm,
        /// When it was raised.
        at: Micros,
    },
    /// Alarms were reset.
    Reset {
        /// The alarms that were latched until then.
        alarms: AlarmSet,
        /// When they were reset.
        at: Micros,
    },
    /// A challenge is over.
    Challenge {
        /// How many test pieces were announced, detected, missed and not judged.
        report: ChallengeReport,
        /// When it ended.
        at: Micros,
    },
}

/// A lane to the recorder, for one sender.
pub struct RecordSender {
    records: Post<Record>,
    pictures: Arc<AtomicUsize>,
}

impl RecordSender {
    /// Hands a record over. Never waits.
    pub fn send(&mut self, shared: &Shared, record: Record) {
        if let Err(record) = self.records.try_send(record) {
            match record {
                Record::Picture { .. } => {
                    self.pictures.fetch_sub(1, Ordering::Relaxed);
                    shared.pictures_lost.fetch_add(1, Ordering::Relaxed);
                }
                _ => _ = shared.lost.fetch_add(1, Ordering::Relaxed),
            }
        }
    }

    /// Whether one more picture may wait; then it must be sent. Otherwise it is counted as lost.
    pub fn takes_a_picture(&self, shared: &Shared) -> bool {
        let waiting = self.pictures.fetch_add(1, Ordering::Relaxed);
        if waiting >= PICTURES {
            self.pictures.fetch_sub(1, Ordering::Relaxed);
            shared.pictures_lost.fetch_add(1, Ordering::Relaxed);
        }
        waiting < PICTURES
    }

    /// The same for a picture that is only looked at: those that are kept go first, and it does not count as lost.
    pub fn takes_a_spare_picture(&self) -> bool {
        let waiting = self.pictures.fetch_add(1, Ordering::Relaxed);
        let takes = waiting < PICTURES / 4;
        if !takes {
            self.pictures.fetch_sub(1, Ordering::Relaxed);
        }
        takes
    }
}

/// The recorder's mailbox. Outcomes come over the first lane.
pub struct Records {
    mailbox: Mailbox<Record>,
    /// How many pictures wait to be drawn.
    pictures: Arc<AtomicUsize>,
}

impl Records {
    /// Makes the lane of outcomes and one lane for each of `networks` networks.
    pub fn new(networks: usize) -> (RecordSender, Vec<RecordSender>, Records) {
        let mut records = Records {
            mailbox: Mailbox::default(),
            pictures: Arc::default(),
        };
        let outcomes = records.sender(OUTCOMES);
        let judgements = (0..networks).map(|_| records.sender(JUDGEMENTS)).collect();
        (outcomes, judgements, records)
    }

    fn sender(&mut self, room: usize) -> RecordSender {
        RecordSender {
            records: self.mailbox.lane(room),
            pictures: self.pictures.clone(),
        }
    }
}

#[cfg(test)]
impl Record {
    /// The outcome of a part without a score, a microsecond after the start.
    pub(super) fn unjudged(part: u64, outcome: crate::line::Outcome) -> Record {
        let result = PartResult {
            part: PartId(part),
            outcome,
            score: None,
            view: View::FIRST,
            opinions: None,
            latency_us: None,
            defect: crate::line::DefectType::None,
            share: None,
            lane: None,
        };
        let at = Micros(1);
        Record::Outcome {
            result,
            triggered: at,
            due: 0,
            at,
        }
    }
}
