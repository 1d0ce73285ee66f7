use wenyi_engine::encoder::{Embeddings, Fingerprint, TokenUsage};

use super::*;
use crate::embed::EmbedError;

/// Answers golden texts with their golden vectors, changed by `change`.
struct Recital {
    fingerprint: Fingerprint,
    change: fn(usize, &mut Vec<f32>),
}

impl Recital {
    fn new(precision: &str, change: fn(usize, &mut Vec<f32>)) -> Self {
        let fingerprint = Fingerprint {
            model: "all-MiniLM-L6-v2".into(),
            weights: String::new(),
            pooling: "mean".into(),
            document_prompt: String::new(),
            dimensions: 384,
            precision: precision.into(),
        };
        Self {
            fingerprint,
            change,
        }
    }
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN[0].1).expect("golden vectors")
}

impl Embedder for Recital {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn max_length(&self) -> usize {
        256
    }

    fn count_tokens(&self, _: &str) -> Result<usize, EmbedError> {
        Ok(1)
    }

    fn embed(&self, texts: &[&str], _: &EmbedOptions) -> Result<Embeddings, EmbedError> {
        let golden = golden();
        let index = golden
            .texts
            .iter()
            .position(|item| item.text == texts[0])
            .expect("golden");
        let mut values = golden.texts[index].embedding.clone();
        (self.change)(index, &mut values);
        let usage = vec![TokenUsage {
            seen: 1,
            kept: 1,
            windows: 1,
        }];
        Ok(Embeddings {
            dimensions: values.len(),
            values,
            usage,
        })
    }
}

fn check(precision: &str, change: fn(usize, &mut Vec<f32>)) -> GoldenCheck {
    let embedder = Recital::new(precision, change);
    check_golden("all-MiniLM-L6-v2", &embedder)
        .expect("checked")
        .expect("golden vectors exist")
}

#[test]
fn golden_vectors_are_unit_length_and_cover_both_languages() {
    for (id, text) in GOLDEN {
        assert!(
            crate::hub::Catalog::embedded().find(id).is_some(),
            "{id} is no model"
        );
        let golden: Golden = serde_json::from_str(text).expect("golden vectors");
        assert!(golden.texts.len() >= 10);
        assert!(golden.texts.iter().any(|item| !item.text.is_ascii()));
        for item in &golden.texts {
            let length: f64 = item.embedding.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!(
                (length - 1.0).abs() < 1e-3,
                "{} has length {length}",
                item.text
            );
        }
    }
}

#[test]
fn the_reference_itself_passes_in_every_precision() {
    for precision in ["f32", "bf16", "int8"] {
        let check = check(precision, |_, _| {});
        assert!(check.is_ok(), "{check:?}");
        assert!(check.texts >= 10 && check.mean_cosine > 0.999_999);
    }
}

#[test]
fn one_wrong_text_fails_and_is_named() {
    let check = check("int8", |index, values| {
        if index == 4 {
            values.rotate_left(1);
        }
    });
    assert!(!check.is_ok());
    assert_eq!(check.worst_text, golden().texts[4].text);
}

#[test]
fn small_errors_pass_in_int8_and_fail_in_f32() {
    let noise: fn(usize, &mut Vec<f32>) = |_, values| {
        for (index, value) in values.iter_mut().enumerate() {
            *value += if index % 2 == 0 { 0.005 } else { -0.005 };
        }
    };
    assert!(check("int8", noise).is_ok());
    assert!(!check("f32", noise).is_ok());
}

#[test]
fn numbers_that_are_none_and_wrong_widths_fail() {
    assert!(!check("int8", |_, values| values[3] = f32::NAN).is_ok());
    assert!(!check("int8", |_, values| values.truncate(100)).is_ok());
    assert!(!check("int8", |_, values| values.fill(0.0)).is_ok());
}

#[test]
fn an_unknown_precision_is_refused() {
    let embedder = Recital::new("int4", |_, _| {});
    assert!(check_golden("all-MiniLM-L6-v2", &embedder).is_err());
    assert!(
        check_golden("some/model", &embedder)
            .expect("checked")
            .is_none()
    );
}
