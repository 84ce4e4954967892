//! Who the sender says that it is to those whom it dials. It may become another one; connections that stand do not notice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectError, Connecting, Endpoint};

use super::{KEEP_ALIVE, transport};
use crate::tls::{MeshTls, TlsError};

/// Shared by all clones.
#[derive(Debug, Clone)]
pub(super) struct Outgoing(Arc<Mutex<Client>>);

#[derive(Debug, Clone)]
struct Client {
    config: quinn::ClientConfig,
    /// The name to ask for, where it is not the dialled host.
    server_name: Option<String>,
}

impl Outgoing {
    pub(super) fn new(tls: &MeshTls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Mutex::new(client(tls)?))))
    }

    /// From the next connection on.
    pub(super) fn renew(&self, tls: &MeshTls) -> Result<(), TlsError> {
        let client = client(tls)?;
        // No invariant spans a panic here: the value is replaced or copied as a whole.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Begins a handshake with who is at this address and was dialled as this host.
    pub(super) fn connect(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
        host: &str,
    ) -> Result<Connecting, ConnectError> {
        let Client { config, server_name } = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        endpoint.connect_with(config, address, server_name.as_deref().unwrap_or(host))
    }
}

fn client(tls: &MeshTls) -> Result<Client, TlsError> {
    let crypto = QuicClientConfig::try_from(Arc::clone(&tls.client))
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = transport();
    // `transport` was made just now, so nobody else holds it.
    if let Some(transport) = Arc::get_mut(&mut transport) {
        transport.keep_alive_interval(Some(KEEP_ALIVE));
    }
    config.transport_config(transport);
    Ok(Client { config, server_name: tls.server_name.clone() })
}
