//! `wenyi store graph | coarse`: how the closest vectors of a large collection are found.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use wenyi::store::{CoarseForm, Collection, GraphOptions, IndexInfo, SearchMethod};

use crate::output::{self, quantity};

#[derive(Args, Debug)]
pub(super) struct GraphArguments {
    /// The collection's file
    #[arg(value_name = "COLLECTION.db")]
    collection: PathBuf,

    /// Links of a vector on each layer but the lowest, which has twice as many
    #[arg(long, value_name = "LINKS", default_value_t = GraphOptions::default().m)]
    m: usize,

    /// How many of the closest are looked at for the links of a vector
    #[arg(long, value_name = "N", default_value_t = GraphOptions::default().ef_construction)]
    ef_construction: usize,

    /// Make one as soon as it pays, which is how collections are made
    #[arg(long, conflicts_with_all = ["m", "ef_construction", "remove"])]
    automatic: bool,

    /// Remove the graph: searches are exact again, and stay so
    #[arg(long, conflicts_with_all = ["m", "ef_construction"])]
    remove: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct CoarseArguments {
    /// The collection's file
    #[arg(value_name = "COLLECTION.db")]
    collection: PathBuf,

    /// Read one bit a dimension first
    #[arg(long, conflicts_with = "leading")]
    binary: bool,

    /// Read the leading dimensions first, for models trained so (Matryoshka)
    #[arg(long, value_name = "DIMENSIONS", required_unless_present_any = ["binary", "remove"])]
    leading: Option<usize>,

    /// Remove the coarse form: searches are exact again, and stay so
    #[arg(long, conflicts_with_all = ["binary", "leading"])]
    remove: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// An index as `--json` prints it.
#[derive(Serialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub(super) enum Index {
    Graph {
        vectors: usize,
        m: usize,
        ef_construction: usize,
        ef_search: usize,
        recall_at_10: f64,
    },
    Binary {
        vectors: usize,
        oversampling: usize,
        recall_at_10: f64,
    },
    Leading {
        vectors: usize,
        dimensions: usize,
        oversampling: usize,
        recall_at_10: f64,
    },
}

impl From<IndexInfo> for Index {
    fn from(info: IndexInfo) -> Self {
        match info {
            IndexInfo::Graph(info) => Self::Graph {
                vectors: info.num_rows,
                m: info.m,
                ef_construction: info.ef_construction,
                ef_search: info.ef_search,
                recall_at_10: info.recall_at_10,
            },
            IndexInfo::Coarse(info) => match info.form {
                CoarseForm::Binary => Self::Binary {
                    vectors: info.num_rows,
                    oversampling: info.oversampling,
                    recall_at_10: info.recall_at_10,
                },
                CoarseForm::Leading { dimensions } => Self::Leading {
                    vectors: info.num_rows,
                    dimensions,
                    oversampling: info.oversampling,
                    recall_at_10: info.recall_at_10,
                },
            },
        }
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grouped = |vectors: &usize| quantity::grouped(*vectors as u64);
        match self {
            Self::Graph {
                vectors,
                m,
                ef_construction,
                ef_search,
                recall_at_10,
            } => write!(
                f,
                "graph of {} vectors, recall@10 {recall_at_10:.3} (m {m}, ef_construction \
                 {ef_construction}, ef_search {ef_search})",
                grouped(vectors),
            ),
            Self::Binary {
                vectors,
                oversampling,
                recall_at_10,
            } => write!(
                f,
                "bits of {} vectors, recall@10 {recall_at_10:.3} ({oversampling} times as many \
                 scored in f32)",
                grouped(vectors),
            ),
            Self::Leading {
                vectors,
                dimensions,
                oversampling,
                recall_at_10,
            } => write!(
                f,
                "{dimensions} leading dimensions of {} vectors, recall@10 {recall_at_10:.3} \
                 ({oversampling} times as many scored in f32)",
                grouped(vectors),
            ),
        }
    }
}

pub(super) fn graph(arguments: &GraphArguments) -> anyhow::Result<()> {
    let options = GraphOptions {
        m: arguments.m,
        ef_construction: arguments.ef_construction,
    };
    let method = match (arguments.remove, arguments.automatic) {
        (true, _) => SearchMethod::Exact,
        (_, true) => SearchMethod::Automatic,
        _ => SearchMethod::Graph(options),
    };
    set(&arguments.collection, method, arguments.json)
}

pub(super) fn coarse(arguments: &CoarseArguments) -> anyhow::Result<()> {
    let method = match arguments.leading {
        _ if arguments.remove => SearchMethod::Exact,
        Some(dimensions) => SearchMethod::Coarse(CoarseForm::Leading { dimensions }),
        None => SearchMethod::Coarse(CoarseForm::Binary),
    };
    set(&arguments.collection, method, arguments.json)
}

fn set(collection: &Path, method: SearchMethod, json: bool) -> anyhow::Result<()> {
    let index = Collection::open(collection)?.set_search_method(method)?;
    let index: Option<Index> = index.map(Into::into);
    if json {
        return output::json(&index);
    }
    let said = index.map_or_else(|| "exact search".to_owned(), |index| index.to_string());
    writeln!(io::stdout().lock(), "{said}")?;
    Ok(())
}
