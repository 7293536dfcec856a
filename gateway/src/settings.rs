//! The gateway's file (TOML).

use faprompt_client::Station;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A file that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {key}: {reason}", path = path.display())]
pub struct SettingsError {
    /// The file.
    pub path: PathBuf,
    /// The key, as `station.url`.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

/// The level at which the gateway itself logs in at the station.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Enough for everything that the gateway reads.
    #[default]
    Operator,
    /// For a station that has no operator's password.
    Engineer,
}

impl Level {
    /// Its name in the station's log-in.
    pub fn name(self) -> &'static str {
        match self {
            Level::Operator => "operator",
            Level::Engineer => "engineer",
        }
    }
}

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address that it listens at.
    pub listen: SocketAddr,
    /// Name or address by which clients reach it; part of the addresses that it hands out.
    pub host: Option<String>,
    /// Folder of certificates: `own`, `private`, `trusted`, `rejected`.
    pub certificates: PathBuf,
    /// Whether whoever connects may read without a user name.
    #[serde(default)]
    pub anonymous: bool,
    /// Whether reading without encryption is offered.
    #[serde(default)]
    pub unencrypted: bool,
    /// Level of the password in `[station]`.
    #[serde(default)]
    pub level: Level,
    /// The station: the keys of `faprompt-train fleet`'s file.
    pub station: Station,
}

impl Settings {
    /// Reads the file; paths in it start at its folder.
    ///
    /// # Errors
    /// [`SettingsError`] with file, key and reason.
    pub fn read(path: &Path) -> Result<Settings, SettingsError> {
        let wrong = |key: &str, reason: String| SettingsError {
            path: path.to_path_buf(),
            key: key.into(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|e| wrong("file", e.to_string()))?;
        let document =
            toml::Deserializer::parse(&text).map_err(|e| wrong("TOML", e.to_string()))?;
        let mut settings: Settings = serde_path_to_error::deserialize(document)
            .map_err(|e| wrong(&e.path().to_string(), e.inner().message().to_string()))?;
        if let Some((key, reason)) = settings.station.contradiction() {
            return Err(wrong(&format!("station.{key}"), reason.into()));
        }
        if settings.unencrypted && !settings.anonymous {
            let reason = "nobody can log in without encryption, where the password could be read: set anonymous = true, \
                          too, or leave this out";
            return Err(wrong("unencrypted", reason.into()));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        settings.certificates = folder.join(&settings.certificates);
        let password = settings.station.password_file.as_ref();
        settings.station.password_file = password.map(|file| folder.join(file));
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, text).unwrap();
        let shown = path.display().to_string();
        Settings::read(&path).map_err(|e| e.to_string().replace(&shown, "F"))
    }

    const STATION: &str = "[station]\nname = \"line1\"\nurl = \"https://10.0.0.7:8443\"\n";

    #[test]
    fn a_file_is_read_with_its_defaults() {
        let top = "listen = \"0.0.0.0:4840\"\ncertificates = \"pki\"\n";
        let settings = read(&format!("{top}{STATION}")).unwrap();
        assert_eq!(settings.listen.port(), 4840);
        assert!(!settings.anonymous && !settings.unencrypted);
        assert_eq!(settings.level.name(), "operator");
        assert!(settings.certificates.is_absolute());
    }

    #[test]
    fn the_documents_file_is_right() {
        let page = include_str!("../../docs/integrator.md");
        let (_, file) = page.split_once("# gateway.toml\n").unwrap();
        let (file, _) = file.split_once("```").unwrap();
        let settings = read(file).unwrap();
        assert_eq!(settings.listen.port(), 4840);
        // So is every key that is left out there.
        let all = file.replace("# host", "host").replace("# anon", "anon");
        let all = all.replace("# unen", "unen").replace("# level", "level");
        let all = all.replace("# pass", "pass");
        let settings = read(&all).unwrap();
        assert_eq!(settings.host.as_deref(), Some("vision1.plant"));
        assert!(settings.station.password_file.unwrap().is_absolute());
    }

    #[test]
    fn what_is_wrong_is_said_with_file_and_key() {
        let top = "listen = \"0.0.0.0:4840\"\ncertificates = \"pki\"\n";
        for (text, said) in [
            (
                format!("certificates = \"pki\"\n{STATION}"),
                "F: .: missing field `listen`",
            ),
            (
                format!("listen = \"4840\"\ncertificates = \"pki\"\n{STATION}"),
                "F: listen: invalid socket address",
            ),
            (
                format!("{top}port = 1\n{STATION}"),
                "F: port: unknown field `port`",
            ),
            (
                format!("{top}unencrypted = true\n{STATION}"),
                "F: unencrypted: nobody can log in",
            ),
            (
                format!("{top}level = \"view\"\n{STATION}"),
                "F: level: unknown variant `view`",
            ),
            (
                format!("{top}[station]\nname = \"a\"\nurl = \"ftp://b\""),
                "F: station.url: `ftp://b` is not https://HOST:PORT",
            ),
            (
                format!("{top}[station]\nname = \"a\"\nurl = \"http://b\"\npassword_env = \"P\""),
                "F: station.url: the password would go over http",
            ),
            (
                format!("{top}{STATION}colour = 1"),
                "F: station.colour: unknown field `colour`",
            ),
            ("listen".into(), "F: TOML: "),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(said), "{text}\n{error}");
        }
    }
}
