//! Messages to one thread, over a lane for each sender: a ring with one writer and one reader.
//!
//! The output thread must never wait for a thread of lower priority. With the standard library's channels it
//! would: a sender wakes the reader while it holds a lock that the reader needs next, and a reader spins on
//! a message that is half written. A queue with several writers has the same fault in small: whoever is
//! interrupted in the middle of a message hides all that come behind it. On lanes of their own, senders
//! know nothing of one another: an interrupted one delays its own messages only.

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a sender sleeps before it tries again to find room.
const FULL: Duration = Duration::from_millis(1);

/// The thread that reads, once it has waited for a message.
type Reader = Arc<OnceLock<Thread>>;

/// Takes messages, in one thread. The first lane goes before all others, which take turns.
pub struct Mailbox<T> {
    lanes: Vec<Consumer<T>>,
    /// Index of the lane whose turn it is.
    turn: usize,
    reader: Reader,
}

/// Sends messages over one lane.
pub struct Post<T> {
    /// `None` only while it is dropped.
    lane: Option<Producer<T>>,
    reader: Reader,
}

impl<T> Default for Mailbox<T> {
    /// A mailbox without a lane.
    fn default() -> Self {
        Mailbox {
            lanes: Vec::new(),
            turn: 0,
            reader: Reader::default(),
        }
    }
}

impl<T> Post<T> {
    fn wake(&self) {
        // With the reader's fence: either it is known here, or it sees what was sent before.
        fence(Ordering::SeqCst);
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }

    /// Sends if there is room. Never waits.
    ///
    /// # Errors
    /// The message, if there is no room or nobody reads any more.
    pub fn try_send(&mut self, message: T) -> Result<(), T> {
        let Some(lane) = self.lane.as_mut().filter(|lane| !lane.is_abandoned()) else {
            return Err(message);
        };
        lane.push(message).map_err(|PushError::Full(back)| back)?;
        self.wake();
        Ok(())
    }

    /// Sends; waits for room. Not for the output thread.
    ///
    /// # Errors
    /// The message, if nobody reads any more.
    pub fn send(&mut self, mut message: T) -> Result<(), T> {
        loop {
            match self.try_send(message) {
                Err(back) if self.lane.as_ref().is_some_and(|l| !l.is_abandoned()) => {
                    message = back;
                }
                other => return other,
            }
            thread::sleep(FULL);
        }
    }
}

impl<T> Drop for Post<T> {
    fn drop(&mut self) {
        // The reader must see that it is gone when it wakes.
        drop(self.lane.take());
        self.wake();
    }
}

impl<T> Mailbox<T> {
    /// One more lane, with room for so many messages.
    pub fn lane(&mut self, room: usize) -> Post<T> {
        let (producer, consumer) = RingBuffer::new(room);
        self.lanes.push(consumer);
        Post {
            lane: Some(producer),
            reader: self.reader.clone(),
        }
    }

    /// A message, if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        self.try_recv_first().or_else(|| self.try_recv_others())
    }

    /// A message of any lane but the first, if there is one.
    pub fn try_recv_others(&mut self) -> Option<T> {
        let (_, others) = self.lanes.split_first_mut()?;
        for _ in 0..others.len() {
            let lane = self.turn % others.len();
            self.turn = lane + 1;
            if let Ok(message) = others[lane].pop() {
                return Some(message);
            }
        }
        None
    }

    /// A message of the first lane, if there is one.
    pub fn try_recv_first(&mut self) -> Option<T> {
        self.lanes.first_mut()?.pop().ok()
    }

    /// Waits for a message. All waiting is done by one thread.
    ///
    /// # Errors
    /// None came in time, or there never will be one: all senders are gone.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let until = Instant::now() + timeout;
        let reader = self.reader.get_or_init(thread::current);
        debug_assert_eq!(reader.id(), thread::current().id());
        fence(Ordering::SeqCst);
        loop {
            // Looked at first: what the last sender sent is there when it is gone.
            let gone = self.lanes.iter().all(Consumer::is_abandoned);
            if let Some(message) = self.try_recv() {
                return Ok(message);
            }
            if gone {
                return Err(RecvTimeoutError::Disconnected);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RecvTimeoutError::Timeout);
            }
            thread::park_timeout(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn every_message_arrives_once_and_each_senders_in_order() {
        const EACH: u32 = 20_000;
        let mut mailbox = Mailbox::default();
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let mut post = mailbox.lane(8);
                thread::spawn(move || (0..EACH).for_each(|n| post.send((sender, n)).unwrap()))
            })
            .collect();
        let mut next = [0; 3];
        while let Ok((sender, n)) = mailbox.recv_timeout(LONG) {
            let sender: usize = sender;
            assert_eq!(n, next[sender]);
            next[sender] += 1;
        }
        assert_eq!(next, [EACH; 3]);
        senders.into_iter().for_each(|s| s.join().unwrap());
    }

    #[test]
    fn a_full_lane_and_one_that_nobody_reads_give_the_message_back() {
        let mut mailbox = Mailbox::default();
        let mut post = mailbox.lane(2);
        assert_eq!(
            [1, 2, 3].map(|n| post.try_send(n)),
            [Ok(()), Ok(()), Err(3)]
        );
        assert_eq!(mailbox.recv_timeout(Duration::ZERO), Ok(1));
        let held = Arc::new(());
        let mut unread = Mailbox::default();
        let mut other = unread.lane(2);
        other.send(held.clone()).unwrap();
        drop(unread);
        assert!(other.send(held.clone()).is_err());
        drop(other);
        assert_eq!(
            Arc::strong_count(&held),
            1,
            "what waited is dropped with the lane"
        );
        drop(post);
        assert_eq!(mailbox.recv_timeout(LONG), Ok(2));
        assert_eq!(
            mailbox.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn the_first_lane_goes_before_and_the_others_take_turns() {
        let mut mailbox = Mailbox::default();
        let (mut stop, mut flood, mut quiet) = (mailbox.lane(2), mailbox.lane(8), mailbox.lane(8));
        for n in 0..4 {
            flood.send(n).unwrap();
        }
        quiet.send(10).unwrap();
        stop.send(20).unwrap();
        let took: Vec<i32> = std::iter::from_fn(|| mailbox.try_recv()).collect();
        assert_eq!(took, [20, 0, 10, 1, 2, 3]);
        assert_eq!(mailbox.try_recv_first(), None);
    }
}
