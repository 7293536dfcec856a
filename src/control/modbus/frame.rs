//! Joins bytes to frames: a frame ends with a silence, and is valid if its CRC is right.
//!
//! Adapters add bytes when the line changes direction, hand over the frames of several stations without the
//! silence between them, and return what this station sends (`echo`): frames are found among all that. Must never
//! allocate.

use super::echo::Echo;
use heapless::Vec;
use rmodbus::ModbusProto;
use rmodbus::server::ModbusFrame;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes of the longest frame (Modbus over Serial Line V1.02, 2.5.1).
pub const LONGEST: usize = 256;

/// A frame with its address and CRC.
pub type Adu = Vec<u8, LONGEST>;

/// The shortest frame: address, function, CRC.
const SHORTEST: usize = 4;

/// USB adapters hand bytes over in pieces, up to 16 ms apart whatever the line does. A frame whose CRC is not
/// right yet is dropped after this time.
const PATIENCE: Duration = Duration::from_millis(20);

/// Up to this speed, baud, the silence is counted in characters (2.5.1.1 of the same).
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

/// Most bytes that are kept: an adapter may hand over the frames of several stations in one piece.
const BURST: usize = 3 * LONGEST;

/// A frame that is no answer, and whether another one has come behind it: then its sender no longer waits for an
/// answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The frame.
    pub frame: Adu,
    /// Whether no further frame has come behind it.
    pub last: bool,
}

/// The kind of what a sequence of bytes begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// A frame that may be a request.
    Request,
    /// An answer of another station.
    Answer,
    /// The echo of what this station has sent.
    Echo,
    /// A byte that the line makes when it changes direction or breaks.
    Glitch,
    /// Any other byte.
    Noise,
}

/// Joins bytes to frames.
#[derive(Debug)]
pub struct Framer {
    silence: Duration,
    bytes: Vec<u8, BURST>,
    /// Index of the first byte after the last silence.
    burst: usize,
    last: Option<Instant>,
    /// How many of the bytes are known to hold no whole frame.
    seen: usize,
    echo: Echo,
}

impl Framer {
    /// Joins the bytes of a line of this speed, baud.
    pub fn new(baud: u32) -> Self {
        Framer {
            silence: silence(baud),
            bytes: Vec::new(),
            burst: 0,
            last: None,
            seen: 0,
            echo: Echo::default(),
        }
    }

    /// Takes bytes that had come by `now`; if there is too little room, the newest are kept.
    pub fn push(&mut self, bytes: &[u8], now: Instant) {
        if self.quiet(now).is_some_and(|d| d >= self.silence) {
            self.burst = self.bytes.len();
        }
        self.last = Some(now);
        let bytes = &bytes[bytes.len().saturating_sub(BURST)..];
        let over = (self.bytes.len() + bytes.len()).saturating_sub(BURST);
        self.drop_front(over);
        // Cannot fail: there is room.
        let _ = self.bytes.extend_from_slice(bytes);
    }

    /// Notes that this frame was sent: it may come back, and is no request then. See [`Framer::echoes`].
    pub fn sent(&mut self, answer: &Adu, now: Instant) {
        self.echo.sent(answer, now);
    }

    /// Whether what is sent comes back.
    pub fn echoes(&self) -> bool {
        self.echo.is_there()
    }

    /// Notes that nothing more had come by `now`, and everything before was read.
    pub fn idle(&mut self, now: Instant) {
        if self.bytes.is_empty() {
            self.echo.idle(now);
        }
    }

    /// The first frame that has ended by `now` and is no answer; until there is none, at once the next one. What is
    /// no frame is dropped after a while.
    pub fn take(&mut self, now: Instant) -> Option<Heard> {
        let quiet = self.quiet(now)?;
        if quiet < self.silence {
            return None;
        }
        let patient = quiet < PATIENCE;
        if !patient || self.seen != self.bytes.len() {
            self.seen = self.bytes.len();
            if let Some(heard) = self.scan(patient) {
                return Some(heard);
            }
        }
        if !patient {
            self.forget();
        }
        None
    }

    /// Looks through all bytes. While it is patient, nothing is taken before they end with a whole frame: the rest
    /// may be half of one.
    fn scan(&mut self, patient: bool) -> Option<Heard> {
        let mut echo = self.echo.expected();
        let (mut at, mut known, mut fresh) = (0, 0, true);
        let (mut first, mut last) = (None::<Range<usize>>, true);
        let (mut came, mut overtaken, mut disturbed) = (None, false, false);
        while at < self.bytes.len() {
            fresh |= at == self.burst;
            let (piece, length) = piece(&self.bytes[at..], fresh, echo);
            let range = at..at + length;
            at = range.end;
            match piece {
                Piece::Noise => (fresh, disturbed) = (false, true),
                Piece::Glitch => disturbed = true,
                Piece::Echo => (echo, came, known, fresh) = (None, Some(at), at, true),
                Piece::Answer | Piece::Request => {
                    overtaken |= came.is_none();
                    (known, fresh) = (at, true);
                    if piece == Piece::Answer {
                        continue;
                    }
                    match &first {
                        None => first = Some(range),
                        // The same once more, before there was an answer: it is repeated, not ordered twice.
                        Some(f) if last && self.bytes[f.clone()] == self.bytes[range.clone()] => {
                            first = Some(range);
                        }
                        Some(_) => last = false,
                    }
                }
            }
        }
        if patient && known < self.bytes.len() {
            return None;
        }
        if disturbed {
            self.echo.disturb();
        }
        match came {
            Some(end) if first.as_ref().is_none_or(|f| end <= f.end) => self.echo.came(),
            _ if overtaken => self.echo.overtaken(),
            _ => (),
        }
        let Some(first) = first else {
            self.forget();
            return None;
        };
        let mut frame = Adu::new();
        // Cannot fail: no piece is longer than a frame.
        let _ = frame.extend_from_slice(&self.bytes[first.clone()]);
        self.drop_front(first.end);
        // What is left is looked at again.
        self.seen = usize::MAX;
        Some(Heard { frame, last })
    }

    fn drop_front(&mut self, count: usize) {
        self.bytes.rotate_left(count);
        self.bytes.truncate(self.bytes.len() - count);
        self.burst = self.burst.saturating_sub(count);
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

    /// Notes that nothing was read until `now`: half a frame is dropped.
    pub fn skip(&mut self, now: Instant) {
        self.forget();
        self.echo.not_listening(now);
    }

    /// Notes that the port is gone: an unfinished frame is dropped, and the adapter may be another one.
    pub fn clear(&mut self) {
        self.forget();
        self.echo = Echo::default();
    }

    fn forget(&mut self) {
        self.bytes.clear();
        (self.burst, self.seen, self.last) = (0, 0, None);
    }

    fn quiet(&self, now: Instant) -> Option<Duration> {
        self.last.map(|last| now.saturating_duration_since(last))
    }
}

/// What these bytes begin with, and how long it is. `fresh`: nothing but whole frames, a silence or glitches lie
/// before; anything with the right CRC is a frame then, even one whose function or length is none.
fn piece(bytes: &[u8], fresh: bool, echo: Option<&[u8]>) -> (Piece, usize) {
    if let Some(echo) = echo
        && bytes.starts_with(echo)
    {
        return (Piece::Echo, echo.len());
    }
    let is_whole = |length: &usize| bytes.get(..*length).and_then(whole).is_some();
    if let Some(length) = request_length(bytes).filter(is_whole) {
        return (Piece::Request, length);
    }
    if let Some(length) = answer_length(bytes).filter(is_whole) {
        return (Piece::Answer, length);
    }
    if fresh && bytes.len() <= LONGEST && is_whole(&bytes.len()) {
        return (Piece::Request, bytes.len());
    }
    let piece = match is_glitch(bytes[0]) {
        true => Piece::Glitch,
        false => Piece::Noise,
    };
    (piece, 1)
}

/// Length in bytes, with its CRC, of a request that begins like this, if its function is known.
fn request_length(bytes: &[u8]) -> Option<usize> {
    match *bytes.get(1)? {
        1..=6 => Some(8),
        15 | 16 => Some(9 + usize::from(*bytes.get(6)?)),
        _ => None,
    }
}

/// The same for an answer.
fn answer_length(bytes: &[u8]) -> Option<usize> {
    match *bytes.get(1)? {
        1..=4 => Some(5 + usize::from(*bytes.get(2)?)),
        5 | 6 | 15 | 16 => Some(8),
        0x80.. => Some(5),
        _ => None,
    }
}

/// Whether a whole frame could be a request.
pub(super) fn is_request(frame: &[u8]) -> bool {
    request_length(frame) == Some(frame.len())
}

/// Whether the line makes such a byte by itself, when its driver is switched or it breaks: it reads as low for a
/// while, then as high.
pub(crate) fn is_glitch(byte: u8) -> bool {
    byte.leading_ones() + byte.trailing_zeros() >= 8
}

/// The bytes as a frame, if their CRC is right. The crate reckons it when it ends an answer, and of
/// whole frames only of functions that it knows: this asks it about any.
fn whole(bytes: &[u8]) -> Option<Adu> {
    let body = bytes.len().checked_sub(2)?;
    let frame = sealed(bytes.get(..body)?)?;
    (frame == bytes).then_some(frame)
}

/// Bytes with their CRC; `None` if there are too few or too many for a frame.
pub fn sealed(body: &[u8]) -> Option<Adu> {
    if body.len() + 2 < SHORTEST {
        return None;
    }
    let mut frame = Adu::new();
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
                frames.extend(framer.take(now).map(|f| f.frame.to_vec()));
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
        assert_eq!(
            frames(&[(0, &frame), (2005, &frame)]),
            [&frame[..], &frame[..]]
        );
        let noise = [0x55; 300];
        assert_eq!(frames(&[(0, &noise), (3000, &frame)]), one);
    }

    #[test]
    fn bytes_that_the_line_makes_and_noise_are_taken_off() {
        let frame = sealed(&[1, 5, 0, 1, 0xff, 0]).unwrap();
        let broadcast = sealed(&[0, 6, 0, 0, 0x12, 0x34]).unwrap();
        let unknown = sealed(&[1, 0x2b, 0x0e, 1, 0]).unwrap();
        for wanted in [&frame, &broadcast, &unknown] {
            for before in [&[0][..], &[0, 0, 0], &[0xff], &[0xf8], &[0, 0xff, 0x80]] {
                let bytes = [before, wanted].concat();
                assert_eq!(frames(&[(0, &bytes)]), [wanted.to_vec()], "{bytes:02x?}");
                assert_eq!(frames(&[(0, before), (500, wanted)]), [wanted.to_vec()]);
            }
            for after in [&[0][..], &[0, 0], &[0xff]] {
                let bytes = [wanted, after].concat();
                // Zeros leave the CRC right: of a function that is not known nothing tells its length.
                if *wanted != unknown {
                    assert_eq!(frames(&[(0, &bytes)]), [wanted.to_vec()], "{bytes:02x?}");
                }
            }
        }
        for noise in [
            &[0x55][..],
            &[0x12, 0x34, 0x56],
            &[0xa5; 300],
            &[0xa5; 5000],
        ] {
            let bytes = [noise, &frame, &[0x31][..]].concat();
            assert_eq!(frames(&[(0, noise), (500, &frame)]), [frame.to_vec()]);
            assert_eq!(frames(&[(0, &bytes)]), [frame.to_vec()]);
        }
    }

    #[test]
    fn what_several_stations_said_is_taken_apart() {
        let other = sealed(&[7, 3, 0, 0, 0, 2]).unwrap();
        let reply = sealed(&[7, 3, 4, 1, 5, 0, 0]).unwrap();
        let refused = sealed(&[7, 0x86, 2]).unwrap();
        let (one, two) = (
            sealed(&[1, 6, 0, 0, 0, 2]).unwrap(),
            sealed(&[1, 16, 0, 0, 0, 2, 4, 0, 1, 0, 2]).unwrap(),
        );
        let glued = |pieces: &[&Adu]| {
            let bytes: std::vec::Vec<u8> = pieces.iter().flat_map(|f| f.iter().copied()).collect();
            let (mut framer, now) = (Framer::new(BAUD), Instant::now());
            framer.push(&bytes, now);
            let now = now + Duration::from_millis(3);
            let mut heard = std::vec::Vec::new();
            while let Some(next) = framer.take(now) {
                heard.push((next.frame.to_vec(), next.last));
            }
            heard
        };
        let heard = |frame: &Adu, last| (frame.to_vec(), last);
        assert_eq!(
            glued(&[&other, &reply, &one]),
            [heard(&other, false), heard(&one, true)]
        );
        assert_eq!(glued(&[&refused, &two]), [heard(&two, true)]);
        assert_eq!(
            glued(&[&two, &one]),
            [heard(&two, false), heard(&one, true)]
        );
        // Repeated while nobody listened.
        assert_eq!(glued(&[&one, &one, &one]), [heard(&one, true)]);
        assert_eq!(
            glued(&[&one, &one, &two]),
            [heard(&one, false), heard(&two, true)]
        );
    }

    /// A station and its adapter: what is obeyed of what comes, in ms.
    struct Line {
        framer: Framer,
        start: Instant,
    }

    impl Line {
        fn new() -> Line {
            let (framer, start) = (Framer::new(BAUD), Instant::now());
            Line { framer, start }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Bytes come at once; how many requests they were, 3 ms later, and none more after that.
        fn hears(&mut self, ms: u64, bytes: &[u8]) -> usize {
            self.framer.idle(self.at(ms));
            self.framer.push(bytes, self.at(ms));
            let mut count = 0;
            for later in [3, 30] {
                while self.framer.take(self.at(ms + later)).is_some() {
                    count += 1;
                }
            }
            count
        }

        fn says(&mut self, ms: u64, answer: &Adu) {
            self.framer.sent(answer, self.at(ms));
        }
    }

    #[test]
    fn an_echo_is_taken_off_and_the_same_order_again_is_obeyed() {
        let order = sealed(&[1, 5, 0, 1, 0xff, 0]).unwrap();
        let (read, reply) = (
            sealed(&[1, 3, 0, 0, 0, 1]).unwrap(),
            sealed(&[1, 3, 2, 0x13, 0x88]).unwrap(),
        );
        let both = [&order[..], &order].concat();
        let strayed = [&[0][..], &order].concat();
        let mut line = Line::new();
        // From the first order on, before anything is known of the adapter.
        for (time, echo) in [(0, &order[..]), (1000, &strayed), (2000, &order)] {
            assert_eq!(line.hears(time, &order), 1);
            line.says(time + 5, &order);
            assert_eq!(line.hears(time + 10, echo), 0);
            assert!(line.framer.echoes());
        }
        // Echo and next order in one piece, and in pieces.
        assert_eq!(line.hears(3000, &order), 1);
        line.says(3005, &order);
        assert_eq!(line.hears(3010, &both), 1);
        line.says(3050, &order);
        assert_eq!(line.hears(3055, &order[..3]), 0);
        // An answer that can be no order.
        line.says(4000, &reply);
        assert_eq!(line.hears(4005, &reply), 0);
        assert_eq!(line.hears(4050, &read), 1);
        line.says(4055, &reply);
        assert_eq!(line.hears(4060, &[&reply[..], &read].concat()), 1);
        assert!(line.framer.echoes());
        // One that is damaged is no order either.
        let mut damaged = order.clone();
        damaged[3] ^= 4;
        line.says(5000, &order);
        assert_eq!(line.hears(5005, &damaged), 0);
        assert_eq!(line.hears(5200, &order), 1);
        assert!(line.framer.echoes());
    }

    #[test]
    fn without_an_echo_every_order_is_obeyed() {
        let order = sealed(&[1, 6, 0, 0, 0, 9]).unwrap();
        let (read, reply) = (
            sealed(&[1, 3, 0, 0, 0, 1]).unwrap(),
            sealed(&[1, 3, 2, 0x13, 0x88]).unwrap(),
        );
        // Known by a read, by another order, or by time.
        let other = sealed(&[1, 6, 0, 0, 0, 8]).unwrap();
        for (first, answer, second) in [
            (&read, &reply, 40),
            (&other, &other, 40),
            (&order, &order, 200),
        ] {
            let mut line = Line::new();
            assert_eq!(line.hears(0, first), 1);
            line.says(5, answer);
            for n in 0..20 {
                let time = second + 40 * n;
                assert_eq!(line.hears(time, &order), 1, "{n}");
                line.says(time + 5, &order);
            }
            assert!(!line.framer.echoes());
            // An adapter that echoes is put in its place.
            line.framer.clear();
            assert_eq!(line.hears(3000, &order), 1);
            line.says(3005, &order);
            assert_eq!(line.hears(3010, &order), 0);
            assert!(line.framer.echoes());
        }
        // An echo that nobody gives any more.
        let mut line = Line::new();
        line.says(0, &reply);
        assert_eq!(line.hears(5, &reply), 0);
        for time in [1000, 2000, 3000] {
            assert_eq!(line.hears(time, &order), 1);
            line.says(time + 5, &order);
        }
        assert_eq!(line.hears(3040, &order), 1);
        assert!(!line.framer.echoes());
    }

    proptest! {
        /// A frame with one bit turned over is none.
        #[test]
        fn a_damaged_frame_is_none(body in prop::collection::vec(0x30u8..0x70, 2..=254), bit: prop::sample::Index) {
            let frame = sealed(&body).unwrap();
            prop_assert_eq!(frames(&[(0, &frame)]), [frame.to_vec()]);
            let mut damaged = frame.clone();
            let bit = bit.index(8 * frame.len());
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(frames(&[(0, &damaged)]).is_empty());
        }
    }
}
