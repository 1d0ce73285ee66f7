//! The `wenyi` program.
fn main() {}
