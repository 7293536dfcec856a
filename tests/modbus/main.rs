//! Modbus as a PLC sees it: bytes in, bytes out; over a cable; over a network; and by two clients that are not ours.

#[path = "../control/line.rs"]
#[allow(dead_code)]
mod line;
#[path = "../wire/mod.rs"]
#[allow(dead_code)]
mod wire;

mod clients;
mod registers;
mod requests;
mod tcp;

use faprompt_edge::control::modbus::{Slave, frame};
use faprompt_edge::control::session::Output;
use faprompt_edge::control::{Control, Memory, Session, Store};
use faprompt_edge::line::{Alarm, AlarmSet, PartId, Statistics};
use line::Line;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Counters no two of which, and no two words of which, are alike.
fn statistics() -> Statistics {
    let mut next = 0u64;
    let mut n = || {
        next += 4;
        (next - 3) << 48 | (next - 2) << 32 | (next - 1) << 16 | next
    };
    let mut s = Statistics::default();
    let fields = [
        &mut s.outcomes.parts,
        &mut s.outcomes.good,
        &mut s.outcomes.rejects,
        &mut s.triggers.bounced,
        &mut s.triggers.too_close,
        &mut s.triggers.unpaired,
        &mut s.triggers.unexpected,
        &mut s.triggers.skipped,
        &mut s.frames.paired,
        &mut s.frames.damaged,
        &mut s.frames.unpaired,
        &mut s.frames.ignored,
        &mut s.verdicts.taken,
        &mut s.verdicts.late,
        &mut s.verdicts.duplicate,
        &mut s.verdicts.unknown,
        &mut s.verdicts.ignored,
        &mut s.confirms.confirmed,
        &mut s.confirms.missing,
        &mut s.confirms.unexpected,
        &mut s.encoder_reversals,
        &mut s.actuated_late,
    ];
    fields.into_iter().for_each(|field| *field = n());
    s.outcomes.failed.fill_with(&mut n);
    s.next_part = PartId(n());
    for us in [70_000, 90_000, 140_000] {
        s.latency.record(us);
    }
    s
}

/// A station with a Modbus client and a person at the command set.
struct Bench {
    control: Control<Line>,
    slave: Slave,
    person: Session,
    now: Instant,
    _folder: tempfile::TempDir,
}

fn control(folder: &Path) -> Control<Line> {
    let (store, mut restored) = Store::open(folder, &Memory::default()).expect("a store");
    let values = restored.stored.memory.values();
    restored.statistics = statistics();
    let alarms = AlarmSet::of(&[Alarm::LowAir]);
    let line = Line::new(&values, restored.statistics, alarms);
    Control::new(line, store, restored)
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let mut control = control(folder.path());
        let now = Instant::now();
        Bench {
            slave: Slave::new(&mut control),
            person: Session::new(&mut control, "person", now),
            control,
            now,
            _folder: folder,
        }
    }

    /// Asks without address and CRC; the answer without them. A minute passes.
    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        let answer = self.send(1, request).expect("an answer");
        assert_eq!(answer[0], 1);
        answer[1..].to_vec()
    }

    fn send(&mut self, address: u8, request: &[u8]) -> Option<Vec<u8>> {
        self.now += Duration::from_secs(60);
        let request = frame::sealed(&[&[address], request].concat()).expect("a frame");
        let answer = self.slave.answer(&request, self.now, &mut self.control)?;
        let body = &answer[..answer.len() - 2];
        assert_eq!(frame::sealed(body).expect("a frame"), answer, "CRC");
        Some(body.to_vec())
    }

    /// An answer that comes later, without address and CRC.
    fn late(&mut self) -> Option<Vec<u8>> {
        let answer = self.slave.late(self.now, &mut self.control)?;
        Some(answer[1..answer.len() - 2].to_vec())
    }

    /// Reads registers by function 3 or 4.
    fn read(&mut self, function: u8, first: u16, count: u16) -> Vec<u16> {
        let request = words(function, &[first, count]);
        let answer = self.ask(&request);
        assert_eq!(answer[..2], [function, 2 * count as u8], "{answer:02x?}");
        let words = answer[2..].chunks(2);
        words.map(|w| u16::from_be_bytes([w[0], w[1]])).collect()
    }

    /// Reads one coil or discrete input.
    fn bit(&mut self, function: u8, address: u16) -> bool {
        let answer = self.ask(&words(function, &[address, 1]));
        assert_eq!(answer[..2], [function, 1]);
        answer[2] == 1
    }

    /// Writes registers by function 16; the exception, if there is one.
    fn write(&mut self, first: u16, values: &[u16]) -> Result<(), u8> {
        let count = values.len() as u16;
        let mut request = words(16, &[first, count]);
        request.push(2 * count as u8);
        request.extend(values.iter().flat_map(|v| v.to_be_bytes()));
        let answer = self.ask(&request);
        match answer[0] {
            0x90 => Err(answer[1]),
            _ => {
                assert_eq!(answer, words(16, &[first, count]));
                Ok(())
            }
        }
    }

    /// Writes a coil by function 5; the exception, if there is one.
    fn coil(&mut self, coil: u16, on: bool) -> Result<(), u8> {
        let request = words(5, &[coil, if on { 0xff00 } else { 0 }]);
        match self.ask(&request)[..] {
            [0x85, exception] => Err(exception),
            ref answer => {
                assert_eq!(answer, request);
                Ok(())
            }
        }
    }

    /// What the command set answers.
    fn say(&mut self, line: &str) -> String {
        let mut out = Output::new();
        let bytes = format!("{line}\r");
        let lines = bytes.bytes().filter_map(|b| self.person.push(b, self.now));
        let line = lines.last().expect("a line");
        self.person
            .answer(&line, self.now, &mut self.control, &mut out);
        out.trim_end().to_string()
    }

    /// What the command set says of a parameter.
    fn get(&mut self, name: &str) -> String {
        let answer = self.say(&format!("GET {name}"));
        let (_, value) = answer.rsplit_once(',').expect("a value");
        value.to_string()
    }

    /// `COUNTERS`, by name.
    fn counters(&mut self) -> BTreeMap<String, String> {
        let answer = self.say("COUNTERS");
        let pairs = answer.lines().skip(1).map(|line| {
            let mut words = line.split(',').skip(1).map(str::to_string);
            (
                words.next().expect("a name"),
                words.next().expect("a count"),
            )
        });
        pairs.collect()
    }
}

/// A function and its words.
fn words(function: u8, words: &[u16]) -> Vec<u8> {
    let bytes = words.iter().flat_map(|w| w.to_be_bytes());
    std::iter::once(function).chain(bytes).collect()
}

/// A COMMIT that takes its time is answered when it is in force; reads are answered meanwhile, and whoever asks
/// something else has given up waiting.
#[test]
fn a_commit_is_answered_when_it_is_in_force() {
    for (refused, asks_on) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = Bench::new();
        let slow = line::Slow::default();
        bench.control.host().slow = Some(slow.clone());
        bench.write(0, &[4000]).unwrap();
        let commit = words(5, &[4, 0xff00]);
        assert_eq!(bench.send(1, &commit), None);
        let (done, wanted) = slow.lock().unwrap().take().expect("it is being made ready");
        assert!(bench.late().is_none());
        if asks_on {
            // The registers are read meanwhile; asked once more, it is the same change.
            assert_eq!(bench.read(4, 16, 1).len(), 1);
            assert_eq!(bench.send(1, &commit), None);
            assert_eq!(bench.read(4, 16, 1).len(), 1);
        }
        done.send(match refused {
            true => Err(faprompt_edge::control::Refused::Hardware("the bundle")),
            false => Ok(wanted),
        })
        .unwrap();
        let late = bench.late();
        match (refused, asks_on) {
            (_, true) => assert_eq!(late, None, "nobody waits"),
            (false, false) => assert_eq!(late, Some(commit)),
            (true, false) => assert_eq!(late, Some(vec![0x85, 4])),
        }
        let in_force = bench.say("GET threshold");
        let expected = if refused { "0.5000" } else { "0.4000" };
        assert_eq!(in_force, format!("OK,GET,threshold,{expected}"));
        assert_eq!(bench.late(), None);
    }
}
