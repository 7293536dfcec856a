//! Views: what one camera sees of a part. A station has one to four cameras on one trigger, and a part is good
//! only if every view of it is.

/// The most cameras of a station.
pub const VIEWS: usize = 4;

/// Which camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View(u8);

impl View {
    /// The first camera, and the only one of most stations.
    pub const FIRST: View = View(0);

    /// Every view that a station can have.
    pub const ALL: [View; VIEWS] = [View(0), View(1), View(2), View(3)];

    /// Its place, counted from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What people call it: 1 for the first camera.
    pub const fn number(self) -> u8 {
        self.0 + 1
    }

    /// The first `count` of them.
    pub fn first(count: usize) -> impl Iterator<Item = View> {
        View::ALL.into_iter().take(count)
    }
}

/// A set of views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ViewSet(u8);

impl ViewSet {
    /// No view.
    pub(super) const NONE: ViewSet = ViewSet(0);

    /// The views of a station with so many cameras, 1 to 4.
    pub(super) fn of(cameras: usize) -> ViewSet {
        let cameras = cameras.clamp(1, VIEWS) as u32;
        ViewSet(((1u32 << cameras) - 1) as u8)
    }

    pub(super) fn contains(self, view: View) -> bool {
        self.0 >> view.0 & 1 != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn with(self, view: View) -> ViewSet {
        ViewSet(self.0 | 1 << view.0)
    }

    pub(super) fn without(self, view: View) -> ViewSet {
        ViewSet(self.0 & !(1 << view.0))
    }

    /// Those that are not among the others.
    pub(super) fn minus(self, others: ViewSet) -> ViewSet {
        ViewSet(self.0 & !others.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = View> {
        View::ALL
            .into_iter()
            .filter(move |view| self.contains(*view))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_views() {
        for (cameras, views) in [(0, 1), (1, 1), (2, 2), (4, 4), (9, 4)] {
            let set = ViewSet::of(cameras);
            assert_eq!(set.iter().count(), views);
            assert!(set.contains(View::FIRST) && !set.is_empty());
        }
        let second = View::ALL[1];
        let set = ViewSet::of(2).without(View::FIRST);
        assert!(set.contains(second) && !set.contains(View::FIRST));
        assert_eq!(set.with(View::FIRST), ViewSet::of(2));
        assert_eq!(ViewSet::of(2).minus(set), ViewSet::NONE.with(View::FIRST));
        assert_eq!((second.index(), second.number()), (1, 2));
        assert_eq!(View::first(3).last(), Some(View::ALL[2]));
    }
}
