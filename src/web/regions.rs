//! Regions that somebody drew: a file beside the station's memory, called by what is in it. The parameter `regions`
//! names it, as it names one that was written by hand; to put it into force is a SET and a COMMIT like any other.

use super::access::Needed;
use super::{Shared, looked, refused};
use crate::control::ControlledStation;
use crate::control::refusal::Code;
use crate::control::table::{Access, Kind, Parameter};
use crate::durable;
use crate::hex::hex;
use crate::memory::region::Regions;
use crate::tiling::Tiling;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Patches along each side of the grid on which drawn regions are tried.
const FINE: usize = 200;

/// The regions in force: as their file has them.
pub async fn get<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> Response {
    looked(&page, &headers, Needed::All, |page| {
        let path = page.control().memory().text(Parameter::Regions).to_string();
        if path.is_empty() {
            return Json(Regions::default()).into_response();
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"));
        match text.and_then(|text| Regions::parse(&text).map_err(|e| format!("{path}: {e}"))) {
            Ok(regions) => Json(regions).into_response(),
            Err(e) => refused(Code::Hardware, &e),
        }
    })
}

/// Writes regions down; answers with what `regions` is to be set to. None at all: an empty text.
pub async fn put<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
    Json(drawn): Json<Regions>,
) -> Response {
    if let Err(refusal) = page.who(&headers, Access::Engineer) {
        return *refusal;
    }
    if drawn.is_empty() {
        return Json(json!({ "path": "" })).into_response();
    }
    let text = match toml::to_string(&drawn) {
        Ok(text) => text,
        Err(e) => return refused(Code::BadText, &e.to_string()),
    };
    // What is written must be what a start will read, and leave something to be looked at: on a finer grid than any
    // network's, so that nothing is refused here that a COMMIT would take.
    let read = Regions::parse(&text).and_then(|regions| regions.on(FINE, Tiling::WHOLE));
    if let Err(e) = read {
        return refused(Code::BadText, &e.to_string());
    }
    let digest = hex(&Sha256::digest(&text));
    let name = format!("regions-{}.toml", &digest[..16]);
    let own = page.station.state.join(name);
    // It is stored: another folder that the program is started from must not lose it.
    let path = std::path::absolute(&own).unwrap_or(own);
    let shown = path.display().to_string();
    if let Kind::Text(longest) = Parameter::Regions.entry().kind
        && shown.len() > longest
    {
        let text =
            format!("{shown}: a path of more than {longest} characters: use a shorter --state");
        return refused(Code::BadText, &text);
    }
    match tokio::task::spawn_blocking(move || durable::save(text.as_bytes(), &path)).await {
        Ok(Ok(())) => Json(json!({ "path": shown })).into_response(),
        Ok(Err(e)) => refused(Code::Memory, &format!("{shown}: {e}")),
        Err(e) => refused(Code::Memory, &e.to_string()),
    }
}

/// The newest frame of the archive, to draw on; 204 if there is none.
pub async fn frame<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = page.hidden(&headers, Needed::All) {
        return refusal;
    }
    let newest = tokio::task::spawn_blocking(move || std::fs::read(page.newest()?).ok());
    match newest.await {
        Ok(Some(bytes)) => ([(header::CONTENT_TYPE, "image/jpeg")], bytes).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}
