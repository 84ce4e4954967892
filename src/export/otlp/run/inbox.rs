//! Events that nobody has looked at yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::export::events::Event;
use crate::export::otlp::tallies::Counts;

#[derive(Debug)]
pub(super) struct Inbox {
    events: Mutex<VecDeque<Event>>,
    limit: usize,
    counts: Arc<Counts>,
    news: Notify,
}

impl Inbox {
    pub(super) fn new(limit: usize, counts: Arc<Counts>) -> Self {
        Self { events: Mutex::default(), limit: limit.max(1), counts, news: Notify::new() }
    }

    /// The lock is held for a push or a swap only.
    pub(super) fn put(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= self.limit {
            events.pop_front();
            self.counts.pushed_out_of_inbox();
        } else {
            self.counts.came();
        }
        events.push_back(event);
        drop(events);
        self.news.notify_one();
    }

    pub(super) fn take(&self) -> VecDeque<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends at once where something came since this was asked last.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}
