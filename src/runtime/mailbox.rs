//! Messages from any thread to one, without a lock between them.
//!
//! The output thread must never wait for a thread of lower priority. With the standard library's channels it
//! would: a sender wakes the reader while it holds a lock that the reader needs next, and a reader spins on
//! a message that is half written. Here whoever is interrupted in the middle of a message delays that
//! message and those behind it, and nobody's clock.

use heapless::mpmc::Queue;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a sender sleeps that finds no room.
const FULL: Duration = Duration::from_millis(1);

struct Shared<T, const N: usize> {
    queue: Queue<T, N>,
    reader: OnceLock<Thread>,
    senders: AtomicUsize,
    read: AtomicBool,
}

/// A mailbox with room for `N` messages (a power of two), and what puts them there.
pub fn mailbox<T: Send, const N: usize>() -> (Post<T, N>, Mailbox<T, N>) {
    let shared = Arc::new(Shared {
        queue: Queue::default(),
        reader: OnceLock::new(),
        senders: AtomicUsize::new(1),
        read: AtomicBool::new(true),
    });
    (Post(shared.clone()), Mailbox(shared))
}

/// Sends messages; any number of them may be about.
pub struct Post<T, const N: usize>(Arc<Shared<T, N>>);

/// Takes messages, in one thread.
pub struct Mailbox<T, const N: usize>(Arc<Shared<T, N>>);

impl<T, const N: usize> Post<T, N> {
    fn wake(&self) {
        // With the reader's fence: either it is known here, or it sees what was sent before.
        fence(Ordering::SeqCst);
        if let Some(reader) = self.0.reader.get() {
            reader.unpark();
        }
    }

    /// Sends if there is room. Never waits.
    ///
    /// # Errors
    /// The message, if there is no room or nobody reads any more.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        if !self.0.read.load(Ordering::Acquire) {
            return Err(message);
        }
        self.0.queue.enqueue(message)?;
        self.wake();
        Ok(())
    }

    /// Sends; waits for room. Not for the output thread.
    ///
    /// # Errors
    /// The message, if nobody reads any more.
    pub fn send(&self, mut message: T) -> Result<(), T> {
        loop {
            match self.try_send(message) {
                Err(back) if self.0.read.load(Ordering::Acquire) => message = back,
                other => return other,
            }
            thread::sleep(FULL);
        }
    }
}

impl<T, const N: usize> Clone for Post<T, N> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Post(self.0.clone())
    }
}

impl<T, const N: usize> Drop for Post<T, N> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake();
        }
    }
}

impl<T, const N: usize> Mailbox<T, N> {
    /// A message, if there is one.
    pub fn try_recv(&self) -> Option<T> {
        self.0.queue.dequeue()
    }

    /// Waits for a message. All waiting is done by one thread.
    ///
    /// # Errors
    /// None came in time, or there never will be one: all senders are gone.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let until = Instant::now() + timeout;
        let reader = self.0.reader.get_or_init(thread::current);
        debug_assert_eq!(reader.id(), thread::current().id());
        fence(Ordering::SeqCst);
        loop {
            // Looked at first: what the last sender sent is there when it is gone.
            let gone = self.0.senders.load(Ordering::Acquire) == 0;
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

impl<T, const N: usize> Drop for Mailbox<T, N> {
    fn drop(&mut self) {
        self.0.read.store(false, Ordering::Release);
        // What is in there may hold somebody's answer.
        while self.try_recv().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn every_message_arrives_once_and_each_senders_in_order() {
        const EACH: u32 = 20_000;
        let (post, mailbox) = mailbox::<(usize, u32), 8>();
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let post = post.clone();
                thread::spawn(move || (0..EACH).for_each(|n| post.send((sender, n)).unwrap()))
            })
            .collect();
        drop(post);
        let mut next = [0; 3];
        while let Ok((sender, n)) = mailbox.recv_timeout(LONG) {
            assert_eq!(n, next[sender]);
            next[sender] += 1;
        }
        assert_eq!(next, [EACH; 3]);
        senders.into_iter().for_each(|s| s.join().unwrap());
    }

    #[test]
    fn a_full_mailbox_and_one_that_nobody_reads_give_the_message_back() {
        let (post, mailbox) = mailbox::<u32, 2>();
        assert_eq!(
            [1, 2, 3].map(|n| post.try_send(n)),
            [Ok(()), Ok(()), Err(3)]
        );
        assert_eq!(mailbox.recv_timeout(Duration::ZERO), Ok(1));
        let held = Arc::new(());
        let (other, unread) = super::mailbox::<Arc<()>, 2>();
        other.send(held.clone()).unwrap();
        drop(unread);
        assert_eq!(
            Arc::strong_count(&held),
            1,
            "what waited is dropped with the mailbox"
        );
        assert!(other.send(held).is_err());
        drop(post);
        assert_eq!(mailbox.recv_timeout(LONG), Ok(2));
        assert_eq!(
            mailbox.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
