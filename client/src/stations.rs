//! The file that says which stations there are (TOML). What can be wrong in it is found before anything is done.

use super::FileError;
use super::tls::Fingerprint;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_path_to_error::Segment;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::DeTable;
use ureq::http::Uri;

/// A station.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Station {
    /// What it is called here, and its backup's file.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Where its page is: `https://10.0.0.7:8443`.
    #[serde(deserialize_with = "url")]
    pub url: String,
    /// SHA-256 of its certificate; without one the system must trust who signed it.
    pub fingerprint: Option<Fingerprint>,
    /// File with the password of its engineer, in its first line; from the folder of the file of stations.
    pub password_file: Option<PathBuf>,
    /// Environment variable with the password.
    pub password_env: Option<String>,
    /// Whether the password may go over http to another computer.
    #[serde(default)]
    pub plain: bool,
    /// The node, as ssh calls it (`line@10.0.0.7`).
    pub ssh: Option<String>,
    /// Further arguments for ssh.
    #[serde(default)]
    pub ssh_options: Vec<String>,
    /// Which board the node is: a name, or a file (from the folder of the file of stations).
    pub board: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    station: Vec<Station>,
}

/// The longest name.
const NAME: usize = 64;

fn name<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = text.len() <= NAME && text.chars().all(plain);
    match fits && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true => Ok(text),
        false => Err(D::Error::custom(format!(
            "`{text}` is no name: 1 to {NAME} letters, digits, `-`, `_` and `.`, a letter or digit first; its backup's file is called by it"
        ))),
    }
}

fn url<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    let bare = |uri: &Uri| {
        let authority = uri.authority().map_or("@", |a| a.as_str());
        matches!(uri.scheme_str(), Some("http" | "https"))
            && !authority.contains('@')
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    };
    match text.parse::<Uri>() {
        Ok(uri) if bare(&uri) => Ok(text.trim_end_matches('/').to_string()),
        _ => Err(D::Error::custom(format!(
            "`{text}` is not https://HOST:PORT or http://HOST:PORT"
        ))),
    }
}

impl Station {
    /// Whether it is spoken to with TLS.
    pub fn tls(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// Whether a password would go over a network where everybody can read it.
    fn overheard(&self) -> bool {
        let uri: Option<Uri> = self.url.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let host = host.trim_matches(['[', ']']);
        let address: Option<IpAddr> = host.parse().ok();
        let here = host == "localhost" || address.is_some_and(|a| a.to_canonical().is_loopback());
        !self.tls() && !here
    }

    /// Keys that contradict one another: which one, and why.
    /// (Also for other files that have such a table.)
    pub fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let (file, env) = (self.password_file.is_some(), self.password_env.is_some());
        if file && env {
            return Some((
                "password_env",
                "there is a password_file too: leave one out",
            ));
        }
        if self.fingerprint.is_some() && !self.tls() {
            return Some((
                "fingerprint",
                "http has no certificate: the url is to be https://...",
            ));
        }
        if (file || env) && self.overheard() && !self.plain {
            return Some((
                "url",
                "the password would go over http, which others can read: start the station with --web-tls, or \
                 say `plain = true` for a network where nobody listens",
            ));
        }
        None
    }

    /// The engineer's password; `None` if neither key is there.
    ///
    /// # Errors
    /// Why it cannot be had, with its key.
    pub fn password(&self) -> Result<Option<String>, String> {
        let (key, text) = match (&self.password_file, &self.password_env) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|e| format!("password_file: {}: {e}", path.display()))?;
                let first = text.lines().next().unwrap_or_default().to_string();
                (format!("password_file: {}", path.display()), first)
            }
            (None, Some(name)) => match std::env::var(name) {
                Ok(text) => (format!("password_env: {name}"), text),
                Err(e) => return Err(format!("password_env: {name}: {e}")),
            },
            (None, None) => return Ok(None),
        };
        match text.is_empty() {
            true => Err(format!("{key}: there is no password in it")),
            false => Ok(Some(text)),
        }
    }
}

/// Where things are in the text of a file, for messages.
struct Places<'a> {
    text: &'a str,
    table: Option<DeTable<'a>>,
}

impl Places<'_> {
    /// The line, counted from 1.
    fn line(&self, at: Range<usize>) -> usize {
        let before = self.text.bytes().take(at.start);
        1 + before.filter(|b| *b == b'\n').count()
    }

    /// The keys of a station, counted from 0.
    fn station(&self, place: usize) -> Option<&DeTable<'_>> {
        let stations = self.table.as_ref()?.get("station")?.get_ref();
        stations.as_array()?.get(place)?.get_ref().as_table()
    }

    /// The station's name, or its number if it has none.
    fn called(&self, place: usize) -> String {
        let name = self.station(place).and_then(|s| s.get("name"));
        match name.and_then(|n| n.get_ref().as_str()) {
            Some(name) => format!("station `{name}`"),
            None => format!("station {}", place + 1),
        }
    }

    /// The line of one of its keys.
    fn key(&self, place: usize, key: &str) -> Option<usize> {
        let value = self.station(place)?.get(key)?;
        Some(self.line(value.span()))
    }
}

/// The stations of a file, in its order.
///
/// # Errors
/// [`FileError`] names line, station and key.
pub fn read(path: &Path) -> Result<Vec<Station>, FileError> {
    let wrong = |line: Option<usize>, reason: String| FileError {
        path: path.to_path_buf(),
        line,
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(None, e.to_string()))?;
    let places = Places {
        text: &text,
        table: DeTable::parse(&text).ok().map(toml::Spanned::into_inner),
    };
    let line = |e: &toml::de::Error| e.span().map(|span| places.line(span));
    let document = toml::Deserializer::parse(&text)
        .map_err(|e| wrong(line(&e), format!("not TOML: {}", e.message())))?;
    let file: Result<File, _> = serde_path_to_error::deserialize(document);
    let file = file.map_err(|e| {
        let (mut place, mut keys) = (None, String::new());
        for segment in e.path().iter() {
            match (segment, place) {
                (Segment::Seq { index }, None) => place = Some(*index),
                (Segment::Map { key }, Some(_)) => keys = format!("{key}: "),
                _ => (),
            }
        }
        let called = place.map_or(String::new(), |place| format!("{}: ", places.called(place)));
        wrong(
            line(e.inner()),
            format!("{called}{keys}{}", e.inner().message()),
        )
    })?;
    let mut stations = file.station;
    for (place, station) in stations.iter().enumerate() {
        let twice = stations[..place].iter().any(|s| s.name == station.name);
        let twice = twice.then_some(("name", "another station has it"));
        if let Some((key, reason)) = twice.or_else(|| station.contradiction()) {
            let reason = format!("{}: {key}: {reason}", places.called(place));
            return Err(wrong(places.key(place, key), reason));
        }
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for station in &mut stations {
        station.password_file = station.password_file.as_ref().map(|p| folder.join(p));
        if let Some(board) = station.board.as_mut().filter(|b| b.ends_with(".toml")) {
            *board = folder.join(&*board).display().to_string();
        }
    }
    match stations.is_empty() {
        true => Err(wrong(None, "there is no [[station]] in it".into())),
        false => Ok(stations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_by_line_station_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.toml");
        let first = "[[station]]\nname = \"a\"\nurl = \"https://10.0.0.7:8443\"\n\n";
        let said = |more: &str| {
            std::fs::write(&path, format!("{first}{more}")).unwrap();
            match read(&path) {
                Ok(stations) => format!("{} stations", stations.len()),
                Err(e) => e.to_string().replace(&path.display().to_string(), "F"),
            }
        };
        let second = |more: &str| {
            said(&format!(
                "[[station]]\nname = \"b\"\nurl = \"http://10.0.0.8\"\n{more}\n"
            ))
        };
        assert_eq!(said(""), "1 stations");
        assert_eq!(second("plain = true\npassword_env = \"B\""), "2 stations");
        for (said, wanted) in [
            (second("pasword = \"x\""), "F, line 8: station `b`: "),
            (second("plain = 3"), "F, line 8: station `b`: plain: "),
            (
                second("password_env = \"B\""),
                "F, line 7: station `b`: url: the password would go over http",
            ),
            (
                second("fingerprint = \"00:11\""),
                "F, line 8: station `b`: fingerprint: `00:11` is no SHA-256",
            ),
            (
                second(&format!("fingerprint = \"{}\"", "0a".repeat(32))),
                "F, line 8: station `b`: fingerprint: http has no certificate",
            ),
            (
                second("plain = true\npassword_env = \"B\"\npassword_file = \"b\""),
                "F, line 9: station `b`: password_env: there is a password_file too",
            ),
            (
                said("[[station]]\nname = \"a\"\nurl = \"http://a\""),
                "F, line 6: station `a`: name: another station has it",
            ),
            (
                said("[[station]]\nname = \"../b\"\nurl = \"http://b\""),
                "F, line 6: station `../b`: name: `../b` is no name",
            ),
            (
                said("[[station]]\nname = \"b\"\nurl = \"ftp://b\""),
                "F, line 7: station `b`: url: `ftp://b` is not https://HOST:PORT",
            ),
            (
                said("[[station]]\nname = \"b\"\nurl = \"http://u:p@b/\""),
                "F, line 7: station `b`: url: ",
            ),
            (
                said("[[station]]\nname = \"b\""),
                "F, line 5: station `b`: missing field `url`",
            ),
            (said("colour = 1\n[[station]"), "F, line 6: not TOML: "),
        ] {
            assert!(said.starts_with(wanted), "{said}\n{wanted}");
        }
        std::fs::write(&path, "station = []").unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("no [[station]]")
        );
    }
}
