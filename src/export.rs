//! The door out: one report, many dresses. Nothing here measures or judges.

mod attribution;
mod database;
pub mod json;
mod mesh;
mod pubsub;
pub mod standing;
pub mod text;
