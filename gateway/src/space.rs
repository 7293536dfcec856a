//! The vision system: its nodes, and their values.
//!
//! Nodes of the instance are called by their path, `VisionSystem.ResultManagement.Results.LastResult`.

use crate::event::ResultReady;
use crate::methods::METHODS;
use crate::results::{self, REMEMBERED, recipe_id};
use crate::station::{News, Recipe, Status, states};
use crate::types::{self, Kind, RESULT_FIELDS, State};
use crate::values::{JobId, ResultData, value};
use opcua::server::SubscriptionCache;
use opcua::server::address_space::{
    AddressSpace, EventNotifier, MethodBuilder, ObjectBuilder, VariableBuilder,
};
use opcua::server::node_manager::memory::{InMemoryNodeManager, InMemoryNodeManagerImpl};
use opcua::types::{
    Argument, AttributeId, DataTypeId, DataValue, DateTime, LocalizedText, NodeId, ObjectId,
    ObjectTypeId, QualifiedName, StatusCode, UAString, VariableTypeId, Variant,
};
use std::collections::VecDeque;

/// The namespace of the instance.
pub const OWN: &str = "urn:faprompt-edge:gateway";
/// Recipes of a station.
const RECIPES: u32 = 32;

const SYSTEM: &str = "VisionSystem";
/// The first state machine.
pub const MACHINE: &str = "VisionSystem.VisionStateMachine";
/// The second one.
pub const AUTOMATIC: &str = "VisionSystem.VisionStateMachine.AutomaticModeStateMachine";
/// Results.
pub const RESULTS: &str = "VisionSystem.ResultManagement";
/// Recipes.
pub const RECIPE_LIST: &str = "VisionSystem.RecipeManagement";
const LAST: &str = "VisionSystem.ResultManagement.Results.LastResult";
const STATION: &str = "VisionSystem.Station";

/// Indices of both namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// OPC 40100-1's.
    pub vision: u16,
    /// The instance's.
    pub own: u16,
}

impl Names {
    /// A node of the instance.
    pub fn node(self, path: &str) -> NodeId {
        NodeId::new(self.own, path.to_string())
    }

    fn vision(self, number: u32) -> NodeId {
        NodeId::new(self.vision, number)
    }

    /// The path of a recipe.
    pub fn recipe(number: u32) -> String {
        format!("{RECIPE_LIST}.Recipes.{number}")
    }
}

/// What the last result is for clients that read no structures: name, data type.
const PLAIN: [(&str, DataTypeId); 5] = [
    ("Part", DataTypeId::UInt64),
    ("Pass", DataTypeId::Boolean),
    ("Score", DataTypeId::Double),
    ("Cause", DataTypeId::String),
    ("DefectType", DataTypeId::String),
];

/// What the station says beyond the standard: name, data type.
const SAID: [(&str, DataTypeId); 7] = [
    ("Connected", DataTypeId::Boolean),
    ("Problem", DataTypeId::String),
    ("Name", DataTypeId::String),
    ("Version", DataTypeId::String),
    ("Mode", DataTypeId::String),
    ("Threshold", DataTypeId::Double),
    ("Network", DataTypeId::String),
];

/// Puts types and instance into the address space.
pub fn insert(space: &mut AddressSpace, names: Names) {
    types::insert(space, names.vision);
    let objects: [(&str, Option<&str>, &str, NodeId); 8] = [
        (SYSTEM, None, SYSTEM, names.vision(types::VISION_SYSTEM)),
        (
            MACHINE,
            Some(SYSTEM),
            "VisionStateMachine",
            names.vision(types::STATE_MACHINE),
        ),
        (
            AUTOMATIC,
            Some(MACHINE),
            "AutomaticModeStateMachine",
            names.vision(types::AUTOMATIC_MODE),
        ),
        (
            RESULTS,
            Some(SYSTEM),
            "ResultManagement",
            names.vision(types::RESULT_MANAGEMENT),
        ),
        (
            "VisionSystem.ResultManagement.Results",
            Some(RESULTS),
            "Results",
            names.vision(types::RESULT_FOLDER),
        ),
        (
            RECIPE_LIST,
            Some(SYSTEM),
            "RecipeManagement",
            names.vision(types::RECIPE_MANAGEMENT),
        ),
        (
            "VisionSystem.RecipeManagement.Recipes",
            Some(RECIPE_LIST),
            "Recipes",
            names.vision(types::RECIPE_FOLDER),
        ),
        (
            STATION,
            Some(SYSTEM),
            "Station",
            ObjectTypeId::BaseObjectType.into(),
        ),
    ];
    for (path, parent, name, kind) in objects {
        let builder = ObjectBuilder::new(
            &names.node(path),
            QualifiedName::new(names.vision, name),
            name,
        )
        .has_type_definition(kind);
        let builder = match parent {
            None => builder
                .organized_by(ObjectId::ObjectsFolder)
                .event_notifier(EventNotifier::SUBSCRIBE_TO_EVENTS),
            Some(parent) => builder.component_of(names.node(parent)),
        };
        builder.insert(space);
    }
    for machine in [MACHINE, AUTOMATIC] {
        let path = format!("{machine}.CurrentState");
        VariableBuilder::new(&names.node(&path), "CurrentState", "CurrentState")
            .component_of(names.node(machine))
            .data_type(DataTypeId::LocalizedText)
            .has_type_definition(VariableTypeId::FiniteStateVariableType)
            .value(LocalizedText::null())
            .insert(space);
        for (name, kind) in [("Id", DataTypeId::NodeId), ("Number", DataTypeId::UInt32)] {
            property(
                space,
                names,
                &path,
                QualifiedName::new(0, name),
                kind.into(),
            );
        }
    }
    VariableBuilder::new(
        &names.node(LAST),
        QualifiedName::new(names.vision, "LastResult"),
        "LastResult",
    )
    .component_of(names.node("VisionSystem.ResultManagement.Results"))
    .data_type(names.vision(ResultData::TYPE))
    .has_type_definition(names.vision(types::RESULT))
    .value(Variant::Empty)
    .insert(space);
    for (name, kind, _) in RESULT_FIELDS {
        let name = QualifiedName::new(names.vision, *name);
        component(
            space,
            names,
            LAST,
            name,
            kind.node(names.vision),
            kind.rank(),
        );
    }
    for (parent, list) in [(LAST, &PLAIN[..]), (STATION, &SAID[..])] {
        for (name, kind) in list {
            let name = QualifiedName::new(names.own, *name);
            component(space, names, parent, name, (*kind).into(), -1);
        }
    }
    let alarms = QualifiedName::new(names.own, "Alarms");
    component(space, names, STATION, alarms, DataTypeId::String.into(), 1);
    for number in 1..=RECIPES {
        let path = Names::recipe(number);
        let name = QualifiedName::new(names.own, number.to_string());
        ObjectBuilder::new(&names.node(&path), name, number.to_string())
            .component_of(names.node("VisionSystem.RecipeManagement.Recipes"))
            .has_type_definition(names.vision(types::RECIPE))
            .insert(space);
        for (name, kind) in [
            (
                "InternalId",
                names.vision(crate::values::RecipeIdInternal::TYPE),
            ),
            ("IsPrepared", DataTypeId::Boolean.into()),
            ("LastModified", DataTypeId::UtcTime.into()),
        ] {
            property(
                space,
                names,
                &path,
                QualifiedName::new(names.vision, name),
                kind,
            );
        }
        for (name, outputs) in [
            (
                "Prepare",
                &[("IsCompleted", BOOLEAN), ("Error", INTEGER)][..],
            ),
            ("Unprepare", &[("Error", INTEGER)][..]),
        ] {
            method(space, names, &path, name, &[], outputs);
        }
    }
    for (object, name, inputs, outputs) in METHODS {
        method(space, names, object, name, inputs, outputs);
    }
}

const BOOLEAN: Kind = Kind::Base(DataTypeId::Boolean);
const INTEGER: Kind = Kind::Base(DataTypeId::Int32);

fn component(
    space: &mut AddressSpace,
    names: Names,
    parent: &str,
    name: QualifiedName,
    kind: NodeId,
    rank: i32,
) {
    let text = name.name.to_string();
    VariableBuilder::new(&names.node(&format!("{parent}.{text}")), name, text)
        .component_of(names.node(parent))
        .data_type(kind)
        .value_rank(rank)
        .has_type_definition(VariableTypeId::BaseDataVariableType)
        .value(Variant::Empty)
        .insert(space);
}

fn property(
    space: &mut AddressSpace,
    names: Names,
    parent: &str,
    name: QualifiedName,
    kind: NodeId,
) {
    let text = name.name.to_string();
    VariableBuilder::new(&names.node(&format!("{parent}.{text}")), name, text)
        .property_of(names.node(parent))
        .data_type(kind)
        .has_type_definition(VariableTypeId::PropertyType)
        .value(Variant::Empty)
        .insert(space);
}

fn method(
    space: &mut AddressSpace,
    names: Names,
    object: &str,
    name: &str,
    inputs: &[(&str, Kind)],
    outputs: &[(&str, Kind)],
) {
    let path = format!("{object}.{name}");
    let argument = |(name, kind): &(&str, Kind)| Argument {
        name: UAString::from(*name),
        data_type: kind.node(names.vision),
        value_rank: kind.rank(),
        array_dimensions: None,
        description: LocalizedText::null(),
    };
    let browse = QualifiedName::new(names.vision, name);
    let mut builder = MethodBuilder::new(&names.node(&path), browse, name)
        .component_of(names.node(object))
        .executable(true)
        .user_executable(true);
    for (list, end, is_input) in [
        (inputs, "InputArguments", true),
        (outputs, "OutputArguments", false),
    ] {
        if list.is_empty() {
            continue;
        }
        let list: Vec<Argument> = list.iter().map(argument).collect();
        let id = names.node(&format!("{path}.{end}"));
        builder = match is_input {
            true => builder.input_args(space, &id, &list),
            false => builder.output_args(space, &id, &list),
        };
    }
    builder.insert(space);
}

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
