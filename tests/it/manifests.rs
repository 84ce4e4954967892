//! `probe check --manifests`: a good deployment passes, each fault alone is found, and bad input is told for what it is.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use probe::manifests::{self, Judged, Settings, Source};
use probe::mesh::place::policy::Severity;
use probe::mesh::rules::{Code, Severities};
use probe::mesh::verdict::Verdict;
use serde::Deserialize;
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

#[test]
fn the_good_deployment_has_no_finding_and_nothing_unjudged() {
    let judged = good().judged();
    assert_eq!((judged.verdict, judged.findings, judged.unjudged), (Verdict::Pass, vec![], vec![]));
    let roles: Vec<_> = judged.parts.iter().map(|part| (part.role, part.replicas)).collect();
    assert_eq!(roles, [("coderd", Some(3)), ("proxy", Some(2)), ("provisioner", Some(4))]);
}

/// A change of the good deployment and what it must lead to; see tests/manifests/changes.toml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: String,
    #[serde(default)]
    coder: Vec<(String, String)>,
    #[serde(default)]
    network: Vec<(String, String)>,
    #[serde(default)]
    others: Vec<(String, String)>,
    add: Option<String>,
    second_region: Option<String>,
    #[serde(default)]
    finds: Vec<String>,
    unjudged: Option<String>,
    verdict: Option<String>,
}

impl Change {
    fn of_good(&self) -> Good {
        let mut good = good();
        for (old, new) in &self.coder {
            good = good.coder(old, new);
        }
        for (old, new) in &self.network {
            good = good.network(old, new);
        }
        for (old, new) in &self.others {
            good = good.others(old, new);
        }
        let second = self.second_region.as_ref().map(|region| good.elsewhere(region));
        for extra in self.add.iter().chain(&second) {
            good = good.and(extra);
        }
        good
    }
}

#[test]
fn each_change_of_the_good_deployment_leads_to_what_is_listed_and_to_nothing_else() {
    #[derive(Deserialize)]
    struct Changes {
        change: Vec<Change>,
    }
    let text = std::fs::read_to_string(golden("changes.toml")).unwrap();
    let mut found = BTreeSet::new();
    for change in toml::from_str::<Changes>(&text).unwrap().change {
        let (name, judged) = (&change.name, change.of_good().judged());
        assert_eq!(judged.faults, [], "{name}");
        let codes: Vec<_> = judged.findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, change.finds, "{name}: {:#?}", judged.unjudged);
        match &change.unjudged {
            None => assert_eq!(judged.unjudged, [], "{name}"),
            Some(text) => assert!(
                judged.unjudged.iter().any(|unjudged| unjudged.text.contains(text)),
                "{name}: {:#?}",
                judged.unjudged
            ),
        }
        let fails = judged.findings.iter().any(|finding| finding.severity == Severity::Fail);
        let verdict = change.verdict.as_deref().unwrap_or(if fails { "fail" } else { "pass" });
        let code = match verdict {
            "pass" => 0,
            "fail" => 1,
            _ => 3,
        };
        assert_eq!((judged.verdict.as_str(), judged.exit_code(false)), (verdict, code), "{name}");
        found.extend(judged.findings.iter().map(|finding| finding.code));
    }
    assert_eq!(found, listed_in_the_docs(), "each code of the docs is found by some change, and no other");
}

#[test]
fn a_resource_that_is_given_twice_counts_once_and_the_report_says_so() {
    let two = good().coder("replicas: 3", "replicas: 2");
    let again = two.coder.split("---\n").find(|text| text.contains("kind: Deployment")).unwrap().to_owned();
    let unnamed = swapped(&again, "  name: coder\n  namespace: coder\n", "  name: coder\n");
    for again in [&again, &unnamed] {
        let judged = two.clone().and(again).judged();
        let codes: Vec<_> = judged.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [Code::FewCoderd]);
        assert_eq!(judged.replaced, ["Deployment coder/coder (coder.yaml)"]);
        assert_eq!(judged.parts[0].file, "extra.yaml", "the last one counts");
        let said = manifests::text::render(&judged, probe::export::text::Colour::Never);
        let line = "given again later, so the last counts: Deployment coder/coder (coder.yaml)";
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn line_ends_of_windows_make_no_difference() {
    let good = Good { coder: good().coder.replace('\n', "\r\n"), ..good() };
    assert_eq!((good.judged().verdict, good.judged().findings), (Verdict::Pass, vec![]));
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
fn a_warning_that_may_be_there_stops_whoever_lets_no_warning_pass() {
    let address = "valueFrom:\n                fieldRef:\n                  fieldPath: status.podIP";
    let host = |value: &str| format!("CODER_CLUSTER_HOST\n              {value}");
    let judged = good().coder(&host(address), &host("valueFrom: {secretKeyRef: {name: a, key: b}}")).judged();
    assert_eq!((judged.exit_code(false), judged.exit_code(true)), (0, 3), "{:#?}", judged.unjudged);
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

/// The codes in the table of docs/manifests.md, each in the column of its severity.
fn listed_in_the_docs() -> BTreeSet<Code> {
    let docs = include_str!("../../docs/manifests.md");
    let table = docs.split("## What is found").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut listed = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| ") && line.contains('`')).skip(1) {
        for (column, severity) in row.split('|').skip(2).zip(["fail", "warning", "info"]) {
            for word in column.split('`').skip(1).step_by(2) {
                let code: Code = word.parse().unwrap();
                assert_eq!(code.severity().as_str(), severity, "{code}");
                listed.insert(code);
            }
        }
    }
    listed
}
