//! Sends the waiting messages to a web server: `POST` with JSON, up to 100 messages at a time, in order.
//!
//! Messages leave the outbox when the server has answered with a status of 200 to 299; otherwise they are sent
//! again after growing waits, with `"repeated": true`.

use super::outbox::Outbox;
use super::settings::{SettingsError, Webhook, secret};
use super::{LOOK, tls};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Most messages in a request.
const TOGETHER: usize = 100;

/// Longest time until a request is answered. The end of the station waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waiting before the next try: doubled from the first to the last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// A client of the web server.
pub struct Client {
    agent: ureq::Agent,
    url: String,
    authorization: Option<String>,
}

impl Client {
    /// Makes a client of this server.
    ///
    /// # Errors
    /// [`SettingsError`]: the token's file or a certificate cannot be used.
    pub fn new(settings: &Webhook) -> Result<Self, SettingsError> {
        let roots = match &settings.ca_file {
            None => RootCerts::PlatformVerifier,
            Some(path) => {
                let all = tls::certificates(path)?;
                let all: Vec<_> = all
                    .iter()
                    .map(|c| Certificate::from_der(c).to_owned())
                    .collect();
                RootCerts::new_with_certs(&all)
            }
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        let token = settings.token_file.as_deref().map(secret).transpose()?;
        Ok(Client {
            agent: config.into(),
            url: settings.url.clone(),
            authorization: token.map(|t| format!("Bearer {t}")),
        })
    }

    /// Sends a batch in the station's name; the error says why the server did not take it.
    fn post(&self, station: &str, messages: Vec<Value>) -> Result<(), String> {
        let body = json!({ "station": station, "messages": messages }).to_string();
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let answer = request.send(body.as_bytes()).map_err(|e| e.to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("answered {status}")),
        }
    }

    /// Sends until `stop` is set. `name` gives the station's name, which goes with every request.
    pub fn run(&self, outbox: &Outbox, stop: &AtomicBool, name: &dyn Fn() -> String) {
        let (mut wait, mut next, mut known) = (AGAIN.0, Instant::now(), true);
        // What was in the outbox at the start may have been sent before.
        let mut sent = outbox.found();
        while !stop.load(Ordering::Relaxed) {
            if Instant::now() < next {
                std::thread::sleep(LOOK);
                continue;
            }
            let messages = match outbox.next(0, TOGETHER) {
                Ok(messages) => messages,
                Err(e) => {
                    log::error!("{e}");
                    next = Instant::now() + AGAIN.1;
                    continue;
                }
            };
            let Some(last) = messages.last().map(|m| m.id) else {
                std::thread::sleep(LOOK);
                continue;
            };
            let bodies = messages.iter().filter_map(|message| {
                let mut body: Value = serde_json::from_str(&message.body).ok()?;
                body["kind"] = json!(message.topic);
                if message.id <= sent {
                    body["repeated"] = json!(true);
                }
                Some(body)
            });
            let result = self.post(&name(), bodies.collect());
            outbox.link().set_up(result.is_ok());
            sent = sent.max(last);
            let ids: Vec<i64> = messages.iter().map(|m| m.id).collect();
            let result = result.and_then(|()| outbox.done(&ids).map_err(|e| e.to_string()));
            match result {
                Ok(()) => (wait, known) = (AGAIN.0, true),
                Err(e) => {
                    let level = match std::mem::replace(&mut known, false) {
                        true => log::Level::Warn,
                        false => log::Level::Debug,
                    };
                    let (waiting, dropped) = outbox.counts();
                    let url = &self.url;
                    log::log!(
                        level,
                        "{url}: {e}; tried again; {waiting} messages wait, {dropped} were dropped so far"
                    );
                    next = Instant::now() + wait;
                    wait = (wait * 2).min(AGAIN.1);
                }
            }
        }
    }
}
