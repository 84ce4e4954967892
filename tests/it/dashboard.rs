//! The dashboard for Grafana: it names what there is, explains itself, and hard-wires no data source.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::alerts::known;

const VARIABLES: &[&str] =
    &["datasource", "cluster", "namespace", "source", "target", "coder_namespace", "docs"];

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&text("deploy/grafana/probe.json")).unwrap()
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect()
}

/// The values of this key, wherever it stands.
fn all_of<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key));
            fields.values().for_each(|value| all_of(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|value| all_of(value, key, found)),
        _ => {}
    }
}

/// What the dashboard asks Prometheus, with «all» chosen everywhere and a range of a minute.
pub(crate) fn every_expression() -> Vec<String> {
    let dashboard = dashboard();
    let mut found = Vec::new();
    all_of(&dashboard, "expr", &mut found);
    let expressions = found.into_iter().map(|expression| {
        let mut expression = expression.as_str().unwrap().to_owned();
        for range in ["$__rate_interval", "$__interval", "$__range"] {
            expression = expression.replace(range, "1m");
        }
        // The longest first: `$source` begins other names.
        let mut names = VARIABLES.to_vec();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        for name in names {
            expression = expression.replace(&format!("\"${name}\""), "\".*\"");
        }
        // `$1` is a group of a pattern.
        assert!(!expression.replace("$1", "").contains('$'), "a variable is left in {expression}");
        expression
    });
    expressions.collect()
}

#[test]
fn the_dashboard_asks_only_for_what_is_exported() {
    let known = known();
    let expressions = every_expression();
    assert!(expressions.len() > 40, "{}", expressions.len());
    let faults: Vec<_> = expressions.iter().flat_map(|expression| known.faults(expression)).collect();
    assert_eq!(faults, [""; 0]);
}

#[test]
fn every_panel_says_what_it_shows_and_stands_where_no_other_does() {
    let dashboard = dashboard();
    let mut identities = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(!title.is_empty() && identities.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} covers another panel");
            }
        }
    }
    for panel in panels(&dashboard) {
        let title = &panel["title"];
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        let letters: BTreeSet<_> = panel["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| target["refId"].as_str().unwrap())
            .collect();
        assert_eq!(letters.len(), panel["targets"].as_array().unwrap().len(), "{title}");
        assert!(!letters.is_empty(), "{title}");
    }
}

#[test]
fn the_data_source_is_the_readers_choice() {
    let dashboard = dashboard();
    let mut sources = Vec::new();
    all_of(&dashboard, "datasource", &mut sources);
    assert!(sources.len() > 40, "{}", sources.len());
    for source in sources {
        assert_eq!(source, &serde_json::json!({"type": "prometheus", "uid": "${datasource}"}));
    }
}

#[test]
fn grafana_10_4_can_read_it_and_its_address_stays() {
    let dashboard = dashboard();
    assert_eq!((&dashboard["uid"], &dashboard["schemaVersion"]), (&"coder-probe".into(), &39.into()));
    assert_eq!(dashboard["tags"], serde_json::json!(["coder", "latency"]));
    assert!(dashboard.get("id").is_none(), "a number of one Grafana is none of another");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, VARIABLES);
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        // A label that Prometheus does not add matches «all» only like this.
        assert_eq!(variable["allValue"], ".*", "{}", variable["name"]);
    }
}

#[test]
fn links_lead_to_chapters_that_exist() {
    let dashboard = dashboard();
    let mut links = Vec::new();
    all_of(&dashboard, "url", &mut links);
    assert!(links.len() > 20, "{}", links.len());
    for link in links.into_iter().map(|link| link.as_str().unwrap()) {
        let (page, chapter) =
            link.strip_prefix("${docs}/").unwrap().split_once('#').unwrap_or((&link[8..], ""));
        let text = text(&format!("docs/{page}"));
        let exists = text
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .any(|line| line.to_lowercase() == chapter);
        assert!(exists || chapter.is_empty() || chapter == "${__value.text}", "{link}");
    }
}
