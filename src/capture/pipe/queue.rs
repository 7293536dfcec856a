//! Frames on their way from the thread that reads them to the camera's.
//!
//! The command is never kept waiting by a slow station, or what it delivers next would be of the past without
//! anybody knowing: a frame that finds no room takes that of the oldest one, whose number is then missing.

use super::stream::Head;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A frame as the command wrote it.
#[derive(Debug)]
pub(super) struct CommandFrame {
    pub bytes: Vec<u8>,
    pub head: Head,
    /// Counts the command's frames.
    pub sequence: u64,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<CommandFrame>,
    free: Vec<Vec<u8>>,
    /// Frames so far.
    frames: u64,
    /// Why there will be no more.
    ended: Option<String>,
}

/// The frames that wait.
#[derive(Debug)]
pub(super) struct Queue {
    room: usize,
    state: Mutex<State>,
    more: Condvar,
}

impl Queue {
    /// Room for so many.
    pub(super) fn new(room: usize) -> Self {
        Queue {
            room,
            state: Mutex::default(),
            more: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame in; returns memory for the next one.
    pub(super) fn put(&self, bytes: Vec<u8>, head: Head) -> Vec<u8> {
        let mut state = self.lock();
        let sequence = state.frames;
        state.frames += 1;
        let oldest = match state.ready.len() < self.room {
            true => None,
            false => state.ready.pop_front().map(|frame| frame.bytes),
        };
        state.ready.push_back(CommandFrame {
            bytes,
            head,
            sequence,
        });
        self.more.notify_one();
        oldest.or_else(|| state.free.pop()).unwrap_or_default()
    }

    /// There will be no more frames. The first reason counts.
    pub(super) fn end(&self, why: String) {
        self.lock().ended.get_or_insert(why);
        self.more.notify_one();
    }

    /// The oldest frame; `None`: there is none in time.
    ///
    /// # Errors
    /// There is none, and there will be no more: why.
    pub(super) fn take(&self, timeout: Duration) -> Result<Option<CommandFrame>, String> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(frame) = state.ready.pop_front() {
                return Ok(Some(frame));
            }
            if let Some(why) = &state.ended {
                return Err(why.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let waited = self.more.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes memory back.
    pub(super) fn give(&self, bytes: Vec<u8>) {
        self.lock().free.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::Begun;
    use super::*;
    use crate::capture::format::{Layout, PixelFormat};

    #[test]
    fn the_oldest_frame_makes_room_and_its_number_is_missing() {
        let head = Head {
            layout: Layout::packed(PixelFormat::Rgb24, 1, 1),
            begun: Begun {
                at_us: None,
                after_us: 0,
            },
            in_pieces: false,
        };
        let queue = Queue::new(2);
        assert!(queue.take(Duration::ZERO).unwrap().is_none());
        let memory = queue.put(vec![0], head);
        assert_eq!(memory, Vec::<u8>::new());
        queue.put(vec![1], head);
        // Its memory is used again.
        assert_eq!(queue.put(vec![2], head), [0]);
        let take = || {
            queue
                .take(Duration::ZERO)
                .map(|f| f.map(|f| (f.sequence, f.bytes)))
        };
        assert_eq!(take(), Ok(Some((1, vec![1]))));
        queue.give(vec![9]);
        queue.end("it ended".into());
        queue.end("something else".into());
        // What came before the end is still there.
        assert_eq!(take(), Ok(Some((2, vec![2]))));
        assert_eq!(take(), Err("it ended".into()));
        assert_eq!(queue.put(vec![3], head), [9]);
    }
}
