//! Whether the server's process that answers us is the one that we were told at the login.
//!
//! With its welcome a server tells the number of its process, so that a client can cancel. TCP proxies, address
//! translation and service meshes hand that on as it is; a pooler logs its clients in by itself and makes a number up, as
//! the process that will answer is not chosen yet. So a number that is the right one proves that nothing between takes
//! the session away, and costs no state. The driver gives the number away in a request to cancel only; ours goes nowhere.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// The number of the process that was told at the login; `None` where none was.
pub(super) async fn told(client: &Client) -> Option<i32> {
    let paper = Paper::default();
    client.cancel_token().cancel_query_raw(paper.clone(), PassOn).await.ok()?;
    let written = paper.0.lock().unwrap_or_else(PoisonError::into_inner);
    process(&written)
}

/// A request to cancel is its length, a code, the process and its key, four bytes each. A request for TLS may stand before.
fn process(written: &[u8]) -> Option<i32> {
    let request = written.get(written.len().checked_sub(16)?..)?;
    let process = i32::from_be_bytes(request.get(8..12)?.try_into().ok()?);
    (process != 0).then_some(process)
}

/// A stream that ends on a piece of paper. To the question for TLS it says yes.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Paper {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0 {
            buffer.put_slice(b"S");
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paper {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Paper {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

struct PassOn;

impl TlsConnect<Paper> for PassOn {
    type Stream = Paper;
    type Error = io::Error;
    type Future = Ready<io::Result<Paper>>;

    fn connect(self, paper: Paper) -> Self::Future {
        ready(Ok(paper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_a_request_to_cancel_with_and_without_one_for_tls() {
        let mut request = vec![0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 1, 2, 9, 9, 9, 9];
        assert_eq!(process(&request), Some(258));
        let mut encrypted = vec![0, 0, 0, 8, 4, 210, 22, 47];
        encrypted.append(&mut request);
        assert_eq!(process(&encrypted), Some(258));
        assert_eq!(process(&[1, 2, 3]), None);
        assert_eq!(process(&[0; 16]), None, "none was told");
    }
}
