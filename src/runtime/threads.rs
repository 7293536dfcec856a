//! The table of threads: who must show a sign of life, how long it may be silent, and what its end means.
//! The watchdogs are fed from it and from nothing else.
//!
//! Silence is counted in the time that the table itself was looked at. If the whole process stood still
//! (a frozen group, a stopped virtual machine), nobody looked, and nobody was silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A thread that has given no sign of life for this long hangs, unless its work takes longer.
pub const SILENCE: Duration = Duration::from_secs(3);
/// Of the time between two looks no more than this counts as silence: for the rest nobody looked.
const MOST: Duration = Duration::from_millis(200);
/// A look that comes this much later than the last means that the whole process stood still.
const STILL: Duration = Duration::from_secs(1);

/// What the end of a thread, or its silence, means for the station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// No part can be judged or rejected without it: the station ends, its outputs are safe.
    ToInspect,
    /// The line goes on without it; that is logged.
    ToTell,
}

#[derive(Debug, Default)]
struct Life {
    beats: AtomicU64,
    /// How long the thread may be silent, microseconds.
    patience_us: AtomicU64,
    /// Set while the thread does something that may take any time, and the line knows that it is without it.
    excused: AtomicBool,
}

/// The handle by which a thread shows that it is alive.
#[derive(Clone, Debug, Default)]
pub struct Sign(Arc<Life>);

impl Sign {
    /// Shows that the thread is alive.
    pub fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets the thread be silent for this long, or for [`SILENCE`] if that is longer.
    pub fn set_patience(&self, patience: Duration) {
        let us = patience.max(SILENCE).as_micros() as u64;
        self.0.patience_us.store(us, Ordering::Relaxed);
    }

    /// Does something that may take any time while the line does without this thread.
    pub fn excused<T>(&self, work: impl FnOnce() -> T) -> T {
        /// A panic ends the excuse, too: a thread that died of it must be noticed.
        struct Excused<'a>(&'a AtomicBool);
        impl Drop for Excused<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        self.0.excused.store(true, Ordering::Relaxed);
        let excused = Excused(&self.0.excused);
        let done = work();
        drop(excused);
        self.beat();
        done
    }

    /// Says that the thread ends, and that this is as it should be.
    pub fn done(&self) {
        self.0.excused.store(true, Ordering::Relaxed);
    }
}

/// A thread in the table.
struct Row {
    name: &'static str,
    needed: Needed,
    life: Arc<Life>,
    thread: Option<JoinHandle<()>>,
    /// Its count of signs of life at the last look.
    beats: u64,
    silent: Duration,
}

impl Row {
    fn excused(&self) -> bool {
        self.life.excused.load(Ordering::Relaxed)
    }

    fn hangs(&self) -> bool {
        let patience = Duration::from_micros(self.life.patience_us.load(Ordering::Relaxed));
        self.silent > patience && !self.excused()
    }

    fn ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished) && !self.excused()
    }
}

/// The table of all threads.
#[derive(Default)]
pub struct Threads {
    rows: Vec<Row>,
    looked: Option<Instant>,
}

impl Threads {
    /// Adds a thread that is about to start.
    pub fn row(&mut self, name: &'static str, needed: Needed) -> Sign {
        let life = Arc::<Life>::default();
        let sign = Sign(life.clone());
        sign.set_patience(SILENCE);
        self.rows.push(Row {
            name,
            needed,
            life,
            thread: None,
            beats: 0,
            silent: Duration::ZERO,
        });
        sign
    }

    /// Hands over the thread of a row, once it runs.
    pub fn runs(&mut self, sign: &Sign, thread: JoinHandle<()>) {
        let mut rows = self.rows.iter_mut();
        if let Some(row) = rows.find(|row| Arc::ptr_eq(&row.life, &sign.0)) {
            row.thread = Some(thread);
        }
    }

    /// Looks at every thread's signs of life. Returns for how long the whole process stood still, if it did.
    pub fn look(&mut self, now: Instant) -> Option<Duration> {
        let since = self
            .looked
            .map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        self.looked = Some(now);
        for row in &mut self.rows {
            let beats = row.life.beats.load(Ordering::Relaxed);
            let silent = beats == row.beats && !row.excused();
            row.silent = match silent {
                true => row.silent + since.min(MOST),
                false => Duration::ZERO,
            };
            row.beats = beats;
        }
        Some(since).filter(|since| *since > STILL)
    }

    /// The first thread that is needed to inspect and has ended or hangs.
    pub fn failed(&self) -> Option<&'static str> {
        let needed = self.rows.iter().filter(|r| r.needed == Needed::ToInspect);
        let mut lost = needed.filter(|r| r.ended() || r.hangs());
        lost.next().map(|row| row.name)
    }

    /// Whether all threads of this name work; otherwise why not.
    pub fn work(&self, name: &str) -> Result<(), &'static str> {
        let mut named = self.rows.iter().filter(|r| r.name == name);
        match named.find(|r| r.ended() || r.hangs()) {
            Some(row) if row.ended() => Err("failed"),
            Some(_) => Err("hangs"),
            None => Ok(()),
        }
    }

    /// The names of all threads that the line can do without, each once.
    pub fn tellers(&self) -> impl Iterator<Item = &'static str> {
        let tell = self.rows.iter().filter(|r| r.needed == Needed::ToTell);
        tell.map(|row| row.name)
    }

    /// Waits until all threads have ended, except those with the name of the failed one and those that receive
    /// from it: the process is about to end. Returns which have panicked.
    pub fn join(self, failed: Option<&str>) -> Vec<&'static str> {
        let mut panicked = vec![];
        for row in self.rows.into_iter().rev() {
            let awaited = match failed {
                None => true,
                Some(failed) => failed != row.name && row.needed == Needed::ToInspect,
            };
            if let Some(thread) = row.thread.filter(|_| awaited)
                && thread.join().is_err()
            {
                panicked.push(row.name);
            }
        }
        panicked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 50 ms for so long.
    fn watch(threads: &mut Threads, from: Instant, time: Duration) -> Instant {
        let looks = time.as_millis() as u32 / 50;
        (1..=looks).for_each(|i| _ = threads.look(from + Duration::from_millis(50) * i));
        from + Duration::from_millis(50) * looks
    }

    #[test]
    fn a_thread_that_is_silent_for_three_seconds_hangs_and_one_that_beats_does_not() {
        let mut threads = Threads::default();
        let alive = threads.row("camera", Needed::ToInspect);
        let inputs = threads.row("inputs", Needed::ToInspect);
        let mut now = Instant::now();
        threads.look(now);
        for _ in 0..29 {
            alive.beat();
            now = watch(&mut threads, now, Duration::from_millis(100));
        }
        assert_eq!(threads.failed(), None);
        for _ in 0..3 {
            alive.beat();
            now = watch(&mut threads, now, Duration::from_millis(100));
        }
        assert_eq!(threads.failed(), Some("inputs"));
        inputs.beat();
        threads.look(now);
        assert_eq!(threads.failed(), None);
    }

    #[test]
    fn a_slower_network_is_waited_for() {
        let mut threads = Threads::default();
        let sign = threads.row("inference", Needed::ToInspect);
        sign.set_patience(Duration::from_secs(10));
        let now = Instant::now();
        threads.look(now);
        let now = watch(&mut threads, now, Duration::from_secs(9));
        assert_eq!(threads.failed(), None);
        watch(&mut threads, now, Duration::from_secs(2));
        assert_eq!(threads.failed(), Some("inference"));
    }

    #[test]
    fn a_process_that_stood_still_has_no_dead_threads() {
        let mut threads = Threads::default();
        let _sign = threads.row("actuator", Needed::ToInspect);
        let now = Instant::now();
        assert_eq!(threads.look(now), None);
        let now = watch(&mut threads, now, Duration::from_millis(2500));
        let hour = Duration::from_secs(3600);
        assert_eq!(threads.look(now + hour), Some(hour));
        assert_eq!(threads.failed(), None);
        // What comes after it counts again.
        watch(&mut threads, now + hour, Duration::from_millis(600));
        assert_eq!(threads.failed(), Some("actuator"));
    }

    #[test]
    fn who_is_excused_or_only_tells_ends_no_station() {
        let mut threads = Threads::default();
        let camera = threads.row("camera", Needed::ToInspect);
        let _recorder = threads.row("recorder", Needed::ToTell);
        let now = Instant::now();
        threads.look(now);
        let now = camera.excused(|| watch(&mut threads, now, Duration::from_secs(60)));
        assert_eq!(threads.failed(), None);
        assert_eq!(threads.work("recorder"), Err("hangs"));
        assert_eq!(threads.tellers().collect::<Vec<_>>(), ["recorder"]);
        threads.look(now);
        let now = watch(&mut threads, now, Duration::from_secs(4));
        assert_eq!(threads.failed(), Some("camera"));
        camera.done();
        threads.look(now);
        assert_eq!(threads.failed(), None);
    }

    #[test]
    fn a_thread_that_panics_while_it_is_excused_is_missed() {
        let mut threads = Threads::default();
        let sign = threads.row("camera", Needed::ToInspect);
        let thread = sign.clone();
        let dies = move || thread.excused(|| panic!("on purpose"));
        threads.runs(&sign, std::thread::spawn(dies));
        let start = Instant::now();
        while threads.failed().is_none() && start.elapsed() < Duration::from_secs(30) {
            std::thread::yield_now();
        }
        assert_eq!(threads.failed(), Some("camera"));
    }

    #[test]
    fn a_thread_that_ended_is_missed_at_once() {
        let mut threads = Threads::default();
        let sign = threads.row("inputs", Needed::ToInspect);
        threads.runs(&sign, std::thread::spawn(|| ()));
        let start = Instant::now();
        while threads.failed().is_none() && start.elapsed() < Duration::from_secs(30) {
            std::thread::yield_now();
        }
        assert_eq!(threads.failed(), Some("inputs"));
        assert_eq!(threads.work("inputs"), Err("failed"));
        assert!(threads.join(None).is_empty());
    }
}
