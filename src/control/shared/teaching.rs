//! TEACH: who may, when, and what becomes of it. The station makes the lesson; here it is started, looked at,
//! corrected and accepted.

use super::changes::{REJECTS_NONE, Way};
use super::{Committed, Control, Who};
use crate::control::host::{ControlledStation, Lesson, LessonState, Teach, TeachSettings};
use crate::control::memory::RecipeNumber;
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::store::shelf;
use crate::control::table::{Access, Parameter, STEPS};
use crate::control::values::Value;
use crate::line::NetworkState;
use crate::memory::conformal::Promise;
use crate::memory::course::{FEWEST, Report};
use crate::memory::{LIMIT, Views};
use std::sync::Arc;
use std::time::Instant;

/// Fewest and most parts of a lesson.
pub const PARTS: std::ops::RangeInclusive<u32> = FEWEST as u32..=1000;

/// A lesson, as far as control knows of it.
#[derive(Debug)]
pub(super) struct Teaching {
    recipe: RecipeNumber,
    /// Parts that have passed without a score since it began.
    pub(super) not_judged: u32,
    /// What it came to, as it was last given to be written: it waits for ACCEPT, also over a restart.
    kept: Option<Arc<[u8]>>,
}

/// How a lesson stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TeachReport {
    /// The station's part.
    pub lesson: Lesson,
    /// Parts that passed without a score.
    pub not_judged: u32,
    /// What ACCEPT makes the threshold, in steps of 0.0001.
    pub threshold: u32,
}

impl TeachReport {
    /// What the lesson came to, if it is done.
    pub fn result(&self) -> Option<&Report> {
        self.lesson.result.as_ref().map(|(report, _)| &**report)
    }

    /// What ACCEPT promises about good parts.
    pub fn promise(&self) -> Option<Promise> {
        self.result()?.promise(decimal(self.threshold))
    }
}

/// Steps of 0.0001 as the line compares them.
fn decimal(steps: u32) -> f32 {
    steps as f32 / STEPS as f32
}

/// What was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The threshold, in steps of 0.0001.
    pub threshold: u32,
    /// Good parts.
    pub parts: usize,
    /// What is promised about good parts.
    pub promise: Option<Promise>,
    /// A test piece that passes as it did before.
    pub passing: Option<String>,
    /// How many of the good parts are odd.
    pub odd: usize,
}

impl<H: ControlledStation> Control<H> {
    /// Whether a lesson takes parts.
    pub(super) fn takes_parts(&mut self) -> bool {
        self.teach.is_some()
            && (self.host.lesson()).is_some_and(|l| l.state == LessonState::Running)
    }

    fn teach_settings(&self) -> TeachSettings {
        let number = |parameter| self.stored.memory.number(parameter);
        // The table's ranges are those of a byte.
        let byte = |parameter| u8::try_from(number(parameter)).unwrap_or_default();
        TeachSettings {
            false_rejects: 1.0 - f64::from(number(Parameter::TeachQuantile)) / f64::from(STEPS),
            views: Views {
                rotations: byte(Parameter::TeachRotations),
                brightness: byte(Parameter::TeachBrightness),
            },
        }
    }

    /// A lesson that waited when the station ended waits again, once the recipe is in use that it is of.
    pub(super) fn resume_lesson(&mut self) {
        if self.lessons.is_empty() || self.teach.is_some() || self.nothing_changes().is_err() {
            return;
        }
        let judges = self.host.judging().state;
        if !matches!(judges, Some(NetworkState::Stored | NetworkState::ZeroShot)) {
            return;
        }
        let active = self.stored.memory.active();
        let Some(at) = self.lessons.iter().position(|(of, _)| *of == active) else {
            return;
        };
        let (recipe, bytes) = self.lessons.swap_remove(at);
        let settings = self.teach_settings();
        match self.host.resume_lesson(bytes.clone(), settings) {
            Ok(()) => {
                self.teach = Some(Teaching {
                    recipe,
                    not_judged: 0,
                    kept: Some(bytes),
                });
                log::info!("a lesson waits as it did before the restart: TEACH shows it");
            }
            Err(refused) => log::error!("the lesson that waited before the restart: {refused}"),
        }
    }

    /// What a lesson came to is written, so that a restart does not lose what somebody said.
    pub(super) fn store_lesson(&mut self) {
        let Some(teach) = &mut self.teach else {
            return;
        };
        let Some((_, bytes)) = self.host.lesson().and_then(|l| l.result) else {
            return;
        };
        if teach.kept.as_ref() != Some(&bytes) {
            teach.kept = Some(bytes.clone());
            self.writing_lessons += 1;
            self.writer.lesson(teach.recipe, Some(bytes));
            self.look_what_is_written();
        }
    }

    /// Teaches: a new lesson, or a change of one.
    ///
    /// # Errors
    /// An access code, [`Code::OutOfRange`], [`Code::Teaching`], [`Code::Busy`], [`Code::NoSuchPart`], and the
    /// host's.
    pub fn teach(&mut self, who: &Who<'_>, order: Teach<'_>) -> Result<(), Refusal> {
        allowed(who.access, Access::Operator)?;
        if let Teach::Begin(parts) | Teach::Add(parts) = order {
            let fewest = match order {
                Teach::Add(_) => 1,
                _ => *PARTS.start(),
            };
            if !(fewest..=*PARTS.end()).contains(&parts) {
                let text = format!("{fewest} to {} parts", PARTS.end());
                return Err(Refusal::new(Code::OutOfRange, text));
            }
            let failed = |l: Lesson| l.state == LessonState::Failed;
            if self.teach.is_some() && !self.host.lesson().is_some_and(failed) {
                return Err(Code::Teaching.into());
            }
        }
        if order == Teach::End {
            self.end_lesson();
            return Ok(());
        }
        self.nothing_changes()?;
        let challenge = self.host.snapshot().challenge;
        if challenge.is_some_and(|c| !c.is_over()) {
            return Err(Refusal::new(Code::Busy, "a challenge is running"));
        }
        // Parts that have passed are not among those to be taught.
        self.collect();
        self.host.teach(order, self.teach_settings())?;
        self.teach.get_or_insert(Teaching {
            recipe: self.stored.memory.active(),
            not_judged: 0,
            kept: None,
        });
        Ok(())
    }

    /// Leaves the part with this number in the list out.
    ///
    /// # Errors
    /// [`Code::NothingTaught`], [`Code::NoSuchPart`], and as [`Control::teach`].
    pub fn drop_part(&mut self, who: &Who<'_>, number: usize) -> Result<(), Refusal> {
        let report = self.teach_report().ok_or(Code::NothingTaught)?;
        let result = report.result().ok_or(Code::NothingTaught)?;
        let part = result.parts.iter().find(|p| p.number == number);
        let name = part.ok_or(Code::NoSuchPart)?.name.clone();
        self.teach(who, Teach::Forget(&name))
    }

    /// How the lesson stands; `None` if there is none.
    pub fn teach_report(&mut self) -> Option<TeachReport> {
        self.collect();
        self.store_lesson();
        let teach = self.teach.as_ref()?;
        let not_judged = teach.not_judged;
        let mut lesson = self.host.lesson()?;
        if lesson.state == LessonState::Done && self.writing_lessons > 0 {
            // Nothing is shown that a power cut could lose.
            (lesson.state, lesson.result) = (LessonState::Preparing, None);
        } else if lesson.state == LessonState::Done && self.lesson_unwritten {
            let text =
                "it cannot be stored, a restart loses it: is the disk full? The log says why";
            lesson.problem.get_or_insert(text.into());
        }
        let same = lesson.result.as_ref().is_some_and(|(r, _)| r.same);
        let threshold = match same {
            // Whoever adds a test piece leaves the threshold alone.
            true => self.stored.memory.number(Parameter::Threshold),
            false => {
                let margin = self.stored.memory.number(Parameter::TeachMargin);
                let limit = (LIMIT * STEPS as f32).round() as u32;
                (limit + margin).min(STEPS)
            }
        };
        Some(TeachReport {
            lesson,
            not_judged,
            threshold,
        })
    }

    /// Takes over a finished lesson, with the threshold that it proposes or another one. Returns what it came
    /// to, and what [`Control::commit`] would.
    ///
    /// # Errors
    /// [`Code::NothingTaught`], [`Code::OutOfRange`] of a threshold above which no score lies,
    /// [`Code::PiecePasses`] names the test piece, and as [`Control::commit`]. The lesson waits on.
    pub fn accept(
        &mut self,
        who: &Who<'_>,
        threshold: Option<u32>,
        now: Instant,
    ) -> Result<(Accepted, Option<Committed>), Refusal> {
        allowed(who.access, Access::Operator)?;
        self.nothing_pending(who.session)?;
        let report = self.teach_report().ok_or(Code::NothingTaught)?;
        let recipe = self.teach.as_ref().map(|t| t.recipe);
        let threshold = threshold.unwrap_or(report.threshold);
        let Some((result, bytes)) = report.lesson.result else {
            return Err(Code::NothingTaught.into());
        };
        if recipe != Some(self.stored.memory.active()) {
            return Err(Code::NothingTaught.into());
        }
        if threshold >= STEPS {
            return Err(Refusal::new(Code::OutOfRange, REJECTS_NONE));
        }
        let at = decimal(threshold);
        let unchanged = result.same && threshold == self.stored.memory.number(Parameter::Threshold);
        let passing = result.passing(at);
        if let (Some((name, score)), false) = (passing, unchanged) {
            return Err(Refusal::new(
                Code::PiecePasses,
                format!(
                    "test piece {name} would pass ({score:.4}): DROP good parts like it, ACCEPT {:.4}, or FORGET {name}",
                    below(score)
                ),
            ));
        }
        let accepted = Accepted {
            threshold,
            parts: result.parts.len(),
            promise: result.promise(at),
            passing: passing.map(|(name, _)| name.to_string()),
            odd: result.odd().count(),
        };
        let mut memory = self.stored.memory.clone();
        memory.set(Parameter::Threshold, Value::Number(threshold))?;
        let name = Value::Text(shelf::name_of(&bytes));
        memory.set(Parameter::Taught, name)?;
        let committed = self.replace(who, memory, Way::Lesson(bytes), now)?;
        Ok((accepted, committed))
    }

    /// Drops a lesson.
    ///
    /// # Errors
    /// An access code.
    pub fn cancel(&mut self, who: &Who<'_>) -> Result<(), Refusal> {
        self.teach(who, Teach::End)
    }

    /// The lesson is over.
    pub(super) fn end_lesson(&mut self) {
        if let Some(recipe) = self.teach.take().map(|t| t.recipe) {
            self.writing_lessons += 1;
            self.writer.lesson(recipe, None);
        }
        // Nobody is asked whether there was one.
        let _ = self.host.teach(Teach::End, TeachSettings::default());
    }
}

/// The threshold under which this score is a reject, in steps of 0.0001.
fn below(score: f32) -> f64 {
    let steps = (f64::from(score) * f64::from(STEPS)).ceil() - 1.0;
    steps.max(0.0) / f64::from(STEPS)
}
