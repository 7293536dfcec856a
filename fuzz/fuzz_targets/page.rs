//! The page's requests: a method and a path, headers, an empty line, a body; answered in the process, without a socket.
//!
//! `Authorization: @` stands for an engineer's token, or nothing would get past it. A request that says no Host asks the
//! station itself.
#![no_main]

mod still;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::{Method, StatusCode, header};
use faprompt_edge::control::table::{Access, Parameter};
use faprompt_edge::control::{Control, Memory, Mode, Store, Who};
use faprompt_edge::web::{self, Peer};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use still::Still;
use tower::ServiceExt;

const PASSWORD: &str = "rim of the cap";

/// Requests to one station; then it is another one, or what they left in its folder would grow for ever.
const REQUESTS: u32 = 5000;

struct Station {
    router: Router,
    token: String,
    answered: u32,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Station {
    fn new() -> Station {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, restored) = Store::open(folder.path(), &Memory::default()).expect("a store");
        let mut control = Control::new(Still(Mode::Running), store, restored);
        let now = Instant::now();
        let who = Who {
            session: control.open(),
            access: Access::Engineer,
            port: "fuzz",
        };
        let set = control.set_text(&who, Parameter::EngineerPassword, PASSWORD, now);
        set.expect("a password");
        control
            .commit(&who, now)
            .expect("in force")
            .expect("at once");
        let router = web::service(web::Station {
            control: Arc::new(Mutex::new(control)),
            live: Arc::default(),
            out: folder.path().join("out"),
            state: folder.path().into(),
            tls: None,
            plain: false,
            hosts: Vec::new(),
            plant: Default::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let mut station = Station {
            router,
            token: String::new(),
            answered: 0,
            runtime: runtime.expect("a runtime"),
            _folder: folder,
        };
        let login = format!(
            "POST /api/login\nContent-Type: application/json\n\n{{\"level\": \"engineer\", \"password\": \"{PASSWORD}\"}}"
        );
        let login = read(login.as_bytes(), "").expect("a request");
        let (status, body) = station.answer(login);
        assert_eq!(status, StatusCode::OK);
        let granted: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        station.token = format!("Bearer {}", granted["token"].as_str().expect("a token"));
        station
    }

    fn answer(&mut self, request: Request) -> (StatusCode, Vec<u8>) {
        self.answered += 1;
        // They do not end.
        let events = request.uri().path() == "/api/events";
        let router = self.router.clone();
        self.runtime.block_on(async {
            let answer = router.oneshot(request).await.unwrap_or_else(|e| match e {});
            assert!(
                answer
                    .headers()
                    .contains_key(header::CONTENT_SECURITY_POLICY)
            );
            let status = answer.status();
            if events && status == StatusCode::OK {
                return (status, Vec::new());
            }
            let body = to_bytes(answer.into_body(), 16 << 20).await;
            (status, body.expect("a whole answer").into())
        })
    }
}

/// A request; `None` if no client could send it.
fn read(bytes: &[u8], token: &str) -> Option<Request> {
    let end = bytes.windows(2).position(|w| w == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|b| *b == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let mut request = Request::builder().method(method).uri(&first[space + 1..]);
    for line in lines {
        let colon = line.iter().position(|b| *b == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        request = match value {
            b"@" => request.header(name, token),
            value => request.header(name, value),
        };
    }
    if !request.headers_ref()?.contains_key(header::HOST) {
        request = request.header(header::HOST, "localhost");
    }
    let mut request = request.body(Body::from(body.to_vec())).ok()?;
    // Its token is everybody's.
    if request.uri().path() == "/api/logout" {
        request.headers_mut().remove(header::AUTHORIZATION);
    }
    let from = Peer(([127, 0, 0, 1], 50_000).into());
    request.extensions_mut().insert(ConnectInfo(from));
    Some(request)
}

thread_local! {
    static STATION: RefCell<Station> = RefCell::new(Station::new());
}

fuzz_target!(|bytes: &[u8]| {
    STATION.with_borrow_mut(|station| {
        let Some(request) = read(bytes, &station.token) else {
            return;
        };
        if station.answered > REQUESTS {
            *station = Station::new();
        }
        let headers = request.headers();
        let stranger = request.uri().authority().is_none()
            && headers.get_all(header::HOST).iter().eq(["evil.example"]);
        let logged_in = headers
            .get(header::AUTHORIZATION)
            .is_some_and(|t| *t == station.token);
        let open = ["/api/login", "/api/logout"].contains(&request.uri().path());
        let changes = request.method() == Method::POST && !logged_in && !open;
        let (status, body) = station.answer(request);
        let shown = String::from_utf8_lossy(&body);
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{shown}");
        assert_ne!(status, StatusCode::GATEWAY_TIMEOUT);
        assert!(
            !stranger || status == StatusCode::MISDIRECTED_REQUEST,
            "{status}"
        );
        // Nothing is written without log-in.
        assert!(!changes || !status.is_success(), "{status} {shown}");
    });
});
