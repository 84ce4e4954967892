//! One request on a fresh stream and one answer of limited size: the only HTTP client in the house.
//!
//! Redirects are not followed, proxies are not asked, and no encoding is offered. The caller holds the deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
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

/// An answer whose head has come. Dropping it ends the connection.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// From the request to the first byte of the answer.
    pub first_byte: Duration,
    body: Incoming,
    _connection: AbortOnDrop,
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
    let mut client = hyper::client::conn::http1::Builder::new();
    client.max_buf_size(longest_head);
    let (mut requests, connection) = client.handshake(TokioIo::new(stream)).await?;
    let driver = AbortOnDrop(tokio::spawn(async move {
        // An error of the connection is an error of the request, which is looked at below.
        let _ = connection.await;
    }));
    let watch = Stopwatch::start();
    let (head, body) = requests.send_request(request).await?.into_parts();
    let first_byte = watch.elapsed();
    Ok(Answer { status: head.status, headers: head.headers, first_byte, body, _connection: driver })
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
