//! OTLP over HTTP: a POST of protobuf on a kept connection. Redirects are not followed, proxies are not asked.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;

use super::wire::Stream;
use super::words::Secrets;
use super::{
    AbortOnDrop, Answer, Fault, LONGEST_ANSWER, Message, Trouble, chain, of_logs, of_metrics, of_status,
    taken,
};
use crate::export::otlp::settings::Delivery;

const PROTOBUF: &str = "application/x-protobuf";

#[derive(Debug)]
pub(super) struct Connection {
    requests: SendRequest<Full<Bytes>>,
    _driver: AbortOnDrop,
}

impl Connection {
    pub(super) async fn over(stream: Stream) -> Result<Self, Trouble> {
        let mut client = http1::Builder::new();
        client.max_buf_size(LONGEST_ANSWER);
        let (requests, connection) =
            client.handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let driver = AbortOnDrop(tokio::spawn(async move {
            // An error of the connection is an error of the request, which is looked at there.
            let _ = connection.await;
        }));
        Ok(Self { requests, _driver: driver })
    }

    /// Right after an answer it is not ready yet, but it will be.
    pub(super) fn stands(&self) -> bool {
        !self.requests.is_closed()
    }

    pub(super) async fn ask(
        &mut self,
        delivery: &Delivery,
        secrets: &Secrets,
        message: &Message,
    ) -> Result<Answer, Trouble> {
        let request = request(delivery, message).map_err(Trouble::Broken)?;
        self.requests.ready().await.map_err(|error| broken(&error))?;
        let (head, body) =
            self.requests.send_request(request).await.map_err(|error| broken(&error))?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let endpoint = delivery.endpoint.to_string();
        if !head.status.is_success() {
            let said = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Ok(unwilling(&endpoint, head.status, &head.headers, &said, secrets));
        }
        let kind = kind(&head.headers);
        let foreign = |came: &str| {
            let kind = if kind.is_empty() {
                "an answer without a type".to_owned()
            } else {
                format!("'{}'", secrets.shown(kind))
            };
            let why = format!(
                "{endpoint}: no OTLP receiver is there: it answered {} with {kind} instead of '{PROTOBUF}': {came}",
                head.status.as_u16()
            );
            Answer::Refused { fault: Fault::Place, why }
        };
        let body = match body {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => return Ok(foreign("a long one")),
            Err(error) => return Err(Trouble::Broken(chain(error.as_ref()))),
        };
        let answer = read(kind, &body, message, secrets);
        Ok(answer.unwrap_or_else(|| {
            let beginning: String = secrets.shown(&String::from_utf8_lossy(&body)).chars().take(60).collect();
            foreign(&format!("«{beginning}»"))
        }))
    }
}

fn kind(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

/// Without parameters and in small letters.
fn plain(kind: &str) -> String {
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn broken(error: &hyper::Error) -> Trouble {
    Trouble::Broken(chain(error))
}

fn request(delivery: &Delivery, message: &Message) -> Result<Request<Full<Bytes>>, String> {
    let encoded = match message {
        Message::Metrics(message) => message.encode_to_vec(),
        Message::Logs(message) => message.encode_to_vec(),
    };
    let body = if delivery.gzip { compressed(&encoded).map_err(|error| error.to_string())? } else { encoded };
    let uri = delivery.endpoint.uri();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, PROTOBUF)
        .header(USER_AGENT, super::USER_AGENT);
    if delivery.gzip {
        request = request.header(CONTENT_ENCODING, "gzip");
    }
    let mut request = request.body(Full::from(body)).map_err(|error| error.to_string())?;
    for (name, value) in delivery.headers.iter() {
        request.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(request)
}

fn compressed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// An answer of status 2xx; `None` where it is not a receiver's: whoever has a login page has taken nothing.
fn read(kind: &str, body: &[u8], message: &Message, secrets: &Secrets) -> Option<Answer> {
    match plain(kind).as_str() {
        "text/html" => None,
        _ if body.is_empty() => Some(Answer::Accepted),
        PROTOBUF | "application/protobuf" => match message {
            Message::Metrics(_) => {
                let response = ExportMetricsServiceResponse::decode(body).ok()?;
                Some(of_metrics(&response, secrets))
            }
            Message::Logs(_) => {
                let response = ExportLogsServiceResponse::decode(body).ok()?;
                Some(of_logs(&response, secrets))
            }
        },
        // Not what was asked for, but some receivers know nothing else.
        "application/json" => {
            let answer: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
            let partial = answer.get("partialSuccess");
            if answer.len() != usize::from(partial.is_some())
                || partial.is_some_and(|partial| !partial.is_null() && !partial.is_object())
            {
                return None;
            }
            let field = |name: &str| partial.and_then(|partial| partial.get(name));
            let rejected = field("rejectedDataPoints").or_else(|| field("rejectedLogRecords"));
            // A whole number of 64 bits is a text in protobuf's JSON.
            let rejected = rejected.and_then(|count| {
                count.as_i64().or_else(|| count.as_str().and_then(|count| count.parse().ok()))
            });
            let why = field("errorMessage").and_then(|why| why.as_str()).unwrap_or_default();
            Some(taken(rejected.unwrap_or(0), why, secrets))
        }
        _ => None,
    }
}

/// What a receiver says of a failure, which is `google.rpc.Status`; `None` where somebody else is speaking. An empty text of its
/// type says nothing, but a receiver says it.
fn word(kind: &str, said: &[u8]) -> Option<String> {
    // The codes of gRPC that are failures.
    let is_code = |code: i64| (1..=16).contains(&code);
    match plain(kind).as_str() {
        PROTOBUF | "application/protobuf" => Some(tonic_types::Status::decode(said).ok()?.message),
        "application/json" => {
            let status: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(said).ok()?;
            status.get("code").and_then(serde_json::Value::as_i64).filter(|code| is_code(*code))?;
            let message = status.get("message").and_then(|message| message.as_str());
            Some(message.unwrap_or_default().to_owned())
        }
        _ => {
            let status = tonic_types::Status::decode(said).ok()?;
            is_code(status.code.into()).then_some(status.message)
        }
    }
}

/// An answer of another status.
fn unwilling(
    endpoint: &str,
    status: StatusCode,
    headers: &HeaderMap,
    said: &[u8],
    secrets: &Secrets,
) -> Answer {
    let kind = kind(headers);
    let own = word(kind, said);
    let is_receivers = own.is_some();
    let words = own.unwrap_or_else(|| String::from_utf8_lossy(said).into_owned());
    // A web page says nothing in a log.
    let said = match secrets.shown(&words) {
        _ if plain(kind) == "text/html" => "with a web page".to_owned(),
        words if words.is_empty() => String::new(),
        words => format!("«{words}»"),
    };
    let mut why = format!("{endpoint}: answered {status} {said}").trim_end().to_owned();
    if status.is_redirection() {
        why.push_str("; redirects are not followed: give the address that is meant");
    }
    match of_status(status, is_receivers) {
        None => Answer::Retryable { after: retry_after(headers), why },
        Some(fault) => Answer::Refused { fault, why },
    }
}

/// Seconds, or an instant by the receiver's own clock, which its `Date` tells.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |value: Option<&HeaderValue>| {
        value.and_then(|value| value.to_str().ok()).map(str::trim).map(str::to_owned)
    };
    let after = text(headers.get(RETRY_AFTER))?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(&after).ok()?;
    let now = httpdate::parse_http_date(&text(headers.get(DATE))?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest,
    };

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_an_instant_by_the_receivers_own_clock() {
        let date = ("date", "Wed, 25 Nov 2026 04:00:00 GMT");
        let until = ("retry-after", "Wed, 25 Nov 2026 04:02:00 GMT");
        for (pairs, expected) in [
            (&[("retry-after", "7")][..], Some(7)),
            (&[date, until], Some(120)),
            (&[until], None),
            (&[("date", "Wed, 25 Nov 2026 05:00:00 GMT"), until], Some(0)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
            (&[], None),
        ] {
            assert_eq!(retry_after(&headers(pairs)), expected.map(Duration::from_secs), "{pairs:?}");
        }
    }

    #[test]
    fn a_status_means_what_the_specification_says() {
        for (status, expected) in [
            (429, None),
            (502, None),
            (503, None),
            (504, None),
            (400, Some(Fault::Place)),
            (422, Some(Fault::Place)),
            (413, Some(Fault::Size)),
            (401, Some(Fault::Place)),
            (404, Some(Fault::Place)),
            (500, Some(Fault::Place)),
            (301, Some(Fault::Place)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = unwilling(
                "http://c",
                status,
                &headers(&[("content-type", "text/html")]),
                b"<html>",
                &Secrets::default(),
            );
            let (fault, why) = match answer {
                Answer::Retryable { why, .. } => (None, why),
                Answer::Refused { fault, why } => (Some(fault), why),
                other => panic!("{other:?}"),
            };
            assert_eq!(fault, expected, "{status}");
            assert!(why.starts_with(&format!("http://c: answered {status} with a web page")), "{why}");
        }
    }

    #[test]
    fn an_answer_of_success_is_read_and_a_web_page_is_none() {
        let logs = Message::Logs(ExportLogsServiceRequest::default());
        let partial = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 3,
                error_message: "too\nold".to_owned(),
            }),
        };
        let some = Some(Answer::Partial { rejected: 3, why: "too old".to_owned() });
        let json = br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}"#;
        for (kind, body, expected) in [
            (PROTOBUF, &b""[..], Some(Answer::Accepted)),
            ("application/x-protobuf; charset=utf-8", &partial.encode_to_vec(), some.clone()),
            ("application/json", json, some),
            ("application/json", b"{}", Some(Answer::Accepted)),
            ("application/json", b"[]", None),
            ("", b"", Some(Answer::Accepted)),
            ("text/html", b"<html>", None),
            ("", b"hello", None),
        ] {
            assert_eq!(read(kind, body, &logs, &Secrets::default()), expected, "{kind} {body:?}");
        }
    }
}
