//! The web door: health for whoever starts and watches this process, how its links and the whole mesh stand, and what changes.
//! Read-only; nothing in a request makes it probe.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::export::api::config::Setting;
use crate::export::api::{Picture, path};
use crate::export::metrics::Metrics;
use crate::export::prometheus::{self, Format};
use crate::export::standing::{self, OwnTiming};
use crate::mesh::standing::Standing;

mod access;
mod api;
mod line;
mod page;
mod query;
mod stream;

pub use access::{Access, AccessError, Settings};

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

/// A question to the agent, with the way back for the answer.
#[derive(Debug)]
pub enum Question {
    /// How the links stand.
    Standing(oneshot::Sender<(Standing, OwnTiming)>),
    /// All figures; they may be as old as a second, so that nobody who asks often costs much.
    Metrics(oneshot::Sender<Arc<Metrics>>),
    /// The whole mesh, likewise.
    Picture(oneshot::Sender<Arc<Picture>>),
    /// One of its own links in depth; `None` where there is no such link any more.
    Link {
        /// As the agent calls it.
        target: String,
        /// How it is measured.
        kind: String,
        /// How far back.
        span: path::Span,
        /// The way back.
        answer: oneshot::Sender<Option<path::Own>>,
    },
    /// Which settings are in force.
    Config(oneshot::Sender<Vec<Setting>>),
}

/// How somebody who is not a client of HTTP asks for all figures; `None` where nobody answers any more.
pub fn figures(
    asking: mpsc::Sender<Question>,
) -> impl Fn() -> Pin<Box<dyn Future<Output = Option<Arc<Metrics>>> + Send>> + Send + Sync {
    move || {
        let asking = asking.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            asking.send(Question::Metrics(answer)).await.ok()?;
            answered.await.ok()
        })
    }
}

/// A socket at this address; an unspecified IPv6 address is IPv4's where the system has no IPv6, as the reflector's is.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && !is_about_the_port(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Then another family would not do either, or would hide what is wrong.
fn is_about_the_port(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied)
}

/// Serves until the sender of `readiness` is gone.
///
/// `/healthz`: 200 as long as the process lives, whatever the network does. `/readyz`: 200 while it answers echoes,
/// else 503 with the reason. `/metrics`: all figures for Prometheus, as text or as OpenMetrics, in gzip for who takes it.
/// `/api/v1/…`: documents, described by `/api/v1/openapi.json`. `/`: the page that shows them. All but the first two are for who knows the token, where there is one.
pub async fn serve(
    listener: TcpListener,
    access: Access,
    readiness: watch::Receiver<Readiness>,
    asking: mpsc::Sender<Question>,
) {
    let mut until = readiness.clone();
    let gone = async move { while until.changed().await.is_ok() {} };
    let (guard, door) = (access.guard(), line::Door { listener, tls: access.tls() });
    let guarded = Router::new()
        .route("/api/v1/report", get(report))
        .route("/metrics", get(metrics))
        .with_state(asking.clone())
        .route("/api/v1/stream", get(stream::listen))
        .with_state(stream::Stream::start(asking.clone(), readiness.clone()))
        .route("/api/v1/matrix", get(api::matrix))
        .route("/api/v1/paths", get(api::paths))
        .route("/api/v1/path", get(api::path))
        .route("/api/v1/placement", get(api::placement))
        .route("/api/v1/findings", get(api::findings))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/config", get(api::config))
        .with_state(api::Api::new(asking))
        .route("/api/v1/openapi.json", get(api::openapi))
        .merge(page::routes())
        .fallback(api::unknown)
        .layer(from_fn_with_state(guard, access::check));
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
        .merge(guarded);
    tokio::select! {
        served = axum::serve(door, routes).with_graceful_shutdown(gone) => {
            if let Err(error) = served {
                tracing::error!(%error, "the web server ended");
            }
        }
        () = access.follow() => {}
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
    let Some((standing, own_timing)) = ask(&asking, Question::Standing).await else { return gone() };
    match standing::render(&standing, own_timing) {
        Ok(json) => ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn metrics(State(asking): State<mpsc::Sender<Question>>, headers: HeaderMap) -> Response {
    let header =
        |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::wanted(header(ACCEPT));
    let zipped = takes_gzip(header(ACCEPT_ENCODING));
    let Some(metrics) = ask(&asking, Question::Metrics).await else { return gone() };
    // Milliseconds of work with many targets, which must not keep other tasks waiting.
    let made = tokio::task::spawn_blocking(move || {
        let page = prometheus::render(&metrics, format);
        if zipped { gzip(page.as_bytes()).map(Bytes::from) } else { Ok(Bytes::from(page)) }
    });
    let head = [
        (CONTENT_TYPE, format.content_type()),
        (CACHE_CONTROL, "no-store"),
        (VARY, "accept, accept-encoding"),
    ];
    match made.await {
        Ok(Ok(page)) if zipped => (head, [(CONTENT_ENCODING, "gzip")], page).into_response(),
        Ok(Ok(page)) => (head, page).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The agent's answer; `None` where it is stopping.
async fn ask<A>(
    asking: &mpsc::Sender<Question>,
    question: impl FnOnce(oneshot::Sender<A>) -> Question,
) -> Option<A> {
    let (answer, answered) = oneshot::channel();
    asking.send(question(answer)).await.ok()?;
    answered.await.ok()
}

fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping\n").into_response()
}

/// Whether this `Accept-Encoding` allows gzip.
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        let named = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"));
        let refused =
            parts.any(|part| part.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f64)));
        named && !refused
    })
}

fn gzip(page: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8), Compression::fast());
    encoder.write_all(page)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_who_takes_it() {
        for (accepted, takes) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("GZIP", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(accepted), takes, "{accepted}");
        }
    }
}
