//! Metrics and events for an OTLP receiver: all figures of an instant every minute, each event soon after it happened, and
//! nothing lost while the receiver is away.

pub mod encode;
pub mod ledger;
pub mod resource;
pub mod send;
pub mod settings;
pub mod spool;
