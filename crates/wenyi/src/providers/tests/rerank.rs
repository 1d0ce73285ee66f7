use serde_json::{Value, json};

use super::endpoint_with;
use super::server::{Reply, Server};
use crate::providers::{RemoteReranker, RerankOptions};
use crate::rerank::Reranker;

fn rerank(provider: &str, toml: &str, answer: Value) -> (Result<Vec<f32>, String>, Value, String) {
    let server = Server::start(move |_| Reply::json(200, &answer));
    let toml = toml.replace("URL", &server.url);
    let endpoint = endpoint_with(provider, &server.url, &toml).unwrap();
    let reranker = RemoteReranker::open(endpoint, "m").unwrap();
    let ranking = reranker.rerank("问", &["a", "b"]);
    let seen = server.requests().remove(0);
    (
        ranking.map(|r| r.scores).map_err(|e| e.to_string()),
        seen.body,
        seen.path,
    )
}

#[test]
fn every_dialect_is_spoken() {
    let results =
        json!([{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]);
    let (scores, body, path) = rerank("cohere", "", json!({"id": "x", "results": results}));
    assert_eq!(
        (scores.unwrap(), path.as_str()),
        (vec![0.1, 0.9], "/v2/rerank")
    );
    assert_eq!(body["documents"], json!(["a", "b"]));
    let (scores, body, path) = rerank("jina", "", json!({"results": results}));
    assert_eq!(
        (scores.unwrap(), path.as_str()),
        (vec![0.1, 0.9], "/v1/rerank")
    );
    assert_eq!(body["return_documents"], false);
    let (scores, body, path) = rerank("dashscope", "", json!({"output": {"results": results}}));
    assert_eq!(scores.unwrap(), [0.1, 0.9]);
    assert_eq!(path, "/api/v1/services/rerank/text-rerank/text-rerank");
    assert_eq!(body["input"]["query"], "问");
    let toml = "[providers.tei]\nbase_url = \"URL/v1\"\nrerank = \"tei\"";
    let tei = json!([{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]);
    let (scores, body, path) = rerank("tei", toml, tei);
    assert_eq!(
        (scores.unwrap(), path.as_str()),
        (vec![0.1, 0.9], "/rerank")
    );
    assert_eq!(body["texts"], json!(["a", "b"]));
}

#[test]
fn scores_that_cannot_be_believed_are_refused() {
    let one = |index: usize| json!({"index": index, "relevance_score": 0.5});
    for (results, expected) in [
        (json!([one(0)]), "sent 1 scores for 2 texts"),
        (json!([one(0), one(0)]), "indices"),
        (json!([one(0), one(2)]), "indices"),
        (json!([one(0), {"index": 1}]), "malformed"),
    ] {
        let (scores, _, _) = rerank("jina", "", json!({"results": results}));
        let error = scores.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let (scores, _, _) = rerank("cohere", "", json!({"message": "no"}));
    assert!(scores.unwrap_err().contains("no results"));
}

#[test]
fn options_go_where_they_are_taken() {
    let server = Server::start(|_| Reply::json(500, &json!({"message": "no"})));
    let options = |instruct: bool, limit: bool| RerankOptions {
        instruct: instruct.then(|| "find".into()),
        max_tokens_per_doc: limit.then_some(9),
        priority: Some(1),
    };
    let toml = "[providers.PROVIDER]\nmax_retries = 0";
    for (provider, instruct, limit) in [
        ("dashscope", true, false),
        ("cohere", false, true),
        ("jina", false, false),
    ] {
        let toml = toml.replace("PROVIDER", provider);
        let endpoint = endpoint_with(provider, &server.url, &toml).unwrap();
        let reranker = RemoteReranker::open(endpoint, "m").unwrap();
        for (with_task, with_limit) in [(false, false), (true, false), (false, true)] {
            let before = server.requests().len();
            let error = reranker.rerank_with("q", &["a"], &options(with_task, with_limit));
            let error = error.unwrap_err().to_string();
            let is_sent = (instruct || !with_task) && (limit || !with_limit);
            assert_eq!(
                server.requests().len() - before,
                usize::from(is_sent),
                "{error}"
            );
            assert_eq!(error.contains("does not take"), !is_sent, "{error}");
        }
    }
}
