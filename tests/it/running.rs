//! A mesh that runs, seen from outside: `probe matrix` and `probe check --agent`.

use std::time::Duration;

use crate::house::{Agent, Run, Secret, closed_port, probe};
use crate::relay::Relay;

/// An agent that measures another one over a wire of this length, often enough for a quick verdict.
struct Pair {
    near: Agent,
    _far: Agent,
    _relay: Relay,
    secret: Secret,
}

impl Pair {
    fn over(wire: Duration, more: &[&str]) -> Self {
        let secret = Secret::new();
        let far = Agent::start(&secret);
        let relay = Relay::udp(far.reflector, wire, 0);
        let peer = format!("{}=coderd", relay.address);
        let given = [
            "agent",
            "--listen",
            "127.0.0.1:0",
            "--web",
            "127.0.0.1:0",
            "--name",
            "coderd-1",
            "--role",
            "coderd",
        ];
        let mut command = probe(&given);
        command.args(["--peer", &peer]).args(more);
        command.env("PROBE_MESH_SECRET_FILE", &secret.path).env("PROBE_INTERVALS__PEER", "50ms");
        Self { near: Agent::with(&mut command), _far: far, _relay: relay, secret }
    }

    fn ask(&self, before: &[&str], after: &[&str]) -> Run {
        let web = self.near.web.to_string();
        Run::of(&mut probe(&[before, &[&*web], after].concat()))
    }
}

#[test]
fn a_near_mesh_passes_and_says_who_told_so() {
    let pair = Pair::over(Duration::from_millis(1), &[]);
    let run = pair.ask(&["check", "--agent"], &["--time-limit", "120s"]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("√ pass: "), "{}", run.stdout);
    assert!(run.stdout.contains("measured by the agents, told by coderd-1 at 2"), "{}", run.stdout);
    let matrix = pair.ask(&["matrix"], &[]);
    assert_eq!(matrix.code, Some(0), "{}", matrix.stderr);
    assert!(
        matrix.stdout.contains(" 1 coderd-1") && matrix.stdout.contains("p95 in ms"),
        "{}",
        matrix.stdout
    );
}

#[test]
fn a_far_pair_fails_with_its_name_its_figure_and_a_sign_in_the_matrix() {
    let pair = Pair::over(Duration::from_millis(20), &[]);
    let run = pair.ask(&["check", "--agent"], &["--time-limit", "120s", "-o", "json"]);
    assert_eq!(run.code, Some(1), "{}{}", run.stdout, run.stderr);
    let json = run.json();
    assert_eq!((&json["verdict"], &json["vantage"]["agent"]), (&"fail".into(), &"coderd-1".into()));
    let path = &json["paths"][0];
    assert_eq!((&path["source"], &path["state"]), (&"coderd-1".into(), &"breach".into()), "{json:#}");
    assert!(path["p95_us"].as_f64().is_some_and(|p95| p95 > 19_000.0), "{path:#}");
    assert_eq!(pair.ask(&["check", "--fail-on", "never", "--agent"], &[]).code, Some(0));
    let matrix = pair.ask(&["matrix"], &["--show", "p50"]);
    assert!(matrix.stdout.starts_with('×') && matrix.stdout.contains(" ▲"), "{}", matrix.stdout);
    let markdown = pair.ask(&["matrix"], &["-o", "markdown"]).stdout;
    assert!(markdown.contains("| coderd-1 | ▲"), "{markdown}");
    let json = pair.ask(&["matrix"], &["-o", "json"]).json();
    assert_eq!(json["cells"][0]["state"], "breach", "{json:#}");
}

#[test]
fn who_does_not_answer_leaves_it_open_and_a_wrong_word_is_an_error() {
    let nobody = format!("127.0.0.1:{}", closed_port());
    for arguments in [&["check", "--agent", &nobody][..], &["matrix", &nobody]] {
        let run = Run::of(&mut probe(arguments));
        assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""), "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(&nobody) && run.stderr.contains("does not answer"), "{}", run.stderr);
    }
    for arguments in
        [&["check", "--agent", "ftp://a"][..], &["matrix", "a:0"], &["check", "--agent", "a", "--quick"]]
    {
        assert_eq!(Run::of(&mut probe(arguments)).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn an_agent_with_a_token_answers_who_has_it() {
    let files = Secret::new();
    let (right, wrong) =
        (files.file("token", "correct-horse-battery\n"), files.file("other", "hunter2hunter2hunter2\n"));
    let pair = Pair::over(Duration::from_millis(1), &["--web-token-file", &right]);
    let ask = |file: &[&str]| pair.ask(&["matrix"], file);
    assert_eq!(ask(&["--web-token-file", &right]).code, Some(0));
    for refused in [ask(&[]), ask(&["--web-token-file", &wrong])] {
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("--web-token-file") && !refused.stderr.contains("hunter2"),
            "{}",
            refused.stderr
        );
    }
    drop(pair.secret);
}

#[test]
fn a_report_is_one_page_with_the_past_of_a_path_and_asks_nobody() {
    let pair = Pair::over(Duration::from_millis(20), &[]);
    assert_eq!(pair.ask(&["check", "--agent"], &["--time-limit", "120s"]).code, Some(1));
    let html = pair.ask(&["report"], &[]);
    assert_eq!(html.code, Some(0), "{}", html.stderr);
    assert!(html.stdout.starts_with("<!doctype html>") && html.stdout.contains("Content-Security-Policy"));
    for outside in ["src=\"", "<link rel=\"stylesheet\"", "import {"] {
        assert!(!html.stdout.contains(outside), "{outside}");
    }
    let json = pair.ask(&["report"], &["-o", "json"]).json();
    assert_eq!(json["snapshot"]["cells"][0]["state"], "breach", "{json:#}");
    assert!(
        json["placement"]["placed"].is_array() && json["paths"][0]["history"]["bins"].is_array(),
        "{json:#}"
    );
    let markdown = pair.ask(&["report"], &["-o", "markdown"]).stdout;
    assert!(markdown.contains("| coderd-1 | ▲") && markdown.contains("\n| when | what |\n"), "{markdown}");
}
