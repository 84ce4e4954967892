//! A real Prometheus with this repository's rules loaded: on a free port of loopback, stopped by its own pid.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use probe::export::instruments::{ALL, Shape};
use probe::mesh::state::State;
use probes::stopwatch::Stopwatch;
use serde::Deserialize;

use crate::dashboard::every_expression;
use crate::house::{busy, pause};

/// A running Prometheus, which asks its targets and evaluates its rules every second.
pub(crate) struct Prometheus {
    child: Child,
    _directory: tempfile::TempDir,
    address: SocketAddr,
    targets: usize,
    /// What it logged so far.
    log: mpsc::Receiver<String>,
}

/// One sample of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Its labels; the metric's name is `__name__`.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its value; may be NaN.
    pub(crate) value: f64,
}

impl Prometheus {
    /// Asks `/metrics` of these addresses, as one job `probe`.
    pub(crate) fn start(targets: &[SocketAddr]) -> Self {
        let directory = tempfile::Builder::new().prefix("probe-prometheus-").tempdir().unwrap();
        let settings = directory.path().join("prometheus.yml");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
        let quoted: Vec<_> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{rules}/rules.yaml\", \"{rules}/alerts.yaml\"]\n\
             scrape_configs: [{{job_name: probe, static_configs: [{{targets: [{targets}]}}]}}]\n",
            rules = rules.display(),
            targets = quoted.join(", ")
        );
        std::fs::write(&settings, text).unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("series").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--storage.tsdb.retention.time=1h"])
            // Two cores are few, and others measure on them.
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("prometheus does not start: {error}; `bash tests/run.sh` installs what the tests need")
            });
        let (sender, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut seen = Vec::new();
        let address = loop {
            match log.recv_timeout(Duration::from_secs(30)) {
                Ok(line) if line.contains("msg=\"Listening on\"") => {
                    let (_, address) = line.rsplit_once("address=").unwrap();
                    break address.parse().unwrap();
                }
                Ok(line) => seen.push(line),
                Err(_) => {
                    let _ = child.kill();
                    panic!("Prometheus does not listen; it said {seen:#?}");
                }
            }
        };
        Self { child, _directory: directory, address, targets: targets.len(), log }
    }

    /// What this expression yields now, or what Prometheus has against it.
    pub(crate) fn try_query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        #[derive(Deserialize)]
        struct Answer {
            error: Option<String>,
            data: Option<Data>,
        }
        #[derive(Deserialize)]
        #[serde(tag = "resultType", content = "result", rename_all = "snake_case")]
        enum Data {
            Vector(Vec<Series>),
            Scalar((f64, String)),
        }
        #[derive(Deserialize)]
        struct Series {
            metric: BTreeMap<String, String>,
            value: (f64, String),
        }
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"))?;
        let answer: Answer = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        match (answer.error, answer.data) {
            (Some(error), _) => Err(format!("{error}: {expression}")),
            (None, Some(Data::Vector(series))) => {
                let sample = |one: Series| Sample { labels: one.metric, value: one.value.1.parse().unwrap() };
                Ok(series.into_iter().map(sample).collect())
            }
            (None, Some(Data::Scalar((_, value)))) => {
                Ok(vec![Sample { labels: BTreeMap::new(), value: value.parse().unwrap() }])
            }
            (None, None) => Err(format!("an answer without data: {expression}")),
        }
    }

    /// What this expression yields now.
    pub(crate) fn query(&self, expression: &str) -> Vec<Sample> {
        self.try_query(expression).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until each target has been asked with success. Rules are evaluated within the second that follows: for what they
    /// record, wait with [`Self::wait_until_some`].
    pub(crate) fn wait_until_scraped(&self) {
        self.wait_until_some(&format!("sum(up{{job=\"probe\"}}) == {}", self.targets));
    }

    /// Waits until this expression yields something, which is the answer.
    pub(crate) fn wait_until_some(&self, expression: &str) -> Vec<Sample> {
        let watch = Stopwatch::start();
        loop {
            // It answers 503 while it starts.
            let found = self.try_query(expression);
            if let Ok(found) = &found
                && !found.is_empty()
            {
                return found.clone();
            }
            let said: Vec<_> = self.log.try_iter().filter(|line| !line.contains("level=info")).collect();
            assert!(said.is_empty(), "{said:#?}");
            assert!(watch.elapsed() < Duration::from_secs(60), "nothing came of {expression}: {found:?}");
            pause();
        }
    }

    fn get(&self, path: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.address)?;
            // 1.0, so that the body comes in one piece.
            write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().map_err(|error| error.to_string())?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or(answer)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves this page to whoever asks, until the test ends.
pub(crate) fn page(text: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Whoever goes away early is asked again a second later.
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
        }
    });
    address
}

/// A page with every metric of the table, as agent `source` would have it if it saw everything at once.
fn everything(source: &str) -> String {
    let values = |label: &str| -> Vec<&str> {
        match label {
            "source" => vec![source],
            "target" => vec!["a", "b", "db"],
            "target_kind" => vec!["peer", "postgres", "relay"],
            "state" => State::ALL.iter().map(|state| state.as_str()).chain(["violated"]).collect(),
            "percentile" => vec!["p50", "p95", "p99", "max"],
            "outcome" => vec!["ok", "error", "retryable"],
            "watched" => vec!["true", "false"],
            "severity" => vec!["fail", "warning"],
            "code" => vec!["few_coderd", "one_way"],
            _ => vec!["x"],
        }
    };
    let mut text = String::new();
    for instrument in ALL {
        let mut series = vec![String::new()];
        for label in instrument.labels {
            let with = |one: &String| -> Vec<String> {
                values(label).iter().map(|value| format!("{one}{label}=\"{value}\",")).collect()
            };
            series = series.iter().flat_map(with).collect();
        }
        // What is a yes of the one is a no of the other.
        let value = u8::from(source == "a");
        for labels in series {
            let name = instrument.prometheus();
            if instrument.shape == Shape::Histogram {
                text += &histogram(&name, &labels);
            } else {
                text += &format!("{name}{{{labels}}} {value}\n");
            }
        }
    }
    text
}

fn histogram(name: &str, labels: &str) -> String {
    format!(
        "{name}_bucket{{{labels}le=\"0.01\"}} 1\n{name}_bucket{{{labels}le=\"+Inf\"}} 2\n\
         {name}_sum{{{labels}}} 3\n{name}_count{{{labels}}} 2\n"
    )
}

/// What coderd would say of itself, in an older version and a later one at once.
pub(crate) fn coderd() -> String {
    let gauges = ["coder_pubsub_send_latency_seconds", "coder_nats_pubsub_receive_latency_seconds"];
    gauges.iter().map(|name| format!("{name} 0.001\n")).collect::<String>()
        + "coder_pubsub_receive_latency_seconds 0.001\n"
        + &histogram("coder_pubsub_receive_latency_seconds", "backend=\"nats\",")
        + &histogram("coderd_api_request_latencies_seconds", "method=\"GET\",path=\"/\",")
        + &histogram("coderd_db_query_latencies_seconds", "query=\"Ping\",")
}

#[test]
fn every_expression_of_the_dashboard_yields_something_where_everything_is_exported() {
    let _busy = busy();
    // While an agent is replaced, there may be two of one name for a moment.
    let agents = ["a", "b", "b"].map(|source| page(everything(source)));
    let prometheus = Prometheus::start(&[agents[0], agents[1], agents[2], page(coderd())]);
    prometheus.wait_until_scraped();
    // A rate needs two samples.
    prometheus.wait_until_some("min(count_over_time(up[1m])) >= 3");
    for expression in every_expression() {
        assert!(!prometheus.query(&expression).is_empty(), "nothing comes of {expression}");
    }
    // Rules fail where labels do not match as they should, which only data brings to light.
    prometheus.wait_until_some("target_kind:coder_probe_path_exceeded:ratio_rate5m");
    let complaints: Vec<_> = prometheus.log.try_iter().filter(|line| !line.contains("level=info")).collect();
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn a_real_prometheus_scrapes_records_and_alerts() {
    let _busy = busy();
    let agent = page(
        "coder_probe_build_info{version=\"1\"} 1\n\
         coder_probe_path_budget_seconds{source=\"a\",target=\"db\",target_kind=\"postgres\"} 0.01\n\
         coder_probe_path_state{source=\"a\",target=\"db\",target_kind=\"postgres\",state=\"ok\"} 0\n\
         coder_probe_path_state{source=\"a\",target=\"db\",target_kind=\"postgres\",state=\"breach\"} 1\n"
            .to_owned(),
    );
    let prometheus = Prometheus::start(&[agent]);
    prometheus.wait_until_scraped();
    let recorded = prometheus.wait_until_some("target:coder_probe_path_state:breach_ratio");
    assert_eq!((recorded.len(), recorded[0].value), (1, 1.0));
    assert_eq!(recorded[0].labels["target"], "db");
    let pending = prometheus.wait_until_some("ALERTS{alertname=\"CoderProbeDatabaseOverBudget\"}");
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert_eq!((&*pending[0].labels["severity"], &*pending[0].labels["alertstate"]), ("critical", "pending"));
    assert_eq!(prometheus.query("ALERTS{alertname!=\"CoderProbeDatabaseOverBudget\"}"), []);
}
