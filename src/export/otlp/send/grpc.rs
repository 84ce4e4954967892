//! OTLP over gRPC: tonic frames messages and reads statuses, the connection is ours, so that certificates, deadlines and
//! limits are the same as over HTTP.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::MapFrame;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::wire::Stream;
use super::words::Secrets;
use super::{
    AbortOnDrop, Answer, Fault, LONGEST_ANSWER, Message, Trouble, chain, of_logs, of_metrics, of_status,
};
use crate::export::otlp::settings::{Delivery, TIMEOUT_AT_MOST};

const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

#[derive(Debug)]
pub(super) struct Connection {
    requests: SendRequest<tonic::body::Body>,
    _driver: AbortOnDrop,
}

impl Connection {
    pub(super) async fn over(stream: Stream) -> Result<Self, Trouble> {
        let mut client = http2::Builder::new(TokioExecutor::new());
        client.max_header_list_size(16 * 1024);
        let shaken = client.handshake(TokioIo::new(stream)).await;
        let (requests, connection) = shaken.map_err(|error| Trouble::Broken(chain(&error)))?;
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
        let service = Checked(self.requests.clone());
        let mut client = Grpc::with_origin(service, delivery.endpoint.uri().clone())
            .max_decoding_message_size(LONGEST_ANSWER);
        if delivery.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.ready().await.map_err(|error| Trouble::Broken(chain(error.as_ref())))?;
        let answered = match message {
            Message::Metrics(message) => {
                let request = request(delivery, message.clone());
                let answer =
                    client.unary(request, PathAndQuery::from_static(METRICS), ProstCodec::default()).await;
                answer.map(|answer| of_metrics(answer.get_ref(), secrets))
            }
            Message::Logs(message) => {
                let request = request(delivery, message.clone());
                let answer =
                    client.unary(request, PathAndQuery::from_static(LOGS), ProstCodec::default()).await;
                answer.map(|answer| of_logs(answer.get_ref(), secrets))
            }
        };
        match answered {
            Ok(answer) => Ok(answer),
            Err(status) => unwilling(&delivery.endpoint.to_string(), &status, secrets),
        }
    }
}

fn request<M>(delivery: &Delivery, message: M) -> tonic::Request<M> {
    let mut request = tonic::Request::new(message);
    let mut headers = hyper::HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
    headers.extend(delivery.headers.iter().cloned());
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    // A longer one than there can be is a panic.
    request.set_timeout(delivery.timeout.min(TIMEOUT_AT_MOST));
    request
}

/// The specification's table of statuses. Who answers without one, as when the connection broke, has not answered.
fn unwilling(endpoint: &str, status: &Status, secrets: &Secrets) -> Result<Answer, Trouble> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(NoGrpc { status, kind }) = error.downcast_ref() {
            let kind = match secrets.shown(kind) {
                kind if kind.is_empty() => "an answer without a type".to_owned(),
                kind => format!("'{kind}'"),
            };
            let why = format!(
                "{endpoint}: no gRPC receiver is there: it answered {} with {kind} instead of 'application/grpc'",
                status.as_u16()
            );
            let fault = if status.is_success() { Some(Fault::Place) } else { of_status(*status, false) };
            return Ok(match fault {
                None => Answer::Retryable { after: None, why },
                Some(fault) => Answer::Refused { fault, why },
            });
        }
        cause = error.source();
    }
    if std::error::Error::source(status).is_some() {
        return Err(Trouble::Broken(chain(status)));
    }
    let after = retry_after(status.details());
    let why = format!("{endpoint}: answered {:?} «{}»", status.code(), secrets.shown(status.message()));
    Ok(match status.code() {
        Code::ResourceExhausted | Code::OutOfRange if is_too_long(status.message()) => {
            Answer::Refused { fault: Fault::Size, why }
        }
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Answer::Retryable { after, why },
        Code::ResourceExhausted if after.is_some() => Answer::Retryable { after, why },
        Code::ResourceExhausted => Answer::Refused { fault: Fault::Room, why },
        Code::InvalidArgument => Answer::Refused { fault: Fault::Content, why },
        _ => Answer::Refused { fault: Fault::Place, why },
    })
}

/// How long a receiver wants to be left alone, in `google.rpc.RetryInfo`. What reads it in `tonic_types` computes with a time before
/// now without care.
fn retry_after(details: &[u8]) -> Option<Duration> {
    let details = tonic_types::Status::decode(details).ok()?.details;
    let info = details.iter().find(|one| one.type_url == "type.googleapis.com/google.rpc.RetryInfo")?;
    let delay = tonic_types::pb::RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let whole = Duration::from_secs(delay.seconds.try_into().unwrap_or_default());
    Some(whole.saturating_add(Duration::from_nanos(delay.nanos.try_into().unwrap_or_default())))
}

/// Whether a receiver says that the message was too long, in the words of gRPC for Go and C++, Java, .NET and Rust. The code alone
/// means a quota as well, and Rust has another one for it.
fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    // Tonic's own word on an answer that is longer than we read.
    if message.contains(&format!("the limit is: {LONGEST_ANSWER} bytes")) {
        return false;
    }
    let words =
        ["larger than max", "exceeds maximum size", "exceeds the maximum", "message length too large"];
    words.iter().any(|word| message.contains(word))
}

/// Leaves details out that are not encoded as they have to be: reading them is a panic in tonic.
fn legible(headers: &mut HeaderMap) {
    const DETAILS: &str = "grpc-status-details-bin";
    let Some(details) = headers.get(DETAILS) else { return };
    let mut alone = HeaderMap::new();
    alone.insert(DETAILS, details.clone());
    let alone = MetadataMap::from_headers(alone);
    if alone.get_bin(DETAILS).is_none_or(|details| details.to_bytes().is_err()) {
        headers.remove(DETAILS);
    }
}

fn legible_frame(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            legible(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// A web server that speaks HTTP/2 is no gRPC receiver.
struct Checked(SendRequest<tonic::body::Body>);

#[derive(Debug, thiserror::Error)]
#[error("the answer is no gRPC")]
struct NoGrpc {
    status: StatusCode,
    kind: String,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answered = Response<MapFrame<Incoming, fn(Frame<Bytes>) -> Frame<Bytes>>>;
type Sent = Pin<Box<dyn Future<Output = Result<Answered, BoxError>> + Send>>;

impl tower_service::Service<Request<tonic::body::Body>> for Checked {
    type Response = Answered;
    type Error = BoxError;
    type Future = Sent;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let sent = self.0.send_request(request);
        Box::pin(async move {
            let mut response = sent.await?;
            let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let kind = kind.unwrap_or_default();
            if !kind.starts_with("application/grpc") {
                return Err(NoGrpc { status: response.status(), kind: kind.to_owned() }.into());
            }
            legible(response.headers_mut());
            Ok(response.map(|body| body.map_frame(legible_frame as fn(_) -> _)))
        })
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn a_status_means_what_the_specification_says() {
        for (code, expected) in [
            (Code::Cancelled, None),
            (Code::DeadlineExceeded, None),
            (Code::Aborted, None),
            (Code::OutOfRange, None),
            (Code::Unavailable, None),
            (Code::DataLoss, None),
            (Code::ResourceExhausted, Some(Fault::Room)),
            (Code::InvalidArgument, Some(Fault::Content)),
            (Code::Unauthenticated, Some(Fault::Place)),
            (Code::PermissionDenied, Some(Fault::Place)),
            (Code::Unimplemented, Some(Fault::Place)),
            (Code::Internal, Some(Fault::Place)),
            (Code::Unknown, Some(Fault::Place)),
        ] {
            let answer = unwilling("http://c", &Status::new(code, "no"), &Secrets::default()).unwrap();
            let (fault, why) = match answer {
                Answer::Retryable { why, after: None } => (None, why),
                Answer::Refused { fault, why } => (Some(fault), why),
                other => panic!("{other:?}"),
            };
            assert_eq!((fault, why), (expected, format!("http://c: answered {code:?} «no»")));
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_told_from_one_too_many() {
        for (code, message) in [
            (Code::ResourceExhausted, "grpc: received message larger than max (5000000 vs. 4194304)"),
            (Code::ResourceExhausted, "gRPC message exceeds maximum size 4194304: 5000000"),
            (Code::ResourceExhausted, "Received message exceeds the maximum configured message size."),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
            ),
        ] {
            let answer = unwilling("http://c", &Status::new(code, message), &Secrets::default()).unwrap();
            assert!(matches!(answer, Answer::Refused { fault: Fault::Size, .. }), "{answer:?}");
        }
    }

    #[test]
    fn a_receiver_that_is_full_says_when_it_is_not() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(9)));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        let Ok(Answer::Retryable { after, .. }) = unwilling("http://c", &status, &Secrets::default()) else {
            panic!()
        };
        assert_eq!(after, Some(Duration::from_secs(9)));
    }
}
