//! The page's certificate: the user's, or one that the station makes for itself at the first start.

use super::hosts::own_name;
use crate::board::HostName;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The certificate and those that signed it, the page's first; and its key.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// A station's clock may stand anywhere: the certificate that it makes for itself holds from the first of these days to
/// the second. Who trusts it trusts this one, not its date.
const FROM: (i32, u8, u8) = (2000, 1, 1);
const TO: (i32, u8, u8) = (2099, 12, 31);

/// Why there is no HTTPS.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = .path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

fn wrong(path: &Path, reason: impl std::fmt::Display) -> TlsError {
    TlsError {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}

/// What accepts connections with the certificate and key in this folder, `certificate.pem` and `key.pem`. If neither is
/// there, they are made, for the node's name, these names and this address. Logs the certificate's fingerprint.
///
/// # Errors
/// [`TlsError`]: they cannot be read or written, or are not what they should be, or one of them is missing.
pub fn acceptor(
    folder: &Path,
    address: IpAddr,
    names: &[HostName],
) -> Result<TlsAcceptor, TlsError> {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    match (certificate.exists(), key.exists()) {
        (true, true) => (),
        (false, false) => make(folder, address, names)?,
        (true, false) => return Err(wrong(&key, "there is a certificate, but not its key")),
        (false, true) => {
            return Err(wrong(
                &certificate,
                "there is a key, but not its certificate",
            ));
        }
    }
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|e| wrong(&certificate, e))?;
    let Some(first) = chain.first() else {
        return Err(wrong(&certificate, "there is no certificate in it"));
    };
    let fingerprint = Sha256::digest(first)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ = write!(text, "{}{byte:02X}", if text.is_empty() { "" } else { ":" });
            text
        });
    log::info!(
        "{}: SHA-256 fingerprint {fingerprint}",
        certificate.display()
    );
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|e| wrong(&key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, secret)
        });
    let mut config = config.map_err(|e| wrong(&certificate, e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Makes a key, and a certificate that it signs itself: both or, after a power cut, none.
fn make(folder: &Path, address: IpAddr, hosts: &[HostName]) -> Result<(), TlsError> {
    let host = own_name();
    let mut names = vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
    names.extend(hosts.iter().map(|name| name.as_ref().to_string()));
    if !address.is_unspecified() && !address.is_loopback() {
        names.push(address.to_string());
    }
    // A name that cannot stand in a certificate is no reason to have none.
    let mut named = names.clone();
    named.push(host.clone());
    named.push(format!(
        "{}.local",
        host.split('.').next().unwrap_or_default()
    ));
    let params = CertificateParams::new(named).or_else(|_| CertificateParams::new(names));
    let mut params = params.map_err(|e| wrong(folder, e))?;
    params.not_before = date_time_ymd(FROM.0, FROM.1, FROM.2);
    params.not_after = date_time_ymd(TO.0, TO.1, TO.2);
    let name = format!("faprompt-edge {host}");
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().map_err(|e| wrong(folder, e))?;
    let certificate = params.self_signed(&key).map_err(|e| wrong(folder, e))?;
    let new = folder.with_extension("new");
    let write = || -> io::Result<()> {
        if new.exists() {
            // An earlier start did not come to its end.
            std::fs::remove_dir_all(&new)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
        for (name, text) in [(KEY, key.serialize_pem()), (CERTIFICATE, certificate.pem())] {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(new.join(name))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        // Takes the place of a folder that is empty, and of no other.
        std::fs::rename(&new, folder)
    };
    write().map_err(|e| wrong(folder, e))?;
    log::info!(
        "{}: certificate and key made, as there were none",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_certificate_is_made_once_and_half_of_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tls");
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
        acceptor(&folder, address, &[]).unwrap();
        let made = std::fs::read(folder.join(CERTIFICATE)).unwrap();
        let mode = folder.join(KEY).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        acceptor(&folder, address, &[]).unwrap();
        assert_eq!(std::fs::read(folder.join(CERTIFICATE)).unwrap(), made);
        // Another one's key.
        let other = KeyPair::generate().unwrap().serialize_pem();
        std::fs::write(folder.join(KEY), other).unwrap();
        assert!(acceptor(&folder, address, &[]).is_err());
        std::fs::remove_file(folder.join(KEY)).unwrap();
        let Err(error) = acceptor(&folder, address, &[]) else {
            panic!("half of one");
        };
        let said = format!(
            "{}: there is a certificate, but not its key",
            folder.join(KEY).display()
        );
        assert_eq!(error.to_string(), said);
    }
}
