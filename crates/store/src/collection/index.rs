//! The index of a large collection: what it is to be, and how it is made and kept.
//!
//! An index (a graph or a coarse form, `rows`) lies in one file beside the packed rows and is one of
//! them alone. Which it shall be is a setting of the collection; without one, a collection gets a
//! graph as soon as that pays.

use std::fs;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde_json::{Value, json};

use super::Collection;
use super::packed::{packed_path, packed_token};
use crate::rows::coarse::{Coarse, CoarseForm, CoarseInfo};
use crate::rows::graph::{Earlier, Graph, GraphInfo, GraphOptions, Work};
use crate::rows::{Index, Rows, file};
use crate::{Error, ErrorKind, Result};

/// What a search shall find of the ten closest, on a sample of the collection's own vectors: the
/// least work that reaches it is taken.
const RECALL_TARGET: f64 = 0.97;

/// The same of a coarse form, where it costs little more.
const COARSE_RECALL_TARGET: f64 = 0.999;

/// An index that finds less than this is not kept.
const RECALL_FLOOR: f64 = 0.9;

/// Codes of so many bytes make a graph pay: an exact search takes 2 ms then, twenty times as long as
/// a walk, and the graph is made in half a minute (`bench/store/README.md`).
const GRAPH_PAYS: usize = 64 << 20;

/// Made when it is needed first, so that files of earlier programs have none.
const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT";

/// How the closest vectors of a collection are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchMethod {
    /// Exactly, and through a graph as soon as that pays: from some 170,000 vectors of 384
    /// dimensions on.
    #[default]
    Automatic,
    /// Exactly.
    Exact,
    /// Through a graph.
    Graph(GraphOptions),
    /// By a coarse form of the vectors, read first.
    Coarse(CoarseForm),
}

/// What searches go through, if they are not exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum IndexInfo {
    /// A graph.
    Graph(GraphInfo),
    /// A coarse form.
    Coarse(CoarseInfo),
}

impl IndexInfo {
    /// Of the ten closest rows of the collection's own vectors, how many a search finds.
    #[must_use]
    pub fn recall_at_10(&self) -> f64 {
        match self {
            Self::Graph(info) => info.recall_at_10,
            Self::Coarse(info) => info.recall_at_10,
        }
    }

    /// What an index like it is made with.
    #[must_use]
    pub fn method(&self) -> SearchMethod {
        match self {
            Self::Graph(info) => SearchMethod::Graph(info.options()),
            Self::Coarse(info) => SearchMethod::Coarse(info.form),
        }
    }
}

impl SearchMethod {
    fn to_json(self) -> Value {
        match self {
            Self::Automatic => json!({"method": "automatic"}),
            Self::Exact => json!({"method": "exact"}),
            Self::Graph(GraphOptions { m, ef_construction }) => {
                json!({"method": "graph", "m": m, "ef_construction": ef_construction})
            }
            Self::Coarse(CoarseForm::Binary) => json!({"method": "binary"}),
            Self::Coarse(CoarseForm::Leading { dimensions }) => {
                json!({"method": "leading", "dimensions": dimensions})
            }
        }
    }

    /// What a later program may have written and this one does not know is as if it were not set.
    fn from_json(value: &Value) -> Self {
        let number = |name: &str| value[name].as_u64().and_then(|n| usize::try_from(n).ok());
        let default = GraphOptions::default();
        match value["method"].as_str() {
            Some("exact") => Self::Exact,
            Some("graph") => Self::Graph(GraphOptions {
                m: number("m").unwrap_or(default.m),
                ef_construction: number("ef_construction").unwrap_or(default.ef_construction),
            }),
            Some("binary") => Self::Coarse(CoarseForm::Binary),
            Some("leading") => match number("dimensions") {
                Some(dimensions) => Self::Coarse(CoarseForm::Leading { dimensions }),
                None => Self::Automatic,
            },
            _ => Self::Automatic,
        }
    }

    /// What is to be made for so many rows; `None` for an exact search.
    pub(super) fn wanted(self, num_rows: usize, dimensions: usize) -> Option<Self> {
        match self {
            Self::Exact => None,
            Self::Automatic => (num_rows.saturating_mul(dimensions) >= GRAPH_PAYS)
                .then(|| Self::Graph(GraphOptions::default())),
            other => Some(other),
        }
    }

    fn check(self, dimensions: usize) -> Result<()> {
        match self {
            Self::Graph(GraphOptions { m, .. }) if !(2..=256).contains(&m) => {
                Err(ErrorKind::GraphOptions { m }.into())
            }
            Self::Coarse(CoarseForm::Leading {
                dimensions: received,
            }) if !(1..dimensions).contains(&received) => Err(ErrorKind::LeadingDimensions {
                received,
                dimensions,
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// What the setting is when an index takes its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setting {
    /// This, from then on.
    Becomes(SearchMethod),
    /// Still this: whoever has set another meanwhile makes the index that it takes.
    Is(SearchMethod),
}

/// An index that was, with the ids of its rows: links are taken over from it.
pub(super) struct EarlierIndex {
    ids: Vec<i64>,
    index: Index,
}

impl EarlierIndex {
    pub(super) fn method(&self) -> SearchMethod {
        info_of(&self.index).method()
    }
}

impl Collection {
    /// How the closest vectors are to be found.
    ///
    /// # Errors
    ///
    /// If the collection cannot be read.
    pub fn search_method(&self) -> Result<SearchMethod> {
        self.read(search_method)
    }

    /// Sets how the closest vectors are found from now on, and makes the index that it takes, if it
    /// takes one; says what it is and how much it finds.
    ///
    /// An index is derived, and follows the collection: what comes after it is found exactly, and
    /// when enough has changed it is brought up to date with the packed rows, which a handle that is
    /// searched while it may write does in the background. Filters that let through little are
    /// answered exactly, too.
    ///
    /// # Errors
    ///
    /// If the collection has too few vectors for an index, its options are impossible, it would find
    /// less than nine of the ten closest (the setting is as it was then), or a file cannot be
    /// written.
    pub fn set_search_method(&self, method: SearchMethod) -> Result<Option<IndexInfo>> {
        drop(self.writer()?);
        let dimensions = self.info.space.dimensions;
        method.check(dimensions)?;
        let num_rows = self.num_vectors()?;
        match method.wanted(num_rows, dimensions) {
            None => {
                self.write(|connection| set_search_method(connection, method))?;
                self.remove_index()?;
                Ok(None)
            }
            Some(wanted) => {
                let setting = Setting::Becomes(method);
                let info = self.pack_and_index(wanted, setting, &self.work())?;
                Ok(Some(info))
            }
        }
    }

    /// What searches go through, if they are not exact.
    ///
    /// # Errors
    ///
    /// If the collection cannot be read.
    pub fn index_info(&self) -> Result<Option<IndexInfo>> {
        let token = self.read(packed_token)?;
        Ok(token.and_then(|token| Some(info_of(&self.index_of(token)?.index))))
    }

    /// Packs what came since the last time if it is much, and makes the index that the collection is
    /// to have; says what searches go through then. Searches and writes go on meanwhile.
    ///
    /// # Errors
    ///
    /// If the collection or a file beside it cannot be written.
    pub fn maintain(&self) -> Result<Option<IndexInfo>> {
        self.maintain_with(&self.work())
    }

    pub(super) fn maintain_with(&self, work: &Work<'_>) -> Result<Option<IndexInfo>> {
        self.pack_if_it_pays(work)?;
        let info = self.index_info()?;
        let setting = self.search_method()?;
        let wanted = setting.wanted(self.num_vectors()?, self.info.space.dimensions);
        match wanted {
            Some(wanted) if info.is_none_or(|info| info.method() != wanted) => {
                without_one(self.pack_and_index(wanted, Setting::Is(setting), work))?;
                self.index_info()
            }
            _ => Ok(info),
        }
    }

    /// Makes an index of all rows.
    fn pack_and_index(
        &self,
        method: SearchMethod,
        setting: Setting,
        work: &Work<'_>,
    ) -> Result<IndexInfo> {
        let earlier = match self.is_packed()? {
            true => None,
            false => self.pack_rows()?.1,
        };
        self.make_index(method, earlier.as_ref(), setting, work)
    }

    /// All cores, until it is done.
    pub(super) fn work(&self) -> Work<'_> {
        Work {
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            stop: &self.background.stop,
        }
    }

    pub(super) fn num_vectors(&self) -> Result<usize> {
        let count = "SELECT count(*) FROM vectors";
        let count = self.read(|state| state.query_row(count, [], |row| row.get::<_, i64>(0)))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The index of the packed rows with this token.
    pub(super) fn index_of(&self, token: i64) -> Option<EarlierIndex> {
        let dimensions = self.info.space.dimensions;
        let (ids, rows) = file::read(&packed_path(&self.path), token, dimensions)?;
        let index = read_index(&self.path, token, &rows)?;
        Some(EarlierIndex { ids, index })
    }

    /// Makes an index of the rows that are packed; says what was made, also if it did not take its
    /// place because of the setting.
    pub(super) fn make_index(
        &self,
        method: SearchMethod,
        earlier: Option<&EarlierIndex>,
        setting: Setting,
        work: &Work<'_>,
    ) -> Result<IndexInfo> {
        let dimensions = self.info.space.dimensions;
        method.check(dimensions)?;
        let few = || ErrorKind::TooFewForIndex {
            collection: self.info.name.clone(),
        };
        let token = self.read(packed_token)?.ok_or_else(few)?;
        let packed = file::read(&packed_path(&self.path), token, dimensions);
        let (ids, rows) = packed.filter(|(ids, _)| !ids.is_empty()).ok_or_else(few)?;
        let index = match method {
            SearchMethod::Coarse(form) => {
                Index::Coarse(Coarse::build(&rows, form, COARSE_RECALL_TARGET))
            }
            SearchMethod::Graph(options) => {
                let earlier = earlier.and_then(|earlier| match &earlier.index {
                    Index::Graph(graph) => Some(Earlier::new(graph, &earlier.ids, &ids)),
                    Index::Coarse(_) => None,
                });
                let graph = Graph::build(&rows, options, earlier.as_ref(), *work);
                let mut graph = graph.ok_or(ErrorKind::Stopped)?;
                graph.tune(&rows, RECALL_TARGET);
                Index::Graph(graph)
            }
            SearchMethod::Automatic | SearchMethod::Exact => return Err(few().into()),
        };
        let info = info_of(&index);
        if info.recall_at_10() < RECALL_FLOOR {
            let (recall, floor) = (info.recall_at_10(), RECALL_FLOOR);
            return Err(ErrorKind::LowRecall { recall, floor }.into());
        }
        self.write_index(&index, token, setting)?;
        Ok(info)
    }

    fn write_index(&self, index: &Index, token: i64, setting: Setting) -> Result<()> {
        let path = index_path(&self.path);
        let mut new = path.clone().into_os_string();
        new.push(format!("-{token:x}.new"));
        let new = PathBuf::from(new);
        let written = match index {
            Index::Graph(graph) => graph.write(&new, token),
            Index::Coarse(coarse) => coarse.write(&new, token),
        };
        let written = written.map_err(|source| ErrorKind::Io { path, source }.into());
        let put = written.and_then(|()| self.put_index(&new, setting));
        // Not there if it has been renamed.
        let _ = fs::remove_file(&new);
        put
    }

    /// Renames, marks and sets while nobody else can, so that of two who make an index at once that of
    /// the last setting stays.
    fn put_index(&self, new: &Path, setting: Setting) -> Result<()> {
        let at = |error| Error::sqlite(&self.path, error);
        self.forget_packed();
        let mut writer = self.writer()?;
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(at)?;
        match setting {
            Setting::Becomes(method) => set_search_method(&transaction, method).map_err(at)?,
            Setting::Is(method) if search_method(&transaction).map_err(at)? != method => {
                return Ok(());
            }
            Setting::Is(_) => {}
        }
        let path = index_path(&self.path);
        // What a search maps is never changed in place.
        fs::rename(new, &path).map_err(|source| ErrorKind::Io { path, source })?;
        mark_index(&transaction).map_err(at)?;
        transaction.commit().map_err(at)
    }

    /// Exact searches from now on.
    pub(super) fn remove_index(&self) -> Result<()> {
        let path = index_path(&self.path);
        match fs::remove_file(&path) {
            Ok(()) => self.note_index(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ErrorKind::Io { path, source }.into()),
        }
    }

    /// Lets all handles, in whatever process, see that there is no index.
    fn note_index(&self) -> Result<()> {
        self.forget_packed();
        let mut writer = self.writer()?;
        let mut run = || {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            mark_index(&transaction)?;
            transaction.commit()
        };
        run().map_err(|error| Error::sqlite(&self.path, error))
    }
}

/// Another mark for another index.
fn mark_index(connection: &Connection) -> rusqlite::Result<()> {
    let upsert = "INSERT OR REPLACE INTO derived (name, token) VALUES ('index', random())";
    connection.execute(upsert, []).map(drop)
}

fn set_search_method(connection: &Connection, method: SearchMethod) -> rusqlite::Result<()> {
    connection.execute_batch(TABLE)?;
    let upsert = "INSERT OR REPLACE INTO settings (name, value) VALUES ('search', ?1)";
    let method = method.to_json().to_string();
    connection.execute(upsert, [method]).map(drop)
}

/// No index if there can be none for so few rows, or none that finds enough: searches are exact then.
pub(super) fn without_one(made: Result<IndexInfo>) -> Result<Option<IndexInfo>> {
    match made {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::TooFewForIndex { .. } | ErrorKind::LowRecall { .. }
            ) =>
        {
            Ok(None)
        }
        made => made.map(Some),
    }
}

/// The index beside the collection at `path`, if it is one of the packed rows with this token.
pub(super) fn read_index(path: &Path, token: i64, rows: &Rows) -> Option<Index> {
    let path = index_path(path);
    let graph = Graph::read(&path, token, rows).map(Index::Graph);
    graph.or_else(|| Coarse::read(&path, token, rows).map(Index::Coarse))
}

/// False if the file at `path` is of this token and not what was written.
pub(super) fn verify_index(path: &Path, token: i64) -> bool {
    let path = index_path(path);
    Graph::verify(&path, token) && Coarse::verify(&path, token)
}

/// A number that is another one for another index.
pub(super) fn index_mark(state: &Connection) -> rusqlite::Result<Option<i64>> {
    let select = "SELECT token FROM derived WHERE name = 'index'";
    state.query_row(select, [], |row| row.get(0)).optional()
}

fn info_of(index: &Index) -> IndexInfo {
    match index {
        Index::Graph(graph) => IndexInfo::Graph(graph.info()),
        Index::Coarse(coarse) => IndexInfo::Coarse(coarse.info()),
    }
}

pub(super) fn search_method(state: &Connection) -> rusqlite::Result<SearchMethod> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'settings'";
    let table = state.query_row(table, [], |_| Ok(())).optional()?;
    if table.is_none() {
        return Ok(SearchMethod::Automatic);
    }
    let select = "SELECT value FROM settings WHERE name = 'search'";
    let value: Option<String> = state.query_row(select, [], |row| row.get(0)).optional()?;
    let value = value.and_then(|value| serde_json::from_str(&value).ok());
    Ok(value.map_or(SearchMethod::Automatic, |value: Value| {
        SearchMethod::from_json(&value)
    }))
}

/// The file of the index of the collection at `path`.
pub(super) fn index_path(path: &Path) -> PathBuf {
    let mut index = path.as_os_str().to_owned();
    index.push("-index");
    index.into()
}
