//! The cable to a station: lines out, answers and news in, over an adapter that may be unplugged.

use serialport::SerialPort;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one read of the port waits.
const POLL: Duration = Duration::from_millis(50);

/// How often a lost adapter is looked for.
const AGAIN: Duration = Duration::from_millis(500);

/// How long a station may be silent before its answer is given up, and how long an answer may take
/// in all: LIST at 9,600 baud takes 6 s.
const SILENCE: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30);

/// Longest line, bytes; beyond it is noise, for the longest answer in one line has some 300 bytes.
const LINE: usize = 1024;

/// Has the station drop the half line that it may have received.
const ESC: &[u8] = b"\x1b";

/// What comes over the cable without being an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A line of RESULT, or one that answers nothing.
    Line(String),
    /// The adapter is gone, and why.
    Lost(String),
    /// The adapter is back.
    Back,
}

/// An answer: its first line without the sequence number, and the further lines that belong to it.
pub type Answer = Vec<String>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing came for [`SILENCE`].
    #[error("no answer")]
    Silent,
    /// The adapter is gone.
    #[error("the adapter is gone; waiting for it")]
    Gone,
}

/// The port for writing; `None` while the adapter is gone.
type Outgoing = Arc<Mutex<Option<Box<dyn SerialPort>>>>;

/// The cable. A thread reads from it until this is dropped.
pub struct Link {
    outgoing: Outgoing,
    answers: Receiver<(Option<u16>, Answer)>,
    sequence: u16,
    /// Milliseconds from `start` to the last byte that was received.
    heard: Arc<AtomicU64>,
    start: Instant,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Link {
    /// Opens the port. Everything that is not an answer goes to `news`.
    ///
    /// # Errors
    /// The port is not there, or cannot be used.
    pub fn open(port: &str, baud: u32, news: Sender<News>) -> serialport::Result<Link> {
        let (name, start) = (port.to_string(), Instant::now());
        let open = move || serialport::new(&name, baud).timeout(POLL).open();
        let (incoming, outgoing) = split(open()?)?;
        incoming.clear(serialport::ClearBuffer::Input)?;
        let outgoing = Arc::new(Mutex::new(Some(outgoing)));
        let (answered, answers) = channel();
        let mut reader = Reader {
            outgoing: Arc::clone(&outgoing),
            heard: Arc::default(),
            start,
            stop: Arc::default(),
            sorter: Sorter::new(answered, news),
        };
        let (heard, stop) = (Arc::clone(&reader.heard), Arc::clone(&reader.stop));
        let thread = std::thread::spawn(move || reader.run(incoming, open));
        let mut link = Link {
            outgoing,
            answers,
            sequence: 0,
            heard,
            start,
            stop,
            reader: Some(thread),
        };
        let _ = link.write(ESC);
        Ok(link)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), NoAnswer> {
        let mut outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        let port = outgoing.as_mut().ok_or(NoAnswer::Gone)?;
        // The adapter is gone: the reading thread finds that out too, and reports it.
        port.write_all(bytes).map_err(|_| NoAnswer::Gone)
    }

    /// Sends a line; returns the sequence number that its answer will have.
    ///
    /// # Errors
    /// [`NoAnswer::Gone`]: the adapter is not there.
    pub fn send(&mut self, line: &str) -> Result<u16, NoAnswer> {
        let numbered = line.strip_prefix('#').and_then(|l| {
            let number = l.split(|c: char| !c.is_ascii_digit()).next()?;
            number.parse().ok()
        });
        let (number, line) = match numbered {
            Some(number) => (number, format!("{line}\r")),
            None => {
                self.sequence = self.sequence.wrapping_add(1);
                (self.sequence, format!("#{} {line}\r", self.sequence))
            }
        };
        self.write(line.as_bytes())?;
        Ok(number)
    }

    /// An answer that is there, if it is this number's. One without a number answers a line that could
    /// not be read, and is the next line's.
    pub fn poll(&mut self, number: u16) -> Option<Answer> {
        let answers = self.answers.try_iter();
        let mut fitting = answers.filter(|(n, _)| n.is_none_or(|n| n == number));
        fitting.next().map(|(_, answer)| answer)
    }

    /// Sends a line and waits for its answer.
    ///
    /// # Errors
    /// [`NoAnswer`]: the adapter is not there, or no answer came in time.
    pub fn ask(&mut self, line: &str) -> Result<Answer, NoAnswer> {
        while self.answers.try_recv().is_ok() {}
        let number = self.send(line)?;
        let sent = Instant::now();
        loop {
            match self.answers.recv_timeout(POLL) {
                Ok((n, answer)) if n.is_none_or(|n| n == number) => return Ok(answer),
                Ok(_) => (),
                Err(RecvTimeoutError::Disconnected) => return Err(NoAnswer::Gone),
                Err(RecvTimeoutError::Timeout) => {
                    let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
                    let last = sent.max(self.start + heard);
                    if last.elapsed() > SILENCE || sent.elapsed() > LONGEST {
                        return Err(NoAnswer::Silent);
                    }
                }
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread panics nowhere; if it did, nothing could be done about it here.
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

fn split(
    port: Box<dyn SerialPort>,
) -> serialport::Result<(Box<dyn SerialPort>, Box<dyn SerialPort>)> {
    let mut outgoing = port.try_clone()?;
    outgoing.set_timeout(SILENCE)?;
    Ok((port, outgoing))
}

struct Reader {
    outgoing: Outgoing,
    heard: Arc<AtomicU64>,
    start: Instant,
    stop: Arc<AtomicBool>,
    sorter: Sorter,
}

impl Reader {
    fn run(
        &mut self,
        incoming: Box<dyn SerialPort>,
        open: impl Fn() -> serialport::Result<Box<dyn SerialPort>>,
    ) {
        let mut incoming = Some(incoming);
        let mut bytes = [0; 1024];
        while !self.stop.load(Ordering::Relaxed) {
            let Some(port) = &mut incoming else {
                std::thread::sleep(AGAIN);
                if let Ok((port, outgoing)) = open().and_then(split) {
                    incoming = Some(port);
                    self.set(Some(outgoing));
                    self.sorter.tell(News::Back);
                }
                continue;
            };
            let error = match port.read(&mut bytes) {
                // A terminal line that hung up reads as its end.
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(count) => {
                    let heard = u64::try_from(self.start.elapsed().as_millis());
                    self.heard.store(heard.unwrap_or(0), Ordering::Relaxed);
                    self.sorter.push(&bytes[..count]);
                    continue;
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(e) => e,
            };
            self.set(None);
            self.sorter.clear();
            self.sorter.tell(News::Lost(error.to_string()));
            incoming = None;
        }
    }

    fn set(&self, port: Option<Box<dyn SerialPort>>) {
        *self.outgoing.lock().unwrap_or_else(PoisonError::into_inner) = port;
    }
}

/// Joins bytes to lines, and lines to answers; sorts answers from news.
struct Sorter {
    answers: Sender<(Option<u16>, Answer)>,
    news: Sender<News>,
    line: Vec<u8>,
    /// An answer that is not complete, with the number of lines that it lacks.
    begun: Option<(Option<u16>, Answer, usize)>,
}

impl Sorter {
    fn new(answers: Sender<(Option<u16>, Answer)>, news: Sender<News>) -> Self {
        Sorter {
            answers,
            news,
            line: Vec::new(),
            begun: None,
        }
    }

    // A receiver that is gone is about to end.
    fn tell(&self, news: News) {
        let _ = self.news.send(news);
    }

    fn clear(&mut self) {
        self.line.clear();
        self.end();
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\r' | b'\n' => {
                    let line = String::from_utf8_lossy(&self.line);
                    // Noise must not reach the terminal as its commands.
                    let line: String = line.chars().filter(|c| !c.is_control()).collect();
                    self.line.clear();
                    if !line.is_empty() {
                        self.sort(line);
                    }
                }
                _ if self.line.len() >= LINE => self.line.clear(),
                _ => self.line.push(*byte),
            }
        }
    }

    fn sort(&mut self, line: String) {
        let (number, bare) = numbered(&line);
        if bare.starts_with("OK,") || bare.starts_with("ER,") {
            self.end();
            let lines = bare
                .rsplit_once(",lines=")
                .and_then(|(_, n)| n.parse().ok());
            self.begun = Some((number, vec![bare.to_string()], lines.unwrap_or(0)));
        } else if number.is_some() {
            // A station numbers answers only: the adapter gives back what was sent.
        } else if let Some((_, answer, lacking)) = &mut self.begun
            && !line.starts_with("RESULT,")
        {
            answer.push(line);
            *lacking -= 1;
        } else {
            return self.tell(News::Line(line));
        }
        if matches!(self.begun, Some((_, _, 0))) {
            self.end();
        }
    }

    /// Ends an answer: the lines that have come are the answer.
    fn end(&mut self) {
        if let Some((number, answer, _)) = self.begun.take() {
            let _ = self.answers.send((number, answer));
        }
    }
}

/// A line's sequence number, and the rest.
fn numbered(line: &str) -> (Option<u16>, &str) {
    let split = line.strip_prefix('#').and_then(|l| l.split_once(' '));
    match split.map(|(number, rest)| (number.parse().ok(), rest)) {
        Some((number @ Some(_), rest)) => (number, rest),
        _ => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted_into_answers_and_news() {
        let ((answered, answers), (unasked, news)) = (channel(), channel());
        let mut sorter = Sorter::new(answered, unasked);
        sorter.push(
            b"\x1b#7 ALARMS\r#7 OK,ALARMS,64,lines=2\r\nRESULT,1,good,-,0.25,12.5\r\nALARMS,6,low_",
        );
        assert!(answers.try_recv().is_err());
        sorter.push(b"air,stop\r\nALARMS,7,camera,tell\r\nER,?,102,late\r\n\xffRESULT\r\n\r\n");
        sorter.push(b"#8 OK,LIST,lines=9\r\nLIST,a\r\n#9 OK,IDN\r\n");
        sorter.push(&[b'x'; 3000]);
        sorter.push(b"\r\n#x OK,IDN\r\n");
        let answer = |number, lines: &[&str]| {
            (
                number,
                lines.iter().map(|l| l.to_string()).collect::<Vec<_>>(),
            )
        };
        let alarms = [
            "OK,ALARMS,64,lines=2",
            "ALARMS,6,low_air,stop",
            "ALARMS,7,camera,tell",
        ];
        assert_eq!(
            answers.try_iter().collect::<Vec<_>>(),
            [
                answer(Some(7), &alarms),
                answer(None, &["ER,?,102,late"]),
                answer(Some(8), &["OK,LIST,lines=9", "LIST,a"]),
                answer(Some(9), &["OK,IDN"]),
            ]
        );
        let news: Vec<_> = news.try_iter().collect();
        assert_eq!(news[0], News::Line("RESULT,1,good,-,0.25,12.5".into()));
        assert_eq!(news[1], News::Line("\u{fffd}RESULT".into()));
        assert_eq!(news.len(), 4);
    }
}
