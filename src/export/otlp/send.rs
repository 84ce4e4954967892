//! One message to the receiver, and what came of it. Whatever the receiver does, it is over after the timeout.

use std::time::Duration;

use hyper::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};

use super::settings::{Delivery, Protocol};

mod grpc;
mod http;
mod wire;
mod words;

use wire::Wire;
use words::Secrets;

/// Most bytes of an answer that are read.
const LONGEST_ANSWER: usize = 64 * 1024;
const USER_AGENT: &str = concat!("probe/", env!("CARGO_PKG_VERSION"));

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Figures.
    Metrics(ExportMetricsServiceRequest),
    /// Events.
    Logs(ExportLogsServiceRequest),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The receiver has it.
    Accepted,
    /// The receiver has the rest of it, and wants to have nothing of it again.
    Partial {
        /// How many points or events it does not have.
        rejected: u64,
        /// What it says.
        why: String,
    },
    /// It may be sent again.
    Retryable {
        /// Not before this.
        after: Option<Duration>,
        /// What happened, with the endpoint.
        why: String,
    },
    /// It must not be sent again as it is.
    Refused {
        /// What is at fault.
        fault: Fault,
        /// What happened, with the endpoint.
        why: String,
    },
}

/// Why a receiver does not want a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What is in it: the same content will be refused always.
    Content,
    /// It is too long: half of it may not be.
    Size,
    /// There is no room for it, and nothing is said of why: it may be too long, or too much lately.
    Room,
    /// Where it went or who we are: somebody has to put that right, here or there.
    Place,
}

/// A way to one receiver for one signal.
#[derive(Debug)]
pub struct Sender {
    delivery: Delivery,
    secrets: Secrets,
    wire: Wire,
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    Http(http::Connection),
    Grpc(grpc::Connection),
}

impl Connection {
    fn stands(&self) -> bool {
        match self {
            Self::Http(connection) => connection.stands(),
            Self::Grpc(connection) => connection.stands(),
        }
    }
}

/// No answer: nothing is known of what the receiver did.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Connect(String),
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Sender {
    /// Reads the certificates, if any; the error is for people. It may block on files.
    pub fn new(delivery: Delivery) -> Result<Self, String> {
        let wire = Wire::new(&delivery)?;
        let secrets = Secrets::of(&delivery);
        Ok(Self { delivery, secrets, wire, connection: None })
    }

    /// Sends it. A future that is dropped leaves no half request behind.
    pub async fn send(&mut self, message: &Message) -> Answer {
        let timeout = self.delivery.timeout;
        // Taken out, so that what is cut off by the timeout is not used again.
        let kept = self.connection.take().filter(Connection::stands);
        match tokio::time::timeout(timeout, self.exchange(kept, message)).await {
            Ok(answer) => answer,
            Err(_) => self.retryable(&format!("no answer within {} ms", timeout.as_millis())),
        }
    }

    async fn exchange(&mut self, kept: Option<Connection>, message: &Message) -> Answer {
        if let Some(mut connection) = kept {
            match self.ask(&mut connection, message).await {
                Ok(answer) => return self.keep(connection, answer),
                // Most likely the receiver closed it just now, since nothing had come for long.
                Err(trouble) => {
                    let error = self.secrets.shown(&trouble.to_string());
                    tracing::debug!(%error, "a kept connection to the OTLP receiver is of no use");
                }
            }
        }
        let asked = async {
            let mut connection = self.open().await?;
            let answer = self.ask(&mut connection, message).await?;
            Ok((connection, answer))
        };
        match asked.await {
            Ok((connection, answer)) => self.keep(connection, answer),
            Err(trouble) => {
                let trouble: Trouble = trouble;
                self.retryable(&self.secrets.shown(&trouble.to_string()))
            }
        }
    }

    fn keep(&mut self, connection: Connection, answer: Answer) -> Answer {
        self.connection = Some(connection);
        answer
    }

    fn retryable(&self, why: &str) -> Answer {
        Answer::Retryable { after: None, why: format!("{}: {why}", self.delivery.endpoint) }
    }

    async fn open(&self) -> Result<Connection, Trouble> {
        let stream = self.wire.connect().await.map_err(Trouble::Connect)?;
        Ok(match self.delivery.protocol {
            Protocol::HttpProtobuf => Connection::Http(http::Connection::over(stream).await?),
            Protocol::Grpc => Connection::Grpc(grpc::Connection::over(stream).await?),
        })
    }

    async fn ask(&self, connection: &mut Connection, message: &Message) -> Result<Answer, Trouble> {
        match connection {
            Connection::Http(connection) => connection.ask(&self.delivery, &self.secrets, message).await,
            Connection::Grpc(connection) => connection.ask(&self.delivery, &self.secrets, message).await,
        }
    }
}

/// What an answer that is no success means, by the status of HTTP. The list is the specification's, but that anybody on the way
/// may say 400: content is at fault only where a receiver says so.
fn of_status(status: StatusCode, is_receivers: bool) -> Option<Fault> {
    match status.as_u16() {
        429 | 502 | 503 | 504 => None,
        400 | 422 if is_receivers => Some(Fault::Content),
        413 => Some(Fault::Size),
        _ => Some(Fault::Place),
    }
}

/// What a receiver says of a message that it took.
fn taken(rejected: i64, why: &str, secrets: &Secrets) -> Answer {
    match u64::try_from(rejected) {
        Ok(rejected) if rejected > 0 => Answer::Partial { rejected, why: secrets.shown(why) },
        _ => {
            if !why.is_empty() {
                tracing::warn!(says = %secrets.shown(why), "the OTLP receiver took everything, with a remark");
            }
            Answer::Accepted
        }
    }
}

fn of_metrics(response: &ExportMetricsServiceResponse, secrets: &Secrets) -> Answer {
    response.partial_success.as_ref().map_or(Answer::Accepted, |partial| {
        taken(partial.rejected_data_points, &partial.error_message, secrets)
    })
}

fn of_logs(response: &ExportLogsServiceResponse, secrets: &Secrets) -> Answer {
    response.partial_success.as_ref().map_or(Answer::Accepted, |partial| {
        taken(partial.rejected_log_records, &partial.error_message, secrets)
    })
}

/// An error with all that caused it, which may have a stranger's words in it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Ends a connection with its owner.
#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
