//! A served model whose work is done by a provider.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wenyi::chat::ChatModel;
use wenyi::embed::EmbedOptions;
use wenyi::providers::{
    Endpoint, ModelName, NativeEmbeddings, NativeOptions, RemoteChat, RemoteEmbedder,
    RemoteReranker, RerankOptions, Service,
};
use wenyi::rerank::RerankError;

use super::blocking::answered;
use super::opening::Opening;
use super::speaker::Speaker;
use crate::options::ServerOptions;
use crate::problem::Problem;

/// A provider's model. What it is asked for first is made ready then.
#[derive(Debug)]
pub(crate) struct Remote {
    endpoint: Endpoint,
    model: String,
    places: Arc<Semaphore>,
    embedder: Opening,
}

/// Bytes of an answer, as the provider sends them.
pub(crate) type Body = Box<dyn std::io::Read + Send>;

impl Remote {
    pub(super) fn open(name: &ModelName, options: &ServerOptions) -> Result<Self, String> {
        let endpoint = Endpoint::open(&name.provider, &options.config);
        let endpoint = endpoint.map_err(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })?;
        if leads_back(endpoint.base_url(), options) {
            let url = endpoint.base_url();
            return Err(format!(
                "`{url}` is this server itself; give the provider its own `base_url`"
            ));
        }
        Ok(Self {
            endpoint,
            model: name.model.clone(),
            places: Arc::new(Semaphore::new(options.max_chats)),
            embedder: Opening::default(),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The provider's name for the model.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// A place among the requests that wait for the provider.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.places.clone().try_acquire_owned();
        place.map_err(|_| Problem::BUSY)
    }

    /// The embedder, and the place of who had to wait for it.
    pub(super) async fn ready_embedder(
        &self,
    ) -> Result<(Arc<RemoteEmbedder>, Option<OwnedSemaphorePermit>), Problem> {
        if let Some(embedder) = self.embedder.get() {
            return Ok((embedder, None));
        }
        let place = self.place()?;
        let (endpoint, model) = (self.endpoint.clone(), self.model.clone());
        let open = move || RemoteEmbedder::open(endpoint, &model);
        Ok((self.embedder.wait(open).await?, Some(place)))
    }

    /// What `native` says of `texts`.
    pub(super) async fn embed(
        &self,
        (embedder, place): (Arc<RemoteEmbedder>, Option<OwnedSemaphorePermit>),
        texts: Vec<String>,
        options: EmbedOptions,
        native: NativeOptions,
    ) -> Result<NativeEmbeddings, Problem> {
        let place = place.map_or_else(|| self.place(), Ok)?;
        answered(place, move || {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let embedded = embedder.embed_natively(&texts, &options, &native);
            embedded.map_err(|error| Problem::of_embedder(&error))
        })
        .await
    }

    /// Scores of `documents`, and tokens where the provider counts them.
    pub(super) async fn rerank(
        &self,
        query: String,
        documents: Vec<String>,
        options: RerankOptions,
    ) -> Result<(Vec<f32>, Option<u64>), Problem> {
        let place = self.place()?;
        let (endpoint, model) = (self.endpoint.clone(), self.model.clone());
        answered(place, move || {
            let reranker = RemoteReranker::open(endpoint, &model);
            let reranker = reranker.map_err(|error| Problem::of_provider(&error))?;
            let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
            let ranking = reranker.rerank_with(&query, &documents, &options);
            let ranking = ranking.map_err(|error| match error {
                RerankError::Remote(error) => Problem::of_provider(&error),
                other => Problem::Internal {
                    reason: other.to_string(),
                },
            })?;
            Ok((ranking.scores, ranking.total_tokens))
        })
        .await
    }

    /// The model as one to talk with.
    pub(crate) fn speaker(&self) -> Result<Speaker, Problem> {
        let chat = RemoteChat::open(self.endpoint.clone(), &self.model);
        let chat = chat.map_err(|error| Problem::of_provider(&error))?;
        let chat: Arc<dyn ChatModel> = Arc::new(chat);
        Ok(Speaker::new(chat, None, self.places.clone()))
    }

    /// Passes a request on and hands the answer's body over; a failure is read to its end.
    pub(crate) fn forward(
        &self,
        service: Service,
        body: &[u8],
    ) -> Result<(Option<String>, Body), Problem> {
        let answer = self.endpoint.forward(service, body);
        let answer = answer.map_err(|error| Problem::of_provider(&error))?;
        if answer.status != 200 {
            return Err(Problem::of_provider(
                &self.endpoint.failure(service, answer),
            ));
        }
        let kind = answer.header("content-type").map(str::to_owned);
        Ok((kind, answer.body))
    }
}

/// Settings meant for clients of this server, in the same environment, would make it its own client.
fn leads_back(url: &str, options: &ServerOptions) -> bool {
    let rest = url.split("://").nth(1).unwrap_or(url);
    let authority = rest.split('/').next().unwrap_or(rest);
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    let is_loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]" | "0.0.0.0");
    is_loopback && port.parse() == Ok(options.address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_not_its_own_provider() {
        let options = ServerOptions::default();
        assert!(leads_back("http://127.0.0.1:8000/v1", &options));
        assert!(leads_back("http://localhost:8000", &options));
        assert!(!leads_back("http://127.0.0.1:8001/v1", &options));
        assert!(!leads_back("https://api.openai.com/v1", &options));
    }
}
