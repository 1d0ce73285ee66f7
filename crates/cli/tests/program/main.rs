//! The program as a user runs it: arguments in, output and exit code out, no network.

mod run;
mod help;
mod embed;
mod search;
mod documents;
mod ask;
mod models;
mod chat;
#[cfg(unix)]
mod pseudo_terminal;
#[cfg(unix)]
mod conversation;
mod store;
mod store_places;
mod serve;

use std::path::PathBuf;

use assert_cmd::Command;

/// `wenyi` in a world of its own: no cache, no network, no colour.
fn wenyi() -> Command {
    let mut command = Command::cargo_bin("wenyi").expect("cargo builds the program for its tests");
    command
        .env_clear()
        .env("WENYI_OFFLINE", "1")
        .env("WENYI_CACHE", "/nonexistent/wenyi-cache");
    command
}

/// A tiny model that comes with the engine's tests.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../engine/tests/fixtures")
        .join(name)
}
