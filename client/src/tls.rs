//! TLS to a station: by the fingerprint of its certificate, or by whom the system trusts.
//!
//! A certificate that a station made for itself is signed by nobody, and need not hold the name by which the station
//! is reached: its fingerprint says whose it is. ureq has no such rule, so its TLS is replaced by a short connector of
//! our own. That interface of ureq may change with any version (`unversioned`).

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    StreamOwned,
};
use rustls_platform_verifier::Verifier;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// SHA-256 of a certificate, as the station's log and browsers show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let colon = if i == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let digits: Option<Vec<u8>> = (text.bytes().filter(|b| *b != b':'))
            .map(|b| {
                char::from(b)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            })
            .collect();
        let bytes = digits.map(|d| d.as_chunks().0.iter().map(|[h, l]| h << 4 | l).collect());
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes: Vec<u8>| bytes.try_into().ok());
        let odd = text.bytes().filter(|b| *b != b':').count() != 64;
        bytes.filter(|_| !odd).map(Fingerprint).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no SHA-256 fingerprint: 64 hexadecimal digits, with colons or without, as the station's log has it"
            ))
        })
    }
}

/// Whom a station's certificate must be from.
pub(super) struct Identity {
    /// The certificate itself; `None`: whoever the system trusts must have signed it, for the station's address.
    pinned: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
    system: Option<Verifier>,
    seen: Mutex<Seen>,
}

/// The certificate of the last connection.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// Its fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// Whether it was refused.
    pub refused: bool,
}

impl Identity {
    /// # Errors
    /// The system's certificates cannot be read.
    pub(super) fn new(pinned: Option<Fingerprint>) -> Result<Arc<Identity>, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let system = match pinned {
            Some(_) => None,
            None => Some(Verifier::new(provider.clone())?),
        };
        Ok(Arc::new(Identity {
            pinned,
            provider,
            system,
            seen: Mutex::default(),
        }))
    }

    pub(super) fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(self: &Arc<Self>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.pinned).finish()
    }
}

impl ServerCertVerifier for Identity {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = Fingerprint::of(certificate);
        let verified = match (self.pinned, &self.system) {
            (Some(pinned), _) if pinned == fingerprint => Ok(ServerCertVerified::assertion()),
            (None, Some(system)) => system.verify_server_cert(certificate, others, name, ocsp, now),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen {
            fingerprint: Some(fingerprint),
            refused: verified.is_err(),
        };
        verified
    }

    // Whoever shows the certificate must have its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

/// Puts TLS onto the connections of `https` addresses.
#[derive(Debug)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// # Errors
    /// rustls's own; none is known.
    pub(super) fn new(identity: &Arc<Identity>) -> Result<Tls, rustls::Error> {
        Ok(Tls(identity.config()?))
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string());
        let name = name.map_err(|_| ureq::Error::Tls("not a host's name or address"))?;
        let mut connection = ClientConnection::new(self.0.clone(), name)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        let stream = StreamOwned::new(connection, socket);
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

/// A connection with TLS.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        use std::io::Write;
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        use std::io::Read;
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
