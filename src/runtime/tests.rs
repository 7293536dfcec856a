//! The station without camera and network: its results are not written, and the line goes on.

use super::allocations::{Nowhere, record, settings};
use super::inference::{JOBS, Job};
use super::mailbox::Mailbox;
use super::system::now;
use super::*;
use crate::control::host::Order;
use crate::line::{Alarm, Frame, FrameId, Verdict};
use std::sync::mpsc::channel;
use std::thread;

/// A station that runs, and whoever judges its frames.
struct Line {
    shared: Arc<Shared>,
    messages: ToActuator,
    jobs: Mailbox<Job, JOBS>,
    waits: JoinHandle<Report>,
}

impl Line {
    /// Its results are written by `recorder`.
    fn start(recorder: impl FnOnce(Recorder) -> Truth + Send + 'static) -> Line {
        let folder = tempfile::tempdir().unwrap();
        let nothing = (Statistics::default(), AlarmSet::NONE);
        let shared = Arc::new(Shared::new(&settings(), nothing.0, nothing.1, 0));
        // There is no camera that could hang.
        shared.source_ended.store(true, Ordering::Relaxed);
        let (writer, record) = record(folder.path(), &shared);
        let (messages, received) = mailbox();
        let (judge, jobs) = mailbox();
        let judges = Judges::new(vec![judge]);
        let outlets = Outlets {
            judges: judges.clone(),
            expose: mailbox().0,
            release: Slots::new(1).2,
            record,
        };
        let actuator = Actuator::new(
            settings(),
            (nothing.0, nothing.1, false),
            Pins::<Nowhere>::default(),
            received,
            outlets,
            shared.clone(),
            RealTime::default(),
        );
        let running = Running {
            recorder: spawn("recorder", || recorder(writer)).unwrap(),
            actuator: spawn("actuator", || actuator.run()).unwrap(),
            others: vec![],
            shared: shared.clone(),
            messages: messages.clone(),
            judges,
            adjust: sync_channel(1).0,
            adjustment: Adjustment::default(),
            patience: SILENCE,
        };
        messages.send(Message::Start).ok().unwrap();
        Line {
            shared,
            messages,
            jobs,
            waits: thread::spawn(|| running.wait(|_| ())),
        }
    }

    fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn results_alarm(&self) -> bool {
        let shown = self.shared.snapshot();
        let alarm = shown.alarms.contains(Alarm::Results);
        if shown.outputs.ready {
            assert_eq!(shown.outputs.fault, alarm);
        }
        alarm
    }

    fn order(&self, order: Order) {
        let (answer, answered) = sync_channel(1);
        let order = Message::Order(order, answer);
        self.messages.send(order).ok().unwrap();
        answered.recv().unwrap().unwrap();
    }

    /// Has parts pass until one more was found good and left as such.
    fn good_part(&self) {
        let good = |line: &Self| line.shared.snapshot().statistics.outcomes.good;
        let before = good(self);
        self.until("a good part", |line| {
            let frame = Frame {
                id: FrameId(0),
                exposed: now(),
                whole: true,
            };
            line.messages.send(Message::Frame(frame)).ok().unwrap();
            if let Ok(Job::Judge { part, .. }) = line.jobs.recv_timeout(LOOK) {
                let verdict = Message::Verdict {
                    part,
                    verdict: Verdict::Score(0.0),
                    score: Some(0.0),
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
    let line = Line::start(|_| panic!("on purpose"));
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
    let line = Line::start(move |recorder| {
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
