//! Sessions: bytes to lines to commands to answers, exactly one for each line.
//!
//! One control lives through the whole run and every input is a session of its own, so that parameters,
//! recipes, TEACH and alarms come into all states. The station behind is the least that control can look
//! at: a real one in simulated time would take a hundred times as long (the tests have that). Time goes on
//! by a millisecond per input: changes are stored now and then, and not always.
#![no_main]
#[path = "../../tests/control/oracle.rs"]
mod oracle;

use faprompt_edge::control::session::Output;
use faprompt_edge::control::values::alarms;
use faprompt_edge::control::{
    Control, ControlledStation, Judging, Memory, Mode, Order, PartResult, Preparing, Refused,
    SelfTest, Session, Snapshot, Store, Wanted,
};
use faprompt_edge::line::{
    AlarmSet, ChallengeReport, Micros, Outcome, Outputs, PartId, Statistics,
};
use libfuzzer_sys::fuzz_target;
use oracle::{is_answer, lines_in};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A station that does as it is told: every order is a part, an alarm, a challenge, or refused.
#[derive(Default)]
struct Yes {
    orders: u64,
    latched: AlarmSet,
    challenge: Option<ChallengeReport>,
    last: Option<PartResult>,
    told: bool,
}

impl ControlledStation for Yes {
    type Loadout = ();

    fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            now: Micros(self.orders),
            mode: Mode::Running,
            outputs: Outputs::default(),
            alarms: self.latched,
            alarm_history: Default::default(),
            statistics: Statistics::default(),
            challenge: self.challenge,
            last: self.last,
            cameras: 1,
            down: Default::default(),
            self_test: SelfTest::Failed("always"),
            lost: Default::default(),
        }
    }

    fn order(&mut self, order: Order) -> Result<(), Refused> {
        self.orders += 1;
        self.told = false;
        self.last = Some(PartResult {
            part: PartId(self.orders),
            outcome: Outcome::Good,
            score: Some((self.orders % 100) as f32 / 100.0),
            view: Default::default(),
            opinions: None,
            latency_us: Some(self.orders),
            defect: Default::default(),
            share: None,
            lane: None,
        });
        match order {
            Order::Challenge(pieces) => {
                self.challenge = Some(ChallengeReport {
                    pieces: pieces.get(),
                    detected: pieces.get(),
                    missed: 0,
                    not_judged: 0,
                });
            }
            Order::Reset => self.latched = alarms((self.orders as u32 & 7) << 1),
            Order::SelfTest => return Err(Refused::Hardware("none")),
            _ => (),
        }
        Ok(())
    }

    fn judging(&mut self) -> Arc<Judging> {
        Arc::default()
    }

    fn prepare(&mut self, _: &Wanted) -> Preparing<()> {
        self.orders += 1;
        Preparing::ready(match self.orders % 8 {
            0 => Err(Refused::Mode("not now")),
            _ => Ok(()),
        })
    }

    fn swap(&mut self, (): ()) {}

    fn no_network(&mut self) {}

    fn fault(&mut self, _: bool) {}

    fn next_result(&mut self) -> Option<PartResult> {
        let new = !std::mem::replace(&mut self.told, true);
        self.last.filter(|_| new)
    }
}

struct Bench {
    control: Control<Yes>,
    out: Box<Output>,
    now: Instant,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, restored) = Store::open(folder.path(), &Memory::default()).expect("a store");
        Bench {
            control: Control::new(Yes::default(), store, restored),
            out: Box::default(),
            now: Instant::now(),
            _folder: folder,
        }
    }
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

fuzz_target!(|bytes: &[u8]| {
    BENCH.with_borrow_mut(|bench| {
        let Bench {
            control, out, now, ..
        } = bench;
        *now += Duration::from_millis(1);
        let mut session = Session::new(control, "fuzz", *now);
        let mut lines = 0;
        for byte in bytes {
            if let Some(line) = session.push(*byte, *now) {
                session.answer(&line, *now, control, out);
                let answers = out.lines().filter(|l| is_answer(l)).count();
                assert!(answers == 1 && out.is_ascii(), "{line:?}: {out}");
                lines += 1;
                out.clear();
            }
        }
        assert_eq!(lines, lines_in(bytes));
        control.tick(*now);
        session.idle(*now, control, out);
        session.hang_up(control);
        out.clear();
    });
});
