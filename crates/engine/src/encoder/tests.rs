//! Every fixture model against its exact outputs: alone, in a ragged batch, on every instruction set.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

fn fixture(name: &str) -> (PathBuf, Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    let text = std::fs::read(folder.join("expected.json")).unwrap();
    (folder, serde_json::from_slice(&text).unwrap())
}

fn floats(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

const EMBEDDERS: [&str; 11] = [
    "bert",
    "bert_cls",
    "roberta",
    "xlm_roberta",
    "distilbert",
    "mpnet",
    "modernbert",
    "nomic_bert",
    "qwen3_embedding",
    "embeddinggemma",
    "clip_text",
];

fn open(folder: &std::path::Path, precision: Precision, threads: usize) -> Encoder {
    let (precision, threads) = (Some(precision), Some(threads));
    Encoder::open(
        folder,
        &EncoderOptions {
            precision,
            threads,
            ..EncoderOptions::default()
        },
    )
    .unwrap()
}

fn truncating(role: Role) -> EmbedOptions {
    EmbedOptions {
        role,
        overflow: Overflow::Truncate,
        ..EmbedOptions::default()
    }
}

#[test]
fn embeddings_agree_with_the_reference() {
    for name in EMBEDDERS {
        let (folder, expected) = fixture(name);
        let tolerance = expected["tolerance"]["embedding"].as_f64().unwrap() as f32;
        let texts = expected["texts"].as_array().unwrap();
        let inputs: Vec<&str> = texts
            .iter()
            .map(|text| text["text"].as_str().unwrap())
            .collect();
        for threads in [1, 2, 3] {
            let encoder = open(&folder, Precision::F32, threads);
            let together = encoder.embed(&inputs, &truncating(Role::Plain)).unwrap();
            for (index, text) in texts.iter().enumerate() {
                let want = floats(&text["embedding"]);
                let id = &text["id"];
                let alone = encoder
                    .embed(&inputs[index..=index], &truncating(Role::Plain))
                    .unwrap();
                for (how, got) in [
                    ("batch", together.vector(index)),
                    ("alone", alone.vector(0)),
                ] {
                    let off = largest_difference(got, &want);
                    assert!(
                        off <= tolerance,
                        "{name} {id} {how} {threads}: off by {off}"
                    );
                }
                let seen = text["n_tokens_untruncated"].as_u64().unwrap() as usize;
                let kept = text["input_ids"].as_array().unwrap().len();
                assert_eq!(
                    together.usage[index],
                    TokenUsage {
                        seen,
                        kept,
                        windows: 1
                    },
                    "{name} {id}"
                );
            }
        }
    }
}

#[test]
fn prompted_embeddings_agree_with_the_reference() {
    let mut checked = 0;
    for name in EMBEDDERS {
        let (folder, expected) = fixture(name);
        let encoder = open(&folder, Precision::F32, 2);
        let tolerance = expected["tolerance"]["embedding"].as_f64().unwrap() as f32;
        for prompted in expected["prompted"].as_array().into_iter().flatten() {
            let role = Role::Named(prompted["prompt_name"].as_str().unwrap().into());
            let texts = expected["texts"].as_array().unwrap();
            let text = texts
                .iter()
                .find(|text| text["id"] == prompted["text_id"])
                .unwrap();
            let text = text["text"].as_str().unwrap();
            let got = encoder.embed(&[text], &truncating(role)).unwrap();
            let off = largest_difference(got.vector(0), &floats(&prompted["embedding"]));
            assert!(off <= tolerance, "{name} {prompted:.80}: off by {off}");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} prompted vectors");
}

#[test]
fn hidden_states_agree_with_the_reference() {
    for name in EMBEDDERS {
        let (folder, expected) = fixture(name);
        let encoder = open(&folder, Precision::F32, 1);
        let tolerance = expected["tolerance"]["last_hidden_state"].as_f64().unwrap() as f32;
        let mut checked = 0;
        for text in expected["texts"].as_array().unwrap() {
            let Some(states) = text["last_hidden_state"].as_array() else {
                continue;
            };
            let ids: Vec<u32> = floats(&text["input_ids"])
                .into_iter()
                .map(|id| id as u32)
                .collect();
            let mut batch = crate::transformer::Batch::default();
            batch.push(&ids, &[]);
            let mut scratch = Scratch::new(&encoder.transformer);
            let hidden = encoder.transformer.forward(&batch, &mut scratch).unwrap();
            for (token, want) in states.iter().enumerate() {
                let off = largest_difference(hidden.token(token), &floats(want));
                assert!(
                    off <= tolerance,
                    "{name} {} token {token}: off by {off}",
                    text["id"]
                );
            }
            checked += 1;
        }
        assert_eq!(checked, 3, "{name}");
    }
}

#[test]
fn transformers_5_configurations_say_the_same() {
    for name in EMBEDDERS {
        let (folder, _) = fixture(name);
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap();
            if path.is_dir() {
                std::os::unix::fs::symlink(&path, copy.path().join(file)).unwrap();
            } else if file != "config.json" {
                std::fs::copy(&path, copy.path().join(file)).unwrap();
            }
        }
        let newer = copy.path().join("config.transformers5.json");
        std::fs::rename(newer, copy.path().join("config.json")).unwrap();
        let (old, new) = (
            open(&folder, Precision::F32, 1),
            open(copy.path(), Precision::F32, 1),
        );
        assert_eq!(old.transformer.config, new.transformer.config, "{name}");
        assert_eq!(old.description, new.description, "{name}");
    }
}

#[test]
fn relevance_agrees_with_the_reference() {
    let (folder, expected) = fixture("cross_encoder");
    let tolerance = expected["tolerance"]["logit"].as_f64().unwrap() as f32;
    let encoder = open(&folder, Precision::F32, 2);
    for pair in expected["pairs"].as_array().unwrap() {
        let (query, passage) = (
            pair["query"].as_str().unwrap(),
            pair["passage"].as_str().unwrap(),
        );
        let got = encoder
            .rerank(query, &["other", passage], Overflow::Truncate)
            .unwrap();
        let off = (got[1].logit - pair["logit"].as_f64().unwrap() as f32).abs();
        assert!(off <= tolerance, "off by {off}");
        let score = pair["score_sigmoid"].as_f64().unwrap() as f32;
        assert!((got[1].score - score).abs() <= tolerance);
        assert_eq!(
            got[1].usage.seen as u64,
            pair["n_tokens_untruncated"].as_u64().unwrap()
        );
    }
    assert!(encoder.embed(&["x"], &EmbedOptions::default()).is_err());
}

#[test]
fn sparse_vectors_agree_with_the_reference() {
    let (folder, expected) = fixture("splade");
    let tolerance = expected["tolerance"]["weights"].as_f64().unwrap() as f32;
    let encoder = open(&folder, Precision::F32, 2);
    for text in expected["texts"].as_array().unwrap() {
        let got = encoder
            .sparse(&[text["text"].as_str().unwrap()], &truncating(Role::Plain))
            .unwrap();
        let mut want = vec![0.0; 1204];
        let ids = floats(&text["sparse"]["ids"]);
        for (id, weight) in ids.iter().zip(floats(&text["sparse"]["weights"])) {
            want[*id as usize] = weight;
        }
        let mut dense = vec![0.0; want.len()];
        got[0]
            .weights
            .iter()
            .for_each(|(id, weight)| dense[*id as usize] = *weight);
        let off = largest_difference(&dense, &want);
        assert!(off <= tolerance, "{}: off by {off}", text["id"]);
    }
}

/// The lower precisions on random weights are no match for real models (with bf16 attention, ModernBERT's
/// are at 0.9994), but must stay near `f32` and must not depend on company, threads or path.
#[test]
fn lower_precisions_stay_near_and_do_not_depend_on_company() {
    for name in EMBEDDERS {
        let (folder, expected) = fixture(name);
        let texts = expected["texts"].as_array().unwrap();
        let inputs: Vec<&str> = texts
            .iter()
            .map(|text| text["text"].as_str().unwrap())
            .collect();
        for (precision, least) in [(Precision::Bf16, 0.999), (Precision::Int8, 0.97)] {
            let encoder = open(&folder, precision, 2);
            let together = encoder.embed(&inputs, &truncating(Role::Plain)).unwrap();
            for (index, text) in texts.iter().enumerate() {
                let want = floats(&text["embedding"]);
                let cosine: f32 = together
                    .vector(index)
                    .iter()
                    .zip(&want)
                    .map(|(a, b)| a * b)
                    .sum();
                assert!(
                    cosine >= least,
                    "{name} {precision} {}: cosine {cosine}",
                    text["id"]
                );
                let alone = encoder
                    .embed(&inputs[index..=index], &truncating(Role::Plain))
                    .unwrap();
                let off = largest_difference(alone.vector(0), together.vector(index));
                assert!(
                    off <= 1e-5,
                    "{name} {precision} {}: company moved it by {off}",
                    text["id"]
                );
            }
        }
    }
}
