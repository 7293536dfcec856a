//! Backup and restore of a running station: the file that the command line's `backup` writes and `restore` reads.

use super::{Shared, refused, until_in_force};
use crate::control::ControlledStation;
use crate::control::backup;
use crate::control::refusal::Code;
use crate::control::store::shelf::Shelf;
use crate::control::table::{Access, Parameter};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::Instant;

/// Bytes of the largest backup: some recipes with what they were taught.
const LARGEST: usize = 256 << 20;

/// The header of a backup that names the files of taught parts outside the station's folder, which are not in it.
const LEFT_OUT: &str = "x-left-out";

/// The backup, TOML. It holds the passwords' hashes: for engineers.
pub async fn backup<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = page.who(&headers, Access::Engineer) {
        return *refusal;
    }
    let stored = page.control().stored().clone();
    let shelf = Shelf::new(&page.station.state);
    let name = stored.memory.text(Parameter::StationName).to_string();
    let text = tokio::task::spawn_blocking(move || backup::text(&stored, &shelf)).await;
    let Ok(backup::Backup {
        text,
        missing,
        elsewhere,
    }) = text
    else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if let Some(what) = missing.first() {
        return refused(
            Code::Memory,
            &format!("{what}; it would not be in the backup"),
        );
    }
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    let shown = format!("attachment; filename=\"{name}.backup.toml\"");
    let headers = [
        (header::CONTENT_TYPE, "application/toml".to_string()),
        (header::CONTENT_DISPOSITION, shown),
    ];
    // The parameters' texts are printable ASCII.
    let left_out = match elsewhere.is_empty() {
        true => None,
        false => Some([(LEFT_OUT, elsewhere.join(", "))]),
    };
    match left_out {
        Some(left_out) => (headers, left_out, text).into_response(),
        None => (headers, text).into_response(),
    }
}

/// Puts a backup into force: all of it or nothing. Nothing of it is read before somebody is known to be an engineer, and
/// one at a time is: each takes as much memory as it is long.
pub async fn restore<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let grant = match page.who(&headers, Access::Engineer) {
        Ok(grant) => grant,
        Err(refusal) => return *refusal,
    };
    let Ok(_alone) = page.restoring.try_lock() else {
        return refused(Code::Busy, "another backup is being restored");
    };
    let Ok(bytes) = to_bytes(body, LARGEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let Ok(text) = String::from_utf8(bytes.into()) else {
        return refused(Code::BadText, "a backup is text (UTF-8)");
    };
    let mut memory = page.control().memory().clone();
    let shelf = Shelf::new(&page.station.state);
    let made = tokio::task::spawn_blocking(move || {
        let goods = backup::goods(&text).map_err(|e| (Code::BadText, e))?;
        backup::read(&mut memory, &text, &goods, &shelf).map_err(|e| (Code::BadText, e))?;
        // Before a recipe names them.
        for bytes in goods.values() {
            let put = shelf.put(bytes).map_err(|e| (Code::Memory, e.to_string()));
            put?;
        }
        Ok(memory)
    });
    let memory = match made.await {
        Ok(Ok(memory)) => memory,
        Ok(Err((code, text))) => return refused(code, &text),
        Err(e) => return refused(Code::Busy, &e.to_string()),
    };
    let (id, result) = {
        let mut control = page.control();
        let grant = super::access::lock(&grant);
        let who = grant.session.who(&control);
        (who.session, control.restore(&who, memory, Instant::now()))
    };
    let committed = match result {
        Ok(Some(committed)) => Ok(committed),
        Ok(None) => until_in_force(&page, id).await,
        Err(refusal) => Err(refusal),
    };
    match committed {
        Ok(committed) => Json(json!({ "changes": committed.changes })).into_response(),
        Err(refusal) => refused(refusal.code, &refusal.text),
    }
}
