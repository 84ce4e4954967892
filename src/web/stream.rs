//! `GET /api/v1/stream`: the picture once, then what changes, as server-sent events.
//!
//! One task makes a delta a second for as long as anybody listens, and writes it once for all of them. Who does not keep up is
//! dropped, and may come back: with the id of what it got last it gets what it missed, or the whole picture where that is too long ago.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::{Question, Readiness, api, ask};
use crate::export::api::Picture;
use crate::export::api::delta::{Delta, Snapshot};

/// How many may listen at a time.
const LISTENERS_AT_MOST: usize = 256;
const EVERY: Duration = Duration::from_secs(1);
/// So often something is sent although there is no news, so that nobody on the way takes the line for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Who is so many deltas behind does not keep up.
const BEHIND_AT_MOST: usize = 16;
/// What may be missed: two minutes, and no more than this.
const KEPT: usize = 120;
const KEPT_BYTES: usize = 2 * 1024 * 1024;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where listeners come in.
#[derive(Clone)]
pub(super) struct Stream {
    joining: mpsc::Sender<Joining>,
    places: Arc<Semaphore>,
}

struct Joining {
    last: Option<String>,
    answer: oneshot::Sender<mpsc::Receiver<Bytes>>,
}

impl Stream {
    /// And the task that serves them, which ends when the agent drains.
    pub(super) fn start(asking: mpsc::Sender<Question>, readiness: watch::Receiver<Readiness>) -> Self {
        let (joining, joins) = mpsc::channel(16);
        tokio::spawn(Teller::new(asking).run(joins, readiness));
        Self { joining, places: Arc::new(Semaphore::new(LISTENERS_AT_MOST)) }
    }
}

pub(super) async fn listen(State(stream): State<Stream>, headers: HeaderMap) -> Response {
    let refused = |after: &'static str, why: &str| {
        let head = [(RETRY_AFTER, after), (CACHE_CONTROL, "no-store")];
        (StatusCode::SERVICE_UNAVAILABLE, head, api::refusal(why)).into_response()
    };
    let Ok(place) = Arc::clone(&stream.places).try_acquire_owned() else {
        return refused("10", "as many as may listen do so already");
    };
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (answer, answered) = oneshot::channel();
    let gone = || refused("5", "the agent is stopping");
    if stream.joining.send(Joining { last, answer }).await.is_err() {
        return gone();
    }
    let Ok(news) = answered.await else { return gone() };
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // Said to proxies that would wait for more to come.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (head, Body::new(Listening { news, _place: place })).into_response()
}

/// What one listener gets, until it is dropped or the agent stops.
struct Listening {
    news: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for Listening {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.news.poll_recv(context).map(|news| news.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The one that makes the deltas.
struct Teller {
    asking: mpsc::Sender<Question>,
    listeners: Vec<mpsc::Sender<Bytes>>,
    /// What the listeners know.
    told: Option<Arc<Picture>>,
    /// How many deltas there were.
    number: u64,
    /// The last of them, the newest last.
    lately: VecDeque<Bytes>,
    /// All that is known as of the last delta, once somebody wanted it.
    snapshot: Option<Bytes>,
}

impl Teller {
    fn new(asking: mpsc::Sender<Question>) -> Self {
        Self { asking, listeners: Vec::new(), told: None, number: 0, lately: VecDeque::new(), snapshot: None }
    }

    async fn run(mut self, mut joins: mpsc::Receiver<Joining>, mut readiness: watch::Receiver<Readiness>) {
        let mut look = interval(EVERY);
        let mut beat = interval(HEARTBEAT);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = readiness.changed() => {
                    if changed.is_err() || *readiness.borrow() == Readiness::Draining {
                        break;
                    }
                }
                joining = joins.recv() => match joining {
                    Some(joining) => if self.join(joining).await.is_none() { break },
                    None => break,
                },
                _ = look.tick(), if !self.listeners.is_empty() => if self.look().await.is_none() { break },
                _ = beat.tick(), if !self.listeners.is_empty() => self.tell(&Bytes::from_static(b": \n\n")),
            }
        }
    }

    /// Somebody listens from now on; `None` where the agent is stopping.
    async fn join(&mut self, joining: Joining) -> Option<()> {
        if self.listeners.is_empty() || self.told.is_none() {
            self.look().await?;
        }
        let missed = joining.last.as_deref().and_then(|last| self.missed(last));
        let first = match missed {
            Some(missed) => missed,
            None => self.whole().await?,
        };
        let (sender, news) = mpsc::channel(BEHIND_AT_MOST);
        if sender.try_send(first).is_ok() && joining.answer.send(news).is_ok() {
            self.listeners.push(sender);
        }
        Some(())
    }

    /// All deltas after the one of this id; `None` where they are not all known.
    fn missed(&self, last: &str) -> Option<Bytes> {
        let (life, number) = last.rsplit_once('-')?;
        let behind = self.number.checked_sub(number.parse().ok()?)?;
        let behind = usize::try_from(behind).ok().filter(|behind| *behind <= self.lately.len())?;
        if self.told.as_ref()?.life != life {
            return None;
        }
        let mut all = Vec::from(&b"retry: 2000\n\n"[..]);
        self.lately.iter().skip(self.lately.len() - behind).for_each(|delta| all.extend_from_slice(delta));
        Some(all.into())
    }

    /// Everything as of the last delta.
    async fn whole(&mut self) -> Option<Bytes> {
        if self.snapshot.is_none() {
            let picture = Arc::clone(self.told.as_ref()?);
            let id = self.id(&picture);
            let text = written(id, "snapshot", move || Snapshot::of(&picture)).await?;
            self.snapshot = Some(text);
        }
        self.snapshot.clone()
    }

    fn id(&self, picture: &Picture) -> String {
        format!("{}-{}", picture.life, self.number)
    }

    /// Tells what has changed; `None` where the agent is stopping.
    async fn look(&mut self) -> Option<()> {
        self.listeners.retain(|listener| !listener.is_closed());
        let now = ask(&self.asking, Question::Picture).await?;
        let Some(before) = self.told.replace(Arc::clone(&now)) else {
            return Some(());
        };
        if !Delta::suffices(&before, &now) {
            // Nobody can make one of the other.
            self.number += 1;
            self.lately.clear();
            self.snapshot = None;
            let whole = self.whole().await?;
            self.tell(&whole);
            return Some(());
        }
        let seen = Arc::clone(&now);
        let made = tokio::task::spawn_blocking(move || Delta::between(&before, &seen));
        let Some(delta) = made.await.ok()? else { return Some(()) };
        self.number += 1;
        self.snapshot = None;
        let text = written(self.id(&now), "delta", move || delta).await?;
        self.lately.push_back(text.clone());
        while self.lately.len() > KEPT || self.lately.iter().map(Bytes::len).sum::<usize>() > KEPT_BYTES {
            self.lately.pop_front();
        }
        self.tell(&text);
        Some(())
    }

    /// Who is too far behind is let go, and keeps what it was told already.
    fn tell(&mut self, text: &Bytes) {
        self.listeners.retain(|listener| listener.try_send(text.clone()).is_ok());
    }
}

/// One server-sent event. JSON of one line has no line breaks.
async fn written<D: Serialize>(
    id: String,
    event: &'static str,
    document: impl FnOnce() -> D + Send + 'static,
) -> Option<Bytes> {
    let made = tokio::task::spawn_blocking(move || {
        let mut text = format!("retry: 2000\nevent: {event}\nid: {id}\ndata: ").into_bytes();
        serde_json::to_writer(&mut text, &document())?;
        text.extend_from_slice(b"\n\n");
        Ok::<_, serde_json::Error>(Bytes::from(text))
    });
    match made.await {
        Ok(Ok(text)) => Some(text),
        Ok(Err(error)) => {
            tracing::error!(%error, "a stream's event cannot be written: this is a fault to report");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_keep_up_is_dropped_and_the_others_hear_everything() {
        let mut teller = Teller::new(mpsc::channel(1).0);
        let ((slow, mut slow_news), (quick, mut quick_news)) =
            (mpsc::channel(BEHIND_AT_MOST), mpsc::channel(BEHIND_AT_MOST));
        teller.listeners = vec![slow, quick];
        for number in 0..=BEHIND_AT_MOST {
            assert_eq!(teller.listeners.len(), 2, "after {number}");
            teller.tell(&Bytes::from(number.to_string()));
            assert_eq!(quick_news.try_recv().unwrap(), number.to_string());
        }
        assert_eq!(teller.listeners.len(), 1);
        let heard: Vec<_> = std::iter::from_fn(|| slow_news.try_recv().ok()).collect();
        assert_eq!(heard.len(), BEHIND_AT_MOST, "what it was told already");
        assert!(slow_news.is_closed(), "and then its stream ends");
    }

    #[test]
    fn what_was_missed_is_known_for_a_while_and_of_this_life_alone() {
        let mut teller = Teller::new(mpsc::channel(1).0);
        let picture = |life: &str| {
            let matrix = serde_json::json!({
                "schema_version": 1, "version": "1", "generated_at": "x", "quantile": 0.95,
                "coder_warns_at_us": 15000.0,
                "vantage": { "agent": "a", "node": null, "zone": null, "region": null },
                "verdict": { "state": "ok", "since": null, "words": "x" },
                "agents": [], "targets": [], "cells": [], "zone_pairs": [],
            });
            let matrix = serde_json::from_value(matrix).unwrap();
            let (placed, findings, events) = (Vec::new(), Vec::new(), Vec::new());
            Arc::new(Picture { number: 1, life: life.to_owned(), matrix, placed, findings, events })
        };
        assert_eq!(teller.missed("x-0"), None, "nothing is known yet");
        teller.told = Some(picture("x"));
        teller.number = 7;
        teller.lately = [5, 6, 7].map(|number: u8| Bytes::from(format!("<{number}>"))).into();
        let missed = |last: &str| teller.missed(last).map(|text| String::from_utf8(text.to_vec()).unwrap());
        assert!(missed("x-4").unwrap().ends_with("<5><6><7>"));
        assert!(missed("x-6").unwrap().ends_with("\n\n<7>"));
        assert!(!missed("x-7").unwrap().contains('<'), "nothing was missed");
        for last in ["x-3", "x-8", "y-6", "x", "", "x-", "x--1"] {
            assert_eq!(missed(last), None, "{last}");
        }
    }
}
