//! A provider's model as a [`Reranker`], in each dialect.

use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::{Endpoint, Service};
use super::table::RerankDialect;
use super::{ErrorKind, Result};
use crate::rerank::{Ranking, RerankError, Reranker};

/// A provider's reranking model.
#[derive(Debug)]
pub struct RemoteReranker {
    endpoint: Endpoint,
    url: String,
    model: String,
    name: String,
    dialect: RerankDialect,
}

/// What some providers take beside query and documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RerankOptions {
    /// The task in words: DashScope.
    pub instruct: Option<String>,
    /// Longer documents are cut to so many tokens: Cohere.
    pub max_tokens_per_doc: Option<usize>,
    /// Which requests go first, 0 before 999: Cohere; elsewhere it means nothing and is left out.
    pub priority: Option<u16>,
}

impl RemoteReranker {
    /// The model `model` of the provider behind `endpoint`. Opens no connection.
    ///
    /// # Errors
    ///
    /// If the provider has no reranking, or the model was retired.
    pub fn open(endpoint: Endpoint, model: &str) -> Result<Self> {
        let url = endpoint.url(Service::Rerank)?;
        endpoint.must_be_alive(model)?;
        let name = format!("{}:{model}", endpoint.provider());
        let dialect = endpoint.rerank_dialect()?;
        Ok(Self {
            endpoint,
            url,
            model: model.into(),
            name,
            dialect,
        })
    }

    /// As [`Reranker::rerank`], with options.
    ///
    /// # Errors
    ///
    /// As [`Reranker::rerank`]; and if the provider takes no such option.
    pub fn rerank_with(
        &self,
        query: &str,
        documents: &[&str],
        options: &RerankOptions,
    ) -> Result<Ranking, RerankError> {
        self.check(options)?;
        if documents.is_empty() {
            return Ok(Ranking::default());
        }
        let body = self.body(query, documents, options).to_string();
        let client = self.endpoint.client();
        let bytes = client.exchange(&self.url, self.endpoint.headers(), body.as_bytes())?;
        Ok(self.read(&bytes, documents.len())?)
    }

    fn check(&self, options: &RerankOptions) -> Result<()> {
        let limit = options.max_tokens_per_doc.map(|limit| limit.to_string());
        let (option, value) = match (&options.instruct, limit) {
            (Some(task), _) if self.dialect != RerankDialect::DashScope => {
                ("instruct", task.clone())
            }
            (_, Some(limit)) if self.dialect != RerankDialect::Cohere => {
                ("max_tokens_per_doc", limit)
            }
            _ => return Ok(()),
        };
        Err(ErrorKind::Option {
            model: self.name.clone(),
            option,
            value,
            expected: "none".into(),
        }
        .into())
    }

    fn body(&self, query: &str, documents: &[&str], options: &RerankOptions) -> Value {
        match self.dialect {
            RerankDialect::DashScope => {
                let mut parameters = json!({"top_n": documents.len(), "return_documents": false});
                if let Some(task) = &options.instruct {
                    parameters["instruct"] = task.as_str().into();
                }
                json!({
                    "model": self.model,
                    "input": {"query": query, "documents": documents},
                    "parameters": parameters,
                })
            }
            RerankDialect::Cohere => {
                let mut body = json!({
                    "model": self.model, "query": query, "documents": documents,
                    "top_n": documents.len(),
                });
                if let Some(limit) = options.max_tokens_per_doc {
                    body["max_tokens_per_doc"] = limit.into();
                }
                if let Some(priority) = options.priority {
                    body["priority"] = priority.into();
                }
                body
            }
            RerankDialect::Jina => json!({
                "model": self.model, "query": query, "documents": documents,
                "top_n": documents.len(), "return_documents": false,
            }),
            RerankDialect::Tei => json!({
                "query": query, "texts": documents, "truncate": true, "return_text": false,
            }),
        }
    }

    fn read(&self, bytes: &[u8], expected: usize) -> Result<Ranking> {
        let client = self.endpoint.client();
        let mut value: Value =
            serde_json::from_slice(bytes).map_err(|error| client.malformed(error.to_string()))?;
        let place = match self.dialect {
            RerankDialect::DashScope => "/output/results",
            RerankDialect::Cohere | RerankDialect::Jina => "/results",
            RerankDialect::Tei => "",
        };
        let results = value
            .pointer_mut(place)
            .map(Value::take)
            .filter(Value::is_array);
        let Some(results) = results else {
            let is_error = ["error", "code"]
                .iter()
                .any(|name| value.get(name).is_some());
            return Err(match is_error {
                true => client.told_error(200, &value),
                false => client.malformed("it has no results"),
            });
        };
        let results: Vec<Scored> = serde_json::from_value(results)
            .map_err(|error| client.malformed(format!("its results: {error}")))?;
        let total = value.pointer("/usage/total_tokens").and_then(Value::as_u64);
        Ok(Ranking {
            scores: self.scores(&results, expected)?,
            total_tokens: total,
        })
    }

    fn scores(&self, results: &[Scored], expected: usize) -> Result<Vec<f32>> {
        let client = self.endpoint.client();
        let provider = || client.provider().to_owned();
        if results.len() != expected {
            let (what, received) = ("scores", results.len());
            let provider = provider();
            return Err(ErrorKind::WrongCount {
                provider,
                what,
                expected,
                received,
            }
            .into());
        }
        let mut scores: Vec<Option<f32>> = vec![None; expected];
        for scored in results {
            match scores.get_mut(scored.index) {
                Some(slot @ None) => *slot = Some(scored.score),
                _ => return Err(client.malformed("its indices are not those of the documents")),
            }
        }
        let scores: Vec<f32> = scores.into_iter().flatten().collect();
        match scores.iter().position(|score| !score.is_finite()) {
            Some(index) => {
                let what = "a score that is no number";
                Err(ErrorKind::NotANumber {
                    provider: provider(),
                    index,
                    what,
                }
                .into())
            }
            None => Ok(scores),
        }
    }
}

#[derive(Deserialize)]
struct Scored {
    index: usize,
    #[serde(alias = "relevance_score")]
    score: f32,
}

impl Reranker for RemoteReranker {
    fn name(&self) -> &str {
        &self.name
    }

    fn rerank(&self, query: &str, documents: &[&str]) -> Result<Ranking, RerankError> {
        self.rerank_with(query, documents, &RerankOptions::default())
    }
}
