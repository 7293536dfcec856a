//! The methods' names and arguments, as OPC 40100-1 has them.

use crate::space::{AUTOMATIC, MACHINE, RECIPE_LIST, RESULTS};
use crate::types::{HANDLE, Kind, RESULT_FIELDS, RESULT_STATE, TRI_STATE};
use crate::values::*;
use opcua::types::DataTypeId;

type Arguments = &'static [(&'static str, Kind)];

const INTEGER: Kind = Kind::Base(DataTypeId::Int32);
const UNSIGNED: Kind = Kind::Base(DataTypeId::UInt32);
const TEXT: Kind = Kind::Base(DataTypeId::String);
const BOOLEAN: Kind = Kind::Base(DataTypeId::Boolean);

const WHY: Arguments = &[("Cause", INTEGER), ("CauseDescription", TEXT)];
const ERROR: Arguments = &[("Error", INTEGER)];
const START: Arguments = &[
    ("MeasId", Kind::Vision(MeasId::TYPE)),
    ("PartId", Kind::Vision(PartId::TYPE)),
    ("RecipeId", Kind::Vision(RecipeIdExternal::TYPE)),
    ("ProductId", Kind::Vision(ProductId::TYPE)),
    ("Parameters", Kind::Any),
];
const STARTED: Arguments = &[("JobId", Kind::Vision(JobId::TYPE)), ("Error", INTEGER)];
const RECIPE: Arguments = &[
    ("ExternalId", Kind::Vision(RecipeIdExternal::TYPE)),
    ("InternalIdIn", Kind::Vision(RecipeIdInternal::TYPE)),
];
const ONE: Arguments = &[
    ("ResultId", Kind::Vision(ResultId::TYPE)),
    ("Timeout", INTEGER),
];
const LIST: Arguments = &[
    ("ResultState", Kind::Vision(RESULT_STATE)),
    ("MeasId", Kind::Vision(MeasId::TYPE)),
    ("PartId", Kind::Vision(PartId::TYPE)),
    ("ExternalRecipeId", Kind::Vision(RecipeIdExternal::TYPE)),
    ("InternalRecipeId", Kind::Vision(RecipeIdInternal::TYPE)),
    (
        "ExternalConfigurationId",
        Kind::Vision(ConfigurationId::TYPE),
    ),
    (
        "InternalConfigurationId",
        Kind::Vision(ConfigurationId::TYPE),
    ),
    ("ProductId", Kind::Vision(ProductId::TYPE)),
    ("JobId", Kind::Vision(JobId::TYPE)),
    ("MaxResults", UNSIGNED),
    ("StartIndex", UNSIGNED),
    ("Timeout", INTEGER),
];

/// Outputs of `GetResultComponentsById`: a result's fields, with the handle as the second and the error as the last.
const COMPONENTS: Arguments = &[
    ("HasTransferableDataOnFile", BOOLEAN),
    ("ResultHandle", Kind::Vision(HANDLE)),
    RESULT_FIELDS_OF[2],
    RESULT_FIELDS_OF[3],
    RESULT_FIELDS_OF[4],
    RESULT_FIELDS_OF[5],
    RESULT_FIELDS_OF[6],
    RESULT_FIELDS_OF[7],
    RESULT_FIELDS_OF[8],
    RESULT_FIELDS_OF[9],
    RESULT_FIELDS_OF[10],
    RESULT_FIELDS_OF[11],
    RESULT_FIELDS_OF[12],
    RESULT_FIELDS_OF[13],
    RESULT_FIELDS_OF[14],
    RESULT_FIELDS_OF[15],
    ("Error", INTEGER),
];

const RESULT_FIELDS_OF: [(&str, Kind); 16] = {
    let mut all = [("", INTEGER); 16];
    let mut place = 0;
    while place < all.len() {
        all[place] = (RESULT_FIELDS[place].0, RESULT_FIELDS[place].1);
        place += 1;
    }
    all
};

/// Methods: object, name, inputs, outputs.
pub const METHODS: [(&str, &str, Arguments, Arguments); 15] = [
    (MACHINE, "Reset", WHY, ERROR),
    (MACHINE, "Halt", WHY, ERROR),
    (MACHINE, "SelectModeAutomatic", &[], ERROR),
    (
        MACHINE,
        "ConfirmAll",
        &[("Comment", Kind::Base(DataTypeId::LocalizedText))],
        &[],
    ),
    (AUTOMATIC, "StartContinuous", START, STARTED),
    (AUTOMATIC, "StartSingleJob", START, STARTED),
    (AUTOMATIC, "Stop", WHY, ERROR),
    (AUTOMATIC, "Abort", WHY, ERROR),
    (
        RESULTS,
        "GetResultById",
        ONE,
        &[
            ("ResultHandle", Kind::Vision(HANDLE)),
            ("Result", Kind::Vision(ResultData::TYPE)),
            ("Error", INTEGER),
        ],
    ),
    (RESULTS, "GetResultComponentsById", ONE, COMPONENTS),
    (
        RESULTS,
        "GetResultListFiltered",
        LIST,
        &[
            ("IsComplete", BOOLEAN),
            ("ResultCount", UNSIGNED),
            ("ResultHandle", Kind::Vision(HANDLE)),
            ("ResultList", Kind::Vision(ResultData::TYPE)),
            ("Error", INTEGER),
        ],
    ),
    (
        RESULTS,
        "ReleaseResultHandle",
        &[("ResultHandle", Kind::Vision(HANDLE))],
        ERROR,
    ),
    (
        RECIPE_LIST,
        "GetRecipeListFiltered",
        &[
            ("ExternalId", Kind::Vision(RecipeIdExternal::TYPE)),
            ("ProductId", Kind::Vision(ProductId::TYPE)),
            ("IsPrepared", Kind::Vision(TRI_STATE)),
            ("MaxResults", UNSIGNED),
            ("StartIndex", UNSIGNED),
            ("Timeout", INTEGER),
        ],
        &[
            ("IsComplete", BOOLEAN),
            ("ResultCount", UNSIGNED),
            ("RecipeHandle", Kind::Vision(HANDLE)),
            ("RecipeList", Kind::Vision(RecipeIdInternal::TYPE)),
            ("Error", INTEGER),
        ],
    ),
    (
        RECIPE_LIST,
        "PrepareRecipe",
        RECIPE,
        &[
            ("InternalIdOut", Kind::Vision(RecipeIdInternal::TYPE)),
            ("IsCompleted", BOOLEAN),
            ("Error", INTEGER),
        ],
    ),
    (
        RECIPE_LIST,
        "UnprepareRecipe",
        RECIPE,
        &[
            ("InternalIdOut", Kind::Vision(RecipeIdInternal::TYPE)),
            ("Error", INTEGER),
        ],
    ),
];
