//! What a run came to, for people and as summary.json.

use super::super::{CliError, output};
use faprompt_edge::control::host::{Judging, UNKNOWN};
use faprompt_edge::control::values::alarms;
use faprompt_edge::line::counters::{Statistics, ViewCounts};
use faprompt_edge::line::{Cause, PartId, View};
use faprompt_edge::runtime::Report;
use faprompt_edge::runtime::system::{now, utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// summary.json. Names leave the machine: only append. Parts, their outcomes and their latencies are the station's
/// counters, which go on from start to start until `COUNTERS RESET`; pulses, jitter, what is known of the pictures and what was lost
/// are this run's.
#[derive(Serialize)]
pub struct Summary<'a> {
    board: &'a str,
    bundle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
    threshold: f32,
    parts: u64,
    good: u64,
    rejects: u64,
    rejects_camera_fault: u64,
    rejects_inference_error: u64,
    rejects_late: u64,
    rejects_queue_full: u64,
    rejects_no_frame: u64,
    rejects_unknown: u64,
    rejects_not_ready: u64,
    rejects_missed_test_piece: u64,
    defective_parts: u64,
    defective_rejected: u64,
    /// How often the outputs came on; parts that touch share a pulse.
    good_pulses: u64,
    reject_pulses: u64,
    /// Alarms that are latched, bit n for alarm n.
    alarms: u32,
    /// From trigger to verdict; percentiles are at most 12.5 % too high.
    latency_min_ms: Option<f64>,
    latency_mean_ms: Option<f64>,
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
    latency_max_ms: Option<f64>,
    /// How much later than planned the output thread woke up.
    jitter_p99_us: Option<u64>,
    jitter_max_us: Option<u64>,
    results_not_written: u64,
    /// Pictures that were to be kept and were not.
    pictures_not_kept: u64,
    /// When it ended, by the system's clock: RFC 3339, UTC.
    utc: String,
    /// What the bundle's manifest calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<&'a str>,
    /// How its weights are multiplied.
    #[serde(skip_serializing_if = "Option::is_none")]
    arithmetic: Option<&'a str>,
    rejects_nothing_visible: u64,
    rejects_frozen: u64,
    rejects_overload: u64,
    /// Rejects by score, by type of defect; the types of the bundle that judged last.
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<BTreeMap<&'a str, u64>>,
    /// Rejects by the lane that they started in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    lanes: BTreeMap<usize, u64>,
    rejects_light: u64,
    /// What each of several cameras said of the parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cameras: Vec<Camera>,
    /// How many of the parts came in this run.
    parts_in_this_run: u64,
}

/// What the station's counters had when this run began: they go on from start to start.
pub struct Before {
    first: PartId,
    rejects: u64,
}

impl Before {
    pub fn of(statistics: &Statistics) -> Before {
        Before {
            first: statistics.next_part,
            rejects: statistics.outcomes.all_rejects(),
        }
    }

    /// How many parts came since.
    fn parts(&self, now: &Statistics) -> u64 {
        now.next_part.0.saturating_sub(self.first.0)
    }

    /// How many were rejected since, or since the counters were reset meanwhile.
    pub fn rejects(&self, now: &Statistics) -> u64 {
        let all = now.outcomes.all_rejects();
        match now.outcomes.parts > self.parts(now) {
            true => all.saturating_sub(self.rejects),
            // No part of before is counted any more.
            false => all,
        }
    }
}

/// What one of several cameras said of the parts, whatever the others said.
#[derive(Serialize)]
struct Camera {
    camera: u8,
    threshold: f32,
    good: u64,
    rejects: u64,
    inference_errors: u64,
    damaged: u64,
    missing: u64,
    late: u64,
}

impl Camera {
    fn new(view: View, threshold: f32, counts: &[ViewCounts]) -> Camera {
        let counts = counts.get(view.index()).copied().unwrap_or_default();
        Camera {
            camera: view.number(),
            threshold,
            good: counts.good,
            rejects: counts.rejects,
            inference_errors: counts.errors,
            damaged: counts.damaged,
            missing: counts.missing,
            late: counts.late,
        }
    }
}

impl<'a> Summary<'a> {
    pub fn new(
        board: &'a str,
        judging: &'a Judging,
        thresholds: &[f32],
        report: &Report,
        before: &Before,
    ) -> Self {
        let statistics = &report.ended.statistics;
        let (outcomes, latency) = (&statistics.outcomes, &statistics.latency);
        let of = |cause: Cause| outcomes.failed[cause as usize];
        let ms = |us: Option<u64>| us.map(|us| us as f64 / 1000.0);
        let any = latency.count > 0;
        let jitter = &report.ended.jitter;
        let network = judging.network.as_deref();
        Summary {
            board,
            bundle: network.map_or_else(String::new, |n| n.bundle.clone()),
            warning: network.and_then(|n| n.warning),
            threshold: thresholds.first().copied().unwrap_or_default(),
            parts: outcomes.parts,
            good: outcomes.good,
            rejects: outcomes.rejects,
            rejects_camera_fault: of(Cause::CameraFault),
            rejects_inference_error: of(Cause::InferenceError),
            rejects_late: of(Cause::Late),
            rejects_queue_full: of(Cause::QueueFull),
            rejects_no_frame: of(Cause::NoFrame),
            rejects_unknown: of(Cause::Unknown),
            rejects_not_ready: of(Cause::NotReady),
            rejects_missed_test_piece: of(Cause::Challenge),
            defective_parts: report.truth.defective,
            defective_rejected: report.truth.rejected,
            good_pulses: report.ended.good_pulses,
            reject_pulses: report.ended.reject_pulses,
            alarms: report.ended.alarms.bits(),
            latency_min_ms: ms(any.then_some(latency.min_us)),
            latency_mean_ms: ms(latency.mean_us()),
            latency_p50_ms: ms(latency.percentile_us(50)),
            latency_p99_ms: ms(latency.percentile_us(99)),
            latency_max_ms: ms(any.then_some(latency.max_us)),
            jitter_p99_us: jitter.percentile_us(99),
            jitter_max_us: (jitter.count > 0).then_some(jitter.max_us),
            results_not_written: report.lost,
            pictures_not_kept: report.pictures_lost,
            utc: utc(now()),
            network: network.map(|n| n.name.as_str()),
            arithmetic: network.map(|n| n.arithmetic),
            rejects_nothing_visible: of(Cause::NothingVisible),
            rejects_frozen: of(Cause::Frozen),
            rejects_overload: of(Cause::Overload),
            types: network.filter(|n| !n.types.is_empty()).map(|n| {
                let counted = n
                    .types
                    .iter()
                    .map(String::as_str)
                    .zip(statistics.sorted.types);
                counted
                    .chain([(UNKNOWN, statistics.sorted.unknown)])
                    .filter(|(_, count)| *count > 0)
                    .collect()
            }),
            lanes: (1..)
                .zip(statistics.sorted.lanes)
                .filter(|(_, count)| *count > 0)
                .collect(),
            rejects_light: of(Cause::Light),
            cameras: match thresholds.len() {
                0 | 1 => Vec::new(),
                _ => View::ALL
                    .into_iter()
                    .zip(thresholds)
                    .map(|(view, threshold)| Camera::new(view, *threshold, &statistics.views))
                    .collect(),
            },
            parts_in_this_run: before.parts(statistics).min(outcomes.parts),
        }
    }

    pub fn write(&self, path: &Path) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|e| CliError::Internal(e.to_string()))?;
        std::fs::write(path, text).map_err(output(path))
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nparts                 {}", self.parts)?;
        match self.parts_in_this_run {
            all if all == self.parts => writeln!(f)?,
            own => writeln!(f, " since COUNTERS RESET, {own} of them in this run")?,
        }
        writeln!(f, "good                  {}", self.good)?;
        writeln!(f, "rejects               {}", self.rejects)?;
        for (what, count) in [
            ("camera fault", self.rejects_camera_fault),
            ("inference error", self.rejects_inference_error),
            ("late", self.rejects_late),
            ("queue full", self.rejects_queue_full),
            ("no frame", self.rejects_no_frame),
            ("unknown", self.rejects_unknown),
            ("not ready", self.rejects_not_ready),
            ("missed test piece", self.rejects_missed_test_piece),
            ("nothing visible", self.rejects_nothing_visible),
            ("frozen camera", self.rejects_frozen),
            ("network too slow", self.rejects_overload),
            ("light changed", self.rejects_light),
        ] {
            if count > 0 {
                writeln!(f, "rejects: {what:12} {count}")?;
            }
        }
        for (name, count) in self.types.iter().flatten() {
            writeln!(f, "type {name:16} {count}")?;
        }
        for (lane, count) in &self.lanes {
            writeln!(f, "lane {lane:<16} {count}")?;
        }
        for c in &self.cameras {
            write!(
                f,
                "camera {}              good {}, rejects {}",
                c.camera, c.good, c.rejects
            )?;
            for (what, count) in [
                ("inference errors", c.inference_errors),
                ("damaged", c.damaged),
                ("missing", c.missing),
                ("late", c.late),
            ] {
                if count > 0 {
                    write!(f, ", {what} {count}")?;
                }
            }
            writeln!(f, " (threshold {})", c.threshold)?;
        }
        writeln!(
            f,
            "output pulses         good {}, reject {} (parts that touch share one)",
            self.good_pulses, self.reject_pulses
        )?;
        if self.defective_parts > 0 {
            writeln!(
                f,
                "defective parts made  {}, of which rejected {}",
                self.defective_parts, self.defective_rejected
            )?;
        }
        if self.alarms != 0 {
            writeln!(f, "alarms latched        {}", alarms(self.alarms))?;
        }
        let ms = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.1} ms"));
        writeln!(
            f,
            "latency               p50 {}, p99 {}",
            ms(self.latency_p50_ms),
            ms(self.latency_p99_ms)
        )?;
        if let Some((p99, max)) = self.jitter_p99_us.zip(self.jitter_max_us) {
            writeln!(f, "output thread late by p99 {p99} us, at most {max} us")?;
        }
        if self.pictures_not_kept > 0 {
            writeln!(f, "pictures not kept     {}", self.pictures_not_kept)?;
        }
        writeln!(f, "bundle                {}", self.bundle)?;
        write!(f, "threshold             {}", self.threshold)?;
        match self.warning {
            Some(warning) => write!(f, "\n{warning}"),
            None => Ok(()),
        }
    }
}
