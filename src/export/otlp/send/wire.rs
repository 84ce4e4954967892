//! A stream to the receiver: TCP, and TLS where the endpoint says so. There is no way back to plaintext.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use probes::tls::{Trust, client_config};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::chain;
use crate::export::otlp::settings::{Delivery, Endpoint, Protocol, TlsFiles};

/// How a stream is opened.
#[derive(Debug)]
pub(super) struct Wire {
    endpoint: Endpoint,
    protocol: Protocol,
    files: TlsFiles,
    /// The first one, which is used always where there are no files that may change.
    tls: Option<Arc<ClientConfig>>,
}

impl Wire {
    pub(super) fn new(delivery: &Delivery) -> Result<Self, String> {
        let tls = delivery.endpoint.is_tls().then(|| load(&delivery.tls, delivery.protocol)).transpose()?;
        Ok(Self {
            endpoint: delivery.endpoint.clone(),
            protocol: delivery.protocol,
            files: delivery.tls.clone(),
            tls,
        })
    }

    pub(super) async fn connect(&self) -> Result<Stream, String> {
        let address = (self.endpoint.host(), self.endpoint.port());
        let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
        // A message is written in one go and then waited for.
        let _ = stream.set_nodelay(true);
        let Some(first) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let tls = if self.files == TlsFiles::default() { Arc::clone(first) } else { self.renewed().await? };
        let name = ServerName::try_from(self.endpoint.host().to_owned())
            .map_err(|_| format!("'{}' is no name that a certificate may carry", self.endpoint.host()))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await;
        stream
            .map(|stream| Stream::Tls(Box::new(stream)))
            .map_err(|error| format!("no TLS: {}", chain(&error)))
    }

    /// Certificates live for weeks, agents for months.
    async fn renewed(&self) -> Result<Arc<ClientConfig>, String> {
        let (files, protocol) = (self.files.clone(), self.protocol);
        let loaded = tokio::task::spawn_blocking(move || load(&files, protocol)).await;
        loaded.map_err(|error| error.to_string())?
    }
}

fn load(files: &TlsFiles, protocol: Protocol) -> Result<Arc<ClientConfig>, String> {
    let client = files.client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let config = client_config(Trust::ChainAndName, files.authorities.as_deref(), client);
    let mut config = config.map_err(|error| chain(&error))?;
    config.alpn_protocols = vec![match protocol {
        Protocol::HttpProtobuf => b"http/1.1".to_vec(),
        Protocol::Grpc => b"h2".to_vec(),
    }];
    Ok(Arc::new(config))
}

/// An open stream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
