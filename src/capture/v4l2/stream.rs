//! The driver's buffers. Wraps the stream of `v4l` 0.14, whose rough edges stay in here:
//!
//! - a timeout inside its `next` leaves it broken, so it is called only when a frame is there;
//! - it returns the whole mapping, not the bytes that were written, and does not look at flags;
//! - its drop panics if the driver does not stop.

use std::io;
use std::time::{Duration, Instant};
use v4l::Device;
use v4l::buffer::{Flags, Metadata, Type};
use v4l::io::mmap;
use v4l::io::traits::{CaptureStream, Stream as _};

/// A frame as the driver delivers it.
pub(super) struct Frame<'a> {
    pub bytes: &'a [u8],
    /// The driver flagged an error, or says it wrote more than the buffer holds.
    pub flawed: bool,
    pub sequence: u32,
    /// Microseconds on CLOCK_MONOTONIC, if the driver stamps by that clock.
    pub stamp_us: Option<u64>,
    /// Whether it came while it was waited for. If not, it lay in the queue nobody knows how long.
    pub awaited: bool,
}

/// A running stream.
pub(super) struct Stream {
    /// `None` only while it is dropped.
    inner: Option<mmap::Stream<'static>>,
}

impl Stream {
    /// Allocates, queues, starts. One buffer more than asked for: it lies with us, the others with the
    /// driver.
    pub(super) fn start(device: &Device, buffers: u32) -> io::Result<Self> {
        let inner = mmap::Stream::with_buffers(device, Type::VideoCapture, buffers + 1)?;
        let mut stream = Stream { inner: Some(inner) };
        if let Some(inner) = &mut stream.inner {
            // `next` first queues the buffer that it returned last, which before the first frame is
            // number 0. The crate does not say how many there are; the driver does.
            let mut queued = 0;
            while queued < 32 {
                match CaptureStream::queue(inner, queued + 1) {
                    Ok(()) => queued += 1,
                    Err(e) if e.kind() == io::ErrorKind::InvalidInput && queued > 0 => break,
                    Err(e) => return Err(e),
                }
            }
            // A bound, in case poll was wrong.
            inner.set_timeout(Duration::from_secs(1));
            inner.start()?;
        }
        Ok(stream)
    }

    /// The next frame, or `None` if there is none in time. After an error the stream is of no more use.
    pub(super) fn next(&mut self, timeout: Duration) -> io::Result<Option<Frame<'_>>> {
        let Some(inner) = &mut self.inner else {
            return Ok(None);
        };
        let deadline = Instant::now() + timeout;
        let mut awaited = false;
        loop {
            let left = match awaited {
                true => deadline.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            let millis = left.as_micros().div_ceil(1000).min(3_600_000) as i32;
            match inner.handle().poll(libc::POLLIN, millis) {
                Ok(0) if awaited => return Ok(None),
                Ok(0) => awaited = true,
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(e) => return Err(e),
            }
        }
        let (buffer, meta) = CaptureStream::next(inner)?;
        let used = meta.bytesused as usize;
        Ok(Some(Frame {
            bytes: &buffer[..used.min(buffer.len())],
            flawed: is_flawed(meta.flags, used, buffer.len()),
            sequence: meta.sequence,
            stamp_us: stamp(meta),
            awaited,
        }))
    }
}

/// Whether the driver flags an error, or says that it wrote `used` bytes where there is room for fewer.
fn is_flawed(flags: Flags, used: usize, room: usize) -> bool {
    flags.contains(Flags::ERROR) || used > room
}

fn stamp(meta: &Metadata) -> Option<u64> {
    if meta.flags & Flags::TIMESTAMP_MASK != Flags::TIMESTAMP_MONOTONIC {
        return None;
    }
    let seconds = u64::try_from(meta.timestamp.sec).ok()?;
    let micros = u64::try_from(meta.timestamp.usec).ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else {
            return;
        };
        // The crate's own drop stops the stream once more, and panics if that fails for any reason but
        // ENODEV; freeing the buffers would then panic again and abort the program.
        for _ in 0..100 {
            match inner.stop() {
                Ok(()) => return,
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(e) => {
                    log::error!("camera: the driver does not stop ({e}); its buffers are given up");
                    break;
                }
            }
        }
        std::mem::forget(inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_the_driver_flags_or_overfills_is_flawed() {
        let done = Flags::DONE | Flags::MAPPED;
        assert!(!is_flawed(done, 100, 100));
        assert!(is_flawed(done | Flags::ERROR, 100, 100));
        assert!(is_flawed(done, 101, 100));
    }
}
