//! `POST /predict`: what a classifier says of texts; here a cross-encoder of pairs.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use wenyi::providers::RerankOptions;

use super::super::fields::Fields;
use super::super::json;
use super::super::loss::Loss;
use super::{check_count, check_direction, policy};
use crate::call::{Client, RerankRequest};
use crate::http::{App, Payload};
use crate::problem::Problem;

/// How `transformers` calls the only class of a model that names none.
const LABEL: &str = "LABEL_0";

/// What stands in `inputs`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Inputs {
    Text(String),
    /// The parts of one input.
    One(Vec<String>),
    Several(Vec<Vec<String>>),
}

#[derive(Serialize)]
struct Prediction {
    score: f32,
    label: &'static str,
}

/// `POST /predict`.
pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let (pairs, is_single) = match fields.required("inputs")? {
        Inputs::Text(text) => (vec![vec![text]], true),
        Inputs::One(parts) if parts.is_empty() => (Vec::new(), true),
        Inputs::One(parts) => (vec![parts], true),
        Inputs::Several(pairs) => (pairs, false),
    };
    check_count("inputs", pairs.len())?;
    let raw_scores: bool = fields.optional("raw_scores")?.unwrap_or(false);
    let truncate: bool = fields.optional("truncate")?.unwrap_or(true);
    check_direction(&fields, Some(truncate))?;
    let (mut scores, mut usage, mut model) = (Vec::new(), Vec::new(), String::new());
    for (query, documents) in groups(pairs)? {
        let request = RerankRequest {
            model: None,
            query,
            documents,
            overflow: policy(truncate),
            options: RerankOptions::default(),
        };
        let answer = app.models.rerank(client, request).await?;
        for relevance in answer.relevance {
            scores.push(match raw_scores {
                true => relevance.logit,
                false => relevance.score,
            });
            usage.push(relevance.usage);
        }
        model = answer.model;
    }
    let predictions = scores.into_iter().map(|score| {
        let label = LABEL;
        vec![Prediction { score, label }]
    });
    let predictions: Vec<_> = predictions.collect();
    let mut response = match predictions.first() {
        Some(only) if is_single => json(StatusCode::OK, only),
        _ => json(StatusCode::OK, &predictions),
    };
    Loss::of(&usage).tell(&model, &mut response);
    Ok(response)
}

/// Neighbouring pairs with the same first text, which the model reads together.
fn groups(pairs: Vec<Vec<String>>) -> Result<Vec<(String, Vec<String>)>, Problem> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for parts in pairs {
        let pair: Result<[String; 2], _> = parts.try_into();
        let [first, second] = pair.map_err(|parts: Vec<String>| {
            let reason = format!("has {} texts in a place, expected pairs", parts.len());
            Problem::field("inputs", reason)
        })?;
        match groups.last_mut() {
            Some((query, documents)) if *query == first => documents.push(second),
            _ => groups.push((first, vec![second])),
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_with_the_same_first_text_go_together_in_order() {
        let pairs = [["a", "1"], ["a", "2"], ["b", "3"], ["a", "4"]];
        let pairs = pairs.map(|pair| pair.map(str::to_owned).to_vec()).to_vec();
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            groups(pairs).unwrap(),
            [
                ("a".to_owned(), texts(&["1", "2"])),
                ("b".to_owned(), texts(&["3"])),
                ("a".to_owned(), texts(&["4"])),
            ]
        );
        assert!(groups(vec![texts(&["a"])]).is_err());
        assert!(groups(vec![texts(&["a", "b", "c"])]).is_err());
    }
}
