//! A serial port and the thread that serves it.
//!
//! Must never spin, whatever is or is not at the other end, and never take more of the processor than a fixed
//! share: a limited number of bytes and lines per second; the rest waits in the kernel's buffer, and is lost when
//! that is full.

use super::host::ControlledStation;
use super::session::{Output, Session};
use super::shared::Control;
use serialport::{DataBits, FlowControl, Parity, SerialPort, StopBits};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a read waits at most; results and time-outs are handled this often.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// After a client has not read for this long, what was to be sent to it is dropped.
const WRITE: Duration = Duration::from_millis(500);

/// Wait before a port is opened again: doubled each time, from the first to the second.
const REOPEN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Most bytes of one read.
const READ: usize = 256;

/// Most bytes and lines that are taken in a second, and most bytes that answer them: twice the answer to LIST.
/// 115,200 baud carry 11,520 bytes.
const BYTES: u32 = 16_384;
pub(super) const LINES: u32 = 200;
pub(super) const ANSWERS: u32 = 16_384;

/// Settings of a serial port. Always 8 data bits, no flow control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// Device, `/dev/ttyTHS1`. A link that udev keeps is found again after the adapter was plugged in anew.
    pub path: PathBuf,
    /// Speed of the line, bits per second (baud).
    pub baud: u32,
    /// Parity; with none, Modbus needs `two_stop_bits`.
    pub parity: Parity,
    /// Two stop bits instead of one.
    pub two_stop_bits: bool,
}

impl PortSettings {
    /// The settings of an ASCII port: no parity, one stop bit (8N1).
    pub fn ascii(path: &Path, baud: u32) -> Self {
        PortSettings {
            path: path.to_path_buf(),
            baud,
            parity: Parity::None,
            two_stop_bits: false,
        }
    }

    fn open(&self) -> serialport::Result<Box<dyn SerialPort>> {
        let stop_bits = match self.two_stop_bits {
            true => StopBits::Two,
            false => StopBits::One,
        };
        serialport::new(self.path.to_string_lossy(), self.baud)
            .data_bits(DataBits::Eight)
            .parity(self.parity)
            .stop_bits(stop_bits)
            .flow_control(FlowControl::None)
            .timeout(POLL)
            .open()
    }
}

/// Result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// This many bytes were read.
    Bytes(usize),
    /// Nothing came within the time that a read waits.
    Nothing,
    /// The port is gone, or is not there yet; it will be opened again. An unfinished line is dropped.
    Gone,
}

/// A serial port that is opened again after it was unplugged.
pub struct Link {
    settings: PortSettings,
    port: Option<Box<dyn SerialPort>>,
    again: Instant,
    wait: Duration,
}

impl Link {
    /// A port that is opened by the first read.
    pub fn new(settings: PortSettings) -> Self {
        Link {
            settings,
            port: None,
            again: Instant::now(),
            wait: REOPEN.0,
        }
    }

    /// Reads the bytes that are there; waits for `wait` at most, and about 20 ms if there is no port.
    pub fn read(&mut self, bytes: &mut [u8], wait: Duration) -> Came {
        let Some(port) = &mut self.port else {
            return self.reopen();
        };
        if let Err(e) = port.set_timeout(wait) {
            return self.lose(&e.into());
        }
        match port.read(bytes) {
            // A terminal line that hung up reads as its end.
            Ok(0) => self.lose(&io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(count) => {
                self.wait = REOPEN.0;
                Came::Bytes(count)
            }
            Err(e) if !is_void(&e) => Came::Nothing,
            Err(e) => self.lose(&e),
        }
    }

    /// Writes all bytes, or as many as the other end takes within half a second beyond the time that they need on
    /// the line; stops early when `goes_on` returns `false`.
    pub fn write(&mut self, bytes: &[u8], goes_on: &dyn Fn() -> bool) {
        let bits = bytes.len() as u64 * 11;
        let line_time =
            Duration::from_micros(bits * 1_000_000 / u64::from(self.settings.baud.max(1)));
        let until = Instant::now() + line_time + WRITE;
        let mut rest = bytes;
        while let Some(port) = &mut self.port
            && !rest.is_empty()
            && Instant::now() < until
        {
            // What is begun is written: the answer to REBOOT, too.
            goes_on();
            match port.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(e) if !is_void(&e) => (),
                Err(e) => _ = self.lose(&e),
            }
        }
        if !rest.is_empty() && self.port.is_some() {
            log::debug!(
                "{}: {} bytes not taken",
                self.settings.path.display(),
                rest.len()
            );
        }
    }

    fn lose(&mut self, error: &io::Error) -> Came {
        log::warn!(
            "{}: {error}; opened again when it is back",
            self.settings.path.display()
        );
        self.port = None;
        self.wait_longer()
    }

    fn wait_longer(&mut self) -> Came {
        self.again = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(REOPEN.1);
        Came::Gone
    }

    fn reopen(&mut self) -> Came {
        if Instant::now() < self.again {
            std::thread::sleep(POLL);
            return Came::Gone;
        }
        match self.settings.open() {
            Ok(port) => {
                log::info!("{}: open", self.settings.path.display());
                self.port = Some(port);
                Came::Nothing
            }
            Err(e) => {
                // Logged as a warning once each time that it is gone.
                let level = match self.wait == REOPEN.0 {
                    true => log::Level::Warn,
                    false => log::Level::Debug,
                };
                let path = self.settings.path.display();
                log::log!(level, "{path}: {e}; tried again until it is there");
                self.wait_longer()
            }
        }
    }
}

/// Whether the error means that the port is gone, and not only late.
fn is_void(error: &io::Error) -> bool {
    let late = [io::ErrorKind::TimedOut, io::ErrorKind::Interrupted];
    !late.contains(&error.kind())
}

/// How much may still be taken: so much a second, and after a pause as much as a second's at once. What is asked
/// beyond that is paced evenly.
#[derive(Debug)]
pub(super) struct Budget {
    /// What one byte, line and byte of an answer take of a second.
    costs: [Duration; 3],
    /// When what was taken of each is paid for; up to a second ago there is some left.
    paid: [Instant; 3],
}

impl Budget {
    /// `answers`: bytes of answers a second.
    pub(super) fn new(now: Instant, answers: u32) -> Self {
        Budget {
            costs: [BYTES, LINES, answers].map(|limit| Duration::from_secs(1) / limit),
            paid: [now.checked_sub(Duration::from_secs(1)).unwrap_or(now); 3],
        }
    }

    fn spend(&mut self, counts: [u32; 3]) {
        for ((paid, cost), count) in self.paid.iter_mut().zip(self.costs).zip(counts) {
            *paid += cost * count;
        }
    }

    /// Counts bytes and lines that came in.
    pub(super) fn took(&mut self, bytes: usize, lines: u32) {
        self.spend([bytes as u32, lines, 0]);
    }

    /// Counts bytes that were answered.
    pub(super) fn answered(&mut self, bytes: usize) {
        self.spend([0, 0, bytes as u32]);
    }

    /// How long to wait before anything more is taken; `None`: not at all.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        if let Some(second) = now.checked_sub(Duration::from_secs(1)) {
            self.paid
                .iter_mut()
                .for_each(|paid| *paid = second.max(*paid));
        }
        let paid = self.paid.iter().max()?;
        paid.checked_duration_since(now)
            .filter(|wait| !wait.is_zero())
    }
}

/// Serves the command set on a port for as long as `goes_on`, which is asked some 50 times a second.
pub fn serve<H: ControlledStation>(
    settings: PortSettings,
    control: &Mutex<Control<H>>,
    goes_on: &dyn Fn() -> bool,
) {
    // A thread that panicked with the lock held leaves whole values behind: nothing here is half done
    // across a panic but the order that it was about.
    let lock = || control.lock().unwrap_or_else(PoisonError::into_inner);
    let name = settings
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut session = Session::new(&mut lock(), &name, Instant::now());
    let mut link = Link::new(settings);
    let mut out = Box::new(Output::new());
    let mut budget = Budget::new(Instant::now(), ANSWERS);
    let (mut bytes, mut was_gone) = ([0u8; READ], true);
    // Bytes that were read when the limit was reached, and are not looked at yet.
    let mut waiting = heapless::Deque::<u8, READ>::new();
    while goes_on() {
        let now = Instant::now();
        let came = match budget.wait(now) {
            Some(wait) => {
                std::thread::sleep(wait.min(POLL));
                Came::Nothing
            }
            None if !waiting.is_empty() => {
                // An answer that comes later: nobody is kept from the control meanwhile.
                if session.is_waiting() {
                    std::thread::sleep(POLL);
                }
                Came::Nothing
            }
            None => link.read(&mut bytes, POLL),
        };
        match came {
            Came::Bytes(count) => {
                budget.took(count, 0);
                // There is room: nothing is waiting.
                waiting.extend(bytes[..count].iter().copied());
            }
            Came::Gone if !was_gone => {
                waiting.clear();
                session.hang_up(&mut lock());
            }
            Came::Gone | Came::Nothing => (),
        }
        was_gone = came == Came::Gone;
        while budget.wait(now).is_none()
            && !session.is_waiting()
            && let Some(byte) = waiting.pop_front()
        {
            if let Some(line) = session.push(byte, now) {
                session.answer(&line, now, &mut lock(), &mut out);
                budget.took(0, 1);
                budget.answered(out.len());
                link.write(out.as_bytes(), goes_on);
                out.clear();
            }
        }
        let mut control = lock();
        control.tick(now);
        session.idle(now, &mut control, &mut out);
        drop(control);
        link.write(out.as_bytes(), goes_on);
        out.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_so_much_and_no_more() {
        let start = Instant::now() + Duration::from_secs(10);
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = Budget::new(start, ANSWERS);
        assert_eq!(budget.wait(at(10)), None);
        // A second's worth at once, and what a pause of half a second has brought.
        budget.took(BYTES as usize, 0);
        budget.took(0, LINES + LINES / 2);
        assert_eq!(budget.wait(at(10)), Some(Duration::from_millis(500)));
        assert_eq!(budget.wait(at(510)), None);
        budget.answered(ANSWERS as usize * 2);
        let wait = budget.wait(at(510)).expect("twice as much as there is");
        assert!(
            wait.abs_diff(Duration::from_secs(1)) < Duration::from_millis(1),
            "{wait:?}"
        );
    }

    /// Who asks more than is allowed waits for each question a little, not for the rest of a second.
    #[test]
    fn too_many_questions_are_paced_evenly() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut budget = Budget::new(start, ANSWERS);
        let (mut now, mut longest, mut asked) = (start, Duration::ZERO, 0);
        while now < start + Duration::from_secs(3) {
            let wait = budget.wait(now).unwrap_or_default();
            (longest, now) = (longest.max(wait), now + wait);
            budget.took(12, 1);
            asked += 1;
            now += Duration::from_millis(3);
        }
        assert!(longest <= Duration::from_millis(5), "{longest:?}");
        assert!(
            (LINES * 3..=LINES * 4 + 1).contains(&asked),
            "{asked} in three seconds"
        );
    }
}
