//! What the receiver has been told, so that the next message begins where the last one that arrived ended.
//!
//! With delta temporality a message says what came since the last message that was *accepted*: a failed one is folded into
//! the next. A series that goes away while the receiver is away is kept as it was seen last, in both temporalities, and told
//! when the receiver is back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::encode::{self, Amount, Reading, Spread, Written};
use super::settings::{Buckets, Temporality};
use crate::export::instruments::{self, Instrument, Shape};
use crate::export::metrics::{Family, Metrics, Point, Value};
use crate::mesh::histogram::Histogram;

/// More series than this that went away untold are forgotten, the oldest first: 5 MB or so.
const GONE_AT_MOST: usize = 4096;
/// So many that were told and are out of sight are known by what they said: 1 MB or so.
const ABSENT_AT_MOST: usize = 1024;

/// What the receiver has been told.
#[derive(Debug)]
pub struct Ledger {
    temporality: Temporality,
    buckets: Buckets,
    /// The last that arrived.
    accepted: Option<Arc<Metrics>>,
    /// The last that was tried, whatever came of it.
    tried: Option<Arc<Metrics>>,
    /// What series said last that went away since then.
    gone: Vec<Gone>,
    /// What series said last that was told, and when, of those that are not in what arrived last: a link that is not shown
    /// for a while comes back with all that it counted. Only of those with deltas.
    absent: BTreeMap<Key, (SystemTime, Value)>,
    /// Which of these speak again in the last message.
    back: Vec<Key>,
    forgotten: u64,
}

/// An instrument's name, the labels and the birth of a series.
type Key = (&'static str, Vec<Arc<str>>, Duration);

fn key(instrument: &Instrument, point: &Point) -> Key {
    (instrument.name, point.labels.clone(), point.born)
}

/// What a series said last.
#[derive(Debug)]
struct Gone {
    instrument: &'static Instrument,
    point: Point,
    reading: Reading,
}

impl Ledger {
    /// A receiver that knows nothing yet.
    pub fn new(temporality: Temporality, buckets: Buckets) -> Self {
        Self {
            temporality,
            buckets,
            accepted: None,
            tried: None,
            gone: Vec::new(),
            absent: BTreeMap::new(),
            back: Vec::new(),
            forgotten: 0,
        }
    }

    /// How many series went away whose last figures nobody got, or will get.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The message that brings the receiver to this state.
    pub fn write(&mut self, now: &Arc<Metrics>, resource: Resource) -> ExportMetricsServiceRequest {
        self.note_what_went_away(now);
        let mut gone = by_instrument(&self.gone);
        let mut back = Vec::new();
        let mut families: Vec<Written> = now
            .families
            .iter()
            .map(|family| {
                let delta = self.is_delta(family.instrument);
                let mut readings = gone.remove(family.instrument.name).unwrap_or_default();
                let before = Before::of(self.accepted.as_deref(), family);
                readings.extend(family.points.iter().enumerate().filter_map(|(place, point)| {
                    let told = before.point(place, point).or_else(|| {
                        let told = self.told_before(family.instrument, point)?;
                        back.push(key(family.instrument, point));
                        Some(told)
                    });
                    self.reading(family.instrument, point, now, told)
                }));
                Written { instrument: family.instrument, delta, readings }
            })
            .collect();
        // Instruments all of whose series went away.
        for Gone { instrument, .. } in &self.gone {
            if let Some(readings) = gone.remove(instrument.name) {
                families.push(Written { instrument, delta: self.is_delta(instrument), readings });
            }
        }
        self.back = back;
        self.tried = Some(Arc::clone(now));
        encode::metrics(resource, families)
    }

    /// The receiver has taken the last message.
    pub fn accepted(&mut self) {
        let before = std::mem::replace(&mut self.accepted, self.tried.clone());
        for key in std::mem::take(&mut self.back) {
            self.absent.remove(&key);
        }
        for Gone { instrument, point, reading } in std::mem::take(&mut self.gone) {
            if self.is_delta(instrument) {
                self.absent.insert(key(instrument, &point), (reading.time, point.value));
            }
        }
        let (Some(before), Some(now)) = (before, self.accepted.as_deref()) else { return };
        for family in before.families.iter().filter(|family| family.instrument.shape != Shape::Gauge) {
            if !self.is_delta(family.instrument) {
                continue;
            }
            let present = Before::of(Some(now), family);
            for (place, point) in family.points.iter().enumerate() {
                if present.point(place, point).is_none() {
                    let said = || (before.taken, point.value.clone());
                    self.absent.entry(key(family.instrument, point)).or_insert_with(said);
                }
            }
        }
        self.forget_those_longest_absent();
    }

    /// The receiver will never take what was in the last message. What goes on is told in the next one; what went away would be
    /// the same again.
    pub fn refused(&mut self) {
        self.forgotten += u64::try_from(self.gone.len()).unwrap_or(u64::MAX);
        self.gone.clear();
    }

    fn forget_those_longest_absent(&mut self) {
        let too_many = self.absent.len().saturating_sub(ABSENT_AT_MOST);
        if too_many > 0 {
            let mut all: Vec<_> = self.absent.iter().map(|(key, (time, _))| (*time, key.clone())).collect();
            all.sort_unstable();
            for (_, key) in &all[..too_many] {
                self.absent.remove(key);
            }
        }
    }

    /// When a series that is not in what arrived last was told, and what it said then.
    fn told_before(&self, instrument: &Instrument, point: &Point) -> Option<(SystemTime, &Value)> {
        if self.absent.is_empty() || instrument.shape == Shape::Gauge {
            return None;
        }
        self.absent.get(&key(instrument, point)).map(|(time, value)| (*time, value))
    }

    fn is_delta(&self, instrument: &Instrument) -> bool {
        // Read from the system as they are, and not counted here one by one.
        let observed = [&instruments::CPU, &instruments::THROTTLED, &instruments::RETRANSMITS];
        match self.temporality {
            Temporality::Cumulative => false,
            Temporality::Delta => true,
            Temporality::LowMemory => observed.iter().all(|other| other.name != instrument.name),
        }
    }

    fn note_what_went_away(&mut self, now: &Metrics) {
        // Who was not gone for good speaks for itself again.
        self.gone.retain(|gone| {
            let is_back = |point: &Point| is_same(point, &gone.point);
            !now.points(gone.instrument).iter().any(is_back)
        });
        let Some(tried) = self.tried.clone() else { return };
        // Where the last message arrived, nothing is left to tell.
        if self.accepted.as_ref().is_some_and(|accepted| Arc::ptr_eq(accepted, &tried)) {
            return;
        }
        for family in tried.families.iter().filter(|family| family.instrument.shape != Shape::Gauge) {
            let present = Before::of(Some(now), family);
            let before = Before::of(self.accepted.as_deref(), family);
            for (place, point) in family.points.iter().enumerate() {
                if present.point(place, point).is_some() {
                    continue;
                }
                let told = before.point(place, point).or_else(|| self.told_before(family.instrument, point));
                let amount = |value: &Value| Amount::of(value, self.buckets);
                let is_news = told.is_none_or(|(_, old)| amount(old) != amount(&point.value));
                let reading = self.reading(family.instrument, point, &tried, told).filter(|_| is_news);
                let instrument = family.instrument;
                let gone = reading.map(|reading| Gone { instrument, point: point.clone(), reading });
                self.gone.extend(gone);
            }
        }
        let too_many = self.gone.len().saturating_sub(GONE_AT_MOST);
        self.gone.drain(..too_many);
        self.forgotten += u64::try_from(too_many).unwrap_or(u64::MAX);
    }

    /// What this series says, given what it said when the receiver heard of it last.
    fn reading(
        &self,
        instrument: &Instrument,
        point: &Point,
        of: &Metrics,
        told: Option<(SystemTime, &Value)>,
    ) -> Option<Reading> {
        let mut amount = Amount::of(&point.value, self.buckets);
        let mut start = of.began.checked_add(point.born);
        if instrument.shape == Shape::Gauge {
            start = None;
        } else if let Some((heard, old)) = told
            && self.is_delta(instrument)
        {
            // What does not follow from the old one began anew.
            if let Some(rest) = amount.since(&Amount::of(old, self.buckets)) {
                amount = rest;
            }
            start = Some(heard);
        }
        let finite = !matches!(amount, Amount::Number(number) if !number.is_finite());
        finite.then(|| Reading { labels: point.labels.clone(), start, time: of.taken, amount })
    }
}

type Readings = BTreeMap<&'static str, Vec<Reading>>;

fn by_instrument(gone: &[Gone]) -> Readings {
    let mut families = Readings::new();
    for Gone { instrument, reading, .. } in gone {
        families.entry(instrument.name).or_default().push(reading.clone());
    }
    families
}

/// The series of one instrument in another snapshot.
struct Before<'a> {
    taken: SystemTime,
    points: &'a [Point],
    /// Made only where the series do not stand in the same places, as they nearly always do.
    index: BTreeMap<(&'a [Arc<str>], Duration), &'a Point>,
}

impl<'a> Before<'a> {
    fn of(metrics: Option<&'a Metrics>, family: &Family) -> Self {
        let points = metrics.map_or(&[][..], |metrics| metrics.points(family.instrument));
        let same = points.len() == family.points.len()
            && points.iter().zip(&family.points).all(|(one, other)| is_same(one, other));
        let index = if same {
            BTreeMap::new()
        } else {
            points.iter().map(|point| ((point.labels.as_slice(), point.born), point)).collect()
        };
        Self { taken: metrics.map_or(SystemTime::UNIX_EPOCH, |metrics| metrics.taken), points, index }
    }

    fn point(&self, place: usize, point: &Point) -> Option<(SystemTime, &'a Value)> {
        let there = self.points.get(place).filter(|other| is_same(other, point));
        let found = there.or_else(|| self.index.get(&(point.labels.as_slice(), point.born)).copied());
        found.map(|found| (self.taken, &found.value))
    }
}

/// A series that began again is another one.
fn is_same(one: &Point, other: &Point) -> bool {
    one.born == other.born && one.labels == other.labels
}

impl Amount {
    fn of(value: &Value, buckets: Buckets) -> Self {
        match value {
            Value::Number(number) | Value::Sum(number) => Self::Number(*number),
            Value::Count(count) => Self::Whole(*count),
            Value::Distribution(_, Some(exponential)) if buckets == Buckets::Exponential => {
                Self::Exponential(exponential.as_ref().into())
            }
            Value::Distribution(histogram, _) => Self::buckets(histogram),
        }
    }

    fn buckets(histogram: &Histogram) -> Self {
        Self::Buckets {
            edges: histogram.edges().to_vec(),
            counts: histogram.counts().to_vec(),
            sum: histogram.sum(),
        }
    }

    /// What came since then; `None` where it does not follow from that.
    fn since(&self, old: &Self) -> Option<Self> {
        match (self, old) {
            (Self::Whole(now), Self::Whole(old)) => now.checked_sub(*old).map(Self::Whole),
            (Self::Number(now), Self::Number(old)) => (now >= old).then_some(Self::Number(now - old)),
            (
                Self::Buckets { edges, counts, sum },
                Self::Buckets { edges: old_edges, counts: old_counts, sum: old_sum },
            ) if edges == old_edges => Some(Self::Buckets {
                edges: edges.clone(),
                counts: less(counts, old_counts)?,
                sum: sum.checked_sub(*old_sum)?,
            }),
            (Self::Exponential(now), Self::Exponential(old)) => now.since(old).map(Self::Exponential),
            _ => None,
        }
    }
}

fn less(counts: &[u64], old: &[u64]) -> Option<Vec<u64>> {
    counts.iter().zip(old).map(|(now, old)| now.checked_sub(*old)).collect()
}

impl Spread {
    /// The old one's buckets are joined to ours first, which are as wide or wider.
    fn since(&self, old: &Self) -> Option<Self> {
        let by = u32::try_from(old.scale - self.scale).ok()?.min(i32::BITS - 1);
        let mut counts = self.counts.clone();
        for (place, count) in (0..).zip(&old.counts).filter(|(_, count)| **count > 0) {
            let index = (old.offset + place) >> by;
            let at = usize::try_from(index - self.offset).ok()?;
            let bucket = counts.get_mut(at)?;
            *bucket = bucket.checked_sub(*count)?;
        }
        let leading = counts.iter().take_while(|count| **count == 0).count();
        let trailing = counts.iter().rev().take_while(|count| **count == 0).count();
        counts.truncate(counts.len() - trailing.min(counts.len()));
        counts.drain(..leading.min(counts.len()));
        let offset = if counts.is_empty() { 0 } else { self.offset + i32::try_from(leading).ok()? };
        Some(Self {
            scale: self.scale,
            offset,
            counts,
            zeros: self.zeros.checked_sub(old.zeros)?,
            sum: self.sum.checked_sub(old.sum)?,
        })
    }
}

#[cfg(test)]
mod tests;
