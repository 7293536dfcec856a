//! What is known of the station, and how its nodes get their values.

use super::nodes::component;
use super::{AUTOMATIC, LAST, MACHINE, Names, PLAIN, RECIPES, STATION, SYSTEM};
use crate::event::ResultReady;
use crate::results::{self, REMEMBERED, recipe_id};
use crate::station::{News, Recipe, Status, states};
use crate::types::{self, RESULT_FIELDS, State};
use crate::values::{JobId, ResultData, value};
use opcua::server::SubscriptionCache;
use opcua::server::address_space::ObjectBuilder;
use opcua::server::node_manager::memory::{InMemoryNodeManager, InMemoryNodeManagerImpl};
use opcua::types::{
    AttributeId, DataTypeId, DataValue, DateTime, LocalizedText, NodeId, ObjectId, ObjectTypeId,
    QualifiedName, StatusCode, Variant,
};
use std::collections::VecDeque;

/// What is known of the station.
#[derive(Default)]
pub struct Known {
    /// What it says of itself; `None`: it is away.
    pub status: Option<Status>,
    /// Its recipes.
    pub recipes: Vec<Recipe>,
    /// Its last results, the oldest first.
    pub results: VecDeque<ResultData>,
    /// The job that is going on.
    pub job: JobId,
    /// Whether the job was begun by StartContinuous and is not yet seen.
    pub begun: bool,
    automatic: Option<State>,
    counters: Vec<String>,
}

/// New values of nodes.
type Values = Vec<(NodeId, DataValue)>;

/// The name of a new job: when it began.
pub fn new_job() -> JobId {
    JobId {
        id: DateTime::now().to_rfc3339().into(),
    }
}

impl Known {
    /// Takes what is new, and hands it to clients.
    pub fn take<T: InMemoryNodeManagerImpl>(
        &mut self,
        news: News,
        names: Names,
        manager: &InMemoryNodeManager<T>,
        subscriptions: &SubscriptionCache,
    ) {
        let mut values = Values::new();
        let mut events = Vec::new();
        let mut problem = String::new();
        match news {
            News::Away(why) => {
                self.status = None;
                problem = why;
            }
            News::Here {
                status,
                recipes,
                results,
            } => {
                let running = states(Some(&status)).1 == Some(types::CONTINUOUS_EXECUTION);
                let begins = running && self.automatic != Some(types::CONTINUOUS_EXECUTION);
                if begins && !std::mem::take(&mut self.begun) {
                    self.job = new_job();
                }
                if let Some(recipes) = recipes.filter(|new| *new != self.recipes) {
                    self.recipes = recipes;
                    self.display(names, manager, subscriptions);
                }
                for part in &results {
                    let result = results::result(names.own, part, &status, &self.job);
                    let fields = results::fields(&result);
                    let outcome = part.cause.as_ref().map_or(part.outcome.clone(), |cause| {
                        format!("{}: {cause}", part.outcome)
                    });
                    events.push(ResultReady::new(
                        names.vision,
                        (&names.node(SYSTEM), SYSTEM),
                        result.result_id.id.as_ref(),
                        format!("part {}: {outcome}", part.part),
                        result.creation_time,
                        fields.clone(),
                    ));
                    self.results.push_back(result);
                    if self.results.len() > REMEMBERED {
                        self.results.pop_front();
                    }
                    let time = self.results.back().map(|r| r.creation_time);
                    let mut put = |path: String, value: Variant| {
                        let mut value = DataValue::new_now(value);
                        value.source_timestamp = time;
                        values.push((names.node(&path), value));
                    };
                    if let Some(result) = self.results.back() {
                        put(LAST.into(), value(result.clone()));
                    }
                    for ((name, ..), field) in RESULT_FIELDS.iter().zip(fields) {
                        put(format!("{LAST}.{name}"), field);
                    }
                    let plain: [Variant; 5] = [
                        part.part.into(),
                        (part.outcome == "good").into(),
                        part.score.map_or(Variant::Empty, Variant::from),
                        part.cause.clone().unwrap_or_default().into(),
                        part.kind.clone().unwrap_or_default().into(),
                    ];
                    for ((name, _), field) in PLAIN.iter().zip(plain) {
                        put(format!("{LAST}.{name}"), field);
                    }
                    // One after the other, so that whoever subscribes to the last result gets each of them.
                    set(manager, subscriptions, std::mem::take(&mut values));
                }
                self.counters(&status, names, manager, &mut values);
                self.status = Some(*status);
            }
        }
        self.machines(names, &mut values);
        self.said(names, &problem, &mut values);
        self.recipe_values(names, &mut values);
        set(manager, subscriptions, values);
        for event in &events {
            for emitter in [ObjectId::Server.into(), names.node(SYSTEM)] {
                let event: &dyn opcua::nodes::Event = event;
                subscriptions.notify_events([(event, &emitter)].into_iter());
            }
        }
    }

    fn machines(&mut self, names: Names, values: &mut Values) {
        let (machine, automatic) = states(self.status.as_ref());
        self.automatic = automatic;
        for (path, state) in [(MACHINE, Some(machine)), (AUTOMATIC, automatic)] {
            let path = format!("{path}.CurrentState");
            let (text, id, number): (Variant, Variant, Variant) = match state {
                Some(state) => (
                    LocalizedText::from(state.name).into(),
                    names.vision(state.node).into(),
                    state.number.into(),
                ),
                None => (
                    LocalizedText::null().into(),
                    NodeId::null().into(),
                    0u32.into(),
                ),
            };
            for (end, value) in [("", text), (".Id", id), (".Number", number)] {
                let mut value = DataValue::new_now(value);
                if state.is_none() {
                    value.status = Some(StatusCode::BadStateNotActive);
                }
                values.push((names.node(&format!("{path}{end}")), value));
            }
        }
    }

    fn said(&self, names: Names, problem: &str, values: &mut Values) {
        let mut put = |name: &str, value: Option<Variant>| {
            let mut value = DataValue::new_now(value.unwrap_or_default());
            if value.value == Some(Variant::Empty) {
                value.status = Some(StatusCode::BadNoCommunication);
            }
            values.push((names.node(&format!("{STATION}.{name}")), value));
        };
        let status = self.status.as_ref();
        put("Connected", Some(status.is_some().into()));
        put("Problem", Some(problem.into()));
        put("Name", status.map(|s| s.station.as_str().into()));
        put("Version", status.map(|s| s.version.as_str().into()));
        put("Mode", status.map(|s| s.mode.as_str().into()));
        put("Threshold", status.map(|s| s.threshold.into()));
        put(
            "Network",
            status.map(|s| s.network.name.clone().unwrap_or_default().into()),
        );
        put(
            "Alarms",
            status.map(|s| {
                let text =
                    |a: &crate::station::Alarm| format!("{} {}: {}", a.number, a.name, a.text);
                s.alarms.iter().map(text).collect::<Vec<String>>().into()
            }),
        );
    }

    fn recipe_values(&self, names: Names, values: &mut Values) {
        for number in 1..=RECIPES {
            let recipe = self.recipes.iter().find(|r| r.number == number);
            let path = Names::recipe(number);
            let name = recipe.map_or("", |r| r.name.as_str());
            let away = |value: Variant| {
                let mut value = DataValue::new_now(value);
                if self.status.is_none() {
                    value.status = Some(StatusCode::BadNoCommunication);
                }
                value
            };
            let id = value(recipe_id(&number.to_string(), name));
            values.push((names.node(&format!("{path}.InternalId")), away(id)));
            // The state is newer than the list.
            let status = self.status.as_ref();
            let prepared = status.is_some_and(|s| s.recipe == number.to_string());
            values.push((
                names.node(&format!("{path}.IsPrepared")),
                away(prepared.into()),
            ));
            let mut unknown = DataValue::new_now(DateTime::null());
            unknown.status = Some(StatusCode::BadNotSupported);
            values.push((names.node(&format!("{path}.LastModified")), unknown));
        }
    }

    /// Recipes are shown by number and name.
    fn display<T: InMemoryNodeManagerImpl>(
        &self,
        names: Names,
        manager: &InMemoryNodeManager<T>,
        subscriptions: &SubscriptionCache,
    ) {
        for recipe in &self.recipes {
            let id = names.node(&Names::recipe(recipe.number));
            let shown = format!("{} {}", recipe.number, recipe.name);
            let shown: Variant = LocalizedText::from(shown.trim_end()).into();
            if let Err(e) =
                manager.set_attribute(subscriptions, &id, AttributeId::DisplayName, shown)
            {
                log::debug!("recipe {}: {e}", recipe.number);
            }
        }
    }

    /// Counters have their nodes when the station has named them.
    fn counters<T: InMemoryNodeManagerImpl>(
        &mut self,
        status: &Status,
        names: Names,
        manager: &InMemoryNodeManager<T>,
        values: &mut Values,
    ) {
        let parent = format!("{STATION}.Counters");
        for (name, count) in &status.counters {
            if !self.counters.contains(name) {
                let mut space = manager.address_space().write();
                if self.counters.is_empty() {
                    let browse = QualifiedName::new(names.own, "Counters");
                    ObjectBuilder::new(&names.node(&parent), browse, "Counters")
                        .component_of(names.node(STATION))
                        .has_type_definition(ObjectTypeId::BaseObjectType)
                        .insert(&mut *space);
                }
                let browse = QualifiedName::new(names.own, name.as_str());
                let kind = DataTypeId::UInt64.into();
                component(&mut space, names, &parent, browse, kind, -1);
                self.counters.push(name.clone());
            }
            values.push((
                names.node(&format!("{parent}.{name}")),
                DataValue::new_now(*count),
            ));
        }
    }
}

/// Sets values that changed: an equal one is left alone, with its time.
fn set<T: InMemoryNodeManagerImpl>(
    manager: &InMemoryNodeManager<T>,
    subscriptions: &SubscriptionCache,
    values: Values,
) {
    let changed: Values = {
        let space = manager.address_space().read();
        let same = |(id, new): &(NodeId, DataValue)| {
            let node = space.find(id);
            let old = node.and_then(|node| {
                node.as_node().get_attribute(
                    opcua::types::TimestampsToReturn::Neither,
                    AttributeId::Value,
                    &opcua::types::NumericRange::None,
                    &opcua::types::DataEncoding::Binary,
                )
            });
            old.is_some_and(|old| old.value == new.value && old.status() == new.status())
        };
        values.into_iter().filter(|value| !same(value)).collect()
    };
    let values = changed.iter().map(|(id, value)| (id, None, value.clone()));
    if let Err(e) = manager.set_values(subscriptions, values) {
        log::error!("values are not passed on: {e}");
    }
}
