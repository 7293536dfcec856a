//! Each rule by example. Delay 50 ms, deadline 45 ms, width 10 ms; exposure 1 ms after the trigger.

use super::simulation::Simulation;
use crate::line::settings::*;
use crate::line::*;

pub const GOOD: f32 = 0.1;
pub const BAD: f32 = 0.9;

pub fn pairing() -> Pairing {
    Pairing::new(1_000, 1_000, 3_000).unwrap()
}

pub fn settings() -> Settings {
    Settings {
        trigger: Trigger::Edge {
            debounce: Debounce::new(500).unwrap(),
            pairing: pairing(),
        },
        threshold: Threshold::new(0.5).unwrap(),
        further_thresholds: [Threshold::new(0.5).unwrap(); 3],
        delay: RejectDelay::millis(50, 5).unwrap(),
        width: PulseWidth::new(10).unwrap(),
        wiring: Wiring::EnergiseForGood { confirm: None },
        strobe: None,
        alarms: AlarmSettings {
            consecutive: None,
            stop_on: AlarmSet::NONE,
            ..AlarmSettings::default()
        },
        default_lane: None,
    }
}

pub fn to_reject() -> Wiring {
    Wiring::EnergiseToReject {
        confirm: ConfirmWindow::new(100).unwrap(),
    }
}

/// A station that was started long ago.
pub fn started_with(settings: Settings) -> Simulation<8> {
    let mut line = Simulation::new(settings);
    line.at(0, |s, now| s.start(now));
    line.run_to(100_000);
    line
}

pub fn started() -> Simulation<8> {
    started_with(settings())
}

pub fn because(cause: Cause) -> Option<Outcome> {
    Some(Outcome::RejectBecause(cause))
}

#[test]
fn good_is_on_only_while_a_good_part_passes() {
    let mut line = started();
    line.part(100_000, GOOD);
    line.part(120_000, BAD);
    line.part(140_000, GOOD);
    line.run_to(300_000);
    assert_eq!(
        line.on(Signal::Good),
        [(150_000, 160_000), (190_000, 200_000)]
    );
    assert_eq!(line.on(Signal::Reject), []);
}

#[test]
fn overlapping_rejects_are_one_and_a_good_part_among_them_is_lost() {
    for wiring in [to_reject(), Wiring::default()] {
        let mut line = started_with(Settings {
            wiring,
            ..settings()
        });
        for (time, score) in [
            (100_000, BAD),
            (106_000, GOOD),
            (112_000, BAD),
            (140_000, BAD),
        ] {
            line.part(time, score);
        }
        line.run_to(300_000);
        let outcomes = [0, 1, 2, 3].map(|part| line.outcome(part));
        let reject = Some(Outcome::Reject);
        assert_eq!(outcomes, [reject, because(Cause::Unknown), reject, reject]);
        if wiring == to_reject() {
            // The first 60 ms are the start: whatever was on the belt then is rejected.
            let spans = [(0, 60_000), (150_000, 172_000), (190_000, 200_000)];
            assert_eq!(line.on(Signal::Reject)[0], spans[0]);
            assert_eq!(
                line.on(Signal::Reject)[1..],
                [(150_000, 160_000), (162_000, 172_000), spans[2]]
            );
        } else {
            // What is not known to pass whole does not pass.
            assert_eq!(line.on(Signal::Good), []);
        }
    }
    let mut line = started_with(Settings {
        wiring: to_reject(),
        ..settings()
    });
    for time in [100_000, 106_000, 116_000] {
        line.part(time, BAD);
    }
    line.run_to(300_000);
    assert_eq!(line.on(Signal::Reject)[1..], [(150_000, 176_000)]);
}

/// Pulses of 10 ms on a belt that brings a part every 8 ms.
#[test]
fn a_good_part_that_its_neighbours_reject_takes_along_is_not_good() {
    for wiring in [to_reject(), Wiring::default()] {
        let mut line = started_with(Settings {
            wiring,
            ..settings()
        });
        for i in 0..9 {
            let score = if i == 4 { BAD } else { GOOD };
            line.part(100_000 + 8_000 * i, score);
        }
        line.run_to(300_000);
        for part in 0..9 {
            let expected = match part {
                4 => Some(Outcome::Reject),
                3 | 5 => because(Cause::Unknown),
                _ => Some(Outcome::Good),
            };
            assert_eq!(line.outcome(part), expected, "part {part}");
        }
        match wiring {
            // It takes nobody along but those that its own pulse reaches.
            Wiring::EnergiseToReject { .. } => {
                assert_eq!(line.on(Signal::Reject)[1..], [(182_000, 192_000)]);
            }
            Wiring::EnergiseForGood { .. } => {
                assert_eq!(
                    line.on(Signal::Good),
                    [(150_000, 176_000), (198_000, 224_000)]
                );
            }
        }
    }
    // The same on a belt by counts.
    let mut line = started_with(Settings {
        wiring: to_reject(),
        ..by_counts(settings().trigger)
    });
    line.at(100_000, |s, now| s.on_encoder(1_000, now));
    line.at(110_000, |s, now| s.on_encoder(2_000, now));
    line.run_to(200_000);
    for (i, score) in [GOOD, BAD, GOOD, GOOD].into_iter().enumerate() {
        let i = i as u64;
        line.at(200_000 + 6_000 * i, |s, now| {
            s.on_encoder(2_000 + 60 * i, now)
        });
        line.part(200_000 + 6_000 * i, score);
    }
    for i in 0..4 {
        line.at(250_000 + 6_000 * i, |s, now| {
            s.on_encoder(2_500 + 60 * i, now)
        });
    }
    let outcomes = [0, 1, 2, 3].map(|part| line.outcome(part));
    let taken = because(Cause::Unknown);
    let good = Some(Outcome::Good);
    assert_eq!(outcomes, [taken, Some(Outcome::Reject), taken, good]);
}

#[test]
fn a_neighbour_that_was_judged_is_rejected_with_the_part_that_is_too_close() {
    let mut line = started();
    line.trigger(100_000, 100_000);
    line.frame(100_200, 100_100, true);
    assert_eq!(
        line.verdict(100_900, 0, Verdict::Score(GOOD)),
        VerdictUse::Taken
    );
    line.trigger(102_000, 102_000);
    line.run_to(300_000);
    assert_eq!(line.outcome(0), because(Cause::Unknown));
    assert_eq!(line.outcome(1), because(Cause::Unknown));
    assert_eq!(line.on(Signal::Good), []);
}

#[test]
fn parts_that_an_encoder_does_not_count_stop_the_line() {
    for counts in [0, 3] {
        let mut line = started_with(Settings {
            wiring: to_reject(),
            ..by_counts(settings().trigger)
        });
        for i in 0..counts {
            line.at(100_000 + i, |s, now| s.on_encoder(1_000 + 1_000 * i, now));
        }
        line.run_to(200_000);
        for i in 0..3 {
            line.part(200_000 + 20_000 * i, BAD);
        }
        assert!(
            !line.alarm(Alarm::Encoder),
            "the belt may have moved by less than a count"
        );
        line.trigger(260_000, 260_000);
        assert!(line.alarm(Alarm::Encoder));
        let outputs = line.station.outputs();
        assert!(outputs.line_stop && outputs.reject && outputs.fault && !outputs.ready);
        // Repaired.
        line.at(300_000, |s, now| s.on_encoder(10_000, now));
        line.at(310_000, |s, now| s.reset(now));
        assert!(!line.station.outputs().line_stop);
        for i in 0..5 {
            line.at(320_000 + 20_000 * i, |s, now| {
                s.on_encoder(10_100 + 100 * i, now)
            });
            line.part(321_000 + 20_000 * i, GOOD);
        }
        assert!(!line.alarm(Alarm::Encoder));
    }
}

/// A belt that stands brings parts, too, if they are triggered by time: some seconds of it are no fault.
#[test]
fn parts_by_time_that_an_encoder_does_not_count_for_long_stop_the_line() {
    let second = 1_000_000;
    let interval = Trigger::Interval(Interval::new(1_000, pairing()).unwrap());
    for trigger in [Trigger::FreeRun, interval] {
        let mut line = started_with(Settings {
            wiring: to_reject(),
            ..by_counts(trigger)
        });
        let mut count = 1_000;
        let mut time = second;
        let mut pass = |line: &mut Simulation<8>, seconds: u64, moves: bool| {
            for _ in 0..seconds {
                if moves {
                    count += 600;
                    line.at(time, |s, now| s.on_encoder(count, now));
                }
                if trigger == Trigger::FreeRun {
                    line.frame(time + 10, time + 10, true);
                }
                time += second;
                line.run_to(time - 1);
            }
        };
        pass(&mut line, 3, true);
        pass(&mut line, 9, false);
        assert!(!line.alarm(Alarm::Encoder), "{trigger:?}: it may stand");
        pass(&mut line, 1, true);
        pass(&mut line, 9, false);
        assert!(!line.alarm(Alarm::Encoder), "{trigger:?}: it has moved");
        pass(&mut line, 2, false);
        assert!(line.alarm(Alarm::Encoder), "{trigger:?}");
        let outputs = line.station.outputs();
        assert!(outputs.line_stop && outputs.reject && outputs.fault && !outputs.ready);
        // The line is stopped: the belt stands, and nothing is wrong with that.
        let now = line.now;
        line.at(now, |s, now| s.reset(now));
        line.at(now, |s, now| s.stop(now));
        pass(&mut line, 30, false);
        assert!(
            line.station.alarms().is_empty(),
            "{trigger:?}: {:?}",
            line.station.alarms()
        );
    }
}

/// An encoder that triggers and breaks makes no parts: which cannot be distinguished from a belt that stands.
#[test]
fn an_encoder_that_triggers_and_breaks_makes_no_parts() {
    let trigger = Trigger::Encoder {
        pitch: Pitch::new(200).unwrap(),
        pairing: pairing(),
    };
    let mut line = started_with(Settings {
        wiring: to_reject(),
        ..by_counts(trigger)
    });
    // 64 parts at once are no standing belt.
    line.at(100_000, |s, now| s.on_encoder(1_000, now));
    line.at(110_000, |s, now| s.on_encoder(1_000 + 64 * 200, now));
    assert!(!line.alarm(Alarm::Encoder));
    let parts = line.station.statistics().next_part;
    line.run_to(60_000_000);
    line.frame(60_000_010, 60_000_000, true);
    line.run_to(61_000_000);
    assert_eq!(line.station.statistics().next_part, parts);
    assert_eq!(line.station.statistics().frames.unpaired, 1);
}

#[test]
fn a_reset_that_is_stuck_at_the_start_acknowledges_nothing() {
    let mut line = Simulation::<8>::new(Settings {
        alarms: AlarmSettings::default(),
        ..settings()
    });
    let left = AlarmSet::of(&[Alarm::BinFull]);
    line.at(0, |s, now| s.latch(left, now));
    line.input(10, Input::Reset, true);
    line.at(20, |s, now| s.start(now));
    line.input(1_000, Input::Reset, true);
    assert_eq!(line.station.alarms(), left);
    assert!(line.station.outputs().line_stop);
    line.input(2_000, Input::Reset, false);
    line.input(3_000, Input::Reset, true);
    assert!(line.station.alarms().is_empty() && !line.station.outputs().line_stop);
}

#[test]
fn a_verdict_counts_until_its_deadline() {
    for (verdict, used, outcome) in [
        (144_999, VerdictUse::Taken, Outcome::Good),
        (
            145_000,
            VerdictUse::Late,
            Outcome::RejectBecause(Cause::Late),
        ),
        (
            170_000,
            VerdictUse::Late,
            Outcome::RejectBecause(Cause::Late),
        ),
    ] {
        let mut line = started();
        line.trigger(100_000, 100_000);
        line.frame(102_000, 101_000, true);
        assert_eq!(line.verdict(verdict, 0, Verdict::Score(GOOD)), used);
        line.run_to(300_000);
        assert_eq!(line.outcome(0), Some(outcome));
        assert_eq!(
            line.on(Signal::Good).len(),
            usize::from(outcome == Outcome::Good)
        );
        let counts = line.station.statistics().verdicts;
        assert_eq!(
            (counts.taken, counts.late),
            match used {
                VerdictUse::Taken => (1, 0),
                _ => (0, 1),
            }
        );
    }
}

#[test]
fn repeated_and_unknown_verdicts_change_nothing() {
    let mut line = started();
    line.part(100_000, BAD);
    assert_eq!(
        line.verdict(106_000, 0, Verdict::Score(GOOD)),
        VerdictUse::Duplicate
    );
    assert_eq!(
        line.verdict(106_000, 1, Verdict::Score(GOOD)),
        VerdictUse::Unknown
    );
    line.trigger(110_000, 110_000);
    assert_eq!(
        line.verdict(111_000, 1, Verdict::Score(GOOD)),
        VerdictUse::Unknown
    );
    line.run_to(300_000);
    assert_eq!(line.outcome(0), Some(Outcome::Reject));
    assert_eq!(line.outcome(1), because(Cause::NoFrame));
    assert_eq!(line.station.statistics().triggers.unpaired, 1);
    assert_eq!(line.on(Signal::Good), []);
}

#[test]
fn without_a_usable_picture_or_number_a_part_is_rejected() {
    let mut line = started();
    line.trigger(100_000, 100_000);
    line.frame(102_000, 101_000, false);
    line.trigger(110_000, 110_000);
    line.frame(112_000, 111_000, true);
    line.verdict(115_000, 1, Verdict::Error);
    line.part(120_000, f32::NAN);
    line.run_to(300_000);
    assert_eq!(line.outcome(0), because(Cause::CameraFault));
    assert_eq!(line.outcome(1), because(Cause::InferenceError));
    assert_eq!(line.outcome(2), Some(Outcome::Reject));
    assert_eq!(line.station.statistics().frames.damaged, 1);
}

#[test]
fn a_frame_may_be_reported_before_its_trigger() {
    let mut line = started();
    let frame = line.frame(102_000, 101_000, true);
    line.trigger(103_000, 100_000);
    assert_eq!(line.frames[&frame].part, Some(0));
    let stray = line.frame(110_000, 109_000, true);
    line.run_to(300_000);
    assert_eq!(
        (line.frames[&stray].part, line.frames[&stray].dropped),
        (None, 1)
    );
    assert_eq!(line.station.statistics().frames.unpaired, 1);
}

#[test]
fn bounces_are_no_parts_and_parts_too_close_are_both_rejected() {
    let mut line = started();
    line.trigger(100_000, 100_000);
    line.frame(100_200, 100_100, true);
    line.trigger(100_400, 100_400);
    line.trigger(102_000, 102_000);
    assert_eq!(
        line.verdict(102_500, 0, Verdict::Score(GOOD)),
        VerdictUse::Ignored
    );
    line.run_to(300_000);
    assert_eq!(line.outcome(0), because(Cause::Unknown));
    assert_eq!(line.outcome(1), because(Cause::Unknown));
    assert_eq!(line.outcome(2), None);
    let errors = line.station.statistics().triggers;
    assert_eq!((errors.bounced, errors.too_close), (1, 1));
}

#[test]
fn what_finds_the_queue_full_is_rejected_in_its_place() {
    let mut line = started_with(Settings {
        wiring: to_reject(),
        ..settings()
    });
    for i in 0..10 {
        line.part_or_overflow(100_000 + 4_000 * i);
    }
    line.run_to(400_000);
    for part in 0..5 {
        assert_eq!(line.outcome(part), Some(Outcome::Good), "{part}");
    }
    // The block's pulse takes them along.
    for part in 5..7 {
        assert_eq!(line.outcome(part), because(Cause::Unknown), "{part}");
    }
    for part in 7..10 {
        assert_eq!(line.outcome(part), because(Cause::QueueFull), "{part}");
    }
    // From the first of them to the end of the last.
    assert_eq!(line.on(Signal::Reject)[1..], [(178_000, 196_000)]);
    assert!(line.alarm(Alarm::QueueFull));
    assert_eq!(
        line.verdict(400_000, 8, Verdict::Score(GOOD)),
        VerdictUse::Late
    );
}

impl Simulation<8> {
    fn part_or_overflow(&mut self, time: u64) {
        self.trigger(time, time);
        let id = self.frame(time + 1_000, time + 1_000, true);
        if let Some(part) = self.frames[&id].part {
            self.verdict(time + 2_000, part, Verdict::Score(GOOD));
        }
    }
}

#[test]
fn before_the_start_and_until_its_belt_has_passed_everything_is_rejected() {
    for wiring in [to_reject(), Wiring::default()] {
        let mut line: Simulation<8> = Simulation::new(Settings {
            wiring,
            ..settings()
        });
        line.trigger(10_000, 10_000);
        line.at(100_000, |s, now| s.start(now));
        let outputs = line.station.outputs();
        assert!(outputs.ready && outputs.reject == (wiring == to_reject()));
        line.part(100_000, GOOD);
        line.part(120_000, GOOD);
        line.run_to(300_000);
        assert_eq!(line.outcome(0), because(Cause::NotReady));
        assert_eq!(line.outcome(1), because(Cause::NotReady));
        assert_eq!(line.outcome(2), Some(Outcome::Good));
        match wiring {
            Wiring::EnergiseForGood { .. } => {
                assert_eq!(line.on(Signal::Good), [(170_000, 180_000)]);
            }
            Wiring::EnergiseToReject { .. } => {
                assert_eq!(line.on(Signal::Reject), [(0, 160_000)]);
            }
        }
    }
}

#[test]
fn a_stop_rejects_what_is_on_the_belt_and_lasts_until_reset() {
    let mut line = started();
    line.part(100_000, GOOD);
    line.part(110_000, BAD);
    line.input(120_000, Input::Stop, true);
    let outputs = line.station.outputs();
    assert!(outputs.line_stop && !outputs.ready && !outputs.busy && !outputs.result);
    line.input(129_000, Input::Reset, false);
    line.input(130_000, Input::Reset, true);
    line.input(131_000, Input::Reset, false);
    assert!(line.station.outputs().line_stop, "stop is still pressed");
    line.input(140_000, Input::Stop, false);
    assert!(line.station.outputs().line_stop, "stop was not reset");
    line.input(200_000, Input::Reset, true);
    assert!(line.station.outputs().ready && !line.station.outputs().line_stop);
    line.part(210_000, GOOD);
    line.run_to(400_000);
    assert_eq!(line.outcome(0), because(Cause::NotReady));
    assert_eq!(line.outcome(1), Some(Outcome::Reject));
    assert_eq!(line.outcome(2), Some(Outcome::Good));
    assert_eq!(line.on(Signal::Good), [(260_000, 270_000)]);
}

#[test]
fn a_frame_that_shows_nothing_rejects_its_part_and_raises_its_own_alarm() {
    for (flaw, alarm) in [
        (Cause::NothingVisible, Some(Alarm::NothingVisible)),
        (Cause::Frozen, Some(Alarm::Frozen)),
        (Cause::Light, Some(Alarm::Light)),
        (Cause::Overload, None),
    ] {
        let mut stop = settings();
        stop.alarms.stop_on = AlarmSet::DEFAULT_STOP;
        let mut line = started_with(stop);
        line.trigger(100_000, 100_000);
        line.frame_with(102_000, 101_000, Some(flaw));
        line.part(120_000, GOOD);
        line.run_to(300_000);
        assert_eq!(line.outcome(0), because(flaw));
        assert_eq!(line.outcome(1), Some(Outcome::Good), "{flaw:?}");
        let outcomes = line.station.statistics().outcomes;
        assert_eq!(outcomes.failed[flaw as usize], 1);
        let raised = AlarmSet::of(alarm.as_slice());
        assert_eq!(line.station.alarms(), raised);
        assert!(!line.station.outputs().line_stop, "{flaw:?}");
    }
}

#[test]
fn a_line_that_drifts_says_so_and_goes_on() {
    let mut stop = settings();
    stop.alarms.stop_on = AlarmSet::DEFAULT_STOP;
    let mut line = started_with(stop);
    line.at(100_000, |s, now| s.on_drift(now));
    line.part(120_000, GOOD);
    line.run_to(300_000);
    assert_eq!(line.outcome(0), Some(Outcome::Good));
    assert_eq!(line.station.alarms(), AlarmSet::of(&[Alarm::Drift]));
    let outputs = line.station.outputs();
    assert!(outputs.fault && !outputs.line_stop);
    line.at(310_000, |s, now| s.reset(now));
    assert!(line.station.alarms().is_empty() && !line.station.outputs().fault);
}

#[test]
fn a_dark_camera_does_not_count_as_rejects_in_a_row() {
    let mut line = started();
    for i in 0..5 {
        let at = 100_000 + 20_000 * i;
        line.trigger(at, at);
        line.frame_with(at + 2000, at + 1000, Some(Cause::NothingVisible));
    }
    line.run_to(400_000);
    assert!(line.alarm(Alarm::NothingVisible) && !line.alarm(Alarm::ConsecutiveRejects));
}

#[test]
fn while_the_camera_is_down_parts_are_rejected_one_by_one() {
    let mut line = started();
    line.part(100_000, GOOD);
    line.trigger(120_000, 120_000);
    line.at(121_000, |s, now| s.on_camera(View::FIRST, false, now));
    let outputs = line.station.outputs();
    assert!(outputs.fault && !outputs.ready && !outputs.line_stop && !outputs.busy);
    line.trigger(140_000, 140_000);
    line.at(160_000, |s, now| s.on_camera(View::FIRST, true, now));
    line.part(161_000, GOOD);
    line.run_to(300_000);
    for part in 0..3 {
        assert_eq!(line.outcome(part), because(Cause::CameraFault), "{part}");
    }
    assert_eq!(line.outcome(3), Some(Outcome::Good));
    let outputs = line.station.outputs();
    assert!(outputs.ready && outputs.fault, "the alarm is latched");
    line.at(300_000, |s, now| s.reset(now));
    assert!(!line.station.outputs().fault);
}

#[test]
fn in_free_run_every_frame_is_a_part() {
    let mut line = started_with(Settings {
        trigger: Trigger::FreeRun,
        ..settings()
    });
    let frame = line.frame(102_000, 100_000, true);
    assert_eq!(line.frames[&frame].part, Some(0));
    line.verdict(110_000, 0, Verdict::Score(GOOD));
    line.frame(112_000, 110_000, false);
    // Reported out of order: where it belongs is not known.
    line.frame(113_000, 105_000, true);
    line.trigger(114_000, 114_000);
    line.run_to(250_000);
    assert_eq!(line.outcome(0), Some(Outcome::Good));
    assert_eq!(line.outcome(1), because(Cause::CameraFault));
    assert_eq!(line.outcome(2), because(Cause::Unknown));
    assert_eq!(line.outcome(3), None);
    assert_eq!(line.on(Signal::Good), [(150_000, 160_000)]);
    assert_eq!(line.station.statistics().triggers.unexpected, 1);
    // What passed a camera that is down was not seen: it is flushed.
    line.at(250_000, |s, now| s.on_camera(View::FIRST, false, now));
    line.at(260_000, |s, now| s.on_camera(View::FIRST, true, now));
    line.frame(262_000, 261_000, true);
    line.verdict(265_000, 3, Verdict::Score(GOOD));
    line.run_to(400_000);
    assert_eq!(line.outcome(3), because(Cause::CameraFault));
}

#[test]
fn an_interval_triggers_and_strobes_by_itself() {
    let interval = Interval::new(20, pairing()).unwrap();
    let mut line = started_with(Settings {
        trigger: Trigger::Interval(interval),
        strobe: Some(StrobeWidth::new(500).unwrap()),
        ..settings()
    });
    assert_eq!(
        line.on(Signal::Strobe)[..2],
        [(20_000, 20_500), (40_000, 40_500)]
    );
    line.frame(102_000, 101_000, true);
    line.verdict(103_000, 4, Verdict::Score(GOOD));
    line.run_to(160_000);
    assert_eq!(line.outcome(4), Some(Outcome::Good));
    // A call that comes 70 ms late: three moments were missed, the fourth is triggered.
    line.lateness = Box::new(|| 70_000);
    line.run_to(260_000);
    line.lateness = Box::new(|| 0);
    line.run_to(400_000);
    assert_eq!(line.station.statistics().triggers.skipped, 3);
    line.at(500_000, |s, now| s.stop(now));
    let parts = line.station.statistics().next_part;
    line.run_to(900_000);
    assert_eq!(
        line.station.statistics().next_part,
        parts,
        "a belt that stands brings no parts"
    );
}

fn by_counts(trigger: Trigger) -> Settings {
    Settings {
        trigger,
        delay: RejectDelay::counts(500, 50).unwrap(),
        ..settings()
    }
}

#[test]
fn with_an_encoder_parts_move_with_the_belt() {
    let mut line = started_with(by_counts(settings().trigger));
    line.at(100_000, |s, now| s.on_encoder(7_000, now));
    line.at(101_000, |s, now| s.on_encoder(8_000, now));
    line.run_to(200_000);
    line.part(200_000, GOOD);
    line.at(300_000, |s, now| s.on_encoder(8_449, now));
    line.at(301_000, |s, now| s.on_encoder(8_440, now));
    line.part(310_000, GOOD);
    line.at(5_000_000, |s, now| s.on_encoder(8_499, now));
    assert!(line.on(Signal::Good).is_empty(), "it has not arrived");
    line.at(5_001_000, |s, now| s.on_encoder(8_501, now));
    line.run_to(6_000_000);
    assert_eq!(line.on(Signal::Good), [(5_001_000, 5_011_000)]);
    line.at(6_000_000, |s, now| s.on_encoder(8_948, now));
    assert_eq!(line.outcome(0), Some(Outcome::Good));
    assert_eq!(line.outcome(1), None);
    line.at(6_001_000, |s, now| s.on_encoder(8_949, now));
    assert_eq!(
        line.outcome(1),
        Some(Outcome::Good),
        "the belt's furthest count counts"
    );
    assert_eq!(line.station.statistics().encoder_reversals, 1);
}

#[test]
fn an_encoder_triggers_by_pitch() {
    let trigger = Trigger::Encoder {
        pitch: Pitch::new(100).unwrap(),
        pairing: pairing(),
    };
    let mut line = started_with(by_counts(trigger));
    line.at(100_000, |s, now| s.on_encoder(1_000, now));
    for (time, count) in [
        (110_000, 1_099),
        (120_000, 1_100),
        (121_000, 1_095),
        (122_000, 1_105),
    ] {
        line.at(time, |s, now| s.on_encoder(count, now));
    }
    assert_eq!(line.station.statistics().next_part, PartId(1));
    line.at(130_000, |s, now| s.on_encoder(1_210, now));
    let due = line.events().iter().filter_map(|(_, e)| match e {
        Event::Triggered { due, .. } => Some(due.0),
        _ => None,
    });
    assert_eq!(due.collect::<Vec<_>>(), [1_600, 1_700]);
    // A jump over three pitches: no frame distinguishes these parts.
    line.at(140_000, |s, now| s.on_encoder(1_500, now));
    assert_eq!(line.station.statistics().next_part, PartId(5));
    assert_eq!(line.station.statistics().triggers.too_close, 2);
    assert!(!line.alarm(Alarm::Overrun));
    line.at(150_000, |s, now| s.on_encoder(101_500, now));
    assert!(line.alarm(Alarm::Overrun));
    assert_eq!(line.station.statistics().triggers.skipped, 1000 - 64);
    line.at(160_000, |s, now| s.on_encoder(101_600, now));
    assert_eq!(line.station.statistics().next_part, PartId(70));
}

#[test]
fn a_reject_that_comes_after_its_part_is_an_alarm() {
    let mut line = started_with(Settings {
        wiring: to_reject(),
        ..settings()
    });
    line.part(100_000, BAD);
    line.lateness = Box::new(|| 20_000);
    line.run_to(170_000);
    assert!(line.alarm(Alarm::Overrun));
    assert_eq!(line.station.statistics().actuated_late, 1);
    line.lateness = Box::new(|| 0);
    line.run_to(300_000);
    assert_eq!(
        line.on(Signal::Reject)[1..],
        [(170_000, 180_000)],
        "its full width all the same"
    );
}

#[test]
fn the_end_gives_every_part_its_outcome_and_numbers_go_on() {
    let mut line = started();
    line.part(100_000, GOOD);
    line.part(110_000, BAD);
    line.trigger(120_000, 120_000);
    let (statistics, log) = line.station.finish(Micros(130_000));
    assert_eq!(statistics.outcomes.parts, 3);
    assert_eq!(
        (statistics.outcomes.good, statistics.outcomes.rejects),
        (0, 1)
    );
    let reported = log
        .0
        .iter()
        .filter(|(_, e)| matches!(e, Event::Outcome { .. }));
    assert_eq!(reported.count(), 3);
    let mut next: Station<_> = Station::new(settings(), statistics, |_, _| ());
    next.on_trigger(Micros(1), Micros(1));
    assert_eq!(next.statistics().next_part, PartId(4));
}

#[test]
fn nonsense_cannot_be_set() {
    assert!(PulseWidth::new(0).is_err() && PulseWidth::new(10_001).is_err());
    assert!(ConfirmWindow::new(99).is_err() && ConfirmWindow::new(9_901).is_err());
    assert_eq!(
        RejectDelay::millis(10, 11),
        Err(SettingError::LeadExceedsDelay)
    );
    assert!(RejectDelay::millis(10_001, 0).is_err() && RejectDelay::millis(10_000, 0).is_ok());
    assert!(Threshold::new(f32::NAN).is_err() && Threshold::new(1.1).is_err());
    assert!(RejectRate::new(9, 50).is_err() && RejectRate::new(10, 100).is_err());
    let below = Interval::new(2, pairing());
    assert_eq!(below, Err(SettingError::IntervalBelowSpacing));
    let error = PulseWidth::new(0).unwrap_err().to_string();
    assert_eq!(error, "pulse width (ms) = 0 is not in 1..10000");
}

#[test]
fn a_station_that_drains_makes_no_more_parts() {
    let interval = Trigger::Interval(Interval::new(20, pairing()).unwrap());
    for trigger in [interval, settings().trigger] {
        let mut line = started_with(Settings {
            trigger,
            ..settings()
        });
        line.at(110_000, |s, now| s.on_trigger(now, now));
        line.at(130_000, |s, now| s.drain(now));
        let parts = line.station.statistics().next_part.0;
        assert!(parts > 0);
        // Nor after a stop, nor when it is asked to.
        line.at(140_000, |s, now| s.stop(now));
        line.at(150_000, |s, now| s.reset(now));
        line.at(160_000, |s, now| s.on_trigger(now, now));
        line.run_to(900_000);
        let statistics = line.station.statistics();
        assert_eq!(statistics.next_part.0, parts);
        assert_eq!(statistics.outcomes.parts, parts, "those on the belt pass");
    }
}

#[test]
fn alarms_of_an_earlier_run_stay_latched_and_stop_the_line_until_reset() {
    let mut line = Simulation::<8>::new(Settings {
        alarms: AlarmSettings::default(),
        ..settings()
    });
    let left = AlarmSet::of(&[Alarm::BinFull, Alarm::Latency]);
    line.at(0, |s, now| s.latch(left, now));
    line.at(0, |s, now| s.start(now));
    assert_eq!(line.station.alarms(), left);
    assert!(line.station.outputs().line_stop && line.station.outputs().fault);
    line.at(1_000, |s, now| s.reset(now));
    assert!(line.station.alarms().is_empty() && !line.station.outputs().line_stop);
}

#[test]
fn a_new_threshold_judges_later_verdicts_only() {
    let mut line = started();
    line.part(100_000, 0.4);
    line.at(106_000, |s, _| {
        s.set_threshold(View::FIRST, Threshold::new(0.3).unwrap())
    });
    line.part(110_000, 0.4);
    line.run_to(300_000);
    assert_eq!(line.outcome(0), Some(Outcome::Good));
    assert_eq!(line.outcome(1), Some(Outcome::Reject));
}

#[test]
fn part_numbers_go_on_when_the_counters_are_reset() {
    let mut line = started();
    line.part(100_000, BAD);
    line.run_to(200_000);
    line.at(200_000, |s, _| s.reset_counters());
    assert_eq!(line.part(210_000, GOOD), 1);
    line.run_to(300_000);
    let outcomes = line.station.statistics().outcomes;
    assert_eq!((outcomes.parts, outcomes.good), (1, 1));
}

#[test]
fn a_damaged_frame_is_dropped_with_the_part_it_shows() {
    let mut line = started();
    line.trigger(100_000, 100_000);
    let damaged = line.frame(102_000, 101_000, false);
    let stray = line.frame(110_000, 109_000, true);
    line.run_to(300_000);
    let dropped: Vec<_> = line
        .events()
        .iter()
        .filter_map(|(_, e)| match e {
            Event::Dropped { frame, part } => Some((frame.0, part.map(|p| p.0))),
            _ => None,
        })
        .collect();
    assert_eq!(dropped, [(damaged, Some(0)), (stray, None)]);
}

#[test]
fn a_good_part_whose_output_comes_after_it_was_ejected_and_counts_as_such() {
    let mut line = started();
    line.part(100_000, GOOD);
    line.lateness = Box::new(|| 20_000);
    line.run_to(170_000);
    assert_eq!(line.outcome(0), because(Cause::Late));
    assert!(line.alarm(Alarm::Overrun) && line.on(Signal::Good).is_empty());
    // Wired to reject, a good part needs no output.
    let mut line = started_with(Settings {
        wiring: to_reject(),
        ..settings()
    });
    line.part(100_000, GOOD);
    line.lateness = Box::new(|| 20_000);
    line.run_to(170_000);
    assert_eq!(line.outcome(0), Some(Outcome::Good));
}

#[test]
fn a_reject_that_starts_when_half_its_part_has_passed_is_an_alarm() {
    for wiring in [Wiring::default(), to_reject()] {
        for (late, alarm) in [(4_999, false), (5_000, true)] {
            let mut line = started_with(Settings {
                wiring,
                ..settings()
            });
            line.part(100_000, BAD);
            line.lateness = Box::new(move || late);
            line.run_to(170_000);
            assert_eq!(line.alarm(Alarm::Overrun), alarm, "{wiring:?}, {late} us");
        }
    }
}
