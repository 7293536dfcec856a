//! Results as OPC 40100-1 has them.

use crate::station::{PartResult, Status};
use crate::values::*;
use opcua::types::{DateTime, ExtensionObject, KeyValuePair, QualifiedName, Variant};

/// Results that are remembered, for those who ask for one or all of them.
pub const REMEMBERED: usize = 500;

/// The recipe's id: its number, and its name.
pub fn recipe_id(number: &str, name: &str) -> RecipeIdInternal {
    RecipeIdInternal {
        id: number.into(),
        description: description(name),
        ..Default::default()
    }
}

/// A result, with what the station says of itself at that time.
pub fn result(own: u16, part: &PartResult, status: &Status, job: &JobId) -> ResultData {
    let time = DateTime::parse_from_rfc3339(&part.time).unwrap_or_else(|_| DateTime::now());
    let pair = |key: &str, value: Variant| {
        Variant::from(ExtensionObject::from_message(KeyValuePair {
            key: QualifiedName::new(own, key),
            value,
        }))
    };
    let text = |text: &Option<String>| Variant::from(text.clone().unwrap_or_default());
    let content = vec![
        pair("Pass", (part.outcome == "good").into()),
        pair("Score", part.score.map_or(Variant::Empty, Variant::from)),
        pair("Threshold", status.threshold.into()),
        pair("Cause", text(&part.cause)),
        pair("DefectType", text(&part.kind)),
        pair("Camera", part.camera.into()),
    ];
    let times = part.latency_ms.map(|ms| ProcessingTimes {
        start_time: DateTime::from(time.ticks() - (ms * 1e4) as i64),
        end_time: time,
        acquisition_duration: None,
        processing_duration: Some(ms),
    });
    ResultData {
        result_id: ResultId {
            id: format!("{}-{}", part.part, part.number).into(),
        },
        is_partial: false,
        result_state: if part.cause.is_none() {
            COMPLETED
        } else {
            FAILED
        },
        part_id: Some(PartId {
            id: part.part.to_string().into(),
            description: None,
        }),
        internal_recipe_id: recipe_id(&status.recipe, &status.recipe_name),
        internal_configuration_id: ConfigurationId {
            id: status.network.name.clone().unwrap_or_default().into(),
            version: Some(status.version.as_str().into()),
            ..Default::default()
        },
        job_id: job.clone(),
        creation_time: time,
        processing_times: times,
        result_content: Some(Some(content)),
        ..Default::default()
    }
}

fn or_empty<T: opcua::types::DynEncodable + Clone>(field: &Option<T>) -> Variant {
    field.clone().map_or(Variant::Empty, value)
}

/// Its fields, in the order of [`crate::types::RESULT_FIELDS`]; what is left out is empty.
pub fn fields(result: &ResultData) -> Vec<Variant> {
    let flag = |flag: Option<bool>| flag.map_or(Variant::Empty, Variant::from);
    vec![
        value(result.result_id.clone()),
        flag(result.has_transferable_data_on_file),
        result.is_partial.into(),
        flag(result.is_simulated),
        result.result_state.into(),
        or_empty(&result.meas_id),
        or_empty(&result.part_id),
        or_empty(&result.external_recipe_id),
        value(result.internal_recipe_id.clone()),
        or_empty(&result.product_id),
        or_empty(&result.external_configuration_id),
        value(result.internal_configuration_id.clone()),
        value(result.job_id.clone()),
        result.creation_time.into(),
        or_empty(&result.processing_times),
        result
            .result_content
            .clone()
            .flatten()
            .map_or(Variant::Empty, content),
    ]
}

/// The pairs of a result's content as one array.
fn content(pairs: Vec<Variant>) -> Variant {
    let pairs: Vec<ExtensionObject> = pairs
        .into_iter()
        .filter_map(|pair| match pair {
            Variant::ExtensionObject(pair) => Some(pair),
            _ => None,
        })
        .collect();
    Variant::from(pairs)
}

/// What a client looks for; empty: everything.
#[derive(Default)]
pub struct Filter {
    /// State, 0: any.
    pub state: i32,
    /// The part's id.
    pub part: String,
    /// The recipe's id.
    pub recipe: String,
    /// What judged.
    pub configuration: String,
    /// The job's id.
    pub job: String,
    /// An id of a kind that the station has none of: then nothing is found.
    pub other: bool,
}

impl Filter {
    /// Whether a result fits.
    pub fn fits(&self, result: &ResultData) -> bool {
        let same = |wanted: &str, id: &str| wanted.is_empty() || wanted == id;
        let part = result.part_id.as_ref().map_or("", |p| p.id.as_ref());
        !self.other
            && (self.state == 0 || self.state == result.result_state)
            && same(&self.part, part)
            && same(&self.recipe, result.internal_recipe_id.id.as_ref())
            && same(
                &self.configuration,
                result.internal_configuration_id.id.as_ref(),
            )
            && same(&self.job, result.job_id.id.as_ref())
    }
}
