//! Modbus: pieces of bytes with silences between them, to frames, to answers.
//!
//! The CRC that a mutation breaks is put right in one of two inputs, or nothing would ever get past it.
#![no_main]

mod still;

use faprompt_edge::control::modbus::Slave;
use faprompt_edge::control::modbus::frame::{Framer, sealed};
use faprompt_edge::control::{Control, Memory, Mode, Store};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::time::{Duration, Instant};
use still::Still;

const BAUD: u32 = 115_200;

struct Station {
    control: Control<Still>,
    now: Instant,
    /// Control's own time goes on slowly, so that it seldom takes a COMMIT, which writes to the disk.
    slow: Instant,
    _folder: tempfile::TempDir,
}

thread_local! {
    // Opening a store takes a thousand times as long as an answer.
    static STATION_OF: RefCell<Station> = RefCell::new({
        let folder = tempfile::tempdir().expect("a folder");
        let (store, restored) = Store::open(folder.path(), &Memory::default()).expect("a store");
        let control = Control::new(Still(Mode::Running), store, restored);
        let now = Instant::now();
        Station { control, now, slow: now, _folder: folder }
    });
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&mend, mut rest)) = bytes.split_first() else {
        return;
    };
    STATION_OF.with_borrow_mut(|station| {
        let (mut slave, mut framer) = (Slave::new(&mut station.control), Framer::new(BAUD));
        while let Some((&[length, gap], after)) = rest.split_first_chunk() {
            let (piece, after) = after.split_at(after.len().min(length.into()));
            rest = after;
            station.now += Duration::from_micros(100 * u64::from(gap));
            if mend % 2 == 0 {
                if let Some(frame) = sealed(piece) {
                    framer.push(&frame, station.now);
                }
            } else {
                framer.push(piece, station.now);
            }
            station.now += Duration::from_micros(1750);
            framer.idle(station.now);
            while let Some(heard) = framer.take(station.now) {
                let request = &heard.frame;
                let control = &mut station.control;
                let Some(answer) = slave.answer(request, station.slow, control) else {
                    continue;
                };
                let (body, _) = answer.split_at(answer.len() - 2);
                assert_eq!(sealed(body).as_deref(), Some(&answer[..]));
                // The address is a parameter: an input may have changed it.
                assert_eq!((request[0], request[1]), (answer[0], answer[1] & 0x7f));
                framer.sent(&answer, station.now);
            }
            slave.echoes(framer.echoes(), &mut station.control);
            let _ = slave.late(station.slow, &mut station.control);
        }
        slave.hang_up(&mut station.control);
        station.slow += Duration::from_millis(1);
    });
});
