//! One job: its first connection, then a question in each slot, and an outcome for every slot.

use std::sync::Arc;
use std::time::Duration;

use probes::kit::Kit;
use probes::own;
use probes::sample::{Failure, Outcome, Reason, Reopened, Sample};
use probes::{Order, Probe, Step};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::Event;
use crate::mesh::schedule::Schedule;

/// What has no reply after this is lost. Longer than any budget, shorter than anybody's patience.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// How often and how long a connection is tried before its target is given up.
const OPEN_ATTEMPTS: usize = 3;
const OPEN_PATIENCE: Duration = Duration::from_secs(3);
const OPEN_PAUSE: Duration = Duration::from_millis(500);
/// A slot that is reached this late was not skipped by the path but by us (a suspended machine, no CPU).
const TOO_LATE: Duration = Duration::from_millis(100);

/// How a job goes; see [`super::Job`].
#[derive(Clone, Copy)]
pub(super) struct Course {
    pub(super) schedule: Schedule,
    pub(super) trial: bool,
    pub(super) persistent: bool,
}

/// From the first connection to the outcome of the last slot.
pub(super) async fn measure(job: u32, kit: Arc<Kit>, course: Course, events: UnboundedSender<Event>) {
    let Course { schedule, trial, persistent } = course;
    // Whoever listens has gone away when a send fails; then this job is about to be ended.
    let tell = |event| {
        let _ = events.send(event);
    };
    if persistent {
        // Not all at once: each at its own place in the first second, whatever its interval.
        sleep(Schedule { interval: Duration::from_secs(1), ..schedule }.at(0)).await;
    }
    let stands = if !trial {
        true
    } else {
        let opened = open(&kit, if persistent { 1 } else { OPEN_ATTEMPTS }).await;
        let stands = matches!(opened.outcome, Outcome::Ok(_));
        tell(Event::Opened { job, sample: opened });
        stands
    };
    if stands || persistent {
        let start = now();
        let mut in_flight = JoinSet::new();
        for slot in (0..).take_while(|slot| schedule.slots.is_none_or(|slots| *slot < slots)) {
            let intended = start + schedule.at(slot);
            sleep_until(intended).await;
            let late = now().saturating_duration_since(intended);
            if late > TOO_LATE {
                tell(Event::Slot { job, slot, sample: Sample::skipped_self() });
                continue;
            }
            tell(Event::Sent { job, slot, late });
            let (kit, mut promise) = (Arc::clone(&kit), Promise { job, slot, events: Some(events.clone()) });
            in_flight.spawn(async move {
                let order = Order { step: Step::Measure, deadline: DEADLINE };
                let sample = own::sample(&*kit, order).await;
                // Before the first sample of the new connection, which says nothing about the old one.
                promise.tell(kit.reopened());
                promise.keep(sample);
            });
            while in_flight.try_join_next().is_some() {}
        }
        while in_flight.join_next().await.is_some() {}
    }
    tell(Event::Done { job });
}

/// A slot never goes without an outcome: one whose task is ended (its job is replaced) or fails says so itself. Neither
/// says anything about the path.
struct Promise {
    job: u32,
    slot: u64,
    events: Option<UnboundedSender<Event>>,
}

impl Promise {
    fn tell(&self, reopened: Vec<Reopened>) {
        let Some(events) = &self.events else { return };
        for reopened in reopened {
            let _ = events.send(Event::Reopened { job: self.job, reopened });
        }
    }

    fn keep(&mut self, sample: Sample) {
        if let Some(events) = self.events.take() {
            let _ = events.send(Event::Slot { job: self.job, slot: self.slot, sample });
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let sample = if std::thread::panicking() {
            Failure::new(Reason::Local, "the probe itself failed: this is a fault to report").into()
        } else {
            Sample::skipped_self()
        };
        self.keep(sample);
    }
}

/// Bare connects beside a job.
pub(super) async fn connects(job: u32, kit: Arc<Kit>, schedule: Schedule, events: UnboundedSender<Event>) {
    let start = now();
    for slot in (0..).take_while(|slot| schedule.slots.is_none_or(|slots| *slot < slots)) {
        let intended = start + schedule.at(slot);
        if now().saturating_duration_since(intended) > TOO_LATE {
            continue;
        }
        sleep_until(intended).await;
        let sample = own::sample(&*kit, Order { step: Step::Connect, deadline: DEADLINE }).await;
        if events.send(Event::Connected { job, sample }).is_err() {
            return;
        }
    }
}

/// Another connection in the place of the one that stands.
pub(super) async fn reopen(job: u32, kit: Arc<Kit>, events: UnboundedSender<Event>) {
    let sample = kit.sample(Order { step: Step::Open, deadline: OPEN_PATIENCE }).await;
    let reopened = Reopened { ago: Duration::ZERO, sample };
    // Whoever listens has gone away when this fails.
    let _ = events.send(Event::Reopened { job, reopened });
}

/// A few attempts, so that a server which is just starting is not given up at once. A no to who we are is final: a
/// password is not tried twice.
async fn open(kit: &Kit, attempts: usize) -> Sample {
    let order = Order { step: Step::Open, deadline: OPEN_PATIENCE };
    let mut sample = Sample::from(Failure::new(Reason::Unreachable, "no attempt was made"));
    for attempt in 0..attempts {
        if attempt > 0 {
            sleep(OPEN_PAUSE).await;
        }
        sample = kit.sample(order).await;
        let reason = match &sample.outcome {
            Outcome::Ok(_) => return sample,
            outcome => outcome.failure().map(|failure| failure.reason),
        };
        if matches!(reason, Some(Reason::Auth | Reason::Database | Reason::ConnectionsLow | Reason::Password))
        {
            return sample;
        }
    }
    sample
}

#[expect(clippy::disallowed_methods, reason = "the schedule clock is read in the agent's rooms only")]
fn now() -> Instant {
    Instant::now()
}
