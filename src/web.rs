//! The web door: health for whoever starts and watches this process, and how its links stand. Read-only; nothing in a
//! request makes it probe.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::export::standing::{self, OwnTiming};
use crate::mesh::standing::Standing;

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

/// A question how the links stand, with the way back for the answer.
pub type Question = oneshot::Sender<(Standing, OwnTiming)>;

/// Serves until the sender of `readiness` is gone.
///
/// `/healthz`: 200 as long as the process lives, whatever the network does. `/readyz`: 200 while it answers echoes,
/// else 503 with the reason. `/api/v1/report`: how all links stand, as JSON.
pub async fn serve(
    listener: TcpListener,
    readiness: watch::Receiver<Readiness>,
    asking: mpsc::Sender<Question>,
) {
    let mut until = readiness.clone();
    let gone = async move { while until.changed().await.is_ok() {} };
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
        .route("/api/v1/report", get(report))
        .with_state(asking);
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

async fn report(State(asking): State<mpsc::Sender<Question>>) -> Response {
    let gone = || (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping\n").into_response();
    let (answer, answered) = oneshot::channel();
    if asking.send(answer).await.is_err() {
        return gone();
    }
    let Ok((standing, own_timing)) = answered.await else { return gone() };
    match standing::render(&standing, own_timing) {
        Ok(json) => ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
