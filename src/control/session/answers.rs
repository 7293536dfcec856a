//! The longer answers: a lesson (TEACH), what was taught and what judges (STATUS), the challenge and the counters.

use super::Output;
use super::names::{counts, lesson_name, network_name};
use crate::control::command::LINE;
use crate::control::host::{Judging, Snapshot};
use crate::control::shared::TeachReport;
use crate::control::table::STEPS;
use crate::control::values::quoted;
use crate::line::NetworkState;
use crate::line::lanes::SortCounts;
use std::fmt::Write;

/// How many parts of a lesson are listed although none is odd: the oddest.
const LISTED: usize = 3;
/// Parts that are listed at most.
const MOST_LISTED: usize = 20;

/// Writes a lesson, as TEACH reports it.
pub(super) fn lesson(report: &TeachReport, out: &mut Output, more: &mut Vec<String>) {
    let lesson = &report.lesson;
    let _ = write!(
        out,
        ",{},{}/{},not_judged={}",
        lesson_name(lesson.state),
        lesson.parts,
        lesson.wanted,
        report.not_judged
    );
    let plain = |text: &str| -> String {
        let plain = text.chars().filter(|c| matches!(c, ' '..='~'));
        plain.take(2 * LINE).collect()
    };
    if let Some(problem) = &lesson.problem {
        more.push(format!("problem,{}", quoted(&plain(problem))));
    }
    let Some(result) = report.result() else {
        return;
    };
    let threshold = f64::from(report.threshold) / f64::from(STEPS);
    let odd = result.odd().count();
    let _ = write!(
        out,
        ",memory={},threshold={threshold:.4},odd={odd}",
        result.kind
    );
    if let Some(promise) = report.promise() {
        let _ = write!(out, ",bound={}", promise.per_mille());
        more.push(format!("bound,{}", quoted(&promise.to_string())));
    }
    for part in result.parts.iter().take(odd.clamp(LISTED, MOST_LISTED)) {
        let name = plain(&part.name);
        let what = match part.odd {
            true => format!(
                "ODD: look at it; if it is not good: TEACH DROP {}",
                part.number
            ),
            false => "-".into(),
        };
        more.push(format!(
            "{},part={},{:.1},{what}",
            part.number,
            quoted(&name),
            part.z
        ));
    }
    for (name, score) in &result.pieces {
        let passes = *score <= report.threshold as f32 / STEPS as f32;
        let what = if passes { "PASSES" } else { "rejected" };
        more.push(format!("piece,{},{score:.4},{what}", quoted(&plain(name))));
    }
}

/// Writes what was taught and is being taught, as STATUS reports it.
pub(super) fn taught(judging: &Judging, report: Option<TeachReport>, out: &mut Output) {
    let network = judging.network.as_ref();
    let _ = match (judging.state, network.and_then(|n| n.taught.as_ref())) {
        (Some(NetworkState::Untaught | NetworkState::ZeroShot), _) => {
            out.write_str(",taught=unusable")
        }
        (_, None) => out.write_str(",taught=none"),
        (_, Some(taught)) => {
            let _ = write!(out, ",taught={},memory_kind={}", taught.parts, taught.kind);
            match taught.bound_per_mille {
                Some(bound) => write!(out, ",bound={bound}"),
                None => Ok(()),
            }
        }
    };
    let _ = match report {
        None => out.write_str(",teach=none"),
        Some(report) => {
            let lesson = &report.lesson;
            let state = lesson_name(lesson.state);
            write!(out, ",teach={state}:{}/{}", lesson.parts, lesson.wanted)
        }
    };
}

/// Writes which network judges, as STATUS reports it.
pub(super) fn judging(judging: &Judging, out: &mut Output) {
    let state = network_name(judging.state);
    let _ = write!(out, ",loadout={},network={state}", judging.generation);
    if let Some(network) = &judging.network {
        let plain: String = network
            .bundle
            .chars()
            .filter(|c| matches!(c, ' '..='~'))
            .collect();
        let trained = network.warning.is_none();
        let _ = write!(
            out,
            ",bundle={},digest={},arithmetic={},trained={}",
            quoted(&plain),
            &network.digest.get(..12).unwrap_or_default(),
            network.arithmetic,
            u8::from(trained)
        );
    }
}

pub(super) fn challenge(snapshot: &Snapshot, out: &mut Output) {
    let _ = match snapshot.challenge {
        None => out.write_str(",none"),
        Some(r) => {
            let state = match (r.is_over(), r.passed()) {
                (false, _) => "running",
                (true, true) => "passed",
                (true, false) => "failed",
            };
            write!(
                out,
                ",{state},pieces={},detected={},missed={},not_judged={}",
                r.pieces, r.detected, r.missed, r.not_judged
            )
        }
    };
}

pub(super) fn counters(snapshot: &Snapshot, types_of: &[String], more: &mut Vec<String>) {
    let s = &snapshot.statistics;
    let us = |us: Option<u64>| us.map_or("-".to_string(), |us| format!("{}", us as f64 / 1e3));
    let min = (s.latency.count > 0).then_some(s.latency.min_us);
    let max = (s.latency.count > 0).then_some(s.latency.max_us);
    let counts = counts(s, snapshot.lost).into_iter();
    more.extend(counts.map(|(name, count)| format!("{name},{count}")));
    // Of stations that sort only.
    let lanes = (1..).zip(s.sorted.lanes).filter(|(_, count)| *count > 0);
    more.extend(lanes.map(|(lane, count)| format!("rejects_lane_{lane},{count}")));
    if s.sorted != SortCounts::default() {
        more.push(format!("rejects_type_unknown,{}", s.sorted.unknown));
        let types = (0..).zip(s.sorted.types).filter(|(_, count)| *count > 0);
        let name = |number: usize| types_of.get(number).map_or("", String::as_str);
        more.extend(
            types.map(|(i, count)| format!("rejects_type_{},{count},{}", i + 1, quoted(name(i)))),
        );
    }
    // Of stations with several cameras only; the names are the registers'.
    let cameras = (1..).zip(s.views).take(snapshot.cameras);
    for (camera, v) in cameras.filter(|_| snapshot.cameras > 1) {
        for (what, count) in [
            ("good", v.good),
            ("rejects", v.rejects),
            ("errors", v.errors),
            ("damaged", v.damaged),
            ("missing", v.missing),
            ("late", v.late),
        ] {
            more.push(format!("camera{camera}_{what},{count}"));
        }
    }
    more.extend([
        format!("latency_min_ms,{}", us(min)),
        format!("latency_mean_ms,{}", us(s.latency.mean_us())),
        format!("latency_p99_ms,{}", us(s.latency.percentile_us(99))),
        format!("latency_max_ms,{}", us(max)),
    ]);
}
