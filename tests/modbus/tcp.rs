//! Modbus TCP over real sockets: a client of ours, and pymodbus.

use faprompt_edge::control::modbus::tcp::{CLIENTS, serve};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A station at a port of this machine.
struct Served {
    _folder: tempfile::TempDir,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn new() -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let control = Mutex::new(crate::control(&folder.path().join("memory")));
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            serve(address, &control, &|| !stopped.load(Ordering::Relaxed));
        });
        let served = Served {
            _folder: folder,
            address,
            stop,
            thread: Some(thread),
        };
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        served
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        let time = Some(Duration::from_secs(20));
        stream.set_read_timeout(time).expect("a time-out");
        stream
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("a thread");
        assert!(thread.join().is_ok() || std::thread::panicking());
    }
}

/// A request with its header.
fn framed(transaction: u16, unit: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = transaction.to_be_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend((body.len() as u16 + 1).to_be_bytes());
    bytes.push(unit);
    bytes.extend(body);
    bytes
}

fn exactly(stream: &mut TcpStream, wanted: &[u8], what: &str) {
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).expect(what);
    assert_eq!(got, wanted, "{what}");
}

fn ask(stream: &mut TcpStream, request: &[u8], answer: &[u8]) {
    stream.write_all(&framed(7, 1, request)).expect("written");
    exactly(stream, &framed(7, 1, answer), &format!("{request:02x?}"));
}

fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_))
}

const READ: &[u8] = &[3, 0, 0, 0, 2];
const TOLD: &[u8] = &[3, 4, 0x13, 0x88, 0x01, 0xf4];

#[test]
fn requests_are_answered_in_order_whatever_their_unit_and_however_they_come() {
    let served = Served::new();
    let mut stream = served.connect();
    for unit in [0, 1, 9, 255] {
        let request = framed(0x1234, unit, READ);
        stream.write_all(&request).expect("written");
        exactly(&mut stream, &framed(0x1234, unit, TOLD), "a unit");
        // In pieces.
        for byte in request {
            stream.write_all(&[byte]).expect("written");
            std::thread::sleep(Duration::from_millis(2));
        }
        exactly(&mut stream, &framed(0x1234, unit, TOLD), "in pieces");
    }
    // Several at once, more than fit into the station's buffer.
    let requests: Vec<u8> = (0..60).flat_map(|n| framed(n, 1, READ)).collect();
    stream.write_all(&requests).expect("written");
    for n in 0..60 {
        exactly(&mut stream, &framed(n, 1, TOLD), "one of many");
    }
    // What the standard allows and what is not there are answered both: a function without any bytes, one that is not
    // known, a read of too much, the longest write.
    for (request, answer) in [
        (&[7][..], &[0x87, 1][..]),
        (&[0x2b, 14, 1, 0], &[0xab, 1]),
        (&[3, 0, 0, 0, 126], &[0x83, 3]),
        (&[4, 0x7f, 0, 0, 1], &[0x84, 2]),
    ] {
        ask(&mut stream, request, answer);
    }
    let mut longest = vec![16, 0, 0, 0, 123, 246];
    longest.resize(6 + 246, 0);
    // Read whole: a parameter among them cannot be 0.
    ask(&mut stream, &longest, &[0x90, 3]);
}

#[test]
fn a_change_is_answered_when_it_is_in_force_and_every_client_has_its_own() {
    let served = Served::new();
    let (mut one, mut two) = (served.connect(), served.connect());
    let set = [6, 0, 0, 0x10, 0xe1];
    ask(&mut one, &set, &set);
    // The other sees nothing of it and may change nothing meanwhile.
    ask(&mut two, &[3, 0, 0, 0, 1], &[3, 2, 0x13, 0x88]);
    ask(&mut two, &set, &[0x86, 6]);
    let commit = [5, 0, 4, 0xff, 0];
    // COMMIT and what comes behind it, at once: the answers come in order.
    let both = [framed(1, 1, &commit), framed(2, 1, &[4, 0, 25, 0, 1])].concat();
    one.write_all(&both).expect("written");
    exactly(&mut one, &framed(1, 1, &commit), "commit");
    exactly(
        &mut one,
        &framed(2, 1, &[4, 2, 0x10, 0xe1]),
        "the threshold",
    );
    ask(&mut two, &[4, 0, 25, 0, 1], &[4, 2, 0x10, 0xe1]);
    // What a client had pending is dropped with it.
    ask(&mut one, &[6, 0, 0, 0, 5], &[6, 0, 0, 0, 5]);
    drop(one);
    let set = [6, 0, 0, 0, 9];
    let mut refused = [0; 9];
    for _ in 0..100 {
        two.write_all(&framed(7, 1, &set)).expect("written");
        two.read_exact(&mut refused).expect("an answer");
        if refused[7] == 6 {
            two.read_exact(&mut [0; 3]).expect("its rest");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("still busy: {refused:02x?}");
}

#[test]
fn strangers_are_closed_and_one_client_too_many_takes_the_place_of_the_most_silent() {
    let served = Served::new();
    for strange in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 1, 0, 0, 0, 1, 1],
        &[0, 1, 0, 0, 0xff, 0xff, 1, 3],
        // An answer.
        &[0, 1, 0, 0, 0, 3, 1, 0x83, 2],
    ] {
        let mut stream = served.connect();
        stream.write_all(strange).expect("written");
        assert!(is_closed(&mut stream), "{strange:02x?}");
    }
    let mut first = served.connect();
    ask(&mut first, READ, TOLD);
    let mut clients: Vec<TcpStream> = (1..CLIENTS).map(|_| served.connect()).collect();
    for client in &mut clients {
        ask(client, READ, TOLD);
    }
    let mut last = served.connect();
    ask(&mut last, READ, TOLD);
    assert!(is_closed(&mut first));
    for client in &mut clients {
        ask(client, READ, TOLD);
    }
}

/// pymodbus reads and writes every register that `MODBUS.md` lists.
#[test]
#[ignore = "needs pymodbus: make serial-check"]
fn pymodbus_reaches_every_register_over_tcp() {
    let python = std::env::var_os("FAPROMPT_PYTHON").unwrap_or("python3".into());
    let served = Served::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(python)
        .arg(root.join("tests/modbus/check.py"))
        .arg(format!("tcp:{}", served.address))
        .arg(root.join("src/control/MODBUS.md"))
        .status();
    assert!(status.expect("a Python").success());
}
