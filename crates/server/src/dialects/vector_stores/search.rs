//! The search of `OpenAI`'s vector stores.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::fields::Fields;
use super::super::json;
use super::filter;
use crate::call::Client;
use crate::http::{App, Path, Payload};
use crate::problem::Problem;
use crate::vector_stores::{Ranking, Search, search};

/// Hits if a client does not say, and at most.
const LIMITS: (usize, usize) = (10, 50);

/// `POST /v1/vector_stores/{store}/search`.
pub(crate) async fn find(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Path(store): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    let search_for = sought(&Fields::parse(body.bytes())?)?;
    let queries = search_for.queries.clone();
    let hits = search(&app, client, store, search_for).await?;
    let data: Vec<Value> = (hits.into_iter())
        .map(|hit| {
            json!({
                "file_id": hit.file, "filename": hit.filename, "score": hit.score,
                "attributes": hit.attributes, "content": [{"type": "text", "text": hit.text}],
            })
        })
        .collect();
    let answer = json!({
        "object": "vector_store.search_results.page", "search_query": queries, "data": data,
        "has_more": false, "next_page": null,
    });
    Ok(json(StatusCode::OK, &answer))
}

fn sought(fields: &Fields<'_>) -> Result<Search, Problem> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Queries {
        One(String),
        Many(Vec<String>),
    }
    let queries = match fields.required("query")? {
        Queries::One(query) => vec![query],
        Queries::Many(queries) => queries,
    };
    if queries.is_empty() || queries.iter().any(|query| query.trim().is_empty()) {
        return Err(Problem::field("query", "is empty"));
    }
    let limit = fields.optional("max_num_results")?.unwrap_or(LIMITS.0);
    if !(1..=LIMITS.1).contains(&limit) {
        let reason = format!("is {limit}, expected 1 to {}", LIMITS.1);
        return Err(Problem::field("max_num_results", reason));
    }
    // Queries are sought as they are, whether they might be rewritten or not.
    fields.optional::<bool>("rewrite_query")?;
    let options: Option<RankingOptions> = fields.optional("ranking_options")?;
    let options = options.unwrap_or_default();
    let filters: Option<Value> = fields.optional("filters")?;
    Ok(Search {
        queries,
        limit,
        filter: filters
            .map(|filters| filter::conditions(&filters))
            .transpose()?,
        ranking: options.ranking()?,
        score_threshold: options.threshold()?,
    })
}

#[derive(Default, Deserialize)]
struct RankingOptions {
    #[serde(default)]
    ranker: Option<String>,
    #[serde(default)]
    score_threshold: Option<f32>,
    #[serde(default)]
    hybrid_search: Option<Weights>,
}

/// What meaning and words count, in proportion to each other.
#[derive(Clone, Copy, Deserialize)]
struct Weights {
    embedding_weight: f32,
    text_weight: f32,
}

impl RankingOptions {
    fn ranking(&self) -> Result<Ranking, Problem> {
        let ranking = match self.ranker.as_deref() {
            // `none` says that hits are not to be put into another order than that of the vectors.
            Some("none") => Ranking::Vectors,
            None | Some("auto" | "default-2024-11-15") => Ranking::default(),
            Some(other) => {
                let expected = "expected `auto`, `default-2024-11-15` or `none`";
                let reason = format!("has the ranker `{other}`, {expected}");
                return Err(refused(reason));
            }
        };
        let (Some(weights), Ranking::Hybrid { .. }) = (self.hybrid_search, ranking) else {
            return Ok(ranking);
        };
        let Weights {
            embedding_weight: vector,
            text_weight: text,
        } = weights;
        let most = vector.max(text);
        let is_weight = |weight: f32| weight.is_finite() && weight >= 0.0;
        if !is_weight(vector) || !is_weight(text) || most == 0.0 {
            let reason = format!(
                "has the `embedding_weight` {vector} and the `text_weight` {text}, expected numbers \
                 from 0 on that are not both 0"
            );
            return Err(refused(reason));
        }
        Ok(Ranking::Hybrid {
            vector: vector / most,
            text: text / most,
        })
    }

    fn threshold(&self) -> Result<Option<f32>, Problem> {
        let Some(threshold) = self.score_threshold else {
            return Ok(None);
        };
        if !(0.0..=1.0).contains(&threshold) {
            let reason = format!("has the `score_threshold` {threshold}, expected 0 to 1");
            return Err(refused(reason));
        }
        // 0 is what clients send who want no threshold.
        Ok(Some(threshold).filter(|least| *least > 0.0))
    }
}

fn refused(reason: String) -> Problem {
    Problem::field("ranking_options", reason)
}
