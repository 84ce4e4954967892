//! `probe check`: the main job, its report field by field, its exit codes.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::house::{Agent, Run, Secret, check, check_until_told, postgres, probe, quiet, signal};

#[test]
fn a_real_database_and_a_real_agent_pass_with_more_than_100_samples_each() {
    let _quiet = quiet();
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    let url = postgres().url();
    let run =
        check_until_told(&secret, &["--postgres", &url, "--peer", &format!("{}=coderd", agent.reflector)]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(!run.stdout.contains(postgres().password()) && !run.stderr.contains(postgres().password()));

    let report = run.json();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["verdict"], "pass");
    assert_eq!(report["quantile"], 0.95);
    assert_eq!(report["confidence"], 0.95);
    assert!(report["elapsed_us"].as_f64().unwrap() > 11e6);
    let targets = report["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2);
    for (target, kind, role, name) in [
        (&targets[0], "peer", "coderd", agent.reflector.to_string()),
        (&targets[1], "postgres", "postgres", format!("127.0.0.1:{}/postgres", postgres().port())),
    ] {
        assert_eq!(target["name"], name.as_str());
        assert_eq!(target["kind"], kind);
        assert_eq!(target["role"], role);
        assert_eq!(target["source"], Value::Null);
        assert_eq!(target["budget_us"], 10_000.0);
        assert_eq!(target["verdict"], "pass");
        assert_eq!(target["reason"], "within_budget");
        assert_eq!(target["findings"][0]["reason"], "within_budget");
        assert_eq!(target["hint"], Value::Null);
        assert!(target["samples"].as_u64().unwrap() >= 100, "{target:#}");
        let outcomes = &target["outcomes"];
        let sum: u64 = ["ok", "lost", "refused", "error", "skipped_self"]
            .iter()
            .map(|key| outcomes[key].as_u64().unwrap())
            .sum();
        let measured_us = target["measured_us"].as_f64().unwrap();
        assert!((sum as f64 - measured_us / 1e5).abs() < 4.0, "every slot has one outcome: {target:#}");
        assert!((target["blind_beyond_us"].as_f64().unwrap() - measured_us / 60.0).abs() < 1.0, "{target:#}");
        ascending(&target["rtt_us"]);
        let share = &target["exceeded_share"];
        assert!(
            share["upper"].as_f64().unwrap() <= 0.05 && share["lower"].as_f64().unwrap() >= 0.0,
            "{share:#}"
        );
    }
    let peer = &targets[0];
    assert_eq!(peer["network_us"], Value::Null);
    assert_eq!(peer["encrypted"], true);
    assert!(peer["connect_us"]["tls"].as_f64().unwrap() > 0.0);
    let database = &targets[1];
    assert_eq!(database["encrypted"], false);
    ascending(&database["network_us"]);
    ascending(&database["execution_us"]);
    let connect = &database["connect_us"];
    assert_eq!(connect["tls"], Value::Null, "sslmode=disable");
    assert!(connect["tcp"].as_f64().unwrap() > 0.0 && connect["auth"].as_f64().unwrap() > 0.0, "{connect:#}");
    let (rtt, network) =
        (database["rtt_us"]["p50"].as_f64().unwrap(), database["network_us"]["p50"].as_f64().unwrap());
    assert!(network <= rtt, "the network's share is a part of the whole");
}

fn ascending(figures: &Value) {
    let values: Vec<f64> = ["min", "p50", "p95", "p99", "max"]
        .iter()
        .map(|key| figures[key].as_f64().unwrap_or_else(|| panic!("{key} in {figures:#}")))
        .collect();
    assert!(values[0] > 0.0 && values.is_sorted(), "{figures:#}");
}

#[test]
fn nothing_is_fast_enough_for_a_microsecond() {
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    let run = check(
        &secret,
        &[
            "--postgres",
            &postgres().url(),
            "--peer",
            &agent.reflector.to_string(),
            "--budget",
            "1us",
            "--time-limit",
            "6s",
        ],
    );
    assert_eq!(run.code, Some(1));
    for target in run.json()["targets"].as_array().unwrap() {
        assert_eq!(
            (target["verdict"].as_str(), target["reason"].as_str()),
            (Some("fail"), Some("placement")),
            "{target:#}"
        );
    }
}

#[test]
fn tcp_and_http_are_measured_gently() {
    let agent = Agent::start(&Secret::new());
    let url = format!("http://{}/healthz", agent.web);
    let run = check_until_told(&Secret::new(), &["--tcp", &agent.web.to_string(), "--http", &url, "--quick"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    for target in run.json()["targets"].as_array().unwrap() {
        let slots = target["outcomes"]["ok"].as_f64().unwrap();
        let seconds = target["measured_us"].as_f64().unwrap() / 1e6;
        assert!((slots - 2.0 * seconds).abs() <= 2.0, "two a second: {target:#}");
        assert!(target["connect_us"]["tcp"].as_f64().unwrap() > 0.0);
        let whole = &target["total_us"];
        if target["kind"] == "http" {
            ascending(whole);
            assert!(
                whole["min"].as_f64() > target["rtt_us"]["min"].as_f64(),
                "connect and body come on top: {target:#}"
            );
        } else {
            assert_eq!(*whole, Value::Null);
        }
    }
}

#[test]
fn no_target_is_inconclusive_and_so_are_too_few_samples() {
    let secret = Secret::new();
    let nothing = check(&secret, &[]);
    assert_eq!(nothing.code, Some(3));
    assert_eq!(nothing.json()["verdict"], "inconclusive");
    assert_eq!(nothing.json()["targets"], json!([]));

    let short = check(&secret, &["--postgres", &postgres().url(), "--time-limit", "1s"]);
    assert_eq!(short.code, Some(3));
    let target = short.target();
    assert_eq!(target["reason"], "too_few_samples");
    assert!(target["hint"].as_str().unwrap().contains("at least 100"), "{target:#}");
}

#[test]
fn fail_on_never_only_reports() {
    let secret = Secret::new();
    let slow = check(
        &secret,
        &["--postgres", &postgres().url(), "--budget", "1us", "--time-limit", "6s", "--fail-on", "never"],
    );
    assert_eq!((slow.code, slow.json()["verdict"].as_str()), (Some(0), Some("fail")));
    assert_eq!(check(&secret, &["--fail-on", "never"]).code, Some(0), "inconclusive");
    for usage in [&["--fail-on", "never", "--nonsense"][..], &["--fail-on=never", "--tcp", "a"]] {
        let run = check(&secret, usage);
        assert_eq!(run.code, Some(0), "{usage:?}");
        assert!(run.stderr.contains("error"), "it still says what is wrong");
    }
    let run = Run::of(probe(&["check", "--nonsense"]).env("PROBE_FAIL_ON", "never"));
    assert_eq!(run.code, Some(0), "the variable counts as well");
}

#[test]
fn a_signal_stops_it_at_once_with_the_shells_code() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = probe(&["check", "--postgres", &postgres().url(), "--time-limit", "60s"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Until the handlers are in place, the shell's codes come by themselves.
        wait_for_handlers(child.id());
        signal(child.id(), name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "SIG{name}");
    }
}

/// Waits until this process catches SIGINT and SIGTERM.
fn wait_for_handlers(pid: u32) {
    let catches = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        // Signal n is bit n − 1.
        mask & (1 << 1) != 0 && mask & (1 << 14) != 0
    };
    let patience = probes::stopwatch::Stopwatch::start();
    while !catches() {
        assert!(patience.elapsed() < Duration::from_secs(10), "no handler was installed");
        std::thread::yield_now();
    }
}
