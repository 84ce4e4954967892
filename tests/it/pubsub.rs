//! LISTEN and NOTIFY with real components: PostgreSQL, a standby, pgbouncer in both modes, agents.

use std::collections::BTreeMap;
use std::time::Duration;

use probe::demo::cluster::Cluster;
use probes::postgres::conninfo::Conninfo;
use probes::postgres::notify::Notifier;
use probes::postgres::reader::Reader;
use probes::sample::{Outcome, Reason, Sample};
use probes::stopwatch::Stopwatch;
use serde_json::Value;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use crate::coder::{Coder, Generation};
use crate::discovery::{agent, state};
use crate::house::{
    Agent, Run, Secret, check_until_told, own_postgres, pause, postgres, probe, quiet, sql, wait_until,
};
use crate::pooler::{Mode, Pooler};

const PATIENCE: Duration = Duration::from_secs(10);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn conninfo(url: &str) -> Conninfo {
    Conninfo::parse(url, &|_| None).unwrap()
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The columns of the only row, as text.
async fn row(client: &Client, sql: &str) -> Vec<String> {
    let answers = client.simple_query(sql).await.unwrap();
    let row = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.unwrap();
    (0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect()
}

/// What is left behind on the server connections that other clients of this pooler get: process, channels that it
/// listens to, prepared statements.
fn left_behind(pooler: &Pooler, servers: usize) -> Vec<(String, String, String)> {
    runtime().block_on(async {
        let mut clients = Vec::new();
        let mut found = Vec::new();
        for _ in 0..servers {
            let client = client(&pooler.url()).await;
            // In a transaction it keeps what it got, so the next one gets another.
            client.batch_execute("BEGIN").await.unwrap();
            let sql = "SELECT pg_backend_pid(), (SELECT string_agg(c, ',') FROM pg_listening_channels() c), \
                       (SELECT string_agg(name, ',') FROM pg_prepared_statements)";
            let [process, channels, statements] = row(&client, sql).await.try_into().unwrap();
            found.push((process, channels, statements));
            clients.push(client);
        }
        // A quiet pool lends what was given back last, again and again. So that one with channels of ours is not out of
        // reach for good, as in a busy pool it would not be, it is given back last.
        let mut order: Vec<_> =
            found.iter().map(|(_, channels, _)| !channels.is_empty()).zip(clients).collect();
        order.sort_by_key(|(is_last, _)| *is_last);
        for (_, client) in order {
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        found
    })
}

fn is_clean(left: &[(String, String, String)]) -> bool {
    left.iter().all(|(_, channels, statements)| channels.is_empty() && statements.is_empty())
}

#[test]
fn who_keeps_a_session_is_found_out_without_touching_it() {
    let cluster = own_postgres(&[]);
    let keeps = |url: &str| {
        runtime().block_on(async {
            let reader = Reader::open(&conninfo(url), PATIENCE).await.unwrap();
            reader.keeps_session(PATIENCE).await.unwrap()
        })
    };
    assert_eq!(keeps(&cluster.url()), Some(true), "directly");
    for (mode, pool_size, more, expected) in [
        (Mode::Transaction, 1, "", Some(false)),
        (Mode::Transaction, 5, "", Some(false)),
        (Mode::Transaction, 5, "server_round_robin = 1\nmin_pool_size = 2", Some(false)),
        (Mode::Transaction, 5, "ignore_startup_parameters = options", Some(false)),
        (Mode::Session, 5, "", Some(true)),
        (Mode::Session, 5, "ignore_startup_parameters = options\nserver_round_robin = 1", Some(true)),
    ] {
        let pooler = Pooler::start(&cluster, mode, pool_size, more);
        assert_eq!(keeps(&pooler.url()), expected, "{mode:?} {pool_size} {more}: {}", pooler.log());
        if mode == Mode::Transaction {
            let left = left_behind(&pooler, pool_size);
            assert!(is_clean(&left), "{more}: {left:?}");
        }
    }
}

#[test]
fn a_session_pooler_without_a_second_connection_is_not_known_to_keep_sessions() {
    let cluster = own_postgres(&[]);
    let pooler = Pooler::start(&cluster, Mode::Session, 1, "");
    let keeps = runtime().block_on(async {
        let reader = Reader::open(&conninfo(&pooler.url()), PATIENCE).await.unwrap();
        reader.keeps_session(Duration::from_secs(1)).await.unwrap()
    });
    assert_eq!(keeps, None);
}

/// What the house is protected from: a LISTEN by way of a pooler in transaction mode is somebody else's afterwards, and
/// comes back to whoever sent it as if all were well.
#[test]
fn a_listen_through_a_transaction_pooler_stays_on_a_connection_that_others_get() {
    let cluster = own_postgres(&[]);
    let pooler = Pooler::start(&cluster, Mode::Transaction, 1, "");
    runtime().block_on(async {
        let reader = Reader::open(&conninfo(&pooler.url()), PATIENCE).await.unwrap();
        let mut notes = reader.notes().unwrap();
        reader.run("LISTEN somewhere").await.unwrap();
        reader.run("NOTIFY somewhere, 'mine'").await.unwrap();
        let note = tokio::time::timeout(PATIENCE, notes.next()).await.unwrap().unwrap();
        assert_eq!(note.payload, "mine", "an echo, although no session is kept");
    });
    assert_eq!(left_behind(&pooler, 1)[0].1, "somewhere");
}

fn round_trip(url: &str, listens: bool) -> Sample {
    runtime().block_on(async {
        let reader = Reader::open(&conninfo(url), PATIENCE).await.unwrap();
        let mut notes = reader.notes().unwrap();
        if listens {
            reader.run("LISTEN probe_test").await.unwrap();
        }
        let notifier = Notifier::new(conninfo(url)).unwrap();
        notifier.stand(PATIENCE).await.unwrap();
        let arrival = async {
            loop {
                let note = notes.next().await.ok()?;
                if note.payload == "17" {
                    return Some(note.since);
                }
            }
        };
        notifier.round_trip("probe_test", "17", arrival, Duration::from_secs(1)).await.sample
    })
}

#[test]
fn a_notification_is_timed_from_one_connection_to_another_and_so_is_its_commit() {
    let sample = round_trip(&postgres().url(), true);
    let Outcome::Ok(timing) = &sample.outcome else { panic!("{sample:?}") };
    let acknowledged = timing.acknowledged.unwrap();
    assert!(!timing.rtt.is_zero() && !acknowledged.is_zero(), "{timing:?}");
    assert!(timing.rtt < Duration::from_secs(1) && acknowledged < Duration::from_secs(1), "{timing:?}");
}

#[test]
fn a_standby_a_pooler_and_silence_are_told_apart() {
    let cluster = own_postgres(&[]);
    let silence = round_trip(&cluster.url(), false);
    let failure = silence.outcome.failure().unwrap();
    assert_eq!(failure.reason, Reason::Timeout);
    assert_eq!(failure.detail, "the notification did not arrive within 1 s");

    let standby = cluster.follower().unwrap();
    let sample = round_trip(&standby.url(), false);
    let failure = sample.outcome.failure().unwrap();
    assert_eq!(failure.reason, Reason::Standby, "{failure}");
    assert!(failure.detail.contains("during recovery"), "{failure}");
    let refused = runtime().block_on(async {
        let reader = Reader::open(&conninfo(&standby.url()), PATIENCE).await.unwrap();
        reader.run("LISTEN probe_test").await.unwrap_err()
    });
    assert_eq!(refused.reason, Reason::Standby, "{refused}");
    // The pooler's own word is in `an_agent_notices_when_its_pooler_is_switched`.
}

#[test]
fn a_check_measures_through_a_transaction_pooler_and_leaves_nothing_behind() {
    let _quiet = quiet();
    let cluster = own_postgres(&[]);
    for more in ["", "ignore_startup_parameters = options"] {
        let pooler = Pooler::start(&cluster, Mode::Transaction, 3, more);
        let secret = Secret::new();
        let run = check_until_told(&secret, &["--quick", "--postgres", &pooler.url()]);
        let target = run.target();
        assert_eq!(target["verdict"], "pass", "{target:#}\n{}", pooler.log());
        assert!(target["execution_us"]["p50"].is_number(), "{target:#}");
        assert!(target["network_us"]["p50"].is_number(), "{target:#}");
        let left = left_behind(&pooler, 3);
        assert!(is_clean(&left), "{more}: {left:?}");
    }
}

fn watcher(secret: &Secret, pooler: &Pooler, peer_port: u16) -> Agent {
    let arguments = ["agent", "--name", "agent-7", "--listen", "127.0.0.7:0", "--web", "127.0.0.1:0"];
    Agent::with(
        probe(&arguments)
            .args(["--log-format", "json"])
            .env("PROBE_MESH_SECRET_FILE", &secret.path)
            .env("CODER_PG_CONNECTION_URL", pooler.url())
            .env("PROBE_PEER_PORT", peer_port.to_string())
            .env("PROBE_GRACES__START", "1s")
            .env("PROBE_INTERVALS__PEER", "100ms"),
    )
}

fn codes(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn through_a_transaction_pooler_nothing_is_listened_to_and_agents_are_looked_for_beside_the_replicas() {
    let _quiet = quiet();
    for (pool_size, more) in [(1, ""), (4, "ignore_startup_parameters = options")] {
        let mut coder = Coder::new(Generation::BeforeNats);
        coder.add_replica("coder-6", "http://127.0.0.6:8080");
        coder.add_replica("coder-7", "http://127.0.0.7:8080");
        coder.keep_alive();
        let secret = Secret::new();
        let near = agent(&secret, &coder.cluster.url(), "agent-6", "127.0.0.6");
        let pooler = Pooler::start(&coder.cluster, Mode::Transaction, pool_size, more);
        let watcher = watcher(&secret, &pooler, near.reflector.port());
        let report = wait_until(&watcher, "the agent beside the replica is found", 40, |report| {
            state(report, "coder-6").as_deref() == Some("ok")
                && codes(report).contains(&"database_pooled".into())
        });
        assert_eq!(report["pubsub"]["own"]["reason"], "pooled", "{report:#}");
        assert_eq!(report["pubsub"]["own"]["state"], "unknown", "{report:#}");
        assert!(!codes(&report).contains(&"pubsub_broken".into()), "{report:#}");
        // The database itself is measured all the same.
        wait_until(&watcher, "the database is measured", 40, |report| {
            let mut links = report["links"].as_array().unwrap().iter();
            let link = links.find(|link| link["name"] == pooler.name());
            link.is_some_and(|link| {
                link["execution_us"]["p50"].is_number() && link["network_us"]["p50"].is_number()
            })
        });
        // It looks again and again, and says it once.
        let watch = Stopwatch::start();
        while watch.elapsed() < Duration::from_secs(12) {
            let left = left_behind(&pooler, pool_size);
            assert!(is_clean(&left), "{left:?}");
            pause();
        }
        let said = watcher.said();
        let words = "LISTEN does not work through a pooler in transaction mode";
        assert_eq!(said.iter().filter(|line| line.contains(words)).count(), 1, "{said:#?}");
        assert!(
            !pooler.log().contains("when not linked"),
            "no notification of ours came to anybody: {}",
            pooler.log()
        );
    }
}

#[test]
fn through_a_session_pooler_all_works_as_directly() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::BeforeNats);
    coder.add_replica("coder-6", "http://127.0.0.6:8080");
    coder.add_replica("coder-7", "http://127.0.0.7:8080");
    coder.keep_alive();
    let secret = Secret::new();
    let near = agent(&secret, &coder.cluster.url(), "agent-6", "127.0.0.6");
    let pooler = Pooler::start(&coder.cluster, Mode::Session, 10, "");
    // A port on which nobody answers: it is found by its announcement.
    let watcher = watcher(&secret, &pooler, 9);
    for (one, other) in [(&watcher, "agent-6"), (&near, "agent-7")] {
        wait_until(one, "it is found and answers", 60, |report| {
            let pubsub = &report["pubsub"];
            let peers = pubsub["peers"].as_array().unwrap();
            state(report, other).is_some()
                && pubsub["own"]["p50_us"].is_number()
                && peers.iter().any(|peer| peer["name"] == other && peer["p50_us"].is_number())
        });
    }
    let report = watcher.report();
    assert!(!codes(&report).contains(&"database_pooled".into()), "{report:#}");
    assert_eq!(report["pubsub"]["path"], "postgres", "{report:#}");
}

#[test]
fn an_agent_notices_when_its_pooler_is_switched_and_takes_its_listen_back() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::BeforeNats);
    coder.add_replica("coder-7", "http://127.0.0.7:8080");
    coder.keep_alive();
    let secret = Secret::new();
    let pooler = Pooler::start(&coder.cluster, Mode::Session, 4, "");
    let watcher = watcher(&secret, &pooler, 9);
    wait_until(&watcher, "it hears itself", 30, |report| report["pubsub"]["own"]["p50_us"].is_number());
    pooler.switch(Mode::Transaction);
    let report = wait_until(&watcher, "the switch is noticed", 60, |report| {
        report["pubsub"]["own"]["reason"] == "pooled" && codes(report).contains(&"database_pooled".into())
    });
    assert!(!codes(&report).contains(&"pubsub_broken".into()), "{report:#}");
    let watch = Stopwatch::start();
    loop {
        let left = left_behind(&pooler, 4);
        if left.iter().all(|(_, channels, _)| channels.is_empty()) {
            break;
        }
        assert!(watch.elapsed() < Duration::from_secs(60), "{left:?}\n{:#?}", watcher.said());
        pause();
    }
}

#[test]
fn an_agent_listens_again_where_its_own_session_has_lost_that() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::BeforeNats);
    coder.add_replica("coder-7", "http://127.0.0.7:8080");
    coder.keep_alive();
    // Whoever reads the proxies loses its LISTEN while there is a row in `losing`.
    sql(
        &coder.cluster,
        "CREATE TABLE losing (x int);
         ALTER TABLE workspace_proxies RENAME TO proxies;
         CREATE FUNCTION lose() RETURNS bool LANGUAGE plpgsql VOLATILE AS $$ BEGIN
             IF EXISTS (SELECT FROM losing) THEN UNLISTEN *; END IF; RETURN false; END $$;
         CREATE VIEW workspace_proxies AS
             SELECT name, url, updated_at, version, deleted FROM proxies
             UNION ALL SELECT 'x', '', now(), '', lose()",
    );
    let agent = agent(&Secret::new(), &coder.cluster.url(), "agent-7", "127.0.0.7");
    let heard = |report: &Value| report["pubsub"]["own"]["samples"].as_u64().unwrap_or(0);
    let lost = |report: &Value| report["pubsub"]["own"]["lost_in_all"].as_u64().unwrap_or(0);
    wait_until(&agent, "it hears itself", 40, |report| heard(report) > lost(report));
    sql(&coder.cluster, "INSERT INTO losing VALUES (1)");
    wait_until(&agent, "it does not hear itself", 60, |report| lost(report) > 0);
    sql(&coder.cluster, "DELETE FROM losing");
    let report = wait_until(&agent, "it hears itself again", 90, |report| {
        report["pubsub"]["own"]["reason"].is_null() && lost(report) > 0
    });
    assert!(!codes(&report).contains(&"database_pooled".into()), "{report:#}");
}

#[test]
fn three_agents_know_how_long_a_notification_takes_to_each_other() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::BeforeNats);
    for host in 2..=4 {
        coder.add_replica(&format!("coder-{host}"), &format!("http://127.0.0.{host}:8080"));
    }
    coder.keep_alive();
    let (secret, url) = (Secret::new(), coder.cluster.url());
    let names = ["agent-2", "agent-3", "agent-4"];
    let agents: Vec<_> = (2..=4)
        .map(|host| agent(&secret, &url, &format!("agent-{host}"), &format!("127.0.0.{host}")))
        .collect();
    for (agent, name) in agents.iter().zip(names) {
        let others: Vec<_> = names.into_iter().filter(|other| *other != name).collect();
        let report = wait_until(agent, "both others answer", 90, |report| {
            let peers = report["pubsub"]["peers"].as_array().unwrap();
            let answered: Vec<_> = peers
                .iter()
                .filter(|peer| peer["p50_us"].is_number())
                .map(|peer| peer["name"].as_str().unwrap())
                .collect();
            answered == others
        });
        let pubsub = &report["pubsub"];
        assert_eq!((pubsub["path"].as_str(), pubsub["judged"].as_bool()), (Some("postgres"), Some(true)));
        assert!(pubsub["own"]["acknowledged_us"].as_f64().unwrap() > 0.0, "{pubsub:#}");
        for peer in pubsub["peers"].as_array().unwrap() {
            let (whole, half) = (peer["p50_us"].as_f64().unwrap(), peer["one_way_us"].as_f64().unwrap());
            assert!((whole - 2.0 * half).abs() < 1.0, "{peer:#}");
            assert_eq!(peer["one_way_us"], peer["one_way_bound_us"], "{peer:#}");
            assert_eq!(peer["lost"], 0, "{peer:#}");
        }
        // It is not a link, and no link's state follows from it.
        assert!(report["links"].as_array().unwrap().iter().all(|link| link["kind"] != "pubsub"));
        assert!(!codes(&report).iter().any(|code| code.starts_with("pubsub_")), "{report:#}");
    }
    // One to measure, one to listen and read, one to notify.
    let counted = runtime().block_on(async {
        let client = client(&url).await;
        row(&client, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'probe'").await
    });
    assert_eq!(counted, ["9"]);
}

#[test]
fn which_way_news_takes_is_what_the_rows_of_the_replicas_say() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::WithNats);
    for host in 2..=3 {
        coder.add_replica(&format!("coder-{host}"), &format!("http://127.0.0.{host}:8080"));
    }
    coder.keep_alive();
    let secret = Secret::new();
    let agent = agent(&secret, &coder.cluster.url(), "agent-2", "127.0.0.2");
    let path = |word: &'static str| move |report: &Value| report["pubsub"]["path"] == word;
    wait_until(&agent, "no replica has NATS", 30, path("postgres"));
    let nats = "UPDATE replicas SET nats_port = 6222, cluster_host = '127.0.0.2' WHERE hostname IN";
    sql(&coder.cluster, &format!("{nats} ('coder-2'); NOTIFY replica, 'x'"));
    let report = wait_until(&agent, "one has", 30, |report| {
        path("mixed")(report) && codes(report).contains(&"pubsub_mixed".into())
    });
    let findings = report["findings"].as_array().unwrap();
    let mixed = findings.iter().find(|finding| finding["code"] == "pubsub_mixed").unwrap();
    assert_eq!(mixed["subjects"][0], "coder-3", "{mixed:#}");
    sql(&coder.cluster, &format!("{nats} ('coder-3'); NOTIFY replica, 'x'"));
    let report = wait_until(&agent, "all have", 30, |report| {
        path("nats")(report) && !codes(report).contains(&"pubsub_mixed".into())
    });
    assert_eq!(report["pubsub"]["judged"], false);
    let check = |format: &str| {
        let run = Run::of(
            probe(&["check", "--discover", "coder", "--quick", "-o", format])
                .env("PROBE_MESH_SECRET_FILE", &secret.path)
                .env("CODER_PG_CONNECTION_URL", coder.cluster.url()),
        );
        run.stdout
    };
    let json: Value = serde_json::from_str(&check("json")).unwrap();
    assert_eq!(json["pubsub"]["path"], "nats", "{json:#}");
    let text = check("human");
    assert!(text.contains("pubsub: replicas of coderd tell each other by NATS\n"), "{text}");

    // A role that may not see the port knows nothing of the way.
    sql(
        &coder.cluster,
        "CREATE ROLE coder_probe LOGIN PASSWORD 'pwd'; GRANT SELECT (id, updated_at, hostname) ON replicas TO coder_probe",
    );
    let url =
        format!("postgres://coder_probe:pwd@127.0.0.1:{}/postgres?sslmode=disable", coder.cluster.port());
    let blind = crate::discovery::agent(&secret, &url, "agent-3", "127.0.0.3");
    wait_until(&blind, "the replicas are seen", 30, |report| {
        report["members"].as_array().unwrap().iter().any(|member| member["name"] == "coder-2")
    });
    assert_eq!(blind.report()["pubsub"]["path"], "unknown");
}

#[test]
fn on_a_standby_the_reason_is_that_it_is_one() {
    let coder = Coder::new(Generation::BeforeNats);
    let standby = coder.cluster.follower().unwrap();
    let watcher = agent(&Secret::new(), &standby.url(), "agent-7", "127.0.0.7");
    let report = wait_until(&watcher, "the reason is told", 20, |report| {
        report["pubsub"]["own"]["reason"].is_string()
    });
    let own = &report["pubsub"]["own"];
    assert_eq!(
        (own["reason"].as_str(), own["state"].as_str()),
        (Some("standby"), Some("unknown")),
        "{own:#}"
    );
    assert!(own["detail"].as_str().unwrap().contains("LISTEN during recovery"), "{own:#}");
}

/// All that is sent on the channel for so long: from whom, and how often.
fn overheard(cluster: &Cluster, payloads: &[String], long: Duration) -> BTreeMap<String, usize> {
    runtime().block_on(async {
        let (client, mut connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.unwrap();
        let (heard, mut notes) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notification(note) = message {
                    let letter: Value = serde_json::from_str(note.payload()).unwrap_or_default();
                    let from = letter["from"].as_str().unwrap_or("-").to_owned();
                    drop(heard.send(from));
                }
            }
        });
        client.batch_execute("LISTEN probe_pubsub").await.unwrap();
        for payload in payloads {
            let statement = format!("SELECT pg_notify('probe_pubsub', '{payload}')");
            client.batch_execute(&statement).await.unwrap();
        }
        tokio::time::sleep(long).await;
        let mut counts = BTreeMap::new();
        while let Ok(from) = notes.try_recv() {
            *counts.entry(from).or_default() += 1;
        }
        counts
    })
}

#[test]
fn a_flood_of_questions_is_answered_a_few_times_a_second_and_nonsense_never() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::BeforeNats);
    coder.add_replica("coder-2", "http://127.0.0.2:8080");
    coder.keep_alive();
    let agent = agent(&Secret::new(), &coder.cluster.url(), "agent-2", "127.0.0.2");
    wait_until(&agent, "it hears itself", 30, |report| report["pubsub"]["own"]["p50_us"].is_number());
    let mut payloads: Vec<_> =
        (0..500).map(|n| format!(r#"{{"v":1,"from":"stranger","to":"agent-2","nonce":"{n}"}}"#)).collect();
    payloads.extend([
        r#"{"v":2,"from":"later","to":"agent-2","nonce":"1"}"#.to_owned(),
        "nonsense".to_owned(),
        "x".repeat(7000),
    ]);
    let watch = Stopwatch::start();
    let counts = overheard(&coder.cluster, &payloads, Duration::from_secs(3));
    let seconds = watch.elapsed().as_secs_f64();
    assert_eq!(counts["stranger"], 500);
    let ours = f64::from(u32::try_from(counts["agent-2"]).unwrap());
    // Its own questions besides: one in ten seconds.
    assert!(ours >= 1.0 && ours <= 5.0 * (seconds + 2.0) + 2.0, "{ours} in {seconds} s");
    let report =
        wait_until(&agent, "it goes on", 30, |report| report["pubsub"]["own"]["samples"].as_u64() > Some(1));
    assert_eq!(report["pubsub"]["peers"].as_array().unwrap().len(), 0, "a stranger is nobody");
}
