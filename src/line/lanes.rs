//! Reject lanes: where a rejected part goes, by the type of its defect.
//!
//! Knows numbers only, no names. Whatever has no lane of its own goes to the default lane; without one, no lane
//! output is on.

use super::bounds::{SettingError, Threshold, in_range};

/// The number of lanes.
pub const LANES: usize = 8;

/// Types of defect that are counted one by one; those of larger numbers are counted together with the unknown.
pub const TYPES: usize = 32;

/// A lane, 1..=8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u8);

impl Lane {
    /// Checks the number.
    ///
    /// # Errors
    /// [`SettingError::OutOfRange`].
    pub const fn new(number: u32) -> Result<Lane, SettingError> {
        match in_range("lane", number, 1, LANES as u32) {
            Ok(number) => Ok(Lane(number as u8)),
            Err(e) => Err(e),
        }
    }

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Which type of defect a network saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefectType {
    /// The network distinguishes no types, or did not judge the part.
    #[default]
    None,
    /// Two types are about equally likely.
    Unknown,
    /// The type with this number, counted from 0 in the order of its network.
    Number(u8),
}

/// What a verdict says of a part besides its score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sorting {
    /// The type of its defect, should it have one.
    pub defect: DefectType,
    /// Scores above it are rejects; `None`: the station's threshold.
    pub threshold: Option<Threshold>,
    /// Where it goes if it is rejected by its score; `None`: to the default lane.
    pub lane: Option<Lane>,
}

/// Rejects, by type and by lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SortCounts {
    /// Rejects by score whose type is unknown, or has a number of [`TYPES`] and above.
    pub unknown: u64,
    /// Rejects by score, by type.
    pub types: [u64; TYPES],
    /// Rejects that had a pulse of their own, whatever the reason, by lane; the first is lane 1.
    pub lanes: [u64; LANES],
}

impl SortCounts {
    /// Counts a reject by score.
    pub(super) fn defect(&mut self, defect: DefectType) {
        match defect {
            DefectType::None => (),
            DefectType::Unknown => self.unknown += 1,
            DefectType::Number(number) => match self.types.get_mut(usize::from(number)) {
                Some(count) => *count += 1,
                None => self.unknown += 1,
            },
        }
    }

    /// Counts a reject that goes to a lane.
    pub(super) fn lane(&mut self, lane: Option<Lane>) {
        if let Some(lane) = lane {
            self.lanes[usize::from(lane.0) - 1] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_one_to_eight() {
        assert!(Lane::new(0).is_err() && Lane::new(9).is_err());
        assert_eq!([1, 8].map(|n| Lane::new(n).unwrap().get()), [1, 8]);
    }

    #[test]
    fn types_beyond_those_that_are_counted_count_as_unknown() {
        let mut counts = SortCounts::default();
        for defect in [
            DefectType::None,
            DefectType::Unknown,
            DefectType::Number(0),
            DefectType::Number(31),
            DefectType::Number(32),
            DefectType::Number(255),
        ] {
            counts.defect(defect);
        }
        assert_eq!(
            (counts.unknown, counts.types[0], counts.types[31]),
            (3, 1, 1)
        );
        counts.lane(None);
        counts.lane(Lane::new(8).ok());
        assert_eq!(counts.lanes, [0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
