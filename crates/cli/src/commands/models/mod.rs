//! `wenyi models`: which models there are, and how they come to this machine and leave it.

mod list;
mod pull;
mod verify;
mod places;
mod carry;

use clap::{Args, Subcommand};

/// List, fetch, check and remove models
///
/// A model is a name that `wenyi models list` shows, or any Hugging Face repository `org/name` of a
/// supported architecture. Fetched models are kept in `$WENYI_CACHE`, `$XDG_CACHE_HOME/wenyi` or
/// `~/.cache/wenyi`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(list::Arguments),
    Pull(pull::Arguments),
    Verify(verify::Arguments),
    Path(places::PathArguments),
    Remove(places::RemoveArguments),
    Bundle(carry::BundleArguments),
    Import(carry::ImportArguments),
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::List(arguments) => list::run(arguments),
        What::Pull(arguments) => pull::run(arguments),
        What::Verify(arguments) => verify::run(arguments),
        What::Path(arguments) => places::path(arguments),
        What::Remove(arguments) => places::remove(arguments),
        What::Bundle(arguments) => carry::bundle(arguments),
        What::Import(arguments) => carry::import(arguments),
    }
}
