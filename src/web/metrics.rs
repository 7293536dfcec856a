//! Counters for Prometheus, in its text format 0.0.4, which every scraper reads.

use super::links::Links;
use crate::control::host::Snapshot;
use crate::control::{alarm_text, cause_name};
use crate::line::alarms::ALARMS;
use crate::line::{Cause, Counters};
use prometheus::core::Collector;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder};

/// What [`text`] is, as HTTP names it.
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// All of them. Rejects by cause add up to `faprompt_parts_total` with the good ones.
///
/// # Errors
/// A name or label that Prometheus does not take; the test below looks at all of them.
pub fn text(snapshot: &Snapshot, memory_fault: bool, plant: &Links) -> prometheus::Result<String> {
    let s = &snapshot.statistics;
    let Counters {
        parts,
        good,
        rejects,
        failed,
    } = s.outcomes;
    let mut families = Vec::new();
    for (name, help, value) in [
        ("parts_total", "Parts that got an outcome", parts),
        ("good_total", "Parts that passed as good", good),
        (
            "result_lines_lost_total",
            "Lines of results and events that could not be written",
            snapshot.lost.lines,
        ),
        (
            "pictures_lost_total",
            "Pictures that were to be kept and were not",
            snapshot.lost.pictures,
        ),
    ] {
        let counter = IntCounter::with_opts(named(name, help))?;
        counter.inc_by(value);
        families.extend(counter.collect());
    }
    let by_cause = named("rejects_total", "Rejected parts, by cause");
    let by_cause = IntCounterVec::new(by_cause, &["cause"])?;
    by_cause.with_label_values(&["score"]).inc_by(rejects);
    for cause in Cause::ALL {
        let counter = by_cause.with_label_values(&[cause_name(cause)]);
        counter.inc_by(failed[cause as usize]);
    }
    families.extend(by_cause.collect());
    let alarms = IntGaugeVec::new(named("alarm", "Whether an alarm is latched"), &["alarm"])?;
    for alarm in ALARMS {
        let latched = i64::from(snapshot.alarms.contains(alarm));
        alarms
            .with_label_values(&[alarm_text(alarm).0])
            .set(latched);
    }
    families.extend(alarms.collect());
    for (name, help, on) in [
        (
            "memory_fault",
            "Whether stored settings or counters were damaged and nobody has acknowledged it, or cannot be written",
            memory_fault,
        ),
        (
            "ready",
            "Whether parts are inspected",
            snapshot.outputs.ready,
        ),
    ] {
        let gauge = IntGauge::with_opts(named(name, help))?;
        gauge.set(on.into());
        families.extend(gauge.collect());
    }
    for (name, help, us) in [
        (
            "latency_mean_seconds",
            "From trigger to verdict, mean",
            s.latency.mean_us(),
        ),
        (
            "latency_p99_seconds",
            "From trigger to verdict, 99 of 100 take less",
            s.latency.percentile_us(99),
        ),
    ] {
        if let Some(us) = us {
            let gauge = Gauge::with_opts(named(name, help))?;
            gauge.set(us as f64 / 1e6);
            families.extend(gauge.collect());
        }
    }
    for (name, help, up) in [
        (
            "mqtt_connected",
            "Whether there is a connection to the broker",
            plant.mqtt_is_connected(),
        ),
        (
            "webhook_up",
            "Whether the web server took the last request",
            plant.webhook_is_up(),
        ),
    ] {
        if let Some(up) = up {
            let gauge = IntGauge::with_opts(named(name, help))?;
            gauge.set(up.into());
            families.extend(gauge.collect());
        }
    }
    // A family without a value is refused.
    if plant.named().next().is_some() {
        let help = "Messages to the plant that wait to be sent";
        let waiting = IntGaugeVec::new(named("messages_waiting", help), &["receiver"])?;
        let help = "Messages to the plant that were dropped";
        let dropped = IntCounterVec::new(named("messages_dropped_total", help), &["receiver"])?;
        for (name, link) in plant.named() {
            let (waits, lost) = link.counts();
            let waits = i64::try_from(waits).unwrap_or(i64::MAX);
            waiting.with_label_values(&[name]).set(waits);
            dropped.with_label_values(&[name]).inc_by(lost);
        }
        families.extend(waiting.collect());
        families.extend(dropped.collect());
    }
    TextEncoder::new().encode_to_string(&families)
}

fn named(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("faprompt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::host::{Lost, Mode, SelfTest};
    use crate::line::{Alarm, AlarmHistory, AlarmSet, Micros, Outputs, Statistics};

    fn shown() -> Snapshot {
        let settings = crate::control::Values::default().settings().unwrap();
        let mut statistics = Statistics::default();
        statistics.outcomes.parts = 10;
        statistics.outcomes.good = 6;
        statistics.outcomes.rejects = 3;
        statistics.outcomes.failed[Cause::Late as usize] = 1;
        Snapshot {
            now: Micros(0),
            mode: Mode::Running,
            outputs: Outputs::safe(settings.wiring),
            alarms: AlarmSet::of(&[Alarm::Camera]),
            alarm_history: AlarmHistory::default(),
            statistics,
            challenge: None,
            last: None,
            cameras: 1,
            down: Default::default(),
            self_test: SelfTest::None,
            lost: Lost {
                lines: 12,
                pictures: 3,
            },
        }
    }

    fn has(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "{line}\n{text}");
        }
    }

    #[test]
    fn receivers_are_there_if_there_are_any_and_a_server_that_was_not_asked_is_neither_up_nor_down()
    {
        let none = text(&shown(), false, &Links::default()).unwrap();
        assert!(!none.contains("mqtt") && !none.contains("webhook") && !none.contains("messages"));
        let links = Links {
            mqtt: Some(Default::default()),
            webhook: Some(Default::default()),
        };
        let before = text(&shown(), false, &links).unwrap();
        has(&before, &["faprompt_mqtt_connected 0"]);
        assert!(!before.contains("faprompt_webhook_up"), "{before}");
        for (_, link) in links.named() {
            link.set_up(true);
        }
        links.mqtt.as_ref().unwrap().set_counts(7, 2);
        let after = text(&shown(), false, &links).unwrap();
        let wanted = [
            "faprompt_mqtt_connected 1",
            "faprompt_webhook_up 1",
            "# TYPE faprompt_messages_waiting gauge",
            "faprompt_messages_waiting{receiver=\"mqtt\"} 7",
            "faprompt_messages_waiting{receiver=\"webhook\"} 0",
            "# HELP faprompt_messages_dropped_total Messages to the plant that were dropped",
            "# TYPE faprompt_messages_dropped_total counter",
            "faprompt_messages_dropped_total{receiver=\"mqtt\"} 2",
            "faprompt_messages_dropped_total{receiver=\"webhook\"} 0",
        ];
        has(&after, &wanted);
        links.webhook.as_ref().unwrap().set_up(false);
        let refused = text(&shown(), false, &links).unwrap();
        has(&refused, &["faprompt_webhook_up 0"]);
    }

    #[test]
    fn a_fault_of_the_memory_is_told_beside_the_alarms() {
        let text = text(&shown(), true, &Links::default()).unwrap();
        has(&text, &["faprompt_memory_fault 1", "faprompt_ready 0"]);
    }

    #[test]
    fn every_part_is_counted_once() {
        let text = text(&shown(), false, &Links::default()).unwrap();
        let wanted = [
            "faprompt_parts_total 10",
            "faprompt_good_total 6",
            "faprompt_rejects_total{cause=\"score\"} 3",
            "faprompt_rejects_total{cause=\"late\"} 1",
            "faprompt_rejects_total{cause=\"no_frame\"} 0",
            "faprompt_alarm{alarm=\"camera\"} 1",
            "faprompt_alarm{alarm=\"frozen\"} 0",
            "faprompt_result_lines_lost_total 12",
            "faprompt_pictures_lost_total 3",
            "# TYPE faprompt_result_lines_lost_total counter",
            "# TYPE faprompt_pictures_lost_total counter",
            "# HELP faprompt_result_lines_lost_total Lines of results and events that could not be written",
            "# TYPE faprompt_parts_total counter",
            "# HELP faprompt_parts_total Parts that got an outcome",
            "faprompt_memory_fault 0",
            "# TYPE faprompt_memory_fault gauge",
        ];
        has(&text, &wanted);
        assert!(
            !text.contains("faprompt_latency"),
            "nothing was judged: {text}"
        );
    }
}
