//! The door out: one report, many dresses. Nothing here measures or judges.

pub mod api;
mod attribution;
pub mod collect;
mod database;
pub mod events;
pub mod instruments;
pub mod json;
pub mod matrix;
mod mesh;
pub mod metrics;
pub mod otlp;
pub mod page;
pub mod ping;
pub mod prometheus;
mod pubsub;
pub mod running;
pub mod standing;
pub mod text;
