//! The ports through which the station is set: one thread each, all of them on one control. One more sees to what
//! is due without them, and one writes: a disk may take seconds, and nobody else waits for it. All of them stand
//! in the table of threads; the line goes on without them.

use super::super::CliError;
#[cfg(feature = "plant")]
use super::plant::Senders;
#[cfg(feature = "web")]
use faprompt_edge::board::HostName;
use faprompt_edge::control::modbus;
use faprompt_edge::control::port::{self, PortSettings};
use faprompt_edge::control::table::Parameter;
use faprompt_edge::control::values::Values;
use faprompt_edge::control::{Control, Judging, Restored, Store, Writer};
use faprompt_edge::line::{NetworkState, Statistics};
use faprompt_edge::release::judging::Judges;
use faprompt_edge::runtime::Running;
use faprompt_edge::runtime::handle::Handle;
use faprompt_edge::runtime::system::{low_priority, now, utc};
#[cfg(feature = "web")]
use faprompt_edge::web;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How often is looked whether something has to be stored.
const LOOK: Duration = Duration::from_millis(50);

/// Where the station can be reached, and where it keeps what.
pub struct Places<'a> {
    /// The serial port of the command set.
    pub serial: Option<&'a Path>,
    /// That of Modbus.
    pub modbus: Option<&'a Path>,
    /// The address of Modbus TCP.
    pub modbus_tcp: Option<SocketAddr>,
    /// The page's address.
    pub web: Option<SocketAddr>,
    /// The folder with the page's certificate, if it is served with HTTPS.
    #[cfg(feature = "web")]
    pub web_tls: Option<PathBuf>,
    /// Passwords of other computers are taken without HTTPS.
    #[cfg(feature = "web")]
    pub web_plain: bool,
    /// Names by which browsers may ask for the page.
    #[cfg(feature = "web")]
    pub web_hosts: &'a [HostName],
    /// The folder of the memory.
    pub state: &'a Path,
    /// The folder of results.
    pub out: &'a Path,
}

/// Control over a station, and the threads of its ports.
pub struct Ports {
    control: Arc<Mutex<Control<Handle>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Ports {
    /// Starts to serve the ports that there are, and to store counters and alarms when it is due. Without
    /// one of its own, Modbus is spoken on the serial port if the parameters say so.
    pub fn open(
        handle: Handle,
        (store, restored): (Store, Restored),
        places: &Places<'_>,
        #[cfg(feature = "plant")] plant: Option<Senders>,
        station: &mut Running,
    ) -> Result<Self, CliError> {
        let values = restored.stored.memory.values();
        let starts = station.shared().judging().state.is_none();
        let sign = station.watch("store");
        let writer = Writer::thread(store, move || sign.beat());
        let writer = writer.map_err(|e| CliError::Internal(e.to_string()))?;
        let mut control = Control::new(handle, writer, restored);
        if starts {
            control.start();
        }
        let control = Arc::new(Mutex::new(control));
        let shared = station.shared();
        let mut threads = vec![];
        let mut start = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = Builder::new().name(name.into()).spawn(body);
            threads.push(thread.map_err(|e| CliError::Internal(e.to_string()))?);
            Ok::<_, CliError>(())
        };
        let speaks_modbus = values.text(Parameter::SerialProtocol) == "modbus";
        let (serial, modbus) = match (places.serial, places.modbus) {
            (Some(only), None) if speaks_modbus => (None, Some(only)),
            ports => ports,
        };
        if let Some(path) = serial {
            let settings = PortSettings::ascii(path, baud(&values));
            let (control, goes_on) = (control.clone(), goes_on(station, "serial"));
            let body = move || port::serve(settings, &control, &goes_on);
            start("serial", Box::new(body))?;
        }
        if let Some(path) = modbus {
            let settings = modbus::rtu::settings(path, &values);
            let (control, goes_on) = (control.clone(), goes_on(station, "modbus"));
            let body = move || modbus::rtu::serve(settings, &control, &goes_on);
            start("modbus", Box::new(body))?;
        }
        if let Some(address) = places.modbus_tcp {
            let (control, goes_on) = (control.clone(), goes_on(station, "modbus-tcp"));
            let body = move || {
                if let Err(e) = low_priority() {
                    log::warn!("the thread of Modbus TCP keeps its priority: {e}");
                }
                modbus::tcp::serve(address, &control, &goes_on);
            };
            start("modbus-tcp", Box::new(body))?;
        }
        #[cfg(feature = "web")]
        let links = web::links::Links::default();
        #[cfg(feature = "plant")]
        let links = match plant {
            Some(senders) => senders.start(places.state, &control, &shared, &mut start)?,
            None => links,
        };
        #[cfg(feature = "web")]
        if let Some(address) = places.web {
            let page = web::Station {
                control: control.clone(),
                live: shared.live.clone(),
                out: places.out.to_path_buf(),
                state: places.state.to_path_buf(),
                tls: places.web_tls.clone(),
                plain: places.web_plain,
                hosts: places.web_hosts.to_vec(),
                plant: links,
            };
            let shared = shared.clone();
            start(
                "web",
                Box::new(move || web::serve(address, page, &shared.stop)),
            )?;
        }
        let (kept, folder) = (control.clone(), places.state.to_path_buf());
        let goes_on = goes_on(station, "memory");
        let body = move || {
            let mut left = None;
            while goes_on() {
                tick(&kept);
                let judging = shared.judging();
                if left != Some(judging.generation) && judging.state.is_some() {
                    left = Some(judging.generation);
                    leave(&judging, &folder);
                }
                std::thread::sleep(LOOK);
            }
        };
        start("memory", Box::new(body))?;
        Ok(Ports { control, threads })
    }

    /// Ends the ports, and stores the last counters.
    pub fn close(self, statistics: &Statistics) {
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a port's thread failed");
            }
        }
        // Every thread that shared it has ended.
        let Some(control) = Arc::into_inner(self.control) else {
            return;
        };
        let control = control.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = control.close(statistics) {
            log::error!("{e}");
        }
    }
}

/// Shows a sign of life, and says whether the station goes on.
fn goes_on(station: &mut Running, name: &'static str) -> impl Fn() -> bool + Send + 'static {
    let (sign, shared) = (station.watch(name), station.shared());
    move || {
        sign.beat();
        !shared.stopping()
    }
}

/// Tells what judges, for whoever asks what is flashed.
fn leave(judging: &Judging, state: &Path) {
    let network = match judging.state {
        Some(NetworkState::LastGood) => "last_good",
        Some(NetworkState::Stored) => "stored",
        Some(NetworkState::ZeroShot) => "zero_shot",
        Some(NetworkState::Missing | NetworkState::Untaught) | None => "none",
    };
    let label = judging.network.as_deref().cloned().unwrap_or_default();
    let judges = Judges {
        network: network.into(),
        bundle: label.bundle,
        name: label.name,
        digest: label.digest,
        from_recipe: label.from_recipe,
        warning: label.warning.map(String::from),
        since: utc(now()),
    };
    if let Err(e) = judges.leave(state) {
        log::warn!("{}: what judges cannot be written: {e}", state.display());
    }
}

/// Does what is due: counters and alarms to the memory. While a port holds control, it does so itself.
fn tick(control: &Mutex<Control<Handle>>) {
    match control.try_lock() {
        Ok(mut control) => control.tick(Instant::now()),
        // A port's thread panicked: what it left is whole, see `port::serve`.
        Err(TryLockError::Poisoned(control)) => control.into_inner().tick(Instant::now()),
        Err(TryLockError::WouldBlock) => (),
    }
}

/// The serial port's speed.
fn baud(values: &Values) -> u32 {
    // Every choice is a number.
    values
        .text(Parameter::SerialBaud)
        .parse()
        .unwrap_or(115_200)
}

/// The folder of a station's memory: what the command line says, or one beside the results if there is
/// a port to change it through.
pub fn folder(state: Option<&Path>, serial: bool, out: &Path) -> Option<PathBuf> {
    state
        .map(Path::to_path_buf)
        .or_else(|| serial.then(|| out.join("state")))
}
