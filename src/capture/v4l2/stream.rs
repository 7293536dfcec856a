//! The driver's buffers: mapped, queued, taken one by one. Frames in one piece of memory or several
//! (V4L2 multi-planar) by the same calls, which the `v4l` crate's own streams know for one piece only.
//!
//! Nothing is copied: a frame is converted where the driver put it, and given back when the next one is asked for.

use super::sys::{self, Buffer, Kind, Mapped};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use v4l::Device;
use v4l::device::Handle;

// V4L2_BUF_FLAG_*
const ERROR: u32 = 0x0000_0040;
const TIMESTAMP_MASK: u32 = 0x0000_e000;
const TIMESTAMP_MONOTONIC: u32 = 0x0000_2000;
/// V4L2_BUF_FLAG_TSTAMP_SRC_MASK, and what in it means the start of the exposure; nothing: the end of the frame.
const SOURCE_MASK: u32 = 0x0007_0000;
const SOURCE_EXPOSURE: u32 = 0x0001_0000;

/// A frame as the driver delivers it.
pub(super) struct FilledBuffer<'a> {
    /// Its pieces of memory; those that there are not are empty.
    pub bytes: [&'a [u8]; sys::PIECES],
    /// The driver flagged an error, or says it wrote more than the buffer holds.
    pub flawed: bool,
    pub sequence: u32,
    /// Microseconds on CLOCK_MONOTONIC, if the driver stamps by that clock.
    pub stamp_us: Option<u64>,
    /// Whether that is when its exposure started; else when its last byte came.
    pub stamps_exposure: bool,
    /// Whether it came while it was waited for. If not, it lay in the queue nobody knows how long.
    pub awaited: bool,
}

impl FilledBuffer<'_> {
    /// What the driver says of a buffer, but for its bytes.
    fn without_bytes(buffer: &Buffer, awaited: bool) -> Self {
        FilledBuffer {
            bytes: [&[]; sys::PIECES],
            flawed: buffer.flags & ERROR != 0,
            sequence: buffer.sequence,
            stamp_us: stamp(buffer),
            stamps_exposure: buffer.flags & SOURCE_MASK == SOURCE_EXPOSURE,
            awaited,
        }
    }
}

/// A running stream.
pub(super) struct Stream {
    handle: Arc<Handle>,
    kind: Kind,
    /// Each buffer's pieces of memory.
    buffers: Vec<Vec<Mapped>>,
    /// The buffer that lies with us.
    held: Option<u32>,
}

impl Stream {
    /// Allocates, queues, starts. One buffer more than asked for: it lies with us, the others with the
    /// driver.
    pub(super) fn start(device: &Device, kind: Kind, buffers: u32) -> io::Result<Self> {
        let handle = device.handle();
        let count = sys::request_buffers(&handle, kind, buffers + 1)?;
        let mut stream = Stream {
            handle,
            kind,
            buffers: vec![],
            held: None,
        };
        for index in 0..count {
            stream
                .buffers
                .push(sys::map_buffer(&stream.handle, kind, index)?);
        }
        for index in 0..count {
            stream.queue(index)?;
        }
        sys::set_streaming(&stream.handle, kind, true)?;
        Ok(stream)
    }

    fn queue(&self, index: u32) -> io::Result<()> {
        let pieces = self.buffers[index as usize].len();
        sys::queue_buffer(&self.handle, self.kind, index, pieces)
    }

    /// The next frame, or `None` if there is none in time. After an error the stream is of no more use.
    pub(super) fn next(&mut self, timeout: Duration) -> io::Result<Option<FilledBuffer<'_>>> {
        if let Some(index) = self.held.take() {
            self.queue(index)?;
        }
        let deadline = Instant::now() + timeout;
        let mut awaited = false;
        let buffer = loop {
            let left = match awaited {
                true => deadline.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            let millis = left.as_micros().div_ceil(1000).min(3_600_000) as i32;
            match self.handle.poll(libc::POLLIN, millis) {
                Ok(0) if awaited => return Ok(None),
                Ok(0) => awaited = true,
                Ok(_) => match sys::take_buffer(&self.handle, self.kind) {
                    Ok(buffer) => break buffer,
                    // Poll was wrong.
                    Err(e)
                        if e.kind() == io::ErrorKind::WouldBlock && left.is_zero() && awaited =>
                    {
                        return Ok(None);
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => awaited = true,
                    Err(e) => return Err(e),
                },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(e) => return Err(e),
            }
        };
        let index = buffer.index as usize;
        let pieces = self.buffers.get(index).ok_or(io::ErrorKind::InvalidData)?;
        self.held = Some(buffer.index);
        let mut frame = FilledBuffer::without_bytes(&buffer, awaited);
        for ((piece, used), bytes) in pieces.iter().zip(buffer.used).zip(&mut frame.bytes) {
            let piece = piece.bytes();
            match part(used, piece.len()) {
                Some(part) => *bytes = &piece[part],
                None => frame.flawed = true,
            }
        }
        Ok(Some(frame))
    }
}

/// Which of `room` bytes a frame fills; `None` if the driver says that it wrote where there is no room.
fn part((start, end): (u32, u32), room: usize) -> Option<std::ops::Range<usize>> {
    let (start, end) = (start as usize, end as usize);
    (start <= end && end <= room).then_some(start..end)
}

fn stamp(buffer: &Buffer) -> Option<u64> {
    if buffer.flags & TIMESTAMP_MASK != TIMESTAMP_MONOTONIC {
        return None;
    }
    let seconds = u64::try_from(buffer.seconds).ok()?;
    let micros = u64::try_from(buffer.micros).ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

impl Drop for Stream {
    fn drop(&mut self) {
        match sys::set_streaming(&self.handle, self.kind, false) {
            Err(e) if e.raw_os_error() != Some(libc::ENODEV) => {
                log::error!("camera: the driver does not stop ({e})");
            }
            _ => (),
        }
        // The driver frees buffers only that nobody maps.
        self.buffers.clear();
        if let Err(e) = sys::request_buffers(&self.handle, self.kind, 0) {
            log::debug!("camera: its buffers: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_a_driver_says_it_wrote_beyond_the_buffer_are_none() {
        assert_eq!(part((0, 100), 100), Some(0..100));
        assert_eq!(part((8, 100), 100), Some(8..100));
        assert_eq!(part((0, 101), 100), None);
        assert_eq!(part((9, 8), 100), None);
    }

    fn buffer(flags: u32, seconds: i64) -> Buffer {
        Buffer {
            index: 0,
            flags,
            sequence: 0,
            seconds,
            micros: 5,
            used: [(0, 0); sys::PIECES],
        }
    }

    /// The driver says so of a frame whose transfer failed: it shows what is left of an older one.
    #[test]
    fn a_buffer_that_the_driver_marks_as_damaged_is_flawed() {
        for (flags, flawed) in [
            (0, false),
            (TIMESTAMP_MONOTONIC | SOURCE_EXPOSURE, false),
            (ERROR, true),
            (TIMESTAMP_MONOTONIC | ERROR, true),
        ] {
            let frame = FilledBuffer::without_bytes(&buffer(flags, 3), true);
            assert_eq!((frame.flawed, frame.awaited), (flawed, true), "{flags:#x}");
        }
    }

    #[test]
    fn only_stamps_of_the_monotonic_clock_count() {
        assert_eq!(stamp(&buffer(TIMESTAMP_MONOTONIC, 3)), Some(3_000_005));
        assert_eq!(stamp(&buffer(0, 3)), None);
        assert_eq!(stamp(&buffer(0x4000, 3)), None);
        assert_eq!(stamp(&buffer(TIMESTAMP_MONOTONIC, -1)), None);
        assert_eq!(stamp(&buffer(TIMESTAMP_MONOTONIC, i64::MAX)), None);
    }
}
