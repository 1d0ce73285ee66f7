//! The verbs, one file each.

mod embed;

use std::time::Instant;

use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Embed(embed::Arguments),
}

impl Command {
    /// Does it; `started` is when the program began.
    pub(crate) fn run(self, started: Instant) -> anyhow::Result<()> {
        let _ = started;
        match self {
            Self::Embed(arguments) => embed::run(&arguments),
        }
    }
}
