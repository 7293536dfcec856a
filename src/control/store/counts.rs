//! The counters as they are written: the line core has no serde, these are its types' shadows.

use crate::line::counters::{
    BUCKETS, ConfirmCounts, FrameCounts, Latency, TriggerErrors, VerdictCounts, ViewCounts,
};
use crate::line::lanes::{LANES, SortCounts, TYPES};
use crate::line::outcome::CAUSES;
use crate::line::{Counters, PartId, Statistics, VIEWS};
use serde::{Deserialize, Serialize};

/// What is kept beside the parameters: counters and latched alarms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    #[serde(with = "StatisticsForm")]
    pub(super) statistics: Statistics,
    /// Bit n for alarm n.
    pub(super) alarms: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Statistics")]
struct StatisticsForm {
    #[serde(with = "PartForm")]
    next_part: PartId,
    #[serde(with = "counters")]
    outcomes: Counters,
    #[serde(with = "TriggersForm")]
    triggers: TriggerErrors,
    #[serde(with = "FramesForm")]
    frames: FrameCounts,
    #[serde(with = "VerdictsForm")]
    verdicts: VerdictCounts,
    #[serde(with = "ConfirmsForm")]
    confirms: ConfirmCounts,
    encoder_reversals: u64,
    actuated_late: u64,
    #[serde(with = "LatencyForm")]
    latency: Latency,
    /// Programs before it wrote none; an older one, which a step back brings, reads over it.
    #[serde(default, with = "SortForm")]
    sorted: SortCounts,
    /// The same holds for these counters of each camera.
    #[serde(default, with = "views")]
    views: [ViewCounts; VIEWS],
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ViewCounts")]
struct ViewForm {
    good: u64,
    rejects: u64,
    errors: u64,
    damaged: u64,
    missing: u64,
    late: u64,
}

/// A camera that a program did not know of has counted nothing.
mod views {
    use super::{VIEWS, ViewCounts, ViewForm};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct View(#[serde(with = "ViewForm")] ViewCounts);

    pub(super) fn serialize<S: Serializer>(
        views: &[ViewCounts; VIEWS],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        views.map(View).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<[ViewCounts; VIEWS], D::Error> {
        let read = Vec::<View>::deserialize(from)?;
        let mut views = [ViewCounts::default(); VIEWS];
        for (view, View(counts)) in views.iter_mut().zip(read) {
            *view = counts;
        }
        Ok(views)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SortCounts")]
struct SortForm {
    unknown: u64,
    types: [u64; TYPES],
    lanes: [u64; LANES],
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PartId")]
struct PartForm(u64);

#[derive(Serialize, Deserialize)]
struct CountersForm {
    parts: u64,
    good: u64,
    rejects: u64,
    failed: [u64; FIRST_CAUSES],
    /// Those of later causes: an older program, which a step back brings, reads over it.
    #[serde(default)]
    failed_since: Vec<u64>,
}

/// The causes of the first programs that wrote counters.
const FIRST_CAUSES: usize = 8;

impl From<&Counters> for CountersForm {
    fn from(counters: &Counters) -> Self {
        let (first, since) = counters.failed.split_at(FIRST_CAUSES);
        let mut failed = [0; FIRST_CAUSES];
        failed.copy_from_slice(first);
        CountersForm {
            parts: counters.parts,
            good: counters.good,
            rejects: counters.rejects,
            failed,
            failed_since: since.to_vec(),
        }
    }
}

impl From<CountersForm> for Counters {
    fn from(form: CountersForm) -> Self {
        let mut failed = [0; CAUSES];
        let all = form.failed.into_iter().chain(form.failed_since);
        failed.iter_mut().zip(all).for_each(|(to, n)| *to = n);
        Counters {
            parts: form.parts,
            good: form.good,
            rejects: form.rejects,
            failed,
        }
    }
}

mod counters {
    use super::{Counters, CountersForm};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(counters: &Counters, to: S) -> Result<S::Ok, S::Error> {
        CountersForm::from(counters).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Counters, D::Error> {
        CountersForm::deserialize(from).map(Counters::from)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "TriggerErrors")]
struct TriggersForm {
    bounced: u64,
    too_close: u64,
    unpaired: u64,
    unexpected: u64,
    skipped: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FrameCounts")]
struct FramesForm {
    paired: u64,
    damaged: u64,
    unpaired: u64,
    ignored: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "VerdictCounts")]
struct VerdictsForm {
    taken: u64,
    late: u64,
    duplicate: u64,
    unknown: u64,
    ignored: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ConfirmCounts")]
struct ConfirmsForm {
    confirmed: u64,
    missing: u64,
    unexpected: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Latency")]
struct LatencyForm {
    count: u64,
    sum_us: u64,
    min_us: u64,
    max_us: u64,
    #[serde(with = "buckets")]
    buckets: [u64; BUCKETS],
}

/// serde knows arrays of up to 32 only.
mod buckets {
    use super::BUCKETS;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        buckets: &[u64; BUCKETS],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        buckets.as_slice().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<[u64; BUCKETS], D::Error> {
        let buckets = Vec::<u64>::deserialize(from)?;
        let count = buckets.len();
        buckets
            .try_into()
            .map_err(|_| D::Error::invalid_length(count, &"as many buckets as the histogram has"))
    }
}
