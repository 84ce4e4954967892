//! The door out: one report, many dresses. Nothing here measures or judges.

mod attribution;
pub mod json;
mod mesh;
pub mod standing;
pub mod text;
