//! `probe check --manifests`: a good deployment passes, each fault alone is found, and bad input is told for what it is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use probe::manifests::{self, Judged, Settings, Source};
use probe::mesh::rules::{Code, Severities};
use probe::mesh::verdict::Verdict;
use serde_json::Value;

use crate::house::{Run, probe};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(name)
}

/// The good deployment, which tests change.
#[derive(Clone)]
struct Good {
    coder: String,
    network: String,
    others: String,
    extra: String,
}

fn good() -> Good {
    let read = |name: &str| std::fs::read_to_string(golden("good").join(name)).unwrap();
    Good {
        coder: read("coder.yaml"),
        network: read("network.yml"),
        others: read("provisioner.json"),
        extra: String::new(),
    }
}

/// Text with another in the place of each that was there.
fn swapped(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "there is no {old:?} in what is changed");
    text.replace(old, new)
}

impl Good {
    fn coder(mut self, old: &str, new: &str) -> Self {
        self.coder = swapped(&self.coder, old, new);
        self
    }

    fn network(mut self, old: &str, new: &str) -> Self {
        self.network = swapped(&self.network, old, new);
        self
    }

    fn others(mut self, old: &str, new: &str) -> Self {
        self.others = swapped(&self.others, old, new);
        self
    }

    fn and(mut self, extra: &str) -> Self {
        self.extra.push_str("---\n");
        self.extra.push_str(extra);
        self
    }

    fn judged(&self) -> Judged {
        let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
        let sources = [
            source("coder.yaml", &self.coder),
            source("network.yml", &self.network),
            source("provisioner.json", &self.others),
            source("extra.yaml", &self.extra),
        ];
        judge(&sources)
    }

    fn found(&self) -> Vec<&'static str> {
        let judged = self.judged();
        assert_eq!(judged.faults, []);
        judged.findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    /// The evidence of the only finding.
    fn evidence(&self) -> String {
        let judged = self.judged();
        assert_eq!(judged.findings.len(), 1, "{:#?}", judged.findings);
        judged.findings[0].evidence.clone()
    }

    /// The Deployment of coderd once more, with another name and another region.
    fn elsewhere(&self, region: &str) -> String {
        let deployment = self.coder.split("---\n").find(|text| text.contains("kind: Deployment")).unwrap();
        let named = swapped(deployment, "  name: coder\n  namespace", "  name: coder-b\n  namespace");
        swapped(&named, "region: us-east-1", &format!("region: {region}"))
    }
}

fn judge(sources: &[Source]) -> Judged {
    let settings = Settings { severities: Severities::default(), budget: Duration::from_millis(10) };
    manifests::judge(sources, &settings).unwrap()
}

fn scaler(kind: &str, target: &str, namespace: &str, range: &str) -> String {
    let version = if kind == "ScaledObject" { "keda.sh/v1alpha1" } else { "autoscaling/v2" };
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: scaler\n  namespace: {namespace}\nspec:\n  \
         scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n    name: {target}\n  {range}\n"
    )
}

const RELAY: &str = "value: http://$(KUBE_POD_IP):8080";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const TERM: &str = "            - labelSelector:
                matchExpressions:
                  - key: app.kubernetes.io/instance
                    operator: In
                    values:
                      - coder
              topologyKey: kubernetes.io/hostname
";

#[test]
fn the_good_deployment_has_no_finding_and_nothing_unjudged() {
    let judged = good().judged();
    assert_eq!((judged.verdict, judged.findings, judged.unjudged), (Verdict::Pass, vec![], vec![]));
    let roles: Vec<_> = judged.parts.iter().map(|part| (part.role, part.replicas)).collect();
    assert_eq!(roles, [("coderd", Some(3)), ("proxy", Some(2)), ("provisioner", Some(4))]);
}

#[test]
fn one_change_for_the_worse_is_found_and_nothing_else_is() {
    let hpa =
        |target: &str, namespace: &str, range| scaler("HorizontalPodAutoscaler", target, namespace, range);
    let region_in = "affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
              - matchExpressions:
                  - {key: topology.kubernetes.io/region, operator: In, values: [us-east-1, us-west-2]}
";
    let containers = "{\"example.com/pool\": \"builds\"},\n            \"containers\": [";
    let second_provisioner = format!(
        "{containers}{}",
        r#"{"name": "second", "image": "ghcr.io/coder/coder", "command": ["/opt/coder"], "args": ["provisionerd", "start"]},"#
    );
    let cases: Vec<(&str, Good, &[&str])> = vec![
        ("two replicas", good().coder("replicas: 3", "replicas: 2"), &["few_coderd"]),
        ("no number is one", good().coder("  replicas: 3\n", ""), &["few_coderd"]),
        ("ten replicas", good().coder("replicas: 3", "replicas: 10"), &["many_coderd"]),
        (
            "nothing keeps them apart",
            good().coder(TERM, "            []\n").coder("app.kubernetes.io/name: coder\n              app.kubernetes.io/instance: coder\n      containers", "app: other\n      containers").coder("topologySpreadConstraints", "unknownField"),
            &["no_anti_affinity", "no_zone_spread"],
        ),
        (
            "a preference keeps them apart",
            good().coder(
                &format!("{REQUIRED}:\n{TERM}"),
                &format!(
                    "preferredDuringSchedulingIgnoredDuringExecution:\n            - weight: 1\n              podAffinityTerm:\n{}",
                    TERM.replace("            - labelSelector", "                labelSelector")
                        .replace("                match", "                  match")
                        .replace("                  - key", "                    - key")
                        .replace("                    operator", "                      operator")
                        .replace("                    values", "                      values")
                        .replace("                      - coder", "                        - coder")
                        .replace("              topologyKey", "                topologyKey")
                ),
            ),
            &["soft_anti_affinity"],
        ),
        (
            "a spread by preference is no better",
            good().coder(TERM, "            []\n"),
            &["soft_anti_affinity"],
        ),
        (
            "a spread over zones puts several into each",
            good().coder(TERM, "            []\n").coder("ScheduleAnyway", "DoNotSchedule"),
            &["soft_anti_affinity"],
        ),
        (
            "the release has another name than the chart's anti-affinity selects",
            good().coder("app.kubernetes.io/instance: coder", "app.kubernetes.io/instance: prod"),
            &["selector_mismatch", "soft_anti_affinity"],
        ),
        (
            "a spread that selects other pods",
            good().coder(
                "            matchLabels:\n              app.kubernetes.io/name: coder\n",
                "            matchLabels:\n              app.kubernetes.io/name: coder-provisioner\n",
            ),
            &["selector_mismatch"],
        ),
        (
            "a spread without a selector",
            good().coder(
                "          labelSelector:\n            matchLabels:\n              app.kubernetes.io/name: coder\n              \
                 app.kubernetes.io/instance: coder\n      containers",
                "      containers",
            ),
            &["selector_mismatch"],
        ),
        (
            "an anti-affinity in another namespace",
            good().coder("topologyKey: kubernetes.io/hostname", "topologyKey: kubernetes.io/hostname\n              namespaces: [other]"),
            &["selector_mismatch", "soft_anti_affinity"],
        ),
        (
            "machines and never zones",
            good().coder("topologyKey: topology.kubernetes.io/zone", "topologyKey: kubernetes.io/hostname"),
            &["no_zone_spread"],
        ),
        (
            "one zone only",
            good().coder("topology.kubernetes.io/region: us-east-1", "topology.kubernetes.io/zone: us-east-1a"),
            &["single_zone"],
        ),
        (
            "nodes in two regions",
            good().coder("        topology.kubernetes.io/region: us-east-1\n", "").coder("affinity:\n", region_in),
            &["several_regions"],
        ),
        (
            "a spread over regions",
            good().coder("topologyKey: topology.kubernetes.io/zone", "topologyKey: topology.kubernetes.io/region"),
            &["several_regions"],
        ),
        (
            "replicas that must not share a region",
            good().coder("topologyKey: kubernetes.io/hostname", "topologyKey: topology.kubernetes.io/region"),
            &["coderd_cross_region"],
        ),
        (
            "two Deployments in two regions",
            good().and(&good().elsewhere("us-west-2")),
            &["coderd_cross_region"],
        ),
        ("an autoscaler", good().and(&hpa("coder", "coder", "minReplicas: 3\n  maxReplicas: 9")), &["autoscaled_coderd"]),
        (
            "an autoscaler far down and far up",
            good().and(&hpa("coder", "coder", "maxReplicas: 12")),
            &["autoscaled_coderd", "few_coderd", "many_coderd"],
        ),
        (
            "KEDA",
            good().and(&scaler("ScaledObject", "coder", "coder", "minReplicaCount: 3\n  maxReplicaCount: 8")),
            &["autoscaled_coderd"],
        ),
        (
            "an autoscaler of proxies",
            good().and(&hpa("coder-proxy", "edge", "minReplicas: 2\n  maxReplicas: 5")),
            &["autoscaled_proxy"],
        ),
        ("no disruption budget", good().coder("kind: PodDisruptionBudget", "kind: Other"), &["no_disruption_budget"]),
        ("a budget of all", good().coder("maxUnavailable: 1", "maxUnavailable: 100%"), &["no_disruption_budget"]),
        ("a budget that keeps none", good().coder("maxUnavailable: 1", "minAvailable: 0"), &["no_disruption_budget"]),
        (
            "a budget elsewhere",
            good().coder("kind: PodDisruptionBudget\nmetadata:\n  name: coder\n  namespace: coder", "kind: PodDisruptionBudget\nmetadata:\n  name: coder\n  namespace: other"),
            &["no_disruption_budget"],
        ),
        ("provisioners of its own", good().coder("value: \"0\"", "value: \"3\""), &["built_in_provisioners"]),
        (
            "provisioners of its own unless told otherwise",
            good().coder("CODER_PROVISIONER_DAEMONS", "SOMETHING_ELSE"),
            &["built_in_provisioners"],
        ),
        ("two provisioners a pod", good().others(containers, &second_provisioner), &["provisioners_share_pod"]),
        (
            "provisioners on coderd's nodes",
            good().others("\"example.com/pool\": \"builds\"", "\"example.com/pool\": \"coderd\""),
            &["provisioners_beside_coderd"],
        ),
        ("no relay", good().coder("CODER_DERP_SERVER_RELAY_URL", "SOMETHING_ELSE"), &["relay_unset"]),
        ("an empty relay", good().coder(RELAY, "value: \"\""), &["relay_unset"]),
        ("the front door", good().coder(RELAY, "value: https://Coder.example.com/"), &["relay_is_access_url"]),
        ("one relay for all", good().coder(RELAY, "value: http://coder.coder.svc:8080"), &["shared_relay"]),
        (
            "a cluster host by name",
            good().coder(
                "CODER_CLUSTER_HOST\n              valueFrom:\n                fieldRef:\n                  fieldPath: status.podIP",
                "CODER_CLUSTER_HOST\n              value: coder.coder.svc",
            ),
            &["cluster_host_not_pod_ip"],
        ),
        (
            "one address for all",
            good().coder(
                "CODER_CLUSTER_HOST\n              valueFrom:\n                fieldRef:\n                  fieldPath: status.podIP",
                "CODER_CLUSTER_HOST\n              value: 10.0.0.1",
            ),
            &["cluster_host_not_pod_ip"],
        ),
        ("a closed relay", good().network("port: http", "port: 443"), &["relay_blocked"]),
        ("a relay that may not be called", good().network("port: 8080", "port: 8081"), &["relay_blocked"]),
        (
            "closed NATS",
            good().network("      ports:\n        - port: 6222\n  egress", "      ports:\n        - port: 4222\n  egress"),
            &["nats_blocked"],
        ),
        (
            "everything is closed",
            good().network("      app.kubernetes.io/name: coder\n  policyTypes", "      app: other\n  policyTypes"),
            &["relay_blocked", "nats_blocked"],
        ),
        ("a late health page", good().coder("10ms", "12ms"), &["health_threshold"]),
        (
            "a health page that is late unless told otherwise",
            good().coder("CODER_HEALTH_CHECK_THRESHOLD_DATABASE", "SOMETHING_ELSE"),
            &["health_threshold"],
        ),
        ("no metrics", good().coder("CODER_PROMETHEUS_ENABLE", "SOMETHING_ELSE"), &["prometheus_off"]),
        ("no metrics of the database", good().coder("collect: \"true\"", "collect: \"false\""), &["database_metrics_off"]),
    ];
    for (name, changed, codes) in cases {
        assert_eq!(changed.found(), codes, "{name}");
    }
}

#[test]
fn changes_that_are_none_of_our_business_find_nothing() {
    let hpa =
        |target: &str, namespace: &str, range| scaler("HorizontalPodAutoscaler", target, namespace, range);
    let stateful = "value: http://$(POD_NAME).coder-headless:8080";
    for (name, changed) in [
        ("an autoscaler that holds one number", good().and(&hpa("coder", "coder", "minReplicas: 3\n  maxReplicas: 3"))),
        ("an autoscaler of provisioners", good().and(&hpa("coder-provisioner", "coder", "maxReplicas: 50"))),
        ("an autoscaler elsewhere", good().and(&hpa("coder", "other", "maxReplicas: 9"))),
        ("another Deployment in the same region", good().and(&good().elsewhere("us-east-1"))),
        ("nine replicas", good().coder("replicas: 3", "replicas: 9")),
        (
            "flags instead of variables",
            good()
                .coder("            - server\n", "            - server\n            - --provisioner-daemons=0\n            - --prometheus-enable\n")
                .coder("CODER_PROVISIONER_DAEMONS", "A")
                .coder("CODER_PROMETHEUS_ENABLE", "B"),
        ),
        ("an anti-affinity to others too", good().coder(TERM, &format!("{TERM}{}", TERM.replace("- coder\n", "- postgres\n")))),
        (
            "a relay by the pod's name",
            good().coder("fieldPath: status.podIP\n            - name: CODER_DERP", "fieldPath: status.podIP\n            - name: POD_NAME\n              valueFrom: {fieldRef: {fieldPath: metadata.name}}\n            - name: CODER_DERP").coder(RELAY, stateful),
        ),
        ("a relay of IPv6", good().coder(RELAY, "value: \"http://[$(KUBE_POD_IP)]:8080\"")),
        ("no cluster host, as in older charts", good().coder("CODER_CLUSTER_HOST", "SOMETHING_ELSE")),
        ("provisioners that choose no node", good().others("\"example.com/pool\": \"builds\"", "\"kubernetes.io/os\": \"linux\"")),
        ("no namespace anywhere", good().coder("  namespace: coder\n", "").network("  namespace: coder\n", "").network("kubernetes.io/metadata.name: coder", "{}").network("            matchLabels:\n              {}\n", "            {}\n")),
        ("line ends of Windows", Good { coder: good().coder.replace('\n', "\r\n"), ..good() }),
    ] {
        let judged = changed.judged();
        assert_eq!((judged.faults.len(), judged.unjudged), (0, vec![]), "{name}");
        assert_eq!(judged.findings, [], "{name}");
        assert_eq!(judged.verdict, Verdict::Pass, "{name}");
    }
}

#[test]
fn evidence_names_what_is_written() {
    for (changed, evidence) in [
        (
            good().network("port: http", "port: 443"),
            "TCP 8080 between the replicas of Deployment coder/coder is closed: none of NetworkPolicy coder/deny-all, \
             NetworkPolicy coder/coderd allows it (ingress)",
        ),
        (
            good().coder(RELAY, "value: http://coder.coder.svc:8080"),
            "all replicas of Deployment coder/coder give one relay address, http://coder.coder.svc:8080, which is Service \
             coder/coder",
        ),
        (
            good().coder(RELAY, "value: http://me:hunter2@relay.example"),
            "all replicas of Deployment coder/coder give one relay address, a value that is not shown, as there is an @ in it",
        ),
        (
            good().coder("CODER_HEALTH_CHECK_THRESHOLD_DATABASE", "SOMETHING_ELSE"),
            "Coder's health page calls the database slow from 15.0 ms on, since it is not set; the budget ends at 10.0 ms",
        ),
        (
            good().coder("maxUnavailable: 1", "minAvailable: 0%"),
            "PodDisruptionBudget coder/coder lets all pods of Deployment coder/coder go at once",
        ),
    ] {
        assert_eq!(changed.evidence(), evidence);
    }
    let mismatch =
        good().coder("app.kubernetes.io/instance: coder", "app.kubernetes.io/instance: prod").judged();
    assert_eq!(
        mismatch.findings[0].evidence,
        "podAntiAffinity of Deployment coder/coder selects app.kubernetes.io/instance=coder, but its pods carry \
         app.kubernetes.io/instance=prod"
    );
}

#[test]
fn what_is_not_written_here_is_unknown_and_never_good() {
    let from_secret = "valueFrom: {secretKeyRef: {name: hidden, key: a}}";
    let hidden = "- secretRef:\n                name: hidden\n            - configMapRef:";
    let cases = [
        // Where the finding would be a failure, nothing passes.
        (good().coder(RELAY, from_secret), Verdict::Inconclusive, "CODER_DERP_SERVER_RELAY_URL of Deployment coder/coder was not seen: it comes from Secret hidden"),
        (good().coder("CODER_DERP_SERVER_RELAY_URL", "A").coder("- configMapRef:", hidden), Verdict::Inconclusive, "Secret hidden, if it is set there"),
        (
            good().network("        - port: http\n", "        - port: http\n      from:\n        - ipBlock: {cidr: 10.0.0.0/8}\n"),
            Verdict::Inconclusive,
            "TCP 8080 between the replicas of Deployment coder/coder: whether NetworkPolicy coder/coderd allows it depends on",
        ),
        (
            good().and("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x, namespace: coder}\n"),
            Verdict::Inconclusive,
            "CiliumNetworkPolicy coder/x is of a kind that is not understood here",
        ),
        (
            good().coder("CODER_CLUSTER_HOST", "A").network("port: 6222", "port: 4222"),
            Verdict::Inconclusive,
            "without CODER_CLUSTER_HOST it cannot be told whether this version of Coder does",
        ),
        (
            good().network("port: 6222", "port: 4222").coder("- configMapRef:", hidden),
            Verdict::Inconclusive,
            "CODER_EXPERIMENTS comes from Secret hidden",
        ),
        (
            good().network("port: http", "port: 443").coder("      serviceAccountName", "      hostNetwork: true\n      serviceAccountName"),
            Verdict::Inconclusive,
            "pods in their host's network",
        ),
        // Where it would be information, it is told and passes.
        (good().coder("value: \"0\"", from_secret), Verdict::Pass, "CODER_PROVISIONER_DAEMONS of Deployment coder/coder was not seen"),
        (good().coder("kind: ConfigMap", "kind: Other"), Verdict::Pass, "ConfigMap coder-settings, which was not given"),
        (good().coder("10ms", "fast"), Verdict::Pass, "is 'fast', which is no duration of Go"),
        (good().coder("kind: Deployment", "kind: DaemonSet"), Verdict::Pass, "is up to the cluster"),
    ];
    for (changed, verdict, text) in cases {
        let judged = changed.judged();
        assert!(judged.unjudged.iter().any(|unjudged| unjudged.text.contains(text)), "{text}: {judged:#?}");
        assert_eq!(judged.verdict, verdict, "{text}");
        assert_eq!(judged.exit_code(false), if verdict == Verdict::Pass { 0 } else { 3 }, "{text}");
        assert_eq!(judged.findings, [], "{text}");
    }
    // A warning that may be there stops whoever lets no warning pass.
    let unsure = good().coder(
        "CODER_CLUSTER_HOST\n              valueFrom:\n                fieldRef:\n                  fieldPath: status.podIP",
        &format!("CODER_CLUSTER_HOST\n              {from_secret}"),
    );
    assert_eq!((unsure.judged().exit_code(false), unsure.judged().exit_code(true)), (0, 3));
}

#[test]
fn a_field_of_a_wrong_type_is_told_and_the_rest_is_judged() {
    let judged = good()
        .coder("value: \"0\"", "value: 4711")
        .coder("kind: PodDisruptionBudget", "kind: Other")
        .and(&scaler("HorizontalPodAutoscaler", "coder-proxy", "edge", "minReplicas: 2\n  maxReplicas: 5"))
        .and(&scaler("HorizontalPodAutoscaler", "coder", "coder", "minReplicas: three\n  maxReplicas: -1"))
        .judged();
    let told: Vec<_> = judged
        .faults
        .iter()
        .map(|fault| format!("{}: {}: {} {}", fault.file, fault.resource, fault.field, fault.text))
        .collect();
    assert_eq!(
        told,
        [
            "coder.yaml: Deployment coder/coder: spec.template.spec.containers[0].env[8].value must be a text, not a number; \
             put it in quotes",
            "extra.yaml: HorizontalPodAutoscaler coder/scaler: spec.minReplicas must be a whole number, 0 or more, not the \
             text 'three'",
            "extra.yaml: HorizontalPodAutoscaler coder/scaler: spec.maxReplicas must be a whole number, 0 or more, not the \
             number -1",
        ]
    );
    assert_eq!(
        judged.findings.iter().map(|finding| finding.code.as_str()).collect::<Vec<_>>(),
        ["autoscaled_proxy"]
    );
    assert_eq!((judged.verdict, judged.exit_code(false)), (Verdict::Inconclusive, 2));
    // A budget that cannot be read may be the one that covers them.
    let judged = good().coder("maxUnavailable: 1", "maxUnavailable: [1]").judged();
    assert_eq!(judged.findings, []);
    assert!(judged.unjudged[0].text.contains("PodDisruptionBudget"), "{judged:#?}");
    assert_eq!(judged.exit_code(false), 2);
}

#[test]
fn severities_and_the_budget_are_settings() {
    let run = |variables: &[(&str, &str)], arguments: &[&str]| {
        let path = golden("bad/all.yaml");
        let all = [&["check", "-o", "json", "--manifests", path.to_str().unwrap()][..], arguments].concat();
        let run = Run::of(probe(&all).envs(variables.iter().copied()));
        (run.code, run.json())
    };
    let severity = |report: &Value, code: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["code"] == code).map(|finding| finding["severity"].clone())
    };
    let (code, report) = run(&[], &[]);
    assert_eq!((code, severity(&report, "relay_is_access_url")), (Some(1), Some("fail".into())));
    assert_eq!(severity(&report, "health_threshold"), Some("info".into()));
    let (_, report) = run(&[("PROBE_FINDINGS__RELAY_IS_ACCESS_URL", "off")], &["--budget", "20ms"]);
    assert_eq!(
        (severity(&report, "relay_is_access_url"), severity(&report, "health_threshold")),
        (None, None)
    );
}

/// Runs the binary with this on its standard input.
fn piped(input: &[u8], arguments: &[&str]) -> Run {
    let all = [&["check", "--manifests", "-"][..], arguments].concat();
    let mut command = probe(&all);
    with_input(&mut command, input)
}

fn with_input(command: &mut Command, input: &[u8]) -> Run {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that stops reading early has said why.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

#[test]
fn a_directory_a_file_and_standard_input_are_read() {
    let directory = golden("good");
    // A machine with targets of its own: they are left alone.
    let whole = Run::of(
        probe(&["check", "--manifests", directory.to_str().unwrap()])
            .env("PROBE_TCP", "192.0.2.1:1")
            .env("CODER_PG_CONNECTION_URL", "postgres://u:hunter2@192.0.2.1/d"),
    );
    assert_eq!((whole.code, whole.stderr.as_str()), (Some(0), ""));
    assert!(whole.stdout.contains("√ PASS"), "{}", whole.stdout);
    let input = piped(good().coder.as_bytes(), &[]);
    assert_eq!(input.code, Some(0), "{}", input.stdout);
    assert!(input.stdout.contains("Deployment coder/coder [coderd] 3 replicas (standard input)"));
    let file = directory.join("coder.yaml");
    let twice = Run::of(&mut probe(&["check", "--manifests", file.to_str().unwrap(), "--manifests", "-"]));
    assert_eq!(twice.code, Some(0), "{}", twice.stderr);
}

#[test]
fn a_bad_deployment_is_reported_at_length() {
    let path = golden("bad/all.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let human = piped(text.as_bytes(), &[]);
    assert_eq!(human.code, Some(1));
    insta::assert_snapshot!("manifests_human", human.stdout);
    let json = piped(text.as_bytes(), &["-o", "json"]).json();
    assert_eq!((&json["schema_version"], &json["verdict"]), (&1.into(), &"fail".into()));
    let finding = &json["findings"][0];
    let keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["anchor", "code", "evidence", "remedy", "severity", "subjects", "vantage"]);
    assert!(!human.stdout.contains("hunter2") && !json.to_string().contains("hunter2"), "a Secret is shown");
    assert_eq!(piped(text.as_bytes(), &["--fail-on", "never"]).code, Some(0));
    let warned = good().and(&scaler("HorizontalPodAutoscaler", "coder-proxy", "edge", "maxReplicas: 5"));
    let warned = format!("{}\n---\n{}{}", warned.coder, warned.others, warned.extra);
    assert_eq!(piped(warned.as_bytes(), &[]).code, Some(0));
    assert_eq!(piped(warned.as_bytes(), &["--fail-on", "warning"]).code, Some(1));
}

#[test]
fn the_charts_own_defaults_are_told_of() {
    let path = golden("chart_default/coder.yaml");
    let run = Run::of(&mut probe(&["check", "--manifests", path.to_str().unwrap()]));
    assert_eq!(run.code, Some(0), "one replica is a warning");
    insta::assert_snapshot!(
        "manifests_chart_default",
        run.stdout.replace(path.to_str().unwrap(), "coder.yaml")
    );
}

#[test]
fn input_that_is_no_deployment_of_coder_is_told_for_what_it_is() {
    let unreadable = [
        (&b"a: 1\n---\nkind: [b, c]]\n"[..], "standard input, document 2, line 3, column 13: "),
        (b"kind: Deployment\nspec:\n\treplicas: 3\n", "document 1, line 3, column 2: tabs disallowed"),
        (b"replicas: {{ .Values.coder.replicaCount }}\n", "has to be rendered first: helm template"),
        (b"a: \xff\n", "cannot take -: it is no text in UTF-8: byte 3 does not belong"),
        (b"a: *nowhere\n", "alias references unknown anchor"),
    ];
    for (input, part) in unreadable {
        let run = piped(input, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{part}");
        assert!(
            run.stderr.starts_with("error: --manifests: ") && run.stderr.contains(part),
            "{}",
            run.stderr
        );
    }
    let quoted = b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: '{{ .Release.Name }}'}\n";
    let run = piped(quoted, &[]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stdout.contains("metadata.name is no name; this looks like a template of Helm"),
        "{}",
        run.stdout
    );
    let nothing = [
        (&b""[..], "there is nothing in what was given"),
        (b"# nothing\n---\n---\n", "there is nothing in what was given"),
        (b"hello\n", "(no resource) 1"),
        (b"apiVersion: v1\nkind: Service\nmetadata: {name: x}\n", "no coderd among one resource"),
        (b"apiVersion: x/v1\nkind: Widget\nmetadata: {name: x}\n", "1 of no interest: Widget 1"),
    ];
    for (input, part) in nothing {
        let run = piped(input, &[]);
        assert_eq!(run.code, Some(3), "{part}");
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}

#[test]
fn input_without_end_is_refused_and_links_in_circles_are_not_followed() {
    let long = piped(&vec![b'#'; (32 << 20) + 1], &[]);
    assert_eq!(long.code, Some(2));
    assert!(long.stderr.contains("it is longer than 32 MiB"), "{}", long.stderr);
    let directory = tempfile::tempdir().unwrap();
    let check = || Run::of(&mut probe(&["check", "--manifests", directory.path().to_str().unwrap()]));
    std::fs::write(directory.path().join("README.md"), "{{").unwrap();
    std::fs::write(directory.path().join(".hidden.yaml"), "[").unwrap();
    let empty = check();
    assert_eq!(empty.code, Some(2));
    assert!(empty.stderr.contains("holds no file that ends in .yaml, .yml or .json"), "{}", empty.stderr);
    let below = directory.path().join("below");
    std::fs::create_dir(&below).unwrap();
    std::os::unix::fs::symlink(directory.path(), below.join("circle.yaml")).unwrap();
    std::fs::write(below.join("coder.YAML"), good().coder).unwrap();
    let found = check();
    assert_eq!(found.code, Some(0), "{}{}", found.stdout, found.stderr);
    let missing = Run::of(&mut probe(&["check", "--manifests", "/nowhere/coder.yaml"]));
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("--manifests: cannot read /nowhere/coder.yaml"), "{}", missing.stderr);
}

#[test]
fn what_measures_and_what_only_reads_do_not_go_together() {
    for other in
        [&["--quick"][..], &["--thorough"], &["--time-limit", "9s"], &["--plan", "aws/us-east-1=coderd"]]
    {
        let run = Run::of(&mut probe(&[&["check", "--manifests", "x"][..], other].concat()));
        assert_eq!(run.code, Some(2), "{other:?}");
        assert!(run.stderr.contains("cannot be used with"), "{}", run.stderr);
    }
}

#[test]
fn the_docs_list_each_code_under_its_severity() {
    let docs = include_str!("../../docs/manifests.md");
    let table = docs.split("## What is found").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut listed = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ") && line.contains('`')).skip(1) {
        let columns: Vec<_> = row.split('|').skip(2).collect();
        for (column, severity) in columns.iter().zip(["fail", "warning", "info"]) {
            for word in column.split('`').skip(1).step_by(2) {
                let code: Code = word.parse().unwrap();
                assert_eq!(code.severity().as_str(), severity, "{code}");
                listed.push(code);
            }
        }
    }
    listed.sort();
    let only_here = Code::ALL.iter().skip_while(|code| **code != Code::AutoscaledCoderd);
    for code in only_here {
        assert!(listed.contains(code), "{code} is not in the table");
    }
    assert_eq!(listed.len(), 24);
}
