//! The nodes of the instance.

use super::{
    AUTOMATIC, LAST, MACHINE, Names, PLAIN, RECIPE_LIST, RECIPES, RESULTS, SAID, STATION, SYSTEM,
};
use crate::methods::METHODS;
use crate::types::{self, Kind, RESULT_FIELDS};
use crate::values::ResultData;
use opcua::server::address_space::{
    AddressSpace, EventNotifier, MethodBuilder, ObjectBuilder, VariableBuilder,
};
use opcua::types::{
    Argument, DataTypeId, LocalizedText, NodeId, ObjectId, ObjectTypeId, QualifiedName, UAString,
    VariableTypeId, Variant,
};

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

pub(super) fn component(
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
    let argument = |(name, kind): &(&str, Kind)| {
        let value_rank = kind.rank();
        // As many dimensions as the rank says, each of any length (0): without them nobody can decode the argument.
        let dimensions = usize::try_from(value_rank).ok().filter(|n| *n > 0);
        Argument {
            name: UAString::from(*name),
            data_type: kind.node(names.vision),
            value_rank,
            array_dimensions: dimensions.map(|n| vec![0; n]),
            description: LocalizedText::null(),
        }
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
