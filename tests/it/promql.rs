//! What a PromQL expression names, held against the table of metrics: a typing error in an alert would never fire.
//!
//! promtool checks the grammar; this reads names only.

use std::collections::{BTreeMap, BTreeSet};

use probe::export::instruments::{ALL, Shape};
use probe::mesh::place::policy::Severity;
use probe::mesh::rules::code::Code;
use probe::mesh::state::State;
use probes::target::Kind;

/// Labels that Prometheus or its configuration adds to everything.
const SCRAPED: &[&str] = &["cluster", "namespace", "job", "instance"];

/// What is not ours: Prometheus' own, and coderd's.
const OTHERS: &[(&str, &[&str])] = &[
    ("up", &[]),
    ("ALERTS", &["alertname", "alertstate", "severity"]),
    ("coderd_api_request_latencies_seconds_bucket", &["le", "method", "path"]),
    ("coderd_db_query_latencies_seconds_bucket", &["le", "query"]),
    // Gauges at first, histograms with a label for the backend later.
    ("coder_pubsub_send_latency_seconds", &[]),
    ("coder_pubsub_receive_latency_seconds", &[]),
    ("coder_pubsub_receive_latency_seconds_bucket", &["le", "backend"]),
    ("coder_nats_pubsub_receive_latency_seconds", &[]),
];

/// Comparing with a word that is never exported is as wrong as a name that is not.
fn words(label: &str) -> Option<BTreeSet<&'static str>> {
    let states = || State::ALL.iter().map(|state| state.as_str());
    Some(match label {
        // Those of links and those of the placement.
        "state" => states().chain(["violated"]).collect(),
        "target_kind" => Kind::ALL.iter().map(|kind| kind.as_str()).collect(),
        "code" => Code::ALL.iter().map(|code| code.as_str()).collect(),
        "percentile" => ["p50", "p95", "p99", "max"].into(),
        "watched" => ["true", "false"].into(),
        "outcome" => ["ok", "lost", "refused", "error", "skipped_self", "partial", "retryable"].into(),
        "connection" => ["kept", "fresh"].into(),
        "severity" => [Severity::Info, Severity::Warning, Severity::Fail].map(Severity::as_str).into(),
        _ => return None,
    })
}

/// One comparison of a label.
#[derive(Debug, PartialEq, Eq)]
struct Matcher {
    metric: String,
    label: String,
    is_pattern: bool,
    value: String,
}

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) metrics: BTreeSet<String>,
    /// Labels by which it groups or matches.
    pub(crate) grouping: BTreeSet<String>,
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            '#' => while rest.next_if(|next| *next != '\n').is_some() {},
            '"' | '\'' | '`' => {
                let mut text = String::new();
                while let Some(next) = rest.next() {
                    match next {
                        '\\' => text.extend(rest.next()),
                        end if end == first => break,
                        other => text.push(other),
                    }
                }
                found.push(Token::Text(text));
            }
            _ if first.is_ascii_alphanumeric() || first == '_' => {
                let mut word = String::from(first);
                while let Some(next) =
                    rest.next_if(|next| next.is_ascii_alphanumeric() || "_:.".contains(*next))
                {
                    word.push(next);
                }
                found.push(Token::Word(word));
            }
            _ if first.is_whitespace() => {}
            sign => found.push(Token::Sign(sign)),
        }
    }
    found
}

/// Reads one expression.
pub(crate) fn read(expression: &str) -> Named {
    const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
    const OPERATORS: &[&str] = &["and", "or", "unless", "bool", "offset", "atan2"];
    let tokens = tokens(expression);
    let mut named = Named::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Word(word) = token else { continue };
        let next = tokens.get(at);
        let opens = next == Some(&Token::Sign('('));
        let is_name = !word.starts_with(|first: char| first.is_ascii_digit());
        if GROUPING.contains(&word.as_str()) {
            while opens && tokens.get(at).is_some_and(|token| *token != Token::Sign(')')) {
                if let Some(Token::Word(label)) = tokens.get(at) {
                    named.grouping.insert(label.clone());
                }
                at += 1;
            }
            continue;
        }
        let aggregates = matches!(next, Some(Token::Word(word)) if word == "by" || word == "without");
        if !is_name || opens || aggregates || OPERATORS.contains(&word.as_str()) {
            continue;
        }
        named.metrics.insert(word.clone());
        if next == Some(&Token::Sign('{')) {
            at += 1;
            let end = tokens[at..].iter().position(|token| *token == Token::Sign('}')).unwrap_or(0) + at;
            for matcher in tokens[at..end].split(|token| *token == Token::Sign(',')) {
                let [Token::Word(label), signs @ .., Token::Text(value)] = matcher else { continue };
                let is_pattern = signs.contains(&Token::Sign('~'));
                let (metric, label, value) = (word.clone(), label.clone(), value.clone());
                named.matchers.push(Matcher { metric, label, is_pattern, value });
            }
            at = end;
        }
    }
    named
}

/// All metrics that may be named, each with its labels.
pub(crate) struct Known(BTreeMap<String, BTreeSet<String>>);

impl Known {
    /// Those of the table and of others.
    pub(crate) fn new() -> Self {
        let mut all = BTreeMap::new();
        let owned = |labels: &[&str], more: &[&str]| -> BTreeSet<String> {
            labels.iter().chain(more).map(|label| (*label).to_owned()).collect()
        };
        for instrument in ALL {
            let name = instrument.prometheus();
            if instrument.shape == Shape::Histogram {
                all.insert(format!("{name}_bucket"), owned(instrument.labels, &["le"]));
                all.insert(format!("{name}_sum"), owned(instrument.labels, &[]));
                all.insert(format!("{name}_count"), owned(instrument.labels, &[]));
            } else {
                all.insert(name, owned(instrument.labels, &[]));
            }
        }
        all.extend(OTHERS.iter().map(|(name, labels)| ((*name).to_owned(), owned(labels, &[]))));
        Self(all)
    }

    /// A rule records this; its labels are those by which its expression groups.
    pub(crate) fn record(&mut self, name: &str, expression: &str) {
        self.0.insert(name.to_owned(), read(expression).grouping);
    }

    /// What is wrong with this expression; nothing, one hopes.
    pub(crate) fn faults(&self, expression: &str) -> Vec<String> {
        let named = read(expression);
        let mut faults = Vec::new();
        let mut labels: BTreeSet<&str> = SCRAPED.iter().copied().collect();
        for metric in &named.metrics {
            match self.0.get(metric) {
                Some(has) => labels.extend(has.iter().map(String::as_str)),
                None => faults.push(format!("nobody exports {metric}")),
            }
        }
        for label in named.grouping.iter().filter(|label| !labels.contains(label.as_str())) {
            faults.push(format!("nothing in it has the label {label}"));
        }
        for Matcher { metric, label, is_pattern, value } in &named.matchers {
            let has = self.0.get(metric).is_none_or(|has| has.contains(label));
            if !has && !SCRAPED.contains(&label.as_str()) {
                faults.push(format!("{metric} has no label {label}"));
            }
            // A variable of the dashboard, or what anything matches.
            if value.contains('$') || value.contains(".*") {
                continue;
            }
            let Some(words) = words(label) else { continue };
            let parts = if *is_pattern { value.split('|').collect() } else { vec![value.as_str()] };
            for part in parts.into_iter().filter(|part| !words.contains(part)) {
                faults.push(format!("{label} of {metric} is never {part}"));
            }
        }
        faults.into_iter().map(|fault| format!("{fault}: {expression}")).collect()
    }
}

#[test]
fn metrics_labels_and_words_are_read_off_an_expression() {
    let named = read(
        "sum by (source, le) (rate(a_total{state=~\"ok|breach\",x!='}'}[5m] offset 1h)) > 14.4 * 0.05 # not_this\n\
         and on (target) (b:c:d or vector(1)) unless ignoring(job) e == bool 2",
    );
    let all = |names: &[&str]| -> BTreeSet<_> { names.iter().map(|name| (*name).to_owned()).collect() };
    assert_eq!(named.metrics, all(&["a_total", "b:c:d", "e"]));
    assert_eq!(named.grouping, all(&["source", "le", "target", "job"]));
    let matchers: Vec<_> =
        named.matchers.iter().map(|matcher| (&*matcher.label, matcher.is_pattern, &*matcher.value)).collect();
    assert_eq!(matchers, [("state", true, "ok|breach"), ("x", false, "}")]);
}

#[test]
fn a_metric_a_label_or_a_word_that_nobody_exports_is_found() {
    let known = Known::new();
    assert_eq!(known.faults("sum by (source) (coder_probe_path_state{state=\"breach\"}) > 0"), [""; 0]);
    assert_eq!(known.faults("up == 0 and on (job) coder_probe_build_info"), [""; 0]);
    for (wrong, fault) in [
        ("coder_probe_path_stat", "nobody exports coder_probe_path_stat: "),
        ("coder_probe_peer_rtt_seconds", "nobody exports coder_probe_peer_rtt_seconds: "),
        ("coder_probe_path_state{quantile=\"p95\"}", "coder_probe_path_state has no label quantile: "),
        ("sum by (code) (coder_probe_path_state)", "nothing in it has the label code: "),
        ("coder_probe_path_state{state=~\"ok|broken\"}", "state of coder_probe_path_state is never broken: "),
    ] {
        assert_eq!(known.faults(wrong), [format!("{fault}{wrong}")]);
    }
}
