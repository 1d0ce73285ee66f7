use std::collections::HashSet;

use super::*;

#[test]
fn every_entry_is_complete_and_no_name_is_taken_twice() {
    let mut names = HashSet::new();
    for entry in Catalog::embedded().entries() {
        assert!(!entry.sources.is_empty(), "{} has no source", entry.id);
        assert!(
            entry.size > 1_000_000 && entry.max_tokens >= 128,
            "{}",
            entry.id
        );
        assert!(
            !entry.languages.is_empty() && !entry.licence.is_empty(),
            "{}",
            entry.id
        );
        match entry.kind {
            ModelKind::Embedding => {
                let dimensions = entry.dimensions.expect("an embedding model has a width");
                assert!(
                    entry
                        .matryoshka_dimensions
                        .iter()
                        .all(|width| *width <= dimensions)
                );
                assert!(matches!(
                    entry.pooling.as_deref(),
                    Some("cls" | "mean" | "last-token")
                ));
            }
            ModelKind::Reranker | ModelKind::Chat => {
                assert!(entry.dimensions.is_none() && entry.pooling.is_none());
            }
        }
        for name in entry.aliases.iter().chain([&entry.id]) {
            assert!(names.insert(name.to_lowercase()), "`{name}` is taken twice");
        }
    }
}

#[test]
fn every_hash_is_64_hex_digits_and_every_wheel_file_is_pinned() {
    for entry in Catalog::embedded().entries() {
        for source in &entry.sources {
            for file in source.files() {
                if let Some(hash) = &file.sha256 {
                    assert!(hash.len() == 64, "{} {}", entry.id, file.path);
                    assert!(hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
                }
                let pinned = file.sha256.is_some() && file.size.is_some();
                assert!(
                    pinned || source.kind() != SourceKind::Wheel,
                    "{}",
                    file.path
                );
            }
        }
    }
}

#[test]
fn the_models_that_the_guide_names_are_there() {
    for id in [
        super::super::DEFAULT_MODEL,
        "multilingual-e5-small-f32",
        "multilingual-e5-base",
        "multilingual-e5-large",
        "all-MiniLM-L6-v2",
        "bge-small-zh-v1.5",
        "bge-m3",
        "bge-reranker-v2-m3",
        "gte-modernbert-base",
        "nomic-embed-text-v1.5",
        "Qwen3-Embedding-0.6B",
        "embeddinggemma-300m",
    ] {
        assert!(Catalog::embedded().find(id).is_some(), "{id} is missing");
    }
    assert_eq!(
        Catalog::embedded().entries()[0].id,
        super::super::DEFAULT_MODEL
    );
}

#[test]
fn names_are_found_in_any_case_and_misspelt_ones_suggested() {
    let catalog = Catalog::embedded();
    assert_eq!(
        catalog.find("ALL-minilm-l6-V2").expect("found").id,
        "all-MiniLM-L6-v2"
    );
    assert_eq!(catalog.find("baai/bge-m3").expect("found").id, "bge-m3");
    assert!(catalog.find("bge").is_none());
    assert_eq!(catalog.similar("all-minilm-l6")[0], "all-MiniLM-L6-v2");
    assert_eq!(
        catalog.similar("multilingual-e5-smal")[0],
        "multilingual-e5-small"
    );
    assert!(catalog.similar("zzzzzzzzzz").is_empty());
}

#[test]
fn languages_are_known_by_code_or_all() {
    let knows = |id: &str, language: &str| Catalog::embedded().find(id).unwrap().knows(language);
    assert!(knows("smollm2-135m-instruct", "en"));
    assert!(!knows("smollm2-135m-instruct", "zh"));
    assert!(knows("multilingual-e5-small", "zh"));
}
