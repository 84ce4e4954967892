//! Receivers that are full, slow, silent, somebody else, or not to be trusted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use probe::export::otlp::resource::Place;
use probe::export::otlp::send::{Answer, Fault, Message, Sender};
use probe::export::otlp::settings::Delivery;
use probe::export::otlp::{Setup, encode};
use probes::stopwatch::Stopwatch;
use prost::Message as _;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::hostile::status;
use super::receiver::{Received, Receiver, Reply, black_hole, fell_in};
use super::{Figures, count, dropped, event, meanwhile, runtime, setup, start, wait_until};
use crate::encryption::Authority;

pub(super) fn events(numbers: std::ops::Range<usize>) -> Message {
    let events: Vec<_> = numbers.map(event).collect();
    Message::Logs(encode::logs(setup(&[]).speaker.resource(&Place::default()), &events))
}

pub(super) fn logs_only(endpoint: &str, more: &[(&str, &str)]) -> Setup {
    let own = [("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", endpoint)];
    setup(&own.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
}

pub(super) fn delivery(endpoint: &str, more: &[(&str, &str)]) -> Delivery {
    logs_only(endpoint, more).settings.logs.unwrap()
}

pub(super) fn http(receiver: &Receiver) -> String {
    format!("http://{}/v1/logs", receiver.address)
}

pub(super) fn send(sender: &mut Sender, message: &Message) -> Answer {
    runtime().block_on(sender.send(message))
}

pub(super) fn why(answer: &Answer) -> &str {
    match answer {
        Answer::Retryable { why, .. } | Answer::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

pub(super) const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
pub(super) const HASTY: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "400");

#[test]
fn each_answer_is_taken_for_what_it_is() {
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 2,
            error_message: "too old".to_owned(),
        }),
    };
    let html: &[_] = &[("Content-Type", "text/html; charset=utf-8")];
    let protobuf: &[_] = &[("Content-Type", "application/x-protobuf")];
    let script = [
        Reply::Take,
        Reply::Answer(200, protobuf, partial.encode_to_vec()),
        Reply::Answer(429, &[("Retry-After", "7")], Vec::new()),
        Reply::Answer(
            503,
            &[("Date", "Wed, 25 Nov 2026 04:00:00 GMT"), ("Retry-After", "Wed, 25 Nov 2026 04:00:09 GMT")],
            Vec::new(),
        ),
        Reply::Answer(400, protobuf, status(3, "no\nsuch thing")),
        Reply::Answer(413, &[], Vec::new()),
        Reply::Answer(401, &[], Vec::new()),
        Reply::Answer(307, &[("Location", "http://elsewhere/")], Vec::new()),
        Reply::Answer(200, html, b"<!doctype html><title>Welcome".to_vec()),
        Reply::Answer(200, html, vec![b'x'; 1 << 20]),
        Reply::Take,
    ];
    let receiver = Receiver::http(None, script);
    let endpoint = http(&receiver);
    let mut sender =
        Sender::new(delivery(&endpoint, &[("OTEL_EXPORTER_OTLP_HEADERS", "x-key=geheim")])).unwrap();
    let answers: Vec<_> = runtime().block_on(async {
        let mut answers = Vec::new();
        for _ in 0..11 {
            answers.push(sender.send(&events(0..1)).await);
        }
        answers
    });
    let after = |seconds| Some(Duration::from_secs(seconds));
    let shapes: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Accepted => ("ok", None, None),
            Answer::Partial { rejected: 2, why } if why == "too old" => ("partial", None, None),
            Answer::Partial { .. } => panic!("{answer:?}"),
            Answer::Retryable { after, .. } => ("retryable", *after, None),
            Answer::Refused { fault, .. } => ("refused", None, Some(*fault)),
        })
        .collect();
    let refused = |fault| ("refused", None, Some(fault));
    let expected = [
        ("ok", None, None),
        ("partial", None, None),
        ("retryable", after(7), None),
        ("retryable", after(9), None),
        refused(Fault::Content),
        refused(Fault::Size),
        refused(Fault::Place),
        refused(Fault::Place),
        refused(Fault::Place),
        refused(Fault::Place),
        ("ok", None, None),
    ];
    assert_eq!(shapes, expected, "{answers:#?}");
    assert_eq!(why(&answers[4]), format!("{endpoint}: answered 400 Bad Request «no such thing»"));
    assert!(why(&answers[7]).contains("redirects are not followed"), "{:?}", answers[7]);
    let page = why(&answers[8]);
    assert!(page.starts_with(&endpoint) && page.contains("'text/html; charset=utf-8'"), "{page}");
    assert!(page.contains("<!doctype html>"), "{page}");
    let received = receiver.received();
    assert_eq!(received.len(), 11, "nothing is sent twice by itself");
    for request in &received {
        assert_eq!((request.path.as_str(), request.headers["x-key"].as_str()), ("/v1/logs", "geheim"));
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        assert_eq!(request.headers["user-agent"], concat!("probe/", env!("CARGO_PKG_VERSION")));
        assert_eq!(request.headers["host"], receiver.address.to_string());
        assert_eq!(request.ids(), ["agent-1/0000"]);
    }
    assert_eq!(received[8].connection, 0, "one connection for all, until an answer is not read to its end");
    assert!(!format!("{sender:?}{answers:?}").contains("geheim"), "{sender:?}");
}

#[test]
fn grpc_answers_are_taken_for_what_they_are() {
    use tonic_types::{ErrorDetails, StatusExt};
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(5)));
    let full = tonic::Status::with_error_details(tonic::Code::ResourceExhausted, "full", details);
    let script = [
        Reply::Take,
        Reply::Status(8, full.details().to_vec()),
        Reply::Status(14, Vec::new()),
        Reply::Status(3, Vec::new()),
        Reply::Status(16, Vec::new()),
        Reply::Take,
    ];
    let receiver = Receiver::grpc(None, script);
    let endpoint = format!("http://{}", receiver.address);
    let more =
        [GRPC, ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=geheim"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
    let mut sender = Sender::new(delivery(&endpoint, &more)).unwrap();
    let answers: Vec<_> = runtime().block_on(async {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(sender.send(&events(0..1)).await);
        }
        answers
    });
    assert!(matches!(answers[0], Answer::Accepted), "{answers:?}");
    let after = Some(Duration::from_secs(5));
    assert!(matches!(&answers[1], Answer::Retryable { after: told, .. } if *told == after), "{answers:?}");
    assert!(matches!(&answers[2], Answer::Retryable { after: None, .. }), "{answers:?}");
    assert!(matches!(&answers[3], Answer::Refused { fault: Fault::Content, .. }), "{answers:?}");
    assert!(matches!(&answers[4], Answer::Refused { fault: Fault::Place, .. }), "{answers:?}");
    assert!(matches!(answers[5], Answer::Accepted), "{answers:?}");
    for request in receiver.received() {
        assert_eq!(request.path, "/opentelemetry.proto.collector.logs.v1.LogsService/Export");
        assert_eq!((request.headers["x-key"].as_str(), request.connection), ("geheim", 0));
        assert_eq!(request.headers["grpc-encoding"], "gzip");
        assert!(request.headers["user-agent"].starts_with("probe/"), "{:?}", request.headers);
    }
}

#[test]
fn who_says_nothing_holds_nothing_up() {
    let (address, listener) = black_hole();
    for more in [&[HASTY][..], &[HASTY, GRPC]] {
        let endpoint = format!("http://{address}");
        let mut sender = Sender::new(delivery(&endpoint, more)).unwrap();
        let answer = send(&mut sender, &events(0..1));
        assert!(matches!(answer, Answer::Retryable { after: None, .. }), "{answer:?}");
        assert!(why(&answer).contains("no answer within 400 ms"), "{answer:?}");
        drop(fell_in(&listener));
    }
    // Who has taken the request and says nothing gets it again, on another connection.
    for (receiver, more) in [
        (Receiver::http(None, [Reply::Silence]), &[HASTY][..]),
        (Receiver::grpc(None, [Reply::Silence]), &[HASTY, GRPC]),
    ] {
        let mut sender = Sender::new(delivery(&http(&receiver), more)).unwrap();
        let answers = runtime().block_on(async {
            let first = sender.send(&events(0..1)).await;
            (first, sender.send(&events(0..1)).await)
        });
        assert!(matches!(answers, (Answer::Retryable { .. }, Answer::Accepted)), "{answers:?}");
        let connections: Vec<_> = receiver.received().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 1]);
    }
    // An agent that stops does not wait for it either, however long the timeout.
    let endpoint = format!("http://{address}");
    let figures = Figures::new();
    runtime().block_on(async {
        let patient =
            setup(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")]);
        let handle = start(patient, &figures).await;
        handle.tell(event(0));
        let first = meanwhile(|| fell_in(&listener));
        let watch = Stopwatch::start();
        handle.stop().await;
        assert!(watch.elapsed() < Duration::from_secs(60), "{:?}", watch.elapsed());
        drop(first);
    });
}

#[test]
fn grpc_at_a_web_server_is_no_answer() {
    let receiver = Receiver::http(None, []);
    let endpoint = format!("http://{}", receiver.address);
    let (closed, _) = black_hole();
    let mut sender = Sender::new(delivery(&endpoint, &[GRPC, HASTY])).unwrap();
    let answer = send(&mut sender, &events(0..1));
    assert!(matches!(answer, Answer::Retryable { .. }), "{answer:?}");
    assert!(why(&answer).starts_with(&endpoint), "{answer:?}");
    let endpoint = format!("http://{closed}");
    let mut sender = Sender::new(delivery(&endpoint, &[])).unwrap();
    let answer = send(&mut sender, &events(0..1));
    assert!(why(&answer).contains("cannot connect"), "{answer:?}");
}

#[test]
fn events_are_sent_again_until_they_are_taken_and_those_that_are_refused_are_counted() {
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 1,
            error_message: "old".to_owned(),
        }),
    };
    let script = [
        Reply::Answer(503, &[("Retry-After", "1")], Vec::new()),
        Reply::Vanish,
        Reply::TakeAndClose,
        Reply::Answer(400, &[("Content-Type", "application/x-protobuf")], status(3, "bad")),
        Reply::Answer(200, &[("Content-Type", "text/html")], b"<html>".to_vec()),
        Reply::Answer(200, &[("Content-Type", "application/x-protobuf")], partial.encode_to_vec()),
    ];
    let receiver = Receiver::http(None, script);
    let figures = Figures::new();
    runtime().block_on(async {
        let handle = start(logs_only(&http(&receiver), &[]), &figures).await;
        handle.tell(event(0));
        meanwhile(|| receiver.wait_for(1));
        let watch = Stopwatch::start();
        meanwhile(|| receiver.wait_for(2));
        assert!(watch.elapsed() > Duration::from_millis(900), "it wanted to be left alone for a second");
        wait_until(&handle, "taken after all", |tallies| count(tallies, "logs", "ok") == 1);
        handle.tell(event(1));
        wait_until(&handle, "refused", |tallies| dropped(tallies, "refused") == 1);
        handle.tell(event(2));
        let tallies = wait_until(&handle, "half taken", |tallies| dropped(tallies, "refused") == 2);
        assert_eq!((tallies.waiting, count(&tallies, "logs", "partial")), (Some(0), 1));
        handle.tell(event(3));
        wait_until(&handle, "taken", |tallies| count(tallies, "logs", "ok") == 2);
        handle.stop().await;
    });
    let told: Vec<_> = receiver.received().iter().map(|request| request.ids().join(" ")).collect();
    let id = |number| format!("agent-1/000{number}");
    // Who vanished may have it, so it comes again with the same id; a web page has taken nothing.
    assert_eq!(told, [id(0), id(0), id(0), id(1), id(2), id(2), id(3)]);
}

#[test]
fn what_is_too_long_is_sent_in_halves() {
    let too_long = || Reply::Answer(413, &[], Vec::new());
    let receiver = Receiver::http(None, [too_long(), too_long()]);
    let figures = Figures::new();
    runtime().block_on(async {
        let mut setup = logs_only(&http(&receiver), &[]);
        setup.pace.together = Duration::from_millis(300);
        let handle = start(setup, &figures).await;
        (0..8).for_each(|number| handle.tell(event(number)));
        wait_until(&handle, "all is told", |tallies| tallies.waiting == Some(0));
        handle.stop().await;
    });
    let told: Vec<_> = receiver.received().iter().map(|request| request.ids().len()).collect();
    assert_eq!(told, [8, 4, 2, 2, 2, 2], "and not at once again in one");
    let ids: Vec<_> = receiver.received().iter().skip(2).flat_map(super::receiver::Received::ids).collect();
    assert_eq!(ids, (0..8).map(|number| format!("agent-1/{number:04}")).collect::<Vec<_>>());
}

#[test]
fn an_event_that_is_too_long_by_itself_is_given_up_alone() {
    let too_long = || Reply::Answer(413, &[], Vec::new());
    let receiver = Receiver::http(None, [too_long(), too_long()]);
    let figures = Figures::new();
    runtime().block_on(async {
        let mut setup = logs_only(&http(&receiver), &[]);
        setup.pace.together = Duration::from_millis(300);
        let handle = start(setup, &figures).await;
        (0..2).for_each(|number| handle.tell(event(number)));
        let tallies = wait_until(&handle, "all is told", |tallies| tallies.waiting == Some(0));
        assert_eq!(dropped(&tallies, "refused"), 1);
        handle.stop().await;
    });
    let told: Vec<_> = receiver.received().iter().map(|request| request.ids().join(" ")).collect();
    let id = |number| format!("agent-1/000{number}");
    assert_eq!(told, [format!("{} {}", id(0), id(1)), id(0), id(1)]);
}

#[test]
fn who_has_no_room_and_does_not_say_why_is_left_alone_and_gets_less_at_a_time() {
    let receiver = Receiver::grpc(None, [Reply::Status(8, Vec::new())]);
    let figures = Figures::new();
    let endpoint = format!("http://{}", receiver.address);
    runtime().block_on(async {
        let mut setup = logs_only(&endpoint, &[GRPC]);
        setup.pace.together = Duration::from_millis(300);
        setup.pace.longest = Duration::from_millis(800);
        let handle = start(setup, &figures).await;
        (0..8).for_each(|number| handle.tell(event(number)));
        meanwhile(|| receiver.wait_for(1));
        let watch = Stopwatch::start();
        meanwhile(|| receiver.wait_for(2));
        assert!(watch.elapsed() > Duration::from_millis(350), "it is tried again after 400 to 800 ms");
        let tallies = wait_until(&handle, "all is told", |tallies| tallies.waiting == Some(0));
        assert_eq!(dropped(&tallies, "refused"), 0);
        handle.stop().await;
    });
    let told: Vec<_> = receiver.received().iter().map(|request| request.ids().len()).collect();
    assert_eq!(told, [8, 4, 4]);
}

#[test]
fn who_refuses_one_after_the_other_is_not_hammered_with_the_rest() {
    let refused = || Reply::Answer(400, &[("Content-Type", "application/x-protobuf")], status(3, "bad"));
    let receiver = Receiver::http(None, [refused()]);
    let figures = Figures::new();
    runtime().block_on(async {
        let mut setup = logs_only(&http(&receiver), &[]);
        (setup.pace.shortest, setup.pace.longest) = (Duration::from_secs(600), Duration::from_secs(600));
        let handle = start(setup, &figures).await;
        handle.tell(event(0));
        wait_until(&handle, "a refusal", |tallies| dropped(tallies, "refused") == 1);
        handle.tell(event(1));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((receiver.received().len(), handle.tallies().waiting), (1, Some(1)));
    });
}

/// What a message says: how often the link was asked, and how many durations are in its histogram.
fn told(request: &Received) -> (Option<i64>, Option<u64>) {
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
    let scope = &request.metrics.as_ref().unwrap().resource_metrics[0].scope_metrics[0];
    let data = |name: &str| {
        let found = scope.metrics.iter().find(|metric| metric.name == name);
        found.and_then(|metric| metric.data.as_ref())
    };
    let judged = data("coder.probe.path.judged").map(|data| match data {
        Data::Sum(sum) => match sum.data_points[0].value {
            Some(Value::AsInt(count)) => count,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    });
    let durations = data("coder.probe.postgres.query.duration").map(|data| match data {
        Data::Histogram(histogram) => histogram.data_points[0].count,
        other => panic!("{other:?}"),
    });
    (judged, durations)
}

#[test]
fn figures_that_are_too_many_are_sent_in_parts_and_each_counts_once() {
    let words = [("grpc-status", "8"), ("grpc-message", "grpc: received message larger than max (9 vs. 4)")];
    let words = words.map(|(name, word)| (name, word.to_owned())).to_vec();
    let script = [
        // Of three points, three messages: the second one fails and comes again.
        Reply::Words { in_head: true, words },
        Reply::Take,
        Reply::Status(14, Vec::new()),
    ];
    let receiver = Receiver::grpc(None, script);
    let figures = Figures::new();
    (0..3).for_each(|_| figures.ask(700));
    runtime().block_on(async {
        let endpoint = format!("http://{}", receiver.address);
        let setup = setup(&[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &endpoint),
            GRPC,
            ("OTEL_METRIC_EXPORT_INTERVAL", "60000"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ]);
        let handle = start(setup, &figures).await;
        meanwhile(|| receiver.wait_for(3));
        (0..4).for_each(|_| figures.ask(700));
        // What was left over, and what is new.
        meanwhile(|| receiver.wait_for(8));
        let tallies = wait_until(&handle, "all of it", |tallies| count(tallies, "metrics", "ok") == 6);
        let outcomes = ["retryable", "refused"].map(|outcome| count(&tallies, "metrics", outcome));
        assert_eq!((outcomes, tallies.forgotten), ([1, 1], Some(0)));
        figures.hide();
        handle.stop().await;
    });
    let told: Vec<_> = receiver.received().iter().map(told).collect();
    let expected = [
        (Some(3), Some(3)),
        (None, None),
        (Some(3), None),
        (Some(3), None),
        (None, Some(3)),
        (None, None),
        (Some(4), None),
        (None, Some(4)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_went_away_and_is_refused_is_counted_and_not_told_again() {
    let refused = Reply::Answer(400, &[("Content-Type", "application/x-protobuf")], status(3, "too old"));
    let receiver = Receiver::http(None, [Reply::Answer(503, &[], Vec::new()), refused]);
    let figures = Figures::new();
    figures.ask(700);
    runtime().block_on(async {
        let endpoint = format!("http://{}/v1/metrics", receiver.address);
        let mut setup = setup(&[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &endpoint),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ]);
        (setup.pace.shortest, setup.pace.longest) = (Duration::from_millis(500), Duration::from_millis(500));
        let handle = start(setup, &figures).await;
        meanwhile(|| receiver.wait_for(1));
        // Another link of its name stands there from now on.
        figures.begin_anew();
        let tallies = wait_until(&handle, "figures", |tallies| count(tallies, "metrics", "ok") > 0);
        assert_eq!(tallies.forgotten, Some(2), "a counter and a histogram");
        handle.stop().await;
    });
    let points: Vec<_> = receiver
        .received()
        .iter()
        .map(|request| {
            let scope = &request.metrics.as_ref().unwrap().resource_metrics[0].scope_metrics[0];
            let judged =
                scope.metrics.iter().find(|metric| metric.name == "coder.probe.path.judged").unwrap();
            let Some(opentelemetry_proto::tonic::metrics::v1::metric::Data::Sum(sum)) = &judged.data else {
                panic!()
            };
            sum.data_points.len()
        })
        .collect();
    assert_eq!(points[..3], [1, 2, 1]);
}

#[test]
fn a_spool_that_is_full_drops_the_oldest_and_says_how_many() {
    let (address, _listener) = black_hole();
    let figures = Figures::new();
    runtime().block_on(async {
        let mut setup = logs_only(&format!("http://{address}"), &[HASTY]);
        setup.limits.events = 10;
        let handle = start(setup, &figures).await;
        (0..100).for_each(|number| handle.tell(event(number)));
        wait_until(&handle, "a failure", |tallies| count(tallies, "logs", "retryable") > 0);
        let tallies = wait_until(&handle, "the rest", |tallies| {
            tallies.waiting.unwrap() + dropped(tallies, "full") == 100
        });
        assert!(tallies.waiting.unwrap() <= 11, "ten, and the newest beside ten on their way: {tallies:?}");
    });
}

fn server(authority: &Authority, clients: Option<&Authority>, protocol: &[u8]) -> Arc<ServerConfig> {
    let (certificate, key) = authority.issue("127.0.0.1");
    let builder = ServerConfig::builder_with_provider(probes::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            use rustls::pki_types::pem::PemObject;
            roots
                .add(rustls::pki_types::CertificateDer::from_pem_file(clients.path("ca.pem")).unwrap())
                .unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), probes::tls::provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

#[test]
fn tls_believes_the_given_authority_alone_and_shows_our_certificate_where_it_is_asked_for() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue_files("client");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (right, wrong) = (text(&ours.path("ca.pem")), text(&theirs.path("ca.pem")));
    let (certificate, key) = (text(&certificate), text(&key));
    let client = [
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str()),
    ];
    for protocol in ["http/protobuf", "grpc"] {
        let is_grpc = protocol == "grpc";
        let receiver = |clients| {
            let config = server(&ours, clients, if is_grpc { b"h2" } else { b"http/1.1" });
            if is_grpc { Receiver::grpc(Some(config), []) } else { Receiver::http(Some(config), []) }
        };
        let (open, strict) = (receiver(None), receiver(Some(&ours)));
        for (receiver, authority, client, expected) in [
            (&open, &right, None, true),
            (&open, &wrong, None, false),
            (&strict, &right, Some(client), true),
            (&strict, &right, None, false),
        ] {
            let before = receiver.received().len();
            let endpoint = format!("https://{}/v1/logs", receiver.address);
            let mut more = vec![
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.as_str()),
            ];
            more.extend(client.into_iter().flatten());
            let mut sender = Sender::new(delivery(&endpoint, &more)).unwrap();
            let answer = send(&mut sender, &events(0..1));
            let taken = receiver.received().len() - before;
            if expected {
                assert_eq!((&answer, taken), (&Answer::Accepted, 1), "{protocol}");
            } else {
                assert!(matches!(answer, Answer::Retryable { .. }), "{protocol}: {answer:?}");
                assert_eq!(taken, 0, "{protocol}: nothing goes to whom we do not believe, nor in the open");
            }
        }
    }
}

#[test]
fn a_certificate_that_is_none_turns_its_signal_off_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, "rubbish").unwrap();
    let receiver = Receiver::http(None, []);
    let metrics = format!("http://{}/v1/metrics", receiver.address);
    let figures = Figures::new();
    for file in [file.to_str().unwrap(), "/nowhere/ca.pem"] {
        let endpoint = format!("https://{}", receiver.address);
        let setup = setup(&[
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", file),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &metrics),
        ]);
        let error = Sender::new(setup.settings.logs.clone().unwrap()).unwrap_err();
        assert!(error.contains(file) || error.contains("authority"), "{error}");
        runtime().block_on(async {
            let handle = start(setup, &figures).await;
            handle.tell(event(0));
            let tallies = wait_until(&handle, "figures", |tallies| count(tallies, "metrics", "ok") > 0);
            assert_eq!(tallies.waiting, None);
            handle.stop().await;
        });
    }
    let received = receiver.received();
    assert!(!received.is_empty() && received.iter().all(|request| request.metrics.is_some()));
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    let authority = Authority::new();
    let receiver =
        Receiver::http(Some(server(&authority, Some(&authority), b"http/1.1")), [Reply::TakeAndClose]);
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let renew = |certificate: &rcgen::Certificate, key: &rcgen::KeyPair| {
        std::fs::write(place("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(place("tls.key"), key.serialize_pem()).unwrap();
    };
    let (stranger, key) = Authority::new().issue("client");
    renew(&stranger, &key);
    let endpoint = format!("https://{}/v1/logs", receiver.address);
    let mut sender = Sender::new(delivery(
        &endpoint,
        &[
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.path("ca.pem").to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", place("tls.crt").to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", place("tls.key").to_str().unwrap()),
        ],
    ))
    .unwrap();
    let answer = send(&mut sender, &events(0..1));
    assert!(matches!(answer, Answer::Retryable { .. }), "{answer:?}");
    let (ours, key) = authority.issue("client");
    renew(&ours, &key);
    assert_eq!(send(&mut sender, &events(0..1)), Answer::Accepted);
}

#[test]
fn figures_that_a_receiver_wants_only_in_part_are_not_sent_again() {
    let partial = opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse {
        partial_success: Some(
            opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess {
                rejected_data_points: 1,
                error_message: "no".to_owned(),
            },
        ),
    };
    let protobuf: &[_] = &[("Content-Type", "application/x-protobuf")];
    let receiver = Receiver::http(
        None,
        [
            Reply::Answer(200, protobuf, partial.encode_to_vec()),
            Reply::Answer(503, &[], Vec::new()),
            Reply::Answer(404, &[], Vec::new()),
        ],
    );
    let figures = Figures::new();
    figures.ask(700);
    runtime().block_on(async {
        let endpoint = format!("http://{}/v1/metrics", receiver.address);
        let setup = setup(&[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &endpoint),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ]);
        let handle = start(setup, &figures).await;
        meanwhile(|| receiver.wait_for(1));
        figures.ask(700);
        figures.ask(700);
        wait_until(&handle, "figures", |tallies| count(tallies, "metrics", "ok") > 0);
        let tallies = handle.tallies();
        let outcomes = ["partial", "retryable", "refused"].map(|outcome| count(&tallies, "metrics", outcome));
        assert_eq!((outcomes, tallies.waiting), ([1, 1, 1], None));
        handle.stop().await;
    });
    let judged: Vec<_> = receiver.received().iter().map(|request| told(request).0.unwrap()).collect();
    assert_eq!(judged[0], 1, "taken, whatever the receiver did with it");
    assert_eq!(judged[1..].iter().max(), Some(&2), "{judged:?}");
    assert_eq!(judged[3], 2, "what failed is folded into the next: {judged:?}");
}
