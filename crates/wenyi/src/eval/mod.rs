//! How well it works, in figures that others publish too.

pub mod retrieval;
pub mod qa;
