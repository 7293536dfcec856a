//! The station's page: what it does and what it sees, in a browser; and the same for programs (`/api`, `/metrics`).
//!
//! One thread of low priority with a runtime of its own; nothing of it runs in the threads that judge parts or
//! switch outputs, and none of these ever waits for it. Who looks on needs no password; whatever changes something
//! needs one, and goes the way of a line that came over the serial port: the same commands, levels and log.
//!
//! | module | what it does |
//! |---|---|
//! | `access` | logging in: tokens, their level, their end |
//! | `archive` | pictures of rejected parts |
//! | `events` | state and results as they come, for all who look on |
//! | `listener` | connections, with TLS or without; how many, how long |
//! | `metrics` | counters for Prometheus |
//! | `state` | the station's state and parameters as JSON |
//! | `tls` | the page's certificate |

mod access;
mod archive;
mod events;
mod listener;
mod metrics;
pub(crate) mod state;
mod tls;

use crate::control::refusal::Code;
use crate::control::session::{Output, Session};
use crate::control::{Control, ControlledStation};
use crate::line::Micros;
use crate::runtime::live::Live;
use crate::runtime::system;
use access::{Access, Grant};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use events::Events;
use listener::{Limited, Peer};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of the longest request's body: a line of the command set, or a password.
const BODY: usize = 4096;

/// A request is answered by then; a change that takes longer says so in the log.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether everybody must end, and whether a change is in force.
const LOOK: Duration = Duration::from_millis(25);

/// What a page of a stranger must not do with this one: no script, picture or frame comes from or goes elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is served: name, kind, bytes. Built into the program, so that it works without a network beyond the station's.
const ASSETS: [(&str, &str, &str); 4] = [
    (
        "",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "app.js",
        "text/javascript; charset=utf-8",
        include_str!("page/app.js"),
    ),
    (
        "texts.js",
        "text/javascript; charset=utf-8",
        include_str!("page/texts.js"),
    ),
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("page/style.css"),
    ),
];

/// The description of all paths but the page's own files.
const OPENAPI: &str = include_str!("openapi.json");

/// What the page needs of a station.
pub struct Station<H: ControlledStation> {
    /// Its control.
    pub control: Arc<Mutex<Control<H>>>,
    /// The last part's picture.
    pub live: Arc<Live>,
    /// The folder of results.
    pub out: PathBuf,
    /// The folder with certificate and key: HTTPS by them, which are made if there are none.
    pub tls: Option<PathBuf>,
    /// Passwords may come from other computers without TLS.
    pub plain: bool,
}

/// Shared by all requests.
struct Page<H: ControlledStation> {
    station: Station<H>,
    access: Mutex<Access>,
    events: Events,
}

impl<H: ControlledStation> Page<H> {
    fn control(&self) -> MutexGuard<'_, Control<H>> {
        // A thread that panicked with the lock held leaves whole values behind: see `control::port`.
        let control = &self.station.control;
        control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Shared<H> = State<Arc<Page<H>>>;

/// Between two tries to get an address that cannot be had.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves the page at an address until `stop` is set. While the address cannot be had (another program has it, the
/// network is not up yet), it is tried again: the station does not depend on it.
pub fn serve<H: ControlledStation + Send + 'static>(
    address: SocketAddr,
    station: Station<H>,
    stop: &AtomicBool,
) {
    if let Err(e) = system::low_priority() {
        log::warn!("the page's thread keeps its priority: {e}");
    }
    let page = Arc::new(Page {
        station,
        access: Mutex::default(),
        events: Events::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return log::error!("there is no page: {e}"),
    };
    runtime.block_on(async {
        let stopped = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Whoever still looks on is cut off: the station does not wait for browsers.
        tokio::select! {
            () = served(address, &page) => (),
            () = events::run(&page) => (),
            () = stopped => (),
        }
    });
}

async fn served<H: ControlledStation + Send + 'static>(address: SocketAddr, page: &Arc<Page<H>>) {
    let mut failed = false;
    loop {
        let result: io::Result<()> = async {
            let folder = page.station.tls.as_deref();
            let tls = folder.map(|folder| tls::acceptor(folder, address.ip()));
            let tls = tls.transpose().map_err(io::Error::other)?;
            let scheme = if tls.is_some() { "https" } else { "http" };
            let listener = Limited::listen(address, tls).await?;
            log::info!("the page is at {scheme}://{}/", listener.local_addr()?);
            let router = router(page.clone()).into_make_service_with_connect_info::<Peer>();
            axum::serve(listener, router).await
        }
        .await;
        if let Err(e) = result
            && !std::mem::replace(&mut failed, true)
        {
            log::error!("{address}: there is no page: {e}; tried again until there is");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn router<H: ControlledStation + Send + 'static>(page: Arc<Page<H>>) -> Router {
    let mut router = Router::new()
        .route("/api/state", get(state_now::<H>))
        .route("/api/parameters", get(parameters::<H>))
        .route("/api/events", get(events::stream::<H>))
        .route("/api/login", post(login::<H>))
        .route("/api/logout", post(logout::<H>))
        .route("/api/command", post(command::<H>))
        .route("/api/rejects", get(rejects::<H>))
        .route("/rejects/{name}", get(reject::<H>))
        .route("/live.jpg", get(live::<H>))
        .route("/api/openapi.json", get(description))
        .route("/metrics", get(measures::<H>));
    for (name, kind, bytes) in ASSETS {
        let answer = move || async move { ([(header::CONTENT_TYPE, kind)], bytes) };
        router = router.route(&format!("/{name}"), get(answer));
    }
    router
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn(guarded))
        .with_state(page)
}

/// What every answer says, and what every request gets: a limit of time.
async fn guarded(request: axum::extract::Request, next: Next) -> Response {
    let streams = request.uri().path() == "/api/events";
    let mut answer = match streams {
        true => next.run(request).await,
        false => match tokio::time::timeout(PATIENCE, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
        },
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// What all of this is, for programs: OpenAPI 3.1.
async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn state_now<H: ControlledStation>(State(page): Shared<H>) -> Json<Value> {
    Json(state::state(&mut page.control()))
}

async fn parameters<H: ControlledStation>(State(page): Shared<H>) -> Json<Value> {
    Json(state::parameters(&page.control()))
}

/// Who wants to log in.
#[derive(Deserialize)]
struct Login {
    level: String,
    password: String,
}

async fn login<H: ControlledStation>(
    State(page): Shared<H>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    Json(login): Json<Login>,
) -> Response {
    let Station { tls, plain, .. } = &page.station;
    if tls.is_none() && !plain && !from.ip().to_canonical().is_loopback() {
        return refused(Code::NeedsTls, Code::NeedsTls.text());
    }
    let now = Instant::now();
    let mut control = page.control();
    let level = match control.login_from_afar(&login.level, &login.password, now) {
        Ok(level) => level,
        Err(refusal) => return refused(refusal.code, &refusal.text),
    };
    let session = Session::from_afar(&mut control, &format!("web {}", from.ip()), level, now);
    let granted = page.access().grant(session, now);
    match granted {
        Ok((token, gone)) => {
            gone.into_iter().for_each(|mut s| s.hang_up(&mut control));
            log::info!("{from}: logged in as {}", level.name());
            Json(json!({ "token": token, "level": level.name() })).into_response()
        }
        Err(e) => {
            log::error!("no token for {from}: {e}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn logout<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> StatusCode {
    let mut control = page.control();
    if let Some(mut session) = page.access().end(&headers) {
        session.hang_up(&mut control);
    }
    StatusCode::NO_CONTENT
}

/// A line of the command set: what the serial port would get.
#[derive(Deserialize)]
struct Line {
    line: String,
}

async fn command<H: ControlledStation>(
    State(page): Shared<H>,
    headers: HeaderMap,
    Json(Line { line }): Json<Line>,
) -> Response {
    let Some(grant) = page.access().of(&headers, Instant::now()) else {
        return refused(Code::NeedsOperator, "log in first");
    };
    let mut answer = Box::new(Output::new());
    {
        let mut control = page.control();
        let Grant { session, .. } = &mut *grant.lock().unwrap_or_else(PoisonError::into_inner);
        if session.is_waiting() {
            return refused(Code::Busy, "the last command is still at work");
        }
        session.answer_line(&line, Instant::now(), &mut control, &mut answer);
    }
    // A change that has to be made ready: others are served meanwhile.
    loop {
        {
            let mut grant = grant.lock().unwrap_or_else(PoisonError::into_inner);
            if !grant.session.is_waiting() {
                break;
            }
            let session = &mut grant.session;
            session.idle(Instant::now(), &mut page.control(), &mut answer);
        }
        tokio::time::sleep(LOOK).await;
    }
    let lines: Vec<&str> = answer.lines().collect();
    let code = match lines.first().is_some_and(|l| l.starts_with("OK")) {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (code, Json(json!({ "lines": lines }))).into_response()
}

/// A refusal, as the command set would give it.
fn refused(code: Code, text: &str) -> Response {
    let status = match code {
        Code::TooSoon => StatusCode::TOO_MANY_REQUESTS,
        Code::NeedsTls => StatusCode::FORBIDDEN,
        Code::WrongPassword | Code::NeedsOperator | Code::NeedsEngineer => StatusCode::UNAUTHORIZED,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, Json(json!({ "code": code.number(), "text": text }))).into_response()
}

async fn rejects<H: ControlledStation>(State(page): Shared<H>) -> Response {
    match archive::newest(&page.station.out) {
        Ok(names) => Json(json!({ "pictures": names })).into_response(),
        Err(e) => {
            log::warn!("{}: {e}", page.station.out.display());
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn reject<H: ControlledStation>(
    State(page): Shared<H>,
    Path(name): Path<String>,
) -> Response {
    match archive::read(&page.station.out, &name) {
        Some(bytes) => ([(header::CONTENT_TYPE, "image/png")], bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The last part under its heat map. Whoever asks makes the station draw the next ones.
async fn live<H: ControlledStation>(State(page): Shared<H>) -> Response {
    let Micros(now) = system::now();
    page.station.live.ask(Micros(now));
    match page.station.live.shown() {
        Some(shown) => (
            [
                (header::CONTENT_TYPE, "image/jpeg".to_string()),
                (header::ETAG, format!("\"{}\"", shown.part.0)),
            ],
            shown.jpeg.clone(),
        )
            .into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn measures<H: ControlledStation>(State(page): Shared<H>) -> Response {
    let text = metrics::text(&page.control().snapshot());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Paths and methods as they stand in the router above: `.route("/path", get(...).post(...))`.
    fn routes() -> BTreeSet<String> {
        let source = include_str!("mod.rs");
        let (_, router) = source.split_once("let mut router = Router::new()").unwrap();
        let (router, _) = router.split_once(";\n").unwrap();
        let mut routes = BTreeSet::new();
        for route in router.split(".route(\"").skip(1) {
            let (path, handlers) = route.split_once('"').unwrap();
            for method in ["get", "post", "put", "delete"] {
                if handlers.contains(&format!(" {method}("))
                    || handlers.contains(&format!(".{method}("))
                {
                    routes.insert(format!("{method} {path}"));
                }
            }
        }
        routes
    }

    #[test]
    fn every_path_is_described_and_nothing_else_is() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = described["paths"].as_object().unwrap().iter();
        let described: BTreeSet<String> = paths
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(move |method| format!("{method} {path}"))
            })
            .collect();
        assert_eq!(routes(), described);
        assert!(described.len() >= 11);
    }
}
