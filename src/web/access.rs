//! Who is logged in over the network.
//!
//! A token stands for a session of the command set. It goes in a header of each request that changes something and
//! never in a cookie: a stranger's page, which cannot know it, cannot make a browser send it. A second token, in a
//! cookie that no script reads, opens pictures and streams, for which a browser sends no header; it changes nothing.
//! Neither must outlive the session's idle time.

use crate::control::session::{IDLE, Session};
use crate::control::{Control, ControlledStation};
use axum::http::HeaderMap;
use headers::authorization::Bearer;
use headers::{Authorization, HeaderMapExt};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Sessions at a time: the oldest makes way.
const SESSIONS: usize = 16;

/// A session, and when its token was last shown.
pub struct Grant {
    /// The session.
    pub session: Session,
    /// The cookie's token.
    view: String,
    last: Instant,
}

/// What a request wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// State, counters, the last picture.
    Live,
    /// Archive, parameters, reports.
    All,
}

impl Needed {
    /// Whether the parameter `web_view` lets everybody see it.
    pub fn is_open(self, view: &str) -> bool {
        match view {
            "all" => true,
            "live" => self == Needed::Live,
            _ => false,
        }
    }
}

/// The cookie's name.
const COOKIE: &str = "faprompt_view";

/// All tokens and what they stand for.
#[derive(Default)]
pub struct Grants {
    grants: BTreeMap<String, Arc<Mutex<Grant>>>,
}

impl Grants {
    /// A token for a session that has logged in, and the cookie that goes with it, for encrypted connections only if `tls`.
    /// If there are too many, the one that was silent for the longest time makes way, and is returned with it: its session
    /// is to be ended.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn grant(
        &mut self,
        session: Session,
        tls: bool,
        now: Instant,
    ) -> Result<(String, String, Option<Ended>), getrandom::Error> {
        let (token, view) = (random()?, random()?);
        let secure = if tls { "; Secure" } else { "" };
        let cookie = format!("{COOKIE}={view}; HttpOnly; SameSite=Strict; Path=/{secure}");
        let oldest = match self.grants.len() >= SESSIONS {
            true => self.grants.iter().min_by_key(|(_, g)| lock(g).last),
            false => None,
        };
        let oldest = oldest.map(|(token, _)| token.clone());
        let gone = oldest.and_then(|token| self.take(&token));
        let grant = Grant {
            session,
            view,
            last: now,
        };
        self.grants
            .insert(token.clone(), Arc::new(Mutex::new(grant)));
        Ok((token, cookie, gone))
    }

    /// Takes the tokens back of sessions that were silent for too long, or that are `void`: they are to be ended.
    pub fn over(&mut self, now: Instant, void: impl Fn(&Session) -> bool) -> Vec<Ended> {
        let over = |g: &Grant| now.saturating_duration_since(g.last) >= IDLE || void(&g.session);
        let over = self.grants.iter().filter(|(_, g)| over(&lock(g)));
        let tokens: Vec<String> = over.map(|(token, _)| token.clone()).collect();
        tokens.iter().filter_map(|token| self.take(token)).collect()
    }

    /// What a request's token stands for; `None` if it has none that is in force.
    pub fn of(&self, headers: &HeaderMap, now: Instant) -> Option<Arc<Mutex<Grant>>> {
        let grant = self.grants.get(&token(headers)?)?;
        let mut inner = lock(grant);
        if now.saturating_duration_since(inner.last) >= IDLE {
            return None;
        }
        inner.last = now;
        Some(grant.clone())
    }

    /// Whether a request comes from somebody who is logged in, by either token. To look on is no sign of life.
    pub fn looks_on(&self, headers: &HeaderMap, now: Instant) -> bool {
        let lives = |g: &Grant| now.saturating_duration_since(g.last) < IDLE;
        let shown = view(headers);
        let by_header = token(headers).and_then(|token| self.grants.get(&token));
        by_header.is_some_and(|g| lives(&lock(g)))
            || self.grants.values().any(|g| {
                let grant = lock(g);
                shown.as_ref() == Some(&grant.view) && lives(&grant)
            })
    }

    /// Makes a token void.
    fn take(&mut self, token: &str) -> Option<Ended> {
        self.grants.remove(token).map(Ended)
    }

    /// Takes a request's token back.
    pub fn end(&mut self, headers: &HeaderMap) -> Option<Ended> {
        self.take(&token(headers)?)
    }
}

/// What a token stood for that is void.
#[must_use = "its session has changes that nobody else can take back"]
pub struct Ended(Arc<Mutex<Grant>>);

impl Ended {
    /// Ends the session, also one whose request is at work: its changes are given up, unless they are being stored.
    pub fn hang_up<H: ControlledStation>(self, control: &mut Control<H>) {
        lock(&self.0).session.hang_up(control);
    }
}

/// What a token stands for, as it is: a thread that panicked with it leaves whole values behind.
pub fn lock(grant: &Arc<Mutex<Grant>>) -> std::sync::MutexGuard<'_, Grant> {
    grant.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 128 bits that nobody guesses, in hexadecimal.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The cookie's token (RFC 6265, 4.2).
fn view(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.typed_get::<headers::Cookie>()?;
    cookies.get(COOKIE).map(str::to_string)
}

/// `Authorization: Bearer TOKEN` (RFC 6750, 2.1).
fn token(headers: &HeaderMap) -> Option<String> {
    let said = headers.typed_get::<Authorization<Bearer>>()?;
    Some(said.token().to_string())
}
