//! One probe per target, with its connection kept warm.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::http::{HttpProbe, HttpUrl, RelayProbe};
use crate::nats::NatsProbe;
use crate::postgres::PostgresProbe;
use crate::quic::{PeerProbe, Sender};
use crate::sample::{Reopened, Sample};
use crate::target::Target;
use crate::tcp::TcpProbe;
use crate::tls::{TlsError, Trust, client_config};
use crate::{Order, Probe};

/// What the probes of all targets have in common.
#[derive(Debug, Default)]
pub struct Means {
    /// Needed for peers only.
    pub sender: Option<Sender>,
    /// Replaces the host of every `https://` target in its TLS handshake.
    pub http_sni: Option<String>,
    /// PEM file of the authorities for `https://` targets; without it, the system's.
    pub http_ca: Option<std::path::PathBuf>,
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
            Target::Http(url) => Self::Http(http(url, means)?),
            Target::Relay(url) => Self::Relay(RelayProbe::new(http(url, means)?)),
            Target::Nats(address) => Self::Nats(NatsProbe::new(address)),
        })
    }
}

impl Kit {
    /// Sends a letter to a peer; whether it was taken over. Other targets read none.
    pub async fn write(&self, text: &[u8]) -> bool {
        match self {
            Self::Peer(probe) => probe.write(text).await,
            Self::Postgres(_) | Self::Tcp(_) | Self::Http(_) | Self::Relay(_) | Self::Nats(_) => false,
        }
    }

    /// Connections that were opened in the background since this was asked last, oldest first. Those who open one for each
    /// sample have none.
    pub fn reopened(&self) -> Vec<Reopened> {
        match self {
            Self::Peer(probe) => probe.reopened(),
            Self::Postgres(probe) => probe.reopened(),
            Self::Tcp(_) | Self::Http(_) | Self::Relay(_) | Self::Nats(_) => Vec::new(),
        }
    }
}

fn http(url: HttpUrl, means: &Means) -> Result<HttpProbe, KitError> {
    let tls: ClientConfig = if url.is_tls() {
        client_config(Trust::ChainAndName, means.http_ca.as_deref(), None)?
    } else {
        client_config(Trust::Nothing, None, None)?
    };
    Ok(HttpProbe::new(url, means.http_sni.clone(), Arc::new(tls)))
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
        }
    }
}
