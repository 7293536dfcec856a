//! TLS by rustls with ring's algorithms: which certificates are trusted, and the station's own.

use super::settings::{Mqtt, SettingsError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use std::path::Path;
use std::sync::Arc;

fn wrong(path: &Path, reason: impl std::fmt::Display) -> SettingsError {
    SettingsError::Tls {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// The certificates in a file.
///
/// # Errors
/// [`SettingsError::Tls`]: it cannot be read, or there is none in it.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(wrong(path, "there is no certificate in it"))
        }
        Ok(certificates) => Ok(certificates),
        Err(e) => Err(wrong(path, e)),
    }
}

/// The private key in a file.
///
/// # Errors
/// [`SettingsError::Tls`]: it cannot be read, or there is none in it.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, SettingsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| wrong(path, e))
}

/// The TLS configuration for the broker.
///
/// # Errors
/// [`SettingsError::Tls`]: a certificate or the key cannot be used.
pub(super) fn client(mqtt: &Mqtt) -> Result<Arc<ClientConfig>, SettingsError> {
    let system = |e: rustls::Error| SettingsError::Tls {
        path: "TLS".into(),
        reason: e.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(system)?;
    let builder = match &mqtt.ca_file {
        None => builder.with_platform_verifier().map_err(system)?,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| wrong(path, e))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let config = match (&mqtt.certificate_file, &mqtt.key_file) {
        (Some(chain), Some(path)) => builder
            .with_client_auth_cert(certificates(chain)?, key(path)?)
            .map_err(|e| wrong(path, e))?,
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}
