//! TEACH: who may, when, and what becomes of it.

use super::{Committed, Control, Who};
use crate::control::host::Host;
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::table::{Access, Parameter, STEPS};
use crate::control::teach::{self, Teach};
use crate::control::values::Value;
use std::time::Instant;

/// How a TEACH stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TeachReport {
    /// Scores so far.
    pub parts: usize,
    /// Scores that it is to have.
    pub wanted: usize,
    /// Parts that passed without a score.
    pub not_judged: u32,
    /// If it is done: the threshold, in steps of 0.0001, and the histogram in lines of
    /// `from,to,count,bar`.
    pub done: Option<(u32, Vec<String>)>,
}

impl<H: Host> Control<H> {
    /// Starts to collect the scores of good parts.
    ///
    /// # Errors
    /// An access code, [`Code::OutOfRange`], [`Code::Teaching`], [`Code::Busy`].
    pub fn teach(&mut self, who: &Who<'_>, parts: u32) -> Result<(), Refusal> {
        allowed(who.access, Access::Operator)?;
        if !teach::PARTS.contains(&parts) {
            let text = format!("{} to {} parts", teach::PARTS.start(), teach::PARTS.end());
            return Err(Refusal::new(Code::OutOfRange, text));
        }
        if self.teach.as_ref().is_some_and(|t| !t.is_done()) {
            return Err(Code::Teaching.into());
        }
        self.nothing_changes()?;
        let challenge = self.host.snapshot().challenge;
        if challenge.is_some_and(|c| !c.is_over()) {
            return Err(Refusal::new(Code::Busy, "a challenge is running"));
        }
        // Parts that have passed are not among those to be taught.
        self.collect();
        self.teach = Some(Teach::new(self.stored.memory.active(), parts));
        Ok(())
    }

    /// How a TEACH stands; `None` if there is none.
    pub fn teach_report(&mut self) -> Option<TeachReport> {
        self.collect();
        let teach = self.teach.as_ref()?;
        let done = teach.is_done().then(|| self.taught(teach)).flatten();
        Some(TeachReport {
            parts: teach.scores().len(),
            wanted: teach.wanted(),
            not_judged: teach.not_judged,
            done: done.map(|threshold| (threshold, teach.histogram(threshold))),
        })
    }

    fn taught(&self, teach: &Teach) -> Option<u32> {
        let values = self.stored.memory.values();
        let quantile = values.number(Parameter::TeachQuantile);
        let margin = values.number(Parameter::TeachMargin);
        teach::threshold(teach.scores(), quantile, margin)
    }

    /// Takes over the threshold of a finished TEACH. Returns it, and what [`Control::commit`] would;
    /// [`Control::accepted`] is to be called when it is in force.
    ///
    /// # Errors
    /// [`Code::NothingTaught`], [`Code::OutOfRange`] of a threshold above which no score lies, and as
    /// [`Control::commit`].
    pub fn accept(
        &mut self,
        who: &Who<'_>,
        now: Instant,
    ) -> Result<(f64, Option<Committed>), Refusal> {
        allowed(who.access, Access::Operator)?;
        self.nothing_pending(who.session)?;
        self.collect();
        let done = self.teach.as_ref().filter(|t| t.is_done());
        let done = done.filter(|t| t.recipe == self.stored.memory.active());
        let threshold = done
            .and_then(|t| self.taught(t))
            .ok_or(Code::NothingTaught)?;
        if threshold >= STEPS {
            let text = "the taught threshold is 1: no part would ever be rejected";
            return Err(Refusal::new(Code::OutOfRange, text));
        }
        let mut memory = self.stored.memory.clone();
        memory.set(Parameter::Threshold, Value::Number(threshold))?;
        let committed = self.replace(who, memory, now)?;
        if committed.is_some() {
            self.accepted();
        }
        Ok((f64::from(threshold) / f64::from(STEPS), committed))
    }

    /// What was taught is in force: the TEACH is over.
    pub fn accepted(&mut self) {
        self.teach = None;
    }

    /// Drops a TEACH.
    ///
    /// # Errors
    /// An access code.
    pub fn reject(&mut self, who: &Who<'_>) -> Result<(), Refusal> {
        allowed(who.access, Access::Operator)?;
        self.teach = None;
        Ok(())
    }
}
