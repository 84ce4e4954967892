//! A receiver that adds up what it gets, against what there was.

use std::time::UNIX_EPOCH;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    number_data_point,
};

use super::*;
use crate::mesh::exponential::Exponential;
use crate::mesh::histogram::Edges;

mod adds_up;

const BEGAN: Duration = Duration::from_secs(1_000_000);

/// One link: how often it was asked and how long that took.
#[derive(Debug, Clone)]
struct Series {
    name: Arc<str>,
    born: Duration,
    asked: u64,
    histogram: Histogram,
    exponential: Exponential,
}

impl Series {
    fn new(name: &str, born: Duration) -> Self {
        Self {
            name: name.into(),
            born,
            asked: 0,
            histogram: Histogram::new(&Edges::default()),
            exponential: Exponential::default(),
        }
    }

    fn ask(&mut self, micros: u64) {
        let took = Duration::from_micros(micros);
        self.asked += 1;
        self.histogram.record(took);
        self.exponential.record(took);
    }
}

fn snapshot(series: &[Series], at: Duration) -> Arc<Metrics> {
    let point = |one: &Series, labels: &[&str], value| Point {
        labels: std::iter::once(Arc::clone(&one.name))
            .chain(labels.iter().map(|label| (*label).into()))
            .collect(),
        born: one.born,
        value,
    };
    let family = |instrument: &'static Instrument, value: &dyn Fn(&Series) -> Value, labels: &[&str]| {
        Family { instrument, points: series.iter().map(|one| point(one, labels, value(one))).collect() }
    };
    let began = UNIX_EPOCH + BEGAN;
    Arc::new(Metrics {
        began,
        taken: began + at,
        families: vec![
            family(&instruments::TARGETS, &|one| Value::Number(one.asked as f64), &["peer"]),
            family(&instruments::JUDGED, &|one| Value::Count(one.asked), &["b", "peer"]),
            family(&instruments::CPU, &|one| Value::Sum(one.histogram.sum().as_secs_f64()), &[]),
            family(
                &instruments::PEER_RTT,
                &|one| Value::Distribution(one.histogram.clone(), Some(Box::new(one.exponential.clone()))),
                &["b", "peer"],
            ),
        ],
    })
}

fn metrics(message: &ExportMetricsServiceRequest) -> &[Metric] {
    &message.resource_metrics[0].scope_metrics[0].metrics
}

fn find<'a>(message: &'a ExportMetricsServiceRequest, instrument: &Instrument) -> &'a Data {
    let found = metrics(message).iter().find(|metric| metric.name == instrument.name);
    found.and_then(|metric| metric.data.as_ref()).unwrap_or_else(|| panic!("{} is missing", instrument.name))
}

fn sums(message: &ExportMetricsServiceRequest, instrument: &Instrument) -> (i32, Vec<NumberDataPoint>) {
    match find(message, instrument) {
        Data::Sum(sum) if sum.is_monotonic => (sum.aggregation_temporality, sum.data_points.clone()),
        other => panic!("{other:?}"),
    }
}

fn edged(message: &ExportMetricsServiceRequest) -> Vec<HistogramDataPoint> {
    match find(message, &instruments::PEER_RTT) {
        Data::Histogram(histogram) => histogram.data_points.clone(),
        other => panic!("{other:?}"),
    }
}

fn exponential(message: &ExportMetricsServiceRequest) -> Vec<ExponentialHistogramDataPoint> {
    match find(message, &instruments::PEER_RTT) {
        Data::ExponentialHistogram(histogram) => histogram.data_points.clone(),
        other => panic!("{other:?}"),
    }
}

fn whole(point: &NumberDataPoint) -> u64 {
    match point.value {
        Some(number_data_point::Value::AsInt(count)) => count.try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn called(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |pair: &KeyValue| match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn nanos(since_began: Duration) -> u64 {
    u64::try_from((BEGAN + since_began).as_nanos()).unwrap()
}

const S: fn(u64) -> Duration = Duration::from_secs;

fn write(ledger: &mut Ledger, series: &[Series], at: u64) -> ExportMetricsServiceRequest {
    ledger.write(&snapshot(series, S(at)), Resource::default())
}

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;
const DELTA: i32 = AggregationTemporality::Delta as i32;

#[test]
fn each_shape_becomes_what_it_is_with_its_labels_and_its_birth() {
    let mut one = Series::new("a", S(5));
    one.ask(10_000);
    one.ask(10_001);
    let mut ledger = Ledger::new(Temporality::Cumulative, Buckets::Explicit);
    let message = write(&mut ledger, std::slice::from_ref(&one), 65);
    let (temporality, points) = sums(&message, &instruments::JUDGED);
    assert_eq!((temporality, points.len(), whole(&points[0])), (CUMULATIVE, 1, 2));
    assert_eq!((points[0].start_time_unix_nano, points[0].time_unix_nano), (nanos(S(5)), nanos(S(65))));
    let labels = [("source", "a"), ("target", "b"), ("target_kind", "peer")];
    assert_eq!(called(&points[0].attributes), labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let Data::Gauge(gauge) = find(&message, &instruments::TARGETS) else { panic!("no gauge") };
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(2.0)));
    assert_eq!(gauge.data_points[0].start_time_unix_nano, 0, "a gauge counts from nothing");
    let histogram = &edged(&message)[0];
    assert_eq!((histogram.count, histogram.sum), (2, Some(0.020_001)));
    assert_eq!(histogram.bucket_counts.len(), histogram.explicit_bounds.len() + 1);
    let at_most = histogram.explicit_bounds.iter().position(|bound| *bound == 0.01).unwrap();
    assert_eq!(
        histogram.bucket_counts[at_most..at_most + 2],
        [1, 1],
        "10 ms belongs to the bucket up to 10 ms"
    );
    let unit = |instrument: &Instrument| {
        metrics(&message).iter().find(|metric| metric.name == instrument.name).unwrap().unit.clone()
    };
    assert_eq!((unit(&instruments::PEER_RTT), unit(&instruments::JUDGED)), ("s".into(), "{sample}".into()));
    let scope = message.resource_metrics[0].scope_metrics[0].scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("probe", env!("CARGO_PKG_VERSION")));

    let mut ledger = Ledger::new(Temporality::Cumulative, Buckets::Exponential);
    let histogram = &exponential(&write(&mut ledger, &[one], 65))[0];
    assert_eq!(
        (histogram.count, histogram.zero_count, histogram.scale),
        (2, 0, crate::mesh::exponential::FINEST)
    );
    let upper = 2_f64.powf(f64::from(histogram.positive.as_ref().unwrap().offset + 1) / 64.0);
    assert!((0.01..0.0102).contains(&upper), "{upper}");
}

#[test]
fn a_failed_delta_is_folded_into_the_next_and_begins_where_the_last_one_that_arrived_ended() {
    let mut ledger = Ledger::new(Temporality::Delta, Buckets::Explicit);
    let mut one = Series::new("a", S(0));
    let mut ask = |times: u64| {
        (0..times).for_each(|_| one.ask(700));
        vec![one.clone()]
    };
    let told = |message: &ExportMetricsServiceRequest| {
        let (temporality, points) = sums(message, &instruments::JUDGED);
        assert_eq!(temporality, DELTA);
        assert_eq!(edged(message)[0].count, whole(&points[0]));
        (whole(&points[0]), points[0].start_time_unix_nano, points[0].time_unix_nano)
    };
    assert_eq!(told(&write(&mut ledger, &ask(3), 60)), (3, nanos(S(0)), nanos(S(60))));
    ledger.accepted();
    assert_eq!(told(&write(&mut ledger, &ask(5), 120)), (5, nanos(S(60)), nanos(S(120))));
    // That one did not arrive.
    assert_eq!(told(&write(&mut ledger, &ask(7), 180)), (12, nanos(S(60)), nanos(S(180))));
    ledger.accepted();
    assert_eq!(told(&write(&mut ledger, &ask(0), 240)), (0, nanos(S(180)), nanos(S(240))));
}

#[test]
fn what_went_away_while_the_receiver_did_is_told_when_it_is_back() {
    for (temporality, expected) in [(Temporality::Delta, 3), (Temporality::Cumulative, 5)] {
        let mut ledger = Ledger::new(temporality, Buckets::Exponential);
        let (mut stays, mut goes) = (Series::new("stays", S(0)), Series::new("goes", S(0)));
        (0..2).for_each(|_| goes.ask(700));
        write(&mut ledger, &[goes.clone(), stays.clone()], 60);
        ledger.accepted();
        (0..3).for_each(|_| goes.ask(700));
        stays.ask(700);
        write(&mut ledger, &[goes.clone(), stays.clone()], 120);
        // It fails, `goes` goes, and another of its name comes.
        write(&mut ledger, std::slice::from_ref(&stays), 180);
        let mut anew = Series::new("goes", S(200));
        anew.ask(1);
        let message = write(&mut ledger, &[anew.clone(), stays.clone()], 240);
        let (_, points) = sums(&message, &instruments::JUDGED);
        let told: Vec<_> = points
            .iter()
            .map(|point| (called(&point.attributes)[0].1.clone(), whole(point), point.time_unix_nano))
            .collect();
        let expected = [("goes", expected, 120), ("goes", 1, 240), ("stays", 1, 240)];
        let expected = expected.map(|(name, count, at)| (name.to_owned(), count, nanos(S(at))));
        assert_eq!(told, expected, "{temporality:?}");
        assert_eq!(exponential(&message)[0].count, told[0].1);
        ledger.accepted();
        let message = write(&mut ledger, &[anew], 300);
        assert_eq!(sums(&message, &instruments::JUDGED).1.len(), 1, "and is told once");
        assert_eq!(ledger.forgotten(), 0);
    }
}

#[test]
fn a_series_that_was_out_of_sight_for_a_while_is_not_told_twice() {
    let mut ledger = Ledger::new(Temporality::Delta, Buckets::Explicit);
    let mut one = Series::new("a", S(0));
    one.ask(700);
    write(&mut ledger, &[one.clone()], 60);
    write(&mut ledger, &[], 120);
    one.ask(700);
    let message = write(&mut ledger, &[one], 180);
    let (_, points) = sums(&message, &instruments::JUDGED);
    assert_eq!(points.iter().map(whole).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_series_that_is_in_no_message_for_a_while_tells_only_its_growth_when_it_is_back() {
    for buckets in [Buckets::Explicit, Buckets::Exponential] {
        let mut ledger = Ledger::new(Temporality::Delta, buckets);
        let mut one = Series::new("a", S(0));
        let mut told = Vec::new();
        let mut tell = |ledger: &mut Ledger, series: &[Series], at, arrives: bool| {
            let message = write(ledger, series, at);
            if arrives {
                ledger.accepted();
            }
            if metrics(&message).is_empty() {
                return told.push(None);
            }
            let point = sums(&message, &instruments::JUDGED).1.remove(0);
            let counted = match buckets {
                Buckets::Explicit => edged(&message)[0].count,
                Buckets::Exponential => exponential(&message)[0].count,
            };
            assert_eq!(counted, whole(&point));
            told.push(Some((whole(&point), point.start_time_unix_nano)));
        };
        (0..2).for_each(|_| one.ask(700));
        tell(&mut ledger, &[one.clone()], 60, true);
        tell(&mut ledger, &[], 120, true);
        tell(&mut ledger, &[], 180, true);
        (0..3).for_each(|_| one.ask(700));
        tell(&mut ledger, &[one.clone()], 240, false);
        one.ask(700);
        tell(&mut ledger, &[one.clone()], 300, true);
        one.ask(700);
        tell(&mut ledger, &[one.clone()], 360, true);
        // What was told of one that had gone counts as well.
        one.ask(700);
        tell(&mut ledger, &[one.clone()], 420, false);
        tell(&mut ledger, &[], 480, true);
        (0..5).for_each(|_| one.ask(700));
        tell(&mut ledger, &[one.clone()], 540, true);
        let expected = [
            Some((2, nanos(S(0)))),
            None,
            None,
            Some((3, nanos(S(60)))),
            Some((4, nanos(S(60)))),
            Some((1, nanos(S(300)))),
            Some((1, nanos(S(360)))),
            Some((1, nanos(S(360)))),
            Some((5, nanos(S(420)))),
        ];
        assert_eq!(told, expected);
    }
}

#[test]
fn those_that_were_absent_longest_are_forgotten_first_and_gone_for_good_cost_no_more_than_so_much() {
    let mut ledger = Ledger::new(Temporality::Delta, Buckets::Explicit);
    for round in 0..2000 {
        let mut one = Series::new(&format!("{round}"), S(0));
        one.ask(700);
        write(&mut ledger, &[one], round);
        ledger.accepted();
    }
    assert_eq!(ledger.absent.len(), ABSENT_AT_MOST);
    let oldest = ledger.absent.keys().map(|(_, labels, _)| labels[0].parse::<u64>().unwrap()).min();
    assert_eq!(oldest, Some(1657), "each has three");
}

#[test]
fn what_is_refused_is_not_told_again_where_it_went_away_and_is_counted() {
    let mut ledger = Ledger::new(Temporality::Delta, Buckets::Explicit);
    let (mut stays, mut goes) = (Series::new("stays", S(0)), Series::new("goes", S(0)));
    goes.ask(700);
    stays.ask(700);
    write(&mut ledger, &[goes, stays.clone()], 60);
    // It fails; the next one is refused.
    let message = write(&mut ledger, std::slice::from_ref(&stays), 120);
    assert_eq!(sums(&message, &instruments::JUDGED).1.len(), 2);
    ledger.refused();
    assert_eq!(ledger.forgotten(), 3, "a counter and a histogram, and the seconds of a CPU");
    stays.ask(700);
    let message = write(&mut ledger, &[stays], 180);
    let points = sums(&message, &instruments::JUDGED).1;
    assert_eq!(points.iter().map(whole).collect::<Vec<_>>(), [2], "what goes on is told nevertheless");
}

#[test]
fn little_memory_at_the_receiver_means_deltas_of_what_is_counted_here() {
    let mut ledger = Ledger::new(Temporality::LowMemory, Buckets::Explicit);
    let message = write(&mut ledger, &[Series::new("a", S(0))], 60);
    assert_eq!(sums(&message, &instruments::JUDGED).0, DELTA);
    assert_eq!(sums(&message, &instruments::CPU).0, CUMULATIVE);
}

#[test]
fn a_clock_that_is_set_back_makes_no_point_that_begins_after_its_end() {
    let mut ledger = Ledger::new(Temporality::Delta, Buckets::Explicit);
    write(&mut ledger, &[Series::new("a", S(0))], 60);
    ledger.accepted();
    let (_, points) = sums(&write(&mut ledger, &[Series::new("a", S(0))], 30), &instruments::JUDGED);
    assert_eq!((points[0].start_time_unix_nano, points[0].time_unix_nano), (nanos(S(30)), nanos(S(30))));
}

#[test]
fn other_edges_after_a_reload_begin_a_histogram_anew() {
    let mut one = Series::new("a", S(0));
    one.ask(700);
    let mut ledger = Ledger::new(Temporality::Delta, Buckets::Explicit);
    write(&mut ledger, &[one.clone()], 60);
    ledger.accepted();
    one.histogram = Histogram::new(&Edges::with([Duration::from_millis(7)]));
    one.histogram.record(Duration::from_millis(7));
    let point = edged(&write(&mut ledger, &[one], 120)).remove(0);
    assert_eq!((point.count, point.start_time_unix_nano), (1, nanos(S(60))));
}
