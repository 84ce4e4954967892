//! The ear of a connection: takes each notification as it comes, asks and answers the other agents' questions about how
//! long a notification takes ([`crate::discovery::pubsub`]), and hands the rest on.
//!
//! It is a task of its own, so that an answer does not wait while tables are read.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use probes::postgres::notify::{Notifier, Sent};
use probes::postgres::reader::{Note, Notes, Reader, ToSql, Type};
use probes::sample::{Failure, Outcome, Reason, Sample, Timing};
use probes::stopwatch::Stopwatch;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::discovery::News;
use crate::discovery::pubsub::{Allowance, CHANNEL, DEADLINE, Letter, ask_every};
use crate::mesh::pubsub::Exchange;
use crate::mesh::schedule::Schedule;

/// How long the connection to send on may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// A timer that is this much late was not: we did not run.
const DID_NOT_RUN: Duration = Duration::from_secs(1);

/// What is heard beside questions and answers.
pub(super) enum Heard {
    /// A notification of another channel.
    Note(Note),
    /// The connection is gone.
    Ended(Failure),
    /// The session is not ours any more, or has lost its LISTEN.
    Pooled,
}

/// What it takes.
pub(super) struct Ear {
    /// Our name.
    pub(super) name: String,
    pub(super) reader: Arc<Reader>,
    pub(super) notifier: Notifier,
    /// Whether we listen.
    pub(super) listening: watch::Receiver<bool>,
    /// Whom to ask; `None` is not to ask at all.
    pub(super) peers: watch::Receiver<Option<BTreeSet<String>>>,
    pub(super) others: mpsc::Sender<Heard>,
    pub(super) news: mpsc::Sender<News>,
}

/// A question that waits.
struct Pending {
    nonce: String,
    peer: Option<String>,
    arrival: Option<oneshot::Sender<Stopwatch>>,
    sent: Option<Sent>,
    answer: Option<(Stopwatch, Duration)>,
    since: Stopwatch,
}

impl Pending {
    /// Whether nothing more can come of it.
    fn is_settled(&self) -> bool {
        let arrived = |sent: &Sent| matches!(sent.sample.outcome, Outcome::Ok(_));
        self.sent.as_ref().is_some_and(|sent| {
            !arrived(sent) || self.peer.is_none() || self.answer.is_some() || self.since.elapsed() >= DEADLINE
        })
    }
}

/// What came of sending a question.
struct Told {
    nonce: String,
    sent: Sent,
    pooled: bool,
}

/// Those that send a question or, without more to tell, an answer.
type Tasks = JoinSet<Option<Told>>;

impl Ear {
    /// Listens until the connection ends or nobody wants to know.
    pub(super) async fn run(mut self, mut notes: Notes) {
        let mut tasks = Tasks::new();
        let mut pending = None::<Pending>;
        let mut allowance = Allowance::default();
        // Nor do they all ask the same one.
        let (mut asked, mut last_peer) = (None::<Stopwatch>, Some(self.name.clone()));
        let began = Stopwatch::start();
        loop {
            let is_asking = *self.listening.borrow() && self.peers.borrow().is_some();
            let others = self.peers.borrow().as_ref().map_or(0, BTreeSet::len);
            let every = ask_every(others);
            let ask_in = match asked {
                Some(asked) => every.saturating_sub(asked.elapsed()),
                // Agents that start together do not ask together.
                None => first_in(&self.name, every).saturating_sub(began.elapsed()),
            };
            let answer_in = pending.as_ref().map_or(DEADLINE, |p| DEADLINE.saturating_sub(p.since.elapsed()));
            let waits = pending.as_ref().is_some_and(|pending| pending.sent.is_some());
            tokio::select! {
                biased;
                Some(done) = tasks.join_next() => {
                    if let Ok(Some(Told { nonce, sent, pooled })) = done
                        && let Some(pending) = pending.as_mut().filter(|pending| pending.nonce == nonce)
                    {
                        pending.sent = Some(sent);
                        if pooled && self.others.send(Heard::Pooled).await.is_err() {
                            return;
                        }
                    }
                }
                () = sleep(answer_in), if waits => {}
                () = sleep(ask_in), if is_asking && pending.is_none() => {
                    asked = Some(Stopwatch::start());
                    let peer = next(self.peers.borrow().as_ref(), last_peer.as_deref());
                    last_peer.clone_from(&peer);
                    pending = Some(self.ask(peer, &mut tasks));
                }
                Ok(()) = self.peers.changed() => {}
                Ok(()) = self.listening.changed() => {}
                // Last: however many there are, they must not keep the rest from its turn.
                note = notes.next() => match note {
                    Err(failure) => {
                        // Where nobody wants to know, there is nothing more to do either.
                        let _ = self.others.send(Heard::Ended(failure)).await;
                        return;
                    }
                    Ok(note) if note.channel == CHANNEL => {
                        if let Some(letter) = Letter::decode(&note.payload) {
                            self.read(letter, note.since, pending.as_mut(), &mut allowance, &mut tasks);
                        }
                    }
                    Ok(note) => match self.others.try_send(Heard::Note(note)) {
                        // As with notifications for which there was no room before.
                        Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                        Err(mpsc::error::TrySendError::Closed(_)) => return,
                    },
                },
            }
            if pending.as_ref().is_some_and(Pending::is_settled)
                && let Some(pending) = pending.take()
            {
                let exchange = settle(pending, every, others);
                if self.news.send(News::Pubsub(Box::new(exchange))).await.is_err() {
                    return;
                }
            }
        }
    }

    fn ask(&self, peer: Option<String>, tasks: &mut Tasks) -> Pending {
        let nonce = format!("{:016x}", RandomState::new().build_hasher().finish());
        let question = Letter::question(&self.name, peer.as_deref(), &nonce);
        let (arrival, arrived) = oneshot::channel();
        let pending = Pending {
            nonce: nonce.clone(),
            peer,
            arrival: Some(arrival),
            sent: None,
            answer: None,
            since: Stopwatch::start(),
        };
        let (notifier, reader) = (self.notifier.clone(), Arc::clone(&self.reader));
        tasks.spawn(async move {
            let sent = send(&notifier, &question, async move { arrived.await.ok() }).await;
            let (sent, pooled) = diagnose(sent, &reader).await;
            Some(Told { nonce, sent, pooled })
        });
        pending
    }

    fn read(
        &self,
        letter: Letter,
        since: Stopwatch,
        pending: Option<&mut Pending>,
        allowance: &mut Allowance,
        tasks: &mut Tasks,
    ) {
        let is_for_us = letter.to.as_deref() == Some(self.name.as_str());
        let ours = pending.filter(|pending| pending.nonce == letter.nonce);
        match (letter.held(), ours) {
            (None, Some(pending)) if letter.from == self.name => {
                if let Some(arrival) = pending.arrival.take() {
                    // Whoever waited may have given up.
                    let _ = arrival.send(since);
                }
            }
            (None, _) if is_for_us && letter.from != self.name && allowance.take() => {
                let (notifier, name) = (self.notifier.clone(), self.name.clone());
                tasks.spawn(async move {
                    answer(&notifier, &letter, &name, since).await;
                    None
                });
            }
            (Some(held), Some(pending)) if is_for_us && pending.peer.as_ref() == Some(&letter.from) => {
                pending.answer.get_or_insert((since, held));
            }
            _ => {}
        }
    }
}

/// Somewhere in the first interval.
fn first_in(name: &str, every: Duration) -> Duration {
    Schedule::endless(every, name).at(0)
}

/// The one after the last one, in turn.
fn next(peers: Option<&BTreeSet<String>>, last: Option<&str>) -> Option<String> {
    let peers = peers?;
    let after = peers.iter().find(|name| last.is_none_or(|last| name.as_str() > last));
    after.or_else(|| peers.first()).cloned()
}

async fn send(
    notifier: &Notifier,
    question: &Letter,
    arrived: impl Future<Output = Option<Stopwatch>>,
) -> Sent {
    let since = Stopwatch::start();
    let failed = |failure: Failure| Sent { since, sample: failure.into() };
    let payload = match question.encode() {
        Ok(payload) => payload,
        Err(error) => return failed(Failure::new(Reason::Local, error)),
    };
    if let Err(failure) = notifier.stand(OPEN_WITHIN).await {
        // Nothing was sent, so nothing can have got lost.
        let reason = if failure.reason == Reason::Timeout { Reason::Closed } else { failure.reason };
        return failed(Failure::new(reason, failure.detail));
    }
    let mut sent = notifier.round_trip(CHANNEL, &payload, arrived, DEADLINE).await;
    if sent.since.elapsed() > DEADLINE + DID_NOT_RUN {
        sent.sample = Sample::skipped_self();
    }
    sent
}

/// Why a notification did not come: because the session is not ours any more, or for no reason that we know.
async fn diagnose(mut sent: Sent, reader: &Reader) -> (Sent, bool) {
    let Outcome::Lost(failure, _) = &sent.sample.outcome else { return (sent, false) };
    let listens = "SELECT count(*) FROM pg_catalog.pg_listening_channels() AS channel WHERE channel = $1";
    let is_ours = reader.keeps_session(OPEN_WITHIN).await;
    let kept = match &is_ours {
        Ok(Some(false)) => false,
        Err(_) => return (sent, false),
        Ok(_) => {
            let rows = reader.rows(listens, &[(&CHANNEL as &(dyn ToSql + Sync), Type::TEXT)]).await;
            let Ok(rows) = rows else { return (sent, false) };
            rows.first().and_then(|row| row.try_get::<_, i64>(0).ok()) != Some(0)
        }
    };
    if kept {
        let detail = format!("{}, although LISTEN stands", failure.detail);
        sent.sample = Failure::new(Reason::Timeout, detail).into();
        return (sent, false);
    }
    if matches!(is_ours, Ok(Some(true))) {
        let detail = format!("{}, since LISTEN was lost: it is said again", failure.detail);
        sent.sample = Failure::new(Reason::Timeout, detail).into();
        return (sent, true);
    }
    let detail =
        "LISTEN is gone in the next transaction: a pooler in transaction mode takes the session away";
    sent.sample = Failure::new(Reason::Pooled, detail).into();
    (sent, true)
}

async fn answer(notifier: &Notifier, question: &Letter, name: &str, since: Stopwatch) {
    if let Err(failure) = notifier.stand(OPEN_WITHIN).await {
        tracing::debug!(%failure, "a question of another agent is not answered");
        return;
    }
    let Ok(payload) = question.answer(name, since.elapsed()).encode() else { return };
    if let Err(failure) = notifier.notify(CHANNEL, &payload, DEADLINE).await {
        tracing::debug!(%failure, "a question of another agent was not answered");
    }
}

/// What came of it.
fn settle(pending: Pending, every: Duration, peers: usize) -> Exchange {
    let Pending { peer, sent, answer, since, .. } = pending;
    let (own, sent_since) = match sent {
        Some(sent) => (sent.sample, sent.since),
        None => (Sample::skipped_self(), since),
    };
    let heard = matches!(own.outcome, Outcome::Ok(_));
    // What our own ear did not hear says nothing about the other agent.
    let peer = peer.filter(|_| heard).map(|name| {
        let sample = match answer {
            Some((at, held)) => {
                let rtt = sent_since.elapsed().saturating_sub(at.elapsed());
                // Nobody can have held it for longer than it was away.
                match rtt.checked_sub(held) {
                    Some(rtt) => Timing { rtt, hold: Some(held), ..Timing::default() }.into(),
                    None => Sample::skipped_self(),
                }
            }
            None if since.elapsed() > DEADLINE + DID_NOT_RUN => Sample::skipped_self(),
            None => {
                let detail = format!("no answer within {} s", DEADLINE.as_secs());
                Failure::new(Reason::Timeout, detail).into()
            }
        };
        (name, sample)
    });
    Exchange { own, peer, every, peers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_asked_in_turn() {
        let peers: BTreeSet<_> = ["a", "b", "c"].map(str::to_owned).into();
        let mut last = None;
        let asked: Vec<_> = (0..5)
            .map(|_| {
                last = next(Some(&peers), last.as_deref());
                last.clone().unwrap()
            })
            .collect();
        assert_eq!(asked, ["a", "b", "c", "a", "b"]);
        assert_eq!(next(Some(&BTreeSet::new()), Some("a")), None);
        assert_eq!(next(None, None), None);
    }

    fn pending(sample: Sample, peer: Option<&str>, answer: Option<Duration>) -> Pending {
        let since = Stopwatch::start();
        Pending {
            nonce: "1".into(),
            peer: peer.map(str::to_owned),
            arrival: None,
            sent: Some(Sent { since, sample }),
            answer: answer.map(|held| (since, held)),
            since,
        }
    }

    #[test]
    fn an_answer_that_was_held_longer_than_it_was_away_is_not_believed() {
        let heard = || Sample::from(Timing::default());
        let settled = settle(pending(heard(), Some("b"), Some(Duration::from_secs(9))), DEADLINE, 1);
        assert_eq!(settled.peer, Some(("b".into(), Sample::skipped_self())));
        let settled = settle(pending(heard(), Some("b"), Some(Duration::ZERO)), DEADLINE, 1);
        assert!(matches!(settled.peer, Some((_, Sample { outcome: Outcome::Ok(_), .. }))));
    }

    #[test]
    fn what_we_did_not_hear_ourselves_says_nothing_about_who_was_asked() {
        let lost = Sample::from(Failure::new(Reason::Timeout, "x"));
        assert_eq!(settle(pending(lost, Some("b"), None), DEADLINE, 1).peer, None);
    }
}
