//! libpq's view of TLS: which certificates are believed at which `sslmode`, and how long the handshake took.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use tokio_postgres::tls::TlsConnect;

use super::conninfo::{Conninfo, Host, HostName, RootCert, SslMode, SslNegotiation};
use crate::stopwatch::Stopwatch;
use crate::tls::{TlsError, Trust, client_config};

/// Which certificates are believed; `None` when nothing will ever be encrypted.
pub(super) fn tls_of(conninfo: &Conninfo) -> Result<Option<ClientConfig>, TlsError> {
    let home_root = || in_home(".postgresql/root.crt").filter(|path| path.exists());
    let roots: Option<PathBuf> = match &conninfo.sslrootcert {
        Some(RootCert::File(path)) => Some(path.clone()),
        Some(RootCert::System) => None,
        // libpq fails without its default file; lib/pq, which coderd uses, takes the system's. So do we.
        None => home_root(),
    };
    let trust = match conninfo.sslmode {
        SslMode::Disable => return Ok(None),
        SslMode::Allow | SslMode::Prefer => Trust::Nothing,
        // libpq: a root file turns `require` into `verify-ca`.
        SslMode::Require if roots.is_some() => Trust::Chain,
        SslMode::Require => Trust::Nothing,
        SslMode::VerifyCa => Trust::Chain,
        SslMode::VerifyFull => Trust::ChainAndName,
    };
    let cert = conninfo.sslcert.clone().or_else(|| in_home(".postgresql/postgresql.crt"));
    let key = conninfo.sslkey.clone().or_else(|| in_home(".postgresql/postgresql.key"));
    let given = conninfo.sslcert.is_some() || conninfo.sslkey.is_some();
    let client_auth = match (&cert, &key) {
        (Some(cert), Some(key)) if given || (cert.exists() && key.exists()) => {
            Some((cert.as_path(), key.as_path()))
        }
        _ => None,
    };
    let mut config = client_config(trust, roots.as_deref(), client_auth)?;
    config.enable_sni = conninfo.sslsni;
    if conninfo.sslnegotiation == SslNegotiation::Direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(Some(config))
}

/// A file in the user's home directory, where libpq looks by default.
pub(super) fn in_home(file: &str) -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| Path::new(&home).join(file))
}

/// The name that the certificate must carry.
pub(super) fn tls_name(host: &Host) -> &str {
    match &host.host {
        HostName::Tcp(name) => name,
        HostName::Unix(_) => "localhost",
    }
}

/// Notes when the TLS handshake was done; unset when the server offered none.
pub(super) struct Timed<T> {
    pub(super) inner: T,
    pub(super) since: Stopwatch,
    pub(super) done: Arc<OnceLock<Duration>>,
}

impl<S, T> TlsConnect<S> for Timed<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = T::Stream;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<T::Stream, T::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let handshake = self.inner.connect(stream);
        let (since, done) = (self.since, self.done);
        Box::pin(async move {
            let stream = handshake.await?;
            // Set once: this connector is used for one handshake.
            let _ = done.set(since.elapsed());
            Ok(stream)
        })
    }
}
