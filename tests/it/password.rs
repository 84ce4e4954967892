//! Passwords that are asked for anew at each connect: files that are swapped, commands that are counted, fail and hang.

use std::path::{Path, PathBuf};
use std::time::Duration;

use probe::demo::cluster::Cluster;
use probes::stopwatch::Stopwatch;
use serde_json::Value;

use crate::house::{Agent, Run, Secret, own_postgres, pause, probe, sql, wait_until};

/// A server with a role whose password is in a file, or is printed by a command that counts how often it is run.
struct Database {
    cluster: Cluster,
    directory: tempfile::TempDir,
}

impl Database {
    fn new() -> Self {
        let it = Self { cluster: own_postgres(&[]), directory: tempfile::tempdir().unwrap() };
        sql(&it.cluster, "CREATE ROLE coder_probe LOGIN");
        it.rotate("t0ken-one");
        it
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn rotate(&self, password: &str) {
        sql(&self.cluster, &format!("ALTER ROLE coder_probe PASSWORD '{password}'"));
        std::fs::write(self.file("token"), format!("{password}\n")).unwrap();
    }

    /// Its connection string has the password of last year.
    fn url(&self) -> String {
        format!(
            "postgres://coder_probe:t0ken-zero@127.0.0.1:{}/postgres?sslmode=disable",
            self.cluster.port()
        )
    }

    fn command(&self) -> String {
        let script = "echo run >> \"$0\"; cat \"$1\"";
        let quoted = |path: &Path| format!("'{}'", path.display());
        format!("sh -c '{script}' {} {}", quoted(&self.file("runs")), quoted(&self.file("token")))
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.file("runs")).unwrap_or_default().lines().count()
    }

    fn agent(&self, variable: &str, value: &str) -> Agent {
        let arguments = ["agent", "--name", "watcher", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"];
        Agent::with(
            probe(&arguments)
                .env("PROBE_MESH_SECRET_FILE", &Secret::new().path)
                .env("CODER_PG_CONNECTION_URL", self.url())
                .env("PROBE_INTERVALS__POSTGRES", "100ms")
                .env("PROBE_LOG", "trace")
                .env(variable, value),
        )
    }

    /// Ends all connections of the role, as a failover would.
    fn cut(&self) {
        sql(
            &self.cluster,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'coder_probe'",
        );
    }
}

fn is_well(report: &Value) -> bool {
    report["links"][0]["samples"].as_u64().is_some_and(|samples| samples >= 5)
        && report["databases"][0]["name"].is_string()
}

fn reconnects(report: &Value) -> u64 {
    report["links"][0]["reconnects"].as_u64().unwrap()
}

fn holds_no_secret(agent: &Agent) {
    let mut text = agent.said().join("\n");
    text.push_str(&agent.said_first.join("\n"));
    text.push_str(&agent.report().to_string());
    assert!(
        !text.contains("t0ken"),
        "{}",
        text.lines().find(|line| line.contains("t0ken")).unwrap_or_default()
    );
}

#[test]
fn a_password_file_is_read_anew_at_each_connect() {
    let database = Database::new();
    let agent = database.agent("PROBE_POSTGRES_PASSWORD_FILE", &database.file("token").display().to_string());
    wait_until(&agent, "the file goes before the string", 20, is_well);
    database.rotate("t0ken-two");
    let sent = agent.report()["links"][0]["totals"]["outcomes"]["ok"].as_u64().unwrap();
    wait_until(&agent, "a connection that stands needs no password", 20, |report| {
        report["links"][0]["totals"]["outcomes"]["ok"].as_u64().unwrap() > sent + 3
    });
    database.cut();
    let report = wait_until(&agent, "it is let in with the new one", 20, |report| reconnects(report) == 1);
    assert_eq!(report["links"][0]["connects"][0]["outcome"], "ok", "{report:#}");
    assert_eq!(report["links"][0]["connects_failed"], 0, "{report:#}");
    holds_no_secret(&agent);
}

#[test]
fn a_password_command_is_run_once_a_connect_and_no_more() {
    let database = Database::new();
    let agent = database.agent("PROBE_POSTGRES_PASSWORD_COMMAND", &database.command());
    wait_until(&agent, "both connections stand", 20, is_well);
    assert_eq!(database.runs(), 2, "one for the measured connection, one for discovery");
    database.rotate("t0ken-two");
    database.cut();
    wait_until(&agent, "both connections stand again", 20, |report| {
        reconnects(report) == 1 && report["databases"][0]["told_ago_us"].as_f64().is_some_and(|ago| ago < 2e6)
    });
    let watch = Stopwatch::start();
    while database.runs() < 4 {
        assert!(watch.elapsed() < Duration::from_secs(20), "{} runs", database.runs());
        pause();
    }
    assert_eq!(database.runs(), 4);
    holds_no_secret(&agent);
}

fn check(database: &Database, arguments: &[&str]) -> Run {
    let url = database.url();
    let mut all = vec!["check", "-o", "json", "--quick", "--postgres", &url];
    all.extend(arguments);
    Run::of(&mut probe(&all))
}

#[test]
fn a_stale_password_is_refused_as_ever_and_the_next_look_uses_the_fresh_one() {
    let database = Database::new();
    let file = database.file("token").display().to_string();
    sql(&database.cluster, "ALTER ROLE coder_probe PASSWORD 't0ken-new'");
    let stale = check(&database, &["--postgres-password-file", &file]);
    assert_eq!((stale.code, stale.target()["reason"].as_str()), (Some(1), Some("auth")), "{}", stale.stdout);
    database.rotate("t0ken-new");
    let fresh = check(&database, &["--postgres-password-file", &file]);
    assert!(fresh.target()["outcomes"]["ok"].as_u64().unwrap() > 0, "{}", fresh.stdout);
    assert!(!stale.stdout.contains("t0ken") && !stale.stderr.contains("t0ken"));
}

#[test]
fn a_command_that_fails_is_no_fault_of_the_database_and_nothing_of_it_but_its_name_is_said() {
    let database = Database::new();
    let script = "sh -c 'echo not with $0 >&2; exit 7' hunter2hunter2";
    let run = check(&database, &["--postgres-password-command", script]);
    let target = run.target();
    assert_eq!((run.code, target["verdict"].as_str()), (Some(3), Some("inconclusive")), "{target:#}");
    assert_eq!(target["reason"], "password");
    let detail = target["detail"].as_str().unwrap();
    assert_eq!(detail, "the password command `sh` failed (exit status: 7): not with ***");
    assert!(!run.stdout.contains("hunter2") && !run.stderr.contains("hunter2"), "{}", run.stderr);
    assert!(target["hint"].as_str().unwrap().contains("by hand"), "{target:#}");
}

#[test]
fn a_command_that_hangs_holds_up_neither_the_other_links_nor_the_end() {
    let (database, secret) = (Database::new(), Secret::new());
    let peer = Agent::start(&secret);
    let address = peer.reflector.to_string();
    let hangs = format!("sh -c 'echo run >> \"$0\"; sleep 600; true' '{}'", database.file("runs").display());
    let arguments = ["agent", "--name", "watcher", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"];
    let agent = Agent::with(
        probe(&arguments)
            .args(["--peer", &address, "--postgres", &database.url()])
            .args(["--postgres-password-command", &hangs])
            .env("PROBE_MESH_SECRET_FILE", &secret.path)
            .env("PROBE_INTERVALS__PEER", "50ms"),
    );
    let of = |report: &Value, kind: &str| {
        report["links"].as_array().unwrap().iter().find(|link| link["kind"] == kind).unwrap().clone()
    };
    let report = wait_until(&agent, "the peer is measured", 20, |report| {
        of(report, "peer")["totals"]["outcomes"]["ok"].as_u64().unwrap() > 20
            && database.file("runs").exists()
    });
    assert_eq!(of(&report, "postgres")["connects"], serde_json::json!([]), "it still hangs: {report:#}");
    let watch = Stopwatch::start();
    agent.signal("TERM");
    assert_eq!(agent.wait().0, Some(0));
    assert!(watch.elapsed() < Duration::from_secs(5), "it waited for the command: {:?}", watch.elapsed());
}
