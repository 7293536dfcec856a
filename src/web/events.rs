//! State and results as they come, as server-sent events (HTML Living Standard, 9.2). Made once for all who look on;
//! who reads too slowly misses some, and nobody waits for them.

use super::access::Needed;
use super::{Page, Shared, state};
use crate::control::ControlledStation;
use crate::runtime::system::{now, utc};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::{Sender, channel};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// How often an event is sent.
const EVERY: Duration = Duration::from_millis(250);

/// Events that one who reads slowly may be behind.
const BEHIND: usize = 32;

/// Who may look on at a time.
const LOOKERS: usize = 32;

/// An event: its name and its JSON.
type News = (&'static str, Arc<str>);

/// Results that are remembered, for whoever begins to look on.
const REMEMBERED: usize = 500;

/// The way to all who look on.
pub struct Events {
    all: Sender<News>,
    /// The last results, the newest last.
    last: Mutex<VecDeque<Value>>,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            all: channel(BEHIND).0,
            last: Mutex::default(),
        }
    }
}

impl Events {
    /// The last results, the newest last.
    pub fn last(&self) -> Vec<Value> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().cloned().collect()
    }

    fn remember(&self, results: &[Value]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.extend(results.iter().cloned());
        let over = last.len().saturating_sub(REMEMBERED);
        last.drain(..over);
    }
}

/// Tells state and results until it is dropped.
pub async fn run<H: ControlledStation + Send + 'static>(page: &Page<H>) {
    let mut next = page.control().next_result();
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let watched = page.events.all.receiver_count() > 0;
        let (state, results) = {
            let mut control = page.control();
            let over = page
                .access()
                .over(Instant::now(), |session| session.is_locked_out(&control));
            over.into_iter()
                .for_each(|ended| ended.hang_up(&mut control));
            let end = control.next_result();
            let judging = control.host().judging();
            let types = judging.network.as_ref().map_or(&[][..], |n| &n.types);
            let (mut results, time) = (Vec::new(), utc(now()));
            while let Some((number, result)) = control.result(next) {
                let mut result = state::result(&result, types);
                // Who asks for the last ones again and again knows by these which are new.
                result["number"] = json!(number);
                result["time"] = json!(time);
                results.push(result);
                next = number + 1;
            }
            next = end;
            (watched.then(|| page.state(&mut control)), results)
        };
        page.events.remember(&results);
        let news = [
            state.map(|state| ("state", state)),
            (watched && !results.is_empty()).then(|| ("results", json!(results))),
        ];
        for (name, value) in news.into_iter().flatten() {
            // Fails when nobody looks on any more.
            let _ = page.events.all.send((name, value.to_string().into()));
        }
    }
}

/// A browser that looks on.
pub async fn stream<H: ControlledStation + Send + 'static>(
    State(page): Shared<H>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = page.hidden(&headers, Needed::Live) {
        return refusal;
    }
    if page.events.all.receiver_count() >= LOOKERS {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many look on already").into_response();
    }
    let news = BroadcastStream::new(page.events.all.subscribe());
    // What was missed is missed: the next state is whole.
    let news = news.filter_map(Result::ok);
    let events = news
        .map(|(name, text): News| Ok::<_, Infallible>(Event::default().event(name).data(&*text)));
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}
