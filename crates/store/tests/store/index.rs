//! Collections that are searched through an index.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wenyi_store::{
    CoarseForm, Collection, ErrorKind, Filter, GraphInfo, GraphOptions, IndexInfo, NewDocument,
    SearchMethod,
};

use crate::fixtures::{assert_clean, document, found, options, place};
use crate::random::Random;

const DIMENSIONS: usize = 16;

fn vector(random: &mut Random) -> Vec<f32> {
    (0..DIMENSIONS)
        .map(|_| random.below(2001) as f32 - 1000.5)
        .collect()
}

fn documents(random: &mut Random, numbers: std::ops::Range<usize>) -> Vec<NewDocument> {
    let one = |number: usize| {
        let chunks: Vec<Vec<f32>> = (0..8).map(|_| vector(random)).collect();
        let chunks: Vec<(&str, &[f32])> = chunks.iter().map(|v| ("text", v.as_slice())).collect();
        document(&format!("{}/{number:04}", number % 20), &chunks)
    };
    numbers.map(one).collect()
}

const GRAPH: SearchMethod = SearchMethod::Graph(GraphOptions {
    m: 16,
    ef_construction: 200,
});

fn graph_info(collection: &Collection) -> Option<GraphInfo> {
    match collection.index_info().unwrap() {
        Some(IndexInfo::Graph(info)) => Some(info),
        Some(IndexInfo::Coarse(info)) => panic!("{info:?}"),
        None => None,
    }
}

/// Of the ten closest of each query, the part that both have.
fn agreement(a: &Collection, b: &Collection, queries: &[Vec<f32>], filter: &Filter) -> f64 {
    let mut hits = 0;
    for query in queries {
        let exact = found(b, query, 10, filter);
        hits += found(a, query, 10, filter)
            .iter()
            .filter(|hit| exact.contains(hit))
            .count();
    }
    hits as f64 / (10 * queries.len()) as f64
}

#[test]
fn a_graph_finds_nearly_all_and_follows_the_collection() {
    let (folder, path) = place();
    let mut random = Random::new(21);
    let with_graph = Collection::create(&path, &options(DIMENSIONS)).unwrap();
    let exact = Collection::create(folder.path().join("exact"), &options(DIMENSIONS)).unwrap();
    let write = |documents: &[NewDocument]| {
        with_graph.upsert_documents(documents).unwrap();
        exact.upsert_documents(documents).unwrap();
    };
    write(&documents(&mut random, 0..400));
    assert_eq!(with_graph.index_info().unwrap(), None);
    let info = with_graph.set_search_method(GRAPH).unwrap();
    assert_eq!(with_graph.index_info().unwrap(), info);
    assert_eq!(with_graph.search_method().unwrap(), GRAPH);
    let info = graph_info(&with_graph).unwrap();
    assert_eq!(info.num_rows, 3200);
    assert!(info.recall_at_10 >= 0.97, "{info:?}");
    assert_clean(&with_graph);

    let queries: Vec<Vec<f32>> = (0..30).map(|_| vector(&mut random)).collect();
    let one_of_twenty = Filter {
        path_prefix: Some("7/".into()),
        ..Filter::default()
    };
    let check = |collection: &Collection| {
        let all = agreement(collection, &exact, &queries, &Filter::default());
        assert!(all >= 0.9, "{all}");
        // So few are scanned.
        let some = agreement(collection, &exact, &queries, &one_of_twenty);
        assert!((some - 1.0).abs() < 1e-9, "{some}");
    };
    check(&with_graph);
    write(&documents(&mut random, 390..420));
    for collection in [&with_graph, &exact] {
        collection.remove_documents(&["1/0001", "7/0007"]).unwrap();
    }
    check(&with_graph);
    check(&Collection::open_read_only(&path).unwrap());

    // Packed again, the graph is one of what there is now.
    with_graph.pack().unwrap();
    let info = graph_info(&with_graph).unwrap();
    assert_eq!(info.num_rows, 418 * 8 / 16 * 16);
    check(&with_graph);
    assert!(with_graph.repair().unwrap().is_clean());
    assert!(graph_info(&with_graph).is_some());
    check(&with_graph);

    for _ in 0..2 {
        assert_eq!(
            with_graph.set_search_method(SearchMethod::Exact).unwrap(),
            None
        );
        assert_eq!(with_graph.maintain().unwrap(), None);
    }
    let all = agreement(&with_graph, &exact, &queries, &Filter::default());
    assert!((all - 1.0).abs() < 1e-9, "{all}");
}

#[test]
fn filters_of_one_in_a_hundred_find_all() {
    let (folder, path) = place();
    let mut random = Random::new(22);
    let exact = Collection::create(folder.path().join("exact"), &options(DIMENSIONS)).unwrap();
    let collection = Collection::create(&path, &options(DIMENSIONS)).unwrap();
    let mut all = documents(&mut random, 0..500);
    for (number, new) in all.iter_mut().enumerate() {
        new.document.metadata = serde_json::json!({"hundredth": number % 100});
    }
    for collection in [&collection, &exact] {
        collection.upsert_documents(&all).unwrap();
    }
    let queries: Vec<Vec<f32>> = (0..20).map(|_| vector(&mut random)).collect();
    let conditions = serde_json::json!({"must": [{"key": "hundredth", "match": {"value": 37}}]});
    let filter = Filter {
        conditions: Some(wenyi_store::Conditions::from_json(&conditions).unwrap()),
        ..Filter::default()
    };
    for method in [GRAPH, SearchMethod::Coarse(CoarseForm::Binary)] {
        collection.set_search_method(method).unwrap();
        let part = agreement(&collection, &exact, &queries, &filter);
        assert!((part - 1.0).abs() < 1e-9, "{method:?}: {part}");
    }
}

#[test]
fn coarse_forms_find_nearly_all_and_are_shown_with_their_recall() {
    let (folder, path) = place();
    let mut random = Random::new(23);
    let exact = Collection::create(folder.path().join("exact"), &options(DIMENSIONS)).unwrap();
    let collection = Collection::create(&path, &options(DIMENSIONS)).unwrap();
    let all = documents(&mut random, 0..400);
    for collection in [&collection, &exact] {
        collection.upsert_documents(&all).unwrap();
    }
    let queries: Vec<Vec<f32>> = (0..30).map(|_| vector(&mut random)).collect();
    let leading = CoarseForm::Leading { dimensions: 12 };
    for form in [CoarseForm::Binary, leading] {
        let method = SearchMethod::Coarse(form);
        let Some(IndexInfo::Coarse(info)) = collection.set_search_method(method).unwrap() else {
            panic!("no coarse form")
        };
        assert_eq!((info.form, info.num_rows), (form, 3200));
        assert!(info.recall_at_10 >= 0.97, "{info:?}");
        let recall = agreement(&collection, &exact, &queries, &Filter::default());
        assert!(recall >= 0.9, "{form:?}: {recall}");
        assert_clean(&collection);
        // Others see it at once, and the next program as well.
        let other = Collection::open_read_only(&path).unwrap();
        assert_eq!(other.index_info().unwrap(), Some(IndexInfo::Coarse(info)));
        collection.pack().unwrap();
        assert!(collection.index_info().unwrap().is_some());
    }
    // One dimension tells nothing: the setting stays as it was.
    let one = SearchMethod::Coarse(CoarseForm::Leading { dimensions: 1 });
    let error = collection.set_search_method(one).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::LowRecall { .. }),
        "{error}"
    );
    assert!(error.is_user_error() && error.hint().is_some());
    assert_eq!(
        collection.search_method().unwrap(),
        SearchMethod::Coarse(leading)
    );
    // Damage is seen, and made good.
    drop(collection);
    let index = format!("{}-index", path.display());
    let mut bytes = std::fs::read(&index).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&index, bytes).unwrap();
    let collection = Collection::open(&path).unwrap();
    let problems = collection.check().unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("-index"),
        "{problems:?}"
    );
    assert!(collection.repair().unwrap().is_clean());
    assert!(collection.index_info().unwrap().is_some());
}

/// Tells a thread to end.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// More rows than are worth a file come while others search: the thread beside packs and indexes,
/// nothing that was written is missed, and every answer is one of its time.
#[test]
fn writes_and_searches_go_on_while_an_index_is_made() {
    let (_folder, path) = place();
    let mut random = Random::new(24);
    let collection = Collection::create(&path, &options(DIMENSIONS)).unwrap();
    let all = documents(&mut random, 0..1200);
    collection.upsert_documents(&all[..600]).unwrap();
    collection.set_search_method(GRAPH).unwrap();
    let before = graph_info(&collection).unwrap();
    assert_eq!(before.num_rows, 4800);
    let (query, done) = (&vector(&mut Random::new(3)), &AtomicBool::new(false));
    thread::scope(|scope| {
        // Also if an assertion fails.
        let ended = Ended(done);
        let reader = Collection::open_read_only(&path).unwrap();
        let searches = scope.spawn(move || {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let hits = found(&reader, query, 10, &Filter::default());
                assert_eq!(hits.len(), 10);
                count += 1;
            }
            count
        });
        for (number, new) in all[600..].iter().enumerate() {
            collection.upsert_document(new).unwrap();
            if number % 10 == 9 {
                let gone = &all[number].document.path;
                assert_eq!(collection.remove_documents(&[gone]).unwrap(), 1);
            }
            // What was just written is found at once.
            let newest = found(
                &collection,
                &new.vectors[..DIMENSIONS],
                1,
                &Filter::default(),
            );
            assert_eq!(newest[0].0, new.document.path);
        }
        // The thread waits a second before it begins.
        let started = Instant::now();
        let is_new = || graph_info(&collection).is_some_and(|info| info != before);
        while !is_new() && started.elapsed().as_secs() < 60 {
            found(&collection, query, 1, &Filter::default());
            thread::sleep(Duration::from_millis(50));
        }
        assert!(is_new(), "no index was made beside");
        drop(ended);
        assert!(searches.join().unwrap() > 0);
    });
    assert_clean(&collection);
}

#[test]
fn of_two_that_are_made_at_once_that_of_the_last_setting_stays() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(DIMENSIONS)).unwrap();
    let mut random = Random::new(9);
    let all = documents(&mut random, 0..1000);
    collection.upsert_documents(&all).unwrap();
    collection.set_search_method(GRAPH).unwrap();
    // As when another program has another layout: the setting wants what is not there.
    let mut index = path.clone().into_os_string();
    index.push("-index");
    std::fs::remove_file(index).unwrap();
    let binary = SearchMethod::Coarse(CoarseForm::Binary);
    thread::scope(|scope| {
        let other = Collection::open(&path).unwrap();
        let slow = scope.spawn(move || other.maintain().unwrap());
        // A graph takes a second of one core, and the bits some milliseconds.
        thread::sleep(Duration::from_millis(100));
        collection.set_search_method(binary).unwrap();
        slow.join().unwrap();
    });
    assert_eq!(collection.search_method().unwrap(), binary);
    let info = collection.index_info().unwrap();
    assert_eq!(info.map(|info| info.method()), Some(binary));
    assert_clean(&collection);
}

#[test]
fn graphs_that_cannot_be_are_refused() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    let build = |m| {
        collection.set_search_method(SearchMethod::Graph(GraphOptions {
            m,
            ..GraphOptions::default()
        }))
    };
    let error = build(16).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TooFewForIndex { .. }),
        "{error}"
    );
    for m in [0, 1, 257] {
        let error = build(m).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::GraphOptions { .. }),
            "{error}"
        );
        assert!(error.is_user_error() && error.hint().is_some());
    }
    let reader = Collection::open_read_only(&path).unwrap();
    assert!(reader.set_search_method(GRAPH).is_err());
    assert!(reader.set_search_method(SearchMethod::Exact).is_err());
    for dimensions in [0, 2, 9] {
        let form = CoarseForm::Leading { dimensions };
        let error = collection.set_search_method(SearchMethod::Coarse(form));
        let error = error.unwrap_err();
        assert!(error.is_user_error() && error.hint().is_some(), "{error}");
    }
}

#[test]
fn a_collection_that_has_become_too_small_is_searched_exactly() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(DIMENSIONS)).unwrap();
    let all = documents(&mut Random::new(25), 0..20);
    collection.upsert_documents(&all).unwrap();
    assert!(collection.set_search_method(GRAPH).unwrap().is_some());
    let paths: Vec<_> = all[1..].iter().map(|new| &new.document.path).collect();
    collection.remove_documents(&paths).unwrap();
    collection.pack().unwrap();
    assert_eq!(collection.index_info().unwrap(), None);
    assert_eq!(collection.maintain().unwrap(), None);
    assert!(collection.repair().unwrap().is_clean());
    assert_eq!(collection.search_method().unwrap(), GRAPH);
    let query = &all[0].vectors[..DIMENSIONS];
    assert_eq!(found(&collection, query, 99, &Filter::default()).len(), 8);
}
