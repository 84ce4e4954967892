//! `/api/v1/…`: the same picture from different sides, each side written once however many ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use probes::target::Kind;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc};

use super::query::Query;
use super::{Question, ask, gzip, takes_gzip};
use crate::export::api::events::{Event, KEPT};
use crate::export::api::matrix::Paths;
use crate::export::api::path::Span;
use crate::export::api::{Picture, Refusal, SCHEMA_VERSION, config, events, findings, placement};
use crate::mesh::state::State as PathState;

/// So many sides of one picture are kept; who asks for more gets them made anew.
const SIDES_AT_MOST: usize = 64;
/// Below this, packing costs more than it saves.
const WORTH_PACKING: usize = 1024;
const EVENTS_UNLESS_SAID: usize = 100;
const OPENAPI: &str = include_str!("openapi.json");

/// Who answers, and what was answered about the newest picture.
#[derive(Clone)]
pub(super) struct Api {
    asking: mpsc::Sender<Question>,
    written: Arc<Mutex<Written>>,
}

#[derive(Default)]
struct Written {
    /// The picture that all of it is about.
    of: u64,
    sides: BTreeMap<String, Page>,
}

/// A document as it goes over the line.
#[derive(Clone)]
struct Page {
    plain: Bytes,
    packed: Option<Bytes>,
}

/// Why there is no document.
pub(super) enum Fault {
    Bad(String),
    Unknown(String),
    Gone,
    Broken(String),
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Bad(error) => (StatusCode::BAD_REQUEST, error),
            Self::Unknown(error) => (StatusCode::NOT_FOUND, error),
            Self::Gone => (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping".to_owned()),
            Self::Broken(error) => (StatusCode::INTERNAL_SERVER_ERROR, error),
        };
        (status, [(CACHE_CONTROL, "no-store")], refusal(error)).into_response()
    }
}

/// Why there is no answer, in words.
pub(super) fn refusal(error: impl Into<String>) -> impl IntoResponse {
    let text = serde_json::to_string(&Refusal { error: error.into() }).unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], text)
}

pub(super) type Answer = Result<Response, Fault>;

impl Api {
    pub(super) fn new(asking: mpsc::Sender<Question>) -> Self {
        Self { asking, written: Arc::default() }
    }

    async fn picture(&self) -> Result<Arc<Picture>, Fault> {
        ask(&self.asking, Question::Picture).await.ok_or(Fault::Gone)
    }

    /// This side of the newest picture: as it was written already, or as `make` makes it.
    async fn side<D, F>(
        &self,
        headers: &HeaderMap,
        name: String,
        make: impl FnOnce(Arc<Picture>) -> F,
    ) -> Answer
    where
        D: Serialize + Send + 'static,
        F: Future<Output = Result<D, Fault>>,
    {
        let picture = self.picture().await?;
        // Held until it is written: the others who want the same wait for it instead of making it as well.
        let mut written = self.written.lock().await;
        if written.of < picture.number {
            *written = Written { of: picture.number, sides: BTreeMap::new() };
        }
        let is_newest = written.of == picture.number;
        if let Some(page) = written.sides.get(&name).filter(|_| is_newest) {
            return Ok(page.clone().answer(headers));
        }
        let page = write(make(picture).await?).await?;
        if is_newest && written.sides.len() < SIDES_AT_MOST {
            written.sides.insert(name, page.clone());
        }
        Ok(page.answer(headers))
    }
}

/// Milliseconds of work for a big mesh, which must not keep other tasks waiting.
async fn write<D: Serialize + Send + 'static>(document: D) -> Result<Page, Fault> {
    let made = tokio::task::spawn_blocking(move || {
        let plain = serde_json::to_vec(&document)?;
        let packed = (plain.len() >= WORTH_PACKING).then(|| gzip(&plain).map(Bytes::from)).transpose();
        Ok::<_, serde_json::Error>(Page {
            packed: packed.map_err(serde_json::Error::io)?,
            plain: plain.into(),
        })
    });
    match made.await {
        Ok(Ok(page)) => Ok(page),
        Ok(Err(error)) => Err(Fault::Broken(error.to_string())),
        Err(error) => Err(Fault::Broken(error.to_string())),
    }
}

impl Page {
    fn answer(self, headers: &HeaderMap) -> Response {
        let head =
            [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (VARY, "accept-encoding")];
        let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match self.packed.filter(|_| takes_gzip(accepted)) {
            Some(packed) => (head, [(CONTENT_ENCODING, "gzip")], packed).into_response(),
            None => (head, self.plain).into_response(),
        }
    }
}

fn read(query: Option<&str>, known: &[&'static str]) -> Result<Query, Fault> {
    Query::parse(query, known).map_err(Fault::Bad)
}

pub(super) async fn matrix(State(api): State<Api>, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    read(query.as_deref(), &[])?;
    api.side(&headers, "matrix".to_owned(), |picture| async move { Ok(picture.matrix.clone()) }).await
}

pub(super) async fn paths(State(api): State<Api>, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    let query = read(query.as_deref(), &["source", "target", "kind", "state"])?;
    query.word("kind", &Kind::ALL.map(Kind::as_str)).map_err(Fault::Bad)?;
    query.word("state", &PathState::ALL.map(PathState::as_str)).map_err(Fault::Bad)?;
    let name = format!("paths {}", query.canonical());
    api.side(&headers, name, |picture| async move {
        let is = |name: &str, word: &str| query.get(name).is_none_or(|wanted| wanted == word);
        let paths = picture.matrix.cells.iter().filter(|cell| {
            is("source", &cell.source)
                && is("target", &cell.target)
                && is("kind", &cell.kind)
                && is("state", cell.state.as_str())
        });
        Ok(Paths {
            schema_version: SCHEMA_VERSION,
            generated_at: picture.matrix.generated_at.clone(),
            paths: paths.cloned().collect(),
        })
    })
    .await
}

pub(super) async fn path(State(api): State<Api>, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    let query = read(query.as_deref(), &["source", "target", "kind", "span"])?;
    let span = query.word("span", &["6h", "48h"]).map_err(Fault::Bad)?;
    let span = span.and_then(Span::of).unwrap_or_default();
    query.word("kind", &Kind::ALL.map(Kind::as_str)).map_err(Fault::Bad)?;
    for name in ["source", "target", "kind"] {
        query.need(name).map_err(Fault::Bad)?;
    }
    let name = format!("path {}", query.canonical());
    let asking = api.asking.clone();
    api.side(&headers, name, |picture| async move {
        let word = |name| query.get(name).unwrap_or_default();
        let (source, kind, target) = (word("source"), word("kind"), word("target"));
        let cell = picture.cell(source, kind, target);
        let cell =
            cell.ok_or_else(|| Fault::Unknown(format!("nobody measures {source} → {target} by {kind}")))?;
        let own = if cell.source == picture.matrix.vantage.agent {
            let (target, kind) = (cell.called.clone(), cell.kind.clone());
            ask(&asking, |answer| Question::Link { target, kind, span, answer }).await.ok_or(Fault::Gone)?
        } else {
            None
        };
        Ok(picture.path(cell, own))
    })
    .await
}

pub(super) async fn placement(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    read(query.as_deref(), &[])?;
    api.side(&headers, "placement".to_owned(), |picture| async move {
        Ok(placement::Document {
            schema_version: SCHEMA_VERSION,
            generated_at: picture.matrix.generated_at.clone(),
            placed: picture.placed.clone(),
            findings: picture.findings.clone(),
        })
    })
    .await
}

pub(super) async fn findings(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    read(query.as_deref(), &[])?;
    api.side(&headers, "findings".to_owned(), |picture| async move {
        Ok(findings::Document {
            schema_version: SCHEMA_VERSION,
            generated_at: picture.matrix.generated_at.clone(),
            findings: picture.findings.clone(),
        })
    })
    .await
}

pub(super) async fn events(State(api): State<Api>, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    let query = read(query.as_deref(), &["limit"])?;
    let limit = match query.get("limit") {
        None => EVENTS_UNLESS_SAID,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=KEPT).contains(limit))
            .ok_or_else(|| Fault::Bad(format!("limit: it is not a number from 1 to {KEPT}")))?,
    };
    api.side(&headers, format!("events {limit}"), |picture| async move {
        Ok(events::Document {
            schema_version: SCHEMA_VERSION,
            generated_at: picture.matrix.generated_at.clone(),
            events: picture.events.iter().take(limit).map(|event| Event::of(event)).collect(),
        })
    })
    .await
}

pub(super) async fn config(State(api): State<Api>, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    read(query.as_deref(), &[])?;
    let settings = ask(&api.asking, Question::Config).await.ok_or(Fault::Gone)?;
    Ok(write(config::Document { schema_version: SCHEMA_VERSION, settings }).await?.answer(&headers))
}

pub(super) async fn openapi(headers: HeaderMap) -> Response {
    // It is a file of this program: packed anew it is for each who asks, who are few.
    let packed = gzip(OPENAPI.as_bytes()).ok().map(Bytes::from);
    Page { plain: Bytes::from_static(OPENAPI.as_bytes()), packed }.answer(&headers)
}

/// What is not there.
pub(super) async fn unknown() -> Response {
    nothing()
}

/// The same at once.
pub(super) fn nothing() -> Response {
    Fault::Unknown("there is nothing here; /api/v1/openapi.json says what there is".to_owned())
        .into_response()
}
