//! `/metrics`: the same figures as the report's, in the form that Prometheus reads, and no line that a name has written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use probe::export::collect::Settings;
use probe::export::instruments::{self, Instrument, Shape};
use probe::export::prometheus::{self, Format};
use probe::mesh::region;
use probe::mesh::roster::{Claim, Roster, Sighting, Source};
use probe::mesh::rules::TopologyFinding;
use probe::mesh::rules::code::Code;
use probe::mesh::rules::held::Held;
use probes::target::Kind;

use crate::house::{Agent, Secret, pause, postgres, probe, wait_until};
use crate::relay::Relay;
use crate::scene;

/// One line: its labels with their values, and its value.
pub(crate) type Series = (BTreeMap<String, String>, f64);

/// A page of the text format, by the metrics' names. Every line has to be one that Prometheus would take.
pub(crate) fn parse(page: &str) -> BTreeMap<String, Vec<Series>> {
    let mut all = BTreeMap::<String, Vec<Series>>::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
        let value = value.replace("+Inf", "inf").parse().unwrap_or_else(|error| panic!("{error}: {line}"));
        all.entry(name.to_owned()).or_default().push((parse_labels(labels, line), value));
    }
    all
}

fn parse_labels(mut rest: &str, line: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("{line}")) {
                (_, '\\') => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, other @ ('"' | '\\'))) => value.push(other),
                    other => panic!("{other:?}: {line}"),
                },
                (at, '"') => break at + 1,
                (_, other) => value.push(other),
            }
        };
        labels.insert(label.to_owned(), value);
        rest = after[end..].strip_prefix(',').unwrap_or(&after[end..]);
    }
    labels
}

/// The value of the series of this metric that has these labels among its own; there has to be exactly one.
pub(crate) fn value(page: &str, metric: &Instrument, suffix: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let all = parse(page);
    let name = format!("{}{suffix}", metric.prometheus());
    let mut found = all.get(&name).into_iter().flatten().filter(|(known, _)| {
        labels.iter().all(|(label, value)| known.get(*label).is_some_and(|known| known == value))
    });
    let first = found.next()?.1;
    assert!(found.next().is_none(), "{name} {labels:?} is several series");
    Some(first)
}

fn page(agent: &Agent) -> String {
    let answer = agent.get("/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    body.to_owned()
}

/// What this `Accept` and `Accept-Encoding` get: head and body.
fn ask(agent: &Agent, accept: &str, encoding: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(agent.web).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nAccept-Encoding: {encoding}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
}

fn agent(secret: &Secret, arguments: &[&str], variables: &[(&str, &str)]) -> Agent {
    let mut all = vec!["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--role", "coderd"];
    all.extend(arguments);
    let mut command = probe(&all);
    command.env("PROBE_MESH_SECRET_FILE", &secret.path).env("PROBE_INTERVALS__PEER", "100ms");
    command.env("PROBE_INTERVALS__POSTGRES", "100ms").env("PROBE_INTERVALS__POSTGRES_CONNECT", "1s");
    command.envs(variables.iter().copied());
    Agent::with(&mut command)
}

#[test]
fn prometheus_reads_what_the_report_says() {
    let secret = Secret::new();
    let (near, far) = (Agent::start(&secret), Agent::start(&secret));
    let far_relay = Relay::udp(far.reflector, Duration::from_millis(12), 0);
    let (near_at, far_at) = (near.reflector.to_string(), far_relay.address.to_string());
    let (near_arg, far_arg) = (format!("{near_at}=coderd"), format!("{far_at}=coderd"));
    let url = secret.file("url", &postgres().url());
    let database = postgres().url().split_once('@').unwrap().1.split('?').next().unwrap().to_owned();
    let told =
        ["--name", "me \"\\ too", "--peer", &near_arg, "--peer", &far_arg, "--postgres-url-file", &url];
    let agent = agent(&secret, &told, &[]);
    wait_until(&agent, "60 outcomes of each and bare connects", 60, |report| {
        let links = report["links"].as_array().unwrap();
        links.iter().all(|link| link["samples"].as_u64() >= Some(60))
            && links.iter().any(|link| link["bare_connects_us"]["count"].as_u64() >= Some(2))
    });
    let before = agent.report();
    let page = page(&agent);
    let after = agent.report();
    let link = |report: &serde_json::Value, name: &str| {
        let links = report["links"].as_array().unwrap().clone();
        links.into_iter().find(|link| link["name"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
    };
    for (name, kind) in [(&near_at, "peer"), (&far_at, "peer"), (&database, "postgres")] {
        let labels = [("source", "me \"\\ too"), ("target", name.as_str()), ("target_kind", kind)];
        let (before, after) = (link(&before, name), link(&after, name));
        for (metric, extra, pointer) in [
            (&instruments::JUDGED, None, "/totals/judged"),
            (&instruments::EXCEEDED, None, "/totals/exceeded"),
            (&instruments::SAMPLES, Some(("outcome", "ok")), "/totals/outcomes/ok"),
            (&instruments::SAMPLES, Some(("outcome", "lost")), "/totals/outcomes/lost"),
            (&instruments::SELF_NOISE, None, "/totals/marked_self"),
        ] {
            let labels: Vec<_> = labels.into_iter().chain(extra).collect();
            let shown = value(&page, metric, "", &labels).unwrap_or_else(|| panic!("{} {name}", metric.name));
            let bounds = [&before, &after].map(|link| link.pointer(pointer).unwrap().as_f64().unwrap());
            // As old as a second at most, which is ten outcomes.
            assert!(
                bounds[0] - 15.0 <= shown && shown <= bounds[1],
                "{} {name}: {bounds:?} {shown}",
                metric.name
            );
        }
        assert_eq!(value(&page, &instruments::BUDGET, "", &labels), Some(0.01), "{name}");
        // Exactly what was judged and got a reply is in the histogram.
        let metric = if kind == "peer" { &instruments::PEER_RTT } else { &instruments::QUERY };
        let count = value(&page, metric, "_count", &labels).unwrap();
        let lost = ["lost", "refused", "error"].map(|outcome| {
            let labels: Vec<_> = labels.into_iter().chain([("outcome", outcome)]).collect();
            value(&page, &instruments::SAMPLES, "", &labels).unwrap()
        });
        let judged = value(&page, &instruments::JUDGED, "", &labels).unwrap();
        assert!((judged - lost.iter().sum::<f64>() - count).abs() < 0.5, "{name}: {judged} {lost:?} {count}");
        let within: Vec<_> = labels.into_iter().chain([("le", "0.01")]).collect();
        let within = value(&page, metric, "_bucket", &within).unwrap();
        let exceeded = value(&page, &instruments::EXCEEDED, "", &labels).unwrap();
        assert!((within - (judged - exceeded)).abs() < 0.5, "{name}: {within} {judged} {exceeded}");
    }
    let p50 = [("target", far_at.as_str()), ("percentile", "p50")];
    let p50 = value(&page, &instruments::RTT, "", &p50).unwrap();
    assert!((0.012..0.1).contains(&p50), "{p50}");
    let database = [("target", database.as_str())];
    assert!(value(&page, &instruments::BARE_CONNECT, "", &database).unwrap() > 0.0);
    assert!(value(&page, &instruments::CONNECT, "_count", &database).unwrap() >= 2.0);
    assert!(value(&page, &instruments::MEMORY, "", &[]).unwrap() > 1e6);
    assert!(value(&page, &instruments::CPU, "", &[]).unwrap() > 0.0);
    let started = [("event", "coder.probe.agent.started")];
    assert_eq!(value(&page, &instruments::EVENTS, "", &started), Some(1.0));
}

/// What promtool has to say of a page.
fn lint(page: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}: `bash tests/run.sh` installs what the tests need"));
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let done = promtool.wait_with_output().unwrap();
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let secret = Secret::new();
    let told = ["--name", "a\"} 1 \\ é", "--tcp", "127.0.0.1:1", "--http", "http://127.0.0.1:1/x\\y"];
    let agent = agent(&secret, &told, &[]);
    assert_eq!(lint(&page(&agent)), "");
    assert!(lint("nonsense_ms 1\n").contains("no help text"), "promtool looks");
}

#[test]
fn who_asks_for_openmetrics_or_gzip_gets_it() {
    let agent = agent(&Secret::new(), &["--tcp", "127.0.0.1:9"], &[]);
    let (head, body) = ask(&agent, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "identity");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(String::from_utf8(body).unwrap().ends_with("\n# EOF\n"));
    let (head, body) = ask(&agent, "*/*", "gzip");
    assert!(
        head.contains("content-encoding: gzip") && head.contains("vary: accept, accept-encoding"),
        "{head}"
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
    assert!(text.contains("coder_probe_build_info{version="), "{text}");
}

#[test]
fn a_target_that_is_gone_is_shown_no_more_and_what_is_above_the_cap_is_shown_together() {
    let secret = Secret::new();
    let config = secret.file(
        "probe.toml",
        "targets.tcp = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\"]\nmetrics.targets = 2\n",
    );
    let agent = agent(&secret, &["--config", &config], &[]);
    let targets = |page: &str| -> Vec<String> {
        let all = parse(page);
        let states = &all[&instruments::STATE.prometheus()];
        let unknown = states.iter().filter(|(labels, _)| labels["state"] == "unknown");
        unknown.map(|(labels, _)| labels["target"].clone()).collect()
    };
    let first = page(&agent);
    assert_eq!(targets(&first), ["127.0.0.1:1", "127.0.0.1:2", "__overflow__"]);
    assert_eq!(value(&first, &instruments::TARGETS_FOLDED, "", &[]), Some(1.0));
    std::fs::write(&config, "targets.tcp = [\"127.0.0.1:2\"]\nmetrics.targets = 2\n").unwrap();
    agent.signal("HUP");
    let mut last = Vec::new();
    for _ in 0..200 {
        last = targets(&page(&agent));
        if last == ["127.0.0.1:2"] {
            break;
        }
        pause();
    }
    assert_eq!(last, ["127.0.0.1:2"]);
    let page = page(&agent);
    assert_eq!(value(&page, &instruments::EVENTS, "", &[("event", "coder.probe.target.removed")]), Some(2.0));
    assert_eq!(
        value(&page, &instruments::EVENTS, "", &[("event", "coder.probe.config.reloaded")]),
        Some(1.0)
    );
    assert_eq!(value(&page, &instruments::RELOAD_OK, "", &[]), Some(1.0));
    std::fs::write(&config, "nonsense = 1\n").unwrap();
    agent.signal("HUP");
    for _ in 0..200 {
        if value(&self::page(&agent), &instruments::RELOAD_OK, "", &[]) == Some(0.0) {
            return;
        }
        pause();
    }
    panic!("a refused configuration is not shown");
}

#[test]
fn without_pairs_links_are_shown_by_the_zones_of_both_ends() {
    let told = ["--tcp", "127.0.0.1:1", "--tcp", "127.0.0.1:2", "--zone", "az-a"];
    let agent = agent(&Secret::new(), &told, &[("PROBE_METRICS__PAIRS", "false")]);
    let page = page(&agent);
    let labels = [("source", "az-a"), ("target", "unknown"), ("target_kind", "tcp"), ("state", "unknown")];
    assert_eq!(value(&page, &instruments::STATE, "", &labels), Some(2.0), "{page}");
    assert!(!page.contains("127.0.0.1:1"), "{page}");
}

fn rendered(members: &[Sighting], findings: &[(Code, bool)]) -> String {
    let mut roster = Roster::default();
    roster.hear(Source::Kubernetes, members.to_vec(), Duration::ZERO);
    let held = findings.iter().map(|(code, is_news)| Held {
        finding: TopologyFinding {
            code: *code,
            severity: code.severity(),
            subjects: vec!["x".into()],
            evidence: "x".into(),
            remedy: code.remedy(),
            anchor: code.anchor(),
            vantage: Vec::new(),
        },
        since: Duration::ZERO,
        is_news: *is_news,
    });
    let (links, held) = (scene::links(&[(Kind::Peer, 2)], 5), held.collect::<Vec<_>>());
    let metrics = scene::collect_with(&links, Settings::default(), &roster.members(), &held);
    prometheus::render(&metrics, Format::Text)
}

fn standing_in(zone: &str, name: &str) -> Sighting {
    Sighting {
        key: name.into(),
        agent: Some(name.into()),
        node: Some(format!("node of {name}")),
        claims: vec![Claim {
            trust: 4,
            by: "IMDS".into(),
            region: region::name("aws/us-east-1"),
            zone: Some(zone.into()),
        }],
        ..Sighting::default()
    }
}

#[test]
fn where_a_target_stands_and_who_says_so_is_on_its_information() {
    let page = rendered(&[standing_in("use1-az1", "peer-0")], &[]);
    let known = [
        ("target", "peer-0"),
        ("zone", "use1-az1"),
        ("region", "aws/us-east-1"),
        ("region_by", "IMDS"),
        ("node_name", "node of peer-0"),
        ("role", "coderd"),
    ];
    assert_eq!(value(&page, &instruments::TARGET_INFO, "", &known), Some(1.0), "{page}");
    let unknown = [("target", "peer-1"), ("zone", ""), ("region", ""), ("region_by", "")];
    assert_eq!(value(&page, &instruments::TARGET_INFO, "", &unknown), Some(1.0), "{page}");
}

#[test]
fn placement_is_ok_only_where_somebody_is_known_and_nothing_is_wrong() {
    let there = [standing_in("use1-az1", "peer-0")];
    for (members, findings, state) in [
        (&there[..], &[][..], "ok"),
        (&[], &[], "unknown"),
        (&there, &[(Code::Blind, true)], "unknown"),
        (&there, &[(Code::SharedNode, true)], "ok"),
        (&there, &[(Code::CoderdCrossRegion, true)], "violated"),
        (&there, &[(Code::CoderdCrossRegion, false)], "ok"),
        (&there, &[(Code::Blind, true), (Code::CoderdCrossRegion, true)], "violated"),
    ] {
        let page = rendered(members, findings);
        for one in ["ok", "violated", "unknown"] {
            let shown = value(&page, &instruments::PLACEMENT, "", &[("state", one)]);
            assert_eq!(shown, Some(f64::from(u8::from(one == state))), "{findings:?}: {one}");
        }
        let code = [("code", "coderd_cross_region")];
        let counts = findings.contains(&(Code::CoderdCrossRegion, true)).then_some(1.0);
        assert_eq!(value(&page, &instruments::FINDINGS, "", &code), counts, "{findings:?}");
    }
}

#[test]
fn the_docs_list_every_metric_as_the_table_does() {
    let mut text =
        String::from("| Prometheus | OpenTelemetry | type | unit | labels | |\n|---|---|---|---|---|---|\n");
    for instrument in instruments::ALL {
        let shape = match instrument.shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Histogram => "histogram",
        };
        let unit = match instrument.unit.ucum() {
            none if none.is_empty() => "–".to_owned(),
            unit => format!("`{unit}`"),
        };
        let labels: Vec<_> = instrument.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            text,
            "| `{}` | `{}` | {shape} | {unit} | {} | {} |",
            instrument.prometheus(),
            instrument.name,
            labels.join(", "),
            instrument.help
        );
    }
    written("table", &text);
}

/// Holds this stretch of docs/metrics.md against what it has to be, or writes it anew.
fn written(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let (before, rest) = document.split_once(&begin).unwrap();
    let (written, after) = rest.split_once(&end).unwrap();
    // One thread at a time: two stretches are in one file.
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{text}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(
        written, text,
        "docs/metrics.md is not up to date: UPDATE_DOCS=1 cargo test --test it metrics -- --test-threads 1"
    );
}

#[test]
fn the_docs_say_how_many_series_a_deployment_has() {
    let of = |kinds: &[(Kind, usize)], settings| {
        let page = prometheus::render(&scene::collect(&scene::links(kinds, 20), settings), Format::Text);
        page.lines().filter(|line| !line.starts_with('#')).count()
    };
    let alone = of(&[], Settings::default());
    let mut text = format!("| what | series |\n|---|---|\n| an agent without any target | {alone} |\n");
    for kind in Kind::ALL {
        let one = of(&[(kind, 1)], Settings::default()) - alone;
        // One of them is that there are targets of this kind.
        let _ = writeln!(text, "| each target of kind `{}` | {} |", kind.as_str(), one - 1);
    }
    let replicas = |count: usize| {
        use Kind::{Http, Nats, Peer, Postgres, Relay};
        let others = count - 1;
        vec![(Peer, others), (Postgres, 1), (Relay, others), (Http, others), (Nats, others)]
    };
    for count in [3, 5, 9] {
        let one = of(&replicas(count), Settings::default());
        let _ = writeln!(
            text,
            "| {count} replicas and a database, relay, health and NATS included: each agent, all agents | {one}, {} |",
            one * count
        );
    }
    let peers = |count, settings| of(&[(Kind::Peer, count)], settings);
    let _ = writeln!(text, "| 64 peers | {} |", peers(64, Settings::default()));
    let _ =
        writeln!(text, "| 1,000 peers, as `metrics.targets` is 64 | {} |", peers(1000, Settings::default()));
    let by_zone = Settings { pairs: false, ..Settings::default() };
    let _ = writeln!(text, "| 1,000 peers in one zone without `metrics.pairs` | {} |", peers(1000, by_zone));
    written("series", &text);
}
