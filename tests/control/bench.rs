//! A station with its store and serial ports on a bench: pseudo-terminals instead of cables.

use crate::line::Line;
use faprompt_edge::control::port::{PortSettings, serve};
use faprompt_edge::control::{Control, Memory, Store, Writer};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A test that waits longer for a line has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// One that writes by itself: what it is asked is answered at once.
pub fn control(folder: &Path) -> Control<Line> {
    control_with(folder, Writer::from)
}

fn control_with(folder: &Path, writer: impl FnOnce(Store) -> Writer) -> Control<Line> {
    let (store, restored) = Store::open(folder, &Memory::default()).expect("a store");
    let values = restored.stored.memory.values();
    let line = Line::new(&values, restored.statistics, restored.alarms);
    Control::new(line, writer(store), restored)
}

/// One whose store is written by another thread, as a station's is.
fn station(folder: &Path) -> Control<Line> {
    let thread = |store| Writer::thread(store, || ()).expect("a thread");
    control_with(folder, thread)
}

/// The client's end of a cable.
pub struct Cable {
    master: File,
    /// What has come and was not taken.
    pub received: Vec<u8>,
}

impl Cable {
    /// A cable whose other end is found at `path`.
    pub fn plug(path: &Path) -> Cable {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
        grantpt(&master).expect("a pty");
        unlockpt(&master).expect("a pty");
        let mut attributes = tcgetattr(&master).expect("a terminal");
        attributes.make_raw();
        tcsetattr(&master, OptionalActions::Now, &attributes).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("a pty");
        let _ = std::fs::remove_file(path);
        symlink(std::ffi::OsStr::from_bytes(name.as_bytes()), path).expect("a link");
        rustix::io::ioctl_fionbio(&master, true).expect("a pty");
        Cable {
            master: File::from(master),
            received: Vec::new(),
        }
    }

    /// Sends as much as the terminal takes; how much.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        self.master.write(bytes).unwrap_or(0)
    }

    /// Takes over what has come; how much.
    pub fn receive(&mut self) -> usize {
        let mut bytes = [0; 4096];
        let count = self.master.read(&mut bytes).unwrap_or(0);
        self.received.extend(&bytes[..count]);
        count
    }

    pub fn send(&mut self, mut bytes: &[u8]) {
        let until = Instant::now() + PATIENCE;
        while !bytes.is_empty() {
            assert!(Instant::now() < until, "the port takes no more bytes");
            match self.push(bytes) {
                0 => std::thread::sleep(Duration::from_millis(1)),
                count => bytes = &bytes[count..],
            }
        }
    }

    /// The next line.
    pub fn line(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.received.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return String::from_utf8(line)
                    .expect("ASCII")
                    .trim_end()
                    .to_string();
            }
            let so_far = &self.received;
            assert!(Instant::now() < until, "no answer; so far {so_far:?}");
            if self.receive() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Sends a line, gives its answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r").as_bytes());
        self.line()
    }
}

pub struct Bench {
    folder: tempfile::TempDir,
    control: Option<Arc<Mutex<Control<Line>>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Bench {
    pub fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let control = station(&folder.path().join("memory"));
        Bench {
            folder,
            control: Some(Arc::new(Mutex::new(control))),
            stop: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// Where the cable of a port is plugged in.
    pub fn socket(&self, port: &str) -> PathBuf {
        self.folder.path().join(port)
    }

    /// A port with a cable in it.
    pub fn port(&mut self, name: &str) -> Cable {
        let cable = Cable::plug(&self.socket(name));
        self.serve(name);
        cable
    }

    fn serve(&mut self, name: &str) {
        let settings = PortSettings::ascii(&self.socket(name), 115_200);
        let control = Arc::clone(self.control.as_ref().expect("control"));
        let stop = Arc::clone(&self.stop);
        let thread = std::thread::spawn(move || {
            serve(settings, &control, &|| !stop.load(Ordering::Relaxed));
        });
        self.threads.push(thread);
    }

    pub fn line<T>(&self, work: impl FnOnce(&mut Line) -> T) -> T {
        let control = self.control.as_ref().expect("control");
        work(control.lock().expect("control").host())
    }

    fn end(&mut self) -> Control<Line> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|t| t.join().expect("a port"));
        self.stop = Arc::default();
        let control = self.control.take().expect("control");
        let control = Arc::into_inner(control).expect("the last one");
        control.into_inner().expect("control")
    }

    /// Everything in memory is gone; what is on the disk starts again.
    pub fn power_cut(&mut self, name: &str) {
        drop(self.end());
        self.start(name);
    }

    /// An orderly end and a start.
    pub fn restart(&mut self, name: &str) {
        let mut control = self.end();
        let statistics = control.host().statistics();
        control.close(&statistics).expect("stored");
        self.start(name);
    }

    fn start(&mut self, name: &str) {
        let control = station(&self.folder.path().join("memory"));
        self.control = Some(Arc::new(Mutex::new(control)));
        self.serve(name);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
