//! `probe agent`: it says where it is, answers health, drops garbage, gives nothing to strangers, and leaves in order.

use std::net::UdpSocket;
use std::time::Duration;

use crate::house::{Agent, Run, Secret, check, check_until_told, probe};
use crate::relay::Relay;

#[test]
fn it_answers_health_and_readiness_and_exits_0_on_sigterm() {
    let agent = Agent::start(&Secret::new());
    assert!(agent.get("/healthz").starts_with("HTTP/1.1 200 "));
    assert!(agent.get("/readyz").starts_with("HTTP/1.1 200 "));
    assert!(agent.get("/probe?target=db:5432").starts_with("HTTP/1.1 404 "));
    agent.signal("TERM");
    let (code, said) = agent.wait();
    assert_eq!(code, Some(0));
    assert!(said.iter().any(|line| line.contains("probe agent has stopped")), "{said:#?}");
}

#[test]
fn a_peer_of_a_stopping_agent_hears_a_goodbye() {
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    let relay = Relay::udp(agent.reflector, Duration::from_millis(1), 0);
    let address = relay.address.to_string();
    let asked = std::thread::spawn(move || check(&secret, &["--peer", &address, "--time-limit", "4s"]));
    relay.wait_for(40);
    agent.signal("TERM");
    let (code, said) = agent.wait();
    assert_eq!(code, Some(0), "{said:#?}");
    let target = asked.join().unwrap().target();
    assert!(target["outcomes"]["ok"].as_u64().unwrap() > 0, "{target:#}");
    assert_eq!(target["reason"], "left", "{target:#}");
    assert!(target["detail"].as_str().unwrap().contains("goodbye"), "{target:#}");
}

#[test]
fn without_an_identity_it_does_not_start_and_says_how_to_get_one() {
    let run = Run::of(&mut probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]));
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("probe secret new"), "{}", run.stderr);
}

#[test]
fn without_authentication_it_warns_on_every_start() {
    let start = || {
        let agent = Agent::with(&mut probe(&[
            "agent",
            "--insecure-no-auth",
            "--listen",
            "127.0.0.1:0",
            "--web",
            "127.0.0.1:0",
        ]));
        assert!(agent.said_first.iter().any(|line| line.contains("anybody")), "{:#?}", agent.said_first);
        agent.signal("TERM");
        agent.wait()
    };
    let mut command = probe(&["check", "--insecure-no-auth", "--peer", "127.0.0.1:1", "--time-limit", "1s"]);
    let run = Run::of(&mut command);
    assert!(run.stderr.contains("anybody"), "{}", run.stderr);
    assert_eq!(start().0, Some(0));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let secret = Secret::new();
    let run = Run::of(
        probe(&["agent", "--listen", &address, "--web", "127.0.0.1:0"])
            .env("PROBE_MESH_SECRET_FILE", &secret.path),
    );
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(&address), "{}", run.stderr);
}

#[test]
fn garbage_and_truncated_datagrams_are_dropped_counted_and_do_no_harm() {
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.connect(agent.reflector).unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut truncated = [0_u8; 600];
    truncated[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
    let garbage: [&[u8]; 5] = [b"x", b"GET / HTTP/1.1\r\n\r\n", &[0; 64], &[0xff; 1400][..5], &truncated];
    for datagram in garbage {
        stranger.send(datagram).unwrap();
    }
    assert!(stranger.recv(&mut [0; 2048]).is_err(), "nothing is answered to garbage");
    let run = check_until_told(&secret, &["--peer", &agent.reflector.to_string(), "--quick"]);
    assert_eq!(run.code, Some(0), "and a real peer is answered as before: {}", run.stdout);
    agent.signal("TERM");
    let (_, said) = agent.wait();
    let last = said.iter().find(|line| line.contains("has stopped")).unwrap();
    assert!(last.contains("malformed=5"), "{last}");
}

#[test]
fn an_address_that_has_not_proved_itself_gets_one_small_retry_and_nothing_more() {
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    // We stand between a real sender and the reflector, and hand on its first datagram only.
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").unwrap();
    back.connect(agent.reflector).unwrap();
    back.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let address = front.local_addr().unwrap().to_string();
    let path = secret.path.clone();
    let sender = std::thread::spawn(move || {
        Run::of(
            probe(&["check", "--peer", &address, "--time-limit", "1s"]).env("PROBE_MESH_SECRET_FILE", &path),
        )
    });
    let mut bytes = [0; 2048];
    let request = front.recv(&mut bytes).unwrap();
    assert!(request >= 1200, "a first datagram of {request} bytes");
    back.send(&bytes[..request]).unwrap();
    let answer = back.recv(&mut bytes).unwrap();
    assert_eq!(bytes[0] & 0xf0, 0xf0, "a Retry, RFC 9000 §17.2.5");
    assert!(answer < request / 5, "{answer} bytes for {request}");
    assert!(back.recv(&mut bytes).is_err(), "and nothing more");
    assert_eq!(sender.join().unwrap().code, Some(1));
}

#[test]
fn an_agent_of_another_secret_is_refused_and_told_so() {
    let agent = Agent::start(&Secret::new());
    let run = check(&Secret::new(), &["--peer", &agent.reflector.to_string(), "--time-limit", "1s"]);
    let target = run.target();
    assert_eq!(
        (run.code, target["verdict"].as_str(), target["reason"].as_str()),
        (Some(1), Some("fail"), Some("auth"))
    );
    assert!(target["detail"].as_str().unwrap().contains("another mesh secret"), "{target:#}");
    assert!(target["hint"].as_str().unwrap().contains("PROBE_MESH_SECRET_FILE"), "{target:#}");
}

#[test]
fn one_who_shows_no_certificate_is_refused_although_the_handshake_looked_fine_to_it() {
    let agent = Agent::start(&Secret::new());
    let run = Run::of(&mut probe(&[
        "check",
        "-o",
        "json",
        "--insecure-no-auth",
        "--peer",
        &agent.reflector.to_string(),
        "--time-limit",
        "1s",
    ]));
    let target = run.target();
    assert_eq!((run.code, target["reason"].as_str()), (Some(1), Some("auth")), "{target:#}");
    assert!(target["detail"].as_str().unwrap().contains("does not accept us"), "{target:#}");
}

#[test]
fn both_families_are_served_on_the_unspecified_address() {
    let secret = Secret::new();
    let agent = Agent::with(
        probe(&["agent", "--listen", "[::]:0", "--web", "127.0.0.1:0"])
            .env("PROBE_MESH_SECRET_FILE", &secret.path),
    );
    let port = agent.reflector.port();
    let (v4, v6) = (format!("127.0.0.1:{port}"), format!("[::1]:{port}"));
    let mut arguments = vec!["--peer", v4.as_str(), "--quick"];
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        arguments.extend(["--peer", v6.as_str()]);
    }
    let run = check(&secret, &arguments);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}
