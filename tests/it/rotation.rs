//! Another mesh secret, and renewed certificates, while the agents run: no link notices, and who has the old one alone is
//! refused in the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use probes::secret::MeshSecret;
use probes::stopwatch::Stopwatch;
use serde_json::Value;

use crate::encryption::Authority;
use crate::house::{Agent, Run, Secret, pause, probe, wait_until};

const PATIENCE: Duration = Duration::from_secs(120);

/// An agent whose secret and whose peers stand in files, and what it has said.
struct Member {
    agent: Agent,
    directory: tempfile::TempDir,
    said: Vec<String>,
}

impl Member {
    fn start(secrets: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        replace(&file("mesh-secret"), secrets);
        replace(&file("probe.toml"), "");
        let mut command = probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
        command.args(["--log-format", "json"]).env("PROBE_INTERVALS__PEER", "100ms");
        command.env("PROBE_MESH_SECRET_FILE", file("mesh-secret")).env("PROBE_CONFIG", file("probe.toml"));
        let agent = Agent::with(&mut command);
        Self { agent, directory, said: Vec::new() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until it has said a line with this in it that it had not said before.
    fn says(&mut self, part: &str) -> String {
        let patience = Stopwatch::start();
        loop {
            let new = self.agent.said();
            self.said.extend(new.iter().cloned());
            if let Some(line) = new.into_iter().find(|line| line.contains(part)) {
                return line;
            }
            assert!(patience.elapsed() < PATIENCE, "{part} was not said: {:#?}", self.said);
            pause();
        }
    }

    /// Measures these and nobody else.
    fn measure(&mut self, peers: &[String]) {
        replace(&self.file("probe.toml"), &format!("[targets]\npeer = {peers:?}\n"));
        self.agent.signal("HUP");
        let all: BTreeSet<_> = peers.iter().map(String::as_str).collect();
        wait_until(&self.agent, "it measures others", PATIENCE.as_secs(), |report| {
            let links = report["links"].as_array().unwrap();
            links.iter().map(|link| link["name"].as_str().unwrap()).collect::<BTreeSet<_>>() == all
        });
    }

    /// What the agents of these secrets find when they ask it.
    fn asked_with(&self, secrets: &str) -> Value {
        let secret = Secret::new();
        std::fs::write(&secret.path, secrets).unwrap();
        let peer = self.agent.reflector.to_string();
        crate::house::check_until_told(&secret, &["--peer", &peer, "--quick"]).target()
    }
}

/// At once, as a Secret of Kubernetes or an editor does it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn new_secret() -> String {
    MeshSecret::generate_hex().unwrap()
}

/// Lets all connect to all anew, and waits until every link has outcomes; none may be unreachable meanwhile.
fn dial_anew(members: &mut [Member], when: &str) {
    let addresses: Vec<String> = members.iter().map(|member| member.agent.reflector.to_string()).collect();
    members.iter_mut().for_each(|member| member.measure(&[]));
    for (place, member) in members.iter_mut().enumerate() {
        let mut others = addresses.clone();
        others.remove(place);
        member.measure(&others);
    }
    for member in members {
        wait_until(&member.agent, when, PATIENCE.as_secs(), |report| {
            let links = report["links"].as_array().unwrap();
            assert!(links.iter().all(|link| link["state"] != "unreachable"), "{when}: {report:#}");
            links.iter().all(|link| link["rtt_us"]["p50"].is_number() && link["samples"].as_u64() >= Some(5))
        });
    }
}

#[test]
fn a_mesh_changes_its_secret_agent_by_agent_and_no_link_is_unreachable_for_a_moment() {
    let (old, new) = (new_secret(), new_secret());
    let mut members = [&old; 3].map(|secret| Member::start(secret));
    dial_anew(&mut members, "before");
    let steps = [format!("{old}\n# the next one\n{new}\n"), format!("{new}\n{old}\n"), format!("{new}\n")];
    for (step, secrets) in steps.iter().enumerate() {
        for place in 0..members.len() {
            let member = &mut members[place];
            replace(&member.file("mesh-secret"), secrets);
            // One learns of it by itself.
            if place > 0 {
                member.agent.signal("HUP");
            }
            member.says("new connections use the first mesh secret");
            // The connections that stand would hide it if a new one failed.
            dial_anew(&mut members, &format!("step {step}, agent {place}"));
        }
    }
    for member in &mut members {
        let target = member.asked_with(&old);
        assert_eq!((&target["verdict"], &target["reason"]), (&"fail".into(), &"auth".into()), "{target:#}");
        assert_ne!(member.asked_with(&new)["verdict"], "fail");
        member.said.extend(member.agent.said());
        let lost: Vec<_> = member.said.iter().filter(|line| line.contains("unreachable")).collect();
        assert_eq!(lost, Vec::<&String>::new());
        let shown: Vec<_> =
            member.said.iter().filter(|line| line.contains(&old[..8]) || line.contains(&new[..8])).collect();
        assert_eq!(shown, Vec::<&String>::new());
    }
}

#[test]
fn a_broken_secret_file_changes_nothing_is_said_once_and_a_reload_that_it_hindered_follows() {
    let (old, new) = (new_secret(), new_secret());
    let mut member = Member::start(&old);
    replace(&member.file("mesh-secret"), &format!("{old}\n{new}\n{old}\n"));
    let line = member.says("not taken over");
    assert!(
        line.contains("--mesh-secret-file") && line.contains("line 3 has the same secret as line 1"),
        "{line}"
    );
    assert!(!line.contains(&old[..8]), "{line}");
    assert_eq!(gauge(&member.agent, "coder_probe_config_last_reload_successful"), 0.0);
    assert_ne!(member.asked_with(&old)["verdict"], "fail", "the old one is in force");
    assert_eq!(member.asked_with(&new)["reason"], "auth");

    replace(&member.file("probe.toml"), "[targets]\npeer = [\"127.0.0.1:1\"]\n");
    member.says("not taken over");
    assert_eq!(member.agent.report()["links"].as_array().unwrap().len(), 0);
    // It would be said again within this time if it were said at every look.
    let quiet = Stopwatch::start();
    while quiet.elapsed() < Duration::from_secs(12) {
        pause();
    }
    let again: Vec<_> = member.agent.said().into_iter().filter(|line| line.contains("not taken")).collect();
    assert_eq!(again, Vec::<String>::new());

    replace(&member.file("mesh-secret"), &format!("{new}\n{old}\n"));
    member.says("new connections use the first mesh secret of the file and believe 2");
    wait_until(&member.agent, "the peer is measured", PATIENCE.as_secs(), |report| {
        report["links"].as_array().unwrap().len() == 1
    });
    assert_ne!(member.asked_with(&new)["verdict"], "fail");
    assert_eq!(gauge(&member.agent, "coder_probe_config_last_reload_successful"), 1.0);
}

/// The only value of this metric, or of the one with these labels.
fn gauge(agent: &Agent, name: &str) -> f64 {
    let page = agent.get("/metrics");
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_renewed_certificate_is_used_by_new_connections_and_half_a_one_is_not() {
    let authority = Authority::new();
    let (cert, key) = authority.issue_files("agent");
    let ca = authority.path("ca.pem");
    let [cert_file, key_file, ca_file] = [&cert, &key, &ca].map(|path| path.to_str().unwrap());
    let identity = ["--tls-cert", cert_file, "--tls-key", key_file, "--tls-ca", ca_file];
    let mut command = probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
    let mut member = Member {
        agent: Agent::with(command.args(identity)),
        directory: tempfile::tempdir().unwrap(),
        said: Vec::new(),
    };
    let peer = member.agent.reflector.to_string();
    let asker = authority.issue_files("asker");
    let finds = |name: &str| {
        let mut command = probe(&["check", "-o", "json", "--peer", &peer, "--quick", "--tls-ca", ca_file]);
        command.arg("--tls-cert").arg(&asker.0).arg("--tls-key").arg(&asker.1);
        Run::of(command.args(["--tls-server-name", name])).target()
    };
    let expires = |agent: &Agent| {
        let page = agent.get("/metrics");
        let of_identity = |line: &&str| line.starts_with("coder_probe_tls") && line.contains("\"identity\"");
        let line = page.lines().find(of_identity).unwrap_or_else(|| panic!("{page}")).to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_ne!(finds("agent")["verdict"], "fail");
    let before = expires(&member.agent);

    let (renewed, its_key) = authority.issue_until("renewed", 2100);
    replace(&cert, &renewed.pem());
    let line = member.says("not taken over");
    assert!(line.contains("--tls-cert, --tls-key, --tls-ca"), "without its key: {line}");
    assert_ne!(finds("agent")["verdict"], "fail", "the old one is in force");
    assert!((expires(&member.agent) - before).abs() < 1.0);

    replace(&key, &its_key.serialize_pem());
    member.says("new connections use the certificates of the files");
    assert!((expires(&member.agent) - 4_102_444_800.0).abs() < 1.0, "2100-01-01, not {before}");
    assert_ne!(finds("renewed")["verdict"], "fail");
    assert_eq!(finds("agent")["reason"], "auth", "its name is another one");
}
