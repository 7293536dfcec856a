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
}

impl Default for Archive {
    fn default() -> Self {
        Archive {
            keep: Keep::Rejects,
            limit_mb: 1000,
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
        }
    }
}
