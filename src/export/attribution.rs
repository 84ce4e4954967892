//! Whose slowness it is, as JSON and as text. Every figure of the sentence can be worked out again from the JSON.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::json::micros;
use crate::mesh::attribution::{Attribution, Backend, Figure, Origin, Range, SLUGGISH, Values};

#[derive(Serialize)]
pub(super) struct AttributionJson<'a> {
    url: &'a str,
    verdict: Origin,
    sentence: &'a str,
    age_us: Option<f64>,
    failure: Option<&'a str>,
    budget_us: f64,
    sluggish_us: f64,
    database: Option<Database<'a>>,
    ping: Option<FigureJson>,
    api: Option<FigureJson>,
    pubsub: Vec<Pubsub>,
}

/// Our link to the database.
#[derive(Serialize)]
struct Database<'a> {
    name: &'a str,
    reason: &'static str,
    samples: u32,
    p50_us: Option<f64>,
    p95_us: Option<f64>,
}

#[derive(Serialize)]
struct Pubsub {
    backend: Backend,
    send: Option<FigureJson>,
    receive: Option<FigureJson>,
}

#[derive(Serialize)]
struct FigureJson {
    shape: &'static str,
    count: u64,
    covered_us: Option<f64>,
    p50_us: Option<Stretch>,
    p95_us: Option<Stretch>,
    buckets_us: Vec<Bucket>,
}

/// Above `from`, and at most `to`; `null` is without an end.
#[derive(Serialize)]
struct Stretch {
    from: f64,
    to: Option<f64>,
}

#[derive(Serialize)]
struct Bucket {
    from: f64,
    to: Option<f64>,
    count: u64,
}

impl<'a> AttributionJson<'a> {
    pub(super) fn of(attribution: &'a Attribution) -> Self {
        let database = attribution.database.as_ref().map(|link| Database {
            name: &link.name,
            reason: link.reason,
            samples: link.samples,
            p50_us: link.p50.map(micros),
            p95_us: link.p95.map(micros),
        });
        Self {
            url: &attribution.url,
            verdict: attribution.origin,
            sentence: &attribution.sentence,
            age_us: attribution.age.map(micros),
            failure: attribution.failure.as_deref(),
            budget_us: micros(attribution.budget),
            sluggish_us: micros(SLUGGISH),
            database,
            ping: attribution.ping.as_ref().map(figure),
            api: attribution.api.as_ref().map(figure),
            pubsub: attribution
                .pubsub
                .iter()
                .map(|one| Pubsub {
                    backend: one.backend,
                    send: one.send.as_ref().map(figure),
                    receive: one.receive.as_ref().map(figure),
                })
                .collect(),
        }
    }
}

fn figure(figure: &Figure) -> FigureJson {
    let (shape, buckets) = match &figure.values {
        Values::Histogram(histogram) => ("histogram", histogram.buckets().map(bucket).collect()),
        Values::Readings(readings) => ("gauge", readings.iter().map(|reading| exact(*reading)).collect()),
    };
    FigureJson {
        shape,
        count: figure.count(),
        covered_us: figure.covered.map(micros),
        p50_us: figure.quantile(0.5).map(stretch),
        p95_us: figure.quantile(0.95).map(stretch),
        buckets_us: buckets,
    }
}

fn stretch(range: Range) -> Stretch {
    Stretch { from: micros(range.from), to: range.to.map(micros) }
}

fn bucket((range, count): (Range, u64)) -> Bucket {
    Bucket { from: micros(range.from), to: range.to.map(micros), count }
}

fn exact(reading: Duration) -> Bucket {
    Bucket { from: micros(reading), to: Some(micros(reading)), count: 1 }
}

/// A line for each address, and what carries its messages.
pub(super) fn write(out: &mut String, attributions: &[Attribution]) -> fmt::Result {
    for attribution in attributions {
        writeln!(out, "· {} {}: {}", attribution.url, attribution.origin.as_str(), attribution.sentence)?;
        if let Some(why) = attribution.failure.as_ref().filter(|why| !attribution.sentence.contains(*why)) {
            writeln!(out, "    lately: {why}")?;
        }
        for one in &attribution.pubsub {
            let Some(figure) = one.receive.as_ref().or(one.send.as_ref()) else { continue };
            let backend = one.backend.as_str();
            writeln!(out, "    pubsub: {backend}, p95 of {}: {}", figure.count(), figure.p95_in_words())?;
        }
    }
    Ok(())
}
