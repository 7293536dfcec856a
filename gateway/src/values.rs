//! Structures of OPC 40100-1 (annex A), as they go over the wire. Field order and optional fields are the standard's;
//! numbers are its node ids in the namespace [`NAMESPACE`].

use opcua::types::{
    BinaryDecodable, BinaryEncodable, ByteString, DateTime, ExpandedMessageInfo, ExpandedNodeId,
    ExtensionObject, LocalizedText, NodeId, StaticTypeLoader, TypeLoaderInstance, UAString,
    UaNullable, Variant, binary_decode_to_enc,
};
use std::sync::LazyLock;

/// The namespace of the standard's types.
pub const NAMESPACE: &str = "http://opcfoundation.org/UA/MachineVision";

/// Declares a structure with its numbers: data type, binary encoding.
macro_rules! structure {
    ($(#[$doc:meta])* $name:ident, $data:literal, $encoding:literal, { $($(#[$attribute:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, BinaryEncodable, BinaryDecodable, UaNullable)]
        pub struct $name {
            $($(#[$attribute])* pub $field: $kind,)*
        }

        impl $name {
            /// Number of the data type.
            pub const TYPE: u32 = $data;
            /// Number of its binary encoding.
            pub const ENCODING: u32 = $encoding;
        }

        impl ExpandedMessageInfo for $name {
            fn full_type_id(&self) -> ExpandedNodeId {
                named(Self::ENCODING)
            }
            // Neither is offered: the data type's number stands for them.
            fn full_json_type_id(&self) -> ExpandedNodeId {
                named(Self::TYPE)
            }
            fn full_xml_type_id(&self) -> ExpandedNodeId {
                named(Self::TYPE)
            }
            fn full_data_type_id(&self) -> ExpandedNodeId {
                named(Self::TYPE)
            }
        }
    };
}

fn named(number: u32) -> ExpandedNodeId {
    ExpandedNodeId {
        node_id: NodeId::new(0, number),
        namespace_uri: NAMESPACE.into(),
        server_index: 0,
    }
}

/// Declares a structure that has nothing but an id and a description.
macro_rules! described {
    ($(#[$doc:meta])* $name:ident, $data:literal, $encoding:literal) => {
        structure!($(#[$doc])* $name, $data, $encoding, {
            /// The id.
            id: UAString,
            /// What it is, for people.
            #[opcua(optional)]
            description: Option<LocalizedText>,
        });
    };
}

/// Declares one of the structures derived from `BinaryIdBaseDataType`.
macro_rules! versioned {
    ($(#[$doc:meta])* $name:ident, $data:literal, $encoding:literal) => {
        structure!($(#[$doc])* $name, $data, $encoding, {
            /// The id.
            id: UAString,
            /// Its version.
            #[opcua(optional)]
            version: Option<UAString>,
            /// Digest of what it names.
            #[opcua(optional)]
            hash: Option<ByteString>,
            /// How the digest was made.
            #[opcua(optional)]
            hash_algorithm: Option<UAString>,
            /// What it is, for people.
            #[opcua(optional)]
            description: Option<LocalizedText>,
        });
    };
}

described!(
    /// Which product; the station knows none.
    ProductId, 3003, 5224
);
described!(
    /// Which part: the station's part number.
    PartId, 3004, 5013
);
described!(
    /// Which measurement; the station knows none.
    MeasId, 3015, 5006
);
versioned!(
    /// A recipe as others call it; the station keeps none.
    RecipeIdExternal, 3002, 5002
);
versioned!(
    /// A recipe: the station's number, with its name as description.
    RecipeIdInternal, 3013, 5268
);
versioned!(
    /// What judges: the network's name and the program's version.
    ConfigurationId, 3008, 5090
);
structure!(
    /// Which job: inspecting since the program's start.
    JobId, 3016, 5008, {
        /// The id.
        id: UAString,
    }
);
structure!(
    /// Which result.
    ResultId, 3021, 5274, {
        /// The id.
        id: UAString,
    }
);
structure!(
    /// How long judging took.
    ProcessingTimes, 3005, 5016, {
        /// When the part was triggered.
        start_time: DateTime,
        /// When its outcome was known.
        end_time: DateTime,
        /// Milliseconds for taking the frame; not known.
        #[opcua(optional)]
        acquisition_duration: Option<f64>,
        /// Milliseconds from trigger to verdict.
        #[opcua(optional)]
        processing_duration: Option<f64>,
    }
);
structure!(
    /// A part's result.
    ResultData, 3006, 5018, {
        /// Which result.
        result_id: ResultId,
        /// Whether there is a file to it.
        #[opcua(optional)]
        has_transferable_data_on_file: Option<bool>,
        /// Whether more will come.
        is_partial: bool,
        /// Whether nothing real was looked at.
        #[opcua(optional)]
        is_simulated: Option<bool>,
        /// [`COMPLETED`] or [`FAILED`].
        result_state: i32,
        /// Which measurement.
        #[opcua(optional)]
        meas_id: Option<MeasId>,
        /// Which part.
        #[opcua(optional)]
        part_id: Option<PartId>,
        /// Its recipe, as others call it.
        #[opcua(optional)]
        external_recipe_id: Option<RecipeIdExternal>,
        /// Its recipe.
        internal_recipe_id: RecipeIdInternal,
        /// Which product.
        #[opcua(optional)]
        product_id: Option<ProductId>,
        /// What judged, as others call it.
        #[opcua(optional)]
        external_configuration_id: Option<ConfigurationId>,
        /// What judged.
        internal_configuration_id: ConfigurationId,
        /// Which job.
        job_id: JobId,
        /// When the outcome was known.
        creation_time: DateTime,
        /// How long it took.
        #[opcua(optional)]
        processing_times: Option<ProcessingTimes>,
        /// What was found: pairs of key and value.
        #[opcua(optional)]
        result_content: Option<Option<Vec<Variant>>>,
    }
);

/// `ResultStateDataType`: judged.
pub const COMPLETED: i32 = 1;
/// `ResultStateDataType`: not judged, hence a reject with a cause.
pub const FAILED: i32 = 4;

/// Any of them as a value.
pub fn value<T: opcua::types::DynEncodable>(structure: T) -> Variant {
    Variant::from(ExtensionObject::from_message(structure))
}

/// A description that is no empty text.
pub fn description(text: &str) -> Option<LocalizedText> {
    (!text.is_empty()).then(|| text.into())
}

/// Reads what clients send as arguments.
pub struct Loader;

impl StaticTypeLoader for Loader {
    fn instance() -> &'static TypeLoaderInstance {
        static TYPES: LazyLock<TypeLoaderInstance> = LazyLock::new(|| {
            let mut types = TypeLoaderInstance::new();
            macro_rules! known {
                ($($name:ident),*) => {
                    $(types.add_binary_type($name::TYPE, $name::ENCODING, binary_decode_to_enc::<$name>);)*
                };
            }
            known!(
                ProductId,
                PartId,
                MeasId,
                RecipeIdExternal,
                RecipeIdInternal,
                ConfigurationId,
                JobId,
                ResultId,
                ProcessingTimes,
                ResultData
            );
            types
        });
        &TYPES
    }

    fn namespace() -> &'static str {
        NAMESPACE
    }
}
