//! Receivers that are broken or mean harm, and strangers that stand where one should be.

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use probe::export::otlp::send::{Answer, Fault, Sender};
use probe::export::otlp::settings;
use prost::Message as _;

use super::failing::{GRPC, delivery, events, http, send, why};
use super::receiver::{Receiver, Reply};

const PROTOBUF: &[(&str, &str)] = &[("Content-Type", "application/x-protobuf")];
const HTML: &[(&str, &str)] = &[("Content-Type", "text/html")];
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// `google.rpc.Status`.
pub(super) fn status(code: i32, message: &str) -> Vec<u8> {
    tonic_types::Status { code, message: message.to_owned(), details: Vec::new() }.encode_to_vec()
}

/// A field of protobuf with these bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

#[test]
fn details_that_nobody_can_read_are_no_details() {
    // A wait of the least seconds and nanoseconds that there are, in `google.rpc.RetryInfo`.
    let least = [[0x80; 9].as_slice(), &[0x01]].concat();
    let nanos = [[0x80; 4].as_slice(), &[0xf8], &[0xff; 4], &[0x01]].concat();
    let info = field(1, &[&[0x08][..], &least, &[0x10], &nanos].concat());
    let any = [field(1, b"type.googleapis.com/google.rpc.RetryInfo"), field(2, &info)].concat();
    let details = [vec![0x08, 14], field(3, &any)].concat();
    assert!(tonic_types::Status::decode(details.as_slice()).is_ok());
    let mut script = Vec::new();
    for in_head in [true, false] {
        for details in ["%%%", "AAA=A", "====", "not base64, at all"] {
            let words =
                vec![("grpc-status", "14".to_owned()), ("grpc-status-details-bin", details.to_owned())];
            script.push(Reply::Words { in_head, words });
        }
        // Words that are no code, and a message that is no text.
        let words = vec![("grpc-status", "many".to_owned()), ("grpc-message", "%ff%fe%".to_owned())];
        script.push(Reply::Words { in_head, words });
    }
    script.push(Reply::Status(14, details));
    // An answer that says it is long, and one that says it is compressed.
    let grpc: &[_] = &[("content-type", "application/grpc")];
    script.push(Reply::Answer(200, grpc, vec![0, 255, 255, 255, 255]));
    script.push(Reply::Answer(200, grpc, vec![1, 0, 0, 0, 1, 0]));
    let count = script.len();
    let receiver = Receiver::grpc(None, script);
    let mut sender = Sender::new(delivery(&format!("http://{}", receiver.address), &[GRPC])).unwrap();
    for round in 0..count {
        let answer = send(&mut sender, &events(0..1));
        let is_unwilling =
            matches!(answer, Answer::Retryable { .. } | Answer::Refused { fault: Fault::Place, .. });
        assert!(is_unwilling, "{round}: {answer:?}");
    }
    assert_eq!(send(&mut sender, &events(0..1)), Answer::Accepted, "and the next one is sent");
}

#[test]
fn the_longest_timeout_that_can_be_written_is_no_harm() {
    let longest = u64::MAX.to_string();
    let receiver = Receiver::grpc(None, []);
    let endpoint = format!("http://{}", receiver.address);
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_TIMEOUT", &longest), GRPC];
    let env =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let (settings, notices) = settings::read(&env);
    assert_eq!(notices.len(), 2, "one a signal: {notices:?}");
    let mut sender = Sender::new(settings.logs.unwrap()).unwrap();
    assert_eq!(send(&mut sender, &events(0..1)), Answer::Accepted);
}

#[test]
fn only_a_receivers_own_word_makes_content_wrong() {
    let own = Fault::Content;
    let script = [
        (Fault::Place, Reply::Answer(400, HTML, b"<html>400 Bad Request".to_vec())),
        (Fault::Place, Reply::Answer(400, &[("Content-Type", "text/plain")], b"no such thing".to_vec())),
        (Fault::Place, Reply::Answer(400, &[], Vec::new())),
        (Fault::Place, Reply::Answer(422, JSON, br#"{"error":"no such route"}"#.to_vec())),
        (Fault::Place, Reply::Answer(400, JSON, br#"{"code":400,"message":"bad"}"#.to_vec())),
        (Fault::Place, Reply::Answer(400, PROTOBUF, b"<html>not protobuf".to_vec())),
        (own, Reply::Answer(400, PROTOBUF, status(3, "too old"))),
        (own, Reply::Answer(422, PROTOBUF, Vec::new())),
        (own, Reply::Answer(400, &[], status(3, "too old"))),
        (own, Reply::Answer(400, JSON, br#"{"code":3,"message":"too old"}"#.to_vec())),
    ];
    let receiver = Receiver::http(None, script.iter().map(|(_, reply)| reply.clone()));
    let mut sender = Sender::new(delivery(&http(&receiver), &[])).unwrap();
    for (expected, reply) in script {
        let answer = send(&mut sender, &events(0..1));
        assert!(
            matches!(&answer, Answer::Refused { fault, .. } if *fault == expected),
            "{expected:?} {reply:?}: {answer:?}"
        );
        if expected == Fault::Content && format!("{reply:?}").contains("message") {
            assert!(why(&answer).ends_with("«too old»"), "{answer:?}");
        }
    }
    let receiver = Receiver::grpc(None, [Reply::Answer(400, HTML, b"<html>".to_vec())]);
    let mut sender = Sender::new(delivery(&format!("http://{}", receiver.address), &[GRPC])).unwrap();
    let answer = send(&mut sender, &events(0..1));
    assert!(matches!(&answer, Answer::Refused { fault: Fault::Place, .. }), "{answer:?}");
}

#[test]
fn only_a_receivers_own_word_is_a_success() {
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 0,
            error_message: String::new(),
        }),
    };
    let no = false;
    let script = [
        (no, Reply::Answer(200, HTML, b"<title>Sign in".to_vec())),
        (no, Reply::Answer(200, HTML, Vec::new())),
        (no, Reply::Answer(200, PROTOBUF, b"<title>Sign in".to_vec())),
        (no, Reply::Answer(200, JSON, br#"{"login":"https://sso"}"#.to_vec())),
        (no, Reply::Answer(200, JSON, b"true".to_vec())),
        (no, Reply::Answer(200, &[("Content-Type", "text/plain")], b"OK".to_vec())),
        (no, Reply::Answer(202, &[], b"queued".to_vec())),
        (true, Reply::Answer(200, PROTOBUF, Vec::new())),
        (true, Reply::Answer(200, PROTOBUF, partial.encode_to_vec())),
        (true, Reply::Answer(200, JSON, b"{}".to_vec())),
        (true, Reply::Answer(200, JSON, br#"{"partialSuccess":{}}"#.to_vec())),
        (true, Reply::Answer(200, JSON, br#"{"partialSuccess":null}"#.to_vec())),
        (true, Reply::Answer(200, &[], Vec::new())),
        (true, Reply::Answer(204, &[], Vec::new())),
        (true, Reply::Answer(200, JSON, Vec::new())),
        (true, Reply::Answer(202, &[("Content-Type", "text/plain")], Vec::new())),
    ];
    let receiver = Receiver::http(None, script.iter().map(|(_, reply)| reply.clone()));
    let mut sender = Sender::new(delivery(&http(&receiver), &[])).unwrap();
    for (expected, reply) in script {
        let answer = send(&mut sender, &events(0..1));
        let is_place = matches!(&answer, Answer::Refused { fault: Fault::Place, .. });
        assert_eq!((answer == Answer::Accepted, is_place), (expected, !expected), "{reply:?}: {answer:?}");
    }
}

#[test]
fn a_receiver_that_repeats_our_headers_brings_no_secret_into_the_log() {
    let list = "authorization=Bearer%20geheim-token-1,x-key=geheim%22key%2F2,x-tenant=t7";
    let said = r#"denied: authorization: Bearer geheim-token-1, {"token":"geheim-token-1","key":"geheim\"key\/2"} of t7"#;
    let long = format!("{}{}", "x".repeat(190), "geheim-token-1");
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 1,
            error_message: said.to_owned(),
        }),
    };
    let answers = |status: u16, kind: &'static [(&'static str, &'static str)], body: &[u8]| {
        Reply::Answer(status, kind, body.to_vec())
    };
    let echo: &[_] = &[("Content-Type", "text/geheim-token-1")];
    let script = [
        answers(401, &[], said.as_bytes()),
        answers(503, &[], long.as_bytes()),
        answers(400, PROTOBUF, &status(3, said)),
        answers(400, JSON, serde_json::json!({"code": 3, "message": said}).to_string().as_bytes()),
        answers(200, PROTOBUF, &partial.encode_to_vec()),
        answers(200, echo, said.as_bytes()),
        answers(200, &[], format!("{}{said}", "x".repeat(50)).as_bytes()),
        answers(403, &[], b"/in?key=geheimquery is not yours"),
    ];
    let count = script.len();
    let receiver = Receiver::http(None, script);
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", list);
    let endpoint = format!("{}?key=geheimquery", http(&receiver));
    let mut sender = Sender::new(delivery(&endpoint, &[headers])).unwrap();
    let check = |sender: &mut Sender, place: &str| {
        let answer = send(sender, &events(0..1));
        let shown = format!("{answer:?}");
        assert!(!matches!(answer, Answer::Accepted), "{place}");
        assert!(!shown.contains("geheim") && !shown.contains("t7"), "{place}: {shown}");
    };
    (0..count).for_each(|place| check(&mut sender, &format!("HTTP {place}")));
    let encoded: String = said.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let words = vec![("grpc-status", "16".to_owned()), ("grpc-message", encoded)];
    let script = [true, false].map(|in_head| Reply::Words { in_head, words: words.clone() });
    let receiver = Receiver::grpc(None, script.into_iter().chain([answers(403, echo, b"")]));
    let mut sender =
        Sender::new(delivery(&format!("http://{}", receiver.address), &[GRPC, headers])).unwrap();
    (0..3).for_each(|place| check(&mut sender, &format!("gRPC {place}")));
}
