//! Metrics and events for an OTLP receiver: all figures of an instant every minute, each event soon after it happened, and
//! nothing lost while the receiver is away.
//!
//! The variables ([`settings`]), the messages ([`encode`], [`split`], [`resource`]) and what the receiver knows already ([`ledger`]) are
//! pure; [`send`], [`spool`] and [`run`] have the sockets, the files and the tasks.

use std::path::PathBuf;

pub mod encode;
pub mod ledger;
pub mod resource;
pub mod run;
pub mod send;
pub mod settings;
pub mod split;
pub mod spool;
pub mod tallies;

pub use run::{Handle, Pace, Setup};

/// What an agent is asked to hand over.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// By the variables.
    pub settings: settings::Settings,
    /// What is to be said of them.
    pub notices: Vec<settings::Notice>,
    /// Who speaks.
    pub speaker: resource::Speaker,
    /// Where events wait, if not in memory alone.
    pub spool: Option<PathBuf>,
}

impl Asked {
    /// For an agent of this name on this host.
    pub fn of(name: &str, host: &str, spool: Option<PathBuf>, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let (settings, notices) = settings::read(env);
        let speaker = resource::Speaker::new(name, host, settings.attributes.clone(), env);
        Self { settings, notices, speaker, spool }
    }
}
