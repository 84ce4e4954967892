//! Agents as a DaemonSet: pods of their own beside coderd's, which are joined by the node that both run on.

use std::net::UdpSocket;
use std::time::Duration;

use probes::stopwatch::Stopwatch;
use serde_json::{Value, json};

use crate::house::{Agent, Secret, number, own_postgres, probe, quiet};
use crate::kube_api::KubeApi;

pub(crate) fn endpoint(pod: &str, address: &str, node: &str) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": node,
        "targetRef": {"kind": "Pod", "name": pod, "namespace": "coder"},
    })
}

pub(crate) fn slice(port: &Value, endpoints: &[Value]) -> Value {
    json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [port]})
}

fn node(region: &str, zone: &str) -> Value {
    let labels = json!({"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone});
    json!({
        "metadata": {"labels": labels},
        "spec": {"providerID": format!("aws:///{zone}/i-0")},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A port that is free at all of these addresses.
pub(crate) fn common_port(addresses: &[String]) -> u16 {
    (0..100)
        .find_map(|_| {
            let first = UdpSocket::bind((addresses[0].as_str(), 0)).unwrap();
            let port = first.local_addr().unwrap().port();
            let others =
                addresses[1..].iter().all(|address| UdpSocket::bind((address.as_str(), port)).is_ok());
            others.then_some(port)
        })
        .unwrap()
}

/// The file by which an agent finds this API.
pub(crate) fn kubeconfig(directory: &tempfile::TempDir, api: &KubeApi) -> std::path::PathBuf {
    let path = directory.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "t",
        "clusters": [{"name": "t", "cluster": {"server": format!("http://{}", api.address)}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t", "namespace": "coder"}}],
        "users": [{"name": "t", "user": {}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_in_pods_of_their_own_are_joined_with_coderd_by_their_nodes() {
    let _quiet = quiet();
    let api = KubeApi::start().await;
    let hosts = ["a", "b", "c", "d"];
    let own: Vec<String> = (0..4).map(|i| format!("127.0.1.{}", i + 1)).collect();
    let port = common_port(&own);
    // Three nodes with a replica each, one without; the last replica is in another region.
    let replicas: Vec<_> = (0..3)
        .map(|i| {
            endpoint(
                &format!("coder-{}", hosts[i]),
                &format!("127.0.2.{}", i + 1),
                &format!("node-{}", hosts[i]),
            )
        })
        .collect();
    let agents: Vec<_> = (0..4)
        .map(|i| endpoint(&format!("probe-{}", hosts[i]), &own[i], &format!("node-{}", hosts[i])))
        .collect();
    api.put("coder", "coder-x", &slice(&json!({"name": "http", "protocol": "TCP", "port": 8080}), &replicas));
    api.put("probe", "probe-x", &slice(&json!({"name": "echo", "protocol": "UDP", "port": port}), &agents));
    for (i, region) in ["eu-west-2", "eu-west-2", "eu-west-3", "eu-west-2"].into_iter().enumerate() {
        api.put("nodes", &format!("node-{}", hosts[i]), &node(region, &format!("{region}a")));
    }
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig(&directory, &api);
    let secret = Secret::new();
    let start = |i: usize| {
        let listen = format!("{}:{port}", own[i]);
        let arguments = ["agent", "--discover", "kubernetes", "--listen", &listen, "--web", "127.0.0.1:0"];
        Agent::with(
            probe(&arguments)
                .env("PROBE_MESH_SECRET_FILE", &secret.path)
                .env("KUBECONFIG", &kubeconfig)
                .env("PROBE_NAME", format!("probe-{}", hosts[i]))
                .env("POD_NAME", format!("probe-{}", hosts[i]))
                .env("POD_IP", &own[i])
                .env("NODE_NAME", format!("node-{}", hosts[i]))
                .env("PROBE_GRACES__START", "1s")
                .env("PROBE_INTERVALS__PEER", "500ms"),
        )
    };
    let running: Vec<Agent> = (0..4).map(start).collect();
    let links = |agent: &Agent| {
        let report = agent.report();
        let mut links: Vec<_> = report["links"]
            .as_array()
            .unwrap()
            .iter()
            .map(|link| {
                let interval = link["interval_us"].as_f64().unwrap() / 1e6;
                format!(
                    "{} {} {} {interval}",
                    link["name"].as_str().unwrap(),
                    link["kind"].as_str().unwrap(),
                    link["role"].as_str().unwrap_or("-")
                )
            })
            .collect();
        links.sort();
        (links, report)
    };
    let wait = |agent: &Agent, wanted: &[String]| {
        let watch = Stopwatch::start();
        while links(agent).0 != wanted {
            assert!(watch.elapsed() < Duration::from_secs(20), "{wanted:?}: {:#?}", links(agent));
            pause();
        }
    };
    // Beside coderd, the other replicas' relays are asked too, as coderd asks them.
    let paths = |replica| {
        [("http", 60), ("relay", 10)].map(|(kind, every)| format!("{replica} {kind} coderd {every}"))
    };
    let mut wanted: Vec<_> = ["coder-b", "coder-c"].into_iter().flat_map(paths).collect();
    wanted.extend(["probe-b peer coderd 0.5".to_owned(), "probe-c peer coderd 0.5".to_owned()]);
    wait(&running[0], &wanted);
    wait(&running[3], &["probe-a", "probe-b", "probe-c"].map(|name| format!("{name} peer coderd 60")));
    let watch = Stopwatch::start();
    loop {
        let (_, report) = links(&running[0]);
        let findings = report["findings"].as_array().unwrap();
        if let Some(finding) = findings.iter().find(|finding| finding["code"] == "coderd_cross_region") {
            assert!(finding["evidence"].as_str().unwrap().contains("eu-west-3"), "{finding:#}");
            assert_eq!(finding["severity"], "fail");
            break;
        }
        assert!(watch.elapsed() < Duration::from_secs(20), "{report:#}");
        pause();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_on_a_node_without_any_server_leaves_the_database_alone_until_one_comes() {
    let _quiet = quiet();
    let api = KubeApi::start().await;
    let cluster = own_postgres(&[]);
    let own = ["127.0.1.11".to_owned(), "127.0.1.12".to_owned()];
    let port = common_port(&own);
    let replica = |address: &str, node: &str| endpoint(&format!("coder-{node}"), address, node);
    let http = json!({"name": "http", "protocol": "TCP", "port": 8080});
    let agents = [endpoint("probe-a", &own[0], "node-a"), endpoint("probe-b", &own[1], "node-b")];
    api.put("coder", "coder-x", &slice(&http, &[replica("127.0.2.11", "node-a")]));
    api.put("probe", "probe-x", &slice(&json!({"name": "echo", "protocol": "UDP", "port": port}), &agents));
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig(&directory, &api);
    let secret = Secret::new();
    let start = |i: usize, name: &str| {
        let listen = format!("{}:{port}", own[i]);
        let arguments = ["agent", "--discover", "kubernetes", "--discover", "coder", "--listen", &listen];
        Agent::with(
            probe(&arguments)
                .args(["--web", "127.0.0.1:0"])
                .env("PROBE_MESH_SECRET_FILE", &secret.path)
                .env("CODER_PG_CONNECTION_URL", cluster.url())
                .env("KUBECONFIG", &kubeconfig)
                .env("PROBE_NAME", format!("probe-{name}"))
                .env("POD_NAME", format!("probe-{name}"))
                .env("POD_IP", &own[i])
                .env("NODE_NAME", format!("node-{name}")),
        )
    };
    // The connections of agents, but for the one that asks.
    let connections = || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'probe'";
        number(&cluster, count)
    };
    let measures_database = |agent: &Agent| {
        let report = agent.report();
        report["links"].as_array().unwrap().iter().any(|link| link["kind"] == "postgres")
    };
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let watch = Stopwatch::start();
        while !is_so() {
            assert!(watch.elapsed() < Duration::from_secs(30), "{what}: {} connections", connections());
            pause();
        }
    };
    let idle = start(1, "b");
    wait("it finds the others", &|| idle.report()["members"].as_array().unwrap().len() >= 3);
    wait("it has decided and says so, though it has never measured it", &|| {
        idle.said().iter().any(|line| line.contains("the database is left alone"))
    });
    assert_eq!((connections(), measures_database(&idle)), (0, false), "{:#?}", idle.said());
    let active = start(0, "a");
    wait("the active one measures it", &|| measures_database(&active) && connections() == 2);
    assert_eq!((connections(), measures_database(&idle)), (2, false));

    // A replica comes to its node, and goes again.
    let two = [replica("127.0.2.11", "node-a"), replica("127.0.2.12", "node-b")];
    api.put("coder", "coder-x", &slice(&http, &two));
    wait("both measure it", &|| measures_database(&idle) && connections() == 4);
    api.put("coder", "coder-x", &slice(&http, &two[..1]));
    wait("one leaves it", &|| !measures_database(&idle) && connections() == 2);
    assert!(idle.said().iter().any(|line| line.contains("the database is left alone")));
}

#[expect(clippy::disallowed_methods, reason = "the story takes real time")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
