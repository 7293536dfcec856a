//! Changes of parameters: pending, then all in force or none.

use super::{Control, SessionId, Who, line};
use crate::control::host::Host;
use crate::control::memory::{Memory, RecipeNumber};
use crate::control::password::{self, PasswordError};
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::store::Stored;
use crate::control::table::{Access, Effect, Kind, Parameter};
use crate::control::values::{Value, Values, quoted};
use std::time::{Duration, Instant};

/// Changes that may be stored one after the other, and how soon there may be one more: at worst 17,000
/// writes a day, of some 30 kB each with a full log.
const CHANGES: u32 = 30;
const CHANGE_EVERY: Duration = Duration::from_secs(5);

/// Changes that may be stored now.
#[derive(Debug)]
pub(super) struct Wear {
    left: u32,
    since: Option<Instant>,
}

impl Default for Wear {
    fn default() -> Self {
        Wear {
            left: CHANGES,
            since: None,
        }
    }
}

impl Wear {
    /// One more change, if there may be one.
    fn take(&mut self, now: Instant) -> Result<(), Refusal> {
        let since = *self.since.get_or_insert(now);
        let more = now.saturating_duration_since(since).as_secs() / CHANGE_EVERY.as_secs();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(CHANGES);
            self.left = self.left.saturating_add(more).min(CHANGES);
            self.since = Some(now);
        }
        self.left = self.left.checked_sub(1).ok_or(Code::WearLimit)?;
        Ok(())
    }
}

/// What a COMMIT did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// How many parameters changed.
    pub changes: usize,
    /// The hardest effect among them; `None` if there were none.
    pub effect: Option<Effect>,
}

#[derive(Debug)]
pub(super) struct Pending {
    owner: SessionId,
    memory: Memory,
}

impl<H: Host> Control<H> {
    /// A parameter's value as this session sees it: pending if it has changed it, else in force.
    pub fn value(&self, session: SessionId, parameter: Parameter) -> &Value {
        let own = self.pending.as_ref().filter(|p| p.owner == session);
        own.map_or(&self.stored.memory, |p| &p.memory)
            .get(parameter)
    }

    /// Whether this session has pending changes.
    pub fn has_pending(&self, session: SessionId) -> bool {
        self.pending.as_ref().is_some_and(|p| p.owner == session)
    }

    /// Sets a parameter from a text, pending until [`Control::commit`].
    ///
    /// # Errors
    /// As [`Control::set`]; of a password also [`Code::TooSoon`].
    pub fn set_text(
        &mut self,
        who: &Who<'_>,
        parameter: Parameter,
        text: &str,
        now: Instant,
    ) -> Result<(), Refusal> {
        let entry = parameter.entry();
        let value = if entry.kind == Kind::Secret {
            allowed(who.access, entry.access)?;
            self.password_pace(now)?;
            let hash = password::hash(text);
            Value::Text(hash.map_err(|e| match e {
                PasswordError::Text => Refusal::new(Code::BadText, e.to_string()),
                PasswordError::Random => Refusal::new(Code::Hardware, e.to_string()),
            })?)
        } else {
            entry.parse(text)?
        };
        self.set(who, parameter, value)
    }

    /// Sets a parameter, pending until [`Control::commit`].
    ///
    /// # Errors
    /// A value, access or busy code.
    pub fn set(
        &mut self,
        who: &Who<'_>,
        parameter: Parameter,
        value: Value,
    ) -> Result<(), Refusal> {
        allowed(who.access, parameter.entry().access)?;
        parameter.entry().check(&value)?;
        let stored = &self.stored.memory;
        let pending = self.pending.get_or_insert_with(|| Pending {
            owner: who.session,
            memory: stored.clone(),
        });
        if pending.owner != who.session {
            return Err(Code::PendingElsewhere.into());
        }
        pending.memory.set(parameter, value)?;
        Ok(())
    }

    /// Drops a session's pending changes.
    pub fn revert(&mut self, session: SessionId) {
        self.pending.take_if(|p| p.owner == session);
    }

    /// Brings a session's pending changes into force, all or none; they are stored when this returns.
    ///
    /// # Errors
    /// [`Code::Contradiction`] names the parameter; [`Code::WearLimit`], [`Code::Memory`] and the host's.
    /// The changes stay pending.
    pub fn commit(&mut self, who: &Who<'_>, now: Instant) -> Result<Committed, Refusal> {
        let own = self.pending.as_ref().filter(|p| p.owner == who.session);
        let Some(memory) = own.map(|p| p.memory.clone()) else {
            return match self.pending {
                None => Ok(Committed {
                    changes: 0,
                    effect: None,
                }),
                Some(_) => Err(Code::PendingElsewhere.into()),
            };
        };
        let committed = self.replace(who, memory, now)?;
        self.pending = None;
        Ok(committed)
    }

    /// Uses another recipe from now on.
    ///
    /// # Errors
    /// [`Code::PendingChanges`], [`Code::Teaching`], and as [`Control::commit`].
    pub fn select_recipe(
        &mut self,
        who: &Who<'_>,
        recipe: RecipeNumber,
        now: Instant,
    ) -> Result<(), Refusal> {
        allowed(who.access, Access::Operator)?;
        if recipe == self.stored.memory.active() {
            return Ok(());
        }
        self.nothing_pending(who.session)?;
        if self.teach.is_some() {
            return Err(Code::Teaching.into());
        }
        let mut memory = self.stored.memory.clone();
        memory.select(recipe);
        self.replace(who, memory, now).map(|_| ())
    }

    pub(super) fn nothing_pending(&self, session: SessionId) -> Result<(), Refusal> {
        match &self.pending {
            None => Ok(()),
            Some(p) if p.owner == session => Err(Code::PendingChanges.into()),
            Some(_) => Err(Code::PendingElsewhere.into()),
        }
    }

    /// Checks, stores, applies. If the station refuses, what was before is stored again.
    pub(super) fn replace(
        &mut self,
        who: &Who<'_>,
        memory: Memory,
        now: Instant,
    ) -> Result<Committed, Refusal> {
        let (old, new) = (self.stored.memory.values(), memory.values());
        let (from, to) = (self.stored.memory.active(), memory.active());
        let changed: Vec<Parameter> = new.changed(&old).collect();
        let mut effects: Vec<Effect> = changed.iter().map(|p| p.entry().effect).collect();
        if from != to {
            effects.push(Effect::BeltCleared);
        }
        let committed = Committed {
            changes: changed.len(),
            effect: effects.iter().copied().max(),
        };
        if effects.is_empty() {
            return Ok(committed);
        }
        // Scores of another network, or in other light, are not those that are being taught.
        let taught_by = [
            Parameter::Bundle,
            Parameter::CameraExposureUs,
            Parameter::CameraGain,
        ];
        if self.teach.is_some() && changed.iter().any(|p| taught_by.contains(p)) {
            return Err(Code::Teaching.into());
        }
        memory.check()?;
        let settings = new.settings()?;
        self.wear.take(now)?;
        let mut stored = self.stored.clone();
        stored.memory = memory;
        if from != to {
            stored.note(&line(who, "recipe", &from.to_string(), &to.to_string()));
        } else {
            for entry in changed.iter().map(|p| p.entry()) {
                let show = |values: &Values| {
                    quoted(&entry.show(values.get(entry.parameter)).to_string()).into_owned()
                };
                stored.note(&line(who, entry.name, &show(&old), &show(&new)));
            }
        }
        self.save(&stored)?;
        let at_once = effects.into_iter().filter(|e| *e != Effect::Restart).max();
        if let Some(effect) = at_once
            && let Err(refused) = self.host.apply(&new, &settings, effect)
        {
            let before = self.stored.clone();
            self.save(&before)?;
            return Err(refused.into());
        }
        self.stored = stored;
        Ok(committed)
    }

    /// Stores the settings; a failure is a fault until it works again.
    pub(super) fn save(&mut self, stored: &Stored) -> Result<(), Refusal> {
        let result = self.store.save(stored);
        self.memory_failed = result.is_err();
        self.log_dirty &= result.is_err();
        self.host.fault(stored.fault || self.memory_failed);
        Ok(result?)
    }
}
