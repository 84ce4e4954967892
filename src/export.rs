//! The door out: one report, many dresses. Nothing here measures or judges.

pub mod json;
pub mod text;
pub mod standing;
