//! State and results as they come, as server-sent events (HTML Living Standard, 9.2). Made once for all who look on;
//! who reads too slowly misses some, and nobody waits for them.

use super::{Page, Shared, state};
use crate::control::ControlledStation;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::{Sender, channel};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// How often something is told.
const EVERY: Duration = Duration::from_millis(250);

/// Events that one who reads slowly may be behind.
const BEHIND: usize = 32;

/// Who may look on at a time.
const LOOKERS: usize = 32;

/// An event: its name and its JSON.
type News = (&'static str, Arc<str>);

/// The way to all who look on.
pub struct Events(Sender<News>);

impl Default for Events {
    fn default() -> Self {
        Events(channel(BEHIND).0)
    }
}

/// Tells state and results until it is dropped.
pub async fn run<H: ControlledStation + Send + 'static>(page: &Page<H>) {
    let mut next = page.control().next_result();
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let watched = page.events.0.receiver_count() > 0;
        let (state, results) = {
            let mut control = page.control();
            for mut session in page.access().silent(Instant::now()) {
                session.hang_up(&mut control);
            }
            let end = control.next_result();
            let judging = control.host().judging();
            let types = judging.network.as_ref().map_or(&[][..], |n| &n.types);
            let mut results = Vec::new();
            while watched && let Some((number, result)) = control.result(next) {
                results.push(state::result(&result, types));
                next = number + 1;
            }
            next = end;
            (watched.then(|| state::state(&mut control)), results)
        };
        let news = [
            state.map(|state| ("state", state)),
            (!results.is_empty()).then(|| ("results", json!(results))),
        ];
        for (name, value) in news.into_iter().flatten() {
            // Fails when nobody looks on any more.
            let _ = page.events.0.send((name, value.to_string().into()));
        }
    }
}

/// A browser that looks on.
pub async fn stream<H: ControlledStation + Send + 'static>(State(page): Shared<H>) -> Response {
    if page.events.0.receiver_count() >= LOOKERS {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many look on already").into_response();
    }
    let news = BroadcastStream::new(page.events.0.subscribe());
    // What was missed is missed: the next state is whole.
    let news = news.filter_map(Result::ok);
    let events = news
        .map(|(name, text): News| Ok::<_, Infallible>(Event::default().event(name).data(&*text)));
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}
