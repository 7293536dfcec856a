//! The start: what is stored is made ready and put into force, as any other change is. If it cannot be used,
//! what judged before is tried; if that cannot be used either, the line stays stopped, and the ports are
//! there to put it right.

use super::Control;
use crate::control::host::{ControlledStation, Preparing, Refused, Wanted};
use crate::control::table::{Effect, Parameter};
use crate::line::NetworkState;

/// What is being made ready.
pub(super) struct Starting<L> {
    state: NetworkState,
    preparing: Preparing<L>,
}

impl<H: ControlledStation> Control<H> {
    /// Begins to put into force what is stored; [`Control::tick`] goes on with it. To be called once, for a
    /// station that was started without a network.
    pub fn start(&mut self) {
        self.warn_of_thresholds();
        self.try_to_start(NetworkState::Stored);
    }

    /// Whether what is stored is still being made ready.
    pub fn is_starting(&self) -> bool {
        self.starting.is_some()
    }

    fn try_to_start(&mut self, state: NetworkState) {
        let mut values = self.stored.memory.values();
        let mut stop = self.stored.settings_lost;
        if let (NetworkState::LastGood, Some(good)) = (state, &self.stored.last_good) {
            good.put_into(&mut values);
            // Parts of another kind may be on the belt.
            stop |= good.recipe != self.stored.memory.active();
        }
        self.starting = match values.settings() {
            Ok(settings) => {
                let wanted = Wanted {
                    values,
                    settings,
                    effect: Effect::AtOnce,
                    state,
                    stop,
                    taught: None,
                };
                let preparing = self.host.prepare(&wanted);
                Some(Starting { state, preparing })
            }
            Err(e) => {
                log::error!("{e}");
                self.host.no_network();
                None
            }
        };
    }

    /// Goes on with the start.
    pub(super) fn go_on_starting(&mut self) {
        let Some(starting) = &mut self.starting else {
            return;
        };
        let Some(prepared) = starting.preparing.poll() else {
            return;
        };
        let state = starting.state;
        self.starting = None;
        match (prepared, state) {
            (Ok(loadout), _) => {
                self.host.swap(loadout);
                if self.host.judging().state == Some(NetworkState::ZeroShot) {
                    let name = self.stored.memory.text(Parameter::Taught).to_string();
                    self.noted("taught", &name, "cannot be used: FAPrompt judges alone");
                }
                if state == NetworkState::LastGood {
                    let judging = self.host.judging();
                    let bundle = judging.network.as_ref().map_or("", |n| n.bundle.as_str());
                    let stored = self.stored.memory.text(Parameter::Bundle);
                    log::error!(
                        "the stored bundle `{stored}` cannot be used: the last good one judges, {bundle}"
                    );
                    self.noted(
                        "network",
                        &stored_name(self.stored.memory.text(Parameter::Bundle)),
                        bundle,
                    );
                }
            }
            // The bundle is there: what judged before it would be a step back that nobody asked for.
            (Err(Refused::Taught(why)), NetworkState::Stored) => {
                log::error!("{why}");
                self.stands_untaught();
            }
            // Neither is what judged where other regions were looked at.
            (Err(Refused::Regions(why)), NetworkState::Stored) => {
                log::error!("regions: {why}: the line stays stopped until they are put right");
                self.host.no_network();
                let name = self.stored.memory.text(Parameter::Regions).to_string();
                self.noted("regions", &name, "cannot be used");
            }
            (Err(refused), NetworkState::Stored) if self.stored.last_good.is_some() => {
                log::error!(
                    "what is stored cannot judge: {refused}; the last good network is tried"
                );
                self.try_to_start(NetworkState::LastGood);
            }
            (Err(refused), _) => {
                log::error!(
                    "nothing can judge: {refused}; the line stays stopped until another bundle is set"
                );
                self.host.no_network();
                self.noted(
                    "network",
                    &stored_name(self.stored.memory.text(Parameter::Bundle)),
                    "none",
                );
            }
        }
    }

    /// What was taught cannot be used, and nothing judges without it.
    pub(super) fn stands_untaught(&mut self) {
        let recipe = self.stored.memory.active();
        log::error!("what recipe {recipe} was taught cannot be used: the line stays stopped");
        self.host.untaught();
        let name = self.stored.memory.text(Parameter::Taught).to_string();
        self.noted("taught", &name, "cannot be used");
    }
}

/// A bundle as the parameters call it.
fn stored_name(bundle: &str) -> String {
    match bundle {
        "" => "default".into(),
        bundle => bundle.into(),
    }
}
