//! Figures, at their interval.

use std::collections::VecDeque;
use std::sync::Arc;

use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::pause::{Failures, until_repaired};
use super::size::Size;
use super::voice::{Voice, random};
use super::{Common, told_to};
use crate::export::metrics::Metrics;
use crate::export::otlp::ledger::Ledger;
use crate::export::otlp::send::{Answer, Fault, Message, Sender};
use crate::export::otlp::settings::{Settings, Signal, Temporality};
use crate::export::otlp::split::{points, split};

/// Runs until it is told to stop, and exports once more then.
pub(super) async fn run<T, F>(mut common: Common, sender: Sender, settings: Settings, take: T)
where
    T: Fn() -> F + Send + Sync,
    F: Future<Output = Option<Arc<Metrics>>> + Send,
{
    let mut export = Export::new(sender, &settings);
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
        let answer = match timeout(settings.export_timeout, export.once(&common, &take)).await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                tracing::debug!("there are no figures to export yet");
                if is_last {
                    return;
                }
                continue;
            }
            Err(_) => {
                let took = settings.export_timeout.as_millis();
                let why = format!("an export took longer than {took} ms");
                let answer = Answer::Retryable { after: None, why };
                export.say(&common, &answer);
                answer
            }
        };
        export.end(&common, &answer);
        match answer {
            Answer::Accepted | Answer::Partial { .. } => failures.none(),
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

/// One export, in as many messages as the receiver wants.
struct Export {
    sender: Sender,
    ledger: Ledger,
    voice: Voice,
    size: Size,
    /// Whether an old message is worth nothing as soon as there is a new one.
    is_cumulative: bool,
    /// What is to be sent yet.
    parts: VecDeque<Message>,
    /// Whether the receiver has one of them.
    has_some: bool,
    /// Points that were given up because they were refused, or too long by themselves.
    given_up: u64,
    forgotten: u64,
}

impl Export {
    fn new(sender: Sender, settings: &Settings) -> Self {
        Self {
            sender,
            ledger: Ledger::new(settings.temporality, settings.buckets),
            voice: Voice::of(Signal::Metrics),
            size: Size::new(usize::MAX),
            is_cumulative: settings.temporality == Temporality::Cumulative,
            parts: VecDeque::new(),
            has_some: false,
            given_up: 0,
            forgotten: 0,
        }
    }

    fn say(&mut self, common: &Common, answer: &Answer) {
        common.counts.exported(Signal::Metrics, answer);
        self.voice.tell(answer);
    }

    /// What was left over of the last one, and the figures of now.
    async fn once<T, F>(&mut self, common: &Common, take: &T) -> Option<Answer>
    where
        T: Fn() -> F + Send + Sync,
        F: Future<Output = Option<Arc<Metrics>>> + Send,
    {
        if !self.parts.is_empty() {
            let answer = self.send(common).await;
            if !matches!(answer, Answer::Accepted | Answer::Partial { .. }) {
                return Some(answer);
            }
        }
        let metrics = take().await?;
        let resource = common.speaker.resource(&common.place.borrow());
        self.write(&metrics, resource);
        Some(self.send(common).await)
    }

    fn write(&mut self, metrics: &Arc<Metrics>, resource: Resource) {
        let message = self.ledger.write(metrics, resource);
        self.parts = split(message, self.size.at_most()).into_iter().map(Message::Metrics).collect();
        self.has_some = false;
    }

    /// Sends the parts until one fails. What is refused is not sent again.
    async fn send(&mut self, common: &Common) -> Answer {
        let mut refusal = None;
        while let Some(message) = self.parts.front() {
            let count = match message {
                Message::Metrics(message) => points(message),
                Message::Logs(_) => 0,
            };
            let answer = self.sender.send(message).await;
            self.say(common, &answer);
            match &answer {
                // What it wants never again it must not get again.
                Answer::Accepted | Answer::Partial { .. } => {
                    self.parts.pop_front();
                    self.has_some = true;
                    self.size.taken(count);
                }
                Answer::Refused { fault: Fault::Size, .. } if count > 1 => self.halve(count),
                Answer::Refused { fault: Fault::Room, .. } => {
                    self.halve(count);
                    return answer;
                }
                Answer::Refused { fault: fault @ (Fault::Size | Fault::Content), .. } => {
                    // Where it is all there is, the ledger knows what that means.
                    let is_alone = self.parts.len() == 1 && !self.has_some;
                    self.parts.pop_front();
                    if !is_alone || *fault == Fault::Size {
                        self.given_up += u64::try_from(count).unwrap_or(u64::MAX);
                    }
                    refusal = Some(answer);
                }
                Answer::Refused { fault: Fault::Place, .. } | Answer::Retryable { .. } => return answer,
            }
        }
        if self.has_some {
            self.ledger.accepted();
        } else {
            self.ledger.refused();
        }
        self.has_some = false;
        refusal.unwrap_or(Answer::Accepted)
    }

    /// The first part was too long, and will not be sent so again.
    fn halve(&mut self, count: usize) {
        self.size.too_long(count);
        if let Some(Message::Metrics(message)) = self.parts.pop_front() {
            for part in split(message, self.size.at_most()).into_iter().rev() {
                self.parts.push_front(Message::Metrics(part));
            }
        }
    }

    /// What is left over stays only where it would be told twice else: with deltas, if the receiver has a part of them.
    fn end(&mut self, common: &Common, answer: &Answer) {
        if self.is_cumulative || !self.has_some {
            self.parts.clear();
        }
        let forgotten = self.ledger.forgotten() + self.given_up;
        if forgotten > self.forgotten {
            tracing::warn!(
                series = forgotten - self.forgotten,
                ?answer,
                "the OTLP receiver will never get the last figures of some series: they went away before it took them, or it refused them"
            );
        }
        self.forgotten = forgotten;
        common.counts.forgot(forgotten);
    }
}
