//! A cable between two serial ports that do not exist: two pseudo-terminals and a thread.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The two ends, by the links that lead there.
pub struct Wire {
    pub station: PathBuf,
    pub client: PathBuf,
    /// The client's adapter; `None` while it is unplugged.
    adapter: Arc<Mutex<Option<File>>>,
    cut: Arc<AtomicBool>,
}

impl Wire {
    /// A cable with its ends in this folder.
    pub fn new(folder: &Path) -> Wire {
        let wire = Wire {
            station: folder.join("station"),
            client: folder.join("client"),
            adapter: Arc::default(),
            cut: Arc::default(),
        };
        wire.plug();
        let mut station = end(&wire.station);
        let (adapter, cut) = (Arc::clone(&wire.adapter), Arc::clone(&wire.cut));
        std::thread::spawn(move || {
            while !cut.load(Ordering::Relaxed) {
                let mut client = adapter.lock().expect("an adapter");
                let carried = client
                    .as_mut()
                    .is_some_and(|c| carry(c, &mut station) | carry(&mut station, c));
                drop(client);
                if !carried {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        wire
    }

    /// Takes the client's adapter away.
    pub fn unplug(&self) {
        *self.adapter.lock().expect("an adapter") = None;
        let _ = std::fs::remove_file(&self.client);
    }

    /// Puts another one in its place.
    pub fn plug(&self) {
        *self.adapter.lock().expect("an adapter") = Some(end(&self.client));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

fn end(path: &Path) -> File {
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
    grantpt(&master).expect("a pty");
    unlockpt(&master).expect("a pty");
    let mut attributes = tcgetattr(&master).expect("a terminal");
    attributes.make_raw();
    tcsetattr(&master, OptionalActions::Now, &attributes).expect("a terminal");
    rustix::io::ioctl_fionbio(&master, true).expect("a pty");
    let name = ptsname(&master, Vec::new()).expect("a pty");
    let _ = std::fs::remove_file(path);
    symlink(OsStr::from_bytes(name.as_bytes()), path).expect("a link");
    File::from(master)
}

/// Whether there was anything to carry. An end that nobody has open reads as an error: nothing.
fn carry(from: &mut File, to: &mut File) -> bool {
    let mut bytes = [0; 1024];
    match from.read(&mut bytes) {
        Ok(count) => {
            // What a full buffer does not take is lost, as on a real line.
            let _ = to.write(&bytes[..count]);
            true
        }
        Err(_) => false,
    }
}
