//! `OpenAI`'s lists, page by page.

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::vector_stores::{Page, Paging};

/// The page that a client asks for.
pub(super) fn paging(uri: &Uri, usual: usize, most: usize) -> Result<Paging, Problem> {
    let limit = match parameter(uri, "limit") {
        None => usual,
        Some(limit) => match limit.parse() {
            Ok(limit) if (1..=most).contains(&limit) => limit,
            _ => {
                let reason = format!("is `{limit}`, expected 1 to {most}");
                return Err(Problem::field("limit", reason));
            }
        },
    };
    let ascending = match parameter(uri, "order").as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(other) => {
            let reason = format!("is `{other}`, expected `asc` or `desc`");
            return Err(Problem::field("order", reason));
        }
    };
    Ok(Paging {
        limit,
        ascending,
        after: parameter(uri, "after"),
        before: parameter(uri, "before"),
    })
}

/// A parameter behind the path; ids and words, which need no decoding.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(key, value)| *key == name && !value.is_empty());
    found.map(|(_, value)| value.to_owned())
}

/// The list of a page.
pub(super) fn list<T>(page: &Page<T>, printed: impl Fn(&str, &T) -> Value) -> Response {
    let data: Vec<Value> = (page.data.iter())
        .map(|(id, entry)| printed(id, entry))
        .collect();
    let id = |entry: Option<&(String, T)>| entry.map(|(id, _)| id.clone());
    super::json(
        StatusCode::OK,
        &json!({
            "object": "list", "data": data, "has_more": page.has_more,
            "first_id": id(page.data.first()), "last_id": id(page.data.last()),
        }),
    )
}
