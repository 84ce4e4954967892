//! The rules for Prometheus: promtool's own tests of them, and that they name what there is, have a runbook and are tested.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::house::busy;
use crate::promql::{Known, read};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    #[serde(rename = "interval")]
    _interval: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    lasting: Option<String>,
    keep_firing_for: Option<String>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    severity: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotations {
    summary: String,
    description: String,
    runbook_url: String,
}

#[derive(Debug, Deserialize)]
struct TestFile {
    tests: Vec<Story>,
}

#[derive(Debug, Deserialize)]
struct Story {
    #[serde(default)]
    promql_expr_test: Vec<Asked>,
    #[serde(default)]
    alert_rule_test: Vec<Expected>,
}

#[derive(Debug, Deserialize)]
struct Asked {
    expr: String,
}

#[derive(Debug, Deserialize)]
struct Expected {
    alertname: String,
    exp_alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    exp_labels: std::collections::BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    let files = ["deploy/prometheus/rules.yaml", "deploy/prometheus/alerts.yaml"];
    let groups =
        files.iter().flat_map(|path| serde_saphyr::from_str::<RuleFile>(&text(path)).unwrap().groups);
    groups
        .inspect(|group| assert!(group.name.starts_with("coder-probe-")))
        .flat_map(|group| group.rules)
        .collect()
}

/// Each alert and its severity, as often as there are rules of it.
fn alerts() -> Vec<(String, Rule)> {
    rules().into_iter().filter_map(|rule| Some((rule.alert.clone()?, rule))).collect()
}

/// The metrics that may be named, with those that the rules record.
pub(crate) fn known() -> Known {
    let mut known = Known::new();
    for rule in rules() {
        if let Some(name) = rule.record {
            known.record(&name, &rule.expr);
        }
    }
    known
}

fn test_files() -> Vec<PathBuf> {
    let directory = root().join("deploy/prometheus/tests");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let _busy = busy();
    let run = Command::new("promtool").args(arguments).args(files).output().unwrap_or_else(|error| {
        panic!("promtool does not start: {error}; `bash tests/run.sh` installs what the tests need")
    });
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "promtool {arguments:?}\n{}{}", said(&run.stdout), said(&run.stderr));
}

#[test]
fn prometheus_takes_the_rules() {
    let files = ["rules.yaml", "alerts.yaml"].map(|name| root().join("deploy/prometheus").join(name));
    promtool(&["check", "rules", "--lint-fatal"], &files);
}

#[test]
fn the_rules_do_what_their_stories_tell() {
    promtool(&["test", "rules"], &test_files());
}

#[test]
fn rules_name_only_what_is_exported() {
    let known = known();
    let mut faults = Vec::new();
    for rule in rules() {
        faults.extend(known.faults(&rule.expr));
        let Some(annotations) = rule.annotations else { continue };
        // Queries within a text stand between backticks, with %q where a label of the alert goes.
        for query in annotations.description.split('`').skip(1).step_by(2) {
            faults.extend(known.faults(&query.replace("%q", "\"x\"")));
        }
    }
    assert_eq!(faults, [""; 0]);
}

#[test]
fn every_alert_says_how_bad_it_is_what_is_so_and_where_to_read_on() {
    for (name, rule) in alerts() {
        assert!(name.starts_with("CoderProbe"), "{name}");
        assert!(rule.lasting.is_some() || rule.keep_firing_for.is_some(), "{name} flaps");
        let severity = rule.labels.unwrap().severity;
        assert!(["info", "warning", "critical"].contains(&severity.as_str()), "{name}: {severity}");
        let Annotations { summary, description, runbook_url } = rule.annotations.unwrap();
        assert_eq!(runbook_url, format!("docs/runbooks.md#{}", name.to_lowercase()), "{name}");
        for sentence in [&summary, &description] {
            assert!(sentence.trim().ends_with(['.', '}']), "{name}: {sentence}");
        }
    }
}

#[test]
fn records_are_named_by_level_metric_and_operation() {
    for rule in rules() {
        if let Some(name) = rule.record {
            let parts: Vec<_> = name.split(':').collect();
            assert!(parts.len() == 3 && parts[1].starts_with("coder_probe_"), "{name}");
            assert!(rule.alert.is_none() && rule.labels.is_none(), "{name}");
        }
    }
}

#[test]
fn every_alert_has_a_chapter_and_every_chapter_an_alert() {
    let text = text("docs/runbooks.md");
    let chapters: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut of_alerts: Vec<_> = alerts().into_iter().map(|(name, _)| name).collect();
    // The warning and the critical one of an alert share a chapter.
    of_alerts.dedup();
    assert_eq!(chapters, of_alerts, "in the order of alerts.yaml");
    for chapter in text.split("\n## ").skip(1) {
        for part in ["**Means.**", "**Look.**", "**Causes.**", "**Do.**", "**Nothing if**"] {
            assert!(chapter.contains(part), "{part} is missing in {chapter}");
        }
    }
}

#[test]
fn queries_in_the_docs_name_only_what_is_exported() {
    let known = known();
    let mut asked = 0;
    for page in ["docs/runbooks.md", "docs/alerts.md"] {
        let text = text(page);
        for block in text.split("```promql\n").skip(1) {
            for query in block.split("```").next().unwrap().lines() {
                assert_eq!(known.faults(query), [""; 0], "{page}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 10, "{asked}");
}

#[test]
fn every_rule_is_tested_where_it_fires_and_where_it_does_not() {
    let (mut fires, mut is_silent, mut recorded) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for path in test_files() {
        let file: TestFile = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for story in file.tests {
            recorded.extend(story.promql_expr_test.iter().flat_map(|asked| read(&asked.expr).metrics));
            for Expected { alertname, exp_alerts } in story.alert_rule_test {
                if exp_alerts.is_empty() {
                    is_silent.insert(alertname.clone());
                }
                for alert in exp_alerts {
                    fires.insert((alertname.clone(), alert.exp_labels["severity"].clone()));
                }
            }
        }
    }
    for rule in rules() {
        if let Some(name) = rule.record {
            assert!(recorded.contains(&name), "no test asks for {name}");
        }
    }
    for (name, rule) in alerts() {
        let severity = rule.labels.unwrap().severity;
        assert!(fires.contains(&(name.clone(), severity.clone())), "no test makes {name} fire as {severity}");
        assert!(is_silent.contains(&name), "no test has {name} silent");
    }
}

#[test]
fn the_values_for_coders_own_chart_mount_the_rules_that_they_name() {
    let values: serde_json::Value =
        serde_saphyr::from_str(&text("deploy/grafana/coder-observability-values.yaml")).unwrap();
    let prometheus = &values["prometheus"];
    let named = prometheus["serverFiles"]["prometheus.yml"]["rule_files"].as_array().unwrap();
    let named: BTreeSet<_> =
        named.iter().map(|path| path.as_str().unwrap().strip_suffix("/*.yaml").unwrap()).collect();
    assert!(named.contains("/etc/config/alerts-probe"), "{named:?}");
    // The server reads them, and its reloader notices when they change.
    for part in [&prometheus["server"], &prometheus["configmapReload"]["prometheus"]] {
        let mounts = part["extraConfigmapMounts"].as_array().unwrap();
        let mounted: BTreeSet<_> = mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap()).collect();
        assert_eq!(mounted, named);
    }
    let install = text("docs/alerts.md");
    for name in ["probe-rules", "probe-dashboard"] {
        assert!(
            install.contains(&format!("kubectl create configmap {name} -n coder-observability")),
            "{name}"
        );
        assert!(
            text("deploy/grafana/coder-observability-values.yaml").contains(&format!("configMap: {name},"))
        );
    }
}
