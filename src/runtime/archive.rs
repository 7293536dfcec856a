//! Settings of the archive: which pictures are kept, and how much room they have.

use crate::control::table::Parameter;
use crate::control::values::Values;

/// The parts whose pictures are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// No part's.
    Nothing,
    /// Those of parts that their score rejects, in time or too late, and of those whose frame could not be judged: of
    /// several in a row the first ten.
    Rejects,
    /// Those of all parts that were judged, and of the others as above.
    All,
}

/// Settings of the archive: which pictures are kept, how long, and how much room they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The parts whose pictures are kept.
    pub keep: Keep,
    /// Room on the disk, megabytes; the oldest pictures are removed to stay within it.
    pub limit_mb: u32,
    /// For how many days pictures are kept; `None`: as long as there is room.
    pub days: Option<u32>,
    /// Of the parts that pass, every n-th one's picture is kept too; `None`: none of them.
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
    /// Reads the archive's settings from the parameters.
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
