//! `probe check --plan`: the binary judges regions and sends nothing.

use serde_json::Value;

use crate::house::{Run, probe};

fn plan(arguments: &[&str]) -> Run {
    let arguments: Vec<_> = ["check", "--plan"].iter().chain(arguments).copied().collect();
    // A machine with targets of its own: they are left alone.
    let mut command = probe(&arguments);
    Run::of(
        command
            .env("PROBE_TCP", "192.0.2.1:1")
            .env("CODER_PG_CONNECTION_URL", "postgres://u:hunter2@192.0.2.1/d"),
    )
}

fn json(arguments: &[&str]) -> (Option<i32>, Value) {
    let run = plan(&[arguments, &["-o", "json"]].concat());
    (run.code, run.json())
}

/// Of a plan with one pair: exit code, verdict, reason, code and severity.
fn only(one: &str, other: &str) -> (Option<i32>, [Value; 4]) {
    let (code, report) = json(&[one, other]);
    let pairs = report["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 1);
    (code, ["verdict", "reason", "code", "severity"].map(|key| pairs[0][key].clone()))
}

#[test]
fn regions_that_light_cannot_join_in_time_fail() {
    let (code, report) = json(&["aws/us-east-1=coderd", "aws/us-west-2=postgres"]);
    assert_eq!(code, Some(1));
    assert_eq!((&report["schema_version"], &report["verdict"]), (&1.into(), &"fail".into()));
    let pair = &report["pairs"][0];
    assert_eq!((&pair["reason"], &pair["budget_us"]), (&"too_far".into(), &10_000.0.into()));
    assert!((pair["distance_km"].as_f64().unwrap() - 3502.5).abs() < 0.06, "{pair}");
    assert!((pair["least_us"].as_f64().unwrap() - 21_830.0).abs() < 6.0, "{pair}");
    assert!((pair["typical_us"]["p50"].as_f64().unwrap() - 61_060.0).abs() < 20.0, "{pair}");
    assert_eq!(pair["ends"][1]["city"], "Boardman/Umatilla OR");
    let human = plan(&["aws/us-east-1=coderd", "aws/us-west-2=postgres"]);
    assert_eq!(human.code, Some(1));
    insta::assert_snapshot!("plan_human", human.stdout);
    // With a budget that light allows, it is the distance that such pairs usually cannot keep; then only two regions.
    let reason = |budget| json(&["aws/us-east-1=coderd", "aws/us-west-2=postgres", "--budget", budget]).1;
    assert_eq!(reason("30ms")["pairs"][0]["reason"], "typically_too_far");
    assert_eq!(reason("300ms")["pairs"][0]["reason"], "cross_region");
    assert_eq!(reason("300ms")["verdict"], "fail", "coderd and its database must not cross metropolises");
}

#[test]
fn near_regions_are_named_for_what_they_are() {
    for (one, other, code, pair) in [
        (
            "aws/eu-central-2=coderd",
            "aws/eu-south-1=coderd",
            1,
            ["fail", "cross_region", "coderd_cross_region", "fail"],
        ),
        (
            "gcp/europe-west2=coderd",
            "aws/eu-west-2=coderd",
            1,
            ["fail", "same_metro", "coderd_cross_region", "fail"],
        ),
        (
            "gcp/europe-west2=postgres",
            "aws/eu-west-2=coderd",
            0,
            ["pass", "same_metro", "database_same_metro", "warning"],
        ),
        (
            "aws/eu-west-2=coderd",
            "aws/eu-west-3=postgres",
            1,
            ["fail", "cross_region", "database_cross_region", "fail"],
        ),
        (
            "aws/eu-west-2=standby",
            "aws/eu-west-3=postgres",
            0,
            ["pass", "cross_region", "database_nodes_far", "warning"],
        ),
    ] {
        let (seen, values) = only(one, other);
        assert_eq!(
            (seen, values.each_ref().map(|value| value.as_str().unwrap())),
            (Some(code), pair),
            "{one} {other}"
        );
    }
    let strict = plan(&["gcp/europe-west2=postgres", "aws/eu-west-2=coderd", "--fail-on", "warning"]);
    assert_eq!(strict.code, Some(1));
    assert!(strict.stdout.contains("one metropolis and still two regions"), "{}", strict.stdout);
    let never = plan(&["aws/us-east-1=coderd", "aws/us-west-2=postgres", "--fail-on", "never"]);
    assert_eq!(never.code, Some(0));
}

#[test]
fn one_region_passes_and_so_does_what_has_no_budget() {
    let (code, report) = json(&["aws/us-east-1=coderd", "us-east-1=postgres", "AWS/us-east-1=standby"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()));
    assert_eq!(report["pairs"].as_array().unwrap().len(), 3);
    assert_eq!(report["pairs"][0]["reason"], "same_region");
    assert_eq!(report["pairs"][0]["severity"], Value::Null);
    let (code, report) = json(&["aws/us-east-1=coderd", "aws/us-east-1=coderd"]);
    assert_eq!((code, report["plan"].as_array().unwrap().len()), (Some(0), 1));
    let (code, values) = only("aws/us-east-1=coderd", "aws/ap-south-1=provisioner");
    assert_eq!((code, values[0].as_str(), values[1].as_str()), (Some(0), Some("info"), Some("no_budget")));
    let human = plan(&["aws/us-east-1=coderd"]);
    assert!(human.stdout.contains("aws/us-east-1 [coderd] is in one region"), "{}", human.stdout);
    // The worst pair decides, whatever the others are.
    let (code, report) = json(&["aws/us-east-1=coderd", "aws/us-east-1=postgres", "aws/us-west-2=coderd"]);
    assert_eq!((code, report["verdict"].as_str()), (Some(1), Some("fail")));
}

#[test]
fn what_cannot_be_understood_exits_2_and_suggests() {
    for (text, part) in [
        (
            "aws/us-east1=coderd",
            "--plan: 'aws/us-east1' is no region that we know; did you mean aws/us-east-1",
        ),
        ("gcp/us-east-1=coderd", "did you mean gcp/us-east1"),
        ("aws/eastus=coderd", "azure/eastus"),
        ("us-wset-2=coderd", "aws/us-west-2"),
        ("mars/olympus=coderd", "regions of aws, gcp and azure"),
        ("aws/us-east-1=coder", "'coder' is not a role: use coderd"),
        ("aws/us-east-1", "'aws/us-east-1' is not PROVIDER/REGION=ROLE"),
        ("=coderd", "'=coderd' is not PROVIDER/REGION=ROLE"),
        ("", "'' is not PROVIDER/REGION=ROLE"),
    ] {
        let run = plan(&["aws/us-west-1=postgres", text]);
        assert_eq!(run.code, Some(2), "{text}: {}", run.stderr);
        assert!(run.stderr.contains(part), "{text}: {}", run.stderr);
        assert_eq!(run.stdout, "");
    }
    assert_eq!(plan(&[]).code, Some(2));
    let both = plan(&["aws/us-east-1=coderd", "--quick"]);
    assert_eq!(both.code, Some(2));
    assert!(both.stderr.contains("--quick"), "{}", both.stderr);
}
