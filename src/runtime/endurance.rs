//! Many parts at full speed: the output thread with the line's core, and the recorder with its files, without camera
//! and network. Their memory must not grow with what passed.

use super::actuator::{Actuator, Ended, Outlets, RealTime};
use super::allocations::{Nowhere, loadout, settings};
use super::judges::{Job, judges};
use super::mailbox::Mailbox;
use super::message::{FLOW, Message};
use super::places::Places;
use super::record::{Judgement, Record, Recorder, Records};
use super::shared::{Shared, lock};
use super::system::now;
use super::threads::Sign;
use crate::line::settings::{RejectDelay, Threshold};
use crate::line::{
    Active, AlarmSet, Frame, Micros, NetworkState, PartId, Pins, Settings, Signal, Statistics,
    Verdict, View,
};
use allocation_counter::{AllocationInfo, measure};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Parts on their way at a time: fewer than a listener's results, so that each outcome is heard.
const ON_THE_WAY: u64 = 200;
/// One part of so many is to be rejected.
const BAD: u64 = 100;

/// What was measured.
struct Passed {
    ended: Ended,
    /// Outcomes that the recorder reported.
    heard: u64,
    /// Records that were lost.
    lost: u64,
    /// Allocations of the output thread.
    actuator: AllocationInfo,
    /// Those of the recorder.
    recorder: AllocationInfo,
    /// Lines of the results that are there.
    lines: u64,
}

/// Has so many parts pass; after each `every` of them, `look` is called with their number.
fn pass(parts: u64, every: u64, mut look: impl FnMut(u64)) -> Passed {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        threshold: Threshold::new(0.5).unwrap(),
        delay: RejectDelay::millis(2, 0).unwrap(),
        ..settings()
    };
    let nothing = (Statistics::default(), AlarmSet::NONE);
    let shared = Arc::new(Shared::new(&settings, nothing.0, nothing.1));
    let results = shared.listen();
    let (record, mut judgements, records) = Records::new(1);
    let mut judge = judgements.remove(0);
    let (_places, mut free) = Places::new(1, ON_THE_WAY as usize);
    let back = free.giver();
    let mut free = free.by_camera().remove(0);
    let mut received = Mailbox::default();
    let mut messages = received.lane(FLOW);
    let (judges, _overseer, mut judged) = judges(1, ON_THE_WAY as usize);
    let mut triggers = Mailbox::default();
    let outlets = Outlets {
        judges,
        expose: vec![triggers.lane(FLOW)],
        back,
        record,
    };
    let pins = Pins::default()
        .with(Signal::Good, Nowhere, Active::High)
        .with(Signal::Reject, Nowhere, Active::High);
    let actuator = Actuator::new(
        settings,
        (nothing.0, nothing.1, false),
        pins,
        received,
        outlets,
        (shared.clone(), Sign::default()),
        RealTime::default(),
    );
    let actuator = std::thread::spawn(move || {
        let mut ended = None;
        let counts = measure(|| ended = Some(actuator.run()));
        (counts, ended.unwrap())
    });
    let (out, seen) = (folder.path().to_path_buf(), shared.clone());
    let recorder = std::thread::spawn(move || {
        let recorder = Recorder::create((&out, false, false), records, (seen, Sign::default()));
        let recorder = recorder.unwrap();
        measure(|| recorder.run())
    });
    let start = [
        loadout(settings, NetworkState::Stored),
        Message::Start(View::FIRST),
    ];
    start
        .into_iter()
        .for_each(|m| messages.send(m).ok().unwrap());
    let (mut sent, mut heard, mut last) = (0, 0, Micros(0));
    while heard < parts {
        let mut idle = true;
        if sent < parts
            && sent - heard < ON_THE_WAY
            && now() > last
            && let Ok(id) = free.take(Duration::ZERO)
        {
            last = now();
            let frame = Frame {
                id,
                view: View::FIRST,
                exposed: last,
                flaw: None,
            };
            messages.send(Message::Frame(frame)).ok().unwrap();
            sent += 1;
            idle = false;
        }
        while let Some(job) = judged[0].try_recv() {
            let (Job::Judge { part, frame, .. } | Job::Damaged { part, frame }) = job else {
                panic!("nobody else asks");
            };
            free.put(frame);
            let score = if part.0 % BAD == 0 { 0.9 } else { 0.1 };
            judge.send(&shared, judgement(part, score));
            let verdict = Message::Verdict {
                part,
                view: View::FIRST,
                verdict: Verdict::Score(score),
                score: Some(score),
                share: None,
                opinions: None,
            };
            messages.send(verdict).ok().unwrap();
            idle = false;
        }
        let came = lock(&results).drain(..).count() as u64;
        if (heard + came) / every > heard / every {
            look((heard + came) / every * every);
        }
        heard += came;
        if idle && came == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    messages.send(Message::Drain).ok().unwrap();
    let (actuator, ended) = actuator.join().unwrap();
    drop(judge);
    let recorder = recorder.join().unwrap();
    let lines = |name: &str| {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        text.lines().count() as u64
    };
    Passed {
        ended,
        heard,
        lost: shared.lost.load(Ordering::Relaxed),
        actuator,
        recorder,
        lines: lines("verdicts.jsonl") + lines("verdicts.1.jsonl"),
    }
}

/// What a network says of a part.
fn judgement(part: PartId, score: f32) -> Record {
    Record::Judged {
        part,
        view: View::FIRST,
        judgement: Judgement {
            // Without one: it would be freed in another thread than the one that counts it.
            name: String::new(),
            defective: None,
            score: Some(score),
            error: None,
            network: None,
            threshold: 0.5,
            picture: false,
            shows: false,
            sample: false,
        },
    }
}

impl Passed {
    /// Each part has one outcome, which was written down.
    fn is_whole(&self, parts: u64) {
        let outcomes = &self.ended.statistics.outcomes;
        assert_eq!((self.heard, self.lost), (parts, 0), "heard, lost");
        assert_eq!(outcomes.parts, parts);
        assert_eq!(outcomes.good + outcomes.all_rejects(), parts);
        // The others came late: how many depends on what else the machine does.
        assert!(outcomes.good > 0 && self.ended.good_pulses > 0);
    }
}

#[test]
fn memory_does_not_grow_with_the_parts_that_passed() {
    const FEW: u64 = 2_000;
    const MANY: u64 = 20_000;
    let (few, many) = (pass(FEW, FEW, |_| ()), pass(MANY, MANY, |_| ()));
    for (passed, parts) in [(&few, FEW), (&many, MANY)] {
        passed.is_whole(parts);
        assert_eq!(passed.lines, parts);
    }
    assert_eq!(
        few.actuator.count_total, many.actuator.count_total,
        "allocations from verdict to pin"
    );
    // What is on its way is remembered, at most a kilobyte of each.
    let most = ON_THE_WAY * 1024;
    let peaks = (few.recorder.bytes_max, many.recorder.bytes_max);
    assert!(
        peaks.0 < most && peaks.1 < most,
        "the recorder's peaks: {peaks:?} bytes"
    );
}

/// Resident memory of this process, kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kb = line.and_then(|l| l.split_whitespace().next());
    kb.unwrap().parse().unwrap()
}

/// To be run alone, for the memory is the process's: `cargo test --release --locked --features train --lib
/// ten_million -- --ignored --nocapture`.
#[test]
#[ignore = "10 million parts: minutes"]
fn ten_million_parts_pass_with_constant_memory() {
    const MILLION: u64 = 1_000_000;
    let start = std::time::Instant::now();
    let mut memory = vec![];
    let passed = pass(10 * MILLION, MILLION, |parts| {
        let (kb, seconds) = (resident(), start.elapsed().as_secs());
        println!("{parts} parts after {seconds} s: {kb} kB resident");
        memory.push(kb);
    });
    passed.is_whole(10 * MILLION);
    let outcomes = &passed.ended.statistics.outcomes;
    println!(
        "good {}, rejects {}, recorder's peak {} bytes, allocations from verdict to pin {}",
        outcomes.good,
        outcomes.all_rejects(),
        passed.recorder.bytes_max,
        passed.actuator.count_total
    );
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    // Half a byte of each part would be more.
    assert!(
        last < first + 4096,
        "{first} kB after a million parts, {last} kB after ten"
    );
}
