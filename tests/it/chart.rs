//! The Helm chart and all that is made of it: rendered and judged by tests/chart/check.py, and its configuration and
//! variables taken by agents.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
#[cfg(feature = "kubernetes")]
use serde_json::json;

#[cfg(feature = "kubernetes")]
use crate::daemonset::{common_port, endpoint, kubeconfig, slice};
#[cfg(feature = "kubernetes")]
use crate::house::wait_until;
use crate::house::{Agent, Secret, probe};
#[cfg(feature = "kubernetes")]
use crate::kube_api::KubeApi;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where tests/run.sh puts what the checks need.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tests/chart")
}

fn golden(case: &str) -> String {
    std::fs::read_to_string(root().join(format!("tests/chart/golden/{case}.yaml"))).unwrap()
}

#[test]
fn the_chart_and_all_that_is_made_of_it_are_what_they_should_be() {
    let output = Command::new("python3")
        .arg(root().join("tests/chart/check.py"))
        .args(["--probe", env!("CARGO_BIN_EXE_probe")])
        .env("PYTHONPATH", modules())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("python3: {error}"));
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        !failed.contains("ModuleNotFoundError"),
        "{failed}\n`bash tests/run.sh` installs what the tests need"
    );
    assert!(output.status.success(), "{said}{failed}");
}

#[test]
fn an_agent_takes_the_file_that_the_chart_makes_of_its_values() {
    let golden = golden("config");
    let (_, rest) = golden.split_once("  probe.toml: |\n").unwrap();
    let file: Vec<_> =
        rest.lines().map_while(|line| line.strip_prefix("    ").or(line.is_empty().then_some(""))).collect();
    let secret = Secret::new();
    let config = secret.file("probe.toml", &file.join("\n"));
    let agent = Agent::with(
        probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"])
            .env("PROBE_MESH_SECRET_FILE", &secret.path)
            .env("PROBE_CONFIG", config),
    );
    let answer = agent.get("/api/v1/config");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let settings: Value = serde_json::from_str(body).unwrap();
    let of = |key: &str| {
        let all = settings["settings"].as_array().unwrap();
        let setting = all.iter().find(|setting| setting["key"] == key).unwrap();
        (setting["value"].clone(), setting["origin"].as_str().unwrap().to_owned())
    };
    for (key, value) in [
        // Helm writes whole numbers as broken ones.
        ("metrics.targets", "128"),
        ("metrics.pairs", "false"),
        ("budgets.proxy", "80ms"),
        ("budgets.quantile", "0.99"),
        ("intervals.postgres_connect", "never"),
        ("findings.few_coderd", "off"),
    ] {
        assert_eq!(of(key), (Value::from(value), "file".to_owned()), "{key}");
    }
}

/// What the chart sets in the pods of its DaemonSet, but for what the kubelet puts in.
#[cfg(feature = "kubernetes")]
fn variables(case: &str) -> Vec<(String, String)> {
    let golden = golden(case);
    let (_, daemonset) = golden.split_once("kind: DaemonSet").unwrap();
    let (_, rest) = daemonset.split_once("          env:\n").unwrap();
    let (lines, _) = rest.split_once("          ports:\n").unwrap();
    let literal = |line: &str| {
        let (name, value) =
            line.trim().strip_prefix("- {name: ")?.strip_suffix('}')?.split_once(", value: ")?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    lines.lines().filter_map(literal).collect()
}

#[cfg(feature = "kubernetes")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_with_the_charts_variables_find_each_other_and_coderd() {
    let api = KubeApi::start().await;
    let own = ["127.0.1.31", "127.0.1.32"].map(str::to_owned);
    let port = common_port(&own);
    let of = |prefix: &str, host: &str, address: &str| {
        endpoint(&format!("{prefix}-{host}"), address, &format!("node-{host}"))
    };
    let agents = [of("latency-probe", "a", &own[0]), of("latency-probe", "b", &own[1])];
    let replicas = [of("coder", "a", "127.0.2.31"), of("coder", "b", "127.0.2.32")];
    let echo = json!({"name": "probe-echo", "protocol": "UDP", "port": port});
    let http = json!({"name": "http", "protocol": "TCP", "port": 8080});
    api.put("latency-probe", "latency-probe-x", &slice(&echo, &agents));
    api.put("coder", "coder-x", &slice(&http, &replicas));
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig(&directory, &api);
    let secret = Secret::new();
    let variables = variables("default");
    assert!(variables.iter().any(|(name, _)| name == "PROBE_KUBERNETES_AGENTS"), "{variables:?}");
    let running = ["a", "b"].map(|host| {
        let own = &own[usize::from(host == "b")];
        let listen = format!("{own}:{port}");
        Agent::with(
            probe(&["agent", "--listen", &listen, "--web", "127.0.0.1:0"])
                .envs(variables.clone())
                .env("PROBE_MESH_SECRET_FILE", &secret.path)
                .env("KUBECONFIG", &kubeconfig)
                .env("PROBE_NAME", format!("latency-probe-{host}"))
                .env("POD_NAME", format!("latency-probe-{host}"))
                .env("POD_NAMESPACE", "coder")
                .env("POD_UID", "0-1")
                .env("POD_IP", own)
                .env("POD_IPS", own)
                .env("NODE_NAME", format!("node-{host}"))
                // As the kubelet leaves them before Kubernetes 1.35.
                .env("POD_REGION", "")
                .env("POD_ZONE", ""),
        )
    });
    wait_until(&running[0], "it measures the other as one beside coderd", 30, |report| {
        let links = report["links"].as_array().unwrap();
        links.iter().any(|link| link["name"] == "latency-probe-b" && link["role"] == "coderd")
    });
}
