//! Who belongs to the mesh, and which certificates are believed elsewhere.
//!
//! A mesh of agents needs mutual authentication without a certificate authority to run. So the **mesh secret** *is* the
//! authority: HKDF-SHA256 turns it into the Ed25519 key of a CA whose certificate has a fixed serial and fixed dates,
//! and which therefore comes out byte for byte the same on every agent. Each agent mints a leaf of its own, with a
//! random key, and believes only that CA. It is one trust domain: whoever holds the secret can be any agent. PEM files
//! give each agent an identity of its own.
//!
//! Only ring is used, and only through this file and [`crate::secret`], so that changing the provider is one place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::secret::{MeshSecret, MeshSecrets, SecretsError};

mod expiry;
mod trust;

pub use expiry::expiries;
pub use trust::{Trust, client_config};

/// The protocol's name in the TLS handshake; another protocol or a later, incompatible one is refused there.
const ALPN: &[u8] = b"probe-echo/1";
/// The name in every leaf that is minted from a mesh secret. It says "some agent of this mesh", nothing more.
const MESH_NAME: &str = "agent.probe.internal";

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no usable {what}: {cause}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The file of the mesh secret holds none.
    #[error("{path}: {source}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretsError,
    },
    /// A certificate could not be made, or key and certificate do not belong together.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Setup(error.to_string())
    }
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        Self::Setup(error.to_string())
    }
}

/// Where an agent's identity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A leaf minted from the first mesh secret; leaves of all of them are believed.
    Secret(MeshSecrets),
    /// Certificate, key and CA from PEM files.
    Files(PemFiles),
    /// Encrypted, but anybody may talk to us and we to anybody. Only on explicit request.
    Insecure,
}

impl Identity {
    /// The files that it comes from.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Secret(secrets) => secrets.file().into_iter().collect(),
            Self::Files(PemFiles { cert, key, ca, .. }) => vec![cert, key, ca],
            Self::Insecure => Vec::new(),
        }
    }

    /// The same as its files say it now.
    pub fn renewed(&self) -> Result<Self, TlsError> {
        let Self::Secret(secrets) = self else { return Ok(self.clone()) };
        let Some(path) = secrets.file() else { return Ok(self.clone()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
        let secrets =
            MeshSecrets::parse(&text).map_err(|source| TlsError::Secret { path: path.to_owned(), source })?;
        Ok(Self::Secret(secrets.from_file(path)))
    }

    /// Whether both come from the same files, whatever is in them.
    pub fn is_from_where(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Secret(one), Self::Secret(other)) if one.file().is_some() => one.file() == other.file(),
            _ => self == other,
        }
    }
}

/// The files of an identity of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// The authorities that peers' certificates must come from.
    pub ca: PathBuf,
    /// The name that peers' certificates must carry; without it, the host that was dialled.
    pub server_name: Option<String>,
}

/// Both sides of an agent's TLS, made from one [`Identity`].
#[derive(Debug, Clone)]
pub struct MeshTls {
    /// For the sender.
    pub client: Arc<ClientConfig>,
    /// For the reflector.
    pub server: Arc<ServerConfig>,
    /// The name to ask for, where it is not the dialled host.
    pub server_name: Option<String>,
}

impl MeshTls {
    /// Mints or loads what the identity says.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        match identity {
            Identity::Secret(secrets) => {
                let authorities =
                    secrets.all().iter().map(authority).collect::<Result<Vec<_>, TlsError>>()?;
                let leaf = authorities.first().map(Authority::leaf);
                let leaf = leaf.ok_or_else(|| TlsError::Setup("there is no mesh secret".to_owned()))??;
                let roots = roots_of(authorities.into_iter().map(|authority| authority.ca))?;
                Self::mutual(roots, leaf, Some(MESH_NAME.to_owned()))
            }
            Identity::Files(files) => {
                let roots = roots_of(read_certificates(&files.ca)?)?;
                let leaf = Leaf { chain: read_certificates(&files.cert)?, key: read_key(&files.key)? };
                Self::mutual(roots, leaf, files.server_name.clone())
            }
            Identity::Insecure => Self::insecure(),
        }
    }

    fn mutual(roots: RootCertStore, leaf: Leaf, server_name: Option<String>) -> Result<Self, TlsError> {
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        let client = client_builder()?
            .with_root_certificates(roots)
            .with_client_auth_cert(leaf.chain.clone(), leaf.key.clone_key())?;
        let server =
            server_builder()?.with_client_cert_verifier(verifier).with_single_cert(leaf.chain, leaf.key)?;
        Ok(Self::finish(client, server, server_name))
    }

    fn insecure() -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let certificate = CertificateParams::new(vec![MESH_NAME.to_owned()])?.self_signed(&key)?;
        let client = client_builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust::EncryptOnly(provider())))
            .with_no_client_auth();
        let server = server_builder()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], pkcs8(&key))?;
        Ok(Self::finish(client, server, Some(MESH_NAME.to_owned())))
    }

    fn finish(mut client: ClientConfig, mut server: ServerConfig, server_name: Option<String>) -> Self {
        client.alpn_protocols = vec![ALPN.to_vec()];
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Each handshake proves who it is anew, and no ticket travels.
        client.resumption = Resumption::disabled();
        server.send_tls13_tickets = 0;
        Self { client: Arc::new(client), server: Arc::new(server), server_name }
    }
}

/// The one provider of the house.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?)
}

fn server_builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
    Ok(ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?)
}

struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

struct Authority {
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// The CA of a mesh secret: the same bytes on every agent.
fn authority(secret: &MeshSecret) -> Result<Authority, TlsError> {
    let key = authority_key(secret)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("probe mesh authority");
    params.serial_number = Some(SerialNumber::from(1_u64));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wide_dates(&mut params);
    let ca = params.self_signed(&key)?.der().clone();
    Ok(Authority { ca, issuer: Issuer::new(params, key) })
}

impl Authority {
    fn leaf(&self) -> Result<Leaf, TlsError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let mut params = CertificateParams::new(vec![MESH_NAME.to_owned()])?;
        params.distinguished_name = common_name("probe agent");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        wide_dates(&mut params);
        let leaf = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Leaf { chain: vec![leaf], key: pkcs8(&key) })
    }
}

/// HKDF-SHA256 of the secret is the seed of the CA's Ed25519 key.
fn authority_key(secret: &MeshSecret) -> Result<KeyPair, TlsError> {
    struct Seed;
    impl ring::hkdf::KeyType for Seed {
        fn len(&self) -> usize {
            32
        }
    }
    // RFC 8410: the fixed head of an Ed25519 private key in PKCS#8 version 1; the 32 bytes of the seed follow.
    let mut der =
        vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut seed = [0_u8; 32];
    ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"probe mesh secret")
        .extract(secret.expose())
        .expand(&[b"ed25519 authority key, version 1"], Seed)
        .and_then(|key| key.fill(&mut seed))
        .map_err(|_| TlsError::Setup("the mesh secret gives no key".to_owned()))?;
    der.extend_from_slice(&seed);
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &rcgen::PKCS_ED25519)?)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Fixed and wide, so that no agent's clock can break the mesh; a mesh ends by changing its secret.
fn wide_dates(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
}

fn pkcs8(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

fn roots_of(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// All certificates of a PEM file; at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let pem = |cause: String| TlsError::Pem { path: path.to_owned(), what: "certificate", cause };
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem(error.to_string()))?;
    if certificates.is_empty() {
        return Err(pem("no CERTIFICATE section".to_owned()));
    }
    Ok(certificates)
}

/// The first private key of a PEM file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| TlsError::Pem {
        path: path.to_owned(),
        what: "private key",
        cause: error.to_string(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> MeshSecret {
        MeshSecret::parse(&MeshSecret::generate_hex().unwrap()).unwrap()
    }

    #[test]
    fn one_secret_makes_the_same_authority_everywhere_and_another_secret_another() {
        let shared = secret();
        assert_eq!(authority(&shared).unwrap().ca, authority(&shared).unwrap().ca);
        assert_ne!(authority(&shared).unwrap().ca, authority(&secret()).unwrap().ca);
    }

    #[test]
    fn the_derivation_never_changes_silently() {
        // Agents of different releases must come to the same authority: this digest changes only with the protocol.
        let fixed =
            MeshSecret::parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff").unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &authority(&fixed).unwrap().ca);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "bc561b331ef01fac89d3abad4777d8beaffddad78569c524bdd6b8c0657b02a4");
    }

    #[test]
    fn every_leaf_has_a_key_of_its_own() {
        let authority = authority(&secret()).unwrap();
        assert_ne!(authority.leaf().unwrap().chain, authority.leaf().unwrap().chain);
    }

    #[test]
    fn a_missing_or_wrong_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let files = PemFiles { cert: path.clone(), key: path.clone(), ca: path.clone(), server_name: None };
        let missing = MeshTls::new(&Identity::Files(files.clone())).unwrap_err().to_string();
        assert!(missing.contains("ca.pem"), "{missing}");
        std::fs::write(&path, "not PEM").unwrap();
        let wrong = MeshTls::new(&Identity::Files(files)).unwrap_err().to_string();
        assert!(wrong.contains("ca.pem") && wrong.contains("certificate"), "{wrong}");
    }
}
