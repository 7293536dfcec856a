//! Which pictures are kept, and how much room they have.

use crate::control::table::Parameter;
use crate::control::values::Values;

/// Whose pictures are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nobody's.
    Nothing,
    /// Those of parts that their score rejects, in time or too late.
    Rejects,
    /// Those of all parts that were judged.
    All,
}

/// Which pictures are kept, and how much room they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Whose.
    pub keep: Keep,
    /// Room, megabytes; the oldest make way.
    pub limit_mb: u32,
    /// Days that they are kept; `None`: as long as there is room.
    pub days: Option<u32>,
    /// Of the parts that pass every so-manieth one is kept too; `None`: none of them.
    pub goods: Option<u32>,
}

impl Default for Archive {
    fn default() -> Self {
        Archive {
            keep: Keep::Rejects,
            limit_mb: 1000,
            days: None,
            goods: None,
        }
    }
}

impl Archive {
    /// What the parameters say.
    pub fn of(values: &Values) -> Self {
        Archive {
            keep: match values.text(Parameter::Archive) {
                "off" => Keep::Nothing,
                "all" => Keep::All,
                _ => Keep::Rejects,
            },
            limit_mb: values.number(Parameter::ArchiveLimitMb),
            days: values.optional(Parameter::ArchiveDays),
            goods: values.optional(Parameter::ArchiveGoods),
        }
    }
}
