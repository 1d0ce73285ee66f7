//! What searches in spaces read: packed in memory, and kept in step with the file by its versions.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension};

use super::super::SqliteStore;
use super::super::search::Packed;
use crate::vector_store::index::prepare;
use crate::vector_store::named::{NamedVector, Space};
use crate::{Error, ErrorKind, Result};

/// What a search in a space reads.
pub(in super::super) enum PackedSpace {
    Dense(Box<Packed>),
    Sparse(Postings),
}

/// For each term the points that have it.
#[derive(Default)]
pub(in super::super) struct Postings {
    version: i64,
    pub(super) by_term: HashMap<u32, Vec<(u32, f32)>>,
    /// The terms of each row.
    pub(super) terms: HashMap<u32, Vec<u32>>,
}

impl SqliteStore {
    /// Brings what is packed of a space to the state of the file.
    pub(super) fn refresh_space(
        &self,
        state: &Connection,
        name: &str,
        space: &Space,
        packed: &mut impl Follows,
    ) -> Result<()> {
        let at = |error| self.file.at(error);
        let version = self.version(state)?;
        let known = packed.version();
        if version == known {
            return Ok(());
        }
        let floor: i64 = state
            .query_row(
                "SELECT floor FROM collections WHERE id = ?1",
                [self.id],
                |row| row.get(0),
            )
            .map_err(at)?;
        // A reading that fails half-way is begun anew.
        packed.set_version(0);
        let followed =
            known > 0 && known >= floor && self.follow_space(state, name, space, known, packed)?;
        if !followed {
            packed.clear();
            let select = "SELECT named_vectors.row, named_vectors.vector
                FROM vectors JOIN named_vectors USING (row)
                WHERE vectors.collection = ?1 AND named_vectors.name = ?2 ORDER BY vectors.row";
            let mut select = state.prepare_cached(select).map_err(at)?;
            let mut found = select.query((self.id, name)).map_err(at)?;
            while let Some(found) = found.next().map_err(at)? {
                let (row, blob): (i64, Vec<u8>) =
                    (found.get(0).map_err(at)?, found.get(1).map_err(at)?);
                packed.put(self.rank(row)?, &self.packable(space, row, &blob)?);
            }
        }
        packed.set_version(version);
        Ok(())
    }

    /// Reads what came and went since the version `known`; false if a row came before others that are
    /// packed, so that all must be read again.
    fn follow_space(
        &self,
        state: &Connection,
        name: &str,
        space: &Space,
        known: i64,
        packed: &mut impl Follows,
    ) -> Result<bool> {
        let at = |error| self.file.at(error);
        let mut gone = HashSet::new();
        for row in self.changed(state, "removed", known).map_err(at)? {
            gone.insert(self.rank(row)?);
        }
        let mut written = Vec::new();
        let select = "SELECT vector FROM named_vectors WHERE row = ?1 AND name = ?2";
        let mut select = state.prepare_cached(select).map_err(at)?;
        for row in self.changed(state, "vectors", known).map_err(at)? {
            let blob: Option<Vec<u8>> = select
                .query_row((row, name), |row| row.get(0))
                .optional()
                .map_err(at)?;
            match blob {
                Some(blob) => written.push((self.rank(row)?, self.packable(space, row, &blob)?)),
                None => {
                    gone.insert(self.rank(row)?);
                }
            }
        }
        packed.remove(&gone);
        Ok(written.iter().all(|(row, vector)| packed.put(*row, vector)))
    }

    fn rank(&self, row: i64) -> Result<u32> {
        let path = || self.file.path.clone();
        u32::try_from(row).map_err(|_| ErrorKind::Full { path: path() }.into())
    }

    /// The vector in a blob as it is packed.
    fn packable(&self, space: &Space, row: i64, blob: &[u8]) -> Result<NamedVector> {
        let corrupt = |reason: &str| {
            Error::corrupt(&self.file.path, format!("a vector of row {row} {reason}"))
        };
        let vector = NamedVector::from_bytes(space, blob);
        match (space, vector) {
            (_, None) => Err(corrupt("does not fit its space")),
            (
                Space::Dense {
                    dimensions,
                    distance,
                },
                Some(NamedVector::Dense(vector)),
            ) => {
                let unit = prepare(*distance, &vector, *dimensions, &self.name, &String::new);
                let unit = unit.map_err(|_| corrupt("cannot be compared"))?;
                Ok(NamedVector::Dense(unit.into_owned()))
            }
            (_, Some(vector)) => Ok(vector),
        }
    }
}

/// What is packed of a space and follows the file.
pub(super) trait Follows {
    fn version(&self) -> i64;
    fn set_version(&mut self, version: i64);
    fn clear(&mut self);
    fn remove(&mut self, rows: &HashSet<u32>);
    /// Takes a vector, new or changed; false if it belongs before others that are there.
    fn put(&mut self, row: u32, vector: &NamedVector) -> bool;
}

impl Follows for Packed {
    fn version(&self) -> i64 {
        self.version
    }

    fn set_version(&mut self, version: i64) {
        self.version = version;
    }

    fn clear(&mut self) {
        *self = Self::new(self.rows.dimensions());
    }

    fn remove(&mut self, rows: &HashSet<u32>) {
        if !rows.is_empty() {
            self.rows.retain_ranks(|rank| !rows.contains(&rank));
        }
    }

    fn put(&mut self, row: u32, vector: &NamedVector) -> bool {
        let NamedVector::Dense(vector) = vector else {
            return false;
        };
        match self.rows.row_of_rank(row) {
            Ok(known) => self.rows.set(known, vector),
            Err(place) if place == self.rows.len() => {
                self.rows.push(vector.iter().copied(), row);
            }
            Err(_) => return false,
        }
        true
    }
}

impl PackedSpace {
    pub(super) fn new(space: &Space) -> Self {
        match space {
            Space::Dense { dimensions, .. } => Self::Dense(Box::new(Packed::new(*dimensions))),
            Space::Sparse { .. } => Self::Sparse(Postings::default()),
        }
    }
}

impl Follows for Postings {
    fn version(&self) -> i64 {
        self.version
    }

    fn set_version(&mut self, version: i64) {
        self.version = version;
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, rows: &HashSet<u32>) {
        let mut touched = HashSet::new();
        for row in rows {
            touched.extend(self.terms.remove(row).unwrap_or_default());
        }
        for term in touched {
            if let Some(postings) = self.by_term.get_mut(&term) {
                postings.retain(|(row, _)| !rows.contains(row));
                if postings.is_empty() {
                    self.by_term.remove(&term);
                }
            }
        }
    }

    fn put(&mut self, row: u32, vector: &NamedVector) -> bool {
        let NamedVector::Sparse(vector) = vector else {
            return false;
        };
        if self.terms.contains_key(&row) {
            self.remove(&HashSet::from([row]));
        }
        self.terms.insert(row, vector.indices().to_vec());
        for (term, value) in vector.iter() {
            self.by_term.entry(term).or_default().push((row, value));
        }
        true
    }
}
