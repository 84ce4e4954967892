//! What is wanted of a page of coderd's metrics: two histograms, the latencies of its pubsub, and when it began.

use std::time::Duration;

use super::exposition::{Labels, Lines, label, name_of, sample_of};
use crate::mesh::attribution::{Backend, Histogram, Latency, Page};

/// Why a page says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PageError {
    /// Another server, or no metrics at all.
    #[error(
        "what answers there shows no metric of coderd: name coderd's CODER_PROMETHEUS_ADDRESS, port 2112 by default"
    )]
    NotCoderd,
    /// Lines that are wanted cannot be understood, so their sums would be wrong.
    #[error("{0} lines of coderd's metrics cannot be read")]
    Malformed(u32),
    /// Counts that cannot be.
    #[error("the histogram {0} cannot be: it has no last bucket, or counts fall from bucket to bucket")]
    Unsound(&'static str),
}

const QUERIES: &str = "coderd_db_query_latencies_seconds";
const REQUESTS: &str = "coderd_api_request_latencies_seconds";
const MESSAGES: &str = "coder_pubsub_*_latency_seconds";

/// A page as it comes in.
#[derive(Debug, Default)]
pub(super) struct Collector {
    lines: Lines,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    page: Page,
    is_coderd: bool,
    malformed: u32,
}

/// Which of the pubsub's latencies.
#[derive(Debug, Clone, Copy)]
enum Way {
    Send,
    Receive,
}

impl Collector {
    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let seen = &mut self.seen;
        self.lines.take(piece, |line| seen.take(line));
    }

    /// What the page says, and how many lines were too long to be looked at.
    pub(super) fn finish(mut self) -> Result<(Page, u32), PageError> {
        let mut seen = self.seen;
        self.lines.finish(|line| seen.take(line));
        let Seen { page, is_coderd, malformed } = seen;
        if !is_coderd {
            return Err(PageError::NotCoderd);
        }
        if malformed > 0 {
            return Err(PageError::Malformed(malformed));
        }
        let messages = page.pubsub.values().flat_map(|pubsub| [&pubsub.send, &pubsub.receive]);
        let messages = messages.filter_map(|latency| match latency {
            Some(Latency::Histogram(histogram)) => Some((MESSAGES, histogram)),
            _ => None,
        });
        let others = [(QUERIES, &page.ping), (REQUESTS, &page.api)];
        let others = others.into_iter().filter_map(|(name, histogram)| Some((name, histogram.as_ref()?)));
        if let Some((name, _)) = others.chain(messages).find(|(_, histogram)| !histogram.is_sound()) {
            return Err(PageError::Unsound(name));
        }
        Ok((page, self.lines.skipped))
    }
}

impl Seen {
    fn take(&mut self, line: &[u8]) {
        let Some(name) = name_of(line) else { return };
        self.is_coderd |= name.starts_with("coderd_") || name.starts_with("coder_");
        let is_wanted = match name {
            "process_start_time_seconds" => self.started(line),
            "coderd_db_query_latencies_seconds_bucket" => self.query(line),
            "coderd_api_request_latencies_seconds_bucket" => self.request(line),
            other => match message(other) {
                Some((backend, way, is_bucket)) => self.message(line, backend, way, is_bucket),
                None => return,
            },
        };
        if is_wanted.is_none() {
            self.malformed = self.malformed.saturating_add(1);
        }
    }

    fn started(&mut self, line: &[u8]) -> Option<()> {
        let (_, seconds) = sample_of(line)?;
        self.page.started = Some(Duration::try_from_secs_f64(seconds).ok()?);
        Some(())
    }

    /// Only of the API: the same histogram counts pings of replicas, probes of health and what workspaces serve. And without
    /// what lasts for as long as somebody watches.
    fn request(&mut self, line: &[u8]) -> Option<()> {
        let (labels, edge, count) = bucket(line)?;
        let is_answered = |path: &str| {
            path.starts_with("/api/v2/")
                && !["/watch", "/logs", "/stream"].iter().any(|part| path.contains(part))
        };
        if label(&labels, "path").is_none_or(is_answered) {
            self.page.api.get_or_insert_default().add(edge, count);
        }
        Some(())
    }

    fn query(&mut self, line: &[u8]) -> Option<()> {
        let (labels, edge, count) = bucket(line)?;
        self.page.collects_queries = true;
        if label(&labels, "query") == Some("Ping") {
            self.page.ping.get_or_insert_default().add(edge, count);
        }
        Some(())
    }

    fn message(&mut self, line: &[u8], backend: Option<Backend>, way: Way, is_bucket: bool) -> Option<()> {
        let (labels, value) = sample_of(line)?;
        let backend = backend.unwrap_or(match label(&labels, "backend") {
            Some("postgres") => Backend::Postgres,
            Some("nats") => Backend::Nats,
            // Gauges without a label are from the time when there was no other.
            None if !is_bucket => Backend::Postgres,
            _ => Backend::Unknown,
        });
        let latency = if is_bucket { Some(bucket(line)?) } else { None };
        let latencies = self.page.pubsub.entry(backend).or_default();
        let slot = match way {
            Way::Send => &mut latencies.send,
            Way::Receive => &mut latencies.receive,
        };
        match (latency, slot) {
            (Some((_, edge, count)), Some(Latency::Histogram(histogram))) => histogram.add(edge, count),
            (Some((_, edge, count)), slot) => {
                let mut histogram = Histogram::default();
                histogram.add(edge, count);
                *slot = Some(Latency::Histogram(histogram));
            }
            // A gauge that was not measured is negative or no number.
            (None, slot) => {
                if let Ok(reading) = Duration::try_from_secs_f64(value) {
                    *slot = Some(Latency::Gauge(reading));
                }
            }
        }
        Some(())
    }
}

/// Whether it is a latency of the pubsub: of which backend, where the name says so, which way, and whether a bucket.
fn message(name: &str) -> Option<(Option<Backend>, Way, bool)> {
    let (rest, backend) = match name.strip_prefix("coder_nats_pubsub_") {
        Some(rest) => (rest, Some(Backend::Nats)),
        None => (name.strip_prefix("coder_pubsub_")?, None),
    };
    match rest {
        "send_latency_seconds" => Some((backend, Way::Send, false)),
        "send_latency_seconds_bucket" => Some((backend, Way::Send, true)),
        "receive_latency_seconds" => Some((backend, Way::Receive, false)),
        "receive_latency_seconds_bucket" => Some((backend, Way::Receive, true)),
        _ => None,
    }
}

/// The labels, the edge and the count of a bucket.
fn bucket(line: &[u8]) -> Option<(Labels<'_>, Duration, u64)> {
    let (labels, count) = sample_of(line)?;
    let edge: f64 = label(&labels, "le")?.parse().ok()?;
    let edge = if edge == f64::INFINITY { Duration::MAX } else { Duration::try_from_secs_f64(edge).ok()? };
    Some((labels, edge, whole(count)?))
}

/// Counts are written as floating-point numbers, and are whole up to 2^53.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the bounds are looked at before"
)]
fn whole(count: f64) -> Option<u64> {
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    ((0.0..=LARGEST).contains(&count)).then(|| count.round() as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mesh::attribution::Pubsub;

    fn page(text: &str) -> Result<Page, PageError> {
        let mut collector = Collector::default();
        text.as_bytes().chunks(7).for_each(|piece| collector.take(piece));
        collector.finish().map(|(page, _)| page)
    }

    fn quantile(histogram: Option<&Histogram>, quantile: f64) -> String {
        histogram.unwrap().quantile(quantile).unwrap().to_string()
    }

    const PAGE: &str = r#"
# HELP coderd_db_query_latencies_seconds Latency distribution of queries in seconds.
# TYPE coderd_db_query_latencies_seconds histogram
coderd_db_query_latencies_seconds_bucket{query="GetUsers",le="0.005"} 1
coderd_db_query_latencies_seconds_bucket{query="GetUsers",le="+Inf"} 100
coderd_db_query_latencies_seconds_bucket{query="Ping",le="0.005"} 30
coderd_db_query_latencies_seconds_bucket{query="Ping",le="0.01"} 39
coderd_db_query_latencies_seconds_bucket{query="Ping",le="+Inf"} 40 # {trace_id="x"} 0.5
coderd_db_query_latencies_seconds_sum{query="Ping"} 0.2
coderd_db_query_latencies_seconds_count{query="Ping"} 40
coderd_api_request_latencies_seconds_bucket{method="GET",path="/api/v2/users/{user}",le="0.5"} 9
coderd_api_request_latencies_seconds_bucket{method="GET",path="/api/v2/users/{user}",le="+Inf"} 10
coderd_api_request_latencies_seconds_bucket{method="POST",path="/api/v2/a\"b\\",le="0.5"} 90
coderd_api_request_latencies_seconds_bucket{method="POST",path="/api/v2/a\"b\\",le="+Inf"} 90
coderd_api_request_latencies_seconds_bucket{method="GET",path="/derp/latency-check",le="+Inf"} 700
coderd_api_request_latencies_seconds_bucket{method="GET",path="/api/v2/workspaces/{workspace}/watch",le="+Inf"} 7
process_start_time_seconds 1.76e+09
go_goroutines 12
"#;

    #[test]
    fn of_all_queries_only_pings_count_and_of_requests_all_that_the_api_answers() {
        let page = page(PAGE).unwrap();
        assert_eq!(page.ping.as_ref().unwrap().count(), 40);
        assert_eq!(quantile(page.ping.as_ref(), 0.95), "5 to 10 ms");
        assert_eq!(page.api.as_ref().unwrap().count(), 100);
        assert_eq!(quantile(page.api.as_ref(), 0.99), "at most 500 ms");
        assert_eq!(page.started, Some(Duration::from_secs(1_760_000_000)));
        assert!(page.collects_queries && page.pubsub.is_empty());
    }

    #[test]
    fn messages_are_read_in_all_three_shapes() {
        let gauges =
            page("coder_pubsub_send_latency_seconds 0.004\ncoder_pubsub_receive_latency_seconds 0.006\n");
        let gauge = |ms| Some(Latency::Gauge(Duration::from_millis(ms)));
        let postgres = Pubsub { send: gauge(4), receive: gauge(6) };
        assert_eq!(gauges.unwrap().pubsub, BTreeMap::from([(Backend::Postgres, postgres)]));

        let nats = page("coder_nats_pubsub_send_latency_seconds 0.004\ncoder_pubsub_connected 1\n").unwrap();
        assert_eq!(nats.pubsub[&Backend::Nats].send, gauge(4));
        assert_eq!(nats.pubsub.len(), 1);

        let buckets = |label: &str| {
            page(&format!(
                "coder_pubsub_receive_latency_seconds_bucket{{{label}le=\"0.0005\"}} 3\n\
                 coder_pubsub_receive_latency_seconds_bucket{{{label}le=\"0.001\"}} 4\n\
                 coder_pubsub_receive_latency_seconds_bucket{{{label}le=\"+Inf\"}} 4\n"
            ))
            .unwrap()
            .pubsub
        };
        for (label, backend) in [
            ("backend=\"postgres\",", Backend::Postgres),
            ("backend=\"nats\",", Backend::Nats),
            ("", Backend::Unknown),
            ("backend=\"pigeons\",", Backend::Unknown),
        ] {
            let pubsub = buckets(label);
            let Some(Latency::Histogram(histogram)) = &pubsub[&backend].receive else { panic!("{pubsub:?}") };
            assert_eq!(quantile(Some(histogram), 0.95), "0.5 to 1 ms");
        }
    }

    #[test]
    fn a_latency_that_was_not_measured_is_none() {
        for value in ["NaN", "-1", "+Inf"] {
            let page = page(&format!("coder_pubsub_send_latency_seconds {value}\n")).unwrap();
            assert_eq!(page.pubsub[&Backend::Postgres].send, None, "{value}");
        }
    }

    #[test]
    fn what_is_no_page_of_coderds_says_why() {
        for (text, error) in [
            ("", PageError::NotCoderd),
            ("<html><body>coderd_ is here</body></html>", PageError::NotCoderd),
            ("go_goroutines 12\n# EOF\n", PageError::NotCoderd),
            ("\0\u{1}coderd", PageError::NotCoderd),
            (
                "coderd_db_query_latencies_seconds_bucket{query=\"Ping\",le=\"0.005\"} many\n",
                PageError::Malformed(1),
            ),
            ("coderd_db_query_latencies_seconds_bucket{query=\"Ping\"} 4\n", PageError::Malformed(1)),
            (
                "coderd_db_query_latencies_seconds_bucket{query=\"Ping\",le=\"0.005\"} 4\n",
                PageError::Unsound(QUERIES),
            ),
        ] {
            assert_eq!(page(text), Err(error), "{text}");
        }
        assert_eq!(
            page("coderd_license_active_users 3\n"),
            Ok(Page::default()),
            "one without what is wanted"
        );
    }

    #[test]
    fn a_page_of_ten_megabytes_comes_to_a_few_numbers() {
        let mut collector = Collector::default();
        let mut bytes = 0;
        for series in 0_u32.. {
            let mut text = String::new();
            for (edge, count) in [("0.5", 1), ("1", 2), ("+Inf", 2)] {
                text += &format!(
                    "coderd_api_request_latencies_seconds_bucket{{method=\"GET\",path=\"/api/v2/{series}\",le=\"{edge}\"}} {count}\n"
                );
            }
            collector.take(text.as_bytes());
            bytes += text.len();
            if bytes > 10_000_000 {
                let (page, skipped) = collector.finish().unwrap();
                let api = page.api.unwrap();
                assert_eq!((api.count(), skipped), (u64::from(series + 1) * 2, 0));
                assert_eq!(api.buckets().count(), 2);
                return;
            }
        }
    }
}
