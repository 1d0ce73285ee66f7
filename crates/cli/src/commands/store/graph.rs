//! `wenyi store graph`: a graph over the vectors of a large collection.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use wenyi::store::{Collection, GraphInfo, GraphOptions};

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

    /// Remove the graph: searches are exact again
    #[arg(long, conflicts_with_all = ["m", "ef_construction"])]
    remove: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A graph as `--json` prints it.
#[derive(Serialize)]
pub(super) struct Graph {
    vectors: usize,
    m: usize,
    ef_construction: usize,
    ef_search: usize,
    recall_at_10: f64,
}

impl From<GraphInfo> for Graph {
    fn from(info: GraphInfo) -> Self {
        Self {
            vectors: info.num_rows,
            m: info.m,
            ef_construction: info.ef_construction,
            ef_search: info.ef_search,
            recall_at_10: info.recall_at_10,
        }
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "graph of {} vectors, recall@10 {:.3} (m {}, ef_construction {}, ef_search {})",
            quantity::grouped(self.vectors as u64),
            self.recall_at_10,
            self.m,
            self.ef_construction,
            self.ef_search,
        )
    }
}

pub(super) fn run(arguments: &GraphArguments) -> anyhow::Result<()> {
    let collection = Collection::open(&arguments.collection)?;
    let graph: Option<Graph> = if arguments.remove {
        collection.remove_graph()?;
        None
    } else {
        let options = GraphOptions {
            m: arguments.m,
            ef_construction: arguments.ef_construction,
        };
        Some(collection.build_graph(options)?.into())
    };
    if arguments.json {
        return output::json(&graph);
    }
    let said = graph.map_or_else(|| "exact search".to_owned(), |graph| graph.to_string());
    writeln!(io::stdout().lock(), "{said}")?;
    Ok(())
}
