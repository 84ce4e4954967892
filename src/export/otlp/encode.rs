//! Figures and events as OTLP's messages. Pure: what they count from is [`super::ledger`]'s business.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::resource::{SCHEMA_URL, attribute, text};
use crate::export::events::{Attribute, Event, Gravity};
use crate::export::instruments::{Instrument, Shape};
use crate::mesh::exponential::Exponential;

/// The semantic convention for telling a record that came twice.
const UID: &str = "log.record.uid";

/// A point that is ready to be written: what it says since `start`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// One value a label of the instrument.
    pub labels: Vec<Arc<str>>,
    /// What it counts from; `None` for a gauge.
    pub start: Option<SystemTime>,
    /// When it was read.
    pub time: SystemTime,
    /// What it says.
    pub amount: Amount,
}

/// What a point says.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// A whole number.
    Whole(u64),
    /// Another number.
    Number(f64),
    /// Durations in buckets with edges.
    Buckets {
        /// The edges, rising.
        edges: Vec<Duration>,
        /// One more than there are edges.
        counts: Vec<u64>,
        /// All durations together.
        sum: Duration,
    },
    /// Durations in exponential buckets.
    Exponential(Spread),
}

/// An exponential histogram, or what is left of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// Buckets grow by a factor of 2^(2^-scale).
    pub scale: i32,
    /// The index of the first bucket.
    pub offset: i32,
    /// From there on.
    pub counts: Vec<u64>,
    /// How many were zero.
    pub zeros: u64,
    /// All durations together.
    pub sum: Duration,
}

impl From<&Exponential> for Spread {
    fn from(all: &Exponential) -> Self {
        let (offset, counts) = all.buckets();
        Self { scale: all.scale(), offset, counts: counts.to_vec(), zeros: all.zeros(), sum: all.sum() }
    }
}

/// One instrument's points, all with one temporality.
pub struct Written {
    /// Which one.
    pub instrument: &'static Instrument,
    /// Whether its counts are since the last export.
    pub delta: bool,
    /// Its points.
    pub readings: Vec<Reading>,
}

/// The message of these.
pub fn metrics(
    resource: Resource,
    families: impl IntoIterator<Item = Written>,
) -> ExportMetricsServiceRequest {
    let metrics =
        families.into_iter().filter(|family| !family.readings.is_empty()).flat_map(metric).collect();
    let scope = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
    let all = ResourceMetrics {
        resource: Some(resource),
        scope_metrics: vec![scope],
        schema_url: SCHEMA_URL.to_owned(),
    };
    ExportMetricsServiceRequest { resource_metrics: vec![all] }
}

/// The message of these events, in their order.
pub fn logs<'a>(resource: Resource, events: impl IntoIterator<Item = &'a Event>) -> ExportLogsServiceRequest {
    let log_records = events.into_iter().map(record).collect();
    let scope = ScopeLogs { scope: Some(scope()), log_records, ..ScopeLogs::default() };
    let all =
        ResourceLogs { resource: Some(resource), scope_logs: vec![scope], schema_url: SCHEMA_URL.to_owned() };
    ExportLogsServiceRequest { resource_logs: vec![all] }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "probe".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Usually one; two where some points have exponential buckets and others have edges.
fn metric(family: Written) -> Vec<Metric> {
    let Written { instrument, delta, readings } = family;
    let temporality =
        if delta { AggregationTemporality::Delta } else { AggregationTemporality::Cumulative } as i32;
    let of = |data| Metric {
        name: instrument.name.to_owned(),
        description: instrument.help.to_owned(),
        unit: instrument.unit.ucum(),
        data: Some(data),
        ..Metric::default()
    };
    let (mut numbers, mut edged, mut exponential) = (Vec::new(), Vec::new(), Vec::new());
    for reading in readings {
        let attributes = labels(instrument, &reading.labels);
        let time = nanoseconds(reading.time);
        // A wall clock that was set back must not make a point begin after it was taken.
        let start = reading.start.map_or(0, nanoseconds).min(time);
        match reading.amount {
            Amount::Whole(count) => {
                let whole = i64::try_from(count).unwrap_or(i64::MAX);
                numbers.push(number(attributes, start, time, number_data_point::Value::AsInt(whole)));
            }
            Amount::Number(value) => {
                numbers.push(number(attributes, start, time, number_data_point::Value::AsDouble(value)));
            }
            Amount::Buckets { edges, counts, sum } => edged.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count: counts.iter().sum(),
                sum: Some(sum.as_secs_f64()),
                bucket_counts: counts,
                explicit_bounds: edges.iter().map(Duration::as_secs_f64).collect(),
                ..HistogramDataPoint::default()
            }),
            Amount::Exponential(spread) => exponential.push(ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count: spread.zeros + spread.counts.iter().sum::<u64>(),
                sum: Some(spread.sum.as_secs_f64()),
                scale: spread.scale,
                zero_count: spread.zeros,
                positive: Some(Buckets { offset: spread.offset, bucket_counts: spread.counts }),
                ..ExponentialHistogramDataPoint::default()
            }),
        }
    }
    let mut metrics = Vec::new();
    if !numbers.is_empty() {
        metrics.push(of(match instrument.shape {
            Shape::Gauge => Data::Gauge(Gauge { data_points: numbers }),
            Shape::Counter | Shape::Histogram => Data::Sum(Sum {
                data_points: numbers,
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
        }));
    }
    if !edged.is_empty() {
        metrics.push(of(Data::Histogram(Histogram {
            data_points: edged,
            aggregation_temporality: temporality,
        })));
    }
    if !exponential.is_empty() {
        metrics.push(of(Data::ExponentialHistogram(ExponentialHistogram {
            data_points: exponential,
            aggregation_temporality: temporality,
        })));
    }
    metrics
}

fn number(
    attributes: Vec<KeyValue>,
    start: u64,
    time: u64,
    value: number_data_point::Value,
) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: time,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

/// A label without a value says nothing, as in Prometheus.
fn labels(instrument: &Instrument, values: &[Arc<str>]) -> Vec<KeyValue> {
    let pairs = instrument.labels.iter().zip(values).filter(|(_, value)| !value.is_empty());
    pairs.map(|(key, value)| text(*key, &**value)).collect()
}

fn record(event: &Event) -> LogRecord {
    let at = nanoseconds(event.at);
    let mut attributes: Vec<KeyValue> = Vec::with_capacity(event.attributes.len() + 1);
    attributes.push(text(UID, event.id.as_str()));
    attributes.extend(event.attributes.iter().map(|(key, value)| {
        attribute(
            key.as_ref(),
            match value {
                Attribute::Whole(number) => any_value::Value::IntValue(*number),
                Attribute::Number(number) => any_value::Value::DoubleValue(*number),
                Attribute::Text(text) => any_value::Value::StringValue(text.clone()),
            },
        )
    }));
    let severity_text = match event.gravity {
        Gravity::Info => "INFO",
        Gravity::Warn => "WARN",
        Gravity::Error => "ERROR",
    };
    LogRecord {
        time_unix_nano: at,
        // Whoever sees it happen makes the event.
        observed_time_unix_nano: at,
        severity_number: event.gravity as i32,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue { value: Some(any_value::Value::StringValue(event.body.clone())) }),
        attributes,
        event_name: event.name.clone().into_owned(),
        ..LogRecord::default()
    }
}

/// Since 1970; before is 0, which means unknown.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
