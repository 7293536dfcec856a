//! Reject lanes by example. Delay 50 ms, width 10 ms, as in `rules`; the default lane is lane 8.

use super::rules::{BAD, GOOD, because, settings, started_with, to_reject};
use super::simulation::Simulation;
use crate::line::settings::*;
use crate::line::*;

fn lane(number: u32) -> Option<Lane> {
    Some(Lane::new(number).unwrap())
}

/// A verdict of a part of the type with this number, which goes to this lane.
fn of(score: f32, number: u8, lane: Option<Lane>) -> Verdict {
    let sorting = Sorting {
        defect: DefectType::Number(number),
        threshold: None,
        lane,
    };
    Verdict::Sorted(score, sorting)
}

fn with_lanes(wiring: Wiring) -> Simulation<8> {
    started_with(Settings {
        wiring,
        default_lane: lane(8),
        ..settings()
    })
}

#[test]
fn each_reject_goes_to_the_lane_of_its_type_while_it_passes_and_the_unknown_to_the_default() {
    for wiring in [Wiring::default(), to_reject()] {
        let mut line = with_lanes(wiring);
        line.judged(100_000, of(BAD, 0, lane(1)));
        line.judged(120_000, of(BAD, 1, lane(2)));
        line.judged(140_000, of(GOOD, 0, lane(1)));
        line.judged(160_000, of(BAD, 2, None));
        line.part(180_000, BAD);
        line.trigger(200_000, 200_000);
        line.run_to(400_000);
        let lanes = [0, 1, 2, 3, 4, 5].map(|part| line.lane(part));
        assert_eq!(lanes, [Some(1), Some(2), None, Some(8), Some(8), Some(8)]);
        assert_eq!(line.on(Signal::Lane1), [(150_000, 160_000)]);
        assert_eq!(line.on(Signal::Lane2), [(170_000, 180_000)]);
        // The first 60 ms are the start: whatever was on the belt then is rejected.
        let passing = [(210_000, 220_000), (230_000, 240_000), (250_000, 260_000)];
        assert_eq!(line.on(Signal::Lane8)[1..], passing);
        assert_eq!(line.outcome(5), because(Cause::NoFrame));
        let counted = line.station.statistics().sorted;
        assert_eq!(counted.types[..4], [1, 1, 1, 0]);
        assert_eq!(counted.lanes, [1, 1, 0, 0, 0, 0, 0, 3]);
        assert_eq!(counted.unknown, 0, "for the last two no type was reported");
    }
}

#[test]
fn rejects_too_close_for_two_lanes_go_to_the_default_lane_from_the_first_one_on() {
    let mut line = with_lanes(Wiring::default());
    for (i, to) in [1, 2, 3].into_iter().enumerate() {
        line.judged(100_000 + 8_000 * i as u64, of(BAD, 0, lane(to)));
    }
    // One lane for all of them: no reason to mix them with others.
    for time in [200_000, 208_000, 216_000] {
        line.judged(time, of(BAD, 0, lane(3)));
    }
    // A part between them that is good is taken along.
    line.judged(300_000, of(BAD, 0, lane(3)));
    line.part(308_000, GOOD);
    line.judged(316_000, of(BAD, 0, lane(3)));
    line.run_to(500_000);
    let lanes = [0, 1, 2, 3, 4, 5].map(|part| line.lane(part));
    assert_eq!(
        lanes,
        [Some(8), Some(8), Some(8), Some(3), Some(3), Some(3)]
    );
    assert_eq!(line.on(Signal::Lane8)[1..], [(150_000, 176_000)]);
    assert_eq!(
        (line.outcome(7), line.lane(7)),
        (because(Cause::Unknown), None)
    );
    let lane3 = [(250_000, 276_000), (350_000, 360_000), (366_000, 376_000)];
    assert_eq!(line.on(Signal::Lane3), lane3);
    assert!(line.on(Signal::Lane1).is_empty() && line.on(Signal::Lane2).is_empty());
}

#[test]
fn a_threshold_of_the_type_goes_before_the_stations() {
    let mut line = with_lanes(Wiring::default());
    let strict = Sorting {
        defect: DefectType::Number(0),
        threshold: Some(Threshold::new(0.05).unwrap()),
        lane: lane(1),
    };
    let lenient = Sorting {
        threshold: Some(Threshold::new(0.95).unwrap()),
        ..strict
    };
    line.judged(100_000, Verdict::Sorted(GOOD, strict));
    line.judged(120_000, Verdict::Sorted(BAD, lenient));
    line.judged(140_000, Verdict::Sorted(f32::NAN, lenient));
    line.run_to(300_000);
    let outcomes = [0, 1, 2].map(|part| line.outcome(part));
    let reject = Some(Outcome::Reject);
    assert_eq!(outcomes, [reject, Some(Outcome::Good), reject]);
}

#[test]
fn while_nothing_is_known_to_be_good_the_default_lane_is_on_and_without_one_none() {
    for default_lane in [None, lane(8)] {
        let mut line = started_with(Settings {
            default_lane,
            ..settings()
        });
        line.judged(100_000, of(BAD, 0, lane(1)));
        line.judged(120_000, of(BAD, 0, lane(1)));
        line.run_to(155_000);
        assert_eq!(line.station.outputs().lane, lane(1));
        line.at(155_000, |s, now| s.stop(now));
        assert_eq!(line.station.outputs().lane, default_lane);
        line.run_to(300_000);
        assert_eq!(line.station.outputs().lane, default_lane);
        assert_eq!(line.lane(1), default_lane.map(Lane::get));
        assert_eq!(Outputs::safe(Wiring::default()).lane, None);
    }
}
