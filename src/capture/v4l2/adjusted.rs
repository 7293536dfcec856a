//! Which controls a camera is to have: the board's, those that were asked for while it runs, and, where nothing is asked
//! for any more, what they were before.

use std::collections::BTreeMap;

/// Controls by name.
pub(super) type Controls = BTreeMap<String, i64>;

/// What was asked for while the camera runs, and what it takes the place of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Adjusted {
    asked: Controls,
    /// Values that the camera had before something else was asked for, of controls that the board does not set.
    before: Controls,
}

impl Adjusted {
    /// What a camera gets that is opened: one that was away may be another, so nothing is given back to it.
    pub(super) fn at_opening(&self, board: &Controls) -> Controls {
        let mut all = board.clone();
        all.extend(self.asked.clone());
        all
    }

    /// Remembers what the camera has of those that are asked for now: `value` reads one. Returns what is to be
    /// written: one that is not asked for any more gets back the board's value, or what it was before.
    pub(super) fn ask(
        &mut self,
        board: &Controls,
        asked: &Controls,
        value: impl Fn(&str) -> Option<i64>,
    ) -> Controls {
        for name in asked.keys() {
            if !board.contains_key(name)
                && !self.before.contains_key(name)
                && let Some(value) = value(name)
            {
                self.before.insert(name.clone(), value);
            }
        }
        let mut all = self.before.clone();
        all.extend(board.clone());
        all.extend(asked.clone());
        all
    }

    /// The camera took what was asked for last.
    pub(super) fn took(&mut self, asked: Controls) {
        self.before.retain(|name, _| asked.contains_key(name));
        self.asked = asked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls(all: &[(&str, i64)]) -> Controls {
        all.iter().map(|(n, v)| (n.to_string(), *v)).collect()
    }

    /// A device, and what it is asked for by a station: refused requests are taken back by the last agreed one.
    struct Camera(Controls, Adjusted);

    impl Camera {
        fn adjust(&mut self, board: &Controls, asked: &[(&str, i64)], takes: bool) {
            let (device, asked) = (self.0.clone(), controls(asked));
            let value = |name: &str| device.get(name).copied();
            let write = self.1.ask(board, &asked, value);
            // A device may take a part of it and refuse the rest.
            self.0.extend(write);
            if takes {
                self.1.took(asked);
            }
        }
    }

    #[test]
    fn what_is_not_asked_for_any_more_is_as_it_was() {
        let factory = controls(&[("exposure_time_absolute", 156), ("gain", 3)]);
        let board = controls(&[("gain", 7)]);
        let mut camera = Camera(factory.clone(), Adjusted::default());
        camera.0.extend(camera.1.at_opening(&board));
        let opened = controls(&[("exposure_time_absolute", 156), ("gain", 7)]);
        assert_eq!(camera.0, opened);
        for takes in [true, false] {
            camera.adjust(
                &board,
                &[("exposure_time_absolute", 200), ("gain", 9)],
                takes,
            );
            camera.adjust(&board, &[("exposure_time_absolute", 50)], true);
            assert_eq!(
                (camera.0["exposure_time_absolute"], camera.0["gain"]),
                (50, 7)
            );
            camera.adjust(&board, &[], true);
            assert_eq!(camera.0, opened);
            assert_eq!(camera.1, Adjusted::default());
        }
        // One that was away gets the board's and what is asked for.
        camera.adjust(&board, &[("exposure_time_absolute", 200)], true);
        let again = controls(&[("exposure_time_absolute", 200), ("gain", 7)]);
        assert_eq!(camera.1.at_opening(&board), again);
    }
}
