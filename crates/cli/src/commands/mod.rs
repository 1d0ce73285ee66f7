//! The verbs, one file each.

mod search;
mod ask;
pub(crate) mod index;
mod embed;
mod chat;
mod models;
mod serve;
mod bench;
mod eval;
mod store;

use std::time::Instant;

use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Search(search::Arguments),
    Ask(ask::Arguments),
    Index(index::Arguments),
    Embed(embed::Arguments),
    Chat(chat::Arguments),
    Models(models::Arguments),
    Serve(serve::Arguments),
    Bench(bench::Arguments),
    Eval(eval::Arguments),
    Store(store::Arguments),
}

impl Command {
    /// Does it; `started` is when the program began.
    pub(crate) fn run(self, started: Instant) -> anyhow::Result<()> {
        match self {
            Self::Search(arguments) => search::run(&arguments),
            Self::Ask(arguments) => ask::run(&arguments),
            Self::Index(arguments) => index::run(&arguments),
            Self::Embed(arguments) => embed::run(&arguments),
            Self::Chat(arguments) => chat::run(&arguments),
            Self::Models(arguments) => models::run(&arguments),
            Self::Serve(arguments) => serve::run(arguments),
            Self::Bench(arguments) => bench::run(&arguments, started),
            Self::Eval(arguments) => eval::run(&arguments),
            Self::Store(arguments) => store::run(&arguments),
        }
    }
}
