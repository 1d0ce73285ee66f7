//! `wenyi store check | repair`: what disagrees in a collection or a file of points, and what to do then.

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use serde_json::json;
use wenyi::retrieve::{Differing, ErrorKind, VerifyReport, restore, verify};
use wenyi::store::{CheckReport, Collection};

use super::place::file_of;
use super::points;
use crate::arguments::{ModelArguments, positive};
use crate::collection::remembered_model;
use crate::exit::{Stopped, Unsound, UserError};
use crate::output::{self, quantity};
use crate::progress::Terminal;
use crate::{interrupt, model};

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// The collection's file, or a file of points
    #[arg(value_name = "COLLECTION.db")]
    collection: String,

    /// Also embed N passages again, chosen at random, and prove that their vectors are those of their
    /// texts; by default with the model that made the collection
    #[arg(long, value_name = "N", value_parser = positive)]
    sample: Option<usize>,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

#[derive(Args, Debug)]
pub(super) struct RepairArguments {
    /// The collection's file, or a file of points
    #[arg(value_name = "COLLECTION.db")]
    collection: String,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

/// What was found, and by which command.
struct Finding<'a> {
    file: &'a Path,
    report: CheckReport,
    verified: Option<VerifyReport>,
    is_repaired: bool,
    /// Passages that have a vector again.
    num_restored: u64,
}

pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<()> {
    let file = &file_of(&arguments.collection, "check")?;
    let finding = |report, verified| Finding {
        file,
        report,
        verified,
        is_repaired: false,
        num_restored: 0,
    };
    if points::is_points(file) {
        if arguments.sample.is_some() {
            let message = format!("`{}` is a file of points", file.display());
            return Err(UserError::new(message)
                .with_hint(
                    "`--sample` embeds the passages of a collection of `wenyi index`; what points \
                     were made of is not known",
                )
                .into());
        }
        let report = points::open(file)?.check()?;
        return finding(report, None).print(arguments.json);
    }
    let collection = Collection::open_read_only(file)?;
    let report = collection.check()?;
    let verified = arguments
        .sample
        .map(|sample| verified(&collection, sample, arguments))
        .transpose()?;
    finding(report, verified).print(arguments.json)
}

fn verified(
    collection: &Collection,
    sample: usize,
    arguments: &CheckArguments,
) -> anyhow::Result<VerifyReport> {
    interrupt::listen();
    let progress = Terminal::new(arguments.json);
    let hub = model::hub(arguments.model.compute.offline)?;
    let remembered = remembered_model(collection.path(), &hub);
    let embedder = model::open(&arguments.model, remembered.as_deref(), &progress)?;
    let report = verify(embedder.as_ref(), collection, sample, &progress)?;
    if report.cancelled {
        let message = format!("{} compared", quantity::counted(report.verified, "passage"));
        return Err(Stopped { message }.into());
    }
    Ok(report)
}

pub(super) fn repair(arguments: &RepairArguments) -> anyhow::Result<()> {
    let file = &file_of(&arguments.collection, "repair")?;
    let (report, num_restored) = if points::is_points(file) {
        (points::open(file)?.repair()?, 0)
    } else {
        let collection = Collection::open(file)?;
        // First: what still has no vector then is taken away.
        let num_restored = restored(&collection, arguments)?;
        (collection.repair()?, num_restored)
    };
    let finding = Finding {
        file,
        report,
        verified: None,
        is_repaired: true,
        num_restored,
    };
    finding.print(arguments.json)
}

/// Passages that lost their vector and have one again; the model is needed for these alone.
fn restored(collection: &Collection, arguments: &RepairArguments) -> anyhow::Result<u64> {
    if collection.chunks_without_vector()?.is_empty() {
        return Ok(0);
    }
    interrupt::listen();
    let progress = Terminal::new(arguments.json);
    let hub = model::hub(arguments.model.compute.offline)?;
    let remembered = remembered_model(collection.path(), &hub);
    let embedder = model::open(&arguments.model, remembered.as_deref(), &progress)?;
    restore(embedder.as_ref(), collection, &progress).map_err(|error| match error.kind() {
        ErrorKind::Cancelled => {
            let message = "what was embedded is kept; run it again to go on".into();
            Stopped { message }.into()
        }
        _ => error.into(),
    })
}

impl Finding<'_> {
    /// Prints what disagrees; that something does is an error.
    fn print(&self, json: bool) -> anyhow::Result<()> {
        let differing = self.differing();
        let count = self.report.problems.len() + usize::from(!differing.is_empty());
        match json {
            true => self.print_json()?,
            false => self.print_text()?,
        }
        if count == 0 {
            return Ok(());
        }
        let file = self.file.display();
        let problems = quantity::counted(count as u64, "problem");
        Err(Unsound {
            message: format!("`{file}` has {problems}"),
            hint: self.hint(),
        }
        .into())
    }

    fn differing(&self) -> &[Differing] {
        self.verified
            .as_ref()
            .map_or(&[], |verified| &verified.differing)
    }

    fn print_json(&self) -> anyhow::Result<()> {
        let is_sound = self.report.is_clean() && self.differing().is_empty();
        let mut found = json!({"sound": is_sound, "problems": self.report.problems});
        if !self.report.incomplete_documents.is_empty() {
            found["incomplete_documents"] = json!(self.report.incomplete_documents);
        }
        if self.num_restored > 0 {
            found["restored"] = self.num_restored.into();
        }
        if let Some(verified) = &self.verified {
            found["verified"] = verified.verified.into();
            found["differing"] = json!(verified.differing);
        }
        output::json(&found)
    }

    fn print_text(&self) -> anyhow::Result<()> {
        /// Passages that are named to people.
        const NAMED: usize = 10;
        let mut stdout = io::stdout().lock();
        if self.num_restored > 0 {
            let passages = quantity::counted(self.num_restored, "passage");
            writeln!(stdout, "{passages} without a vector: embedded again")?;
        }
        for problem in &self.report.problems {
            writeln!(stdout, "{problem}")?;
        }
        let differing = self.differing();
        if !differing.is_empty() {
            let passages = quantity::counted(differing.len() as u64, "passage");
            writeln!(stdout, "{passages} whose vector is not that of the text:")?;
        }
        for passage in differing.iter().take(NAMED) {
            let (first, last) = (passage.first_line, passage.last_line);
            let (path, cosine) = (&passage.path, passage.cosine);
            writeln!(stdout, "  {path}:{first}-{last} (cosine {cosine:.3})")?;
        }
        if self.report.is_clean() && differing.is_empty() {
            writeln!(stdout, "sound: all that is in it agrees")?;
            if let Some(verified) = &self.verified {
                let passages = quantity::counted(verified.verified, "passage");
                writeln!(stdout, "{passages} embedded again, with the same vectors")?;
            }
        }
        Ok(())
    }

    /// The command that cures it.
    fn hint(&self) -> String {
        let file = self.file.display();
        let index = format!("`wenyi index FOLDER --collection {file}`");
        if !self.differing().is_empty() {
            return format!(
                "`wenyi index FOLDER --collection {file} --reindex` embeds all documents again"
            );
        }
        let incomplete = &self.report.incomplete_documents;
        let documents = quantity::counted(incomplete.len() as u64, "document");
        match (incomplete.first(), self.is_repaired) {
            (Some(path), true) => format!(
                "{index} reads and embeds {documents} again that have lost passages, such as `{path}`"
            ),
            (Some(path), false) => format!(
                "`wenyi store repair {file}` embeds again what lost its vector; passages that are gone come \
                 back with {index}: {documents} have lost something, such as `{path}`"
            ),
            (None, true) => {
                "restore the file from a backup, or index or import again into a new one".into()
            }
            (None, false) => format!("`wenyi store repair {file}` makes anew what it can"),
        }
    }
}
