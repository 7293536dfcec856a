//! What the machine around the station says, alarms and challenges, by example. Settings as in `rules`.

use super::rules::{BAD, GOOD, because, settings, started, started_with, to_reject};
use super::simulation::Simulation;
use crate::line::settings::*;
use crate::line::*;

#[test]
fn rejects_must_be_seen_in_the_bin() {
    let mut line = started_with(Settings {
        wiring: to_reject(),
        ..settings()
    });
    line.part(100_000, BAD);
    line.input(200_000, Input::RejectConfirm, true);
    line.input(200_100, Input::RejectConfirm, true);
    line.input(201_000, Input::RejectConfirm, false);
    line.run_to(400_000);
    assert!(!line.alarm(Alarm::RejectUnconfirmed));
    line.input(400_000, Input::RejectConfirm, true);
    line.input(401_000, Input::RejectConfirm, false);
    line.part(500_000, BAD);
    line.run_to(650_000);
    assert!(!line.alarm(Alarm::RejectUnconfirmed));
    line.run_to(650_001);
    assert!(line.alarm(Alarm::RejectUnconfirmed));
    let counts = line.station.statistics().confirms;
    assert_eq!(
        (counts.confirmed, counts.missing, counts.unexpected),
        (1, 1, 1)
    );
}

#[test]
fn bins_and_air_raise_alarms_that_reset_cannot_clear_while_they_last() {
    for (input, alarm, lasting) in [
        (Input::BinFull, Alarm::BinFull, 4_000_000),
        (Input::BinOpen, Alarm::BinOpen, 20_000_000),
        (Input::LowAir, Alarm::LowAir, 0),
    ] {
        let mut stop = settings();
        stop.alarms.stop_on = AlarmSet::DEFAULT_STOP;
        let mut line = started_with(stop);
        if lasting > 0 {
            line.input(100_000, input, true);
            line.input(200_000, input, false);
            line.input(300_000, input, true);
            line.run_to(300_000 + lasting - 1);
            assert!(!line.alarm(alarm) && !line.station.outputs().line_stop);
        } else {
            line.input(300_000, input, true);
        }
        let then = 300_000 + lasting;
        line.run_to(then);
        assert!(line.alarm(alarm) && line.station.outputs().line_stop);
        line.at(then + 1, |s, now| s.reset(now));
        assert!(
            line.alarm(alarm) && line.station.outputs().line_stop,
            "its reason lasts"
        );
        line.input(then + 2, input, false);
        assert!(line.alarm(alarm) && line.station.outputs().fault, "latched");
        line.at(then + 3, |s, now| s.reset(now));
        assert!(!line.alarm(alarm) && line.station.outputs().ready);
    }
}

#[test]
fn rejects_in_a_row_and_long_latency_raise_alarms() {
    let mut many = settings();
    many.alarms = AlarmSettings {
        latency: Some(LatencyLimit::new(20).unwrap()),
        ..AlarmSettings::default()
    };
    let mut line = started_with(many);
    for (i, score) in [BAD, BAD, GOOD, BAD, BAD].into_iter().enumerate() {
        line.part(100_000 + 20_000 * i as u64, score);
    }
    line.run_to(300_000);
    assert!(line.station.alarms().is_empty());
    line.trigger(300_000, 300_000);
    line.frame(301_000, 301_000, true);
    line.verdict(320_001, 5, Verdict::Score(BAD));
    assert!(line.alarm(Alarm::Latency) && !line.station.outputs().line_stop);
    line.run_to(400_000);
    assert!(line.alarm(Alarm::ConsecutiveRejects) && line.station.outputs().line_stop);
    let latency = line.station.statistics().latency;
    assert_eq!(
        (latency.count, latency.min_us, latency.max_us),
        (6, 5_000, 20_001)
    );
}

/// Who waits until `busy` goes off and then reads `result` must not take two parts for one good one.
#[test]
fn the_result_is_good_only_if_every_part_of_a_busy_time_is() {
    let result =
        |line: &Simulation<8>| (line.station.outputs().busy, line.station.outputs().result);
    let mut line = started();
    line.part(100_000, GOOD);
    assert_eq!(result(&line), (false, true));
    // A good part, and behind it one that nothing can be seen of, or that gets no verdict.
    for (i, late) in [false, true].into_iter().enumerate() {
        let (at, part) = (1_000_000 * (1 + i as u64), 1 + 2 * i as u64);
        line.trigger(at, at);
        line.trigger(at + 20_000, at + 20_000);
        assert_eq!(result(&line), (true, false));
        line.frame(at + 1_000, at + 1_000, true);
        line.verdict(at + 21_000, part, Verdict::Score(GOOD));
        line.frame(at + 21_500, at + 21_000, late);
        if late {
            assert_eq!(
                result(&line),
                (true, true),
                "of the first, while the second is open"
            );
        }
        line.run_to(at + 200_000);
        assert_eq!(result(&line), (false, false), "late: {late}");
        assert_eq!(line.outcome(part), Some(Outcome::Good));
    }
    // A reject, and behind it a good part.
    line.trigger(4_000_000, 4_000_000);
    line.frame(4_002_000, 4_001_000, true);
    line.trigger(4_020_000, 4_020_000);
    line.frame(4_022_000, 4_021_000, true);
    line.verdict(4_022_500, 5, Verdict::Score(BAD));
    line.verdict(4_023_000, 6, Verdict::Score(GOOD));
    assert_eq!(result(&line), (false, false));
    line.part(5_000_000, GOOD);
    assert_eq!(result(&line), (false, true), "the next busy time");
}

/// The slowest verdicts are those that come when their part has left.
#[test]
fn a_verdict_that_comes_too_late_counts_for_the_latency() {
    let mut slow = settings();
    slow.alarms.latency = Some(LatencyLimit::new(20).unwrap());
    let mut line = started_with(slow);
    line.trigger(100_000, 100_000);
    line.frame(101_000, 101_000, true);
    line.run_to(900_000);
    assert_eq!(line.outcome(0), because(Cause::Late));
    assert!(!line.alarm(Alarm::Latency));
    line.verdict(900_000, 0, Verdict::Score(GOOD));
    let latency = line.station.statistics().latency;
    assert_eq!((latency.count, latency.max_us), (1, 800_000));
    assert!(line.alarm(Alarm::Latency));
}

#[test]
fn a_challenge_passes_only_if_every_piece_is_rejected_by_its_verdict() {
    let two = Pieces::new(2).unwrap();
    let mut line = started();
    line.at(100_000, |s, now| s.challenge(two, now)).unwrap();
    let again = line.at(100_000, |s, now| s.challenge(two, now));
    assert_eq!(again, Err(ChallengeError::Running));
    line.part(100_000, BAD);
    line.part(110_000, BAD);
    line.part(120_000, GOOD);
    line.run_to(300_000);
    assert!(line.station.challenge_report().unwrap().passed());
    assert!(line.station.outputs().ready);
    assert_eq!(line.outcome(2), Some(Outcome::Good));

    line.at(300_000, |s, now| s.challenge(two, now)).unwrap();
    line.part(300_000, GOOD);
    line.run_to(500_000);
    assert_eq!(
        line.outcome(3),
        because(Cause::Challenge),
        "a test piece never passes as good"
    );
    let report = line.station.challenge_report().unwrap();
    assert!(report.is_over() && !report.passed());
    assert_eq!((report.missed, report.not_judged), (1, 1));
    assert!(line.alarm(Alarm::Challenge) && line.station.outputs().line_stop);
    let refused = line.at(500_000, |s, now| s.challenge(two, now));
    assert_eq!(refused, Err(ChallengeError::NotReady));
    assert_eq!(line.on(Signal::Good), [(170_000, 180_000)]);
}

#[test]
fn a_test_piece_that_arrives_as_the_line_stops_is_counted_once_and_fails() {
    let mut stop = settings();
    stop.alarms.stop_on = AlarmSet::DEFAULT_STOP;
    let mut line = started_with(stop);
    let one = Pieces::new(1).unwrap();
    line.at(100_000, |s, now| s.challenge(one, now)).unwrap();
    line.part(100_000, BAD);
    // Its own verdict rejects it, when half of it has passed: for that the line stops.
    line.lateness = Box::new(|| 5_000);
    line.run_to(300_000);
    assert!(line.alarm(Alarm::Overrun) && line.station.outputs().line_stop);
    let reports = line.events().iter().filter_map(|(_, e)| match e {
        Event::Challenge(report) => Some(*report),
        _ => None,
    });
    let [report] = reports.collect::<Vec<_>>()[..] else {
        panic!("told more than once, or never");
    };
    assert!(report.is_over() && !report.passed());
    assert_eq!(report.detected + report.missed + report.not_judged, 1);
}

/// The same line, other settings, now.
fn renew(line: &mut super::simulation::Simulation<8>, settings: Settings) {
    line.renew(line.now, settings);
}

#[test]
fn new_settings_do_not_forget_what_the_machine_says() {
    let mut stop = settings();
    stop.alarms.stop_on = AlarmSet::DEFAULT_STOP;
    let other = Settings {
        width: PulseWidth::new(11).unwrap(),
        ..stop
    };
    for input in [Input::Stop, Input::BinFull, Input::BinOpen, Input::LowAir] {
        let mut line = started_with(stop);
        line.input(200_000, input, true);
        line.run_to(30_000_000);
        assert!(line.station.outputs().line_stop, "{input:?}");
        renew(&mut line, other);
        line.at(30_100_000, |s, now| s.reset(now));
        assert!(line.station.outputs().line_stop, "{input:?} lasts");
        line.input(30_200_000, input, false);
        line.at(30_300_000, |s, now| s.reset(now));
        assert!(line.station.outputs().ready, "{input:?} is over");
    }
}

#[test]
fn results_that_are_not_written_are_an_alarm_and_the_line_goes_on() {
    let mut stop = settings();
    stop.alarms.stop_on = AlarmSet::DEFAULT_STOP;
    let other = Settings {
        width: PulseWidth::new(11).unwrap(),
        ..stop
    };
    let mut line = started_with(stop);
    line.at(100_000, |s, now| s.on_results(false, now));
    renew(&mut line, other);
    line.at(300_000, |s, now| s.reset(now));
    let outputs = line.station.outputs();
    assert!(line.alarm(Alarm::Results), "its reason lasts");
    assert!(outputs.fault && outputs.ready && !outputs.line_stop);
    line.at(400_000, |s, now| s.on_results(true, now));
    assert!(line.alarm(Alarm::Results), "latched");
    line.at(500_000, |s, now| s.reset(now));
    assert!(!line.alarm(Alarm::Results) && !line.station.outputs().fault);
}

#[test]
fn a_part_placed_by_a_longer_delay_is_rejected_where_it_is() {
    let long = Settings {
        wiring: to_reject(),
        delay: RejectDelay::millis(2000, 5).unwrap(),
        ..settings()
    };
    let short = Settings {
        delay: RejectDelay::millis(100, 5).unwrap(),
        ..long
    };
    let mut line = started_with(long);
    line.part(3_000_000, BAD);
    line.run_to(3_100_000);
    renew(&mut line, short);
    // The belt stands still for a second.
    line.at(3_200_000, |s, now| s.stop(now));
    line.at(4_200_000, |s, now| s.reset(now));
    line.run_to(9_000_000);
    assert_eq!(line.on(Signal::Reject)[1..], [(3_100_000, 6_210_000)]);
    line.at(9_000_000, |s, now| s.stop(now));
    line.at(9_000_000, |s, now| s.reset(now));
    line.run_to(9_200_000);
    assert_eq!(line.on(Signal::Reject)[2..], [(9_000_000, 9_110_000)]);
}

#[test]
fn another_axis_stops_the_line() {
    let mut line = started();
    let counts = Settings {
        delay: RejectDelay::counts(100, 5).unwrap(),
        ..settings()
    };
    renew(&mut line, counts);
    assert!(line.station.outputs().line_stop);
    line.at(200_000, |s, now| s.reset(now));
    assert!(line.station.outputs().ready);
}

#[test]
fn a_reject_that_nobody_saw_is_an_alarm_though_the_line_stopped_meanwhile() {
    for change in [false, true] {
        let to_reject = Settings {
            wiring: to_reject(),
            ..settings()
        };
        let mut line = started_with(to_reject);
        line.part(100_000, BAD);
        match change {
            true => renew(
                &mut line,
                Settings {
                    width: PulseWidth::new(11).unwrap(),
                    ..to_reject
                },
            ),
            false => line.input(200_000, Input::Stop, true),
        }
        if change {
            // Nothing has started yet that the sensor could see.
            line.run_to(300_000);
            assert!(!line.alarm(Alarm::RejectUnconfirmed));
            line.part(300_000, BAD);
            line.run_to(360_000);
            renew(&mut line, to_reject);
        }
        line.run_to(500_000);
        assert!(line.alarm(Alarm::RejectUnconfirmed), "change {change}");
        assert_eq!(line.station.statistics().confirms.missing, 1);
    }
}

/// 1,000 parts a second for as long as it takes, one in ten of them a reject. Whatever is reported of them is reported to
/// somebody who keeps nothing.
fn parts_that_pass(count: u64) -> Statistics {
    let mut station: Station<_> =
        Station::new(settings(), Statistics::default(), |_: Micros, _: Event| ());
    station.start(Micros(0));
    let counted = allocation_counter::measure(|| {
        for part in 0..count {
            // The gaps are the spacing and some.
            let time = 100_000 + 3_500 * part;
            let at = |us| Micros(time + us);
            station.on_trigger(at(0), at(0));
            let frame = Frame {
                id: FrameId(part % 64),
                view: View::FIRST,
                exposed: at(1_000),
                flaw: None,
            };
            station.on_frame(frame, at(1_200));
            let score = if part % 10 == 0 { BAD } else { GOOD };
            station.on_verdict(PartId(part), View::FIRST, Verdict::Score(score), at(2_000));
            station.tick(at(3_000));
        }
    });
    assert_eq!(counted.count_total, 0, "allocations");
    *station.statistics()
}

#[test]
fn a_million_parts_pass_and_nothing_is_allocated() {
    let statistics = parts_that_pass(1_000_000);
    assert_eq!(statistics.next_part, PartId(1_000_000));
    assert_eq!(statistics.verdicts.taken, 1_000_000);
    let outcomes = statistics.outcomes;
    // Its neighbours pass while a reject does: pulses of 10 ms, a part every 3.5 ms.
    assert!(
        outcomes.rejects > 99_900 && outcomes.good > 299_000,
        "{outcomes:?}"
    );
    assert!(outcomes.parts > 999_900);
}
