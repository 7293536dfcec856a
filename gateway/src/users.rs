//! Who may do what: users are the station's levels, with its passwords, and the station itself decides.

use crate::settings::Settings;
use faprompt_client::{Client, ClientError};
use opcua::server::ServerEndpoint;
use opcua::server::authenticator::{
    AuthManager, Password, UserToken, user_pass_security_policy_id, user_pass_security_policy_uri,
};
use opcua::types::{
    Error, Identifier, NodeId, StatusCode, UAString, UserTokenPolicy, UserTokenType,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Users that are remembered; the oldest makes way, and has to log in again before its next order.
const REMEMBERED: usize = 64;

/// A user whose password the station has taken.
#[derive(Clone)]
pub struct User {
    /// `operator` or `engineer`.
    pub level: &'static str,
    password: Password,
}

impl User {
    /// Gives the station an order in this user's name: a line of the command set.
    ///
    /// # Errors
    /// Those of a request; [`ClientError::Refused`] with the command set's code.
    pub fn order(&self, client: &Client, line: &str) -> Result<Vec<String>, ClientError> {
        client
            .log_in_as(self.level, self.password.get())?
            .command(line)
    }
}

/// All users that have logged in.
pub struct Users {
    client: Arc<Client>,
    anonymous: bool,
    known: Mutex<(u64, BTreeMap<u64, User>)>,
}

impl Users {
    /// None yet.
    pub fn new(client: Arc<Client>, settings: &Settings) -> Users {
        Users {
            client,
            anonymous: settings.anonymous,
            known: Mutex::default(),
        }
    }

    /// Who that is; `None` without a user name, or if it was too long ago.
    pub fn of(&self, token: &UserToken) -> Option<User> {
        let (_, number) = token.0.split_once('#')?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.1.get(&number.parse().ok()?).cloned()
    }

    fn remember(&self, user: User) -> UserToken {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, users) = &mut *known;
        *next += 1;
        let token = UserToken(format!("{}#{next}", user.level));
        users.insert(*next, user);
        while users.len() > REMEMBERED {
            users.pop_first();
        }
        token
    }
}

/// Whether whoever may read may call it.
fn only_reads(method: &NodeId) -> bool {
    let Identifier::String(path) = &method.identifier else {
        return true;
    };
    let name = path.as_ref().rsplit('.').next().unwrap_or_default();
    name.starts_with("Get") || name.starts_with("Release")
}

fn is_open(endpoint: &ServerEndpoint) -> bool {
    endpoint.security_policy == "None"
}

#[async_trait::async_trait]
impl AuthManager for Users {
    async fn authenticate_anonymous_token(&self, _: &ServerEndpoint) -> Result<(), Error> {
        match self.anonymous {
            true => Ok(()),
            false => Err(Error::new(
                StatusCode::BadIdentityTokenRejected,
                "log in as operator or engineer",
            )),
        }
    }

    async fn authenticate_username_identity_token(
        &self,
        endpoint: &ServerEndpoint,
        name: &str,
        password: &Password,
    ) -> Result<UserToken, Error> {
        let refused = |why: String| Error::new(StatusCode::BadIdentityTokenRejected, why);
        if is_open(endpoint) {
            return Err(refused(
                "passwords are taken over encrypted connections only".into(),
            ));
        }
        let Some(level) = ["operator", "engineer"].into_iter().find(|l| *l == name) else {
            return Err(refused("users are operator and engineer".into()));
        };
        let user = User {
            level,
            password: password.clone(),
        };
        let (client, tried) = (self.client.clone(), user.clone());
        let tried = tokio::task::spawn_blocking(move || {
            let granted = client.log_in_as(tried.level, tried.password.get());
            granted.map(drop)
        });
        match tried.await {
            Ok(Ok(())) => Ok(self.remember(user)),
            Ok(Err(e)) => {
                log::warn!("log-in as {level}: {e}");
                Err(refused(e.to_string()))
            }
            Err(e) => Err(Error::new(StatusCode::BadInternalError, e.to_string())),
        }
    }

    fn is_user_executable(&self, token: &UserToken, method: &NodeId) -> bool {
        !token.is_anonymous() || only_reads(method)
    }

    fn user_token_policies(&self, endpoint: &ServerEndpoint) -> Vec<UserTokenPolicy> {
        let policy = |id: UAString, kind, uri| UserTokenPolicy {
            policy_id: id,
            token_type: kind,
            issued_token_type: UAString::null(),
            issuer_endpoint_url: UAString::null(),
            security_policy_uri: uri,
        };
        let mut policies = Vec::new();
        if self.anonymous {
            policies.push(policy(
                "anonymous".into(),
                UserTokenType::Anonymous,
                UAString::null(),
            ));
        }
        if !is_open(endpoint) {
            policies.push(policy(
                user_pass_security_policy_id(endpoint),
                UserTokenType::UserName,
                user_pass_security_policy_uri(endpoint),
            ));
        }
        policies
    }
}
