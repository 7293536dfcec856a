//! Requests to one station, and its answers.

use super::StationError;
use super::stations::Station;
use super::tls::{Fingerprint, Identity, Tls};
use crate::control::backup;
use crate::control::refusal::Code;
use crate::report::shown;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};
use ureq::{Agent, Body};

/// A connection is there by then, or not at all.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of the longest answer: a backup with what was taught.
const LARGEST: u64 = 256 << 20;
/// A station tries one password a second: somebody else may be logging in.
const TRIES: u32 = 5;
const PACE: Duration = Duration::from_millis(1100);

const STATE: &str = "/api/state";
const LOGIN: &str = "/api/login";
const LOGOUT: &str = "/api/logout";
const BACKUP: &str = "/api/backup";
const RESTORE: &str = "/api/restore";

/// One station over the network.
pub struct Client {
    station: Station,
    agent: Agent,
    identity: Arc<Identity>,
}

/// A session of the station's engineer; it ends when this is dropped.
pub struct LogIn<'a> {
    client: &'a Client,
    authorization: String,
}

impl Client {
    /// Of a station, whose answers come within `patience`. Nothing is asked yet.
    ///
    /// # Errors
    /// [`StationError::Away`]: TLS cannot be had on this machine.
    pub fn new(station: &Station, patience: Duration) -> Result<Client, StationError> {
        let away = |e: rustls::Error| StationError::Away {
            url: station.url.clone(),
            reason: e.to_string(),
        };
        let identity = Identity::new(station.fingerprint).map_err(away)?;
        let config = Agent::config_builder()
            .user_agent(concat!("faprompt-train/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // The password goes to the station and to nobody else.
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT.min(patience)))
            .timeout_global(Some(patience))
            .build();
        let connector = ().chain(TcpConnector::default()).chain(Tls::new(&identity).map_err(away)?);
        Ok(Client {
            station: station.clone(),
            agent: Agent::with_parts(config, connector, DefaultResolver::default()),
            identity,
        })
    }

    /// Which one it is.
    pub fn station(&self) -> &Station {
        &self.station
    }

    /// The certificate of the last connection; `None` over http.
    pub fn certificate(&self) -> Option<Fingerprint> {
        self.identity.seen().fingerprint
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.station.url)
    }

    /// Why there is no answer.
    fn away(&self, error: &ureq::Error) -> StationError {
        let url = self.station.url.clone();
        let seen = self.identity.seen();
        let reason = match error {
            ureq::Error::Io(e) => e.to_string(),
            other => other.to_string(),
        };
        match (
            seen.fingerprint.filter(|_| seen.refused),
            self.station.fingerprint,
        ) {
            (Some(found), Some(wanted)) => StationError::Fingerprint { url, found, wanted },
            (Some(found), None) => StationError::Untrusted { url, reason, found },
            (None, _) => StationError::Away { url, reason },
        }
    }

    /// The whole text of an answer that is no refusal.
    fn text(
        &self,
        path: &'static str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<String, StationError> {
        let mut answer = answer.map_err(|e| self.away(&e))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(LARGEST);
        let text = body.read_to_string().map_err(|e| self.away(&e))?;
        if status.is_success() {
            return Ok(text);
        }
        let refusal: Value = serde_json::from_str(&text).unwrap_or_default();
        Err(match (refusal["code"].as_u64(), refusal["text"].as_str()) {
            (Some(code), Some(text)) => StationError::Refused {
                url: self.station.url.clone(),
                path,
                code,
                text: shown(text).to_string(),
            },
            _ => self.odd(path, format!("answered {status}")),
        })
    }

    fn odd(&self, path: &'static str, reason: String) -> StationError {
        StationError::Answer {
            url: self.station.url.clone(),
            path,
            reason,
        }
    }

    fn json(&self, path: &'static str, text: &str) -> Result<Value, StationError> {
        let value: Result<Value, _> = serde_json::from_str(text);
        let value = value.map_err(|e| self.odd(path, format!("no JSON ({e})")))?;
        match value.is_object() {
            true => Ok(value),
            false => Err(self.odd(path, "another answer than a station's".into())),
        }
    }

    /// What everybody sees who may; logs in if the station asks for it (parameter `web_view`) and there is a password.
    ///
    /// # Errors
    /// Every [`StationError`] of a request.
    pub fn state(&self) -> Result<Value, StationError> {
        let answer = self.agent.get(self.url(STATE)).call();
        let needs_login = |r: &Response<Body>| r.status() == StatusCode::UNAUTHORIZED;
        let knows = self.station.password_file.is_some() || self.station.password_env.is_some();
        if answer.as_ref().is_ok_and(needs_login) && knows {
            return self.log_in()?.state();
        }
        self.json(STATE, &self.text(STATE, answer)?)
    }

    /// Logs in as engineer.
    ///
    /// # Errors
    /// [`StationError::Key`]: there is no password; and those of a request.
    pub fn log_in(&self) -> Result<LogIn<'_>, StationError> {
        let password = self.station.password().map_err(StationError::Key)?;
        let password = password.ok_or_else(|| {
            let key = "password_file: missing (or password_env): the engineer's password is needed";
            StationError::Key(key.into())
        })?;
        let body = json!({ "level": "engineer", "password": password }).to_string();
        let mut tries = 1;
        let text = loop {
            let request = self.agent.post(self.url(LOGIN));
            let answer = request.content_type("application/json").send(&body);
            match self.text(LOGIN, answer) {
                Err(StationError::Refused { code, .. })
                    if code == u64::from(Code::TooSoon.number()) && tries < TRIES =>
                {
                    tries += 1;
                    std::thread::sleep(PACE);
                }
                text => break text?,
            }
        };
        let granted = self.json(LOGIN, &text)?;
        let token = granted["token"].as_str();
        let token = token.ok_or_else(|| self.odd(LOGIN, "no token came".into()))?;
        Ok(LogIn {
            client: self,
            authorization: format!("Bearer {token}"),
        })
    }
}

impl LogIn<'_> {
    fn get(&self, path: &'static str) -> Result<String, StationError> {
        let request = self.client.agent.get(self.client.url(path));
        let request = request.header("Authorization", &self.authorization);
        self.client.text(path, request.call())
    }

    /// See [`Client::state`].
    ///
    /// # Errors
    /// Those of a request.
    pub fn state(&self) -> Result<Value, StationError> {
        self.client.json(STATE, &self.get(STATE)?)
    }

    /// Parameters, recipes and what was taught: the whole file, each memory of good parts of it checked.
    ///
    /// # Errors
    /// Those of a request; [`StationError::Answer`] if it is damaged.
    pub fn backup(&self) -> Result<String, StationError> {
        let text = self.get(BACKUP)?;
        let whole = backup::goods(&text).and_then(|_| {
            let table: toml::Table = text.parse().map_err(|e| format!("{e}"))?;
            match table.contains_key("station") && table.contains_key("recipe") {
                true => Ok(()),
                false => Err("no parameters in it".to_string()),
            }
        });
        whole.map_err(|e| self.client.odd(BACKUP, format!("no whole backup: {e}")))?;
        Ok(text)
    }

    /// Puts what a backup says into force, all of it or nothing; what it leaves out stays as it is. How many
    /// parameters that are in use changed.
    ///
    /// # Errors
    /// Those of a request.
    pub fn restore(&self, backup: &str) -> Result<u64, StationError> {
        let request = self.client.agent.post(self.client.url(RESTORE));
        let request = request.header("Authorization", &self.authorization);
        let text = self.client.text(RESTORE, request.send(backup))?;
        let answer = self.client.json(RESTORE, &text)?;
        let changes = answer["changes"].as_u64();
        changes.ok_or_else(|| self.client.odd(RESTORE, "no number of changes came".into()))
    }
}

impl Drop for LogIn<'_> {
    fn drop(&mut self) {
        // Without it the session ends by itself.
        let request = self.client.agent.post(self.client.url(LOGOUT));
        let request = request.header("Authorization", &self.authorization);
        let _ = request.send_empty();
    }
}
