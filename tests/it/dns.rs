//! Names in DNS as a source of the roster: what is believed of a name server, and what is not.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use probe::discovery::News;
use probe::discovery::dns::{Name, Servers, Settings, aliases, watch};
use probe::mesh::peer::Role;
use probe::mesh::roster::{Sighting, Source};
use tokio::sync::mpsc;

use crate::name_server::{NameServer, Reply, address, alias, full};

const NAME: &str = "agents.test";

fn settings(server: &NameServer, names: &[&str]) -> Settings {
    let names = names.iter().map(|name| name.parse::<Name>().unwrap()).collect();
    Settings {
        shortest: Duration::from_millis(10),
        longest: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
        servers: Some(Servers { addresses: vec![server.address], search: Vec::new(), ndots: 1 }),
        ..Settings::new(names, 9862)
    }
}

/// The watch, and what it told.
struct Watch {
    news: mpsc::Receiver<News>,
    heard: usize,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn start(settings: Settings) -> Self {
        let (tell, news) = mpsc::channel(16);
        Self { news, heard: 0, task: tokio::spawn(watch(settings, tell)) }
    }

    async fn next(&mut self) -> News {
        self.heard += 1;
        assert!(self.heard < 1000, "what is waited for does not come");
        tokio::time::timeout(Duration::from_secs(20), self.news.recv()).await.expect("no news").unwrap()
    }

    /// The next sightings, which are not followed by a failure.
    async fn seen(&mut self) -> Vec<Sighting> {
        match self.next().await {
            News::Seen(Source::Dns, sightings) => sightings,
            other => panic!("{other:?}"),
        }
    }

    /// The first sightings with these keys; until then there may be others, but no failure.
    async fn see(&mut self, keys: &[&str]) -> Vec<Sighting> {
        loop {
            let sightings = self.seen().await;
            if sightings.iter().map(|s| s.key.as_str()).eq(keys.iter().copied()) {
                return sightings;
            }
        }
    }

    /// The text of the next failure; until then all is seen as before.
    async fn failure(&mut self, keys: &[&str]) -> String {
        loop {
            match self.next().await {
                News::Failed(Source::Dns, text) => return text,
                News::Seen(_, sightings) => {
                    assert!(
                        sightings.iter().map(|s| s.key.as_str()).eq(keys.iter().copied()),
                        "{sightings:?}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn keys(sightings: &[Sighting]) -> Vec<&str> {
    sightings.iter().map(|sighting| sighting.key.as_str()).collect()
}

#[tokio::test]
async fn a_headless_name_of_both_families_tells_the_agents_and_leaves_ourselves_out() {
    let server = NameServer::start();
    server.addresses(NAME, 0, &["10.0.0.2", "10.0.0.1", "fd00::1", "127.0.0.1", "::1", "10.0.0.9"]);
    let mut settings = settings(&server, &["agents.test:7=coderd"]);
    settings.own = BTreeSet::from([IpAddr::from([10, 0, 0, 9])]);
    let seen = Watch::start(settings).seen().await;
    assert_eq!(keys(&seen), ["10.0.0.1:7", "10.0.0.2:7", "[fd00::1]:7"]);
    assert_eq!(seen[2].role, Some(Role::Coderd));
    assert_eq!(seen[2].reflectors[0].to_string(), "[fd00::1]:7");
    assert_eq!(seen[2].addresses, BTreeSet::from(["fd00::1".parse().unwrap()]));
    assert_eq!(seen[2].agent, None, "a name is no proof of who answers there");
}

#[tokio::test]
async fn another_port_of_our_own_address_is_another_agent() {
    let server = NameServer::start();
    server.addresses(NAME, 0, &["127.0.0.1", "10.0.0.1"]);
    let mut settings = settings(&server, &["agents.test:7", "agents.test:8=postgres"]);
    settings.own_port = Some(7);
    let seen = Watch::start(settings).seen().await;
    assert_eq!(keys(&seen), ["10.0.0.1:7", "10.0.0.1:8", "127.0.0.1:8"]);
}

#[tokio::test]
async fn what_changes_is_heard_whatever_its_time_to_live_and_nothing_is_a_good_answer() {
    let server = NameServer::start();
    // The system would believe this for an hour; we ask again after `longest`.
    server.addresses(NAME, 3600, &["10.0.0.1", "fd00::1"]);
    let mut watch = Watch::start(settings(&server, &[NAME]));
    watch.see(&["10.0.0.1:9862", "[fd00::1]:9862"]).await;
    server.addresses(NAME, 3600, &["10.0.0.2", "fd00::1"]);
    watch.see(&["10.0.0.2:9862", "[fd00::1]:9862"]).await;
    server.tell_both(NAME, &Reply::Nothing);
    watch.see(&[]).await;
    server.addresses(NAME, 0, &["10.0.0.3"]);
    watch.see(&["10.0.0.3:9862"]).await;
    server.tell_both(NAME, &Reply::Code(ResponseCode::NXDomain));
    watch.see(&[]).await;
}

#[tokio::test]
async fn a_name_is_asked_again_when_its_time_to_live_is_over_and_not_before() {
    let server = NameServer::start();
    server.addresses("long.test", 3600, &["10.0.0.1"]);
    server.addresses("short.test", 0, &["10.0.0.2"]);
    let mut settings = settings(&server, &["long.test", "short.test"]);
    settings.longest = Duration::from_secs(3600);
    // Without a time to live for the family that has nothing, that of the other counts.
    for name in ["long.test", "short.test"] {
        server.tell(name, RecordType::AAAA, Reply::Raw(Vec::new()));
    }
    let mut watch = Watch::start(settings);
    while server.asked("short.test", RecordType::A) < 5 {
        watch.seen().await;
    }
    assert_eq!(server.asked("long.test", RecordType::A), 1);
}

#[tokio::test]
async fn a_name_server_that_cannot_tell_takes_nobody_away_and_is_complained_of_once_a_reason() {
    let all = ["10.0.0.1:9862", "[fd00::1]:9862"];
    for (reply, part, timeout) in [
        (Reply::Code(ResponseCode::ServFail), "SERVFAIL", 10_000),
        (Reply::Code(ResponseCode::Refused), "REFUSED", 10_000),
        (Reply::Referral, "refers to others", 10_000),
        (Reply::CutShort, "cut short", 10_000),
        (Reply::Silence, "no name server answers", 300),
    ] {
        let server = NameServer::start();
        server.addresses(NAME, 0, &["10.0.0.1", "fd00::1"]);
        let mut settings = settings(&server, &[NAME]);
        settings.timeout = Duration::from_millis(timeout);
        let mut watch = Watch::start(settings);
        watch.see(&all).await;
        server.tell_both(NAME, &reply);
        let mut text = watch.failure(&all).await;
        // The families may change one after the other.
        if text.matches(part).count() < 2 {
            text = watch.failure(&all).await;
        }
        assert!(text.contains(part) && text.contains("agents.test (A)"), "{text}");
        let asked = server.asked(NAME, RecordType::A);
        while server.asked(NAME, RecordType::A) < asked + 3 {
            tokio::task::yield_now().await;
        }
        assert!(watch.news.try_recv().is_err(), "said twice: {part}");
        server.addresses(NAME, 0, &["10.0.0.1", "fd00::1"]);
        // That all is well again is told, by seeing them.
        while watch.next().await != News::Seen(Source::Dns, sightings(&all)) {}
    }
}

fn sightings(keys: &[&str]) -> Vec<Sighting> {
    let one = |key: &&str| {
        let address: std::net::SocketAddr = key.parse().unwrap();
        Sighting {
            key: (*key).to_owned(),
            reflectors: vec![probes::target::HostPort { host: address.ip().to_string(), port: 9862 }],
            addresses: BTreeSet::from([address.ip()]),
            ..Sighting::default()
        }
    };
    keys.iter().map(one).collect()
}

#[tokio::test]
async fn of_two_families_one_that_fails_keeps_its_members_while_the_other_goes_on() {
    let server = NameServer::start();
    server.addresses(NAME, 0, &["10.0.0.1", "fd00::1"]);
    let mut watch = Watch::start(settings(&server, &[NAME]));
    watch.see(&["10.0.0.1:9862", "[fd00::1]:9862"]).await;
    server.tell(NAME, RecordType::AAAA, Reply::Code(ResponseCode::ServFail));
    let text = watch.failure(&["10.0.0.1:9862", "[fd00::1]:9862"]).await;
    assert_eq!(text, "agents.test (AAAA): the name server answers SERVFAIL");
    server.tell(
        NAME,
        RecordType::A,
        Reply::Records(0, vec![address([10, 0, 0, 2].into()), address([10, 0, 0, 3].into())]),
    );
    assert_eq!(keys(&watch.seen().await), ["10.0.0.2:9862", "10.0.0.3:9862", "[fd00::1]:9862"]);
    // Seeing them does not mean that all is well.
    assert_eq!(watch.next().await, News::Failed(Source::Dns, text));
}

#[tokio::test]
async fn a_name_that_fails_from_the_start_hides_no_other_and_empties_nothing() {
    let server = NameServer::start();
    server.addresses(NAME, 0, &["10.0.0.1"]);
    server.tell_both("broken.test", &Reply::Code(ResponseCode::ServFail));
    let mut watch = Watch::start(settings(&server, &["broken.test", NAME]));
    assert_eq!(keys(&watch.seen().await), ["10.0.0.1:9862"]);
    let text = watch.failure(&["10.0.0.1:9862"]).await;
    assert_eq!(
        text,
        "broken.test (A): the name server answers SERVFAIL; broken.test (AAAA): the name server answers SERVFAIL"
    );

    let mut alone = Watch::start(settings(&server, &["broken.test"]));
    assert!(matches!(alone.next().await, News::Failed(..)), "nobody is not what a failure tells");
}

#[tokio::test]
async fn a_service_tells_ports_and_targets_and_a_target_of_ours_is_left_out_whole() {
    let server = NameServer::start();
    server.services(
        "_probe._udp.test",
        &[("b.test", 8), ("a.test", 7), ("us.test", 7), ("gone.test", 7), ("nothing.test", 0), (".", 7)],
    );
    server.addresses("a.test", 0, &["10.0.0.1", "fd00::1"]);
    server.addresses("b.test", 0, &["10.0.0.2"]);
    server.addresses("us.test", 0, &["127.0.0.1", "10.0.0.3"]);
    let mut watch = Watch::start(settings(&server, &["_probe._udp.test=coderd"]));
    let seen = watch.see(&["a.test:7", "b.test:8"]).await;
    let reflectors: Vec<_> = seen[0].reflectors.iter().map(ToString::to_string).collect();
    assert_eq!(reflectors, ["10.0.0.1:7", "[fd00::1]:7"]);
    assert_eq!((seen[0].host_name.as_deref(), seen[0].role), (Some("a.test"), Some(Role::Coderd)));

    // A target that cannot be resolved stays, one that is gone goes.
    server.tell_both("a.test", &Reply::Code(ResponseCode::ServFail));
    let mut text = watch.failure(&["a.test:7", "b.test:8"]).await;
    if !text.contains("(AAAA)") || !text.contains("(A)") {
        text = watch.failure(&["a.test:7", "b.test:8"]).await;
    }
    assert!(text.starts_with("a.test (A): the name server answers SERVFAIL"), "{text}");
    server.tell_both("b.test", &Reply::Code(ResponseCode::NXDomain));
    while keys(&watch.seen_or_failed().await.unwrap_or_default()) != ["a.test:7"] {}
    server.services("_probe._udp.test", &[]);
    server.tell("_probe._udp.test", RecordType::SRV, Reply::Nothing);
    while watch.seen_or_failed().await.is_none_or(|seen| !seen.is_empty()) {}
}

impl Watch {
    async fn seen_or_failed(&mut self) -> Option<Vec<Sighting>> {
        match self.next().await {
            News::Seen(_, sightings) => Some(sightings),
            _ => None,
        }
    }
}

#[tokio::test]
async fn thousands_of_records_come_over_tcp_and_the_first_of_them_are_taken_which_is_said_once() {
    let server = NameServer::start();
    let many: Vec<_> = (0..2000_u32).map(|i| address(Ipv4Addr::from(0x0a00_0000 + i).into())).collect();
    let reversed = many.iter().rev().cloned().collect();
    server.tell(NAME, RecordType::A, Reply::OverTcp(Box::new(Reply::Records(0, many))));
    let mut settings = settings(&server, &[NAME]);
    settings.most = 100;
    settings.timeout = Duration::from_secs(10);
    let mut watch = Watch::start(settings);
    match watch.next().await {
        News::Blind(Source::Dns, text) => {
            assert_eq!(text, "agents.test has more than 100 members: the first 100 in their order are taken");
        }
        other => panic!("{other:?}"),
    }
    let seen = watch.seen().await;
    assert_eq!((seen.len(), seen[0].key.as_str()), (100, "10.0.0.0:9862"));
    server.tell(NAME, RecordType::A, Reply::OverTcp(Box::new(Reply::Records(0, reversed))));
    let asked = server.asked(NAME, RecordType::A);
    while server.asked(NAME, RecordType::A) < asked + 4 {
        assert_eq!(watch.seen().await, seen, "another order is no news");
    }
}

#[tokio::test]
async fn records_that_were_not_asked_for_and_addresses_of_nobody_are_not_taken() {
    let server = NameServer::start();
    let record = |name: &str, data: RData| Record::from_rdata(full(name), 0, data);
    let ip = |text: &str| address(text.parse::<IpAddr>().unwrap());
    server.tell(
        NAME,
        RecordType::A,
        Reply::Raw(vec![
            record("other.test", ip("10.0.0.66")),
            record("real.test", ip("10.0.0.2")),
            record(NAME, alias("real.test")),
            record("real.test", ip("0.0.0.0")),
            record("real.test", ip("255.255.255.255")),
            record("real.test", ip("224.0.0.1")),
            record("real.test", ip("10.0.0.2")),
        ]),
    );
    server.tell(NAME, RecordType::AAAA, Reply::Raw(vec![record(NAME, ip("::ffff:10.0.0.2"))]));
    let mut watch = Watch::start(settings(&server, &[NAME]));
    watch.see(&["10.0.0.2:9862"]).await;
}

#[tokio::test]
async fn an_alias_is_followed_to_its_addresses() {
    let server = NameServer::start();
    server.tell_both(NAME, &Reply::Records(0, vec![alias("b.test")]));
    server.tell_both("b.test", &Reply::Records(0, vec![alias("c.test")]));
    server.addresses("c.test", 0, &["10.0.0.1"]);
    Watch::start(settings(&server, &[NAME])).see(&["10.0.0.1:9862"]).await;

    server.tell(NAME, RecordType::CNAME, Reply::Records(0, vec![alias("b.test")]));
    server.tell("b.test", RecordType::CNAME, Reply::Records(0, vec![alias("c.test")]));
    let settings = settings(&server, &[]);
    assert_eq!(aliases(&settings, NAME).await.unwrap(), ["b.test", "c.test"]);
    assert_eq!(aliases(&settings, "c.test").await.unwrap(), Vec::<String>::new());
    server.tell("c.test", RecordType::CNAME, Reply::Records(0, vec![alias("b.test")]));
    assert_eq!(aliases(&settings, NAME).await.unwrap(), ["b.test", "c.test"], "a loop ends");
    server.tell("b.test", RecordType::CNAME, Reply::Code(ResponseCode::ServFail));
    assert!(aliases(&settings, NAME).await.unwrap_err().to_string().contains("SERVFAIL"));
}

/// As in a pod: the name is looked for in three domains before it is taken as it stands.
fn in_a_pod(server: &NameServer) -> Settings {
    let mut settings = settings(server, &["agents.coder.svc"]);
    settings.servers = Some(Servers {
        addresses: vec![server.address],
        search: ["coder.svc.cluster.test", "svc.cluster.test", "cluster.test"].map(str::to_owned).to_vec(),
        ndots: 5,
    });
    settings
}

const IN_THE_CLUSTER: &str = "agents.coder.svc.cluster.test";

#[tokio::test]
async fn a_failure_for_the_right_name_is_not_hidden_by_nxdomain_for_the_others() {
    let server = NameServer::start();
    server.tell_both(IN_THE_CLUSTER, &Reply::Code(ResponseCode::ServFail));
    let mut watch = Watch::start(in_a_pod(&server));
    assert!(matches!(watch.next().await, News::Failed(..)));
    server.addresses(IN_THE_CLUSTER, 0, &["10.0.0.1"]);
    watch.see(&["10.0.0.1:9862"]).await;
    server.tell_both(IN_THE_CLUSTER, &Reply::Code(ResponseCode::ServFail));
    let asked = server.asked(IN_THE_CLUSTER, RecordType::A);
    while server.asked(IN_THE_CLUSTER, RecordType::A) < asked + 3 {
        if let Some(seen) = watch.seen_or_failed().await {
            assert_eq!(keys(&seen), ["10.0.0.1:9862"]);
        } else {
            break;
        }
    }
    // Once known, the right name is asked alone.
    let asked = server.asked("agents.coder.svc", RecordType::A);
    server.addresses(IN_THE_CLUSTER, 0, &["10.0.0.2"]);
    watch.see(&["10.0.0.2:9862"]).await;
    assert_eq!(server.asked("agents.coder.svc", RecordType::A), asked);
}

#[tokio::test]
async fn while_the_right_name_fails_whoever_answers_for_any_name_is_not_asked() {
    let server = NameServer::start();
    server.addresses(IN_THE_CLUSTER, 0, &["10.0.0.1"]);
    server.addresses("agents.coder.svc", 0, &["10.6.6.6"]);
    let mut watch = Watch::start(in_a_pod(&server));
    watch.see(&["10.0.0.1:9862"]).await;
    server.tell_both(IN_THE_CLUSTER, &Reply::Code(ResponseCode::ServFail));
    watch.failure(&["10.0.0.1:9862"]).await;
    server.addresses(IN_THE_CLUSTER, 0, &["10.0.0.1", "10.0.0.2"]);
    while watch.seen_or_failed().await.is_none_or(|seen| seen.len() < 2) {}
    assert_eq!(server.asked("agents.coder.svc", RecordType::A), 0);
}

#[tokio::test]
async fn in_a_cluster_without_internet_a_service_without_pods_is_empty_although_the_last_name_fails() {
    let server = NameServer::start();
    server.tell_both("agents.coder.svc", &Reply::Code(ResponseCode::ServFail));
    server.addresses(IN_THE_CLUSTER, 0, &["10.0.0.1"]);
    let mut watch = Watch::start(in_a_pod(&server));
    watch.see(&["10.0.0.1:9862"]).await;
    server.tell_both(IN_THE_CLUSTER, &Reply::Nothing);
    watch.see(&[]).await;
}

#[tokio::test]
async fn it_ends_when_nobody_listens_even_without_a_name_or_an_answer() {
    let server = NameServer::start();
    server.tell_both("silent.test", &Reply::Silence);
    server.addresses(NAME, 0, &["10.0.0.1"]);
    for names in [&[][..], &["silent.test"], &[NAME]] {
        let Watch { news, task, .. } = Watch::start(settings(&server, names));
        drop(news);
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("it goes on").unwrap();
    }
}

#[tokio::test]
async fn a_name_server_that_is_not_there_is_a_failure() {
    let address = NameServer::start().address;
    let server = NameServer::start();
    let mut settings = settings(&server, &[NAME]);
    settings.timeout = Duration::from_millis(300);
    settings.servers = Some(Servers { addresses: vec![address], search: Vec::new(), ndots: 1 });
    assert!(matches!(Watch::start(settings).next().await, News::Failed(..)));
}
