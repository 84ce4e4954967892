//! Discovery with real components: Coder's tables in a real PostgreSQL, agents that find each other through it.

use std::time::Duration;

use probes::stopwatch::Stopwatch;
use serde_json::Value;

use crate::coder::{Coder, Generation};
use crate::house::{Agent, Secret, pause, probe, quiet, signal, sql, wait_until};

/// An agent that is given nothing but the mesh secret and Coder's connection string.
pub(crate) fn agent(secret: &Secret, url: &str, name: &str, host: &str) -> Agent {
    agent_as(None, secret, url, name, host)
}

/// The same, but it is told what it stands beside.
pub(crate) fn agent_as(role: Option<&str>, secret: &Secret, url: &str, name: &str, host: &str) -> Agent {
    agent_with(
        &role.map(|role| ("PROBE_ROLE", role)).into_iter().collect::<Vec<_>>(),
        secret,
        url,
        name,
        host,
    )
}

/// The same, with more in its environment.
pub(crate) fn agent_with(more: &[(&str, &str)], secret: &Secret, url: &str, name: &str, host: &str) -> Agent {
    let listen = format!("{host}:0");
    let arguments =
        ["agent", "--name", name, "--listen", &listen, "--web", "127.0.0.1:0", "--log-format", "json"];
    let mut command = probe(&arguments);
    command
        .env("PROBE_MESH_SECRET_FILE", &secret.path)
        .env("CODER_PG_CONNECTION_URL", url)
        .env("PROBE_INTERVALS__PEER", "100ms")
        .envs(more.iter().copied());
    Agent::with(&mut command)
}

/// The links that are judged: the paths of coderd's own traffic are tests of their own.
fn judged(links: &Value) -> impl Iterator<Item = &Value> {
    links.as_array().unwrap().iter().filter(|link| link["kind"] == "peer" || link["kind"] == "postgres")
}

fn links(report: &Value) -> Vec<(String, String)> {
    let links = judged(&report["links"]);
    let mut links: Vec<_> = links
        .map(|link| {
            let role = link["role"].as_str().unwrap_or("-");
            (link["name"].as_str().unwrap().to_owned(), role.to_owned())
        })
        .collect();
    links.sort();
    links
}

pub(crate) fn state(report: &Value, name: &str) -> Option<String> {
    let links = report["links"].as_array().unwrap();
    let link = links.iter().find(|link| link["name"] == name)?;
    Some(link["state"].as_str().unwrap().to_owned())
}

#[test]
fn with_only_coders_connection_string_and_the_secret_three_agents_find_each_other() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::WithNats);
    for host in 2..=4 {
        coder.add_replica(&format!("coder-{host}"), &format!("http://127.0.0.{host}:8080"));
    }
    coder.keep_alive();
    let (secret, url) = (Secret::new(), coder.cluster.url());
    let agents: Vec<_> = (2..=4)
        .map(|host| agent(&secret, &url, &format!("agent-{host}"), &format!("127.0.0.{host}")))
        .collect();
    let database = format!("127.0.0.1:{}/postgres", coder.cluster.port());
    for (index, agent) in agents.iter().enumerate() {
        // Whom an agent stands beside is known by the address that it shares with a replica.
        let mut wanted: Vec<_> = (2..=4)
            .filter(|host| *host != index + 2)
            .map(|host| (format!("agent-{host}"), "coderd".to_owned()))
            .collect();
        wanted.push((database.clone(), "postgres".to_owned()));
        wanted.sort();
        wait_until(agent, "a full mesh", 15, |report| links(report) == wanted);
    }
    for other in ["agent-3", "agent-4"] {
        wait_until(&agents[0], "everybody is well", 40, |report| {
            state(report, other).as_deref() == Some("ok")
        });
    }
    // What each of them sees is known to all.
    let report = wait_until(&agents[0], "the whole mesh", 20, |report| {
        report["agents"].as_array().unwrap().iter().filter(|a| judged(&a["links"]).count() == 3).count() == 2
    });
    let other = &report["agents"][0];
    assert_eq!(
        (other["name"].as_str(), other["role"].as_str()),
        (Some("agent-3"), Some("coderd")),
        "{report:#}"
    );
    assert!(
        other["links"].as_array().unwrap().iter().any(|l| l["name"] == "agent-2" && l["min_us"].is_number())
    );
    let members = report["members"].as_array().unwrap();
    let replicas: Vec<_> = members.iter().filter(|m| m["agent"] == false && m["role"] == "coderd").collect();
    assert_eq!(replicas.len(), 3, "{report:#}");
    assert_eq!(replicas[0]["sources"][0], "coder");

    // One is stopped, as by a roll-out; the other one just dies.
    coder.stop_replica("coder-3");
    agents[1].signal("TERM");
    coder.kill_replica("coder-4");
    signal(agents[2].pid(), "KILL");
    wait_until(&agents[0], "it has left", 10, |report| state(report, "agent-3").as_deref() == Some("left"));
    wait_until(&agents[0], "it is gone", 30, |report| {
        state(report, "agent-4").as_deref() == Some("unreachable")
    });
    let report = wait_until(&agents[0], "one replica is too few", 30, |report| {
        report["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == "few_coderd")
    });
    assert_eq!(state(&report, "agent-3").as_deref(), Some("left"), "and still has: {report:#}");
}

#[test]
fn a_role_that_may_read_nothing_is_told_what_it_needs_once_and_goes_on_measuring() {
    let coder = Coder::new(Generation::BeforeNats);
    sql(&coder.cluster, "CREATE ROLE coder_probe LOGIN PASSWORD 'pwd'");
    let url =
        format!("postgres://coder_probe:pwd@127.0.0.1:{}/postgres?sslmode=disable", coder.cluster.port());
    let secret = Secret::new();
    let agents =
        [agent_as(Some("coderd"), &secret, &url, "a", "127.0.0.2"), agent(&secret, &url, "b", "127.0.0.3")];
    // Presence needs no right.
    wait_until(&agents[1], "it finds the other one", 15, |report| state(report, "a").is_some());
    let (mut said, watch) = (agents[0].said(), Stopwatch::start());
    let denied = |said: &[String]| said.iter().filter(|line| line.contains("may not read")).count();
    while denied(&said) < 3 {
        assert!(watch.elapsed() < Duration::from_secs(15), "one line a table: {said:#?}");
        pause();
        said.extend(agents[0].said());
    }
    assert_eq!(denied(&said), 3, "one line a table: {said:#?}");
    assert!(said.iter().all(|line| !line.contains("pwd")));

    sql(&coder.cluster, "GRANT SELECT (id, updated_at, hostname) ON replicas TO coder_probe");
    coder.add_replica("coder-9", "http://127.0.0.9:8080");
    let run = crate::house::Run::of(
        probe(&["check", "--discover", "coder", "--quick", "-o", "json"])
            .env("PROBE_MESH_SECRET_FILE", &secret.path)
            .env("CODER_PG_CONNECTION_URL", &url),
    );
    let names: Vec<_> = run.json()["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.contains(&"a".to_owned()), "{names:?}");
    assert!(!names.contains(&"b".to_owned()), "it stands beside no server: {names:?}");
}

#[test]
fn through_a_standby_agents_are_looked_for_beside_the_replicas_and_a_promotion_is_told() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::WithNats);
    coder.add_replica("coder-6", "http://127.0.0.6:8080");
    coder.keep_alive();
    let secret = Secret::new();
    let near = agent(&secret, &coder.cluster.url(), "agent-6", "127.0.0.6");
    let standby = coder.cluster.follower().unwrap();
    let port = near.reflector.port().to_string();
    let arguments = ["agent", "--name", "agent-7", "--listen", "127.0.0.7:0", "--web", "127.0.0.1:0"];
    let watcher = Agent::with(
        probe(&arguments)
            .args(["--log-format", "json"])
            .env("PROBE_MESH_SECRET_FILE", &secret.path)
            .env("CODER_PG_CONNECTION_URL", standby.url())
            .env("PROBE_PEER_PORT", port),
    );
    // The agent there cannot announce itself through a standby, so it is known by its replica's name.
    let report = wait_until(&watcher, "it is found", 15, |report| state(report, "coder-6").is_some());
    let members = report["members"].as_array().unwrap();
    assert!(members.iter().any(|m| m["role"] == "standby"), "{report:#}");
    let said = watcher.said();
    assert!(said.iter().any(|line| line.contains("this is a standby")), "{said:#?}");

    let primary = wait_until(&near, "the primary tells who follows it", 15, |report| {
        report["members"].as_array().unwrap().iter().any(|member| member["role"] == "standby")
    });
    let members = primary["members"].as_array().unwrap();
    assert!(members.iter().any(|m| m["role"] == "postgres" && m["sources"][0] == "postgres"), "{primary:#}");
    assert!(state(&watcher.report(), "coder-6").is_some(), "what was found stays: {:#?}", watcher.said());

    standby.promote().unwrap();
    let watch = Stopwatch::start();
    loop {
        if watcher.said().iter().any(|line| line.contains("another server now") && line.contains("00000002"))
        {
            break;
        }
        assert!(watch.elapsed() < Duration::from_secs(25), "nothing was said of the promotion");
        pause();
    }
}

#[test]
fn the_grants_of_the_documentation_are_enough_and_no_more_is_read() {
    let coder = Coder::new(Generation::BeforeNats);
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/discovery.md")).unwrap();
    let (_, rest) = document.split_once("```sql\n").unwrap();
    let (grants, _) = rest.split_once("```").unwrap();
    sql(&coder.cluster, grants);
    coder.add_replica("coder-2", "http://127.0.0.2:8080");
    let port = coder.cluster.port();
    let url = format!("postgres://coder_probe:change%20me@127.0.0.1:{port}/postgres?sslmode=disable");
    let agent = agent(&Secret::new(), &url, "agent-2", "127.0.0.2");
    let report = wait_until(&agent, "the replica is seen", 15, |report| {
        report["members"].as_array().unwrap().iter().any(|member| member["name"] == "coder-2")
    });
    assert!(
        report["sources"].as_array().unwrap().iter().all(|source| source["failure"].is_null()),
        "{report:#}"
    );
    let said = agent.said();
    assert!(said.iter().all(|line| !line.contains("cannot see everything")), "{said:#?}");
}
