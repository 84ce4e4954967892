//! Which server certificates a client believes: libpq's levels, and the usual one for HTTPS.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{TlsError, provider, read_certificates, read_key};

/// How much of a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Encryption only; any certificate will do.
    Nothing,
    /// The certificate comes from one of our authorities; its name may be any.
    Chain,
    /// The certificate comes from one of our authorities and carries the server's name.
    ChainAndName,
}

/// A TLS client for servers that are not agents: PostgreSQL, HTTPS.
///
/// `roots` is a PEM file of authorities; without one, the system's are used. `client_auth` is a certificate chain and
/// its key, both PEM files.
pub fn client_config(
    trust: Trust,
    roots: Option<&std::path::Path>,
    client_auth: Option<(&std::path::Path, &std::path::Path)>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Nothing => Arc::new(EncryptOnly(provider())),
        Trust::Chain | Trust::ChainAndName => {
            let certificates = match roots {
                Some(path) => read_certificates(path)?,
                None => rustls_native_certs::load_native_certs().certs,
            };
            Arc::new(Authorities::new(certificates, trust == Trust::ChainAndName)?)
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(match client_auth {
        Some((chain, key)) => builder.with_client_auth_cert(read_certificates(chain)?, read_key(key)?)?,
        None => builder.with_no_client_auth(),
    })
}

/// Checks the chain, and the name if asked, and also believes a server certificate that is itself one of the roots.
///
/// Self-hosted PostgreSQL commonly has one self-signed certificate that is handed to clients as `sslrootcert`; OpenSSL
/// accepts it, while webpki refuses an authority in the place of a leaf. Equal bytes are the strongest check there is.
#[derive(Debug)]
struct Authorities {
    webpki: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    check_name: bool,
}

impl Authorities {
    fn new(certificates: Vec<CertificateDer<'static>>, check_name: bool) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| TlsError::Setup(format!("no usable authority: {error}")))?;
        Ok(Self { webpki, pinned: certificates, check_name })
    }

    fn pinned(
        &self,
        leaf: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check_name {
            let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
            rustls::client::verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = self.webpki.verify_server_cert(leaf, intermediates, server_name, ocsp_response, now);
        match result {
            // The name is checked last, so a chain that fails only here is good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_name => Ok(ServerCertVerified::assertion()),
            // webpki's expiry check comes before its check of the leaf's role, so an expired pinned one stays refused.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )) => result,
            Err(error) => {
                if self.pinned.iter().any(|pinned| pinned.as_ref() == leaf.as_ref()) {
                    return self.pinned(leaf, server_name);
                }
                Err(error)
            }
            Ok(verified) => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// libpq's `require`: the line is encrypted, and nothing is known about the other end.
#[derive(Debug)]
pub(super) struct EncryptOnly(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for EncryptOnly {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
