//! Requests to one station, and its answers.

use super::ClientError;
use super::stations::Station;
use super::tls::{Fingerprint, Identity, Tls};
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
/// The command set's code for a password that comes too soon after the last one.
const TOO_SOON: u64 = 502;

const STATE: &str = "/api/state";
const LOGIN: &str = "/api/login";
const LOGOUT: &str = "/api/logout";
const BACKUP: &str = "/api/backup";
const RESTORE: &str = "/api/restore";
const COMMAND: &str = "/api/command";

/// What a station wrote, for a message: the command set's texts are printable ASCII.
fn plain(text: &str) -> String {
    text.replace(|c: char| !matches!(c, ' '..='~'), "?")
}

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
    /// [`ClientError::Away`]: TLS cannot be had on this machine.
    pub fn new(station: &Station, patience: Duration) -> Result<Client, ClientError> {
        let away = |e: rustls::Error| ClientError::Away {
            url: station.url.clone(),
            reason: e.to_string(),
        };
        let identity = Identity::new(station.fingerprint).map_err(away)?;
        let config = Agent::config_builder()
            .user_agent(concat!("faprompt-client/", env!("CARGO_PKG_VERSION")))
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
    fn away(&self, error: &ureq::Error) -> ClientError {
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
            (Some(found), Some(wanted)) => ClientError::Fingerprint { url, found, wanted },
            (Some(found), None) => ClientError::Untrusted { url, reason, found },
            (None, _) => ClientError::Away { url, reason },
        }
    }

    /// The whole text of an answer that is no refusal.
    fn text(
        &self,
        path: &'static str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<String, ClientError> {
        let mut answer = answer.map_err(|e| self.away(&e))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(LARGEST);
        let text = body.read_to_string().map_err(|e| self.away(&e))?;
        if status.is_success() {
            return Ok(text);
        }
        let refusal: Value = serde_json::from_str(&text).unwrap_or_default();
        Err(match (refusal["code"].as_u64(), refusal["text"].as_str()) {
            (Some(code), Some(text)) => ClientError::Refused {
                url: self.station.url.clone(),
                path,
                code,
                text: plain(text),
            },
            // It says by which names it may be asked.
            _ if status == StatusCode::MISDIRECTED_REQUEST => {
                self.odd(path, format!("answered {status}: {}", plain(text.trim())))
            }
            _ => self.odd(path, format!("answered {status}")),
        })
    }

    fn odd(&self, path: &'static str, reason: String) -> ClientError {
        ClientError::Answer {
            url: self.station.url.clone(),
            path,
            reason,
        }
    }

    fn json(&self, path: &'static str, text: &str) -> Result<Value, ClientError> {
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
    /// Every [`ClientError`] of a request.
    pub fn state(&self) -> Result<Value, ClientError> {
        let answer = self.agent.get(self.url(STATE)).call();
        let needs_login = |r: &Response<Body>| r.status() == StatusCode::UNAUTHORIZED;
        let knows = self.station.password_file.is_some() || self.station.password_env.is_some();
        if answer.as_ref().is_ok_and(needs_login) && knows {
            return self.log_in()?.state();
        }
        self.json(STATE, &self.text(STATE, answer)?)
    }

    /// A path that is only looked at, as JSON; by a session, or as everybody sees it.
    ///
    /// # Errors
    /// Those of a request; [`ClientError::Refused`] with code 400 if it is to be seen after log-in only.
    pub fn look(
        &self,
        path: &'static str,
        session: Option<&LogIn<'_>>,
    ) -> Result<Value, ClientError> {
        let mut request = self.agent.get(self.url(path));
        if let Some(session) = session {
            request = request.header("Authorization", &session.authorization);
        }
        let text = self.text(path, request.call())?;
        serde_json::from_str(&text).map_err(|e| self.odd(path, format!("no JSON ({e})")))
    }

    /// Logs in as engineer.
    ///
    /// # Errors
    /// [`ClientError::Key`]: there is no password; and those of a request.
    pub fn log_in(&self) -> Result<LogIn<'_>, ClientError> {
        let password = self.station.password().map_err(ClientError::Key)?;
        let password = password.ok_or_else(|| {
            let key = "password_file: missing (or password_env): the engineer's password is needed";
            ClientError::Key(key.into())
        })?;
        self.log_in_as("engineer", &password)
    }

    /// Logs in at a level, `operator` or `engineer`. If somebody else is trying a password, it waits for some seconds.
    ///
    /// # Errors
    /// Those of a request; [`ClientError::Refused`] if the password is wrong.
    pub fn log_in_as(&self, level: &str, password: &str) -> Result<LogIn<'_>, ClientError> {
        let body = json!({ "level": level, "password": password }).to_string();
        let mut tries = 1;
        let text = loop {
            let request = self.agent.post(self.url(LOGIN));
            let answer = request.content_type("application/json").send(&body);
            match self.text(LOGIN, answer) {
                Err(ClientError::Refused { code, .. }) if code == TOO_SOON && tries < TRIES => {
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
    fn get(&self, path: &'static str) -> Result<String, ClientError> {
        let request = self.client.agent.get(self.client.url(path));
        let request = request.header("Authorization", &self.authorization);
        self.client.text(path, request.call())
    }

    /// See [`Client::state`].
    ///
    /// # Errors
    /// Those of a request.
    pub fn state(&self) -> Result<Value, ClientError> {
        self.client.json(STATE, &self.get(STATE)?)
    }

    /// What the command set answers to a line: `OK,COMMAND,...` and what belongs to it.
    ///
    /// # Errors
    /// Those of a request; [`ClientError::Refused`] with the command set's code.
    pub fn command(&self, line: &str) -> Result<Vec<String>, ClientError> {
        let client = self.client;
        let request = client.agent.post(client.url(COMMAND));
        let request = request.header("Authorization", &self.authorization);
        let request = request.content_type("application/json");
        let answer = request.send(json!({ "line": line }).to_string());
        let mut answer = answer.map_err(|e| client.away(&e))?;
        if answer.status() != StatusCode::UNPROCESSABLE_ENTITY {
            let text = client.text(COMMAND, Ok(answer))?;
            let lines = client.json(COMMAND, &text)?;
            let lines: Option<Vec<String>> = lines["lines"].as_array().map(|lines| {
                let lines = lines.iter().filter_map(Value::as_str);
                lines.map(str::to_string).collect()
            });
            return lines.ok_or_else(|| client.odd(COMMAND, "no lines came".into()));
        }
        // The command set's refusal: ER,COMMAND,code,text.
        let text = answer.body_mut().read_to_string();
        let lines = client.json(COMMAND, &text.map_err(|e| client.away(&e))?)?;
        let line = lines["lines"][0].as_str().unwrap_or_default();
        let mut words = line.splitn(4, ',').skip(2);
        let code = words.next().and_then(|code| code.parse().ok());
        match (code, words.next()) {
            (Some(code), Some(text)) => Err(ClientError::Refused {
                url: client.station.url.clone(),
                path: COMMAND,
                code,
                text: plain(text),
            }),
            _ => Err(client.odd(COMMAND, "a refusal without a code came".into())),
        }
    }

    /// Parameters, recipes and what was taught, as the file of `faprompt-edge backup`.
    ///
    /// # Errors
    /// Those of a request.
    pub fn backup(&self) -> Result<String, ClientError> {
        self.get(BACKUP)
    }

    /// The error for a backup that is damaged.
    pub fn damaged(&self, reason: String) -> ClientError {
        self.client.odd(BACKUP, reason)
    }

    /// Puts what a backup says into force, all of it or nothing; what it leaves out stays as it is. How many
    /// parameters that are in use changed.
    ///
    /// # Errors
    /// Those of a request.
    pub fn restore(&self, backup: &str) -> Result<u64, ClientError> {
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
