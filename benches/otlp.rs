//! Our way to OTLP beside that of OpenTelemetry's SDK: to count durations of 1,000 targets in histograms, and to make one export of
//! them that is ready to be sent.
//!
//! `cargo bench --bench otlp`. Both make the same message: 1,000 histograms with three labels each. The SDK is timed from
//! `force_flush` to its return, through an exporter that encodes and drops; ours from the snapshot to the bytes. Machines differ
//! and are shared, so the bench fails only where ours is twice as slow as the SDK.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality as SdkTemporality,
};
use probe::export::instruments;
use probe::export::metrics::{Family, Metrics, Point, Value};
use probe::export::otlp::ledger::Ledger;
use probe::export::otlp::settings::{Buckets, Temporality};
use probe::mesh::histogram::Edges;
use probe::mesh::meter::{Meter, Scale};
use probes::stopwatch::Stopwatch;
use prost::Message;

const TARGETS: usize = 1000;
const ROUNDS: usize = 21;
const SAMPLES: usize = 100;

/// What one way costs.
struct Cost {
    record_ns: f64,
    export_ms: f64,
    bytes: usize,
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// From 0.3 to 1.2 ms, in no order.
fn duration(sample: usize) -> Duration {
    Duration::from_nanos(300_000 + (sample as u64).wrapping_mul(7919) % 900_000)
}

fn ours(buckets: Buckets, temporality: Temporality) -> Cost {
    let scale = Scale { exponential: buckets == Buckets::Exponential, ..Scale::default() };
    let mut meters: Vec<_> = (0..TARGETS).map(|_| Meter::new(&scale, Duration::ZERO)).collect();
    let labels: Vec<Vec<Arc<str>>> = (0..TARGETS)
        .map(|target| vec!["coderd-1".into(), format!("peer-{target}").into(), "peer".into()])
        .collect();
    let mut ledger = Ledger::new(temporality, buckets);
    let (mut records, mut exports, mut bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let watch = Stopwatch::start();
        for sample in 0..SAMPLES {
            meters
                .iter_mut()
                .enumerate()
                .for_each(|(target, meter)| meter.record(duration(sample * TARGETS + target)));
        }
        records.push(watch.elapsed().as_nanos() as f64 / (SAMPLES * TARGETS) as f64);
        let watch = Stopwatch::start();
        let points = meters.iter().zip(&labels).map(|(meter, labels)| Point {
            labels: labels.clone(),
            born: meter.born,
            value: Value::Distribution(meter.histogram.clone(), meter.exponential.clone()),
        });
        let metrics = Arc::new(Metrics {
            began: SystemTime::UNIX_EPOCH,
            taken: SystemTime::UNIX_EPOCH + Duration::from_secs(1 + round as u64),
            families: vec![Family { instrument: &instruments::PEER_RTT, points: points.collect() }],
        });
        bytes = ledger.write(&metrics, Resource::default()).encode_to_vec().len();
        ledger.accepted();
        exports.push(watch.elapsed().as_secs_f64() * 1e3);
    }
    Cost { record_ns: median(records), export_ms: median(exports), bytes }
}

/// Encodes as the SDK's exporters do, and sends nowhere.
struct Nowhere {
    temporality: SdkTemporality,
    bytes: Arc<AtomicUsize>,
}

impl PushMetricExporter for Nowhere {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let bytes = ExportMetricsServiceRequest::from(metrics).encode_to_vec().len();
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> SdkTemporality {
        self.temporality
    }
}

fn sdk(buckets: Buckets, temporality: Temporality) -> Cost {
    let temporality =
        if temporality == Temporality::Delta { SdkTemporality::Delta } else { SdkTemporality::Cumulative };
    let bytes = Arc::new(AtomicUsize::new(0));
    let exporter = Nowhere { temporality, bytes: Arc::clone(&bytes) };
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_secs(86_400)).build();
    let edges: Vec<f64> = Edges::default().all().iter().map(Duration::as_secs_f64).collect();
    let provider = SdkMeterProvider::builder()
        .with_reader(reader)
        .with_view(move |_: &Instrument| {
            let aggregation = match buckets {
                Buckets::Explicit => {
                    Aggregation::ExplicitBucketHistogram { boundaries: edges.clone(), record_min_max: false }
                }
                Buckets::Exponential => Aggregation::Base2ExponentialHistogram {
                    max_size: 160,
                    max_scale: 6,
                    record_min_max: false,
                },
            };
            Stream::builder().with_aggregation(aggregation).with_cardinality_limit(2 * TARGETS).build().ok()
        })
        .build();
    let histogram = provider.meter("probe").f64_histogram("coder.probe.peer.rtt").with_unit("s").build();
    let labels: Vec<_> = (0..TARGETS)
        .map(|target| {
            [
                KeyValue::new("source", "coderd-1"),
                KeyValue::new("target", format!("peer-{target}")),
                KeyValue::new("target_kind", "peer"),
            ]
        })
        .collect();
    let (mut records, mut exports) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let watch = Stopwatch::start();
        for sample in 0..SAMPLES {
            for (target, labels) in labels.iter().enumerate() {
                histogram.record(duration(sample * TARGETS + target).as_secs_f64(), labels);
            }
        }
        records.push(watch.elapsed().as_nanos() as f64 / (SAMPLES * TARGETS) as f64);
        let watch = Stopwatch::start();
        provider.force_flush().expect("the exporter never fails");
        exports.push(watch.elapsed().as_secs_f64() * 1e3);
    }
    Cost { record_ns: median(records), export_ms: median(exports), bytes: bytes.load(Ordering::Relaxed) }
}

fn main() {
    let mut slower = false;
    let mut table = "| 1,000 targets | record, ours / SDK | export, ours / SDK | message, ours / SDK |\n|---|---|---|---|\n".to_owned();
    for (buckets, temporality) in [
        (Buckets::Explicit, Temporality::Cumulative),
        (Buckets::Explicit, Temporality::Delta),
        (Buckets::Exponential, Temporality::Cumulative),
        (Buckets::Exponential, Temporality::Delta),
    ] {
        let (ours, sdk) = (ours(buckets, temporality), sdk(buckets, temporality));
        slower |= ours.record_ns > 2.0 * sdk.record_ns || ours.export_ms > 2.0 * sdk.export_ms;
        table.push_str(&format!(
            "| {buckets:?}, {temporality:?} | {:.0} / {:.0} ns | {:.1} / {:.1} ms | {} / {} kB |\n",
            ours.record_ns,
            sdk.record_ns,
            ours.export_ms,
            sdk.export_ms,
            ours.bytes / 1000,
            sdk.bytes / 1000
        ));
    }
    // A reader that went away is nobody's fault.
    let _ = std::io::stdout().write_all(table.as_bytes());
    assert!(!slower, "ours is more than twice as slow");
}
