//! What the command writes, as it comes: with the time at which it came, and how long it was waited for.

use crate::capture::now_us;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often it is looked whether reading is to end.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Bytes read at once where not much is asked for.
const BUFFER: usize = 1 << 16;
/// A frame that lay in the pipe for longer than this before it was looked at has no known time.
const LATE_US: u64 = 20_000;

/// One end of a pipe that is waited for no longer than wanted.
pub(super) struct Watched<R> {
    inner: R,
    stop: Arc<AtomicBool>,
    /// When the last bytes were taken.
    last_us: u64,
    /// When the last bytes had come; `None` if they may have lain there for some time.
    arrived_us: Option<u64>,
    /// The longest wait since the mark.
    pause_us: u64,
}

impl<R: Read + AsFd> Watched<R> {
    pub(super) fn new(inner: R, stop: Arc<AtomicBool>) -> Self {
        let now = now_us();
        Watched {
            inner,
            stop,
            last_us: now,
            arrived_us: Some(now),
            pause_us: 0,
        }
    }

    /// Waits until there is something, or the other end is closed.
    fn wait(&self) -> io::Result<()> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("reading was ended"));
            }
            let mut fds = [PollFd::new(&self.inner, PollFlags::IN)];
            match poll(&mut fds, Some(&LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => (),
                Ok(_) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl<R: Read + AsFd> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = now_us();
        self.wait()?;
        let came = now_us();
        let read = self.inner.read(buffer)?;
        let waited = came - asked;
        self.pause_us = self.pause_us.max(waited);
        // Nobody looked for a while, and then it was there at once.
        let late = waited < 1000 && asked.saturating_sub(self.last_us) > LATE_US;
        self.arrived_us = (!late).then_some(came);
        self.last_us = now_us();
        Ok(read)
    }
}

/// When a frame began to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// When its first byte came, us of CLOCK_MONOTONIC, if that is known.
    pub at_us: Option<u64>,
    /// For how long nothing had come before it.
    pub after_us: u64,
}

/// The stream, which several readers share in turn.
pub(super) struct Input<R>(Rc<RefCell<BufReader<Watched<R>>>>);

impl<R> Clone for Input<R> {
    fn clone(&self) -> Self {
        Input(self.0.clone())
    }
}

impl<R: Read + AsFd> Input<R> {
    pub(super) fn new(inner: Watched<R>) -> Self {
        Input(Rc::new(RefCell::new(BufReader::with_capacity(
            BUFFER, inner,
        ))))
    }

    /// Waits for the first byte of a frame; `None`: the stream ended before it.
    pub(super) fn begin(&self) -> io::Result<Option<Begun>> {
        let mut reader = self.0.borrow_mut();
        // Bytes that came together with the end of the frame before.
        let before = !reader.buffer().is_empty();
        reader.get_mut().pause_us = 0;
        if reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let watched = reader.get_mut();
        let begun = Begun {
            at_us: watched.arrived_us,
            after_us: if before { 0 } else { watched.pause_us },
        };
        watched.pause_us = 0;
        Ok(Some(begun))
    }

    /// The longest time that nothing came since the frame began.
    pub(super) fn longest_pause_us(&self) -> u64 {
        self.0.borrow().get_ref().pause_us
    }

    /// Up to eight bytes that come next.
    pub(super) fn peek(&self) -> io::Result<Vec<u8>> {
        let mut reader = self.0.borrow_mut();
        let bytes = reader.fill_buf()?;
        Ok(bytes[..bytes.len().min(8)].to_vec())
    }

    /// Hands over what has come and when; takes as many bytes of it as `take` returns. Without bytes: the stream
    /// ended.
    pub(super) fn piece<T>(
        &self,
        take: impl FnOnce(&[u8], Option<u64>) -> (usize, T),
    ) -> io::Result<T> {
        let mut reader = self.0.borrow_mut();
        reader.fill_buf()?;
        let arrived_us = reader.get_ref().arrived_us;
        let (taken, result) = take(reader.buffer(), arrived_us);
        reader.consume(taken);
        Ok(result)
    }
}

impl<R: Read + AsFd> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}
