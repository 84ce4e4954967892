//! Agents as a DaemonSet: pods of their own beside coderd's, which are joined by the node that both run on.

use std::net::UdpSocket;
use std::time::Duration;

use probes::stopwatch::Stopwatch;
use serde_json::{Value, json};

use crate::house::{Agent, Secret, probe, quiet};
use crate::kube_api::KubeApi;

fn endpoint(pod: &str, address: &str, node: &str) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": node,
        "targetRef": {"kind": "Pod", "name": pod, "namespace": "coder"},
    })
}

fn slice(port: &Value, endpoints: &[Value]) -> Value {
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
fn common_port(addresses: &[String]) -> u16 {
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
    let kubeconfig = directory.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "t",
        "clusters": [{"name": "t", "cluster": {"server": format!("http://{}", api.address)}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t", "namespace": "coder"}}],
        "users": [{"name": "t", "user": {}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
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

#[expect(clippy::disallowed_methods, reason = "the story takes real time")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
