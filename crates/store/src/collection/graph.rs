//! The graph over the packed rows of a large collection.

use std::fs;
use std::io;

use super::Collection;
use super::packed::{graph_path, packed_path, packed_token};
use crate::rows::file;
use crate::rows::graph::{Graph, GraphInfo, GraphOptions};
use crate::{ErrorKind, Result};

/// What a search shall find of the ten closest, on a sample of the collection's own vectors: the
/// smallest `ef_search` that reaches it is taken.
const RECALL_TARGET: f64 = 0.97;

impl Collection {
    /// Makes a graph (HNSW) of the collection's vectors, through which searches go from then on: of
    /// a million vectors in a fraction of the time, at the price of a few hits that are missed. Says
    /// how much it finds.
    ///
    /// The graph lies in a file beside the collection. It is derived, and is made anew with the
    /// packed rows when much has changed; what comes in between is found exactly. Filters that let
    /// through little are answered exactly, too.
    ///
    /// # Errors
    ///
    /// If the collection has too few vectors for a graph, or the files cannot be written.
    pub fn build_graph(&self, options: GraphOptions) -> Result<GraphInfo> {
        self.remove_graph()?;
        self.pack()?;
        self.make_graph(options)
    }

    /// [`Collection::build_graph`] of the rows that are packed. Searches go on meanwhile.
    pub(super) fn make_graph(&self, options: GraphOptions) -> Result<GraphInfo> {
        if !(2..=256).contains(&options.m) {
            return Err(ErrorKind::GraphOptions { m: options.m }.into());
        }
        let dimensions = self.info.space.dimensions;
        let read = |token| {
            Some((
                token,
                file::read(&packed_path(&self.path), token, dimensions)?,
            ))
        };
        let packed = self.read(packed_token)?.and_then(read);
        let few = || ErrorKind::TooFewForGraph {
            collection: self.info.name.clone(),
        };
        let (token, (_, rows)) = packed.ok_or_else(few)?;
        if rows.base() == 0 {
            return Err(few().into());
        }
        let mut graph = Graph::build(&rows, options);
        graph.tune(&rows, RECALL_TARGET);
        let path = graph_path(&self.path);
        let mut new = path.clone().into_os_string();
        new.push(format!("-{token:x}.new"));
        let written = graph.write(new.as_ref(), token);
        written
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| {
                let _ = fs::remove_file(&new);
                ErrorKind::Io { path, source }
            })?;
        self.forget_packed();
        Ok(graph.info())
    }

    /// Removes the graph; says whether there was one. Searches are exact then.
    ///
    /// # Errors
    ///
    /// If its file cannot be removed.
    pub fn remove_graph(&self) -> Result<bool> {
        drop(self.writer()?);
        let path = graph_path(&self.path);
        let removed = match fs::remove_file(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(ErrorKind::Io { path, source }.into()),
        };
        self.forget_packed();
        Ok(removed)
    }

    /// The graph that searches go through, if there is one.
    ///
    /// # Errors
    ///
    /// If the collection cannot be read.
    pub fn graph_info(&self) -> Result<Option<GraphInfo>> {
        let dimensions = self.info.space.dimensions;
        let Some(token) = self.read(packed_token)? else {
            return Ok(None);
        };
        let rows = file::read(&packed_path(&self.path), token, dimensions);
        let graph = rows.and_then(|(_, rows)| Graph::read(&graph_path(&self.path), token, &rows));
        Ok(graph.map(|graph| graph.info()))
    }
}
