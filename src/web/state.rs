//! The station's state and parameters as JSON. Names are those of the command set; more may be added.

use crate::control::host::{ControlledStation, PartResult, SelfTest, Snapshot};
use crate::control::memory::RecipeNumber;
use crate::control::session::{counts, outcome_words};
use crate::control::table::{Kind, TABLE};
use crate::control::table::{Parameter, STEPS};
use crate::control::{Control, alarm_text, mode_name, network_name, self_test_name};
use crate::line::alarms::ALARMS;
use crate::line::counters::ViewCounts;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// What became of a part: `part`, `outcome` (good, reject), `cause` (if it was not its score), `type` (of the
/// defect, where the network tells types apart), `score` (0 to 1),
/// `camera` (whose score that is), `latency_ms`.
pub fn result(result: &PartResult, types: &[String]) -> Value {
    let (outcome, cause) = outcome_words(result.outcome);
    json!({
        "part": result.part.0,
        "outcome": outcome,
        "cause": cause,
        "type": result.type_name(types),
        "score": result.score,
        "camera": result.view.number(),
        "latency_ms": result.latency_us.map(|us| us as f64 / 1e3),
    })
}

/// Everything that somebody who looks on may know.
pub fn state<H: ControlledStation>(control: &mut Control<H>) -> Value {
    let s = control.snapshot();
    let judging = control.host().judging();
    let stops = control.alarms_that_stop();
    let memory_fault = control.memory_fault();
    let memory = control.memory();
    let alarms: Vec<Value> = ALARMS
        .into_iter()
        .filter(|a| s.alarms.contains(*a))
        .map(|a| {
            let (name, text) = alarm_text(a);
            json!({ "number": a as u8, "name": name, "text": text, "stops": stops.contains(a) })
        })
        .collect();
    let counters: Map<String, Value> = counts(&s.statistics, s.lost)
        .into_iter()
        .map(|(name, count)| (name.to_string(), json!(count)))
        .collect();
    let network = judging.network.as_ref();
    json!({
        "product": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "station": memory.text(Parameter::StationName),
        "mode": mode_name(s.mode),
        "outputs": {
            "good": s.outputs.good,
            "reject": s.outputs.reject,
            "ready": s.outputs.ready,
            "busy": s.outputs.busy,
            "result": s.outputs.result,
            "fault": s.outputs.fault || memory_fault,
            "line_stop": s.outputs.line_stop,
        },
        "memory_fault": memory_fault,
        "alarms": alarms,
        "counters": counters,
        "latency_p99_ms": s.statistics.latency.percentile_us(99).map(|us| us as f64 / 1e3),
        "recipe": memory.active().to_string(),
        "recipe_name": memory.text(Parameter::RecipeName),
        "threshold": f64::from(memory.number(Parameter::Threshold)) / f64::from(STEPS),
        "network": {
            "state": network_name(judging.state),
            "name": network.map(|n| &n.name),
            "warning": network.and_then(|n| n.warning),
            "encoder": network.map(|n| &n.encoder).filter(|encoder| !encoder.is_empty()),
            "taught": network.and_then(|n| n.taught.as_ref()).map(|t| json!({
                "name": t.name, "parts": t.parts, "memory": t.kind,
            })),
        },
        "pause": control.pause().map(|p| json!({ "left_s": p.left(Instant::now()), "reason": p.reason, "by": p.by })),
        "challenge": s.challenge.map(|c| json!({
            "pieces": c.pieces, "detected": c.detected, "missed": c.missed, "not_judged": c.not_judged,
            "over": c.is_over(), "passed": c.passed(),
        })),
        "self_test": self_test_name(s.self_test),
        "cameras": cameras(&s),
        "self_test_failed": match s.self_test { SelfTest::Failed(what) => Some(what), _ => None },
        "last": s.last.as_ref().map(|last| result(last, network.map_or(&[], |n| &n.types))),
    })
}

/// The recipes: `number`, `name` (empty if it has none), and whether it is `in_use`.
pub fn recipes<H: ControlledStation>(control: &Control<H>) -> Value {
    let memory = control.memory();
    let one = |recipe: RecipeNumber| {
        json!({
            "number": recipe.get(),
            "name": memory.name(recipe),
            "in_use": recipe == memory.active(),
        })
    };
    Value::Array(RecipeNumber::all().map(one).collect())
}

/// What each camera said of the parts, and whether it is down.
fn cameras(s: &Snapshot) -> Value {
    let one = |(i, counts): (usize, &ViewCounts)| {
        json!({
            "camera": i + 1,
            "down": s.down[i],
            "good": counts.good,
            "rejects": counts.rejects,
            "errors": counts.errors,
            "damaged": counts.damaged,
            "missing": counts.missing,
            "late": counts.late,
        })
    };
    let views = s.statistics.views.iter().take(s.cameras);
    Value::Array(views.enumerate().map(one).collect())
}

/// The parameter table with the values that are in force. Of passwords only whether there is one.
pub fn parameters<H: ControlledStation>(control: &Control<H>) -> Value {
    let memory = control.memory();
    let rows = TABLE.iter().map(|e| {
        let choices = match e.kind {
            Kind::Choice(words) => Some(words),
            _ => None,
        };
        json!({
            "name": e.name,
            "value": e.show(memory.get(e.parameter)).to_string(),
            "default": e.show(&e.default_value()).to_string(),
            "unit": e.unit,
            "range": e.range().to_string(),
            "choices": choices,
            "secret": e.kind == Kind::Secret,
            "level": e.access.name(),
            "scope": e.scope.name(),
            "effect": e.effect.name(),
            "help": e.help,
        })
    });
    Value::Array(rows.collect())
}
