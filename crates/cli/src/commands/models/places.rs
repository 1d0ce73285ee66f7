//! `wenyi models path` and `remove`: where a model lies, and that it no longer does.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use wenyi::hub::DEFAULT_MODEL;

use super::pull::Pulled;
use crate::model;
use crate::output::{self, quantity};
use crate::progress::Terminal;

/// Print where a model lies on this machine
#[derive(Args, Debug)]
pub(crate) struct PathArguments {
    /// The model
    #[arg(value_name = "MODEL", default_value = DEFAULT_MODEL)]
    model: String,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Remove models from this machine
#[derive(Args, Debug)]
pub(crate) struct RemoveArguments {
    /// Models to remove, in all their revisions
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn path(arguments: &PathArguments) -> anyhow::Result<()> {
    let model = model::hub(true)?.path(&arguments.model)?;
    if arguments.json {
        return output::json(&Pulled::from(model));
    }
    writeln!(io::stdout().lock(), "{}", model.path.display())?;
    Ok(())
}

pub(crate) fn remove(arguments: &RemoveArguments) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Removed<'a> {
        id: &'a str,
        freed_bytes: u64,
    }
    #[derive(Serialize)]
    struct Report<'a> {
        removed: Vec<Removed<'a>>,
    }
    let hub = model::hub(true)?;
    let progress = Terminal::new(arguments.json);
    let mut removed = Vec::new();
    for id in &arguments.models {
        let freed_bytes = hub.remove(id, &progress)?;
        if !arguments.json {
            let freed = quantity::bytes(freed_bytes);
            writeln!(io::stdout().lock(), "{id} removed, {freed} freed")?;
        }
        removed.push(Removed { id, freed_bytes });
    }
    if arguments.json {
        output::json(&Report { removed })
    } else {
        Ok(())
    }
}
