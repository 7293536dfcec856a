//! Data types: names for others' values, and structures.

use super::{
    BINARY_ID, DESCRIBED, HANDLE, ID, Kind, RESULT_FIELDS, RESULT_STATE, TIMES, TRI_STATE,
    VERSIONED,
};
use crate::values::*;
use opcua::server::address_space::{
    AddressSpace, DataTypeBuilder, ObjectBuilder, ReferenceDirection,
};
use opcua::types::{
    DataTypeDefinition, DataTypeId, NodeId, ObjectTypeId, QualifiedName, ReferenceTypeId,
    StructureDefinition, StructureField, StructureType,
};

/// Data types that are another one's values under a name of their own.
pub(super) fn simple_types(space: &mut AddressSpace, ns: u16) {
    for (number, name, base) in [
        (RESULT_STATE, "ResultStateDataType", DataTypeId::Int32),
        (HANDLE, "Handle", DataTypeId::UInt32),
        (
            TRI_STATE,
            "TriStateBooleanDataType",
            DataTypeId::Enumeration,
        ),
    ] {
        DataTypeBuilder::new(&NodeId::new(ns, number), QualifiedName::new(ns, name), name)
            .subtype_of(base)
            .insert(space);
    }
}

/// Structures with their definitions, by which clients decode them.
pub(super) fn structures(space: &mut AddressSpace, ns: u16) {
    let id = |number: u32| NodeId::new(ns, number);
    let base: NodeId = DataTypeId::Structure.into();
    for (number, encoding, name, base, fields) in [
        (
            BINARY_ID,
            5027,
            "BinaryIdBaseDataType",
            base.clone(),
            VERSIONED,
        ),
        (
            ProductId::TYPE,
            ProductId::ENCODING,
            "ProductIdDataType",
            base.clone(),
            DESCRIBED,
        ),
        (
            PartId::TYPE,
            PartId::ENCODING,
            "PartIdDataType",
            base.clone(),
            DESCRIBED,
        ),
        (
            MeasId::TYPE,
            MeasId::ENCODING,
            "MeasIdDataType",
            base.clone(),
            DESCRIBED,
        ),
        (
            JobId::TYPE,
            JobId::ENCODING,
            "JobIdDataType",
            base.clone(),
            ID,
        ),
        (
            ResultId::TYPE,
            ResultId::ENCODING,
            "ResultIdDataType",
            base.clone(),
            ID,
        ),
        (
            RecipeIdExternal::TYPE,
            RecipeIdExternal::ENCODING,
            "RecipeIdExternalDataType",
            id(BINARY_ID),
            VERSIONED,
        ),
        (
            RecipeIdInternal::TYPE,
            RecipeIdInternal::ENCODING,
            "RecipeIdInternalDataType",
            id(BINARY_ID),
            VERSIONED,
        ),
        (
            ConfigurationId::TYPE,
            ConfigurationId::ENCODING,
            "ConfigurationIdDataType",
            id(BINARY_ID),
            VERSIONED,
        ),
        (
            ProcessingTimes::TYPE,
            ProcessingTimes::ENCODING,
            "ProcessingTimesDataType",
            base.clone(),
            TIMES,
        ),
        (
            ResultData::TYPE,
            ResultData::ENCODING,
            "ResultDataType",
            base,
            RESULT_FIELDS,
        ),
    ] {
        let one = |(name, kind, optional): &(&str, Kind, bool)| StructureField {
            name: (*name).into(),
            data_type: kind.node(ns),
            value_rank: kind.rank(),
            is_optional: *optional,
            ..Default::default()
        };
        let optional = fields.iter().any(|(.., optional)| *optional);
        let definition = StructureDefinition {
            default_encoding_id: id(encoding),
            base_data_type: base.clone(),
            structure_type: match optional {
                true => StructureType::StructureWithOptionalFields,
                false => StructureType::Structure,
            },
            fields: Some(fields.iter().map(one).collect()),
        };
        DataTypeBuilder::new(&id(number), QualifiedName::new(ns, name), name)
            .subtype_of(base)
            .data_type_definition(DataTypeDefinition::Structure(definition))
            .insert(space);
        ObjectBuilder::new(&id(encoding), "Default Binary", "Default Binary")
            .reference(
                id(number),
                ReferenceTypeId::HasEncoding,
                ReferenceDirection::Inverse,
            )
            .has_type_definition(ObjectTypeId::DataTypeEncodingType)
            .insert(space);
    }
}
