//! Over a cable: a client of ours, and two that others wrote.

use crate::wire::Wire;
use faprompt_edge::control::modbus::frame;
use faprompt_edge::control::modbus::rtu::{serve, settings};
use faprompt_edge::control::{Parameter, Value};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A station whose Modbus port is at the other end of a cable.
struct Served {
    _folder: tempfile::TempDir,
    wire: Wire,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn new() -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let wire = Wire::new(folder.path());
        let control = crate::control(&folder.path().join("memory"));
        let mut values = control.memory().values();
        // Pseudo-terminals know no parity, and the C library tells clients so.
        let none = Value::Number(0);
        values.set(Parameter::ModbusParity, none).expect("a parity");
        let settings = settings(&wire.station, &values);
        let stop = Arc::<AtomicBool>::default();
        let (control, stopped) = (Arc::new(Mutex::new(control)), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            serve(settings, &control, &|| !stopped.load(Ordering::Relaxed));
        });
        Served {
            _folder: folder,
            wire,
            stop,
            thread: Some(thread),
        }
    }

    fn open(&self) -> Box<dyn serialport::SerialPort> {
        let port = serialport::new(self.wire.client.to_string_lossy(), 19_200);
        port.timeout(Duration::from_millis(20))
            .open()
            .expect("a port")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("a thread");
        assert!(thread.join().is_ok() || std::thread::panicking());
    }
}

/// Asks as a master does, again if nothing comes for a second: on a busy machine two frames may reach
/// the station as one. The answers, of which there may be more than one then.
fn ask(port: &mut Box<dyn serialport::SerialPort>, request: &[u8], length: usize) -> Vec<u8> {
    let mut answers = Vec::new();
    for _ in 0..30 {
        port.write_all(request).expect("written");
        let until = Instant::now() + Duration::from_secs(1);
        while answers.len() < length && Instant::now() < until {
            let mut bytes = [0; 256];
            let count = port.read(&mut bytes).unwrap_or(0);
            answers.extend(&bytes[..count]);
        }
        if answers.len() >= length {
            break;
        }
    }
    answers
}

#[test]
fn over_a_cable_only_what_is_a_frame_and_for_this_station_is_answered() {
    let served = Served::new();
    let mut port = served.open();
    let frame = |body: &[u8]| frame::sealed(body).expect("a frame");
    let read = frame(&[1, 3, 0, 0, 0, 2]);
    let reply = frame(&[1, 3, 4, 0x13, 0x88, 0x01, 0xf4]);
    let mut damaged = read.clone();
    damaged[3] ^= 1;
    let other = frame(&[2, 3, 0, 0, 0, 2]);
    for nothing in [&[][..], &damaged, &other, &[0xff; 700], &read[..5]] {
        port.write_all(nothing).expect("written");
        std::thread::sleep(Duration::from_millis(60));
        let answers = ask(&mut port, &read, reply.len());
        assert!(answers.len() >= reply.len(), "no answer");
        for answer in answers.chunks(reply.len()) {
            assert_eq!(answer, &reply[..answer.len()]);
        }
    }
}

/// A request, and its answer, which must come and be the only one.
fn order(port: &mut Box<dyn serialport::SerialPort>, request: &[u8], answer: &[u8]) {
    let frame = |body: &[u8]| frame::sealed(body).expect("a frame");
    let wanted = frame(answer);
    port.write_all(&frame(request)).expect("written");
    let (mut got, until) = (Vec::<u8>::new(), Instant::now() + Duration::from_secs(20));
    while got.len() < wanted.len() {
        let so_far = &got;
        assert!(Instant::now() < until, "{request:02x?}: {so_far:02x?}");
        let mut bytes = [0; 256];
        let count = port.read(&mut bytes).unwrap_or(0);
        got.extend(&bytes[..count]);
    }
    assert_eq!(got, wanted.to_vec(), "{request:02x?}");
}

/// Orders that are answered with themselves, on a line that gives everything back, and on one that does not.
#[test]
fn what_the_adapter_gives_back_is_obeyed_by_nobody() {
    const TRIGGER: &[u8] = &[1, 5, 0, 1, 0xff, 0];
    for echo in [None, Some(&[][..]), Some(&[0]), Some(&[0xff, 0xf0])] {
        let served = Served::new();
        if let Some(stray) = echo {
            served.wire.echo(stray);
        }
        let mut port = served.open();
        // Trigger source command; the first frame of all is one that is answered with itself.
        for same in [
            &[1, 6, 0, 100, 0, 4][..],
            &[1, 5, 0, 4, 0xff, 0],
            &[1, 5, 0, 3, 0xff, 0],
        ] {
            order(&mut port, same, same);
        }
        for parts in [1, 2, 3] {
            order(&mut port, TRIGGER, TRIGGER);
            order(&mut port, &[1, 4, 0, 103, 0, 1], &[1, 4, 2, 0, parts]);
        }
        // The same once more, at once.
        for _ in 4..=9 {
            order(&mut port, TRIGGER, TRIGGER);
        }
        order(&mut port, &[1, 4, 0, 103, 0, 1], &[1, 4, 2, 0, 9]);
        order(
            &mut port,
            &[1, 2, 0, 10, 0, 1],
            &[1, 2, 1, u8::from(echo.is_some())],
        );
        // Nothing comes of its own.
        std::thread::sleep(Duration::from_millis(200));
        let rest = port.read(&mut [0; 256]).unwrap_or(0);
        assert_eq!(rest, 0);
    }
}

/// pymodbus and mbpoll read and write every register that `MODBUS.md` lists.
#[test]
#[ignore = "needs pymodbus and mbpoll: make serial-check"]
fn clients_of_others_reach_every_register() {
    reach_every_register(&Served::new());
}

/// The same at a station whose adapter gives back what it sends.
#[test]
#[ignore = "needs pymodbus and mbpoll: make serial-check"]
fn clients_of_others_reach_every_register_over_an_adapter_that_echoes() {
    let served = Served::new();
    served.wire.echo(&[0]);
    reach_every_register(&served);
}

fn reach_every_register(served: &Served) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("FAPROMPT_PYTHON").map_or("python3".into(), PathBuf::from);
    let status = Command::new(python)
        .arg(root.join("tests/modbus/check.py"))
        .arg(&served.wire.client)
        .arg(root.join("src/control/MODBUS.md"))
        .status();
    assert!(status.expect("python").success());
}
