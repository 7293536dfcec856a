//! The lesson that is going on, as JSON: what TEACH tells line by line.

use super::access::Needed;
use super::{Shared, looked};
use crate::control::session::lesson_name;
use crate::control::shared::TeachReport;
use crate::control::table::STEPS;
use crate::control::{Control, ControlledStation};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Parts that are listed: the oddest.
const LISTED: usize = 60;

/// The lesson: `null` if there is none. Parts are listed the oddest first; `bound` is in words.
pub fn lesson<H: ControlledStation>(control: &mut Control<H>) -> Value {
    let Some(report) = control.teach_report() else {
        return Value::Null;
    };
    let lesson = &report.lesson;
    let result = report.result().map(|result| {
        let threshold = f64::from(report.threshold) / f64::from(STEPS);
        let parts = result.parts.iter().take(LISTED).map(|part| {
            // Of parts that passed the station the name is their number.
            let number: Option<u64> = part.name.parse().ok();
            json!({ "number": part.number, "part": number, "name": part.name, "z": part.z, "odd": part.odd })
        });
        let pieces = result.pieces.iter().map(|(name, score)| {
            json!({ "name": name, "score": score, "passes": f64::from(*score) <= threshold })
        });
        json!({
            "memory": result.kind,
            "threshold": threshold,
            "odd": result.odd().count(),
            "bound": report.promise().map(|p| p.to_string()),
            "scores": result.scores,
            "parts": parts.collect::<Vec<_>>(),
            "pieces": pieces.collect::<Vec<_>>(),
        })
    });
    let TeachReport { not_judged, .. } = &report;
    json!({
        "state": lesson_name(lesson.state),
        "parts": lesson.parts,
        "wanted": lesson.wanted,
        "not_judged": not_judged,
        "problem": lesson.problem,
        "result": result,
    })
}

/// See [`lesson`].
pub async fn get<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> Response {
    looked(&page, &headers, Needed::All, |page| {
        Json(lesson(&mut page.control())).into_response()
    })
}
