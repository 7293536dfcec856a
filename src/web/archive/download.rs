//! A copy of the archive's frames as MVTec AD lays out its sets, as one tar: what `faprompt-train evaluate` reads.
//!
//! ```text
//! NAME/train/good/          parts of which somebody said that they were good
//! NAME/test/good/           parts that passed and of which nobody said anything
//! NAME/test/TYPE/           parts of which somebody said that they were bad, by type, else `defect`
//! NAME/test/unchecked/      rejects of which nobody said anything: look at them first
//! ```
//!
//! Sent as it is read; nothing of it is held.

use super::index::{Item, Query};
use super::{Shared, asked, failed, path};
use crate::control::ControlledStation;
use crate::control::table::Parameter;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Asked, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::io;
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;

/// Pieces that wait to be sent, and the least bytes of one.
const PIECES: usize = 4;
const PIECE: usize = 64 * 1024;
/// Most parts of one copy.
const MOST: u32 = 100_000;

/// The way to whoever downloads: waits while they are slow, ends when they are gone.
struct Pipe {
    to: Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let sent = self.to.blocking_send(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A name that is one folder's on every system.
fn plain(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    match name {
        "" => "station".into(),
        name => name.chars().map(safe).collect(),
    }
}

/// The folder that a part goes to.
fn folder(item: &Item) -> String {
    let about = &item.about;
    match (about.good, about.reject) {
        (Some(true), _) => "train/good".into(),
        (Some(false), _) => format!("test/{}", plain(about.kind.as_deref().unwrap_or("defect"))),
        (None, false) => "test/good".into(),
        (None, true) => "test/unchecked".into(),
    }
}

/// All parts that are asked for, as a tar.
pub async fn download<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
    query: Result<Asked<Query>, QueryRejection>,
) -> Response {
    let query = match asked(&page, &headers, query) {
        Ok(query) => query.all_of(MOST),
        Err(refusal) => return *refusal,
    };
    let Ok(permit) = page.archive.downloads.clone().try_acquire_owned() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "somebody downloads already",
        )
            .into_response();
    };
    let name = plain(page.control().memory().text(Parameter::StationName));
    let shown = format!("attachment; filename=\"{name}.tar\"");
    let (to, pieces) = tokio::sync::mpsc::channel(PIECES);
    let found = tokio::task::spawn_blocking({
        let page = page.clone();
        move || page.archive.with(|index| index.find(&query))
    });
    let items = match found.await {
        Ok(Ok(items)) => items,
        Ok(Err(e)) => return failed(&e),
        Err(e) => return failed(&e),
    };
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let write = || -> io::Result<()> {
            let mut tar = tar::Builder::new(Pipe {
                to,
                piece: Vec::with_capacity(PIECE),
            });
            for item in &items {
                let file = format!("{}.jpg", item.stem);
                let Some(path) = path(&page.archive.folder, &item.day, &file) else {
                    continue;
                };
                // It may have made way since.
                let Ok(bytes) = std::fs::read(path) else {
                    continue;
                };
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                let at = format!("{name}/{}/{}-{file}", folder(item), item.day);
                tar.append_data(&mut header, at, &bytes[..])?;
            }
            let mut pipe = tar.into_inner()?;
            io::Write::flush(&mut pipe)
        };
        if let Err(e) = write() {
            log::info!("a download of the archive ended early: {e}");
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_string()),
        (header::CONTENT_DISPOSITION, shown),
    ];
    (headers, Body::from_stream(ReceiverStream::new(pieces))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::record::pictures::About;

    #[test]
    fn a_part_goes_where_somebody_said_it_belongs() {
        let of = |good, reject, kind: Option<&str>| {
            folder(&Item {
                day: "2026-11-29".into(),
                stem: "00001-x".into(),
                about: About {
                    good,
                    reject,
                    kind: kind.map(String::from),
                    ..About::default()
                },
            })
        };
        assert_eq!(of(Some(true), true, None), "train/good");
        assert_eq!(of(Some(false), false, None), "test/defect");
        assert_eq!(
            of(Some(false), true, Some("../faulty imprint")),
            "test/___faulty_imprint"
        );
        assert_eq!(of(None, false, None), "test/good");
        assert_eq!(of(None, true, Some("scratch")), "test/unchecked");
        assert_eq!(plain(""), "station");
    }
}
