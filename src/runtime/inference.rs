//! The thread that judges frames. A verdict leaves it before anything else is made of the frame.

use super::archive::Keep;
use super::deferred::DeferredDrop;
use super::judges::Job;
use super::loadout::Network;
use super::mailbox::Mailbox;
use super::message::{Message, ToActuator};
use super::places::{GiveBack, Places};
use super::record::{Judgement, Picture, Record, RecordSender};
use super::shared::Shared;
use super::system::now;
use super::threads::Sign;
use crate::control::host::{Opinions, SelfTest};
use crate::control::types::TypeRules;
use crate::gpu::Backend;
use crate::inspector::{Inspection, KNOWN_TOLERANCE};
use crate::line::{DefectType, FrameId, Outcome, PartId, Sorting, VIEWS, Verdict, View};
use image::RgbImage;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Longest time between two signs of life of this thread while there is nothing to judge.
const BEAT: Duration = Duration::from_millis(250);
/// The known frame's score may differ by this much from the first time it was judged. The same network on the same
/// pixels gives the same score to the last bit or two. A CPU that had to take over from a GPU is allowed
/// [`KNOWN_TOLERANCE`].
const SELF_TEST_TOLERANCE: f32 = 1e-4;

/// Of frames in a row that cannot be judged so many are kept. They show what is wrong; all those of a night in the dark would
/// push every other picture out of the archive.
const IN_A_ROW: u32 = 10;

/// State of a judge's thread.
pub struct Inference {
    /// The network that judges; `None` until control puts one in.
    pub network: Option<DeferredDrop<Box<Network>>>,
    /// All frames in memory.
    pub places: Places,
    /// Returns the places of frames that have been judged.
    pub back: GiveBack,
    /// The lane to the output thread.
    pub messages: ToActuator,
    /// The lane to the recorder: judgements and pictures.
    pub record: RecordSender,
    /// This thread's sign of life.
    pub sign: Sign,
    /// Signs of life of other threads whose work takes longer where the network takes longer; they get its
    /// patience.
    pub others: Vec<Sign>,
    /// State that the threads of the station share.
    pub shared: Arc<Shared>,
    /// Count of the parts that passed: every n-th one's picture is kept as a sample.
    pub passed: u32,
    /// Frames in a row that could not be judged, by camera.
    pub unjudged: [u32; VIEWS],
}

/// A network that judges, with what its self-test and its types need.
struct Judge {
    generation: u32,
    network: DeferredDrop<Box<Network>>,
    /// The processor that the known frame's score was measured on.
    on: Backend,
    /// What each of its types of defects decides, and the rules that this was worked out from.
    sortings: Vec<Sorting>,
    rules: Option<Arc<TypeRules>>,
}

impl Judge {
    fn new(generation: u32, network: DeferredDrop<Box<Network>>) -> Judge {
        Judge {
            generation,
            on: network.inspector.runtime(),
            network,
            sortings: Vec::new(),
            rules: None,
        }
    }

    /// Works out what the types of defects decide by these rules, unless that is done already.
    fn sort_by(&mut self, rules: Arc<TypeRules>) {
        if self.rules.as_ref().is_none_or(|r| !Arc::ptr_eq(r, &rules)) {
            self.sortings = rules.resolve(&self.network.label.types);
            self.rules = Some(rules);
        }
    }

    fn self_test(&mut self) -> SelfTest {
        let (known, inspector) = (self.network.known, &mut self.network.inspector);
        let score = inspector.known_frame_score();
        let tolerance = match inspector.runtime() == self.on {
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

impl Inference {
    /// Judges frames until no sender of jobs is left.
    pub fn run(mut self, jobs: &mut Mailbox<Job>) {
        if let Some(judge) = self.judge_all(jobs) {
            // The process is about to end, and of the two threads it waits for this one.
            drop(judge.network.into_inner());
        }
    }

    /// Returns what judged last.
    fn judge_all(&mut self, jobs: &mut Mailbox<Job>) -> Option<Judge> {
        let mut judge = self.network.take().map(|network| {
            self.is_patient(&network);
            Judge::new(0, network)
        });
        loop {
            self.sign.beat();
            match jobs.recv_timeout(BEAT) {
                // Whatever waits is rejected at the end anyway.
                Ok(Job::Judge { frame, .. } | Job::Damaged { frame, .. })
                    if self.shared.stopping() =>
                {
                    self.back.give(frame);
                }
                Ok(Job::Judge {
                    part,
                    frame,
                    generation,
                }) => {
                    // The frame's network was sent before the frame, over another lane.
                    while judge.as_ref().is_none_or(|j| j.generation < generation)
                        && let Some(job) = jobs.try_recv_first()
                    {
                        self.order(job, &mut judge);
                    }
                    self.judge(judge.as_mut(), part, frame);
                    self.back.give(frame);
                }
                Ok(Job::Damaged { part, frame }) => {
                    self.damaged(part, frame);
                    self.back.give(frame);
                }
                Ok(job) => self.order(job, &mut judge),
                Err(RecvTimeoutError::Timeout) if self.shared.stopping() => return judge,
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return judge,
            }
        }
    }

    /// Lets this thread and the others be silent for as long as this network may take.
    fn is_patient(&self, network: &Network) {
        for sign in std::iter::once(&self.sign).chain(&self.others) {
            sign.set_patience(network.patience);
        }
    }

    /// Does a job that control asked for.
    fn order(&mut self, job: Job, judge: &mut Option<Judge>) {
        match job {
            Job::SelfTest => {
                let result = match judge {
                    Some(judge) => judge.self_test(),
                    None => SelfTest::Failed("there is no network"),
                };
                self.shared.tested(result);
            }
            Job::Network {
                generation,
                network,
            } => {
                // A network that is older than the one that judges was overtaken.
                if judge.as_ref().is_none_or(|j| j.generation <= generation) {
                    self.is_patient(&network);
                    *judge = Some(Judge::new(generation, network));
                }
            }
            Job::Lend(to) => {
                let lent = judge.as_ref().and_then(|judge| {
                    let beside = judge.network.beside();
                    beside.inspect_err(|e| log::error!("{e:#}")).ok()
                });
                // Whoever asked may be gone.
                let _ = to.try_send(lent.map(Box::new));
            }
            // Frames come over the other lane.
            Job::Judge { .. } | Job::Damaged { .. } => (),
        }
    }

    fn judge(&mut self, mut judge: Option<&mut Judge>, part: PartId, frame: FrameId) {
        let places = self.places.clone();
        let view = places.view(frame);
        let mut place = places.at(frame);
        let label = judge
            .as_ref()
            .and_then(|j| j.network.of(view))
            .map(|n| n.label.clone());
        let rules = self.shared.types();
        let margin = rules.margin();
        let judged = match &mut judge {
            Some(judge) => {
                judge.sort_by(rules);
                match judge.network.of_mut(view) {
                    Some(network) => {
                        let inspected = network.inspector.inspect(&place.image);
                        inspected.map(|_| ()).map_err(|e| e.to_string())
                    }
                    None => Err("there is no network for this camera".into()),
                }
            }
            None => Err("there is no network".into()),
        };
        let sortings: &[Sorting] = judge.as_ref().map_or(&[], |j| &j.sortings);
        let network = judge.as_ref().and_then(|j| j.network.of(view));
        let result = judged.and(network.map(|n| n.inspector.last()).ok_or_else(String::new));
        let kind = result.as_ref().ok().and_then(|i| i.kind(margin));
        let sorting = match kind {
            _ if sortings.is_empty() => None,
            Some((number, _)) => sortings.get(number).copied(),
            None => Some(Sorting {
                defect: DefectType::Unknown,
                ..Sorting::default()
            }),
        };
        let (verdict, score) = match &result {
            Ok(inspection) => {
                let score = inspection.score;
                let sorted = |s| Verdict::Sorted(score, s);
                (sorting.map_or(Verdict::Score(score), sorted), Some(score))
            }
            Err(_) => (Verdict::Error, None),
        };
        let threshold = sorting
            .and_then(|s| s.threshold)
            .map_or(self.shared.threshold(view), |t| t.get());
        let opinions = result.as_ref().ok().and_then(|inspection| {
            Some(Opinions {
                zero_shot: inspection.zero_shot,
                memory: inspection.memory?,
            })
        });
        let recent = network.and_then(|n| n.recent.as_ref());
        let taught = score.is_some() && recent.is_some_and(|r| r.takes_parts());
        let archive = self.shared.archive();
        let passes = score.is_some_and(|s| !Outcome::of(s, threshold).is_reject());
        self.passed = self.passed.wrapping_add(u32::from(passes));
        let sampled = |every: u32| passes && self.passed.is_multiple_of(every);
        let sample = taught || archive.goods.is_some_and(sampled);
        let wanted = match (archive.keep, score) {
            (Keep::Nothing, _) => false,
            (_, None) => self.keeps_unjudged(view),
            (Keep::Rejects, Some(s)) => sample || Outcome::of(s, threshold).is_reject(),
            (Keep::All, Some(_)) => true,
        };
        if score.is_some() {
            self.unjudged[view.index()] = 0;
        }
        let (picture, looked_at) = self.takes_a_picture(view, wanted);
        // Sent before the verdict, so that it is there when the outcome is written; it takes no time.
        self.record.send(
            &self.shared,
            Record::Judged {
                part,
                view,
                judgement: Judgement {
                    score,
                    name: std::mem::take(&mut place.name),
                    defective: place.defective,
                    error: result.as_ref().err().cloned(),
                    network: label,
                    threshold,
                    picture,
                    shows: picture && looked_at,
                    sample,
                },
            },
        );
        // Fails only when the station has ended.
        let _ = self.messages.send(Message::Verdict {
            part,
            view,
            verdict,
            score,
            share: kind.map(|(_, share)| share),
            opinions,
        });
        if let (Ok(inspection), Some(network)) = (&result, network)
            && let Some(recent) = recent
            && let Some(descriptors) = network.inspector.descriptors()
        {
            let reject = Outcome::of(inspection.score, threshold).is_reject();
            recent.judged(part, reject, inspection, descriptors);
            recent.offer(part, inspection, descriptors, &place.image);
        }
        if let (Ok(inspection), Some(Opinions { memory, .. })) = (&result, opinions)
            && let Some(taught) = network.and_then(|n| n.inspector.taught())
        {
            // As it was taught: a bundle without words has no opinion of its own.
            let zero_shot = inspection.as_zero_shot().score;
            let score = taught.about().score(memory, zero_shot);
            // Types' own thresholds are for parts that are bad.
            let threshold = self.shared.threshold(view);
            let drift = &self.shared.drift[view.index()];
            if let Some(cause) = drift.part(taught, score, threshold, &place.image) {
                log::error!("parts that pass no longer look as they were taught: {cause}");
                // Fails only when the station has ended.
                let _ = self.messages.send(Message::Drift);
            }
        }
        if picture {
            let inspection = result.ok().cloned();
            self.send_picture(part, view, &mut place.image, inspection);
        }
    }

    /// Whether the picture of one more frame that cannot be judged is kept.
    fn keeps_unjudged(&mut self, view: View) -> bool {
        let unjudged = &mut self.unjudged[view.index()];
        *unjudged = unjudged.saturating_add(1);
        *unjudged <= IN_A_ROW
    }

    /// Whether the picture of the present frame goes to the recorder, for it is `wanted` or somebody looks at the page;
    /// and whether somebody does.
    fn takes_a_picture(&self, view: View, wanted: bool) -> (bool, bool) {
        let looked_at = self.shared.live[view.index()].takes(now());
        let picture = match wanted {
            true => self.record.takes_a_picture(&self.shared),
            false => looked_at && self.record.takes_a_spare_picture(),
        };
        (picture, looked_at)
    }

    /// Hands a part's frame to the recorder; the place has none then.
    fn send_picture(
        &mut self,
        part: PartId,
        view: View,
        frame: &mut RgbImage,
        inspection: Option<Inspection>,
    ) {
        let picture = Box::new(Picture {
            frame: std::mem::take(frame),
            inspection,
        });
        let record = Record::Picture {
            part,
            view,
            picture,
        };
        self.record.send(&self.shared, record);
    }

    /// Reports a frame that cannot be judged. What the camera saw is kept all the same, without a heat map.
    fn damaged(&mut self, part: PartId, frame: FrameId) {
        let places = self.places.clone();
        let view = places.view(frame);
        let mut place = places.at(frame);
        let (picture, looked_at) = match place.whole {
            true => {
                let keeps = self.shared.archive().keep != Keep::Nothing;
                let wanted = keeps && self.keeps_unjudged(view);
                self.takes_a_picture(view, wanted)
            }
            false => (false, false),
        };
        let judgement = Judgement {
            score: None,
            name: std::mem::take(&mut place.name),
            defective: place.defective,
            error: place.error.take(),
            network: None,
            threshold: self.shared.threshold(view),
            picture,
            shows: picture && looked_at,
            sample: false,
        };
        self.record.send(
            &self.shared,
            Record::Judged {
                part,
                view,
                judgement,
            },
        );
        if picture {
            self.send_picture(part, view, &mut place.image, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive::Archive;
    use super::super::judges::judges;
    use super::super::message::FLOW;
    use super::super::places::Place;
    use super::super::record::pictures::About;
    use super::super::record::{Recorder, Records};
    use super::*;
    use crate::control::host::Lost;
    use crate::line::{AlarmSet, Cause, Statistics};
    use image::Rgb;

    /// A frame that cannot be judged, and how its part is reported.
    struct Case {
        keep: Keep,
        /// Whether it was refused before the network.
        damaged: bool,
        whole: bool,
        cause: Cause,
    }

    /// What the archive has of parts of which each of so many cameras saw so many: what is known of them, frame and
    /// overlay; and what is lost.
    fn archived(
        case: &Case,
        cameras: usize,
        each: usize,
    ) -> (Vec<(About, RgbImage, RgbImage)>, Lost) {
        let count = cameras * each;
        let folder = tempfile::tempdir().unwrap();
        let settings = crate::control::Values::default().settings().unwrap();
        let nothing = (Statistics::default(), AlarmSet::NONE);
        let shared = Shared::new(&settings, nothing.0, nothing.1);
        let shared = Arc::new(shared.with_cameras(cameras));
        shared.set_archive(Archive {
            keep: case.keep,
            ..Archive::default()
        });
        let (mut outcomes, mut lanes, records) = Records::new(1);
        let out = (folder.path(), false, false);
        let recorder = Recorder::create(out, records, (shared.clone(), Sign::default())).unwrap();
        let (places, mut free) = Places::new(cameras, each);
        let (mut sender, overseer, mut jobs) = judges(1, count);
        for number in 0..count as u64 {
            let (part, frame) = (PartId(number), FrameId(number));
            *places.at(frame) = Place {
                image: RgbImage::from_pixel(64, 48, Rgb([3; 3])),
                name: format!("{number}.png"),
                defective: None,
                error: case.damaged.then(|| "it is dark".into()),
                whole: case.whole,
            };
            let job = match case.damaged {
                true => Job::Damaged { part, frame },
                false => Job::Judge {
                    part,
                    frame,
                    generation: 0,
                },
            };
            sender.try_send(job).ok().unwrap();
        }
        drop((sender, overseer));
        let mut messages = Mailbox::default();
        let inference = Inference {
            network: None,
            places,
            back: free.giver(),
            messages: messages.lane(FLOW),
            record: lanes.remove(0),
            sign: Sign::default(),
            others: vec![],
            shared: shared.clone(),
            passed: 0,
            unjudged: Default::default(),
        };
        inference.run(&mut jobs[0]);
        for part in 0..count as u64 {
            let outcome = Outcome::RejectBecause(case.cause);
            outcomes.send(&shared, Record::unjudged(part, outcome));
        }
        drop(outcomes);
        recorder.run();
        let all = walkdir::WalkDir::new(folder.path().join("archive"));
        let all = all.into_iter().map(|e| e.unwrap().into_path());
        let all = all.filter(|path| path.extension().is_some_and(|e| e == "json"));
        let read = all.map(|path| {
            let about = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let picture = |end| image::open(path.with_extension(end)).unwrap().into_rgb8();
            (about, picture("jpg"), picture("overlay.jpg"))
        });
        (read.collect(), shared.snapshot().lost)
    }

    #[test]
    fn what_the_camera_saw_is_kept_also_where_it_cannot_be_judged() {
        let dark = Case {
            keep: Keep::Rejects,
            damaged: true,
            whole: true,
            cause: Cause::NothingVisible,
        };
        let frozen = Case {
            keep: Keep::All,
            cause: Cause::Frozen,
            ..dark
        };
        // Here for want of a network.
        let failed = Case {
            damaged: false,
            cause: Cause::InferenceError,
            ..dark
        };
        for (case, cause) in [
            (&dark, "nothing_visible"),
            (&frozen, "frozen"),
            (&failed, "inference_error"),
        ] {
            let (kept, lost) = archived(case, 1, 1);
            let [(about, frame, overlay)] = &kept[..] else {
                panic!("{cause}: {}", kept.len());
            };
            assert_eq!((about.cause.as_deref(), about.reject), (Some(cause), true));
            assert_eq!((about.score, about.name.as_str()), (None, "0.png"));
            assert_eq!(
                (frame.dimensions(), frame.get_pixel(9, 9).0),
                ((64, 48), [3; 3])
            );
            // The frame alone, 256 x 192, under its verdict, with the reason below it.
            assert_eq!(overlay.dimensions(), (600, 24 + 192 + 18));
            assert_eq!(lost, Lost::default());
        }
        // Half a frame, or the one before, is no evidence; and the archive may be off.
        let half = Case {
            whole: false,
            cause: Cause::CameraFault,
            ..dark
        };
        let off = Case {
            keep: Keep::Nothing,
            ..dark
        };
        let kept = [half, off].map(|case| archived(&case, 1, 1).0.len());
        assert_eq!(kept, [0, 0]);
    }

    #[test]
    fn of_those_in_a_row_the_first_are_kept_and_no_more_wait_than_of_other_rejects() {
        let dark = Case {
            keep: Keep::Rejects,
            damaged: true,
            whole: true,
            cause: Cause::NothingVisible,
        };
        // The first ones in a row.
        let (kept, lost) = archived(&dark, 1, 30);
        let mut parts: Vec<u64> = kept.iter().map(|(about, ..)| about.part).collect();
        parts.sort_unstable();
        assert_eq!((parts, lost), ((0..10).collect(), Lost::default()));
        // Three cameras: ten of each are too many at a time.
        let (kept, lost) = archived(&dark, 3, 20);
        let right = Lost {
            lines: 0,
            pictures: 6,
        };
        assert_eq!((kept.len(), lost), (24, right));
    }
}
