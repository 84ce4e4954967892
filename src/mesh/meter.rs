//! What is counted of one link in buckets, from a known instant on.

use std::time::Duration;

use probes::target::Kind;

use super::exponential::Exponential;
use super::histogram::{Edges, Histogram};

/// How all meters of an agent count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scale {
    /// The edges of all of them.
    pub edges: Edges,
    /// In exponential buckets as well.
    pub exponential: bool,
}

/// Durations in buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Meter {
    /// Since when, by the agent's age.
    pub born: Duration,
    /// Between given edges.
    pub histogram: Histogram,
    /// In exponential buckets, where somebody asked for them.
    pub exponential: Option<Box<Exponential>>,
}

impl Meter {
    /// An empty one.
    pub fn new(scale: &Scale, born: Duration) -> Self {
        let exponential = scale.exponential.then(Box::default);
        Self { born, histogram: Histogram::new(&scale.edges), exponential }
    }

    /// What came since it was like that; all of it where it began anew meanwhile.
    pub fn since(&self, before: &Self) -> Self {
        if self.born != before.born {
            return self.clone();
        }
        let exponential = match (&self.exponential, &before.exponential) {
            (Some(now), Some(before)) => Some(Box::new(now.since(before))),
            (now, _) => now.clone(),
        };
        Self { born: self.born, histogram: self.histogram.since(&before.histogram), exponential }
    }

    /// Adds all of another one of the same scale.
    pub fn join(&mut self, other: &Self) {
        self.histogram.add(&other.histogram);
        if let (Some(exponential), Some(other)) = (&mut self.exponential, &other.exponential) {
            exponential.add(other);
        }
    }

    /// One more.
    pub fn record(&mut self, duration: Duration) {
        self.histogram.record(duration);
        if let Some(exponential) = &mut self.exponential {
            exponential.record(duration);
        }
    }
}

/// All meters of one link. What our own noise has disturbed is in none of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Meters {
    /// The slots of the schedule: HTTP and NATS to the last byte, the others as they are judged.
    pub slots: Meter,
    /// TCP handshakes beside them.
    pub connects: Option<Meter>,
    /// The relay on a fresh connection, to the last byte.
    pub afresh: Option<Meter>,
    /// Whether a slot counts to its last byte.
    pub(super) to_the_end: bool,
}

impl Meters {
    /// Empty ones, for a link of this kind.
    pub fn new(kind: Kind, scale: &Scale, born: Duration) -> Self {
        let meter = || Meter::new(scale, born);
        Self {
            slots: meter(),
            connects: matches!(kind, Kind::Postgres | Kind::Relay).then(meter),
            afresh: (kind == Kind::Relay).then(meter),
            to_the_end: matches!(kind, Kind::Http | Kind::Nats),
        }
    }

    /// Bytes on the heap without exponential buckets, which are a box of their own of at most 1.4 KiB a meter.
    pub(super) fn heap_bytes(&self) -> usize {
        let meters = [Some(&self.slots), self.connects.as_ref(), self.afresh.as_ref()];
        meters.into_iter().flatten().map(|meter| size_of_val(meter.histogram.counts())).sum()
    }

    /// What came since they were like that.
    pub fn since(&self, before: &Self) -> Self {
        let since = |now: &Option<Meter>, before: &Option<Meter>| match (now, before) {
            (Some(now), Some(before)) => Some(now.since(before)),
            (now, _) => now.clone(),
        };
        Self {
            slots: self.slots.since(&before.slots),
            connects: since(&self.connects, &before.connects),
            afresh: since(&self.afresh, &before.afresh),
            to_the_end: self.to_the_end,
        }
    }

    /// Adds all of another link's of the same kind and scale.
    pub fn join(&mut self, other: &Self) {
        self.slots.join(&other.slots);
        for (meter, other) in [(&mut self.connects, &other.connects), (&mut self.afresh, &other.afresh)] {
            if let (Some(meter), Some(other)) = (meter, other) {
                meter.join(other);
            }
        }
    }
}
