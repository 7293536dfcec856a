//! The part of OPC 40100-1's type model that a station fills, by the standard's node ids: object types, states, event
//! fields, structures.

mod structures;

use crate::values::*;
use opcua::server::address_space::{
    AddressSpace, ObjectBuilder, ObjectTypeBuilder, VariableBuilder, VariableTypeBuilder,
};
use opcua::types::{
    DataTypeId, NodeId, ObjectId, ObjectTypeId, QualifiedName, VariableTypeId, Variant,
};

/// `VisionSystemType`.
pub const VISION_SYSTEM: u32 = 1003;
/// `RecipeType`.
pub const RECIPE: u32 = 1002;
/// `RecipeManagementType`.
pub const RECIPE_MANAGEMENT: u32 = 1004;
/// `ResultManagementType`.
pub const RESULT_MANAGEMENT: u32 = 1007;
/// `RecipeFolderType`.
pub const RECIPE_FOLDER: u32 = 1008;
/// `ResultFolderType`.
pub const RESULT_FOLDER: u32 = 1016;
/// `VisionStateMachineType`.
pub const STATE_MACHINE: u32 = 1017;
/// `VisionAutomaticModeStateMachineType`.
pub const AUTOMATIC_MODE: u32 = 1021;
/// `ResultReadyEventType`.
pub const RESULT_READY: u32 = 1024;
/// `ResultType`.
pub const RESULT: u32 = 2002;
/// `TriStateBooleanDataType`.
pub const TRI_STATE: u32 = 3014;
/// `ResultStateDataType`, an `Int32`.
pub const RESULT_STATE: u32 = 3009;
/// `Handle`, a `UInt32`.
pub const HANDLE: u32 = 3018;
/// `BinaryIdBaseDataType`.
const BINARY_ID: u32 = 3019;

/// Object types: number, name, base.
const OBJECTS: [(u32, &str, ObjectTypeId); 9] = [
    (
        VISION_SYSTEM,
        "VisionSystemType",
        ObjectTypeId::BaseObjectType,
    ),
    (RECIPE, "RecipeType", ObjectTypeId::BaseObjectType),
    (
        RECIPE_MANAGEMENT,
        "RecipeManagementType",
        ObjectTypeId::BaseObjectType,
    ),
    (
        RESULT_MANAGEMENT,
        "ResultManagementType",
        ObjectTypeId::BaseObjectType,
    ),
    (RECIPE_FOLDER, "RecipeFolderType", ObjectTypeId::FolderType),
    (RESULT_FOLDER, "ResultFolderType", ObjectTypeId::FolderType),
    (
        STATE_MACHINE,
        "VisionStateMachineType",
        ObjectTypeId::FiniteStateMachineType,
    ),
    (
        AUTOMATIC_MODE,
        "VisionAutomaticModeStateMachineType",
        ObjectTypeId::FiniteStateMachineType,
    ),
    (
        RESULT_READY,
        "ResultReadyEventType",
        ObjectTypeId::BaseEventType,
    ),
];

/// A state of one of the two state machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Number of its node in the state machine's type.
    pub node: u32,
    /// Its name.
    pub name: &'static str,
    /// Its `StateNumber`.
    pub number: u32,
}

const fn state(node: u32, name: &'static str, number: u32) -> State {
    State { node, name, number }
}

/// Not ready for use.
pub const PREOPERATIONAL: State = state(5028, "Preoperational", 1);
/// Switched off in an orderly way.
pub const HALTED: State = state(5029, "Halted", 2);
/// Something is wrong.
pub const ERROR: State = state(5030, "Error", 3);
/// In use: the second state machine says how.
pub const OPERATIONAL: State = state(5031, "Operational", 4);
/// No recipe is ready.
pub const INITIALIZED: State = state(5056, "Initialized", 5);
/// A recipe is ready.
pub const READY: State = state(5057, "Ready", 6);
/// One job; the station never is in this state.
pub const SINGLE_EXECUTION: State = state(5058, "SingleExecution", 7);
/// Inspects.
pub const CONTINUOUS_EXECUTION: State = state(5059, "ContinuousExecution", 8);

/// Structures: number, encoding, name, base, fields (name, data type, whether it is optional).
type Fields = &'static [(&'static str, Kind, bool)];

/// The data type of a field or variable.
#[derive(Clone, Copy)]
pub enum Kind {
    /// One of the base standard.
    Base(DataTypeId),
    /// One of OPC 40100-1.
    Vision(u32),
    /// Any number of values of any kind.
    Any,
}

impl Kind {
    /// Its node, in the namespace `vision` for the standard's own.
    pub fn node(self, vision: u16) -> NodeId {
        match self {
            Kind::Base(kind) => kind.into(),
            Kind::Vision(number) => NodeId::new(vision, number),
            Kind::Any => DataTypeId::BaseDataType.into(),
        }
    }

    /// Its value rank.
    pub fn rank(self) -> i32 {
        if matches!(self, Kind::Any) { 1 } else { -1 }
    }
}

// OPC 40100-1 has a type of this name of its own (3017), made before the base standard had this one: the same on the
// wire, but clients that know types by name (asyncua) take the one for the other.
const TEXT: Kind = Kind::Base(DataTypeId::TrimmedString);
const BOOLEAN: Kind = Kind::Base(DataTypeId::Boolean);
const TIME: Kind = Kind::Base(DataTypeId::UtcTime);
const DURATION: Kind = Kind::Base(DataTypeId::Duration);

const ID: Fields = &[("Id", TEXT, false)];
const DESCRIBED: Fields = &[
    ("Id", TEXT, false),
    ("Description", Kind::Base(DataTypeId::LocalizedText), true),
];
const VERSIONED: Fields = &[
    ("Id", TEXT, false),
    ("Version", TEXT, true),
    ("Hash", Kind::Base(DataTypeId::ByteString), true),
    ("HashAlgorithm", Kind::Base(DataTypeId::String), true),
    ("Description", Kind::Base(DataTypeId::LocalizedText), true),
];
const TIMES: Fields = &[
    ("StartTime", TIME, false),
    ("EndTime", TIME, false),
    ("AcquisitionDuration", DURATION, true),
    ("ProcessingDuration", DURATION, true),
];

/// Fields of a result: of its structure, of `ResultType` and (all but the second) of `ResultReadyEventType`.
pub const RESULT_FIELDS: Fields = &[
    ("ResultId", Kind::Vision(ResultId::TYPE), false),
    ("HasTransferableDataOnFile", BOOLEAN, true),
    ("IsPartial", BOOLEAN, false),
    ("IsSimulated", BOOLEAN, true),
    ("ResultState", Kind::Vision(RESULT_STATE), false),
    ("MeasId", Kind::Vision(MeasId::TYPE), true),
    ("PartId", Kind::Vision(PartId::TYPE), true),
    (
        "ExternalRecipeId",
        Kind::Vision(RecipeIdExternal::TYPE),
        true,
    ),
    (
        "InternalRecipeId",
        Kind::Vision(RecipeIdInternal::TYPE),
        false,
    ),
    ("ProductId", Kind::Vision(ProductId::TYPE), true),
    (
        "ExternalConfigurationId",
        Kind::Vision(ConfigurationId::TYPE),
        true,
    ),
    (
        "InternalConfigurationId",
        Kind::Vision(ConfigurationId::TYPE),
        false,
    ),
    ("JobId", Kind::Vision(JobId::TYPE), false),
    ("CreationTime", TIME, false),
    ("ProcessingTimes", Kind::Vision(ProcessingTimes::TYPE), true),
    ("ResultContent", Kind::Any, true),
];

/// Nodes of the fields of `ResultType`, in the order of [`RESULT_FIELDS`].
const RESULT_NODES: [u32; 16] = [
    6046, 6047, 6052, 6053, 6054, 6055, 6094, 6095, 6284, 6327, 6328, 6329, 6330, 6331, 6332, 6333,
];

/// Nodes of the fields of `ResultReadyEventType`, in the order of [`RESULT_FIELDS`]; 0: it has none.
const EVENT_NODES: [u32; 16] = [
    6295, 0, 6296, 6297, 6298, 6299, 6304, 6301, 6302, 6143, 6045, 6142, 6300, 6303, 6305, 6306,
];

/// Puts the types into the address space; `ns` is the index of their namespace.
pub fn insert(space: &mut AddressSpace, ns: u16) {
    let id = |number: u32| NodeId::new(ns, number);
    for (number, name, base) in OBJECTS {
        ObjectTypeBuilder::new(&id(number), QualifiedName::new(ns, name), name)
            .subtype_of(base)
            .insert(space);
    }
    for (machine, states) in [
        (STATE_MACHINE, [PREOPERATIONAL, HALTED, ERROR, OPERATIONAL]),
        (
            AUTOMATIC_MODE,
            [INITIALIZED, READY, SINGLE_EXECUTION, CONTINUOUS_EXECUTION],
        ),
    ] {
        for state in states {
            ObjectBuilder::new(
                &id(state.node),
                QualifiedName::new(ns, state.name),
                state.name,
            )
            .component_of(id(machine))
            .has_type_definition(ObjectTypeId::StateType)
            .insert(space);
            VariableBuilder::new(
                &NodeId::new(ns, format!("{}.StateNumber", state.name)),
                "StateNumber",
                "StateNumber",
            )
            .property_of(id(state.node))
            .data_type(DataTypeId::UInt32)
            .has_type_definition(VariableTypeId::PropertyType)
            .value(state.number)
            .insert(space);
        }
    }
    structures::simple_types(space, ns);
    structures::structures(space, ns);
    VariableTypeBuilder::new(
        &id(RESULT),
        QualifiedName::new(ns, "ResultType"),
        "ResultType",
    )
    .subtype_of(VariableTypeId::BaseDataVariableType)
    .data_type(id(ResultData::TYPE))
    .value_rank(-1)
    .insert(space);
    for (place, (name, kind, optional)) in RESULT_FIELDS.iter().enumerate() {
        let rule = match optional {
            true => ObjectId::ModellingRule_Optional,
            false => ObjectId::ModellingRule_Mandatory,
        };
        let field = |node: u32| {
            VariableBuilder::new(&id(node), QualifiedName::new(ns, *name), *name)
                .data_type(kind.node(ns))
                .value_rank(kind.rank())
                .value(Variant::Empty)
                .has_modelling_rule(rule)
        };
        field(RESULT_NODES[place])
            .component_of(id(RESULT))
            .has_type_definition(VariableTypeId::BaseDataVariableType)
            .insert(space);
        if EVENT_NODES[place] != 0 {
            field(EVENT_NODES[place])
                .property_of(id(RESULT_READY))
                .has_type_definition(VariableTypeId::PropertyType)
                .insert(space);
        }
    }
}
