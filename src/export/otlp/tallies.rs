//! What has come of all exports so far, as numbers that anybody may read at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::send::Answer;
use super::settings::Signal;
use super::spool::Dropped;

/// Outcomes, as they are called in the label `outcome`.
const OUTCOMES: [&str; 4] = ["ok", "partial", "retryable", "refused"];

/// What has come of it so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Signal, outcome, and how often; of signals that are exported.
    pub exports: Vec<(&'static str, &'static str, u64)>,
    /// Events that wait; `None` where events are not exported.
    pub waiting: Option<u64>,
    /// Why, and how many events the receiver will never get: `full`, `refused`, `unreadable`. Empty where events are not
    /// exported.
    pub dropped: Vec<(&'static str, u64)>,
    /// Series whose last figures the receiver will never get; `None` where metrics are not exported.
    pub forgotten: Option<u64>,
}

/// What reads them, for as long as it likes.
#[derive(Debug, Clone)]
pub struct Tally(pub(super) Arc<Counts>);

impl Tally {
    /// What has come of it so far.
    pub fn read(&self) -> Tallies {
        self.0.read()
    }
}

/// The numbers themselves.
#[derive(Debug, Default)]
pub(super) struct Counts {
    is_on: [AtomicBool; 2],
    exports: [[AtomicU64; 4]; 2],
    /// In the inbox.
    fresh: AtomicU64,
    /// In the spool.
    waiting: AtomicU64,
    durable: AtomicBool,
    full_inbox: AtomicU64,
    full: AtomicU64,
    unreadable: AtomicU64,
    refused: AtomicU64,
    forgotten: AtomicU64,
}

fn place(signal: Signal) -> usize {
    match signal {
        Signal::Metrics => 0,
        Signal::Logs => 1,
    }
}

impl Counts {
    pub(super) fn turn_on(&self, signal: Signal) {
        self.is_on[place(signal)].store(true, Ordering::Relaxed);
    }

    pub(super) fn exported(&self, signal: Signal, answer: &Answer) {
        let outcome = match answer {
            Answer::Accepted => 0,
            Answer::Partial { .. } => 1,
            Answer::Retryable { .. } => 2,
            Answer::Refused { .. } => 3,
        };
        self.exports[place(signal)][outcome].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn came(&self) {
        self.fresh.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pushed_out_of_inbox(&self) {
        self.full_inbox.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, events: u64) {
        self.refused.fetch_add(events, Ordering::Relaxed);
    }

    /// So many since the start.
    pub(super) fn forgot(&self, series: u64) {
        self.forgotten.store(series, Ordering::Relaxed);
    }

    /// So many went from the inbox into the spool, where now so many wait.
    pub(super) fn spooled(&self, moved: u64, waiting: u64, durable: bool, dropped: Dropped) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.fresh.fetch_sub(moved, Ordering::Relaxed);
        self.durable.store(durable, Ordering::Relaxed);
        self.full.store(dropped.full, Ordering::Relaxed);
        self.unreadable.store(dropped.unreadable, Ordering::Relaxed);
    }

    fn waiting(&self) -> u64 {
        self.fresh.load(Ordering::Relaxed) + self.waiting.load(Ordering::Relaxed)
    }

    /// How many wait, and whether they outlive this process.
    pub(super) fn left(&self) -> (u64, bool) {
        let durable = self.durable.load(Ordering::Relaxed) && self.fresh.load(Ordering::Relaxed) == 0;
        (self.waiting(), durable)
    }

    pub(super) fn read(&self) -> Tallies {
        let is_on = |signal: Signal| self.is_on[place(signal)].load(Ordering::Relaxed);
        let mut tallies = Tallies::default();
        for signal in [Signal::Metrics, Signal::Logs].into_iter().filter(|signal| is_on(*signal)) {
            let counts = self.exports[place(signal)].iter().map(|count| count.load(Ordering::Relaxed));
            tallies.exports.extend(
                OUTCOMES.iter().zip(counts).map(|(outcome, count)| (signal.as_str(), *outcome, count)),
            );
        }
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        tallies.forgotten = is_on(Signal::Metrics).then_some(forgotten);
        if is_on(Signal::Logs) {
            let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
            tallies.waiting = Some(self.waiting());
            tallies.dropped = vec![
                ("full", load(&self.full_inbox) + load(&self.full)),
                ("refused", load(&self.refused)),
                ("unreadable", load(&self.unreadable)),
            ];
        }
        tallies
    }
}
