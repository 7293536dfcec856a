//! Several cameras on one trigger, by example.

use super::rules::settings;
use super::simulation::Simulation;
use crate::line::*;

const TWO: View = View::ALL[1];
const GOOD: Verdict = Verdict::Score(0.2);
const BAD: Verdict = Verdict::Score(0.8);

/// A station with two cameras that was started long ago.
fn started() -> Simulation<8> {
    let mut line = Simulation::with_cameras(2, settings());
    line.at(0, |s, now| s.start(now));
    line.run_to(100_000);
    line
}

/// One part, whose views are `None` (no frame), a flaw, or a verdict so many microseconds after the trigger.
type Seen = Option<Result<(u64, Verdict), Cause>>;

fn outcome(line: &mut Simulation<8>, views: [Seen; 2]) -> Outcome {
    let time = line.now + 100_000;
    line.trigger(time, time);
    let part = line.station.statistics().next_part.0 - 1;
    let mut verdicts = vec![];
    for (view, seen) in View::first(2).zip(views) {
        let flaw = match seen {
            None => continue,
            Some(Err(cause)) => Some(cause),
            Some(Ok((after, verdict))) => {
                verdicts.push((time + after, view, verdict));
                None
            }
        };
        line.frame_of(view, time + 2_000, time + 1_000, flaw);
    }
    verdicts.sort_by_key(|(at, ..)| *at);
    for (at, view, verdict) in verdicts {
        line.verdict_of(view, at, part, verdict);
    }
    line.run_to(time + 90_000);
    line.outcome(part).expect("an outcome")
}

#[test]
fn a_part_is_good_only_if_both_views_are_and_the_first_reason_counts() {
    let because = |cause| Outcome::RejectBecause(cause);
    let (soon, later, late) = (5_000, 20_000, 47_000);
    let judged = |after, verdict| Some(Ok((after, verdict)));
    let flawed = Some(Err(Cause::Frozen));
    let mut line = started();
    for (views, wanted) in [
        ([judged(soon, GOOD), judged(later, GOOD)], Outcome::Good),
        ([judged(soon, GOOD), judged(later, BAD)], Outcome::Reject),
        ([judged(soon, BAD), judged(later, GOOD)], Outcome::Reject),
        ([judged(soon, GOOD), None], because(Cause::NoFrame)),
        ([None, None], because(Cause::NoFrame)),
        ([judged(soon, BAD), None], Outcome::Reject),
        ([judged(soon, GOOD), flawed], because(Cause::Frozen)),
        // The flaw was known first.
        ([judged(soon, BAD), flawed], because(Cause::Frozen)),
        (
            [judged(soon, GOOD), judged(late, GOOD)],
            because(Cause::Late),
        ),
        ([judged(soon, BAD), judged(late, GOOD)], Outcome::Reject),
        (
            [judged(soon, GOOD), judged(later, Verdict::Error)],
            because(Cause::InferenceError),
        ),
    ] {
        for swapped in [false, true] {
            let [one, two] = views;
            let views = if swapped { [two, one] } else { [one, two] };
            assert_eq!(outcome(&mut line, views), wanted, "{views:?}");
        }
    }
}

#[test]
fn what_each_camera_says_is_counted_whatever_the_other_said() {
    let mut line = started();
    let soon = |verdict| Some(Ok((5_000, verdict)));
    let later = |verdict| Some(Ok((9_000, verdict)));
    for views in [
        [soon(BAD), later(BAD)],
        [soon(BAD), later(GOOD)],
        [soon(BAD), None],
        [Some(Err(Cause::CameraFault)), later(BAD)],
        [soon(GOOD), Some(Ok((47_000, GOOD)))],
        [soon(BAD), Some(Ok((70_000, GOOD)))],
        [later(Verdict::Error), soon(GOOD)],
    ] {
        outcome(&mut line, views);
    }
    let [first, second, ..] = line.station.statistics().views;
    let counts =
        |v: counters::ViewCounts| [v.good, v.rejects, v.errors, v.damaged, v.missing, v.late];
    assert_eq!(counts(first), [1, 4, 1, 1, 0, 0]);
    assert_eq!(counts(second), [2, 2, 0, 0, 1, 2]);
}

#[test]
fn while_one_camera_is_down_every_part_is_rejected_and_the_other_changes_nothing() {
    let good = [Some(Ok((5_000, GOOD))); 2];
    let mut line = started();
    assert_eq!(outcome(&mut line, good), Outcome::Good);
    let now = line.now;
    line.at(now + 1_000, |s, now| s.on_camera(TWO, false, now));
    let fault = Outcome::RejectBecause(Cause::CameraFault);
    assert_eq!(outcome(&mut line, good), fault);
    let now = line.now;
    line.at(now + 1_000, |s, now| s.on_camera(View::FIRST, true, now));
    assert_eq!(outcome(&mut line, good), fault, "it was never down");
    let now = line.now;
    line.at(now + 1_000, |s, now| s.on_camera(TWO, true, now));
    assert_eq!(outcome(&mut line, good), Outcome::Good);
}

#[test]
fn each_camera_has_its_threshold_and_a_test_piece_must_be_seen_by_one() {
    let mut line = started();
    line.at(101_000, |s, _| {
        s.set_threshold(TWO, settings::Threshold::new(0.1).unwrap())
    });
    let good = Some(Ok((5_000, GOOD)));
    assert_eq!(outcome(&mut line, [good; 2]), Outcome::Reject);
    line.at(300_000, |s, _| {
        s.set_threshold(TWO, settings::Threshold::new(0.5).unwrap())
    });
    let two = settings::Pieces::new(2).unwrap();
    assert!(line.at(310_000, |s, now| s.challenge(two, now)).is_ok());
    assert_eq!(
        outcome(&mut line, [good, Some(Ok((9_000, BAD)))]),
        Outcome::Reject
    );
    let missed = Outcome::RejectBecause(Cause::Challenge);
    assert_eq!(outcome(&mut line, [good; 2]), missed);
    assert!(line.alarm(Alarm::Challenge));
}
