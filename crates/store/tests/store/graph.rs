//! Collections that are searched through a graph.

use wenyi_store::{Collection, ErrorKind, Filter, GraphOptions, NewDocument};

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
    assert_eq!(with_graph.graph_info().unwrap(), None);
    let info = with_graph.build_graph(GraphOptions::default()).unwrap();
    assert_eq!(info.num_rows, 3200);
    assert!(info.recall_at_10 >= 0.97, "{info:?}");
    assert_eq!(with_graph.graph_info().unwrap(), Some(info));
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
    let info = with_graph.graph_info().unwrap().unwrap();
    assert_eq!(info.num_rows, 418 * 8 / 16 * 16);
    check(&with_graph);
    assert!(with_graph.repair().unwrap().is_clean());
    assert!(with_graph.graph_info().unwrap().is_some());
    check(&with_graph);

    assert!(with_graph.remove_graph().unwrap() && !with_graph.remove_graph().unwrap());
    let all = agreement(&with_graph, &exact, &queries, &Filter::default());
    assert!((all - 1.0).abs() < 1e-9, "{all}");
}

#[test]
fn graphs_that_cannot_be_are_refused() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    let build = |m| {
        collection.build_graph(GraphOptions {
            m,
            ..GraphOptions::default()
        })
    };
    let error = build(16).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TooFewForGraph { .. }),
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
    assert!(reader.build_graph(GraphOptions::default()).is_err());
    assert!(reader.remove_graph().is_err());
}
