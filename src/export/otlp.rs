//! Metrics and events for an OTLP receiver: all figures of an instant every minute, each event soon after it happened, and
//! nothing lost while the receiver is away.
//!
//! The variables ([`settings`]), the messages ([`encode`], [`resource`]) and what the receiver knows already ([`ledger`]) are
//! pure; [`send`], [`spool`] and [`run`] have the sockets, the files and the tasks.

pub mod encode;
pub mod ledger;
pub mod resource;
pub mod run;
pub mod send;
pub mod settings;
pub mod spool;
pub mod tallies;

pub use run::{Handle, Pace, Setup};
