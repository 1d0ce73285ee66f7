use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::progress::Silent;
use crate::retrieve::bag_of_words::BagOfWords;
use crate::retrieve::collection::{collection_path, open_collection, remove_collection};

struct Folder {
    folder: tempfile::TempDir,
    embedder: BagOfWords,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("docs")).unwrap();
        let this = Self {
            folder,
            embedder: BagOfWords::new(128),
        };
        for (name, text) in files {
            this.write(name, text);
        }
        this
    }

    fn docs(&self) -> std::path::PathBuf {
        self.folder.path().join("docs")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.docs().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        // An hour ago, each change a second later: settled, and never the same time twice.
        static CHANGES: AtomicUsize = AtomicUsize::new(0);
        let seconds = 3600 - CHANGES.fetch_add(1, Ordering::Relaxed) as u64;
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    fn open(&self) -> Collection {
        let path = collection_path(&self.folder.path().join("cache"), &self.docs());
        open_collection(&path, &self.embedder, &ChunkOptions::default()).unwrap()
    }

    fn index_with(&self, options: &IndexOptions, progress: &dyn Progress) -> IndexReport {
        index(
            &self.embedder,
            &self.open(),
            &[self.docs()],
            options,
            progress,
        )
        .unwrap()
    }

    fn index(&self) -> IndexReport {
        self.index_with(&IndexOptions::default(), &Silent)
    }

    fn names(&self) -> Vec<String> {
        let root = fs::canonicalize(self.docs()).unwrap();
        let name = |path: &str| {
            Path::new(path)
                .strip_prefix(&root)
                .unwrap()
                .display()
                .to_string()
        };
        self.open()
            .documents()
            .unwrap()
            .iter()
            .map(|info| name(&info.document.path))
            .collect()
    }
}

fn counts(report: &IndexReport) -> [u64; 5] {
    [
        report.added,
        report.updated,
        report.removed,
        report.unchanged,
        report.embedded_chunks,
    ]
}

#[test]
fn only_what_changed_is_embedded_again() {
    let folder = Folder::new(&[
        ("a.md", "# A\n\nFirst.\n\n# B\n\nSecond.\n"),
        ("子/b.txt", "文意"),
        ("c.html", "<h1>C</h1><p>Third.</p>"),
    ]);
    assert_eq!(counts(&folder.index()), [3, 0, 0, 0, 4]);
    assert_eq!(folder.names(), ["a.md", "c.html", "子/b.txt"]);
    assert_eq!(folder.embedder.take_embedded().len(), 4);

    assert_eq!(counts(&folder.index()), [0, 0, 0, 3, 0]);

    folder.write("a.md", "# A\n\nFirst.\n\n# B\n\nSecond, changed.\n");
    fs::remove_file(folder.docs().join("c.html")).unwrap();
    let report = folder.index();
    assert_eq!(counts(&report), [0, 1, 1, 1, 1]);
    assert_eq!(report.reused_chunks, 1);
    assert_eq!(folder.embedder.take_embedded(), ["# B\n\nSecond, changed."]);
    assert!(folder.open().check().unwrap().is_clean());
}

#[test]
fn a_touched_or_moved_file_is_not_embedded_again() {
    let folder = Folder::new(&[("a.md", "# A\n\nFirst.\n"), ("b.md", "Second.\n")]);
    folder.index();
    folder.embedder.take_embedded();
    let vector = |folder: &Folder| {
        let collection = folder.open();
        let documents = collection.documents().unwrap();
        let a = documents
            .iter()
            .find(|info| info.document.title.as_deref() == Some("A"))
            .unwrap();
        collection.document_vectors(a.id).unwrap()
    };
    let before = vector(&folder);

    folder.write("b.md", "Second.\n");
    assert_eq!(counts(&folder.index()), [0, 0, 0, 2, 0]);

    fs::create_dir(folder.docs().join("new")).unwrap();
    fs::rename(folder.docs().join("a.md"), folder.docs().join("new/z.md")).unwrap();
    let report = folder.index();
    assert_eq!(
        (counts(&report), report.reused_chunks),
        ([1, 0, 1, 1, 0], 1)
    );
    assert_eq!(vector(&folder), before);
    assert_eq!(folder.embedder.take_embedded(), Vec::<String>::new());
}

#[test]
fn a_passage_that_lost_its_vector_is_marked_by_repair_and_embedded_again() {
    let folder = Folder::new(&[
        ("a.md", "# A\n\nFirst.\n\n# B\n\nSecond.\n\n# C\n\nThird.\n"),
        ("b.md", "Another.\n"),
    ]);
    folder.index();
    folder.embedder.take_embedded();
    let (path, vectors) = {
        let collection = folder.open();
        let a = &collection.documents().unwrap()[0];
        let vectors = collection.document_vectors(a.id).unwrap();
        (collection.path().to_path_buf(), vectors)
    };
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "DROP TRIGGER vectors_outlive_chunks; PRAGMA foreign_keys = OFF;
             DELETE FROM vectors WHERE chunk = (SELECT id FROM chunks WHERE text LIKE '%Second%')",
        )
        .unwrap();
    // Nothing of a file tells that its passages are incomplete.
    assert_eq!(folder.index().unchanged, 2);
    let report = folder.open().check().unwrap();
    let a = fs::canonicalize(folder.docs().join("a.md")).unwrap();
    assert_eq!(
        report.incomplete_documents,
        [a.to_str().unwrap()],
        "{report:?}"
    );
    assert_eq!(
        folder.open().repair().unwrap().incomplete_documents.len(),
        1
    );

    let report = folder.index();
    assert_eq!(
        (counts(&report), report.reused_chunks),
        ([0, 1, 0, 1, 1], 2)
    );
    assert_eq!(folder.embedder.take_embedded(), ["# B\n\nSecond."]);
    let collection = folder.open();
    assert!(collection.check().unwrap().is_clean());
    let a = &collection.documents().unwrap()[0];
    assert_eq!(collection.document_vectors(a.id).unwrap(), vectors);
}

#[test]
fn other_chunk_options_cut_every_document_again() {
    let folder = Folder::new(&[("a.md", &"One two three. ".repeat(20))]);
    folder.index();
    let chunk = ChunkOptions {
        chunk_size: 20,
        overlap: 5,
    };
    let options = IndexOptions {
        chunk,
        ..IndexOptions::default()
    };
    let report = folder.index_with(&options, &Silent);
    assert!(
        report.updated == 1 && report.embedded_chunks > 2,
        "{report:?}"
    );
    assert_eq!(folder.index_with(&options, &Silent).unchanged, 1);
}

#[test]
fn a_fresh_file_is_compared_by_content() {
    let folder = Folder::new(&[]);
    let path = folder.docs().join("a.md");
    fs::write(&path, "one").unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    folder.index();
    // Changed within the same tick of the clock: neither size nor time tells.
    fs::write(&path, "two").unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(time)
        .unwrap();
    assert_eq!(folder.index().updated, 1);
}

#[test]
fn what_is_not_read_is_reported_and_no_longer_found() {
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);
    impl Progress for Notes {
        fn start(&self, _: &str, _: Option<u64>, _: Unit) {}
        fn advance(&self, _: u64) {}
        fn finish(&self) {}
        fn note(&self, message: &str) {
            self.0.lock().unwrap().push(message.to_owned());
        }
        fn is_cancelled(&self) -> bool {
            false
        }
    }
    let folder = Folder::new(&[("a.md", "a"), ("b.md", "b"), ("c.bin", ""), ("d.bin", "")]);
    folder.index();
    folder.write("b.md", "");
    let notes = Notes::default();
    let report = folder.index_with(&IndexOptions::default(), &notes);
    assert_eq!(counts(&report), [0, 0, 1, 1, 0]);
    assert_eq!(report.skipped.len(), 1);
    assert_eq!(report.skipped[0].reason, SkipReason::Empty);
    assert_eq!(report.other_kinds["bin"], 2);
    assert_eq!(
        notes.0.into_inner().unwrap(),
        ["passed over 2 files of kinds that are not read: 2 .bin"]
    );
}

#[test]
fn what_cannot_be_read_is_remembered_until_it_changes() {
    let folder = Folder::new(&[("a.md", "a"), ("b.docx", "no package"), ("c.pdf", "%PDF-x")]);
    for round in 0..3 {
        let report = folder.index();
        let failed: Vec<_> = report
            .failures()
            .map(|skip| skip.path.file_name())
            .collect();
        assert_eq!(failed.len(), 2, "round {round}: {report:?}");
        assert_eq!(report.unchanged, u64::from(round > 0));
        assert_eq!((report.updated, report.removed), (0, 0));
    }
    folder.write("b.docx", "");
    let report = folder.index();
    assert_eq!((report.failures().count(), report.skipped.len()), (1, 2));
    fs::remove_file(folder.docs().join("c.pdf")).unwrap();
    let report = folder.index();
    assert_eq!((report.failures().count(), report.removed), (0, 0));
}

/// Counts tokens and stops after some of them.
struct Meter {
    total: AtomicUsize,
    done: AtomicUsize,
    stop_after: usize,
}

impl Meter {
    fn new(stop_after: usize) -> Self {
        Self {
            total: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            stop_after,
        }
    }
}

impl Progress for Meter {
    fn start(&self, _: &str, total: Option<u64>, _: Unit) {
        self.total.store(total.unwrap() as usize, Ordering::Relaxed);
    }
    fn advance(&self, amount: u64) {
        self.done.fetch_add(amount as usize, Ordering::Relaxed);
    }
    fn finish(&self) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.stop_after
    }
}

#[test]
fn stopping_keeps_what_is_done_and_the_next_run_goes_on() {
    let text = |n: usize| format!("Document number {n} says something of its own, {n}. ").repeat(9);
    let files: Vec<(String, String)> = (0..40).map(|n| (format!("{n:02}.md"), text(n))).collect();
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let folder = Folder::new(&files);
    let options = IndexOptions {
        batch_tokens: 500,
        ..IndexOptions::default()
    };

    let first = folder.index_with(&options, &Meter::new(2000));
    assert!(
        first.cancelled && first.added > 0 && first.added < 40,
        "{first:?}"
    );
    assert_eq!(folder.names().len() as u64, first.added);

    let meter = Meter::new(usize::MAX);
    let second = folder.index_with(&options, &meter);
    assert_eq!(
        (second.unchanged, second.added),
        (first.added, 40 - first.added)
    );
    assert_eq!(
        meter.done.load(Ordering::Relaxed),
        meter.total.load(Ordering::Relaxed)
    );
    assert_eq!(
        folder.embedder.take_embedded().len() as u64,
        first.embedded_chunks + second.embedded_chunks
    );
}

#[test]
fn another_model_is_refused_until_the_collection_is_removed() {
    let mut folder = Folder::new(&[("a.md", "a")]);
    folder.index();
    let path = folder.open().path().to_path_buf();
    folder.embedder = BagOfWords::new(128).retrained();
    let refused = open_collection(&path, &folder.embedder, &ChunkOptions::default()).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::OtherModel { .. }) && refused.is_user_error());
    assert!(refused.hint().unwrap().contains("--reindex"));
    assert!(remove_collection(&path).unwrap());
    assert!(!remove_collection(&path).unwrap());
    assert_eq!(folder.index().added, 1);
}

#[test]
fn documents_outside_the_roots_are_left_alone() {
    let folder = Folder::new(&[("x/a.md", "a"), ("y/b.md", "b"), ("xx/c.md", "c")]);
    folder.index();
    fs::remove_file(folder.docs().join("y/b.md")).unwrap();
    let roots = [folder.docs().join("x")];
    let collection = folder.open();
    let report = index(
        &folder.embedder,
        &collection,
        &roots,
        &IndexOptions::default(),
        &Silent,
    )
    .unwrap();
    assert_eq!(counts(&report), [0, 0, 0, 1, 0]);
    let missing = [folder.docs().join("nowhere")];
    let error = index(
        &folder.embedder,
        &collection,
        &missing,
        &IndexOptions::default(),
        &Silent,
    )
    .unwrap_err();
    assert!(error.is_user_error(), "{error}");
    assert_eq!(folder.names(), ["x/a.md", "xx/c.md", "y/b.md"]);
}

#[test]
fn collections_of_folders_with_one_name_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let root = folder.path().join(name).join("文档");
        fs::create_dir_all(&root).unwrap();
        collection_path(Path::new("/cache"), &root)
    };
    let (a, b) = (path("a"), path("b"));
    assert_ne!(a, b);
    assert!(
        a.to_str().unwrap().starts_with("/cache/collections/文档-"),
        "{a:?}"
    );
    assert_eq!(
        a,
        collection_path(Path::new("/cache"), &folder.path().join("a/../a/文档"))
    );
}
