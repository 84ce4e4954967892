//! Events, soon after they happened, in their order, one batch at a time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Sleep, sleep};

use super::inbox::Inbox;
use super::pause::{Failures, until_repaired};
use super::size::Size;
use super::voice::{Voice, random};
use super::{Common, blocking, told_to};
use crate::export::events::Event;
use crate::export::otlp::encode;
use crate::export::otlp::send::{Answer, Fault, Message, Sender};
use crate::export::otlp::settings::Signal;
use crate::export::otlp::spool::{DiskNews, Skipped, Spool};

/// So many at a time.
const BATCH: usize = 512;

/// Where events wait.
struct Waiting {
    inbox: Arc<Inbox>,
    spool: Arc<Mutex<Spool>>,
    common: Common,
}

impl Waiting {
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Spool) -> T + Send + 'static) -> T {
        let spool = Arc::clone(&self.spool);
        blocking(move || work(&mut spool.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// Brings what came into the spool: how many came, and how many wait then.
    async fn take_in(&self) -> (u64, u64) {
        let events = self.inbox.take();
        let moved = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let work = move |spool: &mut Spool| {
            let news = spool.put(events);
            (news, spool.waiting(), spool.is_durable(), spool.dropped(), spool.skipped())
        };
        let (news, waiting, durable, dropped, skipped) = self.with(work).await;
        for Skipped { path, why } in skipped {
            tracing::warn!(
                file = %path.display(), %why,
                "a file of the event spool cannot be read: its events are skipped and kept; make it readable and restart the agent, or remove it"
            );
        }
        match news {
            Some(DiskNews::Failed(why)) => {
                tracing::error!(%why, "the event spool cannot be written to: events wait in memory, and are lost if the agent ends");
            }
            Some(DiskNews::Back) => tracing::info!("the event spool can be written to again"),
            None => {}
        }
        self.common.counts.spooled(moved, waiting, durable, dropped);
        (moved, waiting)
    }

    /// Those that were handed out need not wait any more.
    async fn settle(&self) {
        self.with(Spool::settle).await;
    }

    /// A batch, and whether any event waits.
    async fn batch(&self, at_most: usize) -> (Vec<Event>, bool) {
        self.with(move |spool| (spool.batch(at_most), spool.waiting() > 0)).await
    }
}

/// What is to be done after an answer.
enum Next {
    /// The next batch.
    Go,
    /// Wait. The batch may be settled, because nobody wants it.
    Pause { until: Pin<Box<Sleep>>, is_settled: bool },
}

/// Runs until it is told to stop, and hands over what it can then.
pub(super) async fn run(common: Common, mut sender: Sender, inbox: Arc<Inbox>, spool: Spool) {
    let mut stop = common.stop.clone();
    let waiting = Waiting { inbox, spool: Arc::new(Mutex::new(spool)), common };
    let mut handing =
        Handing { voice: Voice::of(Signal::Logs), failures: Failures::default(), size: Size::new(BATCH) };
    let mut pause: Option<Pin<Box<Sleep>>> = None;
    loop {
        let (fresh, count) = waiting.take_in().await;
        if *stop.borrow() || stop.has_changed().is_err() {
            break;
        }
        if pause.is_none() && count == 0 {
            tokio::select! {
                () = waiting.inbox.news() => {}
                () = told_to(&mut stop) => {}
            }
            continue;
        }
        // Often several come together.
        if pause.is_none() && fresh == count {
            pause = Some(Box::pin(sleep(waiting.common.pace.together)));
        }
        if let Some(pausing) = &mut pause {
            tokio::select! {
                () = pausing.as_mut() => pause = None,
                () = waiting.inbox.news() => continue,
                () = told_to(&mut stop) => continue,
            }
        }
        if let Next::Pause { until, .. } = handing.hand_over(&waiting, &mut sender).await {
            pause = Some(until);
        }
    }
    // Whoever was failing gets one more chance.
    while waiting.take_in().await.1 > 0 {
        match handing.hand_over(&waiting, &mut sender).await {
            Next::Go => {}
            Next::Pause { until, is_settled: true } => until.await,
            Next::Pause { .. } => break,
        }
    }
    waiting.take_in().await;
}

struct Handing {
    voice: Voice,
    failures: Failures,
    size: Size,
}

impl Handing {
    /// One batch.
    async fn hand_over(&mut self, waiting: &Waiting, sender: &mut Sender) -> Next {
        let common = &waiting.common;
        let pause = |duration, is_settled| Next::Pause { until: Box::pin(sleep(duration)), is_settled };
        let (events, any) = waiting.batch(self.size.at_most()).await;
        if events.is_empty() && any {
            // The disk may be read again soon.
            return pause(self.failures.pause(&common.pace, None, random()), false);
        }
        if events.is_empty() {
            return Next::Go;
        }
        let resource = common.speaker.resource(&common.place.borrow());
        let message = Message::Logs(encode::logs(resource, &events));
        let answer = {
            let mut sending = std::pin::pin!(sender.send(&message));
            loop {
                tokio::select! {
                    answer = &mut sending => break answer,
                    // What happens meanwhile has to be on the disk, however long this takes.
                    () = waiting.inbox.news() => drop(waiting.take_in().await),
                }
            }
        };
        common.counts.exported(Signal::Logs, &answer);
        self.voice.tell(&answer);
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        match answer {
            Answer::Accepted | Answer::Partial { .. } => {
                if let Answer::Partial { rejected, .. } = answer {
                    // Whoever counts more than it got counts wrong.
                    common.counts.refused(rejected.min(count));
                }
                self.size.taken(events.len());
                self.failures.none();
                waiting.settle().await;
                Next::Go
            }
            Answer::Refused { fault: Fault::Size, .. } if events.len() > 1 => {
                self.size.too_long(events.len());
                Next::Go
            }
            Answer::Refused { fault: Fault::Size | Fault::Content, .. } => {
                for event in
                    events.iter().filter(|_| matches!(answer, Answer::Refused { fault: Fault::Size, .. }))
                {
                    tracing::warn!(
                        event_id = %event.id, event = %event.name,
                        "the OTLP receiver takes no message as long as this event alone: it is given up"
                    );
                }
                common.counts.refused(count);
                waiting.settle().await;
                pause(self.failures.pause(&common.pace, None, random()), true)
            }
            Answer::Retryable { after, .. } => {
                pause(self.failures.pause(&common.pace, after, random()), false)
            }
            Answer::Refused { fault, .. } => {
                if fault == Fault::Room {
                    self.size.too_long(events.len());
                }
                pause(until_repaired(&common.pace, random()), false)
            }
        }
    }
}
