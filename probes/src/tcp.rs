//! TCP connect: one round trip of the kernels, SYN to SYN-ACK, without the server's program.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::resolve::resolve;
use crate::sample::{Failure, Phases, Reason, Sample, Timing};
use crate::stopwatch::Stopwatch;
use crate::target::HostPort;
use crate::{Order, Probe};

/// An open connection and how it came to be.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) stream: TcpStream,
    pub(crate) resolve: Duration,
    pub(crate) connect: Duration,
}

/// Resolves and connects, trying the addresses one after another; `connect` is the time of the one that answered.
pub(crate) async fn connect(target: &HostPort, deadline: Duration) -> Result<Connected, Failure> {
    let attempt = async {
        let (addresses, resolve) = resolve(target).await?;
        connect_any(&addresses).await.map(|(stream, connect)| Connected { stream, resolve, connect })
    };
    match tokio::time::timeout(deadline, attempt).await {
        Ok(result) => result,
        Err(_) => Err(no_answer(deadline)),
    }
}

/// Connects to the first address that lets us; NODELAY is set.
pub(crate) async fn connect_any(addresses: &[SocketAddr]) -> Result<(TcpStream, Duration), Failure> {
    let mut failure = Failure::new(Reason::Unreachable, "there is no address to connect to");
    for address in addresses {
        let watch = Stopwatch::start();
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let connect = watch.elapsed();
                stream.set_nodelay(true).map_err(|error| Failure::new(Reason::Local, error))?;
                return Ok((stream, connect));
            }
            Err(error) => failure = io_failure(&error, &address.to_string()),
        }
    }
    Err(failure)
}

pub(crate) fn no_answer(deadline: Duration) -> Failure {
    Failure::new(Reason::Unreachable, format!("nothing answered within {deadline:?}"))
}

/// What an I/O error says about the way to `place`.
pub(crate) fn io_failure(error: &io::Error, place: &str) -> Failure {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            Failure::new(Reason::Refused, format!("connection refused: nothing listens on {place}"))
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
            Failure::new(Reason::Unreachable, format!("no way to {place}: {error}"))
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => {
            Failure::new(Reason::Closed, format!("{place} closed the connection: {error}"))
        }
        _ => Failure::new(Reason::Local, format!("{place}: {error}")),
    }
}

/// Measures a TCP port: a fresh connect for each sample, no byte sent, closed at once.
#[derive(Debug)]
pub struct TcpProbe {
    target: HostPort,
}

impl TcpProbe {
    /// A probe of this port.
    pub fn new(target: HostPort) -> Self {
        Self { target }
    }
}

impl Probe for TcpProbe {
    /// Both steps connect: there is nothing to keep open, and a port that lets nobody in is best known at once.
    async fn sample(&self, order: Order) -> Sample {
        match connect(&self.target, order.deadline).await {
            Ok(connected) => Timing {
                rtt: connected.connect,
                phases: Some(Phases {
                    resolve: connected.resolve,
                    tcp: Some(connected.connect),
                    ..Phases::default()
                }),
                ..Timing::default()
            }
            .into(),
            Err(failure) => failure.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Step;
    use crate::sample::Outcome;

    const MEASURE: Order = Order { step: Step::Measure, deadline: Duration::from_secs(2) };

    #[tokio::test]
    async fn an_open_port_has_a_connect_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sample = TcpProbe::new(HostPort { host: "127.0.0.1".into(), port }).sample(MEASURE).await;
        let Outcome::Ok(timing) = sample.outcome else { panic!("{sample:?}") };
        assert!(timing.rtt > Duration::ZERO);
        assert_eq!(timing.phases.unwrap().tcp, Some(timing.rtt));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_a_bad_name_does_not_resolve() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let refused = TcpProbe::new(HostPort { host: "127.0.0.1".into(), port }).sample(MEASURE).await;
        assert_eq!(refused.outcome.as_str(), "refused");
        assert_eq!(refused.outcome.failure().unwrap().reason, Reason::Refused);
        let unknown = TcpProbe::new(HostPort { host: "no-such-host.invalid".into(), port });
        for step in [Step::Open, Step::Measure] {
            let sample = unknown.sample(Order { step, ..MEASURE }).await;
            assert_eq!(sample.outcome.failure().unwrap().reason, Reason::Resolve);
        }
    }
}
