use std::fs;

use super::*;
use crate::progress::Silent;
use crate::retrieve::bag_of_words::BagOfWords;
use crate::retrieve::chunk::ChunkOptions;
use crate::retrieve::collection::{open_collection, open_to_search};
use crate::retrieve::index::{IndexOptions, index};

fn indexed(files: &[(&str, &str)]) -> (tempfile::TempDir, BagOfWords, Collection) {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("docs");
    for (name, text) in files {
        fs::create_dir_all(docs.join(name).parent().unwrap()).unwrap();
        fs::write(docs.join(name), text).unwrap();
    }
    let embedder = BagOfWords::new(128);
    let path = folder.path().join("c.db");
    let collection = open_collection(&path, &embedder, &ChunkOptions::default()).unwrap();
    index(
        &embedder,
        &collection,
        &[docs],
        &IndexOptions::default(),
        &Silent,
    )
    .unwrap();
    (folder, embedder, collection)
}

fn names(results: &SearchResults) -> Vec<&str> {
    results
        .hits
        .iter()
        .map(|hit| hit.path.file_name().unwrap().to_str().unwrap())
        .collect()
}

#[test]
fn a_hit_says_where_and_why() {
    let guide = "# Guide\n\nBirds sing.\n\n## Offline\n\nNo network is needed. Models are cached on disk. \
                 The rest follows.\n\n```sh\ncached models\n```\n";
    let (_folder, embedder, collection) = indexed(&[
        ("guide.md", guide),
        ("other.txt", "Something about cooking rice."),
    ]);
    let results = search(
        &embedder,
        &collection,
        " which models are cached? ",
        &SearchOptions::default(),
    )
    .unwrap();
    let hit = &results.hits[0];
    assert_eq!(hit.path.file_name().unwrap(), "guide.md");
    assert_eq!((hit.first_line, hit.last_line), (5, 11));
    assert_eq!(hit.heading_path, ["Guide", "Offline"]);
    assert_eq!(
        &guide.as_bytes()[hit.bytes.start as usize..hit.bytes.end as usize],
        hit.text.as_bytes()
    );
    let best = hit.best_sentence.as_ref().unwrap();
    assert_eq!(best.text, "Models are cached on disk.");
    assert_eq!(&hit.text[best.span.clone()], best.text);
    let words: Vec<&str> = hit
        .matches
        .iter()
        .map(|span| &hit.text[span.clone()])
        .collect();
    assert_eq!(words, ["Models", "cached", "cached", "models"]);
    assert!(
        results
            .hits
            .windows(2)
            .all(|pair| pair[0].score >= pair[1].score)
    );
    let json = serde_json::to_value(&results).unwrap();
    assert_eq!(json["hits"][0]["matches"][0]["start"], hit.matches[0].start);
}

#[test]
fn chinese_questions_find_chinese_passages() {
    let (_folder, embedder, collection) = indexed(&[
        (
            "网络.md",
            "# 离线\n\n天气很好。没有网络的机器上也可以使用模型！",
        ),
        ("b.md", "今天去公园散步，看见很多花。"),
    ]);
    let question = "怎样在没有网络的机器上使用？";
    let results = search(&embedder, &collection, question, &SearchOptions::default()).unwrap();
    let hit = &results.hits[0];
    assert_eq!(names(&results)[0], "网络.md");
    assert_eq!(
        hit.best_sentence.as_ref().unwrap().text,
        "没有网络的机器上也可以使用模型！"
    );
    let words: Vec<&str> = hit
        .matches
        .iter()
        .map(|span| &hit.text[span.clone()])
        .collect();
    assert_eq!(words, ["没有网络", "机器上", "使用"]);
}

#[test]
fn copies_take_one_place() {
    let copies: Vec<String> = (0..30).map(|n| format!("{n:02}.md")).collect();
    let mut files: Vec<(&str, &str)> = copies
        .iter()
        .map(|name| (name.as_str(), "The licence of models."))
        .collect();
    files.push(("z.md", "The licence, among other things."));
    let (_folder, embedder, collection) = indexed(&files);
    let options = SearchOptions {
        top_k: 2,
        ..SearchOptions::default()
    };
    let results = search(&embedder, &collection, "licence models", &options).unwrap();
    assert_eq!(names(&results), ["00.md", "z.md"]);
    assert_eq!(results.hits[0].also_in.len(), 29);
}

#[test]
fn a_passage_inside_a_better_one_takes_no_place() {
    let hit = |id: i64, span: Range<u64>, text: &str| Hit {
        score: 0.5,
        cosine: Some(0.5),
        bm25: None,
        chunk_id: 0,
        ordinal: 0,
        chunk: wenyi_store::Chunk {
            span,
            text: text.into(),
            ..wenyi_store::Chunk::default()
        },
        document: wenyi_store::DocumentInfo {
            id,
            document: wenyi_store::Document::default(),
            num_chunks: 1,
        },
    };
    let hits = [
        hit(1, 0..100, "a"),
        hit(1, 40..110, "mostly in a"),
        hit(1, 90..150, "repeats a little"),
        hit(2, 0..100, "elsewhere"),
    ];
    let kept: Vec<String> = without_repetitions(hits.into_iter(), 9)
        .into_iter()
        .map(|found| found.hit.chunk.text)
        .collect();
    assert_eq!(kept, ["a", "repeats a little", "elsewhere"]);
}

#[test]
fn questions_that_cannot_be_asked_are_refused_with_a_hint() {
    let (folder, embedder, collection) = indexed(&[("a.md", "a")]);
    let ask = |query: &str, options: &SearchOptions| {
        search(&embedder, &collection, query, options).unwrap_err()
    };
    let error = ask(" \n", &SearchOptions::default());
    assert!(matches!(error.kind(), ErrorKind::EmptyQuery) && error.is_user_error());
    assert!(error.hint().is_some());
    assert!(
        ask(
            "a",
            &SearchOptions {
                top_k: 0,
                ..SearchOptions::default()
            }
        )
        .is_user_error()
    );
    let other = BagOfWords::new(128).retrained();
    let error = search(&other, &collection, "a", &SearchOptions::default()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OtherModel { .. }));
    let error = open_to_search(&folder.path().join("none.db"), &embedder).unwrap_err();
    assert!(error.is_user_error() && error.hint().is_some(), "{error}");
}

#[test]
fn filters_and_floors_hold_and_an_empty_collection_answers_nothing() {
    let (folder, embedder, collection) = indexed(&[
        ("x/a.md", "rice"),
        ("y/b.md", "rice cooking"),
        ("y/c.md", "weather"),
    ]);
    let prefix = fs::canonicalize(folder.path()).unwrap().join("docs/y/");
    let options = SearchOptions {
        path_prefix: Some(prefix.to_str().unwrap().into()),
        min_score: Some(0.5),
        best_sentence: false,
        ..SearchOptions::default()
    };
    let results = search(&embedder, &collection, "rice", &options).unwrap();
    assert_eq!(names(&results), ["b.md"]);
    assert_eq!(results.hits[0].best_sentence, None);

    let (_folder, embedder, collection) = indexed(&[("empty.rs", "")]);
    let results = search(&embedder, &collection, "rice", &SearchOptions::default()).unwrap();
    assert_eq!(results.hits, []);
}

/// Counts how often a passage says `bright`.
struct Bright;

impl Reranker for Bright {
    fn name(&self) -> &str {
        "bright"
    }

    fn rerank(
        &self,
        _: &str,
        documents: &[&str],
    ) -> std::result::Result<crate::rerank::Ranking, crate::rerank::RerankError> {
        let count = |text: &&str| text.matches("bright").count() as f32;
        Ok(crate::rerank::Ranking {
            scores: documents.iter().map(count).collect(),
            total_tokens: None,
        })
    }
}

#[test]
fn a_reranker_orders_the_candidates_anew() {
    let (_folder, embedder, collection) = indexed(&[
        ("a.md", "The moon of the night."),
        ("b.md", "The moon is bright, bright, bright."),
        ("c.md", "# bright\n\nThe moon is bright."),
    ]);
    let options = SearchOptions {
        top_k: 2,
        ..SearchOptions::default()
    };
    let plain = search(&embedder, &collection, "moon of the night", &options).unwrap();
    assert_eq!(names(&plain)[0], "a.md");
    assert_eq!((plain.reranker, plain.hits[0].relevance), (None, None));
    let results = search_reranked(
        &embedder,
        Some(&Bright),
        &collection,
        "moon of the night",
        &options,
    );
    let results = results.unwrap();
    // What was third is among the candidates, and a heading is read with its passage.
    assert_eq!(names(&results), ["b.md", "c.md"]);
    assert_eq!(results.reranker.as_deref(), Some("bright"));
    let scores: Vec<_> = results
        .hits
        .iter()
        .map(|hit| (hit.score, hit.relevance))
        .collect();
    assert_eq!(scores, [(3.0, Some(3.0)), (2.0, Some(2.0))]);
    assert!(results.hits[0].cosine.is_some());
}

#[test]
fn variety_takes_what_is_unlike_what_came_before() {
    let (_folder, embedder, collection) = indexed(&[
        ("a.md", "bright moon night river"),
        ("b.md", "bright moon night mountain"),
        ("c.md", "bright cooking rice"),
    ]);
    let find = |mode, mmr| {
        let options = SearchOptions {
            top_k: 2,
            mode: Some(mode),
            mmr,
            ..SearchOptions::default()
        };
        search(&embedder, &collection, "bright moon night", &options)
    };
    for mode in [SearchMode::Dense, SearchMode::Hybrid] {
        assert_eq!(names(&find(mode, None).unwrap()), ["a.md", "b.md"]);
        assert_eq!(names(&find(mode, Some(1.0)).unwrap()), ["a.md", "b.md"]);
        assert_eq!(names(&find(mode, Some(0.2)).unwrap()), ["a.md", "c.md"]);
    }
    for lambda in [-0.1, 1.5, f32::NAN] {
        let error = find(SearchMode::Dense, Some(lambda)).unwrap_err();
        assert!(error.to_string().contains("mmr"), "{error}");
    }
}
