//! The thread that judges frames. A verdict leaves it before anything else is made of the frame.

use super::actuator::{Message, ToActuator};
use super::mailbox::{Mailbox, Post};
use super::record::{Keep, Picture, Record, RecordSender};
use super::shared::Shared;
use super::slots::{Release, Slots};
use crate::capture::known_frame;
use crate::control::host::SelfTest;
use crate::gpu::Runtime;
use crate::inspector::{InspectError, Inspector, KNOWN_TOLERANCE};
use crate::line::{FrameId, Outcome, PartId, Verdict};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tract_core::internal::{TractResult, format_err};

/// How often it shows that it is alive if there is nothing to judge.
const BEAT: Duration = Duration::from_millis(250);
/// The known frame's score may differ by so much from the first time it was judged. The same network
/// on the same pixels gives the same score to the last bit or two; on a CPU that had to take over from a
/// GPU, [`KNOWN_TOLERANCE`].
const SELF_TEST_TOLERANCE: f32 = 1e-4;

/// Why a network may not judge parts.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The known frame cannot be judged.
    #[error("the known frame cannot be judged: {0}")]
    Inspect(#[from] InspectError),
    /// It has another score than it should.
    #[error(
        "the known frame has score {found:.4} instead of {expected:.4}: this machine computes this bundle \
         wrongly; try --arithmetic f32, and report it"
    )]
    Score {
        /// The score here.
        found: f32,
        /// The score in the bundle.
        expected: f32,
    },
}

/// Jobs that wait: one for every place, and what control asks for: a self-test, another network.
pub const JOBS: usize = 64;
/// Gives the network something to do.
pub type Jobs = Post<Job, JOBS>;

/// Something to do.
pub enum Job {
    /// Judge a frame.
    Judge {
        /// Whose.
        part: PartId,
        /// Which.
        frame: FrameId,
    },
    /// A frame that cannot be judged: say why.
    Damaged {
        /// Whose.
        part: PartId,
        /// Which.
        frame: FrameId,
    },
    /// Judge the known frame, and say whether its score is what it was.
    SelfTest,
    /// Judge with another network from now on.
    Replace(Box<Inspector>),
}

/// The networks that judge side by side, each in a thread of its own.
#[derive(Clone)]
pub struct Judges {
    jobs: Arc<[Jobs]>,
    next: usize,
}

impl Judges {
    /// One per way to a network.
    pub fn new(jobs: Vec<Jobs>) -> Judges {
        Judges {
            jobs: jobs.into(),
            next: 0,
        }
    }

    /// Gives a frame to the next network: frames take equally long. Never waits.
    ///
    /// # Errors
    /// The job, if there is no room or nobody judges any more.
    pub fn try_send(&mut self, job: Job) -> Result<(), Job> {
        let post = &self.jobs[self.next];
        self.next = (self.next + 1) % self.jobs.len();
        post.try_send(job)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.jobs.len()
    }

    /// Has every network test itself: they share their weights, and nothing else. Returns how many could not
    /// be asked: there is no room, or nobody judges any more.
    pub fn self_test(&self) -> usize {
        let refuses = |post: &&Jobs| post.try_send(Job::SelfTest).is_err();
        self.jobs.iter().filter(refuses).count()
    }

    /// Puts another network in every place. Waits for room.
    ///
    /// # Errors
    /// Nobody judges any more, or it cannot be had so many times.
    pub fn replace(&self, inspector: Inspector) -> TractResult<()> {
        let gone = |_| format_err!("the inference thread is gone");
        for post in &self.jobs[1..] {
            let job = Job::Replace(Box::new(inspector.beside()?));
            post.send(job).map_err(gone)?;
        }
        self.jobs[0]
            .send(Job::Replace(Box::new(inspector)))
            .map_err(gone)
    }
}

/// The thread's state.
pub struct Inference {
    /// Which of [`Shared::inference`]'s signs of life is its own.
    pub index: usize,
    /// The network.
    pub inspector: Inspector,
    /// Where frames are.
    pub slots: Slots,
    /// Where they go back.
    pub release: Release,
    /// To the actuator.
    pub messages: ToActuator,
    /// What is written down.
    pub record: RecordSender,
    /// Signs of life.
    pub shared: Arc<Shared>,
}

/// The known frame's score here.
///
/// # Errors
/// [`SelfTestError`].
pub fn self_test(inspector: &mut Inspector) -> Result<f32, SelfTestError> {
    let found = inspector.inspect(&known_frame())?.score;
    match inspector.known_score() {
        Some(expected) if (found - expected).abs() > KNOWN_TOLERANCE => {
            Err(SelfTestError::Score { found, expected })
        }
        _ => Ok(found),
    }
}

impl Inference {
    /// Runs until nobody gives jobs any more. `known` is the known frame's score.
    pub fn run(mut self, jobs: &Mailbox<Job, JOBS>, mut known: f32) {
        let mut on = self.inspector.runtime();
        loop {
            self.shared.inference[self.index].beat();
            match jobs.recv_timeout(BEAT) {
                // Whatever waits is rejected at the end anyway.
                Ok(Job::Judge { frame, .. } | Job::Damaged { frame, .. })
                    if self.shared.stopping() =>
                {
                    self.release.give(frame);
                }
                Ok(Job::Judge { part, frame }) => {
                    self.judge(part, frame);
                    self.release.give(frame);
                }
                Ok(Job::Damaged { part, frame }) => {
                    self.damaged(part, frame);
                    self.release.give(frame);
                }
                Ok(Job::SelfTest) => {
                    let result = self.self_test(known, on);
                    self.shared.tested(result);
                }
                Ok(Job::Replace(inspector)) => {
                    self.inspector = *inspector;
                    let tested = self_test(&mut self.inspector);
                    on = self.inspector.runtime();
                    match tested {
                        Ok(score) => known = score,
                        // Whoever loaded it has tested it; what fails now fails for every frame, and
                        // rejects it.
                        Err(e) => log::error!("the new bundle: {e}"),
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.shared.stopping() => return,
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn judge(&mut self, part: PartId, frame: FrameId) {
        let mut slot = self.slots.at(frame);
        let result = self.inspector.inspect(&slot.image);
        let (verdict, score) = match &result {
            Ok(inspection) => (Verdict::Score(inspection.score), Some(inspection.score)),
            Err(_) => (Verdict::Error, None),
        };
        let picture = match self.shared.archive.get().keep {
            Keep::Nothing => false,
            Keep::Rejects => {
                score.is_some_and(|s| Outcome::of(s, self.shared.threshold()).is_reject())
            }
            Keep::All => score.is_some(),
        } && self.record.has_room_for_a_picture();
        // Before the verdict, so that it is there when the outcome is written; it takes no time.
        self.record.send(
            &self.shared,
            Record::Judged {
                part,
                name: std::mem::take(&mut slot.name),
                defective: slot.defective,
                error: result.as_ref().err().map(|e| e.to_string()),
                picture,
            },
        );
        // Fails only when the station has ended.
        let _ = self.messages.send(Message::Verdict {
            part,
            verdict,
            score,
        });
        if let (true, Ok(inspection)) = (picture, result) {
            let picture = Box::new(Picture {
                frame: std::mem::take(&mut slot.image),
                inspection: inspection.clone(),
            });
            self.record
                .send(&self.shared, Record::Picture { part, picture });
        }
    }

    fn damaged(&mut self, part: PartId, frame: FrameId) {
        let mut slot = self.slots.at(frame);
        let (name, error) = (std::mem::take(&mut slot.name), slot.error.take());
        self.record.send(
            &self.shared,
            Record::Judged {
                part,
                name,
                defective: slot.defective,
                error,
                picture: false,
            },
        );
    }

    /// `known` is the known frame's score, `on` what it was measured on.
    fn self_test(&mut self, known: f32, on: Runtime) -> SelfTest {
        let score = self.inspector.inspect(&known_frame()).map(|i| i.score);
        let tolerance = match self.inspector.runtime() == on {
            true => SELF_TEST_TOLERANCE,
            false => KNOWN_TOLERANCE,
        };
        match score {
            Ok(score) if (score - known).abs() <= tolerance => SelfTest::Passed,
            Ok(score) => {
                log::error!("self-test: the known frame has score {score} instead of {known}");
                SelfTest::Failed("the known frame has another score")
            }
            Err(e) => {
                log::error!("self-test: {e}");
                SelfTest::Failed("the known frame cannot be judged")
            }
        }
    }
}
