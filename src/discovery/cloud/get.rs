//! One request to a metadata service, and one answer of limited size in limited time.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{HOST, HeaderMap, USER_AGENT};
use hyper::{Method, Request};
use probes::http::exchange::{ExchangeError, ask};
use tokio::net::TcpStream;

/// Azure's answer is the longest, with all tags a machine may have.
const LONGEST_BODY: usize = 64 * 1024;
const LONGEST_HEAD: usize = 16 * 1024;

/// Why a metadata service did not tell. What it sent is not repeated: nobody knows who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nobody answers.
    #[error("no answer within {0:?}")]
    Silence(Duration),
    /// Nobody is there.
    #[error("nobody is there: {0}")]
    NoWay(ErrorKind),
    /// It is no HTTP, or breaks off.
    #[error("what answers there speaks no HTTP, or breaks off")]
    NotHttp,
    /// Metadata services do not redirect.
    #[error("what answers there redirects, which no metadata service does")]
    Redirect,
    /// Not the answer of a service that is there and lets us in.
    #[error("the answer's status is {0}")]
    Status(u16),
    /// The answer does not carry the service's mark.
    #[error("what answers there is another service: {0}")]
    Another(&'static str),
    /// The answer is longer than any that is true.
    #[error("the answer is longer than {LONGEST_BODY} bytes")]
    TooLong,
    /// An answer that cannot be.
    #[error("the answer is nonsense: {0}")]
    Nonsense(&'static str),
    /// An address that metadata are not asked for at.
    #[error("its address is not on this machine or its link")]
    Far,
    /// There is no address to ask.
    #[error("there is no address to ask")]
    NoAddress,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) at: SocketAddr,
    pub(super) method: Method,
    /// The value of the `Host` header.
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) header: Option<(&'static str, &'a str)>,
}

/// A 200 with a text.
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// Asks once.
pub(super) async fn get(question: Question<'_>, limit: Duration) -> Result<Reply, Why> {
    match tokio::time::timeout(limit, exchange(question)).await {
        Ok(result) => result,
        Err(_) => Err(Why::Silence(limit)),
    }
}

async fn exchange(question: Question<'_>) -> Result<Reply, Why> {
    let stream = TcpStream::connect(question.at).await.map_err(|error| Why::NoWay(error.kind()))?;
    let mut request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(HOST, question.host)
        .header(USER_AGENT, concat!("probe/", env!("CARGO_PKG_VERSION")));
    if let Some((name, value)) = question.header {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| Why::Nonsense("it cannot be sent back"))?;
    let answer = ask(stream, request, LONGEST_HEAD).await.map_err(|_| Why::NotHttp)?;
    if answer.status.is_redirection() {
        return Err(Why::Redirect);
    }
    if answer.status != hyper::StatusCode::OK {
        return Err(Why::Status(answer.status.as_u16()));
    }
    let headers = answer.headers.clone();
    let body = answer.body(LONGEST_BODY).await.map_err(|error| match error {
        ExchangeError::TooLong(_) => Why::TooLong,
        ExchangeError::Http(_) => Why::NotHttp,
    })?;
    let body = String::from_utf8(body).map_err(|_| Why::Nonsense("it is no text"))?;
    Ok(Reply { headers, body: body.trim_end().to_owned() })
}
