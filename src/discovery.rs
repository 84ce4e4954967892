//! The door through which facts come in: who is there, and where.
//!
//! Each source is a task of its own that tells what it sees ([`News`]) and goes on telling; the heart carries that to the
//! roster (`src/mesh/roster.rs`), where the facts of all sources are joined. A source that cannot tell says why, once a
//! reason, and tries again by itself: it never stops the measuring, and it never makes anybody disappear.

use crate::mesh::roster::{Sighting, Source};

#[cfg(feature = "kubernetes")]
pub mod kubernetes;

/// What a source has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It sees these now, and nobody else.
    Seen(Source, Vec<Sighting>),
    /// It cannot tell at the moment; the text is for people and holds no secret. What it told before stays.
    Failed(Source, String),
    /// Something that it cannot see for want of rights, said once: what, and what would help.
    Blind(Source, String),
}
