//! What was truncated or split, said in every answer it happened in.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde::Serialize;
use wenyi::embed::TokenUsage;

use crate::http::MODEL;

const TRUNCATED: HeaderName = HeaderName::from_static("x-wenyi-truncated");
const SPLIT: HeaderName = HeaderName::from_static("x-wenyi-split");

/// Texts that are listed; of more, only the number is told.
const LISTED: usize = 100;

/// The texts of a request that did not go through the model in one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
    /// Texts whose end the model has not seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<Truncated>,
    /// Texts whose vector is the mean over several windows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    split: Vec<Split>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Truncated {
    index: usize,
    tokens: usize,
    kept: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Split {
    index: usize,
    tokens: usize,
    windows: usize,
}

impl Loss {
    /// What `usage` tells.
    pub(super) fn of(usage: &[TokenUsage]) -> Self {
        let mut loss = Self::default();
        for (index, usage) in usage.iter().enumerate() {
            let tokens = usage.seen;
            if usage.kept < tokens {
                let kept = usage.kept;
                loss.truncated.push(Truncated {
                    index,
                    tokens,
                    kept,
                });
            }
            if usage.windows > 1 {
                let windows = usage.windows;
                loss.split.push(Split {
                    index,
                    tokens,
                    windows,
                });
            }
        }
        loss
    }

    /// For bodies that have room for it.
    pub(super) fn reported(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// Puts it into the headers, with the model's name.
    pub(super) fn tell(&self, model: &str, response: &mut Response) {
        let headers = response.headers_mut();
        // A name outside of ASCII is told in its UTF-8 bytes.
        if let Ok(model) = HeaderValue::from_bytes(model.as_bytes()) {
            headers.insert(MODEL, model);
        }
        let truncated = self.truncated.iter().map(|text| text.index);
        let split = self.split.iter().map(|text| text.index);
        for (name, indices) in [(TRUNCATED, truncated.collect()), (SPLIT, split.collect())] {
            if let Some(value) = listed(indices) {
                headers.insert(name, value);
            }
        }
    }
}

/// `0,3,7`, or the first ones and their number: `0,3,…;total=2000`.
fn listed(indices: Vec<usize>) -> Option<HeaderValue> {
    if indices.is_empty() {
        return None;
    }
    let shown = indices.iter().take(LISTED).map(usize::to_string);
    let mut text = shown.collect::<Vec<_>>().join(",");
    if indices.len() > LISTED {
        text = format!("{text};total={}", indices.len());
    }
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(seen: usize, kept: usize, windows: usize) -> TokenUsage {
        TokenUsage {
            seen,
            kept,
            windows,
        }
    }

    #[test]
    fn only_what_lost_something_is_told() {
        assert_eq!(Loss::of(&[usage(5, 5, 1)]).reported(), None);
        let loss = Loss::of(&[usage(5, 5, 1), usage(900, 512, 1), usage(900, 900, 2)]);
        let told = serde_json::to_string(&loss).unwrap();
        let expected = r#"{"truncated":[{"index":1,"tokens":900,"kept":512}],"split":[{"index":2,"tokens":900,"windows":2}]}"#;
        assert_eq!(told, expected);
        let mut response = Response::default();
        loss.tell("模型", &mut response);
        assert_eq!(response.headers()["x-wenyi-truncated"], "1");
        assert_eq!(response.headers()["x-wenyi-split"], "2");
    }

    #[test]
    fn long_lists_are_cut_but_counted() {
        let value = listed((0..2000).collect()).unwrap();
        assert!(value.to_str().unwrap().ends_with(",99;total=2000"));
    }
}
