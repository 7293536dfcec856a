//! The vision system: its nodes, and their values.
//!
//! Nodes of the instance are called by their path, `VisionSystem.ResultManagement.Results.LastResult`.

mod known;
mod nodes;

pub use known::{Known, new_job};
pub use nodes::insert;

use opcua::types::{DataTypeId, NodeId};

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
