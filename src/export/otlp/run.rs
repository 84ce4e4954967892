//! The two tasks that hand over: figures at their interval, events soon after they happened.
//!
//! Both live on the ordinary runtime, far from what measures. Whoever tells of an event never waits: it goes into a queue of
//! bounded length.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::resource::{Place, Speaker};
use super::send::Sender;
use super::settings::{Delivery, Settings, Signal};
use super::spool::{Limits, Spool, SpoolError};
use super::tallies::{Counts, Tallies, Tally};
use crate::export::events::Event;
use crate::export::metrics::Metrics;

mod inbox;
mod logs;
mod metrics;
mod pause;
mod size;
mod voice;

use inbox::Inbox;
pub use pause::Pace;

/// For the last figures and events when the agent stops.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is needed to begin.
#[derive(Debug)]
pub struct Setup {
    /// Where to, and how.
    pub settings: Settings,
    /// Where events wait, if not in memory alone.
    pub spool: Option<PathBuf>,
    /// How many may wait.
    pub limits: Limits,
    /// Who is speaking.
    pub speaker: Speaker,
    /// From where, as far as it is known.
    pub place: watch::Receiver<Place>,
    /// How long is waited after a failure.
    pub pace: Pace,
}

/// What is common to both tasks.
struct Common {
    speaker: Speaker,
    place: watch::Receiver<Place>,
    pace: Pace,
    counts: Arc<Counts>,
    stop: watch::Receiver<bool>,
}

/// Ends when the tasks are told to stop, or nobody is left who could tell them.
async fn told_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The running tasks.
#[derive(Debug)]
pub struct Handle {
    inbox: Option<Arc<Inbox>>,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Handle {
    /// Begins with what the settings ask for, which may be nothing. `take` yields the figures of that moment; `None` where
    /// there are none yet. A certificate that cannot be read turns its signal off and is said; only a spool that cannot be
    /// used is an error.
    pub async fn start<T, F>(setup: Setup, take: T) -> Result<Self, SpoolError>
    where
        T: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Option<Arc<Metrics>>> + Send + 'static,
    {
        let Setup { settings, spool, limits, speaker, place, pace } = setup;
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(false);
        let common = || Common {
            speaker: speaker.clone(),
            place: place.clone(),
            pace,
            counts: Arc::clone(&counts),
            stop: stopped.clone(),
        };
        let mut tasks = Vec::new();
        if let Some(sender) = sender(Signal::Metrics, settings.metrics.as_ref()).await {
            counts.turn_on(Signal::Metrics);
            tasks.push(tokio::spawn(metrics::run(common(), sender, settings.clone(), take)));
        }
        let mut inbox = None;
        if let Some(sender) = sender(Signal::Logs, settings.logs.as_ref()).await {
            let spool = match spool {
                Some(directory) => blocking(move || Spool::open(&directory, limits)).await?,
                None => Spool::in_memory(limits),
            };
            counts.turn_on(Signal::Logs);
            let own = Arc::new(Inbox::new(limits.events, Arc::clone(&counts)));
            tasks.push(tokio::spawn(logs::run(common(), sender, Arc::clone(&own), spool)));
            inbox = Some(own);
        } else if let Some(directory) = spool {
            tracing::warn!(
                directory = %directory.display(),
                "the event spool is not used: no OTLP receiver for logs is set"
            );
        }
        Ok(Self { inbox, counts, stop, tasks })
    }

    /// Hands this over when it is its turn. It neither blocks nor waits; where nobody wants events nothing happens.
    pub fn tell(&self, event: Event) {
        if let Some(inbox) = &self.inbox {
            inbox.put(event);
        }
    }

    /// What has come of it so far.
    pub fn tallies(&self) -> Tallies {
        self.counts.read()
    }

    /// For whoever wants to know that after the end as well.
    pub fn tally(&self) -> Tally {
        Tally(Arc::clone(&self.counts))
    }

    /// One last export of both, within 5 s whatever the receiver does.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let mut tasks = self.tasks;
        let all = async {
            for task in &mut tasks {
                // A task that failed has said so.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("the OTLP receiver did not take the last figures or events in time");
        }
        tasks.iter().for_each(JoinHandle::abort);
        let (waiting, durable) = self.counts.left();
        if waiting > 0 && durable {
            tracing::info!(waiting, "events that the OTLP receiver did not take wait in the spool");
        } else if waiting > 0 {
            tracing::warn!(
                waiting,
                "events that the OTLP receiver did not take are lost; an event spool would keep them"
            );
        }
    }
}

/// The way to the receiver; `None` where there is none, or where its certificates cannot be used.
async fn sender(signal: Signal, delivery: Option<&Delivery>) -> Option<Sender> {
    let delivery = delivery?.clone();
    let endpoint = delivery.endpoint.clone();
    let protocol = delivery.protocol;
    match blocking(move || Sender::new(delivery)).await {
        Ok(sender) => {
            tracing::info!(signal = signal.as_str(), %endpoint, ?protocol, "handing over to an OTLP receiver");
            Some(sender)
        }
        Err(error) => {
            tracing::error!(
                signal = signal.as_str(), %endpoint, %error,
                "nothing is exported: the certificate or key that was given cannot be used"
            );
            None
        }
    }
}

/// For what waits for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
