//! The page that Prometheus reads: text exposition format 0.0.4, or OpenMetrics 1.0 for who asks for it.
//!
//! Every label value is escaped, so that no name that a peer bears can write a line of its own.

use std::fmt::Write;
use std::time::Duration;

use super::instruments::{Instrument, Shape};
use super::metrics::{Metrics, Point, Value};
use crate::mesh::histogram::Histogram;

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text exposition format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What a client wants that sends this `Accept`: OpenMetrics where it is named with a weight of its own, or with more than
    /// plain text has.
    pub fn wanted(accept: &str) -> Self {
        let weight = |media: &str| {
            let offers = accept.split(',').map(str::trim);
            let mut weights = offers.filter_map(|offer| {
                let mut parts = offer.split(';').map(str::trim);
                let named = parts.next()?.eq_ignore_ascii_case(media);
                let weight =
                    parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
                weight.filter(|_| named)
            });
            weights.next().unwrap_or(0.0_f64)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// The answer's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All figures as a page.
pub fn render(metrics: &Metrics, format: Format) -> String {
    let points: usize = metrics.families.iter().map(|family| family.points.len()).sum();
    // A histogram has some twenty lines of some hundred bytes.
    let mut page = Page { text: String::with_capacity(points * 400), format, edges: Default::default() };
    for family in &metrics.families {
        let name = family.instrument.prometheus();
        page.head(family.instrument, &name);
        for point in &family.points {
            page.point(family.instrument, &name, point);
        }
    }
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page {
    text: String,
    format: Format,
    /// The edges that were written last, and as what: nearly all histograms have the same ones.
    edges: (Vec<Duration>, Vec<String>),
}

impl Page {
    fn head(&mut self, instrument: &Instrument, name: &str) {
        let family = match (self.format, instrument.shape) {
            (Format::OpenMetrics, Shape::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let shape = match instrument.shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Histogram => "histogram",
        };
        self.text.extend(["# HELP ", family, " "]);
        escape(&mut self.text, instrument.help, self.format == Format::OpenMetrics);
        self.text.extend(["\n# TYPE ", family, " ", shape, "\n"]);
    }

    fn point(&mut self, instrument: &Instrument, name: &str, point: &Point) {
        let mut labels = String::new();
        for (label, value) in instrument.labels.iter().zip(&point.labels) {
            let comma = if labels.is_empty() { "" } else { "," };
            labels.extend([comma, label, "=\""]);
            escape(&mut labels, value, true);
            labels.push('"');
        }
        match &point.value {
            Value::Number(value) => self.line(name, "", &labels, None, *value),
            Value::Sum(value) => self.line(name, "", &labels, None, *value),
            Value::Count(count) => self.count(name, "", &labels, None, *count),
            Value::Distribution(histogram, _) => self.distribution(name, &labels, histogram),
        }
    }

    fn distribution(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let mut below = 0;
        if self.edges.0 != histogram.edges() {
            let written = histogram.edges().iter().map(|edge| canonical(edge.as_secs_f64()));
            self.edges = (histogram.edges().to_vec(), written.chain(["+Inf".to_owned()]).collect());
        }
        let edges = std::mem::take(&mut self.edges);
        for (edge, count) in edges.1.iter().zip(histogram.counts()) {
            below += count;
            self.count(name, "_bucket", labels, Some(edge), below);
        }
        self.edges = edges;
        self.line(name, "_sum", labels, None, seconds(histogram.sum()));
        self.count(name, "_count", labels, None, below);
    }

    fn name(&mut self, name: &str, suffix: &str, labels: &str, edge: Option<&str>) {
        self.text.extend([name, suffix]);
        let comma = if labels.is_empty() { "" } else { "," };
        match edge {
            Some(edge) => self.text.extend(["{", labels, comma, "le=\"", edge, "\"} "]),
            None if labels.is_empty() => self.text.push(' '),
            None => self.text.extend(["{", labels, "} "]),
        }
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &str, edge: Option<&str>, value: f64) {
        self.name(name, suffix, labels, edge);
        let _ =
            writeln!(self.text, "{}", if value == f64::INFINITY { "+Inf".into() } else { value.to_string() });
    }

    fn count(&mut self, name: &str, suffix: &str, labels: &str, edge: Option<&str>, value: u64) {
        self.name(name, suffix, labels, edge);
        let _ = writeln!(self.text, "{value}");
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// As OpenMetrics wants the edges of buckets: whole numbers with a point.
fn canonical(value: f64) -> String {
    let text = value.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

fn escape(into: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if quotes => into.push_str("\\\""),
            // Allowed, and yet nothing but harm to whoever looks at it.
            control if control.is_control() => into.push('\u{fffd}'),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::export::instruments::{PEER_RTT, SAMPLES, TARGET_INFO, THROTTLED};
    use crate::export::metrics::Family;
    use crate::mesh::histogram::Edges;

    fn metrics(families: Vec<Family>) -> Metrics {
        Metrics { began: SystemTime::UNIX_EPOCH, taken: SystemTime::UNIX_EPOCH, families }
    }

    fn family(instrument: &'static Instrument, labels: &[&str], value: Value) -> Family {
        let labels = labels.iter().map(|label| (*label).into()).collect();
        Family { instrument, points: vec![Point { labels, born: Duration::ZERO, value }] }
    }

    #[test]
    fn a_hostile_name_writes_no_line_of_its_own() {
        let name = "a\"} 1\nup{x=\"\\\u{7}\u{202e}é";
        let labels = ["me", name, "peer", "", "", "", "", ""];
        let page = render(&metrics(vec![family(&TARGET_INFO, &labels, Value::Number(1.0))]), Format::Text);
        assert_eq!(page.lines().count(), 3, "{page}");
        assert!(page.contains(r#"target="a\"} 1\nup{x=\"\\"#), "{page}");
        assert!(!page.contains('\u{7}'), "{page}");
    }

    #[test]
    fn buckets_add_up_and_the_last_is_the_count() {
        let mut histogram = Histogram::new(&Edges::default());
        for us in [50, 10_000, 12_000, 2_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let value = Value::Distribution(histogram, None);
        let page = render(&metrics(vec![family(&PEER_RTT, &["a", "b", "peer"], value)]), Format::Text);
        let labels = r#"source="a",target="b",target_kind="peer""#;
        for (edge, count) in
            [("0.0001", 1), ("0.0075", 1), ("0.01", 2), ("0.015", 3), ("1.0", 3), ("+Inf", 4)]
        {
            let line = format!("coder_probe_peer_rtt_seconds_bucket{{{labels},le=\"{edge}\"}} {count}\n");
            assert!(page.contains(&line), "{line}{page}");
        }
        assert!(page.contains(&format!("coder_probe_peer_rtt_seconds_sum{{{labels}}} 2.02205\n")), "{page}");
        assert!(page.ends_with(&format!("coder_probe_peer_rtt_seconds_count{{{labels}}} 4\n")), "{page}");
    }

    #[test]
    fn openmetrics_names_a_counters_family_without_total_and_ends_aloud() {
        let labels = ["a", "b", "peer", "ok"];
        let families =
            || vec![family(&SAMPLES, &labels, Value::Count(7)), family(&THROTTLED, &["a"], Value::Count(0))];
        let open = render(&metrics(families()), Format::OpenMetrics);
        assert!(
            open.contains("# TYPE coder_probe_path_samples counter\ncoder_probe_path_samples_total{"),
            "{open}"
        );
        assert!(open.ends_with("coder_probe_cpu_throttled_periods_total{source=\"a\"} 0\n# EOF\n"), "{open}");
        let text = render(&metrics(families()), Format::Text);
        assert!(text.contains("# TYPE coder_probe_path_samples_total counter\n"), "{text}");
    }

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        // As Prometheus 2.42 and 3 ask, and as a browser does.
        for (accept, format) in [
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text; version=1.0.0; q=0.2, text/plain; q=0.6", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("", Format::Text),
        ] {
            assert_eq!(Format::wanted(accept), format, "{accept}");
        }
    }
}
