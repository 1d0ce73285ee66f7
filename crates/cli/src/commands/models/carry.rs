//! `wenyi models bundle` and `import`: models on a stick, for machines without a network.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use wenyi::hub::DEFAULT_MODEL;

use super::pull;
use crate::model;
use crate::output::{self, quantity, style};
use crate::progress::Terminal;

/// Put models into one file, for a machine without a network
#[derive(Args, Debug)]
#[command(after_help = BUNDLE_EXAMPLES)]
pub(crate) struct BundleArguments {
    /// Models of this machine
    #[arg(value_name = "MODEL", default_value = DEFAULT_MODEL)]
    models: Vec<String>,

    /// The file to write, a tar archive
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const BUNDLE_EXAMPLES: &str = "\
Examples:
  wenyi models bundle multilingual-e5-small all-MiniLM-L6-v2 --output models.tar
  wenyi models import models.tar        (on the other machine)";

/// Install the models of a bundle
///
/// Every file is checked against its SHA-256; models appear whole or not at all.
#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    /// What `wenyi models bundle` wrote
    #[arg(value_name = "FILE")]
    bundle: PathBuf,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn bundle(arguments: &BundleArguments) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        output: &'a PathBuf,
        models: &'a [String],
        size: u64,
    }
    let progress = Terminal::new(arguments.json);
    let models: Vec<&str> = arguments.models.iter().map(String::as_str).collect();
    let size = model::hub(true)?.bundle(&models, &arguments.output, &progress)?;
    drop(progress);
    if arguments.json {
        let (output, models) = (&arguments.output, arguments.models.as_slice());
        return output::json(&Report {
            output,
            models,
            size,
        });
    }
    let output = arguments.output.display().to_string();
    let (models, size) = (arguments.models.join(", "), quantity::bytes(size));
    writeln!(
        io::stdout().lock(),
        "{}: {models} · {size}",
        style::stdout().accent(&output)
    )?;
    Ok(())
}

pub(crate) fn import(arguments: &ImportArguments) -> anyhow::Result<()> {
    let progress = Terminal::new(arguments.json);
    let models = model::hub(true)?.import(&arguments.bundle, &progress)?;
    drop(progress);
    pull::report(models, arguments.json)
}
