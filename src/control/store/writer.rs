//! Who writes: a thread of its own on a station, so that nobody who holds the control waits for a disk, which
//! may take seconds; or whoever asks, for tools and tests.
//!
//! Everything is written in the order in which it was asked for.

use super::{Store, StoreError, Stored};
use crate::control::memory::RecipeNumber;
use crate::line::{AlarmSet, Statistics};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How often the thread shows that it is alive if there is nothing to write.
const BEAT: Duration = Duration::from_millis(250);

/// Something to write.
#[derive(Debug)]
enum Job {
    Change { new: Box<Stored>, old: Box<Stored> },
    Log(Box<Stored>),
    Counters(Box<Statistics>, AlarmSet),
    Lesson(RecipeNumber, Option<Arc<[u8]>>),
}

/// What was written, or why it was not.
#[derive(Debug)]
pub(in crate::control) enum Written {
    /// A change. If it failed, what was stored before was written again.
    Change(Result<(), StoreError>),
    /// New lines of the log.
    Log(Result<(), StoreError>),
    /// Counters and alarms.
    Counters(Box<Statistics>, AlarmSet, Result<(), StoreError>),
    /// A lesson that waits to be accepted, or that there is none any more.
    Lesson(Result<(), StoreError>),
}

/// See the module.
#[derive(Debug)]
pub struct Writer {
    hand: Hand,
    written: VecDeque<Written>,
}

#[derive(Debug)]
enum Hand {
    Own(Box<Store>),
    Thread {
        jobs: Sender<Job>,
        written: Receiver<Written>,
        thread: JoinHandle<Store>,
        /// Jobs that are not done.
        left: usize,
    },
    Ended,
}

impl From<Store> for Writer {
    /// Whoever asks writes, and waits for it.
    fn from(store: Store) -> Writer {
        Writer {
            hand: Hand::Own(Box::new(store)),
            written: VecDeque::new(),
        }
    }
}

impl Writer {
    /// A thread writes. It calls `beat` as long as it does not wait for the disk.
    ///
    /// # Errors
    /// The system's: no thread can be started.
    pub fn thread(
        mut store: Store,
        beat: impl Fn() + Send + 'static,
    ) -> Result<Writer, std::io::Error> {
        let (jobs, to_do) = channel();
        let (done, written) = channel();
        let body = move || loop {
            beat();
            match to_do.recv_timeout(BEAT) {
                // Whoever asked may be gone.
                Ok(job) => _ = done.send(store.carry_out(job)),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return store,
            }
        };
        let thread = Builder::new().name("store".into()).spawn(body)?;
        Ok(Writer {
            hand: Hand::Thread {
                jobs,
                written,
                thread,
                left: 0,
            },
            written: VecDeque::new(),
        })
    }

    /// Has a change written, in place of what is stored.
    pub(in crate::control) fn change(&mut self, new: Stored, old: Stored) {
        let (new, old) = (Box::new(new), Box::new(old));
        self.give(Job::Change { new, old });
    }

    /// Has the same settings with more lines of the log written.
    pub(in crate::control) fn log(&mut self, stored: Stored) {
        self.give(Job::Log(Box::new(stored)));
    }

    /// Has counters and alarms written.
    pub(in crate::control) fn counters(&mut self, statistics: &Statistics, alarms: AlarmSet) {
        self.give(Job::Counters(Box::new(*statistics), alarms));
    }

    /// Has a recipe's lesson written, or taken away.
    pub(in crate::control) fn lesson(&mut self, recipe: RecipeNumber, lesson: Option<Arc<[u8]>>) {
        self.give(Job::Lesson(recipe, lesson));
    }

    fn give(&mut self, job: Job) {
        match &mut self.hand {
            Hand::Own(store) => self.written.push_back(store.carry_out(job)),
            Hand::Thread { jobs, left, .. } => {
                // It takes jobs until it is ended, unless it panicked: then nothing is ever done, and its row in
                // the table of threads says so.
                *left += usize::from(jobs.send(job).is_ok());
            }
            Hand::Ended => (),
        }
    }

    /// The next thing that is done, in order. Never waits.
    pub(in crate::control) fn written(&mut self) -> Option<Written> {
        if let Hand::Thread { written, left, .. } = &mut self.hand
            && let Ok(done) = written.try_recv()
        {
            *left -= 1;
            self.written.push_back(done);
        }
        self.written.pop_front()
    }

    /// Waits until everything that was asked for is done.
    pub(in crate::control) fn wait(&mut self) {
        if let Hand::Thread { written, left, .. } = &mut self.hand {
            while *left > 0
                && let Ok(done) = written.recv()
            {
                *left -= 1;
                self.written.push_back(done);
            }
        }
    }

    /// Ends the thread when everything that was asked for is done. `None`: it panicked, and said so.
    pub(in crate::control) fn end(&mut self) -> Option<Store> {
        match std::mem::replace(&mut self.hand, Hand::Ended) {
            Hand::Own(store) => Some(*store),
            Hand::Thread { jobs, thread, .. } => {
                drop(jobs);
                thread.join().ok()
            }
            Hand::Ended => None,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever opens the folder next finds it free.
        self.end();
    }
}

impl Store {
    fn carry_out(&mut self, job: Job) -> Written {
        match job {
            Job::Change { new, old } => {
                let result = self.save(&new);
                // What was taught before and nobody names any more goes. If that fails, the next start does it.
                let swept = result.as_ref().map_or(Ok(()), |()| self.sweep(&new));
                if let Err(e) = swept {
                    log::debug!("{e}");
                }
                if result.is_err() {
                    // It may be stored all the same: what is in force is, if it can be.
                    let _ = self.save(&old);
                }
                Written::Change(result)
            }
            Job::Log(stored) => Written::Log(self.save(&stored)),
            Job::Counters(statistics, alarms) => {
                let result = self.save_counters(&statistics, alarms);
                Written::Counters(statistics, alarms, result)
            }
            Job::Lesson(recipe, lesson) => {
                Written::Lesson(self.save_lesson(recipe, lesson.as_deref()))
            }
        }
    }
}
