//! What a flooded serial port costs: the share of one core that its thread takes, by what comes in as fast
//! as a pseudo-terminal carries it: `cargo bench --bench flood [-- SECONDS]`.

#[path = "../tests/control/bench.rs"]
#[allow(dead_code)]
mod bench;
#[path = "../tests/control/line.rs"]
#[allow(dead_code)]
mod line;

use bench::{Cable, control};
use faprompt_edge::control::port::{PortSettings, serve};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Nanoseconds that this thread was on a processor: first field of schedstat (proc(5)).
fn on_processor() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = stat.split(' ').next();
    first.and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn share(flood: &[u8], time: Duration) -> (f64, u64, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let control = Arc::new(Mutex::new(control(&folder.path().join("memory"))));
    let stop = AtomicBool::new(false);
    let socket = folder.path().join("port");
    let mut cable = Cable::plug(&socket);
    std::thread::scope(|scope| {
        let port = scope.spawn(|| {
            serve(PortSettings::ascii(&socket, 115_200), &control, &|| {
                !stop.load(Ordering::Relaxed)
            });
            on_processor()
        });
        let started = Instant::now();
        let (mut sent, mut received) = (0, 0);
        while started.elapsed() < time {
            sent += cable.push(flood) as u64;
            received += cable.receive() as u64;
            std::thread::sleep(Duration::from_millis(1));
        }
        let elapsed = started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let busy = port.join().expect("a port") as f64 / 1e9;
        (100.0 * busy / elapsed, sent, received)
    })
}

fn main() {
    let seconds = std::env::args()
        .skip(1)
        .find_map(|a| a.parse().ok())
        .unwrap_or(5);
    let mut random = 1u32;
    let noise: Vec<u8> = (0..4096)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        })
        .collect();
    println!(
        "{:24} {:>10} {:>12} {:>12}",
        "flood", "core", "bytes/s in", "bytes/s out"
    );
    for (name, flood) in [
        ("nothing", Vec::new()),
        ("binary noise", noise),
        ("empty commands", b"x\r".repeat(1000)),
        ("STATUS", b"STATUS\r".repeat(500)),
        ("LIST", b"LIST\r".repeat(500)),
        (
            "SET and COMMIT",
            b"SET threshold 0.3\rCOMMIT\rSET threshold 0.4\rCOMMIT\r".repeat(80),
        ),
        (
            "passwords",
            b"LOGIN engineer guess\rSET operator_password belt-runner\r".repeat(80),
        ),
    ] {
        let (percent, sent, received) = share(&flood, Duration::from_secs(seconds));
        println!(
            "{name:24} {percent:8.2} % {:12} {:12}",
            sent / seconds,
            received / seconds
        );
    }
}
