//! The `wenyi` program: a question or a text comes in, [`commands`] answer it with the library,
//! [`output`] shows it, [`exit`] says how it ended.

mod arguments;
mod interrupt;
mod progress;
mod texts;
mod model;
mod collection;
mod question;
mod answering;
mod vector_file;
mod commands;
mod output;
mod exit;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = arguments::Cli::parse();
    interrupt::listen();
    exit::finish(cli.command.run(started))
}
