//! The lines on which requests come: plain or encrypted, and given up when nobody reads at the other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// Who takes nothing for so long, or does not finish its handshake, is let go: its place may be somebody else's.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where lines begin.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) tls: watch::Receiver<Option<Arc<ServerConfig>>>,
}

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let (stream, from) = Listener::accept(&mut self.listener).await;
        // Small answers are not to wait for more to come.
        let _ = stream.set_nodelay(true);
        let state = match self.tls.borrow().clone() {
            // The handshake is part of the line: who is slow at it keeps nobody else waiting.
            Some(config) => State::Handshake(Box::new(TlsAcceptor::from(config).accept(stream))),
            None => State::Plain(stream),
        };
        (Line { state, stalled: None }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One of them.
pub(super) struct Line {
    state: State,
    stalled: Option<Pin<Box<Sleep>>>,
}

enum State {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Line {
    /// What comes of this, unless it has come to nothing for too long.
    fn patiently<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut State, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(result) = poll(&mut self.state, context) {
            self.stalled = None;
            return Poll::Ready(result);
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Handshake(_) = &self.state else { return Poll::Ready(Ok(())) };
        let stream = ready!(self.patiently(context, |state, context| match state {
            State::Handshake(accept) => Pin::new(accept.as_mut()).poll(context).map_ok(Some),
            State::Plain(_) | State::Encrypted(_) => Poll::Ready(Ok(None)),
        }))?;
        if let Some(stream) = stream {
            self.state = State::Encrypted(Box::new(stream));
        }
        Poll::Ready(Ok(()))
    }
}

impl State {
    fn write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
            Self::Handshake(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_flush(context),
            Self::Handshake(_) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.handshake(context))?;
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            State::Encrypted(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
            State::Handshake(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.handshake(context))?;
        self.patiently(context, |state, context| state.write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.handshake(context))?;
        self.patiently(context, State::flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.patiently(context, |state, context| match state {
            State::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            State::Encrypted(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            State::Handshake(_) => Poll::Ready(Ok(())),
        })
    }
}
