//! The parts between trigger and reject station, in order.
//!
//! Holds what is known of each until it arrives. Must never forget a part: when it is full, the parts
//! that follow become one block at its end, which is rejected from its first part to its last.

use super::lanes::Sorting;
use super::outcome::Cause;
use super::pairing::Pairing;
use super::time::{Micros, PartId, Position};
use super::view::{View, ViewSet};
use heapless::Deque;

/// What is known of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A view has no frame yet.
    Waiting,
    /// There is a frame of each view, and one at least is being judged.
    Framed,
    /// The verdicts of all views came in time and are good, or one is a reject.
    Judged {
        /// Which of both.
        good: bool,
    },
    /// It will be rejected, whatever comes.
    Closed(Cause),
}

impl State {
    fn is_open(self) -> bool {
        matches!(self, State::Waiting | State::Framed)
    }
}

/// A part, or the block of those that found the queue full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The part; of a block the first.
    pub(super) part: PartId,
    /// When it was triggered.
    pub(super) triggered: Micros,
    /// The place from which on a verdict is late.
    pub(super) deadline: Position,
    /// Where the reject station is.
    pub(super) due: Position,
    /// Where the reject station is for the last part of a block; equal to `due` for a single part.
    pub(super) last_due: Position,
    /// Whether it is a test piece of a challenge.
    pub(super) piece: bool,
    /// What is known of it.
    pub(super) state: State,
    /// The views whose frame may still come. It finds its part even if another view has made that a reject.
    pub(super) awaited: ViewSet,
    /// The views with a frame that can be judged.
    pub(super) framed: ViewSet,
    /// The views whose verdict was taken.
    pub(super) judged: ViewSet,
    /// What the verdict that rejects it said besides the score; nothing of a part without one.
    pub(super) sorting: Sorting,
    /// Whether it stands for all parts from here to `last_due`, whose outcomes were reported already.
    pub(super) block: bool,
}

/// Where a new part went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Into an entry of its own.
    Queued,
    /// Into the block: it is rejected because the queue was full.
    Overflowed,
}

/// What is at the reject station.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    /// The first part of the queue has not reached it.
    Nothing,
    /// A block is passing it.
    Block,
    /// This part, or the end of this block; no longer in the queue.
    Entry(Entry),
}

/// What is known of the parts that were triggered since the last time when none was open.
#[derive(Debug, Default)]
struct Progress {
    /// How many parts wait for a frame or a verdict.
    open: usize,
    /// Whether a part was judged good since the newest one was triggered.
    good: bool,
    /// Whether one of the parts is not known to be good, and never will be.
    spoiled: bool,
}

/// Up to `N - 1` parts and one block.
#[derive(Debug)]
pub(super) struct Queue<const N: usize> {
    entries: Deque<Entry, N>,
    progress: Progress,
}

impl<const N: usize> Queue<N> {
    pub(super) fn new() -> Self {
        const { assert!(N >= 4, "a queue of fewer than 3 parts tracks nothing") }
        Queue {
            entries: Deque::new(),
            progress: Progress::default(),
        }
    }

    /// How many parts wait for a frame or a verdict.
    pub(super) fn open(&self) -> usize {
        self.progress.open
    }

    /// Whether the last part that was judged is good, and so is every part before it back to the last time when none
    /// was open: whoever waits until none is open and then takes this for one part's verdict passes no other one.
    pub(super) fn is_good(&self) -> bool {
        self.progress.good && !self.progress.spoiled
    }

    /// A good part turned out not to pass, or nobody knows what passes: the last verdict is no longer shown.
    pub(super) fn forget_verdict(&mut self) {
        self.progress.good = false;
    }

    /// Adds a part at the end. The last slot is kept for the block, so there is always room for it.
    pub(super) fn push(&mut self, entry: Entry) -> Pushed {
        self.progress.good = false;
        let refused = !entry.state.is_open() || self.entries.len() >= N - 1;
        self.progress.spoiled = refused || self.progress.spoiled && self.progress.open > 0;
        if self.entries.len() < N - 1 {
            self.progress.open += usize::from(entry.state.is_open());
            // Cannot fail: fewer than N.
            let _ = self.entries.push_back(entry);
            return Pushed::Queued;
        }
        match self.entries.back_mut() {
            Some(last) if last.block => last.last_due = last.last_due.max(entry.due),
            _ => {
                // Cannot fail: with N entries, the last one is a block.
                let _ = self.entries.push_back(Entry {
                    state: State::Closed(Cause::QueueFull),
                    awaited: ViewSet::NONE,
                    block: true,
                    piece: false,
                    sorting: Sorting::default(),
                    ..entry
                });
            }
        }
        Pushed::Overflowed
    }

    /// The entry of a part. Parts in a block have none: they have their outcome.
    pub(super) fn find(&self, part: PartId) -> Option<Entry> {
        self.index(part)
            .and_then(|i| self.entries.get(i))
            .copied()
            .filter(|e| !e.block)
    }

    fn index(&self, part: PartId) -> Option<usize> {
        let (front, back) = self.entries.as_slices();
        match front.binary_search_by_key(&part, |e| e.part) {
            Ok(i) => Some(i),
            Err(_) => back
                .binary_search_by_key(&part, |e| e.part)
                .ok()
                .map(|i| front.len() + i),
        }
    }

    /// Whether every part up to this one has left the queue.
    pub(super) fn is_past(&self, part: PartId) -> bool {
        self.entries.front().is_none_or(|e| part < e.part)
    }

    /// Sets what is known of a part.
    pub(super) fn set(&mut self, part: PartId, state: State) {
        if let Some(entry) = self.index(part).and_then(|i| self.entries.get_mut(i)) {
            Self::change(&mut self.progress, entry, state);
        }
    }

    /// Changes what is known of a part's views.
    pub(super) fn view(&mut self, part: PartId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.index(part).and_then(|i| self.entries.get_mut(i)) {
            change(entry);
        }
    }

    /// Keeps what the verdict that rejects a part says besides the score.
    pub(super) fn sort(&mut self, part: PartId, sorting: Sorting) {
        if let Some(entry) = self.index(part).and_then(|i| self.entries.get_mut(i)) {
            entry.sorting = sorting;
        }
    }

    fn change(progress: &mut Progress, entry: &mut Entry, state: State) {
        progress.open += usize::from(state.is_open());
        progress.open -= usize::from(entry.state.is_open());
        match state {
            State::Judged { good: true } => progress.good = true,
            State::Judged { good: false } | State::Closed(_) => progress.spoiled = true,
            State::Waiting | State::Framed => (),
        }
        entry.state = state;
    }

    /// Makes a part a reject for a reason that is no view's: no frame of it is awaited any more.
    fn close(progress: &mut Progress, entry: &mut Entry, cause: Cause) {
        entry.awaited = ViewSet::NONE;
        Self::change(progress, entry, State::Closed(cause));
    }

    /// The part that has no frame of this view and is exposed then.
    pub(super) fn waiting_for(
        &self,
        view: View,
        exposed: Micros,
        pairing: &Pairing,
    ) -> Option<PartId> {
        self.entries
            .iter()
            .rev()
            .take_while(|e| !pairing.too_early(e.triggered, exposed))
            .find(|e| e.awaited.contains(view) && pairing.fits(e.triggered, exposed))
            .map(|e| e.part)
    }

    /// Closes the newest part, unless it is a reject already: another came too close behind it, and
    /// whichever of them a frame shows, neither is known to be good.
    pub(super) fn close_newest(&mut self, cause: Cause) {
        if let Some(last) = self.entries.back_mut()
            && (last.state.is_open() || last.state == State::Judged { good: true })
        {
            Self::close(&mut self.progress, last, cause);
        }
    }

    /// Closes every part whose deadline is here: late, or without a frame of each view. Tells of each such part
    /// the views that lack a frame, and those that lack a verdict only.
    pub(super) fn close_overdue(
        &mut self,
        here: Position,
        mut lacks: impl FnMut(ViewSet, ViewSet),
    ) {
        for entry in self.entries.iter_mut() {
            if self.progress.open == 0 || entry.deadline > here {
                break;
            }
            let cause = match entry.state {
                State::Waiting => Cause::NoFrame,
                State::Framed => Cause::Late,
                State::Judged { .. } | State::Closed(_) => continue,
            };
            lacks(entry.awaited, entry.framed.minus(entry.judged));
            // Counted once: what comes of them now is late.
            entry.judged = entry.framed;
            Self::close(&mut self.progress, entry, cause);
        }
    }

    /// Closes every part without a frame of this view.
    pub(super) fn close_waiting(&mut self, view: View, cause: Cause) {
        for entry in self.entries.iter_mut() {
            if entry.state == State::Waiting && entry.awaited.contains(view) {
                Self::close(&mut self.progress, entry, cause);
            }
        }
    }

    /// Closes every part that is not known to be a reject, and ends their being test pieces.
    pub(super) fn close_all(&mut self, cause: Cause) {
        for entry in self.entries.iter_mut() {
            entry.piece = false;
            match entry.state {
                State::Waiting | State::Framed | State::Judged { good: true } => {
                    Self::close(&mut self.progress, entry, cause);
                }
                State::Judged { good: false } | State::Closed(_) => {
                    entry.awaited = ViewSet::NONE;
                }
            }
        }
    }

    /// Whether one of the next parts, as long as they are `near`, is to be rejected, or may be yet.
    pub(super) fn rejects_any(&self, near: impl Fn(&Entry) -> bool) -> bool {
        let next = self.entries.iter().take_while(|e| near(e));
        let mut not_good = next.filter(|e| e.state != State::Judged { good: true });
        not_good.next().is_some()
    }

    /// Whether one of the parts that follow `first` without a gap goes to another lane, or may yet; `near` says
    /// of two parts in a row whether there is no gap. Parts known to be good are taken along, wherever to.
    pub(super) fn splits(&self, first: &Entry, near: impl Fn(&Entry, &Entry) -> bool) -> bool {
        let lane = |e: &Entry| match e.state {
            State::Judged { good: false } => e.sorting.lane,
            _ => None,
        };
        let mut last = *first;
        for entry in self
            .entries
            .iter()
            .filter(|e| e.state != State::Judged { good: true })
        {
            if !near(&last, entry) {
                return false;
            }
            if lane(entry) != lane(first) {
                return true;
            }
            last = *entry;
        }
        false
    }

    /// Takes out what has arrived at the reject station.
    pub(super) fn arrival(&mut self, here: Position) -> Arrival {
        match self.entries.front() {
            Some(front) if front.due <= here && front.last_due > here => Arrival::Block,
            Some(front) if front.due <= here => match self.entries.pop_front() {
                Some(entry) => {
                    self.progress.open -= usize::from(entry.state.is_open());
                    Arrival::Entry(entry)
                }
                None => Arrival::Nothing,
            },
            _ => Arrival::Nothing,
        }
    }

    /// Where something happens next, on the axis of the reject delay.
    pub(super) fn next(&self, here: Position) -> Option<Position> {
        let front = self.entries.front()?;
        let arrival = if front.due > here {
            front.due
        } else {
            front.last_due
        };
        if self.progress.open == 0 {
            return Some(arrival);
        }
        let open = self.entries.iter().find(|e| e.state.is_open());
        Some(open.map_or(arrival, |e| arrival.min(e.deadline)))
    }

    /// Takes out all entries, one per call.
    pub(super) fn drain(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.progress.open -= usize::from(entry.state.is_open());
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(part: u64) -> Entry {
        let due = Position(1000 + 10 * part);
        Entry {
            part: PartId(part),
            triggered: Micros(10 * part),
            deadline: Position(900 + 10 * part),
            due,
            last_due: due,
            piece: false,
            state: State::Waiting,
            awaited: ViewSet::of(1),
            framed: ViewSet::NONE,
            judged: ViewSet::NONE,
            sorting: Sorting::default(),
            block: false,
        }
    }

    #[test]
    fn what_finds_the_queue_full_becomes_a_block_in_its_place() {
        let mut queue = Queue::<4>::new();
        let pushed: Vec<Pushed> = (0..6).map(|i| queue.push(entry(i))).collect();
        assert_eq!(pushed[..3], [Pushed::Queued; 3]);
        assert_eq!(pushed[3..], [Pushed::Overflowed; 3]);
        assert_eq!(queue.open(), 3);
        // One leaves, one comes: it joins the block, whose slot is the last.
        assert!(matches!(queue.arrival(Position(1000)), Arrival::Entry(e) if e.part == PartId(0)));
        assert_eq!(queue.push(entry(6)), Pushed::Overflowed);
        assert!(matches!(queue.arrival(Position(1010)), Arrival::Entry(e) if e.part == PartId(1)));
        assert_eq!(queue.push(entry(7)), Pushed::Queued);
        assert!(matches!(queue.arrival(Position(1025)), Arrival::Entry(e) if e.part == PartId(2)));
        assert!(matches!(queue.arrival(Position(1025)), Arrival::Nothing));
        assert!(matches!(queue.arrival(Position(1030)), Arrival::Block));
        assert!(matches!(queue.arrival(Position(1060)), Arrival::Entry(e) if e.block));
        assert!(matches!(queue.arrival(Position(1070)), Arrival::Entry(e) if e.part == PartId(7)));
        assert!(matches!(queue.arrival(Position(9999)), Arrival::Nothing));
        assert_eq!(queue.open(), 0);
    }

    #[test]
    fn overdue_parts_are_closed_with_what_they_lack() {
        let mut queue = Queue::<8>::new();
        (0..4).for_each(|i| _ = queue.push(entry(i)));
        queue.view(PartId(1), |e| {
            e.framed = std::mem::take(&mut e.awaited);
        });
        queue.set(PartId(1), State::Framed);
        queue.set(PartId(2), State::Judged { good: true });
        assert_eq!(queue.next(Position(0)), Some(Position(900)));
        let mut closed = vec![];
        queue.close_overdue(Position(920), |frame, verdict| {
            closed.push((frame.is_empty(), verdict.is_empty()));
        });
        assert_eq!(closed, [(false, true), (true, false)]);
        let state = |i| queue.find(PartId(i)).unwrap().state;
        assert_eq!(state(0), State::Closed(Cause::NoFrame));
        assert_eq!(state(1), State::Closed(Cause::Late));
        assert_eq!(state(2), State::Judged { good: true });
        assert_eq!(state(3), State::Waiting);
        assert_eq!(queue.open(), 1);
        assert_eq!(queue.next(Position(920)), Some(Position(930)));
    }

    #[test]
    fn parts_are_found_by_number_wherever_the_ring_starts() {
        let mut queue = Queue::<8>::new();
        for i in 0..100 {
            assert_eq!(queue.push(entry(i)), Pushed::Queued);
            assert_eq!(queue.find(PartId(i)).unwrap().part, PartId(i));
            assert!(queue.find(PartId(i + 1)).is_none());
            if i >= 5 {
                assert!(i < 6 || queue.is_past(PartId(i - 6)));
                assert!(queue.find(PartId(i - 5)).is_some());
                assert!(matches!(
                    queue.arrival(Position(u64::MAX)),
                    Arrival::Entry(_)
                ));
            }
        }
    }
}
