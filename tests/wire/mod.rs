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
    /// What the station's adapter puts before all that the station sends, and whether it gives it back.
    fault: Arc<Mutex<Option<Vec<u8>>>>,
    cut: Arc<AtomicBool>,
}

impl Wire {
    /// A cable with its ends in this folder.
    pub fn new(folder: &Path) -> Wire {
        let wire = Wire {
            station: folder.join("station"),
            client: folder.join("client"),
            adapter: Arc::default(),
            fault: Arc::default(),
            cut: Arc::default(),
        };
        wire.plug();
        let mut station = end(&wire.station);
        let (adapter, cut) = (Arc::clone(&wire.adapter), Arc::clone(&wire.cut));
        let fault = Arc::clone(&wire.fault);
        std::thread::spawn(move || {
            while !cut.load(Ordering::Relaxed) {
                let mut client = adapter.lock().expect("an adapter");
                let carried = client.as_mut().is_some_and(|client| {
                    let came = carry(client, &mut station, None);
                    let echo = fault.lock().expect("a fault");
                    carry(&mut station, client, echo.as_deref()) | came
                });
                drop(client);
                if !carried {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        wire
    }

    /// From now on the station hears what it sends, after these bytes.
    #[allow(dead_code)]
    pub fn echo(&self, stray: &[u8]) {
        *self.fault.lock().expect("a fault") = Some(stray.to_vec());
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

/// Whether there was anything to carry. An end that nobody has open reads as an error: nothing. With an echo it
/// goes back too.
fn carry(from: &mut File, to: &mut File, echo: Option<&[u8]>) -> bool {
    let mut bytes = [0; 1024];
    match from.read(&mut bytes) {
        Ok(count) => {
            // What a full buffer does not take is lost, as on a real line.
            let _ = to.write(&bytes[..count]);
            if let Some(stray) = echo {
                let _ = from.write(&[stray, &bytes[..count]].concat());
            }
            true
        }
        Err(_) => false,
    }
}
