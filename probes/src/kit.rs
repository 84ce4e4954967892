//! One probe per target, with its connection kept warm.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use crate::http::{HttpProbe, HttpUrl, RelayProbe};
use crate::nats::NatsProbe;
use crate::postgres::PostgresProbe;
use crate::quic::{PeerProbe, Sender};
use crate::sample::{Reopened, Sample};
use crate::target::Target;
use crate::tcp::TcpProbe;
use crate::tls::{TlsError, Trust, client_config};
use crate::{Failure, Order, Probe, Reason};

/// What the probes of all targets have in common.
#[derive(Debug, Default)]
pub struct Means {
    sender: Option<Sender>,
    http_sni: Option<String>,
    http_ca: Option<std::path::PathBuf>,
    /// Reading the roots takes a while, and each copy its room.
    believed: OnceLock<Arc<ClientConfig>>,
    believed_by_system: OnceLock<Arc<ClientConfig>>,
}

impl Means {
    /// `sender` is needed for peers only; `http_sni` replaces the host of every `https://` target in its TLS handshake,
    /// and `http_ca` is the PEM file of their authorities, without which it is the system's. Both are not for proxies.
    pub fn new(
        sender: Option<Sender>,
        http_sni: Option<String>,
        http_ca: Option<std::path::PathBuf>,
    ) -> Self {
        Self { sender, http_sni, http_ca, ..Self::default() }
    }

    /// What sends echoes.
    pub fn sender(&self) -> Option<&Sender> {
        self.sender.as_ref()
    }

    fn http(&self, url: HttpUrl) -> Result<HttpProbe, TlsError> {
        let tls = config(&url, &self.believed, self.http_ca.as_deref())?;
        Ok(HttpProbe::new(url, self.http_sni.clone(), tls))
    }

    fn proxy(&self, url: HttpUrl) -> Result<HttpProbe, TlsError> {
        let tls = config(&url, &self.believed_by_system, None)?;
        Ok(HttpProbe::new(url, None, tls))
    }
}

fn config(
    url: &HttpUrl,
    known: &OnceLock<Arc<ClientConfig>>,
    ca: Option<&std::path::Path>,
) -> Result<Arc<ClientConfig>, TlsError> {
    if !url.is_tls() {
        return client_config(Trust::Nothing, None, None).map(Arc::new);
    }
    if let Some(config) = known.get() {
        return Ok(Arc::clone(config));
    }
    let config = Arc::new(client_config(Trust::ChainAndName, ca, None)?);
    Ok(Arc::clone(known.get_or_init(|| config)))
}

/// Why a target cannot be measured at all; all of these are faults of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A peer without the means to reach it.
    #[error("peers need a mesh secret: give --mesh-secret-file, or make one with `probe secret new`")]
    NoSender,
    /// Certificates or keys that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The probe of one target.
pub enum Kit {
    /// Echo over QUIC.
    Peer(PeerProbe),
    /// The timed query.
    Postgres(PostgresProbe),
    /// A bare connect.
    Tcp(TcpProbe),
    /// A GET.
    Http(HttpProbe),
    /// A GET on a kept connection.
    Relay(RelayProbe),
    /// A connect and a greeting.
    Nats(NatsProbe),
    /// Something that this machine cannot measure, and why.
    Broken(Failure),
}

impl Kit {
    /// Lays out what is needed for `target`; nothing is sent yet.
    pub fn new(target: Target, means: &Means) -> Result<Self, KitError> {
        Ok(match target {
            Target::Peer(address) => {
                Self::Peer(means.sender.as_ref().ok_or(KitError::NoSender)?.peer(address))
            }
            Target::Postgres(conninfo) => Self::Postgres(PostgresProbe::new(*conninfo)?),
            Target::Tcp(address) => Self::Tcp(TcpProbe::new(address)),
            Target::Http(url) => Self::Http(means.http(url)?),
            // Nobody has asked for these by name, so what cannot be had for them must not keep others from being measured.
            Target::Health(url) => Self::or_broken(means.http(url).map(Self::Http)),
            Target::Proxy(url) => Self::or_broken(means.proxy(url).map(Self::Http)),
            Target::Relay(url) => {
                Self::or_broken(means.http(url).map(|http| Self::Relay(RelayProbe::new(http))))
            }
            Target::Nats(address) => Self::Nats(NatsProbe::new(address)),
        })
    }
}

impl Kit {
    fn or_broken(kit: Result<Self, TlsError>) -> Self {
        kit.unwrap_or_else(|error| Self::Broken(Failure::new(Reason::Local, error)))
    }

    /// Sends a letter to a peer; whether it was taken over. Other targets read none.
    pub async fn write(&self, text: &[u8]) -> bool {
        match self {
            Self::Peer(probe) => probe.write(text).await,
            _ => false,
        }
    }

    /// Connections that were opened in the background since this was asked last, oldest first. Those who open one for each
    /// sample have none.
    pub fn reopened(&self) -> Vec<Reopened> {
        match self {
            Self::Peer(probe) => probe.reopened(),
            Self::Postgres(probe) => probe.reopened(),
            _ => Vec::new(),
        }
    }
}

impl Probe for Kit {
    async fn sample(&self, order: Order) -> Sample {
        match self {
            Self::Peer(probe) => probe.sample(order).await,
            Self::Postgres(probe) => probe.sample(order).await,
            Self::Tcp(probe) => probe.sample(order).await,
            Self::Http(probe) => probe.sample(order).await,
            Self::Relay(probe) => probe.sample(order).await,
            Self::Nats(probe) => probe.sample(order).await,
            Self::Broken(failure) => failure.clone().into(),
        }
    }
}
