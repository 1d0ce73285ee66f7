//! What the store promises, seen from outside.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is its task"
)]

mod fixtures;
mod keeps;
mod text;
mod conformance;
mod migrate;
mod portable;
mod model;
mod index;
mod packed;
mod concurrency;
mod kill;
mod full_disk;
mod refuses;
mod read_only;

#[path = "../../src/random.rs"]
mod random;
