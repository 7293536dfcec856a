//! The command as a process: started, its output read, its error output logged, ended.

use super::input::{Input, Watched};
use super::queue::Queue;
use super::stream::Stream;
use super::sys;
use crate::capture::format::Layout;
use crate::shown::shown;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After so long a command that was asked to end is killed.
const GRACE: Duration = Duration::from_millis(300);
/// The pipe's size, if the kernel grants it: its own limit for ordinary users.
const PIPE: i32 = 1 << 20;
/// Lines of the error output that are logged in a while, at most; the rest is counted.
const LINES: u32 = 20;
/// That while.
const WHILE: Duration = Duration::from_secs(10);
/// Bytes of a line that are logged.
const LINE: usize = 500;

/// A command that runs.
pub(super) struct Running {
    child: Child,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Whether it was ended and waited for.
    ended: bool,
    pub(super) queue: Arc<Queue>,
}

impl Running {
    /// Starts a command whose output is frames: of the layout, or what they say themselves.
    ///
    /// # Errors
    /// The system cannot start it.
    pub(super) fn start(words: &[String], raw: Option<Layout>, room: usize) -> io::Result<Self> {
        let [program, arguments @ ..] = words else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // It is none of systemd's business.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID");
        sys::confine(&mut command);
        let mut child = command.spawn()?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let mut running = Running {
            child,
            stop: Arc::default(),
            threads: vec![],
            ended: false,
            queue: Arc::new(Queue::new(room)),
        };
        if let Some(output) = output {
            sys::widen(&output, PIPE);
            let (stop, queue) = (running.stop.clone(), running.queue.clone());
            running.thread("pipe", move || {
                // However this ends, a panic of a library included, it is not waited for in vain.
                let last = EndOf(queue.clone());
                let mut stream = Stream::new(Input::new(Watched::new(output, stop)), raw);
                let mut bytes = vec![];
                let why = loop {
                    match stream.next(&mut bytes) {
                        Ok(head) => bytes = queue.put(bytes, head),
                        Err(e) => break e.to_string(),
                    }
                };
                queue.end(why);
                drop(last);
            })?;
        }
        if let Some(errors) = errors {
            let (stop, program) = (running.stop.clone(), program.clone());
            running.thread("pipe-errors", move || {
                log(BufReader::new(Watched::new(errors, stop)), &program);
            })?;
        }
        Ok(running)
    }

    fn thread(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Whether it has ended by itself within so long. It stays a zombie: its number, which is that of its
    /// group, is not given to anybody else.
    fn ends_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let id = WaitId::Pid(Pid::from_child(&self.child));
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            match waitid(id.clone(), look) {
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) => return false,
                _ => return true,
            }
        }
    }

    /// Ends it and all that it started. How it had ended by then, if it had.
    pub(super) fn end(&mut self) -> Option<ExitStatus> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let group = Pid::from_child(&self.child);
        // Whoever closes its output is about to end.
        let by_itself = self.ends_within(GRACE / 3);
        if !by_itself {
            // Fails only when nobody is left, as below.
            let _ = kill_process_group(group, Signal::TERM);
            self.ends_within(GRACE);
        }
        let _ = kill_process_group(group, Signal::KILL);
        let status = self.child.wait().ok().filter(|_| by_itself);
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("camera: the thread that reads the command's output panicked");
            }
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

struct EndOf(Arc<Queue>);

impl Drop for EndOf {
    fn drop(&mut self) {
        self.0.end("its output is read no more".into());
    }
}

/// Copies a command's error output to the log, not more than anybody reads.
fn log(mut errors: impl BufRead, program: &str) {
    let mut lines = Lines::default();
    loop {
        let piece = match errors.fill_buf() {
            Ok(piece) if !piece.is_empty() => piece,
            _ => break,
        };
        let taken = piece.len();
        lines.take(piece, Instant::now(), |line| {
            log::warn!("camera: {}: {}", shown(program), shown(line));
        });
        errors.consume(taken);
    }
    lines.end(|line| log::warn!("camera: {}: {}", shown(program), shown(line)));
}

/// The lines of a stream, so many in a while.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    since: Option<Instant>,
    said: u32,
    left_out: u32,
}

impl Lines {
    fn take(&mut self, piece: &[u8], now: Instant, mut say: impl FnMut(&str)) {
        for &byte in piece {
            match byte {
                // Programs that show their progress go back to the start of the line.
                b'\n' | b'\r' => self.say(now, &mut say),
                _ if self.line.len() < LINE => self.line.push(byte),
                _ => (),
            }
        }
    }

    fn say(&mut self, now: Instant, say: &mut impl FnMut(&str)) {
        if self.line.is_empty() {
            return;
        }
        if self.since.is_none_or(|since| now >= since + WHILE) {
            self.since = Some(now);
            self.said = 0;
            self.tell_left_out(say);
        }
        if self.said < LINES {
            self.said += 1;
            say(&String::from_utf8_lossy(&self.line));
        } else {
            self.left_out += 1;
        }
        self.line.clear();
    }

    fn tell_left_out(&mut self, say: &mut impl FnMut(&str)) {
        match std::mem::take(&mut self.left_out) {
            0 => (),
            n => say(&format!("(and {n} lines more)")),
        }
    }

    fn end(mut self, mut say: impl FnMut(&str)) {
        let now = self.since.unwrap_or_else(Instant::now);
        self.say(now, &mut say);
        self.tell_left_out(&mut say);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_says_much_is_logged_in_part() {
        let (mut lines, mut said) = (Lines::default(), vec![]);
        let start = Instant::now();
        lines.take(b"no camera\nframe 1\rframe", start, |l| {
            said.push(l.to_string())
        });
        lines.take(b" 2\r\n", start, |l| said.push(l.to_string()));
        assert_eq!(said, ["no camera", "frame 1", "frame 2"]);
        lines.take(&b"x\n".repeat(1000), start, |l| said.push(l.to_string()));
        assert_eq!(said.len(), LINES as usize);
        lines.take(b"later\n", start + WHILE, |l| said.push(l.to_string()));
        assert_eq!(said[LINES as usize..], ["(and 983 lines more)", "later"]);
        // No line is longer than anybody reads, and the last one needs no end.
        lines.take(&[b'y'; 5000], start + WHILE, |_| unreachable!());
        lines.end(|l| said.push(l.to_string()));
        assert_eq!(said.last().unwrap().len(), LINE);
    }
}
