//! `wenyi store migrate`: a collection's passages with another model's vectors.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use wenyi::retrieve::migrate;
use wenyi::store::Collection;

use crate::arguments::ModelArguments;
use crate::exit::{Stopped, UserError};
use crate::model;
use crate::output::{self, quantity};
use crate::progress::Terminal;

#[derive(Args, Debug)]
pub(super) struct MigrateArguments {
    /// The collection's file
    #[arg(value_name = "COLLECTION.db")]
    collection: PathBuf,

    /// Give a migration up that was begun: the old vectors stay
    #[arg(long)]
    abandon: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

pub(super) fn run(arguments: &MigrateArguments) -> anyhow::Result<()> {
    let collection = Collection::open(&arguments.collection)?;
    if arguments.abandon {
        let abandoned = collection.abandon_migration()?;
        if arguments.json {
            return output::json(&serde_json::json!({"abandoned": abandoned}));
        }
        let said = match abandoned {
            true => "given up; the old vectors are as they were",
            false => "no migration was begun",
        };
        writeln!(io::stdout().lock(), "{said}")?;
        return Ok(());
    }
    if arguments.model.model.is_none() {
        let error = UserError::new("no model was named to migrate to".to_owned());
        return Err(error.with_hint("name it with `--model NAME`").into());
    }
    let progress = Terminal::new(arguments.json);
    let embedder = model::open(&arguments.model, None, &progress)?;
    let report = migrate(embedder.as_ref(), &collection, &progress)?;
    if report.cancelled {
        let kept = quantity::counted(report.resumed + report.embedded, "passage");
        let message = format!("{kept} embedded and kept; the same command goes on from there");
        return Err(Stopped { message }.into());
    }
    if arguments.json {
        return output::json(&report);
    }
    let passages = quantity::counted(report.resumed + report.embedded, "passage");
    let model = &embedder.fingerprint().model;
    writeln!(io::stdout().lock(), "{passages} now with {model}")?;
    Ok(())
}
