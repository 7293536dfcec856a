//! Who is logged in over the network.
//!
//! A token stands for a session of the command set. It goes in a header of each request and never in a cookie: a
//! stranger's page, which cannot know it, cannot make a browser send it. Must never outlive the session's idle time.

use crate::control::session::{IDLE, Session};
use axum::http::{HeaderMap, header};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Sessions at a time: the oldest makes way.
const SESSIONS: usize = 16;

/// A session, and when its token was last shown.
pub struct Grant {
    /// The session.
    pub session: Session,
    last: Instant,
}

/// All tokens and what they stand for.
#[derive(Default)]
pub struct Access {
    grants: BTreeMap<String, Arc<Mutex<Grant>>>,
}

impl Access {
    /// A token for a session that has logged in at this level. If there are too many, the one that was silent for the
    /// longest time makes way, and is returned with it.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn grant(
        &mut self,
        session: Session,
        now: Instant,
    ) -> Result<(String, Option<Session>), getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        let token = format!("{:032x}", u128::from_be_bytes(bytes));
        let oldest = match self.grants.len() >= SESSIONS {
            true => self.grants.iter().min_by_key(|(_, g)| lock(g).last),
            false => None,
        };
        let oldest = oldest.map(|(token, _)| token.clone());
        let gone = oldest.and_then(|token| self.take(&token));
        let grant = Grant { session, last: now };
        self.grants
            .insert(token.clone(), Arc::new(Mutex::new(grant)));
        Ok((token, gone))
    }

    /// Sessions that were silent for too long: they have ended.
    pub fn silent(&mut self, now: Instant) -> Vec<Session> {
        let over = |g: &Arc<Mutex<Grant>>| now.saturating_duration_since(lock(g).last) >= IDLE;
        let over = self.grants.iter().filter(|(_, g)| over(g));
        let tokens: Vec<String> = over.map(|(token, _)| token.clone()).collect();
        tokens.iter().filter_map(|token| self.take(token)).collect()
    }

    /// What a request's token stands for; `None` if it has none that is in force.
    pub fn of(&self, headers: &HeaderMap, now: Instant) -> Option<Arc<Mutex<Grant>>> {
        let grant = self.grants.get(token(headers)?)?;
        let mut inner = lock(grant);
        if now.saturating_duration_since(inner.last) >= IDLE {
            return None;
        }
        inner.last = now;
        Some(grant.clone())
    }

    /// Ends a token. A request that is at work keeps its session until it is answered, and the token is void at once.
    fn take(&mut self, token: &str) -> Option<Session> {
        let grant = Arc::into_inner(self.grants.remove(token)?)?;
        Some(
            grant
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .session,
        )
    }

    /// Takes a request's token back.
    pub fn end(&mut self, headers: &HeaderMap) -> Option<Session> {
        self.take(token(headers)?)
    }
}

fn lock(grant: &Arc<Mutex<Grant>>) -> std::sync::MutexGuard<'_, Grant> {
    grant.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `Authorization: Bearer TOKEN` (RFC 6750, 2.1).
fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ")
}
