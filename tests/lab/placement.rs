//! Where things stand, by what they say and by what the wire says: two replicas, each with an agent, a true distance apart.

use std::time::Duration;

use probes::stopwatch::Stopwatch;
use serde_json::Value;

use crate::coder::{Coder, Generation};
use crate::distance::{ms, pause, postgres_at, turn};
use crate::house::{Agent, Secret, probe};
use crate::wire::{End, Wire};

/// Two agents that are given nothing but the secret, Coder's connection string and their own regions.
fn agents(wire: &Wire, secret: &Secret, url: &str, regions: [&str; 2]) -> [Agent; 2] {
    let agent = |end: &End, name: &str, region: &str| {
        let listen = format!("{}:0", end.address);
        let mut command = probe(&["agent", "--name", name, "--listen", &listen, "--region", region]);
        command
            .args(["--web", "127.0.0.1:0", "--log-format", "json"])
            .env("PROBE_MESH_SECRET_FILE", &secret.path)
            .env("CODER_PG_CONNECTION_URL", url)
            .env("PROBE_INTERVALS__PEER", "500ms")
            .env("PROBE_GRACES__START", "1s");
        Agent::with(&mut end.command(&command))
    };
    [agent(&wire.near, "agent-near", regions[0]), agent(&wire.far, "agent-far", regions[1])]
}

/// The line of this finding, which one of the agents has to say in time.
fn finding(agent: &Agent, code: &str) -> Value {
    let watch = Stopwatch::start();
    let mut all = Vec::new();
    loop {
        for line in agent.said() {
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "finding" && line["code"] == code {
                return line;
            }
            all.push(line);
        }
        assert!(watch.elapsed() < Duration::from_secs(60), "no {code}: {all:#?}");
        pause(ms(50));
    }
}

fn placed(round_trip: u64, regions: [&str; 2], code: &str) -> (Value, Vec<String>) {
    let _turn = turn();
    let wire = Wire::new(ms(round_trip));
    let (cluster, url) = postgres_at(&wire.near);
    let (near, far) = (wire.near.address.clone(), wire.far.address.clone());
    let coder = wire.near.visit(|| {
        let mut coder = Coder::with(Generation::WithNats, cluster);
        coder.add_replica("coder-near", &format!("http://{near}:8080"));
        coder.add_replica("coder-far", &format!("http://{far}:8080"));
        coder.keep_alive();
        coder
    });
    let secret = Secret::new();
    let [near, _far] = agents(&wire, &secret, &url, regions);
    let finding = finding(&near, code);
    let said = near.said();
    wire.near.visit(|| drop(coder));
    (finding, said)
}

#[test]
fn a_replica_of_our_region_that_is_38_ms_away_contradicts_its_label() {
    let (finding, _) = placed(38, ["aws/eu-west-2", "aws/eu-west-2"], "label_contradicts_measurement");
    let evidence = finding["evidence"].as_str().unwrap();
    assert!(evidence.contains("eu-west-2") && evidence.contains("38"), "{finding:#}");
    assert!(finding["subjects"].as_str().unwrap().contains("coder-far"), "{finding:#}");
}

#[test]
fn a_replica_of_another_region_is_flagged_although_it_is_within_the_budget() {
    let (finding, said) = placed(4, ["aws/eu-west-2", "aws/eu-west-3"], "coderd_cross_region");
    assert_eq!(finding["severity"], "fail", "{finding:#}");
    let evidence = finding["evidence"].as_str().unwrap();
    assert!(evidence.contains("eu-west-2") && evidence.contains("eu-west-3"), "{finding:#}");
    assert!(said.iter().all(|line| !line.contains("\"to\":\"breach\"")), "{said:#?}");
}
