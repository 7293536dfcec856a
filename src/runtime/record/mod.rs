//! What is written down of a station: a line per part, overlays of rejects, alarms.
//!
//! Looks on from the side: the line never waits for it. What finds no room in its queue, or cannot be
//! written, is counted. What it keeps is bounded, on disk too.
//!
//! | module | what it does |
//! |---|---|
//! | `folder` | where they go, or that they cannot go there |
//! | `lines` | files that grow line by line |
//! | [`pictures`] | the archive: pictures by day |
//! | `recorder` | the thread |

mod folder;
mod lines;
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

/// Outcomes that wait: some seconds of the fastest line.
const OUTCOMES: usize = 4096;
/// Judgements and pictures of one network that wait.
const JUDGEMENTS: usize = 1024;
/// Pictures in memory; rejects beyond get no overlay, and are counted.
pub(super) const PICTURES: usize = 24;

/// A frame and what was seen on it.
pub struct Picture {
    /// The frame.
    pub frame: RgbImage,
    /// What the network made of it.
    pub inspection: Inspection,
}

/// What became of a frame.
pub struct Judgement {
    /// What the frame is called.
    pub name: String,
    /// Whether the part is defective, where the source knows.
    pub defective: Option<bool>,
    /// Its score; `None` if it could not be judged.
    pub score: Option<f32>,
    /// Why it could not be judged.
    pub error: Option<String>,
    /// What judged it.
    pub network: Option<Arc<NetworkLabel>>,
    /// The threshold then.
    pub threshold: f32,
    /// Whether its picture follows.
    pub picture: bool,
    /// Whether somebody looks on, and this picture is for them.
    pub shows: bool,
    /// Whether its picture is kept although it passes: it came while good parts were taught, and somebody may look
    /// for the odd one, or it is one of the sample of parts that pass.
    pub sample: bool,
}

/// Something to write down.
pub enum Record {
    /// A frame was judged, or could not be.
    Judged {
        /// Whose.
        part: PartId,
        /// Of which camera.
        view: View,
        /// How.
        judgement: Judgement,
    },
    /// The picture of a part that is to be kept.
    Picture {
        /// Whose.
        part: PartId,
        /// Of which camera.
        view: View,
        /// The picture.
        picture: Box<Picture>,
    },
    /// What became of a part.
    Outcome {
        /// All of it.
        result: PartResult,
        /// When it was triggered.
        triggered: Micros,
        /// Where the reject station is for it: microseconds on the same clock, or encoder counts.
        due: u64,
        /// When it got its outcome.
        at: Micros,
    },
    /// An alarm was raised.
    Alarm {
        /// Which.
        alarm: Alarm,
        /// When.
        at: Micros,
    },
    /// Alarms were reset.
    Reset {
        /// Which.
        alarms: AlarmSet,
        /// When.
        at: Micros,
    },
    /// A challenge is over.
    Challenge {
        /// How it went.
        report: ChallengeReport,
        /// When.
        at: Micros,
    },
}

/// Where records go, over a lane of one sender.
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

    /// Whether another picture may wait; it is expected then. If not, it is counted as lost.
    pub fn takes_a_picture(&self, shared: &Shared) -> bool {
        let waiting = self.pictures.fetch_add(1, Ordering::Relaxed);
        if waiting >= PICTURES {
            self.pictures.fetch_sub(1, Ordering::Relaxed);
            shared.pictures_lost.fetch_add(1, Ordering::Relaxed);
        }
        waiting < PICTURES
    }

    /// The same for a picture that is only looked at: it gives way to those that are kept, and is no loss.
    pub fn takes_a_spare_picture(&self) -> bool {
        let waiting = self.pictures.fetch_add(1, Ordering::Relaxed);
        let takes = waiting < PICTURES / 4;
        if !takes {
            self.pictures.fetch_sub(1, Ordering::Relaxed);
        }
        takes
    }
}

/// Where the recorder's records come from. Outcomes come over the first lane.
pub struct Records {
    mailbox: Mailbox<Record>,
    /// Pictures that wait to be drawn.
    pictures: Arc<AtomicUsize>,
}

impl Records {
    /// The way of outcomes, and those of so many networks.
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
