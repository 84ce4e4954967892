//! A message that is too long for its receiver, in several.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};

/// How many points are in it.
pub fn points(message: &ExportMetricsServiceRequest) -> usize {
    let scopes = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    scopes.flat_map(|scope| &scope.metrics).map(of_metric).sum()
}

/// The same points in their order, at most so many in each message.
pub fn split(message: ExportMetricsServiceRequest, at_most: usize) -> Vec<ExportMetricsServiceRequest> {
    let at_most = at_most.max(1);
    if points(&message) <= at_most {
        return vec![message];
    }
    let mut parts = Vec::new();
    for ResourceMetrics { resource, scope_metrics, schema_url } in message.resource_metrics {
        for ScopeMetrics { scope, metrics, schema_url: of_scope } in scope_metrics {
            for metrics in portions(metrics, at_most) {
                let scope = ScopeMetrics { scope: scope.clone(), metrics, schema_url: of_scope.clone() };
                let resource = ResourceMetrics {
                    resource: resource.clone(),
                    scope_metrics: vec![scope],
                    schema_url: schema_url.clone(),
                };
                parts.push(ExportMetricsServiceRequest { resource_metrics: vec![resource] });
            }
        }
    }
    parts
}

fn portions(metrics: Vec<Metric>, at_most: usize) -> Vec<Vec<Metric>> {
    let (mut portions, mut portion, mut room) = (Vec::new(), Vec::new(), at_most);
    for mut metric in metrics {
        while of_metric(&metric) > room {
            if room > 0 {
                let rest = cut(&mut metric, room);
                portion.push(std::mem::replace(&mut metric, rest));
            }
            portions.push(std::mem::take(&mut portion));
            room = at_most;
        }
        room -= of_metric(&metric);
        portion.push(metric);
    }
    portions.push(portion);
    portions
}

fn of_metric(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
    }
}

/// Leaves so many points in it; the rest comes back as another metric of its name.
fn cut(metric: &mut Metric, at: usize) -> Metric {
    let mut data = metric.data.take();
    let rest = match &mut data {
        None => None,
        Some(Data::Gauge(gauge)) => {
            let data_points = gauge.data_points.split_off(at);
            Some(Data::Gauge(opentelemetry_proto::tonic::metrics::v1::Gauge { data_points }))
        }
        Some(Data::Sum(sum)) => {
            let data_points = sum.data_points.split_off(at);
            Some(Data::Sum(opentelemetry_proto::tonic::metrics::v1::Sum { data_points, ..*sum }))
        }
        Some(Data::Histogram(histogram)) => {
            let data_points = histogram.data_points.split_off(at);
            Some(Data::Histogram(opentelemetry_proto::tonic::metrics::v1::Histogram {
                data_points,
                ..*histogram
            }))
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            let data_points = histogram.data_points.split_off(at);
            Some(Data::ExponentialHistogram(opentelemetry_proto::tonic::metrics::v1::ExponentialHistogram {
                data_points,
                ..*histogram
            }))
        }
        Some(Data::Summary(summary)) => {
            let data_points = summary.data_points.split_off(at);
            Some(Data::Summary(opentelemetry_proto::tonic::metrics::v1::Summary { data_points }))
        }
    };
    let rest = Metric { data: rest, ..metric.clone() };
    metric.data = data;
    rest
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::{Gauge, Histogram, HistogramDataPoint, NumberDataPoint};

    use super::*;

    fn message() -> ExportMetricsServiceRequest {
        let named =
            |name: &str, data| Metric { name: name.to_owned(), data: Some(data), ..Metric::default() };
        let gauge = |from: u64, count: u64| {
            let point = |time_unix_nano| NumberDataPoint { time_unix_nano, ..NumberDataPoint::default() };
            Data::Gauge(Gauge { data_points: (from..from + count).map(point).collect() })
        };
        let point = |time_unix_nano| HistogramDataPoint { time_unix_nano, ..HistogramDataPoint::default() };
        let histogram = Histogram { data_points: (5..9).map(point).collect(), aggregation_temporality: 1 };
        let metrics =
            vec![named("a", gauge(0, 4)), named("b", gauge(4, 1)), named("c", Data::Histogram(histogram))];
        let scope = ScopeMetrics { metrics, ..ScopeMetrics::default() };
        let resource = ResourceMetrics {
            scope_metrics: vec![scope],
            schema_url: "url".to_owned(),
            ..ResourceMetrics::default()
        };
        ExportMetricsServiceRequest { resource_metrics: vec![resource] }
    }

    #[test]
    fn every_point_is_in_one_part_in_its_order_and_no_part_is_longer_than_it_may_be() {
        assert_eq!(points(&message()), 9);
        for at_most in 1..12 {
            let parts = split(message(), at_most);
            assert_eq!(parts.len(), 9_usize.div_ceil(at_most));
            let mut times = Vec::new();
            for part in &parts {
                assert!((1..=at_most).contains(&points(part)), "{part:?}");
                let resource = &part.resource_metrics[0];
                assert_eq!(resource.schema_url, "url");
                for metric in &resource.scope_metrics[0].metrics {
                    match metric.data.as_ref().unwrap() {
                        Data::Gauge(gauge) => {
                            times.extend(gauge.data_points.iter().map(|point| point.time_unix_nano));
                        }
                        Data::Histogram(histogram) => {
                            assert_eq!((metric.name.as_str(), histogram.aggregation_temporality), ("c", 1));
                            times.extend(histogram.data_points.iter().map(|point| point.time_unix_nano));
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(times, (0..9).collect::<Vec<_>>());
        }
    }
}
