//! Requests on a stream and answers of limited size: the only HTTP client in the house.
//!
//! Redirects are not followed, proxies are not asked, and no encoding is offered. The caller holds the deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::stopwatch::Stopwatch;

/// Most bytes of an answer's head, unless somebody asks for less. It is also the longest piece of a body.
pub const LONGEST_HEAD: usize = 64 * 1024;

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No HTTP, or it broke off.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// More than was to be read.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// A connection on which one request after another may be sent.
pub struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    _driver: AbortOnDrop,
}

/// An answer whose head has come.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// From the request to the first byte of the answer.
    pub first_byte: Duration,
    body: Incoming,
    /// Where it is the only one on its connection, that one ends with it.
    connection: Option<Connection>,
}

impl Connection {
    /// Speaks HTTP on this stream; an answer's head has at most so many bytes.
    pub async fn over<S>(stream: S, longest_head: usize) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut client = hyper::client::conn::http1::Builder::new();
        client.max_buf_size(longest_head);
        let (requests, connection) = client.handshake(TokioIo::new(stream)).await?;
        let driver = AbortOnDrop(tokio::spawn(async move {
            // An error of the connection is an error of the request, which is looked at there.
            let _ = connection.await;
        }));
        Ok(Self { requests, _driver: driver })
    }

    /// Sends a request and waits for the head of the answer. The connection has to live until the body was read.
    pub async fn ask(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, hyper::Error> {
        let watch = Stopwatch::start();
        let (head, body) = self.requests.send_request(request).await?.into_parts();
        let first_byte = watch.elapsed();
        Ok(Answer { status: head.status, headers: head.headers, first_byte, body, connection: None })
    }

    /// Sends the only request of this connection, which lives as long as the answer.
    pub async fn ask_once(mut self, request: Request<Empty<Bytes>>) -> Result<Answer, hyper::Error> {
        let answer = self.ask(request).await?;
        Ok(Answer { connection: Some(self), ..answer })
    }

    /// Whether another request may be sent on it: the last answer was read, and nobody has closed it.
    pub fn stands(&self) -> bool {
        self.requests.is_ready() && !self.requests.is_closed()
    }
}

/// Sends a request on this stream and waits for the head of the answer.
pub async fn ask<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
    longest_head: usize,
) -> Result<Answer, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Connection::over(stream, longest_head).await?.ask_once(request).await
}

impl Answer {
    /// Hands the body piece by piece to `take`, at most `longest` bytes of it.
    pub async fn pieces(mut self, longest: usize, mut take: impl FnMut(&[u8])) -> Result<(), ExchangeError> {
        let mut left = longest;
        while let Some(frame) = self.body.frame().await {
            let Ok(piece) = frame?.into_data() else { continue };
            left = left.checked_sub(piece.len()).ok_or(ExchangeError::TooLong(longest))?;
            take(&piece);
        }
        drop(self.connection);
        Ok(())
    }

    /// The whole body, at most `longest` bytes.
    pub async fn body(self, longest: usize) -> Result<Vec<u8>, ExchangeError> {
        let mut body = Vec::new();
        self.pieces(longest, |piece| body.extend_from_slice(piece)).await?;
        Ok(body)
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
