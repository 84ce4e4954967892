//! The heart: an agent that answers echoes until it is told to stop.
//!
//! Today it is a reflector with health endpoints; the continuous mesh grows on the same measuring thread.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::web;

pub mod measuring;

use measuring::{Measuring, MeasuringError};

/// How an agent is set up.
#[derive(Debug)]
pub struct Settings {
    /// Identity and reflector address.
    pub measuring: measuring::Settings,
    /// Where HTTP is served.
    pub web: SocketAddr,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The measuring thread.
    #[error(transparent)]
    Measuring(#[from] MeasuringError),
    /// The HTTP socket.
    #[error("cannot listen on TCP {address}: {source}")]
    Web {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs until `stop` is done, then drains: not ready any more, goodbye to the peers, sockets closed.
pub async fn run(settings: Settings, stop: impl Future<Output = ()>) -> Result<(), AgentError> {
    let address = settings.web;
    let failed = |source| AgentError::Web { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let web_address = listener.local_addr().map_err(failed)?;
    let (readiness, ready) = watch::channel(web::Readiness::Starting);
    let server = tokio::spawn(web::serve(listener, ready));
    let measuring = Measuring::start(settings.measuring).await?;
    if let Some(listening) = measuring.listening() {
        tracing::info!(reflector = %listening, web = %web_address, version = env!("CARGO_PKG_VERSION"), "probe agent is ready");
    }
    readiness.send_replace(web::Readiness::Ready);

    stop.await;

    readiness.send_replace(web::Readiness::Draining);
    let seen = measuring.reflected();
    measuring.stop().await;
    tracing::info!(
        replied = seen.replied,
        accepted = seen.accepted,
        rejected = seen.rejected,
        refused = seen.refused,
        malformed = seen.malformed,
        "probe agent has stopped"
    );
    // The web server answers «draining» for as long as there is something to drain, and no longer.
    drop(readiness);
    if tokio::time::timeout(Duration::from_secs(1), server).await.is_err() {
        tracing::debug!("an HTTP client kept its connection open until the end");
    }
    Ok(())
}
