//! The station's page: what it does and what it sees, in a browser; and the same for programs (`/api`, `/metrics`).
//!
//! One thread of low priority with a runtime of its own, and others for what reads folders; nothing of it runs in the
//! threads that judge parts or switch outputs, and none of these ever waits for it. What is seen without a password the
//! parameter `web_view` says; whatever changes something needs one, and goes the way of a line that came over the
//! serial port: the same commands, levels and log.
//!
//! | module | what it does |
//! |---|---|
//! | `access` | logging in: tokens, their level, their end |
//! | `archive` | pictures of parts: found, marked, downloaded |
//! | `assets` | the page's own files |
//! | `backup` | all that is set and taught, as one file |
//! | `events` | state and results as they come, for all who look on |
//! | `hosts` | the names by which it may be asked for |
//! | `links` | whether messages to the plant arrive, and how many wait |
//! | `listener` | connections, with TLS or without; how many, how long |
//! | `metrics` | counters for Prometheus |
//! | `regions` | regions that somebody drew |
//! | `shift` | what happened in a shift |
//! | `state` | the station's state and parameters as JSON |
//! | `teach` | the lesson that is going on |
//! | `tls` | the page's certificate |

mod access;
mod archive;
mod assets;
mod backup;
mod events;
mod hosts;
pub mod links;
mod listener;
mod metrics;
mod regions;
mod shift;
pub(crate) mod state;
mod teach;
mod tls;

use crate::board::HostName;
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::session::{Output, Session};
use crate::control::shared::Committed;
use crate::control::table::{Access, Parameter};
use crate::control::{Control, ControlledStation, SessionId};
use crate::line::VIEWS;
use crate::priority::{Held, hold};
use crate::runtime::live::Live;
use crate::runtime::system;
use access::{Grant, Grants, Needed};
use archive::Archive;
use assets::{ASSETS, Asset};
use axum::body::{Bytes, HttpBody};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use events::Events;
use links::Links;
use listener::Limited;
pub use listener::Peer;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tower_http::compression::CompressionLayer;

/// Bytes of the longest request's body: a line of the command set, or a password.
const BODY: usize = 4096;

/// A request is answered by then; a change that takes longer says so in the log.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether everybody must end, and whether a change is in force.
const LOOK: Duration = Duration::from_millis(25);

/// What a page of a stranger must not do with this one: no script, picture or frame comes from or goes elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The description of all paths but the page's own files.
const OPENAPI: &str = include_str!("openapi.json");

/// What the page needs of a station.
pub struct Station<H: ControlledStation> {
    /// Its control.
    pub control: Arc<Mutex<Control<H>>>,
    /// The last part's picture.
    pub live: Arc<[Live; VIEWS]>,
    /// The folder of results.
    pub out: PathBuf,
    /// The folder of the memory.
    pub state: PathBuf,
    /// The folder with certificate and key: HTTPS by them, which are made if there are none.
    pub tls: Option<PathBuf>,
    /// Passwords may come from other computers without TLS.
    pub plain: bool,
    /// Names by which it may be asked for, beyond addresses, `localhost` and the node's own name.
    pub hosts: Vec<HostName>,
    /// The receivers of its messages.
    pub plant: Links,
}

/// Shared by all requests.
struct Page<H: ControlledStation> {
    station: Station<H>,
    access: Mutex<Grants>,
    events: Events,
    archive: Archive,
    /// Held while a backup is read: it may be large.
    restoring: tokio::sync::Mutex<()>,
}

impl<H: ControlledStation> Page<H> {
    fn new(station: Station<H>) -> Self {
        Page {
            archive: Archive::new(&station.out),
            station,
            access: Mutex::default(),
            events: Events::default(),
            restoring: tokio::sync::Mutex::default(),
        }
    }

    fn control(&self) -> Held<'_, Control<H>> {
        // A thread that panicked with the lock held leaves whole values behind: see `control::port`.
        hold(&self.station.control)
    }

    /// The station's state, and how far its messages get.
    fn state(&self, control: &mut Control<H>) -> Value {
        let mut state = state::state(control);
        state["plant"] = self.station.plant.json();
        state
    }

    fn access(&self) -> MutexGuard<'_, Grants> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last picture of a camera, counted from 1.
    async fn last_picture(&self, headers: &HeaderMap, camera: usize) -> Response {
        if let Some(refusal) = self.hidden(headers, Needed::Live) {
            return refusal;
        }
        let cameras = self.control().snapshot().cameras;
        let live = Arc::clone(&self.station.live);
        let camera = camera.checked_sub(1).filter(|camera| *camera < cameras);
        let Some((camera, of)) = camera.and_then(|camera| Some((camera, live.get(camera)?))) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        of.ask(system::now());
        let shown = match of.drawn() {
            (shown, true) => shown,
            // Drawing takes a while, in which others are answered.
            (before, false) => {
                let drawn = tokio::task::spawn_blocking(move || live[camera].shown()).await;
                drawn.unwrap_or(before)
            }
        };
        let Some(shown) = shown else {
            return StatusCode::NO_CONTENT.into_response();
        };
        let tag = format!("\"{}\"", shown.part.0);
        if assets::is_known(headers, &tag) {
            return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        }
        let kind = "image/jpeg".to_string();
        let known = [(header::CONTENT_TYPE, kind), (header::ETAG, tag)];
        (known, shown.jpeg.clone()).into_response()
    }

    /// The refusal, if a request may not see that.
    fn hidden(&self, headers: &HeaderMap, needed: Needed) -> Option<Response> {
        let open = needed.is_open(self.control().memory().text(Parameter::WebView));
        let sees = open || self.access().looks_on(headers, Instant::now());
        (!sees).then(|| {
            refused(
                Code::NeedsOperator,
                "log in to see this (parameter web_view)",
            )
        })
    }

    /// Who wants to change something, if they have logged in at this level at least.
    fn who(&self, headers: &HeaderMap, level: Access) -> Result<Arc<Mutex<Grant>>, Box<Response>> {
        let grant = self.access().of(headers, Instant::now());
        let grant = grant.ok_or_else(|| Box::new(refused(Code::NeedsOperator, "log in first")))?;
        let own = {
            let control = self.control();
            access::lock(&grant).session.level(&control)
        };
        allowed(own, level).map_err(|e| Box::new(refused(e.code, &e.text)))?;
        Ok(grant)
    }
}

/// What everybody sees who may.
fn looked<H: ControlledStation>(
    page: &Arc<Page<H>>,
    headers: &HeaderMap,
    needed: Needed,
    answer: impl FnOnce(&Page<H>) -> Response,
) -> Response {
    match page.hidden(headers, needed) {
        Some(refusal) => refusal,
        None => answer(page),
    }
}

/// Waits until a session's change is in force, or was refused.
async fn until_in_force<H: ControlledStation>(
    page: &Page<H>,
    session: SessionId,
) -> Result<Committed, Refusal> {
    loop {
        {
            let mut control = page.control();
            control.tick(Instant::now());
            if let Some(result) = control.changed(session) {
                return result;
            }
            if !control.is_changing(session) {
                return Err(Refusal::new(Code::Busy, "the change was given up"));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

type Shared<H> = State<Arc<Page<H>>>;

/// Name of the threads that draw pictures, and read and write files, for the page.
const WORKER: &str = "page-work";

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
    let page = Arc::new(Page::new(station));
    // The threads for what takes a while (pictures, files) give way as this one does.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name(WORKER)
        .on_thread_start(|| {
            if let Err(e) = system::low_priority() {
                log::warn!("a thread of the page keeps its priority: {e}");
            }
        })
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
            let tls = folder.map(|folder| tls::acceptor(folder, address.ip(), &page.station.hosts));
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

/// The page without a port: answers requests as [`serve`] does, each of which must carry its sender's address
/// ([`ConnectInfo`] of a [`Peer`]). Events are those of a station of which nothing is new.
pub fn service<H: ControlledStation + Send + 'static>(station: Station<H>) -> Router {
    router(Arc::new(Page::new(station)))
}

fn router<H: ControlledStation + Send + 'static>(page: Arc<Page<H>>) -> Router {
    let router = Router::new()
        .route("/api/state", get(state_now::<H>))
        .route("/api/parameters", get(parameters::<H>))
        .route("/api/events", get(events::stream::<H>))
        .route("/api/login", post(login::<H>))
        .route("/api/logout", post(logout::<H>))
        .route("/api/command", post(command::<H>))
        .route("/api/results", get(results::<H>))
        .route("/api/recipes", get(recipes::<H>))
        .route("/api/lesson", get(teach::get::<H>))
        .route("/api/archive", get(archive::list::<H>))
        .route("/api/archive/mark", post(archive::mark::<H>))
        .route("/api/archive.tar", get(archive::download::<H>))
        .route("/archive/{day}/{file}", get(archive::picture::<H>))
        .route(
            "/api/regions",
            get(regions::get::<H>).post(regions::put::<H>),
        )
        .route("/frame.jpg", get(regions::frame::<H>))
        .route("/api/shift", get(shift::get::<H>))
        .route("/api/backup", get(backup::backup::<H>))
        .route("/api/restore", post(backup::restore::<H>))
        .route("/live.jpg", get(live::<H>))
        .route("/live/{camera}", get(live_of::<H>))
        .route("/api/openapi.json", get(description))
        .route("/metrics", get(measures::<H>));
    let mut files = Router::new();
    for (name, kind, bytes) in ASSETS {
        let asset = Asset::new(kind, bytes);
        let answer = move |headers: HeaderMap| async move { asset.answer(&headers) };
        files = files.route(&format!("/{name}"), get(answer));
    }
    router
        .merge(files.layer(CompressionLayer::new()))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn_with_state(page.clone(), guarded::<H>))
        .with_state(page)
}

/// What every answer says, and what every request gets: a look at the name it is for, and a limit of time.
async fn guarded<H: ControlledStation>(
    State(page): Shared<H>,
    request: Request,
    next: Next,
) -> Response {
    let streams = matches!(request.uri().path(), "/api/events" | "/api/archive.tar");
    let posts = request.method() == Method::POST;
    let has_body = !request.body().is_end_stream();
    let mut answer = match (hosts::refusal(&request, &page.station.hosts), streams) {
        (Some(refusal), _) => refusal,
        (None, true) => next.run(request).await,
        (None, false) => match tokio::time::timeout(PATIENCE, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
        },
    };
    // Only what was posted and taken was surely read to its end. Behind anything else no other request can follow on this
    // connection; without being told so, a client sends its next one into a connection that is about to be closed.
    let read = posts && answer.status().is_success();
    let headers = answer.headers_mut();
    if has_body && !read {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // For browsers from before `frame-ancestors`.
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let stores_nothing = HeaderValue::from_static("no-store");
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(stores_nothing);
    answer
}

/// What all of this is, for programs: OpenAPI 3.1.
async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn state_now<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> Response {
    looked(&page, &headers, Needed::Live, |page| {
        // Control is free again before the text is made.
        let value = page.state(&mut page.control());
        Json(value).into_response()
    })
}

async fn parameters<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> Response {
    looked(&page, &headers, Needed::All, |page| {
        let value = state::parameters(&page.control());
        Json(value).into_response()
    })
}

/// All recipes.
async fn recipes<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> Response {
    looked(&page, &headers, Needed::Live, |page| {
        let value = state::recipes(&page.control());
        Json(value).into_response()
    })
}

/// The last results, the newest last.
async fn results<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> Response {
    looked(&page, &headers, Needed::Live, |page| {
        Json(page.events.last()).into_response()
    })
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
    let level = match control.login_from_afar(&login.level, &login.password, from.ip(), now) {
        Ok(level) => level,
        Err(refusal) => {
            // At most one a second.
            if refusal.code == Code::WrongPassword {
                log::warn!("{from}: a wrong password for {}", login.level);
            }
            return refused(refusal.code, &refusal.text);
        }
    };
    let session = Session::from_afar(&mut control, &format!("web {}", from.ip()), level, now);
    let granted = page.access().grant(session, tls.is_some(), now);
    match granted {
        Ok((token, cookie, gone)) => {
            gone.into_iter()
                .for_each(|ended| ended.hang_up(&mut control));
            log::info!("{from}: logged in as {}", level.name());
            let answer = Json(json!({ "token": token, "level": level.name() }));
            ([(header::SET_COOKIE, cookie)], answer).into_response()
        }
        Err(e) => {
            log::error!("no token for {from}: {e}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The body says nothing, but is read: the next request on this connection comes behind it.
async fn logout<H: ControlledStation>(
    State(page): Shared<H>,
    headers: HeaderMap,
    _: Bytes,
) -> StatusCode {
    let mut control = page.control();
    let ended = page.access().end(&headers);
    if let Some(ended) = ended {
        ended.hang_up(&mut control);
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
    // What comes behind the end of a line would be dropped.
    if line.trim_end().contains(['\r', '\n']) {
        return refused(Code::BadText, "one command at a time: a line ends here");
    }
    let mut answer = Box::new(Output::new());
    {
        let mut control = page.control();
        let Grant { session, .. } = &mut *grant.lock().unwrap_or_else(PoisonError::into_inner);
        if session.is_waiting() {
            return refused(Code::Busy, "the last command is still at work");
        }
        if session.is_locked_out(&control) {
            let text = "log in again: the password is another one now";
            return refused(Code::NeedsOperator, text);
        }
        session.answer_line(&line, Instant::now(), &mut control, &mut answer);
    }
    // A change that has to be made ready: others are served meanwhile.
    loop {
        {
            // In the order of above: control first.
            let mut control = page.control();
            let mut grant = grant.lock().unwrap_or_else(PoisonError::into_inner);
            if !grant.session.is_waiting() {
                break;
            }
            grant
                .session
                .idle(Instant::now(), &mut control, &mut answer);
        }
        tokio::time::sleep(LOOK).await;
    }
    let lines: Vec<&str> = answer.lines().collect();
    if lines.is_empty() {
        return refused(Code::Busy, "the session ended before the answer came");
    }
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

/// The last part under its heat map. Whoever asks makes the station draw the next ones.
async fn live<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> Response {
    page.last_picture(&headers, 1).await
}

/// The same of one of several cameras, counted from 1.
async fn live_of<H: ControlledStation>(
    State(page): Shared<H>,
    Path(camera): Path<usize>,
    headers: HeaderMap,
) -> Response {
    page.last_picture(&headers, camera).await
}

async fn measures<H: ControlledStation>(State(page): Shared<H>, headers: HeaderMap) -> Response {
    if let Some(refusal) = page.hidden(&headers, Needed::Live) {
        return refusal;
    }
    let (snapshot, memory_fault) = {
        let mut control = page.control();
        (control.snapshot(), control.memory_fault())
    };
    match metrics::text(&snapshot, memory_fault, &page.station.plant) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests;
