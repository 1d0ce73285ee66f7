//! Random operations on a collection and on a `BTreeMap`: both must tell the same story.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempfile::TempDir;
use wenyi_store::{Collection, Filter, NewDocument};

use crate::fixtures::{assert_clean, document, options, place};
use crate::random::Random;

const DIMENSIONS: usize = 2;

/// All of length 1 and exact in any order of summation, so that scores tie often and exactly.
const VECTORS: [[f32; DIMENSIONS]; 6] = [
    [1.0, 0.0],
    [0.0, 1.0],
    [-1.0, 0.0],
    [0.0, -1.0],
    [0.6, 0.8],
    [0.8, -0.6],
];

const PATHS: [&str; 8] = ["a", "a/1", "a/2", "ab", "b/1", "c", "文/一", "文/二"];

struct Run {
    random: Random,
    path: PathBuf,
    collection: Collection,
    /// Another process's view: it reads only, and stays open while the writer comes and goes.
    observer: Collection,
    model: BTreeMap<String, NewDocument>,
    _folder: TempDir,
}

#[test]
fn random_operations_agree_with_a_map() {
    let seeds = match std::env::var("WENYI_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, 2, 3, 4],
    };
    for seed in seeds {
        println!("WENYI_TEST_SEED={seed}");
        let (folder, path) = place();
        let collection = Collection::create(&path, &options(DIMENSIONS)).unwrap();
        let observer = Collection::open_read_only(&path).unwrap();
        let (random, model) = (Random::new(seed), BTreeMap::new());
        let mut run = Run {
            random,
            path,
            collection,
            observer,
            model,
            _folder: folder,
        };
        for _ in 0..150 {
            run.step();
        }
        assert_clean(&run.collection);
    }
}

impl Run {
    fn step(&mut self) {
        match self.random.below(10) {
            0..=2 => self.upsert(1),
            3 => self.upsert(4),
            4 => self.remove(),
            5 => self.touch(),
            6 => self.reopen(),
            7 => self.compare_documents(),
            _ => self.compare_search(),
        }
    }

    fn upsert(&mut self, count: usize) {
        let documents: Vec<NewDocument> = (0..count).map(|_| self.new_document()).collect();
        self.collection.upsert_documents(&documents).unwrap();
        for new in documents {
            self.model.insert(new.document.path.clone(), new);
        }
    }

    fn new_document(&mut self) -> NewDocument {
        let path = self.any_path();
        let texts: Vec<String> = (0..self.random.below(5))
            .map(|_| self.random.below(1000).to_string())
            .collect();
        let chunks: Vec<(&str, &[f32])> = texts
            .iter()
            .map(|text| {
                (
                    text.as_str(),
                    VECTORS[self.random.below(VECTORS.len())].as_slice(),
                )
            })
            .collect();
        document(path, &chunks)
    }

    fn any_path(&mut self) -> &'static str {
        PATHS[self.random.below(PATHS.len())]
    }

    fn remove(&mut self) {
        let paths = [self.any_path(), self.any_path()];
        let removed = paths
            .iter()
            .filter(|path| self.model.remove(**path).is_some())
            .count();
        assert_eq!(self.collection.remove_documents(&paths).unwrap(), removed);
    }

    fn touch(&mut self) {
        let path = self.any_path();
        let size = self.random.below(100) as u64;
        let known = self.model.get_mut(path);
        assert_eq!(
            self.collection.touch_document(path, size, 5).unwrap(),
            known.is_some()
        );
        if let Some(new) = known {
            (new.document.size, new.document.modified_ns) = (size, 5);
        }
    }

    fn reopen(&mut self) {
        self.collection = Collection::open(&self.path).unwrap();
    }

    fn compare_documents(&self) {
        for collection in [&self.collection, &self.observer] {
            let documents = collection.documents().unwrap();
            assert_eq!(documents.len(), self.model.len());
            for (info, new) in documents.iter().zip(self.model.values()) {
                assert_eq!(info.document, new.document);
                assert_eq!(info.num_chunks, new.chunks.len() as u64);
                assert_eq!(collection.document_chunks(info.id).unwrap(), new.chunks);
            }
        }
    }

    fn compare_search(&mut self) {
        let query = VECTORS[self.random.below(VECTORS.len())];
        let top_k = self.random.below(20);
        let path_prefix =
            [None, Some("a"), Some("a/"), Some("文"), Some("z")][self.random.below(5)];
        let mut expected: Vec<(f32, &str, usize)> = Vec::new();
        for (path, new) in &self.model {
            if path.starts_with(path_prefix.unwrap_or_default()) {
                for (ordinal, vector) in new.vectors.chunks_exact(DIMENSIONS).enumerate() {
                    let score = vector[0].mul_add(query[0], vector[1] * query[1]) + 0.0;
                    expected.push((score, path, ordinal));
                }
            }
        }
        // Stable: paths and ordinals are in order already.
        expected.sort_by(|a, b| b.0.total_cmp(&a.0));
        expected.truncate(top_k);
        let filter = Filter {
            path_prefix: path_prefix.map(Into::into),
            document_ids: None,
            ..Filter::default()
        };
        for collection in [&self.collection, &self.observer] {
            let hits = collection.search(&query, top_k, &filter).unwrap();
            let found: Vec<_> = hits
                .iter()
                .map(|hit| (hit.document.document.path.as_str(), hit.ordinal as usize))
                .collect();
            let order: Vec<_> = expected
                .iter()
                .map(|(_, path, ordinal)| (*path, *ordinal))
                .collect();
            assert_eq!(
                found, order,
                "query {query:?}, top_k {top_k}, {path_prefix:?}"
            );
            for (hit, (score, path, ordinal)) in hits.iter().zip(&expected) {
                assert!((hit.score - score).abs() < 1e-6);
                assert_eq!(hit.chunk, self.model[*path].chunks[*ordinal]);
            }
        }
    }
}
