//! Whole requests, answered: tokenize, look into the cache, let the model read the rest.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use wenyi::embed::{EmbedOptions, Overflow, Role, TokenUsage};
use wenyi_engine::encoder::{Encoder, Output, Planned, Relevance};

use super::Models;
use super::cache::{Key, Known};
use super::registry::{Choice, Chosen};
use super::worker::{Reading, Readings};
use crate::call::{
    Client, RerankRequest, Scores, SparseVectors, TextsRequest, Vectors, Weight, kept,
};
use crate::problem::Problem;

/// Bytes of text that are tokenized without leaving the request's own thread: some 50 µs.
const INLINE_BYTES: usize = 4096;

impl Models {
    /// Vectors of texts.
    pub(crate) async fn embed(
        &self,
        client: Client,
        request: TextsRequest,
    ) -> Result<Vectors, Problem> {
        let name = request.model.as_deref();
        let chosen = match self.registry.choose(name, Output::Embedding).await? {
            Choice::Here(chosen) => chosen,
            Choice::There(..) if request.is_raw => {
                let reason = "is false, but the provider's vectors have unit length";
                return Err(Problem::field("normalize", reason));
            }
            Choice::There(name, remote) => return self.embed_there(name, &remote, request).await,
        };
        let available = chosen.worker.encoder().dimensions();
        let dimensions = request.dimensions.unwrap_or(available);
        if !(1..=available).contains(&dimensions) {
            return Err(Problem::Dimensions {
                requested: dimensions,
                available,
            });
        }
        if request.is_raw {
            return self.embed_raw(client, &chosen, request, dimensions).await;
        }
        let options = self.embed_options(&request);
        let texts = self.prepare(&chosen, request.texts, options).await?;
        let usage: Vec<_> = texts.iter().map(Prepared::usage).collect();
        let vectors = self.vectors(client, &chosen, texts).await?;
        self.metrics.tokens(&chosen.name, kept(&usage));
        Ok(Vectors {
            vectors: (vectors.into_iter())
                .map(|vector| shortened(vector, dimensions))
                .collect(),
            model: chosen.name,
            usage,
        })
    }

    /// Vectors as the model gives them; the cache has only those of unit length.
    async fn embed_raw(
        &self,
        client: Client,
        chosen: &Chosen,
        request: TextsRequest,
        dimensions: usize,
    ) -> Result<Vectors, Problem> {
        let options = self.embed_options(&request);
        let worker = chosen.worker.clone();
        let bytes = bytes(&request.texts);
        let plan = move || plan_all(worker.encoder(), &request.texts, &options);
        let planned = blocking(bytes, plan).await?;
        let usage: Vec<_> = planned.iter().map(|planned| planned.usage).collect();
        let readings = chosen.worker.read(client.0, planned).await?;
        self.metrics.tokens(&chosen.name, kept(&usage));
        Ok(Vectors {
            model: chosen.name.clone(),
            vectors: (readings.into_iter())
                .map(|readings| raw(readings, dimensions).into())
                .collect(),
            usage,
        })
    }

    /// Scores of documents.
    pub(crate) async fn rerank(
        &self,
        client: Client,
        request: RerankRequest,
    ) -> Result<Scores, Problem> {
        let name = request.model.as_deref();
        let chosen = match self.registry.choose(name, Output::Relevance).await? {
            Choice::Here(chosen) => chosen,
            Choice::There(name, remote) => {
                return self.rerank_there(name, &remote, request).await;
            }
        };
        if request.options.instruct.is_some() {
            let reason = "is not taken by this model: it knows one task only";
            return Err(Problem::field("instruct", reason));
        }
        let worker = chosen.worker.clone();
        let bytes = bytes(&request.documents) + request.query.len() * request.documents.len();
        let (limit, overflow) = (request.options.max_tokens_per_doc, request.overflow);
        let plan = move || {
            let encoder = worker.encoder();
            let query = encoder.tokenizer().encode(&request.query);
            let query = query.map_err(|error| Problem::of_engine(&error, 0))?;
            let documents = request.documents.iter().enumerate();
            documents
                .map(|(index, document)| {
                    let plan = || {
                        let (document, cut) = cut(encoder, document, limit)?;
                        let mut planned = encoder.plan_document(&query, document, overflow)?;
                        planned.usage.seen += cut;
                        Ok(planned)
                    };
                    plan().map_err(|error| Problem::of_engine(&error, index))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let planned = blocking(bytes, plan).await?;
        let usage: Vec<_> = planned.iter().map(|planned| planned.usage).collect();
        let readings = chosen.worker.read(client.0, planned).await?;
        self.metrics.tokens(&chosen.name, kept(&usage));
        let logits = readings
            .into_iter()
            .flatten()
            .map(|(_, reading)| match reading {
                Reading::Logit(logit) => logit,
                _ => f32::NAN,
            });
        let relevance = logits.zip(usage);
        Ok(Scores {
            model: chosen.name,
            relevance: relevance
                .map(|(logit, usage)| Relevance::of(logit, usage))
                .collect(),
        })
    }

    /// Sparse vectors of texts.
    pub(crate) async fn sparse(
        &self,
        client: Client,
        request: TextsRequest,
    ) -> Result<SparseVectors, Problem> {
        let name = request.model.as_deref();
        let chosen = self.registry.choose_here(name, Output::Sparse).await?;
        let options = self.embed_options(&request);
        let worker = chosen.worker.clone();
        let bytes = bytes(&request.texts);
        let plan = move || plan_all(worker.encoder(), &request.texts, &options);
        let planned = blocking(bytes, plan).await?;
        let usage: Vec<_> = planned.iter().map(|planned| planned.usage).collect();
        let readings = chosen.worker.read(client.0, planned).await?;
        self.metrics.tokens(&chosen.name, kept(&usage));
        let encoder = chosen.worker.encoder();
        Ok(SparseVectors {
            vectors: readings
                .into_iter()
                .map(|readings| weights(encoder, readings))
                .collect(),
            model: chosen.name,
            usage,
        })
    }

    fn embed_options(&self, request: &TextsRequest) -> Wanted {
        Wanted {
            role: request.role.clone(),
            usual_role: self.options.role.clone(),
            overflow: request.overflow.unwrap_or(self.options.overflow),
        }
    }

    /// Texts found in the cache, or tokenized.
    async fn prepare(
        &self,
        chosen: &Chosen,
        texts: Vec<String>,
        wanted: Wanted,
    ) -> Result<Vec<Prepared>, Problem> {
        let encoder = chosen.worker.encoder();
        let space = &encoder.fingerprint().weights;
        let mut prepared = Vec::with_capacity(texts.len());
        let mut missing = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            let options = wanted.options(encoder, &text);
            let prompt = encoder.description().prompt(&options.role);
            let prompt = prompt.map_err(|error| Problem::of_engine(&error, index))?;
            let key = Key::of(space, prompt, options.overflow, &text);
            match self.cache.get(&key) {
                Some(known) => prepared.push(Prepared::Known(known)),
                None => {
                    prepared.push(Prepared::Missing);
                    missing.push((index, key, text, options));
                }
            }
        }
        self.metrics
            .cache(prepared.len() - missing.len(), missing.len());
        let bytes = missing.iter().map(|(_, _, text, _)| text.len()).sum();
        let worker = chosen.worker.clone();
        let plan = move || {
            let mut planned = Vec::with_capacity(missing.len());
            for (index, key, text, options) in missing {
                let plan = worker.encoder().plan_text(&text, &options);
                planned.push((index, key, plan.map_err(|e| Problem::of_engine(&e, index))?));
            }
            Ok(planned)
        };
        for (index, key, planned) in blocking(bytes, plan).await? {
            prepared[index] = Prepared::Planned(key, planned);
        }
        Ok(prepared)
    }

    /// The vectors at full width, from the cache or the model.
    async fn vectors(
        &self,
        client: Client,
        chosen: &Chosen,
        texts: Vec<Prepared>,
    ) -> Result<Vec<Arc<[f32]>>, Problem> {
        let mut vectors: Vec<Option<Arc<[f32]>>> = vec![None; texts.len()];
        let (mut places, mut planned) = (Vec::new(), Vec::new());
        for (index, text) in texts.into_iter().enumerate() {
            match text {
                Prepared::Known((vector, _)) => vectors[index] = Some(vector),
                Prepared::Missing => {}
                Prepared::Planned(key, plan) => {
                    places.push((index, key, plan.usage));
                    planned.push(plan);
                }
            }
        }
        if !planned.is_empty() {
            let width = chosen.worker.encoder().dimensions();
            let readings = chosen.worker.read(client.0, planned).await?;
            for ((index, key, usage), readings) in places.into_iter().zip(readings) {
                let vector: Arc<[f32]> = vector(readings, width).into();
                self.cache.insert(key, (vector.clone(), usage));
                vectors[index] = Some(vector);
            }
        }
        Ok(vectors.into_iter().flatten().collect())
    }
}

/// How to read texts, before the model is known.
#[derive(Clone, Debug)]
struct Wanted {
    role: Option<Role>,
    usual_role: Role,
    overflow: Overflow,
}

impl Wanted {
    /// A text without a stated role gets the server's, unless the client has already put one of
    /// the model's prompts in front of it.
    fn options(&self, encoder: &Encoder, text: &str) -> EmbedOptions {
        let has_prompt = || {
            let prompts = &encoder.description().prompts;
            let mut prompts = prompts.iter().map(|(_, prompt)| prompt);
            prompts.any(|prompt| !prompt.is_empty() && text.starts_with(prompt))
        };
        let role = match &self.role {
            Some(role) => role.clone(),
            None if has_prompt() => Role::Plain,
            None => self.usual_role.clone(),
        };
        EmbedOptions {
            role,
            dimensions: None,
            overflow: self.overflow,
        }
    }
}

/// A text on its way.
#[derive(Debug)]
enum Prepared {
    Known(Known),
    Planned(Key, Planned),
    /// Between the cache and the tokenizer.
    Missing,
}

impl Prepared {
    fn usage(&self) -> TokenUsage {
        match self {
            Self::Known((_, usage)) => *usage,
            Self::Planned(_, planned) => planned.usage,
            Self::Missing => TokenUsage {
                seen: 0,
                kept: 0,
                windows: 0,
            },
        }
    }
}

fn plan_all(encoder: &Encoder, texts: &[String], wanted: &Wanted) -> Result<Vec<Planned>, Problem> {
    let plan = |(index, text): (usize, &String)| {
        let planned = encoder.plan_text(text, &wanted.options(encoder, text));
        planned.map_err(|error| Problem::of_engine(&error, index))
    };
    texts.iter().enumerate().map(plan).collect()
}

/// The document up to its `limit`th token, and how many there are behind it.
fn cut<'a>(
    encoder: &Encoder,
    document: &'a str,
    limit: Option<usize>,
) -> Result<(&'a str, usize), wenyi_engine::Error> {
    let Some(limit) = limit else {
        return Ok((document, 0));
    };
    let (_, offsets) = encoder.tokenizer().encode_with_offsets(document)?;
    match offsets.get(limit) {
        Some(next) => {
            // A token may be a part of a character.
            let is_end = |end: &usize| document.is_char_boundary(*end);
            let end = (0..=next.0).rev().find(is_end).unwrap_or(0);
            Ok((&document[..end], offsets.len() - limit))
        }
        None => Ok((document, 0)),
    }
}

fn vector(readings: Readings, width: usize) -> Vec<f32> {
    let windows = readings
        .into_iter()
        .filter_map(|(tokens, reading)| match reading {
            Reading::Vector(vector) => Some((tokens, vector)),
            _ => None,
        });
    Encoder::combine(windows.collect(), width)
}

/// The mean of the windows' vectors, weighted by their tokens.
fn raw(readings: Readings, dimensions: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "a weight")]
    let weigh = |tokens: usize| tokens as f32;
    let total: f32 = readings.iter().map(|(tokens, _)| weigh(*tokens)).sum();
    let mut mean = vec![0.0; dimensions];
    for (tokens, reading) in readings {
        if let Reading::Vector(vector) = reading {
            for (sum, value) in mean.iter_mut().zip(vector) {
                *sum += value * weigh(tokens) / total;
            }
        }
    }
    mean
}

fn weights(encoder: &Encoder, readings: Readings) -> Vec<Weight> {
    let windows = readings
        .into_iter()
        .filter_map(|(_, reading)| match reading {
            Reading::Weights(weights) => Some(weights),
            _ => None,
        });
    let weights = Encoder::combine_sparse(windows.collect()).into_iter();
    weights
        .map(|(id, value)| Weight {
            id,
            value,
            token: encoder.tokenizer().id_to_token(id).unwrap_or_default(),
        })
        .collect()
}

/// The first values, normalised again.
fn shortened(vector: Arc<[f32]>, dimensions: usize) -> Arc<[f32]> {
    if dimensions == vector.len() {
        return vector;
    }
    Encoder::combine(vec![(1, vector.to_vec())], dimensions).into()
}

/// Tokenizes `bytes` of text: here if that is a matter of microseconds, else where it may take its
/// time.
async fn blocking<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if bytes <= INLINE_BYTES {
        return work();
    }
    spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Problem::Internal {
            reason: error.to_string(),
        })
    })
}

fn bytes(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}
