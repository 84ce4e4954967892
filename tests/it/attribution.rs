//! Whose slowness it is: a real PostgreSQL of ours beside pages of metrics as coderd writes them, and as nobody should.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use probes::stopwatch::Stopwatch;
use serde_json::Value;

use crate::coder::{Coder, Generation};
use crate::house::{Agent, Run, Secret, check, check_until_told, closed_port, postgres, probe, quiet};
use crate::metadata_server::{Answer, MetadataServer, ok, status};
use crate::relay::Relay;

const BUCKETS: [&str; 7] = ["0.005", "0.01", "0.025", "0.05", "0.5", "1", "+Inf"];

/// A histogram with so many observations in each bucket.
fn histogram(text: &mut String, name: &str, labels: &str, counts: [u64; 7]) {
    let mut sum = 0;
    writeln!(text, "# TYPE {name} histogram").unwrap();
    for (edge, count) in BUCKETS.iter().zip(counts) {
        sum += count;
        writeln!(text, "{name}_bucket{{{labels}le=\"{edge}\"}} {sum}").unwrap();
    }
    writeln!(text, "{name}_sum{{{labels}}} 1\n{name}_count{{{labels}}} {sum}").unwrap();
}

/// A page with these pings and requests, and other things beside them.
fn page(pings: [u64; 7], requests: [u64; 7]) -> String {
    let mut text = "process_start_time_seconds 1.76e+09\n".to_owned();
    histogram(&mut text, "coderd_db_query_latencies_seconds", "query=\"GetUsers\",", [1, 0, 0, 0, 0, 0, 99]);
    histogram(&mut text, "coderd_db_query_latencies_seconds", "query=\"Ping\",", pings);
    let labels = "method=\"GET\",path=\"/api/v2/users/{user}\",";
    histogram(&mut text, "coderd_api_request_latencies_seconds", labels, requests);
    text + "coder_pubsub_send_latency_seconds 0.004\ncoder_pubsub_receive_latency_seconds 0.006\n"
}

const FAST: [u64; 7] = [1000, 0, 0, 0, 0, 0, 0];
const FEW_SLOW: [u64; 7] = [1000, 0, 0, 12, 0, 0, 0];
const SLOW: [u64; 7] = [0, 0, 0, 90, 0, 0, 0];
const REQUESTS: [u64; 7] = [10, 50, 30, 10, 0, 0, 0];
const SLOW_REQUESTS: [u64; 7] = [10, 0, 0, 0, 0, 60, 30];

/// Coderd's metrics: these pages one after the other, and the last of them from then on.
fn coderd(pages: impl IntoIterator<Item = Answer>) -> MetadataServer {
    let mut pages: Vec<_> = pages.into_iter().collect();
    pages.reverse();
    let pages = Mutex::new(pages);
    MetadataServer::start(move |_| {
        let mut pages = pages.lock().unwrap();
        if pages.len() > 1 { pages.pop().unwrap() } else { pages[0].clone() }
    })
}

fn url(server: &MetadataServer) -> String {
    format!("http://{}/metrics", server.address)
}

fn attribution(run: &Run) -> Value {
    let report = run.json();
    let all = report["attribution"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(all.len(), 1, "{report:#}");
    all[0].clone()
}

#[test]
fn pings_that_got_slow_while_our_queries_are_fast_are_the_databases_or_the_pools() {
    let _quiet = quiet();
    let server = coderd([ok(&page(FAST, REQUESTS)), ok(&page(FEW_SLOW, REQUESTS))]);
    let run = check_until_told(
        &Secret::new(),
        &["--postgres", &postgres().url(), "--coderd-metrics", &url(&server)],
    );
    assert_eq!(run.code, Some(0), "it explains, and fails nothing: {}", run.stdout);
    let told = attribution(&run);
    assert_eq!(told["verdict"], "database", "{told:#}");
    assert!(told["sentence"].as_str().unwrap().contains("pool of connections"), "{told:#}");
    assert!(told["sentence"].as_str().unwrap().contains("25 to 50 ms (p95 of 12 within"), "{told:#}");
    assert_eq!(server.requests().len(), 2, "one page before and one after");
    assert!(server.requests().iter().all(|request| request.header("accept-encoding").is_none()));

    // Every figure of the sentence, from the JSON alone.
    let ping = &told["ping"];
    assert_eq!((ping["shape"].as_str(), ping["count"].as_u64()), (Some("histogram"), Some(12)));
    let covered = ping["covered_us"].as_f64().unwrap();
    assert!(covered > 9e6 && covered <= run.json()["elapsed_us"].as_f64().unwrap() + 5e6, "{told:#}");
    assert_eq!(ping["p95_us"], serde_json::json!({"from": 25_000.0, "to": 50_000.0}));
    assert_eq!(ping["buckets_us"], serde_json::json!([{"from": 25_000.0, "to": 50_000.0, "count": 12}]));
    assert_eq!(told["api"]["covered_us"], Value::Null, "no request since, so all since the start");
    assert_eq!(told["api"]["count"], 100);
    assert_eq!(told["budget_us"], 10_000.0);
    assert_eq!(told["database"]["p95_us"], run.target()["rtt_us"]["p95"]);
    let pubsub = &told["pubsub"][0];
    assert_eq!(
        (pubsub["backend"].as_str(), pubsub["receive"]["count"].as_u64()),
        (Some("postgres"), Some(2))
    );
    assert_eq!(pubsub["receive"]["p50_us"], serde_json::json!({"from": 6000.0, "to": 6000.0}));
}

#[test]
fn a_look_too_short_for_two_pages_says_that_it_knows_only_all_since_coderds_start() {
    for (pings, requests, verdict) in
        [(FAST, REQUESTS, "nothing_slow"), (FAST, SLOW_REQUESTS, "coderd"), (SLOW, REQUESTS, "database")]
    {
        let server = coderd([ok(&page(pings, requests))]);
        let run = check_until_told(
            &Secret::new(),
            &["--postgres", &postgres().url(), "--coderd-metrics", &url(&server), "--quick"],
        );
        let told = attribution(&run);
        assert_eq!(told["verdict"], verdict, "{told:#}");
        let read = server.requests().len();
        let human = Run::of(&mut probe(&["check", "--coderd-metrics", &url(&server), "--fail-on", "never"]));
        assert!(human.stdout.contains("pubsub: postgres, p95 of 1: 6.00 ms"), "{}", human.stdout);
        let again = server.requests().len() - read;
        assert_eq!(again, 1, "nothing was measured, so there is no second time to compare with");
        assert_eq!(
            told["ping"]["covered_us"].is_null(),
            told["sentence"].as_str().unwrap().contains("not just now")
        );
    }
}

#[test]
fn what_is_over_the_budget_by_our_own_queries_is_the_networks_unless_connects_are_fast() {
    let server = coderd([ok(&page(SLOW, REQUESTS))]);
    let look = |url_of_database: &str, budget: &str| {
        let arguments =
            ["--postgres", url_of_database, "--budget", budget, "--coderd-metrics", &url(&server)];
        let run = check(&Secret::new(), &[&arguments[..], &["--time-limit", "12s"]].concat());
        assert_eq!(run.code, Some(1), "{}", run.stdout);
        (run.target()["reason"].as_str().unwrap().to_owned(), attribution(&run))
    };
    // No wire of this machine has a length; a microsecond makes any way too long.
    let (reason, told) = look(&postgres().url(), "1us");
    assert_eq!((reason.as_str(), told["verdict"].as_str()), ("placement", Some("network")), "{told:#}");
    assert!(told["sentence"].as_str().unwrap().contains("p95 of 90 since its start"), "{told:#}");

    // A relay accepts at once, as a pooler does: then it is no distance, and nobody says so.
    let there = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres().port()));
    let relay = Relay::tcp(there, Duration::from_millis(25));
    let far = postgres().url().replace(&postgres().port().to_string(), &relay.address.port().to_string());
    let (reason, told) = look(&far, "10ms");
    assert_eq!(
        (reason.as_str(), told["verdict"].as_str()),
        ("server_or_proxy", Some("database")),
        "{told:#}"
    );
    assert!(told["sentence"].as_str().unwrap().contains("or what stands before it"), "{told:#}");
}

#[test]
fn a_ping_that_is_fast_contradicts_our_long_way() {
    let server = coderd([ok(&page([0, 0, 0, 0, 0, 0, 0], REQUESTS)
        .replace("le=\"0.005\"", "le=\"0.0000005\"")
        .lines()
        .map(|line| {
            if line.contains("query=\"Ping\"") {
                line.rsplit_once(' ').unwrap().0.to_owned() + " 60\n"
            } else {
                line.to_owned() + "\n"
            }
        })
        .collect::<String>())]);
    let run = check(
        &Secret::new(),
        &[
            "--postgres",
            &postgres().url(),
            "--budget",
            "1us",
            "--coderd-metrics",
            &url(&server),
            "--time-limit",
            "6s",
        ],
    );
    let told = attribution(&run);
    assert_eq!(told["verdict"], "unknown", "{told:#}");
    assert!(told["sentence"].as_str().unwrap().contains("another way"), "{told:#}");
}

#[test]
fn what_is_no_page_of_metrics_does_no_harm_and_says_what_is_wrong() {
    let mut long = page(FAST, REQUESTS);
    for series in 0.. {
        if long.len() > 10_000_000 {
            break;
        }
        writeln!(long, "go_something_total{{series=\"{series}\"}} 1").unwrap();
    }
    let odd = page(FAST, REQUESTS) + "coderd_x{a=\"" + &"y".repeat(100_000) + "\"} 1\n# EOF\n";
    let redirect = Answer::Reply(302, vec![("Location", "http://127.0.0.1:1/".to_owned())], String::new());
    let compressed = Answer::Reply(200, vec![("Content-Encoding", "gzip".to_owned())], page(FAST, REQUESTS));
    let cases = [
        (ok("<html><body>Please accept the terms of use.</body></html>"), "no metric of coderd"),
        (Answer::Garbage, "no HTTP answer"),
        (Answer::HangUp, "no HTTP answer"),
        (status(404), "status is 404"),
        (redirect, "not followed"),
        (compressed, "compressed"),
        (Answer::Silence, "within 3s"),
        (Answer::Trickle, "within 3s"),
        (ok(&page(FAST, REQUESTS).replace("\"+Inf\"}", "\"0.001\"}")), "cannot be"),
        (ok(&page(FAST, REQUESTS).replace(" 1000\n", " plenty\n")), "cannot be read"),
        (ok(&long), ""),
        (ok(&odd), ""),
    ];
    let servers: Vec<_> = cases.iter().map(|(answer, _)| coderd([answer.clone()])).collect();
    let mut arguments = vec!["--postgres".to_owned(), postgres().url(), "--quick".to_owned()];
    for server in &servers {
        arguments.extend(["--coderd-metrics".to_owned(), url(server)]);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let run = check_until_told(&Secret::new(), &arguments);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    let report = run.json();
    let told = report["attribution"].as_array().unwrap();
    for ((told, server), (_, part)) in told.iter().zip(&servers).zip(&cases) {
        assert_eq!(told["url"], url(server));
        if part.is_empty() {
            assert_eq!(
                (told["verdict"].as_str(), told["failure"].as_str()),
                (Some("nothing_slow"), None),
                "{told:#}"
            );
        } else {
            assert_eq!(told["verdict"], "unknown", "{told:#}");
            assert!(told["failure"].as_str().unwrap().contains(part), "{part}: {told:#}");
            assert!(told["sentence"].as_str().unwrap().contains(part), "{part}: {told:#}");
        }
    }
    // A page without end: it ends with the limit or with the deadline, whichever comes first.
    let endless = coderd([Answer::Endless]);
    let run = check(&Secret::new(), &["--coderd-metrics", &url(&endless), "--fail-on", "never"]);
    let failure = attribution(&run)["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("longer than 16777216 bytes") || failure.contains("within 3s"), "{failure}");
}

#[test]
fn an_address_shows_neither_password_nor_query() {
    let refused = check(&Secret::new(), &["--coderd-metrics", "http://coder:hunter2@127.0.0.1:2112/"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("--coderd-metrics: the URL has a user or password in it"),
        "{}",
        refused.stderr
    );
    let server = coderd([status(500)]);
    let place = format!("{}?token=hunter2", url(&server));
    let json = check(&Secret::new(), &["--coderd-metrics", &place]);
    let human = Run::of(&mut probe(&["check", "--coderd-metrics", &place]));
    assert!(
        human.stdout.contains("Coder's own metrics") && human.stdout.contains("status is 500"),
        "{}",
        human.stdout
    );
    for run in [refused, json, human] {
        assert!(
            !run.stdout.contains("hunter2") && !run.stderr.contains("hunter2"),
            "{}{}",
            run.stdout,
            run.stderr
        );
    }
    assert_eq!(server.requests()[0].path, "/metrics?token=hunter2", "it is sent all the same");
}

fn agent(variables: &[(&str, &str)], arguments: &[&str]) -> Agent {
    let mut all = vec!["agent", "--name", "watcher", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"];
    all.extend(arguments);
    let secret = Secret::new();
    let mut command = probe(&all);
    command.env("PROBE_MESH_SECRET_FILE", &secret.path).env("PROBE_ATTRIBUTION__EVERY", "15s");
    command.envs(variables.iter().copied());
    Agent::with(&mut command)
}

#[expect(clippy::disallowed_methods, reason = "the story takes real time")]
fn wait_until(agent: &Agent, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let watch = Stopwatch::start();
    loop {
        let report = agent.report();
        if is_so(&report["attribution"]) {
            return report["attribution"].clone();
        }
        assert!(watch.elapsed() < Duration::from_secs(90), "{what}: {report:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The most memory that this process ever had, in KiB.
fn peak_of(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn an_agent_reads_again_and_again_but_never_too_soon_and_complains_once() {
    let watch = Stopwatch::start();
    let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
    let server = {
        let asked = std::sync::Arc::clone(&asked);
        MetadataServer::start(move |_| {
            let mut asked = asked.lock().unwrap();
            asked.push(watch.elapsed());
            match asked.len() {
                1 | 2 => status(503),
                count => ok(&page([1000 + 6 * u64::try_from(count).unwrap(), 0, 0, 0, 0, 0, 0], REQUESTS)),
            }
        })
    };
    let mut long = page(FAST, REQUESTS);
    while long.len() < 10_000_000 {
        long += "go_something_total{series=\"a\"} 1\n";
    }
    let long = coderd([ok(&long)]);
    let places = format!("{},{}", url(&server), url(&long));
    let agent = agent(&[("PROBE_CODERD_METRICS", &places)], &["--postgres", &postgres().url()]);
    let first = wait_until(&agent, "both are named from the start", |told| told[1].is_object());
    assert!(first[0]["sentence"].as_str().unwrap().contains("not been read yet"), "{first:#}");
    let peak = peak_of(&agent);
    let place = |told: &Value| {
        told.as_array().unwrap().iter().find(|one| one["url"] == url(&server)).unwrap().clone()
    };
    let told =
        wait_until(&agent, "two pages have been read", |told| !place(told)["ping"]["covered_us"].is_null());
    let told = place(&told);
    assert_eq!((told["ping"]["count"].as_u64(), told["failure"].as_str()), (Some(6), None), "{told:#}");
    let asked = asked.lock().unwrap().clone();
    assert!(asked.windows(2).all(|two| two[1] - two[0] >= Duration::from_millis(14_900)), "{asked:?}");
    assert!(!long.requests().is_empty());
    let grown = peak_of(&agent) - peak;
    assert!(grown < 5_000, "pages of 10 MB cost {grown} KiB");
    agent.signal("TERM");
    let (code, said) = agent.wait();
    let lines = |part: &str| said.iter().filter(|line| line.contains(part)).count();
    assert_eq!(
        (code, lines("metrics cannot be read"), lines("can be read again")),
        (Some(0), 1, 1),
        "{said:#?}"
    );
}

#[test]
fn auto_is_the_replica_that_the_agent_stands_beside_and_no_other() {
    let mut coder = Coder::new(Generation::BeforeNats);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // Nobody serves metrics there, which is enough to see where they are looked for.
    coder.add_replica(host.trim(), &format!("http://127.0.0.9:{}", closed_port()));
    coder.add_replica("another", &format!("http://127.0.0.10:{}", closed_port()));
    coder.keep_alive();
    let database = coder.cluster.url();
    let agent = agent(&[("CODER_PG_CONNECTION_URL", &database)], &["--coderd-metrics", "auto"]);
    let told = wait_until(&agent, "a replica is found", |told| told[0].is_object());
    assert_eq!(told.as_array().unwrap().len(), 1, "{told:#}");
    assert_eq!(told[0]["url"], "http://127.0.0.9:2112/metrics", "{told:#}");
}
