//! Counters for Prometheus, in the OpenMetrics text format 1.0.

use crate::control::host::Snapshot;
use crate::control::{alarm_text, cause_name};
use crate::line::alarms::ALARMS;
use crate::line::{Cause, Counters};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

type Labels = [(&'static str, &'static str); 1];

fn counted(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

/// All of them. Rejects by cause add up to `faprompt_parts_total` with the good ones.
pub fn text(snapshot: &Snapshot) -> String {
    let mut registry = Registry::with_prefix("faprompt");
    let s = &snapshot.statistics;
    let Counters {
        parts,
        good,
        rejects,
        failed,
    } = s.outcomes;
    registry.register("parts", "Parts that got an outcome", counted(parts));
    registry.register("good", "Parts that passed as good", counted(good));
    let by_cause = Family::<Labels, Counter>::default();
    by_cause
        .get_or_create(&[("cause", "score")])
        .inc_by(rejects);
    for cause in Cause::ALL {
        let label = [("cause", cause_name(cause))];
        by_cause
            .get_or_create(&label)
            .inc_by(failed[cause as usize]);
    }
    registry.register("rejects", "Rejected parts, by cause", by_cause);
    let alarms = Family::<Labels, Gauge>::default();
    for alarm in ALARMS {
        let latched = i64::from(snapshot.alarms.contains(alarm));
        alarms
            .get_or_create(&[("alarm", alarm_text(alarm).0)])
            .set(latched);
    }
    registry.register("alarm", "Whether an alarm is latched", alarms);
    let ready = Gauge::<i64>::default();
    ready.set(i64::from(snapshot.outputs.ready));
    registry.register("ready", "Whether parts are inspected", ready);
    for (name, help, us) in [
        (
            "latency_mean",
            "From trigger to verdict, mean",
            s.latency.mean_us(),
        ),
        (
            "latency_p99",
            "From trigger to verdict, 99 of 100 take less",
            s.latency.percentile_us(99),
        ),
    ] {
        if let Some(us) = us {
            let gauge = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
            gauge.set(us as f64 / 1e6);
            registry.register_with_unit(name, help, Unit::Seconds, gauge);
        }
    }
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::host::{Mode, SelfTest};
    use crate::line::{Alarm, AlarmSet, Micros, Outputs, Statistics};

    #[test]
    fn every_part_is_counted_once() {
        let settings = crate::control::Values::default().settings().unwrap();
        let mut statistics = Statistics::default();
        statistics.outcomes.parts = 10;
        statistics.outcomes.good = 6;
        statistics.outcomes.rejects = 3;
        statistics.outcomes.failed[Cause::Late as usize] = 1;
        let snapshot = Snapshot {
            now: Micros(0),
            mode: Mode::Running,
            outputs: Outputs::safe(settings.wiring),
            alarms: AlarmSet::of(&[Alarm::Camera]),
            statistics,
            challenge: None,
            last: None,
            cameras: 1,
            down: Default::default(),
            self_test: SelfTest::None,
        };
        let text = text(&snapshot);
        for line in [
            "faprompt_parts_total 10",
            "faprompt_good_total 6",
            "faprompt_rejects_total{cause=\"score\"} 3",
            "faprompt_rejects_total{cause=\"late\"} 1",
            "faprompt_rejects_total{cause=\"no_frame\"} 0",
            "faprompt_alarm{alarm=\"camera\"} 1",
            "faprompt_alarm{alarm=\"frozen\"} 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(
            !text.contains("faprompt_latency"),
            "nothing was judged: {text}"
        );
    }
}
