//! The thread of a lesson: it takes the parts that the judges hand over, makes the memory of good parts from them,
//! and changes it on request. No part waits for it.

use super::loadout::Network;
use super::recent::{Inbox, Lane, Recent};
use super::shared::lock;
use crate::control::host::{Lesson, LessonState, TeachSettings};
use crate::inspector::Inspector;
use crate::memory::course::{Course, Edit, Sample};
use crate::memory::{Fusion, Settings, Taught};
use image::RgbImage;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Parts that wait for the thread at most; one that finds no room is not taught.
const WAITING: usize = 16;
/// A network is lent between two frames; longer means that nothing judges.
const LENT: Duration = Duration::from_secs(10);

/// How a lesson begins.
pub(super) enum Start {
    /// From nothing, with this many parts.
    Fresh(usize),
    /// From what was taught, with this many parts more.
    More(usize),
    /// From what was taught, with a change of it.
    Edit(Edit),
    /// From the lesson that waited when the station ended: the bytes of its file.
    Waiting(Arc<[u8]>),
}

/// A lesson that is going on.
pub(super) struct Teacher {
    inbox: SyncSender<Inbox>,
    shown: Arc<Mutex<Lesson>>,
    recent: Arc<Recent>,
    thread: JoinHandle<()>,
}

impl Teacher {
    /// Begins a lesson. `taught` parts were taught before; `lent` brings a network beside those that judge.
    pub fn start(
        start: Start,
        (taught, how): (usize, TeachSettings),
        lent: Receiver<Option<Box<Network>>>,
        recent: Arc<Recent>,
    ) -> io::Result<Teacher> {
        let (inbox, received) = sync_channel(WAITING);
        let (parts, wanted) = match start {
            Start::Fresh(parts) => (0, parts),
            Start::More(parts) => (taught, taught + parts),
            Start::Edit(_) | Start::Waiting(_) => (taught, taught),
        };
        let shown = Arc::new(Mutex::new(Lesson {
            state: match start {
                Start::Edit(_) | Start::Waiting(_) => LessonState::Preparing,
                _ => LessonState::Running,
            },
            parts,
            wanted,
            result: None,
            problem: None,
        }));
        let (lane, tells, parts) = (inbox.clone(), shown.clone(), recent.clone());
        let work = move || {
            let mut class = match Class::new(start, how, lent, (&parts, lane)) {
                Ok(class) => class,
                Err(e) => return fail(&tells, e),
            };
            if Arc::strong_count(&tells) == 1 {
                // The lesson was cancelled before it began.
                return parts.teach(None);
            }
            class.show(&tells);
            while let Ok(message) = received.recv() {
                class.take(message, &tells);
            }
        };
        let thread = Builder::new().name("teach".into()).spawn(work)?;
        Ok(Teacher {
            inbox,
            shown,
            recent,
            thread,
        })
    }

    /// How far the lesson is.
    pub fn lesson(&self) -> Lesson {
        let mut lesson = lock(&self.shown).clone();
        if self.thread.is_finished() && lesson.state != LessonState::Failed {
            lesson.state = LessonState::Failed;
            lesson.result = None;
            lesson.problem = Some("the teaching thread failed".into());
        }
        lesson
    }

    /// Changes what was taught; `false` if the thread has too much to do.
    pub fn edit(&self, edit: Edit) -> bool {
        // Held, so that the result of the change is not shown before it.
        let mut shown = lock(&self.shown);
        let sent = self.inbox.try_send(Inbox::Edit(edit)).is_ok();
        // Test pieces may come while parts are taken.
        if sent && shown.state == LessonState::Done {
            (shown.state, shown.result) = (LessonState::Preparing, None);
        }
        sent
    }
}

impl Drop for Teacher {
    fn drop(&mut self) {
        // The thread ends when the last sender of its inbox is gone.
        self.recent.teach(None);
    }
}

fn fail(shown: &Mutex<Lesson>, problem: String) {
    log::error!("teaching: {problem}");
    let mut shown = lock(shown);
    shown.state = LessonState::Failed;
    shown.problem = Some(problem);
}

/// State of the lesson's thread.
struct Class {
    course: Course,
    /// Looks at other views of parts; gone when no more of those come.
    inspector: Option<Inspector>,
    taking: bool,
    /// How many parts are still to come.
    left: usize,
    problem: Option<String>,
}

impl Class {
    fn new(
        start: Start,
        how: TeachSettings,
        lent: Receiver<Option<Box<Network>>>,
        (recent, inbox): (&Recent, SyncSender<Inbox>),
    ) -> Result<Class, String> {
        let goes_on = (how.false_rejects, how.views);
        let lent = lent.recv_timeout(LENT).ok().flatten();
        let inspector = lent.ok_or("nothing judges that could be taught")?.inspector;
        let before = match inspector.taught_bytes() {
            Some(bytes) => Some(Taught::from_bytes(bytes).map_err(|e| e.to_string())?),
            None => None,
        };
        let nothing = "nothing was taught that could be gone on with: TEACH n";
        let in_words = |e: crate::ops::tract::TractError| format!("{e:#}");
        let mut taking = true;
        let mut course = match (&start, before) {
            (Start::Fresh(parts), before) => {
                let layout = inspector.layout().ok_or(nothing)?;
                let bound = inspector.bound_to().ok_or(nothing)?;
                let settings = Settings {
                    kind: None,
                    fusion: Fusion::default(),
                    false_rejects: how.false_rejects,
                    regions: inspector.regions().clone(),
                    views: how.views,
                };
                Course::begin(layout, settings, bound, *parts, before.as_ref()).map_err(in_words)?
            }
            (Start::More(parts), Some(before)) => {
                Course::resume(before, goes_on, *parts).map_err(in_words)?
            }
            (Start::Edit(_), Some(before)) => {
                taking = false;
                Course::resume(before, goes_on, 0).map_err(in_words)?
            }
            (Start::Waiting(bytes), before) => {
                taking = false;
                let lesson = Taught::from_bytes(bytes).map_err(|e| e.to_string())?;
                let about = lesson.about();
                let bound = Some((about.encoder.as_str(), about.arithmetic.as_str()));
                if inspector.bound_to() != bound || inspector.layout() != Some(about.layout) {
                    return Err(
                        "the lesson that waited was taught on another bundle or in other tiles: CANCEL and teach again"
                            .into(),
                    );
                }
                Course::waiting(lesson, goes_on, before.as_ref()).map_err(in_words)?
            }
            (_, None) => return Err(nothing.into()),
        };
        // A change that cannot be made leaves what was taught as it is, and is reported.
        let problem = match start {
            Start::Edit(edit) => course.edit(edit).map_err(in_words).err(),
            _ => None,
        };
        let left = course.wanted() - course.taken();
        let pictures = match course.wants_views().count() > 1 {
            true => left,
            false => 0,
        };
        if taking {
            recent.teach(Some(Lane {
                inbox,
                left,
                pictures,
            }));
        }
        Ok(Class {
            inspector: (pictures > 0).then_some(inspector),
            course,
            taking,
            left,
            problem,
        })
    }

    fn take(&mut self, message: Inbox, shown: &Mutex<Lesson>) {
        self.problem = None;
        let result = match message {
            Inbox::Part(sample, picture) => self.part(&sample, picture.as_deref(), shown),
            Inbox::Edit(edit) => self.course.edit(edit).map_err(|e| format!("{e:#}")),
        };
        self.problem = result.err();
        if let Some(problem) = &self.problem {
            log::warn!("teaching: {problem}");
        }
        self.show(shown);
    }

    fn part(
        &mut self,
        sample: &Sample,
        picture: Option<&RgbImage>,
        shown: &Mutex<Lesson>,
    ) -> Result<(), String> {
        let learned = self.learn(sample, picture);
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return learned;
        }
        {
            let mut shown = lock(shown);
            shown.state = LessonState::Preparing;
            shown.parts = self.course.taken();
        }
        (self.taking, self.inspector) = (false, None);
        // No more come, and one that could not be learned is missing: the lesson ends with the others, and says so.
        let made = self.course.finish().map_err(|e| format!("{e:#}"));
        learned.and(made)
    }

    fn learn(&mut self, sample: &Sample, picture: Option<&RgbImage>) -> Result<(), String> {
        let in_words = |e: crate::ops::tract::TractError| format!("{e:#}");
        let views = self.course.wants_views();
        self.course.part(sample).map_err(in_words)?;
        if let (Some(picture), Some(inspector)) = (picture, &mut self.inspector) {
            for view in views.of(picture) {
                inspector.inspect(&view).map_err(|e| e.to_string())?;
                let descriptors = inspector.descriptors().unwrap_or(&[]);
                self.course.view(descriptors).map_err(in_words)?;
            }
        }
        Ok(())
    }

    /// Publishes how far the lesson is.
    fn show(&mut self, shown: &Mutex<Lesson>) {
        let (state, result) = match self.taking {
            true => (LessonState::Running, None),
            false => match self.course.result() {
                Ok((report, bytes)) => (LessonState::Done, Some((Arc::new(report), bytes))),
                Err(e) => {
                    return fail(shown, self.problem.take().unwrap_or(format!("{e:#}")));
                }
            },
        };
        let lesson = Lesson {
            state,
            parts: self.course.taken(),
            wanted: self.course.wanted(),
            result,
            problem: self.problem.clone(),
        };
        *lock(shown) = lesson;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::region::Regions;
    use crate::memory::{Layout, Views, ZeroShot};
    use crate::tiling::Tiling;

    const LAYOUT: Layout = Layout {
        grid: 2,
        tiles: Tiling::WHOLE,
        dim: 4,
    };

    fn sample(number: usize, value: f32) -> Box<Sample> {
        Box::new(Sample {
            name: number.to_string(),
            descriptors: vec![value; LAYOUT.places() * LAYOUT.dim],
            zero_shot: ZeroShot::default(),
            groups: vec![0.0],
            light: None,
        })
    }

    /// What a lesson of so many parts shows once these came.
    fn shown(values: &[f32]) -> Lesson {
        let settings = Settings {
            kind: None,
            fusion: Fusion::default(),
            false_rejects: 0.01,
            regions: Regions::default(),
            views: Views::default(),
        };
        let bound = ("encoder", "f32");
        let mut class = Class {
            course: Course::begin(LAYOUT, settings, bound, values.len(), None).unwrap(),
            inspector: None,
            taking: true,
            left: values.len(),
            problem: None,
        };
        let shown = Mutex::new(Lesson {
            state: LessonState::Running,
            parts: 0,
            wanted: values.len(),
            result: None,
            problem: None,
        });
        for (number, value) in values.iter().enumerate() {
            class.take(Inbox::Part(sample(number, *value), None), &shown);
        }
        shown.into_inner().unwrap()
    }

    #[test]
    fn a_lesson_whose_last_part_cannot_be_learned_ends_with_the_others_and_says_so() {
        let whole = shown(&[1.0, 1.1, 0.9, 1.0]);
        assert_eq!((whole.state, whole.parts), (LessonState::Done, 4));
        assert_eq!(whole.problem, None);
        for values in [[1.0, 1.1, 0.9, f32::NAN], [1.0, f32::NAN, 0.9, 1.0]] {
            let lesson = shown(&values);
            assert_eq!(
                (lesson.state, lesson.parts, lesson.wanted),
                (LessonState::Done, 3, 4)
            );
            assert_eq!(lesson.result.unwrap().0.parts.len(), 3);
            assert_eq!(lesson.problem.is_some(), values[3].is_nan());
        }
        let none = shown(&[f32::NAN]);
        assert_eq!(none.state, LessonState::Failed);
        assert!(none.problem.is_some());
    }
}
