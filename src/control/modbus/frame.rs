//! Bytes to frames: a frame ends with a silence, and is one if its CRC says so.
//!
//! Must never allocate, and never hold more than one frame's length.

use heapless::Vec;
use rmodbus::ModbusProto;
use rmodbus::server::ModbusFrame;
use std::time::{Duration, Instant};

/// Bytes of the longest frame (Modbus over Serial Line V1.02, 2.5.1).
pub const LONGEST: usize = 256;

/// A frame with its address and CRC.
pub type Frame = Vec<u8, LONGEST>;

/// The shortest frame: address, function, CRC.
const SHORTEST: usize = 4;

/// USB adapters hand bytes over in pieces, up to 16 ms apart whatever the line does. A frame whose CRC is
/// not right yet is given so long before it is dropped.
const PATIENCE: Duration = Duration::from_millis(20);

/// Baud up to which the silence is reckoned in characters, and the silence above (2.5.1.1 of the same).
const SLOW: u32 = 19_200;
const FAST_SILENCE: Duration = Duration::from_micros(1750);

/// Bits of a character: start, 8 data, parity or a second stop, stop.
const BITS: u64 = 11;

/// The silence that ends a frame: 3.5 characters, and 1.75 ms above 19,200 baud.
pub fn silence(baud: u32) -> Duration {
    if baud > SLOW {
        return FAST_SILENCE;
    }
    Duration::from_micros(BITS * 3_500_000 / u64::from(baud.max(1)))
}

/// Puts bytes together to frames.
#[derive(Debug)]
pub struct Framer {
    silence: Duration,
    bytes: Frame,
    /// Where in them the bytes after the last silence begin: a frame may follow noise.
    burst: usize,
    /// More came than a frame holds: nothing until the next silence.
    overrun: bool,
    last: Option<Instant>,
    /// So many of them are known not to be a frame.
    seen: usize,
}

impl Framer {
    /// Frames of a line of this speed.
    pub fn new(baud: u32) -> Self {
        Framer {
            silence: silence(baud),
            bytes: Frame::new(),
            burst: 0,
            overrun: false,
            last: None,
            seen: 0,
        }
    }

    /// Takes bytes that were there at `now`.
    pub fn push(&mut self, bytes: &[u8], now: Instant) {
        if self.quiet(now).is_some_and(|d| d >= self.silence) {
            self.burst = self.bytes.len();
            if self.overrun {
                self.clear();
            }
        }
        self.last = Some(now);
        self.overrun |= self.bytes.extend_from_slice(bytes).is_err();
    }

    /// The frame that has ended by `now`. What is no frame is dropped after a while.
    pub fn take(&mut self, now: Instant) -> Option<Frame> {
        let quiet = self.quiet(now)?;
        if quiet < self.silence {
            return None;
        }
        if !self.overrun && self.seen != self.bytes.len() {
            self.seen = self.bytes.len();
            let frame = whole(&self.bytes).or_else(|| whole(&self.bytes[self.burst..]));
            if let Some(frame) = frame {
                self.clear();
                return Some(frame);
            }
        }
        if quiet >= PATIENCE {
            self.clear();
        }
        None
    }

    /// How long to wait for bytes before [`Framer::take`] may have something to do; `None` if nothing is
    /// begun.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let quiet = self.quiet(now)?;
        let until = if quiet < self.silence {
            self.silence
        } else {
            PATIENCE
        };
        Some(until.saturating_sub(quiet))
    }

    /// Drops what is begun.
    pub fn clear(&mut self) {
        *self = Framer {
            silence: self.silence,
            ..Framer::new(0)
        };
    }

    fn quiet(&self, now: Instant) -> Option<Duration> {
        self.last.map(|last| now.saturating_duration_since(last))
    }
}

/// The bytes as a frame, if their CRC is right. The crate reckons it when it ends an answer, and of
/// whole frames only of functions that it knows: this asks it about any.
fn whole(bytes: &[u8]) -> Option<Frame> {
    let body = bytes.len().checked_sub(2)?;
    let frame = sealed(bytes.get(..body)?)?;
    (frame == bytes).then_some(frame)
}

/// Bytes with their CRC; `None` if there are too few or too many for a frame.
pub fn sealed(body: &[u8]) -> Option<Frame> {
    if body.len() + 2 < SHORTEST {
        return None;
    }
    let mut frame = Frame::new();
    let mut answer = ModbusFrame::new(0, &[], ModbusProto::Rtu, &mut frame);
    answer.response.extend_from_slice(body).ok()?;
    answer.finalize_response().ok()?;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BAUD: u32 = 19_200;

    #[test]
    fn silences_are_the_standards() {
        assert_eq!(silence(9600), Duration::from_micros(4010));
        assert_eq!(silence(19_200), Duration::from_micros(2005));
        assert_eq!(silence(38_400), Duration::from_micros(1750));
        assert_eq!(silence(921_600), Duration::from_micros(1750));
    }

    /// The standard's own example, chapter 6.2.2 of Modbus over Serial Line: CRC 1241h of 02 07.
    #[test]
    fn the_crc_is_the_standards() {
        assert_eq!(sealed(&[0x02, 0x07]).unwrap(), [0x02, 0x07, 0x41, 0x12]);
        assert_eq!(sealed(&[0x02]), None);
        assert_eq!(sealed(&[0; 255]), None);
        assert_eq!(sealed(&[0; 254]).unwrap().len(), LONGEST);
    }

    /// What came out of pieces, each after so many us of silence, and waited for long enough.
    fn frames(pieces: &[(u64, &[u8])]) -> std::vec::Vec<std::vec::Vec<u8>> {
        let (mut framer, mut now) = (Framer::new(BAUD), Instant::now());
        let mut frames = std::vec::Vec::new();
        for (gap, piece) in pieces.iter().chain(&[(100_000, &[][..])]) {
            let then = now + Duration::from_micros(*gap);
            // As the port does it: wait, look, wait.
            while let Some(wait) = framer.wait(now).filter(|w| now + *w <= then) {
                now += wait;
                frames.extend(framer.take(now).map(|f| f.to_vec()));
            }
            now = then;
            framer.push(piece, now);
        }
        frames
    }

    #[test]
    fn silence_ends_a_frame_and_pieces_of_an_adapter_are_joined() {
        let frame = sealed(&[1, 3, 0, 0, 0, 2]).unwrap();
        let (head, tail) = frame.split_at(3);
        let one = [frame.to_vec()];
        assert_eq!(frames(&[(0, &frame)]), one);
        assert_eq!(frames(&[(0, head), (500, tail)]), one);
        assert_eq!(frames(&[(0, head), (16_000, tail)]), one);
        assert_eq!(frames(&[(0, head), (21_000, tail)]), [[0u8; 0]; 0]);
        assert_eq!(frames(&[(0, &[0xff]), (3000, &frame)]), one);
        assert_eq!(frames(&[(0, &frame), (500, &frame)]), [[0u8; 0]; 0]);
        assert_eq!(
            frames(&[(0, &frame), (2005, &frame)]),
            [&frame[..], &frame[..]]
        );
        let noise = [0x55; 300];
        assert_eq!(frames(&[(0, &noise), (500, &frame)]), [[0u8; 0]; 0]);
        assert_eq!(frames(&[(0, &noise), (3000, &frame)]), one);
    }

    proptest! {
        /// A frame with one bit turned over is none.
        #[test]
        fn a_damaged_frame_is_none(body in prop::collection::vec(any::<u8>(), 2..=254), bit: prop::sample::Index) {
            let frame = sealed(&body).unwrap();
            prop_assert_eq!(frames(&[(0, &frame)]), [frame.to_vec()]);
            let mut damaged = frame.clone();
            let bit = bit.index(8 * frame.len());
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(frames(&[(0, &damaged)]).is_empty());
        }
    }
}
