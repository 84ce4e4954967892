//! Figures, at their interval.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::pause::{Failures, until_repaired};
use super::voice::{Voice, random};
use super::{Common, told_to};
use crate::export::metrics::Metrics;
use crate::export::otlp::ledger::Ledger;
use crate::export::otlp::send::{Answer, Message, Sender};
use crate::export::otlp::settings::{Settings, Signal};

/// Runs until it is told to stop, and exports once more then.
pub(super) async fn run<T, F>(mut common: Common, mut sender: Sender, settings: Settings, take: T)
where
    T: Fn() -> F + Send + Sync,
    F: Future<Output = Option<Arc<Metrics>>> + Send,
{
    let mut ledger = Ledger::new(settings.temporality, settings.buckets);
    let mut voice = Voice::of(Signal::Metrics);
    let mut failures = Failures::default();
    let mut wait = Some(common.pace.first.min(settings.interval));
    let mut ticks = interval(settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            () = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => drop(ticks.tick().await),
                }
            } => false,
            () = told_to(&mut common.stop) => true,
        };
        if wait.take().is_some() {
            ticks.reset();
        }
        let export = async {
            let metrics = take().await?;
            let resource = common.speaker.resource(&common.place.borrow());
            let message = Message::Metrics(ledger.write(&metrics, resource));
            Some(sender.send(&message).await)
        };
        let answer = match timeout(settings.export_timeout, export).await {
            Ok(None) => {
                tracing::debug!("there are no figures to export yet");
                if is_last {
                    return;
                }
                continue;
            }
            Ok(Some(answer)) => answer,
            Err(_) => Answer::Retryable {
                after: None,
                why: format!("an export took longer than {} ms", settings.export_timeout.as_millis()),
            },
        };
        common.counts.exported(Signal::Metrics, &answer);
        voice.tell(&answer);
        match answer {
            // What it wants never again it must not get again.
            Answer::Accepted | Answer::Partial { .. } => {
                ledger.accepted();
                failures.none();
            }
            Answer::Retryable { after, .. } => wait = Some(failures.pause(&common.pace, after, random())),
            Answer::Refused { .. } => {
                wait = Some(until_repaired(&common.pace, random()).max(settings.interval));
            }
        }
        if is_last {
            return;
        }
    }
}
