//! The vectors packed in memory, kept in step with the file, and the file of packed rows.
//!
//! The first search of a handle maps the packed rows that lie beside the collection, if there are
//! any, and reads from the collection only what came later. The handle that wrote most of it leaves
//! them there when it is closed.

use std::collections::{HashMap, HashSet};
use std::fs::DirEntry;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};
use serde_json::Value;

use super::Collection;
use super::index::{EarlierIndex, Setting, index_mark, read_index, without_one};
use super::read::{json, to_floats};
use crate::codes::BLOCK;
use crate::document::Filter;
use crate::filter::Conditions;
use crate::rows::graph::Work;
use crate::rows::{Allowed, Rows, file};
use crate::{Error, ErrorKind, Result};

/// Rows that are read from SQLite in some 20 ms: fewer are not worth a file.
pub(super) const WORTH_A_FILE: usize = 4096;

/// If more than this part of the rows is not in the file of packed rows, it is written anew when a
/// handle that may write is closed.
pub(super) const UNPACKED_PART: usize = 8;

/// Nobody writes a file for so long.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// The reading connection with what it has read of the vectors.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) packed: Packed,
    /// SQLite's mark of the state that `packed` was read in; `None` before the first search.
    pub(super) data_version: Option<i64>,
}

/// The vectors of a collection, row by row, in the order of their chunks' ids.
pub(super) struct Packed {
    pub(super) chunk_ids: Vec<i64>,
    /// A row's rank is its place among all chunks ordered by document path and ordinal.
    pub(super) rows: Rows,
    /// In the order of their paths.
    documents: Vec<PackedDocument>,
    /// The packed file that is mapped, and the mark of its index.
    mapped: Option<i64>,
    index: Option<i64>,
}

/// A chunk's id and rank.
type LiveChunk = (i64, u32);

struct PackedDocument {
    id: i64,
    path: String,
    ranks: Range<u32>,
}

impl Collection {
    /// Writes the packed rows of the collection's vectors to a file beside it, from which later
    /// handles map them instead of reading every vector; says how many it holds.
    ///
    /// The file is derived and may be removed at any time. It is made by itself where it pays: when
    /// a handle that may write is closed, of a collection of some thousands of chunks.
    ///
    /// # Errors
    ///
    /// If the collection or the file beside it cannot be written.
    pub fn pack(&self) -> Result<usize> {
        self.pack_with(&self.work())
    }

    fn pack_with(&self, work: &Work<'_>) -> Result<usize> {
        let setting = Setting::Is(self.search_method()?);
        let (num_rows, earlier) = self.pack_rows()?;
        if let Some(earlier) = earlier {
            // It was one of the rows as they were.
            without_one(self.make_index(earlier.method(), Some(&earlier), setting, work))?;
        }
        Ok(num_rows)
    }

    /// [`Collection::pack`] without an index of the packed rows; gives the one that there was.
    pub(super) fn pack_rows(&self) -> Result<(usize, Option<EarlierIndex>)> {
        let at = |error| Error::sqlite(&self.path, error);
        self.remove_left_over();
        let earlier = self.read(packed_token)?;
        let earlier = earlier.and_then(|token| self.index_of(token));
        let new = self.with_state(|state, packed| {
            let random = state.query_row("SELECT random()", [], |row| row.get::<_, i64>(0));
            let token = random.map_err(at)?;
            let mut path = self.path.clone().into_os_string();
            path.push(format!("-{token:x}.new"));
            let new = NewFile {
                earlier: packed_token(state).map_err(at)?,
                token,
                path: path.into(),
            };
            let ids: Vec<i64> = packed.live_ids().collect();
            match file::write(&new.path, token, &ids, &packed.rows) {
                Ok(num_rows) => Ok((new, num_rows)),
                Err(source) => {
                    let path = new.path.clone();
                    Err(ErrorKind::Io { path, source }.into())
                }
            }
        });
        let (new, num_rows) = new?;
        self.put_in_place(&new).map_err(at)?;
        self.forget_packed();
        Ok((num_rows, earlier))
    }

    /// True if the packed rows are all that there are, but for the last few.
    pub(super) fn is_packed(&self) -> Result<bool> {
        self.with_state(|_, packed| {
            let rows = &packed.rows;
            let behind = rows.len() - rows.base();
            Ok(packed.mapped.is_some() && behind < BLOCK && rows.num_live() == rows.len())
        })
    }

    /// Renames and marks while nobody else can, so that of two who pack at once the file and the
    /// token of one stay.
    fn put_in_place(&self, new: &NewFile) -> rusqlite::Result<()> {
        let Ok(mut writer) = self.writer() else {
            return Ok(());
        };
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if packed_token(&transaction)? != new.earlier {
            return Ok(());
        }
        let upsert = "INSERT INTO derived (name, token) VALUES ('packed', ?1)
                      ON CONFLICT (name) DO UPDATE SET token = excluded.token";
        transaction.execute(upsert, [new.token])?;
        match std::fs::rename(&new.path, packed_path(&self.path)) {
            Ok(()) => transaction.commit(),
            Err(_) => Ok(()),
        }
    }

    /// Removes what a process that was killed while it packed has left, long ago.
    fn remove_left_over(&self) {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return;
        };
        let prefix = format!("{}-", name.to_string_lossy());
        let is_old = |file: &DirEntry| {
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFT_OVER))
        };
        for file in folder.read_dir().into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with(&prefix)
                && file.path().extension().is_some_and(|end| end == "new")
                && is_old(&file)
            {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }

    /// The number of vectors in the file of packed rows, if there is one of this collection.
    ///
    /// # Errors
    ///
    /// If the collection cannot be read.
    pub fn num_packed(&self) -> Result<Option<usize>> {
        let token = self.read(packed_token)?;
        let dimensions = self.info.space.dimensions;
        Ok(token.and_then(|token| file::num_rows(&packed_path(&self.path), token, dimensions)))
    }

    /// Lets the next search begin with the file of packed rows.
    pub(super) fn forget_packed(&self) {
        let mut reader = self.reader();
        reader.data_version = None;
        reader.packed = Packed::new(self.info.space.dimensions);
    }

    /// Packs if enough has come or gone since the last time.
    pub(super) fn pack_if_it_pays(&self, work: &Work<'_>) -> Result<()> {
        let num_rows = self.num_vectors()?;
        let num_packed = self.num_packed()?.unwrap_or(0);
        if num_rows >= WORTH_A_FILE && num_rows.abs_diff(num_packed) > num_rows / UNPACKED_PART {
            self.pack_with(work)?;
        }
        Ok(())
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        self.end_background();
        if !self.is_read_only() && !std::thread::panicking() {
            // What is derived may be missing; whoever needs it reads the collection.
            let stop = &AtomicBool::new(false);
            let _ = self.pack_if_it_pays(&Work {
                stop,
                ..self.work()
            });
        }
    }
}

/// A file of packed rows that is not in its place yet.
struct NewFile {
    /// The token of the one before.
    earlier: Option<i64>,
    token: i64,
    path: PathBuf,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Not there if it has been renamed.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The file of packed rows of the collection at `path`.
pub(super) fn packed_path(path: &Path) -> PathBuf {
    let mut packed = path.as_os_str().to_owned();
    packed.push("-vectors");
    packed.into()
}

/// What the file of packed rows must be marked with to be of this database.
///
/// A token comes with the file and stands for its ids and vectors from then on: ids are never used
/// again and vectors never change, in this database or a copy of it. A copy from before has another
/// token or none.
pub(super) fn packed_token(state: &Connection) -> rusqlite::Result<Option<i64>> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'derived'";
    let table = state.query_row(table, [], |_| Ok(())).optional()?;
    if table.is_none() {
        return Ok(None);
    }
    let select = "SELECT token FROM derived WHERE name = 'packed'";
    state.query_row(select, [], |row| row.get(0)).optional()
}

impl Reader {
    pub(super) fn new(connection: Connection, dimensions: usize) -> Self {
        Self {
            connection,
            packed: Packed::new(dimensions),
            data_version: None,
        }
    }
}

impl Packed {
    fn new(dimensions: usize) -> Self {
        Self {
            chunk_ids: Vec::new(),
            rows: Rows::new(dimensions),
            documents: Vec::new(),
            mapped: None,
            index: None,
        }
    }

    /// [`Packed::refresh`] that begins with the file of packed rows, if there is one of this state
    /// or an earlier one that is not mapped yet.
    pub(super) fn bring_up(&mut self, state: &Connection, path: &Path) -> Result<()> {
        let at = |error| Error::sqlite(path, error);
        let token = packed_token(state).map_err(at)?;
        if let Some(token) = token
            && self.mapped != Some(token)
            && let Some((chunk_ids, rows)) =
                file::read(&packed_path(path), token, self.rows.dimensions())
        {
            let mut mapped = Self {
                chunk_ids,
                rows,
                mapped: Some(token),
                ..Self::new(self.rows.dimensions())
            };
            // Whatever is wrong with it, the database knows better.
            if mapped.refresh(state, path).is_ok() {
                *self = mapped;
                return self.take_index(state, path);
            }
        }
        self.refresh(state, path)?;
        if token.is_some() && self.mapped == token {
            self.take_index(state, path)?;
        }
        Ok(())
    }

    /// Maps the index of the mapped rows, if it is another one than before.
    fn take_index(&mut self, state: &Connection, path: &Path) -> Result<()> {
        let mark = index_mark(state).map_err(|error| Error::sqlite(path, error))?;
        if let Some(token) = self.mapped
            && (self.index.is_none() || self.index != mark)
        {
            self.rows.set_index(read_index(path, token, &self.rows));
            self.index = mark;
        }
        Ok(())
    }

    /// Brings the rows in step with the file: drops those of removed chunks, reads the new ones.
    ///
    /// Ids grow and are never used again, and a vector never changes under its id (`schema`), so
    /// what is new lies behind the last id known.
    fn refresh(&mut self, state: &Connection, path: &Path) -> Result<()> {
        let at = |error| Error::sqlite(path, error);
        let (documents, live) = read_order(state).map_err(at)?;
        self.documents = documents;
        let mut known = live.iter().copied().peekable();
        let chunk_ids = std::mem::take(&mut self.chunk_ids);
        // Ids and rows stay in step, so that a reading that fails half-way can be taken up again.
        let kept = &mut self.chunk_ids;
        let base = self.rows.base();
        self.rows.retain(|row| {
            let id = chunk_ids[row];
            while known.next_if(|(known, _)| *known < id).is_some() {}
            let found = known.next_if(|(known, _)| *known == id);
            if found.is_some() || row < base {
                kept.push(id);
            }
            found.map(|(_, rank)| rank)
        });
        let last = chunk_ids.last().copied().unwrap_or(0);
        let new = &live[live.partition_point(|(id, _)| *id <= last)..];
        if self.rows.num_live() + new.len() != live.len() {
            return Err(Error::corrupt(
                path,
                "chunks came back under ids already used",
            ));
        }
        self.append(state, path, last, new)
    }

    /// Reads the vectors behind the chunk `last`, which must be those of `new`.
    fn append(
        &mut self,
        state: &Connection,
        path: &Path,
        last: i64,
        new: &[LiveChunk],
    ) -> Result<()> {
        let at = |error| Error::sqlite(path, error);
        self.rows.reserve(new.len());
        self.chunk_ids.reserve_exact(new.len());
        let select = "SELECT chunk, vector FROM vectors WHERE chunk > ?1 ORDER BY chunk";
        let mut select = state.prepare_cached(select).map_err(at)?;
        let mut vectors = select.query([last]).map_err(at)?;
        let mut new = new.iter();
        while let Some(vector) = vectors.next().map_err(at)? {
            let id: i64 = vector.get(0).map_err(at)?;
            let blob = vector.get_ref(1).map_err(at)?.as_blob().unwrap_or_default();
            let rank = new
                .next()
                .filter(|(chunk, _)| *chunk == id)
                .map(|(_, rank)| *rank);
            match rank {
                Some(rank) if blob.len() == self.rows.dimensions() * size_of::<f32>() => {
                    self.rows.push(to_floats(blob), rank);
                    self.chunk_ids.push(id);
                }
                _ => return Err(disagree(path, id)),
            }
        }
        match new.next() {
            Some((id, _)) => Err(disagree(path, *id)),
            None => Ok(()),
        }
    }

    /// The chunks of the live rows.
    fn live_ids(&self) -> impl Iterator<Item = i64> + '_ {
        let rows = self.chunk_ids.iter().enumerate();
        rows.filter(|(row, _)| self.rows.is_live(*row))
            .map(|(_, id)| *id)
    }

    /// The row of a chunk.
    pub(super) fn row_of(&self, chunk_id: i64) -> Option<usize> {
        let row = self.chunk_ids.binary_search(&chunk_id).ok()?;
        self.rows.is_live(row).then_some(row)
    }

    /// The rows that the filter lets through, by the metadata in this state of the file.
    pub(super) fn allowed(&self, state: &Connection, filter: &Filter) -> rusqlite::Result<Allowed> {
        let Filter {
            path_prefix,
            document_ids,
            conditions,
        } = filter;
        if path_prefix.is_none() && document_ids.is_none() && conditions.is_none() {
            return Ok(Allowed::All);
        }
        let prefix = path_prefix.as_deref().unwrap_or_default();
        let mut ids = document_ids
            .as_ref()
            .map(|ids| ids.iter().copied().collect::<HashSet<_>>());
        if let Some(conditions) = conditions {
            let met = meeting(state, conditions)?;
            ids = Some(match ids {
                Some(ids) => &ids & &met,
                None => met,
            });
        }
        let first = self
            .documents
            .partition_point(|document| document.path.as_str() < prefix);
        let ranks = self.documents[first..]
            .iter()
            .take_while(|document| document.path.starts_with(prefix))
            .filter(|document| ids.as_ref().is_none_or(|ids| ids.contains(&document.id)))
            .map(|document| document.ranks.clone());
        Ok(Allowed::Ranks(ranks.collect()))
    }
}

/// The ids of the documents that meet `conditions`.
fn meeting(state: &Connection, conditions: &Conditions) -> rusqlite::Result<HashSet<i64>> {
    let mut select = state.prepare_cached("SELECT id, path, title, metadata FROM documents")?;
    let mut documents = select.query([])?;
    let mut met = HashSet::new();
    while let Some(document) = documents.next()? {
        let (id, path): (i64, String) = (document.get(0)?, document.get(1)?);
        let mut metadata = json(document, 3)?;
        if metadata.is_null() {
            metadata = Value::Object(serde_json::Map::new());
        }
        if let Some(fields) = metadata.as_object_mut() {
            fields.entry("path").or_insert_with(|| path.clone().into());
            if let Some(title) = document.get::<_, Option<String>>(2)? {
                fields.entry("title").or_insert_with(|| title.into());
            }
        }
        if conditions.matches(&[id.into(), path.into()], &metadata) {
            met.insert(id);
        }
    }
    Ok(met)
}

fn disagree(path: &Path, chunk_id: i64) -> Error {
    Error::corrupt(path, format!("chunk {chunk_id} and its vector disagree"))
}

/// The documents in the order of their paths, and all chunks in the order of their ids.
///
/// Both queries are answered from indexes alone, so no text is read.
fn read_order(state: &Connection) -> rusqlite::Result<(Vec<PackedDocument>, Vec<LiveChunk>)> {
    let mut select =
        state.prepare_cached("SELECT document, id FROM chunks ORDER BY document, ordinal")?;
    let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let chunks = select
        .query_map([], pair)?
        .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    let by_document: HashMap<i64, &[(i64, i64)]> = chunks
        .chunk_by(|a, b| a.0 == b.0)
        .map(|run| (run[0].0, run))
        .collect();

    let mut select = state.prepare_cached("SELECT id, path FROM documents ORDER BY path")?;
    let mut documents = Vec::new();
    let mut live = Vec::with_capacity(chunks.len());
    let mut rank = 0;
    for document in select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (id, path) = document?;
        let first = rank;
        for (_, chunk_id) in by_document.get(&id).copied().unwrap_or_default() {
            live.push((*chunk_id, rank));
            rank += 1;
        }
        documents.push(PackedDocument {
            id,
            path,
            ranks: first..rank,
        });
    }
    live.sort_unstable();
    Ok((documents, live))
}
