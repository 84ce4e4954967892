//! The hands of `probe`: how one sample is taken, and nothing else.
//!
//! This crate knows no budget, no mesh and no configuration file. Each probe implements [`Probe`], a trait of one
//! method that always comes back with a [`Sample`]: a lost, refused or broken round trip is data, never an `Err`.
//!
//! | room | what it does |
//! |---|---|
//! | [`sample`], [`target`] | the nouns; pure |
//! | [`kit`] | one probe per target, chosen by the target's kind, with its connection kept warm |
//! | [`quic`] | echo datagrams between agents: sender, reflector, packet |
//! | [`postgres`] | libpq connection strings, connect phases, the timed query |
//! | [`tcp_info`] | the kernel's view of a connection |
//! | [`tcp`], [`http`] | connect time; phases of a GET, and one on a kept connection |
//! | [`nats`] | whether the port of the replicas' NATS is open |
//! | [`secret`], [`tls`] | who belongs to the mesh; which certificates are believed |
//! | [`own`] | what we ourselves did to a sample: run-queue wait, a ticker |
//! | [`stopwatch`] | the only reader of the monotonic clock |

use std::future::Future;
use std::time::Duration;

pub mod http;
pub mod kit;
pub mod nats;
pub mod own;
pub mod postgres;
pub mod quic;
pub mod resolve;
pub mod sample;
pub mod secret;
pub mod stopwatch;
pub mod target;
pub mod tcp;
pub mod tcp_info;
pub mod tls;
mod warm;

pub use sample::{Direction, Failure, Outcome, Phases, Reason, Reopened, Sample, Timing};
pub use target::{HostPort, Kind, Target};

/// What is asked of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Open the connection, or measure on the open one.
    pub step: Step,
    /// When the sample has to be back: what has not answered by then is lost.
    pub deadline: Duration,
}

/// What can be asked of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Open the connection that [`Step::Measure`] needs and report its phases. Kinds that open a fresh connection for
    /// each sample take a trial one.
    Open,
    /// Take one round trip. Where no connection stands, the outcome is the reason why, at once, and a new one is tried
    /// in the background: waiting for it would hide the outage behind a late good answer.
    Measure,
    /// Connect to where the kept connection goes, send nothing and close: one round trip of the kernels, which a busy
    /// server cannot slow down. PostgreSQL and TCP only; the relay is asked on a fresh connection instead, and other kinds
    /// measure.
    Connect,
}

/// Takes one sample, and always comes back.
pub trait Probe {
    /// The sample, at the latest about when the order's deadline has passed. Never fails and never panics.
    fn sample(&self, order: Order) -> impl Future<Output = Sample> + Send;
}
