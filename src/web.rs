//! The web door: health for whoever starts and watches this process. Read-only; nothing in a request makes it probe.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Where the agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Sockets are being bound.
    Starting,
    /// It answers echoes.
    Ready,
    /// It was told to stop.
    Draining,
}

/// Serves until the sender of `readiness` is gone.
///
/// `/healthz`: 200 as long as the process lives, whatever the network does. `/readyz`: 200 while it answers echoes,
/// else 503 with the reason.
pub async fn serve(listener: TcpListener, readiness: watch::Receiver<Readiness>) {
    let mut until = readiness.clone();
    let gone = async move { while until.changed().await.is_ok() {} };
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness);
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(gone).await {
        tracing::error!(%error, "the web server ended");
    }
}

async fn readyz(State(readiness): State<watch::Receiver<Readiness>>) -> (StatusCode, &'static str) {
    match *readiness.borrow() {
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::Ready => (StatusCode::OK, "ready\n"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}
