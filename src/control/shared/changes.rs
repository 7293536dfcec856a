//! Changes of parameters: pending, then all in force or none.

use super::{Control, SessionId, Who, line};
use crate::control::host::{ControlledStation, Preparing, Refused, Wanted};
use crate::control::last_good::{LastGood, chooses_network};
use crate::control::memory::{Memory, RecipeNumber};
use crate::control::password;
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::store::{StoreError, Stored};
use crate::control::table::{Access, CAMERAS, Effect, Kind, Parameter};
use crate::control::types::TypeRules;
use crate::control::values::{Value, Values, quoted};
use crate::line::NetworkState;
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Changes that may be stored one after the other, and how soon there may be one more: at worst 17,000
/// writes a day, of some 30 kB each with a full log.
const CHANGES: u32 = 30;
const CHANGE_EVERY: Duration = Duration::from_secs(5);

/// How many changes may be stored now.
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
    /// Takes one change off the number, if one is left.
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

/// The refusal of a threshold above which no score lies.
pub(super) const REJECTS_NONE: &str = "the threshold would be 1: no part would ever be rejected";

/// The result of a COMMIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// How many parameters changed.
    pub changes: usize,
    /// The hardest effect among them; `None` if there were none.
    pub effect: Option<Effect>,
    /// Whether nothing judges and the line stands, because what the recipe was taught cannot be used.
    pub untaught: bool,
}

#[derive(Debug)]
pub(super) struct Pending {
    owner: SessionId,
    memory: Memory,
}

/// Where a change comes from.
#[derive(Debug)]
pub(super) enum Way {
    Commit,
    /// A file that is restored.
    Restored,
    /// Another recipe is put into use.
    Recipe,
    /// A lesson is accepted: the file of good parts.
    Lesson(Arc<[u8]>),
}

/// A change that is being prepared or stored.
pub(super) struct Change<L> {
    /// The session that waits for the result; `None`: it is gone.
    owner: Option<SessionId>,
    memory: Memory,
    /// Lines for the log.
    notes: Vec<String>,
    committed: Committed,
    /// Whether another network will judge.
    network: bool,
    way: Way,
    /// Whether names of types must be the network's: those of a recipe that is chosen, or restored, are only said in the
    /// log.
    names_types: bool,
    stage: Stage<L>,
}

enum Stage<L> {
    Preparing(Preparing<L>),
    /// Being stored; the loadout goes into force then. `None` if it is read at the next start only.
    Storing {
        loadout: Option<L>,
        /// The network that judged before, if this one is another.
        last_good: Option<LastGood>,
    },
}

impl<L> Change<L> {
    /// Replaces what is stored.
    fn put_into(&self, stored: &mut Stored) {
        if let Stage::Storing {
            last_good: Some(good),
            ..
        } = &self.stage
        {
            stored.last_good = Some(good.clone());
        }
        stored.memory = self.memory.clone();
        self.notes.iter().for_each(|note| stored.note(note));
    }
}

impl<H: ControlledStation> Control<H> {
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
    /// As [`Control::set`]; of a password also [`Code::WeakPassword`], [`Code::TooSoon`].
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
            let station = match self.value(who.session, Parameter::StationName) {
                Value::Text(name) => name,
                Value::Number(_) => "",
            };
            password::check(text, station)?;
            self.may_hash(None, now)?;
            Value::Text(password::hash(text)?)
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
        self.nothing_changes()?;
        let stored = &self.stored.memory;
        let pending = self.pending.get_or_insert_with(|| Pending {
            owner: who.session,
            memory: stored.clone(),
        });
        if pending.owner != who.session {
            return Err(Code::PendingElsewhere.into());
        }
        pending.memory.set(parameter, value)?;
        if CAMERAS.iter().any(|camera| camera.taught == parameter) {
            let nothing = |_| false;
            pending.memory.follow_taught(&self.stored.memory, nothing)?;
        }
        Ok(())
    }

    /// The session's client is gone, or its level: nothing of it is left but a change that is being stored, which
    /// will be in force.
    pub fn leave(&mut self, session: SessionId) {
        self.revert(session);
        if let Some(change) = &mut self.change {
            change.owner.take_if(|owner| *owner == session);
        }
        self.changed.retain(|(owner, _)| *owner != session);
    }

    /// Drops a session's pending changes; one that is being made ready is given up. One that is being stored
    /// cannot be: COMMIT came before.
    pub fn revert(&mut self, session: SessionId) {
        self.pending.take_if(|p| p.owner == session);
        let given_up =
            |c: &mut Change<_>| c.owner == Some(session) && matches!(c.stage, Stage::Preparing(_));
        if let Some(change) = self.change.take_if(given_up) {
            let_go(change);
        }
    }

    /// Brings a session's pending changes into force, all or none; they are stored and in force when
    /// something is returned. `None`: they are being made ready; [`Control::changed`] tells when they are.
    ///
    /// # Errors
    /// [`Code::Contradiction`] names the parameter, [`Code::OutOfRange`] that of a threshold above which no score lies;
    /// [`Code::WearLimit`], [`Code::Memory`] and the host's. The changes stay pending.
    pub fn commit(&mut self, who: &Who<'_>, now: Instant) -> Result<Option<Committed>, Refusal> {
        if self.is_changing(who.session) {
            // Asked again before the answer came.
            return self.changed(who.session).transpose();
        }
        let own = self.pending.as_ref().filter(|p| p.owner == who.session);
        match (own.map(|p| p.memory.clone()), &self.pending) {
            (Some(memory), _) => {
                self.can_reject(&memory)?;
                self.replace(who, memory, Way::Commit, now)
            }
            (None, None) => Ok(Some(Committed::default())),
            (None, Some(_)) => Err(Code::PendingElsewhere.into()),
        }
    }

    /// Refuses a threshold above which no score lies, unless it is in force already.
    fn can_reject(&self, memory: &Memory) -> Result<(), Refusal> {
        let (old, new) = (self.stored.memory.values(), memory.values());
        let mut none = new.rejects_none();
        match none.find(|p| old.get(*p) != new.get(*p)) {
            None => Ok(()),
            Some(parameter) => {
                let text = format!("{}: {REJECTS_NONE}", parameter.name());
                Err(Refusal::new(Code::OutOfRange, text))
            }
        }
    }

    /// Says in the log if no part can be rejected by what is stored.
    pub(super) fn warn_of_thresholds(&self) {
        for parameter in self.stored.memory.values().rejects_none() {
            log::warn!("{} is 1: no part is ever rejected by it", parameter.name());
        }
    }

    /// Puts a backup's parameters and recipes in place of all that is stored; the files of good parts that it names lie in
    /// the station's folder already. What is returned is [`Control::commit`]'s.
    ///
    /// # Errors
    /// An access code, [`Code::PendingChanges`], [`Code::Teaching`], and as [`Control::commit`].
    pub fn restore(
        &mut self,
        who: &Who<'_>,
        memory: Memory,
        now: Instant,
    ) -> Result<Option<Committed>, Refusal> {
        allowed(who.access, Access::Engineer)?;
        self.nothing_pending(who.session)?;
        if self.teach.is_some() {
            return Err(Code::Teaching.into());
        }
        let recipe = memory.active().to_string();
        let committed = self.replace(who, memory, Way::Restored, now)?;
        self.note(&line(who, "restored", "", &format!("recipe={recipe}")));
        Ok(committed)
    }

    /// Uses another recipe from now on. What is returned is [`Control::commit`]'s. If what the recipe was taught cannot
    /// be used it is in use all the same, as after a start, so that it can be put right: nothing judges, and
    /// [`Committed::untaught`] says so.
    ///
    /// # Errors
    /// [`Code::PendingChanges`], [`Code::Teaching`], and as [`Control::commit`]: a recipe whose bundle cannot be used is
    /// not put into use.
    pub fn select_recipe(
        &mut self,
        who: &Who<'_>,
        recipe: RecipeNumber,
        now: Instant,
    ) -> Result<Option<Committed>, Refusal> {
        allowed(who.access, Access::Operator)?;
        if recipe == self.stored.memory.active() {
            return Ok(Some(Committed::default()));
        }
        self.nothing_pending(who.session)?;
        if self.teach.is_some() {
            return Err(Code::Teaching.into());
        }
        let mut memory = self.stored.memory.clone();
        memory.select(recipe);
        self.replace(who, memory, Way::Recipe, now)
    }

    /// Refuses if a change is being prepared.
    pub(super) fn nothing_changes(&self) -> Result<(), Refusal> {
        match (&self.change, &self.starting) {
            (None, None) => Ok(()),
            (Some(_), _) => Err(Refusal::new(
                Code::Busy,
                "a change is being made ready or stored",
            )),
            (None, Some(_)) => {
                let text = "the station starts: what is stored is being made ready";
                Err(Refusal::new(Code::Busy, text))
            }
        }
    }

    pub(super) fn nothing_pending(&self, session: SessionId) -> Result<(), Refusal> {
        match &self.pending {
            None => Ok(()),
            Some(p) if p.owner == session => Err(Code::PendingChanges.into()),
            Some(_) => Err(Code::PendingElsewhere.into()),
        }
    }

    /// Checks, has it made ready, stores, swaps. Nothing is stored that was refused, and nothing is in force
    /// that is not stored.
    pub(super) fn replace(
        &mut self,
        who: &Who<'_>,
        memory: Memory,
        way: Way,
        now: Instant,
    ) -> Result<Option<Committed>, Refusal> {
        let taught = match &way {
            Way::Lesson(bytes) => Some(bytes.clone()),
            Way::Commit | Way::Restored | Way::Recipe => None,
        };
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
            untaught: false,
        };
        if effects.is_empty() && memory != self.stored.memory {
            // Recipes that are not in use.
            effects.push(Effect::AtOnce);
        }
        if effects.is_empty() {
            self.pending.take_if(|p| p.owner == who.session);
            if taught.is_some() {
                self.end_lesson();
            }
            return Ok(Some(committed));
        }
        self.nothing_changes()?;
        // Scores of another network, or in other light, are not those that are being taught.
        let others = [
            Parameter::Taught,
            Parameter::CameraExposureUs,
            Parameter::CameraGain,
        ];
        let of_types = |p: &Parameter| {
            use Parameter::{Bundle, Lanes, TypeThresholds};
            matches!(p, Bundle | Lanes | TypeThresholds)
        };
        let taught_by = |p: &Parameter| chooses_network(*p) || others.contains(p);
        if self.teach.is_some() && changed.iter().any(taught_by) && taught.is_none() {
            return Err(Code::Teaching.into());
        }
        memory.check()?;
        let settings = new.settings()?;
        self.wear.take(now)?;
        let notes = if from != to {
            vec![line(who, "recipe", &from.to_string(), &to.to_string())]
        } else {
            let note = |p: &Parameter| {
                let show = |v: &Values| quoted(&p.entry().show(v.get(*p)).to_string()).into_owned();
                line(who, p.name(), &show(&old), &show(&new))
            };
            changed.iter().map(note).collect()
        };
        let at_once = effects.into_iter().filter(|e| *e != Effect::Restart).max();
        let wanted = at_once.map(|effect| Wanted {
            values: new,
            settings,
            effect,
            state: NetworkState::Stored,
            stop: false,
            taught,
        });
        let stage = match wanted {
            Some(wanted) => Stage::Preparing(self.host.prepare(&wanted)),
            // Read at the next start only.
            None => Stage::Storing {
                loadout: None,
                last_good: None,
            },
        };
        let change = self.change.insert(Change {
            owner: Some(who.session),
            memory,
            notes,
            committed,
            network: changed.iter().any(|p| chooses_network(*p)),
            names_types: matches!(way, Way::Commit) && changed.iter().any(of_types),
            way,
            stage,
        });
        if let Stage::Storing { .. } = change.stage {
            self.store();
        }
        self.changed(who.session).transpose()
    }

    /// What came of a session's change; `None`: it is still being made ready or stored, or there is none. Never
    /// waits.
    pub fn changed(&mut self, session: SessionId) -> Option<Result<Committed, Refusal>> {
        self.go_on_changing();
        let place = self.changed.iter().position(|(s, _)| *s == session)?;
        Some(self.changed.swap_remove(place).1)
    }

    /// Whether a session's change is being prepared or stored, or its result was not fetched yet.
    pub fn is_changing(&self, session: SessionId) -> bool {
        let owners = self.change.iter().filter_map(|c| c.owner);
        let mut all = owners.chain(self.changed.iter().map(|(s, _)| *s));
        all.any(|owner| owner == session)
    }

    /// Whether a change is being stored.
    pub(super) fn is_storing(&self) -> bool {
        let stage = self.change.as_ref().map(|c| &c.stage);
        matches!(stage, Some(Stage::Storing { .. }))
    }

    /// Continues a change: what is prepared is stored, and what is stored goes into force.
    pub(super) fn go_on_changing(&mut self) {
        if let Some(change) = &mut self.change
            && let Stage::Preparing(preparing) = &mut change.stage
        {
            match preparing.poll() {
                None => (),
                // It is in use then as after a start: where else could it be put right?
                Some(Err(Refused::Taught(why))) if matches!(change.way, Way::Recipe) => {
                    log::error!("{why}");
                    change.committed.untaught = true;
                    self.store_prepared(None);
                }
                Some(Err(refused)) => {
                    let refusal = refusal(refused, &change.way, change.memory.active());
                    let owner = change.owner;
                    self.change = None;
                    self.answer(owner, Err(refusal));
                }
                Some(Ok(loadout)) => {
                    let types = match change.names_types {
                        true => self.host.types(&loadout),
                        false => None,
                    };
                    match types.and_then(|types| stranger(&change.memory.values(), &types)) {
                        None => self.store_prepared(Some(loadout)),
                        Some(refusal) => {
                            let owner = change.owner;
                            change.stage = Stage::Storing {
                                loadout: Some(loadout),
                                last_good: None,
                            };
                            self.change.take().into_iter().for_each(let_go);
                            self.answer(owner, Err(refusal));
                        }
                    }
                }
            }
        }
        self.look_what_is_written();
    }

    /// Begins to store the change that was made ready; without a loadout nothing judges then.
    fn store_prepared(&mut self, loadout: Option<H::Loadout>) {
        let judged = self.host.judging().state == Some(NetworkState::Stored);
        if let Some(change) = &mut self.change {
            let good = || LastGood::of(&self.stored.memory);
            let last_good = (change.network && judged).then(good);
            change.stage = Stage::Storing { loadout, last_good };
        }
        self.store();
    }

    fn answer(&mut self, owner: Option<SessionId>, result: Result<Committed, Refusal>) {
        self.changed.extend(owner.map(|owner| (owner, result)));
    }

    /// Begins to store the change.
    fn store(&mut self) {
        if let Some(change) = &self.change {
            let mut stored = self.stored.clone();
            change.put_into(&mut stored);
            self.writer.change(stored, self.stored.clone());
            self.log_dirty = false;
        }
    }

    /// Takes in whether the change is stored: then it goes into force, otherwise it stays pending.
    pub(super) fn change_is_written(&mut self, result: Result<(), StoreError>) {
        let Some(change) = self.change.take() else {
            return;
        };
        let owner = change.owner;
        if let Err(e) = result {
            self.log_dirty = true;
            self.answer(owner, Err(e.into()));
            return let_go(change);
        }
        change.put_into(&mut self.stored);
        self.warn_of_thresholds();
        self.pending.take_if(|p| Some(p.owner) == owner);
        self.answer(owner, Ok(change.committed));
        let accepts = matches!(change.way, Way::Lesson(_));
        if change.committed.untaught {
            self.stands_untaught();
        }
        if let Stage::Storing {
            loadout: Some(loadout),
            ..
        } = change.stage
        {
            self.host.swap(loadout);
        }
        if accepts {
            self.end_lesson();
        }
    }
}

/// The refusal of what cannot be made ready: what it says to do must work for what is not in use, too.
fn refusal(refused: Refused, way: &Way, recipe: RecipeNumber) -> Refusal {
    let plain = Refusal::from(refused);
    let text = match (refused, way) {
        (Refused::Network(_) | Refused::Regions(_), Way::Recipe) => format!(
            "{}: put the file back, or restore a [recipe.{recipe}] with another",
            plain.text
        ),
        // What is said to do after the colon is for the recipe in use.
        (Refused::Taught(why), Way::Restored) => {
            let why = why.split(": SET").next().unwrap_or(why);
            format!("taught: {why}: in the file, set taught of recipe {recipe} to \"\"")
        }
        _ => return plain,
    };
    Refusal::new(plain.code, text)
}

/// The refusal of a type that a list names and the network does not have.
fn stranger(values: &Values, types: &[String]) -> Option<Refusal> {
    // The lists were checked with the settings.
    let rules = TypeRules::of(values).ok()?;
    let (parameter, name) = rules.strangers(types).next()?;
    let has = match types.is_empty() {
        true => "none".to_string(),
        false => types.join(", "),
    };
    let text = format!(
        "{}: the bundle has no type {name}; its types: {has}",
        parameter.name()
    );
    Some(Refusal::new(Code::Contradiction, text))
}

/// Drops a change that was given up. Freeing a network's memory takes time, so another thread does it.
fn let_go<L: Send + 'static>(change: Change<L>) {
    let ready = match change.stage {
        // Whoever makes it ready finds nobody, and drops it.
        Stage::Preparing(mut preparing) => preparing.poll().and_then(Result::ok),
        Stage::Storing { loadout, .. } => loadout,
    };
    if let Some(loadout) = ready {
        // Without a thread it is dropped in place.
        let _ = Builder::new()
            .name("let go".into())
            .spawn(move || drop(loadout));
    }
}
