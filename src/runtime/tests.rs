//! The station without camera and network: its results are not written, and the line goes on.

use super::allocations::{Nowhere, loadout, settings};
use super::judges::Job;
use super::system::now;
use super::*;
use crate::control::host::Order;
use crate::line::{Alarm, Frame, FrameId, Verdict, View};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

/// A station that runs, and whoever judges its frames.
struct Line {
    shared: Arc<Shared>,
    messages: ToActuator,
    jobs: Mailbox<Job>,
    waits: JoinHandle<Report>,
    /// Of its results.
    _folder: tempfile::TempDir,
}

impl Line {
    /// Its results are written by `recorder`.
    fn start(recorder: impl FnOnce(Recorder) + Send + 'static) -> Line {
        Line::start_with(recorder, None)
    }

    /// And with one more thread in the table, that hangs.
    fn start_with(
        recorder: impl FnOnce(Recorder) + Send + 'static,
        more: Option<&'static str>,
    ) -> Line {
        let (folder, settings) = (tempfile::tempdir().unwrap(), settings());
        let nothing = (Statistics::default(), AlarmSet::NONE);
        let shared = Arc::new(Shared::new(&settings, nothing.0, nothing.1));
        let mut threads = Threads::default();
        let sign = threads.row("recorder", Needed::ToTell);
        let (record, _, records) = Records::new(0);
        let writer = (folder.path(), false, false);
        let writer = Recorder::create(writer, records, (shared.clone(), sign.clone())).unwrap();
        threads.runs(&sign, spawn("recorder", || recorder(writer)).unwrap());
        if let Some(name) = more {
            // A thread that never shows a sign of life.
            threads.row(name, Needed::ToInspect);
        }
        let mut received = Mailbox::default();
        let (judges, overseer, mut jobs) = judges(1, 64);
        let outlets = Outlets {
            judges,
            expose: vec![Mailbox::default().lane(8)],
            back: Places::new(1, 1).1.giver(),
            record,
        };
        let (mut messages, control) = (received.lane(FLOW), received.lane(SELDOM));
        let supervisor = received.lane(SELDOM);
        let actuator = Actuator::new(
            settings,
            (nothing.0, nothing.1, false),
            Pins::<Nowhere>::default(),
            received,
            outlets,
            (shared.clone(), threads.row("actuator", Needed::ToInspect)),
            RealTime::default(),
        );
        let running = Running {
            actuator: spawn("actuator", || actuator.run()).unwrap(),
            threads,
            shared: shared.clone(),
            messages: supervisor,
            control: Some((control, overseer)),
            cameras: vec![CameraLane::new(Adjustment::default()).0],
            drops: DropThread::start().unwrap(),
        };
        messages
            .send(loadout(settings, NetworkState::Stored))
            .ok()
            .unwrap();
        messages.send(Message::Start(View::FIRST)).ok().unwrap();
        Line {
            shared,
            messages,
            jobs: jobs.remove(0),
            waits: thread::spawn(|| running.wait(|_| ())),
            _folder: folder,
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn results_alarm(&mut self) -> bool {
        let shown = self.shared.snapshot();
        let alarm = shown.alarms.contains(Alarm::Results);
        if shown.outputs.ready {
            assert_eq!(shown.outputs.fault, !shown.alarms.is_empty());
        }
        alarm
    }

    fn order(&mut self, order: Order) {
        let (answer, answered) = sync_channel(1);
        let order = Message::Order(order, answer);
        self.messages.send(order).ok().unwrap();
        answered.recv().unwrap().unwrap();
    }

    /// Has parts pass until one more was found good and left as such.
    fn good_part(&mut self) {
        let good = |line: &mut Self| line.shared.snapshot().statistics.outcomes.good;
        let before = good(self);
        self.until("a good part", |line| {
            let frame = Frame {
                id: FrameId(0),
                view: View::FIRST,
                exposed: now(),
                flaw: None,
            };
            line.messages.send(Message::Frame(frame)).ok().unwrap();
            if let Ok(Job::Judge { part, .. }) = line.jobs.recv_timeout(LOOK) {
                let verdict = Message::Verdict {
                    part,
                    view: View::FIRST,
                    verdict: Verdict::Score(0.0),
                    score: Some(0.0),
                    share: None,
                    opinions: None,
                };
                line.messages.send(verdict).ok().unwrap();
            }
            good(line) > before
        });
    }

    fn end(self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.waits.join().unwrap()
    }
}

#[test]
fn a_recorder_that_panics_is_an_alarm_and_the_line_goes_on() {
    let mut line = Line::start(|_| panic!("on purpose"));
    line.until("an alarm", Line::results_alarm);
    line.order(Order::Reset);
    line.good_part();
    assert!(line.results_alarm(), "its reason lasts");
    let outputs = line.shared.snapshot().outputs;
    assert!(outputs.ready && !outputs.line_stop);
    let report = line.end();
    assert_eq!(report.failed, None);
    assert!(report.lost > 0);
}

#[test]
fn a_recorder_that_hangs_is_an_alarm_until_it_writes_again() {
    let (goes_on, hangs) = channel::<()>();
    let mut line = Line::start(move |recorder| {
        let _ = hangs.recv();
        recorder.run()
    });
    line.good_part();
    line.until("an alarm", Line::results_alarm);
    // It keeps nobody from arming the station, either.
    for order in [Order::Reset, Order::Disarm, Order::Arm] {
        line.order(order);
    }
    line.good_part();
    assert!(line.results_alarm(), "its reason lasts");
    goes_on.send(()).unwrap();
    line.until("no alarm", |line| {
        line.order(Order::Reset);
        !line.results_alarm()
    });
    assert_eq!(line.end().lost, 0);
}

/// STOP would be lost with them: the station ends, its outputs are safe.
#[test]
fn inputs_that_hang_end_the_station() {
    let start = Instant::now();
    let line = Line::start_with(Recorder::run, Some("inputs"));
    let report = line.waits.join().unwrap();
    assert_eq!(report.failed, Some("inputs"));
    assert!(start.elapsed() >= threads::SILENCE);
    assert!(line.shared.snapshot().outputs.line_stop);
}
