//! The archive: pictures of parts as the recorder left them, found by what became of them; what somebody says of one;
//! and a copy of many for training.
//!
//! Reading folders takes long, so it is done by threads beside the one that answers. What somebody says of a part is
//! kept in its own file, and in the table only so that it is found.

mod download;
mod index;

pub use download::download;

use super::access::Needed;
use super::{Page, Shared, refused};
use crate::control::refusal::Code;
use crate::control::table::Access;
use crate::control::{ControlledStation, cause_name};
use crate::durable;
use crate::line::Cause;
use crate::runtime::record::pictures::{FOLDER, is_day, part_of};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query as Asked, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use index::{Index, Item, LISTED, Query, read};
use serde::Deserialize;
use serde_json::json;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Characters of a note.
const NOTE: usize = 500;

/// The archive of a station.
pub struct Archive {
    folder: PathBuf,
    /// Opened when it is asked for first.
    index: Mutex<Option<Index>>,
    /// One download at a time: it reads the disk as fast as it can.
    downloads: Arc<tokio::sync::Semaphore>,
}

impl Archive {
    /// Of a folder of results.
    pub fn new(out: &FilePath) -> Archive {
        Archive {
            folder: out.join(FOLDER),
            index: Mutex::default(),
            downloads: Arc::new(tokio::sync::Semaphore::new(1)),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Index) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match &mut *index {
            Some(index) => index,
            closed => closed.insert(Index::open(&self.folder)?),
        };
        look(index)
    }
}

/// A file of the archive, if the names are such as the recorder gives: no folder, no way up.
fn path(folder: &FilePath, day: &str, file: &str) -> Option<PathBuf> {
    let plain = !file.contains(['/', '\\', '\0']) && part_of(file).is_some();
    (is_day(day) && plain).then(|| folder.join(day).join(file))
}

fn failed(e: &impl std::fmt::Display) -> Response {
    log::warn!("the archive: {e}");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// What is asked for, if the archive may be seen; else the refusal.
fn asked<H: ControlledStation>(
    page: &Page<H>,
    headers: &HeaderMap,
    query: Result<Asked<Query>, QueryRejection>,
) -> Result<Query, Box<Response>> {
    match (page.hidden(headers, Needed::All), query) {
        (Some(refusal), _) => Err(Box::new(refusal)),
        (None, Ok(Asked(query))) => Ok(query),
        (None, Err(e)) => Err(Box::new(refused(Code::BadArgument, &e.body_text()))),
    }
}

/// The newest parts that are asked for: `{"parts": [...], "choices": {"recipe": [...], ...}}`.
pub async fn list<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
    query: Result<Asked<Query>, QueryRejection>,
) -> Response {
    let query = match asked(&page, &headers, query) {
        Ok(query) => query.at_most(LISTED),
        Err(refusal) => return *refusal,
    };
    let found = tokio::task::spawn_blocking(move || {
        page.archive
            .with(|index| Ok((index.find(&query)?, index.choices()?)))
    });
    match found.await {
        Ok(Ok((parts, choices))) => {
            Json(json!({ "parts": parts, "choices": choices })).into_response()
        }
        Ok(Err(e)) => failed(&e),
        Err(e) => failed(&e),
    }
}

/// A picture: `DAY/NAME.jpg`, or `NAME.overlay.jpg`.
pub async fn picture<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
    Path((day, file)): Path<(String, String)>,
) -> Response {
    if let Some(refusal) = page.hidden(&headers, Needed::All) {
        return refusal;
    }
    let path = path(&page.archive.folder, &day, &file).filter(|_| file.ends_with(".jpg"));
    let Some(path) = path else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(bytes)) => ([(header::CONTENT_TYPE, "image/jpeg")], bytes).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What somebody says of a part.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    day: String,
    stem: String,
    /// `true` it was good, `false` it was bad, `null` neither.
    good: Option<bool>,
    #[serde(default)]
    note: String,
}

/// Marks a part, or takes its mark back.
pub async fn mark<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
    Json(said): Json<Said>,
) -> Response {
    if let Err(refusal) = page.who(&headers, Access::Operator) {
        return *refusal;
    }
    if said.note.chars().count() > NOTE {
        return refused(
            Code::OutOfRange,
            &format!("a note has at most {NOTE} characters"),
        );
    }
    let file = format!("{}.json", said.stem);
    let Some(path) = path(&page.archive.folder, &said.day, &file) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let marked = tokio::task::spawn_blocking(move || -> Result<bool, String> {
        page.archive
            .with(|index| {
                let folder = path.parent().unwrap_or(&page.archive.folder);
                let Some(mut about) = read(folder, &said.stem) else {
                    return Ok(Ok(false));
                };
                (about.good, about.note) = (said.good, said.note);
                let text = match serde_json::to_vec(&about) {
                    Ok(text) => text,
                    Err(e) => return Ok(Err(e.to_string())),
                };
                if let Err(e) = durable::save(&text, &path) {
                    return Ok(Err(format!("{}: {e}", path.display())));
                }
                if !folder.join(format!("{}.jpg", said.stem)).exists() {
                    // It made way meanwhile.
                    let _ = std::fs::remove_file(&path);
                    return Ok(Ok(false));
                }
                let (day, stem) = (said.day, said.stem);
                index.changed(&index::Item { day, stem, about })?;
                Ok(Ok(true))
            })
            .map_err(|e| e.to_string())?
    });
    match marked.await {
        Ok(Ok(true)) => StatusCode::NO_CONTENT.into_response(),
        Ok(Ok(false)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(e)) => failed(&e),
        Err(e) => failed(&e),
    }
}

impl<H: ControlledStation> Page<H> {
    /// The newest frame of the archive on which something can be seen, for whoever draws on it.
    pub(super) fn newest(&self) -> Option<PathBuf> {
        let query = Query::default().all_of(LISTED);
        let found = self.archive.with(|index| index.find(&query)).ok()?;
        let item = to_draw_on(&found)?;
        path(
            &self.archive.folder,
            &item.day,
            &format!("{}.jpg", item.stem),
        )
    }
}

/// Of these parts, newest first, the first on whose frame something can be seen; else the first.
fn to_draw_on(found: &[Item]) -> Option<&Item> {
    let nothing = Some(cause_name(Cause::NothingVisible));
    let visible = found.iter().find(|i| i.about.cause.as_deref() != nothing);
    visible.or(found.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::record::pictures::About;

    #[test]
    fn regions_are_drawn_on_a_frame_on_which_something_can_be_seen() {
        let item = |part: u64, cause: Option<&str>| Item {
            day: "2026-11-29".into(),
            stem: format!("{part:05}-x"),
            about: About {
                part,
                cause: cause.map(String::from),
                ..About::default()
            },
        };
        let drawn_on = |found: &[Item]| to_draw_on(found).map(|i| i.about.part);
        let (dark, frozen) = (Some("nothing_visible"), Some("frozen"));
        assert_eq!(drawn_on(&[]), None);
        assert_eq!(drawn_on(&[item(3, dark), item(2, dark)]), Some(3));
        let found = [item(4, dark), item(3, frozen), item(2, None)];
        assert_eq!(drawn_on(&found), Some(3));
        assert_eq!(drawn_on(&found[2..]), Some(2));
    }

    #[test]
    fn only_the_recorders_files_have_a_path() {
        let at = |day, file| path("a".as_ref(), day, file);
        assert_eq!(
            at("2026-11-29", "00012-x.jpg").unwrap(),
            FilePath::new("a/2026-11-29/00012-x.jpg")
        );
        for (day, file) in [
            ("2026-11-29", "../00012-x.jpg"),
            ("2026-11-29", "00012-/../../x.jpg"),
            ("2026-11-29", "index.sqlite"),
            ("..", "00012-x.jpg"),
            ("2026-11-2/", "00012-x.jpg"),
        ] {
            assert_eq!(at(day, file), None, "{day} {file}");
        }
    }
}
