//! The file that says which messages go where (TOML). Everything that can be wrong in it is found before the
//! station starts.

use super::tls;
use axum::http::Uri;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IntoDeserializer};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Why the file of the plant's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A key is unknown, is missing or has a value that is not allowed.
    #[error("{path}: {key}: {reason}")]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// The key that it is about.
        key: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A certificate or a key cannot be used.
    #[error("{path}: {reason}")]
    Tls {
        /// The file, or what it is for.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The receivers of the station's messages.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plant {
    /// The MQTT broker, if there is one.
    pub mqtt: Option<Mqtt>,
    /// The web server that gets messages by POST, if there is one.
    pub webhook: Option<Webhook>,
}

/// Which parts' results are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Results {
    /// The results of all parts.
    #[default]
    All,
    /// The results of rejected parts.
    Rejects,
    /// No part's results.
    None,
}

/// A broker that speaks MQTT 5.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// `mqtt://host:1883`, or `mqtts://host:8883` with TLS.
    pub broker: Broker,
    /// What all topics begin with: `plant/line1` gives `plant/line1/result`.
    #[serde(default, deserialize_with = "topic")]
    pub topic: Option<String>,
    /// Sparkplug B in place of plain JSON topics.
    pub sparkplug: Option<Sparkplug>,
    /// The client's name at the broker; the station's by default. Two clients of one name throw each other out.
    pub client_id: Option<String>,
    /// User at the broker.
    pub user: Option<String>,
    /// File with the password, in its first line.
    pub password_file: Option<PathBuf>,
    /// The password may go over a network without TLS.
    #[serde(default)]
    pub plain: bool,
    /// Certificates of those who may sign the broker's (PEM); the system's by default.
    pub ca_file: Option<PathBuf>,
    /// The station's own certificate and key (PEM), if the broker asks for one.
    pub certificate_file: Option<PathBuf>,
    /// The key of that certificate (PEM).
    pub key_file: Option<PathBuf>,
    /// Which results are sent.
    #[serde(default)]
    pub results: Results,
    /// Seconds between two messages with counters, 1..=3600.
    #[serde(default = "ten", deserialize_with = "seconds")]
    pub counters_s: u32,
    /// Most messages that wait, 100..=1,000,000.
    #[serde(default = "many", deserialize_with = "messages")]
    pub queue: u64,
}

/// What the station is called in Sparkplug's topics, `spBv1.0/GROUP/NDATA/NODE`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sparkplug {
    /// The group: a plant, an area.
    #[serde(deserialize_with = "part")]
    pub group: String,
    /// The edge node: this station. Two of one name in a group throw each other out.
    #[serde(deserialize_with = "part")]
    pub node: String,
    /// The host (Sparkplug's host id) without which nothing is sent, whatever other hosts there are; none by default, and
    /// if it is empty.
    #[serde(default, deserialize_with = "part_or_none")]
    pub primary_host: Option<String>,
}

/// A web server that takes messages by POST.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// `http://...` or `https://...`.
    #[serde(deserialize_with = "url")]
    pub url: String,
    /// File with a token that goes with every request (`Authorization: Bearer ...`), in its first line.
    pub token_file: Option<PathBuf>,
    /// The token may go over a network without TLS.
    #[serde(default)]
    pub plain: bool,
    /// Certificates of those who may sign the server's (PEM); the system's by default.
    pub ca_file: Option<PathBuf>,
    /// Which results are sent.
    #[serde(default)]
    pub results: Results,
    /// Most messages that wait, 100..=1,000,000.
    #[serde(default = "many", deserialize_with = "messages")]
    pub queue: u64,
}

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Host name or IP address.
    pub host: String,
    /// TCP port, 1..=65535.
    pub port: u16,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

impl<'de> Deserialize<'de> for Broker {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let wrong = || {
            D::Error::custom(format!(
                "`{text}` is not mqtt://HOST:PORT or mqtts://HOST:PORT"
            ))
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (tls, port) = match uri.scheme_str() {
            Some("mqtt") => (false, 1883),
            Some("mqtts") => (true, 8883),
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') || !matches!(uri.path(), "" | "/") {
            return Err(wrong());
        }
        let host = authority.host().trim_matches(['[', ']']).to_string();
        let port = authority.port_u16().unwrap_or(port);
        Ok(Broker { host, port, tls })
    }
}

fn ten() -> u32 {
    10
}

fn many() -> u64 {
    100_000
}

fn part<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    match !text.is_empty() && text.len() <= 100 && !text.contains(['/', '+', '#', '\0']) {
        true => Ok(text),
        false => Err(D::Error::custom(format!(
            "`{text}` is no part of a topic: 1 to 100 characters, none of them /, + or #"
        ))),
    }
}

fn part_or_none<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(d)?;
    match text.is_empty() {
        true => Ok(None),
        false => part(text.into_deserializer()).map(Some),
    }
}

fn topic<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(d)?;
    let plain = !text.is_empty() && text.len() <= 200 && !text.contains(['+', '#', '\0']);
    let whole = !text.starts_with(['/', '$']) && !text.ends_with('/');
    match plain && whole {
        true => Ok(Some(text)),
        false => Err(D::Error::custom(format!(
            "`{text}` is no topic: 1 to 200 characters, none of them + or #, no / at its ends, no $ at its start"
        ))),
    }
}

fn url<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    let uri: Option<Uri> = text.parse().ok();
    let known = uri.filter(|u| matches!(u.scheme_str(), Some("http" | "https")));
    let authority = known.as_ref().and_then(Uri::authority);
    match authority {
        Some(authority) if authority.as_str().contains('@') => Err(D::Error::custom(
            "no user or password in it, for it is shown: a token goes into token_file",
        )),
        Some(_) => Ok(text),
        None => Err(D::Error::custom(format!(
            "`{text}` is not http://... or https://..."
        ))),
    }
}

fn within<'de, D: Deserializer<'de>>(d: D, low: u64, high: u64) -> Result<u64, D::Error> {
    let value = i64::deserialize(d)?;
    u64::try_from(value)
        .ok()
        .filter(|v| (low..=high).contains(v))
        .ok_or_else(|| D::Error::custom(format!("{value} is not in {low}..{high}")))
}

fn seconds<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    // Fits.
    within(d, 1, 3600).map(|v| v as u32)
}

fn messages<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    within(d, 100, 1_000_000)
}

impl Plant {
    /// Reads the file, and looks at those that it names.
    ///
    /// # Errors
    /// [`SettingsError`] with the file, the key and what is wrong.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
            path: path.to_path_buf(),
            source,
        })?;
        let invalid = |key: &str, reason: String| SettingsError::Invalid {
            path: path.to_path_buf(),
            key: key.into(),
            reason,
        };
        let document =
            toml::Deserializer::parse(&text).map_err(|e| invalid("TOML", e.to_string()))?;
        let plant: Plant = serde_path_to_error::deserialize(document)
            .map_err(|e| invalid(&e.path().to_string(), e.inner().message().to_string()))?;
        if plant.mqtt.is_none() && plant.webhook.is_none() {
            let reason = "nothing says where to send to: a table [mqtt] or [webhook] is missing";
            return Err(invalid("mqtt", reason.into()));
        }
        if let Some(mqtt) = &plant.mqtt {
            match (&mqtt.topic, &mqtt.sparkplug) {
                (None, None) => {
                    let reason = "a topic is missing (or a table [mqtt.sparkplug])".to_string();
                    return Err(invalid("mqtt.topic", reason));
                }
                (Some(_), Some(_)) => {
                    let reason = "Sparkplug has topics of its own: leave topic out".to_string();
                    return Err(invalid("mqtt.topic", reason));
                }
                _ => (),
            }
            if mqtt.certificate_file.is_some() != mqtt.key_file.is_some() {
                let reason = "certificate_file and key_file go together".to_string();
                return Err(invalid("mqtt", reason));
            }
            let tls = mqtt.ca_file.is_some() || mqtt.key_file.is_some();
            if tls && !mqtt.broker.tls {
                let reason = "certificates are for mqtts:// only".to_string();
                return Err(invalid("mqtt.broker", reason));
            }
            if mqtt.password_file.is_some() && mqtt.user.is_none() {
                let reason = "a password needs a user".to_string();
                return Err(invalid("mqtt.user", reason));
            }
        }
        plant
            .look()
            .map_err(|(key, e)| invalid(key, e.to_string()))?;
        if let Some(key) = plant.overheard() {
            let reason = "it would go over the network so that others can read it: take mqtts:// or https://, or say \
                          `plain = true` for a network where nobody listens";
            return Err(invalid(key, reason.into()));
        }
        Ok(plant)
    }

    /// The secret that others could read on its way, unless they may.
    fn overheard(&self) -> Option<&'static str> {
        let mqtt = self.mqtt.as_ref().filter(|m| {
            let open = !m.broker.tls && !is_here(&m.broker.host);
            m.password_file.is_some() && open && !m.plain
        });
        let webhook = self.webhook.as_ref().filter(|w| {
            let uri: Option<Uri> = w.url.parse().ok();
            let open = uri.is_some_and(|u| {
                u.scheme_str() == Some("http") && !is_here(u.host().unwrap_or_default())
            });
            w.token_file.is_some() && open && !w.plain
        });
        (mqtt.map(|_| "mqtt.password_file")).or(webhook.map(|_| "webhook.token_file"))
    }

    /// Looks at every file that the settings name: the error has the key.
    fn look(&self) -> Result<(), (&'static str, SettingsError)> {
        let secrets = [
            (
                "mqtt.password_file",
                self.mqtt.as_ref().and_then(|m| m.password_file.as_deref()),
            ),
            (
                "webhook.token_file",
                self.webhook.as_ref().and_then(|w| w.token_file.as_deref()),
            ),
        ];
        let certificates = [
            (
                "mqtt.ca_file",
                self.mqtt.as_ref().and_then(|m| m.ca_file.as_deref()),
            ),
            (
                "mqtt.certificate_file",
                self.mqtt
                    .as_ref()
                    .and_then(|m| m.certificate_file.as_deref()),
            ),
            (
                "webhook.ca_file",
                self.webhook.as_ref().and_then(|w| w.ca_file.as_deref()),
            ),
        ];
        let key = self.mqtt.as_ref().and_then(|m| m.key_file.as_deref());
        for (name, path) in secrets {
            path.map_or(Ok(()), |path| secret(path).map(drop))
                .map_err(|e| (name, e))?;
        }
        for (name, path) in certificates {
            path.map_or(Ok(()), |path| tls::certificates(path).map(drop))
                .map_err(|e| (name, e))?;
        }
        key.map_or(Ok(()), |path| tls::key(path).map(drop))
            .map_err(|e| ("mqtt.key_file", e))
    }
}

/// Whether a host is this machine, so that nothing goes over a network.
fn is_here(host: &str) -> bool {
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|a| a.to_canonical().is_loopback())
}

/// The first line of a file with a secret.
///
/// # Errors
/// [`SettingsError::Unreadable`]: there is no such file, it may not be read, or its first line is empty.
pub(super) fn secret(path: &Path) -> Result<String, SettingsError> {
    let unreadable = |source| SettingsError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    match text.lines().next().map(str::to_string) {
        Some(line) if !line.trim().is_empty() => Ok(line),
        _ => {
            let empty = "its first line is empty: write the password or the token there";
            Err(unreadable(std::io::Error::other(empty)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Plant, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let name = file.path().display().to_string();
        Plant::read(file.path()).map_err(|e| e.to_string().replace(&name, "FILE"))
    }

    #[test]
    fn a_file_is_read_with_its_defaults() {
        let plant = read(
            "[mqtt]\nbroker = \"mqtts://broker.plant\"\ntopic = \"plant/line1\"\nresults = \"rejects\"\n\
             [webhook]\nurl = \"http://10.0.0.9/station\"\nqueue = 500\n",
        )
        .unwrap();
        let mqtt = plant.mqtt.unwrap();
        let broker = Broker {
            host: "broker.plant".into(),
            port: 8883,
            tls: true,
        };
        assert_eq!(mqtt.broker, broker);
        assert_eq!((mqtt.results, mqtt.counters_s), (Results::Rejects, 10));
        assert_eq!((mqtt.queue, plant.webhook.unwrap().queue), (100_000, 500));
        let sparkplug = |more: &str| {
            let text = format!(
                "[mqtt]\nbroker = \"mqtt://b\"\n[mqtt.sparkplug]\ngroup = \"g\"\nnode = \"n\"\n{more}"
            );
            read(&text)
                .unwrap()
                .mqtt
                .unwrap()
                .sparkplug
                .unwrap()
                .primary_host
        };
        assert_eq!(
            (sparkplug(""), sparkplug("primary_host = \"\"")),
            (None, None)
        );
        assert_eq!(sparkplug("primary_host = \"scada\""), Some("scada".into()));
        let six = read("[mqtt]\nbroker = \"mqtt://[::1]:1999\"\ntopic = \"a\"").unwrap();
        let six = six.mqtt.unwrap().broker;
        assert_eq!((six.host.as_str(), six.port, six.tls), ("::1", 1999, false));
    }

    #[test]
    fn secrets_go_over_a_network_only_encrypted_or_if_one_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret").unwrap();
        let file = file.path().display();
        let mqtt = |broker: &str, more: &str| {
            read(&format!(
                "[mqtt]\nbroker = \"{broker}\"\ntopic = \"t\"\nuser = \"u\"\npassword_file = \"{file}\"\n{more}"
            ))
        };
        let webhook = |url: &str, more: &str| {
            read(&format!(
                "[webhook]\nurl = \"{url}\"\ntoken_file = \"{file}\"\n{more}"
            ))
        };
        for broker in [
            "mqtts://b",
            "mqtt://localhost",
            "mqtt://127.0.0.2",
            "mqtt://[::1]:1999",
        ] {
            assert!(mqtt(broker, "").is_ok(), "{broker}");
        }
        for url in [
            "https://b/x",
            "http://localhost:81/x",
            "http://127.0.0.1/",
            "http://[::1]:81",
        ] {
            assert!(webhook(url, "").is_ok(), "{url}");
        }
        for (refused, key) in [
            (mqtt("mqtt://10.0.0.9", ""), "mqtt.password_file"),
            (webhook("http://10.0.0.9/", ""), "webhook.token_file"),
        ] {
            let said = refused.unwrap_err();
            assert!(
                said.contains(key) && said.contains("`plain = true`"),
                "{said}"
            );
        }
        assert!(mqtt("mqtt://10.0.0.9", "plain = true").is_ok());
        assert!(webhook("http://10.0.0.9/", "plain = true").is_ok());
        let said = webhook("https://u:geheim@b/", "").unwrap_err();
        assert!(
            said.contains("token_file") && !said.contains("geheim"),
            "{said}"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_file_and_key() {
        let mqtt = "[mqtt]\nbroker = \"mqtt://b\"\ntopic = \"t\"\n";
        let tls = "[mqtt]\nbroker = \"mqtts://b\"\ntopic = \"t\"\n";
        for (text, said) in [
            ("", "FILE: mqtt: nothing says where to send to"),
            (
                "[mqtt]\nbroker = \"b:1883\"\ntopic = \"t\"",
                "FILE: mqtt.broker: `b:1883` is not mqtt://HOST:PORT",
            ),
            (
                "[mqtt]\nbroker = \"mqtt://u:p@b\"\ntopic = \"t\"",
                "FILE: mqtt.broker: ",
            ),
            (
                "[mqtt]\nbroker = \"mqtt://b\"",
                "FILE: mqtt.topic: a topic is missing",
            ),
            (
                "[mqtt]\nbroker = \"mqtt://b\"\ntopic = \"a/#\"",
                "FILE: mqtt.topic: `a/#` is no topic",
            ),
            (
                &format!("{mqtt}[mqtt.sparkplug]\ngroup = \"g\"\nnode = \"n\""),
                "FILE: mqtt.topic: Sparkplug has topics of its own",
            ),
            (
                "[mqtt]\nbroker = \"mqtt://b\"\n[mqtt.sparkplug]\ngroup = \"a/b\"\nnode = \"n\"",
                "FILE: mqtt.sparkplug.group: `a/b` is no part of a topic",
            ),
            (
                "[mqtt]\nbroker = \"mqtt://b\"\n[mqtt.sparkplug]\ngroup = \"g\"\nnode = \"n\"\nprimary_host = \"scada/1\"",
                "FILE: mqtt.sparkplug.primary_host: `scada/1` is no part of a topic",
            ),
            (
                &format!("{mqtt}queue = 5"),
                "FILE: mqtt.queue: 5 is not in 100..1000000",
            ),
            (
                &format!("{mqtt}qeue = 500"),
                "FILE: mqtt.qeue: unknown field",
            ),
            (
                &format!("{mqtt}key_file = \"k\""),
                "FILE: mqtt: certificate_file and key_file go together",
            ),
            (
                &format!("{mqtt}ca_file = \"k\""),
                "FILE: mqtt.broker: certificates are for mqtts:// only",
            ),
            (
                &format!("{mqtt}password_file = \"p\""),
                "FILE: mqtt.user: a password needs a user",
            ),
            (
                "[webhook]\nurl = \"ftp://x\"",
                "FILE: webhook.url: `ftp://x` is not http://",
            ),
            ("[opcua]", "FILE: opcua: unknown field"),
            (
                "[webhook]\nurl = \"http://x\"\ntoken_file = \"/nowhere/token\"",
                "FILE: webhook.token_file: /nowhere/token: No such file",
            ),
            (
                "[webhook]\nurl = \"http://x\"\ntoken_file = \"/dev/null\"",
                "FILE: webhook.token_file: /dev/null: its first line is empty: write the password or the token there",
            ),
            (
                "[webhook]\nurl = \"https://x\"\nca_file = \"/nowhere/ca.pem\"",
                "FILE: webhook.ca_file: /nowhere/ca.pem: ",
            ),
            (
                &format!("{mqtt}user = \"u\"\npassword_file = \"/nowhere/password\""),
                "FILE: mqtt.password_file: /nowhere/password: No such file",
            ),
            (
                &format!("{tls}ca_file = \"/dev/null\""),
                "FILE: mqtt.ca_file: /dev/null: there is no certificate in it",
            ),
            (
                &format!("{tls}certificate_file = \"/nowhere/c\"\nkey_file = \"/nowhere/k\""),
                "FILE: mqtt.certificate_file: /nowhere/c: ",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }
}
