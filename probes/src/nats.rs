//! The port where a replica's embedded NATS takes in the other replicas: is it open, how far is it, and is it NATS?
//!
//! Nothing is sent: half a handshake or a line of protocol would be an error at the other side. A server of NATS without TLS
//! between replicas greets with a line that begins with `INFO`. One with TLS, as coderd's is where the cluster's host is an
//! address, waits for the handshake of whoever connects and says nothing before: a port that accepts and is silent is open.
//! Only what greets otherwise, or hangs up, is something else.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::sample::{Failure, Phases, Reason, Sample, Timing};
use crate::stopwatch::Stopwatch;
use crate::target::HostPort;
use crate::tcp::{connect, io_failure, no_answer};
use crate::{Order, Probe};

/// A greeting comes at once or not at all.
const GREETING_WITHIN: Duration = Duration::from_secs(1);
const GREETING: &[u8; 5] = b"INFO ";

/// Measures a NATS port: the time of a connect, when nothing followed it that NATS does not say.
#[derive(Debug)]
pub struct NatsProbe {
    target: HostPort,
}

impl NatsProbe {
    /// A probe of this port.
    pub fn new(target: HostPort) -> Self {
        Self { target }
    }

    async fn greeted(&self, deadline: Duration) -> Result<Timing, Failure> {
        let watch = Stopwatch::start();
        let mut connected = connect(&self.target, deadline).await?;
        let greeted = match tokio::time::timeout(GREETING_WITHIN, greeting(&mut connected.stream)).await {
            Ok(Ok(true)) => Some(watch.elapsed()),
            Ok(Ok(false)) => {
                let detail =
                    format!("{} accepts connections and greets otherwise than NATS does", self.target);
                return Err(Failure::new(Reason::Protocol, detail));
            }
            Ok(Err(error)) => return Err(io_failure(&error, &self.target.to_string())),
            Err(_) => None,
        };
        Ok(Timing {
            rtt: connected.connect,
            phases: Some(Phases {
                resolve: connected.resolve,
                tcp: Some(connected.connect),
                total: greeted,
                ..Phases::default()
            }),
            ..Timing::default()
        })
    }
}

/// Whether the first bytes are those of a greeting.
async fn greeting(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut first = [0; GREETING.len()];
    stream.read_exact(&mut first).await?;
    Ok(first == *GREETING)
}

impl Probe for NatsProbe {
    /// All steps connect: there is nothing to keep open.
    async fn sample(&self, order: Order) -> Sample {
        match tokio::time::timeout(order.deadline, self.greeted(order.deadline)).await {
            Ok(Ok(timing)) => timing.into(),
            Ok(Err(failure)) => failure.into(),
            Err(_) => no_answer(order.deadline).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::Step;
    use crate::sample::Outcome;

    /// What comes of a server that writes this to whoever connects, and all that it was sent.
    async fn sample_of(greeting: &'static str) -> (Sample, Vec<u8>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(greeting.as_bytes()).unwrap();
            let mut got = Vec::new();
            // Closing without having read all is a reset, which is an end as well.
            let _ = stream.read_to_end(&mut got);
            got
        });
        let order = Order { step: Step::Measure, deadline: Duration::from_secs(5) };
        let sample = NatsProbe::new(HostPort { host: "127.0.0.1".into(), port }).sample(order).await;
        (sample, server.join().unwrap())
    }

    #[tokio::test]
    async fn a_port_that_greets_as_nats_does_is_open_and_is_sent_nothing() {
        let (sample, got) = sample_of("INFO {\"server_id\":\"NA\",\"tls_required\":true} \r\n").await;
        let Outcome::Ok(timing) = sample.outcome else { panic!("{sample:?}") };
        let phases = timing.phases.unwrap();
        assert_eq!(phases.tcp, Some(timing.rtt), "the round trip is that of the connect");
        assert!(phases.total >= phases.tcp);
        assert!(got.is_empty(), "{got:?}");
    }

    #[tokio::test]
    async fn a_port_that_waits_for_a_handshake_of_tls_is_open() {
        let (sample, got) = sample_of("").await;
        let Outcome::Ok(timing) = sample.outcome else { panic!("{sample:?}") };
        assert_eq!(timing.phases.unwrap().total, None, "it has not greeted");
        assert!(got.is_empty(), "{got:?}");
    }

    #[tokio::test]
    async fn a_port_behind_which_something_else_listens_is_told_from_one_that_is_open() {
        let (sample, _) = sample_of("HTTP/1.1 400 Bad Request\r\n").await;
        let failure = sample.outcome.failure().unwrap();
        assert_eq!(failure.reason, Reason::Protocol);
        assert!(failure.detail.contains("greets otherwise"), "{failure}");
    }

    #[tokio::test]
    async fn a_port_where_nothing_listens_refuses() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let order = Order { step: Step::Open, deadline: Duration::from_secs(5) };
        let sample = NatsProbe::new(HostPort { host: "127.0.0.1".into(), port }).sample(order).await;
        assert_eq!(sample.outcome.as_str(), "refused");
    }
}
