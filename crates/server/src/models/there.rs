//! Whole requests, answered by a provider: look into the cache, let the provider read the rest.

use std::sync::Arc;

use wenyi::embed::{EmbedOptions, Embedder};
use wenyi::providers::{NativeEmbeddings, NativeOptions, OutputType};

use super::Models;
use super::cache::Key;
use super::remote::Remote;
use crate::call::{RerankRequest, Scores, TextsRequest, Vectors, kept};
use crate::problem::Problem;

impl Models {
    /// Vectors of a provider's model; what is in the cache is not asked for again.
    pub(super) async fn embed_there(
        &self,
        name: String,
        remote: &Arc<Remote>,
        request: TextsRequest,
    ) -> Result<Vectors, Problem> {
        let options = self.remote_options(&request);
        let ready = remote.ready_embedder().await?;
        let dimensions = options.dimensions.unwrap_or(ready.0.dimensions());
        let space = format!("{}/{dimensions}", ready.0.fingerprint().weights);
        // The provider puts the task before the text.
        let prompt = match &request.instruct {
            Some(task) => format!("{:?} {task}", options.role),
            None => format!("{:?}", options.role),
        };
        let (mut known, mut missing) = (Vec::new(), Vec::new());
        for text in request.texts {
            let key = Key::of(&space, &prompt, options.overflow, &text);
            let found = self.cache.get(&key);
            if found.is_none() {
                missing.push((known.len(), key, text));
            }
            known.push(found);
        }
        self.metrics
            .cache(known.len() - missing.len(), missing.len());
        if !missing.is_empty() {
            let texts = missing.iter().map(|(_, _, text)| text.clone()).collect();
            let native = NativeOptions {
                output_type: OutputType::Dense,
                instruct: request.instruct,
            };
            let embedded = remote.embed(ready, texts, options, native).await?;
            let vectors = embedded.dense.unwrap_or_default();
            let read = vectors.iter().zip(&vectors.usage);
            for ((index, key, _), (vector, usage)) in missing.into_iter().zip(read) {
                let vector: Arc<[f32]> = vector.into();
                self.cache.insert(key, (vector.clone(), *usage));
                known[index] = Some((vector, *usage));
            }
        }
        let (vectors, usage): (_, Vec<_>) = known.into_iter().flatten().unzip();
        self.metrics.tokens(&name, kept(&usage));
        Ok(Vectors {
            model: name,
            vectors,
            usage,
        })
    }

    /// What only the provider's own interface gives, never from the cache, which has vectors alone.
    pub(crate) async fn embed_natively(
        &self,
        name: &str,
        remote: &Arc<Remote>,
        request: TextsRequest,
        output_type: OutputType,
    ) -> Result<NativeEmbeddings, Problem> {
        let options = self.remote_options(&request);
        let native = NativeOptions {
            output_type,
            instruct: request.instruct,
        };
        let ready = remote.ready_embedder().await?;
        let embedded = remote.embed(ready, request.texts, options, native).await?;
        self.metrics.tokens(name, kept(&embedded.usage));
        Ok(embedded)
    }

    /// Scores of a provider's model.
    pub(super) async fn rerank_there(
        &self,
        name: String,
        remote: &Remote,
        request: RerankRequest,
    ) -> Result<Scores, Problem> {
        let (query, documents) = (request.query, request.documents);
        let (scores, tokens) = remote.rerank(query, documents, request.options).await?;
        let counted = tokens.map_or(0, |tokens| usize::try_from(tokens).unwrap_or(usize::MAX));
        self.metrics.tokens(&name, counted);
        Ok(Scores::of_provider(name, &scores, tokens))
    }

    fn remote_options(&self, request: &TextsRequest) -> EmbedOptions {
        let role = request.role.clone();
        EmbedOptions {
            role: role.unwrap_or_else(|| self.options.role.clone()),
            dimensions: request.dimensions,
            overflow: request.overflow.unwrap_or(self.options.overflow),
        }
    }
}
