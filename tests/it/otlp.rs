//! Figures and events at a real OTLP receiver, and at one that misbehaves in every way there is.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use probe::export::events::{Attribute, Event, Gravity};
use probe::export::instruments::{self, Instrument};
use probe::export::metrics::{Family, Metrics, Point, Value};
use probe::export::otlp::resource::{Place, Speaker};
use probe::export::otlp::spool::Limits;
use probe::export::otlp::tallies::Tallies;
use probe::export::otlp::{Handle, Pace, Setup, settings};
use probe::mesh::exponential::Exponential;
use probe::mesh::histogram::{Edges, Histogram};
use probes::stopwatch::Stopwatch;
use tokio::sync::watch;

use crate::house::{Agent, Run, Secret, closed_port, pause, probe};
use crate::rotel::{Ports, Rotel};

mod failing;
mod hostile;
mod receiver;

/// An agent's figures in small: one link, asked now and then.
#[derive(Clone)]
struct Figures(Arc<Mutex<Counted>>);

struct Counted {
    asked: u64,
    histogram: Histogram,
    exponential: Exponential,
    began: SystemTime,
    born: Duration,
    seconds: u64,
    hidden: bool,
    asked_in_vain: bool,
}

impl Figures {
    fn new() -> Self {
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Self(Arc::new(Mutex::new(Counted {
            asked: 0,
            histogram: Histogram::new(&Edges::default()),
            exponential: Exponential::default(),
            began,
            born: Duration::from_millis(500),
            seconds: 0,
            hidden: false,
            asked_in_vain: false,
        })))
    }

    fn ask(&self, micros: u64) {
        let mut counted = self.0.lock().unwrap();
        counted.asked += 1;
        counted.histogram.record(Duration::from_micros(micros));
        counted.exponential.record(Duration::from_micros(micros));
    }

    fn asked(&self) -> u64 {
        self.0.lock().unwrap().asked
    }

    /// From now on there are none to be had.
    fn hide(&self) {
        let mut counted = self.0.lock().unwrap();
        (counted.hidden, counted.asked_in_vain) = (true, false);
    }

    fn show(&self) {
        self.0.lock().unwrap().hidden = false;
    }

    /// The link is another one from now on.
    fn begin_anew(&self) {
        let mut counted = self.0.lock().unwrap();
        counted.born += Duration::from_millis(400);
    }

    fn was_asked_in_vain(&self) -> bool {
        self.0.lock().unwrap().asked_in_vain
    }

    /// Time goes by from snapshot to snapshot.
    fn take(&self) -> Option<Arc<Metrics>> {
        let mut counted = self.0.lock().unwrap();
        if counted.hidden {
            counted.asked_in_vain = true;
            return None;
        }
        counted.seconds += 1;
        let family = |instrument: &'static Instrument, more: &[&str], value| Family {
            instrument,
            points: vec![Point {
                labels: ["coderd-1", "db/coder", "postgres"]
                    .iter()
                    .chain(more)
                    .map(|label| (*label).into())
                    .collect(),
                born: counted.born,
                value,
            }],
        };
        Some(Arc::new(Metrics {
            began: counted.began,
            taken: counted.began + Duration::from_secs(counted.seconds),
            families: vec![
                family(&instruments::RTT, &["0.95"], Value::Number(0.0075)),
                family(&instruments::JUDGED, &[], Value::Count(counted.asked)),
                family(
                    &instruments::QUERY,
                    &[],
                    Value::Distribution(
                        counted.histogram.clone(),
                        Some(Box::new(counted.exponential.clone())),
                    ),
                ),
            ],
        }))
    }
}

fn event(number: usize) -> Event {
    Event {
        id: format!("agent-1/{number:04}"),
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number as u64),
        name: "coder.probe.path.state_changed".into(),
        gravity: Gravity::Error,
        body: format!("db/coder: ok → breach, number {number}"),
        attributes: vec![
            ("target".into(), Attribute::Text("db/coder".to_owned())),
            ("samples".into(), Attribute::Whole(300)),
            ("p95".into(), Attribute::Number(0.0125)),
        ],
    }
}

const QUICK: Pace = Pace {
    together: Duration::from_millis(5),
    first: Duration::from_millis(5),
    shortest: Duration::from_millis(20),
    longest: Duration::from_millis(80),
};

/// What these variables say, as a pod in a region.
fn setup(variables: &[(&str, &str)]) -> Setup {
    let env = |name: &str| {
        let own = variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let pod = match name {
            "POD_NAME" => "probe-7d9f",
            "POD_NAMESPACE" => "coder",
            "POD_UID" => "5f3c-uid",
            "NODE_NAME" => "node-a",
            "K8S_CLUSTER_NAME" => "blue",
            "OTEL_RESOURCE_ATTRIBUTES" => "team=a%2Cb,deployment.environment.name=test",
            _ => return own,
        };
        own.or(Some(pod.to_owned()))
    };
    let (settings, notices) = settings::read(&env);
    assert_eq!(notices, [], "{variables:?}");
    let speaker = Speaker::new("coderd-1", "probe-7d9f", settings.attributes.clone(), &env);
    let (_, place) = watch::channel(Place {
        provider: Some("aws".to_owned()),
        region: Some("eu-west-1".to_owned()),
        zone: Some("eu-west-1a".to_owned()),
    });
    Setup { settings, spool: None, limits: Limits::default(), speaker, place, pace: QUICK }
}

async fn start(setup: Setup, figures: &Figures) -> Handle {
    let figures = figures.clone();
    Handle::start(setup, move || {
        let figures = figures.clone();
        async move { figures.take() }
    })
    .await
    .unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// What blocks, on a thread that may.
fn meanwhile<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Waits until this is true of what has come of the exports.
fn wait_until(handle: &Handle, what: &str, is_so: impl Fn(&Tallies) -> bool) -> Tallies {
    let watch = Stopwatch::start();
    loop {
        let tallies = handle.tallies();
        if is_so(&tallies) {
            return tallies;
        }
        assert!(watch.elapsed() < Duration::from_secs(60), "{what}: {tallies:?}");
        meanwhile(pause);
    }
}

fn count(tallies: &Tallies, signal: &str, outcome: &str) -> u64 {
    let found = tallies.exports.iter().find(|(one, other, _)| (*one, *other) == (signal, outcome));
    found.unwrap_or_else(|| panic!("{signal} {outcome}: {tallies:?}")).2
}

fn dropped(tallies: &Tallies, reason: &str) -> u64 {
    tallies.dropped.iter().find(|(one, _)| *one == reason).unwrap().1
}

/// What rotel says of this instrument, one block a message.
fn blocks<'a>(output: &'a str, name: &str) -> Vec<&'a str> {
    let blocks = output.split("Descriptor:").filter(|block| block.contains(&format!("-> Name: {name}\n")));
    blocks.map(|block| block.split("\nMetric #").next().unwrap()).collect()
}

fn field<T: std::str::FromStr>(block: &str, name: &str) -> T {
    let line =
        block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {block}"));
    line.trim().parse().unwrap_or_else(|_| panic!("{line}"))
}

fn ids(output: &str) -> Vec<String> {
    let found = output.lines().filter_map(|line| line.trim().strip_prefix("-> log.record.uid: Str("));
    found.map(|id| id.trim_end_matches(')').to_owned()).collect()
}

/// So many durations are above what the bucket before ends with, and at most what this one does.
fn in_buckets(block: &str) -> Vec<u64> {
    let counts = block.lines().filter(|line| line.starts_with("Buckets #"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_real_receiver_understands_everything_over_http_and_over_grpc() {
    let ports = Ports::free();
    let rotel = Rotel::start(ports);
    for (round, (protocol, compression)) in
        [("http/protobuf", "none"), ("grpc", "none"), ("http/protobuf", "gzip"), ("grpc", "gzip")]
            .into_iter()
            .enumerate()
    {
        for (half, buckets) in
            ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"].iter().enumerate()
        {
            let number = 2 * round + half;
            let port = if protocol == "grpc" { ports.grpc } else { ports.http };
            let endpoint = format!("http://127.0.0.1:{port}");
            let setup = setup(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
                ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", buckets),
            ]);
            let figures = Figures::new();
            [10_000, 10_001, 700].into_iter().for_each(|micros| figures.ask(micros));
            let before = rotel.output().len();
            runtime().block_on(async {
                let handle = start(setup, &figures).await;
                handle.tell(event(number));
                wait_until(&handle, "both signals", |tallies| {
                    count(tallies, "metrics", "ok") > 0
                        && count(tallies, "logs", "ok") > 0
                        && tallies.waiting == Some(0)
                });
                assert_eq!(dropped(&handle.tallies(), "full"), 0);
                handle.stop().await;
            });
            let id = format!("agent-1/{number:04}");
            let output = rotel.wait_until("the event and figures", |output| {
                output[before..].contains(&id)
                    && blocks(&output[before..], "coder.probe.postgres.query.duration").len() > 1
            });
            let output = &output[before..];
            for attribute in [
                "service.name: Str(probe)",
                "service.namespace: Str(coder)",
                concat!("service.version: Str(", env!("CARGO_PKG_VERSION"), ")"),
                "service.instance.id: Str(coder.probe-7d9f.probe)",
                "host.name: Str(node-a)",
                "k8s.pod.name: Str(probe-7d9f)",
                "k8s.pod.uid: Str(5f3c-uid)",
                "k8s.namespace.name: Str(coder)",
                "k8s.node.name: Str(node-a)",
                "k8s.cluster.name: Str(blue)",
                "cloud.provider: Str(aws)",
                "cloud.region: Str(eu-west-1)",
                "cloud.availability_zone: Str(eu-west-1a)",
                "deployment.environment.name: Str(test)",
                "team: Str(a,b)",
            ] {
                let resources: Vec<_> = output.split("Resource attributes:").skip(1).collect();
                assert!(
                    resources.len() > 1 && resources.iter().all(|one| one.contains(attribute)),
                    "{attribute}"
                );
            }
            let judged = blocks(output, "coder.probe.path.judged")[0];
            for line in [
                "-> Unit: {sample}",
                "-> DataType: Sum",
                "-> IsMonotonic: true",
                "_CUMULATIVE",
                "-> target: Str(db/coder)",
                "-> target_kind: Str(postgres)",
                "StartTimestamp: 1700000000500000000",
                "Value: 3",
            ] {
                assert!(judged.contains(line), "{line} in {judged}");
            }
            let histogram = blocks(output, "coder.probe.postgres.query.duration")[0];
            assert_eq!((field(histogram, "Count: "), field(histogram, "Sum: ")), (3, 0.020_701));
            if half == 0 {
                let edge = histogram.lines().position(|line| line.ends_with(": 0.01")).unwrap();
                let first = histogram.lines().position(|line| line.starts_with("ExplicitBounds #0")).unwrap();
                let counts = in_buckets(histogram);
                assert_eq!((counts[edge - first], counts[edge - first + 1]), (1, 1), "10 ms is within 10 ms");
                assert_eq!(counts.iter().sum::<u64>(), 3);
            } else {
                assert!(histogram.contains("ExponentialHistogram"), "{histogram}");
            }
            let record = output.split("LogRecord #").find(|block| block.contains(&id)).unwrap();
            for line in [
                "EventName: coder.probe.path.state_changed",
                "SeverityText: ERROR",
                "_ERROR(17)",
                "Body: Str(db/coder: ok → breach",
                "-> samples: Int(300)",
                "-> p95: Double(0.0125)",
            ] {
                assert!(record.contains(line), "{line} in {record}");
            }
        }
    }
}

#[test]
fn what_happens_while_the_receiver_is_away_arrives_when_it_is_back_in_order_and_once() {
    for protocol in ["http/protobuf", "grpc"] {
        for temporality in ["cumulative", "delta"] {
            outage(protocol, temporality);
        }
    }
}

fn outage(protocol: &str, temporality: &str) {
    let ports = Ports::free();
    let port = if protocol == "grpc" { ports.grpc } else { ports.http };
    let endpoint = format!("http://127.0.0.1:{port}");
    let directory = tempfile::tempdir().unwrap();
    let configured = || {
        let setup = setup(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality),
        ]);
        Setup { spool: Some(directory.path().join("spool")), ..setup }
    };
    let figures = Figures::new();
    let mut numbers = 0..;
    let mut happen = |handle: &Handle, times: usize| {
        for number in numbers.by_ref().take(times) {
            handle.tell(event(number));
            figures.ask(500 + 10 * number as u64);
        }
    };
    let rotel = Rotel::start(ports);
    let mut outputs = Vec::new();
    runtime().block_on(async {
        let handle = start(configured(), &figures).await;
        happen(&handle, 3);
        wait_until(&handle, "all is told", |tallies| tallies.waiting == Some(0));
        let exported = count(&handle.tallies(), "metrics", "ok");
        wait_until(&handle, "figures", |tallies| count(tallies, "metrics", "ok") > exported);
        // Nothing is on its way while it ends, so no answer gets lost.
        figures.hide();
        let attempts = handle.tallies().exports;
        wait_until(&handle, "no export is on its way", |_| figures.was_asked_in_vain());
        outputs.push(meanwhile(|| rotel.stop()));
        figures.show();
        happen(&handle, 20);
        wait_until(&handle, "failures", |tallies| {
            count(tallies, "metrics", "retryable") > 1 && count(tallies, "logs", "retryable") > 1
        });
        assert_eq!(handle.tallies().waiting, Some(20), "{attempts:?}");
        happen(&handle, 5);
        let rotel = meanwhile(|| Rotel::start(ports));
        let tallies = wait_until(&handle, "all is told", |tallies| tallies.waiting == Some(0));
        assert_eq!(tallies.dropped.iter().map(|(_, count)| count).sum::<u64>(), 0, "{tallies:?}");
        let exported = count(&handle.tallies(), "metrics", "ok");
        wait_until(&handle, "figures", |tallies| count(tallies, "metrics", "ok") > exported);
        happen(&handle, 1);
        handle.stop().await;
        outputs.push(meanwhile(|| rotel.stop()));
    });
    let output = outputs.concat();
    let expected: Vec<_> = (0..29).map(|number| format!("agent-1/{number:04}")).collect();
    assert_eq!(ids(&output), expected, "{protocol} {temporality}: each once and in order");
    let judged: Vec<u64> =
        blocks(&output, "coder.probe.path.judged").iter().map(|block| field(block, "Value: ")).collect();
    let histogram: Vec<u64> = blocks(&output, "coder.probe.postgres.query.duration")
        .iter()
        .map(|block| {
            let count = field(block, "Count: ");
            assert_eq!(in_buckets(block).iter().sum::<u64>(), count);
            count
        })
        .collect();
    assert_eq!(judged, histogram);
    let told = if temporality == "delta" { judged.iter().sum() } else { *judged.last().unwrap() };
    assert_eq!(told, figures.asked(), "{protocol} {temporality}: {judged:?}");
}

#[test]
fn events_that_nobody_took_are_delivered_after_a_restart() {
    let ports = Ports::free();
    let endpoint = format!("http://127.0.0.1:{}", ports.http);
    let directory = tempfile::tempdir().unwrap();
    let configured = || Setup {
        spool: Some(directory.path().to_owned()),
        ..setup(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &format!("{endpoint}/v1/logs"))])
    };
    let figures = Figures::new();
    runtime().block_on(async {
        let handle = start(configured(), &figures).await;
        (0..10).for_each(|number| handle.tell(event(number)));
        handle.stop().await;
        let rotel = meanwhile(|| Rotel::start(ports));
        let handle = start(configured(), &figures).await;
        handle.tell(event(10));
        wait_until(&handle, "all is told", |tallies| tallies.waiting == Some(0));
        assert!(handle.tallies().exports.iter().all(|(signal, ..)| *signal == "logs"), "metrics are off");
        handle.stop().await;
        let expected: Vec<_> = (0..11).map(|number| format!("agent-1/{number:04}")).collect();
        assert_eq!(ids(&meanwhile(|| rotel.stop())), expected);
    });
}

/// An agent that asks itself nothing else than to hand over.
fn agent(secret: &Secret, more: &[&str], variables: &[(&str, &str)]) -> Agent {
    let tcp = closed_port();
    let target = format!("127.0.0.1:{tcp}");
    let mut arguments = vec![
        "agent",
        "--listen",
        "127.0.0.1:0",
        "--web",
        "127.0.0.1:0",
        "--name",
        "coderd-1",
        "--tcp",
        &target,
    ];
    arguments.extend(more);
    let mut command = probe(&arguments);
    command.env("PROBE_MESH_SECRET_FILE", &secret.path).envs(variables.iter().copied());
    Agent::with(&mut command)
}

#[test]
fn an_agent_hands_over_what_its_log_and_its_page_say_and_the_last_of_it_when_it_stops() {
    let ports = Ports::free();
    let rotel = Rotel::start(ports);
    let secret = Secret::new();
    let endpoint = format!("http://127.0.0.1:{}", ports.grpc);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probe.toml");
    std::fs::write(&file, "").unwrap();
    let agent = agent(
        &secret,
        &["--config", file.to_str().unwrap(), "--region", "aws/eu-west-1", "--zone", "eu-west-1a"],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=geheim,broken"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
            (
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                "base2_exponential_bucket_histogram",
            ),
        ],
    );
    let first = agent.said_first.join("\n");
    assert!(first.contains("OTEL_EXPORTER_OTLP_HEADERS: entry 2 is left out"), "{first}");
    rotel.wait_until("the first event and figures", |output| {
        output.contains("EventName: coder.probe.agent.started")
            && !blocks(output, "coder.probe.scheduler.lag").is_empty()
            && output.contains("cloud.region: Str(eu-west-1)")
            && blocks(output, "coder.probe.otlp.exports")
                .iter()
                .any(|block| block.contains("signal: Str(logs)"))
    });
    let page = agent.get("/metrics");
    for line in [
        "coder_probe_otlp_events_waiting{source=\"coderd-1\"} 0",
        "coder_probe_otlp_events_dropped_total{source=\"coderd-1\",reason=\"refused\"} 0",
        "coder_probe_otlp_exports_total{source=\"coderd-1\",signal=\"logs\",outcome=\"retryable\"} 0",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    std::fs::write(&file, "no such key = 1").unwrap();
    agent.signal("HUP");
    rotel.wait_until("a refusal", |output| output.contains("EventName: coder.probe.config.refused"));
    agent.signal("TERM");
    let (code, said) = agent.wait();
    assert_eq!(code, Some(0), "{said:#?}");
    let output = rotel.stop();
    assert!(output.contains("EventName: coder.probe.agent.stopping"), "{output}");
    for attribute in ["service.instance.id: Str(coderd-1.", "cloud.availability_zone: Str(eu-west-1a)"] {
        assert!(output.contains(attribute), "{attribute}");
    }
    assert!(
        blocks(&output, "coder.probe.scheduler.lag")
            .iter()
            .all(|block| block.contains("ExponentialHistogram"))
    );
    let log = [first, said.join("\n")].concat();
    assert!(!log.contains("geheim"), "{log}");
    let told = ids(&output);
    let logged: Vec<_> = log
        .lines()
        .filter_map(|line| line.split("event_id=").nth(1)?.split([' ', '"']).find(|word| !word.is_empty()))
        .collect();
    assert!(
        !logged.is_empty() && logged.iter().all(|id| told.iter().any(|other| other == id)),
        "{logged:?} {told:?}"
    );
}

#[test]
fn the_last_export_tells_what_has_come_of_those_before_it() {
    let receiver = receiver::Receiver::http(None, []);
    let secret = Secret::new();
    let endpoint = format!("http://{}", receiver.address);
    let agent = agent(&secret, &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    receiver.wait_until("the first event", |received| received.iter().any(|one| one.logs.is_some()));
    agent.signal("TERM");
    assert_eq!(agent.wait().0, Some(0));
    let received = receiver.received();
    let last = received.iter().rev().find_map(|one| one.metrics.as_ref()).unwrap();
    let metrics = &last.resource_metrics[0].scope_metrics[0].metrics;
    for name in ["exports", "events.waiting", "events.dropped", "series.forgotten"] {
        let name = format!("coder.probe.otlp.{name}");
        assert!(metrics.iter().any(|metric| metric.name == name), "{name}");
    }
}

#[test]
fn an_agents_events_wait_in_its_spool_and_a_spool_that_is_none_is_said_at_the_start() {
    let ports = Ports::free();
    let secret = Secret::new();
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("events");
    let endpoint = format!("http://127.0.0.1:{}", ports.http);
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let start = || agent(&secret, &["--event-spool", spool.to_str().unwrap()], &variables);
    let one = start();
    // Who answers has come as far as to listen to signals.
    one.report();
    one.signal("TERM");
    assert_eq!(one.wait().0, Some(0));
    let rotel = Rotel::start(ports);
    let other = start();
    let output = rotel.wait_until("both lives", |output| {
        output.matches("EventName: coder.probe.agent.started").count() == 2
            && output.contains("EventName: coder.probe.agent.stopping")
    });
    let lives: Vec<_> = ids(&output).iter().map(|id| id.rsplit_once('-').unwrap().0.to_owned()).collect();
    assert!(
        lives.windows(2).filter(|pair| pair[0] != pair[1]).count() == 1,
        "one after the other: {lives:?}"
    );
    let run = Run::of(
        probe(&[
            "agent",
            "--listen",
            "127.0.0.1:0",
            "--web",
            "127.0.0.1:0",
            "--event-spool",
            spool.to_str().unwrap(),
        ])
        .env("PROBE_MESH_SECRET_FILE", &secret.path)
        .envs(variables),
    );
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("in use by another process"), "{}", run.stderr);
    drop(other);
}
