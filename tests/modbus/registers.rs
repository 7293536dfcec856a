//! Every register, against what the command set says of the same station.

use crate::Bench;
use faprompt_edge::control::modbus::map::{DISCRETES, INPUTS, Input};
use faprompt_edge::control::table::{Entry, Kind, TABLE};
use faprompt_edge::control::values::Value;
use faprompt_edge::line::{DefectType, Lane, Sorting};

fn long(words: &[u16]) -> u64 {
    words.iter().fold(0, |n, w| n << 16 | u64::from(*w))
}

fn input(bench: &mut Bench, name: &str) -> u64 {
    let Input {
        register, words, ..
    } = INPUTS.iter().find(|i| i.name == name).expect("an input");
    long(&bench.read(4, *register, *words))
}

fn discrete(bench: &mut Bench, name: &str) -> bool {
    let place = DISCRETES
        .iter()
        .position(|d| d.0 == name)
        .expect("a discrete input");
    bench.bit(2, place as u16)
}

#[test]
fn counters_and_latencies_are_those_of_the_command_set() {
    let mut bench = Bench::new();
    let counters = bench.counters();
    let mut seen = 0;
    for (name, count) in &counters {
        if let Some(name) = name.strip_suffix("_ms") {
            let us = count.parse::<f64>().expect("a latency") * 1000.0;
            assert_eq!(input(&mut bench, name), us.round() as u64, "{name}");
        } else {
            assert_eq!(input(&mut bench, name).to_string(), *count, "{name}");
        }
        seen += 1;
    }
    // Lanes and types of a station that sorts only, cameras of one that has several.
    let only = ["rejects_lane_", "rejects_type_", "camera"];
    let sorts = |name: &str| only.iter().any(|start| name.starts_with(start));
    let registers = INPUTS
        .iter()
        .filter(|i| i.words == 4 && i.name != "last_part" && !sorts(i.name));
    assert_eq!(seen, registers.count() + 4);
    // All counters in one read.
    assert_eq!(bench.read(4, 100, 124).len(), 124);
}

#[test]
fn state_is_that_of_the_command_set() {
    let mut bench = Bench::new();
    let version = ["version_major", "version_minor", "version_patch"]
        .map(|v| input(&mut bench, v).to_string());
    assert_eq!(version.join("."), env!("CARGO_PKG_VERSION"));
    assert_eq!(input(&mut bench, "parameters"), TABLE.len() as u64);
    // Latched low air.
    assert_eq!(input(&mut bench, "mode"), 3);
    assert_eq!(input(&mut bench, "alarms"), 1 << 6);
    assert_eq!(input(&mut bench, "last_outcome"), 0);
    assert_eq!(input(&mut bench, "last_score"), 0xffff);
    assert_eq!(input(&mut bench, "last_latency"), 0xffff_ffff);
    assert!(discrete(&mut bench, "fault") && discrete(&mut bench, "line_stop"));
    assert_eq!(bench.say("ACK"), "OK,ACK,0");
    assert_eq!(input(&mut bench, "mode"), 1);
    assert!(discrete(&mut bench, "ready") && !discrete(&mut bench, "fault"));

    bench.control.host().part(0.25);
    let part = bench.say("LAST");
    assert_eq!(
        part,
        format!(
            "OK,LAST,{},good,-,0.250000,12.5",
            input(&mut bench, "last_part")
        )
    );
    assert_eq!(input(&mut bench, "last_outcome"), 1);
    assert_eq!(input(&mut bench, "last_score"), 2500);
    assert_eq!(input(&mut bench, "last_latency"), 12_500);
    assert!(discrete(&mut bench, "result"));
    bench.control.host().part(0.75);
    assert_eq!(input(&mut bench, "last_outcome"), 2);
    assert!(!discrete(&mut bench, "result"));
    let outputs = (0..8).map(|i| u64::from(bench.bit(2, i)) << i).sum::<u64>();
    assert_eq!(input(&mut bench, "outputs"), outputs);

    bench.say("DISARM");
    bench.control.host().part(0.25);
    assert_eq!(input(&mut bench, "mode"), 2);

    bench.say("RECIPE 7");
    bench.say("SET threshold 0.1234");
    assert_eq!(input(&mut bench, "threshold"), 5000);
    bench.say("COMMIT");
    assert_eq!(input(&mut bench, "threshold"), 1234);
    assert_eq!(
        (input(&mut bench, "recipe"), bench.read(3, 200, 1)[0]),
        (7, 7)
    );
}

#[test]
fn types_and_lanes_are_reported_as_the_command_set_does() {
    let mut bench = Bench::new();
    bench.say("ACK");
    assert_eq!(
        bench.say("SET lanes \"scratch=3\""),
        "OK,SET,lanes,scratch=3"
    );
    bench.say("SET default_lane 8");
    // Three rejects in a row would stop the line.
    bench.say("SET alarm_consecutive 0");
    assert!(bench.say("COMMIT").starts_with("OK,COMMIT"));
    let of = |number, lane| Sorting {
        defect: DefectType::Number(number),
        threshold: None,
        lane: Lane::new(lane).ok(),
    };
    let host = bench.control.host();
    host.sorted(0.75, of(0, 3));
    let answer = bench.say("LAST");
    assert!(
        answer.ends_with(",reject,-,0.750000,12.5,scratch,0.7500,3"),
        "{answer}"
    );
    let last = ["last_type", "last_type_share", "last_lane"];
    assert_eq!(last.map(|n| input(&mut bench, n)), [1, 7500, 3]);
    bench.control.host().sorted(0.75, of(1, 0));
    let answer = bench.say("LAST");
    assert!(
        answer.ends_with(",reject,-,0.750000,12.5,faulty imprint,0.7500,8"),
        "{answer}"
    );
    let unknown = Sorting {
        defect: DefectType::Unknown,
        ..Sorting::default()
    };
    bench.control.host().sorted(0.75, unknown);
    assert_eq!(last.map(|n| input(&mut bench, n)), [0, 0xffff, 8]);
    // A good part has no type, whatever it looks like.
    bench.control.host().sorted(0.25, of(0, 3));
    assert_eq!(last.map(|n| input(&mut bench, n)), [0xffff, 0xffff, 0]);
    for (name, count) in [
        ("rejects_lane_3", 1),
        ("rejects_lane_8", 2),
        ("rejects_type_1", 1),
        ("rejects_type_2", 1),
        ("rejects_type_3", 0),
        ("rejects_type_unknown", 1),
    ] {
        assert_eq!(input(&mut bench, name), count, "{name}");
    }
    let refused = bench.say("SET lanes \"scratch=9\"");
    assert!(refused.starts_with("OK"), "{refused}");
    let refused = bench.say("COMMIT");
    assert!(refused.contains("lanes: needs TYPE=LANE"), "{refused}");
}

#[test]
fn a_challenge_is_reported() {
    let mut bench = Bench::new();
    bench.say("ACK");
    assert_eq!(input(&mut bench, "challenge"), 0);
    bench.write(201, &[3]).unwrap();
    bench.coil(6, true).unwrap();
    assert_eq!(input(&mut bench, "challenge"), 1);
    assert_eq!(bench.coil(6, true), Err(6));
    assert_eq!(input(&mut bench, "refusal"), 500);
    for score in [0.9, 0.9, 0.1] {
        bench.control.host().part(score);
    }
    let numbers = [
        "challenge",
        "challenge_pieces",
        "challenge_detected",
        "challenge_missed",
        "challenge_not_judged",
    ];
    assert_eq!(numbers.map(|n| input(&mut bench, n)), [3, 3, 2, 1, 0]);
    assert_eq!(input(&mut bench, "last_outcome"), 17);
}

#[test]
fn good_parts_are_taught_looked_at_and_accepted() {
    let mut bench = Bench::new();
    bench.say("ACK");
    let state = |bench: &mut Bench| {
        ["teach_state", "teach_taken", "teach_wanted", "teach_odd"].map(|n| input(bench, n))
    };
    assert_eq!(state(&mut bench), [0; 4]);
    assert_eq!(input(&mut bench, "taught"), 0);
    assert_eq!(bench.read(3, 202, 3), [50, 0, 0]);
    // Too few; a number and a command that there are not.
    assert_eq!(bench.write(202, &[4, 0, 1]), Err(3));
    assert_eq!(bench.write(202, &[1001]), Err(3));
    assert_eq!(bench.write(204, &[8]), Err(3));
    assert_eq!(input(&mut bench, "refusal"), 202);
    assert_eq!(bench.write(204, &[4]), Err(6), "nothing to accept");
    assert_eq!(bench.write(202, &[33, 7, 4]), Err(6));
    assert_eq!(bench.read(3, 202, 2), [50, 0], "whole or not at all");
    bench.write(202, &[8, 0, 1]).unwrap();
    assert_eq!(state(&mut bench), [1, 0, 8, 0]);
    assert_eq!(bench.write(204, &[1]), Err(6), "it is under way");
    for score in [0.10, 0.12, 0.11, 0.13, 0.45, 0.12, 0.10, 0.11] {
        bench.control.host().part(score);
    }
    assert_eq!(state(&mut bench)[..3], [3, 8, 8]);
    assert!(input(&mut bench, "teach_odd") > 0);
    assert_eq!(input(&mut bench, "teach_bound"), 313);
    assert_eq!(input(&mut bench, "teach_oddest"), 5);
    assert_eq!(bench.write(203, &[9, 3]), Err(3));
    bench.write(203, &[5, 3]).unwrap();
    assert_eq!(state(&mut bench)[..3], [3, 7, 7]);
    assert_eq!(
        bench.write(204, &[0]),
        Ok(()),
        "a PLC that writes everything"
    );
    bench.write(204, &[4]).unwrap();
    assert_eq!(state(&mut bench), [0; 4]);
    let taught = ["taught", "taught_parts"].map(|n| input(&mut bench, n));
    assert_eq!(taught, [1, 7]);
    assert!(bench.get("taught").starts_with("taught-"));
    // One that was wrongly rejected, and one that wrongly passed.
    bench.control.host().part(0.2);
    bench.write(204, &[6]).unwrap();
    assert_eq!(state(&mut bench)[..3], [3, 8, 8]);
    bench.write(204, &[5]).unwrap();
    bench.control.host().part(0.6);
    bench.write(204, &[7]).unwrap();
    assert_eq!(state(&mut bench)[..3], [3, 7, 7]);
    assert!(bench.say("TEACH").contains("TEACH,piece,"));
    bench.write(204, &[5]).unwrap();
    bench.write(202, &[2, 0, 2]).unwrap();
    assert_eq!(state(&mut bench)[..3], [1, 7, 9]);
}

/// A number for each parameter that is in its range and not its default.
fn other(entry: &Entry) -> u32 {
    let numbers = [1, 2, 20, 500, 1_000_000, 99_999, 6000, 11_000];
    let fits = |n: &u32| {
        let value = Value::Number(*n);
        entry.check(&value).is_ok() && value != entry.default_value()
    };
    numbers.into_iter().find(fits).expect("another value")
}

fn number(value: &Value) -> u32 {
    match value {
        Value::Number(number) => *number,
        Value::Text(text) => panic!("a text with a register: {text}"),
    }
}

fn halves(number: u32, count: u16) -> Vec<u16> {
    match count {
        1 => vec![number as u16],
        _ => vec![(number >> 16) as u16, number as u16],
    }
}

#[test]
fn every_parameter_is_written_seen_reverted_and_committed() {
    let mut bench = Bench::new();
    // Those that contradict the others.
    let apart = [
        "wiring",
        "reject_delay_ms",
        "reject_delay_counts",
        "trigger_interval_ms",
        "part_spacing_us",
    ];
    let written = || TABLE.iter().filter_map(|e| Some((e, e.register?)));
    for commit in [false, true] {
        for (entry, register) in written() {
            let default = entry.default_value();
            let before = halves(number(&default), register.count());
            assert_eq!(
                bench.read(3, register.address(), register.count()),
                before,
                "{}",
                entry.name
            );
            if commit && apart.contains(&entry.name) {
                continue;
            }
            let after = halves(other(entry), register.count());
            bench.write(register.address(), &after).unwrap();
            assert_eq!(
                bench.read(3, register.address(), register.count()),
                after,
                "{}",
                entry.name
            );
            let shown = entry.show(&default).to_string();
            assert_eq!(
                bench.get(entry.name),
                shown,
                "pending is this client's alone"
            );
        }
        assert!(discrete(&mut bench, "changes_pending"));
        assert!(bench.say("SET threshold 0.3").starts_with("ER,SET,501"));
        bench.coil(if commit { 4 } else { 5 }, true).unwrap();
        assert!(!discrete(&mut bench, "changes_pending"));
    }
    for (entry, register) in written() {
        let value = match apart.contains(&entry.name) {
            true => entry.default_value(),
            false => Value::Number(other(entry)),
        };
        assert_eq!(
            bench.get(entry.name),
            entry.show(&value).to_string(),
            "{}",
            entry.name
        );
        let words = halves(number(&value), register.count());
        assert_eq!(bench.read(3, register.address(), register.count()), words);
    }
}

#[test]
fn a_value_out_of_its_range_is_refused() {
    let mut bench = Bench::new();
    for entry in TABLE {
        let Some((register, largest)) = entry.register.zip(entry.kind.largest()) else {
            continue;
        };
        let low = match entry.kind {
            Kind::Number {
                low, zero: None, ..
            }
            | Kind::Decimal { low, .. } => low.checked_sub(1),
            _ => None,
        };
        for wrong in [largest.checked_add(1), low].into_iter().flatten() {
            if register.count() == 1 && wrong > 0xffff {
                continue;
            }
            let halves = halves(wrong, register.count());
            assert_eq!(
                bench.write(register.address(), &halves),
                Err(3),
                "{} {wrong}",
                entry.name
            );
        }
    }
    assert!(!discrete(&mut bench, "changes_pending"));
}

#[test]
fn a_write_is_done_whole_or_not_at_all() {
    let mut bench = Bench::new();
    let threshold_and_interval = |t, i| [t, i];
    // threshold, trigger_interval_ms; trigger_pitch in two.
    bench.write(0, &threshold_and_interval(4000, 600)).unwrap();
    assert_eq!(bench.read(3, 0, 2), [4000, 600]);
    assert_eq!(
        bench.write(0, &threshold_and_interval(4001, 60_001)),
        Err(3)
    );
    assert_eq!(input(&mut bench, "refusal"), 202);
    assert_eq!(
        bench.write(0, &[4001, 601, 0]),
        Err(2),
        "half of trigger_pitch"
    );
    assert_eq!(bench.write(3, &[1]), Err(2), "its other half");
    assert_eq!(bench.write(15, &[20, 1]), Err(2), "beyond the recipe's");
    assert_eq!(bench.write(0, &[4001, 601, 0, 0]), Err(3), "no pitch");
    assert_eq!(bench.read(3, 0, 2), [4000, 600]);
    bench.write(0, &[4002, 602, 1, 0x86a0]).unwrap();
    assert_eq!(bench.read(3, 0, 4), [4002, 602, 1, 0x86a0]);
    bench.coil(4, true).unwrap();
    assert_eq!(bench.get("trigger_pitch"), "100000");
    assert_eq!(bench.write(200, &[0, 9]), Err(3));
    assert_eq!(bench.write(200, &[2, 0]), Err(3));
    assert_eq!(bench.read(3, 200, 2), [1, 5]);
}

#[test]
fn a_commit_is_all_or_nothing() {
    let mut bench = Bench::new();
    // reject_lead_ms beyond reject_delay_ms.
    bench.write(0, &[4000]).unwrap();
    bench.write(104, &[10, 11]).unwrap();
    assert_eq!(bench.coil(4, true), Err(3));
    assert_eq!(input(&mut bench, "refusal"), 205);
    assert_eq!(bench.get("threshold"), "0.5000");
    assert_eq!(bench.write(200, &[2]), Err(6), "changes are pending");
    assert_eq!(input(&mut bench, "refusal"), 301);
    bench.write(105, &[10]).unwrap();
    // A threshold above which no score lies.
    bench.write(0, &[10_000]).unwrap();
    assert_eq!(bench.coil(4, true), Err(3));
    assert_eq!(input(&mut bench, "refusal"), 202);
    bench.write(0, &[4000]).unwrap();
    bench.coil(4, true).unwrap();
    assert_eq!(bench.get("threshold"), "0.4000");
    // Another's changes are pending.
    bench.say("SET threshold 0.6");
    assert_eq!(bench.write(0, &[4001]), Err(6));
    assert_eq!(bench.coil(4, true), Err(6));
    assert_eq!(bench.write(200, &[2]), Err(6));
    assert_eq!(input(&mut bench, "refusal"), 501);
    bench.say("COMMIT");
    assert_eq!(bench.read(3, 0, 1), [6000]);
}

#[test]
fn the_level_is_the_parameters() {
    let mut bench = Bench::new();
    bench.say("SET modbus_access operator");
    bench.say("COMMIT");
    bench.write(0, &[4000]).unwrap();
    assert_eq!(bench.write(0, &[4001, 600]), Err(1));
    assert_eq!(input(&mut bench, "refusal"), 401);
    assert_eq!(bench.read(3, 0, 1), [4000]);
    assert_eq!(bench.coil(8, true), Err(1));
    bench.coil(4, true).unwrap();
    bench.say("SET modbus_access view");
    bench.say("COMMIT");
    assert_eq!(bench.write(0, &[4000]), Err(1));
    assert_eq!(bench.write(200, &[2]), Err(1));
    assert_eq!(
        [0, 1, 2, 3, 6, 7, 8].map(|c| bench.coil(c, c != 0)),
        [Err(1); 7]
    );
    assert_eq!(input(&mut bench, "refusal"), 401);
}

#[test]
fn coils_order() {
    let mut bench = Bench::new();
    assert!(bench.bit(1, 0) && bench.bit(1, 9));
    assert_eq!(bench.coil(1, true), Err(6));
    assert_eq!(input(&mut bench, "refusal"), 303);
    bench.coil(2, true).unwrap();
    assert_eq!(input(&mut bench, "alarms"), 0);
    bench.write(100, &[4]).unwrap();
    bench.coil(4, true).unwrap();
    bench.coil(1, true).unwrap();
    assert_eq!(input(&mut bench, "last_outcome"), 1);
    bench.coil(3, true).unwrap();
    assert_eq!(input(&mut bench, "parts"), 0);
    bench.coil(7, true).unwrap();
    assert_eq!(input(&mut bench, "self_test"), 2);
    bench.coil(0, false).unwrap();
    assert_eq!((bench.bit(1, 0), input(&mut bench, "mode")), (false, 2));
    // A PLC that writes all of them in every cycle.
    for _ in 0..3 {
        assert_eq!(bench.ask(&[15, 0, 0, 0, 10, 2, 0b01, 0]), [15, 0, 0, 0, 10]);
    }
    bench.coil(9, true).unwrap();
    assert_eq!((bench.bit(1, 0), bench.bit(1, 9)), (true, false));
    assert_eq!(bench.ask(&[1, 0, 0, 0, 10]), [1, 2, 1, 0]);
    bench.coil(8, true).unwrap();
    assert_eq!(bench.control.host().reboots, 1);
    let log = bench.say("LOG 100");
    assert!(
        log.contains("engineer@modbus,trigger_source,free_run,command"),
        "{log}"
    );
}

#[test]
fn a_pause_is_begun_and_ended_by_whoever_began_it() {
    let mut bench = Bench::new();
    bench.coil(2, true).unwrap();
    assert_eq!(bench.write(205, &[0]), Err(3));
    bench.write(205, &[10]).unwrap();
    assert_eq!((bench.read(3, 205, 1), bench.bit(1, 10)), (vec![10], false));
    bench.coil(10, true).unwrap();
    assert!(
        bench.bit(1, 10) && bench.bit(1, 0),
        "a pause is no disarming"
    );
    assert_eq!(input(&mut bench, "mode"), 2);
    assert!((1..=1200).contains(&input(&mut bench, "pause_left")));
    // A PLC that writes `run` in every cycle does not end it.
    bench.coil(0, true).unwrap();
    assert!(bench.bit(1, 10));
    bench.coil(10, false).unwrap();
    assert_eq!((bench.bit(1, 10), input(&mut bench, "mode")), (false, 1));
    assert_eq!(input(&mut bench, "pause_left"), 0);
    // What a person began is not the PLC's to end; disarming is.
    assert!(bench.say("PAUSE 30").starts_with("OK,PAUSE,running,"));
    bench.coil(10, false).unwrap();
    assert!(bench.bit(1, 10));
    bench.coil(0, false).unwrap();
    assert_eq!((bench.bit(1, 10), bench.bit(1, 0)), (false, false));
}

#[test]
fn a_client_that_is_gone_keeps_nothing_pending() {
    let mut bench = Bench::new();
    bench.write(0, &[4000]).unwrap();
    let quarter = std::time::Duration::from_secs(15 * 60);
    bench
        .slave
        .idle(bench.now + quarter / 2, &mut bench.control);
    assert!(discrete(&mut bench, "changes_pending"));
    bench.slave.idle(bench.now + quarter, &mut bench.control);
    assert_eq!(bench.read(3, 0, 1), [5000]);
    bench.write(0, &[4000]).unwrap();
    bench.slave.hang_up(&mut bench.control);
    assert_eq!(bench.read(3, 0, 1), [5000]);
}
