//! How many stations at a time, which one first, and when no more are begun.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;

/// How a fleet is gone through.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Stations at a time.
    pub at_once: NonZeroUsize,
    /// The place of the one that goes first, alone.
    pub canary: Option<usize>,
    /// Whether none is begun any more once one has failed.
    pub stop: bool,
}

/// What became of a station.
#[derive(Debug)]
pub enum Outcome<T, E> {
    /// It was done.
    Done(T),
    /// It failed.
    Failed(E),
    /// Nothing was begun.
    NotBegun,
}

/// Does `work` for each of `count` stations by their places, and returns what became of each. Those that are under way
/// when one fails, or when `stopped` says so, come to their end.
pub fn in_order<T: Send, E: Send>(
    count: usize,
    order: Order,
    stopped: impl Fn() -> bool + Sync,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Vec<Outcome<T, E>> {
    let mut outcomes: Vec<Outcome<T, E>> = (0..count).map(|_| Outcome::NotBegun).collect();
    let mut first_failed = false;
    if let Some(canary) = order.canary.filter(|c| *c < count && !stopped()) {
        outcomes[canary] = one(work(canary));
        first_failed = matches!(outcomes[canary], Outcome::Failed(_));
    }
    let rest: Vec<usize> = (0..count).filter(|i| Some(*i) != order.canary).collect();
    let workers = order.at_once.get().min(rest.len());
    let shared = Mutex::new((rest.into_iter(), first_failed, &mut outcomes));
    let locked = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || {
        let (rest, failed, _) = &mut *locked();
        let over = (*failed && order.stop) || stopped();
        if over { None } else { rest.next() }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(place) = next() {
                    let outcome = one(work(place));
                    let (_, failed, outcomes) = &mut *locked();
                    *failed |= matches!(outcome, Outcome::Failed(_));
                    outcomes[place] = outcome;
                }
            });
        }
    });
    drop(shared);
    outcomes
}

fn one<T, E>(result: Result<T, E>) -> Outcome<T, E> {
    match result {
        Ok(done) => Outcome::Done(done),
        Err(e) => Outcome::Failed(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn order(at_once: usize, canary: Option<usize>, stop: bool) -> Order {
        let at_once = NonZeroUsize::new(at_once).unwrap();
        Order {
            at_once,
            canary,
            stop,
        }
    }

    /// Which places were gone to, in their order, and a letter for what became of each.
    fn gone(count: usize, order: Order, fails: &[usize]) -> (Vec<usize>, String) {
        let gone = Mutex::new(Vec::new());
        let outcomes = in_order(
            count,
            order,
            || false,
            |place| {
                gone.lock().unwrap().push(place);
                match fails.contains(&place) {
                    true => Err(()),
                    false => Ok(()),
                }
            },
        );
        let letter = |o: &Outcome<(), ()>| match o {
            Outcome::Done(()) => 'd',
            Outcome::Failed(()) => 'f',
            Outcome::NotBegun => 'n',
        };
        (
            gone.into_inner().unwrap(),
            outcomes.iter().map(letter).collect(),
        )
    }

    #[test]
    fn the_canary_goes_first_and_after_a_failure_nothing_is_begun() {
        assert_eq!(
            gone(4, order(1, Some(2), true), &[]),
            (vec![2, 0, 1, 3], "dddd".into())
        );
        assert_eq!(
            gone(4, order(4, Some(2), true), &[2]),
            (vec![2], "nnfn".into())
        );
        assert_eq!(
            gone(4, order(1, Some(0), true), &[1]),
            (vec![0, 1], "dfnn".into())
        );
        // Whoever only looks goes to all of them.
        assert_eq!(
            gone(3, order(1, None, false), &[0, 1]),
            (vec![0, 1, 2], "ffd".into())
        );
        assert_eq!(
            gone(0, order(3, Some(0), true), &[]),
            (vec![], String::new())
        );
    }

    #[test]
    fn so_many_at_a_time_and_those_under_way_come_to_their_end() {
        let (together, now, most) = (Barrier::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        let outcomes = in_order(
            3,
            order(3, None, true),
            || false,
            |place| {
                most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                // One fails while the two others are under way.
                together.wait();
                now.fetch_sub(1, Ordering::SeqCst);
                if place == 0 { Err(()) } else { Ok(()) }
            },
        );
        assert_eq!(most.into_inner(), 3);
        let ends = outcomes.iter().map(|o| matches!(o, Outcome::Done(())));
        assert_eq!(ends.collect::<Vec<_>>(), [false, true, true]);
        // Stopped by the user: none.
        let none = in_order(2, order(2, Some(0), true), || true, |_| Ok::<(), ()>(()));
        assert!(none.iter().all(|o| matches!(o, Outcome::NotBegun)));
    }
}
