//! The workspace proxy that is nearest to a node where workspaces run, and who may say which proxies there are.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::coder::{Coder, Generation};
use crate::daemonset::{common_port, endpoint, kubeconfig, slice};
use crate::house::{Agent, Run, Secret, probe, quiet, sql, wait_until};
use crate::kube_api::KubeApi;
use crate::relay::Relay;
use crate::replica::{Nats, Replica};

/// A proxy that registers itself now.
fn add_proxy(coder: &Coder, name: &str, url: &str) {
    sql(
        &coder.cluster,
        &format!(
            "INSERT INTO workspace_proxies (id, name, display_name, icon, url, wildcard_hostname, created_at, updated_at, \
             deleted, token_hashed_secret) \
             VALUES (gen_random_uuid(), '{name}', '', '', '{url}', '', now(), now(), false, '')"
        ),
    );
}

fn proxies(report: &Value) -> Vec<&str> {
    let links = report["links"].as_array().unwrap().iter().filter(|link| link["role"] == "proxy");
    links.map(|link| link["name"].as_str().unwrap()).collect()
}

#[test]
fn an_idle_agent_names_the_nearest_proxy_of_those_that_agents_beside_coderd_know() {
    let _quiet = quiet();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let api = runtime.block_on(KubeApi::start());
    let own = ["127.0.1.21".to_owned(), "127.0.1.22".to_owned(), "127.0.1.23".to_owned()];
    let port = common_port(&own);
    let http = json!({"name": "http", "protocol": "TCP", "port": 8080});
    let echo = json!({"name": "echo", "protocol": "UDP", "port": port});
    // No replica stands beside the last one, whatever it says.
    let nodes = ["a", "b", "c"];
    let agents: Vec<_> = nodes
        .iter()
        .zip(&own)
        .map(|(node, address)| endpoint(&format!("probe-{node}"), address, &format!("node-{node}")))
        .collect();
    api.put("coder", "coder-x", &slice(&http, &[endpoint("coder-a", "127.0.2.21", "node-a")]));
    api.put("probe", "probe-x", &slice(&echo, &agents));
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig(&directory, &api);

    let servers = ["127.0.0.5", "127.0.0.6", "127.0.0.7"].map(|ip| Replica::start(ip, Nats::Closed));
    let far = Relay::tcp(servers[0].address, Duration::from_millis(60));
    let near = Relay::tcp(servers[1].address, Duration::from_millis(15));
    let (mut coder, mut other) = (Coder::new(Generation::WithNats), Coder::new(Generation::WithNats));
    add_proxy(&coder, "far", &format!("http://{}", far.address));
    // It is known by its host, so the two need different ones.
    add_proxy(&coder, "near", &format!("http://localhost:{}", near.address.port()));
    add_proxy(&other, "evil", &servers[2].relay());
    for (coder, address) in [(&mut coder, "127.0.2.21"), (&mut other, "127.0.2.23")] {
        coder.add_replica("coder-a", &format!("http://{address}:8080"));
        coder.keep_alive();
    }
    let secret = Secret::new();
    let start = |i: usize, database: &str, proxy_every: &str, more: &[&str]| {
        let listen = format!("{}:{port}", own[i]);
        Agent::with(
            probe(&["agent", "--discover", "coder", "--listen", &listen, "--web", "127.0.0.1:0"])
                .args(more)
                .env("PROBE_MESH_SECRET_FILE", &secret.path)
                .env("CODER_PG_CONNECTION_URL", database)
                .env("KUBECONFIG", &kubeconfig)
                .env("PROBE_NAME", format!("probe-{}", nodes[i]))
                .env("POD_NAME", format!("probe-{}", nodes[i]))
                .env("POD_IP", &own[i])
                .env("NODE_NAME", format!("node-{}", nodes[i]))
                .env("PROBE_INTERVALS__PROXY", proxy_every),
        )
    };
    let kubernetes = ["--discover", "kubernetes"];
    let beside = start(0, &coder.cluster.url(), "60s", &kubernetes);
    let liar = start(2, &other.cluster.url(), "60s", &["--role", "coderd"]);
    wait_until(&beside, "the proxies are read", 20, |report| proxies(report).len() == 2);
    wait_until(&liar, "the other one is read", 20, |report| proxies(report).len() == 1);
    // Whoever connects here would be seen.
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    database.set_nonblocking(true).unwrap();
    let url = format!("postgres://nobody@{}/coder?sslmode=disable", database.local_addr().unwrap());
    let peer = format!("{}:{port}=coderd", own[2]);
    let idle = start(1, &url, "200ms", &["--discover", "kubernetes", "--peer", &peer]);

    let report = wait_until(&idle, "the nearest is known", 40, |report| {
        report["nearest_proxy"]["name"] == "localhost" && proxies(report).len() == 2
    });
    let nearest = &report["nearest_proxy"];
    assert!(nearest["samples"].as_u64().unwrap() >= 5, "{nearest}");
    assert!(nearest["p50_us"].as_f64().unwrap() >= 10_000.0, "{nearest}");
    // The one that is not believed was measured itself, so it has told.
    wait_until(&idle, "the liar answers", 20, |report| {
        let mut links = report["links"].as_array().unwrap().iter();
        links.any(|link| {
            link["kind"] == "peer" && link["name"] == peer_name(&peer) && link["connect_us"].is_object()
        })
    });
    let report = wait_until(&idle, "many more slots", 120, |report| {
        report["nearest_proxy"]["samples"].as_u64().is_some_and(|samples| samples >= 40)
    });
    assert_eq!(proxies(&report), ["127.0.0.1", "localhost"], "{report:#}");
    let asked = servers[2].asked("/latency-check");
    assert!(asked < 10, "the liar itself asks once a minute, and nobody else at all: {asked}");
    assert!(database.accept().is_err(), "an idle agent leaves the database alone");
    // Whoever stands beside coderd knows the nearest of each node.
    wait_until(&beside, "the idle one writes", 30, |report| {
        let mut agents = report["agents"].as_array().unwrap().iter();
        agents.any(|agent| agent["name"] == "probe-b" && agent["nearest_proxy"]["name"] == "localhost")
    });
}

#[test]
fn a_check_says_in_one_line_which_proxy_is_nearest() {
    let _quiet = quiet();
    let servers = ["127.0.0.5", "127.0.0.6"].map(|ip| Replica::start(ip, Nats::Closed));
    let far = Relay::tcp(servers[0].address, Duration::from_millis(60));
    let near = Relay::tcp(servers[1].address, Duration::from_millis(15));
    let targets = [&far, &near].map(|relay| format!("http://{}/latency-check=proxy", relay.address));
    let ask = || {
        Run::of(&mut probe(&["check", "--time-limit", "8s", "--http", &targets[0], "--http", &targets[1]]))
    };
    let nearest = |run: &Run| -> Vec<String> {
        let lines = run.stdout.lines().filter(|line| line.starts_with("nearest workspace proxy: "));
        lines.map(str::to_owned).collect()
    };
    // On a machine that is too busy to measure, a look sees nothing.
    let mut run = ask();
    for _ in 0..5 {
        if nearest(&run).len() == 1 {
            break;
        }
        run = ask();
    }
    let lines = nearest(&run);
    assert_eq!(lines.len(), 1, "{}{}", run.stdout, run.stderr);
    assert!(lines[0].contains(&near.address.to_string()) && lines[0].contains("median of"), "{}", lines[0]);
}

fn peer_name(peer: &str) -> &str {
    peer.split('=').next().unwrap()
}
