//! `wenyi models list`.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use wenyi::hub::{CatalogEntry, DEFAULT_MODEL, Hub, Manifest, ModelKind, ModelStatus};

use crate::output::table::{Align, Table};
use crate::output::{self, quantity, style};

/// Show the models known by name, and which of them are on this machine
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only models on this machine
    #[arg(long)]
    installed: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    models: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    default: bool,
    installed: &'a [Manifest],
    catalog: Option<&'a CatalogEntry>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut list = Hub::from_env()?.list()?;
    list.retain(|status| !arguments.installed || !status.installed.is_empty());
    if arguments.json {
        let models = list.iter().map(line).collect();
        return output::json(&Report { models });
    }
    print(&list)
}

fn line(status: &ModelStatus) -> Line<'_> {
    Line {
        id: &status.id,
        default: status.id == DEFAULT_MODEL,
        installed: &status.installed,
        catalog: status.entry,
    }
}

fn print(list: &[ModelStatus]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let style = style::stdout();
    if list.is_empty() {
        writeln!(
            stdout,
            "no models on this machine; `wenyi models pull` fetches the default one"
        )?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("model", Align::Left),
        ("gives", Align::Left),
        ("tokens", Align::Right),
        ("languages", Align::Left),
        ("size", Align::Right),
        ("licence", Align::Left),
        ("here", Align::Left),
    ]);
    for status in list {
        table.row(cells(status));
    }
    write!(stdout, "{}", table.render(style))?;
    let words = format!("default: {DEFAULT_MODEL}; `wenyi models pull MODEL` fetches a model");
    writeln!(stdout, "\n{}", style.dim(&words))?;
    Ok(())
}

fn cells(status: &ModelStatus) -> Vec<String> {
    let here = if status.installed.is_empty() {
        ""
    } else {
        "yes"
    };
    let Some(entry) = status.entry else {
        // Fetched by its repository's name: only its files are known without opening it.
        let size = status.installed.iter().map(Manifest::size).sum();
        let empty = String::new;
        let size = quantity::bytes(size);
        return vec![
            status.id.clone(),
            empty(),
            empty(),
            empty(),
            size,
            empty(),
            here.into(),
        ];
    };
    let gives = match (entry.kind, entry.dimensions) {
        (ModelKind::Embedding, Some(dimensions)) => format!("{dimensions} dimensions"),
        (ModelKind::Reranker, _) => "relevance".into(),
        (ModelKind::Chat, _) => "answers".into(),
        (kind, None) => kind.to_string(),
    };
    vec![
        entry.id.clone(),
        gives,
        quantity::grouped(entry.max_tokens as u64),
        entry.languages.join(", "),
        quantity::bytes(entry.size),
        entry.licence.clone(),
        here.into(),
    ]
}
